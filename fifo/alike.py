"""The same fill under two ids: Coinbase's report formats use different ids, the older ones none at all.

A fill is identified by moment, asset, side and size. Reports cut moments to the second or the millisecond, so two are
compared at the precision of the coarser one. Each fill equals at most one other: two fills with the same moment and
size remain two. Within one format different ids are different fills. An id shows its format: in the fills report it
begins with the product (`BTC-USD/77`), for a row without an ID it is made of the row's content, Coinbase assigns 24 hex
digits or a UUID, and all others were assigned by somebody else. Two such ids, or two of Coinbase's, with the same
content may be one fill or two: `doubted`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from types import MappingProxyType
from typing import NamedTuple

from domain.money import EXACT, ZERO
from fifo.amounts import decimal_of
from fifo.currencies import ONE_BOOK, RENAMED, smallest_unit

__all__ = ["AlikeFills", "SeenFill", "asset_of", "second_of", "without_id"]

_PLACE = Decimal("1e-8")
"""The rounding of sizes in reports, at least that of the finest. In units of 1e-18."""
_STEPS = (1, 1_000, 1_000_000)
_ROUNDED = 5
"""Costs may differ by this many of the smallest units of their currency."""
_SPREAD = Decimal("0.02")
_SAYS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T\S+ (?:(convert)|(?:buy|sell) \S+ \S+ (at|for)) ")
"""Rows without an ID, as `fifo.transactions` writes them: `for` the subtotal, or `at` a price if there is none."""
_COINBASES = re.compile(r"[0-9a-f]{24}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_GIVEN = {"coinbase", "own"}
_FIRST_NAME = {name: min(names) for names in RENAMED for name in names}

_Key = tuple[str, bool, Decimal, datetime]


class SeenFill(NamedTuple):
    """A fill. `net`: the value with the fee for a buy, less the fee for a sell, in quote currency."""

    id: str
    symbol: str
    buy: bool
    size: Decimal
    net: Decimal
    at: datetime

    @property
    def asset(self) -> str:
        """The base currency."""
        return asset_of(self.symbol)

    @property
    def quote(self) -> str:
        """The quote currency."""
        return self.symbol.partition("-")[2]

    @property
    def row(self) -> str:
        """The id of its row, which may have another fill."""
        return self.id.removesuffix(f"/{self.symbol.partition('-')[0]}")

    def costs_the_same(self, other: SeenFill) -> bool:
        """Whether both can be one fill by their cost, within the rounding of reports. In different currencies:
        always."""
        if self.quote != other.quote:
            return True
        rounded = decimal_of(_ROUNDED * smallest_unit(self.quote))
        return abs(self.net - other.net) <= rounded + _SPREAD * max(abs(self.net), abs(other.net))


class AlikeFills:
    """Rows of stored fills, each to be paired once with a row of another format."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, SeenFill]] = defaultdict(dict)

    def put(self, there: Iterable[SeenFill]) -> None:
        """Add stored fills. Idempotent."""
        for seen in there:
            self._rows[seen.row][seen.id] = seen

    def pair(
        self, rows: Sequence[Sequence[SeenFill]], other_rows: Mapping[str, str] = MappingProxyType({})
    ) -> dict[int, list[tuple[SeenFill, SeenFill]]]:
        """The rows that are already stored: by index, each row's fills with the stored ones. None is paired twice.

        If several may be the same, those whose costs differ least are paired first. `other_rows`: for conversions with
        a row for each side, the id of one by the id of the other.
        """
        by_key = self._by_key()
        possible = []
        for place, row in enumerate(rows):
            for name in sorted({name for leg in row for name in by_key.get(_key(leg), ())}):
                there = list(self._rows[name].values())
                pairs = _legs_alike(row, there) if _of_other_forms(row, there, other_rows) else []
                if pairs:
                    possible.append((_apart(pairs), place, name, pairs))
        found: dict[int, list[tuple[SeenFill, SeenFill]]] = {}
        taken: set[str] = set()
        for _, place, name, pairs in sorted(possible, key=lambda item: item[:3]):
            if place not in found and name not in taken:
                found[place] = pairs
                taken.add(name)
        return found

    def doubted(self, rows: Sequence[Sequence[SeenFill]], paired: Collection[str]) -> dict[int, SeenFill]:
        """New rows that have a fill with the same content as a stored one under another id: by index, the stored one.

        Only ids that others assigned distinguish them. Each stored fill is named once, those in `paired` never.
        """
        by_key = self._by_key()
        found: dict[int, SeenFill] = {}
        taken = set(paired)
        for place, row in enumerate(rows):
            for leg in row:
                names = sorted(by_key.get(_key(leg), ()))
                there = (other for name in names for other in self._rows[name].values() if other.id not in taken)
                other = next((other for other in there if _may_be_one(leg, other)), None)
                if other is not None:
                    found.setdefault(place, other)
                    taken.add(other.id)
        return found

    def _by_key(self) -> dict[_Key, set[str]]:
        by_key: dict[_Key, set[str]] = defaultdict(set)
        for name, legs in self._rows.items():
            for leg in legs.values():
                by_key[_key(leg)].add(name)
        return by_key


