"""When two intents are the same, and who handed one in."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from domain.exits import ExitReason, ExitRules
from domain.intents import (
    as_entered,
    monitor_exit,
    must_leave,
    protective_exit,
    quote_ask,
    same_intent,
    sell_key,
    sell_of_size,
)
from domain.messages import CloseRequest, ExitDue, Linkage, MonitorStart, OrderIntent
from domain.orders import EntryPoint, OrderRole, OrderType, Side, TimeInForce
from domain.protection import ProtectionRole
from tests.support.intents import limit_buy, market_buy, sell


@pytest.mark.parametrize(
    "change",
    [
        {"rules": ExitRules(hard_stop=Decimal("0.04"))},
        {"rules": ExitRules(take_profit=Decimal("0.03"))},
        {"rules": ExitRules(signal_exit=False)},
        {"expires_after": Decimal(300)},
        {"limit_price": Decimal(49_000)},
    ],
)
def test_other_content_is_another_intent(change: dict[str, Any]) -> None:
    """Exit rules and expiry are part of the request, like size and price."""
    asked = limit_buy("main", "0.1", "50000", request_id="once")
    assert not same_intent(asked, asked.model_copy(update=change))


def test_the_same_number_written_otherwise_is_the_same_intent() -> None:
    """0.05 and 0.050 are the same stop, and a rule may be given as its default or left out."""
    asked = limit_buy("main", "0.1", "50000", request_id="once")
    assert same_intent(asked, asked.model_copy(update={"rules": ExitRules(hard_stop=Decimal("0.050"))}))
    tight = asked.model_copy(update={"rules": ExitRules(hard_stop=Decimal("0.04"))})
    assert same_intent(tight, asked.model_copy(update={"rules": ExitRules(hard_stop=Decimal("0.040"))}))


def test_an_exit_is_the_same_whatever_the_rules() -> None:
    """The rules never prevent a trade's own exit from being requested again."""
    asked = sell("main", "0.1", entry_key="0" * 32, request_id="once")
    assert same_intent(asked, asked.model_copy(update={"rules": ExitRules(max_reprices=9)}))


def test_the_fee_rate_is_no_part_of_what_was_asked_for() -> None:
    """An entry requested again after a change of the account's rate is the same entry."""
    asked = limit_buy("main", "0.1", "50000", request_id="once")
    assert same_intent(asked, asked.model_copy(update={"rules": ExitRules(taker_rate=Decimal("0.004"))}))


def test_what_a_person_entered_has_no_signal_exit_unless_asked_for() -> None:
    """The strategy's entries follow their rules; a person's have a signal exit only if the message asks for it."""
    ours = limit_buy("main", "0.1", "50000", request_id="once")
    theirs = ours.model_copy(update={"entry_point": "manual"})
    asked = theirs.model_copy(update={"signal_exit": True})
    assert [as_entered(item).rules.signal_exit for item in (ours, theirs, asked)] == [True, False, True]
    assert as_entered(as_entered(theirs)) == as_entered(theirs)


@pytest.mark.parametrize(
    ("word", "by_hand", "by_market_maker", "by_monitor"),
    [
        ("manual", True, False, False),
        ("passive_mm", False, True, False),
        ("exit", False, False, True),
        ("webhook", False, False, False),
        ("strategy", False, False, False),
        ("protection", False, False, False),
        ("demo", False, False, False),
        ("another program's", False, False, False),
    ],
)
def test_the_stored_word_says_who_handed_an_order_in(
    word: str, by_hand: bool, by_market_maker: bool, by_monitor: bool
) -> None:
    """Each word in the ledger and in saved histories has its meaning, and is the same in other processes."""
    intent = market_buy("main", entry_point=word)
    assert (intent.by_hand, intent.by_market_maker, intent.by_monitor) == (by_hand, by_market_maker, by_monitor)
    assert OrderIntent.model_validate_json(intent.model_dump_json()) == intent


def test_an_entry_point_is_sent_as_its_stored_word() -> None:
    """The word itself is written, so that older workers and the ledger's statements can read it."""
    for point in EntryPoint:
        sent = market_buy("main", entry_point=point)
        assert sent.model_dump(mode="json")["entry_point"] == point.value
        assert f'"entry_point":"{point.value}"' in sent.model_dump_json()
        assert type(OrderIntent.model_validate_json(sent.model_dump_json()).entry_point) is str


START = MonitorStart(
    entry_key="e" * 32,
    account="main",
    symbol="BTC-USD",
    snapshot_id="5b4ba2b6-1d7b-4f27-a1e5-6c9d3f1d0c11",
    rules=ExitRules(hard_stop=Decimal("0.04")),
)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
CLOSE = CloseRequest(request_id="c1", by="ann", command="c1/x")


