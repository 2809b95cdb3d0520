"""Messages of `up` on its stop and on the ledger's check, with a real ledger; and unwatched trades."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from activities.exits.price_watcher import watcher_lease
from activities.leases import LeaseTerms, hold
from cli.leaving import ledger_check, left_behind, left_sentences
from cli.main import run
from tests.support.ledger_rows import ACCOUNT, add_trade


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool on a new ledger."""
    found = await create_pool(database)
    yield found
    await found.close()


async def test_stopping_says_what_is_no_longer_watched(pool: Pool, database: str) -> None:
    """Open trades are counted with their symbols; without any there is no message; an unreachable database is
    reported."""
    assert await left_behind(database, ACCOUNT, paper=True) == []
    await add_trade(pool, "a")
    await add_trade(pool, "b", symbol="ETH-USD")
    first, second = await left_behind(database, ACCOUNT, paper=False)
    assert first.startswith("2 open trades are no longer watched (BTC-USD, ETH-USD)")
    assert "no protection orders" in second
    (away,) = await left_behind("postgresql://nobody@127.0.0.1:9/none", ACCOUNT, paper=False)
    assert "is not known" in away


def test_what_rests_at_the_exchange_is_counted() -> None:
    """Protection orders are listed with their trades, other orders apart, and what paper means for them."""
    row = {"trades": ["BTC-USD"], "protected": 1, "protections": 1, "others": 2}
    trade, rests = left_sentences(row, paper=False)
    assert trade.startswith("1 open trade is no longer watched (BTC-USD)")
    assert rests.startswith("At the exchange rest 1 protection order for 1 trade and 2 other orders")
    assert left_sentences(row, paper=True)[1].startswith("The paper exchange stops too")
    assert left_sentences({"trades": None, "protected": 0, "protections": 0, "others": 0}, paper=False) == []


@pytest.mark.parametrize(("fine", "said"), [(True, "no violations"), (False, "3 violations found")])
async def test_the_starts_check_is_told(pool: Pool, database: str, fine: bool, said: str) -> None:
    """The result of the check since the start, in a sentence; an older one is not shown."""
    since = datetime.now(UTC)
    assert await ledger_check(database, ACCOUNT, since, within_s=0.1) is None
    insert = (
        "INSERT INTO ledger_checks (account, at, why, ok, violations, seconds, report) VALUES ($1,$2,'',$3,$4,0.5,'{}')"
    )
    await pool.execute(insert, ACCOUNT, since - timedelta(seconds=1), not fine, 1)
    await pool.execute(insert, ACCOUNT, since + timedelta(seconds=1), fine, 0 if fine else 3)
    assert said in str(await ledger_check(database, ACCOUNT, since))


async def test_a_trade_reads_protected_only_while_its_watcher_holds_its_lease(
    pool: Pool, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`trades` and `trade show` say "not watched" without a fresh lease, and don't mention it with one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTTRADER_DATA", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("COLUMNS", "200")
    key = await add_trade(pool, "alone")

    async def told(*command: str) -> str:
        capsys.readouterr()
        assert await asyncio.to_thread(run, list(command)) == 0
        return capsys.readouterr().out

    assert "PROTECTED (not watched)" in await told("trades")
    assert "PROTECTED (not watched)" in await told("trade", "show", key)
    assert [item["watched"] for item in json.loads(await told("trades", "--json"))] == [False]
    async with hold(pool, watcher_lease(ACCOUNT, 0), "test", LeaseTerms(seconds=30, renew_seconds=5)):
        assert "not watched" not in await told("trades")
        (row,) = json.loads(await told("trades", "--json"))
        assert (row["state"], row["watched"]) == ("PROTECTED", True)
