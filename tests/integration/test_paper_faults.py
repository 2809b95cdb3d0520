"""Every fault of the paper exchange, once, and its end."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import requests
from coinbase.rest import RESTClient
from requests.exceptions import HTTPError

from exchange.paper import ControlError, Fault, FaultKind, PaperConfig, PaperControl, PaperExchange
from exchange.paper.testing import StreamClient
from tests.support.waiting import SLACK

BTC = "BTC-USD"


@pytest_asyncio.fixture
async def paper(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PaperExchange]:
    """A paper exchange in step mode."""
    async with PaperExchange(PaperConfig(step=True, products=[BTC], private_rate=0, connection_rate=0)) as exchange:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(exchange.ca_file))
        yield exchange


@pytest_asyncio.fixture
async def control(paper: PaperExchange) -> AsyncIterator[PaperControl]:
    """Its control interface, BTC at 65,000.00 / 65,000.01."""
    async with PaperControl(paper.addresses()) as client:
        await client.set_price(BTC, "65000.00", "65000.01")
        yield client


@pytest.fixture
def client(paper: PaperExchange) -> RESTClient:
    """The official client with short timeouts."""
    return RESTClient(key_file=str(paper.key_file), base_url=paper.rest_address, timeout=1)


async def place(client: RESTClient, client_order_id: str | None = None) -> str:
    """Place a resting order. Returns its id."""
    placed = await asyncio.to_thread(
        client.limit_order_gtc_buy, client_order_id or str(uuid.uuid4()), BTC, "0.01", "60000"
    )
    return str(placed.success_response["order_id"])


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 5) -> None:
    """Poll a condition. Raises `TimeoutError`."""
    async with asyncio.timeout(SLACK * seconds):
        while not await true():  # noqa: ASYNC110  what is awaited is asked for over HTTP
            await asyncio.sleep(0.01)


# -- REST


@pytest.mark.parametrize(
    ("kind", "settings", "error", "accepted"),
    [
        ("accepted_cut", {}, requests.ConnectionError, 1),
        ("not_accepted_cut", {}, requests.ConnectionError, 0),
        ("accepted_silent", {}, requests.ReadTimeout, 1),
        ("server_error", {}, HTTPError, 0),
        ("accepted_server_error", {"status": 504}, HTTPError, 1),
        ("rate_limited", {}, HTTPError, 0),
        ("malformed_answer", {}, requests.exceptions.JSONDecodeError, 1),
    ],
)
async def test_submit_with_an_unknown_outcome(
    client: RESTClient,
    control: PaperControl,
    kind: str,
    settings: dict[str, int],
    error: type[Exception],
    accepted: int,
) -> None:
    """The client gets the failure, the exchange's own records show the real outcome, and the next call works."""
    await control.fault(kind, "POST /orders", **settings)
    same = str(uuid.uuid4())
    with pytest.raises(error):
        await place(client, same)
    orders = await control.orders()
    assert len(orders) == accepted
    assert (await place(client, same) in [order["order_id"] for order in orders]) is bool(accepted)
    assert len(await control.orders()) == 1


async def test_submit_accepted_only_after_the_client_gave_up(client: RESTClient, control: PaperControl) -> None:
    """A delayed request is not there when the client looks, and appears later."""
    await control.fault("accepted_late", "POST /orders", delay=1.3)
    with pytest.raises(requests.ReadTimeout):
        await place(client)
    assert await control.orders() == []
    await until(lambda: _has_orders(control))
    assert (await control.orders())[0]["status"] == "OPEN"


async def _has_orders(control: PaperControl) -> bool:
    return len(await control.orders()) == 1


async def test_cancel_that_was_accepted_without_an_answer(client: RESTClient, control: PaperControl) -> None:
    """A cancel whose connection was cut has cancelled."""
    order_id = await place(client)
    await control.fault("accepted_cut", "POST /orders/batch_cancel")
    with pytest.raises(requests.ConnectionError):
        await asyncio.to_thread(client.cancel_orders, [order_id])
    assert (await control.orders())[0]["status"] == "CANCELLED"


