"""Commands in the ledger: written by our own processes before they ask through Temporal, read by whoever stores who
asked. That somebody could write here is the proof: Temporal's door leads to its histories only.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from activities.database import Connection, Pool
from domain.commands import CommandKind, command_of
from domain.messages import OrderIntent

__all__ = ["given_by", "note_commands", "note_order"]

_NOTE = """
INSERT INTO commands (id, account, kind, subject, given_by, note)
SELECT n.id, $2, $3, n.subject, $5, $6 FROM unnest($1::text[], $4::text[]) AS n (id, subject)
ON CONFLICT (id) DO NOTHING
"""
_GIVEN_BY = """
SELECT given_by FROM commands WHERE id = $1 AND account = $2 AND kind = $3 AND subject = $4
"""


async def note_commands(
    connection: Pool | Connection, account: str, kind: CommandKind, subjects: Sequence[str], by: str, note: str = ""
) -> list[str]:
    """Write down that `by` has these trades closed or orders cancelled; the ids for the requests, in their order.

    Raises the database's errors.
    """
    ids = [secrets.token_hex(16) for _ in subjects]
    await connection.execute(_NOTE, ids, account, kind.value, list(subjects), by, note)
    return ids


async def note_order(connection: Pool | Connection, intent: OrderIntent) -> None:
    """Write down that `intent.asked_by` has this order placed; again, it stays the first one's. Raises the database's
    errors.
    """
    command = command_of(intent)
    if command is not None:
        key, kind, subject = command
        await connection.execute(_NOTE, [key], intent.account, kind.value, [subject], intent.asked_by, "")


async def given_by(
    connection: Pool | Connection, account: str, command: str, kind: CommandKind, subject: str
) -> str | None:
    """Who gave the command of this id, if it is of this kind and about this; else None. Raises database errors."""
    if not command:
        return None
    found: str | None = await connection.fetchval(_GIVEN_BY, command, account, kind.value, subject)
    return found
