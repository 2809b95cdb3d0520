"""A webhook over a real socket on a test's own system, and alerts for it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
from temporalio.client import Client

from cli.web import limits_of, terms_of
from tests.support.harness import TradingSystem
from web.app import create_app
from web.decisions import AlertDecisions
from web.journal import AlertJournal
from web.metrics import WebhookMetrics
from web.senders import Sender
from web.server import WebServer, listen
from workers.settings import Settings
from workers.settings.values import policy_of

TOKEN, SECRET = "token-of-tradingview-1", "secret-of-the-strategist"


@dataclass
class Webhook:
    """A running webhook with its system."""

    system: TradingSystem
    http: httpx.AsyncClient
    metrics: WebhookMetrics
    settings: Settings

    async def send(self, alert: object, *, token: str | None = TOKEN, **headers: str) -> httpx.Response:
        """Send an alert with a bearer token."""
        raw = alert if isinstance(alert, bytes) else json.dumps(alert).encode()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self.http.post("/webhook", content=raw, headers={"Content-Type": "application/json", **headers})

    async def signed(
        self, alert: object, *, at: float | None = None, secret: str = SECRET, sent: bytes | None = None
    ) -> httpx.Response:
        """Send an alert with a signature, as documented."""
        raw = json.dumps(alert).encode()
        stamp = str(int(time.time() if at is None else at))
        made = hmac.new(secret.encode(), f"{stamp}.".encode() + raw, hashlib.sha256).hexdigest()
        return await self.http.post(
            "/webhook", content=sent or raw, headers={"X-Timestamp": stamp, "X-Signature": f"sha256={made}"}
        )

    async def orders(self) -> int:
        """The number of orders in the ledger and at the exchange, which must be the same."""
        ours = await self.system.value("SELECT count(*) FROM orders")
        return int(ours)

    def counted(self, outcome: str) -> float:
        """How many requests had this outcome."""
        lines = self.metrics.text().decode().splitlines()
        mine = [line for line in lines if line.startswith("bottrader_webhook_requests_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in mine if f'outcome="{outcome}"' in line)


@contextlib.asynccontextmanager
async def webhook_on(
    system: TradingSystem,
    *,
    client: Client | None = None,
    pool: Any = None,
    failures_per_minute: int = 100_000,
    max_connections: int = 200,
    **changes: object,
) -> AsyncIterator[Webhook]:
    """The webhook as `bottrader web` sets it up, with some of its settings changed."""
    given = {"requests_per_minute": 100_000, "burst": 10_000, **changes}
    settings = system.settings.model_copy(update={"webhook": type(system.settings.webhook).model_validate(given)})
    metrics = WebhookMetrics()
    decisions = AlertDecisions(
        client or system.client,
        AlertJournal(pool or system.pool, settings.account),
        lambda: terms_of(settings, policy_of(settings)),
    )
    senders = (Sender("tradingview", token=TOKEN.encode()), Sender("strategist", secret=SECRET.encode()))
    app = create_app(
        decide=decisions.decide,
        alive=decisions.alive,
        senders=lambda: senders,
        limits=lambda: replace(limits_of(settings), failures_per_minute=failures_per_minute),
        metrics=metrics,
        tell=decisions.tell,
    )
    address = listen("127.0.0.1", 0)
    server = WebServer(app, arrival_s=2 * float(settings.webhook.body_timeout_s), max_connections=max_connections)
    serving = asyncio.create_task(server.serve(sockets=[address]))
    base = f"http://127.0.0.1:{address.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=base, timeout=20, trust_env=False) as http:
            yield Webhook(system, http, metrics, settings)
    finally:
        server.stop()
        await serving


def buy(key: str, **more: Any) -> dict[str, Any]:
    """An alert that buys for 100 USD."""
    return {"key": key, "symbol": "COINBASE:BTCUSD", "action": "buy", "size_quote": 100, **more}


async def raw(webhook: Webhook, *pieces: bytes, seconds: float = 15.0) -> bytes:
    """The server's answer to bytes on a plain connection, until it closes the connection."""
    port = webhook.http.base_url.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
