"""Exit rules on any path of ticks: priority, staleness, and a trailing stop that is never lowered."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise, permutations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.exits import (
    ExitReason,
    ExitRules,
    Position,
    SellSignal,
    Trailing,
    advance_trailing,
    average_true_range,
    due_exit,
    exit_limit_price,
    loss_at_stop,
    nearest_stop,
    outranks,
    price_stop,
    signal_exit_unknown,
)
from domain.outcome import target_fraction

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENTRY = Decimal(100)
ALL_RULES = ExitRules(take_profit=Decimal("0.025"))
SELL = SellSignal(True, NOW, Decimal("0.8"))

prices = st.decimals(min_value=50, max_value=200, places=2, allow_nan=False, allow_infinity=False)
ranges = st.none() | st.decimals(min_value=0, max_value=20, places=3, allow_nan=False, allow_infinity=False)


@st.composite
def rule_sets(draw: st.DrawFn) -> ExitRules:
    """Any rules that validate."""
    percent = st.integers(min_value=1, max_value=200)
    hard = draw(st.integers(min_value=20, max_value=300))
    soft = draw(st.integers(min_value=1, max_value=hard - 1))
    least, most = sorted((draw(percent), draw(percent)))
    return ExitRules(
        hard_stop=Decimal(hard) / 1000,
        soft_stop=Decimal(soft) / 1000,
        trailing_arm=draw(st.none() | percent.map(lambda n: Decimal(n) / 1000)),
        trailing_min_distance=Decimal(least) / 1000,
        trailing_max_distance=Decimal(most) / 1000,
        take_profit=draw(st.none() | percent.map(lambda n: Decimal(n) / 1000)),
        signal_exit=draw(st.booleans()),
    )


positions = st.builds(Position, prices, rule_sets())


@given(positions, st.lists(st.tuples(prices, ranges), min_size=1, max_size=40))
def test_a_trailing_stop_is_never_lowered(position: Position, ticks: list[tuple[Decimal, Decimal | None]]) -> None:
    """On no path of ticks, with any ATR, do stop, peak or steps of an armed trailing stop decrease."""
    for bid, atr in ticks:
        before = position.trailing
        after = due_exit(position, bid, NOW, NOW, atr=atr).trailing
        if before is not None:
            assert after is not None
            assert after.stop >= before.stop
            assert after.peak >= before.peak
            assert after.steps >= before.steps
            assert (after.distance, after.atr) == (before.distance, before.atr)
        if after is not None:
            assert after.stop < after.peak
        position = replace(position, trailing=after)


@given(positions, prices, ranges)
def test_the_trailing_distance_is_held_within_its_limits(position: Position, bid: Decimal, atr: Decimal | None) -> None:
    """For any ATR, the distance at arming is between the least and the greatest fraction of the price."""
    rules = position.rules
    bid = max(bid, position.entry_price * (1 + (rules.trailing_arm or Decimal(0))))
    armed = advance_trailing(None, position, bid, atr)
    if armed is None:
        assert rules.trailing_arm is None
        return
    assert bid * rules.trailing_min_distance <= armed.distance <= bid * rules.trailing_max_distance


@given(positions, st.lists(prices, min_size=2, max_size=30))
def test_a_restart_in_between_continues_the_same_stop(position: Position, bids: list[Decimal]) -> None:
    """Ticks fed one by one from the stored state give the same result as without interruption."""
    whole = position.trailing
    for bid in bids:
        whole = advance_trailing(whole, position, bid, Decimal(1))
    first = position.trailing
    for bid in bids[: len(bids) // 2]:
        first = advance_trailing(first, position, bid, Decimal(1))
    stored = None if first is None else Trailing(first.peak, first.stop, first.distance, first.atr, first.steps)
    for bid in bids[len(bids) // 2 :]:
        stored = advance_trailing(stored, position, bid, Decimal(9))
    if first is not None:
        assert stored == whole


def rules_that_hold(position: Position, bid: Decimal, signal: SellSignal | None) -> list[ExitReason]:
    """Every rule whose own condition is met, in any order: EXIT-1 and 2 implemented literally."""
    rules, entry = position.rules, position.entry_price
    gain = (bid - entry) / entry
    trailing = advance_trailing(position.trailing, position, bid, None)
    found = []
    if gain <= -rules.hard_stop:
        found.append(ExitReason.HARD_STOP)
    if gain <= -rules.soft_stop:
        found.append(ExitReason.SOFT_STOP)
    if trailing is not None and bid <= trailing.stop:
        found.append(ExitReason.TRAILING_STOP)
    if trailing is None and rules.take_profit is not None and gain >= rules.take_profit:
        found.append(ExitReason.TP)
    if trailing is None and rules.signal_exit and signal is not None and signal.says_sell and gain >= 0:
        found.append(ExitReason.SIGNAL_EXIT)
    return found


@given(positions, prices, st.none() | st.builds(SellSignal, st.booleans(), st.just(NOW)), st.booleans())
def test_priority_never_inverts(position: Position, bid: Decimal, signal: SellSignal | None, armed: bool) -> None:
    """The due rule is never outranked by another whose condition is met."""
    if armed:
        peak = max(bid, position.entry_price)
        position = replace(position, trailing=Trailing(peak, peak - 1, Decimal(1), Decimal("0.5")))
    # gains are compared as products, so an exact tie of a rounded quotient is decided by the product
    due = due_exit(position, bid, NOW, NOW, signal=signal).due
    holding = rules_that_hold(position, bid, signal)
    entry, rules = position.entry_price, position.rules
    edges = {entry * (1 - rules.hard_stop), entry * (1 - rules.soft_stop), entry * (1 + (rules.take_profit or 0))}
    assume(bid not in edges)
    if due is None:
        assert not holding
    else:
        assert due in holding
        assert not any(outranks(other, due) for other in holding)


@given(positions, prices, st.booleans())
def test_the_nearest_stop_is_where_a_falling_price_is_sold_first(
    position: Position, peak: Decimal, armed: bool
) -> None:
    """At that bid a stop is due, whether trailing is armed or not, and at any higher one none is."""
    if armed:
        position = replace(position, trailing=Trailing(peak, peak * Decimal("0.99"), peak / 100, Decimal(1)))
    trailing = position.trailing
    stop = nearest_stop(position.rules, position.entry_price, None if trailing is None else trailing.stop)
    stops = {ExitReason.HARD_STOP, ExitReason.SOFT_STOP, ExitReason.TRAILING_STOP}
    assert due_exit(position, stop, NOW, NOW).due in stops
    assert due_exit(position, stop + Decimal("1e-12"), NOW, NOW).due not in stops


@given(prices, prices, prices)
def test_at_risk_is_what_the_sale_at_the_stop_brings_less(stop: Decimal, bid: Decimal, size: Decimal) -> None:
    """Against a sale at the bid; once the bid has passed the stop there is nothing more to lose by it."""
    sold_at = min(stop, bid)
    assert loss_at_stop(stop, bid, size) == bid * size - sold_at * size


@given(positions, prices, st.integers(min_value=1, max_value=10_000), st.booleans())
def test_no_rule_fires_on_a_stale_price(position: Position, bid: Decimal, late: int, armed: bool) -> None:
    """A price older than its limit decides nothing and moves nothing."""
    if armed:
        position = replace(position, trailing=Trailing(Decimal(300), Decimal(250), Decimal(50), Decimal(25)))
    seen = NOW - timedelta(seconds=float(position.rules.stale_seconds) + late / 1000)
    verdict = due_exit(position, bid, seen, NOW, signal=SELL)
    assert verdict.due is None
    assert verdict.stale
    assert verdict.trailing == position.trailing


def test_a_price_that_is_just_fresh_still_decides() -> None:
    """A price exactly at the age limit counts."""
    seen = NOW - timedelta(seconds=float(ALL_RULES.stale_seconds))
    assert due_exit(Position(ENTRY, ALL_RULES), Decimal(90), seen, NOW).due is ExitReason.HARD_STOP


@pytest.mark.parametrize(
    ("bid", "due"),
    [
        ("94.9", ExitReason.HARD_STOP),
        ("95", ExitReason.HARD_STOP),
        ("95.01", ExitReason.SOFT_STOP),
        ("97.5", ExitReason.SOFT_STOP),
        ("97.51", None),
        ("99.99", None),
        ("100", ExitReason.SIGNAL_EXIT),
        ("102.49", ExitReason.SIGNAL_EXIT),
        ("102.5", ExitReason.TP),
        ("103.49", ExitReason.TP),
        ("103.5", None),
    ],
)
def test_the_default_thresholds(bid: str, due: ExitReason | None) -> None:
    """-5 % hard, -2.5 % soft, +2.5 % take profit, a signal from break-even on; from +3.5 % trailing silences both."""
    assert due_exit(Position(ENTRY, ALL_RULES), Decimal(bid), NOW, NOW, signal=SELL).due is due


def test_take_profit_is_off_by_default() -> None:
    """Without a take profit and a signal a gain below arming causes no exit."""
    assert due_exit(Position(ENTRY, ExitRules()), Decimal(103), NOW, NOW).due is None


def test_an_armed_trailing_stop_ignores_signals_and_take_profit_but_not_stops() -> None:
    """While it is armed only stops can end the trade."""
    armed = Trailing(Decimal(104), Decimal("102.5"), Decimal("1.5"), Decimal("0.75"))
    position = Position(ENTRY, ALL_RULES, armed)
    assert due_exit(position, Decimal(103), NOW, NOW, signal=SELL).due is None
    assert due_exit(position, Decimal("102.5"), NOW, NOW, signal=SELL).due is ExitReason.TRAILING_STOP
    assert due_exit(position, Decimal(97), NOW, NOW, signal=SELL).due is ExitReason.SOFT_STOP
    assert due_exit(position, Decimal(90), NOW, NOW, signal=SELL).due is ExitReason.HARD_STOP


def test_the_stop_rises_in_whole_half_atr_steps() -> None:
    """Armed at 103.5 with ATR 0.6: distance 1.2, raised by 0.3 at a time and only when a whole step fits."""
    position = Position(ENTRY, ExitRules())
    armed = advance_trailing(None, position, Decimal("103.5"), Decimal("0.6"))
    assert armed == Trailing(Decimal("103.5"), Decimal("102.3"), Decimal("1.2"), Decimal("0.6"), 0)
    less = advance_trailing(armed, position, Decimal("103.79"), Decimal("0.6"))
    assert less is not None
    assert (less.peak, less.stop, less.steps) == (Decimal("103.79"), Decimal("102.3"), 0)
    more = advance_trailing(less, position, Decimal("104.2"), Decimal("0.6"))
    assert more is not None
    assert (more.peak, more.stop, more.steps) == (Decimal("104.2"), Decimal("102.9"), 2)


def test_an_old_sell_signal_is_ignored() -> None:
    """A matrix older than two runs is ignored."""
    old = SellSignal(True, NOW - timedelta(minutes=10, seconds=1))
    assert due_exit(Position(ENTRY, ExitRules()), Decimal(101), NOW, NOW, signal=old).due is None


def test_a_signal_from_before_the_position_does_not_sell_it() -> None:
    """A sell signal from before the trade causes no exit; a later one does."""
    position = Position(ENTRY, ExitRules(), None, NOW)
    older = SellSignal(True, NOW - timedelta(seconds=1))
    assert due_exit(position, Decimal(101), NOW, NOW, signal=older).due is None
    assert due_exit(position, Decimal(101), NOW, NOW, signal=SellSignal(True, NOW)).due is ExitReason.SIGNAL_EXIT


rates = st.integers(min_value=0, max_value=200).map(lambda n: Decimal(n) / 10_000)


@given(prices, rates, rates, st.integers(min_value=0, max_value=50), st.integers(min_value=-3, max_value=3))
def test_a_signal_exit_after_fees_never_loses(
    entry: Decimal, paid: Decimal, taker: Decimal, least: int, off: int
) -> None:
    """If a sell signal closes a trade, the bid less the taker fee covers the cost and the least gain."""
    gain, cost = Decimal(least) / 1000, entry * (1 + paid)
    rules = ExitRules(trailing_arm=None, signal_exit_net=True, signal_exit_gain=gain, taker_rate=taker)
    position = Position(entry, rules, cost=cost)
    bid = cost * (1 + gain) / (1 - taker) + Decimal(off) * Decimal("1e-9")
    sold = due_exit(position, bid, NOW, NOW, signal=SELL).due is ExitReason.SIGNAL_EXIT
    # within the last place, by which the floor is rounded up, either answer is right
    if abs(bid * (1 - taker) - cost * (1 + gain)) > Decimal("1e-17"):
        assert sold is (bid * (1 - taker) >= cost * (1 + gain))


def test_without_the_rate_or_the_cost_no_signal_sells() -> None:
    """The gain after fees is unknown, so even a large gain is left to other rules, and that is reported."""
    rules = ExitRules(trailing_arm=None, signal_exit_net=True)
    for position in (
        Position(ENTRY, rules, cost=ENTRY),
        Position(ENTRY, rules.model_copy(update={"taker_rate": Decimal("0.006")})),
    ):
        assert due_exit(position, Decimal(150), NOW, NOW, signal=SELL).due is None
        assert signal_exit_unknown(position)
    assert not signal_exit_unknown(Position(ENTRY, ExitRules()))


def test_a_plan_from_before_keeps_the_rule_of_bare_prices() -> None:
    """Stored rules without fees sell at the entry price, as when they were made."""
    stored = ExitRules.model_validate({"hard_stop": "0.05", "soft_stop": "0.025", "signal_exit": True})
    assert due_exit(Position(ENTRY, stored, cost=Decimal(101)), ENTRY, NOW, NOW, signal=SELL).due is (
        ExitReason.SIGNAL_EXIT
    )


@pytest.mark.parametrize(
    ("atr", "percent", "bid", "due"),
    [
        (Decimal("0.5"), Decimal("0.03"), "100.99", None),
        (Decimal("0.5"), Decimal("0.03"), "101", ExitReason.TP),
        (None, Decimal("0.03"), "102.99", None),
        (None, Decimal("0.03"), "103", ExitReason.TP),
        (None, None, "150", None),
    ],
)
def test_a_target_in_atrs(atr: Decimal | None, percent: Decimal | None, bid: str, due: ExitReason | None) -> None:
    """Twice the plan's ATR above the entry; without an ATR the percentage applies, and without that there is none."""
    rules = ExitRules(trailing_arm=None, take_profit=percent, take_profit_atr=Decimal(2), target_atr=atr)
    assert due_exit(Position(ENTRY, rules), Decimal(bid), NOW, NOW).due is due
    aimed = target_fraction(ExitReason.TP, rules, ENTRY)
    assert aimed == (Decimal("0.01") if atr else percent)


