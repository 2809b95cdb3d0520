"""`bottrader web` as a process: on the local stack, on shutdown, and without senders."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator

import httpx
import psutil
import pytest
import pytest_asyncio

from exchange.paper import PaperControl
from tests.support.live_stack import ROOT, run_command
from tests.support.waiting import eventually
from workers.stack.local_stack import LocalStack, LocalStackConfig
from workers.stack.processes import Child, Command, free_port, python_environment, python_module


@pytest_asyncio.fixture(scope="module")
async def stack() -> AsyncIterator[LocalStack]:
    """A throw-away stack that accepts alerts, with a market of 50,000/50,001."""
    config = LocalStackConfig(ui=False, web=True, paper_arguments=["--step"])
    async with LocalStack(config) as found, PaperControl(found.paper) as control:
        await control.set_price("BTC-USD", "50000", "50001")
        yield found


async def test_the_stack_takes_alerts_with_its_own_token(stack: LocalStack) -> None:
    """The stack's token is readable by its owner only, and an alert with it is decided."""
    assert stack.webhook_url is not None
    assert stack.webhook_token is not None
    assert stack.webhook_token.stat().st_mode & 0o777 == 0o600
    alert = {"key": "test-1", "symbol": "BTCUSD", "action": "buy", "dry_run": True}
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        refused = await http.post(stack.webhook_url, json=alert)
        assert refused.json()["error"]["code"] == "NO_PROOF"
        answer = await http.post(stack.webhook_url, json={**alert, "token": stack.webhook_token.read_text().strip()})
    assert (answer.status_code, answer.json()["decision"]) == (200, "refused"), answer.text
    assert answer.json()["sender"] == "local"
    assert json.loads((stack.data / "stack.json").read_text())["webhook"] == stack.webhook_url


async def test_limits_change_while_it_runs(stack: LocalStack) -> None:
    """A limit set by command applies to the next alerts, without a restart."""
    assert stack.webhook_url is not None
    assert stack.webhook_token is not None
    headers = {"Authorization": f"Bearer {stack.webhook_token.read_text().strip()}"}
    env = {**os.environ, **stack.environment, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "cli.main", "config", "set", "webhook.max_depth", "2", "--why", "flat alerts only"]
    done = await run_command(argv, env)
    assert done.code == 0, done.err
    deep = '{"key": "k", "symbol": "BTCUSD", "action": "close", "indicators": {"rsi": {"value": 1}}}'
    async with httpx.AsyncClient(trust_env=False, timeout=20, headers=headers) as http:

        async def refused() -> bool:
            answer = await http.post(str(stack.webhook_url), content=deep)
            return bool(answer.status_code == 400 and "deeper than 2" in answer.json()["error"]["sentence"])

        await eventually(refused, within=10, what="the new limit holds")


async def test_a_database_that_stands_still_holds_nobody_up(stack: LocalStack) -> None:
    """A frozen ledger is a 503 within seconds for everybody, and the same keys are decided once it continues."""
    assert stack.webhook_url is not None
    assert stack.webhook_token is not None
    headers = {"Authorization": f"Bearer {stack.webhook_token.read_text().strip()}"}
    alerts = [{"key": f"frozen-{n}", "symbol": "BTCUSD", "action": "buy", "dry_run": True} for n in range(6)]
    (lock,) = (stack.data / "postgres").rglob("postmaster.pid")
    postmaster = psutil.Process(int(lock.read_text().split()[0]))
    frozen = [postmaster, *postmaster.children(recursive=True)]
    async with httpx.AsyncClient(trust_env=False, timeout=20, headers=headers) as http:
        for process in frozen:
            process.suspend()
        try:
            began = time.monotonic()
            answers = await asyncio.gather(*(http.post(str(stack.webhook_url), json=alert) for alert in alerts))
            took = time.monotonic() - began
        finally:
            for process in frozen:
                process.resume()
        assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {(503, "NO_DATABASE")}
        assert took < 8, f"{took:.1f} s"

        async def ready() -> bool:
            return (await http.get(str(stack.webhook_url).replace("/webhook", "/ready"))).status_code == 200

        await eventually(ready, within=20, what="the ledger answers again")
        again = [await http.post(str(stack.webhook_url), json=alert) for alert in alerts]
        assert {(answer.status_code, answer.json()["decision"]) for answer in again} == {(200, "refused")}


async def test_told_to_stop_it_ends_at_once(stack: LocalStack) -> None:
    """SIGTERM ends the process with exit code 0, also with an open connection."""
    port = free_port()
    env = {**stack.environment, "BOTTRADER_WEBHOOK__SENDERS__X__SECRET": "0123456789abcdef"}
    child = await Child.start(
        Command(
            name="web",
            argv=python_module("cli.main", "web", "--port", str(port)),
            log=stack.data / "logs" / "web-2.log",
            env=python_environment(env),
        )
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http, asyncio.timeout(30):
            while True:
                assert child.running, child.log_tail()
                try:
                    assert (await http.get("/health")).json() == {"ok": True}
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                else:
                    break
            began = time.monotonic()
            child.signal(signal.SIGTERM)
            assert await child.wait() == 0, child.log_tail(20)
        assert time.monotonic() - began < 5
    finally:
        await child.stop()


async def test_without_senders_it_does_not_start(stack: LocalStack) -> None:
    """Nobody could authenticate, so nothing listens: one sentence and exit code 2."""
    done = await run_command(
        [sys.executable, "-m", "cli.main", "web", "--port", "0"],
        {**os.environ, **stack.environment, "PYTHONPATH": str(ROOT)},
    )
    assert (done.code, done.out) == (2, "")
    assert "[webhook.senders.tradingview]" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - this is refused
async def test_it_listens_beyond_loopback_only_behind_a_proxy(stack: LocalStack, host: str) -> None:
    """Tokens would cross the network in clear text: one sentence and exit code 2, until a setting allows it."""
    env = {**os.environ, **stack.environment, "PYTHONPATH": str(ROOT), "BOTTRADER_WEBHOOK__HOST": host}
    env["BOTTRADER_WEBHOOK__SENDERS__X__SECRET"] = "0123456789abcdef"
    argv = [sys.executable, "-m", "cli.main", "web", "--port", "0"]
    done = await run_command(argv, env)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
    assert "webhook.behind_proxy" in done.err
    child = await Child.start(
        Command(
            name="web",
            argv=[*argv, "--host", "0.0.0.0"],  # noqa: S104 - allowed by the setting
            log=stack.data / "logs" / "web-proxy.log",
            env=env | {"BOTTRADER_WEBHOOK__BEHIND_PROXY": "true"},
        )
    )
    try:

        async def listens() -> bool:
            return "Alerts are received at" in child.log_tail(20)

        await eventually(listens, within=30, what="it listens")
    finally:
        await child.stop()


async def test_two_senders_never_share_a_secret(stack: LocalStack) -> None:
    """A secret shared by two would not show which one sends."""
    secrets = {f"BOTTRADER_WEBHOOK__SENDERS__{name}__TOKEN": "0123456789abcdef" for name in ("A", "B")}
    done = await run_command(
        [sys.executable, "-m", "cli.main", "web", "--port", "0"],
        {**os.environ, **stack.environment, **secrets, "PYTHONPATH": str(ROOT)},
    )
    assert done.code == 2
    assert "same secret" in done.err
