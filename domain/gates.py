"""Gates: the named checks that can stop an order, in the order in which they run; the first that fails wins.

Every gate that ran is stored with the numbers it compared, so that "why did it not trade?" has an answer. The gates
look at one read of the facts. An exit's is taken under the symbol's lock; an entry's holds as long as no other entry
of the account was admitted and nobody halted (`beside` adds those that are decided together).

What a person orders by hand passes NO_SIGNAL, MARKET_DATA_STALE, SPREAD_TOO_WIDE and RED_DAY with a note among the
numbers, as the person has looked; all others hold for everybody. What decides by itself is refused where a fact that
its decision rests on is not known. What nobody can have looked at refuses everybody (RISK-5): an unknown balance, worth
or rate between currencies, a crossed book, a time in the future. Such a result names what is to be asked for (`asks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from domain.gate_names import GateName
from domain.identity import Standing
from domain.intents import must_leave
from domain.limits import Results, daily_loss_sentence, losing_streak_sentence
from domain.market import Product
from domain.messages import OrderIntent
from domain.money import EXACT, divide, plain, round_down, round_up
from domain.orders import EntryPoint, OrderRole, OrderType, Side, TimeInForce
from domain.quoting import QUOTES
from domain.sizing import neighbours, size_problem

__all__ = [
    "AHEAD_SECONDS",
    "ATTEMPT_GATES",
    "ENTRY_GATES",
    "EXIT_GATES",
    "Ask",
    "Facts",
    "GateResult",
    "Limits",
    "Market",
    "Reserved",
    "first_refusal",
    "never_sold",
    "reservation",
    "run_gates",
    "with_admitted",
]

_BY_HAND = "a person's order"
_UNKNOWN = "not known"
AHEAD_SECONDS = Decimal(5)
"""A time that is ahead of ours by no more is now: clocks differ. Beyond that nobody knows how old a thing is."""


class Ask(StrEnum):
    """What would have to be asked for, so that a gate knows what it compares."""

    TOUCH = "touch"
    BALANCE = "balance"
    PRICES = "prices"
    RATES = "rates"


@dataclass(frozen=True, slots=True)
class Market:
    """What is known of a market. Prices in quote per base; `at` is when the touch was seen (UTC)."""

    bid: Decimal | None = None
    ask: Decimal | None = None
    at: datetime | None = None
    change_24h: Decimal | None = None
    """A fraction: -0.05 is a fall of 5 %."""

    @property
    def crossed(self) -> bool:
        """Somebody bids more than another asks: no such book exists, so it isn't known what it is."""
        return self.bid is not None and self.ask is not None and self.bid > self.ask

    def ahead(self, now: datetime) -> bool:
        """It was seen at a time that has not come yet."""
        return self.at is not None and (self.at - now).total_seconds() > AHEAD_SECONDS


@dataclass(frozen=True, slots=True)
class Limits:
    """What entries are held to. Fractions as fractions, wall seconds, money in quote currency; see `Policy`."""

    max_open_buys: int = 3
    max_spread: Decimal = Decimal("0.01")
    buy_on_red_day: bool = False
    max_position: Decimal = Decimal("0.1")
    daily_loss: Decimal = Decimal(500)
    losing_streak: int = 5
    stale_seconds: Decimal = Decimal(120)
    balance_stale_seconds: Decimal = Decimal(120)


