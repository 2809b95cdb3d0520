"""Amounts as whole numbers of 1e-18, and the one rule that splits them.

A cost or a proceeds is rounded once, half-even, to a multiple of 1e-18; from then on it is a whole number. The share of
the first x of a size D is amount * x / D rounded half-even; a part is the difference of two such shares. So the parts
of a lot sum to its cost exactly, whatever their number, and each is within one unit of the exact value.
"""

from __future__ import annotations

from decimal import Decimal

__all__ = ["PLACES", "UNIT", "decimal_of", "divide_half_even", "share", "split", "text_of", "units_of"]

PLACES = 18
"""Decimal places of every amount."""

UNIT: int = 10**PLACES
"""Units in one whole."""


def divide_half_even(numerator: int, denominator: int) -> int:
    """The whole number nearest to `numerator / denominator`, ties to even; `denominator` is above zero."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    return quotient + (twice > denominator or (twice == denominator and quotient & 1))


def share(amount: int, part: int, whole: int) -> int:
    """The share of the first `part` of `whole`; the whole amount at the end."""
    return amount if part >= whole else divide_half_even(amount * part, whole)


def split(amount: int, start: int, end: int, whole: int) -> int:
    """The share of the part of `whole` from `start` to `end`."""
    return share(amount, end, whole) - share(amount, start, whole)


def units_of(value: Decimal) -> int:
    """`value` in units of 1e-18, rounded half-even if it is finer."""
    numerator, denominator = value.as_integer_ratio()
    return numerator * UNIT if denominator == 1 else divide_half_even(numerator * UNIT, denominator)


def text_of(units: int) -> str:
    """The exact decimal, without exponent and trailing zeros: the same as `domain.money.plain`."""
    if units < UNIT:
        return _small(units)
    text = str(units)
    places = text[-PLACES:].rstrip("0")
    return f"{text[:-PLACES]}.{places}" if places else text[:-PLACES]


def _small(units: int) -> str:
    if units < 0:
        return "-" + text_of(-units)
    return f"0.{units:018d}".rstrip("0") if units else "0"


def decimal_of(units: int) -> Decimal:
    """The exact decimal, without trailing zeros."""
    return Decimal(text_of(units))
