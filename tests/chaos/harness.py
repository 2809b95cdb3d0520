"""A chaos run: trades on a real stack with failing processes, connections and messages, then quiet and audit.

Everything is real: PostgreSQL, Temporal, the paper exchange and two workers are processes, and the run causes the
faults of machines and networks. The actions and their order are from `schedule.plan_run`; this module carries them out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.interfaces.starting import start_order
from domain.exits import ExitReason
from domain.ids import exit_workflow_id, intent_key, order_workflow_id
from domain.messages import CloseRequest, IndicatorPart, Linkage, OrderIntent
from domain.orders import OrderRole, OrderType, Side, TimeInForce
from exchange.paper import ControlError, PaperControl
from tests.chaos.audit import Audit, audit
from tests.chaos.harness_disk import PowerCutDisk, why_no_power_cut
from tests.chaos.harness_evidence import Evidence, collect, evidence_text
from tests.chaos.harness_names import by_name
from tests.chaos.harness_recorder import Notes, install_recorder
from tests.chaos.harness_workers import WorkerSlot
from tests.chaos.schedule import (
    PRINTS_UP,
    SHIELDS,
    TICK,
    WAYS,
    Cancel,
    ChaosAction,
    ChaosTerms,
    Close,
    Cut,
    Enter,
    Fault,
    Flap,
    Latency,
    Manual,
    Names,
    Outage,
    Price,
    Print,
    Sell,
    Signal,
    Skew,
    Sockets,
    Terminate,
    describe,
    plan_run,
)
from workers.polling import polled_since
from workers.settings.risk import WITHOUT_LIMITS
from workers.stack.local_stack import LocalStack, LocalStackConfig
from workers.stack.paper_process import PaperProcess, PaperProcessConfig

__all__ = ["ChaosRun", "Rig", "Verdict", "open_rig", "run_seed"]

ACCOUNT = "main"
_BEAT_SECONDS = 0.8
_QUIET_SECONDS = 90.0
_ENTER_SECONDS = 60.0
_ASK_SECONDS = 15.0
_CRASH_TO = Decimal("0.94")
_FALL, _FALL_SECONDS = Decimal("0.97"), 8.0
_TROUBLE = (RPCError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_ENVIRONMENT = {
    **WITHOUT_LIMITS,
    "BOTTRADER_EXCHANGE__TIMEOUT_S": "3",
    "BOTTRADER_EXCHANGE__CONNECT_TIMEOUT_S": "2",
    # Two workers share the account's rate.
    "BOTTRADER_EXCHANGE__PRIVATE_REQUESTS_PER_S": "15",
    "BOTTRADER_EXCHANGE__PUBLIC_REQUESTS_PER_S": "5",
    # A late request is accepted after at most 5 s, so absence is proof after 15.
    "BOTTRADER_ORDERS__UNKNOWN_RESOLUTION_S": "15",
    "BOTTRADER_STREAMS__FIRST_FRAME_TIMEOUT_S": "4",
    "BOTTRADER_STREAMS__IDLE_TIMEOUT_S": "5",
    "BOTTRADER_STREAMS__RECONNECT_MAX_S": "3",
    "BOTTRADER_SYMBOLS__MAX_OPEN_BUYS": "1000",
    "BOTTRADER_WATCHER__SHARDS": "2",
    # The matrix that sells by signal is the harness's own; the real strategy's would replace it.
    "BOTTRADER_STRATEGY__INTERVAL_S": "86400",
    # A strategy that is switched off sells nothing by its matrix; this one never buys.
    "BOTTRADER_STRATEGY__ENABLED": "true",
    "BOTTRADER_STRATEGY__BUY_SCORE": "1000",
    "BOTTRADER_ROC__ENABLED": "false",
    "BOTTRADER_LOGGING__LEVEL": "WARNING",
}

Say = Callable[[str], None]


@dataclass
class Rig:
    """A stack with two workers, an exchange elsewhere in step mode, and everything that records it.

    `disk` has the stack's files, if its machine can lose power.
    """

    stack: LocalStack
    client: Client
    control: PaperControl
    ledger: Any
    workers: dict[str, WorkerSlot]
    no_names: Path
    """While this file exists, the workers' name server is down."""
    disk: PowerCutDisk | None = None
    notes: Notes = field(default_factory=Notes)

    async def cut_power(self, seconds: float, in_the_dark: Awaitable[object] | None = None) -> None:
        """Kill all our processes at one moment, lose unflushed data on the disk, and after `seconds` start everything
        again from the rest. The exchange continues, and `in_the_dark` happens there meanwhile.
        """
        disk = self.disk
        if disk is None:
            raise RuntimeError("this rig's machine can't lose its power")
        since = datetime.now(UTC)
        for slot in self.workers.values():
            await slot.release()
        await self.stack.lose_power([slot.pid for slot in self.workers.values() if slot.pid is not None], disk.cut)
        for slot in self.workers.values():
            await slot.kill()
        if in_the_dark is not None:
            await in_the_dark
        await asyncio.sleep(seconds)
        await asyncio.to_thread(disk.restore)
        port = int(self.stack.temporal_address.rpartition(":")[2])
        self.stack = LocalStack(replace(self.stack.config, temporal_port=port))
        await self.stack.start()
        await self.start_workers()
        self.notes.cut(since)

    async def start_workers(self) -> None:
        """Start all, and wait until orders are processed."""
        began = time.time()
        for slot in self.workers.values():
            await slot.start()
        async with asyncio.timeout(40):
            while not await polled_since(self.client, "orders", began):  # noqa: ASYNC110 - the condition depends on other processes
                await asyncio.sleep(0.1)

    async def stop_stack(self) -> None:
        """Stop the running servers."""
        await self.stack.stop()

    async def price(self, symbol: str, bid: Decimal, volume: Decimal | None = None) -> None:
        """Move the touch of a symbol, and record it."""
        await self.control.set_price(symbol, bid, bid + TICK, volume)
        self.notes.price(symbol, bid)


