"""Reads of the exchange shared by several callers (`activities.venue.SharedRead`)."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from activities.venue import SharedRead


async def test_a_read_that_fails_after_everybody_has_gone_is_no_fault_of_the_program() -> None:
    """Callers wait for a moment only; a later failure of the exchange is not reported as a background error."""
    fails = asyncio.Event()
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def read() -> int:
        await fails.wait()
        raise OSError("the exchange is away")

    shared = SharedRead(read)
    asked = asyncio.create_task(shared.read())
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.wait([asked])
    fails.set()
    await asyncio.wait([task for task in asyncio.all_tasks() if task is not asyncio.current_task()], timeout=5)
    del shared, asked
    gc.collect()
    await asyncio.sleep(0)
    assert told == []
