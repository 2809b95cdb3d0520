"""A clock that is wrong, in both directions: tokens follow the exchange's time, by REST and by stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from coinbase import jwt_generator
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from domain.orders import OrderType, Side, TimeInForce, VenueStatus
from exchange.clock import ExchangeClock
from exchange.coinbase import ApiKey, CoinbaseConfig, CoinbaseExchange
from exchange.coinbase.parse import moment_of
from exchange.paper import PaperConfig, PaperControl, PaperExchange
from exchange.paper.coinbase.requests import Call
from exchange.paper.coinbase.rest import Rest
from exchange.paper.coinbase.rest_market import MarketViews
from exchange.port import Connected, Disconnected, NotAccepted, OrderRequest, StreamEvent, Unavailable
from exchange.reading import MessageError
from exchange.streams import ReconnectSettings
from tests.support.waiting import SLACK, eventually

D = Decimal
BTC = "BTC-USD"
SKEWS = (20.0, -20.0, 300.0, -300.0)


class Dates:
    """The dates of refusals and failed reads, by their count so far; None for the true time. `time` is the same for the
    public time: seconds off our clock.
    """

    def __init__(self) -> None:
        self.said = 0
        self.says: Callable[[int], str] | None = None
        self.time: Callable[[], float] | None = None


@pytest.fixture
def dates(monkeypatch: pytest.MonkeyPatch) -> Dates:
    """The dates of the paper exchange's errors, and its public time, as a gateway in front of it may change them."""
    dates, truth, time = Dates(), Rest.date, MarketViews.time

    async def date(rest: Rest, request: web.Request, response: web.StreamResponse) -> None:
        await truth(rest, request, response)
        if dates.says is not None and response.status in (401, 503):
            response.headers["Date"] = dates.says(dates.said)
            dates.said += 1

    def public_time(views: MarketViews, call: Call) -> object:
        told = dict(time(views, call))  # type: ignore[call-overload]
        if dates.time is None:
            return told
        return told | {"epochMillis": str(int((datetime.now(UTC).timestamp() + dates.time()) * 1000))}

    monkeypatch.setattr(Rest, "date", date)
    monkeypatch.setattr(MarketViews, "time", public_time)  # before it starts, so that its routes have it
    return dates


@pytest.fixture
async def paper(dates: Dates) -> AsyncIterator[PaperExchange]:
    """A paper exchange whose market moves only on request, with dates that may be set, too."""
    config = PaperConfig(step=True, products=[BTC], balances={"USD": D(1_000_000)}, private_rate=0, public_rate=0)
    async with PaperExchange(config) as paper:
        yield paper


@pytest.fixture
async def control(paper: PaperExchange) -> AsyncIterator[PaperControl]:
    """Controls the paper exchange."""
    async with PaperControl(paper.addresses()) as control:
        await control.set_price(BTC, "50000", "50010")
        yield control


def adapter(paper: PaperExchange, **changes: Any) -> CoinbaseExchange:
    """An adapter that doesn't know any clock yet."""
    settings: dict[str, Any] = {
        "rest_address": paper.rest_address,
        "stream_url": paper.stream_url,
        "user_stream_url": paper.user_stream_url,
        "ca_file": paper.ca_file,
        "key_file": paper.key_file,
        "private_rate": 0,
        "threads": 8,
        "streams": ReconnectSettings(backoff_first=0.02, backoff_cap=0.1, first_frame=2.0, open_timeout=2.0),
    }
    return CoinbaseExchange(CoinbaseConfig(**(settings | changes)))


@pytest.fixture
async def exchange(paper: PaperExchange, control: PaperControl) -> AsyncIterator[CoinbaseExchange]:
    """An adapter to the paper exchange, closed afterwards."""
    exchange = adapter(paper)
    yield exchange
    await exchange.close()


