"""The adapter to Crypto.com over real sockets; a server answers as the venue's documents and recordings do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from domain.orders import OrderType, Side, VenueStatus
from exchange.cryptocom import CryptocomConfig, CryptocomExchange
from exchange.joined_streams import JoinedStreams
from exchange.port import (
    BalanceUpdate,
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
    StreamEvent,
    Ticker,
    Unavailable,
)
from exchange.streams import ReconnectingStream, ReconnectSettings
from tests.support.cryptocom_server import KEY, SECRET, CryptocomServer, Reply, Socket, serving
from tests.support.waiting import SLACK, eventually

D = Decimal
CRO = "CRO_USD"
CREATE = "private/create-order"
DETAIL, ADVANCED_DETAIL = "private/get-order-detail", "private/advanced/get-order-detail"
HISTORY, ADVANCED_HISTORY = "private/get-order-history", "private/advanced/get-order-history"
TRADES = "private/get-trades"
FAST = ReconnectSettings(backoff_first=0.02, backoff_cap=0.1, first_frame=2.0, open_timeout=2.0)
NOT_FOUND = Reply(code=40401, message="NOT_FOUND")
NONE = Reply({"data": []})
NOW = datetime.now(UTC)


def milliseconds(moment: datetime) -> int:
    """As the venue writes times."""
    return int(moment.timestamp() * 1000)


def row(order_id: str, status: str = "ACTIVE", filled: str = "0", value: str = "0", **more: Any) -> dict[str, Any]:
    """An order of 20 CRO."""
    at = milliseconds(NOW)
    return {
        "account_id": "acc-1", "order_id": order_id, "client_oid": f"c-{order_id}", "order_type": "LIMIT",
        "time_in_force": "GOOD_TILL_CANCEL", "side": "BUY", "exec_inst": [], "quantity": "20", "limit_price": "0.06",
        "avg_price": "0.06", "cumulative_quantity": filled, "cumulative_value": value, "cumulative_fee": "0.1",
        "status": status, "instrument_name": CRO, "fee_instrument_name": "USD", "create_time": at, "update_time": at,
    } | more  # fmt: skip


def trade(trade_id: str, order_id: str, size: str = "20", **more: Any) -> dict[str, Any]:
    """An execution at 0.06, for a fee of a tenth of a cent."""
    at = milliseconds(NOW)
    return {
        "account_id": "acc-1", "trade_id": trade_id, "order_id": order_id, "client_oid": f"c-{order_id}",
        "traded_quantity": size, "traded_price": "0.06", "fees": "-0.001", "fee_instrument_name": "USD",
        "taker_side": "TAKER", "side": "BUY", "instrument_name": CRO, "create_time": at,
        "create_time_ns": str(at * 1_000_000 + 123),
    } | more  # fmt: skip


@pytest.fixture
async def server() -> AsyncIterator[CryptocomServer]:
    """A venue without orders."""
    venue = CryptocomServer(snapshots={"user.order": [], "user.balance": [balance("100")]})
    venue.scripts = {
        DETAIL: NOT_FOUND, ADVANCED_DETAIL: NOT_FOUND, HISTORY: NONE, ADVANCED_HISTORY: NONE, TRADES: NONE,
        "private/get-open-orders": NONE, "private/advanced/get-open-orders": NONE,
        CREATE: lambda params: Reply({"order_id": "77", "client_oid": params["client_oid"]}),
        "private/user-balance": Reply({"data": [balance("100")]}), "public/get-tickers": NONE,
    }  # fmt: skip
    async with serving(venue):
        yield venue


def adapter(server: CryptocomServer, **changes: Any) -> CryptocomExchange:
    """An adapter to the server, without limits."""
    settings: dict[str, Any] = {
        "rest_url": f"http://{server.url}/exchange/v1", "key_name": KEY, "key_secret": SECRET, "share": 0,
        "market_stream_url": f"ws://{server.url}/stream/market", "user_stream_url": f"ws://{server.url}/stream/user",
        "streams": FAST, "connect_timeout": 2.0, "read_timeout": 5.0,
    }  # fmt: skip
    return CryptocomExchange(CryptocomConfig(**(settings | changes)))


@pytest.fixture
async def exchange(server: CryptocomServer) -> AsyncIterator[CryptocomExchange]:
    """An adapter, closed afterwards."""
    exchange = adapter(server)
    port: Exchange = exchange
    yield exchange
    await port.close()


def balance(dollars: str) -> dict[str, Any]:
    """A wallet."""
    amounts = [
        {"instrument_name": "USD", "quantity": dollars, "reserved_qty": "10", "market_value": "90"},
        {"instrument_name": "CRO", "quantity": "199", "reserved_qty": "0"},
    ]
    return {"instrument_name": "USD", "total_available_balance": "14.5", "position_balances": amounts}


def buy(client_order_id: str = "c-77") -> OrderRequest:
    """20 CRO at 0.06."""
    return OrderRequest(client_order_id, CRO, Side.BUY, OrderType.LIMIT, base_size=D(20), limit_price=D("0.06"))


# --- commands -----------------------------------------------------------------------------------------------------


async def test_an_order_is_sent_once_as_it_was_made(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """The server checks signature, id and nonce; the parameters are the body's, amounts as text."""
    body = exchange.order_body(buy())
    answer = await exchange.submit(body)
    assert (answer.exchange_order_id, answer.client_order_id) == ("77", "c-77")
    (request,) = server.requests[CREATE]
    assert request["params"] == body["params"]
    assert request["params"]["quantity"] == "20"
    await exchange.submit(body, urgent=True)
    first, second = (item["id"] for item in server.requests[CREATE])
    assert second > first


