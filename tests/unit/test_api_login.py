"""Log-ins without a server: passwords, sessions, links and failures."""

from __future__ import annotations

import pytest

from tests.support.api import PASSWORD, digest
from web.api.failures import Failures
from web.api.passwords import digest_of, matches
from web.api.sessions import OneTimeLink, Sessions
from web.refusals import Refused
from workers.settings import build
from workers.settings.problems import ConfigError
from workers.settings.sources import SettingSources


def test_a_digest_is_of_one_password_and_tells_nothing() -> None:
    """Two digests of one password differ, each matches only that password, and no password matches a missing digest."""
    other = digest_of(PASSWORD)
    assert other != digest()
    assert PASSWORD not in other
    assert matches(PASSWORD, other)
    assert not matches(PASSWORD + "r", other)
    assert not matches("", None)
    assert not matches("x" * 5000, other)
    for wrong in ("short", "x" * 1025):
        with pytest.raises(ValueError, match="characters"):
            digest_of(wrong)


def test_settings_take_a_digest_as_it_is_printed() -> None:
    """The output of `bottrader api password` is accepted, anything else is refused without being repeated."""
    given = {"api": {"users": {"ana": {"role": "trade", "password_digest": digest()}}}}
    assert build(SettingSources(from_file=given)).api.users["ana"].role == "trade"
    for bad in (PASSWORD, digest()[:-1], digest().replace("$15$", "$2$")):
        given["api"]["users"]["ana"]["password_digest"] = bad
        with pytest.raises(ConfigError, match="api password") as error:
            build(SettingSources(from_file=given))
        assert bad not in str(error.value)


@pytest.mark.parametrize(
    ("api", "clause"),
    [
        ({"users": {"ana": {}}}, "either password_digest or"),
        ({"users": {"temporal": {"password_digest_file": "d"}}}, "sent directly through Temporal"),
        ({"origin": "http://bot.example"}, "needs https"),
        ({"origin": "https://bot.example/page"}, "without a path"),
        ({"programs": {"robot": {"token": "short"}}}, "16 or more"),
        (
            {"users": {"a": {"password_digest_file": "d"}}, "programs": {"a": {"token_file": "t"}}},
            "for a user and for a program",
        ),
    ],
)
def test_settings_that_would_let_somebody_in_are_refused(api: dict[str, object], clause: str) -> None:
    """A user without a password, a name used twice, and an address reachable without TLS are refused."""
    with pytest.raises(ConfigError, match=clause):
        build(SettingSources(from_file={"api": api}))


def test_a_session_is_known_by_its_cookie_only_while_it_lives() -> None:
    """A session ends after its time, or after some time without use; checking it is not use."""
    now = 0.0
    sessions = Sessions(100, 10, clock=lambda: now)
    value, session = sessions.open("ana", "view")
    assert value.encode() not in session.digest
    assert sessions.find(value) is session
    assert sessions.find("other") is None
    assert sessions.find(None) is None
    now = 9.0
    assert sessions.lives(session)
    now = 10.5
    assert not sessions.lives(session)
    assert sessions.find(value) is None
    value, session = sessions.open("ana", "view")
    sessions.end(session)
    assert sessions.find(value) is None


def test_a_link_is_taken_once() -> None:
    """A used token is replaced by another, which is passed to whoever stores it."""
    heard: list[str] = []
    link = OneTimeLink("owner", heard.append)
    link.tell()
    first = link.token
    assert not link.take(first + "x")
    assert not link.take("é")
    assert link.take(first)
    assert not link.take(first)
    assert heard == [first, link.token]


def test_failures_wait_longer_each_time_and_are_forgotten() -> None:
    """Five failures are free, then each causes a longer wait; requests during the wait don't extend it, and after a
    quarter of an hour all are forgotten.
    """
    now = 0.0
    failures = Failures(clock=lambda: now)

    def wait() -> int:
        try:
            failures.begin(["user ana at here"])
        except Refused as refused:
            return refused.retry_after or 0
        return 0

    assert [wait() for _ in range(7)] == [0, 0, 0, 0, 0, 30, 30]
    now = 30.0
    assert [wait(), wait()] == [0, 60]
    now = 90.0
    assert [wait(), wait()] == [0, 120]
    failures.begin(["user ana at elsewhere"])
    now = 2000.0
    assert [wait() for _ in range(6)] == [0, 0, 0, 0, 0, 30]


def test_a_good_log_in_forgets_its_own_failures_only() -> None:
    """A successful log-in clears the user's failures, and of its address only its own."""
    failures = Failures(clock=lambda: 0.0)
    ana, bob = ["user ana at x", "address x"], ["user bob at x", "address x"]
    for _ in range(4):
        failures.begin(bob)
    failures.begin(ana)
    failures.succeeded(ana)
    failures.begin(bob)
    with pytest.raises(Refused):
        failures.begin(ana)
