"""One trace from the decision over start, admission, placing and recording to the exit (docs/metrics.md).

The spans and their context in Temporal's headers are those of the SDK's own interceptor. It adds no command to a
workflow, and makes no span in a replay, so workflows with and without it replay each other's histories. Here they get
what they are about (order, attempt, answer), and activities that run for days get none: whatever happened under them
would be one trace.
"""

from __future__ import annotations

import functools
import os
import socket
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.worker import ActivityInboundInterceptor

from activities.interfaces.orders import PlaceAttempt, RecordUpdate
from domain.messages import Admission, PlaceAnswer, RecordResult, ResolveAnswer, TradeOutcome
from workers.otlp import OtlpJson

if TYPE_CHECKING:
    from temporalio.worker import ExecuteActivityInput

__all__ = ["Tracing", "tracing_to"]

_FOR_DAYS = frozenset({"run_user_stream", "watch_prices", "keep_market_data"})
_DELAY_MS = 1_000


@functools.cache
def tracing_to(target: str) -> Tracing:
    """The interceptor of this process's clients and workers; spans go to `target` (`workers.otlp`), at the latest at
    the process's end.
    """
    resource = Resource({"service.name": "bottrader", "service.instance.id": f"{os.getpid()}@{socket.gethostname()}"})
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OtlpJson(target), schedule_delay_millis=_DELAY_MS))
    return Tracing(provider)


class Tracing(TracingInterceptor):
    """The SDK's interceptor, with our attributes. `provider` makes and exports the spans."""

    def __init__(self, provider: TracerProvider) -> None:
        super().__init__(provider.get_tracer("bottrader"))
        self.provider = provider

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Temporal's hook: every activity of this process passes through."""
        return _NotForDays(super().intercept_activity(_Told(next)), next)


class _NotForDays(ActivityInboundInterceptor):
    """Traces all activities but those that end with the process."""

    def __init__(self, traced: ActivityInboundInterceptor, plain: ActivityInboundInterceptor) -> None:
        super().__init__(traced)
        self._plain = plain

    async def execute_activity(self, input: ExecuteActivityInput) -> object:  # noqa: A002 - the base's name
        if getattr(input.fn, "__name__", "") in _FOR_DAYS:
            return await self._plain.execute_activity(input)
        return await super().execute_activity(input)


class _Told(ActivityInboundInterceptor):
    """Says on the activity's span what it was about and what came of it."""

    async def execute_activity(self, input: ExecuteActivityInput) -> object:  # noqa: A002 - the base's name
        span = trace.get_current_span()
        argument = input.args[0] if input.args else None
        for name in ("order_key", "entry_key", "symbol", "account"):
            if isinstance(value := getattr(argument, name, None), str):
                span.set_attribute(f"bottrader.{name}", value)
        if isinstance(argument, PlaceAttempt):
            span.set_attribute("bottrader.attempt", argument.plan.number)
        elif isinstance(argument, RecordUpdate):
            span.set_attribute("bottrader.attempt", argument.update.attempt)
            span.set_attribute("bottrader.source", argument.update.source.value)
        result = await super().execute_activity(input)
        if (outcome := _outcome(result)) is not None:
            span.set_attribute("bottrader.outcome", outcome)
        return result


def _outcome(result: object) -> str | None:
    if isinstance(result, Admission):
        return "accepted" if result.accepted else f"refused by {result.gate}"
    if isinstance(result, PlaceAnswer | ResolveAnswer):
        return result.verdict.value
    if isinstance(result, RecordResult):
        return result.state.value
    if isinstance(result, TradeOutcome) and result.exit_reason is not None:
        return result.exit_reason.value
    return None
