"""The order state machine: reports merge in any order, attempts add up, illegal moves are refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.orders import (
    AttemptStatus,
    FillStep,
    IllegalMove,
    OrderState,
    Report,
    Totals,
    TradeState,
    VenueStatus,
    fill_between,
    merge,
    move_order,
    move_trade,
    order_state,
    public_state,
    shows_end,
    total,
)

amounts = st.decimals(min_value=0, max_value=10**6, places=8, allow_nan=False, allow_infinity=False)
totals = st.builds(Totals, amounts, amounts, amounts, amounts)
reports = st.builds(Report, st.sampled_from(AttemptStatus), totals)


@st.composite
def cumulative_histories(draw: st.DrawFn) -> list[Report]:
    """An exchange's reports of one attempt in the right order: growing totals, then an end."""
    history = [Report(AttemptStatus.OPEN)]
    known = Totals()
    for part in draw(st.lists(totals, max_size=6)):
        known = known + part
        history.append(Report(AttemptStatus.OPEN, known))
    if draw(st.booleans()):
        history.append(Report(AttemptStatus.CANCELLING, known))
    end = draw(st.sampled_from([VenueStatus.FILLED, VenueStatus.CANCELLED, VenueStatus.EXPIRED]))
    return [*history, Report.of_venue(end, known)]


def folded(history: list[Report]) -> Report:
    """The state after all of these reports."""
    known = Report(AttemptStatus.SUBMITTING)
    for report in history:
        known = merge(known, report)
    return known


@given(st.data(), cumulative_histories())
def test_any_order_with_any_repeats_gives_the_same_attempt(data: st.DataObject, history: list[Report]) -> None:
    """Late, repeated or unordered cumulative updates lead to the same state as in the right order."""
    repeats = data.draw(st.lists(st.sampled_from(history), max_size=8))
    shuffled = data.draw(st.permutations([*history, *repeats]))
    assert folded(shuffled) == folded(history) == history[-1]


@given(reports, reports, reports)
def test_merge_is_commutative_associative_and_idempotent(a: Report, b: Report, c: Report) -> None:
    """Merging is a semilattice, also for reports that contradict each other."""
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)


@pytest.mark.parametrize(
    ("status", "filled", "told", "shows"),
    [
        (AttemptStatus.CANCELLED, "0.4", "0.4", True),
        (AttemptStatus.CANCELLED, "0.5", "0.4", True),
        (AttemptStatus.FILLED, "1", "0.4", True),
        (AttemptStatus.CANCELLED, "0.3", "0.4", False),
        (AttemptStatus.OPEN, "0.4", "0.4", False),
        (AttemptStatus.CANCELLING, "0.5", "0.4", False),
    ],
)
def test_an_answer_older_than_an_end_does_not_show_it(
    status: AttemptStatus, filled: str, told: str, shows: bool
) -> None:
    """After an end reported with some size, only an answer that has ended with at least that size shows the end."""
    assert shows_end(Report(status, Totals(Decimal(filled))), Decimal(told)) is shows


@given(reports, reports)
def test_a_merge_never_loses_a_fill(a: Report, b: Report) -> None:
    """The filled size after a merge is the greatest reported one."""
    assert merge(a, b).totals.size == max(a.totals.size, b.totals.size)


