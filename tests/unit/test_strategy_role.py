"""The role `strategy`: the effect of its settings."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from temporalio.client import ScheduleActionStartWorkflow, ScheduleOverlapPolicy, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from cli.strategy import why_it_failed
from domain.entries import EntryError, strategy_entry
from domain.indicators import NAMES
from domain.messages import Linkage, OrderIntent
from domain.momentum import RocMomentum
from domain.strategies import Weighted
from tests.unit.test_entries import NOW
from workers.polling import ROLES as NAMED_ROLES
from workers.polling import ROLES_OF
from workers.roles.strategy import (
    indicator_parameters,
    named_indicators,
    strategies_of,
    strategy_options,
    strategy_schedule,
)
from workers.runner import ROLES
from workers.settings import Settings
from workers.settings.strategy import (
    IndicatorSettings,
    MarketDataSettings,
    NamedIndicatorSettings,
    RocSettings,
    StrategySettings,
)
from workers.settings.values import policy_of


def settings(**strategy: object) -> Settings:
    """Settings with another strategy section."""
    return Settings(strategy=StrategySettings.model_validate(strategy))


def test_entry_points_divide_the_roles() -> None:
    """`sighook` decides, `webhook` executes, `both` has all roles of a worker (ENTRY-3)."""
    assert set(NAMED_ROLES) == ROLES_OF["both"] == set(ROLES)
    assert ROLES_OF["sighook"] | ROLES_OF["webhook"] == set(ROLES)
    assert not ROLES_OF["sighook"] & ROLES_OF["webhook"]


def test_runs_are_scheduled_in_the_markets_time() -> None:
    """Every five minutes, two seconds late, never overlapping; if time is sped up, never below a second."""
    usual = strategy_schedule(Settings())
    (interval,) = usual.spec.intervals
    assert (interval.every, interval.offset) == (timedelta(minutes=5), timedelta(seconds=2))
    assert usual.policy.overlap is ScheduleOverlapPolicy.SKIP
    assert usual.policy.catchup_window == timedelta(seconds=30)
    assert isinstance(usual.action, ScheduleActionStartWorkflow)
    assert (usual.action.execution_timeout or interval.every) < interval.every
    (hurried,) = strategy_schedule(Settings(speed=6000)).spec.intervals
    assert (hurried.every, hurried.offset) == (timedelta(seconds=1), timedelta(seconds=0.1))


def test_the_settings_know_what_the_indicators_need() -> None:
    """The shortest accepted window is the one that the indicators need."""
    for periods in (IndicatorSettings(rsi=70), IndicatorSettings(squeeze=250), IndicatorSettings(ema=70, sma=20)):
        needed = max(indicator_parameters(settings(periods=periods)).needs().values())
        settings(periods=periods, window=max(needed, 160))
        with pytest.raises(ValueError, match="too short"):
            settings(periods=periods, window=needed - 1)


def test_the_strategy_is_what_is_configured() -> None:
    """Weights and thresholds reach it; momentum comes after it unless switched off."""
    weighted, momentum = strategies_of(settings(rsi_below="25", weights={"volume": "0"}, squeeze_tolerance_pct="10"))
    assert isinstance(weighted, Weighted)
    assert isinstance(momentum, RocMomentum)
    assert (weighted.rules.rsi_below, weighted.rules.weights["volume"]) == (25.0, 0.0)
    assert weighted.rules.squeeze_tolerance == pytest.approx(0.1)
    alone = Settings(roc=RocSettings(enabled=False), strategy=StrategySettings(use="domain.momentum:RocMomentum"))
    assert [type(item) for item in strategies_of(alone)] == [RocMomentum]


def test_named_indicators_need_a_threshold() -> None:
    """One that could never vote is refused; a name and thresholds reach the run."""
    with pytest.raises(ValueError, match="or it never fires"):
        NamedIndicatorSettings(pandas_ta="cci")
    mine = {"cci": {"pandas_ta": "cci", "buy_below": -100, "weight": "2", "trigger": "rsi_oversold"}}
    (cci,) = named_indicators(settings(indicators=mine))
    assert (cci.name, cci.buy_below, cci.weight, cci.buys_as) == ("cci", -100, 2.0, "rsi_oversold")


@pytest.mark.parametrize("threshold", ["buy_below", "buy_above", "sell_below", "sell_above"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_threshold_is_a_number(threshold: str, value: str) -> None:
    """Nothing is below or above nan: an indicator that never votes is refused, not accepted."""
    for given in (value, float(value)):
        with pytest.raises(ValueError, match="finite number"):
            NamedIndicatorSettings.model_validate({"pandas_ta": "cci", threshold: given})
    with pytest.raises(ValueError, match="finite number"):
        NamedIndicatorSettings.model_validate({"pandas_ta": "cci", "buy_below": 1, "parameters": {"x": float(value)}})


def test_an_indicator_that_buys_needs_a_row_of_the_trigger_table() -> None:
    """One that buys by a trigger without settings is refused by its key; one that only sells, or has a row, is
    accepted."""
    stoch = {"pandas_ta": "stoch", "buy_below": 20}
    with pytest.raises(ValueError, match=r"needs a row in \[triggers.stoch\]"):
        settings(indicators={"stoch": stoch})
    with pytest.raises(ValueError, match=r"needs a row in \[triggers\]"):
        settings(indicators={"stoch": {**stoch, "trigger": "mine"}})
    settings(indicators={"stoch": {"pandas_ta": "stoch", "sell_above": 80}})
    settings(indicators={"stoch": {**stoch, "weight": 0}})
    settings(indicators={"stoch": stoch}, use="mine:Own")
    Settings.model_validate({"strategy": {"indicators": {"stoch": stoch}}, "triggers": {"stoch": {"size_quote": "10"}}})


def test_alerts_that_name_no_trigger_need_one_with_a_row() -> None:
    """webhook.trigger without a row would refuse each alert on arrival."""
    with pytest.raises(ValueError, match=r"webhook.trigger\s+needs a row in \[triggers\]"):
        Settings.model_validate({"webhook": {"trigger": "nowhere"}})
    Settings.model_validate({"webhook": {"trigger": "multi_signal"}})


def test_names_of_built_in_indicators_are_taken() -> None:
    """A user's indicator with such a name would replace the built-in one."""
    for name in NAMES:
        with pytest.raises(ValueError, match=f"indicators.{name}: that is the name of a built-in"):
            settings(indicators={name: {"pandas_ta": "cci", "sell_above": 1}})


