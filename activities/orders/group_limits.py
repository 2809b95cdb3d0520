"""What strategies and triggers use of their limits, and the halt of one that lost too much (RISK-8).

One statement reads it, from the triggers of the account's orders: open trades and entries, what they cost, the day's
result since a person last resumed the group. An entry reads it after its facts, which have the account's turn: another
admission, a halt or a resume in between takes that turn, and the entry is decided again. What fills or closes in
between moves from one side of this read to the other, never out of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from activities.database import Pool, Record, Statements, lock_account
from activities.orders.group_controls import turn_group_locked
from activities.orders.limits import kept_rates, learn_rates, own_currency
from activities.policy import Policy
from activities.venue import Venue
from domain.limit_groups import (
    GroupKind,
    GroupLimits,
    GroupUse,
    LimitGroup,
    group_loss_sentence,
    groups_of,
    money_in,
)
from domain.limits import Results
from domain.rates import own_names

__all__ = [
    "GROUP_FACTS",
    "EntryLimits",
    "GroupState",
    "Groups",
    "groups_named",
    "halt_groups_that_lost",
    "halts_of_entry",
    "limits_of_entries",
    "rates_in_own",
    "read_groups",
    "use_of",
]

_LIMIT = "daily loss limit"
_NO_TRIGGER = ""
"""Stands for the triggers of a strategy that has none any more, as no order is without one."""

GROUP_FACTS = "SELECT * FROM group_facts($1, $2, $3, $4, $5, $6, $7, $8, $9)"
"""Account; of each trigger of each group: kind and name of the group, the trigger, whether what is open is limited,
whether the day's loss is; `own_currency`; whether all of the account's open trades are counted.
"""


@dataclass(frozen=True, slots=True)
class GroupState:
    """A group as the ledger has it: how its switch stands, and what is open, by currency (quote, with fees)."""

    group: LimitGroup
    halted: bool
    reason: str
    changed_by: str
    changed_at: datetime | None
    until: datetime | None
    """When a halt ends by itself (UTC); None: by a resume only."""
    open_trades: int
    money: Mapping[str, Decimal]
    results: Results


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups as the ledger has them, and the account's open trades and entries, if they were to be counted."""

    states: Sequence[GroupState]
    open_trades: int

    @property
    def currencies(self) -> frozenset[str]:
        """The currencies of what groups with a budget have open."""
        return frozenset(name for state in self.states if state.group.limits.budget for name in state.money)


async def read_groups(
    connection: Statements, policy: Policy, groups: Iterable[LimitGroup], *, count_all: bool
) -> Groups:
    """What these groups use of their limits, and with `count_all` how many trades the whole account has open. Raises
    the database's errors.
    """
    known = {(group.kind.value, group.name): group for group in groups}
    named = [
        (kind, name, trigger, bool(group.limits.budget or group.limits.open_trades), bool(group.limits.daily_loss))
        for (kind, name), group in known.items()
        for trigger in sorted(group.triggers) or [_NO_TRIGGER]
    ]
    columns = [list(column) for column in zip(*named, strict=True)] if named else [[], [], [], [], []]
    rows = await connection.fetch(GROUP_FACTS, policy.account, *columns, *own_currency(policy), count_all)
    states = [_state(known[row["kind"], row["name"]], row) for row in rows if row["kind"] is not None]
    return Groups(states, rows[0]["of_all"])


def _state(group: LimitGroup, row: Record) -> GroupState:
    money: dict[str, Decimal] = {}
    for symbol, amount in zip(row["symbols"] or (), row["money"] or (), strict=True):
        currency = symbol.replace("_", "-").partition("-")[2]
        money[currency] = money.get(currency, Decimal(0)) + (amount or Decimal(0))
    return GroupState(
        group,
        row["halted"],
        row["reason"] or "",
        row["changed_by"] or "",
        row["changed_at"],
        row["until"] if row["halted"] else None,
        row["open_trades"],
        {currency: round(amount, 8) for currency, amount in money.items()},
        Results(row["day_pnl"], unpriced=tuple(sorted(set(row["day_unpriced"])))),
    )


@dataclass(frozen=True, slots=True)
class EntryLimits:
    """What the gates are told for entries of one read, of one quote currency."""

    open_trades: int = 0
    """The account's open trades and entries; 0 if they are not limited."""
    uses: Sequence[GroupUse] = ()
    """Groups that have limits or are halted, strategies first."""
    own_rate: Decimal | None = Decimal(1)
    """The worth of one unit of the quote currency in the account's own; None: not known."""

    def of(self, trigger: str) -> tuple[GroupUse, ...]:
        """Those that an entry by `trigger` is held to."""
        return tuple(use for use in self.uses if trigger in use.group.triggers)


