"""The local stack: everything started is stopped, and nothing is half-started. Real servers, real processes."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import psutil
import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client

from exchange.paper import PaperControl
from tests.support.live_stack import ROOT, run_command
from tests.support.waiting import SLACK
from workers.errors import ExitCode, UserError
from workers.namespace import keep_closed
from workers.polling import ROLES, ROLES_OF, polled_since, queue_of
from workers.settings import Settings
from workers.stack.local_stack import LocalStack, LocalStackConfig
from workers.stack.processes import Child, Command, free_port, python_environment, python_module
from workers.stack.stack_file import running_stack
from workers.stack.supervisor import Limit, Supervised


def servers_on(folder: Path) -> list[str]:
    """Names of processes anywhere on the machine that have `folder` in their command line."""
    return [
        process.info["name"]
        for process in psutil.process_iter(["name", "cmdline"])
        if any(str(folder) in part for part in process.info["cmdline"] or []) and process.pid != os.getpid()
    ]


async def until(condition: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    """Poll `condition`; fails after `within_s` seconds of a free machine."""
    async with asyncio.timeout(SLACK * within_s):
        while not condition():  # noqa: ASYNC110 - the condition depends on other processes
            await asyncio.sleep(0.05)
    assert condition(), what


def config(data: Path, **changes: object) -> LocalStackConfig:
    """Servers only, without Web UI."""
    settings: dict[str, object] = {"data": data, "ui": False, "paper": False, "worker": False, **changes}
    return LocalStackConfig(**settings)  # type: ignore[arg-type]


@pytest.fixture
def data(servers_folder: Path, request: pytest.FixtureRequest) -> Path:
    """A data folder with a path short enough for a Unix socket."""
    return servers_folder / f"stack-{abs(hash(request.node.name)) % 10_000}"


async def keeps_closed_workflows(address: str) -> None:
    """Temporal keeps closed workflows as set, not for a day, and follows changes."""
    client = await Client.connect(address)

    async def days() -> float:
        found = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
        return found.config.workflow_execution_retention_ttl.ToTimedelta() / timedelta(days=1)

    assert await days() == 30
    assert await keep_closed(client, 7) == ["namespace default keeps closed workflows for 7 days"]
    assert await days() == 7
    assert await keep_closed(client, 7) == []


async def test_stack_survives_the_death_of_its_servers_and_leaves_nothing(data: Path) -> None:
    """Commits before a SIGKILL survive a restart, at the same addresses; in the end nothing runs."""
    async with LocalStack(config(data)) as stack:
        dsn, address = stack.dsn, stack.temporal_address
        await keeps_closed_workflows(address)
        connection = await asyncpg.connect(dsn)
        await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
        await connection.close()
        await stack.kill_postgres()
        await stack.restart_postgres()
        await stack.kill_temporal()
        await stack.restart_temporal()
        assert (stack.dsn, stack.temporal_address) == (dsn, address)
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SELECT n FROM kept") == 1
        await connection.close()
        await Client.connect(address)
        found = running_stack(data)
        assert found is not None
        assert found["environment"]["DATABASE_URL"] == dsn
    assert servers_on(data) == []
    assert running_stack(data) is None


@pytest.mark.parametrize("entry_points", ["sighook", "webhook", "both"])
async def test_a_stack_is_ready_with_each_value_of_entry_points(entry_points: str) -> None:
    """Ready means that each role of the worker takes tasks, and no other role is waited for (ENTRY-3)."""
    stack_config = LocalStackConfig(ui=False, paper_arguments=["--step"], env={"BOTTRADER_ENTRY_POINTS": entry_points})
    async with LocalStack(stack_config) as stack:
        client = await Client.connect(stack.temporal_address)
        took = {role for role in ROLES if await polled_since(client, queue_of(Settings(), role), 0)}
    assert took == ROLES_OF[entry_points]


def server_process(stack: LocalStack, *words: str) -> psutil.Process:
    """Our child process with the data folder and these words in its command line."""
    return next(
        child
        for child in psutil.Process().children()
        if all(word in " ".join(child.cmdline()) for word in (str(stack.data), *words))
    )


async def test_whole_stack_goes_on_after_a_sigkill_of_every_server() -> None:
    """Each server restarts by itself at its address with its data, reported in a line, and the next order is bought."""
    said: list[str] = []
    async with LocalStack(LocalStackConfig(ui=False, paper_arguments=["--step"], say=said.append)) as stack:
        before = (stack.environment, dict(stack.paper))
        failing = asyncio.create_task(stack.wait_failed())
        connection = await asyncpg.connect(stack.dsn)
        await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
        await connection.close()
        for name, words in (
            ("PostgreSQL", ("postgres", "-D")),
            ("Temporal", ("start-dev",)),
            ("The paper exchange", ("exchange.paper",)),
        ):
            server_process(stack, *words).kill()
            await until(lambda name=name: any(line.startswith(f"{name} ended") for line in said), "it is noticed")  # type: ignore[misc]
            assert stack.environment == before[0]
            await until(lambda name=name: f"{name} is running again" in said, f"{name} is restarted", 60)  # type: ignore[misc]
            assert f"{name} ended unexpectedly (killed by signal 9); restarting it in 0.5 s" in said
        assert (stack.environment, dict(stack.paper)) == before
        connection = await asyncpg.connect(stack.dsn)
        assert await connection.fetchval("SELECT n FROM kept") == 1
        await connection.close()
        async with PaperControl(stack.paper) as control:
            await control.set_price("BTC-USD", Decimal(50000), Decimal(50001))
        argv = [sys.executable, "-m", "cli.main", "order", "buy", "BTC-USD", "--size", "0.02", "--json"]
        environment = python_environment({**stack.environment, "BOTTRADER_DATA": str(stack.data)})
        bought = await run_command(argv, environment, 90)
        assert bought.code == 0, bought.err
        assert bought.json["state"] == "FILLED"
        assert not failing.done()
        failing.cancel()
        folder = stack.data
    assert servers_on(folder) == []


async def test_server_killed_on_purpose_stays_down_until_restarted(data: Path) -> None:
    """The supervision does not undo `kill_postgres`; after `restart_postgres` it is supervised again."""
    said: list[str] = []
    async with LocalStack(config(data, say=said.append)) as stack:
        await stack.kill_postgres()
        await stack.kill_temporal()
        with pytest.raises(StopIteration):
            server_process(stack, "postgres", "-D")
        await stack.restart_postgres()
        await stack.restart_temporal()
        assert not any("ended unexpectedly" in line for line in said)
        server_process(stack, "postgres", "-D").kill()
        await until(lambda: "PostgreSQL is running again" in said, "PostgreSQL is restarted")
        await (await asyncpg.connect(stack.dsn)).close()


async def test_what_keeps_failing_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    """After the third end within the time it is not started again, and the reason names the log."""
    code = "import sys; sys.exit('the disk is full')"

    async def start_child() -> Child:
        return await Child.start(Command(name="short", argv=[sys.executable, "-c", code], log=tmp_path / "log"))

    supervised = Supervised("short", start_child, lambda _: None, backoff_s=0.01, limit=Limit(3, 60))
    await supervised.start()
    reason = await asyncio.wait_for(supervised.wait_given_up(), SLACK * 20)
    assert reason == f"short ended unexpectedly: the disk is full (log: {tmp_path / 'log'})"
    assert supervised.restarts == 2
    await supervised.stop()


async def test_second_stack_on_a_folder_is_refused(data: Path) -> None:
    """The refusal is a sentence, and the first one continues."""
    async with LocalStack(config(data)) as first:
        with pytest.raises(UserError, match=f"process {os.getpid()}") as caught:
            await LocalStack(config(data)).start()
        assert caught.value.code == "STACK_RUNNING"
        await (await asyncpg.connect(first.dsn)).close()


async def test_port_in_use_starts_nothing(data: Path) -> None:
    """The sentence names the port and the option, and no server was started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} .*--temporal-port") as caught:
            await LocalStack(config(data, temporal_port=port)).start()
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert servers_on(data) == []
    assert not (data / "postgres").exists()


