"""The webhook's HTTP server: uvicorn, with a limit to the time that a request may take to arrive.

uvicorn itself waits for ever for the end of a request's headers. Here a connection that has not brought a whole request
in time, or goes on sending after its answer, is closed, so that slow senders hold nothing for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["WebServer", "listen"]

_HEADER_BYTES = 16_384


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
        found.setblocking(False)
    except BaseException:
        found.close()
        raise
    return found


class WebServer(uvicorn.Server):
    """Serves an application until `stop()`. Leaves signals to whoever runs it."""

    def __init__(self, app: Any, *, arrival_s: float, max_connections: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_patient_for(arrival_s),
                loop="none",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=max_connections,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=10,
                h11_max_incomplete_event_size=_HEADER_BYTES,
            )
        )

    def stop(self) -> None:
        """Take no new requests and return from `serve` once those under way are answered."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own handlers would send the signal on after the end, and cut off what is closed then."""
        yield


def _patient_for(seconds: float) -> type[H11Protocol]:
    class Impatient(H11Protocol):
        """Closes a connection that brings no whole request within `seconds`."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(seconds, self._look)

        def _look(self) -> None:
            """While a request is being answered, the application holds the time; its answer is awaited."""
            cycle: Any = self.cycle  # None before the first request
            if cycle is not None and not cycle.response_complete:
                self._watch()
            elif self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing():
                self.transport.close()

    return Impatient
