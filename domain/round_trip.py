"""The cost of a round trip, and values of an order so near or so far that they may be a typing error.

A stop or target nearer than that is reached by the costs alone: with 0.05 instead of 5 the trade is sold at the first
move and loses its fees. Nothing is refused; these sentences are warnings for the person who placed the order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from domain.exits import ExitRules
from domain.messages import OrderIntent
from domain.money import ZERO, divide, plain, round_half_even
from domain.orders import OrderRole, Side

__all__ = [
    "ASSUMED_TAKER",
    "FAR",
    "LEVELS",
    "RoundTrip",
    "far_limit",
    "near",
    "near_levels",
    "near_stops",
    "of_order",
    "spread_of",
]

ASSUMED_TAKER: Final = Decimal("0.006")
"""Coinbase's taker fee rate for a small account, used if the account's own isn't known; a fraction."""
FAR: Final = Decimal("0.1")
"""A limit further than this from the market gets a warning; a fraction of the market's price."""
LEVELS: Final[Mapping[str, str]] = {
    "hard_stop": "the hard stop",
    "soft_stop": "the soft stop",
    "trailing_arm": "the gain that arms trailing",
    "take_profit": "the target",
}
"""Rules of a trade that are a distance from its entry price, with their names."""
_LARGEST_MEANT = Decimal("0.5")


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Costs as fractions of the price: the taker fee rate, which is paid twice, and the spread (None: not known)."""

    taker: Decimal = ASSUMED_TAKER
    spread: Decimal | None = None
    known: bool = False
    """Whether the rate is the account's own."""

    @property
    def cost(self) -> Decimal:
        """Both fees and the spread."""
        return 2 * self.taker + (self.spread or ZERO)

    @property
    def sentence(self) -> str:
        """The costs in words."""
        rate = f"2 × {_percent(self.taker)} taker fee" + ("" if self.known else ", assumed")
        return f"{_percent(self.cost)} ({rate}{'' if self.spread is None else f', spread {_percent(self.spread)}'})"


def near_levels(rules: ExitRules, trip: RoundTrip) -> dict[str, str]:
    """Rules that are nearer than the cost of a round trip: the field of each with a sentence."""
    found = {}
    for name, called in LEVELS.items():
        distance = getattr(rules, name)
        if distance is not None and distance < trip.cost:
            found[name] = near(called, distance, trip)
    return found


def near(called: str, distance: Decimal, trip: RoundTrip) -> str:
    """The sentence about one level; `distance` is a fraction of the entry price."""
    meant = distance * 100
    asked = f"; did you mean {_percent(meant)}?" if trip.cost < meant <= _LARGEST_MEANT else ""
    return f"{called} at {_percent(distance)} is within the cost of a round trip: {trip.sentence}{asked}"


def near_stops(
    entry: Decimal, bid: Decimal | None, levels: Mapping[str, Decimal | None], trip: RoundTrip
) -> Iterator[str]:
    """Sentences about prices to which a trade's stops or target are moved; `entry` is its entry price.

    A stop far from the bid secures a gain, even if it is near the entry price.
    """
    for name, called in LEVELS.items():
        price = levels.get(name)
        if price is None or entry <= 0:
            continue
        distance = abs(divide(price, entry) - 1)
        secures = "stop" in name and bid is not None and abs(divide(price, bid) - 1) >= trip.cost
        if distance < trip.cost and not secures:
            yield near(called, distance, trip)


def far_limit(side: Side, limit: Decimal, bid: Decimal | None, ask: Decimal | None) -> str:
    """A sentence about a limit far from the market, on either side; empty if it is not, or if the market is not
    known."""
    market = (ask or bid) if side is Side.BUY else (bid or ask)
    if market is None or market <= 0:
        return ""
    away = divide(limit, market) - 1
    if abs(away) <= FAR:
        return ""
    where = "above" if away > 0 else "below"
    takes = (side is Side.BUY) == (away > 0)
    means = "it fills at any price up to the limit" if takes else "it rests until the market reaches it"
    return f"the limit {plain(limit)} is {abs(away) * 100:.0f} % {where} the market ({plain(market)}): {means}"


def spread_of(bid: Decimal | None, ask: Decimal | None) -> Decimal | None:
    """The spread as a fraction; None without a touch."""
    return None if not bid or not ask or bid >= ask else divide(ask, bid) - 1


def of_order(intent: OrderIntent, trip: RoundTrip, bid: Decimal | None, ask: Decimal | None) -> list[str]:
    """Possible mistakes in an order: stops and target of an entry, a limit. `trip` has the fee rate, the touch (None:
    not known now) the spread.
    """
    spread = spread_of(bid, ask)
    if spread is None:
        bid = ask = None
    trip = replace(trip, spread=spread)
    found = [*near_levels(intent.rules, trip).values()] if intent.role is OrderRole.ENTRY else []
    if intent.limit_price is not None and (far := far_limit(intent.side, intent.limit_price, bid, ask)):
        found.append(far)
    return found


def _percent(fraction: Decimal) -> str:
    return f"{plain(round_half_even(fraction * 100, Decimal('0.0001')))} %"
