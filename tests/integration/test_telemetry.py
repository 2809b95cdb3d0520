"""A worker's metrics, read from its endpoint while real trades go through it."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal

import httpx
import pytest
from prometheus_client import CollectorRegistry

from domain.exits import ExitRules
from tests.support.harness import ALL_ROLES, TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from workers.errors import UserError
from workers.runner import workers_for
from workers.schedules import ensure_singletons
from workers.settings import Settings, TelemetrySettings
from workers.stack.dev_server import DevServer
from workers.telemetry import Telemetry, telemetry


def free_port() -> int:
    """A free port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def scraped(port: int) -> Mapping[str, float]:
    """Every sample of the endpoint by its name and labels."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
    lines = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@contextlib.asynccontextmanager
async def measured_system(database: str, temporal: str, asked: TelemetrySettings) -> AsyncIterator[TradingSystem]:
    """A system with metrics, as `run_worker` starts it."""
    async with (
        trading_system(database, temporal, roles=frozenset()) as system,
        telemetry(system.settings.model_copy(update={"telemetry": asked}), system.pool) as interceptors,
        contextlib.AsyncExitStack() as running,
    ):
        system.parts.interceptors = interceptors
        for worker in workers_for(system.parts, set(ALL_ROLES)):
            await running.enter_async_context(worker)
        await ensure_singletons(system.client, system.settings)
        await system.until_streams_are_up()
        yield system


async def test_a_trades_life_is_measured(database: str, temporal_server: DevServer) -> None:
    """Admissions, attempts, fills with their delays, exits by path and the ledger's rates, as Prometheus text."""
    port = free_port()
    asked = TelemetrySettings(port=port, look_s=Decimal("0.2"))
    async with measured_system(database, temporal_server.address, asked) as system:
        rules = ExitRules(reprice_seconds=Decimal("0.2"), max_reprices=1)
        trade = await system.start(market_buy(system.account, "0.01", rules=rules))
        await trade.until_protected("0.01")
        await system.price("47000")
        await trade.closed()
        refused = await system.start(limit_buy(system.account, "9000000", "50000"))
        await refused.result()
        found = await _until_measured(system, port)
    assert found['bottrader_admissions_total{gate="",outcome="accepted"}'] == 2
    assert sum(value for name, value in found.items() if re.match(r"bottrader_admissions.*refused", name)) == 1
    assert sum(value for name, value in found.items() if re.match(r"bottrader_attempts.*ACCEPTED", name)) == 2
    assert found['bottrader_exits_total{path="HARD_STOP",result="lost"}'] == 1
    assert found['bottrader_orders_total{outcome="FILLED"}'] == 2
    assert found['bottrader_orders_total{outcome="REJECTED"}'] == 1
    assert found["bottrader_fill_to_recorded_seconds_count"] >= 2
    assert found["bottrader_placement_to_fill_seconds_count"] == 2
    assert 0 <= found["bottrader_placement_to_fill_seconds_sum"] < 10
    assert found['bottrader_linkage_rate{source="sighook"}'] == 1
    ages = [value for name, value in found.items() if name.startswith("bottrader_data_age_seconds")]
    assert ages
    assert max(ages) < 60


async def _until_measured(system: TradingSystem, port: int) -> Mapping[str, float]:
    async def so() -> Mapping[str, float] | None:
        found = await scraped(port)
        there = {'bottrader_exits_total{path="HARD_STOP",result="lost"}', 'bottrader_linkage_rate{source="sighook"}'}
        aged = any(name.startswith("bottrader_data_age_seconds") for name in found)
        return found if there <= set(found) and aged and 'bottrader_orders_total{outcome="REJECTED"}' in found else None

    return await eventually(so, within=15, what=f"metrics of {system.account}")


async def test_no_port_means_nothing_is_measured() -> None:
    """By default there is neither an endpoint nor an interceptor."""
    async with telemetry(Settings(), None) as interceptors:
        assert interceptors == ()


async def test_a_port_in_use_is_a_sentence() -> None:
    """If the configured port is taken, the message says which setting to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(telemetry=TelemetrySettings(port=taken.getsockname()[1]))
        with pytest.raises(UserError, match=r"telemetry\.port"):
            async with telemetry(settings, None):
                pass


def test_what_can_not_be_counted_is_no_failure() -> None:
    """An activity's answer of any kind passes; the memory for attempts is bounded."""
    told = Telemetry(CollectorRegistry())
    for number in range(20_000):
        told.ended("close_trade", None, None, 0.1)
        told.sent(number)
    told.failed("record", 0.1)
    told.close()
