"""Whether nothing was bought while it was on the block list (by `domain.block_list`)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from activities.database import Connection
from activities.interfaces.ledger import Violation
from domain.block_list import BENEATH, BlockList, Bought

__all__ = ["bought_while_blocked"]

_LIST_CHANGES = f"""
SELECT at, old, new FROM setting_changes
 WHERE account = $1 AND key = 'symbols.block' AND why NOT LIKE '%{BENEATH}' ORDER BY id
"""
_LIST_NOW = """
SELECT least((SELECT at FROM setting_bases WHERE account = $1),
             (SELECT min(at) FROM setting_changes WHERE account = $1)) AS since,
       coalesce((SELECT value FROM setting_overrides WHERE account = $1 AND key = 'symbols.block'),
                (SELECT said -> 'symbols.block' FROM setting_bases WHERE account = $1)) AS names
"""
_BOUGHT = """
SELECT o.order_key, o.symbol, o.received_at AS at FROM orders o
 WHERE o.account = $1 AND o.role = 'ENTRY' AND o.side = 'BUY' AND o.gate IS NULL AND o.symbol = ANY ($2)
UNION ALL
SELECT o.order_key, o.symbol, a.prepared_at FROM attempts a JOIN orders o USING (order_key)
 WHERE a.account = $1 AND a.number > 1 AND o.role = 'ENTRY' AND o.side = 'BUY' AND o.symbol = ANY ($2)
"""
_BOUGHT_BEFORE = """
SELECT count(*) AS entries, min(received_at) AS first, max(received_at) AS last FROM orders
 WHERE account = $1 AND role = 'ENTRY' AND side = 'BUY' AND gate IS NULL
   AND ($2::timestamptz IS NULL OR received_at < $2)
"""
_LATE = timedelta(days=7)


async def bought_while_blocked(connection: Connection, account: str) -> tuple[list[Violation], list[str]]:
    """What was bought while it was blocked; and as sentences what of that is long ago, and what nobody knows."""
    now = await connection.fetchrow(_LIST_NOW, account)
    rows = await connection.fetch(_LIST_CHANGES, account)
    first = rows[0]["old"] if rows else now["names"]
    since = None if first is None and not rows else now["since"]
    history = BlockList(since, frozenset(first or ()), [(row["at"], frozenset(row["new"] or ())) for row in rows])
    ever = history.first.union(*(names for _, names in history.changes))
    bought = [Bought(**dict(row)) for row in await connection.fetch(_BOUGHT, account, sorted(ever))]
    wrong, told = [], []
    for item in history.breaches(bought):
        sentence = (
            f"order {item.bought.order_key} bought {item.bought.symbol} at {_time(item.bought.at)}, which was on the "
            f"block list since {_time(item.since)}"
        )
        if item.early:
            told.append(f"{sentence}: not every worker had heard of that yet")
        elif datetime.now(UTC) - item.bought.at > _LATE:
            told.append(sentence)
        else:
            wrong.append(
                Violation(
                    check="BOUGHT_WHILE_BLOCKED",
                    subject=item.bought.order_key,
                    symbol=item.bought.symbol,
                    sentence=sentence,
                )
            )
    before = await connection.fetchrow(_BOUGHT_BEFORE, account, history.since)
    if before["entries"]:
        known = f"before {_time(history.since)}" if history.since else "because no worker has recorded its settings"
        told.append(
            f"the block list is not known {known}: whether one of the {before['entries']} entries from "
            f"{_time(before['first'])} to {_time(before['last'])} was blocked can't be said"
        )
    return wrong, told


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + "Z"
