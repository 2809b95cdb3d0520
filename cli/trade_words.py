"""Where a trade stands and where it would be sold, as the list of trades and a trade's story tell it."""

from collections.abc import Mapping
from typing import Any

__all__ = ["state_words", "stops_words"]


def state_words(row: Mapping[str, Any]) -> str:
    """The trade's state, and whether what it says is so: nothing is protected by stops that nobody watches."""
    return f"{row['state']} (not watched)" if row["watched"] is False else str(row["state"])


def stops_words(row: Mapping[str, Any]) -> str:
    """Where it would be sold: soft and hard stop, or the trailing stop once that is armed, and the profit target."""
    from domain.wording import about

    if row["trailing_stop"] is not None:
        return f"trailing {about(row['trailing_stop'])}"
    text = f"{about(row['soft_stop'])} / {about(row['hard_stop'])}"
    return text + (f", profit {about(row['take_profit'])}" if row["take_profit"] is not None else "")
