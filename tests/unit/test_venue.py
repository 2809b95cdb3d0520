"""The activities' reads of an exchange, and how long an answer is used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest

from activities.venue import Venue, _Patience
from domain.market import FeeRates, Product
from exchange.port import Capabilities, Unavailable
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


async def test_fee_rates_are_remembered_by_symbol_where_they_differ_by_symbol() -> None:
    """A venue with one rate for all products is asked once, one with rates by product once a product."""

    @dataclass
    class ByProduct(FakeExchange):
        """BTC-USD costs nothing; it counts what it is asked for."""

        by_symbol: bool = True
        asked: list[str | None] = field(default_factory=list)

        @property
        def capabilities(self) -> Capabilities:
            """With or without rates by product."""
            return replace(super().capabilities, fees_by_symbol=self.by_symbol)

        async def fee_rates(self, symbol: str | None = None) -> FeeRates:
            """As the test set them."""
            self.asked.append(symbol)
            return FeeRates(Decimal(0), Decimal(0)) if symbol == BTC else self.rates

    exchange = ByProduct()
    venue = Venue(exchange)
    assert [(await venue.fee_rates(symbol)).taker for symbol in (BTC, "ETH-USD", BTC)] == [0, Decimal("0.006"), 0]
    assert exchange.asked == [BTC, "ETH-USD"]
    exchange = ByProduct(by_symbol=False)
    venue = Venue(exchange)
    assert {(await venue.fee_rates(symbol)).taker for symbol in (BTC, "ETH-USD")} == {Decimal("0.006")}
    assert exchange.asked == [None]


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


async def test_a_read_that_a_due_exit_gave_up_on_early_tells_the_next_one() -> None:
    """It goes on beside for the rest of its bound: without an answer the next exits wait next to nothing, too, and with
    one in time they wait their whole bound.
    """
    patience = _Patience()
    never = asyncio.create_task(asyncio.Event().wait())
    patience.gave_up(never, 0.05, 0.1, alone=True)
    assert patience.seconds(0.3, due=True) == 0.3
    await _watched(patience)
    assert patience.seconds(0.3, due=True) == 0.05
    await asyncio.wait({never})
    assert never.cancelled()

    async def in_time() -> None:
        patience.answered(0.1)

    answered = asyncio.create_task(in_time())
    patience.gave_up(answered, 0.05, 3600, alone=True)
    await _watched(patience)
    assert patience.seconds(0.3, due=True) == 0.3


async def _watched(patience: _Patience) -> None:
    assert patience._watching is not None
    await patience._watching


class _Rules(FakeExchange):
    """Reads of products that are answered when a test lets them."""

    def __init__(self, *products: Product) -> None:
        super().__init__(product_list=list(products))
        self.answers = asyncio.Event()
        self.answers.set()

    async def products(self, symbols: Sequence[str] | None = None) -> Sequence[Product]:
        """As told when the answer is let go."""
        await self.answers.wait()
        return await super().products(symbols)


async def test_a_due_exit_does_not_wait_for_rules_that_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read again beside it, and what is read serves the next one; others wait, as does one that is due where
    the product took no orders, or the exchange has just refused an order of it.
    """
    monkeypatch.setattr("activities.venue._REMEMBER_SECONDS", 0.0)  # instead of waiting for a minute
    monkeypatch.setattr("activities.venue._SERVE_DUE_SECONDS", float("inf"))  # however slow this machine is
    exchange = _Rules(_btc("1"))
    venue = Venue(exchange)

    async def least(*, within: float, due: bool) -> Decimal:
        product = await venue.rules(BTC, within=within, due=due)
        assert product is not None
        return product.quote_min

    assert await least(within=3600, due=True) == 1
    exchange.answers.clear()
    exchange.product_list = [_btc("2")]
    assert await least(within=3600, due=True) == 1
    exchange.answers.set()
    assert await least(within=3600, due=False) == 2
    exchange.product_list = [_btc("3", halted=True)]
    assert await least(within=3600, due=False) == 3
    exchange.product_list = [_btc("4")]
    assert await least(within=3600, due=True) == 4
    exchange.product_list = [_btc("5")]
    venue.forget_product(BTC)
    assert await least(within=3600, due=True) == 5


async def test_rules_that_were_asked_for_before_a_refusal_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next exit asks again: the earlier question's answer may be what the exchange no longer goes by."""
    monkeypatch.setattr("activities.venue._REMEMBER_SECONDS", 3600.0)
    exchange = _Rules(_btc("1"))
    venue = Venue(exchange)
    exchange.answers.clear()
    assert await venue.rules(BTC, within=0, due=True) is None
    early = venue._product_reads[BTC]
    venue.forget_product(BTC)
    exchange.answers.set()
    await early
    assert BTC not in venue._products
    exchange.product_list = [_btc("2")]
    product = await venue.rules(BTC, within=3600, due=True)
    assert product is not None
    assert product.quote_min == 2


def _btc(quote_min: str, *, halted: bool = False) -> Product:
    return Product(
        symbol=BTC,
        base="BTC",
        quote="USD",
        base_increment=Decimal("0.00000001"),
        quote_increment=Decimal("0.01"),
        price_increment=Decimal("0.01"),
        base_min=Decimal("0.00000001"),
        base_max=Decimal(1000),
        quote_min=Decimal(quote_min),
        quote_max=Decimal(1_000_000),
        halted=halted,
    )
