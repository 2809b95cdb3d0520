"""Gates that look at the market: price, age of what is known, spread, day."""

from __future__ import annotations

from decimal import Decimal

from domain.gate_facts import BY_HAND, UNKNOWN, Ask, Facts, GateResult, by_hand, failed, passed, percent
from domain.gate_names import GateName
from domain.money import divide, plain
from domain.orders import OrderType, Side
from domain.sizing import neighbours

__all__ = ["fresh_market", "has_price", "price_on_tick", "red_day", "spread"]


def price_on_tick(facts: Facts) -> GateResult:
    """A price given by a person is used as given or refused, never rounded."""
    name = GateName.INVALID_PRICE
    price, product = facts.intent.limit_price, facts.product
    if (
        facts.intent.order_type is OrderType.LIMIT
        and price is None
        and facts.intent.side is Side.BUY
        and by_hand(facts)
    ):
        return failed(name, "a limit order needs a limit price")
    if price is None or product is None or not by_hand(facts):
        return passed(name)
    below, above = neighbours(price, product)
    if price <= 0:
        return failed(name, f"the price must be positive, not {plain(price)}", price=price)
    if below != above:
        return failed(
            name,
            f"{plain(price)} is not a multiple of {plain(product.price_increment)}, the tick of {product.symbol}; "
            f"the nearest are {plain(below)} and {plain(above)}",
            price=price,
            tick=product.price_increment,
        )
    return passed(name, price=price, tick=product.price_increment)


def has_price(facts: Facts) -> GateResult:
    """There is a price to compute size and reservation with."""
    name = GateName.NO_PRICE
    if facts.price is None and facts.intent.quote_size is None:
        return failed(name, f"no price is known for {facts.intent.symbol}")
    return passed(name, price=facts.price)


def fresh_market(facts: Facts) -> GateResult:
    """The touch that the decision uses is not too old."""
    name, limit = GateName.MARKET_DATA_STALE, facts.limits.stale_seconds
    seen, symbol = facts.market.at, facts.intent.symbol
    age = None if seen is None else Decimal(str((facts.now - seen).total_seconds()))
    if age is not None and facts.market.ahead(facts.now):
        sentence = f"the market data of {symbol} has a time {-age:.0f} s ahead of ours, so its age is not known"
        return failed(name, sentence, Ask.TOUCH, age_s=age, limit_s=limit)
    age = None if age is None else max(age, Decimal(0))
    if age is not None and age <= limit:
        return passed(name, age_s=plain(age), limit_s=limit)
    shown = UNKNOWN if age is None else plain(age)
    if by_hand(facts):
        return passed(name, age_s=shown, limit_s=limit, note=BY_HAND)
    what = (
        f"there is no market data for {symbol}" if age is None else f"the market data for {symbol} is {age:.0f} s old"
    )
    return failed(name, f"{what}, the limit is {plain(limit)} s", age_s=shown, limit_s=limit)


def spread(facts: Facts) -> GateResult:
    """Bid and ask are close enough that a round trip doesn't cost too much."""
    name, market, limit = GateName.SPREAD_TOO_WIDE, facts.market, facts.limits.max_spread
    if market.bid is None or market.ask is None or market.bid <= 0 or market.ask <= 0:
        if by_hand(facts):
            return passed(name, spread=UNKNOWN, limit=limit, note=BY_HAND)
        sentence = f"the spread of {facts.intent.symbol} is not known"
        return failed(name, sentence, bid=market.bid, ask=market.ask, limit=limit)
    if market.crossed:
        sentence = (
            f"the order book of {facts.intent.symbol} is crossed (bid {plain(market.bid)}, ask {plain(market.ask)}), "
            f"so its spread is not known"
        )
        return failed(name, sentence, Ask.TOUCH, bid=market.bid, ask=market.ask, spread=UNKNOWN, limit=limit)
    wide = divide(2 * (market.ask - market.bid), market.ask + market.bid)
    numbers: dict[str, object] = {"bid": market.bid, "ask": market.ask, "spread": f"{wide:.6f}", "limit": limit}
    if wide <= limit:
        return passed(name, **numbers)
    if by_hand(facts):
        return passed(name, note=BY_HAND, **numbers)
    if facts.intent.by_market_maker and facts.intent.post_only:
        return passed(name, note="a market maker's bid earns the spread instead of paying it", **numbers)
    return failed(
        name,
        f"the spread of {facts.intent.symbol} is {percent(wide)} % ({plain(market.bid)} to {plain(market.ask)}), "
        f"the limit is {percent(limit)} %",
        **numbers,
    )


def red_day(facts: Facts) -> GateResult:
    """A symbol that has fallen over 24 hours is not bought, unless that is allowed."""
    name, change = GateName.RED_DAY, facts.market.change_24h
    numbers: dict[str, object] = {"change_24h": "not known" if change is None else f"{change:.6f}"}
    if facts.limits.buy_on_red_day:
        return passed(name, note="buys on red days are allowed", **numbers)
    if change is not None and change >= 0:
        return passed(name, **numbers)
    if by_hand(facts):
        return passed(name, note=BY_HAND, **numbers)
    symbol = facts.intent.symbol
    if change is None:
        return failed(name, f"it is not known whether {symbol} fell over the last 24 hours", **numbers)
    return failed(name, f"{symbol} fell by {percent(-change)} % over the last 24 hours", **numbers)
