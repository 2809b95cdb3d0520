"""Tests by level: unit, workflow, integration, chaos, end to end."""
