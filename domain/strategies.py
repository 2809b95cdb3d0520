"""Strategies: small classes that look at one symbol's features and decide. The same class runs live and offline.

Your own strategy needs only `decide`:

    class BuyTheDip:
        def decide(self, features: Features) -> Decision:
            rsi = features.value("rsi")
            if rsi is None or rsi > 20:
                return hold(features.symbol, "not a dip")
            return Decision(features.symbol, Action.BUY, "rsi_oversold", 1.0, 0.0, fired=("rsi",))

Its decision must depend on the features alone: no clock, no randomness, no state kept between calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from domain.indicators import NAMES, Block, Floats, Parameters, Scan, scan
from domain.indicators_named import NamedIndicator, NamedReading, read_named, require_own_names
from domain.scoring import MULTI_SIGNAL, MULTI_SIGNAL_DOWN, Action, Decision, Part, hold, score_decimal
from domain.strategy_answers import MalformedError, checked, one_line

__all__ = [
    "BatchStrategy",
    "Features",
    "Look",
    "Strategy",
    "Weighted",
    "WeightedRules",
    "decide_all",
    "decide_over",
    "look_at",
]


@dataclass(frozen=True, slots=True)
class Look:
    """The input of a run: all its symbols with their indicators."""

    scan: Scan
    named: tuple[NamedReading, ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols, in the order of the rows."""
        return self.scan.block.symbols


def look_at(block: Block, parameters: Parameters | None = None, named: Sequence[NamedIndicator] = ()) -> Look:
    """Compute every indicator. Raises UnknownIndicatorError for a named one that doesn't exist or takes a name that is
    another's.
    """
    require_own_names(named)
    found = scan(block, parameters)
    return Look(found, read_named(found, named) if named else ())


@dataclass(frozen=True, slots=True)
class Features:
    """A strategy's input for one symbol: closed candles without a gap, oldest first, and the indicators' readings."""

    look: Look
    row: int

    @property
    def symbol(self) -> str:
        """The product."""
        return self.look.symbols[self.row]

    @property
    def close(self) -> Floats:
        """Closes, quote per base."""
        return self._run(self.look.scan.block.close)

    @property
    def open(self) -> Floats:
        """Opens, quote per base."""
        return self._run(self.look.scan.block.open)

    @property
    def high(self) -> Floats:
        """Highs, quote per base."""
        return self._run(self.look.scan.block.high)

    @property
    def low(self) -> Floats:
        """Lows, quote per base."""
        return self._run(self.look.scan.block.low)

    @property
    def volume(self) -> Floats:
        """Volumes, base."""
        return self._run(self.look.scan.block.volume)

    def value(self, name: str) -> float | None:
        """An indicator's newest reading, None if it has none. Raises KeyError for an unknown name."""
        value = float(self._column(name)[self.row])
        return None if math.isnan(value) else value

    def why(self, name: str) -> str:
        """Why an indicator has no reading; empty if it has one. Raises KeyError like `value`."""
        if self.value(name) is not None:
            return ""
        for reading in self.look.named:
            if reading.indicator.name == name:
                return reading.why[self.row]
        return self.look.scan.why_not(name, self.row)

    def _column(self, name: str) -> Floats:
        for reading in self.look.named:
            if reading.indicator.name == name:
                return reading.values
        return self.look.scan.values[name]

    def _run(self, values: Floats) -> Floats:
        there = int(self.look.scan.clean[self.row])
        return values[self.row, values.shape[1] - there :]


class Strategy(Protocol):
    """Decides for one symbol."""

    def decide(self, features: Features) -> Decision:
        """The decision for one symbol."""
        ...


