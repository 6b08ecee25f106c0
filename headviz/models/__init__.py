"""A name becomes a model in memory: found, fetched, planned for, read, and its parts named.

It may know families, weights, devices and the hub. It must not know what its heads are used for: no
concept, no prompt and no hook is seen here.
"""
