"""SQL that compares a ledger row's stored values with their sources, and the allowed values."""

from __future__ import annotations

from collections.abc import Sequence

from domain.exits import ExitReason
from domain.orders import FINAL_ORDER_STATES, AttemptStatus, OrderState

__all__ = ["ENDED", "LEGS", "NEAR", "ORDER_ENDS", "ORDER_STATES", "REASONS", "STATUSES", "compared", "near"]


def _listed(words: Sequence[str]) -> str:
    return "(" + ", ".join(f"'{word}'" for word in sorted(words)) + ")"


ORDER_STATES = _listed([state.value for state in OrderState])
ORDER_ENDS = _listed([state.value for state in FINAL_ORDER_STATES])
STATUSES = _listed([status.value for status in AttemptStatus])
ENDED = _listed([status.value for status in AttemptStatus if status.final])
REASONS = _listed([reason.value for reason in ExitReason])
LEGS = "('OCO', 'TAKE_PROFIT', 'STOP_LOSS')"
NEAR = "1e-8"
"""Prices are quotients, and an exchange rounds: the allowed difference, as a fraction."""


def compared(rows: str, what: str, subject: str, columns: Sequence[tuple[str, str, str]], symbol: str) -> str:
    """A violation for each of `columns` (name, stored, right) that differs in `rows` (FROM and WHERE)."""
    apart = "\n            OR ".join(f"({stored}) IS DISTINCT FROM ({right})" for _, stored, right in columns)
    values = ",\n            ".join(
        f"('{name}', ({stored}) IS DISTINCT FROM ({right}), ({stored})::text, ({right})::text)"
        for name, stored, right in columns
    )
    source, _, condition = rows.rpartition(" WHERE ")
    return f"""
        SELECT {subject} AS subject, {symbol} AS symbol,
               format('{what} %s: %s is %s, and %s by what it follows from', {subject}, c.name,
                      coalesce(nullif(c.stored, ''), 'nothing'), coalesce(nullif(c.due, ''), 'nothing')) AS sentence
          FROM {source} CROSS JOIN LATERAL (VALUES
            {values}) AS c (name, wrong, stored, due)
         WHERE {condition} AND (
            {apart}) AND c.wrong"""


def near(stored: str, right: str, of: str) -> str:
    """The right value, or the stored one if they differ by at most a hundred-millionth of `of`."""
    return f"CASE WHEN abs({stored} - ({right})) <= {NEAR} * abs({of}) THEN {stored} ELSE {right} END"
