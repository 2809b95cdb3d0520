"""The trading commands as a person uses them: real processes on a real stack, the market moving only on request."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from cli.asking import ask, user
from cli.ledger import resolve_key
from cli.main import run
from domain.ids import intent_key, order_workflow_id
from domain.messages import CloseRequest
from tests.support.live_stack import LiveStack, Outcome, live_stack
from tests.support.waiting import eventually
from workers.errors import UserError


@pytest_asyncio.fixture(scope="module")
async def trading() -> AsyncIterator[LiveStack]:
    """One stack for the module; every test trades its own symbol or sizes."""
    async with live_stack(env={"BOTTRADER_SYMBOLS__MAX_OPEN_BUYS": "20"}) as stack:
        await stack.price("BTC-USD", "50000", "50001")
        await stack.price("ETH-USD", "3000", "3000.1")
        await stack.price("SOL-USD", "100", "100.01")
        yield stack


async def _bought(trading: LiveStack, *arguments: str) -> str:
    """The key of a trade that was bought at market."""
    outcome = await trading.command("order", "buy", *arguments, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["state"] == "FILLED"
    return str(outcome.json["order_key"])


async def _requests(trading: LiveStack, key: str) -> list[Any]:
    """The exchange's journal of requests to place this order."""
    return [entry for entry in await trading.control.journal() if key in entry["client_order_id"]]


def _refused(outcome: Outcome, code: int, name: str) -> str:
    assert outcome.code == code, outcome
    assert outcome.error["code"] == name
    assert "Traceback" not in outcome.err
    return str(outcome.error["message"])


async def test_bought_shown_and_closed(trading: LiveStack) -> None:
    """A market buy is filled and protected, can be shown in full, and is sold once on a person's close."""
    key = await _bought(trading, "BTC-USD", "--size", "0.02", "--by", "ann")

    listed = await trading.command("trades", "--open", "--json")
    trade = next(row for row in listed.json if row["entry_key"] == key)
    assert (trade["state"], trade["remaining"], trade["entry_price"]) == ("PROTECTED", "0.02", "50001")
    assert (trade["hard_stop"], trade["soft_stop"]) == ("47500.95", "48750.975")

    shown = (await trading.command("trade", "show", key[:8], "--json")).json
    assert shown["gates"][0]["gate"] == "SKIP_TRADING_HALTED"
    assert all(row["passed"] for row in shown["gates"])
    assert shown["attempts"][0]["client_order_id"] == f"{key}-1"
    assert shown["fills"][0]["size"] == "0.02"
    assert shown["linkage"][0]["trigger_type"] == "manual"
    assert shown["decision"]["asked_by"] == user("ann")
    assert any("filled 0.02 at 50001" in line for line in shown["timelines"][f"order-{key}"])
    assert shown["timelines"][f"exit-{key}"]

    closed = await trading.command("trade", "close", key[:8], "--by", "ann", "--json")
    assert closed.code == 0, closed.err
    assert (closed.json["state"], closed.json["exit_reason"]) == ("CLOSED", "MANUAL")
    sold_by = "SELECT intent->>'asked_by' FROM orders WHERE entry_key = $1 AND role = 'EXIT'"
    assert await trading.ledger.fetchval(sold_by, key) == user("ann")
    # 1 USD a BTC lost on 0.02, and 0.6 % of both sides
    assert closed.json["pnl"] == "-12.02012"

    message = _refused(await trading.command("trade", "close", key[:8], "--json"), 1, "TRADE_CLOSED")
    assert "MANUAL" in message
    text = await trading.command("trade", "show", key[:8])
    assert text.code == 0
    assert f"requested by {user('ann')}" in text.out
    assert "P&L -12.02012" in text.out


