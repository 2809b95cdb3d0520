"""The command line: fast, meaningful exit codes, and one sentence instead of a traceback."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.errors import as_user_error
from cli.main import app, run
from cli.output import emit, print_json, print_table
from workers.errors import ExitCode, UnreachableError, UserError
from workers.settings.exchange_keys import key_file_problems
from workers.stack.processes import python_module


def bottrader(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """The real command in its own process, in an empty folder and without the user's settings."""
    return subprocess.run(
        python_module("cli.main", *arguments),
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "BOTTRADER_DATA": str(folder / "data"),
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_is_fast() -> None:
    """`bottrader --help` imports nothing that it doesn't need: this determines its time on any machine."""
    program = (
        "import sys, cli.main as main\n"
        "sys.argv = ['bottrader', '--help']\n"
        "try: main.main()\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Usage: " in done.stdout
    loaded = set(done.stderr.split())
    assert "cli.main" in loaded
    heavy = {"aiohttp", "asyncio", "asyncpg", "coinbase", "email", "http", "httpx", "numpy", "orjson", "pydantic",
             "requests", "rich", "sqlalchemy", "ssl", "structlog", "temporalio", "websockets"}  # fmt: skip
    assert loaded & heavy == set()
    # Of our modules, apart from the commands themselves, only those with names and errors.
    rooms = {"activities", "domain", "exchange", "fifo", "research", "schema", "web", "workers", "workflows"}
    ours = {name for name in loaded if name.partition(".")[0] in rooms}
    assert len(ours) <= 20, sorted(ours)
    assert len(loaded) <= 330, len(loaded)


def _helps(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, str]]:
    """The help of a command and of all its subcommands, each with its command line."""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    yield context.command_path, command.get_help(context)
    for below, part in getattr(command, "commands", {}).items():
        yield from _helps(part, below, context)


def test_every_help_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line of any command's help is longer than a usual terminal is wide."""
    monkeypatch.setenv("COLUMNS", "80")
    found = dict(_helps(typer.main.get_command(app), "bottrader"))
    assert {"bottrader status", "bottrader trade stops", "bottrader report beyond-stops"} <= set(found)
    assert [(name, line) for name, text in found.items() for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "words"),
    [
        (["nonsense"], {}, ExitCode.BAD_INPUT, "No such command 'nonsense'"),
        (["worker", "--role", "chef"], {}, ExitCode.BAD_INPUT, "--role chef"),
        (["flatten", "BTCUSD"], {}, ExitCode.BAD_INPUT, "'BTCUSD' is not a product: write it like BTC-USD"),
        (["trades", "--open", "--closed"], {}, ExitCode.BAD_INPUT, "Give --open or --closed, not both"),
        (["orders", "--open", "--ended"], {}, ExitCode.BAD_INPUT, "Give --open or --ended, not both"),
        (["status"], {}, ExitCode.UNREACHABLE, "No database is configured"),
        (["balance"], {}, ExitCode.UNREACHABLE, "No database is configured"),
        (["up", "--prices", "none.csv"], {}, ExitCode.BAD_INPUT, "none.csv: there is no such file"),
        (["up", "--speed", "0"], {}, ExitCode.BAD_INPUT, "--speed"),
        (["up", "--live-prices", "--speed", "10"], {}, ExitCode.BAD_INPUT, "--live-prices needs --speed 1"),
        (["up", "--live-prices"], {"BOTTRADER_SPEED": "10"}, ExitCode.BAD_INPUT, "--live-prices needs --speed 1"),
        (["up", "--live-prices", "--prices", "a.csv"], {}, ExitCode.BAD_INPUT, "not both"),
        (["up", "--live-prices", "--no-paper"], {}, ExitCode.BAD_INPUT, "which isn't started"),
        (["up", "--live-url", "wss://feed"], {}, ExitCode.BAD_INPUT, "--live-url is for --live-prices"),
        (["up", "--fills", "hopeful"], {}, ExitCode.BAD_INPUT, "one of pessimistic, base, optimistic"),
        (["up", "--balance", "USD=5", "--no-paper"], {}, ExitCode.BAD_INPUT, "--balance is for the paper exchange"),
        (["up"], {"BOTTRADER_PAPER__BALANCES": "5 USD"}, ExitCode.BAD_INPUT, "a balance is written like USD=100000"),
        (["--config", "none.toml", "config", "check"], {}, ExitCode.BAD_INPUT, "there is no such file"),
        (["config", "check"], {"BOTTRADER_EXITS__SOFT": "3"}, ExitCode.BAD_INPUT, "did you mean soft_stop_pct?"),
        (
            ["config", "check"],
            {"BOTTRADER_PAPER__PRODUCTS": "BTC-USD,NO-USD"},
            ExitCode.BAD_INPUT,
            "number 2 of 2 is not one",
        ),
        (["config", "check"], {"BOTTRADER_STRATEGY__USE": "magic"}, ExitCode.BAD_INPUT, "there is no such strategy"),
        (["config", "set", "risk.daily_loss_limit", "400", "--wy"], {}, ExitCode.BAD_INPUT, "No such option: --wy"),
        (["config", "set", "risk.daily_loss_limit", "-1"], {}, ExitCode.UNREACHABLE, "No database is configured"),
        (["db", "upgrade"], {}, ExitCode.UNREACHABLE, "No database is configured"),
        (["db", "upgrade"], {"DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"}, ExitCode.UNREACHABLE, "DATABASE_URL"),
        (
            ["db", "upgrade"],
            {"DATABASE_URL": "postgresql://p@/c?host=/nowhere"},
            ExitCode.UNREACHABLE,
            "does not answer",
        ),
        (
            ["worker"],
            {"DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c", "TEMPORAL_ADDRESS": "127.0.0.1:1"},
            ExitCode.UNREACHABLE,
            "The database does not answer",
        ),
        (
            ["reconcile"],
            {"TEMPORAL_ADDRESS": "127.0.0.1:1"},
            ExitCode.UNREACHABLE,
            "Temporal does not answer",
        ),
    ],
)
def test_bad_input_is_a_sentence(
    arguments: list[str],
    environ: dict[str, str],
    code: ExitCode,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The sentence is on stderr, nothing on stdout, and there is no traceback."""
    monkeypatch.chdir(tmp_path)
    # `--config` sets this one: it is restored afterwards.
    monkeypatch.setenv("BOTTRADER_CONFIG", "")
    monkeypatch.delenv("BOTTRADER_CONFIG")
    for name, value in {"HOME": str(tmp_path), "BOTTRADER_DATA": str(tmp_path / "data"), **environ}.items():
        monkeypatch.setenv(name, value)
    assert run(arguments) == code
    done = capfd.readouterr()
    assert words in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_bad_input_of_a_process_is_a_sentence(tmp_path: Path) -> None:
    """The process ends with the code, and prints only the sentence."""
    done = bottrader("db", "upgrade", folder=tmp_path)
    assert done.returncode == ExitCode.UNREACHABLE
    assert "No database is configured" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_bad_price_file_is_noticed_before_anything_starts(command: str, tmp_path: Path) -> None:
    """A price file is read completely first: an error in it is bad input, with its line, and no server was started."""
    prices = tmp_path / "prices.csv"
    prices.write_text("time,open,high,low,close\n2026-01-01T00:00:00Z,1,2,1,1\n2026-01-01T00:01:00Z,1,2,1,lots\n")
    done = bottrader(command, "--prices", str(prices), folder=tmp_path)
    assert done.returncode == ExitCode.BAD_INPUT, done.stderr
    assert "line 3" in done.stderr
    assert "Temporal" not in done.stderr


def test_errors_are_json_when_asked_for(tmp_path: Path) -> None:
    """With --json a program can read the error's code."""
    done = bottrader("db", "upgrade", "--json", folder=tmp_path)
    error = json.loads(done.stderr.strip().splitlines()[-1])["error"]
    assert error["code"] == "NO_DATABASE"


def test_doctor_says_what_to_do_when_nothing_runs(tmp_path: Path) -> None:
    """Every check has an answer, the overall answer is no, and each failure has advice."""
    done = bottrader("doctor", "--json", folder=tmp_path, TEMPORAL_ADDRESS="127.0.0.1:1")
    assert done.returncode == ExitCode.NO, done.stderr
    report = json.loads(done.stdout)
    failed = {check["check"]: check for check in report["checks"] if check["verdict"] == "fail"}
    assert set(failed) == {"database", "temporal", "exchange"}
    assert all("bottrader up" in check["finding"] for check in failed.values())


def test_config_show_masks_secrets(tmp_path: Path) -> None:
    """Neither the table nor the JSON shows a password."""
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        done = bottrader(*arguments, folder=tmp_path, DATABASE_URL="postgresql://me:hunter2@h/d")
        assert done.returncode == 0, done.stderr
        assert "hunter2" not in done.stdout + done.stderr
        assert "***" in done.stdout


def test_config_show_marks_what_was_changed_and_nothing_else(tmp_path: Path) -> None:
    """Without settings everything is a default; a single changed setting names its source, and no other does."""
    plain, given = (
        bottrader("config", "show", folder=tmp_path, **environ).stdout
        for environ in ({}, {"BOTTRADER_TRIGGERS__MACD_CROSS__SIZE_QUOTE": "70"})
    )
    assert "triggers.macd_cross.size_quote" in plain
    assert "environment" not in plain
    (marked,) = [line for line in given.splitlines() if "environment" in line]
    assert "triggers.macd_cross.size_quote" in marked


def test_config_init_keeps_what_is_there(tmp_path: Path) -> None:
    """A settings file is not overwritten without the option."""
    assert bottrader("config", "init", folder=tmp_path).returncode == 0
    again = bottrader("config", "init", folder=tmp_path)
    assert again.returncode == ExitCode.BAD_INPUT
    assert "--force" in again.stderr


def test_unforeseen_error_names_a_file_with_the_details(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An internal error is a sentence, too, and its traceback is kept for whoever repairs it."""
    import cli.config

    def broken() -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(cli.config, "current_sources", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run(["config", "show"]) == ExitCode.FAULT
    assert "ZeroDivisionError" in capsys.readouterr().err
    (details,) = tmp_path.glob("bottrader-fault-*.txt")
    assert "Traceback" in details.read_text()


def test_user_error_is_found_under_other_errors() -> None:
    """A user error inside a task group's or a library's error keeps its sentence."""
    wanted = UnreachableError("NO_TEMPORAL", "Temporal does not answer.")
    wrapped = RuntimeError("outer")
    wrapped.__cause__ = wanted
    assert as_user_error(wrapped) is wanted
    assert as_user_error(ExceptionGroup("many", [ValueError("x"), wanted])) is wanted


def test_missing_tables_point_to_the_migration() -> None:
    """An old database is recognised by PostgreSQL's own error code."""
    import asyncpg

    found = as_user_error(asyncpg.UndefinedTableError("relation does not exist"))
    assert (found.code, found.exit_code) == ("NOT_MIGRATED", ExitCode.BAD_INPUT)
    assert "bottrader db upgrade" in found.sentence


@pytest.mark.parametrize("kind", ["ReadOnlySQLTransactionError", "DiskFullError"])
def test_a_database_that_takes_no_writes_is_said_in_a_sentence(kind: str) -> None:
    """A failed write is not an internal error: the sentence says that nothing was changed and what to do."""
    import asyncpg

    found = as_user_error(getattr(asyncpg, kind)("cannot execute UPDATE of /secret/place"))
    assert (found.code, found.exit_code) == ("DATABASE_READ_ONLY", ExitCode.UNREACHABLE)
    assert "accepts no writes" in found.sentence
    assert "secret" not in found.sentence


@pytest.mark.parametrize(
    "kind", ["InterfaceError", "InternalClientError", "ConnectionDoesNotExistError", "AdminShutdownError"]
)
def test_a_lost_database_is_no_fault_of_ours(kind: str) -> None:
    """However asyncpg reports a lost connection, exit code 3 says that the database is not available."""
    import asyncpg

    found = as_user_error(getattr(asyncpg, kind)("connection is closed"))
    assert (found.code, found.exit_code) == ("NO_DATABASE", ExitCode.UNREACHABLE)


def test_a_full_disk_is_no_fault_of_ours() -> None:
    """A report that can't be written completely says so, with exit code 3."""
    found = as_user_error(OSError(errno.ENOSPC, "No space left on device"))
    assert (found.code, found.exit_code) == ("NO_SPACE", ExitCode.UNREACHABLE)
    assert "free some space" in found.sentence


def test_what_we_do_wrong_with_the_database_stays_a_fault() -> None:
    """A query with wrong arguments is an internal error, and doesn't ask the user to check the database."""
    import asyncpg

    assert as_user_error(asyncpg.InterfaceError("another operation is in progress")).exit_code is ExitCode.FAULT
    assert as_user_error(asyncpg.DataError("invalid input for query argument $1")).exit_code is ExitCode.FAULT


def test_a_key_that_cannot_sign_is_bad_input() -> None:
    """A wrong API key is exit code 2 with the sentence of the failed check."""
    from exchange.coinbase import ApiKey, ApiKeyError

    with pytest.raises(ApiKeyError) as caught:
        ApiKey.of("organizations/x/apiKeys/y", "not a key")
    found = as_user_error(caught.value)
    assert (found.code, found.exit_code) == ("BAD_KEY", ExitCode.BAD_INPUT)


def test_json_keeps_money_exact(capsys: pytest.CaptureFixture[str]) -> None:
    """A Decimal is printed as text, without exponent or rounding."""
    print_json({"price": Decimal("0.00000001"), "size": Decimal("1E+3")})
    assert json.loads(capsys.readouterr().out) == {"price": "0.00000001", "size": "1000"}


def test_table_and_json_have_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """Both forms have the same rows; an empty answer is a sentence or an empty list."""
    rows = [{"symbol": "BTC-USD", "size": Decimal("0.10")}]
    emit(rows, as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"symbol": "BTC-USD", "size": "0.10"}]
    emit(rows, as_json=False)
    table = capsys.readouterr().out
    assert "BTC-USD" in table
    assert "0.10" in table
    emit([], as_json=False, empty="No open orders.")
    assert capsys.readouterr().out == "No open orders.\n"


def test_a_narrow_terminal_gets_what_it_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns less important columns are left out and no key, symbol or state is cut; a wide terminal has all."""
    states = ("FILLED", "PARTIALLY_FILLED", "INSUFFICIENT_BALANCE")
    columns = ("key", "symbol", "side", "type", "state", "size", "filled", "fees", "age")
    rows = [
        (f"4f2a91c0d{i}7e", "BTC-USD", "BUY", "LIMIT 60000", state, Decimal("0.01"), Decimal("0.005"), 1, "5 min")
        for i, state in enumerate(states)
    ]
    shown = {width: _on_a_terminal(width, columns, rows, monkeypatch) for width in (80, 160)}
    assert max(len(line) for line in shown[80].splitlines()) <= 80
    for width, text in shown.items():
        assert ("fees" in text) == (width == 160)
        for row in rows:
            assert any(all(name in line for name in (row[0], row[1], row[4])) for line in text.splitlines()), text


def _on_a_terminal(
    width: int, columns: tuple[str, ...], rows: Sequence[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> str:
    """A table as shown on a terminal of this width."""
    ours, theirs = os.openpty()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with os.fdopen(theirs, "w", encoding="utf-8") as screen, monkeypatch.context() as within:
        within.setattr("sys.stdout", screen)
        print_table(columns, rows, narrow_without=("fees",))
        screen.flush()
        text = os.read(ours, 100_000).decode()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_key_file_is_looked_at_before_it_is_used(tmp_path: Path) -> None:
    """Format and permissions are checked, and a good file passes."""
    good = tmp_path / "key.json"
    good.write_text('{"name": "organizations/x/apiKeys/y", "privateKey": "-----BEGIN"}')
    good.chmod(0o600)
    assert key_file_problems(good) == []
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    assert "not JSON" in key_file_problems(bad)[0]
    bad.write_text('{"name": "x"}')
    assert any("privateKey" in problem for problem in key_file_problems(bad))
    assert "can't be read" in key_file_problems(tmp_path / "none.json")[0]


def test_exit_codes_are_documented() -> None:
    """The command's own documentation names every code."""
    import cli.main

    assert cli.main.__doc__ is not None
    for code in ExitCode:
        assert str(int(code)) in cli.main.__doc__
    assert UserError("X", "y").exit_code is ExitCode.BAD_INPUT


@pytest.mark.parametrize("options", [("--json", "--csv"), ("--csv", "--json")])
@pytest.mark.parametrize("report", ["summary", "triggers", "indicators", "linkage", "leaderboard"])
def test_a_report_has_one_form(report: str, options: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Two forms at once are refused before anything is read; neither is silently ignored."""
    assert run(["report", report, *options]) == ExitCode.BAD_INPUT
    assert "--json or --csv, not both" in "".join(capsys.readouterr())
