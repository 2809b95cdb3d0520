"""The market maker's activities for workflows: names and types, no code.

Workflows import this module only; `activities.quotes.rounds` and `activities.quotes.withdrawal` implement it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field
from temporalio import activity

from domain.messages import OrderIntent

__all__ = [
    "PlanQuotes",
    "QuoteRoundInput",
    "QuoteRoundPlan",
    "QuoteRoundReport",
    "QuoteWithdrawalActivity",
    "QuotedSymbol",
    "QuotingActivities",
    "SettleQuotes",
    "WithdrawQuotes",
    "WithdrawReport",
]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class QuoteRoundInput(_Message):
    """The account to quote for, and the task queue of the order workflows."""

    account: str
    orders_queue: str = "orders"


class PlanQuotes(_Message):
    """Read the markets and decide; `again`: after this round's cancels."""

    account: str
    snapshot_id: str
    at: datetime
    again: bool = False


class QuotedSymbol(_Message):
    """A round's decision on one symbol, for a person: codes of `domain.quoting.QuoteCode`, with sentences."""

    symbol: str
    bid: str
    bid_sentence: str
    ask: str
    ask_sentence: str
    bid_price: Decimal | None = None
    ask_price: Decimal | None = None


class QuoteRoundPlan(_Message):
    """The quotes to cancel first, and those that may be placed now."""

    cancel: tuple[str, ...] = ()
    place: tuple[OrderIntent, ...] = ()
    symbols: tuple[QuotedSymbol, ...] = ()


class WithdrawQuotes(_Message):
    """Cancel quotes and wait for their final sizes; `keys` selects some, else all of `symbol`, else all."""

    account: str
    symbol: str | None = None
    keys: tuple[str, ...] | None = None
    seconds: float = Field(default=5.0, gt=0, description="maximum wall seconds to wait")
    by: str = ""


class WithdrawReport(_Message):
    """Keys of the quotes that have ended, and of those that may still rest."""

    ended: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class SettleQuotes(_Message):
    """Wait until the round's orders are in the ledger."""

    account: str
    snapshot_id: str
    keys: tuple[str, ...] = ()


class QuoteRoundReport(_Message):
    """A round's end: order keys that were admitted, and the gate of each that was refused."""

    snapshot_id: str
    admitted: tuple[str, ...] = ()
    refused: dict[str, str] = Field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    cancelled: int = 0
    still_resting: tuple[str, ...] = ()
    symbols: tuple[QuotedSymbol, ...] = ()


class QuoteWithdrawalActivity(ABC):
    """The activity that withdraws quotes."""

    @activity.defn(name="withdraw_quotes")
    @abstractmethod
    async def withdraw_quotes(self, request: WithdrawQuotes) -> WithdrawReport:
        """Cancel quotes and wait for their final sizes, up to the limit."""


class QuotingActivities(ABC):
    """The activities of a round of market making."""

    @activity.defn(name="plan_quotes")
    @abstractmethod
    async def plan_quotes(self, request: PlanQuotes) -> QuoteRoundPlan:
        """Read markets, inventory and quotes, decide, and store each symbol's reasons."""

    @activity.defn(name="settle_quotes")
    @abstractmethod
    async def settle_quotes(self, request: SettleQuotes) -> QuoteRoundReport:
        """The outcome of placed quotes, once it is in the ledger."""
