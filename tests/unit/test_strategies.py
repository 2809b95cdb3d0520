"""Scores and decisions: every contribution is kept, both sides have the same rules, offline equals live."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import talib
from hypothesis import given
from hypothesis import strategies as st

from activities.strategy.loading import StrategyError, load_strategy
from domain.indicators import Block
from domain.indicators_named import NamedIndicator, UnknownIndicatorError
from domain.momentum import RocMomentum, RocRules
from domain.scoring import Action, Decision, Part, linkage_of, score_decimal
from domain.strategies import Features, Strategy, Weighted, WeightedRules, decide_all, decide_over, look_at
from tests.support.candles import COLUMNS, market_candles
from tests.unit.test_indicators import flat, holed

WEIGHTED = (Weighted(),)
BOTH = (Weighted(), RocMomentum())


def tale(closes: list[float], volumes: list[float] | None = None) -> Block:
    """A symbol whose candles open at the previous close and go straight to their own."""
    close = np.array([closes])
    opened = np.concatenate([close[:, :1], close[:, :-1]], axis=1)
    volume = np.array([volumes or [1.0] * len(closes)])
    return Block(("BTC-USD",), opened, np.maximum(opened, close), np.minimum(opened, close), close, volume)


def waves(count: int, height: float = 1.0) -> list[float]:
    """A market that oscillates around 100, so that RSI is near its middle and bands are wide."""
    return [100 + height * np.sin(number / 3) for number in range(count)]


def only(block: Block, strategies: tuple[Strategy, ...] = WEIGHTED, **more: Any) -> Decision:
    """The decision on the block's one symbol."""
    (decision,) = decide_all(look_at(block, **more), strategies)
    return decision


def mirrored(block: Block) -> Block:
    """The market inverted, so that every signal becomes that of the sell side."""
    turn = 200.0
    return Block(
        block.symbols, turn - block.open, turn - block.low, turn - block.high, turn - block.close, block.volume
    )


def up_to_its_cross(block: Block) -> Block:
    """The block until MACD's histogram turns positive in its last candles."""
    histogram = talib.MACD(block.close[0])[2]
    at = next(at for at in range(290, block.candles) if histogram[at - 1] <= 0 < histogram[at])
    return Block(block.symbols, *(getattr(block, name)[:, : at + 1] for name in COLUMNS))


FALL = tale([*waves(280), *np.linspace(100, 90, 20)])
CROSS = up_to_its_cross(tale([*waves(250, 0.3), *np.linspace(100, 96, 45), *np.linspace(96, 98, 15)]))
SPIKE = tale([*waves(299), 100.6], [*[1.0] * 299, 5.0])
SQUEEZE = tale([*waves(260, 3.0), *(100 + 0.02 * np.sin(np.arange(39))), 100.02])


@pytest.mark.parametrize(
    ("block", "indicator", "buys", "sells"),
    [
        (FALL, "rsi", "rsi_oversold", "rsi_overbought"),
        (CROSS, "macd", "macd_cross", "macd_cross_down"),
        (SPIKE, "volume", "volume_spike", "volume_spike_down"),
        (SQUEEZE, "bollinger", "bb_squeeze", "bb_squeeze_down"),
    ],
)
def test_each_trigger_and_its_twin(block: Block, indicator: str, buys: str, sells: str) -> None:
    """A market made for one indicator buys by its trigger; the same market inverted sells by the opposite trigger."""
    alone = (Weighted(WeightedRules(weights={indicator: 1.0})),)
    up, down = only(block, alone), only(mirrored(block), alone)
    assert (up.action, up.trigger, up.fired) == (Action.BUY, buys, (indicator,))
    assert (down.action, down.trigger, down.fired) == (Action.SELL, sells, (indicator,))
    assert up.parts[indicator].contribution == up.buy_score >= 1
    assert down.parts[indicator].contribution == -down.sell_score <= -1


