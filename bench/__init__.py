"""Measurements: every number is printed beside its floor, measured in the same run."""
