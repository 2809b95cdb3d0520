"""What was done by the API: who asked for what, when, and what was answered; newest first."""

from __future__ import annotations

from datetime import datetime

from web.views import Json, Ledger, Row

__all__ = ["actions", "described_action"]

_ACTIONS = """
SELECT a.at, a.given_by, a.key, a.kind, a.subject, o.symbol, a.body ->> 'note' AS note, a.status,
       (a.answer ->> 'accepted')::boolean AS accepted,
       coalesce(a.answer ->> 'sentence', a.answer ->> 'detail') AS sentence, a.answer ->> 'code' AS code, a.answered_at
  FROM api_actions a LEFT JOIN orders o ON o.order_key = a.subject AND o.account = a.account
 WHERE a.account = $1 AND ($2::text IS NULL OR a.given_by = $2) AND ($3::text IS NULL OR a.kind = $3)
   AND ($4::text IS NULL OR a.subject = $4)
   AND (a.at, a.given_by, a.key)
       < (coalesce($5::timestamptz, 'infinity'), coalesce($6::text, ''), coalesce($7::text, ''))
 ORDER BY a.at DESC, a.given_by DESC, a.key DESC LIMIT $8
"""


async def actions(
    ledger: Ledger,
    account: str,
    *,
    by: str | None = None,
    kind: str | None = None,
    subject: str | None = None,
    after: tuple[datetime, str, str] | None = None,
    limit: int,
) -> list[Row]:
    """At most `limit` actions, the newest first. `after`: the last one that was seen: its time, asker and key."""
    at, asker, key = after or (None, None, None)
    return await ledger.fetch(_ACTIONS, account, by, kind, subject, at, asker, key, limit)


def described_action(row: Row) -> Json:
    """An action for a table. `accepted` is None while it has no answer."""
    return {
        "at": row["at"],
        "by": row["given_by"],
        "key": row["key"],
        "kind": row["kind"],
        "subject": row["subject"] or None,
        "symbol": row["symbol"],
        "note": row["note"] or None,
        "status": row["status"],
        "accepted": None if row["status"] is None else bool(row["accepted"]),
        "code": row["code"],
        "sentence": row["sentence"],
        "answered_at": row["answered_at"],
    }
