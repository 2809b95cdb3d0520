"""Reconcile on the whole system: differences missing from the streams are found, corrected once, and nothing else."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import pytest_asyncio
from temporalio.client import Client, ScheduleHandle
from temporalio.worker import Worker

from activities.database import Pool, create_pool
from activities.interfaces.ledger import ValidateInput
from activities.interfaces.reconcile import ReconcileInput, ReconcileReport
from activities.ledger.record import LedgerWriter
from activities.ledger.validator import INCIDENT, Validator
from activities.reconcile.adoption import Adoption
from activities.reconcile.run import ReconcileOptions, Reconciler, reconcile_lease
from activities.starting import Starter
from activities.venue import Venue
from domain.ids import client_order_id
from domain.market import Product
from domain.orders import Side, VenueStatus
from exchange.port import Balance, MalformedMessage, Unavailable, VenueFill
from tests.support.fake_exchange import FakeExchange, order
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.ledger_rows import ACCOUNT, add_order, add_trade, intent
from tests.support.waiting import SLACK, eventually
from workers.schedules import ensure_schedules, reconcile_soon
from workers.stack.dev_server import DevServer
from workflows.reconcile import ReconcileWorkflow, reconcile_id


@pytest_asyncio.fixture
async def quiet(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """A system without streams: only reconcile learns of events at the exchange."""
    async with trading_system(database, temporal_server.address, roles=frozenset({"orders"})) as running:
        await reconcile(running)
        yield running


async def reconcile(system: TradingSystem, *, dry_run: bool = False) -> ReconcileReport:
    """One run in this process."""
    return await system.parts.reconciler.run(ReconcileInput(account=system.account, dry_run=dry_run))


async def test_fills_and_ends_that_no_stream_told_reach_the_workflow(quiet: TradingSystem) -> None:
    """A resting entry that fills in part and is cancelled at the exchange is protected and ends, with its sources."""
    trade = await quiet.start(limit_buy(quiet.account, "0.02", "49000"))
    identity = await trade.exchange_id()
    await quiet.control.fill(identity, "0.005")
    report = await reconcile(quiet)
    assert report.counts["BEHIND"] == 1
    await trade.until_protected("0.005")
    await quiet.control.cancel(identity)
    assert (await reconcile(quiet)).counts == {"ENDED": 1}
    view = await trade.until_state("CANCELLED")
    assert view.filled_size == Decimal("0.005")
    attempt = (await quiet.rows("SELECT * FROM attempts"))[0]
    assert (attempt["status"], attempt["status_source"]) == ("CANCELLED", "trade_history")
    assert (await reconcile(quiet)).counts == {}
    assert await quiet.value("SELECT count(*) FROM trade_strategy_link") == 1


async def test_a_cancelled_order_without_fills_ends_by_the_order_history(quiet: TradingSystem) -> None:
    """An order that is no longer open is looked up; its end is reported with its source."""
    trade = await quiet.start(limit_buy(quiet.account, "0.02", "49000"))
    await quiet.control.cancel(await trade.exchange_id())
    assert (await reconcile(quiet)).counts == {"ENDED": 1}
    outcome = await trade.result()
    assert (outcome.state, outcome.filled_size) == ("CANCELLED", Decimal(0))
    assert await quiet.value("SELECT status_source FROM orders") == "order_history"


async def test_a_dry_run_says_and_does_nothing(quiet: TradingSystem) -> None:
    """It finds the same as a run, and leaves every table unchanged."""
    trade = await quiet.start(limit_buy(quiet.account, "0.02", "49000"))
    # The exchange has the order before its answer is recorded.
    await trade.until_state("OPEN")
    await quiet.control.fill(await trade.exchange_id(), "0.005")
    tables = ("orders", "attempts", "fills", "trades", "raw_facts", "incidents", "balance_transfers", "leases")
    before = {name: await quiet.rows(f"SELECT * FROM {name} ORDER BY 1") for name in tables}  # noqa: S608 - own names
    report = await reconcile(quiet, dry_run=True)
    assert (report.counts["BEHIND"], report.findings[0].action) == (1, "RECORD")
    assert report.findings[0].order_key == trade.key
    after = {name: await quiet.rows(f"SELECT * FROM {name} ORDER BY 1") for name in tables}  # noqa: S608 - own names
    assert before == after


async def test_the_ledger_holds_the_exchanges_own_fills(quiet: TradingSystem) -> None:
    """Executions replace the fill derived from totals, by trade id; positions and lots are unchanged."""
    trade = await quiet.start(limit_buy(quiet.account, "0.02", "49000"))
    identity = await trade.exchange_id()
    for size in ("0.005", "0.006", "0.009"):
        await quiet.control.fill(identity, size)
    report = await reconcile(quiet)
    assert report.settled == 1
    await trade.until_protected("0.02")
    fills = await quiet.rows("SELECT trade_id, origin, size, lot_remaining FROM fills ORDER BY id")
    theirs = {fill["trade_id"] for fill in await quiet.control.fills()}
    assert {fill["trade_id"] for fill in fills} == theirs
    assert {fill["origin"] for fill in fills} == {"exchange"}
    assert [fill["lot_remaining"] for fill in fills] == [Decimal("0.005"), Decimal("0.006"), Decimal("0.009")]
    assert await quiet.value("SELECT remaining FROM trades") == Decimal("0.02")
    record = (await quiet.rows("SELECT * FROM trade_records"))[0]
    assert record["remaining_size"] == Decimal("0.02")
    assert record["last_reconciled_via"] in ("order_history", "trade_history")
    assert record["last_reconciled_at"] is not None
    await quiet.assert_books_agree()


async def test_a_late_fill_of_an_order_whose_workflow_has_ended_is_protected(quiet: TradingSystem) -> None:
    """Its workflow has ended, so the ledger records it directly and a monitor is started for the position."""
    trade = await quiet.start(limit_buy(quiet.account, "0.02", "49000"))
    identity = await trade.exchange_id()
    await trade.handle.terminate("the test takes the workflow away")
    await quiet.control.fill(identity, "0.02")
    assert (await reconcile(quiet)).counts["ENDED"] == 1
    assert await quiet.value("SELECT remaining FROM trades") == Decimal("0.02")
    view = await trade.monitor_view()
    assert (view.state, view.size) == ("PROTECTED", Decimal("0.02"))


async def test_two_runs_at_once_do_nothing_twice(quiet: TradingSystem) -> None:
    """The second waits for the first and then finds no difference."""
    await quiet.control.order("BTC-USD", "BUY", {"market_market_ioc": {"base_size": "0.5"}})
    first, second = await asyncio.gather(reconcile(quiet), reconcile(quiet))
    assert sorted([first.recorded, second.recorded]) == [0, 1]
    assert await quiet.value("SELECT count(*) FROM fills") == len(await quiet.control.fills())


async def test_a_streams_reconnect_asks_for_a_run(database: str, temporal_server: DevServer) -> None:
    """The schedule runs once at start-up, and again after each catch-up of the user stream."""
    async with trading_system(database, temporal_server.address) as system:
        schedule = system.client.get_schedule_handle(reconcile_id(system.account))
        await ensure_schedules(system.client, system.settings)
        try:
            await eventually(lambda: runs(schedule, 1), what="the run at start-up")
            await market_order(system)
            await system.control.sockets("drop", "user")
            await eventually(lambda: runs(schedule, 2), within=30, what="a run after the reconnect")
        finally:
            await schedule.delete()
            await system.client.get_schedule_handle(f"sweep-{system.account}").delete()


async def runs(schedule: ScheduleHandle, wanted: int) -> bool:
    """Whether the schedule has completed this many runs."""
    info = (await schedule.describe()).info
    return info.num_actions >= wanted and not info.running_actions


async def market_order(system: TradingSystem) -> None:
    """A protected trade."""
    trade = await system.start(market_buy(system.account))
    await trade.until_protected()


async def test_asking_without_a_schedule_is_no_error(temporal_client: Client) -> None:
    """Before the schedule exists nothing is requested: its creation runs it at once."""
    await reconcile_soon(temporal_client, f"nobody-{uuid.uuid4().hex[:8]}")


# --- bad input, and what the paper exchange never sends
# ----------------------------------------------------------------


class OddExchange(FakeExchange):
    """Returns a test's `executions` and `garbage`, and the usual two products."""

    def __init__(self) -> None:
        super().__init__()
        self.executions: list[VenueFill] = []
        self.garbage: list[MalformedMessage] = []
        self.money = {"USD": Balance("USD", Decimal(1000), Decimal(0))}

    async def products(self, symbols: Sequence[str] | None = None) -> Sequence[Product]:
        """The usual two."""
        small = Decimal("0.01")
        return [
            Product(name, name[:3], "USD", small, small, small, small, Decimal(10), small, Decimal(1000))
            for name in ("BTC-USD", "ETH-USD")
        ]

    async def fills(
        self,
        *,
        exchange_order_id: str | None = None,
        since: datetime | None = None,
        unreadable: list[MalformedMessage] | None = None,
    ) -> list[VenueFill]:
        """The test's executions."""
        if unreadable is not None:
            unreadable.extend(self.garbage)
        return [item for item in self.executions if exchange_order_id in (None, item.exchange_order_id)]

    def filled(self, identity: str, name: str, size: str, **changes: object) -> None:
        """An order that filled, with one execution."""
        item = order(identity, name, status=VenueStatus.FILLED, size=size)
        self.history[identity] = replace(item, **changes)  # type: ignore[arg-type]
        self.executions.append(execution(identity, size))


