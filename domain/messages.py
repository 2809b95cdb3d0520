"""Messages between workflows, activities and people: intents, admissions, updates, outcomes.

Everything here crosses a process boundary as JSON, so it is a frozen pydantic model with exact Decimals (as strings)
and zoned times. Fields are only ever added with a default, so that an old history still replays.

Long on purpose: these are all the forms in saved histories; whoever changes one sees the others, as a field that is
renamed can't be read from a history any more.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from domain.exits import ExitReason, ExitRules
from domain.obstacles import Obstacle
from domain.orders import AttemptStatus, EntryPoint, OrderRole, OrderState, OrderType, Side, TimeInForce, TradeState
from domain.protection import Protection, ProtectionRole

__all__ = [
    "Admission",
    "AttemptPlan",
    "AttemptView",
    "CloseAnswer",
    "CloseRequest",
    "EntryNews",
    "ExitDue",
    "ExitLeg",
    "ExternalOrder",
    "GateView",
    "IndicatorPart",
    "Linkage",
    "MonitorStart",
    "ObstacleGone",
    "OrderDecision",
    "OrderIntent",
    "OrderOutcome",
    "OrderUpdate",
    "PlaceAnswer",
    "PlaceVerdict",
    "PositionView",
    "ProtectionView",
    "RecordResult",
    "ResolveAnswer",
    "ResolveVerdict",
    "StatusSource",
    "StopsAnswer",
    "StopsRequest",
    "TradeOutcome",
]


class Message(BaseModel):
    """Frozen; unknown fields are ignored, so that newer senders work with older workers."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StatusSource(StrEnum):
    """Where a report about an order came from (INGEST-3)."""

    WEBSOCKET = "websocket"
    OPEN_ORDERS = "open_orders"
    ORDER_HISTORY = "order_history"
    TRADE_HISTORY = "trade_history"
    CANCEL_RESPONSE = "cancel_response"
    SUBMIT_RESPONSE = "submit_response"


class IndicatorPart(Message):
    """One indicator's part in a score."""

    value: Decimal | None = None
    fired: bool = False
    weight: Decimal = Decimal(0)
    contribution: Decimal = Decimal(0)


class Linkage(Message):
    """The decision behind an order (LINK-2)."""

    trigger: str
    snapshot_id: str | None = None
    buy_score: Decimal | None = None
    sell_score: Decimal | None = None
    indicator_breakdown: dict[str, IndicatorPart] = Field(default_factory=dict)
    indicators_fired: tuple[str, ...] = ()


class OrderIntent(Message):
    """One intent to buy or sell. Exactly one of `base_size` and `quote_size` is given (quote only for MARKET buys).

    `order_key` is derived by `domain.ids.intent_key` from the intent, never random at send time.
    """

    order_key: str
    account: str
    symbol: str
    side: Side
    role: OrderRole
    order_type: OrderType
    base_size: Decimal | None = None
    quote_size: Decimal | None = None
    limit_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    expires_after: Decimal | None = Field(default=None, description="market seconds; an unfilled entry is cancelled")
    valid_until: datetime | None = Field(default=None, description="too old to be sent after this")
    source: str
    entry_point: str = Field(description="an `EntryPoint`, or another program's own name")
    request_id: str
    linkage: Linkage
    rules: ExitRules = ExitRules()
    entry_key: str | None = Field(default=None, description="exits and claims: the trade that is sold")
    exit_reason: ExitReason | None = None
    trigger_price: Decimal | None = Field(default=None, description="exits: the bid that made it due")
    due_at: datetime | None = None
    trailing: dict[str, Any] | None = None
    dry_run: bool = False
    asked_by: str = ""
    command: str = Field(default="", description="exits of a close: the id of its command in the ledger")
    protection: Protection | None = Field(default=None, description="entries: the protection to rest at the exchange")
    protection_role: ProtectionRole | None = Field(default=None, description="orders that protect a trade")
    stop_price: Decimal | None = Field(default=None, description="orders that protect a trade: where they trigger")
    signal_exit: bool = Field(
        default=False, description="entries by a person: a sell signal may close the trade, if the rules say so"
    )
    leg: int = Field(default=0, description="exits of a monitor: their number in the trade, from 1")
    past_quotes: bool = Field(default=False, description="sells: no longer waits for the market maker's quotes")
    run: str = Field(default="", description="stored: the run of its workflow that requested the decision")

    @property
    def by_hand(self) -> bool:
        """A person placed it with a command of their own: not a strategy, an alert, a market maker or a monitor."""
        return self.entry_point == EntryPoint.MANUAL

    @property
    def by_market_maker(self) -> bool:
        """It is a quote: a bid that enters, or an ask that exits."""
        return self.entry_point == EntryPoint.MARKET_MAKER

    @property
    def by_monitor(self) -> bool:
        """It is an exit that a trade's own monitor began."""
        return self.entry_point == EntryPoint.EXIT

    @model_validator(mode="after")
    def _entries_buy(self) -> OrderIntent:
        if self.role is OrderRole.ENTRY and self.side is not Side.BUY:
            raise ValueError("an entry buys; a sell has the role EXIT, of a trade or of the pool that no trade owns")
        return self


