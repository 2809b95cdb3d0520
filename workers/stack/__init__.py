"""The local stack: its servers, their programs, and how they are kept running."""
