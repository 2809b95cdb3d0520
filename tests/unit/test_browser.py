"""The requests of a browser that are answered."""

import pytest
from multidict import CIMultiDict

from domain.browser import foreign, own_hosts

OWN = {"Host": "127.0.0.1:8233"}
ORIGINS = [f"http://{host}" for host in own_hosts(8233)]
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def refused(method: str, headers: dict[str, str]) -> bool:
    """Whether it is refused on port 8233."""
    return foreign(method, CIMultiDict(headers), ORIGINS) is not None


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", OWN),
        ("GET", {"host": "localhost:8233"}),
        ("GET", {**OWN, "Sec-Fetch-Site": "none", **NAVIGATION}),
        ("GET", {**OWN, "Sec-Fetch-Site": "same-origin"}),
        ("GET", {**OWN, "Sec-Fetch-Site": "cross-site", **NAVIGATION}),
        ("POST", {**OWN, "Origin": "http://127.0.0.1:8233", "Sec-Fetch-Site": "same-origin"}),
        ("POST", {"Host": "localhost:8233", "Origin": "http://localhost:8233"}),
    ],
)
def test_our_own_page_and_the_address_bar_are_answered(method: str, headers: dict[str, str]) -> None:
    """Both forms of our address work; a link from elsewhere opens the page."""
    assert not refused(method, headers)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),
        ("GET", {"Host": "evil.test:8233"}),
        ("GET", {"Host": "127.0.0.1"}),
        ("GET", {"Host": "127.0.0.1:8234"}),
        ("GET", {"Host": "127.0.0.1:8233.evil.test"}),
        ("GET", {**OWN, "Origin": "http://evil.test"}),
        ("GET", {**OWN, "Origin": "null"}),
        ("GET", {**OWN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}),
        ("GET", {**OWN, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}),
        ("GET", {**OWN, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}),
        ("POST", OWN),
        ("POST", {**OWN, "Origin": "null"}),
        ("POST", {**OWN, "Origin": "http://evil.test:8233"}),
        ("POST", {**OWN, "Origin": "https://127.0.0.1:8233"}),
        ("POST", {**OWN, "Origin": "http://127.0.0.1:9000", "Sec-Fetch-Site": "same-site"}),
        ("POST", {**OWN, "Origin": "http://localhost:8233"}),
        ("POST", {**OWN, "Sec-Fetch-Site": "cross-site", **NAVIGATION}),
        ("OPTIONS", {**OWN, "Origin": "http://evil.test"}),
    ],
)
def test_everything_else_is_refused(method: str, headers: dict[str, str]) -> None:
    """A rebound name, another origin, another port's page, a frame, and a change without an origin are refused."""
    assert refused(method, headers)


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    """A server that listens on ::1 is found by that address as a browser writes it, and by no other machine's name."""
    own = [f"http://{host}" for host in own_hosts(8790, "::1")]
    assert own == ["http://[::1]:8790", "http://localhost:8790"]
    asked = CIMultiDict({"Host": "[::1]:8790", "Origin": "http://[::1]:8790"})
    assert foreign("POST", asked, own) is None
    assert foreign("GET", CIMultiDict({"Host": "127.0.0.1:8790"}), own) is not None
    assert foreign("POST", CIMultiDict({"Host": "[::1]:8790", "Origin": "http://[::1]:8791"}), own) is not None
