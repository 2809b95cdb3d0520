"""News of trading as incidents, read from the ledger's own rows when notices are delivered.

The row of a trade or a refused order was committed with the event itself, so nothing is missed after a crash, and
trading neither waits nor writes for news. The holder of the notices' lease reads the rows and stores each news once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from datetime import datetime, timedelta

import structlog

from activities.database import Pool
from activities.leases import DATABASE_TROUBLE, HELD, Lease, LeaseTerms, hold
from activities.long_running import holder_name
from domain.news import (
    ENTRY_REFUSED,
    LIMIT_GATES,
    TRADE_CLOSED,
    TRADE_OPENED,
    closed_sentence,
    opened_sentence,
    refused_sentence,
)

__all__ = ["News", "gather_news", "news_lease"]

log = structlog.get_logger(__name__)

_KINDS = (TRADE_OPENED, TRADE_CLOSED, ENTRY_REFUSED)
_OVERLAP = timedelta(seconds=60)
"""The overlap read again each time: a row has its transaction's start time, and later ones may commit earlier."""

_REFUSALS_SECONDS = 10.0

# From the last holder's last sign of life, or the last stored news, whichever is earlier.
_SINCE = """
SELECT greatest(coalesce(least((SELECT vacant_since FROM leases WHERE name = $4 AND epoch = $5), max(at)), now()),
                now() - make_interval(secs => $3)) FROM incidents
 WHERE account = $1 AND kind = ANY($2) AND at > now() - make_interval(secs => $3)
"""
_TRADES = """
SELECT t.*, o.trigger, now() AS seen_at FROM trades t JOIN orders o ON o.order_key = t.entry_key
 WHERE t.account = $1 AND (t.state <> 'CLOSED' OR t.closed_at > $2) AND greatest(t.protected_at, t.closed_at) > $2
"""
# At most one a gate in a while, with all that came since the last.
_REFUSED = """
SELECT o.gate, count(*) AS times, max(o.received_at) AS at, array_agg(DISTINCT o.symbol ORDER BY o.symbol) AS symbols,
       (array_agg(o.gate_sentence ORDER BY o.received_at DESC))[1] AS sentence
  FROM orders o LEFT JOIN (SELECT subject, max(at) AS at FROM incidents
                            WHERE account = $1 AND kind = $3 AND at > now() - interval '1 day' GROUP BY subject) l
       ON l.subject = o.gate
 WHERE o.account = $1 AND o.role = 'ENTRY' AND o.gate = ANY($4) AND o.received_at > now() - interval '1 day'
   AND o.received_at > coalesce(l.at, $2) AND (l.at IS NULL OR l.at < now() - make_interval(secs => $5))
 GROUP BY o.gate
"""
_STORE = (
    """
INSERT INTO incidents (account, kind, severity, subject, sentence, at, resolved_at)
SELECT $3, n.kind, 'INFO', n.subject, n.sentence, n.at, n.at
  FROM unnest($4::text[], $5::text[], $6::text[], $7::timestamptz[]) AS n (kind, subject, sentence, at)
 WHERE """
    + HELD
    + """ AND NOT EXISTS (
       SELECT 1 FROM incidents i
        WHERE i.account = $3 AND i.kind = n.kind AND i.subject = n.subject AND i.at = n.at)
"""
)


def news_lease(account: str) -> str:
    """The name of the lease for reading an account's news: whoever delivers news needs it read once."""
    return f"news/{account}"


async def gather_news(news: News, pool: Pool, account: str, terms: LeaseTerms, poll_seconds: float) -> None:
    """Wait for the lease and store news until cancelled. Raises LeaseLostError, and the database's errors."""
    async with hold(pool, news_lease(account), holder_name(), terms) as lease:
        while True:
            lease.require()
            try:
                await news.collect(lease)
            except DATABASE_TROUBLE as trouble:
                log.warning("news not read", problem=repr(trouble))
            await asyncio.sleep(poll_seconds)


class News:
    """The configured kinds of news of one account, collected by one holder of the lease.

    Args:
        kinds: kinds of incidents; others are not stored.
        repeat_seconds: minimum time between reports of a refusing gate (wall).
        look_back_seconds: older events are not news (wall).
    """

    def __init__(
        self, pool: Pool, account: str, kinds: Collection[str], *, repeat_seconds: float, look_back_seconds: float
    ) -> None:
        self._pool = pool
        self._account = account
        self._kinds = frozenset(kinds) & frozenset(_KINDS)
        self._repeat_seconds = repeat_seconds
        self._look_back_seconds = look_back_seconds
        self._since: datetime | None = None
        self._begun: datetime | None = None
        self._refusals_at = 0.0

    async def collect(self, lease: Lease) -> None:
        """Store the events since the last call; at first, since the lease's last holder. Raises the database's errors.

        If it never had one and nothing was stored it begins now: history is not reported.
        """
        if not self._kinds:
            return
        if self._since is None:
            since: datetime = await self._pool.fetchval(
                _SINCE, self._account, list(_KINDS), self._look_back_seconds, lease.name, lease.epoch
            )
            self._since, self._begun = since, since - _OVERLAP
        now: datetime = await self._pool.fetchval("SELECT now()")
        found = await self._of_trades(self._since - _OVERLAP)
        if ENTRY_REFUSED in self._kinds and time.monotonic() >= self._refusals_at:
            found += await self._of_refusals()
            self._refusals_at = time.monotonic() + _REFUSALS_SECONDS
        if found:
            columns = [list(column) for column in zip(*found, strict=True)]
            await self._pool.execute(_STORE, lease.name, lease.epoch, self._account, *columns)
        self._since = now

    async def _of_trades(self, since: datetime) -> list[tuple[str, str, str, datetime]]:
        found: list[tuple[str, str, str, datetime]] = []
        for row in await self._pool.fetch(_TRADES, self._account, since):
            if TRADE_OPENED in self._kinds and row["protected_at"] is not None and row["protected_at"] > since:
                found.append((TRADE_OPENED, row["entry_key"], opened_sentence(dict(row.items())), row["protected_at"]))
            if TRADE_CLOSED in self._kinds and row["state"] == "CLOSED":
                found.append((TRADE_CLOSED, row["entry_key"], closed_sentence(dict(row.items())), row["closed_at"]))
        return found

    async def _of_refusals(self) -> list[tuple[str, str, str, datetime]]:
        rows = await self._pool.fetch(
            _REFUSED, self._account, self._begun, ENTRY_REFUSED, list(LIMIT_GATES), self._repeat_seconds
        )
        return [
            (
                ENTRY_REFUSED,
                row["gate"],
                refused_sentence(row["gate"], row["times"], row["symbols"], row["sentence"]),
                row["at"],
            )
            for row in rows
        ]