async def test_slow_answers_and_duration(client: RESTClient, control: PaperControl) -> None:
    """A slow answer arrives late; a fault with a duration ends by itself."""
    await control.fault("slow", "GET *", delay=0.2, duration=0.6)
    started = time.monotonic()
    await asyncio.to_thread(client.get_accounts)
    assert time.monotonic() - started >= 0.2

    async def fast() -> bool:
        begun = time.monotonic()
        await asyncio.to_thread(client.get_accounts)
        return time.monotonic() - begun < 0.15

    await until(fast)


async def test_burst_of_429_and_skipped_calls(client: RESTClient, control: PaperControl) -> None:
    """A burst applies exactly its count; `skip` passes calls first; `delay` is in the header; clearing ends it."""
    await control.fault("rate_limited", "GET /accounts", count=2, skip=1)
    await asyncio.to_thread(client.get_accounts)
    for _ in range(2):
        with pytest.raises(HTTPError, match=r"429 Client Error.*rate_limit_exceeded"):
            await asyncio.to_thread(client.get_accounts)
    await asyncio.to_thread(client.get_accounts)
    await control.fault("rate_limited", "GET /accounts", delay=45)
    with pytest.raises(HTTPError) as caught:
        await asyncio.to_thread(client.get_accounts)
    assert caught.value.response is not None
    assert caught.value.response.headers["x-ratelimit-reset"] == "45"
    await control.fault("server_error", count=None)
    with pytest.raises(HTTPError, match="503"):
        await asyncio.to_thread(client.get_accounts)
    assert await control.clear_faults() == 1
    await asyncio.to_thread(client.get_accounts)


async def test_probability_is_seeded() -> None:
    """The same seed gives the same faults."""
    runs = []
    for _ in range(2):
        fault = Fault(FaultKind.REST_SERVER_ERROR, "GET /time", count=None, probability=0.5)
        async with PaperExchange(PaperConfig(step=True, faults=[fault], seed=7, public_rate=0)) as paper:
            connector = aiohttp.TCPConnector(ssl=False)
            async with aiohttp.ClientSession(connector=connector) as session:
                statuses = []
                for _ in range(20):
                    url = f"https://{paper.rest_address}/api/v3/brokerage/time"
                    async with session.get(url) as response:
                        statuses.append(response.status)
        runs.append(statuses)
    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 503}


async def test_clock_skew_shows_and_expires_tokens(client: RESTClient, control: PaperControl) -> None:
    """A skewed exchange reports its own time and refuses tokens that are too old or too new for it."""
    await control.skew(60)
    shown = await asyncio.to_thread(client.get_unix_time)
    assert abs(int(shown.epoch_seconds) - time.time() - 60) < 2
    for seconds in (200, -60):
        await control.skew(seconds)
        with pytest.raises(HTTPError, match="401"):
            await asyncio.to_thread(client.get_accounts)
    await control.skew(0)
    await asyncio.to_thread(client.get_accounts)


# -- streams


async def prices(control: PaperControl, *bids: int) -> None:
    """Move BTC's price, one message on the ticker channel each."""
    for bid in bids:
        await control.set_price(BTC, f"{bid}.00", f"{bid}.01")


def heard(stream: StreamClient) -> list[int]:
    """Sequence numbers of ticker messages in order of arrival."""
    return [message["sequence_num"] for message in stream.on("ticker")]


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("duplicate", {}, [0, 2, 2, 3, 4]),
        ("missing", {}, [0, 3, 4]),
        ("reordered", {}, [0, 3, 2, 4]),
        ("reordered", {"count": None}, [0, 3, 2]),
        ("late", {"delay": 0.2}, [0, 3, 4, 2]),
    ],
)
async def test_messages_out_of_order(
    paper: PaperExchange, control: PaperControl, kind: str, settings: dict[str, Any], expected: list[int]
) -> None:
    """Duplicated, missing, reordered and late messages keep their sequence numbers."""
    async with StreamClient(paper.stream_url) as stream:
        await stream.subscribe("ticker", [BTC])
        await stream.until(lambda seen: len(seen) == 2)
        await control.fault(kind, "ticker", **settings)
        await prices(control, 64990, 64980, 64970)
        await stream.until(lambda seen: len(seen) == len(expected) + 1)
        assert heard(stream) == expected