@dataclass(frozen=True, slots=True)
class Facts:
    """One read of everything the gates look at. Money in quote currency, sizes in base."""

    intent: OrderIntent
    now: datetime
    product: Product | None
    price: Decimal | None
    """What one base unit is worth: the limit price, else the touch."""
    size: Decimal | None
    """Base size after rounding; None for a market buy by quote size."""
    standing: Standing = field(default_factory=Standing)
    dry_run: bool = False
    """The whole system decides and sends nothing of this kind."""
    halted: bool = False
    halted_by: str = ""
    """By whom, and why if that was said."""
    blocked: bool = False
    hodl: bool = False
    disabled: str = ""
    """Why the symbol may not be bought at all; empty: it may."""
    limits: Limits = Limits()
    market: Market = Market()
    open_buys: int = 0
    open_buys_value: Decimal = Decimal(0)
    """What open buys of the symbol may still spend."""
    held_value: Decimal | None = Decimal(0)
    """Open trades of the symbol at the newest price; None: there are some, and no price that is fresh."""
    account_worth: Decimal | None = None
    """Quote currency and open trades at the newest price; None while the balance or one of the prices is not known."""
    unpriced: Sequence[str] = ()
    """Symbols of open trades of which no fresh price is known."""
    results: Results = field(default_factory=Results)
    """Of trades that closed since a person last resumed."""
    available_quote: Decimal | None = None
    """None: not known, or so long ago (or in the future) that it says nothing."""
    balance_age: Decimal | None = None
    """Wall seconds since the exchange told the balance; below zero: a time that has not come yet. None: never told."""
    held_elsewhere: Decimal = Decimal(0)
    """Quote currency that the exchange holds for orders that we don't know: it is not available."""
    quote_why: str = ""
    """Of a quote currency that is a coin: why that is not known, or not more, as a clause."""
    needed_quote: Decimal = Decimal(0)
    available_base: Decimal | None = None
    """Sells: what may be claimed of the named trade or the unowned pool, at most the account's available balance."""
    base_why: str = ""
    """Why that is not known, or not more, as a clause; empty: there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What an admitted entry takes of its account: a place among the symbol's open buys, and quote currency."""

    symbol: str
    quote: Decimal


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate's answer with what it compared."""

    gate: GateName
    passed: bool
    sentence: str = ""
    numbers: dict[str, str] = field(default_factory=dict)
    asks: Ask | None = None
    """It was refused because this isn't known, and not for what it is."""


Gate = Callable[[Facts], GateResult]


def _pass(gate: GateName, **numbers: object) -> GateResult:
    return GateResult(gate, True, "", _shown(numbers))


def _fail(gate: GateName, sentence: str, asks: Ask | None = None, /, **numbers: object) -> GateResult:
    return GateResult(gate, False, sentence, _shown(numbers), asks)


def _shown(numbers: Mapping[str, object]) -> dict[str, str]:
    return {key: plain(value) if isinstance(value, Decimal) else str(value) for key, value in numbers.items()}


def _by_hand(facts: Facts) -> bool:
    return facts.intent.by_hand


def _percent(fraction: Decimal) -> str:
    return f"{100 * fraction:.2f}"


def trading_halted(facts: Facts) -> GateResult:
    """A person or a limit has stopped new entries, or they can't be sent by anybody: live unarmed, the venue away."""
    name, standing = GateName.TRADING_HALTED, facts.standing
    if standing.refusal:
        numbers = {"mode": standing.mode, "armed": standing.armed, "trouble": standing.trouble or "none"}
        return _fail(name, standing.refusal, halted=facts.halted, **numbers)
    if facts.halted:
        return _fail(name, f"new entries are halted by {facts.halted_by or 'somebody'}", halted=True)
    return _pass(name, halted=False)


def known_symbol(facts: Facts) -> GateResult:
    """The exchange knows the product."""
    name = GateName.UNKNOWN_SYMBOL
    if facts.product is None and must_leave(facts.intent):
        return _pass(name, product="its rules can't be had now")
    if facts.product is None:
        return _fail(name, f"the exchange has no product {facts.intent.symbol!r}; write it like BTC-USD")
    return _pass(name, product=facts.product.symbol)


def venue_open(facts: Facts) -> GateResult:
    """The exchange takes orders in this product."""
    name = GateName.VENUE_HALTED
    product = facts.product
    if product is not None and (product.halted or product.cancel_only):
        state = "cancel-only" if product.cancel_only and not product.halted else "not open for trading"
        return _fail(name, f"{product.symbol} is {state} at the exchange", state=state)
    intent = facts.intent
    takes = intent.order_type is OrderType.MARKET or intent.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
    if product is not None and product.post_only and takes and intent.role is OrderRole.ENTRY:
        return _fail(name, f"{product.symbol} takes only post-only orders at the exchange now", state="post-only")
    return _pass(name, state="open")


