"""The exchange's facts about orders: stored first, under the lease, before they are used (LIFE-5).

A batch is one statement, which returns for each fact the attempt of the journal it is about. The journal decides whose
order it is, by our id if it is the same order, else by the exchange's id; never by the id's format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg
import structlog
from pydantic import TypeAdapter, ValidationError

from activities.database import Statements
from activities.leases import HELD, Lease, LeaseLostError
from activities.measures import SILENT, Measures, tell_match
from domain.messages import StatusSource
from domain.orders import AttemptStatus, OrderRole, Report, Totals
from exchange.port import MalformedMessage, VenueOrder

__all__ = ["Fact", "FactStore", "Observed"]

log = structlog.get_logger(__name__)

_ORDER = TypeAdapter(VenueOrder)
_LONGEST_RAW = 100_000

_JOURNAL = """
  LEFT JOIN LATERAL (
      (SELECT a.* FROM attempts a WHERE a.account = $3 AND a.client_order_id = f.client_order_id
          AND (a.exchange_order_id IS NULL OR a.exchange_order_id = f.exchange_order_id))
      UNION ALL
      (SELECT a.* FROM attempts a WHERE a.account = $3 AND a.exchange_order_id = f.exchange_order_id)
      LIMIT 1) a ON true
  LEFT JOIN orders o ON o.order_key = a.order_key
"""
_COLUMNS = """
    a.order_key, a.number, a.size, a.status, a.filled_size, a.filled_value, a.quote_fees, a.base_fees,
    a.exchange_order_id AS known_id, a.client_order_id AS our_id, o.role, o.entry_key
"""
_COMMIT = (
    """
WITH news AS (
    SELECT * FROM jsonb_to_recordset($4::jsonb) AS n (place int, source text, symbol text, exchange_order_id text,
                                                      client_order_id text, body jsonb, received_at timestamptz)
), f AS (
    INSERT INTO raw_facts (account, source, kind, symbol, exchange_order_id, client_order_id, body, epoch, received_at)
    SELECT $3, source, 'order', symbol, exchange_order_id, client_order_id, body, $2, received_at FROM news
     WHERE """
    + HELD
    + """ ORDER BY place
    RETURNING id, exchange_order_id, client_order_id
)
SELECT f.id,"""
    + _COLUMNS
    + "FROM f"
    + _JOURNAL
    + "ORDER BY f.id"
)
_UNROUTED = (
    """
WITH f AS (
    SELECT id, exchange_order_id, client_order_id, body FROM raw_facts
     WHERE account = $3 AND kind = 'order' AND routed_at IS NULL AND id > $4 AND """
    + HELD
    + """ ORDER BY id LIMIT 500
)
SELECT f.id, f.body,"""
    + _COLUMNS
    + "FROM f"
    + _JOURNAL
    + "ORDER BY f.id"
)
_MALFORMED = (
    """
INSERT INTO raw_facts (account, source, kind, body, epoch, received_at, exchange_order_id, routed_at)
SELECT $3, $4, 'malformed', $5, $2, $6, $7::text, CASE WHEN $7::text IS NULL THEN now() END WHERE """
    + HELD
)
_UNCLEAR = (
    """
SELECT body, received_at FROM raw_facts
 WHERE account = $3 AND kind = 'malformed' AND routed_at IS NULL AND """
    + HELD
    + " ORDER BY id"
)
_CLEARED = (
    """
UPDATE raw_facts SET routed_at = now()
 WHERE account = $3 AND kind = 'malformed' AND routed_at IS NULL AND exchange_order_id = $4 AND """
    + HELD
)
_ROUTED = "UPDATE raw_facts SET routed_at = now() WHERE id = ANY($3) AND " + HELD


@dataclass(frozen=True, slots=True)
class Observed:
    """An order as the exchange reported it; `at` is when it was received; `snapshot`: it may be known already."""

    order: VenueOrder
    source: StatusSource
    at: datetime
    snapshot: bool = False
    sequence: int | None = None

    @property
    def report(self) -> Report:
        """Its report in our terms."""
        order = self.order
        return Report.of_venue(
            order.status, Totals(order.filled_size, order.filled_value, order.quote_fees, order.base_fees)
        )

    def document(self) -> dict[str, Any]:
        """Its exact stored form."""
        return {
            "order": _ORDER.dump_python(self.order, mode="json", fallback=str),
            "source": self.source.value,
            "at": self.at.isoformat(),
            "snapshot": self.snapshot,
            "sequence": self.sequence,
        }

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Observed:
        """Read back what `document` gave. Raises pydantic's ValidationError, KeyError or ValueError."""
        return cls(
            _ORDER.validate_python(document["order"]),
            StatusSource(document["source"]),
            datetime.fromisoformat(document["at"]),
            bool(document["snapshot"]),
            document["sequence"],
        )


@dataclass(frozen=True, slots=True)
class Fact:
    """A stored observation, with its attempt; `order_key` is None for an unknown order."""

    id: int
    observed: Observed
    order_key: str | None = None
    attempt: int = 0
    role: OrderRole | None = None
    entry_key: str | None = None
    known: bool = False
    """The journal already has exactly this."""
    size: Decimal | None = None
    """The attempt's size (base), where it was sent with one."""

    @property
    def ours(self) -> bool:
        """Whether the system placed the order."""
        return self.order_key is not None and self.role is not OrderRole.EXTERNAL

    @property
    def ends_short(self) -> bool:
        """Whether it reports an end with an unfilled rest, so that its filled size may not be final: any end but
        FILLED, and FILLED with less than the attempt's size.
        """
        report = self.observed.report
        if report.status is AttemptStatus.FILLED:
            return self.size is not None and report.totals.size < self.size
        return report.final


