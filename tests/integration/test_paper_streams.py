"""The paper exchange's streams: envelope, snapshots, batches, errors, depth and load."""

import asyncio
import json
import re
import ssl
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from exchange.paper import Generated, PaperConfig, PaperControl, PaperExchange
from exchange.paper.products import bundled
from exchange.paper.testing import StreamClient
from tests.support.waiting import SLACK

BTC = "BTC-USD"
CRYPTO = {"USD": Decimal(10_000_000), "BTC": Decimal(1000)}


@pytest_asyncio.fixture
async def paper() -> AsyncIterator[PaperExchange]:
    """A paper exchange in step mode, BTC at 65,000.00 / 65,000.01."""
    async with PaperExchange(PaperConfig(step=True, products=[BTC, "ETH-USD"], balances=CRYPTO)) as exchange:
        yield exchange


@pytest_asyncio.fixture
async def control(paper: PaperExchange) -> AsyncIterator[PaperControl]:
    """Its control interface, the price set."""
    async with PaperControl(paper.addresses()) as client:
        await client.set_price(BTC, "65000.00", "65000.01")
        yield client


def limit(price: str, size: str) -> dict[str, object]:
    """A GTC limit configuration."""
    return {"limit_limit_gtc": {"base_size": size, "limit_price": price}}


async def test_one_counter_for_all_channels_and_snapshots_before_the_answer(
    paper: PaperExchange, control: PaperControl
) -> None:
    """Sequence numbers count every message of a connection from 0; the subscriptions answer names all so far."""
    async with StreamClient(paper.stream_url) as stream:
        for channel in ("market_trades", "candles", "ticker", "level2", "heartbeats"):
            await stream.subscribe(channel, [BTC])
        await stream.until(lambda seen: len([m for m in seen if m["channel"] == "subscriptions"]) == 5)
        await control.set_price(BTC, "64990.00", "64990.01")
        await stream.until(lambda seen: "heartbeats" in {m["channel"] for m in seen})
        assert [message["sequence_num"] for message in stream.messages] == list(range(len(stream.messages)))
        assert [message["channel"] for message in stream.messages][:4] == [
            "market_trades",
            "subscriptions",
            "candles",
            "subscriptions",
        ]
        assert stream.on("subscriptions")[-1]["events"] == [
            {
                "subscriptions": {
                    "market_trades": [BTC],
                    "candles": [BTC],
                    "ticker": [BTC],
                    "level2": [BTC],
                    "heartbeats": ["heartbeats"],
                }
            }
        ]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", m["timestamp"]) for m in stream.messages)
        beat = stream.on("heartbeats")[0]["events"][0]
        assert isinstance(beat["heartbeat_counter"], int)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} \+0000 UTC m=\+\d+\.\d{9}", beat["current_time"])


async def test_messages_have_the_real_feeds_fields(paper: PaperExchange, control: PaperControl) -> None:
    """Tickers, trades, candles and levels have exactly the fields of the recorded real feed."""
    fields = {
        "ticker": {
            "type",
            "product_id",
            "price",
            "volume_24_h",
            "low_24_h",
            "high_24_h",
            "low_52_w",
            "high_52_w",
            "price_percent_chg_24_h",
            "best_bid",
            "best_ask",
            "best_bid_quantity",
            "best_ask_quantity",
        },
        "market_trades": {"product_id", "trade_id", "price", "size", "time", "side"},
        "candles": {"start", "high", "low", "open", "close", "volume", "product_id"},
        "l2_data": {"side", "event_time", "price_level", "new_quantity"},
    }
    items = {"ticker": "tickers", "market_trades": "trades", "candles": "candles", "l2_data": "updates"}
    async with StreamClient(paper.stream_url) as stream:
        for channel in ("ticker", "market_trades", "candles", "level2"):
            await stream.subscribe(channel, [BTC])
        await stream.until(lambda seen: len([m for m in seen if m["channel"] == "subscriptions"]) == 4)
        await control.set_price(BTC, "64990.00", "64990.01")
        await stream.until(
            lambda seen: len({m["channel"] for m in seen if m["events"][0].get("type") == "update"}) == 4
        )
        for channel, expected in fields.items():
            for message in stream.on(channel):
                for event in message["events"]:
                    assert all(set(item) == expected for item in event[items[channel]])
                    assert all(isinstance(value, str) for item in event[items[channel]] for value in item.values())
        snapshot = stream.on("market_trades")[0]["events"][0]["trades"]
        ids = [int(trade["trade_id"]) for trade in snapshot]
        assert ids == list(range(ids[0], ids[0] - 100, -1))
        update = stream.on("market_trades")[1]["events"][0]["trades"]
        assert int(update[-1]["trade_id"]) > ids[0]


