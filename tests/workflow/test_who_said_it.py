"""Who gave a command is proven by its source: the ledger's record for ours, a claim for one from Temporal (SAFE-3)."""

from __future__ import annotations

from typing import Any

import pytest

from activities.commands import note_commands, note_order
from domain.commands import CommandKind
from domain.exits import ExitReason
from domain.messages import CloseRequest
from domain.orders import OrderState
from tests.support.harness import Trade, TradingSystem
from tests.support.intents import limit_buy, market_buy


async def asked_by(system: TradingSystem, key: str) -> Any:
    """The stored person of an order."""
    return await system.value("SELECT intent->>'asked_by' FROM orders WHERE order_key = $1", key)


async def test_an_order_that_was_started_in_temporal_names_temporal(system: TradingSystem) -> None:
    """An intent's person is accepted only if the ledger has that order as commanded by them."""
    claimed = await system.start(market_buy(system.account, asked_by="ceo"))
    silent = await system.start(market_buy(system.account))
    commanded = market_buy(system.account, asked_by="ann")
    await note_order(system.pool, commanded)
    await note_order(system.pool, commanded.model_copy(update={"asked_by": "bob"}))
    proven = await system.start(commanded.model_copy(update={"asked_by": "ceo"}))
    other = market_buy(system.account, asked_by="ann")
    await note_order(system.pool, other)
    forged = await system.start(other.model_copy(update={"base_size": other.base_size * 2}))  # type: ignore[operator]
    for trade in (claimed, silent, proven, forged):
        await trade.until_protected()
    assert await asked_by(system, claimed.key) == "temporal (says ceo)"
    assert await asked_by(system, silent.key) == "temporal"
    assert await asked_by(system, proven.key) == "ann"
    assert await asked_by(system, forged.key) == "temporal (says ann)", "the command was about another size"


async def _closed(trade: Trade, request: CloseRequest) -> str:
    await trade.monitor.execute_update("close", request)
    assert (await trade.closed()).exit_reason is ExitReason.MANUAL
    assert any("close requested" in line for line in await trade.monitor.query("timeline"))
    return str(await asked_by(trade.system, trade.leg_key(1)))


async def test_a_close_is_stored_with_who_can_be_proven(system: TradingSystem) -> None:
    """A close with its command in the ledger is stored in the ledger's name; without one, or with one about another
    trade or a cancel, as Temporal's. A stop names nobody.
    """
    trades = [await system.start(market_buy(system.account)) for _ in range(5)]
    for trade in trades:
        await trade.until_protected()
    proven, silent, other, cancel, stopped = trades
    mine, of_another = await note_commands(system.pool, system.account, CommandKind.CLOSE, [proven.key] * 2, "ann")
    (to_cancel,) = await note_commands(system.pool, system.account, CommandKind.CANCEL, [cancel.key], "ann")
    assert await _closed(proven, CloseRequest(by="ceo", command=mine)) == "ann"
    assert await _closed(silent, CloseRequest(by="ceo")) == "temporal (says ceo)"
    assert await _closed(other, CloseRequest(by="ann", command=of_another)) == "temporal (says ann)"
    assert await _closed(cancel, CloseRequest(by="ann", command=to_cancel)) == "temporal (says ann)"
    await system.price("47000")
    assert (await stopped.closed()).exit_reason is ExitReason.HARD_STOP
    assert await asked_by(system, stopped.leg_key(1)) == ""


@pytest.mark.parametrize("proven", [True, False])
async def test_a_cancel_before_sending_names_who_can_be_proven(system: TradingSystem, proven: bool) -> None:
    """The reason stored with an order withdrawn in time has the ledger's name, or the claim."""
    intent = limit_buy(system.account, "0.1", "49000", valid_until=None)
    command = ""
    if proven:
        (command,) = await note_commands(system.pool, system.account, CommandKind.CANCEL, [intent.order_key], "ann")
    request = CloseRequest(by="ceo", note="changed my mind", command=command)
    handle = await system.client.start_workflow(
        "OrderWorkflow",
        intent,
        id=f"order-{intent.order_key}",
        task_queue=system.settings.temporal.orders_queue,
        start_signal="cancel",
        start_signal_args=[request],
    )
    outcome = await handle.result()
    assert outcome["state"] == OrderState.CANCELLED
    stored = await system.value("SELECT gate_sentence FROM orders WHERE order_key = $1", intent.order_key)
    who = "ann" if proven else "temporal (says ceo)"
    assert stored == f"cancelled by {who}: changed my mind before it was sent"
