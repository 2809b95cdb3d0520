"""The exchange's clock, as an offset to ours: a token counts from its `nbf` to its `exp` by the exchange's time.

Our own clock is taken as it is until the exchange says otherwise: when it refuses a token, by the refusal's date and by
its public time, which is asked for now and then besides. A date alone is a guess, for it may be wrong, until a token by
it is accepted. How far the two are apart is said once, not at every look.
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
_SANE_DATE_SECONDS = 30 * 86_400.0
"""A Date header that is further from our own clock tells no time."""


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
    """The offset (seconds) to try after a token made with `used` was refused; `used` if there is nothing else to try.

    A date is believed once: what was guessed from it and is refused is followed by what was right before, so that a
    wrong date costs one refusal, however often it is said.

    Args:
        used: the offset of the refused token.
        known: the offset that was last right, by the exchange's public time or by a token that was accepted.
        dated: what the refusal's date says; None where it says nothing.
    """
    if abs(used - known) >= _DATE_SECONDS:
        return known
    if dated is None or abs(dated - used) < _DATE_SECONDS:
        return used
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
        """Have the exchange asked for its time, and take it over. What `ask` raises is passed on."""
        sent = self._ours()
        theirs = ask().timestamp()
        trip = self._ours() - sent
        if not 0 <= trip <= _LONGEST_TRIP_SECONDS:
            return
        self._take(theirs - sent - trip / 2)

    def heard(self, theirs: datetime, sent: float) -> None:
        """Take over a time that was asked for anyway at `sent` (Unix seconds, ours), if it was quick enough to tell."""
        trip = self._ours() - sent
        if 0 <= trip <= _QUICK_TRIP_SECONDS:
            self._take(theirs.timestamp() - sent - trip / 2)

    def accepted(self, used: float) -> None:
        """A token made with the offset `used` was accepted: where it is still in use, it is no guess any more."""
        with self._lock:
            if used == self._offset:
                self._take(used)

    def refused(self, used: float, theirs: datetime | None) -> bool:
        """A token made with the offset `used` was refused, by an answer that has just come and carries the time
        `theirs` in whole seconds (its Date header; None without one): try what follows. Whether that is another offset.

        The time is never taken for later than it is, so that a token made by it counts already.
        """
        dated = None if theirs is None else theirs.timestamp() - self._ours()
        if dated is not None and abs(dated) > _SANE_DATE_SECONDS:
            dated = None
        with self._lock:
            if self._offset != used:
                return False  # somebody has changed it since
            self._offset = next_offset(used, self._known, dated)
            return self._offset != used

    def _take(self, offset: float) -> None:
        with self._lock:
            self._offset = self._known = offset
            apart = abs(offset)
            tell = apart > _SAID_FROM_SECONDS and not self._said
            self._said = apart > _SAID_FROM_SECONDS or (self._said and apart > _WELL_UNTIL_SECONDS)
        if tell:
            where = "ahead of" if offset > 0 else "behind"
            sentence = (
                f"the exchange's clock is {apart:.0f} s {where} this machine's: tokens follow the exchange's; "
                "set this machine's clock (NTP)"
            )
            _log.warning("clock_skew", seconds=round(offset, 1), sentence=sentence)
