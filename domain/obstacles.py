"""The cause of an exit's refusal: the report that it is gone ends the pause before the next attempt."""

from __future__ import annotations

from enum import StrEnum

from domain.funds import LACK_OF_FUNDS
from domain.gate_names import GateName

__all__ = ["Obstacle", "obstacle_of"]


class Obstacle(StrEnum):
    """A cause that may end by itself, and whose end is reported independently of the next attempt."""

    COINS = "COINS"
    """Another sell holds the coins."""
    EXCHANGE = "EXCHANGE"
    """The exchange accepts no orders at all: it refuses the key, is busy or unavailable."""


_OF_CODE = {
    **dict.fromkeys(LACK_OF_FUNDS, Obstacle.COINS),
    "AUTH_FAILURE": Obstacle.EXCHANGE,
    "RATE_LIMITED": Obstacle.EXCHANGE,
    "UNAVAILABLE": Obstacle.EXCHANGE,
    "NOT_ACCEPTED": Obstacle.EXCHANGE,
}
_OF_GATE = {
    GateName.INSUFFICIENT_BALANCE: Obstacle.COINS,
    GateName.BELOW_MINIMUM_SIZE: Obstacle.COINS,
    GateName.INVALID_SIZE: Obstacle.COINS,
}


def obstacle_of(code: str | None, gate: str | None) -> Obstacle | None:
    """The cause of an exit's refusal by the exchange with `code`, or by `gate`; None: its end would not be reported."""
    if gate is not None:
        return next((obstacle for name, obstacle in _OF_GATE.items() if name == gate), None)
    return _OF_CODE.get(code or "")
