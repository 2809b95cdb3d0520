"""The ledger: one transaction folds an exchange report into everything that depends on it.

`record` is the only writer of fills. Under the symbol's lock it merges the report into its attempt, books what is new
in both books (position per trade, FIFO per symbol), keeps the trade record, the linkage, the open-order row and the
exit plan, and answers where the order stands. Applied twice, late or out of order it changes nothing that it should
not. The exchange's facts are never refused: what does not fit becomes an incident.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from activities.closing import finish_order
from activities.database import Connection, Pool, lock_symbol
from activities.incidents import report_incident, report_once
from activities.lots import book_in_fifo
from activities.protection import name_the_leg
from activities.rows import report_of, totals_of
from domain.exits import ExitRules
from domain.ids import intent_key
from domain.messages import EntryNews, OrderUpdate, RecordResult, StatusSource
from domain.money import ZERO, average, divide
from domain.orders import (
    AttemptStatus,
    Fill,
    OrderRole,
    OrderState,
    Report,
    Side,
    Totals,
    TradeState,
    fill_between,
    merge,
    move_trade,
    order_state,
    total,
)
from exchange.port import VenueOrder

__all__ = ["Ledger", "UnknownAttemptError"]


class UnknownAttemptError(LookupError):
    """A report speaks of an attempt that the journal doesn't have."""


@dataclass(frozen=True, slots=True)
class _Context:
    order: Any
    attempt: Any
    before: Report
    after: Report
    update: OrderUpdate

    @property
    def exchange_order_id(self) -> str:
        return str(self.attempt["exchange_order_id"] or self.update.exchange_order_id or "")

    @property
    def side(self) -> Side:
        return Side(self.order["side"])


