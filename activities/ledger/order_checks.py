"""Checks of the rows of orders, attempts and fills; see `activities.ledger.checks`."""

from __future__ import annotations

from activities.ledger.row_comparison import ENDED, LEGS, NEAR, ORDER_ENDS, ORDER_STATES, STATUSES, compared
from domain.orders import EntryPoint

__all__ = ["ATTEMPT", "ATTEMPT_TOTALS", "FILL", "ORDER", "ORDER_TOTALS"]

_FILLED = """(SELECT order_key, sum(size) AS size, sum(value) AS value, sum(quote_fees) AS fees,
                     sum(base_fees) AS base_fees, bool_and(origin = 'derived') AS derived,
                     (array_agg(at ORDER BY id))[1] AS first_at, (array_agg(at ORDER BY id DESC))[1] AS last_at
                FROM fills WHERE account = $1 AND order_key IS NOT NULL GROUP BY 1)"""
# Times of executions are not those of the reports that told of them first, so only derived fills say when.
ORDER_TOTALS = compared(
    f"orders o LEFT JOIN {_FILLED} f USING (order_key) WHERE o.account = $1",
    "order",
    "o.order_key",
    [
        ("filled_size", "o.filled_size", "coalesce(f.size, 0)"),
        ("filled_value", "o.filled_value", "coalesce(f.value, 0)"),
        ("quote_fees", "o.quote_fees", "coalesce(f.fees, 0)"),
        ("base_fees", "o.base_fees", "coalesce(f.base_fees, 0)"),
        (
            "first_fill_at",
            "o.first_fill_at",
            "CASE WHEN f.derived THEN f.first_at WHEN f.size > 0 THEN o.first_fill_at END",
        ),
        (
            "last_fill_at",
            "o.last_fill_at",
            "CASE WHEN f.derived THEN f.last_at WHEN f.size > 0 THEN o.last_fill_at END",
        ),
    ],
    "o.symbol",
)

ATTEMPT_TOTALS = compared(
    """attempts a LEFT JOIN (
            SELECT client_order_id, sum(size) AS size, sum(value) AS value, sum(quote_fees) AS fees,
                   sum(base_fees) AS base_fees, sum(size) FILTER (WHERE origin = 'exchange') AS settled,
                   count(*) FILTER (WHERE origin = 'derived') AS derived
              FROM fills WHERE account = $1 AND order_key IS NOT NULL GROUP BY 1) f USING (client_order_id)
     WHERE a.account = $1""",
    "attempt",
    "a.client_order_id",
    [
        ("filled_size", "a.filled_size", "coalesce(f.size, 0)"),
        ("filled_value", "a.filled_value", "coalesce(f.value, 0)"),
        ("quote_fees", "a.quote_fees", "coalesce(f.fees, 0)"),
        ("base_fees", "a.base_fees", "coalesce(f.base_fees, 0)"),
        (
            "settled_size",
            "a.settled_size",
            "CASE WHEN a.settled_size IS NOT NULL THEN coalesce(f.settled, 0) WHEN f.derived = 0 THEN f.settled END",
        ),
    ],
    "a.symbol",
)

