"""What is still open when a system stops, and the result of its ledger check at the start."""

from __future__ import annotations

from datetime import datetime

from web.views import Ledger, Row

__all__ = ["newest_check", "what_is_left"]

_LEFT = """
SELECT (SELECT array_agg(symbol ORDER BY symbol) FROM trades
         WHERE account = $1 AND state <> 'CLOSED') AS trades,
       (SELECT count(DISTINCT o.entry_key) FROM orders o JOIN attempts a ON a.order_key = o.order_key AND a.live
         WHERE o.account = $1 AND o.protection_role IS NOT NULL AND NOT o.finished) AS protected,
       (SELECT count(*) FROM attempts a JOIN orders o USING (order_key)
         WHERE o.account = $1 AND a.live AND o.protection_role IS NOT NULL) AS protections,
       (SELECT count(*) FROM attempts a JOIN orders o USING (order_key)
         WHERE o.account = $1 AND a.live AND o.protection_role IS NULL AND o.role <> 'EXTERNAL') AS others
"""
_CHECK = "SELECT ok, violations, seconds FROM ledger_checks WHERE account = $1 AND at >= $2 ORDER BY at DESC LIMIT 1"


async def what_is_left(ledger: Ledger, account: str) -> Row:
    """The symbols of open `trades` (one each, None without any), how many of them are `protected` at the exchange, and
    how many `protections` and `others` of our orders rest there.
    """
    (row,) = await ledger.fetch(_LEFT, account)
    return row


async def newest_check(ledger: Ledger, account: str, since: datetime) -> Row | None:
    """Whether the newest check of the ledger since then was `ok`, its `violations` and `seconds`; None: none yet."""
    return await ledger.fetchrow(_CHECK, account, since)
