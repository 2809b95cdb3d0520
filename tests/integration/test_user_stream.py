"""The user stream with real PostgreSQL and Temporal: no fact is lost, and none has an effect twice."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from activities.database import Pool, create_pool
from activities.interfaces.streams import UserStreamInput
from activities.leases import LeaseLostError, LeaseTerms, acquire
from activities.ledger.balances import keep_balances
from activities.ledger.holdings import others_have
from activities.ledger.record import LedgerWriter
from activities.starting import Starter
from activities.streams import unclear_orders
from activities.streams.facts import FactStore, Observed
from activities.streams.user_stream import UserStream, UserStreamOptions, user_stream_lease
from domain.messages import OrderIntent, OrderUpdate, StatusSource
from domain.orders import AttemptStatus, OrderRole, OrderType, Side, VenueStatus
from exchange.port import (
    Balance,
    BalanceUpdate,
    Disconnected,
    Exchange,
    Gap,
    Heartbeat,
    MalformedMessage,
    OrderEvent,
    OrderRequest,
)
from exchange.streams import ReconnectSettings
from tests.support.conformance import COINBASE, VENUES, Trial, Venue, trial
from tests.support.fake_exchange import FakeExchange, order
from tests.support.ledger_rows import ACCOUNT, add_order, add_trade, cut_connections, intent, open_books, until
from tests.support.recording_workflows import RecordingMonitor, RecordingOrder
from workflows.streams import UserStreamWorkflow

OPTIONS = UserStreamOptions(
    lease=LeaseTerms(seconds=2.0, renew_seconds=0.5, wait_seconds=0.05),
    save_seconds=0.1,
    balance_seconds=3600.0,  # no regular read may take the place of one that has a reason
    balance_after_fill_seconds=0.05,
    confirm_seconds=0.2,
)


@dataclass
class World:
    """Everything around a user stream."""

    pool: Pool
    client: Client
    exchange: FakeExchange
    queue: str
    beats: list[dict[str, Any]]

    def stream(
        self,
        client: Client | None = None,
        options: UserStreamOptions = OPTIONS,
        exchange: Exchange | None = None,
    ) -> UserStream:
        """The activity's implementation."""
        client = client or self.client
        starter = Starter(self.pool, client, task_queue=self.queue)
        return UserStream(
            self.pool, exchange or self.exchange, client, LedgerWriter(self.pool, ACCOUNT), starter, options
        )

    @asynccontextmanager
    async def running(self, client: Client | None = None) -> AsyncIterator[asyncio.Task[None]]:
        """A running reader during the block."""
        before = len(self.exchange.user_streams)
        task = asyncio.create_task(self.stream(client).run(UserStreamInput(account=ACCOUNT), self.beats.append))
        try:
            await until(lambda: truth(task.done() or len(self.exchange.user_streams) > before))
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def order_workflow(self, wanted: OrderIntent) -> WorkflowHandle[Any, Any]:
        """A running order."""
        return await self.client.start_workflow(
            RecordingOrder.run, wanted, id=f"order-{wanted.order_key}", task_queue=self.queue
        )

    async def unrouted(self) -> int:
        """Facts that have not been routed."""
        return int(await self.pool.fetchval("SELECT count(*) FROM raw_facts WHERE routed_at IS NULL"))


async def truth(value: object) -> bool:
    """For `until`."""
    return bool(value)


@pytest_asyncio.fixture
async def world(database: str, temporal_client: Client) -> AsyncIterator[World]:
    """A database, an exchange, and a worker with recording workflows."""
    pool = await create_pool(database)
    queue = f"orders-{uuid.uuid4().hex[:8]}"
    async with Worker(temporal_client, task_queue=queue, workflows=[RecordingOrder, RecordingMonitor]):
        yield World(pool, temporal_client, FakeExchange(), queue, [])
    await pool.close()


async def told(handle: WorkflowHandle[Any, Any]) -> list[OrderUpdate]:
    """The messages to the order's workflow."""
    return await handle.query(RecordingOrder.updates)


