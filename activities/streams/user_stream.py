"""The account's own orders, from the exchange to the workflows: one reader per account (INGEST-1, 2; LIFE-5, 9).

The stream and REST feed one handler: each report is a fact that is stored, then routed. After every connect and every
gap REST tells what the stream did not: all orders since the time up to which everything is known, less an overlap, and
each attempt of the journal that has not ended. Totals are cumulative, so telling them twice changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError

from activities.database import Pool
from activities.incidents import OpenIncident, Severity, report_incident
from activities.interfaces.streams import StreamEnd, UserStreamActivity, UserStreamInput
from activities.leases import DATABASE_TROUBLE, Lease, LeaseTerms, hold
from activities.ledger.balances import AccountReader
from activities.ledger.closing import free_what_is_unsold
from activities.ledger.exchange_fills import settle_fills
from activities.ledger.holdings import others_have
from activities.long_running import BackgroundTasks, every, hinted, holder_name, together, until_shutdown
from activities.starting import Starter
from activities.streams.fact_router import FactRouter, ReportLedger
from activities.streams.facts import Fact, FactStore, Observed
from activities.streams.feeds import follow
from activities.streams.positions import StreamPosition
from domain.ids import exit_workflow_id
from domain.messages import StatusSource
from domain.money import ZERO
from domain.orders import Report, Totals, VenueStatus, shows_end
from exchange.port import (
    UNREADABLE,
    Connected,
    Disconnected,
    Exchange,
    ExchangeError,
    Gap,
    MalformedMessage,
    OrderEvent,
    StreamEvent,
    Unavailable,
    VenueOrder,
)

__all__ = ["UserStream", "UserStreamOptions", "user_stream_lease"]

log = structlog.get_logger(__name__)

_LIVE_ATTEMPTS = """
SELECT exchange_order_id, prepared_at FROM attempts
 WHERE account = $1 AND status NOT IN ('ABSENT','FILLED','CANCELLED','EXPIRED','FAILED')
"""
_FREED = """
SELECT DISTINCT entry_key FROM orders
 WHERE account = $1 AND side = 'SELL' AND NOT finished AND entry_key IS NOT NULL AND claimed_base < base_size
"""

_UNCLEAR_AFTER = 3
_RPC_TIMEOUT = timedelta(seconds=5)
_FIRST_PAUSE = 0.05
"""Wall seconds between two questions about an end, doubled each time."""
_LOOK_AT_END = 0.3
"""Wall seconds that an order's own answer about its end is waited for: a due stop may wait for it."""
_LOOK_WHERE_OTHERS_HAVE = 1.0
"""The same for a sell of a trade, where what it sold already would be sold again out of what is others'."""
_ASKED_ON_SECONDS = 900.0
"""So long an end that could not be looked at is asked for beside; reconcile compares it, too."""


def _order_named(message: MalformedMessage) -> tuple[str, str] | None:
    """The exchange's id of the order that a message speaks of, if it can be read, and ours, empty if it can't."""
    try:
        raw = json.loads(message.raw)
    except ValueError:
        return None
    found, ours = (raw.get("order_id"), raw.get("client_order_id")) if isinstance(raw, dict) else (None, None)
    return (found, ours if isinstance(ours, str) else "") if isinstance(found, str) and found else None


def _report(order: VenueOrder) -> Report:
    return Report.of_venue(order.status, Totals(order.filled_size, order.filled_value))


def user_stream_lease(account: str) -> str:
    """The name of the lease, and of the stream position, of an account's user stream."""
    return f"user-stream/{account}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserStreamOptions:
    """Wall seconds."""

    lease: LeaseTerms = field(default_factory=LeaseTerms)
    overlap_seconds: float = 300.0
    """A catch-up begins this long before the time up to which everything is known."""
    longest_look_back_seconds: float = 86_400.0
    """For attempts without the exchange's id, which can only be found in the list."""
    confirm_seconds: float = 60.0
    """How often the time up to which everything is known moves on while the stream is whole."""
    balance_seconds: float = 30.0
    balance_after_fill_seconds: float = 1.0
    fee_seconds: float = 60.0
    save_seconds: float = 1.0
    call_timeout: float = 30.0
    alert_after_failures: int = 10
    alert_repeat_seconds: float = 600.0
    orders_at_once: int = 64
    reads_at_once: int = 4
    batch: int = 500
    queue: int = 10_000


