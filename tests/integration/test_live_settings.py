"""Settings changed while workers run: they apply without a restart, are checked together, and are recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from cli.asking import user
from cli.main import run
from domain.entries import rules_of
from domain.ids import order_workflow_id
from tests.support.harness import TradingSystem, trading_system
from tests.support.intents import linkage, market_buy
from tests.support.waiting import eventually
from workers.errors import UserError
from workers.settings import Settings, SymbolSettings, build, read_sources
from workers.settings.changes import Change, read_overrides, recent_changes, set_override, unset_override
from workers.settings.live import BAD_SETTINGS, NEEDS_RESTART, LiveSettings
from workers.settings.problems import ConfigError
from workers.settings.sources import CONFIG_FOLDER, SettingSources
from workers.stack.dev_server import DevServer


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """Connections to the test's own ledger."""
    connections = await create_pool(database)
    yield connections
    await connections.close()


@pytest_asyncio.fixture
async def system(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """A running system that accepts orders; its streams are not needed here."""
    async with trading_system(database, temporal_server.address, roles=frozenset({"orders"})) as running:
        yield running


class CommandLine:
    """`bottrader config …` for the account of a system, run by "ann"."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.noted = ""

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run it, check the exit code, and return its output."""
        self._capsys.readouterr()
        found = await asyncio.to_thread(run, ["config", *arguments])
        said = self._capsys.readouterr()
        self.noted = said.err
        assert found == code, said.err
        return said.out if code == 0 else said.err


@pytest.fixture
def config(
    system: TradingSystem,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    database: str,
) -> CommandLine:
    """The command line of the system's account, without a settings file."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "BOTTRADER_DATA": tmp_path,
        "DATABASE_URL": database,
        "BOTTRADER_ACCOUNT": system.account,
    }.items():
        monkeypatch.setenv(name, str(value))
    return CommandLine(capsys)


def settings_file(folder: Path, text: str) -> tuple[Path, SettingSources]:
    """A settings file and everything read with it."""
    file = folder / "bottrader.toml"
    file.write_text(text)
    return file, read_sources(file, {})


async def gate_of(system: TradingSystem, symbol: str = "BTC-USD") -> str | None:
    """Start a buy and return the gate that refused it; None: it was admitted."""
    trade = await system.start(market_buy(system.account, symbol=symbol))

    async def decided() -> dict[str, Any] | None:
        rows = await system.rows("SELECT state, gate FROM orders WHERE order_key = $1", trade.key)
        return dict(rows[0]) if rows else None

    row = await eventually(decided, what=f"{order_workflow_id(trade.key)} is decided")
    return row["gate"] if row["state"] == "REJECTED" else None


async def until_so(live: LiveSettings, key: str, value: object) -> None:
    """Wait until `section.key` of the settings in force is `value`."""
    section, _, name = key.partition(".")

    async def so() -> bool:
        return bool(getattr(getattr(live.current, section), name) == value)

    await eventually(so, within=10, what=f"{key} is {value}")


async def open_incidents(pool: Pool, kind: str) -> list[str]:
    """Sentences of the open incidents."""
    rows = await pool.fetch("SELECT sentence FROM incidents WHERE kind = $1 AND resolved_at IS NULL", kind)
    return [row["sentence"] for row in rows]


async def test_lists_limits_and_sizes_apply_to_a_running_worker(system: TradingSystem, config: CommandLine) -> None:
    """A symbol on the block list, a limit and a trigger's size apply to the next order, each recorded with who, when
    and why; after a revert all is as before.
    """
    live = system.parts.live
    before = live.current.triggers["rsi_oversold"].size_quote
    assert await gate_of(system, "ETH-USD") is None

    await config("add", "symbols.block", "eth-usd", "--by", "ann", "--why", "hacked")
    await until_so(live, "symbols.block", ("ETH-USD",))
    assert await gate_of(system, "ETH-USD") == "SKIP_BLACKLISTED"
    assert await gate_of(system, "BTC-USD") is None

    await config("set", "risk.max_spread_pct", "0.001", "--by", "ann")
    await until_so(live, "risk.max_spread_pct", Decimal("0.001"))
    assert await gate_of(system, "BTC-USD") == "SKIP_SPREAD_TOO_WIDE"

    await config("set", "triggers.rsi_oversold.size_quote", "25.50")
    await eventually(lambda: _is(live, "25.50"), what="the trigger's size is 25.50")
    assert rules_of(live.policy.triggers, linkage().trigger).size_quote == Decimal("25.5")

    await config("remove", "symbols.block", "ETH-USD")
    await config("unset", "risk.max_spread_pct")
    await config("unset", "triggers.rsi_oversold.size_quote")
    await until_so(live, "symbols.block", ())
    await eventually(lambda: _is(live, str(before)), what="the size is the default again")
    assert await gate_of(system, "ETH-USD") is None

    recorded = json.loads(await config("changes", "--json"))
    (blocked,) = [item for item in recorded if item["key"] == "symbols.block" and item["new"]]
    assert (blocked["old"], blocked["new"], blocked["by"], blocked["why"]) == ([], ["ETH-USD"], user("ann"), "hacked")
    assert (datetime.now(UTC) - datetime.fromisoformat(blocked["at"])).total_seconds() < 60
    assert [item["key"] for item in recorded if item["new"] == "0.001"] == ["risk.max_spread_pct"]
    assert len(recorded) == 6


async def _is(live: LiveSettings, size: str) -> bool:
    return live.current.triggers["rsi_oversold"].size_quote == Decimal(size)


async def test_a_change_that_cannot_be_used_is_refused(system: TradingSystem, config: CommandLine) -> None:
    """The sentences are those of a settings file; nothing is stored or recorded, and likely alternatives are named."""
    for arguments, words in (
        (("set", "exits.hard_stop_pct", "2"), "soft_stop_pct must be below hard_stop_pct"),
        (("set", "exits.hard_stop_pct", "lots"), "exits.hard_stop_pct: must be a number"),
        (("set", "risk.max_position_pct", "101"), "allowed: above 0 and at most 100"),
        (("set", "risk.max_postion_pct", "5"), "did you mean max_position_pct?"),
        (("set", "symbols.block", "DOGE"), "must be a product like BTC-USD"),
        (("set", "exits", "5"), "exits is a section"),
        (("set", "exits.atr_period", "20"), "restart the workers"),
        (("set", "mode", "live"), "restart the workers"),
        (("set", "database.url", "postgresql://me:hunter2@h/d"), "is a secret"),
        (("add", "exits.hard_stop_pct", "5"), "is not a list"),
        (("remove", "symbols.block", "BTC-USD"), "symbols.block has no such item"),
        (("unset", "symbols.block"), "nothing is set so"),
    ):
        assert words in await config(*arguments, code=2), arguments
    assert json.loads(await config("changes", "--json")) == []
    assert await system.value("SELECT count(*) FROM setting_overrides") == 0


async def test_what_may_be_a_slip_of_the_hand_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], database: str, pool: Pool
) -> None:
    """A new trigger, an item that is already there (nothing is recorded), changes of unknown settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTTRADER_DATA", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", database)
    config = CommandLine(capsys)

    await config("set", "triggers.manuel.size_quote", "5")
    assert "manuel is a new trigger; known: " in config.noted
    assert "manual, " in config.noted
    await config("set", "triggers.manuel.size_quote", "6")
    assert "new trigger" not in config.noted
    await config("set", "triggers.manual.size_quote", "6")
    assert "new trigger" not in config.noted

    await config("add", "symbols.block", "DOGE-USD")
    before = len(await recent_changes(pool, "main"))
    assert await config("add", "symbols.block", "doge-usd") == (
        "symbols.block already contains doge-usd: nothing changed.\n"
    )
    assert json.loads(await config("add", "symbols.block", "DOGE-USD", "--json")) == []
    assert len(await recent_changes(pool, "main")) == before

    assert "There is no setting nope" in await config("changes", "nope", code=2)
    assert "There is no setting symbols.blocked" in await config("changes", "symbols.blocked", code=2)
    for key in ("triggers", "triggers.gone", "triggers.gone.size_quote", "webhook.senders", "symbols", "mode"):
        assert "No setting was changed." in await config("changes", key) or key in ("triggers", "symbols")