def test_ranks_are_a_strict_total_order() -> None:
    """Of two different reasons exactly one ranks first, and the ranking is transitive."""
    for a, b in permutations(ExitReason, 2):
        assert outranks(a, b) is not outranks(b, a)
    for a, b, c in permutations(ExitReason, 3):
        if outranks(a, b) and outranks(b, c):
            assert outranks(a, c)
    assert not any(outranks(reason, reason) for reason in ExitReason)
    assert all(outranks(reason, None) for reason in ExitReason)


def test_the_configured_priority() -> None:
    """Hard stop before soft stop before trailing before take profit before signal (EXIT-1)."""
    order = [
        ExitReason.HARD_STOP,
        ExitReason.SOFT_STOP,
        ExitReason.TRAILING_STOP,
        ExitReason.TP,
        ExitReason.SIGNAL_EXIT,
    ]
    assert all(outranks(first, second) for first, second in pairwise(order))


def test_which_reasons_stay_due() -> None:
    """Stops and a person's close stay due; profit exits are checked again."""
    assert [reason for reason in ExitReason if not price_stop(reason)] == [ExitReason.TP, ExitReason.SIGNAL_EXIT]


@given(
    st.decimals(min_value="0.0001", max_value=10**6, places=4, allow_nan=False, allow_infinity=False),
    st.sampled_from([Decimal("0.01"), Decimal("0.0001"), Decimal("0.05"), Decimal(1), Decimal("0.00000001")]),
)
def test_an_exits_limit_is_the_offset_bid_rounded_up_to_the_tick(bid: Decimal, tick: Decimal) -> None:
    """Never below bid times the offset, on the tick, and less than one tick above."""
    rules = ExitRules()
    price = exit_limit_price(bid, rules, tick)
    assert price >= bid * rules.limit_offset
    assert price - bid * rules.limit_offset < tick
    assert price % tick == 0


def test_atr_by_wilders_own_recipe() -> None:
    """The first value is the mean of 14 true ranges, the next weighs the old one 13 to 1."""
    candles = [(Decimal(11), Decimal(9), Decimal(10))] * 15
    assert average_true_range(candles) == 2
    assert average_true_range([*candles, (Decimal(18), Decimal(10), Decimal(12))]) == (Decimal(2) * 13 + 8) / 14
    assert average_true_range(candles[:14]) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"soft_stop": "0.05", "hard_stop": "0.05"},
        {"trailing_min_distance": "0.03"},
        {"hard_stop": "-0.05"},
        {"hard_stop": "1"},
        {"reprice_seconds": "0"},
        {"no_such_rule": "1"},
    ],
)
def test_rules_that_contradict_themselves_are_refused(wrong: dict[str, str]) -> None:
    """Wrong signs, an impossible order of levels and unknown names are refused."""
    with pytest.raises(ValidationError):
        ExitRules.model_validate(wrong)
