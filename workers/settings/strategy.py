"""The strategy run: its markets, its indicators, and when it buys or sells (ENTRY)."""

from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from workers.settings.types import AT_START, Currencies, Name, Percent, Seconds, Section

__all__ = [
    "IndicatorSettings",
    "MarketDataSettings",
    "NamedIndicatorSettings",
    "RocSettings",
    "StrategySettings",
    "WeightSettings",
]

Periods = Annotated[int, Field(ge=2, le=200)]
Weight = Annotated[Decimal, Field(ge=0, le=100)]
Score = Annotated[Decimal, Field(gt=0, le=1000)]
Threshold = Annotated[float, Field(allow_inf_nan=False)]
Days = Annotated[int, Field(ge=1, le=3650)]


_BUILT_IN = ("rsi", "macd", "bollinger", "volume", "roc", "atr", "sma", "ema")
"""As domain.indicators.NAMES, which is not imported here: every command reads the settings."""


class MarketDataSettings(Section):
    """Stored candles and prices for all decisions."""

    enabled: bool = Field(True, description="whether workers of the role strategy keep candles and prices")
    top: int = Field(
        100,
        ge=1,
        le=500,
        description="number of products, by 24 h quote volume, that are evaluated when symbols.allow is empty",
    )
    quotes: Currencies = Field(("USD",), description="quote currencies of those products")
    min_quote_volume: Annotated[Decimal, Field(ge=0)] = Field(
        Decimal(1_000_000), description="minimum 24 h volume of those products, in quote currency"
    )
    universe_s: Annotated[Seconds, AT_START] = Field(
        Decimal(60), description="wall seconds between updates of that list"
    )
    write_s: Annotated[Seconds, AT_START] = Field(Decimal(1), description="wall seconds between writes of changes")
    keep_candles_days: Days = Field(30, description="candles older than this are deleted; days of market time")
    keep_matrix_days: Days = Field(30, description="rows of the buy/sell matrix older than this are deleted; wall days")


class IndicatorSettings(Section):
    """Periods of the built-in indicators, in candles of five minutes."""

    rsi: Periods = Field(14, description="candles in RSI")
    macd_fast: Periods = Field(12, description="candles in MACD's fast average")
    macd_slow: Periods = Field(26, description="candles in MACD's slow average")
    macd_signal: Periods = Field(9, description="candles in MACD's signal line")
    bollinger: Periods = Field(20, description="candles in the Bollinger band")
    bollinger_deviations: Annotated[Decimal, Field(gt=0, le=10)] = Field(
        Decimal(2), description="standard deviations from its middle to its edge"
    )
    squeeze: Annotated[int, Field(ge=10, le=270)] = Field(
        120, description="a squeeze is the narrowest band of this many candles"
    )
    volume: Periods = Field(20, description="candles in the average volume")
    roc: Periods = Field(12, description="candles in the rate of change")
    atr: Annotated[int, Field(ge=2, le=70)] = Field(14, description="candles in ATR")
    sma: Periods = Field(50, description="candles in the simple moving average")
    ema: Annotated[int, Field(ge=2, le=70)] = Field(50, description="candles in the exponential moving average")

    @model_validator(mode="after")
    def _fast_is_faster(self) -> Self:
        if self.macd_fast >= self.macd_slow:
            raise ValueError("macd_fast must be below macd_slow")
        return self


class WeightSettings(Section):
    """The weight of each fired indicator in the scores; 0 switches it off."""

    rsi: Weight = Field(Decimal(1), description="weight of RSI below or above its thresholds")
    macd: Weight = Field(Decimal(1), description="weight of a cross of MACD's histogram")
    bollinger: Weight = Field(Decimal(1), description="weight of a squeeze of the Bollinger band")
    volume: Weight = Field(Decimal(1), description="weight of a spike in volume")


