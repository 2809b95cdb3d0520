"""The end of a trade: the result of each exit, dust, and the outcome."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from activities.database import Connection, Pool, Record, bounded_transaction, lock_order, lock_symbol, lock_trade
from activities.incidents import report_past
from activities.interfaces.orders import TradeKey
from activities.ledger.known_bids import KEPT_BID
from activities.ledger.rows import SoldTradeRow, totals_of
from activities.ledger.writes import ExitWrite, Writes
from activities.venue import Venue
from domain.exits import ExitReason, ExitRules
from domain.incidents import IncidentKind
from domain.market import Product
from domain.messages import ExitLeg, PositionView, TradeOutcome
from domain.money import ZERO, average, divide
from domain.orders import EntryPoint, OrderRole, OrderState, Totals, TradeState, move_trade
from domain.outcome import achieved, target_fraction
from domain.protection import ProtectionRole
from domain.sizing import dust_sentence, free_to_sell, is_dust

__all__ = [
    "LEGS",
    "close_trade",
    "exit_row",
    "finish_order",
    "free_beside",
    "free_what_is_unsold",
    "position_view",
]

_PATIENCE = 1.5

LEGS = f"""
greatest(t.exit_legs, (SELECT greatest(count(*), max((o.intent ->> 'leg')::int)) FROM orders o
                        WHERE o.entry_key = t.entry_key AND o.role = 'EXIT'
                          AND o.entry_point = '{EntryPoint.EXIT}'))::int
