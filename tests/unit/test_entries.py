"""The trigger table decides what an entry looks like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from domain.messages import Linkage, OrderIntent
from domain.orders import OrderRole, OrderType, Side, TimeInForce
from workers.entries import entry_intent
from workers.errors import UserError
from workers.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def intent(trigger: str = "roc_momo", settings: Settings | None = None, **given: object) -> OrderIntent:
    """An entry of `trigger` as the settings have it."""
    return entry_intent(
        settings or Settings(),
        entry_point="strategy",
        request_id="run-1",
        symbol="BTC-USD",
        linkage=Linkage(trigger=trigger),
        now=NOW,
        **given,  # type: ignore[arg-type]
    )


def test_the_trigger_table_gives_size_exits_and_validity() -> None:
    """Momentum is larger and takes profit at its own target; its decision is valid for the trigger's time."""
    entry = intent()
    assert (entry.side, entry.role, entry.quote_size, entry.base_size) == (
        Side.BUY,
        OrderRole.ENTRY,
        Decimal(200),
        None,
    )
    assert entry.rules.take_profit == Decimal("0.04")
    assert entry.valid_until == NOW + timedelta(seconds=60)
    assert (entry.source, entry.expires_after) == ("sighook", Decimal(300))


@pytest.mark.parametrize(
    ("order_type", "kind", "in_force", "post_only", "expires"),
    [
        ("MARKET", OrderType.MARKET, TimeInForce.IOC, False, None),
        ("LIMIT", OrderType.LIMIT, TimeInForce.GTC, False, Decimal(300)),
        ("LIMIT_IOC", OrderType.LIMIT, TimeInForce.IOC, False, None),
        ("LIMIT_POST_ONLY", OrderType.LIMIT, TimeInForce.GTC, True, Decimal(300)),
    ],
)
def test_each_order_type_is_placed_as_it_says(
    order_type: str, kind: OrderType, in_force: TimeInForce, post_only: bool, expires: Decimal | None
) -> None:
    """Only what can rest expires, and only a LIMIT has a price."""
    entry = intent(order_type=order_type, limit_price=Decimal(50_000))
    assert (entry.order_type, entry.time_in_force, entry.post_only) == (kind, in_force, post_only)
    assert entry.expires_after == expires
    assert entry.limit_price == (None if kind is OrderType.MARKET else Decimal(50_000))


def test_the_same_request_is_the_same_order() -> None:
    """The key follows from the request, not from when or how large."""
    assert intent().order_key == intent(size_base=Decimal(1)).order_key


def test_a_size_in_base_takes_the_place_of_the_triggers() -> None:
    """One size, never two."""
    assert (intent(size_base=Decimal(2)).quote_size, intent(size_base=Decimal(2)).base_size) == (None, Decimal(2))
    with pytest.raises(UserError, match="not both"):
        intent(size_base=Decimal(2), size_quote=Decimal(5))


def test_what_has_no_settings_is_refused_by_name() -> None:
    """An unknown trigger or order type is said, with what there is."""
    with pytest.raises(UserError, match=r"trigger nonsense.*roc_momo"):
        intent("nonsense")
    with pytest.raises(UserError, match=r"STOP is not an order type.*LIMIT_POST_ONLY"):
        intent(order_type="STOP")
