"""Limits that a strategy or a trigger has for itself, beside the account's (RISK-8).

A strategy is a name for some triggers, as the settings say; each trigger may have limits of its own, too. An entry is
held to the limits of its trigger and to those of the strategy that has the trigger. What a group has open, and what it
lost today, follows from the triggers of its orders: so another strategy's orders never count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum

from domain.limits import Results, daily_loss_sentence
from domain.money import EXACT, ZERO, plain

__all__ = [
    "GroupKind",
    "GroupLimits",
    "GroupUse",
    "LimitGroup",
    "group_loss_sentence",
    "groups_of",
    "money_in",
    "with_entry",
]


class GroupKind(StrEnum):
    """What has limits of its own. Stored with a halt, so a name never changes."""

    STRATEGY = "strategy"
    TRIGGER = "trigger"


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """The limits of one group; 0: no limit."""

    budget: Decimal = ZERO
    """The most money in open trades and open entries at once, with fees; in the account's own currency."""
    open_trades: int = 0
    """Open trades, and entries that may become one."""
    daily_loss: Decimal = ZERO
    """Realised loss of a UTC day that halts the group's entries, in the account's own currency."""


@dataclass(frozen=True, slots=True)
class LimitGroup:
    """A strategy or a trigger, with the triggers whose orders are its own and its limits."""

    kind: GroupKind
    name: str
    triggers: frozenset[str]
    limits: GroupLimits = GroupLimits()

    @property
    def subject(self) -> str:
        """How messages name it: `strategy dip`."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class GroupUse:
    """A group with what it uses of its limits. Money in the account's own currency."""

    group: LimitGroup
    halted: bool = False
    halted_by: str = ""
    """By whom, and why if a reason was given."""
    open_trades: int = 0
    open_money: Decimal = ZERO
    """What open trades cost and open entries may still cost, in currencies whose rate is known."""
    without_rate: Sequence[str] = ()
    """Currencies of other open trades and entries; with any, the money is not known."""
    results: Results = field(default_factory=Results)
    """Of the day's trades that closed since a person last resumed the group; its streak is not counted."""


def groups_of(groups: Iterable[LimitGroup], trigger: str) -> tuple[LimitGroup, ...]:
    """The groups whose limits an entry by `trigger` is held to: its strategy if it has one, then the trigger itself,
    which can be halted even if it has no limits.
    """
    found = {group.kind: group for group in groups if trigger in group.triggers}
    found.setdefault(GroupKind.TRIGGER, LimitGroup(GroupKind.TRIGGER, trigger, frozenset({trigger})))
    return tuple(found[kind] for kind in GroupKind if kind in found)


def money_in(amounts: Mapping[str, Decimal], rates: Mapping[str, Decimal]) -> tuple[Decimal, tuple[str, ...]]:
    """Amounts by currency, summed up in the account's own, and the currencies without a rate, which are not in it."""
    known = (EXACT.multiply(amount, rates[currency]) for currency, amount in amounts.items() if currency in rates)
    return sum(known, ZERO), tuple(sorted(name for name, amount in amounts.items() if amount and name not in rates))


def with_entry(use: GroupUse, trigger: str, money: Decimal | None) -> GroupUse:
    """The use after an entry by `trigger` was admitted that needs `money`; None: its currency has no rate, which stops
    every entry of a group with a budget anyway.
    """
    if trigger not in use.group.triggers:
        return use
    return replace(use, open_trades=use.open_trades + 1, open_money=use.open_money + (money or ZERO))


def group_loss_sentence(use: GroupUse) -> str:
    """Why the group's loss of today is too large; empty if it isn't, or isn't known."""
    limit = use.group.limits.daily_loss
    if use.results.unpriced or not daily_loss_sentence(use.results.day_pnl, limit):
        return ""
    lost = -use.results.day_pnl
    return (
        f"{use.group.subject} has lost {lost:.2f} with today's closed trades, its limit of a UTC day is {plain(limit)}"
    )
