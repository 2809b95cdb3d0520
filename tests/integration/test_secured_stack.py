"""The stack as in live: Temporal with client certificates, its Web UI with log-in; here on the paper exchange.

Needs Temporal's production server (`make server`).
"""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, TLSConfig
from temporalio.service import RPCError

from exchange.paper import PaperControl
from tests.support.live_stack import Outcome, run_command
from tests.support.waiting import eventually
from workers.roles.notices import ask_temporal
from workers.settings import load_settings
from workers.stack import certificates, server_binaries, temporal_binary
from workers.stack.dev_server import DevServer, DevServerConfig
from workers.stack.local_stack import LocalStack, LocalStackConfig
from workers.stack.processes import free_port, python_environment
from workers.stack.secured_server import SecuredServer, SecuredServerConfig, client_tls
from workers.temporal_connection import connect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not server_binaries.all_cached(), reason="Temporal's server is not built: run `make server`"),
]


@pytest_asyncio.fixture(scope="module")
async def stack() -> AsyncIterator[LocalStack]:
    """One stack for the module, whose market doesn't move."""
    async with LocalStack(LocalStackConfig(mtls=True, paper_arguments=["--step"])) as running:
        async with PaperControl(running.paper) as control:
            await control.set_price("BTC-USD", Decimal(50000), Decimal(50001))
        yield running


def ports_of(stack: LocalStack, program: str = "") -> Iterator[int]:
    """Every TCP port on which a process of the stack listens (`program`: one whose command line has this word)."""
    for child in psutil.Process().children(recursive=True):
        words = " ".join(child.cmdline())
        if (str(stack.data) in words or child.pid == stack.worker_pid) and program in words:
            for found in child.net_connections("tcp"):
                if found.status == psutil.CONN_LISTEN:
                    yield found.laddr.port


async def command(stack: LocalStack, *arguments: str) -> Outcome:
    """Run `bottrader` on the stack."""
    environment = python_environment({**stack.environment, "BOTTRADER_DATA": str(stack.data)})
    return await run_command([sys.executable, "-m", "cli.main", *arguments], environment, 120)


async def temporal(*arguments: str, **environment: str) -> Outcome:
    """Run the `temporal` command with only this environment."""
    program = str(await temporal_binary.ensure_async())
    return await run_command([program, *arguments], {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment})


async def test_no_port_of_temporal_answers_without_the_certificate(stack: LocalStack, tmp_path: Path) -> None:
    """Neither in clear text, nor over TLS, nor with another certificate; with ours it does."""
    found = certificates.Certificates(stack.data / "tls")
    strange = certificates.ensure(tmp_path / "tls")
    ca = found.ca_file.read_bytes()
    forged = TLSConfig(
        server_root_ca_cert=ca,
        client_cert=strange.client_cert_file.read_bytes(),
        client_private_key=strange.client_key_file.read_bytes(),
    )
    ports = list(ports_of(stack, "temporal-server"))
    assert len(ports) >= 6

    async def grpc_answers(port: int, tls: bool | TLSConfig) -> bool:
        try:
            async with asyncio.timeout(10):
                await Client.connect(f"127.0.0.1:{port}", tls=tls)
        except (RuntimeError, TimeoutError):
            return False
        return True

    async def http_answers(http: aiohttp.ClientSession, address: str) -> bool:
        try:
            async with http.get(f"{address}/api/v1/namespaces", ssl=False) as answer:
                return answer.status != 400  # in clear text it answers that it wants TLS
        except (aiohttp.ClientError, TimeoutError):
            return False

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
        answered = await asyncio.gather(
            *(grpc_answers(port, tls) for port in ports for tls in (False, TLSConfig(server_root_ca_cert=ca), forged)),
            *(http_answers(http, f"{scheme}://127.0.0.1:{port}") for port in ports for scheme in ("http", "https")),
        )
    assert not any(answered)
    await Client.connect(stack.temporal_address, tls=client_tls(found))


async def test_every_port_of_temporal_asks_for_a_certificate_before_anything_else(stack: LocalStack) -> None:
    """Its members' ports, too, which use neither HTTP nor gRPC: access to them could stop every workflow."""
    context = ssl.create_default_context(cafile=str(certificates.Certificates(stack.data / "tls").ca_file))

    async def refusal(port: int) -> str:
        try:
            async with asyncio.timeout(20):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=context, server_hostname=certificates.SERVER_NAME
                )
                writer.write(b"anything")
                return repr(await reader.read(1))
        except (OSError, TimeoutError) as problem:
            return getattr(problem, "reason", None) or repr(problem)

    ports = list(ports_of(stack, "temporal-server"))
    refusals = await asyncio.gather(*(refusal(port) for port in ports))
    assert set(refusals) == {"TLSV13_ALERT_CERTIFICATE_REQUIRED"}, dict(zip(ports, refusals, strict=True))


