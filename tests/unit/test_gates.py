"""Gates: the first that fails decides, with its numbers and one sentence that a person can act on."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.gate_facts import AHEAD_SECONDS, Ask, Facts, Limits, MarketFacts, Reserved
from domain.gate_names import GateName
from domain.gates import ENTRY_GATES, EXIT_GATES, first_refusal, never_sold, reservation, run_gates, with_admitted
from domain.limit_groups import GroupKind, GroupLimits, GroupUse, LimitGroup
from domain.limits import Results, breach_of, losing_streak
from domain.market import Product
from domain.messages import IndicatorPart, Linkage
from tests.support.intents import limit_buy, market_buy, sell

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BTC = Product(
    symbol="BTC-USD",
    base="BTC",
    quote="USD",
    base_increment=Decimal("0.00000001"),
    quote_increment=Decimal("0.01"),
    price_increment=Decimal("0.01"),
    base_min=Decimal("0.0001"),
    base_max=Decimal(3400),
    quote_min=Decimal(1),
    quote_max=Decimal(1_000_000),
)
GROUP_LIMITS = GroupLimits(budget=Decimal(1000), open_trades=3, daily_loss=Decimal(100))
DIP = LimitGroup(GroupKind.STRATEGY, "dip", frozenset({"rsi_oversold", "bb_squeeze"}), GROUP_LIMITS)
RSI = LimitGroup(GroupKind.TRIGGER, "rsi_oversold", frozenset({"rsi_oversold"}), GROUP_LIMITS)
FINE = Facts(
    intent=market_buy("main", "0.01"),
    now=NOW,
    product=BTC,
    price=Decimal(50_000),
    size=Decimal("0.01"),
    available_quote=Decimal(1000),
    needed_quote=Decimal(503),
    market=MarketFacts(Decimal(49_999), Decimal(50_001), NOW - timedelta(seconds=1), Decimal("0.02")),
    account_worth=Decimal(10_000),
    limits=Limits(max_open_trades=10),
    groups=(GroupUse(DIP), GroupUse(RSI)),
)
UNSIGNED = Linkage(trigger="rsi_oversold")
SELLING = Facts(
    intent=sell("main", "0.01", entry_key="0" * 32),
    now=NOW,
    product=BTC,
    price=Decimal(50_000),
    size=Decimal("0.01"),
    available_base=Decimal("0.01"),
)


def used(of: LimitGroup, **what: Any) -> dict[str, Any]:
    """The groups of FINE, of which one uses this much."""
    return {"groups": tuple(replace(use, **what) if use.group is of else use for use in FINE.groups)}


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("SKIP_TRADING_HALTED", {"halted": True, "halted_by": "ann: a holiday"}, "halted by ann: a holiday"),
    ("SKIP_STRATEGY_HALTED", used(DIP, halted=True, halted_by="ann: bad luck"), "strategy dip are halted by ann: bad"),
    ("SKIP_TRIGGER_HALTED", used(RSI, halted=True), "trigger rsi_oversold are halted by an unknown person"),
    ("UNKNOWN_SYMBOL", {"product": None}, "BTC-USD"),
    ("VENUE_HALTED", {"product": replace(BTC, halted=True)}, "not open for trading"),
    ("VENUE_HALTED", {"product": replace(BTC, cancel_only=True)}, "cancel-only"),
    ("DECISION_EXPIRED", {"intent": market_buy("main", valid_until=NOW - timedelta(seconds=1))}, "valid until"),
    ("SKIP_DISABLED_TRADE", {"disabled": "it is switched off"}, "switched off"),
    ("SKIP_INVALID_TRADE_AMOUNT", {"intent": market_buy("main", "-1")}, "not -1"),
    ("SKIP_INVALID_TRADE_AMOUNT", {"intent": market_buy("main", base_size=None)}, "neither"),
    ("SKIP_INVALID_TRADE_AMOUNT", {"intent": market_buy("main", quote_size=Decimal(5))}, "both"),
    ("SKIP_NO_SIGNAL", {"intent": market_buy("main", linkage=UNSIGNED)}, "rsi_oversold has neither"),
    ("SKIP_BLACKLISTED", {"blocked": True}, "block list"),
    ("INVALID_PRICE", {"intent": limit_buy("main", "0.01", "50000.005", entry_point="manual")}, "50000 and 50000.01"),
    ("SKIP_NO_PRICE", {"price": None}, "no price"),
    ("SKIP_MARKET_DATA_STALE", {"market": replace(FINE.market, at=NOW - timedelta(seconds=121))}, "121 s old"),
    ("SKIP_MARKET_DATA_STALE", {"market": MarketFacts()}, "no market data"),
    ("SKIP_SPREAD_TOO_WIDE", {"market": replace(FINE.market, ask=Decimal(51_000))}, "1.98 %"),
    ("SKIP_SPREAD_TOO_WIDE", {"market": replace(FINE.market, bid=None)}, "not known"),
    ("SKIP_RED_DAY", {"market": replace(FINE.market, change_24h=Decimal("-0.031"))}, "fell by 3.10 %"),
    ("SKIP_RED_DAY", {"market": replace(FINE.market, change_24h=None)}, "not known"),
    ("BELOW_MINIMUM_SIZE", {"size": Decimal("0.00001")}, "0.0001"),
    ("ABOVE_MAXIMUM_SIZE", {"size": Decimal(5000)}, "3400"),
    ("INVALID_SIZE", {"intent": market_buy("main", "0.0100000009", entry_point="manual")}, "0.01 and 0.01000001"),
    ("SKIP_MAX_OPEN_ORDERS", {"open_buys": 3}, "limit is 3"),
    ("SKIP_MAX_OPEN_TRADES", {"open_trades": 10}, "the account has 10 open trades and entries, the limit is 10"),
    (
        "SKIP_STRATEGY_OPEN_TRADES",
        used(DIP, open_trades=3),
        "strategy dip has 3 open trades and entries, its limit is 3",
    ),
    ("SKIP_TRIGGER_OPEN_TRADES", used(RSI, open_trades=4), "trigger rsi_oversold has 4 open trades"),
    ("SKIP_POSITION_TOO_LARGE", {"held_value": Decimal(400), "open_buys_value": Decimal(98)}, "the limit is 1000.00"),
    (
        "SKIP_STRATEGY_BUDGET",
        used(DIP, open_money=Decimal(480)) | {"needed_quote": Decimal("520.5")},
        "strategy dip has 480.00 of its 1000.00 USD open, this order needs 520.50",
    ),
    ("SKIP_TRIGGER_BUDGET", used(RSI, open_money=Decimal("497.01")), "497.01 of its 1000.00 USD open"),
    ("SKIP_DAILY_LOSS_LIMIT", {"results": Results(day_pnl=Decimal(-500))}, "lost 500.00"),
    ("SKIP_STRATEGY_DAILY_LOSS", used(DIP, results=Results(day_pnl=Decimal(-100))), "strategy dip has lost 100.00"),
    ("SKIP_TRIGGER_DAILY_LOSS", used(RSI, results=Results(day_pnl=Decimal("-100.5"))), "rsi_oversold has lost 100.50"),
    ("SKIP_CIRCUIT_BREAKER", {"results": Results(losing_streak=5)}, "last 5 closed trades lost"),
    ("INSUFFICIENT_BALANCE", {"available_quote": Decimal(502)}, "503"),
    ("DRY_RUN", {"intent": market_buy("main", dry_run=True)}, "dry run"),
]
ORDER = [gate for number, (gate, _, _) in enumerate(BROKEN) if gate not in [g for g, _, _ in BROKEN[:number]]]


def test_what_is_fine_passes_every_gate() -> None:
    """An entry without objections is admitted, and every gate has stored its result."""
    results = run_gates(ENTRY_GATES, FINE)
    assert first_refusal(results) is None
    assert len(results) == len(ENTRY_GATES)


@pytest.mark.parametrize(("gate", "broken", "says"), BROKEN)
def test_each_gate_stops_what_it_is_for(gate: str, broken: dict[str, Any], says: str) -> None:
    """A refusal has the gate's name and a sentence with the decisive value."""
    results = run_gates(ENTRY_GATES, replace(FINE, **broken))
    refusal = first_refusal(results)
    assert refusal is not None
    assert refusal.gate == gate
    assert says in refusal.sentence
    assert all(result.passed for result in results[:-1])


