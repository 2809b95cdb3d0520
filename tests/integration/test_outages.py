"""Outages of a running system: decisions wait, people are notified, everything resumes by itself, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from activities.notices.outages import OutageOptions, Outages
from domain.exits import ExitReason
from domain.orders import OrderState
from domain.protection import Protection, ProtectionKind
from schema import migrate
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from workers.roles.notices import beside_streams
from workers.stack import temporal_binary
from workers.stack.dev_server import DevServer, DevServerConfig
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig

QUICK = OutageOptions(every_seconds=0.3, probe_timeout=2.0, after_seconds=0.5)


@pytest_asyncio.fixture
async def own_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL that the test may stop, with a migrated database."""
    with tempfile.TemporaryDirectory(prefix="bt-out-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(PostgresConfig(Path(folder) / "pg", durable=False))
        await server.start()
        try:
            await server.create_database("ledger")
            await migrate.upgrade(server.dsn("ledger"))
            yield server
        finally:
            await server.stop()


@pytest_asyncio.fixture
async def own_temporal() -> AsyncIterator[DevServer]:
    """A Temporal that the test may stop, with its database in a file."""
    program = await temporal_binary.ensure_async()
    with tempfile.TemporaryDirectory(prefix="bt-out-", ignore_cleanup_errors=True) as folder:
        config = DevServerConfig(
            program=program, log=Path(folder) / "log", database=Path(folder) / "temporal.db", ui=False
        )
        server = DevServer(config)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@contextlib.asynccontextmanager
async def watched(system: TradingSystem, options: OutageOptions = QUICK) -> AsyncIterator[Outages]:
    """The outage check runs beside the system's workers, as in a worker process."""
    parts = system.parts
    async with beside_streams(system.settings, parts.pool, parts.client, parts.exchange, options=options) as beside:
        yield beside[1]


async def until_away(outages: Outages, name: str) -> None:
    """Wait until the check reports it."""

    async def so() -> bool:
        return name in outages.away

    await eventually(so, within=20, what=f"{name} is missed")


async def until_over(system: TradingSystem, kind: str, within: float = 30.0) -> None:
    """Wait until there was an incident of this kind and it is resolved."""

    async def so() -> bool:
        row = await system.rows("SELECT count(*) AS n, count(resolved_at) AS over FROM incidents WHERE kind = $1", kind)
        return bool(row[0]["n"] > 0 and row[0]["n"] == row[0]["over"])

    await eventually(so, within=within, what=f"{kind} is over")


async def test_without_the_database_everything_waits_and_goes_on(
    own_postgres: EmbeddedPostgres, temporal_server: DevServer
) -> None:
    """A due stop, a wanted entry and one whose decision expires while PostgreSQL is down: sold, bought and dropped when
    it is back, and the outage is an incident with its times.
    """
    async with trading_system(own_postgres.dsn("ledger"), temporal_server.address) as system, watched(system) as out:
        trade = await system.start(market_buy(system.account, "0.01"))
        await trade.until_protected("0.01")
        await own_postgres.kill()
        await until_away(out, "database")
        await system.price("47000")
        until = datetime.now(UTC) + timedelta(seconds=1)
        late = await system.start(market_buy(system.account, "0.02", valid_until=until))
        other = await system.start(market_buy(system.account, "0.03"))
        assert len(await system.control.orders()) == 1
        await asyncio.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
        await own_postgres.start()
        outcome = await trade.closed(within=60)
        assert outcome.exit_reason is ExitReason.HARD_STOP
        await other.until_protected("0.03", within=60)
        assert (await late.result(60)).state is OrderState.REJECTED
        await until_over(system, "database_away")
        await system.assert_books_agree()


async def test_what_fills_while_the_database_takes_no_writes_is_watched_when_it_does(
    own_postgres: EmbeddedPostgres, temporal_server: DevServer
) -> None:
    """The database stops accepting writes (reads work) and a resting entry fills at the exchange: that is reported as
    an outage; when the database writes again the position is watched within seconds, and its stop sold.
    """
    dsn = own_postgres.dsn("ledger")
    at_once = OutageOptions(every_seconds=0.3, probe_timeout=2.0, after_seconds=0.0)
    async with trading_system(dsn, temporal_server.address) as system, watched(system, at_once) as out:
        entry = await system.start(limit_buy(system.account, "0.01", "49000"))
        await entry.until_state("OPEN")
        admin = await asyncpg.connect(dsn)
        await admin.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
        await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await admin.execute("SELECT pg_reload_conf()")
        await until_away(out, "database")
        assert await system.value("SELECT count(*) FROM orders") == 1
        await system.price("48999", "49000")

        async def filled() -> bool:
            return any(Decimal(item["filled_size"]) > 0 for item in await system.control.orders())

        await eventually(filled, within=20, what="the exchange has filled it")
        await system.price("49000")
        await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()
        await entry.until_protected("0.01", within=20)
        await system.price("45000")
        outcome = await entry.closed(within=60)
        assert outcome.exit_reason is ExitReason.HARD_STOP
        await until_over(system, "database_away")
        (row,) = await system.rows("SELECT sentence FROM incidents WHERE kind = 'database_away'")
        assert "accepts no writes" in row["sentence"]
        await system.assert_books_agree()


async def test_when_everything_is_killed_the_exchange_still_has_a_stop(
    own_postgres: EmbeddedPostgres, own_temporal: DevServer
) -> None:
    """PostgreSQL, Temporal and the workers are killed; the market falls through the stop that rests at the exchange and
    recovers. Started again, the trade is closed correctly: sold once, at the stop, every fill recorded.
    """
    protection = Protection(kind=ProtectionKind.BRACKET, stop=Decimal("0.05"), take_profit=Decimal("0.05"))
    async with trading_system(own_postgres.dsn("ledger"), own_temporal.address) as system:
        trade = await system.start(market_buy(system.account, "0.01", protection=protection))
        await trade.until_protected("0.01")

        async def rests() -> str | None:
            orders = [item for item in await system.control.orders() if item["side"] == "SELL"]
            return str(orders[0]["order_id"]) if orders and orders[0]["status"] == "OPEN" else None

        stop = await eventually(rests, within=20)
        # The servers are killed first, so that the workers can store nothing while they stop.
        await asyncio.gather(own_postgres.kill(), own_temporal.kill())
        await system.stop_workers()
        await system.price("45000")
        await system.price("50000")
        await asyncio.gather(own_postgres.start(), own_temporal.start())
        await system.start_workers()
        outcome = await trade.closed(within=60)
        assert (outcome.exit_reason, outcome.exit_size) == (ExitReason.HARD_STOP, Decimal("0.01"))
        assert outcome.exit_price == Decimal(45000)
        (row,) = await system.rows("SELECT path, reason FROM trade_exits")
        assert (row["path"], row["reason"]) == ("exchange", "HARD_STOP")
        sells = [item["order_id"] for item in await system.control.orders() if item["side"] == "SELL"]
        assert sells == [stop]
        await system.assert_books_agree()


async def test_without_temporal_facts_are_kept_and_a_due_exit_is_told_again(
    database: str, own_temporal: DevServer
) -> None:
    """While Temporal is down a stop is due and a fill happens: both arrive when it is back."""
    async with trading_system(database, own_temporal.address) as system, watched(system) as out:
        trade = await system.start(market_buy(system.account, "0.01"))
        await trade.until_protected("0.01")
        await own_temporal.stop()
        await until_away(out, "temporal")
        await system.price("47000")

        async def told() -> bool:
            return bool(await system.value("SELECT count(*) FROM incidents WHERE kind = 'temporal_away'"))

        await eventually(told, within=20)
        await own_temporal.start()
        outcome = await trade.closed(within=60)
        assert outcome.exit_reason is ExitReason.HARD_STOP
        await until_over(system, "temporal_away")
        await system.assert_books_agree()


@pytest.mark.parametrize(("kind", "status"), [("server_error", 503), ("rate_limited", 429)])
async def test_an_exchange_that_refuses_everything_for_a_while(
    database: str, temporal_server: DevServer, kind: str, status: int
) -> None:
    """With 5xx or 429 on every call the exit keeps trying and sells once when the exchange is back."""
    async with trading_system(database, temporal_server.address) as system, watched(system) as out:
        trade = await system.start(market_buy(system.account, "0.01"))
        await trade.until_protected("0.01")
        await system.control.fault(kind, "*", duration=600, status=status)
        await until_away(out, "exchange")
        await system.price("47000")
        entry = await system.start(
            market_buy(system.account, "0.02", valid_until=datetime.now(UTC) + timedelta(seconds=1))
        )

        async def told() -> bool:
            return bool(await system.value("SELECT count(*) FROM incidents WHERE kind = 'exchange_away'"))

        await eventually(told, within=20)
        await system.control.clear_faults()
        outcome = await trade.closed(within=60)
        assert outcome.exit_reason is ExitReason.HARD_STOP
        assert (await entry.result(60)).filled_size == 0
        await until_over(system, "exchange_away")
        await system.assert_books_agree()


async def test_names_that_do_not_resolve(
    database: str, temporal_server: DevServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without DNS streams can't reconnect and no new connection is made: reported, and resolved when names resolve."""
    resolve = socket.getaddrinfo
    broken = False

    def getaddrinfo(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if broken and str(port) not in temporal_server.address:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve(host, port, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with trading_system(database, temporal_server.address) as system, watched(system) as out:
        trade = await system.start(market_buy(system.account, "0.01"))
        await trade.until_protected("0.01")
        broken = True
        await system.control.sockets("drop")
        await system.control.fault("not_accepted_cut", "*", duration=600)
        await until_away(out, "exchange")
        await system.price("47000")

        async def told() -> bool:
            sentence = await system.value("SELECT sentence FROM incidents WHERE kind = 'exchange_away'")
            return sentence is not None

        await eventually(told, within=20)
        broken = False
        await system.control.clear_faults()
        outcome = await trade.closed(within=60)
        assert outcome.exit_reason is ExitReason.HARD_STOP
        assert outcome.exit_size == Decimal("0.01")
        await until_over(system, "exchange_away")
        await system.assert_books_agree()
