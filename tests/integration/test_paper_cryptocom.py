"""The paper Crypto.com over REST: access, strictness, orders with their codes, fees and lists."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from exchange.paper import PaperConfig, PaperControl, PaperExchange
from exchange.paper.config import CRYPTOCOM
from exchange.paper.cryptocom.answers import CODES
from tests.support.cryptocom_client import SigningClient
from tests.support.waiting import eventually

CRO, BTC = "CRO_USD", "BTC_USD"
CREATE, DETAIL = "private/create-order", "private/get-order-detail"
CONFIG = PaperConfig(
    venue=CRYPTOCOM,
    step=True,
    products=[CRO, BTC],
    balances={"USD": Decimal(1000), "CRO": Decimal(5000)},
    maker_fee=Decimal("0.0025"),
    taker_fee=Decimal("0.005"),
    private_rate=0,
    public_rate=0,
    connection_rate=0,
)


@pytest_asyncio.fixture
async def paper() -> AsyncIterator[PaperExchange]:
    """A paper Crypto.com in step mode, without limits."""
    async with PaperExchange(CONFIG) as exchange:
        yield exchange


@pytest_asyncio.fixture
async def control(paper: PaperExchange) -> AsyncIterator[PaperControl]:
    """Its control interface, CRO at 0.04872 / 0.04873."""
    async with PaperControl(paper.addresses()) as client:
        await client.set_price(CRO, "0.04872", "0.04873")
        yield client


@pytest_asyncio.fixture
async def client(paper: PaperExchange, control: PaperControl) -> AsyncIterator[SigningClient]:
    """A client with the account's key."""
    async with SigningClient(paper) as signing:
        yield signing


def order(**changed: Any) -> dict[str, Any]:
    """A resting buy of 27 CRO at 0.03710, changed; None leaves a field out."""
    wanted = {
        "instrument_name": CRO,
        "side": "BUY",
        "type": "LIMIT",
        "quantity": "27",
        "price": "0.03710",
        "fee_instrument_name": "USD",
        "client_oid": "first",
    }
    return {name: value for name, value in {**wanted, **changed}.items() if value is not None}


async def detail(client: SigningClient, **ids: str) -> dict[str, Any]:
    """An order by one of its ids."""
    return dict(await client.result(DETAIL, ids))


async def test_a_resting_order_has_the_recorded_fields(client: SigningClient, control: PaperControl) -> None:
    """An open order and an ended one have the fields, types and places that real answers have."""
    placed = await client.result(CREATE, order())
    assert set(placed) == {"client_oid", "order_id"}
    assert placed["client_oid"] == "first"
    assert placed["order_id"].isdecimal()
    assert len(placed["order_id"]) == 19
    row = await detail(client, client_oid="first")
    assert row["create_time"] == int(row["create_time_ns"]) // 10**6
    assert {name: row[name] for name in row if "_time" not in name and not name.endswith("_id")} == {
        "client_oid": "first",
        "order_type": "LIMIT",
        "time_in_force": "GOOD_TILL_CANCEL",
        "side": "BUY",
        "exec_inst": [],
        "quantity": "27",
        "limit_price": "0.03710",
        "order_value": "1.0017",
        "avg_price": "0",
        "ref_price": "0",
        "cumulative_quantity": "0",
        "cumulative_value": "0",
        "cumulative_fee": "0",
        "status": "ACTIVE",
        "order_date": row["order_date"],
        "instrument_name": CRO,
        "fee_instrument_name": "USD",
        "reason": 0,
    }
    assert (await client.result("private/get-open-orders"))["data"] == [row]
    assert await client.result("private/cancel-order", {"client_oid": "first"}) == placed
    ended = await eventually(lambda: _ended(client, placed["order_id"]), within=5)
    assert ended["status"] == "CANCELED"
    assert (ended["maker_fee_rate"], ended["taker_fee_rate"], ended["ref_price_type"]) == ("0", "0", "NULL_VAL")
    assert (await client.result("private/get-open-orders"))["data"] == []
    assert (await client.result("private/get-order-history", {"instrument_name": CRO}))["data"] == [ended]


