"""Compares balances with the books: differences that no fill explains, and which trades bear an account's shortage
(INGEST-5).

Pure: the exchange's balances and the books' totals are passed in, both from a moment without trading.
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
    """Why a balance differs from the sum of our fills."""

    OPENING = "opening"
    """The balance when the books were opened."""
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    ROUNDING = "rounding"
    """Less than a millionth of a unit: a difference in rounding between the exchange and us."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """An amount of a currency that no fill explains; negative for an outflow."""

    currency: str
    kind: TransferKind
    amount: Decimal
    expected: Decimal
    found: Decimal


_ROUNDING = Decimal("0.000001")


def transfers(expected: Mapping[str, Decimal], found: Mapping[str, Decimal], *, opened: bool) -> list[Transfer]:
    """The differences between the books and the exchange's balances, by currency, each with its kind.

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

    `adopted`: opened by an external buy. `bought` lists time and size of each entry fill.
    """

    entry_key: str
    opened_at: datetime
    remaining: Decimal
    claimed: Decimal = ZERO
    adopted: bool = False
    bought: tuple[tuple[datetime, Decimal], ...] = ()

    def bought_after(self, moment: datetime) -> Decimal:
        """The size bought after this time."""
        return sum((size for at, size in self.bought if at > moment), ZERO)


@dataclass(frozen=True, slots=True)
class Taken:
    """The size that an external sell or a withdrawal took from a trade, and the trade's remainder."""

    entry_key: str
    size: Decimal
    left: Decimal


def shortage(trades: Iterable[OpenQuantity], pool: Decimal, available: Decimal) -> Decimal:
    """How much of a base currency open trades have to bear (INGEST-5), never below zero.

    `pool` is what the books hold beyond the open trades; `available` is the exchange's available balance, which
    excludes size held by exit orders. Both must show the shortage. A negative pool alone may mean a buy or deposit that
    is not booked yet; a low available balance alone may mean an exit that has just filled.
    """
    free = sum((max(item.remaining - item.claimed, ZERO) for item in trades), ZERO)
    return max(min(-pool, free - available), ZERO)


def take_from_trades(trades: Iterable[OpenQuantity], short: Decimal) -> list[Taken]:
    """Which trades bear the account's shortage: those opened by external buys first, then ours, each oldest first.

    Each bears at most what its exit orders have not claimed: size held by those at the exchange can't have been sold by
    anyone else.
    """
    taken = []
    for trade in sorted(trades, key=lambda item: (not item.adopted, item.opened_at, item.entry_key)):
        size = min(max(trade.remaining - trade.claimed, ZERO), short)
        if size > 0:
            taken.append(Taken(trade.entry_key, size, trade.remaining - size))
            short -= size
    return taken