class Ledger:
    """Both books and everything written with them."""

    def __init__(self, pool: Pool, account: str) -> None:
        self._pool = pool
        self._account = account

    async def record(self, order_key: str, update: OrderUpdate, *, symbol: str | None = None) -> RecordResult:
        """Fold a report into the ledger, in one transaction.

        Raises UnknownAttemptError if the journal has no such attempt.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if symbol is None:
                symbol = await connection.fetchval("SELECT symbol FROM orders WHERE order_key = $1", order_key)
                if symbol is None:
                    raise UnknownAttemptError(f"no order {order_key}")
            await lock_symbol(connection, self._account, symbol)
            order = await connection.fetchrow("SELECT * FROM orders WHERE order_key = $1", order_key)
            rows = await connection.fetch("SELECT * FROM attempts WHERE order_key = $1 ORDER BY number", order_key)
            attempt = next((row for row in rows if row["number"] == update.attempt), None)
            if order is None or attempt is None:
                raise UnknownAttemptError(f"no attempt {update.attempt} of order {order_key}")
            before = report_of(attempt)
            news = Report(
                update.status,
                Totals(update.filled_size, update.filled_value, update.quote_fees, update.base_fees),
            )
            after = merge(before, news)
            context = _Context(order, attempt, before, after, update)
            reports = [after if row["number"] == update.attempt else report_of(row) for row in rows]
            sums = total(report.totals for report in reports)
            state = order_state(reports, finished=order["finished"])
            fill = fill_between(before.totals, after.totals)
            first = fill is not None and totals_of(order).size == 0 and sums.size > 0
            if after != before or (update.exchange_order_id and not attempt["exchange_order_id"]):
                await self._write_attempt(connection, context, state, sums)
            trade = None
            if fill is not None:
                trade = await self._book(connection, context, fill, first=first)
            elif order["entry_key"] is not None:
                trade = await connection.fetchrow(
                    "SELECT remaining, state, entry_final FROM trades WHERE entry_key = $1", order["entry_key"]
                )
            if (
                trade is not None
                and order["finished"]
                and not trade["entry_final"]
                and order["role"] == OrderRole.ENTRY
            ):
                trade = await self._settle_late_entry(connection, order_key, reports) or trade
            if after != before:
                await self._write_records(connection, context, fill)
            finished = order["finished"]
            others_live = any(row["live"] for row in rows if row["number"] != update.attempt)
            if after.status is AttemptStatus.FILLED and not finished and not others_live:
                # Filled to the end: nothing can follow, so the order ends in the transaction that learned it.
                finished = True
                order = await connection.fetchrow("SELECT * FROM orders WHERE order_key = $1", order_key)
                await finish_order(connection, order, OrderState.FILLED)
                if trade is not None:
                    trade = await connection.fetchrow(
                        "SELECT remaining, state, entry_final FROM trades WHERE entry_key = $1", order["entry_key"]
                    )
            return _result(context, state, sums, fill, trade, first=first, finished=finished)

    async def adopt(self, order: VenueOrder, source: StatusSource, *, protect: ExitRules | None = None) -> RecordResult:
        """Record an order that the system didn't place: a row of its own, its fills in the FIFO book, no linkage.

        With `protect`, a buy that is new to us becomes a trade with these exit rules. One that is told with another
        side or product than before is not booked: a person hears of it.
        """
        key = external_key(self._account, order)
        client_order_id = order.client_order_id or order.exchange_order_id
        is_trade = protect is not None and order.side is Side.BUY
        async with self._pool.acquire() as connection, connection.transaction():
            before = await connection.fetchrow(
                """SELECT o.* FROM attempts a JOIN orders o USING (order_key)
                   WHERE a.account = $1 AND a.exchange_order_id = $2 AND o.order_key <> $3""",
                self._account,
                order.exchange_order_id,
                key,
            )
            if before is not None:
                return await self._contradiction(connection, before, order)
            # The id may be one of ours on another order: the exchange's id then stands in, the journal stays right.
            taken = await connection.fetchval(
                "SELECT order_key FROM attempts WHERE client_order_id = $1", client_order_id
            )
            if taken not in (None, key):
                client_order_id = order.exchange_order_id
            await connection.execute(
                """
                INSERT INTO orders (order_key, account, symbol, side, role, order_type, source, entry_point, trigger,
                                    intent, intent_digest, state, finished, base_size, limit_price, placed_at,
                                    entry_key)
                VALUES ($1,$2,$3,$4,'EXTERNAL',$5,$6,'external','manual',$7,'',$8,true,$9,$10,$11,$12)
                ON CONFLICT (order_key) DO NOTHING
                """,
                key,
                self._account,
                order.symbol,
                order.side.value,
                order.order_type or "UNKNOWN",
                "websocket" if source is StatusSource.WEBSOCKET else "reconciled",
                dict(order.raw) | ({"rules": protect.model_dump(mode="json")} if protect and is_trade else {}),
                OrderState.OPEN.value,
                order.base_size,
                order.limit_price,
                order.created_at,
                key if is_trade else None,
            )
            await connection.execute(
                """
                INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status, live,
                                      exchange_order_id, size, limit_price, acknowledged_at)
                VALUES ($1,$2,1,$3,$4,'{}'::jsonb,'SUBMITTING',false,$5,$6,$7,now())
                ON CONFLICT DO NOTHING
                """,
                client_order_id,
                key,
                self._account,
                order.symbol,
                order.exchange_order_id,
                order.base_size,
                order.limit_price,
            )
        result = await self.record(key, update_of(order, 1, source), symbol=order.symbol)
        if result.attempt_status.final and result.trade_state is not None and not result.entry_final:
            await self._pool.execute("UPDATE trades SET entry_final = true WHERE entry_key = $1", key)
            result = result.model_copy(update={"entry_final": True})
        return result

    async def _contradiction(self, connection: Connection, known: Any, order: VenueOrder) -> RecordResult:
        """The exchange's id belongs to an order of another side or product: nothing is guessed."""
        await report_once(
            connection,
            self._account,
            "CHANGED_SIDE",
            "CRITICAL",
            order.exchange_order_id,
            f"order {order.exchange_order_id} was a {known['side']} of {known['symbol']} and is now told to be a "
            f"{order.side} of {order.symbol}: nothing of it is booked until a person has looked at it",
            {"raw": dict(order.raw)},
        )
        totals = totals_of(known)
        return RecordResult(
            attempt=1,
            attempt_status=Report.of_venue(order.status, Totals()).status,
            state=OrderState(known["state"]),
            filled_size=totals.size,
            filled_value=totals.value,
            fees=totals.quote_fees,
        )

    async def _write_attempt(self, connection: Connection, context: _Context, state: OrderState, sums: Totals) -> None:
        after, update = context.after, context.update
        await connection.execute(
            """
            WITH attempt AS (
                UPDATE attempts SET status = $2, live = live AND NOT $3,
                       filled_size = $4, filled_value = $5, quote_fees = $6, base_fees = $7,
                       status_source = $8, exchange_order_id = coalesce(exchange_order_id, $9),
                       acknowledged_at = coalesce(acknowledged_at, now()),
                       final_at = CASE WHEN $3 THEN coalesce(final_at, $10) END,
                       refusal_text = coalesce(refusal_text, $17)
                WHERE client_order_id = $1)
            UPDATE orders SET state = $12, filled_size = $13, filled_value = $14, quote_fees = $15, base_fees = $16,
                   status_source = $8, placed_at = coalesce(placed_at, now())
            WHERE order_key = $11
            """,
            context.attempt["client_order_id"],
            after.status.value,
            after.final,
            after.totals.size,
            after.totals.value,
            after.totals.quote_fees,
            after.totals.base_fees,
            update.source.value,
            update.exchange_order_id,
            update.at,
            context.order["order_key"],
            state.value,
            sums.size,
            sums.value,
            sums.quote_fees,
            sums.base_fees,
            update.reason or None,
        )

    async def _book(self, connection: Connection, context: _Context, fill: Fill, *, first: bool) -> Any:
        order, update = context.order, context.update
        if fill.size <= 0:
            await report_incident(
                connection,
                self._account,
                "CORRECTED_TOTALS",
                "WARNING",
                order["order_key"],
                f"the exchange corrected value or fees of order {context.exchange_order_id} without a fill: "
                f"value {fill.value}, fees {fill.quote_fees}",
            )
        fill_id = await connection.fetchval(
            """
            WITH filled AS (
                UPDATE orders SET first_fill_at = coalesce(first_fill_at, $14), last_fill_at = $14 WHERE order_key = $5)
            INSERT INTO fills (fill_key, account, symbol, side, order_key, client_order_id, exchange_order_id, origin,
                               ingest_via, size, price, value, quote_fees, base_fees, at, lot_remaining)
            VALUES ($1,$2,$3,$4,$5,$6,$7,'derived',$8,$9,$10,$11,$12,$13,$14,$15) RETURNING id
            """,
            f"{self._account}/{context.exchange_order_id}/{context.after.totals.size}/{context.after.totals.value}"
            f"/{context.after.totals.quote_fees}",
            self._account,
            order["symbol"],
            order["side"],
            order["order_key"],
            context.attempt["client_order_id"],
            context.exchange_order_id,
            _via(update.source),
            fill.size,
            divide(fill.value, fill.size) if fill.size else ZERO,
            fill.value,
            fill.quote_fees,
            fill.base_fees,
            update.at,
            max(fill.size - fill.base_fees, ZERO) if context.side is Side.BUY else None,
        )
        await self._write_trade_record(connection, context)
        await book_in_fifo(connection, self._account, order["symbol"], fill_id)
        if first and order["role"] != OrderRole.EXTERNAL:
            await self._link(connection, context)
        if order["protection_role"] is not None and order["role"] == OrderRole.EXIT:
            await name_the_leg(connection, order, context.after.totals)
        if order["entry_key"] is None:
            return None
        if context.side is Side.BUY:
            return await self._grow_trade(connection, context, fill)
        return await self._shrink_trade(connection, context, fill)

    async def _grow_trade(self, connection: Connection, context: _Context, fill: Fill) -> Any:
        order = context.order
        now = await connection.fetchval("SELECT state FROM trades WHERE entry_key = $1", order["entry_key"])
        state = TradeState(now) if now else TradeState.OPENING
        if state is not TradeState.CLOSING:
            state = move_trade(state, TradeState.PROTECTED)
        trade = await connection.fetchrow(
            """
            INSERT INTO trades AS t (entry_key, account, symbol, state, bought_size, bought_value, bought_quote_fees,
                                     bought_base_fees, rules, opened_at, protected_at)
            VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,now())
            ON CONFLICT (entry_key) DO UPDATE SET
                state = $4, bought_size = t.bought_size + $5, bought_value = t.bought_value + $6,
                bought_quote_fees = t.bought_quote_fees + $7, bought_base_fees = t.bought_base_fees + $8,
                -- dust that was written off comes back to life with what arrived late
                dust_size = 0, closed_at = NULL
            RETURNING remaining, state, entry_final, bought_size, bought_value
            """,
            order["entry_key"],
            self._account,
            order["symbol"],
            state.value,
            fill.size,
            fill.value,
            fill.quote_fees,
            fill.base_fees,
            order["intent"].get("rules") or {},
            context.update.at,
        )
        await connection.execute(
            """
            WITH plan AS (
                INSERT INTO exit_plans AS p (entry_key, account, symbol, state, rules, entry_price, quantity)
                VALUES ($1,$2,$3,'ARMED',$4,$5,$6)
                ON CONFLICT (entry_key) DO UPDATE SET
                    state = CASE WHEN p.state = 'DISARMED' THEN 'ARMED' ELSE p.state END,
                    entry_price = $5, quantity = $6, revision = nextval('exit_plan_revision'), updated_at = now()
                RETURNING entry_key)
            SELECT pg_notify('exit_plan', entry_key) FROM plan
            """,
            order["entry_key"],
            self._account,
            order["symbol"],
            order["intent"].get("rules") or {},
            divide(trade["bought_value"], trade["bought_size"]) if trade["bought_size"] else ZERO,
            trade["remaining"],
        )
        return trade

    async def _settle_late_entry(self, connection: Connection, order_key: str, reports: list[Report]) -> Any:
        """An entry that had ended before it filled after all has its final size once all its attempts have ended."""
        if not all(report.final for report in reports):
            return None
        return await connection.fetchrow(
            "UPDATE trades SET entry_final = true WHERE entry_key = $1 RETURNING remaining, state, entry_final",
            order_key,
        )

    async def _shrink_trade(self, connection: Connection, context: _Context, fill: Fill) -> Any:
        order = context.order
        held = await connection.fetchval(
            "SELECT remaining FROM trades WHERE entry_key = $1 FOR UPDATE", order["entry_key"]
        )
        surplus = fill.size + fill.base_fees - (held or ZERO)
        size, value, fees = fill.size, fill.value, fill.quote_fees
        if surplus > 0:
            # The exchange sold more than the trade has. The fact stands in fills and in FIFO; the position book takes
            # what it can and names the rest.
            kept = max(size - surplus, ZERO)
            value = divide(value * kept, size) if size else ZERO
            fees = divide(fees * kept, size) if size else ZERO
            size = kept
            await report_incident(
                connection,
                self._account,
                "OVERSOLD",
                "CRITICAL",
                order["order_key"],
                f"order {order['order_key']} sold {surplus} more than trade {order['entry_key']} had",
                details={"surplus": str(surplus), "exchange_order_id": context.exchange_order_id},
            )
        return await connection.fetchrow(
            """
            WITH plan AS (
                UPDATE exit_plans SET quantity = greatest(quantity - $2 - $5, 0), updated_at = now()
                WHERE entry_key = $1)
            UPDATE trades SET sold_size = sold_size + $2, sold_value = sold_value + $3,
                   sold_quote_fees = sold_quote_fees + $4, sold_base_fees = sold_base_fees + $5
            WHERE entry_key = $1 RETURNING remaining, state, entry_final
            """,
            order["entry_key"],
            size,
            value,
            fees,
            fill.base_fees if surplus <= 0 else ZERO,
        )

    async def _link(self, connection: Connection, context: _Context) -> None:
        await connection.execute(
            """
            INSERT INTO trade_strategy_link (order_key, order_id, client_order_id, snapshot_id, buy_score, sell_score,
                   trigger_type, sell_trigger, indicator_breakdown, indicators_fired, entry_key, exit_reason)
            SELECT order_key, $2, $3, snapshot_id, buy_score, sell_score, trigger,
                   CASE WHEN role = 'EXIT' THEN exit_reason END,
                   indicator_breakdown, indicators_fired, entry_key, exit_reason
            FROM orders WHERE order_key = $1 ON CONFLICT (order_key) DO NOTHING
            """,
            context.order["order_key"],
            context.exchange_order_id,
            context.attempt["client_order_id"],
        )

    async def _write_trade_record(self, connection: Connection, context: _Context) -> None:
        order, totals = context.order, context.after.totals
        await connection.execute(
            """
            INSERT INTO trade_records (order_id, account, order_key, client_order_id, symbol, side, order_time, price,
                   size, total_fees_usd, trigger, exit_reason, order_type, status, source, remaining_size, ingest_via)
            VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17)
            ON CONFLICT (order_id, account) DO UPDATE SET
                price = $8, size = $9, total_fees_usd = $10, status = $14
            """,
            context.exchange_order_id,
            self._account,
            order["order_key"],
            context.attempt["client_order_id"],
            order["symbol"],
            order["side"],
            context.update.at,
            divide(totals.value, totals.size) if totals.size else ZERO,
            totals.size,
            totals.quote_fees,
            {"trigger": order["trigger"], "snapshot_id": order["snapshot_id"]},
            order["exit_reason"],
            order["order_type"],
            context.after.status.value,
            order["source"],
            ZERO if context.side is Side.BUY else None,
            _via(context.update.source),
        )

    async def _write_records(self, connection: Connection, context: _Context, fill: Fill | None) -> None:
        """Keep the status columns true: the trade record's, and the open-order row, which exists while it's open."""
        order, attempt, after = context.order, context.attempt, context.after
        if fill is None and after.totals.size > 0:
            await connection.execute(
                "UPDATE trade_records SET status = $3 WHERE order_id = $1 AND account = $2",
                context.exchange_order_id,
                self._account,
                after.status.value,
            )
        if order["order_type"] == "MARKET" and not attempt["limit_price"]:
            return
        if after.final:
            await connection.execute(
                "DELETE FROM passive_orders WHERE client_order_id = $1", attempt["client_order_id"]
            )
            return
        await connection.execute(
            """
            INSERT INTO passive_orders (client_order_id, account, order_key, order_id, symbol, side, order_type, price,
                                        size, filled_size, status)
            VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)
            ON CONFLICT (client_order_id) DO UPDATE SET filled_size = $10, status = $11, updated_at = now()
            """,
            attempt["client_order_id"],
            self._account,
            order["order_key"],
            context.exchange_order_id,
            order["symbol"],
            order["side"],
            order["order_type"],
            attempt["limit_price"],
            attempt["size"],
            after.totals.size,
            after.status.value,
        )


