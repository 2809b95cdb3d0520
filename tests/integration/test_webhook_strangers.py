"""Unauthenticated requests to the webhook: refused at low cost, without delaying anybody."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.harness import TradingSystem, trading_system
from tests.support.webhook import TOKEN, Webhook, buy, raw, webhook_on
from workers.stack.dev_server import DevServer


@pytest_asyncio.fixture
async def system(database: str, temporal_server: DevServer) -> AsyncIterator[TradingSystem]:
    """A separate system."""
    async with trading_system(database, temporal_server.address) as found:
        yield found


async def _incidents(webhook: Webhook) -> list[tuple[str, str, dict[str, str]]]:
    rows = await webhook.system.rows(
        "SELECT severity, subject, details FROM incidents WHERE kind = 'alert_refused' ORDER BY id"
    )
    return [(row["severity"], row["subject"], row["details"]) for row in rows]


async def test_failed_proofs_are_put_off_and_never_a_proven_sender(
    system: TradingSystem, capfd: pytest.CaptureFixture[str]
) -> None:
    """The sixth guess of a minute is delayed, in one line of log; from the same address alerts with a header, a
    signature or a token in the body are decided.
    """
    async with webhook_on(system, failures_per_minute=5) as webhook:
        guesses = [await webhook.send(buy("g", token=f"guess-number-{number}"), token=None) for number in range(6)]
        guesses += [await webhook.send(buy("h"), token="a-wrong-token") for _ in range(3)]
        guesses += [await webhook.send(b"[" * 16_000, token=None), await webhook.signed(buy("i"), secret="wrong")]
        assert [answer.status_code for answer in guesses] == [401] * 5 + [429] * 6
        assert {answer.json()["error"]["code"] for answer in guesses[5:]} == {"TOO_MANY_FAILURES"}
        assert all(1 <= int(answer.headers["Retry-After"]) <= 20 for answer in guesses[5:])
        for number in range(8):
            answers = [
                await webhook.send(buy(f"a{number}", dry_run=True)),
                await webhook.send(buy(f"b{number}", dry_run=True, token=TOKEN), token=None),
                await webhook.signed(buy(f"c{number}", dry_run=True)),
            ]
            assert {answer.status_code for answer in answers} == {200}
        assert webhook.counted("TOO_MANY_FAILURES") == 6
        assert await _incidents(webhook) == [], "a stranger makes no incident"
    assert "".join(capfd.readouterr()).count("webhook_turned_away") == 1


async def test_nothing_is_parsed_for_who_proves_nothing(system: TradingSystem) -> None:
    """For any body of an unauthenticated request, the answer is that nothing says who sends it."""
    async with webhook_on(system) as webhook:
        for body in (b"", b"[" * 5000, b"\xff", b'{"a": 1e99999999999999999999}', b"9" * 16_000, b'{"a": 1, "a": 2}'):
            answer = await webhook.send(body, token=None)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "NO_PROOF"), body[:20]


async def test_idle_connections_block_no_alert(system: TradingSystem) -> None:
    """However many connections are held open, silent or in the middle of a request, an alert is answered at once."""
    most = 60
    async with webhook_on(system, max_connections=most) as webhook, contextlib.AsyncExitStack() as closing:
        port = webhook.http.base_url.port
        half = b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
        for number in range(most + 20):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            closing.callback(writer.transport.abort)
            if number % 2:
                writer.write(half)
                await writer.drain()
        began = time.monotonic()
        answers = await asyncio.gather(*(webhook.send(buy(f"k{number}", dry_run=True)) for number in range(5)))
        assert [answer.status_code for answer in answers] == [200] * 5
        assert time.monotonic() - began < 2 * float(webhook.settings.webhook.body_timeout_s), "nobody was waited for"


async def test_what_is_not_http_is_counted_and_not_written_out(
    system: TradingSystem, capfd: pytest.CaptureFixture[str]
) -> None:
    """A hundred requests that are not HTTP, or want another protocol, are a few lines of log."""
    async with webhook_on(system) as webhook:
        for _ in range(50):
            assert (await raw(webhook, b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
            await webhook.http.get("/health", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    out = "".join(capfd.readouterr())
    assert out.count("webhook_http") == 1
    assert "Invalid HTTP request" in out
    assert out.count("\n") < 20


async def test_each_unusable_alert_of_a_sender_is_an_incident_once(system: TradingSystem) -> None:
    """Senders neither show the answer nor retry: sender, key, field and reason are reported, for a close at once; a
    repeat is not reported again, and no token is in it.
    """
    async with webhook_on(system) as webhook:
        bad = [
            (b'{"key": "n", "symbol": "BTCUSD", "action": "buy", "size_quote": NaN}', TOKEN),
            (b'{"key": "n2", "symbol": "BTCUSD", "action": "buy", "size_quote": NaN}', TOKEN),
            (buy("c", action="close"), TOKEN),
            (b'{"token": "' + TOKEN.encode() + b'", "rsi": {{plot("RSI")}}}', None),
            ({"symbol": "BTCUSD", "action": "buy"}, TOKEN),
            ({"key": "s", "symbol": TOKEN, "action": "buy"}, TOKEN),
            ({"key": "f", "symbol": "BTCUSD", "action": "buy", TOKEN: 1}, TOKEN),
        ]
        for alert, token in bad:
            assert (await webhook.send(alert, token=token)).status_code in (400, 422)
        found = await _incidents(webhook)
        assert [(severity, details.get("key"), details.get("field")) for severity, _, details in found] == [
            ("WARNING", "n", "size_quote"),
            ("CRITICAL", "c", None),
            ("WARNING", None, None),
            ("WARNING", None, "key"),
            ("WARNING", "s", "symbol"),
            ("WARNING", "f", "***"),
        ]
        assert {subject for _, subject, _ in found} == {"tradingview"}
        rows = await system.rows("SELECT sentence, details::text FROM incidents WHERE kind = 'alert_refused'")
        assert TOKEN.lower() not in str([tuple(row) for row in rows]).lower()
        assert "size_quote: must be a number" in rows[0]["sentence"]
        assert rows[1]["sentence"].endswith("No position was closed for it.")
        for number in range(30):
            await webhook.send(buy("m", **{f"field_{'x' * number}": 1}))
        assert len(await _incidents(webhook)) == 21, "a sender that is wrong in many ways fills no table"
        assert (await webhook.send(b'{"key": "u", "action": "close", "price": ,}')).status_code == 400
        severity, _, details = (await _incidents(webhook))[-1]
        assert severity == "CRITICAL", "buys that were refused are no reason to be silent of what may be a close"
        assert "not JSON" in details["reason"]


async def test_a_close_is_done_whatever_its_record_says(system: TradingSystem) -> None:
    """An indicator that is not a number, a price, a note of two lines don't prevent a close; valid fields are
    stored."""
    async with webhook_on(system) as webhook:
        for number, more in enumerate(
            (
                b'"indicators": {"rsi": "NaN"}',
                b'"indicators": {"rsi": NaN}',
                b'"price": 65000',
                b'"note": "one line\nand another"',
                b'"note": "\\u0000", "indicators": {"a\\tb": 1}',
                b'"snapshot_id": "\\ud800"',
            )
        ):
            await webhook.send(buy(f"b{number}", order_type="LIMIT", price=2000, symbol="ETH-USD"))
            close = b'{"key": "x%d", "symbol": "COINBASE:ETHUSD", "action": "close", %s}' % (number, more)
            answer = await webhook.send(close)
            assert (answer.status_code, answer.json()["decision"]) == (200, "closing"), answer.text
            assert (await webhook.send(close)).json()["repeated"] is True
        rows = await system.rows("SELECT alert FROM webhook_alerts WHERE action = 'close' ORDER BY received_at")
        assert [row["alert"].get("indicators") for row in rows] == [{"rsi": {}}, {"rsi": {}}, None, None, None, None]
        assert rows[2]["alert"]["price"] == "65000"
        assert await _incidents(webhook) == []
