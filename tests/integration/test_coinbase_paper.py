"""The adapter against a paper exchange over real sockets: every call, every fault, every end of a stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from domain.orders import OrderType, Side, TimeInForce, VenueStatus
from exchange.coinbase import CoinbaseConfig, CoinbaseExchange
from exchange.paper import PaperConfig, PaperControl, PaperExchange
from exchange.port import (
    BookUpdate,
    CancelVerdict,
    CandleUpdate,
    CommandRefused,
    Connected,
    Disconnected,
    Exchange,
    Gap,
    Heartbeat,
    MalformedMessage,
    NotAccepted,
    OrderEvent,
    OrderRequest,
    OutcomeUnknown,
    PublicTrade,
    SnapshotComplete,
    Ticker,
    Unavailable,
    VenueOrder,
)
from exchange.streams import ReconnectSettings
from tests.support.stream_reader import Reader, reading
from tests.support.waiting import SLACK

D = Decimal
BTC = "BTC-USD"
FAST = ReconnectSettings(backoff_first=0.02, backoff_cap=0.1, heartbeat=2.5, first_frame=2.0, open_timeout=2.0)


def start_of_test() -> datetime:
    """A moment before the test's actions."""
    return datetime.now(UTC) - timedelta(seconds=2)


@pytest.fixture
async def paper() -> AsyncIterator[PaperExchange]:
    """A paper exchange whose market moves only on request."""
    config = PaperConfig(
        step=True,
        products=[BTC, "ETH-USD"],
        balances={"USD": D(1_000_000), "BTC": D(10)},
        private_rate=0,
        public_rate=0,
        connection_rate=0,
        message_rate=0,
        trade_batch=0,
        depth_batch=0,
    )
    async with PaperExchange(config) as paper:
        yield paper


@pytest.fixture
async def control(paper: PaperExchange) -> AsyncIterator[PaperControl]:
    """Controls the paper exchange; BTC is quoted 50,000 / 50,010."""
    async with PaperControl(paper.addresses()) as control:
        await control.set_price(BTC, "50000", "50010")
        yield control


def adapter(paper: PaperExchange, **changes: Any) -> CoinbaseExchange:
    """An adapter to the paper exchange."""
    settings: dict[str, Any] = {
        "rest_address": paper.rest_address,
        "stream_url": paper.stream_url,
        "user_stream_url": paper.user_stream_url,
        "ca_file": paper.ca_file,
        "key_file": paper.key_file,
        "private_rate": 0,
        "threads": 8,
        "streams": FAST,
    }
    return CoinbaseExchange(CoinbaseConfig(**(settings | changes)))


@pytest.fixture
async def exchange(paper: PaperExchange, control: PaperControl) -> AsyncIterator[CoinbaseExchange]:
    """An adapter to the paper exchange, closed afterwards."""
    exchange = adapter(paper)
    port: Exchange = exchange
    yield exchange
    await port.close()


def limit(client_order_id: str, price: str, *, side: Side = Side.BUY, size: str = "0.1", **more: Any) -> OrderRequest:
    """A limit order for BTC."""
    return OrderRequest(client_order_id, BTC, side, OrderType.LIMIT, base_size=D(size), limit_price=D(price), **more)


def market(client_order_id: str, *, side: Side = Side.BUY, size: str = "0.1") -> OrderRequest:
    """A market order for BTC."""
    return OrderRequest(client_order_id, BTC, side, OrderType.MARKET, base_size=D(size))


async def place(exchange: CoinbaseExchange, request: OrderRequest) -> str:
    """Send it. Returns the venue's id."""
    return (await exchange.submit(exchange.order_body(request))).exchange_order_id


async def until(
    exchange: CoinbaseExchange, order_id: str, condition: Callable[[VenueOrder], bool], seconds: float = 5.0
) -> VenueOrder:
    """The order, once it is in the wanted state."""
    async with asyncio.timeout(SLACK * seconds):
        while True:
            order = await exchange.order(order_id)
            if order is not None and condition(order):
                return order
            await asyncio.sleep(0.01)


