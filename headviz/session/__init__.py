"""The one object with state: models, results in memory and on disk, and the usual choices.

It may know every stage, and keeps a lock around whatever runs a model; results leave it as tables,
files and programs. It must not know whether the page, the command line or a notebook asks.
"""
