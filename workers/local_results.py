"""The result of a local activity is held back while its run answers a query.

Temporal's core ends a workflow task as soon as the run has answered a query. Where the result of a local activity has
arrived by then, but has not been told to the run, the history has it before the place where the run heard of it: in a
replay the run hears of it one task earlier, before the signals that came in between, and may issue other commands than
it did. Then nobody can go on with it, and a due stop waits. (Core 1.35 of the Python SDK; its sources call the two
places `prepare_complete_resp` and `peek_next_wft_sequence`.)

So a result waits until core has nothing at work with the run. `hold_local_results` is called for a new worker before it
runs. It replaces the worker's bridge, which is no public name of the SDK: `tests/workflow/test_changes.py` fails if
another version of the SDK has another.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, cast

import structlog
from temporalio.bridge.proto import ActivityTaskCompletion
from temporalio.bridge.proto.activity_task import ActivityTask
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.bridge.worker import Worker as Bridge
from temporalio.worker import Worker

__all__ = ["hold_local_results"]

_SETTLES = 0.001
"""Seconds after a run's last activation was completed in which core may hand out a query."""
_SETTLES_WATCHED = 0.01
_WATCHED = 60.0
"""The same for a run that was asked in the last `_WATCHED` seconds, so that it holds on a busy machine, too."""
_PATIENCE = 0.1
"""Wall seconds after which the shorter of the two is enough: somebody asks without a pause."""
_LONGEST = 0.5
"""Wall seconds after which a result is told in any case."""

_log = structlog.get_logger(__name__)


def hold_local_results(worker: Worker) -> Worker:
    """Make a worker that isn't running yet hold back the results; returns it."""
    reached = cast("Any", worker)
    reached._bridge_worker = _Bridge(reached._bridge_worker)
    return worker


class _Bridge:
    """The worker's way to core; what isn't named here goes through as it is."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._at_work: Counter[str] = Counter()
        """Activations that core has handed out and not got back, by run."""
        self._ended: dict[str, float] = {}
        """When the last activation of a run with local activities was completed, monotonic seconds."""
        self._asked: dict[str, float] = {}
        """When a run was last asked, monotonic seconds."""
        self._runs: dict[bytes, str] = {}
        """The runs of the local activities at work, by task token."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._bridge, name)

    async def poll_workflow_activation(self) -> WorkflowActivation:
        """The next activation."""
        activation = await self._bridge.poll_workflow_activation()
        self._at_work[activation.run_id] += 1
        if any(job.HasField("query_workflow") for job in activation.jobs):
            self._asked[activation.run_id] = time.monotonic()
        return activation

    async def complete_workflow_activation(self, completion: WorkflowActivationCompletion) -> None:
        """Answer an activation; core may have handed out the run's next one before this returns."""
        try:
            await self._bridge.complete_workflow_activation(completion)
        finally:
            run = completion.run_id
            self._at_work[run] -= 1
            if self._at_work[run] <= 0:
                del self._at_work[run]
            self._ended[run] = time.monotonic()
            if len(self._ended) > 2 * len(self._runs) + 1000:
                self._forget()

    async def poll_activity_task(self) -> ActivityTask:
        """The next activity task."""
        task = await self._bridge.poll_activity_task()
        if task.HasField("start") and task.start.is_local:
            self._runs[task.task_token] = task.start.workflow_execution.run_id
        return task

    async def complete_activity_task(self, completion: ActivityTaskCompletion) -> None:
        """Tell core an activity's result, a local one's once its run is at rest."""
        run = self._runs.pop(completion.task_token, None)
        if run is not None:
            await self._until_at_rest(run)
        await self._bridge.complete_activity_task(completion)

    async def _until_at_rest(self, run: str) -> None:
        began = time.monotonic()
        watched = began - self._asked.get(run, -_WATCHED) < _WATCHED
        settles = _SETTLES_WATCHED if watched else _SETTLES
        while self._at_work[run] or time.monotonic() - self._ended.get(run, 0.0) < settles:
            waited = time.monotonic() - began
            if waited > _PATIENCE:
                settles = _SETTLES
            if waited > _LONGEST:
                _log.warning("a local activity's result is told beside another activation", run_id=run)
                return
            await asyncio.sleep(_SETTLES)

    def _forget(self) -> None:
        now = time.monotonic()
        self._ended = {run: at for run, at in self._ended.items() if now - at < _SETTLES_WATCHED}
        self._asked = {run: at for run, at in self._asked.items() if now - at < _WATCHED}
