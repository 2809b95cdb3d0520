"""The paper exchange's REST interface for any client: access, rates, and time."""

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from coinbase.jwt_generator import build_rest_jwt
from coinbase.rest import RESTClient

from exchange.paper import Generated, Live, PaperConfig, PaperControl, PaperExchange, PriceFile
from exchange.paper.testing import StreamClient
from tests.support.waiting import SLACK

PREFIX = "/api/v3/brokerage"
BTC = "BTC-USD"
PRODUCTS_FILE = Path(__file__).parents[1] / "data" / "products.json"


class Raw:
    """Plain HTTPS calls, signed if a key file is given."""

    def __init__(self, paper: PaperExchange, key_file: Path | None = None) -> None:
        self._address = paper.rest_address
        self._key = json.loads(key_file.read_text(encoding="utf-8")) if key_file else None
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, uri: str = "", **more: Any) -> tuple[int, str, Any]:
        """Status, text and headers of one call; `uri` signs for something else."""
        headers = {}
        if self._key:
            signed = uri or f"{method} {self._address}{PREFIX}{path.partition('?')[0]}"
            headers["Authorization"] = f"Bearer {build_rest_jwt(signed, self._key['name'], self._key['privateKey'])}"
        url = f"https://{self._address}{PREFIX}{path}"
        async with self._session.request(method, url, headers=headers, json=body, **more) as response:
            return response.status, await response.text(), response.headers


async def test_who_may_call() -> None:
    """No token, a token for another path, a view-only key and an Ed25519 key: 401, 401, 403 on trading, 200."""
    async with PaperExchange(PaperConfig(step=True)) as paper:
        async with Raw(paper) as nobody:
            assert (await nobody.call("GET", "/accounts"))[:2] == (401, "Unauthorized")
            assert (await nobody.call("GET", "/market/products/BTC-USD"))[0] == 200
        async with Raw(paper, paper.key_file) as trader:
            assert (await trader.call("GET", "/accounts?limit=1"))[0] == 200
            wrong = f"GET {paper.rest_address}{PREFIX}/orders"
            assert (await trader.call("GET", "/accounts", uri=wrong))[0] == 401
        async with Raw(paper, paper.keyring.view_key_file) as viewer:
            assert (await viewer.call("GET", "/accounts"))[0] == 200
            status, text, _ = await viewer.call("POST", "/orders", {"client_order_id": "x"})
            assert status == 403
            assert '"error_details":"Missing required scopes"' in text
            _, text, _ = await viewer.call("GET", "/key_permissions")
            assert (json.loads(text)["can_view"], json.loads(text)["can_trade"]) == (True, False)
        async with Raw(paper, paper.keyring.ed25519_key_file) as modern:
            assert (await modern.call("GET", "/accounts"))[0] == 200


