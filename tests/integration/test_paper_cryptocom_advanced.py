"""The paper Crypto.com's advanced orders: triggers and OCO, by the mark price."""

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from exchange.paper import PaperConfig, PaperControl, PaperExchange
from exchange.paper.config import CRYPTOCOM
from tests.support.cryptocom_client import SignedSession, SigningClient
from tests.support.waiting import eventually

CRO = "CRO_USD"
CREATE = "private/advanced/create-order"
OCO = "private/advanced/create-oco"
CONFIG = PaperConfig(
    venue=CRYPTOCOM,
    step=True,
    products=[CRO],
    balances={"USD": Decimal(1000), "CRO": Decimal(1000)},
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
    """Its control interface, CRO at 0.05000 / 0.05001, and so the mark."""
    async with PaperControl(paper.addresses()) as client:
        await client.set_price(CRO, "0.05000", "0.05001")
        await client.mark(CRO, "0.05000")
        yield client


@pytest_asyncio.fixture
async def client(paper: PaperExchange, control: PaperControl) -> AsyncIterator[SigningClient]:
    """A client with the account's key."""
    async with SigningClient(paper) as signing:
        yield signing


def leg(kind: str, **changed: Any) -> dict[str, Any]:
    """A sell of 1000 CRO: at 0.06000, or when the mark falls to 0.04000."""
    price = {"price": "0.06000"} if kind == "LIMIT" else {"ref_price": "0.04000"}
    wanted = {"instrument_name": CRO, "side": "SELL", "type": kind, "quantity": "1000", "client_oid": kind[:1]}
    return {name: value for name, value in {**wanted, **price, **changed}.items() if value is not None}


async def legs(client: SigningClient, list_id: str) -> list[dict[str, Any]]:
    """A list's legs."""
    return list((await client.result("private/advanced/get-order-list-detail", {"list_id_list": [list_id]}))["data"])


async def statuses(client: SigningClient, list_id: str, *wanted: str) -> list[dict[str, Any]]:
    """A list's legs, as soon as they have these statuses."""

    async def reached() -> list[dict[str, Any]] | None:
        rows = await legs(client, list_id)
        return rows if [row["status"] for row in rows] == list(wanted) else None

    return await eventually(reached, within=10, what=f"{wanted}")


async def create(client: SigningClient, **of_trigger: Any) -> str:
    """The id of a new OCO."""
    result = await client.result(OCO, {"order_list": [leg("LIMIT"), leg("STOP_LOSS", **of_trigger)]})
    assert set(result) == {"list_id"}
    return str(result["list_id"])


async def test_an_oco_rests_as_a_limit_order_and_waits_as_a_trigger(
    client: SigningClient, control: PaperControl
) -> None:
    """Both legs are read back by the list's id: LIMIT ACTIVE with an id at the market, the trigger PENDING without."""
    list_id = await create(client)
    limit, stop = await statuses(client, list_id, "ACTIVE", "PENDING")
    assert [(row["list_id"], row["leg_id"], row["contingency_type"]) for row in (limit, stop)] == [
        (list_id, "1", "OCO"),
        (list_id, "2", "OCO"),
    ]
    assert (stop["ref_price"], stop["ref_price_type"], stop["limit_price"]) == ("0.04000", "MARK_PRICE", "0.00000")
    assert "exchange_order_id" not in stop
    assert limit["exchange_order_id"] != limit["order_id"]
    assert (await control.balances())["CRO"]["hold"] == 1000
    assert (await client.result("private/get-open-orders"))["data"] == []
    assert (await client.result("private/advanced/get-open-orders"))["data"] == [limit, stop]
    at_market = await client.result("private/get-order-detail", {"order_id": limit["exchange_order_id"]})
    assert (at_market["client_oid"], at_market["status"]) == ("L", "ACTIVE")
    assert await client.result("private/advanced/get-order-detail", {"client_oid": "S"}) == stop


async def test_the_mark_price_triggers_not_the_last_trade(client: SigningClient, control: PaperControl) -> None:
    """A last price through the stop does nothing; the mark price at it sells at the market and ends the limit leg."""
    list_id = await create(client)
    await statuses(client, list_id, "ACTIVE", "PENDING")
    await control.set_price(CRO, "0.03900", "0.03901")
    assert [row["status"] for row in await legs(client, list_id)] == ["ACTIVE", "PENDING"]
    await control.mark(CRO, "0.04000")
    _, stop = await statuses(client, list_id, "CANCELED", "FILLED")
    (trade,) = (await client.result("private/get-trades"))["data"]
    assert (trade["order_id"], trade["client_oid"], trade["traded_price"]) == (
        stop["exchange_order_id"],
        "S",
        "0.03900",
    )
    assert stop["cumulative_quantity"] == "1000"
    balances = await control.balances()
    assert (balances["CRO"]["total"], balances["CRO"]["hold"]) == (Decimal(0), Decimal(0))


async def test_a_partial_fill_of_the_limit_leg_leaves_no_stop(client: SigningClient, control: PaperControl) -> None:
    """The first execution of the limit leg cancels the trigger, though most of the order is still there."""
    list_id = await create(client)
    limit, _ = await statuses(client, list_id, "ACTIVE", "PENDING")
    await control.fill(limit["exchange_order_id"], 1)
    limit, stop = await statuses(client, list_id, "ACTIVE", "CANCELED")
    assert limit["cumulative_quantity"] == "1"
    await control.mark(CRO, "0.03000")
    assert [row["status"] for row in await legs(client, list_id)] == ["ACTIVE", "CANCELED"]
    await control.fill(limit["exchange_order_id"], 999)
    await statuses(client, list_id, "FILLED", "CANCELED")
    assert stop["order_id"] in {
        row["order_id"] for row in (await client.result("private/advanced/get-order-history"))["data"]
    }


async def test_an_oco_is_cancelled_by_its_list(client: SigningClient, control: PaperControl) -> None:
    """cancel-oco answers with a code alone and ends both legs a moment later; a single leg can't be cancelled."""
    list_id = await create(client)
    limit, _ = await statuses(client, list_id, "ACTIVE", "PENDING")
    assert (await client.call("private/advanced/cancel-order", {"order_id": limit["order_id"]}))[1]["code"] == 130008
    status, answer = await client.call("private/advanced/cancel-oco", {"list_id": list_id})
    assert (status, answer["code"], "result" in answer) == (200, 0, False)
    await statuses(client, list_id, "CANCELED", "CANCELED")
    assert (await control.balances())["CRO"]["hold"] == 0
    assert (await client.call("private/advanced/cancel-oco", {"list_id": list_id}))[1]["code"] == 316
    assert (await client.call("private/advanced/cancel-oco", {"list_id": "1"}))[1]["code"] == 40401


async def test_a_cancel_of_an_oco_can_lose_to_a_fill(client: SigningClient, control: PaperControl) -> None:
    """Between the receipt of the cancel and its effect the limit leg fills: it is FILLED."""
    list_id = await create(client)
    limit, _ = await statuses(client, list_id, "ACTIVE", "PENDING")
    await control.latency(cancel=0.3)
    await client.result("private/advanced/cancel-oco", {"list_id": list_id})
    await control.fill(limit["exchange_order_id"], 1000)
    await statuses(client, list_id, "FILLED", "CANCELED")


@pytest.mark.parametrize(
    ("limit", "trigger", "reasons"),
    [
        ({"price": "0.04900"}, {}, ("REJECTED", "224", "CANCELED", None)),
        ({}, {"ref_price": "0.05500"}, ("CANCELED", None, "REJECTED", "229")),
        ({"quantity": "2000"}, {"quantity": "2000"}, ("REJECTED", "306", "CANCELED", None)),
    ],
)
async def test_a_leg_is_refused_after_the_receipt(
    client: SigningClient, control: PaperControl, limit: dict[str, Any], trigger: dict[str, Any], reasons: Any
) -> None:
    """A price that is passed already, or coins that are not there: the receipt is good, and neither leg protects."""
    answer = await client.result(OCO, {"order_list": [leg("LIMIT", **limit), leg("STOP_LOSS", **trigger)]})
    rows = await statuses(client, answer["list_id"], reasons[0], reasons[2])
    assert [row.get("reject_reason") for row in rows] == [reasons[1], reasons[3]]
    assert (await control.balances())["CRO"]["hold"] == 0


async def test_a_trigger_reserves_nothing_and_is_refused_when_it_triggers(
    client: SigningClient, control: PaperControl
) -> None:
    """Two full-size stops are both taken; the first to trigger sells, the second has nothing left and is REJECTED."""
    for number in (1, 2):
        await client.result(CREATE, leg("STOP_LOSS", client_oid=f"stop-{number}"))
    await eventually(lambda: _all_are(client, ["PENDING", "PENDING"]), within=10)
    assert (await control.balances())["CRO"]["hold"] == 0
    await control.mark(CRO, "0.03990")
    await eventually(lambda: _all_are(client, []), within=10)
    rows = (await client.result("private/advanced/get-order-history"))["data"]
    assert sorted((row["status"], row.get("reject_reason")) for row in rows) == [("FILLED", None), ("REJECTED", "306")]


async def _all_are(client: SigningClient, wanted: list[str]) -> bool:
    rows = (await client.result("private/advanced/get-open-orders"))["data"]
    return [row["status"] for row in rows] == wanted


@pytest.mark.parametrize(
    ("kind", "side", "ref_price", "reached"),
    [
        ("STOP_LOSS", "SELL", "0.04000", "0.04000"),
        ("STOP_LIMIT", "SELL", "0.04000", "0.03990"),
        ("TAKE_PROFIT", "SELL", "0.06000", "0.06010"),
        ("TAKE_PROFIT_LIMIT", "SELL", "0.06000", "0.06000"),
        ("STOP_LOSS", "BUY", "0.06000", "0.06000"),
        ("TAKE_PROFIT", "BUY", "0.04000", "0.04000"),
    ],
)
async def test_triggers_by_kind_and_side(
    client: SigningClient, control: PaperControl, kind: str, side: str, ref_price: str, reached: str
) -> None:
    """Stops wait on the losing side and take-profits on the winning one; on the other side they are REJECTED (229)."""
    price = "0.05000" if kind.endswith("LIMIT") else None
    wanted = leg(kind, side=side, ref_price=ref_price, price=price, quantity="100", client_oid="one")
    await client.result(CREATE, wanted)
    await eventually(lambda: _all_are(client, ["PENDING"]), within=10)
    other = "0.04000" if ref_price == "0.06000" else "0.06000"
    await client.result(CREATE, {**wanted, "ref_price": other, "client_oid": "two"})
    refused = await eventually(lambda: _is(client, "two", "REJECTED"), within=10)
    assert refused["reject_reason"] == "229"
    await control.mark(CRO, reached)
    await eventually(lambda: _is(client, "one", "FILLED"), within=10)


async def _is(client: SigningClient, client_oid: str, status: str) -> dict[str, Any] | None:
    row = dict(await client.result("private/advanced/get-order-detail", {"client_oid": client_oid}))
    return row if row["status"] == status else None


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"ref_price": None}, 400, 229),
        ({"ref_price": 0.04}, 400, 229),
        ({"ref_price": "0.040005"}, 400, 229),
        ({"ref_price_type": "LAST_PRICE"}, 400, 230),
        ({"quantity": "0.5"}, 400, 213),
        ({"quantity": "10"}, 500, 415),
        ({"type": "LIMIT"}, 400, 218),
        ({"type": "STOP_LIMIT"}, 400, 308),
        ({"side": "HOLD"}, 400, 220),
        ({"instrument_name": "X_Y"}, 400, 209),
        ({"fee_instrument_name": "BTC"}, 500, 215),
    ],
)
async def test_a_wrong_trigger_has_its_code(
    client: SigningClient, control: PaperControl, changed: dict[str, Any], status: int, code: int
) -> None:
    """Each wrong field of a trigger has the documented code, and nothing waits."""
    got, answer = await client.call(CREATE, leg("STOP_LOSS", **changed))
    assert (got, answer["code"]) == (status, code)
    assert await control.advanced() == []


