"""The newest bid that is known of a symbol while the exchange's book doesn't answer, whoever keeps it.

That is the price watcher (`exit_bids`, of open trades), the keeper of market data (`market_prices`), or the trade's
last exit, in its trigger.

A time further ahead of the database's than `AHEAD_SECONDS` is a wrong clock's: what it says is used only where nothing
else is known, and as old.
"""

from __future__ import annotations

from domain.gate_facts import AHEAD_SECONDS
from domain.orders import EntryPoint

__all__ = ["KEPT_BID", "LAST_PRICE"]

_KEPT_SECONDS = 60

LAST_PRICE = f"""
SELECT bid, CASE WHEN at > now() + interval '{AHEAD_SECONDS} seconds' THEN now() - interval '1 day'
                 ELSE least(at, now()) END AS at
  FROM (
    SELECT coalesce(m.bid, m.price) AS bid, m.at FROM market_prices m WHERE m.account = $1 AND m.symbol = $2
    UNION ALL
    SELECT b.bid, b.at FROM exit_bids b WHERE b.account = $1 AND b.symbol = $2) known
 WHERE bid > 0 AND at IS NOT NULL ORDER BY 2 DESC LIMIT 1
"""
"""Account, symbol."""

KEPT_BID = f"""
(SELECT known.bid FROM (
    SELECT m.bid, m.at FROM market_prices m WHERE m.account = t.account AND m.symbol = t.symbol
    UNION ALL
    SELECT b.bid, b.at FROM exit_bids b WHERE b.account = t.account AND b.symbol = t.symbol
    UNION ALL
    (SELECT (o.intent ->> 'trigger_price')::numeric, (o.intent ->> 'due_at')::timestamptz FROM orders o
      WHERE o.entry_key = t.entry_key AND o.role = 'EXIT' AND o.entry_point = '{EntryPoint.EXIT}'
      ORDER BY o.received_at DESC LIMIT 1)) known
  WHERE known.bid > 0 AND known.at > now() - make_interval(secs => {_KEPT_SECONDS})
    AND known.at <= now() + interval '{AHEAD_SECONDS} seconds' ORDER BY known.at DESC LIMIT 1)
"""
"""The newest bid of the last minute that is known in a trade `t`'s symbol."""
