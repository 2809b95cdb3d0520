"""The unmodified official client with the paper exchange: place, list, cancel, fills, and an order on the stream."""

import asyncio
import inspect
import json
import queue
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from coinbase.rest import RESTClient
from coinbase.websocket import WSClient, WSUserClient
from requests.exceptions import HTTPError

from exchange.paper import PaperConfig, PaperControl, PaperExchange

BTC = "BTC-USD"


@pytest_asyncio.fixture
async def paper(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PaperExchange]:
    """A paper exchange in step mode with BTC at 65,000.00 / 65,000.01."""
    config = PaperConfig(
        step=True,
        products=[BTC, "ETH-USD", "PEPE-USD"],
        balances={"USD": Decimal(1_000_000)},
        private_rate=0,
        public_rate=0,
    )
    async with PaperExchange(config) as exchange:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(exchange.ca_file))
        async with PaperControl(exchange.addresses()) as control:
            await control.set_price(BTC, "65000.00", "65000.01")
        yield exchange


@pytest.fixture
def client(paper: PaperExchange) -> RESTClient:
    """The official client, as its users make it."""
    return RESTClient(key_file=str(paper.key_file), base_url=paper.rest_address, timeout=10)


def new_id() -> str:
    """A new client order id."""
    return str(uuid.uuid4())