async def test_failure_of_one_server_stops_the_others(data: Path, tmp_path: Path) -> None:
    """An invalid price file ends the start with the exchange's own sentence; nothing is left running."""
    prices = tmp_path / "prices.csv"
    prices.write_text("time,open\n1,")
    with pytest.raises(UserError, match=r"prices\.csv") as caught:
        await LocalStack(config(data, paper=True, paper_arguments=["--prices", str(prices)])).start()
    assert caught.value.code == "PAPER_FAILED"
    assert servers_on(data) == []


async def test_servers_of_others_are_used_and_left_alone(data: Path, database: str, temporal_server: object) -> None:
    """With addresses given, the stack starts no database of its own and stops none."""
    address = temporal_server.address  # type: ignore[attr-defined]
    async with LocalStack(config(data, database_url=database, temporal_address=address)) as stack:
        assert (stack.dsn, stack.temporal_address, stack.ui_url) == (database, address, None)
        assert servers_on(data) == []
    await (await asyncpg.connect(database)).close()
    await Client.connect(address)


async def test_throw_away_stack_removes_its_folder() -> None:
    """Without a data folder, nothing stays on the disk."""
    async with LocalStack(LocalStackConfig(ui=False, paper=False, worker=False)) as stack:
        folder = stack.data
        assert folder.is_dir()
    assert not folder.exists()


