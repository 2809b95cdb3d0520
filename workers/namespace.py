"""`python -m workers.namespace`: creates Temporal's namespace and our search attributes, and waits until both can be
used.

Idempotent: existing ones are not changed, except the retention of closed workflows, which follows
`temporal.retention_days`.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest, UpdateNamespaceRequest
from temporalio.service import RPCError, RPCStatusCode

from domain.visibility import SEARCH_ATTRIBUTES
from workers.errors import UnreachableError, UserError
from workers.leave import leave
from workers.ledger_identity import on_ledger
from workers.settings import build, read_sources
from workers.temporal_connection import connect

if TYPE_CHECKING:
    from temporalio.client import Client

    from workers.settings import Settings

__all__ = ["keep_closed", "set_up"]

_KINDS = {"Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD}
# A server's caches learn of a new namespace and of new attributes within this time.
_VISIBLE_WITHIN_S = 150.0
_NOT_YET = {RPCStatusCode.NOT_FOUND, RPCStatusCode.UNAVAILABLE, RPCStatusCode.INVALID_ARGUMENT}


async def set_up(settings: "Settings") -> list[str]:
    """Create what is missing; returns a sentence for each.

    Raises UnreachableError: NO_TEMPORAL, or NAMESPACE_NOT_READY when the server does not show it in time.
    """
    client = await _connected(settings)
    made = []
    if await _register(client, settings.temporal.retention_days):
        made.append(f"namespace {client.namespace}")
    await _until(client, "the namespace", lambda: _namespace_ready(client))
    made += await keep_closed(client, settings.temporal.retention_days)
    missing = [name for name in SEARCH_ATTRIBUTES if name not in await _known(client)]
    if missing:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=client.namespace,
                search_attributes={name: _KINDS[SEARCH_ATTRIBUTES[name]] for name in missing},
            )
        )
        made.append(f"search attributes {', '.join(missing)}")
    await _until(client, "the search attributes", lambda: _attributes_ready(client))
    return made


async def _connected(settings: "Settings") -> "Client":
    """A client; the server may still be starting."""
    deadline = time.monotonic() + _VISIBLE_WITHIN_S
    while True:
        try:
            return await connect(settings)
        except UnreachableError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


async def keep_closed(client: "Client", days: int) -> list[str]:
    """Set the retention of an existing namespace in days; returns a sentence if it was changed.

    A dev server creates it with one day, after which an order's workflow could not be looked up. Raises RPCError.
    """
    retention = _days(days)
    found = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    if found.config.workflow_execution_retention_ttl == retention:
        return []
    await client.workflow_service.update_namespace(
        UpdateNamespaceRequest(
            namespace=client.namespace, config=NamespaceConfig(workflow_execution_retention_ttl=retention)
        )
    )
    return [f"namespace {client.namespace} keeps closed workflows for {days} days"]


def _days(days: int) -> Duration:
    retention = Duration()
    retention.FromTimedelta(timedelta(days=days))
    return retention


async def _register(client: "Client", retention_days: int) -> bool:
    retention = _days(retention_days)
    try:
        await client.workflow_service.register_namespace(
            RegisterNamespaceRequest(namespace=client.namespace, workflow_execution_retention_period=retention)
        )
    except RPCError as error:
        if error.status is RPCStatusCode.ALREADY_EXISTS:
            return False
        raise
    return True


async def _namespace_ready(client: "Client") -> bool:
    await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    await client.count_workflows()
    return True


async def _attributes_ready(client: "Client") -> bool:
    """Whether the attributes are usable: a server refreshes the ones its queries and starts accept about once a
    minute."""
    if not set(SEARCH_ATTRIBUTES) <= await _known(client):
        return False
    for name in SEARCH_ATTRIBUTES:
        # In backticks, as a name may be a word of the query language (Order is).
        await client.count_workflows(f"`{name}` = 'none'")
    return True


async def _known(client: "Client") -> set[str]:
    answer = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return set(answer.custom_attributes)


async def _until(client: "Client", what: str, ready: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + _VISIBLE_WITHIN_S
    while True:
        try:
            if await ready():
                return
        except RPCError as error:
            if error.status not in _NOT_YET:
                raise
        if time.monotonic() > deadline:
            raise UnreachableError(
                "NAMESPACE_NOT_READY",
                f"Temporal does not show {what} of {client.namespace} after {_VISIBLE_WITHIN_S:g} s: see its log.",
            )
        await asyncio.sleep(0.5)


def main() -> int:
    """Set up and print what was created."""
    try:
        made = asyncio.run(set_up(build(on_ledger(read_sources()))))
    except UserError as error:
        sys.stderr.write(f"error: {error.sentence}\n")
        return int(error.exit_code)
    sys.stdout.write(f"Created: {'; '.join(made) if made else 'nothing, everything exists'}\n")
    return 0


if __name__ == "__main__":
    leave(main())