def test_several_fired_indicators_are_a_trigger_of_their_own() -> None:
    """RSI and a rising candle on five times the volume: multi_signal, unless more are required."""
    block = tale([*waves(280), *np.linspace(100, 90, 19), 90.2], [*[1.0] * 299, 5.0])
    decision = only(block)
    assert (decision.action, decision.trigger, set(decision.fired)) == (Action.BUY, "multi_signal", {"rsi", "volume"})
    assert decision.buy_score == pytest.approx(sum(part.contribution for part in decision.parts.values()))
    strict = only(block, (Weighted(WeightedRules(multi_signal=3)),))
    assert strict.trigger in {"rsi_oversold", "volume_spike"}
    strongest = max(("rsi", "volume"), key=lambda name: strict.parts[name].contribution)
    assert strict.trigger == {"rsi": "rsi_oversold", "volume": "volume_spike"}[strongest]


def test_both_sides_at_once_are_a_hold_with_the_reason() -> None:
    """A falling candle with volume and an oversold RSI: nothing is done, and the scores are the reason."""
    decision = only(tale([*waves(280), *np.linspace(100, 90, 20)], [*[1.0] * 299, 5.0]))
    assert (decision.action, decision.trigger) == (Action.HOLD, None)
    assert decision.reason == "buying and selling contradict"
    assert decision.buy_score >= 1 <= decision.sell_score


def test_scores_below_their_threshold_do_nothing() -> None:
    """Fired indicators are kept with their contributions, but a score of two does not reach the threshold."""
    decision = only(FALL, (Weighted(WeightedRules(buy_from=2.5)),))
    assert (decision.action, decision.fired, decision.reason) == (Action.HOLD, ("rsi",), "the scores are too low")


def test_an_indicator_without_a_value_never_fires_and_says_why() -> None:
    """A gap, a flat market, a new product: a hold with a reason for each indicator."""
    for block in (flat(), holed(FALL, 1), tale(waves(5)), holed(FALL, 10)):
        decision = only(block, BOTH)
        assert decision.action is Action.HOLD
        silent = {name: part for name, part in decision.parts.items() if part.value is None}
        assert {"rsi", "macd", "bollinger"} <= set(silent)
        assert all(part.why and not part.fired and part.contribution == 0 for part in silent.values())


def test_momentum_buys_with_the_rate_of_change_as_its_score() -> None:
    """A rise of two percent in an hour buys; a fall sells; too little volume holds."""
    rise = tale([*waves(288, 0.01), *np.linspace(100, 102.2, 12)])
    decision = only(rise, (Weighted(WeightedRules(weights={})), RocMomentum()))
    assert (decision.action, decision.trigger, decision.fired) == (Action.BUY, "roc_momo", ("roc",))
    assert decision.buy_score == pytest.approx(100 * (rise.close[0, -1] / rise.close[0, -13] - 1))
    assert set(decision.parts) >= {"rsi", "macd", "roc"}
    down = only(mirrored(rise), (RocMomentum(),))
    assert (down.action, down.trigger) == (Action.SELL, "roc_momo_down")
    assert only(mirrored(rise), (RocMomentum(RocRules(sell_from=None)),)).action is Action.HOLD
    thin = only(rise, (RocMomentum(RocRules(volume_from=2.0)),))
    assert (thin.action, thin.reason) == (Action.HOLD, "momentum without volume")


def test_the_first_strategy_that_acts_says_whether_to_buy_or_to_sell() -> None:
    """Scores of the two sides aren't compared; the reason names the overruled decision; all parts are kept."""
    rise = tale([*waves(280), *np.linspace(100, 110, 20)])
    decision, other = only(rise, BOTH), only(rise, BOTH[::-1])
    assert (decision.trigger, other.trigger) == ("rsi_overbought", "roc_momo")
    sold, bought = score_decimal(decision.sell_score), score_decimal(other.buy_score)
    assert decision.reason == (
        f"rsi_overbought (score {sold}) was preferred to roc_momo (buy, score {bought}, listed later than "
        f"rsi_overbought)"
    )
    assert set(decision.parts) == set(other.parts) >= {"rsi", "macd", "roc"}


actions = st.tuples(st.sampled_from(Action), st.integers(1, 3), st.integers(1, 3))


