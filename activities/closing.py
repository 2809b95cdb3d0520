"""The end of a trade: what each exit achieved, dust, and the outcome."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from activities.database import Connection, Pool, lock_symbol
from activities.incidents import report_incident, resolve_incidents
from activities.interfaces import TradeKey
from activities.venue import Venue
from domain.exits import ExitReason, ExitRules
from domain.messages import ExitLeg, PositionView, TradeOutcome
from domain.money import ZERO, average, divide
from domain.orders import OrderRole, OrderState, TradeState, move_trade
from domain.outcome import achieved, target_fraction, trade_pnl
from domain.protection import ProtectionRole
from domain.sizing import is_dust
from exchange.port import ExchangeError

__all__ = ["close_trade", "finish_order", "position_view", "write_exit"]


async def position_view(pool: Pool, venue: Venue, entry_key: str) -> PositionView:
    """A trade's row of the position book, with whether what is left is dust."""
    row = await pool.fetchrow(
        """
        SELECT t.*, coalesce((SELECT sum(greatest(o.claimed_base - o.filled_size, 0)) FROM orders o
                              WHERE o.entry_key = t.entry_key AND o.side = 'SELL' AND NOT o.finished
                                AND o.protection_role IS NULL), 0) AS claims
        FROM trades t WHERE t.entry_key = $1
        """,
        entry_key,
    )
    if row is None:
        return PositionView(entry_key=entry_key, state=TradeState.CLOSED, remaining=ZERO)
    price = average(row["bought_value"], row["bought_size"])
    return PositionView(
        entry_key=entry_key,
        state=TradeState(row["state"]),
        remaining=row["remaining"],
        entry_price=price,
        entry_final=row["entry_final"],
        dust=await _dust(venue, row["symbol"], row["remaining"], price),
        pending_claims=row["claims"],
        rules=ExitRules.model_validate(row["rules"]),
        exit_legs=row["exit_legs"],
    )


async def _dust(venue: Venue, symbol: str, remaining: Decimal, entry_price: Decimal | None) -> bool:
    """Whether what is left can't be sold. The touch is asked for only when the answer depends on it."""
    if remaining <= 0:
        return False
    product = await venue.product(symbol)
    if product is None:
        return False
    if is_dust(remaining, None, product):
        return True
    if entry_price is not None and remaining * entry_price > 10 * product.quote_min:
        return False
    try:
        quote = await venue.quote(symbol)
    except ExchangeError:
        return False
    return is_dust(remaining, quote.bid, product)


async def finish_order(
    connection: Connection, order: Any, state: OrderState, *, refusal: str | None = None, sentence: str = ""
) -> None:
    """No attempt will follow: release what was reserved or claimed, tell the trade. The symbol's lock is held."""
    await connection.execute(
        """
        WITH unsent AS (
            UPDATE attempts SET status = 'FAILED', live = false, final_at = now(),
                   refusal = coalesce(refusal, 'NOT_SENT')
            WHERE order_key = $1 AND live AND sends = 0)
        UPDATE orders SET state = $2, finished = true, reserved_quote = 0, claimed_base = 0,
               refusal = coalesce($3, refusal), gate_sentence = coalesce(gate_sentence, $4),
               finished_at = coalesce(finished_at, now())
        WHERE order_key = $1
        """,
        order["order_key"],
        state.value,
        refusal,
        sentence or None,
    )
    if order["role"] == OrderRole.ENTRY:
        await connection.execute("UPDATE trades SET entry_final = true WHERE entry_key = $1", order["order_key"])
    elif order["role"] == OrderRole.EXIT and order["entry_key"] and order["filled_size"] > 0:
        await write_exit(connection, order)


async def write_exit(connection: Connection, order: Any) -> None:
    """What an exit order achieved (EXIT-5). The symbol's lock is held."""
    trade = await connection.fetchrow("SELECT * FROM trades WHERE entry_key = $1", order["entry_key"])
    if await resolve_incidents(connection, order["account"], "EXIT_REFUSED", order["entry_key"]):
        sentence = f"exits of trade {order['entry_key']} go through again"
        await report_incident(connection, order["account"], "EXIT_ACCEPTED", "INFO", order["entry_key"], sentence)
        await resolve_incidents(connection, order["account"], "EXIT_ACCEPTED", order["entry_key"])
    rules = ExitRules.model_validate(trade["rules"])
    reason = ExitReason(order["exit_reason"] or ExitReason.MANUAL)
    entry_price = average(trade["bought_value"], trade["bought_size"])
    price = average(order["filled_value"], order["filled_size"])
    intent = order["intent"]
    trigger = Decimal(intent["trigger_price"]) if intent.get("trigger_price") else None
    if order["protection_role"] == ProtectionRole.TAKE_PROFIT:
        trigger = order["limit_price"]
    entry_fees = divide(trade["bought_quote_fees"], trade["bought_size"]) if trade["bought_size"] else ZERO
    exit_fees = divide(order["quote_fees"], order["filled_size"])
    gross, net = achieved(entry_price, price, entry_fees, exit_fees)
    await connection.execute(
        """
        INSERT INTO trade_exits (order_key, entry_key, reason, target_fraction, trigger_price, size, average_price,
               achieved_gross, achieved_net, slippage, fees, path, attempts, trailing_state, due_at)
        SELECT $1::text,$2::text,$3,$4,$5,$6,$7,$8,$9,$10,$11,$14,
               (SELECT count(*) FROM attempts WHERE order_key = $1),
               coalesce($12, (SELECT CASE WHEN stop IS NULL THEN NULL ELSE jsonb_build_object('peak', peak::text,
                        'stop', stop::text, 'atr', atr::text, 'steps', steps) END
                        FROM exit_plans WHERE entry_key = $2)), $13
        ON CONFLICT (order_key) DO UPDATE SET size = excluded.size, average_price = excluded.average_price,
               achieved_gross = excluded.achieved_gross, achieved_net = excluded.achieved_net,
               slippage = excluded.slippage, fees = excluded.fees, attempts = excluded.attempts
        """,
        order["order_key"],
        order["entry_key"],
        reason.value,
        target_fraction(reason, rules),
        trigger,
        order["filled_size"],
        price,
        gross,
        net,
        price - trigger if trigger is not None and price is not None else None,
        order["quote_fees"],
        intent.get("trailing"),
        datetime.fromisoformat(intent["due_at"]) if intent.get("due_at") else None,
        "exchange" if order["protection_role"] else "monitored",
    )


