"""Notices for people, with a real service on a socket and a real database."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from aiohttp import web

from activities.database import Pool, create_pool
from activities.incidents import OpenIncident, report_incident, resolve_incidents
from activities.leases import LeaseTerms
from activities.notices.delivery import BadTargetError, Notifier, NotifierOptions, Target
from activities.notices.outages import DATABASE, OutageOptions, Outages, takes_writes
from cli.main import run
from domain.incidents import IncidentKind
from tests.support.waiting import eventually
from workers.settings import load_settings
from workers.settings.problems import ConfigError

ACCOUNT = "main"


@dataclass
class Service:
    """A service that accepts apprise's json:// messages, or refuses them."""

    port: int = 0
    refuses: bool = False
    taken: list[dict[str, str]] = field(default_factory=list)
    asked: int = 0

    @property
    def url(self) -> str:
        """Its address in apprise's form, with a password."""
        return f"json://user:secret-word@127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        """The accepted messages so far."""
        return [item["title"] for item in self.taken]

    async def handle(self, request: web.Request) -> web.Response:
        """One message."""
        self.asked += 1
        if self.refuses:
            return web.Response(status=503)
        self.taken.append(await request.json())
        return web.Response(text="ok")


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    """A listening service."""
    found = Service()
    app = web.Application()
    app.router.add_post("/hook", found.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on a new ledger."""
    found = await create_pool(database)
    yield found
    await found.close()


def options(repeat: float = 600.0, **changes: float) -> NotifierOptions:
    """Options with short times."""
    given = {"poll_seconds": 0.05, "retry_first_seconds": 0.05, "retry_longest_seconds": 0.2} | changes
    return NotifierOptions(repeat_seconds=repeat, lease=LeaseTerms(seconds=1.0, renew_seconds=0.25), **given)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def delivering(pool: Pool, *urls: str, repeat: float = 600.0) -> AsyncIterator[Notifier]:
    """A running notifier."""
    notifier = Notifier(pool, ACCOUNT, [Target(url) for url in urls], options(repeat))
    task = asyncio.create_task(notifier.run())
    try:
        yield notifier
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def count(service: Service, number: int) -> None:
    """Wait until the service has accepted `number` messages."""

    async def so() -> bool:
        return len(service.taken) >= number

    await eventually(so, within=10, what=f"{number} messages")


async def settled(pool: Pool, number: int) -> None:
    """Wait until this many deliveries are recorded."""

    async def so() -> bool:
        return bool(await pool.fetchval("SELECT count(*) = $1 FROM notices", number))

    await eventually(so, within=10, what=f"{number} deliveries noted")


async def report(pool: Pool, kind: str, severity: str = "CRITICAL", subject: str = "x") -> None:
    """An incident."""
    await report_incident(pool, ACCOUNT, kind, severity, subject, f"{kind} happened")  # type: ignore[arg-type]


async def test_an_incident_is_told_once_over_restarts_and_its_end_too(pool: Pool, service: Service) -> None:
    """Each incident is one message, whichever process runs the notifier; INFO is below the threshold; the end is
    sent."""
    await report(pool, "oversold")
    await report(pool, "chat", "INFO")
    async with delivering(pool, service.url):
        await count(service, 1)
        await settled(pool, 1)
    async with delivering(pool, service.url), delivering(pool, service.url):
        await report(pool, "stale_price", "WARNING", "BTC-USD")
        await count(service, 2)
        await resolve_incidents(pool, ACCOUNT, IncidentKind.STALE_PRICE, "BTC-USD")
        await count(service, 3)
    assert service.titles == [
        "BotTrader main: CRITICAL oversold x",
        "BotTrader main: WARNING stale_price BTC-USD",
        "BotTrader main: SUCCESS stale_price BTC-USD",
    ]
    assert [item["type"] for item in service.taken] == ["failure", "warning", "success"]


