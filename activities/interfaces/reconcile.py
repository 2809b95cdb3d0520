"""Reconcile for workflows: names and types, no code. `activities.reconcile.run` implements it."""

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
    """What to compare, and the reason for this run."""

    account: str
    dry_run: bool = False
    """Only report what would be done."""
    why: str = "schedule"
    look_back_seconds: float | None = None
    """Check at least this far back (wall seconds), even what is already reconciled."""


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
    """A change that no fill explains, by currency; amounts in that currency, negative for an outflow."""

    currency: str
    kind: str
    amount: Decimal


class TakenRow(_Message):
    """A size sold or withdrawn outside and deducted from a trade, in base currency."""

    entry_key: str
    size: Decimal
    left: Decimal


class ReconcileReport(_Message):
    """One run. Times in UTC; counts of orders and executions in the exchange's records."""

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
    """Rows of the exchange's lists that can't be parsed: recorded as incidents."""
    transfers: tuple[TransferRow, ...] = ()
    taken: tuple[TakenRow, ...] = ()
    balances: str = ""
    """The result of comparing balances, in a sentence."""


class ReconcileActivity(ABC):
    """Corrects differences between the journal and the exchange's records."""

    @activity.defn(name="reconcile")
    @abstractmethod
    async def reconcile(self, request: ReconcileInput) -> ReconcileReport:
        """Compare and, unless it is a dry run, correct the differences. Idempotent: matching records are not changed.

        Raises the exchange's and the database's errors; corrections made before that stay.
        """
