"""Incidents: problems a person should know of, reported once, repeated while they last, and resolved when over."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Literal

import structlog

from activities.database import Pool, Statements
from activities.secret_values import hide_in, without_secrets
from domain.differences import Difference
from domain.incidents import IncidentKind

__all__ = ["Kind", "OpenIncident", "Severity", "report_incident", "report_once", "report_past", "resolve_incidents"]

log = structlog.get_logger(__name__)

Severity = Literal["INFO", "WARNING", "CRITICAL"]
Kind = IncidentKind | Difference
"""The kind of event; each difference found by reconcile is its own kind."""


async def report_incident(
    pool: Statements,
    account: str,
    kind: Kind,
    severity: Severity,
    subject: str,
    sentence: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Store an incident and log it. `subject` is an order key, a symbol or a stream. Raises the database's errors.

    Secrets from the settings are neither stored nor logged, in whatever text they occur.
    """
    await _store(pool, account, kind, severity, subject, sentence, details, over=False)


async def report_past(
    pool: Statements,
    account: str,
    kind: Kind,
    severity: Severity,
    subject: str,
    sentence: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """`report_incident` for an event that was over when it was found. Raises the database's errors."""
    await _store(pool, account, kind, severity, subject, sentence, details, over=True)


async def _store(
    pool: Statements,
    account: str,
    kind: Kind,
    severity: Severity,
    subject: str,
    sentence: str,
    details: Mapping[str, Any] | None,
    *,
    over: bool,
) -> None:
    """Stores and logs it, with secrets from the settings removed."""
    subject, sentence = without_secrets(subject), without_secrets(sentence)
    log.warning("incident", kind=kind, severity=severity, subject=subject, sentence=sentence)
    await pool.execute(
        "INSERT INTO incidents (account, kind, severity, subject, sentence, details, resolved_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $7 THEN now() END)",
        account,
        kind,
        severity,
        subject,
        sentence,
        hide_in(dict(details or {})),
        over,
    )


async def report_once(
    pool: Statements,
    account: str,
    kind: Kind,
    severity: Severity,
    subject: str,
    sentence: str,
    details: Mapping[str, Any] | None = None,
) -> bool:
    """`report_incident`, unless one of this kind and subject is open; returns whether it was new.

    For problems that are found at each check until a person has dealt with them. Raises the database's errors.
    """
    is_open = await pool.fetchval(
        "SELECT true FROM incidents WHERE account = $1 AND kind = $2 AND subject = $3 AND resolved_at IS NULL LIMIT 1",
        account,
        kind,
        subject,
    )
    if not is_open:
        await report_incident(pool, account, kind, severity, subject, sentence, details)
    return not is_open


async def resolve_incidents(pool: Statements, account: str, kind: Kind, subject: str) -> int:
    """Resolve all open incidents of a kind and subject; returns how many. Raises the database's errors."""
    status: str = await pool.execute(
        "UPDATE incidents SET resolved_at = now() "
        "WHERE account = $1 AND kind = $2 AND subject = $3 AND resolved_at IS NULL",
        account,
        kind,
        subject,
    )
    return int(status.rsplit(maxsplit=1)[-1])


class OpenIncident:
    """A condition that may last: reported as it begins, again each `repeat_seconds` (wall), resolved when over."""

    def __init__(self, pool: Pool, account: str, kind: Kind, severity: Severity, *, repeat_seconds: float) -> None:
        self._pool = pool
        self._account = account
        self._kind = kind
        self._severity = severity
        self._repeat_seconds = repeat_seconds
        self._reported: dict[str, float] = {}

    async def inherit(self) -> None:
        """Take over incidents that an earlier process reported and did not resolve. Raises the database's errors."""
        rows = await self._pool.fetch(
            "SELECT DISTINCT subject FROM incidents WHERE account = $1 AND kind = $2 AND resolved_at IS NULL",
            self._account,
            self._kind,
        )
        for row in rows:
            self._reported.setdefault(row["subject"], time.monotonic())

    def lasts(self, subject: str) -> bool:
        """Whether it is reported and not resolved."""
        return subject in self._reported

    async def tell(self, subject: str, sentence: str, details: Mapping[str, Any] | None = None) -> None:
        """The condition holds now: report it unless that was done within the last `repeat_seconds`. Raises the
        database's errors."""
        now, reported = time.monotonic(), self._reported.get(subject)
        if reported is None or now - reported >= self._repeat_seconds:
            # Noted first: who asks again while the database is slow must not tell it twice.
            self._reported[subject] = now
            try:
                await report_incident(self._pool, self._account, self._kind, self._severity, subject, sentence, details)
            except BaseException:
                if reported is None:
                    del self._reported[subject]
                else:
                    self._reported[subject] = reported
                raise

    async def over(self, subject: str) -> None:
        """The condition no longer holds: resolve it. Raises the database's errors."""
        if (reported := self._reported.pop(subject, None)) is not None:
            try:
                await resolve_incidents(self._pool, self._account, self._kind, subject)
            except BaseException:
                self._reported.setdefault(subject, reported)
                raise