def execution(identity: str, size: str) -> VenueFill:
    """One execution at 100 USD, without fee."""
    return VenueFill(
        f"t-{identity}",
        identity,
        "BTC-USD",
        Side.BUY,
        Decimal(size),
        Decimal(100),
        Decimal(0),
        "USD",
        "TAKER",
        datetime.now(UTC),
        {"order_id": identity, "size": size},
    )


@pytest_asyncio.fixture
async def odd(database: str, temporal_client: Client) -> AsyncIterator[tuple[Reconciler, OddExchange, Pool]]:
    """A reconciler with an exchange that answers as the test sets."""
    pool, exchange = await create_pool(database), OddExchange()
    starter = Starter(pool, temporal_client, task_queue=f"nobody-{uuid.uuid4().hex[:8]}")
    available = Venue(exchange).available
    adoption = Adoption(pool, LedgerWriter(pool, ACCOUNT), temporal_client, starter, ACCOUNT, available=available)
    options = ReconcileOptions(confirm_seconds=0.05, arrive_seconds=3)
    yield Reconciler(pool, exchange, temporal_client, adoption, starter, options), exchange, pool
    await pool.close()


Odd = tuple[Reconciler, OddExchange, Pool]


async def kinds(pool: Pool) -> list[str]:
    """The kinds of all incidents."""
    return [row["kind"] for row in await pool.fetch("SELECT kind FROM incidents ORDER BY id")]


