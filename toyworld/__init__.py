"""The built-in models: their small world, their training, and what their cards report.

Needs torch, transformers, tokenizers, numpy and tqdm; nothing of the page.
"""
