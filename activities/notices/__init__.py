"""Incidents and news told to people."""
