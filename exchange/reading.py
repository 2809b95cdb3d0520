"""What a venue sent, read value by value and row by row. Pure.

Rules for every venue: numbers are strings or JSON numbers, `""`, `null` and `".19"` included. Whatever can't be parsed
raises `MessageError` with a reason that a person can read; a row that can't be parsed makes its read fail, or is
collected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from domain.errors import BotTraderError
from domain.money import ZERO
from domain.orders import Side
from exchange.port import UNREADABLE, MalformedMessage, Unavailable

__all__ = [
    "MessageError",
    "UnknownMessageError",
    "each_row",
    "not_negative",
    "number",
    "number_or_none",
    "optional_number",
    "positive",
    "reading",
    "side_of",
    "text_of",
]

Row = TypeVar("Row")

_SIDE: Mapping[str, Side] = {"BUY": Side.BUY, "SELL": Side.SELL}
_GREATEST_EXPONENT = 40


class MessageError(BotTraderError, ValueError):
    """Something that the venue sent can't be parsed."""

    code = "UNREADABLE_MESSAGE"


class UnknownMessageError(MessageError):
    """An unknown channel or type of message."""


def number(value: object, name: str) -> Decimal:
    """A number as the venue writes it; `""` and `None` are zero.

    Raises:
        MessageError: it is not a finite number of a plausible magnitude.
    """
    if value is None or value == "":
        return ZERO
    if type(value) is not str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MessageError(f"{name} is not a number: {value!r}")
        value = repr(value)
    try:
        result = Decimal(value)
    except InvalidOperation:
        raise MessageError(f"{name} is not a number: {value!r}") from None
    if not result.is_finite() or not -_GREATEST_EXPONENT < result.adjusted() < _GREATEST_EXPONENT:
        raise MessageError(f"{name} is not a usable number: {value!r}")
    return result


def positive(value: object, name: str) -> Decimal:
    """A number above zero.

    Raises:
        MessageError: it is missing, zero, negative or not a number.
    """
    result = number(value, name)
    if result <= ZERO:
        raise MessageError(f"{name} must be above zero: {value!r}")
    return result


def not_negative(value: object, name: str) -> Decimal:
    """A number that may be zero or missing.

    Raises:
        MessageError: it is negative or not a number.
    """
    result = number(value, name)
    if result < ZERO:
        raise MessageError(f"{name} can't be negative: {value!r}")
    return result


def optional_number(value: object, name: str) -> Decimal | None:
    """A number, or None if missing or zero, which the venue sends for "none"."""
    result = number(value, name)
    return result if result != ZERO else None


def text_of(raw: Mapping[str, Any], name: str) -> str:
    """A required text.

    Raises:
        MessageError: it is missing or empty.
    """
    value = raw.get(name)
    if not isinstance(value, str) or not value:
        raise MessageError(f"{name} is missing")
    return value


def side_of(raw: Mapping[str, Any], name: str) -> Side:
    """BUY or SELL.

    Raises:
        MessageError: it is neither.
    """
    side = _SIDE.get(str(raw.get(name, "")).upper())
    if side is None:
        raise MessageError(f"{name} is neither BUY nor SELL: {raw.get(name)!r}")
    return side


def number_or_none(value: object) -> Decimal | None:
    """An optional number: None if it is missing or can't be parsed."""
    if value in (None, ""):
        return None
    try:
        return number(value, "figure")
    except MessageError:
        return None


def each_row(
    rows: Iterable[Any], parse: Callable[[Mapping[str, Any]], Row], unreadable: list[MalformedMessage] | None
) -> Iterator[tuple[Mapping[str, Any], Row]]:
    """Rows with their parsed values; one that can't be parsed is added to `unreadable`, if that list is given."""
    for row in rows:
        try:
            item = parse(row)
        except (MessageError, AttributeError, TypeError) as problem:
            if unreadable is None:
                raise
            unreadable.append(MalformedMessage(json.dumps(row, default=str), str(problem), datetime.now(UTC)))
        else:
            yield row, item


class reading:  # noqa: N801 - reads as a statement
    """Turns parse errors of an answer into `Unavailable`."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, MessageError | AttributeError | TypeError):
            raise Unavailable(f"{self._what} can't be understood: {problem}", code=UNREADABLE) from problem
