"""The conformance list: what the port promises, tried at each venue by the same tests.

A venue is on it once it has a paper exchange (tests/support/conformance.py). A test may ask for the venue's
`Capabilities`, never for its name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from domain.funds import LACK_OF_FUNDS
from domain.market import currencies
from domain.orders import AttemptStatus, OrderType, Report, Side, TimeInForce, Totals, VenueStatus, merge
from exchange.port import (
    BookUpdate,
    CancelVerdict,
    CandleUpdate,
    CommandRefused,
    Connected,
    Disconnected,
    ExchangeError,
    NotAccepted,
    OrderEvent,
    OrderRequest,
    OutcomeUnknown,
    PublicTrade,
    RepeatedId,
    SnapshotComplete,
    Ticker,
    Unavailable,
    VenueOrder,
)
from tests.support.conformance import VENUES, Streaming, Trial, Venue, trial
from tests.support.stream_reader import Reader, reading
from tests.support.waiting import eventually

D = Decimal
ENDED = {VenueStatus.FILLED, VenueStatus.CANCELLED, VenueStatus.EXPIRED, VenueStatus.FAILED}


@pytest.fixture(params=VENUES, ids=lambda venue: str(venue.name))
async def at(request: pytest.FixtureRequest) -> AsyncIterator[Trial]:
    """A venue of the list, running."""
    venue: Venue = request.param
    async with trial(venue) as running:
        yield running


def start_of_test() -> datetime:
    """A moment before the test's actions."""
    return datetime.now(UTC) - timedelta(seconds=2)


def limit(at: Trial, name: str, price: str, *, side: Side = Side.BUY, size: str = "0.1", **more: Any) -> OrderRequest:
    """A limit order."""
    return OrderRequest(name, at.symbol, side, OrderType.LIMIT, base_size=D(size), limit_price=D(price), **more)


def market(at: Trial, name: str, *, side: Side = Side.BUY, size: str = "0.1") -> OrderRequest:
    """A market order."""
    return OrderRequest(name, at.symbol, side, OrderType.MARKET, base_size=D(size))


async def place(exchange: Streaming, request: OrderRequest) -> str:
    """Send it. Returns the venue's id."""
    return (await exchange.submit(exchange.order_body(request))).exchange_order_id


async def until(exchange: Streaming, order_id: str, condition: Callable[[VenueOrder], bool]) -> VenueOrder:
    """The order, once it is as wanted."""

    async def wanted() -> VenueOrder | None:
        order = await exchange.order(order_id)
        return order if order is not None and condition(order) else None

    return await eventually(wanted, within=8, what="the order as wanted")


def report(order: VenueOrder) -> Report:
    """An order as the ledger merges it."""
    totals = Totals(order.filled_size, order.filled_value, order.quote_fees, order.base_fees)
    return Report.of_venue(order.status, totals)


# --- reads --------------------------------------------------------------------------------------------------------


async def test_the_clock_and_the_account(at: Trial) -> None:
    """The time is the venue's, the account's id is the same at each question, and the key may trade and has a mark."""
    exchange = at.exchange
    assert abs(await exchange.server_time() - datetime.now(UTC)) < timedelta(seconds=30)
    assert await exchange.may_trade() is True
    assert exchange.key_mark
    await place(exchange, limit(at, "c-1", "49000"))
    first = await exchange.account_id()
    assert first
    other = at.another()
    assert (await other.account_id(), other.key_mark) == (first, exchange.key_mark)
    await other.close()


async def test_products(at: Trial) -> None:
    """All, or those named; unknown ones are left out; increments are above zero and bound what is traded."""
    (product,) = await at.exchange.products([at.symbol, at.venue.unknown])
    assert (product.symbol, product.base, product.quote, product.halted) == (at.symbol, "BTC", "USD", False)
    assert min(product.base_increment, product.quote_increment, product.price_increment) > 0
    assert product.base_min <= product.base_max
    assert product.quote_min <= product.quote_max
    assert at.symbol in {item.symbol for item in await at.exchange.products()}
    assert await at.exchange.products([]) == []