@given(st.lists(cumulative_histories(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_an_orders_size_is_the_sum_over_its_attempts(histories: list[list[Report]], dice: object) -> None:
    """Mixed updates of several attempts add up to the sum of the attempts' last totals."""
    known = [Report(AttemptStatus.SUBMITTING) for _ in histories]
    mixed = [(number, report) for number, history in enumerate(histories) for report in history]
    dice.shuffle(mixed)  # type: ignore[attr-defined]
    for number, report in mixed:
        known[number] = merge(known[number], report)
    assert total(item.totals for item in known) == total(history[-1].totals for history in histories)


@given(st.lists(totals, min_size=1, max_size=6))
def test_fills_between_reports_add_up_to_the_last_report(parts: list[Totals]) -> None:
    """The fills derived from cumulative totals sum to the totals: size, value and fees."""
    known, booked = Totals(), Totals()
    for part in parts:
        after = known + part
        fill = fill_between(known, after)
        if fill is not None:
            booked = booked + Totals(fill.size, fill.value, fill.quote_fees, fill.base_fees)
        known = after
    assert booked == known


def test_the_same_totals_are_no_fill() -> None:
    """A repeated report books nothing."""
    same = Totals(Decimal(1), Decimal(50_000), Decimal(300))
    assert fill_between(same, same) is None


def test_a_correction_of_fees_alone_is_a_fill_of_size_zero() -> None:
    """A change of money without a trade is booked, not dropped."""
    before = Totals(Decimal(1), Decimal(50_000), Decimal(300))
    after = Totals(Decimal(1), Decimal(50_000), Decimal(310))
    fill = fill_between(before, after)
    assert fill is not None
    assert fill == FillStep(Decimal(0), Decimal(0), Decimal(10), Decimal(0))


def test_an_attempt_taken_for_absent_comes_to_life_when_the_exchange_shows_it() -> None:
    """ABSENT is our own conclusion and is replaced by any report of the exchange (LIFE-3)."""
    assert merge(Report(AttemptStatus.ABSENT), Report(AttemptStatus.OPEN)).status is AttemptStatus.OPEN
    assert merge(Report(AttemptStatus.ABSENT), Report(AttemptStatus.FAILED)).status is AttemptStatus.FAILED


def test_an_attempt_that_fails_after_it_was_taken_has_ended() -> None:
    """The exchange may accept an order and fail it at the market: FAILED is an end like any other."""
    assert merge(Report(AttemptStatus.OPEN), Report(AttemptStatus.FAILED)).status is AttemptStatus.FAILED
    assert merge(Report(AttemptStatus.CANCELLING), Report(AttemptStatus.FAILED)).status is AttemptStatus.FAILED


def test_an_ended_attempt_does_not_come_back() -> None:
    """A late OPEN after CANCELLED changes nothing; a late FILLED wins, because it is money."""
    ended = Report(AttemptStatus.CANCELLED, Totals(Decimal(1), Decimal(10)))
    assert merge(ended, Report(AttemptStatus.OPEN)) == ended
    assert merge(ended, Report(AttemptStatus.FILLED, ended.totals)).status is AttemptStatus.FILLED


@pytest.mark.parametrize("state", list(OrderState))
def test_a_rejected_or_filled_order_becomes_nothing_else(state: OrderState) -> None:
    """REJECTED and FILLED are final without exception."""
    for end in (OrderState.REJECTED, OrderState.FILLED):
        if state is end:
            assert move_order(end, state) is end
        else:
            with pytest.raises(IllegalMove, match=f"that is {end} can't become {state}"):
                move_order(end, state)


@pytest.mark.parametrize(
    ("now", "to"),
    [
        (OrderState.RECEIVED, OrderState.OPEN),
        (OrderState.RECEIVED, OrderState.SUBMITTING),
        (OrderState.ADMITTED, OrderState.FILLED),
        (OrderState.ADMITTED, OrderState.REJECTED),
        (OrderState.OPEN, OrderState.ADMITTED),
        (OrderState.PARTIALLY_FILLED, OrderState.OPEN),
        (OrderState.CANCELLED, OrderState.OPEN),
        (OrderState.EXPIRED, OrderState.SUBMITTING),
        (OrderState.FAILED, OrderState.REJECTED),
    ],
)
def test_illegal_order_moves_are_refused(now: OrderState, to: OrderState) -> None:
    """Impossible transitions raise IllegalMove with both states in the sentence."""
    with pytest.raises(IllegalMove, match=f"{now} can't become {to}"):
        move_order(now, to)


@given(st.lists(st.sampled_from(OrderState), max_size=12))
def test_an_order_is_decided_on_once(wishes: list[OrderState]) -> None:
    """No path leads back to the states received, admitted or rejected."""
    undecided = {OrderState.RECEIVED, OrderState.ADMITTED, OrderState.REJECTED}
    state, sent = OrderState.RECEIVED, False
    for wish in wishes:
        try:
            state = move_order(state, wish)
        except IllegalMove:
            continue
        sent = sent or state not in undecided
        assert not (sent and state in undecided)


@pytest.mark.parametrize(
    ("now", "to", "legal"),
    [
        (TradeState.OPENING, TradeState.PROTECTED, True),
        (TradeState.PROTECTED, TradeState.CLOSING, True),
        (TradeState.CLOSING, TradeState.PROTECTED, True),
        (TradeState.CLOSING, TradeState.CLOSED, True),
        (TradeState.CLOSED, TradeState.PROTECTED, True),
        (TradeState.OPENING, TradeState.CLOSING, False),
        (TradeState.PROTECTED, TradeState.OPENING, False),
        (TradeState.CLOSED, TradeState.CLOSING, False),
        (TradeState.CLOSED, TradeState.OPENING, False),
    ],
)
def test_trade_moves(now: TradeState, to: TradeState, legal: bool) -> None:
    """CLOSING may return to PROTECTED, CLOSED only to PROTECTED (a late fill); nothing else goes back."""
    if legal:
        assert move_trade(now, to) is to
    else:
        with pytest.raises(IllegalMove):
            move_trade(now, to)


PART = Totals(Decimal("0.3"), Decimal(15_000))


@pytest.mark.parametrize(
    ("attempts", "finished", "state"),
    [
        ([], False, OrderState.ADMITTED),
        ([Report(AttemptStatus.SUBMITTING)], False, OrderState.SUBMITTING),
        ([Report(AttemptStatus.UNKNOWN)], False, OrderState.UNKNOWN),
        ([Report(AttemptStatus.OPEN)], False, OrderState.OPEN),
        ([Report(AttemptStatus.OPEN, PART)], False, OrderState.PARTIALLY_FILLED),
        ([Report(AttemptStatus.CANCELLING, PART)], False, OrderState.CANCELLING),
        ([Report(AttemptStatus.CANCELLED, PART), Report(AttemptStatus.OPEN)], False, OrderState.PARTIALLY_FILLED),
        ([Report(AttemptStatus.CANCELLED, PART)], False, OrderState.PARTIALLY_FILLED),
        ([Report(AttemptStatus.CANCELLED)], False, OrderState.SUBMITTING),
        ([Report(AttemptStatus.CANCELLED, PART)], True, OrderState.CANCELLED),
        ([Report(AttemptStatus.CANCELLED, PART), Report(AttemptStatus.FILLED, PART)], True, OrderState.FILLED),
        ([Report(AttemptStatus.CANCELLED, PART), Report(AttemptStatus.FAILED)], True, OrderState.FAILED),
        ([Report(AttemptStatus.EXPIRED)], True, OrderState.EXPIRED),
        ([Report(AttemptStatus.ABSENT)], True, OrderState.FAILED),
    ],
)
def test_an_orders_state_follows_from_its_attempts(attempts: list[Report], finished: bool, state: OrderState) -> None:
    """The state of an order is a function of its attempts and of whether another one follows."""
    assert order_state(attempts, finished=finished) is state


@pytest.mark.parametrize(
    ("stands", "last", "state"),
    [
        (OrderState.EXPIRED, AttemptStatus.CANCELLED, OrderState.EXPIRED),
        (OrderState.CANCELLED, AttemptStatus.FAILED, OrderState.CANCELLED),
        (OrderState.EXPIRED, AttemptStatus.FILLED, OrderState.FILLED),
        (OrderState.EXPIRED, AttemptStatus.CANCELLING, OrderState.CANCELLING),
        (OrderState.FAILED, AttemptStatus.CANCELLED, OrderState.CANCELLED),
        (OrderState.CANCELLING, AttemptStatus.CANCELLED, OrderState.CANCELLED),
    ],
)
def test_an_end_that_stands_stays(stands: OrderState, last: AttemptStatus, state: OrderState) -> None:
    """A late report of a finished order changes its end only if the transition is allowed."""
    assert order_state([Report(last, PART)], finished=True, now=stands) is state


@pytest.mark.parametrize(
    ("state", "filled", "shown"),
    [
        (OrderState.ADMITTED, 0, "NEW"),
        (OrderState.UNKNOWN, 0, "NEW"),
        (OrderState.OPEN, 0, "ACTIVE"),
        (OrderState.CANCELLING, 1, "PARTIALLY_FILLED"),
        (OrderState.PARTIALLY_FILLED, 1, "PARTIALLY_FILLED"),
        (OrderState.FILLED, 1, "FILLED"),
        (OrderState.REJECTED, 0, "REJECTED"),
    ],
)
def test_the_apis_words_for_states(state: OrderState, filled: int, shown: str) -> None:
    """NEW and ACTIVE are shown from the internal states (LIFE-4)."""
    assert public_state(state, Decimal(filled)) == shown
