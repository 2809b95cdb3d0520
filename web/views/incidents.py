"""Incidents: what a person should know of."""

from __future__ import annotations

from web.views import Ledger, Row

__all__ = ["read_incidents"]

_INCIDENTS = """
SELECT i.id, i.at, i.severity, i.kind, i.subject, i.sentence, i.resolved_at,
       coalesce((SELECT sum(n.times) FROM notices n WHERE n.incident_id = i.id), 0)::int AS messages
  FROM incidents i
 WHERE i.account = $1 AND (NOT $2 OR i.resolved_at IS NULL)
 ORDER BY i.id DESC LIMIT $3
"""


async def read_incidents(ledger: Ledger, account: str, *, only_open: bool, limit: int) -> list[Row]:
    """At most `limit` incidents of an account, newest first, with how many messages were sent of each: all, or those
    that are open.
    """
    return await ledger.fetch(_INCIDENTS, account, only_open, limit)
