"""Keeps prices and candles of every symbol that decisions use current from the exchange's stream.

One long-running activity per account, under a lease with an epoch like the price watcher's. Changes from the stream are
written about each second; REST fills gaps: at the start, and after a gap or a reconnect. Then, and about each hour of
market time, it also returns the venue's corrections (`domain.candles`). For a symbol without a trade for a while the
touch is read by REST, because its price is not old, only unchanged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog
from temporalio import activity

from activities.database import Pool
from activities.interfaces.strategy import MarketDataActivity, MarketDataInput
from activities.interfaces.streams import StreamEnd
from activities.leases import DATABASE_TROUBLE, LeaseTerms
from activities.long_running import every, together, until_shutdown
from activities.market.candles import CandleTable, MarketRow
from activities.market.universe import Universe, universe_of
from activities.streams.feed_notes import FeedNotes
from activities.streams.feeds import Feed, Feeds
from activities.streams.tenure import Tenure, tenure_of
from domain.candles import CANDLE, CANDLE_SECONDS, ask_again, asked_from
from domain.incidents import IncidentKind
from exchange.port import Candle, CandleUpdate, Exchange, ExchangeError, StreamEvent, Ticker

__all__ = ["MarketDataOptions", "MarketKeeper", "market_data_lease"]

log = structlog.get_logger(__name__)

_TROUBLE = (ExchangeError, TimeoutError, OSError)
_CANDLES_A_CALL = 300
_READS_AT_ONCE = 4
_FILL_AGAIN_SECONDS = 30.0
_TOUCH_SECONDS = 0.5
_CLEAN_UP_SECONDS = 3600.0
_ASK_AGAIN_SECONDS = 2.0
"""Pause before the exchange's products are requested again after a failure."""


def market_data_lease(account: str) -> str:
    """The name of the lease, and of the stream position, of the account's market data."""
    return f"market-data/{account}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketDataOptions:
    """Wall seconds unless it says market. Read again on each use, because they may change."""

    enabled: bool = True
    universe: Universe = field(default_factory=Universe)
    window: int = 300
    """Number of candles that decisions use."""
    market_speed: float = 1.0
    """Market seconds per wall second."""
    write_seconds: float = 1.0
    universe_seconds: float = 60.0
    stale_seconds: float = 120.0
    timeout: float = 10.0
    keep_candles_days: int = 30
    """Days of the market's time."""
    keep_matrix_days: int = 30
    lease: LeaseTerms = field(default_factory=LeaseTerms)
    alert_after_failures: int = 10


class MarketKeeper(MarketDataActivity):
    """The activity for one account."""

    def __init__(self, pool: Pool, exchange: Exchange, options: Callable[[], MarketDataOptions]) -> None:
        self._pool = pool
        self._exchange = exchange
        self._options = options

    @activity.defn(name="keep_market_data")
    async def keep_market_data(self, request: MarketDataInput) -> StreamEnd:
        """Keep until cancelled; the lease is given up at once when the worker shuts down."""
        await until_shutdown(self.run(request, activity.heartbeat))
        return StreamEnd(reason="ended")

    async def run(self, request: MarketDataInput, heartbeat: Callable[..., None]) -> None:
        """Run until cancelled. Raises LeaseLostError when another one took over."""
        name, terms = market_data_lease(request.account), self._options().lease
        async with tenure_of(name, self._pool, self._exchange, request.account, terms, heartbeat) as tenure:
            await MarketDataSession(tenure, self._options).run()


