"""A command of ours as a process in a test's system."""

from __future__ import annotations

from tests.support.harness import TradingSystem
from workers.settings.risk import WITHOUT_LIMITS
from workers.stack.processes import python_environment

__all__ = ["environment"]


def environment(system: TradingSystem) -> dict[str, str]:
    """The environment with which a process belongs to the test's system."""
    settings = system.settings
    exchange, temporal = settings.exchange, settings.temporal
    prefix = "BOTTRADER_"
    return python_environment(
        {
            "DATABASE_URL": settings.database.dsn,
            "TEMPORAL_ADDRESS": temporal.address,
            f"{prefix}ACCOUNT": settings.account,
            f"{prefix}TEMPORAL__ORDERS_QUEUE": temporal.orders_queue,
            f"{prefix}TEMPORAL__STREAMS_QUEUE": temporal.streams_queue,
            f"{prefix}TEMPORAL__WATCHERS_QUEUE": temporal.watchers_queue,
            f"{prefix}EXCHANGE__REST": str(exchange.rest),
            f"{prefix}EXCHANGE__STREAM": str(exchange.stream),
            f"{prefix}EXCHANGE__USER_STREAM": str(exchange.user_stream),
            f"{prefix}EXCHANGE__CA_FILE": str(exchange.ca_file),
            f"{prefix}EXCHANGE__KEY_FILE": str(exchange.key_file),
            f"{prefix}EXCHANGE__PRIVATE_REQUESTS_PER_S": "1000",
            f"{prefix}SYMBOLS__ALLOW": "BTC-USD,ETH-USD",
            f"{prefix}SYMBOLS__MAX_OPEN_BUYS": "1000",
            f"{prefix}STREAMS__RECONNECT_MIN_S": "0.1",
            "COLUMNS": "200",
            **WITHOUT_LIMITS,
        }
    )
