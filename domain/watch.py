"""A price watcher's state and the consequences of a tick: pure, without waiting, clock or I/O.

For each plan the quiet band of `domain.exits` is kept, so that an uneventful tick costs two comparisons; outside it
`due_exit` decides, the one implementation of the rules. Callers carry out the results: `on_due` is called for an exit
that must be signalled, `unsaved` lists trailing stops that must be written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from domain.candle_window import CandleWindow
from domain.exits import (
    ExitReason,
    Position,
    QuietBand,
    SellSignal,
    Trailing,
    Verdict,
    advance_trailing,
    due_exit,
    outranks,
    price_stop,
    quiet_band,
    wants_atr,
)
from domain.market import Candle
from domain.messages import ExitDue
from domain.money import plain

__all__ = ["Plan", "PlanRow", "SymbolState", "Watch", "trailing_document"]

_MARKET_RULES = (ExitReason.TP, ExitReason.SIGNAL_EXIT)


@dataclass(frozen=True, slots=True)
class PlanRow:
    """An exit plan as stored in the database. `armed_at` is when the position was first protected (UTC, wall)."""

    entry_key: str
    symbol: str
    exiting: bool
    exit_reason: ExitReason | None
    position: Position
    revision: int
    armed_at: datetime


@dataclass(slots=True, eq=False)
class Plan:
    """A plan in memory. `due` is an exit that is due and not yet acknowledged; monotonic seconds elsewhere."""

    entry_key: str
    symbol: str
    exiting: bool
    exit_reason: ExitReason | None
    position: Position
    revision: int
    armed_at: datetime
    low: Decimal
    high: Decimal
    saved: Trailing | None = None
    saved_at: float = 0.0
    due: ExitDue | None = None
    due_since: float = 0.0
    delivered: bool = False
    send_after: float = 0.0
    failures: int = 0


@dataclass(slots=True)
class SymbolState:
    """The newest bid of a symbol, its source, and the plans that depend on it."""

    symbol: str
    watched_since: float
    window: CandleWindow
    plans: dict[str, Plan] = field(default_factory=dict)
    stale_seconds: float = 120.0
    bid: Decimal | None = None
    bid_at: datetime | None = None
    """When the bid was received (UTC)."""
    seen: float | None = None
    """When any price was last received, monotonic."""
    fed: float | None = None
    """When the stream's last price was received, monotonic."""
    fed_at: datetime | None = None
    """The same as a time of day (UTC)."""
    stream_bid: Decimal | None = None
    """The stream's last bid."""
    moved: float = 0.0
    """Since when the stream has reported it, monotonic."""
    doubts: int = 0
    """How many successive reads of the book showed another bid while the stream's did not change and others did."""
    signal: SellSignal | None = None
    rebuilding: bool = False
    """A missed peak is being looked up: profit exits wait for it."""


def trailing_document(trailing: Trailing) -> dict[str, Any]:
    """The trailing state with exact prices as text, as it is kept with the exit."""
    return {
        "peak": plain(trailing.peak),
        "stop": plain(trailing.stop),
        "distance": plain(trailing.distance),
        "atr": plain(trailing.atr),
        "steps": trailing.steps,
    }


def _greatest(known: Trailing | None, news: Trailing | None) -> Trailing | None:
    """Both writers' stops are valid: the higher one holds, so that the order of arrival never lowers it."""
    if known is None or news is None:
        return known or news
    return replace(
        known,
        peak=max(known.peak, news.peak),
        stop=max(known.stop, news.stop),
        steps=max(known.steps, news.steps),
    )


