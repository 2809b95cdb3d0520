"""External orders on the whole system: recorded once, assigned to the right trades, reported at once."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest_asyncio
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError

from activities.interfaces.ledger import ValidateInput
from activities.interfaces.reconcile import ReconcileInput, ReconcileReport
from activities.interfaces.search_attributes import ROLE
from activities.ledger.validator import Validator
from domain.exits import ExitReason
from domain.ids import exit_workflow_id, external_workflow_id
from domain.messages import ExternalOrder
from domain.orders import OrderState
from exchange.paper.control_client import PaperControl
from tests.support.harness import Trade, TradingSystem, step_market, trading_system
from tests.support.intents import market_buy
from tests.support.waiting import SLACK, eventually
from workers.settings import AdoptionSettings
from workers.stack.dev_server import DevServer
from workflows.external import ExternalOrderWorkflow
from workflows.reconcile import ReconcileWorkflow, reconcile_id

RUNNING = WorkflowExecutionStatus.RUNNING
BTC = "BTC-USD"


@pytest_asyncio.fixture
async def system(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """The whole system, with its books opened."""
    async with trading_system(database, temporal_server.address) as running:
        await reconcile(running)
        yield running


async def reconcile(system: TradingSystem, **request: Any) -> ReconcileReport:
    """Run the workflow, as the schedule does."""
    return await system.client.execute_workflow(
        ReconcileWorkflow.run,
        ReconcileInput(account=system.account, **request),
        id=f"{reconcile_id(system.account)}-{uuid.uuid4().hex[:8]}",
        task_queue=system.settings.temporal.streams_queue,
    )


async def by_hand(system: TradingSystem, side: str, size: str) -> str:
    """A market order in the exchange's app. Returns its id."""
    order = await system.control.order(BTC, side, {"market_market_ioc": {"base_size": size}})
    return str(order["order_id"])


async def bought(system: TradingSystem, size: str) -> Trade:
    """A protected trade."""
    trade = await system.start(market_buy(system.account, size))
    await trade.until_protected(size)
    return trade


async def external(system: TradingSystem, order_id: str) -> dict[str, Any]:
    """The journal's row of an external order, once it is filled."""

    async def so() -> dict[str, Any] | None:
        rows = await system.rows(
            """SELECT o.*, r.source AS record_source, r.status AS record_status FROM attempts a
               JOIN orders o USING (order_key) LEFT JOIN trade_records r ON r.order_id = a.exchange_order_id
               WHERE a.exchange_order_id = $1""",
            order_id,
        )
        return dict(rows[0]) if rows and rows[0]["state"] == "FILLED" else None

    return await eventually(so, what=f"order {order_id} is recorded")


async def remaining(system: TradingSystem, trade: Trade) -> Decimal:
    """The trade's remaining size in the position book."""
    return Decimal(await system.value("SELECT remaining FROM trades WHERE entry_key = $1", trade.key))


async def test_a_buy_by_hand_is_recorded_in_the_books_and_left_alone(system: TradingSystem) -> None:
    """It has a row without linkage, a trade record and a lot, but no trade, and reconcile finds no difference."""
    order_id = await by_hand(system, "BUY", "0.5")
    row = await external(system, order_id)
    assert (row["role"], row["source"], row["trigger"], row["entry_key"]) == ("EXTERNAL", "websocket", "manual", None)
    assert (row["record_source"], row["record_status"]) == ("websocket", "FILLED")
    assert await system.value("SELECT sum(lot_remaining) FROM fills WHERE side = 'BUY'") == Decimal("0.5")
    assert await system.value("SELECT count(*) FROM trades") == 0
    assert await system.value("SELECT count(*) FROM trade_strategy_link") == 0
    report = await reconcile(system)
    assert (report.recorded, report.transfers, report.balances) == (0, (), "balances agree")
    assert await system.value("SELECT count(*) FROM orders") == 1
    marked = await system.rows("SELECT last_reconciled_at, last_reconciled_via FROM trade_records")
    assert marked[0]["last_reconciled_at"] is not None
    assert marked[0]["last_reconciled_via"] == "order_history"