async def test_snapshot_of_open_orders_comes_in_fifties(paper: PaperExchange, control: PaperControl) -> None:
    """109 open orders are sent as 50, 50 and 9, before the answer; exactly 50 are followed by an empty batch."""
    placed = [(await control.order(BTC, "BUY", limit("60000", "0.01")))["order_id"] for _ in range(109)]
    for expected in ([50, 50, 9], [50, 0]):
        async with StreamClient(paper.user_stream_url, paper.key_file) as stream:
            await stream.subscribe("user")
            await stream.until(lambda seen: seen[-1:] != [] and seen[-1]["channel"] == "subscriptions")
            sizes = [len(message["events"][0]["orders"]) for message in stream.on("user")]
            assert sizes == expected
            assert all(order["status"] == "OPEN" for order in stream.orders())
        for order_id in placed[50:]:
            await control.cancel(order_id)


async def test_user_orders_have_the_documented_fields(paper: PaperExchange, control: PaperControl) -> None:
    """Every field of the user channel is there, as a string; a quote-sized order's leaves is zero at its end."""
    async with StreamClient(paper.user_stream_url, paper.key_file) as stream:
        await stream.subscribe("user")
        await control.order(BTC, "BUY", {"market_market_ioc": {"quote_size": "1000"}})
        await stream.until(lambda seen: any(m["channel"] == "user" and m["events"][0]["orders"] for m in seen))
        order = stream.orders()[-1]
        assert set(order) == {
            "avg_price", "cancel_reason", "client_order_id", "completion_percentage", "contract_expiry_type",
            "cumulative_quantity", "filled_value", "leaves_quantity", "limit_price", "number_of_fills", "order_id",
            "order_side", "order_type", "outstanding_hold_amount", "post_only", "product_id", "product_type",
            "reject_reason", "retail_portfolio_id", "risk_managed_by", "status", "stop_price", "time_in_force",
            "total_fees", "total_value_after_fees", "trigger_status", "creation_time", "end_time", "start_time",
        }  # fmt: skip
        assert all(isinstance(value, str) for value in order.values())
        assert (order["status"], order["leaves_quantity"], order["completion_percentage"]) == ("FILLED", "0", "100")
        assert order["end_time"] == "0001-01-01T00:00:00Z"


async def test_fills_of_one_event_merge_unless_told_otherwise() -> None:
    """By default several fills are one update, with a jump of its number of fills; switched off, each has its own."""
    for merged, expected in ((True, ["6"]), (False, ["1", "2", "3", "4", "5", "6"])):
        config = PaperConfig(step=True, products=[BTC], balances=CRYPTO, merge_updates=merged)
        async with (
            PaperExchange(config) as paper,
            PaperControl(paper.addresses()) as control,
            StreamClient(paper.user_stream_url, paper.key_file) as stream,
        ):
            await stream.subscribe("user")
            await control.order(BTC, "BUY", {"market_market_ioc": {"quote_size": "100000"}})
            await stream.until(
                lambda seen: any(
                    o["status"] == "FILLED" for m in seen if m["channel"] == "user" for o in m["events"][0]["orders"]
                )
            )
            counts = [order["number_of_fills"] for order in stream.orders()]
            assert list(dict.fromkeys(counts)) == expected


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("{", "malformed message: not JSON"),
        ("[]", "type must be subscribe or unsubscribe"),
        ('{"type":"subscribe","channel":"nope"}', "channel nope is not supported here"),
        ('{"type":"subscribe","channel":"ticker","product_ids":["NO-NO"]}', "NO-NO is not a valid product"),
        (
            '{"type":"subscribe","channel":"ticker","product_ids":"BTC-USD"}',
            "product_ids must be a list of product ids",
        ),
        ('{"type":"subscribe","channel":"user"}', "authentication failure"),
        ('{"type":"subscribe","channel":"user","jwt":"x.y.z"}', "authentication failure"),
    ],
)
async def test_bad_subscriptions_get_an_error_without_a_channel(paper: PaperExchange, message: str, error: str) -> None:
    """An invalid subscription gets one error message; the connection stays open."""
    async with StreamClient(paper.stream_url) as stream:
        await stream.socket.send_str(message)
        await stream.until(bool)
        assert stream.messages == [{"type": "error", "message": error}]
        await stream.subscribe("ticker", [BTC])
        await stream.until(lambda seen: len(seen) == 3)