async def test_rate_limits_and_their_headers() -> None:
    """Private and public limits are counted separately, shown in headers, and exceeded with the venue's 429."""
    config = PaperConfig(step=True, private_rate=5, public_rate=3)
    async with PaperExchange(config) as paper, Raw(paper, paper.key_file) as raw:
        answers = [await raw.call("GET", "/accounts") for _ in range(12)]
        statuses = [status for status, _, _ in answers]
        assert statuses[0] == 200
        assert 429 in statuses
        assert all(headers["x-ratelimit-limit"] == "5" for _, _, headers in answers)
        remaining = [int(headers["x-ratelimit-remaining"]) for _, _, headers in answers]
        assert min(remaining) == 0
        refused = next(text for status, text, _ in answers if status == 429)
        assert json.loads(refused) == {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}
        _, _, headers = await raw.call("GET", "/time")
        assert headers["x-ratelimit-limit"] == "3"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/nothing", None, 404, "NOT_FOUND"),
        ("PUT", "/orders", None, 404, "NOT_FOUND"),
        ("GET", "/products/BTC-USD/candles?granularity=NOPE&start=1&end=2", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/products/BTC-USD/candles?granularity=ONE_MINUTE&start=1&end=99999999", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/products/BTC-USD/candles?granularity=ONE_MINUTE&start=x&end=2", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/orders/historical/batch?cursor=%21%21", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/orders/historical/batch?cursor=bnVsbA==", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/orders/historical/batch?cursor=WyJ4Il0=", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/orders/historical/fills?cursor=WyJ4Il0=", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/orders/historical/batch?limit=-1", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/accounts?limit=%C2%B2", None, 400, "INVALID_ARGUMENT"),
        ("GET", f"/accounts?limit={'1' * 5000}", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/products/BTC-USD/ticker?start=%C2%B2", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/orders/historical/batch?start_date=soon", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/orders/historical/batch?order_status=NOPE", None, 400, "INVALID_ARGUMENT"),
        ("GET", "/orders/historical/nope", None, 404, "unknown"),
        ("POST", "/orders", [], 400, "INVALID_ARGUMENT"),
        ("POST", "/orders", {"client_order_id": 5}, 400, "INVALID_ARGUMENT"),
        ("POST", "/orders/batch_cancel", {"order_ids": "x"}, 400, "INVALID_ARGUMENT"),
    ],
)
async def test_bad_requests_have_the_venues_error_body(
    method: str, path: str, body: Any, status: int, error: str
) -> None:
    """Each wrong request is a 4xx with error, error_details and message."""
    async with PaperExchange(PaperConfig(step=True)) as paper, Raw(paper, paper.key_file) as raw:
        got, text, _ = await raw.call(method, path, body)
        answer = json.loads(text)
        assert (got, answer["error"]) == (status, error)
        assert answer["message"] == answer["error_details"] != ""


@pytest.mark.parametrize(
    "configuration",
    [
        None,
        {},
        {"limit_limit_gtc": None},
        {"limit_limit_gtc": {"base_size": 1, "limit_price": "5"}},
        {"limit_limit_gtc": {"base_size": "NaN", "limit_price": "5"}},
        {"limit_limit_gtc": {"base_size": "-1", "limit_price": "5"}},
        {"limit_limit_gtc": {"base_size": "1" * 25, "limit_price": "5"}},
        {"limit_limit_gtc": {"base_size": "1", "limit_price": "9" * 20}},
        {"limit_limit_gtc": {"base_size": "1", "limit_price": "٣"}},
        {"limit_limit_gtd": {"base_size": "1", "limit_price": "5", "end_time": "2020-01-01T00:00:00Z"}},
        {"limit_limit_gtd": {"base_size": "1", "limit_price": "5", "end_time": "soon"}},
        {"stop_limit_stop_limit_gtc": {"base_size": "1", "limit_price": "5", "stop_price": "4"}},
        {"market_market_ioc": {"quote_size": "10", "base_size": "1"}},
        {"market_market_ioc": {"quote_size": "10"}, "limit_limit_gtc": {}},
    ],
)
async def test_strange_configurations_are_refused_not_broken(configuration: Any) -> None:
    """For any configuration, the answer is a refusal with a reason."""
    async with PaperExchange(PaperConfig(step=True)) as paper, Raw(paper, paper.key_file) as raw:
        body = {"client_order_id": "x", "product_id": BTC, "side": "BUY", "order_configuration": configuration}
        status, text, _ = await raw.call("POST", "/orders", body)
        answer = json.loads(text)
        assert (status, answer["success"]) == (200, False)
        assert answer["error_response"]["message"]
        assert paper.venue.engine.orders == {}


