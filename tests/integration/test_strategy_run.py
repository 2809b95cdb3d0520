"""The strategy run on the real system: market data from the paper exchange, a matrix, orders with linkage."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.database import create_pool
from activities.interfaces.strategy import MarketDataInput, StrategyReport, StrategyRun
from activities.market.keeper import MarketDataOptions, MarketKeeper
from activities.market.universe import Universe, choose_symbols
from activities.starting import Starter
from activities.strategy.loading import StrategyError
from activities.strategy.runs import StrategyOptions, StrategyRuns
from cli.strategy import _run as run_strategy
from cli.strategy import _show as show_matrix
from domain.candles import CANDLE
from domain.exits import ExitReason
from domain.ids import exit_workflow_id
from domain.market import Product
from domain.messages import CloseRequest, TradeOutcome
from domain.momentum import RocMomentum, RocRules
from domain.scoring import Action, Decision, Part
from domain.strategies import Features, Weighted, decide_over
from tests.support.candles import market_candles
from tests.support.harness import ALL_ROLES, TradingSystem, trading_system
from tests.support.waiting import eventually
from workers.errors import UserError
from workers.roles.strategy import ensure_market_data, ensure_strategy_schedule, strategy_options
from workers.settings import SymbolSettings
from workers.settings.strategy import RocSettings, StrategySettings
from workers.stack.dev_server import DevServer
from workflows.strategy import snapshot_of, strategy_schedule_id

BTC, ETH = "BTC-USD", "ETH-USD"
CANDLE_COLUMNS = ("account", "symbol", "seconds", "start", "open", "high", "low", "close", "volume")


class Fixed:
    """A user's own strategy: always the same for a symbol, and sell above its turning price."""

    def __init__(self, turns_at: float = math.inf, **wishes: str) -> None:
        self._turns_at = turns_at
        self._wishes = {name.upper(): wish for name, wish in wishes.items()}

    def decide(self, features: Features) -> Decision:
        """The decision set for the symbol's base currency."""
        action = Action(self._wishes.get(features.symbol.partition("-")[0], "hold"))
        if features.close[-1] > self._turns_at:
            action = Action.SELL
        contribution = {Action.BUY: 1.5, Action.SELL: -2.0, Action.HOLD: 0.0}[action]
        part = {"rsi": Part(features.value("rsi"), action is not Action.HOLD, 1.0, contribution)}
        if action is Action.BUY:
            part["macd"] = Part(-0.1, True, 0.25, -0.25)
            return Decision(features.symbol, action, "rsi_oversold", 1.5, 0.25, part, ("rsi",))
        if action is Action.SELL:
            return Decision(features.symbol, action, "rsi_overbought", 0.0, 2.0, part, ("rsi",))
        return Decision(features.symbol, action, None, 0.0, 0.0, part, (), "nothing is wished")


@asynccontextmanager
async def deciding(
    database: str,
    temporal: str,
    *,
    enabled: bool = True,
    symbols: SymbolSettings | None = None,
    size: Mapping[str, str] | None = None,
    **wishes: str | float,
) -> AsyncIterator[TradingSystem]:
    """A system whose strategy decides as set, with market data kept current."""
    strategy = StrategySettings(
        enabled=enabled, use=f"{__name__}:Fixed", parameters=dict(wishes), interval_s=Decimal(86_400)
    )
    chosen = symbols or SymbolSettings(allow=(BTC, ETH), max_open_buys=1000)
    triggers = {"rsi_oversold": {**(size or {"size_quote": "500"}), "order_type": "LIMIT"}}
    async with trading_system(
        database,
        temporal,
        roles=ALL_ROLES | {"strategy"},
        symbols=chosen,
        # momentum would vote beside it, with the higher score
        others={"strategy": strategy, "triggers": triggers, "roc": RocSettings(enabled=False)},
    ) as system:
        await ensure_market_data(system.client, system.settings)
        await ensure_strategy_schedule(system.client, system.settings)
        try:
            await until_kept(system, *(name for name in chosen.allow if name in (BTC, ETH)))
            yield system
        finally:
            await system.client.get_schedule_handle(strategy_schedule_id(system.account)).delete()


