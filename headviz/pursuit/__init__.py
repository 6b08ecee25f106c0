"""pursuit."""
