"""The HTTP server of a process's metrics.

On loopback it answers only to an address or `localhost`, so that a web page under a name that it has bound to this
machine reads nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from workers.errors import UserError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client import CollectorRegistry

__all__ = ["MetricsServer"]


class MetricsServer:
    """Serves `registry` at http://host:port/metrics from a thread, until `close()`.

    Raises UserError(PORT_IN_USE), with the setting `key` of the port, for a port that can't be listened on.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int, key: str) -> None:
        from prometheus_client import make_wsgi_app  # noqa: PLC0415 - slow to load

        app: WSGIApplication = make_wsgi_app(registry)
        try:
            kind = _SixServer if ":" in host else _Server
            self._server = make_server(host, port, _guarded(app, host), kind, _Quiet)
        except OSError as error:
            raise UserError(
                "PORT_IN_USE", f"Metrics can't be served ({error.strerror}): set telemetry.host and {key}."
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop serving; waits for a request in progress, so it is for a thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # WSGIServer's own looks its name up, which may take seconds where no name server answers.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that left is no error."""


class _SixServer(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 10  # seconds: who sends nothing holds no thread for long

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Scrapes are not logged."""


def _guarded(app: WSGIApplication, host: str) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """`app`, on loopback for requests to an address or `localhost` only."""
    on_loopback = host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if on_loopback and not _names_an_address(str(environ.get("HTTP_HOST", ""))):
            status = HTTPStatus.FORBIDDEN
            start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"Ask for it by this machine's address.\n"]
        return app(environ, start)

    return answer


def _names_an_address(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return name.lower() == "localhost" or _is_address(name.strip("[]"))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
