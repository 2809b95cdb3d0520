"""Balances against the books: what no fill explains, and which trades bear what an account is short of (INGEST-5).

Pure: what the exchange holds and what the books add up to are given, of a moment in which nothing traded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from domain.money import ZERO

__all__ = ["OpenQuantity", "Taken", "Transfer", "TransferKind", "shortage", "take_from_trades", "transfers"]


class TransferKind(StrEnum):
    """Why a balance differs from what our fills add up to."""

    OPENING = "opening"
    """What was there when the books were opened."""
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    ROUNDING = "rounding"
    """Less than a millionth of a unit: the exchange rounds where we don't."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """An amount of a currency (below zero: it left) that no fill explains."""

    currency: str
    kind: TransferKind
    amount: Decimal
    expected: Decimal
    found: Decimal


_ROUNDING = Decimal("0.000001")


def transfers(expected: Mapping[str, Decimal], found: Mapping[str, Decimal], *, opened: bool) -> list[Transfer]:
    """The named differences between what the books add up to and what the exchange holds, by currency.

    Both views must be of a moment in which nothing traded. Before the books are `opened`, every currency that the
    exchange lists gets its opening row, whatever its amount.
    """
    result = []
    for currency in sorted({*expected, *found}):
        should, have = expected.get(currency, ZERO), found.get(currency, ZERO)
        amount = have - should
        if not opened:
            if currency in found or amount:
                result.append(Transfer(currency, TransferKind.OPENING, amount, should, have))
        elif amount:
            large = TransferKind.DEPOSIT if amount > 0 else TransferKind.WITHDRAWAL
            kind = TransferKind.ROUNDING if abs(amount) < _ROUNDING else large
            result.append(Transfer(currency, kind, amount, should, have))
    return result


@dataclass(frozen=True, slots=True)
class OpenQuantity:
    """An open trade's base quantity; `claimed` of it is in exit orders that have not ended.

    `adopted`: a buy of somebody else's opened it. `bought` is when and how much of it was bought, fill by fill.
    """

    entry_key: str
    opened_at: datetime
    remaining: Decimal
    claimed: Decimal = ZERO
    adopted: bool = False
    bought: tuple[tuple[datetime, Decimal], ...] = ()

    def bought_after(self, moment: datetime) -> Decimal:
        """What of it was bought later than this."""
        return sum((size for at, size in self.bought if at > moment), ZERO)


@dataclass(frozen=True, slots=True)
class Taken:
    """What an external sell or a withdrawal took from a trade, and what the trade has left."""

    entry_key: str
    size: Decimal
    left: Decimal


def shortage(trades: Iterable[OpenQuantity], pool: Decimal, available: Decimal) -> Decimal:
    """How much of a base currency open trades have to bear (INGEST-5), never below zero.

    `pool` is what the books leave to nobody when trades have theirs; `available` is what the exchange says can be
    sold, which leaves out what exit orders hold. Both must say so. Below zero alone the pool may only lack a buy or a
    deposit that is not booked yet; too little available alone may be an exit that has just been filled.
    """
    free = sum((max(item.remaining - item.claimed, ZERO) for item in trades), ZERO)
    return max(min(-pool, free - available), ZERO)


def take_from_trades(trades: Iterable[OpenQuantity], short: Decimal) -> list[Taken]:
    """Who bears what the account is short of: trades of somebody else's buys first, then ours, the oldest first.

    Each bears what its exit orders have not claimed: what those hold at the exchange can't have been sold by somebody
    else.
    """
    taken = []
    for trade in sorted(trades, key=lambda item: (not item.adopted, item.opened_at, item.entry_key)):
        size = min(max(trade.remaining - trade.claimed, ZERO), short)
        if size > 0:
            taken.append(Taken(trade.entry_key, size, trade.remaining - size))
            short -= size
    return taken
