"""Actions: cancel, close, flatten, halt, resume, move stops, resolve an incident. Each is done once and recorded.

An action sends the same request to the same workflows as the command line does, under a command in the ledger; its
answer is the workflow's own sentence. If no worker answers, a close or a cancel is stored in the ledger to be done
later, and the answer is 202.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse
from temporalio.client import Client
from temporalio.service import RPCError

from domain.commands import CommandKind
from domain.errors import BotTraderError
from domain.ids import exit_workflow_id
from domain.limit_groups import GroupKind
from domain.messages import CloseRequest, StopsRequest
from web.api.action_bodies import (
    ActionBody,
    Answer,
    Confirmed,
    Done,
    Flatten,
    Halt,
    Resume,
    Stops,
    group_of,
    group_subject,
)
from web.api.action_log import ActionLog, Begun
from web.api.callers import Caller
from web.api.door import caller_of
from web.api.plain import as_plain
from web.api.problems import RESPONSES, described, problem
from web.refusals import Refused
from web.views import Ledger
from web.views.lists import order_line
from web.views.orders import find_order
from web.views.trades import find_trade, what_is_open
from workflows.asking import NoAnswerError, Reply, ask, ask_to_end

__all__ = ["Actions", "Hands", "NoTemporalError", "action_routes"]

_SECONDS = 10.0
_AT_ONCE = 20
_FLATTEN = "flatten"
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[A-Za-z0-9_-]{8,100}$",
        description="made by the client, one for each action: the same one again is the same action",
    ),
]


@dataclass(frozen=True, slots=True)
class Hands:
    """What actions need. Every function raises the database's errors."""

    ledger: Ledger
    account: str
    live: bool
    client: Callable[[], Awaitable[Client]]
    """Raises NoTemporalError."""
    write_command: Callable[[CommandKind, Sequence[tuple[str, str]], str, str], Awaitable[None]]
    """Record commands: kind, ids with subjects, who asks, note; once an id."""
    keep: Callable[[CommandKind, str, CloseRequest], Awaitable[None]]
    """Store a close or a cancel for the workflow that the sweep starts or finds."""
    turn: Callable[[bool, str, str], Awaitable[bool]]
    """Halt (True) or resume entries; why; who. Returns whether that changed anything. A halt also withdraws quotes."""
    turn_group: Callable[[tuple[GroupKind, str], bool, str, str], Awaitable[tuple[bool, str]]]
    """The same for one strategy or trigger; with a sentence. Raises Refused(404) for one that doesn't exist."""


class NoTemporalError(BotTraderError):
    """Temporal can't be reached."""

    code = "NO_TEMPORAL"


_ANSWERS: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    200: {"model": Answer},
    202: {"model": Answer, "description": "stored to be done later: no worker has answered"},
    404: described("the account has no such order, trade or incident"),
    409: described("it can't be done (any more), or the key was used for something else"),
}


