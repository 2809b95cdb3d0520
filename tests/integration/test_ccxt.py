"""Unmodified ccxt against the paper exchange: only address, trust root and key are set."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import ccxt
import ccxt.pro
import pytest
import pytest_asyncio

from exchange.paper import PaperConfig, PaperControl, PaperExchange
from tests.support.waiting import SLACK

BTC, ETH = "BTC/USD", "ETH/USD"
PAGE = Path(__file__).parents[2] / "docs" / "paper.md"


class Desk:
    """The paper exchange shared by all rows, ccxt on it, and common calls of the rows."""

    def __init__(self, paper: PaperExchange, control: PaperControl) -> None:
        self.paper = paper
        self.control = control
        self.ccxt = self.client()

    def options(self, key_file: Path | None = None) -> dict[str, Any]:
        """ccxt's options: the key, and the exchange's address."""
        key = json.loads((key_file or self.paper.key_file).read_text(encoding="utf-8"))
        urls = {"rest": f"https://{self.paper.rest_address}", "ws": self.paper.stream_url}
        return {"apiKey": key["name"], "secret": key["privateKey"], "urls": {"api": urls}}

    def client(self, key_file: Path | None = None) -> Any:
        """ccxt's asynchronous client, with streams."""
        return ccxt.pro.coinbase({**self.options(key_file), "cafile": str(self.paper.ca_file)})

    async def move(self, price: int) -> None:
        """Move the market to `price`."""
        await self.control.set_price("BTC-USD", f"{price}.00", f"{price}.01")

    async def resting(self, **more: Any) -> str:
        """An order that rests far from the market. Returns its id."""
        return str((await self.ccxt.create_order(BTC, "limit", "buy", 0.01, 50_000, more))["id"])

    async def status(self, order: dict[str, Any]) -> str:
        """The status of a placed order, read again."""
        return str((await self.ccxt.fetch_order(order["id"]))["status"])

    async def filled(self, *terms: Any, **more: Any) -> None:
        """An order with these terms is placed and fills."""
        placed = await self.ccxt.create_order(BTC, *terms, more)
        assert await self.status(placed) == "closed"

    async def rests(self, *terms: Any, **more: Any) -> None:
        """An order with these terms is placed and rests."""
        placed = await self.ccxt.create_order(BTC, *terms, more)
        assert await self.status(placed) == "open"
        await self.ccxt.cancel_order(placed["id"])


@pytest_asyncio.fixture(scope="module")
async def desk() -> AsyncIterator[Desk]:
    """A paper exchange that stands still, BTC at 65,000.00 / 65,000.01."""
    config = PaperConfig(
        step=True,
        products=["BTC-USD", "ETH-USD", "PEPE-USD"],
        balances={"USD": Decimal(1_000_000), "BTC": Decimal(5)},
        private_rate=0,
        public_rate=0,
        message_rate=0,  # the rows are quicker than one subscription at a time
    )
    async with PaperExchange(config) as paper, PaperControl(paper.addresses()) as control:
        found = Desk(paper, control)
        await found.move(65_000)
        await found.ccxt.load_markets()
        yield found
        await found.ccxt.close()


@pytest_asyncio.fixture(autouse=True)
async def at_rest(desk: Desk) -> None:
    """Each row begins at the same price, and without resting orders."""
    await desk.move(65_000)
    for order in await desk.ccxt.fetch_open_orders():
        await desk.ccxt.cancel_order(order["id"])


# -- reads -------------------------------------------------------------------------------------------------------


async def fetch_time(desk: Desk) -> None:
    """Both of ccxt's reads of the exchange's time."""
    for method in ("v2PublicGetTime", "v3PublicGetBrokerageTime"):
        assert abs(await desk.ccxt.fetch_time({"method": method}) / 1000 - time.time()) < 5


async def fetch_currencies(desk: Desk) -> None:
    """Fiat and crypto are separated."""
    found = await desk.ccxt.fetch_currencies()
    assert {name: found[name]["type"] for name in ("USD", "BTC", "PEPE")} == {
        "USD": "fiat",
        "BTC": "crypto",
        "PEPE": "crypto",
    }