async def test_get_with_a_body_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GET with the body {} (as the official client sends) leaves the connection usable for the next."""
    async with PaperExchange(PaperConfig(step=True)) as paper, Raw(paper, paper.key_file) as raw:
        for _ in range(3):
            assert (await raw.call("GET", "/accounts", {}))[0] == 200


async def test_round_trip_and_throughput(monkeypatch: pytest.MonkeyPatch) -> None:
    """The official client places an order on loopback within a few milliseconds."""
    async with PaperExchange(PaperConfig(private_rate=0)) as paper:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(paper.ca_file))
        client = RESTClient(key_file=str(paper.key_file), base_url=paper.rest_address, timeout=10)

        def measure() -> list[float]:
            times = []
            for _ in range(100):
                started = time.perf_counter()
                assert client.limit_order_gtc_buy(str(uuid.uuid4()), BTC, "0.0001", "50000").success
                times.append(time.perf_counter() - started)
            return sorted(times)

        times = await asyncio.to_thread(measure)
        assert times[50] < 0.05


async def test_speed_moves_candles_and_nothing_else(tmp_path: Path) -> None:
    """At speed 600 five-minute candles are complete twice a second, while trades and envelopes use the wall clock."""
    config = PaperConfig(speed=600, products=[BTC], source=Generated(interval=0.05))
    async with PaperExchange(config) as paper, Raw(paper, paper.key_file) as raw:
        async with StreamClient(paper.stream_url) as stream:
            await stream.subscribe("market_trades", [BTC])
            await stream.until(lambda seen: len([m for m in seen if m["channel"] == "market_trades"]) >= 7)
            moment = stream.on("market_trades")[-1]["events"][0]["trades"][0]["time"]
        now = int(time.time())
        path = f"/products/{BTC}/candles?granularity=FIVE_MINUTE&start={now - 300 * 99}&end={now}"
        _, text, _ = await raw.call("GET", path)
        starts = [int(candle["start"]) for candle in json.loads(text)["candles"]]
        assert len(starts) >= 99
        assert starts[0] > now + 300
        assert starts == sorted(starts, reverse=True)
        assert abs(time.time() - time.mktime(time.strptime(moment[:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 5


async def test_candle_file_replayed_in_steps(tmp_path: Path) -> None:
    """Stepping through a candle file rebuilds the file's own candles, with its head as history before them."""
    rows = ["time,open,high,low,close,volume"]
    rows += [f"{1640995200 + 60 * n},{100 + n},{103 + n},{98 + n},{101 + n},5" for n in range(12)]
    path = tmp_path / "candles.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    source = PriceFile(path, {BTC: Decimal(1)}, history_rows=4)
    async with (
        PaperExchange(PaperConfig(step=True, products=[BTC], source=source, spread_bps=Decimal(1))) as paper,
        PaperControl(paper.addresses()) as control,
        Raw(paper, paper.key_file) as raw,
    ):
        assert await control.step(32) == 32
        _, text, _ = await raw.call("GET", f"/products/{BTC}/candles?granularity=ONE_MINUTE")
        shown = [
            [int(candle[name]) for name in ("open", "high", "low", "close")]
            for candle in reversed(json.loads(text)["candles"])
        ]
        assert shown[:4] == [[100 + n, 103 + n, 98 + n, 101 + n] for n in range(4)]
        assert min(row[2] for row in shown[4:]) == 102
        assert max(row[1] for row in shown[4:]) == 114
        assert shown[-1][3] == 112


async def test_gtd_order_expires_by_itself() -> None:
    """A GTD order ends EXPIRED at its time, and the user stream reports it."""
    async with PaperExchange(PaperConfig(step=True)) as paper, PaperControl(paper.addresses()) as control:
        async with StreamClient(paper.user_stream_url, paper.key_file) as stream:
            await stream.subscribe("user")
            end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
            body = {"limit_limit_gtd": {"base_size": "0.01", "limit_price": "50000", "end_time": end}}
            order = await control.order(BTC, "BUY", body)
            await stream.until(lambda _: any(o["status"] == "EXPIRED" for o in stream.orders(order["order_id"])))
        assert (await control.balances())["USD"]["hold"] == 0


async def test_delisting_ends_open_orders() -> None:
    """A delisted product's open orders are cancelled by the exchange, and new ones refused; the status channel reports
    it."""
    async with PaperExchange(PaperConfig(step=True)) as paper, PaperControl(paper.addresses()) as control:
        await control.order(BTC, "BUY", {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "50000"}})
        async with StreamClient(paper.stream_url) as stream:
            await stream.subscribe("status", [BTC])
            await stream.until(lambda seen: len(seen) == 2)
            await control.product(BTC, status="delisted", trading_disabled=True)
            await stream.until(lambda seen: len(seen) == 3)
            assert stream.messages[-1]["events"][0]["products"][0]["status"] == "delisted"
        assert [order["status"] for order in await control.orders()] == ["CANCELLED"]


