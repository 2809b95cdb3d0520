"""The market maker's activities as workflows see them: names and types, no code.

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
    """Whose quotes, and the task queue of the orders' workflows."""

    account: str
    orders_queue: str = "orders"


class PlanQuotes(_Message):
    """Look at the markets and decide; `again`: after this round's cancels."""

    account: str
    snapshot_id: str
    at: datetime
    again: bool = False


class QuotedSymbol(_Message):
    """What a round decided on one symbol, for a person: codes of `domain.quoting.QuoteCode`, with sentences."""

    symbol: str
    bid: str
    bid_sentence: str
    ask: str
    ask_sentence: str
    bid_price: Decimal | None = None
    ask_price: Decimal | None = None


class QuoteRoundPlan(_Message):
    """What is to be cancelled first, and what may be placed now."""

    cancel: tuple[str, ...] = ()
    place: tuple[OrderIntent, ...] = ()
    symbols: tuple[QuotedSymbol, ...] = ()


class WithdrawQuotes(_Message):
    """Cancel quotes and wait for their final sizes; `keys` names some, else all of `symbol`, else all."""

    account: str
    symbol: str | None = None
    keys: tuple[str, ...] | None = None
    seconds: float = Field(default=5.0, gt=0, description="wall seconds to wait at most")
    by: str = ""


class WithdrawReport(_Message):
    """Keys of the quotes that have ended, and of those that may still rest."""

    ended: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class SettleQuotes(_Message):
    """Wait until what the round placed is in the ledger."""

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
    """Quotes leave."""

    @activity.defn(name="withdraw_quotes")
    @abstractmethod
    async def withdraw_quotes(self, request: WithdrawQuotes) -> WithdrawReport:
        """Have quotes cancelled and wait for their final sizes, so long at most."""


class QuotingActivities(ABC):
    """What a round of market making has done."""

    @activity.defn(name="plan_quotes")
    @abstractmethod
    async def plan_quotes(self, request: PlanQuotes) -> QuoteRoundPlan:
        """Read markets, inventory and quotes, decide, and store each symbol's reasons."""

    @activity.defn(name="settle_quotes")
    @abstractmethod
    async def settle_quotes(self, request: SettleQuotes) -> QuoteRoundReport:
        """What became of the quotes that were placed, once the ledger knows."""
