"""Indicators: the values of other libraries on the same candles, and none where candles are invalid."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pandas as pd
import pandas_ta_classic as ta
import pytest
import talib

from domain.indicators import NAMES, Block, Floats, Parameters, scan
from domain.indicators_named import NamedIndicator, UnknownIndicatorError, read_named
from tests.support.candles import COLUMNS, market_candles


def changed(block: Block, **columns: Floats) -> Block:
    """A copy of a block with some columns replaced."""
    kept = {name: getattr(block, name).copy() for name in COLUMNS}
    return Block(block.symbols, **{**kept, **columns})


def holed(block: Block, at: int, value: float = np.nan) -> Block:
    """A copy whose candle `at` (from the end, 1 the newest) has an invalid close."""
    close = block.close.copy()
    close[:, -at] = value
    return changed(block, close=close)


def flat(candles: int = 300, volume: float = 0.0) -> Block:
    """A market that does not move."""
    still = np.full((1, candles), 100.0)
    return Block(("FLAT-USD",), still, still, still, still, np.full((1, candles), volume))


@pytest.fixture(scope="module")
def block() -> Block:
    """A market's candles."""
    return market_candles()


@pytest.fixture(scope="module")
def frame(block: Block) -> pd.DataFrame:
    """The candles in pandas-ta's format."""
    return pd.DataFrame({name: getattr(block, name)[0] for name in COLUMNS})


@pytest.fixture(scope="module")
def readings(block: Block) -> Any:
    """Every indicator at the close of each of the last 300 candles, with all earlier candles known."""
    return [
        scan(Block(block.symbols, *(getattr(block, name)[:, : end + 1] for name in COLUMNS)))
        for end in range(1200, 1500)
    ]


def series(readings: Any, name: str) -> Floats:
    """One indicator's readings in time."""
    return np.array([reading.values[name][0] for reading in readings])


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_pandas_ta(name: str, frame: pd.DataFrame, readings: Any) -> None:
    """On real candles each indicator agrees with pandas-ta's own, which has all candles from the first: to a millionth,
    and for endless smoothing to the remaining weight of the candles before its window.
    """
    close = frame["close"]
    bands = ta.bbands(close, length=20, std=2, ddof=0, talib=False)
    upper, middle, lower = bands["BBU_20_2.0"], bands["BBM_20_2.0"], bands["BBL_20_2.0"]
    expected = {
        "rsi": lambda: ta.rsi(close, length=14, talib=False),
        "macd": lambda: ta.macd(close, 12, 26, 9, talib=True)["MACDh_12_26_9"],
        "bollinger": lambda: 100 * (upper - lower) / middle,
        "volume": lambda: frame["volume"] / ta.sma(frame["volume"], 20, talib=False).shift(1),
        "roc": lambda: ta.roc(close, 12, talib=False),
        "atr": lambda: 100 * ta.atr(frame["high"], frame["low"], close, 14, talib=True, mamode="rma") / close,
        "sma": lambda: 100 * (close / ta.sma(close, 50, talib=False) - 1),
        "ema": lambda: 100 * (close / ta.ema(close, 50, talib=False) - 1),
    }[name]().to_numpy()[1200:1500]
    forgotten = {"rsi": 0.1, "macd": 5e-5 * close.mean(), "atr": 0.002, "ema": 0.01}
    assert series(readings, name) == pytest.approx(expected, rel=1e-6, abs=forgotten.get(name, 1e-6))


@pytest.mark.parametrize("name", NAMES)
def test_a_reading_doesn_t_depend_on_how_many_candles_there_are(name: str) -> None:
    """It is the same with a gap just before the candles that it uses, in a block with room for more, and there is none
    with one candle less.
    """
    longer = market_candles(400)
    whole = Block(longer.symbols, *(getattr(longer, column)[:, -300:] for column in COLUMNS))
    reads = Parameters().reads(300)[name]
    assert Parameters().needs()[name] <= reads < 300
    reading = scan(whole).values[name][0]
    assert np.isfinite(reading)
    for other in (holed(whole, reads + 1), longer):
        assert scan(other).values[name][0] == pytest.approx(reading, rel=1e-9)
    short = scan(holed(whole, reads))
    assert np.isnan(short.values[name][0])
    assert short.why_not(name, 0) == f"there is a gap {reads - 1} candles ago, and it needs {reads} candles without one"


