"""The pool: for any events of a coin in any order, neither sells from the pool nor buys that pay with it take a trade's
coins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.money import ZERO
from domain.pool import Coin, TradeLeft, payable, sold_from, unowned

ONE = Decimal(1)
FIVE = Coin(books=Decimal(5), owned=Decimal(3))


@pytest.mark.parametrize(
    ("coin", "free", "expected", "why"),
    [
        (FIVE, "5", "2", ""),
        (replace(FIVE, claimed=ONE), "4", "1", ""),
        (replace(FIVE, reserved=ONE), "5", "1", "another 1 BTC"),
        (replace(FIVE, owned=Decimal(6)), "6", "0", ""),
        (FIVE, "4", "1", ""),
        (FIVE, "0", "0", ""),
        (FIVE, "7.5", "2", "another 2.5 BTC are not in the books yet"),
        (replace(FIVE, owned_resting=Decimal(2)), "3", "2", ""),
        (replace(FIVE, claimed=ONE, claimed_since=ONE), "5", "1", ""),
        (replace(FIVE, reserved=ONE, reserved_since=ONE), "5", "1", ""),
        (replace(FIVE, books=None), "5", None, "not opened"),
        (FIVE, None, None, "does not report"),
    ],
)
def test_the_pool_is_what_books_and_exchange_both_know_to_be_nobodys(
    coin: Coin, free: str | None, expected: str | None, why: str
) -> None:
    """The pool less trades' sizes, sells' claims and buys' reservations; unknown if books or balance are unknown."""
    found = unowned(coin, None if free is None else Decimal(free), "BTC")
    assert found.size == (None if expected is None else Decimal(expected))
    assert why in found.why
    assert bool(found.why) == bool(why)


@pytest.mark.parametrize(
    ("coin", "available", "expected", "why"),
    [
        (FIVE, "2", "2", ""),
        (FIVE, "1.5", "1.5", ""),
        (FIVE, "4", "2", "another 2 BTC are not in the books yet"),
        (replace(FIVE, claimed=ONE, reserved=ONE), "2", "0", "another 2 BTC"),
        (FIVE, "-1", "0", ""),
        (replace(FIVE, books=None), "2", None, "not opened"),
        (FIVE, None, None, "does not report"),
    ],
)
def test_a_buy_pays_with_what_books_and_exchange_both_know_to_be_nobodys(
    coin: Coin, available: str | None, expected: str | None, why: str
) -> None:
    """If the exchange's balance exceeds the books, the excess belongs to an order whose fill isn't recorded yet."""
    found = payable(coin, None if available is None else Decimal(available), "BTC")
    assert found.size == (None if expected is None else Decimal(expected))
    assert why in found.why
    assert bool(found.why) == bool(why)


@dataclass
class _Order:
    """A sell from the pool or of a trade, or a buy: the size it may still trade, and its unrecorded fills."""

    left: Decimal
    unrecorded: Decimal = ZERO
    in_balance: bool = False
    """It was at the exchange when the balance was last requested."""

    @property
    def open_by_books(self) -> Decimal:
        """The size it may still trade by the books."""
        return self.left + self.unrecorded


def _sum(sizes: Iterable[Decimal]) -> Decimal:
    return sum(sizes, ZERO)