class UserStream(UserStreamActivity):
    """The activity, for the account that `exchange` and `ledger` are for."""

    def __init__(
        self,
        pool: Pool,
        exchange: Exchange,
        client: Client,
        ledger: ReportLedger,
        starter: Starter,
        options: UserStreamOptions,
        caught_up: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._pool = pool
        self._exchange = exchange
        self._client = client
        self._ledger = ledger
        self._starter = starter
        self._options = options
        self._caught_up = caught_up

    @activity.defn(name="run_user_stream")
    async def run_user_stream(self, request: UserStreamInput) -> StreamEnd:
        """Read until cancelled; the lease is given up at once when the worker shuts down."""
        await until_shutdown(self.run(request, activity.heartbeat))
        return StreamEnd(reason="ended")

    async def run(self, request: UserStreamInput, heartbeat: Callable[..., None]) -> None:
        """Read until cancelled. Raises LeaseLostError when another reader took over."""
        name = user_stream_lease(request.account)

        def waiting() -> None:
            heartbeat({"waiting_for": name})

        async with hold(self._pool, name, holder_name(), self._options.lease, waiting=waiting) as lease:
            session = _Session(
                self._pool,
                self._exchange,
                self._client,
                self._ledger,
                self._starter,
                self._options,
                account=request.account,
                lease=lease,
                position=await StreamPosition.load(self._pool, name),
                heartbeat=heartbeat,
                caught_up=self._caught_up,
            )
            await session.run()


_Item = Observed | MalformedMessage | asyncio.Future[None]
"""What waits to be stored; a future is done when everything before it is."""


class _Session:
    """One tenure of the lease."""

    def __init__(
        self,
        pool: Pool,
        exchange: Exchange,
        client: Client,
        ledger: ReportLedger,
        starter: Starter,
        options: UserStreamOptions,
        *,
        account: str,
        lease: Lease,
        position: StreamPosition,
        heartbeat: Callable[..., None],
        caught_up: Callable[[], Coroutine[Any, Any, None]] | None,
    ) -> None:
        self._pool = pool
        self._exchange = exchange
        self._client = client
        self._options = options
        self._tell_caught_up = caught_up
        self._account = account
        self._lease = lease
        self._position = position
        self._heartbeat = heartbeat
        self._facts = FactStore(pool, account, lease)
        self._account_reader = AccountReader(pool, exchange, account, lease, timeout=options.call_timeout)
        self._background = BackgroundTasks()
        self._router = FactRouter(
            client,
            ledger,
            starter,
            spawn=self._background.start,
            routed=self._note_routed,
            defect=self._report_defect,
            at_once=options.orders_at_once,
        )
        self._queue: asyncio.Queue[_Item] = asyncio.Queue(options.queue)
        self._arrived: list[int] = []
        self._arrived_hint = asyncio.Event()
        self._catch_up_wanted = asyncio.Event()
        self._balance_hint = asyncio.Event()
        self._events = 0
        self._breaks = 0
        """Connections and gaps: while this stays the same, nothing was missed."""
        self._caught_up_at_break = -1
        self._interrupted = 0
        """Times that a statement about facts failed."""
        self._failures = 0
        self._failure_reason = ""
        self._outage = self._open_incident("user_stream_down", "CRITICAL")
        self._catch_up_trouble = self._open_incident("catch_up_failing", "CRITICAL")
        self._unclear = self._open_incident("order_unclear", "WARNING")
        self._doubted: dict[str, int] = {}
        """Orders of which something came that can't be understood: how often."""
        self._sizes: dict[str, Decimal] = {}
        """Of such orders, the greatest base size that they were told of with."""
        self._ended: set[str] = set()
        """Those of them that were told to have ended."""
        self._ends: dict[str, asyncio.Task[VenueOrder | None]] = {}
        """By order, the question how it has ended; it goes on when nobody waits for it any more."""
        self._slots = asyncio.Semaphore(options.reads_at_once)

    def _open_incident(self, kind: str, severity: Severity) -> OpenIncident:
        return OpenIncident(
            self._pool, self._account, kind, severity, repeat_seconds=self._options.alert_repeat_seconds
        )

    async def run(self) -> None:
        """Until cancelled or the lease is lost."""
        try:
            await together(self._beat(), self._read())
        finally:
            await self._background.stop()

    async def _read(self) -> None:
        options = self._options
        for lasting in (self._outage, self._catch_up_trouble, self._unclear):
            await lasting.inherit()
        for fact in await self._facts.unrouted():
            self._send_on(fact)
        self._background.start(self._tell_of_freed())
        await together(
            follow(self._exchange.user_stream, self._take, self._stream_broke),
            self._store(),
            self._catch_up(),
            self._confirm(),
            every(0.2, self._mark_routed, hint=self._arrived_hint),
            self._read_balances(),
            every(options.fee_seconds, self._account_reader.fees),
            every(options.save_seconds, self._save),
        )

    # --- the stream -----------------------------------------------------------------------------------------------

    def _take(self, event: StreamEvent) -> Coroutine[Any, Any, None] | None:
        self._events += 1
        now = datetime.now(UTC)
        if isinstance(event, Disconnected):
            self._position.connected = False
            self._stream_broke(event.reason, event.failures)
            return None
        self._position.last_message_at = now
        if isinstance(event, OrderEvent):
            return self._put(Observed(event.order, StatusSource.WEBSOCKET, event.at, event.snapshot, event.sequence))
        if isinstance(event, MalformedMessage):
            self._position.malformed += 1
            self._doubt(event)
            return self._put(event)
        if isinstance(event, Connected):
            self._position.connected = True
            self._position.connections += 1
            self._breaks += 1
            self._failures = 0
            self._catch_up_wanted.set()
        elif isinstance(event, Gap):
            self._position.gaps += 1
            self._breaks += 1
            self._catch_up_wanted.set()
        return None

    def _put(self, item: _Item) -> Coroutine[Any, Any, None] | None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            return self._queue.put(item)
        return None

    def _stream_broke(self, reason: str, failures: int) -> None:
        self._failures, self._failure_reason = failures, reason

    # --- storing and routing --------------------------------------------------------------------------------------

    async def _store(self) -> None:
        """Store what has arrived together in one statement, then route it."""
        while True:
            items = [await self._queue.get()]
            while len(items) < self._options.batch and not self._queue.empty():
                items.append(self._queue.get_nowait())
            observed = [item for item in items if isinstance(item, Observed)]
            if observed:
                before = self._interrupted
                facts = await self._insist(lambda: self._facts.commit(observed))  # noqa: B023 - awaited here
                self._route(facts)
                if self._interrupted != before:
                    # An answer was lost: the batch may be stored twice, and the first copy must not stay behind.
                    self._route(await self._insist(self._facts.unrouted))
            for item in items:
                if isinstance(item, MalformedMessage):
                    await self._insist(lambda: self._facts.malformed(item))  # noqa: B023 - awaited here
                elif isinstance(item, asyncio.Future) and not item.done():
                    item.set_result(None)

    async def _insist(self, act: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Do it until it is done: nothing that was read is dropped while the lease lasts."""
        while True:
            try:
                return await act()
            except DATABASE_TROUBLE as problem:
                self._interrupted += 1
                log.warning("fact not stored yet", problem=repr(problem))
                await asyncio.sleep(0.2)

    def _route(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            seen = fact.observed
            if fact.known and (seen.snapshot or seen.source is not StatusSource.WEBSOCKET):
                self._note_routed([fact.id])
                continue
            self._send_on(fact)
            # What ended without a fill gives back what it held: that is news where the last answer had something held.
            ended = seen.order.status not in (VenueStatus.PENDING, VenueStatus.OPEN, VenueStatus.CANCELLING)
            if seen.order.filled_size > 0 or (ended and self._account_reader.something_held):
                self._balance_hint.set()

    def _send_on(self, fact: Fact) -> None:
        """To what it is about; an end short of the order's size once the order itself has been looked at, or that took
        too long.
        """
        if fact.observed.source is StatusSource.WEBSOCKET and fact.ends_short and fact.ours and not fact.known:
            self._background.start(self._send_end_on(fact))
        else:
            self._router.route(fact)

    async def _send_end_on(self, fact: Fact) -> None:
        # Where it has filled more, that has gone before.
        order = fact.observed.order
        await self._look_at_end(order.exchange_order_id, order.client_order_id, order.filled_size)
        self._router.route(fact)

    def _note_routed(self, ids: list[int]) -> None:
        self._arrived.extend(ids)
        if len(self._arrived) >= self._options.batch:
            self._arrived_hint.set()

    async def _mark_routed(self) -> None:
        if self._arrived:
            ids = list(self._arrived)
            await self._facts.routed(ids)
            del self._arrived[: len(ids)]

    async def _report_defect(self, fact: Fact, problem: str) -> None:
        order = fact.observed.order
        await report_incident(
            self._pool,
            self._account,
            "fact_not_recorded",
            "CRITICAL",
            fact.order_key or order.exchange_order_id,
            f"What the exchange said of order {order.exchange_order_id} ({order.symbol}) is stored as fact {fact.id} "
            f"but can't be recorded: {problem}",
            {"fact": fact.id},
        )

    # --- what the stream did not tell -----------------------------------------------------------------------------

    async def _catch_up(self) -> None:
        """After every connect and gap, until it succeeds."""
        failures = 0
        while True:
            await self._catch_up_wanted.wait()
            self._catch_up_wanted.clear()
            breaks = self._breaks
            try:
                await self._ask_rest()
            except (ExchangeError, *DATABASE_TROUBLE) as problem:
                failures += 1
                log.warning("catch-up failed", failures=failures, problem=repr(problem))
                if failures >= self._options.alert_after_failures:
                    self._background.start(
                        self._catch_up_trouble.tell(
                            self._account,
                            f"What happened to orders of account {self._account} while the stream was away can't be "
                            f"read by REST ({failures} failures in a row: {problem}).",
                        )
                    )
                self._catch_up_wanted.set()
                await asyncio.sleep(min(30.0, 0.25 * 2 ** min(failures, 7)))
            else:
                failures = 0
                self._caught_up_at_break = breaks
                if self._tell_caught_up is not None:
                    self._background.start(self._tell_caught_up())
                self._background.start(self._catch_up_trouble.over(self._account))

    async def _ask_rest(self) -> None:
        options = self._options
        async with asyncio.timeout(options.call_timeout):
            # Up to a time from the future nothing is known; from one of the past more is read again.
            asked = min(await self._exchange.server_time(), datetime.now(UTC))
        live = await self._pool.fetch(_LIVE_ATTEMPTS, self._account)
        unnamed = [row["prepared_at"] for row in live if row["exchange_order_id"] is None]
        known = min(self._position.caught_up_to or asked, asked)
        since = min([known, *unnamed]) - timedelta(seconds=options.overlap_seconds)
        since = max(since, asked - timedelta(seconds=options.longest_look_back_seconds))
        async with asyncio.timeout(options.call_timeout * 4):
            unreadable: list[MalformedMessage] = []
            listed = await self._exchange.orders(since, unreadable=unreadable)
        for order in listed:
            await self._observe(order)
        for message in unreadable:
            self._doubt(message)
            await self._queue.put(message)
        missing = {row["exchange_order_id"] for row in live} - {order.exchange_order_id for order in listed} - {None}
        missing -= self._doubted.keys()

        async def look_up(exchange_order_id: str) -> None:
            try:
                async with self._slots, asyncio.timeout(options.call_timeout):
                    order = await self._exchange.order(exchange_order_id)
            except Unavailable as problem:
                if problem.code != UNREADABLE:
                    raise
                # It is asked for again beside, until it can be read; all others don't wait for that.
                self._doubt_order(exchange_order_id, str(problem))
                return
            if order is not None:
                await self._observe(order)
            else:
                log.warning("the exchange does not know an order of ours", exchange_order_id=exchange_order_id)

        await asyncio.gather(*(look_up(item) for item in sorted(missing)))
        await self._all_stored()
        self._position.caught_up_to = max(asked, self._position.caught_up_to or asked)
        log.info("caught up", account=self._account, orders=len(listed), looked_up=len(missing))

    async def _observe(self, order: VenueOrder) -> None:
        await self._queue.put(Observed(order, StatusSource.ORDER_HISTORY, datetime.now(UTC)))

    async def _all_stored(self) -> None:
        """Until what was observed so far is stored and on its way."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put(stored)
        await stored

    def _doubt(self, message: MalformedMessage) -> None:
        """Ask REST for the order of which something came that can't be understood, where that names one."""
        named = _order_named(message)
        if named is None:
            return
        identity, ours = named
        if message.filled_size is not None:
            filled = self._sizes[identity] = max(message.filled_size, self._sizes.get(identity, message.filled_size))
            if message.ended:
                self._ended.add(identity)
                self._background.start(self._free(identity, ours, filled))
        self._doubt_order(identity, message.reason)

    def _doubt_order(self, identity: str, reason: str) -> None:
        times = self._doubted.get(identity, 0)
        self._doubted[identity] = times + 1
        if not times:
            self._background.start(self._clear_up(identity, reason))

    async def _free(self, identity: str, ours: str, filled: Decimal) -> None:
        """An order has ended with this size, all else of it is unclear: an exit needs to know no more, and goes on."""
        order = await self._look_at_end(identity, ours, filled)
        filled = max(filled, order.filled_size) if order is not None else filled
        began, pause = time.monotonic(), _FIRST_PAUSE
        while time.monotonic() - began < _ASKED_ON_SECONDS:
            with suppress(*DATABASE_TROUBLE):
                entry_key = await free_what_is_unsold(self._pool, self._account, identity, ours, filled)
                if entry_key:
                    await self._tell_monitor(entry_key)
                if entry_key is not None:
                    return
            # The journal has an order by the exchange's id only once its sending has been answered.
            await asyncio.sleep(pause)
            pause = min(60.0, 2 * pause)

    async def _tell_of_freed(self) -> None:
        """A reader may have ended between freeing a claim and telling the exit monitor that waits for it."""
        with suppress(*DATABASE_TROUBLE):
            for row in await self._pool.fetch(_FREED, self._account):
                await self._tell_monitor(row["entry_key"])

    async def _tell_monitor(self, entry_key: str) -> None:
        with suppress(RPCError):
            monitor = self._client.get_workflow_handle(exit_workflow_id(entry_key))
            await monitor.signal("position_changed", rpc_timeout=_RPC_TIMEOUT)

    async def _look_at_end(self, identity: str, ours: str, told: Decimal) -> VenueOrder | None:
        """The order by REST, which shows how it has ended; None if it doesn't in time, and is asked on beside.

        The stream may tell an end (mostly one by a cancel) with the size before the last fill (`told`, base), and who
        sells next sells what this one has not. So a sell of a trade is waited for longer where others have of its coin:
        elsewhere the exchange refuses what is not there. `identity` is the exchange's id, `ours` our own, empty if
        it is not known.
        """
        asking = self._ends.get(identity)
        if asking is None:
            asking = self._ends[identity] = self._background.start(self._ask_for_end(identity, told))
            asking.add_done_callback(lambda _: self._ends.pop(identity, None))
        await asyncio.wait({asking}, timeout=_LOOK_AT_END)
        if not asking.done() and await self._others_have(identity, ours):
            await asyncio.wait({asking}, timeout=_LOOK_WHERE_OTHERS_HAVE - _LOOK_AT_END)
        answered = asking.done() and not asking.cancelled() and asking.exception() is None
        return asking.result() if answered else None

    async def _others_have(self, identity: str, ours: str) -> bool:
        try:
            return await others_have(self._pool, self._account, identity, ours)
        except DATABASE_TROUBLE as problem:
            log.warning("not known whose coins an order sells", exchange_order_id=identity, problem=repr(problem))
            return True

    async def _ask_for_end(self, identity: str, told: Decimal) -> VenueOrder | None:
        """Ask for an order that was told to have ended until an answer shows it; observed where it has filled more."""
        began, pause = time.monotonic(), _FIRST_PAUSE
        while (waited := time.monotonic() - began) < _ASKED_ON_SECONDS:
            with suppress(ExchangeError, OSError, TimeoutError):
                # Who waits is not behind what others ask; later there is time.
                async with self._slots if waited > _LOOK_WHERE_OTHERS_HAVE else nullcontext():
                    async with asyncio.timeout(self._options.call_timeout):
                        order = await self._exchange.order(identity)
                if order is not None and shows_end(_report(order), told):
                    if order.filled_size > told:
                        log.warning("an order has filled more than its end told", exchange_order_id=identity)
                        await self._observe(order)
                        await self._all_stored()
                    return order
            await asyncio.sleep(pause)
            pause = min(60.0, 2 * pause)
        return None

    async def _clear_up(self, identity: str, reason: str) -> None:
        """Until REST tells what the stream (or a list) did not; an incident where it doesn't either."""
        failures = 0
        while True:
            times = self._doubted[identity]
            try:
                async with self._slots, asyncio.timeout(self._options.call_timeout):
                    order = await self._exchange.order(identity)
                if order is not None and self._lags(order):
                    raise Unavailable("the answer is older than what the stream has told")
            except (ExchangeError, OSError, TimeoutError) as problem:
                failures += 1
                log.warning("an order is unclear", exchange_order_id=identity, reason=reason, problem=repr(problem))
                if failures >= _UNCLEAR_AFTER:
                    with suppress(*DATABASE_TROUBLE):
                        await self._unclear.tell(
                            identity,
                            f"What the exchange says of order {identity} can't be understood ({reason}), and asking "
                            f"for it by its id doesn't help ({problem}): nothing of it is booked, the rest goes on.",
                        )
                await asyncio.sleep(min(60.0, 0.25 * 2 ** min(failures, 8)))
                continue
            if order is not None:
                await self._observe(order)
            if times == self._doubted[identity]:
                break
        del self._doubted[identity]
        self._sizes.pop(identity, None)
        self._ended.discard(identity)
        await self._unclear.over(identity)

    def _lags(self, order: VenueOrder) -> bool:
        told = self._sizes.get(order.exchange_order_id, ZERO)
        if order.exchange_order_id in self._ended:
            return not shows_end(_report(order), told)
        return order.filled_size < told

    async def _confirm(self) -> None:
        """While the stream is whole, move on the time up to which everything is known."""
        while True:
            breaks = self._breaks
            asked: datetime | None = None
            with suppress(ExchangeError, OSError, TimeoutError):
                async with asyncio.timeout(self._options.call_timeout):
                    asked = min(await self._exchange.server_time(), datetime.now(UTC))
            events = self._events
            await asyncio.sleep(self._options.confirm_seconds)
            whole = self._position.connected and breaks == self._breaks == self._caught_up_at_break
            # Something came after the exchange told its time, so everything before that time had come too.
            if whole and asked is not None and self._events > events:
                self._position.caught_up_to = max(asked, self._position.caught_up_to or asked)

    # --- the account, and what people see -------------------------------------------------------------------------

    async def _read_balances(self) -> None:
        """Balances, and the exchange's own executions: regularly, and a little after fills and ends, when it has booked
        them.
        """
        while True:
            with suppress(*DATABASE_TROUBLE):
                await self._account_reader.balances()
                await settle_fills(
                    self._pool,
                    self._exchange,
                    self._account,
                    look_back=timedelta(seconds=self._options.longest_look_back_seconds),
                    timeout=self._options.call_timeout,
                )
            if await hinted(self._balance_hint, self._options.balance_seconds):
                await asyncio.sleep(self._options.balance_after_fill_seconds)
            self._balance_hint.clear()

    async def _save(self) -> None:
        await self._position.save(self._pool, self._lease)
        if self._failures >= self._options.alert_after_failures:
            await self._outage.tell(
                self._account,
                f"The user stream of account {self._account} is down, {self._failures} failures in a row "
                f"({self._failure_reason}); fills are learned by REST once it is back.",
                {"failures": self._failures, "reason": self._failure_reason},
            )
        elif self._failures == 0:
            await self._outage.over(self._account)

    async def _beat(self) -> None:
        while True:
            self._heartbeat(
                {
                    **self._position.document(self._lease.epoch),
                    "waiting": self._router.waiting,
                    "signalled": self._router.signalled,
                    "recorded": self._router.recorded,
                    "adopted": self._router.adopted,
                }
            )
            await asyncio.sleep(1.0)
