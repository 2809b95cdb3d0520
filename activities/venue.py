"""The exchange as the activities use it: product rules and fee rates remembered, balance reads shared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Generic, TypeVar

from domain.market import FeeRates, Product, Quote
from exchange.port import Balance, Exchange, ExchangeError

__all__ = ["SharedRead", "Venue"]

T = TypeVar("T")

_REMEMBER_SECONDS = 60.0
_BALANCE_SECONDS = 2.0


class Venue:
    """One account at one exchange, with what may be remembered."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._products: dict[str, tuple[float, Product | None]] = {}
        self._product_reads: dict[str, asyncio.Task[Product | None]] = {}
        self._fees: tuple[float, FeeRates] | None = None
        self._balances = SharedRead(exchange.balances)

    async def product(self, symbol: str) -> Product | None:
        """A product's rules, at most a minute old; an older answer rather than none while the exchange is away.

        One that takes no orders is asked for again each time, so that an exit goes on as soon as that changes.
        """
        known = self._products.get(symbol)
        closed = known is not None and known[1] is not None and (known[1].halted or known[1].cancel_only)
        if known is not None and not closed and time.monotonic() - known[0] < _REMEMBER_SECONDS:
            return known[1]
        reading = self._product_reads.get(symbol)
        if reading is None:
            reading = self._product_reads[symbol] = asyncio.create_task(self._read_product(symbol))
            reading.add_done_callback(lambda _: self._product_reads.pop(symbol, None))
        try:
            return await asyncio.shield(reading)
        except ExchangeError:
            if known is not None:
                return known[1]
            raise

    async def _read_product(self, symbol: str) -> Product | None:
        found = await self.exchange.products([symbol])
        product = next((item for item in found if item.symbol == symbol), None)
        self._products[symbol] = (time.monotonic(), product)
        return product

    def forget_product(self, symbol: str) -> None:
        """Read its rules again next time: the exchange just behaved as if they had changed."""
        self._products.pop(symbol, None)

    async def fee_rates(self) -> FeeRates:
        """The account's own rates, at most a minute old."""
        if self._fees is None or time.monotonic() - self._fees[0] >= _REMEMBER_SECONDS:
            try:
                self._fees = (time.monotonic(), await self.exchange.fee_rates())
            except ExchangeError:
                if self._fees is None:
                    raise
        return self._fees[1]

    async def quote(self, symbol: str) -> Quote:
        """The touch, now. Raises Unavailable."""
        return await self.exchange.quote(symbol)

    async def available(self, currency: str) -> Decimal | None:
        """What of a currency is available, from a read begun after the call; None if it can't be had in time."""
        try:
            async with asyncio.timeout(_BALANCE_SECONDS):
                balances: Mapping[str, Balance] = await self._balances.read()
        except (ExchangeError, TimeoutError):
            return None
        balance = balances.get(currency)
        return balance.available if balance else Decimal(0)


class SharedRead(Generic[T]):
    """Many readers, few reads: everyone gets an answer to a request that began after they asked.

    While one read is under way, all who come share the next one, so a thousand exits in one second cost a handful of
    balance reads, and none of them decides on an older balance than its own question.
    """

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def read(self) -> T:
        """Raises what the read raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._start_after(self._running))
            # All who asked may have gone by the time it fails: then there is nobody to tell, and no fault of ours.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next)

    async def _start_after(self, running: asyncio.Task[T] | None) -> T:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        return await self._read()
