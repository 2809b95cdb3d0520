"""Interfaces of activities for workflows, and how workflows are found; no implementations."""