def in_minutes(minutes: int) -> str:
    """An RFC 3339 time from now."""
    return (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_reads_of_the_account_and_the_market(client: RESTClient) -> None:
    """Accounts, products, books, candles, trades, fees, time and permissions parse with the client's own types."""

    def calls() -> None:
        account = client.get_accounts().accounts[0]
        assert (account.currency, account.available_balance["value"]) == ("USD", "1000000")
        assert client.get_account(account.uuid).account.hold == {"value": "0", "currency": "USD"}
        assert client.get_products(product_ids=[BTC, "ETH-USD"]).num_products == 2
        product = client.get_product(BTC)
        assert (product.base_increment, product.quote_increment, product.status) == ("0.00000001", "0.01", "online")
        book = client.get_best_bid_ask([BTC]).pricebooks[0]
        assert (book.bids[0].price, book.asks[0].price) == ("65000", "65000.01")
        assert len(client.get_product_book(BTC, limit=5).pricebook.asks) == 5
        now = int(time.time())
        candles = client.get_candles(BTC, str(now - 300 * 120), str(now), "FIVE_MINUTE").candles
        starts = [int(candle.start) for candle in candles]
        assert len(starts) >= 100
        assert starts == sorted(starts, reverse=True)
        assert all(start % 300 == 0 for start in starts)
        trades = client.get_market_trades(BTC, limit=10).trades
        ids = [int(trade.trade_id) for trade in trades]
        assert ids == list(range(ids[0], ids[0] - 10, -1))
        tier = client.get_transaction_summary().fee_tier
        assert (tier["maker_fee_rate"], tier["taker_fee_rate"]) == ("0.004", "0.006")
        assert abs(int(client.get_unix_time().epoch_seconds) - now) <= 2
        permissions = client.get_api_key_permissions()
        assert (permissions.can_view, permissions.can_trade) == (True, True)

    await asyncio.to_thread(calls)


async def test_public_twins_need_no_key(paper: PaperExchange) -> None:
    """The /market paths answer a client without a key; private ones don't."""

    def calls() -> None:
        public = RESTClient(api_key=None, api_secret=None, base_url=paper.rest_address, timeout=10)
        assert public.get_public_product(BTC).product_id == BTC
        assert public.get_public_products().num_products == 3
        assert public.get_public_product_book(BTC).pricebook.product_id == BTC
        now = int(time.time())
        assert public.get_public_candles(BTC, str(now - 3000), str(now), "ONE_MINUTE").candles
        assert public.get_public_market_trades(BTC, limit=5).trades
        with pytest.raises(Exception, match="Unauthenticated"):
            public.get_accounts()

    await asyncio.to_thread(calls)


def orders_to_place(client: RESTClient) -> list[tuple[Callable[[], Any], str]]:
    """Every kind of order that the client has a method for, and its expected status."""
    end = in_minutes(10)
    return [
        (lambda: client.market_order_buy(new_id(), BTC, quote_size="1000"), "FILLED"),
        (lambda: client.market_order_buy(new_id(), BTC, base_size="0.1"), "FILLED"),
        (lambda: client.market_order_sell(new_id(), BTC, base_size="0.01"), "FILLED"),
        (lambda: client.limit_order_ioc_buy(new_id(), BTC, "0.01", "65100"), "FILLED"),
        (lambda: client.limit_order_ioc_sell(new_id(), BTC, "0.01", "65500"), "CANCELLED"),
        (lambda: client.limit_order_gtc_buy(new_id(), BTC, "0.01", "60000", post_only=True), "OPEN"),
        (lambda: client.limit_order_gtc_sell(new_id(), BTC, "0.01", "70000"), "OPEN"),
        (lambda: client.limit_order_gtd_buy(new_id(), BTC, "0.01", "60000", end), "OPEN"),
        (lambda: client.limit_order_gtd_sell(new_id(), BTC, "0.01", "70000", end), "OPEN"),
        (lambda: client.limit_order_fok_buy(new_id(), BTC, "0.01", "65100"), "FILLED"),
        (lambda: client.limit_order_fok_sell(new_id(), BTC, "0.01", "65500"), "CANCELLED"),
        (
            lambda: client.stop_limit_order_gtc_buy(new_id(), BTC, "0.01", "67000", "66000", "STOP_DIRECTION_STOP_UP"),
            "OPEN",
        ),
        (
            lambda: client.stop_limit_order_gtc_sell(
                new_id(), BTC, "0.01", "60000", "61000", "STOP_DIRECTION_STOP_DOWN"
            ),
            "OPEN",
        ),
        (
            lambda: client.stop_limit_order_gtd_sell(
                new_id(), BTC, "0.01", "60000", "61000", end, "STOP_DIRECTION_STOP_DOWN"
            ),
            "OPEN",
        ),
        (lambda: client.trigger_bracket_order_gtc_sell(new_id(), BTC, "0.01", "70000", "60000"), "OPEN"),
        (lambda: client.trigger_bracket_order_gtd_sell(new_id(), BTC, "0.01", "70000", "60000", end), "OPEN"),
        (lambda: client.close_position(new_id(), BTC, size="0.001"), "FILLED"),
    ]


async def test_every_kind_of_order_the_client_can_place(client: RESTClient) -> None:
    """Each helper's order is accepted, has the expected status, and is listed correctly."""

    def calls() -> None:
        for place, status in orders_to_place(client):
            placed = place()
            assert placed.success, placed.to_dict()
            order = client.get_order(placed.success_response["order_id"]).order
            assert order.status == status
            assert order.client_order_id == placed.success_response["client_order_id"]
        listed = client.list_orders(order_status=["OPEN"]).orders
        assert {order.status for order in listed} == {"OPEN"}
        assert {order.order_type for order in listed} == {"LIMIT", "STOP_LIMIT", "BRACKET"}

    await asyncio.to_thread(calls)


NOT_SPOT = re.compile(
    "futures|perps|intraday|margin|collateral|convert|payment|sweep|(create|edit|delete|move|allocate)_portfolio|breakdown"
)
PLUMBING = {"get", "post", "put", "delete", "prepare_and_send_request", "send_request", "set_headers"}


def spot_methods() -> set[str]:
    """Every public method of the client for spot trading."""
    public = {name for name, _ in inspect.getmembers(RESTClient, inspect.isfunction) if not name.startswith("_")}
    return {name for name in public - PLUMBING if not NOT_SPOT.search(name)}


def plain_calls(client: RESTClient) -> dict[str, Callable[[], Any]]:
    """The methods that are not an order kind, each with valid arguments."""
    now = int(time.time())
    rest = client.limit_order_gtc_buy(new_id(), BTC, "0.01", "50000").success_response["order_id"]
    terms = {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "50000", "post_only": False}}
    return {
        "get_accounts": lambda: client.get_accounts().accounts[0].uuid,
        "get_account": lambda: client.get_account(client.get_accounts().accounts[0].uuid).account,
        "get_api_key_permissions": lambda: client.get_api_key_permissions().can_trade,
        "get_portfolios": lambda: client.get_portfolios().portfolios[0].uuid,
        "get_transaction_summary": lambda: client.get_transaction_summary().fee_tier,
        "get_unix_time": lambda: client.get_unix_time().epoch_seconds,
        "get_products": lambda: client.get_products().products,
        "get_product": lambda: client.get_product(BTC).price,
        "get_product_book": lambda: client.get_product_book(BTC).pricebook.bids,
        "get_best_bid_ask": lambda: client.get_best_bid_ask([BTC]).pricebooks,
        "get_candles": lambda: client.get_candles(BTC, str(now - 6000), str(now), "ONE_MINUTE").candles,
        "get_market_trades": lambda: client.get_market_trades(BTC, 5).trades,
        "get_public_products": lambda: client.get_public_products().products,
        "get_public_product": lambda: client.get_public_product(BTC).price,
        "get_public_product_book": lambda: client.get_public_product_book(BTC).pricebook.bids,
        "get_public_candles": lambda: client.get_public_candles(BTC, str(now - 6000), str(now), "ONE_MINUTE").candles,
        "get_public_market_trades": lambda: client.get_public_market_trades(BTC, 5).trades,
        "create_order": lambda: client.create_order(new_id(), BTC, "BUY", terms).success,
        "preview_order": lambda: client.preview_order(BTC, "BUY", terms).errs == [],
        "close_position": lambda: client.close_position(new_id(), BTC, size="0.01").success,
        "preview_edit_order": lambda: client.preview_edit_order(rest, size="0.02", price="51000").errors == [],
        "edit_order": lambda: client.edit_order(rest, size="0.02", price="51000").success,
        "get_order": lambda: client.get_order(rest).order.order_id,
        "list_orders": lambda: client.list_orders(order_status=["OPEN"]).orders,
        "cancel_orders": lambda: client.cancel_orders([rest]).results[0].success,
        "get_fills": lambda: client.get_fills().fills,
    }