@pytest.mark.parametrize(("kind", "seconds"), [("ahead", 600), ("behind", -600)])
async def test_the_time_of_one_message_is_off(
    paper: PaperExchange, control: PaperControl, kind: str, seconds: int
) -> None:
    """One ticker is dated ten minutes later or earlier, and the next is right again."""
    async with StreamClient(paper.stream_url) as stream:
        await stream.subscribe("ticker", [BTC])
        await stream.until(lambda seen: len(seen) == 2)
        await control.fault(kind, "ticker", delay=600)
        await prices(control, 64990, 64980)
        await stream.until(lambda seen: len(seen) == 4)
        # The venue's nanoseconds are more than Python can parse.
        _, wrong, right = (datetime.fromisoformat(m["timestamp"][:19] + "+00:00") for m in stream.on("ticker"))
        assert abs((right - wrong).total_seconds() + seconds) < 60


async def test_malformed_frame(paper: PaperExchange, control: PaperControl) -> None:
    """A truncated frame is not JSON; the stream continues after it."""
    async with StreamClient(paper.stream_url) as stream:
        await stream.subscribe("ticker", [BTC])
        await stream.until(lambda seen: len(seen) == 2)
        await control.fault("malformed", "ticker")
        await prices(control, 64990, 64980)
        await stream.until(lambda seen: len(seen) == 3)
        assert (stream.broken, heard(stream)) == (1, [0, 3])


@pytest.mark.parametrize(("kind", "settings", "code"), [("drop", {}, 1006), ("close", {"status": 1012}, 1012)])
async def test_sockets_that_end(
    paper: PaperExchange, control: PaperControl, kind: str, settings: dict[str, int], code: int
) -> None:
    """A socket is reset, or closed with the requested code; a new connection starts at 0 again."""
    async with StreamClient(paper.stream_url) as stream:
        await stream.subscribe("ticker", [BTC])
        await stream.until(lambda seen: len(seen) == 2)
        await control.fault(kind, "ticker", **settings)
        await prices(control, 64990)
        await asyncio.wait_for(stream.closed.wait(), SLACK * 5)
        assert stream.close_code == code
    async with StreamClient(paper.stream_url) as stream:
        await stream.subscribe("ticker", [BTC])
        await stream.until(lambda seen: len(seen) == 2)
        assert heard(stream) == [0]


async def test_sockets_by_command(paper: PaperExchange, control: PaperControl) -> None:
    """All connections of one path can be closed at once, the other path's stay."""
    async with StreamClient(paper.stream_url) as market, StreamClient(paper.user_stream_url, paper.key_file) as user:
        await market.subscribe("ticker", [BTC])
        await user.subscribe("user")
        await user.until(lambda seen: len(seen) == 2)
        assert await control.sockets("close", "user", 1001) == 1
        await asyncio.wait_for(user.closed.wait(), SLACK * 5)
        assert user.close_code == 1001
        await prices(control, 64990)
        await market.until(lambda seen: len(seen) == 3)
        assert [row["path"] for row in await control.connections()] == ["market"]


async def test_half_open_socket(paper: PaperExchange, control: PaperControl) -> None:
    """No more messages, not even an answer to a ping, but TCP stays up."""
    async with StreamClient(paper.stream_url) as stream:
        await stream.subscribe("ticker", [BTC])
        await stream.subscribe("heartbeats")
        await stream.until(lambda seen: len(seen) == 3)
        await control.fault("half_open", "ticker")
        await prices(control, 64990, 64980)
        before = len(stream.messages)
        await stream.socket.ping()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stream.closed.wait(), 1.5)
        assert len(stream.messages) == before
        assert not stream.closed.is_set()


async def test_frozen_feed_still_has_its_heartbeat(paper: PaperExchange, control: PaperControl) -> None:
    """No price is sent although the market moves; heartbeats continue without a gap in the numbers."""
    async with StreamClient(paper.stream_url) as stream:
        await stream.subscribe("ticker", [BTC])
        await stream.subscribe("heartbeats")
        await stream.until(lambda seen: len(seen) == 3)
        await control.fault("frozen", "*", count=None)
        await prices(control, 64990, 64980)
        await stream.until(lambda seen: len([m for m in seen if m["channel"] == "heartbeats"]) >= 2)
        assert heard(stream) == [0]
        numbers = [message["sequence_num"] for message in stream.messages]
        assert numbers == list(range(len(numbers)))
        assert (await control.state())["quotes"][BTC]["best_bid"] == "64980"


