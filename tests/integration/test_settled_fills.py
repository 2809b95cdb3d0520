"""The exchange's own executions in the ledger: trade ids are per product, and one trade may have two of our orders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from activities.database import Pool, create_pool
from activities.ledger.exchange_fills import settle_fills
from activities.ledger.record import LedgerWriter
from activities.ledger.validator import check_ledger
from domain.messages import OrderUpdate
from domain.money import divide
from domain.orders import AttemptStatus, OrderRole, Side
from exchange.port import MalformedMessage, VenueFill
from tests.support.ledger_rows import ACCOUNT, add_order, intent

AT = datetime(2026, 8, 9, 12, tzinfo=UTC)


class FillList:
    """An exchange of which only the list of executions is used."""

    def __init__(self, fills: Sequence[VenueFill]) -> None:
        self._fills = fills

    async def fills(self, *, since: datetime, unreadable: list[MalformedMessage]) -> Sequence[VenueFill]:
        """All of them."""
        return self._fills


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on a new ledger."""
    found = await create_pool(database, size=2)
    yield found
    await found.close()


async def bought(pool: Pool, symbol: str, exchange_order_id: str) -> None:
    """An order of ours that has filled 1 at 100, as reported by the stream."""
    wanted = intent(exchange_order_id, symbol=symbol)
    await add_order(pool, wanted, exchange_order_id=exchange_order_id)
    update = OrderUpdate(
        attempt=1,
        status=AttemptStatus.FILLED,
        exchange_order_id=exchange_order_id,
        filled_size=Decimal(1),
        filled_value=Decimal(100),
        at=AT,
    )
    await LedgerWriter(pool, ACCOUNT).record(wanted.order_key, update)


def execution(symbol: str, exchange_order_id: str, trade_id: str) -> VenueFill:
    """1 at 100, without fees."""
    return VenueFill(
        exchange_order_id=exchange_order_id,
        trade_id=trade_id,
        symbol=symbol,
        side=Side.BUY,
        size=Decimal(1),
        price=Decimal(100),
        fee=Decimal(0),
        fee_currency="USD",
        liquidity="TAKER",
        at=AT,
    )


async def settle(pool: Pool, fills: Sequence[VenueFill]) -> int:
    """Record them in the ledger."""
    return await settle_fills(
        pool,
        FillList(fills),  # type: ignore[arg-type]
        ACCOUNT,
        look_back=timedelta(days=3650),
        timeout=5,
    )


async def test_a_trade_id_that_two_products_have_is_two_fills(pool: Pool) -> None:
    """Trade ids are unique per product, so the same one on another product is another fill."""
    await bought(pool, "BTC-USD", "x-1")
    await bought(pool, "ETH-USD", "x-2")
    assert await settle(pool, [execution("BTC-USD", "x-1", "7"), execution("ETH-USD", "x-2", "7")]) == 2
    rows = await pool.fetch("SELECT symbol, trade_id, origin FROM fills ORDER BY symbol")
    assert [tuple(row) for row in rows] == [("BTC-USD", "7", "exchange"), ("ETH-USD", "7", "exchange")]


async def test_one_order_that_can_not_be_settled_does_not_keep_the_others_from_it(pool: Pool) -> None:
    """Executions that the ledger refuses are one incident, however often they are tried; the next order is settled."""
    await bought(pool, "BTC-USD", "x-1")
    await bought(pool, "ETH-USD", "x-2")
    taken = "INSERT INTO fills (fill_key, account, symbol, side, exchange_order_id, origin, ingest_via, at) "
    await pool.execute(
        taken + "VALUES ($1, 'main', 'BTC-USD', 'BUY', 'x-3', 'exchange', 'rest', $2)", "main/x-1/trade/7", AT
    )
    fills = [execution("BTC-USD", "x-1", "7"), execution("ETH-USD", "x-2", "8")]
    assert await settle(pool, fills) == 1
    assert await settle(pool, fills) == 0
    assert await pool.fetchval("SELECT origin FROM fills WHERE exchange_order_id = 'x-2'") == "exchange"
    incidents = await pool.fetch("SELECT kind, subject FROM incidents")
    assert [tuple(row) for row in incidents] == [("FILLS_NOT_SETTLED", "x-1")]