async def test_the_same_request_is_the_same_order(trading: LiveStack) -> None:
    """A request id places one order, however often it is sent; with another size it is refused."""
    arguments = ("order", "buy", "ETH-USD", "--size", "0.1", "--request-id", "twice", "--json")
    first, second = await trading.command(*arguments), await trading.command(*arguments)
    assert (first.json["repeated"], second.json["repeated"]) == (False, True)
    assert first.json["order_key"] == second.json["order_key"]
    requests = [
        entry for entry in await trading.control.journal() if first.json["order_key"] in entry["client_order_id"]
    ]
    assert len(requests) == 1

    other = await trading.command("order", "buy", "ETH-USD", "--size", "0.2", "--request-id", "twice", "--json")
    assert "0.1 ETH-USD" in _refused(other, 2, "INTENT_CONFLICT")
    for changed, words in (
        ((*arguments, "--hard-stop", "4"), "the differences are --hard-stop: 5 % then, 4 % now"),
        (("order", "buy", "SOL-USD", *arguments[3:]), "0.1 ETH-USD"),
        (("order", "sell", *arguments[2:]), "0.1 ETH-USD"),
    ):
        assert words in _refused(await trading.command(*changed), 2, "INTENT_CONFLICT")
    assert len(await _requests(trading, first.json["order_key"])) == 1


@pytest.mark.parametrize(
    ("arguments", "gate", "words"),
    [
        (("XYZ-USD", "--size", "1"), "UNKNOWN_SYMBOL", "no product 'XYZ-USD'"),
        (("BTC-USD", "--quote", "0.5"), "BELOW_MINIMUM_SIZE", "below the minimum"),
        (("BTC-USD", "--size", "0.01", "--limit", "40000.001"), "INVALID_PRICE", "the nearest are 40000 and 40000.01"),
        (("BTC-USD", "--size", "0.0010000009"), "INVALID_SIZE", "the nearest are 0.001 and 0.00100001"),
        (("BTC-USD", "--size", "0.000000009"), "BELOW_MINIMUM_SIZE", "0.000000009 BTC is below the minimum"),
        (("BTC-USD", "--size", "100"), "INSUFFICIENT_BALANCE", "available"),
    ],
)
async def test_gates_refuse_in_a_sentence(
    trading: LiveStack, arguments: tuple[str, ...], gate: str, words: str
) -> None:
    """A gate's refusal is exit code 1 with its sentence, stored with its numbers, and never sent."""
    outcome = await trading.command("order", "buy", *arguments, "--json")
    assert words in _refused(outcome, 1, gate)
    assert (outcome.json["state"], outcome.json["gate"]) == ("REJECTED", gate)
    key = outcome.json["order_key"]
    stored = await trading.ledger.fetchval("SELECT gate FROM gate_results WHERE order_key = $1 AND NOT passed", key)
    assert stored == gate
    assert not await _requests(trading, key)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("buy", "btcusd", "--size", "1"), "BAD_SYMBOL"),
        (("buy", "BTC-USD"), "BAD_SIZE"),
        (("buy", "BTC-USD", "--size", "1", "--quote", "5"), "BAD_SIZE"),
        (("buy", "BTC-USD", "--size", "many"), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--size", "NaN"), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--size", "-1"), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--size", "0"), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--size", "."), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--size", "1_000"), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--size", "\u0661"), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--size", "1e-19"), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--size", "0." + "1" * 60), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--quote", "1e999999999"), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--quote", "1e16"), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--quote", "1", "--limit", "1e99"), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--quote", "1", "--hard-stop", "1e-999999999%"), "BAD_NUMBER"),
        (("buy", "BTC-USD", "--size", "1", "--post-only"), "BAD_ORDER"),
        (("buy", "BTC-USD", "--size", "1", "--tif", "FOK"), "BAD_ORDER"),
        (("buy", "BTC-USD", "--size", "1", "--limit", "1", "--tif", "GTX"), "BAD_ORDER"),
        (("buy", "BTC-USD", "--size", "1", "--limit", "1", "--post-only", "--tif", "IOC"), "BAD_ORDER"),
        (("buy", "BTC-USD", "--size", "1", "--expires", "5"), "BAD_ORDER"),
        (("buy", "BTC-USD", "--size", "1", "--trigger", "hunch"), "UNKNOWN_TRIGGER"),
        (("buy", "BTC-USD", "--size", "1", "--hard-stop", "1"), "BAD_EXIT_RULES"),
        (("buy", "BTC-USD", "--size", "1", "--request-id", "a b"), "BAD_REQUEST_ID"),
        (("sell", "BTC-USD"), "BAD_SIZE"),
    ],
)
def test_bad_input_asks_nobody(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: str) -> None:
    """Invalid input is one sentence and exit code 2, without database, Temporal or exchange."""
    ended = run(["order", *arguments, "--json"])
    printed = capsys.readouterr()
    _refused(Outcome(ended, printed.out, printed.err), 2, code)