class Actions:
    """What may be done, whoever asks and however: by HTTP, or by a message. Each is done once and recorded."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._log = ActionLog(hands.ledger, hands.account)

    async def once(
        self,
        request: Request,
        key: str,
        kind: str,
        subject: str,
        body: BaseModel,
        act: Callable[[Begun], Awaitable[Answer]],
        *,
        again: bool = True,
    ) -> JSONResponse:
        """`do` for a request over HTTP. Raises Refused."""
        caller: Caller = caller_of(request)
        done = await self.do(caller.by, key, kind, subject, body, act, again=again)
        return _answered(done)

    async def do(
        self,
        by: str,
        key: str,
        kind: str,
        subject: str,
        body: BaseModel,
        act: Callable[[Begun], Awaitable[Answer]],
        *,
        again: bool = True,
    ) -> Done:
        """Do it and store its answer, or return the stored one.

        `again`: an action that was begun and never answered may be done again. Raises Refused.
        """
        begun = await self._log.begin(by, key, kind, subject, body.model_dump(mode="json"))
        if begun.answer is not None and begun.status is not None:
            return Done(begun.status, begun.answer, replayed=True)
        # A flatten without its plan isn't planned later: it would close what has opened since.
        if not begun.fresh and (not again or (kind == _FLATTEN and begun.planned is None)):
            raise Refused(
                409,
                "OUTCOME_UNKNOWN",
                "The outcome of this action is not known (it is under way, or the process ended in between): check the "
                "current state, then use a new Idempotency-Key.",
            )
        try:
            found = await act(begun)
        except Refused as refused:
            if refused.status < 500:
                raw = bytes(problem(refused).body)
                await self._log.end(begun, refused.status, _loaded(raw))
            raise
        done = Done(202 if found.kept else 200, as_plain(found.model_dump(exclude_none=True)))
        await self._log.end(begun, done.status, done.answer)
        return done

    async def outcome(self, by: str, key: str) -> Done | None:
        """What was answered to an action that was begun under this key, with status 0 if nothing was yet; None if none
        was begun."""
        found = await self._log.find(by, key)
        return None if found is None else Done(found[0] or 0, found[1] or {}, replayed=True)

    async def cancel(self, begun: Begun, key: str, note: str) -> Answer:
        """Raises Refused."""
        row = await order_line(self._hands.ledger, self._hands.account, key)
        if row is None:
            raise Refused(404, "NO_SUCH_ORDER", "There is no such order in this account.")
        if row["finished"]:
            raise Refused(409, "ORDER_ENDED", f"There is nothing to cancel: the order is {row['state']}.")
        if row["role"] == "EXTERNAL":
            raise Refused(409, "NOT_OURS", "The order was placed elsewhere: cancel it where it was placed.")
        return await self._end(CommandKind.CANCEL, key, begun, note)

    async def close(self, begun: Begun, key: str, note: str) -> Answer:
        """Raises Refused."""
        await self._open_trade(key)
        return await self._end(CommandKind.CLOSE, key, begun, note)

    async def _open_trade(self, key: str) -> None:
        row = await find_trade(self._hands.ledger, key)
        if row is None or row["account"] != self._hands.account:
            entry = await find_order(self._hands.ledger, key)
            if entry is None or entry["account"] != self._hands.account or entry["role"] != "ENTRY":
                raise Refused(404, "NO_SUCH_TRADE", "There is no such trade in this account.")
            raise Refused(409, "NO_POSITION", "Nothing of it has filled: cancel the order instead.")
        if row["state"] == "CLOSED":
            why = row["exit_reason"] or row["dust_why"] or "without an exit of ours"
            raise Refused(409, "TRADE_CLOSED", f"The trade is closed already ({why}).")

    async def _end(self, kind: CommandKind, key: str, begun: Begun, note: str, part: str = "") -> Answer:
        """Ask the workflow; if nobody answers, store the request. Raises Refused if the workflow refuses."""
        name = begun.id if not part else hashlib.sha256(f"{begun.id}/{part}".encode()).hexdigest()[:32]
        await self._hands.write_command(kind, [(name, key)], begun.by, note)
        wish = CloseRequest(request_id=name, by=begun.by, note=note, command=name)
        with contextlib.suppress(NoAnswerError, LookupError, RPCError, NoTemporalError):
            client = await self._hands.client()
            return _said(await ask_to_end(client, kind, key, wish, _SECONDS, update_id=name))
        await self._hands.keep(kind, key, wish)
        return Answer(
            accepted=True,
            sentence=f"no worker has answered: the {kind.value} is stored and done once one is available",
            kept=True,
        )

    async def stops(self, begun: Begun, key: str, given: Stops) -> Answer:
        """Raises Refused."""
        await self._open_trade(key)
        off = given.take_profit == "off"
        named = given.model_dump(exclude={"take_profit", "note"}, exclude_none=True)
        levels = {"hard_stop", "soft_stop", "trailing_stop", "trailing_arm"}
        if given.take_profit is None and not levels & set(named):
            raise Refused(422, "BAD_REQUEST", "Give at least one stop or target to move.", field="hard_stop")
        await self._hands.write_command(CommandKind.STOPS, [(begun.id, key)], begun.by, given.note)
        wish = StopsRequest(
            request_id=begun.id,
            by=begun.by,
            note=given.note,
            command=begun.id,
            take_profit=None if isinstance(given.take_profit, str) else given.take_profit,
            no_take_profit=off,
            **named,
        )
        try:
            client = await self._hands.client()
            reply = await ask(client, exit_workflow_id(key), "stops", wish, _SECONDS, update_id=begun.id)
        except LookupError:
            raise Refused(
                503, "NO_WORKFLOW", "No workflow guards the trade at the moment; one is started within minutes."
            ) from None
        except NoAnswerError:
            raise Refused(
                503,
                "NO_ANSWER",
                "No worker has answered: whether the stops were moved is not known. Try again with the same key.",
            ) from None
        except (RPCError, NoTemporalError):
            raise Refused(
                503, "NO_TEMPORAL", "Temporal does not answer: try again with the same Idempotency-Key.", retry_after=5
            ) from None
        return _said(reply)

    async def turn(self, begun: Begun, group: tuple[GroupKind, str] | None, note: str, *, halted: bool) -> Answer:
        """Raises Refused, and the database's errors."""
        if group is not None:
            changed, told = await self._hands.turn_group(group, halted, note, begun.by)
            return Answer(accepted=True, sentence=f"{told[:1].lower()}{told[1:]}", changed=changed)
        changed = await self._hands.turn(halted, note, begun.by)
        word = "halted" if halted else "resumed"
        when = "" if changed else " already" if halted else "; nothing was halted"
        return Answer(accepted=True, sentence=f"entries are {word}{when}", changed=changed)

    async def flatten(self, begun: Begun, given: Flatten) -> Answer:
        """Close everything that is open now, or what of it is in the product; what opens meanwhile is not included, nor
        where it is done again because its answer was lost (`do` refuses that where the plan was lost with it).
        """
        ledger, account = self._hands.ledger, self._hands.account
        planned = begun.planned
        if planned is None:
            if given.halt:
                await self._hands.turn(True, given.note or "flatten", begun.by)
            rows = await what_is_open(ledger, account, given.symbol)
            planned = await self._log.plan(begun, [row["key"] for row in rows])
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(row: Mapping[str, Any]) -> dict[str, Any]:
            kind = CommandKind.CLOSE if row["what"] == "trade" else CommandKind.CANCEL
            async with slots:
                try:
                    found = await self._end(kind, row["key"], begun, given.note, f"{kind.value}/{row['key']}")
                except Refused as refused:
                    found = Answer(accepted=False, sentence=refused.sentence)
            return {
                "key": row["key"],
                "what": row["what"],
                "symbol": row["symbol"],
                **found.model_dump(exclude_none=True),
            }

        wanted = set(planned)
        rows = [row for row in await what_is_open(ledger, account, given.symbol) if row["key"] in wanted]
        items = await asyncio.gather(*(one(row) for row in rows))
        done = sum(item["accepted"] for item in items)
        kept = any(item["kept"] for item in items)
        of = f" in {given.symbol}" if given.symbol else ""
        ended = f"{len(planned) - len(items)} of {len(planned)} had ended before" if len(items) < len(planned) else ""
        asked = f"{done} of {len(items)} are being sold or cancelled" if items else ""
        sentence = "; ".join(filter(None, (asked, ended))) or f"there was nothing to close{of}"
        return Answer(accepted=done == len(items), sentence=sentence, kept=kept, items=items)

    async def resolve(self, number: int) -> Answer:
        """Raises Refused."""
        changed = await self._log.resolve_incident(number)
        if changed is None:
            raise Refused(404, "NO_SUCH_INCIDENT", "There is no such incident in this account.")
        return Answer(accepted=True, sentence="resolved" if changed else "it was resolved already", changed=changed)

    def require_word(self, given: Confirmed, word: str) -> None:
        """Raises Refused(422, NOT_CONFIRMED)."""
        wanted = self._hands.account if self._hands.live else word
        if given.confirm != wanted:
            what = "the account's name" if self._hands.live else f"the word {word}"
            raise Refused(422, "NOT_CONFIRMED", f"Confirm it with {what} in `confirm`.", field="confirm")


