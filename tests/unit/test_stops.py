"""A person's changes of an open trade's stops, and the resulting rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.exits import ExitReason, ExitRules, Position, Trailing, advance_trailing, due_exit, target_price
from domain.messages import StopsRequest
from domain.protection import Protection, ProtectionKind, as_moved
from domain.stops import StopsRefusedError, moved_stops, same_levels

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ENTRY, BID = Decimal("100.07"), Decimal(102)
RULES = ExitRules(take_profit=Decimal("0.03"))
OPEN = Position(ENTRY, RULES)
STEPPED = replace(OPEN, trailing=Trailing(Decimal(105), Decimal("103.5"), Decimal("1.5"), Decimal("0.75"), 2))

prices = st.decimals(min_value="1", max_value="300", places=4)


def asked(**given: Any) -> StopsRequest:
    """A person's request; prices as text."""
    return StopsRequest.model_validate(given)


def refused(position: Position, bid: Decimal | None, **given: Any) -> str:
    """The code of the refusal."""
    with pytest.raises(StopsRefusedError) as caught:
        moved_stops(position, bid, asked(**given))
    return caught.value.code


requests = st.builds(
    StopsRequest,
    hard_stop=st.none() | prices,
    soft_stop=st.none() | prices,
    trailing_stop=st.none() | prices,
    trailing_arm=st.none() | prices,
    take_profit=st.none() | prices,
    no_take_profit=st.booleans(),
    further=st.booleans(),
    sell_now=st.booleans(),
)


@given(st.sampled_from([OPEN, STEPPED]), prices, requests)
def test_whatever_is_asked_protection_only_gets_weaker_by_the_word(
    position: Position, bid: Decimal, request: StopsRequest
) -> None:
    """No request lowers a trailing stop, widens a stop or target without `further`, or sells at once without
    consent."""
    try:
        moved = moved_stops(position, bid, request)
    except StopsRefusedError:
        return
    if position.trailing is not None:
        assert moved.trailing is not None
        assert moved.trailing.stop >= position.trailing.stop
        assert moved.trailing.steps == position.trailing.steps
    if not request.further:
        assert moved.rules.hard_stop <= RULES.hard_stop
        assert moved.rules.soft_stop <= RULES.soft_stop
        target = target_price(moved.rules, ENTRY)
        assert target is not None
        assert target <= ENTRY * (1 + (RULES.take_profit or 0))
    before = due_exit(position, bid, NOW, NOW).due
    after = due_exit(replace(position, rules=moved.rules, trailing=moved.trailing), bid, NOW, NOW).due
    if not request.sell_now and before is None:
        assert after is None
    assert moved.rules.soft_stop < moved.rules.hard_stop


@given(prices, prices)
def test_a_stop_acts_at_exactly_the_price_that_was_asked_for(one: Decimal, other: Decimal) -> None:
    """Though a plan stores fractions of the entry price, a bid at that price sells, and one a tick better does not."""
    hard, soft = sorted((one, other))
    if not hard < soft < ENTRY:
        return
    moved = moved_stops(OPEN, None, asked(hard_stop=hard, soft_stop=soft, further=True, sell_now=True))
    position = replace(OPEN, rules=moved.rules)
    tick = Decimal("0.0001")
    for bid, due in (
        (hard, ExitReason.HARD_STOP),
        (hard + tick, ExitReason.SOFT_STOP),
        (soft, ExitReason.SOFT_STOP),
        (soft + tick, None),
    ):
        assert due_exit(position, bid, NOW, NOW).due is due


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "NOTHING_TO_CHANGE"),
        ({"soft_stop": "97.56825"}, "NOTHING_TO_CHANGE"),
        ({"soft_stop": "-1"}, "BAD_STOP"),
        ({"hard_stop": "101", "soft_stop": "101.5"}, "BAD_STOP"),
        ({"hard_stop": "98"}, "BAD_STOP"),
        ({"take_profit": "100"}, "BAD_STOP"),
        ({"take_profit": "103", "no_take_profit": True}, "BAD_STOP"),
        ({"trailing_stop": "97"}, "BAD_STOP"),
        ({"hard_stop": "94"}, "FURTHER_AWAY"),
        ({"no_take_profit": True}, "FURTHER_AWAY"),
        ({"take_profit": "104"}, "FURTHER_AWAY"),
        ({"trailing_arm": "104"}, "FURTHER_AWAY"),
        ({"trailing_stop": "102"}, "WOULD_SELL_NOW"),
        ({"trailing_stop": "102", "sell_now": True}, "WOULD_SELL_NOW"),
        ({"take_profit": "101.9"}, "WOULD_SELL_NOW"),
    ],
)
def test_what_is_refused(given: dict[str, Any], code: str) -> None:
    """Signs, order, distance and the bid are checked, and each refusal has its own code."""
    assert refused(OPEN, BID, **given) == code


def test_what_an_armed_trailing_stop_refuses() -> None:
    """It is never lowered, not even with `further`, and can't be armed again."""
    assert refused(STEPPED, Decimal(104), trailing_stop="103", further=True) == "TRAILING_NEVER_LOWERED"
    assert refused(STEPPED, Decimal(104), trailing_arm="103", further=True) == "BAD_STOP"


