"""Save a history of every kind of workflow, for `tests/workflow/test_replay.py`.

    python -m tests.support.save_histories v2 [SCENARIO…]

plays short trades on its own servers (all of them, or those named) and writes
tests/histories/v2/<scenario>.<workflow>.json. Earlier folders stay: new code must replay workflows that older code has
begun (LIFE-10). A folder is never overwritten.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from activities.interfaces.ledger import ValidateInput
from activities.interfaces.quotes import QuoteRoundInput
from activities.interfaces.reconcile import ReconcileInput
from activities.interfaces.strategy import StrategyInput
from activities.interfaces.streams import SweepInput
from domain.exits import ExitRules
from domain.ids import client_order_id, exit_workflow_id, external_workflow_id, intent_key, order_workflow_id
from domain.messages import CloseRequest
from domain.protection import Protection, ProtectionKind
from schema import migrate
from tests.support.harness import ALL_ROLES, Trade, TradingSystem, trading_system
from tests.support.intents import limit_buy, market_buy, sell
from tests.support.waiting import eventually
from workers.roles.strategy import ensure_market_data
from workers.settings import SymbolSettings
from workers.settings.quoting import QuotingSettings
from workers.stack import temporal_binary
from workers.stack.dev_server import DevServer, DevServerConfig
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig
from workflows.maintenance import LedgerCheckWorkflow, ledger_check_id
from workflows.market_data import market_data_workflow_id
from workflows.quoting import QuoteRoundWorkflow, quotes_id
from workflows.reconcile import ReconcileWorkflow, reconcile_id
from workflows.strategy import StrategyRunWorkflow, strategy_schedule_id
from workflows.streams import SweepWorkflow, price_watcher_workflow_id, user_stream_workflow_id

__all__ = ["FOLDER", "scrubbed"]

_PROCESS = re.compile(r"^\d+@.*")
FOLDER = Path(__file__).parents[1] / "histories"
_QUICK = ExitRules(reprice_seconds=Decimal("0.2"), max_reprices=1, trailing_arm=None, take_profit=Decimal("0.01"))

Handles = dict[str, WorkflowHandle[Any, Any]]
Scenario = Callable[[TradingSystem], Awaitable[Handles]]


def _of_trade(trade: Trade, legs: int) -> Handles:
    client = trade.system.client
    exits = {f"exit{n}": client.get_workflow_handle(order_workflow_id(trade.leg_key(n))) for n in range(1, legs + 1)}
    return {"entry": trade.handle, "monitor": trade.monitor, **exits}


async def _hard_stop(system: TradingSystem) -> Handles:
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.price("47000")
    await trade.closed()
    return _of_trade(trade, 1)


async def _filled_in_parts_cancelled_and_closed(system: TradingSystem) -> Handles:
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    exchange_id = await trade.exchange_id()
    await system.control.fill(exchange_id, "0.03")
    await trade.until_protected("0.03")
    await system.control.fill(exchange_id, "0.02")
    await trade.until_protected("0.05")
    await trade.handle.cancel()
    await trade.until_state("CANCELLED")
    await trade.monitor.cancel()
    await trade.monitor.execute_update("close", CloseRequest(by="a person"))
    await trade.closed()
    return _of_trade(trade, 1)


async def _close_with_an_open_entry(system: TradingSystem) -> Handles:
    trade = await system.start(limit_buy(system.account, "0.1", "49999"))
    await system.control.fill(await trade.exchange_id(), "0.03")
    await trade.until_protected("0.03")
    await trade.handle.signal("close", CloseRequest(by="a person"))
    await trade.closed()
    return _of_trade(trade, 1)


async def _soft_stop_repriced_to_market(system: TradingSystem) -> Handles:
    trade = await system.start(market_buy(system.account, "0.01", rules=_QUICK))
    await trade.until_protected("0.01")
    await system.price("48700")
    await trade.closed()
    return _of_trade(trade, 1)


async def _take_profit_back_to_monitoring(system: TradingSystem) -> Handles:
    trade = await system.start(market_buy(system.account, "0.01", rules=_QUICK))
    await trade.until_protected("0.01")
    await system.price("50600")
    await system.exchange_id(client_order_id(trade.leg_key(1), 1))
    await system.price("50100")

    async def armed() -> bool:
        return bool(await system.value("SELECT state = 'ARMED' FROM exit_plans WHERE entry_key = $1", trade.key))

    await eventually(armed)
    await system.price("47000")
    await trade.closed()
    return _of_trade(trade, 2)


async def _hard_stop_replaces_a_limit_exit(system: TradingSystem) -> Handles:
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.price("48700")
    await system.control.fill(await system.exchange_id(client_order_id(trade.leg_key(1), 1)), "0.004")
    await system.price("47000")
    await trade.closed()
    return _of_trade(trade, 2)


async def _post_only_in_three_attempts(system: TradingSystem) -> Handles:
    trade = await system.start(limit_buy(system.account, "0.1", "49999", post_only=True))
    for attempt, size in ((1, "0.03"), (2, "0.02")):
        exchange_id = await trade.exchange_id(attempt)
        await system.control.fill(exchange_id, size)
        await system.control.cancel(exchange_id, "Order would have traded with one of its own")
    await system.control.fill(await trade.exchange_id(3), "0.05")
    await trade.until_state("FILLED")
    await system.price("47000")
    await trade.closed()
    return _of_trade(trade, 1)


async def _unknown_outcomes(system: TradingSystem) -> Handles:
    await system.control.fault("accepted_cut", "POST /orders", count=1)
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.fault("not_accepted_cut", "POST /orders", count=1)
    await system.price("47000")
    await trade.closed()
    return _of_trade(trade, 1)


async def _absent_and_late(system: TradingSystem) -> Handles:
    await system.control.fault("accepted_late", "POST /orders", count=1, delay=5.0)
    await system.control.fault("not_accepted_cut", "POST /orders", count=5)
    soon = datetime.now(UTC) + timedelta(seconds=1)
    trade = await system.start(limit_buy(system.account, "0.1", "49999", valid_until=soon))
    await trade.result()
    first = (await trade.handle.describe()).run_id
    client_id = client_order_id(trade.key, 1)
    await system.exchange_id(client_id)

    async def cancelled() -> bool:
        return bool((await system.venue_order(client_id))["status"] == "CANCELLED")

    await eventually(cancelled)
    await system.client.get_workflow_handle(trade.handle.id).result()
    return {
        "entry": system.client.get_workflow_handle(trade.handle.id, run_id=first),
        "entry_again": system.client.get_workflow_handle(trade.handle.id),
    }


async def _refused_exit(system: TradingSystem) -> Handles:
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.product("BTC-USD", cancel_only=True)
    await system.price("47000")

    async def refused() -> bool:
        return bool(await system.value("SELECT count(*) > 0 FROM incidents WHERE kind = 'EXIT_REFUSED'"))

    await eventually(refused)
    await system.control.product("BTC-USD", cancel_only=False)
    await trade.closed()
    return _of_trade(trade, 2)


async def _rejected_and_busy(system: TradingSystem) -> Handles:
    rejected = await system.start(limit_buy(system.account, "0.00001", "50000"))
    await rejected.result()
    await system.control.fault("rate_limited", "POST /orders", count=1)
    expiring = await system.start(limit_buy(system.account, "0.01", "49000", expires_after=Decimal("0.5")))
    await expiring.result()
    return {"rejected": rejected.handle, "expired": expiring.handle}


async def _sold_by_hand(system: TradingSystem) -> Handles:
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    by_hand = await system.start(sell(system.account, "0.00999", entry_key=trade.key, entry_point="manual"))
    await trade.closed()
    return {"entry": trade.handle, "monitor": trade.monitor, "sell": by_hand.handle}


async def _streams(system: TradingSystem) -> Handles:
    client, account = system.client, system.account
    watcher = client.get_workflow_handle(price_watcher_workflow_id(account, 0))
    await watcher.signal("resize", 2)
    sweep = await client.start_workflow(
        SweepWorkflow.run,
        SweepInput(account=account),
        id=f"sweep-{account}-once",
        task_queue=system.settings.temporal.orders_queue,
    )
    await sweep.result()

    async def resized() -> bool:
        return bool((await watcher.query("state"))["runs"] > 1)

    await eventually(resized)
    stream = client.get_workflow_handle(user_stream_workflow_id(account))
    return {"user_stream": stream, "price_watcher": watcher, "sweep": sweep}


async def _protected_at_the_exchange(system: TradingSystem) -> Handles:
    """Grows, is cancelled by hand and placed again, makes way for an exit that sells nothing, and for a close."""
    protection = Protection(kind=ProtectionKind.STOP_LIMIT, stop=Decimal("0.05"))
    rules = _QUICK.model_copy(update={"take_profit": Decimal("0.05"), "max_reprices": 0})
    trade = await system.start(limit_buy(system.account, "0.02", "49000", rules=rules, protection=protection))
    entry = await trade.exchange_id()
    await trade.until_state("OPEN")
    orders = [
        order_workflow_id(intent_key("protection", trade.key, system.account, "BTC-USD", "SELL", str(number)))
        for number in (1, 2, 3, 4)
    ]

    async def rests(number: int) -> None:
        await system.exchange_id(client_order_id(orders[number - 1].removeprefix("order-"), 1), within=20)

    await system.control.fill(entry, "0.005")
    await rests(1)
    await system.control.fill(entry, "0.015")
    await rests(2)
    await system.control.cancel(await system.exchange_id(client_order_id(orders[1].removeprefix("order-"), 1)))
    await rests(3)
    await system.price("51460")
    await system.exchange_id(client_order_id(trade.leg_key(1), 1))
    await system.price("50500")
    await rests(4)
    await trade.handle.signal("close")
    await trade.closed()
    client = system.client
    return _of_trade(trade, 1) | {f"stop{n}": client.get_workflow_handle(name) for n, name in enumerate(orders, 1)}


async def _upkeep(system: TradingSystem) -> Handles:
    """Reconcile as a dry run and in earnest, once with a failing worker; a correct ledger, and a wrong one."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.order("BTC-USD", "BUY", {"market_market_ioc": {"base_size": "0.02"}})
    client, account, queue = system.client, system.account, system.settings.temporal.streams_queue

    async def reconciled(name: str, **request: Any) -> WorkflowHandle[Any, Any]:
        asked = ReconcileInput(account=account, **request)
        handle = await client.start_workflow(
            ReconcileWorkflow.run, asked, id=f"{reconcile_id(account)}-{name}", task_queue=queue
        )
        await handle.result()
        return handle

    async def checked(name: str) -> WorkflowHandle[Any, Any]:
        asked = ValidateInput(account=account, why=name)
        handle = await client.start_workflow(
            LedgerCheckWorkflow.run, asked, id=f"{ledger_check_id(account)}-{name}", task_queue=queue
        )
        await handle.result()
        return handle

    found: Handles = {"reconcile_dry": await reconciled("dry", why="a person", dry_run=True)}
    found["reconcile"] = await reconciled("earnest", why="a gap", look_back_seconds=600.0)
    found["ledger_check"] = await checked("right")
    await system.control.fault("server_error", "GET *", count=2, status=503)
    found["reconcile_again"] = await reconciled("again")
    await system.pool.execute("UPDATE fills SET lot_remaining = 0")
    found["ledger_check_wrong"] = await checked("wrong")
    return found


