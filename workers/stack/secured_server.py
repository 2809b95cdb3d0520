"""Temporal's production server as a child process, on one SQLite file, reached only with a client certificate.

Used for live trading. Without the certificate none of its ports answers: neither gRPC nor the HTTP API nor the internal
ones. The Web UI's server runs beside it without a certificate, only for its files (`workers.stack.temporal_ui`).
"""

import asyncio
import contextlib
import json
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client, TLSConfig
from temporalio.service import RPCError

from workers.errors import UnreachableError
from workers.stack.certificates import SERVER_NAME, Certificates
from workers.stack.processes import Child, Command, free_port, listens, require_free_port
from workers.stack.temporal_tuning import as_yaml

__all__ = ["SecuredServer", "SecuredServerConfig", "UiFiles", "client_tls"]

_START_TIMEOUT_S = 120.0
"""One that is alive may take so long on a busy machine; one that ended is seen at once."""
_CLUSTER = "active"  # the dev server's name of itself: a file that it began can be gone on with
_NOWHERE = "127.0.0.1:1"
# Without it the members' ports answer in the clear, and who asks one of them to leave stops every workflow.
_MEMBERS_BY_TLS = {"system.enableRingpopTLS": True}


@dataclass(frozen=True)
class SecuredServerConfig:
    """Programs, certificates, database file and log. `folder` is for the configuration, readable by the owner alone.

    `port` 0 is any free one; `metrics_port` 0: no metrics. `durable` as for the dev server.
    """

    program: Path
    certificates: Certificates
    folder: Path
    database: Path
    log: Path
    durable: bool = True
    port: int = 0
    metrics_port: int = 0


class SecuredServer:
    """One server; its ports don't change over a restart, so that clients can reconnect."""

    def __init__(self, config: SecuredServerConfig) -> None:
        self.config = config
        self._port = config.port
        self._http_port = 0
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
    def api(self) -> str:
        """The HTTP API's address, for the Web UI's proxy."""
        return f"https://127.0.0.1:{self._http_port}"

    async def start(self) -> None:
        """Start and wait until it answers; namespaces are created elsewhere.

        Raises UnreachableError: PORT_IN_USE for a chosen port that is taken, TEMPORAL_FAILED with the log's last line.
        """
        if self._port:
            require_free_port(self._port, "Temporal", "--temporal-port")
        if self.config.metrics_port:
            require_free_port(self.config.metrics_port, "Temporal's metrics", "telemetry.temporal_port")
        self._port = self._port or free_port()
        self._http_port = self._http_port or free_port()
        config = self.config
        config.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(config.folder / "dynamicconfig.yaml", as_yaml(_MEMBERS_BY_TLS))
        # JSON is YAML, too, and quotes every path as it must be.
        _write(config.folder / "production.yaml", json.dumps(self._configuration(), indent=2))
        await asyncio.to_thread(_forget_members, config.database)
        argv = [str(config.program), "--root", str(config.folder), "--config", ".", "--env", "production"]
        self._child = await Child.start(
            Command(
                name="Temporal",
                argv=[*argv, "--allow-no-auth", "start"],
                log=config.log,
                env=_environment(),
                cwd=config.database.parent,  # the file's name alone is in the configuration: no path has to be quoted
                grace_s=15.0,
            )
        )
        try:
            await self._until_ready(self._child)
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

    async def _until_ready(self, child: Child) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not await self._answers(child):
            if not child.running or time.monotonic() > deadline:
                tail = child.log_tail(1) or "no message"
                raise UnreachableError("TEMPORAL_FAILED", f"Temporal did not start: {tail} (log: {child.command.log})")
            await asyncio.sleep(0.1)

    async def _answers(self, child: Child) -> bool:
        if not await asyncio.to_thread(listens, child.pid, self._port):
            return False
        try:
            await Client.connect(self.address, tls=client_tls(self.config.certificates))
        except (RPCError, RuntimeError):
            return False
        return True

    def _configuration(self) -> dict[str, object]:
        config, files = self.config, self.config.certificates
        store = {
            "sql": {
                "pluginName": "sqlite",
                "databaseName": config.database.name,
                "connectAddr": "localhost",
                "connectProtocol": "tcp",
                "connectAttributes": {
                    "mode": "rwc",
                    "setup": "true",
                    "journal_mode": "wal",
                    "synchronous": "2" if config.durable else "0",
                },
                "maxConns": 1,
                "maxIdleConns": 1,
            }
        }
        us = {"serverName": SERVER_NAME, "rootCaFiles": [str(files.ca_file)]}
        them = {
            "certFile": str(files.server_cert_file),
            "keyFile": str(files.server_key_file),
            "requireClientAuth": True,
            "clientCaFiles": [str(files.ca_file)],
        }
        worker = {"certFile": str(files.client_cert_file), "keyFile": str(files.client_key_file), "client": us}
        services = {name: {"rpc": _listening()} for name in ("frontend", "matching", "history", "worker")}
        services["frontend"]["rpc"] |= {"grpcPort": self._port, "httpPort": self._http_port}
        return {
            "log": {"stdout": True, "level": "warn", "format": "json"},
            "persistence": {
                "defaultStore": "sqlite",
                "visibilityStore": "sqlite",
                "numHistoryShards": 1,
                "datastores": {"sqlite": store},
            },
            "global": {
                **_metrics(config.metrics_port),
                "membership": {"maxJoinDuration": "30s", "broadcastAddress": "127.0.0.1"},
                "tls": {
                    "internode": {"server": them, "client": us},
                    "frontend": {"server": them, "client": us},
                    "systemWorker": worker,
                },
            },
            "services": services,
            "clusterMetadata": {
                "enableGlobalNamespace": False,
                "failoverVersionIncrement": 10,
                "masterClusterName": _CLUSTER,
                "currentClusterName": _CLUSTER,
                "clusterInformation": {
                    _CLUSTER: {
                        "enabled": True,
                        "initialFailoverVersion": 1,
                        "rpcName": "frontend",
                        "rpcAddress": self.address,
                    }
                },
            },
            "dcRedirectionPolicy": {"policy": "noop"},
            "archival": {"history": {"state": "disabled"}, "visibility": {"state": "disabled"}},
            "dynamicConfigClient": {"filepath": str(config.folder / "dynamicconfig.yaml"), "pollInterval": "60s"},
        }


