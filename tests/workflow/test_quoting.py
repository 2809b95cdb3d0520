"""The working market maker: real rounds with the paper exchange, one market that moves only on request."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from activities.interfaces.quotes import QuoteRoundInput, QuoteRoundReport
from activities.orders import controls
from activities.orders.group_controls import halt_group, resume_group
from domain.exits import ExitReason
from domain.ids import exit_workflow_id, order_workflow_id
from domain.limit_groups import GroupKind
from domain.messages import OrderOutcome, TradeOutcome
from tests.support.harness import ALL_ROLES, TradingSystem, trading_system
from tests.support.ledger_rows import open_books
from tests.support.waiting import SLACK, eventually
from workers.settings import SymbolSettings
from workers.settings.quoting import QuotingSettings
from workers.stack.dev_server import DevServer
from workflows.order import OrderWorkflow
from workflows.quoting import QuoteRoundWorkflow, quotes_id

QUOTING = QuotingSettings(
    enabled=True, min_quote_volume=Decimal(0), max_inventory_quote=Decimal(200), lean_pct=Decimal(0)
)


@pytest_asyncio.fixture
async def system(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """A system that quotes BTC-USD."""
    async with quoted(database, temporal_server, QUOTING) as running:
        yield running


@contextlib.asynccontextmanager
async def quoted(database: str, temporal_server: DevServer, quoting: QuotingSettings) -> AsyncIterator[TradingSystem]:
    """BTC-USD at 49,500/50,500: 2 % apart, while fees and profit need 0.9 %."""
    symbols = SymbolSettings(allow=("BTC-USD",))
    roles = ALL_ROLES | {"strategy"}
    async with trading_system(
        database, temporal_server.address, roles=roles, symbols=symbols, quoting=quoting
    ) as running:
        await running.price("49500", "50500", size="1")
        yield running


async def look(system: TradingSystem) -> QuoteRoundReport:
    """One complete round."""
    return await system.client.execute_workflow(
        QuoteRoundWorkflow.run,
        QuoteRoundInput(account=system.account, orders_queue=system.settings.temporal.orders_queue),
        id=f"{quotes_id(system.account)}-{uuid.uuid4().hex}",
        task_queue=system.settings.temporal.strategy_queue,
    )


async def resting(system: TradingSystem, side: str | None = None) -> list[dict[str, Any]]:
    """Our open orders at the exchange."""
    found = [item for item in await system.control.orders() if item["status"] == "OPEN"]
    return [item for item in found if side in (None, item["side"])]


async def until_resting(system: TradingSystem, side: str, price: str) -> dict[str, Any]:
    """Wait until exactly one order of a side rests, at this price."""

    async def so() -> dict[str, Any] | None:
        found = await resting(system, side)
        if len(found) == 1 and Decimal(terms(found[0])["limit_price"]) == Decimal(price):
            return found[0]
        return None

    return await eventually(so, within=20, what=f"one {side} at {price}")


def terms(order: dict[str, Any]) -> dict[str, Any]:
    """An order's terms."""
    ((name, values),) = order["order_configuration"].items()
    assert name == "limit_limit_gtd"
    return dict(values)


async def bought(system: TradingSystem) -> str:
    """A trade of the market maker: its bid was placed and filled. Returns the entry's key."""
    await look(system)
    bid = await until_resting(system, "BUY", "49500")
    await system.control.fill(bid["order_id"], bid["order_configuration"]["limit_limit_gtd"]["base_size"])
    key = str(bid["client_order_id"]).rpartition("-")[0]

    system._started.append(key)

    async def guarded() -> bool:
        view = await system.client.get_workflow_handle(order_workflow_id(key)).query(OrderWorkflow.state)
        return view.exit_monitor == exit_workflow_id(key) and view.state == "FILLED"

    await eventually(guarded, within=20, what="the bid is a trade with a monitor")
    return key


async def outcome(system: TradingSystem, key: str) -> TradeOutcome:
    """The trade's outcome, when it is closed."""
    async with asyncio.timeout(SLACK * 30):
        handle = system.client.get_workflow_handle(order_workflow_id(key), result_type=OrderOutcome)
        result: OrderOutcome = await handle.result()
    trade = result.trade
    assert trade is not None
    return trade


async def codes(system: TradingSystem) -> Sequence[tuple[str, str]]:
    """Both sides' codes of each round, oldest first."""
    rows = await system.rows("SELECT bid_code, ask_code FROM quote_rounds ORDER BY at")
    return [(row["bid_code"], row["ask_code"]) for row in rows]


