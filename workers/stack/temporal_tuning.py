"""Temporal's dynamic configuration for this system, for the dev server and (as YAML) for the compose file's server.

With the defaults each history queue is read at most 20 times a second, so that every hop waits up to 50 ms, most of the
time from decision to exchange. The rate limits are raised so that a thousand stops due in one second don't wait for a
limit meant for shared clusters.
"""

import sys
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["DYNAMIC_CONFIG", "as_flag", "as_yaml"]

DYNAMIC_CONFIG: Mapping[str, int | bool] = MappingProxyType(
    {
        "history.transferProcessorMaxPollRPS": 2000,
        "history.timerProcessorMaxPollRPS": 2000,
        "history.visibilityProcessorMaxPollRPS": 500,
        "history.rps": 50_000,
        "history.persistenceMaxQPS": 50_000,
        "matching.rps": 50_000,
        "matching.persistenceMaxQPS": 50_000,
        "frontend.rps": 50_000,
        "frontend.namespaceRPS": 50_000,
        "frontend.namespaceRPS.visibility": 1_000,
        "frontend.namespaceCount": 20_000,
        "frontend.persistenceMaxQPS": 50_000,
        "frontend.MaxConcurrentBatchOperationPerNamespace": 5,
        "system.enableActivityEagerExecution": True,
        "system.enableEagerWorkflowStart": True,
        "frontend.enableUpdateWorkflowExecution": True,
        "frontend.enableUpdateWorkflowExecutionAsyncAccepted": True,
        "frontend.enableExecuteMultiOperation": True,
        "worker.schedulerNamespaceStartWorkflowRPS": 200,
    }
)
"""Dynamic configuration key → value; rates are per second and per server process."""


def as_flag(value: int | bool) -> str:
    """The value in the JSON form that `temporal server start-dev --dynamic-config-value` wants."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_yaml(more: Mapping[str, int | bool] = MappingProxyType({})) -> str:
    """The whole configuration, and `more`, in the form of a server's dynamic configuration file."""
    lines = ["# Written by `python -m workers.stack.temporal_tuning`: change DYNAMIC_CONFIG there, not this file."]
    for key, value in {**DYNAMIC_CONFIG, **more}.items():
        lines += [f"{key}:", f"  - value: {as_flag(value)}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_yaml())