async def fetch_markets(desk: Desk) -> None:
    """Spot markets only, with the account's fees and the products' increments."""
    found = {market["symbol"]: market for market in await desk.ccxt.fetch_markets()}
    assert set(found) == {BTC, ETH, "PEPE/USD"}
    btc = found[BTC]
    assert (btc["spot"], btc["active"], btc["taker"], btc["maker"]) == (True, True, 0.006, 0.004)
    assert (btc["precision"]["amount"], btc["precision"]["price"]) == (1e-8, 0.01)


async def exchange_rates(desk: Desk) -> None:
    """A currency's rates in others."""
    rates = (await desk.ccxt.v2PublicGetExchangeRates({"currency": "BTC"}))["data"]["rates"]
    assert Decimal(rates["BTC"]) == 1
    assert 65_000 <= Decimal(rates["USD"]) <= Decimal("65000.01")


async def fetch_accounts(desk: Desk) -> None:
    """Each currency of the account."""
    assert {account["code"] for account in await desk.ccxt.fetch_accounts()} >= {"USD", "BTC"}


async def accounts_v2(desk: Desk) -> None:
    """The older accounts page."""
    found = await desk.ccxt.v2PrivateGetAccounts({"limit": 1})
    after = found["pagination"]["next_starting_after"]
    assert found["data"][0]["currency"]["code"] == "USD"
    assert (await desk.ccxt.v2PrivateGetAccounts({"starting_after": after}))["data"][0]["currency"]["code"] == "BTC"


async def fetch_balance(desk: Desk) -> None:
    """Holds of orders are shown if ccxt uses the newer path."""
    order_id = await desk.resting()
    older = await desk.ccxt.fetch_balance()  # by /v2, which has no holds
    found = await desk.ccxt.fetch_balance({"v3": True})
    assert older["USD"]["total"] == found["USD"]["total"]
    assert found["USD"]["used"] == 503  # with a taker's fee
    assert found["USD"]["free"] + found["USD"]["used"] == found["USD"]["total"]
    await desk.ccxt.cancel_order(order_id)


async def fetch_portfolios(desk: Desk) -> None:
    """The one portfolio."""
    assert [row["id"] for row in await desk.ccxt.fetch_portfolios()] == [desk.paper.venue.portfolio_id]


async def fetch_trading_fees(desk: Desk) -> None:
    """The fees of the exchange's configuration."""
    fees = (await desk.ccxt.fetch_trading_fees())[BTC]
    assert (fees["maker"], fees["taker"]) == (0.004, 0.006)


async def fetch_ticker(desk: Desk) -> None:
    """The touch."""
    found = await desk.ccxt.fetch_ticker(BTC)
    assert (found["bid"], found["ask"]) == (65_000, 65_000.01)


async def fetch_tickers(desk: Desk) -> None:
    """Some, and all."""
    assert set(await desk.ccxt.fetch_tickers([BTC, ETH])) == {BTC, ETH}
    assert set(await desk.ccxt.fetch_tickers()) == {BTC, ETH, "PEPE/USD"}


async def fetch_bids_asks(desk: Desk) -> None:
    """The touch of named products."""
    found = (await desk.ccxt.fetch_bids_asks([BTC]))[BTC]
    assert (found["bid"], found["ask"]) == (65_000, 65_000.01)


async def fetch_order_book(desk: Desk) -> None:
    """As many levels as requested."""
    found = await desk.ccxt.fetch_order_book(BTC, 5)
    assert (len(found["bids"]), len(found["asks"]), found["bids"][0][0]) == (5, 5, 65_000)


async def fetch_ohlcv(desk: Desk) -> None:
    """Candles without a gap, also from a given time on."""
    found = await desk.ccxt.fetch_ohlcv(BTC, "5m", limit=100)
    starts = [row[0] for row in found]
    assert starts == list(range(starts[0], starts[-1] + 1, 300_000))
    assert len(starts) in {99, 100}  # the newest begins with its first trade
    since = starts[50]
    assert (await desk.ccxt.fetch_ohlcv(BTC, "5m", since=since, limit=10))[0][0] == since