async def test_an_order_by_hand_is_a_workflow_until_it_ends(system: TradingSystem) -> None:
    """While it rests, it runs under its own id with its details; a partial fill is sent to it, its end completes it,
    and nothing starts it again: not the stream, not reconcile.
    """
    resting = {"limit_limit_gtc": {"base_size": "0.02", "limit_price": "40000"}}
    order = await system.control.order(BTC, "BUY", resting)

    async def started() -> WorkflowHandle[Any, ExternalOrder] | None:
        key = await system.value("SELECT order_key FROM attempts WHERE exchange_order_id = $1", order["order_id"])
        handle = system.client.get_workflow_handle(external_workflow_id(key or ""), result_type=ExternalOrder)
        with contextlib.suppress(RPCError):
            await handle.describe()
            return handle
        return None

    handle = await eventually(started, what="the order is shown")
    described = await handle.describe()
    assert (described.status, described.typed_search_attributes.get(ROLE)) == (RUNNING, "EXTERNAL")
    await system.control.fill(order["order_id"], "0.005")

    async def told() -> bool:
        view = await handle.query(ExternalOrderWorkflow.state)
        return view.filled_size == Decimal("0.005")

    await eventually(told, what="the part is told")
    await reconcile(system)
    assert (await handle.describe()).status is RUNNING
    await system.control.cancel(order["order_id"])
    async with asyncio.timeout(SLACK * 20):
        ended: ExternalOrder = await handle.result()
    assert (ended.state, ended.filled_size) == (OrderState.CANCELLED, Decimal("0.005"))
    assert len(await handle.query(ExternalOrderWorkflow.timeline)) == 3
    run_id = (await handle.describe()).run_id
    await reconcile(system)
    assert (await handle.describe()).run_id == run_id


async def test_a_sell_by_hand_takes_from_the_unowned_pool_first(system: TradingSystem) -> None:
    """Coins bought by hand are sold by hand, and no trade loses anything."""
    trade = await bought(system, "0.01")
    await external(system, await by_hand(system, "BUY", "0.02"))
    await external(system, await by_hand(system, "SELL", "0.02"))
    assert (await reconcile(system)).taken == ()
    assert await remaining(system, trade) == Decimal("0.01")


async def test_a_sell_by_hand_closes_the_oldest_trades_as_manual(system: TradingSystem) -> None:
    """Beyond the pool the oldest trade is sold out and closes at once; the next one has less and stays protected."""
    first = await bought(system, "0.01")
    second = await bought(system, "0.01")
    await by_hand(system, "SELL", "0.015")
    outcome = await first.closed()
    assert outcome.exit_reason is ExitReason.MANUAL
    assert (outcome.external_size, outcome.exit_size) == (Decimal("0.01"), Decimal(0))
    assert await remaining(system, second) == Decimal("0.005")
    plan = await system.rows("SELECT state, quantity FROM exit_plans WHERE entry_key = $1", second.key)
    assert (plan[0]["state"], plan[0]["quantity"]) == ("ARMED", Decimal("0.005"))

    async def told() -> bool:
        return (await second.monitor_view()).size == Decimal("0.005")

    await eventually(told, what="the monitor knows what is left")
    await system.price("47000")
    assert (await second.closed()).exit_size == Decimal("0.005")
    assert (await reconcile(system)).balances == "balances agree"
    assert await system.value("SELECT count(*) FROM incidents WHERE kind = 'OVERSOLD'") == 0


