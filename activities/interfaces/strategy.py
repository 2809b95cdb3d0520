"""Market data and strategy runs for workflows: names and types, no code.

`activities.market.keeper` and `activities.strategy.runs` implement them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel, ConfigDict
from temporalio import activity

from activities.interfaces.streams import StreamEnd

__all__ = [
    "MarketDataActivity",
    "MarketDataInput",
    "StrategyActivity",
    "StrategyInput",
    "StrategyReport",
    "StrategyRow",
    "StrategyRun",
]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class MarketDataInput(_Message):
    """The account whose market data is kept."""

    account: str


class StrategyInput(_Message):
    """The account whose strategy is run."""

    account: str


class StrategyRun(_Message):
    """One run: its snapshot id is derived from the account and the nominal time, so a retry has the same one."""

    account: str
    snapshot_id: str
    nominal_at: datetime


class StrategyRow(_Message):
    """A symbol's row of the matrix, with the decision's outcome (empty for a hold)."""

    symbol: str
    action: str
    trigger: str | None = None
    buy_score: Decimal = Decimal(0)
    sell_score: Decimal = Decimal(0)
    fired: tuple[str, ...] = ()
    outcome: str = ""
    sentence: str = ""
    order_key: str | None = None


class StrategyReport(_Message):
    """A run's decisions. `rows` starts with buys and sells, then the highest scores, up to a limit."""

    account: str
    snapshot_id: str
    at: datetime
    symbols: int = 0
    buys: int = 0
    sells: int = 0
    started: int = 0
    seconds: float = 0.0
    rows: tuple[StrategyRow, ...] = ()
    sentence: str = ""


class MarketDataActivity(ABC):
    """Prices and candles of the universe, from the exchange's stream to the tables."""

    @activity.defn(name="keep_market_data")
    @abstractmethod
    async def keep_market_data(self, request: MarketDataInput) -> StreamEnd:
        """Keep the account's prices and candles current until cancelled."""


class StrategyActivity(ABC):
    """The strategy, from candles to orders."""

    @activity.defn(name="run_strategy")
    @abstractmethod
    async def run_strategy(self, request: StrategyRun) -> StrategyReport:
        """Compute and store the matrix, start an order for each buy. Idempotent for the same run."""