async def test_the_touch_and_the_book(at: Trial) -> None:
    """Best first on both sides, not from the future; an unknown symbol is unavailable, not empty."""
    quote = await at.exchange.quote(at.symbol)
    assert (quote.bid, quote.ask) == (D(50000), D(50010))
    book = await at.exchange.book(at.symbol, 5)
    bids, asks = [level.price for level in book.bids], [level.price for level in book.asks]
    assert (bids[0], asks[0]) == (D(50000), D(50010))
    assert (bids, asks) == (sorted(bids, reverse=True)[:5], sorted(asks)[:5])
    assert book.at <= datetime.now(UTC) + timedelta(seconds=2)
    with pytest.raises(Unavailable):
        await at.exchange.quote(at.venue.unknown)


async def test_candles(at: Trial) -> None:
    """Oldest first, each once, within the bounds; a length that the venue doesn't have is an error."""
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    start = end - timedelta(hours=30)
    candles = await at.exchange.candles(at.symbol, 300, start, end)
    starts = [item.start for item in candles]
    assert starts == sorted(set(starts))
    assert len(starts) > 300
    assert start <= starts[0] <= starts[-1] < end
    assert all(item.low <= item.open <= item.high and item.low <= item.close <= item.high for item in candles)
    with pytest.raises(ValueError, match="no candles of 61 s"):
        await at.exchange.candles(at.symbol, 61, end, end)


async def test_fee_rates(at: Trial) -> None:
    """Fractions, for the account and for a symbol."""
    for rates in (await at.exchange.fee_rates(), await at.exchange.fee_rates(at.symbol)):
        assert 0 <= rates.maker <= rates.taker < D("0.1")


# --- orders -------------------------------------------------------------------------------------------------------


async def test_a_body_is_made_once_and_is_plain_json(at: Trial) -> None:
    """The same request has the same body, which survives a way through JSON, and then is the same order."""
    request = limit(at, "c-1", "49000")
    body = at.exchange.order_body(request)
    assert at.exchange.order_body(request) == body == json.loads(json.dumps(body))
    answer = await at.exchange.submit(json.loads(json.dumps(body)))
    assert answer.client_order_id == "c-1"
    with pytest.raises(ValueError, match="above zero"):
        at.exchange.order_body(limit(at, "c-2", "0"))
    with pytest.raises(ValueError, match="at most 36"):
        at.exchange.order_body(limit(at, "x" * 37, "1"))


async def test_a_filled_order_is_the_same_by_every_read(at: Trial) -> None:
    """Order, look-up by our id, list and executions agree on size, value and fees, and the balances follow them."""
    exchange, since = at.exchange, start_of_test()
    order_id = await place(exchange, market(at, "c-1"))
    order = await until(exchange, order_id, lambda item: item.status is VenueStatus.FILLED)
    assert (order.client_order_id, order.symbol, order.side) == ("c-1", at.symbol, Side.BUY)
    assert (order.filled_size, order.filled_value) == (D("0.1"), D(5001))
    assert order.quote_fees + order.base_fees > 0
    found = await exchange.find_order("c-1", at.symbol, since)
    assert found is not None
    assert report(found) == report(order)
    assert await exchange.find_order("c-2", at.symbol, since) is None
    assert [report(item) for item in await exchange.orders(since, [at.symbol])] == [report(order)]
    for fills in (await exchange.fills(exchange_order_id=order_id), await exchange.fills(since=since)):
        assert {item.exchange_order_id for item in fills} == {order_id}
        assert sum(item.size for item in fills) == order.filled_size
        assert sum(item.size * item.price for item in fills) == order.filled_value
        fees = {name: sum(item.fee for item in fills if item.fee_currency == name) for name in ("USD", "BTC")}
        assert (fees["USD"], fees["BTC"]) == (order.quote_fees, order.base_fees)
        assert {item.liquidity for item in fills} == {"TAKER"}

    async def settled() -> bool:
        balances = await exchange.balances()
        dollars, coins = balances["USD"], balances["BTC"]
        return (dollars.total, coins.total) == (
            D(1_000_000) - order.filled_value - order.quote_fees, D(10) + order.filled_size - order.base_fees,
        ) and (dollars.hold, coins.hold) == (D(0), D(0))  # fmt: skip

    await eventually(settled, what="balances after the fill")


async def test_the_fee_is_taken_in_the_quote_currency(at: Trial) -> None:
    """Where the account has enough of it: a buy gives as many coins as it was for."""
    order_id = await place(at.exchange, market(at, "c-1"))
    order = await until(at.exchange, order_id, lambda item: item.status is VenueStatus.FILLED)
    assert order.base_fees == 0
    assert not order.other_fees
    quote = currencies(at.symbol)
    assert quote is not None
    assert {item.fee_currency for item in await at.exchange.fills(exchange_order_id=order_id)} == {quote[1]}


