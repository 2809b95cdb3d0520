"""The adapter to Crypto.com against a paper exchange with the venue's strange ways, beyond the conformance list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from domain.orders import OrderType, Side, VenueStatus
from exchange.cryptocom import CryptocomConfig, CryptocomExchange
from exchange.paper import PaperConfig, PaperControl, PaperExchange
from exchange.port import (
    CancelVerdict,
    CommandRefused,
    OrderEvent,
    OrderRequest,
    OutcomeUnknown,
    SnapshotComplete,
    VenueOrder,
)
from exchange.streams import ReconnectSettings
from tests.support.stream_reader import reading
from tests.support.waiting import eventually

D = Decimal
BTC = "BTC_USD"
ENDED = {VenueStatus.FILLED, VenueStatus.CANCELLED, VenueStatus.EXPIRED, VenueStatus.FAILED}


def paper_config(**changes: Any) -> PaperConfig:
    """A market that moves only on request."""
    settings: dict[str, Any] = {
        "venue": "cryptocom", "step": True, "products": [BTC], "balances": {"USD": D(1_000_000), "BTC": D(10)},
        "private_rate": 0, "public_rate": 0, "connection_rate": 0, "message_rate": 0, "trade_batch": 0,
        "depth_batch": 0,
    }  # fmt: skip
    return PaperConfig(**{**settings, **changes})


@pytest.fixture
async def paper() -> AsyncIterator[PaperExchange]:
    """A paper Crypto.com."""
    async with PaperExchange(paper_config()) as paper:
        yield paper


@pytest.fixture
async def control(paper: PaperExchange) -> AsyncIterator[PaperControl]:
    """Its control; BTC is quoted 50,000 / 50,010."""
    async with PaperControl(paper.addresses()) as control:
        await control.set_price(BTC, "50000", "50010")
        yield control


def adapter(paper: PaperExchange, **changes: Any) -> CryptocomExchange:
    """An adapter to it."""
    settings: dict[str, Any] = {
        "rest_url": f"https://{paper.rest_address}/exchange/v1", "market_stream_url": paper.stream_url,
        "user_stream_url": paper.user_stream_url, "ca_file": paper.ca_file, "key_file": paper.key_file, "share": 0,
        "streams": ReconnectSettings(backoff_first=0.02, backoff_cap=0.1, first_frame=4.0, open_timeout=4.0),
    }  # fmt: skip
    return CryptocomExchange(CryptocomConfig(**{**settings, **changes}))


@pytest.fixture
async def exchange(paper: PaperExchange, control: PaperControl) -> AsyncIterator[CryptocomExchange]:
    """An adapter, closed afterwards."""
    exchange = adapter(paper)
    yield exchange
    await exchange.close()


async def place(exchange: CryptocomExchange, request: OrderRequest) -> str:
    """Send it. Returns the venue's id."""
    return (await exchange.submit(exchange.order_body(request))).exchange_order_id


async def until(exchange: CryptocomExchange, order_id: str, condition: Callable[[VenueOrder], bool]) -> VenueOrder:
    """The order, once it is as wanted."""

    async def wanted() -> VenueOrder | None:
        order = await exchange.order(order_id)
        return order if order is not None and condition(order) else None

    return await eventually(wanted, within=8, what="the order as wanted")


def start_of_test() -> datetime:
    """A moment before the test's actions."""
    return datetime.now(UTC) - timedelta(seconds=2)


STOP = OrderRequest(
    "s-1", BTC, Side.SELL, OrderType.STOP_LIMIT, base_size=D(1), limit_price=D(44000), stop_price=D(45000)
)