@runtime_checkable
class BatchStrategy(Protocol):
    """A strategy that decides for all symbols in one call, with the same results as `decide`."""

    def decide_rows(self, look: Look) -> list[Decision]:
        """A decision for each row of the look."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedRules:
    """Thresholds and weights of the built-in strategy."""

    weights: Mapping[str, float] = field(
        default_factory=lambda: {"rsi": 1.0, "macd": 1.0, "bollinger": 1.0, "volume": 1.0}
    )
    rsi_below: float = 30.0
    rsi_above: float = 70.0
    volume_multiple: float = 2.0
    squeeze_tolerance: float = 0.05
    """A band at most this much wider than its narrowest counts as a squeeze; a fraction."""
    buy_from: float = 1.0
    """The minimum score to buy."""
    sell_from: float = 1.0
    multi_signal: int = 2
    """This many fired indicators make a trigger of their own."""


_TRIGGERS: Final[Mapping[str, tuple[str, str]]] = {
    # indicator → trigger of a buy, and its sell-side twin
    "rsi": ("rsi_oversold", "rsi_overbought"),
    "macd": ("macd_cross", "macd_cross_down"),
    "bollinger": ("bb_squeeze", "bb_squeeze_down"),
    "volume": ("volume_spike", "volume_spike_down"),
}


class Weighted:
    """The built-in strategy: fired indicators vote with their weights; both sides by the same rules (ENTRY).

    rsi: below / above its thresholds. macd: the histogram crosses zero. bollinger: a squeeze, with the close above /
    below the middle. volume: a multiple of the average, with a candle that rises / falls. Named indicators by their own
    thresholds. The side whose score reaches its threshold acts; if both do, nothing is done.
    """

    def __init__(self, rules: WeightedRules | None = None) -> None:
        self.rules = rules or WeightedRules()

    def decide(self, features: Features) -> Decision:
        """The decision from one symbol's indicators."""
        return self._decide(features.look, np.array([features.row]))[0]

    def decide_rows(self, look: Look) -> list[Decision]:
        """The same for all symbols at once."""
        return self._decide(look, np.arange(len(look.symbols)))

    def _decide(self, look: Look, rows: NDArray[np.int64]) -> list[Decision]:
        ballot = _Ballot(look, rows, self.rules)
        buy, sell = ballot.scores()
        return [self._row(ballot, at, float(buy[at]), float(sell[at])) for at in range(len(rows))]

    def _row(self, ballot: _Ballot, at: int, buy: float, sell: float) -> Decision:
        rules, symbol = self.rules, ballot.symbols[at]
        parts = ballot.parts(at)
        if not buy and not sell:
            return Decision(symbol, Action.HOLD, None, 0.0, 0.0, parts, (), "no indicator fired")
        wants_buy, wants_sell = buy >= rules.buy_from, sell >= rules.sell_from
        if wants_buy and wants_sell:
            fired = tuple(name for name, part in parts.items() if part.fired)
            return Decision(symbol, Action.HOLD, None, buy, sell, parts, fired, "buying and selling contradict")
        if not wants_buy and not wants_sell:
            fired = tuple(name for name, part in parts.items() if part.fired)
            return Decision(symbol, Action.HOLD, None, buy, sell, parts, fired, "the scores are too low")
        sign = 1.0 if wants_buy else -1.0
        votes = {name: sign * part.contribution for name, part in parts.items() if sign * part.contribution > 0}
        strongest = max(votes, key=lambda name: votes[name])
        several = len(votes) >= rules.multi_signal
        if wants_buy:
            trigger = MULTI_SIGNAL if several else ballot.triggers[strongest][0]
            return Decision(symbol, Action.BUY, trigger, buy, sell, parts, tuple(votes))
        trigger = MULTI_SIGNAL_DOWN if several else ballot.triggers[strongest][1]
        return Decision(symbol, Action.SELL, trigger, buy, sell, parts, tuple(votes))


