"""Settings: how positions are left and protected, and what an entry of each trigger looks like."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from workers.settings.problems import Problem
from workers.settings.types import AT_START, Multiple, OrderType, Percent, Seconds, Section, Size, Source, Unit

__all__ = ["DEFAULT_TRIGGERS", "ExitOverrides", "ExitSettings", "TriggerSettings", "size_problems"]

Gain = Annotated[Decimal, Field(ge=0, lt=100, decimal_places=12), Unit("percent")]
_AS_IN_EXITS: Any = Field(None, description="as in [exits]")


class ExitOverrides(Section):
    """A trigger's own exit rules; missing ones come from `[exits]`."""

    hard_stop_pct: Percent | None = _AS_IN_EXITS
    soft_stop_pct: Percent | None = _AS_IN_EXITS
    trailing_arm_pct: Percent | None = _AS_IN_EXITS
    trailing_atr_multiple: Multiple | None = _AS_IN_EXITS
    trailing_min_distance_pct: Percent | None = _AS_IN_EXITS
    trailing_max_distance_pct: Percent | None = _AS_IN_EXITS
    trailing_step_atr: Multiple | None = _AS_IN_EXITS
    take_profit_pct: Percent | None = _AS_IN_EXITS
    take_profit_enabled: bool | None = _AS_IN_EXITS
    take_profit_atr_multiple: Multiple | None = _AS_IN_EXITS
    signal_exit_enabled: bool | None = _AS_IN_EXITS
    signal_exit_after_fees: bool | None = _AS_IN_EXITS
    signal_exit_min_gain_pct: Gain | None = _AS_IN_EXITS
    signal_exit_by_hand: bool | None = _AS_IN_EXITS


