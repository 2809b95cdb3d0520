"""What an exit may sell beside what may still sell its trade."""

from __future__ import annotations

from decimal import Decimal

from temporalio import workflow

__all__ = ["sells_beside"]

_DUST_IS_NOTHING = "dust beside what may still sell a trade is nothing to sell"


def sells_beside(remaining: Decimal, claimed: Decimal, free: Decimal | None) -> bool:
    """Whether an exit has something to sell beside what may still sell `claimed` of what its trade has left.

    `free` is that as an order that the exchange takes; None where the product's rules are not known.
    """
    if remaining <= claimed:
        return False
    return free is None or free > 0 or not workflow.patched(_DUST_IS_NOTHING)
