"""The search: simultaneous orthogonal matching pursuit in head space, exact, in bounded memory.

It may know tensors, number formats and processor cores. It must know no model, no token and no
concept, so that an oracle of numpy can be held beside it.
"""
