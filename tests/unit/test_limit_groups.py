"""Limits of strategies and triggers: whose they are, what counts, and that nobody else's does."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.gate_facts import Facts, Limits, Reserved
from domain.gates import ATTEMPT_GATES, ENTRY_GATES, EXIT_GATES, first_refusal, run_gates, with_admitted
from domain.limit_groups import GroupKind, GroupLimits, GroupUse, LimitGroup, groups_of, money_in
from tests.support.intents import linkage, market_buy
from tests.unit.test_gates import FINE, SELLING
from workers.settings import Settings, build
from workers.settings.changes import propose
from workers.settings.problems import ConfigError
from workers.settings.sources import SettingSources
from workers.settings.values import limit_groups, triggers_of

OWNER = {"dip": ("rsi_oversold", "bb_squeeze"), "trend": ("macd_cross",)}
TRIGGERS = [trigger for names in OWNER.values() for trigger in names]


def group(name: str, *triggers: str, kind: GroupKind = GroupKind.STRATEGY, **limits: Any) -> LimitGroup:
    """A group with these limits."""
    return LimitGroup(kind, name, frozenset(triggers), GroupLimits(**limits))


def settings(**risk: Any) -> Settings:
    """Settings with these limits."""
    return build(SettingSources(from_file={"risk": risk}))


def facts_of(trigger: str, needed: Decimal, groups: tuple[LimitGroup, ...]) -> Facts:
    """An entry by a trigger with a balance that is always enough, of groups that have nothing open."""
    return replace(
        FINE,
        intent=market_buy("main", "0.01", linkage=linkage(trigger)),
        needed_quote=needed,
        available_quote=Decimal(10**9),
        limits=Limits(max_position=Decimal(1), max_open_buys=10**6),
        groups=tuple(GroupUse(each) for each in groups_of(groups, trigger)),
    )


@given(
    st.lists(st.tuples(st.sampled_from(TRIGGERS), st.integers(1, 300)), max_size=30),
    st.integers(1, 900),
    st.integers(1, 900),
    st.integers(1, 12),
)
def test_two_strategies_on_one_account_never_mix_budgets(
    wanted: list[tuple[str, int]], dips: int, trends: int, slots: int
) -> None:
    """Whatever comes in which order: each strategy's admitted sum and number stay within its own limits, and each is
    decided as if the other strategy did not exist."""
    budgets = {"dip": Decimal(dips), "trend": Decimal(trends)}
    groups = tuple(group(name, *OWNER[name], budget=budgets[name], open_trades=slots) for name in OWNER)
    admitted: list[Reserved] = []
    for trigger, needed in wanted:
        facts = facts_of(trigger, Decimal(needed), groups)
        (owner,) = (name for name, triggers in OWNER.items() if trigger in triggers)
        own = [each for each in admitted if each.trigger in OWNER[owner]]
        passed = first_refusal(run_gates(ENTRY_GATES, with_admitted(facts, admitted))) is None
        assert passed == (first_refusal(run_gates(ENTRY_GATES, with_admitted(facts, own))) is None)
        assert passed == (sum(each.quote for each in own) + needed <= budgets[owner] and len(own) < slots)
        if passed:
            admitted.append(Reserved("BTC-USD", Decimal(needed), trigger))


def test_an_entry_is_held_to_its_strategys_limits_and_its_triggers() -> None:
    """The strategy that has the trigger comes first; a trigger without limits can be halted all the same."""
    dip, rsi = group("dip", "rsi_oversold", "bb_squeeze"), group("rsi_oversold", "rsi_oversold", kind=GroupKind.TRIGGER)
    known = (rsi, dip, group("trend", "macd_cross"))
    assert groups_of(known, "rsi_oversold") == (dip, rsi)
    assert groups_of(known, "bb_squeeze") == (dip, group("bb_squeeze", "bb_squeeze", kind=GroupKind.TRIGGER))
    assert [each.subject for each in groups_of(known, "webhook")] == ["trigger webhook"]


@given(st.dictionaries(st.sampled_from(["USD", "EUR", "BTC"]), st.decimals(0, 1000, places=2)))
def test_money_without_a_rate_is_named_and_never_counted_as_one(amounts: dict[str, Decimal]) -> None:
    """What has a rate is converted by it; what has none is in no sum."""
    rates = {"USD": Decimal(1), "EUR": Decimal("1.1")}
    money, without = money_in(amounts, rates)
    assert money == amounts.get("USD", 0) + amounts.get("EUR", 0) * Decimal("1.1")
    assert without == (("BTC",) if amounts.get("BTC") else ())


def test_a_budget_counts_in_the_accounts_own_currency() -> None:
    """An entry that pays in another currency needs its worth by the rate, and is refused while that isn't known."""
    facts = facts_of("macd_cross", Decimal(100), (group("trend", "macd_cross", budget=Decimal(105)),))
    assert first_refusal(run_gates(ENTRY_GATES, facts)) is None
    refusal = first_refusal(run_gates(ENTRY_GATES, replace(facts, own_rate=Decimal("1.1"))))
    assert refusal is not None
    assert "0.00 of its 105.00 USD open, this order needs 110.00" in refusal.sentence
    unknown = first_refusal(run_gates(ENTRY_GATES, replace(facts, own_rate=None)))
    assert unknown is not None
    assert (unknown.gate, unknown.numbers["open"]) == ("SKIP_STRATEGY_BUDGET", "not known")


