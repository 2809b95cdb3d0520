"""The ledger: one transaction records an exchange report in everything that depends on it.

`record` is the only writer of fills. It merges the report into its attempt, books the increase in both books (position
per trade, FIFO per symbol), updates the trade record, the linkage, the open-order row and the exit plan, and returns
the order's state: computed in `activities.ledger.bookings`, written by the database under the symbol's lock. It is
idempotent and tolerates late and out-of-order reports. The exchange's facts are never refused: contradictions become an
incident.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import structlog

from activities.database import Pool, Record, Statements, lock_symbol
from activities.incidents import report_once
from activities.leases import DATABASE_TROUBLE
from activities.ledger.bookings import Booking, LedgerState, book, ledger_state_of
from activities.ledger.rows import report_of, totals_of
from activities.measures import SILENT, Measures
from domain.errors import BotTraderError
from domain.exits import ExitRules
from domain.ids import intent_key
from domain.incidents import IncidentKind
from domain.messages import EntryNews, OrderUpdate, RecordResult, StatusSource
from domain.money import ZERO
from domain.orders import EntryPoint, OrderState, Report, Side, Totals, TradeState
from exchange.port import VenueOrder

__all__ = ["LedgerWriter", "UnknownAttemptError", "external_key", "update_of"]

log = structlog.get_logger(__name__)

_TRIES = 4
_REMEMBERED = 2_000
"""Number of orders whose state is cached for their next report; the oldest are dropped first."""

_READ = "SELECT state, md5(state) AS mark FROM (SELECT ledger_state($1, $2, $3, $4) AS state OFFSET 0) told"
_COMMIT = "SELECT * FROM ledger_commit_2($1, $2, $3, $4, $5, $6, $7, $8, $9)"
# Nothing is written if the exchange's id is known on another order, which is what it answers. The client's id may be
# one of ours on another order: the exchange's id then stands in, the journal stays right.
_ADOPT = f"""
WITH known AS (
    SELECT o.* FROM attempts a JOIN orders o USING (order_key)
     WHERE a.account = $2 AND a.exchange_order_id = $13 AND o.order_key <> $1 LIMIT 1),
adopted AS (
    INSERT INTO orders (order_key, account, symbol, side, role, order_type, source, entry_point, trigger, intent,
                        intent_digest, state, finished, base_size, limit_price, placed_at, entry_key)
    SELECT $1,$2,$3,$4,'EXTERNAL',$5,$6,'{EntryPoint.EXTERNAL}','manual',$7,'',$8,true,$9,$10,$11,$12
     WHERE NOT EXISTS (SELECT FROM known)
        ON CONFLICT (order_key) DO NOTHING),
attempt AS (
    INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status, live, exchange_order_id,
                          size, limit_price, acknowledged_at)
    SELECT CASE WHEN EXISTS (SELECT FROM attempts WHERE client_order_id = $14 AND order_key <> $1) THEN $13
                ELSE $14 END, $1, 1, $2, $3, '{{}}'::jsonb, 'SUBMITTING', false, $13, $9, $10, now()
     WHERE NOT EXISTS (SELECT FROM known)
        ON CONFLICT DO NOTHING)
SELECT * FROM known
"""


class UnknownAttemptError(BotTraderError, LookupError):
    """A report speaks of an attempt that the journal doesn't have."""

    code = "UNKNOWN_ATTEMPT"


@dataclass(frozen=True, slots=True)
class _Known:
    """An order's state with the database's version of it, and the size (base) its lots were listed for."""

    state: LedgerState
    mark: str
    cover: Decimal


