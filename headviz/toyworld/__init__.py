"""The built-in models: the small world that they speak of, their training, and what their cards report.

Needs torch, transformers, tokenizers, numpy and tqdm; nothing of the page.
"""
