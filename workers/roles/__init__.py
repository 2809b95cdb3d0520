"""Worker roles, one module each."""
