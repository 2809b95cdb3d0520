"""A sender's permissions: pure rules."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pydantic import ValidationError

from domain.orders import Side
from web.scopes import Scope, order_worth, outside, too_large, without_trade
from workers.settings.webhook import SenderSettings, WebhookSettings


@pytest.mark.parametrize(
    ("scope", "action", "symbol", "trigger", "gate"),
    [
        (Scope(), "buy", "BTC-USD", "webhook", None),
        (Scope(actions=("buy", "close")), "sell", "BTC-USD", None, "SENDER_ACTION"),
        (Scope(actions=("buy",)), "close", "BTC-USD", None, "SENDER_ACTION"),
        (Scope(symbols=("BTC-USD",)), "buy", "ETH-USD", "webhook", "SENDER_SYMBOL"),
        (Scope(symbols=("BTC-USD",)), "close", "ETH-USD", None, "SENDER_SYMBOL"),
        (Scope(symbols=("BTC-USD",)), "close", "BTC-USD", None, None),
        (Scope(triggers=("rsi",)), "buy", "BTC-USD", "webhook", "SENDER_TRIGGER"),
        (Scope(triggers=("rsi",)), "sell", "BTC-USD", None, None),
    ],
)
def test_what_is_outside_a_scope(scope: Scope, action: str, symbol: str, trigger: str | None, gate: str | None) -> None:
    """Each bound has its own code, and a missing one is no bound; triggers are for buys only."""
    refusal = outside(scope, "tv", action=action, symbol=symbol, trigger=trigger)
    assert (refusal and refusal["gate"]) == gate
    assert refusal is None or "webhook.senders.tv." in refusal["sentence"]


@pytest.mark.parametrize(
    ("side", "given", "worth"),
    [
        (Side.BUY, {"quote_size": "100"}, "100"),
        (Side.BUY, {"base_size": "2", "limit": "50", "price": "40"}, "100"),
        (Side.BUY, {"base_size": "2", "price": "40"}, "80"),
        (Side.BUY, {"base_size": "2"}, None),
        (Side.SELL, {"base_size": "2", "price": "40"}, "80"),
        (Side.SELL, {"base_size": "2", "limit": "1", "price": "40"}, "80"),
        (Side.SELL, {"base_size": "2", "limit": "50", "price": "40"}, "100"),
        (Side.SELL, {"base_size": "2", "limit": "1"}, None),
    ],
)
def test_what_an_order_is_worth(side: Side, given: dict[str, str], worth: str | None) -> None:
    """The most that it may move: a buy's limit, for a sell at least the bid; without a price it is unknown."""
    numbers = {name: None if name not in given else Decimal(given[name]) for name in ("quote_size", "base_size")}
    prices = {name: None if name not in given else Decimal(given[name]) for name in ("limit", "price")}
    assert order_worth(side, **numbers, **prices) == (None if worth is None else Decimal(worth))


def test_the_largest_order_is_allowed_and_what_is_not_known_is_not() -> None:
    """The bound itself passes, more does not, nor does an order of unknown worth; without a bound all pass."""
    scope = Scope(max_order_quote=Decimal(100))
    assert too_large(scope, "tv", Decimal(100)) is None
    assert (too_large(scope, "tv", Decimal("100.01")) or {})["gate"] == "SENDER_ORDER_SIZE"
    assert "isn't known" in (too_large(scope, "tv", None) or {})["sentence"]
    assert too_large(Scope(), "tv", None) is None


def test_the_pool_is_only_for_whom_it_is_named() -> None:
    """By default no sender may sell from the pool."""
    assert (without_trade(Scope(), "tv", "BTC-USD", Decimal(1)) or {})["gate"] == "SENDER_POOL"
    assert without_trade(Scope(pool=True), "tv", "BTC-USD", Decimal(1)) is None


def test_a_scope_is_written_as_other_settings_are() -> None:
    """Lists as lists, or with commas from the environment; an invalid bound is refused."""
    found = SenderSettings.model_validate(
        {"token": "0123456789abcdef", "symbols": "btc-usd,ETH-USD", "actions": "buy,close", "triggers": ["rsi"]}
    )
    assert (found.symbols, found.actions, found.triggers) == (("BTC-USD", "ETH-USD"), ("buy", "close"), ("rsi",))
    for name, wrong in (("actions", ""), ("actions", "steal"), ("orders_per_day", 0), ("max_order_quote", "0")):
        with pytest.raises(ValueError, match="validation error"):
            SenderSettings.model_validate({"token": "0123456789abcdef", name: wrong})


def test_no_sender_is_called_as_what_comes_through_temporal() -> None:
    """An authenticated sender can be distinguished from an unauthenticated name."""
    with pytest.raises(ValidationError, match="sent directly through Temporal"):
        WebhookSettings(senders={"temporal": SenderSettings.model_validate({"token": "0123456789abcdef" * 2})})
