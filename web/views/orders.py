"""Orders: one, a list, the holders of coins that a sell was refused for, and the orders that match a shortened key."""

from __future__ import annotations

from domain.ids import order_workflow_id
from domain.messages import OrderDecision, OrderIntent
from domain.money import average
from domain.orders import OrderState, public_state
from domain.wording import tidy
from web.views import Ledger, Row

__all__ = [
    "decision_on",
    "described_order",
    "find_order",
    "keys_beginning",
    "numbers_of_refusal",
    "read_order",
    "same_request",
    "sells_at_work",
    "trades_owning",
]

_ORDERS = """
SELECT o.*, o.intent->>'time_in_force' AS time_in_force, o.intent->>'post_only' AS post_only,
       t.state AS trade_state,
       (SELECT a.refusal_text FROM attempts a WHERE a.order_key = o.order_key ORDER BY a.number DESC LIMIT 1)
           AS refusal_text,
       (SELECT count(*) FROM attempts a WHERE a.order_key = o.order_key)::int AS attempts
FROM orders o LEFT JOIN trades t ON t.entry_key = o.order_key
"""
_ORDER = _ORDERS + "WHERE o.order_key = $1"
_SAME_REQUEST = """
SELECT intent FROM orders WHERE account = $1 AND entry_point = $3 AND intent->>'request_id' = $2
 ORDER BY received_at LIMIT 1
"""
_KEYS = """
SELECT order_key, symbol, side, received_at FROM orders
 WHERE account = $3 AND order_key LIKE $1 || '%' AND ($2 = false OR role = 'ENTRY' OR entry_key = order_key)
 ORDER BY received_at DESC LIMIT $4
"""
_SELLS = """
SELECT entry_key, protection_role, exit_reason, order_key,
       greatest(coalesce(base_size, claimed_base) - filled_size, 0) AS size
  FROM orders
 WHERE account = $1 AND (symbol = $2 OR $4::text IS NULL AND split_part(symbol, '-', 1) = split_part($2, '-', 1))
   AND side = 'SELL' AND NOT finished AND order_key <> $3 AND ($4::text IS NULL OR entry_key = $4)
 ORDER BY received_at
"""
_OWNERS = """
SELECT entry_key, remaining FROM trades
 WHERE account = $1 AND split_part(symbol, '-', 1) = split_part($2, '-', 1) AND state <> 'CLOSED' AND remaining > 0
 ORDER BY opened_at
"""
_DECISION = "SELECT state, gate, gate_sentence FROM orders WHERE order_key = $1"
_GATE_NUMBERS = "SELECT numbers FROM gate_results WHERE order_key = $1 AND NOT passed ORDER BY position DESC LIMIT 1"


async def find_order(ledger: Ledger, key: str) -> Row | None:
    """An order with its number of attempts, the last one's refusal and its trade's state; None if there is none."""
    return await ledger.fetchrow(_ORDER, key)


async def read_order(ledger: Ledger, key: str) -> Row:
    """The same for an existing order. Raises LookupError if there is none."""
    row = await find_order(ledger, key)
    if row is None:
        raise LookupError(key)
    return row


def described_order(row: Row) -> dict[str, object]:
    """An order as JSON: sizes in base, prices in quote per base, fees in quote currency."""
    return {
        "order_key": row["order_key"],
        "workflow_id": order_workflow_id(row["order_key"]),
        "symbol": row["symbol"],
        "side": row["side"],
        "role": row["role"],
        "order_type": row["order_type"],
        "post_only": row["post_only"] == "true",
        "time_in_force": row["time_in_force"],
        "state": row["state"],
        "public_state": public_state(OrderState(row["state"]), row["filled_size"]),
        "gate": row["gate"],
        "sentence": row["gate_sentence"],
        "refusal": row["refusal"],
        "base_size": row["base_size"],
        "quote_size": row["quote_size"],
        "limit_price": row["limit_price"],
        "filled_size": row["filled_size"],
        "average_price": tidy(average(row["filled_value"], row["filled_size"])),
        "fees": row["quote_fees"],
        "trigger": row["trigger"],
        "source": row["source"],
        "exit_reason": row["exit_reason"],
        "entry_key": row["entry_key"],
        "snapshot_id": row["snapshot_id"],
        "attempts": row["attempts"],
        "trade_state": row["trade_state"],
        "received_at": row["received_at"],
        "finished_at": row["finished_at"],
    }


async def same_request(ledger: Ledger, intent: OrderIntent) -> Row | None:
    """The `intent` of the first order with the same entry point and request id; None if there is none.

    Symbol and side are part of the key, so the same request id for another one gives another key.
    """
    return await ledger.fetchrow(_SAME_REQUEST, intent.account, intent.request_id, intent.entry_point)


async def keys_beginning(ledger: Ledger, account: str, prefix: str, *, of_trades: bool, most: int) -> list[Row]:
    """Key, symbol and side of at most `most` orders whose keys begin so, newest first; `of_trades`: entries only."""
    return await ledger.fetch(_KEYS, prefix, of_trades, account, most)


async def decision_on(ledger: Ledger, key: str) -> OrderDecision | None:
    """The stored decision on an order; None while there is none."""
    row = await ledger.fetchrow(_DECISION, key)
    if row is None:
        return None
    return OrderDecision(
        order_key=key,
        accepted=row["gate"] is None,
        state=OrderState(row["state"]),
        gate=row["gate"],
        sentence=row["gate_sentence"] or "",
        workflow_id=order_workflow_id(key),
    )


async def numbers_of_refusal(ledger: Ledger, key: str) -> dict[str, str]:
    """The values compared by the gate that refused the order; empty if none did."""
    row = await ledger.fetchrow(_GATE_NUMBERS, key)
    return {} if row is None else {name: str(value) for name, value in row["numbers"].items()}


async def sells_at_work(ledger: Ledger, intent: OrderIntent) -> list[Row]:
    """Other sells that have not ended, with the `size` (base) left of each: of the intent's trade, or, for one from
    the pool, on every product of the coin.
    """
    return await ledger.fetch(_SELLS, intent.account, intent.symbol, intent.order_key, intent.entry_key)


async def trades_owning(ledger: Ledger, account: str, symbol: str) -> list[Row]:
    """Open trades that own some of a product's coin, on whatever product: key and what remains (base), oldest first."""
    return await ledger.fetch(_OWNERS, account, symbol)