async def test_wrong_keys_are_bad_input(trading: LiveStack) -> None:
    """A key without an order is a sentence and exit code 2, and nothing is stored."""
    before = await trading.ledger.fetchval("SELECT count(*) FROM orders")
    for arguments, code in (
        (("order", "cancel", "ffffffffff"), "NO_SUCH_ORDER"),
        (("order", "cancel", "ffff"), "BAD_KEY"),
        (("trade", "close", "my trade"), "BAD_KEY"),
        (("order", "sell", "BTC-USD", "--size", "1", "--trade", "ffffffffff"), "NO_SUCH_ORDER"),
    ):
        _refused(await trading.command(*arguments, "--json"), 2, code)
    assert await trading.ledger.fetchval("SELECT count(*) FROM orders") == before


async def test_dry_run_sends_nothing(trading: LiveStack) -> None:
    """A dry run passes every gate and stops there."""
    outcome = await trading.command("order", "buy", "ETH-USD", "--size", "0.1", "--dry-run", "--json")
    assert (outcome.code, outcome.json["gate"]) == (0, "DRY_RUN")
    assert not await _requests(trading, outcome.json["order_key"])


async def test_resting_order_is_listed_and_cancelled(trading: LiveStack) -> None:
    """A limit order below the market rests, is found by the beginning of its key, and is cancelled at the exchange."""
    outcome = await trading.command("order", "buy", "SOL-USD", "--size", "1", "--limit", "90", "--post-only", "--json")
    assert (outcome.code, outcome.json["public_state"]) == (0, "ACTIVE")
    key = outcome.json["order_key"]
    listed = (await trading.command("orders", "--open", "--symbol", "sol-usd", "--json")).json
    assert [row["order_key"] for row in listed] == [key]

    cancelled = await trading.command("order", "cancel", key[:6], "--json")
    assert (cancelled.code, cancelled.json["state"]) == (0, "CANCELLED"), cancelled.err
    at_exchange = next(row for row in await trading.control.orders() if row["client_order_id"] == f"{key}-1")
    assert at_exchange["status"] == "CANCELLED"
    assert "CANCELLED" in _refused(await trading.command("order", "cancel", key[:6], "--json"), 1, "ORDER_ENDED")
    assert (await trading.command("orders", "--open", "--symbol", "SOL-USD")).out.strip() == "There are no open orders."


async def test_cancel_keeps_and_protects_what_was_filled(trading: LiveStack) -> None:
    """Cancelling a partly filled entry leaves a protected trade of the filled part."""
    outcome = await trading.command("order", "buy", "SOL-USD", "--size", "10", "--limit", "95", "--json")
    key = outcome.json["order_key"]
    order = next(row for row in await trading.control.orders() if row["client_order_id"] == f"{key}-1")
    await trading.control.fill(order["order_id"], "3")
    await eventually(
        lambda: trading.ledger.fetchval("SELECT state = 'PROTECTED' FROM trades WHERE entry_key = $1", key),
        what="the filled part is protected",
    )
    cancelled = await trading.command("order", "cancel", key[:10], "--json")
    assert (cancelled.json["state"], cancelled.json["filled_size"]) == ("CANCELLED", "3")
    trade = next(row for row in (await trading.command("trades", "--json")).json if row["entry_key"] == key)
    assert (trade["state"], trade["remaining"], trade["entry_final"]) == ("PROTECTED", "3", True)