async def test_refused_connection(paper: PaperExchange, control: PaperControl) -> None:
    """A connection attempt is refused as often as set, then works."""
    await control.fault("refused", "user", count=1)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
        async with StreamClient(paper.user_stream_url):
            pass
    async with StreamClient(paper.user_stream_url, paper.key_file) as stream:
        await stream.subscribe("user")
        await stream.until(lambda seen: len(seen) == 2)


# -- the control interface itself


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("nope", {}, "Unknown fault kind"),
        ("slow", {"delay": -1}, "delay must be a number"),
        ("slow", {"speed": 1}, "Unknown fault field speed"),
    ],
)
async def test_wrong_faults_are_refused_in_one_sentence(
    control: PaperControl, kind: str, settings: dict[str, Any], words: str
) -> None:
    """An unknown or invalid fault is named."""
    with pytest.raises(ControlError, match=words):
        await control.fault(kind, **settings)


@pytest.mark.parametrize(
    ("kind", "scope", "words"),
    [
        ("slow", "POST /order", "No request can match the scope 'POST /order' .* such as POST /orders"),
        ("slow", "/orders", "No request can match"),
        ("slow", "post /orders", "No request can match"),
        ("accepted_cut", "POST /api/v3/brokerage/orders", "below /api/v3/brokerage"),
        ("rate_limited", "GET /orders", "No request can match"),
        ("server_error", "", "No request can match"),
        ("server_error", "GET /accounts/*/x/y?[ab]", "No request can match"),
        ("late", "level2", "No message can match the scope 'level2' .* l2_data"),
        ("half_open", "POST /orders", "No message can match"),
        ("refused", "ticker", "No connection can match the scope 'ticker' .* market, user"),
    ],
)
async def test_a_scope_that_nothing_can_match_is_refused(
    control: PaperControl, kind: str, scope: str, words: str
) -> None:
    """A fault that could never apply is a mistake, and the sentence lists the possible scopes."""
    with pytest.raises(ControlError, match=words) as caught:
        await control.fault(kind, scope)
    assert caught.value.code == "BAD_FAULT"


@pytest.mark.parametrize(
    ("kind", "scope"),
    [
        ("slow", "*"),
        ("slow", "GET *"),
        ("slow", "* /orders*"),
        ("slow", "POST /orders"),
        ("slow", "POST /orders/batch_cancel"),
        ("slow", "GET /orders/historical/0000-1111"),
        ("slow", "GET /products/BTC-USD/candles"),
        ("slow", "GET /market/products/*/candles"),
        ("slow", "GET /[op]rders/historical/fil?s"),
        ("late", "l2_*"),
        ("late", "user"),
        ("frozen", "subscriptions"),
        ("refused", "*"),
        ("refused", "user"),
    ],
)
async def test_a_scope_that_something_can_match_is_taken(control: PaperControl, kind: str, scope: str) -> None:
    """Exact names, and patterns that match one."""
    assert await control.fault(kind, scope) > 0


async def test_wrong_commands_are_refused(control: PaperControl) -> None:
    """Prices off the tick, crossed quotes, unknown products, orders and overdrawn withdrawals are all refused."""
    for call, code in (
        (control.set_price(BTC, "65000.001", "65001"), "BAD_PRICE"),
        (control.set_price(BTC, "65001", "65000"), "BAD_PRICE"),
        (control.set_price("NO-NO", "1", "2"), "UNKNOWN_PRODUCT"),
        (control.trade(BTC, "65000", "x"), "BAD_NUMBER"),
        (control.fill("none", "1"), "NOT_FOUND"),
        (control.accept("none"), "UNKNOWN_ORDER"),
        (control.withdraw("USD", Decimal(100_001)), "INSUFFICIENT_FUND"),
        (control.deposit("USD", "-5"), "BAD_NUMBER"),
        (control.product(BTC, nope=True), "BAD_PRODUCT_STATUS"),
        (control.latency(accept=-1), "BAD_LATENCY"),
        (control.sockets("explode"), "BAD_SOCKETS"),
        (control.step(0), "BAD_STEP"),
        (control.call("POST", "/step", {"ticks": True}), "BAD_STEP"),
        (control.advance(1e300), "BAD_STEP"),
        (control.advance(-1), "BAD_STEP"),
        (control.skew(1e300), "BAD_SKEW"),
        (control.skew(-1e300), "BAD_SKEW"),
        (control.latency(cancel=1e300), "BAD_LATENCY"),
        (control.call("POST", "/latency", {"accept": True}), "BAD_LATENCY"),
        (control.call("POST", "/pause", {"paused": "no"}), "BAD_PAUSE"),
        (control.trade(BTC, "65000", "0"), "BAD_NUMBER"),
        (control.trade(BTC, "65000", "-1"), "BAD_NUMBER"),
    ):
        with pytest.raises(ControlError) as refused:
            await call
        assert refused.value.code == code
    assert not (await control.state())["paused"]


