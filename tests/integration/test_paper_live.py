"""Paper money on live prices: a second paper exchange is the public feed, and its prices are used."""

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from exchange.paper import PaperConfig, PaperControl, PaperExchange
from exchange.paper.config import Live
from exchange.paper.errors import PaperError
from exchange.paper.fills import OPTIMISTIC
from tests.integration.test_paper_command import addresses, end, start
from tests.support.waiting import SLACK, eventually

BTC, ETH = "BTC-USD", "ETH-USD"
FEED = PaperConfig(step=True, products=[BTC, ETH], connection_rate=0)
RICH = {"USD": Decimal(100_000), "BTC": Decimal(10)}


@pytest_asyncio.fixture
async def feed() -> AsyncIterator[PaperControl]:
    """The control of an exchange whose public stream is the feed, BTC at 65,000.00 / 65,010.00."""
    async with PaperExchange(FEED) as exchange, PaperControl(exchange.addresses()) as control:
        await control.set_price(BTC, "65000.00", "65010.00")
        control.stream = exchange.stream_url  # type: ignore[attr-defined]
        control.rest = exchange.rest_address  # type: ignore[attr-defined]
        control.ca_file = exchange.ca_file  # type: ignore[attr-defined]
        yield control


def on(feed: Any, **changes: object) -> PaperConfig:
    """The settings of an exchange on the feed's prices."""
    found = PaperConfig(source=Live(feed.stream, None), products=[BTC, ETH], balances=RICH, private_rate=0)
    return replace(found, **changes)  # type: ignore[arg-type]


async def quote(paper: PaperExchange) -> tuple[Decimal, Decimal]:
    """Bid and ask of BTC."""
    ticker = paper.venue.ticker(BTC)
    return Decimal(str(ticker["best_bid"])), Decimal(str(ticker["best_ask"]))


async def quoted(paper: PaperExchange, bid: str, ask: str) -> None:
    """Wait until the exchange shows this quote."""

    async def so() -> bool:
        return await quote(paper) == (Decimal(bid), Decimal(ask))

    await eventually(so, what=f"BTC is at {bid} / {ask}", within=20)


async def test_quotes_are_the_feeds_and_orders_fill_by_its_trades(feed: Any) -> None:
    """The quote follows; an order at the bid rests until a trade goes through it, and gets a quarter of that; a market
    order pays a basis point beyond the touch.
    """
    async with PaperExchange(on(feed)) as paper, PaperControl(paper.addresses()) as control:
        assert await quote(paper) == (Decimal(65_000), Decimal(65_010))
        order = await control.order(
            BTC, "BUY", {"limit_limit_gtc": {"base_size": "0.1", "limit_price": "65000", "post_only": True}}
        )
        await feed.trade(BTC, "65000.00", "0.2", "SELL")
        await feed.trade(BTC, "64999.99", "0.2", "SELL")

        async def filled() -> Decimal:
            rows = await control.orders()
            return Decimal(next(row for row in rows if row["order_id"] == order["order_id"])["filled_size"])

        await eventually(filled, what="it is filled in part", within=20)
        assert await filled() == Decimal("0.05")
        await control.cancel(order["order_id"])
        await feed.set_price(BTC, "64000.00", "64001.00")
        await quoted(paper, "64000.00", "64001.00")
        sold = await control.order(BTC, "SELL", {"market_market_ioc": {"base_size": "0.01"}})
        fills = [row for row in await control.fills() if row["order_id"] == sold["order_id"]]
        assert [Decimal(row["price"]) for row in fills] == [Decimal("63993.60")]


async def test_while_the_feed_is_away_so_is_the_exchange(feed: Any) -> None:
    """Nothing trades at an old price: REST answers 503 and the streams end; when the feed is back its price is used."""
    async with PaperExchange(on(feed, fills=OPTIMISTIC)) as paper, aiohttp.ClientSession() as session:
        context = ssl.create_default_context(cafile=str(paper.ca_file))
        url = f"https://{paper.rest_address}/api/v3/brokerage/market/products/{BTC}"

        async def status() -> int:
            async with session.get(url, ssl=context) as answer:
                return answer.status

        async with session.ws_connect(paper.stream_url) as stream:
            await stream.send_json({"type": "subscribe", "channel": "heartbeats"})
            assert await status() == 200
            await feed.fault("refused", "market", count=1000)
            await feed.sockets("drop", "market")

            async def away() -> bool:
                return await status() == 503

            await eventually(away, what="it answers nothing", within=20)
            async with asyncio.timeout(SLACK * 10):
                async for _ in stream:
                    pass
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(paper.stream_url)
        await feed.set_price(BTC, "60000.00", "60001.00")
        await feed.clear_faults()

        async def back() -> bool:
            return await status() == 200

        await eventually(back, what="it answers again", within=60)
        assert await quote(paper) == (Decimal(60_000), Decimal(60_001))
        assert paper.venue.engine.books[BTC].last < 65_000