def test_quote_currencies_are_written_as_products_are() -> None:
    """usd is USD, a list of the environment is read, and anything that is not a currency is refused: it matches
    nothing."""
    assert MarketDataSettings.model_validate({"quotes": ["usd", "Eur"]}).quotes == ("USD", "EUR")
    assert MarketDataSettings.model_validate({"quotes": "usd,usdc"}).quotes == ("USD", "USDC")
    for wrong in ([], ["$"], [""], ["BTC-USD"]):
        with pytest.raises(ValueError, match="quotes"):
            MarketDataSettings.model_validate({"quotes": wrong})


@pytest.mark.parametrize(
    ("order_type", "price"), [("LIMIT_POST_ONLY", Decimal(99)), ("LIMIT", Decimal(101)), ("MARKET", None)]
)
def test_an_entry_rests_at_the_bid_or_takes_the_ask(order_type: str, price: Decimal | None) -> None:
    """By the trigger's order type; a trigger without settings is refused by name."""
    given = Settings.model_validate({"triggers": {"rsi_oversold": {"order_type": order_type}}})
    options = strategy_options(given, policy_of(given))

    def bought(trigger: str) -> OrderIntent:
        return strategy_entry(
            options.triggers,
            account="main",
            request_id="run",
            symbol="BTC-USD",
            linkage=Linkage(trigger=trigger),
            now=NOW,
            bid=Decimal(99),
            ask=Decimal(101),
            asked_by=options.asked_by,
        )

    intent = bought("rsi_oversold")
    assert (intent.limit_price, intent.entry_point, intent.source) == (price, "strategy", "sighook")
    assert intent.asked_by == "strategy weighted"
    with pytest.raises(EntryError, match="no settings for the trigger stoch"):
        bought("stoch")


def test_a_run_that_failed_by_the_users_own_strategy_says_so_and_not_what_was_beneath() -> None:
    """The sentence names the setting; the strategy's own error alone would not."""
    sentence = "strategy.use = dip.py:Dip: it can't be made with the parameters {}: RuntimeError: no"
    beneath = ApplicationError("no", type="RuntimeError")
    unusable = ApplicationError(sentence, type="BAD_STRATEGY")
    unusable.__cause__ = beneath
    assert why_it_failed(WorkflowFailureError(cause=unusable)) == sentence
    assert "RuntimeError: no" in why_it_failed(WorkflowFailureError(cause=beneath))
