"""Cancels that are sent as one request."""

from __future__ import annotations

import asyncio

from exchange.coinbase.orders import cancel_answers
from exchange.coinbase.rest import RestCaller
from exchange.port import CancelAnswer, CancelVerdict, CommandRefused, OutcomeUnknown
from exchange.rate_limit import RateLimiter

__all__ = ["CancelBatch"]

_MOST_CANCELS_A_CALL = 100


class CancelBatch:
    """Cancels that are sent as one request, collected until the rate limiter grants a turn."""

    def __init__(self, rest: RestCaller, limiter: RateLimiter, urgent: bool, first: str) -> None:
        self._rest = rest
        self._limiter = limiter
        self._urgent = urgent
        self._ids = {first: None}
        self._gone = False
        self._sending = asyncio.ensure_future(self._send())
        # By the time it fails all callers may have been cancelled; then nobody needs the error.
        self._sending.add_done_callback(lambda task: task.cancelled() or task.exception())

    def add(self, order_id: str) -> bool:
        """Join the batch, if it has not been sent and has room. Returns whether it did."""
        if self._gone or (order_id not in self._ids and len(self._ids) >= _MOST_CANCELS_A_CALL):
            return False
        self._ids[order_id] = None
        return True

    async def answer(self, order_id: str) -> CancelAnswer:
        """The venue's answer for one order. A caller's cancellation does not cancel the batch."""
        try:
            answers = await asyncio.shield(self._sending)
        except CommandRefused as problem:
            return CancelAnswer(CancelVerdict.REFUSED, problem.code)
        answer = answers.get(order_id)
        if answer is None:
            raise OutcomeUnknown("the exchange answered the cancel without naming the order", code="UNREADABLE_ANSWER")
        return answer

    async def _send(self) -> dict[str, CancelAnswer]:
        async with self._limiter.turn(urgent=self._urgent):
            self._gone = True
            body = {"order_ids": list(self._ids)}
            return cancel_answers(await self._rest.command_now("/orders/batch_cancel", body, urgent=self._urgent))