async def test_a_cancel_that_comes_too_late_says_so(trading: LiveStack) -> None:
    """An order that fills during its cancel was not cancelled: exit code 1, and the fill is shown."""
    arguments = ("order", "buy", "SOL-USD", "--size", "1", "--limit", "91", "--json")
    key = (await trading.command(*arguments)).json["order_key"]
    order = next(row for row in await trading.control.orders() if row["client_order_id"] == f"{key}-1")
    await trading.control.latency(cancel=None)
    try:
        cancelling = asyncio.create_task(trading.command("order", "cancel", key[:8], "--timeout", "30", "--json"))

        async def under_way() -> bool:
            found = await trading.control.orders()
            return any(row["order_id"] == order["order_id"] and row["status"] == "CANCEL_QUEUED" for row in found)

        await eventually(under_way, what="the cancel is under way")
        await trading.control.fill(order["order_id"], "1")
        outcome = await cancelling
    finally:
        await trading.control.latency(cancel=0)
    assert "too late: the order is FILLED" in _refused(outcome, 1, "ORDER_ENDED")
    assert outcome.json["filled_size"] == "1"

    # Its workflow still runs, with the trade, and refuses in a sentence without the code that is for programs.
    with pytest.raises(UserError) as refused:
        await ask(trading.client, order_workflow_id(key), "cancel", CloseRequest(), 10)
    assert (refused.value.code, refused.value.sentence) == ("ORDER_ENDED", "The order has ended: FILLED.")


async def test_an_answer_that_is_late_is_not_known_yet(trading: LiveStack) -> None:
    """A market order that the exchange has not filled in time is exit code 3, and is followed all the same."""
    await trading.control.latency(accept=None)
    try:
        outcome = await trading.command("order", "buy", "SOL-USD", "--size", "1", "--timeout", "2", "--json")
        assert "not known after 2 s" in _refused(outcome, 3, "NOT_CONFIRMED")
        key = outcome.json["order_key"]
        order = next(row for row in await trading.control.orders() if row["client_order_id"] == f"{key}-1")
        await trading.control.accept(order["order_id"])
    finally:
        await trading.control.latency(accept=0)
    is_filled = "SELECT state = 'FILLED' FROM orders WHERE order_key = $1"
    await eventually(lambda: trading.ledger.fetchval(is_filled, key), what="the fill is known")


async def test_sells_no_more_than_there_is(trading: LiveStack) -> None:
    """A sell takes from the trade it names; nothing can be sold from an empty pool."""
    key = await _bought(trading, "ETH-USD", "--size", "0.5")
    sold = await trading.command("order", "sell", "ETH-USD", "--size", "0.2", "--trade", key[:8], "--json")
    assert (sold.code, sold.json["state"], sold.json["filled_size"]) == (0, "FILLED", "0.2"), sold.err
    trade = next(row for row in (await trading.command("trades", "--json")).json if row["entry_key"] == key)
    assert trade["remaining"] == "0.3"

    for arguments, most in (
        ((), ("0", "an unknown size")),
        (("--trade", key), ("0.3",)),
    ):  # before books are open
        nothing = await trading.command("order", "sell", "ETH-USD", "--size", "5", *arguments, "--json")
        said = _refused(nothing, 1, "INSUFFICIENT_BALANCE")
        assert any(f"it would sell 5 ETH, {size} may be sold" in said for size in most), said
    _refused(
        await trading.command("order", "sell", "BTC-USD", "--size", "1", "--trade", key, "--json"), 2, "WRONG_TRADE"
    )


async def test_a_sell_by_hand_keeps_its_price(trading: LiveStack) -> None:
    """A limit that the market doesn't reach sells nothing and keeps the protection; a reached one sells at it or
    better."""
    key = await _bought(trading, "ETH-USD", "--size", "0.4")
    sell = ("order", "sell", "ETH-USD", "--size", "0.1", "--trade", key[:8], "--json")
    above = await trading.command(*sell, "--limit", "3100", "--timeout", "10")
    assert (above.code, above.json["state"], above.json["filled_size"]) == (0, "CANCELLED", "0")
    below = await trading.command(*sell, "--limit", "2900", "--timeout", "10")
    assert (below.json["state"], below.json["limit_price"]) == ("FILLED", "2900")
    assert float(below.json["average_price"]) > 2990
    off = await trading.command(*sell, "--limit", "2900.001")
    assert "is not a multiple" in _refused(off, 1, "INVALID_PRICE")
    _refused(await trading.command(*sell, "--limit", "3100", "--tif", "GTC"), 2, "BAD_ORDER")
    trade = next(row for row in (await trading.command("trades", "--json")).json if row["entry_key"] == key)
    assert (trade["state"], trade["remaining"]) == ("PROTECTED", "0.3")


