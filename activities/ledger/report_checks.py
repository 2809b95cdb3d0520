"""Checks of the rows of trade records, exits, transfers and linkages; see `activities.ledger.checks`."""

from __future__ import annotations

from activities.ledger.row_comparison import ENDED, LEGS, REASONS, STATUSES, compared, near

__all__ = ["EXIT", "EXIT_ROWS", "LINK", "LINK_MISSING", "RECORD", "RECORD_ROWS", "TRANSFER", "TRANSFER_MISSING"]

RECORDED = """(SELECT f.exchange_order_id AS order_id, min(f.symbol) AS symbol, min(f.side) AS side,
                      min(f.order_key) AS order_key, min(f.client_order_id) AS client_order_id,
                      (array_agg(f.at ORDER BY f.id))[1] AS first_at, (array_agg(f.ingest_via ORDER BY f.id))[1] AS via,
                      bool_and(f.ingest_via = 'import') AS imported, bool_and(f.origin = 'derived') AS derived,
                      count(*) OVER (PARTITION BY coalesce(min(f.order_key), f.exchange_order_id)) AS records
                 FROM fills f WHERE f.account = $1 GROUP BY f.exchange_order_id)"""
"""What trade records are made of: an account's ($1) fills by the exchange's order."""

RECORD_COLUMNS = {
    "symbol": "f.symbol",
    "side": "f.side",
    "order_key": "f.order_key",
    "client_order_id": "f.client_order_id",
    "order_time": """CASE WHEN f.records = 1 THEN coalesce(o.first_fill_at, CASE WHEN f.derived OR f.imported
                               THEN f.first_at END, r.order_time)
                          WHEN f.derived THEN f.first_at ELSE r.order_time END""",
    "trigger": f"""CASE WHEN o.order_key IS NULL
                        THEN coalesce(i.trigger, '{{"trigger": "manual", "snapshot_id": null}}'::jsonb)
                        WHEN o.protection_role IN {LEGS} THEN r.trigger
                        ELSE jsonb_build_object('trigger', o.trigger, 'snapshot_id', o.snapshot_id) END""",
    "exit_reason": "CASE WHEN o.order_key IS NULL THEN i.exit_reason ELSE o.exit_reason END",
    "order_type": "CASE WHEN o.order_key IS NULL THEN coalesce(i.order_type, 'UNKNOWN') ELSE o.order_type END",
    **{
        name: f"CASE WHEN f.side = 'SELL' THEN r.{name} END"
        for name in ("pnl_usd", "cost_basis_usd", "sale_proceeds_usd", "net_sale_proceeds_usd", "parent_id")
    },
    "parent_ids": "CASE WHEN f.side = 'SELL' THEN r.parent_ids ELSE '{}' END",
    "status": f"""CASE WHEN o.order_key IS NULL THEN 'FILLED' WHEN a.status IN {ENDED} OR r.status IN {ENDED}
                       OR r.status NOT IN {STATUSES} THEN a.status ELSE r.status END""",
    "source": "CASE WHEN o.order_key IS NULL THEN coalesce(i.source, 'import') ELSE o.source END",
    "ingest_via": "CASE WHEN f.imported THEN 'import' WHEN r.ingest_via = 'import' THEN f.via ELSE r.ingest_via END",
}
"""Of a trade record `r`, with its fills `f` (RECORDED), order `o`, attempt `a` and imported record `i`: what they must
be. What follows from the FIFO book and the totals is in `activities.ledger.recompute`.
"""

RECORD_SOURCES = (
    "LEFT JOIN orders o ON o.order_key = f.order_key LEFT JOIN attempts a ON a.client_order_id = f.client_order_id "
    "LEFT JOIN imported_records i ON i.account = $1 AND i.order_id = f.order_id AND f.imported"
)

RECORD_ROWS = f"""
        SELECT coalesce(r.order_id, f.order_id) AS subject, coalesce(r.symbol, f.symbol) AS symbol,
               CASE WHEN r.order_id IS NULL THEN format('order %s has fills and no trade record', f.order_id)
                    ELSE format('the trade record of order %s has no fills', r.order_id) END AS sentence
          FROM {RECORDED} f FULL JOIN (SELECT * FROM trade_records WHERE account = $1) r ON r.order_id = f.order_id
         WHERE r.order_id IS NULL OR f.order_id IS NULL"""
