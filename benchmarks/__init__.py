"""Benchmarks that anyone can run; headviz imports none of them."""