async def test_exit_rules_from_the_command_line(trading: LiveStack) -> None:
    """Given exit rules are the trade's own, and act; one nearer than the costs is reported, and accepted."""
    rules = ("--hard-stop", "2", "--soft-stop", "1", "--no-signal-exit")
    bought = await trading.command("order", "buy", "SOL-USD", "--size", "2", *rules, "--json")
    key = str(bought.json["order_key"])
    assert bought.err.startswith("warning: the soft stop at 1 % is within the cost of a round trip: 1.21 % (2 × 0.6 %")
    trade = next(row for row in (await trading.command("trades", "--json")).json if row["entry_key"] == key)
    assert (trade["hard_stop"], trade["soft_stop"]) == ("98.0098", "99.0099")
    await trading.price("SOL-USD", "97.9", "97.91")
    closed = "SELECT exit_reason FROM trades WHERE entry_key = $1 AND state = 'CLOSED'"
    assert await eventually(lambda: trading.ledger.fetchval(closed, key), what="the hard stop") == "HARD_STOP"
    await trading.price("SOL-USD", "100", "100.01")


async def test_moved_stops_are_shown_with_who_and_why(trading: LiveStack) -> None:
    """`trade stops` accepts prices and percentages, refuses in a sentence, and its changes are in the trade's
    timeline."""
    key = await _bought(trading, "ETH-USD", "--size", "0.1")
    moved = await trading.command(
        "trade", "stops", key[:8], "--hard", "2900", "--soft", "2%", "--take-profit", "5%", "--note", "news", "--json"
    )
    assert moved.code == 0, moved.err
    assert (moved.json["hard_stop"], moved.json["soft_stop"]) == ("2900", "2940.098")
    assert moved.json["take_profit"] == "3150.105"
    message = _refused(await trading.command("trade", "stops", key[:8], "--hard", "2800", "--json"), 1, "FURTHER_AWAY")
    assert "further" in message
    wider = await trading.command("trade", "stops", key[:8], "--hard", "2800", "--further", "--take-profit", "off")
    assert "warning: the hard stop" not in wider.err, "it is far enough"
    assert wider.out == "Hard stop 2900 → 2800; take profit 3150.105 → none.\n"
    for arguments, code in (
        ((), "BAD_OPTION"),
        (("--trailing", "2%"), "BAD_NUMBER"),
        (("--hard", "low"), "BAD_NUMBER"),
        (("--soft", "100%"), "BAD_NUMBER"),
    ):
        _refused(await trading.command("trade", "stops", key[:8], *arguments, "--json"), 2, code)
    text = await trading.command("trade", "show", key[:8])
    assert f"stops moved by {user('')} (news): hard stop 2850.095 → 2900" in text.out
    assert (await trading.command("trade", "close", key[:8])).code == 0
    _refused(await trading.command("trade", "stops", key[:8], "--soft", "1%", "--json"), 1, "TRADE_CLOSED")


@pytest.mark.parametrize(
    ("env", "code"),
    [
        ({"DATABASE_URL": "postgresql://postgres@127.0.0.1:1/none"}, "NO_DATABASE"),
        ({"TEMPORAL_ADDRESS": "127.0.0.1:1", "BOTTRADER_TEMPORAL__CONNECT_TIMEOUT_S": "2"}, "NO_TEMPORAL"),
    ],
)
async def test_what_is_missing_is_said(trading: LiveStack, env: dict[str, str], code: str) -> None:
    """Without database or Temporal nothing is placed: exit code 3 and a sentence with what to do."""
    before = await trading.ledger.fetchval("SELECT count(*) FROM orders")
    outcome = await trading.command("order", "buy", "BTC-USD", "--size", "0.01", "--json", env=env)
    assert "bottrader up" in _refused(outcome, 3, code)
    assert await trading.ledger.fetchval("SELECT count(*) FROM orders") == before


