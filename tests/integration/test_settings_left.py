"""An invalid settings file prevents no command that stops, and a buy uses its workers' rules."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio

from cli.live import lines_at_start
from tests.support.command import environment
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.live_stack import Outcome, run_command
from workers.settings import ExitSettings, read_sources
from workers.stack.dev_server import DevServer


@pytest_asyncio.fixture
async def system(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """A system whose workers sell at a loss of 7 %."""
    exits = ExitSettings(hard_stop_pct=Decimal(7))
    async with trading_system(database, temporal_server.address, others={"exits": exits}) as running:
        yield running


async def typed(system: TradingSystem, folder: Path, *arguments: str, **changes: str | None) -> Outcome:
    """`bottrader` as typed in a folder; `changes` of the environment, None for missing variables."""
    env = {**environment(system), "BOTTRADER_DATA": str(folder / "data"), **changes}
    argv = [sys.executable, "-m", "cli.main", *arguments]
    return await run_command(argv, {name: value for name, value in env.items() if value is not None}, 120, folder)


@pytest.mark.parametrize(
    ("text", "named"),
    [("this is [no TOML", None), ("[exits]\nhard_stop_pct = 'no'\n", None), (None, "gone.toml")],
    ids=["no TOML", "a wrong value", "a missing file"],
)
async def test_a_broken_file_stops_no_stop(
    system: TradingSystem, tmp_path: Path, text: str | None, named: str | None
) -> None:
    """Halting and closing use the remaining settings and say so in one line; the account is the ledger's. Entering
    refuses."""
    if text is not None:
        (tmp_path / "bottrader.toml").write_text(text)
    trade = await system.start(market_buy(system.account))
    await trade.until_protected()
    changes = {"BOTTRADER_ACCOUNT": None, "BOTTRADER_CONFIG": named}
    halted = await typed(system, tmp_path, "halt", **changes)
    assert (halted.code, halted.err.count("The settings are invalid")) == (0, 1), halted.err
    assert f"Entries of {system.account} are halted" in halted.out
    closed = await typed(system, tmp_path, "trade", "close", trade.key, **changes)
    assert closed.code == 0, closed.err
    await trade.closed()
    refused = await typed(system, tmp_path, "resume", **changes)
    assert (refused.code, "Traceback" in refused.err) == (2, False)


async def test_whatever_stops_looks_or_tells_works_without_the_file(system: TradingSystem, tmp_path: Path) -> None:
    """Each such command does its work; the doctor reports the settings; commands that enter are refused."""
    (tmp_path / "bottrader.toml").write_text("account = 'other'\n[exits\n")
    resting = await system.start(limit_buy(system.account, "0.01", "48000"))
    trade = await system.start(market_buy(system.account))
    await trade.until_protected()
    await resting.until_state("OPEN")
    for arguments in (
        ("order", "cancel", resting.key),
        ("incidents", "--json"),
        ("trades", "--json"),
        ("trade", "show", trade.key, "--json"),
        ("quotes", "stop"),
    ):
        done = await typed(system, tmp_path, *arguments)
        assert done.code == 0, (arguments, done)
        assert done.err.count("The settings are invalid") == 1, arguments
    flat = await typed(system, tmp_path, "flatten", "--yes")
    assert (flat.code, flat.err.count("The settings are invalid")) == (0, 1), flat
    assert flat.err.splitlines()[-1] == "Nothing is open any more"
    await trade.closed()
    looked = await typed(system, tmp_path, "doctor", "--json")
    (finding,) = [item for item in looked.json["checks"] if item["check"] == "settings"]
    assert (looked.code, finding["verdict"]) == (1, "fail")
    before = await system.value("SELECT count(*) FROM orders")
    for entering in (("order", "buy", "BTC-USD", "--size", "0.01"), ("strategy", "run"), ("quotes", "start")):
        assert (await typed(system, tmp_path, *entering)).code == 2, entering
    assert await system.value("SELECT count(*) FROM orders") == before


async def test_a_buy_takes_the_rules_that_are_in_force(system: TradingSystem, tmp_path: Path) -> None:
    """The exit rules are the workers' and those set by command, not those of the folder or shell of the command."""
    (tmp_path / "bottrader.toml").write_text("[exits]\nhard_stop_pct = 3\n[triggers.manual.exits]\nsoft_stop_pct = 1\n")
    shell = {"BOTTRADER_EXITS__HARD_STOP_PCT": "4"}
    set_so = await typed(system, tmp_path, "config", "set", "exits.trailing_arm_pct", "9")
    assert set_so.code == 0, set_so.err
    bought = await typed(system, tmp_path, "order", "buy", "BTC-USD", "--size", "0.01", "--json", **shell)
    assert bought.code == 0, bought.err
    rules = await system.value("SELECT intent->'rules' FROM orders WHERE order_key = $1", bought.json["order_key"])
    assert (Decimal(rules["hard_stop"]), Decimal(rules["trailing_arm"])) == (Decimal("0.07"), Decimal("0.09"))
    assert Decimal(rules["soft_stop"]) == ExitSettings().soft_stop_pct / 100


async def test_up_tells_what_is_in_force_and_not_what_its_file_says(system: TradingSystem, tmp_path: Path) -> None:
    """The lines that `up` shows at its start include settings made by command."""
    sources = read_sources(environ=environment(system))
    assert await lines_at_start(sources) == []
    assert (await typed(system, tmp_path, "config", "set", "dry_run", "true")).code == 0
    assert await lines_at_start(sources) == ["dry_run is set: entries are decided but not sent"]
