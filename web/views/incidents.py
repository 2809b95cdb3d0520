"""Incidents: problems a person should know of."""

from __future__ import annotations

from web.views import Ledger, Row

__all__ = ["newest_open_sentence", "read_incidents"]

_INCIDENTS = """
SELECT i.id, i.at, i.severity, i.kind, i.subject, i.sentence, i.resolved_at,
       coalesce((SELECT sum(n.times) FROM notices n WHERE n.incident_id = i.id), 0)::int AS messages
  FROM incidents i
 WHERE i.account = $1 AND (NOT $2 OR i.resolved_at IS NULL) AND i.id < coalesce($4::bigint, 9223372036854775807)
 ORDER BY i.id DESC LIMIT $3
"""
_OPEN_OF_KIND = """
SELECT sentence FROM incidents WHERE account = $1 AND kind = $2 AND resolved_at IS NULL ORDER BY id DESC LIMIT 1
"""


async def read_incidents(
    ledger: Ledger, account: str, *, only_open: bool, limit: int, before: int | None = None
) -> list[Row]:
    """At most `limit` incidents of an account, newest first, with how many messages were sent of each: all, or those
    that are open; with ids below `before`.
    """
    return await ledger.fetch(_INCIDENTS, account, only_open, limit, before)


async def newest_open_sentence(ledger: Ledger, account: str, kind: str) -> str | None:
    """The sentence of the newest open incident of a kind; None if there is none."""
    sentence: str | None = await ledger.fetchval(_OPEN_OF_KIND, account, kind)
    return sentence
