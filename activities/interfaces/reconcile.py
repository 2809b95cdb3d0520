"""Reconcile as workflows see it: names and types, no code. `activities.reconcile.run` implements it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel, ConfigDict
from temporalio import activity

__all__ = ["FindingRow", "ReconcileActivity", "ReconcileInput", "ReconcileReport", "TakenRow", "TransferRow"]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ReconcileInput(_Message):
    """What to compare, and why now."""

    account: str
    dry_run: bool = False
    """Only say what would be done."""
    why: str = "schedule"
    look_back_seconds: float | None = None
    """Look at least this far back (wall seconds), whatever is known to be level already."""


class FindingRow(_Message):
    """A difference and what was (or, in a dry run, would be) done about it."""

    difference: str
    action: str
    subject: str
    """The exchange's order id, or ours."""
    symbol: str
    sentence: str
    order_key: str | None = None
    status_source: str | None = None


class TransferRow(_Message):
    """What no fill explains, by currency; amounts in that currency, below zero: it left."""

    currency: str
    kind: str
    amount: Decimal


class TakenRow(_Message):
    """What was sold or withdrawn outside and taken from a trade, in base currency."""

    entry_key: str
    size: Decimal
    left: Decimal


class ReconcileReport(_Message):
    """One run. Times in UTC; counts of orders and executions that the exchange showed."""

    account: str
    dry_run: bool
    why: str
    asked_at: datetime
    since: datetime
    seconds: float = 0.0
    orders: int = 0
    open_orders: int = 0
    executions: int = 0
    counts: dict[str, int] = {}
    """Findings by difference, all of them."""
    findings: tuple[FindingRow, ...] = ()
    """The first of them; `counts` has all."""
    recorded: int = 0
    """Facts that were stored and routed."""
    settled: int = 0
    """Orders whose derived fills the exchange's executions replaced."""
    unreadable: int = 0
    """Rows of the exchange's lists that can't be understood: kept as incidents."""
    transfers: tuple[TransferRow, ...] = ()
    taken: tuple[TakenRow, ...] = ()
    balances: str = ""
    """What came of comparing balances, in a sentence."""


class ReconcileActivity(ABC):
    """The journal and the exchange's records, brought level."""

    @activity.defn(name="reconcile")
    @abstractmethod
    async def reconcile(self, request: ReconcileInput) -> ReconcileReport:
        """Compare and, unless it is a dry run, do what is to be done. May be repeated: level things stay as they are.

        Raises the exchange's and the database's errors; what was done before stays done.
        """
