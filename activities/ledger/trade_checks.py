"""Checks of the rows of trades and their exit plans; see `activities.ledger.checks`."""

from __future__ import annotations

from activities.ledger.row_comparison import ENDED, compared
from domain.orders import EntryPoint

__all__ = ["CLOSED_HOLDS", "EXIT_PLAN", "POSITION_BOOK", "TRADE", "TRADE_MISSING"]

# What an exit sold beyond its trade is no position's, and has an incident of its own.
_UNLESS_OVERSOLD = "CASE WHEN s.size IS NULL THEN coalesce({right}, 0) ELSE {stored} END"
_SOLD = [
    (name, f"t.{name}", _UNLESS_OVERSOLD.format(right=f"x.{name}", stored=f"t.{name}"))
    for name in ("sold_size", "sold_value", "sold_quote_fees", "sold_base_fees")
]
POSITION_BOOK = compared(
    """trades t LEFT JOIN (
            SELECT o.entry_key, sum(f.size) FILTER (WHERE f.side = 'BUY') AS bought_size,
                   sum(f.base_fees) FILTER (WHERE f.side = 'BUY') AS bought_base_fees,
                   sum(f.quote_fees) FILTER (WHERE f.side = 'BUY') AS bought_quote_fees,
                   sum(f.value) FILTER (WHERE f.side = 'BUY') AS bought_value,
                   sum(f.size) FILTER (WHERE f.side = 'SELL') AS sold_size,
                   sum(f.base_fees) FILTER (WHERE f.side = 'SELL') AS sold_base_fees,
                   sum(f.quote_fees) FILTER (WHERE f.side = 'SELL') AS sold_quote_fees,
                   sum(f.value) FILTER (WHERE f.side = 'SELL') AS sold_value
              FROM fills f JOIN orders o USING (order_key)
             WHERE f.account = $1 AND o.entry_key IS NOT NULL GROUP BY 1) x USING (entry_key)
          LEFT JOIN (
            SELECT o.entry_key, sum((i.details ->> 'surplus')::numeric) AS size
              FROM incidents i JOIN orders o ON o.order_key = i.subject
             WHERE i.account = $1 AND i.kind = 'OVERSOLD' GROUP BY 1) s USING (entry_key)
          LEFT JOIN (
            SELECT subject, CASE WHEN bool_and(details ? 'size') THEN sum((details ->> 'size')::numeric) END AS size
              FROM incidents WHERE account = $1 AND kind = 'SOLD_OUTSIDE' GROUP BY 1) e ON e.subject = t.entry_key
     WHERE t.account = $1""",
    "trade",
    "t.entry_key",
    [
        *((name, f"t.{name}", f"coalesce(x.{name}, 0)") for name in (
            "bought_size", "bought_value", "bought_quote_fees", "bought_base_fees",
        )),
        *_SOLD,
        (
            "what it sold",
            "t.sold_size + t.sold_base_fees",
            "coalesce(x.sold_size, 0) + coalesce(x.sold_base_fees, 0) - coalesce(s.size, 0)",
        ),
        (
            "external_size",
            "t.external_size",
            "CASE WHEN e.subject IS NULL THEN 0 ELSE coalesce(e.size, t.external_size) END",
        ),
    ],
    "t.symbol",
)  # fmt: skip

TRADE_MISSING = """
        SELECT o.entry_key AS subject, min(o.symbol) AS symbol,
               format('orders of trade %s have filled (%s), and it has no row: nobody guards what it may hold',
                      o.entry_key, string_agg(o.side || ' ' || o.filled_size, ', ')) AS sentence
          FROM orders o LEFT JOIN trades t ON t.entry_key = o.entry_key
         WHERE o.account = $1 AND o.entry_key IS NOT NULL AND o.filled_size > 0 AND t.entry_key IS NULL
         GROUP BY o.entry_key"""

