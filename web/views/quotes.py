"""The market maker: its resting quotes, and the last rounds' decisions for each side."""

from __future__ import annotations

from typing import Any

from domain.quoting import QUOTES
from web.views import Ledger, Row

__all__ = ["described_round", "read_quotes", "read_rounds"]

_QUOTES = """
SELECT o.order_key, o.symbol, o.side, coalesce(a.limit_price, o.limit_price) AS price, o.base_size AS size,
       o.filled_size AS filled, o.state, CASE WHEN o.role = 'EXIT' THEN o.entry_key END AS trade, o.received_at
  FROM orders o LEFT JOIN LATERAL (
       SELECT limit_price FROM attempts WHERE order_key = o.order_key ORDER BY number DESC LIMIT 1) a ON true
 WHERE o.account = $1 AND NOT o.finished AND o.entry_point = $3 AND ($2::text IS NULL OR o.symbol = $2)
 ORDER BY o.symbol, o.side, o.received_at
"""
_ROUNDS = """
SELECT q.*, b.gate AS bid_gate, b.gate_sentence AS bid_gate_sentence, a.gate AS ask_gate,
       a.gate_sentence AS ask_gate_sentence
  FROM (SELECT *, row_number() OVER (PARTITION BY symbol ORDER BY at DESC) AS nth FROM quote_rounds
         WHERE account = $1 AND ($2::text IS NULL OR symbol = $2) AND at > now() - interval '30 days') q
  LEFT JOIN orders b ON b.order_key = q.bid_order_key
  LEFT JOIN orders a ON a.order_key = q.ask_order_key
 WHERE q.nth <= $3 ORDER BY q.symbol, q.at DESC
"""


async def read_quotes(ledger: Ledger, account: str, symbol: str | None) -> list[Row]:
    """Quotes that have not ended: of one product, or all. Sizes in base, prices in quote per base."""
    return await ledger.fetch(_QUOTES, account, symbol, QUOTES)


async def read_rounds(ledger: Ledger, account: str, symbol: str | None, most: int) -> list[Row]:
    """At most `most` rounds of the last 30 days a product, newest first, with the gates that refused a quote."""
    return await ledger.fetch(_ROUNDS, account, symbol, most)


def described_round(row: Row) -> dict[str, Any]:
    """A round as JSON: each side with its code, sentence, price (quote per base), size (base) and order."""
    sides = {
        side: {
            name: row[f"{side}_{name}"]
            for name in ("code", "sentence", "price", "size", "order_key", "gate", "gate_sentence")
        }
        for side in ("bid", "ask")
    }
    return {
        "symbol": row["symbol"],
        "at": row["at"],
        "snapshot_id": str(row["snapshot_id"]),
        **sides,
        "numbers": row["numbers"],
        "cancelled": row["cancelled"],
    }