async def test_a_wrong_oco_is_refused_at_once(client: SigningClient, control: PaperControl) -> None:
    """An OCO has exactly a limit order and a trigger of one instrument and side, with ids that no other order has."""
    stop = leg("STOP_LOSS")
    for orders, code in (
        ([leg("LIMIT")], 40004),
        ([leg("LIMIT"), leg("LIMIT", client_oid="other")], 218),
        ([stop, leg("TAKE_PROFIT", ref_price="0.06000")], 218),
        ([leg("LIMIT"), leg("STOP_LOSS", side="BUY")], 40004),
        ([leg("LIMIT", client_oid="S"), stop], 204),
        ("LIMIT", 40004),
    ):
        assert (await client.call(OCO, {"order_list": orders}))[1]["code"] == code
    assert await control.advanced() == []
    await create(client)
    assert (await client.call(OCO, {"order_list": [leg("LIMIT", client_oid="new"), stop]}))[1]["code"] == 204
    listed = {"contingency_type": "OCO", "order_list": [leg("LIMIT"), stop]}
    assert (await client.call("private/create-order-list", listed))[1]["code"] == 140001


async def test_legs_without_client_order_ids_are_numbered(client: SigningClient) -> None:
    """A leg without an id of the client's has the request's id and its own number."""
    body = client.envelope(OCO, {"order_list": [leg("LIMIT", client_oid=None), leg("STOP_LOSS", client_oid=None)]})
    _, answer = await client.send(OCO, body)
    rows = await statuses(client, answer["result"]["list_id"], "ACTIVE", "PENDING")
    assert [row["client_oid"] for row in rows] == [f"{body['id']}-1", f"{body['id']}-2"]


