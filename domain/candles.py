"""Which source of a candle takes precedence. The one place for this rule; the ledger's SQL and the price watcher both
follow it.

A venue sends a candle many times: in its stream while the candle is open and a moment longer, in its records (REST) on
each request. The latest version holds, with more volume or less, because venues also cancel trades. A candle is settled
once REST was asked after the following candle had closed too; from then on only REST changes it, because the stream
repeats old data. A REST answer right at a candle's end may still lack its last trades, which the stream sends later, so
it settles nothing.

A venue's correction may appear in REST only, after the stream has stopped sending the candle. So the newest closed
candles (`ASKED_AGAIN` of them) are requested again at each start and reconnect, and regularly enough that none is
skipped. Later corrections are not picked up.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

__all__ = ["ASKED_AGAIN", "CANDLE", "CANDLE_SECONDS", "ask_again", "asked_from", "holds", "settles"]

CANDLE_SECONDS: Final = 300
"""The length of the candles that decisions use: the length the exchange's stream sends."""
CANDLE: Final = timedelta(seconds=CANDLE_SECONDS)

ASKED_AGAIN: Final = 12
"""How many of the newest closed candles are requested again: one hour, in one request."""


def settles(start: datetime, last_closed: datetime | None) -> bool:
    """Whether the venue's records settle the candle that opened at `start`.

    `last_closed` is the opening time of the newest candle that had closed at the request; None: not known, or data from
    the stream, which settles nothing.
    """
    return last_closed is not None and start < last_closed


def holds(*, settled: bool, settles: bool) -> bool:
    """Whether a new version replaces the earlier one; `settled` says whether that one settled the candle."""
    return settles or not settled


def asked_from(last_closed: datetime, length: timedelta, *unknown: datetime | None) -> datetime:
    """The first candle to request from the venue's records; the last is `last_closed`, the start of the newest closed
    one.

    `unknown` are times from which candles may be missing, None where none are; `length` is a candle's length.
    """
    return min([last_closed - length * (ASKED_AGAIN - 1), *(start for start in unknown if start is not None)])


def ask_again(asked: datetime | None, last_closed: datetime, length: timedelta) -> bool:
    """Whether to request the records again; `asked` was the newest closed candle at the last request.

    None: never requested. The newest candle of that time had not settled, so the next request has to include it.
    """
    return asked is None or last_closed - asked >= length * (ASKED_AGAIN - 2)