async def _quotes(system: TradingSystem) -> Handles:
    """A bid is replaced, fills in part, is queried, ends after its part was sold; another's ask is withdrawn for a
    stop."""
    client, account = system.client, system.account

    async def quoted(name: str) -> WorkflowHandle[Any, Any]:
        handle = await client.start_workflow(
            QuoteRoundWorkflow.run,
            QuoteRoundInput(account=account, orders_queue=system.settings.temporal.orders_queue),
            id=f"{quotes_id(account)}-{name}",
            task_queue=system.settings.temporal.strategy_queue,
        )
        await handle.result()
        return handle

    async def resting(side: str) -> tuple[str, str]:
        async def so() -> tuple[str, str] | None:
            for item in await system.control.orders():
                if (item["status"], item["side"]) == ("OPEN", side):
                    return str(item["order_id"]), str(item["client_order_id"]).rpartition("-")[0]
            return None

        return await eventually(so)

    async def sold(key: str) -> None:
        async def so() -> bool:
            return bool(await system.value("SELECT remaining = 0 FROM trades WHERE entry_key = $1", key))

        await eventually(so)

    def order(key: str) -> WorkflowHandle[Any, Any]:
        return client.get_workflow_handle(order_workflow_id(key))

    await system.price("49500", "50500", size="1")
    found: Handles = {"round": await quoted("first")}
    await system.price("49600", "50600", size="1")
    found["round_replaced"] = await quoted("moved")
    bid, key = await resting("BUY")
    await system.control.fill(bid, "0.0005")
    await eventually(lambda: system.value("SELECT 1 FROM trades WHERE entry_key = $1", key))
    await quoted("asks")
    ask, ask_key = await resting("SELL")
    await system.control.fill(ask, "0.0005")
    await sold(key)
    await order(ask_key).result()
    await order(key).signal("cancel", CloseRequest(by="a person"))
    await order(key).result()
    found |= {
        "bid": order(key),
        "bid_monitor": client.get_workflow_handle(exit_workflow_id(key)),
        "ask": order(ask_key),
    }
    await quoted("again")
    bid, key = await resting("BUY")
    size = next(item for item in await system.control.orders() if item["order_id"] == bid)["order_configuration"]
    await system.control.fill(bid, size["limit_limit_gtd"]["base_size"])
    await eventually(lambda: system.value("SELECT 1 FROM trades WHERE entry_key = $1 AND entry_final", key))
    await quoted("asks again")
    await resting("SELL")
    await system.price("46000", "46500", size="1")
    await order(key).result()
    leg = intent_key("exit", key, account, "BTC-USD", "SELL", "1")
    return found | {"stopped": client.get_workflow_handle(exit_workflow_id(key)), "stop": order(leg)}