async def test_without_a_fresh_mark_price_nothing_triggers(client: SigningClient, control: PaperControl) -> None:
    """A missing mark refuses a trigger with 207, an old one with 222; those that wait go on waiting."""
    list_id = await create(client)
    await statuses(client, list_id, "ACTIVE", "PENDING")
    await control.mark(CRO, missing=True)
    assert (await client.call(CREATE, leg("STOP_LOSS", client_oid="new")))[1]["code"] == 207
    _, answer = await client.read("public/get-valuations", instrument_name=CRO, valuation_type="mark_price")
    assert answer["result"]["data"] == []
    await control.mark(CRO, "0.03000", stale=True)
    assert (await client.call(CREATE, leg("STOP_LOSS", client_oid="new")))[1]["code"] == 222
    assert [row["status"] for row in await legs(client, list_id)] == ["ACTIVE", "PENDING"]
    await control.mark(CRO, "0.03000")
    await statuses(client, list_id, "CANCELED", "FILLED")


async def test_a_single_trigger_is_cancelled_by_its_id(client: SigningClient) -> None:
    """cancel-order ends a waiting trigger a moment later; cancel-all-orders ends the rest."""
    for number in (1, 2):
        await client.result(CREATE, leg("STOP_LOSS", client_oid=f"stop-{number}"))
    await client.result("private/advanced/cancel-order", {"client_oid": "stop-1"})
    await eventually(lambda: _is(client, "stop-1", "CANCELED"), within=10)
    assert (await client.call("private/advanced/cancel-order", {"client_oid": "stop-1"}))[1]["code"] == 316
    assert (await client.call("private/advanced/cancel-order", {"order_id": "1"}))[1]["code"] == 212
    await client.result("private/advanced/cancel-all-orders", {"instrument_name": CRO})
    await eventually(lambda: _is(client, "stop-2", "CANCELED"), within=10)