async def fetch_trades(desk: Desk) -> None:
    """The latest trades."""
    found = await desk.ccxt.fetch_trades(BTC, limit=10)
    assert len(found) == 10
    assert found[-1]["price"] in {65_000, 65_000.01}


# -- orders ------------------------------------------------------------------------------------------------------


async def limit(desk: Desk) -> None:
    """Orders that rest on both sides, and one that crosses."""
    await desk.rests("limit", "buy", 0.01, 60_000)
    await desk.rests("limit", "sell", 0.01, 70_000)
    await desk.filled("limit", "buy", 0.01, 65_100)


async def post_only(desk: Desk) -> None:
    """It rests, or is refused if it would trade."""
    await desk.rests("limit", "buy", 0.01, 60_000, postOnly=True)
    with pytest.raises(ccxt.ExchangeError, match="POST_ONLY"):
        await desk.ccxt.create_order(BTC, "limit", "buy", 0.01, 65_100, {"postOnly": True})


async def immediate_or_cancel(desk: Desk) -> None:
    """It fills at once."""
    await desk.filled("limit", "buy", 0.01, 65_100, timeInForce="IOC")


async def fill_or_kill(desk: Desk) -> None:
    """It fills at once and in full."""
    await desk.filled("limit", "buy", 0.01, 65_100, timeInForce="FOK")


async def good_till_date(desk: Desk) -> None:
    """It rests with an end time."""
    await desk.rests("limit", "buy", 0.01, 60_000, timeInForce="GTD", end_time="2100-01-01T00:00:00Z")


async def market_with_cost(desk: Desk) -> None:
    """It spends the given amount, fee included."""
    placed = await desk.ccxt.create_market_buy_order_with_cost(BTC, 1_000)
    found = await desk.ccxt.fetch_order(placed["id"])
    assert found["status"] == "closed"
    assert found["cost"] + float(found["fee"]["cost"]) == pytest.approx(1_000, abs=0.01)


async def market(desk: Desk) -> None:
    """It buys by cost and sells by size."""
    await desk.filled("market", "buy", 0.01, 65_000)  # ccxt makes it a cost: amount x price
    await desk.filled("market", "sell", 0.01)


async def stop_loss(desk: Desk) -> None:
    """It rests below the market."""
    await desk.rests("limit", "sell", 0.01, 60_000, stopLossPrice=61_000)


async def trigger_price(desk: Desk) -> None:
    """It rests above the market."""
    await desk.rests("limit", "buy", 0.01, 67_000, triggerPrice=66_000, stop_direction="STOP_DIRECTION_STOP_UP")


async def preview(desk: Desk) -> None:
    """It places nothing."""
    placed = await desk.ccxt.create_order(BTC, "limit", "buy", 0.01, 60_000, {"preview": True})
    assert placed["id"] is None
    assert await desk.ccxt.fetch_open_orders(BTC) == []


async def client_order_id(desk: Desk) -> None:
    """A repeated id returns the first order."""
    first = await desk.resting(client_order_id="mine")  # with ccxt's own parameter clientOrderId it would be dropped
    assert await desk.resting(client_order_id="mine") == first
    assert (await desk.ccxt.fetch_order(first))["clientOrderId"] == "mine"
    await desk.ccxt.cancel_order(first)


async def edit_order(desk: Desk) -> None:
    """Price and size change, and the hold with them."""
    order_id = await desk.resting()
    await desk.ccxt.edit_order(order_id, BTC, "limit", "buy", 0.02, 51_000)
    assert (await desk.ccxt.fetch_balance({"v3": True}))["USD"]["used"] == pytest.approx(1_026.12)
    await desk.ccxt.cancel_order(order_id)


async def cancel_orders(desk: Desk) -> None:
    """Several at once; a second cancel is an error."""
    ids = [await desk.resting() for _ in range(2)]
    await desk.ccxt.cancel_orders(ids)
    assert {row["id"] for row in await desk.ccxt.fetch_canceled_orders(BTC)} >= set(ids)
    with pytest.raises(ccxt.BadRequest):
        await desk.ccxt.cancel_order(ids[0])


async def close_position(desk: Desk) -> None:
    """It sells at the market."""
    placed = await desk.ccxt.close_position(BTC, params={"clientOrderId": "closing", "size": "0.01"})
    assert await desk.status(placed) == "closed"