def shifted(by: Callable[[int], float | None]) -> Callable[[int], str]:
    """Dates this many seconds off our clock; None for one that can't be parsed."""

    def says(number: int) -> str:
        seconds = by(number)
        return "-" if seconds is None else format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)

    return says


def body(exchange: CoinbaseExchange, client_order_id: str) -> Any:
    """A limit buy far below the market."""
    request = OrderRequest(client_order_id, BTC, Side.BUY, OrderType.LIMIT, base_size=D("0.1"), limit_price=D("40000"))
    return exchange.order_body(request)


@pytest.mark.parametrize("seconds", SKEWS)
async def test_orders_are_taken_once_and_found_whatever_the_clock(
    exchange: CoinbaseExchange, control: PaperControl, seconds: float
) -> None:
    """The first command finds the difference, all go through, each arrives once, and a look-up by our time finds it."""
    await control.skew(seconds)
    before = datetime.now(UTC)
    placed = await asyncio.gather(*(exchange.submit(body(exchange, f"c-{number}")) for number in range(6)))
    assert len({answer.exchange_order_id for answer in placed}) == 6
    assert sorted(str(entry["client_order_id"]) for entry in await control.journal()) == [f"c-{n}" for n in range(6)]
    found = await exchange.find_order("c-0", BTC, before - timedelta(seconds=1))
    assert found is not None
    assert found.exchange_order_id == placed[0].exchange_order_id
    assert found.created_at is not None
    assert abs((found.created_at - before).total_seconds() - seconds) < 2


@pytest.mark.parametrize("seconds", [*SKEWS, 90.0, -90.0])
@pytest.mark.parametrize("fault", ["server_error", "slow"])
async def test_orders_are_taken_whatever_the_clock_while_no_read_works(
    exchange: CoinbaseExchange, control: PaperControl, seconds: float, fault: str
) -> None:
    """Every GET fails, or hangs: the refusal's own date shows the difference, and each order arrives once."""
    await control.skew(seconds)
    await control.fault(fault, "GET *", count=None, delay=30)
    for number in range(3):
        async with asyncio.timeout(SLACK * 8):
            await exchange.submit(body(exchange, f"c-{number}"), urgent=True)
    await control.clear_faults()
    assert sorted(str(entry["client_order_id"]) for entry in await control.journal()) == ["c-0", "c-1", "c-2"]


async def test_the_user_stream_connects_whatever_the_clock_while_reads_fail(
    exchange: CoinbaseExchange, control: PaperControl
) -> None:
    """The answer of a failed clock check has a date, and the next subscription is accepted."""
    await control.skew(-90)
    await control.fault("server_error", "GET *", count=None)
    stream = exchange.user_stream()
    async with asyncio.timeout(SLACK * 20):
        async for event in stream:
            if isinstance(event, Connected):
                break
    await stream.aclose()


@pytest.mark.parametrize(
    ("date", "before", "after"), [(1000, 0.0, 0.0), (1004, 0.0, 0.0), (1090, 0.0, 90.0), (910, 0.0, -90.0),
                                  (1089, 90.5, 90.5), (1000, 90.5, 0.0)],
)  # fmt: skip
def test_a_date_counts_only_where_it_is_far_from_what_is_known(date: int, before: float, after: float) -> None:
    """Dates are in whole seconds, so an exact time that was accepted is kept beside them."""
    clock = ExchangeClock(lambda: 1000.0)
    clock.look(lambda: datetime.fromtimestamp(1000 + before, UTC))
    clock.accepted(before)
    assert clock.refused(before, datetime.fromtimestamp(date, UTC)) is (before != after)
    assert clock.offset == after