@given(st.sets(st.integers(min_value=0, max_value=len(BROKEN) - 1), min_size=1))
def test_the_first_failing_gate_wins(chosen: set[int]) -> None:
    """However much is wrong, the refusal is that of the first failing gate, and later gates don't run."""
    together: dict[str, Any] = {}
    for number in sorted(chosen, reverse=True):
        together |= BROKEN[number][1]
    refusal = first_refusal(run_gates(ENTRY_GATES, replace(FINE, **together)))
    assert refusal is not None
    left = [number for number in chosen if survives(number, chosen)]
    assert ORDER.index(refusal.gate) == min(ORDER.index(BROKEN[number][0]) for number in left)


def survives(number: int, chosen: set[int]) -> bool:
    """Whether the fault remains when all the chosen ones are combined: the earlier one has its field.

    A wrong rounded size isn't checked if a person's intent has its own, nor do market gates stop a person.
    """
    mine = set(BROKEN[number][1])
    typed = any(
        BROKEN[other][1].get("intent", FINE.intent).entry_point == "manual" and survives(other, chosen)
        for other in chosen
        if mine & {"size", "market"}
    )
    return not typed and not any(mine & set(BROKEN[other][1]) for other in chosen if other < number)


@pytest.mark.parametrize(
    "odd",
    [
        {"market": MarketFacts()},
        {"market": replace(FINE.market, ask=Decimal(60_000))},
        {"market": replace(FINE.market, change_24h=Decimal("-0.2"))},
        {"market": replace(FINE.market, at=NOW - timedelta(days=1))},
        {"intent": market_buy("main", entry_point="manual", linkage=UNSIGNED)},
    ],
)
def test_what_a_person_orders_passes_the_markets_gates_with_a_note(odd: dict[str, Any]) -> None:
    """A red day, a wide spread, old prices and no signal don't stop a person; the result notes that it was one."""
    by_hand = replace(FINE, intent=market_buy("main", entry_point="manual"))
    results = run_gates(ENTRY_GATES, replace(by_hand, **odd))
    assert first_refusal(results) is None
    assert any(result.numbers.get("note") == "a person's order" for result in results)