class NamedIndicatorSettings(Section):
    """Any other indicator, by its name in pandas-ta: `[strategy.indicators.<name>]`."""

    pandas_ta: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="its function in pandas-ta, such as stoch")
    column: str | None = Field(None, description="the column to read if it has several; none: its first")
    parameters: dict[str, int | Threshold | str | bool] = Field(
        default_factory=dict, description="its own parameters, by name"
    )
    buy_below: Threshold | None = Field(None, description="a vote to buy below this value")
    buy_above: Threshold | None = Field(None, description="a vote to buy above this value")
    sell_below: Threshold | None = Field(None, description="a vote to sell below this value")
    sell_above: Threshold | None = Field(None, description="a vote to sell above this value")
    weight: Weight = Field(Decimal(1), description="its weight in the scores")
    trigger: Name | None = Field(
        None, description="the trigger that it buys by, a row of [triggers]; none: its own name"
    )

    @model_validator(mode="after")
    def _has_a_threshold(self) -> Self:
        if all(item is None for item in (self.buy_below, self.buy_above, self.sell_below, self.sell_above)):
            raise ValueError("give at least one of buy_below, buy_above, sell_below and sell_above, or it never fires")
        return self


class StrategySettings(Section):
    """The scheduled strategy run."""

    enabled: bool = Field(False, description="whether the schedule trades; the matrix is stored in any case")
    interval_s: Annotated[Seconds, AT_START] = Field(Decimal(300), description="market seconds between runs")
    offset_s: Annotated[Decimal, Field(ge=0, le=60), AT_START] = Field(
        Decimal(2),
        description="wall seconds that a run waits for the last trades of a candle; at most a tenth of the interval",
    )
    use: str = Field(
        "weighted",
        min_length=1,
        description="the strategy: weighted, a name of the entry point group bottrader.strategies, or module:Class or "
        "file.py:Class",
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="parameters of your own strategy")
    window: int = Field(300, ge=160, le=2000, description="number of candles for a run")
    buy_score: Score = Field(Decimal(1), description="minimum buy score to buy")
    sell_score: Score = Field(Decimal(1), description="minimum sell score to sell")
    multi_signal: int = Field(
        2, ge=2, le=20, description="number of fired indicators that makes the trigger multi_signal"
    )
    one_trade_per_trigger: bool = Field(
        True, description="whether a trigger does not buy a symbol again while its trade is open"
    )
    rsi_below: Percent = Field(Decimal(30), description="RSI below this is a vote to buy")
    rsi_above: Percent = Field(Decimal(70), description="RSI above this is a vote to sell")
    volume_multiple: Annotated[Decimal, Field(gt=1, le=100)] = Field(
        Decimal(2), description="a volume above this multiple of the average is a spike"
    )
    squeeze_tolerance_pct: Annotated[Decimal, Field(ge=0, le=100)] = Field(
        Decimal(5), description="a band at most this much wider than its narrowest is a squeeze, percent"
    )
    periods: IndicatorSettings = IndicatorSettings()
    weights: WeightSettings = WeightSettings()
    indicators: dict[Name, NamedIndicatorSettings] = Field(
        default_factory=dict, description="further indicators, by a name of your own"
    )

    @model_validator(mode="after")
    def _names_are_apart(self) -> Self:
        for name in self.indicators:
            if name in _BUILT_IN:
                raise ValueError(f"indicators.{name}: that is the name of a built-in indicator: give yours another")
        return self

    @model_validator(mode="after")
    def _sides_are_apart(self) -> Self:
        if self.rsi_below >= self.rsi_above:
            raise ValueError("rsi_below must be below rsi_above")
        return self

    @model_validator(mode="after")
    def _window_is_enough(self) -> Self:
        # As domain.indicators.Parameters.needs, which is not imported here: every command reads the settings.
        periods = self.periods
        needs = {
            "rsi": 4 * periods.rsi,
            "macd_slow": 3 * periods.macd_slow + periods.macd_signal,
            "squeeze": periods.bollinger + periods.squeeze - 1,
            "atr": 4 * periods.atr,
            "ema": 4 * periods.ema,
        }
        name, most = max(needs.items(), key=lambda item: item[1])
        if most > self.window:
            raise ValueError(f"window is too short: periods.{name} needs {most} candles")
        return self


class RocSettings(Section):
    """Momentum by rate of change, decided in the same run; its size and exits are those of [triggers.roc_momo]."""

    enabled: bool = Field(True, description="whether the strategy run also uses momentum")
    buy_pct: Percent = Field(Decimal("1.5"), description="a rise of this much over strategy.periods.roc buys")
    sell_pct: Percent | None = Field(
        Decimal("1.5"), description="a fall of this much over the same time is a sell signal; none: never"
    )
    volume_multiple: Annotated[Decimal, Field(ge=0, le=100)] = Field(
        Decimal(0), description="minimum volume of the newest candle, as a multiple of the average; 0: any"
    )