@pytest.mark.parametrize("off", ["0", "0.02"])
async def test_executions_add_up_to_the_exchange_s_own_places(pool: Pool, off: str) -> None:
    """A buy sized in quote ends in a fraction, reported as quote divided by price: its executions are accepted, and all
    books have the order's totals; a value that differs by more than rounding is corrected and reported.
    """
    wanted = intent("x-1", symbol="BTC-USD")
    await add_order(pool, wanted, exchange_order_id="x-1")
    price, size, value = Decimal("21220.64"), Decimal("0.0056830664333996"), Decimal("120.59830687925647")
    update = OrderUpdate(
        attempt=1,
        status=AttemptStatus.FILLED,
        exchange_order_id="x-1",
        filled_size=size,
        filled_value=value + Decimal(off),
        quote_fees=Decimal("0.7235898412755388"),
        at=AT,
    )
    await LedgerWriter(pool, ACCOUNT).record(wanted.order_key, update)
    sizes = [Decimal("0.001"), divide(Decimal("99.37766687925647"), price).quantize(Decimal("1e-18"))]
    assert sum(sizes) != size
    fees = [Decimal("0.12732384"), Decimal("0.5962660012755389")]
    fills = [
        replace(execution("BTC-USD", "x-1", str(number)), price=price, size=sizes[number], fee=fees[number])
        for number in (0, 1)
    ]
    assert await settle(pool, fills) == 1
    rows = await pool.fetch(
        """SELECT sum(size) AS size, sum(value) AS value, sum(quote_fees) AS fees FROM fills
           UNION ALL SELECT filled_size, filled_value, quote_fees FROM orders
           UNION ALL SELECT filled_size, filled_value, quote_fees FROM attempts
           UNION ALL SELECT bought_size, bought_value, bought_quote_fees FROM trades"""
    )
    assert {(row["size"], row["value"], row["fees"]) for row in rows} == {(size, rows[0]["value"], update.quote_fees)}
    assert abs(rows[0]["value"] - value) < Decimal("1e-11")
    assert await pool.fetchval("SELECT array_agg(DISTINCT origin) FROM fills") == ["exchange"]
    assert await pool.fetchval("SELECT count(*) FROM incidents") == (off != "0")


@pytest.mark.parametrize("price", ["99.99", "100.01"])
async def test_what_is_settled_stays_when_the_same_report_comes_again(pool: Pool, price: str) -> None:
    """The executions decide what was paid; earlier totals of the stream change nothing any more."""
    await bought(pool, "BTC-USD", "x-1")
    executions = [replace(execution("BTC-USD", "x-1", "7"), price=Decimal(price))]
    assert await settle(pool, executions) == 1

    async def books() -> dict[str, object]:
        return dict(
            await pool.fetchrow(
                """SELECT (SELECT bought_value FROM trades) AS trade, (SELECT sum(value) FROM fills) AS filled,
                          (SELECT filled_value FROM orders) AS ordered, (SELECT filled_value FROM attempts) AS attempt,
                          (SELECT count(*) FROM fills) AS fills, (SELECT count(*) FROM incidents) AS incidents"""
            )
        )

    settled = await books()
    assert {settled[name] for name in ("trade", "filled", "ordered", "attempt")} == {Decimal(price)}
    for _ in range(2):
        await again(pool, "x-1", Decimal(100))
        assert await settle(pool, executions) == 0
        assert await books() == settled


async def again(pool: Pool, exchange_order_id: str, value: Decimal) -> None:
    """A report of a filled order: 1 for this value."""
    key = await pool.fetchval("SELECT order_key FROM attempts WHERE exchange_order_id = $1", exchange_order_id)
    await LedgerWriter(pool, ACCOUNT).record(
        key,
        OrderUpdate(
            attempt=1,
            status=AttemptStatus.FILLED,
            exchange_order_id=exchange_order_id,
            filled_size=Decimal(1),
            filled_value=value,
            at=AT,
        ),
    )