@pytest.mark.parametrize(
    ("broken", "gate"),
    [
        ({"disabled": "it is switched off"}, "SKIP_DISABLED_TRADE"),
        ({"halted": True}, "SKIP_TRADING_HALTED"),
        ({"blocked": True}, "SKIP_BLACKLISTED"),
        ({"held_value": Decimal(600)}, "SKIP_POSITION_TOO_LARGE"),
        ({"results": Results(day_pnl=Decimal(-501))}, "SKIP_DAILY_LOSS_LIMIT"),
        ({"results": Results(losing_streak=6)}, "SKIP_CIRCUIT_BREAKER"),
    ],
)
def test_limits_hold_for_a_person_too(broken: dict[str, Any], gate: str) -> None:
    """Lists, halts and limits of account and day stop a person's order as well."""
    by_hand = replace(FINE, intent=market_buy("main", entry_point="manual"))
    refusal = first_refusal(run_gates(ENTRY_GATES, replace(by_hand, **broken)))
    assert refusal is not None
    assert refusal.gate == gate


def test_limits_of_zero_and_a_share_of_everything_are_none() -> None:
    """Without limits nothing is stopped, and red days may be allowed."""
    none = Limits(buy_on_red_day=True, max_position=Decimal(1), daily_loss=Decimal(0), losing_streak=0)
    wild = replace(
        FINE,
        limits=none,
        market=replace(FINE.market, change_24h=Decimal("-0.5")),
        held_value=Decimal(1_000_000),
        results=Results(Decimal(-1_000_000), 1000),
    )
    assert first_refusal(run_gates(ENTRY_GATES, wild)) is None


def test_a_market_makers_breakdown_is_its_signal() -> None:
    """Quotes have no score: spread, fees and fair price are the reason; without them it is missing."""
    parts = {"spread": IndicatorPart(value=Decimal("0.004"))}
    quote = market_buy("main", linkage=Linkage(trigger="passive_mm", indicator_breakdown=parts))
    assert first_refusal(run_gates(ENTRY_GATES, replace(FINE, intent=quote))) is None
    bare = market_buy("main", linkage=Linkage(trigger="passive_mm"))
    refusal = first_refusal(run_gates(ENTRY_GATES, replace(FINE, intent=bare)))
    assert refusal is not None
    assert refusal.gate == "SKIP_NO_SIGNAL"


