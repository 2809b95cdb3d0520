"""Whose word on a candle holds. The one place for this rule; the ledger's SQL and the price watcher go by it.

A venue tells a candle many times: its stream while the candle is open and a moment longer, its records (REST) whenever
they are asked. The last word holds, with more volume or with less, as a venue also takes trades back. But once a candle
is settled, which is when its records were asked after the next candle had closed, too, only its records change it: the
stream repeats what it once said. Records that are asked right at a candle's end may still lack its last trades, which
the stream tells later; so they settle nothing.
"""

from __future__ import annotations

from datetime import datetime

__all__ = ["holds", "settles"]


def settles(start: datetime, last_closed: datetime | None) -> bool:
    """Whether the venue's records settle the candle that began at `start`.

    `last_closed` is when the newest candle began that had closed when they were asked; None: not known, or the stream's
    word, which settles nothing.
    """
    return last_closed is not None and start < last_closed


def holds(*, settled: bool, settles: bool) -> bool:
    """Whether a word takes the place of the one before it, which has `settled` the candle or not."""
    return settles or not settled
