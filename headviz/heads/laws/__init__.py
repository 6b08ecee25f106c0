"""heads/laws."""