async def test_a_withdrawal_is_booked_and_borne_by_trades(system: TradingSystem) -> None:
    """A withdrawal is a named row, the trades that it leaves short shrink, and an empty one closes."""
    trade = await bought(system, "0.01")
    await eventually(lambda: settled(system), what="the exchange's own fills are in")
    await long_ago(system)
    await system.control.withdraw("BTC", "0.01")
    preview = await reconcile(system, dry_run=True)
    assert [(row.currency, row.kind, row.amount) for row in preview.transfers] == [
        ("BTC", "withdrawal", Decimal("-0.01"))
    ]
    assert await remaining(system, trade) == Decimal("0.01")
    report = await reconcile(system)
    assert [(row.currency, row.kind, row.amount) for row in report.transfers] == [
        ("BTC", "withdrawal", Decimal("-0.01"))
    ]
    assert [(row.entry_key, row.left) for row in report.taken] == [(trade.key, Decimal(0))]
    outcome = await trade.closed()
    assert (outcome.exit_reason, outcome.external_size) == (ExitReason.MANUAL, Decimal("0.01"))
    assert (await reconcile(system)).transfers == ()


async def test_a_withdrawal_of_what_was_bought_for_an_amount_is_borne_by_its_trade(
    database: str, temporal_server: DevServer
) -> None:
    """A buy sized in quote ends in a fraction, told with its size in quote: its books are level all the same, so that
    all of it leaving is a withdrawal to the last digit, and the trade closes.
    """
    async with trading_system(database, temporal_server.address, market=step_market(fills_in_quote=True)) as system:
        await reconcile(system)
        trade = await system.start(market_buy(system.account, base_size=None, quote_size=Decimal(100)))
        await trade.until_protected()
        await eventually(lambda: settled(system), what="the exchange's own fills are in")
        size = Decimal((await system.control.balances())["BTC"]["total"])
        assert size % Decimal("0.00000001"), "a size that fits the increment shows nothing"
        assert await remaining(system, trade) == size
        await long_ago(system)
        await system.control.withdraw("BTC", str(size))
        report = await reconcile(system)
        assert [(row.currency, row.kind, row.amount) for row in report.transfers] == [("BTC", "withdrawal", -size)]
        assert (await trade.closed()).external_size == size


async def long_ago(system: TradingSystem) -> None:
    """Date everything so far before the lag of a list of balances."""
    await system.pool.execute("UPDATE fills SET recorded_at = recorded_at - interval '10 minutes'")


async def test_balances_that_lag_take_nothing_from_a_trade(system: TradingSystem) -> None:
    """A new buy missing in the list of balances is not a withdrawal, and no trade bears it."""
    fault = await system.control.fault("lagging", "GET /accounts*", delay=3600, count=None)
    first, second = await bought(system, "0.01"), await bought(system, "0.005")
    await eventually(lambda: settled(system), what="the exchange's own fills are in")
    for _ in range(2):
        report = await reconcile(system)
        assert (report.transfers, report.taken) == ((), ())
        assert report.balances.startswith("balances agree but for BTC, USD, which just traded")
    assert [await remaining(system, trade) for trade in (first, second)] == [Decimal("0.01"), Decimal("0.005")]
    await system.control.clear_faults(fault)
    await system.control.withdraw("BTC", "0.004")  # less than it ever was: that is judged at once
    report = await reconcile(system)
    assert [(row.kind, row.amount) for row in report.transfers] == [("withdrawal", Decimal("-0.004"))]
    assert sum([await remaining(system, trade) for trade in (first, second)]) == Decimal("0.011")


async def settled(system: TradingSystem) -> bool:
    """Whether all fills are the exchange's own."""
    return not await system.rows("SELECT id FROM fills WHERE origin = 'derived'")


