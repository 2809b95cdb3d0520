"""Any other indicator, by its name in pandas-ta, with the thresholds at which it fires.

It is computed symbol by symbol in a pandas frame, which takes milliseconds each, so only for configured indicators. If
the library can't compute one or raises, its value is missing with a reason; the run does not fail.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from domain.errors import BotTraderError
from domain.indicators import NAMES, Floats, Scan

__all__ = ["NamedIndicator", "NamedReading", "UnknownIndicatorError", "read_named", "require_own_names"]

_COLUMNS = ("open", "high", "low", "close", "volume")
_SHORTEST = 2


class UnknownIndicatorError(BotTraderError, ValueError):
    """There is no such indicator, its name is another's, or no library computes it; the text says which."""

    code = "UNKNOWN_INDICATOR"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedIndicator:
    """One configured indicator; its thresholds are in its own units.

    `column` is the one to read where the indicator has several (pandas-ta's own name for it, such as STOCHk_14_3_3);
    without it the first is read.
    """

    name: str
    pandas_ta: str
    column: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    buy_below: float | None = None
    buy_above: float | None = None
    sell_below: float | None = None
    sell_above: float | None = None
    weight: float = 1.0
    trigger: str = ""
    """The trigger that it buys by; its name unless given."""

    @property
    def buys_as(self) -> str:
        """The trigger of a buy."""
        return self.trigger or self.name

    @property
    def sells_as(self) -> str:
        """The trigger of a sell."""
        return f"{self.buys_as}_down"

    def buys(self, value: float) -> float | None:
        """How far past its threshold for buying the value is (0…1); None if it isn't."""
        return _past(value, self.buy_below, self.buy_above)

    def sells(self, value: float) -> float | None:
        """The same for selling."""
        return _past(value, self.sell_below, self.sell_above)


def _past(value: float, below: float | None, above: float | None) -> float | None:
    for threshold, sign in ((below, -1.0), (above, 1.0)):
        if threshold is not None and sign * (value - threshold) > 0:
            return min(1.0, abs(value - threshold) / (abs(threshold) or 1.0))
    return None


@dataclass(frozen=True, slots=True)
class NamedReading:
    """Its value for every symbol of a scan: NaN where there is none, with the reason at the same place."""

    indicator: NamedIndicator
    values: Floats
    why: Sequence[str]


def require_own_names(indicators: Sequence[NamedIndicator]) -> None:
    """Raises UnknownIndicatorError for a name that a built-in indicator or another named one has: a strategy reading
    that name could get either.
    """
    seen = set(NAMES)
    for indicator in indicators:
        if indicator.name in seen:
            raise UnknownIndicatorError(f"there is already an indicator {indicator.name}: give yours another name")
        seen.add(indicator.name)


def read_named(scan: Scan, indicators: Sequence[NamedIndicator]) -> tuple[NamedReading, ...]:
    """Every named indicator for every symbol. Raises UnknownIndicatorError for one that the library doesn't have."""
    return tuple(_read(scan, indicator) for indicator in indicators)


def _read(scan: Scan, indicator: NamedIndicator) -> NamedReading:
    function = _function(indicator)
    values = np.full(len(scan.block.symbols), np.nan)
    why: list[str] = []
    for row in range(len(values)):
        found, reason = _one(scan, row, function, indicator)
        why.append(reason)
        values[row] = math.nan if found is None else found
    return NamedReading(indicator, values, why)


def _function(indicator: NamedIndicator) -> Any:
    try:
        library = importlib.import_module("pandas_ta_classic")
    except ImportError:
        raise UnknownIndicatorError(
            f"the indicator {indicator.name} needs pandas-ta-classic: .venv/bin/pip install pandas-ta-classic"
        ) from None
    try:
        function = getattr(library, indicator.pandas_ta, None)
    except ImportError:  # it loads what it is asked for by name
        function = None
    if not callable(function) or isinstance(function, type) or indicator.pandas_ta.startswith("_"):
        raise UnknownIndicatorError(f"pandas-ta has no indicator {indicator.pandas_ta!r} (for {indicator.name})")
    return function


def _one(scan: Scan, row: int, function: Any, indicator: NamedIndicator) -> tuple[float | None, str]:
    import inspect  # noqa: PLC0415 - both only for those who name an indicator

    import pandas as pd  # noqa: PLC0415

    block = scan.block
    there = int(scan.clean[row])
    if there < _SHORTEST:
        return None, "the newest candle is missing" if there == 0 else f"only {there} candles"
    if there < block.candles:
        # Nobody knows how far back it looks, so of fewer candles it could be another reading.
        return None, f"there is a gap {there} candles ago, and it needs {block.candles} candles without one"
    frame = pd.DataFrame({name: getattr(block, name)[row, -there:] for name in _COLUMNS})
    try:
        # pandas-ta names its inputs by column; `open` is written open_ there.
        wanted = inspect.signature(function).parameters
        inputs = {name: frame[name.rstrip("_")] for name in wanted if name.rstrip("_") in _COLUMNS}
        return _newest(function(**inputs, **indicator.parameters), indicator, there)
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - a library's trouble with some candles is a missing value
        return None, f"{indicator.pandas_ta} failed: {type(problem).__name__}: {problem}"


def _newest(answer: Any, indicator: NamedIndicator, there: int) -> tuple[float | None, str]:
    """The last value of the library's result: a column, a table, or several tables (ichimoku).

    Values ahead of the newest candle, as in ichimoku's second table, are read only if their column is named.
    """
    if answer is None:
        return None, f"{there} candles are too few"
    found: dict[str, Any] = {}
    for part in answer if isinstance(answer, tuple) else (answer,):
        table = part.to_frame() if getattr(part, "ndim", 0) == 1 else part
        for name in getattr(table, "columns", ()):
            found.setdefault(str(name), table[name])
    if not found:
        return None, f"{indicator.pandas_ta} returned no column of values"
    # A single column has whatever name the library gives it.
    wanted = next(iter(found)) if indicator.column is None or len(found) == 1 else indicator.column
    if wanted not in found:
        return None, f"{indicator.pandas_ta} has no column {wanted}: {', '.join(found)}"
    if not len(found[wanted]):
        return None, f"{there} candles are too few"
    value = float(found[wanted].iloc[-1])
    return (value, "") if math.isfinite(value) else (None, f"no value from {there} candles")
