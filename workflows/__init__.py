"""The order of things, and waiting. No I/O, and no arithmetic that belongs in `domain`."""
