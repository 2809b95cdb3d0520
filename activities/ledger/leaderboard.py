"""The leaderboard of symbols from the ledger's closed trades, used by market making and strategy to choose symbols."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from activities.database import Statements
from domain.leaderboard import SymbolRank, SymbolRecord, rank_symbols
from domain.statistics import Sample

__all__ = ["leaderboard"]

_RECORDS = """
SELECT symbol, count(*) AS trades, count(*) FILTER (WHERE gain > 0) AS wins, sum(gain) AS pnl,
       avg((gain / cost)::float8) AS mean, coalesce(var_samp((gain / cost)::float8), 0) AS variance
  FROM (SELECT symbol, pnl AS gain, sold_value - sold_quote_fees - pnl AS cost  -- of what was sold
          FROM trades WHERE account = $1 AND state = 'CLOSED' AND sold_size > 0
           AND bought_size > bought_base_fees AND ($2::timestamptz IS NULL OR closed_at >= $2)) closed
 WHERE cost > 0
 GROUP BY symbol
"""


async def leaderboard(
    pool: Statements, account: str, *, since: datetime | None = None, least_trades: int = 5
) -> Sequence[SymbolRank]:
    """Symbols by the least a trade in them is likely to gain, best first. Raises the database's errors."""
    rows = await pool.fetch(_RECORDS, account, since)
    records = [
        SymbolRecord(row["symbol"], Sample(row["trades"], row["mean"], row["variance"]), row["wins"], row["pnl"])
        for row in rows
    ]
    return rank_symbols(records, least_trades=least_trades)
