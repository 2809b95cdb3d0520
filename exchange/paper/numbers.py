"""Parsing and writing of exact numbers: Decimal, plain notation, never an exponent, never a float."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from domain import money  # its import makes plain arithmetic exact for products of sizes, prices and rates, too

__all__ = ["ONE", "ZERO", "floor_to", "nearest_on", "on_grid", "parse", "parse_time", "plain", "rfc3339", "whole"]

ZERO = money.ZERO
ONE = Decimal(1)
_WHOLE = re.compile(r"\d{1,18}", re.ASCII)
_PLAIN = re.compile(r"(?=\.?\d)\d{0,20}(\.\d{0,20})?", re.ASCII)


def parse(text: object) -> Decimal | None:
    """The Decimal of a venue's number string (`".19"` included), or None if it is not a plain number."""
    if not isinstance(text, str) or not _PLAIN.fullmatch(text):
        return None
    return Decimal(text)


def whole(text: str) -> int | None:
    """The whole number in `text`, or None: also for "²" or "٣", which Python accepts as digits, and for overlong
    ones."""
    return int(text) if _WHOLE.fullmatch(text) else None


def plain(number: Decimal) -> str:
    """`number` in plain notation without trailing zeros."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text


def on_grid(number: Decimal, increment: Decimal) -> bool:
    """True if `number` is a whole multiple of `increment`."""
    return number % increment == 0


def floor_to(number: Decimal, increment: Decimal) -> Decimal:
    """`number` rounded down to the grid of `increment`."""
    return (number / increment).to_integral_value(ROUND_DOWN) * increment


def nearest_on(number: Decimal, increment: Decimal) -> Decimal:
    """`number` rounded to the nearest step of `increment`, at least one step."""
    return max((number / increment).to_integral_value(ROUND_HALF_UP), ONE) * increment


def rfc3339(moment: datetime) -> str:
    """UTC time as the venue writes it, microseconds kept."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: object) -> datetime | None:
    """A zoned UTC time from RFC 3339 text (up to nine fraction digits), or None if it is not one."""
    if not isinstance(text, str):
        return None
    trimmed = re.sub(r"(\.\d{6})\d+", r"\1", text.strip())
    try:
        moment = datetime.fromisoformat(trimmed)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
