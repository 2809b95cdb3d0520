"""`bottrader up`, which `make up` runs once the environment is installed: time until it is ready, and its memory."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.rows import Row
from workers.stack import temporal_binary
from workers.stack.processes import Child, Command, python_environment, python_module

__all__ = ["start_up"]

_MOST_SECONDS = 20.0


async def start_up(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """Seconds until the addresses are printed, and the memory of all processes a moment later."""
    await temporal_binary.ensure_async(say)
    rounds = 1 if quick else 3
    times, memory = [], 0.0
    for number in range(rounds):
        say(f"starting the local stack, {number + 1} of {rounds}")
        took, memory = await _start_once()
        times.append(took)
    middle = sorted(times)[len(times) // 2]
    return [
        Row(
            what="`bottrader up` on an empty folder: ready",
            unit="s",
            p50=middle,
            p99=max(times),
            aim=f"<= {_MOST_SECONDS:g}",
            ok=max(times) <= _MOST_SECONDS,
            note=f"{rounds} starts",
        ),
        Row("memory of the whole stack, just started", "MiB", memory, note="all processes, shared pages once"),
    ]


async def _start_once() -> tuple[float, float]:
    own = {name: value for name, value in os.environ.items() if not _of_the_user(name)}
    with tempfile.TemporaryDirectory(prefix="bt-bench-", ignore_cleanup_errors=True) as folder:
        arguments = [
            "up",
            "--data",
            folder,
            "--temporal-port",
            "0",
            "--ui-port",
            "0",
            "--web-port",
            "0",
            "--api-port",
            "0",
        ]
        arguments.append("--json")
        began = time.monotonic()
        child = await Child.start(
            Command(
                name="the local stack",
                argv=python_module("cli.main", *arguments),
                log=Path(folder) / "up.log",
                env={**own, "PYTHONPATH": python_environment()["PYTHONPATH"]},
                pipe_stdout=True,
                grace_s=30,
            )
        )
        try:
            assert child.process.stdout is not None
            line = await asyncio.wait_for(child.process.stdout.readline(), 60)
            took = time.monotonic() - began
            assert line, child.log_tail()
            assert json.loads(line)["temporal"]
            processes = psutil.Process(child.pid)
            memory = sum(_proportional(item) for item in (processes, *processes.children(recursive=True)))
        finally:
            await child.stop()
    return took, memory / 2**20


def _of_the_user(name: str) -> bool:
    return name in {"DATABASE_URL", "TEMPORAL_ADDRESS"} or (name.startswith("BOTTRADER_") and name != "BOTTRADER_CACHE")


def _proportional(process: psutil.Process) -> int:
    """Bytes, with pages shared by several processes counted proportionally; the resident size if that is unknown."""
    found = process.memory_full_info()
    return int(getattr(found, "pss", found.rss))
