"""`bottrader demo` in short: it must show every kind of exit, and both sides' books equal to the cent."""

import asyncio
import gzip
import os
import signal
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from cli.demo.audit import AuditedAccount, books_agree, duplicates, linkage
from cli.demo.plan import SYMBOLS
from domain.exits import ExitReason
from tests.support.live_stack import ROOT, Outcome, run_command
from tests.support.waiting import SLACK, eventually

pytestmark = pytest.mark.slow


async def _demo(*arguments: str, env: Mapping[str, str] | None = None) -> Outcome:
    argv = [sys.executable, "-m", "cli.main", "demo", *arguments]
    return await run_command(argv, {**_environment(), **(env or {})}, timeout=200)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _is_complete(shown: Any, trades: int) -> None:
    assert shown["problems"] == []
    assert shown["closed"] >= trades
    assert set(shown["reasons"]) == {reason.value for reason in ExitReason}
    closed = [trade for trade in shown["trades"] if trade["state"] == "CLOSED"]
    assert all(Decimal(trade["gross"]) - Decimal(trade["fees"]) == Decimal(trade["pnl"]) for trade in closed)
    assert shown["winners"]["count"] + shown["losers"]["count"] == shown["closed"] == len(closed)
    assert shown["winners"]["count"] > 0 < shown["losers"]["count"]
    assert {trade["symbol"] for trade in shown["trades"]} == set(SYMBOLS)
    assert len({trade["trigger"] for trade in shown["trades"]}) >= 4
    assert {trade["source"] for trade in shown["trades"]} == {"sighook", "webhook", "manual"}
    assert shown["linkage"]["linked"] == shown["linkage"]["filled"] > trades
    duplicates = shown["duplicates"]
    assert duplicates["requests"] == duplicates["attempts"]
    assert duplicates["repeated_requests"] == duplicates["repeated_orders"] == duplicates["unknown_requests"] == 0
    account = shown["account"]
    assert account["equal"]
    assert abs(Decimal(account["ours"]) - Decimal(account["exchange"])) <= Decimal("0.01")
    # Open trades would add open value to the comparison of realised value.
    assert Decimal(account["open_value"]) > 0
    assert Decimal(account["realised"]) != 0


async def test_demo_on_a_generated_market() -> None:
    """On the generated market it shows everything and exits with 0, whatever other stacks' settings the shell has."""
    other = {
        "BOTTRADER_MODE": "live",
        "BOTTRADER_ACCOUNT": "other",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
    }
    outcome = await _demo("--trades", "8", "--json", env=other)
    assert outcome.code == 0, outcome.err
    _is_complete(outcome.json, 8)


async def test_demo_on_recorded_prices(tmp_path: Path) -> None:
    """With a file of candles, it trades on that file's prices alone, and shows everything, too."""
    prices = tmp_path / "candles.csv.gz"
    _write_candles(prices, minutes=60 * 6)
    outcome = await _demo("--trades", "8", "--prices", str(prices), "--json")
    assert outcome.code == 0, outcome.err
    _is_complete(outcome.json, 8)
    bitcoin = [Decimal(trade["entry_price"]) for trade in outcome.json["trades"] if trade["symbol"] == "BTC-USD"]
    assert all(Decimal(900) < price < Decimal(1100) for price in bitcoin)


def _write_candles(path: Path, *, minutes: int) -> None:
    """Minute candles around 1000 USD that oscillate by half a percent within minutes."""
    swing = [0, 2, 4, 5, 3, 1, -1, -3, -5, -4, -2, -1]
    lines = ["time,open,high,low,close,volume"]
    for minute in range(minutes):
        before, now = (Decimal(1000) + swing[at % len(swing)] for at in (minute, minute + 1))
        high, low = max(before, now) + Decimal("0.3"), min(before, now) - Decimal("0.3")
        lines.append(f"{1_700_000_000 + 60 * minute},{before},{high},{low},{now},100")
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


async def test_demo_that_shows_too_little_fails() -> None:
    """Fewer trades than requested is exit code 1 with a message; the accounts are shown all the same."""
    outcome = await _demo("--trades", "200", "--seconds", "10", "--json")
    assert outcome.code == 1
    assert "trades were closed, not 200" in outcome.error["message"]
    assert outcome.json["ok"] is False
    assert outcome.json["account"]["equal"]


async def test_audit_finds_what_is_wrong(database: str) -> None:
    """A filled order without linkage, a request sent twice, and one missing in the journal are all counted."""
    ledger = await asyncpg.connect(database)
    key = "ab" * 16
    try:
        await ledger.execute(
            """INSERT INTO orders (order_key, account, symbol, side, role, order_type, source, entry_point, trigger,
                      intent, intent_digest, state, filled_size)
               VALUES ($1,'main','BTC-USD','BUY','ENTRY','MARKET','sighook','demo','roc_momo','{}','','FILLED',1)""",
            key,
        )
        await ledger.execute(
            """INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status, sends)
               VALUES ($1 || '-1', $1, 1, 'main', 'BTC-USD', '{}', 'FILLED', 1)""",
            key,
        )
        found = await linkage(ledger)
        assert (found.filled, found.linked, found.missing) == (1, 0, (key,))
        ours, foreign = {"client_order_id": f"{key}-1"}, {"client_order_id": "x"}
        sent = await duplicates(ledger, [ours, ours, foreign], [ours, ours])
        assert (sent.repeated_requests, sent.repeated_orders, sent.unknown_requests, sent.total) == (1, 1, 1, 3)
        assert not await books_agree(ledger, [{"order_id": "1", "size": "1"}])
    finally:
        await ledger.close()
    assert AuditedAccount(Decimal(100), Decimal("1.0101"), Decimal(0), Decimal(0), exchange=Decimal("101.0099")).equal
    assert not AuditedAccount(Decimal(100), Decimal("1.01"), Decimal(0), Decimal(0), exchange=Decimal("101.02")).equal


async def test_damaged_price_file_is_a_sentence(tmp_path: Path) -> None:
    """A truncated price file ends the demonstration before any trade, with a sentence and nothing left over."""
    prices = tmp_path / "cut.csv.gz"
    prices.write_bytes(gzip.compress(b"time,open,high,low,close,volume\n" * 100)[:-20])
    outcome = await _demo("--prices", str(prices))
    assert outcome.code == 2
    assert "truncated" in outcome.err
    assert "Traceback" not in outcome.err
    missing = await _demo("--prices", str(tmp_path / "none.csv"))
    assert missing.code == 2
    assert "no such file" in missing.err


async def test_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C in the middle of trading stops every started process and removes the data."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", "demo",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**_environment(), "TMPDIR": str(tmp_path)},
        cwd=ROOT,
        start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    children: list[psutil.Process] = []
    try:
        async with asyncio.timeout(SLACK * 90):
            while b"Watch the trades" not in await process.stderr.readline():
                pass
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 4
        process.send_signal(signal.SIGINT)
        _, said = await asyncio.wait_for(process.communicate(), SLACK * 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 130
    assert b"Traceback" not in said

    async def gone() -> bool:
        return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)

    await eventually(gone, what="the children's end")
    assert _stack_folders(tmp_path) == []


def _stack_folders(parent: Path) -> list[Path]:
    return list(parent.glob("bottrader-*"))
