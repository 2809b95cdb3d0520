"""Protection at the exchange as the ledger knows it (EXIT-8): what rests and what should."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from decimal import Decimal
from typing import TypeVar

import structlog

from activities.database import Pool
from activities.exits.past_candles import begins, closed_candles
from activities.incidents import report_once, resolve_incidents
from activities.interfaces.orders import ProtectionRequest, ProtectionTrouble
from activities.ledger.closing import free_beside
from activities.ledger.holdings import books_are_open, free_by_books
from activities.ledger.known_bids import KEPT_BID
from activities.policy import Policy
from activities.venue import Venue
from domain.exits import ExitRules, atr_reading, atr_window
from domain.incidents import IncidentKind
from domain.market import Product
from domain.messages import OrderIntent, ProtectionView
from domain.money import ZERO, average, plain
from domain.protection import ProtectivePrices, as_moved, moved_by_person, protective_prices, stop_fraction
from domain.sizing import size_problem, sized
from exchange.port import ExchangeError

__all__ = ["PROTECTION_FAILED", "protection_view", "tell_trouble"]

T = TypeVar("T")

_log = structlog.get_logger()

PROTECTION_FAILED = IncidentKind.PROTECTION_FAILED
_ASK_SECONDS = 1.0
"""What becomes due while a protective order is made up waits for it; without an answer its stop is a little wider."""
_RULES_SECONDS = 0.3
"""An exit may wait for it."""

_STATE = f"""
SELECT t.symbol, t.remaining, t.bought_value, t.bought_size, t.rules,
       coalesce((SELECT sum(greatest(o.claimed_base - o.filled_size - o.base_fees, 0)) FROM orders o
                  WHERE o.entry_key = $1 AND o.side = 'SELL' AND NOT o.finished
                    AND o.order_key IS DISTINCT FROM l.order_key), 0) AS others,
       (SELECT count(*) FROM orders o WHERE o.entry_key = $1 AND o.role = 'EXIT'
               AND o.protection_role IS NOT NULL)::int AS used,
       l.intent, least(l.base_size, l.claimed_base) AS base_size, l.filled_size, {KEPT_BID} AS bid
  FROM trades t LEFT JOIN LATERAL (
       SELECT order_key, intent, base_size, claimed_base, filled_size FROM orders o
        WHERE o.entry_key = $1 AND o.role = 'EXIT' AND o.protection_role IS NOT NULL AND NOT o.finished
        ORDER BY received_at LIMIT 1) l ON true
 WHERE t.entry_key = $1
