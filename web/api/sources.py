"""Sources of the API's answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.telegram import Manner
from web.views import Json, Ledger

__all__ = ["Sources", "TelegramView"]


@dataclass(frozen=True, slots=True)
class TelegramView:
    """What the settings send to Telegram: to how many chats, and how an event of a kind and severity."""

    chats: int
    manner: Callable[[str, str], Manner]


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of the answers. `streams` are the names of those that should be heard."""

    ledger: Ledger
    account: str
    unwatched: Callable[[Collection[str]], Awaitable[Collection[str]]]
    """Those of these symbols whose price no watcher watches now."""
    groups: Callable[[str, datetime | None, datetime | None], Awaitable[list[dict[str, Any]]]]
    """Figures of closed trades by `By`, of a range of closing times, as `bottrader report` has them."""
    today: Callable[[], Awaitable[dict[str, Any]]]
    """The UTC day's result and the losses in a row, each beside its limit."""
    limits: Callable[[], Awaitable[Json]]
    """What the account, its strategies and its triggers use of their limits (`web.views.limits`)."""
    why: Callable[[str, int], Awaitable[Json]]
    """Why a product was traded or not, with this many of the newest runs, signals and orders."""
    linkage: Callable[[], Awaitable[Json]]
    """How many filled orders are linked to their decision, of all filled orders."""
    health: Callable[[], Awaitable[Json]]
    """The findings on each part, and when they were made."""
    streams: Sequence[str] = ()
    telegram: TelegramView | None = None
    """None without chats."""
