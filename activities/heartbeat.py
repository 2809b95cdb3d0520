"""Heartbeats for calls to the exchange, so that a dead worker is noticed long before their own timeout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio import activity

__all__ = ["alive"]

_EVERY_SECONDS = 1.0


@asynccontextmanager
async def alive() -> AsyncIterator[None]:
    """Heartbeat each second while the body runs; a shorter body costs nothing."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            activity.heartbeat()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
