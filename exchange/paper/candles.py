"""Candles of every product in market time: one-minute bars, aggregated to what is asked for.

Before the start the history is a file's or a seeded walk backwards from the first price. Market time starts at the wall
clock's time and runs at the exchange's speed.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from exchange.paper.numbers import ZERO, floor_to, nearest_on, plain
from exchange.paper.products import Product

GRANULARITIES = {
    "ONE_MINUTE": 60,
    "FIVE_MINUTE": 300,
    "FIFTEEN_MINUTE": 900,
    "THIRTY_MINUTE": 1800,
    "ONE_HOUR": 3600,
    "TWO_HOUR": 7200,
    "FOUR_HOUR": 14400,
    "SIX_HOUR": 21600,
    "ONE_DAY": 86400,
}
MINUTE = 60
_ROOT_OF_FIVE = 5**0.5
_RECENT_MINUTES = 300  # generated history: this many one-minute bars, and before them five-minute bars
_OLDER_BARS = 1100


@dataclass(slots=True)
class Candle:
    """One bar; `start` in unix seconds of market time, volume in base currency."""

    start: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    def add(self, price: Decimal, size: Decimal) -> None:
        """Take a trade into the bar."""
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.volume += size

    def shown(self) -> dict[str, str]:
        """As the venue shows it over REST."""
        return {
            "start": str(self.start),
            "low": plain(self.low),
            "high": plain(self.high),
            "open": plain(self.open),
            "close": plain(self.close),
            "volume": plain(self.volume),
        }


@dataclass(frozen=True, slots=True)
class Day:
    """The last 24 hours of market time: low, high, base volume and change in percent."""

    low: Decimal
    high: Decimal
    volume: Decimal
    change: Decimal


class CandleStore:
    """One-minute bars of one product. `volatility` is the standard deviation of a minute's return, a fraction.

    Without `history` it is made up; an empty one is none.
    """

    def __init__(
        self, product: Product, start: float, *, seed: int, volatility: float, history: Sequence[Candle] | None = None
    ) -> None:
        self._product = product
        self._start = int(start) // MINUTE * MINUTE
        self._seed = seed
        self._volatility = volatility
        self._bars: list[Candle] = list(history or ())
        self._generated = history is not None
        self._day: tuple[int, Day] | None = None

    def add(self, at: float, price: Decimal, size: Decimal) -> None:
        """Take a trade at market time `at` (unix seconds)."""
        start = int(at) // MINUTE * MINUTE
        if self._bars and self._bars[-1].start >= start:
            self._bars[-1].add(price, size)
        else:
            self._bars.append(Candle(start, price, price, price, price, size))

    def bars(self, seconds: int, start: float | None = None, end: float | None = None) -> list[Candle]:
        """Bars of `seconds` whose start is within [start, end], oldest first."""
        minutes = self._history()
        if start is not None:
            minutes = minutes[bisect_left(minutes, int(start) // seconds * seconds, key=lambda bar: bar.start) :]
        merged: list[Candle] = []
        for bar in minutes:
            begin = bar.start // seconds * seconds
            if end is not None and begin > end:
                break
            if start is not None and begin < start:
                continue
            if merged and merged[-1].start == begin:
                last = merged[-1]
                last.high, last.low = max(last.high, bar.high), min(last.low, bar.low)
                last.close, last.volume = bar.close, last.volume + bar.volume
            else:
                merged.append(Candle(begin, bar.open, bar.high, bar.low, bar.close, bar.volume))
        return merged

    def day(self, at: float) -> Day:
        """The 24 hours before market time `at`, worked out once a market minute."""
        minute = int(at) // MINUTE
        if self._day is None or self._day[0] != minute:
            bars = [bar for bar in self._history()[-1440:] if bar.start > at - 86_400]
            if bars:
                first, last = bars[0].open, bars[-1].close
                found = Day(
                    min(bar.low for bar in bars),
                    max(bar.high for bar in bars),
                    sum((bar.volume for bar in bars), ZERO),
                    (last / first - 1) * 100,
                )
            else:
                found = Day(self._product.price, self._product.price, ZERO, ZERO)
            self._day = (minute, found)
        return self._day[1]

    def _history(self) -> list[Candle]:
        if not self._generated:
            self._generated = True
            self._bars[:0] = self._walk_back(self._bars[0].open if self._bars else self._product.price)
        return self._bars

    def _walk_back(self, price: Decimal) -> list[Candle]:
        dice = random.Random(f"{self._seed}/{self._product.product_id}")
        tick, step = self._product.price_increment, self._product.base_increment
        bars: list[Candle] = []
        close = float(price)
        start = self._bars[0].start if self._bars else self._start
        for back in range(_RECENT_MINUTES + _OLDER_BARS):
            recent = back < _RECENT_MINUTES or start % 300
            start -= MINUTE if recent else 5 * MINUTE
            sigma = self._volatility * (1 if recent else _ROOT_OF_FIVE)
            opened = close / (1 + dice.gauss(0, sigma))
            wick = sigma / 2
            high = max(opened, close) * (1 + abs(dice.gauss(0, wick)))
            low = min(opened, close) * (1 - abs(dice.gauss(0, wick)))
            volume = Decimal(dice.uniform(5_000, 50_000) / close)
            o, h, low_, c = (nearest_on(Decimal(value), tick) for value in (opened, high, low, close))
            bars.append(Candle(start, o, h, low_, c, floor_to(volume, step)))
            close = opened
        bars.reverse()
        return bars
