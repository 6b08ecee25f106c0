"""The signals of attention heads: where they are, how they are read and how they are edited.

It may know the inside of a model, and alone sets hooks in it (`clip` does so in its own towers);
`laws/` proves on any model that what is read and edited are its heads. It must not know concepts or
scores.
"""

from headviz.base.head import Head

__all__ = ["Head"]