@pytest.mark.parametrize(
    ("dates", "tried"),
    [([None, None], [0.0, 0.0]), ([90.0], [90.0]), ([3.0], [0.0]), ([90.0, 90.0, 90.0], [90.0, 0.0, 90.0]),
     ([90.0, -3600.0, 300.0], [90.0, 0.0, 300.0])],
)  # fmt: skip
def test_a_guess_that_is_refused_is_followed_by_what_was_right(dates: list[float | None], tried: list[float]) -> None:
    """A date is tried at once, and the last right offset after it, whatever the next date is."""
    clock = ExchangeClock(lambda: 1_800_000_000.0)
    for dated, then in zip(dates, tried, strict=True):
        said = None if dated is None else datetime.fromtimestamp(1_800_000_000 + dated, UTC)
        clock.refused(clock.offset, said)
        assert clock.offset == then


DATES = st.one_of(st.none(), st.floats(-1e9, 1e9), st.sampled_from([-3600.0, 0.0, 90.0, 3600.0]))


@given(st.lists(DATES, max_size=12))
def test_an_order_is_tried_by_a_right_clock_whatever_the_dates_say(dates: list[float | None]) -> None:
    """Our own clock is right: of two consecutive refusals one is of a token made with it, and no wrong date by months
    is tried."""
    clock = ExchangeClock(lambda: 1_800_000_000.0)
    before = 0.0
    for dated in dates:
        used = clock.offset
        assert 0.0 in (before, used)
        assert abs(used) <= 30 * 86_400
        clock.refused(used, None if dated is None else datetime.fromtimestamp(1_800_000_000 + dated, UTC))
        before = used


@given(st.lists(DATES, max_size=12), st.floats(-86_400, 86_400))
def test_a_clock_that_is_off_is_learnt_by_two_true_dates(dates: list[float | None], off: float) -> None:
    """After any earlier wrong dates, and whatever else the key is refused for."""
    clock = ExchangeClock(lambda: 1_800_000_000.0)
    for dated in [*dates, off, off]:
        used = clock.offset
        if dated == off and abs(used - off) < 5:
            return
        clock.refused(used, None if dated is None else datetime.fromtimestamp(1_800_000_000 + dated, UTC))
    assert abs(clock.offset - off) < 5.001


TOLD = st.one_of(st.floats(-1e9, 1e9), st.floats(-200, 200), st.sampled_from([-3600.0, -100.0, 3600.0]))


@given(st.lists(st.tuples(st.one_of(TOLD, st.just("nearby")), st.one_of(st.none(), st.just(0.0))), max_size=40))
def test_of_two_orders_one_is_sent_by_a_right_clock_whatever_the_public_time_says(
    said: list[tuple[float | str, float | None]],
) -> None:
    """Our own clock is right. However wrong the public time is, whether it changes each time or drifts by a little
    more, and whether refusals have a date or not: no two consecutive tokens are refused.
    """
    clock, refused = ExchangeClock(lambda: 1_800_000_000.0), False
    for told, dated in said:
        moment = clock.offset + 4.9 if told == "nearby" else float(told)
        clock.look(lambda moment=moment: datetime.fromtimestamp(1_800_000_000 + moment, UTC))  # type: ignore[misc]
        used = clock.offset
        if -115 < used < 5:  # the tolerance of a token's window
            clock.accepted(used)
            refused = False
            continue
        assert not refused
        refused = True
        clock.refused(used, None if dated is None else datetime.fromtimestamp(1_800_000_000 + dated, UTC))


@given(st.lists(st.tuples(TOLD, st.booleans()), max_size=20), st.floats(-86_400, 86_400))
def test_a_clock_that_is_off_is_learnt_by_the_public_time_whatever_was_said_before(
    said: list[tuple[float, bool]], off: float
) -> None:
    """No refusal has a date: once the public time is true, at most the second token after it uses the exchange's
    clock."""
    clock = ExchangeClock(lambda: 1_800_000_000.0)
    for told, foreign in [*said, (off, False), (off, False), (off, False)]:
        clock.look(lambda told=told: datetime.fromtimestamp(1_800_000_000 + told, UTC))  # type: ignore[misc]
        used = clock.offset
        if -115 < used - off < 5 and not foreign:
            clock.accepted(used)
        else:
            clock.refused(used, None)
    assert -115 < clock.offset - off < 5


