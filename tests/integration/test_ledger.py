"""The ledger on a real PostgreSQL: reports in any order, enforced constraints, and racing admissions."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from temporalio.exceptions import ApplicationError

from activities.interfaces.orders import EndOrder
from activities.ledger.record import UnknownAttemptError
from domain.exits import ExitReason
from domain.ids import client_order_id
from domain.messages import Admission, OrderIntent, OrderUpdate, RecordResult, StatusSource
from domain.orders import AttemptStatus, OrderState, Side, TradeState, VenueStatus
from exchange.port import VenueOrder
from fifo.matching import FillRecord, match_all
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import limit_buy, linkage, market_buy, sell
from tests.support.ledger_rows import open_books
from workers.settings import SymbolSettings
from workers.stack.dev_server import DevServer

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def system(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """The activities with a paper exchange behind them and no worker: each call is made by the test."""
    symbols = SymbolSettings(allow=("BTC-USD", "ETH-USD"), max_open_buys=3)
    async with trading_system(database, temporal_server.address, roles=frozenset(), symbols=symbols) as running:
        yield running


async def admit(system: TradingSystem, intent: OrderIntent) -> Admission:
    """The decision on an intent."""
    return await system.parts.trading.admit(intent)


def report(
    size: str,
    price: str = "50000",
    *,
    second: int = 0,
    status: AttemptStatus = AttemptStatus.OPEN,
    attempt: int = 1,
    name: str = "x",
    fee: str = "0.006",
    source: StatusSource = StatusSource.WEBSOCKET,
) -> OrderUpdate:
    """An attempt's totals: `size` traded at `price` on average, with a fee of `fee` of the value."""
    value = Decimal(size) * Decimal(price)
    return OrderUpdate(
        attempt=attempt,
        status=status,
        exchange_order_id=f"exchange-{name}",
        filled_size=Decimal(size),
        filled_value=value,
        quote_fees=value * Decimal(fee),
        source=source,
        at=START + timedelta(seconds=second),
    )


async def record(system: TradingSystem, intent: OrderIntent, update: OrderUpdate) -> RecordResult:
    """Fold a report into the ledger."""
    return await system.parts.trading.ledger.record(intent.order_key, update)


async def money_rows(system: TradingSystem) -> dict[str, list[dict[str, Any]]]:
    """All amounts owed or held, without insertion counters."""
    tables = {
        "fills": "SELECT fill_key, side, size, value, quote_fees, at, lot_remaining FROM fills ORDER BY fill_key",
        "trades": "SELECT entry_key, state, bought_size, bought_value, sold_size, sold_value, remaining, entry_final "
        "FROM trades ORDER BY entry_key",
        "allocations": "SELECT sell_order_id, buy_order_id, size, cost_basis, proceeds, net_proceeds, pnl "
        "FROM fifo_allocations ORDER BY sell_order_id, buy_order_id NULLS LAST, size",
        "records": "SELECT order_id, size, price, total_fees_usd, pnl_usd, remaining_size, parent_ids, status "
        "FROM trade_records ORDER BY order_id",
        "links": "SELECT order_key, order_id, snapshot_id FROM trade_strategy_link ORDER BY order_key",
        "orders": "SELECT order_key, state, filled_size, filled_value, quote_fees FROM orders ORDER BY order_key",
        "plans": "SELECT entry_key, state, entry_price, quantity FROM exit_plans ORDER BY entry_key",
    }
    return {name: [dict(row) for row in await system.rows(sql)] for name, sql in tables.items()}


