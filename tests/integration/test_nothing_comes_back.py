"""No secret of the settings is printed, logged or stored, whatever is unreachable (SAFE-5)."""

import json
import logging
import os
from pathlib import Path

import pytest
import structlog

from activities.database import create_pool
from activities.incidents import report_incident, report_past
from activities.notices.delivery import Notifier, NotifierOptions
from activities.notices.outages import DATABASE, OutageOptions, Outages
from activities.secret_values import hide
from cli.main import run
from domain.incidents import IncidentKind
from tests.support.modes import open_to_others
from tests.support.waiting import eventually
from workers.log_lines import logs_without_secrets
from workers.private_files import make_private
from workers.settings import build, read_sources
from workers.settings.live import BAD_SETTINGS, LiveSettings
from workers.stack.dev_server import DevServer
from workers.stack.embedded_postgres import EmbeddedPostgres
from workers.stack.local_stack import LocalStack, LocalStackConfig

SECRET = "Sw0rd-f1sh9c41e7ab02d4"
SLIPS = (
    f'[exits]\nhard_stop_pct = "{SECRET}"\n',
    f'tokne = "{SECRET}"\n',
    f'[database]\ndsn = "postgresql://me:{SECRET}@h/d"\n',
    f'[notices]\nurls = ["{SECRET}"]\n',
    f'[notices]\nurls = ["json://a" "{SECRET}"]\n',
    f'[webhook.senders]\nmine = "{SECRET}"\n',
    f'"{SECRET}" = 1\n',
)