def still_valid(facts: Facts) -> GateResult:
    """The decision is not too old to be sent (ENTRY-4)."""
    name = GateName.DECISION_EXPIRED
    until = facts.intent.valid_until
    if until is not None and facts.now > until:
        return _fail(name, f"the decision was valid until {until.isoformat()}", now=facts.now, valid_until=until)
    return _pass(name, valid_until=until)


def enabled(facts: Facts) -> GateResult:
    """The symbol is one that may be bought, and nobody has switched it off."""
    name = GateName.DISABLED_TRADE
    if facts.disabled:
        return _fail(name, f"{facts.intent.symbol} is not bought: {facts.disabled}", why=facts.disabled)
    return _pass(name, enabled=True)


def trade_amount(facts: Facts) -> GateResult:
    """There is one size, and it is a positive number."""
    name, intent = GateName.INVALID_TRADE_AMOUNT, facts.intent
    sizes = {"base_size": intent.base_size, "quote_size": intent.quote_size}
    given = {what: size for what, size in sizes.items() if size is not None}
    if len(given) != 1:
        how = "neither a base nor a quote size" if not given else "both a base and a quote size"
        return _fail(name, f"the order has {how}; it needs one of them", **given)
    (size,) = given.values()
    if size <= 0:
        return _fail(name, f"the trade's amount must be positive, not {plain(size)}", **given)
    return _pass(name, **given)


def has_signal(facts: Facts) -> GateResult:
    """What decides by itself says why: a score, or an indicator that fired. An alert from outside is its own reason."""
    name, linkage = GateName.NO_SIGNAL, facts.intent.linkage
    numbers: dict[str, object] = {"buy_score": linkage.buy_score, "fired": ", ".join(linkage.indicators_fired)}
    if facts.intent.entry_point in (EntryPoint.MANUAL, EntryPoint.WEBHOOK):
        by = _BY_HAND if _by_hand(facts) else "the alert is the signal"
        return _pass(name, trigger=linkage.trigger, note=by, **numbers)
    fired = linkage.indicators_fired or any(part.fired for part in linkage.indicator_breakdown.values())
    # A market maker has no score: its breakdown (spread, fees, fair price) is the reason.
    quoted = linkage.trigger == QUOTES and linkage.indicator_breakdown
    if not fired and not quoted and (linkage.buy_score is None or linkage.buy_score <= 0):
        sentence = f"the decision of {linkage.trigger} has neither a buy score nor an indicator that fired"
        return _fail(name, sentence, trigger=linkage.trigger, **numbers)
    return _pass(name, trigger=linkage.trigger, **numbers)


def blacklisted(facts: Facts) -> GateResult:
    """Blocked symbols are never bought."""
    name = GateName.BLACKLISTED
    if facts.blocked:
        return _fail(name, f"{facts.intent.symbol} is on the block list and is never bought", blocked=True)
    return _pass(name, blocked=False)


def hodl(facts: Facts) -> GateResult:
    """HODL symbols are never sold by the system."""
    return never_sold(facts.intent.symbol, listed=facts.hodl)


def never_sold(symbol: str, *, listed: bool) -> GateResult:
    """The gate HODL for a symbol that is on the list or not: an alert asks it before there is an intent."""
    name = GateName.HODL
    if listed:
        return _fail(name, f"{symbol} is on the HODL list and is never sold by the system", hodl=True)
    return _pass(name, hodl=False)


def price_on_tick(facts: Facts) -> GateResult:
    """A price that a person gave is taken as given or refused, never bent."""
    name = GateName.INVALID_PRICE
    price, product = facts.intent.limit_price, facts.product
    if (
        facts.intent.order_type is OrderType.LIMIT
        and price is None
        and facts.intent.side is Side.BUY
        and _by_hand(facts)
    ):
        return _fail(name, "a limit order needs a limit price")
    if price is None or product is None or not _by_hand(facts):
        return _pass(name)
    below, above = neighbours(price, product)
    if price <= 0:
        return _fail(name, f"the price must be positive, not {plain(price)}", price=price)
    if below != above:
        return _fail(
            name,
            f"{plain(price)} is not a multiple of {plain(product.price_increment)}, the tick of {product.symbol}; "
            f"the nearest are {plain(below)} and {plain(above)}",
            price=price,
            tick=product.price_increment,
        )
    return _pass(name, price=price, tick=product.price_increment)


