"""The Notes of Coinbase's transactions report: the only field that names what a row was traded for.

    Bought 10 ETH for 0.503 BTC on ETH-BTC at 0.05 BTC/ETH
    Converted 0.05 BTC to 1.2 ETH

Older Notes have no pair, Notes of some countries have decimal commas, the newest are empty. What can't be read is None,
and code that needs it refuses the row.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fifo.amounts import UNIT
from fifo.fills import FifoError
from fifo.parsing import last_place, money

__all__ = ["Converted", "Said", "Traded", "converted", "done", "may_be", "said", "traded", "unclear"]

# Assets are in capitals, except a few that start with small letters (cbETH); "using" and "Visa" are not assets.
_ASSET = r"([a-z]{0,3}[A-Z0-9]*[A-Z][A-Z0-9]*)\b"
_NUMBER = r"([0-9][0-9.,]*(?:[eE][+-]?[0-9]+)?)"
_SIGN = r"[^\w\s.,-]{0,3}\s*"
_FOR = re.compile(rf"\b(?:Bought|Sold)\s+{_NUMBER}\s+{_ASSET}\s+for\s+{_SIGN}{_NUMBER}\s*{_SIGN}{_ASSET}")
_DONE = re.compile(rf"\b(Bought|Sold|Converted)\s+{_SIGN}{_NUMBER}\s+{_ASSET}")
_ON = re.compile(rf"\bon\s+{_ASSET}-{_ASSET}")
_AT = re.compile(rf"\bat\s+{_SIGN}{_NUMBER}")
_CONVERTED = re.compile(rf"\bConverted\s+{_SIGN}{_NUMBER}\s+{_ASSET}\s+to\s+{_SIGN}{_NUMBER}\s+{_ASSET}")
_A_HUNDREDTH = UNIT // 100
_DECIMAL_COMMA = re.compile(r"[0-9]+,[0-9]+|[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]+)?")


class Said(NamedTuple):
    """The same as `Traded`, with numbers as printed."""

    base: str | None
    quote: str | None
    size: str | None
    amount: str | None
    price: str | None
    against: str | None
    """The pair's quote currency."""


_NOTHING = Said(None, None, None, None, None, None)


class Traded(NamedTuple):
    """A buy or a sell by its Notes; sizes and amounts in units of 1e-18, None if not stated."""

    base: str | None
    quote: str | None
    """The currency paid or received, in capitals."""
    size: int | None
    amount: int | None
    """The amount of `quote`."""
    price: int | None
    """Quote per base."""


class Converted(NamedTuple):
    """A conversion by its Notes, in units of 1e-18."""

    given_size: int
    given: str
    received_size: int
    received: str


def said(notes: str) -> Said:
    """The assets and numbers of a buy or a sell, as printed. The amount's own currency takes precedence over the
    pair's: it is the one that moved.
    """
    if not notes:
        return _NOTHING
    pair, paid = _ON.search(notes), _FOR.search(notes)
    at = _AT.search(notes, pair.end()) if pair else None
    base = pair[1] if pair else paid[2] if paid else None
    quote = paid[4] if paid else pair[2] if pair else None
    return Said(
        base.upper() if base else None,
        quote.upper() if quote else None,
        paid[1] if paid else None,
        paid[3] if paid else None,
        at[1] if at else None,
        pair[2].upper() if pair else None,
    )


def done(notes: str) -> str | None:
    """The verb Bought, Sold or Converted, if a size follows."""
    found = _DONE.search(notes)
    return found[1] if found else None


def traded(text: Said) -> Traded:
    """The same with parsed numbers; None for numbers with decimal commas."""
    size, amount, price = (_read(number) if number else None for number in text[2:5])
    return Traded(text.base, text.quote, size, amount, price)


def may_be(text: str, least: int, most: int) -> bool:
    """Whether a printed number may be a rounded one between `least` and `most`.

    It may be rounded to its last place and have a decimal comma. If it can't be read, it may.
    """
    text = text.rstrip(".,")
    fits = _fits(text, least, most)
    if not fits and _DECIMAL_COMMA.fullmatch(text):
        fits = _fits(text.replace(".", "").replace(",", "."), least, most)
    return fits is not False


def _fits(text: str, least: int, most: int) -> bool | None:
    units = _read(text)
    if units is None:
        return None
    if least <= units <= most:
        return True
    step = last_place(text, _A_HUNDREDTH) if "." in text else 0
    return least - step <= units <= most + step


def unclear(notes: str, asset: str) -> bool:
    """Whether Notes print an amount of `asset` as `1,200`, which is 1.2 with decimal commas."""
    number = r"(?<![0-9.,])[1-9][0-9]{0,2},[0-9]{3}[^0-9.,\w]*"
    return re.search(rf"{number}{re.escape(asset)}\b", notes, re.IGNORECASE) is not None


def converted(notes: str) -> Converted | None:
    """The conversion in Notes, None if there is none."""
    found = _CONVERTED.search(notes)
    if found is None:
        return None
    given, received = _read(found[1]), _read(found[3])
    if not given or not received:
        return None
    return Converted(given, found[2].upper(), received, found[4].upper())


def _read(text: str) -> int | None:
    try:
        return money("Notes", text.rstrip(".,"))
    except FifoError:
        return None
