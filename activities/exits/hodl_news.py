"""What changed on the HODL list, told to the trades that it concerns (EXIT-6).

An exit that the list refused pauses long, as asking again changes no list; and what rests at the exchange has to
leave when its coin comes onto the list. So the exit monitors are told when a symbol joins or leaves, whoever changed
it. They are told a few times, as another process may decide by the list of a moment ago.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Coroutine, Iterable
from datetime import timedelta
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from domain.ids import exit_workflow_id
from domain.watch import Plan

__all__ = ["HodlNews"]

log = structlog.get_logger(__name__)

_TELL_AFTER = (0.0, 3.0, 10.0)


class HodlNews:
    """For one watch. `hodl` gives the list in force; `timeout` is in wall seconds for one call to Temporal."""

    def __init__(self, client: Client, hodl: Callable[[], Collection[str]], *, timeout: float) -> None:
        self._client = client
        self._hodl = hodl
        self._timeout = timeout
        self._known: frozenset[str] | None = None
        self._tell: list[tuple[float, frozenset[str]]] = []

    def due(self, plans: Iterable[Plan]) -> list[Coroutine[Any, Any, None]]:
        """What is to be told now: one call for each trade that a change concerns.

        What changed while nobody watched is not known, so a watch begins with the trades whose exit is under way and
        with what is on the list.
        """
        now, listed = time.monotonic(), frozenset(self._hodl())
        plans = list(plans)
        if self._known is None:
            changed = listed | {plan.symbol for plan in plans if plan.exiting}
        else:
            changed = listed ^ self._known
        self._known = listed
        if changed:
            self._tell += [(now + later, changed) for later in _TELL_AFTER]
        ready = frozenset[str]().union(*(symbols for at, symbols in self._tell if at <= now))
        self._tell = [item for item in self._tell if item[0] > now]
        return [self._send(plan) for plan in plans if plan.symbol in ready]

    async def _send(self, plan: Plan) -> None:
        handle = self._client.get_workflow_handle(exit_workflow_id(plan.entry_key))
        try:
            await handle.signal("hodl_changed", rpc_timeout=timedelta(seconds=self._timeout))
        except RPCError as problem:
            # Its monitor has ended; a new one looks for itself.
            log.info("not told of the HODL list", entry_key=plan.entry_key, problem=repr(problem))
