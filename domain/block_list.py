"""Finds entries in symbols that were on the block list at the time, by the list's recorded history (HER-12). Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

__all__ = ["BENEATH", "HEARD_WITHIN", "BlockList", "BlockedBuy", "Bought"]

BENEATH: Final = "what was set by command stays in force"
"""The suffix of the recorded reason when a change of a setting has no effect."""
HEARD_WITHIN: Final = timedelta(seconds=5)
"""After this time every worker has received a change; an earlier entry used the list its worker knew."""


@dataclass(frozen=True, slots=True)
class Bought:
    """When an entry was admitted or sent again."""

    order_key: str
    symbol: str
    at: datetime


@dataclass(frozen=True, slots=True)
class BlockedBuy:
    """An entry in a symbol that had been blocked since `since`; `early`: not every worker had received the change
    yet."""

    bought: Bought
    since: datetime
    early: bool


@dataclass(frozen=True, slots=True)
class BlockList:
    """The list's history: known from `since` on (None: never), with the symbols in `first` at that time; `changes`
    holds each change's time and new list, oldest first.
    """

    since: datetime | None
    first: frozenset[str]
    changes: Sequence[tuple[datetime, frozenset[str]]] = ()

    def knows(self, at: datetime) -> bool:
        """Whether the list's content at that time is known."""
        return self.since is not None and at >= self.since

    def blocked_since(self, symbol: str, at: datetime) -> datetime | None:
        """Since when the symbol had been on the list at a time that is known; None: it was not on it."""
        if self.since is None:
            return None
        since: datetime | None = self.since if symbol in self.first else None
        for changed, names in self.changes[: bisect_right([changed for changed, _ in self.changes], at)]:
            since = None if symbol not in names else since or changed
        return since

    def breaches(self, bought: Iterable[Bought]) -> list[BlockedBuy]:
        """Entries made while their symbol was blocked, each once, at its first such time."""
        found: dict[str, BlockedBuy] = {}
        for item in sorted(bought, key=lambda item: item.at):
            since = self.blocked_since(item.symbol, item.at) if self.knows(item.at) else None
            if since is not None:
                early = any(at == since for at, _ in self.changes) and item.at - since < HEARD_WITHIN
                known = found.get(item.order_key)
                if known is None or (known.early and not early):
                    found[item.order_key] = BlockedBuy(item, since, early)
        return list(found.values())
