"""The drawn world: pictures, what can be said and asked about them, and the model that sees them.

Nothing outside this folder and the command line of `toyworld` imports from here.
"""