async def test_an_order_that_changed_its_side_is_an_incident(odd: Odd) -> None:
    """Nothing of it is booked, a person is notified once with the raw message, and everything else continues."""
    reconciler, exchange, pool = odd
    exchange.filled("x-1", "by-hand", "1")
    await reconciler.run(ReconcileInput(account=ACCOUNT))
    exchange.history["x-1"] = replace(exchange.history["x-1"], side=Side.SELL, filled_size=Decimal(2))
    exchange.filled("x-2", "another", "1")
    for _ in range(2):
        await reconciler.run(ReconcileInput(account=ACCOUNT, look_back_seconds=3600))
    assert set(await kinds(pool)) >= {"CHANGED_SIDE"}
    assert len([kind for kind in await kinds(pool) if kind == "CHANGED_SIDE"]) <= 2
    raw = await pool.fetchval("SELECT details FROM incidents WHERE kind = 'CHANGED_SIDE' ORDER BY id LIMIT 1")
    assert raw["raw"]["order"] == {"order_id": "x-1"}
    rows = await pool.fetch("SELECT exchange_order_id, sum(size) AS size FROM fills GROUP BY 1 ORDER BY 1")
    assert [(row["exchange_order_id"], row["size"]) for row in rows] == [("x-1", 1), ("x-2", 1)]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"size": Decimal(0)}, "BAD_FILL"),
        ({"size": Decimal(-1)}, "BAD_FILL"),
        ({"fee_currency": "CRO", "fee": Decimal(1)}, "FEE_IN_OTHER_CURRENCY"),
        ({"symbol": "BIT-26APR24-CDE"}, "UNKNOWN_PRODUCT"),
        ({"side": Side.SELL}, "CHANGED_SIDE"),
    ],
)
async def test_an_execution_that_makes_no_sense_is_an_incident(odd: Odd, changes: dict[str, object], kind: str) -> None:
    """The order's totals decide, the execution is not booked, and its raw message is kept."""
    reconciler, exchange, pool = odd
    exchange.history["x-1"] = order("x-1", "by-hand", status=VenueStatus.FILLED, size="1")
    exchange.executions.append(replace(execution("x-1", "1"), **changes))  # type: ignore[arg-type]
    for _ in range(2):
        await reconciler.run(ReconcileInput(account=ACCOUNT, look_back_seconds=3600))
    assert await kinds(pool) == [kind]
    details = await pool.fetchval("SELECT details FROM incidents")
    assert details["raw"]["executions"] == [{"order_id": "x-1", "size": "1"}]
    fills = await pool.fetch("SELECT origin, size FROM fills")
    assert [(row["origin"], row["size"]) for row in fills] == [("derived", Decimal(1))]