async def test_what_is_critical_and_lasts_is_told_however_old_it_is(pool: Pool, service: Service) -> None:
    """An open CRITICAL incident that nobody was told of comes days later, once, and its end; what is over by then, or
    less severe, does not.
    """
    await report(pool, IncidentKind.OVERSOLD)
    await report(pool, "user_stream_down")
    await report(pool, "stale_price", "WARNING")
    await pool.execute("UPDATE incidents SET at = now() - interval '3 days'")
    await pool.execute("UPDATE incidents SET resolved_at = now() WHERE kind = 'user_stream_down'")
    target = Target(service.url)
    notifier = Notifier(pool, ACCOUNT, [target], options())
    for _ in range(2):
        assert await notifier.deliver(target) is None
    await resolve_incidents(pool, ACCOUNT, IncidentKind.OVERSOLD, "x")
    assert await notifier.deliver(target) is None
    assert service.titles == ["BotTrader main: CRITICAL OVERSOLD x", "BotTrader main: SUCCESS OVERSOLD x"]


async def test_what_could_not_be_written_down_is_not_told_again(pool: Pool, service: Service) -> None:
    """While the database accepts no writes (a full disk), each message is sent once, and stored when writes work."""
    await pool.execute(
        """CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$"""
    )
    await pool.execute("CREATE TRIGGER disk BEFORE INSERT ON notices EXECUTE FUNCTION full_disk()")
    await report(pool, "oversold")
    await report(pool, "stale_price", "WARNING")
    target = Target(service.url)
    notifier = Notifier(pool, ACCOUNT, [target], options())
    for _ in range(4):
        with pytest.raises(asyncpg.DiskFullError):
            await notifier.deliver(target)
    assert service.titles == ["BotTrader main: CRITICAL oversold x"]
    await pool.execute("DROP TRIGGER disk ON notices")
    for _ in range(2):
        assert await notifier.deliver(target) is None
    assert service.titles[1:] == ["BotTrader main: WARNING stale_price x"]
    assert await pool.fetch("SELECT times FROM notices") == [(1,), (1,)]


async def test_what_lasts_is_repeated_until_it_is_resolved(pool: Pool, service: Service) -> None:
    """A CRITICAL incident is sent again while it is open, with further rows counted, then its end, then nothing."""
    lasting = OpenIncident(pool, ACCOUNT, IncidentKind.USER_STREAM_DOWN, "CRITICAL", repeat_seconds=0.0)
    async with delivering(pool, service.url, repeat=0.3):
        await lasting.tell(ACCOUNT, "the stream is down")
        await lasting.tell(ACCOUNT, "the stream is still down")
        await count(service, 3)
        await lasting.over(ACCOUNT)

        async def over() -> bool:
            return any("SUCCESS" in title for title in service.titles)

        await eventually(over, within=10)
        await report(pool, "marker", "WARNING")

        async def marked() -> bool:
            return any("marker" in title for title in service.titles)

        await eventually(marked, within=10)
    assert [("SUCCESS" in title) for title in service.titles].count(True) == 1
    assert "still so" in service.taken[1]["message"] or "still so" in service.taken[2]["message"]


async def test_what_an_earlier_process_told_is_ended_by_the_next(pool: Pool) -> None:
    """A killed process leaves its incident open; the next process knows it, and resolves it when it is over."""
    await OpenIncident(pool, ACCOUNT, IncidentKind.USER_STREAM_DOWN, "CRITICAL", repeat_seconds=600).tell(
        ACCOUNT, "it is down"
    )
    next_one = OpenIncident(pool, ACCOUNT, IncidentKind.USER_STREAM_DOWN, "CRITICAL", repeat_seconds=600)
    await next_one.inherit()
    assert next_one.lasts(ACCOUNT)
    await next_one.tell(ACCOUNT, "it is down")
    await next_one.over(ACCOUNT)
    rows = await pool.fetch("SELECT resolved_at FROM incidents")
    assert [row["resolved_at"] is not None for row in rows] == [True]