class UiFiles:
    """The Web UI's own server, without access to Temporal: its port only serves the UI's files."""

    def __init__(self, program: Path, folder: Path, log: Path) -> None:
        self._program = program
        self._folder = folder
        self._log = log
        self._port = 0
        self._child: Child | None = None

    @property
    def child(self) -> Child | None:
        """The process, until it is stopped."""
        return self._child

    @property
    def address(self) -> str:
        """Where the files are."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start and wait until it listens. Raises UnreachableError(TEMPORAL_UI_FAILED) with its log's last line."""
        self._port = self._port or free_port()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = {"temporalGrpcAddress": _NOWHERE, "host": "127.0.0.1", "port": self._port, "enableUi": True}
        _write(self._folder / "files.yaml", json.dumps({**told, "hideLogs": True}))
        argv = [str(self._program), "--root", str(self._folder), "--config", ".", "--env", "files", "start"]
        self._child = child = await Child.start(Command("Temporal's Web UI", argv, self._log, env=_environment()))
        deadline = time.monotonic() + _START_TIMEOUT_S
        try:
            while not await asyncio.to_thread(listens, child.pid, self._port):
                if not child.running or time.monotonic() > deadline:
                    raise UnreachableError(
                        "TEMPORAL_UI_FAILED",
                        f"Temporal's Web UI did not start: {child.log_tail(1) or 'no message'} (log: {self._log})",
                    )
                await asyncio.sleep(0.1)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop it."""
        if self._child is not None:
            await self._child.stop()
            self._child = None

    async def kill(self) -> None:
        """SIGKILL; `start()` listens on the same port again."""
        if self._child is not None:
            await self._child.kill()
            self._child = None


def client_tls(files: Certificates) -> TLSConfig:
    """The TLS configuration of our clients. Raises OSError."""
    return TLSConfig(
        server_root_ca_cert=files.ca_file.read_bytes(),
        client_cert=files.client_cert_file.read_bytes(),
        client_private_key=files.client_key_file.read_bytes(),
    )


def _forget_members(database: Path) -> None:
    """Remove the last run's members from the file: the next run would wait half a minute for them."""
    if not database.exists():
        return
    with contextlib.closing(sqlite3.connect(database)) as connection, contextlib.suppress(sqlite3.OperationalError):
        connection.execute("DELETE FROM cluster_membership")
        connection.commit()


def _metrics(port: int) -> dict[str, object]:
    """An endpoint for Prometheus, on this machine only."""
    told = {"listenAddress": f"127.0.0.1:{port}", "timerType": "histogram"}
    return {"metrics": {"prometheus": told}} if port else {}


def _listening() -> dict[str, object]:
    return {"grpcPort": free_port(), "membershipPort": free_port(), "bindOnIP": "127.0.0.1"}


def _environment() -> dict[str, str]:
    """The environment without TEMPORAL_* variables, which both servers would read in addition to their files."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
