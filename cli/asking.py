"""Requests from the command line to workflows, with the requester's name; never waits for an answer that can't come."""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cli.output import ExitCode, UnreachableError, UserError, note

if TYPE_CHECKING:
    from temporalio.client import Client

    from domain.messages import CloseRequest
    from workers.settings import Settings
    from workflows.asking import Reply

__all__ = [
    "ask",
    "commanded",
    "end",
    "end_or_keep",
    "keep_until_started",
    "no_answer",
    "patience",
    "query",
    "require_worker",
    "until",
    "user",
    "worker_missing",
]

Found = TypeVar("Found")

_QUIET_SECONDS = 2.0
_LONGEST_LOOK_SECONDS = 0.25
_QUERY_SECONDS = 4.0
_LONGEST_NAME = 100


def user(by: str) -> str:
    """The requester: this machine's user according to the operating system, not the environment; a given name is kept
    as a note."""
    import os
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    given = "".join(letter for letter in by if letter.isprintable()).strip()[:_LONGEST_NAME]
    return f"{name} (for {given})" if given and given != name else name


@contextmanager
def patience(what: str) -> Iterator[None]:
    """Print on stderr what the command is waiting for, once it has taken two seconds."""
    import asyncio

    notice = asyncio.get_running_loop().call_later(_QUIET_SECONDS, note, f"{what} …")
    try:
        yield
    finally:
        notice.cancel()


async def until(look: Callable[[], Awaitable[Found | None]], seconds: float) -> Found | None:
    """The first result of `look`, called repeatedly with growing pauses; None after `seconds`."""
    import asyncio

    deadline = time.monotonic() + seconds
    pause = 0.02
    while True:
        found = await look()
        if found is not None:
            return found
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_LOOK_SECONDS)


async def worker_missing(client: "Client", settings: "Settings") -> bool:
    """Whether no worker has polled the task queue for orders in the last 90 seconds."""
    from workers.polling import FRESH_S, polled_since

    return not await polled_since(client, settings.temporal.orders_queue, time.time() - FRESH_S)


async def require_worker(client: "Client", settings: "Settings", what: str) -> None:
    """Raises UnreachableError(NO_WORKER), before anything is stored, if no worker polls the task queue for orders."""
    if await worker_missing(client, settings):
        raise UnreachableError(
            "NO_WORKER",
            f"No worker polls the task queue for orders, so {what}: "
            "start one with `bottrader worker`, or the whole system with `bottrader up`.",
        )


async def ask(
    client: "Client", workflow_id: str, update: str, request: object, seconds: float, *, as_signal: bool = True
) -> str:
    """Send an update and return its answer. `as_signal`: a signal of the same name makes the same request.

    Raises UserError(code of the refusal, exit code 1) when it is refused, LookupError when no such workflow runs, and
    UnreachableError(NO_ANSWER) when there is no answer in `seconds`.
    """
    from workflows import asking

    try:
        reply = await asking.ask(client, workflow_id, update, request, seconds)
    except asking.NoAnswerError:
        raise no_answer(workflow_id, update if as_signal else None, seconds) from None
    return _accepted(reply)


async def end(
    client: "Client", kind: Literal["close", "cancel"], key: str, request: "CloseRequest", seconds: float
) -> str:
    """Request the close of a trade or the cancel of an order from the workflow that can do it. Returns and raises as
    `ask` does."""
    from domain.commands import CommandKind
    from workflows import asking

    try:
        reply = await asking.ask_to_end(client, CommandKind(kind), key, request, seconds)
    except asking.NoAnswerError as silent:
        raise no_answer(silent.workflow_id, kind, seconds) from None
    return _accepted(reply)


async def end_or_keep(
    ledger: Any,
    client: "Client",
    account: str,
    kind: Literal["close", "cancel"],
    key: str,
    request: "CloseRequest",
    seconds: float,
) -> str:
    """`end`; if no workflow runs for it, store the request in the ledger for the one that the sweep starts.

    Returns the answer; raises as `ask` does but for LookupError, and the database's errors.
    """
    try:
        return await end(client, kind, key, request, seconds)
    except LookupError:
        answer = await keep_until_started(ledger, account, kind, key, request)
    # One that was started in between may have looked before the wish was there.
    with suppress(LookupError):
        answer = await end(client, kind, key, request, seconds)
    return answer


def no_answer(workflow_id: str, signal: str | None, seconds: float) -> UnreachableError:
    """The error for a workflow that did not answer in time; `signal` makes the same request without waiting."""
    or_leave_it = (
        ", or send the request as a signal, which Temporal keeps: "
        f"`temporal workflow signal --workflow-id {workflow_id} --name {signal}`"
    )
    return UnreachableError(
        "NO_ANSWER",
        f"{workflow_id} did not answer within {seconds:g} s, probably because no worker is running: start one with "
        f"`bottrader worker` and repeat the command{or_leave_it if signal else ''}.",
    )


def _accepted(reply: "Reply") -> str:
    if not reply.accepted:
        raise UserError(reply.code, f"{reply.sentence[:1].upper()}{reply.sentence[1:]}.", ExitCode.NO)
    return reply.sentence


async def commanded(
    ledger: Any, account: str, kind: Literal["close", "cancel", "stops"], keys: Sequence[str], by: str, why: str = ""
) -> "dict[str, CloseRequest]":
    """The requests that close these trades, cancel these orders or move these trades' stops, recorded in the ledger
    first, which proves the requester. If that fails, the request is sent without the proof, with a warning.
    """
    import asyncpg

    from activities.commands import note_commands
    from domain.commands import CommandKind
    from domain.messages import CloseRequest

    ids = [""] * len(keys)
    try:
        ids = await note_commands(ledger, account, CommandKind(kind), keys, by, why)
    except (asyncpg.PostgresError, OSError, TimeoutError) as problem:
        note(
            f"Your name could not be recorded in the ledger ({type(problem).__name__}); the request is sent without it."
        )
    return {key: CloseRequest(by=by, note=why, command=command) for key, command in zip(keys, ids, strict=True)}


async def keep_until_started(
    ledger: Any, account: str, kind: Literal["close", "cancel"], key: str, request: "CloseRequest"
) -> str:
    """Store a close or cancel for which no workflow runs, for the one that the sweep starts or finds. Returns the
    answer.

    Raises the database's errors.
    """
    from activities.commands import keep
    from domain.commands import CommandKind

    await keep(ledger, account, CommandKind(kind), key, request)
    return (
        f"no workflow runs for it at the moment: the {kind} is stored and carried out once the sweep has started "
        f"one, within minutes"
    )


async def query(client: "Client", workflow_id: str, name: str) -> Any | None:
    """A query's answer; None if there is no such workflow or no answer."""
    import asyncio

    from temporalio.client import WorkflowQueryFailedError
    from temporalio.service import RPCError

    try:
        async with asyncio.timeout(_QUERY_SECONDS):
            return await client.get_workflow_handle(workflow_id).query(name)
    except (TimeoutError, RPCError, WorkflowQueryFailedError):
        return None