async def test_a_service_that_refuses_is_tried_again_and_holds_up_no_other(pool: Pool, service: Service) -> None:
    """Failures back off and are recorded; another address gets everything meanwhile, and nothing twice."""
    other = f"json://127.0.0.1:{service.port}/hook?+X-Second=1"
    await report(pool, "oversold")
    service.refuses = True
    async with delivering(pool, service.url, "json://127.0.0.1:9/nobody"):

        async def failed() -> bool:
            return bool(
                await pool.fetchval("SELECT count(*) = 2 FROM notice_targets WHERE failures > 0 AND last_error <> ''")
            )

        await eventually(failed, within=10)
        service.refuses = False
        async with delivering(pool, other):
            await count(service, 1)
            await settled(pool, 1)
    async with delivering(pool, other):
        await settled(pool, 2)
    assert len(service.taken) == 2
    stored = json.dumps([dict(row) for row in await pool.fetch("SELECT target, last_error FROM notice_targets")])
    assert "secret-word" not in stored


async def test_while_the_database_is_away_people_are_told_directly(pool: Pool, service: Service) -> None:
    """An outage of the database is sent directly and written when it is back, with its own times."""
    away = True

    async def database() -> None:
        if away:
            raise ConnectionRefusedError("nobody listens")

    notifier = Notifier(pool, ACCOUNT, [Target(service.url)], options())
    outages = Outages(
        pool, ACCOUNT, {DATABASE: database}, notifier, OutageOptions(after_seconds=0.0, repeat_seconds=0.0)
    )
    await outages.look()
    await outages.look()
    assert len(service.taken) == 2
    assert "nobody listens" in service.taken[0]["message"]
    assert "still since" in service.taken[1]["message"]
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 0
    away = False
    await outages.look()
    (row,) = await pool.fetch("SELECT kind, severity, at, resolved_at FROM incidents")
    assert (row["kind"], row["severity"]) == ("database_away", "CRITICAL")
    assert row["resolved_at"] >= row["at"]
    assert outages.away == frozenset()


async def test_a_database_that_only_reads_is_told_and_what_a_person_must_do(
    pool: Pool, database: str, service: Service
) -> None:
    """Working reads are not enough: that it accepts no writes is sent directly, with what to do, and without saying
    that it resolves itself.
    """
    notifier = Notifier(pool, ACCOUNT, [Target(service.url)], options())
    await takes_writes(pool)
    async with contextlib.AsyncExitStack() as stack:
        mark = "&" if "?" in database else "?"
        reading = await create_pool(f"{database}{mark}default_transaction_read_only=on")
        stack.push_async_callback(reading.close)
        assert await reading.fetchval("SELECT count(*) FROM incidents") == 0
        probes = {DATABASE: lambda: takes_writes(reading)}
        outages = Outages(pool, ACCOUNT, probes, notifier, OutageOptions(after_seconds=0.0))
        await outages.look()
    (told,) = service.taken
    assert "accepts no writes" in told["message"]
    assert "default_transaction_read_only" in told["message"]
    assert "Work continues automatically" not in told["message"]


async def test_a_direct_message_that_nobody_took_is_sent_again(pool: Pool, service: Service) -> None:
    """While the service refuses, each check tries again; accepted messages are not repeated before their time."""

    async def database() -> None:
        raise ConnectionRefusedError("nobody listens")

    notifier = Notifier(pool, ACCOUNT, [Target(service.url)], options())
    outages = Outages(pool, ACCOUNT, {DATABASE: database}, notifier, OutageOptions(after_seconds=0.0))
    service.refuses = True
    await outages.look()
    assert service.taken == []
    service.refuses = False
    await outages.look()
    await outages.look()
    assert len(service.taken) == 1


