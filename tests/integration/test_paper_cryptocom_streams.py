"""The paper Crypto.com's streams: authentication, heartbeats, subscriptions, what is told and in which frames."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from exchange.paper import PaperConfig, PaperControl, PaperExchange
from exchange.paper.config import CRYPTOCOM
from tests.support.cryptocom_client import SignedSession, SigningClient
from tests.support.waiting import SLACK, eventually

CRO = "CRO_USD"
CREATE = "private/create-order"
CONFIG = PaperConfig(
    venue=CRYPTOCOM,
    step=True,
    products=[CRO, "BTC_USD"],
    balances={"USD": Decimal(1000), "CRO": Decimal(5000)},
    maker_fee=Decimal("0.0025"),
    taker_fee=Decimal("0.005"),
    private_rate=0,
    public_rate=0,
    connection_rate=0,
    message_rate=0,
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


@pytest_asyncio.fixture
async def user(paper: PaperExchange, client: SigningClient) -> AsyncIterator[SignedSession]:
    """An authenticated connection of the user stream."""
    async with SignedSession(paper.user_stream_url, client.key) as session:
        yield session


@pytest_asyncio.fixture
async def market(paper: PaperExchange, control: PaperControl) -> AsyncIterator[SignedSession]:
    """A connection of the market stream."""
    async with SignedSession(paper.stream_url) as session:
        yield session


def order(**changed: Any) -> dict[str, Any]:
    """A resting buy of 100 CRO at 0.04800, changed."""
    wanted = {
        "instrument_name": CRO,
        "side": "BUY",
        "type": "LIMIT",
        "quantity": "100",
        "price": "0.04800",
        "fee_instrument_name": "USD",
        "client_oid": "first",
    }
    return {**wanted, **changed}


async def test_user_channels_need_authentication(paper: PaperExchange, client: SigningClient) -> None:
    """Before public/auth, and with a wrong signature, user channels and trading are 40101; afterwards they work."""
    async with SignedSession(paper.user_stream_url) as session:
        assert (await session.subscribe("user.order"))["code"] == 40101
        assert (await session.ask(CREATE, order()))["code"] == 40101
        wrong = {"api_key": client.key["api_key"], "sig": "0" * 64}
        assert (await session.ask("public/auth", None, **wrong))["code"] == 40101
    async with SignedSession(paper.user_stream_url, client.key) as session:
        assert (await session.subscribe("user.order"))["code"] == 0


async def test_the_first_reply_has_the_open_orders(client: SigningClient, user: SignedSession) -> None:
    """A subscription's first reply has its request's id and every open order, of the one instrument if it names one."""
    await client.result(CREATE, order())
    bitcoin = {"instrument_name": "BTC_USD", "quantity": "0.00100", "price": "60000.00", "client_oid": "second"}
    await client.result(CREATE, order(**bitcoin))
    reply = await user.subscribe("user.order")
    assert (reply["method"], reply["result"]["channel"]) == ("subscribe", "user.order")
    assert [row["client_oid"] for row in reply["result"]["data"]] == ["first", "second"]
    reply = await user.subscribe(f"user.order.{CRO}")
    assert reply["result"]["subscription"] == reply["result"]["channel"] == f"user.order.{CRO}"
    assert [row["client_oid"] for row in reply["result"]["data"]] == ["first"]


async def test_orders_executions_and_balances_are_told(
    client: SigningClient, control: PaperControl, user: SignedSession
) -> None:
    """A partial fill is an ACTIVE order, an execution of its own with its fee, and new balances, all with the id -1."""
    await user.subscribe("user.order", "user.balance")
    acknowledged = await user.subscribe("user.trade")
    assert (acknowledged["channel"], acknowledged["code"]) == ("user.trade", 0)
    placed = await client.result(CREATE, order())
    await user.row("user.order", lambda row: row["status"] == "ACTIVE")
    await control.fill(placed["order_id"], 40)
    part = await user.row("user.order", lambda row: row["cumulative_quantity"] == "40")
    assert (part["status"], part["maker_fee_rate"], part["order_id"]) == ("ACTIVE", "0.002500", placed["order_id"])
    trade = await user.row("user.trade", lambda row: True)
    assert (trade["traded_quantity"], trade["fees"], trade["fee_instrument_name"]) == ("40", "-0.0048", "USD")
    assert trade in (await client.result("private/get-trades"))["data"]
    held = await user.row("user.balance", lambda row: _quantity(row, "CRO") == "5040")
    assert _quantity(held, "USD") == plain_usd("1000", "1.92", "0.0048")
    message = next(one for one in user.messages if one.get("result", {}).get("channel") == "user.trade")
    assert (message["id"], message["method"], message["code"]) == (-1, "subscribe", 0)
    await control.fill(placed["order_id"], 60)
    await user.row("user.order", lambda row: row["status"] == "FILLED")
    assert len(user.rows("user.trade")) == 2


def _quantity(balance: dict[str, Any], currency: str) -> str:
    rows = balance["position_balances"]
    return str(next(row["quantity"] for row in rows if row["instrument_name"] == currency))


def plain_usd(start: str, *paid: str) -> str:
    """What is left of `start` after paying."""
    return str(Decimal(start) - sum(map(Decimal, paid)))


async def test_a_refused_order_is_told_as_rejected(client: SigningClient, user: SignedSession) -> None:
    """An order that REST refused shows on user.order as REJECTED with its reason."""
    await user.subscribe("user.order")
    await client.call(CREATE, order(quantity="90000"))
    row = await user.row("user.order", lambda one: one["status"] == "REJECTED")
    assert (row["client_oid"], row["reason"]) == ("first", 306)


async def test_trading_over_the_user_stream_needs_no_signature(user: SignedSession, control: PaperControl) -> None:
    """After authentication the same methods work unsigned, with the same codes."""
    reply = await user.ask(CREATE, order())
    assert reply["code"] == 0
    assert (await user.ask(CREATE, order()))["code"] == 204
    assert (await user.ask("private/get-order-detail", {"client_oid": "first"}))["result"]["status"] == "ACTIVE"
    assert (await user.ask("private/cancel-order", {"client_oid": "first"}))["result"] == reply["result"]
    assert (await user.ask("private/nothing", {}))["code"] == 40002
    assert (await user.ask(CREATE))["code"] == 10004


async def test_a_request_without_an_id_is_an_error(user: SignedSession) -> None:
    """No id, no JSON: the reply has the id -1 and the method ERROR; an id in text is refused under that id."""
    await user.socket.send_str('{"method": "subscribe", "params": {"channels": ["user.order"]}}')
    reply = await user.until(lambda one: one["id"] == -1)
    assert (reply["method"], reply["code"]) == ("ERROR", 40001)
    await user.socket.send_str("{")
    await user.until(lambda one: len([each for each in user.messages if each["method"] == "ERROR"]) == 2)
    assert (await user.ask("subscribe", {"channels": ["user.order"]}, id="7"))["code"] == 40001


@pytest.mark.parametrize(
    "message",
    [
        {"id": 1, "method": "subscribe"},
        {"id": 1, "method": "subscribe", "params": {"channels": [5]}},
        {"id": 1, "method": "subscribe", "params": {"channels": []}},
        {"id": [1], "method": "subscribe", "params": {"channels": ["user.order"]}},
        {"id": 1, "method": "unsubscribe", "params": []},
        {"id": 1, "method": "public/auth", "nonce": {}},
        {"id": 1, "method": "private/set-cancel-on-disconnect", "params": {"scope": ["ACCOUNT"]}},
        {"id": 1, "method": "private/create-order", "params": {"side": [], "type": {}}},
        {"id": {}, "method": "public/respond-heartbeat"},
        {"id": 1, "method": 5},
        [],
        5,
    ],
)
async def test_odd_messages_end_no_connection(user: SignedSession, message: Any) -> None:
    """An odd message is an error at most: the next request is answered."""
    await user.socket.send_json(message)
    reply = await user.ask("private/get-cancel-on-disconnect", {})
    assert reply["result"] == {"scope": ""}


@pytest.mark.parametrize("channel", ["user.orders", "user.order.CRO-USD", "user.balance.CRO_USD", "ticker.CRO_USD"])
async def test_unknown_user_channels(user: SignedSession, channel: str) -> None:
    """A channel that the user stream doesn't have is refused."""
    assert (await user.subscribe(channel))["code"] == 40003