async def test_executions_of_an_order_that_nobody_knows_are_an_incident(odd: Odd) -> None:
    """An execution whose order the exchange does not know is not booked, and is reported once."""
    reconciler, exchange, pool = odd
    exchange.executions.append(execution("x-9", "1"))
    for _ in range(2):
        await reconciler.run(ReconcileInput(account=ACCOUNT, look_back_seconds=3600))
    assert await kinds(pool) == ["UNKNOWN_TO_EXCHANGE"]
    assert await pool.fetchval("SELECT count(*) FROM fills") == 0


async def test_what_was_imported_is_not_adopted(odd: Odd) -> None:
    """However far back a run looks, it ends where older records were imported, under their own ids."""
    reconciler, exchange, pool = odd
    now = datetime.now(UTC)
    old = order("x-1", "by-hand", status=VenueStatus.FILLED, size="1")
    exchange.history["x-1"] = replace(old, created_at=now - timedelta(days=30))
    await pool.execute(
        """INSERT INTO fills (fill_key, account, symbol, side, exchange_order_id, origin, ingest_via, size, price,
                              value, at, lot_remaining)
           VALUES ('i', $1, 'BTC-USD', 'BUY', 'BTC-USD/7', 'exchange', 'import', 1, 100, 100, $2, 1)""",
        ACCOUNT,
        now - timedelta(days=20),
    )
    report = await reconciler.run(ReconcileInput(account=ACCOUNT, look_back_seconds=60 * 86_400))
    assert report.since == now - timedelta(days=20)
    assert await pool.fetchval("SELECT count(*) FROM fills") == 1


async def test_executions_lead_to_an_old_order(odd: Odd) -> None:
    """An order from before the look is found by its executions, adopted and settled."""
    reconciler, exchange, pool = odd
    exchange.filled("x-1", "by-hand", "1", created_at=datetime.now(UTC) - timedelta(days=30))
    report = await reconciler.run(ReconcileInput(account=ACCOUNT))
    assert report.counts == {"UNKNOWN_TO_US": 1}
    assert [(row["trade_id"], row["size"]) for row in await pool.fetch("SELECT * FROM fills")] == [("t-x-1", 1)]


async def test_an_order_that_the_exchange_does_not_know_keeps_its_state(odd: Odd) -> None:
    """Absence ends nothing: the order stays open in our books and a person is notified."""
    reconciler, _, pool = odd
    await add_order(pool, intent("a"), exchange_order_id="x-1")
    await pool.execute("UPDATE attempts SET acknowledged_at = now() - interval '1 hour'")
    report = await reconciler.run(ReconcileInput(account=ACCOUNT))
    assert report.counts == {"UNKNOWN_TO_EXCHANGE": 1}
    assert await pool.fetchval("SELECT status FROM attempts") == "OPEN"
    assert await kinds(pool) == ["UNKNOWN_TO_EXCHANGE"]


