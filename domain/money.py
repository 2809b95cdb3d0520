"""Money and sizes are Decimals; this module is the only place that parses and rounds them.

Rounding always names its direction, because the decimal context is per thread and workflow tasks run on threads: sizes
are rounded down (never more than we have), limit prices to the side that protects the caller, reported money half-even.
"""

from __future__ import annotations

import decimal
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation

__all__ = [
    "CENT",
    "EXACT",
    "ZERO",
    "amount",
    "average",
    "decimal_from",
    "divide",
    "plain",
    "round_down",
    "round_half_even",
    "round_up",
    "to_read",
]

ZERO = Decimal(0)
CENT = Decimal("0.01")
_QUANTUM = Decimal("1e-18")

EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
"""Wide enough that no product of a size (to 1e12) and a price (to 1e-18) is rounded."""

# Plain + - * are exact too, on this thread and on every one that has not computed yet (each starts from the default).
decimal.DefaultContext.prec = EXACT.prec
decimal.setcontext(EXACT.copy())


def decimal_from(text: object) -> Decimal:
    """Parse a venue's number; `""`, `None` and `".19"` are values that venues really send.

    Raises:
        ValueError: the value is not a finite number.
    """
    if text is None or text == "":
        return ZERO
    if isinstance(text, float):
        text = repr(text)
    try:
        value = text if isinstance(text, Decimal) else Decimal(str(text))
    except InvalidOperation:
        raise ValueError(f"not a number: {text!r}") from None
    if not value.is_finite():
        raise ValueError(f"not a finite number: {text!r}")
    return value


def divide(numerator: Decimal, denominator: Decimal) -> Decimal:
    """`numerator / denominator`, 60 significant digits, half-even whatever the thread's context says."""
    return EXACT.divide(numerator, denominator)


def _to_multiple(value: Decimal, increment: Decimal, rounding: str) -> Decimal:
    if increment <= 0:
        raise ValueError(f"increment must be positive, not {increment}")
    steps = EXACT.divide(value, increment).quantize(Decimal(1), rounding=rounding, context=EXACT)
    return EXACT.multiply(steps, increment)


def round_down(value: Decimal, increment: Decimal) -> Decimal:
    """The largest multiple of `increment` that is not above `value`."""
    return _to_multiple(value, increment, ROUND_FLOOR)


def round_up(value: Decimal, increment: Decimal) -> Decimal:
    """The smallest multiple of `increment` that is not below `value`."""
    return _to_multiple(value, increment, ROUND_CEILING)


def round_half_even(value: Decimal, increment: Decimal = CENT) -> Decimal:
    """The nearest multiple of `increment`, ties to even: for reporting, never for what is owed."""
    return _to_multiple(value, increment, ROUND_HALF_EVEN)


def average(value: Decimal, size: Decimal) -> Decimal | None:
    """`value / size` at 18 places, half-even: an average price to show or compare. None for a size of zero."""
    return Decimal(plain(round_half_even(divide(value, size), _QUANTUM))) if size else None


_IN_CENTS = frozenset({"", "USD", "USDC", "USDT", "EUR", "GBP"})


def amount(value: Decimal, currency: str) -> str:
    """An amount for a table: to the cent, and of a coin to eight places, as a few hundredths of one are a lot."""
    if currency in _IN_CENTS:
        return f"{round_half_even(value):,f}"
    return f"{round_half_even(value, Decimal('1e-8')):,f}".rstrip("0").rstrip(".")


def to_read(value: Decimal) -> Decimal:
    """Rounded to eight decimal places, or to two significant digits if smaller: a non-zero amount never shows as 0.

    Digits beyond the exchange's own 16 places come from a division.
    """
    places = min(max(8, 1 - value.adjusted()), 16) if value else 8
    return round_half_even(value, Decimal(1).scaleb(-places))


def plain(value: Decimal) -> str:
    """Without exponent and without trailing zeros, as venues and people want to read it."""
    if value == 0:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
