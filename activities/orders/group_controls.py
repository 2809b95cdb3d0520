"""Halting and resuming one strategy's or trigger's entries: a switch of its own beside the account's (RISK-8).

A person halts it until a person resumes, or its daily loss until the UTC day ends. Turning it takes a turn of the
account as each admission does, so once a halt is committed no entry of it passes. Exits never look at it.
"""

from __future__ import annotations

from collections.abc import Iterable

from activities.database import Connection, Statements, lock_account
from activities.incidents import report_incident, report_past, resolve_incidents
from activities.orders.controls import HALTED, RESUMED, TAKE_TURN, trading_control
from domain.identity import Standing
from domain.limit_groups import GroupKind, LimitGroup

__all__ = ["IN_FORCE", "halt_group", "halted_names", "resume_group", "turn_group_locked", "why_halted"]

IN_FORCE = "(c.halted AND (c.until IS NULL OR c.until > now()))"
"""Whether the switch `c` halts now."""

# A person's halt replaces one that would end with the day. A resume is written also where nothing is halted: the count
# of the day starts at it. RETURNING reads what stood before.
_SET = f"""
INSERT INTO group_controls AS c (account, kind, name, halted, reason, changed_by, changed_at, until)
SELECT $1, $2, $3, $4::bool, $5, $6, now(),
       CASE WHEN $7::bool THEN date_trunc('day', now(), 'UTC') + interval '24 hours' END
ON CONFLICT (account, kind, name) DO UPDATE
   SET halted = $4, reason = $5, changed_by = $6, changed_at = now(), until = excluded.until
 WHERE NOT {IN_FORCE} OR NOT $4::bool OR NOT $7::bool AND c.until IS NOT NULL
RETURNING until, $4::bool OR EXISTS (SELECT FROM group_controls c WHERE c.account = $1 AND c.kind = $2 AND c.name = $3
                                        AND {IN_FORCE}) AS changed
"""
_HALTED = f"""
SELECT c.kind, c.name FROM group_controls c WHERE c.account = $1 AND {IN_FORCE} ORDER BY c.kind, c.name
"""


async def halt_group(connection: Connection, account: str, kind: GroupKind, name: str, reason: str, by: str) -> bool:
    """Refuse every new entry of a strategy or trigger until it is resumed; False if that was so already. Raises the
    database's errors.
    """
    return await _turn(connection, account, kind, name, reason, by, halted=True)


async def resume_group(connection: Connection, account: str, kind: GroupKind, name: str, reason: str, by: str) -> bool:
    """Let its entries pass again, and count its losses from now on; False if it wasn't halted. Raises the database's
    errors.
    """
    return await _turn(connection, account, kind, name, reason, by, halted=False)


async def halted_names(connection: Statements, account: str) -> list[tuple[str, str]]:
    """Kind and name of each strategy and trigger that is halted. Raises the database's errors."""
    return [(row["kind"], row["name"]) for row in await connection.fetch(_HALTED, account)]


async def why_halted(connection: Connection, account: str, groups: Iterable[LimitGroup], trouble: str) -> str:
    """Why no entry of these groups passes now, as a clause; empty: some may. `trouble`: see
    `activities.venue_standing`. Raises the database's errors.
    """
    control = await trading_control(connection, account)
    if refusal := Standing(control.mode, control.armed, trouble).refusal:
        return refusal
    if control.halted:
        return f"new entries are halted: {control.reason or 'no reason given'}"
    halted = set(await halted_names(connection, account))
    stopped = next((group for group in groups if (group.kind.value, group.name) in halted), None)
    return f"entries of {stopped.subject} are halted" if stopped else ""


async def turn_group_locked(
    connection: Connection,
    account: str,
    kind: GroupKind,
    name: str,
    reason: str,
    by: str,
    *,
    halted: bool,
    for_the_day: bool = False,
) -> bool:
    """`halt_group` or `resume_group` within a transaction that holds the account's lock. `for_the_day`: a halt that
    ends with the UTC day. Raises the database's errors.
    """
    found = await connection.fetchrow(_SET, account, kind.value, name, halted, reason, by, for_the_day)
    if found is None or not found["changed"]:
        return False
    await connection.execute(TAKE_TURN, account)
    subject = f"{kind.value} {name}"
    await resolve_incidents(connection, account, HALTED, subject)
    until = f" until {found['until']:%Y-%m-%d %H:%M} UTC" if found["until"] else ""
    word = f"halted{until}" if halted else "resumed"
    why = f": {reason}" if reason else ""
    sentence = f"entries of {subject} (account {account}) were {word} by {by or 'an unknown person'}{why}"
    # What ends by itself, and a resume, is news; a person's halt lasts until it is resolved by a resume.
    tell = report_incident if halted and not for_the_day else report_past
    await tell(connection, account, HALTED if halted else RESUMED, "WARNING" if halted else "INFO", subject, sentence)
    return True


async def _turn(
    connection: Connection, account: str, kind: GroupKind, name: str, reason: str, by: str, *, halted: bool
) -> bool:
    async with connection.transaction():
        await lock_account(connection, account)
        return await turn_group_locked(connection, account, kind, name, reason, by, halted=halted)
