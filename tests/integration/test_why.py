"""`bottrader why`: why a symbol was or wasn't traded, from a real ledger."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from activities.orders.controls import halt
from cli.main import run
from tests.support.admission_desk import Desk, desk_at_a_paper_exchange
from tests.support.intents import linkage, market_buy


@pytest_asyncio.fixture
async def desk(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """Admission, and a command line with the same ledger."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("COLUMNS", "200")
    async with desk_at_a_paper_exchange(database) as running:
        await running.balance("10000")
        yield running


async def why(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints."""
    capsys.readouterr()
    assert await asyncio.to_thread(run, ["why", *arguments]) == 0
    return capsys.readouterr().out


async def matrix_row(desk: Desk, **given: Any) -> str:
    """A row of the matrix as written by a strategy run. Returns its snapshot id."""
    row: dict[str, Any] = {"action": "buy", "trigger": "rsi_oversold", "buy": 0.7, "sell": 0.1, "reason": ""} | given
    snapshot = str(uuid.uuid4())
    parts = {
        "rsi": {"value": "24.5", "fired": True, "weight": "2", "contribution": "1.4"},
        "macd": {"value": "-0.2", "fired": False, "weight": "1", "contribution": "0", "why": "no cross"},
    }
    await desk.pool.execute(
        """INSERT INTO market_snapshots (snapshot_id, symbol, at, price, buy_score, sell_score, action, trigger, reason,
                                         indicator_breakdown, indicators_fired, account)
           VALUES ($1,'BTC-USD',$2,50000,$3,$4,$5,$6,$7,$8,'{rsi}',$9)""",
        snapshot,
        datetime.now(UTC),
        row["buy"],
        row["sell"],
        row["action"],
        row["trigger"],
        row["reason"],
        parts,
        desk.account,
    )
    return snapshot


async def test_a_refused_decision_is_explained(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """The run's scores with every contribution, the gate's refusal in its words, and the numbers of all gates."""
    snapshot = await matrix_row(desk)
    await desk.market(change_24h="-0.042", bid="50000", ask="50001")
    desk.policy = replace(desk.policy, buy_on_red_day=False)
    intent = market_buy(desk.account, linkage=linkage().model_copy(update={"snapshot_id": snapshot}))
    assert (await desk.admit(intent)).gate == "SKIP_RED_DAY"
    told = await why(capsys, "btc-usd")
    assert "decided to buy by rsi_oversold (buy score 0.7, sell score 0.1)." in told
    assert "was refused by SKIP_RED_DAY: BTC-USD fell by 4.20 % over the last 24 hours." in told
    for line in ("24.5", "no cross", "REFUSED", "change_24h -0.042 ", "bid 50000, ask 50001", "24 h -4.20 %"):
        assert line in told
    found = json.loads(await why(capsys, "BTC-USD", "--json"))
    assert [gate["passed"] for gate in found["orders"][0]["gates"]][-2:] == [True, False]
    assert found["orders"][0]["snapshot_id"] == found["matrix"][0]["snapshot_id"] == snapshot
    assert found["matrix"][0]["indicator_breakdown"]["rsi"]["contribution"] == "1.4"


async def test_a_key_of_a_refused_order_is_explained(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """By its key a decision is shown with the gate that refused it, every gate's numbers, and the strategy's reason."""
    snapshot = await matrix_row(desk, reason="RSI is low")
    await desk.market(change_24h="-0.042", bid="50000", ask="50001")
    desk.policy = replace(desk.policy, buy_on_red_day=False)
    intent = market_buy(desk.account, linkage=linkage().model_copy(update={"snapshot_id": snapshot}))
    assert (await desk.admit(intent)).gate == "SKIP_RED_DAY"
    told = await why(capsys, intent.order_key[:10])
    assert "It was refused by SKIP_RED_DAY: BTC-USD fell by 4.20 %" in told
    for words in ("Why it did not buy", "RSI is low", "REFUSED", "change_24h -0.042", "What happened when"):
        assert words in told, told
    assert await asyncio.to_thread(run, ["why", "f" * 32]) == 2
    assert "There is no order whose key begins with" in capsys.readouterr().err


async def test_what_stands_in_the_way_is_said_first(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """A halt with who and why, a symbol that isn't on the list, a run that held with its reason."""
    async with desk.pool.acquire() as connection:
        await halt(connection, desk.account, "the news", "ada")
    await matrix_row(desk, action="hold", trigger=None, buy=0.2, sell=0, reason="the buy score is below 0.6")
    first, second, third = (await why(capsys, "BTC-USD")).splitlines()[:3]
    assert first.startswith("Entries are halted by ada since ")
    assert first.endswith("the news. `bottrader resume` allows them again.")
    assert second.endswith("held (buy score 0.2, sell score 0): the buy score is below 0.6.")
    assert third == "There has been no order for BTC-USD."
    other = await why(capsys, "DOGE-USD")
    assert "DOGE-USD is not bought: it is not among the symbols that may be bought (symbols.allow)." in other
    assert "No strategy run has evaluated DOGE-USD" in other


async def test_what_is_no_product_is_bad_input(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """BTCUSD isn't treated as a product without buys."""
    assert await asyncio.to_thread(run, ["why", "btcusd"]) == 2
    assert "'BTCUSD' is not a product, and nothing is stored for it: write it like BTC-USD." in capsys.readouterr().err


async def test_an_admitted_order_is_explained_too(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Why it was traded: every gate it passed, with the compared numbers; `--last` sets how many."""
    for _ in range(3):
        assert (await desk.admit(market_buy(desk.account, "0.001"))).accepted
    told = await why(capsys, "BTC-USD")
    assert "passed every gate and is ADMITTED." in told
    assert "worth 10000" in told
    found = json.loads(await why(capsys, "BTC-USD", "--json", "--last", "2"))
    assert len(found["orders"]) == 2
