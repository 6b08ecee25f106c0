"""The drawn world in plain English, and a vision-language model with a real language model inside.

Pictures come from `toyworld.pictures`, the language model from headviz; what is trained here is an
image tower and a connector. No head is planted, and no loss is on heads.
"""