async def test_a_deposit_is_booked_and_fills_the_pool(system: TradingSystem) -> None:
    """A balance above the books is a deposit, and a later sell of it by hand affects no trade."""
    trade = await bought(system, "0.01")
    await eventually(lambda: settled(system), what="the exchange's own fills are in")
    await system.control.deposit("BTC", "1")
    # Before it is booked it is a warning, not a violation.
    validator = Validator(system.parts.pool, system.parts.exchange)
    early = await validator.validate_ledger(ValidateInput(account=system.account))
    assert early.ok, early.violations
    assert [sentence for sentence in early.warnings if "BTC" in sentence and "may still explain" in sentence]
    report = await reconcile(system)
    assert [(row.currency, row.kind, row.amount) for row in report.transfers] == [("BTC", "deposit", Decimal(1))]
    booked = await validator.validate_ledger(ValidateInput(account=system.account))
    assert (booked.ok, booked.warnings) == (True, ())
    assert booked.compared == "the books equal the exchange's balances"
    await external(system, await by_hand(system, "SELL", "1"))
    assert (await reconcile(system)).taken == ()
    assert await remaining(system, trade) == Decimal("0.01")


async def test_a_sell_of_a_deposit_that_is_not_booked_yet_takes_from_no_trade(system: TradingSystem) -> None:
    """By the books alone a trade's coins were sold; the exchange still holds them, so nothing is taken."""
    trade = await bought(system, "0.01")
    await eventually(lambda: settled(system), what="the exchange's own fills are in")
    await system.control.deposit("BTC", "1")
    await external(system, await by_hand(system, "SELL", "1"))
    await eventually(lambda: settled(system), what="the exchange's own fills are in")
    await long_ago(system)
    report = await reconcile(system)
    assert [(row.currency, row.kind, row.amount) for row in report.transfers] == [("BTC", "deposit", Decimal(1))]
    assert report.taken == ()
    assert await remaining(system, trade) == Decimal("0.01")


async def test_a_buy_by_hand_is_protected_where_that_is_set(system: TradingSystem) -> None:
    """It becomes a trade with the default exit rules and a monitor, and a hard stop sells it, without a linkage of its
    entry.
    """
    await system.stop_workers()
    system.settings = system.settings.model_copy(update={"adoption": AdoptionSettings(protect=True)})
    await system.start_workers()
    row = await external(system, await by_hand(system, "BUY", "0.01"))
    assert row["entry_key"] == row["order_key"]
    monitor = system.client.get_workflow_handle(exit_workflow_id(row["order_key"]))

    async def runs() -> bool:
        trades = await system.rows("SELECT state, entry_final FROM trades WHERE entry_key = $1", row["order_key"])
        with contextlib.suppress(RPCError):  # not started yet
            return bool(trades) and trades[0]["entry_final"] and bool(await monitor.query("timeline"))
        return False

    await eventually(runs, what="the adopted buy is a trade with a monitor")
    await system.price("47000")
    await monitor.result()
    trade = (await system.rows("SELECT * FROM trades WHERE entry_key = $1", row["order_key"]))[0]
    assert (trade["state"], trade["exit_reason"], trade["remaining"]) == ("CLOSED", "HARD_STOP", Decimal(0))
    assert (await reconcile(system)).balances == "balances agree"


async def test_an_order_by_hand_that_was_never_streamed_is_found_by_reconcile(
    database: str, temporal_server: DevServer
) -> None:
    """Without any stream, external orders are adopted once, as reconciled; open ones are followed to their end."""
    async with trading_system(database, temporal_server.address, roles=frozenset({"orders"})) as system:
        reconciler = system.parts.reconciler
        request = ReconcileInput(account=system.account)
        await reconciler.run(request)
        filled = await by_hand(system, "BUY", "0.5")
        resting = await system.control.order(
            BTC, "BUY", {"limit_limit_gtc": {"base_size": "0.1", "limit_price": "40000", "post_only": False}}
        )
        report = await reconciler.run(request)
        assert report.counts == {"UNKNOWN_TO_US": 2}
        assert (await external(system, filled))["source"] == "reconciled"
        orders = await system.rows("SELECT status FROM passive_orders WHERE order_id = $1", resting["order_id"])
        assert orders[0]["status"] == "OPEN"
        assert (await reconciler.run(request)).counts == {}
        await system.control.fill(resting["order_id"], "0.04")
        await system.control.cancel(resting["order_id"])
        assert (await reconciler.run(request)).counts == {"ENDED": 1}
        ended = (await system.rows("SELECT * FROM attempts WHERE exchange_order_id = $1", resting["order_id"]))[0]
        assert (ended["status"], ended["filled_size"]) == (OrderState.CANCELLED, Decimal("0.04"))
        assert ended["status_source"] == "trade_history"
        assert await system.value("SELECT count(*) FROM passive_orders") == 0
        assert await settled(system)


