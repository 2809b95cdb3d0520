"""Halting and resuming an account: a switch, stored with who turned it, when and why (RISK-2).

A person halts, or a limit does (`activities.orders.limits`); only a person resumes.

Entries read it for their admission, and turning it takes a turn as each admission does: an entry that had read the
switch before can't be written afterwards. So once a halt is committed no entry passes. Exits never look at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from activities.database import Connection, lock_account
from activities.incidents import report_incident, resolve_incidents
from domain.incidents import IncidentKind

__all__ = ["HALTED", "RESUMED", "TAKE_TURN", "Control", "halt", "resume", "trading_control", "turn_locked"]

HALTED = IncidentKind.TRADING_HALTED
RESUMED = IncidentKind.TRADING_RESUMED

# A resume is written also where nothing is halted: the counts of the day start at it. RETURNING reads what was before.
_SET = """
INSERT INTO account_controls AS c (account, halted, reason, changed_by, changed_at)
SELECT $1, $2::bool, $3, $4, now()
ON CONFLICT (account) DO UPDATE SET halted = $2, reason = $3, changed_by = $4, changed_at = now()
 WHERE NOT c.halted OR NOT $2::bool
RETURNING $2::bool OR EXISTS (SELECT FROM account_controls WHERE account = $1 AND halted) AS changed
"""

_CONTROL = """
SELECT c.halted, c.reason, c.changed_by, c.changed_at, (SELECT mode FROM ledger_identity) AS mode,
       (SELECT armed_at IS NOT NULL FROM account_identities WHERE account = $1) AS armed
  FROM (SELECT 1) one LEFT JOIN account_controls c ON c.account = $1
"""

TAKE_TURN = """
INSERT INTO admission_turns AS t (account, taken) VALUES ($1, 1) ON CONFLICT (account) DO UPDATE SET taken = t.taken + 1
"""


@dataclass(frozen=True, slots=True)
class Control:
    """Whether entries are halted, and who said so when (UTC) and why; `changed_at` is None if nobody ever did. Beside
    it, the ledger's mode (None without a stamp), and whether it is armed.
    """

    halted: bool
    reason: str = ""
    changed_by: str = ""
    changed_at: datetime | None = None
    mode: str | None = "paper"
    armed: bool = False


async def trading_control(connection: Connection, account: str) -> Control:
    """How the switch stands. Raises the database's errors."""
    row = await connection.fetchrow(_CONTROL, account)
    return Control(
        bool(row["halted"]),
        row["reason"] or "",
        row["changed_by"] or "",
        row["changed_at"],
        row["mode"],
        bool(row["armed"]),
    )


async def halt(connection: Connection, account: str, reason: str, by: str) -> bool:
    """Refuse every new entry from now on; False if it was so already. Raises the database's errors."""
    return await _turn(connection, account, reason, by, halted=True)


async def resume(connection: Connection, account: str, reason: str, by: str) -> bool:
    """Let entries pass again, and count losses from now on; False if they passed already. Raises the database's
    errors.
    """
    return await _turn(connection, account, reason, by, halted=False)


async def turn_locked(connection: Connection, account: str, reason: str, by: str, *, halted: bool) -> bool:
    """`halt` or `resume` within a transaction that holds the account's lock. Raises the database's errors."""
    if not await connection.fetchval(_SET, account, halted, reason, by):
        return False
    await connection.execute(TAKE_TURN, account)
    if not halted:
        await resolve_incidents(connection, account, HALTED, account)
    word, kind = ("halted", HALTED) if halted else ("resumed", RESUMED)
    why = f": {reason}" if reason else ""
    await report_incident(
        connection,
        account,
        kind,
        "CRITICAL" if halted else "INFO",
        account,
        f"entries of account {account} were {word} by {by or 'an unknown person'}{why}",
    )
    if not halted:
        await resolve_incidents(connection, account, RESUMED, account)  # it is news, not a state that lasts
    return True


async def _turn(connection: Connection, account: str, reason: str, by: str, *, halted: bool) -> bool:
    async with connection.transaction():
        await lock_account(connection, account)
        return await turn_locked(connection, account, reason, by, halted=halted)
