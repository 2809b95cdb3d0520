"""What the gates look at, and the form of their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from domain.gate_names import GateName
from domain.identity import Standing
from domain.limit_groups import GroupUse
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
"""A time ahead of ours by at most this counts as now, because clocks differ. Beyond it, an age can't be determined."""


class Ask(StrEnum):
    """The data to request so that a gate has what it compares."""

    TOUCH = "touch"
    BALANCE = "balance"
    PRICES = "prices"
    RATES = "rates"


@dataclass(frozen=True, slots=True)
class MarketFacts:
    """The known state of a market. Prices in quote per base; `at` is when the touch was seen (UTC)."""

    bid: Decimal | None = None
    ask: Decimal | None = None
    at: datetime | None = None
    change_24h: Decimal | None = None
    """A fraction: -0.05 is a fall of 5 %."""

    @property
    def crossed(self) -> bool:
        """The best bid is above the best ask: no such book can exist, so the data is wrong."""
        return self.bid is not None and self.ask is not None and self.bid > self.ask

    def ahead(self, now: datetime) -> bool:
        """Its time is in the future."""
        return self.at is not None and (self.at - now).total_seconds() > AHEAD_SECONDS


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits for entries. Fractions as fractions, wall seconds, money in quote currency; see `Policy`."""

    max_open_buys: int = 3
    max_open_trades: int = 0
    max_spread: Decimal = Decimal("0.01")
    buy_on_red_day: bool = False
    max_position: Decimal = Decimal("0.1")
    daily_loss: Decimal = Decimal(500)
    losing_streak: int = 5
    stale_seconds: Decimal = Decimal(120)
    balance_stale_seconds: Decimal = Decimal(120)


@dataclass(frozen=True, slots=True)
class Facts:
    """One read of everything the gates use. Money in quote currency, sizes in base."""

    intent: OrderIntent
    now: datetime
    product: Product | None
    price: Decimal | None
    """The value of one base unit: the limit price, else the touch."""
    size: Decimal | None
    """Base size after rounding; None for a market buy by quote size."""
    standing: Standing = field(default_factory=Standing)
    dry_run: bool = False
    """The whole system decides but sends no orders of this kind."""
    halted: bool = False
    halted_by: str = ""
    """By whom, and why if a reason was given."""
    blocked: bool = False
    hodl: bool = False
    disabled: str = ""
    """Why the symbol may not be bought; empty: it may."""
    limits: Limits = Limits()
    market: MarketFacts = MarketFacts()
    open_buys: int = 0
    open_buys_value: Decimal = Decimal(0)
    """The amount that open buys of the symbol may still spend."""
    open_trades: int = 0
    """The account's open trades, and its entries that may become one; counted only if that is limited."""
    groups: Sequence[GroupUse] = ()
    """The strategy and the trigger that share limits with this entry, as far as they have limits or are halted."""
    own_rate: Decimal | None = Decimal(1)
    """The worth of one unit of quote currency in the account's own; None: not known."""
    own_currency: str = "USD"
    """The account's own currency, in which limits of groups are."""
    held_value: Decimal | None = Decimal(0)
    """Value of the symbol's open trades at the newest price; None: there are some, but no fresh price."""
    account_worth: Decimal | None = None
    """Quote currency plus open trades at the newest price; None while the balance or a price is not known."""
    unpriced: Sequence[str] = ()
    """Symbols of open trades without a fresh price."""
    results: Results = field(default_factory=Results)
    """Of trades that closed since a person last resumed."""
    available_quote: Decimal | None = None
    """None: not known, too old, or in the future."""
    balance_age: Decimal | None = None
    """Wall seconds since the exchange reported the balance; negative: a time in the future. None: never reported."""
    held_elsewhere: Decimal = Decimal(0)
    """Quote currency that the exchange holds for unknown orders: it is not available."""
    quote_why: str = ""
    """For a coin as quote currency: why that amount is not known or not larger, as a clause."""
    needed_quote: Decimal = Decimal(0)
    available_base: Decimal | None = None
    """Sells: size that may be claimed from the named trade or the unowned pool, at most the account's available
    balance."""
    base_why: str = ""
    """Why that is not known or not larger, as a clause; empty: no remark."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What an admitted entry reserves: a place among the open buys of its symbol and the open trades of its trigger,
    and quote currency.
    """

    symbol: str
    quote: Decimal
    trigger: str = ""


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate's result with the values it compared."""

    gate: GateName
    passed: bool
    sentence: str = ""
    numbers: dict[str, str] = field(default_factory=dict)
    asks: Ask | None = None
    """It was refused because this value is not known, not because of the value."""


Gate = Callable[[Facts], GateResult | None]
"""None: it has nothing to check, as no such limit is set for this entry."""


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
