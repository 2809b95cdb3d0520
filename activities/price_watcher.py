"""Prices against armed exit plans: one long activity per shard of symbols (EXIT-1, 2, 3, 7).

Nothing here enters a workflow's history but an exit that is due. Each tick is held against the plans in memory the
moment it is received; everything that waits (database, REST, Temporal) runs beside the ticks and never before them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import structlog
from pydantic import ValidationError
from temporalio import activity
from temporalio.client import Client

from activities.database import Pool
from activities.exit_signals import ExitSignals
from activities.feeds import Feed, Feeds
from activities.incidents import Lasting, Severity
from activities.leases import DATABASE_TROUBLE, HELD, Lease, LeaseLostError, LeaseTerms, hold
from activities.long_running import Beside, every, holder_name, together, until_shutdown
from activities.market_state import PlanRow, SymbolState, Watch, trailing_document
from activities.monitors import Starter
from activities.stream_interfaces import StreamEnd, WatcherActivity, WatcherInput
from activities.stream_positions import StreamPosition
from domain.exits import ExitReason, ExitRules, Position, SellSignal, Trailing
from domain.sharding import shard_of
from exchange.port import (
    CandleUpdate,
    Connected,
    Disconnected,
    Exchange,
    ExchangeError,
    Gap,
    MalformedMessage,
    StreamEvent,
    Ticker,
)

__all__ = ["PriceWatcher", "WatchSession", "WatcherOptions", "watcher_lease"]

log = structlog.get_logger(__name__)

_LISTEN_AGAIN_SECONDS = 0.25

_PLANS = """
SELECT p.entry_key, p.symbol, p.state, p.rules, p.entry_price, p.peak, p.stop, p.distance, p.atr, p.steps,
       p.exit_reason, p.revision, COALESCE(t.protected_at, t.opened_at) AS armed_at
  FROM exit_plans p JOIN trades t ON t.entry_key = p.entry_key
 WHERE p.account = $1 AND
"""
_ALL_PLANS = _PLANS + "p.state <> 'DISARMED'"
_CHANGED_PLANS = _PLANS + "p.revision > $2"
_NAMED_PLANS = _PLANS + "p.entry_key = ANY($2)"

_SAVE_TRAILING = (
    """
WITH news AS (
    SELECT * FROM jsonb_to_recordset($3::jsonb)
        AS n (entry_key text, peak numeric, stop numeric, distance numeric, atr numeric, steps int)
), ours AS (
    SELECT p.entry_key FROM exit_plans p JOIN news USING (entry_key)
     WHERE p.lease_epoch <= $2 AND p.state <> 'DISARMED' AND """
    + HELD
    + """
       FOR UPDATE OF p SKIP LOCKED
), saved AS (
    UPDATE exit_plans p
       SET stop = GREATEST(p.stop, n.stop), peak = GREATEST(p.peak, n.peak), steps = GREATEST(p.steps, n.steps),
           distance = COALESCE(p.distance, n.distance), atr = COALESCE(p.atr, n.atr),
           lease_epoch = $2, updated_at = now()
      FROM news n JOIN ours USING (entry_key)
     WHERE p.entry_key = n.entry_key
    RETURNING p.entry_key
)
SELECT """
    + HELD
    + """ AS held, ARRAY(SELECT entry_key FROM saved) AS saved
"""
)

_SIGNALS = """
SELECT DISTINCT ON (symbol) symbol, snapshot_id, at, sell_score, action FROM market_snapshots
 WHERE symbol = ANY($1) AND at > now() - $2::interval
 ORDER BY symbol, at DESC
"""


def watcher_lease(account: str, shard: int) -> str:
    """The name of the lease, and of the stream position, of a shard's watcher."""
    return f"price-watcher/{account}/{shard}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherOptions:
    """Wall seconds unless it says market."""

    symbols: tuple[str, ...] = ()
    """Subscribed from the start, so that a plan on them is armed with a price and an ATR at hand."""
    lease: LeaseTerms = field(default_factory=LeaseTerms)
    market_speed: float = 1.0
    """Market seconds per wall second."""
    poll_seconds: float = 1.0
    resync_seconds: float = 30.0
    """All plans are read again, whatever the revisions say."""
    revision_overlap: int = 500
    """Revisions read again at each poll, as they may commit out of order."""
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
    beat_seconds: float = 1.0


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
        name = watcher_lease(request.account, request.shard)

        def waiting() -> None:
            heartbeat({"waiting_for": name})

        async with hold(self._pool, name, holder_name(), self._options.lease, waiting=waiting) as lease:
            position = await StreamPosition.load(self._pool, name)
            session = WatchSession(
                self._pool,
                self._exchange,
                self._client,
                self._starter,
                self._options,
                request=request,
                lease=lease,
                position=position,
                heartbeat=heartbeat,
            )
            await session.run()


