"""Indicators of many symbols at once: the newest value of each, or why there is none.

Candles come as a block, symbols × candles, oldest first, all of them closed. A recursive indicator is a fixed weighting
of past candles, so one matrix product computes it for all symbols; the weights are TA-Lib's own impulse response
(`_impulse`), so the values are TA-Lib's.

A candle that is missing or invalid (not finite, a price of zero) ends the usable data: only the unbroken run up to the
newest candle counts. An indicator for which that run is too short, or that is undefined in a market without movement,
has no value (NaN) and a reason; nothing raises.

Each uses a fixed number of candles (`Parameters.reads`) or has no value: smoothing has infinite memory, so with a
varying number the value would depend on the last gap or on when the process started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["NAMES", "Block", "Floats", "Parameters", "Scan", "scan"]

Floats = NDArray[np.float64]

NAMES: Final = ("rsi", "macd", "bollinger", "volume", "roc", "atr", "sma", "ema")
"""The built-in indicators, in the order in which they are shown."""

_NOISE = 1e-11
"""A MACD histogram below this part of the price is zero: rounding must not look like a cross."""
_WARM_UP = 4
"""Recursive smoothing needs at least this many periods until its first value hardly matters."""
_FORGOTTEN, _FORGOTTEN_BY_WILDER = 5, 8
"""After this many periods earlier candles count for less than a thousandth; Wilder's smoothing is slower."""


