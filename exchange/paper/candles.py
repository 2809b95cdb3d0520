"""Candles of every product in market time: one-minute bars, aggregated to the requested length.

The history before the start comes from a file, or is a seeded random walk backwards from the first price. It is
generated on the first request, all at once as arrays, so that a thousand products don't delay the start. Its volume is
that of the ticks to come, so that there is no visible break where the two meet. Market time starts at the wall clock's
time and runs at the exchange's speed.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from exchange.paper.numbers import ZERO, plain
from exchange.paper.products import PaperProduct

__all__ = ["GRANULARITIES", "LEAST_SHARE", "MEAN_SHARE", "MINUTE", "CandleStore", "Pace", "PaperCandle"]

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
LEAST_SHARE = 0.05
"""A tick without a size trades at least this fraction of the largest value of a tick, at most all of it."""
MEAN_SHARE = (1 + LEAST_SHARE) / 2
_RECENT_MINUTES = 300  # generated history: this many one-minute bars, and before them five-minute bars
_OLDER_BARS = 1100


@dataclass(frozen=True, slots=True)
class Pace:
    """How a product trades: a tick every so many market seconds, of at most `value` in quote currency."""

    seconds: float
    value: float


@dataclass(slots=True)
class PaperCandle:
    """One bar; `start` in unix seconds of market time, volume in base currency."""

    start: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    def add(self, price: Decimal, size: Decimal) -> None:
        """Add a trade to the bar."""
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


@dataclass(frozen=True, slots=True)
class _Past:
    """Generated bars: prices in price increments, volumes in base increments, both whole."""

    starts: NDArray[np.int64]
    prices: NDArray[np.int64]
    """Rows: open, high, low, close."""
    volumes: NDArray[np.float64]
    tick: Decimal
    step: Decimal

    def between(self, start: float, end: float) -> list[PaperCandle]:
        """The bars that start within [start, end)."""
        first, last = np.searchsorted(self.starts, (start, end))
        at = self.starts[first:last].tolist()
        opened, high, low, close = ([value * self.tick for value in row] for row in self.prices[:, first:last].tolist())
        volumes = [int(value) * self.step for value in self.volumes[first:last].tolist()]
        return list(map(PaperCandle, at, opened, high, low, close, volumes))

    def since(self, start: float) -> PaperCandle | None:
        """All bars after `start` as one; None if there are none."""
        first = int(np.searchsorted(self.starts, start, side="right"))
        if first == len(self.starts):
            return None
        opened, high, low, close = self.prices[:, first:]
        return PaperCandle(
            start=int(self.starts[first]),
            open=int(opened[0]) * self.tick,
            high=int(high.max()) * self.tick,
            low=int(low.min()) * self.tick,
            close=int(close[-1]) * self.tick,
            volume=int(self.volumes[first:].sum()) * self.step,
        )


class CandleStore:
    """One-minute bars of one product. `volatility` is the standard deviation of a minute's return, a fraction.

    Without `history` it is generated, at the `pace` of the ticks to come; an empty one means no history.
    """

    def __init__(
        self,
        product: PaperProduct,
        start: float,
        *,
        seed: int,
        volatility: float,
        pace: Callable[[], Pace],
        history: Sequence[PaperCandle] | None = None,
    ) -> None:
        self._product = product
        self._start = start
        self._seed = seed
        self._volatility = volatility
        self._pace = pace
        self._bars: list[PaperCandle] = list(history or ())
        self._invents = history is None
        self._day: tuple[int, Day] | None = None

    def add(self, at: float, price: Decimal, size: Decimal) -> None:
        """Add a trade at market time `at` (unix seconds)."""
        start = int(at) // MINUTE * MINUTE
        if self._bars and self._bars[-1].start >= start:
            self._bars[-1].add(price, size)
        else:
            self._bars.append(PaperCandle(start, price, price, price, price, size))

    def bars(self, seconds: int, start: float | None = None, end: float | None = None) -> list[PaperCandle]:
        """Bars of `seconds` whose start is within [start, end], oldest first."""
        first = -math.inf if start is None else -(-start // seconds) * seconds
        until = math.inf if end is None else end // seconds * seconds + seconds
        merged: list[PaperCandle] = []
        for bar in self._minutes(first, until):
            begin = bar.start // seconds * seconds
            if merged and merged[-1].start == begin:
                last = merged[-1]
                last.high, last.low = max(last.high, bar.high), min(last.low, bar.low)
                last.close, last.volume = bar.close, last.volume + bar.volume
            else:
                merged.append(PaperCandle(begin, bar.open, bar.high, bar.low, bar.close, bar.volume))
        return merged

    def day(self, at: float) -> Day:
        """The 24 hours before market time `at`, recomputed once a market minute, each product at its own second."""
        minute = (int(at) + crc32(self._product.product_id.encode()) % MINUTE) // MINUTE
        if self._day is None or self._day[0] != minute:
            since = at - 86_400
            before = self._past.since(since) if self._past is not None else None
            bars = [*([before] if before else []), *(bar for bar in self._bars[-1440:] if bar.start > since)]
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

    def _minutes(self, start: float, end: float) -> list[PaperCandle]:
        """The bars that start within [start, end): generated ones have five minutes if they are old."""
        past = self._past.between(start, end) if self._past is not None else []
        first, last = (bisect_left(self._bars, at, key=lambda bar: bar.start) for at in (start, end))
        return past + self._bars[first:last]

    @cached_property
    def _past(self) -> _Past | None:
        if not self._invents:
            return None
        ends = self._bars[0].start if self._bars else int(self._start) // MINUTE * MINUTE
        dice = np.random.default_rng([self._seed % 2**32, *self._product.product_id.encode()])
        tick, step = self._product.price_increment, self._product.base_increment
        # Newest first: one-minute bars, up to a whole multiple of five minutes, then five-minute bars.
        recent = _RECENT_MINUTES + (ends // MINUTE - _RECENT_MINUTES) % 5
        lengths = np.full(recent + _OLDER_BARS, 5 * MINUTE)
        lengths[:recent] = MINUTE
        starts = ends - np.cumsum(lengths)
        sigma = self._volatility * np.sqrt(lengths / MINUTE)
        last = float(self._bars[0].open if self._bars else self._product.price)
        opened = last / np.cumprod(1 + dice.standard_normal(len(lengths)) * sigma)
        close = np.concatenate(([last], opened[:-1]))
        wicks = np.abs(dice.standard_normal((2, len(lengths)))) * sigma / 2
        high, low = np.maximum(opened, close) * (1 + wicks[0]), np.minimum(opened, close) * (1 - wicks[1])
        prices = np.maximum(np.rint(np.stack((opened, high, low, close)) / float(tick)), 1).astype(np.int64)
        volumes = np.floor(_traded(dice, lengths, self._pace()) / close / float(step))
        if self._bars:
            self._fill_up(self._bars[0], dice)
        return _Past(starts[::-1], prices[:, ::-1], volumes[::-1], tick, step)

    def _fill_up(self, bar: PaperCandle, dice: np.random.Generator) -> None:
        """If the start was within a minute: add the volume that would have traded before it in that minute."""
        before = np.array([min(max(self._start - bar.start, 0.0), MINUTE)])
        steps = math.floor(
            float(_traded(dice, before, self._pace())[0]) / float(bar.open * self._product.base_increment)
        )
        bar.volume += steps * self._product.base_increment


def _traded(dice: np.random.Generator, lengths: NDArray[np.generic], pace: Pace) -> NDArray[np.float64]:
    """The quote value that ticks of this pace trade in spans of these lengths in seconds, as the sum of random sizes.

    A span has as many ticks as fit, and by chance one more for the rest; the sum of many is normally distributed.
    """
    ticks = np.floor(np.asarray(lengths, dtype=np.float64) / pace.seconds + dice.random(len(lengths)))
    deviation = (1 - LEAST_SHARE) / math.sqrt(12)
    shares = ticks * MEAN_SHARE + np.sqrt(ticks) * deviation * dice.standard_normal(len(lengths))
    return np.asarray(np.clip(shares, ticks * LEAST_SHARE, ticks) * pace.value)
