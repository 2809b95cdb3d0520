"""Whose word on a candle holds. The one place for this rule; the ledger's SQL and the price watcher go by it.

A venue tells a candle many times: its stream while the candle is open and a moment longer, its records (REST) whenever
they are asked. The last word holds, with more volume or with less, as a venue also takes trades back. But once a candle
is settled, which is when its records were asked after the next candle had closed, too, only its records change it: the
stream repeats what it once said. Records that are asked right at a candle's end may still lack its last trades, which
the stream tells later; so they settle nothing.

What a venue corrects may come by its records alone, when no stream tells the candle any more. So their last word on the
newest closed candles (`ASKED_AGAIN` of them) is asked for at each start and reconnect, and again before the next ones
would be left out. A correction that comes later than that is never heard.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

__all__ = ["ASKED_AGAIN", "CANDLE", "CANDLE_SECONDS", "ask_again", "asked_from", "holds", "settles"]

CANDLE_SECONDS: Final = 300
"""The length of the candles that decisions are made on: what the exchange's stream has."""
CANDLE: Final = timedelta(seconds=CANDLE_SECONDS)

ASKED_AGAIN: Final = 12
"""So many of the newest closed candles are asked for again: an hour of them, in one request."""


def settles(start: datetime, last_closed: datetime | None) -> bool:
    """Whether the venue's records settle the candle that began at `start`.

    `last_closed` is when the newest candle began that had closed when they were asked; None: not known, or the stream's
    word, which settles nothing.
    """
    return last_closed is not None and start < last_closed


def holds(*, settled: bool, settles: bool) -> bool:
    """Whether a word takes the place of the one before it, which has `settled` the candle or not."""
    return settles or not settled


def asked_from(last_closed: datetime, length: timedelta, *unknown: datetime | None) -> datetime:
    """From which candle on the venue's records are asked for, up to `last_closed`, the start of the newest closed one.

    `unknown` are starts from which on something may be missing, None where nothing is; `length` is a candle's.
    """
    return min([last_closed - length * (ASKED_AGAIN - 1), *(start for start in unknown if start is not None)])


def ask_again(asked: datetime | None, last_closed: datetime, length: timedelta) -> bool:
    """Whether the records are to be asked again that were asked when `asked` was the newest closed candle.

    None: they never were. The candle that was the newest then had not settled, so it has to be among the next ones.
    """
    return asked is None or last_closed - asked >= length * (ASKED_AGAIN - 2)