async def close_trade(pool: Pool, venue: Venue, account: str, request: TradeKey) -> TradeOutcome | None:
    """Close a trade whose entry has ended and whose position is zero or dust; None if it isn't so."""
    symbol = await pool.fetchval("SELECT symbol FROM trades WHERE entry_key = $1", request.entry_key)
    if symbol is None:
        return None
    view = await position_view(pool, venue, request.entry_key)
    async with pool.acquire() as connection, connection.transaction():
        await lock_symbol(connection, account, symbol)
        trade = await connection.fetchrow("SELECT * FROM trades WHERE entry_key = $1", request.entry_key)
        state = TradeState(trade["state"])
        if state is not TradeState.CLOSED:
            left = trade["remaining"]
            if not trade["entry_final"] or (left > 0 and not (view.dust and left == view.remaining)):
                return None
            move_trade(state, TradeState.CLOSED)
            reason = request.reason or (ExitReason(trade["exit_reason"]) if trade["exit_reason"] else None)
            if left > 0 and trade["sold_size"] == 0:
                reason = reason or ExitReason.MANUAL
            trade = await connection.fetchrow(
                """
                WITH plan AS (
                    UPDATE exit_plans SET state = 'DISARMED', quantity = 0, exit_reason = $2, updated_at = now(),
                           revision = nextval('exit_plan_revision') WHERE entry_key = $1),
                told AS (
                    -- nobody has to be told of a closed trade's exits any more
                    UPDATE incidents SET resolved_at = now()
                    WHERE account = $4 AND subject = $1 AND resolved_at IS NULL
                      AND kind IN ('EXIT_REFUSED', 'exit_not_acknowledged', 'PROTECTION_FAILED')),
                last_exit AS (
                    SELECT l.sell_score, l.sell_trigger FROM trade_strategy_link l
                    WHERE l.entry_key = $1 AND l.order_key <> $1 ORDER BY l.linked_at DESC LIMIT 1),
                link AS (
                    -- the sell completes the buy's linkage
                    UPDATE trade_strategy_link SET sell_score = (SELECT sell_score FROM last_exit),
                           sell_trigger = coalesce((SELECT sell_trigger FROM last_exit), $2),
                           exit_reason = $2, completed_at = now() WHERE order_key = $1)
                UPDATE trades SET state = 'CLOSED', closed_at = now(), dust_size = dust_size + $3, exit_reason = $2
                WHERE entry_key = $1 RETURNING *
                """,
                request.entry_key,
                reason.value if reason else None,
                left,
                account,
            )
            await connection.execute("SELECT pg_notify('exit_plan', $1)", request.entry_key)
        exits = await connection.fetch(
            "SELECT * FROM trade_exits WHERE entry_key = $1 ORDER BY at, order_key", request.entry_key
        )
    return _outcome(trade, exits)


def _outcome(trade: Any, exits: Any) -> TradeOutcome:
    opened, closed = trade["opened_at"], trade["closed_at"]
    return TradeOutcome(
        entry_key=trade["entry_key"],
        symbol=trade["symbol"],
        entry_size=trade["bought_size"],
        entry_price=average(trade["bought_value"], trade["bought_size"]),
        exit_size=trade["sold_size"],
        exit_price=average(trade["sold_value"], trade["sold_size"]),
        pnl=trade_pnl(
            trade["bought_size"] - trade["bought_base_fees"],
            trade["bought_value"] + trade["bought_quote_fees"],
            trade["sold_size"] + trade["sold_base_fees"],
            trade["sold_value"] - trade["sold_quote_fees"],
        ),
        fees=trade["bought_quote_fees"] + trade["sold_quote_fees"],
        exit_reason=ExitReason(trade["exit_reason"]) if trade["exit_reason"] else None,
        exits=tuple(
            ExitLeg(
                order_key=row["order_key"],
                reason=ExitReason(row["reason"]),
                size=row["size"],
                average_price=row["average_price"],
                fees=row["fees"],
                trigger_price=row["trigger_price"],
                slippage=row["slippage"],
                achieved_gross=row["achieved_gross"],
                achieved_net=row["achieved_net"],
            )
            for row in exits
        ),
        dust_size=trade["dust_size"],
        external_size=trade["external_size"],
        opened_at=opened,
        closed_at=closed,
        duration_seconds=(closed - opened).total_seconds() if closed else 0.0,
    )
