"""Whether a worker on this machine can do its role's work, with a running system."""

from __future__ import annotations

import asyncpg

from tests.support.harness import trading_system
from tests.support.waiting import eventually
from workers.readiness import ailments, executing
from workers.stack.dev_server import DevServer


async def test_a_worker_that_can_work_has_no_ailments_and_each_thing_that_is_missing_is_said(
    database: str, temporal_server: DevServer
) -> None:
    """A complete system has no ailments; a read-only database, a role without a worker and a lease without a holder
    have."""
    async with trading_system(database, temporal_server.address) as system:

        async def well() -> bool:
            return not [*await ailments(system.settings, "streams"), *await ailments(system.settings, "watchers")]

        await eventually(well, within=30, what="nothing ails the worker")
        assert await executing(system.client, system.pool, system.settings) == {"orders": True, "watchers": True}
        # No worker here has this role, so neither its queue nor its lease is checked.
        assert await ailments(system.settings, "strategy") == [
            "no worker on this machine takes strategy tasks",
            "the lease of strategy is not held",
        ]
        name = str(await system.value("SELECT current_database()"))
        await system.pool.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        try:
            assert await ailments(system.settings, "orders") == ["the database accepts no writes"]
        finally:
            connection = await asyncpg.connect(database)
            await connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
            await connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
            await connection.close()