def asset_of(symbol: str) -> str:
    """The base currency, under the name that is used for comparisons if it has several."""
    base = symbol.partition("-")[0]
    return _FIRST_NAME.get(base, base)


def _form(legs: Sequence[SeenFill]) -> tuple[str, bool]:
    """The format that a row's ids are from, and whether it is a conversion there."""
    first = legs[0]
    if first.id.startswith(f"{first.symbol}/"):
        return "fills", False
    says = _SAYS.match(first.id)
    if says:
        return says[2] or "convert", says[1] is not None
    return "coinbase" if _COINBASES.fullmatch(first.row) else "own", all(leg.id != leg.row for leg in legs)


def _of_other_forms(new: Sequence[SeenFill], there: Sequence[SeenFill], other_rows: Mapping[str, str]) -> bool:
    """Whether two ids can be one row. Only a conversion has two rows and two ids, one for each side, within one format.

    If both of its rows are in the file, it can't be a third one.
    """
    (form, conversion), (other, converted) = _form(new), _form(there)
    if "fills" in (form, other):
        return form != other
    if form in _GIVEN and other in _GIVEN:
        if form != other:
            return True
        known = other_rows.get(new[0].row)
        return conversion and converted and known in (None, there[0].row)
    if form in _GIVEN or other in _GIVEN:
        # If one side of a conversion is money, an assigned id doesn't show it.
        return not (converted if other in _GIVEN else conversion) or conversion == converted
    if form == other == "convert":
        return new[0].row.partition(" for ")[0] == there[0].row.partition(" for ")[0]
    renamed = new[0].symbol.partition("-")[0] != there[0].symbol.partition("-")[0]
    return conversion == converted and (form != other or renamed)


def _legs_alike(new: Sequence[SeenFill], there: Sequence[SeenFill]) -> list[tuple[SeenFill, SeenFill]]:
    """The fills of a row with those of a stored row; empty if these are two different rows.

    All of them must match. The fill of a pair of coins matches both fills of a row that names its currencies. If one
    report only has that the asset was traded, the asset's fill is compared.
    """
    pairs = [(leg, other) for leg in new for other in there if _same_fill(leg, other)]
    if len(new) == len(there):
        one_quote = len(new) > 1 or all(_one_quote(leg, other) for leg, other in pairs)
        return pairs if len(pairs) == len(new) and one_quote else []
    if len(pairs) != 1:
        return []
    single, double = (new, there) if len(new) < len(there) else (there, new)
    leg, other = pairs[0] if single is new else pairs[0][::-1]
    pair_named = any(leg.quote == side.symbol.partition("-")[0] for side in double if side is not other)
    return pairs if pair_named or (other.id == other.row and _one_quote(leg, other)) else []


def _same_fill(one: SeenFill, other: SeenFill) -> bool:
    return _key(one) == _key(other) and _same_moment(one.at, other.at)


def _may_be_one(leg: SeenFill, other: SeenFill) -> bool:
    same = _same_fill(leg, other) and _one_quote(leg, other) and leg.costs_the_same(other)
    # In the fills report each execution has a number.
    return same and not (leg.id.startswith(f"{leg.symbol}/") and other.id.startswith(f"{other.symbol}/"))


def _one_quote(one: SeenFill, other: SeenFill) -> bool:
    return one.quote == other.quote or {one.quote, other.quote} in ONE_BOOK


def _apart(pairs: Sequence[tuple[SeenFill, SeenFill]]) -> tuple[bool, Decimal]:
    """Whether the currencies differ, and the difference in cost."""
    unlike = any(leg.quote != other.quote for leg, other in pairs)
    return unlike, sum((abs(leg.net - other.net) for leg, other in pairs if leg.quote == other.quote), ZERO)


def without_id(fill_id: str) -> bool:
    """Whether a fill's id was made from its row's content, as the row had none."""
    return _SAYS.match(fill_id) is not None


def second_of(at: datetime) -> datetime:
    """The second in which a moment lies."""
    return at.replace(microsecond=0)


def _key(seen: SeenFill) -> _Key:
    size = seen.size.quantize(_PLACE, ROUND_HALF_EVEN, EXACT)
    return seen.asset, seen.buy, size, second_of(seen.at)


def _same_moment(one: datetime, other: datetime) -> bool:
    """Whether two moments within one second are the same at the coarser precision."""
    fine = one.microsecond, other.microsecond
    return any(fine[0] // step == fine[1] // step and 0 in (fine[0] % step, fine[1] % step) for step in _STEPS)
