"""The ledger's maintenance activities for workflows: names and types, no code. `activities.ledger.validator` implements
it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer
from temporalio import activity

from domain.money import plain

__all__ = ["BalanceCheck", "LedgerReport", "ValidateActivity", "ValidateInput", "Violation"]


# As JSON a text without exponent, which a zero of many places has, too.
Amount = Annotated[Decimal, PlainSerializer(plain, return_type=str, when_used="json-unless-none")]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ValidateInput(_Message):
    """The account whose ledger to check, and why now."""

    account: str
    why: str = "schedule"


class Violation(_Message):
    """A violated rule. `subject` is an order, a trade, a fill or a currency."""

    check: str
    subject: str
    sentence: str
    symbol: str | None = None


class BalanceCheck(_Message):
    """One currency, in that currency: the account's holdings by the books, and the exchange's balance.

    `books` = fills + `transferred`. For a base currency `books` = `in_lots` - `uncovered` + `transferred`, and
    `in_trades` + `unowned` = `books`. `exchange` and `difference` are None if the exchange was not asked.
    """

    currency: str
    books: Amount
    transferred: Amount
    in_lots: Amount
    uncovered: Amount
    in_trades: Amount
    unowned: Amount
    exchange: Amount | None = None
    difference: Amount | None = None


class LedgerReport(_Message):
    """One check of the ledger. It changed nothing."""

    account: str
    at: datetime
    why: str
    ok: bool
    seconds: float
    symbols: int = 0
    fills: int = 0
    allocations: int = 0
    trades: int = 0
    uncovered_sells: int = 0
    """Sells with an uncovered remainder: listed, but not a violation."""
    counts: dict[str, int] = {}
    """All violations, by check."""
    violations: tuple[Violation, ...] = ()
    """The first of them; `counts` has all."""
    warnings: tuple[str, ...] = ()
    """Remarks for a person, one sentence each; they are not violations, so there is no incident."""
    balances: tuple[BalanceCheck, ...] = ()
    compared: str = ""
    """The result of comparing with the exchange, in a sentence."""


class ValidateActivity(ABC):
    """Checks the ledger's consistency and compares it with the exchange."""

    @activity.defn(name="validate_ledger")
    @abstractmethod
    async def validate_ledger(self, request: ValidateInput) -> LedgerReport:
        """Check, store the result, raise or resolve its incident. Changes no book. Raises the database's errors."""
