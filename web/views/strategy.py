"""The strategy's newest run: its decision for each product, and the outcomes of its signals."""

from __future__ import annotations

from web.views import Ledger, Row

__all__ = ["decision_of", "newest_run", "read_matrix"]

_RUN = "SELECT * FROM strategy_runs WHERE account = $1 ORDER BY at DESC LIMIT 1"
_DECIDED = "SELECT at, action, reason FROM market_snapshots WHERE snapshot_id = $1::uuid AND symbol = $2"
_MATRIX = """
SELECT m.symbol, m.price, m.action, m.trigger, m.buy_score, m.sell_score, m.indicators_fired, m.indicator_breakdown,
       m.reason, s.decision, s.order_key, s.details ->> 'sentence' AS sentence
  FROM market_snapshots m
  LEFT JOIN LATERAL (SELECT decision, order_key, details FROM trade_signals
                      WHERE snapshot_id = m.snapshot_id AND symbol = m.symbol ORDER BY id DESC LIMIT 1) s ON true
 WHERE m.snapshot_id = $1 AND ($2::text IS NULL OR m.symbol = $2)
 ORDER BY (m.action = 'hold'), GREATEST(m.buy_score, m.sell_score) DESC, m.symbol LIMIT $3
"""


async def newest_run(ledger: Ledger, account: str) -> Row | None:
    """The newest run of an account's strategy; None before the first."""
    return await ledger.fetchrow(_RUN, account)


async def read_matrix(ledger: Ledger, snapshot_id: str, *, symbol: str | None, most: int) -> list[Row]:
    """At most `most` rows of a run's matrix: buys and sells first, then the highest scores; of one product, or all."""
    return await ledger.fetch(_MATRIX, snapshot_id, symbol, most)


async def decision_of(ledger: Ledger, snapshot_id: str | None, symbol: str) -> Row | None:
    """The matrix's row behind an order: at, action, reason; None if no run decided it, or it is no longer kept."""
    return await ledger.fetchrow(_DECIDED, snapshot_id, symbol) if snapshot_id else None
