"""A complete live system: `bottrader up` with mode = live, with a paper exchange at the exchange's own names.

It needs its own network and mount namespaces, which root may create; the environment in there tries to intervene.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.live_stack import ROOT, Outcome, run_command
from tests.support.waiting import SLACK, eventually
from workers.stack import server_binaries

_BETWEEN = {
    "REQUESTS_CA_BUNDLE": "/nowhere.pem",
    "CURL_CA_BUNDLE": "/nowhere.pem",
    "SSL_CERT_FILE": "/nowhere.pem",
    "SSL_CERT_DIR": "/nowhere",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "HTTP_PROXY": "http://127.0.0.1:1",
}


def _can_have_namespaces() -> bool:
    unshare = shutil.which("unshare")
    if sys.platform != "linux" or os.geteuid() != 0 or unshare is None or shutil.which("nsenter") is None:
        return False
    tried = subprocess.run([unshare, "--net", "--mount", "true"], check=False, capture_output=True)
    return tried.returncode == 0


pytestmark = [
    pytest.mark.skipif(not _can_have_namespaces(), reason="network and mount namespaces can't be made here"),
    # Live builds it if it is missing, which needs a network.
    pytest.mark.skipif(not server_binaries.all_cached(), reason="Temporal's server is not built: run `make server`"),
]


@dataclass(frozen=True)
class Live:
    """A live system in its own namespaces."""

    pid: int
    env: Mapping[str, str]
    said: Path

    async def command(self, *arguments: str, **env: str | None) -> Outcome:
        """Run `bottrader` in there; None in `env` removes a variable."""
        inside = ["nsenter", "--target", str(self.pid), "--net", "--mount", f"--wd={ROOT}"]
        argv = [*inside, sys.executable, "-m", "cli.main", *arguments]
        given = {name: value for name, value in {**self.env, **env}.items() if value is not None}
        return await run_command(argv, given, 120)


@contextlib.asynccontextmanager
async def _live(folder: Path) -> AsyncIterator[Live]:
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BOTTRADER_")},
        **_BETWEEN,
        "PYTHONPATH": str(ROOT),
        "BOTTRADER_MODE": "live",
        "BOTTRADER_EXCHANGE__KEY_FILE": str(folder / "venue" / "api_key.json"),
        "BOTTRADER_DATA": str(folder / "data"),
        "BOTTRADER_RISK__ALLOW_BUYS_ON_RED_DAY": "true",
    }
    if cache := os.environ.get("BOTTRADER_CACHE"):
        env["BOTTRADER_CACHE"] = cache
    said = folder / "up.txt"
    up = [sys.executable, "-m", "cli.main", "up", "--temporal-port", "0", "--ui-port", "0"]
    with said.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            "unshare", "--net", "--mount", sys.executable, "-m", "tests.support.venue_stand_in", str(folder), *up,
            env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:

        async def ready() -> bool:
            assert process.returncode is None, said.read_text()
            return "Ready after" in said.read_text()

        # Temporal's production server may have to be built first.
        await eventually(ready, within=600, every=0.2, what="the live system is ready")
        yield Live(process.pid, env, said)
        for child in psutil.Process(process.pid).children():
            child.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), SLACK * 60)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def test_a_live_system_says_so_is_armed_by_a_person_and_trades_with_the_exchange_alone(tmp_path: Path) -> None:
    """Unarmed it refuses a buy, armed it fills one, disarmed it refuses again; its commands find it, paper's don't, and
    neither proxies nor authorities of the environment interfere.
    """
    async with _live(tmp_path) as live:
        lines = live.said.read_text().splitlines()
        assert lines[0].startswith("LIVE: real money")
        for word in ("account main, coinbase account", "balances: 100000 USD", "risk.daily_loss_limit", "not armed"):
            assert any(word in line for line in lines), lines
        status = (await live.command("live", "status", "--json")).json
        assert (status["mode"], status["armed"], status["balances"]) == ("live", False, {"USD": "100000"})
        buy = ("order", "buy", "BTC-USD", "--quote", "50", "--json")
        refused = await live.command(*buy)
        assert (refused.code, "SKIP_TRADING_HALTED" in refused.out + refused.err) == (1, True), refused
        wrong = await live.command("live", "arm", "--yes-account", "other")
        assert (wrong.code, "nothing was changed" in wrong.err) == (1, True)
        armed = await live.command("live", "arm", "--yes-account", "main", "--json")
        assert (armed.code, armed.json["armed"]) == (0, True), armed
        assert "balances: 100000 USD" in armed.err
        assert (await live.command(*buy)).code == 0
        doctor = (await live.command("doctor", "--json")).json
        rows = {check["check"]: check["finding"] for check in doctor["checks"]}
        assert rows["settings"].startswith("LIVE: real money")
        assert rows["armed"].startswith("LIVE, armed by")
        assert "namespace bottrader-live" in rows["temporal"]
        nothing_said = {"BOTTRADER_MODE": None, "BOTTRADER_EXCHANGE__KEY_FILE": None}
        elsewhere = await live.command("doctor", "--json", **nothing_said)
        assert elsewhere.json["checks"][0]["finding"].startswith("LIVE: real money"), elsewhere
        assert (await live.command("live", "status", **nothing_said)).code == 0
        assert (await live.command("live", "disarm")).code == 0
        assert (await live.command(*buy, "--request-id", "another")).code == 1
        paper = await live.command("orders", BOTTRADER_MODE="paper", BOTTRADER_EXCHANGE__KEY_FILE="")
        assert (paper.code, paper.out) == (3, "")