"""
"""For a trade `t`: the highest number of its monitor's exits, admitted or refused. A row older than stored leg numbers
counts as one."""


async def position_view(
    pool: Pool, venue: Venue, entry_key: str, *, seconds: float = _PATIENCE, due: bool = False
) -> PositionView:
    """A trade's row of the position book, and whether the remainder is dust; if that depends on the price, the exchange
    is asked for the touch, with this timeout (wall seconds).
    """
    row = await pool.fetchrow(
        f"""
        SELECT t.*, coalesce((SELECT sum(o.open_claim) FROM orders o
                              WHERE o.entry_key = t.entry_key AND o.side = 'SELL' AND NOT o.finished
                                AND o.protection_role IS NULL
                                AND o.entry_point <> '{EntryPoint.MARKET_MAKER}'), 0) AS claims,
               array(SELECT o.order_key FROM orders o WHERE o.entry_key = t.entry_key AND o.role = 'EXIT'
                        AND NOT o.finished AND o.entry_point = '{EntryPoint.EXIT}') AS working,
               array(SELECT o.order_key FROM orders o JOIN attempts a USING (order_key)
                      WHERE o.entry_key = t.entry_key AND o.role = 'EXIT' AND NOT o.finished
                        AND o.entry_point = '{EntryPoint.EXIT}' AND a.live AND a.size > a.filled_size + o.open_claim
                    ) AS told,
               {KEPT_BID} AS bid, {LEGS} AS legs
        FROM trades t WHERE t.entry_key = $1
        """,
        entry_key,
    )
    if row is None:
        return PositionView(entry_key=entry_key, state=TradeState.CLOSED, remaining=ZERO)
    product = await venue.rules(row["symbol"], within=seconds, due=due) if row["remaining"] > 0 else None
    dust = await _dust(venue, product, row["remaining"], row["bid"], seconds, due=due)
    return PositionView(
        entry_key=entry_key,
        state=TradeState(row["state"]),
        remaining=row["remaining"],
        entry_price=average(row["bought_value"], row["bought_size"]),
        entry_final=row["entry_final"],
        dust=dust is not None,
        dust_why=dust or "",
        pending_claims=row["claims"],
        free=await free_beside(venue, product, row["remaining"], row["claims"], row["bid"], seconds, due=due),
        rules=ExitRules.model_validate(row["rules"]),
        exit_legs=row["exit_legs"],
        legs=row["legs"],
        working=tuple(row["working"]),
        told=tuple(row["told"]),
    )


async def _dust(
    venue: Venue, product: Product | None, remaining: Decimal, kept: Decimal | None, seconds: float, *, due: bool
) -> str | None:
    """The remainder as text if it can't be sold; None if it can, or if its value is not known.

    Its cost is irrelevant: 15 USD that fell by 95 % are dust. `kept` is a bid of the last minute: if its value is far
    from the minimum, the exchange isn't asked.
    """
    if product is None:
        return None
    if is_dust(remaining, None, product):
        return dust_sentence(remaining, kept, product)
    bid = await _bid_of(venue, product, remaining, kept, seconds, due=due)
    if bid is None or not is_dust(remaining, bid, product):
        return None
    return dust_sentence(remaining, bid, product)


async def free_beside(
    venue: Venue,
    product: Product | None,
    remaining: Decimal,
    claimed: Decimal,
    kept: Decimal | None,
    seconds: float,
    *,
    due: bool,
) -> Decimal | None:
    """The size of a trade that a new order can sell while others have claimed `claimed` of it, as in `free_to_sell`;
    None if the product's rules are not known. A remainder of unknown value does not count as dust.
    """
    if product is None:
        return None
    beside = 0 < claimed < remaining
    bid = await _bid_of(venue, product, remaining - claimed, kept, seconds, due=due) if beside else kept
    return free_to_sell(remaining, claimed, bid, product)


async def _bid_of(
    venue: Venue, product: Product, size: Decimal, kept: Decimal | None, seconds: float, *, due: bool
) -> Decimal | None:
    """The bid that says whether `size` is dust: the kept one where that is far from the minimum or the exchange doesn't
    say in time (wall seconds), else the exchange's; None if nobody knows.
    """
    if kept is not None and size * kept > 2 * product.quote_min:
        return kept
    quote = await venue.touch(product.symbol, within=seconds, due=due)
    return quote.bid if quote is not None and quote.bid > 0 else kept


async def free_what_is_unsold(
    pool: Pool, account: str, exchange_order_id: str, client_order_id: str, filled: Decimal
) -> str | None:
    """A sell's attempt has ended at the exchange with this base size, while its value is not known yet: it now claims
    no more than that from its trade, so that an exit does not wait for the price. Here a claim only shrinks.

    `client_order_id` is ours, empty if not known: the end may be reported before the exchange's id is stored. Returns
    the trade's entry key, empty if it is not an open sell of a trade; None if the journal has no such attempt (yet).
    Raises the database's errors.
    """
    order = await pool.fetchrow(
        """
        SELECT o.order_key, o.entry_key, a.number, o.side = 'SELL' AND NOT o.finished AS sells
          FROM orders o JOIN attempts a ON a.order_key = o.order_key
         WHERE a.account = $1 AND (a.exchange_order_id = $2 OR (a.client_order_id = $3 AND a.exchange_order_id IS NULL))
         ORDER BY a.client_order_id = $3 DESC LIMIT 1
        """,
        account,
        exchange_order_id,
        client_order_id,
    )
    if order is None:
        return None
    if not order["sells"]:
        return ""
    order_key: str = order["order_key"]
    async with bounded_transaction(pool) as connection:
        await lock_order(connection, order_key)
        await connection.execute(
            """
            UPDATE orders o SET claimed_base = least(o.claimed_base, o.filled_size + greatest($3 - a.filled_size, 0))
              FROM attempts a
             WHERE o.order_key = $1 AND a.order_key = $1 AND a.number = $2
               AND a.status NOT IN ('ABSENT','FILLED','CANCELLED','EXPIRED','FAILED')
               AND a.number = (SELECT max(number) FROM attempts WHERE order_key = $1)
            """,
            order_key,
            order["number"],
            filled,
        )
    return order["entry_key"] or ""


async def finish_order(
    connection: Connection, order: Record, state: OrderState, *, refusal: str | None = None, sentence: str = ""
) -> None:
    """No attempt will follow: release what was reserved or claimed, tell the trade. The order's rows are held."""
    writes: Writes = {"finish": {"state": state.value, "refusal": refusal, "sentence": sentence or None}}
    if order["role"] == OrderRole.ENTRY:
        writes["entry_final"] = True
    elif order["role"] == OrderRole.EXIT and order["entry_key"] and order["filled_size"] > 0:
        trade = await connection.fetchrow("SELECT * FROM trades WHERE entry_key = $1", order["entry_key"])
        if trade is not None:
            writes["exit"] = exit_row(
                entry_key=order["entry_key"],
                totals=totals_of(order),
                reason=order["exit_reason"],
                protection_role=order["protection_role"],
                limit_price=order["limit_price"],
                trigger_price=order["intent"].get("trigger_price"),
                due_at=order["intent"].get("due_at"),
                trade=trade,
            )
    await connection.execute("SELECT ledger_write($1, $2, $3)", order["account"], order["order_key"], writes)