async def test_a_market_buy_for_an_amount_of_money_spends_no_more(at: Trial) -> None:
    """It ends filled, for at most the amount, and has bought something."""
    request = OrderRequest("c-1", at.symbol, Side.BUY, OrderType.MARKET, quote_size=D(1000))
    order = await until(at.exchange, await place(at.exchange, request), lambda item: item.status in ENDED)
    assert order.status is VenueStatus.FILLED
    assert 0 < order.filled_size <= D("0.02")
    assert D(900) < order.filled_value <= D(1000)


async def test_a_resting_order_holds_money_until_it_is_cancelled(at: Trial) -> None:
    """Open, listed and held for; after the cancel it has ended on request, is no longer open, and the money is free."""
    exchange = at.exchange
    order_id = await place(exchange, limit(at, "c-1", "49000"))
    order = await until(exchange, order_id, lambda item: item.status is VenueStatus.OPEN)
    assert (order.filled_size, order.limit_price, order.base_size) == (D(0), D(49000), D("0.1"))
    assert [item.exchange_order_id for item in await exchange.open_orders()] == [order_id]
    assert (await exchange.balances())["USD"].hold >= 4900
    assert (await exchange.cancel(order_id)).verdict is CancelVerdict.ACCEPTED
    order = await until(exchange, order_id, lambda item: item.status in ENDED)
    assert (order.status, order.on_request, order.filled_size) == (VenueStatus.CANCELLED, True, D(0))
    assert await exchange.open_orders() == []
    assert (await exchange.balances())["USD"].hold == 0
    assert (await exchange.cancel(order_id, urgent=True)).verdict is CancelVerdict.ALREADY_DONE


async def test_a_cancel_that_is_queued_can_lose_to_a_fill(at: Trial) -> None:
    """Where the venue says that a cancel's answer is a receipt, what fills before it takes effect counts."""
    if not at.exchange.capabilities.cancel_is_queued:
        pytest.skip("a cancel's answer is final here")
    await at.control.latency(cancel=None)
    order_id = await place(at.exchange, limit(at, "c-1", "49000"))
    assert (await at.exchange.cancel(order_id)).verdict is CancelVerdict.ACCEPTED
    await at.control.fill(order_id, "0.04")
    order = await until(at.exchange, order_id, lambda item: item.filled_size > 0)
    assert order.status not in ENDED
    await at.control.finish_cancel(order_id)
    order = await until(at.exchange, order_id, lambda item: item.status in ENDED)
    assert (order.status, order.filled_size, order.filled_value) == (VenueStatus.CANCELLED, D("0.04"), D(1960))


async def test_a_cancel_after_the_fill_says_that_it_is_done(at: Trial) -> None:
    """The order's own state says how it ended."""
    order_id = await place(at.exchange, market(at, "c-1"))
    await until(at.exchange, order_id, lambda item: item.status is VenueStatus.FILLED)
    assert (await at.exchange.cancel(order_id)).verdict is CancelVerdict.ALREADY_DONE


async def test_an_order_that_nobody_made(at: Trial) -> None:
    """Its look-up is None, and its cancel does not say that it was taken."""
    assert await at.exchange.order(at.venue.strange_id) is None
    verdict = (await at.exchange.cancel(at.venue.strange_id)).verdict
    assert verdict in (CancelVerdict.UNKNOWN_ORDER, CancelVerdict.ALREADY_DONE)
    assert await at.exchange.fills(exchange_order_id=at.venue.strange_id) == []


async def test_an_order_that_can_not_fill_at_once_ends(at: Trial) -> None:
    """Immediate-or-cancel and fill-or-kill orders that nobody meets end without a fill, and not on request."""
    for name, life in (("c-1", TimeInForce.IOC), ("c-2", TimeInForce.FOK)):
        order: VenueOrder | None
        try:
            order_id = await place(at.exchange, limit(at, name, "49000", time_in_force=life))
        except CommandRefused:
            continue
        except OutcomeUnknown:
            # Told as an end at once: the order was made, and is found with how it ended.
            order = await at.exchange.find_order(name, at.symbol, start_of_test())
            assert order is not None
            order_id = order.exchange_order_id
        order = await until(at.exchange, order_id, lambda item: item.status in ENDED)
        assert (order.filled_size, order.on_request) == (D(0), False)
    assert (await at.exchange.balances())["USD"].total == 1_000_000


