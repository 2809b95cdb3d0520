"""The rows of the API's lists, field by field (docs/api.md)."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from web.api.plain import Number

__all__ = [
    "ActionRow",
    "AuditRow",
    "AuditSource",
    "EventRow",
    "OrderKind",
    "OrderRow",
    "Page",
    "Severity",
    "Side",
    "TelegramState",
    "TradeRow",
]

Row = TypeVar("Row")
Side = Literal["BUY", "SELL"]
OrderKind = Literal["entry", "exit", "protection", "quote", "external"]
Severity = Literal["INFO", "WARNING", "CRITICAL"]
AuditSource = Literal["order", "signal", "incident", "command", "setting"]


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True)


class Page(_Shown, Generic[Row]):
    """A page of a list."""

    items: list[Row]
    next_cursor: str | None = Field(description="where the next page begins; null: this is the last one")


class OrderRow(_Shown):
    """An order. Sizes in base, prices in quote per base, fees in quote currency."""

    order_key: str
    workflow_id: str
    symbol: str
    side: Side
    role: str = Field(description="ENTRY, EXIT or EXTERNAL")
    kind: OrderKind
    protection_role: str | None = Field(description="PRIMARY, TAKE_PROFIT, STOP_LOSS or OCO of one that protects")
    order_type: str
    post_only: bool
    time_in_force: str | None
    state: str = Field(description="as the ledger has it; UNKNOWN: it was sent, and what became of it is asked")
    public_state: str = Field(description="NEW, ACTIVE or PARTIALLY_FILLED while open; else how it ended")
    gate: str | None = Field(description="the gate that refused it")
    sentence: str | None = Field(description="why it was refused or ended, in a sentence")
    refusal: str | None = Field(description="the venue's code where it refused")
    refusal_text: str | None
    base_size: Number | None
    quote_size: Number | None
    limit_price: Number | None
    filled_size: Number
    filled_fraction: Number | None
    average_price: Number | None
    fees: Number
    bid: Number | None = Field(description="the price that is kept, as of price_at")
    ask: Number | None
    price_at: datetime | None
    distance_to_touch: Number | None = Field(
        description="of an open limit order, how far behind its side's best price, a fraction of that"
    )
    trigger: str
    source: str
    entry_point: str
    exit_reason: str | None
    entry_key: str | None = Field(description="the trade")
    trade_state: str | None
    snapshot_id: str | None
    buy_score: Number | None
    sell_score: Number | None
    attempts: int
    status_source: str | None = Field(description="how its end was learned")
    achieved_net: Number | None = Field(description="of an exit: the result after fees, a fraction of the entry price")
    slippage: Number | None = Field(description="of an exit, quote per base: beyond the price that made it due")
    received_at: datetime
    placed_at: datetime | None
    first_fill_at: datetime | None
    last_fill_at: datetime | None
    finished_at: datetime | None
    ended_at: datetime | None = Field(description="by which executed orders are sorted")


class TradeRow(_Shown):
    """A trade. Sizes in base, prices in quote per base, money in `currency`."""

    entry_key: str
    workflow_id: str
    exit_workflow_id: str
    symbol: str
    currency: str
    state: str = Field(description="OPENING, PROTECTED, CLOSING or CLOSED")
    entry_state: str
    entry_final: bool = Field(description="whether nothing more of its entry will fill")
    watched: bool | None = Field(description="whether somebody watches its price now; null for a closed one")
    protections: int = Field(description="orders that rest at the exchange to protect it")
    unprotected_seconds: Number
    entry_size: Number
    entry_price: Number | None
    remaining: Number
    hard_stop: Number | None
    soft_stop: Number | None
    trailing_arms_at: Number | None
    trailing_peak: Number | None
    trailing_stop: Number | None
    take_profit: Number | None
    nearest_stop: Number | None
    stop_distance: Number | None = Field(description="from the bid down to the nearest stop, a fraction of the bid")
    at_risk: Number | None = Field(
        description="what is lost from the bid if it sells at the nearest stop, before fees; 0 once that is due"
    )
    bid: Number | None = Field(description="the price that is kept, as of price_at")
    price_at: datetime | None
    unrealised_pnl: Number | None = Field(description="at the bid, after the fees so far")
    would_gain_fraction: Number | None
    exit_size: Number
    exit_price: Number | None
    exit_reason: str | None
    exits: int
    pnl: Number | None = Field(description="of what was sold, after fees; null while nothing was")
    result_fraction: Number | None = Field(description="of a closed one: pnl to what was paid")
    unit_of_risk: Number | None = Field(description="from the entry price to the first hard stop, before fees")
    result_in_risk: Number | None = Field(description="of a closed one: pnl in units of risk")
    slippage: Number | None = Field(description="of its exits: beyond the prices that made them due; null: none known")
    fees: Number
    dust_size: Number
    dust_why: str | None
    external_size: Number = Field(description="taken by sells that were not ours")
    trigger: str
    source: str
    entry_point: str
    buy_score: Number | None
    sell_score: Number | None
    snapshot_id: str | None
    opened_at: datetime
    closed_at: datetime | None


TelegramState = Literal["sent", "waits", "off"]


class EventRow(_Shown):
    """An event that people are notified of, whether a message was sent or not."""

    id: int
    at: datetime
    severity: Severity
    kind: str
    subject: str | None = Field(description="an order's key, a symbol, a stream")
    sentence: str
    resolved_at: datetime | None = Field(description="null while it lasts")
    symbol: str | None = Field(description="of an order that it is about")
    side: Side | None
    role: str | None
    messages: int = Field(description="that were sent of it")
    targets: int = Field(description="to how many they went")
    told_at: datetime | None
    telegram: TelegramState | None = Field(
        None,
        description="sent: every chat was told; waits: one was not yet; off: it is not for them; null: no chats",
    )


class AuditRow(_Shown):
    """Something that happened: an order and its end, a signal, an incident, a command, a setting."""

    id: str
    at: datetime
    about: AuditSource
    event: str = Field(
        description="such as ORDER_PLACED, ORDER_REFUSED, SLTP_FAILED, COMMAND_CLOSE; an incident's kind"
    )
    severity: Severity | None = Field(description="of an incident")
    symbol: str | None
    subject: str | None = Field(description="of an incident: an order's key, a symbol, a stream")
    side: Side | None
    role: str | None
    order_key: str | None
    trade_key: str | None
    price: Number | None = Field(description="average of what filled, else the limit; quote per base")
    size: Number | None = Field(description="filled, else asked for; base")
    quote_size: Number | None
    gate: str | None
    sentence: str
    numbers: str | None = Field(description="what the gate compared")
    status_source: str | None = Field(description="how an order's end was learned")
    by: str | None
    incident: int | None = Field(description="its number, to resolve it")
    resolved_at: datetime | None
    messages: int = Field(description="that were sent of it")
    targets: int = Field(description="to how many they went")


class ActionRow(_Shown):
    """An action requested by the API."""

    at: datetime
    by: str = Field(description="who asked: the user, such as `ana (API)`, or program, `grafana (API token)`")
    kind: str = Field(description="cancel, close, stops, flatten, halt, resume or resolve")
    subject: str | None = Field(description="the order's or trade's key, or the incident's number; null: the account")
    symbol: str | None = Field(description="of the order or trade")
    note: str | None
    status: int | None = Field(description="of the answer; null: there is none yet")
    accepted: bool | None = Field(description="null: there is no answer yet")
    code: str | None = Field(description="of a refusal")
    sentence: str | None = Field(description="what was answered")
    answered_at: datetime | None
