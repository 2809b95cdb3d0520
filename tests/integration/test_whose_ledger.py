"""Paper and live can't meet, at the level of processes: commands, worker and stack on a ledger that isn't theirs.

Live settings name the real exchange only, so if an exchange must answer, a paper exchange is passed in instead, which
no setting can do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from activities.database import create_pool
from activities.identity import Brought, arm, check_venue_account, disarm, establish
from activities.venue_standing import (
    DRY_RUN_ARMED,
    ENTRIES_REFUSED,
    KEY_MAY_NOT_TRADE,
    StandingOptions,
    VenueStanding,
)
from cli.live_overview import overview
from domain.identity import IdentityError, Names
from exchange.paper.config import PaperConfig
from exchange.paper.server import PaperExchange
from tests.support.admission_desk import desk_at_a_paper_exchange
from tests.support.fake_exchange import FakeExchange
from tests.support.harness import trading_system
from tests.support.intents import market_buy
from tests.support.live_stack import ROOT, Outcome, run_command
from tests.support.waiting import SLACK, eventually
from workers.errors import UserError
from workers.ledger_identity import begin_on_ledger
from workers.settings import Settings, load_settings
from workers.settings.values import exchange_of
from workers.stack.dev_server import DevServer
from workers.stack.local_stack import LocalStack, LocalStackConfig

_LIVE = {"BOTTRADER_MODE": "live", "BOTTRADER_EXCHANGE__KEY_FILE": "/nobody/key.json"}


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Any]:
    """A pool on a new ledger."""
    found = await create_pool(database)
    yield found
    await found.close()


async def _command(folder: Path, *arguments: str, **environ: str) -> Outcome:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BOTTRADER_", "TEMPORAL_"))}
    env = {**kept, "PYTHONPATH": str(ROOT), "BOTTRADER_DATA": str(folder), **environ}
    return await run_command([sys.executable, "-m", "cli.main", *arguments], env)


@pytest.mark.parametrize(
    "arguments", [["orders"], ["halt"], ["config", "show"], ["db", "upgrade"], ["web"], ["worker"]]
)
async def test_no_command_of_paper_opens_lives_ledger(
    pool: Any, database: str, tmp_path: Path, arguments: list[str]
) -> None:
    """One sentence that names both modes and how to get a separate ledger, exit code 2, and nothing has changed."""
    await establish(pool, FakeExchange(), Brought("live", "main", "coinbase"))
    done = await _command(tmp_path, *arguments, DATABASE_URL=database)
    assert done.code == 2, done.err
    assert done.err.startswith("error: This ledger is live since")
    assert "--data folder" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert await pool.fetchval("SELECT count(*) FROM account_controls") == 0


async def test_live_is_disarmed_whatever_is_wrong_with_the_settings_file(
    pool: Any, database: str, tmp_path: Path
) -> None:
    """Disarming stops something, so it works without the file; arming is refused, and nothing is armed."""
    await establish(pool, FakeExchange(), Brought("live", "main", "coinbase"))
    async with pool.acquire() as connection:
        assert await arm(connection, "main", "ann")
    broken = tmp_path / "broken.toml"
    broken.write_text("mode = 'live'\n[exits\n")
    done = await _command(tmp_path, "--config", str(broken), "live", "disarm", DATABASE_URL=database)
    assert (done.code, done.err.count("The settings are invalid")) == (0, 1), done.err
    refused = await _command(tmp_path, "--config", str(broken), "live", "arm", DATABASE_URL=database)
    assert refused.code == 2, refused.err
    assert await pool.fetchval("SELECT armed_at IS NULL FROM account_identities")


@pytest.mark.parametrize(
    "arguments",
    [
        ["halt"],
        ["config", "set", "exits.hard_stop_pct", "9"],
        ["db", "upgrade"],
        ["ledger", "verify"],
        ["ledger", "import", "fills.csv"],
        ["web", "--port", "0"],
    ],
)
async def test_a_ledger_that_is_slow_to_say_whose_it_is_is_opened_by_nobody_else(
    pool: Any, database: str, temporal_server: DevServer, tmp_path: Path, arguments: list[str]
) -> None:
    """The first connection is never answered, as with a database under load; a later one checks again."""
    await establish(pool, FakeExchange(), Brought("live", "main", "coinbase"))
    (tmp_path / "fills.csv").write_text(
        "id,time,symbol,side,size,price,fee\n1,2025-01-01T00:00:00Z,BTC-USD,BUY,1,50000,0\n"
    )
    given = [str(tmp_path / word) if word.endswith(".csv") else word for word in arguments]
    async with _answering_from_the_second_on(database) as address:
        done = await _command(
            tmp_path, *given, DATABASE_URL=address, TEMPORAL_ADDRESS=temporal_server.address,
            BOTTRADER_WEBHOOK__SENDERS__TV__TOKEN="t" * 48,
        )  # fmt: skip
    assert (done.code, "This ledger is live since" in done.err) == (2, True), done
    assert await pool.fetchval("SELECT (SELECT count(*) FROM account_controls) + (SELECT count(*) FROM fills)") == 0
    assert await pool.fetchval("SELECT count(*) FROM setting_overrides") == 0


async def test_no_command_of_live_opens_papers_ledger(pool: Any, database: str, tmp_path: Path) -> None:
    """The other way round; `live arm` is refused by the ledger before it asks anybody."""
    await establish(pool, FakeExchange(), Brought("paper", "main", "coinbase"))
    for arguments in (["orders"], ["live", "arm", "--yes-account", "main"]):
        done = await _command(tmp_path, *arguments, DATABASE_URL=database, **_LIVE)
        assert done.code == 2, done.err
        assert done.err.startswith("error: This ledger is paper since")


async def test_a_live_start_on_papers_folder_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """The folder's paper exchange identifies it, also if the ledger was never stamped; nothing is written."""
    (tmp_path / "data" / "paper").mkdir(parents=True)
    key = tmp_path / "key.json"
    key.write_text('{"name": "organizations/o/apiKeys/k", "privateKey": "p"}')
    key.chmod(0o600)
    before = _names_below(tmp_path)
    done = await _command(
        tmp_path / "data", "up", "--temporal-port", "0", "--ui-port", "0", "--data", str(tmp_path / "data"),
        BOTTRADER_MODE="live", BOTTRADER_EXCHANGE__KEY_FILE=str(key),
    )  # fmt: skip
    assert done.code == 2, done.err
    assert done.err.splitlines()[0].startswith("LIVE: real money")
    assert "is paper's" in done.err
    assert _names_below(tmp_path) == before


