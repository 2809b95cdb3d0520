"""`bottrader why KEY`: the explanation of one trade or order, from a real ledger."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio

from activities.database import Pool, create_pool
from cli.main import run
from cli.why_key import is_key
from tests.support.generated_ledger import write_ledger

Capture = pytest.CaptureFixture[str]


@pytest_asyncio.fixture
async def pool(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    """A ledger of closed trades with a computed FIFO book, and a command line that reads it."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("COLUMNS", "200")
    await write_ledger(database, 20, seed=6)
    assert await asyncio.to_thread(run, ["ledger", "repair", "--yes", "--json"]) == 0
    found = await create_pool(database, size=2, statement_seconds=20)
    yield found
    found.terminate()


async def why(capsys: Capture, *arguments: str) -> str:
    """The command's output."""
    capsys.readouterr()
    assert await asyncio.to_thread(run, ["why", *arguments]) == 0
    return capsys.readouterr().out


async def test_a_trade_is_explained_from_decision_to_result(pool: Pool, capsys: Capture) -> None:
    """Why it bought, why it sold with target, price and slippage, each lot, and its timeline; an order that sells of
    it, or the beginning of its key, gives the same.
    """
    key = await pool.fetchval("SELECT entry_key FROM trades ORDER BY entry_key LIMIT 1")
    leaving = await pool.fetchrow("SELECT * FROM trade_exits WHERE entry_key = $1", key)
    found = json.loads(await why(capsys, key, "--json"))
    assert [section["about"] for section in found["why"]] == ["bought", "sold", "result"]
    assert Decimal(found["result"]["pnl"]) == await pool.fetchval("SELECT pnl FROM trades WHERE entry_key = $1", key)
    lots = await pool.fetchval(
        "SELECT sum(a.pnl) FROM fifo_allocations a JOIN fills f ON f.id = a.sell_fill WHERE f.order_key = $1",
        leaving["order_key"],
    )
    assert sum(Decimal(lot["pnl"]) for lot in found["lots"]) == lots
    assert [line["at"] for line in found["timeline"]] == sorted(line["at"] for line in found["timeline"])
    plain = await why(capsys, key[:12])
    for words in ("Why it bought", "Why it sold", leaving["reason"], "Lots that its sells closed", "What happened when",
                  "Indicators of the decision"):  # fmt: skip
        assert words in plain, plain
    assert json.loads(await why(capsys, leaving["order_key"], "--json")) == found


def test_a_key_is_told_from_a_product() -> None:
    """Six or more characters of a key, and a workflow's id, are keys; products are not."""
    assert all(is_key(text) for text in ("4f2a91", "order-" + "a" * 32, "exit-4f2a91b", "4f2a91bc-1", "ABCDEF"))
    assert not any(is_key(text) for text in ("BTC-USD", "btcusd", "FADE-USD", "4f2a9", "", "order-", "ADA-EUR"))
