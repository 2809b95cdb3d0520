"""Prices and sizes of an order's attempts, given a quote: the one place that turns an intent into an order to send.

Sizes are rounded down to the product's increment; prices are rounded to its tick, to the side that can't cost more than
requested (`domain.sizing`). A price or amount given by a person is used as it is, or refused by a gate. All prices are
in quote per base.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from domain.exits import ExitRules, exit_limit_price
from domain.intents import must_leave
from domain.market import Product, Quote
from domain.messages import OrderIntent
from domain.money import ZERO, divide, round_down
from domain.orders import OrderType, Side, TimeInForce
from domain.sizing import collar_price, limit_price, post_only_price, size_problem, sized

__all__ = [
    "Draft",
    "as_asked",
    "at_bid",
    "at_touch",
    "claimable",
    "limit_exit",
    "market_exit",
    "needs_touch",
    "protecting",
    "remainder",
    "rests_again",
    "selling",
]


@dataclass(frozen=True, slots=True)
class Draft:
    """An attempt before it has a body. Sizes in base or quote, prices in quote per base."""

    order_type: OrderType
    base_size: Decimal | None
    quote_size: Decimal | None
    limit_price: Decimal | None
    time_in_force: TimeInForce
    post_only: bool = False
    stop_price: Decimal | None = None


# --- the first attempt of what a strategy, a person or an alert asked for ---------------------------------------------


def needs_touch(intent: OrderIntent, product: Product) -> bool:
    """Whether price or size of the first attempt depend on the touch: if so `at_touch` drafts it, else `as_asked`."""
    if intent.post_only:
        return True
    if intent.order_type is OrderType.MARKET:
        return intent.quote_size is None or product.limit_only
    return intent.order_type is OrderType.LIMIT and (intent.limit_price is None or intent.base_size is None)


def as_asked(intent: OrderIntent, product: Product | None) -> tuple[Draft, Decimal | None]:
    """The first attempt if the touch isn't needed, and the resulting value of one base unit; None: not known.

    Without a product nothing is rounded; such an order does not pass the gates.
    """
    size, quote_size = _sizes(intent, product)
    price = intent.limit_price
    if product is not None and price is not None and not _by_hand(intent):
        price = limit_price(price, intent.side, product)
    return Draft(intent.order_type, size, quote_size, price, intent.time_in_force, intent.post_only), price


def at_touch(intent: OrderIntent, product: Product, touch: Quote, collar: Decimal) -> tuple[Draft, Decimal]:
    """The first attempt based on the touch, and the resulting value of one base unit.

    `collar` is the fraction by which an order that replaces a market order may go beyond the touch.
    """
    size, quote_size = _sizes(intent, product)
    if intent.order_type is OrderType.MARKET and not product.limit_only:
        worth = touch.ask if intent.side is Side.BUY else touch.bid
        return Draft(OrderType.MARKET, size, quote_size, None, TimeInForce.IOC), worth
    at_once = intent.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
    if intent.order_type is OrderType.MARKET or (intent.limit_price is None and at_once):
        # It is to trade now, but no further from the touch than the collar.
        price = collar_price(touch, intent.side, collar, product)
        size = size if size is not None else _bought_by(quote_size or ZERO, price, product)
        in_force = TimeInForce.IOC if intent.order_type is OrderType.MARKET else intent.time_in_force
        return Draft(OrderType.LIMIT, size, None, price, in_force), price
    price = _resting_price(intent, product, touch)
    if size is None and quote_size is not None:
        size = _bought_by(quote_size, price, product)
    return Draft(OrderType.LIMIT, size, None, price, intent.time_in_force, intent.post_only), price


def _resting_price(intent: OrderIntent, product: Product, touch: Quote) -> Decimal:
    """The requested price, or the touch's own side."""
    own_side = touch.bid if intent.side is Side.BUY else touch.ask
    wanted = own_side if intent.limit_price is None else intent.limit_price
    if intent.post_only:
        return post_only_price(wanted, intent.side, touch, product)
    if _by_hand(intent) and intent.limit_price is not None:
        return wanted
    return limit_price(wanted, intent.side, product)


def _sizes(intent: OrderIntent, product: Product | None) -> tuple[Decimal | None, Decimal | None]:
    """Base and quote size as the product accepts them. An amount given by a person is not changed."""
    size, quote_size = intent.base_size, intent.quote_size
    if product is not None and size is not None:
        size = sized(size, product)
    if product is not None and quote_size is not None and not _by_hand(intent):
        quote_size = round_down(quote_size, product.quote_increment)
    return size, quote_size


