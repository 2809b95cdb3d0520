"""How long a submit that was not taken is put off."""

from __future__ import annotations

import pytest

from workflows.order_course import pause_when_busy


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
    """A pause that the venue asks for is kept: by an exit for two seconds at most, by an entry for thirty."""
    assert pause_when_busy(wish, tries, leaves=leaves) == pause
