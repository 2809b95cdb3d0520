"""The activities of orders and trades for workflows: names and types, no code.

Workflows import this module only; `activities.orders.trading` and its neighbours implement it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import BaseModel, ConfigDict
from temporalio import activity

from domain.commands import CommandKind
from domain.exits import ExitReason
from domain.messages import (
    Admission,
    AttemptPlan,
    CloseRequest,
    OrderIntent,
    OrderUpdate,
    PlaceAnswer,
    PositionView,
    ProtectionView,
    RecordResult,
    ResolveAnswer,
    StopsAnswer,
    StopsRequest,
    TradeOutcome,
)
from domain.protection import Protection

__all__ = [
    "CancelAttempt",
    "EndOrder",
    "KeepCommand",
    "LookUp",
    "MoveStops",
    "NextAttempt",
    "OrderActivities",
    "PlaceAttempt",
    "ProtectionRequest",
    "ProtectionTrouble",
    "RearmTrade",
    "RecordUpdate",
    "TradeKey",
]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlaceAttempt(_Request):
    """Send this attempt, once."""

    order_key: str
    symbol: str
    plan: AttemptPlan
    urgent: bool = False


class NextAttempt(_Request):
    """Prepare another attempt for the remainder of an order."""

    order_key: str
    number: int
    market: bool = False
    """Escalate to MARKET (or its replacement if the product accepts none)."""
    smaller: bool = False
    """The exchange has just refused one for lack of funds: ask for less, if that is worth an order."""
    limit_only: bool = False
    """The exchange has just refused a MARKET attempt as one that the product doesn't take, whatever its rules say."""
    recheck: bool = False
    """Send only if the profit exit still holds on a fresh price."""


class RecordUpdate(_Request):
    """Record an attempt's totals in the ledger."""

    order_key: str
    symbol: str
    update: OrderUpdate


class LookUp(_Request):
    """Look an attempt up in the exchange's records."""

    order_key: str
    number: int
    resend: bool = False
    """If the venue answers a repeated id with the first order: send the identical body again."""
    resend_first: bool = False
    """Before any look-up: the exit of a due stop does not wait for lists."""


class CancelAttempt(_Request):
    """Cancel an attempt at the exchange."""

    order_key: str
    number: int
    urgent: bool = False


class EndOrder(_Request):
    """No attempt will follow: release what is reserved or claimed."""

    order_key: str
    symbol: str
    state: str
    refusal: str | None = None
    sentence: str = ""
    wish: CloseRequest | None = None
    """A request to cancel it before it was sent; the ledger's name of the requester is stored."""
    verb: str = "cancelled"


class KeepCommand(_Request):
    """A close of a trade or a cancel of an order was accepted: it stays in force until it is done, even if workflows
    end meanwhile."""

    subject: str
    """The trade's or the order's key."""
    kind: CommandKind
    request: CloseRequest


class TradeKey(_Request):
    """A trade, by its entry's key."""

    entry_key: str
    reason: ExitReason | None = None
    tell_entry: bool = False
    """Closing: signal the entry's workflow, because it is not the parent, which is notified anyway."""


class RearmTrade(_Request):
    """An exit ended without closing the trade: protect the remainder."""

    entry_key: str
    why: str = ""
    critical: bool = False
    keep_exiting: bool = False
    """The exit will be tried again: record that, but leave the plan with the monitor."""


class MoveStops(_Request):
    """A person moves a trade's stops; the same `change_id` again is the same change."""

    entry_key: str
    change_id: str
    request: StopsRequest


class ProtectionRequest(_Request):
    """A trade's actual and intended protection at the exchange."""

    entry_key: str
    protection: Protection
    prices: bool = False
    """Include the prices of a new protective order, which needs a request to the exchange."""


class ProtectionTrouble(_Request):
    """A trade can't be protected at the exchange, or is protected again."""

    entry_key: str
    symbol: str
    why: str = ""
    over: bool = False
    tries: int = 0
    failsafe: bool = False


class OrderActivities(ABC):
    """The activities of the order and exit workflows."""

    @activity.defn(name="admit")
    @abstractmethod
    async def admit(self, intent: OrderIntent) -> Admission:
        """Gates, reservation, order row and first attempt row in one transaction; the same key again: the same answer.

        Raises ApplicationError `INTENT_CONFLICT` if the key was used for another intent.
        """

    @activity.defn(name="next_attempt")
    @abstractmethod
    async def next_attempt(self, request: NextAttempt) -> AttemptPlan | None:
        """Commit the next attempt's row; None if nothing is left to send or a profit exit no longer applies.

        Raises ApplicationError `ENTRY_STOPPED`, the gate among its details, if an entry may not go on.
        """

    @activity.defn(name="place")
    @abstractmethod
    async def place(self, request: PlaceAttempt) -> PlaceAnswer:
        """One call to the exchange. Never retried automatically: the workflow resolves an unknown outcome."""

    @activity.defn(name="look_up")
    @abstractmethod
    async def look_up(self, request: LookUp) -> ResolveAnswer:
        """The exchange's own records of an attempt."""

    @activity.defn(name="cancel")
    @abstractmethod
    async def cancel(self, request: CancelAttempt) -> ResolveAnswer:
        """Request a cancel; the answer contains the order's state if the venue reported it."""

    @activity.defn(name="record")
    @abstractmethod
    async def record(self, request: RecordUpdate) -> RecordResult:
        """One transaction: fill, trade record, linkage, both books, open-order row, exit plan."""

    @activity.defn(name="end_order")
    @abstractmethod
    async def end_order(self, request: EndOrder) -> RecordResult:
        """The order has ended: state, reservation and claim released exactly once."""

    @activity.defn(name="keep_command")
    @abstractmethod
    async def keep_command(self, request: KeepCommand) -> None:
        """Record that a close or cancel was accepted, so that a new workflow of its trade or order carries it out."""

    @activity.defn(name="position")
    @abstractmethod
    async def position(self, request: TradeKey) -> PositionView:
        """A trade's row of the position book."""

    @activity.defn(name="protection")
    @abstractmethod
    async def protection(self, request: ProtectionRequest) -> ProtectionView:
        """What rests at the exchange for a trade, and what should."""

    @activity.defn(name="protection_trouble")
    @abstractmethod
    async def protection_trouble(self, request: ProtectionTrouble) -> None:
        """Report once that a trade is not protected at the exchange, or resolve that."""

    @activity.defn(name="rearm")
    @abstractmethod
    async def rearm(self, request: RearmTrade) -> PositionView:
        """Return to monitoring: the plan is armed for the remainder."""

    @activity.defn(name="move_stops")
    @abstractmethod
    async def move_stops(self, request: MoveStops) -> StopsAnswer:
        """Move a trade's stops or target in its plan, with who did and why.

        Raises ApplicationError `STOPS_REFUSED`, the code of the refusal among its details.
        """

    @activity.defn(name="close_trade")
    @abstractmethod
    async def close_trade(self, request: TradeKey) -> TradeOutcome | None:
        """Complete the linkage, disarm the plan, close the trade; None if there is still something to sell."""