async def test_unsubscribe_stops_a_channel(paper: PaperExchange, control: PaperControl) -> None:
    """After unsubscribe the answer no longer names the channel and nothing more is sent on it."""
    async with StreamClient(paper.stream_url) as stream:
        await stream.subscribe("ticker", [BTC, "ETH-USD"])
        await stream.subscribe("ticker", [BTC], "unsubscribe")
        await stream.until(lambda seen: len([m for m in seen if m["channel"] == "subscriptions"]) == 2)
        assert stream.on("subscriptions")[-1]["events"] == [{"subscriptions": {"ticker": ["ETH-USD"]}}]
        await control.set_price(BTC, "64000.00", "64000.01")
        await control.set_price("ETH-USD", "1800.00", "1800.01")
        await stream.until(lambda seen: seen[-1]["events"][0].get("type") == "update")
        assert [m["events"][0]["tickers"][0]["product_id"] for m in stream.on("ticker")[2:]] == ["ETH-USD"]


async def test_silent_connection_is_dropped() -> None:
    """A client that subscribes to nothing in time is disconnected."""
    async with (
        PaperExchange(PaperConfig(step=True, subscribe_within=0.1)) as paper,
        StreamClient(paper.stream_url) as stream,
    ):
        await asyncio.wait_for(stream.closed.wait(), SLACK * 5)


