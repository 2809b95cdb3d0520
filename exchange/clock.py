"""The exchange's clock, as an offset from ours: a token is valid from its `nbf` to its `exp` by the exchange's time.

Our own clock is used until the exchange disagrees. Two sources say so: the date of an answer that refuses a token, and
the exchange's public time, which is also requested periodically. Either may be wrong, so it is a guess until a token
made with it is accepted. After a refusal these are tried in order: the last offset that was right, the date, the public
time; each once before any is tried again, so one correct source is enough. The difference between the two clocks is
logged once, not at every request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

import structlog

__all__ = ["ExchangeClock", "http_date"]

_log = structlog.get_logger(__name__)

_SAID_FROM_SECONDS = 30.0
_WELL_UNTIL_SECONDS = 20.0
_LONGEST_TRIP_SECONDS = 5.0
"""Slower answers are ignored: an offset may be wrong by half the round trip. Seconds."""

_QUICK_TRIP_SECONDS = 1.0
_DATE_SECONDS = 5.0
"""A Date header is rounded down and delayed by the network, so smaller differences mean nothing. Seconds."""
_SANE_SECONDS = 30 * 86_400.0
"""A date or public time further from our own clock than this is ignored. Seconds."""


def http_date(text: str | None) -> datetime | None:
    """When an answer was given, by its Date header (UTC, whole seconds); None if it can't be read."""
    try:
        date = parsedate_to_datetime(text or "")
    except (TypeError, ValueError, OverflowError):
        return None
    return date.replace(tzinfo=date.tzinfo or UTC)


class _Source(StrEnum):
    """The sources of the offset, in the order in which they are tried after a refusal."""

    KNOWN = "known"
    """The last offset with which a token was accepted (our own clock, before the first)."""
    DATE = "date"
    """The date of the refusal itself."""
    PUBLIC = "public"
    """The last public time."""


class ExchangeClock:
    """The exchange's time in seconds. Thread-safe.

    Args:
        ours: our own clock, Unix seconds.
    """

    def __init__(self, ours: Callable[[], float] = time.time) -> None:
        self._ours = ours
        self._offset = 0.0
        self._known = 0.0
        self._by_public_time: float | None = None
        """The offset by the last public time."""
        self._doubted = False
        """A token made with the public time was refused, and none made with the offset known before."""
        self._tried: set[_Source] = set()
        """Sources whose offsets were refused since a token was last accepted, or since all of them were refused."""
        self._said = False
        self._lock = threading.RLock()

    @property
    def offset(self) -> float:
        """Seconds by which the exchange is ahead of us; negative where it is behind."""
        return self._offset

    def now(self) -> float:
        """The exchange's time, Unix seconds."""
        return self._ours() + self._offset

    def look(self, ask: Callable[[], datetime]) -> None:
        """Request the exchange's time with `ask` and use it. Errors of `ask` are passed on."""
        sent = self._ours()
        theirs = ask().timestamp()
        trip = self._ours() - sent
        if 0 <= trip <= _LONGEST_TRIP_SECONDS:
            self._try(theirs - sent - trip / 2)

    def heard(self, theirs: datetime, sent: float) -> None:
        """Use a time that was requested at `sent` (Unix seconds, ours) for another purpose, if the answer was quick
        enough."""
        trip = self._ours() - sent
        if 0 <= trip <= _QUICK_TRIP_SECONDS:
            self._try(theirs.timestamp() - sent - trip / 2)

    def accepted(self, used: float) -> None:
        """A token made with the offset `used` was accepted: if still in use, that offset is now confirmed."""
        with self._lock:
            if used != self._offset:
                return
            self._known = used
            self._tried.clear()
            apart = abs(used)
            tell = apart > _SAID_FROM_SECONDS and not self._said
            self._said = apart > _SAID_FROM_SECONDS or (self._said and apart > _WELL_UNTIL_SECONDS)
        if tell:
            where = "ahead of" if used > 0 else "behind"
            sentence = (
                f"the exchange's clock is {apart:.0f} s {where} this machine's: tokens follow the exchange's; "
                "set this machine's clock (NTP)"
            )
            _log.warning("clock_skew", seconds=round(used, 1), sentence=sentence)

    def refused(self, used: float, theirs: datetime | None) -> bool:
        """A token made with the offset `used` was refused by an answer that has just arrived, with the time `theirs` in
        whole seconds (its Date header; None without one). Switches to the next offset; returns whether it is a
        different one that has not been refused since a token was accepted.

        The time is never assumed to be later than it is, so that a token made with it is already valid.
        """
        dated = None if theirs is None else theirs.timestamp() - self._ours()
        if dated is not None and abs(dated) > _SANE_SECONDS:
            dated = None
        with self._lock:
            if self._offset != used:
                return False  # the offset has been changed since
            told = {_Source.KNOWN: self._known, _Source.DATE: dated, _Source.PUBLIC: self._by_public_time}
            source = next((name for name in (_Source.KNOWN, _Source.PUBLIC) if told[name] == used), _Source.DATE)
            if source is _Source.PUBLIC:
                self._doubted = True
            elif source is _Source.KNOWN and _Source.PUBLIC not in self._tried:
                self._doubted = False
            self._tried.add(source)
            fresh = self._untried(told, used)
            if fresh is None:
                self._tried = {source}
            following = fresh if fresh is not None else self._untried(told, used)
            self._offset = self._known if following is None else following
            return fresh is not None

    def _untried(self, told: Mapping[_Source, float | None], used: float) -> float | None:
        """The first offset whose source was not refused yet; one that hardly differs from `used` is skipped."""
        for source in _Source:
            offset = told[source]
            if source not in self._tried and offset is not None and abs(offset - used) >= _DATE_SECONDS:
                return offset
        return None

    def _try(self, told: float) -> None:
        """Store the offset by the public time, and use it unless it was refused."""
        with self._lock:
            if abs(told) > _SANE_SECONDS:
                return
            self._by_public_time = told
            if not self._doubted and _Source.PUBLIC not in self._tried:
                self._offset = told
