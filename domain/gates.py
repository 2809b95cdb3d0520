"""Gates: the named checks that can stop an order, in the order in which they run; the first that fails wins.

Every gate that ran is stored with the numbers it compared, so that "why did it not trade?" has an answer. The gates
look at one read of the facts. An exit's is taken under the symbol's lock; an entry's holds as long as no other entry
of the account was admitted and nobody halted (`with_admitted` adds those that are decided together).

A person's own order passes NO_SIGNAL, MARKET_DATA_STALE, SPREAD_TOO_WIDE and RED_DAY with a note among the numbers,
because the person has looked; all other gates apply to everyone. An automatic decision is refused if a fact it depends
on is unknown. Facts that nobody can judge refuse everyone's orders (RISK-5): an unknown balance, value or exchange
rate, a crossed book, a time in the future. Such a result names the data to request (`asks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from domain.gate_facts import BY_HAND, Facts, Gate, GateResult, Reserved, by_hand, failed, passed
from domain.gate_names import GateName
from domain.group_gates import (
    account_open_trades,
    strategy_budget,
    strategy_daily_loss,
    strategy_halted,
    strategy_open_trades,
    trigger_budget,
    trigger_daily_loss,
    trigger_halted,
    trigger_open_trades,
)
from domain.intents import must_leave
from domain.limit_groups import with_entry
from domain.market_gates import fresh_market, has_price, price_on_tick, red_day, spread
from domain.money import EXACT, plain
from domain.money_gates import (
    base_balance,
    circuit_breaker,
    daily_loss,
    open_orders,
    position_size,
    quote_balance,
    size_limits,
    size_on_increment,
)
from domain.orders import EntryPoint, OrderRole, OrderType, TimeInForce
from domain.quoting import QUOTES

__all__ = [
    "ATTEMPT_GATES",
    "ENTRY_GATES",
    "EXIT_GATES",
    "first_refusal",
    "never_sold",
    "reservation",
    "run_gates",
    "with_admitted",
]


def trading_halted(facts: Facts) -> GateResult:
    """A person or a limit has halted new entries, or none can be sent: live not armed, exchange unreachable."""
    name, standing = GateName.TRADING_HALTED, facts.standing
    if standing.refusal:
        numbers = {"mode": standing.mode, "armed": standing.armed, "trouble": standing.trouble or "none"}
        return failed(name, standing.refusal, halted=facts.halted, **numbers)
    if facts.halted:
        return failed(name, f"new entries are halted by {facts.halted_by or 'an unknown person'}", halted=True)
    return passed(name, halted=False)


def known_symbol(facts: Facts) -> GateResult:
    """The exchange knows the product."""
    name = GateName.UNKNOWN_SYMBOL
    if facts.product is None and must_leave(facts.intent):
        return passed(name, product="its rules can't be read now")
    if facts.product is None:
        return failed(name, f"the exchange has no product {facts.intent.symbol!r}; write it like BTC-USD")
    return passed(name, product=facts.product.symbol)


def venue_open(facts: Facts) -> GateResult:
    """The exchange takes orders in this product."""
    name = GateName.VENUE_HALTED
    product = facts.product
    if product is not None and (product.halted or product.cancel_only):
        state = "cancel-only" if product.cancel_only and not product.halted else "not open for trading"
        return failed(name, f"{product.symbol} is {state} at the exchange", state=state)
    intent = facts.intent
    takes = intent.order_type is OrderType.MARKET or intent.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
    if product is not None and product.post_only and takes and intent.role is OrderRole.ENTRY:
        return failed(name, f"{product.symbol} takes only post-only orders at the exchange now", state="post-only")
    return passed(name, state="open")


def still_valid(facts: Facts) -> GateResult:
    """The decision is not too old to be sent (ENTRY-4)."""
    name = GateName.DECISION_EXPIRED
    until = facts.intent.valid_until
    if until is not None and facts.now > until:
        return failed(name, f"the decision was valid until {until.isoformat()}", now=facts.now, valid_until=until)
    return passed(name, valid_until=until)


def enabled(facts: Facts) -> GateResult:
    """The symbol may be bought and is not disabled."""
    name = GateName.DISABLED_TRADE
    if facts.disabled:
        return failed(name, f"{facts.intent.symbol} is not bought: {facts.disabled}", why=facts.disabled)
    return passed(name, enabled=True)


def trade_amount(facts: Facts) -> GateResult:
    """There is one size, and it is a positive number."""
    name, intent = GateName.INVALID_TRADE_AMOUNT, facts.intent
    sizes = {"base_size": intent.base_size, "quote_size": intent.quote_size}
    given = {what: size for what, size in sizes.items() if size is not None}
    if len(given) != 1:
        how = "neither a base nor a quote size" if not given else "both a base and a quote size"
        return failed(name, f"the order has {how}; it needs one of them", **given)
    (size,) = given.values()
    if size <= 0:
        return failed(name, f"the trade's amount must be positive, not {plain(size)}", **given)
    return passed(name, **given)


def has_signal(facts: Facts) -> GateResult:
    """An automatic decision has a reason: a score, or an indicator that fired. An external alert is its own reason."""
    name, linkage = GateName.NO_SIGNAL, facts.intent.linkage
    numbers: dict[str, object] = {"buy_score": linkage.buy_score, "fired": ", ".join(linkage.indicators_fired)}
    if facts.intent.entry_point in (EntryPoint.MANUAL, EntryPoint.WEBHOOK):
        by = BY_HAND if by_hand(facts) else "the alert is the signal"
        return passed(name, trigger=linkage.trigger, note=by, **numbers)
    fired = linkage.indicators_fired or any(part.fired for part in linkage.indicator_breakdown.values())
    # A market maker has no score: its breakdown (spread, fees, fair price) is the reason.
    quoted = linkage.trigger == QUOTES and linkage.indicator_breakdown
    if not fired and not quoted and (linkage.buy_score is None or linkage.buy_score <= 0):
        sentence = f"the decision of {linkage.trigger} has neither a buy score nor an indicator that fired"
        return failed(name, sentence, trigger=linkage.trigger, **numbers)
    return passed(name, trigger=linkage.trigger, **numbers)


def blacklisted(facts: Facts) -> GateResult:
    """Blocked symbols are never bought."""
    name = GateName.BLACKLISTED
    if facts.blocked:
        return failed(name, f"{facts.intent.symbol} is on the block list and is never bought", blocked=True)
    return passed(name, blocked=False)


def hodl(facts: Facts) -> GateResult:
    """HODL symbols are never sold by the system."""
    return never_sold(facts.intent.symbol, listed=facts.hodl)


def never_sold(symbol: str, *, listed: bool) -> GateResult:
    """The gate HODL for a symbol and whether it is on the list: alerts use it before there is an intent."""
    name = GateName.HODL
    if listed:
        return failed(name, f"{symbol} is on the HODL list and is never sold by the system", hodl=True)
    return passed(name, hodl=False)


def dry_run(facts: Facts) -> GateResult:
    """All gates passed; a dry run stops here."""
    if facts.intent.dry_run:
        return failed(GateName.DRY_RUN, "dry run: it would have been sent", dry_run=True)
    if facts.dry_run:
        return failed(GateName.DRY_RUN, "dry_run is set for the whole system: it would have been sent", dry_run=True)
    return passed(GateName.DRY_RUN)


ENTRY_GATES: Sequence[Gate] = (
    trading_halted,
    strategy_halted,
    trigger_halted,
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
    account_open_trades,
    strategy_open_trades,
    trigger_open_trades,
    position_size,
    strategy_budget,
    trigger_budget,
    daily_loss,
    strategy_daily_loss,
    trigger_daily_loss,
    circuit_breaker,
    quote_balance,
    dry_run,
)

ATTEMPT_GATES: Sequence[Gate] = (
    trading_halted,
    strategy_halted,
    trigger_halted,
    known_symbol,
    venue_open,
    still_valid,
    enabled,
    blacklisted,
    fresh_market,
    spread,
    dry_run,
)
"""The gates of an entry before each further attempt, with a fresh book. Its money is already reserved."""

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
    """Run gates in order up to and including the first that fails; those with nothing to check leave no result."""
    results: list[GateResult] = []
    for gate in gates:
        result = gate(facts)
        if result is None:
            continue
        results.append(result)
        if not result.passed:
            break
    return results


def with_admitted(facts: Facts, admitted: Sequence[Reserved]) -> Facts:
    """The facts as they would be after these entries of the same account and quote currency are admitted."""
    here = [each.quote for each in admitted if each.symbol == facts.intent.symbol]
    together = sum((each.quote for each in admitted), Decimal(0))
    groups = facts.groups
    for each in admitted if groups else ():
        money = None if facts.own_rate is None else EXACT.multiply(each.quote, facts.own_rate)
        groups = tuple(with_entry(use, each.trigger, money) for use in groups)
    return replace(
        facts,
        open_trades=facts.open_trades + len(admitted),
        groups=groups,
        open_buys=facts.open_buys + len(here),
        open_buys_value=sum(here, facts.open_buys_value),
        available_quote=None if facts.available_quote is None else facts.available_quote - together,
    )


def first_refusal(results: Sequence[GateResult]) -> GateResult | None:
    """The gate that stopped the order, if any."""
    return results[-1] if results and not results[-1].passed else None


def reservation(size: Decimal | None, price: Decimal | None, quote_size: Decimal | None, fee_rate: Decimal) -> Decimal:
    """The most quote currency that a buy may need: its value and its fee."""
    value = quote_size if quote_size is not None else EXACT.multiply(size or Decimal(0), price or Decimal(0))
    return EXACT.multiply(value, 1 + fee_rate)