class AttemptPlan(Message):
    """An attempt whose row is committed: exactly what `place` sends."""

    number: int
    client_order_id: str
    body: dict[str, Any]
    size: Decimal | None = None
    limit_price: Decimal | None = None


class AttemptView(Message):
    """An attempt as recorded in the journal."""

    number: int
    status: AttemptStatus
    live: bool = True
    exchange_order_id: str | None = None
    filled_size: Decimal = Decimal(0)
    cancel_asked: bool = Field(default=False, description="the exchange accepted our cancel")


class GateView(Message):
    """A gate's result, with the values it compared."""

    gate: str
    passed: bool
    sentence: str = ""
    numbers: dict[str, str] = Field(default_factory=dict)


class CloseRequest(Message):
    """A person's request to close or cancel. `request_id` makes it idempotent.

    `by` is the requester's name from the message; it counts as verified if the ledger has the `command`
    (`domain.commands`). People type the message by hand: an unknown field is kept, so that it can be refused by its
    name.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    request_id: str = ""
    by: str = ""
    note: str = ""
    command: str = ""
    own: bool = Field(
        default=False, description="from another workflow of ours, which handles it: not a person's request"
    )

    @property
    def not_understood(self) -> tuple[str, ...]:
        """Unknown fields that have a value; an empty field of a later version does not count."""
        return tuple(
            name for name, value in (self.model_extra or {}).items() if not (value is None or value in ("", [], {}))
        )


class Admission(Message):
    """The stored decision on an intent; the same intent again gets the same one."""

    accepted: bool
    state: OrderState
    gate: str | None = None
    sentence: str = ""
    attempts: tuple[AttemptView, ...] = ()
    plan: AttemptPlan | None = Field(default=None, description="the first attempt, ready to be sent")
    size: Decimal | None = Field(default=None, description="base size admitted, after rounding")
    filled_size: Decimal = Decimal(0)
    filled_value: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    finished: bool = False
    trade_state: TradeState | None = None
    repeated_id_returns_first: bool = True
    late_acceptance_seconds: int = 150
    market_speed: Decimal = Field(default=Decimal(1), description="market seconds per wall second")
    max_post_only_attempts: int = 3
    post_only_backoff_seconds: Decimal = Field(default=Decimal("0.2"), description="wall seconds, before the second")
    gates: tuple[GateView, ...] = Field(default=(), description="of a refusal: every gate that ran")
    stored: bool = Field(default=False, description="it had already been decided")
    own: bool = Field(default=False, description="decided by this same run of its workflow, whose task was lost")
    close: CloseRequest | None = Field(default=None, description="a close that was accepted before and isn't done")
    cancel: CloseRequest | None = Field(default=None, description="a cancel that was accepted before and isn't done")
    quotes_rest: bool = Field(default=False, description="not decided: the market maker's quotes must leave first")


class PlaceVerdict(StrEnum):
    """The result of sending an attempt."""

    ACCEPTED = "ACCEPTED"
    REFUSED = "REFUSED"
    NOT_ACCEPTED = "NOT_ACCEPTED"
    UNKNOWN = "UNKNOWN"


class PlaceAnswer(Message):
    """The exchange's answer to an attempt."""

    verdict: PlaceVerdict
    exchange_order_id: str | None = None
    code: str = ""
    message: str = ""
    retry_after: float | None = None