class Watch:
    """All plans of one watcher by symbol.

    `signal_max_age` is how old a sell signal may be (wall). `epoch` is the lease's and is sent with every due exit.
    `now` returns the time (UTC) for the age of prices and signals; `monotonic` a clock that is never set (seconds).
    """

    def __init__(
        self,
        *,
        epoch: int,
        signal_max_age: timedelta,
        on_due: Callable[[Plan], None],
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        atr_period: int = 14,
    ) -> None:
        self.symbols: dict[str, SymbolState] = {}
        self.plans: dict[str, Plan] = {}
        self.pending: dict[str, Plan] = {}
        """Plans with an exit that is due and not acknowledged."""
        self.unsaved_targets: dict[str, Plan] = {}
        """Plans whose target now has its ATR, which must be written."""
        self.ticks = 0
        self._epoch = epoch
        self._signal_max_age = signal_max_age
        self._on_due = on_due
        self._now = now
        self._monotonic = monotonic
        self._atr_period = atr_period
        self._moved: dict[str, Plan] = {}
        # The last two symbols whose bids moved in the stream, and when: one of them is another than the one asked of.
        self._movers: tuple[tuple[str, float], tuple[str, float]] = (("", float("-inf")), ("", float("-inf")))

    # --- symbols and plans ----------------------------------------------------------------------------------------

    def watched(self, symbol: str) -> SymbolState:
        """The symbol's state, made if it is new."""
        state = self.symbols.get(symbol)
        if state is None:
            state = self.symbols[symbol] = SymbolState(symbol, self._monotonic(), CandleWindow(self._atr_period))
        return state

    def put(self, row: PlanRow) -> None:
        """Take a plan from the database: new, changed, or acknowledged. An older revision changes nothing."""
        plan = self.plans.get(row.entry_key)
        if plan is not None and row.revision <= plan.revision:
            return
        state = self.watched(row.symbol)
        if plan is None:
            plan = self.plans[row.entry_key] = Plan(
                entry_key=row.entry_key,
                symbol=row.symbol,
                exiting=row.exiting,
                exit_reason=row.exit_reason,
                position=row.position,
                revision=row.revision,
                armed_at=row.armed_at,
                low=Decimal(0),
                high=Decimal(0),
                saved=row.position.trailing,
            )
            if not state.plans:
                state.watched_since = self._monotonic()
            state.plans[row.entry_key] = plan
        else:
            trailing = _greatest(plan.position.trailing, row.position.trailing)
            fixed = plan.position.rules.target_atr
            plan.position = replace(row.position, trailing=trailing)
            self.unsaved_targets.pop(row.entry_key, None)
            if fixed is not None and wants_atr(plan.position.rules):
                self._fix_target(plan, fixed)
            plan.revision, plan.exiting, plan.exit_reason = row.revision, row.exiting, row.exit_reason
            self._acknowledge(plan)
        state.stale_seconds = min(float(item.position.rules.stale_seconds) for item in state.plans.values())
        if state.window.atr is not None and wants_atr(plan.position.rules):
            self._fix_target(plan, state.window.atr)
        self._set_band(plan, state)
        self._look_again(plan, state)

    def remove(self, entry_key: str) -> None:
        """Forget a plan that was disarmed."""
        plan = self.plans.pop(entry_key, None)
        self.pending.pop(entry_key, None)
        self._moved.pop(entry_key, None)
        self.unsaved_targets.pop(entry_key, None)
        if plan is not None:
            plan.due = None
            self.symbols[plan.symbol].plans.pop(entry_key, None)

    def _acknowledge(self, plan: Plan) -> None:
        due = plan.due
        if due is None:
            return
        if plan.exiting:
            if not outranks(due.reason, plan.exit_reason):
                self._forget_due(plan)
        elif plan.delivered or not price_stop(due.reason):
            # Armed again under a newer revision: the rules are asked afresh. A price stop that never reached its
            # workflow stays due, whatever the price does.
            self._forget_due(plan)

    def _forget_due(self, plan: Plan) -> None:
        plan.due = None
        self.pending.pop(plan.entry_key, None)

    def _set_band(self, plan: Plan, state: SymbolState) -> None:
        band: QuietBand = quiet_band(plan.position, state.signal)
        plan.low, plan.high = band.low, band.high

    # --- what the market says -------------------------------------------------------------------------------------

    def tick(self, symbol: str, bid: Decimal, received_at: datetime, *, from_feed: bool = True) -> None:
        """Compare a fresh best bid (quote per base) with the symbol's plans."""
        state = self.symbols.get(symbol)
        if state is None or bid <= 0:
            return
        self.ticks += 1
        now = self._monotonic()
        if from_feed:
            if bid != state.stream_bid:
                self._note_move(state, bid, now)
            elif state.doubts:
                return  # the book says otherwise: a price that stands still decides nothing
            state.fed, state.fed_at = now, received_at
        elif self.stands_still(state):
            state.doubts = state.doubts + 1 if bid != state.stream_bid else 0
        state.bid, state.bid_at, state.seen = bid, received_at, now
        for plan in state.plans.values():
            if plan.low < bid < plan.high:
                continue
            self._evaluate(plan, state, bid, received_at, received_at)

    def _note_move(self, state: SymbolState, bid: Decimal, now: float) -> None:
        state.stream_bid, state.moved, state.doubts = bid, now, 0
        newest, before = self._movers
        self._movers = (state.symbol, now), (before if newest[0] == state.symbol else newest)

    def stands_still(self, state: SymbolState) -> bool:
        """Whether the stream has repeated one bid for longer than the stale limit while other symbols moved."""
        if state.stream_bid is None:
            return False
        now, (newest, before) = self._monotonic(), self._movers
        others = newest[1] if newest[0] != state.symbol else before[1]
        return now - max(state.moved, state.watched_since) > state.stale_seconds >= now - others

    def sell_signal(self, symbol: str, signal: SellSignal | None) -> None:
        """Take the newest row of the matrix."""
        state = self.watched(symbol)
        if state.signal == signal:
            return
        state.signal = signal
        for plan in state.plans.values():
            self._set_band(plan, state)
            self._look_again(plan, state)

    def candles(self, symbol: str, candles: Iterable[Candle], *, last_closed: datetime | None = None) -> None:
        """Take candles; the newest one is still open and is not used. The ATR is computed from the closed ones.

        `last_closed` for candles of the venue's records (REST): when the newest one that had closed began.
        """
        state = self.watched(symbol)
        if state.window.take(candles, last_closed=last_closed):
            self._fix_targets(state)

    def closed(self, symbol: str, boundary: datetime) -> None:
        """Candles that began before `boundary` have closed."""
        state = self.watched(symbol)
        if state.window.close(boundary):
            self._fix_targets(state)

    def _fix_targets(self, state: SymbolState) -> None:
        """Fix targets in ATRs that had no ATR so far; from then on they don't change."""
        if state.window.atr is None:
            return
        for plan in state.plans.values():
            if wants_atr(plan.position.rules):
                self._fix_target(plan, state.window.atr)
                self._set_band(plan, state)
                self._look_again(plan, state)

    def _fix_target(self, plan: Plan, atr: Decimal) -> None:
        if atr > 0:
            rules = plan.position.rules.model_copy(update={"target_atr": atr})
            plan.position = replace(plan.position, rules=rules)
            self.unsaved_targets[plan.entry_key] = plan

    def target_saved(self, entry_key: str, atr: Decimal) -> None:
        """The plan's ATR is written; if an earlier watcher wrote one, that one holds."""
        plan = self.unsaved_targets.pop(entry_key, None)
        if plan is not None and plan.position.rules.target_atr != atr:
            self._fix_target(plan, atr)
            del self.unsaved_targets[entry_key]
            self._set_band(plan, self.symbols[plan.symbol])

    def rebuild_peaks(self, symbol: str, candles: Iterable[Candle], since: Mapping[str, datetime]) -> None:
        """Raise trailing stops by missed highs: for each plan those of candles that start at `since` or later.

        Then the newest bid is checked again, because profit exits waited for this.
        """
        state = self.symbols[symbol]
        highs = list(candles)
        for plan in state.plans.values():
            start = since.get(plan.entry_key)
            seen = [candle.high for candle in highs if start is not None and candle.start >= start]
            if seen:
                self._move(
                    plan, state, advance_trailing(plan.position.trailing, plan.position, max(seen), state.window.atr)
                )

    def look_again(self, symbol: str) -> None:
        """Apply the rules again to the newest bid of a symbol, if there is one."""
        state = self.symbols[symbol]
        for plan in state.plans.values():
            self._look_again(plan, state)

    def still_due(self, plan: Plan) -> bool:
        """Whether the plan's due exit may be sent now: a price stop stays due, the others are checked again."""
        due, state = plan.due, self.symbols.get(plan.symbol)
        if due is None or state is None:
            return False
        if price_stop(due.reason):
            return True
        if state.bid is None or state.bid_at is None:
            return False
        verdict = self._verdict(plan, state, state.bid, state.bid_at, self._now())
        if verdict.due is None or outranks(due.reason, verdict.due):
            self._forget_due(plan)
            return False
        return True

    # --- what follows ---------------------------------------------------------------------------------------------

    def unsaved(self, peak_seconds: float) -> list[Plan]:
        """Plans whose trailing stop must be written: a new or raised stop at once, a new peak only now and then."""
        now = self._monotonic()
        return [
            plan
            for plan in self._moved.values()
            if plan.saved is None
            or (plan.position.trailing is not None and plan.position.trailing.stop > plan.saved.stop)
            or now - plan.saved_at >= peak_seconds
        ]

    def saved(self, plan: Plan, trailing: Trailing) -> None:
        """`trailing` has been written."""
        plan.saved, plan.saved_at = trailing, self._monotonic()
        if plan.position.trailing == trailing:
            self._moved.pop(plan.entry_key, None)

    def _look_again(self, plan: Plan, state: SymbolState) -> None:
        if state.bid is not None and state.bid_at is not None and not plan.low < state.bid < plan.high:
            self._evaluate(plan, state, state.bid, state.bid_at, self._now())

    def _verdict(self, plan: Plan, state: SymbolState, bid: Decimal, bid_at: datetime, now: datetime) -> Verdict:
        return due_exit(
            plan.position,
            bid,
            bid_at,
            now,
            atr=state.window.atr,
            signal=state.signal,
            signal_max_age=self._signal_max_age,
        )

    def _evaluate(self, plan: Plan, state: SymbolState, bid: Decimal, bid_at: datetime, now: datetime) -> None:
        verdict = self._verdict(plan, state, bid, bid_at, now)
        if verdict.stale:
            return
        self._move(plan, state, verdict.trailing)
        reason = verdict.due
        if reason is None or (reason in _MARKET_RULES and state.rebuilding):
            return
        if plan.exiting and not outranks(reason, plan.exit_reason):
            return
        if plan.due is not None and not outranks(reason, plan.due.reason):
            return
        signal = state.signal
        plan.due = ExitDue(
            reason=reason,
            price=bid,
            at=now,
            trailing=trailing_document(plan.position.trailing) if plan.position.trailing else None,
            sell_score=signal.sell_score if signal else None,
            snapshot_id=signal.snapshot_id if signal else None,
            epoch=self._epoch,
        )
        plan.due_since = self._monotonic()
        plan.delivered, plan.send_after, plan.failures = False, 0.0, 0
        self.pending[plan.entry_key] = plan
        self._on_due(plan)

    def _move(self, plan: Plan, state: SymbolState, trailing: Trailing | None) -> None:
        if trailing == plan.position.trailing:
            return
        plan.position = replace(plan.position, trailing=trailing)
        self._set_band(plan, state)
        self._moved[plan.entry_key] = plan