# --- reads --------------------------------------------------------------------------------------------------------


async def test_market_reads(exchange: CoinbaseExchange) -> None:
    """Clock, products, quote, candles and rates."""
    assert abs((await exchange.server_time()) - datetime.now(UTC)) < timedelta(seconds=5)
    assert {item.symbol for item in await exchange.products()} == {BTC, "ETH-USD"}
    (btc,) = await exchange.products([BTC, "NOPE-USD"])
    assert (btc.base, btc.quote, btc.price_increment, btc.halted) == ("BTC", "USD", D("0.01"), False)
    assert await exchange.products([]) == []
    quote = await exchange.quote(BTC)
    assert (quote.bid, quote.ask) == (D(50000), D(50010))
    with pytest.raises(Unavailable):
        await exchange.quote("NOPE-USD")
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    candles = await exchange.candles(BTC, 300, end - timedelta(hours=30), end)
    starts = [item.start for item in candles]
    assert starts == sorted(set(starts))
    assert len(starts) >= 359
    assert end - timedelta(hours=30) <= starts[0] <= starts[-1] < end
    with pytest.raises(ValueError, match="no candles of 61 s"):
        await exchange.candles(BTC, 61, end, end)
    rates = await exchange.fee_rates()
    assert (rates.maker, rates.taker) == (D("0.004"), D("0.006"))


async def test_a_filled_order_by_every_read(exchange: CoinbaseExchange) -> None:
    """One market buy is the same in order, find_order, orders, fills and balances."""
    since = start_of_test()
    order_id = await place(exchange, market("c-1"))
    order = await until(exchange, order_id, lambda item: item.status is VenueStatus.FILLED)
    assert (order.client_order_id, order.symbol, order.side) == ("c-1", BTC, Side.BUY)
    assert order.filled_size == D("0.1")
    assert order.quote_fees == order.filled_value * D("0.006")
    assert await exchange.find_order("c-1", BTC, since) == order
    assert await exchange.find_order("c-2", BTC, since) is None
    assert list(await exchange.orders(since)) == [order]
    fills = await exchange.fills(exchange_order_id=order_id)
    assert sum(item.size for item in fills) == order.filled_size
    assert sum(item.size * item.price for item in fills) == order.filled_value
    assert sum(item.fee for item in fills) == order.quote_fees
    assert [item.trade_id for item in await exchange.fills(since=since)] == [item.trade_id for item in fills]
    assert {item.fee_currency for item in fills} == {"USD"}
    balances = await exchange.balances()
    assert balances["USD"].total == D(1_000_000) - order.filled_value - order.quote_fees
    assert balances["BTC"].available == D("10.1")


@pytest.mark.parametrize("waiting", ["PENDING", "QUEUED"])
async def test_an_order_that_is_not_yet_on_the_book_is_found(
    exchange: CoinbaseExchange, control: PaperControl, waiting: str
) -> None:
    """PENDING and QUEUED orders are in no list of open orders, but are found."""
    await control.latency(accept=None)
    await control.waiting_status(waiting)
    order_id = await place(exchange, limit("c-1", "49000"))
    found = await exchange.find_order("c-1", BTC, start_of_test())
    assert found is not None
    assert (found.exchange_order_id, found.status) == (order_id, VenueStatus.PENDING)
    assert [item.exchange_order_id for item in await exchange.orders(start_of_test())] == [order_id]
    await control.accept(order_id)
    assert [item.exchange_order_id for item in await exchange.open_orders()] == [order_id]


