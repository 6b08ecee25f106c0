"""Heads."""

from headviz.base.head import Head

__all__ = ["Head"]
