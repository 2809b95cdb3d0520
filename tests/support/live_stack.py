"""A whole stack for tests of the user's way: real servers, a real worker process, real commands.

The paper exchange is in step mode, so the market stands still until a test moves it.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from exchange.paper import PaperControl
from tests.support.waiting import SLACK
from workers.settings.risk import WITHOUT_LIMITS
from workers.stack.local_stack import LocalStack, LocalStackConfig

__all__ = ["LiveStack", "Outcome", "live_stack", "run_command"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error object that `--json` puts on stderr."""
        return json.loads(self.err.strip().splitlines()[-1])["error"]


@dataclass(frozen=True)
class LiveStack:
    """A running stack with access to its ledger, its Temporal and its exchange."""

    stack: LocalStack
    ledger: Any
    client: Client
    control: PaperControl
    env: Mapping[str, str] = field(default_factory=dict)

    async def command(self, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 60) -> Outcome:
        """Run `bottrader` with these arguments in its own process."""
        argv = [sys.executable, "-m", "cli.main", *arguments]
        return await run_command(argv, {**self.env, **(env or {})}, timeout)

    async def price(self, symbol: str, bid: str, ask: str) -> None:
        """Move the market of a symbol to a quote."""
        await self.control.set_price(symbol, Decimal(bid), Decimal(ask))


async def run_command(argv: Sequence[str], env: Mapping[str, str], timeout: float = 60, cwd: Path = ROOT) -> Outcome:
    """Run a program in a folder, else the repository's root, and collect its output.

    `timeout` is in seconds of a free machine.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), SLACK * timeout)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    return Outcome(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def live_stack(*paper_arguments: str, env: Mapping[str, str] | None = None) -> AsyncIterator[LiveStack]:
    """A throw-away stack in step mode; `env` is added to the worker's and the commands' environment."""
    config = LocalStackConfig(
        ui=False, paper_arguments=["--step", *paper_arguments], env={**WITHOUT_LIMITS, **(env or {})}
    )
    async with LocalStack(config) as stack:
        ledger = await asyncpg.create_pool(stack.dsn, min_size=1, max_size=3, command_timeout=20)
        client = await Client.connect(stack.temporal_address, data_converter=pydantic_data_converter)
        try:
            async with PaperControl(stack.paper) as control:
                commands = {
                    **os.environ,
                    **stack.environment,
                    "BOTTRADER_DATA": str(stack.data),
                    "PYTHONPATH": str(ROOT),
                    "COLUMNS": "200",
                }
                yield LiveStack(stack, ledger, client, control, commands)
        finally:
            await ledger.close()