def exit_row(
    *,
    entry_key: str,
    totals: Totals,
    reason: str | None,
    protection_role: str | None,
    limit_price: Decimal | None,
    trigger_price: str | None,
    due_at: str | None,
    trade: SoldTradeRow,
) -> ExitWrite:
    """What an exit order with these totals achieved (EXIT-5), as `ledger_write` takes it. Pure.

    `trade` is its trade's row; `again` is called if exits of that trade had been refused before.
    """
    rules = ExitRules.model_validate(trade["rules"])
    why = ExitReason(reason or ExitReason.MANUAL)
    entry_price = average(trade["bought_value"], trade["bought_size"])
    price = average(totals.value, totals.size)
    trigger = Decimal(trigger_price) if trigger_price else None
    if protection_role == ProtectionRole.TAKE_PROFIT:
        trigger = limit_price
    # A monitor's take profit was due at some time; a market maker's ask never is, it just rests.
    quoted = why is ExitReason.TP and due_at is None
    entry_fees = divide(trade["bought_quote_fees"], trade["bought_size"]) if trade["bought_size"] else ZERO
    gross, net = achieved(entry_price, price, entry_fees, divide(totals.quote_fees, totals.size))
    return {
        "reason": why.value,
        "target_fraction": target_fraction(why, rules, entry_price),
        "trigger_price": trigger,
        "size": totals.size,
        "average_price": price,
        "achieved_gross": gross,
        "achieved_net": net,
        "slippage": price - trigger if trigger is not None and price is not None else None,
        "fees": totals.quote_fees,
        "path": "exchange" if protection_role else "quote" if quoted else "monitored",
        "due_at": due_at,
        "again": f"exits of trade {entry_key} are accepted again",
    }


async def close_trade(pool: Pool, venue: Venue, account: str, request: TradeKey) -> TradeOutcome | None:
    """Close a trade whose entry has ended and whose position is zero or dust; None otherwise."""
    symbol = await pool.fetchval("SELECT symbol FROM trades WHERE entry_key = $1", request.entry_key)
    if symbol is None:
        return None
    view = await position_view(pool, venue, request.entry_key)
    async with pool.acquire() as connection, connection.transaction():
        await lock_symbol(connection, account, symbol)
        await lock_trade(connection, request.entry_key)
        trade = await connection.fetchrow(
            """
            SELECT t.*, (SELECT reason FROM trade_exits x WHERE x.entry_key = t.entry_key
                         ORDER BY at DESC, order_key LIMIT 1) AS last_reason
            FROM trades t WHERE entry_key = $1
            """,
            request.entry_key,
        )
        state = TradeState(trade["state"])
        if state is not TradeState.CLOSED:
            left = trade["remaining"]
            if not trade["entry_final"] or (left > 0 and not (view.dust and left == view.remaining)):
                return None
            move_trade(state, TradeState.CLOSED)
            # Where no exit of its monitor's was ever admitted, what sold it says why: a market maker's ask.
            known = request.reason if trade["exit_reason"] or not trade["last_reason"] else None
            found = known or trade["exit_reason"] or trade["last_reason"]
            reason = ExitReason(found) if found else None
            if left > 0 and trade["sold_size"] == 0:
                # Nothing was sold, so nothing says why it was.
                reason = None
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
                UPDATE trades SET state = 'CLOSED', closed_at = now(), dust_size = dust_size + $3, exit_reason = $2,
                       dust_why = coalesce($5, dust_why)
                WHERE entry_key = $1 RETURNING *
                """,
                request.entry_key,
                reason.value if reason else None,
                left,
                account,
                view.dust_why if left > 0 else None,
            )
            if left > 0:
                await report_past(
                    connection,
                    account,
                    IncidentKind.DUST_LEFT,
                    "INFO",
                    request.entry_key,
                    f"trade {request.entry_key} is closed: {view.dust_why}",
                )
            await connection.execute("SELECT pg_notify('exit_plan', $1)", request.entry_key)
        exits = await connection.fetch(
            "SELECT * FROM trade_exits WHERE entry_key = $1 ORDER BY at, order_key", request.entry_key
        )
    return _outcome(trade, exits)


def _outcome(trade: Record, exits: Any) -> TradeOutcome:
    opened, closed = trade["opened_at"], trade["closed_at"]
    return TradeOutcome(
        entry_key=trade["entry_key"],
        symbol=trade["symbol"],
        entry_size=trade["bought_size"],
        entry_price=average(trade["bought_value"], trade["bought_size"]),
        exit_size=trade["sold_size"],
        exit_price=average(trade["sold_value"], trade["sold_size"]),
        pnl=trade["pnl"],
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
        dust_why=trade["dust_why"] or "",
        external_size=trade["external_size"],
        opened_at=opened,
        closed_at=closed,
        duration_seconds=(closed - opened).total_seconds() if closed else 0.0,
    )
