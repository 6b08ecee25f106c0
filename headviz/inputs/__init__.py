"""What a person brings: concepts as words, prompt sets, pictures, folders and zips of them.

It may know files and their formats, and what a tokenizer makes of a word. It must not know a model:
what a text or a picture becomes inside one is a matter of `heads`.
"""
