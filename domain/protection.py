"""Protection that rests at the exchange (EXIT-8): its kinds and its prices.

A stop-limit sells when the price falls to its stop. A bracket is one order with two legs, of which only one can fill: a
limit at the target, and a stop. The stop is wider than the price watcher's hard stop, by costs and ordinary swings
(EXIT-6), so that it acts only when no price watcher does.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from domain.exits import ExitReason, ExitRules
from domain.money import EXACT, ZERO, divide, round_down, round_up

__all__ = [
    "Protection",
    "ProtectionKind",
    "ProtectionRole",
    "ProtectivePrices",
    "as_moved",
    "leg_of",
    "moved_by_person",
    "protective_prices",
    "stop_fraction",
]

_ONE = Decimal(1)


class ProtectionKind(StrEnum):
    """The kind of protective order at the exchange."""

    STOP_LIMIT = "STOP_LIMIT"
    BRACKET = "BRACKET"


class ProtectionRole(StrEnum):
    """An order's part in a protected trade."""

    PRIMARY = "PRIMARY"
    """The entry."""
    TAKE_PROFIT = "TAKE_PROFIT"
    STOP_LOSS = "STOP_LOSS"
    OCO = "OCO"
    """Both legs in one order; the leg that fills gives it its role."""


class Protection(BaseModel):
    """How a trade is protected at the exchange. Fractions of the entry price; 0.05 is 5 %."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: ProtectionKind
    stop: Decimal = Field(gt=0, lt=1, description="loss at which it sells, before costs and swings are added")
    take_profit: Decimal | None = Field(default=None, gt=0, description="gain of a bracket's limit leg")
    limit_offset: Decimal = Field(
        default=Decimal("0.01"), ge=0, lt=1, description="how far below its stop a stop-limit may sell, of the stop"
    )
    failsafe: bool = Field(default=False, description="a failure's message has recommended actions")
    tries: int = Field(default=5, ge=1, le=20)

    @model_validator(mode="after")
    def _bracket_has_a_target(self) -> Protection:
        if self.kind is ProtectionKind.BRACKET and self.take_profit is None:
            raise ValueError("a bracket needs a take profit")
        return self


@dataclass(frozen=True, slots=True)
class ProtectivePrices:
    """Prices of a protective sell, on the tick: where it triggers, and its limit (a bracket's target)."""

    stop: Decimal
    limit: Decimal


def stop_fraction(
    configured: Decimal, *, taker_fee: Decimal, spread: Decimal | None, atr: Decimal | None, price: Decimal
) -> Decimal:
    """The loss at which a stop at the exchange triggers: the configured one plus taker fee, spread and one ATR.

    `spread` and `atr` in quote per base, the others as fractions. Without an ATR, or if the sum is not plausible (not
    above zero, or more than twice the configured one), it is bounded by the configured stop and its double.
    """
    if atr is None or atr <= 0 or price <= 0:
        return configured
    room = divide(max(spread or ZERO, ZERO) + atr, price)
    return min(max(configured + max(taker_fee, ZERO) + room, configured), 2 * configured, Decimal("0.99"))


def protective_prices(
    protection: Protection, entry_price: Decimal, fraction: Decimal, tick: Decimal
) -> ProtectivePrices:
    """Where a sell rests for a trade bought at `entry_price` (quote per base) with its stop at `fraction`.

    Rounded so that neither leg acts early: the stop and its limit down, the target up. Raises ValueError where the
    stop would not be above zero and below the entry price.
    """
    stop = round_down(EXACT.multiply(entry_price, _ONE - fraction), tick)
    if not ZERO < stop < entry_price:
        raise ValueError(f"a stop at {stop} does not protect a position bought at {entry_price}")
    if protection.kind is ProtectionKind.BRACKET:
        target = protection.take_profit or ZERO
        return ProtectivePrices(stop, round_up(EXACT.multiply(entry_price, _ONE + target), tick))
    limit = round_down(EXACT.multiply(stop, _ONE - protection.limit_offset), tick)
    return ProtectivePrices(stop, max(limit, tick))


def moved_by_person(rules: ExitRules) -> bool:
    """Whether a person has moved the protective order's prices."""
    return rules.protection_stop is not None or rules.protection_target is not None or rules.protection_alone


def as_moved(protection: Protection, rules: ExitRules) -> Protection:
    """The protection of a trade whose stops a person may have moved (EXIT-14)."""
    stop, target = rules.protection_stop, rules.protection_target
    bracket = protection.kind is ProtectionKind.BRACKET
    return protection.model_copy(
        update={
            # Who wants no target is not to be sold at one: a stop alone does the rest.
            "kind": ProtectionKind.STOP_LIMIT if bracket and rules.protection_alone else protection.kind,
            "stop": stop or protection.stop,
            "take_profit": (target if bracket else None) or protection.take_profit,
        }
    )


def leg_of(
    role: ProtectionRole, limit: Decimal | None, size: Decimal, value: Decimal
) -> tuple[ProtectionRole, ExitReason]:
    """Which leg of a protective sell has filled, and the exit's reason, by its average price so far.

    A target's limit sells at its price or better, a stop below it: one piece sold by the stop makes it a stop.
    """
    if role in (ProtectionRole.OCO, ProtectionRole.TAKE_PROFIT) and limit is not None and value >= size * limit:
        return ProtectionRole.TAKE_PROFIT, ExitReason.TP
    return ProtectionRole.STOP_LOSS, ExitReason.HARD_STOP
