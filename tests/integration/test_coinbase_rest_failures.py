"""The meaning of each kind of failure for a command and for a read, with a TLS server that fails on purpose."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from domain.orders import OrderType, Side
from exchange.coinbase import CoinbaseConfig, CoinbaseExchange
from exchange.port import (
    CancelVerdict,
    CommandRefused,
    MalformedMessage,
    NotAccepted,
    OrderRequest,
    OutcomeUnknown,
    Unavailable,
)

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Request:
    """A request as received by the server."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    peer: int


def http(status: int, body: object, **headers: str) -> bytes:
    """An HTTP answer with a JSON (or verbatim) body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Something", f"Content-Length: {len(content)}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


Script = Callable[[Request, asyncio.StreamWriter], Awaitable[bytes | None]]


@dataclass
class Venue:
    """A TLS server on a loopback port that answers by a script and remembers its requests."""

    address: str
    ca_file: Path
    key_file: Path
    public_key: Any
    script: Script | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def answers(self, *answers: bytes) -> None:
        """Give these answers in turn, and repeat the last one."""
        left = list(answers)

        async def script(request: Request, writer: asyncio.StreamWriter) -> bytes:
            return left.pop(0) if len(left) > 1 else left[0]

        self.script = script

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        number = self.connections
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().strip().split("\r\n")
                method, path, _ = first.split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                request = Request(method, path, headers, body, number)
                self.requests.append(request)
                assert self.script is not None
                answer = await self.script(request, writer)
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority for the tests."""
    return trustme.CA()


@pytest.fixture
def private_key(request: pytest.FixtureRequest) -> Any:
    """An ES256 key, or an Ed25519 one on request."""
    if getattr(request, "param", "ES256") == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
async def venue(authority: trustme.CA, private_key: Any, tmp_path: Path) -> AsyncIterator[Venue]:
    """A running server."""
    ca_file, key_file = tmp_path / "ca.pem", tmp_path / "key.json"
    authority.cert_pem.write_to_path(str(ca_file))
    pem = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    key_file.write_text(json.dumps({"name": "organizations/a/apiKeys/b", "privateKey": pem}))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    venue = Venue("", ca_file, key_file, private_key.public_key())
    server = await asyncio.start_server(venue.serve, "127.0.0.1", 0, ssl=tls)
    venue.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield venue
    server.close()


def adapter(venue: Venue, **changes: Any) -> CoinbaseExchange:
    """An adapter to the server."""
    settings: dict[str, Any] = {
        "rest_address": venue.address,
        "ca_file": venue.ca_file,
        "key_file": venue.key_file,
        "read_timeout": 0.4,
        "private_rate": 0,
        "threads": 4,
    }
    return CoinbaseExchange(CoinbaseConfig(**(settings | changes)))


@pytest.fixture
async def exchange(venue: Venue) -> AsyncIterator[CoinbaseExchange]:
    """An adapter to the server, closed afterwards."""
    exchange = adapter(venue)
    yield exchange
    await exchange.close()


BODY = {
    "client_order_id": "a" * 32 + "-1",
    "product_id": "BTC-USD",
    "side": "BUY",
    "order_configuration": {"market_market_ioc": {"quote_size": "10"}},
}
PLACED = {"success": True, "success_response": {"order_id": "o-1", "client_order_id": BODY["client_order_id"]}}


