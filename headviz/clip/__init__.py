"""CLIP models: the heads of their image towers, zero-shot answers, and words for pictures.

It may know open_clip, and hands a tower on as a model like any other. It must not know who asks:
everything above sees the abilities that the model declares.
"""
