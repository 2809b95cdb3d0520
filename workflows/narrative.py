"""What a person reads in the Web UI: summaries and details in plain sentences."""

from __future__ import annotations

from decimal import Decimal

from domain.exits import ExitRules
from domain.messages import OrderIntent, TradeOutcome
from domain.money import plain, round_half_even

__all__ = ["Timeline", "money", "order_summary", "outcome_sentence", "percent", "rules_sentence"]

_LONGEST = 200


def money(value: Decimal | None) -> str:
    """A price or amount to read: at most eight significant places after the point."""
    return "–" if value is None else plain(round_half_even(value, Decimal("1e-8")))


def percent(fraction: Decimal | None) -> str:
    """A fraction as percent with sign."""
    return "–" if fraction is None else f"{round_half_even(fraction * 100, Decimal('0.01')):+}%"


def order_summary(intent: OrderIntent) -> str:
    """One line: what is to be done and why."""
    if intent.base_size is not None:
        size = f"{plain(intent.base_size)} "
    elif intent.quote_size is not None:
        size = ""
    else:
        size = "what is left of "
    price = f" @ {plain(intent.limit_price)}" if intent.limit_price is not None else ""
    if intent.base_size is None and intent.quote_size is not None:
        price += f" for {plain(intent.quote_size)} {quote_currency(intent.symbol)}"
    why = intent.exit_reason.value if intent.exit_reason else intent.linkage.trigger
    score = ""
    if intent.exit_reason is None and intent.linkage.buy_score is not None:
        score = f", score {plain(intent.linkage.buy_score)}"
    post_only = " post-only" if intent.post_only else ""
    return (
        f"{intent.side.value} {size}{intent.symbol} {intent.order_type.value}{price}{post_only} · {why}{score} "
        f"({intent.source})"
    )


def quote_currency(symbol: str) -> str:
    """USD of BTC-USD, USDT of BTC_USDT."""
    return symbol.replace("_", "-").rpartition("-")[2]


def rules_sentence(rules: ExitRules, entry_price: Decimal | None) -> str:
    """Where the exits are, in prices."""
    if entry_price is None:
        return "exits are set at the first fill"
    parts = [
        f"hard stop {money(entry_price * (1 - rules.hard_stop))}",
        f"soft stop {money(entry_price * (1 - rules.soft_stop))}",
    ]
    if rules.trailing_arm is not None:
        parts.append(f"trailing arms at {money(entry_price * (1 + rules.trailing_arm))}")
    if rules.take_profit is not None:
        parts.append(f"take profit {money(entry_price * (1 + rules.take_profit))}")
    if rules.signal_exit:
        parts.append("sell signal if not losing")
    return ", ".join(parts)


def outcome_sentence(outcome: TradeOutcome) -> str:
    """How a trade ended."""
    return (
        f"bought {money(outcome.entry_size)} at {money(outcome.entry_price)}, sold {money(outcome.exit_size)} at "
        f"{money(outcome.exit_price)}: P&L {money(outcome.pnl)} after {money(outcome.fees)} fees, "
        f"{outcome.exit_reason or 'no exit'}, {outcome.duration_seconds:.0f} s"
    )


class Timeline:
    """What happened, in order, with times; the oldest middle lines go first when it grows too long."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, at: str, sentence: str) -> None:
        """Append a line."""
        self._lines.append(f"{at} {sentence}")
        if len(self._lines) > _LONGEST:
            del self._lines[_LONGEST // 2]

    @property
    def markdown(self) -> list[str]:
        """The newest lines as a list, newest first: the Web UI shows no code blocks."""
        return [f"- `{at}` {sentence}" for at, _, sentence in (line.partition(" ") for line in self._lines[:-21:-1])]

    @property
    def lines(self) -> list[str]:
        """All lines, oldest first."""
        return list(self._lines)
