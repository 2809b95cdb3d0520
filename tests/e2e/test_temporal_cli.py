"""docs/temporal-cli.md, command by command: each block is run as written, and its effect is checked."""

import itertools
import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from activities.interfaces.starting import decide_order
from domain.ids import intent_key
from domain.messages import IndicatorPart, Linkage, OrderIntent
from domain.orders import OrderRole, OrderType, Side
from tests.support.live_stack import LiveStack, Outcome, live_stack, run_command
from tests.support.waiting import eventually
from workers.stack import temporal_binary

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "temporal-cli.md"
_BLOCK = re.compile(r"<!-- test: (\w+) -->\n```bash\n(.*?)```", re.DOTALL)
BLOCKS = dict(_BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")))
_QUOTES = {"BTC-USD": ("50000", "50001"), "ETH-USD": ("3000", "3000.1"), "SOL-USD": ("100", "100.01")}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Desk:
    """A live stack with trades for the document's commands."""

    live: LiveStack
    env: Mapping[str, str]

    async def run(self, block: str, **placeholders: str) -> Outcome:
        """Run a block of the document in a shell, with its placeholders set as the document says."""
        return await run_command(["bash", "-euc", BLOCKS[block]], {**self.env, **placeholders})

    async def until(self, block: str, shows: Callable[[str], bool], **placeholders: str) -> str:
        """The block's output, once it has the expected content: lists lag a little."""

        async def look() -> str | None:
            outcome = await self.run(block, **placeholders)
            assert outcome.code == 0, outcome.err
            return outcome.out if shows(outcome.out) else None

        return await eventually(look, within=20, what=block)

    async def entry(self, symbol: str = "BTC-USD", *, limit: str | None = None, snapshot: str | None = None) -> str:
        """The key of an admitted entry: at market, or resting at a limit."""
        # Earlier orders have used up the book: set it up again.
        await self.live.price(symbol, *_QUOTES[symbol])
        number = next(_numbers)
        intent = OrderIntent(
            order_key=intent_key("test", f"entry-{number}", "main", symbol, "BUY"),
            account="main",
            symbol=symbol,
            side=Side.BUY,
            role=OrderRole.ENTRY,
            order_type=OrderType.MARKET if limit is None else OrderType.LIMIT,
            base_size=Decimal("0.1"),
            limit_price=None if limit is None else Decimal(limit),
            source="sighook",
            entry_point="test",
            request_id=f"entry-{number}",
            linkage=Linkage(
                trigger="rsi_oversold",
                snapshot_id=snapshot or str(uuid.uuid4()),
                buy_score=Decimal("0.8"),
                indicator_breakdown={"rsi": IndicatorPart(value=Decimal(27), fired=True, weight=Decimal(1))},
                indicators_fired=("rsi",),
            ),
        )
        decision = await decide_order(self.live.client, intent)
        assert decision.accepted, decision
        return intent.order_key

    async def trade(self, symbol: str = "BTC-USD", *, snapshot: str | None = None) -> str:
        """The key of a trade that holds a position and is guarded."""
        key = await self.entry(symbol, snapshot=snapshot)
        await self.trade_is(key, "PROTECTED")
        await eventually(lambda: self.runs(f"exit-{key}"), what="its exit monitor")
        return key

    async def resting(self, symbol: str = "BTC-USD") -> str:
        """The key of an order that rests at the exchange."""
        key = await self.entry(symbol, limit="10")
        await self.order_is(key, "OPEN")
        return key

    async def trade_is(self, key: str, state: str) -> Any:
        """The trade's row, once it is in this state."""
        return await eventually(
            lambda: self.live.ledger.fetchrow("SELECT * FROM trades WHERE entry_key = $1 AND state = $2", key, state),
            what=f"trade {key} {state}",
        )

    async def order_is(self, key: str, state: str) -> Any:
        """The order's row, once it is in this state."""
        return await eventually(
            lambda: self.live.ledger.fetchrow("SELECT * FROM orders WHERE order_key = $1 AND state = $2", key, state),
            what=f"order {key} {state}",
        )

    async def runs(self, workflow_id: str) -> bool:
        """Whether a workflow of this id runs."""
        count = await self.live.client.count_workflows(f'WorkflowId="{workflow_id}" AND ExecutionStatus="Running"')
        return count.count > 0


@pytest_asyncio.fixture(scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    """One stack for the module, whose market doesn't move; `temporal` is on PATH, whatever our cache calls it."""
    programs = tmp_path_factory.mktemp("bin")
    (programs / "temporal").symlink_to(await temporal_binary.ensure_async())
    async with live_stack("--balance", "USD=1000000", env={"BOTTRADER_SYMBOLS__MAX_OPEN_BUYS": "50"}) as live:
        for symbol, bid, ask in (
            ("BTC-USD", "50000", "50001"),
            ("ETH-USD", "3000", "3000.1"),
            ("SOL-USD", "100", "100.01"),
        ):
            await live.price(symbol, bid, ask)
        env = {**live.env, "PATH": f"{programs}:{live.env['PATH']}", "NO_COLOR": "1"}
        yield Desk(live, env)


def _names(*keys: str) -> Callable[[str], bool]:
    return lambda text: all(f"order-{key}" in text for key in keys)


# --- one scenario a block --------------------------------------------------------------------------------------------


async def live_trades(desk: Desk) -> None:
    """Opening and protected trades are listed, a closed one is not."""
    trade, order = await desk.trade(), await desk.resting()
    listed = await desk.until("live_trades", _names(trade, order))
    assert "ExitMonitorWorkflow" not in listed
    await desk.run("update_close", TRADE=trade)
    await desk.until("live_trades", lambda text: f"order-{trade}" not in text and f"order-{order}" in text)


async def protected_trades(desk: Desk) -> None:
    """Only entries that hold a position are listed."""
    trade, order = await desk.trade(), await desk.resting()
    listed = await desk.until("protected_trades", _names(trade))
    assert f"order-{order}" not in listed


async def opening_trades(desk: Desk) -> None:
    """Only entries that have not filled are listed."""
    trade, order = await desk.trade(), await desk.resting()
    await desk.until("opening_trades", lambda text: f"order-{order}" in text and f"order-{trade}" not in text)


async def by_symbol(desk: Desk) -> None:
    """Another product's trades are not listed."""
    bitcoin, ether = await desk.trade("BTC-USD"), await desk.trade("ETH-USD")
    listed = await desk.until("by_symbol", _names(bitcoin))
    assert f"order-{ether}" not in listed


async def by_trigger(desk: Desk) -> None:
    """The trigger's entries are listed."""
    await desk.until("by_trigger", _names(await desk.trade()))


async def by_source(desk: Desk) -> None:
    """The source's entries are listed."""
    await desk.until("by_source", _names(await desk.trade()))


async def by_snapshot(desk: Desk) -> None:
    """Everything of one snapshot is listed, and nothing else."""
    snapshot = str(uuid.uuid4())
    mine, other = await desk.trade(snapshot=snapshot), await desk.trade()
    listed = await desk.until("by_snapshot", _names(mine), SNAPSHOT=snapshot)
    assert f"exit-{mine}" in listed
    assert other not in listed


async def count_live(desk: Desk) -> None:
    """Entries are counted by whether their trade is open."""
    await desk.trade()
    await desk.resting()
    await desk.until("count_live", lambda text: "Running" in text)


async def describe(desk: Desk) -> None:
    """The description has the search attributes."""
    text = (await desk.run("describe", TRADE=await desk.trade())).out
    assert "rsi_oversold" in text
    assert "BTC-USD" in text


async def metadata(desk: Desk) -> None:
    """A person can read what the order is, and how it is guarded."""
    text = (await desk.run("metadata", TRADE=await desk.trade())).out
    assert "BUY 0.1 BTC-USD MARKET" in text
    assert "hard stop 47500.95" in text


async def state(desk: Desk) -> None:
    """Order and monitor report their state."""
    text = (await desk.run("state", TRADE=await desk.trade())).out
    assert '"public_state":"FILLED"' in text
    assert '"entry_price":"50001"' in text


async def timeline(desk: Desk) -> None:
    """Both have their timelines."""
    text = (await desk.run("timeline", TRADE=await desk.trade())).out
    assert "filled 0.1 at 50001" in text
    assert "guards 0.1 BTC-USD" in text


async def show(desk: Desk) -> None:
    """The history has the activity that placed the order."""
    text = (await desk.run("show", TRADE=await desk.trade())).out
    assert "WorkflowExecutionStarted" in text
    assert '"place"' in text


async def update_cancel(desk: Desk) -> None:
    """The order is cancelled at the exchange; after its end, the command fails and says why."""
    order = await desk.resting()
    assert "being cancelled" in (await desk.run("update_cancel", ORDER=order)).out
    await desk.order_is(order, "CANCELLED")
    at_exchange = next(row for row in await desk.live.control.orders() if row["client_order_id"] == f"{order}-1")
    assert at_exchange["status"] == "CANCELLED"
    trade = await desk.trade()
    refused = await desk.run("update_cancel", ORDER=trade)
    assert refused.code != 0
    assert "the order has ended: FILLED" in refused.err


async def signal_cancel(desk: Desk) -> None:
    """The order is cancelled."""
    order = await desk.resting()
    await _done(desk, "signal_cancel", ORDER=order)
    await desk.order_is(order, "CANCELLED")


async def workflow_cancel(desk: Desk) -> None:
    """Filled in part: the rest is cancelled at the exchange, the filled part is protected, the workflow goes on."""
    order = await desk.resting()
    at_exchange = next(row for row in await desk.live.control.orders() if row["client_order_id"] == f"{order}-1")
    await desk.live.control.fill(at_exchange["order_id"], "0.03")
    await desk.trade_is(order, "PROTECTED")
    await _done(desk, "workflow_cancel", ORDER=order)
    row = await desk.order_is(order, "CANCELLED")
    assert row["filled_size"] == Decimal("0.03")
    trade = await desk.trade_is(order, "PROTECTED")
    assert trade["remaining"] == Decimal("0.03")
    assert await desk.runs(f"order-{order}")
    assert await desk.runs(f"exit-{order}")


async def cancel_protected(desk: Desk) -> None:
    """Nothing is sold, the plan stays armed, and the monitor says that it refused."""
    trade = await desk.trade()
    await _done(desk, "cancel_protected", TRADE=trade)
    guard = desk.live.client.get_workflow_handle(f"exit-{trade}")

    async def refused() -> bool:
        return any("refused" in line for line in await guard.query("timeline"))

    await eventually(refused, what="the guard's refusal")
    assert (await desk.trade_is(trade, "PROTECTED"))["remaining"] == Decimal("0.1")
    armed = await desk.live.ledger.fetchval("SELECT state FROM exit_plans WHERE entry_key = $1", trade)
    assert armed == "ARMED"
    assert await desk.runs(f"order-{trade}")
    assert await desk.runs(f"exit-{trade}")


async def update_stops(desk: Desk) -> None:
    """The plan has the new soft stop, and the person is recorded."""
    trade = await desk.trade()
    assert "soft stop 48750.975 → 49500" in (await desk.run("update_stops", TRADE=trade)).out
    by = await desk.live.ledger.fetchval("SELECT given_by FROM stop_changes WHERE entry_key = $1", trade)
    assert by == "temporal (says ann)"


async def update_close(desk: Desk) -> None:
    """The position is sold as MANUAL, and the person is recorded."""
    trade = await desk.trade()
    assert "being sold" in (await desk.run("update_close", TRADE=trade)).out
    row = await desk.trade_is(trade, "CLOSED")
    assert row["exit_reason"] == "MANUAL"
    by = await desk.live.ledger.fetchval(
        "SELECT intent->>'asked_by' FROM orders WHERE entry_key = $1 AND role = 'EXIT'", trade
    )
    assert by == "temporal (says ann)"


async def signal_close(desk: Desk) -> None:
    """The position is sold."""
    trade = await desk.trade()
    await _done(desk, "signal_close", TRADE=trade)
    assert (await desk.trade_is(trade, "CLOSED"))["exit_reason"] == "MANUAL"


async def result(desk: Desk) -> None:
    """The entry's result is the trade's outcome."""
    trade = await desk.trade()
    await desk.run("update_close", TRADE=trade)
    text = (await desk.run("result", TRADE=trade)).out
    assert '"exit_reason":"MANUAL"' in text
    assert '"entry_price":"50001"' in text


async def by_exit_reason(desk: Desk) -> None:
    """A closed trade is found by its exit reason."""
    trade = await desk.trade()
    await desk.run("update_close", TRADE=trade)
    await desk.until("by_exit_reason", lambda text: f"exit-{trade}" in text)


async def batch_close(desk: Desk) -> None:
    """Every trade of the product is closed, and no other."""
    ether, more, bitcoin = await desk.trade("ETH-USD"), await desk.trade("ETH-USD"), await desk.trade("BTC-USD")
    await _done(desk, "batch_close")
    await desk.trade_is(ether, "CLOSED")
    await desk.trade_is(more, "CLOSED")
    await desk.trade_is(bitcoin, "PROTECTED")


async def batch_cancel(desk: Desk) -> None:
    """Every resting entry is cancelled, and positions stay."""
    first, second, trade = await desk.resting(), await desk.resting("SOL-USD"), await desk.trade()
    await desk.until("opening_trades", _names(first, second))
    await _done(desk, "batch_cancel")
    await desk.order_is(first, "CANCELLED")
    await desk.order_is(second, "CANCELLED")
    await desk.trade_is(trade, "PROTECTED")


async def batches(desk: Desk) -> None:
    """The batches are listed."""
    await desk.resting()
    await desk.run("batch_cancel")
    await desk.until("batches", lambda text: "Completed" in text or "Running" in text)


async def terminate(desk: Desk) -> None:
    """The sweep starts the monitor again, and the trade can still be closed."""
    trade = await desk.trade("SOL-USD")

    async def swept() -> bool:
        return bool(await desk.runs(f"exit-{trade}"))

    # The sweep skips trades whose last fill is a moment old.
    await eventually(
        lambda: desk.live.ledger.fetchval(
            "SELECT last_fill_at < now() - interval '5 seconds' FROM orders WHERE order_key = $1", trade
        ),
        what="a trade that is not brand-new",
    )
    await _done(desk, "terminate", TRADE=trade)
    await eventually(swept, within=30, what="the sweep's monitor")
    assert (await desk.run("update_close", TRADE=trade)).code == 0
    await desk.trade_is(trade, "CLOSED")


async def streams(desk: Desk) -> None:
    """User stream and watcher run, and the sweep's schedule exists."""
    text = (await desk.run("streams")).out
    assert "UserStreamWorkflow" in text
    assert "PriceWatcherWorkflow" in text
    assert "SweepWorkflow" in text


async def workers(desk: Desk) -> None:
    """The worker is listed as polling."""
    assert "@" in (await desk.run("workers")).out


async def _done(desk: Desk, block: str, **placeholders: str) -> None:
    outcome = await desk.run(block, **placeholders)
    assert outcome.code == 0, outcome.err


SCENARIOS: Mapping[str, Callable[[Desk], Awaitable[None]]] = {
    scenario.__name__: scenario
    for scenario in (
        live_trades, protected_trades, opening_trades, by_symbol, by_trigger, by_source, by_snapshot, count_live,
        describe, metadata, state, timeline, show, update_cancel, signal_cancel, workflow_cancel, cancel_protected,
        update_stops, update_close, signal_close, result, by_exit_reason, batch_close, batch_cancel, batches, terminate,
        streams,
        workers,
    )
}  # fmt: skip


@pytest.mark.parametrize("block", BLOCKS)
async def test_documented_command(desk: Desk, block: str) -> None:
    """A block of the document has the described effect."""
    await SCENARIOS[block](desk)


def test_every_command_is_tested() -> None:
    """No `temporal` command is in the document outside of a tested block, and no block is repeated."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [name for name, _ in _BLOCK.findall(text)] == list(SCENARIOS)
    untested = _BLOCK.sub("", text)
    assert "```bash" not in untested
    assert not re.search(r"^\s*temporal ", untested, re.MULTILINE)


def test_json_inputs_are_json() -> None:
    """The document's inputs can be parsed."""
    for given in re.findall(r"--input '(.*?)'", DOCUMENT.read_text(encoding="utf-8")):
        assert isinstance(json.loads(given), dict)
