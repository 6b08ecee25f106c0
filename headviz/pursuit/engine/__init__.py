"""pursuit/engine."""
