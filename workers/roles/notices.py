"""Background services of a worker process: notices to people, and with the role `streams` the detection of outages.

Neither needs Temporal, so that its outage can be reported too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.database import Pool
from activities.incidents import report_once, resolve_incidents
from activities.leases import DATABASE_TROUBLE
from activities.notices.delivery import BadTargetError, Notifier, NotifierOptions, Target
from activities.notices.outages import DATABASE, OutageOptions, Outages, takes_writes
from domain.incidents import IncidentKind
from domain.news import INCIDENT_KINDS
from exchange.port import Exchange
from workers.readiness import unwatched
from workers.settings import Settings
from workers.settings.values import lease_terms

__all__ = ["ask_temporal", "ask_watchers", "beside", "beside_others", "beside_streams", "notifier_of", "targets_of"]

_log = structlog.get_logger()
_BAD_URL = IncidentKind.NOTICE_URL_UNUSABLE
_DATABASE_SECONDS = 3.0
"""Shorter than a probe's timeout, so that an unreachable database is not reported as another outage."""


def targets_of(settings: Settings) -> tuple[list[Target], list[str]]:
    """The targets of `[notices] urls`, and a sentence for each invalid address."""
    targets: list[Target] = []
    problems: list[str] = []
    for position, url in enumerate(settings.notices.urls, start=1):
        try:
            targets.append(Target(url.get_secret_value(), position=position))
        except BadTargetError as problem:
            problems.append(str(problem))
    return targets, problems


def notifier_of(settings: Settings, pool: Pool, targets: list[Target]) -> Notifier:
    """The account's notifier."""
    notices = settings.notices
    options = NotifierOptions(
        severity=notices.severity,
        kinds={kind: getattr(notices.kinds, name) for name, kind in INCIDENT_KINDS.items()},
        live=settings.mode == "live",
        # One process reads the news, for Telegram, too.
        news=list(INCIDENT_KINDS.values()) if settings.telegram.chats else None,
        repeat_seconds=float(notices.repeat_s),
        repeat_for_seconds=float(notices.repeat_for_s),
        # Each worker process waits for it, and none is in a hurry.
        lease=replace(lease_terms(settings), wait_seconds=1.0),
    )
    return Notifier(pool, settings.account, targets, options)


@contextlib.asynccontextmanager
async def beside_streams(
    settings: Settings, pool: Pool, client: Client, exchange: Exchange, *, options: OutageOptions | None = None
) -> AsyncIterator[tuple[Notifier, Outages]]:
    """Run notices and outage detection during the block. Their errors don't end it."""
    targets, problems = targets_of(settings)
    await _say_what_is_unusable(pool, settings.account, problems)
    notifier = notifier_of(settings, pool, targets)
    notices = settings.notices
    outages = Outages(
        pool,
        settings.account,
        {
            DATABASE: lambda: takes_writes(pool),
            "temporal": lambda: ask_temporal(client, settings.temporal.orders_queue),
            "exchange": exchange.server_time,
            "watchers": lambda: ask_watchers(pool, settings.account, settings.watcher.shards),
        },
        notifier,
        options or OutageOptions(after_seconds=float(notices.outage_after_s), repeat_seconds=float(notices.repeat_s)),
        where=f"{socket.gethostname()}:{os.getpid()}",
    )
    async with beside(notifier.run), beside(outages.run):
        yield notifier, outages


@contextlib.asynccontextmanager
async def beside_others(settings: Settings, pool: Pool) -> AsyncIterator[Notifier]:
    """Deliver notices during the block if no other process does, so that the loss of the workers with the role
    `streams` is reported.
    """
    notifier = notifier_of(settings, pool, targets_of(settings)[0])
    async with beside(notifier.run):
        yield notifier


@contextlib.asynccontextmanager
async def beside(run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run `run` during the block. An error in it is logged and it is restarted; it does not end the worker."""
    task = asyncio.create_task(_keep(run))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask_temporal(client: Client, queue: str) -> None:
    """Raises if Temporal can't do its work: dispatch tasks and describe workflows.

    Describing a namespace is not enough: it is answered from memory even if the services that do the work are down.
    """
    from temporalio.api.common.v1 import WorkflowExecution  # noqa: PLC0415 - protobuf takes a while
    from temporalio.api.taskqueue.v1 import TaskQueue  # noqa: PLC0415
    from temporalio.api.workflowservice.v1 import (  # noqa: PLC0415
        DescribeTaskQueueRequest,
        DescribeWorkflowExecutionRequest,
    )

    patience = timedelta(seconds=4)
    await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(namespace=client.namespace, task_queue=TaskQueue(name=queue)), timeout=patience
    )
    anyone = WorkflowExecution(workflow_id="asked-whether-temporal-works")
    try:
        await client.workflow_service.describe_workflow_execution(
            DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=anyone), timeout=patience
        )
    except RPCError as problem:
        if problem.status is not RPCStatusCode.NOT_FOUND:  # it looked, and that is an answer
            raise


async def ask_watchers(pool: Pool, account: str, shards: int) -> None:
    """Raises if a product with an open position is not watched; an unreachable database does not count."""
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            rows = await pool.fetch(
                "SELECT DISTINCT symbol FROM exit_plans WHERE account = $1 AND state <> 'DISARMED'", account
            )
            alone = await unwatched(pool, account, [row["symbol"] for row in rows], shards)
    except DATABASE_TROUBLE:
        return
    if alone:
        raise LookupError(f"the price of {', '.join(sorted(alone))} is not watched")


async def _keep(run: Callable[[], Awaitable[None]]) -> None:
    """An error here is logged and retried: it must neither end a worker nor go unnoticed."""
    while True:
        try:
            await run()
            return
        except asyncio.CancelledError:
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it is, trading goes on
            _log.error("background service failed, restarting", problem=repr(problem), exc_info=problem)
            await asyncio.sleep(5)


async def _say_what_is_unusable(pool: Pool, account: str, problems: list[str]) -> None:
    for problem in problems:
        _log.error("notice url can't be used", problem=problem)
    try:
        if problems:
            await report_once(pool, account, _BAD_URL, "WARNING", "notices.urls", "; ".join(problems))
        else:
            await resolve_incidents(pool, account, _BAD_URL, "notices.urls")
    except DATABASE_TROUBLE as trouble:
        _log.warning("incident not stored", problem=repr(trouble))
