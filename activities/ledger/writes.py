"""What a booking writes, as `ledger_write` takes it: each part with its columns. A test holds them to its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Required, TypedDict

from activities.ledger.rows import TotalsRow

__all__ = [
    "AllocationWrite",
    "AttemptWrite",
    "ExitWrite",
    "FillWrite",
    "FinishWrite",
    "GrowWrite",
    "IncidentWrite",
    "LegWrite",
    "LinkWrite",
    "LotWrite",
    "OrderWrite",
    "PassiveWrite",
    "RecordStatusWrite",
    "RecordWrite",
    "ShrinkWrite",
    "Writes",
]


class AttemptWrite(TotalsRow):
    """The attempt that was reported; `final`: nothing can follow; `at` is the report's time."""

    client_order_id: str
    status: str
    final: bool
    status_source: str
    exchange_order_id: str | None
    at: datetime
    reason: str | None


class OrderWrite(TotalsRow):
    """Its order; `filled_at` where the report has a fill."""

    state: str
    status_source: str
    filled_at: datetime | None


class FillWrite(TypedDict):
    """The new fill; `lot_remaining` of a buy only."""

    fill_key: str
    client_order_id: str
    exchange_order_id: str
    ingest_via: str
    size: Decimal
    price: Decimal
    value: Decimal
    quote_fees: Decimal
    base_fees: Decimal
    at: datetime
    lot_remaining: Decimal | None


class RecordWrite(TypedDict):
    """The trade record of the exchange's order."""

    order_id: str
    client_order_id: str
    order_time: datetime
    price: Decimal
    size: Decimal
    fees: Decimal
    status: str
    ingest_via: str


class LotWrite(TypedDict):
    """What is left of a lot now (base)."""

    id: int
    remaining: Decimal


class AllocationWrite(TypedDict):
    """A sell that took of a lot, or of none (uncovered). Sizes in base; prices, fees and profit in quote currency."""

    sell_fill: int
    buy_fill: int | None
    sell_order_id: str
    buy_order_id: str | None
    size: Decimal
    sell_price: Decimal
    buy_price: Decimal | None
    sell_fee_per_unit: Decimal
    buy_fee_per_unit: Decimal | None
    cost_basis: Decimal | None
    proceeds: Decimal
    net_proceeds: Decimal
    pnl: Decimal | None
    buy_time: datetime | None
    sell_time: datetime


class LinkWrite(TypedDict):
    """The order's linkage to the exchange's order."""

    order_id: str
    client_order_id: str


class LegWrite(TypedDict):
    """Which leg of a protective order has filled."""

    role: str
    reason: str


class GrowWrite(TypedDict):
    """What an entry's fill adds to its trade; `entry_price` is the trade's after it."""

    state: str
    size: Decimal
    value: Decimal
    quote_fees: Decimal
    base_fees: Decimal
    at: datetime
    entry_price: Decimal


class ShrinkWrite(TypedDict):
    """What an exit's fill takes from its trade."""

    size: Decimal
    value: Decimal
    quote_fees: Decimal
    base_fees: Decimal


class RecordStatusWrite(TypedDict):
    """The trade record's status, where nothing else of it changes."""

    order_id: str
    status: str


class PassiveWrite(TypedDict):
    """The row of an order that is open at the exchange."""

    client_order_id: str
    order_id: str
    price: Decimal | None
    size: Decimal | None
    filled_size: Decimal
    status: str


class FinishWrite(TypedDict, total=False):
    """The order's end."""

    state: Required[str]
    refusal: str | None
    sentence: str | None


class ExitWrite(TypedDict):
    """What an exit order achieved (EXIT-5); `again` is the incident's sentence if exits had been refused before."""

    reason: str
    target_fraction: Decimal | None
    trigger_price: Decimal | None
    size: Decimal
    average_price: Decimal | None
    achieved_gross: Decimal | None
    achieved_net: Decimal | None
    slippage: Decimal | None
    fees: Decimal
    path: str
    due_at: str | None
    again: str


class IncidentWrite(TypedDict):
    """An incident about the order."""

    kind: str
    severity: str
    sentence: str
    details: Mapping[str, object]


class Writes(TypedDict, total=False):
    """All parts; one that is missing changes nothing. `take_back` are the sell fills whose allocations go."""

    attempt: AttemptWrite
    order: OrderWrite
    fill: FillWrite
    record: RecordWrite
    take_back: Sequence[int]
    lots: Sequence[LotWrite]
    allocations: Sequence[AllocationWrite]
    refresh_buys: Sequence[str]
    refresh_sells: Sequence[str]
    link: LinkWrite
    leg: LegWrite
    grow: GrowWrite
    shrink: ShrinkWrite
    record_status: RecordStatusWrite
    passive_gone: str
    passive: PassiveWrite
    finish: FinishWrite
    entry_final: bool
    exit: ExitWrite
    incidents: Sequence[IncidentWrite]