async def assert_fifo_is_a_full_recompute(system: TradingSystem) -> None:
    """The ledger's fill-by-fill matching equals one match of all fills, row for row."""
    rows = await system.rows("SELECT * FROM fills WHERE size > 0 ORDER BY id")
    fills = [
        FillRecord(
            row["id"],
            row["exchange_order_id"],
            Side(row["side"]),
            row["size"],
            row["value"],
            row["quote_fees"],
            row["base_fees"],
            row["at"],
        )
        for row in rows
    ]
    match = match_all(fills)
    expected = {
        (item.sell.fill_id, item.lot.fill_id if item.lot else None): (
            item.size,
            item.cost_basis,
            item.proceeds,
            item.net_proceeds,
            item.pnl,
        )
        for item in match.allocations
    }
    stored = {
        (row["sell_fill"], row["buy_fill"]): (
            row["size"],
            row["cost_basis"],
            row["proceeds"],
            row["net_proceeds"],
            row["pnl"],
        )
        for row in await system.rows("SELECT * FROM fifo_allocations")
    }
    assert stored == expected
    left = {row["id"]: row["lot_remaining"] for row in rows if row["side"] == "BUY"}
    assert left == {lot.fill.fill_id: lot.remaining for lot in match.lots}


# --- reports --------------------------------------------------------------------------------------------------------


async def test_a_report_applied_twice_or_late_changes_nothing(system: TradingSystem) -> None:
    """Repeats and older totals leave every row as it was."""
    intent = limit_buy(system.account, "0.1", "50000")
    await admit(system, intent)
    steps = [
        report("0"),
        report("0.03", second=1),
        report("0.07", "49990", second=2),
        report("0.1", "49995", second=3, status=AttemptStatus.FILLED),
    ]
    for update in steps:
        await record(system, intent, update)
    before = await money_rows(system)
    for update in [*steps, *reversed(steps)]:
        result = await record(system, intent, update)
        assert not result.new_fill
        assert result.filled_size == Decimal("0.1")
    assert await money_rows(system) == before
    assert len(before["fills"]) == 3


@pytest.mark.parametrize("size", ["0", "0.03"])
async def test_a_report_that_is_told_again_after_the_end_is_answered_with_the_end(
    system: TradingSystem, size: str
) -> None:
    """A discarded workflow task records and ends twice: an expired order stays one both times."""
    intent = limit_buy(system.account, "0.1", "50000")
    await admit(system, intent)
    last = report(size, status=AttemptStatus.CANCELLED)
    await record(system, intent, last)
    end = EndOrder(order_key=intent.order_key, symbol=intent.symbol, state="EXPIRED", sentence="its time was over")
    await system.parts.trading.end_order(end)
    for update in (last, report("0.05", second=1, status=AttemptStatus.CANCELLED)):
        result = await record(system, intent, update)
        assert (result.state, result.finished) == (OrderState.EXPIRED, True)
    assert [row["state"] for row in await system.rows("SELECT state FROM orders")] == ["EXPIRED"]


@pytest.mark.parametrize("told", ["0", "0.03"])
async def test_what_an_exit_is_told_to_have_sold_after_its_end_is_in_its_row(system: TradingSystem, told: str) -> None:
    """An exit that ended with too small a total gets size, price and fees of all that it sold, once known."""
    entry = market_buy(system.account, "0.1")
    await admit(system, entry)
    await record(system, entry, report("0.1", "50000", status=AttemptStatus.FILLED))
    leaving = sell(system.account, "0.1", entry_key=entry.order_key, exit_reason=ExitReason.MANUAL)
    await admit(system, leaving)
    await record(system, leaving, report(told, "49000", second=1, status=AttemptStatus.CANCELLED, name="y"))
    end = EndOrder(order_key=leaving.order_key, symbol=leaving.symbol, state="CANCELLED")
    await system.parts.trading.end_order(end)
    await record(system, leaving, report("0.05", "49000", second=2, status=AttemptStatus.CANCELLED, name="y"))
    rows = await system.rows("SELECT size, average_price, fees FROM trade_exits")
    assert [tuple(row.values()) for row in rows] == [(Decimal("0.05"), Decimal(49000), Decimal("14.7"))]