async def test_the_ui_servers_own_port_has_files_and_no_more(stack: LocalStack) -> None:
    """It has no certificate of its own for the API."""
    (port,) = ports_of(stack, "ui-server")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        async with http.get(f"http://127.0.0.1:{port}/") as answer:
            assert answer.status == 200
        async with http.get(f"http://127.0.0.1:{port}/api/v1/namespaces") as answer:
            assert answer.status >= 500


async def test_the_owner_trades_and_reads_with_the_certificate(stack: LocalStack) -> None:
    """bottrader's commands, the `temporal` command with the file that `up` names, and the Web UI by its link."""
    bought = await command(stack, "order", "buy", "BTC-USD", "--size", "0.02", "--json")
    assert bought.code == 0, bought.err
    assert bought.json["state"] == "FILLED"
    workflow = f"order-{bought.json['order_key']}"
    listed = await temporal("workflow", "describe", "-w", workflow, TEMPORAL_CONFIG_FILE=str(stack.temporal_profile))
    assert listed.code == 0, listed.err
    assert workflow in listed.out
    without = await temporal(
        "workflow", "describe", "-w", workflow, TEMPORAL_ADDRESS=stack.temporal_address, TEMPORAL_COMMAND_TIMEOUT="5s"
    )
    assert without.code != 0
    assert stack.ui_link is not None
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.get(stack.ui_link) as page:
            assert page.status == 200
        async with http.get(f"{stack.ui_url}/api/v1/namespaces/default/workflows/{workflow}") as answer:
            assert (await answer.json())["workflowExecutionInfo"]["execution"]["workflowId"] == workflow
    for path in (stack.temporal_profile, stack.data / "temporal_ui_link", stack.data / "temporal" / "production.yaml"):
        assert path.stat().st_mode & 0o777 == 0o600


