"""The round trips of recording a fill, and that the fast path is never a wrong one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest_asyncio

from activities.database import Pool, create_pool, symbol_transaction
from activities.ledger.record import LedgerWriter
from activities.ledger.validator import check_ledger
from domain.messages import OrderIntent, OrderUpdate, StatusSource
from domain.orders import AttemptStatus, OrderRole, Side, TradeState
from tests.support.ledger_rows import ACCOUNT, add_order, intent, until

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool of a few connections."""
    opened = await create_pool(database, size=4)
    yield opened
    await opened.close()


class Counted:
    """A pool of one connection that lists and runs every statement."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.statements: list[str] = []

    def _note(self, record: Any) -> None:
        self.statements.append(record.query)

    async def fetchrow(self, statement: str, *values: Any) -> Any:
        """Like the pool's."""
        async with self._pool.acquire() as connection:
            with connection.query_logger(self._note):
                return await connection.fetchrow(statement, *values)


def report(size: str, second: int, *, status: AttemptStatus = AttemptStatus.OPEN, name: str = "x") -> OrderUpdate:
    """`size` traded at 100 so far."""
    return OrderUpdate(
        attempt=1,
        status=status,
        exchange_order_id=name,
        filled_size=Decimal(size),
        filled_value=Decimal(size) * 100,
        quote_fees=Decimal(size) / 10,
        source=StatusSource.WEBSOCKET,
        at=START + timedelta(seconds=second),
    )


async def bought(pool: Pool, ledger: LedgerWriter, name: str = "x") -> OrderIntent:
    """An entry of 1 that has filled."""
    wanted = intent(name)
    await add_order(pool, wanted, exchange_order_id=name)
    await ledger.record(wanted.order_key, report("1", 1, status=AttemptStatus.FILLED, name=name))
    return wanted


async def exit_of(pool: Pool, entry: OrderIntent, name: str = "y") -> OrderIntent:
    """An exit of 1 at the exchange."""
    wanted = intent(name, side=Side.SELL, role=OrderRole.EXIT, entry_key=entry.order_key)
    await add_order(pool, wanted, exchange_order_id=name)
    return wanted


async def test_a_fill_of_an_order_that_was_sent_here_is_one_round_trip(pool: Pool) -> None:
    """Read ahead when the order was sent, each of its fills is one statement: fill, both books, records, linkage."""
    counted: Any = Counted(pool)
    ledger = LedgerWriter(counted, ACCOUNT)
    entry = intent("x")
    await add_order(pool, entry, exchange_order_id="x")
    await ledger.expect(entry.order_key, Decimal(1))
    counted.statements.clear()
    await ledger.record(entry.order_key, report("0.4", 1))
    await ledger.record(entry.order_key, report("1", 2, status=AttemptStatus.FILLED))
    assert len(counted.statements) == 2
    sell = await exit_of(pool, entry)
    await ledger.expect(sell.order_key, Decimal(1))
    counted.statements.clear()
    await ledger.record(sell.order_key, report("0.7", 3, name="y"))
    await ledger.record(sell.order_key, report("1", 4, status=AttemptStatus.FILLED, name="y"))
    assert len(counted.statements) == 2
    assert await pool.fetchval("SELECT remaining FROM trades") == 0
    assert (await check_ledger(pool, None, ACCOUNT)).ok


async def test_a_fill_of_an_order_that_is_not_known_here_is_two_round_trips(pool: Pool) -> None:
    """Another process's order is read, and then written: never more without a race."""
    counted: Any = Counted(pool)
    entry = await bought(pool, LedgerWriter(pool, ACCOUNT))
    sell = await exit_of(pool, entry)
    await LedgerWriter(counted, ACCOUNT).record(sell.order_key, report("1", 4, status=AttemptStatus.FILLED, name="y"))
    assert len(counted.statements) == 2


