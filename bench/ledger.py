"""The ledger: recording a fill with its allocations, a recompute of 100,000 fills, reports over 100,000 trades.

With its own PostgreSQL and a generated history (without the wait for the disk, which depends on the machine). The floor
of recording is one inserted and committed row: one round trip, measured alternately.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from activities.database import Pool, create_pool
from activities.ledger.recompute import repair_symbols, symbols_of
from activities.ledger.record import LedgerWriter
from activities.ledger.validator import check_ledger
from bench.rows import Row, percentile
from domain.messages import OrderUpdate, StatusSource
from domain.orders import AttemptStatus, OrderRole, Side
from research import analysis
from research.html import ReportHead, html_report
from research.linkage import read_linkage
from research.trades import read_trades
from schema import migrate
from tests.support.generated_ledger import write_ledger
from tests.support.ledger_rows import ACCOUNT, add_order, intent
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig

__all__ = ["ledger"]

_SYMBOL = "BTC-USD"
_RECORD_MS, _RECOMPUTE_SECONDS, _REPORT_SECONDS = 10.0, 10.0, 2.0


async def ledger(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """Rows for recording, recompute, check and reports."""
    fills, trades, samples = (20_000, 20_000, 300) if quick else (100_000, 100_000, 1_500)
    rows: list[Row] = []
    async with _database() as (dsn, pool):
        say(f"a ledger of {trades:,} closed trades")
        await write_ledger(dsn, trades)
        say("its reports")
        rows += await _reports(pool, trades)
    async with _database() as (dsn, pool):
        say(f"recompute of {fills:,} fills")
        await write_ledger(dsn, fills // 2)
        rows += await _recompute(pool, fills)
        say(f"recording {samples} fills on top of them")
        rows += await _record(pool, samples)
    return rows


async def _record(pool: Pool, samples: int) -> list[Row]:
    """Entries and exits in turn, each exit a little smaller, so that sells span lots; sent here, or external.

    The counted statements are round trips: none of them begins or ends a transaction with several statements.
    """
    return [
        await _recorded(pool, samples, sent_here=True, what="a fill recorded, of an order that was sent here"),
        await _recorded(pool, samples, sent_here=False, what="a fill recorded, of an order that others sent"),
    ]


async def _recorded(pool: Pool, samples: int, *, sent_here: bool, what: str) -> Row:
    counted: Any = _Counted(pool)
    book = LedgerWriter(counted, ACCOUNT)
    took: list[float] = []
    floors: list[float] = []
    trips = 0
    entry_key = ""
    for number in range(samples):
        side = Side.SELL if number % 2 else Side.BUY
        wanted = intent(
            f"bench-{number}", symbol=_SYMBOL, side=side, role=_role(side), entry_key=entry_key if number % 2 else None
        )
        entry_key = wanted.order_key
        name = f"x-{uuid.uuid4().hex}"
        await add_order(pool, wanted, exchange_order_id=name)
        if sent_here:
            await book.expect(wanted.order_key, Decimal(1))
        update = OrderUpdate(
            attempt=1,
            status=AttemptStatus.FILLED,
            exchange_order_id=name,
            filled_size=Decimal("0.7") if number % 2 else Decimal(1),
            filled_value=Decimal(70) if number % 2 else Decimal(100),
            quote_fees=Decimal("0.1"),
            source=StatusSource.WEBSOCKET,
            at=datetime.now(UTC),
        )
        before = counted.trips
        began = time.perf_counter()
        await book.record(wanted.order_key, update, symbol=_SYMBOL)
        middle = time.perf_counter()
        await pool.execute(
            "INSERT INTO balance_transfers (account, currency, kind, amount, expected, found) "
            "VALUES ('floor', 'USD', 'rounding', 0, 0, 0)"
        )
        floors.append(time.perf_counter() - middle)
        took.append(middle - began)
        trips += counted.trips - before
    p99 = percentile(took, 99) * 1e3
    return Row(
        what=f"{what}: allocations, both books, records",
        unit="ms",
        p50=statistics.median(took) * 1e3,
        p99=p99,
        floor=statistics.median(floors) * 1e3,
        ratio=statistics.median(took) / statistics.median(floors),
        aim=f"p99 < {_RECORD_MS:g} ms",
        ok=p99 < _RECORD_MS,
        note=f"{trips / samples:.2f} round trips a fill, {samples} fills; the floor: one row inserted and committed",
    )


class _Counted:
    """A pool that counts a record's round trips."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.trips = 0

    async def fetchrow(self, statement: str, *values: Any) -> Any:
        self.trips += 1
        return await self._pool.fetchrow(statement, *values)

    def acquire(self) -> Any:
        """A transaction with several statements, only after a lost race: at least begin, lock, read, write and end."""
        self.trips += 5
        return self._pool.acquire()