@pytest.mark.parametrize("milliseconds", ["1e40", "1e17", "-1e17"])
def test_a_time_that_no_calendar_has_is_unreadable(milliseconds: str) -> None:
    """A number of milliseconds may be anything."""
    with pytest.raises(MessageError):
        moment_of({"epochMillis": milliseconds})


GARBAGE = "Mon, 29 Nov 2026 00:00:00 +99999999999999999999"


@pytest.mark.parametrize("date", [GARBAGE, "Mon, 29 Nov 0001 00:00:00 +2359", "Fri, 29 Nov 9999 00:00:00 GMT", "-", ""])
async def test_a_date_that_tells_no_time_is_none(
    exchange: CoinbaseExchange, control: PaperControl, dates: Dates, date: str
) -> None:
    """The refusal becomes one of the port's errors, the clock is unchanged, and the next order is accepted."""
    dates.says = lambda _: date
    await control.fault("server_error", "GET *", count=None)
    await control.fault("server_error", "POST /orders", count=1, status=401)
    with pytest.raises(NotAccepted) as caught:
        await exchange.submit(body(exchange, "c-0"), urgent=True)
    assert caught.value.code == "AUTH_FAILURE"
    assert abs(exchange._rest.clock.offset) < 5
    await exchange.submit(body(exchange, "c-1"), urgent=True)


@pytest.mark.parametrize("reads", ["fail", "work"])
@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
@pytest.mark.parametrize("then", ["true", "none", "same"])
async def test_a_wrong_date_stops_nobody(
    exchange: CoinbaseExchange, control: PaperControl, dates: Dates, reads: str, seconds: float, then: str
) -> None:
    """A key refused for another reason by an answer with a wrong date: the next order is accepted, also if later dates
    are unreadable or wrong by the same hour, and if the clock was found right a moment ago."""
    if reads == "fail":
        await control.fault("server_error", "GET *", count=None)
    later = {"true": 0.0, "none": None, "same": seconds}[then]
    for number in range(3):
        dates.says = lambda _: "-"
        await control.fault("server_error", "POST /orders", count=1, status=401)
        with pytest.raises(NotAccepted):
            await exchange.submit(body(exchange, f"a-{number}"), urgent=True)
        dates.said, dates.says = 0, shifted(lambda said: later if said else seconds)
        await control.fault("server_error", "POST /orders", count=1, status=401)
        with contextlib.suppress(NotAccepted):  # the public time may arrive before the retry
            await exchange.submit(body(exchange, f"b-{number}"), urgent=True)
        await exchange.submit(body(exchange, f"c-{number}"), urgent=True)


@pytest.mark.parametrize("seconds", [-3600.0, 90.0, 3600.0, 1e9])
@pytest.mark.parametrize("fault", ["", "server_error"])
async def test_a_wrong_public_time_stops_nobody(
    exchange: CoinbaseExchange,
    control: PaperControl,
    dates: Dates,
    seconds: float,
    fault: str,
) -> None:
    """The public time is always wrong, refusals have no date, other reads work or fail: each order is accepted, orders
    end when they should, and the user stream connects.
    """
    dates.time = lambda: seconds
    dates.says = lambda _: "-"
    if fault:
        await control.fault(fault, "GET /accounts", count=None)
    for number in range(4):
        await exchange.server_time()
        await exchange.submit(body(exchange, f"c-{number}"), urgent=True)
    stream = exchange.user_stream()
    async with asyncio.timeout(SLACK * 10):
        async for event in stream:
            if isinstance(event, Connected):
                break
    await stream.aclose()
    await exchange.submit(body(exchange, "c-4"), urgent=True)
    assert abs(exchange._rest.clock.offset) < 5


