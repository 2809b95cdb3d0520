"""A trade's state and exit prices, as shown in the list of trades, in `trade show` and in Telegram's /trades."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.wording import about

__all__ = ["state_words", "stops_words"]


def state_words(row: Mapping[str, Any]) -> str:
    """The trade's state, with a remark if its price is not watched: then its stops don't protect it."""
    return f"{row['state']} (not watched)" if row["watched"] is False else str(row["state"])


def stops_words(row: Mapping[str, Any]) -> str:
    """The exit prices: soft and hard stop, or the trailing stop once that is armed, and the profit target."""
    if row["trailing_stop"] is not None:
        return f"trailing {about(row['trailing_stop'])}"
    text = f"{about(row['soft_stop'])} / {about(row['hard_stop'])}"
    return text + (f", profit {about(row['take_profit'])}" if row["take_profit"] is not None else "")
