"""Limits for the size, rate, concurrency and arrival time of requests."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect, Request

from web.refusals import Refused

__all__ = ["Rates", "Slots", "read_body"]


async def read_body(request: Request, *, most: int, seconds: float) -> bytes:
    """The body, at most `most` bytes; a larger one is refused before it is read completely.

    Raises Refused: BODY_TOO_LARGE (413), BODY_TOO_SLOW (408), GONE (400).
    """
    too_large = Refused(413, "BODY_TOO_LARGE", f"An alert may have at most {most} bytes (webhook.max_body_bytes).")
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > most:
        raise too_large
    found = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                found += piece
                if len(found) > most:
                    raise too_large
    except TimeoutError:
        raise Refused(408, "BODY_TOO_SLOW", f"The body did not arrive within {seconds:g} s.") from None
    except ClientDisconnect:
        raise Refused(400, "GONE", "The sender left before the body had arrived.") from None
    return bytes(found)


@dataclass
class _Bucket:
    tokens: float
    at: float


@dataclass
class Rates:
    """Buckets of alerts for each sender: each holds `burst`, and fills at `per_minute`. Senders are few and known.

    Closes have their own bucket, so that an exit is not delayed by its sender's entries.
    """

    clock: Callable[[], float] = time.monotonic
    _buckets: dict[tuple[str, bool], _Bucket] = field(default_factory=dict)

    def take(self, sender: str, *, per_minute: int, burst: int, closes: bool = False) -> None:
        """Raises Refused(429, TOO_MANY) with the seconds until the next one is taken."""
        now = self.clock()
        bucket = self._buckets.setdefault((sender, closes), _Bucket(float(burst), now))
        rate = per_minute / 60
        bucket.tokens = min(float(burst), bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.tokens < 1:
            wait = math.ceil((1 - bucket.tokens) / rate)
            raise Refused(
                429,
                "TOO_MANY",
                f"{sender} sends more than {per_minute} alerts a minute (burst {burst}): nothing was decided, the same "
                f"alert may be sent again in {wait} s.",
                retry_after=wait,
            )
        bucket.tokens -= 1


@dataclass
class Slots:
    """Limits how many alerts are decided at the same time."""

    taken: int = 0

    @contextlib.contextmanager
    def one(self, most: int) -> Iterator[None]:
        """Raises Refused(503, BUSY) when `most` are taken."""
        if self.taken >= most:
            raise Refused(
                503,
                "BUSY",
                f"{most} alerts are being decided: nothing was done with this one, send it again.",
                retry_after=1,
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