class WatchSession:
    """One tenure of the lease."""

    def __init__(
        self,
        pool: Pool,
        exchange: Exchange,
        client: Client,
        starter: Starter,
        options: WatcherOptions,
        *,
        request: WatcherInput,
        lease: Lease,
        position: StreamPosition,
        heartbeat: Callable[..., None],
    ) -> None:
        self._pool = pool
        self._exchange = exchange
        self._options = options
        self._request = request
        self._account = request.account
        self._lease = lease
        self._position = position
        self._heartbeat = heartbeat
        self._before = position.last_message_at
        """Until when an earlier tenure watched: what it missed since is looked up."""
        self._beside = Beside()
        self.signals = ExitSignals(
            client,
            starter,
            lease,
            self._beside.start,
            repeat_seconds=options.repeat_seconds,
            timeout=options.signal_timeout,
            at_once=options.signals_at_once,
        )
        self.watch = Watch(
            epoch=lease.epoch,
            signal_max_age=timedelta(seconds=options.signal_max_age / options.market_speed),
            on_due=lambda plan: self.signals.soon(self.watch, plan),
            monotonic=time.monotonic,
            atr_period=options.atr_period,
        )
        self._feeds = Feeds(self._open_stream, self._take, self._feed_failed)
        self._feed_clock: datetime | None = None
        self._last_revision = 0
        self._resync_at = 0.0
        self._poll_at = 0.0
        self._new_symbols = asyncio.Event()
        self._plans_hint = asyncio.Event()
        self._matrix_hint = asyncio.Event()
        self._named: set[str] = set()
        self._read_slots = asyncio.Semaphore(options.reads_at_once)
        self._quoted: dict[str, float] = {}
        self._atr_asked: set[str] = set()
        self._stale = self._lasting("stale_price", "WARNING")
        self._outage = self._lasting("market_stream_down", "CRITICAL")
        self._unheard = self._lasting("exit_not_acknowledged", "CRITICAL")
        self._bad_plans = self._lasting("exit_plan_unreadable", "CRITICAL")

    def _lasting(self, kind: str, severity: Severity) -> Lasting:
        return Lasting(self._pool, self._account, kind, severity, repeat_seconds=self._options.alert_repeat_seconds)

    async def run(self) -> None:
        """Until cancelled or the lease is lost."""
        try:
            await together(self._beat(), self._watch())
        finally:
            await self._feeds.close()
            await self._beside.stop()

    async def _watch(self) -> None:
        options = self._options
        for symbol in options.symbols:
            if self._ours(symbol):
                self.watch.watched(symbol)
        # Before any feed: the first connection looks up the peaks that these plans missed.
        await self._read_plans()
        await together(
            every(options.poll_seconds, self._read_plans, hint=self._plans_hint),
            self._listen(),
            every(0.25, self._subscribe, hint=self._new_symbols),
            every(options.poll_seconds, self._read_signals, hint=self._matrix_hint),
            every(options.save_seconds, self._save_trailing),
            every(0.25, self._look_after),
            every(1.0, self._save_position),
        )

    def _ours(self, symbol: str) -> bool:
        return shard_of(symbol, self._request.shards) == self._request.shard

    async def _beat(self) -> None:
        while True:
            self._heartbeat(
                {
                    **self._position.document(self._lease.epoch),
                    "symbols": len(self.watch.symbols),
                    "plans": len(self.watch.plans),
                    "ticks": self.watch.ticks,
                    "unacknowledged": len(self.watch.pending),
                    "signalled": self.signals.sent,
                }
            )
            await asyncio.sleep(self._options.beat_seconds)

    async def _save_position(self) -> None:
        await self._position.save(self._pool, self._lease)

    # --- plans ----------------------------------------------------------------------------------------------------

    async def _read_plans(self) -> None:
        now = time.monotonic()
        named, self._named = self._named, set()
        rows: list[asyncpg.Record] = []
        if now >= self._resync_at:
            rows = await self._pool.fetch(_ALL_PLANS, self._account)
            for entry_key in set(self.watch.plans) - {row["entry_key"] for row in rows}:
                self._forget(entry_key)
            self._resync_at = now + self._options.resync_seconds
            self._poll_at = now + self._options.poll_seconds
        elif named:
            rows = await self._pool.fetch(_NAMED_PLANS, self._account, list(named))
        if now >= self._poll_at:
            least = self._last_revision - self._options.revision_overlap
            rows = rows + await self._pool.fetch(_CHANGED_PLANS, self._account, least)
            self._poll_at = now + self._options.poll_seconds
        for row in rows:
            self._put(row)

    def _forget(self, entry_key: str) -> None:
        self.watch.remove(entry_key)
        self._beside.start(self._unheard.over(entry_key))

    def _put(self, row: asyncpg.Record) -> None:
        self._last_revision = max(self._last_revision, row["revision"])
        entry_key, symbol = row["entry_key"], row["symbol"]
        known = self.watch.plans.get(entry_key)
        if row["state"] == "DISARMED" or not self._ours(symbol):
            if known is not None:
                self._forget(entry_key)
            return
        if known is not None and row["revision"] <= known.revision:
            return
        try:
            plan = _plan(row)
        except (ValidationError, ValueError) as problem:
            sentence = f"The exit plan of {entry_key} ({symbol}) can't be read, so nothing watches it: {problem}"
            self._beside.start(self._bad_plans.tell(entry_key, sentence))
            return
        self.watch.put(plan)
        if self._unheard.lasts(entry_key) and self.watch.plans[entry_key].due is None:
            self._beside.start(self._unheard.over(entry_key))
        state = self.watch.symbols[symbol]
        if state.seen is None:
            self._new_symbols.set()
        if state.seen is None or time.monotonic() - state.seen > state.stale_seconds:
            # No position waits for a feed: the book tells its price meanwhile.
            self._quote_soon(symbol, self._options.first_quote_repeat_seconds)

    async def _listen(self) -> None:
        """Take notifications as hints; without them the polling finds everything a little later."""

        def hear(_connection: Any, _pid: int, channel: str, payload: str) -> None:
            if channel == "matrix":
                self._matrix_hint.set()
            else:
                self._named.add(payload)
                self._plans_hint.set()

        while True:
            try:
                async with self._pool.acquire() as connection:
                    gone = asyncio.Event()
                    on_end = lambda _connection, gone=gone: gone.set()  # noqa: E731
                    connection.add_termination_listener(on_end)
                    try:
                        await connection.add_listener("exit_plan", hear)
                        await connection.add_listener("matrix", hear)
                        # What was told while nobody listened is read now.
                        self._poll_at = 0.0
                        self._plans_hint.set()
                        self._matrix_hint.set()
                        await gone.wait()
                    finally:
                        # A connection that ended has been taken back by the pool already.
                        if not gone.is_set():
                            connection.remove_termination_listener(on_end)
                            await connection.remove_listener("exit_plan", hear)
                            await connection.remove_listener("matrix", hear)
            except DATABASE_TROUBLE as problem:
                log.warning("not listening, polling goes on", problem=repr(problem))
            await asyncio.sleep(_LISTEN_AGAIN_SECONDS)

    async def _read_signals(self) -> None:
        symbols = [symbol for symbol, state in self.watch.symbols.items() if state.plans]
        if not symbols:
            return
        age = timedelta(seconds=self._options.signal_max_age / self._options.market_speed)
        rows = {row["symbol"]: row for row in await self._pool.fetch(_SIGNALS, symbols, age)}
        for symbol in symbols:
            row = rows.get(symbol)
            self.watch.sell_signal(
                symbol,
                None
                if row is None
                else SellSignal(row["action"] == "sell", row["at"], row["sell_score"], row["snapshot_id"]),
            )

    # --- the feed -------------------------------------------------------------------------------------------------

    async def _subscribe(self) -> None:
        wanted = {symbol for symbol, state in self.watch.symbols.items() if state.plans}
        await self._feeds.want(wanted.union(symbol for symbol in self._options.symbols if self._ours(symbol)))

    def _open_stream(self, symbols: Sequence[str]) -> AsyncIterator[StreamEvent]:
        return self._exchange.market_stream(symbols, ["ticker", "candles"])

    def _take(self, feed: Feed, event: StreamEvent) -> None:
        if isinstance(event, Ticker):
            now = datetime.now(UTC)
            self._position.last_message_at = now
            if self._feed_clock is None or event.at > self._feed_clock:
                self._feed_clock = event.at
            elif self._too_late(event):
                return
            self.watch.tick(event.symbol, event.bid, now)
        elif isinstance(event, CandleUpdate):
            symbol = event.candle.symbol
            self.watch.candles(symbol, [event.candle])
            state = self.watch.symbols[symbol]
            if state.atr is None and symbol not in self._atr_asked:
                self._atr_asked.add(symbol)
                self._beside.start(self._fill_candles(state))
        elif isinstance(event, Connected):
            self._position.connections += 1
            self._position.connected = self._feeds.connected
            if self._feeds.connected:
                self._beside.start(self._outage.over(self._lease.name))
            self._catch_up(feed)
        elif isinstance(event, Gap):
            self._position.gaps += 1
            self._catch_up(feed)
        elif isinstance(event, Disconnected):
            self._position.connected = False
            self._feed_failed(feed, event.reason, event.failures)
        elif isinstance(event, MalformedMessage):
            self._position.malformed += 1

    def _too_late(self, event: Ticker) -> bool:
        """A price that was overtaken by others for so long decides nothing; by the exchange's own clock throughout."""
        state = self.watch.symbols.get(event.symbol)
        if state is None or self._feed_clock is None:
            return True
        return (self._feed_clock - event.at).total_seconds() > state.stale_seconds

    def _feed_failed(self, feed: Feed, reason: str, failures: int) -> None:
        if failures >= self._options.alert_after_failures:
            self._beside.start(
                self._outage.tell(
                    self._lease.name,
                    f"The market stream of {len(feed.symbols)} symbols is down, {failures} failures in a row "
                    f"({reason}); prices come from the REST book until it is back.",
                    {"failures": failures, "reason": reason},
                )
            )

    # --- what a gap hid -------------------------------------------------------------------------------------------

    def _catch_up(self, feed: Feed) -> None:
        """Look up the peaks that a feed's symbols may have had while nothing came of them."""
        elsewhere = frozenset[str]().union(
            *(other.symbols for other in self._feeds.feeds if other is not feed and other.delivering)
        )
        for symbol in feed.symbols - elsewhere:
            state = self.watch.symbols.get(symbol)
            if state is not None and state.plans and not state.rebuilding:
                state.rebuilding += 1
                self._beside.start(self._rebuild(state, state.fed_at or self._before))

    async def _rebuild(self, state: SymbolState, seen_until: datetime | None) -> None:
        """Raise the trailing stops by the highs of the candles since `seen_until` (wall time; None: nothing was seen).

        Only candles that began after a position was protected count, or its peak would be older than itself.
        """
        try:
            now, speed = datetime.now(UTC), self._options.market_speed
            armed = {plan.entry_key: plan.armed_at for plan in state.plans.values()}
            oldest = max(min(armed.values()), seen_until) if seen_until else min(armed.values())
            missed = (now - oldest).total_seconds() * speed
            size = next((size for size in (60, 300, 900, 3600) if missed <= 300 * size), 21600)
            if seen_until is None and missed < size:
                return
            async with self._read_slots, asyncio.timeout(self._options.quote_timeout):
                market_now = await self._market_now(state.symbol)

                def market(wall: datetime) -> datetime:
                    return market_now - (now - wall) * speed

                candle = timedelta(seconds=size)
                candles = await self._exchange.candles(state.symbol, size, market(oldest) - candle, market_now + candle)
            first = market(seen_until) - candle if seen_until else market(oldest)
            since = {entry_key: max(first, market(at)) for entry_key, at in armed.items()}
            self.watch.rebuild_peaks(state.symbol, candles, since)
        except (ExchangeError, TimeoutError, OSError) as problem:
            log.warning("missed peak not known", symbol=state.symbol, problem=repr(problem))
        finally:
            state.rebuilding -= 1
            self.watch.look_again(state.symbol)

    async def _market_now(self, symbol: str) -> datetime:
        """The market's time: the exchange's clock, or where time is sped up, the end of the newest candle."""
        if self._options.market_speed == 1:
            return await self._exchange.server_time()
        start = max(self.watch.symbols[symbol].candles, default=await self._exchange.server_time())
        ahead = start + timedelta(seconds=2 * self._options.atr_candle_seconds)
        newest = await self._exchange.candles(symbol, 60, start, ahead)
        return newest[-1].start + timedelta(seconds=60) if newest else start

    async def _fill_candles(self, state: SymbolState) -> None:
        """Past candles by REST, so that ATR is known before the stream has brought enough of them."""
        size = self._options.atr_candle_seconds
        try:
            await asyncio.sleep(0)  # the stream's own snapshot may bring them all
            if state.atr is not None:
                return
            async with self._read_slots, asyncio.timeout(self._options.quote_timeout):
                newest = max(state.candles)
                start = newest - timedelta(seconds=size * 6 * self._options.atr_period)
                candles = await self._exchange.candles(state.symbol, size, start, newest)
            # What the stream has said meanwhile is newer.
            self.watch.candles(state.symbol, [c for c in candles if c.start not in state.candles])
        except (ExchangeError, TimeoutError, OSError) as problem:
            log.warning("no past candles", symbol=state.symbol, problem=repr(problem))
            await asyncio.sleep(self._options.quote_repeat_seconds)
        finally:
            if state.atr is None:
                self._atr_asked.discard(state.symbol)

    # --- stale prices ---------------------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        """Each quarter of a second: symbols without a fresh price, and due exits that nobody acknowledged."""
        now, start = time.monotonic(), self._beside.start
        for state in self.watch.symbols.values():
            age = now - max(state.fed or 0.0, state.watched_since)
            if state.plans and age > state.stale_seconds:
                self._quote_soon(state.symbol, self._options.quote_repeat_seconds)
                sentence = (
                    f"No price of {state.symbol} for {age:.0f} s with {len(state.plans)} open positions on it; "
                    "the REST book is asked instead."
                )
                details = {"age_seconds": round(age, 1), "positions": len(state.plans)}
                start(self._stale.tell(state.symbol, sentence, details))
            elif self._stale.lasts(state.symbol):
                start(self._stale.over(state.symbol))
            elif state.plans and state.seen is None:
                self._quote_soon(state.symbol, self._options.first_quote_repeat_seconds)
        self.signals.repeat(self.watch)
        for plan in self.watch.pending.values():
            if plan.due is not None and now - plan.due_since > self._options.unacknowledged_seconds:
                sentence = (
                    f"{plan.due.reason} of {plan.symbol} is due since {plan.due.at:%H:%M:%S} UTC and the trade's exit "
                    f"monitor (exit-{plan.entry_key}) has not taken it; close the trade by hand if that goes on."
                )
                due = {"reason": plan.due.reason.value, "price": str(plan.due.price)}
                start(self._unheard.tell(plan.entry_key, sentence, due))

    def _quote_soon(self, symbol: str, repeat: float) -> None:
        now = time.monotonic()
        if now - self._quoted.get(symbol, -repeat) >= repeat:
            self._quoted[symbol] = now
            self._beside.start(self._quote(symbol))

    async def _quote(self, symbol: str) -> None:
        try:
            async with self._read_slots, asyncio.timeout(self._options.quote_timeout):
                quote = await self._exchange.quote(symbol)
        except (ExchangeError, TimeoutError, OSError) as problem:
            log.warning("no quote", symbol=symbol, problem=repr(problem))
            return
        self.watch.tick(symbol, quote.bid, datetime.now(UTC), from_feed=False)

    # --- what comes of it -----------------------------------------------------------------------------------------

    async def _save_trailing(self) -> None:
        plans = [
            (plan, plan.position.trailing)
            for plan in self.watch.unsaved(self._options.peak_seconds)
            if plan.position.trailing is not None
        ]
        if not plans:
            return
        news = [{"entry_key": plan.entry_key, **(trailing_document(trailing) or {})} for plan, trailing in plans]
        row = await self._pool.fetchrow(_SAVE_TRAILING, self._lease.name, self._lease.epoch, news)
        if not row["held"]:
            raise LeaseLostError(f"the lease {self._lease.name} is another holder's by now")
        written = set(row["saved"])
        for plan, trailing in plans:
            if plan.entry_key in written:
                self.watch.saved(plan, trailing)


def _plan(row: asyncpg.Record) -> PlanRow:
    trailing = None
    if row["stop"] is not None and row["peak"] is not None and row["distance"] is not None and row["atr"] is not None:
        trailing = Trailing(row["peak"], row["stop"], row["distance"], row["atr"], row["steps"])
    return PlanRow(
        entry_key=row["entry_key"],
        symbol=row["symbol"],
        exiting=row["state"] == "EXITING",
        exit_reason=ExitReason(row["exit_reason"]) if row["exit_reason"] and row["state"] == "EXITING" else None,
        position=Position(row["entry_price"], ExitRules.model_validate(row["rules"]), trailing),
        revision=row["revision"],
        armed_at=row["armed_at"],
    )