class ExitSettings(Section):
    """How a position is exited. Losses are positive percentages of the entry price."""

    hard_stop_pct: Percent = Field(Decimal(5), description="loss at which a MARKET exit is due")
    soft_stop_pct: Percent = Field(Decimal("2.5"), description="loss at which a LIMIT exit is due")
    trailing_arm_pct: Percent = Field(Decimal("3.5"), description="gain at which the trailing stop arms")
    trailing_atr_multiple: Multiple = Field(Decimal(2), description="trailing distance in ATR")
    trailing_min_distance_pct: Percent = Field(Decimal(1), description="minimum trailing distance, percent of price")
    trailing_max_distance_pct: Percent = Field(Decimal(2), description="maximum trailing distance, percent of price")
    trailing_step_atr: Multiple = Field(Decimal("0.5"), description="the stop is raised in steps of this many ATR")
    atr_period: Annotated[int, AT_START] = Field(14, ge=2, le=200, description="candles in the ATR")
    atr_candle_minutes: Annotated[Literal[1, 5, 15, 30, 60], AT_START] = Field(
        5, description="length of those candles, minutes"
    )
    take_profit_pct: Percent = Field(Decimal("2.5"), description="gain at which a LIMIT exit is due, if enabled")
    take_profit_enabled: bool = Field(False, description="whether take profit is used at all")
    take_profit_atr_multiple: Multiple | None = Field(
        None,
        description="that gain in ATRs, with the ATR at the first fill; none, or while no ATR is known: "
        "take_profit_pct",
    )
    signal_exit_enabled: bool = Field(
        True, description="whether the strategy's sell signal may close a trade that is not losing"
    )
    signal_exit_after_fees: bool = Field(
        True, description="whether not losing means after the fees of both sides; false: before fees"
    )
    signal_exit_min_gain_pct: Gain = Field(
        Decimal(0), description="minimum gain, measured that way, at which a sell signal may close a trade"
    )
    signal_exit_by_hand: bool = Field(
        False, description="whether a sell signal may also close trades that a person entered"
    )
    signal_max_age_s: Annotated[Seconds, AT_START] = Field(
        Decimal(600), description="older buy/sell matrices are ignored (two runs)"
    )
    limit_offset_pct: Annotated[Decimal, Field(ge=0, lt=10, decimal_places=12), Unit("percent")] = Field(
        Decimal("0.01"), description="a LIMIT exit is this far above the best bid, rounded up to the tick"
    )
    reprice_interval_s: Seconds = Field(Decimal(5), description="a LIMIT exit is re-priced after this long")
    max_reprices: int = Field(5, ge=0, le=50, description="re-pricings before MARKET (stops) or giving up (profits)")
    price_stale_after_s: Seconds = Field(Decimal(120), description="wall seconds after which a price decides nothing")
    retry_backoff_max_s: Seconds = Field(
        Decimal(60), description="longest wait before a refused exit is tried again; a stop's is 5 for two minutes"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.soft_stop_pct >= self.hard_stop_pct:
            raise ValueError("soft_stop_pct must be below hard_stop_pct, or the soft stop never acts")
        if self.trailing_min_distance_pct > self.trailing_max_distance_pct:
            raise ValueError("trailing_min_distance_pct must not be above trailing_max_distance_pct")
        return self

    def with_overrides(self, overrides: ExitOverrides) -> "ExitSettings":
        """These rules with a trigger's own applied. Raises pydantic's ValidationError if they contradict each other."""
        return ExitSettings(**{**self.model_dump(), **overrides.model_dump(exclude_none=True)})


class ProtectionSettings(Section):
    """The protective order that rests at the exchange after a trigger's entry, in case this machine fails."""

    kind: Literal["none", "stop_limit", "bracket"] = Field(
        "none", description="a stop-limit, or a bracket: target and stop, of which only one fills"
    )
    stop_pct: Percent | None = Field(
        None, description="loss at which it sells, before costs and swings are added; none: the trigger's hard stop"
    )
    take_profit_pct: Percent | None = Field(
        None, description="gain of a bracket's target; none: the trigger's take profit"
    )
    limit_offset_pct: Annotated[Decimal, Field(ge=0, lt=50, decimal_places=12), Unit("percent")] = Field(
        Decimal(1), description="a stop-limit may sell this far below its stop"
    )
    failsafe_on_sltp_error: bool = Field(False, description="whether notices of failures recommend actions")
    tries: int = Field(5, ge=1, le=20, description="tries before only monitored exits remain")


class TriggerSettings(Section):
    """The entries of one trigger: size, order style, expiry, and its own exit rules."""

    size_quote: Size | None = Field(None, description="amount to spend, in quote currency (USD)")
    size_base: Size | None = Field(None, description="amount to buy, in base currency; instead of size_quote")
    size_pct: Annotated[Decimal, Field(gt=0, le=100, decimal_places=12), Unit("percent")] | None = Field(
        None, description="share of the account's value to spend, percent; instead of size_quote"
    )
    order_type: OrderType = Field("LIMIT_POST_ONLY", description="how the entry is placed")
    expiry_s: Seconds = Field(Decimal(300), description="an entry not filled by then is cancelled")
    valid_s: Seconds = Field(Decimal(60), description="a decision older than this is dropped, not sent")
    source: Source = Field("sighook", description="the source recorded with its orders")
    exits: ExitOverrides = ExitOverrides()
    protection: ProtectionSettings = ProtectionSettings()

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if [self.size_quote, self.size_base, self.size_pct].count(None) != 2:
            raise ValueError("exactly one of size_quote, size_base and size_pct must be given")
        return self


DEFAULT_TRIGGERS: Mapping[str, Mapping[str, Any]] = {
    "rsi_oversold": {"size_quote": "100"},
    "macd_cross": {"size_quote": "120"},
    "bb_squeeze": {"size_quote": "80"},
    "volume_spike": {"size_quote": "60"},
    "multi_signal": {"size_quote": "150"},
    "roc_momo": {"size_quote": "200", "exits": {"take_profit_pct": "4", "take_profit_enabled": True}},
    "passive_mm": {"size_quote": "50", "expiry_s": "60"},
    "manual": {"size_quote": "100", "order_type": "LIMIT", "source": "manual"},
    "webhook": {"size_quote": "100", "order_type": "MARKET"},
}
"""Entry triggers out of the box; a file's `[triggers.<name>]` changes or adds to them."""


def size_problems(triggers: Mapping[str, TriggerSettings]) -> Iterator[Problem]:
    """A share of the account as the size of quotes, which are made without a look at it."""
    quotes = triggers.get("passive_mm")
    if quotes is not None and quotes.size_pct is not None:
        clause = "can't be used: quotes have a size_quote or a size_base of their own"
        yield ("triggers", "passive_mm", "size_pct"), None, clause