def terms_of(method: str, side: str) -> dict[str, str]:
    """Valid arguments for an order of this method at BTC 65,000."""
    buy = side == "BUY"
    fitting = {
        "client_order_id": new_id(),
        "product_id": BTC,
        "side": side,
        "base_size": "0.01",
        "limit_price": "60000" if buy else "70000",
        "stop_trigger_price": "70000" if buy else "60000",
        "end_time": in_minutes(10),
    }
    if "stop_limit" in method:
        fitting["limit_price"], fitting["stop_price"] = ("67000", "66000") if buy else ("60000", "61000")
        fitting["stop_direction"] = "STOP_DIRECTION_STOP_UP" if buy else "STOP_DIRECTION_STOP_DOWN"
    wanted = set(inspect.signature(getattr(RESTClient, method)).parameters)
    return {name: value for name, value in fitting.items() if name in wanted}


async def test_every_method_that_spot_trading_uses(client: RESTClient, paper: PaperExchange) -> None:
    """Each method for spot orders and reads works, and none is missing here."""
    async with PaperControl(paper.addresses()) as control:
        await control.deposit("BTC", "5")

    def calls() -> None:
        plain = plain_calls(client)
        kinds = {name for name in spot_methods() if re.search("(market|limit|bracket)_order", name)}
        assert kinds.isdisjoint(plain)
        assert kinds | set(plain) == spot_methods()
        for name in sorted(kinds):
            side = "SELL" if "bracket" in name or name.endswith("_sell") else "BUY"
            side = "BUY" if name.endswith("_buy") else side
            answer = getattr(client, name)(**terms_of(name, side))
            assert answer.errs == [] if name.startswith("preview") else answer.success, (name, answer.to_dict())
        for name, call in plain.items():
            assert call(), name

    await asyncio.to_thread(calls)