"""


async def protection_view(pool: Pool, venue: Venue, policy: Policy, request: ProtectionRequest) -> ProtectionView:
    """What rests for a trade, and with `prices` where it would rest anew.

    Raises the database's errors. Where the product's rules can't be had, what rests stays.
    """
    row = await pool.fetchrow(_STATE, request.entry_key)
    if row is None:
        return ProtectionView(entry_key=request.entry_key, sentence="there is no such trade")
    product = await venue.rules(row["symbol"], within=_RULES_SECONDS, due=True)
    rules = ExitRules.model_validate(row["rules"])
    first = request.protection
    request = request.model_copy(update={"protection": as_moved(first, rules)})
    live = None if row["intent"] is None else OrderIntent.model_validate(row["intent"])
    view = ProtectionView(
        entry_key=request.entry_key,
        remaining=row["remaining"],
        live=live,
        live_size=ZERO if live is None else (row["base_size"] or ZERO) - row["filled_size"],
        used=row["used"],
        outdated=live is not None and as_moved(first, live.rules) != request.protection,
        rules=rules if moved_by_person(rules) else None,
    )
    entry_price = average(row["bought_value"], row["bought_size"])
    if product is None or entry_price is None:
        sentence = f"the rules of {row['symbol']} can't be had from the exchange"
        return view.model_copy(update={"sentence": sentence, "sellable": view.live_size})
    free = await free_beside(venue, product, row["remaining"], view.live_size, row["bid"], _RULES_SECONDS, due=True)
    view = view.model_copy(update={"free": free})
    # As its admission will have it: what other sells of the trade have claimed is theirs.
    sellable = sized(row["remaining"] - row["others"], product)
    if request.prices and 0 < view.live_size < sellable:
        sellable = await _replaceable(pool, venue, product, live, view.live_size, sellable)
    if size_problem(sellable, entry_price * (1 - request.protection.stop), product) is not None:
        # Too little for an order of its own at that price: monitored exits sell it, or it is dust.
        return view.model_copy(update={"sentence": f"{plain(sellable)} is too little for an order at its stop"})
    if row["symbol"] in policy.hodl:
        return view.model_copy(update={"sentence": f"{row['symbol']} is never sold by the system (HODL)"})
    view = view.model_copy(update={"sellable": sellable})
    if not request.prices or live is not None:
        return view
    try:
        prices, free = await asyncio.gather(
            _prices(venue, policy, request, product, entry_price), venue.available(product.base, within=_ASK_SECONDS)
        )
    except ValueError as problem:
        return view.model_copy(update={"sentence": str(problem)})
    available = None if free is None else min(sellable, sized(free, product))
    return view.model_copy(update={"stop_price": prices.stop, "limit_price": prices.limit, "available": available})


async def _replaceable(
    pool: Pool, venue: Venue, product: Product, live: OrderIntent | None, rests: Decimal, wanted: Decimal
) -> Decimal:
    """How much of `wanted` (base) could rest instead of the order `live`, which is for `rests`: what somebody else's
    order holds can't.

    Where the exchange doesn't tell what is available, the books do; all of it before they are opened, as the exchange
    says so when it is asked to take the order.
    """
    free = await venue.available(product.base, within=_ASK_SECONDS)
    if free is None and live is not None and await books_are_open(pool, live.account):
        free = max(await free_by_books(pool, live.account, product.base, live.order_key) - rests, ZERO)
    return wanted if free is None else max(rests, min(wanted, sized(rests + free, product)))


async def _prices(
    venue: Venue, policy: Policy, request: ProtectionRequest, product: Product, entry_price: Decimal
) -> ProtectivePrices:
    """Where it rests, with what costs and swings take; what the exchange does not tell in time is left out."""

    async def known(reading: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await reading
        except (ExchangeError, TimeoutError) as problem:
            _log.info("protective stop without market data", symbol=product.symbol, problem=repr(problem))
            return None

    rates, quote, atr = await asyncio.gather(
        known(venue.fee_rates(product.symbol)),
        known(venue.quote(product.symbol)),
        known(_atr(venue, policy, product.symbol)),
    )
    fraction = stop_fraction(
        request.protection.stop,
        taker_fee=rates.taker if rates else ZERO,
        spread=quote.ask - quote.bid if quote else None,
        atr=atr,
        price=entry_price,
    )
    return protective_prices(request.protection, entry_price, fraction, product.price_increment)


async def _atr(venue: Venue, policy: Policy, symbol: str) -> Decimal | None:
    """The reading that price watchers have, too; only where the market's time is the exchange's clock."""
    if policy.speed != 1:
        return None
    seconds, count = policy.atr_candle_seconds, atr_window(policy.atr_period)
    before = begins(await venue.exchange.server_time(), seconds)
    candles = await closed_candles(venue.exchange, symbol, seconds, before, count)
    return atr_reading([(item.high, item.low, item.close) for item in candles], policy.atr_period)


async def tell_trouble(pool: Pool, account: str, request: ProtectionTrouble) -> None:
    """A CRITICAL incident, once until it is over. Raises the database's errors."""
    if request.over:
        await resolve_incidents(pool, account, PROTECTION_FAILED, request.entry_key)
        return
    sentence = (
        f"Trade {request.entry_key} ({request.symbol}) has no protection at the exchange after {request.tries} tries "
        f"({request.why}): its position is on monitored exits alone."
    )
    if request.failsafe:
        sentence += (
            " Recommended: see to it that a worker with the role watchers runs; look at the open orders of "
            f"{request.symbol} in the exchange's own app and place a stop there by hand, or sell with `bottrader trade "
            f"close {request.entry_key[:12]}`; then look why it was refused with `bottrader trade show "
            f"{request.entry_key[:12]}`."
        )
    await report_once(pool, account, PROTECTION_FAILED, "CRITICAL", request.entry_key, sentence)
