"""The exchange's time in feeds: a late message is distinguished from a clock that was set back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

from activities.streams.feeds import Feed, Feeds
from activities.streams.positions import StreamPosition
from exchange.port import StreamEvent

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """A time near noon."""
    return NOON + timedelta(seconds=seconds)


def test_one_word_from_the_past_is_late_and_two_are_a_clock_that_was_set_back() -> None:
    """One message with a time ahead doesn't hold up a feed's clock for longer than the next message."""
    feed = Feed(frozenset())
    for seconds in (0, 1, 601):
        feed.hears(after(seconds))
    feed.hears(after(2))
    assert feed.clock == after(601)
    feed.hears(after(3))
    assert feed.clock == after(3)


def test_a_single_late_word_between_others_changes_nothing() -> None:
    """A late message counts only with another one after it."""
    feed = Feed(frozenset())
    for seconds in (10, 5, 11, 6, 12):
        feed.hears(after(seconds))
    assert feed.clock == after(12)


def test_the_feed_that_is_silent_for_longest_says_how_old_prices_are() -> None:
    """A delivering connection does not hide a silent one; without expected messages none is missing."""

    def opened(symbols: Sequence[str]) -> AsyncIterator[StreamEvent]:
        raise AssertionError(symbols)

    feeds, position = Feeds(opened, lambda *_: None, lambda *_: None), StreamPosition("watcher")
    feeds.note_heard(position)
    assert position.last_message_at is not None
    assert datetime.now(UTC) - position.last_message_at < timedelta(minutes=1)
    feeds.feeds = [Feed(frozenset({"A"}), heard=after(90)), Feed(frozenset({"B"}), heard=after(5))]
    feeds.note_heard(position)
    assert position.last_message_at == after(5)
