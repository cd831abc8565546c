"""Event streams from a notebook."""
