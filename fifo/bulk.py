"""Many plain rows at once: columns of texts as entries, with the same result as row by row, several times faster.

Plain means that no row needs an error or a remark. If any might be wrong, odd or rare, NotPlain is raised, and the rows
are read one by one by `fifo.reading`, which has the messages. No number is converted to a float: digits are whole
numbers from the characters on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.errors import InternalSignal
from fifo.amounts import PLACES, divide_half_even
from fifo.fills import FifoError, entry_from_units
from fifo.line import FillEntry
from fifo.parsing import SIDES, Inexact, fee, fee_currency, nanoseconds, number, sequence

__all__ = ["NotPlain", "plain_entries"]

Column = Sequence[Any]

_POWERS = 10 ** np.arange(PLACES + 1, dtype=np.int64)
_DIGITS_AT_MOST = 18
_ZERO, _NINE, _POINT = ord("0"), 9, ord(".")
_TO_SECONDS = len("2026-01-31T12:00:00")
_DIGIT_PLACES = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_MARKS = {4: b"-", 7: b"-", 10: b"T ", 13: b":", 16: b":"}
_NANOSECOND_DIGITS = 9
_YEARS = 1700, 2250
"""Years whose nanoseconds since 1970 fit 64 bits."""


class NotPlain(InternalSignal):
    """These rows must be read one by one."""


def plain_entries(columns: Mapping[str, Column]) -> list[FillEntry]:
    """The fills in columns by name, each with one element per row. Raises NotPlain."""
    try:
        return _entries(columns)
    except (FifoError, Inexact, KeyError, TypeError, UnicodeError, OverflowError) as error:
        raise NotPlain from error


def _entries(columns: Mapping[str, Column]) -> list[FillEntry]:
    sizes, size_places = _numbers("size", columns["size"])
    prices, price_places = _numbers("price", columns["price"])
    if min(sizes) <= 0 or min(prices) <= 0:
        raise NotPlain
    ids, symbols = _ids(columns["id"]), _symbols(columns["symbol"])
    times = _times(columns["time"])
    seqs = _sequences(columns["seq"]) if "seq" in columns else repeat(0)
    buys = list(map(SIDES.__getitem__, columns["side"]))
    fees, fee_places = _numbers("fee", columns["fee"]) if "fee" in columns else ([0] * len(ids), 0)
    units = _scaled(sizes, PLACES - size_places)
    kinds = _kinds(columns.get("fee_currency"), symbols)
    rates = _rates(columns["fee_rate"]) if "fee_rate" in columns else [None] * len(ids)
    if kinds is not None and any(fees):
        return list(
            map(
                entry_from_units,
                ids,
                symbols,
                times,
                seqs,
                buys,
                units,
                _scaled(prices, PLACES - price_places),
                _scaled(fees, PLACES - fee_places),
                kinds,
                rates,
            )
        )
    amounts = _amounts(buys, (sizes, size_places), (prices, price_places), (fees, fee_places))
    ties = [text.rjust(20) for text in ids]
    # Entry's own constructor, without a Python call for each entry.
    made: Callable[..., Any] = tuple.__new__
    rows = zip(times, seqs, ties, ids, symbols, buys, units, units, amounts, strict=False)
    return list(map(made, repeat(FillEntry), rows))


def _amounts(
    buys: list[bool], sizes: tuple[list[int], int], prices: tuple[list[int], int], fees: tuple[list[int], int]
) -> list[int]:
    """Size * price, and the fee for a buy or less the fee for a sell: exact, then rounded once to 18 places."""
    finest = max(sizes[1] + prices[1], fees[1], PLACES)
    value, fee = 10 ** (finest - sizes[1] - prices[1]), 10 ** (finest - fees[1])
    exact = [
        size * price * value + paid * fee if buy else size * price * value - paid * fee
        for buy, size, price, paid in zip(buys, sizes[0], prices[0], fees[0], strict=True)
    ]
    unit = 10 ** (finest - PLACES)
    return exact if unit == 1 else [divide_half_even(amount, unit) for amount in exact]


def _scaled(values: list[int], places: int) -> list[int]:
    scale = 10**places
    return values if scale == 1 else [value * scale for value in values]


def _numbers(name: str, texts: Column) -> tuple[list[int], int]:
    """Decimal numbers as whole numbers of one scale, and the scale's decimal places."""
    try:
        found = _unsigned("".join(texts).encode("ascii"), np.fromiter(map(len, texts), np.int64, len(texts)))
    except (TypeError, UnicodeError):
        found = None
    if found is not None:
        return found
    return [fee(text) if name == "fee" else number(name, text) for text in texts], PLACES


