"""Whose coins are nobody's: what a sell may take without naming a trade, and a buy may pay with (RISK-4). Pure.

A coin is one, whatever it is traded for: BTC-USD and BTC-USDC sell the same BTC. What no trade owns is what the books
know to be nobody's, never more: a fill that is not recorded yet belongs to its order, although the exchange's balance
has it already. The exchange's balance can only make it less: coins that left and are not booked yet are gone. (Only
where a fill that isn't recorded yet makes up for just these, neither side shows it.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from domain.money import ZERO, plain

__all__ = ["Coin", "TradeLeft", "Unowned", "payable", "sold_from", "unowned"]


@dataclass(frozen=True, slots=True)
class Coin:
    """What the books say of one coin at one moment, over all its products. Sizes in base currency.

    The last three are told because the exchange's balance is a little older than the books: what is `owned` and in
    sells that rested at the exchange when it was asked, which its available balance leaves out already, and what was
    claimed and reserved since then, which it can't know of.
    """

    books: Decimal | None
    """Fills and transfers added up; None before the books are opened."""
    owned: Decimal = ZERO
    """What open trades have left."""
    claimed: Decimal = ZERO
    """What sells of the pool that have not ended may still sell, somebody else's too."""
    reserved: Decimal = ZERO
    """What buys that pay with it (BTC for ETH-BTC) may still spend, somebody else's too."""
    owned_resting: Decimal = ZERO
    claimed_since: Decimal = ZERO
    reserved_since: Decimal = ZERO

    @property
    def left(self) -> Decimal | None:
        """What is nobody's by the books; below zero where trades lack some, None where nobody knows."""
        return None if self.books is None else self.books - self.owned - self.claimed - self.reserved


@dataclass(frozen=True, slots=True)
class Unowned:
    """What may be taken of the pool; None: nobody knows. `why` is a clause for a person, where there is more to say."""

    size: Decimal | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class TradeLeft:
    """An open trade, and what no sell of it has claimed, in base currency."""

    entry_key: str
    free: Decimal


def sold_from(oldest_first: Iterable[TradeLeft], size: Decimal) -> str | None:
    """Which trade a sell of `size` (base) is of that names none: the oldest that has all of it free, never parts of
    several. None: it is of what no trade owns.
    """
    return next((trade.entry_key for trade in oldest_first if trade.free >= size), None)


def unowned(coin: Coin, free: Decimal | None, name: str) -> Unowned:
    """What a sell may claim of the pool, never below zero.

    `free` is what the exchange says is available of the coin, None if it doesn't tell; `name` is the coin's.
    """
    if free is None:
        return _of_both(coin, None, name)
    by_exchange = free - max(coin.owned - coin.owned_resting, ZERO) - coin.claimed_since - coin.reserved_since
    return _of_both(coin, by_exchange, name)


def payable(coin: Coin, available: Decimal | None, name: str) -> Unowned:
    """What a buy may pay with a coin that trades can own, never below zero.

    `available` is what is left by the exchange's balance when trades, claims and reservations have theirs; None: not
    known. A fill that isn't recorded yet is in it, and belongs to its order all the same.
    """
    return _of_both(coin, available, name)


def _of_both(coin: Coin, by_exchange: Decimal | None, name: str) -> Unowned:
    by_books = coin.left
    if by_books is None:
        return Unowned(None, "the books are not opened yet, which `bottrader reconcile` does")
    if by_exchange is None:
        return Unowned(None, f"the exchange doesn't tell its balance of {name}")
    size = max(min(by_books, by_exchange), ZERO)
    more = by_exchange - size
    if by_books < by_exchange and more > ZERO:
        return Unowned(size, f"{plain(more)} {name} more, not in the books yet, need `bottrader reconcile` first")
    return Unowned(size)