RECORD = compared(
    f"""{RECORDED} f JOIN trade_records r ON r.order_id = f.order_id AND r.account = $1 {RECORD_SOURCES}
     WHERE true""",
    "trade record of order",
    "r.order_id",
    [(name, f"r.{name}", right) for name, right in RECORD_COLUMNS.items()],
    "f.symbol",
)

# An exit is told again where its order fills after its end, but for its reason and what made it due. What an entry
# fills after an exit is no part of what that exit achieved; a minute is more than a fill waits to be written.
EXIT_SOURCES = """orders o JOIN trade_exits x USING (order_key) JOIN trades t ON t.entry_key = o.entry_key LEFT JOIN (
            SELECT order_key, max(recorded_at) AS until, count(*) AS count FROM fills
             WHERE account = $1 AND side = 'BUY' GROUP BY 1
          ) bought ON bought.order_key = o.entry_key LEFT JOIN (
            SELECT order_key, min(recorded_at) AS since FROM fills WHERE account = $1 AND side = 'SELL' GROUP BY 1
          ) sold ON sold.order_key = o.order_key LEFT JOIN (
            SELECT order_key, count(*) AS count FROM attempts WHERE account = $1 GROUP BY 1
          ) sent ON sent.order_key = o.order_key
     WHERE o.account = $1 AND o.filled_size > 0"""
"""Exit rows `x` with their order, trade, and when that bought and sold."""

_PRICE = "o.filled_value / o.filled_size"
_NET_PRICE = "(o.filled_value - o.quote_fees) / o.filled_size"
_COST = "t.bought_value / nullif(t.bought_size, 0)"
_NET_COST = "(t.bought_value + t.bought_quote_fees) / nullif(t.bought_size, 0)"


def _achieved(stored: str, price: str, cost: str) -> str:
    grown = "bought.until > x.at - CASE WHEN bought.count > 1 THEN interval '1 minute' ELSE interval '0' END"
    return f"CASE WHEN {grown} THEN {stored} ELSE {near(stored, f'{price} / ({cost}) - 1', '1')} END"


EXIT_COLUMNS = {
    "size": "o.filled_size",
    "fees": "o.quote_fees",
    "average_price": near("x.average_price", _PRICE, _PRICE),
    "achieved_gross": _achieved("x.achieved_gross", _PRICE, _COST),
    "achieved_net": _achieved("x.achieved_net", _NET_PRICE, _NET_COST),
    "slippage": f"""CASE WHEN o.protection_role IS NOT NULL OR x.trigger_price IS NULL AND x.slippage IS NULL
                         THEN x.slippage ELSE {near("x.slippage", f"{_PRICE} - x.trigger_price", _PRICE)} END""",
    "entry_key": "o.entry_key",
    "reason": f"""CASE WHEN o.protection_role IS NULL THEN coalesce(o.exit_reason, 'MANUAL')
                       WHEN x.reason IN {REASONS} THEN x.reason ELSE o.exit_reason END""",
    "trigger_price": """CASE WHEN o.protection_role IS NOT NULL AND x.trigger_price = o.limit_price THEN x.trigger_price
                             ELSE (o.intent ->> 'trigger_price')::numeric END""",
    "path": """CASE WHEN o.protection_role IS NOT NULL THEN 'exchange'
                    WHEN x.reason = 'TP' AND o.intent ->> 'due_at' IS NULL AND x.path = 'quote' THEN 'quote'
                    ELSE 'monitored' END""",
    "attempts": "sent.count",
    "due_at": "(o.intent ->> 'due_at')::timestamptz",
    # Its row is written with the order's end, or with the first fill after that.
    "at": """CASE WHEN x.at BETWEEN o.finished_at AND greatest(o.finished_at, sold.since) THEN x.at
                  ELSE o.finished_at END""",
}
"""Of an exit (EXIT_SOURCES): what it must be. `attempts` and what follows from the totals are told anew each time."""

