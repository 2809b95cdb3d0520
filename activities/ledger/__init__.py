"""The books, and everything that is written with them in one transaction."""
