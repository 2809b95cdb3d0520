"""Five-minute candles for tests of indicators and strategies, generated from a seed: the same on every machine."""

from __future__ import annotations

import functools

import numpy as np

from domain.indicators import Block

__all__ = ["COLUMNS", "market_candles"]

COLUMNS = ("open", "high", "low", "close", "volume")

_SEED = 20_230_101
_CANDLES = 12_000
_START = 16_500.0


def market_candles(count: int = 1500, first: int = 0) -> Block:
    """`count` candles of BTC-USD from number `first` on; the same ones on every machine."""
    table = _generated()
    return Block(("BTC-USD",), *(table[name][np.newaxis, first : first + count] for name in COLUMNS))


@functools.cache
def _generated() -> dict[str, np.ndarray]:
    """A price in USD to the cent with calm and wild hours, trends, and bursts of volume.

    Ten steps per candle; the step size is itself a slow random walk (like volatility), and its drift changes every few
    hours, so that bands narrow and break and oscillators reach both ends.
    """
    random = np.random.default_rng(_SEED)
    steps = 10
    wildness = np.zeros(_CANDLES)
    for number in range(1, _CANDLES):
        wildness[number] = 0.985 * wildness[number - 1] + random.normal(0, 0.17)
    size = 0.0004 * np.exp(wildness)
    drift = np.repeat(random.normal(0, 0.35, _CANDLES // 40 + 1), 40)[:_CANDLES] * size / steps
    moves = drift[:, np.newaxis] + random.normal(0, 1, (_CANDLES, steps)) * size[:, np.newaxis] / np.sqrt(steps)
    path = np.round(_START * np.exp(np.cumsum(moves).reshape(_CANDLES, steps)), 2)
    close = path[:, -1]
    opened = np.concatenate([[_START], close[:-1]])
    burst = np.where(random.random(_CANDLES) < 0.02, random.uniform(3, 12, _CANDLES), 1.0)
    volume = np.round(np.exp(random.normal(2.5, 0.5, _CANDLES)) * burst * (1 + size / 0.0008), 8)
    return {
        "open": opened,
        "high": np.maximum(path.max(axis=1), opened),
        "low": np.minimum(path.min(axis=1), opened),
        "close": close,
        "volume": volume,
    }
