"""An attempt at the exchange: sending it, looking up what became of it, cancelling it.

`place` sends once per attempt and never again by itself; what to do after an unknown outcome is the workflow's. A
look-up may be repeated: it changes nothing at the exchange but where it is to send the identical body again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog
from temporalio.exceptions import ApplicationError

from activities.crash_points import crash_at
from activities.database import Pool, Record
from activities.heartbeat import alive
from activities.interfaces.orders import CancelAttempt, LookUp, PlaceAttempt
from activities.ledger.record import LedgerWriter, update_of
from activities.measures import SILENT, Measures, tell_match
from activities.obstacles import ObstacleNews
from activities.orders.resends import Resends
from activities.orders.touches import EXIT_ASKS_SECONDS
from activities.policy import Policy
from activities.venue import Venue
from domain.messages import (
    OrderUpdate,
    PlaceAnswer,
    PlaceVerdict,
    ResolveAnswer,
    ResolveVerdict,
    StatusSource,
)
from domain.obstacles import Obstacle
from domain.orders import TAKES_NO_MARKET, AttemptStatus
from domain.wording import money
from exchange.port import (
    CancelVerdict,
    CommandRefused,
    ExchangeError,
    NotAccepted,
    OutcomeUnknown,
    RepeatedId,
    SubmitAnswer,
    VenueOrder,
)

__all__ = ["AttemptCommands"]

_log = structlog.get_logger()
_CLOCK_SKEW = timedelta(minutes=5)
_LONGEST_WISH, _LONGEST_WISH_URGENT = 30.0, 2.0
"""Seconds that a pause which the exchange asks for is obeyed by a cancel."""
_BODIES = 10
"""At most so many bodies of an exit are sent under one id in a row, each for less than the one before."""


class AttemptCommands:
    """The exchange's commands on attempts of one account's orders, and what their answers say in the journal.

    Attributes:
        measures: is told how fills that an answer brings were matched.
    """

    def __init__(
        self,
        pool: Pool,
        venue: Venue,
        policy: Callable[[], Policy],
        ledger: LedgerWriter,
        obstacles: ObstacleNews,
        resends: Resends,
    ) -> None:
        self._pool = pool
        self._venue = venue
        self._policy = policy
        self._account = policy().account
        self._ledger = ledger
        self._obstacles = obstacles
        self._resends = resends
        self.measures: Measures = SILENT
        self._takes_none = False
        """The exchange did not take the last order that this process sent, whatever it was."""
        self._telling: set[asyncio.Task[None]] = set()

    async def place(self, request: PlaceAttempt) -> PlaceAnswer:
        """Send an attempt, once: one that was marked as sent before is UNKNOWN, to be looked up."""
        plan = request.plan
        if not await self._mark_sent(plan.client_order_id):
            return PlaceAnswer(verdict=PlaceVerdict.UNKNOWN, code="SENT_BEFORE", message="it was sent before")
        leg = "exit" if request.urgent else "entry"
        crash_at(f"before_{leg}_submit")
        try:
            async with alive():
                answer = await self._venue.exchange.submit(plan.body, urgent=request.urgent)
        except CommandRefused as error:
            self._was_refused(request.symbol, plan.limit_price, error.code)
            await self._pool.execute(
                """UPDATE attempts SET status = 'FAILED', live = false, refusal = $2, refusal_text = $3,
                   final_at = now(), status_source = 'submit_response'
                   WHERE client_order_id = $1 AND status IN ('SUBMITTING','UNKNOWN')""",
                plan.client_order_id,
                error.code,
                str(error),
            )
            return PlaceAnswer(verdict=PlaceVerdict.REFUSED, code=error.code, message=str(error))
        except NotAccepted as error:
            self._takes_orders(again=False)
            await self._pool.execute("UPDATE attempts SET sends = 0 WHERE client_order_id = $1", plan.client_order_id)
            return PlaceAnswer(
                verdict=PlaceVerdict.NOT_ACCEPTED, code=error.code, message=str(error), retry_after=error.retry_after
            )
        except OutcomeUnknown as error:
            await self._pool.execute(
                "UPDATE attempts SET status = 'UNKNOWN' WHERE client_order_id = $1 AND status = 'SUBMITTING'",
                plan.client_order_id,
            )
            return PlaceAnswer(verdict=PlaceVerdict.UNKNOWN, code=error.code, message=str(error))
        self._takes_orders(again=True)
        crash_at(f"before_{leg}_acknowledgement")
        await self._acknowledge(plan.client_order_id, answer.exchange_order_id)
        await self._ledger.expect(request.order_key, plan.size)
        return PlaceAnswer(verdict=PlaceVerdict.ACCEPTED, exchange_order_id=answer.exchange_order_id)

    def _was_refused(self, symbol: str, limit_price: Decimal | None, code: str) -> None:
        """The exchange answered an order, and what it said may tell of the product."""
        self._takes_orders(again=True)
        self._venue.forget_product(symbol)
        if limit_price is None and code in TAKES_NO_MARKET:
            self._venue.refused_market(symbol)

    def _takes_orders(self, *, again: bool) -> None:
        """Note whether the exchange answered an order as one; where it does so again, exits that pause are told."""
        if again and self._takes_none:
            why = "the exchange takes orders again"
            telling = asyncio.create_task(self._obstacles.tell(Obstacle.EXCHANGE, why))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)
        self._takes_none = not again

    async def _mark_sent(self, client_order_id: str) -> bool:
        """True once per attempt: a reset workflow that comes by again looks the attempt up instead of sending it."""
        # The row itself is durable. Should a crash of the database's machine lose this mark, the identical body may be
        # sent again under the same id, which the venue answers with the first order or refuses: no need to wait.
        marked = await self._pool.fetchval(
            """UPDATE attempts SET sends = sends + 1
               WHERE client_order_id = $1 AND sends = 0 AND live
                 AND set_config('synchronous_commit', 'off', true) = 'off' RETURNING true""",
            client_order_id,
        )
        return bool(marked)

    async def _acknowledge(self, client_order_id: str, exchange_order_id: str) -> None:
        await self._pool.execute(
            """
            WITH attempt AS (
                UPDATE attempts SET exchange_order_id = coalesce(exchange_order_id, $2),
                       acknowledged_at = coalesce(acknowledged_at, now()),
                       status = CASE WHEN status IN ('SUBMITTING','UNKNOWN') THEN 'OPEN' ELSE status END
                WHERE client_order_id = $1 RETURNING order_key)
            UPDATE orders SET placed_at = coalesce(placed_at, now()),
                   state = CASE WHEN state IN ('ADMITTED','SUBMITTING','UNKNOWN') THEN 'OPEN' ELSE state END
            WHERE order_key = (SELECT order_key FROM attempt)
            """,
            client_order_id,
            exchange_order_id,
        )

    async def look_up(self, request: LookUp) -> ResolveAnswer:
        """What became of an attempt whose outcome is not known; where the venue takes it, the body is sent again."""
        row = await self._attempt(request.order_key, request.number)
        again = request.resend and row["live"] and not row["exchange_order_id"]
        try:
            async with alive():
                if again and request.resend_first:
                    answer = await self._send_again(row)
                    if answer is not None and answer.verdict is ResolveVerdict.FOUND:
                        return answer
                order, source = await self._find(row)
                if order is None and again and not request.resend_first:
                    answer = await self._send_again(row)
                    if answer is not None:
                        return answer
        except ExchangeError as error:
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence=f"the exchange can't be asked: {error}")
        if order is not None:
            return await self._answer_found(row, order, source)
        if row["status"] == AttemptStatus.FAILED and row["refusal"] and not row["exchange_order_id"]:
            # The exchange had refused it, and the worker died before it could say so: nothing is left to wait for.
            return ResolveAnswer(
                verdict=ResolveVerdict.ABSENT, sentence=f"the exchange had refused it: {row['refusal']}"
            )
        # The exchange answered, and has no such order: proof only once a delayed request could no longer arrive.
        age = (datetime.now(UTC) - row["prepared_at"]).total_seconds()
        if row["exchange_order_id"] is None and age > self._policy().late_acceptance_seconds:
            await self._pool.execute(
                """UPDATE attempts SET status = 'ABSENT', live = false, refusal = 'ABSENT', final_at = now(),
                   status_source = 'order_history' WHERE client_order_id = $1 AND status IN ('SUBMITTING','UNKNOWN')""",
                row["client_order_id"],
            )
            return ResolveAnswer(
                verdict=ResolveVerdict.ABSENT, sentence=f"not among the exchange's orders {age:.0f} s after it was sent"
            )
        return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence="not among the exchange's orders yet")

    async def _find(self, row: Record) -> tuple[VenueOrder | None, StatusSource]:
        exchange = self._venue.exchange
        if row["exchange_order_id"]:
            return await exchange.order(row["exchange_order_id"]), StatusSource.ORDER_HISTORY
        since = row["prepared_at"] - _CLOCK_SKEW
        found = await exchange.find_order(row["client_order_id"], row["symbol"], since)
        return found, StatusSource.ORDER_HISTORY

    async def _send_again(self, row: Record) -> ResolveAnswer | None:
        """Where a repeated id is answered with the first order, the identical body either finds it or places it. So
        does another body of an exit that the exchange refuses as it is (`activities.orders.resends`).

        None if that says nothing new; NOT_YET if what was sent now may still arrive.
        """
        said = ""
        for _ in range(_BODIES):
            try:
                answer = await self._sent_again(row)
                return answer and answer.model_copy(update={"sentence": said + answer.sentence})
            except CommandRefused as error:
                self._was_refused(row["symbol"], row["limit_price"], error.code)
                plan = await self._resends.instead(row, error.code)
                if plan is None:
                    return None
                said = f"{error.code}, so it was sent again for {money(plan.size)}: "
                row = {**row, "body": plan.body, "size": plan.size, "limit_price": plan.limit_price}
        return None

    async def _sent_again(self, row: Record) -> ResolveAnswer | None:
        """Send an attempt's body once more. Raises CommandRefused where the exchange says no to it."""
        exchange = self._venue.exchange
        if exchange.capabilities.repeated_id is not RepeatedId.RETURNS_FIRST:
            return None
        # From now on a delayed request could arrive again: the time after which absence is proof begins anew.
        await self._pool.execute(
            "UPDATE attempts SET sends = sends + 1, prepared_at = now() WHERE client_order_id = $1",
            row["client_order_id"],
        )
        try:
            answer = await exchange.submit(row["body"], urgent=True)
        except (CommandRefused, NotAccepted) as error:
            _log.info("resend_not_taken", client_order_id=row["client_order_id"], code=error.code)
            # It was answered, so it can't arrive any more: only what was sent before it still could.
            await self._pool.execute(
                "UPDATE attempts SET prepared_at = $2 WHERE client_order_id = $1",
                row["client_order_id"],
                row["prepared_at"],
            )
            if isinstance(error, CommandRefused):
                raise
            return None
        except OutcomeUnknown as error:
            _log.info("resend_not_answered", client_order_id=row["client_order_id"], code=error.code)
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence="sent again, without an answer")
        return await self._taken(row, answer)

    async def _taken(self, row: Record, answer: SubmitAnswer) -> ResolveAnswer | None:
        """The exchange has the order, by its answer to a repeated id. How it stands it is asked, but not waited for."""
        # The echo shows the new request, whatever the first one was: the order itself is believed.
        try:
            async with asyncio.timeout(EXIT_ASKS_SECONDS):
                order = await self._venue.exchange.order(answer.exchange_order_id)
        except (ExchangeError, TimeoutError):
            order = None
        if order is not None and order.client_order_id not in ("", row["client_order_id"]):
            return None
        if order is not None:
            return await self._answer_found(row, order, StatusSource.SUBMIT_RESPONSE)
        await self._acknowledge(row["client_order_id"], answer.exchange_order_id)
        update = OrderUpdate(
            attempt=row["number"],
            status=AttemptStatus.OPEN,
            exchange_order_id=answer.exchange_order_id,
            source=StatusSource.SUBMIT_RESPONSE,
            at=datetime.now(UTC),
        )
        return ResolveAnswer(verdict=ResolveVerdict.FOUND, update=update, sentence="sent again, and taken")

    async def _answer_found(self, row: Record, order: VenueOrder, source: StatusSource) -> ResolveAnswer:
        await self._pool.execute(
            """INSERT INTO raw_facts
                      (account, source, kind, symbol, exchange_order_id, client_order_id, body, routed_at)
               VALUES ($1,$2,'order',$3,$4,$5,$6,now())""",
            self._account,
            source.value,
            order.symbol,
            order.exchange_order_id,
            order.client_order_id,
            dict(order.raw),
        )
        if order.filled_size > row["filled_size"]:
            by = "exchange_id" if row["exchange_order_id"] else "client_id"
            identity = order.exchange_order_id
            tell_match(self.measures, by, source, exchange_order_id=identity, order_key=row["order_key"])
        await self._acknowledge(row["client_order_id"], order.exchange_order_id)
        update = update_of(order, row["number"], source, order.updated_at or datetime.now(UTC))
        return ResolveAnswer(
            verdict=ResolveVerdict.FOUND, update=update, sentence=f"{order.status} at the exchange ({source})"
        )

    async def cancel(self, request: CancelAttempt) -> ResolveAnswer:
        """Have the exchange cancel an attempt. Raises ApplicationError where that is not confirmed: repeat it."""
        row = await self._attempt(request.order_key, request.number)
        if not row["exchange_order_id"]:
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence="the exchange's id is not known yet")
        try:
            async with alive():
                answer = await self._venue.exchange.cancel(row["exchange_order_id"], urgent=request.urgent)
        except ExchangeError as error:
            longest = _LONGEST_WISH_URGENT if request.urgent else _LONGEST_WISH
            raise ApplicationError(
                f"cancel of {row['exchange_order_id']} not confirmed: {error}",
                type=error.code,
                next_retry_delay=timedelta(seconds=min(error.retry_after, longest)) if error.retry_after else None,
            ) from error
        if answer.verdict is CancelVerdict.ACCEPTED:
            await self._pool.execute(
                """UPDATE attempts SET cancel_asked_at = coalesce(cancel_asked_at, now()),
                          status = CASE WHEN status = 'OPEN' THEN 'CANCELLING' ELSE status END
                   WHERE client_order_id = $1""",
                row["client_order_id"],
            )
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence="the exchange took the cancel")
        # Done already, or unknown: the order's own state says how it ended.
        try:
            order = await self._venue.exchange.order(row["exchange_order_id"])
        except ExchangeError as error:
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence=str(error))
        if order is None:
            return ResolveAnswer(verdict=ResolveVerdict.NOT_YET, sentence=f"cancel: {answer.reason}")
        return await self._answer_found(row, order, StatusSource.CANCEL_RESPONSE)

    async def _attempt(self, order_key: str, number: int) -> Any:
        row = await self._pool.fetchrow(
            "SELECT * FROM attempts WHERE order_key = $1 AND number = $2", order_key, number
        )
        if row is None:
            raise ApplicationError(
                f"no attempt {number} of order {order_key}", type="UNKNOWN_ATTEMPT", non_retryable=True
            )
        return row