async def test_a_refused_request_does_nothing_by_half(control: PaperControl) -> None:
    """The valid parts of a refused request are not done either."""
    before = await control.call("POST", "/latency", {})
    for wrong in ({"status": "FOO"}, {"cancel": -1}, {"cancel": "soon"}):
        with pytest.raises(ControlError, match=r"status of waiting|cancel"):
            await control.call("POST", "/latency", {"accept": 3, **wrong})
    assert await control.call("POST", "/latency", {}) == before


async def test_the_clock_goes_as_far_as_it_may(client: RESTClient, control: PaperControl) -> None:
    """At the bounds of skew and market time the exchange still answers."""
    year = 366 * 86_400
    for seconds in (-year, year):
        await control.skew(seconds)
        assert (await control.state())["time"]
    await control.skew(0)
    for _ in range(100):
        await control.advance(year)
    with pytest.raises(ControlError, match="a hundred years"):
        await control.advance(year)
    assert (await control.state())["market_time"]
    assert (await asyncio.to_thread(client.get_product, BTC)).product_id == BTC


async def test_held_orders_and_cancels(client: RESTClient, control: PaperControl) -> None:
    """Acceptance and cancel can be held: QUEUED until released, CANCEL_QUEUED until released, filling in between."""
    await control.latency(accept=None, cancel=None)
    await control.waiting_status("QUEUED")
    order_id = await place(client)
    assert (await asyncio.to_thread(client.get_order, order_id)).order.status == "QUEUED"
    assert (await asyncio.to_thread(client.list_orders, order_status=["OPEN"])).orders == []
    assert (await control.accept(order_id))["status"] == "OPEN"
    assert (await asyncio.to_thread(client.cancel_orders, [order_id])).results[0].success
    assert (await control.fill(order_id, "0.004"))["status"] == "CANCEL_QUEUED"
    after = await control.finish_cancel(order_id)
    assert (after["status"], after["filled_size"]) == ("CANCELLED", "0.004")


async def test_latency_in_seconds(client: RESTClient, control: PaperControl) -> None:
    """With latencies an order is PENDING, then OPEN; a cancel is queued, then done."""
    await control.latency(accept=0.3, cancel=0.3)
    order_id = await place(client)
    assert (await control.orders())[0]["status"] == "PENDING"

    async def is_now(status: str) -> bool:
        return bool((await control.orders())[0]["status"] == status)

    await until(lambda: is_now("OPEN"))
    await asyncio.to_thread(client.cancel_orders, [order_id])
    assert await is_now("CANCEL_QUEUED")
    await until(lambda: is_now("CANCELLED"))


@pytest.mark.parametrize(("share", "filled"), [(None, "0"), (0.25, "0.05")])
async def test_a_market_order_in_a_thin_book_ends_cancelled(
    client: RESTClient, control: PaperControl, share: float | None, filled: str
) -> None:
    """A MARKET order that can't fill completely is CANCELLED, with the filled share; only on its side."""
    await control.deposit("BTC", "1")
    await control.fault("thin_book", f"SELL {BTC}", **({} if share is None else {"share": share}))
    bought = await control.order(BTC, "BUY", {"market_market_ioc": {"base_size": "0.2"}})
    assert bought["status"] == "FILLED"
    sold = [
        await asyncio.to_thread(client.market_order_sell, str(uuid.uuid4()), BTC, base_size="0.2") for _ in range(2)
    ]
    first, second = [
        (await asyncio.to_thread(client.get_order, row.success_response["order_id"])).order for row in sold
    ]
    assert (first.status, first.filled_size) == ("CANCELLED", filled)
    assert "No liquidity left" in first.cancel_message
    assert second.status == "FILLED"
    with pytest.raises(ControlError, match="use SIDE PRODUCT"):
        await control.fault("thin_book", "SELL ETH-USD")
    with pytest.raises(ControlError, match="fraction from 0 to 1"):
        await control.fault("thin_book", share=2)


