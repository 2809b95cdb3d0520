"""The basic servers: they start, answer, survive being killed, and end on request."""

from pathlib import Path

import asyncpg
import pytest
from temporalio.client import Client

from domain.visibility import SEARCH_ATTRIBUTES
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig
from workers.stack.processes import free_port


async def test_each_test_gets_a_migrated_database_of_its_own(database: str) -> None:
    """A test's database has the newest schema and no rows."""
    connection = await asyncpg.connect(database)
    try:
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()
    assert tables > 0


async def test_dev_server_knows_our_search_attributes(temporal_client: Client) -> None:
    """Every name of domain.visibility can be searched for in the dev server's namespace."""
    from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest

    answer = await temporal_client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=temporal_client.namespace)
    )
    assert set(SEARCH_ATTRIBUTES) <= set(answer.custom_attributes)


async def test_postgres_listens_on_its_socket_only(postgres_server: EmbeddedPostgres) -> None:
    """Without a port the embedded PostgreSQL is not reachable over the network."""
    connection = await asyncpg.connect(postgres_server.dsn("postgres"))
    try:
        assert await connection.fetchval("SHOW listen_addresses") == ""
    finally:
        await connection.close()


async def test_postgres_keeps_its_address_where_paths_are_too_long_for_a_socket(servers_folder: Path) -> None:
    """A data folder with a long path has its socket elsewhere, at the same place after a restart, and removed at the
    end.
    """
    server = EmbeddedPostgres(PostgresConfig(servers_folder / ("long-" * 20), durable=False))
    await server.start()
    try:
        dsn, socket_dir = server.dsn("postgres"), server.socket_dir
        assert socket_dir != server.folder
        await server.stop()
        await server.start()
        assert server.dsn("postgres") == dsn
        await (await asyncpg.connect(dsn)).close()
    finally:
        await server.stop()
    assert not socket_dir.exists()


async def test_postgres_on_a_port_asks_for_its_password(servers_folder: Path) -> None:
    """Over TCP nobody gets in without the password, which only the data folder's owner can read."""
    server = EmbeddedPostgres(PostgresConfig(servers_folder / "tcp", durable=False, port=free_port()))
    await server.start()
    try:
        await (await asyncpg.connect(server.tcp_dsn("postgres"))).close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.tcp_dsn("postgres").replace(server.password, "guessed"))
    finally:
        await server.stop()
