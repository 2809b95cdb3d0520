"""The long activities behind the streams as workflows see them: names and types, no code.

Workflows import this module and `activities.interfaces.orders` only; `activities.streams.user_stream`,
`activities.exits.price_watcher` and `activities.reconcile.sweep` implement it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import BaseModel, ConfigDict, Field
from temporalio import activity

__all__ = [
    "StreamEnd",
    "SweepActivity",
    "SweepInput",
    "SweepReport",
    "UserStreamActivity",
    "UserStreamInput",
    "WatcherActivity",
    "WatcherInput",
]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True)


class UserStreamInput(_Message):
    """Whose user stream."""

    account: str


class WatcherInput(_Message):
    """Which part of an account's symbols to watch."""

    account: str
    shard: int = Field(default=0, ge=0)
    shards: int = Field(default=1, ge=1)


class StreamEnd(_Message):
    """Why a stream activity returned. It normally never does: it is cancelled, or fails and is tried again."""

    reason: str


class SweepInput(_Message):
    """Which account's open trades and orders to look through."""

    account: str


class SweepReport(_Message):
    """What a sweep found and started."""

    open_trades: int = 0
    open_orders: int = 0
    monitors_started: tuple[str, ...] = ()
    """Entry keys of trades that had no running monitor."""
    orders_started: tuple[str, ...] = ()
    """Keys of orders that had no running workflow."""
    wishes_told: tuple[str, ...] = ()
    """Accepted closes and cancels that are not done, as `close/<key>`, and were told to whoever runs."""


class UserStreamActivity(ABC):
    """The account's own orders, from the exchange's stream to the workflows."""

    @activity.defn(name="run_user_stream")
    @abstractmethod
    async def run_user_stream(self, request: UserStreamInput) -> StreamEnd:
        """Commit each fact and route it, for as long as it is not cancelled."""


class WatcherActivity(ABC):
    """Prices, held against the armed exit plans."""

    @activity.defn(name="watch_prices")
    @abstractmethod
    async def watch_prices(self, request: WatcherInput) -> StreamEnd:
        """Signal each exit that is due, for as long as it is not cancelled."""


class SweepActivity(ABC):
    """What must have a live workflow gets one."""

    @activity.defn(name="sweep")
    @abstractmethod
    async def sweep(self, request: SweepInput) -> SweepReport:
        """Start what is missing, tell what was promised; starting what runs, or telling it again, changes nothing."""
