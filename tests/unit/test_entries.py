"""The trigger table decides an entry's form, for every entry point."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from domain.entries import (
    QUOTE_VALID_SECONDS,
    AccountWorth,
    EntryError,
    EntryStyle,
    TriggerRules,
    alert_entry,
    entry,
    quote_bid,
    rules_of,
    strategy_entry,
    triggered_entry,
)
from domain.exits import ExitRules
from domain.messages import Linkage, OrderIntent
from domain.orders import EntryPoint, OrderRole, OrderType, Side, TimeInForce
from domain.protection import ProtectionKind
from workers.settings import Settings
from workers.settings.values import triggers_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TABLE = triggers_of(Settings())


def intent(rules: TriggerRules = TABLE["roc_momo"], **given: object) -> OrderIntent:
    """An entry by these rules."""
    return triggered_entry(
        rules,
        entry_point=EntryPoint.STRATEGY,
        account="main",
        request_id="run-1",
        symbol="BTC-USD",
        linkage=Linkage(trigger="roc_momo"),
        now=NOW,
        **given,  # type: ignore[arg-type]
    )


def alert(trigger: str = "webhook", **given: object) -> OrderIntent:
    """The rules of an alert from the sender tradingview."""
    return alert_entry(
        TABLE,
        account="main",
        request_id="tradingview:a1",
        symbol="BTC-USD",
        linkage=Linkage(trigger=trigger),
        now=NOW,
        source="webhook",
        asked_by="tradingview",
        **given,  # type: ignore[arg-type]
    )


def test_the_trigger_table_gives_size_exits_and_validity() -> None:
    """Momentum is larger and has its own take profit; its decision is valid for the trigger's time."""
    bought = intent()
    assert (bought.side, bought.role) == (Side.BUY, OrderRole.ENTRY)
    assert (bought.quote_size, bought.base_size) == (Decimal(200), None)
    assert bought.rules.take_profit == Decimal("0.04")
    assert bought.valid_until == NOW + timedelta(seconds=60)
    assert (bought.source, bought.expires_after) == ("sighook", Decimal(300))


def test_a_size_may_be_a_share_of_the_account() -> None:
    """5 % of 12,345.678901234 are spent, rounded down; a size that is given replaces the share; while the worth isn't
    known there is no entry, and the sentence says what is missing."""
    rules = TriggerRules(size_share=Decimal("0.05"))
    bought = intent(rules, worth=AccountWorth(Decimal("12345.678901234"), ""))
    assert (bought.quote_size, bought.base_size) == (Decimal("617.28394506"), None)
    assert intent(rules, size_base=Decimal(2)).base_size == 2
    with pytest.raises(
        EntryError, match="buys for 5 % of the account's value, which is not known: no fresh"
    ) as unknown:
        intent(rules, worth=AccountWorth(None, "no fresh balance of USD is known"))
    assert unknown.value.code == "WORTH_NOT_KNOWN"
    with pytest.raises(EntryError, match="not known: nobody has asked for it"):
        intent(rules)
    assert intent(worth=AccountWorth(Decimal(7), "")).quote_size == 200, "of a fixed size nothing has to be known"


def test_the_table_says_what_the_settings_say() -> None:
    """Each row of `[triggers]` becomes its own rules, percentages as fractions, with its own protection or none."""
    settings = Settings.model_validate(
        {
            "triggers": {
                "dip": {
                    "size_base": "0.5",
                    "order_type": "LIMIT_IOC",
                    "expiry_s": "30",
                    "valid_s": "7",
                    "source": "webhook",
                    "exits": {"hard_stop_pct": "8"},
                    "protection": {"kind": "stop_limit", "stop_pct": "9"},
                }
            }
        }
    )
    table = triggers_of(settings)
    assert set(table) == set(settings.triggers)
    dip = table["dip"]
    assert (dip.size_quote, dip.size_base, dip.style) == (None, Decimal("0.5"), EntryStyle.LIMIT_IOC)
    assert (dip.expiry, dip.valid_seconds, dip.source) == (Decimal(30), 7.0, "webhook")
    assert dip.exits.hard_stop == Decimal("0.08")
    assert dip.protection is not None
    assert (dip.protection.kind, dip.protection.stop) == (ProtectionKind.STOP_LIMIT, Decimal("0.09"))
    assert table["roc_momo"].protection is None


@pytest.mark.parametrize(
    ("style", "kind", "in_force", "post_only", "expires"),
    [
        (EntryStyle.MARKET, OrderType.MARKET, TimeInForce.IOC, False, None),
        (EntryStyle.LIMIT, OrderType.LIMIT, TimeInForce.GTC, False, Decimal(300)),
        (EntryStyle.LIMIT_IOC, OrderType.LIMIT, TimeInForce.IOC, False, None),
        (EntryStyle.LIMIT_POST_ONLY, OrderType.LIMIT, TimeInForce.GTC, True, Decimal(300)),
    ],
)
def test_each_order_type_is_placed_as_it_says(
    style: EntryStyle, kind: OrderType, in_force: TimeInForce, post_only: bool, expires: Decimal | None
) -> None:
    """Only resting orders expire, and only a LIMIT has a price."""
    bought = intent(style=style, limit_price=Decimal(50_000))
    assert (bought.order_type, bought.time_in_force, bought.post_only) == (kind, in_force, post_only)
    assert bought.expires_after == expires
    assert bought.limit_price == (None if kind is OrderType.MARKET else Decimal(50_000))