async def test_lists_over_many_pages(paper: PaperExchange, exchange: CoinbaseExchange) -> None:
    """With two rows a page nothing is lost or repeated, open and ended ones together, oldest first."""
    since = start_of_test()
    ids = [await place(exchange, limit(f"c-{number}", f"{40000 + number}")) for number in range(7)]
    filled = [await place(exchange, market(f"m-{number}", size="0.01")) for number in range(5)]
    paged = adapter(paper, page_size=2)
    assert [item.exchange_order_id for item in await paged.open_orders()] == ids
    assert [item.exchange_order_id for item in await paged.orders(since, [BTC])] == ids + filled
    assert {item.exchange_order_id for item in await paged.fills(since=since)} == set(filled)
    assert set(await paged.balances()) >= {"USD", "BTC"}
    found = await paged.find_order("c-0", BTC, since)
    assert found is not None
    assert found.exchange_order_id == ids[0]
    await paged.close()


async def test_an_order_the_venue_does_not_know_is_none(exchange: CoinbaseExchange) -> None:
    """An unknown order is None, not an error."""
    assert await exchange.order("00000000-0000-0000-0000-000000000000") is None


# --- commands -----------------------------------------------------------------------------------------------------


async def test_a_repeated_id_returns_the_first_order(exchange: CoinbaseExchange) -> None:
    """The same body twice is one order."""
    body = exchange.order_body(limit("c-1", "49000"))
    first, second = await exchange.submit(body), await exchange.submit(body, urgent=True)
    assert first.exchange_order_id == second.exchange_order_id
    assert len(await exchange.open_orders()) == 1


async def test_refusals_carry_the_venues_reason(exchange: CoinbaseExchange) -> None:
    """Too little money, an unknown product and a post-only order that would trade are refused by name."""
    with pytest.raises(CommandRefused) as caught:
        await place(exchange, limit("c-1", "50000", size="1000"))
    assert caught.value.code == "INSUFFICIENT_FUND"
    body = {**exchange.order_body(market("c-2")), "product_id": "NOPE-USD"}
    with pytest.raises(CommandRefused):
        await exchange.submit(body)


async def test_orders_of_every_kind_are_taken(exchange: CoinbaseExchange) -> None:
    """The venue accepts each configuration that `order_body` builds."""
    end = datetime.now(UTC) + timedelta(hours=1)
    gtd: dict[str, Any] = {"time_in_force": TimeInForce.GTD, "end_time": end}
    requests = [
        OrderRequest("k-1", BTC, Side.BUY, OrderType.MARKET, quote_size=D(100)),
        limit("k-2", "49000", post_only=True),
        limit("k-3", "49000", **gtd),
        limit("k-4", "50010", time_in_force=TimeInForce.IOC),
        limit("k-5", "50010", size="0.01", time_in_force=TimeInForce.FOK),
        OrderRequest(
            "k-6", BTC, Side.SELL, OrderType.STOP_LIMIT, base_size=D(1), limit_price=D(44000), stop_price=D(45000)
        ),
        OrderRequest(
            "k-7", BTC, Side.SELL, OrderType.BRACKET, base_size=D(1), limit_price=D(60000), stop_price=D(45000)
        ),
        OrderRequest("k-8", BTC, Side.BUY, OrderType.MARKET, base_size=D("0.01"), time_in_force=TimeInForce.FOK),
        limit("k-9", "55000", side=Side.SELL),
    ]
    for request in requests:
        order = await until(exchange, await place(exchange, request), lambda item: item.status is not None)
        assert order.client_order_id == request.client_order_id
        assert order.side is request.side