async def lists_of_orders(desk: Desk) -> None:
    """Open, closed and all."""
    order_id = await desk.resting()
    await desk.filled("market", "sell", 0.01)
    assert [row["id"] for row in await desk.ccxt.fetch_open_orders(BTC)] == [order_id]
    closed = await desk.ccxt.fetch_closed_orders(BTC)
    assert {row["status"] for row in closed} == {"closed"}
    assert {row["id"] for row in await desk.ccxt.fetch_orders(BTC)} >= {order_id, closed[0]["id"]}
    await desk.ccxt.cancel_order(order_id)


async def fetch_my_trades(desk: Desk) -> None:
    """The account's fills, with fees."""
    placed = await desk.ccxt.create_order(BTC, "market", "sell", 0.01)
    mine = [row for row in await desk.ccxt.fetch_my_trades(BTC) if row["order"] == placed["id"]]
    assert sum(row["amount"] for row in mine) == pytest.approx(0.01)
    assert {(row["side"], row["takerOrMaker"], row["fee"]["currency"]) for row in mine} == {("sell", "taker", "USD")}


async def refusals(desk: Desk) -> None:
    """The exchange's refusals are ccxt's own errors."""
    with pytest.raises(ccxt.InsufficientFunds):
        await desk.ccxt.create_order(BTC, "limit", "buy", 1_000, 60_000)
    with pytest.raises(ccxt.ExchangeError, match="order with this orderID was not found"):
        await desk.ccxt.fetch_order("none")
    stranger = desk.client()
    stranger.apiKey = "organizations/x/apiKeys/y"
    try:
        with pytest.raises(ccxt.AuthenticationError):
            await stranger.v3PrivateGetBrokerageAccounts()
    finally:
        await stranger.close()


# -- streams -----------------------------------------------------------------------------------------------------


async def heard(
    wait: Callable[[], Awaitable[Any]], fits: Callable[[Any], bool], happens: Callable[[int], Awaitable[Any]]
) -> None:
    """Repeat an action until ccxt's messages fit."""
    count = 0
    async with asyncio.timeout(SLACK * 30):
        while True:
            hearing = asyncio.ensure_future(wait())
            while not hearing.done():
                count += 1
                await happens(count)
                await asyncio.wait({hearing}, timeout=0.2)
            if fits(hearing.result()):
                return


async def watch_ticker(desk: Desk) -> None:
    """Each move is received."""
    await heard(
        lambda: desk.ccxt.watch_ticker(BTC),
        lambda found: bool(found["bid"] > 66_000),
        lambda count: desk.move(66_000 + count),
    )


async def watch_tickers(desk: Desk) -> None:
    """Each batch is received."""
    await heard(
        lambda: desk.ccxt.watch_tickers([BTC, ETH]),
        lambda found: BTC in found and found[BTC]["bid"] > 66_000,
        lambda count: desk.move(66_000 + count),
    )


async def watch_trades(desk: Desk) -> None:
    """Each trade is received."""
    await heard(
        lambda: desk.ccxt.watch_trades(BTC),
        lambda found: bool(found[-1]["amount"] == 0.125),
        lambda count: desk.control.trade("BTC-USD", "65000", "0.125"),
    )
    assert await desk.ccxt.watch_trades_for_symbols([BTC, ETH])


async def watch_order_book(desk: Desk) -> None:
    """Each change of the book is received."""
    await heard(
        lambda: desk.ccxt.watch_order_book(BTC),
        lambda found: bool(found["bids"][0][0] > 66_000),
        lambda count: desk.move(66_000 + count),
    )
    assert (await desk.ccxt.watch_order_book_for_symbols([ETH]))["asks"]


async def watch_orders(desk: Desk) -> None:
    """An order's opening and end are received."""
    placed: list[str] = []

    async def place(count: int) -> None:
        placed.append(await desk.resting())

    async def cancel(count: int) -> None:
        if placed:
            await desk.ccxt.cancel_order(placed.pop())

    await heard(lambda: desk.ccxt.watch_orders(BTC), lambda found: bool(found[-1]["status"] == "open"), place)
    await heard(lambda: desk.ccxt.watch_orders(BTC), lambda found: bool(found[-1]["status"] == "canceled"), cancel)
    while placed:
        await cancel(0)


