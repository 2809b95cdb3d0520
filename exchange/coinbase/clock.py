"""The exchange's clock, as an offset to ours: a token counts from its `nbf` to its `exp` by the exchange's time.

Our own clock is taken as it is until the exchange says otherwise: when it refuses a token, by the refusal's date and by
its public time, which is asked for now and then besides. Either is a guess, for it may be wrong, until a token by it is
accepted: after a refusal what was right before is tried, then the date, then the public time, each once before any is
tried again, so that one of them that is true is enough. How far the two are apart is said once, not at every look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import structlog

from exchange.coinbase.parse import MessageError, number, optional_time

__all__ = ["ExchangeClock", "moment_of"]

_log = structlog.get_logger(__name__)

_SAID_FROM_SECONDS = 30.0
_WELL_UNTIL_SECONDS = 20.0
_LONGEST_TRIP_SECONDS = 5.0
"""An answer that took longer says too little: half of its way is how wrong the offset may be."""

_QUICK_TRIP_SECONDS = 1.0
_DATE_SECONDS = 5.0
"""A Date header is rounded down and was on its way: nearer than this it says nothing new."""
_SANE_SECONDS = 30 * 86_400.0
"""A date, or the public time, that is further from our own clock tells no time."""


def moment_of(answer: Mapping[str, Any]) -> datetime:
    """The moment (UTC) in an answer of the time endpoint. Raises MessageError where there is none."""
    milliseconds = number(answer.get("epochMillis"), "epochMillis")
    if milliseconds:
        try:
            return datetime.fromtimestamp(float(milliseconds) / 1000, UTC)
        except (OverflowError, OSError, ValueError) as problem:
            raise MessageError(f"epochMillis is no moment: {problem}") from None
    moment = optional_time(answer.get("iso"), "iso")
    if moment is None:
        raise MessageError("neither epochMillis nor iso is there")
    return moment


class _Source(StrEnum):
    """Who says how far the exchange's clock is ahead; in this order they are tried after a refusal."""

    KNOWN = "known"
    """What was last right: a token by it was accepted (our own clock, before any was)."""
    DATE = "date"
    """The date of the refusal itself."""
    PUBLIC = "public"
    """What the public time said last."""


class ExchangeClock:
    """Seconds of the exchange's time. Any thread may ask it or tell it.

    Args:
        ours: our own clock, Unix seconds.
    """

    def __init__(self, ours: Callable[[], float] = time.time) -> None:
        self._ours = ours
        self._offset = 0.0
        self._known = 0.0
        self._by_public_time: float | None = None
        """What the public time said last."""
        self._doubted = False
        """A token by the public time was refused, and none by what was right before."""
        self._tried: set[_Source] = set()
        """Whose offsets were refused since a token was accepted, or since all of them were."""
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
        """Have the exchange asked for its time, and try that. What `ask` raises is passed on."""
        sent = self._ours()
        theirs = ask().timestamp()
        trip = self._ours() - sent
        if 0 <= trip <= _LONGEST_TRIP_SECONDS:
            self._try(theirs - sent - trip / 2)

    def heard(self, theirs: datetime, sent: float) -> None:
        """Try a time that was asked for anyway at `sent` (Unix seconds, ours), if it was quick enough to tell."""
        trip = self._ours() - sent
        if 0 <= trip <= _QUICK_TRIP_SECONDS:
            self._try(theirs.timestamp() - sent - trip / 2)

    def accepted(self, used: float) -> None:
        """A token made with the offset `used` was accepted: where it is still in use, it is no guess any more."""
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
        """A token made with the offset `used` was refused, by an answer that has just come and carries the time
        `theirs` in whole seconds (its Date header; None without one): try what follows. Whether that is another one,
        which has not been refused since a token was accepted.

        The time is never taken for later than it is, so that a token made by it counts already.
        """
        dated = None if theirs is None else theirs.timestamp() - self._ours()
        if dated is not None and abs(dated) > _SANE_SECONDS:
            dated = None
        with self._lock:
            if self._offset != used:
                return False  # somebody has changed it since
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
        """The first offset that was not refused yet, by who says it; what is hardly another one than `used` is none."""
        for source in _Source:
            offset = told[source]
            if source not in self._tried and offset is not None and abs(offset - used) >= _DATE_SECONDS:
                return offset
        return None

    def _try(self, told: float) -> None:
        """The public time is this far ahead: a guess, which is not made again and again beside what is right."""
        with self._lock:
            if abs(told) > _SANE_SECONDS:
                return
            self._by_public_time = told
            if not self._doubted and _Source.PUBLIC not in self._tried:
                self._offset = told
