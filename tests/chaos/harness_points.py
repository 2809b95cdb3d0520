"""The named points of `activities.orders` at which a worker can be made to die (`activities.crash_points`)."""

from __future__ import annotations

__all__ = ["CRASH_POINTS"]

CRASH_POINTS = (
    "before_entry_submit",
    "before_entry_acknowledgement",
    "before_exit_submit",
    "before_exit_acknowledgement",
    "before_record",
)
"""Before a body is sent, after the exchange accepted it and before we know, and before a report is in the ledger."""