async def test_a_report_is_stored_and_reaches_its_workflow(world: World) -> None:
    """Each report is a fact first, then a signal with the journal's attempt number and the totals."""
    wanted = intent("a")
    name = await add_order(world.pool, wanted, exchange_order_id="x-1")
    handle = await world.order_workflow(wanted)
    async with world.running():
        world.exchange.push_order(order("x-1", name, status=VenueStatus.OPEN, size="0.4", fees="0.1"))
        await until(lambda: told(handle))
        await until(lambda: truth_of_count(world))
    updates = await told(handle)
    assert [(u.attempt, u.status, u.filled_size, u.filled_value, u.quote_fees) for u in updates][-1] == (
        1,
        AttemptStatus.OPEN,
        Decimal("0.4"),
        Decimal("40.0"),
        Decimal("0.1"),
    )
    fact = await world.pool.fetchrow("SELECT * FROM raw_facts WHERE source = 'websocket'")
    assert fact["client_order_id"] == name
    assert Observed.of_document(fact["body"]).order.filled_size == Decimal("0.4")


async def truth_of_count(world: World) -> bool:
    """Whether this many facts have all been routed."""
    return await world.unrouted() == 0


async def test_many_updates_of_one_order_become_few_signals(world: World) -> None:
    """While a signal is under way newer totals replace the waiting one, and the last totals are always sent."""
    wanted = intent("a")
    name = await add_order(world.pool, wanted, exchange_order_id="x-1")
    handle = await world.order_workflow(wanted)
    async with world.running():
        for n in range(1, 301):
            world.exchange.push_order(order("x-1", name, size=f"{n / 300:.6f}"))
        world.exchange.push_order(order("x-1", name, size="1", status=VenueStatus.FILLED))
        await until(lambda: truth_of_count(world))
        await until(lambda: all_stored(world, 301))
    updates = await told(handle)
    assert (updates[-1].filled_size, updates[-1].status) == (Decimal(1), AttemptStatus.FILLED)
    assert len(updates) < 150


async def all_stored(world: World, count: int) -> bool:
    """Whether at least `count` facts are stored and all have been routed."""
    stored = await world.pool.fetchval("SELECT count(*) FROM raw_facts WHERE source = 'websocket'")
    return stored >= count and await world.unrouted() == 0


async def test_a_late_fill_of_an_ended_workflow_is_recorded_and_protected(world: World) -> None:
    """Without a workflow to signal, the ledger records the fill itself and the position gets its monitor."""
    wanted = intent("a")
    name = await add_order(world.pool, wanted, exchange_order_id="x-1")
    async with world.running():
        world.exchange.push_order(order("x-1", name, size="1", status=VenueStatus.FILLED))
        await until(lambda: world.pool.fetchval("SELECT remaining FROM trades WHERE entry_key = $1", wanted.order_key))
        handle = world.client.get_workflow_handle(f"exit-{wanted.order_key}")
        start = await until(lambda: monitor_start(handle))
        await until(lambda: truth_of_count(world))
    assert (start.symbol, start.size, start.entry_price) == ("BTC-USD", Decimal(1), Decimal(100))


async def monitor_start(handle: WorkflowHandle[Any, Any]) -> Any:
    """The monitor's input, once it is started."""
    try:
        return await handle.query(RecordingMonitor.start)
    except Exception:  # noqa: BLE001 - it does not exist yet
        return None


async def test_a_fill_while_the_stream_was_down_is_found_by_rest(world: World) -> None:
    """After a reconnect and after a gap, REST has what the stream missed, by list and by order."""
    old = datetime.now(UTC) - timedelta(days=20)
    first, second = intent("a"), intent("b")
    names = [
        await add_order(world.pool, first, exchange_order_id="x-1"),
        await add_order(world.pool, second, exchange_order_id="x-2"),
    ]
    handles = [await world.order_workflow(item) for item in (first, second)]
    # Filled before the stream was open, and too old for the list: only a read of the order itself finds it.
    world.exchange.history["x-1"] = order("x-1", names[0], size="1", status=VenueStatus.FILLED, at=old)
    async with world.running():
        assert (await until(lambda: told(handles[0])))[-1].source is StatusSource.ORDER_HISTORY
        stream = world.exchange.user_streams[-1]
        stream.push(Disconnected("cut", 0, 0.1, datetime.now(UTC)))
        world.exchange.history["x-2"] = order("x-2", names[1], size="0.3", status=VenueStatus.CANCELLED)
        stream.push(Gap(5, 9, datetime.now(UTC)))
        update = (await until(lambda: told(handles[1])))[-1]
        assert (update.filled_size, update.status) == (Decimal("0.3"), AttemptStatus.CANCELLED)
        position = await until(lambda: caught_up(world))
    assert position["gaps"] == 1