async def until_kept(system: TradingSystem, *symbols: str) -> None:
    """Wait until prices and enough candles of these symbols are in the tables."""

    async def so() -> bool:
        candles = await system.rows("SELECT symbol FROM candles GROUP BY symbol HAVING count(*) >= 300")
        states = await system.rows("SELECT symbol FROM market_prices WHERE bid IS NOT NULL")
        return {row["symbol"] for row in candles} >= {*symbols} <= {row["symbol"] for row in states}

    await eventually(so, what=f"candles and prices of {symbols}")


async def run_now(system: TradingSystem) -> StrategyReport:
    """Trigger the schedule and wait for its run's report."""
    schedule = system.client.get_schedule_handle(strategy_schedule_id(system.account))
    before = len((await schedule.describe()).info.recent_actions)
    await schedule.trigger()

    async def ran() -> Any:
        actions = (await schedule.describe()).info.recent_actions
        return actions[-1].action if len(actions) > before else None

    action = await eventually(ran, what="the schedule has started a run")
    handle: WorkflowHandle[Any, StrategyReport] = system.client.get_workflow_handle(
        action.workflow_id, result_type=StrategyReport
    )
    return await handle.result()


async def run_later(system: TradingSystem, earlier: StrategyReport) -> StrategyReport:
    """A later run: schedules count in seconds, and two in the same second are the same run."""

    async def another() -> StrategyReport | None:
        report = await run_now(system)
        return report if report.snapshot_id != earlier.snapshot_id else None

    return await eventually(another, what="a run of a later second", every=0.2)


async def test_a_buy_becomes_an_order_with_its_linkage_and_once_a_candle(
    database: str, temporal_server: DevServer
) -> None:
    """The run's snapshot, scores and breakdown are in the order, the link and the matrix; the next run buys nothing."""
    async with deciding(database, temporal_server.address, btc="buy") as system:
        report = await run_now(system)
        assert (report.symbols, report.buys, report.sells, report.started) == (2, 1, 0, 1)
        row = report.rows[0]
        assert (row.symbol, row.action, row.outcome, row.trigger) == (BTC, "buy", "started", "rsi_oversold")

        async def linked() -> Any:
            return await system.rows("SELECT * FROM trade_strategy_link WHERE order_key = $1", row.order_key)

        link = (await eventually(linked, what="the entry is linked"))[0]
        assert (link["snapshot_id"], link["trigger_type"]) == (report.snapshot_id, "rsi_oversold")
        assert (link["buy_score"], link["sell_score"]) == (Decimal("1.5"), Decimal("0.25"))
        assert link["indicators_fired"] == ["rsi"]
        matrix = await system.rows("SELECT * FROM market_snapshots WHERE snapshot_id = $1", report.snapshot_id)
        assert {item["symbol"]: item["action"] for item in matrix} == {BTC: "buy", ETH: "hold"}
        assert {item["symbol"]: item["reason"] for item in matrix} == {BTC: "", ETH: "nothing is wished"}
        bitcoin = next(item for item in matrix if item["symbol"] == BTC)
        assert bitcoin["price"] == Decimal("50000.5") or bitcoin["price"] > 0
        assert Decimal(bitcoin["indicator_breakdown"]["rsi"]["value"]) > 0
        asked_by = await system.value("SELECT intent->>'asked_by' FROM orders WHERE order_key = $1", row.order_key)
        assert asked_by == f"strategy {__name__}:Fixed", "the run that decided it is on record"

        again = await run_later(system, report)
        assert [(item.outcome, item.order_key) for item in again.rows[:1]] == [("same_candle", None)]
        assert await system.value("SELECT count(*) FROM orders WHERE role = 'ENTRY'") == 1
        signals = await system.rows("SELECT symbol, side, source, decision FROM trade_signals ORDER BY id")
        assert [(item["side"], item["source"], item["decision"]) for item in signals] == [
            ("BUY", "sighook", "started"),
            ("BUY", "sighook", "same_candle"),
        ]
        await close(system, str(row.order_key), sell=False)


