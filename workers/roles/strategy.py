"""The role `strategy`: market data and the scheduled strategy run, by the settings in force."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import lru_cache

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)

from activities.interfaces.strategy import MarketDataInput, StrategyInput
from activities.market.keeper import MarketDataOptions, market_data_lease
from activities.market.universe import Universe
from activities.policy import Policy
from activities.strategy.loading import load_strategy
from activities.strategy.runs import StrategyOptions
from domain.indicators import Parameters
from domain.indicators_named import NamedIndicator
from domain.momentum import RocMomentum, RocRules
from domain.strategies import Strategy, Weighted, WeightedRules
from workers.schedules import Singleton, ensure_schedule
from workers.settings import Settings
from workers.settings.strategy import NamedIndicatorSettings
from workers.settings.values import lease_terms
from workflows.market_data import MarketDataWorkflow, market_data_workflow_id
from workflows.strategy import StrategyRunWorkflow, strategy_schedule_id

__all__ = [
    "ensure_market_data",
    "ensure_strategy_schedule",
    "indicator_parameters",
    "market_data_options",
    "market_data_singleton",
    "named_indicators",
    "strategies_of",
    "strategy_options",
    "strategy_schedule",
]

_SHORTEST_INTERVAL = timedelta(seconds=1)
_LONGEST_RUN = timedelta(seconds=20)


def universe_of_settings(settings: Settings) -> Universe:
    """How the evaluated symbols are chosen."""
    return Universe(
        allow=settings.symbols.allow,
        block=settings.symbols.block,
        top=settings.market_data.top,
        quotes=settings.market_data.quotes,
        min_quote_volume=settings.market_data.min_quote_volume,
    )


def market_data_options(settings: Settings) -> MarketDataOptions:
    """How prices and candles are kept."""
    given = settings.market_data
    return MarketDataOptions(
        enabled=given.enabled,
        universe=universe_of_settings(settings),
        window=settings.strategy.window,
        market_speed=settings.speed,
        write_seconds=float(given.write_s),
        universe_seconds=float(given.universe_s),
        stale_seconds=float(settings.risk.market_stale_after_s),
        timeout=float(settings.exchange.timeout_s),
        keep_candles_days=given.keep_candles_days,
        keep_matrix_days=given.keep_matrix_days,
        lease=lease_terms(settings),
        alert_after_failures=settings.streams.alert_after_failures,
    )


def indicator_parameters(settings: Settings) -> Parameters:
    """The periods of the built-in indicators."""
    given = settings.strategy.periods
    return Parameters(
        rsi=given.rsi,
        macd_fast=given.macd_fast,
        macd_slow=given.macd_slow,
        macd_signal=given.macd_signal,
        bollinger=given.bollinger,
        bollinger_deviations=float(given.bollinger_deviations),
        squeeze=given.squeeze,
        volume=given.volume,
        roc=given.roc,
        atr=given.atr,
        sma=given.sma,
        ema=given.ema,
    )


def named_indicators(settings: Settings) -> tuple[NamedIndicator, ...]:
    """The configured indicators, sorted by name."""
    return tuple(_named(name, given) for name, given in sorted(settings.strategy.indicators.items()))


def _named(name: str, given: NamedIndicatorSettings) -> NamedIndicator:
    return NamedIndicator(
        name=name,
        pandas_ta=given.pandas_ta,
        column=given.column,
        parameters=dict(given.parameters),
        buy_below=given.buy_below,
        buy_above=given.buy_above,
        sell_below=given.sell_below,
        sell_above=given.sell_above,
        weight=float(given.weight),
        trigger=given.trigger or "",
    )


def strategies_of(settings: Settings) -> tuple[Strategy, ...]:
    """The configured strategy, then momentum. Raises StrategyError for one that can't be used."""
    given = settings.strategy
    chosen: Strategy
    if given.use == "weighted":
        chosen = Weighted(
            WeightedRules(
                weights={name: float(weight) for name, weight in given.weights},
                rsi_below=float(given.rsi_below),
                rsi_above=float(given.rsi_above),
                volume_multiple=float(given.volume_multiple),
                squeeze_tolerance=float(given.squeeze_tolerance_pct) / 100,
                buy_from=float(given.buy_score),
                sell_from=float(given.sell_score),
                multi_signal=given.multi_signal,
            )
        )
    else:
        chosen = _loaded(given.use, json.dumps(given.parameters, sort_keys=True, default=str))
    if not settings.roc.enabled:
        return (chosen,)
    roc = RocRules(
        buy_from=float(settings.roc.buy_pct),
        sell_from=None if settings.roc.sell_pct is None else float(settings.roc.sell_pct),
        volume_from=float(settings.roc.volume_multiple),
    )
    return (chosen, RocMomentum(roc))


@lru_cache(maxsize=8)
def _loaded(name: str, parameters: str) -> Strategy:
    return load_strategy(name, json.loads(parameters))


def strategy_options(settings: Settings, policy: Policy) -> StrategyOptions:
    """The settings of a run; `policy` is built from them."""
    given = settings.strategy
    return StrategyOptions(
        triggers=policy.triggers,
        asked_by=f"strategy {given.use}",
        enabled=given.enabled,
        universe=universe_of_settings(settings),
        strategies=lambda: strategies_of(settings),
        parameters=indicator_parameters(settings),
        named=named_indicators(settings),
        window=given.window,
        stale_seconds=float(settings.risk.market_stale_after_s),
        balance_stale_seconds=float(settings.risk.balance_stale_after_s),
        one_trade_per_trigger=given.one_trade_per_trigger,
        by_the_clock=settings.mode == "live",
    )


def market_data_singleton(settings: Settings) -> Singleton:
    """The account's market data workflow."""
    account = settings.account
    return Singleton(
        MarketDataWorkflow.run,
        MarketDataInput(account=account),
        market_data_workflow_id(account),
        settings.temporal.strategy_queue,
        "strategy",
        market_data_lease(account),
        f"Prices and candles for the decisions of {account}",
    )


async def ensure_market_data(client: Client, settings: Settings) -> None:
    """Start the account's market data workflow, or leave the running one. Raises RPCError."""
    await market_data_singleton(settings).ensure(client)


async def ensure_strategy_schedule(client: Client, settings: Settings) -> None:
    """Create or update the strategy's schedule from the settings. Raises RPCError."""
    account, schedule = settings.account, strategy_schedule(settings)
    await ensure_schedule(client, strategy_schedule_id(account), schedule, at_once=False)


def strategy_schedule(settings: Settings) -> Schedule:
    """Each interval of market time, a little after a candle's end; missed runs are not made up."""
    account = settings.account
    every = max(timedelta(seconds=float(settings.strategy.interval_s) / settings.speed), _SHORTEST_INTERVAL)
    offset = min(timedelta(seconds=float(settings.strategy.offset_s)), every / 10)
    return Schedule(
        action=ScheduleActionStartWorkflow(
            StrategyRunWorkflow.run,
            StrategyInput(account=account),
            id=strategy_schedule_id(account),
            task_queue=settings.temporal.strategy_queue,
            # Below the interval, but where time is sped up never shorter than a run on a busy machine: none overlap.
            execution_timeout=max(every * 0.9, _LONGEST_RUN),
            static_summary=f"Strategy of {account}",
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every, offset=offset)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=min(every / 2, timedelta(seconds=30))),
    )