async def test_a_filled_bid_is_a_trade_and_an_ask_completes_it(system: TradingSystem) -> None:
    """A bid rests post-only and ends by itself at the exchange; filled, it is a trade with linkage, monitor and exits.
    The next round asks for exactly that trade's size; filled, the trade is closed as TP, with a gain, and linked.
    """
    key = await bought(system)
    (link,) = await system.rows("SELECT * FROM trade_strategy_link WHERE order_key = $1", key)
    assert link["trigger_type"] == "passive_mm"
    assert {"spread", "fees", "fair_price"} <= set(link["indicator_breakdown"])
    (order,) = await system.rows("SELECT * FROM orders WHERE order_key = $1", key)
    assert (order["source"], order["entry_point"]) == ("sighook", "passive_mm")
    (first,) = await system.rows("SELECT * FROM quote_rounds")
    assert str(first["snapshot_id"]) == str(order["snapshot_id"])
    assert (first["bid_order_key"], first["ask_code"]) == (key, "NOTHING_TO_SELL")
    await look(system)
    ask = await until_resting(system, "SELL", "50500")
    assert Decimal(terms(ask)["base_size"]) == order["filled_size"]
    assert terms(ask)["post_only"]
    assert datetime.fromisoformat(terms(ask)["end_time"]) > datetime.fromisoformat(ask["created_time"])
    await system.control.fill(ask["order_id"], str(order["filled_size"]))
    closed = await outcome(system, key)
    assert (closed.exit_reason, closed.exit_size) == (ExitReason.TP, order["filled_size"])
    assert closed.pnl > 0
    (leg,) = await system.rows("SELECT * FROM trade_exits")
    assert (leg["reason"], leg["path"], leg["trigger_price"]) == ("TP", "quote", Decimal(50500))
    assert leg["achieved_net"] > Decimal("0.001")
    links = await system.rows("SELECT * FROM trade_strategy_link ORDER BY linked_at")
    assert [item["exit_reason"] for item in links] == ["TP", "TP"]
    assert links[0]["sell_trigger"] == "TP"
    assert str(links[1]["snapshot_id"]) != str(links[0]["snapshot_id"])
    assert {"spread", "fees", "fair_price"} <= set(links[1]["indicator_breakdown"])
    for left in await resting(system):
        await system.control.cancel(left["order_id"])
    await system.assert_books_agree()


async def test_nothing_in_a_narrow_market_and_the_reason_is_stored(system: TradingSystem) -> None:
    """The spread doesn't cover fees and profit: no order, and the round stores that with the numbers."""
    await system.price("50000", "50100")
    report = await look(system)
    assert (report.admitted, await resting(system)) == ((), [])
    (row,) = await system.rows("SELECT * FROM quote_rounds")
    assert (row["bid_code"], row["ask_code"]) == ("SPREAD_TOO_NARROW", "SPREAD_TOO_NARROW")
    assert row["numbers"]["needed_spread"] == "0.009"
    assert "need 0.9 %" in row["bid_sentence"]


async def test_a_moved_market_replaces_the_quote(system: TradingSystem) -> None:
    """Unmoved it stays, though it is the best bid itself; moved, it is cancelled, awaited and placed again."""
    await look(system)
    first = await until_resting(system, "BUY", "49500")
    await look(system)
    assert [item["order_id"] for item in await resting(system)] == [first["order_id"]]
    await system.price("49800", "50800", size="1")
    report = await look(system)
    second = await until_resting(system, "BUY", "49800")
    assert second["order_id"] != first["order_id"]
    assert report.cancelled == 1
    assert [code for code, _ in await codes(system)] == ["PLACED", "KEPT", "PLACED"]
    (row,) = await system.rows("SELECT cancelled FROM quote_rounds ORDER BY at DESC LIMIT 1")
    assert list(row["cancelled"].values()) == ["the market moved: 49500 should be 49800"]
    await system.price("50000", "50100")
    await look(system)
    assert await resting(system) == []
    await system.assert_books_agree()


async def test_a_hard_stop_takes_the_ask_away_first_and_sells_once(system: TradingSystem) -> None:
    """The price falls through the hard stop while an ask claims the whole trade: the ask is withdrawn, the stop sells
    all of it, once; the same for the bid's fills on the way down.
    """
    key = await bought(system)
    await look(system)
    await until_resting(system, "SELL", "50500")
    await system.price("46000", "46500", size="1")
    closed = await outcome(system, key)
    assert closed.exit_reason is ExitReason.HARD_STOP

    async def all_closed() -> bool:
        return not await system.value("SELECT count(*) FROM trades WHERE state <> 'CLOSED'")

    await eventually(all_closed, within=20, what="both trades are closed")
    # On a slow machine the ask may end after the two seconds that a stop waits: that attempt is refused, and repeated.
    sells = await system.rows(
        "SELECT state, exit_reason FROM orders WHERE side = 'SELL' AND state <> 'REJECTED' ORDER BY received_at"
    )
    stop = ("FILLED", "HARD_STOP")
    assert [tuple(row.values()) for row in sells] == [("CANCELLED", "TP"), stop, stop]
    assert await resting(system) == []
    await system.assert_books_agree()


