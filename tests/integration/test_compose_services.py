"""Every service of the compose file as a plain process: its own command, its own environment, its own health check.

Only the images themselves are not tested. Names of containers become 127.0.0.1, mounted paths become the files that are
mounted, and nothing else is changed. Needs Temporal's production server (`make server`).
"""

import asyncio
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from temporalio.client import Client

from domain.visibility import SEARCH_ATTRIBUTES
from tests.support.compose import ROOT, load
from workers.polling import ROLES
from workers.stack import server_binaries
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig
from workers.stack.processes import Child, Command, free_port


def _full_postgres() -> Path | None:
    """The bin folder of an installed PostgreSQL with the extension that Temporal's visibility schema needs."""
    for programs in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        pg_config = programs / "pg_config"
        if not (programs / "postgres").exists():
            continue
        major = programs.parent.name
        shares = [Path(f"/usr/share/postgresql/{major}")]
        if pg_config.exists():
            done = subprocess.run([pg_config, "--sharedir"], capture_output=True, text=True, check=False)
            shares.append(Path(done.stdout.strip()))
        if any((share / "extension/btree_gin.control").exists() for share in shares):
            return programs
    return None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not server_binaries.all_cached(), reason="Temporal's server is not built: run `make server`"),
    pytest.mark.skipif(_full_postgres() is None, reason="no PostgreSQL with btree_gin is installed"),
]


def _low_port() -> int:
    """A free port that fits a smallint: Temporal keeps its members' ports in one."""
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port below 32768")


