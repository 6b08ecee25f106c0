"""The paper's four studies as a grid of cells that a killed run goes on with.

It may know the session's stages, data sets and reports; `python -m headviz study NAME` runs one. It
must not know the page, nor how the built-in models were trained: their worlds are data to it.
"""
