"""The role `strategy`: what the settings come to."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from temporalio.client import ScheduleActionStartWorkflow, ScheduleOverlapPolicy, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from cli.strategy import why_it_failed
from domain.messages import Linkage
from domain.momentum import RocMomentum
from domain.strategies import Weighted
from tests.unit.test_entries import NOW
from workers.health import ROLES as NAMED_ROLES
from workers.health import ROLES_OF
from workers.runner import ROLES
from workers.settings import Settings
from workers.settings_strategy import IndicatorSettings, NamedIndicatorSettings, RocSettings, StrategySettings
from workers.strategy_role import (
    indicator_parameters,
    named_indicators,
    strategies_of,
    strategy_options,
    strategy_schedule,
)


def settings(**strategy: object) -> Settings:
    """Settings with another strategy section."""
    return Settings(strategy=StrategySettings.model_validate(strategy))


def test_entry_points_divide_the_roles() -> None:
    """`sighook` decides, `webhook` executes, `both` is everything that a worker knows (ENTRY-3)."""
    assert set(NAMED_ROLES) == ROLES_OF["both"] == set(ROLES)
    assert ROLES_OF["sighook"] | ROLES_OF["webhook"] == set(ROLES)
    assert not ROLES_OF["sighook"] & ROLES_OF["webhook"]


def test_runs_are_scheduled_in_the_markets_time() -> None:
    """Every five minutes, two seconds late, none beside another; where time is sped up, never below a second."""
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
    """The shortest window that is accepted is the one that the indicators need."""
    for periods in (IndicatorSettings(rsi=70), IndicatorSettings(squeeze=250), IndicatorSettings(ema=70, sma=20)):
        needed = max(indicator_parameters(settings(periods=periods)).needs().values())
        settings(periods=periods, window=max(needed, 160))
        with pytest.raises(ValueError, match="too short"):
            settings(periods=periods, window=needed - 1)


def test_the_strategy_is_what_is_configured() -> None:
    """Weights and thresholds reach it; momentum comes after it unless it is switched off."""
    weighted, momentum = strategies_of(settings(rsi_below="25", weights={"volume": "0"}, squeeze_tolerance_pct="10"))
    assert isinstance(weighted, Weighted)
    assert isinstance(momentum, RocMomentum)
    assert (weighted.rules.rsi_below, weighted.rules.weights["volume"]) == (25.0, 0.0)
    assert weighted.rules.squeeze_tolerance == pytest.approx(0.1)
    alone = Settings(roc=RocSettings(enabled=False), strategy=StrategySettings(use="domain.momentum:RocMomentum"))
    assert [type(item) for item in strategies_of(alone)] == [RocMomentum]


def test_named_indicators_need_a_threshold() -> None:
    """One that could never speak is refused; a name and thresholds reach the run."""
    with pytest.raises(ValueError, match="or it never speaks"):
        NamedIndicatorSettings(pandas_ta="cci")
    (cci,) = named_indicators(settings(indicators={"cci": {"pandas_ta": "cci", "buy_below": -100, "weight": "2"}}))
    assert (cci.name, cci.buy_below, cci.weight, cci.buys_as) == ("cci", -100, 2.0, "cci")


@pytest.mark.parametrize(
    ("order_type", "price"), [("LIMIT_POST_ONLY", Decimal(99)), ("LIMIT", Decimal(101)), ("MARKET", None)]
)
def test_an_entry_rests_at_the_bid_or_takes_the_ask(order_type: str, price: Decimal | None) -> None:
    """By the trigger's order type; a trigger without settings is refused by name."""
    given = Settings.model_validate({"triggers": {"rsi_oversold": {"order_type": order_type}}})
    entries = strategy_options(given).entries
    linkage = Linkage(trigger="rsi_oversold")
    intent = entries(request_id="run", symbol="BTC-USD", linkage=linkage, now=NOW, bid=Decimal(99), ask=Decimal(101))
    assert (intent.limit_price, intent.entry_point, intent.source) == (price, "strategy", "sighook")
    with pytest.raises(Exception, match="no settings for the trigger stoch"):
        entries(
            request_id="run",
            symbol="BTC-USD",
            linkage=Linkage(trigger="stoch"),
            now=NOW,
            bid=Decimal(1),
            ask=Decimal(2),
        )


def test_a_run_that_failed_by_the_users_own_strategy_says_so_and_not_what_was_beneath() -> None:
    """The sentence names the setting; the error that its class raised alone would name nothing."""
    sentence = "strategy.use = dip.py:Dip: it can't be made with the parameters {}: RuntimeError: no"
    beneath = ApplicationError("no", type="RuntimeError")
    unusable = ApplicationError(sentence, type="BAD_STRATEGY")
    unusable.__cause__ = beneath
    assert why_it_failed(WorkflowFailureError(cause=unusable)) == sentence
    assert "RuntimeError: no" in why_it_failed(WorkflowFailureError(cause=beneath))