async def protected(system: TradingSystem, order_id: str, size: str) -> str:
    """The key of the trade made from a buy by hand, once this size is protected."""

    async def so() -> str | None:
        rows = await system.rows(
            """SELECT t.entry_key FROM attempts a JOIN trades t ON t.entry_key = a.order_key
               WHERE a.exchange_order_id = $1 AND t.remaining = $2""",
            order_id,
            Decimal(size),
        )
        return str(rows[0]["entry_key"]) if rows else None

    return await eventually(so, what=f"order {order_id} is a trade with {size} left")


ADOPTING = {"adoption": AdoptionSettings(protect=True)}


async def test_history_before_the_first_start_is_nobodys_trade(database: str, temporal_server: DevServer) -> None:
    """An earlier round trip and buy by hand are recorded and never sold, whatever the price; the same for an order that
    was partly filled by then, including its later fills.
    """
    earlier: list[dict[str, Any]] = []

    async def history(control: PaperControl) -> None:
        await control.deposit("BTC", "1")
        earlier.append(await control.order(BTC, "BUY", {"market_market_ioc": {"base_size": "0.01"}}))
        earlier.append(await control.order(BTC, "SELL", {"market_market_ioc": {"base_size": "0.01"}}))
        earlier.append(await control.order("ETH-USD", "BUY", {"market_market_ioc": {"base_size": "0.5"}}))
        resting = {"limit_limit_gtc": {"base_size": "0.02", "limit_price": "49000"}}
        earlier.append(await control.order(BTC, "BUY", resting))
        await control.fill(earlier[-1]["order_id"], "0.005")

    async with trading_system(database, temporal_server.address, others=ADOPTING, before=history) as system:
        await reconcile(system)
        for order in earlier[:3]:
            assert (await external(system, str(order["order_id"])))["entry_key"] is None
        await system.control.fill(str(earlier[3]["order_id"]), "0.015")
        assert (await external(system, str(earlier[3]["order_id"])))["entry_key"] is None
        await system.price("40000")
        await system.price("2000", symbol="ETH-USD")
        after = await external(system, await by_hand(system, "BUY", "0.03"))
        assert after["entry_key"] == after["order_key"]
        await system.price("30000")

        async def sold() -> bool:
            rows = await system.rows("SELECT state, exit_reason FROM trades")
            return [(row["state"], row["exit_reason"]) for row in rows] == [("CLOSED", "HARD_STOP")]

        await eventually(sold, what="what was bought afterwards is sold by its stop, and nothing else is a trade")
        balances = await system.control.balances()
        assert (balances["BTC"]["total"], balances["ETH"]["total"]) == (Decimal("1.02"), Decimal("0.5"))


async def test_an_older_order_that_fills_only_afterwards_is_adopted(database: str, temporal_server: DevServer) -> None:
    """It rested at this account's first start, so all of it was bought since."""
    placed: list[str] = []

    async def history(control: PaperControl) -> None:
        resting = {"limit_limit_gtc": {"base_size": "0.02", "limit_price": "49000"}}
        placed.append(str((await control.order(BTC, "BUY", resting))["order_id"]))

    async with trading_system(database, temporal_server.address, others=ADOPTING, before=history) as system:
        await reconcile(system)
        await system.control.fill(placed[0], "0.02")
        await protected(system, placed[0], "0.02")


