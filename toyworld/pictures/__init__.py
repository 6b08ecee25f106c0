"""The drawn world: pictures, what can be said and asked about them, and the model that sees them.

It may know the world of texts beside it, whose training it shares, and how to draw. The contrastive
model (`toyworld.clip_training`) learns on its pictures; it must not know that model, whose image
tower comes to it as weights.
"""
