"""The commands of `python -m headviz`: arguments in, plain data and a text out.

It may know the session and the names of the arguments. It must not choose a default that depends on
a model, nor compute anything that the library could not.
"""