async def limits_of_entries(
    connection: Statements,
    policy: Policy,
    triggers: Iterable[str],
    quote: str,
    asked: Mapping[str, Decimal],
    *,
    any_halted: bool,
) -> EntryLimits:
    """The limits of entries by these triggers that pay in `quote`, with what is used of them.

    `any_halted`: some group of the account is halted, so those without limits are looked at, too. `asked`: rates that
    the exchange told a moment ago. Where nothing is limited the ledger isn't read. Raises the database's errors.
    """
    wanted = {group.subject: group for trigger in triggers for group in groups_of(policy.groups, trigger)}
    set_up = {group.subject for group in policy.groups}
    looked_at = [group for subject, group in wanted.items() if any_halted or subject in set_up]
    if not looked_at and not policy.max_open_trades:
        return EntryLimits()
    found = await read_groups(connection, policy, looked_at, count_all=policy.max_open_trades > 0)
    if not any(group.limits.budget for group in looked_at):
        rates: dict[str, Decimal] = {}
        own_rate: Decimal | None = Decimal(1)
    else:
        rates = await rates_in_own(connection, policy, found.currencies | {quote}, asked)
        own_rate = rates.get(quote)
    states = [state for state in found.states if state.halted or state.group.subject in set_up]
    return EntryLimits(found.open_trades, tuple(use_of(state, rates) for state in states), own_rate)


async def halts_of_entry(connection: Statements, policy: Policy, trigger: str) -> tuple[GroupUse, ...]:
    """How the switches of an entry's strategy and trigger stand, without what they use of limits. Raises the
    database's errors.
    """
    bare = [replace(group, limits=GroupLimits()) for group in groups_of(policy.groups, trigger)]
    found = await read_groups(connection, policy, bare, count_all=False)
    return tuple(use_of(state, {}) for state in found.states if state.halted)


def use_of(state: GroupState, rates: Mapping[str, Decimal]) -> GroupUse:
    """What a group uses, as the gates want it; `rates` of currencies in the account's own."""
    money, without = money_in(state.money, rates)
    return GroupUse(
        group=state.group,
        halted=state.halted,
        halted_by=_halted_by(state),
        open_trades=state.open_trades,
        open_money=money,
        without_rate=without if state.group.limits.budget else (),
        results=state.results,
    )


def _halted_by(state: GroupState) -> str:
    by = ": ".join(part for part in (state.changed_by or "an unknown person", state.reason) if part)
    return f"{by} (until {state.until:%H:%M} UTC)" if state.until else by


async def rates_in_own(
    connection: Statements, policy: Policy, currencies: Iterable[str], asked: Mapping[str, Decimal]
) -> dict[str, Decimal]:
    """The worth of one unit of each of these currencies in the account's own, where it is known: by the price that is
    kept, else as it was `asked` for. Raises the database's errors.
    """
    own = own_names(policy.currency)
    rates = dict.fromkeys(own, Decimal(1))
    if others := sorted(set(currencies) - set(own)):
        rates |= {name: rate for name, rate in asked.items() if name in others}
        rates |= await kept_rates(connection, policy, others)
    return rates


async def halt_groups_that_lost(pool: Pool, policy: Policy, venue: Venue | None = None) -> list[str]:
    """Halt, until the end of the UTC day, each strategy and trigger whose trades closed today lost more than its limit;
    how those are named that were not halted before.

    Rates that are missing are learnt first; with `venue`, from the exchange where no fresh price is kept. Raises the
    database's errors.
    """
    limited = [group for group in policy.groups if group.limits.daily_loss]
    if not limited:
        return []
    found = await read_groups(pool, policy, limited, count_all=False)
    if any(state.results.unpriced and not state.halted for state in found.states):
        await learn_rates(pool, policy, venue)
        found = await read_groups(pool, policy, limited, count_all=False)
    lost = [state.group for state in found.states if _breach(state)]
    if not lost:
        return []
    async with pool.acquire() as connection, connection.transaction():
        # Looked at again with the lock: a person may have resumed meanwhile, and that settles what was lost before.
        await lock_account(connection, policy.account)
        again = await read_groups(connection, policy, lost, count_all=False)
        told = []
        for state in again.states:
            sentence = _breach(state)
            if sentence and await turn_group_locked(
                connection,
                policy.account,
                state.group.kind,
                state.group.name,
                sentence,
                _LIMIT,
                halted=True,
                for_the_day=True,
            ):
                told.append(state.group.subject)
        return told


def _breach(state: GroupState) -> str:
    return "" if state.halted else group_loss_sentence(use_of(state, {}))


def groups_named(policy: Policy, named: Iterable[tuple[str, str]]) -> list[LimitGroup]:
    """Groups of these kinds and names, with the limits that they have by the settings; a strategy that the settings no
    longer have holds no trigger.
    """
    known = {(group.kind.value, group.name): group for group in policy.groups}
    return [known.get(pair) or _without_limits(*pair) for pair in named]


def _without_limits(kind: str, name: str) -> LimitGroup:
    triggers = frozenset({name}) if kind == GroupKind.TRIGGER else frozenset[str]()
    return LimitGroup(GroupKind(kind), name, triggers)
