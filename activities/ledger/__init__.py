"""The books, and everything written in the same transaction."""
