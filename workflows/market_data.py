"""Keeps the account's market data running: one long-running activity, whose retries leave no events."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.interfaces.strategy import MarketDataActivity, MarketDataInput
    from activities.interfaces.streams import StreamEnd
    from workflows.streams import StreamState

__all__ = ["MarketDataWorkflow", "market_data_workflow_id"]

_FOR_EVER = timedelta(days=3650)
_HEARTBEAT = timedelta(seconds=3)
_RETRY = RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=1.0, maximum_attempts=0)
_PAUSE = timedelta(seconds=1)


def market_data_workflow_id(account: str) -> str:
    """The id of the account's market data workflow."""
    return f"market-data-{account}"


@workflow.defn(name="MarketDataWorkflow")
class MarketDataWorkflow:
    """Keeps one reader of prices and candles running until it is cancelled."""

    @workflow.init
    def __init__(self, request: MarketDataInput) -> None:
        self._request = request
        self._runs = 0
        self._last_end: str | None = None

    @workflow.run
    async def run(self, request: MarketDataInput) -> None:
        """Run the reader; restart it whenever it ends."""
        workflow.set_current_details(
            f"Keeps prices and candles for the decisions of account **{request.account}**. The number of symbols is "
            f"in the pending activity's heartbeat details."
        )
        while not workflow.info().is_continue_as_new_suggested():
            self._runs += 1
            end: StreamEnd = await workflow.execute_activity_method(
                MarketDataActivity.keep_market_data,
                request,
                start_to_close_timeout=_FOR_EVER,
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=_RETRY,
                summary=f"market data of {request.account}",
            )
            self._last_end = end.reason
            await workflow.sleep(_PAUSE)
        workflow.continue_as_new(request)

    @workflow.query
    def state(self) -> StreamState:
        """What it keeps running, and the number of restarts."""
        return StreamState(account=self._request.account, what="market data", runs=self._runs, last_end=self._last_end)
