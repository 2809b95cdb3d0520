"""Prices against armed exit plans: one long activity per shard of symbols (EXIT-1, 2, 3, 7).

Nothing here enters a workflow's history but an exit that is due. Each tick is held against the plans in memory the
moment it is received; everything that waits (database, REST, Temporal) runs beside the ticks and never before them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.client import Client

from activities.database import Pool
from activities.exits.alarms import Alarms
from activities.exits.exit_bids import ExitBids
from activities.exits.hodl_news import HodlNews
from activities.exits.past_candles import begins
from activities.exits.plan_reader import PlanReader
from activities.exits.plans import PlanTable
from activities.exits.price_history import PriceHistory
from activities.exits.signals import ExitSignals
from activities.exits.unprotected import UnprotectedTime
from activities.incidents import report_incident
from activities.interfaces.streams import StreamEnd, WatcherActivity, WatcherInput
from activities.leases import LeaseTerms
from activities.long_running import every, together, until_shutdown
from activities.measures import SILENT, Measures
from activities.notifications import listen
from activities.starting import Starter
from activities.streams.feed_notes import FeedNotes
from activities.streams.feeds import Feed, Feeds
from activities.streams.tenure import Tenure, tenure_of
from domain.candles import CANDLE_SECONDS
from domain.exits import atr_window
from domain.incidents import IncidentKind
from domain.sharding import shard_of
from domain.watch import SymbolState, Watch
from exchange.port import CandleUpdate, Exchange, StreamEvent, Ticker

__all__ = ["PriceWatcher", "WatchSession", "WatcherOptions", "watcher_lease"]

_DOUBTS = 2
"""A book that differs once may only be the faster one."""
_PLAN_CHANNEL = "exit_plan"
_MATRIX_CHANNEL = "matrix"


def watcher_lease(account: str, shard: int) -> str:
    """The name of the lease, and of the stream position, of a shard's watcher."""
    return f"price-watcher/{account}/{shard}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherOptions:
    """Wall seconds unless it says market."""

    symbols: Iterable[str] = ()
    """Subscribed without a plan, so that one on them is armed with a price and an ATR at hand. Asked again and again:
    what it gives may change.
    """
    lease: LeaseTerms = field(default_factory=LeaseTerms)
    market_speed: float = 1.0
    """Market seconds per wall second."""
    poll_seconds: float = 1.0
    resync_seconds: float = 30.0
    """All plans are read again, whatever the revisions say."""
    revision_overlap: int = 500
    """Revisions read again at each poll, as they may commit out of order."""
    signals_sell: Callable[[], bool] = lambda: True
    """Whether the matrix's sell signals may close trades now: not while the strategy is switched off."""
    hodl: Callable[[], Collection[str]] = frozenset
    """What is never sold by the system, now."""
    signal_max_age: float = 600.0
    """Market seconds: two runs of the strategy."""
    atr_period: int = 14
    atr_candle_seconds: int = 300
    """Market seconds."""
    repeat_seconds: float = 5.0
    """A due exit that is not acknowledged is signalled again."""
    unacknowledged_seconds: float = 60.0
    """A due exit that is not acknowledged by then is a CRITICAL incident."""
    save_seconds: float = 0.05
    peak_seconds: float = 3.0
    """A peak that raised no stop is written at most this often."""
    quote_repeat_seconds: float = 10.0
    first_quote_repeat_seconds: float = 1.0
    """For a symbol that never had a price."""
    quote_timeout: float = 10.0
    alert_repeat_seconds: float = 600.0
    alert_after_failures: int = 10
    signals_at_once: int = 100
    signal_timeout: float = 5.0
    reads_at_once: int = 4
    peak_tries: int = 5
    """How often candles of a gap are asked for, over about 15 s; profit exits wait for them."""
    beat_seconds: float = 1.0
    unprotected_after_seconds: float = 15.0
    """A position that had no watcher for so long is an incident."""
    measures: Measures = SILENT


class PriceWatcher(WatcherActivity):
    """The activity. One instance serves any number of shards of the account that `exchange` is for."""

    def __init__(
        self, pool: Pool, exchange: Exchange, client: Client, starter: Starter, options: WatcherOptions
    ) -> None:
        self._pool = pool
        self._exchange = exchange
        self._client = client
        self._starter = starter
        self._options = options

    @activity.defn(name="watch_prices")
    async def watch_prices(self, request: WatcherInput) -> StreamEnd:
        """Watch until cancelled; the lease is given up at once when the worker shuts down."""
        await until_shutdown(self.run(request, activity.heartbeat))
        return StreamEnd(reason="ended")

    async def run(self, request: WatcherInput, heartbeat: Callable[..., None]) -> None:
        """Watch until cancelled. Raises LeaseLostError when another watcher took over."""
        name, options = watcher_lease(request.account, request.shard), self._options
        async with tenure_of(name, self._pool, self._exchange, request.account, options.lease, heartbeat) as tenure:
            await WatchSession(tenure, request, self._client, self._starter, options).run()