class Composed:
    """The services, started in the order of their dependencies."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres) -> None:
        self.services: dict[str, Any] = load()["services"]
        self.folder = folder
        self.postgres = postgres
        self.ports = {
            name: _low_port()
            for name in ("temporal", "http", "ui", "gate", "rest", "stream", "control", "webhook", "metrics")
        }
        self.metrics_ports: dict[tuple[str, str], int] = {}
        (folder / "webhook_token").touch(0o600)
        (folder / "webhook_token").write_text("a-token-of-the-tests\n")
        self._children: list[Child] = []
        self._programs = folder / "bin"
        self._programs.mkdir()
        for program in server_binaries.PROGRAMS:
            (self._programs / program).symlink_to(server_binaries.cached(program))

    def here(self, text: str) -> str:
        """`text` with containers' names and mounted paths replaced by this machine's."""
        for inside, outside in {
            "8780": str(self.ports["webhook"]),
            "/run/secrets/webhook_token": str(self.folder / "webhook_token"),
            "/run/secrets/postgres_password": str(self.postgres.folder / "password"),
            "/etc/temporal/bottrader": str(ROOT / "deploy/temporal"),
            "postgres:5432": f"127.0.0.1:{self.postgres.config.port}",
            "temporal:7233": f"127.0.0.1:{self.ports['temporal']}",
            "0.0.0.0:9467": f"127.0.0.1:{self.ports['metrics']}",
            "temporal:7243": f"127.0.0.1:{self.ports['http']}",
            "temporal-ui:8080": f"127.0.0.1:{self.ports['ui']}",
            "port=8233": f"port={self.ports['gate']}",
            "127.0.0.1', 8233": f"127.0.0.1', {self.ports['gate']}",
            "paper:8443": f"127.0.0.1:{self.ports['rest']}",
            "paper:8444": f"127.0.0.1:{self.ports['stream']}",
            "/paper": str(self.folder / "paper"),
            "0.0.0.0": "127.0.0.1",  # noqa: S104 - the compose file's own, replaced here
            "=8443": f"={self.ports['rest']}",
            "=8444": f"={self.ports['stream']}",
            "=8445": f"={self.ports['control']}",
            "127.0.0.1:8443": f"127.0.0.1:{self.ports['rest']}",
            "127.0.0.1', 8443": f"127.0.0.1', {self.ports['rest']}",
        }.items():
            if not (inside == "/paper" and text.startswith("ws://")):
                text = text.replace(inside, outside)
        return text

    def environment(self, service: str) -> dict[str, str]:
        """The container's environment, and PATH as in its image."""
        given = {name: self.here(str(value)) for name, value in self.services[service].get("environment", {}).items()}
        if "POSTGRES_HOST" in given:
            given |= {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(self.postgres.config.port)}
        for name in ("PORT", "SDK_PORT", "API_PORT"):
            if (key := f"BOTTRADER_TELEMETRY__{name}") in given:
                # Each container has these ports for itself; here they share a machine.
                given[key] = str(self.metrics_ports.setdefault((service, name), _low_port()))
        path = os.pathsep.join([str(self._programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        return {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(self.folder), **given}

    def argv(self, service: str) -> list[str]:
        """The container's command in the compose file."""
        given = self.services[service]
        return [self.here(part) for part in given.get("entrypoint", given.get("command"))]

    def run(self, service: str) -> subprocess.CompletedProcess[str]:
        """Run a job to its end."""
        return subprocess.run(
            self.argv(service), env=self.environment(service), capture_output=True, text=True, timeout=170, check=False
        )

    async def start(self, service: str, extra: Mapping[str, str] | None = None, argv: list[str] | None = None) -> Child:
        """Start a service."""
        child = await Child.start(
            Command(
                name=service,
                argv=argv or self.argv(service),
                log=self.folder / f"{service}.log",
                env={**self.environment(service), **(extra or {})},
                cwd=self.folder,
                grace_s=20,
            )
        )
        self._children.append(child)
        return child

    async def healthy(self, service: str, child: Child | None = None, within_s: float = 120.0) -> None:
        """Wait until the service's own health check passes."""
        _, *argv = (self.here(part) for part in self.services[service]["healthcheck"]["test"])
        if argv[0] in {"nc", "wget"}:  # tools of the images
            port = self.ports["temporal"] if argv[0] == "nc" else self.ports["ui"]
            await _until_listening(port, child, within_s)
            return
        deadline = time.monotonic() + within_s
        while True:
            done = await asyncio.to_thread(
                subprocess.run, argv, env=self.environment(service), capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                return
            tail = "" if child is None else child.log_tail(20)
            assert time.monotonic() < deadline, f"{service} is not healthy: {done.stderr}\n{tail}"
            assert child is None or child.running, f"{service} ended: {tail}"
            await asyncio.sleep(0.5)

    async def stop(self) -> None:
        """Stop the services, the last one first."""
        for child in reversed(self._children):
            await child.stop()


async def _until_listening(port: int, child: Child | None, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            log = "" if child is None else child.log_tail(30)
            assert time.monotonic() < deadline, f"nobody listens on {port}: {log}"
            assert child is None or child.running, f"the server ended: {log}"
            await asyncio.sleep(0.2)
        else:
            return


@pytest.fixture(scope="module")
def passable_folder(servers_folder: Path) -> Path:
    """initdb before version 16 changes back to its working folder by name, so its user needs access."""
    servers_folder.chmod(0o711)
    return servers_folder


@pytest_asyncio.fixture(scope="module")
async def composed(passable_folder: Path) -> AsyncIterator[Composed]:
    """PostgreSQL over TCP with a password only."""
    folder = passable_folder / "compose"
    folder.mkdir()
    postgres = EmbeddedPostgres(
        PostgresConfig(folder / "postgres", durable=False, port=free_port(), programs=_full_postgres())
    )
    await postgres.start()
    await postgres.create_database("bottrader")
    services = Composed(folder, postgres)
    yield services
    await services.stop()
    await postgres.stop()


@pytest_asyncio.fixture(scope="module")
async def temporal(composed: Composed) -> Composed:
    """Temporal's schema, server, namespace, and the ledger's tables, made by the compose file's own commands."""
    for _ in range(2):  # a repeated job changes nothing
        done = await asyncio.to_thread(composed.run, "temporal-schema")
        assert done.returncode == 0, done.stdout + done.stderr
    names = ("MATCHING", "HISTORY", "WORKER")
    ports = {f"{name}_PORT": str(_low_port()) for name in names}
    ports |= {f"{name}_MEMBERSHIP_PORT": str(_low_port()) for name in (*names, "FRONTEND")}
    ports |= {"FRONTEND_PORT": str(composed.ports["temporal"]), "BROADCAST_ADDRESS": "127.0.0.1"}
    ports["FRONTEND_HTTP_PORT"] = str(composed.ports["http"])
    server = await composed.start("temporal", ports)
    await composed.healthy("temporal", server)
    for expected in ("namespace default", "nothing"):
        done = await asyncio.to_thread(composed.run, "temporal-namespace")
        assert done.returncode == 0, done.stdout + done.stderr + server.log_tail(30)
        assert expected in done.stdout
    done = await asyncio.to_thread(composed.run, "migrate")
    assert done.returncode == 0, done.stdout + done.stderr
    return composed


async def test_database_answers_its_health_check(composed: Composed) -> None:
    """pg_isready, as the compose file calls it, finds the database."""
    pg_isready = composed.postgres.programs / "pg_isready"
    test = composed.services["postgres"]["healthcheck"]["test"][2:]
    argv = [part.replace("5432", str(composed.postgres.config.port)) for part in test]
    done = await asyncio.to_thread(subprocess.run, [pg_isready, *argv], capture_output=True, check=False)
    assert done.returncode == 0


async def test_temporal_runs_on_the_database(temporal: Composed) -> None:
    """The server answers, with our search attributes, and keeps its workflows in PostgreSQL."""
    client = await Client.connect(f"127.0.0.1:{temporal.ports['temporal']}")
    assert (await client.count_workflows("Symbol = 'BTC-USD'")).count == 0
    connection = await asyncpg.connect(temporal.postgres.dsn("temporal_visibility"))
    try:
        columns = await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'executions_visibility'"
        )
    finally:
        await connection.close()
    assert columns
    assert len(SEARCH_ATTRIBUTES) <= 10


async def test_web_ui_shows_the_namespace_through_its_gate_alone(temporal: Composed) -> None:
    """With the compose file's configuration, the gate shows the UI and reads Temporal; neither the UI's own server nor
    the HTTP API answers anybody else.
    """
    config = server_binaries.ui_config()
    if config is None:
        pytest.skip("the Web UI's own configuration is not in Go's module cache")
    shutil.copytree(config, temporal.folder / "ui-config")
    argv = ["ui-server", "--root", str(temporal.folder), "--config", "ui-config", "--env", "docker", "start"]
    await temporal.start("temporal-ui", {"TEMPORAL_UI_PORT": str(temporal.ports["ui"])}, argv)
    await temporal.healthy("temporal-ui")
    gate = await temporal.start("temporal-ui-gate")
    await temporal.healthy("temporal-ui-gate", gate)
    asked = "/api/v1/namespaces/default"
    async with httpx.AsyncClient(timeout=30) as http:
        assert (await http.get(f"http://127.0.0.1:{temporal.ports['ui']}/healthz")).status_code == 200
        own, api, page = (f"http://127.0.0.1:{temporal.ports[name]}" for name in ("ui", "http", "gate"))
        assert (await http.get(page + asked)).json()["namespaceInfo"]["name"] == "default"
        assert "^/*api" not in (await http.get(page)).text
        assert (await http.get(page + asked, headers={"Host": "evil.test"})).status_code == 403
        assert (await http.get(api + asked)).status_code == 403
        assert "json" not in (await http.get(own + asked)).headers["content-type"]


async def test_workers_of_every_role_take_tasks_beside_the_paper_exchange(temporal: Composed) -> None:
    """Each role's own command becomes healthy by its own check, with the paper exchange as its exchange, and everything
    that Prometheus is told to scrape tells its metrics.
    """
    paper = await temporal.start("paper")
    await temporal.healthy("paper", paper)
    services = ("worker-orders", "worker-streams", "worker-watchers", "worker-strategy", "webhook")
    for service, child in [(service, await temporal.start(service)) for service in services]:
        await temporal.healthy(service, child)
    addresses = {f"{role}'s worker": temporal.metrics_ports[f"worker-{role}", "PORT"] for role in ROLES}
    addresses |= {f"{role}'s SDK": temporal.metrics_ports[f"worker-{role}", "SDK_PORT"] for role in ROLES}
    addresses |= {"webhook": temporal.ports["webhook"], "Temporal": temporal.ports["metrics"]}
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        refused = await http.post(f"http://127.0.0.1:{addresses['webhook']}/webhook", json={})
        assert refused.status_code == 401  # it has nothing to tell before its first request
        for name, port in addresses.items():
            answer = await http.get(f"http://127.0.0.1:{port}/metrics")
            assert answer.status_code == 200, name
            assert "# TYPE" in answer.text, name
        for role in ROLES:
            port = temporal.metrics_ports[f"worker-{role}", "PORT"]
            told = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
            assert f'bottrader_role_running{{role="{role}"}} 1.0' in told