async def test_a_product_that_the_feed_lacks_is_left_out(feed: Any) -> None:
    """The others trade, and it is named; if all are missing there is nothing to trade."""
    async with PaperExchange(on(feed, products=[BTC, "SOL-USD", ETH])) as paper:
        assert paper.left_out == ("SOL-USD",)
        assert set(paper.venue.engine.books) == {BTC, ETH}
    with pytest.raises(PaperError, match="it has none of the products") as caught:
        await PaperExchange(on(feed, products=["SOL-USD"])).__aenter__()
    assert caught.value.code == "LIVE_UNREACHABLE"


async def test_an_account_stays_with_its_kind_of_prices(feed: Any, tmp_path: Path) -> None:
    """One with trades on generated prices isn't settled at live ones, nor the reverse; an unused one may change."""
    market = {"market_market_ioc": {"base_size": "0.01"}}
    live, made_up = on(feed, data_folder=tmp_path), PaperConfig(step=True, products=[BTC], data_folder=tmp_path)
    async with PaperExchange(replace(made_up, balances=RICH)):
        pass
    async with PaperExchange(live) as paper, PaperControl(paper.addresses()) as control:
        await control.order(BTC, "SELL", market)
    with pytest.raises(PaperError, match="has traded on live prices") as caught:
        await PaperExchange(made_up).__aenter__()
    assert caught.value.code == "OTHER_PRICES"
    async with PaperExchange(live):
        pass
    other = replace(made_up, data_folder=tmp_path / "other", balances=RICH)
    async with PaperExchange(other) as paper, PaperControl(paper.addresses()) as control:
        await control.order(BTC, "SELL", market)
    with pytest.raises(PaperError, match="has traded on generated or recorded prices"):
        await PaperExchange(replace(live, data_folder=tmp_path / "other")).__aenter__()


async def test_candles_of_before_are_the_venues_or_none(feed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indicators use the candles of the venue's REST interface; if it is unreachable none are generated."""
    context = ssl.create_default_context(cafile=str(feed.ca_file))
    path = f"api/v3/brokerage/market/products/{BTC}/candles?granularity=FIVE_MINUTE&limit=300"

    async def candles(rest: str, trust: ssl.SSLContext) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"https://{rest}/{path}", ssl=trust) as answer:
            return {row["start"]: row for row in (await answer.json())["candles"]}

    theirs = await candles(feed.rest, context)
    monkeypatch.setenv("SSL_CERT_FILE", str(feed.ca_file))
    rest = f"https://{feed.rest}/api/v3/brokerage"
    process = await start("--json", "--live", "--live-url", feed.stream, "--live-rest", rest, "--product", BTC)
    try:
        found = await addresses(process)
        ours = await candles(found["rest"], ssl.create_default_context(cafile=found["ca_file"]))
    finally:
        assert await end(process) == (0, "")
    closed = sorted(theirs)[5:-1]
    assert len(closed) > 250
    assert {start: ours[start] for start in closed} == {start: theirs[start] for start in closed}
    async with PaperExchange(on(feed)) as paper:
        assert len(paper.venue.candles[BTC].bars(300)) <= 2


async def test_without_a_feed_it_is_a_sentence_and_exit_code_3() -> None:
    """Nothing is started, and the sentence says what to do instead."""
    process = await start("--json", "--live", "--live-url", "ws://127.0.0.1:9/none")
    output, errors = await asyncio.wait_for(process.communicate(), SLACK * 40)
    assert (process.returncode, output) == (3, b"")
    assert "No live prices from ws://127.0.0.1:9/none: there may be no network" in errors.decode()
    assert errors.decode().count("\n") == 1


async def test_the_command_says_how_it_fills(feed: Any) -> None:
    """Its first lines have the price source, the fill set with its rules, and products that are not traded."""
    process = await start(
        "--live", "--live-url", feed.stream, "--fills", "pessimistic", "--product", BTC, "--product", "SOL-USD"
    )
    assert process.stdout is not None
    lines = [(await asyncio.wait_for(process.stdout.readline(), SLACK * 40)).decode() for _ in range(3)]
    assert (await end(process, signal.SIGINT))[0] == 0
    assert f"live prices of {feed.stream}. Fills, pessimistic:" in lines[1]
    assert "Not traded, as the feed has no price of them: SOL-USD." in lines[2]
    assert json.dumps(lines).isascii()
