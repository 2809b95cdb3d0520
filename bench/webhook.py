"""Time from an alert to its order at the exchange: from just before the POST to the order's arrival.

As in production, the webhook, the worker and the floor's worker have their own processes; alerts carry a bearer token
over one kept-alive connection. The alert's own answer, which waits for the decision, is a separate row.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from bench.floor import floor_once, floor_process
from bench.rig import CALM, CRASH, PROBE, Rig, arrival, open_rig
from bench.rows import Row, reaction
from domain.ids import intent_key, order_workflow_id
from domain.orders import Side
from workers.stack.processes import Child, Command, free_port, python_environment, python_module

__all__ = ["webhook"]

Say = Callable[[str], None]
_PATIENCE = 30.0


@dataclass
class _Sender:
    """A sender of alerts on one kept-alive connection."""

    http: httpx.AsyncClient

    async def buy(self) -> tuple[str, float, float]:
        """Order key, wall time just before the POST, and seconds until the answer."""
        key = uuid.uuid4().hex
        alert: dict[str, object] = {
            "key": key,
            "symbol": PROBE,
            "action": "buy",
            "size_base": "0.1",
            "trigger": "rsi_oversold",
        }
        alert |= {"order_type": "MARKET", "score": 0.7}
        sent, began = time.time(), time.perf_counter()
        answer = await self.http.post("/webhook", json=alert)
        took = time.perf_counter() - began
        found = answer.json()
        assert found.get("decision") == "admitted", found
        assert found["order_key"] == intent_key("webhook", f"bench:{key}", "main", PROBE, Side.BUY)
        return str(found["order_key"]), sent, took


async def webhook(say: Say, *, quick: bool) -> list[Row]:
    """Webhook → order at the exchange, and → answer."""
    rounds = 15 if quick else 60
    token, port = secrets.token_hex(24), free_port()
    async with (
        open_rig() as rig,
        rig.worker_process(),
        floor_process(rig.client, rig.stack.temporal_address, rig.stack.data / "logs" / "floor.log"),
    ):
        given = {
            **rig.stack.environment,
            "BOTTRADER_WEBHOOK__SENDERS__BENCH__TOKEN": token,
            "BOTTRADER_WEBHOOK__REQUESTS_PER_MINUTE": "100000",
            "BOTTRADER_WEBHOOK__PORT": str(port),
        }
        child = await Child.start(
            Command(
                name="the webhook",
                argv=python_module("cli.main", "web"),
                log=rig.stack.data / "logs" / "web.log",
                env=python_environment(given),
            )
        )
        try:
            headers = {"Authorization": f"Bearer {token}"}
            base = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=base, headers=headers, timeout=_PATIENCE, trust_env=False) as http:
                await _until_ready(http, child)
                say(f"webhook → order: {rounds} alerts, each beside a floor workflow")
                return await _measure(rig, _Sender(http), rounds)
        finally:
            await child.stop()


async def _measure(rig: Rig, sender: _Sender, rounds: int) -> list[Row]:
    for _ in range(3):
        await _close(rig, (await sender.buy())[0])
        await floor_once(rig.client)
    alerts, floors = [], []
    for _ in range(rounds):
        alerts.append(await sender.buy())
        await _close(rig, alerts[-1][0])
        floors.append(await floor_once(rig.client))
    found = await rig.arrivals()
    return [
        reaction(
            "webhook → order at the exchange", [arrival(found, key) - sent for key, sent, _ in alerts], floors, 1.5
        ),
        reaction("webhook → answer with the decision", [took for _, _, took in alerts], floors, 1.5),
    ]


async def _until_ready(http: httpx.AsyncClient, child: Child) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            assert child.running, child.log_tail()
            try:
                if (await http.get("/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


async def _close(rig: Rig, key: str) -> None:
    """Stop the trade out, so that the market is the same for the next alert."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            if await rig.database.fetchval("SELECT state FROM trades WHERE entry_key = $1", key) == "PROTECTED":
                break
            await asyncio.sleep(0.02)
    await rig.price(PROBE, CRASH)
    await asyncio.wait_for(rig.client.get_workflow_handle(order_workflow_id(key)).result(), _PATIENCE)
    await rig.price(PROBE, CALM)