async def test_a_paper_start_on_lives_ledger_is_refused(pool: Any, database: str, tmp_path: Path) -> None:
    """The stack checks before it migrates or starts a worker."""
    await establish(pool, FakeExchange(), Brought("live", "main", "coinbase"))
    stack = LocalStack(
        LocalStackConfig(
            data=tmp_path, paper=False, worker=False, database_url=database, temporal_address="127.0.0.1:1"
        )
    )
    with pytest.raises(UserError, match="This ledger is live since"):
        await stack.start()


async def test_a_worker_with_the_key_of_another_account_is_refused_and_a_new_key_is_taken(
    pool: Any, database: str, tmp_path: Path
) -> None:
    """Two paper exchanges are two accounts; the second key of the first one is as valid as its first."""
    async with PaperExchange(PaperConfig()) as ours, PaperExchange(PaperConfig()) as anothers:

        def settings(paper: PaperExchange, key_file: Path) -> Mapping[str, str]:
            return {
                "DATABASE_URL": database,
                "TEMPORAL_ADDRESS": "127.0.0.1:1",
                "BOTTRADER_EXCHANGE__REST": paper.rest_address,
                "BOTTRADER_EXCHANGE__STREAM": paper.stream_url,
                "BOTTRADER_EXCHANGE__USER_STREAM": paper.user_stream_url,
                "BOTTRADER_EXCHANGE__CA_FILE": str(paper.ca_file),
                "BOTTRADER_EXCHANGE__KEY_FILE": str(key_file),
            }

        exchange = exchange_of(load_settings(environ=settings(ours, ours.key_file)))
        brought = Brought("paper", "main", "coinbase")
        await establish(pool, exchange, brought)
        await check_venue_account(pool, exchange, brought)
        await exchange.close()
        refused = await _command(tmp_path, "worker", **settings(anothers, anothers.key_file))
        assert (refused.code, "and the key is of another" in refused.err) == (2, True), refused.err
        taken = exchange_of(load_settings(environ=settings(ours, ours.keyring.ed25519_key_file)))
        standing = VenueStanding(pool, taken, brought)
        await standing.begin()
        assert standing.trouble() == ""
        await taken.close()
        wrong = exchange_of(load_settings(environ=settings(anothers, anothers.key_file)))
        with pytest.raises(IdentityError, match="the key is of another"):
            await VenueStanding(pool, wrong, brought).begin()
        await wrong.close()


