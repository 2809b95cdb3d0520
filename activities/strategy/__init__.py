"""Runs of strategies: what they read, what they store, and the user's own."""
