"""Commands in the ledger: recorded by our own processes before they send a request through Temporal, and read when the
requester's name is stored. The row is the proof: a client of Temporal alone can't write here.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from activities.database import Statements
from domain.commands import CommandKind, command_of, through_temporal
from domain.messages import CloseRequest, OrderIntent

__all__ = ["accepted", "given_by", "keep", "not_done", "note_commands", "note_order"]

_NOTE = """
INSERT INTO commands (id, account, kind, subject, given_by, note)
SELECT n.id, $2, $3, n.subject, $5, $6 FROM unnest($1::text[], $4::text[]) AS n (id, subject)
ON CONFLICT (id) DO NOTHING
"""
_KEEP = """
WITH known AS (
    UPDATE commands SET accepted_at = coalesce(accepted_at, now())
     WHERE id = $1 AND account = $2 AND kind = $3 AND subject = $4 RETURNING id)
INSERT INTO commands (id, account, kind, subject, given_by, note, accepted_at)
SELECT $5, $2, $3, $4, $6, $7, now() WHERE NOT EXISTS (SELECT FROM known)
ON CONFLICT (id) DO NOTHING
"""
_ACCEPTED = """
SELECT DISTINCT ON (kind) kind, id, given_by, note FROM commands
 WHERE subject = $2 AND account = $1 AND kind IN ('close', 'cancel') AND accepted_at IS NOT NULL
 ORDER BY kind, accepted_at
"""
_NOT_DONE = """
WITH live AS (
    SELECT order_key AS key, true AS works FROM orders
     WHERE account = $1 AND role <> 'EXTERNAL' AND NOT finished
    UNION ALL
    SELECT entry_key, false FROM trades WHERE account = $1 AND state <> 'CLOSED')
SELECT DISTINCT ON (c.kind, c.subject) c.kind, c.subject, c.given_by, c.note, c.id
  FROM live JOIN commands c ON c.subject = live.key AND c.account = $1 AND c.accepted_at IS NOT NULL
 WHERE c.kind = 'close' OR (c.kind = 'cancel' AND live.works)
 ORDER BY c.kind, c.subject, c.accepted_at
"""
_GIVEN_BY = """
SELECT given_by FROM commands WHERE id = $1 AND account = $2 AND kind = $3 AND subject = $4
"""


async def note_commands(
    connection: Statements,
    account: str,
    kind: CommandKind,
    subjects: Sequence[str],
    by: str,
    note: str = "",
    *,
    ids: Sequence[str] | None = None,
) -> list[str]:
    """Record that `by` requests these trades to be closed or orders to be cancelled; returns the requests' ids, in
    their order.

    `ids` are those of who may write the same again, where the first one stays; else they are new. Raises the database's
    errors.
    """
    ids = [secrets.token_hex(16) for _ in subjects] if ids is None else list(ids)
    await connection.execute(_NOTE, ids, account, kind.value, list(subjects), by, note)
    return ids


async def note_order(connection: Statements, intent: OrderIntent) -> None:
    """Record that `intent.asked_by` requests this order; a repeat keeps the first name.

    Raises the database's errors.
    """
    command = command_of(intent)
    if command is not None:
        key, kind, subject = command
        await connection.execute(_NOTE, [key], intent.account, kind.value, [subject], intent.asked_by, "")


async def given_by(connection: Statements, account: str, command: str, kind: CommandKind, subject: str) -> str | None:
    """The author of the command with this id, if it has this kind and subject; else None. Raises the database's
    errors."""
    if not command:
        return None
    found: str | None = await connection.fetchval(_GIVEN_BY, command, account, kind.value, subject)
    return found


async def keep(connection: Statements, account: str, kind: CommandKind, subject: str, request: CloseRequest) -> None:
    """Record that this close or cancel was accepted; one sent directly through Temporal gets a row.

    It is done when its trade is closed or its order has ended, as the ledger shows. Raises the database's errors.
    """
    own_id = f"{kind.value}/{subject}"
    by = through_temporal(request.by)
    await connection.execute(_KEEP, request.command, account, kind.value, subject, own_id, by, request.note)


async def accepted(connection: Statements, account: str, subject: str) -> dict[CommandKind, CloseRequest]:
    """The first accepted close and cancel of a trade or order, done or not. Raises the database's errors."""
    rows = await connection.fetch(_ACCEPTED, account, subject)
    return {
        CommandKind(row["kind"]): CloseRequest(by=row["given_by"], note=row["note"], command=row["id"]) for row in rows
    }


async def not_done(connection: Statements, account: str) -> list[tuple[CommandKind, str, CloseRequest]]:
    """The accepted closes of open trades and cancels of working orders, each with its subject.

    Raises the database's errors.
    """
    return [
        (
            CommandKind(row["kind"]),
            row["subject"],
            CloseRequest(by=row["given_by"], note=row["note"], command=row["id"]),
        )
        for row in await connection.fetch(_NOT_DONE, account)
    ]
