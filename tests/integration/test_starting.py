"""Starting a used id with a real Temporal: whether an ended workflow runs again depends on its kind."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.worker import Worker

from activities.database import Pool, create_pool
from activities.interfaces.starting import start_order
from activities.starting import Starter
from domain.messages import OrderIntent
from tests.support.ledger_rows import add_order, intent
from tests.support.recording_workflows import RecordingOrder


@dataclass
class World:
    """An order in the ledger, and the starter of its workflow."""

    pool: Pool
    client: Client
    queue: str
    starter: Starter
    wanted: OrderIntent

    @property
    def handle(self) -> WorkflowHandle[RecordingOrder, None]:
        """The newest run of the order's workflow."""
        return self.client.get_workflow_handle_for(RecordingOrder.run, f"order-{self.wanted.order_key}")

    async def run_id(self) -> str:
        """The id of the newest run."""
        return (await self.handle.describe()).run_id

    async def completed(self) -> str:
        """Start the order's workflow and let it complete. Returns the id of that run."""
        await self.starter.order(self.wanted)
        await self.handle.signal(RecordingOrder.end)
        await self.handle.result()
        return await self.run_id()


@pytest_asyncio.fixture
async def world(database: str, temporal_client: Client) -> AsyncIterator[World]:
    """A database, and a worker whose orders end on request."""
    pool = await create_pool(database)
    queue = f"orders-{uuid.uuid4().hex[:8]}"
    wanted = intent("decided")
    await add_order(pool, wanted)
    async with Worker(temporal_client, task_queue=queue, workflows=[RecordingOrder]):
        yield World(pool, temporal_client, queue, Starter(pool, temporal_client, task_queue=queue), wanted)
    await pool.close()


async def test_a_repeated_decision_does_not_run_a_completed_order_again(world: World) -> None:
    """A strategy's repeated run, and a repeated command, leave a completed order unchanged."""
    first = await world.completed()
    await world.starter.order(world.wanted)
    assert await world.run_id() == first
    with pytest.raises(WorkflowAlreadyStartedError):
        await start_order(world.client, world.wanted, task_queue=world.queue, eager=False)
    assert await world.run_id() == first


async def test_an_order_of_the_ledger_runs_again_though_it_had_completed(world: World) -> None:
    """For late or unfinished reports the order's workflow is started again."""
    first = await world.completed()
    await world.starter.resume(world.wanted.order_key)
    assert await world.run_id() != first


async def test_a_repeated_decision_starts_an_order_that_was_terminated(world: World) -> None:
    """A decision whose workflow was terminated is carried out when it is repeated."""
    await world.starter.order(world.wanted)
    first = await world.run_id()
    await world.handle.terminate("a person's mistake")
    await world.starter.order(world.wanted)
    assert await world.run_id() != first


async def test_an_order_that_runs_is_left_as_it_is(world: World) -> None:
    """Starting it again in any way finds the existing run."""
    await world.starter.order(world.wanted)
    first = await world.run_id()
    await world.starter.order(world.wanted)
    await world.starter.resume(world.wanted.order_key)
    await start_order(world.client, world.wanted, task_queue=world.queue, eager=False)
    assert await world.run_id() == first
