"""Temporal's dev server as a child process: one file (or memory), the Web UI, our search attributes and queue rates."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from domain.visibility import SEARCH_ATTRIBUTES
from workers.errors import UnreachableError
from workers.processes import Child, Command, free_port, require_free_port
from workers.temporal_tuning import DYNAMIC_CONFIG, as_flag

_START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class DevServerConfig:
    """Program, log, and optionally a database file (None: in memory) and ports (0: any free one).

    `durable` False lets the newest histories be lost in a crash of the machine (never of the server alone) for speed.
    """

    program: Path
    log: Path
    database: Path | None = None
    durable: bool = True
    port: int = 0
    ui_port: int = 0
    ui: bool = True
    namespace: str = "default"


class DevServer:
    """One dev server; its ports stay the same over a restart, so that clients find it again."""

    def __init__(self, config: DevServerConfig) -> None:
        self.config = config
        self._port = config.port
        self._ui_port = config.ui_port
        self._child: Child | None = None

    @property
    def child(self) -> Child | None:
        """The server process, while it was not stopped."""
        return self._child

    @property
    def address(self) -> str:
        """The gRPC address, host:port."""
        return f"127.0.0.1:{self._port}"

    @property
    def ui_url(self) -> str | None:
        """The Web UI's address; None without one."""
        return f"http://127.0.0.1:{self._ui_port}" if self.config.ui else None

    async def start(self) -> None:
        """Start and wait until the namespace answers.

        Raises UnreachableError: PORT_IN_USE for a chosen port that is taken, TEMPORAL_FAILED with the log's last line.
        """
        if self._port:
            require_free_port(self._port, "Temporal", "--temporal-port")
        if self._ui_port and self.config.ui:
            require_free_port(self._ui_port, "Temporal's Web UI", "--ui-port")
        self._port = self._port or free_port()
        self._ui_port = self._ui_port or free_port()
        self._child = await Child.start(Command(name="Temporal", argv=self._argv(), log=self.config.log, grace_s=10.0))
        try:
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the server; what it wrote to its database file stays."""
        if self._child is not None:
            await self._child.stop()
            self._child = None

    async def kill(self) -> None:
        """SIGKILL; `start()` goes on from the database file on the same ports."""
        if self._child is not None:
            await self._child.kill()
            self._child = None

    def _argv(self) -> list[str]:
        config = self.config
        argv = [str(config.program), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(self._port)]
        argv += ["--namespace", config.namespace, "--log-level", "warn", "--log-format", "json"]
        argv += ["--ui-port", str(self._ui_port)] if config.ui else ["--headless"]
        if config.database is not None:
            argv += ["--db-filename", str(config.database)]
            # SQLite's default rewrites a rollback journal at every commit, which takes four times as long as its
            # write-ahead log does with the same safety (2 is FULL, 0 OFF).
            for pragma in ("journal_mode=wal", f"synchronous={2 if config.durable else 0}"):
                argv += ["--sqlite-pragma", pragma]
        for key, value in DYNAMIC_CONFIG.items():
            argv += ["--dynamic-config-value", f"{key}={as_flag(value)}"]
        for name, kind in SEARCH_ATTRIBUTES.items():
            argv += ["--search-attribute", f"{name}={kind}"]
        return argv

    async def _until_ready(self) -> None:
        child = self._child
        if child is None:
            raise RuntimeError("Temporal is not started")
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                client = await Client.connect(self.address, namespace=self.config.namespace)
                await client.workflow_service.describe_namespace(
                    DescribeNamespaceRequest(namespace=self.config.namespace)
                )
            except (RPCError, RuntimeError):
                if not child.running or time.monotonic() > deadline:
                    tail = child.log_tail(1) or "no message"
                    raise UnreachableError(
                        "TEMPORAL_FAILED", f"Temporal did not start: {tail} (log: {child.command.log})"
                    ) from None
                await asyncio.sleep(0.1)
            else:
                return
