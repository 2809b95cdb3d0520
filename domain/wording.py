"""Numbers and sentences as people read them: in the Web UI's summaries, in tables and messages of the command line.

Everything here is for display: it rounds and shortens. Nothing is computed or compared with these values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation

from domain.exits import ExitRules, target_price
from domain.messages import ExternalOrder, GateView, OrderIntent, TradeOutcome
from domain.money import average, plain, round_half_even, to_read

__all__ = [
    "about",
    "age",
    "book_price",
    "cash",
    "compared",
    "external_summary",
    "gates_table",
    "level",
    "money",
    "order_summary",
    "outcome_sentence",
    "percent",
    "rounded",
    "rules_sentence",
    "short",
    "tidy",
]

_SHOWN_KEY = 12


def money(value: Decimal | None) -> str:
    """A price or amount for display: at most eight decimals, more only if it would show as 0."""
    return "–" if value is None else plain(to_read(value))


def level(price: Decimal | None) -> str:
    """A computed price, such as a stop: two decimals, or six significant digits if that is more."""
    if price is None:
        return "–"
    return plain(round_half_even(price, Decimal(1).scaleb(-max(2, 5 - price.adjusted()))))


def cash(amount: Decimal) -> str:
    """Profit, loss or fees: to the cent, smaller amounts with all their digits."""
    cents = round_half_even(amount)
    return f"{cents:.2f}" if cents else money(amount)


def percent(fraction: Decimal | None) -> str:
    """A fraction as percent with sign."""
    return "–" if fraction is None else f"{round_half_even(fraction * 100, Decimal('0.01')):+}%"


def tidy(value: Decimal | None) -> Decimal | None:
    """`money` as a number, for a column of a table or for JSON: no trailing zeros, and a non-zero amount never shows as
    0."""
    return None if value is None else Decimal(plain(to_read(value)))


def book_price(value: Decimal, size: Decimal) -> Decimal | None:
    """The average price of what was traded, in quote per base; None if nothing was."""
    return tidy(average(value, size))


def about(price: Decimal | str | None) -> str:
    """`level` of a price that may be text, as in rows and JSON."""
    return level(None if price is None else Decimal(price))


def age(since: datetime | None, until: datetime) -> str:
    """An age or duration in the largest suitable unit; nothing for one without a beginning."""
    if since is None:
        return ""
    seconds = max((until - since).total_seconds(), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def rounded(price: Decimal | None) -> Decimal | None:
    """`level` as a number, for a column of a table."""
    return None if price is None else Decimal(level(price))


def short(key: str | None) -> str:
    """A key shortened to what identifies it; every command accepts it."""
    return (key or "")[:_SHOWN_KEY]


def order_summary(intent: OrderIntent) -> str:
    """One line: the order and its reason."""
    if intent.base_size is not None:
        what = f"{plain(intent.base_size)} {intent.symbol}"
    elif intent.quote_size is not None:
        what = f"{intent.symbol} for {plain(intent.quote_size)} {_quote(intent.symbol)}"
    else:
        what = f"what is left of {intent.symbol}"
    price = f" @ {plain(intent.limit_price)}" if intent.limit_price is not None else ""
    why = intent.exit_reason.value if intent.exit_reason else intent.linkage.trigger
    score = ""
    if intent.exit_reason is None and intent.linkage.buy_score is not None:
        score = f", score {plain(intent.linkage.buy_score)}"
    post_only = " post-only" if intent.post_only else ""
    source = f" ({intent.source})" if intent.source != why else ""
    return f"{intent.side.value} {what} {intent.order_type.value}{price}{post_only} · {why}{score}{source}"


def external_summary(order: ExternalOrder) -> str:
    """One line: an external order, and where it was seen."""
    size = f"{money(order.base_size)} " if order.base_size is not None else ""
    price = f" @ {money(order.limit_price)}" if order.limit_price is not None else ""
    return f"{order.side.value} {size}{order.symbol} {order.order_type}{price} · external, by {order.source.value}"


def compared(numbers: Mapping[str, str]) -> str:
    """What a gate compared: each of its numbers as a person reads it, and nothing of what it did not know."""
    return ", ".join(f"{name} {_readable(value)}" for name, value in numbers.items() if value not in ("", "None"))


def _readable(value: str) -> str:
    """A number without exponent, and with at most eight places; anything else as it is."""
    try:
        number = Decimal(value)
    except InvalidOperation:
        return value
    return money(number) if number.is_finite() else value


def gates_table(gates: Sequence[GateView]) -> list[str]:
    """Every gate that ran, with the values it compared, as a Markdown table."""
    rows = [
        f"| {'passed' if gate.passed else '**refused**'} | {gate.gate} | {compared(gate.numbers)} |" for gate in gates
    ]
    return ["| | gate | compared values |", "|---|---|---|", *rows]


def rules_sentence(rules: ExitRules, entry_price: Decimal | None) -> str:
    """The exit levels: always in percent of the entry price, and in prices once that is known."""

    def at(fraction: Decimal) -> str:
        far = f"{plain(fraction * 100)} %" if fraction < 0 else f"+{plain(fraction * 100)} %"
        return far if entry_price is None else f"{level(entry_price * (1 + fraction))} ({far})"

    parts = [f"hard stop {at(-rules.hard_stop)}", f"soft stop {at(-rules.soft_stop)}"]
    if rules.trailing_arm is not None:
        parts.append(f"trailing arms at {at(rules.trailing_arm)}")
    target = None if entry_price is None else target_price(rules, entry_price)
    if rules.take_profit_atr is not None:
        known = rules.target_atr is not None
        where = f"{level(target)} " if known and target is not None else ""
        parts.append(
            f"take profit {where}({plain(rules.take_profit_atr)} ATR{'' if known else ' as at the first fill'})"
        )
    if rules.take_profit is not None and rules.target_atr is None:
        parts.append(f"{'else' if rules.take_profit_atr is not None else 'take profit'} {at(rules.take_profit)}")
    if rules.signal_exit:
        least = f"{plain(rules.signal_exit_gain * 100)} % or more" if rules.signal_exit_gain else "not losing"
        parts.append(f"sell signal if {least}{' after fees' if rules.signal_exit_net else ''}")
    sentence = ", ".join(parts)
    return sentence if entry_price is not None else f"exits, from the first fill on: {sentence}"


def outcome_sentence(outcome: TradeOutcome) -> str:
    """How a trade ended."""
    currency = _quote(outcome.symbol)
    dust = f"; {outcome.dust_why}" if outcome.dust_why else ""
    if outcome.dust_size > 0 and outcome.exit_size == 0 and outcome.exit_reason is None:
        return (
            f"bought {money(outcome.entry_size)} at {level(outcome.entry_price)}, nothing was sold"
            f"{dust}, {outcome.duration_seconds:.0f} s"
        )
    return (
        f"bought {money(outcome.entry_size)} at {level(outcome.entry_price)}, sold {money(outcome.exit_size)} at "
        f"{level(outcome.exit_price)}: P&L {cash(outcome.pnl)} {currency} after {cash(outcome.fees)} {currency} fees, "
        f"{outcome.exit_reason or 'no exit'}, {outcome.duration_seconds:.0f} s{dust}"
    )


def _quote(symbol: str) -> str:
    """What a product is priced in: USD of BTC-USD, USDT of BTC_USDT."""
    return symbol.replace("_", "-").rpartition("-")[2]
