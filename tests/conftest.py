"""Servers shared by tests: one PostgreSQL and one Temporal per session, a new migrated database for each test.

`make test` has several processes (pytest-xdist), each of which is a session with its own servers.

They are child processes, whatever DATABASE_URL and TEMPORAL_ADDRESS are: a test never uses the user's database.
"""

import contextlib
import gc
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import hypothesis
import pytest
import pytest_asyncio
import structlog
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities import secret_values
from schema import migrate
from workers.stack import temporal_binary
from workers.stack.dev_server import DevServer, DevServerConfig
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig

# Property tests promise no speed: a busy machine may take any time to make an example.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

_TEMPLATE = "template_migrated"
_IN_MEMORY = Path("/dev/shm")
_ROOM_IN_MEMORY = 4 * 2**30
_numbers = itertools.count(1)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The number of processes that share the test files in `make test`: one per core, up to four; one for a single
    file."""
    files = {argument.partition("::")[0] for argument in config.args}
    if len(files) == 1 and Path(*files).is_file():
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests without servers come last: their files are short, so that no process works alone for long at the end."""
    items.sort(key=lambda item: item.nodeid.startswith("tests/unit/"))


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> Iterator[None]:
    """The user's environment variables never reach a test."""
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if (
            name == "DATABASE_URL"
            or name.startswith("TEMPORAL_")
            or (name.startswith("BOTTRADER_") and name != "BOTTRADER_CACHE")
        ):
            patch.delenv(name)
    yield
    patch.undo()


@pytest.fixture(scope="module", autouse=True)
def _short_collections() -> Iterator[None]:
    """What earlier modules left in memory isn't looked through again: such a collection took longer than the two
    seconds after which Temporal takes a workflow's task for a deadlock.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _secrets_of_its_own() -> Iterator[None]:
    """Secrets registered by one test's settings are not masked in another test's output."""
    before = set(secret_values._hidden)
    yield
    secret_values._hidden.clear()
    secret_values._hidden.update(before)


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """A command that a test runs in this process quiets the log for itself, not for later tests."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder for the session's servers, with a path short enough for Unix sockets.

    In memory, where the machine has plenty: a database for each test is some 300 files, a third of a second on a disk.
    """
    with tempfile.TemporaryDirectory(prefix="bt-test-", dir=_roomy(), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _roomy() -> Path | None:
    """A file system in memory with room for the session's servers; None if there is none (containers have 64 MB)."""
    try:
        room = shutil.disk_usage(_IN_MEMORY).free
    except OSError:
        return None
    return _IN_MEMORY if room >= _ROOM_IN_MEMORY and os.access(_IN_MEMORY, os.W_OK) else None


@pytest_asyncio.fixture(scope="session")
async def postgres_server(servers_folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """The session's PostgreSQL, without the durability that a throw-away database doesn't need."""
    server = EmbeddedPostgres(PostgresConfig(servers_folder / "postgres", durable=False))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="session")
async def migrated_template(postgres_server: EmbeddedPostgres) -> str:
    """The name of a database with the newest schema that tests clone."""
    await postgres_server.create_database(_TEMPLATE)
    await migrate.upgrade(postgres_server.dsn(_TEMPLATE))
    return _TEMPLATE


@pytest_asyncio.fixture
async def database(postgres_server: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[str]:
    """The asyncpg address of a new database with the newest schema; dropped after the test."""
    async with _fresh_database(postgres_server, migrated_template) as address:
        yield address


@pytest_asyncio.fixture(scope="module")
async def module_database(postgres_server: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[str]:
    """The same for all tests of a module."""
    async with _fresh_database(postgres_server, migrated_template) as address:
        yield address


@contextlib.asynccontextmanager
async def _fresh_database(postgres_server: EmbeddedPostgres, migrated_template: str) -> AsyncIterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    admin = await asyncpg.connect(postgres_server.dsn("postgres"))
    try:
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{migrated_template}" STRATEGY FILE_COPY')
        yield postgres_server.dsn(name)
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()


@pytest_asyncio.fixture(scope="session")
async def temporal_server(servers_folder: Path) -> AsyncIterator[DevServer]:
    """The session's Temporal dev server, in memory, without the Web UI."""
    program = await temporal_binary.ensure_async()
    server = DevServer(DevServerConfig(program=program, log=servers_folder / "temporal.log", ui=False))
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def temporal_client(temporal_server: DevServer) -> Client:
    """A client of the session's Temporal with the data converter that the product uses."""
    return await Client.connect(temporal_server.address, data_converter=pydantic_data_converter)
