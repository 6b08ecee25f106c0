"""Benchmarks that anyone can run: `python -m benchmarks pursuit`.

Needs torch and numpy alone; random data of the sizes of real models, so that no model is loaded.
"""