async def test_any_order_of_arrival_ends_in_the_same_totals(system: TradingSystem) -> None:
    """Each permutation of four cumulative reports gives one order, one trade and one linkage with the same sums."""
    steps = [
        report("0.03", second=1),
        report("0.05", second=2),
        report("0.05", second=3, status=AttemptStatus.CANCELLING),
        report("0.06", second=4, status=AttemptStatus.CANCELLED),
    ]
    ends = []
    for number, order in enumerate(itertools.permutations(steps)):
        if number % 4:
            continue
        intent = limit_buy(system.account, "0.1", "50000", symbol="ETH-USD" if number % 8 else "BTC-USD")
        await system.pool.execute("UPDATE orders SET finished = true")
        await admit(system, intent)
        for update in order:
            await record(system, intent, update.model_copy(update={"exchange_order_id": f"exchange-{number}"}))
        order_row = (await system.rows("SELECT * FROM orders WHERE order_key = $1", intent.order_key))[0]
        trade = (await system.rows("SELECT * FROM trades WHERE entry_key = $1", intent.order_key))[0]
        attempt = (await system.rows("SELECT * FROM attempts WHERE order_key = $1", intent.order_key))[0]
        ends.append(
            (
                order_row["filled_size"],
                order_row["filled_value"],
                order_row["quote_fees"],
                trade["bought_size"],
                trade["bought_value"],
                attempt["status"],
            )
        )
    assert set(ends) == {(Decimal("0.06"), Decimal(3000), Decimal(18), Decimal("0.06"), Decimal(3000), "CANCELLED")}
    await assert_fifo_is_a_full_recompute(system)


@pytest.mark.parametrize("seed", range(5))
async def test_late_fills_are_put_in_their_place(system: TradingSystem, seed: int) -> None:
    """Buys and sells of one symbol in any order of arrival are matched as in their own order."""
    dice = random.Random(seed)
    updates: list[tuple[OrderIntent | VenueOrder, OrderUpdate | None]] = []
    for number in range(6):
        intent = limit_buy(system.account, "0.5", "50000")
        await system.pool.execute("UPDATE orders SET finished = true")
        await admit(system, intent)
        size, price = Decimal(dice.randint(1, 50)) / 100, str(dice.randint(45_000, 55_000))
        part = size * dice.randint(1, 9) / 10
        for share, second in ((part, number * 10), (size, number * 10 + dice.randint(1, 30))):
            updates.append((intent, report(str(share), price, second=second, name=f"buy-{number}")))
    for number in range(6):
        size = Decimal(dice.randint(1, 60)) / 100
        value = size * dice.randint(45_000, 60_000)
        updates.append(
            (
                VenueOrder(
                    exchange_order_id=f"exchange-sell-{number}",
                    client_order_id="",
                    symbol="BTC-USD",
                    side=Side.SELL,
                    status=VenueStatus.FILLED,
                    filled_size=size,
                    filled_value=value,
                    quote_fees=value * Decimal("0.006"),
                    order_type="MARKET",
                    updated_at=START + timedelta(seconds=dice.randint(0, 80)),
                    created_at=START,
                ),
                None,
            )
        )
    updates += dice.sample(updates, 6)
    dice.shuffle(updates)
    for what, update in updates:
        if isinstance(what, VenueOrder):
            await system.parts.trading.ledger.adopt(what, StatusSource.ORDER_HISTORY)
        elif update is not None:
            await record(system, what, update)
        await assert_fifo_is_a_full_recompute(system)
    sums = (await system.rows("SELECT count(*) AS sells FROM trade_records WHERE side = 'SELL'"))[0]
    assert sums["sells"] == 6
    assert await system.value("SELECT count(*) FROM fifo_allocations WHERE buy_fill IS NULL AND pnl IS NOT NULL") == 0


