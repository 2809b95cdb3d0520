"""Unauthenticated requests: how many are allowed from an address, and what is logged of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.requests import Request
from structlog.testing import capture_logs

from web.strangers import Strangers, Tally, address_of


def test_failures_are_put_off_for_longer_each_time() -> None:
    """Five in a minute are allowed, then each wait is twice the previous one, up to ten minutes, until an hour without
    failures.
    """
    clock = [0.0]
    strangers = Strangers(clock=lambda: clock[0])
    assert [strangers.failed("a", per_minute=5) for _ in range(7)] == [0, 0, 0, 0, 0, 10, 10]
    assert strangers.failed("b", per_minute=5) == 0, "another address"
    waits = []
    for _ in range(8):
        clock[0] += 601
        waits.append(max(strangers.failed("a", per_minute=5) for _ in range(6)))
    assert waits == [20, 40, 80, 160, 320, 600, 600, 600]
    clock[0] += 3601
    assert strangers.failed("a", per_minute=5) == 0
    assert [strangers.failed("a", per_minute=5) for _ in range(5)] == [0, 0, 0, 0, 10]


def test_the_table_of_addresses_is_bounded() -> None:
    """A million addresses use the memory of a few; the one that failed longest ago is forgotten first."""
    strangers = Strangers(clock=lambda: 0.0, most=3)
    for _ in range(6):
        strangers.failed("first", per_minute=5)
    for number in range(1000):
        strangers.failed(str(number), per_minute=5)
    assert len(strangers._addresses) == 3
    assert strangers.failed("first", per_minute=5) == 0


def _request(peer: str, *forwarded: str) -> Request:
    headers = [(b"x-forwarded-for", text.encode()) for text in forwarded]
    return Request({"type": "http", "client": (peer, 5), "headers": headers})


@pytest.mark.parametrize(
    ("peer", "forwarded", "behind_proxy", "address"),
    [
        ("192.0.2.1", (), False, "192.0.2.1"),
        ("192.0.2.1", ("198.51.100.7",), False, "192.0.2.1"),
        ("127.0.0.1", ("198.51.100.7",), True, "198.51.100.7"),
        ("127.0.0.1", ("203.0.113.5, 198.51.100.7",), True, "198.51.100.7"),
        ("127.0.0.1", ("203.0.113.5", "198.51.100.7"), True, "198.51.100.7"),
        ("127.0.0.1", ("nonsense",), True, "127.0.0.1"),
        ("127.0.0.1", (), True, "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", (), False, "2001:db8:1:2::/64"),
        ("::1", (), False, "::1"),
        ("::ffff:192.0.2.1", (), False, "192.0.2.1"),
        ("::1", ("::ffff:198.51.100.7",), True, "198.51.100.7"),
    ],
)
def test_whose_request_it_is(peer: str, forwarded: tuple[str, ...], behind_proxy: bool, address: str) -> None:
    """The peer's address, or the nearest proxy's statement if a setting names one; IPv6 by its network."""
    assert address_of(_request(peer, *forwarded), behind_proxy=behind_proxy) == address


def test_a_flood_is_a_line_a_minute() -> None:
    """The first is logged at once, then one line a minute summarises, and without failures nothing is logged."""
    timers: list[Callable[[], None]] = []
    tally = Tally("turned_away", later=lambda seconds, action: timers.append(action) if seconds == 60 else None)
    with capture_logs() as lines:
        for number in range(10_000):
            tally.add("WRONG_TOKEN" if number % 10 else "NO_PROOF", f"192.0.2.{number % 2}")
        assert len(lines) == len(timers) == 1
        timers.pop()()
        assert lines[1]["counts"] == {"WRONG_TOKEN": 9000, "NO_PROOF": 999}
        assert (lines[1]["addresses"], lines[1]["most_from"]) == (2, "192.0.2.1")
        timers.pop()()
        assert (len(lines), timers) == (2, [])
        tally.add("NO_PROOF")
        assert len(lines) == 3