class FactStore:
    """Facts of one account, written under a lease. `measures` is told how those that bring a fill were matched."""

    def __init__(self, pool: Statements, account: str, lease: Lease, measures: Measures = SILENT) -> None:
        self._pool = pool
        self._account = account
        self._lease = lease
        self._measures = measures

    async def commit(self, batch: Sequence[Observed]) -> list[Fact]:
        """Store a batch in one statement; returns the facts in the same order, without those that can't be stored as an
        order.

        Raises LeaseLostError if the lease is another's, and the database's errors.
        """
        news = [
            {
                "place": place,
                "source": seen.source.value,
                "symbol": seen.order.symbol,
                "exchange_order_id": seen.order.exchange_order_id,
                "client_order_id": seen.order.client_order_id,
                "body": seen.document(),
                "received_at": seen.at.isoformat(),
            }
            for place, seen in enumerate(batch)
        ]
        try:
            rows = await self._pool.fetch(_COMMIT, *self._held, self._account, _storable(news))
        except asyncpg.DataError as problem:
            if len(batch) > 1:
                return [fact for seen in batch for fact in await self.commit([seen])]
            await self.malformed(MalformedMessage(repr(batch[0]), str(problem), batch[0].at), batch[0].source)
            return []
        if len(rows) != len(batch):
            raise LeaseLostError(f"the lease {self._lease.name} is another holder's by now")
        for row, seen in zip(rows, batch, strict=True):
            self._tell_match(row, seen)
        return [_fact(row, seen) for row, seen in zip(rows, batch, strict=True)]

    def _tell_match(self, row: asyncpg.Record, seen: Observed) -> None:
        """Of a report with more filled than the journal has: how its order was found."""
        order, key = seen.order, row["order_key"]
        if order.filled_size > (row["filled_size"] or 0):
            by = "none" if key is None else "client_id" if row["our_id"] == order.client_order_id else "exchange_id"
            tell_match(
                self._measures, by, seen.source, exchange_order_id=order.exchange_order_id, order_key=row["order_key"]
            )

    async def unrouted(self) -> list[Fact]:
        """Everything that an earlier reader stored but did not route."""
        facts: list[Fact] = []
        last = 0
        while rows := await self._pool.fetch(_UNROUTED, *self._held, self._account, last):
            last = rows[-1]["id"]
            for row in rows:
                try:
                    facts.append(_fact(row, Observed.of_document(row["body"])))
                except (ValidationError, KeyError, TypeError, ValueError) as problem:
                    log.error("stored fact can't be read", fact=row["id"], problem=repr(problem))
        return facts

    async def malformed(
        self, message: MalformedMessage, source: StatusSource = StatusSource.WEBSOCKET, *, ends: str | None = None
    ) -> None:
        """Store an unreadable message; one that reports the end of the order `ends` (the exchange's id) is kept until
        it has been used. Raises the database's errors.
        """
        body = {"raw": message.raw[:_LONGEST_RAW], "reason": message.reason}
        if ends is not None:
            body["filled_size"] = str(message.filled_size)
        at = message.at
        await self._pool.execute(_MALFORMED, *self._held, self._account, source.value, _storable(body), at, ends)

    async def unclear(self) -> list[MalformedMessage]:
        """The ends that an earlier reader stored with `malformed` and did not use. Raises the database's errors."""
        return [
            MalformedMessage(
                row["body"]["raw"],
                row["body"]["reason"],
                row["received_at"],
                Decimal(row["body"]["filled_size"]),
                ended=True,
            )
            for row in await self._pool.fetch(_UNCLEAR, *self._held, self._account)
        ]

    async def cleared(self, ends: str) -> None:
        """Record that this order's end, stored by `malformed`, has been used. Raises the database's errors."""
        await self._pool.execute(_CLEARED, *self._held, self._account, ends)

    async def routed(self, ids: Sequence[int]) -> None:
        """Mark facts as routed. Raises the database's errors."""
        await self._pool.execute(_ROUTED, *self._held, list(ids))

    @property
    def _held(self) -> tuple[str, int]:
        return self._lease.name, self._lease.epoch


def _fact(row: asyncpg.Record, seen: Observed) -> Fact:
    if row["order_key"] is None:
        return Fact(row["id"], seen)
    totals = Totals(row["filled_size"], row["filled_value"], row["quote_fees"], row["base_fees"])
    report = seen.report
    return Fact(
        id=row["id"],
        observed=seen,
        order_key=row["order_key"],
        attempt=row["number"],
        role=OrderRole(row["role"]),
        entry_key=row["entry_key"],
        size=row["size"],
        known=(
            row["known_id"] == seen.order.exchange_order_id
            and row["status"] == report.status
            and totals == report.totals
        ),
    )


def _storable(value: Any) -> Any:
    """The same with texts that PostgreSQL accepts: no NUL, no lone surrogates."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value