class OneCoin:
    """A coin that is traded as two products (which one makes no difference): the state at the exchange, and the state
    of the books. An order may fill at any time, and be recorded at any later time.

    Every step has a number that chooses the order, and a size.
    """

    def __init__(self, opening: int) -> None:
        self.total = self.books = Decimal(opening)
        self.owned = self.owned_by_books = ZERO
        self.buys: list[_Order] = []
        self.of_pool: list[_Order] = []
        """Sells from the pool, and buys that pay with the coin."""
        self.of_trades: list[_Order] = []
        self.available: Decimal | None = None
        self.gone = ZERO
        """The trades' shortage because of withdrawals."""
        self.left_unbooked = False

    def _sells(self) -> list[_Order]:
        return [*self.of_pool, *self.of_trades]

    def _untaken(self) -> Decimal:
        """The exchange's balance that no sell holds."""
        return self.total - _sum(item.left for item in self._sells())

    @property
    def beside_the_pool(self) -> Decimal:
        """The balance beyond all that sells from the pool may still sell."""
        return self.total - _sum(item.left for item in self.of_pool)

    # --- events at the exchange ---------------------------------------------------------------------------------

    def entry(self, number: int, size: Decimal) -> None:
        """An entry, which fills in part at once, or not at all."""
        self.buys.append(_Order(size))
        self.buys_fill(-1, Decimal(number))

    def buys_fill(self, number: int, size: Decimal) -> None:
        """An entry fills in part; its trade owns that from then on."""
        size = _fill(self.buys, number, size)
        self.total += size
        self.owned += size

    def pool_sells_fill(self, number: int, size: Decimal) -> None:
        """A sell from the pool fills in part."""
        self.total -= _fill(self.of_pool, number, size)

    def exits_fill(self, number: int, size: Decimal) -> None:
        """An exit sells some of its trade."""
        size = _fill(self.of_trades, number, size)
        self.total -= size
        self.owned -= size

    def deposit(self, number: int, size: Decimal) -> None:
        """Coins are deposited."""
        self.total += size

    def withdrawal(self, number: int, size: Decimal) -> None:
        """Coins are withdrawn. What exceeds the pool is missing from trades: no rule of ours can prevent it."""
        self.total -= min(size, self._untaken())
        self.left_unbooked = True
        self.gone = max(self.gone, self.owned - self.beside_the_pool)
        self.available = None  # nothing can know of one in the moment between a sell's read and its claim

    # --- updates of the books -----------------------------------------------------------------------------------------

    def buy_recorded(self, number: int, size: Decimal) -> None:
        """An entry's fill is recorded."""
        size = _recorded(self.buys, number)
        self.books += size
        self.owned_by_books += size

    def pool_sell_recorded(self, number: int, size: Decimal) -> None:
        """A pool sell's fill is recorded."""
        self.books -= _recorded(self.of_pool, number)

    def exit_recorded(self, number: int, size: Decimal) -> None:
        """An exit's fill is recorded."""
        size = _recorded(self.of_trades, number)
        self.books -= size
        self.owned_by_books -= size

    def reconciled(self, number: int, size: Decimal) -> None:
        """While nothing moves, differences without a fill are booked."""
        if not any(item.unrecorded for item in [*self.buys, *self._sells()]):
            self.books = self.total
            self.left_unbooked = False

    # --- sellers ----------------------------------------------------------------------------------------------------

    def asked(self, number: int, size: Decimal) -> None:
        """A sell from the pool reads the available balance; others may act before it claims."""
        self.available = self._untaken()
        for item in self._sells():
            item.in_balance = True

    def pool_sell(self, number: int, size: Decimal) -> None:
        """It claims what it may."""
        if self.left_unbooked and any(item.unrecorded for item in self.buys):
            return  # fills that the books miss on one side and on the other: together neither side shows them
        if self.available is None:
            self.asked(number, size)
        coin = Coin(
            books=self.books,
            owned=self.owned_by_books,
            claimed=_sum(item.open_by_books for item in self.of_pool),
            claimed_since=_sum(item.open_by_books for item in self.of_pool if not item.in_balance),
            owned_resting=_sum(item.open_by_books for item in self.of_trades if item.in_balance),
        )
        size = min(unowned(coin, self.available, "BTC").size or ZERO, size)
        if 0 < size <= self._untaken():
            self.of_pool.append(_Order(size))

    def pays(self, number: int, size: Decimal) -> None:
        """A buy reserves what it may pay with, by a current balance less trades, claims and reservations, as far as the
        books know them."""
        if self.left_unbooked and any(item.unrecorded for item in self.buys):
            return
        reserved = _sum(item.open_by_books for item in self.of_pool)
        available = self.total - self.owned_by_books - reserved
        coin = Coin(books=self.books, owned=self.owned_by_books, reserved=reserved)
        size = min(payable(coin, available, "BTC").size or ZERO, size)
        if 0 < size <= self._untaken():
            self.of_pool.append(_Order(size))

    def exit(self, number: int, size: Decimal) -> None:
        """An exit claims the part of its trade that no other exit has claimed."""
        size = min(self.owned_by_books - _sum(item.open_by_books for item in self.of_trades), size, self._untaken())
        if size > 0:
            self.of_trades.append(_Order(size))


def _fill(orders: list[_Order], number: int, size: Decimal) -> Decimal:
    """An order trades this size, at the exchange only. Returns the size."""
    if not orders:
        return ZERO
    item = orders[number % len(orders)]
    size = min(size, item.left)
    item.left -= size
    item.unrecorded += size
    return size


def _recorded(orders: list[_Order], number: int) -> Decimal:
    """All fills of an order are recorded. Returns the size that was not recorded before."""
    if not orders:
        return ZERO
    item = orders[number % len(orders)]
    size, item.unrecorded = item.unrecorded, ZERO
    return size


_STEPS = [name for name in vars(OneCoin) if not name.startswith("_") and name != "beside_the_pool"] + [
    "pool_sell",
    "pays",
] * 3


@settings(max_examples=300)
@given(
    st.integers(0, 9),
    st.lists(
        st.tuples(st.sampled_from(_STEPS), st.integers(0, 9), st.integers(1, 9).map(Decimal)), min_size=25, max_size=40
    ),
)
def test_what_a_trade_owns_is_never_sold_as_the_pool_nor_paid_with(
    opening: int, steps: list[tuple[str, int, Decimal]]
) -> None:
    """With buys, exits, pool sells, buys that pay with the pool, deposits and withdrawals, filled and recorded in any
    order (RISK-4): beyond all that the pool may still lose, the trades' unsold sizes are there.
    """
    coin = OneCoin(opening)
    for name, number, size in steps:
        getattr(coin, name)(number, size)
        assert coin.beside_the_pool >= coin.owned - coin.gone


@pytest.mark.parametrize(
    ("free", "size", "of"),
    [
        ([], "1", None),
        (["1", "2"], "1", "trade 0"),
        (["1", "2"], "2", "trade 1"),
        (["1", "2"], "3", None),
        (["0", "-1", "0.5"], "0.5", "trade 2"),
    ],
)
def test_a_sell_that_names_no_trade_is_of_the_oldest_that_has_all_of_it(
    free: list[str], size: str, of: str | None
) -> None:
    """Never from parts of several: if no trade has the size free, it is from the pool."""
    trades = [TradeLeft(f"trade {number}", Decimal(left)) for number, left in enumerate(free)]
    assert sold_from(trades, Decimal(size)) == of
