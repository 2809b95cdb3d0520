"""A worker refuses tasks for other accounts on its task queues (RISK-7, SAFE-1).

A process has one account's API key and limits. Another account's requests would be sent, cancelled and booked at the
wrong account, so every activity checks the account in its request, or the account of the order or trade it names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import structlog
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from activities.database import Pool

__all__ = ["OTHER_ACCOUNT", "OwnAccount", "keys_of"]

OTHER_ACCOUNT = "OTHER_ACCOUNT"
_KEYS = ("order_key", "entry_key", "subject")
_REMEMBERED = 50_000
_log = structlog.get_logger(__name__)


def keys_of(request: object) -> Iterator[str]:
    """The orders and trades named in an activity's request. A trade's key is that of the order that opened it."""
    for name in _KEYS:
        key = getattr(request, name, None)
        if key is not None:
            yield key


class OwnAccount(Interceptor):
    """The interceptor for the workers of one account."""

    def __init__(self, pool: Pool, account: str) -> None:
        self._pool = pool
        self._account = account
        self._own: OrderedDict[str, None] = OrderedDict()

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        """Checks every activity of the process."""
        return _Inbound(next, self)

    async def require_own(self, request: object) -> None:
        """Raises ApplicationError OTHER_ACCOUNT, which is retryable because a worker of that account may take the next
        try, and the database's errors. An unknown key is left to the activity.
        """
        named = getattr(request, "account", self._account)
        if named != self._account:
            raise self._refusal(named)
        for key in keys_of(request):
            if key not in self._own:
                account = await self._pool.fetchval("SELECT account FROM orders WHERE order_key = $1", key)
                if account not in (None, self._account):
                    raise self._refusal(account)
                if account is not None:
                    self.remember(key)

    def _refusal(self, account: object) -> ApplicationError:
        return ApplicationError(
            f"this worker is for account {self._account} and refuses requests for account {account}", type=OTHER_ACCOUNT
        )

    def remember(self, key: str) -> None:
        """Remember that the order is of the process's own account, so that it need not be looked up."""
        self._own[key] = None
        while len(self._own) > _REMEMBERED:
            self._own.popitem(last=False)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, following: ActivityInboundInterceptor, own: OwnAccount) -> None:
        super().__init__(following)
        self._of = own

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        try:
            for request in input.args:
                await self._of.require_own(request)
        except ApplicationError as refused:
            _log.warning("other_account_refused", activity=input.fn.__name__, problem=refused.message)
            raise
        answer = await super().execute_activity(input)
        if input.fn.__name__ == "admit":
            # The decision is stored under the account that was just required to be ours.
            for request in input.args:
                self._of.remember(request.order_key)
        return answer