class _Ballot:
    """Every indicator's contribution for some rows: plus for a buy, minus for a sell."""

    def __init__(self, look: Look, rows: NDArray[np.int64], rules: WeightedRules) -> None:
        found, self._rows = look.scan, rows.tolist()
        self._scan = found
        self.symbols = [look.symbols[row] for row in self._rows]
        self.triggers: dict[str, tuple[str, str]] = dict(_TRIGGERS)
        values = {name: found.values[name][rows] for name in NAMES}
        votes = _votes(found, values, rows, rules)
        self._why: dict[str, Sequence[str]] = {}
        self._weights = {name: float(rules.weights.get(name, 0.0)) for name in NAMES}
        for reading in look.named:
            indicator = reading.indicator
            values[indicator.name] = reading.values[rows]
            votes[indicator.name] = np.array([_named_vote(indicator, value) for value in values[indicator.name]])
            self._weights[indicator.name] = indicator.weight
            self._why[indicator.name] = reading.why
            self.triggers[indicator.name] = (indicator.buys_as, indicator.sells_as)
        self._names = list(values)
        zero = np.zeros(len(rows))
        self._contributions = np.array(
            [votes[name] * self._weights[name] if name in votes else zero for name in self._names]
        )
        self._values = [values[name].tolist() for name in self._names]
        self._listed = self._contributions.tolist()

    def scores(self) -> tuple[Floats, Floats]:
        """Buy and sell score of each row."""
        contributions = self._contributions
        return np.maximum(contributions, 0.0).sum(axis=0), np.maximum(-contributions, 0.0).sum(axis=0)

    def parts(self, at: int) -> dict[str, Part]:
        """A row's part of every indicator."""
        found: dict[str, Part] = {}
        for name, values, contributions in zip(self._names, self._values, self._listed, strict=True):
            value, contribution = values[at], contributions[at]
            if value == value:  # only NaN differs from itself; math.isnan takes twice as long
                found[name] = Part(value, contribution != 0.0, self._weights[name], contribution)
            else:
                row = self._rows[at]
                why = self._why[name][row] if name in self._why else self._scan.why_not(name, row)
                found[name] = Part(None, False, self._weights[name], 0.0, why)
        return found