async def test_a_buy_may_spend_a_share_of_the_account(database: str, temporal_server: DevServer) -> None:
    """Without a fresh balance nothing is bought, and the decision says what isn't known; with it the order spends its
    share of what the account is worth then."""
    async with deciding(database, temporal_server.address, size={"size_pct": "0.05"}, btc="buy") as system:
        await eventually(
            lambda: system.value("SELECT count(*) > 0 FROM balances WHERE account = $1", system.account),
            what="the balances are read",
        )
        worth = await system.value("SELECT worth FROM account_worth($1, 'USD', 120, 120)", system.account)
        options = strategy_options(system.settings, system.parts.live.policy)
        strict = StrategyRuns(system.pool, system.parts.starter, lambda: replace(options, balance_stale_seconds=-1.0))
        at = datetime.now(UTC)
        unknown = await strict.run(
            StrategyRun(account=system.account, snapshot_id=snapshot_of(system.account, at), nominal_at=at)
        )
        assert (unknown.started, unknown.rows[0].outcome) == (0, "no_entry")
        assert "0.05 % of the account's value, which is not known: no fresh balance of USD" in unknown.rows[0].sentence
        report = await run_now(system)
        row = report.rows[0]
        assert row.outcome == "started", row.sentence

        async def spent() -> Any:
            return await system.value("SELECT intent ->> 'quote_size' FROM orders WHERE order_key = $1", row.order_key)

        assert Decimal(await eventually(spent, what="the order is stored")) == worth * Decimal("0.0005")
        await close(system, str(row.order_key), sell=False)


async def close(system: TradingSystem, order_key: str, *, sell: bool) -> TradeOutcome:
    """End the trade: by a sell signal of the matrix, or by a person."""
    monitor = system.client.get_workflow_handle(exit_workflow_id(order_key), result_type=TradeOutcome)

    async def told() -> bool:
        try:
            await monitor.signal("close", CloseRequest(by="a person"))
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    if not sell:
        await eventually(told, what="the exit monitor has been told to close")
    outcome: TradeOutcome = await monitor.result()
    return outcome


async def test_a_sell_leaves_the_trade_through_the_matrix(database: str, temporal_server: DevServer) -> None:
    """A run that decides to sell closes an open trade that is not losing, as a signal exit, and starts nothing
    itself."""
    async with deciding(database, temporal_server.address, btc="buy", eth="sell", turns_at=50_050) as system:
        await close_a_candle(system, "50000")
        first = await run_now(system)
        bought = next(row for row in first.rows if row.symbol == BTC)
        assert {row.symbol: row.outcome for row in first.rows} == {BTC: "started", ETH: "nothing_held"}

        async def armed() -> bool:
            return bool(await system.value("SELECT count(*) FROM exit_plans WHERE state = 'ARMED'"))

        await eventually(armed, what="the trade is protected")
        # above the entry's cost by more than the fees of both sides
        await system.price("50900")
        await close_a_candle(system, "50900")
        report = await run_later(system, first)
        assert (report.buys, report.sells, report.started) == (0, 2, 0)
        assert {row.symbol: row.outcome for row in report.rows} == {BTC: "exit_signal", ETH: "nothing_held"}

        async def offered() -> bool:
            return bool(await system.value("SELECT count(*) FROM orders WHERE side = 'SELL' AND state = 'OPEN'"))

        await eventually(offered, what="the exit is offered")
        await system.price("51000")
        outcome = await close(system, str(bought.order_key), sell=True)
        assert outcome.exit_reason is ExitReason.SIGNAL_EXIT
        link = (await system.rows("SELECT * FROM trade_strategy_link WHERE order_key = $1", bought.order_key))[0]
        assert link["sell_score"] == Decimal(2)
        assert await system.value("SELECT count(*) FROM orders WHERE side = 'SELL' AND symbol = $1", ETH) == 0


async def close_a_candle(system: TradingSystem, price: str) -> None:
    """Let five minutes pass in which bitcoin trades at `price`, until the tables have them."""
    for seconds in (300, 0.001):
        await system.control.trade(BTC, price, "0.01")
        await system.control.trade(ETH, "3000", "0.01")
        await system.control.advance(seconds)

    async def kept() -> bool:
        newest = "SELECT close, start FROM candles WHERE symbol = $1 ORDER BY start DESC LIMIT 2"
        bitcoin, ether = await system.rows(newest, BTC), await system.rows(newest, ETH)
        same_time = [row["start"] for row in bitcoin] == [row["start"] for row in ether]
        return same_time and [row["close"] for row in bitcoin] == [Decimal(price)] * 2

    await eventually(kept, what="the candle has closed")