async def test_advanced_orders_are_kept_over_a_restart(tmp_path: Path) -> None:
    """A waiting stop still sells after a restart; legs that had only a receipt are made, a cancel takes effect."""
    config = replace(CONFIG, data_folder=tmp_path, cancel_latency=3600.0)
    sizes = {"quantity": "400"}
    async with (
        PaperExchange(config) as paper,
        SigningClient(paper) as client,
        PaperControl(paper.addresses()) as control,
    ):
        await control.set_price(CRO, "0.05000", "0.05001")
        pair = [leg("LIMIT", **sizes, client_oid="a"), leg("STOP_LOSS", **sizes, client_oid="b")]
        kept = (await client.result(OCO, {"order_list": pair}))["list_id"]
        before = await statuses(client, kept, "ACTIVE", "PENDING")
        await client.result(CREATE, leg("STOP_LOSS", client_oid="cancelled"))
        await eventually(lambda: _is(client, "cancelled", "PENDING"), within=10)
        await client.result("private/advanced/cancel-order", {"client_oid": "cancelled"})
        await control.latency(accept=3600)
        pair = [leg("LIMIT", **sizes, client_oid="c"), leg("STOP_LOSS", **sizes, client_oid="d")]
        unstarted = (await client.result(OCO, {"order_list": pair}))["list_id"]
        await statuses(client, unstarted, "NEW", "NEW")
    async with (
        PaperExchange(replace(CONFIG, data_folder=tmp_path)) as paper,
        SigningClient(paper) as client,
        PaperControl(paper.addresses()) as control,
    ):
        assert await statuses(client, kept, "ACTIVE", "PENDING") == before
        await statuses(client, unstarted, "ACTIVE", "PENDING")
        await eventually(lambda: _is(client, "cancelled", "CANCELED"), within=10)
        await control.set_price(CRO, "0.03900", "0.03901")
        await statuses(client, kept, "CANCELED", "FILLED")
        await statuses(client, unstarted, "CANCELED", "FILLED")
        assert (await control.balances())["CRO"]["total"] == 200


@pytest.mark.parametrize("channel", ["user.advance.order", "user.advanced.order.CRO_USD"])
async def test_legs_are_told_on_their_channel(
    paper: PaperExchange, client: SigningClient, control: PaperControl, channel: str
) -> None:
    """Both spellings of the channel tell each leg's states; the first reply has the open ones."""
    async with SignedSession(paper.user_stream_url, client.key) as session:
        assert (await session.subscribe(channel))["result"]["data"] == []
        await create(client)
        await session.row(channel, _one("L", "ACTIVE"))
        await session.row(channel, _one("S", "PENDING"))
        await control.mark(CRO, "0.03000")
        await session.row(channel, _one("L", "CANCELED"))
        filled = await session.row(channel, _one("S", "FILLED"))
        assert filled["exchange_order_id"]
        assert (await session.subscribe("user.advance.order"))["result"]["data"] == []


