"""Prices of protection at the exchange, and which leg of it has filled."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.exits import ExitReason
from domain.protection import (
    Protection,
    ProtectionKind,
    ProtectionRole,
    leg_of,
    protective_prices,
    stop_fraction,
)
from workers.settings import Settings
from workers.settings.values import protection_for

D = Decimal
STOP = Protection(kind=ProtectionKind.STOP_LIMIT, stop=D("0.05"))
BRACKET = Protection(kind=ProtectionKind.BRACKET, stop=D("0.05"), take_profit=D("0.025"))
money = st.decimals(min_value="0.01", max_value="100000", places=2)


@given(price=money, fraction=st.decimals(min_value="0.001", max_value="0.5", places=3))
def test_prices_are_on_the_tick_and_never_act_early(price: Decimal, fraction: Decimal) -> None:
    """The stop is at or below the fraction, its limit below it, a target at or above; all on the tick."""
    tick = D("0.0001")
    prices = protective_prices(STOP, price, fraction, tick)
    assert prices.limit <= prices.stop <= price * (1 - fraction)
    both = protective_prices(BRACKET, price, fraction, tick)
    assert both.stop == prices.stop < price < both.limit
    assert all(value % tick == 0 for value in (prices.stop, prices.limit, both.limit))


def test_a_stop_that_would_not_protect_is_refused() -> None:
    """If the tick rounds the distance of a very low price away, there is no stop."""
    with pytest.raises(ValueError, match="does not protect"):
        protective_prices(STOP, D("0.01"), D("0.05"), D("0.01"))


def test_the_stop_makes_room_for_costs_and_swings() -> None:
    """Taker fee, spread and one ATR are added, at most the configured stop once more; without ATR it is unchanged."""
    known = {"taker_fee": D("0.006"), "spread": D(10), "price": D(50000)}
    assert stop_fraction(D("0.05"), atr=D(200), **known) == D("0.05") + D("0.006") + D("0.0042")
    assert stop_fraction(D("0.05"), atr=D(20000), **known) == D("0.10")
    assert stop_fraction(D("0.05"), atr=None, **known) == D("0.05")
    assert stop_fraction(D("0.05"), atr=D(-1), **known) == D("0.05")


def test_the_price_tells_which_leg_sold() -> None:
    """A fill at its limit or better was the target; any piece below makes it the stop; a stop-limit is always a
    stop."""
    target = (ProtectionRole.TAKE_PROFIT, ExitReason.TP)
    stop = (ProtectionRole.STOP_LOSS, ExitReason.HARD_STOP)
    assert leg_of(ProtectionRole.OCO, D(102), D(2), D(204)) == target
    assert leg_of(ProtectionRole.TAKE_PROFIT, D(102), D(2), D(102 + 95)) == stop
    assert leg_of(ProtectionRole.STOP_LOSS, D(94), D(2), D(190)) == stop


def test_it_is_a_setting_of_a_trigger_and_off_by_default() -> None:
    """Without a setting nothing rests; missing values are from the trigger's exits."""
    settings = Settings.model_validate(
        {
            "triggers": {
                "roc_momo": {"protection": {"kind": "bracket", "failsafe_on_sltp_error": True}},
                "macd_cross": {"protection": {"kind": "stop_limit", "stop_pct": "7", "limit_offset_pct": "2"}},
            }
        }
    )
    assert protection_for(settings, "rsi_oversold") is None
    assert protection_for(settings, "unheard_of") is None
    assert protection_for(settings, "roc_momo") == Protection(
        kind=ProtectionKind.BRACKET, stop=D("0.05"), take_profit=D("0.04"), failsafe=True
    )
    assert protection_for(settings, "macd_cross") == Protection(
        kind=ProtectionKind.STOP_LIMIT, stop=D("0.07"), limit_offset=D("0.02")
    )
    with pytest.raises(ValidationError, match="take profit"):
        Protection(kind=ProtectionKind.BRACKET, stop=D("0.05"))
