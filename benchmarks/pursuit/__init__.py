"""The pursuit's speed and number formats against a plain oracle: `python -m benchmarks pursuit`.

It may know the engine, numpy, and the sizes of real models, whose weights are random numbers here.
It must not need a model or a network, nor say of a machine more than was measured on it.
"""
