"""The activities' reads of an exchange, and how long an answer is used."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from activities.venue import Venue, _Patience
from exchange.port import Unavailable
from tests.support.fake_exchange import FakeExchange

BTC = "BTC-USD"


async def test_an_exit_has_a_touch_where_nobody_sells() -> None:
    """The bid is there, and an exit uses it; an entry, which would buy, has no touch."""
    exchange = FakeExchange(quotes={BTC: Decimal(90)}, no_asks=True)
    venue = Venue(exchange)
    touch = await venue.touch(BTC, within=30)
    assert touch is not None
    assert touch.bid == 90
    with pytest.raises(Unavailable, match="no asks"):
        await venue.quote_for("o-1", BTC)
    exchange.quotes.clear()
    assert await venue.touch(BTC, within=30) is None


async def test_a_touch_serves_the_attempt_that_it_was_read_for() -> None:
    """For the same attempt it is the same; another attempt, or another symbol, has its own."""
    exchange = FakeExchange(quotes={BTC: Decimal(90), "ETH-USD": Decimal(9)})
    venue = Venue(exchange)
    first = await venue.quote_for("o-1", BTC)
    exchange.quotes[BTC] = Decimal(91)
    assert (await venue.quote_for("o-2", BTC)).bid == 91
    assert (await venue.quote_for("o-1", "ETH-USD")).bid == 9
    # however slow this machine is
    venue._attempts = {key: (time.monotonic() + 60, quote) for key, (_, quote) in venue._attempts.items()}
    assert await venue.quote_for("o-1", BTC) == first


def test_a_due_exit_waits_for_silent_reads_in_full_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a whole wait without an answer the next ones are short, until one arrives in time; entries wait as before,
    and a short wait without an answer delays no whole one.
    """
    monkeypatch.setattr("activities.venue._SILENT_SECONDS", 3600.0)  # however slow this machine is
    patience = _Patience()
    patience.unanswered(0.05)
    assert patience.seconds(0.3, due=True) == 0.3
    patience.unanswered(0.3)
    assert patience.seconds(0.3, due=True) == 0.05
    assert patience.seconds(0.01, due=True) == 0.01
    assert patience.seconds(2, due=False) == 2
    patience.answered(3)
    assert patience.seconds(0.3, due=True) == 0.05
    patience.answered(0.4)
    assert patience.seconds(0.3, due=True) == 0.3


async def test_reads_that_answer_again_are_waited_for_again() -> None:
    """A late answer to an abandoned read is noticed: the next exit waits its whole bound."""
    exchange = FakeExchange(quotes={BTC: Decimal(90)})
    venue = Venue(exchange)
    venue._patience.unanswered(0.3)
    assert venue._patience.seconds(0.3, due=True) == 0.05
    await venue.balances(within=30)
    assert venue._patience.seconds(0.3, due=True) == 0.3