def _bought_by(quote_size: Decimal, price: Decimal, product: Product) -> Decimal:
    return sized(divide(quote_size, price), product)


def _by_hand(intent: OrderIntent) -> bool:
    return intent.by_hand


# --- further attempts ------------------------------------------------------------------------------------------------


def rests_again(intent: OrderIntent, first: Decimal | None, touch: Quote | None, product: Product) -> Draft:
    """The next attempt of a resting order, at a price no worse than requested; for a buy also not above the first
    attempt's price, which its reservation covers. `touch` is needed for a post-only order.

    Raises ValueError if there is no price, or no touch for a post-only order.
    """
    wanted = intent.limit_price or first
    if wanted is None:
        raise ValueError(f"order {intent.order_key} has no limit price to rest at again")
    if intent.side is Side.BUY and first is not None:
        wanted = min(wanted, first)
    if not intent.post_only:
        price = limit_price(wanted, intent.side, product)
    elif touch is None:
        raise ValueError(f"order {intent.order_key} is post-only: without the touch it has no price")
    else:
        price = post_only_price(wanted, intent.side, touch, product)
    return Draft(OrderType.LIMIT, None, None, price, intent.time_in_force, intent.post_only)


def remainder(draft: Draft, left: Decimal, product: Product | None) -> Draft | None:
    """The draft for the remainder of its order, in base; None if it is below the exchange's minimum."""
    size = left if product is None else sized(left, product)
    if size <= 0 or (product is not None and size_problem(size, draft.limit_price, product) is not None):
        return None
    return replace(draft, base_size=size, quote_size=None)


# --- exits and other sells -------------------------------------------------------------------------------------------


def limit_exit(intent: OrderIntent, product: Product | None, touch: Quote | None) -> Draft | None:
    """An exit's first attempt at a limit price; None: `market_exit` applies, as requested or because no price is
    known."""
    if intent.order_type is not OrderType.LIMIT:
        return None
    if intent.limit_price is not None:
        # A person's price is meant: it is taken as it is or refused, and never re-priced.
        return Draft(OrderType.LIMIT, None, None, intent.limit_price, intent.time_in_force)
    if product is None or touch is None:
        return None
    return at_bid(touch, intent.rules, product)


def at_bid(touch: Quote, rules: ExitRules, product: Product) -> Draft:
    """An exit that rests at the best bid times the rules' offset (EXIT-4)."""
    price = exit_limit_price(touch.bid, rules, product.price_increment)
    return Draft(OrderType.LIMIT, None, None, price, TimeInForce.GTC)


def market_exit(product: Product | None, touch: Quote | None, collar: Decimal) -> Draft:
    """MARKET, or a limit IOC with a collar if the product accepts no market orders and a price is known."""
    if product is None or touch is None or not product.limit_only:
        return Draft(OrderType.MARKET, None, None, None, TimeInForce.IOC)
    return Draft(OrderType.LIMIT, None, None, collar_price(touch, Side.SELL, collar, product), TimeInForce.IOC)


def protecting(intent: OrderIntent) -> Draft:
    """The order that rests at the exchange to protect a trade, as requested."""
    return Draft(intent.order_type, None, None, intent.limit_price, TimeInForce.GTC, stop_price=intent.stop_price)


def claimable(intent: OrderIntent, held: Decimal, free: Decimal | None, product: Product | None) -> Decimal:
    """Base size that a sell may claim from its trade: what other claims leave (`held`), at most the exchange's
    available balance (`free`; None: not known).
    """
    size = held if free is None else min(held, free)
    if must_leave(intent) and (size if product is None else sized(size, product)) <= 0:
        # A balance may lag behind what was bought: whether there is something to sell the exchange says.
        return held
    return size


def selling(intent: OrderIntent, draft: Draft | None, claimed: Decimal | None, product: Product | None) -> Draft:
    """A sell's first attempt with its size: what it may claim, or exactly the requested size, which a gate may refuse.

    `claimed` None: the size is not known, so nothing is sold. No `draft`: the product is not known.
    """
    wanted = intent.base_size if intent.base_size is not None else claimed
    size = sized(wanted or ZERO, product) if product is not None else wanted
    if draft is None:
        return Draft(intent.order_type, size, None, intent.limit_price, intent.time_in_force)
    return replace(draft, base_size=size, quote_size=None)