@pytest.mark.parametrize(
    ("reason", "kind", "by", "command"),
    [
        (ExitReason.HARD_STOP, OrderType.MARKET, "", ""),
        (ExitReason.SOFT_STOP, OrderType.LIMIT, "", ""),
        (ExitReason.TRAILING_STOP, OrderType.LIMIT, "", ""),
        (ExitReason.TP, OrderType.LIMIT, "", ""),
        (ExitReason.SIGNAL_EXIT, OrderType.LIMIT, "", ""),
        (ExitReason.MANUAL, OrderType.MARKET, "ann", "c1/x"),
    ],
)
def test_a_monitors_exit_sells_the_trade_by_its_reason(
    reason: ExitReason, kind: OrderType, by: str, command: str
) -> None:
    """Hard stop and close are MARKET, everything else is limit, and only a close's exit names who requested it."""
    due = ExitDue(reason=reason, price=Decimal(99), at=NOW)
    leg = monitor_exit(START, reason, 3, due=due, close=CLOSE)
    assert (leg.side, leg.role, leg.order_type, leg.base_size) == (Side.SELL, OrderRole.EXIT, kind, None)
    assert (leg.entry_key, leg.exit_reason, leg.leg, leg.rules) == (START.entry_key, reason, 3, START.rules)
    assert (leg.trigger_price, leg.due_at) == (Decimal(99), NOW)
    assert (leg.asked_by, leg.command) == (by, command)
    assert (leg.linkage.trigger, leg.linkage.snapshot_id) == (reason.value, START.snapshot_id)
    assert leg.by_monitor


@pytest.mark.parametrize(
    ("bracket", "kind", "role"),
    [(False, OrderType.STOP_LIMIT, ProtectionRole.STOP_LOSS), (True, OrderType.BRACKET, ProtectionRole.OCO)],
)
def test_what_protects_rests_for_its_trade(bracket: bool, kind: OrderType, role: ProtectionRole) -> None:
    """A stop-limit or a bracket is a hard stop of its trade that rests at the exchange; it is not an urgent exit."""
    rests = protective_exit(
        START, 2, bracket=bracket, stop_price=Decimal(90), limit_price=Decimal(89), rules=ExitRules()
    )
    assert (rests.order_type, rests.protection_role, rests.exit_reason) == (kind, role, ExitReason.HARD_STOP)
    assert (rests.stop_price, rests.trigger_price, rests.limit_price) == (Decimal(90), Decimal(90), Decimal(89))
    assert not must_leave(rests)


def sold(entry_key: str | None = None, limit_price: Decimal | None = None) -> OrderIntent:
    """A person sells 0.5."""
    return sell_of_size(
        entry_point=EntryPoint.MANUAL,
        account="main",
        request_id="r",
        symbol="BTC-USD",
        entry_key=entry_key,
        size=Decimal("0.5"),
        limit_price=limit_price,
        time_in_force=TimeInForce.IOC,
        source="manual",
        valid_until=NOW,
        asked_by="ann",
    )


def test_a_sell_of_a_size_is_of_a_trade_or_of_the_pool() -> None:
    """One request may sell once from each trade and once from the pool; without a price it is MARKET."""
    pool, trade = sold(), sold("e" * 32, Decimal(100))
    assert (pool.entry_key, pool.order_type, pool.limit_price) == (None, OrderType.MARKET, None)
    assert (trade.entry_key, trade.order_type, trade.limit_price) == ("e" * 32, OrderType.LIMIT, Decimal(100))
    assert pool.order_key != trade.order_key
    assert (pool.exit_reason, pool.linkage.trigger, pool.by_hand) == (ExitReason.MANUAL, "MANUAL", True)


def test_an_ask_is_post_only_and_expires_at_the_exchange() -> None:
    """The market maker's sell takes nothing, and is not an exit."""
    ask = quote_ask(
        account="main",
        request_id="s",
        symbol="BTC-USD",
        entry_key="t",
        size=Decimal(1),
        price=Decimal(101),
        expires_after=Decimal(60),
        valid_until=NOW,
        linkage=Linkage(trigger="passive_mm"),
    )
    assert (ask.order_type, ask.post_only, ask.time_in_force) == (OrderType.LIMIT, True, TimeInForce.GTD)
    assert (ask.expires_after, ask.limit_price, ask.trigger_price) == (Decimal(60), Decimal(101), Decimal(101))
    assert ask.by_market_maker
    assert not must_leave(ask)


def test_keys_of_sells_are_those_of_before() -> None:
    """A sell started by an earlier release has the same key."""
    asked = sell_key(EntryPoint.MARKET_MAKER, "main", "s", "BTC-USD", "t")
    rests = protective_exit(START, 2, bracket=False, stop_price=None, limit_price=None, rules=ExitRules())
    keys = [sold().order_key, monitor_exit(START, ExitReason.TP, 3, due=None, close=None).order_key]
    assert [*keys, rests.order_key, asked] == [
        "339f6de7631d5437a7c776f5ae26ceb9",
        "8a008e0c30535d3d96f320ac2090ea4c",
        "d03e681c1c405116810708681ecb7516",
        "821ae3b962ee5ec99da7b9abea237b58",
    ]
