"""Exact first-in-first-out lot matching, for accounting."""