async def _ended(client: SigningClient, order_id: str) -> dict[str, Any] | None:
    row = await detail(client, order_id=order_id)
    return None if row["status"] == "ACTIVE" else row


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"id": "7"}, 400, 40001),
        ({"id": 7.5}, 400, 40001),
        ({"id": -1}, 400, 40001),
        ({"id": None}, 400, 40001),
        ({"params": None}, 400, 10004),
        ({"params": []}, 400, 10004),
        ({"sig": "0" * 64}, 401, 40101),
        ({"sig": None}, 401, 40101),
        ({"api_key": "another"}, 401, 40101),
        ({"nonce": 1.5}, 401, 40101),
        ({"nonce": 1}, 401, 40101),
        ({"nonce": "soon"}, 401, 40101),
        ({"method": "private/user-balance"}, 400, 40003),
    ],
)
async def test_a_wrong_envelope_does_nothing(
    client: SigningClient, control: PaperControl, changed: dict[str, Any], status: int, code: int
) -> None:
    """Each wrong envelope has its documented code, and no order comes of it."""
    body = client.envelope(CREATE, order())
    body = {name: value for name, value in {**body, **changed}.items() if value is not None}
    got, answer = await client.send(CREATE, body)
    assert (got, answer["code"]) == (status, code)
    assert await control.orders() == []


async def test_the_nonce_may_be_a_minute_off(client: SigningClient, control: PaperControl) -> None:
    """A request is taken up to 60 s from the venue's clock in either direction, with a nonce as number or as text."""
    for seconds, code in ((59, 0), (-59, 0), (62, 40102), (-62, 40102)):
        await control.skew(seconds)
        assert (await client.call("private/user-balance"))[1]["code"] == code
    await control.skew(0)
    body = client.envelope("private/user-balance", {})
    text = client.envelope("private/user-balance", {}, nonce=str(body["nonce"]))
    assert (await client.send("private/user-balance", text))[1]["code"] == 0
    assert (await client.call("private/user-balance", {}, nonce="soon"))[1]["code"] == 40102


async def test_a_repeated_envelope_is_refused(client: SigningClient, control: PaperControl) -> None:
    """The same signed request a second time is 40006; one order comes of it."""
    body = client.envelope(CREATE, order())
    assert (await client.send(CREATE, body))[1]["code"] == 0
    status, answer = await client.send(CREATE, body)
    assert (status, answer["code"], answer["message"]) == (400, 40006, "DUPLICATE_REQUEST")
    assert len(await control.orders()) == 1


async def test_verbs_and_unknown_methods(client: SigningClient) -> None:
    """Public methods are GET only, private ones POST only, and unknown ones not found."""
    assert (await client.raw("POST", "public/get-tickers", {}))[0] == 400
    assert '"code":50001' in (await client.raw("POST", "public/get-tickers", {}))[2]
    assert '"code":40003' in (await client.raw("GET", "private/user-balance"))[2]
    assert (await client.call("private/create-oco"))[1]["code"] == 40002
    assert (await client.read("public/get-everything"))[1]["code"] == 40002


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"price": 0.0371}, 400, 308),
        ({"quantity": 27}, 401, 40101),
        ({"type": "MARKET", "quantity": None, "notional": 5}, 400, 50001),
        ({"instrument_name": "CRO-USD"}, 400, 209),
        ({"instrument_name": None}, 400, 209),
        ({"side": "buy"}, 400, 220),
        ({"type": "STOP_LOSS"}, 400, 218),
        ({"type": None}, 400, 218),
        ({"time_in_force": "GTC"}, 400, 221),
        ({"exec_inst": ["HIDDEN"]}, 500, 219),
        ({"exec_inst": "POST_ONLY"}, 500, 219),
        ({"fee_instrument_name": "EUR"}, 500, 215),
        ({"price": "0.037105"}, 400, 308),
        ({"price": "-1"}, 400, 308),
        ({"price": None}, 400, 308),
        ({"quantity": "27.5"}, 400, 213),
        ({"quantity": "0"}, 400, 213),
        ({"quantity": None}, 400, 213),
        ({"quantity": "20"}, 500, 415),
        ({"quantity": "999999999999"}, 400, 314),
        ({"price": "4.90000"}, 400, 315),
        ({"quantity": "30000"}, 500, 306),
        ({"client_oid": "x" * 37}, 400, 40004),
        ({"client_oid": 5}, 400, 40004),
        ({"type": "MARKET", "exec_inst": ["POST_ONLY"]}, 500, 43005),
        ({"exec_inst": ["POST_ONLY"], "time_in_force": "FILL_OR_KILL"}, 500, 43005),
        ({"exec_inst": ["POST_ONLY"], "price": "0.04900"}, 500, 43005),
        ({"price": "0.04000", "time_in_force": "FILL_OR_KILL"}, 500, 43003),
        ({"price": "0.04000", "time_in_force": "IMMEDIATE_OR_CANCEL"}, 500, 43004),
    ],
)
async def test_a_refused_order_has_its_code(
    client: SigningClient, control: PaperControl, changed: dict[str, Any], status: int, code: int
) -> None:
    """Each wrong or impossible order is answered with the documented code and status, and holds no money."""
    got, answer = await client.call(CREATE, order(**changed))
    assert (got, answer["code"]) == (status, code), answer
    balances = await control.balances()
    assert (balances["USD"]["total"], balances["USD"]["hold"]) == (Decimal(1000), Decimal(0))
    assert (await client.result("private/get-open-orders"))["data"] == []