async def test_who_answers_heartbeats_stays_connected() -> None:
    """Each heartbeat has an id of its own, and is answered under it: the connection goes on."""
    config = replace(CONFIG, heartbeat_every=0.05, heartbeat_within=3600.0)
    async with PaperExchange(config) as paper, SignedSession(paper.stream_url) as session:
        await eventually(lambda: _count(session.heartbeats, 3), within=10)
        assert len(set(session.heartbeats)) == len(session.heartbeats)
        assert (await session.subscribe(f"mark.{CRO}"))["code"] == 0
        (connection,) = paper.streams.listed()
        await eventually(lambda: _all_answered(paper), within=10)
        assert connection["path"] == "market"


async def _all_answered(paper: PaperExchange) -> bool:
    return paper.streams.listed()[0]["unanswered"] in (0, 1)  # one may be on its way


async def test_a_heartbeat_without_an_answer_ends_the_connection() -> None:
    """A client that says nothing, or answers another id, is closed with 1000."""
    config = replace(CONFIG, heartbeat_every=0.05, heartbeat_within=0.05)
    async with PaperExchange(config) as paper, SignedSession(paper.stream_url) as session:
        session.lives = False
        await session.socket.send_json({"id": 1, "method": "public/respond-heartbeat"})
        async with asyncio.timeout(10 * SLACK):
            await session.closed.wait()
        assert session.close_code == 1000