async def test_show_says_where_a_value_comes_from(
    config: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A command overrides the environment, that the file, and that the default."""
    (tmp_path / "bottrader.toml").write_text(
        "[exits]\nhard_stop_pct = 6\nsoft_stop_pct = 3\ntrailing_arm_pct = 4\ntake_profit_pct = 2.5\n"
    )
    monkeypatch.setenv("BOTTRADER_EXITS__HARD_STOP_PCT", "7")
    monkeypatch.setenv("BOTTRADER_EXITS__SOFT_STOP_PCT", "3.5")
    await config("set", "exits.hard_stop_pct", "8", "--by", "ann")
    shown = json.loads(await config("show", "exits", "--json"))
    assert [shown["settings"]["exits"][f"{name}_pct"] for name in ("hard_stop", "soft_stop", "trailing_arm")] == [
        "8",
        "3.5",
        "4",
    ]
    origins = {key.removeprefix("exits."): origin for key, origin in shown["from"].items()}
    assert origins["hard_stop_pct"] == f"set by {user('ann')}"
    assert origins["soft_stop_pct"] == "environment"
    assert origins["trailing_arm_pct"] == "file"
    assert origins["take_profit_pct"] == "file (default)"
    assert origins["max_reprices"] == "default"


async def test_two_changes_at_once_cannot_contradict_each_other(pool: Pool) -> None:
    """Each of two changes is valid alone and both together are not: one of them is refused, in either order."""
    sources = read_sources(environ={})

    async def change(key: str, value: str) -> list[Change] | ConfigError:
        async with pool.acquire() as connection:
            try:
                return await set_override(connection, sources, key, [value], by="ann")
            except ConfigError as refused:
                return refused

    for _ in range(3):
        outcomes = await asyncio.gather(change("exits.hard_stop_pct", "3"), change("exits.soft_stop_pct", "4"))
        (refused,) = [outcome for outcome in outcomes if isinstance(outcome, ConfigError)]
        assert "must be below hard_stop_pct" in refused.problems[0]
        (stored,) = await read_overrides(pool, "main")
        build(sources.under(await read_overrides(pool, "main")))
        async with pool.acquire() as connection:
            await unset_override(connection, sources, stored, by="ann")
    assert len(await recent_changes(pool, "main")) == 6


async def test_a_size_in_the_other_currency_takes_the_place_of_the_first(pool: Pool) -> None:
    """Setting a trigger's base size drops the quote size, from any source; both changes are recorded."""
    sources = read_sources(environ={"BOTTRADER_TRIGGERS__MANUAL__SIZE_QUOTE": "70"})
    async with pool.acquire() as connection:
        await set_override(connection, sources, "triggers.manual.size_quote", ["80"], by="ann")
        await set_override(connection, sources, "triggers.manual.size_base", ["0.01"], by="ann")
        overrides = await read_overrides(connection, "main")
        assert list(overrides) == ["triggers.manual.size_base"]
        manual = build(sources.under(overrides)).triggers["manual"]
        assert (manual.size_quote, manual.size_base) == (None, Decimal("0.01"))
        changes = {(change.key, change.old, change.new) for change in await recent_changes(connection, "main")}
    assert ("triggers.manual.size_quote", "80", None) in changes
    assert ("triggers.manual.size_base", None, "0.01") in changes


async def test_a_new_trigger_is_added_while_workers_run(pool: Pool) -> None:
    """The first key of an unknown trigger creates it; one that would leave it incomplete is refused."""
    sources = read_sources(environ={})
    async with pool.acquire() as connection:
        with pytest.raises(ConfigError, match="exactly one of size_quote, size_base and size_pct"):
            await set_override(connection, sources, "triggers.mine.order_type", ["MARKET"], by="ann")
        await set_override(connection, sources, "triggers.mine.size_quote", ["10"], by="ann")
        await set_override(connection, sources, "triggers.mine.order_type", ["MARKET"], by="ann")
        mine = build(sources.under(await read_overrides(connection, "main"))).triggers["mine"]
    assert mine.size_quote == 10
    assert mine.order_type == "MARKET"


async def test_a_file_that_is_edited_applies_to_a_running_worker(system: TradingSystem, tmp_path: Path) -> None:
    """The next order is refused by the file's new value; the change is recorded as the file owner's."""
    await system.stop_workers()
    file, _ = settings_file(tmp_path, "[symbols]\nallow = ['BTC-USD', 'ETH-USD']\nmax_open_buys = 1000\n")
    rest = system.settings.model_dump(exclude={"symbols"})
    system.sources = SettingSources.read(Settings, file, {})
    system.sources = SettingSources(file, system.sources.from_file, rest, stamp=system.sources.stamp)
    system.settings = build(system.sources)
    await system.start_workers()
    assert await gate_of(system, "ETH-USD") is None

    file.write_text(file.read_text() + "block = ['ETH-USD']\n")
    await until_so(system.parts.live, "symbols.block", ("ETH-USD",))
    assert await gate_of(system, "ETH-USD") == "SKIP_BLACKLISTED"
    (change,) = await recent_changes(system.pool, system.account)
    assert (change.key, change.old, change.new) == ("symbols.block", [], ["ETH-USD"])
    assert change.by == file.owner()
    assert str(file) in change.why


async def test_a_file_that_appears_later_is_taken_up(pool: Pool, tmp_path: Path) -> None:
    """A process that started without a settings file uses one that is put in the expected place; an invalid one is an
    incident, like an invalid edit.
    """
    sources = SettingSources.read(Settings, environ={CONFIG_FOLDER: str(tmp_path)})
    live = LiveSettings(build(sources), pool, sources)
    async with live.following():
        (tmp_path / "bottrader.toml").write_text("[exits]\nhard_stop_pct = 600\n")
        await eventually(lambda: open_incidents(pool, BAD_SETTINGS), what="an incident")
        assert live.current.exits.hard_stop_pct == Settings().exits.hard_stop_pct
        (tmp_path / "bottrader.toml").write_text("[exits]\nhard_stop_pct = 7\n[temporal]\norders_queue = 'other'\n")
        await until_so(live, "exits.hard_stop_pct", 7)
        (sentence,) = await eventually(lambda: open_incidents(pool, NEEDS_RESTART), what="what waits is said")
        assert "temporal.orders_queue" in sentence
        (change,) = await recent_changes(pool, "main")
        assert (change.key, change.new) == ("exits.hard_stop_pct", "7")


async def test_a_file_that_cannot_be_used_changes_nothing(pool: Pool, tmp_path: Path) -> None:
    """Old values stay, one incident has the error, and it is resolved when the file is valid again."""
    file, sources = settings_file(tmp_path, "[exits]\nhard_stop_pct = 6\n")
    live = LiveSettings(build(sources), pool, sources)
    async with live.following():
        file.write_text("[exits]\nhard_stop_pct = 600\n[symbols]\nblock = ['ETH-USD']\n")
        (sentence,) = await eventually(lambda: open_incidents(pool, BAD_SETTINGS), what="an incident")
        assert "exits.hard_stop_pct: must be less than 100" in sentence
        assert live.current.exits.hard_stop_pct == 6
        assert live.current.symbols.block == ()
        file.write_text("[exits]\nhard_stop_pct = 7\n")
        await until_so(live, "exits.hard_stop_pct", 7)
        await eventually(lambda: _none_open(pool, BAD_SETTINGS), what="the incident is over")
        file.unlink()
        (sentence,) = await eventually(lambda: open_incidents(pool, BAD_SETTINGS), what="an incident")
        assert "there is no such file" in sentence
        assert live.current.exits.hard_stop_pct == 7
    assert await pool.fetchval("SELECT count(*) FROM incidents") == 2


async def _none_open(pool: Pool, kind: str) -> bool:
    return not await open_incidents(pool, kind)


async def test_what_needs_a_restart_says_so(pool: Pool, tmp_path: Path) -> None:
    """A dynamic key of the same edit applies, the other keeps its value and is named; at the next start it is in
    force."""
    file, sources = settings_file(tmp_path, "account = 'main'\n")
    live = LiveSettings(build(sources), pool, sources)
    async with live.following():
        file.write_text("account = 'main'\n[exits]\nhard_stop_pct = 7\natr_period = 20\n[watcher]\nshards = 4\n")
        (sentence,) = await eventually(lambda: open_incidents(pool, NEEDS_RESTART), what="an incident")
        assert "exits.atr_period, watcher.shards were changed; that needs a restart" in sentence
        assert live.current.exits.hard_stop_pct == 7
        assert live.current.exits.atr_period == 14
        assert live.current.watcher.shards == 1
    again = read_sources(file, {})
    restarted = LiveSettings(build(again), pool, again)
    async with restarted.following():
        assert restarted.current.exits.atr_period == 20
        assert await open_incidents(pool, NEEDS_RESTART) == []


async def test_a_change_of_the_file_is_recorded_once_whoever_sees_it(pool: Pool, tmp_path: Path) -> None:
    """Two workers read the same edit, and one made while none ran is found at the next start."""
    file, sources = settings_file(tmp_path, "[exits]\nhard_stop_pct = 6\n")
    two = [LiveSettings(build(sources), pool, sources) for _ in range(2)]
    async with two[0].following(), two[1].following():
        file.write_text("[exits]\nhard_stop_pct = 7\n")
        for live in two:
            await until_so(live, "exits.hard_stop_pct", 7)
    file.write_text("[exits]\nhard_stop_pct = 8\n")
    later = read_sources(file, {})
    async with LiveSettings(build(later), pool, later).following():
        changes = await recent_changes(pool, "main")
    assert [(change.old, change.new) for change in changes] == [("7", "8"), ("6", "7")]
    assert "found when a worker started" in changes[0].why


async def test_an_override_outlives_edits_of_the_file(pool: Pool, tmp_path: Path) -> None:
    """A value set by command stays in force whatever the file has, and the record says so."""
    file, sources = settings_file(tmp_path, "[exits]\nhard_stop_pct = 6\n")
    live = LiveSettings(build(sources), pool, sources)
    async with live.following(), pool.acquire() as connection:
        await set_override(connection, sources, "exits.hard_stop_pct", ["9"], by="ann")
        await until_so(live, "exits.hard_stop_pct", 9)
        file.write_text("[exits]\nhard_stop_pct = 7\ntrailing_arm_pct = 4\n")
        await until_so(live, "exits.trailing_arm_pct", 4)
        assert live.current.exits.hard_stop_pct == 9
        recorded = {change.key: change for change in await recent_changes(connection, "main", limit=2)}
    assert "what was set by command stays in force" in recorded["exits.hard_stop_pct"].why


async def test_overrides_that_no_longer_fit_are_named_and_can_be_unset(pool: Pool) -> None:
    """A worker doesn't start on contradictory settings: it names the command's value that conflicts, and that can be
    unset.
    """
    async with pool.acquire() as connection:
        await set_override(connection, read_sources(environ={}), "exits.soft_stop_pct", ["4"], by="ann")
        tight = read_sources(environ={"BOTTRADER_EXITS__HARD_STOP_PCT": "3.5"})
        with pytest.raises(ConfigError, match="soft_stop_pct"):
            async with LiveSettings(build(tight), pool, tight).following():
                pass
        await unset_override(connection, tight, "exits.soft_stop_pct", by="ann")
        with pytest.raises(UserError, match="nothing is set"):
            await unset_override(connection, tight, "exits.soft_stop_pct", by="ann")
        async with LiveSettings(build(tight), pool, tight).following():
            pass


async def test_watchers_follow_the_list_of_allowed_products(database: str, temporal_server: DevServer) -> None:
    """A product added to the list is subscribed at the exchange without a restart."""
    roles = frozenset({"streams", "watchers"})
    symbols = SymbolSettings(allow=("BTC-USD",))
    async with trading_system(database, temporal_server.address, roles=roles, symbols=symbols) as system:
        sources = read_sources(environ={"BOTTRADER_ACCOUNT": system.account})
        async with system.pool.acquire() as connection:
            await set_override(connection, sources, "symbols.allow", ["BTC-USD", "eth-usd"], by="ann")

        async def subscribed() -> bool:
            return "ETH-USD" in str([item["subscriptions"] for item in await system.control.connections()])

        await eventually(subscribed, what="the exchange is asked for ETH-USD")


async def test_what_follows_settings_is_done_again_until_it_is_done(pool: Pool) -> None:
    """Work after a change (such as schedules) is retried when it fails, with the newest settings."""
    sources = read_sources(environ={})
    live, seen = LiveSettings(build(sources), pool, sources), []

    async def act(settings: Settings) -> None:
        seen.append(settings.exits.hard_stop_pct)
        if len(seen) == 1:
            raise ConnectionError("nobody there")

    live.on_change(act)
    async with live.following():
        async with pool.acquire() as connection:
            await set_override(connection, sources, "exits.hard_stop_pct", ["6"], by="ann")
        await eventually(lambda: _is_list(seen, [6, 6]), what="done at the second try")


async def _is_list(seen: list[Decimal], wanted: list[int]) -> bool:
    return seen == wanted


async def test_a_product_that_does_not_exist_costs_the_others_nothing(
    database: str, temporal_server: DevServer
) -> None:
    """The exchange refuses the whole stream for one name: the others are watched without it, their stops work, a person
    is notified, and it is resolved when the list is corrected.
    """
    symbols = SymbolSettings(allow=("BTC-USD", "NONE-USD"), max_open_buys=1000)
    async with trading_system(database, temporal_server.address, symbols=symbols) as system:
        trade = await system.start(market_buy(system.account))
        await trade.until_protected()
        await system.price("40000")
        assert (await trade.closed()).exit_reason == "HARD_STOP"
        (sentence,) = await eventually(lambda: open_incidents(system.pool, "product_refused"), what="somebody is told")
        assert "NONE-USD" in sentence
        async with system.pool.acquire() as connection:
            sources = read_sources(environ={"BOTTRADER_ACCOUNT": system.account})
            await set_override(connection, sources, "symbols.allow", ["BTC-USD"], by="ann")
        await eventually(lambda: _none_open(system.pool, "product_refused"), what="it is over")