async def test_place_list_cancel_and_fills(client: RESTClient, paper: PaperExchange) -> None:
    """A limit order rests, fills in part as maker, is cancelled, and its fills add up to its totals."""
    placed = await asyncio.to_thread(client.limit_order_gtc_buy, new_id(), BTC, "0.5", "64000")
    order_id = placed.success_response["order_id"]
    async with PaperControl(paper.addresses()) as control:
        await control.trade(BTC, "64000", "0.2")

    def calls() -> None:
        order = client.get_order(order_id).order
        assert (order.status, order.filled_size, order.number_of_fills) == ("OPEN", "0.2", "1")
        assert client.get_accounts().accounts[0].hold["value"] == "19315.2"
        result = client.cancel_orders([order_id, "unknown"]).results
        assert [(item.success, item.failure_reason) for item in result] == [
            (True, "UNKNOWN_CANCEL_FAILURE_REASON"),
            (False, "UNKNOWN_CANCEL_ORDER"),
        ]
        order = client.get_order(order_id).order
        assert (order.status, order.total_fees, order.filled_value) == ("CANCELLED", "51.2", "12800")
        assert order.total_value_after_fees == "12851.2"
        fills = client.get_fills(order_ids=[order_id]).fills
        assert [(fill.size, fill.price, fill.commission, fill.liquidity_indicator) for fill in fills] == [
            ("0.2", "64000", "51.2", "MAKER")
        ]
        assert client.get_accounts().accounts[0].available_balance["value"] == "987148.8"

    await asyncio.to_thread(calls)


async def test_repeated_client_order_id_answers_with_the_first_order(client: RESTClient, paper: PaperExchange) -> None:
    """The same id again, even with another order, returns the first order's id, echoes the new request, trades
    nothing."""
    same = new_id()

    def calls() -> None:
        first = client.market_order_buy(same, BTC, quote_size="100")
        second = client.limit_order_gtc_sell(same, "ETH-USD", "1", "9999")
        assert second.success
        assert second.success_response["order_id"] == first.success_response["order_id"]
        assert (second.success_response["product_id"], second.success_response["side"]) == ("ETH-USD", "SELL")
        assert len(client.list_orders().orders) == 1

    await asyncio.to_thread(calls)
    async with PaperControl(paper.addresses()) as control:
        assert [entry["duplicate"] for entry in await control.journal()] == [False, True]


async def test_refusals_are_answers_not_errors(client: RESTClient) -> None:
    """Refusals of the venue are success false with reasons; bad requests are HTTP errors."""

    def calls() -> None:
        broke = client.market_order_buy(new_id(), BTC, quote_size="2000000")
        assert not broke.success
        error = broke.error_response
        assert error["error"] == error["new_order_failure_reason"] == "INSUFFICIENT_FUND"
        assert error["preview_failure_reason"] == "PREVIEW_INSUFFICIENT_FUND"
        crossing = client.limit_order_gtc_buy(new_id(), BTC, "0.1", "65001", post_only=True)
        assert crossing.error_response["error"] == "INVALID_LIMIT_PRICE_POST_ONLY"
        unknown = client.market_order_buy(new_id(), "NONE-USD", quote_size="10")
        assert unknown.error_response["error"] == "INVALID_PRODUCT_ID"
        with pytest.raises(HTTPError, match="404"):
            client.get_order("none")
        with pytest.raises(HTTPError, match="404"):
            client.get_product("NONE-USD")
        with pytest.raises(HTTPError, match="400"):
            client.list_orders(order_status=["OPEN", "FILLED"])

    await asyncio.to_thread(calls)


