"""A fill as people and exchanges state it, checked, and its effect on lots.

A lot's size is the bought size less a fee taken in base, its cost is size * price plus the fee in quote currency; a
sell takes its size plus a base fee, its proceeds are size * price less the fee. A fee in a third currency is worth
`fee * fee_rate` in quote currency. A rebate is a negative fee.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from domain.errors import BotTraderError
from domain.money import EXACT, ZERO
from domain.orders import Side
from fifo.amounts import PLACES, UNIT
from fifo.line import FillEntry

__all__ = ["FeeCurrency", "FifoError", "Fill", "Stated", "entry_from_units", "entry_of", "id_order", "units_exactly"]

_LARGEST_EXPONENT = 30
_ID_WIDTH = 20
_HALF = UNIT // 2
_new = tuple.__new__


class FifoError(BotTraderError, ValueError):
    """A fill that can't be matched. `code` is stable, `sentence` says what is wrong.

    Codes: NOT_A_NUMBER, TOO_FINE, TOO_LARGE, SIZE_NOT_POSITIVE, PRICE_NOT_POSITIVE, FEE_RATE_MISSING,
    FEE_RATE_NEGATIVE, FEE_EATS_SIZE, DUPLICATE_ID, UNKNOWN_SELL and, of files, UNKNOWN_SIDE, TIME_WITHOUT_ZONE,
    NOT_A_TIME, MISSING_FIELD, NOT_A_ROW, UNKNOWN_FORMAT, OTHER_HEADING, CONTRADICTION, OTHER_SIDE_MISSING.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class FeeCurrency(StrEnum):
    """The currency that a fee was taken in."""

    QUOTE = "quote"
    BASE = "base"
    OTHER = "other"
    """A third currency, worth `fee_rate` of quote currency."""


class Fill(NamedTuple):
    """One fill. Sizes in base currency, price in quote per base, at most 18 decimal places each."""

    id: str | int
    """A text, of whatever type it was given: 1 and "1" are the same fill."""
    symbol: str
    time: int
    """Nanoseconds since 1970, UTC."""
    side: Side
    size: Decimal
    price: Decimal
    seq: int = 0
    """The order of fills of the same time."""
    fee: Decimal = ZERO
    fee_currency: FeeCurrency = FeeCurrency.QUOTE
    fee_rate: Decimal | None = None
    """Quote currency per unit of the fee's currency; needed if `fee_currency` is OTHER."""


class Stated(NamedTuple):
    """A fill as a line of a file states it, in whole numbers of 1e-18: the input of `entry_from_units`."""

    id: str
    symbol: str
    time: int
    """Nanoseconds since 1970, UTC."""
    seq: int
    buy: bool
    size: int
    price: int
    fee: int
    fee_currency: str
    fee_rate: int | None
    value: int | None = None
    """The value of size * price that an export states, if any: its prices are rounded."""


def units_exactly(name: str, value: Decimal) -> int:
    """`value` in units of 1e-18. Raises FifoError: NOT_A_NUMBER, TOO_LARGE, TOO_FINE."""
    if not value.is_finite():
        raise FifoError("NOT_A_NUMBER", f"{name} is not a finite number: {value}")
    if not value:
        return 0
    if value.adjusted() > _LARGEST_EXPONENT:
        raise FifoError("TOO_LARGE", f"{name} is too large: {value:.6g}")
    if value.adjusted() < -PLACES:
        raise FifoError("TOO_FINE", f"{name} has more than {PLACES} decimal places: {value:.24g}")
    scaled = value.scaleb(PLACES, EXACT)
    units = int(scaled)
    if units != scaled:
        raise FifoError("TOO_FINE", f"{name} has more than {PLACES} decimal places: {value:.24g}")
    return units


def id_order(fill_id: str | int) -> str:
    """The id as a sort key by which numbers sort as numbers."""
    return str(fill_id).rjust(_ID_WIDTH)


def entry_of(fill: Fill) -> FillEntry:
    """A fill's effect. Raises FifoError for an invalid one."""
    return entry_from_units(
        str(fill.id),
        fill.symbol,
        fill.time,
        fill.seq,
        fill.side is Side.BUY,
        units_exactly("size", fill.size),
        units_exactly("price", fill.price),
        units_exactly("fee", fill.fee),
        fill.fee_currency,
        None if fill.fee_rate is None else units_exactly("fee_rate", fill.fee_rate),
    )


def entry_from_units(
    fill_id: str,
    symbol: str,
    time: int,
    seq: int,
    buy: bool,
    size: int,
    price: int,
    fee: int,
    fee_currency: str,
    fee_rate: int | None,
    value: int | None = None,
) -> FillEntry:
    """The same from whole numbers of 1e-18. `value` is the value of size * price that an export states, if any.

    Raises FifoError: SIZE_NOT_POSITIVE, PRICE_NOT_POSITIVE, FEE_RATE_MISSING, FEE_RATE_NEGATIVE, FEE_EATS_SIZE.
    """
    if size <= 0:
        raise FifoError("SIZE_NOT_POSITIVE", "size must be above zero")
    if price <= 0:
        raise FifoError("PRICE_NOT_POSITIVE", "price must be above zero")
    amount = size * price if value is None else value * UNIT
    moved = size
    if fee:
        if fee_currency == "quote":
            cost = fee * UNIT
        elif fee_currency == "base":
            cost = 0
            moved = size - fee if buy else size + fee
            if moved <= 0:
                raise FifoError("FEE_EATS_SIZE", "the fee in base currency is as large as the size: nothing is left")
        else:
            if fee_rate is None:
                raise FifoError("FEE_RATE_MISSING", "a fee in another currency needs fee_rate: quote currency per unit")
            if fee_rate < 0:
                raise FifoError("FEE_RATE_NEGATIVE", "fee_rate must not be negative")
            cost = fee * fee_rate
        amount = amount + cost if buy else amount - cost
    # Inlined `divide_half_even` and `Entry`, as this is the innermost step of reading a file.
    quotient, remainder = divmod(amount, UNIT)
    if remainder >= _HALF and (remainder > _HALF or quotient & 1):
        quotient += 1
    return _new(FillEntry, (time, seq, fill_id.rjust(_ID_WIDTH), fill_id, symbol, buy, size, moved, quotient))