async def test_a_sell_by_hand_takes_from_buys_by_hand_first(database: str, temporal_server: DevServer) -> None:
    """Then from the pool, and from a trade of ours only when nothing else is left, even if it is the oldest."""
    async with trading_system(database, temporal_server.address, others=ADOPTING) as system:
        await reconcile(system)
        ours = await bought(system, "0.01")
        await eventually(lambda: settled(system), what="the exchange's own fills are in")
        await system.control.deposit("BTC", "1")
        await reconcile(system)
        key = await protected(system, await by_hand(system, "BUY", "0.02"), "0.02")
        await external(system, await by_hand(system, "SELL", "0.005"))

        async def left() -> Decimal:
            return Decimal(await system.value("SELECT remaining FROM trades WHERE entry_key = $1", key))

        async def less() -> bool:
            return await left() == Decimal("0.015")

        await eventually(less, what="the adopted trade bears the sell")
        await external(system, await by_hand(system, "SELL", "0.115"))

        async def closed() -> bool:
            rows = await system.rows("SELECT state, exit_reason FROM trades WHERE entry_key = $1", key)
            return (rows[0]["state"], rows[0]["exit_reason"]) == ("CLOSED", "MANUAL")

        await eventually(closed, what="the adopted trade is sold out")
        await external(system, await by_hand(system, "SELL", "0.9"))
        assert (await reconcile(system)).taken == ()
        assert await remaining(system, ours) == Decimal("0.01")
        await by_hand(system, "SELL", "0.004")

        async def last() -> bool:
            return await remaining(system, ours) == Decimal("0.006")

        await eventually(last, what="at last our trade bears it")
        report = await reconcile(system)
        assert (report.taken, report.balances) == ((), "balances agree")


async def test_a_round_trip_by_hand_while_nothing_ran_leaves_nothing_to_guard(
    database: str, temporal_server: DevServer
) -> None:
    """Bought and sold by hand while we were away: in either order of reports, no coin of the pool is guarded for it."""
    async with trading_system(database, temporal_server.address, others=ADOPTING) as system:
        await reconcile(system)
        await system.control.deposit("BTC", "1")
        await reconcile(system)
        await system.stop_workers()
        await by_hand(system, "BUY", "0.02")
        sold = await by_hand(system, "SELL", "0.02")
        await system.start_workers()
        await reconcile(system)
        await external(system, sold)

        async def none_left() -> bool:
            rows = await system.rows("SELECT state, remaining FROM trades")
            return [(row["state"], row["remaining"]) for row in rows] == [("CLOSED", Decimal(0))]

        await eventually(none_left, what="the trade is closed with nothing sold")
        assert (await system.control.balances())["BTC"]["total"] == Decimal(1)


async def test_another_instances_orders_are_told_and_left_to_it(database: str, temporal_server: DevServer) -> None:
    """An id of our form that this ledger doesn't know: CRITICAL, once; it is recorded, not guarded, and its sales are
    not assigned to buys by hand.
    """
    async with trading_system(database, temporal_server.address, others=ADOPTING) as system:
        await reconcile(system)

        async def theirs(number: int, side: str, size: str) -> str:
            answer = await system.parts.exchange.submit(
                {
                    "client_order_id": f"{number:032x}-1",
                    "product_id": BTC,
                    "side": side,
                    "order_configuration": {"market_market_ioc": {"base_size": size}},
                }
            )
            return str(answer.exchange_order_id)

        row = await external(system, await theirs(1, "BUY", "0.02"))
        assert (row["role"], row["entry_key"]) == ("EXTERNAL", None)
        key = await protected(system, await by_hand(system, "BUY", "0.01"), "0.01")
        await external(system, await theirs(2, "SELL", "0.02"))
        assert (await reconcile(system)).taken == ()
        assert await system.value("SELECT remaining FROM trades WHERE entry_key = $1", key) == Decimal("0.01")
        told = await system.rows("SELECT severity, sentence FROM incidents WHERE kind = 'ANOTHER_INSTANCE'")
        assert [row["severity"] for row in told] == ["CRITICAL"]
        assert "another BotTrader trades" in told[0]["sentence"]
        assert await system.value("SELECT count(*) FROM trades") == 1
