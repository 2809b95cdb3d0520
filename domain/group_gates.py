"""Gates of limits that a strategy or a trigger has for itself, and of the account's limit of open trades (RISK-8).

A gate whose limit is not set has nothing to check and leaves no result.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from domain.gate_facts import UNKNOWN, Ask, Facts, GateResult, failed, passed
from domain.gate_names import GateName
from domain.limit_groups import GroupKind, GroupUse, group_loss_sentence
from domain.money import EXACT

__all__ = [
    "account_open_trades",
    "strategy_budget",
    "strategy_daily_loss",
    "strategy_halted",
    "strategy_open_trades",
    "trigger_budget",
    "trigger_daily_loss",
    "trigger_halted",
    "trigger_open_trades",
]

_Check = Callable[[Facts, GroupUse], GateResult | None]


def account_open_trades(facts: Facts) -> GateResult | None:
    """A limit on the number of the account's open trades, entries that may become one among them."""
    name, limit = GateName.MAX_OPEN_TRADES, facts.limits.max_open_trades
    if limit == 0:
        return None
    numbers: dict[str, object] = {"open_trades": facts.open_trades, "limit": limit}
    if facts.open_trades >= limit:
        sentence = f"the account has {facts.open_trades} open trades and entries, the limit is {limit}"
        return failed(name, sentence, **numbers)
    return passed(name, **numbers)


def strategy_halted(facts: Facts) -> GateResult | None:
    """A person or its daily loss has halted the strategy's entries."""
    return _of(GroupKind.STRATEGY, facts, lambda facts, use: _halted(GateName.STRATEGY_HALTED, use))


def trigger_halted(facts: Facts) -> GateResult | None:
    """A person or its daily loss has halted the trigger's entries."""
    return _of(GroupKind.TRIGGER, facts, lambda facts, use: _halted(GateName.TRIGGER_HALTED, use))


def strategy_open_trades(facts: Facts) -> GateResult | None:
    """A limit on the number of the strategy's open trades, entries that may become one among them."""
    return _of(GroupKind.STRATEGY, facts, lambda facts, use: _open_trades(GateName.STRATEGY_OPEN_TRADES, use))


def trigger_open_trades(facts: Facts) -> GateResult | None:
    """A limit on the number of the trigger's open trades, entries that may become one among them."""
    return _of(GroupKind.TRIGGER, facts, lambda facts, use: _open_trades(GateName.TRIGGER_OPEN_TRADES, use))


def strategy_budget(facts: Facts) -> GateResult | None:
    """The strategy's open trades, its open entries and this one cost no more than its budget."""
    return _of(GroupKind.STRATEGY, facts, lambda facts, use: _budget(GateName.STRATEGY_BUDGET, facts, use))


def trigger_budget(facts: Facts) -> GateResult | None:
    """The trigger's open trades, its open entries and this one cost no more than its budget."""
    return _of(GroupKind.TRIGGER, facts, lambda facts, use: _budget(GateName.TRIGGER_BUDGET, facts, use))


def strategy_daily_loss(facts: Facts) -> GateResult | None:
    """The strategy's trades closed today have not lost more than its daily limit."""
    return _of(GroupKind.STRATEGY, facts, lambda facts, use: _daily_loss(GateName.STRATEGY_DAILY_LOSS, use))


def trigger_daily_loss(facts: Facts) -> GateResult | None:
    """The trigger's trades closed today have not lost more than its daily limit."""
    return _of(GroupKind.TRIGGER, facts, lambda facts, use: _daily_loss(GateName.TRIGGER_DAILY_LOSS, use))


def _of(kind: GroupKind, facts: Facts, check: _Check) -> GateResult | None:
    """The check of the entry's group of this kind; None without such a group."""
    return next((check(facts, use) for use in facts.groups if use.group.kind is kind), None)


def _halted(name: GateName, use: GroupUse) -> GateResult:
    group = use.group
    numbers: dict[str, object] = {group.kind.value: group.name, "halted": use.halted}
    if use.halted:
        sentence = f"entries of {group.subject} are halted by {use.halted_by or 'an unknown person'}"
        return failed(name, sentence, **numbers)
    return passed(name, **numbers)


def _open_trades(name: GateName, use: GroupUse) -> GateResult | None:
    group, limit = use.group, use.group.limits.open_trades
    if limit == 0:
        return None
    numbers: dict[str, object] = {group.kind.value: group.name, "open_trades": use.open_trades, "limit": limit}
    if use.open_trades >= limit:
        sentence = f"{group.subject} has {use.open_trades} open trades and entries, its limit is {limit}"
        return failed(name, sentence, **numbers)
    return passed(name, **numbers)


def _budget(name: GateName, facts: Facts, use: GroupUse) -> GateResult | None:
    group, budget = use.group, use.group.limits.budget
    if budget == 0:
        return None
    numbers: dict[str, object] = {group.kind.value: group.name, "budget": budget}
    quote = facts.product.quote if facts.product else "quote currency"
    unknown = use.without_rate or (() if facts.own_rate is not None else (quote,))
    if unknown or facts.own_rate is None:
        currencies = ", ".join(unknown)
        sentence = (
            f"it is not known how much of its budget {group.subject} has open: the exchange gives no rate for "
            f"{currencies}"
        )
        return failed(name, sentence, Ask.RATES, **numbers, open=UNKNOWN, without_rate=currencies)
    needed = EXACT.multiply(facts.needed_quote, facts.own_rate)
    numbers |= {"open": use.open_money, "this": needed}
    if use.open_money + needed <= budget:
        return passed(name, **numbers)
    sentence = (
        f"{group.subject} has {_cents(use.open_money)} of its {_cents(budget)} {facts.own_currency} open, "
        f"this order needs {_cents(needed)}"
    )
    return failed(name, sentence, **numbers)


def _daily_loss(name: GateName, use: GroupUse) -> GateResult | None:
    group, limit = use.group, use.group.limits.daily_loss
    if limit == 0:
        return None
    pnl, unpriced = use.results.day_pnl, ", ".join(sorted(set(use.results.unpriced)))
    numbers: dict[str, object] = {group.kind.value: group.name, "limit": limit}
    if unpriced:
        sentence = (
            f"today's result of {group.subject} is not known: the exchange gives no rate for its closed trades in "
            f"{unpriced} and is asked again at the next entry; a resume restarts its count"
        )
        return failed(name, sentence, Ask.RATES, **numbers, pnl=UNKNOWN, pnl_of_others=pnl, without_rate=unpriced)
    numbers["pnl"] = pnl
    if sentence := group_loss_sentence(use):
        return failed(name, sentence, **numbers)
    return passed(name, **numbers)


def _cents(amount: Decimal) -> str:
    return f"{amount:.2f}"