async def test_a_stack_whose_worker_is_refused_says_why(pool: Any, database: str, temporal_server: DevServer) -> None:
    """`up` ends with the worker's own sentence and exit code 2: its paper exchange is another account."""
    brought = Brought("paper", "main", "coinbase")
    await establish(pool, FakeExchange(), brought)
    await check_venue_account(pool, FakeExchange(portfolio="another"), brought)
    stack = LocalStack(LocalStackConfig(database_url=database, temporal_address=temporal_server.address))
    with pytest.raises(UserError, match=r"^Account main of this ledger is coinbase's account another") as refused:
        await stack.start()
    assert refused.value.exit_code == 2


async def test_a_ledger_of_before_keeps_its_names_for_every_process(pool: Any) -> None:
    """A live ledger with open workflows in `default` and `orders` is worked there, whatever names new ones get."""
    live = Settings(mode="live", exchange={"key_file": "/nobody/key.json"})  # type: ignore[arg-type]  # as from a file
    assert live.temporal.orders_queue == "live-orders"
    names = Names()
    await pool.execute(
        "INSERT INTO ledger_identity (mode, stamped_by, namespace, orders_queue, streams_queue, watchers_queue, "
        "strategy_queue) VALUES ('live', 'what it held', $1, $2, $3, $4, $5)",
        names.namespace, names.orders_queue, names.streams_queue, names.watchers_queue, names.strategy_queue,
    )  # fmt: skip
    in_force, _ = await begin_on_ledger(live, None, pool, FakeExchange())
    assert (in_force.temporal.namespace, in_force.temporal.orders_queue) == ("default", "orders")
    said = Settings(
        mode="live",
        exchange={"key_file": "/nobody/key.json"},  # type: ignore[arg-type]  # as from a file
        temporal={"orders_queue": "elsewhere"},  # type: ignore[arg-type]  # as from a file
    )
    with pytest.raises(UserError, match=r"temporal\.orders_queue is not what this ledger's workflows run under"):
        await begin_on_ledger(said, None, pool, FakeExchange())


