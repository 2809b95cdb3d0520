"""Who works on which task queue: roles of workers, their queues, and who of them asked Temporal for work lately."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

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