@dataclass(frozen=True, slots=True)
class Block:
    """Closed candles of some symbols: arrays of symbols × candles, oldest first, NaN where there is none.

    Prices in quote per base, volume in base. All candles of a column have the same opening time.
    """

    symbols: tuple[str, ...]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __post_init__(self) -> None:
        shape = self.close.shape
        if any(item.shape != shape for item in (self.open, self.high, self.low, self.volume)):
            raise ValueError("open, high, low, close and volume must have the same shape")
        if len(shape) != 2 or shape[0] != len(self.symbols):
            raise ValueError(f"a block is symbols × candles; {len(self.symbols)} symbols and {shape} do not fit")

    @property
    def candles(self) -> int:
        """How many candles a symbol has room for."""
        return int(self.close.shape[1])

    def clean(self) -> NDArray[np.int64]:
        """For each symbol the number of valid candles without a gap up to the newest."""
        # One sum sees every NaN and infinity; prices are checked for their sign besides.
        sane = np.isfinite(self.open + self.high + self.low + self.close + self.volume)
        sane &= (np.minimum(self.open, self.low) > 0) & (self.low <= self.high) & (self.volume >= 0)
        sane &= (self.close >= self.low) & (self.close <= self.high)
        backwards = ~sane[:, ::-1]
        return np.where(backwards.any(axis=1), backwards.argmax(axis=1), self.candles)

    def windows(self, length: int) -> Block:
        """One symbol's history as rows of `length` candles, one row for each candle that ends such a window.

        The arrays are views. Raises ValueError for a block of several symbols or too few candles.
        """
        if len(self.symbols) != 1 or self.candles < length:
            raise ValueError(f"windows of {length} candles need one symbol with as many, not {self.close.shape}")

        def rolled(values: Floats) -> Floats:
            return sliding_window_view(values[0], length)

        count = self.candles - length + 1
        columns = (rolled(item) for item in (self.open, self.high, self.low, self.close, self.volume))
        return Block(self.symbols * count, *columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Periods of the built-in indicators, in candles."""

    rsi: int = 14
    macd_fast: int = 12
    macd_slow: int = 26
    macd_signal: int = 9
    bollinger: int = 20
    bollinger_deviations: float = 2.0
    squeeze: int = 120
    """A squeeze is the narrowest band of this many candles."""
    volume: int = 20
    """A spike is measured against the average of this many candles before it."""
    roc: int = 12
    atr: int = 14
    sma: int = 50
    ema: int = 50

    def reads(self, candles: int) -> Mapping[str, int]:
        """How many candles each indicator uses, of a block with room for this many. Recursive smoothing gets enough,
        where there is room, that earlier candles count for less than a thousandth.
        """
        longer = {
            "rsi": _FORGOTTEN_BY_WILDER * self.rsi,
            "macd": _FORGOTTEN * self.macd_slow + self.macd_signal + 1,
            "atr": _FORGOTTEN_BY_WILDER * self.atr,
            "ema": _FORGOTTEN * self.ema,
        }
        return {name: max(least, min(candles, longer.get(name, least))) for name, least in self.needs().items()}

    def needs(self) -> Mapping[str, int]:
        """How many candles a block needs for every indicator to have a value."""
        return {
            "rsi": _WARM_UP * self.rsi,
            "macd": 3 * self.macd_slow + self.macd_signal,
            "bollinger": self.bollinger + self.squeeze - 1,
            "volume": self.volume + 1,
            "roc": self.roc + 1,
            "atr": _WARM_UP * self.atr,
            "sma": self.sma,
            "ema": _WARM_UP * self.ema,
        }


@dataclass(frozen=True, slots=True)
class Scan:
    """The newest readings of a block, one array entry a symbol; NaN where there is no value.

    `values`: rsi (0…100), macd (histogram, price), bollinger (band width, percent of the middle), volume (multiple of
    the average), roc (percent), atr (percent of price), sma and ema (the close's distance from it, percent).
    """

    block: Block
    parameters: Parameters
    clean: NDArray[np.int64]
    values: Mapping[str, Floats]
    macd_before: Floats
    """The histogram one candle earlier."""
    tightness: Floats
    """Band width over the narrowest of the squeeze's candles: 1 is the narrowest."""
    band_place: Floats
    """Where the close is in the band: 0 the middle, 1 the upper band, -1 the lower."""
    body: Floats
    """Close minus open of the newest candle, as a part of the open."""
    _needs: Mapping[str, int] = field(default_factory=dict)

    def why_not(self, name: str, row: int) -> str:
        """Why an indicator has no value for a symbol, as text."""
        there, needed = int(self.clean[row]), self._needs[name]
        if there >= needed:
            return "flat: there is nothing to measure" if name != "volume" else "no volume to compare with"
        if there == 0:
            return "the newest candle is missing"
        if there < self.block.candles:
            return f"there is a gap {there} candles ago, and it needs {needed} candles without one"
        return f"only {there} of {needed} candles"


def scan(block: Block, parameters: Parameters | None = None) -> Scan:
    """Every indicator's newest value for every symbol of the block. Never raises for what the candles hold."""
    chosen = parameters or Parameters()
    clean = block.clean()
    rows = len(block.symbols)
    found = {name: np.full(rows, np.nan) for name in (*NAMES, *_MORE)}
    # Most symbols have every candle; the others are done by how many they have.
    for length in np.unique(clean):
        members = np.flatnonzero(clean == length)
        for first in range(0, len(members) if length else 0, _AT_ONCE):
            some = members[first : first + _AT_ONCE]
            for name, values in _Part(block, some, int(length)).readings(chosen).items():
                found[name][some] = values
    more = {name: found.pop(name) for name in _MORE}
    return Scan(block, chosen, clean, found, **more, _needs=chosen.reads(block.candles))


_MORE: Final = ("macd_before", "tightness", "band_place", "body")
_AT_ONCE: Final = 100
"""Symbols that are computed together: the data of this many fits into the processor's cache."""


class _Part:
    """The symbols of a block that have the same number of clean candles."""

    def __init__(self, block: Block, members: NDArray[np.int64], length: int) -> None:
        first, last = int(members[0]), int(members[-1])
        in_a_row = last - first + 1 == len(members)

        def cut(values: Floats) -> Floats:
            return values[first : last + 1, -length:] if in_a_row else values[members, -length:]

        self.length = length
        self._cut = cut
        self._block = block
        self.close = cut(block.close)
        self.last = self.close[:, -1]

    def readings(self, chosen: Parameters) -> dict[str, Floats]:
        """What this many candles are enough for."""
        reads = chosen.reads(self._block.candles)
        found: dict[str, Floats] = {}
        compute: Mapping[str, Callable[[Parameters, int], Mapping[str, Floats]]] = {
            "rsi": self._rsi,
            "macd": self._macd,
            "bollinger": self._bollinger,
            "volume": self._volume,
            "roc": self._roc,
            "atr": self._atr,
            "sma": self._sma,
            "ema": self._ema,
        }
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for name, work in compute.items():
                if self.length >= reads[name]:
                    found.update(work(chosen, reads[name]))
            opened = self._cut(self._block.open)[:, -1]
            found["body"] = self.last / opened - 1
        return {name: np.where(np.isfinite(values), values, np.nan) for name, values in found.items()}

    def _flat(self, candles: int) -> NDArray[np.bool_]:
        recent = self.close[:, -candles:]
        return np.asarray(recent.max(axis=1) == recent.min(axis=1))

    def _rsi(self, chosen: Parameters, reads: int) -> Mapping[str, Floats]:
        change = np.diff(self.close[:, -reads:], axis=1)
        weights = _wilder(reads - 1, chosen.rsi)
        # |change| and change itself hold gains and losses: gains + losses and gains - losses.
        total, net = np.abs(change) @ weights, change @ weights
        value = 50 * (1 + net / total)
        return {"rsi": np.where(self._flat(chosen.rsi + 1), np.nan, value)}

    def _macd(self, chosen: Parameters, reads: int) -> Mapping[str, Floats]:
        # The candle before has a window of its own, so that it is what was read then.
        weights = _macd_weights(reads - 1, chosen.macd_fast, chosen.macd_slow, chosen.macd_signal)
        both = np.column_stack((self.close[:, -reads:-1] @ weights, self.close[:, 1 - reads :] @ weights))
        both[np.abs(both) < _NOISE * self.last[:, None]] = 0.0
        both[self._flat(chosen.macd_slow)] = np.nan
        return {"macd_before": both[:, 0], "macd": both[:, 1]}

    def _bollinger(self, chosen: Parameters, _: int) -> Mapping[str, Floats]:
        period, past = chosen.bollinger, chosen.squeeze
        # Candles × symbols, and as parts of the last price: long rows to add, small numbers to square.
        recent = self.close[:, -(period + past - 1) :].T / self.last - 1
        mean, square = _rolling_mean(recent, period), _rolling_mean(recent * recent, period)
        deviation = np.sqrt(np.maximum(square - mean * mean, 0.0))
        # What is left of a flat stretch is rounding, not a band.
        deviation[deviation < _FLAT_BAND] = 0.0
        middle = 1 + mean
        width = 2 * chosen.bollinger_deviations * deviation / middle
        narrowest = np.where(width > 0, width, np.inf).min(axis=0)
        newest = width[-1]
        none = newest <= 0
        place = (1 - middle[-1]) / (chosen.bollinger_deviations * deviation[-1])
        return {
            "bollinger": np.where(none, np.nan, 100 * newest),
            "tightness": np.where(none, np.nan, newest / narrowest),
            "band_place": np.where(none, np.nan, place),
        }

    def _volume(self, chosen: Parameters, _: int) -> Mapping[str, Floats]:
        volume = self._cut(self._block.volume)
        usual = volume[:, -1 - chosen.volume : -1].mean(axis=1)
        return {"volume": np.where(usual > 0, volume[:, -1] / usual, np.nan)}

    def _roc(self, chosen: Parameters, _: int) -> Mapping[str, Floats]:
        return {"roc": 100 * (self.last / self.close[:, -1 - chosen.roc] - 1)}

    def _atr(self, chosen: Parameters, reads: int) -> Mapping[str, Floats]:
        high, low = self._cut(self._block.high)[:, 1 - reads :], self._cut(self._block.low)[:, 1 - reads :]
        before = self.close[:, -reads:-1]
        true_range = np.maximum(high, before) - np.minimum(low, before)
        value = true_range @ _wilder(reads - 1, chosen.atr) / self.last
        return {"atr": np.where(value > 0, 100 * value, np.nan)}

    def _sma(self, chosen: Parameters, _: int) -> Mapping[str, Floats]:
        return {"sma": 100 * (self.last / self.close[:, -chosen.sma :].mean(axis=1) - 1)}

    def _ema(self, chosen: Parameters, reads: int) -> Mapping[str, Floats]:
        return {"ema": 100 * (self.last / (self.close[:, -reads:] @ _ema_weights(reads, chosen.ema)) - 1)}


_FLAT_BAND: Final = 1e-9


def _rolling_mean(values: Floats, period: int) -> Floats:
    """Means of `period` rows, for each row that ends so many."""
    sums = np.cumsum(values, axis=0)
    sums[period:] -= sums[:-period].copy()
    return np.asarray(sums[period - 1 :] / period)


@lru_cache(maxsize=256)
def _wilder(length: int, period: int) -> Floats:
    """Weights of Wilder's smoothing after `length` values: the mean of the first `period`, then 1/period each."""
    keep = (period - 1) / period
    weights = np.empty(length)
    weights[:period] = keep ** (length - period) / period
    weights[period:] = keep ** np.arange(length - period - 1, -1, -1) / period
    return weights


def _impulse(length: int, answer: Callable[[Floats], Sequence[float] | Floats]) -> Floats:
    """The weights of a linear filter of `length` values: its impulse response."""
    return np.array([answer(single) for single in np.eye(length)])


@lru_cache(maxsize=256)
def _macd_weights(length: int, fast: int, slow: int, signal: int) -> Floats:
    """Weights of the last value of MACD's histogram."""
    import talib  # noqa: PLC0415 - loads pandas, a quarter of the start of a worker, which may have no strategies

    return _impulse(length, lambda single: talib.MACD(single, fast, slow, signal)[2][-1:])[:, 0]


@lru_cache(maxsize=256)
def _ema_weights(length: int, period: int) -> Floats:
    import talib  # noqa: PLC0415 - as above

    return _impulse(length, lambda single: talib.EMA(single, period)[-1:])[:, 0]
