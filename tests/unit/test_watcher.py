"""The watcher's bookkeeping on any sequence of ticks, plans and acknowledgements."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from domain.exits import (
    ExitReason,
    ExitRules,
    Position,
    SellSignal,
    Trailing,
    atr_reading,
    atr_window,
    due_exit,
    outranks,
    wants_atr,
)
from domain.market import Candle
from domain.watch import Plan, PlanRow, Watch

SYMBOL = "BTC-USD"
START = datetime(2026, 1, 1, tzinfo=UTC)
RULES = ExitRules(take_profit=Decimal("0.06"))


@dataclass
class Bench:
    """A watch whose clock and calls are visible to a test."""

    clock: float = 1000.0
    told: list[tuple[str, ExitReason]] = field(default_factory=list)
    watch: Watch = field(init=False)
    revision: int = 0

    def __post_init__(self) -> None:
        self.watch = Watch(
            epoch=7,
            signal_max_age=timedelta(minutes=10),
            on_due=self._due,
            now=lambda: self.now,
            monotonic=lambda: self.clock,
        )

    @property
    def now(self) -> datetime:
        """The time of day, which advances like the clock."""
        return START + timedelta(seconds=self.clock)

    def _due(self, plan: Plan) -> None:
        assert plan.due is not None
        self.told.append((plan.entry_key, plan.due.reason))

    def put(
        self,
        key: str = "a",
        *,
        exit_reason: ExitReason | None = None,
        rules: ExitRules = RULES,
        trailing: Trailing | None = None,
        entry: str = "100",
    ) -> Plan:
        """The next revision of a plan."""
        self.revision += 1
        position = Position(Decimal(entry), rules, trailing)
        row = PlanRow(key, SYMBOL, exit_reason is not None, exit_reason, position, self.revision, START)
        self.watch.put(row)
        return self.watch.plans[key]

    def bid(self, price: str | Decimal) -> None:
        """A tick, now."""
        self.clock += 0.1
        self.watch.tick(SYMBOL, Decimal(price), self.now)


bids = st.lists(st.decimals(min_value="90", max_value="125", places=2), min_size=1, max_size=60)


@given(bids)
def test_ticks_by_band_and_by_rule_tell_the_same(prices: list[Decimal]) -> None:
    """For any bids the watch reports the same as the rule evaluated on every one of them."""
    bench = Bench()
    plan = bench.put()
    position = Position(Decimal(100), RULES)
    told: list[ExitReason] = []
    for price in prices:
        bench.bid(price)
        verdict = due_exit(position, price, bench.now, bench.now)
        position = replace(position, trailing=verdict.trailing)
        if verdict.due and all(outranks(verdict.due, earlier) for earlier in told):
            told.append(verdict.due)
    assert [reason for _, reason in bench.told] == told
    assert plan.position.trailing == position.trailing


@given(bids, st.lists(st.integers(min_value=0, max_value=59), max_size=5))
def test_a_stop_is_never_lowered_whoever_writes_the_plan(prices: list[Decimal], rewrites: list[int]) -> None:
    """Neither ticks nor a re-read plan with an older stop lower the stop in memory."""
    bench = Bench()
    plan = bench.put()
    highest, oldest = Decimal(0), None
    for number, price in enumerate(prices):
        bench.bid(price)
        if number in rewrites:
            bench.put(trailing=oldest)
        if plan.position.trailing is not None:
            oldest = oldest or plan.position.trailing
            assert plan.position.trailing.stop >= highest
            highest = plan.position.trailing.stop


@given(bids)
def test_priority_never_inverts(prices: list[Decimal]) -> None:
    """Until it is acknowledged, the reported reason of a plan only rises in priority."""
    bench = Bench()
    bench.put()
    for price in prices:
        bench.bid(price)
    for (_, earlier), (_, later) in zip(bench.told, bench.told[1:], strict=False):
        assert outranks(later, earlier)


def test_an_acknowledged_exit_is_not_told_again_but_a_higher_one_is() -> None:
    """While an exit is in progress only a higher reason is reported."""
    bench = Bench()
    plan = bench.put()
    bench.bid("97")
    bench.put(exit_reason=ExitReason.SOFT_STOP)
    assert plan.due is None
    bench.bid("96.8")
    assert bench.told == [("a", ExitReason.SOFT_STOP)]
    bench.bid("95")
    assert bench.told[-1] == ("a", ExitReason.HARD_STOP)


def test_a_stop_that_never_reached_its_workflow_stays_due() -> None:
    """A price stop outlives a newer revision and a better price until it is acknowledged."""
    bench = Bench()
    plan = bench.put()
    bench.bid("97")
    bench.put(entry="99")
    bench.bid("120")
    assert plan.due is not None
    assert bench.watch.still_due(plan)


def test_a_profit_exit_is_asked_again_before_it_is_sent() -> None:
    """A signal exit that is no longer due on the newest bid is dropped, not sent."""
    bench = Bench()
    plan = bench.put()
    bench.bid("101")
    bench.watch.sell_signal(SYMBOL, SellSignal(True, bench.now))
    assert plan.due is not None
    assert bench.watch.still_due(plan)
    bench.bid("99")
    assert not bench.watch.still_due(plan)
    assert not bench.watch.pending


def test_profit_exits_wait_while_a_missed_peak_is_looked_up() -> None:
    """Until the peak of a gap is known no profit exit is due, stops are; then the rules are evaluated again."""
    bench = Bench()
    plan = bench.put()
    bench.put("b", entry="104")
    state = bench.watch.symbols[SYMBOL]
    state.rebuilding = True
    bench.watch.sell_signal(SYMBOL, SellSignal(True, bench.now))
    bench.bid("101")
    assert bench.told == [("b", ExitReason.SOFT_STOP)]
    high = Candle(SYMBOL, START, *map(Decimal, ("100", "108", "99", "101", "1")))
    bench.watch.rebuild_peaks(SYMBOL, [high], {"a": START})
    state.rebuilding = False
    bench.watch.look_again(SYMBOL)
    assert bench.told[-1] == ("a", ExitReason.TRAILING_STOP)
    assert plan.position.trailing is not None
    assert plan.position.trailing.peak == 108


def test_an_old_price_decides_nothing_for_a_new_plan() -> None:
    """A new plan is compared with the newest bid only if that bid is fresh."""
    bench = Bench()
    bench.watch.watched(SYMBOL)
    bench.watch.tick(SYMBOL, Decimal(90), bench.now - timedelta(seconds=121))
    bench.put()
    assert bench.told == []
    bench.watch.tick(SYMBOL, Decimal(90), bench.now)
    assert bench.told == [("a", ExitReason.HARD_STOP)]


def test_a_price_ages_by_the_clock_that_the_watch_was_handed() -> None:
    """A new plan is compared with the newest bid for 120 s of the given clock, and no longer."""
    bench = Bench()
    bench.watch.watched(SYMBOL)
    bench.watch.tick(SYMBOL, Decimal(90), bench.now)
    bench.clock += 119
    bench.put("a")
    bench.clock += 2
    bench.put("b")
    assert bench.told == [("a", ExitReason.HARD_STOP)]


def test_an_older_revision_changes_nothing() -> None:
    """Rows may be read late and twice."""
    bench = Bench()
    plan = bench.put(exit_reason=ExitReason.TP)
    bench.watch.put(PlanRow("a", SYMBOL, False, None, Position(Decimal(1), RULES), 0, START))
    assert plan.exiting
    assert plan.position.entry_price == 100


def test_trailing_is_written_at_once_when_it_steps_and_its_peak_now_and_then() -> None:
    """Arming and steps are urgent, a peak that raised no stop is written later."""
    bench = Bench()
    plan = bench.put(rules=ExitRules(trailing_arm=Decimal("0.01")))
    bench.bid("102")
    assert bench.watch.unsaved(3.0) == [plan]
    armed = plan.position.trailing
    assert armed is not None
    bench.watch.saved(plan, armed)
    bench.bid("102.01")
    assert bench.watch.unsaved(3.0) == []
    bench.clock += 3
    assert bench.watch.unsaved(3.0) == [plan]
    bench.bid("110")
    bench.clock -= 3
    assert bench.watch.unsaved(3.0) == [plan]


def history(count: int, seed: int) -> list[Candle]:
    """Five-minute candles with varying ranges, oldest first."""
    dice = random.Random(seed)
    found = []
    for number in range(count):
        low, high = dice.randint(9000, 9990), dice.randint(10010, 11000)
        top, bottom, close = (Decimal(value) / 100 for value in (high, low, dice.randint(low, high)))
        start = START + timedelta(minutes=5 * number)
        found.append(Candle(SYMBOL, start, Decimal(100), top, bottom, close, Decimal(number % 7 + 1)))
    return found


def reading(closed: list[Candle]) -> Decimal | None:
    """The ATR of all given candles."""
    return atr_reading([(item.high, item.low, item.close) for item in closed])


@given(st.integers(min_value=0, max_value=250), st.integers())
def test_atr_is_the_same_however_much_of_the_past_is_known(more: int, seed: int) -> None:
    """Any history of at least the window has the same reading as the window alone; with fewer candles it is unknown."""
    candles = history(atr_window(14) + more, seed)
    window = candles[-atr_window(14) :]
    assert reading(candles) == reading(window) is not None
    assert reading(window[1:]) is None


def test_a_watcher_that_has_just_started_reads_the_atr_of_one_that_runs_for_days() -> None:
    """From the stream alone, from REST after a start, and after a gap with late messages: the same value at each
    close."""
    window = atr_window(14)
    candles = history(3 * window, 1)
    old, new = Bench().watch, Bench().watch
    for candle in candles[: 2 * window]:
        old.candles(SYMBOL, [replace(candle, volume=candle.volume / 2, high=candle.close)])
        old.candles(SYMBOL, [candle])
    new.candles(SYMBOL, [candles[2 * window - 1]])
    assert new.symbols[SYMBOL].window.atr is None
    assert new.symbols[SYMBOL].window.wanted
    new.candles(SYMBOL, candles[window - 1 : 2 * window - 1])
    new.symbols[SYMBOL].window.asked_until = new.symbols[SYMBOL].window.boundary
    assert not new.symbols[SYMBOL].window.wanted
    assert new.symbols[SYMBOL].window.atr == old.symbols[SYMBOL].window.atr == reading(candles[: 2 * window - 1])
    old.symbols[SYMBOL].window.missed()
    assert old.symbols[SYMBOL].window.atr == new.symbols[SYMBOL].window.atr
    for number in range(2 * window, 2 * window + 5):
        for watch in (old, new):
            watch.candles(SYMBOL, [candles[number]])
        assert old.symbols[SYMBOL].window.atr is None
        assert new.symbols[SYMBOL].window.atr == reading(candles[:number])
        # Late messages of the stream don't change candles that the exchange's records have settled.
        late = candles[number - 2]
        new.candles(SYMBOL, [late], last_closed=candles[number - 1].start)
        new.candles(SYMBOL, [replace(late, volume=late.volume * 2, high=late.high * 2)])
        assert new.symbols[SYMBOL].window.atr == reading(candles[:number])
    old.candles(SYMBOL, candles[number - window : number])
    assert old.symbols[SYMBOL].window.atr == new.symbols[SYMBOL].window.atr
    for watch in (old, new):
        watch.closed(SYMBOL, candles[number].start + timedelta(minutes=5))
        assert watch.symbols[SYMBOL].window.atr == reading(candles[: number + 1])


def candles_with_range(width: str, count: int = atr_window(14) + 1) -> list[Candle]:
    """Five-minute candles around 100 whose true range is `width` each; the last one is open."""
    half = Decimal(width) / 2
    return [
        Candle(
            symbol=SYMBOL,
            start=START + timedelta(minutes=5 * number),
            open=Decimal(100),
            high=100 + half,
            low=100 - half,
            close=Decimal(100),
            volume=Decimal(1),
        )
        for number in range(count)
    ]


def test_a_target_in_atrs_is_fixed_by_the_atr_of_the_first_fill() -> None:
    """The ATR known when the plan arrives stays the target's, whatever the ATR is later."""
    bench = Bench()
    rules = ExitRules(trailing_arm=None, take_profit_atr=Decimal(3))
    bench.watch.candles(SYMBOL, candles_with_range("1"))
    wider = candles_with_range("9", 2 * atr_window(14))
    plan = bench.put(rules=rules)
    assert plan.position.rules.target_atr == 1
    assert list(bench.watch.unsaved_targets) == ["a"]
    bench.watch.candles(SYMBOL, wider[len(wider) // 2 :])
    plan = bench.put(rules=rules)
    bench.watch.target_saved("a", Decimal(1))
    assert plan.position.rules.target_atr == 1
    assert not bench.watch.unsaved_targets
    bench.bid("102.99")
    assert bench.told == []
    bench.bid("103")
    assert bench.told == [("a", ExitReason.TP)]


def test_a_target_waits_for_its_atr_and_keeps_an_earlier_watchers() -> None:
    """Without an ATR the percentage applies; the first known ATR is used, and a stored one applies at once."""
    bench = Bench()
    rules = ExitRules(trailing_arm=None, take_profit_atr=Decimal(3), take_profit=Decimal("0.1"))
    plan = bench.put(rules=rules)
    bench.bid("109")
    assert wants_atr(plan.position.rules)
    assert not bench.told
    bench.watch.candles(SYMBOL, candles_with_range("4"))
    assert plan.position.rules.target_atr == Decimal(4)
    assert not bench.told
    bench.watch.target_saved("a", Decimal(2))
    assert plan.position.rules.target_atr == 2
    bench.bid("106")
    assert bench.told == [("a", ExitReason.TP)]


def still(bench: Bench, *, others: bool = True) -> None:
    """Two and a half minutes in which BTC's bid is repeated, and another symbol's moves."""
    for step in range(15):
        bench.clock += 10
        bench.watch.tick(SYMBOL, Decimal(100), bench.now)
        if others:
            bench.watch.watched("ETH-USD")
            bench.watch.tick("ETH-USD", Decimal(100 + step), bench.now)


def test_a_price_that_stands_still_while_others_move_is_doubted_by_the_book() -> None:
    """Until the stream moves, or the book confirms it, its price is unknown; the book's decides."""
    bench = Bench()
    bench.put()
    bench.bid("100")
    state = bench.watch.symbols[SYMBOL]
    still(bench)
    assert bench.watch.stands_still(state)
    for doubts in (1, 2):
        bench.watch.tick(SYMBOL, Decimal(98), bench.now, from_feed=False)
        assert (state.doubts, state.bid) == (doubts, Decimal(98))
    bench.bid("100")
    assert state.bid == Decimal(98)
    bench.watch.tick(SYMBOL, Decimal(100), bench.now, from_feed=False)
    assert state.doubts == 0
    bench.watch.tick(SYMBOL, Decimal(97), bench.now, from_feed=False)
    assert bench.told == [("a", ExitReason.SOFT_STOP)]
    bench.bid("96.9")
    assert (state.doubts, state.bid) == (0, Decimal("96.9"))
    assert not bench.watch.stands_still(state)


def test_a_market_in_which_nothing_moves_is_not_frozen() -> None:
    """Alone, or with others that also stand still, an unchanged price is valid."""
    bench = Bench()
    bench.put()
    bench.bid("100")
    still(bench, others=False)
    assert not bench.watch.stands_still(bench.watch.symbols[SYMBOL])
