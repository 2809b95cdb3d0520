"""The floor: a workflow with one empty activity, by an ordinary worker, on the same server, in the same run.

`FloorWorkflow` only waits for an activity that does nothing. Its time from start to result is Temporal's own time for
one decision and one side effect; its rate with 40 in flight is this machine's maximum. Its worker is the SDK's own with
all defaults, so that tuning in ours shows as a ratio.
`python -m bench.floor ADDRESS` is its worker in its own process, until SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from workers.polling import polled_since
    from workers.stack.processes import Child, Command, python_environment, python_module

__all__ = ["FloorWorkflow", "floor_once", "floor_process", "floor_rate", "floor_worker"]

QUEUE = "bench-floor"


@activity.defn(name="bench_nothing")
async def nothing() -> None:
    """Do nothing."""


@workflow.defn(name="BenchFloorWorkflow")
class FloorWorkflow:
    """One empty activity."""

    @workflow.run
    async def run(self) -> None:
        """Wait for it."""
        await workflow.execute_activity(nothing, start_to_close_timeout=timedelta(seconds=10))


def floor_worker(client: Client) -> Worker:
    """The floor's worker, not running yet."""
    return Worker(client, task_queue=QUEUE, workflows=[FloorWorkflow], activities=[nothing])


async def floor_once(client: Client) -> float:
    """Seconds from start to result, by an ordinary start."""
    began = time.perf_counter()
    await client.execute_workflow(FloorWorkflow.run, id=f"bench-floor-{uuid.uuid4()}", task_queue=QUEUE)
    return time.perf_counter() - began


async def floor_rate(client: Client, seconds: float, in_flight: int = 40) -> float:
    """Workflows a second with this many in flight."""
    began = time.perf_counter()
    until = began + seconds
    done = 0

    async def lane() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await floor_once(client)
            done += 1

    await asyncio.gather(*(lane() for _ in range(in_flight)))
    return done / (time.perf_counter() - began)


@contextlib.asynccontextmanager
async def floor_process(client: Client, address: str, log: Path) -> AsyncIterator[None]:
    """The floor's worker in its own process while the block runs."""
    began = time.time()
    child = await Child.start(
        Command(
            name="the floor's worker", argv=python_module("bench.floor", address), log=log, env=python_environment()
        )
    )
    try:
        async with asyncio.timeout(30):
            while not await polled_since(client, QUEUE, began):
                assert child.running, child.log_tail()
                await asyncio.sleep(0.1)
        await floor_once(client)
        yield
    finally:
        await child.stop()


async def _serve(address: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    async with floor_worker(client):
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
