"""Random trading by the official client on a moving market: stream, lists, fills and balances agree."""

import asyncio
import json
import random
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from coinbase.rest import RESTClient
from coinbase.websocket import WSUserClient

from exchange.paper import Generated, PaperConfig, PaperControl, PaperExchange
from tests.support.waiting import SLACK

PRODUCTS = ("BTC-USD", "ETH-USD", "LTC-USD")
START = Decimal(100_000)


def trade(client: RESTClient, seed: int, actions: int) -> None:
    """This many random orders and cancels."""
    dice = random.Random(seed)
    placed: list[str] = []
    for _ in range(actions):
        product = dice.choice(PRODUCTS)
        book = client.get_best_bid_ask([product]).pricebooks[0]
        bid, ask = Decimal(book.bids[0].price), Decimal(book.asks[0].price)
        value = dice.randint(50, 2000)
        size = str((value / bid).quantize(Decimal("0.0001")))
        kind, own_id = dice.random(), str(uuid.uuid4())
        if kind < 0.25:
            answer = client.market_order_buy(own_id, product, quote_size=str(value))
        elif kind < 0.45:
            answer = client.limit_order_gtc_buy(own_id, product, size, str(bid))
        elif kind < 0.65:
            answer = client.limit_order_gtc_sell(own_id, product, size, str(ask))
        elif kind < 0.75:
            answer = client.limit_order_ioc_sell(own_id, product, size, str(bid))
        elif kind < 0.8:
            target, stop = ask * Decimal("1.002"), bid * Decimal("0.998")
            cent = Decimal("0.01")
            answer = client.trigger_bracket_order_gtc_sell(
                own_id, product, size, str(target.quantize(cent)), str(stop.quantize(cent))
            )
        else:
            if placed:
                client.cancel_orders([dice.choice(placed)])
            continue
        if answer.success:
            placed.append(answer.success_response["order_id"])


def all_orders(client: RESTClient) -> list[Any]:
    """Every order, page by page."""
    found: list[Any] = []
    cursor = None
    while True:
        page = client.list_orders(limit=50, cursor=cursor)
        found += page.orders
        if not page.has_next:
            return found
        cursor = page.cursor


def all_fills(client: RESTClient) -> list[Any]:
    """Every fill, page by page."""
    found: list[Any] = []
    cursor = None
    while True:
        page = client.get_fills(limit=50, cursor=cursor)
        found += page.fills
        cursor = page.cursor
        if not cursor:
            return found


def streamed(messages: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Each order's last state on the stream; sizes never decrease and no message is missing."""
    last: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(messages):
        message = json.loads(text)
        assert message["sequence_num"] == number
        for event in message["events"]:
            for order in event.get("orders", []):
                before = last.get(order["order_id"], {"cumulative_quantity": "0"})
                assert Decimal(order["cumulative_quantity"]) >= Decimal(before["cumulative_quantity"])
                last[order["order_id"]] = order
    return last


async def is_anything_waiting(control: PaperControl) -> bool:
    """True while an acceptance or a cancel is under way."""
    return any(order["status"] in ("PENDING", "CANCEL_QUEUED") for order in await control.orders())


async def test_stream_lists_fills_and_balances_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 300 random actions from three clients all of the exchange's data adds up, to the last digit."""
    config = PaperConfig(
        products=PRODUCTS,
        private_rate=0,
        speed=60,
        source=Generated(interval=0.05, volatility=0.003),
        accept_latency=0.02,
        cancel_latency=0.05,
        tick_value=Decimal(3000),
    )
    async with PaperExchange(config) as paper, PaperControl(paper.addresses()) as control:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(paper.ca_file))
        messages: list[str] = []
        stream = WSUserClient(key_file=str(paper.key_file), base_url=paper.user_stream_url, on_message=messages.append)

        def client() -> RESTClient:
            return RESTClient(key_file=str(paper.key_file), base_url=paper.rest_address, timeout=10)

        def run() -> None:
            stream.open()
            stream.user([])
            traders = [threading.Thread(target=trade, args=(client(), seed, 100)) for seed in range(3)]
            for trader in traders:
                trader.start()
            for trader in traders:
                trader.join()

        await asyncio.to_thread(run)
        await control.pause()
        async with asyncio.timeout(SLACK * 5):
            while await is_anything_waiting(control):  # noqa: ASYNC110  what is awaited is asked for over HTTP
                await asyncio.sleep(0.02)
        orders = await asyncio.to_thread(all_orders, client())
        fills = await asyncio.to_thread(all_fills, client())
        balances = await control.balances()
        await asyncio.to_thread(stream.close)

    last = streamed(messages)
    by_order = defaultdict(list)
    for fill in fills:
        by_order[fill.order_id].append(fill)
    assert len(orders) == len(last) > 100
    for order in orders:
        seen = last[order.order_id]
        assert (seen["status"], seen["cumulative_quantity"]) == (order.status, order.filled_size)
        assert (seen["filled_value"], seen["total_fees"]) == (order.filled_value, order.total_fees)
        own = by_order[order.order_id]
        assert sum((Decimal(fill.size) for fill in own), Decimal(0)) == Decimal(order.filled_size)
        assert sum((Decimal(fill.commission) for fill in own), Decimal(0)) == Decimal(order.total_fees)
    expected: dict[str, Decimal] = defaultdict(Decimal, USD=START)
    for fill in fills:
        sign = 1 if fill.side == "BUY" else -1
        expected[fill.product_id[:3]] += sign * Decimal(fill.size)
        expected["USD"] -= sign * Decimal(fill.size) * Decimal(fill.price) + Decimal(fill.commission)
    assert {name: row["total"] for name, row in balances.items()} == dict(expected)
    assert {fill.liquidity_indicator for fill in fills} == {"MAKER", "TAKER"}