async def _strategy(system: TradingSystem) -> Handles:
    """Market data are kept, and a run decides on them; the strategy is switched off, so nothing is bought."""
    client, settings = system.client, system.settings
    await ensure_market_data(client, settings)
    run = await client.start_workflow(
        StrategyRunWorkflow.run,
        StrategyInput(account=system.account),
        id=f"{strategy_schedule_id(system.account)}-once",
        task_queue=settings.temporal.strategy_queue,
    )
    await run.result()
    return {"run": run, "market_data": client.get_workflow_handle(market_data_workflow_id(system.account))}


async def _external(system: TradingSystem) -> Handles:
    """An external order rests, fills in part, and is cancelled; another one is filled at once."""
    limit = {"limit_limit_gtc": {"base_size": "0.02", "limit_price": "40000"}}
    order = await system.control.order("BTC-USD", "BUY", limit)

    async def shown(exchange_order_id: str) -> WorkflowHandle[Any, Any] | None:
        key = await system.value("SELECT order_key FROM attempts WHERE exchange_order_id = $1", exchange_order_id)
        if key is None:
            return None
        handle = system.client.get_workflow_handle(external_workflow_id(key))
        try:
            await handle.query("state")
        except RPCError:
            return None
        return handle

    resting = await eventually(lambda: shown(order["order_id"]), what="the resting order is shown")
    await system.control.fill(order["order_id"], "0.01")
    await system.control.cancel(order["order_id"])
    await resting.result()
    filled = await system.control.order("BTC-USD", "BUY", {"market_market_ioc": {"base_size": "0.01"}})
    bought = await eventually(lambda: shown(filled["order_id"]), what="the market order is shown")
    await bought.result()
    return {"resting": resting, "bought": bought}