async def test_a_queued_cancel_can_still_fill(exchange: CoinbaseExchange, control: PaperControl) -> None:
    """The cancel's answer is a receipt: CANCELLING, a fill, then CANCELLED with the filled size."""
    await control.latency(cancel=None)
    order_id = await place(exchange, limit("c-1", "49000"))
    assert (await exchange.cancel(order_id, urgent=True)).verdict is CancelVerdict.ACCEPTED
    assert (await exchange.cancel(order_id)).verdict is CancelVerdict.ALREADY_DONE
    order = await exchange.order(order_id)
    assert order is not None
    assert order.status is VenueStatus.CANCELLING
    await control.fill(order_id, "0.04")
    await control.finish_cancel(order_id)
    order = await until(exchange, order_id, lambda item: item.status is VenueStatus.CANCELLED)
    assert (order.filled_size, order.filled_value) == (D("0.04"), D(1960))
    assert (await exchange.cancel(order_id)).verdict is CancelVerdict.ALREADY_DONE
    assert (await exchange.cancel("00000000-0000-0000-0000-000000000000")).verdict is CancelVerdict.UNKNOWN_ORDER


async def test_cancels_at_once_are_each_answered(exchange: CoinbaseExchange) -> None:
    """Twenty concurrent cancels are all accepted."""
    ids = [await place(exchange, limit(f"c-{number}", "40000")) for number in range(20)]
    answers = await asyncio.gather(*(exchange.cancel(order_id) for order_id in ids))
    assert {answer.verdict for answer in answers} == {CancelVerdict.ACCEPTED}
    assert await exchange.open_orders() == []


@pytest.mark.parametrize(
    ("kind", "settings", "error", "taken"),
    [
        ("accepted_cut", {}, OutcomeUnknown, True),
        ("accepted_silent", {"delay": 3.0}, OutcomeUnknown, True),
        ("not_accepted_cut", {}, OutcomeUnknown, False),
        ("accepted_late", {"delay": 1.0}, OutcomeUnknown, True),
        ("rate_limited", {}, NotAccepted, False),
        ("server_error", {}, OutcomeUnknown, False),
        ("accepted_server_error", {}, OutcomeUnknown, True),
        ("malformed_answer", {}, OutcomeUnknown, True),
        ("slow", {"delay": 3.0}, OutcomeUnknown, True),
    ],
)
async def test_every_fault_of_a_submit(
    paper: PaperExchange,
    control: PaperControl,
    kind: str,
    settings: dict[str, float],
    error: type[Exception],
    taken: bool,
) -> None:
    """The outcome is unknown whenever the order may exist, and the venue's list then shows whether it does."""
    exchange = adapter(paper, read_timeout=0.5)
    await control.fault(kind, "POST /orders", **settings)
    with pytest.raises(error) as caught:
        await place(exchange, limit("c-1", "49000"))
    assert type(caught.value) is error
    found: VenueOrder | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(3 if taken else 0.3):
            while found is None:
                found = await exchange.find_order("c-1", BTC, start_of_test())
                await asyncio.sleep(0.02)
    assert (found is not None) is taken
    # Sent again with the same id: one order, after any failure.
    again = await place(exchange, limit("c-1", "49000"))
    assert found is None or again == found.exchange_order_id
    assert len(await exchange.orders(start_of_test())) == 1
    await exchange.close()


async def test_a_wrong_key_is_an_auth_failure(paper: PaperExchange) -> None:
    """The code distinguishes a bad key from other errors, for reads and for commands."""
    stranger = adapter(paper, key_file=None, key_name="organizations/x/apiKeys/y", key_secret=_some_secret())
    with pytest.raises(NotAccepted) as command:
        await place(stranger, market("c-1"))
    with pytest.raises(Unavailable) as read:
        await stranger.balances()
    assert command.value.code == read.value.code == "AUTH_FAILURE"
    await stranger.close()


def _some_secret() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        .decode()
    )


async def test_the_venues_rate_limit_is_kept(paper: PaperExchange, control: PaperControl) -> None:
    """Fifteen calls with a limit of ten a second: none is refused, because the adapter waits."""
    limited = PaperConfig(step=True, products=[BTC], private_rate=10, balances={"USD": D(1)})
    async with PaperExchange(limited) as strict:
        exchange = adapter(strict, private_rate=9)
        await asyncio.gather(*(exchange.fee_rates() for _ in range(15)))
        await exchange.close()


