"""PostgreSQL notifications, as hints: receivers also find everything by polling, a little later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from activities.database import Pool
from activities.leases import DATABASE_TROUBLE

__all__ = ["listen"]

log = structlog.get_logger(__name__)

_AGAIN_SECONDS = 0.25


async def listen(
    pool: Pool, channels: Sequence[str], heard: Callable[[str, str], None], listening: Callable[[], None]
) -> None:
    """Listen for ever, on its own connection: `heard` is called with channel and payload.

    `listening` is called each time it begins, because earlier notifications were missed and must be read now.
    """

    def hear(_connection: Any, _pid: int, channel: str, payload: str) -> None:
        heard(channel, payload)

    while True:
        try:
            async with pool.acquire() as connection:
                gone = asyncio.Event()

                def ended(_connection: Any, gone: asyncio.Event = gone) -> None:
                    gone.set()

                connection.add_termination_listener(ended)
                try:
                    for channel in channels:
                        await connection.add_listener(channel, hear)
                    listening()
                    await gone.wait()
                finally:
                    # A connection that ended has been taken back by the pool already.
                    if not gone.is_set():
                        connection.remove_termination_listener(ended)
                        for channel in channels:
                            await connection.remove_listener(channel, hear)
        except DATABASE_TROUBLE as problem:
            log.warning("not listening, polling continues", problem=repr(problem))
        await asyncio.sleep(_AGAIN_SECONDS)
