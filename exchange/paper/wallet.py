"""The account's balances: total and hold per currency; available = total - hold and never below zero."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from exchange.paper.errors import Refusal
from exchange.paper.numbers import ZERO

__all__ = ["Wallet", "WalletBalance"]


@dataclass(slots=True)
class WalletBalance:
    """One currency: `total` includes `hold`. Both in that currency, exact."""

    currency: str
    total: Decimal
    hold: Decimal = ZERO
    deposited: Decimal = ZERO
    account_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def available(self) -> Decimal:
        """What new orders may use."""
        return self.total - self.hold


class Wallet:
    """All balances of the one account of the paper exchange."""

    def __init__(self, start: Mapping[str, Decimal]) -> None:
        self._balances = {name: WalletBalance(name, amount, deposited=amount) for name, amount in start.items()}

    def __getitem__(self, currency: str) -> WalletBalance:
        balance = self._balances.get(currency)
        if balance is None:
            balance = self._balances[currency] = WalletBalance(currency, ZERO)
        return balance

    def all(self) -> list[WalletBalance]:
        """Every balance, in the order in which the currencies appeared."""
        return list(self._balances.values())

    def restore(self, balances: Iterable[WalletBalance]) -> None:
        """Replace all balances by stored ones."""
        self._balances = {balance.currency: balance for balance in balances}

    def deposit(self, currency: str, amount: Decimal) -> None:
        """Add money from outside; negative takes it out. Raises `Refusal` if more is requested than is available."""
        balance = self[currency]
        if amount < 0 and balance.available + amount < 0:
            raise Refusal("INSUFFICIENT_FUND", f"Only {balance.available} {currency} is available to withdraw.")
        balance.total += amount
        balance.deposited += amount