async def test_one_order_that_cant_be_read_by_its_id_holds_up_no_catch_up(world: World) -> None:
    """All others are found and the position advances; that one is requested until it can be read."""
    old = datetime.now(UTC) - timedelta(days=20)
    wanted = [intent("a"), intent("b")]
    names = [await add_order(world.pool, item, exchange_order_id=f"x-{n}") for n, item in enumerate(wanted)]
    handles = [await world.order_workflow(item) for item in wanted]
    for number, name in enumerate(names):
        found = order(f"x-{number}", name, size="1", status=VenueStatus.FILLED, at=old)
        world.exchange.history[found.exchange_order_id] = found
    world.exchange.unreadable_orders.add("x-0")
    async with world.running():
        await until(lambda: told(handles[1]))
        await until(lambda: world.pool.fetchval("SELECT caught_up_to FROM stream_positions"))
        assert not await told(handles[0])
        world.exchange.unreadable_orders.clear()
        assert (await until(lambda: told(handles[0])))[-1].filled_size == 1


async def caught_up(world: World) -> Any:
    """The position's row, once a catch-up is complete and written."""
    return await world.pool.fetchrow("SELECT * FROM stream_positions WHERE caught_up_to IS NOT NULL AND gaps > 0")


async def test_while_the_stream_is_whole_what_is_known_moves_on(world: World) -> None:
    """The time up to which everything is known follows the exchange's clock, so that a catch-up never grows."""
    read = "SELECT caught_up_to FROM stream_positions"
    async with world.running():
        first = await until(lambda: world.pool.fetchval(read))

        async def moved() -> bool:
            world.exchange.user_streams[-1].push(Heartbeat(1, datetime.now(UTC)))
            return bool(await world.pool.fetchval(read) > first)

        await until(moved)
        world.exchange.user_streams[-1].push(Disconnected("cut", 0, 0.1, datetime.now(UTC)))
        await until(lambda: world.pool.fetchval("SELECT NOT connected FROM stream_positions"))
        held = await world.pool.fetchval(read)
        calls = world.exchange.calls.count("server_time")
        await until(lambda: truth(world.exchange.calls.count("server_time") >= calls + 3))
        assert await world.pool.fetchval(read) - held < timedelta(seconds=OPTIONS.confirm_seconds)


async def test_catch_up_goes_on_until_rest_answers(world: World) -> None:
    """An exchange that does not answer delays a catch-up and nothing else."""
    wanted = intent("a")
    name = await add_order(world.pool, wanted, exchange_order_id="x-1")
    handle = await world.order_workflow(wanted)
    world.exchange.history["x-1"] = order("x-1", name, size="1", status=VenueStatus.FILLED)
    world.exchange.unavailable = True
    async with world.running():
        await until(lambda: truth(world.exchange.calls.count("server_time") >= 3))
        assert await told(handle) == []
        world.exchange.unavailable = False
        assert (await until(lambda: told(handle)))[-1].filled_size == 1


async def test_an_order_that_is_not_ours_is_adopted(world: World) -> None:
    """An external order is recorded without a workflow, and a repeat changes nothing."""
    async with world.running():
        for size in ("0.5", "1", "1"):
            world.exchange.push_order(order("x-9", "somebody-elses", size=size))
        await until(lambda: all_stored(world, 3))
    rows = await world.pool.fetch("SELECT role, filled_size FROM orders")
    assert [(row["role"], row["filled_size"]) for row in rows] == [("EXTERNAL", Decimal(1))]
    assert await world.pool.fetchval("SELECT sum(size) FROM fills") == 1


async def test_a_strangers_order_under_our_id_is_not_taken_for_ours(world: World) -> None:
    """The journal decides whose order it is: our id under another exchange id is another order."""
    wanted = intent("a")
    name = await add_order(world.pool, wanted, exchange_order_id="x-1")
    handle = await world.order_workflow(wanted)
    async with world.running():
        world.exchange.push_order(order("x-2", name, size="1", status=VenueStatus.FILLED))
        await until(lambda: all_stored(world, 1))
    assert await told(handle) == []
    assert await world.pool.fetchval("SELECT count(*) FROM orders WHERE role = 'EXTERNAL'") == 1