async def test_preview_and_edit(client: RESTClient) -> None:
    """A preview changes nothing and has the order's expected result; an edit changes price and size."""

    def calls() -> None:
        preview = client.preview_market_order_buy(BTC, quote_size="1006")
        assert preview.errs == []
        assert Decimal(preview.order_total) <= 1006
        assert client.preview_limit_order_gtc_buy(BTC, "100", "65000").errs == ["PREVIEW_INSUFFICIENT_FUND"]
        assert client.list_orders().orders == []
        order_id = client.limit_order_gtc_buy(new_id(), BTC, "0.1", "60000").success_response["order_id"]
        assert client.preview_edit_order(order_id, size="0.2", price="61000").errors == []
        assert client.edit_order(order_id, size="0.2", price="61000").success
        edited = client.get_order(order_id).order
        assert edited.edit_history[0].price == "61000"
        assert edited.order_configuration["limit_limit_gtc"].to_dict() == {
            "base_size": "0.2", "limit_price": "61000", "post_only": False,
        }  # fmt: skip
        assert client.list_orders(product_type="FUTURE").orders == []
        assert client.get_products(product_type="FUTURE").products == []
        assert [row.order_id for row in client.list_orders(product_type="SPOT").orders] == [order_id]
        assert edited.outstanding_hold_amount == "12273.2"
        failed = client.edit_order(order_id, price="62000")
        assert failed.errors[0].edit_failure_reason == "CANNOT_EDIT_TO_BELOW_FILLED_SIZE"

    await asyncio.to_thread(calls)


async def test_attached_bracket_goes_over_keyword_arguments(client: RESTClient, paper: PaperExchange) -> None:
    """A bracket attached to an entry starts when the entry has filled, linked on both sides."""
    placed = await asyncio.to_thread(
        lambda: client.limit_order_gtc_buy(
            new_id(),
            BTC,
            "0.1",
            "64000",
            attached_order_configuration={
                "trigger_bracket_gtc": {"limit_price": "66000", "stop_trigger_price": "63000"}
            },
        )
    )
    parent, child = placed.success_response["order_id"], placed.success_response["attached_order_id"]
    async with PaperControl(paper.addresses()) as control:
        await control.set_price(BTC, "63999.98", "63999.99")
        before = await asyncio.to_thread(client.get_order, child)
        assert (before.order.status, before.order.originating_order_id) == ("OPEN", parent)
        await control.set_price(BTC, "66000.00", "66000.01")
    after = (await asyncio.to_thread(client.get_order, child)).order
    assert (after.status, after.filled_size) == ("FILLED", "0.1")


async def test_lists_page_to_their_end(client: RESTClient) -> None:
    """Orders page by cursor until has_next is false, fills until the cursor is empty; nothing twice, nothing lost."""

    def calls() -> None:
        placed = {
            client.market_order_buy(new_id(), BTC, base_size="0.001").success_response["order_id"] for _ in range(23)
        }
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = client.list_orders(limit=5, cursor=cursor, sort_by="LAST_FILL_TIME")
            seen += [order.order_id for order in page.orders]
            if not page.has_next:
                break
            cursor = page.cursor
        assert len(seen) == 23
        assert set(seen) == placed
        filled: list[str] = []
        cursor = None
        while True:
            fills = client.get_fills(limit=5, cursor=cursor)
            assert not hasattr(fills, "has_next")
            filled += [fill.order_id for fill in fills.fills]
            cursor = fills.cursor
            if not cursor:
                break
        assert sorted(filled) == sorted(placed)

    await asyncio.to_thread(calls)