_STRANGER = """
import asyncio, json, os, sys, urllib.error, urllib.request
import asyncpg
from temporalio.client import Client

asked = json.load(sys.stdin)
done = []

async def main():
    for path in asked["files"]:
        try:
            open(path, "rb").close()
            done.append(path)
        except OSError:
            pass
    try:
        async with asyncio.timeout(10):
            await Client.connect(asked["temporal"])
        done.append("Temporal")
    except (RuntimeError, TimeoutError):
        pass
    for port in asked["http"]:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/namespaces", timeout=5).close()
            done.append(f"HTTP on {port}")
        except (OSError, urllib.error.URLError):
            pass
    try:
        await (await asyncpg.connect(asked["dsn"], timeout=5)).close()
        done.append("database")
    except (OSError, TimeoutError, asyncpg.PostgresError):
        pass

asyncio.get_event_loop_policy(); import encodings.idna, http.client  # what is imported late, before the folders close
os.setgroups([]); os.setgid(65534); os.setuid(65534)
asyncio.run(main())
print(json.dumps(done))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_another_user_of_the_machine_gets_nothing_done(stack: LocalStack) -> None:
    """As `nobody`: no file of the stack opens, no port of Temporal and no page answers, and the database's socket is
    closed.
    """
    files = [str(path) for path in stack.data.rglob("*") if path.is_file()]
    assert stack.ui_url is not None
    asked = {
        "files": files,
        "temporal": stack.temporal_address,
        "http": [*ports_of(stack, "ui-server"), int(stack.ui_url.rsplit(":", 1)[1])],
        "dsn": stack.dsn,
    }
    assert len(files) > 20
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _STRANGER],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


async def test_a_killed_server_is_back_with_its_histories(stack: LocalStack) -> None:
    """The production server is supervised like the dev server, and the next order is bought through it."""
    (server,) = {child for child in psutil.Process().children() if "temporal-server" in " ".join(child.cmdline())}
    client = await connect(load_settings(environ=stack.environment))
    handle = await client.start_workflow("Nothing", id="kept", task_queue="nobody")
    server.send_signal(signal.SIGKILL)

    async def bought() -> Any:
        outcome = await command(stack, "order", "buy", "BTC-USD", "--size", "0.01", "--json")
        return outcome.json if outcome.code == 0 else None

    assert (await eventually(bought, within=120, what="an order through the new server"))["state"] == "FILLED"
    assert (await handle.describe()).id == "kept"


async def test_its_metrics_are_for_this_machine_alone(servers_folder: Path) -> None:
    """With a port for metrics the server tells them there, on loopback only."""
    folder = servers_folder / "metrics"
    folder.mkdir()
    port = free_port()
    server = SecuredServer(
        SecuredServerConfig(
            program=server_binaries.cached("temporal-server"),
            certificates=certificates.ensure(folder / "tls"),
            folder=folder / "temporal",
            database=folder / "temporal.db",
            log=folder / "server.log",
            metrics_port=port,
        )
    )
    await server.start()
    try:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert answer.status == 200
            assert "# TYPE service_requests counter" in await answer.text()
        assert server.child is not None
        found = psutil.Process(server.child.pid).net_connections("tcp")
        assert {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    finally:
        await server.stop()


async def test_what_the_dev_server_began_is_gone_on_with(servers_folder: Path) -> None:
    """The open workflows of a data folder from before this server are there."""
    folder = servers_folder / "before"
    folder.mkdir()
    program = await temporal_binary.ensure_async()
    before = DevServer(
        DevServerConfig(program=program, log=folder / "dev.log", database=folder / "temporal.db", ui=False)
    )
    await before.start()
    client = await Client.connect(before.address)
    await client.start_workflow("Nothing", id="from-before", task_queue="nobody")
    await before.stop()
    made = certificates.ensure(folder / "tls")
    server = SecuredServer(
        SecuredServerConfig(
            program=server_binaries.cached("temporal-server"),
            certificates=made,
            folder=folder / "temporal",
            database=folder / "temporal.db",
            log=folder / "server.log",
        )
    )
    await server.start()
    try:
        client = await Client.connect(server.address, tls=client_tls(made))
        handle = client.get_workflow_handle("from-before")

        async def goes_on() -> bool:
            description = await handle.describe()
            return description.status is not None and description.status.name == "RUNNING"

        await eventually(goes_on, what="the workflow from before")
        await handle.signal("still", "there")
    finally:
        await server.stop()


async def test_certificates_that_can_not_be_read_are_a_sentence() -> None:
    """The setting is named, not its value."""
    from workers.errors import UserError

    missing = {"TEMPORAL_ADDRESS": "127.0.0.1:1", "BOTTRADER_TEMPORAL__TLS_CA_FILE": "/nonexistent/secret-place"}
    with pytest.raises(UserError, match=r"temporal\.tls_ca_file") as caught:
        await connect(load_settings(environ=missing))
    assert "secret-place" not in caught.value.sentence


async def test_a_temporal_whose_services_left_counts_as_away(stack: LocalStack) -> None:
    """It still answers for its namespace, but dispatches no tasks: that is reported as an outage."""
    found = certificates.Certificates(stack.data / "tls")
    client = await Client.connect(stack.temporal_address, tls=client_tls(found))
    await ask_temporal(client, "orders")
    context = ssl.create_default_context(cafile=str(found.ca_file))
    context.load_cert_chain(found.client_cert_file, found.client_key_file)
    for port in list(ports_of(stack, "temporal-server")):
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(5):
                await _leave(port, context)
    try:
        await eventually(lambda: _fails(client), within=60, what="an outage")
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
    finally:
        await stack.kill_temporal()
        await stack.restart_temporal()
    await eventually(lambda: _works(client), within=60, what="the end of it")


async def _works(client: Client) -> bool:
    try:
        await ask_temporal(client, "orders")
    except RPCError:
        return False
    return True


async def _fails(client: Client) -> bool:
    return not await _works(client)


async def _leave(port: int, context: ssl.SSLContext) -> None:
    """Ask a member of Temporal to leave, in its protocol (TChannel with JSON); another service's port understands
    nothing.
    """

    def framed(kind: int, number: int, payload: bytes) -> bytes:
        return struct.pack(">HBBI8x", 16 + len(payload), kind, 0, number) + payload

    def text(value: bytes, size: str) -> bytes:
        return struct.pack(size, len(value)) + value

    names = [b"host_port", b"0.0.0.0:0", b"process_name", b"test"]
    hello = struct.pack(">HH", 2, 2) + b"".join(text(name, ">H") for name in names)
    headers = b"\x02" + b"".join(text(part, ">B") for part in (b"as", b"json", b"cn", b"test"))
    call = b"\0" + struct.pack(">I", 3000) + bytes(25) + text(b"ringpop", ">B") + headers + b"\0"
    call += b"".join(text(part, ">H") for part in (b"/admin/member/leave", b"{}", b"{}"))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=certificates.SERVER_NAME
    )
    try:
        writer.write(framed(1, 1, hello))
        await reader.readexactly(16)
        writer.write(framed(3, 2, call))
        await reader.read(1)
    finally:
        writer.close()