async def test_what_makes_no_sense_is_kept_and_stops_nothing(world: World) -> None:
    """A malformed message and one that no database accepts are stored, counted, and the next report is routed."""
    wanted = intent("a")
    name = await add_order(world.pool, wanted, exchange_order_id="x-1")
    handle = await world.order_workflow(wanted)
    async with world.running():
        stream = world.exchange.user_streams[-1]
        stream.push(MalformedMessage('{"half": "a \x00 \ud800', "not JSON", datetime.now(UTC)))
        world.exchange.push_order(order("x-1", name, size="0.1"))
        await until(lambda: told(handle))
        kept = await until(lambda: world.pool.fetchrow("SELECT * FROM raw_facts WHERE kind = 'malformed'"))
        assert kept["body"]["reason"] == "not JSON"
        await until(lambda: world.pool.fetchval("SELECT malformed = 1 FROM stream_positions"))


async def test_facts_of_a_crashed_reader_are_routed_by_the_next(world: World) -> None:
    """While Temporal is down facts are stored; the next reader routes them."""
    wanted = intent("a")
    name = await add_order(world.pool, wanted, exchange_order_id="x-1")
    handle = await world.order_workflow(wanted)
    nowhere = await Client.connect("127.0.0.1:1", lazy=True, data_converter=pydantic_data_converter)
    async with world.running(nowhere):
        world.exchange.push_order(order("x-1", name, size="1", status=VenueStatus.FILLED))
        await until(world.unrouted)
    world.exchange.history.clear()  # only the stored fact has the fill
    async with world.running():
        assert (await until(lambda: told(handle)))[-1].filled_size == 1
        await until(lambda: truth_of_count(world))


async def test_reports_during_a_cut_of_the_database_arrive(world: World) -> None:
    """Reports received while every database connection is cut are stored and routed as soon as there is one again."""
    wanted = intent("a")
    name = await add_order(world.pool, wanted, exchange_order_id="x-1")
    handle = await world.order_workflow(wanted)
    async with world.running() as running:
        world.exchange.push_order(order("x-1", name, size="0.1"))
        await until(lambda: told(handle))
        await cut_connections(world.pool)
        world.exchange.push_order(order("x-1", name, size="1", status=VenueStatus.FILLED))
        await until(lambda: all_stored(world, 2))
        assert (await told(handle))[-1].filled_size == 1
        assert not running.done(), "the lease was kept"


async def test_a_stalled_reader_stores_nothing(world: World) -> None:
    """A reader whose lease has another holder by now is refused by the database."""
    stalled = await acquire(world.pool, user_stream_lease(ACCOUNT), "stalled", OPTIONS.lease)
    assert stalled is not None
    await world.pool.execute("UPDATE leases SET epoch = epoch + 1")
    store = FactStore(world.pool, ACCOUNT, stalled)
    seen = Observed(order("x-1", "a"), StatusSource.WEBSOCKET, datetime.now(UTC))
    try:
        await store.commit([seen])
    except LeaseLostError:
        pass
    else:
        raise AssertionError("it was stored")
    assert await world.pool.fetchval("SELECT count(*) FROM raw_facts") == 0


async def test_balances_and_fees_are_kept(world: World) -> None:
    """Balances are read at the start and after fills, with the times of request and answer; removed ones are empty."""
    world.exchange.money = {
        "USD": Balance("USD", Decimal("900.5"), Decimal(100)),
        "BTC": Balance("BTC", Decimal(1), Decimal(0)),
    }
    async with world.running():
        await until(lambda: world.pool.fetchval("SELECT count(*) = 2 FROM balances"))
        await until(lambda: world.pool.fetchval("SELECT maker = 0.004 FROM fee_rates"))
        del world.exchange.money["BTC"]
        world.exchange.push_order(order("x-9", "other", size="1"))
        await until(lambda: world.pool.fetchval("SELECT available = 0 FROM balances WHERE currency = 'BTC'"))
    row = await world.pool.fetchrow("SELECT * FROM balances WHERE currency = 'USD'")
    assert row["available"] == Decimal("900.5")
    assert row["asked_at"] <= row["answered_at"]


