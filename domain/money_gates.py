"""Gates that look at sizes and money: increments, limits, losses, balances."""

from __future__ import annotations

from decimal import Decimal

from domain.gate_facts import AHEAD_SECONDS, UNKNOWN, Ask, Facts, GateResult, by_hand, failed, passed, percent
from domain.gate_names import GateName
from domain.intents import must_leave
from domain.limits import daily_loss_sentence, losing_streak_sentence
from domain.money import EXACT, plain, round_down, round_up
from domain.sizing import size_problem

__all__ = [
    "base_balance",
    "circuit_breaker",
    "daily_loss",
    "open_orders",
    "position_size",
    "quote_balance",
    "size_limits",
    "size_on_increment",
]


def size_on_increment(facts: Facts) -> GateResult:
    """A size given by a person is used as given or refused, never rounded."""
    name = GateName.INVALID_SIZE
    product, in_quote = facts.product, facts.size is None
    # An amount in quote currency is sent as it is only by a market order; else it becomes a size in base.
    size = facts.intent.quote_size if in_quote else facts.intent.base_size
    if size is None or product is None or not by_hand(facts):
        return passed(name)
    unit, step = (product.quote, product.quote_increment) if in_quote else (product.base, product.base_increment)
    below, above = round_down(size, step), round_up(size, step)
    if below == above:
        return passed(name, size=size, increment=step)
    smallest = product.quote_min if in_quote else product.base_min
    nearest = (
        f"the nearest are {plain(below)} and {plain(above)}" if below >= smallest else f"the nearest is {plain(above)}"
    )
    return failed(
        name,
        f"{plain(size)} {unit} is not a multiple of {plain(step)}, the {'quote' if in_quote else 'size'} increment of "
        f"{product.symbol}; {nearest}",
        size=size,
        increment=step,
    )


def size_limits(facts: Facts) -> GateResult:
    """The exchange accepts the size."""
    product, intent = facts.product, facts.intent
    if product is None and must_leave(intent):
        if facts.size is None or facts.size <= 0:
            return failed(GateName.BELOW_MINIMUM_SIZE, "nothing is left to sell", size=facts.size)
        return passed(GateName.BELOW_MINIMUM_SIZE, size=facts.size, minimum="not known")
    if product is None:  # known_symbol refuses before
        return failed(GateName.UNKNOWN_SYMBOL, f"the exchange has no product {intent.symbol!r}")
    # A person's size is looked at as it was typed, not as rounding would leave it.
    size = facts.size if not intent.by_hand or intent.base_size is None else intent.base_size
    if size is not None:
        problem = size_problem(size, facts.price, product)
        if problem is not None:
            return failed(
                problem[0],
                problem[1],
                size=size,
                price=facts.price,
                minimum=product.base_min,
                minimum_quote=product.quote_min,
                maximum=product.base_max,
            )
        return passed(GateName.BELOW_MINIMUM_SIZE, size=size, minimum=product.base_min)
    quote = intent.quote_size or Decimal(0)
    if quote < product.quote_min or quote <= 0:
        return failed(
            GateName.BELOW_MINIMUM_SIZE,
            f"{plain(quote)} {product.quote} is below the minimum of {plain(product.quote_min)} for {product.symbol}",
            quote=quote,
            minimum=product.quote_min,
        )
    if quote > product.quote_max:
        return failed(
            GateName.ABOVE_MAXIMUM_SIZE,
            f"{plain(quote)} {product.quote} is above the maximum of {plain(product.quote_max)} for {product.symbol}",
            quote=quote,
            maximum=product.quote_max,
        )
    return passed(GateName.BELOW_MINIMUM_SIZE, quote=quote, minimum=product.quote_min)


def open_orders(facts: Facts) -> GateResult:
    """A limit on the number of open buys for each symbol."""
    name = GateName.MAX_OPEN_ORDERS
    limit = facts.limits.max_open_buys
    if facts.open_buys >= limit:
        return failed(
            name,
            f"{facts.intent.symbol} has {facts.open_buys} open buys, the limit is {limit}",
            open_buys=facts.open_buys,
            limit=limit,
        )
    return passed(name, open_buys=facts.open_buys, limit=limit)


