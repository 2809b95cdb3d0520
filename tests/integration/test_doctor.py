"""`bottrader doctor` against real servers: good checks are ok, failed ones have advice."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from activities.database import create_pool
from activities.exits.price_watcher import watcher_lease
from activities.leases import LeaseTerms, hold
from cli.doctor import HealthFinding, HealthVerdict, age_finding, clock_finding, examine
from tests.support.ledger_rows import add_trade
from workers.settings import load_settings
from workers.stack.local_stack import LocalStack, LocalStackConfig


@pytest_asyncio.fixture(scope="module")
async def stack(servers_folder: Path) -> AsyncIterator[LocalStack]:
    """Servers and paper exchange, no worker."""
    config = LocalStackConfig(data=servers_folder / "doctor", ui=False, worker=False)
    async with LocalStack(config) as running:
        yield running


async def findings(stack: LocalStack, **changes: str) -> dict[str, HealthFinding]:
    """The doctor's findings by name of the check."""
    return {
        finding.check: finding for finding in await examine(load_settings(environ={**stack.environment, **changes}))
    }


def other_key(key_file: Path, folder: Path) -> Path:
    """The same key under a name that the exchange does not know."""
    key = {**json.loads(key_file.read_text()), "name": "organizations/none/apiKeys/none"}
    file = folder / "key.json"
    file.write_text(json.dumps(key))
    file.chmod(0o600)
    return file


async def test_healthy_stack_has_no_failure(stack: LocalStack) -> None:
    """Clocks, keys, database, Temporal are ok; without a worker there is a warning that says how to start one."""
    found = await findings(stack)
    ok = {
        "settings",
        "database",
        "database schema",
        "database clock",
        "temporal",
        "search attributes",
        "exchange",
        "stops",
    }
    ok |= {"exchange clock", "API keys"}
    assert {name for name, finding in found.items() if finding.verdict is HealthVerdict.OK} >= ok
    assert all(finding.verdict is not HealthVerdict.FAIL for finding in found.values())
    assert found["worker orders"].verdict is HealthVerdict.WARN
    assert "bottrader worker" in found["worker orders"].advice


async def test_a_database_that_only_reads_fails(stack: LocalStack) -> None:
    """Working reads are not enough: nothing can be decided or recorded, and the advice says what to check."""
    found = await findings(stack)
    assert "accepts writes" in found["database"].finding
    admin = await asyncpg.connect(stack.dsn)
    await admin.execute("ALTER DATABASE bottrader SET default_transaction_read_only = on")
    try:
        found = await findings(stack)
    finally:
        await admin.execute("ALTER DATABASE bottrader RESET default_transaction_read_only")
        await admin.close()
    assert found["database"].verdict is HealthVerdict.FAIL
    assert "accepts no writes" in found["database"].finding
    assert "free space on its disk" in found["database"].advice


async def test_a_position_that_nobody_watches_fails(stack: LocalStack) -> None:
    """Without a watcher's lease the doctor warns; with an open position there it fails and names the symbol."""
    assert (await findings(stack))["watchers"].verdict is HealthVerdict.WARN
    pool = await create_pool(stack.dsn)
    try:
        await add_trade(pool, "alone")
        found = await findings(stack)
        assert found["watchers"].verdict is HealthVerdict.FAIL
        assert "BTC-USD" in found["watchers"].finding
        assert found["user stream"].verdict is HealthVerdict.FAIL
        async with hold(pool, watcher_lease("main", 0), "test", LeaseTerms(seconds=30, renew_seconds=5)):
            assert (await findings(stack))["watchers"].verdict is HealthVerdict.OK
    finally:
        await pool.execute("TRUNCATE orders, trades, exit_plans CASCADE")
        await pool.close()


async def test_database_without_tables_needs_an_upgrade(stack: LocalStack) -> None:
    """A new database is reachable, and the advice is the command that fills it."""
    name = "empty"
    admin = await asyncpg.connect(stack.dsn)
    await admin.execute(f'CREATE DATABASE "{name}"')
    await admin.close()
    found = await findings(stack, DATABASE_URL=stack.dsn.replace("/bottrader?", f"/{name}?"))
    assert found["database"].verdict is HealthVerdict.OK
    assert found["database schema"].verdict is HealthVerdict.FAIL
    assert "bottrader db upgrade" in found["database schema"].advice


async def test_unknown_key_is_told(stack: LocalStack, tmp_path: Path) -> None:
    """A key that the exchange does not know fails, with what to check, and the other checks continue."""
    file = other_key(Path(stack.paper["key_file"]), tmp_path)
    found = await findings(stack, BOTTRADER_EXCHANGE__KEY_FILE=str(file))
    assert found["API keys"].verdict is HealthVerdict.FAIL
    assert "401" in found["API keys"].finding
    assert found["exchange clock"].verdict is HealthVerdict.OK


async def test_missing_namespace_is_told(stack: LocalStack) -> None:
    """A missing namespace fails Temporal's check only."""
    found = await findings(stack, BOTTRADER_TEMPORAL__NAMESPACE="nowhere")
    assert found["temporal"].verdict is HealthVerdict.FAIL
    assert found["database"].verdict is HealthVerdict.OK


async def test_exchange_that_does_not_answer_is_told(stack: LocalStack) -> None:
    """A dead address is a failure with a sentence, not an exception."""
    found = await findings(stack, BOTTRADER_EXCHANGE__REST="127.0.0.1:1")
    assert found["exchange"].verdict is HealthVerdict.FAIL
    assert "exchange.rest does not answer" in found["exchange"].finding


async def test_certificate_that_is_not_trusted_is_told(stack: LocalStack) -> None:
    """Without the paper exchange's own authority the advice is to name it."""
    found = await findings(stack, BOTTRADER_EXCHANGE__CA_FILE="")
    assert found["exchange"].verdict is HealthVerdict.FAIL
    assert "exchange.ca_file" in found["exchange"].advice


async def test_stops_that_the_costs_alone_reach_are_warned_of(stack: LocalStack) -> None:
    """A default stop nearer than the fees of a round trip is a warning with its key, also without a database."""
    assert (await findings(stack))["stops"].verdict is HealthVerdict.OK
    near = {"BOTTRADER_EXITS__SOFT_STOP_PCT": "0.03"}
    for changes in (near, {**near, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}):
        found = (await findings(stack, **changes))["stops"]
        assert found.verdict is HealthVerdict.WARN
        assert found.finding.startswith(
            "exits.soft_stop_pct: the soft stop at 0.03 % is within the cost of a round trip"
        )


@pytest.mark.parametrize(
    ("skew_s", "verdict"),
    [
        (0.0, HealthVerdict.OK),
        (-0.9, HealthVerdict.OK),
        (-1.0, HealthVerdict.WARN),
        (29.0, HealthVerdict.WARN),
        (30.0, HealthVerdict.FAIL),
    ],
)
def test_clock_skew_limits(skew_s: float, verdict: HealthVerdict) -> None:
    """A second is a warning, half a minute a failure, in both directions."""
    assert clock_finding("exchange clock", skew_s).verdict is verdict


def test_data_is_healthy_below_a_minute_of_age() -> None:
    """The newest stream message may be 60 s old at most."""
    assert age_finding("user-stream/main", 59.9).verdict is HealthVerdict.OK
    assert age_finding("user-stream/main", 60.0).verdict is HealthVerdict.FAIL
