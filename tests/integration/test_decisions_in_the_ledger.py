"""Decisions' reads of the ledger: buys on a candle, allowed symbols, losing trades, own orders."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import cast

import pytest_asyncio

from activities.interfaces.strategy import StrategyReport, StrategyRun
from activities.market.universe import Universe
from activities.orders.limits import halt_if_lost_too_much
from activities.quotes.rounds import Quoting, QuotingOptions
from activities.starting import Starter
from activities.strategy.runs import StrategyOptions, StrategyRuns
from cli.cautions import of_order
from domain.candles import CANDLE
from domain.exits import ExitRules
from domain.messages import OrderIntent
from domain.quoting import QuoteRules
from domain.scoring import Action, Decision, Part
from domain.strategies import Features
from tests.support.admission_desk import Desk, desk_at_a_paper_exchange
from tests.support.intents import limit_buy
from workers.settings import Settings
from workers.settings.values import triggers_of

BTC, ETH = "BTC-USD", "ETH-USD"
D = Decimal


@pytest_asyncio.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    """A desk with an empty ledger and a paper exchange."""
    async with desk_at_a_paper_exchange(database) as found:
        yield found


class Ordered:
    """Records the orders that would be started."""

    def __init__(self) -> None:
        self.intents: list[OrderIntent] = []

    async def order(self, intent: OrderIntent) -> None:
        """Like a starter, without Temporal."""
        self.intents.append(intent)


class AnotherTrigger:
    """Buys everything, each time by another trigger, as after late volume."""

    def __init__(self) -> None:
        self._triggers = itertools.cycle(("rsi_oversold", "multi_signal", "volume_spike"))

    def decide(self, features: Features) -> Decision:
        """A buy by the next trigger."""
        part = {"rsi": Part(25.0, True, 1.0, 1.5)}
        return Decision(features.symbol, Action.BUY, next(self._triggers), 1.5, 0.0, part, ("rsi",))


async def kept(desk: Desk, symbol: str, volume: str = "1e9") -> None:
    """A closed candle, the next one, and a current price with the day's volume."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for at in (start, start + CANDLE):
        await desk.pool.execute(
            """INSERT INTO candles (account, symbol, seconds, start, open, high, low, close, volume)
               VALUES ('main', $1, 300, $2, 1, 1, 1, 1, 1)""",
            symbol,
            at,
        )
    await desk.market(symbol, price="1", bid="1", ask="1.001", change_24h="0.1")
    await desk.pool.execute("UPDATE market_prices SET quote_volume_24h = $2 WHERE symbol = $1", symbol, D(volume))


def runs(desk: Desk, ordered: Ordered, universe: Universe) -> StrategyRuns:
    """The activity with the strategy above."""
    strategy = AnotherTrigger()
    options = StrategyOptions(
        triggers=triggers_of(Settings()),
        enabled=True,
        universe=universe,
        strategies=lambda: (strategy,),
        by_the_clock=False,
    )
    return StrategyRuns(desk.pool, cast("Starter", ordered), lambda: options)


async def run(activity: StrategyRuns) -> StrategyReport:
    """A run with its own snapshot."""
    nominal = datetime.now(UTC)
    return await activity.run(StrategyRun(account="main", snapshot_id=str(uuid.uuid4()), nominal_at=nominal))


async def test_a_candle_buys_a_symbol_once_whatever_its_trigger(desk: Desk) -> None:
    """Concurrent runs and a run after late volume find the candle's buy, by whichever trigger."""
    await kept(desk, BTC)
    ordered = Ordered()
    activity = runs(desk, ordered, Universe(allow=(BTC,)))
    reports = [*await asyncio.gather(*(run(activity) for _ in range(3))), await run(activity)]
    outcomes = sorted(row.outcome for report in reports for row in report.rows)
    assert outcomes == ["same_candle", "same_candle", "same_candle", "started"]
    assert len(ordered.intents) == 1


async def test_what_is_held_is_not_bought_for_it(desk: Desk) -> None:
    """Without named symbols the most traded are bought; one that is only held (another currency, low volume) is not."""
    await kept(desk, BTC)
    await kept(desk, "JUNK-EUR", "5e9")
    await kept(desk, "THIN-USD", "10")
    for symbol in ("JUNK-EUR", "THIN-USD"):
        await desk.trade(symbol=symbol)
    ordered = Ordered()
    report = await run(runs(desk, ordered, Universe(top=100, quotes=("USD",), min_quote_volume=D(1_000_000))))
    assert {row.symbol: row.outcome for row in report.rows} == {
        BTC: "started",
        "JUNK-EUR": "not_allowed",
        "THIN-USD": "not_allowed",
    }