async def test_throw_away_stack_takes_nothing_from_the_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the user's settings nor a file in the working folder reach its worker: it starts all the same."""
    monkeypatch.setenv("BOTTRADER_MODE", "live")
    monkeypatch.setenv("BOTTRADER_EXITS__HARD_STOP_PCT", "nonsense")
    (tmp_path / "bottrader.toml").write_text("this is not TOML")
    monkeypatch.chdir(tmp_path)
    async with LocalStack(LocalStackConfig(ui=False)) as stack:
        assert stack.worker_pid is not None


@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGTERM])
async def test_up_runs_until_told_and_stops_everything(data: Path, stop_signal: signal.Signals, tmp_path: Path) -> None:
    """`bottrader up` prints its addresses in one line when a worker takes tasks, restarts a killed worker, and exits
    with 0.
    """
    up = await start_up(data, tmp_path)
    try:
        addresses = json.loads(await asyncio.wait_for(read_line(up), SLACK * 60))
        assert addresses["paper"]["rest"].startswith("127.0.0.1:")
        worker = next(
            child
            for child in psutil.Process(up.pid).children()
            if "worker" in child.cmdline() and "cli.main" in child.cmdline()
        )
        worker.kill()
        await until(lambda: "running again" in up.log_tail(3), "the worker is restarted")
        os.kill(up.pid, stop_signal)
        assert await asyncio.wait_for(up.wait(), SLACK * 60) == 0
    finally:
        await up.stop()
    assert servers_on(data) == []


async def test_up_told_to_stop_while_starting_leaves_nothing(data: Path, tmp_path: Path) -> None:
    """Ctrl-C during the start works like a later one."""
    up = await start_up(data, tmp_path)
    try:
        await until(lambda: "Starting in" in up.log_tail(5), "it has begun")
        os.kill(up.pid, signal.SIGINT)
        assert await asyncio.wait_for(up.wait(), SLACK * 60) in {0, 130}
    finally:
        await up.stop()
    assert servers_on(data) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
async def test_servers_end_when_up_is_killed(data: Path, tmp_path: Path) -> None:
    """kill -9 on `up` leaves no server behind, and the next `up` on the folder starts."""
    up = await start_up(data, tmp_path, "--no-paper", "--no-worker")
    await asyncio.wait_for(read_line(up), SLACK * 60)
    await up.kill()
    await until(lambda: servers_on(data) == [], "the servers are gone")
    async with LocalStack(config(data)) as stack:
        await (await asyncpg.connect(stack.dsn)).close()