def external_key(account: str, order: VenueOrder) -> str:
    """The order key of an order that we did not place."""
    return intent_key("external", order.exchange_order_id, account, order.symbol, order.side)


def entry_news(result: RecordResult) -> EntryNews:
    """What an entry tells its monitor."""
    return EntryNews(size=result.filled_size, entry_price=result.average_price, entry_final=bool(result.entry_final))


def update_of(order: VenueOrder, attempt: int, source: StatusSource, at: datetime | None = None) -> OrderUpdate:
    """A venue's report as the update of one of our attempts."""
    report = Report.of_venue(order.status, Totals())
    return OrderUpdate(
        attempt=attempt,
        status=report.status,
        exchange_order_id=order.exchange_order_id,
        filled_size=order.filled_size,
        filled_value=order.filled_value,
        quote_fees=order.quote_fees,
        base_fees=order.base_fees,
        source=source,
        at=at or order.updated_at or order.created_at or _missing_time(order),
        reason=order.reason,
    )


def _missing_time(order: VenueOrder) -> datetime:
    raise ValueError(f"order {order.exchange_order_id} carries no time")


def _via(source: StatusSource) -> str:
    return "websocket" if source is StatusSource.WEBSOCKET else "rest"


def _result(
    context: _Context,
    state: OrderState,
    sums: Totals,
    fill: Fill | None,
    trade: Any,
    *,
    first: bool,
    finished: bool,
) -> RecordResult:
    return RecordResult(
        attempt=context.update.attempt,
        attempt_status=AttemptStatus(context.after.status),
        state=state,
        filled_size=sums.size,
        filled_value=sums.value,
        fees=sums.quote_fees,
        average_price=average(sums.value, sums.size),
        new_fill=fill is not None,
        first_fill=first,
        trade_remaining=trade["remaining"] if trade else None,
        trade_state=TradeState(trade["state"]) if trade else None,
        entry_final=trade["entry_final"] if trade else None,
        finished=finished,
    )
