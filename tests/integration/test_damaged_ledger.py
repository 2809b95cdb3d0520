"""A ledger of real trading, damaged in one place at a time: `ledger verify` finds it, or docs say why it can't."""

# ruff: noqa: S608 - names of our own tables and columns

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from activities.database import Connection, Pool, create_pool
from activities.interfaces.reconcile import ReconcileInput
from activities.ledger.importing import plan_import
from activities.ledger.old_fills import OldFills
from activities.ledger.validator import check_ledger
from domain.exits import ExitRules
from exchange.paper.control_client import PaperControl
from fifo.reading import read_into
from tests.support.harness import Trade, TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from workers.settings import AdoptionSettings
from workers.stack.dev_server import DevServer
from workflows.reconcile import ReconcileWorkflow, reconcile_id

OLD = datetime(2020, 1, 1, tzinfo=UTC)
_DOCS = Path(__file__).parents[2] / "docs" / "reports.md"

# For each table the rows to damage: one of each kind.
_ROWS = {
    "orders": ("order_key", "role, finished, state"),
    "attempts": ("client_order_id", "status, live"),
    "fills": ("id", "side, origin"),
    "fifo_allocations": ("id", "buy_fill IS NULL"),
    "trades": ("entry_key", "state"),
    "trade_exits": ("order_key", "reason"),
    "trade_records": ("order_id", "side, source"),
    "balance_transfers": ("id", "kind"),
}
_WORDS = {
    ("orders", "state"): ("FILLED", "CANCELLED", "OPEN", "REJECTED"),
    ("attempts", "status"): ("FILLED", "CANCELLED", "OPEN"),
    ("trades", "state"): ("PROTECTED", "CLOSED"),
    ("trades", "exit_reason"): ("TP", "HARD_STOP"),
    ("trade_exits", "reason"): ("TP", "HARD_STOP"),
    ("balance_transfers", "kind"): ("deposit", "withdrawal"),
    ("orders", "role"): ("ENTRY", "EXIT", "EXTERNAL"),
}


async def with_ether(control: PaperControl) -> None:
    """The account has some before its first start."""
    await control.deposit("ETH", "1")


async def reconciled(system: TradingSystem) -> None:
    """Reconcile, like its schedule."""
    await system.client.execute_workflow(
        ReconcileWorkflow.run,
        ReconcileInput(account=system.account),
        id=f"{reconcile_id(system.account)}-{uuid.uuid4().hex[:8]}",
        task_queue=system.settings.temporal.streams_queue,
    )


async def bought(system: TradingSystem, size: str, **fields: Any) -> Trade:
    """A protected trade."""
    trade = await system.start(market_buy(system.account, size, **fields))
    await trade.until_protected(size)
    return trade


async def trade_for_a_while(system: TradingSystem) -> None:
    """All kinds of rows in the books: closed and open trades, a refusal, a resting buy, external orders, transfers."""
    await reconciled(system)
    stopped = await bought(system, "0.02")
    await bought(system, "0.03", rules=ExitRules(soft_stop=Decimal("0.4"), hard_stop=Decimal("0.5")))
    refused = await system.start(market_buy(system.account, symbol="DOGE-USD"))
    await refused.until_state("REJECTED")
    resting = await system.start(limit_buy(system.account, "0.01", "40000"))
    await resting.until_state("OPEN")
    await system.control.order("BTC-USD", "BUY", {"market_market_ioc": {"base_size": "0.02"}})
    await system.control.order("ETH-USD", "SELL", {"market_market_ioc": {"base_size": "0.1"}})

    async def guarded() -> bool:
        return bool(await system.value("SELECT count(*) = 3 FROM exit_plans"))

    await eventually(guarded, what="the buy by hand is guarded, too")
    await system.price("47000")
    await stopped.closed()
    await system.control.deposit("USD", "500")
    await system.control.withdraw("USD", "100")

    async def recorded() -> bool:
        closed = await system.value("SELECT count(*) = 2 FROM trades WHERE state = 'CLOSED'")
        return bool(closed and await system.value("SELECT count(*) = 6 FROM trade_records"))

    await eventually(recorded, what="six orders are recorded and two trades closed")
    await reconciled(system)


def unchecked() -> Mapping[str, set[str]]:
    """The columns that can't be checked by docs/reports.md, by table."""
    text = _DOCS.read_text(encoding="utf-8").partition("### What can't be checked")[2]
    found: dict[str, set[str]] = {}
    for table, columns, reason in re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", text, re.MULTILINE):
        assert reason.strip()
        found.setdefault(table, set()).update(re.findall(r"`(\w+)`", columns))
    return found


