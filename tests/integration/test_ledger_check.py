"""The ledger's own check and repair on a real PostgreSQL: errors are named, correct rows stay unchanged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from activities.interfaces.ledger import LedgerReport, ValidateInput
from activities.ledger.recompute import repair_symbol
from activities.ledger.record import LedgerWriter
from activities.ledger.validator import INCIDENT, UNLINKED, Validator, check_ledger
from domain.exits import ExitRules
from domain.messages import StatusSource
from domain.money import ZERO
from domain.orders import Side, VenueStatus
from exchange.port import Balance, VenueOrder
from tests.support.fake_exchange import FakeExchange, order
from tests.support.ledger_rows import add_order, intent
from workers.settings.changes import record_base, set_override
from workers.settings.sources import SettingSources

ACCOUNT = "main"
SYMBOLS = ("BTC-USD", "ETH-USD")
START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """The database's pool."""
    opened = await create_pool(database)
    yield opened
    await opened.close()


def history(seed: int, count: int = 60) -> list[VenueOrder]:
    """Filled orders of two symbols in order of arrival, some of them late."""
    dice = random.Random(seed)
    found = []
    for number in range(count):
        side = Side.BUY if dice.random() < 0.55 else Side.SELL
        size, price = Decimal(dice.randint(1, 400)) / 1000, Decimal(dice.randint(9_000, 11_000)) / 100
        filled = order(
            f"x{number}",
            f"outside-{number}",
            symbol=dice.choice(SYMBOLS),
            side=side,
            status=VenueStatus.FILLED,
            size=str(size),
            price=str(price),
            fees=str(size * price * Decimal("0.006")),
            at=START + timedelta(seconds=number),
        )
        found.append(replace(filled, base_fees=size / 1000 if dice.random() < 0.2 else ZERO))
    for _ in range(count // 4):
        item = found.pop(dice.randrange(len(found)))
        found.insert(dice.randrange(len(found)), item)
    return found


async def recorded(pool: Pool, orders: list[VenueOrder], protect: ExitRules | None = None) -> LedgerWriter:
    """A ledger that has recorded them one by one, in order of arrival."""
    ledger = LedgerWriter(pool, ACCOUNT)
    for item in orders:
        await ledger.adopt(item, StatusSource.WEBSOCKET, protect=protect)
    return ledger


async def open_books(pool: Pool, exchange: FakeExchange, extra: str = "0") -> None:
    """Opening balances, and an exchange that holds the result of the fills, plus `extra` BTC."""
    for currency in ("BTC", "ETH", "USD"):
        await pool.execute(
            "INSERT INTO balance_transfers (account, currency, kind, amount, expected, found) "
            "VALUES ($1, $2, 'opening', 1000, 0, 1000)",
            ACCOUNT,
            currency,
        )
    moved = await pool.fetch(
        """SELECT split_part(symbol, '-', 1) AS currency, sum(CASE side WHEN 'BUY' THEN size - base_fees
                  ELSE -(size + base_fees) END) AS amount FROM fills GROUP BY 1
           UNION ALL
           SELECT 'USD', sum(CASE side WHEN 'BUY' THEN -(value + quote_fees) ELSE value - quote_fees END) FROM fills"""
    )
    held = {row["currency"]: 1000 + row["amount"] for row in moved}
    held["BTC"] += Decimal(extra)
    exchange.money = {name: Balance(name, amount, ZERO) for name, amount in held.items()}


async def rows(pool: Pool) -> dict[str, list[str]]:
    """The FIFO book and rows derived from it, as text, so that every digit counts; without row numbers."""
    statements = {
        "allocations": "SELECT (to_jsonb(a) - 'id')::text || sell_price || cost_basis || size "
        "FROM fifo_allocations a ORDER BY sell_fill, buy_fill",
        "lots": "SELECT id || ' ' || trim_scale(lot_remaining) FROM fills WHERE side = 'BUY' ORDER BY id",
        "records": "SELECT concat_ws(' ', order_id, parent_id, parent_ids, pnl_usd, realized_profit, cost_basis_usd, "
        "sale_proceeds_usd, net_sale_proceeds_usd, trim_scale(remaining_size), size, total_fees_usd) "
        "FROM trade_records ORDER BY order_id",
    }
    return {name: [row[0] for row in await pool.fetch(sql)] for name, sql in statements.items()}


# --- recompute --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_recompute_gives_the_rows_that_recording_gave(pool: Pool, seed: int) -> None:
    """After all derived rows were deleted, repair writes the same rows again, bit for bit."""
    await recorded(pool, history(seed))
    before = await rows(pool)
    assert len(before["allocations"]) > 20
    await pool.execute("DELETE FROM fifo_allocations")
    await pool.execute("UPDATE fills SET lot_remaining = 0 WHERE side = 'BUY'")
    await pool.execute(
        "UPDATE trade_records SET pnl_usd = NULL, realized_profit = 7, cost_basis_usd = NULL, remaining_size = 9, "
        "sale_proceeds_usd = NULL, net_sale_proceeds_usd = NULL, parent_id = NULL, parent_ids = '{}'"
    )
    for symbol in SYMBOLS:
        assert not (await repair_symbol(pool, ACCOUNT, symbol)).clean
    assert await rows(pool) == before


async def test_a_right_book_is_left_alone(pool: Pool) -> None:
    """Repair of a correct book writes nothing: even row numbers stay."""
    await recorded(pool, history(4))
    before = await pool.fetch("SELECT *, xmin::text FROM fifo_allocations ORDER BY id")
    for symbol in SYMBOLS:
        assert (await repair_symbol(pool, ACCOUNT, symbol)).clean
    assert await pool.fetch("SELECT *, xmin::text FROM fifo_allocations ORDER BY id") == before


async def test_repair_while_fills_arrive(pool: Pool) -> None:
    """Repairs during recording lose nothing: the book is correct at the end."""
    orders = history(5, 80)
    await recorded(pool, orders[:40])
    await pool.execute("DELETE FROM fifo_allocations WHERE id % 2 = 0")

    async def repair() -> None:
        for _ in range(6):
            for symbol in SYMBOLS:
                await repair_symbol(pool, ACCOUNT, symbol)

    await asyncio.gather(repair(), recorded(pool, orders[40:]))
    assert (await check_ledger(pool, None, ACCOUNT)).violations == ()


# --- verify -----------------------------------------------------------------------------------------------------------


async def test_a_right_ledger_has_no_violations(pool: Pool) -> None:
    """Everything recorded in any order: books agree with themselves, each other and the exchange."""
    await recorded(pool, history(6), protect=ExitRules())
    exchange = FakeExchange()
    await open_books(pool, exchange)
    report = await check_ledger(pool, exchange, ACCOUNT)
    assert report.violations == ()
    assert (report.ok, report.fills, report.symbols) == (True, 60, 2)
    assert report.uncovered_sells > 0
    assert report.compared == "the books equal the exchange's balances"
    assert {row.currency: row.difference for row in report.balances} == {"BTC": 0, "ETH": 0, "USD": 0}


_WRONG = {
    "SELL_NOT_ALLOCATED": "DELETE FROM fifo_allocations WHERE id = (SELECT min(id) FROM fifo_allocations)",
    "LOT_EXCEEDED": "UPDATE fifo_allocations SET size = size + 5 WHERE id = (SELECT min(id) FROM fifo_allocations "
    "WHERE buy_fill IS NOT NULL)",
    "LOT_REMAINING": "UPDATE fills SET lot_remaining = lot_remaining / 2 WHERE lot_remaining > 0",
    "ALLOCATION_PLACE": "UPDATE fifo_allocations SET buy_fill = (SELECT max(id) FROM fills WHERE side = 'SELL') "
    "WHERE id = (SELECT min(id) FROM fifo_allocations WHERE buy_fill IS NOT NULL)",
    "FIFO_DIFFERS": "UPDATE fifo_allocations SET pnl = pnl + 0.000000000000000001 WHERE id = (SELECT min(id) "
    "FROM fifo_allocations WHERE pnl IS NOT NULL)",
    "TRADE_RECORD": "UPDATE trade_records SET remaining_size = remaining_size + 1 WHERE side = 'BUY'",
    "ORDER_TOTALS": "UPDATE orders SET filled_value = filled_value + 1 WHERE side = 'BUY'",
    "ATTEMPT_TOTALS": "UPDATE attempts SET filled_size = filled_size / 2",
    "POSITION_BOOK": "UPDATE trades SET bought_size = bought_size + 1",
    "CLOSED_HOLDS": "UPDATE trades SET state = 'CLOSED'",
    "POOL_SHORT": "UPDATE balance_transfers SET amount = amount - 2000",
}


@pytest.mark.parametrize("check", list(_WRONG))
async def test_what_is_wrong_is_named(pool: Pool, check: str) -> None:
    """Each kind of damage is found by its own check; checking changes nothing."""
    await recorded(pool, history(7), protect=ExitRules())
    await open_books(pool, FakeExchange())
    await pool.execute(_WRONG[check])
    before = await rows(pool)
    report = await check_ledger(pool, None, ACCOUNT)
    assert not report.ok
    assert check in report.counts
    assert all(item.sentence for item in report.violations)
    assert await rows(pool) == before


async def test_repair_puts_the_fifo_book_right(pool: Pool) -> None:
    """After any change of allocations, lots and records, the check passes; the difference is reported."""
    await recorded(pool, history(8))
    await pool.execute("UPDATE fifo_allocations SET size = size * 2, pnl = pnl + 10")
    await pool.execute("UPDATE fills SET lot_remaining = 0 WHERE side = 'BUY'")
    await pool.execute("UPDATE trade_records SET total_fees_usd = 1, price = 1")
    found = [await repair_symbol(pool, ACCOUNT, symbol) for symbol in SYMBOLS]
    assert all(item.pnl_before != item.pnl_after and item.open_before == 0 for item in found)
    assert all(item.rows and item.stale for item in found)
    assert (await check_ledger(pool, None, ACCOUNT)).violations == ()


async def test_a_balance_that_differs_is_a_violation(pool: Pool) -> None:
    """A balance that no fill or transfer explains is found, after a second look."""
    await recorded(pool, history(9))
    exchange = FakeExchange()
    await open_books(pool, exchange, extra="0.5")
    report = await check_ledger(pool, exchange, ACCOUNT, settle_seconds=0.01)
    assert report.counts == {"BALANCE": 1}
    assert report.violations[0].subject == "BTC"
    assert next(row.difference for row in report.balances if row.currency == "BTC") == Decimal("0.5")


async def test_a_balance_that_reconcile_may_still_explain_is_to_be_looked_at(pool: Pool) -> None:
    """A difference is a warning at first, and a violation when it persists; also for a currency without books."""
    await recorded(pool, history(9))
    exchange = FakeExchange()
    await open_books(pool, exchange, extra="0.5")
    exchange.money["SOL"] = Balance("SOL", Decimal(7), ZERO)
    validator = Validator(pool, exchange, patience_seconds=900)

    async def look() -> LedgerReport:
        report = await check_ledger(pool, exchange, ACCOUNT, settle_seconds=0.01, patience_seconds=900)
        await validator.store(report)
        return report

    for _ in range(2):
        report = await look()
        assert (report.ok, len(report.warnings)) == (True, 2)
        assert report.compared.endswith("in entries that reconcile has not checked yet")
    await pool.execute("UPDATE ledger_checks SET at = at - interval '16 minutes'")
    # Another deposit was booked in the meantime: the difference is a new one.
    await pool.execute(
        "INSERT INTO balance_transfers (account, currency, kind, amount, expected, found) "
        "VALUES ($1, 'BTC', 'deposit', 0.2, 0, 0.2)",
        ACCOUNT,
    )
    report = await look()
    assert [item.subject for item in report.violations if item.check == "BALANCE"] == ["SOL"]
    assert [sentence for sentence in report.warnings if "BTC" in sentence]


class _Trading(FakeExchange):
    """Sells while its balances are requested: the first read mixes two moments."""

    def __init__(self, sell: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._sell: Callable[[], Awaitable[object]] | None = sell

    async def balances(self) -> Mapping[str, Balance]:
        """The balance after the sell, which is recorded by then."""
        if self._sell is not None:
            sell, self._sell = self._sell, None
            await sell()
        return await super().balances()


async def test_all_columns_of_a_balance_are_of_one_moment(pool: Pool) -> None:
    """A trade sold in between is in books, lots and trades, or in none of them."""
    ledger = LedgerWriter(pool, ACCOUNT)
    bought, sold = (
        order(
            f"x{number}", f"outside-{number}", symbol="BTC-USD", side=side, status=VenueStatus.FILLED, size="2",
            price="100", at=datetime(2026, 1, number, tzinfo=UTC),
        )
        for number, side in ((1, Side.BUY), (2, Side.SELL))
    )  # fmt: skip

    async def sell() -> None:
        await ledger.adopt(sold, StatusSource.WEBSOCKET)
        exchange.money["BTC"] = Balance("BTC", Decimal(1000), ZERO)
        exchange.money["USD"] = Balance("USD", Decimal(1000), ZERO)
        exchange.money["ETH"] = Balance("ETH", Decimal(1000), ZERO)

    exchange = _Trading(sell)
    await ledger.adopt(bought, StatusSource.WEBSOCKET)
    await open_books(pool, exchange)
    report = await check_ledger(pool, exchange, ACCOUNT, settle_seconds=0.01)
    assert report.ok, report.violations
    (row,) = [row for row in report.balances if row.currency == "BTC"]
    assert (row.books, row.exchange, row.in_lots) == (Decimal(1000), Decimal(1000), ZERO)
    assert row.books == row.in_lots - row.uncovered + row.transferred == row.in_trades + row.unowned


async def test_an_exchange_that_does_not_answer_is_no_violation(pool: Pool) -> None:
    """The books are still compared with each other, and the report says what was not compared."""
    await recorded(pool, history(10))
    exchange = FakeExchange()
    await open_books(pool, exchange)
    exchange.unavailable = True
    report = await check_ledger(pool, exchange, ACCOUNT)
    assert report.ok
    assert report.compared.startswith("not compared with the exchange")


# --- the scheduled check ----------------------------------------------------------------------------------------------


async def incidents(pool: Pool, kind: str) -> list[Any]:
    """Open incidents of a kind."""
    found: list[Any] = await pool.fetch("SELECT * FROM incidents WHERE kind = $1 AND resolved_at IS NULL", kind)
    return found


async def test_a_violation_is_an_incident_until_it_is_gone(pool: Pool) -> None:
    """It is reported once however often it is found, stored each time, and resolved by the first check without it."""
    await recorded(pool, history(11))
    await pool.execute(_WRONG["FIFO_DIFFERS"])
    validator = Validator(pool, FakeExchange())
    for _ in range(2):
        assert not (await validator.validate_ledger(ValidateInput(account=ACCOUNT))).ok
    (told,) = await incidents(pool, INCIDENT)
    assert told["severity"] == "CRITICAL"
    assert "FIFO_DIFFERS" in told["sentence"]
    for symbol in SYMBOLS:
        await repair_symbol(pool, ACCOUNT, symbol)
    assert (await validator.validate_ledger(ValidateInput(account=ACCOUNT, why="asked"))).ok
    assert await incidents(pool, INCIDENT) == []
    kept = await pool.fetch("SELECT why, ok, violations, report FROM ledger_checks ORDER BY id")
    assert [(row["why"], row["ok"]) for row in kept] == [("schedule", False), ("schedule", False), ("asked", True)]
    assert kept[0]["violations"] == sum(kept[0]["report"]["counts"].values()) > 0


async def test_no_linkage_at_all_is_an_incident(pool: Pool) -> None:
    """With more than ten filled sighook orders and none linked, a person is notified (LINK-3)."""
    await recorded(pool, history(12, 22))
    validator = Validator(pool, FakeExchange())
    await validator.validate_ledger(ValidateInput(account=ACCOUNT))
    assert await incidents(pool, UNLINKED) == []
    await pool.execute("UPDATE orders SET source = 'sighook', role = CASE side WHEN 'BUY' THEN 'ENTRY' ELSE 'EXIT' END")
    await validator.validate_ledger(ValidateInput(account=ACCOUNT))
    (told,) = await incidents(pool, UNLINKED)
    assert "22" in told["sentence"]
    await pool.execute(
        "INSERT INTO trade_strategy_link (order_key, order_id, client_order_id, trigger_type, indicator_breakdown, "
        "indicators_fired) SELECT order_key, '', '', 'x', '{}', '{}' FROM orders LIMIT 1"
    )
    await validator.validate_ledger(ValidateInput(account=ACCOUNT))
    assert await incidents(pool, UNLINKED) == []


async def an_entry(pool: Pool, symbol: str, *, ago: float, gate: str | None = None) -> str:
    """A buy that was admitted, or refused by a gate, this many seconds ago. Returns its key."""
    wanted = intent("blocked", symbol=symbol)
    await add_order(pool, wanted)
    await pool.execute(
        "UPDATE orders SET received_at = now() - make_interval(secs => $2), gate = $3 WHERE order_key = $1",
        wanted.order_key,
        ago,
        gate,
    )
    return wanted.order_key


async def test_what_was_bought_while_it_was_blocked_is_named_with_both_times(pool: Pool) -> None:
    """By the list's recorded changes, without those overridden by a command; refused entries and other symbols are not
    found, and old ones are reported but no longer a violation.
    """
    sources = SettingSources()
    async with pool.acquire() as connection:
        await record_base(connection, sources, starting=True)
        await set_override(connection, sources, "symbols.block", ["BTC-USD"], by="ann")
        beneath = replace(sources, from_environment={"symbols": {"block": ["ETH-USD"]}})
        await record_base(connection, beneath, starting=True)
    await pool.execute("UPDATE setting_bases SET at = at - interval '20 days'")
    await pool.execute("UPDATE setting_changes SET at = at - interval '10 days'")
    fine = [await an_entry(pool, "BTC-USD", ago=300 * 3600), await an_entry(pool, "ETH-USD", ago=60)]
    fine.append(await an_entry(pool, "BTC-USD", ago=70, gate="SKIP_BLACKLISTED"))
    old, new = await an_entry(pool, "BTC-USD", ago=200 * 3600), await an_entry(pool, "BTC-USD", ago=80)
    report = await check_ledger(pool, None, ACCOUNT)
    (wrong,) = [item for item in report.violations if item.check == "BOUGHT_WHILE_BLOCKED"]
    assert (wrong.subject, wrong.symbol, report.ok) == (new, "BTC-USD", False)
    (told,) = report.warnings
    assert f"order {old} bought BTC-USD at " in told
    assert "which was on the block list since " in told
    assert not [key for key in fine if key in f"{wrong}{report.warnings}"]


async def test_entries_of_before_the_lists_history_are_told_as_unknown(pool: Pool) -> None:
    """The list of that time was not recorded: the entries are counted and dated, and not reported as fine."""
    await an_entry(pool, "BTC-USD", ago=3600)
    (told,) = (await check_ledger(pool, None, ACCOUNT)).warnings
    assert "is not known because no worker has recorded its settings: whether one of the 1 entries" in told
    async with pool.acquire() as connection:
        await record_base(connection, SettingSources(), starting=True)
    await an_entry(pool, "BTC-USD", ago=-1)
    (told,) = (await check_ledger(pool, None, ACCOUNT)).warnings
    assert "is not known before 2" in told
    assert "one of the 1 entries" in told