# --- streams ------------------------------------------------------------------------------------------------------


async def test_the_user_stream_begins_with_all_109_orders(exchange: CoinbaseExchange) -> None:
    """The snapshot has batches of 50, and its end is reported."""
    ids = [await place(exchange, limit(f"c-{number}", f"{30000 + number}", size="0.001")) for number in range(109)]
    async with reading(exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(SnapshotComplete)))
        assert reader.of(SnapshotComplete) == [SnapshotComplete(109)]
        assert {event.order.exchange_order_id for event in reader.of(OrderEvent)} == set(ids)
        assert all(event.snapshot for event in reader.of(OrderEvent))


async def test_fills_arrive_as_totals(exchange: CoinbaseExchange, control: PaperControl) -> None:
    """Stream and REST report the same for a partly filled order."""
    async with reading(exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(SnapshotComplete)))
        order_id = await place(exchange, limit("c-1", "49000"))
        await control.fill(order_id, "0.03")
        await control.fill(order_id, "0.02")
        await reader.until(lambda: any(event.order.filled_size == D("0.05") for event in reader.of(OrderEvent)))
        last = reader.of(OrderEvent)[-1]
        listed = await exchange.order(order_id)
        assert listed is not None
        assert not last.snapshot
        assert (last.order.filled_value, last.order.quote_fees, last.order.status) == (
            listed.filled_value,
            listed.quote_fees,
            listed.status,
        )


@pytest.mark.parametrize(("action", "code"), [("drop", 1000), ("close", 1000), ("close", 1001), ("close", 1012)])
async def test_a_lost_connection_comes_back_with_what_was_missed(
    exchange: CoinbaseExchange, control: PaperControl, action: str, code: int
) -> None:
    """After a reset and every kind of close, regular ones included, it reconnects; the new snapshot has the new
    order."""
    async with reading(exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(SnapshotComplete)))
        await control.fault("refused", "user", count=2)
        assert await control.sockets(action, "user", code) == 1
        await reader.until(lambda: bool(reader.of(Disconnected)))
        order_id = await place(exchange, limit("c-1", "49000"))
        await reader.until(lambda: len(reader.of(SnapshotComplete)) == 2)
        assert order_id in {event.order.exchange_order_id for event in reader.of(OrderEvent)}
        assert [event.failures for event in reader.of(Disconnected)] == [0, 1, 2]
        assert [event.attempt for event in reader.of(Connected)] == [1, 4]
        assert reader.stream.stats.failures == 0
        assert "503" in reader.of(Disconnected)[1].reason


async def test_a_half_open_socket_is_noticed_by_missing_heartbeats(
    exchange: CoinbaseExchange, control: PaperControl
) -> None:
    """TCP stays up without messages: the connection is closed and made again."""
    async with reading(exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(Heartbeat)))
        await control.sockets("half_open", "user")
        await reader.until(lambda: len(reader.of(Connected)) == 2)
        assert "heartbeat" in reader.of(Disconnected)[0].reason


async def test_silence_from_the_start_is_noticed(paper: PaperExchange, control: PaperControl) -> None:
    """No first message in time counts as a failure, and the next attempt works."""
    exchange = adapter(paper, streams=ReconnectSettings(first_frame=0.4, backoff_first=0.02))
    await control.fault("half_open", "user", count=1)
    reader = Reader(exchange.user_stream())
    await reader.until(lambda: bool(reader.of(Connected)))
    assert "no message within 0.4 s" in reader.of(Disconnected)[0].reason
    assert reader.of(Disconnected)[0].failures == 1
    await reader.close()
    await exchange.close()


async def test_a_slow_consumer_is_not_taken_for_a_silent_venue(paper: PaperExchange, control: PaperControl) -> None:
    """While the consumer is busy with an event for longer than every limit, the connection stays."""
    exchange = adapter(paper, streams=ReconnectSettings(heartbeat=1.5, idle=1.5))
    stream = exchange.user_stream()
    assert isinstance(await anext(stream), Connected)
    await asyncio.sleep(2.5)
    for _ in range(4):
        assert not isinstance(await anext(stream), Disconnected)
    await stream.aclose()
    await exchange.close()