def test_a_product_in_post_only_mode_takes_no_market_entry() -> None:
    """A taking order is refused with the product's state; a resting post-only entry passes."""
    product = replace(BTC, post_only=True)
    refusal = first_refusal(run_gates(ENTRY_GATES, replace(FINE, product=product)))
    assert refusal is not None
    assert (refusal.gate, refusal.numbers) == ("VENUE_HALTED", {"state": "post-only"})
    resting = limit_buy("main", "0.01", "49000", post_only=True)
    assert first_refusal(run_gates(ENTRY_GATES, replace(FINE, product=product, intent=resting))) is None


@given(st.lists(st.decimals(-100, 100, places=2), max_size=8))
def test_a_losing_streak_ends_at_the_newest_trade_that_did_not_lose(pnls: list[Decimal]) -> None:
    """Counted from the newest trade on; a result of zero is not a loss."""
    streak = losing_streak(pnls)
    assert all(pnl < 0 for pnl in pnls[:streak])
    assert streak == len(pnls) or pnls[streak] >= 0


UNKNOWN: list[tuple[str, dict[str, Any], Ask, str]] = [
    (
        "SKIP_MARKET_DATA_STALE",
        {"market": replace(FINE.market, at=NOW + timedelta(days=2))},
        Ask.TOUCH,
        "172800 s ahead of ours",
    ),
    ("SKIP_SPREAD_TOO_WIDE", {"market": replace(FINE.market, bid=Decimal(50_002))}, Ask.TOUCH, "is crossed (bid 50002"),
    ("SKIP_POSITION_TOO_LARGE", {"account_worth": None}, Ask.BALANCE, "has not reported the balance of USD"),
    ("SKIP_POSITION_TOO_LARGE", {"account_worth": None, "unpriced": ("ETH-USD",)}, Ask.PRICES, "no fresh price of ETH"),
    (
        "SKIP_POSITION_TOO_LARGE",
        {"held_value": None, "unpriced": ("BTC-USD",)},
        Ask.PRICES,
        "no fresh price of BTC-USD",
    ),
    (
        "SKIP_DAILY_LOSS_LIMIT",
        {"results": Results(unpriced=("BTC", "EUR"))},
        Ask.RATES,
        "trades in BTC, EUR is not known",
    ),
    ("SKIP_STRATEGY_BUDGET", used(DIP, without_rate=("EUR",)), Ask.RATES, "the exchange gives no rate for EUR"),
    ("SKIP_TRIGGER_DAILY_LOSS", used(RSI, results=Results(unpriced=("EUR",))), Ask.RATES, "closed trades in EUR"),
    ("INSUFFICIENT_BALANCE", {"available_quote": None}, Ask.BALANCE, "has not reported the balance of USD"),
    (
        "INSUFFICIENT_BALANCE",
        {"available_quote": None, "balance_age": Decimal(259_200)},
        Ask.BALANCE,
        "reported 259200 s ago and is valid for 120 s",
    ),
    ("INSUFFICIENT_BALANCE", {"available_quote": None, "balance_age": Decimal(-86_400)}, Ask.BALANCE, "86400 s ahead"),
]


@pytest.mark.parametrize(("gate", "unknown", "asks", "says"), UNKNOWN)
@pytest.mark.parametrize("entry_point", ["test", "manual"])
def test_what_nobody_knows_refuses_an_entry(
    gate: str, unknown: dict[str, Any], asks: Ask, says: str, entry_point: str
) -> None:
    """Unknown is not zero, one or nothing: the gate refuses, a person's order too, says what is missing and requests
    it."""
    intent = market_buy("main", "0.01", entry_point=entry_point)
    refusal = first_refusal(run_gates(ENTRY_GATES, replace(FINE, intent=intent, **unknown)))
    assert refusal is not None
    assert (refusal.gate, refusal.asks) == (gate, asks)
    assert says in refusal.sentence
    assert refusal.numbers
    assert "not known" in refusal.numbers.values() or "age_s" in refusal.numbers


@given(st.sets(st.integers(0, len(UNKNOWN) - 1)), st.booleans())
def test_an_entry_passes_only_with_everything_known(chosen: set[int], by_hand: bool) -> None:
    """With any fact missing, no entry passes; an exit is stopped by none of them."""
    together: dict[str, Any] = {}
    for number in chosen:
        together |= UNKNOWN[number][1]
    intent = market_buy("main", "0.01", entry_point="manual" if by_hand else "test")
    refusal = first_refusal(run_gates(ENTRY_GATES, replace(FINE, intent=intent, **together)))
    assert (refusal is None) == (not chosen)
    assert refusal is None or refusal.asks is not None
    assert first_refusal(run_gates(EXIT_GATES, replace(SELLING, **together))) is None