async def test_up_takes_its_own_port_for_alerts_or_none(data: Path, tmp_path: Path) -> None:
    """If somebody else has the webhook's port, senders' tokens would go there: `up` says so, starts nothing, ends."""
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        argv = [sys.executable, "-m", "cli.main", "up", "--data", str(data), "--temporal-port=0", "--ui-port=0"]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "BOTTRADER_WEBHOOK__PORT": str(port)}
        done = await run_command(argv, env)
    assert done.code == 3
    assert f"Port {port} for the webhook" in done.err
    assert "--web-port (0 = any free port)" in done.err
    assert servers_on(data) == []
    assert not (data / "postgres").exists()


async def start_up(data: Path, folder: Path, *arguments: str) -> Child:
    """`bottrader up --json` on free ports."""
    ports = ("--temporal-port=0", "--ui-port=0", "--web-port=0", "--api-port=0")
    argv = python_module("cli.main", "up", "--json", "--data", str(data), *ports, *arguments)
    return await Child.start(
        Command(
            name="up",
            argv=argv,
            log=folder / "up.log",
            env=python_environment(),
            cwd=folder,
            pipe_stdout=True,
            grace_s=60,
        )
    )


async def read_line(child: Child) -> str:
    """The next line of its output; fails with its log if there is none."""
    assert child.process.stdout is not None
    line = await child.process.stdout.readline()
    assert line, child.log_tail(20)
    return line.decode()


async def test_supervised_process_comes_back_with_growing_waits(tmp_path: Path) -> None:
    """A process that keeps ending is restarted with growing delays; `stop` ends that."""
    said: list[str] = []

    async def start_child() -> Child:
        return await Child.start(Command(name="short", argv=[sys.executable, "-c", "pass"], log=tmp_path / "log"))

    supervised = Supervised("short", start_child, said.append, backoff_s=0.01, backoff_max_s=0.04)
    await supervised.start()
    await until(lambda: supervised.restarts >= 4, "four restarts")
    await supervised.stop()
    restarts = supervised.restarts
    waits = [line.split(" in ")[1] for line in said if "ended unexpectedly" in line]
    assert waits[:4] == ["0.01 s", "0.02 s", "0.04 s", "0.04 s"]
    assert supervised.child is None
    assert supervised.restarts == restarts


async def test_child_that_ignores_its_stop_signal_is_killed_with_its_group(tmp_path: Path) -> None:
    """Neither the child nor its own children outlive `stop`."""
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = Command(
        name="deaf", argv=[sys.executable, "-c", code], log=tmp_path / "log", grace_s=0.2, pipe_stdout=True
    )
    child = await Child.start(command)
    grandchild = int(await read_line(child))
    await child.stop()
    assert not child.running
    await until(lambda: not alive(grandchild), "the grandchild is gone")


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be collected does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_program_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """A missing program is named."""
    with pytest.raises(UserError, match="can't be started") as caught:
        await Child.start(Command(name="it", argv=["/nowhere/it"], log=tmp_path / "log"))
    assert caught.value.code == "PROGRAM_MISSING"


def test_free_port_can_be_listened_on() -> None:
    """The returned port is free for a server."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", free_port()))
        sock.listen()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems choose ports by other rules")
def test_free_port_is_kept_from_others_until_it_is_used() -> None:
    """A request for any free port, as by every server of a test, never gets one that was returned a moment ago."""
    given = {free_port() for _ in range(500)}
    with contextlib.ExitStack() as strangers:
        for reuse in (0, 1):
            for _ in range(250):
                stranger = strangers.enter_context(socket.socket())
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
                stranger.bind(("127.0.0.1", 0))
                stranger.listen()
                assert stranger.getsockname()[1] not in given