async def test_connection_rate_is_limited() -> None:
    """More connections in a second than allowed are refused with 429."""
    async with (
        PaperExchange(PaperConfig(step=True, connection_rate=2)) as paper,
        StreamClient(paper.stream_url),
        StreamClient(paper.stream_url),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
            async with StreamClient(paper.stream_url):
                pass


async def test_depth_of_46000_levels_and_its_updates(tmp_path: Path) -> None:
    """A full-depth snapshot is one message of several megabytes; updates keep a client's book equal to REST's."""
    config = PaperConfig(step=True, products=[BTC], depth=23_000, gap_bps=Decimal("0.05"), balances=CRYPTO)
    async with PaperExchange(config) as paper, PaperControl(paper.addresses()) as control:
        await control.set_price(BTC, "65000.00", "65000.01")
        async with StreamClient(paper.stream_url) as stream:
            await stream.subscribe("level2", [BTC])
            await stream.until(lambda seen: len(seen) >= 2, 30)
            snapshot = stream.on("l2_data")[0]["events"][0]
            assert (snapshot["type"], len(snapshot["updates"])) == ("snapshot", 46_000)
            assert len(json.dumps(snapshot)) > 4_000_000
            await control.order(BTC, "BUY", limit("64999.50", "0.5"))
            await control.set_price(BTC, "65001.00", "65001.02")
            await control.order(BTC, "SELL", {"market_market_ioc": {"base_size": "2"}})
            await stream.until(lambda seen: len(seen) >= 5, 30)
            book: dict[tuple[str, str], str] = {}
            for message in stream.on("l2_data"):
                for update in message["events"][0]["updates"]:
                    key = (update["side"], update["price_level"])
                    if update["new_quantity"] == "0":
                        del book[key]
                    else:
                        book[key] = update["new_quantity"]
            shown = paper.venue.engine.books[BTC]
            from exchange.paper.numbers import plain
            from exchange.paper.orders import Side

            truth = {
                (name, plain(price)): plain(size)
                for name, side in (("bid", Side.BUY), ("offer", Side.SELL))
                for price, size in shown.levels(side)
            }
            assert book == truth


async def test_ticker_keeps_up_with_500_ticks_a_second_over_50_products(tmp_path: Path) -> None:
    """Fifty products at ten ticks a second each reach one client without falling behind."""
    pattern = bundled()["LTC-USD"]
    names = [f"C{number:02d}-USD" for number in range(50)]
    rows = [{
        "product_id": name, "price": "46.09", "base_increment": "0.00000001", "quote_increment": "0.01",
        "price_increment": "0.01", "base_min_size": "0.00000001", "base_max_size": str(pattern.base_max_size),
        "quote_min_size": "1", "quote_max_size": "10000000",
    } for name in names]  # fmt: skip
    products = tmp_path / "products.json"
    products.write_text(json.dumps({"products": rows}), encoding="utf-8")
    config = PaperConfig(products_file=products, source=Generated(interval=0.1))
    async with PaperExchange(config) as paper, StreamClient(paper.stream_url) as stream:
        await stream.subscribe("ticker", names)
        await stream.until(lambda seen: any(m["channel"] == "subscriptions" for m in seen), 30)
        before, started = len(stream.messages), time.monotonic()
        await stream.until(lambda seen: len(seen) >= before + 1500, 10)
        assert time.monotonic() - started < 8
        lag = time.time() - _seconds(stream.messages[-1]["timestamp"])
        assert lag < 1.5
        assert [m["sequence_num"] for m in stream.messages] == list(range(len(stream.messages)))


def _seconds(timestamp: str) -> float:
    from exchange.paper.numbers import parse_time

    moment = parse_time(timestamp)
    assert moment is not None
    return moment.timestamp()


def with_a_twin(folder: Path) -> Path:
    """A file of products with BTC-USD and BTC-USDC, as the venue lists them but without their aliases."""
    row = {
        name: format(getattr(bundled()[BTC], name), "f")
        for name in (
            "price", "base_increment", "quote_increment", "price_increment", "base_min_size", "base_max_size",
            "quote_min_size", "quote_max_size",
        )
    }  # fmt: skip
    path = folder / "products.json"
    path.write_text(json.dumps({"products": [{"product_id": name, **row} for name in (BTC, "BTC-USDC")]}))
    return path


@pytest.mark.parametrize("products", [None, ["BTC-USDC"]], ids=["both", "one"])
async def test_a_usdc_product_is_told_of_as_its_usd_twin(tmp_path: Path, products: list[str] | None) -> None:
    """Every market channel names BTC-USD for BTC-USDC; the user channel and REST name the product itself."""
    usdc = "BTC-USDC"
    config = PaperConfig(
        step=True, products_file=with_a_twin(tmp_path), products=products, balances={"USDC": Decimal(1_000_000)}
    )
    async with PaperExchange(config) as paper, PaperControl(paper.addresses()) as control:
        async with (
            StreamClient(paper.stream_url) as stream,
            StreamClient(paper.user_stream_url, paper.key_file) as user,
        ):
            await user.subscribe("user", [usdc])
            for channel in ("ticker", "market_trades", "candles", "level2", "status"):
                await stream.subscribe(channel, [usdc])
            await stream.until(lambda seen: len([m for m in seen if m["channel"] == "subscriptions"]) == 5)
            await control.set_price(usdc, "64000.00", "64000.01")
            order = await control.order(usdc, "BUY", {"market_market_ioc": {"base_size": "0.1"}})
            await stream.until(lambda seen: seen[-1]["channel"] == "candles")
            await user.until(lambda _: bool(user.orders(order["order_id"])))
            assert {row["product_id"] for row in user.orders()} == {usdc}
        sent = [(m["channel"], json.dumps(m["events"])) for m in stream.messages if m["channel"] != "subscriptions"]
        assert {channel for channel, _ in sent} == {"ticker", "market_trades", "candles", "l2_data", "status"}
        assert all(usdc not in text and BTC in text for _, text in sent)
        tickers = [event["tickers"][0] for m in stream.on("ticker") for event in m["events"]]
        assert tickers[-1]["price"] == "64000.01"
        quotes = (await control.state())["quotes"]
        assert {row["best_ask"] for row in quotes.values()} == {"64000.01"}, "twins have one market"
        url = f"https://{paper.rest_address}/api/v3/brokerage/market/products/{usdc}"
        tls = ssl.create_default_context(cafile=str(paper.ca_file))
        async with aiohttp.ClientSession() as session, session.get(url, ssl=tls) as answer:
            row = await answer.json()
        assert (row["product_id"], row["alias"], row["price"]) == (usdc, BTC, "64000.01")
