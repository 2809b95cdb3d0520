"""What trading means: pure, synchronous, deterministic rules. No clock, no random, no I/O, nothing of ours imported."""