async def test_a_post_only_order_never_takes(at: Trial) -> None:
    """At the other side's price it is refused or ends; away from it, it rests."""
    try:
        order_id = await place(at.exchange, limit(at, "c-1", "50010", post_only=True))
        order = await until(at.exchange, order_id, lambda item: item.status in ENDED)
        assert (order.filled_size, order.on_request) == (D(0), False)
    except (CommandRefused, OutcomeUnknown) as problem:
        assert problem.code  # noqa: PT017 - either way is right
    order_id = await place(at.exchange, limit(at, "c-2", "49000", post_only=True))
    await until(at.exchange, order_id, lambda item: item.status is VenueStatus.OPEN)
    assert (await at.exchange.balances())["BTC"].total == 10


async def test_a_stop_rests_and_is_cancelled(at: Trial) -> None:
    """A stop-limit below the market is taken, found by both ids, among the open orders, and can be cancelled."""
    exchange = at.exchange
    stop = OrderRequest(
        "c-1", at.symbol, Side.SELL, OrderType.STOP_LIMIT, base_size=D(1), limit_price=D(44000), stop_price=D(45000)
    )
    order_id = await place(exchange, stop)
    order = await until(exchange, order_id, lambda item: item.status in (VenueStatus.OPEN, VenueStatus.PENDING))
    assert (order.client_order_id, order.side) == ("c-1", Side.SELL)
    found = await exchange.find_order("c-1", at.symbol, start_of_test())
    assert found is not None
    assert found.exchange_order_id == order_id
    assert order_id in {item.exchange_order_id for item in await exchange.open_orders()}
    assert order_id in {item.exchange_order_id for item in await exchange.orders(start_of_test())}
    assert (await exchange.cancel(order_id)).verdict is CancelVerdict.ACCEPTED
    order = await until(exchange, order_id, lambda item: item.status in ENDED)
    assert (order.status, order.filled_size) == (VenueStatus.CANCELLED, D(0))


# --- answers ------------------------------------------------------------------------------------------------------


async def test_a_repeated_id_is_never_a_second_order(at: Trial) -> None:
    """It is answered with the first order, or as an order that exists, as the capabilities say; there is one order."""
    exchange = at.exchange
    body = exchange.order_body(limit(at, "c-1", "49000"))
    first = await exchange.submit(body)
    if exchange.capabilities.repeated_id is RepeatedId.RETURNS_FIRST:
        assert (await exchange.submit(body)).exchange_order_id == first.exchange_order_id
    else:
        with pytest.raises(OutcomeUnknown) as caught:
            await exchange.submit(body)
        assert type(caught.value) is OutcomeUnknown
    found = await exchange.find_order("c-1", at.symbol, start_of_test())
    assert found is not None
    assert found.exchange_order_id == first.exchange_order_id
    assert len(await exchange.orders(start_of_test())) == 1


async def test_too_little_money_is_a_refusal_by_name(at: Trial) -> None:
    """An order that the account can't pay is refused, or ends at once; the reason is one that exits understand."""
    try:
        order_id = await place(at.exchange, limit(at, "c-1", "50000", size="1000"))
        order = await until(at.exchange, order_id, lambda item: item.status in ENDED)
        assert (order.status, order.reason in LACK_OF_FUNDS) == (VenueStatus.FAILED, True)
    except CommandRefused as problem:
        assert problem.code in LACK_OF_FUNDS  # noqa: PT017 - either way is right


async def test_an_unknown_product_is_a_refusal(at: Trial) -> None:
    """Nothing of the kind is traded."""
    request = OrderRequest("c-1", at.venue.unknown, Side.BUY, OrderType.MARKET, quote_size=D(100))
    with pytest.raises(CommandRefused):
        await place(at.exchange, request)


async def test_a_wrong_key_is_an_auth_failure(at: Trial, tmp_path: Path) -> None:
    """For commands it was not taken, for reads nothing is known; both say why."""
    stranger = at.wrong_key(tmp_path)
    with pytest.raises(NotAccepted) as command:
        await place(stranger, limit(at, "c-1", "49000"))
    with pytest.raises(Unavailable) as read:
        await stranger.balances()
    assert (command.value.code, read.value.code) == ("AUTH_FAILURE", "AUTH_FAILURE")
    assert await at.exchange.orders(start_of_test()) == []
    await stranger.close()


