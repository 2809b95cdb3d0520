"""How long a submit or a cancel that was not accepted is delayed."""

from __future__ import annotations

import pytest

from workflows.order_attempts import pause_between_cancels, pause_when_busy


@pytest.mark.parametrize(
    ("wish", "tries", "leaves", "pause"),
    [
        (45.0, 1, True, 2.0),
        (45.0, 1, False, 30.0),
        (1.0, 1, True, 1.0),
        (1.0, 6, False, 1.0),
        (None, 1, True, 0.5),
        (None, 6, True, 2.0),
        (None, 6, False, 5.0),
    ],
)
def test_what_the_venue_wishes_is_obeyed_within_bounds(
    wish: float | None, tries: int, leaves: bool, pause: float
) -> None:
    """A pause requested by the venue is kept: by an exit for at most two seconds, by an entry for thirty."""
    assert pause_when_busy(wish, tries, leaves=leaves) == pause


@pytest.mark.parametrize(
    ("tries", "urgent", "pause"),
    [
        (1, True, 2.0),
        (2, True, 4.0),
        (3, True, 4.0),
        (400, True, 4.0),
        (1, False, 2.0),
        (4, False, 16.0),
        (9, False, 30.0),
    ],
)
def test_a_cancel_that_a_due_exit_may_wait_for_is_asked_for_again_within_seconds(
    tries: int, urgent: bool, pause: float
) -> None:
    """However often it was not accepted, the cancel of an order that rests for a position pauses for at most four
    seconds."""
    assert pause_between_cancels(tries, urgent=urgent) == pause