# Refused: no attempt. Admitted: the first is written with it, and each number follows the one before.
ORDER = compared(
    """orders o LEFT JOIN (
            SELECT order_key, count(*) AS count, max(number) AS newest,
                   (array_agg(status ORDER BY number DESC))[1] AS last, bool_or(status = 'FILLED') AS filled
              FROM attempts GROUP BY 1) a USING (order_key)
     WHERE (o.account = $1 OR (o.role <> 'EXTERNAL' AND o.intent ->> 'account' = $1))""",
    "order",
    "o.order_key",
    [
        (
            "account",
            "o.account",
            "CASE WHEN o.role = 'EXTERNAL' THEN o.account ELSE coalesce(o.intent ->> 'account', o.account) END",
        ),
        (
            "symbol",
            "o.symbol",
            "CASE WHEN o.role = 'EXTERNAL' THEN o.symbol ELSE coalesce(o.intent ->> 'symbol', o.symbol) END",
        ),
        ("side", "o.side", "CASE WHEN o.role = 'EXTERNAL' THEN o.side ELSE coalesce(o.intent ->> 'side', o.side) END"),
        (
            "role",
            "o.role",
            f"""CASE WHEN o.entry_point = '{EntryPoint.EXTERNAL}' THEN 'EXTERNAL'
                    ELSE coalesce(o.intent ->> 'role', o.role) END""",
        ),
        (
            "source",
            "o.source",
            "CASE WHEN o.role = 'EXTERNAL' THEN o.source ELSE coalesce(o.intent ->> 'source', o.source) END",
        ),
        (
            "entry_point",
            "o.entry_point",
            f"""CASE WHEN o.role = 'EXTERNAL' THEN '{EntryPoint.EXTERNAL}'
                    ELSE coalesce(o.intent ->> 'entry_point', o.entry_point) END""",
        ),
        (
            "entry_key",
            "o.entry_key",
            """CASE WHEN o.role = 'ENTRY' THEN coalesce(o.intent ->> 'entry_key', o.order_key)
                    WHEN o.role = 'EXTERNAL' AND o.entry_key IS NOT NULL THEN o.order_key
                    WHEN o.role = 'EXIT' AND o.intent ? 'entry_key' THEN o.intent ->> 'entry_key'
                    ELSE o.entry_key END""",
        ),
        (
            "exit_reason",
            "o.exit_reason",
            f"""CASE WHEN o.protection_role IN {LEGS} OR o.role = 'EXTERNAL' OR NOT o.intent ? 'exit_reason'
                     THEN o.exit_reason ELSE o.intent ->> 'exit_reason' END""",
        ),
        (
            "trigger",
            "o.trigger",
            f"""CASE WHEN o.role = 'EXTERNAL' THEN 'manual' WHEN o.protection_role IN {LEGS} THEN o.trigger
                     ELSE coalesce(o.intent #>> '{{linkage,trigger}}', o.trigger) END""",
        ),
        (
            "finished",
            "o.finished",
            "CASE WHEN o.role = 'EXTERNAL' OR o.state = 'REJECTED' THEN true ELSE o.finished_at IS NOT NULL END",
        ),
        (
            "state",
            "o.state",
            f"""CASE WHEN o.gate IS NOT NULL AND a.count IS NULL THEN 'REJECTED'
                     WHEN a.last = 'FILLED' THEN 'FILLED'
                     WHEN (o.state = 'FILLED' AND NOT a.filled) OR o.state NOT IN {ORDER_STATES}
                       OR (o.state IN {ORDER_ENDS} AND NOT o.finished)
                       OR (o.finished AND a.last IN {ENDED} AND o.state NOT IN {ORDER_ENDS})
                     THEN CASE a.last WHEN 'ABSENT' THEN 'FAILED' ELSE coalesce(a.last, 'ADMITTED') END
                     ELSE o.state END""",
        ),
        (
            "gate",
            "o.gate",
            """CASE WHEN o.state = 'REJECTED' THEN coalesce(
                        (SELECT g.gate FROM gate_results g WHERE g.order_key = o.order_key AND NOT g.passed
                          ORDER BY g.position LIMIT 1), o.gate) END""",
        ),
        (
            "count of attempts",
            "coalesce(a.count, 0)",
            "CASE WHEN o.state = 'REJECTED' THEN 0 ELSE coalesce(a.newest, 1) END",
        ),
        (
            "reserved_quote",
            "o.reserved_quote",
            "CASE WHEN o.finished OR o.side = 'SELL' THEN 0 ELSE o.reserved_quote END",
        ),
        ("claimed_base", "o.claimed_base", "CASE WHEN o.finished OR o.side = 'BUY' THEN 0 ELSE o.claimed_base END"),
    ],
    "o.symbol",
)