def _unsigned(joined: bytes, lengths: NDArray[np.int64]) -> tuple[list[int], int] | None:
    """The same for texts of digits with at most one point each; None for other texts, or if they are too long."""
    characters = np.frombuffer(joined, np.uint8)
    points = np.flatnonzero(characters == _POINT)
    places = np.zeros(len(lengths), np.int64)
    if len(points):
        ends = np.cumsum(lengths)
        owner = np.searchsorted(ends, points, side="right")
        if (owner[1:] == owner[:-1]).any():
            return None
        places[owner] = ends[owner] - 1 - points
        lengths = lengths.copy()
        lengths[owner] -= 1
        characters = np.delete(characters, points)
    digits = characters - _ZERO
    most = int(places.max())
    if lengths.min() < 1 or digits.max() > _NINE or int((lengths - places).max()) + most > _DIGITS_AT_MOST:
        return None
    ends = np.cumsum(lengths)
    # Each digit counts ten to the power of the number of digits after it, on the finest scale.
    exponents = np.repeat(ends + (most - places), lengths) - np.arange(1, len(digits) + 1)
    return np.add.reduceat(_POWERS[exponents] * digits, ends - lengths).tolist(), most


def _ids(given: Column) -> Column:
    if all(type(value) is int for value in given):
        return list(map(str, given))
    if len("".join(given).split()) != 1 or "" in given:
        raise NotPlain
    return given


def _symbols(given: Column) -> Column:
    if any(type(name) is not str or not name or name != name.strip() for name in set(given)):
        raise NotPlain
    return given


def _sequences(given: Column) -> list[int]:
    if not any(given):
        # A missing or empty text is sequence 0.
        return [sequence(value) for value in given]
    try:
        joined = "".join(given)
        digits = joined.isdecimal() and joined.isascii() and "" not in given
    except TypeError:
        digits = False
    if digits and max(map(len, given)) <= _DIGITS_AT_MOST:
        return list(map(int, given))
    return [sequence(value) for value in given]


def _kinds(given: Column | None, symbols: Column) -> list[str] | None:
    """The kind of currency of each fee; None if all are in quote currency."""
    if given is None or set(given) <= {"quote", "", None}:
        return None
    known = {pair: fee_currency(*pair) for pair in set(zip(given, symbols, strict=True))}
    if set(known.values()) == {"quote"}:
        return None
    return [known[pair] for pair in zip(given, symbols, strict=True)]


def _rates(given: Column) -> list[int | None]:
    return [None if rate in ("", None) else number("fee_rate", rate) for rate in given]


def _times(texts: Column) -> list[int]:
    """ISO times with a zone as nanoseconds since 1970, UTC."""
    found = _utc(texts)
    return list(map(nanoseconds, texts)) if found is None else found.tolist()


def _utc(texts: Column) -> NDArray[np.int64] | None:
    """The same for UTC times in one format; None for others."""
    joined = "".join(texts)
    length = len(joined) // len(texts)
    zone = 1 if joined.endswith("Z") else 6 if joined.endswith("+00:00") else 0
    fraction = length - _TO_SECONDS - zone
    if not zone or not (fraction == 0 or 2 <= fraction <= _NANOSECOND_DIGITS + 1) or set(map(len, texts)) != {length}:
        return None
    table = np.frombuffer(joined.encode("ascii"), np.uint8).reshape(len(texts), length).T
    marks = dict(_MARKS) | ({_TO_SECONDS: b"."} if fraction else {})
    ending = joined[-zone:].encode()
    if not all(np.isin(table[place], list(allowed)).all() for place, allowed in marks.items()):
        return None
    if not all((table[length - zone + place] == mark).all() for place, mark in enumerate(ending)):
        return None
    digits = table[_DIGIT_PLACES + list(range(_TO_SECONDS + 1, length - zone))] - _ZERO
    if digits.max() > _NINE:
        return None
    return _since_1970(digits.astype(np.int64))


def _since_1970(digits: NDArray[np.int64]) -> NDArray[np.int64] | None:
    year = ((digits[0] * 10 + digits[1]) * 10 + digits[2]) * 10 + digits[3]
    month, day, hour, minute, second = (digits[place] * 10 + digits[place + 1] for place in range(4, 14, 2))
    if year.min() < _YEARS[0] or year.max() > _YEARS[1] or month.min() < 1 or month.max() > 12 or day.min() < 1:
        return None
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    first = months.astype("datetime64[D]").astype(np.int64)
    following = (months + 1).astype("datetime64[D]").astype(np.int64)
    if (day > following - first).any() or hour.max() > 23 or minute.max() > 59 or second.max() > 59:
        return None
    seconds = (((first + day - 1) * 24 + hour) * 60 + minute) * 60 + second
    finer = digits[14:]
    behind = seconds
    for place in finer:
        behind = behind * 10 + place
    found: NDArray[np.int64] = behind * 10 ** (_NANOSECOND_DIGITS - len(finer))
    return found
