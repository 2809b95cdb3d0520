"""Warnings about stops and targets in the settings that are within the cost of a round trip, by key."""

from __future__ import annotations

from collections.abc import Iterator

from domain.round_trip import ASSUMED_TAKER, LEVELS, RoundTrip, near, near_levels
from workers.settings import Settings
from workers.settings.values import exit_rules, protection_for

__all__ = ["assumed_round_trip", "near_costs"]


def assumed_round_trip(settings: Settings) -> RoundTrip:
    """The cost of a round trip if the account's own fee rates aren't known: the paper exchange's, else Coinbase's."""
    return RoundTrip(settings.paper.taker_fee_pct / 100 if settings.mode == "paper" else ASSUMED_TAKER)


def near_costs(settings: Settings, trip: RoundTrip) -> Iterator[str]:
    """A sentence for each such setting, the most general first; values a trigger inherits from `[exits]` only once."""
    general = near_levels(exit_rules(settings.exits), trip)
    for name, sentence in general.items():
        yield f"exits.{name}_pct: {sentence}"
    for trigger in settings.triggers:
        for name, sentence in near_levels(exit_rules(settings.exits_for(trigger)), trip).items():
            if general.get(name) != sentence:
                yield f"triggers.{trigger}.exits.{name}_pct: {sentence}"
        yield from _near_protection(settings, trigger, trip)


def _near_protection(settings: Settings, trigger: str, trip: RoundTrip) -> Iterator[str]:
    given, chosen = settings.triggers[trigger].protection, protection_for(settings, trigger)
    if chosen is None:
        return
    own = {"stop_pct": (given.stop_pct, chosen.stop), "take_profit_pct": (given.take_profit_pct, chosen.take_profit)}
    for name, (set_here, distance) in own.items():
        if set_here is not None and distance is not None and distance < trip.cost:
            called = LEVELS["take_profit"] if name == "take_profit_pct" else "the stop at the exchange"
            yield f"triggers.{trigger}.protection.{name}: {near(called, distance, trip)}"
