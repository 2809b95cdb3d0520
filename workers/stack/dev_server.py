"""Temporal's dev server as a child process: one file (or memory), the Web UI, our search attributes and queue rates.

Web pages can't trade through it: its HTTP API answers only a secret Host name, and of its Web UI only the files are
served (`workers.stack.temporal_ui` proxies the rest). Its gRPC is open to every process on this machine.
"""

import asyncio
import json
import secrets
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from domain.visibility import SEARCH_ATTRIBUTES
from workers.errors import UnreachableError
from workers.stack.processes import Child, Command, free_port, listens, require_free_port
from workers.stack.temporal_binary import CLI_VERSION
from workers.stack.temporal_tuning import DYNAMIC_CONFIG, as_flag
from workers.stack.temporal_ui import PUBLIC_PATH, UiUpstream

__all__ = ["DevServer", "DevServerConfig"]

_START_TIMEOUT_S = 120.0
"""One that is alive may take so long on a busy machine; one that ended is seen at once."""


@dataclass(frozen=True)
class DevServerConfig:
    """Program, log, and optionally a database file (None: in memory), gRPC port (0: any free one) and metrics port.

    `durable` False: faster, but a crash of the machine (not of the server alone) may lose the newest histories.
    """

    program: Path
    log: Path
    database: Path | None = None
    durable: bool = True
    port: int = 0
    ui: bool = True
    metrics_port: int = 0
    namespace: str = "default"


class DevServer:
    """One dev server; its ports don't change over a restart, so that clients can reconnect."""

    def __init__(self, config: DevServerConfig) -> None:
        self.config = config
        self._port = config.port
        self._ui_port = 0
        self._http_port = 0
        self._api_host = f"{secrets.token_hex(16)}.invalid"
        self._child: Child | None = None

    @property
    def child(self) -> Child | None:
        """The server process, until it is stopped."""
        return self._child

    @property
    def address(self) -> str:
        """The gRPC address, host:port."""
        return f"127.0.0.1:{self._port}"

    @property
    def upstream(self) -> UiUpstream:
        """The upstream of the Web UI's proxy."""
        return UiUpstream(
            files=f"http://127.0.0.1:{self._ui_port}",
            api=f"http://127.0.0.1:{self._http_port}",
            api_host=self._api_host,
            public_path=PUBLIC_PATH,
        )

    async def start(self) -> None:
        """Start and wait until the namespace answers.

        Raises UnreachableError: PORT_IN_USE for a chosen port that is taken, TEMPORAL_FAILED with the log's last line.
        """
        if self._port:
            require_free_port(self._port, "Temporal", "--temporal-port")
        if self.config.metrics_port:
            require_free_port(self.config.metrics_port, "Temporal's metrics", "telemetry.temporal_port")
        self._port = self._port or free_port()
        self._ui_port = self._ui_port or free_port()
        self._http_port = self._http_port or free_port()
        self._child = await Child.start(Command(name="Temporal", argv=self._argv(), log=self.config.log, grace_s=10.0))
        try:
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the server; its database file stays."""
        if self._child is not None:
            await self._child.stop()
            self._child = None

    async def kill(self) -> None:
        """SIGKILL; `start()` continues from the database file on the same ports."""
        if self._child is not None:
            await self._child.kill()
            self._child = None

    def _argv(self) -> list[str]:
        config = self.config
        argv = [str(config.program), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(self._port)]
        argv += ["--namespace", config.namespace, "--log-level", "warn", "--log-format", "json"]
        argv += ["--http-port", str(self._http_port)]
        if config.metrics_port:
            argv += ["--metrics-port", str(config.metrics_port)]
        if config.ui:
            argv += ["--ui-port", str(self._ui_port), "--ui-public-path", PUBLIC_PATH]
        else:
            argv += ["--headless"]
        if config.database is not None:
            argv += ["--db-filename", str(config.database)]
            # SQLite's default rewrites a rollback journal at every commit, which takes four times as long as its
            # write-ahead log does with the same safety (2 is FULL, 0 OFF).
            for pragma in ("journal_mode=wal", f"synchronous={2 if config.durable else 0}"):
                argv += ["--sqlite-pragma", pragma]
        for key, value in DYNAMIC_CONFIG.items():
            argv += ["--dynamic-config-value", f"{key}={as_flag(value)}"]
        argv += ["--dynamic-config-value", f"frontend.httpAllowedHosts={json.dumps([self._api_host])}"]
        for name, kind in SEARCH_ATTRIBUTES.items():
            argv += ["--search-attribute", f"{name}={kind}"]
        return argv

    async def _until_ready(self) -> None:
        child = self._child
        if child is None:
            raise RuntimeError("Temporal is not started")
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not await self._answers(child):
            if not child.running or time.monotonic() > deadline:
                tail = child.log_tail(1) or "no message"
                raise UnreachableError("TEMPORAL_FAILED", f"Temporal did not start: {tail} (log: {child.command.log})")
            await asyncio.sleep(0.1)
        await self._require_shut()

    async def _answers(self, child: Child) -> bool:
        # Another's server on the port, in the moment before ours finds it taken, isn't ours.
        if not await asyncio.to_thread(listens, child.pid, self._port):
            return False
        try:
            client = await Client.connect(self.address, namespace=self.config.namespace)
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=self.config.namespace))
        except (RPCError, RuntimeError):
            return False
        return True

    async def _require_shut(self) -> None:
        """The user's own program may be of any version with different options: test that they work."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_START_TIMEOUT_S)) as client:
            async with client.get(f"{self.upstream.api}/api/v1/namespaces") as answer:
                shut = answer.status == HTTPStatus.FORBIDDEN
            if self.config.ui:
                # An address that it doesn't know is the page's for it: an answer of the API would be JSON.
                async with client.get(f"{self.upstream.files}/api/v1/namespaces") as answer:
                    shut = shut and answer.content_type == "text/html"
        if not shut:
            raise UnreachableError(
                "TEMPORAL_OPEN",
                f"{self.config.program} can't be used: web pages could trade through this version of Temporal. "
                f"Update it, or remove it from PATH, so that {CLI_VERSION} is fetched.",
            )