async def test_a_correction_opens_no_closed_trade_again(pool: Pool) -> None:
    """A closed trade whose entry cost a cent more stays closed, with the right cost."""
    await bought(pool, "BTC-USD", "x-1")
    entry_key = await pool.fetchval("SELECT order_key FROM orders")
    leg = intent("x-2", side=Side.SELL, role=OrderRole.EXIT, entry_key=entry_key)
    await add_order(pool, leg, exchange_order_id="x-2")
    await again(pool, "x-2", Decimal(90))
    await pool.execute("UPDATE trades SET state = 'CLOSED', closed_at = '2026-08-09T13:00Z'")
    await pool.execute("UPDATE exit_plans SET state = 'DISARMED', quantity = 0")
    await again(pool, "x-1", Decimal("100.01"))
    row = await pool.fetchrow(
        "SELECT t.state, t.closed_at, t.bought_value, p.state AS plan FROM trades t JOIN exit_plans p USING (entry_key)"
    )
    assert (row["state"], row["bought_value"], row["plan"]) == ("CLOSED", Decimal("100.01"), "DISARMED")
    assert row["closed_at"] == datetime(2026, 8, 9, 13, tzinfo=UTC)


@pytest.mark.parametrize("corrected", ["entry", "exit"])
async def test_what_an_exit_achieved_follows_a_correction(pool: Pool, corrected: str) -> None:
    """Executions that differ from the totals of an entry or an exit change the recorded result of the exit."""
    await bought(pool, "BTC-USD", "x-1")
    entry_key = await pool.fetchval("SELECT order_key FROM orders")
    leg = intent("x-2", side=Side.SELL, role=OrderRole.EXIT, entry_key=entry_key)
    await add_order(pool, leg, exchange_order_id="x-2")
    await again(pool, "x-2", Decimal(90))
    assert (await check_ledger(pool, None, ACCOUNT)).ok
    entry, sold = execution("BTC-USD", "x-1", "7"), execution("BTC-USD", "x-2", "8")
    if corrected == "entry":
        fills = [replace(entry, price=Decimal(120))]
    else:
        fills = [replace(sold, side=Side.SELL, price=Decimal(80), fee=Decimal("0.5"))]
    assert await settle(pool, fills) == 1
    row = await pool.fetchrow("SELECT average_price, achieved_gross, achieved_net, fees FROM trade_exits")
    price, net = (Decimal(90), "-0.25") if corrected == "entry" else (Decimal(80), "-0.205")
    assert (row["average_price"], row["achieved_net"]) == (price, Decimal(net))
    report = await check_ledger(pool, None, ACCOUNT)
    assert report.ok, report.violations


async def test_an_execution_is_as_new_as_the_fill_in_whose_place_it_is(pool: Pool) -> None:
    """A fill after a balance was read was not in that balance: its execution keeps the later time."""
    wanted = intent("x-1")
    await add_order(pool, wanted, exchange_order_id="x-1")
    for size in ("0.4", "1"):
        update = OrderUpdate(
            attempt=1,
            status=AttemptStatus.OPEN,
            exchange_order_id="x-1",
            filled_size=Decimal(size),
            filled_value=100 * Decimal(size),
            at=AT,
        )
        await LedgerWriter(pool, ACCOUNT).record(wanted.order_key, update)
    derived = [row["recorded_at"] for row in await pool.fetch("SELECT recorded_at FROM fills ORDER BY id")]
    assert derived[0] < derived[1]
    executions = [
        replace(execution("BTC-USD", "x-1", str(number)), size=Decimal(size), at=AT + timedelta(seconds=number))
        for number, size in enumerate(("0.4", "0.3", "0.3"))
    ]
    assert await settle(pool, executions[::-1]) == 1
    rows = await pool.fetch("SELECT trade_id, recorded_at FROM fills ORDER BY trade_id")
    assert [row["recorded_at"] for row in rows] == [derived[0], derived[1], derived[1]]