async def test_the_worked_example_in_the_books(system: TradingSystem) -> None:
    """1 at 50,000 and 1 at 55,000, 1.5 sold at 60,000, with the older buy learned last: 12,500."""
    await system.control.deposit("USD", "100000")
    first, second = (limit_buy(system.account, "1", "60000") for _ in range(2))
    await admit(system, first)
    await admit(system, second)
    filled = AttemptStatus.FILLED
    await record(system, second, report("1", "55000", second=2, status=filled, name="b", fee="0"))
    sold = VenueOrder(
        exchange_order_id="exchange-s",
        client_order_id="",
        symbol="BTC-USD",
        side=Side.SELL,
        status=VenueStatus.FILLED,
        filled_size=Decimal("1.5"),
        filled_value=Decimal(90_000),
        order_type="MARKET",
        updated_at=START + timedelta(seconds=3),
        created_at=START,
    )
    await system.parts.trading.ledger.adopt(sold, StatusSource.ORDER_HISTORY)
    await record(system, first, report("1", "50000", second=1, status=filled, name="a", fee="0"))
    row = (await system.rows("SELECT * FROM trade_records WHERE order_id = 'exchange-s'"))[0]
    assert (row["pnl_usd"], row["parent_ids"]) == (12_500, ["exchange-a", "exchange-b"])
    assert await system.value("SELECT remaining_size FROM trade_records WHERE order_id = 'exchange-b'") == Decimal(
        "0.5"
    )


async def test_one_report_from_many_sides_at_once_is_booked_once(system: TradingSystem) -> None:
    """Stream, reconcile and workflow recording the same fill in the same moment give one fill."""
    intent = limit_buy(system.account, "0.1", "50000")
    await admit(system, intent)
    update = report("0.04", second=1)
    results = await asyncio.gather(*(record(system, intent, update) for _ in range(8)))
    assert [result.new_fill for result in results].count(True) == 1
    assert [result.first_fill for result in results].count(True) == 1
    assert await system.value("SELECT sum(size) FROM fills") == Decimal("0.04")
    assert await system.value("SELECT bought_size FROM trades") == Decimal("0.04")


async def test_a_report_of_an_unknown_attempt_is_no_silent_loss(system: TradingSystem) -> None:
    """A report of an attempt that the journal doesn't have is an error, and writes nothing."""
    intent = limit_buy(system.account, "0.1", "50000")
    with pytest.raises(UnknownAttemptError):
        await record(system, intent, report("0.1"))
    await admit(system, intent)
    with pytest.raises(UnknownAttemptError):
        await record(system, intent, report("0.1", attempt=2))
    assert await system.value("SELECT count(*) FROM fills") == 0


async def test_an_order_that_is_not_ours_is_adopted_once(system: TradingSystem) -> None:
    """An external order is recorded with its source, in the FIFO book, without linkage, however often it is seen."""
    seen = VenueOrder(
        exchange_order_id="exchange-app",
        client_order_id="",
        symbol="BTC-USD",
        side=Side.BUY,
        status=VenueStatus.FILLED,
        filled_size=Decimal("0.2"),
        filled_value=Decimal(10_000),
        quote_fees=Decimal(60),
        order_type="MARKET",
        updated_at=START,
        created_at=START,
    )
    for source in (StatusSource.WEBSOCKET, StatusSource.ORDER_HISTORY, StatusSource.WEBSOCKET):
        await system.parts.trading.ledger.adopt(seen, source)
    (row,) = await system.rows("SELECT source, trigger, role FROM orders")
    assert (row["source"], row["trigger"], row["role"]) == ("websocket", "manual", "EXTERNAL")
    assert await system.value("SELECT sum(lot_remaining) FROM fills") == Decimal("0.2")
    assert await system.value("SELECT count(*) FROM trade_strategy_link") == 0
    assert await system.value("SELECT count(*) FROM trades") == 0


# --- what the database refuses --------------------------------------------------------------------------------------


async def test_a_fill_can_not_be_counted_twice(system: TradingSystem) -> None:
    """A second row for the same fill is refused by the database itself."""
    intent = limit_buy(system.account, "0.1", "50000")
    await admit(system, intent)
    await record(system, intent, report("0.04"))
    with pytest.raises(asyncpg.UniqueViolationError):
        await system.pool.execute(
            """INSERT INTO fills (fill_key, account, symbol, side, exchange_order_id, origin, ingest_via, at)
               SELECT fill_key, account, symbol, side, exchange_order_id, origin, ingest_via, at FROM fills"""
        )