class MarketDataSession:
    """One tenure of the lease."""

    def __init__(self, tenure: Tenure, options: Callable[[], MarketDataOptions]) -> None:
        self._tenure = tenure
        self._options = options
        self._table = CandleTable(tenure.pool, tenure.account)
        self._outage = tenure.open_incident(IncidentKind.MARKET_DATA_DOWN, "WARNING", repeat_seconds=600.0)
        self._notes = FeedNotes(
            tenure,
            self._outage,
            alert_after=lambda: self._options().alert_after_failures,
            stream="market data stream",
            meanwhile="strategies hold once their data is stale",
        )
        self._feeds = Feeds(self._open_stream, self._take, self._notes.failed)
        self._symbols: tuple[str, ...] = ()
        self._reported: frozenset[str] = frozenset()
        self._choose_again = asyncio.Event()
        self._chosen_by: tuple[bool, Universe] | None = None
        self._ticks = 0
        self._newest: datetime | None = None
        """The opening time of the newest candle of any symbol, by the stream."""
        self._candles: dict[tuple[str, datetime], Candle] = {}
        self._states: dict[str, MarketRow] = {}
        self._prices: dict[str, datetime] = {}
        """When each symbol's price was received."""
        self._price_clock: dict[str, datetime] = {}
        """The exchange's time of each symbol's price."""
        self._last_candle: dict[str, datetime] = {}
        """Each symbol's newest candle from the stream."""
        self._to_fill: dict[str, datetime | None] = {}
        """Symbols to fill by REST, with the time from which candles are read even if stored (None: only missing
        ones)."""
        self._fill_after: dict[str, float] = {}
        self._asked: dict[str, datetime] = {}
        """Each symbol's newest closed candle at the last REST request."""

    async def run(self) -> None:
        """Until cancelled or the lease is lost."""
        options = self._options()
        try:
            await self._outage.inherit()
            await together(
                self._tenure.beat(self._counts),
                every(options.universe_seconds, self._choose, hint=self._choose_again),
                every(0.25, self._subscribe),
                every(options.write_seconds, self._write),
                every(0.5, self._fill),
                every(1.0, self._ask_records),
                every(_TOUCH_SECONDS, self._touch),
                every(1.0, self._save_position),
                every(_CLEAN_UP_SECONDS, self._clean_up),
            )
        finally:
            await self._feeds.close()

    def _counts(self) -> dict[str, int]:
        return {"symbols": len(self._symbols), "ticks": self._ticks, "to_fill": len(self._to_fill)}

    async def _save_position(self) -> None:
        self._feeds.note_heard(self._tenure.position)
        await self._tenure.save_position()

    # --- which symbols --------------------------------------------------------------------------------------------

    async def _choose(self) -> None:
        """Choose the symbols; without an answer the previous ones stay."""
        options = self._options()
        self._chosen_by = (options.enabled, options.universe)
        if not options.enabled:
            self._symbols = ()
            return
        try:
            async with asyncio.timeout(options.timeout * 3):
                chosen = await universe_of(
                    self._tenure.pool, self._tenure.exchange, self._tenure.account, options.universe
                )
        except _TROUBLE as problem:
            log.warning("universe not read, as before", problem=repr(problem), symbols=len(self._symbols))
            self._tenure.background.start(self._ask_again())
            return
        if chosen.unknown != self._reported:
            self._reported = chosen.unknown
            log.warning("products that the exchange doesn't have", symbols=sorted(chosen.unknown))
        for symbol in chosen.symbols:
            if symbol not in self._symbols:
                self._to_fill.setdefault(symbol, None)
        self._symbols = chosen.symbols
        for row in chosen.states:
            self._merge(row)

    async def _ask_again(self) -> None:
        await asyncio.sleep(_ASK_AGAIN_SECONDS)
        self._choose_again.set()

    async def _subscribe(self) -> None:
        options = self._options()
        if self._chosen_by is not None and self._chosen_by != (options.enabled, options.universe):
            # A person has changed the lists: that is not waited for.
            self._choose_again.set()
        await self._feeds.want(self._symbols)

    def _open_stream(self, symbols: Sequence[str]) -> AsyncIterator[StreamEvent]:
        return self._tenure.exchange.market_stream(symbols, ["ticker", "candles"])

    # --- the stream -----------------------------------------------------------------------------------------------

    def _take(self, feed: Feed, event: StreamEvent) -> None:
        if isinstance(event, Ticker):
            self._tick(event)
        elif isinstance(event, CandleUpdate):
            if self._options().market_speed != 1 or not self._feeds.ahead(event.candle.start):
                self._candle(event.candle)
        elif self._notes.missed(feed, event, all_connected=self._feeds.connected):
            self._catch_up(feed)

    def _tick(self, event: Ticker) -> None:
        self._ticks += 1
        before, clock = self._price_clock.get(event.symbol), self._feeds.clock
        # Another feed brought a newer one; a price from after all that is heard by now is of a clock that was set back.
        if before is not None and clock is not None and event.at < before <= clock:
            return
        now = datetime.now(UTC)
        self._price_clock[event.symbol] = event.at
        volume = None if event.volume_24h is None else event.volume_24h * event.price
        if event.bid is None or event.ask is None:
            # Half a touch is no price to enter at: the one that is stored grows old until the book has both sides.
            self._merge(MarketRow(event.symbol, change_24h=event.change_24h, quote_volume_24h=volume))
            return
        self._prices[event.symbol] = now
        self._merge(MarketRow(event.symbol, event.price, event.bid, event.ask, event.change_24h, volume, now))

    def _merge(self, row: MarketRow) -> None:
        known = self._states.get(row.symbol)
        if known is not None:
            news = {name: getattr(row, name) for name in MarketRow.__slots__ if getattr(row, name) is not None}
            row = replace(known, **news)
        self._states[row.symbol] = row

    def _candle(self, candle: Candle) -> None:
        self._candles[candle.symbol, candle.start] = candle
        newest = self._last_candle.get(candle.symbol)
        if newest is None or candle.start > newest:
            self._last_candle[candle.symbol] = candle.start
        if self._newest is None or candle.start > self._newest:
            self._newest = candle.start

    def _catch_up(self, feed: Feed) -> None:
        """Read by REST what a feed's symbols missed, from their last candle on."""
        for symbol in feed.symbols:
            last = self._last_candle.get(symbol)
            waiting = self._to_fill.get(symbol, last)
            self._to_fill[symbol] = last if waiting is None else min(waiting, last or waiting)
            self._fill_after.pop(symbol, None)

    # --- writing --------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        candles, self._candles = self._candles, {}
        states, self._states = self._states, {}
        if not candles and not states:
            return
        try:
            await self._table.save(self._tenure.lease, list(candles.values()), list(states.values()))
        except DATABASE_TROUBLE:
            # What has come since is newer.
            self._candles = candles | self._candles
            self._states = states | self._states
            raise

    # --- what no stream brought -----------------------------------------------------------------------------------

    async def _fill(self) -> None:
        now = time.monotonic()
        due = [symbol for symbol in self._to_fill if self._fill_after.get(symbol, 0.0) <= now]
        if not due:
            return
        last = await self._last_closed()
        if last is None:
            return
        first = last - CANDLE * (self._options().window - 1)
        missing = await self._table.missing(due, first, last)
        slots = asyncio.Semaphore(_READS_AT_ONCE)

        async def one(symbol: str) -> None:
            async with slots:
                await self._fill_one(symbol, missing.get(symbol), first, last)

        await asyncio.gather(*(one(symbol) for symbol in due))

    async def _last_closed(self) -> datetime | None:
        """The opening time of the newest closed candle: by the stream, or by the clock before its first message."""
        if self._newest is not None:
            return self._newest - CANDLE
        if self._options().market_speed != 1:
            return None
        try:
            now = await self._tenure.exchange.server_time()
        except _TROUBLE:
            return None
        return datetime.fromtimestamp(int(now.timestamp()) // CANDLE_SECONDS * CANDLE_SECONDS, UTC) - CANDLE

    async def _ask_records(self) -> None:
        """Reads the venue's records one symbol at a time: corrections appear only there."""
        if self._newest is None:
            return
        last = self._newest - CANDLE
        for symbol in self._symbols:
            if symbol in self._asked and symbol not in self._to_fill and ask_again(self._asked[symbol], last, CANDLE):
                self._to_fill[symbol] = None
                return

    async def _fill_one(
        self, symbol: str, missing: tuple[datetime, datetime] | None, first: datetime, last: datetime
    ) -> None:
        since = self._to_fill.get(symbol)
        begin = max(asked_from(last, CANDLE, since, missing[0] if missing else None), first)
        try:
            await self._read(symbol, begin, last)
        except _TROUBLE as problem:
            log.warning("candles not filled, tried again", symbol=symbol, problem=repr(problem))
            self._fill_after[symbol] = time.monotonic() + _FILL_AGAIN_SECONDS
            return
        self._asked[symbol] = last
        if self._to_fill.get(symbol) == since:
            self._to_fill.pop(symbol, None)

    async def _read(self, symbol: str, begin: datetime, last: datetime) -> None:
        while begin <= last:
            until = min(begin + CANDLE * (_CANDLES_A_CALL - 1), last)
            async with asyncio.timeout(self._options().timeout):
                found = await self._tenure.exchange.candles(symbol, CANDLE_SECONDS, begin, until + CANDLE)
            read = [item for item in found if begin <= item.start <= until]
            await self._table.save(self._tenure.lease, read, last_closed=last)
            begin = until + CANDLE

    async def _touch(self) -> None:
        """Read the touch of the symbol with the oldest price, before it counts as stale."""
        options = self._options()
        now = datetime.now(UTC)
        oldest = min(self._symbols, key=lambda name: self._prices.get(name, now), default=None)
        if oldest is None or (now - self._prices.get(oldest, now)).total_seconds() < options.stale_seconds / 2:
            return
        try:
            async with asyncio.timeout(options.timeout):
                quote = await self._tenure.exchange.quote(oldest)
        except _TROUBLE as problem:
            log.warning("no quote", symbol=oldest, problem=repr(problem))
            # Others have their turn; this one comes back when they are fresh.
            self._prices[oldest] = now
            return
        self._prices[oldest] = now
        self._merge(MarketRow(oldest, bid=quote.bid, ask=quote.ask, at=datetime.now(UTC)))

    async def _clean_up(self) -> None:
        options = self._options()
        if self._newest is not None:
            await self._table.forget(self._newest - timedelta(days=options.keep_candles_days))
        before = datetime.now(UTC) - timedelta(days=options.keep_matrix_days)
        await self._tenure.pool.execute(
            "DELETE FROM market_snapshots WHERE account = $1 AND at < $2", self._tenure.account, before
        )