@pytest.mark.parametrize(
    ("kind", "settings", "error", "taken"),
    [
        ("accepted_cut", {}, OutcomeUnknown, True), ("accepted_silent", {"delay": 3.0}, OutcomeUnknown, True),
        ("not_accepted_cut", {}, OutcomeUnknown, False), ("rate_limited", {}, NotAccepted, False),
        ("server_error", {}, OutcomeUnknown, False), ("accepted_server_error", {}, OutcomeUnknown, True),
        ("malformed_answer", {}, OutcomeUnknown, True), ("slow", {"delay": 3.0}, OutcomeUnknown, True),
    ],
)  # fmt: skip
async def test_every_fault_of_a_submit(
    at: Trial, kind: str, settings: dict[str, float], error: type[ExchangeError], taken: bool
) -> None:
    """The outcome is unknown whenever the order may exist, and the venue's records then say whether it does."""
    exchange = at.another(read_timeout=0.5)
    await at.control.fault(kind, at.venue.order_path, **settings)
    with pytest.raises(error) as caught:
        await place(exchange, limit(at, "c-1", "49000"))
    assert type(caught.value) is error
    await exchange.close()

    async def found() -> VenueOrder | None:
        return await at.exchange.find_order("c-1", at.symbol, start_of_test())

    if taken:
        assert (await eventually(found, what="the order that was taken")).client_order_id == "c-1"
    else:
        assert await found() is None
        await place(at.exchange, limit(at, "c-1", "49000"))
    assert len(await at.exchange.orders(start_of_test())) == 1


@pytest.mark.parametrize("ahead", [600.0, -600.0])
async def test_a_venue_whose_clock_is_minutes_off_takes_orders(at: Trial, ahead: float) -> None:
    """Requests are made by the venue's time, once it is known; one that it refused for its time was not taken."""
    await at.control.skew(ahead)
    order_id = await place(at.exchange, limit(at, "c-1", "49000"))
    assert [item.exchange_order_id for item in await at.exchange.open_orders()] == [order_id]


# --- streams ------------------------------------------------------------------------------------------------------


def merged(reader: Reader[Any], order_id: str) -> Report:
    """What the stream has told of an order, as the ledger would know it."""
    seen = Report(AttemptStatus.SUBMITTING)
    for event in reader.of(OrderEvent):
        if event.order.exchange_order_id == order_id:
            seen = merge(seen, report(event.order))
    return seen


async def test_the_user_stream_begins_with_what_is_open(at: Trial) -> None:
    """`Connected`, the open orders as a snapshot, and its end with their number."""
    ids = {await place(at.exchange, limit(at, f"c-{number}", f"{40000 + number}")) for number in range(3)}
    async with reading(at.exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(SnapshotComplete)))
        assert isinstance(reader.events[0], Connected)
        assert {event.order.exchange_order_id for event in reader.of(OrderEvent) if event.snapshot} == ids
        assert reader.of(SnapshotComplete) == [SnapshotComplete(3)]


async def test_stream_and_rest_say_the_same(at: Trial) -> None:
    """Orders that fill, in parts and at once, and that are cancelled: what the stream told merges into what REST
    says, fees included."""
    exchange = at.exchange
    async with reading(exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(SnapshotComplete)))
        resting = await place(exchange, limit(at, "c-1", "49000"))
        await at.control.fill(resting, "0.03")
        await at.control.fill(resting, "0.02")
        taken = await place(exchange, market(at, "c-2", side=Side.SELL))
        await exchange.cancel(resting)
        for order_id in (resting, taken):
            known = report(await until(exchange, order_id, lambda item: item.status in ENDED))
            await reader.until(lambda known=known, order_id=order_id: merged(reader, order_id) == known)  # type: ignore[misc]
            assert known.totals.size in (D("0.05"), D("0.1"))
            assert known.totals.quote_fees + known.totals.base_fees > 0