async def _unsold_and_closed_by_a_new_monitor(system: TradingSystem) -> Handles:
    """A stop in an empty book, a close meanwhile, and the trade's monitor terminated: the next one continues."""
    trade = await system.start(market_buy(system.account, "0.01"))
    await trade.until_protected("0.01")
    await system.control.fault("thin_book", "SELL BTC-USD", count=3)
    await system.price("47000")
    await system.exchange_id(client_order_id(trade.leg_key(2), 1))
    await trade.monitor.execute_update("close", CloseRequest(by="a person"))
    await system.exchange_id(client_order_id(trade.leg_key(3), 1))
    first = await trade.monitor.describe()
    await trade.monitor.terminate("a person's mistake")
    await system.parts.starter.monitor(trade.key)
    await trade.closed()
    client = system.client
    return _of_trade(trade, 3) | {"monitor1": client.get_workflow_handle(trade.monitor.id, run_id=first.run_id)}


async def _withdrawn_as_dust_and_cancelled_elsewhere(system: TradingSystem) -> Handles:
    """One entry is withdrawn at a worth of a few cents, the other is cancelled in the exchange's app."""
    small = await system.start(limit_buy(system.account, "0.1", "49999"))
    await system.control.fill(await small.exchange_id(), "0.00001")
    await small.until_protected("0.00001")
    await small.handle.execute_update("cancel", CloseRequest(by="a person"))
    await small.closed()
    other = await system.start(limit_buy(system.account, "0.1", "49999", post_only=True))
    await system.control.cancel(await other.exchange_id())
    await other.until_state("CANCELLED")
    await other.handle.result()
    return {"small": small.handle, "monitor": small.monitor, "other": other.handle}