@pytest.mark.parametrize(
    ("reply", "error", "code"),
    [
        (Reply(code=306, status=500, message="INSUFFICIENT_AVAILABLE_BALANCE"), CommandRefused,
         "INSUFFICIENT_AVAILABLE_BALANCE"),
        (Reply(code=415, status=500, message="BELOW_MIN_ORDER_SIZE"), CommandRefused, "BELOW_MIN_ORDER_SIZE"),
        (Reply(code=209, status=400, message="INVALID_INSTRUMENT"), CommandRefused, "INVALID_INSTRUMENT"),
        (Reply(code=42901, status=429, message="TOO_MANY_REQUESTS"), NotAccepted, "RATE_LIMITED"),
        (Reply(code=204, status=400, message="DUPLICATE_CLORDID"), OutcomeUnknown, "DUPLICATE_CLORDID"),
        (Reply(code=50001, status=500, message="ERR_INTERNAL"), OutcomeUnknown, "ERR_INTERNAL"),
        (Reply(status=502, body="<html>Bad Gateway</html>"), OutcomeUnknown, "OUTCOME_UNKNOWN"),
        (Reply(status=503, body=""), OutcomeUnknown, "OUTCOME_UNKNOWN"),
        (Reply(status=200, body="[]"), OutcomeUnknown, "OUTCOME_UNKNOWN"),
        (Reply({"client_oid": "c-77"}), OutcomeUnknown, "UNREADABLE_ANSWER"),
        (Reply(cut=True), OutcomeUnknown, "OUTCOME_UNKNOWN"),
    ],
)  # fmt: skip
async def test_every_answer_to_an_order(
    exchange: CryptocomExchange, server: CryptocomServer, reply: Reply, error: type[Exception], code: str
) -> None:
    """Refused, not taken, or unknown, and sent exactly once whatever the answer is."""
    server.scripts[CREATE] = reply
    with pytest.raises(error) as caught:
        await exchange.submit(exchange.order_body(buy()))
    assert (type(caught.value), caught.value.code) == (error, code)  # type: ignore[attr-defined]
    assert len(server.requests[CREATE]) == 1


async def test_a_venue_that_is_silent_after_the_order_leaves_its_outcome_unknown(server: CryptocomServer) -> None:
    """The timeout is after sending, so nobody knows."""
    never = asyncio.Event()
    server.scripts[CREATE] = Reply(wait=never)
    exchange = adapter(server, read_timeout=0.2)
    with pytest.raises(OutcomeUnknown, match="without a readable answer"):
        await exchange.submit(exchange.order_body(buy()))
    never.set()
    await exchange.close()


async def test_an_order_that_could_not_be_sent_was_not_taken() -> None:
    """Nobody listens: that is certain, and the order may be sent again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = CryptocomServer(url=f"127.0.0.1:{free.getsockname()[1]}")
        exchange = adapter(nowhere)
        with pytest.raises(NotAccepted, match="was not sent"):
            await exchange.submit(exchange.order_body(buy()))
        with pytest.raises(NotAccepted, match="was not sent"):
            await exchange.cancel("77")
        with pytest.raises(Unavailable):
            await exchange.balances()
        await exchange.close()


async def test_a_wrong_key_is_an_auth_failure(server: CryptocomServer) -> None:
    """For commands it was not taken; for reads nothing is known."""
    exchange = adapter(server, key_secret="another")
    with pytest.raises(NotAccepted) as command:
        await exchange.submit(exchange.order_body(buy()))
    with pytest.raises(Unavailable) as read:
        await exchange.balances()
    assert (command.value.code, read.value.code) == ("AUTH_FAILURE", "AUTH_FAILURE")
    await exchange.close()


@pytest.mark.parametrize("ahead", [600.0, -600.0])
async def test_a_clock_that_is_minutes_off_prevents_no_order(
    exchange: CryptocomExchange, server: CryptocomServer, ahead: float
) -> None:
    """A refused nonce was not taken: the order goes out once more by the venue's own time, and later ones at once."""
    server.ahead = ahead
    await exchange.submit(exchange.order_body(buy()))
    assert len(server.requests[CREATE]) == 2
    await exchange.submit(exchange.order_body(buy("c-78")))
    assert len(server.requests[CREATE]) == 3
    assert abs((await exchange.server_time() - datetime.now(UTC)).total_seconds() - ahead) < 5