async def test_an_unknown_field_is_ignored_without_a_word(client: SigningClient) -> None:
    """A misspelt parameter does nothing: the order is placed without it."""
    await client.result(CREATE, order(time_in_forse="FILL_OR_KILL"))
    assert (await detail(client, client_oid="first"))["time_in_force"] == "GOOD_TILL_CANCEL"


async def test_a_refused_order_has_ids_and_a_reason(client: SigningClient) -> None:
    """An order refused for lack of money has an order id in the refusal, and is REJECTED with its reason afterwards."""
    _, answer = await client.call(CREATE, order(quantity="30000"))
    assert answer["message"] == "INSUFFICIENT_AVAILABLE_BALANCE"
    row = await detail(client, order_id=answer["result"]["order_id"])
    assert (row["client_oid"], row["status"], row["reason"]) == ("first", "REJECTED", 306)
    assert (await client.result("private/get-order-history"))["data"] == [row]


async def test_a_client_order_id_is_taken_once(client: SigningClient, control: PaperControl) -> None:
    """A second order under an id is 204 with an order id of its own; the look-up gives the first order."""
    first = await client.result(CREATE, order())
    status, answer = await client.call(CREATE, order(quantity="30"))
    assert (status, answer["code"], answer["message"]) == (400, 204, "DUPLICATE_CLORDID")
    assert answer["result"]["client_oid"] == "first"
    assert answer["result"]["order_id"] != first["order_id"]
    assert (await detail(client, client_oid="first"))["order_id"] == first["order_id"]
    assert (await client.call(DETAIL, {"order_id": answer["result"]["order_id"]}))[1]["code"] == 40401
    assert len(await control.orders()) == 1
    assert [row["duplicate"] for row in await control.journal()] == [False, True]


async def test_without_a_client_order_id_the_nonce_is_it(client: SigningClient) -> None:
    """An order without an id of the client's has its request's nonce, which two requests may share."""
    body = client.envelope(CREATE, order(client_oid=None))
    again = client.envelope(CREATE, order(client_oid=None), nonce=body["nonce"])
    answers = [(await client.send(CREATE, one))[1] for one in (body, again)]
    assert [answer["code"] for answer in answers] == [0, 0]
    assert [answer["result"]["client_oid"] for answer in answers] == [str(body["nonce"])] * 2


async def test_a_buys_fee_is_in_base_unless_quote_is_named(client: SigningClient, control: PaperControl) -> None:
    """Without a named currency a buy's fee is taken off the coins; with USD they arrive whole; fees are negative."""
    market = {"type": "MARKET", "price": None, "quantity": "100"}
    await client.result(CREATE, order(**market, fee_instrument_name=None, client_oid="base"))
    await client.result(CREATE, order(**market, fee_instrument_name="USD", client_oid="quote"))
    quote, base = (await client.result("private/get-trades", {"instrument_name": CRO}))["data"]
    assert (base["client_oid"], base["fees"], base["fee_instrument_name"]) == ("base", "-0.5", "CRO")
    assert (quote["fees"], quote["fee_instrument_name"]) == ("-0.024365", "USD")
    assert (quote["traded_price"], quote["traded_quantity"], quote["taker_side"]) == ("0.04873", "100", "TAKER")
    balances = await control.balances()
    assert balances["CRO"]["total"] == 5000 + 100 + 100 - Decimal("0.5")
    assert balances["USD"]["total"] == 1000 - 2 * Decimal("4.873") - Decimal("0.024365")


