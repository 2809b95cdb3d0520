"""The local stack: its servers, their programs, and their supervision."""
