"""The workflows that keep the streams running: one user stream per account, one price watcher per shard, the sweep.

Each stream is one long-running activity. Its retries leave no events, so these histories stay short for years.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from pydantic import BaseModel, ConfigDict
from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.streams import (
        StreamEnd,
        SweepActivity,
        SweepInput,
        SweepReport,
        UserStreamActivity,
        UserStreamInput,
        WatcherActivity,
        WatcherInput,
    )

__all__ = [
    "PriceWatcherWorkflow",
    "StreamState",
    "SweepWorkflow",
    "UserStreamWorkflow",
    "price_watcher_workflow_id",
    "user_stream_workflow_id",
]

_FOR_EVER = timedelta(days=3650)
_HEARTBEAT = timedelta(seconds=3)
"""Twice this and two retries fit into the ten seconds of a failover: a stalled worker takes the first try with it,
because its poll is still open at the server."""
_RETRY = RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=1.0, maximum_attempts=0)
_PAUSE = timedelta(seconds=1)


def user_stream_workflow_id(account: str) -> str:
    """The id of the account's user stream workflow."""
    return f"user-stream-{account}"


def price_watcher_workflow_id(account: str, shard: int) -> str:
    """The id of the shard's price watcher workflow."""
    return f"price-watcher-{account}-{shard}"


class StreamState(BaseModel):
    """The state of a stream's workflow; the stream's own state is in the pending activity's heartbeat."""

    model_config = ConfigDict(frozen=True)

    account: str
    what: str
    runs: int
    last_end: str | None = None


@workflow.defn(name="UserStreamWorkflow")
class UserStreamWorkflow:
    """Keeps one reader of the account's user stream running until it is cancelled."""

    @workflow.init
    def __init__(self, request: UserStreamInput) -> None:
        self._request = request
        self._runs = 0
        self._last_end: str | None = None

    @workflow.run
    async def run(self, request: UserStreamInput) -> None:
        """Run the stream; restart it whenever it ends."""
        workflow.set_current_details(
            f"Reads orders and fills of account **{request.account}** from the exchange. "
            "Its position in the stream is in the pending activity's heartbeat details."
        )
        while not workflow.info().is_continue_as_new_suggested():
            self._runs += 1
            end: StreamEnd = await workflow.execute_activity_method(
                UserStreamActivity.run_user_stream,
                request,
                start_to_close_timeout=_FOR_EVER,
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=_RETRY,
                summary=f"user stream of {request.account}",
            )
            self._last_end = end.reason
            await workflow.sleep(_PAUSE)
        workflow.continue_as_new(request)

    @workflow.query
    def state(self) -> StreamState:
        """What it keeps running, and the number of restarts."""
        return StreamState(account=self._request.account, what="user stream", runs=self._runs, last_end=self._last_end)


@workflow.defn(name="PriceWatcherWorkflow")
class PriceWatcherWorkflow:
    """Keeps the price watcher of one shard running until it is cancelled, or until there are fewer shards."""

    @workflow.init
    def __init__(self, request: WatcherInput) -> None:
        self._request = request
        self._shards = request.shards
        self._runs = 0
        self._last_end: str | None = None

    @workflow.run
    async def run(self, request: WatcherInput) -> None:
        """Watch; continue as new when the number of shards changes."""
        while self._request.shard < self._shards:
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(self._request.model_copy(update={"shards": self._shards}))
            self._request = self._request.model_copy(update={"shards": self._shards})
            await self._watch()
        self._last_end = f"there are only {self._shards} shards"

    async def _watch(self) -> None:
        request = self._request
        self._runs += 1
        workflow.set_current_details(
            f"Watches prices of account **{request.account}**, part {request.shard + 1} of {request.shards}, and "
            f"signals exit monitors when an exit is due. The number of plans is in the pending activity's heartbeat "
            f"details."
        )
        watching = workflow.start_activity_method(
            WatcherActivity.watch_prices,
            request,
            start_to_close_timeout=_FOR_EVER,
            heartbeat_timeout=_HEARTBEAT,
            retry_policy=_RETRY,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"prices, part {request.shard + 1} of {request.shards}",
        )
        resized = asyncio.create_task(workflow.wait_condition(lambda: self._shards != request.shards))
        try:
            await workflow.wait([watching, resized], return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                end: StreamEnd = watching.result()
                self._last_end = end.reason
                await workflow.sleep(_PAUSE)
            else:
                self._last_end = f"the number of shards became {self._shards}"
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        finally:
            resized.cancel()

    @workflow.signal
    def resize(self, shards: int) -> None:
        """From now on the symbols are split among `shards` price watchers."""
        self._shards = max(1, shards)

    @workflow.query
    def state(self) -> StreamState:
        """What it keeps running, and the number of restarts."""
        what = f"prices, shard {self._request.shard} of {self._request.shards}"
        return StreamState(account=self._request.account, what=what, runs=self._runs, last_end=self._last_end)


@workflow.defn(name="SweepWorkflow")
class SweepWorkflow:
    """Checks once for open trades and orders without a running workflow; a schedule starts it each minute."""

    @workflow.run
    async def run(self, request: SweepInput) -> SweepReport:
        """What was found and started."""
        return await workflow.execute_activity_method(
            SweepActivity.sweep,
            request,
            start_to_close_timeout=timedelta(seconds=40),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=3),
            summary=f"sweep of {request.account}",
        )