async def test_rows_that_cant_be_read_are_kept_and_the_rest_goes_on(odd: Odd) -> None:
    """An unreadable row is an incident with its text, once, and the orders beside it are recorded."""
    reconciler, exchange, pool = odd
    exchange.garbage.append(MalformedMessage('{"size": "many"}', "size is not a number", datetime.now(UTC)))
    exchange.filled("x-1", "by-hand", "1")
    first = await reconciler.run(ReconcileInput(account=ACCOUNT))
    await reconciler.run(ReconcileInput(account=ACCOUNT))
    assert (first.unreadable, first.recorded) == (1, 1)
    assert await kinds(pool) == ["UNREADABLE_ROW"]
    kept = await pool.fetch("SELECT body FROM raw_facts WHERE kind = 'malformed'")
    assert [row["body"]["raw"] for row in kept] == ['{"size": "many"}']


async def test_an_attempt_that_was_absent_and_appears_is_told(odd: Odd) -> None:
    """It is handled like every report, and a person is notified that the absent attempt exists."""
    reconciler, exchange, pool = odd
    name = await add_order(pool, intent("a"))
    await pool.execute("UPDATE attempts SET status = 'ABSENT', live = false")
    exchange.history["x-1"] = order("x-1", name, size="0.5")
    report = await reconciler.run(ReconcileInput(account=ACCOUNT))
    assert report.counts["LATE_APPEARANCE"] == 1
    assert "LATE_APPEARANCE" in await kinds(pool)
    attempt = await pool.fetchrow("SELECT * FROM attempts")
    assert (attempt["status"], attempt["live"], attempt["filled_size"]) == ("OPEN", False, Decimal("0.5"))


async def test_finished_columns_are_never_overwritten(odd: Odd) -> None:
    """P&L, remaining size and parents of a trade record stay as derived by the ledger, whatever is listed again."""
    reconciler, exchange, pool = odd
    exchange.filled("x-1", "by-hand", "1")
    await reconciler.run(ReconcileInput(account=ACCOUNT))
    await pool.execute(
        "UPDATE trade_records SET pnl_usd = 7, remaining_size = 0.25, parent_id = 'p', parent_ids = '{p}'"
    )
    before = dict(await pool.fetchrow("SELECT * FROM trade_records"))
    await reconciler.run(ReconcileInput(account=ACCOUNT, look_back_seconds=3600))
    after = dict(await pool.fetchrow("SELECT * FROM trade_records"))
    assert after.pop("last_reconciled_at") > before.pop("last_reconciled_at")
    assert before == after


async def test_executions_that_never_add_up_blind_nobody_to_what_was_withdrawn(odd: Odd) -> None:
    """Balances wait for them for a quarter of an hour; then they are compared, and the reason is reported until
    then."""
    reconciler, exchange, pool = odd
    exchange.filled("x-1", "by-hand", "1")
    exchange.executions = [execution("x-1", "0.4")]
    exchange.money["BTC"] = Balance("BTC", Decimal(1), Decimal(0))
    first = await reconciler.run(ReconcileInput(account=ACCOUNT))
    assert first.balances == "the books can't be opened while BTC, USD trade"
    await pool.execute("UPDATE fills SET recorded_at = recorded_at - interval '16 minutes'")
    assert (await reconciler.run(ReconcileInput(account=ACCOUNT))).balances.startswith("opening")
    assert await kinds(pool) == ["FILLS_DONT_ADD_UP"]
    exchange.money["BTC"] = Balance("BTC", Decimal(0), Decimal(0))
    assert (await reconciler.run(ReconcileInput(account=ACCOUNT))).balances == "withdrawal of -1 BTC"
    exchange.executions = [execution("x-1", "1")]
    assert (await reconciler.run(ReconcileInput(account=ACCOUNT))).settled == 1
    assert await pool.fetchval("SELECT count(*) FROM incidents WHERE resolved_at IS NULL AND kind LIKE 'FILLS%'") == 0