async def test_a_repeated_id_is_looked_up_not_refused(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """204 says that an order exists: it is found by our id, with what it has traded."""
    server.scripts[CREATE] = Reply({"order_id": "999"}, code=204, status=400, message="DUPLICATE_CLORDID")
    with pytest.raises(OutcomeUnknown, match="exists"):
        await exchange.submit(exchange.order_body(buy()))
    server.scripts[DETAIL] = Reply(row("77", "FILLED", "20", "1.2"))
    server.scripts[TRADES] = Reply({"data": [trade("1", "77")]})
    found = await exchange.find_order("c-77", CRO, NOW)
    assert found is not None
    assert (found.exchange_order_id, found.status, found.quote_fees) == ("77", VenueStatus.FILLED, D("0.001"))
    assert server.params(DETAIL) == [{"client_oid": "c-77"}]


@pytest.mark.parametrize(
    ("ordinary", "advanced", "verdict"),
    [
        (Reply({"order_id": "77"}), None, CancelVerdict.ACCEPTED),
        (Reply(code=316, status=500), Reply(code=40401), CancelVerdict.ALREADY_DONE),
        (Reply(code=212, status=500), Reply(code=40401), CancelVerdict.UNKNOWN_ORDER),
        (Reply(code=212, status=500), Reply({}), CancelVerdict.ACCEPTED),
        (Reply(code=212, status=500), Reply(code=316, status=500), CancelVerdict.ALREADY_DONE),
        (Reply(code=202, status=400), None, CancelVerdict.REFUSED),
    ],
)
async def test_verdicts_of_cancels(
    exchange: CryptocomExchange,
    server: CryptocomServer,
    ordinary: Reply,
    advanced: Reply | None,
    verdict: CancelVerdict,
) -> None:
    """An order that ordinary orders don't know is looked for among the advanced ones; one place's word is enough."""
    server.scripts["private/cancel-order"] = ordinary
    if advanced is not None:
        server.scripts["private/advanced/cancel-order"] = advanced
    assert (await exchange.cancel("77", urgent=True)).verdict is verdict
    assert len(server.requests["private/advanced/cancel-order"]) == (advanced is not None)


async def test_a_trigger_is_sent_and_cancelled_as_an_advanced_order(
    exchange: CryptocomExchange, server: CryptocomServer
) -> None:
    """It has a method of its own, and so has its cancel, which is tried first for it."""
    server.scripts["private/advanced/create-order"] = Reply({"order_id": "900", "client_oid": "c-900"})
    server.scripts["private/advanced/cancel-order"] = Reply({})
    stop = OrderRequest(
        "c-900", CRO, Side.SELL, OrderType.STOP_LIMIT, base_size=D(20), limit_price=D("0.05"), stop_price=D("0.051")
    )
    await exchange.submit(exchange.order_body(stop))
    assert (await exchange.cancel("900")).verdict is CancelVerdict.ACCEPTED
    assert server.requests["private/cancel-order"] == []
    server.scripts[ADVANCED_DETAIL] = Reply(row("900", "PENDING", order_type="STOP_LIMIT", ref_price="0.051"))
    found = await exchange.order("900")
    assert found is not None
    assert (found.status, found.order_type) == (VenueStatus.PENDING, "STOP_LIMIT")
    assert server.requests[DETAIL] == []


async def test_exits_go_first_by_each_methods_limit(server: CryptocomServer) -> None:
    """While ordinary orders wait for their turn, an urgent one passes them; other methods wait for nobody."""
    exchange = adapter(server, share=1 / 15)  # one order in a tenth of a second
    orders = [asyncio.create_task(exchange.submit(exchange.order_body(buy(f"c-{number}")))) for number in range(4)]
    await asyncio.sleep(0)
    exit_order = asyncio.create_task(exchange.submit(exchange.order_body(buy("exit")), urgent=True))
    await asyncio.gather(exit_order, *orders)
    sent = [params["client_oid"] for params in server.params(CREATE)]
    assert sent.index("exit") <= 1
    assert len(sent) == 5
    await exchange.close()


# --- reads --------------------------------------------------------------------------------------------------------


async def test_an_unknown_order_is_none(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """Neither among ordinary orders nor advanced ones, nor in the lists of the past; an empty answer says the same."""
    assert await exchange.order("1") is None
    assert await exchange.find_order("c-1", CRO, NOW) is None
    server.scripts[DETAIL] = Reply({})
    assert await exchange.order("1") is None
    assert server.params(HISTORY)[0]["instrument_name"] == CRO


async def test_an_order_that_only_the_past_lists_is_found(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """A detail may lag behind: the lists of the past are searched by our id."""
    server.scripts[ADVANCED_HISTORY] = Reply({"data": [row("900", "CANCELED", reason=0)]})
    found = await exchange.find_order("c-900", CRO, NOW)
    assert found is not None
    assert (found.exchange_order_id, found.status, found.on_request) == ("900", VenueStatus.CANCELLED, True)


async def test_fees_are_read_from_executions(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """In whatever currency each was taken; the order's own figure is not used. Once known they are not read again."""
    server.scripts[DETAIL] = Reply(row("77", "FILLED", "20", "1.2"))
    server.scripts[TRADES] = Reply(
        {
            "data": [
                trade("1", "77", "12", fees="-0.05", fee_instrument_name="CRO"),
                trade("2", "77", "8"),
                trade("3", "78", "5"),
            ]
        }
    )
    for _ in range(2):
        order = await exchange.order("77")
        assert order is not None
        assert (order.base_fees, order.quote_fees, order.fill_count) == (D("0.05"), D("0.001"), 2)
    assert len(server.requests[TRADES]) == 1
    fills = await exchange.fills(exchange_order_id="77")
    assert [(item.trade_id, item.fee_currency) for item in fills] == [("1", "CRO"), ("2", "USD")]


async def test_an_order_whose_executions_are_not_listed_yet_is_told_without_them(
    exchange: CryptocomExchange, server: CryptocomServer
) -> None:
    """Its size is certain and does not wait for its fees, also where these can't be read at all."""
    server.scripts[DETAIL] = Reply(row("77", "FILLED", "20", "1.2"))
    for reply in (NONE, Reply(status=503, body="")):
        server.scripts[TRADES] = reply
        order = await exchange.order("77")
        assert order is not None
        assert (order.filled_size, order.filled_value, order.quote_fees) == (D(20), D("1.2"), D(0))


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("field", ["create_time", "update_time"])
async def test_a_long_past_is_read_page_by_page(
    exchange: CryptocomExchange, server: CryptocomServer, field: str, newest_first: bool
) -> None:
    """Of 730 orders, many within the same millisecond and over ten days, none is lost or told twice, by whichever of
    its times the venue goes, and in whatever order it writes a page."""
    begin = NOW - timedelta(days=10)
    rows = []
    for number in range(730):
        created = milliseconds(begin) + number // 30 * 36_000_000
        rows.append(row(str(number), "CANCELED", create_time=created, update_time=created + number % 7 * 1000))

    def history(params: dict[str, Any]) -> Reply:
        assert type(params["limit"]) is int
        end = params.get("end_time", milliseconds(NOW + timedelta(days=1)) * 1_000_000)
        assert end - params["start_time"] <= 8 * 86_400 * 10**9
        found = [item for item in rows if params["start_time"] <= item[field] * 1_000_000 < end]
        page = sorted(found, key=lambda item: -item[field])[: params["limit"]]
        return Reply({"data": page if newest_first else page[::-1]})

    server.scripts[HISTORY] = history
    unreadable: list[MalformedMessage] = []
    found = await exchange.orders(begin - timedelta(seconds=1), unreadable=unreadable)
    assert [int(item.exchange_order_id) for item in sorted(found, key=lambda item: int(item.exchange_order_id))] == [
        *range(730)
    ]
    assert unreadable == []


async def test_a_past_that_would_never_end_is_told(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """A hundred rows of one millisecond leave no place to go on from."""
    same = [row(str(number), "CANCELED") for number in range(100)]
    server.scripts[HISTORY] = Reply({"data": same})
    with pytest.raises(Unavailable) as caught:
        await exchange.orders(NOW - timedelta(hours=1))
    assert caught.value.code == "CURSOR_LOOP"


async def test_catching_up_has_ordinary_and_advanced_orders_with_their_fees(
    exchange: CryptocomExchange, server: CryptocomServer
) -> None:
    """Open and past ones of both kinds; an order that the matching engine knows by another id is one order."""
    server.scripts |= {
        "private/get-open-orders": Reply({"data": [row("1"), row("2", client_oid="c-900", filled="5", value="0.3")]}),
        "private/advanced/get-open-orders": Reply({"data": [row("900", exchange_order_id="2"), row("901", "PENDING")]}),
        HISTORY: Reply({"data": [row("3", "FILLED", "20", "1.2"), {"order_id": "4"}]}),
        ADVANCED_HISTORY: Reply({"data": [row("902", "CANCELED", contingency_type="OCO")]}),
        TRADES: Reply({"data": [trade("1", "3"), trade("2", "2", "5", client_oid="")]}),
    }
    unreadable: list[MalformedMessage] = []
    orders = {
        item.exchange_order_id: item for item in await exchange.orders(NOW - timedelta(hours=1), unreadable=unreadable)
    }
    assert orders.keys() == {"1", "900", "901", "3", "902"}
    assert [item.raw for item in unreadable] == ['{"order_id": "4"}']
    assert (orders["900"].filled_size, orders["900"].quote_fees) == (D(5), D("0.001"))
    assert orders["3"].quote_fees == D("0.001")
    with pytest.raises(Unavailable):
        await exchange.orders(NOW - timedelta(hours=1))
    assert {item.exchange_order_id for item in await exchange.open_orders()} == {"1", "900", "901"}


async def test_products_are_put_together_from_rules_minima_and_prices(
    exchange: CryptocomExchange, server: CryptocomServer
) -> None:
    """Ticks are the increments, however fine the decimals; derivatives and other books are left out; the least value is
    one of dollars."""
    instrument = {
        "inst_type": "CCY_PAIR", "quote_decimals": 5, "quantity_decimals": 0, "tradable": True, "base_ccy": "CRO",
        "quote_ccy": "USD", "symbol": CRO, "price_tick_size": "0.00001", "qty_tick_size": "1",
    }  # fmt: skip
    others: list[dict[str, Any]] = [
        {**instrument, "symbol": "A2Z_USD", "base_ccy": "A2Z", "qty_tick_size": "1000", "tradable": False},
        {**instrument, "symbol": "CROUSD-PERP", "inst_type": "PERPETUAL_SWAP"},
        {**instrument, "symbol": "CRO_USD@OEX_HK"},
        {**instrument, "symbol": "CRO_BTC", "quote_ccy": "BTC"},
        {**instrument, "symbol": "BAD_USD", "base_ccy": "BAD", "qty_tick_size": ""},
    ]
    server.scripts |= {
        "public/get-instruments": Reply({"data": [instrument, *others]}),
        "public/get-risk-parameters": Reply({"base_currency_config": [
            {"instrument_name": "CRO", "min_order_notional_usd": "1.0", "max_order_notional_usd": "300000"},
            {"instrument_name": "A2Z"}]}),
        "public/get-tickers": Reply({"data": [{"i": CRO, "a": "0.06", "c": "0.09", "vv": "1130779.23", "b": None}]}),
    }  # fmt: skip
    found = {item.symbol: item for item in await exchange.products()}
    assert found.keys() == {CRO, "A2Z_USD", "CRO_BTC"}
    cro = found[CRO]
    assert (cro.base_increment, cro.price_increment, cro.base_min, cro.halted) == (D(1), D("0.00001"), D(1), False)
    assert (cro.quote_min, cro.quote_max, cro.quote_increment) == (D(1), D(300000), D("0.00001"))
    assert (cro.price, cro.change_24h, cro.quote_volume_24h) == (D("0.06"), D("0.09"), D("1130779.23"))
    assert (found["A2Z_USD"].base_increment, found["A2Z_USD"].halted, found["A2Z_USD"].quote_min) == (
        D(1000),
        True,
        D(0),
    )
    assert (found["CRO_BTC"].quote_min, found["CRO_BTC"].price) == (D(0), None)
    assert [item.symbol for item in await exchange.products([CRO, "NOPE_USD"])] == [CRO]
    with pytest.raises(Unavailable, match="BAD_USD can't be understood"):
        await exchange.products(["BAD_USD"])
    assert len(server.requests["public/get-instruments"]) == 1


async def test_market_reads(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """Book, quote and candles; an empty side is no quote, and a length that the venue doesn't have is an error."""
    book = {"bids": [["0.0600", "10", "1"], ["0.0599", "5", "2"]], "asks": [["0.0601", "7", "1"]], "t": 1}
    server.scripts["public/get-book"] = Reply({"instrument_name": CRO, "data": [book]})
    quote = await exchange.quote(CRO)
    assert (quote.bid, quote.ask) == (D("0.06"), D("0.0601"))
    assert [(level.price, level.size) for level in (await exchange.book(CRO, 2)).bids] == [
        (D("0.06"), D(10)),
        (D("0.0599"), D(5)),
    ]
    server.scripts["public/get-book"] = Reply({"data": [{**book, "asks": []}]})
    with pytest.raises(Unavailable) as caught:
        await exchange.quote(CRO)
    assert caught.value.code == "EMPTY_BOOK"
    start = datetime(2026, 8, 1, tzinfo=UTC)

    def candles(params: dict[str, Any]) -> Reply:
        first, last = int(params["start_ts"]), int(params["end_ts"])
        assert (last - first) // 60_000 <= int(params["count"]) <= 300
        row = {"o": "1", "h": "2", "l": "0.5", "c": "1.5", "v": "0"}
        return Reply({"interval": "1m", "data": [{**row, "t": moment} for moment in range(first, last, 60_000)]})

    server.scripts["public/get-candlestick"] = candles
    found = await exchange.candles(CRO, 60, start + timedelta(seconds=30), start + timedelta(minutes=700))
    assert [item.start for item in found] == [start + timedelta(minutes=number) for number in range(1, 700)]
    with pytest.raises(ValueError, match="no candles of 61 s"):
        await exchange.candles(CRO, 61, start, start)


async def test_the_accounts_reads(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """Balances are what is owned, less what orders hold; rates are in basis points, by instrument where one is named,
    and a missing one is unknown."""
    found = await exchange.balances()
    assert {name: (item.available, item.hold) for name, item in found.items()} == {
        "USD": (D(90), D(10)),
        "CRO": (D(199), D(0)),
    }
    server.scripts["private/get-fee-rate"] = Reply(
        {"effective_spot_maker_rate_bps": "24.25", "effective_spot_taker_rate_bps": "48.5"}
    )
    server.scripts["private/get-instrument-fee-rate"] = lambda params: Reply(
        {"instrument_name": params["instrument_name"], "effective_maker_rate_bps": "0", "effective_taker_rate_bps": "4"}
    )
    rates = await exchange.fee_rates()
    assert (rates.maker, rates.taker) == (D("0.002425"), D("0.00485"))
    rates = await exchange.fee_rates(CRO)
    assert (rates.maker, rates.taker) == (D(0), D("0.0004"))
    server.scripts["private/get-instrument-fee-rate"] = Reply({"effective_taker_rate_bps": "4"})
    with pytest.raises(Unavailable, match="effective_maker_rate_bps is missing"):
        await exchange.fee_rates(CRO)


@pytest.mark.parametrize(
    ("reply", "may"),
    [(Reply(code=316, status=500), True), (Reply({}), True), (Reply(code=10003, status=401), False),
     (Reply(code=50001, status=500), None)],
)  # fmt: skip
async def test_whether_the_key_may_trade(
    exchange: CryptocomExchange, server: CryptocomServer, reply: Reply, may: bool | None
) -> None:
    """A cancel of no order is taken from a key that may trade, and from no other."""
    server.scripts["private/cancel-order"] = reply
    if may is None:
        with pytest.raises(Unavailable):
            await exchange.may_trade()
    else:
        assert await exchange.may_trade() is may


async def test_the_accounts_id_is_that_of_its_orders_or_of_its_stream(server: CryptocomServer) -> None:
    """With an order it is there, without one the user stream tells it; both are the same."""
    server.scripts[HISTORY] = Reply({"data": [row("1", "CANCELED")]})
    exchange = adapter(server)
    assert await exchange.account_id() == "acc-1"
    await exchange.close()
    server.scripts[HISTORY] = NONE
    exchange = adapter(server)
    asking = asyncio.create_task(exchange.account_id())
    side = await connected(server)
    await side.push("user.balance", balance("101"), account_id="acc-1")
    assert await asking == "acc-1"
    await exchange.close()


# --- streams ------------------------------------------------------------------------------------------------------


async def connected(server: CryptocomServer, number: int = 1) -> Socket:
    """The newest of this many connections, with all its subscriptions."""

    async def subscribed() -> Socket | None:
        if len(server.sockets) < number:
            return None
        side = server.sockets[number - 1]
        return side if any(message["method"] == "subscribe" for message in side.received) else None

    return await eventually(subscribed, what="a connection with subscriptions")


async def take(stream: ReconnectingStream | JoinedStreams, count: int) -> list[StreamEvent]:
    """The next events."""
    async with asyncio.timeout(SLACK * 8):
        return [await anext(stream) for _ in range(count)]


def kinds(events: list[StreamEvent]) -> list[str]:
    """Their names."""
    return [type(event).__name__ for event in events]


async def test_the_user_stream_logs_in_and_begins_with_what_is_open(
    exchange: CryptocomExchange, server: CryptocomServer
) -> None:
    """Signed log-in, all four channels (and both spellings of one), then the list of open orders."""
    server.snapshots["user.order"] = [row("1"), row("2", "NEW")]
    stream = exchange.user_stream()
    events = await take(stream, 5)
    assert kinds(events) == ["Connected", "BalanceUpdate", "OrderEvent", "OrderEvent", "SnapshotComplete"]
    assert [event.snapshot for event in events if isinstance(event, OrderEvent)] == [True, True]
    assert [event.orders for event in events if isinstance(event, SnapshotComplete)] == [2]
    side = await connected(server)
    assert [message["method"] for message in side.received] == ["public/auth"] + ["subscribe"] * 5
    channels = [name for message in side.received[1:] for name in message["params"]["channels"]]
    assert set(channels) == {"user.order", "user.trade", "user.balance", "user.advance.order", "user.advanced.order"}
    await stream.aclose()


async def test_orders_and_executions_come_as_one(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """A row tells the size at once, its execution the fee; amounts that change are told, others not."""
    stream = exchange.user_stream()
    assert kinds(await take(stream, 3)) == ["Connected", "BalanceUpdate", "SnapshotComplete"]
    side = await connected(server)
    await side.push("user.balance", balance("100"))
    await side.push("user.order", row("77", "FILLED", "20", "1.2"))
    await side.push("user.trade", trade("1", "77", "12"), trade("2", "77", "8"))
    await side.push("user.trade", trade("3", "78", "5"), {"trade_id": "4", "order_id": "79"})
    await side.push("user.advance.order", row("900", "PENDING"))
    await side.push("user.balance", balance("98.8"))
    events = await take(stream, 6)
    assert kinds(events) == [
        "OrderEvent",
        "OrderEvent",
        "MalformedMessage",
        "OrderEvent",
        "OrderEvent",
        "BalanceUpdate",
    ]
    told = [
        (event.order.exchange_order_id, event.order.status, event.order.filled_size, event.order.quote_fees)
        for event in events
        if isinstance(event, OrderEvent)
    ]
    assert told == [
        ("77", VenueStatus.FILLED, D(20), D(0)),
        ("77", VenueStatus.FILLED, D(20), D("0.002")),
        ("78", VenueStatus.OPEN, D(5), D("0.001")),
        ("900", VenueStatus.PENDING, D(0), D(0)),
    ]
    assert [event.balances["USD"].total for event in events if isinstance(event, BalanceUpdate)] == [D("98.8")]
    await stream.aclose()


async def test_heartbeats_are_answered_with_their_own_id(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """Also while the consumer is busy with something else."""
    stream = exchange.user_stream()
    await take(stream, 3)
    side = await connected(server)
    await side.send(id=1234, method="public/heartbeat", code=0)
    assert kinds(await take(stream, 1)) == ["Heartbeat"]

    async def answer() -> dict[str, Any] | None:
        return next((item for item in side.received if item["method"] == "public/respond-heartbeat"), None)

    assert (await eventually(answer))["id"] == 1234
    assert stream.stats.heartbeats == 1
    await stream.aclose()


@pytest.mark.parametrize("code", [1000, 1013])
async def test_a_lost_user_stream_comes_back_and_rest_has_what_it_missed(
    exchange: CryptocomExchange, server: CryptocomServer, code: int
) -> None:
    """The venue closes, an order fills meanwhile, and the lists of the past have it with its fee, once."""
    stream = exchange.user_stream()
    await take(stream, 3)
    side = await connected(server)
    await side.push("user.order", row("77"))
    await take(stream, 1)
    await side.socket.close(code=code)
    server.scripts[HISTORY] = Reply({"data": [row("77", "FILLED", "20", "1.2")]})
    server.scripts[TRADES] = Reply({"data": [trade("1", "77")]})
    events = await take(stream, 4)
    assert kinds(events) == ["Disconnected", "Connected", "BalanceUpdate", "SnapshotComplete"]
    assert str(code) in str(events[0])
    (missed,) = await exchange.orders(NOW - timedelta(hours=1))
    assert (missed.status, missed.quote_fees) == (VenueStatus.FILLED, D("0.001"))
    # The execution is told again on the new connection: it is still one.
    await (await connected(server, 2)).push("user.trade", trade("1", "77"))
    (event,) = await take(stream, 1)
    assert isinstance(event, OrderEvent)
    assert (event.order.filled_size, event.order.quote_fees) == (D(20), D("0.001"))
    await stream.aclose()


@pytest.mark.parametrize(("name", "code"), [("public/auth", 40101), ("user.trade", 40003), ("user.order", 40003)])
async def test_a_refused_log_in_or_channel_is_no_stream(
    exchange: CryptocomExchange, server: CryptocomServer, name: str, code: int
) -> None:
    """Without one of its channels the stream would be silent about a part of the account, so it is down, and says
    why."""
    server.refused[name] = code
    stream = exchange.user_stream()
    events: list[StreamEvent] = []
    while not any(isinstance(event, Disconnected) for event in events):
        events += await take(stream, 1)
    assert str(code) in str(events[-1])
    await stream.aclose()


@pytest.mark.parametrize("refused", ["user.advance.order", "user.advanced.order"])
async def test_one_spelling_of_the_channel_of_advanced_orders_is_enough(
    exchange: CryptocomExchange, server: CryptocomServer, refused: str
) -> None:
    """The documents have two; a venue that refuses one of them has the other."""
    server.refused[refused] = 40003
    stream = exchange.user_stream()
    assert kinds(await take(stream, 3)) == ["Connected", "BalanceUpdate", "SnapshotComplete"]
    other = ({"user.advance.order", "user.advanced.order"} - {refused}).pop()
    await (await connected(server)).push(other, row("900", "PENDING"))
    assert kinds(await take(stream, 1)) == ["OrderEvent"]
    await stream.aclose()


async def test_a_log_in_with_a_wrong_time_is_repeated_by_the_venues(
    exchange: CryptocomExchange, server: CryptocomServer
) -> None:
    """A refused nonce makes the adapter ask for the venue's time, by which the next log-in is made."""
    server.ahead = 600
    server.refused["public/auth"] = 40102
    stream = exchange.user_stream()
    (event,) = await take(stream, 1)
    assert isinstance(event, Disconnected)

    async def learnt() -> bool:
        return bool(server.requests["public/get-tickers"])

    await eventually(learnt)
    del server.refused["public/auth"]

    async def right() -> bool:
        return any(
            abs(side.received[0]["nonce"] / 1000 - datetime.now(UTC).timestamp() - 600) < 60
            for side in server.sockets
            if side.received
        )

    reading = asyncio.create_task(take(stream, 12))
    await eventually(right)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await stream.aclose()


async def test_market_channels(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """Ticker, trades (the maker's side), candles and book, each as recorded or documented, nulls included."""
    stream = exchange.market_stream([CRO], ["ticker", "trades", "candles", "book"])
    reading = asyncio.create_task(take(stream, 8))
    side = await connected(server)
    at = milliseconds(NOW)
    common = {"instrument_name": CRO}

    async def push(channel: str, kind: str, *data: Any) -> None:
        result = {**common, "subscription": channel, "channel": kind, "data": list(data)}
        await side.send(id=-1, method="subscribe", code=0, result=result)

    quotes = {"i": CRO, "a": "0.06", "b": "0.0599", "k": None, "c": "0.01", "v": "5", "t": at, "oi": None}
    await push("ticker.CRO_USD", "ticker", quotes)
    await push("ticker.CRO_USD", "ticker", {**quotes, "a": None})
    trades = [{"d": str(number), "t": at, "p": "0.06", "q": "1", "s": "BUY", "i": CRO} for number in (2, 1)]
    await push("trade.CRO_USD", "trade", *trades)
    bars = [{"o": "1", "h": "2", "l": "1", "c": "2", "v": "0", "t": at - 300_000 * back, "ut": 1} for back in (1, 0)]
    await push("candlestick.5m.CRO_USD", "candlestick", *bars)
    book = {"bids": [["0.0599", "1", "1"]], "asks": [["0.0601", "2", "1"]], "t": at, "u": 10}
    await push("book.CRO_USD.50", "book", book)
    change = {"update": {"bids": [["0.0599", "0", "0"]], "asks": []}, "t": at, "u": 12, "pu": 10}
    await push("book.CRO_USD.50", "book.update", change)
    events = await reading
    assert kinds(events) == [
        "Connected",
        "Ticker",
        "PublicTrade",
        "PublicTrade",
        "CandleUpdate",
        "CandleUpdate",
        "BookUpdate",
        "BookUpdate",
    ]
    (ticker,) = (event for event in events if isinstance(event, Ticker))
    assert (ticker.price, ticker.bid, ticker.ask, ticker.change_24h) == (D("0.06"), D("0.0599"), None, D("0.01"))
    assert [(event.trade_id, event.maker_side) for event in events if isinstance(event, PublicTrade)] == [
        ("1", Side.SELL),
        ("2", Side.SELL),
    ]
    starts = [event.candle.start for event in events if isinstance(event, CandleUpdate)]
    assert starts == sorted(starts)
    books = [event for event in events if isinstance(event, BookUpdate)]
    assert [event.snapshot for event in books] == [True, False]
    assert [level.size for level in books[1].levels] == [0]
    await stream.aclose()


async def test_a_book_that_missed_a_change_is_requested_again(
    exchange: CryptocomExchange, server: CryptocomServer
) -> None:
    """A change that does not follow the last one is a gap, and nothing of it is applied; a new book follows."""
    stream = exchange.market_stream([CRO], ["book"])
    reading = asyncio.create_task(take(stream, 4))
    side = await connected(server)
    book = {"bids": [], "asks": [["0.0601", "2", "1"]], "u": 10}
    common = {"instrument_name": CRO, "subscription": "book.CRO_USD.50"}

    async def push(kind: str, data: dict[str, Any]) -> None:
        await side.send(id=-1, method="subscribe", code=0, result={**common, "channel": kind, "data": [data]})

    change = {"update": {"bids": [], "asks": []}, "u": 13, "pu": 12}
    await push("book", book)
    await push("book.update", change)

    async def asked_again() -> bool:
        return len([item for item in side.received if item["method"] == "subscribe"]) == 2

    await eventually(asked_again)
    await push("book.update", {**change, "u": 14, "pu": 13})
    await push("book", {**book, "u": 14})
    events = await reading
    assert kinds(events) == ["Connected", "BookUpdate", "Gap", "BookUpdate"]
    assert [(event.expected, event.received) for event in events if isinstance(event, Gap)] == [(10, 12)]
    assert side.received[0]["params"]["book_subscription_type"] == "SNAPSHOT_AND_UPDATE"
    await stream.aclose()


async def test_more_than_one_connection_takes_is_shared_among_several(
    exchange: CryptocomExchange, server: CryptocomServer
) -> None:
    """Of 450 symbols with two channels each, every subscription is made once, 400 a connection at most, and all are
    one stream: connected once all are, and again after one of them was lost."""
    symbols = [f"A{number}_USD" for number in range(450)]
    stream = exchange.market_stream(symbols, ["ticker", "candles"])
    events: list[StreamEvent] = []

    async def read() -> None:
        while True:
            events.append(await anext(stream))

    reading = asyncio.create_task(read())

    async def told(wanted: list[str]) -> bool:
        return kinds(events) == wanted

    await eventually(lambda: told(["Connected"]))
    asked = [[name for message in side.received for name in message["params"]["channels"]] for side in server.sockets]
    assert sorted(map(len, asked)) == [100, 400, 400]
    assert sorted(name for names in asked for name in names) == sorted(
        name for symbol in symbols for name in (f"ticker.{symbol}", f"candlestick.5m.{symbol}")
    )
    for side in server.sockets:
        symbol = side.received[0]["params"]["channels"][0].removeprefix("ticker.")
        quotes = {"i": symbol, "a": "1", "b": "1", "k": "2", "t": milliseconds(NOW)}
        result = {"subscription": f"ticker.{symbol}", "channel": "ticker", "instrument_name": symbol, "data": [quotes]}
        await side.send(id=-1, method="subscribe", code=0, result=result)
    await eventually(lambda: told(["Connected", *["Ticker"] * 3]))
    await server.sockets[1].socket.close(code=1013)
    await eventually(lambda: told(["Connected", *["Ticker"] * 3, "Disconnected", "Connected"]))
    assert [event.attempt for event in events if isinstance(event, Connected)] == [1, 2]
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await stream.aclose()

    async def all_closed() -> bool:
        return all(side.socket.closed for side in server.sockets)

    await eventually(all_closed)


async def test_what_can_not_be_subscribed_to_is_one_sentence(exchange: CryptocomExchange) -> None:
    """No symbol, an unknown channel, and no key."""
    with pytest.raises(ValueError, match="unknown channel nothing"):
        exchange.market_stream([CRO], ["nothing"])
    with pytest.raises(ValueError, match="at least one symbol"):
        exchange.market_stream([], ["ticker"])
    keyless = CryptocomExchange(replace(exchange._config, key_name=None, key_secret=None))
    with pytest.raises(ValueError, match="needs an API key"):
        keyless.user_stream()
    with pytest.raises(Unavailable, match="no API key"):
        await keyless.balances()
    with pytest.raises(NotAccepted, match="no API key"):
        await keyless.submit(keyless.order_body(buy()))
    await keyless.close()


async def test_nonsense_does_not_stop_a_stream(exchange: CryptocomExchange, server: CryptocomServer) -> None:
    """Whatever can't be parsed is told and kept, with what is certain of an order all the same; the stream goes on."""
    stream = exchange.user_stream()
    await take(stream, 3)
    side = await connected(server)
    await side.socket.send_str("{")
    await side.socket.send_str("[]")
    await side.send(id=5, method="private/other", code=0)
    await side.send(id=-1, method="ERROR", code=40001, message="BAD_REQUEST")
    await side.push("user.something", {})
    await side.push("user.order", row("77", "CANCELED", "5", side="?"), row("78", "SOMETHING"))
    events = await take(stream, 8)
    assert kinds(events) == ["MalformedMessage"] * 7 + ["OrderEvent"]
    certain = [event for event in events if isinstance(event, MalformedMessage)][5]
    assert (certain.filled_size, certain.ended) == (D(5), True)
    await side.send(id=1, method="public/heartbeat", code=0)
    (event,) = await take(stream, 1)
    assert isinstance(event, Heartbeat)
    await stream.aclose()