async def test_a_fee_falls_back_to_base_when_quote_is_short(client: SigningClient, control: PaperControl) -> None:
    """A buy of all the money names USD for its fee, which is not there: the fee comes off the coins."""
    await control.withdraw("USD", Decimal(1000) - Decimal("4.873"))
    await client.result(CREATE, order(type="MARKET", price=None, quantity="100"))
    (trade,) = (await client.result("private/get-trades"))["data"]
    assert (trade["fees"], trade["fee_instrument_name"]) == ("-0.5", "CRO")


async def test_a_buy_by_notional_ends_canceled_with_what_it_bought(client: SigningClient) -> None:
    """As recorded: the rest below a tick stays unspent, the status is CANCELED, the quantity below what was bought."""
    wanted = {"type": "MARKET", "price": None, "quantity": None, "notional": "1.93900", "fee_instrument_name": "USD"}
    await client.result(CREATE, order(**wanted))
    row = await detail(client, client_oid="first")
    assert (row["status"], row["exec_inst"], row["reason"]) == ("CANCELED", ["NOTIONAL_ORDER"], 0)
    assert (row["cumulative_quantity"], row["cumulative_value"]) == ("39", "1.90047")
    assert (row["quantity"], row["time_in_force"]) == ("37", "GOOD_TILL_CANCEL")
    assert "limit_price" not in row


async def test_the_quantity_wins_over_the_notional(client: SigningClient) -> None:
    """A MARKET buy with both takes the quantity; a MARKET sell needs one."""
    both = {"type": "MARKET", "price": "1.00000", "quantity": "40", "notional": "50"}
    await client.result(CREATE, order(**both))
    row = await detail(client, client_oid="first")
    assert (row["status"], row["cumulative_quantity"], row["exec_inst"]) == ("FILLED", "40", [])
    sell = order(type="MARKET", side="SELL", quantity=None, notional="50", client_oid="second")
    assert (await client.call(CREATE, sell))[1]["code"] == 213


async def test_a_partial_fill_is_active(client: SigningClient, control: PaperControl) -> None:
    """A partly filled order is ACTIVE with its totals; its executions have ids of their own and the maker's fee."""
    placed = await client.result(CREATE, order(quantity="100", price="0.04800"))
    await control.fill(placed["order_id"], 40)
    row = await detail(client, order_id=placed["order_id"])
    assert (row["status"], row["cumulative_quantity"], row["avg_price"]) == ("ACTIVE", "40", "0.048")
    await control.fill(placed["order_id"], 60)
    assert (await detail(client, order_id=placed["order_id"]))["status"] == "FILLED"
    trades = (await client.result("private/get-trades"))["data"]
    assert [trade["traded_quantity"] for trade in trades] == ["60", "40"]
    assert {trade["taker_side"] for trade in trades} == {"MAKER"}
    assert len({trade["trade_id"] for trade in trades}) == 2


async def test_a_cancel_is_a_receipt(client: SigningClient, control: PaperControl) -> None:
    """A cancel that is held back answers at once, and the order fills in the meantime: FILLED, not CANCELED."""
    await control.latency(cancel=None)
    placed = await client.result(CREATE, order(quantity="100", price="0.04800"))
    assert await client.result("private/cancel-order", {"order_id": placed["order_id"]}) == placed
    assert (await detail(client, order_id=placed["order_id"]))["status"] == "ACTIVE"
    await control.fill(placed["order_id"], 100)
    await control.finish_cancel(placed["order_id"])
    assert (await detail(client, order_id=placed["order_id"]))["status"] == "FILLED"
    answers = [
        await client.call("private/cancel-order", ids)
        for ids in ({"order_id": placed["order_id"]}, {"order_id": "1"}, {})
    ]
    assert [(status, answer["code"]) for status, answer in answers] == [(500, 316), (500, 212), (400, 40004)]


async def test_cancel_all_is_of_one_instrument_or_of_all(client: SigningClient, control: PaperControl) -> None:
    """With an instrument its orders are cancelled, without one every order; the answer is empty."""
    await control.set_price(BTC, "65000.00", "65000.01")
    await client.result(CREATE, order())
    bitcoin = {"instrument_name": BTC, "quantity": "0.00100", "price": "60000.00", "client_oid": "second"}
    await client.result(CREATE, order(**bitcoin))
    assert await client.result("private/cancel-all-orders", {"instrument_name": BTC}) == {}
    left = await eventually(lambda: _open(client, 1), within=5)
    assert left[0]["instrument_name"] == CRO
    await client.result("private/cancel-all-orders")
    await eventually(lambda: _open(client, 0), within=5)