async def test_list_filters(client: RESTClient) -> None:
    """Product, side, type, time in force and date filter; dates don't apply to open orders."""

    def calls() -> None:
        client.market_order_buy(new_id(), BTC, quote_size="100")
        client.market_order_sell(new_id(), BTC, base_size="0.0001")
        client.limit_order_gtc_buy(new_id(), "PEPE-USD", "1000000", "0.000001")

        def count(**filters: Any) -> int:
            return len(client.list_orders(**filters).orders)

        assert count(product_ids=["PEPE-USD"]) == 1
        assert count(product_ids=[BTC, "PEPE-USD"]) == 3
        assert count(order_side="SELL") == 1
        assert count(order_types="LIMIT") == 1
        assert count(time_in_forces="IMMEDIATE_OR_CANCEL") == 2
        assert count(order_status=["FILLED", "CANCELLED"]) == 2
        assert count(order_status=["FILLED"], start_date=in_minutes(5)) == 0
        assert count(order_status=["OPEN"], start_date=in_minutes(5)) == 1
        assert count(order_status=["FILLED"], end_date=in_minutes(-5)) == 0

    await asyncio.to_thread(calls)


def next_orders(messages: "queue.Queue[str]", order_id: str, status: str) -> list[dict[str, Any]]:
    """States of one order as received, until it has `status`."""
    states: list[dict[str, Any]] = []
    while not states or states[-1]["status"] != status:
        message = json.loads(messages.get(timeout=10))
        for event in message["events"]:
            states += [order for order in event.get("orders", []) if order["order_id"] == order_id]
    return states


async def test_order_on_the_user_stream(client: RESTClient, paper: PaperExchange) -> None:
    """The official stream client gets an order's opening, partial and full fill, cumulative and as strings."""
    messages: queue.Queue[str] = queue.Queue()
    stream = WSUserClient(key_file=str(paper.key_file), base_url=paper.user_stream_url, on_message=messages.put)

    def subscribe() -> str:
        stream.open()
        stream.user([BTC])
        stream.heartbeats()
        placed = client.limit_order_gtc_buy(new_id(), BTC, "0.5", "64000", post_only=True)
        return str(placed.success_response["order_id"])

    order_id = await asyncio.to_thread(subscribe)
    async with PaperControl(paper.addresses()) as control:
        await control.fill(order_id, "0.2")
        await control.fill(order_id, "0.3", "63990")
    states = await asyncio.to_thread(next_orders, messages, order_id, "FILLED")
    await asyncio.to_thread(stream.close)
    assert [(state["status"], state["cumulative_quantity"], state["leaves_quantity"]) for state in states] == [
        ("OPEN", "0", "0.5"),
        ("OPEN", "0.2", "0.3"),
        ("FILLED", "0.5", "0"),
    ]
    last = states[-1]
    assert (last["post_only"], last["avg_price"], last["number_of_fills"]) == ("true", "63994", "2")
    assert (last["filled_value"], last["total_fees"], last["outstanding_hold_amount"]) == ("31997", "127.988", "0")


async def test_public_stream_client_hears_the_market(paper: PaperExchange) -> None:
    """The official public stream client gets every market channel."""
    messages: queue.Queue[str] = queue.Queue()
    stream = WSClient(base_url=paper.stream_url, on_message=messages.put)
    channels = ["ticker", "ticker_batch", "market_trades", "candles", "level2", "status", "heartbeats"]

    def subscribe() -> None:
        stream.open()
        stream.subscribe([BTC], channels)

    await asyncio.to_thread(subscribe)
    async with PaperControl(paper.addresses()) as control:
        await control.set_price(BTC, "64000.00", "64000.01")

    def listen() -> set[tuple[str, str]]:
        wanted = {(name, "update") for name in ("ticker", "ticker_batch", "market_trades", "candles", "l2_data")}
        wanted |= {("heartbeats", ""), ("status", "snapshot"), ("subscriptions", "")}
        heard: set[tuple[str, str]] = set()
        while not wanted <= heard:
            message = json.loads(messages.get(timeout=10))
            heard |= {(message["channel"], event.get("type", "")) for event in message["events"]}
        return heard

    await asyncio.to_thread(listen)
    await asyncio.to_thread(stream.close)