@pytest.mark.parametrize("action", ["drop", "close"])
async def test_a_lost_user_stream_comes_back_and_rest_has_what_it_missed(at: Trial, action: str) -> None:
    """It says that it is gone and that it is back; orders that were made, filled and cancelled meanwhile are listed."""
    exchange, since = at.exchange, start_of_test()
    async with reading(exchange.user_stream()) as reader:
        await reader.until(lambda: bool(reader.of(SnapshotComplete)))
        open_before = await place(exchange, limit(at, "c-1", "49000"))
        await at.control.fault("refused", "user", count=2)
        assert await at.control.sockets(action, "user") == 1
        await reader.until(lambda: bool(reader.of(Disconnected)))
        await at.control.fill(open_before, "0.1")
        filled = await place(exchange, market(at, "c-2"))
        resting = await place(exchange, limit(at, "c-3", "48000"))
        await reader.until(lambda: len(reader.of(SnapshotComplete)) == 2)
        assert [event.failures for event in reader.of(Disconnected)] == [0, 1, 2]
        listed = {item.exchange_order_id: item for item in await exchange.orders(since)}
        assert {name: item.status for name, item in listed.items()} == {
            open_before: VenueStatus.FILLED, filled: VenueStatus.FILLED, resting: VenueStatus.OPEN,
        }  # fmt: skip
        assert all(item.quote_fees + item.base_fees > 0 for name, item in listed.items() if name != resting)
        # And the new connection works.
        assert (await exchange.cancel(resting)).verdict is CancelVerdict.ACCEPTED
        await reader.until(lambda: merged(reader, resting).status is AttemptStatus.CANCELLED)


async def test_a_stream_with_a_wrong_key_is_down_and_says_so(at: Trial, tmp_path: Path) -> None:
    """It never counts as connected, and its failures add up."""
    stranger = at.wrong_key(tmp_path)
    reader = Reader(stranger.user_stream())
    await reader.until(lambda: len(reader.of(Disconnected)) >= 3)
    assert reader.of(Connected) == []
    assert [event.failures for event in reader.of(Disconnected)][:3] == [1, 2, 3]
    await reader.close()
    await stranger.close()


async def test_market_channels(at: Trial) -> None:
    """Ticker, trades, candles and book of the symbol that was asked for, by the names of the port."""
    stream = at.exchange.market_stream([at.symbol], ["ticker", "trades", "candles", "book"])
    async with reading(stream) as reader:
        await reader.until(lambda: bool(reader.of(BookUpdate)))
        await at.control.set_price(at.symbol, "51000", "51010")
        await at.control.trade(at.symbol, "51010", "0.5", "BUY")
        await reader.until(lambda: any(item.bid == 51000 and item.ask == 51010 for item in reader.of(Ticker)))
        await reader.until(lambda: any(item.price == 51010 for item in reader.of(PublicTrade)))
        await reader.until(lambda: bool(reader.of(CandleUpdate)))
        assert {item.symbol for kind in (Ticker, PublicTrade, BookUpdate) for item in reader.of(kind)} == {at.symbol}
        assert {item.candle.symbol for item in reader.of(CandleUpdate)} == {at.symbol}
        assert reader.of(BookUpdate)[0].snapshot
        (trade,) = [item for item in reader.of(PublicTrade) if item.price == 51010]
        assert trade.maker_side is Side.SELL
    with pytest.raises(ValueError, match="unknown channel nothing"):
        at.exchange.market_stream([at.symbol], ["nothing"])
    with pytest.raises(ValueError, match="at least one symbol"):
        at.exchange.market_stream([], ["ticker"])


async def test_a_symbol_that_the_venue_does_not_have_is_named(at: Trial) -> None:
    """Its stream is down, and the reason has its name, so that it can be left out."""
    reader = Reader(at.exchange.market_stream([at.venue.unknown], ["ticker", "candles"]))
    await reader.until(lambda: bool(reader.of(Disconnected)))
    assert at.venue.unknown in reader.of(Disconnected)[0].reason
    await reader.close()


async def test_many_at_once(at: Trial) -> None:
    """Thirty orders and their cancels side by side: each has its own answer, and all have ended."""
    answers = await asyncio.gather(*(place(at.exchange, limit(at, f"c-{n}", f"{40000 + n}")) for n in range(30)))
    assert len(set(answers)) == 30
    assert len(await at.exchange.open_orders()) == 30
    verdicts = await asyncio.gather(*(at.exchange.cancel(order_id) for order_id in answers))
    assert {answer.verdict for answer in verdicts} == {CancelVerdict.ACCEPTED}

    async def none_open() -> bool:
        return not await at.exchange.open_orders()

    await eventually(none_open, what="all cancels")