def position_size(facts: Facts) -> GateResult:
    """One symbol holds no more than its share of the account: its open trades, its open buys and this one."""
    name, worth, share = GateName.POSITION_TOO_LARGE, facts.account_worth, facts.limits.max_position
    held = facts.held_value
    numbers: dict[str, object] = {
        "held": UNKNOWN if held is None else held,
        "open_buys": facts.open_buys_value,
        "this": facts.needed_quote,
        "share": share,
    }
    if share >= 1:
        return passed(name, note="no limit is set", **numbers)
    currency = facts.product.quote if facts.product else "quote currency"
    if worth is None or held is None:
        unpriced = ", ".join(facts.unpriced)
        why = f"no fresh price of {unpriced} is known" if unpriced else _balance_problem(facts, currency)
        numbers |= {"worth": UNKNOWN, "unpriced": unpriced} if unpriced else {"worth": UNKNOWN, **_balance_age(facts)}
        asks = Ask.PRICES if unpriced else Ask.BALANCE
        return failed(name, f"the value of the account is not known: {why}", asks, **numbers)
    limit = EXACT.multiply(worth, share)
    together = held + facts.open_buys_value + facts.needed_quote
    numbers |= {"worth": worth, "limit": limit}
    if together <= limit:
        return passed(name, **numbers)
    return failed(
        name,
        f"{facts.intent.symbol} would hold {together:.2f} {currency} (held {held:.2f}, open buys "
        f"{facts.open_buys_value:.2f}, this one {facts.needed_quote:.2f}); the limit is {limit:.2f}, "
        f"{percent(share)} % of the account's value of {worth:.2f}",
        **numbers,
    )


def _balance_age(facts: Facts) -> dict[str, object]:
    age, limit = facts.balance_age, facts.limits.balance_stale_seconds
    return {"balance_age_s": UNKNOWN if age is None else age, "balance_limit_s": limit}


def _balance_problem(facts: Facts, currency: str) -> str:
    """Why the balance isn't known, as a clause."""
    age = facts.balance_age
    if age is None:
        return f"the exchange has not reported the balance of {currency} yet"
    if age < -AHEAD_SECONDS:
        return f"the balance of {currency} has a time {-age:.0f} s ahead of ours"
    limit = plain(facts.limits.balance_stale_seconds)
    return f"the balance of {currency} was reported {age:.0f} s ago and is valid for {limit} s"


def daily_loss(facts: Facts) -> GateResult:
    """The trades closed today have not lost more than the daily limit."""
    name, limit = GateName.DAILY_LOSS_LIMIT, facts.limits.daily_loss
    pnl, unpriced = facts.results.day_pnl, ", ".join(facts.results.unpriced)
    if unpriced and limit:
        sentence = (
            f"the result of today's closed trades in {unpriced} is not known: the exchange gives no rate and is "
            f"asked again at the next entry; a resume restarts the day's count"
        )
        return failed(name, sentence, Ask.RATES, pnl=UNKNOWN, pnl_of_others=pnl, without_rate=unpriced, limit=limit)
    if sentence := daily_loss_sentence(pnl, limit):
        return failed(name, sentence, pnl=pnl, limit=limit)
    return passed(name, pnl=pnl, limit=limit or "none")


def circuit_breaker(facts: Facts) -> GateResult:
    """Fewer trades in a row have lost than the limit."""
    name, limit = GateName.CIRCUIT_BREAKER, facts.limits.losing_streak
    losing = facts.results.losing_streak
    if sentence := losing_streak_sentence(losing, limit):
        return failed(name, sentence, losing_in_a_row=losing, limit=limit)
    return passed(name, losing_in_a_row=losing, limit=limit or "none")


def quote_balance(facts: Facts) -> GateResult:
    """The quote currency it needs is available."""
    name = GateName.INSUFFICIENT_BALANCE
    available, elsewhere = facts.available_quote, facts.held_elsewhere
    currency = facts.product.quote if facts.product else "quote currency"
    if available is None and facts.quote_why:
        sentence = f"the amount of {currency} that may be spent is not known: {facts.quote_why}"
        return failed(name, sentence, available=UNKNOWN, needed=facts.needed_quote)
    if available is None:
        sentence = f"the available balance is not known: {_balance_problem(facts, currency)}"
        numbers = {"available": UNKNOWN, "needed": facts.needed_quote, **_balance_age(facts)}
        return failed(name, sentence, Ask.BALANCE, **numbers)
    held = {"held_elsewhere": elsewhere} if elsewhere else {}
    if facts.needed_quote > available:
        sentence = f"it needs {plain(facts.needed_quote)} {currency}, {plain(max(available, Decimal(0)))} are available"
        if elsewhere:
            sentence += f", as {plain(elsewhere)} are held for unknown orders"
        sentence += f": {facts.quote_why}" if facts.quote_why else ""
        return failed(name, sentence, needed=facts.needed_quote, available=available, **held)
    return passed(name, needed=facts.needed_quote, available=available, **held)


def base_balance(facts: Facts) -> GateResult:
    """A sell has something to claim."""
    name = GateName.INSUFFICIENT_BALANCE
    available = facts.available_base
    size = facts.size or Decimal(0)
    if available is None or size > available:
        base = facts.product.base if facts.product else "base"
        may = "an unknown size" if available is None and facts.base_why else plain(available or Decimal(0))
        why = f": {facts.base_why}" if facts.base_why else ""
        return failed(
            name,
            f"it would sell {plain(size)} {base}, {may} may be sold{why}",
            size=size,
            available=available,
        )
    return passed(name, size=size, available=available)
