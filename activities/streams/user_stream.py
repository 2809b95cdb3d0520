"""The user stream: the account's own orders, from the exchange to the workflows; one reader per account (INGEST-1, 2;
LIFE-5, 9).

Stream and REST use one handler: each report is stored as a fact, then routed. After every connect and every gap, REST
fills in: all orders since the time up to which everything is known, less an overlap, and each open attempt of the
journal. Totals are cumulative, so repeats change nothing.

Long on purpose: it is one session, of which reading, storing, routing and catching up share what they know of the
connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from temporalio import activity
from temporalio.client import Client

from activities.database import Pool
from activities.incidents import report_incident
from activities.interfaces.streams import StreamEnd, UserStreamActivity, UserStreamInput
from activities.leases import DATABASE_TROUBLE, LeaseTerms
from activities.ledger.balances import AccountReader
from activities.ledger.exchange_fills import settle_fills
from activities.long_running import every, hinted, together, until_shutdown
from activities.measures import SILENT, Measures
from activities.obstacles import ObstacleNews
from activities.starting import Starter
from activities.streams.fact_router import FactRouter, ReportLedger
from activities.streams.facts import Fact, FactStore, Observed
from activities.streams.feeds import follow
from activities.streams.tenure import Tenure, tenure_of
from activities.streams.unclear_orders import UnclearOrders, order_ended
from domain.incidents import IncidentKind
from domain.messages import StatusSource
from domain.orders import VenueStatus
from exchange.port import (
    UNREADABLE,
    BalanceUpdate,
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
    """How often the time up to which everything is known advances while the stream has no gaps."""
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
        measures: Measures = SILENT,
    ) -> None:
        self._pool = pool
        self._exchange = exchange
        self._client = client
        self._ledger = ledger
        self._starter = starter
        self._options = options
        self._caught_up = caught_up
        self._measures = measures

    @activity.defn(name="run_user_stream")
    async def run_user_stream(self, request: UserStreamInput) -> StreamEnd:
        """Read until cancelled; the lease is given up at once when the worker shuts down."""
        await until_shutdown(self.run(request, activity.heartbeat))
        return StreamEnd(reason="ended")

    async def run(self, request: UserStreamInput, heartbeat: Callable[..., None]) -> None:
        """Read until cancelled. Raises LeaseLostError when another reader took over."""
        name, terms = user_stream_lease(request.account), self._options.lease
        async with tenure_of(name, self._pool, self._exchange, request.account, terms, heartbeat) as tenure:
            session = _Session(
                tenure,
                self._client,
                self._ledger,
                self._starter,
                self._options,
                caught_up=self._caught_up,
                measures=self._measures,
            )
            await session.run()


_Item = Observed | MalformedMessage | asyncio.Future[None]
"""The queue of facts to store; a future is done when everything before it is."""


class _Session:
    """One tenure of the lease."""

    def __init__(
        self,
        tenure: Tenure,
        client: Client,
        ledger: ReportLedger,
        starter: Starter,
        options: UserStreamOptions,
        *,
        caught_up: Callable[[], Coroutine[Any, Any, None]] | None,
        measures: Measures,
    ) -> None:
        self._tenure = tenure
        self._options = options
        self._tell_caught_up = caught_up
        self._facts = FactStore(tenure.pool, tenure.account, tenure.lease, measures)
        self._account_reader = AccountReader(
            tenure.pool, tenure.exchange, tenure.account, tenure.lease, timeout=options.call_timeout
        )
        self._router = FactRouter(
            client,
            ledger,
            starter,
            ObstacleNews(tenure.pool, client, tenure.account),
            spawn=tenure.background.start,
            routed=self._note_routed,
            defect=self._report_defect,
            at_once=options.orders_at_once,
            measures=measures,
        )
        self._queue: asyncio.Queue[_Item] = asyncio.Queue(options.queue)
        self._arrived: list[int] = []
        self._arrived_hint = asyncio.Event()
        self._catch_up_wanted = asyncio.Event()
        self._balance_hint = asyncio.Event()
        self._events = 0
        self._breaks = 0
        """Number of connections and gaps: while it is unchanged, nothing was missed."""
        self._caught_up_at_break = -1
        self._interrupted = 0
        """How often a statement about facts failed."""
        self._failures = 0
        self._failure_reason = ""
        self._slots = asyncio.Semaphore(options.reads_at_once)
        again = options.alert_repeat_seconds
        self._outage = tenure.open_incident(IncidentKind.USER_STREAM_DOWN, "CRITICAL", repeat_seconds=again)
        self._catch_up_trouble = tenure.open_incident(IncidentKind.CATCH_UP_FAILING, "CRITICAL", repeat_seconds=again)
        self._unclear = UnclearOrders(
            tenure,
            client,
            self._facts,
            self._slots,
            timeout=options.call_timeout,
            repeat_seconds=again,
            observe=self._observe,
            all_stored=self._all_stored,
        )

    async def run(self) -> None:
        """Until cancelled or the lease is lost."""
        await together(self._tenure.beat(self._counts), self._read())

    async def _read(self) -> None:
        options = self._options
        for lasting in (self._outage, self._catch_up_trouble):
            await lasting.inherit()
        for fact in await self._facts.unrouted():
            self._send_on(fact)
        await self._unclear.begin()
        await together(
            follow(self._tenure.exchange.user_stream, self._take, self._stream_broke),
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
            self._tenure.position.connected = False
            self._stream_broke(event.reason, event.failures)
            return None
        self._tenure.position.last_message_at = now
        if isinstance(event, OrderEvent):
            return self._put(Observed(event.order, StatusSource.WEBSOCKET, event.at, event.snapshot, event.sequence))
        if isinstance(event, MalformedMessage):
            self._tenure.position.malformed += 1
            self._unclear.doubt(event)
            return self._put(event)
        if isinstance(event, Connected):
            self._tenure.position.connected = True
            self._tenure.position.connections += 1
            self._breaks += 1
            self._failures = 0
            self._catch_up_wanted.set()
        elif isinstance(event, BalanceUpdate):
            self._balance_hint.set()
        elif isinstance(event, Gap):
            self._tenure.position.gaps += 1
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
        """Store facts that arrived together in one statement, then route them."""
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
                    ends = order_ended(item)
                    await self._insist(lambda: self._facts.malformed(item, ends=ends))  # noqa: B023 - awaited here
                elif isinstance(item, asyncio.Future) and not item.done():
                    item.set_result(None)

    async def _insist(self, act: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Retry until it succeeds: no fact is dropped while the lease lasts."""
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
        """Route a fact; an end short of the order's size only after a look-up of the order, or its timeout."""
        if fact.observed.source is StatusSource.WEBSOCKET and fact.ends_short and fact.ours and not fact.known:
            self._tenure.background.start(self._send_end_on(fact))
        else:
            self._router.route(fact)

    async def _send_end_on(self, fact: Fact) -> None:
        # Where it has filled more, that has gone before.
        order = fact.observed.order
        await self._unclear.look_at_end(order.exchange_order_id, order.client_order_id, order.filled_size)
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
            self._tenure.pool,
            self._tenure.account,
            IncidentKind.FACT_NOT_RECORDED,
            "CRITICAL",
            fact.order_key or order.exchange_order_id,
            f"The exchange's report of order {order.exchange_order_id} ({order.symbol}) is stored as fact {fact.id} "
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
                    account = self._tenure.account
                    self._tenure.background.start(
                        self._catch_up_trouble.tell(
                            account,
                            f"Changes of orders of account {account} during the stream's outage can't be read by "
                            f"REST ({failures} failures in a row: {problem}).",
                        )
                    )
                self._catch_up_wanted.set()
                await asyncio.sleep(min(30.0, 0.25 * 2 ** min(failures, 7)))
            else:
                failures = 0
                self._caught_up_at_break = breaks
                if self._tell_caught_up is not None:
                    self._tenure.background.start(self._tell_caught_up())
                self._tenure.background.start(self._catch_up_trouble.over(self._tenure.account))

    async def _ask_rest(self) -> None:
        options = self._options
        async with asyncio.timeout(options.call_timeout):
            # Up to a time from the future nothing is known; from one of the past more is read again.
            asked = min(await self._tenure.exchange.server_time(), datetime.now(UTC))
        live = await self._tenure.pool.fetch(_LIVE_ATTEMPTS, self._tenure.account)
        unnamed = [row["prepared_at"] for row in live if row["exchange_order_id"] is None]
        known = min(self._tenure.position.caught_up_to or asked, asked)
        since = min([known, *unnamed]) - timedelta(seconds=options.overlap_seconds)
        since = max(since, asked - timedelta(seconds=options.longest_look_back_seconds))
        async with asyncio.timeout(options.call_timeout * 4):
            unreadable: list[MalformedMessage] = []
            listed = await self._tenure.exchange.orders(since, unreadable=unreadable)
        for order in listed:
            await self._observe(order)
        for message in unreadable:
            self._unclear.doubt(message)
            await self._queue.put(message)
        missing = {row["exchange_order_id"] for row in live} - {order.exchange_order_id for order in listed} - {None}
        missing -= self._unclear.doubted

        async def look_up(exchange_order_id: str) -> None:
            try:
                async with self._slots, asyncio.timeout(options.call_timeout):
                    order = await self._tenure.exchange.order(exchange_order_id)
            except Unavailable as problem:
                if problem.code != UNREADABLE:
                    raise
                # It is asked for again beside, until it can be read; all others don't wait for that.
                self._unclear.doubt_order(exchange_order_id, str(problem))
                return
            if order is not None:
                await self._observe(order)
            else:
                log.warning("the exchange does not know one of our orders", exchange_order_id=exchange_order_id)

        await asyncio.gather(*(look_up(item) for item in sorted(missing)))
        await self._all_stored()
        self._tenure.position.caught_up_to = max(asked, self._tenure.position.caught_up_to or asked)
        log.info("caught up", account=self._tenure.account, orders=len(listed), looked_up=len(missing))

    async def _observe(self, order: VenueOrder) -> None:
        await self._queue.put(Observed(order, StatusSource.ORDER_HISTORY, datetime.now(UTC)))

    async def _all_stored(self) -> None:
        """Wait until everything observed so far is stored and being routed."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put(stored)
        await stored

    async def _confirm(self) -> None:
        """While the stream has no gaps, advance the time up to which everything is known."""
        while True:
            breaks = self._breaks
            asked: datetime | None = None
            with suppress(ExchangeError, OSError, TimeoutError):
                async with asyncio.timeout(self._options.call_timeout):
                    asked = min(await self._tenure.exchange.server_time(), datetime.now(UTC))
            events = self._events
            await asyncio.sleep(self._options.confirm_seconds)
            whole = self._tenure.position.connected and breaks == self._breaks == self._caught_up_at_break
            # Something came after the exchange told its time, so everything before that time had come too.
            if whole and asked is not None and self._events > events:
                self._tenure.position.caught_up_to = max(asked, self._tenure.position.caught_up_to or asked)

    # --- the account, and what people see -------------------------------------------------------------------------

    async def _read_balances(self) -> None:
        """Balances, and the exchange's own executions: regularly, and a little after fills and ends, when it has booked
        them.
        """
        while True:
            with suppress(*DATABASE_TROUBLE):
                await self._account_reader.balances()
                await settle_fills(
                    self._tenure.pool,
                    self._tenure.exchange,
                    self._tenure.account,
                    look_back=timedelta(seconds=self._options.longest_look_back_seconds),
                    timeout=self._options.call_timeout,
                )
            if await hinted(self._balance_hint, self._options.balance_seconds):
                await asyncio.sleep(self._options.balance_after_fill_seconds)
            self._balance_hint.clear()

    async def _save(self) -> None:
        await self._tenure.save_position()
        if self._failures >= self._options.alert_after_failures:
            await self._outage.tell(
                self._tenure.account,
                f"The user stream of account {self._tenure.account} is down, {self._failures} failures in a row "
                f"({self._failure_reason}); fills are read by REST once it is back.",
                {"failures": self._failures, "reason": self._failure_reason},
            )
        elif self._failures == 0:
            await self._outage.over(self._tenure.account)

    def _counts(self) -> dict[str, int]:
        return {
            "waiting": self._router.waiting,
            "signalled": self._router.signalled,
            "recorded": self._router.recorded,
            "adopted": self._router.adopted,
        }
