"""The laws that heads obey, measured on a model: what proves that a family's row is right.

It may watch a model from outside, with hooks of its own, and finds the structure of classes without
a row. It must not rely on what it checks: the sums are worked out from the layers themselves.
"""
