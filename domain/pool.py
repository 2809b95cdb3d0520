"""The pool of unowned coins: what a sell may take without naming a trade, and what a buy may pay with (RISK-4). Pure.

A coin is the same in every product: BTC-USD and BTC-USDC sell the same BTC. The pool is what the books show as unowned,
never more: an unrecorded fill belongs to its order, although the exchange's balance already includes it. The exchange's
balance can only reduce the pool: coins that left the account are gone even before that is booked. (If an unrecorded
fill exactly offsets such an outflow, neither side shows it.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from domain.money import ZERO, plain

__all__ = ["Coin", "TradeLeft", "Unowned", "payable", "sold_from", "unowned"]


@dataclass(frozen=True, slots=True)
class Coin:
    """The books' view of one coin at one moment, over all its products. Sizes in base currency.

    The last three are needed because the exchange's balance is slightly older than the books: size that is `owned` and
    was in resting sells at the request, which the available balance already excludes, and size claimed and reserved
    since then, which it can't include.
    """

    books: Decimal | None
    """Fills and transfers added up; None before the books are opened."""
    owned: Decimal = ZERO
    """The remainders of open trades."""
    claimed: Decimal = ZERO
    """What open sells of the pool may still sell, external ones included."""
    reserved: Decimal = ZERO
    """What open buys that pay with it (BTC for ETH-BTC) may still spend, external ones included."""
    owned_resting: Decimal = ZERO
    claimed_since: Decimal = ZERO
    reserved_since: Decimal = ZERO

    @property
    def left(self) -> Decimal | None:
        """The unowned size by the books; negative if trades lack some, None if not known."""
        return None if self.books is None else self.books - self.owned - self.claimed - self.reserved


@dataclass(frozen=True, slots=True)
class Unowned:
    """The size that may be taken from the pool; None: not known. `why` is an explaining clause for a person, if there
    is one."""

    size: Decimal | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class TradeLeft:
    """An open trade and its unclaimed size, in base currency."""

    entry_key: str
    free: Decimal


def sold_from(oldest_first: Iterable[TradeLeft], size: Decimal) -> str | None:
    """The trade from which a sell of `size` (base) that names none is taken: the oldest with all of it free, never
    parts of several. None: it is taken from the pool.
    """
    return next((trade.entry_key for trade in oldest_first if trade.free >= size), None)


def unowned(coin: Coin, free: Decimal | None, name: str) -> Unowned:
    """The size a sell may claim from the pool, never below zero.

    `free` is the exchange's available balance of the coin, None if not reported; `name` is the coin's.
    """
    if free is None:
        return _of_both(coin, None, name)
    by_exchange = free - max(coin.owned - coin.owned_resting, ZERO) - coin.claimed_since - coin.reserved_since
    return _of_both(coin, by_exchange, name)


def payable(coin: Coin, available: Decimal | None, name: str) -> Unowned:
    """The amount a buy may pay in a coin that trades can own, never below zero.

    `available` is the exchange's balance less trades, claims and reservations; None: not known. It includes unrecorded
    fills, which belong to their orders.
    """
    return _of_both(coin, available, name)


def _of_both(coin: Coin, by_exchange: Decimal | None, name: str) -> Unowned:
    by_books = coin.left
    if by_books is None:
        return Unowned(None, "the books are not opened yet: run `bottrader reconcile`")
    if by_exchange is None:
        return Unowned(None, f"the exchange does not report a balance of {name}")
    size = max(min(by_books, by_exchange), ZERO)
    more = by_exchange - size
    if by_books < by_exchange and more > ZERO:
        return Unowned(size, f"another {plain(more)} {name} are not in the books yet: run `bottrader reconcile` first")
    return Unowned(size)