def _one(client_oid: str, status: str) -> Callable[[dict[str, Any]], bool]:
    return lambda row: (row["client_oid"], row["status"]) == (client_oid, status)


@pytest.mark.parametrize("shown", [True, False])
async def test_whether_legs_show_on_user_order_is_switchable(
    paper: PaperExchange, client: SigningClient, control: PaperControl, shown: bool
) -> None:
    """The documents don't say whether a leg at the market is told on user.order, so both are possible."""
    await control.legs_on_user_order(shown)
    async with SignedSession(paper.user_stream_url, client.key) as session:
        await session.subscribe("user.order")
        await session.subscribe("user.trade")
        list_id = await create(client)
        limit, _ = await statuses(client, list_id, "ACTIVE", "PENDING")
        await control.fill(limit["exchange_order_id"], 1000)
        trade = await session.row("user.trade", lambda row: True)
        assert (trade["order_id"], trade["client_oid"]) == (limit["exchange_order_id"], "L")
        assert (session.rows("user.order") != []) is shown


async def test_the_exchanges_records_have_advanced_orders(client: SigningClient, control: PaperControl) -> None:
    """The journal has each wanted leg and trigger with its id or its refusal, and the cancels who asked for them."""
    list_id = await create(client)
    rows = await statuses(client, list_id, "ACTIVE", "PENDING")
    await client.call(CREATE, leg("STOP_LOSS", client_oid="wrong", quantity="0.5"))
    await client.call(CREATE, leg("STOP_LOSS"))
    noted = [
        (row["client_order_id"], row["order_id"], row["refused"], row["duplicate"]) for row in await control.journal()
    ]
    assert noted == [
        ("L", rows[0]["order_id"], "", False),
        ("S", rows[1]["order_id"], "", False),
        ("wrong", "", "INVALID_ORDERQTY", False),
        ("S", "", "DUPLICATE_CLORDID", True),
    ]
    await client.result("private/advanced/cancel-oco", {"list_id": list_id})
    assert [(row["order_id"], row["by"]) for row in await control.cancels()] == [
        (row["order_id"], "API") for row in rows
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_sold_twice_whatever_happens(client: SigningClient, control: PaperControl, seed: int) -> None:
    """Of an OCO at most its quantity is sold, by one leg alone; when all have ended nothing is held."""
    dice = random.Random(seed)
    lists: list[str] = []
    prices = [f"0.0{step}" for step in range(3000, 7000, 10)]
    for number in range(40):
        match dice.choice(("create", "create", "mark", "price", "fill", "cancel")):
            case "create":
                size = str(dice.randrange(50, 300))
                limit, stop = sorted(dice.sample(prices, 2), reverse=True)
                pair = [
                    leg("LIMIT", quantity=size, price=limit, client_oid=f"{number}L"),
                    leg("STOP_LOSS", quantity=size, ref_price=stop, client_oid=f"{number}S"),
                ]
                lists.append((await client.result(OCO, {"order_list": pair}))["list_id"])
            case "mark":
                await control.mark(CRO, dice.choice(prices))
            case "price":
                bid = dice.randrange(3000, 7000)
                await control.set_price(CRO, f"0.0{bid}", f"0.0{bid + 1}", dice.choice((None, 7)))
            case "fill":
                orders = [row for row in await control.orders() if row["status"] == "ACTIVE"]
                if orders:
                    await control.fill(dice.choice(orders)["order_id"], 1)
            case "cancel" if lists:
                await client.call("private/advanced/cancel-oco", {"list_id": dice.choice(lists)})
    await client.result("private/advanced/cancel-all-orders")
    await eventually(lambda: _all_are(client, []), within=10)
    sold = Decimal(0)
    for list_id in lists:
        rows = await legs(client, list_id)
        filled = [Decimal(row["cumulative_quantity"]) for row in rows]
        assert min(filled) == 0, rows
        assert sum(filled) <= Decimal(rows[0]["quantity"]), rows
        sold += sum(filled)
    balances = await control.balances()
    assert (balances["CRO"]["total"], balances["CRO"]["hold"]) == (1000 - sold, Decimal(0))
    assert balances["USD"]["hold"] == 0
