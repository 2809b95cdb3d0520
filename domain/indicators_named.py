"""Any other indicator, by the name that pandas-ta has for it, with the thresholds at which it speaks.

It is worked out symbol by symbol in a pandas frame: milliseconds each, so only those that are asked for. What the
library can't compute, or raises on, is a missing value with a reason, never a failure of the run.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from domain.indicators import Floats, Scan

__all__ = ["NamedIndicator", "NamedReading", "UnknownIndicatorError", "read_named"]

_COLUMNS = ("open", "high", "low", "close", "volume")
_SHORTEST = 2


class UnknownIndicatorError(ValueError):
    """There is no such indicator, or no library to compute it; the text says which."""

    code = "UNKNOWN_INDICATOR"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedIndicator:
    """One indicator of the configuration; what it is compared with is in its own units.

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
            f"the indicator {indicator.name} needs pandas-ta-classic: pip install 'bottrader[indicators]'"
        ) from None
    function = getattr(library, indicator.pandas_ta, None)
    if not callable(function) or isinstance(function, type) or indicator.pandas_ta.startswith("_"):
        raise UnknownIndicatorError(f"pandas-ta has no indicator {indicator.pandas_ta!r} (for {indicator.name})")
    return function


def _one(scan: Scan, row: int, function: Any, indicator: NamedIndicator) -> tuple[float | None, str]:
    import inspect  # noqa: PLC0415 - both only for those who name an indicator

    import pandas as pd  # noqa: PLC0415

    there = int(scan.clean[row])
    if there < _SHORTEST:
        return None, "the newest candle is missing" if there == 0 else f"only {there} candles"
    block = scan.block
    frame = pd.DataFrame({name: getattr(block, name)[row, -there:] for name in _COLUMNS})
    # pandas-ta names its inputs by column; `open` is written open_ there.
    wanted = inspect.signature(function).parameters
    inputs = {name: frame[name.rstrip("_")] for name in wanted if name.rstrip("_") in _COLUMNS}
    try:
        answer = function(**inputs, **indicator.parameters)
    except Exception as problem:  # noqa: BLE001 - a library's trouble with some candles is a missing value
        return None, f"{indicator.pandas_ta} failed: {type(problem).__name__}: {problem}"
    if answer is None:
        return None, f"{there} candles are too few"
    if getattr(answer, "ndim", 1) > 1:
        if indicator.column is not None and indicator.column not in answer.columns:
            return (
                None,
                f"{indicator.pandas_ta} has no column {indicator.column}: {', '.join(map(str, answer.columns))}",
            )
        answer = answer[indicator.column] if indicator.column is not None else answer.iloc[:, 0]
    value = float(answer.iloc[-1])
    return (value, "") if math.isfinite(value) else (None, f"no value from {there} candles")