# Closing writes the trade, its plan and its entry's linkage in one statement.
TRADE = compared(
    f"""trades t JOIN orders o ON o.order_key = t.entry_key
          LEFT JOIN exit_plans p ON p.entry_key = t.entry_key
          LEFT JOIN trade_strategy_link l ON l.order_key = t.entry_key
          LEFT JOIN (
            SELECT entry_key, count(*) FILTER (WHERE entry_point = '{EntryPoint.EXIT}') AS legs,
                   array_agg(DISTINCT coalesce(exit_reason, 'MANUAL')) AS reasons,
                   array_agg((intent ->> 'trigger_price')::numeric ORDER BY received_at DESC) AS triggers
              FROM orders WHERE role = 'EXIT' AND account = $1 AND entry_key IS NOT NULL GROUP BY 1
          ) x ON x.entry_key = t.entry_key
     WHERE (t.account = $1 OR o.account = $1)""",
    "trade",
    "t.entry_key",
    [
        ("account", "t.account", "o.account"),
        ("symbol", "t.symbol", "o.symbol"),
        ("entry_trigger", "t.entry_trigger", "o.trigger"),
        (
            "state",
            "t.state",
            """CASE WHEN p.state = 'DISARMED' THEN 'CLOSED' WHEN t.state <> 'CLOSED' OR p.state IS NULL THEN t.state
                    WHEN p.state = 'EXITING' THEN 'CLOSING' ELSE 'PROTECTED' END""",
        ),
        ("rules", "t.rules", "coalesce(p.rules, t.rules)"),
        ("opened_at", "t.opened_at", "coalesce(o.first_fill_at, t.opened_at)"),
        (
            "closed_at",
            "t.closed_at",
            """CASE WHEN t.state = 'CLOSED'
                    THEN coalesce(l.completed_at, least(t.closed_at, p.updated_at), p.updated_at, t.opened_at) END""",
        ),
        (
            "exit_reason",
            "t.exit_reason",
            """CASE WHEN t.state = 'CLOSED' AND p.entry_key IS NOT NULL THEN p.exit_reason
                    WHEN t.exit_reason = ANY(x.reasons) OR (t.remaining = 0 AND t.exit_reason = 'MANUAL')
                    THEN t.exit_reason END""",
        ),
        ("dust_size", "t.dust_size", "CASE WHEN t.state = 'CLOSED' THEN t.dust_size ELSE 0 END"),
        (
            "entry_final",
            "t.entry_final",
            f"""CASE WHEN t.state = 'CLOSED' THEN true WHEN NOT o.finished THEN false
                     WHEN o.role = 'ENTRY' AND NOT EXISTS (SELECT FROM attempts a WHERE a.order_key = t.entry_key
                                                              AND a.status NOT IN {ENDED}) THEN true
                     ELSE t.entry_final END""",
        ),
        ("exit_legs", "t.exit_legs", "least(t.exit_legs, coalesce(x.legs, 0))"),
        (
            "trigger_price",
            "t.trigger_price",
            "CASE WHEN t.trigger_price = ANY(x.triggers) THEN t.trigger_price END",
        ),
    ],
    "o.symbol",
)

EXIT_PLAN = """
        SELECT t.entry_key AS subject, t.symbol,
               CASE WHEN p.entry_key IS NULL
                    THEN format('trade %s is open and has no exit plan: nobody guards its %s', t.entry_key, t.remaining)
                    ELSE format('the exit plan of trade %s is of %s %s, the trade of %s %s', t.entry_key, p.account,
                                p.symbol, t.account, t.symbol) END AS sentence
          FROM trades t LEFT JOIN exit_plans p USING (entry_key)
         WHERE t.account = $1 AND CASE WHEN p.entry_key IS NULL THEN t.state <> 'CLOSED'
                                       ELSE (p.account, p.symbol) <> (t.account, t.symbol) END"""

CLOSED_HOLDS = """
        SELECT entry_key AS subject, symbol, format('trade %s is closed and holds %s', entry_key, remaining) AS sentence
          FROM trades WHERE account = $1 AND state = 'CLOSED' AND remaining <> 0"""