async def test_what_an_ended_order_gives_back_is_read(world: World) -> None:
    """An order that ends without a fill had a hold: it is available again without waiting for the next read."""
    world.exchange.money = {"USD": Balance("USD", Decimal(900), Decimal(100))}
    async with world.running():
        await until(lambda: world.pool.fetchval("SELECT hold = 100 FROM balances"))
        world.exchange.money = {"USD": Balance("USD", Decimal(1000), Decimal(0))}
        world.exchange.push_order(order("x-9", "other", status=VenueStatus.CANCELLED))
        await until(lambda: world.pool.fetchval("SELECT (available, hold) = (1000, 0) FROM balances"))


async def test_a_change_of_balances_that_the_stream_tells_is_read_at_once(world: World) -> None:
    """Where the venue tells it: a deposit is known without waiting for the next regular read."""
    world.exchange.money = {"USD": Balance("USD", Decimal(900), Decimal(0))}
    async with world.running():
        await until(lambda: world.pool.fetchval("SELECT available = 900 FROM balances"))
        world.exchange.money = {"USD": Balance("USD", Decimal(1000), Decimal(0))}
        world.exchange.user_streams[-1].push(BalanceUpdate(world.exchange.money, datetime.now(UTC)))
        await until(lambda: world.pool.fetchval("SELECT available = 1000 FROM balances"))


async def test_an_outage_is_told_once_and_resolved(world: World) -> None:
    """Ten consecutive failures are an incident, resolved when the stream is back."""
    async with world.running():
        stream = world.exchange.user_streams[-1]
        for failures in (9, 10, 11, 12):
            stream.push(Disconnected("refused", failures, 0.1, datetime.now(UTC)))
        await until(lambda: world.pool.fetchval("SELECT count(*) = 1 FROM incidents WHERE kind = 'user_stream_down'"))
        stream.push(type(stream)()._events.get_nowait())
        await until(lambda: world.pool.fetchval("SELECT count(*) = 1 FROM incidents WHERE resolved_at IS NOT NULL"))
    assert await world.pool.fetchval("SELECT count(*) FROM incidents") == 1


async def test_a_worker_that_shuts_down_hands_over_at_once(world: World) -> None:
    """The workflow's activity releases its lease on shutdown, and another worker continues within seconds."""
    queue = f"streams-{uuid.uuid4().hex[:8]}"
    long = UserStreamOptions(lease=LeaseTerms(seconds=30, renew_seconds=1, wait_seconds=0.05), save_seconds=0.1)

    async def worker() -> Worker:
        # A process has its own client.
        address = world.client.service_client.config.target_host
        return Worker(
            await Client.connect(address, data_converter=pydantic_data_converter),
            task_queue=queue,
            workflows=[UserStreamWorkflow],
            activities=[world.stream(options=long).run_user_stream],
            graceful_shutdown_timeout=timedelta(seconds=5),
            max_heartbeat_throttle_interval=timedelta(seconds=1),
        )

    first, second = await worker(), await worker()
    running = asyncio.create_task(first.run())
    handle = await world.client.start_workflow(
        UserStreamWorkflow.run, UserStreamInput(account=ACCOUNT), id=f"user-stream-{queue}", task_queue=queue
    )
    await until(lambda: truth(world.exchange.user_streams))
    standby = asyncio.create_task(second.run())
    started = time.monotonic()
    await first.shutdown()
    await running
    await until(lambda: truth(len(world.exchange.user_streams) == 2), seconds=15)
    assert time.monotonic() - started < 10
    assert await world.pool.fetchval("SELECT epoch FROM leases") == 2
    state = await handle.query(UserStreamWorkflow.state)
    assert state.runs == 1, "the hand-over is a retry of the same activity and leaves no history"
    await handle.terminate()
    await second.shutdown()
    await standby