def has_price(facts: Facts) -> GateResult:
    """There is a price to size and reserve by."""
    name = GateName.NO_PRICE
    if facts.price is None and facts.intent.quote_size is None:
        return _fail(name, f"no price is known for {facts.intent.symbol}")
    return _pass(name, price=facts.price)


def fresh_market(facts: Facts) -> GateResult:
    """The touch that it decides by is not too old."""
    name, limit = GateName.MARKET_DATA_STALE, facts.limits.stale_seconds
    seen, symbol = facts.market.at, facts.intent.symbol
    age = None if seen is None else Decimal(str((facts.now - seen).total_seconds()))
    if age is not None and facts.market.ahead(facts.now):
        sentence = f"the market data of {symbol} are dated {-age:.0f} s ahead of our time, so their age is not known"
        return _fail(name, sentence, Ask.TOUCH, age_s=age, limit_s=limit)
    age = None if age is None else max(age, Decimal(0))
    if age is not None and age <= limit:
        return _pass(name, age_s=plain(age), limit_s=limit)
    shown = _UNKNOWN if age is None else plain(age)
    if _by_hand(facts):
        return _pass(name, age_s=shown, limit_s=limit, note=_BY_HAND)
    what = f"no market data of {symbol} is known" if age is None else f"the market data of {symbol} is {age:.0f} s old"
    return _fail(name, f"{what}, the limit is {plain(limit)} s", age_s=shown, limit_s=limit)


def spread(facts: Facts) -> GateResult:
    """Bid and ask are close enough together that buying and selling again doesn't cost too much."""
    name, market, limit = GateName.SPREAD_TOO_WIDE, facts.market, facts.limits.max_spread
    if market.bid is None or market.ask is None or market.bid <= 0 or market.ask <= 0:
        if _by_hand(facts):
            return _pass(name, spread=_UNKNOWN, limit=limit, note=_BY_HAND)
        sentence = f"the spread of {facts.intent.symbol} is not known"
        return _fail(name, sentence, bid=market.bid, ask=market.ask, limit=limit)
    if market.crossed:
        sentence = (
            f"the book of {facts.intent.symbol} is crossed: {plain(market.bid)} is bid and {plain(market.ask)} asked, "
            "so its spread is not known"
        )
        return _fail(name, sentence, Ask.TOUCH, bid=market.bid, ask=market.ask, spread=_UNKNOWN, limit=limit)
    wide = divide(2 * (market.ask - market.bid), market.ask + market.bid)
    numbers: dict[str, object] = {"bid": market.bid, "ask": market.ask, "spread": f"{wide:.6f}", "limit": limit}
    if wide <= limit:
        return _pass(name, **numbers)
    if _by_hand(facts):
        return _pass(name, note=_BY_HAND, **numbers)
    if facts.intent.by_market_maker and facts.intent.post_only:
        return _pass(name, note="a market maker's bid earns the spread and doesn't pay it", **numbers)
    return _fail(
        name,
        f"the spread of {facts.intent.symbol} is {_percent(wide)} % ({plain(market.bid)} to {plain(market.ask)}), "
        f"the limit is {_percent(limit)} %",
        **numbers,
    )


def red_day(facts: Facts) -> GateResult:
    """What has fallen over 24 hours is not bought, unless that is allowed."""
    name, change = GateName.RED_DAY, facts.market.change_24h
    numbers: dict[str, object] = {"change_24h": "not known" if change is None else f"{change:.6f}"}
    if facts.limits.buy_on_red_day:
        return _pass(name, note="buys on red days are allowed", **numbers)
    if change is not None and change >= 0:
        return _pass(name, **numbers)
    if _by_hand(facts):
        return _pass(name, note=_BY_HAND, **numbers)
    symbol = facts.intent.symbol
    if change is None:
        return _fail(name, f"it is not known whether {symbol} fell over the last 24 hours", **numbers)
    return _fail(name, f"{symbol} fell by {_percent(-change)} % over the last 24 hours", **numbers)