_SETTINGS: dict[str, dict[str, Any]] = {
    "strategy": {"roles": ALL_ROLES | {"strategy"}},
    "quotes": {
        "roles": ALL_ROLES | {"strategy"},
        "symbols": SymbolSettings(allow=("BTC-USD",)),
        "quoting": QuotingSettings(
            enabled=True, min_quote_volume=Decimal(0), max_inventory_quote=Decimal(60), lean_pct=Decimal(0)
        ),
    },
}
"""The unusual settings of a scenario's system."""

_SCENARIOS: dict[str, Scenario] = {
    "hard_stop": _hard_stop,
    "filled_in_parts_cancelled_and_closed": _filled_in_parts_cancelled_and_closed,
    "close_with_an_open_entry": _close_with_an_open_entry,
    "soft_stop_repriced_to_market": _soft_stop_repriced_to_market,
    "take_profit_back_to_monitoring": _take_profit_back_to_monitoring,
    "hard_stop_replaces_a_limit_exit": _hard_stop_replaces_a_limit_exit,
    "post_only_in_three_attempts": _post_only_in_three_attempts,
    "unknown_outcomes": _unknown_outcomes,
    "absent_and_late": _absent_and_late,
    "refused_exit": _refused_exit,
    "rejected_and_busy": _rejected_and_busy,
    "sold_by_hand": _sold_by_hand,
    "protected_at_the_exchange": _protected_at_the_exchange,
    "streams": _streams,
    "upkeep": _upkeep,
    "quotes": _quotes,
    "strategy": _strategy,
    "external": _external,
    "unsold_and_closed_by_a_new_monitor": _unsold_and_closed_by_a_new_monitor,
    "withdrawn_as_dust_and_cancelled_elsewhere": _withdrawn_as_dust_and_cancelled_elsewhere,
}


def scrubbed(history: Any) -> Any:
    """A history without data of the machine that made it: worker identities and stack traces."""
    if isinstance(history, dict):
        return {key: "" if key == "stackTrace" else scrubbed(value) for key, value in history.items()}
    if isinstance(history, list):
        return [scrubbed(item) for item in history]
    return _PROCESS.sub("worker", history) if isinstance(history, str) else history


async def _save(folder: Path, scenarios: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="bt-histories-", ignore_cleanup_errors=True) as name:
        data = Path(name)
        postgres = EmbeddedPostgres(PostgresConfig(data / "postgres", durable=False))
        temporal = DevServer(
            DevServerConfig(program=await temporal_binary.ensure_async(), log=data / "temporal.log", ui=False)
        )
        await asyncio.gather(postgres.start(), temporal.start())
        try:
            for number, scenario in enumerate(scenarios):
                await postgres.create_database(f"scenario_{number}")
                dsn = postgres.dsn(f"scenario_{number}")
                await migrate.upgrade(dsn)
                special = _SETTINGS.get(scenario, {})
                async with trading_system(dsn, temporal.address, late_acceptance_seconds=1, **special) as system:
                    for kind, handle in (await _SCENARIOS[scenario](system)).items():
                        try:
                            history = await handle.fetch_history()
                        except RPCError as error:
                            raise RuntimeError(f"{scenario}: no history of {kind} ({handle.id})") from error
                        document = scrubbed(json.loads(history.to_json()))
                        text = json.dumps({"workflow_id": handle.id, **document}, separators=(",", ":"))
                        (folder / f"{scenario}.{kind}.json").write_text(text + "\n", encoding="utf-8")
                print(f"{scenario}: saved", flush=True)  # noqa: T201 - a script that says how far it is
        finally:
            await asyncio.gather(temporal.stop(), postgres.stop())


def main() -> None:
    """Save into tests/histories/<first argument>."""
    scenarios = sys.argv[2:] or list(_SCENARIOS)
    unknown = [name for name in scenarios if name not in _SCENARIOS]
    if len(sys.argv) < 2 or unknown:
        sys.exit(f"usage: python -m tests.support.save_histories FOLDER [SCENARIO…] of {', '.join(_SCENARIOS)}")
    folder = FOLDER / sys.argv[1]
    if folder.exists():
        sys.exit(f"{folder} exists: histories that were saved are kept; name a new folder")
    folder.mkdir(parents=True)
    asyncio.run(_save(folder, scenarios))


if __name__ == "__main__":
    main()