async def _count(items: list[int], least: int) -> bool:
    return len(items) >= least


async def test_a_disconnect_cancels_what_it_was_asked_to(
    paper: PaperExchange, client: SigningClient, control: PaperControl
) -> None:
    """With scope CONNECTION the orders of that connection end with it, others stay; with ACCOUNT all end."""
    await client.result(CREATE, order(client_oid="rest"))
    async with SignedSession(paper.user_stream_url, client.key) as session:
        assert (await session.ask("private/set-cancel-on-disconnect", {"scope": "ALL"}))["code"] == 40004
        await session.ask("private/set-cancel-on-disconnect", {"scope": "CONNECTION"})
        await session.ask(CREATE, order(client_oid="stream"))
    await eventually(lambda: _open_are(client, ["rest"]), within=10)
    async with SignedSession(paper.user_stream_url, client.key) as session:
        await session.ask("private/set-cancel-on-disconnect", {"scope": "ACCOUNT"})
        await session.subscribe("user.order")
        await session.ask("unsubscribe", {"channels": ["user.order"]})
        await eventually(lambda: _open_are(client, []), within=10)


async def _open_are(client: SigningClient, wanted: list[str]) -> bool:
    rows = (await client.result("private/get-open-orders"))["data"]
    return [row["client_oid"] for row in rows] == wanted