def size_on_increment(facts: Facts) -> GateResult:
    """A size that a person gave is taken as given or refused, never bent."""
    name = GateName.INVALID_SIZE
    product, in_quote = facts.product, facts.size is None
    # An amount in quote currency is sent as it is only by a market order; else it becomes a size in base.
    size = facts.intent.quote_size if in_quote else facts.intent.base_size
    if size is None or product is None or not _by_hand(facts):
        return _pass(name)
    unit, step = (product.quote, product.quote_increment) if in_quote else (product.base, product.base_increment)
    below, above = round_down(size, step), round_up(size, step)
    if below == above:
        return _pass(name, size=size, increment=step)
    smallest = product.quote_min if in_quote else product.base_min
    nearest = (
        f"the nearest are {plain(below)} and {plain(above)}" if below >= smallest else f"the nearest is {plain(above)}"
    )
    return _fail(
        name,
        f"{plain(size)} {unit} is not a multiple of {plain(step)}, the {'quote' if in_quote else 'size'} increment of "
        f"{product.symbol}; {nearest}",
        size=size,
        increment=step,
    )


def size_limits(facts: Facts) -> GateResult:
    """The size is one that the exchange takes."""
    product, intent = facts.product, facts.intent
    if product is None and must_leave(intent):
        if facts.size is None or facts.size <= 0:
            return _fail(GateName.BELOW_MINIMUM_SIZE, "nothing is left to sell", size=facts.size)
        return _pass(GateName.BELOW_MINIMUM_SIZE, size=facts.size, minimum="not known")
    if product is None:  # known_symbol refuses before
        return _fail(GateName.UNKNOWN_SYMBOL, f"the exchange has no product {intent.symbol!r}")
    # A person's size is looked at as it was typed, not as rounding would leave it.
    size = facts.size if not intent.by_hand or intent.base_size is None else intent.base_size
    if size is not None:
        problem = size_problem(size, facts.price, product)
        if problem is not None:
            return _fail(
                problem[0],
                problem[1],
                size=size,
                price=facts.price,
                minimum=product.base_min,
                minimum_quote=product.quote_min,
                maximum=product.base_max,
            )
        return _pass(GateName.BELOW_MINIMUM_SIZE, size=size, minimum=product.base_min)
    quote = intent.quote_size or Decimal(0)
    if quote < product.quote_min or quote <= 0:
        return _fail(
            GateName.BELOW_MINIMUM_SIZE,
            f"{plain(quote)} {product.quote} is below the minimum of {plain(product.quote_min)} for {product.symbol}",
            quote=quote,
            minimum=product.quote_min,
        )
    if quote > product.quote_max:
        return _fail(
            GateName.ABOVE_MAXIMUM_SIZE,
            f"{plain(quote)} {product.quote} is above the maximum of {plain(product.quote_max)} for {product.symbol}",
            quote=quote,
            maximum=product.quote_max,
        )
    return _pass(GateName.BELOW_MINIMUM_SIZE, quote=quote, minimum=product.quote_min)


def open_orders(facts: Facts) -> GateResult:
    """At most so many open buys a symbol."""
    name = GateName.MAX_OPEN_ORDERS
    limit = facts.limits.max_open_buys
    if facts.open_buys >= limit:
        return _fail(
            name,
            f"{facts.intent.symbol} has {facts.open_buys} open buys, the limit is {limit}",
            open_buys=facts.open_buys,
            limit=limit,
        )
    return _pass(name, open_buys=facts.open_buys, limit=limit)