async def test_a_stop_does_not_wait_for_ever_for_a_quote(system: TradingSystem) -> None:
    """No cancel gets through: after two seconds the stop goes on without the ask's claim, here everything, sells
    nothing twice, and sells it as soon as the ask has ended.
    """
    key = await bought(system)
    await look(system)
    await until_resting(system, "SELL", "50500")
    (held,) = await system.rows("SELECT remaining FROM trades WHERE entry_key = $1", key)
    fault = await system.control.fault("not_accepted_cut", "POST /orders/batch_cancel", count=1000)
    await system.price("46000", "46500", size="1")

    async def gone_on() -> bool:
        found = await system.rows(
            "SELECT state FROM orders WHERE entry_key = $1 AND exit_reason = 'HARD_STOP' AND finished", key
        )
        return bool(found) and all(row["state"] == "REJECTED" for row in found)

    await eventually(gone_on, within=20, what="the stop did not wait for the ask")
    assert await system.value("SELECT remaining FROM trades WHERE entry_key = $1", key) == held["remaining"]
    await system.control.clear_faults(fault)
    closed = await outcome(system, key)
    assert (closed.exit_reason, closed.exit_size) == (ExitReason.HARD_STOP, held["remaining"])
    await system.assert_books_agree()


async def test_without_a_book_nothing_rests(system: TradingSystem) -> None:
    """The book can't be read: resting quotes are withdrawn, because their prices can't be checked."""
    await look(system)
    await until_resting(system, "BUY", "49500")
    await system.control.fault("server_error", "GET /product_book", count=1000, status=503)
    await look(system)
    assert await resting(system) == []
    assert (await codes(system))[-1] == ("NO_MARKET_DATA", "NO_MARKET_DATA")


@pytest.mark.parametrize(
    ("allowed", "expected"), [(True, ("INVENTORY_FULL", "PLACED")), (False, ("PLACED", "NOTHING_TO_SELL"))]
)
async def test_the_pool_is_asked_for_where_that_is_allowed(
    database: str, temporal_server: DevServer, allowed: bool, expected: tuple[str, str]
) -> None:
    """With `use_unowned` an ask sells from the pool, at most a quote's size, and it counts as inventory; without, it is
    left alone.
    """
    quoting = QUOTING.model_copy(update={"use_unowned": allowed})
    async with quoted(database, temporal_server, quoting) as system:
        await system.control.deposit("BTC", "1")
        await open_books(system.pool, system.account, BTC="1")
        await look(system)
        (row,) = await system.rows("SELECT bid_code, ask_code FROM quote_rounds WHERE account = $1", system.account)
        assert tuple(row.values()) == expected
        if not allowed:
            return
        ask = await until_resting(system, "SELL", "50500")
        size = Decimal(terms(ask)["base_size"])
        assert size * Decimal(50500) <= 50
        await system.control.fill(ask["order_id"], str(size))

        async def sold() -> bool:
            return bool(
                await system.value(
                    "SELECT count(*) FROM trade_strategy_link l JOIN orders o USING (order_key) "
                    "WHERE o.account = $1 AND o.state = 'FILLED' AND l.entry_key IS NULL",
                    system.account,
                )
            )

        await eventually(sold, within=20, what="the pool's sell is linked")


async def test_only_the_leaderboard_s_products(database: str, temporal_server: DevServer) -> None:
    """A product without a rank is not quoted if only the leaderboard's are."""
    async with quoted(database, temporal_server, QUOTING.model_copy(update={"leaderboard_only": True})) as system:
        await look(system)
        assert (await codes(system), await resting(system)) == ([("NOT_ON_LEADERBOARD", "NOT_ON_LEADERBOARD")], [])


async def test_a_halt_takes_the_quotes_away(system: TradingSystem) -> None:
    """The next round after a halt leaves nothing at the exchange, and says why."""
    await bought(system)
    await look(system)
    assert len(await resting(system)) == 2
    async with system.pool.acquire() as connection:
        await controls.halt(connection, system.account, "lunch", "tester")
    report = await look(system)
    assert (report.cancelled, await resting(system)) == (2, [])
    assert (await codes(system))[-1] == ("HALTED", "HALTED")


async def test_a_halt_of_their_trigger_takes_the_quotes_away(system: TradingSystem) -> None:
    """The same for a halt of the quotes' trigger alone; once it is resumed they rest again."""

    async def both_rest() -> bool:
        await look(system)
        return len(await resting(system)) == 2

    await bought(system)
    await eventually(both_rest, what="a bid and an ask rest")
    async with system.pool.acquire() as connection:
        await halt_group(connection, system.account, GroupKind.TRIGGER, "passive_mm", "lunch", "tester")
    await look(system)
    assert await resting(system) == []
    assert (await codes(system))[-1] == ("HALTED", "HALTED")
    async with system.pool.acquire() as connection:
        await resume_group(connection, system.account, GroupKind.TRIGGER, "passive_mm", "", "tester")
    await eventually(both_rest, what="a bid and an ask rest again")
