"""The newest closed candles of a symbol without a hole between them, and the ATR that is read from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from domain.candles import CANDLE, ask_again, holds, settles
from domain.exits import atr_reading, atr_window
from domain.market import Candle

__all__ = ["CandleWindow"]


@dataclass(slots=True)
class CandleWindow:
    """Candles as a stream and the venue's records tell them, each as the last word that holds (`domain.candles`).

    `period` is the ATR's, in candles.
    """

    period: int
    candles: dict[datetime, Candle] = field(default_factory=dict)
    """By when they began, without a hole between them; the newest one may still be open."""
    settled: set[datetime] = field(default_factory=set)
    """When those began that only the venue's records change."""
    boundary: datetime | None = None
    """Candles that began before have closed."""
    asked_until: datetime | None = None
    """The boundary up to which REST has told all the candles that it has."""
    breaks: int = 0
    """How often candles may have been missed."""
    atr: Decimal | None = None
    """In quote per base; None until enough candles have closed."""

    def take(self, candles: Iterable[Candle], *, last_closed: datetime | None = None) -> bool:
        """Take candles, of which the newest is still open; whether the ATR was read anew.

        `last_closed` for candles of the venue's records (REST): when the newest one that had closed began.
        """
        boundary, newest, changed = self.boundary, self.boundary, False
        for candle in candles:
            final = settles(candle.start, last_closed)
            if not holds(settled=candle.start in self.settled, settles=final):
                continue
            if final:
                self.settled.add(candle.start)
            if candle == self.candles.get(candle.start):
                continue
            self.candles[candle.start] = candle
            if newest is None or candle.start > newest:
                newest = candle.start
            changed = changed or (boundary is not None and candle.start < boundary)
        if newest is not None and newest != boundary:
            return self.close(newest)
        if changed:
            self._read_atr()
        return changed

    def close(self, boundary: datetime) -> bool:
        """Candles that began before `boundary` have closed; whether the ATR was read anew."""
        before = self.boundary
        if before is not None and boundary <= before:
            return False
        self.boundary = boundary
        news = before is None or any(before <= start < boundary for start in self.candles)
        if not news and len(self._closed()) >= atr_window(self.period):
            return False
        self._read_atr()
        return True

    @property
    def wanted(self) -> bool:
        """Whether REST is to be asked for candles: for ATR there are not enough, and it hasn't said that these are all,
        or what it has corrected since it was asked last isn't known.
        """
        if self.boundary is None or self.asked_until == self.boundary:
            return False
        return len(self._closed()) < atr_window(self.period) or ask_again(self.asked_until, self.boundary, CANDLE)

    def missed(self) -> None:
        """Candles may be missing now: those that are known make no window any more. ATR stays until one has closed."""
        self.candles.clear()
        self.settled.clear()
        self.asked_until = None
        self.breaks += 1

    def _closed(self) -> list[datetime]:
        return sorted(start for start in self.candles if self.boundary is not None and start < self.boundary)

    def _read_atr(self) -> None:
        starts, size = self._closed(), atr_window(self.period)
        for start in starts[:-size]:
            del self.candles[start]
            self.settled.discard(start)
        closed = [self.candles[start] for start in starts[-size:]]
        self.atr = atr_reading([(c.high, c.low, c.close) for c in closed], self.period)