async def test_a_persons_cancel_says_what_ours_say(client: RESTClient, control: PaperControl) -> None:
    """A cancel in the app and one of a client end alike; only the exchange's own journal has who requested it."""
    ids = [await place(client), await place(client)]
    await asyncio.to_thread(client.cancel_orders, [ids[0]])
    await control.cancel(ids[1])
    for order_id in ids:
        order = (await asyncio.to_thread(client.get_order, order_id)).order
        assert (order.status, order.cancel_message) == ("CANCELLED", "User requested cancel")
    assert [(row["order_id"], row["by"]) for row in await control.cancels()] == [(ids[0], "API"), (ids[1], "app")]


async def test_a_cancelled_order_is_told_with_stale_totals(paper: PaperExchange, control: PaperControl) -> None:
    """The end of a cancelled order may be reported with the totals before its last fill; REST has the right ones."""
    async with StreamClient(paper.user_stream_url, paper.key_file) as user:
        await user.subscribe("user", [BTC])
        resting = {"limit_limit_gtc": {"base_size": "0.05", "limit_price": "64000"}}
        order_id = (await control.order(BTC, "BUY", resting))["order_id"]
        await control.fill(order_id, "0.01")
        await control.fill(order_id, "0.02")
        await control.fault("stale_cancelled")
        await control.cancel(order_id)
        await user.until(lambda _: bool(user.orders(order_id)) and user.orders(order_id)[-1]["status"] == "CANCELLED")
        last = user.orders(order_id)[-1]
        assert (last["cumulative_quantity"], last["filled_value"], last["number_of_fills"]) == ("0.01", "640", "1")
        assert (await control.orders())[0]["filled_size"] == "0.03"


async def test_lists_that_lag_show_what_was(client: RESTClient, control: PaperControl) -> None:
    """With a lag, orders, fills and balances are old, at most from its start; actions take effect at once."""
    old = await place(client)
    fault = await control.fault("lagging", "GET *", delay=3600, count=None)
    bought = await asyncio.to_thread(client.market_order_buy, str(uuid.uuid4()), BTC, base_size="0.1")
    order_id = bought.success_response["order_id"]
    await asyncio.to_thread(client.cancel_orders, [old])
    assert [row.order_id for row in (await asyncio.to_thread(client.list_orders, order_status=["OPEN"])).orders] == [
        old
    ]
    assert [row.order_id for row in (await asyncio.to_thread(client.list_orders)).orders] == [old]
    with pytest.raises(HTTPError, match="order with this orderID was not found"):
        await asyncio.to_thread(client.get_order, order_id)
    assert (await asyncio.to_thread(client.get_fills)).fills == []
    assert {row.currency for row in (await asyncio.to_thread(client.get_accounts)).accounts} == {"USD"}
    await control.clear_faults(fault)
    assert (await asyncio.to_thread(client.get_order, old)).order.status == "CANCELLED"
    assert len((await asyncio.to_thread(client.list_orders)).orders) == 2
    await control.fault("lagging", "GET /orders/historical/*", delay=0.2, count=None)
    await asyncio.to_thread(client.market_order_sell, str(uuid.uuid4()), BTC, base_size="0.1")

    async def shown() -> bool:
        return len((await asyncio.to_thread(client.get_fills)).fills) == 2

    await until(shown)


async def test_updates_replay_on_reconnect(paper: PaperExchange, control: PaperControl) -> None:
    """A new subscription may repeat earlier messages."""
    async with StreamClient(paper.user_stream_url, paper.key_file) as user:
        await user.subscribe("user", [BTC])
        order = await control.order(BTC, "BUY", {"market_market_ioc": {"base_size": "0.01"}})
        first = await user.until(lambda seen: any(event["type"] == "update" for event in seen[-1].get("events", ())))
    await control.fault("replay")
    async with StreamClient(paper.user_stream_url, paper.key_file) as again:
        await again.subscribe("user", [BTC])
        await again.until(lambda _: bool(again.orders(order["order_id"])))
        assert again.messages[-1]["events"] == first[-1]["events"]
