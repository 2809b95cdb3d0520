"""Amounts in whole arrays: each a pair of int64, `whole` and `atto`, worth whole + atto * 1e-18, 0 <= atto < 1e18.

`share` is `fifo.amounts.share` for arrays, digit by digit: a long division in base 1e9, each digit of which is
estimated in floating point, is wrong by at most one, and is corrected by its remainder. Remainders are computed modulo
2^64 and are exact, because they are known to be small. No result depends on a rounded number.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fifo.amounts import PLACES, UNIT, decimal_of

__all__ = ["Amounts", "Ints", "carried", "product", "round_up_where", "share"]

Ints = NDArray[np.int64]

_BASE = 10**9
_CHUNK = 1 << 14
_SIGN = 63


@dataclass(frozen=True, slots=True)
class Amounts:
    """Amounts of money, each `whole + atto * 1e-18`."""

    whole: Ints
    atto: Ints

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, key: Any) -> Amounts:
        return Amounts(self.whole[key], self.atto[key])

    def __add__(self, other: Amounts) -> Amounts:
        return carried(self.whole + other.whole, self.atto + other.atto)

    def __sub__(self, other: Amounts) -> Amounts:
        return carried(self.whole - other.whole, self.atto - other.atto)

    def units(self) -> list[int]:
        """As whole numbers of 1e-18."""
        return [whole * UNIT + atto for whole, atto in zip(self.whole.tolist(), self.atto.tolist(), strict=True)]

    def decimals(self) -> list[Decimal]:
        """As exact decimals."""
        return [decimal_of(units) for units in self.units()]

    def grouped(self, starts: Ints) -> Amounts:
        """Sums of the groups that begin at `starts`; no group is empty."""
        if not len(starts):
            return Amounts(self.whole[:0], self.atto[:0])
        upper, lower = np.divmod(self.atto, _BASE)
        upper, lower = np.add.reduceat(upper, starts), np.add.reduceat(lower, starts)
        carry, lower = np.divmod(lower, _BASE)
        carry, upper = np.divmod(upper + carry, _BASE)
        return Amounts(np.add.reduceat(self.whole, starts) + carry, upper * _BASE + lower)

    @classmethod
    def of_units(cls, units: list[int]) -> Amounts:
        """The pairs of whole numbers of 1e-18; with Python's own integers if int64 is too small."""
        exact = np.array(units, object)
        whole = exact // UNIT
        atto = exact - whole * UNIT
        try:
            return cls(whole.astype(np.int64), atto.astype(np.int64))
        except OverflowError:
            return cls(whole, atto)

    @classmethod
    def zeros(cls, count: int) -> Amounts:
        """`count` zeros."""
        return cls(np.zeros(count, np.int64), np.zeros(count, np.int64))

    def put(self, key: Any, other: Amounts) -> None:
        """Write `other` at `key`, in place: for building results."""
        self.whole[key] = other.whole
        self.atto[key] = other.atto


def carried(whole: Ints, atto: Ints) -> Amounts:
    """The pair in normal form, from any `atto`."""
    carry = atto // UNIT
    return Amounts(whole + carry, atto - carry * UNIT)


def product(left: Ints, right: Ints, places: int) -> tuple[Amounts, Ints, int]:
    """`left * right` with `places` decimal places (at most 36): floor at 18 places, the remainder and its divisor.

    Both factors are from 0 to below 1e18, and the whole part of each product is below 2^62.
    """
    left_upper, left_lower = np.divmod(left, _BASE)
    right_upper, right_lower = np.divmod(right, _BASE)
    middle, cross = np.divmod(left_upper * right_lower + left_lower * right_upper, _BASE)
    lower = cross * _BASE + left_lower * right_lower
    upper = left_upper * right_upper + middle + lower // UNIT
    lower %= UNIT
    # The product is upper * 1e18 + lower, in units of 10^-places.
    if places <= PLACES:
        scale = 10 ** (PLACES - places)
        divisor = UNIT // scale
        whole, rest = np.divmod(lower, divisor)
        return Amounts(upper * scale + whole, rest * scale), np.zeros_like(lower), 1
    divisor = 10 ** (places - PLACES)
    whole, rest = np.divmod(upper, divisor)
    fine, remainder = np.divmod(lower, divisor)
    return Amounts(whole, rest * (UNIT // divisor) + fine), remainder, divisor


def round_up_where(floor: Amounts, remainder: Ints, divisor: int | Ints) -> Amounts:
    """Half-even: one unit more if the remainder is above half of the divisor, or half and the floor is odd."""
    above = remainder - (divisor - remainder)
    up = (above > 0) | ((above == 0) & (floor.atto & 1).astype(bool))
    return carried(floor.whole, floor.atto + up)


def share(amount: Amounts, part: Ints, size: Ints) -> Amounts:
    """The share of the first `part` of `size`, at 18 places, half-even; 0 <= part <= size, 0 < size < 2^62."""
    result = Amounts.zeros(len(amount))
    for start in range(0, len(amount), _CHUNK):
        here = slice(start, start + _CHUNK)
        result.put(here, _share(amount[here], part[here], size[here]))
    return result


def _share(amount: Amounts, part: Ints, size: Ints) -> Amounts:
    negative = amount.whole < 0
    if negative.any():
        zeros = Amounts.zeros(len(amount))
        magnitude = Amounts(np.where(negative, 0, amount.whole), np.where(negative, 0, amount.atto))
        below = Amounts(np.where(negative, amount.whole, 0), np.where(negative, amount.atto, 0))
        return _share(magnitude, part, size) - _share(zeros - below, part, size)
    upper = np.divmod(amount.whole, _BASE)
    lower = np.divmod(amount.atto, _BASE)
    exact_part, exact_size = part.astype(np.float64), size.astype(np.float64)
    remainder = np.zeros_like(size)
    digits: list[Ints] = []
    for digit in (*upper, *lower):
        if not digits and not digit.any():
            continue
        estimate = (remainder.astype(np.float64) * _BASE + digit * exact_part) / exact_size
        quotient = estimate.astype(np.int64)
        remainder = remainder * _BASE + digit * part - quotient * size
        low = remainder >> _SIGN
        quotient += low
        remainder += size & low
        high = ~((remainder - size) >> _SIGN)
        quotient -= high
        remainder -= size & high
        digits.append(quotient)
    while len(digits) < 4:
        digits.insert(0, np.zeros_like(size))
    first, second, third, fourth = digits
    floor = carried(first * _BASE + second, third * _BASE + fourth)
    return round_up_where(floor, remainder, size)