@pytest.mark.parametrize("private_key", ["ES256", "Ed25519"], indirect=True)
async def test_a_submit_sends_the_committed_body_and_a_token_that_verifies(
    venue: Venue, exchange: CoinbaseExchange
) -> None:
    """The body arrives unchanged, signed for this method and path, and the venue's order id comes back."""
    venue.answers(http(200, PLACED))
    answer = await exchange.submit(BODY)
    assert answer.exchange_order_id == "o-1"
    (request,) = venue.requests
    assert (request.method, request.path) == ("POST", "/api/v3/brokerage/orders")
    assert json.loads(request.body) == BODY
    token = request.headers["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, venue.public_key, algorithms=["ES256", "EdDSA"], issuer="cdp")
    assert claims["uri"] == f"POST {venue.address}/api/v3/brokerage/orders"


async def test_the_environments_own_ca_bundle_and_netrc_do_not_get_in_the_way(
    venue: Venue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A CA bundle, a proxy or a .netrc in the environment change neither trust root, route nor token."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    venue.answers(http(200, PLACED))
    exchange = adapter(venue)
    await exchange.submit(BODY)
    await exchange.close()
    assert venue.requests[0].headers["authorization"].startswith("Bearer ")


async def test_connections_are_kept_alive(venue: Venue) -> None:
    """Calls one after the other on one thread share a connection."""
    exchange = adapter(venue, threads=1)
    venue.answers(http(200, {"epochMillis": "1790000000000"}))
    for _ in range(3):
        await exchange.server_time()
    await exchange.close()
    assert {request.peer for request in venue.requests} == {1}


async def test_refused_connection_is_not_accepted(venue: Venue) -> None:
    """Without a server the command was certainly not taken."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    exchange = adapter(venue, rest_address=address)
    with pytest.raises(NotAccepted, match="refused"):
        await exchange.submit(BODY)
    with pytest.raises(Unavailable):
        await exchange.server_time()
    await exchange.close()


async def test_unknown_host_is_not_accepted(venue: Venue) -> None:
    """With a name that doesn't resolve the command was certainly not taken."""
    exchange = adapter(venue, rest_address="no-such-host.invalid")
    with pytest.raises(NotAccepted):
        await exchange.submit(BODY)
    await exchange.close()


async def test_untrusted_certificate_is_not_accepted(venue: Venue, tmp_path: Path) -> None:
    """TLS fails before anything is sent."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    exchange = adapter(venue, ca_file=other)
    with pytest.raises(NotAccepted, match=r"(?i)certificate"):
        await exchange.submit(BODY)
    await exchange.close()
    assert not venue.requests


async def test_silence_during_the_tls_handshake_is_not_accepted(venue: Venue) -> None:
    """A server that accepts the connection and never speaks TLS has seen no command."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        exchange = adapter(venue, rest_address=f"127.0.0.1:{mute.getsockname()[1]}", connect_timeout=0.3)
        with pytest.raises(NotAccepted):
            await exchange.submit(BODY)
        await exchange.close()


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (429, {"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]}, NotAccepted, "RATE_LIMITED"),
        (401, b"Unauthorized\n", NotAccepted, "AUTH_FAILURE"),
        (403, b'{"error":"PERMISSION_DENIED","error_details":"Missing required scopes"}', NotAccepted, "AUTH_FAILURE"),
        (400, {"error": "INVALID_ARGUMENT", "error_details": "bad size"}, CommandRefused, "INVALID_ARGUMENT"),
        (408, b"", OutcomeUnknown, "OUTCOME_UNKNOWN"),
        (500, b"oops", OutcomeUnknown, "OUTCOME_UNKNOWN"),
        (503, {"error": "unavailable"}, OutcomeUnknown, "OUTCOME_UNKNOWN"),
        (307, b"", OutcomeUnknown, "OUTCOME_UNKNOWN"),
        (200, b"<html>", OutcomeUnknown, "OUTCOME_UNKNOWN"),
        (200, b"[]", OutcomeUnknown, "UNREADABLE_ANSWER"),
        (200, {}, OutcomeUnknown, "UNREADABLE_ANSWER"),
        (200, {"success": True}, OutcomeUnknown, "UNREADABLE_ANSWER"),
    ],
)
async def test_each_answer_to_a_command_has_one_meaning(
    venue: Venue, exchange: CoinbaseExchange, status: int, body: object, error: type[Exception], code: str
) -> None:
    """Status and body decide between refused, not accepted and unknown, and the command is sent only once."""
    venue.answers(http(status, body, Location="https://127.0.0.1:9/"))
    with pytest.raises(error) as caught:
        await exchange.submit(BODY)
    assert type(caught.value) is error
    assert getattr(caught.value, "code", None) == code
    assert len([request for request in venue.requests if request.method == "POST"]) == 1


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [(429, {"errors": [{"id": "rate_limit_exceeded"}]}, "RATE_LIMITED"), (401, b"Unauthorized", "AUTH_FAILURE"),
     (404, {"error": "NOT_FOUND", "message": "no"}, "NOT_FOUND"), (502, b"bad gateway", "UNAVAILABLE"),
     (200, b"not json", "UNAVAILABLE"), (200, {}, "UNREADABLE_ANSWER")],
)  # fmt: skip
async def test_a_read_that_fails_is_unavailable(
    venue: Venue, exchange: CoinbaseExchange, status: int, body: object, code: str
) -> None:
    """After any failure a read is unavailable."""
    venue.answers(http(status, body))
    with pytest.raises(Unavailable) as caught:
        await exchange.fee_rates()
    assert caught.value.code == code


async def test_the_venues_wait_is_passed_on(venue: Venue, exchange: CoinbaseExchange) -> None:
    """The error has the wait of Retry-After and x-ratelimit-reset."""
    venue.answers(http(429, {}, Retry_After="7"), http(429, {}, X_RateLimit_Reset="3"))
    with pytest.raises(NotAccepted) as command:
        await exchange.submit(BODY)
    with pytest.raises(Unavailable) as read:
        await exchange.fee_rates()
    assert (command.value.retry_after, read.value.retry_after) == (7.0, 3.0)


async def test_silence_after_sending_is_unknown(venue: Venue, exchange: CoinbaseExchange) -> None:
    """Without an answer in time the venue may have taken it."""

    async def silence(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        await asyncio.sleep(3)
        return None

    venue.script = silence
    with pytest.raises(OutcomeUnknown, match="timed out"):
        await exchange.submit(BODY)
    with pytest.raises(OutcomeUnknown):
        await exchange.cancel("o-1")
    with pytest.raises(Unavailable):
        await exchange.balances()


async def test_a_trickling_answer_is_given_up(venue: Venue) -> None:
    """An endless slow answer doesn't delay a command beyond its deadline."""
    exchange = adapter(venue, connect_timeout=0.1, read_timeout=0.2)

    async def trickle(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(26):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.1)
        return None

    venue.script = trickle
    with pytest.raises(OutcomeUnknown):
        async with asyncio.timeout(3.5):
            await exchange.submit(BODY)
    await exchange.close()


async def test_reset_after_sending_is_unknown(venue: Venue, exchange: CoinbaseExchange) -> None:
    """A connection that was reset after the request was sent leaves the outcome unknown."""

    async def reset(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        writer.transport.abort()
        return None

    venue.script = reset
    with pytest.raises(OutcomeUnknown):
        await exchange.submit(BODY)
    assert len(venue.requests) == 1


async def test_calls_that_found_no_thread_in_time_are_not_accepted(venue: Venue) -> None:
    """A command that still waits for a thread at its deadline was certainly not sent."""
    exchange = adapter(venue, threads=1, connect_timeout=0.1, read_timeout=6)
    started = asyncio.Event()

    async def hold(request: Request, writer: asyncio.StreamWriter) -> bytes | None:
        started.set()
        await asyncio.sleep(4)
        return http(200, PLACED)

    venue.script = hold
    slow = asyncio.create_task(exchange.submit(BODY))
    await started.wait()
    exchange._rest._deadline = 0.2
    with pytest.raises(NotAccepted):
        await exchange.submit(BODY)
    assert (await slow).exchange_order_id == "o-1"
    assert len(venue.requests) == 1
    await exchange.close()


async def test_exits_find_a_thread_when_everything_else_hangs(venue: Venue) -> None:
    """However many ordinary calls wait for a silent venue, an urgent one is sent at once."""
    exchange = adapter(venue, threads=4, read_timeout=5)
    release = asyncio.Event()

    async def script(request: Request, writer: asyncio.StreamWriter) -> bytes:
        if request.method == "GET":
            await release.wait()
        return http(200, PLACED)

    venue.script = script
    reads = [asyncio.create_task(exchange.fee_rates()) for _ in range(10)]
    async with asyncio.timeout(2):
        assert (await exchange.submit(BODY, urgent=True)).exchange_order_id == "o-1"
    release.set()
    await asyncio.gather(*reads, return_exceptions=True)
    await exchange.close()


async def test_a_refusal_carries_the_venues_reason(venue: Venue, exchange: CoinbaseExchange) -> None:
    """success:false is a refusal with the most specific reason."""
    venue.answers(
        http(200, {
            "success": False,
            "failure_reason": "UNKNOWN_FAILURE_REASON",
            "error_response": {"error": "INSUFFICIENT_FUND", "message": "Insufficient balance in source account"},
        })
    )  # fmt: skip
    with pytest.raises(CommandRefused, match="Insufficient balance") as caught:
        await exchange.submit(BODY)
    assert caught.value.code == "INSUFFICIENT_FUND"


async def test_cancels_at_once_share_a_request(venue: Venue, exchange: CoinbaseExchange) -> None:
    """Each caller gets the answer for its own order; one that the venue omits is unknown."""
    venue.answers(
        http(200, {"results": [
            {"success": True, "failure_reason": "UNKNOWN_CANCEL_FAILURE_REASON", "order_id": "o-1"},
            {"success": False, "failure_reason": "UNKNOWN_CANCEL_ORDER", "order_id": "o-2"},
            {"success": False, "failure_reason": "ORDER_IS_FULLY_FILLED", "order_id": "o-3"},
            {"success": False, "failure_reason": "NOT_ALLOWED_TO_CANCEL", "order_id": "o-4"},
        ]})
    )  # fmt: skip
    orders = ["o-1", "o-2", "o-3", "o-4", "o-5"]
    answers = await asyncio.gather(*(exchange.cancel(order) for order in orders), return_exceptions=True)
    assert [getattr(answer, "verdict", None) for answer in answers[:4]] == [
        CancelVerdict.ACCEPTED,
        CancelVerdict.UNKNOWN_ORDER,
        CancelVerdict.ALREADY_DONE,
        CancelVerdict.REFUSED,
    ]
    assert isinstance(answers[4], OutcomeUnknown)
    assert [json.loads(request.body)["order_ids"] for request in venue.requests] == [orders]


async def test_a_list_that_never_ends_is_noticed(venue: Venue, exchange: CoinbaseExchange) -> None:
    """A repeated cursor ends the read with an error instead of a loop."""
    venue.answers(http(200, {"orders": [], "has_next": True, "cursor": "again"}))
    with pytest.raises(Unavailable, match="twice") as caught:
        await exchange.open_orders()
    assert caught.value.code == "CURSOR_LOOP"
    assert len(venue.requests) == 2


async def test_empty_pages_are_passed_over(venue: Venue, exchange: CoinbaseExchange) -> None:
    """An empty page in the middle does not end the list; fills end at an empty cursor, without has_next."""
    row = {
        "entry_id": "e", "trade_id": "t", "order_id": "o", "product_id": "BTC-USD", "side": "BUY", "price": "2",
        "size": "3", "commission": "", "trade_time": "2026-08-09T21:05:48.228568804Z", "liquidity_indicator": "MAKER",
    }  # fmt: skip
    venue.answers(
        http(200, {"fills": [row], "cursor": "1"}),
        http(200, {"fills": [], "cursor": "2"}),
        http(200, {"fills": [row | {"entry_id": "f", "trade_id": "u"}], "cursor": ""}),
    )
    fills = await exchange.fills(since=SINCE)
    assert [(item.trade_id, item.size, item.fee) for item in fills] == [
        ("t", Decimal(3), Decimal(0)),
        ("u", Decimal(3), Decimal(0)),
    ]


async def test_without_a_key_only_public_addresses_are_asked(venue: Venue) -> None:
    """Market data comes from the public paths, and private calls are an error that says what is missing."""
    exchange = adapter(venue, key_file=None)
    venue.answers(
        http(200, {"pricebook": {"bids": [{"price": "1", "size": "1"}], "asks": [{"price": "2", "size": "1"}]}})
    )
    quote = await exchange.quote("BTC-USD")
    assert (quote.bid, quote.ask) == (Decimal(1), Decimal(2))
    assert venue.requests[0].path.startswith("/api/v3/brokerage/market/product_book")
    assert "authorization" not in venue.requests[0].headers
    with pytest.raises(NotAccepted, match="no API key"):
        await exchange.submit(BODY)
    with pytest.raises(Unavailable, match="no API key"):
        await exchange.balances()
    with pytest.raises(ValueError, match="API key"):
        exchange.user_stream()
    await exchange.close()


async def test_a_closed_adapter_accepts_nothing(venue: Venue) -> None:
    """After close nothing is sent."""
    exchange = adapter(venue)
    await exchange.close()
    with pytest.raises(NotAccepted, match="closed"):
        await exchange.submit(BODY)


async def test_body_of_a_request_is_what_is_sent(venue: Venue, exchange: CoinbaseExchange) -> None:
    """`order_body` equals the bytes that are sent."""
    venue.answers(http(200, PLACED))
    body = exchange.order_body(
        OrderRequest(
            "id-1", "BTC-USD", Side.SELL, OrderType.LIMIT, base_size=Decimal("0.10"), limit_price=Decimal("7E+4")
        )
    )
    await exchange.submit(body)
    assert json.loads(venue.requests[0].body) == {
        "client_order_id": "id-1",
        "product_id": "BTC-USD",
        "side": "SELL",
        "order_configuration": {"limit_limit_gtc": {"base_size": "0.1", "limit_price": "70000", "post_only": False}},
    }


async def test_a_row_that_cant_be_read_is_kept_apart_where_that_is_asked_for(
    venue: Venue, exchange: CoinbaseExchange
) -> None:
    """Orders and executions beside an unreadable row are read, with empty pages and nine digits of a second.

    Without a list for unreadable rows it is an error: an order that is proven absent must not be in such a row.
    """
    good = {
        "order_id": "x-1",
        "product_id": "BTC-USD",
        "side": "BUY",
        "status": "OPEN",
        "created_time": "2026-08-09T12:00:00.123456789Z",
    }
    bad = {**good, "order_id": "x-2", "filled_size": "-1"}
    execution = {
        "trade_id": "t-1",
        "order_id": "x-1",
        "product_id": "BTC-USD",
        "side": "BUY",
        "price": "100",
        "size": "1",
        "trade_time": "2026-08-09T12:00:00Z",
    }
    unreadable: list[MalformedMessage] = []
    venue.answers(
        http(200, {"orders": [], "has_next": True, "cursor": "a"}),
        http(200, {"orders": [bad, good], "has_next": False, "cursor": ""}),
        http(200, {"fills": [execution, {**execution, "trade_id": "t-2", "trade_time": None}], "cursor": ""}),
        http(200, {"orders": [bad, good], "has_next": False, "cursor": ""}),
    )
    listed = await exchange.open_orders(unreadable=unreadable)
    assert [item.exchange_order_id for item in listed] == ["x-1"]
    assert listed[0].created_at == datetime(2026, 8, 9, 12, 0, 0, 123456, tzinfo=UTC)
    found = await exchange.fills(since=SINCE, unreadable=unreadable)
    assert [item.trade_id for item in found] == ["t-1"]
    assert [json.loads(item.raw) for item in unreadable] == [bad, {**execution, "trade_id": "t-2", "trade_time": None}]
    with pytest.raises(Unavailable) as caught:
        await exchange.open_orders()
    assert caught.value.code == "UNREADABLE_ANSWER"