async def test_what_another_process_wrote_meanwhile_is_seen(pool: Pool) -> None:
    """An outdated state that was read ahead is not used: the books are as if it had been read then."""
    ours, theirs = LedgerWriter(pool, ACCOUNT), LedgerWriter(pool, ACCOUNT)
    entry = await bought(pool, theirs)
    sell = await exit_of(pool, entry)
    await ours.expect(sell.order_key, Decimal(1))
    await theirs.record(sell.order_key, report("0.4", 3, name="y"))
    result = await ours.record(sell.order_key, report("0.7", 4, name="y"))
    assert (result.filled_size, result.trade_remaining) == (Decimal("0.7"), Decimal("0.3"))
    repeated = await theirs.record(sell.order_key, report("0.7", 4, name="y"))
    assert not repeated.new_fill
    await theirs.record(sell.order_key, report("1", 5, status=AttemptStatus.FILLED, name="y"))
    assert await pool.fetchval("SELECT count(*) FROM fills WHERE side = 'SELL'") == 3
    assert (await check_ledger(pool, None, ACCOUNT)).ok


async def test_many_sells_of_one_symbol_at_once_take_each_lot_once(pool: Pool) -> None:
    """Sells that race for the same lots from several processes are matched as one by one."""
    ledgers = [LedgerWriter(pool, ACCOUNT) for _ in range(4)]
    sells = []
    for number in range(12):
        entry = await bought(pool, ledgers[0], f"x-{number}")
        sells.append(await exit_of(pool, entry, f"y-{number}"))
    for number, sell in enumerate(sells):
        await ledgers[number % 4].expect(sell.order_key, Decimal(1))
    filled = AttemptStatus.FILLED
    await asyncio.gather(
        *(
            ledgers[number % 4].record(sell.order_key, report("1", 10 + number, status=filled, name=f"y-{number}"))
            for number, sell in enumerate(sells)
        )
    )
    assert await pool.fetchval("SELECT sum(lot_remaining) FROM fills") == 0
    report_of_all = await check_ledger(pool, None, ACCOUNT)
    assert report_of_all.ok, report_of_all.violations


async def waits_for_a_lock(pool: Pool) -> bool:
    """Whether any connection to this database waits for a lock."""
    return bool(
        await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


async def test_a_fill_holds_nothing_of_a_trade_that_an_exit_takes_first(pool: Pool) -> None:
    """The exit's admission has locked the plan and goes on to the trade: a growing entry waits at the plan without the
    trade, and keeps the admission's writes.
    """
    ledger = LedgerWriter(pool, ACCOUNT)
    entry = intent("x")
    await add_order(pool, entry, exchange_order_id="x")
    await ledger.record(entry.order_key, report("0.4", 1))
    async with pool.acquire() as admission:
        begun = admission.transaction()
        await begun.start()
        await admission.execute("SET LOCAL lock_timeout = 500")  # less than PostgreSQL takes to detect a deadlock
        await admission.execute("SELECT FROM exit_plans FOR NO KEY UPDATE")
        growing = asyncio.create_task(ledger.record(entry.order_key, report("1", 2, status=AttemptStatus.FILLED)))
        await until(lambda: waits_for_a_lock(pool))
        await admission.execute("UPDATE trades SET state = 'CLOSING'")
        await begun.commit()
    assert (await growing).trade_state is TradeState.CLOSING
    assert await pool.fetchval("SELECT remaining FROM trades WHERE state = 'CLOSING'") == 1
    assert (await check_ledger(pool, None, ACCOUNT)).ok


async def test_an_order_that_ends_without_a_fill_waits_for_no_lock_of_its_symbol(pool: Pool) -> None:
    """A due stop waits for its claim; lots, which the symbol's lock is for, are not changed by it."""
    ledger = LedgerWriter(pool, ACCOUNT)
    entry = await bought(pool, ledger)
    sell = await exit_of(pool, entry)
    async with symbol_transaction(pool, ACCOUNT, entry.symbol):
        ended = report("0", 3, status=AttemptStatus.CANCELLED, name="y")
        result = await asyncio.wait_for(ledger.record(sell.order_key, ended), 10)
    assert result.attempt_status is AttemptStatus.CANCELLED
