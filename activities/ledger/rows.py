"""Rows of the journal with their types, and as domain values.

`ledger_state` tells what a report depends on as JSON; the forms are here, and a test holds them to its text. In JSON a
row's numbers are Decimal, whole ones too, and its moments are text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypedDict

from activities.database import Record
from domain.orders import AttemptStatus, Report, Totals

__all__ = [
    "AttemptTold",
    "FillTold",
    "LotTold",
    "OrderTold",
    "ReportRow",
    "SoldTradeRow",
    "StateTold",
    "TotalsRow",
    "TradeTold",
    "report_of",
    "totals_of",
]


class TotalsRow(TypedDict):
    """What an order or attempt has filled: size and base fees in base currency, the others in quote currency."""

    filled_size: Decimal
    filled_value: Decimal
    quote_fees: Decimal
    base_fees: Decimal


class ReportRow(TotalsRow):
    """An attempt's status with its totals."""

    status: str


class OrderTold(TotalsRow):
    """The order of a report."""

    order_key: str
    symbol: str
    side: str
    role: str
    entry_key: str | None
    order_type: str
    exit_reason: str | None
    protection_role: str | None
    finished: bool
    state: str
    limit_price: Decimal | None
    trigger_price: str | None
    due_at: str | None


class AttemptTold(ReportRow):
    """One of its attempts; `settled` is the size that it had when it was settled by the exchange's own fills."""

    number: Decimal
    client_order_id: str
    live: bool
    exchange_order_id: str | None
    size: Decimal | None
    limit_price: Decimal | None
    settled: Decimal | None


class TradeTold(TypedDict):
    """Its trade before the report; `rules` are JSON and told for an exit only."""

    remaining: Decimal
    state: str
    entry_final: bool
    bought_size: Decimal
    bought_value: Decimal
    bought_quote_fees: Decimal
    rules: str | None


class FillTold(TypedDict):
    """A fill of the order's symbol, for the FIFO book."""

    id: Decimal
    order: str
    size: Decimal
    value: Decimal
    quote_fees: Decimal
    base_fees: Decimal
    at: str


class LotTold(FillTold):
    """A buy with what is left of it (base), and what the sells after the report's fill would give back to it."""

    left: Decimal
    freed: Decimal


class StateTold(TypedDict):
    """All that `ledger_state` tells."""

    order: OrderTold
    attempts: Sequence[AttemptTold]
    trade: TradeTold | None
    sells: Sequence[FillTold]
    lots: Sequence[LotTold]
    cut: bool


class SoldTradeRow(TypedDict):
    """What of a trade says how an exit did: what it bought, and its exit rules."""

    bought_size: Decimal
    bought_value: Decimal
    bought_quote_fees: Decimal
    rules: Mapping[str, object]


def totals_of(row: TotalsRow | Record) -> Totals:
    """An order's or attempt's totals."""
    return Totals(row["filled_size"], row["filled_value"], row["quote_fees"], row["base_fees"])


def report_of(row: ReportRow) -> Report:
    """An attempt's report."""
    return Report(AttemptStatus(row["status"]), totals_of(row))