def action_routes(hands: Hands) -> APIRouter:
    """The addresses that act; the role is checked before (`door`)."""
    router = APIRouter(tags=["actions"], responses=_ANSWERS)
    actions = Actions(hands)

    @router.post("/api/orders/{key}/cancel", operation_id="cancel_order")
    async def cancel(request: Request, key: str, given: ActionBody, idempotency_key: Key) -> JSONResponse:
        """Cancel an order. What has filled stays and is protected."""
        return await actions.once(
            request, idempotency_key, "cancel", key, given, lambda begun: actions.cancel(begun, key, given.note)
        )

    @router.post("/api/trades/{key}/close", operation_id="close_trade")
    async def close(request: Request, key: str, given: ActionBody, idempotency_key: Key) -> JSONResponse:
        """Sell a trade at MARKET, and cancel what is left of its entry."""
        return await actions.once(
            request, idempotency_key, "close", key, given, lambda begun: actions.close(begun, key, given.note)
        )

    @router.post("/api/trades/{key}/stops", operation_id="move_stops")
    async def stops(request: Request, key: str, given: Stops, idempotency_key: Key) -> JSONResponse:
        """Move an open trade's stops or target."""
        return await actions.once(
            request, idempotency_key, "stops", key, given, lambda begun: actions.stops(begun, key, given)
        )

    @router.post("/api/flatten", operation_id="flatten")
    async def flatten(request: Request, given: Flatten, idempotency_key: Key) -> JSONResponse:
        """Sell every open trade at MARKET and cancel every open entry, of one product or of all."""
        actions.require_word(given, "flatten")
        return await actions.once(
            request, idempotency_key, _FLATTEN, given.symbol or "", given, lambda begun: actions.flatten(begun, given)
        )

    @router.post("/api/halt", operation_id="halt")
    async def halt(request: Request, given: Halt, idempotency_key: Key) -> JSONResponse:
        """Refuse every new entry from now on, or those of one strategy or trigger. Exits continue."""
        group = group_of(given)
        return await actions.once(
            request,
            idempotency_key,
            "halt",
            group_subject(group),
            given,
            lambda begun: actions.turn(begun, group, given.note, halted=True),
        )

    @router.post("/api/resume", operation_id="resume")
    async def resume(request: Request, given: Resume, idempotency_key: Key) -> JSONResponse:
        """Allow entries again, whoever or whatever halted them; or those of one strategy or trigger."""
        actions.require_word(given, "resume")
        group = group_of(given)
        # Done again, it could end a halt that came in between.
        return await actions.once(
            request,
            idempotency_key,
            "resume",
            group_subject(group),
            given,
            lambda begun: actions.turn(begun, group, given.note, halted=False),
            again=False,
        )

    @router.post("/api/incidents/{number}/resolve", operation_id="resolve_incident")
    async def resolve(request: Request, number: int, given: ActionBody, idempotency_key: Key) -> JSONResponse:
        """Mark an incident as resolved."""
        if not 0 < number < 2**63:
            raise Refused(404, "NO_SUCH_INCIDENT", "There is no such incident in this account.")
        return await actions.once(
            request, idempotency_key, "resolve", str(number), given, lambda _: actions.resolve(number)
        )

    return router


def _said(reply: Reply) -> Answer:
    """Raises Refused(409) with the workflow's own code and sentence. A close that is under way already is accepted."""
    if reply.accepted or reply.code == "CLOSING":
        return Answer(accepted=True, sentence=reply.sentence)
    raise Refused(409, reply.code, f"{reply.sentence[:1].upper()}{reply.sentence[1:]}.")


def _loaded(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(raw)
    return found


def _answered(done: Done) -> JSONResponse:
    kind = "application/json" if done.status < 400 else "application/problem+json"
    headers = {"Idempotent-Replayed": "true"} if done.replayed else None
    return JSONResponse(done.answer, done.status, headers, media_type=kind)
