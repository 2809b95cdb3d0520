"""The whole API against its own schema: generated requests, valid and invalid, are never answered with a 5xx.

Bounded by the number of examples, not by time, with the same ones in each run. Only the event stream is left out, as
its answer does not end (tests/integration/test_api_stream.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from cli.api_hands import hands_of
from cli.api_sources import sources_of
from tests.support.api import TRADER, VIEWER, Api, api_on
from tests.support.generated_ledger import write_ledger
from tests.support.harness import TradingSystem, trading_system
from tests.support.ledger_rows import add_order, add_trade, intent
from tests.support.live_stack import run_command
from web.api.actions import action_routes
from web.api.reads import read_routes
from web.api.sessions import Sessions
from web.api.stream import Streams, stream_routes
from workers.settings.values import policy_of
from workers.stack.dev_server import DevServer

EXAMPLES = 25


@dataclass
class Whole:
    """The whole API on a real system whose ledger has rows of every kind."""

    api: Api
    system: TradingSystem


@pytest_asyncio.fixture
async def whole(database: str, temporal_server: DevServer) -> AsyncIterator[Whole]:
    """One with its own ledger, Temporal and exchange; no worker runs, so that actions also get no answer."""
    async with trading_system(database, temporal_server.address, roles=frozenset()) as system:
        await write_ledger(database, 30, seed=7, account=system.account)
        await add_order(system.pool, intent("of-another-account"))
        await add_trade(system.pool, "of-another-account-too")
        settings = system.settings
        sessions = Sessions(43_200, 3600)
        sources = sources_of(settings, system.pool, lambda: policy_of(settings))
        streams = Streams(sources, sessions)
        hands = hands_of(settings, system.pool)
        routers = [read_routes(sources), action_routes(hands), stream_routes(streams)]
        async with api_on(routers=routers, sessions=sessions, account=system.account, stop=streams.stop) as api:
            yield Whole(api, system)


@pytest.mark.parametrize("token", [VIEWER, TRADER])
async def test_whatever_its_schema_allows_or_forbids_it_never_fails(whole: Whole, token: str, tmp_path: Path) -> None:
    """For both roles: no 5xx, and statuses, content types and JSON fit the schema."""
    async with whole.api.program(token) as http:
        described = await http.get("/api/openapi.json")
    schema = tmp_path / "openapi.json"
    schema.write_bytes(described.content)
    done = await run_command(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", str(schema), "--url", whole.api.origin),
            *("--seed", "7", "--generation-deterministic", "--phases", "examples,coverage,fuzzing"),
            *("--max-examples", str(EXAMPLES), "--no-color", "--mode", "all", "--exclude-operation-id", "stream"),
            *("--checks", "not_a_server_error,content_type_conformance,response_schema_conformance"),
            *("--header", f"Authorization: Bearer {token}"),
        ],
        {**os.environ, "NO_PROXY": "127.0.0.1", "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "examples")},
        timeout=300,
    )
    assert done.code == 0, done.out + done.err
    paths = described.json()["paths"]
    assert {"/api/executed-orders", "/api/flatten", "/api/actions", "/api/login", "/api/session/check"} <= set(paths)
    recorded = await whole.system.value("SELECT count(*) FROM api_actions")
    assert (recorded > 0) is (token == TRADER), "the role view's actions are not even recorded"


async def test_programs_find_every_address_in_the_schema(whole: Whole) -> None:
    """Every address of the application under /api is in its schema, with its possible problems."""
    async with whole.api.program(VIEWER) as http:
        schema = (await http.get("/api/openapi.json")).json()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            assert operation["operationId"], (method, path)
            assert {"401", "403", "422"} <= set(operation["responses"]), (method, path)
            assert operation.get("description") or operation.get("summary"), (method, path)
