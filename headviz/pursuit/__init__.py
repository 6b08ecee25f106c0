"""Signals become scores: a dictionary of tokens, the criteria, the ranking, a head's spectrum.

It may know signals, weights and tokens. It must not run the model or change it: whatever is scored
has been captured before, and the search itself is in `engine/`.
"""