async def _open(client: SigningClient, count: int) -> list[Any] | None:
    rows = (await client.result("private/get-open-orders"))["data"]
    return (rows or [None]) if len(rows) == count else None


async def test_an_amendment_needs_price_and_quantity(client: SigningClient) -> None:
    """Amending without one of them is refused; with both the order has its new terms and its old id."""
    placed = await client.result(CREATE, order())
    only = {"order_id": placed["order_id"], "new_price": "0.03800"}
    assert (await client.call("private/amend-order", only))[1]["code"] == 40004
    assert await client.result("private/amend-order", {**only, "new_quantity": "30"}) == placed
    row = await detail(client, order_id=placed["order_id"])
    assert (row["limit_price"], row["quantity"]) == ("0.03800", "30")


async def test_lists_go_by_time_and_limit(client: SigningClient, control: PaperControl) -> None:
    """Executions come newest first in [start, end) of ms or ns; `limit` is a whole number, and text is refused."""
    for number in range(3):
        await client.result(CREATE, order(type="MARKET", price=None, quantity="40", client_oid=f"order-{number}"))
    listed = "private/get-trades"
    rows = (await client.result(listed))["data"]
    assert [row["client_oid"] for row in rows] == ["order-2", "order-1", "order-0"]
    before = (await client.result(listed, {"end_time": rows[0]["create_time_ns"], "limit": 1}))["data"]
    assert before == rows[1:2]
    since = (await client.result(listed, {"start_time": rows[1]["create_time_ns"]}))["data"]
    assert since == rows[:2]
    assert (await client.call(listed, {"limit": "1"}))[1]["code"] == 40003
    assert (await client.call(listed, {"limit": 0}))[1]["code"] == 40004
    assert (await client.call(listed, {"start_time": "yesterday"}))[1]["code"] == 40005
    assert (await client.call(listed, {"start_time": 5, "end_time": 4}))[1]["code"] == 40005


async def test_balances_show_holds(client: SigningClient) -> None:
    """What an open order reserves is `reserved_qty`; the total stays; margin counts half of a coin's value."""
    await client.result(CREATE, order(quantity="100", price="0.04000"))
    (account,) = (await client.result("private/user-balance"))["data"]
    rows = {row["instrument_name"]: row for row in account["position_balances"]}
    assert (rows["USD"]["quantity"], rows["USD"]["reserved_qty"]) == ("1000", "4.02")
    assert rows["USD"]["max_withdrawal_balance"] == "995.98"
    assert Decimal(rows["CRO"]["collateral_amount"]) == Decimal(rows["CRO"]["market_value"]) / 2
    assert Decimal(account["total_available_balance"]) < Decimal(account["total_cash_balance"])


async def test_fees_differ_by_instrument() -> None:
    """The account's rate is not an instrument's: each is told by its own method, in basis points."""
    own = {CRO: (Decimal(0), Decimal("0.0004"))}
    config = PaperConfig(
        venue=CRYPTOCOM, step=True, products=[CRO, BTC], product_fees=own, maker_fee=Decimal("0.002425"), private_rate=0
    )
    async with PaperExchange(config) as paper, SigningClient(paper) as client:
        assert (await client.result("private/get-fee-rate"))["effective_spot_maker_rate_bps"] == "24.2500000000"
        of_cro = await client.result("private/get-instrument-fee-rate", {"instrument_name": CRO})
        assert (of_cro["effective_maker_rate_bps"], of_cro["effective_taker_rate_bps"]) == (
            "0.0000000000",
            "4.0000000000",
        )
        of_btc = await client.result("private/get-instrument-fee-rate", {"instrument_name": BTC})
        assert of_btc["effective_maker_rate_bps"] == "24.2500000000"
        assert (await client.call("private/get-instrument-fee-rate", {"instrument_name": "X_Y"}))[1]["code"] == 209


