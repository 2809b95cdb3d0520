"""The long-running activities behind the streams, for workflows: names and types, no code.

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
    """The account whose user stream is read."""

    account: str


class WatcherInput(_Message):
    """The part of an account's symbols to watch."""

    account: str
    shard: int = Field(default=0, ge=0)
    shards: int = Field(default=1, ge=1)


class StreamEnd(_Message):
    """Why a stream activity returned. Normally it never returns: it is cancelled, or fails and is retried."""

    reason: str


class SweepInput(_Message):
    """The account whose open trades and orders to check."""

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
    """Accepted closes and cancels that are not done, as `close/<key>`, sent again to the running workflows."""


class UserStreamActivity(ABC):
    """The account's own orders, from the exchange's stream to the workflows."""

    @activity.defn(name="run_user_stream")
    @abstractmethod
    async def run_user_stream(self, request: UserStreamInput) -> StreamEnd:
        """Commit each fact and route it, until cancelled."""


class WatcherActivity(ABC):
    """Compares prices with the armed exit plans."""

    @activity.defn(name="watch_prices")
    @abstractmethod
    async def watch_prices(self, request: WatcherInput) -> StreamEnd:
        """Signal each due exit, until cancelled."""


class SweepActivity(ABC):
    """Restores workflows that must be running."""

    @activity.defn(name="sweep")
    @abstractmethod
    async def sweep(self, request: SweepInput) -> SweepReport:
        """Start missing workflows and resend accepted closes and cancels. Idempotent."""