def test_a_gate_without_such_a_limit_leaves_no_result() -> None:
    """An account without limits of this kind stores no row for them."""
    bare = replace(FINE, groups=(), limits=Limits())
    names = [result.gate for result in run_gates(ENTRY_GATES, bare)]
    assert not [name for name in names if "STRATEGY" in name or "TRIGGER" in name or name == "SKIP_MAX_OPEN_TRADES"]
    assert "SKIP_MAX_OPEN_ORDERS" in names


def test_a_halt_of_a_strategy_stops_further_attempts_and_no_exit() -> None:
    """An entry that has to be sent again is refused; exits never look."""
    halted = (GroupUse(group("dip", "rsi_oversold"), halted=True, halted_by="ann"),)
    refusal = first_refusal(run_gates(ATTEMPT_GATES, replace(FINE, groups=halted)))
    assert refusal is not None
    assert refusal.gate == "SKIP_STRATEGY_HALTED"
    assert first_refusal(run_gates(EXIT_GATES, replace(SELLING, groups=halted))) is None


# --- settings --------------------------------------------------------------------------------------------------------


def test_limits_of_the_settings() -> None:
    """Strategies come before triggers; what is not given is no limit."""
    found = limit_groups(
        settings(
            triggers={"macd_cross": {"max_open_trades": 2}},
            strategies={"dip": {"triggers": ["rsi_oversold", "bb_squeeze"], "budget": "500", "daily_loss_limit": 50}},
        )
    )
    assert found == (
        group("dip", "rsi_oversold", "bb_squeeze", budget=Decimal(500), daily_loss=Decimal(50)),
        group("macd_cross", "macd_cross", kind=GroupKind.TRIGGER, open_trades=2),
    )


@pytest.mark.parametrize(
    ("risk", "says"),
    [
        (
            {"strategies": {"dip": {"triggers": ["rsi_oversold", "macd_cross"], "budget": 120}}},
            "strategies.dip.budget must be more than triggers.macd_cross.size_quote: it has no room for one such order",
        ),
        (
            {"triggers": {"rsi_oversold": {"budget": "99.99"}}},
            "risk.triggers.rsi_oversold.budget must be more than triggers.rsi_oversold.size_quote",
        ),
        (
            {"strategies": {"dip": {"triggers": ["nosuch"]}}},
            "strategies.dip.triggers[0] needs a row in [triggers]",
        ),
        ({"triggers": {"nosuch": {"budget": 1}}}, "risk.triggers.nosuch needs a row in [triggers]"),
        (
            {"strategies": {"dip": {"triggers": ["rsi_oversold"]}, "trend": {"triggers": ["rsi_oversold"]}}},
            "risk.strategies.trend.triggers[0] is a trigger of risk.strategies.dip, too: leave it to one strategy",
        ),
        ({"strategies": {"dip": {"budget": 500}}}, "risk.strategies.dip.triggers is missing"),
        ({"strategies": {"dip": {"triggers": []}}}, "risk.strategies.dip.triggers: "),
        (
            {"strategies": {"dip": {"triggers": ["rsi_oversold"], "budget": -1}}},
            "strategies.dip.budget: must be at",
        ),
        ({"strategies": {"dip": {"triggers": ["rsi_oversold"], "bugdet": 1}}}, "did you mean budget?"),
        ({"max_open_trades": -1}, "risk.max_open_trades: must be at least 0"),
    ],
)
def test_a_wrong_limit_gets_one_clear_sentence(risk: dict[str, Any], says: str) -> None:
    """A budget below one order, a trigger that nothing buys by or that two strategies have, and what is no number."""
    with pytest.raises(ConfigError) as refused:
        settings(**risk)
    (sentence,) = refused.value.problems
    assert says in sentence


def test_a_share_of_the_account_is_one_of_three_kinds_of_size() -> None:
    """It replaces a size below it and is replaced by one above it; beside another, and for quotes, it is refused."""
    sources = SettingSources(from_file={"triggers": {"rsi_oversold": {"size_pct": 5}, "mine": {"size_base": 1}}})
    assert triggers_of(build(sources))["rsi_oversold"].size_share == Decimal("0.05")
    changed = propose(sources, "triggers.mine.size_pct", ["2.5"]).after.triggers["mine"]
    assert (changed.size_base, changed.size_pct) == (None, Decimal("2.5"))
    back = propose(sources, "triggers.rsi_oversold.size_quote", ["80"])
    assert (back.after.triggers["rsi_oversold"].size_pct, back.replaces) == (
        None,
        ("triggers.rsi_oversold.size_base", "triggers.rsi_oversold.size_pct"),
    )
    for wrong, says in (
        ({"mine": {"size_pct": 5, "size_quote": 5}}, "exactly one of size_quote, size_base and size_pct"),
        ({"mine": {"size_pct": 101}}, "must be less than or equal to 100"),
        ({"passive_mm": {"size_pct": 5}}, "triggers.passive_mm.size_pct can't be used: quotes have a size_quote"),
    ):
        with pytest.raises(ConfigError) as refused:
            build(SettingSources(from_file={"triggers": wrong}))
        (sentence,) = refused.value.problems
        assert says in sentence