async def test_market_channels(control: PaperControl, market: SignedSession) -> None:
    """ticker, trade and mark: the present state first, then each change; a trade has the taker's side in capitals."""
    reply = await market.subscribe(f"ticker.{CRO}")
    (ticker,) = reply["result"]["data"]
    assert (reply["result"]["channel"], ticker["b"], ticker["k"]) == ("ticker", "0.04872", "0.04873")
    assert ticker["bs"]
    reply = await market.subscribe(f"trade.{CRO}")
    assert len(reply["result"]["data"]) == 50
    times = [row["t"] for row in reply["result"]["data"]]
    assert times == sorted(times, reverse=True)
    await market.subscribe(f"mark.{CRO}")
    await control.trade(CRO, "0.04873", "123")
    trade = await market.row(f"trade.{CRO}", lambda row: row["q"] == "123")
    assert (trade["p"], trade["s"], trade["i"]) == ("0.04873", "BUY", CRO)
    await market.row(f"ticker.{CRO}", lambda row: row["a"] == "0.04873")
    await control.mark(CRO, "0.05000")
    assert (await market.row(f"mark.{CRO}", lambda row: row["v"] == "0.05"))["t"]
    await control.set_price(CRO, "0.04700", "0.04710")
    await market.row(f"ticker.{CRO}", lambda row: row["b"] == "0.04700")
    assert market.rows(f"mark.{CRO}")[-1]["v"] == "0.05"


async def test_candles_begin_with_a_snapshot(control: PaperControl, market: SignedSession) -> None:
    """300 candles with `ut`, oldest first, and then the running one at each trade."""
    reply = await market.subscribe(f"candlestick.1m.{CRO}")
    rows = reply["result"]["data"]
    assert (len(rows), reply["result"]["interval"]) == (300, "1m")
    assert rows == sorted(rows, key=lambda row: int(row["t"]))
    assert all("ut" in row for row in rows)
    await control.trade(CRO, "0.04873", "5")
    running = await market.row(f"candlestick.1m.{CRO}", lambda row: row["c"] == "0.04873")
    assert running["t"] >= rows[-1]["t"]


async def test_a_book_is_built_from_snapshot_and_updates(control: PaperControl, market: SignedSession) -> None:
    """Updates applied to the snapshot give the book that REST shows; each names the one before by `pu`."""
    name = f"book.{CRO}.10"
    reply = await market.subscribe(name, book_subscription_type="SNAPSHOT_AND_UPDATE", book_update_frequency=10)
    (first,) = reply["result"]["data"]
    sides = {side: {level[0]: level[1] for level in first[side]} for side in ("asks", "bids")}
    for step in range(4):
        await control.set_price(CRO, f"0.0487{step + 3}", f"0.0487{step + 4}")
    await market.until(lambda one: one["id"] == -1 and one["result"]["channel"] == "book.update")
    before = first["u"]
    for row in market.rows(name):
        assert row["pu"] == before
        before = row["u"]
        for side, levels in row["update"].items():
            for price, size, _ in levels:
                sides[side][price] = size
    shown = {side: {price for price, size in levels.items() if size != "0"} for side, levels in sides.items()}
    assert min(shown["asks"]) == "0.04877"
    assert max(shown["bids"]) == "0.04876"
    assert (len(shown["asks"]), len(shown["bids"])) == (10, 10)


async def test_a_book_by_snapshots(control: PaperControl, market: SignedSession) -> None:
    """Without a type whole books are sent; frequencies and depths that the venue doesn't have are refused."""
    reply = await market.subscribe(f"book.{CRO}.10")
    assert (reply["result"]["channel"], reply["result"]["depth"]) == ("book", 10)
    await control.set_price(CRO, "0.04600", "0.04601")
    row = await market.row(f"book.{CRO}.10", lambda one: one["bids"][0][0] == "0.04600")
    assert len(row["asks"]) == 10
    assert (await market.subscribe(f"book.{CRO}.20"))["code"] == 40003
    assert (await market.subscribe(f"book.{CRO}.50", book_update_frequency=10))["code"] == 40004
    assert (await market.subscribe("ticker.NO_USD"))["code"] == 40003
    assert (await market.subscribe("candlestick.3m.CRO_USD"))["code"] == 40004


