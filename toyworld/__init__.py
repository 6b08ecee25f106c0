"""The built-in models: their small worlds, their training, and what their cards report.

It may know all of headviz but its page, and needs tokenizers and tqdm beside what headviz needs. It
must not be known by headviz, which reads what is made here as ordinary files in assets/.
"""