@pytest.mark.parametrize("legs_shown", [True, False])
async def test_a_trigger_stays_one_order_through_its_fill(
    paper: PaperExchange, control: PaperControl, exchange: CryptocomExchange, legs_shown: bool
) -> None:
    """Triggered and filled under another id at the market: by stream and by every read it is the order that was sent,
    with its executions and fees; also for a process that never saw it before."""
    await control.legs_on_user_order(legs_shown)
    async with reading(exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(SnapshotComplete)))
        order_id = await place(exchange, STOP)
        await until(exchange, order_id, lambda item: item.status is VenueStatus.PENDING)
        await control.set_price(BTC, "44500", "44510")
        await control.mark(BTC, "44505")
        order = await until(exchange, order_id, lambda item: item.status is VenueStatus.FILLED)
        assert (order.client_order_id, order.filled_size) == ("s-1", D(1))
        assert D(44000) <= order.filled_value <= D(44500)
        assert order.quote_fees > 0

        def told() -> bool:
            last = [event.order for event in reader.of(OrderEvent) if event.order.client_order_id == "s-1"]
            return any((item.status, item.quote_fees) == (VenueStatus.FILLED, order.quote_fees) for item in last)

        await reader.until(told)
        assert {event.order.exchange_order_id for event in reader.of(OrderEvent)} == {order_id}
    fresh = adapter(paper)
    for venue in (exchange, fresh):
        assert [item.exchange_order_id for item in await venue.orders(start_of_test())] == [order_id]
        found = await venue.find_order("s-1", BTC, start_of_test())
        assert found is not None
        fills = await venue.fills(exchange_order_id=order_id)
        assert {item.exchange_order_id for item in fills} == {order_id}
        assert sum(item.fee for item in fills) == order.quote_fees
        assert (await venue.cancel(order_id)).verdict is CancelVerdict.ALREADY_DONE
    await fresh.close()


async def test_a_trigger_without_a_mark_price_is_refused_by_name(
    control: PaperControl, exchange: CryptocomExchange
) -> None:
    """Nothing rests then, and the code says why."""
    await control.mark(BTC, missing=True)
    with pytest.raises(CommandRefused) as caught:
        await place(exchange, STOP)
    assert caught.value.code == "NO_MARK_PRICE"
    assert await exchange.open_orders() == []


async def test_a_trigger_that_the_venue_refuses_when_it_triggers_has_failed(
    control: PaperControl, exchange: CryptocomExchange
) -> None:
    """It reserves nothing: if the coins are gone by then, the order ends as refused, with the reason."""
    order_id = await place(exchange, STOP)
    await until(exchange, order_id, lambda item: item.status is VenueStatus.PENDING)
    await control.withdraw("BTC", "9.5")
    await control.mark(BTC, "44505")
    order = await until(exchange, order_id, lambda item: item.status in ENDED)
    assert (order.status, order.reason) == (VenueStatus.FAILED, "INSUFFICIENT_AVAILABLE_BALANCE")


async def test_a_fee_that_falls_back_to_the_bought_coin_is_counted_there(paper: PaperExchange) -> None:
    """With too little quote currency left for the fee the venue takes coins, whatever was asked for: the order says so,
    by stream and REST."""
    config = paper_config(balances={"USD": D("5001.00"), "BTC": D(0)})
    async with PaperExchange(config) as poor, PaperControl(poor.addresses()) as control:
        await control.set_price(BTC, "50000", "50010")
        exchange = adapter(poor)
        request = OrderRequest("c-1", BTC, Side.BUY, OrderType.MARKET, base_size=D("0.1"))
        async with reading(exchange.user_stream()) as reader:
            await reader.until(lambda: bool(reader.of(SnapshotComplete)))
            order_id = await place(exchange, request)
            order = await until(exchange, order_id, lambda item: item.status in ENDED)
            assert order.filled_size > 0
            assert (order.quote_fees, order.base_fees > 0) == (D(0), True)
            fees = order.base_fees
            await reader.until(lambda: any(event.order.base_fees == fees for event in reader.of(OrderEvent)))
        fills = await exchange.fills(exchange_order_id=order_id)
        assert {item.fee_currency for item in fills} == {"BTC"}
        assert (await exchange.balances())["BTC"].total == order.filled_size - order.base_fees
        await exchange.close()