class WatchSession:
    """One tenure of the lease."""

    def __init__(
        self, tenure: Tenure, request: WatcherInput, client: Client, starter: Starter, options: WatcherOptions
    ) -> None:
        self._tenure = tenure
        self._options = options
        self._request = request
        self._before = tenure.position.last_message_at
        """Until when an earlier tenure watched: what it missed since is looked up."""
        self._plans = PlanTable(tenure.pool, request.account)
        self._signal_max_age = timedelta(seconds=options.signal_max_age / options.market_speed)
        self.watch = Watch(
            epoch=tenure.lease.epoch,
            signal_max_age=self._signal_max_age,
            on_due=lambda plan: self.signals.soon(self.watch, plan),
            now=lambda: datetime.now(UTC),
            monotonic=time.monotonic,
            atr_period=options.atr_period,
        )
        self.signals = ExitSignals(
            client,
            starter,
            tenure.lease,
            tenure.background.start,
            repeat_seconds=options.repeat_seconds,
            timeout=options.signal_timeout,
            at_once=options.signals_at_once,
        )
        self._exit_bids = ExitBids(tenure.pool, request.account, tenure.lease, self.watch)
        self._hodl_news = HodlNews(client, options.hodl, timeout=options.signal_timeout)
        self._history = self._new_history()
        self._outage = tenure.open_incident(
            IncidentKind.MARKET_STREAM_DOWN, "CRITICAL", repeat_seconds=options.alert_repeat_seconds
        )
        self._alarms = Alarms(
            tenure,
            repeat_seconds=options.alert_repeat_seconds,
            unacknowledged_seconds=options.unacknowledged_seconds,
        )
        self._notes = FeedNotes(
            tenure,
            self._outage,
            alert_after=lambda: options.alert_after_failures,
            stream="market stream",
            meanwhile="prices come from the REST book until it is back",
        )
        self._feeds = Feeds(self._open_stream, self._take, self._notes.failed)
        self._unprotected = UnprotectedTime(
            tenure.pool,
            request.account,
            tenure.lease,
            after_seconds=options.unprotected_after_seconds,
            server_time=tenure.exchange.server_time,
            measures=options.measures,
        )
        self._reader = PlanReader(
            tenure,
            self._plans,
            self.watch,
            self._alarms,
            self._unprotected,
            ours=self._ours,
            watched=self._plan_watched,
            poll_seconds=options.poll_seconds,
            resync_seconds=options.resync_seconds,
            revision_overlap=options.revision_overlap,
        )
        self._new_symbols = asyncio.Event()
        self._matrix_hint = asyncio.Event()
        self._quoted: dict[str, float] = {}
        self._candles_asked: dict[str, float] = {}

    def _new_history(self) -> PriceHistory:
        options = self._options
        return PriceHistory(
            self._tenure.exchange,
            self.watch,
            market_speed=options.market_speed,
            timeout=options.quote_timeout,
            at_once=options.reads_at_once,
            candle_seconds=options.atr_candle_seconds,
            candle_count=atr_window(options.atr_period),
            peak_tries=options.peak_tries,
            unknown=self._peak_unknown,
        )

    async def run(self) -> None:
        """Until cancelled or the lease is lost."""
        try:
            await together(self._tenure.beat(self._counts, self._options.beat_seconds), self._watch())
        finally:
            await self._feeds.close()

    async def _watch(self) -> None:
        options = self._options
        for symbol in options.symbols:
            if self._ours(symbol):
                self.watch.watched(symbol)
        await self._outage.inherit()
        await self._alarms.inherit()
        # Before any feed: the first connection looks up the peaks that these plans missed.
        await self._reader.read()
        await together(
            every(60.0, self._unprotected.look_at_the_clock),
            every(1.0, self._unprotected.measure),
            every(options.poll_seconds, self._reader.read, hint=self._reader.hint),
            listen(self._tenure.pool, [_PLAN_CHANNEL, _MATRIX_CHANNEL], self._heard, self._listening),
            every(0.25, self._subscribe, hint=self._new_symbols),
            every(options.poll_seconds, self._read_signals, hint=self._matrix_hint),
            every(options.save_seconds, self._save_trailing),
            every(0.25, self._exit_bids.save),
            every(0.25, self._look_after),
            every(0.25, self._look_after_candles),
            every(0.5, self._tell_of_hodl),
            every(1.0, self._save_position),
        )

    def _ours(self, symbol: str) -> bool:
        return shard_of(symbol, self._request.shards) == self._request.shard

    def _counts(self) -> dict[str, int]:
        return {
            "symbols": len(self.watch.symbols),
            "plans": len(self.watch.plans),
            "ticks": self.watch.ticks,
            "unacknowledged": len(self.watch.pending),
            "signalled": self.signals.sent,
        }

    async def _save_position(self) -> None:
        self._feeds.note_heard(self._tenure.position)
        await self._tenure.save_position()

    # --- plans ----------------------------------------------------------------------------------------------------

    def _heard(self, channel: str, payload: str) -> None:
        if channel == _MATRIX_CHANNEL:
            self._matrix_hint.set()
        else:
            self._reader.name(payload)

    def _listening(self) -> None:
        self._reader.look_again()
        self._matrix_hint.set()

    def _plan_watched(self, state: SymbolState) -> None:
        if state.seen is None:
            self._new_symbols.set()
        if state.seen is None or time.monotonic() - state.seen > state.stale_seconds:
            # No position waits for a feed: the book tells its price meanwhile.
            self._quote_soon(state.symbol, self._options.first_quote_repeat_seconds)

    async def _read_signals(self) -> None:
        symbols = [symbol for symbol, state in self.watch.symbols.items() if state.plans]
        if symbols:
            heard = self._options.signals_sell()
            signals = await self._plans.sell_signals(symbols, self._signal_max_age) if heard else {}
            for symbol in symbols:
                self.watch.sell_signal(symbol, signals.get(symbol))

    # --- the feed -------------------------------------------------------------------------------------------------

    async def _subscribe(self) -> None:
        wanted = {symbol for symbol, state in self.watch.symbols.items() if state.plans}
        for symbol in self._options.symbols:
            if self._ours(symbol):
                wanted.add(self.watch.watched(symbol).symbol)
        await self._feeds.want(wanted)

    def _open_stream(self, symbols: Sequence[str]) -> AsyncIterator[StreamEvent]:
        return self._tenure.exchange.market_stream(symbols, ["ticker", "candles"])

    def _take(self, feed: Feed, event: StreamEvent) -> None:
        if isinstance(event, Ticker):
            now = datetime.now(UTC)
            # The side of the book that we would sell to decides, whatever there is of the other.
            if event.bid is not None and not self._too_late(event):
                began = time.perf_counter()
                self.watch.tick(event.symbol, event.bid, now)
                self._options.measures.stops_calculated(time.perf_counter() - began)
        elif isinstance(event, CandleUpdate):
            symbol = event.candle.symbol
            if self._options.market_speed == 1 and self._feeds.ahead(event.candle.start):
                return
            if self._options.atr_candle_seconds == CANDLE_SECONDS:
                self.watch.candles(symbol, [event.candle])
            else:
                self._candles_close(symbol, begins(event.candle.start, self._options.atr_candle_seconds))
        elif self._notes.missed(feed, event, all_connected=self._feeds.connected):
            self._catch_up(feed)

    def _candles_close(self, symbol: str, boundary: datetime) -> None:
        """Candles before `boundary` have closed. Where the stream has none of ATR's length, all are asked for again."""
        state = self.watch.watched(symbol)
        if state.window.boundary is not None and boundary <= state.window.boundary:
            return
        if self._options.atr_candle_seconds != CANDLE_SECONDS:
            self.watch.watched(symbol).window.missed()
        self.watch.closed(symbol, boundary)

    def _too_late(self, event: Ticker) -> bool:
        """A price that was overtaken by others for so long decides nothing; by the exchange's own clock throughout."""
        clock = self._feeds.clock
        if clock is None or event.at >= clock:
            return False
        state = self.watch.symbols.get(event.symbol)
        return state is None or (clock - event.at).total_seconds() > state.stale_seconds

    # --- what no stream brought ---------------------------------------------------------------------------------------

    def _catch_up(self, feed: Feed) -> None:
        """Look up the peaks that a feed's symbols may have had while nothing came of them."""
        elsewhere = frozenset[str]().union(
            *(other.symbols for other in self._feeds.feeds if other is not feed and other.delivering)
        )
        for symbol in feed.symbols - elsewhere:
            self.watch.watched(symbol).window.missed()
            state = self.watch.symbols[symbol]
            if state.plans:
                self._tenure.background.start(self._history.missed_peak(state, state.fed_at or self._before))

    async def _peak_unknown(self, symbol: str) -> None:
        await report_incident(
            self._tenure.pool,
            self._tenure.account,
            IncidentKind.MISSED_PEAK_UNKNOWN,
            "WARNING",
            symbol,
            f"The stream of {symbol} had a gap and the exchange's candles for it can't be read; trailing stops of this "
            "symbol may be lower than they should be.",
        )

    async def _past_candles(self, symbol: str) -> None:
        state = self.watch.symbols[symbol]
        if state.window.wanted:  # another look may have brought them meanwhile
            await self._history.past_candles(state)

    # --- stale prices ---------------------------------------------------------------------------------------------

    def _stale_for(self, state: SymbolState, now: float) -> tuple[float, str] | None:
        """For how long the stream has no price of the symbol that may decide, and that in words."""
        if state.doubts >= _DOUBTS:
            still = now - state.moved
            return still, f"The stream's price of {state.symbol} stands still for {still:.0f} s, the book has another,"
        age = now - max(state.fed or 0.0, state.watched_since)
        return (age, f"No price of {state.symbol} for {age:.0f} s") if age > state.stale_seconds else None

    async def _look_after_candles(self) -> None:
        """Each quarter of a second: candles close by the clock, also where nobody trades, and missing ones are read."""
        clock, options = self._feeds.clock, self._options
        boundary = None
        if clock is not None and options.market_speed == 1:
            boundary = begins(clock, options.atr_candle_seconds)
        for state in self.watch.symbols.values():
            if boundary is not None:
                self._candles_close(state.symbol, boundary)
            if state.plans and state.window.wanted:
                self._ask_soon(self._candles_asked, state.symbol, options.quote_repeat_seconds, self._past_candles)

    async def _look_after(self) -> None:
        """Each quarter of a second: symbols without a fresh price, and due exits that nobody acknowledged."""
        now, options = time.monotonic(), self._options
        for state in self.watch.symbols.values():
            if state.plans and (trouble := self._stale_for(state, now)) is not None:
                self._quote_soon(state.symbol, options.quote_repeat_seconds)
                self._alarms.stale_price(state, *trouble)
            elif self._alarms.is_stale(state.symbol):
                self._alarms.fresh_price(state.symbol)
            elif state.plans and state.seen is None:
                self._quote_soon(state.symbol, options.first_quote_repeat_seconds)
            elif state.plans and self.watch.stands_still(state):
                # Only the book can tell a quiet market from a feed that is frozen.
                again = options.first_quote_repeat_seconds if state.doubts else state.stale_seconds / 2
                self._quote_soon(state.symbol, again)
            self._alarms.refused_product(state.symbol, refused=state.symbol in self._feeds.refused)
        self.signals.repeat(self.watch)
        self._alarms.unacknowledged(self.watch.pending.values(), now)

    async def _tell_of_hodl(self) -> None:
        for tell in self._hodl_news.due(self.watch.plans.values()):
            self._tenure.background.start(tell)

    def _quote_soon(self, symbol: str, repeat: float) -> None:
        self._ask_soon(self._quoted, symbol, repeat, self._history.quote)

    def _ask_soon(
        self, asked: dict[str, float], symbol: str, repeat: float, ask: Callable[[str], Coroutine[Any, Any, None]]
    ) -> None:
        now = time.monotonic()
        if now - asked.get(symbol, -repeat) >= repeat:
            asked[symbol] = now
            self._tenure.background.start(ask(symbol))

    # --- what comes of it -----------------------------------------------------------------------------------------

    async def _save_trailing(self) -> None:
        if self.watch.unsaved_targets:
            targets = await self._plans.save_targets(self._tenure.lease, list(self.watch.unsaved_targets.values()))
            for entry_key, atr in targets.items():
                self.watch.target_saved(entry_key, atr)
        plans = [
            (plan, plan.position.trailing)
            for plan in self.watch.unsaved(self._options.peak_seconds)
            if plan.position.trailing is not None
        ]
        if plans:
            written = await self._plans.save_trailing(self._tenure.lease, plans)
            for plan, trailing in plans:
                if plan.entry_key in written:
                    self.watch.saved(plan, trailing)