@asynccontextmanager
async def resting_at_paper(
    world: World, venue: Venue = COINBASE
) -> AsyncIterator[tuple[Trial, WorkflowHandle[Any, Any], str]]:
    """A venue's real adapter with its paper exchange, where an order for 0.1 rests: both, its workflow and id."""
    async with trial(venue) as at:
        exchange = at.another(streams=ReconnectSettings(backoff_first=0.05, backoff_cap=0.2))
        wanted = intent("a", symbol=at.symbol)
        name = await add_order(world.pool, wanted)
        handle = await world.order_workflow(wanted)
        stream = world.stream(exchange=exchange)
        task = asyncio.create_task(stream.run(UserStreamInput(account=ACCOUNT), world.beats.append))
        try:
            await until(lambda: truth(world.beats and world.beats[-1].get("caught_up_to")))
            request = OrderRequest(
                name, at.symbol, Side.BUY, OrderType.LIMIT, base_size=Decimal("0.1"), limit_price=Decimal(49000)
            )
            answer = await exchange.submit(exchange.order_body(request))
            await until(lambda: filled(handle, "0"))
            yield at, handle, answer.exchange_order_id
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await exchange.close()


@pytest.mark.parametrize("venue", VENUES, ids=lambda venue: str(venue.name))
async def test_fills_at_the_paper_exchange_arrive_also_those_of_a_cut_connection(world: World, venue: Venue) -> None:
    """With each venue's real adapter: fills by stream, a fill while the sockets are cut, an external order, balances,
    and the fees that are told and booked are those of the executions.
    """
    fees = "SELECT true FROM attempts WHERE exchange_order_id = $1 AND (quote_fees, base_fees) = ($2, $3)"
    async with resting_at_paper(world, venue) as (at, handle, order_id):
        await at.control.fill(order_id, "0.04")
        await until(lambda: filled(handle, "0.04"))
        await at.control.sockets("drop", "user")
        await at.control.fill(order_id, "0.06")
        await until(lambda: filled(handle, "0.1"))
        external = await at.control.order(at.symbol, "BUY", {"market_market_ioc": {"base_size": "0.01"}})
        await until(
            lambda: world.pool.fetchval(
                "SELECT filled_size = 0.01 FROM attempts WHERE exchange_order_id = $1", external["order_id"]
            )
        )
        await until(lambda: truth_of_count(world))
        await until(lambda: world.pool.fetchval("SELECT available > 0 FROM balances WHERE currency = 'BTC'"))
        own, others = await paid_for(at, order_id), await paid_for(at, external["order_id"])
        await until(lambda: fees_told(handle, own["USD"]))
        await until(lambda: world.pool.fetchval(fees, external["order_id"], others["USD"], others["BTC"]))
        assert own["USD"] > 0
        assert others["USD"] + others["BTC"] > 0  # a person's order may pay in coins, where the venue's default is that
    assert (await told(handle))[-1].status is AttemptStatus.FILLED
    assert {update.exchange_order_id for update in await told(handle)} == {order_id}


async def paid_for(at: Trial, order_id: str) -> dict[str, Decimal]:
    """The fees of an order's executions, by currency."""
    fills = await at.exchange.fills(exchange_order_id=order_id)
    return {name: sum((item.fee for item in fills if item.fee_currency == name), Decimal(0)) for name in ("USD", "BTC")}


async def fees_told(handle: WorkflowHandle[Any, Any], fees: Decimal) -> bool:
    """Whether the order's workflow was told these fees."""
    return max(update.quote_fees for update in await told(handle)) == fees


async def test_what_the_stream_leaves_unknown_is_asked_for(world: World) -> None:
    """A fill without a price, an unreadable side, no orders at all: REST has the answer, or an incident says that it
    doesn't; nothing is booked without a price, and the rest continues.
    """
    async with resting_at_paper(world) as (at, handle, order_id):
        control = at.control
        for kind, size in (("no_price", "0.01"), ("unknown_side", "0.02"), ("null_orders", "0.03")):
            await control.fault(kind)
            await control.fill(order_id, "0.01")
            await until(lambda size=size: filled(handle, size))  # type: ignore[misc]
        assert not await world.pool.fetchval("SELECT count(*) FROM incidents WHERE kind = 'order_unclear'")
        fault = await control.fault("strange_rows", "GET /orders/historical/*", count=None)
        await control.fault("no_price")
        await control.fill(order_id, "0.01")
        unclear = "SELECT sentence FROM incidents WHERE kind = 'order_unclear' AND (resolved_at IS NULL) = $1"
        assert "without a price" in await until(lambda: world.pool.fetchval(unclear, True))
        assert not await filled(handle, "0.04")
        await control.sockets("drop", "user")  # the list that is then requested has an unreadable row, too
        other = await control.order("BTC-USD", "BUY", {"market_market_ioc": {"base_size": "0.01"}})
        adopted = "SELECT filled_size = 0.01 FROM attempts WHERE exchange_order_id = $1"
        await control.clear_faults(fault)
        await until(lambda: world.pool.fetchval(adopted, other["order_id"]))
        await until(lambda: filled(handle, "0.04"))
        await until(lambda: world.pool.fetchval(unclear, False))
    assert all(update.filled_value == update.filled_size * 49000 for update in await told(handle))