def test_the_squeeze_is_the_narrowest_band_of_its_candles(frame: pd.DataFrame, readings: Any) -> None:
    """Tightness is the band's width over the least of the last 120, the place is the close's within the band."""
    bands = ta.bbands(frame["close"], length=20, std=2, ddof=0, talib=False)
    width = (bands["BBU_20_2.0"] - bands["BBL_20_2.0"]) / bands["BBM_20_2.0"]
    tightness = (width / width.rolling(120).min()).to_numpy()[1200:1500]
    place = ((frame["close"] - bands["BBM_20_2.0"]) / (bands["BBU_20_2.0"] - bands["BBM_20_2.0"])).to_numpy()
    assert [item.tightness[0] for item in readings] == pytest.approx(tightness, rel=1e-6)
    assert [item.band_place[0] for item in readings] == pytest.approx(place[1200:1500], rel=1e-6, abs=1e-6)


def test_the_histogram_before_is_that_of_the_candle_before(block: Block, readings: Any) -> None:
    """A cross is found with the previous value of the same indicator, and TA-Lib's."""
    before = [item.macd_before[0] for item in readings[1:]]
    assert before == pytest.approx(series(readings, "macd")[:-1], rel=1e-6, abs=1e-8)
    reads = Parameters().reads(1200)["macd"] - 1
    histogram = [talib.MACD(block.close[0][end + 1 - reads : end + 1])[2][-1] for end in range(1200, 1500)]
    assert series(readings, "macd") == pytest.approx(histogram, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_a_candle_that_makes_no_sense_ends_what_is_looked_at(value: float) -> None:
    """Fifty candles ago: indicators that need fewer have a value, those that need more have none and say why."""
    found = scan(holed(market_candles(300), 51, value))
    assert int(found.clean[0]) == 50
    assert [name for name in NAMES if np.isfinite(found.values[name][0])] == ["volume", "roc", "sma"]
    assert found.why_not("rsi", 0) == "there is a gap 50 candles ago, and it needs 112 candles without one"


def test_a_missing_newest_candle_leaves_nothing() -> None:
    """A symbol without its last five minutes has no value at all."""
    found = scan(holed(market_candles(300), 1))
    assert all(np.isnan(found.values[name][0]) for name in NAMES)
    assert found.why_not("rsi", 0) == "the newest candle is missing"


def test_too_few_candles_say_how_many_there_are() -> None:
    """A new product has the indicators for which it has enough candles."""
    found = scan(market_candles(30))
    assert np.isfinite(found.values["volume"][0])
    assert np.isnan(found.values["macd"][0])
    assert found.why_not("macd", 0) == "only 30 of 87 candles"


def test_a_flat_market_has_nothing_to_measure() -> None:
    """A price that doesn't move gives no RSI, bands or cross, and no volume gives no spike."""
    found = scan(flat())
    values = {name: found.values[name][0] for name in NAMES}
    assert {name for name, value in values.items() if np.isnan(value)} == {"rsi", "macd", "bollinger", "volume", "atr"}
    assert (values["roc"], values["sma"], values["ema"]) == pytest.approx((0, 0, 0))
    assert found.why_not("rsi", 0).startswith("flat")
    assert found.why_not("volume", 0) == "no volume to compare with"


def test_symbols_do_not_touch_each_other() -> None:
    """In one block with gaps, flat markets and moving ones each has the same values as alone."""
    moving = market_candles(300)
    alone = [moving, holed(moving, 40), flat(), holed(moving, 200), moving]
    together = Block(
        tuple(f"S{number}-USD" for number in range(len(alone))),
        *(np.concatenate([getattr(item, name) for item in alone]) for name in COLUMNS),
    )
    found = scan(together)
    for row, block in enumerate(alone):
        single = scan(block)
        for name in NAMES:
            assert found.values[name][row] == pytest.approx(single.values[name][0], rel=1e-9, nan_ok=True), (row, name)


def test_a_block_that_does_not_fit_is_refused() -> None:
    """Symbols and arrays of different sizes are an error of the caller."""
    moving = market_candles(10)
    with pytest.raises(ValueError, match="do not fit"):
        Block(("A", "B"), *(getattr(moving, name) for name in COLUMNS))
    with pytest.raises(ValueError, match="same shape"):
        changed(moving, open=moving.open[:, 1:])
    with pytest.raises(ValueError, match="windows of 20"):
        moving.windows(20)


def test_periods_are_the_users() -> None:
    """Another period gives another value, that of TA-Lib with it on the same candles."""
    block, chosen = market_candles(300), Parameters(rsi=7, ema=20)
    found, reads = scan(block, chosen), chosen.reads(300)
    assert found.values["rsi"][0] == pytest.approx(talib.RSI(block.close[0, -reads["rsi"] :], 7)[-1])
    ema = talib.EMA(block.close[0, -reads["ema"] :], 20)[-1]
    assert found.values["ema"][0] == pytest.approx(100 * (block.close[0, -1] / ema - 1), abs=1e-9)


# --- indicators by name -----------------------------------------------------------------------------------------------


def test_any_indicator_of_pandas_ta_is_read_by_name(block: Block, frame: pd.DataFrame) -> None:
    """Its parameters and the column are the user's; the value is the library's."""
    found = scan(Block(block.symbols, *(getattr(block, name)[:, 1200:1500] for name in COLUMNS)))
    chosen = NamedIndicator(name="stoch", pandas_ta="stoch", column="STOCHd_9_3_3", parameters={"k": 9}, buy_below=20)
    part = frame.iloc[1200:1500].reset_index(drop=True)
    expected = ta.stoch(part["high"], part["low"], part["close"], k=9)["STOCHd_9_3_3"].iloc[-1]
    (reading,) = read_named(found, [chosen])
    assert reading.values[0] == pytest.approx(expected)


def test_what_the_library_cannot_compute_is_a_missing_value_with_a_reason() -> None:
    """Too few candles, an unknown column, invalid parameters: never an error."""
    wrong = [
        NamedIndicator(name="a", pandas_ta="stoch", column="NOPE", buy_below=20),
        NamedIndicator(name="b", pandas_ta="cci", parameters={"length": 500}, buy_below=-100),
        NamedIndicator(name="c", pandas_ta="cci", parameters={"length": "long"}, buy_below=-100),
    ]
    readings = read_named(scan(market_candles(100)), wrong)
    assert all(np.isnan(reading.values[0]) for reading in readings)
    assert "no column NOPE" in readings[0].why[0]
    assert readings[1].why[0]
    assert readings[2].why[0]
    (missing,) = read_named(scan(holed(market_candles(100), 90)), wrong[:1])
    assert missing.why[0] == "there is a gap 89 candles ago, and it needs 100 candles without one"
    (missing,) = read_named(scan(holed(market_candles(100), 1)), wrong[:1])
    assert missing.why == ["the newest candle is missing"]


@pytest.mark.filterwarnings("ignore")
def test_every_indicator_of_the_library_has_a_value_or_a_reason() -> None:
    """No answer of a pandas-ta function (a tuple, a list, nothing, an exit) ends a run."""
    functions = []
    for name in dir(ta):
        with contextlib.suppress(ImportError):
            found = getattr(ta, name, None)
            if name.islower() and not name.startswith("_") and callable(found) and not isinstance(found, type):
                functions.append(name)
    assert len(functions) > 200
    wanted = [NamedIndicator(name=f"x_{name}", pandas_ta=name, buy_below=1) for name in functions]
    for reading in read_named(scan(market_candles(120)), wanted):
        assert np.isnan(reading.values[0]) == bool(reading.why[0]), reading.indicator.pandas_ta


def test_an_indicator_of_several_tables_is_read_by_its_columns() -> None:
    """Ichimoku returns present and future lines: the present ones are used, and a column is found."""
    lines = NamedIndicator(name="a", pandas_ta="ichimoku", column="ITS_9", buy_below=1)
    first, named = read_named(
        scan(market_candles(200)), [NamedIndicator(name="b", pandas_ta="ichimoku", buy_below=1), lines]
    )
    assert np.isfinite(first.values[0])
    high, low = market_candles(200).high[0], market_candles(200).low[0]
    assert named.values[0] == pytest.approx((high[-9:].max() + low[-9:].min()) / 2)


@pytest.mark.parametrize("name", ["nonsense", "_private", "AnalysisIndicators", "math"])
def test_an_indicator_that_does_not_exist_is_said(name: str) -> None:
    """A name that pandas-ta doesn't have ends the run with a sentence, as it would never have a value."""
    with pytest.raises(UnknownIndicatorError, match=name):
        read_named(scan(market_candles(60)), [NamedIndicator(name="x", pandas_ta=name, buy_below=1)])
