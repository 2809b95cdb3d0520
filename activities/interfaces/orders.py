"""The activities of orders and trades as workflows see them: names and types, no code.

Workflows import this module only; `activities.orders.trading` implements it, with what lies beside it.
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
    """Prepare another attempt for what is left of an order."""

    order_key: str
    number: int
    market: bool = False
    """Escalate to MARKET (or its stand-in where the product takes none)."""
    smaller: bool = False
    """The exchange has just refused one for lack of funds: ask for less, if that is worth an order."""
    limit_only: bool = False
    """The exchange has just refused a MARKET attempt as one that the product doesn't take, whatever its rules say."""
    recheck: bool = False
    """Send only if the profit exit still holds on a fresh price."""


class RecordUpdate(_Request):
    """Fold an attempt's totals into the ledger."""

    order_key: str
    symbol: str
    update: OrderUpdate


class LookUp(_Request):
    """Look an attempt up in the exchange's records."""

    order_key: str
    number: int
    resend: bool = False
    """Where the venue answers a repeated id with the first order: send the identical body again."""
    resend_first: bool = False
    """Before anything is looked up: the exit of a due stop waits for no list."""


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
    """Before it was sent somebody wanted it withdrawn: who that was is stored as the ledger knows it."""
    verb: str = "cancelled"


class KeepCommand(_Request):
    """A close of a trade or a cancel of an order was accepted: it holds until it is done, whatever ends meanwhile."""

    subject: str
    """The trade's or the order's key."""
    kind: CommandKind
    request: CloseRequest


class TradeKey(_Request):
    """A trade, by its entry's key."""

    entry_key: str
    reason: ExitReason | None = None
    tell_entry: bool = False
    """Closing: signal the entry's workflow, because it is not the parent that hears of it anyway."""


class RearmTrade(_Request):
    """An exit ended without closing the trade: protect what is left."""

    entry_key: str
    why: str = ""
    critical: bool = False
    keep_exiting: bool = False
    """The exit will be tried again: say so, but leave the plan with the monitor."""


class MoveStops(_Request):
    """A person moves a trade's stops; the same `change_id` again is the same change."""

    entry_key: str
    change_id: str
    request: StopsRequest


class ProtectionRequest(_Request):
    """What protects a trade at the exchange, or should."""

    entry_key: str
    protection: Protection
    prices: bool = False
    """Also where it would be protected anew, which asks the exchange."""


class ProtectionTrouble(_Request):
    """A trade can't be protected at the exchange, or can again."""

    entry_key: str
    symbol: str
    why: str = ""
    over: bool = False
    tries: int = 0
    failsafe: bool = False


class OrderActivities(ABC):
    """What the order and exit workflows can have done."""

    @activity.defn(name="admit")
    @abstractmethod
    async def admit(self, intent: OrderIntent) -> Admission:
        """Gates, reservation, order row and first attempt row in one transaction; the same key again: the same answer.

        Raises ApplicationError `INTENT_CONFLICT` if the key was used for another intent.
        """

    @activity.defn(name="next_attempt")
    @abstractmethod
    async def next_attempt(self, request: NextAttempt) -> AttemptPlan | None:
        """Commit the next attempt's row; None if nothing is left to send or a profit exit no longer holds.

        Raises ApplicationError `ENTRY_STOPPED`, the gate among its details, if an entry may not go on.
        """

    @activity.defn(name="place")
    @abstractmethod
    async def place(self, request: PlaceAttempt) -> PlaceAnswer:
        """One call to the exchange. Never retried by itself: an unknown outcome is the workflow's to resolve."""

    @activity.defn(name="look_up")
    @abstractmethod
    async def look_up(self, request: LookUp) -> ResolveAnswer:
        """What the exchange's own records say of an attempt."""

    @activity.defn(name="cancel")
    @abstractmethod
    async def cancel(self, request: CancelAttempt) -> ResolveAnswer:
        """Ask for a cancel; the answer carries the order's state where the venue's answer told it."""

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
        """Note that a close or cancel was accepted, so that a new workflow of its trade or order goes on with it."""

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
        """Tell people that a trade is not protected at the exchange, once, or that it is again."""

    @activity.defn(name="rearm")
    @abstractmethod
    async def rearm(self, request: RearmTrade) -> PositionView:
        """Back to monitoring: the plan is armed for what is left."""

    @activity.defn(name="move_stops")
    @abstractmethod
    async def move_stops(self, request: MoveStops) -> StopsAnswer:
        """Move a trade's stops or target in its plan, with who did and why.

        Raises ApplicationError `STOPS_REFUSED`, the code of the refusal among its details.
        """

    @activity.defn(name="close_trade")
    @abstractmethod
    async def close_trade(self, request: TradeKey) -> TradeOutcome | None:
        """Complete the linkage, disarm the plan, close the trade; None if something is still to be sold."""
