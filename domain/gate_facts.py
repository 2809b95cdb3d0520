"""What the gates look at, and the form of their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from domain.gate_names import GateName
from domain.identity import Standing
from domain.limits import Results
from domain.market import Product
from domain.messages import OrderIntent
from domain.money import plain

__all__ = [
    "AHEAD_SECONDS",
    "BY_HAND",
    "UNKNOWN",
    "Ask",
    "Facts",
    "Gate",
    "GateResult",
    "Limits",
    "MarketFacts",
    "Reserved",
    "by_hand",
    "failed",
    "passed",
    "percent",
]

BY_HAND = "a person's order"
UNKNOWN = "not known"
AHEAD_SECONDS = Decimal(5)
"""A time that is ahead of ours by no more is now: clocks differ. Beyond that nobody knows how old a thing is."""


class Ask(StrEnum):
    """What would have to be asked for, so that a gate knows what it compares."""

    TOUCH = "touch"
    BALANCE = "balance"
    PRICES = "prices"
    RATES = "rates"


@dataclass(frozen=True, slots=True)
class MarketFacts:
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
    market: MarketFacts = MarketFacts()
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


def passed(gate: GateName, **numbers: object) -> GateResult:
    """A gate that lets the order through, with the numbers it compared."""
    return GateResult(gate, True, "", _shown(numbers))


def failed(gate: GateName, sentence: str, asks: Ask | None = None, /, **numbers: object) -> GateResult:
    """A gate that refuses; `asks` where it refuses because a fact is not known."""
    return GateResult(gate, False, sentence, _shown(numbers), asks)


def _shown(numbers: Mapping[str, object]) -> dict[str, str]:
    return {key: plain(value) if isinstance(value, Decimal) else str(value) for key, value in numbers.items()}


def by_hand(facts: Facts) -> bool:
    """Whether a person ordered this."""
    return facts.intent.by_hand


def percent(fraction: Decimal) -> str:
    """A fraction as percent, two digits."""
    return f"{100 * fraction:.2f}"