async def test_public_methods(client: SigningClient, control: PaperControl) -> None:
    """Instruments with ticks, minima apart, last, bid and ask under a, b and k, books, trades and candles."""
    _, answer = await client.read("public/get-instruments")
    assert (answer["id"], answer["method"], answer["code"]) == (-1, "public/get-instruments", 0)
    row = answer["result"]["data"][0]
    assert (row["symbol"], row["price_tick_size"], row["qty_tick_size"], row["quote_decimals"]) == (
        CRO,
        "0.00001",
        "1",
        5,
    )
    _, answer = await client.read("public/get-risk-parameters")
    assert answer["result"]["base_currency_config"][0]["min_order_notional_usd"] == "1.0"
    await control.trade(CRO, "0.04873", "50")
    _, answer = await client.read("public/get-tickers", instrument_name=CRO)
    (ticker,) = answer["result"]["data"]
    assert (ticker["a"], ticker["b"], ticker["k"], ticker["oi"]) == ("0.04873", "0.04872", "0.04873", "0")
    _, answer = await client.read("public/get-book", instrument_name=CRO, depth=2)
    (book,) = answer["result"]["data"]
    assert [len(book["bids"]), len(book["asks"]), len(book["bids"][0])] == [2, 2, 3]
    _, answer = await client.read("public/get-trades", instrument_name=CRO, count=1)
    (trade,) = answer["result"]["data"]
    assert (trade["p"], trade["q"], trade["s"], trade["i"]) == ("0.04873", "50", "buy", CRO)
    _, answer = await client.read("public/get-candlestick", instrument_name=CRO, timeframe="1m", count=5)
    starts = [candle["t"] for candle in answer["result"]["data"]]
    assert starts == sorted(starts)
    assert len(starts) == 5
    for wrong in ({"count": 0}, {"timeframe": "3m"}, {"instrument_name": ""}):
        _, answer = await client.read("public/get-candlestick", **{"instrument_name": CRO, **wrong})
        assert answer["code"] == 40004


async def test_candles_have_no_gaps(client: SigningClient, control: PaperControl) -> None:
    """Minutes without a trade are flat candles without volume."""
    await control.trade(CRO, "0.04873", "50")
    await control.advance(180)
    await control.trade(CRO, "0.04873", "50")
    _, answer = await client.read("public/get-candlestick", instrument_name=CRO, timeframe="1m", count=4)
    rows = answer["result"]["data"]
    assert [later["t"] - earlier["t"] for earlier, later in itertools.pairwise(rows)] == [60_000] * 3
    assert [row["v"] for row in rows[1:3]] == ["0", "0"]
    assert rows[1]["o"] == rows[1]["c"] == rows[0]["c"]


async def test_each_method_has_its_limit() -> None:
    """One history is taken a second, then 429 without counting against other methods."""
    config = PaperConfig(venue=CRYPTOCOM, step=True, products=[CRO])
    async with PaperExchange(config) as paper, SigningClient(paper) as client:
        answers: list[tuple[int, dict[str, Any]]] = []

        async def refused() -> bool:
            answers.extend(await asyncio.gather(*(client.call("private/get-order-history") for _ in range(8))))
            return 42901 in [answer["code"] for _, answer in answers]

        await eventually(refused, within=20)
        assert 0 in [answer["code"] for _, answer in answers]
        assert {status for status, answer in answers if answer["code"] == 42901} == {429}
        assert (await client.call("private/user-balance"))[1]["code"] == 0


@pytest.mark.parametrize(
    ("kind", "settings", "status", "placed"),
    [
        ("accepted_server_error", {}, 502, True),
        ("server_error", {}, 503, False),
        ("error_code", {"status": 50001}, 400, False),
        ("accepted_error_code", {"status": 50001}, 400, True),
        ("error_code", {"status": 9010001}, 500, False),
        ("rate_limited", {}, 429, False),
    ],
)
async def test_an_answer_that_does_not_say_what_happened(
    client: SigningClient, control: PaperControl, kind: str, settings: dict[str, float], status: int, placed: bool
) -> None:
    """HTML after acceptance, nothing, or a code: what became of the order is told by the look-up alone."""
    await control.fault(kind, "POST /private/create-order", **settings)
    got, content, text = await client.raw("POST", CREATE, client.envelope(CREATE, order()))
    assert got == status
    if status == 502:
        assert content == "text/html"
        assert text.startswith("<html>")
    assert (await client.call(DETAIL, {"client_oid": "first"}))[1]["code"] == (0 if placed else 40401)


ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 5, 2**70, 1.5, "", "x", "1", "-1", "1e5", "²", "0.04000", "9" * 60),
    *(CRO, "BUY", "LIMIT", "MARKET", "STOP_LOSS", [], ["x"], [None], [[]], {}, {"a": {"b": [1]}}, [{}], [{}, {}]),
    [{"type": "LIMIT", "instrument_name": CRO}, {"type": "STOP_LOSS", "side": 5}],
)
FIELDS = [
    "instrument_name",
    "side",
    "type",
    "price",
    "quantity",
    "notional",
    "ref_price",
    "client_oid",
    "order_id",
    "list_id",
    "list_id_list",
    "order_list",
    "exec_inst",
    "time_in_force",
    "fee_instrument_name",
    "spot_margin",
    "limit",
    "page",
    "start_time",
    "end_time",
    "new_price",
    "new_quantity",
    "contingency_type",
    "ref_price_type",
    "scope",
]