async def test_a_difference_that_a_pass_leaves_is_a_violation_of_the_ledger(odd: Odd) -> None:
    """Until a complete run has begun after it was seen, it is a warning; then it is an incident until booked."""
    reconciler, exchange, pool = odd
    exchange.filled("x-1", "by-hand", "1")
    exchange.money["BTC"] = Balance("BTC", Decimal(1), Decimal(0))
    assert (await reconciler.run(ReconcileInput(account=ACCOUNT))).balances.startswith("opening")
    exchange.money["BTC"] = Balance("BTC", Decimal(3), Decimal(0))
    validator, asked = Validator(pool, exchange), ValidateInput(account=ACCOUNT)
    for _ in range(2):
        report = await validator.validate_ledger(asked)
        assert (report.ok, len(report.warnings), await kinds(pool)) == (True, 1, [])
    # An order whose executions don't add up yet keeps reconcile from judging its currencies.
    exchange.filled("x-2", "another", "1")
    exchange.executions[-1] = execution("x-2", "0.4")
    exchange.money["BTC"] = Balance("BTC", Decimal(4), Decimal(0))
    exchange.money["USD"] = Balance("USD", Decimal(900), Decimal(0))
    assert "just traded" in (await reconciler.run(ReconcileInput(account=ACCOUNT))).balances
    report = await validator.validate_ledger(asked)
    assert report.counts == {"BALANCE": 1}
    assert await kinds(pool) == [INCIDENT]
    exchange.executions[-1] = execution("x-2", "1")
    assert (await reconciler.run(ReconcileInput(account=ACCOUNT))).balances == "deposit of 2 BTC"
    report = await validator.validate_ledger(asked)
    assert (report.ok, report.warnings) == (True, ())
    assert await pool.fetchval("SELECT resolved_at FROM incidents WHERE kind = $1", INCIDENT) is not None


async def test_an_exchange_that_cant_be_read_changes_nothing(odd: Odd) -> None:
    """Without lists nothing is decided: no order ends, no balance differs, and the next run begins at the same
    place."""
    reconciler, exchange, pool = odd
    await add_order(pool, intent("a"), exchange_order_id="x-1")
    exchange.unavailable = True
    with pytest.raises(Unavailable):
        await reconciler.run(ReconcileInput(account=ACCOUNT))
    assert await pool.fetchval("SELECT status FROM attempts") == "OPEN"
    assert await pool.fetchval("SELECT count(*) FROM balance_transfers") == 0
    position = await pool.fetchval(
        "SELECT caught_up_to FROM stream_positions WHERE name = $1", reconcile_lease(ACCOUNT)
    )
    assert position is None


async def test_an_exchange_that_stays_away_is_told_until_it_is_back(odd: Odd, temporal_client: Client) -> None:
    """The workflow keeps trying, people are notified once, and the first successful run resolves it."""
    reconciler, exchange, pool = odd
    exchange.unavailable = True
    queue, name = f"streams-{uuid.uuid4().hex[:8]}", f"{reconcile_id(ACCOUNT)}-{uuid.uuid4().hex[:8]}"
    async with Worker(
        temporal_client, task_queue=queue, workflows=[ReconcileWorkflow], activities=[reconciler.reconcile]
    ):
        handle = await temporal_client.start_workflow(
            ReconcileWorkflow.run, ReconcileInput(account=ACCOUNT), id=name, task_queue=queue
        )
        await eventually(lambda: kinds(pool), within=30, what="an incident")
        exchange.unavailable = False
        report = await asyncio.wait_for(handle.result(), SLACK * 40)
    assert report.balances.startswith("opening")
    assert await kinds(pool) == ["RECONCILE_FAILING"]
    assert await pool.fetchval("SELECT resolved_at FROM incidents") is not None


async def test_our_id_on_somebody_elses_order_is_not_ours(odd: Odd) -> None:
    """The journal decides whose order it is: an external order with one of our ids is adopted beside ours."""
    reconciler, exchange, pool = odd
    key = await add_trade(pool, "a")
    name = client_order_id(key, 1)
    exchange.history["x-a"] = order("x-a", name, status=VenueStatus.FILLED, size="1")
    exchange.history["x-b"] = order("x-b", name, status=VenueStatus.CANCELLED)
    await reconciler.run(ReconcileInput(account=ACCOUNT))
    rows = await pool.fetch("SELECT role, exchange_order_id FROM attempts JOIN orders USING (order_key) ORDER BY 2")
    assert [tuple(row) for row in rows] == [("ENTRY", "x-a"), ("EXTERNAL", "x-b")]