@contextlib.asynccontextmanager
async def open_rig(
    data: Path,
    symbols: Sequence[str],
    *,
    workers: Sequence[str] = ("worker-a", "worker-b"),
    seed: int = 1,
    power_cut: bool = False,
) -> AsyncIterator[Rig]:
    """Start everything on an empty folder; its processes are stopped afterwards, the folder stays.

    With `power_cut` the servers' files are on a disk that can lose power. The exchange's never are.
    """
    products = _products_file(data, symbols)
    # Fees so low that a signal finds trades that gain more than both, as the market moves by 0.3 % per beat.
    fees = ["--maker-fee", "0.0002", "--taker-fee", "0.0004"]
    arguments = [
        *fees,
        "--step",
        "--products-file",
        str(products),
        "--balance",
        "USD=1000000",
        "--balance",
        "USDC=1000000",
        "--seed",
        str(seed),
    ]
    async with contextlib.AsyncExitStack() as closing:
        disk = PowerCutDisk(data) if power_cut else None
        if disk is not None:
            await asyncio.to_thread(disk.open)
            closing.push_async_callback(asyncio.to_thread, disk.close)
        exchange = PaperProcess(
            PaperProcessConfig(data / "logs" / "paper.log", ["--data-folder", str(data / "paper"), *arguments])
        )
        await exchange.start()
        closing.push_async_callback(exchange.stop)
        stack = LocalStack(
            LocalStackConfig(
                data=data / "machine",
                durable=True,
                ui=False,
                paper=False,
                worker=False,
                env={**_ENVIRONMENT, **_reached(exchange.addresses), "BOTTRADER_SYMBOLS__ALLOW": ",".join(symbols)},
            )
        )
        control = await closing.enter_async_context(PaperControl(exchange.addresses))
        await stack.start()
        client = await Client.connect(stack.temporal_address, data_converter=pydantic_data_converter)
        no_names = data / "no-names"
        environment = by_name(stack.environment, no_names)
        ledger = await asyncpg.create_pool(stack.dsn, min_size=0, max_size=4, command_timeout=20)
        rig = Rig(stack, client, control, ledger, {}, no_names, disk)
        for name in workers:
            log = data / "logs" / f"{name}.log"
            rig.workers[name] = WorkerSlot(name, log, environment, role="all", died=rig.notes.outage)
        closing.push_async_callback(rig.stop_stack)
        closing.push_async_callback(ledger.close)
        await install_recorder(ledger)
        for symbol in symbols:
            await rig.price(symbol, Decimal(100))
        for slot in rig.workers.values():
            closing.push_async_callback(slot.stop)
        await rig.start_workers()
        yield rig