async def test_two_live_attempts_of_one_order_are_impossible(system: TradingSystem) -> None:
    """While an attempt is live the database accepts no other one of its order."""
    intent = limit_buy(system.account, "0.1", "50000")
    await admit(system, intent)
    with pytest.raises(asyncpg.UniqueViolationError):
        await system.pool.execute(
            """INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status)
               SELECT $2, order_key, 2, account, symbol, body, 'SUBMITTING' FROM attempts WHERE order_key = $1""",
            intent.order_key,
            client_order_id(intent.order_key, 2),
        )


async def test_a_position_below_zero_is_impossible(system: TradingSystem) -> None:
    """No statement makes a trade's remaining size negative."""
    intent = limit_buy(system.account, "0.1", "50000")
    await admit(system, intent)
    await record(system, intent, report("0.1", status=AttemptStatus.FILLED))
    with pytest.raises(asyncpg.CheckViolationError):
        await system.pool.execute("UPDATE trades SET sold_size = 0.11")


async def test_an_oversell_is_kept_as_a_fact_and_told(system: TradingSystem) -> None:
    """The excess is in fills and FIFO, the trade stops at zero, and there is an incident."""
    await system.control.deposit("BTC", "0.01")
    entry = limit_buy(system.account, "0.01", "50000")
    await admit(system, entry)
    await record(system, entry, report("0.01", status=AttemptStatus.FILLED, name="buy"))
    leg = sell(system.account, "0.01", entry_key=entry.order_key, entry_point="exit")
    assert (await admit(system, leg)).accepted
    result = await record(system, leg, report("0.012", "51000", second=1, status=AttemptStatus.FILLED, name="sell"))
    assert result.trade_remaining == 0
    assert await system.value("SELECT size FROM fills WHERE side = 'SELL'") == Decimal("0.012")
    assert await system.value("SELECT size FROM fifo_allocations WHERE buy_fill IS NULL") == Decimal("0.002")
    (told,) = await system.rows("SELECT severity, sentence FROM incidents WHERE kind = 'OVERSOLD'")
    assert told["severity"] == "CRITICAL"
    assert "0.002" in told["sentence"]
    await assert_fifo_is_a_full_recompute(system)


# --- admissions -----------------------------------------------------------------------------------------------------


async def test_the_same_intent_again_gets_the_stored_decision(system: TradingSystem) -> None:
    """Admitting twice, also concurrently, decides once: one order row, one attempt, the same answer."""
    intent = limit_buy(system.account, "0.1", "50000")
    answers = await asyncio.gather(*(admit(system, intent) for _ in range(6)))
    assert {answer.accepted for answer in answers} == {True}
    assert {answer.plan.client_order_id for answer in answers if answer.plan} == {client_order_id(intent.order_key, 1)}
    assert await system.value("SELECT count(*) FROM orders") == 1
    assert await system.value("SELECT count(*) FROM attempts") == 1


async def test_a_stored_refusal_stays_refused(system: TradingSystem) -> None:
    """An intent that a gate refused is not decided again when the facts have changed."""
    intent = market_buy(system.account, "0.01")
    await system.pool.execute(
        "INSERT INTO account_controls (account, halted, reason) VALUES ($1, true, 'lunch')", system.account
    )
    first = await admit(system, intent)
    await system.pool.execute("UPDATE account_controls SET halted = false")
    again = await admit(system, intent)
    assert (first.gate, again.gate) == ("SKIP_TRADING_HALTED", "SKIP_TRADING_HALTED")
    assert again.sentence == first.sentence == "new entries are halted by an unknown person: lunch"


@pytest.mark.parametrize(
    "change",
    [
        {"base_size": Decimal("0.2")},
        {"limit_price": Decimal(49_000)},
        {"symbol": "ETH-USD"},
        {"post_only": True},
        {"linkage": linkage("macd_cross")},
    ],
    ids=["size", "price", "symbol", "post-only", "decision"],
)
async def test_the_same_key_with_another_body_is_refused(system: TradingSystem, change: dict[str, Any]) -> None:
    """A key that was used for one intent can't carry another: INTENT_CONFLICT, and nothing is written."""
    intent = limit_buy(system.account, "0.1", "50000")
    await admit(system, intent)
    with pytest.raises(ApplicationError) as refused:
        await admit(system, intent.model_copy(update=change))
    assert refused.value.type == "INTENT_CONFLICT"
    assert refused.value.non_retryable
    assert await system.value("SELECT base_size FROM orders") == Decimal("0.1")