async def test_a_backup_that_holds_every_table_does_not_make_the_database_look_away(pool: Pool) -> None:
    """pg_dump keeps a lock on each table while it reads: the probe writes all the same, and doesn't wait."""
    async with pool.acquire() as backup, backup.transaction():
        await backup.execute("LOCK TABLE heartbeats IN ACCESS SHARE MODE")
        await asyncio.gather(*(takes_writes(pool) for _ in range(3)))
    await takes_writes(pool)
    assert await pool.fetchval("SELECT count(*) FROM heartbeats") == 8


async def test_an_outage_is_one_incident_however_long_and_ends_by_itself(pool: Pool) -> None:
    """An outage is CRITICAL once it lasted long enough; a new process resolves one that an earlier one began."""
    error: Exception | None = OSError("Temporary failure in name resolution")

    async def exchange() -> None:
        if error is not None:
            raise error

    async def there() -> None:
        return None

    notifier = Notifier(pool, ACCOUNT, [], options())
    probes = {DATABASE: there, "exchange": exchange}
    patient = Outages(pool, ACCOUNT, probes, notifier, OutageOptions(after_seconds=60))
    await patient.look()
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 0
    quick = Outages(pool, ACCOUNT, probes, notifier, OutageOptions(after_seconds=0))
    for _ in range(3):
        await quick.look()
    (row,) = await pool.fetch("SELECT kind, sentence, resolved_at FROM incidents")
    assert (row["kind"], row["resolved_at"]) == ("exchange_away", None)
    assert "name resolution" in row["sentence"]
    error = None
    await Outages(pool, ACCOUNT, probes, notifier, OutageOptions()).look()
    assert await pool.fetchval("SELECT count(*) FROM incidents WHERE resolved_at IS NULL") == 0


def test_an_address_that_apprise_does_not_know_is_named_without_its_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The sentence has the position in the list and nothing of the address, and nothing of it is logged."""
    for url in ("nosuch://user:secret-word@host", "secret-word://", "tgram://secret-word"):
        with pytest.raises(BadTargetError, match="number 2, is not a valid Apprise URL") as caught:
            Target(url, position=2)
        assert "secret-word" not in str(caught.value)
    assert caplog.text == ""
    with pytest.raises(ConfigError) as problem:
        load_settings(environ={"BOTTRADER_NOTICES__URLS": "secret-word"})
    assert "secret-word" not in str(problem.value)


async def test_the_command_tries_every_address(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`notify test` reaches the service, names the addresses that failed, and shows no secret; neither does `config
    show`.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTTRADER_DATA", str(tmp_path))
    assert await asyncio.to_thread(run, ["notify", "test"]) == 2
    assert "docs/notices.md" in capsys.readouterr().err
    monkeypatch.setenv("BOTTRADER_NOTICES__URLS", f"{service.url} json://127.0.0.1:9/ nosuch://x")
    assert await asyncio.to_thread(run, ["notify", "test", "--json"]) == 1
    answers = json.loads(capsys.readouterr().out)
    assert [item["taken"] for item in answers] == [True, False, False]
    assert service.titles == ["BotTrader main: test"]
    assert await asyncio.to_thread(run, ["config", "show"]) == 0
    shown = capsys.readouterr().out
    assert "notices.urls" in shown
    assert "secret-word" not in shown


async def test_incidents_are_listed_and_resolved_by_a_person(
    pool: Pool, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`incidents` shows the open ones; `incident resolve` resolves it once, and says if it was not open."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTTRADER_DATA", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", database)
    await report(pool, "oversold")
    capsys.readouterr()
    assert await asyncio.to_thread(run, ["incidents", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["kind"], listed["messages"]) == ("oversold", 0)
    number = str(listed["id"])
    assert await asyncio.to_thread(run, ["incident", "resolve", number]) == 0
    assert await asyncio.to_thread(run, ["incident", "resolve", number]) == 1
    capsys.readouterr()
    assert await asyncio.to_thread(run, ["incidents"]) == 0
    assert "There are no open incidents." in capsys.readouterr().out
