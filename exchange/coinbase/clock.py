"""The exchange's clock, as an offset to ours: a token counts from its `nbf` to its `exp` by the exchange's time.

Our own clock is taken as it is until the exchange says otherwise: when it refuses a token, by the refusal's date and by
its public time, which is asked for now and then besides. Either is a guess, for it may be wrong, until a token by it is
accepted. How far the two are apart is said once, not at every look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from exchange.coinbase.parse import MessageError, number, optional_time

__all__ = ["ExchangeClock", "moment_of", "next_offset"]

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


def next_offset(used: float, known: float, dated: float | None) -> float:
    """The offset (seconds) to try after a token made with `used` was refused; what was right if nothing says more.

    A guess is believed once: one that is refused is followed by what was right before, so that a wrong date costs one
    refusal, however often it is said. What is hardly a guess goes before neither a date nor what was right.

    Args:
        used: the offset of the refused token.
        known: the offset that was last right: a token by it was accepted (our own clock, before any was).
        dated: what the refusal's date says; None where it says nothing.
    """
    if abs(used - known) >= _DATE_SECONDS or dated is None or abs(dated - used) < _DATE_SECONDS:
        return known
    return dated


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
        `theirs` in whole seconds (its Date header; None without one): try what follows. Whether that is another one.

        The time is never taken for later than it is, so that a token made by it counts already.
        """
        dated = None if theirs is None else theirs.timestamp() - self._ours()
        if dated is not None and abs(dated) > _SANE_SECONDS:
            dated = None
        with self._lock:
            if self._offset != used:
                return False  # somebody has changed it since
            if used == self._known:
                self._doubted = False
            elif used == self._by_public_time:
                self._doubted = True
            self._offset = next_offset(used, self._known, dated)
            return abs(self._offset - used) >= _DATE_SECONDS

    def _try(self, told: float) -> None:
        """The public time is this far ahead: a guess, which is not made again and again beside what is right."""
        with self._lock:
            if abs(told) <= _SANE_SECONDS and not self._doubted:
                self._offset = self._by_public_time = told
