"""Gates: the named checks that can stop an order, in the order in which they run; the first that fails wins.

Every gate that ran is stored with the numbers it compared, so that "why did it not trade?" has an answer. The gates
look at one read of the facts, taken under the account's lock (entries) or the symbol's (exits).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from domain.market import Product
from domain.messages import OrderIntent
from domain.money import EXACT, plain, round_down, round_up
from domain.orders import OrderType, Side
from domain.sizing import neighbours, size_problem

__all__ = ["ENTRY_GATES", "EXIT_GATES", "Facts", "GateResult", "first_refusal", "run_gates"]


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
    halted: bool = False
    halted_why: str = ""
    blocked: bool = False
    hodl: bool = False
    open_buys: int = 0
    max_open_buys: int = 3
    available_quote: Decimal | None = None
    needed_quote: Decimal = Decimal(0)
    available_base: Decimal | None = None
    """Sells: what may be claimed of the named trade or the unowned pool, at most the account's available balance."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate's answer with what it compared."""

    gate: str
    passed: bool
    sentence: str = ""
    numbers: dict[str, str] = field(default_factory=dict)


Gate = Callable[[Facts], GateResult]


def _pass(gate: str, **numbers: object) -> GateResult:
    return GateResult(gate, True, "", {key: str(value) for key, value in numbers.items()})


def _fail(gate: str, sentence: str, **numbers: object) -> GateResult:
    return GateResult(gate, False, sentence, {key: str(value) for key, value in numbers.items()})


def trading_halted(facts: Facts) -> GateResult:
    """A person or a limit has stopped new entries."""
    name = "SKIP_TRADING_HALTED"
    if facts.halted:
        return _fail(name, f"new entries are halted: {facts.halted_why or 'no reason given'}", halted=True)
    return _pass(name, halted=False)


def known_symbol(facts: Facts) -> GateResult:
    """The exchange knows the product."""
    name = "UNKNOWN_SYMBOL"
    if facts.product is None:
        return _fail(name, f"the exchange has no product {facts.intent.symbol!r}; write it like BTC-USD")
    return _pass(name)


def venue_open(facts: Facts) -> GateResult:
    """The exchange takes orders in this product."""
    name = "VENUE_HALTED"
    product = facts.product
    if product is not None and (product.halted or product.cancel_only):
        state = "cancel-only" if product.cancel_only and not product.halted else "not open for trading"
        return _fail(name, f"{product.symbol} is {state} at the exchange", state=state)
    return _pass(name)


def still_valid(facts: Facts) -> GateResult:
    """The decision is not too old to be sent (ENTRY-4)."""
    name = "DECISION_EXPIRED"
    until = facts.intent.valid_until
    if until is not None and facts.now > until:
        return _fail(name, f"the decision was valid until {until.isoformat()}", now=facts.now, valid_until=until)
    return _pass(name, valid_until=until)


def blacklisted(facts: Facts) -> GateResult:
    """Blocked symbols are never bought."""
    name = "SKIP_BLACKLISTED"
    if facts.blocked:
        return _fail(name, f"{facts.intent.symbol} is on the block list and is never bought", blocked=True)
    return _pass(name)


def hodl(facts: Facts) -> GateResult:
    """HODL symbols are never sold by the system."""
    name = "HODL"
    if facts.hodl:
        return _fail(name, f"{facts.intent.symbol} is on the HODL list and is never sold by the system", hodl=True)
    return _pass(name)


def price_on_tick(facts: Facts) -> GateResult:
    """A price that a person gave is taken as given or refused, never bent."""
    name = "INVALID_PRICE"
    price, product = facts.intent.limit_price, facts.product
    if facts.intent.order_type is OrderType.LIMIT and price is None and facts.intent.side is Side.BUY:
        return _fail(name, "a limit order needs a limit price")
    if price is None or product is None or facts.intent.entry_point != "manual":
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
    name = "SKIP_NO_PRICE"
    if facts.price is None and facts.intent.quote_size is None:
        return _fail(name, f"no price is known for {facts.intent.symbol}")
    return _pass(name, price=facts.price)


def size_on_increment(facts: Facts) -> GateResult:
    """A size that a person gave is taken as given or refused, never bent."""
    name = "INVALID_SIZE"
    size, product = facts.intent.base_size, facts.product
    if size is None or product is None or facts.intent.entry_point != "manual":
        return _pass(name)
    step = product.base_increment
    below, above = round_down(size, step), round_up(size, step)
    if below == above:
        return _pass(name, size=size, increment=step)
    nearest = (
        f"the nearest are {plain(below)} and {plain(above)}"
        if below >= product.base_min
        else f"the nearest is {plain(above)}"
    )
    return _fail(
        name,
        f"{plain(size)} {product.base} is not a multiple of {plain(step)}, the size increment of {product.symbol}; "
        f"{nearest}",
        size=size,
        increment=step,
    )


def size_limits(facts: Facts) -> GateResult:
    """The size is one that the exchange takes."""
    product, intent = facts.product, facts.intent
    if product is None:  # known_symbol refuses before
        return _fail("UNKNOWN_SYMBOL", f"the exchange has no product {intent.symbol!r}")
    # A person's size is looked at as it was typed, not as rounding would leave it.
    size = facts.size if intent.entry_point != "manual" or intent.base_size is None else intent.base_size
    if size is not None:
        problem = size_problem(size, facts.price, product)
        if problem is not None:
            return _fail(problem[0], problem[1], size=size, price=facts.price, minimum=product.base_min)
        return _pass("BELOW_MINIMUM_SIZE", size=size, minimum=product.base_min)
    quote = intent.quote_size or Decimal(0)
    if quote < product.quote_min or quote <= 0:
        return _fail(
            "BELOW_MINIMUM_SIZE",
            f"{plain(quote)} {product.quote} is below the minimum of {plain(product.quote_min)} for {product.symbol}",
            quote=quote,
            minimum=product.quote_min,
        )
    if quote > product.quote_max:
        return _fail(
            "ABOVE_MAXIMUM_SIZE",
            f"{plain(quote)} {product.quote} is above the maximum of {plain(product.quote_max)} for {product.symbol}",
            quote=quote,
            maximum=product.quote_max,
        )
    return _pass("BELOW_MINIMUM_SIZE", quote=quote, minimum=product.quote_min)


def open_orders(facts: Facts) -> GateResult:
    """At most so many open buys a symbol."""
    name = "SKIP_MAX_OPEN_ORDERS"
    if facts.open_buys >= facts.max_open_buys:
        return _fail(
            name,
            f"{facts.intent.symbol} has {facts.open_buys} open buys, the limit is {facts.max_open_buys}",
            open_buys=facts.open_buys,
            limit=facts.max_open_buys,
        )
    return _pass(name, open_buys=facts.open_buys, limit=facts.max_open_buys)


def quote_balance(facts: Facts) -> GateResult:
    """The quote currency that it needs is available."""
    name = "INSUFFICIENT_BALANCE"
    available = facts.available_quote
    if available is None:
        return _pass(name, available="not known yet", needed=facts.needed_quote)
    if facts.needed_quote > available:
        currency = facts.product.quote if facts.product else "quote currency"
        return _fail(
            name,
            f"it needs {plain(facts.needed_quote)} {currency}, {plain(max(available, Decimal(0)))} are available",
            needed=facts.needed_quote,
            available=available,
        )
    return _pass(name, needed=facts.needed_quote, available=available)


def base_balance(facts: Facts) -> GateResult:
    """A sell has something to claim."""
    name = "INSUFFICIENT_BALANCE"
    available = facts.available_base
    size = facts.size or Decimal(0)
    if available is None or size > available:
        base = facts.product.base if facts.product else "base"
        return _fail(
            name,
            f"it would sell {plain(size)} {base}, {plain(available or Decimal(0))} may be sold",
            size=size,
            available=available,
        )
    return _pass(name, size=size, available=available)


def dry_run(facts: Facts) -> GateResult:
    """Everything passed; a dry run stops here."""
    if facts.intent.dry_run:
        return _fail("DRY_RUN", "dry run: it would have been sent", dry_run=True)
    return _pass("DRY_RUN")


ENTRY_GATES: Sequence[Gate] = (
    trading_halted,
    known_symbol,
    venue_open,
    still_valid,
    blacklisted,
    price_on_tick,
    has_price,
    size_limits,
    size_on_increment,
    open_orders,
    quote_balance,
    dry_run,
)

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


def first_refusal(results: Sequence[GateResult]) -> GateResult | None:
    """The gate that stopped it, if any did."""
    return results[-1] if results and not results[-1].passed else None


def reservation(size: Decimal | None, price: Decimal | None, quote_size: Decimal | None, fee_rate: Decimal) -> Decimal:
    """Quote currency that a buy may need at most: its value and its fee."""
    value = quote_size if quote_size is not None else EXACT.multiply(size or Decimal(0), price or Decimal(0))
    return EXACT.multiply(value, 1 + fee_rate)