async def test_a_queue_without_a_worker_is_said(trading: LiveStack) -> None:
    """Nothing is placed; and a queue that isn't the ledger's is refused before its worker is looked for."""
    env = {"BOTTRADER_TEMPORAL__ORDERS_QUEUE": "nobody"}
    arguments = ("order", "buy", "BTC-USD", "--size", "0.01", "--json")
    before = await trading.ledger.fetchval("SELECT count(*) FROM orders")
    _refused(await trading.command(*arguments, env=env), 2, "LEDGER_OF_OTHER_NAMES")
    await trading.ledger.execute("UPDATE ledger_identity SET orders_queue = 'nobody'")
    try:
        assert "bottrader up" in _refused(await trading.command(*arguments, env=env), 3, "NO_WORKER")
    finally:
        await trading.ledger.execute("UPDATE ledger_identity SET orders_queue = 'orders'")
    assert await trading.ledger.fetchval("SELECT count(*) FROM orders") == before


async def test_killed_worker_is_no_hang(trading: LiveStack) -> None:
    """With the worker killed the command says so in time, and the order is placed once when a worker is back."""
    await trading.stack.kill_worker()
    arguments = ("order", "buy", "BTC-USD", "--size", "0.01", "--request-id", "unworked", "--json")
    outcome = await trading.command(*arguments, "--timeout", "1", timeout=20)
    assert outcome.code == 3
    assert "it is waiting as order-" in outcome.error["message"]
    await trading.stack.restart_worker()
    again = await trading.command(*arguments, "--timeout", "30")
    assert (again.code, again.json["state"]) == (0, "FILLED"), again.err
    assert len(await _requests(trading, again.json["order_key"])) == 1


async def test_a_database_that_goes_away_while_a_command_waits(trading: LiveStack) -> None:
    """The command that loses its database names its order, and exits with 3."""
    await trading.stack.kill_worker()
    arguments = ("order", "buy", "BTC-USD", "--size", "0.01", "--request-id", "cut-off", "--json")
    key = intent_key("manual", "cut-off", "main", "BTC-USD", "BUY")
    waiting = asyncio.create_task(trading.command(*arguments, "--timeout", "50"))

    async def asked() -> bool:
        return any([found.id == f"order-{key}" async for found in trading.client.list_workflows()])

    await eventually(asked, what="the order is asked for")
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bottrader command'"
    assert await trading.ledger.fetchval(cut)
    assert f"The order {key[:12]} was submitted" in _refused(await waiting, 3, "NO_DATABASE")
    await trading.stack.restart_worker()
    again = await trading.command(*arguments, "--timeout", "30")
    assert (again.code, again.json["state"]) == (0, "FILLED"), again.err
    assert len(await _requests(trading, key)) == 1


async def test_key_must_name_one_order(database: str) -> None:
    """The beginning of a key is enough while only one order of the account has it; another account's doesn't count."""
    connection = await asyncpg.connect(database)
    try:
        for key in ("abcdef1" + "0" * 25, "abcdef2" + "0" * 25):
            await connection.execute(
                """INSERT INTO orders (order_key, account, symbol, side, role, order_type, source, entry_point, trigger,
                          intent, intent_digest, state)
                   VALUES ($1,'main','BTC-USD','BUY','ENTRY','MARKET','manual','manual','manual','{}','','RECEIVED')""",
                key,
            )
        assert await resolve_key(connection, "main", "ABCDEF1") == "abcdef1" + "0" * 25
        assert await resolve_key(connection, "main", "order-abcdef2" + "0" * 25) == "abcdef2" + "0" * 25
        with pytest.raises(UserError, match="is ambiguous"):
            await resolve_key(connection, "main", "abcdef")
        with pytest.raises(UserError, match="There is no order whose key"):
            await resolve_key(connection, "second", "abcdef1")
    finally:
        await connection.close()
