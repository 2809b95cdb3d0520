"""`python -m workers.health --role orders`: can a worker on this machine (or in this container) do the role's work?

Exit code 0 or 1, and a sentence for each thing that keeps it from it: the database takes a write, the exchange answers,
whoever does the role's work holds its lease, and Temporal itself is asked who polls, so that a worker that hangs or
lost its connection counts as ill. The worker's identity ends in @ and the machine's name, as the SDK makes it.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

from workers.errors import UserError
from workers.leave import leave
from workers.ledger_identity import on_ledger
from workers.settings import build, read_sources

if TYPE_CHECKING:
    from temporalio.client import Client

    from workers.settings import Settings

__all__ = ["FRESH_S", "ROLES", "ROLES_OF", "polled_since", "queue_of", "roles_of"]

# A poll lasts up to a minute, and counts from its beginning.
FRESH_S = 90.0

ROLES = ("orders", "streams", "watchers", "strategy")
ROLES_OF = {"sighook": {"strategy"}, "webhook": {"orders", "streams", "watchers"}, "both": set(ROLES)}
"""What the role `all` means, by the setting `entry_points` (ENTRY-3)."""


def roles_of(settings: "Settings", named: Iterable[str]) -> set[str]:
    """The roles that a worker which is told these runs; `all` is what the settings let it be."""
    roles = set(named)
    return ROLES_OF[settings.entry_points] if "all" in roles else roles


async def polled_since(client: "Client", queue: str, since: float, *, identity_suffix: str = "") -> bool:
    """Whether a worker asked for activities of `queue` after `since` (seconds since 1970).

    `identity_suffix` narrows it to workers whose identity ends so. Raises temporalio's RPCError.
    """
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
    )
    return any(
        poller.last_access_time.ToNanoseconds() / 1e9 >= since and poller.identity.endswith(identity_suffix)
        for poller in answer.pollers
    )


def queue_of(settings: "Settings", role: str) -> str:
    """The task queue that workers of `role` listen on."""
    temporal = settings.temporal
    return {
        "orders": temporal.orders_queue,
        "streams": temporal.streams_queue,
        "watchers": temporal.watchers_queue,
        "strategy": temporal.strategy_queue,
    }[role]


def main() -> int:
    """Answer by exit code, and with a sentence when the answer is no."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.health", description="Can this machine's worker do the role's work?"
    )
    parser.add_argument("--role", choices=ROLES, required=True)
    role: str = parser.parse_args().role
    from workers.readiness import ailments  # noqa: PLC0415 - who only asks for pollers doesn't load what this needs

    try:
        found = asyncio.run(ailments(build(on_ledger(read_sources())), role))
    except UserError as error:
        sys.stderr.write(f"error: {error.sentence}\n")
        return 1
    for sentence in found:
        sys.stderr.write(f"error: {sentence}.\n")
    return 1 if found else 0


if __name__ == "__main__":
    leave(main())
