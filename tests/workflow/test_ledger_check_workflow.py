"""The ledger check as in production: a schedule, a workflow, a stored result."""

from __future__ import annotations

from temporalio.client import ScheduleOverlapPolicy

from activities.interfaces.ledger import LedgerReport
from tests.support.harness import trading_system
from tests.support.intents import market_buy
from tests.support.waiting import eventually
from workers.schedules import ensure_schedules, sweep_schedule_id
from workers.stack.dev_server import DevServer
from workflows.maintenance import ledger_check_id
from workflows.reconcile import reconcile_id


async def test_the_schedule_checks_the_ledger_and_keeps_the_result(database: str, temporal_server: DevServer) -> None:
    """It runs at its creation and when triggered, during an open trade; its result has the outcome."""
    async with trading_system(database, temporal_server.address) as system:
        trade = await system.start(market_buy(system.account, "0.01"))
        await trade.until_protected("0.01")
        await ensure_schedules(system.client, system.settings)
        handle = system.client.get_schedule_handle(ledger_check_id(system.account))
        try:
            await eventually(
                lambda: system.value("SELECT count(*) FROM ledger_checks"), within=20, what="a first check"
            )
            await handle.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE)

            async def twice() -> bool:
                return bool(await system.value("SELECT count(*) >= 2 FROM ledger_checks"))

            await eventually(twice, within=20, what="a second check")
            described = await handle.describe()
            execution = described.info.recent_actions[0].action
            check = system.client.get_workflow_handle(execution.workflow_id, result_type=LedgerReport)  # type: ignore[attr-defined]
            report = await check.result()
            assert (report.ok, report.fills, report.trades) == (True, 1, 1)
            stored = await system.rows("SELECT ok, why, violations FROM ledger_checks ORDER BY id LIMIT 1")
            assert stored == [{"ok": True, "why": "schedule", "violations": 0}]
        finally:
            for name in (ledger_check_id, sweep_schedule_id, reconcile_id):
                await system.client.get_schedule_handle(name(system.account)).delete()
