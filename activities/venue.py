"""The exchange as the activities use it: product rules and fee rates remembered, balance reads shared.

What an exit asks, it asks beside its order and within a bound (EXIT-10): `rules`, `touch` and `available` answer with
what is known, or None, and never raise. For one that is `due` (a stop, a person's close) the bound is short, and next
to nothing where an answer stayed away just now.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Generic, TypeVar

from activities.product_rules import ProductRules
from domain.market import FeeRates, Product, Quote
from exchange.port import Balance, Exchange, ExchangeError, OrderBook

__all__ = ["SharedRead", "Venue"]

T = TypeVar("T")

_REMEMBER_SECONDS = 60.0
_SERVE_DUE_SECONDS = 3600.0
"""So long rules serve a due exit while they are read again: they seldom change, and the exchange's refusal tells it."""
_BALANCE_SECONDS = 2.0
_ATTEMPT_SECONDS = 1.5
"""What was read for an attempt serves its retries for so long."""
_IN_TIME_SECONDS = 0.5
"""An answer that takes longer is too late for an exit that is due."""
_IMPATIENT_SECONDS = 0.05
_SILENT_SECONDS = 5.0


class _Patience:
    """How long a due exit waits for an answer, in seconds: its whole bound where the exchange answers, or nobody has
    asked for a while; next to nothing where an answer stayed away just now. A due exit asks up to three times before
    its order goes out, and while reads hang each of them would take its whole bound.

    A read that is given up early goes on beside the exit for the rest of its bound: whether it is answered then says
    whether the next ones wait, so that no exit has to find out by waiting while others ask, too.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._watching: asyncio.Task[None] | None = None

    def seconds(self, within: float, *, due: bool) -> float:
        """What is left of a bound of `within` seconds; `due` where an exit that is due waits."""
        if not due or time.monotonic() >= self._until:
            return within
        return min(within, _IMPATIENT_SECONDS)

    def answered(self, after: float) -> None:
        """An answer came after so many seconds. One too late for a due exit says that the next one will be, too."""
        if after <= _IN_TIME_SECONDS:
            self._until = 0.0

    def unanswered(self, waited: float) -> None:
        """None came within `waited` seconds. A short wait says nothing new: the next whole one is not put off by it."""
        if waited > _IMPATIENT_SECONDS:
            self._until = time.monotonic() + _SILENT_SECONDS

    def gave_up(self, reading: asyncio.Task[Any], waited: float, within: float, *, alone: bool) -> None:
        """A read with a bound of `within` seconds was waited for `waited` seconds, in vain. Where that is less, one
        such read at a time is watched for the rest. `alone`: nobody else needs it, so it is cancelled after that.
        """
        if waited < within and (self._watching is None or self._watching.done()):
            self._watching = asyncio.create_task(self._watch(reading, within - waited, within, alone=alone))
            return
        self.unanswered(waited)
        if alone:
            reading.cancel()

    async def _watch(self, reading: asyncio.Task[Any], left: float, within: float, *, alone: bool) -> None:
        try:
            await asyncio.wait({reading}, timeout=left)
            if not reading.done():
                self.unanswered(within)
        finally:
            if alone:
                reading.cancel()


class Venue:
    """One account at one exchange, with what may be remembered."""

    def __init__(self, exchange: Exchange, stored: ProductRules | None = None) -> None:
        """`stored` keeps products' rules over restarts."""
        self.exchange = exchange
        self._stored = stored
        self._storing: set[asyncio.Task[None]] = set()
        self._products: dict[str, tuple[float, Product | None]] = {}
        self._product_reads: dict[str, asyncio.Task[Product | None]] = {}
        self._last_rules: dict[str, Product] = {}
        self._refused_market: dict[str, float] = {}
        """When a MARKET order of a symbol was last refused as one that the product doesn't take (monotonic)."""
        self._fees: dict[str, tuple[float, FeeRates]] = {}
        self._balances = SharedRead(self._read_balances)
        self._patience = _Patience()
        self._attempts: dict[tuple[str, str], tuple[float, Quote]] = {}

    async def product(self, symbol: str) -> Product | None:
        """A product's rules, at most a minute old; an older answer rather than none while the exchange is away.

        One that takes no orders is asked for again each time, so that an exit goes on as soon as that changes.
        """
        known = self._products.get(symbol)
        closed = known is not None and known[1] is not None and (known[1].halted or known[1].cancel_only)
        if known is not None and not closed and time.monotonic() - known[0] < _REMEMBER_SECONDS:
            return known[1]
        try:
            return await asyncio.shield(self._reading(symbol))
        except ExchangeError:
            if known is not None:
                return known[1]
            raise

    async def rules(self, symbol: str, *, within: float, due: bool = False) -> Product | None:
        """A product's rules for an exit, asked for at most `within` seconds: the last known where no answer comes.

        Those are in the ledger, too, for after a restart. None only where nobody ever knew them. One that is `due` does
        not wait where they were read within the last hour. That it takes no orders is believed only of a fresh answer,
        and that it isn't listed never: what stands between a due stop and its order is the exchange's own refusal
        alone. One of a MARKET order says more than a read that may lag.
        """
        product = await self._rules(symbol, within, due=due)
        refused_at = self._refused_market.get(symbol)
        if product is None or refused_at is None or time.monotonic() - refused_at >= _REMEMBER_SECONDS:
            return product
        return replace(product, limit_only=True)

    async def _rules(self, symbol: str, within: float, *, due: bool) -> Product | None:
        known_at, known = self._products.get(symbol, (0.0, None))
        takes_orders = known is not None and not (known.halted or known.cancel_only)
        age = time.monotonic() - known_at
        if takes_orders and age < _REMEMBER_SECONDS:
            return known
        reading = self._reading(symbol)
        if due and takes_orders and age < _SERVE_DUE_SECONDS:
            self._patience.gave_up(reading, 0.0, within, alone=False)
            return known
        waits = self._patience.seconds(within, due=due)
        await asyncio.wait({reading}, timeout=waits)
        if not reading.done():
            self._patience.gave_up(reading, waits, within, alone=False)
        answered = reading.done() and not reading.cancelled() and reading.exception() is None
        product = reading.result() if answered else None
        if product is not None:
            return product
        last = self._last_rules.get(symbol)
        if last is None and self._stored is not None:
            last = await self._stored.kept(symbol)
        return None if last is None else replace(last, halted=False, cancel_only=False)

    def _reading(self, symbol: str) -> asyncio.Task[Product | None]:
        """The read of a product that is under way, or one that begins now."""
        reading = self._product_reads.get(symbol)
        if reading is None:
            reading = self._product_reads[symbol] = asyncio.create_task(self._read_product(symbol))
            reading.add_done_callback(lambda task: self._product_was_read(symbol, task))
        return reading

    def _product_was_read(self, symbol: str, task: asyncio.Task[Product | None]) -> None:
        if self._product_reads.get(symbol) is task:
            del self._product_reads[symbol]
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody has to

    async def _read_product(self, symbol: str) -> Product | None:
        began = time.monotonic()
        found = await self.exchange.products([symbol])
        self._patience.answered(time.monotonic() - began)
        product = next((item for item in found if item.symbol == symbol), None)
        if self._product_reads.get(symbol) is not asyncio.current_task():
            return product  # forgotten meanwhile: it is older than what the exchange has said since
        self._products[symbol] = (time.monotonic(), product)
        if product is not None:
            self._keep(product)
        return product

    def _keep(self, product: Product) -> None:
        """For later, and over a restart; beside the work, and only what changes what may be sent."""
        before = self._last_rules.get(product.symbol)
        self._last_rules[product.symbol] = product
        if self._stored is not None and (before is None or _rules_of(before) != _rules_of(product)):
            storing = asyncio.create_task(self._stored.keep(product))
            self._storing.add(storing)
            storing.add_done_callback(self._storing.discard)

    def forget_product(self, symbol: str) -> None:
        """Read its rules again next time: the exchange just behaved as if they had changed."""
        self._products.pop(symbol, None)
        self._product_reads.pop(symbol, None)

    def refused_market(self, symbol: str) -> None:
        """The exchange has just refused a MARKET order as one that the product doesn't take: for a minute exits go by
        that, which is nothing lost should it take them again.
        """
        self._refused_market[symbol] = time.monotonic()

    async def fee_rates(self, symbol: str) -> FeeRates:
        """The account's own rates for a symbol, at most a minute old; an older answer rather than none."""
        # Where all products have the same rates, one answer is for all.
        key = symbol if self.exchange.capabilities.fees_by_symbol else ""
        known = self._fees.get(key)
        if known is None or time.monotonic() - known[0] >= _REMEMBER_SECONDS:
            try:
                known = self._fees[key] = (time.monotonic(), await self.exchange.fee_rates(key or None))
            except ExchangeError:
                if known is None:
                    raise
        return known[1]

    async def quote(self, symbol: str) -> Quote:
        """The touch, now. Raises Unavailable."""
        return await self.exchange.quote(symbol)

    async def quote_for(self, attempt: str, symbol: str) -> Quote:
        """The touch for one attempt of an order: read now, or a moment ago for the same one. Raises Unavailable.

        So an attempt that is decided again (the database failed, a turn was lost) decides on what it saw and asks
        nobody; the next attempt has a book of its own.
        """
        now = time.monotonic()
        while self._attempts and now - next(iter(self._attempts.values()))[0] >= _ATTEMPT_SECONDS:
            del self._attempts[next(iter(self._attempts))]
        known = self._attempts.get((attempt, symbol))
        if known is not None:
            return known[1]
        quote = await self.exchange.quote(symbol)
        self._attempts[attempt, symbol] = (time.monotonic(), quote)
        return quote

    def forget_quote(self, attempt: str, symbol: str) -> None:
        """Read the touch again for this attempt: what was read is nothing to decide by."""
        self._attempts.pop((attempt, symbol), None)

    async def touch(self, symbol: str, *, within: float, due: bool = False) -> Quote | None:
        """The touch for an exit, now; None if it can't be had within so many seconds, or nobody buys.

        An exit goes by the bid alone: where nobody sells, the bid stands for the ask, too.
        """
        book = await self._in_time(self._read_book(symbol), within, due=due)
        if book is None or not book.bids:
            return None
        bid = book.bids[0].price
        return Quote(symbol, bid, book.asks[0].price if book.asks else bid, book.at)

    async def balances(self, *, within: float, due: bool = False) -> Mapping[str, Balance] | None:
        """All currencies, from a read begun after the call; None if it can't be had in time."""
        return await self._in_time(self._balances.read(), within, due=due)

    async def _in_time(self, read: Coroutine[Any, Any, T], within: float, *, due: bool) -> T | None:
        """What a read brings within so many seconds, or the short while that a due exit waits now; None if nothing."""
        reading, waits = asyncio.create_task(read), self._patience.seconds(within, due=due)
        reading.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may be waiting any more
        try:
            await asyncio.wait({reading}, timeout=waits)
        except asyncio.CancelledError:
            reading.cancel()
            raise
        if not reading.done():
            self._patience.gave_up(reading, waits, within, alone=True)
            return None
        try:
            return reading.result()
        except ExchangeError:
            return None

    async def _read_book(self, symbol: str) -> OrderBook:
        began = time.monotonic()
        found = await self.exchange.book(symbol, 1)
        self._patience.answered(time.monotonic() - began)
        return found

    async def _read_balances(self) -> Mapping[str, Balance]:
        began = time.monotonic()
        found = await self.exchange.balances()
        self._patience.answered(time.monotonic() - began)
        return found

    async def available(self, currency: str, *, within: float = _BALANCE_SECONDS, due: bool = False) -> Decimal | None:
        """What of a currency is available, from a read begun after the call; None if it can't be had in time."""
        balances = await self.balances(within=within, due=due)
        if balances is None:
            return None
        balance = balances.get(currency)
        return balance.available if balance else Decimal(0)


def _rules_of(product: Product) -> Product:
    return replace(
        product, halted=False, cancel_only=False, post_only=False, price=None, change_24h=None, quote_volume_24h=None
    )


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