EXIT_ROWS = """
        SELECT coalesce(o.order_key, x.order_key) AS subject, coalesce(o.symbol, t.symbol) AS symbol,
               CASE WHEN x.order_key IS NULL
                    THEN format('exit order %s sold %s of trade %s, and no exit says so', o.order_key, o.filled_size,
                                o.entry_key)
                    ELSE format('exit %s of trade %s is of no order that has sold and ended', x.order_key, x.entry_key)
                    END AS sentence
          FROM (SELECT o.* FROM orders o JOIN trades USING (entry_key)
                 WHERE o.account = $1 AND o.role = 'EXIT' AND o.finished AND o.filled_size > 0) o
          FULL JOIN (SELECT x.* FROM trade_exits x JOIN trades USING (entry_key) WHERE account = $1) x USING (order_key)
          LEFT JOIN trades t ON t.entry_key = x.entry_key
         WHERE o.order_key IS NULL OR x.order_key IS NULL"""
EXIT = compared(
    EXIT_SOURCES,
    "exit",
    "x.order_key",
    [(name, f"x.{name}", right) for name, right in EXIT_COLUMNS.items()],
    "o.symbol",
)

# A deposit or withdrawal is told in the transaction that books it.
TRANSFER = compared(
    """balance_transfers b LEFT JOIN (
            SELECT DISTINCT kind, subject, at FROM incidents
             WHERE account = $1 AND kind IN ('BALANCE_DEPOSIT', 'BALANCE_WITHDRAWAL')
          ) i ON i.at = b.at AND i.subject = b.currency AND i.kind = 'BALANCE_' || upper(b.kind)
     WHERE b.account = $1""",
    "transfer",
    "b.id::text",
    [
        ("amount", "b.amount", "b.found - b.expected"),
        (
            "kind",
            "b.kind",
            """CASE WHEN b.kind = 'opening' THEN b.kind WHEN abs(b.amount) < 0.000001 THEN 'rounding'
                    WHEN b.amount > 0 THEN 'deposit' ELSE 'withdrawal' END""",
        ),
        (
            "what was told of it",
            "CASE WHEN i.at IS NULL THEN 'nothing with its time, kind and currency' ELSE b.currency END",
            """CASE WHEN b.kind IN ('deposit', 'withdrawal') THEN b.currency WHEN i.at IS NULL
                    THEN 'nothing with its time, kind and currency' ELSE b.currency END""",
        ),
    ],
    "NULL::text",
)
TRANSFER_MISSING = """
        SELECT i.subject, NULL::text AS symbol, format('a transfer is missing: %s', i.sentence) AS sentence
          FROM incidents i LEFT JOIN balance_transfers b ON b.account = i.account AND b.currency = i.subject
           AND b.at = i.at
         WHERE i.account = $1 AND i.kind IN ('BALANCE_DEPOSIT', 'BALANCE_WITHDRAWAL') AND b.id IS NULL"""

LINK_MISSING = """
        SELECT o.order_key AS subject, o.symbol,
               format('order %s has filled, and nothing links it to its decision', o.order_key) AS sentence
          FROM orders o LEFT JOIN trade_strategy_link l USING (order_key)
         WHERE o.account = $1 AND o.role <> 'EXTERNAL' AND o.filled_size > 0 AND l.order_key IS NULL"""
LINK = compared(
    """trade_strategy_link l JOIN orders o USING (order_key) LEFT JOIN trades t ON t.entry_key = o.order_key
     WHERE o.account = $1""",
    "linkage of order",
    "l.order_key",
    [
        ("entry_key", "l.entry_key", "o.entry_key"),
        ("snapshot_id", "l.snapshot_id", "o.snapshot_id"),
        ("buy_score", "l.buy_score", "o.buy_score"),
        ("trigger_type", "l.trigger_type", "o.trigger"),
        ("indicator_breakdown", "l.indicator_breakdown", "o.indicator_breakdown"),
        ("indicators_fired", "l.indicators_fired", "o.indicators_fired"),
        (
            "exit_reason",
            "l.exit_reason",
            """CASE WHEN o.role <> 'ENTRY' THEN o.exit_reason WHEN t.state = 'CLOSED' THEN t.exit_reason
                    ELSE l.exit_reason END""",
        ),
    ],
    "o.symbol",
)
