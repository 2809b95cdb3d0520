"""The order of things, and waiting. No input or output, no arithmetic that belongs in domain."""
