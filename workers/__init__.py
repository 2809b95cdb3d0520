"""Processes: worker roles, the local stack, settings, telemetry."""
