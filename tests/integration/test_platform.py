"""The servers under everything: they start, answer, survive being killed, and end when told."""

import asyncpg
from temporalio.client import Client

from domain.visibility import SEARCH_ATTRIBUTES
from workers.embedded_postgres import EmbeddedPostgres


async def test_each_test_gets_a_migrated_database_of_its_own(database: str) -> None:
    """A test's database has the newest schema and nothing in it."""
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
    """Without a port of its own the embedded PostgreSQL is not reachable over the network."""
    connection = await asyncpg.connect(postgres_server.dsn("postgres"))
    try:
        assert await connection.fetchval("SHOW listen_addresses") == ""
    finally:
        await connection.close()