def position_size(facts: Facts) -> GateResult:
    """One symbol holds no more than its share of the account: its open trades, its open buys and this one."""
    name, worth, share = GateName.POSITION_TOO_LARGE, facts.account_worth, facts.limits.max_position
    held = facts.held_value
    numbers: dict[str, object] = {
        "held": _UNKNOWN if held is None else held,
        "open_buys": facts.open_buys_value,
        "this": facts.needed_quote,
        "share": share,
    }
    if share >= 1:
        return _pass(name, note="no limit is set", **numbers)
    currency = facts.product.quote if facts.product else "quote currency"
    if worth is None or held is None:
        unpriced = ", ".join(facts.unpriced)
        why = f"no fresh price of {unpriced} is known" if unpriced else _balance_problem(facts, currency)
        numbers |= {"worth": _UNKNOWN, "unpriced": unpriced} if unpriced else {"worth": _UNKNOWN, **_balance_age(facts)}
        asks = Ask.PRICES if unpriced else Ask.BALANCE
        return _fail(name, f"the worth of the account is not known: {why}", asks, **numbers)
    limit = EXACT.multiply(worth, share)
    together = held + facts.open_buys_value + facts.needed_quote
    numbers |= {"worth": worth, "limit": limit}
    if together <= limit:
        return _pass(name, **numbers)
    return _fail(
        name,
        f"{facts.intent.symbol} would hold {together:.2f} {currency} (held {held:.2f}, open buys "
        f"{facts.open_buys_value:.2f}, this one {facts.needed_quote:.2f}); the limit is {limit:.2f}, "
        f"{_percent(share)} % of the account's {worth:.2f}",
        **numbers,
    )


def _balance_age(facts: Facts) -> dict[str, object]:
    age, limit = facts.balance_age, facts.limits.balance_stale_seconds
    return {"balance_age_s": _UNKNOWN if age is None else age, "balance_limit_s": limit}


def _balance_problem(facts: Facts, currency: str) -> str:
    """Why the balance isn't known, as a clause."""
    age = facts.balance_age
    if age is None:
        return f"the exchange has not told the balance of {currency} yet"
    if age < -AHEAD_SECONDS:
        return f"the balance of {currency} is dated {-age:.0f} s ahead of our time"
    limit = plain(facts.limits.balance_stale_seconds)
    return f"the balance of {currency} was told {age:.0f} s ago, and is believed for {limit} s"


def daily_loss(facts: Facts) -> GateResult:
    """The trades that closed today have not lost more than a day may."""
    name, limit = GateName.DAILY_LOSS_LIMIT, facts.limits.daily_loss
    pnl, unpriced = facts.results.day_pnl, ", ".join(facts.results.unpriced)
    if unpriced and limit:
        sentence = (
            f"what today's closed trades in {unpriced} brought is not known: the exchange tells no rate, and is asked "
            "again at the next entry; a resume begins the day's count anew"
        )
        return _fail(name, sentence, Ask.RATES, pnl=_UNKNOWN, pnl_of_others=pnl, without_rate=unpriced, limit=limit)
    if sentence := daily_loss_sentence(pnl, limit):
        return _fail(name, sentence, pnl=pnl, limit=limit)
    return _pass(name, pnl=pnl, limit=limit or "none")


def circuit_breaker(facts: Facts) -> GateResult:
    """Not so many trades in a row have lost that something must be wrong."""
    name, limit = GateName.CIRCUIT_BREAKER, facts.limits.losing_streak
    losing = facts.results.losing_streak
    if sentence := losing_streak_sentence(losing, limit):
        return _fail(name, sentence, losing_in_a_row=losing, limit=limit)
    return _pass(name, losing_in_a_row=losing, limit=limit or "none")


