"""What stood in an exit's way, by how it was refused: news that it has gone ends the pause before the next try."""

from __future__ import annotations

from enum import StrEnum

from domain.funds import LACK_OF_FUNDS
from domain.gate_names import GateName

__all__ = ["Obstacle", "obstacle_of"]


class Obstacle(StrEnum):
    """What may go away by itself, and is then told by something else than the next try."""

    COINS = "COINS"
    """Somebody else's sell holds the coins."""
    EXCHANGE = "EXCHANGE"
    """The exchange takes no order at all: the key is refused, it is busy or away."""


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
    """What stood in the way of an exit that was refused by the exchange with `code`, or by `gate`; None: nothing of
    which anybody would tell.
    """
    if gate is not None:
        return next((obstacle for name, obstacle in _OF_GATE.items() if name == gate), None)
    return _OF_CODE.get(code or "")
