"""The rules of trading: pure, synchronous and deterministic. No clock, no randomness, no I/O, no imports of our other
packages."""