async def test_switched_off_it_writes_the_matrix_and_buys_nothing(database: str, temporal_server: DevServer) -> None:
    """With strategy.enabled off the decision is stored as not carried out."""
    async with deciding(database, temporal_server.address, enabled=False, btc="buy") as system:
        report = await run_now(system)
        assert (report.buys, report.started) == (1, 0)
        assert report.rows[0].outcome == "disabled"
        assert "nothing is bought or sold" in report.sentence
        assert await system.value("SELECT count(*) FROM orders") == 0
        assert await system.value("SELECT count(*) FROM market_snapshots WHERE action = 'buy'") == 1


def printed(out: str) -> Any:
    """The JSON document after the log lines of this process's workers."""
    return json.loads(out[out.index("{\n") :])


async def test_people_run_it_and_see_the_matrix(
    database: str, temporal_server: DevServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """`strategy run` waits for the report, `strategy show` has the matrix, a symbol's parts, and missing data."""
    async with deciding(database, temporal_server.address, enabled=False, btc="buy") as system:
        with pytest.raises(UserError, match="no matrix yet"):
            await show_matrix(system.settings, None, 20, as_json=False)
        assert await run_strategy(system.settings, 30.0, as_json=True) == 0
        report = StrategyReport.model_validate(printed(capsys.readouterr().out))
        assert (report.symbols, report.buys) == (2, 1)
        assert await show_matrix(system.settings, None, 20, as_json=True) == 0
        matrix = printed(capsys.readouterr().out)
        assert matrix["snapshot_id"] == report.snapshot_id
        assert [(row["symbol"], row["decision"]) for row in matrix["rows"]] == [(BTC, "disabled"), (ETH, None)]
        assert await show_matrix(system.settings, "btc-usd", 20, as_json=False) == 0
        shown = capsys.readouterr().out
        assert "rsi +1.500" in shown
        assert "contribution" in shown
        with pytest.raises(UserError, match="XRP-USD is not in the newest matrix"):
            await show_matrix(system.settings, "XRP-USD", 20, as_json=False)


async def test_the_same_run_again_decides_and_buys_nothing_twice(database: str, temporal_server: DevServer) -> None:
    """A retried run finds its decisions: also one that died between its commit and its first order."""
    async with deciding(database, temporal_server.address, btc="buy", eth="buy") as system:
        runs = strategy_runs(system)
        nominal = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
        request = StrategyRun(
            account=system.account, snapshot_id=snapshot_of(system.account, nominal), nominal_at=nominal
        )
        await runs._decide(request, runs._options())
        assert await system.value("SELECT count(*) FROM trade_signals WHERE decision = 'starting'") == 2
        first = await runs.run(request)
        again = await runs.run(request)
        assert first.started == again.started == 2
        assert first == again
        assert await system.value("SELECT count(*) FROM strategy_runs") == 1
        assert await system.value("SELECT count(*) FROM market_snapshots") == 2

        async def filled() -> bool:
            return bool(await system.value("SELECT count(*) = 2 FROM orders WHERE role = 'ENTRY' AND filled_size > 0"))

        await eventually(filled, what="both entries have filled, once each")
        for row in first.rows:
            await close(system, str(row.order_key), sell=False)


def strategy_runs(system: TradingSystem) -> StrategyRuns:
    """The activity, outside of a workflow."""
    live = system.parts.live
    return StrategyRuns(system.pool, system.parts.starter, lambda: strategy_options(live.current, live.policy))


async def test_stale_data_hold_and_say_so(database: str, temporal_server: DevServer) -> None:
    """A symbol whose price is too old is held, with its age as the reason; others continue."""
    async with deciding(database, temporal_server.address, enabled=False, btc="buy", eth="sell") as system:
        workflow = system.client.get_workflow_handle(f"market-data-{system.account}")
        await workflow.cancel()
        await eventually(lambda: stopped(system), what="nobody writes prices")
        await system.pool.execute("UPDATE market_prices SET at = now() - interval '5 minutes' WHERE symbol = $1", BTC)
        report = await run_now(system)
        assert {row.symbol: row.action for row in report.rows} == {BTC: "hold", ETH: "sell"}
        reason = next(row.sentence for row in report.rows if row.symbol == BTC)
        assert reason.startswith("market data is 30")
        assert "otherwise: buy" in reason


async def stopped(system: TradingSystem) -> bool:
    """Whether the lease on market data is free."""
    return bool(await system.value("SELECT expires_at <= now() FROM leases WHERE name LIKE 'market-data/%'"))


async def test_live_and_offline_decide_the_same(database: str) -> None:
    """Candle by candle through the tables, and at once over arrays: the same actions, triggers and scores."""
    real, window, runs = market_candles(360, 8_000), 300, 60
    strategies = (Weighted(), RocMomentum(RocRules(buy_from=0.4, sell_from=0.4)))
    offline = dict(decide_over(real, strategies, window=window))
    pool = await create_pool(database)
    try:
        options = StrategyOptions(
            universe=Universe(allow=(BTC,)),
            strategies=lambda: strategies,
            window=window,
            by_the_clock=False,
        )
        live = StrategyRuns(pool, cast("Starter", None), lambda: options)
        start = datetime(2026, 3, 1, tzinfo=UTC)
        columns = [getattr(real, name)[0].tolist() for name in ("open", "high", "low", "close", "volume")]
        rows = [
            ("live", BTC, 300, start + CANDLE * at, *(column[at] for column in columns)) for at in range(real.candles)
        ]
        await pool.copy_records_to_table("candles", records=rows[:window], columns=CANDLE_COLUMNS)
        await pool.execute("INSERT INTO market_prices (account, symbol, price, at) VALUES ('live', $1, 1, now())", BTC)
        seen = set()
        for at in range(window, window + runs - 1):
            # The newest candle is still open and does not count.
            await pool.copy_records_to_table("candles", records=[rows[at]], columns=CANDLE_COLUMNS)
            nominal = rows[at][3]
            request = StrategyRun(account="live", snapshot_id=snapshot_of("live", nominal), nominal_at=nominal)
            (row,) = (await live.run(request)).rows
            wanted = offline[at - 1]
            assert (row.action, row.trigger, row.fired) == (wanted.action, wanted.trigger, wanted.fired), at
            assert float(row.buy_score) == pytest.approx(wanted.buy_score, abs=1e-6)
            assert float(row.sell_score) == pytest.approx(wanted.sell_score, abs=1e-6)
            seen.add(row.action)
        assert seen == {"buy", "sell", "hold"}
    finally:
        await pool.close()


async def test_what_a_gap_hid_is_read_from_the_exchange(database: str, temporal_server: DevServer) -> None:
    """Candles of the time when the stream was down are in the table, as at the exchange, each once."""
    async with deciding(database, temporal_server.address, enabled=False) as system:
        await close_a_candle(system, "50000")
        await system.control.sockets("drop", "market")
        for number in range(3):
            await system.control.trade(BTC, str(50_010 + number), "0.5")
            await system.control.advance(300)
        await close_a_candle(system, "50020")
        newest = await system.value("SELECT max(start) FROM candles WHERE symbol = $1", BTC)
        wanted = await system.parts.exchange.candles(BTC, 300, newest - CANDLE * 6, newest)

        async def same() -> bool:
            rows = await system.rows(
                "SELECT start, close, volume FROM candles WHERE symbol = $1 AND start >= $2 AND start < $3 ORDER BY 1",
                BTC,
                newest - CANDLE * 6,
                newest,
            )
            return [(row["start"], row["close"], row["volume"]) for row in rows] == [
                (item.start, item.close, item.volume) for item in wanted
            ]

        await eventually(same, what="the table has what the exchange has")
        assert len(wanted) == 6


def test_the_universe_is_what_is_allowed_or_most_traded_and_what_is_held() -> None:
    """Blocked, closed and thinly traded products are left out; held ones never are; unknown names are reported."""

    def product(symbol: str, volume: int, *, halted: bool = False, cancel_only: bool = False) -> Product:
        one = Decimal(1)
        base, quote = symbol.split("-")
        rules = Product(symbol, base, quote, one, one, one, one, one, one, one, halted=halted, cancel_only=cancel_only)
        return replace(rules, quote_volume_24h=Decimal(volume))

    products = [
        product("BTC-USD", 900), product("ETH-USD", 800), product("XRP-USD", 700, halted=True), product("SOL-USD", 600),
        product("ADA-USD", 5), product("BTC-EUR", 950), product("DOT-USD", 650, cancel_only=True),
    ]  # fmt: skip
    by_volume = Universe(block=("ETH-USD",), top=2, min_quote_volume=Decimal(10))
    assert choose_symbols(products, by_volume).symbols == ("BTC-USD", "SOL-USD")
    assert choose_symbols(products, by_volume, held=["ETH-USD"]).symbols == ("BTC-USD", "SOL-USD", "ETH-USD")
    named = choose_symbols(products, Universe(allow=("ETH-USD", "GONE-USD", "BTC-USD"), block=("BTC-USD",)))
    assert (named.symbols, named.unknown) == (("ETH-USD",), frozenset({"GONE-USD"}))
    assert named.states[0].quote_volume_24h == 800


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (StrategyError("strategy.use = nope: there is no such strategy"), "there is no such strategy"),
        (SystemExit(3), "the strategy run fails with SystemExit: 3"),
        (ZeroDivisionError("by zero"), "the strategy run fails with ZeroDivisionError: by zero"),
    ],
    ids=["unusable", "exit", "error"],
)
async def test_a_strategy_that_cannot_be_used_is_an_incident_until_it_can(
    database: str, failure: BaseException, sentence: str
) -> None:
    """The run fails with the sentence, reported once; the first run that works again resolves it."""
    pool = await create_pool(database)
    try:
        await pool.execute(
            """INSERT INTO candles (account, symbol, seconds, start, open, high, low, close, volume)
               VALUES ('live', $1, 300, now(), 1, 1, 1, 1, 1)""",
            BTC,
        )
        usable = False

        def strategies() -> tuple[Weighted, ...]:
            if not usable:
                raise failure
            return (Weighted(),)

        options = StrategyOptions(universe=Universe(allow=(BTC,)), strategies=strategies, by_the_clock=False)
        live = StrategyRuns(pool, cast("Starter", None), lambda: options)
        nominal = datetime(2026, 3, 1, tzinfo=UTC)
        request = StrategyRun(account="live", snapshot_id=snapshot_of("live", nominal), nominal_at=nominal)
        for _ in range(2):
            with pytest.raises(ApplicationError, match=sentence):
                await live.run(request)
        incidents = "SELECT count(*) FROM incidents WHERE kind = 'strategy_unusable' AND resolved_at IS NULL"
        assert await pool.fetchval(incidents) == 1
        usable = True
        assert (await live.run(request)).symbols == 1
        assert await pool.fetchval(incidents) == 0
    finally:
        await pool.close()


async def test_a_changed_list_of_symbols_is_followed_at_once(database: str, temporal_server: DevServer) -> None:
    """Market data of a newly allowed symbol arrive within seconds; an unknown name prevents none."""
    async with trading_system(database, temporal_server.address) as system:
        universe = Universe(allow=(BTC, "GONE-USD"))
        keeper = MarketKeeper(
            system.pool, system.parts.exchange, lambda: MarketDataOptions(universe=universe, window=160)
        )
        keeping = asyncio.create_task(keeper.run(MarketDataInput(account="lists"), lambda *_: None))

        async def kept(symbol: str) -> bool:
            query = "SELECT bid IS NOT NULL FROM market_prices WHERE symbol = $1"
            return bool(await system.value(query, symbol))

        try:
            await eventually(lambda: kept(BTC), what="bitcoin's price is kept")
            assert not await kept(ETH)
            universe = Universe(allow=(ETH,))
            await eventually(lambda: kept(ETH), within=20, what="ether's price is kept")
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