@pytest.mark.parametrize("ahead", [Decimal(0), AHEAD_SECONDS])
def test_clocks_may_differ_a_little(ahead: Decimal) -> None:
    """A time ahead of ours within the allowed difference of clocks counts as now."""
    at = NOW + timedelta(seconds=float(ahead))
    results = run_gates(ENTRY_GATES, replace(FINE, market=replace(FINE.market, at=at)))
    assert first_refusal(results) is None
    (stale,) = (result for result in results if result.gate == "SKIP_MARKET_DATA_STALE")
    assert stale.numbers["age_s"] == "0"


def test_what_is_held_for_orders_that_we_do_not_know_is_said() -> None:
    """The refusal has the amount, so that a person finds the order."""
    facts = replace(FINE, available_quote=Decimal(100), held_elsewhere=Decimal(9_900))
    refusal = first_refusal(run_gates(ENTRY_GATES, facts))
    assert refusal is not None
    assert (refusal.gate, refusal.numbers["held_elsewhere"], refusal.asks) == ("INSUFFICIENT_BALANCE", "9900", None)
    assert "9900 are held for unknown orders" in refusal.sentence


def test_a_day_that_is_known_in_part_asks_for_the_rest() -> None:
    """If the known loss is above the limit and a rate is missing, the entry is refused and the rate requested, as the
    rest may have made up for it; such a day halts nobody; without a limit nothing has to be known."""
    lost = Results(day_pnl=Decimal(-501), unpriced=("EUR",))
    refusal = first_refusal(run_gates(ENTRY_GATES, replace(FINE, results=lost)))
    assert refusal is not None
    assert (refusal.gate, refusal.asks) == ("SKIP_DAILY_LOSS_LIMIT", Ask.RATES)
    assert breach_of(lost, Decimal(500), 0) is None
    assert breach_of(replace(lost, unpriced=()), Decimal(500), 0) is not None
    without = replace(FINE, results=lost, limits=Limits(daily_loss=Decimal(0)))
    assert first_refusal(run_gates(ENTRY_GATES, without)) is None


def test_a_sell_needs_something_to_claim() -> None:
    """If the sellable size is unknown, a sell without a trade of its own is refused."""
    refusal = first_refusal(run_gates(EXIT_GATES, replace(SELLING, available_base=None)))
    assert refusal is not None
    assert refusal.gate == "INSUFFICIENT_BALANCE"


@pytest.mark.parametrize(
    "stopped",
    [{"halted": True}, {"blocked": True}, {"open_buys": 99}, {"available_quote": Decimal(0)}],
)
def test_exits_pass_what_stops_entries(stopped: dict[str, Any]) -> None:
    """Neither a halt nor a block list nor limits stop an exit (RISK-1)."""
    assert first_refusal(run_gates(EXIT_GATES, replace(SELLING, **stopped))) is None


@pytest.mark.parametrize(
    ("gate", "broken"),
    [
        ("HODL", {"hodl": True}),
        ("VENUE_HALTED", {"product": replace(BTC, halted=True)}),
        ("BELOW_MINIMUM_SIZE", {"size": Decimal("0.00001")}),
        ("INVALID_SIZE", {"intent": sell("main", "0.0099999999", entry_key="0" * 32, entry_point="manual")}),
        ("INSUFFICIENT_BALANCE", {"available_base": Decimal("0.00999999")}),
    ],
)
def test_what_stops_an_exit(gate: str, broken: dict[str, Any]) -> None:
    """HODL, a closed venue, the minimum size and the available balance, and nothing else."""
    refusal = first_refusal(run_gates(EXIT_GATES, replace(SELLING, **broken)))
    assert refusal is not None
    assert refusal.gate == gate


def test_what_is_worth_too_little_is_stored_with_the_minimum_that_it_missed() -> None:
    """The numbers explain the sentence also if the size is enough and its worth in quote currency isn't."""
    product = replace(BTC, quote_min=Decimal(10))
    facts = replace(FINE, product=product, size=Decimal("0.0001"), price=Decimal(50_000))
    refusal = first_refusal(run_gates(ENTRY_GATES, facts))
    assert refusal is not None
    assert "worth less than the minimum of 10 USD" in refusal.sentence
    assert refusal.numbers["minimum_quote"] == "10"