class OrderUpdate(Message):
    """An attempt's totals so far, from the stream, REST or a command's answer (sent as a signal)."""

    attempt: int
    status: AttemptStatus
    exchange_order_id: str | None = None
    filled_size: Decimal = Decimal(0)
    filled_value: Decimal = Decimal(0)
    quote_fees: Decimal = Decimal(0)
    base_fees: Decimal = Decimal(0)
    source: StatusSource = StatusSource.WEBSOCKET
    at: datetime
    reason: str = ""
    on_request: bool = Field(default=False, description="cancelled on request: by us, or by a person elsewhere")


class ResolveVerdict(StrEnum):
    """What the exchange's records show for an attempt."""

    FOUND = "FOUND"
    NOT_YET = "NOT_YET"
    ABSENT = "ABSENT"
    """Proven: it is not listed, and a delayed request could no longer be accepted."""


class ResolveAnswer(Message):
    """The outcome of looking an attempt up in the exchange's own records."""

    verdict: ResolveVerdict
    update: OrderUpdate | None = None
    sentence: str = ""


class RecordResult(Message):
    """Where an order stands after a report was recorded."""

    attempt: int
    attempt_status: AttemptStatus
    state: OrderState
    filled_size: Decimal
    filled_value: Decimal
    fees: Decimal
    average_price: Decimal | None = None
    new_fill: bool = False
    first_fill: bool = False
    trade_remaining: Decimal | None = None
    trade_state: TradeState | None = None
    entry_final: bool | None = None
    finished: bool = False
    booked: bool = Field(default=True, description="False: it contradicts what is known, and a person was notified")


class ExternalOrder(Message):
    """An order that the system did not place, as the ledger has it. Sizes in base, money in quote currency."""

    order_key: str
    account: str
    exchange_order_id: str
    symbol: str
    side: Side
    order_type: str = "UNKNOWN"
    base_size: Decimal | None = None
    limit_price: Decimal | None = None
    source: StatusSource
    status: AttemptStatus
    state: OrderState
    filled_size: Decimal = Decimal(0)
    filled_value: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    at: datetime


_FREE = "size that a new order can sell beside what is claimed; 0: at most dust; None: the rules are not known"


class PositionView(Message):
    """A trade's position book row."""

    entry_key: str
    state: TradeState
    remaining: Decimal
    entry_price: Decimal | None = None
    entry_final: bool = False
    dust: bool = Field(default=False, description="below the exchange's minimum")
    dust_why: str = Field(default="", description="the dust in words: size, worth, and the minimum that it misses")
    pending_claims: Decimal = Decimal(0)
    free: Decimal | None = Field(default=None, description=_FREE)
    rules: ExitRules = ExitRules()
    exit_legs: int = 0
    legs: int = Field(default=0, description="the highest number of its monitor's exits, refused ones included")
    working: tuple[str, ...] = Field(default=(), description="order keys of exits of its monitor's that have not ended")
    told: tuple[str, ...] | None = Field(
        default=None, description="those of them of which the exchange has told the final size, if not what it came to"
    )


class ProtectionView(Message):
    """A trade's protection at the exchange, and the prices of a new protective order. Sizes in base."""

    entry_key: str
    remaining: Decimal = Decimal(0)
    sellable: Decimal = Field(
        default=Decimal(0), description="size of the remainder that may rest beside other sells; 0: dust"
    )
    live: OrderIntent | None = Field(default=None, description="the protective order that has not ended")
    live_size: Decimal = Field(default=Decimal(0), description="what that order still sells")
    free: Decimal | None = Field(default=None, description=_FREE)
    available: Decimal | None = Field(
        default=None, description="with prices: what of `sellable` the exchange has for it; None: it doesn't say"
    )
    used: int = Field(default=0, description="protective orders so far")
    outdated: bool = Field(default=False, description="a person has moved the stops since that order was made")
    rules: ExitRules | None = Field(default=None, description="the trade's, if a person has moved its protection")
    stop_price: Decimal | None = None
    limit_price: Decimal | None = None
    sentence: str = ""


class OrderOutcome(Message):
    """An order's end."""

    order_key: str
    symbol: str
    side: Side
    role: OrderRole
    state: OrderState
    gate: str | None = None
    sentence: str = ""
    filled_size: Decimal = Decimal(0)
    filled_value: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)
    average_price: Decimal | None = None
    attempts: int = 0
    at_market: bool = Field(default=False, description="a stop's limits have not filled: it went MARKET")
    refusal: str | None = None
    exit_reason: ExitReason | None = None
    trade_remaining: Decimal | None = None
    entry_final: bool | None = None
    trade: TradeOutcome | None = None
    earlier: bool = Field(
        default=False, description="it had ended before this run of its workflow requested the decision"
    )