@pytest.mark.parametrize("skew", [-90.0, 3600.0])
@pytest.mark.parametrize("lie", [-3600.0, 7200.0])
async def test_a_true_date_is_enough_beside_a_wrong_public_time(
    exchange: CoinbaseExchange, control: PaperControl, dates: Dates, skew: float, lie: float
) -> None:
    """Our clock is wrong, and so is the public time, requested before each order: each order is accepted."""
    await control.skew(skew)
    dates.time = lambda: lie
    for number in range(6):
        await exchange.server_time()
        await exchange.submit(body(exchange, f"c-{number}"), urgent=True)
    assert abs(exchange._rest.clock.offset - skew) < 5


async def test_an_order_is_not_kept_by_a_look_that_hangs(paper: PaperExchange, control: PaperControl) -> None:
    """Its token is refused for another reason than the clock, while every read hangs: the error is reported before."""
    exchange = adapter(paper, read_timeout=60.0)
    await control.fault("slow", "GET *", count=None, delay=10)
    reading = asyncio.create_task(exchange.server_time())
    await control.fault("server_error", "POST /orders", count=1, status=401)
    with pytest.raises(NotAccepted):
        await exchange.submit(body(exchange, "c-0"), urgent=True)
    assert not reading.done()
    await exchange.submit(body(exchange, "c-1"), urgent=True)
    assert not reading.done()
    reading.cancel()
    await control.clear_faults()
    await exchange.close()


@pytest.mark.parametrize("seconds", [-90.0, 3600.0])
async def test_a_clock_that_is_off_is_learnt_after_wrong_dates(
    exchange: CoinbaseExchange, control: PaperControl, dates: Dates, seconds: float
) -> None:
    """No read works and a refusal's date was wrong: the first true one is used."""
    await control.skew(seconds)
    await control.fault("server_error", "GET *", count=None)
    dates.says = shifted(lambda _: 7200.0)
    with pytest.raises(NotAccepted):
        await exchange.submit(body(exchange, "c-0"), urgent=True)
    dates.says = None
    for number in range(1, 4):
        await exchange.submit(body(exchange, f"c-{number}"), urgent=True)
    assert abs(exchange._rest.clock.offset - seconds) < 5


@pytest.mark.parametrize("seconds", SKEWS)
async def test_the_user_stream_connects_whatever_the_clock(
    exchange: CoinbaseExchange, control: PaperControl, seconds: float
) -> None:
    """A subscription refused for its token's time is followed by an accepted one, without any REST call of ours."""
    await control.skew(seconds)
    events: list[StreamEvent] = []
    stream = exchange.user_stream()
    async with asyncio.timeout(SLACK * 8):
        async for event in stream:
            events.append(event)
            if isinstance(event, Connected):
                break
    await stream.aclose()
    assert sum(isinstance(event, Disconnected) for event in events) <= 3


@pytest.mark.parametrize("seconds", [*SKEWS, 60.0, -60.0])
async def test_an_order_with_an_end_lives_as_long_as_meant_whatever_the_clock(
    exchange: CoinbaseExchange, control: PaperControl, seconds: float
) -> None:
    """Its end is by the exchange's clock, learned by each check, also if no token fails because of it."""
    await control.skew(seconds)

    async def learnt() -> bool:
        await exchange.server_time()
        return abs(exchange._rest.clock.offset - seconds) < 5

    await eventually(learnt, what="the exchange's clock is known")
    end = datetime.now(UTC) + timedelta(seconds=45)
    request = OrderRequest(
        "c-gtd", BTC, Side.BUY, OrderType.LIMIT, base_size=D("0.1"), limit_price=D("40000"),
        time_in_force=TimeInForce.GTD, end_time=end,
    )  # fmt: skip
    placed = await exchange.submit(exchange.order_body(request))
    order = await exchange.order(placed.exchange_order_id)
    assert order is not None
    assert order.status is VenueStatus.OPEN
    told = datetime.fromisoformat(order.raw["order_configuration"]["limit_limit_gtd"]["end_time"])
    assert abs((told - end).total_seconds() - seconds) < 5


