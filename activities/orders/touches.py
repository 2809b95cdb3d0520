"""At what an order goes: the touch that is kept for all, the exchange's own, and whether an exit still holds at it.

An exit's reads are bounded (EXIT-10): a stop's by `EXIT_ASKS_SECONDS`, any other's of a trade by `PROFIT_ASKS_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

from activities.database import Pool
from activities.exits.plans import read_plan
from activities.ledger.known_bids import LAST_PRICE
from activities.policy import Policy
from activities.venue import Venue
from domain.drafting import Draft, market_exit
from domain.exits import ExitReason, SellSignal, due_exit, price_stop
from domain.gate_facts import AHEAD_SECONDS, GateResult, MarketFacts
from domain.gate_names import GateName
from domain.market import Product, Quote
from domain.messages import OrderIntent
from exchange.port import ExchangeError

__all__ = ["EXIT_ASKS_SECONDS", "PROFIT_ASKS_SECONDS", "Touches", "is_fresh", "says_something"]

_FRESH_SECONDS = 1.0
EXIT_ASKS_SECONDS = 0.3
"""So long, in sum, the exit of a due stop waits for what it asks the exchange beside its order (EXIT-10)."""
PROFIT_ASKS_SECONDS = 1.0
"""So long any other sell of a trade waits for each of these; a profit exit without a touch goes back to monitoring."""


class Touches:
    """The touch of a market, as an order's admission and its further attempts need it."""

    def __init__(self, pool: Pool, venue: Venue, policy: Callable[[], Policy]) -> None:
        self._pool = pool
        self._venue = venue
        self._policy = policy

    async def market(self, symbol: str, *, asks_for: str | None) -> MarketFacts:
        """The touch that is kept for all; where that is too old, the exchange's own, if it answers.

        `asks_for` is the attempt that needs it; without one the exchange isn't asked.
        """
        row = await self._pool.fetchrow(
            "SELECT bid, ask, at, change_24h FROM market_prices WHERE account = $1 AND symbol = $2",
            self._policy().account,
            symbol,
        )
        kept = MarketFacts() if row is None else MarketFacts(row["bid"], row["ask"], row["at"], row["change_24h"])
        if asks_for is None or says_something(kept, self._policy()):
            return kept
        try:
            quote = await self._venue.quote_for(asks_for, symbol)
        except ExchangeError:
            return kept
        return MarketFacts(quote.bid, quote.ask, datetime.now(UTC), kept.change_24h)

    async def of_stop(self, intent: OrderIntent) -> Quote | None:
        """At what the exit of a due stop goes: the price that made it due while that is fresh, else the touch."""
        if _is_at_hand(intent):
            return _trigger(intent)
        return await self.last_touch(intent)

    async def last_touch(self, intent: OrderIntent) -> Quote | None:
        """The touch, now; where the exchange doesn't tell it in time, the newest price that is known. None: nobody
        knows one.
        """
        quote = await self._venue.touch(intent.symbol, within=EXIT_ASKS_SECONDS, due=True)
        if quote is not None:
            return quote
        trigger, kept = _trigger(intent), await self._kept(intent)
        return kept if kept is not None and (trigger is None or kept.at > trigger.at) else trigger

    async def of_profit(self, intent: OrderIntent) -> Quote | None:
        """The touch that a profit exit is checked by, now; where the exchange doesn't tell it in time, the stream's bid
        while that is fresh. None: nobody knows one.
        """
        quote = await self._venue.touch(intent.symbol, within=PROFIT_ASKS_SECONDS)
        if quote is not None:
            return quote
        kept = await self._kept(intent)
        return kept if kept is not None and is_fresh(kept.at, self._policy()) else None

    async def _kept(self, intent: OrderIntent) -> Quote | None:
        """The newest price that a stream has told, whoever keeps it."""
        kept = await self._pool.fetchrow(LAST_PRICE, intent.account, intent.symbol)
        return None if kept is None else Quote(intent.symbol, kept["bid"], kept["bid"], kept["at"])

    async def still_due(self, intent: OrderIntent) -> tuple[GateResult | None, Quote | None]:
        """A profit exit is checked again on a fresh price before it is sent (EXIT-3); without one it isn't."""
        reason = intent.exit_reason or ExitReason.MANUAL
        if _is_at_hand(intent):
            return None, _trigger(intent)
        if price_stop(reason):
            # A stop, and what a person sells from the pool, stays due whatever the price does.
            return None, await self.last_touch(intent)
        quote = await self.of_profit(intent)
        if quote is None:
            sentence = f"{reason} can't be checked: the exchange doesn't tell the touch of {intent.symbol}"
            return GateResult(GateName.NO_LONGER_DUE, False, sentence, {}), None
        if await self.holds_at(intent, quote.bid, quote.at):
            return None, quote
        sentence = f"{reason} no longer holds at {quote.bid}"
        return GateResult(GateName.NO_LONGER_DUE, False, sentence, {"bid": str(quote.bid)}), quote

    async def holds_at(self, intent: OrderIntent, bid: Decimal, at: datetime) -> bool:
        """Whether a profit exit would still be decided at this bid."""
        found = await read_plan(self._pool, intent.entry_key or "")
        if found is None:
            return False
        position, says_sell = found
        signal = None
        if intent.exit_reason is ExitReason.SIGNAL_EXIT:
            if says_sell is False or not self._policy().signals_sell:
                return False
            signal = SellSignal(True, at)
        verdict = due_exit(position, bid, at, at, signal=signal)
        # Trailing may have armed meanwhile, which also ends a profit exit.
        return verdict.due is intent.exit_reason

    async def market_exit(self, intent: OrderIntent, product: Product | None) -> Draft:
        """`domain.drafting.market_exit`; the touch is asked for only where the product takes no market orders."""
        touch = await self.last_touch(intent) if product is not None and product.limit_only else None
        return market_exit(product, touch, self._policy().market_collar)


def is_fresh(at: datetime | None, policy: Policy) -> bool:
    """Whether what was seen then (UTC) is not stale yet, nor ahead of our time."""
    if at is None:
        return False
    return -float(AHEAD_SECONDS) <= (datetime.now(UTC) - at).total_seconds() <= float(policy.market_stale_seconds)


def says_something(market: MarketFacts, policy: Policy) -> bool:
    """The touch is one to decide by: fresh, and not crossed."""
    return is_fresh(market.at, policy) and not market.crossed


def _trigger(intent: OrderIntent) -> Quote | None:
    """The bid that made an exit due."""
    if intent.trigger_price is None or intent.due_at is None:
        return None
    return Quote(intent.symbol, intent.trigger_price, intent.trigger_price, intent.due_at)


def _is_at_hand(intent: OrderIntent) -> bool:
    """Whether what made an exit due is so fresh that nothing has to be asked."""
    return (
        intent.trigger_price is not None
        and intent.due_at is not None
        and (datetime.now(UTC) - intent.due_at).total_seconds() < _FRESH_SECONDS
    )
