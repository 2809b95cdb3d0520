"""The order of steps, and waiting. No I/O, and no arithmetic that belongs in `domain`."""