@given(st.lists(actions, min_size=1, max_size=5))
def test_the_highest_score_decides_and_of_equal_ones_the_first(given: list[tuple[Action, int, int]]) -> None:
    """Among strategies with the same action as the first that acts (RISK-6); the reason names all others that act."""
    answers = [
        dip(action=action, trigger=None if action is Action.HOLD else f"t{place}", buy_score=buy, sell_score=sell)
        for place, (action, buy, sell) in enumerate(given)
    ]
    decision = only(FALL, tuple(_Answers(answer) for answer in answers))
    acting = [answer for answer in answers if answer.action is not Action.HOLD]
    if not acting:
        assert decision.action is Action.HOLD
        return
    assert decision.action is acting[0].action

    def score(answer: Decision) -> float:
        return answer.buy_score if answer.action is Action.BUY else answer.sell_score

    agreeing = [answer for answer in acting if answer.action is decision.action]
    equal = [answer for answer in agreeing if score(answer) == max(map(score, agreeing))]
    assert decision.trigger == equal[0].trigger
    for other in acting:
        assert (f"{other.trigger} (" in decision.reason) == (len(acting) > 1)
    assert decision.reason.count("listed later)") == len(equal) - 1


@pytest.mark.parametrize("strategies", [BOTH, BOTH[::-1]])
def test_scores_are_the_sums_of_what_is_stored_beside_them(strategies: tuple[Strategy, ...]) -> None:
    """For any deciding strategy: indicators that only another one used add nothing, but are reported as fired."""
    rules = (Weighted(WeightedRules(buy_from=1.5)), RocMomentum(RocRules(buy_from=0.4, sell_from=0.4)))
    chosen = rules if strategies is BOTH else rules[::-1]
    seen = Counter[str]()
    for _, decision in decide_over(market_candles(600, 3_000), chosen, window=300):
        parts = decision.parts.values()
        assert sum(max(part.contribution, 0.0) for part in parts) == pytest.approx(decision.buy_score)
        assert sum(max(-part.contribution, 0.0) for part in parts) == pytest.approx(decision.sell_score)
        assert all(decision.parts[name].fired for name in decision.fired)
        seen[decision.trigger or "hold"] += any(part.fired and not part.contribution for part in parts)
    assert sum(seen.values()), "some rows have an indicator that fired for another strategy"


def test_a_name_of_your_own_is_no_other_indicator_s() -> None:
    """A named indicator `rsi` would replace RSI: the run is refused, with what to do."""
    mine = NamedIndicator(name="rsi", pandas_ta="cci", buy_below=-100)
    with pytest.raises(UnknownIndicatorError, match="there is already an indicator rsi"):
        look_at(FALL, None, (mine,))
    twice = NamedIndicator(name="mine", pandas_ta="cci", buy_below=-100)
    with pytest.raises(UnknownIndicatorError, match="already an indicator mine"):
        look_at(FALL, None, (twice, twice))


def test_a_named_indicator_votes_by_its_own_thresholds() -> None:
    """Below its threshold it buys by its own name or the given trigger."""
    stoch = NamedIndicator(name="stoch", pandas_ta="stoch", buy_below=20, sell_above=80, weight=2.0)
    quiet = (Weighted(WeightedRules(weights={})),)
    decision = only(FALL, quiet, named=(stoch,))
    assert (decision.trigger, decision.fired, decision.parts["stoch"].weight) == ("stoch", ("stoch",), 2.0)
    assert 2 < decision.buy_score <= 4
    assert only(mirrored(FALL), quiet, named=(stoch,)).trigger == "stoch_down"
    both_ways = NamedIndicator(name="x", pandas_ta="stoch", buy_below=50, sell_below=50)
    assert only(FALL, quiet, named=(both_ways,)).action is Action.HOLD


class _Raises:
    def decide(self, features: Features) -> Decision:
        raise KeyError(features.symbol)


class _Exits:
    def decide(self, features: Features) -> Decision:
        raise SystemExit(3)


class _Answers:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def decide(self, features: Features) -> Decision:
        return self._answer  # type: ignore[no-any-return]


FIRED = Part(25.0, True, 1.0, 1.0)