class LedgerWriter:
    """Both books and everything written in the same transaction.

    The state is read, the changes are computed, and the database writes them in one call if the state is still the same
    under the symbol's lock. The call returns the state for the order's next report, so that it needs no read; if the
    state has changed, the call returns it instead of writing, and the changes are computed again.

    Attributes:
        recorded: called after each new fill with the order's key, the report, the result and whether the order ended
            with it; must not raise.
        oversold: called with the symbol when a trade is found to have sold more than it had; must not raise.
        measures: is told what each report wrote.
    """

    def __init__(self, pool: Pool, account: str) -> None:
        self._pool = pool
        self._account = account
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self.recorded: Callable[[str, OrderUpdate, RecordResult, bool], None] | None = None
        self.oversold: Callable[[str], None] | None = None
        self.measures: Measures = SILENT

    async def record(self, order_key: str, update: OrderUpdate, *, symbol: str | None = None) -> RecordResult:
        """Record a report in the ledger, in one transaction.

        `symbol` is the order's; it is read if not given. Raises UnknownAttemptError if the journal has no such attempt.
        """
        known = self._known.pop(order_key, None)
        result = await self._record_from(self._pool, order_key, update, known, _TRIES)
        if result is None:
            # Others were faster each time: with the lock held from the reading on, nobody is.
            async with self._pool.acquire() as connection, connection.transaction():
                if symbol is None:
                    symbol = await connection.fetchval("SELECT symbol FROM orders WHERE order_key = $1", order_key)
                await lock_symbol(connection, self._account, symbol or "")
                result = await self._record_from(connection, order_key, update, None, _TRIES)
            if result is None:
                raise RuntimeError(f"order {order_key} changed although its symbol is locked")
        return result

    async def expect(self, order_key: str, size: Decimal | None) -> None:
        """Read in advance the state for the first report of an order of `size` (base), so that recording it is one
        call.

        If the database doesn't answer, the report reads it.
        """
        with contextlib.suppress(*DATABASE_TROUBLE):
            row = await self._pool.fetchrow(_READ, self._account, order_key, None, size or ZERO)
            self._remember(order_key, row, size or ZERO)

    async def _record_from(
        self, connection: Statements, order_key: str, update: OrderUpdate, known: _Known | None, tries: int
    ) -> RecordResult | None:
        """Compute from the known state and write if it is unchanged, up to `tries` times; None if it never was."""
        cover = update.filled_size + max(update.base_fees, ZERO)
        booking = None if known is None else self._book(known, update)
        if booking is None or not booking.writes:
            # A report that is no news is answered from what is stored now.
            known = await self._read(connection, order_key, update, cover)
            booking = self._book(known, update)
        for _ in range(tries):
            if booking is None or known is None:
                raise RuntimeError(f"the state of order {order_key} doesn't cover {cover}")
            if not booking.writes:
                self.measures.written("none", update.source)
                return booking.result
            row = await connection.fetchrow(
                _COMMIT,
                self._account,
                known.state.order["symbol"],
                order_key,
                known.mark,
                update.at,
                known.cover,
                booking.writes,
                cover,
                booking.next_cover,
            )
            if row["applied"]:
                self._remember(order_key, row, booking.next_cover)
                self._log(order_key, booking)
                result = _with_trade(booking.result, row)
                self._measure(known.state, update, booking)
                if result.new_fill and self.recorded is not None:
                    self.recorded(order_key, update, result, "finish" in booking.writes)
                if booking.oversold and self.oversold is not None:
                    self.oversold(known.state.order["symbol"])
                return result
            known = _Known(ledger_state_of(row["state"]), row["mark"], cover)
            booking = self._book(known, update)
        return None

    async def _read(self, connection: Statements, order_key: str, update: OrderUpdate, cover: Decimal) -> _Known:
        row = await connection.fetchrow(_READ, self._account, order_key, update.at, cover)
        if row["state"] is None:
            raise UnknownAttemptError(f"no order {order_key}")
        return _Known(ledger_state_of(row["state"]), row["mark"], cover)

    def _book(self, known: _Known, update: OrderUpdate) -> Booking | None:
        try:
            return book(self._account, known.state, update)
        except LookupError as problem:
            raise UnknownAttemptError(*problem.args) from problem

    def _remember(self, order_key: str, row: Record, cover: Decimal | None) -> None:
        if cover is None or row["state"] is None:
            return
        self._known[order_key] = _Known(ledger_state_of(row["state"]), row["mark"], cover)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def _measure(self, before: LedgerState, update: OrderUpdate, booking: Booking) -> None:
        result = booking.result
        self.measures.written("insert" if result.new_fill else "update", update.source)
        known = next((row for row in before.attempts if row["number"] == result.attempt), None)
        if result.attempt_status.final and known is not None and not report_of(known).final:
            self.measures.attempt_ended(result.attempt_status.value, result.attempt)

    def _log(self, order_key: str, booking: Booking) -> None:
        for item in booking.writes.get("incidents", ()):
            log.warning(
                "incident", kind=item["kind"], severity=item["severity"], subject=order_key, sentence=item["sentence"]
            )

    async def adopt(self, order: VenueOrder, source: StatusSource, *, protect: ExitRules | None = None) -> RecordResult:
        """Record an order that the system didn't place: its own row, its fills in the FIFO book, no linkage.

        With `protect`, a new buy becomes a trade with these exit rules. An order reported with another side or product
        than before is not booked, but becomes an incident.
        """
        key = external_key(self._account, order)
        is_trade = protect is not None and order.side is Side.BUY
        if key not in self._known:
            before = await self._pool.fetchrow(
                _ADOPT,
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
                order.exchange_order_id,
                order.client_order_id or order.exchange_order_id,
            )
            if before is not None:
                return await self._contradiction(before, order)
        result = await self.record(key, update_of(order, 1, source), symbol=order.symbol)
        if result.attempt_status.final and result.trade_state is not None and not result.entry_final:
            await self._pool.execute("UPDATE trades SET entry_final = true WHERE entry_key = $1", key)
            result = result.model_copy(update={"entry_final": True})
        return result

    async def _contradiction(self, known: Record, order: VenueOrder) -> RecordResult:
        """Why the exchange's id belongs to another order of the ledger; nothing is guessed."""
        if (known["side"], known["symbol"]) != (order.side, order.symbol):
            differs = (
                f"was a {known['side']} of {known['symbol']} and is now reported as a {order.side} of {order.symbol}"
            )
        elif known["account"] != self._account:
            differs = (
                f"belongs to account {known['account']} in this ledger and is now reported to account {self._account}"
            )
        else:
            differs = f"is order {known['order_key']} of this ledger and is now reported as an external order"
        await report_once(
            self._pool,
            self._account,
            IncidentKind.CHANGED_SIDE,
            "CRITICAL",
            order.exchange_order_id,
            f"order {order.exchange_order_id} {differs}: nothing of it is booked until a person has checked it",
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
            booked=False,
        )


def external_key(account: str, order: VenueOrder) -> str:
    """The order key of an order that we did not place."""
    return intent_key(EntryPoint.EXTERNAL, order.exchange_order_id, account, order.symbol, order.side)


def entry_news(result: RecordResult) -> EntryNews:
    """An entry's message to its monitor."""
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
        on_request=order.on_request,
    )


def _missing_time(order: VenueOrder) -> datetime:
    raise ValueError(f"order {order.exchange_order_id} has no time")


def _with_trade(result: RecordResult, row: Record) -> RecordResult:
    return result.model_copy(
        update={
            "trade_remaining": row["remaining"],
            "trade_state": TradeState(row["trade_state"]) if row["trade_state"] else None,
            "entry_final": row["entry_final"],
        }
    )