async def un_watch(desk: Desk) -> None:
    """A subscription ends."""
    for name in ("ticker", "trades"):
        alone = desk.client()  # ccxt takes an empty list of subscriptions as the answer
        alone.set_markets(desk.ccxt.markets)
        try:
            await getattr(alone, f"watch_{name}")(BTC)
            async with asyncio.timeout(SLACK * 20):
                await getattr(alone, f"un_watch_{name}")(BTC)
        finally:
            await alone.close()


# -- keys --------------------------------------------------------------------------------------------------------


async def ed25519_key(desk: Desk) -> None:
    """The other kind of key."""
    other = desk.client(desk.paper.keyring.ed25519_key_file)
    try:
        assert (await other.fetch_balance())["USD"]["total"] > 0
    finally:
        await other.close()


async def blocking_client(desk: Desk) -> None:
    """The client without asyncio."""
    client = ccxt.coinbase({**desk.options(), "validateServerSsl": str(desk.paper.ca_file)})
    assert (await asyncio.to_thread(client.fetch_balance))["USD"]["total"] > 0


CALLS: list[tuple[str, Callable[[Desk], Awaitable[None]]]] = [
    ("fetchTime", fetch_time),
    ("fetchCurrencies", fetch_currencies),
    ("fetchMarkets, loadMarkets", fetch_markets),
    ("v2PublicGetExchangeRates", exchange_rates),
    ("fetchAccounts", fetch_accounts),
    ("v2PrivateGetAccounts", accounts_v2),
    ("fetchBalance", fetch_balance),
    ("fetchPortfolios", fetch_portfolios),
    ("fetchTradingFees", fetch_trading_fees),
    ("fetchTicker", fetch_ticker),
    ("fetchTickers", fetch_tickers),
    ("fetchBidsAsks", fetch_bids_asks),
    ("fetchOrderBook", fetch_order_book),
    ("fetchOHLCV", fetch_ohlcv),
    ("fetchTrades", fetch_trades),
    ("createOrder: limit", limit),
    ("createOrder: postOnly", post_only),
    ("createOrder: IOC", immediate_or_cancel),
    ("createOrder: FOK", fill_or_kill),
    ("createOrder: GTD", good_till_date),
    ("createMarketBuyOrderWithCost", market_with_cost),
    ("createOrder: market", market),
    ("createOrder: stopLossPrice", stop_loss),
    ("createOrder: triggerPrice", trigger_price),
    ("createOrder: preview", preview),
    ("createOrder: client_order_id", client_order_id),
    ("editOrder", edit_order),
    ("cancelOrder, cancelOrders", cancel_orders),
    ("closePosition", close_position),
    ("fetchOrder, fetchOrders, fetchOpenOrders, fetchClosedOrders, fetchCanceledOrders", lists_of_orders),
    ("fetchMyTrades", fetch_my_trades),
    ("refusals", refusals),
    ("watchTicker", watch_ticker),
    ("watchTickers", watch_tickers),
    ("watchTrades, watchTradesForSymbols", watch_trades),
    ("watchOrderBook, watchOrderBookForSymbols", watch_order_book),
    ("watchOrders", watch_orders),
    ("unWatchTicker, unWatchTrades", un_watch),
    ("an Ed25519 key", ed25519_key),
    ("the blocking client", blocking_client),
]


@pytest.mark.parametrize(("call", "works"), CALLS, ids=[name for name, _ in CALLS])
async def test_a_call_of_ccxt_works(desk: Desk, call: str, works: Callable[[Desk], Awaitable[None]]) -> None:
    """ccxt's call gives the venue's result."""
    await works(desk)


def test_the_page_lists_what_is_tried() -> None:
    """The table of calls in docs/paper.md has exactly the rows tested here."""
    lines = PAGE.read_text(encoding="utf-8").partition("### ccxt, call by call\n")[2].partition("\n#")[0].splitlines()
    cells = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert cells[2:] == [name for name, _ in CALLS]