def test_without_a_bid_only_what_can_not_sell_is_moved() -> None:
    """It is unknown whether a stop would sell at once, so it needs the consent; the arming level can be moved."""
    assert refused(OPEN, None, soft_stop="99") == "BID_UNKNOWN"
    assert refused(OPEN, None, trailing_stop="99", sell_now=True) == "BID_UNKNOWN"
    assert moved_stops(OPEN, None, asked(soft_stop="99", sell_now=True)).rules.soft_stop < RULES.soft_stop
    assert moved_stops(OPEN, None, asked(trailing_arm="103")).sentence == ("price that arms trailing 103.57245 → 103")


def test_a_trailing_stop_that_a_person_sets_goes_on_from_there() -> None:
    """Armed at a price, it keeps its distance from the peak and rises with it; raised, it waits for the peak."""
    armed = moved_stops(OPEN, BID, asked(trailing_stop="101")).trailing
    assert armed == Trailing(BID, Decimal(101), Decimal(1), Decimal("0.5"))
    higher = advance_trailing(armed, OPEN, Decimal(103), None)
    assert higher is not None
    assert higher.stop == 102
    raised = moved_stops(STEPPED, Decimal(105), asked(trailing_stop="104.5")).trailing
    assert raised == replace(STEPPED.trailing or armed, stop=Decimal("104.5"))


def test_a_target_in_price_takes_the_place_of_one_in_atrs() -> None:
    """A person's target counts, and a bracket at the exchange gets its stop and target from it."""
    atrs = ExitRules(trailing_arm=None, take_profit_atr=Decimal(3), target_atr=Decimal(2))
    moved = moved_stops(Position(Decimal(100), atrs), BID, asked(take_profit="105", hard_stop="97", soft_stop="98"))
    assert target_price(moved.rules, Decimal(100)) == 105
    bracket = Protection(kind=ProtectionKind.BRACKET, stop=Decimal("0.05"), take_profit=Decimal("0.1"))
    assert as_moved(bracket, moved.rules).model_dump(include={"stop", "take_profit"}) == {
        "stop": Decimal("0.03"),
        "take_profit": Decimal("0.05"),
    }
    assert as_moved(bracket, atrs) == bracket


def test_stops_of_a_coin_that_costs_next_to_nothing_are_told_apart() -> None:
    """A price has at least six digits; at eight places two stops of such a coin looked the same."""
    cheap = Position(Decimal("0.00000293"), RULES)
    moved = moved_stops(cheap, None, asked(soft_stop="0.000002891", sell_now=True))
    assert moved.sentence == "soft stop 0.00000285675 → 0.000002891"


def test_what_was_asked_for_before_is_nothing_new() -> None:
    """The same prices again change nothing, although fractions of the entry price are not exact."""
    wanted = {"hard_stop": "96.1", "soft_stop": "98.3", "take_profit": "102.7", "trailing_arm": "103.1"}
    for entry in (ENTRY, Decimal(200) / 3 + Decimal(100) / 3 + Decimal("0.07") / 7):
        first = Position(entry, RULES)
        once = replace(first, rules=moved_stops(first, BID, asked(**wanted, further=True)).rules)
        assert refused(once, BID, **wanted) == "NOTHING_TO_CHANGE"
        assert moved_stops(once, BID, asked(**wanted | {"soft_stop": "98.4"})).sentence == "soft stop 98.3 → 98.4"


def test_a_target_that_is_taken_away_leaves_no_bracket_behind() -> None:
    """A stop alone rests then; and a bracket's target is a trade's target, even if its rules have none."""
    bracket = Protection(kind=ProtectionKind.BRACKET, stop=Decimal("0.05"), take_profit=Decimal("0.02"))
    bare = Position(Decimal(100), ExitRules())
    away = moved_stops(bare, BID, asked(no_take_profit=True, further=True), bracket)
    assert away.sentence == "take profit 102 → none"
    assert as_moved(bracket, away.rules).kind is ProtectionKind.STOP_LIMIT
    without = replace(bare, rules=away.rules)
    with pytest.raises(StopsRefusedError, match="already has these stops"):
        moved_stops(without, BID, asked(no_take_profit=True), bracket)
    again = moved_stops(without, BID, asked(take_profit="104"), bracket)
    assert again.sentence == "take profit none → 104"
    back = as_moved(bracket, again.rules)
    assert (back.kind, back.take_profit) == (ProtectionKind.BRACKET, Decimal("0.04"))
    with pytest.raises(StopsRefusedError) as further:
        moved_stops(bare, BID, asked(take_profit="104"), bracket)
    assert further.value.code == "FURTHER_AWAY"


def test_the_same_levels_are_the_same_wish_whoever_asks() -> None:
    """A level more, less or elsewhere is another request; spelling of a price, person and consent are not."""
    first = asked(hard_stop="90", soft_stop="95")
    assert same_levels(first, asked(hard_stop="90.00", soft_stop="95", by="ann", note="news", further=True))
    for other in (asked(hard_stop="90"), asked(hard_stop="90", soft_stop="96"), asked(no_take_profit=True)):
        assert not same_levels(first, other)
