"""The record of actions: who asked for what, when, and the answer; one row for each key of a caller.

The row is written before anything is done. The same key again gets the stored answer; with another body it is refused.
So a double click is one action, and every action is recorded, done or not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from web.api.callers import program_before
from web.refusals import Refused
from web.views import Ledger, Row

__all__ = ["ActionLog", "Begun"]

_BEGIN = """
WITH made AS (
    INSERT INTO api_actions (account, given_by, key, kind, subject, digest, body)
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING RETURNING true AS fresh)
SELECT coalesce((SELECT fresh FROM made), false) AS fresh, a.digest, a.status, a.answer, a.planned
  FROM (SELECT 1) one LEFT JOIN api_actions a ON a.account = $1 AND a.given_by = $2 AND a.key = $3
"""
# What a user did under that name since the program has its own is the user's.
_BEFORE = """
SELECT a.status, a.answer, a.planned FROM api_actions a
 WHERE a.account = $1 AND a.given_by = $2 AND a.key = $3 AND a.digest = $4
   AND NOT EXISTS (SELECT FROM api_actions own WHERE own.account = $1 AND own.given_by = $5 AND own.at < a.at)
"""
_FIND = "SELECT status, answer FROM api_actions WHERE account = $1 AND given_by = $2 AND key = $3"
_END = """
UPDATE api_actions SET status = $4, answer = $5, answered_at = now()
 WHERE account = $1 AND given_by = $2 AND key = $3 AND status IS NULL
"""
_PLAN = """
UPDATE api_actions SET planned = coalesce(planned, $4::text[])
 WHERE account = $1 AND given_by = $2 AND key = $3 RETURNING planned
"""
_RESOLVE = """
WITH done AS (UPDATE incidents SET resolved_at = now()
               WHERE account = $1 AND id = $2 AND resolved_at IS NULL RETURNING id)
SELECT EXISTS (SELECT FROM done) AS changed FROM incidents WHERE account = $1 AND id = $2
"""


@dataclass(frozen=True, slots=True)
class Begun:
    """A recorded action. `id` is the same for the same action, so that its consequences happen once.

    `fresh`: it was not begun before. `status` and `answer` are its answer, if it has one. `planned`: what it is to act
    on, where that was decided as it began.
    """

    id: str
    by: str
    key: str
    fresh: bool
    status: int | None
    answer: dict[str, Any] | None
    planned: list[str] | None = None


class ActionLog:
    """The record of one account."""

    def __init__(self, ledger: Ledger, account: str) -> None:
        self._ledger = ledger
        self._account = account

    async def begin(self, by: str, key: str, kind: str, subject: str, body: Mapping[str, Any]) -> Begun:
        """Record it, or find its record; a program's also under the name that it had before. Raises Refused(409,
        IDEMPOTENCY_CONFLICT), and the database's errors.
        """
        said = json.dumps([kind, subject, body], sort_keys=True, default=str)
        digest = hashlib.sha256(said.encode()).hexdigest()
        if (before := program_before(by)) is not None:
            row = await self._ledger.fetchrow(_BEFORE, self._account, before, key, digest, by)
            if row is not None:
                return self._begun(before, key, False, row)
        row = await self._ledger.fetchrow(_BEGIN, self._account, by, key, kind, subject, digest, dict(body))
        if row is None or (not row["fresh"] and row["digest"] is None):
            # Another request wrote it while this statement ran.
            row = await self._ledger.fetchrow(_BEGIN, self._account, by, key, kind, subject, digest, dict(body))
        if row is None:
            raise RuntimeError("an action could not be recorded")
        if not row["fresh"] and row["digest"] != digest:
            raise Refused(
                409,
                "IDEMPOTENCY_CONFLICT",
                "This Idempotency-Key was used for another action: nothing was done; use a new one.",
            )
        return self._begun(by, key, row["fresh"], row)

    def _begun(self, by: str, key: str, fresh: bool, row: Row) -> Begun:
        name = hashlib.sha256(json.dumps([self._account, by, key]).encode()).hexdigest()[:32]
        return Begun(name, by, key, fresh, row["status"], row["answer"], row["planned"])

    async def find(self, by: str, key: str) -> tuple[int | None, dict[str, Any] | None] | None:
        """Status and answer of an action; None if none was begun under this key. Raises the database's errors."""
        row = await self._ledger.fetchrow(_FIND, self._account, by, key)
        return None if row is None else (row["status"], row["answer"])

    async def end(self, begun: Begun, status: int, answer: Mapping[str, Any]) -> None:
        """Store its answer; the first one stays. Raises the database's errors."""
        await self._ledger.fetchrow(_END + " RETURNING true", self._account, begun.by, begun.key, status, dict(answer))

    async def plan(self, begun: Begun, keys: Sequence[str]) -> list[str]:
        """Store what it is to act on; the first plan stays and is returned. Raises the database's errors."""
        found: list[str] = await self._ledger.fetchval(_PLAN, self._account, begun.by, begun.key, list(keys))
        return found

    async def resolve_incident(self, number: int) -> bool | None:
        """Resolve an incident. False: it was resolved already; None: the account has none with this number."""
        changed: bool | None = await self._ledger.fetchval(_RESOLVE, self._account, number)
        return changed