@pytest.mark.parametrize("seed", range(3))
async def test_odd_parameters_are_answered(client: SigningClient, paper: PaperExchange, seed: int) -> None:
    """Whatever the parameters are, each method answers with an envelope and a code that the venue has."""
    dice = random.Random(seed)
    private = [name.removeprefix("POST /") for name in paper.wire.rest.requests() if name.startswith("POST")]
    public = [name.removeprefix("GET /") for name in paper.wire.rest.requests() if name.startswith("GET")]
    assert (len(private), len(public)) == (21, 7)
    for method in private * 12:
        params = {name: dice.choice(ODD) for name in dice.sample(FIELDS, dice.randrange(1, 9))}
        if dice.random() < 0.5:
            params |= {"instrument_name": CRO, "side": "SELL", "quantity": "100", "price": "0.06000"}
        status, body = await client.call(method, params)
        assert (body["code"] == 0) or (body["code"] in CODES and CODES[body["code"]][1] == status), (
            method,
            params,
            body,
        )
    for method in public * 8:
        names = ("instrument_name", "timeframe", "count", "depth", "start_ts", "end_ts", "valuation_type")
        query = {name: str(dice.choice(ODD)) for name in dice.sample(names, 3)}
        _, body = await client.read(method, **query)
        assert body["code"] in {0, *CODES}, (method, query, body)
    odd = {"id": 1, "method": private[0], "params": {}, "nonce": [], "sig": {}}
    wholes: list[Any] = [None, 5, "x", [], {}, {"id": 1}, odd]
    for whole in wholes:
        _, answer = await client.send(private[0], whole)
        assert answer["code"] in CODES, (whole, answer)


async def test_a_new_order_is_not_found_for_a_moment(client: SigningClient, control: PaperControl) -> None:
    """While reads lag, the look-up of an order just placed says not found, with HTTP 200."""
    fault = await control.fault("lagging", "POST /private/get-order-detail", delay=600, count=None)
    await client.result(CREATE, order())
    status, answer = await client.call(DETAIL, {"client_oid": "first"})
    assert (status, answer["code"], answer["message"]) == (200, 40401, "NOT_FOUND")
    await control.clear_faults(fault)
    assert (await detail(client, client_oid="first"))["status"] == "ACTIVE"


async def test_answers_may_be_strange(client: SigningClient, control: PaperControl) -> None:
    """The first of several rows lacks values, an empty list is null, whole numbers are text: each by a fault."""
    await control.fault("strange_rows", "GET /public/get-tickers")
    _, answer = await client.read("public/get-tickers")
    assert [row["b"] is None for row in answer["result"]["data"]] == [True, False]
    await control.fault("null_list", "POST /private/get-open-orders")
    assert (await client.result("private/get-open-orders"))["data"] is None
    await client.result(CREATE, order())
    await control.fault("text_numbers", "POST /private/get-order-detail")
    _, answer = await client.call(DETAIL, {"client_oid": "first"})
    assert answer["code"] == "0"
    assert answer["result"]["create_time"].isdecimal()
    assert (await detail(client, client_oid="first"))["create_time"] == int(answer["result"]["create_time"])


async def test_faults_of_other_protocols_are_refused(control: PaperControl) -> None:
    """A fault that this protocol can't have, and a scope that no method matches, are refused in a sentence."""
    from exchange.paper import ControlError

    for kind, scope in (("no_price", "*"), ("ahead", "ticker"), ("slow", "POST /orders")):
        with pytest.raises(ControlError, match="fault"):
            await control.fault(kind, scope)