async def test_a_missing_message_is_a_gap(exchange: CoinbaseExchange, control: PaperControl) -> None:
    """The jump is reported once, before the message that shows it, and reading continues."""
    async with reading(exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(SnapshotComplete)))
        await control.fault("missing", "user", count=1)
        await place(exchange, limit("c-1", "49000"))
        second = await place(exchange, limit("c-2", "49000"))
        await reader.until(lambda: second in {event.order.exchange_order_id for event in reader.of(OrderEvent)})
        (gap,) = reader.of(Gap)
        assert gap.received == gap.expected + 1
        assert reader.stream.stats.missed == 1


@pytest.mark.parametrize(("kind", "repeats", "late"), [("duplicate", 1, 0), ("reordered", 0, 1)])
async def test_repeats_and_late_messages_change_nothing(
    exchange: CoinbaseExchange, control: PaperControl, kind: str, repeats: int, late: int
) -> None:
    """A repeat is dropped; an overtaken order message is delivered and its totals show what is newer."""
    async with reading(exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(SnapshotComplete)))
        await control.fault(kind, "user", count=1)
        order_id = await place(exchange, limit("c-1", "49000"))
        await control.fill(order_id, "0.1")
        stats = reader.stream.stats
        await reader.until(lambda: (stats.repeats, stats.late) == (repeats, late))
        await reader.until(lambda: any(event.order.status is VenueStatus.FILLED for event in reader.of(OrderEvent)))


async def test_a_broken_frame_is_kept_and_does_not_stop_the_stream(
    exchange: CoinbaseExchange, control: PaperControl
) -> None:
    """A truncated frame becomes an event; the next message is read and shows the gap."""
    async with reading(exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(SnapshotComplete)))
        await control.fault("malformed", "user", count=1)
        await place(exchange, limit("c-1", "49000"))
        await reader.until(lambda: bool(reader.of(MalformedMessage)))
        second = await place(exchange, limit("c-2", "49000"))
        await reader.until(lambda: second in {event.order.exchange_order_id for event in reader.of(OrderEvent)})
        assert len(reader.of(Connected)) == 1
        assert reader.of(MalformedMessage)[0].raw


async def test_a_key_the_venue_does_not_know_is_told_as_the_reason(paper: PaperExchange, control: PaperControl) -> None:
    """A refused subscription counts as a failure, has its reason, and is tried again."""
    stranger = adapter(paper, key_file=None, key_name="organizations/x/apiKeys/y", key_secret=_some_secret())
    reader = Reader(stranger.user_stream())
    await reader.until(lambda: len(reader.of(Disconnected)) >= 2)
    assert not reader.of(Connected)
    assert "refused the subscription" in reader.of(Disconnected)[0].reason
    assert [event.failures for event in reader.of(Disconnected)[:2]] == [1, 2]
    await reader.close()
    await stranger.close()


async def test_nobody_at_the_address_is_tried_again_with_growing_pauses(paper: PaperExchange) -> None:
    """Refused connections are reported with the number of failures, and pauses grow up to the cap."""
    exchange = adapter(
        paper, user_stream_url="ws://127.0.0.1:9/user", streams=ReconnectSettings(backoff_first=0.01, backoff_cap=0.04)
    )
    reader = Reader(exchange.user_stream())
    await reader.until(lambda: len(reader.of(Disconnected)) >= 6)
    assert [event.failures for event in reader.of(Disconnected)[:6]] == [1, 2, 3, 4, 5, 6]
    assert all(event.retry_in <= 0.04 for event in reader.of(Disconnected))
    assert reader.of(Disconnected)[5].retry_in >= 0.02
    await reader.close()
    await exchange.close()