async def test_a_clock_that_changes_under_way_is_followed(exchange: CoinbaseExchange, control: PaperControl) -> None:
    """Ahead, behind, right again: reads and commands continue, and a large difference is logged once each time."""
    with capture_logs() as said:
        for number, seconds in enumerate((300.0, -300.0, 0.0, 300.0)):
            await control.skew(seconds)
            await exchange.balances()
            await exchange.submit(body(exchange, f"c-{number}"))
            await exchange.fee_rates()
    assert [entry["event"] for entry in said] == ["clock_skew", "clock_skew"]
    assert abs(said[0]["seconds"] - 300) < 2  # a date is in whole seconds
    assert " s ahead of" in said[0]["sentence"]
    assert said[0]["log_level"] == "warning"


async def test_the_clock_is_looked_at_now_and_then(paper: PaperExchange, control: PaperControl) -> None:
    """A skew that fails no token is learned by checks beside the reads, so that a growing one never gets that far."""
    exchange = adapter(paper, clock_look_seconds=0.05)
    await control.skew(-3)

    async def learnt() -> None:
        while exchange._rest.clock.offset > -2:
            await exchange.fee_rates()

    await asyncio.wait_for(learnt(), SLACK * 5)
    await exchange.close()


async def test_a_refused_key_is_not_sent_again_and_again(paper: PaperExchange, control: PaperControl) -> None:
    """With a right clock a 401 is the answer: one check of the clock, nothing is sent again."""
    private = ApiKey.from_file(paper.key_file).secret
    exchange = adapter(paper, key_file=None, key_name="organizations/x/apiKeys/y", key_secret=private)
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await exchange.balances()
        assert caught.value.code == "AUTH_FAILURE"
    assert abs(exchange._rest.clock.offset) < 1
    await exchange.close()


def test_tokens_are_the_official_clients_but_for_their_time(paper_key: Path) -> None:
    """Same header and claims as from the official client; only the window begins 5 s earlier, and follows `now`."""
    key = ApiKey.from_file(paper_key)
    official = jwt_generator.build_rest_jwt("GET host/path", key.name, key.secret)
    ours = key.token(1_790_000_000.7, "GET host/path")
    header = jwt.get_unverified_header(ours)
    assert set(header) == set(jwt.get_unverified_header(official))
    assert (header["alg"], header["kid"], len(header["nonce"])) == ("ES256", key.name, 64)
    theirs, claims = claims_of(official), claims_of(ours)
    assert set(claims) == set(theirs)
    assert (claims["nbf"], claims["exp"]) == (1_789_999_995, 1_790_000_115)
    assert (claims["sub"], claims["iss"], claims["uri"]) == (key.name, "cdp", "GET host/path")
    assert "uri" not in claims_of(key.token(0.0))


def claims_of(token: str) -> dict[str, Any]:
    """A token's claims, without checks."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


@pytest.fixture
async def paper_key(paper: PaperExchange) -> Path:
    """A key file in the official format."""
    return paper.key_file


def times(*values: float) -> Callable[[], float]:
    """A clock with these values in turn."""
    left = list(values)
    return lambda: left.pop(0)


@pytest.mark.parametrize(
    ("sent", "received", "theirs", "offset"),
    [(100.0, 100.0, 120, 20.0), (100.0, 102.0, 101, 0.0), (100.0, 104.0, 402, 300.0), (100.0, 106.0, 500, 0.0),
     (100.0, 90.0, 500, 0.0)],
)  # fmt: skip
def test_the_offset_is_taken_at_the_middle_of_the_way(sent: float, received: float, theirs: int, offset: float) -> None:
    """An answer that took too long, or during which our own clock was set back, is ignored."""
    clock = ExchangeClock(times(sent, received))
    clock.look(lambda: datetime.fromtimestamp(theirs, UTC))
    assert clock.offset == offset
