"""Journal rows as domain values."""

from __future__ import annotations

from typing import Any

from domain.orders import AttemptStatus, Report, Totals

__all__ = ["report_of", "totals_of"]


def totals_of(row: Any) -> Totals:
    """An order's or attempt's totals."""
    return Totals(row["filled_size"], row["filled_value"], row["quote_fees"], row["base_fees"])


def report_of(row: Any) -> Report:
    """An attempt's report."""
    return Report(AttemptStatus(row["status"]), totals_of(row))
