"""The disk's time to store 8 KiB durably (write and fdatasync), where the throw-away servers keep their files.

Every commit of PostgreSQL and of Temporal waits for at least one such call, so it is part of every other row.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.rows import Row, percentile

__all__ = ["disk"]

_BLOCK = bytes(8192)


async def disk(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """One row, without an aim: it depends on the user's disk."""
    times = 100 if quick else 1000
    say(f"fdatasync: {times} blocks of 8 KiB")
    took = await asyncio.to_thread(_sync, times)
    return [
        Row(
            what="8 KiB written and synced (fdatasync)",
            unit="ms",
            p50=statistics.median(took) * 1e3,
            p99=percentile(took, 99) * 1e3,
            note=f"{times} samples in {tempfile.gettempdir()}",
        )
    ]


def _sync(times: int) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="bottrader-bench-") as folder:
        file = os.open(Path(folder) / "block", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            return [_once(file) for _ in range(times)]
        finally:
            os.close(file)


def _once(file: int) -> float:
    began = time.perf_counter()
    os.write(file, _BLOCK)
    os.fdatasync(file)
    return time.perf_counter() - began
