"""The HTTP server of the webhook and of the API: uvicorn, with a limit to the time that a request may take to arrive.

uvicorn itself waits for ever for the end of a request's headers. Here a connection that has not sent a whole request in
time, or keeps sending after its answer, is closed, so that slow senders hold nothing for long. If all connections are
in use, the one waiting longest without a request, or whose client does not read the answer, is closed, of the address
with the most: idle connections in masses don't block real requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from web.strangers import Tally

__all__ = ["WebServer", "listen"]

_HEADER_BYTES = 16_384


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 is any free one. Raises OSError."""
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
    """Serves an application until `stop()`. Leaves signals to the caller. `name` stands before its log lines."""

    def __init__(self, app: Any, *, arrival_s: float, max_connections: int, name: str = "webhook") -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_patient_for(arrival_s, _Room(max_connections), _counting(Tally(f"{name}_http"))),
                loop="none",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=10,
                h11_max_incomplete_event_size=_HEADER_BYTES,
            )
        )

    def stop(self) -> None:
        """Accept no new requests and return from `serve` once those in progress are answered."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own handlers would send the signal on after the end, and cut off what is closed then."""
        yield


class _Room:
    """The open connections, by address, ordered by their last activity."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._by_address: dict[str, dict[Any, Callable[[], bool]]] = {}

    def enter(self, address: str, connection: Any, give_way: Callable[[], bool]) -> bool:
        """Whether there is room for one more; `give_way` ends the connection unless its request is being answered."""
        if self._count >= self._most and not self._make_room():
            return False
        self._by_address.setdefault(address, {})[connection] = give_way
        self._count += 1
        return True

    def spoke(self, address: str, connection: Any) -> None:
        """It was answered: of its address, it is closed last."""
        of_address = self._by_address.get(address, {})
        if (give_way := of_address.pop(connection, None)) is not None:
            of_address[connection] = give_way

    def leave(self, address: str, connection: Any) -> None:
        """It is closed, or about to be. Idempotent."""
        of_address = self._by_address.get(address, {})
        if of_address.pop(connection, None) is not None:
            self._count -= 1
            if not of_address:
                del self._by_address[address]

    def _make_room(self) -> bool:
        for address in sorted(self._by_address, key=lambda name: len(self._by_address[name]), reverse=True):
            for connection, give_way in self._by_address[address].items():
                if give_way():
                    self.leave(address, connection)
                    return True
        return False


def _counting(tally: Tally) -> logging.Logger:
    """Counts uvicorn's log messages about bad requests (each has a constant text): one line a minute."""

    def count(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        tally.add(type(error).__name__ if error else record.getMessage().strip())
        return False

    logger = logging.Logger("webhook", logging.WARNING)  # noqa: LOG001 - in no hierarchy: nothing else hears it
    logger.addFilter(count)
    return logger


class _Impatient(H11Protocol):
    """Closes a connection that sends no whole request within `seconds`, and gives way when there is no room."""

    seconds: float
    room: _Room
    counted: logging.Logger
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.logger = self.counted
        super().connection_made(transport)
        if self.room.enter(self._address(), self, self._give_way):
            self._watch()
        else:
            transport.abort()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.room.spoke(self._address(), self)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.room.leave(self._address(), self)
        super().connection_lost(exc)

    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.seconds, self._look)

    def _look(self) -> None:
        """While a request is being answered, the application's own time limit applies."""
        cycle: Any = self.cycle  # None before the first request
        if cycle is not None and not cycle.response_complete:
            self._watch()
        elif self._waits() and not self.transport.is_closing():
            self.transport.close()

    def _waits(self) -> bool:
        """Whether the client has not sent a whole request."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _give_way(self) -> bool:
        """Whether it was closed: nothing is asked of it, or the client does not take what was answered."""
        if self._waits() or self.flow.write_paused or self.transport.is_closing():
            self.transport.abort()
            return True
        return False


def _patient_for(seconds: float, room: _Room, counted: logging.Logger) -> type[H11Protocol]:
    return type("Impatient", (_Impatient,), {"seconds": seconds, "room": room, "counted": counted})
