"""`bottrader import old`: an older system's records in the ledger, with their data beyond fills."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from activities.ledger.old_records import read_records
from activities.ledger.validator import check_ledger
from tests.support.live_stack import ROOT, Outcome, run_command
from tests.support.migrations import in_schema, to
from workers.stack.embedded_postgres import EmbeddedPostgres

ACCOUNT = "main"
RECORDS = """order_id,symbol,side,order_time,price,size,pnl_usd,total_fees_usd,trigger,order_type,status,\
source,exit_reason
b1,BTC/USD,buy,2024-01-01 00:00:00+00,50000,1,,0,"{""trigger"": ""rsi_oversold"", ""snapshot_id"": null}",limit,\
filled,sighook,
b2,BTC-USD,buy,2024-01-02T00:00:00,55000.0,1,,0,roc_momo,limit,FILLED,WebSocket,
s1,BTC-USD,sell,2024-01-03T00:00:00Z,60000,1.5,12500,0,TP,limit,filled,passivemm,TP
c1,BTC-USD,buy,2024-01-04T00:00:00Z,40000,1,,0,manual,limit,cancelled,manual,
"""
LINKS = """order_id,client_order_id,snapshot_id,buy_score,sell_score,trigger_type,sell_trigger,\
indicator_breakdown,indicators_fired
b1,old-1,6f1f0c7c-6ed1-4a5c-9a3e-1f2d3c4b5a69,2.5,,rsi_oversold,,"{""rsi"": {""value"": 25}}",3
s1,old-2,no id,,1.5,tp,,,
"""
ALLOCATIONS = """sell_order_id,buy_order_id,symbol,allocated_size,pnl_usd
s1,b1,BTC-USD,1,10000
s1,b2,BTC-USD,0.5,2000
"""
Shell = Callable[..., Awaitable[Outcome]]


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """The database's pool."""
    opened = await create_pool(database)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def old_database(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database of the older system, with two tables with its own types and without allocations."""
    await postgres_server.create_database("old_system")
    address = postgres_server.dsn("old_system")
    connection = await asyncpg.connect(address)
    await connection.execute(
        """CREATE TABLE trade_records (order_id text, symbol text, side text, order_time timestamptz, price float8,
               size float8, pnl_usd float8, total_fees_usd float8, trigger jsonb, order_type text, status text,
               source text, exit_reason text);
           INSERT INTO trade_records VALUES
               ('b1', 'BTC-USD', 'buy', '2024-01-01T00:00Z', 50000, 0.1, NULL, 0.3, '{"trigger": "roc_momo"}', 'limit',
                'filled', 'sighook', NULL),
               ('s1', 'BTC-USD', 'sell', '2024-01-02T00:00Z', 60000, 0.1, 999.4, 0.3, NULL, 'market', 'filled', NULL,
                'HARD_STOP');
           CREATE TABLE trade_strategy_link (order_id text, snapshot_id uuid, buy_score numeric, trigger_type text,
               indicators_fired int);
           INSERT INTO trade_strategy_link VALUES ('b1', gen_random_uuid(), 2.5, 'roc_momo', 4)"""
    )
    await connection.close()
    yield address
    admin = await asyncpg.connect(postgres_server.dsn("postgres"))
    await admin.execute("DROP DATABASE old_system WITH (FORCE)")
    await admin.close()


@pytest.fixture
def shell(database: str, tmp_path: Path) -> Shell:
    """Runs `import old` on the database, with the given tables as files."""

    async def run(*options: str, **tables: str) -> Outcome:
        arguments = list(options)
        for name, text in tables.items():
            (tmp_path / name).write_text(text)
            arguments += [f"--{name.replace('_', '-')}", str(tmp_path / name)]
        env = {
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "DATABASE_URL": database,
            "BOTTRADER_DATA": str(tmp_path / "data"), "OLD_DATABASE_URL": os.environ.get("OLD_DATABASE_URL", ""),
        }  # fmt: skip
        return await run_command([sys.executable, "-m", "cli.main", "import", "old", *arguments], env)

    return run


async def kept(pool: Pool) -> dict[str, tuple[Any, ...]]:
    """The data of trade records beyond fills."""
    rows = await pool.fetch("SELECT order_id, trigger, source, exit_reason, order_type FROM trade_records")
    return {row["order_id"]: tuple(row)[1:] for row in rows}


async def test_old_records_come_with_trigger_source_and_linkage(shell: Shell, pool: Pool) -> None:
    """Filled records are imported with their data; the rest is named; the check passes, a second import changes
    nothing, and FIFO's different result is reported.
    """
    assert (await shell("--dry-run", trade_records=RECORDS)).code == 0
    assert await kept(pool) == {}
    done = await shell(trade_records=RECORDS, links=LINKS, allocations=ALLOCATIONS)
    assert done.code == 0, done.err
    assert "Left out with the status cancelled, as only what was filled is imported: 1 row." in done.err
    assert "The source passivemm is import now: 1 row." in done.err
    assert "row 2 of the linkage: " in done.err
    assert "BTC-USD: the old FIFO result differs for 1 sell: 12000.00 there, 12500.00 here." in done.err
    records = await kept(pool)
    assert records == {
        "b1": ({"trigger": "rsi_oversold", "snapshot_id": None}, "sighook", None, "LIMIT"),
        "b2": ({"trigger": "roc_momo", "snapshot_id": None}, "websocket", None, "LIMIT"),
        "s1": ({"trigger": "TP", "snapshot_id": None}, "import", "TP", "LIMIT"),
    }
    assert await pool.fetchval("SELECT sum(pnl) FROM fifo_allocations") == 12_500
    (link,) = await pool.fetch("SELECT * FROM old.trade_strategy_link")
    assert (link["order_id"], link["buy_score"], link["indicators_fired"]) == ("b1", Decimal("2.5"), 3)
    assert link["indicator_breakdown"] == {"rsi": {"value": 25}}
    assert (await check_ledger(pool, None, ACCOUNT)).ok

    again = await shell(trade_records=RECORDS, links=LINKS)
    assert "order type: 0." in again.err
    assert (await kept(pool), len(await pool.fetch("SELECT FROM fills"))) == (records, 3)


async def test_old_records_come_from_a_database(
    shell: Shell, pool: Pool, old_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables are read unchanged, numbers to their shown digits; a missing one is empty."""
    monkeypatch.setenv("OLD_DATABASE_URL", old_database)
    done = await shell()
    assert done.code == 0, done.err
    assert await kept(pool) == {
        "b1": ({"trigger": "roc_momo"}, "sighook", None, "LIMIT"),
        "s1": ({"trigger": "manual", "snapshot_id": None}, "import", "HARD_STOP", "MARKET"),
    }
    assert await pool.fetchval("SELECT sum(pnl) FROM fifo_allocations") == Decimal("999.4")
    assert await pool.fetchval("SELECT indicators_fired FROM old.trade_strategy_link") == 4
    assert (await check_ledger(pool, None, ACCOUNT)).ok


async def test_a_check_names_a_record_that_says_something_else(shell: Shell, pool: Pool) -> None:
    """The data imported with a record must stay the same."""
    assert (await shell(trade_records=RECORDS)).code == 0
    await pool.execute("UPDATE trade_records SET source = 'manual' WHERE order_id = 'b1'")
    report = await check_ledger(pool, None, ACCOUNT)
    assert not report.ok


async def test_imported_records_go_with_their_version(shell: Shell, pool: Pool, database: str) -> None:
    """A downgrade keeps the fills, and the records like any import's."""
    assert (await shell(trade_records=RECORDS, links=LINKS)).code == 0
    await in_schema(database, to("0031", down=True))
    assert await pool.fetchval("SELECT count(*) FROM fills") == 3
    assert [values[1:] for values in (await kept(pool)).values()] == [("import", None, "UNKNOWN")] * 3
    assert await pool.fetchval("SELECT count(*) FROM old.trade_strategy_link") == 0
    await in_schema(database, to("head"))


async def test_bad_options_and_files_are_told(shell: Shell) -> None:
    """Nothing to read, a table alone, and a row that is not a trade: exit code 2 with a sentence, and nothing
    written."""
    for outcome in (
        await shell(),
        await shell(links=LINKS),
        await shell(trade_records=RECORDS.replace("50000", "much")),
    ):
        assert outcome.code == 2
        assert outcome.err


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2024-01-01 00:00:00", b"2024-01-01T00:00:00Z"),
        ("2024-01-01 00:00:00+00", b"2024-01-01T00:00:00+00"),
        ("2024-01-01T00:00:00-05:00", b"2024-01-01T00:00:00-05:00"),
        ("2024-01-01", b"2024-01-01"),
    ],
)
def test_old_times_are_utc_where_they_have_no_zone(time: str, expected: bytes) -> None:
    """A given zone counts; a date alone is not a time, which the import reports."""
    (line,) = read_records([{"order_id": "1", "order_time": time, "status": "filled"}]).lines
    assert b'"time":"%s"' % expected in line