def dip(**changed: Any) -> Decision:
    """A valid answer about the one symbol of these tests, except for the changes."""
    return Decision("BTC-USD", Action.BUY, "rsi_oversold", 1.0, 0.0)._replace(**changed)


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        (_Raises(), "_Raises failed: KeyError"),
        (_Answers("buy"), "not a Decision"),
        (_Exits(), "_Exits failed: SystemExit: 3"),
        (_Answers(dip(symbol="DOGE-USD")), "for DOGE-USD, but was asked about BTC-USD"),
        (_Answers(dip(action="buy")), "the action 'buy'"),
        (_Answers(dip(trigger=None)), "without naming a trigger"),
        (_Answers(dip(trigger="x" * 5000)), "a trigger that is not"),
        (_Answers(dip(buy_score=float("nan"))), "not a number"),
        (_Answers(dip(buy_score=None)), "not a number"),
        (_Answers(dip(buy_score=1e300)), "a score above"),
        (_Answers(dip(sell_score=-1.0)), "a score below 0"),
        (_Answers(dip(parts={"rsi": 3.0})), "parts that are not"),
        (_Answers(dip(parts={"rsi": Part(float("inf"), True, 1.0, 1.0)})), "a value of rsi that is not a number"),
        (_Answers(dip(fired="rsi")), "`fired` that is not"),
        (_Answers(dip(fired=(3,))), "the name of an indicator"),
        (_Answers(dip(parts={"rsi": FIRED}, fired=("roc",))), "`fired` with roc"),
        (_Answers(dip(parts={"rsi": FIRED._replace(fired=False)}, fired=("rsi",))), "`fired` with rsi"),
        (_Answers(dip(buy_score=0.0, sell_score=9.0)), "no score for it and 9 against it"),
        (_Answers(dip(buy_score=5.0, parts={"rsi": FIRED}, fired=("rsi",))), "5 for buying, where its parts come to 1"),
        (_Answers(dip(parts={"rsi": FIRED._replace(contribution=-3.0)})), "1 for buying, where its parts come to 0"),
        (_Answers(dip(sell_score=9.0, parts={"rsi": FIRED})), "9 for selling, where its parts come to 0"),
        (_Answers(dip(parts={"rsi": FIRED, "roc": FIRED._replace(fired=False)})), "contribution of roc, which did not"),
    ],
)
def test_a_strategy_that_misbehaves_holds_its_symbol(strategy: Strategy, reason: str) -> None:
    """A user's strategy never ends the run, trades only symbols that it named, and its error is reported."""
    decision = only(FALL, (strategy,))
    assert decision.action is Action.HOLD
    assert reason in decision.reason
    assert len(decision.reason) <= 300


def test_what_a_strategy_answers_is_stored_as_plain_numbers_and_one_line() -> None:
    """Other types of numbers are converted, and a text that no database would accept is made valid."""
    part = Part(np.float32(21.5), np.bool_(True), 1, Decimal("1.5"))  # type: ignore[arg-type]
    answer = dip(buy_score=Decimal("1.5"), sell_score=0, parts={"rsi": part}, fired=["rsi"], reason="a\x00b\n" * 500)
    decision = only(FALL, (_Answers(answer),))
    assert decision[:5] == ("BTC-USD", Action.BUY, "rsi_oversold", 1.5, 0.0)
    assert decision.parts == {"rsi": Part(21.5, True, 1.0, 1.5)}
    assert decision.fired == ("rsi",)
    assert decision.reason.startswith("a b a b")
    assert len(decision.reason) == 300


def test_an_indicator_that_fired_is_named_once() -> None:
    """A name that a strategy returns three times is stored and reported once."""
    decision = only(FALL, (_Answers(dip(parts={"rsi": FIRED}, fired=("rsi",) * 3)),))
    assert (decision.action, decision.fired) == (Action.BUY, ("rsi",))


def test_features_are_what_the_documentation_says() -> None:
    """A user's strategy gets the unbroken run of candles, readings, and the reason for missing ones."""
    features = Features(look_at(holed(FALL, 31)), 0)
    assert (features.symbol, len(features.close), len(features.volume)) == ("BTC-USD", 30, 30)
    assert (features.open[-1], features.high[-1], features.low[-1]) == (
        FALL.open[0, -1], FALL.high[0, -1], FALL.low[0, -1],
    )  # fmt: skip
    assert features.value("rsi") is None
    assert "a gap 30 candles ago" in features.why("rsi")
    assert features.value("roc") is not None
    assert features.why("roc") == ""
    with pytest.raises(KeyError):
        features.value("nonsense")


