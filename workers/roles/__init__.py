"""What a worker does, one module a role."""