def quote_balance(facts: Facts) -> GateResult:
    """The quote currency that it needs is available."""
    name = GateName.INSUFFICIENT_BALANCE
    available, elsewhere = facts.available_quote, facts.held_elsewhere
    currency = facts.product.quote if facts.product else "quote currency"
    if available is None and facts.quote_why:
        sentence = f"what may be spent of {currency} is not known: {facts.quote_why}"
        return _fail(name, sentence, available=_UNKNOWN, needed=facts.needed_quote)
    if available is None:
        sentence = f"what is available is not known: {_balance_problem(facts, currency)}"
        numbers = {"available": _UNKNOWN, "needed": facts.needed_quote, **_balance_age(facts)}
        return _fail(name, sentence, Ask.BALANCE, **numbers)
    held = {"held_elsewhere": elsewhere} if elsewhere else {}
    if facts.needed_quote > available:
        sentence = f"it needs {plain(facts.needed_quote)} {currency}, {plain(max(available, Decimal(0)))} are available"
        if elsewhere:
            sentence += f", as {plain(elsewhere)} are held for orders that we don't know"
        sentence += f": {facts.quote_why}" if facts.quote_why else ""
        return _fail(name, sentence, needed=facts.needed_quote, available=available, **held)
    return _pass(name, needed=facts.needed_quote, available=available, **held)


def base_balance(facts: Facts) -> GateResult:
    """A sell has something to claim."""
    name = GateName.INSUFFICIENT_BALANCE
    available = facts.available_base
    size = facts.size or Decimal(0)
    if available is None or size > available:
        base = facts.product.base if facts.product else "base"
        may = "nobody knows how much" if available is None and facts.base_why else plain(available or Decimal(0))
        why = f": {facts.base_why}" if facts.base_why else ""
        return _fail(
            name,
            f"it would sell {plain(size)} {base}, {may} may be sold{why}",
            size=size,
            available=available,
        )
    return _pass(name, size=size, available=available)


def dry_run(facts: Facts) -> GateResult:
    """Everything passed; a dry run stops here."""
    if facts.intent.dry_run:
        return _fail(GateName.DRY_RUN, "dry run: it would have been sent", dry_run=True)
    if facts.dry_run:
        return _fail(GateName.DRY_RUN, "dry_run is set for the whole system: it would have been sent", dry_run=True)
    return _pass(GateName.DRY_RUN)


ENTRY_GATES: Sequence[Gate] = (
    trading_halted,
    known_symbol,
    venue_open,
    still_valid,
    enabled,
    trade_amount,
    has_signal,
    blacklisted,
    price_on_tick,
    has_price,
    fresh_market,
    spread,
    red_day,
    size_limits,
    size_on_increment,
    open_orders,
    position_size,
    daily_loss,
    circuit_breaker,
    quote_balance,
    dry_run,
)

ATTEMPT_GATES: Sequence[Gate] = (
    trading_halted,
    known_symbol,
    venue_open,
    still_valid,
    enabled,
    blacklisted,
    fresh_market,
    spread,
    dry_run,
)
"""What an entry passes again before each further attempt, with a fresh book. Its money is reserved already."""

EXIT_GATES: Sequence[Gate] = (
    known_symbol,
    hodl,
    venue_open,
    price_on_tick,
    size_limits,
    size_on_increment,
    base_balance,
    dry_run,
)


def run_gates(gates: Sequence[Gate], facts: Facts) -> list[GateResult]:
    """Run gates in order up to and including the first that fails."""
    results: list[GateResult] = []
    for gate in gates:
        result = gate(facts)
        results.append(result)
        if not result.passed:
            break
    return results


def with_admitted(facts: Facts, admitted: Sequence[Reserved]) -> Facts:
    """The facts as they would be read once these entries of the same account and quote currency are admitted."""
    here = [each.quote for each in admitted if each.symbol == facts.intent.symbol]
    together = sum((each.quote for each in admitted), Decimal(0))
    return replace(
        facts,
        open_buys=facts.open_buys + len(here),
        open_buys_value=sum(here, facts.open_buys_value),
        available_quote=None if facts.available_quote is None else facts.available_quote - together,
    )


def first_refusal(results: Sequence[GateResult]) -> GateResult | None:
    """The gate that stopped it, if any did."""
    return results[-1] if results and not results[-1].passed else None


def reservation(size: Decimal | None, price: Decimal | None, quote_size: Decimal | None, fee_rate: Decimal) -> Decimal:
    """Quote currency that a buy may need at most: its value and its fee."""
    value = quote_size if quote_size is not None else EXACT.multiply(size or Decimal(0), price or Decimal(0))
    return EXACT.multiply(value, 1 + fee_rate)