@pytest.mark.parametrize(
    ("typed", "gate", "says"),
    [
        ("0.000000004", "BELOW_MINIMUM_SIZE", "0.000000004 BTC is below the minimum of 0.0001"),
        ("0.000099999", "BELOW_MINIMUM_SIZE", "0.000099999 BTC is below the minimum of 0.0001"),
        ("0.000100001", "INVALID_SIZE", "the nearest are 0.0001 and 0.00010001"),
    ],
)
def test_a_size_is_spoken_of_as_it_was_typed(typed: str, gate: str, says: str) -> None:
    """A person's size is never changed: it is refused by its own number; a strategy's is rounded down as always."""
    size = Decimal(typed)
    facts = replace(FINE, size=size.quantize(BTC.base_increment, rounding="ROUND_FLOOR"), price=Decimal(50_000))
    refusal = first_refusal(run_gates(ENTRY_GATES, replace(facts, intent=market_buy("m", typed, entry_point="manual"))))
    assert refusal is not None
    assert refusal.gate == gate
    assert says in refusal.sentence
    by_itself = run_gates(ENTRY_GATES, replace(facts, intent=market_buy("m", typed)))
    assert "INVALID_SIZE" not in [result.gate for result in by_itself if not result.passed]


@given(
    st.decimals(min_value="0.0001", max_value=100, places=8, allow_nan=False, allow_infinity=False),
    st.decimals(min_value=1, max_value=100_000, places=2, allow_nan=False, allow_infinity=False),
)
def test_a_reservation_covers_value_and_fee(size: Decimal, price: Decimal) -> None:
    """The reservation of a buy is exactly its highest possible cost."""
    assert reservation(size, price, None, Decimal("0.006")) == size * price * Decimal("1.006")
    assert reservation(None, price, Decimal(100), Decimal("0.006")) == Decimal("100.6")


@given(
    st.lists(st.tuples(st.sampled_from(["BTC-USD", "ETH-USD"]), st.integers(1, 600)), max_size=12),
    st.integers(0, 2000),
    st.integers(1, 4),
)
def test_entries_that_are_decided_together_share_what_there_is(
    wanted: list[tuple[str, int]], available: int, slots: int
) -> None:
    """In order, on the same read: the sums of the admitted ones stay within balance, slots and position."""
    admitted: list[Reserved] = []
    for symbol, needed in wanted:
        facts = replace(
            FINE,
            intent=market_buy("main", "0.01", symbol=symbol),
            limits=Limits(max_open_buys=slots, max_position=Decimal("0.1")),
            available_quote=Decimal(available),
            needed_quote=Decimal(needed),
        )
        alone = run_gates(ENTRY_GATES, facts)
        together = run_gates(ENTRY_GATES, with_admitted(facts, admitted))
        if first_refusal(together) is None:
            assert first_refusal(alone) is None
            admitted.append(Reserved(symbol, Decimal(needed)))
    assert sum(each.quote for each in admitted) <= available
    for symbol in ("BTC-USD", "ETH-USD"):
        own = [each.quote for each in admitted if each.symbol == symbol]
        assert len(own) <= slots
        assert sum(own) <= Decimal(1000)


def test_the_hodl_list_says_the_same_before_there_is_an_intent() -> None:
    """An alert is refused by the gate's own answer, the same as for an exit."""
    facts = replace(FINE, intent=sell("main", "0.01", entry_key="0" * 32), hodl=True)
    refused = first_refusal(run_gates(EXIT_GATES, facts))
    assert refused == never_sold(facts.intent.symbol, listed=True)
    assert never_sold("BTC-USD", listed=False).passed


def test_every_gate_is_explained_and_runs() -> None:
    """The enumeration, the documentation of gates and the gates that can refuse have the same names."""
    page = (Path(__file__).parents[2] / "docs" / "gates.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`([A-Z][A-Z_]{3,})`", page))
    assert {gate.value for gate in GateName} <= explained
    assert {result.gate for gates in (ENTRY_GATES, EXIT_GATES) for result in run_gates(gates, FINE)} <= set(GateName)
