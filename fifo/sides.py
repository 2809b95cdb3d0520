"""The fills of a row of the transactions report: of one asset, or of two that were exchanged.

The given asset is worth as much as the received one and the fee, in the currency that the row is valued in. If one side
is money, its amount is the value.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fifo.amounts import UNIT, divide_half_even, text_of
from fifo.currencies import AT_PAR, MONIES, smallest_unit
from fifo.fills import FifoError, Stated
from fifo.notes import Converted

__all__ = [
    "APART",
    "CLOSE",
    "Valued",
    "check_size",
    "conversion_of",
    "fill_of",
    "moment",
    "near",
    "require_at_par",
    "rounding",
    "sides_of",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROUNDED = 5
"""Amounts may differ by this many of the smallest units of their currency."""
APART = 4
"""Fields of a row may differ by one part in this many: spot and execution price, unstated spreads and fees. A misread
comma makes at least ten times as much."""
CLOSE = 100
"""Notes may round a number by one part in this many."""


class Valued(NamedTuple):
    """A row's amounts, in units of 1e-18."""

    id: str
    time: int
    line: int
    asset: str
    size: int
    """Never negative."""
    outgoing: bool
    """Whether the quantity was printed as negative."""
    currency: str
    price: int | None
    value: int | None
    """Without the fee; None if quantity times price is more precise."""
    fee: int
    total: int | None
    known_as: str
    """The identification of a row without an id."""

    def worth(self) -> int:
        """The value without the fee."""
        if self.value is not None:
            return self.value
        return divide_half_even(self.size * (self.price or 0), UNIT)


def rounding(currency: str) -> int:
    """The difference allowed for amounts of any size, in units of 1e-18."""
    return _ROUNDED * smallest_unit(currency)


def near(one: int, other: int, currency: str) -> bool:
    """Whether two amounts in a currency may be the same, before and after spreads and fees."""
    return abs(one - other) <= rounding(currency) + max(abs(one), abs(other)) // APART


def require_at_par(valued: Valued, amount: int, coin: str, *, comma: bool) -> None:
    """Raises FifoError(CONTRADICTION) if an amount of a coin at par is not the row's value. An amount of any coin with
    a `comma` before three digits is accepted only if it is, too.
    """
    at_par = AT_PAR.get(coin) == valued.currency
    if coin in MONIES or not (comma or at_par):
        return
    worth, fee = valued.worth(), valued.fee
    if any(near(amount, sum_, valued.currency) for sum_ in (worth, worth + fee, worth - fee)):
        return
    raise FifoError(
        "CONTRADICTION",
        f"Notes say {text_of(amount)} {coin} with a comma, which is a thousandth of it if the comma is a decimal one"
        if comma
        else f"Notes say {text_of(amount)} {coin}, and Subtotal is {text_of(worth)} {valued.currency}",
    )


def check_size(valued: Valued, size: int) -> None:
    """Raises FifoError(CONTRADICTION) if Notes' size is not the quantity."""
    if abs(size - valued.size) * CLOSE > valued.size:
        raise FifoError("CONTRADICTION", f"Quantity is {text_of(valued.size)}, and Notes say {text_of(size)}")


def moment(time: int) -> str:
    """A time as written in the ids of rows without one."""
    return (_EPOCH + timedelta(microseconds=time // 1_000)).isoformat()


def sides_of(
    valued: Valued, fill_id: str, quote: str, amount: int, *, buy: bool, with_fee: bool, both: bool = False
) -> list[Stated]:
    """The fills of a row that was traded for `amount` of `quote`, which is not the currency that it is valued in.

    `both`: both fills' ids name their assets, else only the other side's.
    """
    worth, fee = valued.worth(), valued.fee
    net = worth + fee if buy else worth - fee
    if quote in MONIES:
        # The fee as a share of the amount, as it is not printed in this currency.
        whole = net if with_fee else worth
        paid = divide_half_even(amount * fee, whole) if whole > 0 else 0
        value = (amount - paid if buy else amount + paid) if with_fee else amount
        return [fill_of(valued, fill_id, quote, buy, value, paid)]
    other_worth = net if with_fee else worth
    if other_worth < 0:
        raise FifoError("CONTRADICTION", "Fees are more than Subtotal")
    name = f"{fill_id}/{valued.asset}" if both else fill_id
    return [
        fill_of(valued, name, valued.currency, buy, valued.value, fee),
        fill_of(
            valued._replace(asset=quote, size=amount, price=None),
            f"{fill_id}/{quote}",
            valued.currency,
            not buy,
            other_worth,
            0,
        ),
    ]


def conversion_of(side: Valued, notes: Converted, fill_id: str) -> list[Stated]:
    """The fills of a conversion, valued by the row of one of its sides.

    The given asset is worth as much as the received one and the fee. If one side is money, its amount is the value.
    """
    worth, fee = side.worth(), side.fee
    if side.total is not None and abs(worth - fee - side.total) < abs(worth + fee - side.total):
        worth -= fee
        if worth < 0:
            raise FifoError("CONTRADICTION", "Fees are more than Subtotal")
    received = side._replace(asset=notes.received, size=notes.received_size, price=None, value=worth)
    given = side._replace(asset=notes.given, size=notes.given_size, price=None, value=worth + fee)
    if notes.given == side.currency:
        return [fill_of(received, fill_id, side.currency, True, notes.given_size - fee, fee)]
    if notes.received == side.currency:
        return [fill_of(given, fill_id, side.currency, False, notes.received_size + fee, fee)]
    if notes.received in MONIES:
        return sides_of(given, fill_id, notes.received, notes.received_size, buy=False, with_fee=True)
    return sides_of(received, fill_id, notes.given, notes.given_size, buy=True, with_fee=True, both=True)


def fill_of(valued: Valued, fill_id: str, quote: str, buy: bool, value: int | None, fee: int) -> Stated:
    """A fill of the row's asset for `value` of `quote`; None means quantity times price. Raises FifoError."""
    if value is not None and value < 0:
        raise FifoError("CONTRADICTION", "Fees are more than what was paid")
    return Stated(
        fill_id, f"{valued.asset}-{quote}", valued.time, valued.line, buy, valued.size, valued.price or UNIT, fee,
        "quote", None, value,
    )  # fmt: skip
