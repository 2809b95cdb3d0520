"""How orders fill on the paper exchange: three named sets of rules (RES-5, PAPER-4).

A price stream reports trades, not where one's own order would have been in the queue. So each set says how far the
market must go through a resting order, which share of the volume (traded, or offered by a quote that has crossed the
order) fills the order, and what a taker pays beyond the touch. A limit is never exceeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from exchange.paper.errors import PaperError
from exchange.paper.numbers import ONE, ZERO

__all__ = ["BASE", "OPTIMISTIC", "PESSIMISTIC", "FillRule", "fill_rule"]


@dataclass(frozen=True, slots=True)
class FillRule:
    """One set. `share` is a fraction of the volume that trades; `slippage_bps` is in basis points of the price."""

    name: str
    sentence: str
    """The rules for people, after the name."""
    ticks_through: int = 0
    """Price increments by which the market must trade beyond a resting order's price; 0: at it."""
    share: Decimal = ONE
    slippage_bps: Decimal = ZERO
    half_spreads: int = 0
    """Half spreads that a taker pays beyond the touch (which already includes one half)."""

    def beyond(self, price: Decimal, spread: Decimal, tick: Decimal) -> Decimal:
        """The additional price per unit that a taker pays beyond `price`, in quote currency, in whole ticks."""
        if not self.slippage_bps and not self.half_spreads:
            return ZERO
        amount = price * self.slippage_bps / 10_000 + max(spread, ZERO) / 2 * self.half_spreads
        return (amount / tick).to_integral_value(ROUND_CEILING) * tick


PESSIMISTIC = FillRule(
    "pessimistic",
    "resting orders fill when the market goes one tick through their price, with 10 % of the volume there (so ten "
    "times their size has to trade); takers pay half the spread and 2 bp beyond the touch",
    ticks_through=1,
    share=Decimal("0.10"),
    slippage_bps=Decimal(2),
    half_spreads=1,
)
BASE = FillRule(
    "base",
    "resting orders fill when the market goes one tick through their price, with 25 % of the volume there; takers pay "
    "1 bp beyond the touch",
    ticks_through=1,
    share=Decimal("0.25"),
    slippage_bps=ONE,
)
OPTIMISTIC = FillRule(
    "optimistic",
    "resting orders fill when the market trades at their price, with all of the volume there; takers pay the touch",
)
_RULES = {rule.name: rule for rule in (PESSIMISTIC, BASE, OPTIMISTIC)}


def fill_rule(name: str) -> FillRule:
    """The set of this name. Raises `PaperError`."""
    try:
        return _RULES[name]
    except KeyError:
        raise PaperError("BAD_FILLS", f"--fills is one of {', '.join(_RULES)}.") from None
