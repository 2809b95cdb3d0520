"""The two views that reconcile compares: the exchange's records from REST, and the journal in the database."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal

from activities.database import Statements
from activities.ledger.rows import ReportRow, report_of
from domain.differences import Execution, Journal, Known, Records, Seen
from domain.messages import StatusSource
from domain.orders import OrderRole, Report, Side, Totals
from exchange.port import Exchange, ExchangeError, MalformedMessage, VenueFill, VenueOrder

__all__ = [
    "ExchangeView",
    "executions_of",
    "look_up",
    "read_exchange",
    "read_journal",
    "seen_of",
    "with_products",
]

_ATTEMPTS = """
SELECT a.*, o.side, o.role FROM attempts a JOIN orders o USING (order_key)
 WHERE a.account = $1 AND (a.status NOT IN ('ABSENT','FILLED','CANCELLED','EXPIRED','FAILED')
       OR a.exchange_order_id = ANY($2::text[]) OR a.client_order_id = ANY($3::text[]))
"""
_FILLS = """
SELECT exchange_order_id, trade_id, origin FROM fills WHERE account = $1 AND exchange_order_id = ANY($2::text[])
"""


@dataclass(slots=True)
class ExchangeView:
    """Everything read from the exchange in one run, unchanged and as `domain.reconcile` uses it."""

    records: Records
    orders: dict[str, VenueOrder] = field(default_factory=dict)
    fills: dict[str, list[VenueFill]] = field(default_factory=dict)
    open_orders: int = 0
    unreadable: list[MalformedMessage] = field(default_factory=list)

    @property
    def executions(self) -> int:
        """How many executions there are."""
        return sum(len(items) for items in self.fills.values())


async def read_exchange(exchange: Exchange, since: datetime, *, executions: bool = True) -> ExchangeView:
    """Open orders first, then all orders created since, then executions: later reads are at least as recent.

    Raises ExchangeError if a list can't be read; unreadable rows are kept separately.
    """
    asked_at = datetime.now(UTC)
    unreadable: list[MalformedMessage] = []
    open_orders = await exchange.open_orders(unreadable=unreadable)
    history = await exchange.orders(since, unreadable=unreadable)
    fills = await exchange.fills(since=since, unreadable=unreadable) if executions else []
    orders = {item.exchange_order_id: item for item in open_orders}
    sources = dict.fromkeys(orders, StatusSource.OPEN_ORDERS)
    for item in history:
        orders[item.exchange_order_id] = item
        sources.setdefault(item.exchange_order_id, StatusSource.ORDER_HISTORY)
        if item.status.value not in ("OPEN", "PENDING", "CANCELLING"):
            sources[item.exchange_order_id] = StatusSource.ORDER_HISTORY
    by_order: dict[str, list[VenueFill]] = defaultdict(list)
    for fill in fills:
        by_order[fill.exchange_order_id].append(fill)
    return ExchangeView(
        Records(
            asked_at,
            [seen_of(item, sources[identity]) for identity, item in orders.items()],
            executions_of(fills),
        ),
        orders,
        dict(by_order),
        len(open_orders),
        # Both lists of orders may have shown the same row.
        list({message.raw: message for message in unreadable}.values()),
    )


async def with_products(exchange: Exchange, view: ExchangeView, strangers: Collection[str]) -> ExchangeView:
    """The view with the information which unknown products (`strangers`) the exchange has; without it if that can't be
    read."""
    if not strangers:
        return view
    try:
        known = {item.symbol for item in await exchange.products(sorted(strangers))}
    except ExchangeError:
        return view
    # What we trade ourselves needs no look-up; only strangers were asked for.
    mine = {item.symbol for item in view.records.orders} | {item.symbol for item in view.records.executions}
    view.records = replace(view.records, products=known | (mine - set(strangers)))
    return view


def seen_of(order: VenueOrder, source: StatusSource) -> Seen:
    """An order in the exchange's records, in the form for `domain.reconcile`."""
    totals = Totals(order.filled_size, order.filled_value, order.quote_fees, order.base_fees)
    return Seen(
        order.exchange_order_id,
        order.client_order_id,
        order.symbol,
        order.side,
        Report.of_venue(order.status, totals),
        source,
        {currency: amount for currency, amount in order.other_fees.items() if amount},
        order.updated_at or order.created_at,
    )


def executions_of(fills: Sequence[VenueFill]) -> list[Execution]:
    """Executions in the exchange's records, in the form for `domain.reconcile`."""
    return [
        Execution(
            item.trade_id,
            item.exchange_order_id,
            item.symbol,
            item.side,
            item.size,
            item.price,
            item.fee_currency,
            item.at,
        )
        for item in fills
    ]


async def read_journal(pool: Statements, account: str, view: ExchangeView) -> Journal:
    """The journal's data on all open orders and on everything in the exchange's view.

    Read after the exchange, so that orders in progress are included. Raises the database's errors.
    """
    identities = sorted({*view.orders, *view.fills})
    ours = sorted({item.client_order_id for item in view.orders.values() if item.client_order_id})
    attempts = await pool.fetch(_ATTEMPTS, account, identities, ours)
    fills = await pool.fetch(_FILLS, account, sorted(view.fills))
    return Journal(
        attempts=[_known(row) for row in attempts],
        booked={(row["exchange_order_id"], row["trade_id"]) for row in fills if row["trade_id"] is not None},
        derived={row["exchange_order_id"] for row in fills if row["origin"] == "derived"},
    )


class _KnownRow(ReportRow):
    """A row of _ATTEMPTS."""

    order_key: str
    number: int
    client_order_id: str
    exchange_order_id: str | None
    symbol: str
    side: str
    role: str
    sends: int
    acknowledged_at: datetime | None
    settled_size: Decimal | None


def _known(row: _KnownRow) -> Known:
    return Known(
        order_key=row["order_key"],
        number=row["number"],
        client_order_id=row["client_order_id"],
        exchange_order_id=row["exchange_order_id"],
        symbol=row["symbol"],
        side=Side(row["side"]),
        report=report_of(row),
        external=row["role"] == OrderRole.EXTERNAL,
        sent=row["sends"] > 0 or row["role"] == OrderRole.EXTERNAL,
        acknowledged_at=row["acknowledged_at"],
        settled=row["settled_size"] or Decimal(0),
    )


async def look_up(
    exchange: Exchange, identity: str, slots: asyncio.Semaphore
) -> tuple[VenueOrder | None, Sequence[VenueFill]]:
    """One order and its executions, from order history and trade history. Raises ExchangeError."""
    async with slots:
        order = await exchange.order(identity)
        fills = await exchange.fills(exchange_order_id=identity) if order is not None else []
    return order, fills