def _role(side: Side) -> OrderRole:
    return OrderRole.ENTRY if side is Side.BUY else OrderRole.EXIT


async def _recompute(pool: Pool, fills: int) -> list[Row]:
    """All symbols from nothing, then again when everything is correct; then the whole check."""
    rows = []
    for what in ("all rows written anew", "nothing to write"):
        began, written = time.perf_counter(), 0
        for found in await repair_symbols(pool, ACCOUNT, await symbols_of(pool, ACCOUNT)):
            written += len(found.missing)
        rows.append(_seconds(f"recompute of {fills:,} fills, {what}", began, _RECOMPUTE_SECONDS, f"{written:,} rows"))
    began = time.perf_counter()
    report = await check_ledger(pool, None, ACCOUNT)
    assert report.ok, report.counts
    rows.append(_seconds(f"check of a ledger of {fills:,} fills", began, None, f"{report.allocations:,} allocations"))
    return rows


async def _reports(pool: Pool, trades: int) -> list[Row]:
    """Each complete report, from the database to its output, and the page with all of them."""
    rows = []
    async with pool.acquire() as connection:
        slowest = 0.0
        for grouping in analysis.GROUPINGS.values():
            began = time.perf_counter()
            grouping(await read_trades(connection, ACCOUNT))
            slowest = max(slowest, time.perf_counter() - began)
        began = time.perf_counter()
        analysis.indicators(await read_trades(connection, ACCOUNT, indicators=True))
        slowest = max(slowest, time.perf_counter() - began)
        rows.append(_row(f"the slowest report over {trades:,} trades", slowest, _REPORT_SECONDS, "7 reports"))
        began = time.perf_counter()
        table, linkage = (
            await read_trades(connection, ACCOUNT, indicators=True),
            await read_linkage(connection, ACCOUNT),
        )
        page = html_report(ReportHead(ACCOUNT, datetime.now(UTC)), table, linkage)
        note = f"{len(page) / 1024:.0f} KiB; every report at once"
        rows.append(_seconds(f"the page over {trades:,} trades", began, None, note))
    return rows


def _seconds(what: str, began: float, aim: float | None, note: str) -> Row:
    return _row(what, time.perf_counter() - began, aim, note)


def _row(what: str, took: float, aim: float | None, note: str) -> Row:
    return Row(
        what=what,
        unit="s",
        p50=took,
        aim=f"< {aim:g} s" if aim else "",
        ok=None if aim is None else took < aim,
        note=note,
    )


@asynccontextmanager
async def _database() -> AsyncIterator[tuple[str, Any]]:
    """A separate migrated database, deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="bt-bench-", ignore_cleanup_errors=True) as folder:
        postgres = EmbeddedPostgres(PostgresConfig(Path(folder) / "postgres"))
        await postgres.start()
        try:
            await postgres.create_database("bench")
            dsn = postgres.dsn("bench")
            await migrate.upgrade(dsn)
            pool = await create_pool(dsn, statement_seconds=300.0)
            try:
                yield dsn, pool
            finally:
                await pool.close()
        finally:
            await postgres.stop()


if __name__ == "__main__":
    from bench.rows import print_rows

    print_rows(asyncio.run(ledger(lambda line: print(f"  {line}", flush=True), quick=True)), "quick")
