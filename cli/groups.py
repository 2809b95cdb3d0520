"""Which strategy or trigger a halt or resume is for, and what strategies and triggers use of their limits."""

from typing import TYPE_CHECKING, Any

from cli.output import UserError

if TYPE_CHECKING:
    from activities.database import Connection, Statements
    from activities.policy import Policy
    from domain.limit_groups import GroupKind
    from web.views import Json

__all__ = ["group_sentence", "has_quotes", "limits_now", "require_group", "turn_group", "which_group"]


def which_group(strategy: str, trigger: str) -> "tuple[GroupKind, str] | None":
    """The strategy or trigger that was named; None: neither, so the account is meant. Raises UserError(BAD_GROUP)."""
    from domain.limit_groups import GroupKind

    if strategy and trigger:
        raise UserError("BAD_GROUP", "Give --strategy or --trigger, not both: each has a halt of its own.")
    if strategy:
        return GroupKind.STRATEGY, strategy
    return (GroupKind.TRIGGER, trigger) if trigger else None


async def require_group(ledger: "Statements", policy: "Policy", kind: "GroupKind", name: str) -> None:
    """Raises UserError(NO_SUCH_GROUP) for a name that nothing would be halted by: a mistyped one must not look
    halted. A halt in the ledger can always be resumed.
    """
    from activities.orders.group_controls import halted_names
    from domain.limit_groups import GroupKind

    strategies = {group.name for group in policy.groups if group.kind is GroupKind.STRATEGY}
    known = strategies if kind is GroupKind.STRATEGY else set(policy.triggers)
    if name in known or (kind.value, name) in await halted_names(ledger, policy.account):
        return
    section = "[risk.strategies]" if kind is GroupKind.STRATEGY else "[triggers]"
    there = f"{section} has {', '.join(sorted(known))}" if known else f"{section} has none"
    raise UserError("NO_SUCH_GROUP", f"There is no {kind.value} of that name: {there}.")


async def turn_group(
    ledger: "Connection", account: str, group: "tuple[GroupKind, str]", reason: str, by: str, *, halted: bool
) -> bool:
    """Halt or resume it; False if nothing changed. Raises the database's errors."""
    from activities.orders import group_controls

    change = group_controls.halt_group if halted else group_controls.resume_group
    return await change(ledger, account, *group, reason, by)


def has_quotes(policy: "Policy", group: "tuple[GroupKind, str]") -> bool:
    """Whether the market maker's quotes are among its entries: a halt has them withdrawn."""
    from activities.orders.group_limits import groups_named
    from domain.quoting import QUOTES

    return any(QUOTES in found.triggers for found in groups_named(policy, [(group[0].value, group[1])]))


def group_sentence(group: "tuple[GroupKind, str]", *, changed: bool, halted: bool) -> str:
    """What became of the request, without a full stop."""
    kind, name = group
    when = "" if changed else " already" if halted else "; it wasn't halted"
    return f"Entries of {kind.value} {name} are {'halted' if halted else 'resumed'}{when}"


async def limits_now(ledger: "Statements", policy: "Policy") -> "Json":
    """What the account, its strategies and its triggers use of their limits; see `web.views.limits`. Raises the
    database's errors.
    """
    from activities.orders.group_controls import halted_names
    from activities.orders.group_limits import groups_named, rates_in_own, read_groups, use_of
    from web.views.limits import described_group, described_limits

    by_settings = {(group.kind.value, group.name): group for group in policy.groups}
    halted = [pair for pair in await halted_names(ledger, policy.account) if pair not in by_settings]
    groups = [*policy.groups, *groups_named(policy, halted)]
    found = await read_groups(ledger, policy, groups, count_all=True)
    rates = await rates_in_own(ledger, policy, found.currencies, {})
    states: dict[Any, Any] = {(state.group.kind.value, state.group.name): state for state in found.states}
    rows = []
    for group in groups:
        state = states.get((group.kind.value, group.name))
        if state is not None:
            rows.append(described_group(use_of(state, rates), state.changed_at, state.until))
    return described_limits(policy.currency, found.open_trades, policy.max_open_trades, rows)
