"""The results of a trade and its exits."""

from __future__ import annotations

from decimal import Decimal

from domain.exits import ExitReason, ExitRules, target_price
from domain.money import ZERO, divide, round_half_even

__all__ = ["achieved", "target_fraction", "trade_pnl"]

_QUANTUM = Decimal("1e-18")


def target_fraction(reason: ExitReason, rules: ExitRules, entry_price: Decimal | None = None) -> Decimal | None:
    """The gain the rule aimed for, as a fraction of the entry price; None if it has no fixed target."""
    match reason:
        case ExitReason.HARD_STOP:
            return -rules.hard_stop
        case ExitReason.SOFT_STOP:
            return -rules.soft_stop
        case ExitReason.TP:
            target = target_price(rules, entry_price) if entry_price else None
            if entry_price is None or target is None or rules.target_atr is None:
                return rules.take_profit
            return round_half_even(divide(target - entry_price, entry_price), _QUANTUM)
        case ExitReason.TRAILING_STOP:
            return rules.trailing_arm
        case _:
            return None


def achieved(
    entry_price: Decimal | None, exit_price: Decimal | None, entry_fee: Decimal, exit_fee: Decimal
) -> tuple[Decimal | None, Decimal | None]:
    """`(gross, net)` gain as fractions of the entry price; fees are per base unit, in quote."""
    if not entry_price or exit_price is None:
        return None, None
    gross = divide(exit_price - entry_price, entry_price)
    net = divide(exit_price - exit_fee - entry_price - entry_fee, entry_price + entry_fee)
    return round_half_even(gross, _QUANTUM), round_half_even(net, _QUANTUM)


def trade_pnl(bought: Decimal, cost: Decimal, sold: Decimal, proceeds: Decimal) -> Decimal:
    """Net proceeds of the sold size less its share of the cost (all with fees): the position book's P&L."""
    if bought <= 0 or sold <= 0:
        return ZERO
    if sold >= bought:
        return proceeds - cost
    return proceeds - round_half_even(divide(cost * sold, bought), _QUANTUM)
