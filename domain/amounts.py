"""The numbers that a person or a sender of alerts may write for an amount or a price: one grammar for all of them."""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["LONGEST_NUMBER", "is_number", "number_in", "out_of_range"]

LONGEST_NUMBER = 40
"""Characters of a number as it is written, and digits of one that a program sent."""
_NUMBER = re.compile(r"-?(?=\.?[0-9])[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]{1,2})?")
_SMALLEST_EXPONENT, _LARGEST_EXPONENT = -18, 15


def is_number(text: str) -> bool:
    """Whether a text is a decimal number in ASCII, between blanks at most: 0.25, .25, -1, 1e-3."""
    return _NUMBER.fullmatch(text.strip()) is not None


def number_in(text: str) -> Decimal | None:
    """The number that a text is, exactly; None where it is none or too long for one."""
    typed = text.strip()
    return Decimal(typed) if len(typed) <= LONGEST_NUMBER and is_number(typed) else None


def out_of_range(value: Decimal) -> str | None:
    """Why no amount and no price is this number, as a clause; None for one that can be. Its sign is not looked at."""
    if not value.is_finite() or (value and not _SMALLEST_EXPONENT <= value.adjusted() <= _LARGEST_EXPONENT):
        return "no amount and no price is that large or small"
    if len(value.as_tuple().digits) > LONGEST_NUMBER:
        return "no amount and no price is that long"
    return None
