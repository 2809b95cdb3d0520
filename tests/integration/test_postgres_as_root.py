"""PostgreSQL as root: in a folder that nobody else can enter, without changes above our own folder."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig, wheel_programs
from workers.stack.postgres_as_root import reachable

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")


def modes(*paths: Path) -> dict[Path, int]:
    """The modes of these and all folders above them."""
    return {folder: folder.stat().st_mode for path in paths for folder in path.parents}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder that only root can enter, like root's home."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


async def answers(server: EmbeddedPostgres) -> int:
    """Start it, read the number of rows after adding one, and stop it."""
    await server.start()
    try:
        connection = await asyncpg.connect(server.dsn("postgres"))
        await connection.execute("CREATE TABLE IF NOT EXISTS kept (id bigint)")
        await connection.execute("INSERT INTO kept VALUES (1)")
        count: int = await connection.fetchval("SELECT count(*) FROM kept")
        await connection.close()
    finally:
        await server.stop()
    return count


async def test_a_home_that_nobody_can_enter_stays_so(home: Path) -> None:
    """The database is created, restarted and used with its programs and data there, and no folder's mode changes."""
    package = wheel_programs().parents[1]
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), home / name, symlinks=True)
    programs = home / package.name / wheel_programs().parent.name
    data = home / "data" / "postgres"
    data.mkdir(parents=True, mode=0o700)
    before = modes(data, programs / "bin")
    config = PostgresConfig(data, durable=False, programs=programs / "bin")
    assert [await answers(EmbeddedPostgres(config)) for _ in range(2)] == [1, 2]
    assert modes(data, programs / "bin") == before
    assert not reachable(data)


async def test_a_server_whose_owner_was_killed_is_found_again(home: Path) -> None:
    """A server left running on a folder that only root can enter is stopped by the next start, which has the data."""
    first, second = (EmbeddedPostgres(PostgresConfig(home / "postgres", durable=False)) for _ in range(2))
    await first.start()
    assert first.child is not None
    try:
        assert await answers(second) == 1
        assert not first.child.running or await first.child.wait() is not None
    finally:
        await first.stop()


async def test_data_of_before_goes_on(home: Path) -> None:
    """A database created where everybody may pass is used after its home was closed."""
    os.chmod(home, 0o755)  # noqa: PTH101, S103 - the old mode; a Path's method would block as much
    assert await answers(EmbeddedPostgres(PostgresConfig(home / "postgres", durable=False))) == 1
    os.chmod(home, 0o700)  # noqa: PTH101 - as above
    assert await answers(EmbeddedPostgres(PostgresConfig(home / "postgres", durable=False))) == 2
    assert modes(home / "postgres")[home] & 0o777 == 0o700