async def test_a_trade_that_sold_nothing_neither_ends_nor_makes_a_streak(desk: Desk) -> None:
    """Four losers, one sold outside, and a fifth: five in a row have lost."""
    desk.policy = replace(desk.policy, daily_loss_limit=D(0), losing_streak=5)
    for ago in range(50, 46, -1):
        await desk.trade("-10", ago=ago)
    outside = await desk.trade("0", ago=40)
    await desk.pool.execute("UPDATE trades SET sold_size = 0, sold_value = 0 WHERE entry_key = $1", outside)
    assert not await halt_if_lost_too_much(desk.pool, desk.policy)
    await desk.trade("-10", ago=30)
    assert await halt_if_lost_too_much(desk.pool, desk.policy)


def quoting(desk: Desk) -> tuple[Quoting, QuotingOptions]:
    """The market maker of the desk's account on BTC-USD."""
    rules = QuoteRules(
        min_profit=D("0.001"), min_quote_volume=D(1), max_inventory=D(500), replace_after=D("0.001"), size_quote=D(50)
    )
    options = QuotingOptions(account=desk.account, rules=rules, symbols=(BTC,), enabled=True)
    return Quoting(desk.pool, desk.venue, lambda: options), options


async def test_the_market_maker_sees_no_order_of_ours_in_the_book(desk: Desk) -> None:
    """The best bid is our own entry, or one under the name of the same market: the market begins below it."""
    maker, options = quoting(desk)

    async def best_bid() -> Decimal:
        facts = await maker._facts(BTC, options, await maker._read_ledger(options), quoted=True)
        return facts.bids[0].price

    assert await best_bid() == 50_000
    await desk.balance("1000000")
    for name in (BTC, "BTC-USDC"):
        intent = limit_buy(desk.account, "1", "50000")
        assert (await desk.admit(intent)).accepted
        await desk.pool.execute(
            "UPDATE orders SET symbol = $2, base_size = 1000 WHERE order_key = $1", intent.order_key, name
        )
        await desk.pool.execute("UPDATE attempts SET size = 1000 WHERE order_key = $1", intent.order_key)
        assert await best_bid() < 50_000, name
        await desk.pool.execute(
            "UPDATE orders SET finished = true, state = 'CANCELLED' WHERE order_key = $1", intent.order_key
        )
        assert await best_bid() == 50_000


async def test_the_day_s_volume_is_not_of_another_day(desk: Desk) -> None:
    """A volume stored when the symbol was last followed is unknown now; a current one is used."""
    maker, options = quoting(desk)
    await kept(desk, BTC, "9000")
    assert (await maker._read_ledger(options)).volume == {BTC: D(9000)}
    await desk.pool.execute("UPDATE market_prices SET at = now() - interval '1 hour'")
    assert (await maker._read_ledger(options)).volume == {}


async def test_what_may_not_be_meant_is_told_by_the_account_s_own_costs(desk: Desk) -> None:
    """Rates and spread are the ledger's if it has them, else assumed; a limit is compared with the current price."""
    settings = Settings()
    near = ExitRules(hard_stop=D("0.011"), soft_stop=D("0.009"))
    intent = limit_buy(desk.account, "1", "40000", rules=near)
    (hard, soft) = await of_order(desk.pool, settings, intent)
    assert "the hard stop at 1.1 %" in hard
    assert "1.2 % (2 × 0.6 % taker fee, assumed)" in soft
    await desk.pool.execute("INSERT INTO fee_rates (account, maker, taker) VALUES ('main', 0.001, 0.002)")
    await desk.market(BTC, price="50000", bid="50000", ask="50300")
    (soft, far) = await of_order(desk.pool, settings, intent)
    assert "1 % (2 × 0.2 % taker fee, spread 0.6 %)" in soft
    assert far.startswith("the limit 40000 is 20 % below the market (50300)")
    await desk.pool.execute("UPDATE market_prices SET at = now() - interval '1 hour'")
    assert await of_order(desk.pool, settings, limit_buy(desk.account, "1", "1")) == []
