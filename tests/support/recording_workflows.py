"""Workflows under the product's names that only record their messages: the receivers of streams and watchers."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from domain.messages import CloseRequest, ExitDue, MonitorStart, OrderIntent, OrderUpdate

__all__ = ["RecordingMonitor", "RecordingOrder"]


@workflow.defn(name="OrderWorkflow")
class RecordingOrder:
    """Records order updates until it is told to end."""

    def __init__(self) -> None:
        self._updates: list[OrderUpdate] = []
        self._asked: list[CloseRequest] = []
        self._end = False

    @workflow.run
    async def run(self, intent: OrderIntent) -> None:
        """Wait for the end."""
        await workflow.wait_condition(lambda: self._end)

    @workflow.signal
    def order_update(self, update: OrderUpdate) -> None:
        """Record it."""
        self._updates.append(update)

    @workflow.signal
    def cancel(self, request: CloseRequest) -> None:
        """Record it."""
        self._asked.append(request)

    @workflow.query
    def asked(self) -> list[CloseRequest]:
        """The received requests, in order."""
        return self._asked

    @workflow.signal
    def end(self) -> None:
        """End."""
        self._end = True

    @workflow.query
    def updates(self) -> list[OrderUpdate]:
        """The received messages, in order."""
        return self._updates


@workflow.defn(name="ExitMonitorWorkflow")
class RecordingMonitor:
    """Records due exits."""

    def __init__(self) -> None:
        self._due: list[ExitDue] = []
        self._changes = 0
        self._asked: list[CloseRequest] = []
        self._start: MonitorStart | None = None

    @workflow.run
    async def run(self, start: MonitorStart) -> None:
        """Wait until terminated."""
        self._start = start
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def exit_due(self, due: ExitDue) -> None:
        """Record it."""
        self._due.append(due)

    @workflow.signal
    def position_changed(self) -> None:
        """Count it."""
        self._changes += 1

    @workflow.query
    def changes(self) -> int:
        """How often the position was reported as changed."""
        return self._changes

    @workflow.signal
    def close(self, request: CloseRequest) -> None:
        """Record it."""
        self._asked.append(request)

    @workflow.query
    def asked(self) -> list[CloseRequest]:
        """The received requests, in order."""
        return self._asked

    @workflow.query
    def due(self) -> list[ExitDue]:
        """The received messages, in order."""
        return self._due

    @workflow.query
    def start(self) -> MonitorStart | None:
        """Its input."""
        return self._start