@pytest.mark.parametrize("lags", ["lives", "less"])
@pytest.mark.parametrize("status", [VenueStatus.CANCELLED, VenueStatus.EXPIRED, VenueStatus.FAILED, VenueStatus.FILLED])
async def test_an_end_is_sent_on_with_what_the_order_itself_has_filled(
    world: World, monkeypatch: pytest.MonkeyPatch, status: VenueStatus, lags: str
) -> None:
    """The stream reports an end, of any kind, without the last fill; while the order's answers are older than that
    nothing is sent on, and the first that shows the end goes before the stream's report.
    """
    monkeypatch.setattr(unclear_orders, "_LOOK_AT_END", 20.0)
    wanted = intent("a")
    name = await add_order(world.pool, wanted, exchange_order_id="x-1")
    handle = await world.order_workflow(wanted)
    old = VenueStatus.OPEN if lags == "lives" else status
    world.exchange.history["x-1"] = order("x-1", name, size="0.1")
    async with world.running():
        await until(lambda: filled(handle, "0.1"))
        world.exchange.history["x-1"] = order("x-1", name, status=old, size="0.4" if lags == "lives" else "0.3")
        world.exchange.calls.clear()
        end = order("x-1", name, status=status, size="0.4")
        world.exchange.user_streams[-1].push(OrderEvent(end, False, 0, datetime.now(UTC)))
        await until(lambda: truth(world.exchange.calls.count("order x-1") >= 3))
        assert not any(update.status.final for update in await told(handle))
        world.exchange.history["x-1"] = order("x-1", name, status=status, size="0.7")
        await until(lambda: ended(handle))
        await until(lambda: truth_of_count(world))
    assert next(item.filled_size for item in await told(handle) if item.status.final) == Decimal("0.7")


async def test_the_end_of_a_whole_order_is_not_looked_at(world: World) -> None:
    """FILLED with all of the order's size can't have filled more: it is sent on at once."""
    wanted = intent("a")
    name = await add_order(world.pool, wanted, exchange_order_id="x-1")
    handle = await world.order_workflow(wanted)
    world.exchange.history["x-1"] = order("x-1", name, size="0.1")
    async with world.running():
        await until(lambda: filled(handle, "0.1"))
        world.exchange.calls.clear()
        end = order("x-1", name, status=VenueStatus.FILLED, size="1")
        world.exchange.user_streams[-1].push(OrderEvent(end, False, 0, datetime.now(UTC)))
        await until(lambda: ended(handle))
    assert "order x-1" not in world.exchange.calls


