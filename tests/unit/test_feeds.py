"""The exchange's time as feeds tell it: what is late is told from a clock that was set back."""

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


def test_the_feed_that_is_silent_for_longest_says_how_old_prices_are() -> None:
    """A connection that delivers does not hide one that doesn't; where nothing is wanted nothing is missed."""

    def opened(symbols: Sequence[str]) -> AsyncIterator[StreamEvent]:
        raise AssertionError(symbols)

    feeds, position = Feeds(opened, lambda *_: None, lambda *_: None), StreamPosition("watcher")
    feeds.note_heard(position)
    assert position.last_message_at is not None
    assert datetime.now(UTC) - position.last_message_at < timedelta(minutes=1)
    feeds.feeds = [Feed(frozenset({"A"}), heard=after(90)), Feed(frozenset({"B"}), heard=after(5))]
    feeds.note_heard(position)
    assert position.last_message_at == after(5)
