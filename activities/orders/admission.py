"""Admission: gates, reservation, order row and first attempt in one transaction (DESIGN, "admit").

Which way an intent goes: entries by `entries`, several at a time and under the account's turn; sells by `sells`, each
under what it claims of. Both ask for prices by `touches`, are drafted by `domain.drafting`, decided by `domain.gates`
and stored by `decisions`.
"""

from __future__ import annotations

from collections.abc import Callable

from activities.database import Pool
from activities.orders.decisions import Decisions
from activities.orders.entries import EntryAdmissions
from activities.orders.sells import SellAdmissions
from activities.orders.touches import Touches
from activities.policy import Policy
from activities.venue import Venue
from domain.messages import Admission, OrderIntent
from domain.orders import OrderRole, Side

__all__ = ["Admissions"]


class Admissions:
    """Decides on intents, once each. `decisions` and `touches` serve the further attempts of what was admitted, too."""

    def __init__(
        self, pool: Pool, venue: Venue, policy: Callable[[], Policy], trouble: Callable[[], str] = lambda: ""
    ) -> None:
        """`trouble`: why this process sends no entry now, as a clause; see `activities.venue_standing`."""
        self.decisions = Decisions(venue, policy)
        self.touches = Touches(pool, venue, policy)
        self._entries = EntryAdmissions(pool, venue, policy, self.decisions, self.touches, trouble)
        self._sells = SellAdmissions(pool, venue, policy, self.decisions, self.touches)

    async def admit(self, intent: OrderIntent) -> Admission:
        """The decision on an intent, stored before it is answered.

        Raises IntentConflictError, and ExchangeError if the exchange can't be asked for what the gates need.
        """
        if intent.role is OrderRole.EXIT or intent.side is Side.SELL:
            return await self._sells.admit(intent)
        return await self._entries.admit(intent)