async def test_others_have_of_a_coin_where_anything_of_it_is_not_the_sellers(world: World) -> None:
    """A sell can take coins that are not its trade's if another trade, the pool or a working entry has some, or if that
    is unknown (such as with an order missing in the journal); dust of closed trades doesn't count, and buys are not
    checked. A sell whose sending isn't answered yet is known by our id.
    """
    key = await add_trade(world.pool, "a")
    sell = intent("s", side=Side.SELL, role=OrderRole.EXIT, entry_key=key)
    name = await add_order(world.pool, sell)

    async def have(order_id: str = "x-s", client_order_id: str = name) -> bool:
        return await others_have(world.pool, ACCOUNT, order_id, client_order_id)

    async def now_opened_with(size: str) -> None:
        await world.pool.execute("UPDATE balance_transfers SET amount = $1, found = $1", Decimal(size))

    assert await have()
    await open_books(world.pool, ACCOUNT, BTC="1")
    assert not await have()
    assert await have(client_order_id="")
    await world.pool.execute("UPDATE attempts SET exchange_order_id = 'x-s' WHERE client_order_id = $1", name)
    assert not await have()
    assert not await have(client_order_id="")
    assert await have("somebody-elses")
    assert not await have("x-a", "")
    await now_opened_with("1.009")
    assert not await have()
    other = await add_trade(world.pool, "b")
    assert await have()
    await world.pool.execute("UPDATE trades SET state = 'CLOSED' WHERE entry_key = $1", other)
    assert not await have()
    buy = intent("c")
    await add_order(world.pool, buy, exchange_order_id="x-c")
    assert await have()
    await world.pool.execute("UPDATE orders SET finished = true WHERE order_key = $1", buy.order_key)
    assert not await have()
    asked = datetime.now(UTC)
    for held, others in (("1", False), ("1.5", True), ("0.4", False)):  # the exchange's answer, a deposit in one
        asked += timedelta(milliseconds=1)
        await keep_balances(world.pool, ACCOUNT, {"BTC": Balance("BTC", Decimal(0), Decimal(held))}, asked, asked)
        assert await have() is others
    await now_opened_with("1.5")
    assert await have()


@pytest.mark.parametrize("reader", ["the same", "the next"])
async def test_an_end_of_an_order_that_is_not_known_yet_frees_its_claim_once_it_is(world: World, reader: str) -> None:
    """An end without a price names our order by the exchange's id only, before its sending is answered: its unsold size
    is released once the journal has that id, and the monitor is signalled, also if the reader has died meanwhile and no
    read works.
    """
    key = await add_trade(world.pool, "a")
    name = await add_order(world.pool, intent("s", side=Side.SELL, role=OrderRole.EXIT, entry_key=key))
    await world.pool.execute("UPDATE orders SET claimed_base = 1 WHERE entry_key = $1 AND side = 'SELL'", key)
    claimed = "SELECT claimed_base FROM orders WHERE entry_key = $1 AND side = 'SELL'"
    assert await Starter(world.pool, world.client, task_queue=world.queue).monitor(key)
    monitor = world.client.get_workflow_handle(f"exit-{key}")
    async with world.running() as running:
        world.exchange.calls.clear()
        message = MalformedMessage('{"order_id": "x-s"}', "no price", datetime.now(UTC), Decimal("0.4"), ended=True)
        world.exchange.user_streams[-1].push(message)
        await until(lambda: truth(world.exchange.calls.count("order x-s") >= 7))
        assert await world.pool.fetchval(claimed, key) == 1
        await until(world.unrouted)
        if reader == "the next":
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await world.pool.execute("UPDATE attempts SET exchange_order_id = 'x-s' WHERE client_order_id = $1", name)
        if reader == "the same":
            await until(lambda: monitor.query(RecordingMonitor.changes))
            await until(lambda: truth_of_count(world))
    async with world.running():
        await until(lambda: monitor.query(RecordingMonitor.changes))
        await until(lambda: truth_of_count(world))
    assert await world.pool.fetchval(claimed, key) == Decimal("0.4")


async def test_a_claim_that_a_reader_freed_before_it_died_is_told_by_the_next(world: World) -> None:
    """A reader releases an ended exit's claim, and dies before it signals the monitor, which waits for that."""
    keys = [await add_trade(world.pool, name) for name in ("a", "b")]
    for key in keys:
        await add_order(world.pool, intent("s", side=Side.SELL, role=OrderRole.EXIT, entry_key=key))
        assert await Starter(world.pool, world.client, task_queue=world.queue).monitor(key)
    await world.pool.execute("UPDATE orders SET claimed_base = CASE entry_key WHEN $1 THEN 0.6 ELSE 1 END", keys[0])
    freed, claimed = (world.client.get_workflow_handle(f"exit-{key}") for key in keys)
    async with world.running():
        await until(lambda: freed.query(RecordingMonitor.changes))
    assert await claimed.query(RecordingMonitor.changes) == 0


async def ended(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether the order's workflow got an end."""
    return any(update.status.final for update in await told(handle))


async def filled(handle: WorkflowHandle[Any, Any], size: str) -> bool:
    """Whether the order's workflow got this filled size."""
    updates = await told(handle)
    return bool(updates) and updates[-1].filled_size == Decimal(size)