def _votes(found: Scan, values: Mapping[str, Floats], rows: NDArray[np.int64], rules: WeightedRules) -> dict[str, Any]:
    """Per indicator 0 where it didn't fire, else 1…2 with the sign of the side. NaN compares false: it never fires."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rsi = values["rsi"]
        low, high = rules.rsi_below, rules.rsi_above
        past_rsi = np.where(rsi < low, (low - rsi) / low, np.where(rsi > high, (rsi - high) / (100 - high), 0.0))
        rsi_side = (rsi < low) * 1.0 - (rsi > high) * 1.0

        now, before = values["macd"], found.macd_before[rows]
        macd_side = ((now > 0) & (before <= 0)) * 1.0 - ((now < 0) & (before >= 0)) * 1.0
        # A cross is as strong as its histogram in ATRs.
        close = found.block.close[rows, -1]
        past_macd = np.nan_to_num(np.abs(now) / (values["atr"] / 100 * close), nan=0.0, posinf=0.0)

        place = found.band_place[rows]
        squeezed = found.tightness[rows] <= 1 + rules.squeeze_tolerance
        band_side = np.where(squeezed, np.sign(np.nan_to_num(place)), 0.0)

        volume = values["volume"]
        spike = np.where(volume > rules.volume_multiple, np.sign(np.nan_to_num(found.body[rows])), 0.0)
        past_volume = volume / rules.volume_multiple - 1
    return {
        "rsi": _vote(rsi_side, past_rsi),
        "macd": _vote(macd_side, past_macd),
        "bollinger": _vote(band_side, np.abs(place)),
        "volume": _vote(spike, past_volume),
    }


def _vote(side: Floats, excess: Floats) -> Floats:
    return np.where(side != 0, side * (1 + np.clip(np.nan_to_num(excess), 0.0, 1.0)), 0.0)


def _named_vote(indicator: NamedIndicator, value: float) -> float:
    if math.isnan(value):
        return 0.0
    buys, sells = indicator.buys(value), indicator.sells(value)
    if buys is not None and sells is not None:
        return 0.0  # thresholds that overlap say nothing
    return 1 + buys if buys is not None else -(1 + sells) if sells is not None else 0.0


def decide_all(look: Look, strategies: Sequence[Strategy]) -> list[Decision]:
    """One decision for each symbol: the one with the highest score, with the parts from all strategies.

    The first strategy in the list that doesn't hold determines the side, because scores of the two sides are not
    comparable; of all on that side the highest score decides, of equal ones the first. The reason names the decisions
    it was preferred to. Its scores are the sums of its parts' contributions: indicators that only another strategy used
    have weight 0. If a strategy raises, it holds that symbol, with the error as the reason.
    """
    by_strategy = [_decisions(look, strategy) for strategy in strategies]
    return [_highest_of(options) for options in zip(*by_strategy, strict=True)]


def _decisions(look: Look, strategy: Strategy) -> list[Decision]:
    if isinstance(strategy, BatchStrategy):
        return strategy.decide_rows(look)
    return [_safely(strategy, Features(look, row)) for row in range(len(look.symbols))]


def _safely(strategy: Strategy, features: Features) -> Decision:
    name = type(strategy).__name__
    try:
        return checked(strategy.decide(features), features.symbol)
    except MalformedError as flaw:
        return hold(features.symbol, one_line(f"{name} returned {flaw}"))
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - somebody else's code must not end the run for the others
        return hold(features.symbol, one_line(f"{name} failed: {type(problem).__name__}: {problem}"))


def _highest_of(options: Sequence[Decision]) -> Decision:
    if len(options) == 1:
        return options[0]
    acting = [option for option in options if option.action is not Action.HOLD]
    agreeing = [option for option in acting if option.action is acting[0].action]
    chosen = max(agreeing, key=_score, default=options[0])  # the first of equal ones
    parts: dict[str, Part] = {}
    for option in options:
        if option is not chosen:
            for name, part in option.parts.items():
                parts[name] = _without_vote(part, fired=name in parts and parts[name].fired)
    # What fired for another strategy fired, although the one that decided gave it no weight.
    parts.update(
        (name, part._replace(fired=True) if not part.weight and name in parts and parts[name].fired else part)
        for name, part in chosen.parts.items()
    )
    return chosen._replace(parts=parts, reason=_with_others(chosen, acting))


def _score(decision: Decision) -> Decimal:
    """The score that ranks an action, exactly as stored."""
    return score_decimal(decision.buy_score if decision.action is Action.BUY else decision.sell_score)


def _with_others(chosen: Decision, acting: Sequence[Decision]) -> str:
    """The decision's reason, with the decisions it was preferred to and why."""
    others = [option for option in acting if option is not chosen]
    if not others:
        return chosen.reason
    before = []
    for other in others:
        later = ", listed later" if other.action is chosen.action and _score(other) == _score(chosen) else ""
        if other.action is not chosen.action:
            later = f", listed later than {acting[0].trigger}"
        before.append(f"{other.trigger} ({other.action}, score {_score(other)}{later})")
    told = f"{chosen.trigger} (score {_score(chosen)}) was preferred to {', '.join(before)}"
    return one_line(f"{chosen.reason}; {told}" if chosen.reason else told)


def _without_vote(part: Part, *, fired: bool) -> Part:
    """A reading of another strategy and whether it fired; it contributes nothing to this one's scores."""
    return part._replace(fired=part.fired or fired, weight=0.0, contribution=0.0)


def decide_over(
    block: Block,
    strategies: Sequence[Strategy],
    *,
    window: int,
    parameters: Parameters | None = None,
    named: Sequence[NamedIndicator] = (),
    at_once: int = 512,
) -> Iterator[tuple[int, Decision]]:
    """Offline: the decision at each candle's close, from `window` candles as in a live run.

    Yields `(candle, decision)` for one symbol, oldest first. Raises ValueError if there are fewer candles than that.
    """
    rolled = block.windows(window)
    for first in range(0, len(rolled.symbols), at_once):
        rows = slice(first, first + at_once)
        columns = (item[rows] for item in (rolled.open, rolled.high, rolled.low, rolled.close, rolled.volume))
        part = Block(rolled.symbols[rows], *columns)
        for offset, decision in enumerate(decide_all(look_at(part, parameters, named), strategies)):
            yield first + offset + window - 1, decision