class ExitLeg(Message):
    """One exit order of a trade's outcome."""

    order_key: str
    reason: ExitReason
    size: Decimal
    average_price: Decimal | None = None
    fees: Decimal = Decimal(0)
    trigger_price: Decimal | None = None
    slippage: Decimal | None = None
    achieved_gross: Decimal | None = None
    achieved_net: Decimal | None = None


class OrderDecision(Message):
    """The answer to whoever handed in an intent: admitted with ids, or the gate that refused it."""

    order_key: str
    accepted: bool
    state: OrderState
    gate: str | None = None
    sentence: str = ""
    workflow_id: str = ""
    numbers: dict[str, str] = Field(default_factory=dict, description="the values compared by the gate that refused it")


class TradeOutcome(Message):
    """A closed trade: entry, exits, profit and loss in quote currency, and why it ended (LIFE-1)."""

    entry_key: str
    symbol: str
    entry_size: Decimal
    entry_price: Decimal | None
    exit_size: Decimal
    exit_price: Decimal | None
    pnl: Decimal
    fees: Decimal
    exit_reason: ExitReason | None
    exits: tuple[ExitLeg, ...] = ()
    dust_size: Decimal = Decimal(0)
    dust_why: str = ""
    external_size: Decimal = Decimal(0)
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    duration_seconds: float = 0.0


class ExitDue(Message):
    """The price watcher's signal that an exit is due."""

    reason: ExitReason
    price: Decimal
    at: datetime
    trailing: dict[str, Any] | None = None
    sell_score: Decimal | None = None
    snapshot_id: str | None = None
    epoch: int = 0


class MonitorStart(Message):
    """The input of an exit monitor: enough to show a person; the rest is read from the position book."""

    entry_key: str
    account: str
    symbol: str
    source: str = ""
    trigger: str = ""
    snapshot_id: str | None = None
    rules: ExitRules = ExitRules()
    size: Decimal = Decimal(0)
    entry_price: Decimal | None = None
    entry_final: bool = False
    market_speed: Decimal = Decimal(1)
    exit_legs: int = Field(default=0, description="exit orders begun so far, across continue-as-new and restarts")
    resumed: bool = Field(default=False, description="not its first run: it looks at the position book first")
    tell_when_closed: bool = Field(default=False, description="the entry that runs now is not the monitor's parent")
    short: bool = Field(
        default=False, description="the entry ended without filling completely: its position may be dust"
    )
    protection: Protection | None = None
    due: ExitDue | None = Field(default=None, description="the exit that was due at continue-as-new")
    close: CloseRequest | None = Field(default=None, description="a close that was accepted and isn't done")
    failures: int = Field(default=0, description="exits in a row that sold nothing")
    at_market: bool = Field(default=False, description="a stop's limits have not filled: its next exits go MARKET")


class ObstacleGone(Message):
    """What stood in the way of an exit has gone, as far as something else shows."""

    obstacle: Obstacle
    why: str


class EntryNews(Message):
    """The entry's signal to its monitor: it has filled more, or it has ended."""

    size: Decimal
    entry_price: Decimal | None = None
    entry_final: bool = False
    tell_when_closed: bool = Field(default=False, description="it is not the monitor's parent and wants a signal")
    short: bool = Field(default=False, description="it ended without filling completely: its position may be dust")


class StopsRequest(CloseRequest):
    """A person moves an open trade's stops or target. Prices, quote per base; what is not given stays."""

    hard_stop: Decimal | None = None
    soft_stop: Decimal | None = None
    trailing_stop: Decimal | None = Field(default=None, description="raised to here, or armed here")
    trailing_arm: Decimal | None = Field(default=None, description="where trailing arms")
    take_profit: Decimal | None = None
    no_take_profit: bool = Field(default=False, description="remove the target")
    further: bool = Field(default=False, description="also further away from the price than it is")
    sell_now: bool = Field(default=False, description="also where the bid is past it already")


class StopsAnswer(Message):
    """The result of a change of stops: in words, with the trade's new rules."""

    accepted: bool = True
    sentence: str
    rules: ExitRules


class CloseAnswer(Message):
    """The answer to a close."""

    accepted: bool
    sentence: str


OrderOutcome.model_rebuild()
