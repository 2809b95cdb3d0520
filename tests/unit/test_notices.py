"""Which incidents a person is notified of, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from domain.notices import Incident, Phase, as_messages, due_notices

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REPEAT = timedelta(minutes=10)


def incident(
    number: int,
    *,
    kind: str = "user_stream_down",
    severity: str = "CRITICAL",
    minute: float = 0,
    told: float | None = None,
    over: float | None = None,
) -> Incident:
    """An incident, with times in minutes after T0."""
    return Incident(
        number,
        kind,
        severity,
        "main",
        f"sentence {number}",
        T0 + timedelta(minutes=minute),
        None if over is None else T0 + timedelta(minutes=over),
        None if told is None else T0 + timedelta(minutes=told),
    )


def at(minute: float) -> datetime:
    """A time after T0."""
    return T0 + timedelta(minutes=minute)


def test_what_is_new_is_told_once() -> None:
    """A new incident is sent; a sent one is not repeated before the repeat time."""
    (notice,) = due_notices([incident(1)], at(0), repeat=REPEAT)
    assert (notice.phase, notice.reported, notice.over) == (Phase.NEW, (1,), ())
    assert due_notices([incident(1, told=0)], at(9), repeat=REPEAT) == []


def test_a_critical_one_is_repeated_while_it_lasts_and_a_warning_is_not() -> None:
    """After the repeat time an open CRITICAL incident is sent again; a WARNING never."""
    (notice,) = due_notices([incident(1, told=0)], at(10), repeat=REPEAT)
    assert (notice.phase, notice.reported) == (Phase.LASTING, (1,))
    assert due_notices([incident(1, severity="WARNING", told=0)], at(10), repeat=REPEAT) == []


def test_more_of_the_same_waits_for_the_repeat_and_is_counted() -> None:
    """An incident that recurs each minute is sent every ten minutes, with its count, and every row is settled."""
    story = [incident(1, told=0)] + [incident(n, minute=n) for n in range(2, 8)]
    assert due_notices(story, at(8), repeat=REPEAT) == []
    (notice,) = due_notices(story, at(10), repeat=REPEAT)
    assert (notice.phase, notice.times, notice.reported) == (Phase.LASTING, 7, (1, 2, 3, 4, 5, 6, 7))
    assert notice.sentence == "sentence 7"
    assert "(7 times)" in notice.line


def test_an_end_is_told_at_once_and_settles_everything() -> None:
    """A resolved episode is reported with its duration, including rows that were still waiting."""
    story = [incident(1, told=0, over=5), incident(2, minute=1, over=5)]
    (notice,) = due_notices(story, at(5), repeat=REPEAT)
    assert (notice.phase, notice.level) == (Phase.OVER, "SUCCESS")
    assert (notice.reported, notice.over) == ((1, 2), (1, 2))
    assert "for 5 min" in notice.line


def test_what_ended_before_anybody_was_told_is_told_once_with_its_end() -> None:
    """A short outage while the notifier was away is one message, not two."""
    (notice,) = due_notices([incident(1, over=1)], at(60), repeat=REPEAT)
    assert (notice.phase, notice.reported, notice.over) == (Phase.PAST, (1,), (1,))


def test_what_begins_again_is_news_at_once() -> None:
    """After an end a new beginning is sent without waiting, and the ended episode is settled with it."""
    (notice,) = due_notices([incident(1, told=0, over=1), incident(2, minute=2)], at(2), repeat=REPEAT)
    assert (notice.phase, notice.reported, notice.over) == (Phase.NEW, (2,), (1,))


def test_kinds_and_subjects_are_stories_of_their_own() -> None:
    """No incident waits for one of another kind or subject; the most severe is first."""
    story = [
        incident(1, told=0),
        incident(2, kind="stale_price", severity="WARNING"),
        replace(incident(3, minute=1), subject="other"),
    ]
    assert [notice.reported for notice in due_notices(story, at(2), repeat=REPEAT)] == [(3,), (2,)]


def test_many_at_once_come_in_one_message() -> None:
    """Up to three notices are separate messages; more are combined, and none is left out."""
    few = due_notices([incident(n, kind=f"k{n}") for n in range(3)], at(0), repeat=REPEAT)
    assert len(as_messages("main", few)) == 3
    many = due_notices([incident(n, kind=f"k{n}") for n in range(45)], at(0), repeat=REPEAT)
    messages = as_messages("main", many)
    assert [len(message.notices) for message in messages] == [20, 20, 5]
    assert all(f"sentence {n}" in "".join(message.body for message in messages) for n in range(45))