async def test_the_venue_away_at_the_start_refuses_entries_until_it_has_answered(pool: Any) -> None:
    """The process starts and guards; if the venue is another account, the check says so and ends it."""
    brought = Brought("paper", "main", "coinbase")
    exchange = FakeExchange(portfolio="p-1")
    await establish(pool, exchange, brought)
    exchange.unavailable = True
    quick = StandingOptions(ask_again_seconds=0.05, every_seconds=0.05)
    standing = VenueStanding(pool, exchange, brought, options=quick)
    await standing.begin()
    assert "has not said yet" in standing.trouble()
    assert "no entry of account main is sent: the exchange has not said yet" in (await _refused(pool))[0]
    async with _running(standing):
        exchange.unavailable = False
        await eventually(lambda: _so(standing.trouble() == ""), within=20, what="the venue was checked")
        await eventually(lambda: _none_of(_refused(pool)), within=20, what="it was told that entries pass")
    another = FakeExchange(portfolio="p-2", key_mark="another-key")
    another.unavailable = True
    late = VenueStanding(pool, another, brought, options=quick)
    await late.begin()
    another.unavailable = False
    with pytest.raises(IdentityError, match="the key is of another"):
        await asyncio.wait_for(late.run(), SLACK * 20)


async def test_a_paper_process_that_starts_again_while_nothing_can_be_read_sends_entries(pool: Any) -> None:
    """The ledger knows its key; with another one, and with real money, entries wait for the exchange's answer."""
    exchange = FakeExchange()
    brought = Brought("paper", "main", "coinbase")
    await establish(pool, exchange, brought)
    await VenueStanding(pool, exchange, brought).begin()
    exchange.unavailable = True

    async def trouble_after_a_start(brought: Brought) -> str:
        standing = VenueStanding(pool, exchange, brought)
        await standing.begin()
        return standing.trouble()

    assert await trouble_after_a_start(brought) == ""
    assert await _refused(pool) == []
    assert "has not said yet" in await trouble_after_a_start(Brought("live", "main", "coinbase"))
    exchange.key_mark = "another"
    assert "has not said yet" in await trouble_after_a_start(brought)


async def test_a_live_venue_that_falls_silent_or_a_clock_that_is_off_refuses_entries(pool: Any) -> None:
    """Both are known without a request in the gate, and a dry run in an armed ledger is an incident."""

    class Skewed(FakeExchange):
        ahead = timedelta()

        async def server_time(self) -> datetime:
            self._read("server_time")
            return datetime.now(UTC) + self.ahead

    brought, exchange = Brought("live", "main", "coinbase"), Skewed()
    await establish(pool, exchange, brought)
    async with pool.acquire() as connection:
        await arm(connection, "main", "ann")
    quick = StandingOptions(ask_again_seconds=0.05, every_seconds=0.05, away_after_seconds=0.5)
    standing = VenueStanding(pool, exchange, brought, dry_run=lambda: True, options=quick)
    await standing.begin()
    assert standing.trouble() == ""
    async with _running(standing):
        exchange.ahead = timedelta(seconds=90)
        await eventually(lambda: _so("clock is 90 s behind" in standing.trouble()), within=20, what="the clock")
        await eventually(lambda: _refused(pool), within=20, what="the clock was told")
        async with pool.acquire() as connection:
            live = Settings(mode="live", exchange={"key_file": "/nobody/key.json"})  # type: ignore[arg-type]  # as from a file
            lines = (await overview(connection, live, None)).lines
        assert [line for line in lines if line.startswith("armed by ann")]
        assert lines[-1].startswith("but now no entry of account main is sent: this machine's clock is 90 s behind")
        exchange.ahead = timedelta()
        await eventually(lambda: _so(standing.trouble() == ""), within=20, what="the clock is right again")
        exchange.unavailable = True
        await eventually(lambda: _so("has not answered" in standing.trouble()), within=20, what="silence")
        await eventually(lambda: _refused(pool), within=20, what="the silence was told")
    rows = await pool.fetch("SELECT kind FROM incidents WHERE resolved_at IS NULL ORDER BY kind")
    assert [row["kind"] for row in rows] == [DRY_RUN_ARMED, ENTRIES_REFUSED]