async def test_an_order_that_was_just_made_may_not_be_found_yet(
    control: PaperControl, exchange: CryptocomExchange
) -> None:
    """Read after write: while the detail lags, the order is not there yet, and later it is."""
    await control.fault("lagging", "POST /private/get-order-detail", delay=1.0, duration=600.0)
    request = OrderRequest("c-1", BTC, Side.BUY, OrderType.LIMIT, base_size=D("0.1"), limit_price=D(49000))
    order_id = await place(exchange, request)

    async def found() -> VenueOrder | None:
        return await exchange.find_order("c-1", BTC, start_of_test())

    assert (await eventually(found, what="the order")).exchange_order_id == order_id


@pytest.mark.parametrize("code", [50001, 40801, 9010001, 10001])
@pytest.mark.parametrize("taken", [True, False])
async def test_internal_errors_leave_an_orders_outcome_unknown(
    control: PaperControl, exchange: CryptocomExchange, code: int, taken: bool
) -> None:
    """With or without effect: the venue's records say whether the order exists, and a second one under its id is never
    made."""
    kind = "accepted_error_code" if taken else "error_code"
    await control.fault(kind, "POST /private/create-order", status=code)
    request = OrderRequest("c-1", BTC, Side.BUY, OrderType.LIMIT, base_size=D("0.1"), limit_price=D(49000))
    with pytest.raises(OutcomeUnknown):
        await place(exchange, request)
    assert (await exchange.find_order("c-1", BTC, start_of_test()) is not None) is taken
    if taken:
        with pytest.raises(OutcomeUnknown) as caught:
            await place(exchange, request)
        assert caught.value.code == "DUPLICATE_CLORDID"
    else:
        await place(exchange, request)
    assert len(await exchange.orders(start_of_test())) == 1


async def test_the_venues_limits_are_kept(paper: PaperExchange) -> None:
    """With all limits of the venue on, many orders, look-ups and reads of the past at once: none is refused."""
    async with PaperExchange(paper_config(private_rate=30, public_rate=10)) as strict:
        async with PaperControl(strict.addresses()) as control:
            await control.set_price(BTC, "50000", "50010")
        exchange = adapter(strict, share=0.9)

        def rests(number: int) -> OrderRequest:
            price = D(40000 + number)
            return OrderRequest(f"c-{number}", BTC, Side.BUY, OrderType.LIMIT, base_size=D("0.001"), limit_price=price)

        ids = await asyncio.gather(*(place(exchange, rests(number)) for number in range(40)))
        await asyncio.gather(*(exchange.order(order_id) for order_id in ids))
        await asyncio.gather(*(exchange.balances() for _ in range(8)), *(exchange.quote(BTC) for _ in range(20)))
        for _ in range(2):
            assert len(await exchange.orders(start_of_test() - timedelta(minutes=1))) == 40
        await exchange.close()


async def test_a_market_buy_for_money_has_filled(exchange: CryptocomExchange) -> None:
    """The venue says CANCELED when the money is used up: here it is an order that has filled."""
    request = OrderRequest("c-1", BTC, Side.BUY, OrderType.MARKET, quote_size=D(1000))
    order = await until(exchange, await place(exchange, request), lambda item: item.status in ENDED)
    assert order.raw["status"] == "CANCELED"
    assert (order.status, order.on_request) == (VenueStatus.FILLED, False)


async def test_an_order_that_a_person_makes_or_cancels_in_the_app_is_told(
    control: PaperControl, exchange: CryptocomExchange
) -> None:
    """An order of somebody else's making arrives as any other, and a cancel that was requested says so."""
    async with reading(exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(SnapshotComplete)))
        request = OrderRequest("c-1", BTC, Side.BUY, OrderType.LIMIT, base_size=D("0.1"), limit_price=D(49000))
        order_id = await place(exchange, request)
        await until(exchange, order_id, lambda item: item.status is VenueStatus.OPEN)
        await control.cancel(order_id)
        await reader.until(
            lambda: any(
                (event.order.exchange_order_id, event.order.on_request) == (order_id, True)
                for event in reader.of(OrderEvent)
            )
        )