async def test_an_edit_of_a_running_workers_file_is_told_without_it(
    database: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each mistake is an incident with its key or line, and neither table nor log has the typed text."""
    file = tmp_path / "bottrader.toml"
    file.write_text("")
    sources = read_sources(file, {})
    pool = await create_pool(database)
    live = LiveSettings(build(sources), pool, sources)
    try:
        async with live.following():
            for number, text in enumerate(SLIPS, start=1):
                file.write_text(text)

                async def told(wanted: int = number) -> bool:
                    count = await pool.fetchval("SELECT count(*) FROM incidents WHERE kind = $1", BAD_SETTINGS)
                    return bool(count == wanted)

                await eventually(told, what=f"the incident about slip {number}")
        stored = [dict(row) for row in await pool.fetch("SELECT * FROM incidents")]
        recorded = [dict(row) for row in await pool.fetch("SELECT * FROM setting_changes")]
    finally:
        await pool.close()
    assert len(stored) == len(SLIPS)
    out, err = capfd.readouterr()
    assert "changed settings can't be used" in out + err
    assert SECRET not in str(stored) + str(recorded) + out + err


async def test_no_way_to_an_incident_stores_it(database: str) -> None:
    """Incidents that were over when found, and texts of servers that don't answer, are stored without it, too."""
    hide({SECRET})
    pool = await create_pool(database)

    async def away() -> None:
        raise RuntimeError(f"no route to https://me:{SECRET}@h")

    async def there() -> None:
        return None

    try:
        await report_past(pool, "main", IncidentKind.STALE_PRICE, "WARNING", "it", f"by {SECRET}", {"why": SECRET})
        notifier = Notifier(pool, "main", [], NotifierOptions())
        outages = Outages(pool, "main", {DATABASE: there, "exchange": away}, notifier, OutageOptions(after_seconds=0.0))
        await outages.look()
        stored = [dict(row) for row in await pool.fetch("SELECT * FROM incidents")]
    finally:
        await pool.close()
    assert {row["kind"] for row in stored} == {"stale_price", "exchange_away"}
    assert SECRET not in str(stored)


@pytest.mark.parametrize("command", [("doctor",), ("doctor", "--json"), ("worker",), ("web",), ("trades",), ("up",)])
@pytest.mark.parametrize("temporal_answers", [False, True])
def test_what_is_out_of_reach_is_told_without_its_address(
    command: tuple[str, ...],
    temporal_answers: bool,
    temporal_server: DevServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whatever a command prints about unreachable servers: no password, no address, no name from the settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTTRADER_DATA", str(tmp_path / "data"))
    for name, value in {
        "DATABASE_URL": f"postgresql://{SECRET}:{SECRET}@127.0.0.1:1/{SECRET}",
        "TEMPORAL_ADDRESS": temporal_server.address if temporal_answers else "127.0.0.1:1",
        "BOTTRADER_TEMPORAL__NAMESPACE": SECRET,
        "BOTTRADER_TEMPORAL__API_KEY": SECRET,
        "BOTTRADER_TEMPORAL__CONNECT_TIMEOUT_S": "0.5",
        "BOTTRADER_EXCHANGE__REST": f"127.0.0.1:1/{SECRET}",
        "BOTTRADER_EXCHANGE__STREAM": f"wss://{SECRET}@127.0.0.1:1/{SECRET}",
        "BOTTRADER_EXCHANGE__USER_STREAM": f"{SECRET}://",
        "BOTTRADER_WEBHOOK__SENDERS__MINE__TOKEN": SECRET,
        "BOTTRADER_NOTICES__URLS": f"json://{SECRET}@127.0.0.1:1/",
    }.items():
        monkeypatch.setenv(name, value)
    code = run([*command])
    out, err = capfd.readouterr()
    assert code in {1, 2, 3}, err
    assert SECRET not in out + err


def test_shown_settings_have_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each secret setting is *** in `config show`, with --json and without."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTTRADER_DATA", str(tmp_path / "data"))
    (tmp_path / "bottrader.toml").write_text(
        f'[database]\nurl = "postgresql://me:{SECRET}@127.0.0.1:1/d"\n[temporal]\napi_key = "{SECRET}"\n'
        f'[notices]\nurls = ["tgram://{SECRET}/1"]\n[webhook.senders.mine]\ntoken = "{SECRET}"\nsecret = "{SECRET}x"\n'
    )
    for options in ((), ("--json",), ("--changed",)):
        assert run(["config", "show", *options]) == 0
    found = capsys.readouterr()
    assert "***" in found.out
    assert SECRET not in found.out + found.err


async def test_what_libraries_say_is_logged_and_stored_without_secrets(
    database: str, postgres_server: EmbeddedPostgres, capfd: pytest.CaptureFixture[str]
) -> None:
    """Libraries' texts and tracebacks may have a password: it is removed, and no traceback has values of variables."""
    del postgres_server
    before = structlog.get_config()
    try:
        build(read_sources(environ={"DATABASE_URL": f"postgresql://me:{SECRET}@h/d"}))
        logs_without_secrets()
        logs_without_secrets()
        local = f"{SECRET}-of-a-variable"
        try:
            raise OSError(f"can't reach postgresql://me:{SECRET}@h/d")
        except OSError as problem:
            structlog.get_logger().error("it fails", problem=repr(problem), exc_info=problem)
            handler = logging.lastResort
            assert handler is not None
            record = logging.LogRecord("lib", logging.ERROR, "f", 1, "failed: %s", (problem,), None)
            assert SECRET not in handler.format(record)
        assert local
        pool = await create_pool(database)
        await report_incident(
            pool, "main", IncidentKind.STALE_PRICE, "WARNING", SECRET, f"no {SECRET}", {"why": [f"of {SECRET}"]}
        )
        stored = str([dict(row) for row in await pool.fetch("SELECT * FROM incidents")])
        await pool.close()
    finally:
        structlog.configure(**before)
    out, err = capfd.readouterr()
    assert "it fails" in out + err
    assert "Traceback" in out + err
    assert "'why': ['of ***']" in stored
    assert SECRET not in out + err + stored


async def test_a_stacks_files_are_its_owners_alone(tmp_path: Path) -> None:
    """Data, logs, keys and addresses, new ones and those that an earlier version left open to others."""
    folder = tmp_path / "data"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "worker.log").write_text("")
    (folder / "stack.lock").write_text("")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = os.umask(0o022)
    try:
        make_private()  # like the command before
        async with LocalStack(LocalStackConfig(data=folder, ui=False, worker=False)) as stack:
            assert json.loads((folder / "stack.json").read_text())["data"] == str(stack.data)
            assert folder.stat().st_mode & 0o077 == 0
            assert open_to_others(folder) == set()
    finally:
        os.umask(before)
