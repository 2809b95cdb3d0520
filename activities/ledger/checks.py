"""What each row of the ledger must say, as statements: every derived column is told anew from what it is derived from.

A statement each, over all rows of an account ($1) at once. It gives the row's subject, its symbol and a sentence with
the row, the column, what is stored and what is right. A row that another one demands is looked for from that other one,
so that a deleted row is missed. Rows that are written together are compared with each other; what two transactions
write one after the other is never held against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from domain.exits import ExitReason
from domain.orders import FINAL_ORDER_STATES, AttemptStatus, OrderState

__all__ = ["CHECKS"]


def _listed(words: Sequence[str]) -> str:
    return "(" + ", ".join(f"'{word}'" for word in sorted(words)) + ")"


_ORDER_STATES = _listed([state.value for state in OrderState])
_ORDER_ENDS = _listed([state.value for state in FINAL_ORDER_STATES])
_STATUSES = _listed([status.value for status in AttemptStatus])
_ENDED = _listed([status.value for status in AttemptStatus if status.final])
_REASONS = _listed([reason.value for reason in ExitReason])
_LEGS = "('OCO', 'TAKE_PROFIT', 'STOP_LOSS')"
_NEAR = "1e-8"
"""Prices are quotients, and an exchange rounds: so far they may be apart, as a fraction."""


def _compared(rows: str, what: str, subject: str, columns: Sequence[tuple[str, str, str]], symbol: str) -> str:
    """A violation for each of `columns` (name, stored, right) that differs in `rows` (FROM and WHERE)."""
    apart = "\n            OR ".join(f"({stored}) IS DISTINCT FROM ({right})" for _, stored, right in columns)
    values = ",\n            ".join(
        f"('{name}', ({stored}) IS DISTINCT FROM ({right}), ({stored})::text, ({right})::text)"
        for name, stored, right in columns
    )
    source, _, condition = rows.rpartition(" WHERE ")
    return f"""
        SELECT {subject} AS subject, {symbol} AS symbol,
               format('{what} %s: %s is %s, and %s by what it follows from', {subject}, c.name,
                      coalesce(nullif(c.stored, ''), 'nothing'), coalesce(nullif(c.due, ''), 'nothing')) AS sentence
          FROM {source} CROSS JOIN LATERAL (VALUES
            {values}) AS c (name, wrong, stored, due)
         WHERE {condition} AND (
            {apart}) AND c.wrong"""


def _near(stored: str, right: str, of: str) -> str:
    """The right value, or what is stored where the two are apart by a hundred-millionth of `of` at most."""
    return f"CASE WHEN abs({stored} - ({right})) <= {_NEAR} * abs({of}) THEN {stored} ELSE {right} END"


_FILLED = """(SELECT order_key, sum(size) AS size, sum(value) AS value, sum(quote_fees) AS fees,
                     sum(base_fees) AS base_fees, bool_and(origin = 'derived') AS derived,
                     (array_agg(at ORDER BY id))[1] AS first_at, (array_agg(at ORDER BY id DESC))[1] AS last_at
                FROM fills WHERE account = $1 AND order_key IS NOT NULL GROUP BY 1)"""
# Times of executions are not those of the reports that told of them first, so only derived fills say when.
_ORDER_TOTALS = _compared(
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

_ATTEMPT_TOTALS = _compared(
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
_ORDER = _compared(
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
            "CASE WHEN o.entry_point = 'external' THEN 'EXTERNAL' ELSE coalesce(o.intent ->> 'role', o.role) END",
        ),
        (
            "source",
            "o.source",
            "CASE WHEN o.role = 'EXTERNAL' THEN o.source ELSE coalesce(o.intent ->> 'source', o.source) END",
        ),
        (
            "entry_point",
            "o.entry_point",
            """CASE WHEN o.role = 'EXTERNAL' THEN 'external'
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
            f"""CASE WHEN o.protection_role IN {_LEGS} OR o.role = 'EXTERNAL' OR NOT o.intent ? 'exit_reason'
                     THEN o.exit_reason ELSE o.intent ->> 'exit_reason' END""",
        ),
        (
            "trigger",
            "o.trigger",
            f"""CASE WHEN o.role = 'EXTERNAL' THEN 'manual' WHEN o.protection_role IN {_LEGS} THEN o.trigger
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
                     WHEN (o.state = 'FILLED' AND NOT a.filled) OR o.state NOT IN {_ORDER_STATES}
                       OR (o.state IN {_ORDER_ENDS} AND NOT o.finished)
                       OR (o.finished AND a.last IN {_ENDED} AND o.state NOT IN {_ORDER_ENDS})
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

_ATTEMPT = _compared(
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
        ("size", "a.size", "CASE WHEN a.number = 1 THEN o.base_size ELSE a.size END"),
        ("limit_price", "a.limit_price", "CASE WHEN a.number = 1 THEN o.limit_price ELSE a.limit_price END"),
        (
            "status",
            "a.status",
            f"""CASE WHEN a.status NOT IN {_STATUSES} THEN 'no such status'
                     WHEN a.status = 'FILLED' AND a.filled_size = 0 THEN 'not yet FILLED' ELSE a.status END""",
        ),
        ("final_at is there", "a.final_at IS NOT NULL", f"a.status IN {_ENDED}"),
        (
            "live",
            "a.live",
            f"""CASE WHEN a.status IN {_ENDED} OR o.role = 'EXTERNAL' THEN false WHEN a.refusal = 'ABSENT' THEN a.live
                     ELSE true END""",
        ),
    ],
    "a.symbol",
)

_FILL = _compared(
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
                     WHEN abs(f.price * f.size - f.value) <= {_NEAR} * abs(f.value) + 1e-12 THEN f.price
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

# What an exit sold beyond its trade is no position's, and has an incident of its own.
_UNLESS_OVERSOLD = "CASE WHEN s.size IS NULL THEN coalesce({right}, 0) ELSE {stored} END"
_SOLD = [
    (name, f"t.{name}", _UNLESS_OVERSOLD.format(right=f"x.{name}", stored=f"t.{name}"))
    for name in ("sold_size", "sold_value", "sold_quote_fees", "sold_base_fees")
]
_POSITION_BOOK = _compared(
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

_TRADE_MISSING = """
        SELECT o.entry_key AS subject, min(o.symbol) AS symbol,
               format('orders of trade %s have filled (%s), and it has no row: nobody guards what it may hold',
                      o.entry_key, string_agg(o.side || ' ' || o.filled_size, ', ')) AS sentence
          FROM orders o LEFT JOIN trades t ON t.entry_key = o.entry_key
         WHERE o.account = $1 AND o.entry_key IS NOT NULL AND o.filled_size > 0 AND t.entry_key IS NULL
         GROUP BY o.entry_key"""

# Closing writes the trade, its plan and its entry's linkage in one statement.
_TRADE = _compared(
    """trades t JOIN orders o ON o.order_key = t.entry_key
          LEFT JOIN exit_plans p ON p.entry_key = t.entry_key
          LEFT JOIN trade_strategy_link l ON l.order_key = t.entry_key
          LEFT JOIN (
            SELECT entry_key, count(*) FILTER (WHERE entry_point = 'exit') AS legs,
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
                                                              AND a.status NOT IN {_ENDED}) THEN true
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

_EXIT_PLAN = """
        SELECT t.entry_key AS subject, t.symbol,
               CASE WHEN p.entry_key IS NULL
                    THEN format('trade %s is open and has no exit plan: nobody guards its %s', t.entry_key, t.remaining)
                    ELSE format('the exit plan of trade %s is of %s %s, the trade of %s %s', t.entry_key, p.account,
                                p.symbol, t.account, t.symbol) END AS sentence
          FROM trades t LEFT JOIN exit_plans p USING (entry_key)
         WHERE t.account = $1 AND CASE WHEN p.entry_key IS NULL THEN t.state <> 'CLOSED'
                                       ELSE (p.account, p.symbol) <> (t.account, t.symbol) END"""

_CLOSED_HOLDS = """
        SELECT entry_key AS subject, symbol, format('trade %s is closed and holds %s', entry_key, remaining) AS sentence
          FROM trades WHERE account = $1 AND state = 'CLOSED' AND remaining <> 0"""

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
                        WHEN o.protection_role IN {_LEGS} THEN r.trigger
                        ELSE jsonb_build_object('trigger', o.trigger, 'snapshot_id', o.snapshot_id) END""",
    "exit_reason": "CASE WHEN o.order_key IS NULL THEN i.exit_reason ELSE o.exit_reason END",
    "order_type": "CASE WHEN o.order_key IS NULL THEN coalesce(i.order_type, 'UNKNOWN') ELSE o.order_type END",
    **{
        name: f"CASE WHEN f.side = 'SELL' THEN r.{name} END"
        for name in ("pnl_usd", "cost_basis_usd", "sale_proceeds_usd", "net_sale_proceeds_usd", "parent_id")
    },
    "parent_ids": "CASE WHEN f.side = 'SELL' THEN r.parent_ids ELSE '{}' END",
    "status": f"""CASE WHEN o.order_key IS NULL THEN 'FILLED' WHEN a.status IN {_ENDED} OR r.status IN {_ENDED}
                       OR r.status NOT IN {_STATUSES} THEN a.status ELSE r.status END""",
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

_RECORD_ROWS = f"""
        SELECT coalesce(r.order_id, f.order_id) AS subject, coalesce(r.symbol, f.symbol) AS symbol,
               CASE WHEN r.order_id IS NULL THEN format('order %s has fills and no trade record', f.order_id)
                    ELSE format('the trade record of order %s has no fills', r.order_id) END AS sentence
          FROM {RECORDED} f FULL JOIN (SELECT * FROM trade_records WHERE account = $1) r ON r.order_id = f.order_id
         WHERE r.order_id IS NULL OR f.order_id IS NULL"""
_RECORD = _compared(
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
    return f"CASE WHEN {grown} THEN {stored} ELSE {_near(stored, f'{price} / ({cost}) - 1', '1')} END"


EXIT_COLUMNS = {
    "size": "o.filled_size",
    "fees": "o.quote_fees",
    "average_price": _near("x.average_price", _PRICE, _PRICE),
    "achieved_gross": _achieved("x.achieved_gross", _PRICE, _COST),
    "achieved_net": _achieved("x.achieved_net", _NET_PRICE, _NET_COST),
    "slippage": f"""CASE WHEN o.protection_role IS NOT NULL OR x.trigger_price IS NULL AND x.slippage IS NULL
                         THEN x.slippage ELSE {_near("x.slippage", f"{_PRICE} - x.trigger_price", _PRICE)} END""",
    "entry_key": "o.entry_key",
    "reason": f"""CASE WHEN o.protection_role IS NULL THEN coalesce(o.exit_reason, 'MANUAL')
                       WHEN x.reason IN {_REASONS} THEN x.reason ELSE o.exit_reason END""",
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

_EXIT_ROWS = """
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
_EXIT = _compared(
    EXIT_SOURCES,
    "exit",
    "x.order_key",
    [(name, f"x.{name}", right) for name, right in EXIT_COLUMNS.items()],
    "o.symbol",
)

# A deposit or withdrawal is told in the transaction that books it.
_TRANSFER = _compared(
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
_TRANSFER_MISSING = """
        SELECT i.subject, NULL::text AS symbol, format('a transfer is missing: %s', i.sentence) AS sentence
          FROM incidents i LEFT JOIN balance_transfers b ON b.account = i.account AND b.currency = i.subject
           AND b.at = i.at
         WHERE i.account = $1 AND i.kind IN ('BALANCE_DEPOSIT', 'BALANCE_WITHDRAWAL') AND b.id IS NULL"""

_LINK_MISSING = """
        SELECT o.order_key AS subject, o.symbol,
               format('order %s has filled, and nothing links it to its decision', o.order_key) AS sentence
          FROM orders o LEFT JOIN trade_strategy_link l USING (order_key)
         WHERE o.account = $1 AND o.role <> 'EXTERNAL' AND o.filled_size > 0 AND l.order_key IS NULL"""
_LINK = _compared(
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

CHECKS: Mapping[str, Sequence[str]] = {
    "ORDER_TOTALS": (_ORDER_TOTALS,),
    "ATTEMPT_TOTALS": (_ATTEMPT_TOTALS,),
    "ORDER": (_ORDER,),
    "ATTEMPT": (_ATTEMPT,),
    "FILL": (_FILL,),
    "TRADE_MISSING": (_TRADE_MISSING,),
    "POSITION_BOOK": (_POSITION_BOOK,),
    "TRADE": (_TRADE,),
    "EXIT_PLAN": (_EXIT_PLAN,),
    "CLOSED_HOLDS": (_CLOSED_HOLDS,),
    "TRADE_RECORD": (_RECORD_ROWS, _RECORD),
    "TRADE_EXIT": (_EXIT_ROWS, _EXIT),
    "TRANSFER": (_TRANSFER, _TRANSFER_MISSING),
    "LINKAGE": (_LINK_MISSING, _LINK),
}
"""The statements by the name of their check; docs/reports.md says what each holds against what."""