async def test_dry_run_decides_on_entries_and_sends_none(database: str) -> None:
    """Every gate runs, the last one says why the order was not sent, and no attempt is made."""
    async with desk_at_a_paper_exchange(database) as desk:
        await desk.balance("10000")
        desk.policy = replace(desk.policy, dry_run=True)
        refused = await desk.admit(market_buy(desk.account))
        assert (refused.gate, "dry_run is set" in refused.sentence) == ("DRY_RUN", True)
        assert await desk.pool.fetchval("SELECT count(*) FROM attempts") == 0


async def test_unarmed_refuses_entries_while_an_open_trades_stop_still_sells(
    database: str, temporal_server: DevServer
) -> None:
    """Armed it buys; disarmed the next buy is refused with its own sentence, and the stop sells the position."""
    async with trading_system(database, temporal_server.address) as system:
        await system.pool.execute("UPDATE ledger_identity SET mode = 'live'")
        unarmed = await system.start(market_buy(system.account))
        refused = await unarmed.until_state("REJECTED")
        assert (refused.gate, "not armed" in refused.sentence) == ("SKIP_TRADING_HALTED", True)
        async with system.pool.acquire() as connection:
            await arm(connection, system.account, "ann")
        trade = await system.start(market_buy(system.account, request_id="second"))
        await trade.until_protected()
        async with system.pool.acquire() as connection:
            await disarm(connection, system.account, "ann")
        third = await system.start(market_buy(system.account, request_id="third"))
        assert (await third.until_state("REJECTED")).gate == "SKIP_TRADING_HALTED"
        await system.price("40000")
        assert (await trade.closed()).exit_reason == "HARD_STOP"


async def test_a_live_key_that_may_not_trade_is_told_while_it_is_so(pool: Any) -> None:
    """It is a CRITICAL incident and a line in `up` and `live`, until it may."""
    brought, exchange = Brought("live", "main", "coinbase"), FakeExchange(key_may_trade=False)
    await establish(pool, exchange, brought)
    standing = VenueStanding(pool, exchange, brought, options=StandingOptions(every_seconds=0.05))

    async def told() -> list[str]:
        rows = await pool.fetch("SELECT kind FROM incidents WHERE resolved_at IS NULL")
        return [row["kind"] for row in rows]

    await standing.begin()
    async with _running(standing):
        await eventually(lambda: _equal(told(), [KEY_MAY_NOT_TRADE]), within=20, what="it is told")
        shown = await overview(pool, Settings(), exchange)
        assert (shown.key_may_trade, any("THE API KEY MAY NOT TRADE" in line for line in shown.lines)) == (False, True)
        exchange.key_may_trade = True
        await eventually(lambda: _equal(told(), []), within=20, what="it is over")


@contextlib.asynccontextmanager
async def _answering_from_the_second_on(database: str) -> AsyncIterator[str]:
    """The address of a relay to the database whose first connection is never answered."""
    url = urlsplit(database)
    folder = parse_qs(url.query)["host"][0]
    relays: list[asyncio.Task[None]] = []

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.append(asyncio.current_task())  # type: ignore[arg-type]  # within a task
        if len(relays) == 1:
            await reader.read()
            writer.close()
            return
        theirs, ours = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{url.port or 5432}")
        await asyncio.gather(pump(reader, ours), pump(theirs, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://{url.username}@127.0.0.1:{port}{url.path}"
    finally:
        server.close()
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)


def _names_below(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


async def _refused(pool: Any) -> list[str]:
    """The messages about refused entries."""
    rows = await pool.fetch("SELECT sentence FROM incidents WHERE kind = $1 AND resolved_at IS NULL", ENTRIES_REFUSED)
    return [row["sentence"] for row in rows]


async def _none_of(found: Awaitable[list[str]]) -> bool:
    return not await found


async def _equal(asked: Awaitable[object], wanted: object) -> bool:
    return await asked == wanted


async def _so(value: bool) -> bool:
    return value


@contextlib.asynccontextmanager
async def _running(standing: VenueStanding) -> AsyncIterator[None]:
    task = asyncio.create_task(standing.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
