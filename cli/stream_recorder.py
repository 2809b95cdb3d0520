"""A recorder of streams: frames as they come, one line each, until it has enough."""

import asyncio
import signal
import time
from typing import IO, TYPE_CHECKING

import orjson

from cli.output import UnreachableError, UserError, note
from exchange.port import Disconnected

if TYPE_CHECKING:
    from exchange.streams import ReconnectingStream

__all__ = ["Recorder", "record_stream"]

_PATIENCE = 2.0
"""Seconds between two lines of progress."""
_FAILURES_UNTIL_GIVING_UP = 5


class Recorder:
    """Writes frames as they are, one line each; tokens are masked. Full, too, when the exchange refuses a product."""

    def __init__(self, file: IO[bytes], most: int | None, products: list[str]) -> None:
        self._file = file
        self._most = most
        self._products = products
        self._refused = ""
        self.count = 0
        self.errors = 0
        """How many of the messages are errors of the exchange."""
        self.full = asyncio.Event()

    def sent(self, text: str) -> None:
        """A message went out."""
        message = orjson.loads(text)
        if "jwt" in message:
            message["jwt"] = "***"
        self._write(orjson.dumps({"sent": message}))

    def received(self, frame: bytes) -> None:
        """A frame came in."""
        if self.full.is_set():
            return
        try:
            message = orjson.loads(frame)
        except orjson.JSONDecodeError:
            self._write(orjson.dumps({"received": frame.decode("utf-8", "backslashreplace")}))
        else:
            # Verbatim; line ends can only stand between tokens.
            self._write(b'{"received": ' + frame.replace(b"\r", b" ").replace(b"\n", b" ") + b"}")
            if isinstance(message, dict) and message.get("type") == "error":
                self._error(str(message.get("message") or message.get("reason") or ""))
        self.count += 1
        if self._most is not None and self.count >= self._most:
            self.full.set()

    def _error(self, words: str) -> None:
        self.errors += 1
        if self._products and ("product" in words.lower() or any(name in words for name in self._products)):
            # Asking again would bring the same answer.
            self._refused = words
            self.full.set()

    def require_products(self) -> None:
        """Raise UserError(UNKNOWN_SYMBOL) in the exchange's own words if it refused a product."""
        if self._refused:
            raise UserError("UNKNOWN_SYMBOL", f"The exchange says: {self._refused.rstrip('.')}; check --symbols.")

    def disconnected(self, reason: str) -> None:
        """What follows belongs to another connection."""
        if not self.full.is_set():
            self._write(orjson.dumps({"disconnected": reason}))

    def _write(self, line: bytes) -> None:
        try:
            self._file.write(line + b"\n")
            self._file.flush()
        except BrokenPipeError:
            # Whoever read our output, as `head` does, has enough.
            self.full.set()
        except OSError as problem:
            # Not as it is: for the stream an OSError is a lost connection.
            raise UserError(
                "CANNOT_WRITE", f"The recording can't be written any more: {problem.strerror or problem}."
            ) from None


async def record_stream(stream: "ReconnectingStream", recorder: Recorder, seconds: float | None) -> None:
    """Read the stream until the recorder is full, for `seconds` at most, or until a signal. Raises UserError."""
    stop = recorder.full
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    async def read() -> None:
        shown = time.monotonic()
        async for event in stream:
            if isinstance(event, Disconnected):
                note(f"disconnected: {event.reason}; again in {event.retry_in:.1f} s")
                if recorder.count == recorder.errors and event.failures >= _FAILURES_UNTIL_GIVING_UP:
                    raise UnreachableError(
                        "NO_STREAM", f"No message was received after {event.failures} tries: {event.reason}."
                    )
            elif time.monotonic() - shown >= _PATIENCE:
                shown = time.monotonic()
                note(f"{recorder.count} messages")

    reading = asyncio.create_task(read())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({reading, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
    finally:
        for task in (reading, stopping):
            task.cancel()
        await asyncio.gather(reading, stopping, return_exceptions=True)
        await stream.aclose()
