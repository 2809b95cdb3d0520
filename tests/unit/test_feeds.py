"""The exchange's time as feeds tell it: what is late is told from a clock that was set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from activities.feeds import Feed

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """A time near noon."""
    return NOON + timedelta(seconds=seconds)


def test_one_word_from_the_past_is_late_and_two_are_a_clock_that_was_set_back() -> None:
    """A feed's clock is not held up by a time that was once ahead for longer than one message."""
    feed = Feed(frozenset())
    for seconds in (0, 1, 601):
        feed.hears(after(seconds))
    feed.hears(after(2))
    assert feed.clock == after(601)
    feed.hears(after(3))
    assert feed.clock == after(3)


def test_a_single_late_word_between_others_changes_nothing() -> None:
    """Each late word needs another one after it to count."""
    feed = Feed(frozenset())
    for seconds in (10, 5, 11, 6, 12):
        feed.hears(after(seconds))
    assert feed.clock == after(12)