def test_the_same_request_is_the_same_order() -> None:
    """The key depends on the request, not on time or size; another entry point's request is another order."""
    assert intent().order_key == intent(size_base=Decimal(1)).order_key
    by_hand = entry(
        entry_point=EntryPoint.MANUAL,
        account="main",
        request_id="run-1",
        symbol="BTC-USD",
        linkage=Linkage(trigger="manual"),
        source="manual",
        order_type=OrderType.MARKET,
        time_in_force=TimeInForce.IOC,
        rules=ExitRules(),
        quote_size=Decimal(1),
    )
    assert by_hand.order_key != intent().order_key


def test_keys_of_before_are_keys_of_now() -> None:
    """An order started by an earlier release is found by the same request."""
    assert intent().order_key == "112f42563d18565cbc9231336d5e1081"
    assert alert().order_key == "87289f7a58ac54328b86aa4b3f7e8180"


def test_a_size_in_base_takes_the_place_of_the_triggers() -> None:
    """An alert has one size, never two."""
    assert (intent(size_base=Decimal(2)).quote_size, intent(size_base=Decimal(2)).base_size) == (None, Decimal(2))
    with pytest.raises(EntryError, match="not both") as refused:
        intent(size_base=Decimal(2), size_quote=Decimal(5))
    assert refused.value.code == "BAD_SIZE"


def test_a_trigger_without_a_row_is_refused_by_name() -> None:
    """An unknown trigger is named, with the known ones and how to add it."""
    with pytest.raises(EntryError, match=r"trigger nonsense.*roc_momo.*\[triggers\.nonsense\]") as refused:
        rules_of(TABLE, "nonsense")
    assert refused.value.code == "UNKNOWN_TRIGGER"
    with pytest.raises(EntryError, match="nonsense"):
        alert("nonsense")


@pytest.mark.parametrize(
    ("trigger", "given", "kind", "price", "in_force"),
    [
        ("webhook", {}, OrderType.MARKET, None, TimeInForce.IOC),
        ("webhook", {"limit_price": Decimal(9)}, OrderType.LIMIT, Decimal(9), TimeInForce.IOC),
        (
            "webhook",
            {"limit_price": Decimal(9), "style": EntryStyle.MARKET},
            OrderType.MARKET,
            None,
            TimeInForce.IOC,
        ),
        ("roc_momo", {"limit_price": Decimal(9)}, OrderType.LIMIT, Decimal(9), TimeInForce.GTC),
    ],
)
def test_an_alerts_price_is_never_exceeded(
    trigger: str, given: dict[str, object], kind: OrderType, price: Decimal | None, in_force: TimeInForce
) -> None:
    """A price makes a MARKET trigger a limit order at once, unless the alert itself requests MARKET."""
    bought = alert(trigger, **given)
    assert (bought.order_type, bought.limit_price, bought.time_in_force) == (kind, price, in_force)
    assert (bought.source, bought.asked_by) == ("webhook", "tradingview")


def test_a_bid_is_post_only_and_ends_by_itself() -> None:
    """Whatever the trigger's order type and size, a quote never takes, expires and is valid for a short time."""
    for rules in (TABLE["passive_mm"], TriggerRules(style=EntryStyle.MARKET, size_quote=Decimal(7), valid_seconds=3)):
        bid = quote_bid(
            rules,
            account="main",
            request_id="snapshot",
            symbol="BTC-USD",
            linkage=Linkage(trigger="passive_mm"),
            now=NOW,
            price=Decimal(100),
            size=Decimal("0.25"),
        )
        assert (bid.order_type, bid.post_only, bid.time_in_force) == (OrderType.LIMIT, True, TimeInForce.GTD)
        assert (bid.base_size, bid.quote_size, bid.limit_price) == (Decimal("0.25"), None, Decimal(100))
        assert bid.expires_after == rules.expiry
        assert bid.valid_until == NOW + timedelta(seconds=min(QUOTE_VALID_SECONDS, rules.valid_seconds))
        assert bid.by_market_maker


def test_a_strategys_order_names_its_strategy() -> None:
    """The strategy's name is stored with the order."""
    bought = strategy_entry(
        TABLE,
        account="main",
        request_id="run",
        symbol="BTC-USD",
        linkage=Linkage(trigger="roc_momo"),
        now=NOW,
        bid=Decimal(9),
        ask=Decimal(10),
        asked_by="strategy weighted",
    )
    assert (bought.asked_by, bought.entry_point, bought.limit_price) == ("strategy weighted", "strategy", Decimal(9))


def test_settings_take_no_rule_that_no_trade_could_carry() -> None:
    """Settings with more re-pricings than an exit's rules allow are refused when they are set, not at each entry."""
    assert triggers_of(Settings.model_validate({"exits": {"max_reprices": 50}}))["manual"].exits.max_reprices == 50
    with pytest.raises(ValueError, match="max_reprices"):
        Settings.model_validate({"exits": {"max_reprices": 51}})
