"""Halting, resuming and showing one strategy: the command line and the API on one ledger say and do the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
import pytest_asyncio

from cli.api_hands import hands_of
from cli.api_sources import sources_of
from cli.main import run
from tests.support.admission_desk import Desk, desk_at_a_paper_exchange
from tests.support.api import api_on
from tests.support.intents import limit_buy
from web.api.actions import action_routes
from web.api.reads import read_routes
from workers.settings import load_settings
from workers.settings.values import policy_of

Capture = pytest.CaptureFixture[str]
RISK = {
    "MAX_POSITION_PCT": "100",
    "MAX_OPEN_TRADES": "9",
    "STRATEGIES__DIP__TRIGGERS": "rsi_oversold,bb_squeeze",
    "STRATEGIES__DIP__BUDGET": "500",
    "STRATEGIES__DIP__DAILY_LOSS_LIMIT": "50",
    "TRIGGERS__MACD_CROSS__MAX_OPEN_TRADES": "2",
}


@pytest_asyncio.fixture
async def desk(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """Admission by the settings of the environment, and a command line with the same ledger and settings."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("COLUMNS", "200")
    for name, value in RISK.items():
        monkeypatch.setenv(f"BOTTRADER_RISK__{name}", value)
    async with desk_at_a_paper_exchange(database) as running:
        running.policy = policy_of(load_settings())
        await running.balance("100000")
        await running.market(bid="50000", ask="50001", price="50000", change_24h="0.01")
        await running.trade(trigger="rsi_oversold", size="2", price="100")
        await running.trade("-12.5", trigger="bb_squeeze")
        yield running


@pytest_asyncio.fixture
async def api(desk: Desk) -> AsyncIterator[Any]:
    """The API on the same ledger."""
    settings = load_settings()
    routers = [
        read_routes(sources_of(settings, desk.pool, lambda: desk.policy)),
        action_routes(hands_of(settings, desk.pool, lambda: desk.policy)),
    ]
    async with api_on(routers=routers, account=desk.account) as running, running.page() as page:
        yield page