async def test_a_buy_sized_in_quote_ends_in_a_fraction() -> None:
    """All of its money is spent: its last fill is below the base increment, to 16 places. With the option on, REST
    returns its fills' sizes in quote; base is size divided by price.
    """
    config = PaperConfig(step=True, fills_in_quote=True)
    async with PaperExchange(config) as paper, PaperControl(paper.addresses()) as control:
        order = await control.order(BTC, "BUY", {"market_market_ioc": {"quote_size": "1000"}})
        assert order["status"] == "FILLED"
        places = [len(fill["size"].partition(".")[2]) for fill in await control.fills()]
        assert places[0] <= 8 < places[-1] <= 16
        assert Decimal("999.999999") < Decimal(order["total_value_after_fees"]) <= 1000
        async with Raw(paper, paper.key_file) as raw:
            _, text, _ = await raw.call("GET", "/orders/historical/fills")
            fills = json.loads(text)["fills"]
            assert {fill["size_in_quote"] for fill in fills} == {True}
            assert abs(sum(Decimal(fill["size"]) for fill in fills) - Decimal(order["filled_value"])) < Decimal("1e-15")


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    """Poll a condition. Raises `TimeoutError`."""
    async with asyncio.timeout(SLACK * seconds):
        while not await true():  # noqa: ASYNC110  what is awaited is asked for over HTTP
            await asyncio.sleep(0.02)


async def _has_price(control: PaperControl, price: str) -> bool:
    return bool((await control.state())["quotes"][BTC]["price"] == price)


async def _listens_to_trades(control: PaperControl) -> bool:
    return any("market_trades" in row["subscriptions"] for row in await control.connections())


async def test_live_prices_come_from_another_feed() -> None:
    """Live mode follows a public feed over its protocol (here another exchange's), reconnecting after a cut."""
    upstream = PaperConfig(step=True, products=[BTC, "ETH-USD"], connection_rate=0)
    async with PaperExchange(upstream) as real, PaperControl(real.addresses()) as market:
        await market.set_price(BTC, "70000.00", "70000.01")
        config = PaperConfig(products=[BTC, "ETH-USD"], source=Live(real.stream_url))
        async with PaperExchange(config) as paper, PaperControl(paper.addresses()) as control:

            async def until_price(price: str) -> None:
                await until(lambda: _has_price(control, price))

            await market.set_price(BTC, "71000.00", "71000.01")
            await until_price("71000")
            await market.sockets("drop", "market")
            await until(lambda: _listens_to_trades(market))
            await market.set_price(BTC, "72000.00", "72000.01")
            await until_price("72000")


async def test_a_thousand_products_are_no_reason_to_wait(tmp_path: Path) -> None:
    """With 920 products the first answers arrive soon, without waiting until the other products' history is generated.

    It takes about a second; one history at a time took half a minute.
    """
    rows = [
        {**row, "product_id": f"X{at:03}-USD"}
        for at, row in enumerate(
            itertools.islice(itertools.cycle(json.loads(PRODUCTS_FILE.read_text(encoding="utf-8"))["products"]), 920)
        )
    ]
    file = tmp_path / "products.json"
    file.write_text(json.dumps({"products": rows}), encoding="utf-8")
    began = time.monotonic()
    async with (
        PaperExchange(PaperConfig(products_file=file, private_rate=0, public_rate=0)) as paper,
        Raw(paper) as anybody,
    ):
        status, _, _ = await anybody.call("GET", "/market/products/X007-USD/candles?granularity=FIVE_MINUTE")
        assert status == 200
        made_up = [name for name, store in paper.venue.candles.items() if "_past" in vars(store)]
        assert made_up == ["X007-USD"]
        products, clock = await asyncio.gather(anybody.call("GET", "/market/products"), anybody.call("GET", "/time"))
        assert (clock[0], len(json.loads(products[1])["products"])) == (200, 920)
        assert time.monotonic() - began < 15