ATTEMPT = compared(
    "attempts a LEFT JOIN orders o USING (order_key) WHERE (a.account = $1 OR o.account = $1)",
    "attempt",
    "a.client_order_id",
    [
        ("order_key", "a.order_key", "o.order_key"),
        ("account", "a.account", "o.account"),
        ("symbol", "a.symbol", "o.symbol"),
        (
            "client_order_id",
            "a.client_order_id",
            "CASE WHEN o.role = 'EXTERNAL' THEN a.client_order_id ELSE a.order_key || '-' || a.number END",
        ),
        (
            # an exit that is refused for lack of funds goes on for less
            "size",
            "a.size",
            "CASE WHEN a.number = 1 AND NOT (o.role = 'EXIT' AND a.status = 'FAILED') THEN o.base_size ELSE a.size END",
        ),
        ("limit_price", "a.limit_price", "CASE WHEN a.number = 1 THEN o.limit_price ELSE a.limit_price END"),
        (
            "status",
            "a.status",
            f"""CASE WHEN a.status NOT IN {STATUSES} THEN 'no such status'
                     WHEN a.status = 'FILLED' AND a.filled_size = 0 THEN 'not yet FILLED' ELSE a.status END""",
        ),
        ("final_at is there", "a.final_at IS NOT NULL", f"a.status IN {ENDED}"),
        (
            "live",
            "a.live",
            f"""CASE WHEN a.status IN {ENDED} OR o.role = 'EXTERNAL' THEN false WHEN a.refusal = 'ABSENT' THEN a.live
                     ELSE true END""",
        ),
    ],
    "a.symbol",
)

FILL = compared(
    """fills f LEFT JOIN orders o ON o.order_key = f.order_key
          LEFT JOIN attempts a ON a.client_order_id = f.client_order_id
     WHERE (f.account = $1 OR o.account = $1)""",
    "fill",
    "f.id::text",
    [
        ("account", "f.account", "coalesce(o.account, f.account)"),
        ("symbol", "f.symbol", "coalesce(o.symbol, f.symbol)"),
        ("side", "f.side", "coalesce(o.side, f.side)"),
        (
            "order_key",
            "f.order_key",
            "CASE WHEN f.ingest_via = 'import' THEN NULL ELSE coalesce(a.order_key, f.order_key) END",
        ),
        (
            "client_order_id",
            "f.client_order_id",
            "CASE WHEN f.order_key IS NULL THEN NULL ELSE coalesce(a.client_order_id, 'an attempt of its order') END",
        ),
        (
            "exchange_order_id",
            "f.exchange_order_id",
            "CASE WHEN f.order_key IS NULL THEN f.trade_id ELSE coalesce(a.exchange_order_id, '') END",
        ),
        ("origin", "f.origin", "CASE WHEN f.trade_id IS NULL THEN 'derived' ELSE 'exchange' END"),
        (
            "ingest_via",
            "f.ingest_via",
            """CASE WHEN f.order_key IS NULL THEN 'import' WHEN f.ingest_via IN ('websocket', 'rest') THEN f.ingest_via
                    ELSE 'websocket or rest' END""",
        ),
        (
            "fill_key",
            "f.fill_key",
            """CASE WHEN starts_with(f.fill_key, f.account || '/')
                         AND right(f.fill_key, length(f.trade_id) + 1) IS NOT DISTINCT FROM '/' || f.trade_id
                    THEN f.fill_key ELSE concat_ws('/', f.account, '…', f.trade_id) END""",
        ),
        (
            "price",
            "f.price",
            f"""CASE WHEN f.size = 0 THEN 0
                     WHEN abs(f.price * f.size - f.value) <= {NEAR} * abs(f.value) + 1e-12 THEN f.price
                     ELSE f.value / f.size END""",
        ),
        # A day for clocks that were put right meanwhile.
        (
            "recorded_at",
            "f.recorded_at",
            """CASE WHEN f.recorded_at > now() + interval '1 day' THEN now()
                    WHEN f.recorded_at < o.received_at - interval '1 day' THEN o.received_at ELSE f.recorded_at END""",
        ),
    ],
    "f.symbol",
)
