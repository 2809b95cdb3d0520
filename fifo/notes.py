"""What Coinbase writes in the Notes of its transactions report: the only place where a row names what it was traded
for.

    Bought 10 ETH for 0.503 BTC on ETH-BTC at 0.05 BTC/ETH
    Converted 0.05 BTC to 1.2 ETH

Older Notes have no pair, Notes of some countries have decimal commas, the newest have nothing at all. What can't be
read is None, and whoever needs it refuses the row.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from fifo.fills import FifoError
from fifo.parsing import money

__all__ = ["Converted", "Traded", "converted", "paid_with", "traded"]

# Assets are in capitals, but for a few with a small beginning (cbETH); "using" and "Visa" are none.
_ASSET = r"([a-z]{0,3}[A-Z0-9]*[A-Z][A-Z0-9]*)\b"
_NUMBER = r"([0-9][0-9.,]*(?:[eE][+-]?[0-9]+)?)"
_SIGN = r"[^\w\s.,-]{0,3}\s*"
_FOR = re.compile(rf"\b(?:Bought|Sold)\s+{_NUMBER}\s+{_ASSET}\s+for\s+{_SIGN}{_NUMBER}\s*{_SIGN}{_ASSET}")
_ON = re.compile(rf"\bon\s+{_ASSET}-{_ASSET}")
_AT = re.compile(rf"\bat\s+{_SIGN}{_NUMBER}")
_CONVERTED = re.compile(rf"\bConverted\s+{_SIGN}{_NUMBER}\s+{_ASSET}\s+to\s+{_SIGN}{_NUMBER}\s+{_ASSET}")


class Traded(NamedTuple):
    """What Notes say of a buy or a sell; sizes and amounts in units of 1e-18, None for what they don't say."""

    base: str | None
    quote: str | None
    """What was paid with or received, in capitals."""
    size: int | None
    amount: int | None
    """How much of `quote`."""
    price: int | None
    """Quote per base."""


class Converted(NamedTuple):
    """What Notes say of a conversion, in units of 1e-18."""

    given_size: int
    given: str
    received_size: int
    received: str


def paid_with(notes: str) -> tuple[str | None, str | None]:
    """What was paid with or received, and the pair's quote currency: what `traded` says of them, without the rest."""
    if not notes:
        return None, None
    pair, paid = _ON.search(notes), _FOR.search(notes)
    quote = pair[2].upper() if pair else None
    return paid[4].upper() if paid else quote, quote


def traded(notes: str) -> Traded:
    """What was bought or sold for what. The amount's own currency goes before the pair's: it is what moved."""
    pair, paid = _ON.search(notes), _FOR.search(notes)
    at = _AT.search(notes, pair.end()) if pair else None
    base = pair[1] if pair else paid[2] if paid else None
    quote = paid[4] if paid else pair[2] if pair else None
    return Traded(
        base.upper() if base else None,
        quote.upper() if quote else None,
        _read(paid[1]) if paid else None,
        _read(paid[3]) if paid else None,
        _read(at[1]) if at else None,
    )


def converted(notes: str) -> Converted | None:
    """What was converted to what."""
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