async def test_market_channels(exchange: CoinbaseExchange, control: PaperControl) -> None:
    """Ticker, trades, candles and book of two products on one connection."""
    stream = exchange.market_stream([BTC, "ETH-USD"], ["ticker", "trades", "candles", "book"])
    async with reading(stream) as reader:
        await reader.until(lambda: {event.symbol for event in reader.of(BookUpdate)} == {BTC, "ETH-USD"})
        await control.trade(BTC, "50010", "0.5", "BUY")
        await control.set_price(BTC, "50100", "50110")
        await reader.until(lambda: any(event.bid == D(50100) for event in reader.of(Ticker)))
        await reader.until(lambda: any(event.size == D("0.5") for event in reader.of(PublicTrade)))
        await reader.until(lambda: bool(reader.of(CandleUpdate)))
        trade = next(event for event in reader.of(PublicTrade) if event.size == D("0.5"))
        assert (trade.symbol, trade.price, trade.maker_side) == (BTC, D(50010), Side.SELL)
        assert not reader.of(MalformedMessage)
        assert not reader.of(Gap)


async def test_the_book_is_taken_anew_after_a_gap(exchange: CoinbaseExchange, control: PaperControl) -> None:
    """A missed level-2 message is followed by a new snapshot on the same connection."""
    async with reading(exchange.market_stream([BTC], ["book"])) as reader:
        await reader.until(lambda: bool(reader.of(BookUpdate)))
        await control.fault("missing", "l2_data", count=1)
        await control.set_price(BTC, "50100", "50110")
        await control.set_price(BTC, "50200", "50210")
        await reader.until(lambda: bool(reader.of(Gap)))
        await reader.until(lambda: sum(event.snapshot for event in reader.of(BookUpdate)) == 2)
        assert len(reader.of(Connected)) == 1


async def test_channels_and_symbols_are_checked(exchange: CoinbaseExchange) -> None:
    """A wrong request is an error at once, not a silent stream."""
    for symbols, channels in (([BTC], ["level3"]), ([BTC], []), ([], ["ticker"])):
        with pytest.raises(ValueError, match=r"channel|symbol"):
            exchange.market_stream(symbols, channels)


async def test_rows_that_say_too_little_hide_no_others(exchange: CoinbaseExchange, control: PaperControl) -> None:
    """A filled order without a price and one without a side are reported apart from the list, which continues; a null
    list is empty; an id missing in readable rows is not reported as absent if an unreadable row has it.
    """
    await control.fault("null_list", "GET /orders/historical/*", count=2)
    assert list(await exchange.orders(start_of_test())) == []
    names = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(3)]
    ids = [await place(exchange, limit(name, "49000")) for name in names[:2]]
    filled = await place(exchange, market(names[2]))
    await control.fault("strange_rows", "GET /orders/historical/*", count=None)
    unreadable: list[MalformedMessage] = []
    listed = await exchange.orders(start_of_test(), unreadable=unreadable)
    assert [order.exchange_order_id for order in listed] == ids[:1]
    assert {"without a price" in message.reason for message in unreadable} == {True, False}
    assert filled in "".join(message.raw for message in unreadable)
    with pytest.raises(Unavailable, match="without a price"):
        await exchange.find_order(names[2], BTC, start_of_test())
    assert await exchange.find_order("an-id-that-nobody-has", BTC, start_of_test()) is None
    with pytest.raises(Unavailable, match="without a price"):
        await exchange.order(filled)
    await place(exchange, market("00000003-0000-4000-8000-000000000000"))
    unreadable.clear()
    assert [fill.exchange_order_id for fill in await exchange.fills(unreadable=unreadable)] == [filled]
    assert "UNKNOWN_ORDER_SIDE" in unreadable[0].reason
    await control.fault("strange_rows", "GET /products")
    assert [row.symbol for row in await exchange.products()] == ["ETH-USD"]
