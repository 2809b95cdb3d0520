"""How many filled orders are linked to their decision, and which fills have none (LINK-3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["ALERT_FROM", "LinkageReport", "SourceLinkage", "read_linkage"]

ALERT_FROM = 10
"""Zero linkage is an alarm with more sighook orders than this."""

# An attempt's row is committed immediately before it is sent.
_BY_SOURCE = """
SELECT o.source, count(*) AS filled, count(l.order_key) AS linked, count(l.snapshot_id) AS with_snapshot,
       avg(date_part('epoch', o.first_fill_at - a.prepared_at) * 1000) AS mean_ms,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY date_part('epoch', o.first_fill_at - a.prepared_at) * 1000)
           AS median_ms
  FROM orders o LEFT JOIN trade_strategy_link l USING (order_key)
  LEFT JOIN (SELECT order_key, min(prepared_at) AS prepared_at FROM attempts WHERE account = $1 GROUP BY 1) a
       USING (order_key)
 WHERE o.account = $1 AND o.role <> 'EXTERNAL' AND o.filled_size > 0
   AND ($2::timestamptz IS NULL OR o.received_at >= $2) AND ($3::timestamptz IS NULL OR o.received_at < $3)
 GROUP BY o.source ORDER BY o.source
"""
_FILLS = """
SELECT count(*) AS fills, count(*) FILTER (WHERE f.order_key IS NULL AND f.ingest_via <> 'import') AS without_order,
       count(*) FILTER (WHERE o.role = 'EXTERNAL') AS outside,
       count(*) FILTER (WHERE o.role <> 'EXTERNAL' AND l.order_key IS NULL) AS without_metadata,
       count(*) FILTER (WHERE f.ingest_via = 'rest') AS by_rest,
       count(*) FILTER (WHERE f.ingest_via = 'import') AS imported
  FROM fills f LEFT JOIN orders o USING (order_key) LEFT JOIN trade_strategy_link l USING (order_key)
 WHERE f.account = $1 AND ($2::timestamptz IS NULL OR f.at >= $2) AND ($3::timestamptz IS NULL OR f.at < $3)
"""
_UNLINKED = """
SELECT o.order_key FROM orders o LEFT JOIN trade_strategy_link l USING (order_key)
 WHERE o.account = $1 AND o.role <> 'EXTERNAL' AND o.filled_size > 0 AND l.order_key IS NULL
   AND ($2::timestamptz IS NULL OR o.received_at >= $2) AND ($3::timestamptz IS NULL OR o.received_at < $3)
 ORDER BY o.received_at LIMIT 20
"""


@dataclass(frozen=True, slots=True)
class SourceLinkage:
    """Filled orders of one source that the system placed.

    Times from placement to first fill in wall milliseconds; they include a resting order's wait for the market.
    """

    source: str
    filled: int
    linked: int
    with_snapshot: int
    mean_ms: float | None
    median_ms: float | None

    @property
    def percent(self) -> float:
        """The linkage rate in percent."""
        return 100 * self.linked / self.filled


@dataclass(frozen=True, slots=True)
class LinkageReport:
    """Linkage by source, and fills without an order, without metadata, or with an external order.

    `imported` are older records, which never had an order of ours.
    """

    sources: Sequence[SourceLinkage]
    fills: int
    without_order: int
    without_metadata: int
    outside: int
    by_rest: int
    imported: int
    unlinked: Sequence[str]

    @property
    def percent(self) -> float | None:
        """Over all sources; None if nothing has filled."""
        filled = sum(item.filled for item in self.sources)
        return 100 * sum(item.linked for item in self.sources) / filled if filled else None

    @property
    def alarming(self) -> bool:
        """No linkage at all with more than ten sighook orders."""
        return any(item.source == "sighook" and item.filled > ALERT_FROM and not item.linked for item in self.sources)


async def read_linkage(
    connection: Any, account: str, since: datetime | None = None, until: datetime | None = None
) -> LinkageReport:
    """Orders received, and fills made, from `since` until before `until`. Raises the database's errors."""
    rows = await connection.fetch(_BY_SOURCE, account, since, until)
    fills = await connection.fetchrow(_FILLS, account, since, until)
    unlinked = await connection.fetch(_UNLINKED, account, since, until)
    return LinkageReport(
        sources=[SourceLinkage(**dict(row)) for row in rows],
        unlinked=[row["order_key"] for row in unlinked],
        **dict(fills),
    )
