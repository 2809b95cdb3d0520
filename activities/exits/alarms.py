"""What people hear of while prices are watched: conditions that last, each reported once in a while until it is over.

A report is written in the background: a database that is slow delays no price.
"""

from __future__ import annotations

from collections.abc import Iterable

from activities.streams.tenure import Tenure
from domain.incidents import IncidentKind
from domain.watch import Plan, SymbolState

__all__ = ["Alarms"]


class Alarms:
    """The incidents of one tenure of a price watcher; repeated each `repeat_seconds` (wall)."""

    def __init__(self, tenure: Tenure, *, repeat_seconds: float, unacknowledged_seconds: float) -> None:
        self._start = tenure.background.start
        self._unacknowledged_seconds = unacknowledged_seconds
        self._stale = tenure.open_incident(IncidentKind.STALE_PRICE, "WARNING", repeat_seconds=repeat_seconds)
        self._refused = tenure.open_incident(IncidentKind.PRODUCT_REFUSED, "WARNING", repeat_seconds=repeat_seconds)
        self._unheard = tenure.open_incident(
            IncidentKind.EXIT_NOT_ACKNOWLEDGED, "CRITICAL", repeat_seconds=repeat_seconds
        )
        self._bad_plans = tenure.open_incident(
            IncidentKind.EXIT_PLAN_UNREADABLE, "CRITICAL", repeat_seconds=repeat_seconds
        )

    async def inherit(self) -> None:
        """Take on what earlier tenures reported. Raises the database's errors."""
        for lasting in (self._stale, self._refused, self._unheard, self._bad_plans):
            await lasting.inherit()

    # --- plans ----------------------------------------------------------------------------------------------------

    def unreadable_plan(self, entry_key: str, symbol: str, problem: Exception) -> None:
        """Nothing watches this plan."""
        sentence = f"The exit plan of {entry_key} ({symbol}) can't be read, so nothing watches it: {problem}"
        self._start(self._bad_plans.tell(entry_key, sentence))

    def unacknowledged(self, pending: Iterable[Plan], now: float) -> None:
        """Report due exits that no exit monitor has taken for so long; `now` is monotonic."""
        for plan in pending:
            if plan.due is not None and now - plan.due_since > self._unacknowledged_seconds:
                sentence = (
                    f"{plan.due.reason} of {plan.symbol} is due since {plan.due.at:%H:%M:%S} UTC and the trade's exit "
                    f"monitor (exit-{plan.entry_key}) has not taken it; close the trade by hand if that goes on."
                )
                due = {"reason": plan.due.reason.value, "price": str(plan.due.price)}
                self._start(self._unheard.tell(plan.entry_key, sentence, due))

    def acknowledged(self, entry_key: str) -> None:
        """Nothing is due of this trade any more."""
        if self._unheard.lasts(entry_key):
            self.plan_gone(entry_key)

    def plan_gone(self, entry_key: str) -> None:
        """The plan is watched no more: here or by whoever reported it."""
        self._start(self._unheard.over(entry_key))

    # --- prices ---------------------------------------------------------------------------------------------------

    def stale_price(self, state: SymbolState, age: float, what: str) -> None:
        """The stream has had no price of the symbol that may decide for `age` seconds (wall); `what` says so."""
        sentence = f"{what} with {len(state.plans)} open positions on it; the REST book is asked instead."
        details = {"age_seconds": round(age, 1), "positions": len(state.plans)}
        self._start(self._stale.tell(state.symbol, sentence, details))

    def is_stale(self, symbol: str) -> bool:
        """Whether a stale price of the symbol is reported and not over."""
        return self._stale.lasts(symbol)

    def fresh_price(self, symbol: str) -> None:
        """The symbol's price is fresh again, or nobody needs it."""
        self._start(self._stale.over(symbol))

    def refused_product(self, symbol: str, *, refused: bool) -> None:
        """Whether the exchange refuses a stream of the symbol now."""
        if refused:
            sentence = (
                f"The exchange refuses a stream of {symbol}: it was delisted, or symbols.allow is mistyped; "
                "the others are watched without it."
            )
            self._start(self._refused.tell(symbol, sentence))
        elif self._refused.lasts(symbol):
            self._start(self._refused.over(symbol))