async def test_concurrent_entries_never_spend_one_balance_twice(system: TradingSystem) -> None:
    """Of ten concurrent entries that each need most of the balance, exactly one passes."""
    await system.pool.execute(
        "INSERT INTO balances (account, currency, available, hold, asked_at, answered_at) "
        "VALUES ($1, 'USD', 1000, 0, now(), now())",
        system.account,
    )
    answers = await asyncio.gather(
        *(
            admit(system, limit_buy(system.account, "0.012", "50000", symbol=symbol))
            for symbol in ["BTC-USD", "ETH-USD"] * 5
        )
    )
    assert [answer.accepted for answer in answers].count(True) == 1
    assert {answer.gate for answer in answers if not answer.accepted} == {"INSUFFICIENT_BALANCE"}


async def test_concurrent_entries_never_take_one_slot_twice(system: TradingSystem) -> None:
    """Of ten concurrent entries on one symbol, exactly as many pass as there are slots."""
    answers = await asyncio.gather(*(admit(system, limit_buy(system.account, "0.01", "50000")) for _ in range(10)))
    assert [answer.accepted for answer in answers].count(True) == 3
    assert {answer.gate for answer in answers if not answer.accepted} == {"SKIP_MAX_OPEN_ORDERS"}


async def test_concurrent_exits_never_claim_more_than_the_trade_has(system: TradingSystem) -> None:
    """Five concurrent exits of one trade claim its position once, whatever else the account holds."""
    await system.control.deposit("BTC", "5")
    entry = limit_buy(system.account, "0.01", "50000")
    await admit(system, entry)
    await record(system, entry, report("0.01", status=AttemptStatus.FILLED))
    answers = await asyncio.gather(
        *(admit(system, sell(system.account, "0.01", entry_key=entry.order_key)) for _ in range(5))
    )
    assert [answer.accepted for answer in answers].count(True) == 1
    assert await system.value("SELECT sum(claimed_base) FROM orders WHERE role = 'EXIT'") == Decimal("0.01")


async def test_a_sell_of_the_pool_leaves_what_trades_own(system: TradingSystem) -> None:
    """A sell without a named trade may only take from the pool, completely or not at all (RISK-4)."""
    entry = limit_buy(system.account, "0.01", "50000")
    await admit(system, entry)
    await record(system, entry, report("0.01", status=AttemptStatus.FILLED))
    await system.control.deposit("BTC", "0.015")
    await open_books(system.pool, system.account, BTC="0.005")
    answers = await asyncio.gather(*(admit(system, sell(system.account, "0.003")) for _ in range(4)))
    claims = sorted(answer.size for answer in answers if answer.accepted and answer.size)
    assert claims == [Decimal("0.003")]
    assert await system.value("SELECT sum(claimed_base) FROM orders WHERE side = 'SELL'") == Decimal("0.003")


async def test_ending_an_order_releases_what_it_held(system: TradingSystem) -> None:
    """A finished order reserves nothing, and a late fill after that increases it and is not an error."""
    intent = limit_buy(system.account, "0.1", "50000")
    await admit(system, intent)
    assert await system.value("SELECT reserved_quote FROM orders") == Decimal("0.1") * 50_000 * Decimal("1.006")
    await record(system, intent, report("0.02", status=AttemptStatus.CANCELLED))
    await system.pool.execute(
        "UPDATE orders SET finished = true, state = 'CANCELLED', reserved_quote = 0 WHERE order_key = $1",
        intent.order_key,
    )
    result = await record(system, intent, report("0.1", second=5, status=AttemptStatus.FILLED))
    assert (result.state, result.filled_size) == (OrderState.FILLED, Decimal("0.1"))
    assert (result.trade_state, result.trade_remaining) == (TradeState.PROTECTED, Decimal("0.1"))
    assert result.entry_final
