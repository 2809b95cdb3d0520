"""What REST knows of prices that no stream brought: the touch now, past candles for ATR, and the peaks of a gap.

Candles are in the market's time, which runs ahead of the wall clock where a paper market is sped up; everything that
we saw ourselves is in wall time. `market_speed` is market seconds per wall second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog

from activities.exits.past_candles import closed_candles
from domain.watch import SymbolState, Watch
from exchange.port import Exchange, ExchangeError

__all__ = ["PriceHistory"]

log = structlog.get_logger(__name__)

_TROUBLE = (ExchangeError, TimeoutError, OSError)
_CANDLES_A_CALL = 300
_SIZES = (60, 300, 900, 3600)
_LONGEST = 21600


class PriceHistory:
    """Reads for one watch, a few at a time.

    Args:
        timeout: wall seconds for one look-up.
        candle_seconds: length of ATR's candles, market seconds.
        candle_count: how many of them ATR is read from.
        peak_tries: how often a missed peak is asked for; profit exits wait for it, so this must come to an end.
        unknown: called with a symbol whose missed peak can't be read.
    """

    def __init__(
        self,
        exchange: Exchange,
        watch: Watch,
        *,
        market_speed: float,
        timeout: float,
        at_once: int,
        candle_seconds: int,
        candle_count: int,
        peak_tries: int,
        unknown: Callable[[str], Awaitable[None]],
    ) -> None:
        self._exchange = exchange
        self._watch = watch
        self._speed = market_speed
        self._timeout = timeout
        self._slots = asyncio.Semaphore(at_once)
        self._candle_seconds = candle_seconds
        self._candle_count = candle_count
        self._peak_tries = peak_tries
        self._unknown = unknown
        self._again: set[str] = set()

    async def quote(self, symbol: str) -> None:
        """Hold the book's best bid, which is a fresh price, against the plans."""
        try:
            async with self._slots, asyncio.timeout(self._timeout):
                book = await self._exchange.book(symbol, 1)
        except _TROUBLE as problem:
            log.warning("no quote", symbol=symbol, problem=repr(problem))
            return
        if book.bids:
            self._watch.tick(symbol, book.bids[0].price, datetime.now(UTC), from_feed=False)

    async def past_candles(self, state: SymbolState) -> None:
        """Candles that no stream has brought, so that ATR is known from the start and after a gap."""
        boundary, breaks = state.window.boundary, state.window.breaks
        if boundary is None:
            return
        try:
            async with self._slots, asyncio.timeout(self._timeout):
                candles = await closed_candles(
                    self._exchange, state.symbol, self._candle_seconds, boundary, self._candle_count
                )
        except _TROUBLE as problem:
            log.warning("no past candles", symbol=state.symbol, problem=repr(problem))
            return
        if breaks != state.window.breaks:
            return  # what was missed since is not in them
        state.window.asked_until = boundary
        last_closed = boundary - timedelta(seconds=self._candle_seconds)
        self._watch.candles(state.symbol, candles, last_closed=last_closed)

    async def missed_peak(self, state: SymbolState, seen_until: datetime | None) -> None:
        """Raise the trailing stops of a symbol by what it reached since `seen_until` (wall; None: nothing was seen).

        A gap that comes while another is being looked up is looked up after it.
        """
        if state.rebuilding:
            self._again.add(state.symbol)
            return
        state.rebuilding = True
        try:
            self._again.add(state.symbol)
            while state.symbol in self._again:
                self._again.discard(state.symbol)
                await self._insist(state, seen_until)
        finally:
            state.rebuilding = False
            self._watch.look_again(state.symbol)

    async def _insist(self, state: SymbolState, seen_until: datetime | None) -> None:
        for attempt in range(1, self._peak_tries + 1):
            try:
                async with self._slots, asyncio.timeout(self._timeout):
                    await self._raise_stops(state, seen_until)
            except _TROUBLE as problem:
                log.warning("missed peak not read", symbol=state.symbol, attempt=attempt, problem=repr(problem))
                await asyncio.sleep(0.25 * 2**attempt)
            else:
                return
        await self._unknown(state.symbol)

    async def _raise_stops(self, state: SymbolState, seen_until: datetime | None) -> None:
        now = datetime.now(UTC)
        armed = {plan.entry_key: plan.armed_at for plan in state.plans.values()}
        if not armed:
            return
        oldest = min(armed.values()) if seen_until is None else max(min(armed.values()), seen_until)
        missed = (now - oldest).total_seconds() * self._speed
        size = next((size for size in _SIZES if missed <= _CANDLES_A_CALL * size), _LONGEST)
        if seen_until is None and missed < size:
            return  # no whole candle has passed since
        market_now = await self._market_now(state)

        def market(wall: datetime) -> datetime:
            return market_now - (now - wall) * self._speed

        candle = timedelta(seconds=size)
        candles = await self._exchange.candles(state.symbol, size, market(oldest) - candle, market_now + candle)
        # Only candles that began after a position was protected count, or its peak would be older than itself.
        first = market(oldest) if seen_until is None else market(seen_until) - candle
        self._watch.rebuild_peaks(state.symbol, candles, {key: max(first, market(at)) for key, at in armed.items()})

    async def _market_now(self, state: SymbolState) -> datetime:
        """The market's time: the exchange's clock, or where time is sped up, the end of the newest candle."""
        server_time = await self._exchange.server_time()
        if self._speed == 1:
            return server_time
        start = state.window.boundary or server_time
        newest = await self._exchange.candles(
            state.symbol, 60, start, start + timedelta(seconds=2 * self._candle_seconds)
        )
        return newest[-1].start + timedelta(seconds=60) if newest else start