def _reached(addresses: Mapping[str, str]) -> dict[str, str]:
    """How our processes reach the exchange."""
    names = ("rest", "stream", "user_stream", "ca_file", "key_file")
    return {f"BOTTRADER_EXCHANGE__{name.upper()}": addresses[name] for name in names}


def _products_file(data: Path, symbols: Sequence[str]) -> Path:
    data.mkdir(parents=True, exist_ok=True)
    products = data / "products.json"
    # The twin of a -USDC product exists, as at the venue, and is not traded.
    twins = {symbol.removesuffix("C") for symbol in symbols if symbol.endswith("-USDC")} - set(symbols)
    products.write_text(json.dumps({"products": [_product(symbol) for symbol in (*symbols, *sorted(twins))]}))
    return products


def _product(symbol: str) -> dict[str, str]:
    return {
        "product_id": symbol,
        "base_name": symbol.partition("-")[0],
        "price": "100",
        "base_increment": "0.0001",
        "quote_increment": "0.01",
        "price_increment": str(TICK),
        "base_min_size": "0.0001",
        "base_max_size": "1000000",
        "quote_min_size": "0.01",
        "quote_max_size": "100000000",
    }


@dataclass
class ChaosRun:
    """One seed's run on a rig."""

    rig: Rig
    seed: int
    terms: ChaosTerms
    say: Say
    intents: dict[int, OrderIntent] = field(default_factory=dict)
    sells: dict[int, OrderIntent] = field(default_factory=dict)
    decided: dict[int, str] = field(default_factory=dict)
    """Order keys of the handed-in orders: entries by their number, sells by their negative number less one."""
    begun: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def drive(self) -> None:
        """Carry out the schedule, end every fault, steer the market so that all trades close, and wait for quiet."""
        beats = plan_run(self.seed, self.terms)
        began = time.monotonic()
        for beat in beats:
            for action in beat.actions:
                await self._begin(action)
            due = began + (beat.number + 1) * _BEAT_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        self.say(f"{len(beats)} beats in {time.monotonic() - began:.0f} s; the faults end")
        await self._end_faults()
        await self._finish_tasks()
        await self._steer_home()

    # --- actions ----------------------------------------------------------------------------------------------------

    async def _begin(self, action: ChaosAction) -> None:
        """Begin an action; slow ones continue beside the run."""
        control, rig = self.rig.control, self.rig
        match action:
            case Price():
                await rig.price(action.symbol, action.bid, action.volume)
            case Print():
                await control.trade(action.symbol, action.price, action.size, action.side)
            case Enter():
                self.intents[action.number] = self._intent(action)
                self._beside(self._enter(action.number, self.intents[action.number]))
            case Sell():
                self._beside(self._sell(action))
            case Signal():
                self._beside(self._signal(action))
            case Cancel():
                self._beside(self._ask(action.number, "cancel"))
            case Close():
                self._beside(self._ask(action.number, "close"))
            case Manual():
                await self._manual(action)
            case Outage():
                self._beside(self._outage(action))
            case Terminate():
                self._beside(self._terminate())
            case Cut():
                self._beside(self._cut(action))
            case _:
                await self._disturb(action)

    async def _disturb(self, action: ChaosAction) -> None:
        """Faults of the exchange and of the network to it."""
        control = self.rig.control
        match action:
            case Fault():
                settings: dict[str, float | None] = {
                    "count": action.count,
                    "probability": action.probability,
                    "delay": action.delay,
                    "status": action.status,
                    "share": action.share,
                }
                if action.duration is not None:
                    settings["duration"] = action.duration
                await control.fault(action.kind, action.scope, **settings)
            case Sockets():
                await control.sockets(action.action, action.path, action.code)
            case Flap():
                self._beside(self._flap(action))
            case Names():
                self._beside(self._without_names(action))
            case Skew():
                await control.skew(action.seconds)
                self.rig.notes.skew(action.seconds)
            case Latency():
                await control.latency(accept=action.accept, cancel=action.cancel)

    def _beside(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish_tasks(self) -> None:
        while self._tasks:
            await asyncio.gather(*list(self._tasks))

    def _intent(self, action: Enter) -> OrderIntent:
        request = f"chaos-{self.seed}-{action.number}"
        market = action.limit_price is None
        by_quote = action.style == "quote"
        part = IndicatorPart(value=Decimal(27), fired=True, weight=Decimal(1), contribution=Decimal("0.7"))
        return OrderIntent(
            order_key=intent_key("sighook", request, ACCOUNT, action.symbol, Side.BUY),
            account=ACCOUNT,
            symbol=action.symbol,
            side=Side.BUY,
            role=OrderRole.ENTRY,
            order_type=OrderType.MARKET if market else OrderType.LIMIT,
            base_size=None if by_quote else action.size,
            quote_size=(action.size * 100).quantize(TICK) if by_quote else None,
            limit_price=action.limit_price,
            time_in_force=TimeInForce.IOC if market else TimeInForce.GTC,
            post_only=action.style == "maker",
            expires_after=action.expires,
            source="sighook",
            entry_point="sighook",
            request_id=request,
            linkage=Linkage(
                trigger=action.trigger,
                snapshot_id=str(uuid.uuid5(uuid.NAMESPACE_OID, request)),
                buy_score=Decimal("0.7") + Decimal(action.number) / 1000,
                sell_score=Decimal("0.1"),
                indicator_breakdown={"rsi": part},
                indicators_fired=("rsi",),
            ),
            rules=WAYS[action.way],
            protection=SHIELDS[action.shield],
            asked_by="the chaos run",
        )

    async def _enter(self, number: int, intent: OrderIntent) -> None:
        """Hand the intent in until there is an answer, like a strategy: the key makes that safe."""
        deadline = time.monotonic() + _ENTER_SECONDS
        while True:
            try:
                await start_order(self.rig.client, intent, eager=False)
            except WorkflowAlreadyStartedError:
                pass
            except RPCError as problem:
                if time.monotonic() > deadline:
                    self.problems.append(f"{intent.role.value.lower()} {number} could not be handed in: {problem}")
                    return
                await asyncio.sleep(0.3)
                continue
            self.decided[number] = intent.order_key
            return

    async def _sell(self, action: Sell) -> None:
        """A person sells a part of a trade, as by `bottrader sell --trade`; refused if it is already claimed."""
        entry = self.intents.get(action.number)
        if entry is None:
            return
        request = f"chaos-sell-{self.seed}-{action.number}"
        intent = OrderIntent(
            order_key=intent_key("manual", request, ACCOUNT, entry.symbol, Side.SELL),
            account=ACCOUNT,
            symbol=entry.symbol,
            side=Side.SELL,
            role=OrderRole.EXIT,
            order_type=OrderType.MARKET,
            base_size=action.size,
            time_in_force=TimeInForce.IOC,
            source="manual",
            entry_point="manual",
            request_id=request,
            linkage=Linkage(trigger=ExitReason.MANUAL.value),
            entry_key=entry.order_key,
            exit_reason=ExitReason.MANUAL,
            asked_by="the chaos run",
        )
        self.sells[action.number] = intent
        await self._enter(-1 - action.number, intent)

    async def _signal(self, action: Signal) -> None:
        """A strategy run stores its row of the matrix; if it can't, the row is lost, like a failed run's."""
        try:
            await self.rig.ledger.execute(
                """INSERT INTO market_snapshots (account, snapshot_id, symbol, at, action, sell_score)
                   VALUES ($1, $2, $3, now(), $4, 3.5)""",
                ACCOUNT,
                uuid.uuid4(),
                action.symbol,
                action.action,
            )
            await self.rig.ledger.execute("SELECT pg_notify('matrix', '')")
        except _TROUBLE as problem:
            self.begun.append(f"no matrix for {action.symbol}: {problem}")

    async def _without_names(self, action: Names) -> None:
        """No name resolves for a while, and every connection to the exchange must be made again."""
        rig = self.rig
        async with self._locks.setdefault("names", asyncio.Lock()):
            rig.no_names.touch()
            try:
                await rig.control.sockets("drop", "*")
                await rig.control.fault("not_accepted_cut", "*", count=None, duration=action.seconds / 2)
                await asyncio.sleep(action.seconds)
            finally:
                rig.no_names.unlink()

    async def _ask(self, number: int, update: str) -> None:
        """A person cancels or closes; repeated while there is no answer, given up when refused."""
        intent = self.intents.get(number)
        if intent is None:
            return
        handle = self.rig.client.get_workflow_handle(order_workflow_id(intent.order_key))
        deadline = time.monotonic() + _ASK_SECONDS
        while time.monotonic() < deadline:
            try:
                async with asyncio.timeout(5):
                    await handle.execute_update(update, CloseRequest(by="a person", request_id=f"{update}-{number}"))
            except WorkflowUpdateFailedError:
                return
            except RPCError as problem:
                if problem.status is RPCStatusCode.NOT_FOUND:
                    return
                await asyncio.sleep(0.5)
            except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
                await asyncio.sleep(0.5)
            else:
                return

    async def _terminate(self) -> None:
        """A person's mistake; without a running monitor it has no effect."""
        try:
            async with asyncio.timeout(5):
                key = await self.rig.ledger.fetchval(
                    "SELECT entry_key FROM trades WHERE state = 'PROTECTED' ORDER BY opened_at DESC LIMIT 1"
                )
                if key is None:
                    self.begun.append("no open trade whose monitor could be terminated")
                    return
                await self.rig.client.get_workflow_handle(exit_workflow_id(key)).terminate("a mistake")
        except _TROUBLE as problem:
            self.begun.append(f"no monitor was terminated: {problem!r}")
        else:
            self.rig.notes.terminated.append((datetime.now(UTC), key))

    async def _manual(self, action: Manual) -> None:
        try:
            await self.rig.control.order(
                action.symbol, action.side, {"market_market_ioc": {"base_size": str(action.size)}}
            )
        except ControlError as refused:
            self.begun.append(f"manual {action.side} {action.symbol} refused: {refused}")

    async def _flap(self, action: Flap) -> None:
        for _ in range(action.times):
            await self.rig.control.sockets("drop", action.path)
            await asyncio.sleep(0.4)

    async def _outage(self, action: Outage) -> None:
        """Stop a process for a while; two outages of one target are never at the same time."""
        names = ["worker-a", "worker-b"] if action.target == "workers" else [action.target]
        async with contextlib.AsyncExitStack() as held:
            for name in names:
                await held.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            since = datetime.now(UTC)
            try:
                await self._away(action, names)
            finally:
                self.rig.notes.outage(since)

    async def _cut(self, action: Cut) -> None:
        """The machine loses its power, after stopped processes have come back."""
        async with contextlib.AsyncExitStack() as held:
            for name in ("worker-a", "worker-b", "temporal", "postgres"):
                await held.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            self.say("the power is gone")
            await self.rig.cut_power(action.seconds)
            since, until = self.rig.notes.cuts[-1]
            self.say(f"all is up again {(until - since).total_seconds():.1f} s after the cut")

    async def _away(self, action: Outage, names: Sequence[str]) -> None:
        stack, seconds = self.rig.stack, action.seconds
        if action.target == "temporal":
            await stack.kill_temporal()
            await asyncio.sleep(seconds)
            await stack.restart_temporal()
            return
        if action.target == "postgres":
            since = datetime.now(UTC)
            await stack.kill_postgres()
            await asyncio.sleep(seconds)
            await stack.restart_postgres()
            self.rig.notes.database_kills.append((since, datetime.now(UTC)))
            return
        slots = [self.rig.workers[name] for name in names]
        for slot in slots:
            if action.how == "stop":
                slot.freeze()
            elif action.how == "crash":
                await slot.crash_at(action.point)
            else:
                await slot.kill()
        await asyncio.sleep(seconds)
        for slot in slots:
            if action.how == "stop":
                slot.wake()
            await slot.start()

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _end_faults(self) -> None:
        """No new fault from here on; stopped processes come back by themselves, and a wrong clock stays wrong."""
        control = self.rig.control
        await control.clear_faults()
        await control.latency(accept=0, cancel=0)

    async def _steer_home(self) -> None:
        """Let the market fall past every tight stop, then oscillate so that limit exits fill, until all is quiet."""
        began = time.monotonic()
        for number, slot in self.rig.workers.items():
            await slot.start()
            self.say(f"{number}: ended by itself {slot.ended_by_itself} times")
        still, swing, waiting = 0, 0, "nothing asked yet"
        while (passed := time.monotonic() - began) < _QUIET_SECONDS:
            # Positions bought on the way down must be sold, too, so it goes on falling.
            bid = (Decimal(100) * _CRASH_TO * _FALL ** int(passed / _FALL_SECONDS)).quantize(TICK)
            for symbol in self.terms.symbols:
                at = bid + (swing % 4) * TICK
                await self.rig.price(symbol, at)
                await self.rig.control.trade(symbol, at + PRINTS_UP * TICK, Decimal(5), "BUY")
            swing += 1
            try:
                waiting = await self._unquiet()
            except _TROUBLE as problem:
                waiting = f"the ledger or Temporal can't be asked: {problem!r}"
            still = 0 if waiting else still + 1
            if still >= 2:
                self.say(f"still after {time.monotonic() - began:.1f} s")
                return
            await asyncio.sleep(0.5)
        self.problems.append(f"not still after {_QUIET_SECONDS:.0f} s: {waiting}")

    async def _unquiet(self) -> str:
        """Everything still going on; empty if quiet. Protection of kept trades rests, which counts as quiet."""
        ledger = self.rig.ledger
        resting = {row["order_key"]: row["exchange_order_id"] for row in await ledger.fetch(_RESTING)}
        checks = {
            "intents without a decision": len(self.decided)
            - await ledger.fetchval(
                "SELECT count(*) FROM orders WHERE order_key = ANY($1)", list(self.decided.values())
            ),
            "orders at work": await ledger.fetchval(
                "SELECT count(*) FROM orders WHERE NOT finished AND order_key <> ALL($1)", list(resting)
            ),
            "attempts without an end": await ledger.fetchval(
                """SELECT count(*) FROM attempts
                   WHERE status NOT IN ('ABSENT','FILLED','CANCELLED','EXPIRED','FAILED') AND order_key <> ALL($1)""",
                list(resting),
            ),
            "trades that should be closed": await ledger.fetchval(
                """SELECT count(*) FROM trades t JOIN orders o ON o.order_key = t.entry_key
                   WHERE t.state <> 'CLOSED' AND (t.rules->>'hard_stop')::numeric < 0.1"""
            ),
            "trades being closed": await ledger.fetchval("SELECT count(*) FROM trades WHERE state = 'CLOSING'"),
            "trades without their protection": await ledger.fetchval(_UNSHIELDED, list(resting)),
            "derived fills": await ledger.fetchval("SELECT count(*) FROM fills WHERE origin = 'derived'"),
            "facts not routed": await ledger.fetchval(
                "SELECT count(*) FROM raw_facts WHERE kind = 'order' AND routed_at IS NULL"
            ),
        }
        open_orders = [order for order in await self.rig.control.orders() if order["status"] in _LIVE]
        checks["orders open at the exchange"] = len({order["order_id"] for order in open_orders} - {*resting.values()})
        traded = {fill["order_id"] for fill in await self.rig.control.fills()}
        known = await ledger.fetchval(
            "SELECT count(DISTINCT exchange_order_id) FROM fills WHERE exchange_order_id = ANY($1)", list(traded)
        )
        checks["filled orders that the books lack"] = len(traded) - known
        checks["terminated monitors that nothing has replaced"] = await self._not_replaced()
        return ", ".join(f"{number} {what}" for what, number in checks.items() if number)

    async def _not_replaced(self) -> int:
        """Open trades whose monitor a person terminated, before the sweep has started another."""
        hit = [key for _, key in self.rig.notes.terminated]
        still_open = await self.rig.ledger.fetch(
            "SELECT entry_key FROM trades WHERE state <> 'CLOSED' AND entry_key = ANY($1)", hit
        )
        gone = 0
        for row in still_open:
            monitor = self.rig.client.get_workflow_handle(exit_workflow_id(row["entry_key"]))
            gone += (await monitor.describe()).status is not WorkflowExecutionStatus.RUNNING
        return gone


_RESTING = """
SELECT o.order_key, a.exchange_order_id
  FROM orders o JOIN attempts a USING (order_key) JOIN trades t ON t.entry_key = o.entry_key
 WHERE o.protection_role IN ('OCO', 'STOP_LOSS', 'TAKE_PROFIT') AND NOT o.finished AND a.status = 'OPEN'
   AND t.state = 'PROTECTED' AND (t.rules->>'hard_stop')::numeric >= 0.1
   AND o.claimed_base - o.filled_size = t.remaining
"""
"""Protection at the exchange for all of a trade that is kept."""
_UNSHIELDED = """
SELECT count(*) FROM trades t JOIN orders e ON e.order_key = t.entry_key
 WHERE t.state = 'PROTECTED' AND jsonb_typeof(e.intent->'protection') = 'object'
   AND (t.rules->>'hard_stop')::numeric >= 0.1
   AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.entry_key = t.entry_key AND o.order_key = ANY($1))
   AND NOT EXISTS (SELECT 1 FROM incidents i WHERE i.kind = 'PROTECTION_FAILED' AND i.resolved_at IS NULL
                      AND i.subject = t.entry_key)
"""
_LIVE = frozenset({"PENDING", "OPEN", "QUEUED", "CANCEL_QUEUED", "EDIT_QUEUED"})


@dataclass(frozen=True)
class Verdict:
    """The result of a seed. `kept` is its data folder, if it still exists."""

    seed: int
    audit: Audit
    seconds: float
    kept: Path | None = None

    @property
    def passed(self) -> bool:
        """Whether no row of the audit is violated."""
        return not self.audit.violations


async def run_seed(
    seed: int,
    terms: ChaosTerms,
    folder: Path,
    say: Say,
    *,
    inspect: Callable[[Rig, Evidence], Awaitable[None]] | None = None,
    keep: bool = False,
) -> Verdict:
    """Run one seed on a new stack below `folder` and audit it; `inspect` may read the stack before it is stopped.

    The data folder is kept, with schedule and evidence, if anything is wrong or `keep` is set, else removed.
    """
    data = folder / f"seed-{seed}"
    shutil.rmtree(data, ignore_errors=True)
    began = time.monotonic()
    no_cut = await asyncio.to_thread(why_no_power_cut) if terms.power_cut else None
    if no_cut is not None:
        terms = replace(terms, power_cut=False)
    async with open_rig(data, terms.symbols, seed=seed, power_cut=terms.power_cut) as rig:
        (data / "schedule.txt").write_text(describe(plan_run(seed, terms)))
        run = ChaosRun(rig, seed, terms, say)
        try:
            await run.drive()
        except (aiohttp.ClientError, *_TROUBLE) as problem:
            run.problems.append(f"the run was broken off: {problem!r}")
        evidence = await collect(
            rig.client,
            rig.ledger,
            rig.control,
            rig.notes,
            intents=[run.intents[number] for number in sorted(run.decided) if number >= 0],
            sells=[run.sells[number] for number in sorted(run.sells) if -1 - number in run.decided],
            problems=run.problems,
        )
        evidence.no_cut = no_cut or ""
        (data / "evidence.json").write_text(evidence_text(evidence))
        found = audit(evidence)
        (data / "audit.txt").write_text(found.text())
        if inspect is not None:
            await inspect(rig, evidence)
    seconds = time.monotonic() - began
    if found.violations or keep:
        return Verdict(seed, found, seconds, kept=data)
    shutil.rmtree(data, ignore_errors=True)
    return Verdict(seed, found, seconds)
