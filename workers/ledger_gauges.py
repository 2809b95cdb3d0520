"""Gauges of an account that are read from the ledger: the same whichever process reads them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from activities.exits.price_watcher import watcher_lease
from activities.orders.limits import closed_today
from domain.sharding import shard_of

if TYPE_CHECKING:
    from activities.database import Pool
    from activities.policy import Policy

__all__ = ["GAUGES", "Readings", "read_gauges"]

Readings = dict[str, list[tuple[str, float]]]
"""By gauge: each label's value with its number."""

GAUGES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "linkage_rate": ("source", "share of filled orders of the last day that carry their decision"),
        "data_age_seconds": ("stream", "seconds since a stream's last message; healthy below 60"),
        "stream_connected": ("stream", "1 while a stream is connected"),
        "stream_reconnects": ("stream", "connections of a stream after its first"),
        "open_trades": ("state", "trades with a position"),
        "open_orders": ("state", "orders that have not ended"),
        "open_incidents": ("severity", "incidents that nobody has resolved"),
        "unrouted_facts": ("which", "facts of the exchange that are stored and not yet routed"),
        "ledger_violations": ("which", "violations that the last check of the ledger found"),
        "reconciled_age_seconds": ("which", "seconds since the time up to which the books were reconciled"),
        "unprotected_trades": ("which", "open trades that nobody watches and for which no order rests"),
        "unprotected_age_seconds": ("which", "how long the longest of them has been so"),
        "pnl_today": ("currency", "result of the UTC day's closed trades, as the daily loss limit counts it"),
        "daily_loss_limit": ("currency", "loss of a UTC day that halts entries; 0: no limit"),
        "losses_in_a_row": ("which", "newest closed trades that lost in a row"),
        "entries_halted": ("which", "1 while entries are halted"),
    }
)
"""Gauge, without its prefix: its label and its meaning. The label `which` is always `all`."""

_ALL = "all"
_GRACE_S = 4.0
"""A lease that expired this recently may be about to get its next holder."""

# One row a value: the gauge, the value of its label, the number.
_LOOK = """
SELECT 'linkage_rate' AS gauge, o.source AS label,
       (count(l.order_key)::float8 / count(*)) AS value
  FROM orders o LEFT JOIN trade_strategy_link l USING (order_key)
 WHERE o.account = $1 AND o.role <> 'EXTERNAL' AND o.filled_size > 0 AND o.received_at > now() - interval '1 day'
 GROUP BY o.source
UNION ALL
SELECT 'data_age_seconds', name, greatest(extract(epoch FROM now() - last_message_at), 0)::float8
  FROM stream_positions WHERE last_message_at IS NOT NULL AND split_part(name, '/', 2) = $1
UNION ALL
SELECT 'stream_connected', name, connected::int::float8 FROM stream_positions
 WHERE split_part(name, '/', 2) = $1 AND split_part(name, '/', 1) <> 'reconcile'
UNION ALL
SELECT 'stream_reconnects', name, greatest(connections - 1, 0)::float8 FROM stream_positions
 WHERE split_part(name, '/', 2) = $1 AND split_part(name, '/', 1) <> 'reconcile'
UNION ALL
SELECT 'reconciled_age_seconds', 'all', greatest(extract(epoch FROM now() - caught_up_to), 0)::float8
  FROM stream_positions WHERE name = 'reconcile/' || $1 AND caught_up_to IS NOT NULL
UNION ALL
SELECT 'open_trades', state, count(*)::float8 FROM trades WHERE account = $1 AND state <> 'CLOSED' GROUP BY state
UNION ALL
SELECT 'open_orders', state, count(*)::float8 FROM orders WHERE account = $1 AND NOT finished GROUP BY state
UNION ALL
SELECT 'open_incidents', severity, count(*)::float8 FROM incidents
 WHERE account = $1 AND resolved_at IS NULL AND severity <> 'INFO' GROUP BY severity
UNION ALL
SELECT 'unrouted_facts', 'all', count(*)::float8 FROM raw_facts WHERE account = $1 AND routed_at IS NULL
UNION ALL
SELECT 'entries_halted', 'all', coalesce((SELECT halted FROM account_controls WHERE account = $1), false)::int::float8
UNION ALL
(SELECT 'ledger_violations', 'all', violations::float8 FROM ledger_checks WHERE account = $1 ORDER BY at DESC LIMIT 1)
"""
_WITHOUT_ORDERS = """
SELECT t.symbol, count(*)::int AS trades, min(t.opened_at) AS opened_at FROM trades t
 WHERE t.account = $1 AND t.state <> 'CLOSED' AND t.remaining > 0
   AND NOT EXISTS (SELECT FROM orders s WHERE s.entry_key = t.entry_key AND s.protection_role IS NOT NULL
                      AND NOT s.finished)
 GROUP BY t.symbol
"""
_UNWATCHED = """
SELECT s.symbol, greatest(extract(epoch FROM now() - greatest(s.since, l.renewed_at)), 0)::float8 AS seconds
  FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS s (symbol, lease, since)
  LEFT JOIN leases l ON l.name = s.lease
 WHERE l.name IS NULL OR l.expires_at <= now() - make_interval(secs => $4)
"""


async def read_gauges(pool: Pool, account: str, *, shards: int, policy: Policy | None = None) -> Readings:
    """Read all gauges; `shards` is the number of price watchers.

    Without `policy`, which has the limits, the day's result is left out; so it is while a part of it is not known.
    Raises the database's errors.
    """
    found: Readings = {}
    for row in await pool.fetch(_LOOK, account):
        found.setdefault(row["gauge"], []).append((row["label"], row["value"]))
    trades, seconds = await _unprotected(pool, account, shards)
    found["unprotected_trades"] = [(_ALL, float(trades))]
    found["unprotected_age_seconds"] = [(_ALL, seconds)]
    if policy is not None:
        results = await closed_today(pool, policy)
        if not results.unpriced:
            found["pnl_today"] = [(policy.currency, float(results.day_pnl))]
        found["daily_loss_limit"] = [(policy.currency, float(policy.daily_loss_limit))]
        found["losses_in_a_row"] = [(_ALL, float(results.losing_streak))]
    return found


async def _unprotected(pool: Pool, account: str, shards: int) -> tuple[int, float]:
    """How many open trades nobody watches and no order protects, and for how many seconds the longest (wall)."""
    alone = {row["symbol"]: row for row in await pool.fetch(_WITHOUT_ORDERS, account)}
    if not alone:
        return 0, 0.0
    leases = [watcher_lease(account, shard_of(symbol, shards)) for symbol in alone]
    since = [row["opened_at"] for row in alone.values()]
    rows = await pool.fetch(_UNWATCHED, list(alone), leases, since, _GRACE_S)
    return sum(alone[row["symbol"]]["trades"] for row in rows), max((row["seconds"] for row in rows), default=0.0)
