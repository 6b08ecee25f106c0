"""What everything else stands on: errors, a head's name, shapes, progress, the cache, assets.

It knows how results are kept and how a person is told what went wrong. It must not know
models, texts or scores, and imports no other room.
"""
