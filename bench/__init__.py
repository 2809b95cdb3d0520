"""Measurements: every number is printed beside its floor, taken in the same run."""
