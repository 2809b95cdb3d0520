"""`python -m workers.health --role orders`: does a worker on this machine (or in this container) take tasks of the
role?

Exit code 0 or 1. Temporal itself is asked who polls, so a worker that hangs or lost its connection counts as ill.
The worker's identity ends in @ and the machine's name, as the SDK makes it.
"""

import argparse
import asyncio
import socket
import sys
import time
from typing import TYPE_CHECKING

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

from workers.errors import UserError
from workers.leave import leave
from workers.settings import load_settings
from workers.temporal_connection import connect

if TYPE_CHECKING:
    from temporalio.client import Client

    from workers.settings import Settings

# A poll lasts up to a minute, and counts from its beginning.
FRESH_S = 90.0


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


async def healthy(settings: "Settings", role: str) -> bool:
    """Whether a worker with this machine's name took part in the role's task queue in the last minute and a half."""
    client = await connect(settings)
    suffix = f"@{socket.gethostname()}"
    return await polled_since(client, queue_of(settings, role), time.time() - FRESH_S, identity_suffix=suffix)


def main() -> int:
    """Answer by exit code, and with a sentence when the answer is no."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.health", description="Does this machine's worker take tasks?"
    )
    parser.add_argument("--role", choices=("orders", "streams", "watchers", "strategy"), required=True)
    role: str = parser.parse_args().role
    try:
        if asyncio.run(healthy(load_settings(), role)):
            return 0
    except UserError as error:
        sys.stderr.write(f"error: {error.sentence}\n")
        return 1
    sys.stderr.write(f"error: no worker of this machine takes {role} tasks.\n")
    return 1


if __name__ == "__main__":
    leave(main())