async def bottrader(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    """The command's exit code, answer and notes."""
    capsys.readouterr()
    code = await asyncio.to_thread(run, list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


async def gate_of(desk: Desk) -> str | None:
    """What refuses an entry of the strategy dip now; None if nothing does."""
    return (await desk.admit(limit_buy(desk.account, "0.001", "50000"))).gate


async def summary(api: Any) -> dict[str, Any]:
    """The limits of the API's summary."""
    answer: httpx.Response = await api.http.get("/api/monitoring/summary")
    found: dict[str, Any] = answer.json()["limits"]
    return found


async def test_a_strategy_is_halted_and_resumed_by_command(desk: Desk, capsys: Capture) -> None:
    """With reason and person; exit code 1 when nothing changes; `status` and `why` show it until it is resumed."""
    code, out, _ = await bottrader(capsys, "halt", "--strategy", "dip", "--reason", "the news", "--by", "ada")
    assert (code, out) == (0, "Entries of strategy dip are halted (account main).\n")
    assert await gate_of(desk) == "SKIP_STRATEGY_HALTED"
    again = await bottrader(capsys, "halt", "--strategy", "dip", "--json")
    assert (again[0], json.loads(again[1])["changed"]) == (1, False)
    shown = (await bottrader(capsys, "status"))[1]
    assert "strategy dip" in shown
    assert "HALTED by" in shown
    told = (await bottrader(capsys, "why", "BTC-USD"))[1]
    assert "No entry of strategy dip passes: halted by" in told
    assert "the news; `bottrader resume --strategy dip` allows them again." in told
    code, out, _ = await bottrader(capsys, "resume", "--strategy", "dip")
    assert (code, out) == (0, "Entries of strategy dip are resumed (account main).\n")
    assert await gate_of(desk) is None
    assert (await bottrader(capsys, "resume", "--strategy", "dip"))[0] == 1
    assert (await bottrader(capsys, "halt", "--trigger", "rsi_oversold"))[0] == 0
    assert await gate_of(desk) == "SKIP_TRIGGER_HALTED"
    assert "HALTED" not in (await bottrader(capsys, "status"))[1].splitlines()[0], "the account isn't halted"


async def test_what_does_not_exist_is_not_halted(desk: Desk, capsys: Capture) -> None:
    """A mistyped name gets one sentence with the known ones, exit code 2, and nothing is stored."""
    code, _, err = await bottrader(capsys, "halt", "--strategy", "dop")
    assert (code, "There is no strategy of that name: [risk.strategies] has dip." in " ".join(err.split())) == (2, True)
    code, _, err = await bottrader(capsys, "halt", "--trigger", "dip")
    assert code == 2
    assert "There is no trigger of that name: [triggers] has bb_squeeze, macd_cross" in " ".join(err.split())
    code, _, err = await bottrader(capsys, "halt", "--strategy", "dip", "--trigger", "rsi_oversold")
    assert (code, "not both" in err) == (2, True)
    assert await desk.value("SELECT count(*) FROM group_controls") == 0
    assert await desk.value("SELECT count(*) FROM account_controls") == 0


async def test_a_halt_of_a_strategy_that_the_settings_lost_is_shown_and_resumed(
    desk: Desk, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds nothing any more, and is shown until somebody resumes it."""
    assert (await bottrader(capsys, "halt", "--strategy", "dip"))[0] == 0
    for name in RISK:
        if "DIP" in name:
            monkeypatch.delenv(f"BOTTRADER_RISK__{name}")
    desk.policy = policy_of(load_settings())
    assert await gate_of(desk) is None
    assert "strategy dip" in (await bottrader(capsys, "status"))[1]
    assert (await bottrader(capsys, "resume", "--strategy", "dip"))[0] == 0
    assert "strategy dip" not in (await bottrader(capsys, "status"))[1]


async def test_what_is_used_of_limits_is_shown(desk: Desk, api: Any, capsys: Capture) -> None:
    """Budget, open trades and today's loss beside their limits, the same in `status` and the API's summary."""
    await desk.admit(limit_buy(desk.account, "0.002", "50000"))
    open_entry = Decimal(100) * (1 + (await desk.venue.fee_rates("BTC-USD")).taker)
    found = await summary(api)
    assert (found["currency"], found["open_trades"], found["open_trades_limit"]) == ("USD", 2, 9)
    dip, macd = found["groups"]
    assert (dip["kind"], dip["name"], dip["triggers"]) == ("strategy", "dip", ["bb_squeeze", "rsi_oversold"])
    assert [Decimal(dip[name]) for name in ("open_money", "budget", "pnl_today", "loss_limit")] == [
        200 + open_entry,
        500,
        Decimal("-12.5"),
        50,
    ]
    assert (dip["open_trades"], dip["open_trades_limit"], dip["halted"]) == (2, None, False)
    assert (macd["name"], macd["budget"], macd["open_trades"], macd["open_trades_limit"]) == ("macd_cross", None, 0, 2)
    assert json.loads((await bottrader(capsys, "status", "--json"))[1])["limits"] == found
    shown = (await bottrader(capsys, "status"))[1]
    for words in (f"{200 + open_entry:.2f} of 500.00", "-12.50 of -50.00", "0 of 2", "2 of 9 with open entries"):
        assert words in shown, shown
    await desk.trade("-40", trigger="rsi_oversold")
    await desk.trade(trigger="macd_cross")
    await desk.trade(trigger="macd_cross")
    answers = (await api.http.get("/api/why/BTC-USD")).json()["answers"]
    assert "No entry of strategy dip passes: it has lost 52.50 USD today, the limit is 50.00." in answers
    assert "No entry of trigger macd_cross passes: it has 2 open trades and entries, the limit is 2." in answers


async def test_what_is_not_known_is_shown_as_not_known(desk: Desk, api: Any, capsys: Capture) -> None:
    """An open trade in a currency without a rate: no sum, and the currency is named."""
    await desk.trade(trigger="rsi_oversold", symbol="BTC-EUR", price="10")
    dip = (await summary(api))["groups"][0]
    assert (dip["open_money"], dip["without_rate"]) == (None, ["EUR"])
    assert "not known of 500.00" in (await bottrader(capsys, "status"))[1]
    answers = (await api.http.get("/api/why/BTC-USD")).json()["answers"]
    assert (
        "Whether an entry of strategy dip passes is not known: no rate of EUR is stored; its next entry asks the "
        "exchange, and is refused without an answer." in answers
    )


async def test_a_strategy_is_halted_and_resumed_by_the_api(desk: Desk, api: Any) -> None:
    """Recorded with its name; resume requires the word; what doesn't exist, and two names, are refused."""
    keys = iter(range(100))

    async def do(path: str, **body: Any) -> httpx.Response:
        answer: httpx.Response = await api.post(path, body, **{"Idempotency-Key": f"key-of-a-test-{next(keys)}"})
        return answer

    done = await do("/api/halt", strategy="dip", note="the news")
    assert (done.status_code, done.json()["changed"]) == (200, True), done.text
    assert done.json()["sentence"] == "entries of strategy dip are halted"
    assert await gate_of(desk) == "SKIP_STRATEGY_HALTED"
    group = (await summary(api))["groups"][0]
    assert (group["halted"], group["halted_by"], group["until"]) == (True, "owner (API): the news", None)
    assert (await do("/api/halt", strategy="dip")).json()["changed"] is False
    unconfirmed = await do("/api/resume", strategy="dip", confirm="yes")
    assert (unconfirmed.status_code, unconfirmed.json()["code"]) == (422, "NOT_CONFIRMED")
    assert (await do("/api/resume", strategy="dip", confirm="resume")).json()["changed"] is True
    assert await gate_of(desk) is None
    missing = await do("/api/halt", trigger="nosuch")
    assert (missing.status_code, missing.json()["code"]) == (404, "NO_SUCH_GROUP")
    both = await do("/api/halt", strategy="dip", trigger="macd_cross")
    assert (both.status_code, both.json()["field"]) == (422, "trigger")
    recorded = await desk.pool.fetch("SELECT kind, subject, status FROM api_actions WHERE status < 300 ORDER BY at")
    assert [tuple(row.values()) for row in recorded] == [
        ("halt", "strategy dip", 200),
        ("halt", "strategy dip", 200),
        ("resume", "strategy dip", 200),
    ]
    assert not await desk.value("SELECT count(*) FROM account_controls")
