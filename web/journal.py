"""The webhook's part of the ledger: alerts by key, and the decisions on their orders.

One row for each key, written before anything is started, with the whole intent: the same key again starts the same
order or none, even if settings have changed, and another body under it is detected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar, cast

import asyncpg
import structlog

from domain.entries import AccountWorth
from domain.incidents import IncidentKind
from domain.intents import intent_digest
from domain.messages import OrderDecision, OrderIntent
from domain.orders import Side
from domain.pool import TradeLeft
from web.refusals import Refused
from web.scopes import Refusal
from web.views.costs import Costs, read_costs
from web.views.orders import decision_on, numbers_of_refusal

__all__ = ["AlertJournal", "Noted"]

_log = structlog.get_logger()
_Answer = TypeVar("_Answer")

_NOTE = """
WITH noted AS (
INSERT INTO webhook_alerts AS a
       (account, request_id, sender, action, symbol, digest, alert, order_key, intent, refusal, closes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
        CASE WHEN $4 <> 'close' OR $10::jsonb IS NOT NULL THEN '{}'::text[] ELSE coalesce((
            SELECT array_agg(key ORDER BY at) FROM (
                SELECT entry_key AS key, opened_at AS at FROM trades
                 WHERE account = $1 AND symbol = $5 AND state <> 'CLOSED'
                UNION
                SELECT order_key, received_at FROM orders o
                 WHERE account = $1 AND symbol = $5 AND role = 'ENTRY' AND NOT finished
                   AND NOT EXISTS (SELECT 1 FROM trades t WHERE t.entry_key = o.order_key)) AS open), '{}') END)
ON CONFLICT (account, request_id) DO UPDATE SET repeats = a.repeats + 1
RETURNING repeats, digest, action, symbol, intent, refusal, closes, received_at
), command AS (
-- the sender's proven name, for whoever stores who asked (activities.commands); of a repeated alert the first one stays
INSERT INTO commands (id, account, kind, subject, given_by, note)
SELECT $8, $1, 'order', $11, $3, '' FROM noted WHERE $8::text IS NOT NULL AND digest = $6
UNION ALL
SELECT $2 || '/' || key, $1, 'close', key, $3, '' FROM noted, unnest(closes) AS key WHERE digest = $6
ON CONFLICT (id) DO NOTHING
)
SELECT * FROM noted
"""
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended('webhook:' || $1 || ':' || $2, 0))"
_ORDERS_TODAY = """
SELECT count(*) AS orders, bool_or(a.request_id = $3) AS known
  FROM webhook_alerts a LEFT JOIN orders o ON o.order_key = a.order_key
 WHERE a.account = $1 AND a.sender = $2
   AND (a.request_id = $3 OR (a.order_key IS NOT NULL AND o.gate IS NULL
        AND (a.intent ->> 'dry_run')::boolean IS NOT TRUE
        AND a.received_at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'))
"""
"""An order counts from when its alert is recorded, unless a gate has refused it since."""
_OPEN_TRADES = """
SELECT t.entry_key,
       t.remaining - coalesce((SELECT sum(o.open_claim) FROM orders o
                                WHERE o.entry_key = t.entry_key AND o.side = 'SELL' AND NOT o.finished
                                  AND o.protection_role IS NULL), 0) AS free
  FROM trades t
 WHERE t.account = $1 AND t.symbol = $2 AND t.state <> 'CLOSED'
 ORDER BY t.opened_at, t.entry_key
"""
_WORTH = "SELECT worth, why FROM account_worth($1, $2, $3, $4)"
_KEEP_CLOSE = """
UPDATE commands SET accepted_at = coalesce(accepted_at, now())
 WHERE id = $1 AND account = $2 AND kind = 'close' AND subject = $3 RETURNING true
"""
"""The command recorded for the alert (see activities.commands)."""
_CLOSED = """
SELECT o.finished AND coalesce(t.state = 'CLOSED', true) AS closed
  FROM orders o LEFT JOIN trades t ON t.entry_key = o.order_key WHERE o.order_key = $1
"""


_LAPSE = """
INSERT INTO incidents (account, kind, severity, subject, sentence, details)
SELECT $1, $6::text, $2, $3, $4, $5::jsonb
 WHERE NOT EXISTS (SELECT 1 FROM incidents WHERE account = $1 AND kind = $6 AND subject = $3
                      AND severity = $2 AND details ->> 'reason' = $5::jsonb ->> 'reason' AND resolved_at IS NULL)
   AND (SELECT count(*) FROM incidents WHERE account = $1 AND kind = $6 AND subject = $3
           AND severity = $2 AND at > now() - interval '1 hour') < 20
RETURNING true
"""


@dataclass(frozen=True, slots=True)
class Noted:
    """The record under a key; for a repeat, the first alert's."""

    repeated: bool
    digest: str
    action: str
    symbol: str
    intent: OrderIntent | None
    refusal: Mapping[str, str] | None
    closes: Sequence[str]
    received_at: datetime


class AlertJournal:
    """Reads and writes of one account, each within `seconds`. Every method raises Refused(503) without the database."""

    def __init__(self, pool: Any, account: str, seconds: float = 2.0) -> None:
        self._pool = pool
        self._account = account
        self._seconds = seconds
        self._late: set[asyncio.Future[Any]] = set()

    async def note(
        self,
        request_id: str,
        *,
        sender: str,
        action: str,
        symbol: str,
        digest: str,
        alert: Mapping[str, Any],
        intent: OrderIntent | None,
        refusal: Mapping[str, str] | None,
        orders_per_day: int | None = None,
        too_many: Refusal | None = None,
    ) -> Noted:
        """Record the alert under its key, or return the existing record.

        If the sender has had `orders_per_day` orders of this UTC day, a new one is recorded as refused by `too_many`;
        counting is serialised, so that a burst gets no more.
        """

        def write(where: Any, intent: OrderIntent | None, refusal: Mapping[str, str] | None) -> Awaitable[Any]:
            written = intent.model_dump(mode="json") if intent else None
            order_key = intent.order_key if intent else None
            order_digest = intent_digest(intent) if intent else None
            given = (self._account, request_id, sender, action, symbol, digest, alert, order_key, written, refusal)
            return cast("Awaitable[Any]", where.fetchrow(_NOTE, *given, order_digest))

        async def counted() -> Any:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_ONE_AT_A_TIME, self._account, sender)
                today = await connection.fetchrow(_ORDERS_TODAY, self._account, sender, request_id)
                if not today["known"] and today["orders"] >= orders_per_day:
                    return await write(connection, None, too_many)
                return await write(connection, intent, refusal)

        counts = orders_per_day is not None and intent is not None and not intent.dry_run
        row = await self._within(counted() if counts else write(self._pool, intent, refusal))
        return Noted(
            repeated=row["repeats"] > 0,
            digest=row["digest"],
            action=row["action"],
            symbol=row["symbol"],
            intent=OrderIntent.model_validate(row["intent"]) if row["intent"] else None,
            refusal=row["refusal"],
            closes=row["closes"],
            received_at=row["received_at"],
        )

    async def lapsed(
        self, sender: str, sentence: str, details: Mapping[str, str | None], *, critical: bool = False
    ) -> None:
        """Report that an authenticated sender's alert was refused: once for each `reason` of the details while that is
        open, and at most 20 an hour for each sender and severity, so that bad buys don't suppress a bad close.

        If the ledger is unreachable, the answer is not delayed; then only the log has it.
        """
        given = {name: value for name, value in details.items() if value is not None}
        severity = "CRITICAL" if critical else "WARNING"
        try:
            await self._row(_LAPSE, self._account, severity, sender, sentence, given, IncidentKind.ALERT_REFUSED)
        except Refused:
            _log.warning("incident_not_stored", kind=IncidentKind.ALERT_REFUSED, sender=sender, **given)

    async def known(self, request_id: str) -> bool:
        """Whether there is a record under the key."""
        sql = "SELECT true FROM webhook_alerts WHERE account = $1 AND request_id = $2"
        return await self._row(sql, self._account, request_id) is not None

    async def decision(self, order_key: str) -> OrderDecision | None:
        """The stored decision on an order; None while there is none."""
        return await self._within(decision_on(self._pool, order_key))

    async def gate_numbers(self, order_key: str) -> dict[str, str]:
        """The values compared by the gate that refused the order."""
        return await self._within(numbers_of_refusal(self._pool, order_key))

    async def keep_close(self, key: str, command: str) -> None:
        """Store the close of a trade without a running workflow, for the one that the sweep starts."""
        await self._row(_KEEP_CLOSE, command, self._account, key)

    async def price(self, symbol: str, side: Side, seconds: float) -> Decimal | None:
        """The ask (to buy) or bid (to sell) of the last `seconds`, quote per base; None without one."""
        found = await self.costs(symbol, seconds)
        return found.ask if side is Side.BUY else found.bid

    async def costs(self, symbol: str, seconds: float) -> Costs:
        """The account's taker fee rate, and the bid and ask of the last `seconds`."""
        return await self._within(read_costs(self._pool, self._account, symbol, seconds))

    async def worth(self, quote: str, balance_seconds: float, price_seconds: float) -> AccountWorth:
        """What the account is worth in a quote currency, by a balance and prices of at most these ages (wall)."""
        row = await self._row(_WORTH, self._account, quote, balance_seconds, price_seconds)
        return AccountWorth(row["worth"], row["why"] or "")

    async def open_trades(self, symbol: str) -> list[TradeLeft]:
        """The symbol's open trades, oldest first, with what an alert may still sell of each."""
        rows = await self._within(self._pool.fetch(_OPEN_TRADES, self._account, symbol))
        return [TradeLeft(row["entry_key"], row["free"]) for row in rows]

    async def closed(self, entry_key: str) -> bool:
        """Whether neither the trade nor its entry is open any more."""
        row = await self._row(_CLOSED, entry_key)
        return row is None or bool(row["closed"])

    async def alive(self) -> bool:
        """Whether the database accepts writes."""
        try:
            return await self._row("SELECT write_heartbeat()") is not None
        except (Refused, asyncpg.PostgresError):
            return False

    async def _row(self, sql: str, *values: object) -> Any:
        return await self._within(self._pool.fetchrow(sql, *values))

    async def _within(self, answer: Awaitable[_Answer]) -> _Answer:
        # Not asyncio.timeout: the pool waits for a connection that it takes back, and a frozen server holds it.
        asking = asyncio.ensure_future(answer)
        done, _ = await asyncio.wait({asking}, timeout=self._seconds)
        if not done:
            self._late.add(asking)
            asking.add_done_callback(self._ended_late)
            asking.cancel()
            raise _away(TimeoutError())
        try:
            return asking.result()
        except (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
            raise _away(error) from error
        except asyncpg.PostgresError as error:
            if str(error.sqlstate or "").startswith(("53", "57")):
                raise _away(error) from error
            raise

    def _ended_late(self, asking: asyncio.Future[Any]) -> None:
        """The caller no longer waits for it; its row, if written, is found by the same key again."""
        self._late.discard(asking)
        if not asking.cancelled():
            asking.exception()


def _away(error: Exception) -> Refused:
    return Refused(
        503,
        "NO_DATABASE",
        f"The ledger does not answer ({type(error).__name__}): nothing was decided, and the same alert with the same "
        "key may be sent again.",
        retry_after=5,
    )