def damages(table: str, column: str, kind: str) -> Iterable[str]:
    """The values for a column, as SQL: each is another value of its type."""
    if (table, column) in _WORDS:
        yield from (f"'{word}'" for word in _WORDS[table, column])
    elif kind == "text":
        words = {"symbol": "'DOGE-USD'", "account": "'other'", "currency": "'EUR'"}
        words["side"] = "CASE side WHEN 'BUY' THEN 'SELL' ELSE 'BUY' END"
        yield words.get(column, "'damaged'")
    else:
        yield {
            "numeric": f"coalesce({column}, 0) + 1",
            "integer": f"coalesce({column}, 0) + 1",
            "bigint": f"coalesce({column}, 0) + 1",
            "timestamp with time zone": f"coalesce({column}, now()) + interval '40 days'",
            "boolean": f"NOT {column}",
            "jsonb": """'{"damaged": 1}'""",
            "uuid": "gen_random_uuid()",
            "ARRAY": "'{damaged}'",
        }[kind]
    yield "NULL"


@asynccontextmanager
async def damaged(pool: Pool, table: str, key: str, value: object, change: str) -> AsyncIterator[bool]:
    """Change a row during the block, without foreign keys. Yields whether the database accepted a different value."""
    async with pool.acquire() as connection:
        await connection.execute("SET session_replication_role = replica")
        columns = ", ".join(
            row["column_name"]
            for row in await connection.fetch(
                "SELECT column_name FROM information_schema.columns WHERE table_name = $1 AND is_generated = 'NEVER' "
                "AND table_schema = 'public' ORDER BY ordinal_position",
                table,
            )
        )
        await connection.execute(f"CREATE TEMP TABLE kept AS SELECT {columns} FROM {table} WHERE {key} = $1", value)
        try:
            yield await _changed(connection, table, key, value, change)
        finally:
            await connection.execute(f"DELETE FROM {table} WHERE {key} = $1", value)
            await connection.execute(
                f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM kept"
            )
            await connection.execute("DROP TABLE kept")
            await connection.execute("RESET session_replication_role")


async def _changed(connection: Connection, table: str, key: str, value: object, change: str) -> bool:
    before = await connection.fetchval(f"SELECT to_jsonb(t) FROM {table} t WHERE {key} = $1", value)
    try:
        await connection.execute(f"{change} WHERE {key} = $1", value)
    except asyncpg.IntegrityConstraintViolationError:
        return False  # a constraint refuses it
    after = await connection.fetchval(f"SELECT to_jsonb(t) FROM {table} t WHERE {key} = $1", value)
    return bool(before != after)


@pytest.mark.slow
async def test_each_damage_is_found_or_docs_say_why_it_can_not_be(database: str, temporal_server: DevServer) -> None:
    """Each column of each kind of row of the books is changed and emptied, each row deleted: `verify` finds it, or docs
    list the column among those that can't be checked.
    """
    adopting = {"adoption": AdoptionSettings(protect=True)}
    async with trading_system(database, temporal_server.address, others=adopting, before=with_ether) as system:
        account = system.account
        await trade_for_a_while(system)
    pool = await create_pool(database, size=3)
    old = OldFills()
    head = b"id,time,symbol,side,size,price,fee,fee_currency\n"
    read_into([head, f"old,{OLD.isoformat()},BTC-USD,buy,0.1,100,0.001,base\n".encode()], old)
    await (await plan_import(pool, account, old, OLD + timedelta(days=1))).write(pool)
    right = await check_ledger(pool, None, account)
    assert right.ok, right.violations
    known = unchecked()
    unseen, listed = [], set()
    for table, (key, kinds) in _ROWS.items():
        columns = await pool.fetch(
            "SELECT column_name AS name, data_type AS kind FROM information_schema.columns WHERE table_name = $1 "
            "AND table_schema = 'public' AND is_generated = 'NEVER'",
            table,
        )
        listed |= {f"{table}.{name}" for name in known.get(table, set()) - {row["name"] for row in columns}}
        rows = await pool.fetch(f"SELECT min({key}) AS key FROM {table} GROUP BY {kinds}")
        assert rows, f"nothing in {table} to damage"
        for value in (row["key"] for row in rows):
            # A refused order has no other rows.
            gone = f"DELETE FROM {table}"
            refused = table == "orders" and await pool.fetchval(
                "SELECT state = 'REJECTED' FROM orders WHERE order_key = $1", value
            )
            changes = [] if refused else [("the row", gone)]
            changes += [
                (row["name"], f"UPDATE {table} SET {row['name']} = {to}")
                for row in columns
                if row["name"] not in {key, *known.get(table, ())}
                for to in damages(table, row["name"], row["kind"])
            ]
            for name, change in changes:
                async with damaged(pool, table, key, value, change) as differs:
                    if differs and (await check_ledger(pool, None, account)).ok:
                        unseen.append(f"{table}.{name}: {change} ({value})")
    await pool.close()
    assert unseen == [], "\n".join(unseen)
    assert listed == set(), "docs name columns that there are not"
