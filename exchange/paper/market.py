"""Price sources, and the runner that feeds their ticks to the venue at the configured speed.

A source yields ticks in order of market time (seconds since its start). `GeneratedTicks` is seeded, so the same seed
and settings give the same market.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from exchange.paper.candles import Pace, PaperCandle
from exchange.paper.config import DEFAULT_VOLATILITY, Generated
from exchange.paper.numbers import nearest_on
from exchange.paper.orders import Side
from exchange.paper.products import PaperProduct
from exchange.paper.venue import PaperVenue

__all__ = ["GeneratedTicks", "Market", "Tick", "TickSource"]

_BATCH = 200


@dataclass(frozen=True, slots=True)
class Tick:
    """The market trades at `price` at market second `at`; `size` in base, None if the source does not say."""

    at: float
    product_id: str
    price: Decimal
    size: Decimal | None = None


class TickSource(Protocol):
    """A source of prices."""

    def first_prices(self) -> Mapping[str, Decimal]:
        """The starting price of each product of the source."""

    def history(self) -> Mapping[str, list[PaperCandle]]:
        """One-minute candles before the start, their times relative to it (so negative)."""

    def pace(self, product_id: str, most: float) -> Pace:
        """How the product will trade, if a tick trades at most `most` in quote currency."""

    def ticks(self) -> Iterator[Tick]:
        """All ticks, in order."""


class GeneratedTicks:
    """A geometric random walk with jumps for each product; `speed` scales a tick's market time."""

    def __init__(self, products: Mapping[str, PaperProduct], settings: Generated, seed: int, speed: float) -> None:
        self._products = products
        self._settings = settings
        self._seed = seed
        self._market_step = settings.interval * speed

    def first_prices(self) -> Mapping[str, Decimal]:
        """The products' reference prices."""
        return {name: product.price for name, product in self._products.items()}

    def history(self) -> Mapping[str, list[PaperCandle]]:
        """None: the history is generated backwards."""
        return {}

    def pace(self, product_id: str, most: float) -> Pace:
        """One tick per interval; the venue chooses its size."""
        return Pace(self._market_step, most)

    def ticks(self) -> Iterator[Tick]:
        """One tick of every product per interval, spread evenly over it, without end."""
        settings, minutes = self._settings, self._market_step / 60
        dice = random.Random(self._seed)
        prices = {name: float(product.price) for name, product in self._products.items()}
        jump = settings.jumps_per_hour * minutes / 60
        drift = math.log1p(settings.drift_per_hour) * minutes / 60
        sigma = {name: _volatility(settings, name) * math.sqrt(minutes) for name in prices}
        number = 0
        while True:
            number += 1
            for place, (name, product) in enumerate(self._products.items()):
                move = dice.gauss(drift, sigma[name])
                if dice.random() < jump:
                    move += dice.gauss(0, settings.jump_size)
                floor = float(product.price_increment) * 20
                prices[name] = max(prices[name] * math.exp(move), floor)
                at = (number + place / len(prices)) * self._market_step
                yield Tick(at, name, nearest_on(Decimal(prices[name]), product.price_increment))


def _volatility(settings: Generated, product_id: str) -> float:
    volatility = settings.volatility
    return volatility if isinstance(volatility, float) else volatility.get(product_id, DEFAULT_VOLATILITY)


class Market:
    """Feeds a source's ticks to the venue: in time with the wall clock, or on request (step mode)."""

    def __init__(self, venue: PaperVenue, source: TickSource) -> None:
        self._venue = venue
        self._ticks = source.ticks()
        self._dice = random.Random(venue.config.seed)
        self._task: asyncio.Task[None] | None = None
        self.paused = False
        self.exhausted = False
        self._stepped_to = 0.0
        first_prices = source.first_prices()
        for product_id, book in venue.markets():
            first = first_prices.get(product_id, book.product.price)
            venue.tick(product_id, first, book.product.base_increment, self._dice)
            venue.seed_trades(product_id)
        venue.changed_books.clear()
        venue.new_trades.clear()
        venue.printed.clear()

    def start(self) -> None:
        """Start the market, unless it is in step mode."""
        if not self._venue.config.step:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop the market."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def step(self, count: int) -> int:
        """Apply up to `count` source ticks now. Returns how many there were."""
        done = 0
        for tick in self._ticks:
            self._venue.stepped += tick.at - self._stepped_to
            self._stepped_to = tick.at
            self._apply(tick)
            done += 1
            if done >= count:
                return done
        self.exhausted = True
        return done

    def quote(
        self, product_id: str, bid: Decimal, ask: Decimal, sizes: tuple[Decimal, Decimal], last: Decimal | None
    ) -> None:
        """Apply a quote that has just arrived from outside; `publish` sends it to subscribers."""
        if not self.paused:
            self._venue.show(self._venue.lead(product_id), bid, ask, sizes, last)

    def trade(self, product_id: str, price: Decimal, size: Decimal, aggressor: Side) -> None:
        """Apply a trade that has just arrived from outside; `publish` sends it to subscribers."""
        if not self.paused:
            self._venue.trade(self._venue.lead(product_id), price, size, aggressor)

    def publish(self) -> None:
        """Send subscribers what has arrived from outside."""
        self._venue.publish()

    def _apply(self, tick: Tick) -> None:
        self._venue.tick(tick.product_id, tick.price, tick.size, self._dice)

    async def _run(self) -> None:
        speed, started, held = self._venue.config.speed, time.monotonic(), 0.0
        applied = 0
        for tick in self._ticks:
            while self.paused:
                before = time.monotonic()
                await asyncio.sleep(0.02)
                held += time.monotonic() - before
            wait = started + held + tick.at / speed - time.monotonic()
            if wait > 0.001 or applied >= _BATCH:
                self._venue.publish()
                applied = 0
                await asyncio.sleep(max(wait, 0))
            self._apply(tick)
            applied += 1
        self.exhausted = True
        self._venue.publish()
        await self._hold_prices()

    async def _hold_prices(self) -> None:
        """After a file's end the price stays, but the market trades at it each second."""
        while True:
            await asyncio.sleep(1)
            if not self.paused:
                for product_id, book in self._venue.markets():
                    self._venue.tick(product_id, book.last, book.product.base_increment, self._dice)
                self._venue.publish()
