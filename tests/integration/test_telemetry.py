"""A worker's metrics, read from its endpoint while real trades go through it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal

import asyncpg
import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from activities.interfaces.orders import PlaceAttempt
from domain.exits import ExitRules
from domain.messages import AttemptPlan, PlaceAnswer, PlaceVerdict
from domain.sharding import shard_of
from tests.support.harness import ALL_ROLES, TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy
from tests.support.waiting import eventually
from workers.errors import UserError
from workers.ledger_gauges import read_gauges
from workers.metrics_server import MetricsServer
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
    assert found['bottrader_fill_matches_total{by="client_id",source="websocket"}'] >= 2
    written = sum(value for name, value in found.items() if re.match(r'bottrader_reports_total.*write="insert"', name))
    assert written == sum(value for name, value in found.items() if name.startswith("bottrader_fills_total")) >= 2
    assert found['bottrader_attempt_ends_total{attempt="1",outcome="FILLED"}'] == 2
    assert found["bottrader_stop_calculation_seconds_count"] >= 1
    assert found['bottrader_unprotected_trades{which="all"}'] == 0
    assert found['bottrader_entries_halted{which="all"}'] == 0
    assert found['bottrader_pnl_today{currency="USD"}'] < 0
    assert found['bottrader_daily_loss_limit{currency="USD"}'] == 0
    assert {name for name in found if name.startswith("bottrader_role_running")} == {
        f'bottrader_role_running{{role="{role}"}}' for role in ALL_ROLES
    }


async def _until_measured(system: TradingSystem, port: int) -> Mapping[str, float]:
    async def so() -> Mapping[str, float] | None:
        found = await scraped(port)
        there = {'bottrader_exits_total{path="HARD_STOP",result="lost"}', 'bottrader_linkage_rate{source="sighook"}'}
        aged = any(name.startswith("bottrader_data_age_seconds") for name in found)
        settled = found.get('bottrader_pnl_today{currency="USD"}', 0) < 0 and not _open_trades(found)
        rejected = 'bottrader_orders_total{outcome="REJECTED"}' in found
        return found if there <= set(found) and aged and settled and rejected else None

    return await eventually(so, within=15, what=f"metrics of {system.account}")


def _open_trades(found: Mapping[str, float]) -> bool:
    return any(name.startswith("bottrader_open_trades") for name in found)


async def test_a_fill_that_can_not_be_recorded_is_counted(database: str, temporal_server: DevServer) -> None:
    """While another transaction holds the fills, recording one fails and is counted; it is recorded afterwards."""
    port = free_port()
    asked = TelemetrySettings(port=port, look_s=Decimal("0.2"))
    async with measured_system(database, temporal_server.address, asked) as system:
        connection = await asyncpg.connect(database)
        try:
            holding = connection.transaction()
            await holding.start()
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            await connection.execute("LOCK TABLE fills IN EXCLUSIVE MODE")
            trade = await system.start(market_buy(system.account, "0.01"))

            async def failed() -> bool:
                found = await scraped(port)
                return any(name.startswith("bottrader_fill_failures_total") for name in found)

            await eventually(failed, within=60, what="a failed fill is counted")
            await holding.rollback()
        finally:
            await connection.close()
        await trade.until_protected("0.01", within=60)


async def test_a_position_that_nobody_watches_shows(database: str, temporal_server: DevServer) -> None:
    """An open trade counts as unprotected, with its time, only while no price watcher has its product and no order
    rests for it at the exchange.
    """
    elsewhere = next(shards for shards in range(2, 100) if shard_of("BTC-USD", shards) != 0)
    async with trading_system(database, temporal_server.address) as system:
        trade = await system.start(market_buy(system.account, "0.01"))
        await trade.until_protected("0.01")
        watched = await read_gauges(system.pool, system.account, shards=1)
        assert watched["unprotected_trades"] == [("all", 0)]
        assert watched["unprotected_age_seconds"] == [("all", 0)]
        alone = await read_gauges(system.pool, system.account, shards=elsewhere)
        assert alone["unprotected_trades"] == [("all", 1)]
        assert alone["unprotected_age_seconds"][0][1] > 0
        await system.pool.execute(
            "UPDATE orders SET protection_role = 'STOP_LOSS', finished = false WHERE entry_key = $1", trade.key
        )
        resting = await read_gauges(system.pool, system.account, shards=elsewhere)
        assert resting["unprotected_trades"] == [("all", 0)]


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1:9", 200), ("localhost", 200), ("[::1]:9", 200), ("evil.test", 403), ("", 403)]
)
async def test_a_page_under_another_name_reads_no_metrics(host: str, status: int) -> None:
    """On loopback the endpoint answers only to an address or localhost, as a name may be bound to this machine by
    anybody.
    """
    server = MetricsServer(CollectorRegistry(), "127.0.0.1", 0, "telemetry.port")
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{server.port}/metrics", headers={"Host": host})
        assert answer.status_code == status
    finally:
        await asyncio.to_thread(server.close)


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


def test_an_exchanges_codes_are_few_and_words() -> None:
    """A code that is no word, or comes after a hundred others, is counted as `other`; those that are known stay."""
    told = Telemetry(CollectorRegistry())
    plan = AttemptPlan(number=1, client_order_id="a-1", body={})
    attempt = PlaceAttempt(order_key="a", symbol="BTC-USD", plan=plan)
    codes = ["", "a\nb", "x" * 61, *(f"CODE_{number}" for number in range(120)), "CODE_5"]
    for code in codes:
        told.ended("place", attempt, PlaceAnswer(verdict=PlaceVerdict.REFUSED, code=code), 0.1)
    text = generate_latest(told.registry).decode()
    counted = dict(re.findall(r'^bottrader_attempts_total\{.*code="([^"]*)".*\} (\S+)$', text, re.MULTILINE))
    assert len(counted) == 101
    assert (counted["CODE_5"], counted["CODE_98"], counted[""]) == ("2.0", "1.0", "1.0")
    assert "CODE_99" not in counted
    assert counted["other"] == "23.0"


def test_what_can_not_be_counted_is_no_failure() -> None:
    """An activity's answer of any kind passes; the memory for attempts is bounded."""
    told = Telemetry(CollectorRegistry())
    for number in range(20_000):
        told.ended("close_trade", None, None, 0.1)
        told.sent(number)
    told.failed("record", 0.1)
