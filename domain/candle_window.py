"""The newest closed candles of a symbol without a gap, and the ATR computed from them."""

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
    """Candles from the stream and from the venue's records, each in its version in force (`domain.candles`).

    `period` is the ATR's, in candles.
    """

    period: int
    candles: dict[datetime, Candle] = field(default_factory=dict)
    """By opening time, without a gap; the newest one may still be open."""
    settled: set[datetime] = field(default_factory=set)
    """Opening times of candles that only the venue's records may change."""
    boundary: datetime | None = None
    """Candles that opened earlier have closed."""
    asked_until: datetime | None = None
    """The time up to which REST has returned all its candles."""
    breaks: int = 0
    """How many times candles may have been missed."""
    atr: Decimal | None = None
    """In quote per base; None until enough candles have closed."""

    def take(self, candles: Iterable[Candle], *, last_closed: datetime | None = None) -> bool:
        """Take candles, of which the newest is still open; returns whether the ATR was recomputed.

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
        """Candles that opened before `boundary` have closed; returns whether the ATR was recomputed."""
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
        """Whether to ask REST for candles: there are too few for the ATR and REST has not said that there are no more,
        or its latest corrections are unknown.
        """
        if self.boundary is None or self.asked_until == self.boundary:
            return False
        return len(self._closed()) < atr_window(self.period) or ask_again(self.asked_until, self.boundary, CANDLE)

    def missed(self) -> None:
        """Candles may now be missing, so the known ones no longer form a window. The ATR stays until the next candle
        closes."""
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