async def test_a_market_connection_has_400_channels(tmp_path: Path) -> None:
    """Of the instruments of a file the 401st subscription is refused; one that is not tradable is listed so."""
    names = [f"COIN{number}_USD" for number in range(401)]
    rows = [
        {"symbol": name, "inst_type": "CCY_PAIR", "price": "1.5", "price_tick_size": "0.1", "qty_tick_size": "10"}
        for name in names
    ]
    rows[0]["tradable"] = False  # type: ignore[assignment]
    rows.append({"symbol": "COINUSD-PERP", "inst_type": "PERPETUAL_SWAP"})
    file = tmp_path / "instruments.json"
    file.write_text(json.dumps({"result": {"data": rows}}), encoding="utf-8")
    async with (
        PaperExchange(replace(CONFIG, products=None, products_file=file)) as paper,
        SignedSession(paper.stream_url) as session,
        SigningClient(paper) as client,
    ):
        await session.subscribe(*[f"mark.{name}" for name in names])
        await session.until(lambda one: one["code"] == 40107)
        assert len([one for one in session.messages if one["code"] == 0]) == 400
        _, answer = await client.read("public/get-instruments")
        assert [row["tradable"] for row in answer["result"]["data"]].count(False) == 1
        untradable = order(instrument_name=names[0], price="1.5")
        assert (await client.call(CREATE, untradable))[1]["code"] == 208


async def test_messages_beyond_the_rate_are_refused() -> None:
    """A market connection takes 100 messages a second, in its first second by what is left of it; then 42901."""
    config = replace(CONFIG, message_rate=1)
    async with PaperExchange(config) as paper, SignedSession(paper.stream_url) as session:
        for number in range(1000, 1000 + 100 * 30):
            await session.socket.send_json({"id": number, "method": "public/nothing"})
        refused = await session.until(lambda one: one["code"] == 42901)
        assert refused["message"] == "TOO_MANY_REQUESTS"


@pytest.mark.parametrize("kind", ["duplicate", "missing", "malformed", "drop", "half_open"])
async def test_faults_of_messages(
    paper: PaperExchange, client: SigningClient, control: PaperControl, kind: str
) -> None:
    """An execution is told twice, not at all, in pieces, or the connection ends; REST has it in each case."""
    async with SignedSession(paper.user_stream_url, client.key) as session:
        await session.subscribe("user.trade")
        await control.fault(kind, "user.trade")
        placed = await client.result(CREATE, order())
        await control.fill(placed["order_id"], 100)
        told = {"duplicate": 2}.get(kind, 0)
        if kind == "drop":
            async with asyncio.timeout(10 * SLACK):
                await session.closed.wait()
        elif kind == "duplicate":
            await eventually(lambda: _told(session, 2), within=10)
        elif kind == "malformed":
            await eventually(lambda: _broken(session), within=10)
        assert len(session.rows("user.trade")) == told
    assert len((await client.result("private/get-trades"))["data"]) == 1


async def _told(session: SignedSession, count: int) -> bool:
    return len(session.rows("user.trade")) == count


async def _broken(session: SignedSession) -> bool:
    return session.broken == 1


async def test_a_new_subscriber_may_hear_old_news_again(
    paper: PaperExchange, client: SigningClient, control: PaperControl
) -> None:
    """By a fault the last executions are told once more after a subscription, the same in every field."""
    placed = await client.result(CREATE, order())
    await control.fill(placed["order_id"], 100)
    await control.fault("replay")
    async with SignedSession(paper.user_stream_url, client.key) as session:
        await session.subscribe("user.trade")
        told = await session.row("user.trade", lambda row: True)
        assert [told] == (await client.result("private/get-trades"))["data"]


async def test_a_restarting_server_says_so(paper: PaperExchange, control: PaperControl, client: SigningClient) -> None:
    """The control interface ends connections with 1013 (restarting), or refuses new ones."""
    async with SignedSession(paper.user_stream_url, client.key) as session:
        assert await control.sockets("close", "user", 1013) == 1
        async with asyncio.timeout(10 * SLACK):
            await session.closed.wait()
        assert session.close_code == 1013
    await control.fault("refused", "user")
    with pytest.raises(aiohttp.WSServerHandshakeError):
        async with SignedSession(paper.user_stream_url, client.key):
            pass