def test_one_at_a_time_decides_as_all_at_once() -> None:
    """`decide` of a symbol and the batch of all symbols are the same decision."""
    blocks = [FALL, mirrored(FALL), SPIKE, SQUEEZE, market_candles(300), holed(market_candles(300), 20)]
    together = Block(
        tuple(f"S{number}-USD" for number in range(len(blocks))),
        *(np.concatenate([getattr(item, name) for item in blocks]) for name in COLUMNS),
    )
    look = look_at(together)
    for strategy in BOTH:
        batch = strategy.decide_rows(look)
        for row, decision in enumerate(batch):
            assert strategy.decide(Features(look, row)) == decision


def test_offline_every_trigger_is_seen() -> None:
    """In two weeks of candles there is every trigger of the weighted strategy and momentum, on both sides."""
    strategies = (Weighted(), RocMomentum(RocRules(buy_from=0.8)))
    decisions = list(decide_over(market_candles(4300), strategies, window=300))
    assert [index for index, _ in decisions] == list(range(299, 4300))
    seen = Counter(decision.trigger for _, decision in decisions)
    buys = {"rsi_oversold", "macd_cross", "bb_squeeze", "volume_spike", "multi_signal", "roc_momo"}
    assert buys <= set(seen)
    assert {"rsi_overbought", "macd_cross_down", "bb_squeeze_down", "volume_spike_down"} <= set(seen)


def test_a_link_carries_the_whole_decision() -> None:
    """Scores and readings as exact decimals, for every indicator of the breakdown."""
    decision = only(FALL, BOTH)
    linkage = linkage_of(decision, "0f8fad5b-d9cb-469f-a165-70867728950e")
    assert (linkage.trigger, linkage.indicators_fired) == ("rsi_oversold", ("rsi",))
    assert linkage.buy_score == score_decimal(decision.buy_score) > 1
    assert set(linkage.indicator_breakdown) == set(decision.parts)
    assert linkage.indicator_breakdown["rsi"].contribution == linkage.buy_score
    with pytest.raises(ValueError, match="held"):
        linkage_of(only(flat()), "0f8fad5b-d9cb-469f-a165-70867728950e")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.5, "1.5"), (2.0, "2"), (-0.0, "0"), (1e-12, "0"), (1e20, "1" + 20 * "0"), (1 / 3, "0.333333333")],
)
def test_scores_are_stored_as_plain_numbers(value: float, text: str) -> None:
    """Nine places, no exponents."""
    assert str(score_decimal(value)) == text
    assert Part(value, False, 0.0, 0.0).document()["value"] == text


# --- strategies of the user's own -------------------------------------------------------------------------------------


def test_a_strategy_is_loaded_from_a_file(tmp_path: Any) -> None:
    """A class in a file named in the configuration, made with the configured parameters."""
    file = tmp_path / "dip.py"
    file.write_text(
        "from domain.strategies import hold\n"
        "class Dip:\n"
        "    def __init__(self, below=20):\n        self.below = below\n"
        "    def decide(self, features):\n        return hold(features.symbol, f'not below {self.below}')\n"
    )
    strategy = load_strategy(f"{file}:Dip", {"below": 15})
    assert only(FALL, (strategy,)).reason == "not below 15"
    assert isinstance(load_strategy("domain.momentum:RocMomentum", {}), RocMomentum)


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("nonsense", {}, "there is no such strategy; use one of weighted"),
        ("no.such.module:Class", {}, "can't be imported: ModuleNotFoundError"),
        ("domain.momentum:Nope", {}, "has no such class"),
        ("missing_file.py:Class", {}, "there is no such file"),
        ("domain.momentum:RocMomentum", {"hunter2": "hunter2"}, "can't be created with strategy.parameters: TypeError"),
        ("domain.momentum:RocRules", {}, "has no method decide"),
    ],
)
def test_a_strategy_that_cannot_be_used_says_why(name: str, parameters: dict[str, Any], sentence: str) -> None:
    """Each error is one sentence with the setting's name, without the setting's value or parameters."""
    with pytest.raises(StrategyError, match=sentence) as raised:
        load_strategy(name, parameters)
    assert str(raised.value).startswith("strategy.use: ")
    assert name not in str(raised.value)
    assert "hunter2" not in str(raised.value)
