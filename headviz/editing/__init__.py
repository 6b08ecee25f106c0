"""What an edit does: answers beside their random control, measured; recipes; baked checkpoints.

It may know prompts, edits and generation. It must not know how the heads were chosen: an edit is
factors by head, wherever they come from.
"""
