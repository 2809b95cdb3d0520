"""`bottrader ledger import`: older fills in the ledger once, with repeated imports, and correct books."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from activities.database import Pool, create_pool, symbol_transaction
from activities.ledger import old_fills
from activities.ledger.holdings import expected_balances, lock_transfers
from activities.ledger.importing import ImportPlan, SymbolImport, own_records_since, plan_import
from activities.ledger.old_fills import Fate, OldFill, OldFills
from activities.ledger.record import LedgerWriter
from activities.ledger.validator import check_ledger
from domain.messages import StatusSource
from domain.orders import Side, VenueStatus
from exchange.port import Balance
from fifo.reading import read_into
from research.linkage import read_linkage
from tests.support.fake_exchange import FakeExchange, order
from tests.support.live_stack import ROOT, Outcome, run_command

ACCOUNT = "main"
LOOK_BACK = timedelta(days=7)
HEAD = "id,time,seq,symbol,side,size,price,fee,fee_currency,fee_rate\n"
EXAMPLE = (
    HEAD + "b1,2024-01-01T00:00:00Z,1,BTC-USD,buy,1,50000,0,quote,\n"
    "b2,2024-01-02T00:00:00Z,2,BTC-USD,buy,1,55000,0,quote,\n"
    "s1,2024-01-03T00:00:00Z,3,BTC-USD,sell,1.5,60000,0,quote,\n"
    "e1,2024-01-03T00:00:00.123456789Z,4,ETH-EUR,buy,2,2000,0.002,base,\n"
    "e2,2024-01-04T00:00:00Z,5,ETH-EUR,sell,5,2500,0.01,BNB,500\n"
)
ACROSS = """ID,Timestamp,Transaction Type,Asset,Quantity Transacted,Price Currency,Price at Transaction,Subtotal,\
Total (inclusive of fees and/or spread),Fees and/or Spread,Notes
a1,2024-01-05 10:00:00 UTC,Buy,BTC,1,USD,$40000.00,$40000.00,$40000.00,$0.00,Bought 1 BTC for 40000 USD
a2,2024-02-05 10:00:00 UTC,Advanced Trade Buy,ETH,10,USD,$3000.00,$30000.00,$30180.00,$180.00,\
Bought 10 ETH for 0.503 BTC on ETH-BTC at 0.05 BTC/ETH
a3,2024-03-05 10:00:00 UTC,Advanced Trade Sell,ETH,-10,USD,$3500.00,-$35000.00,-$34800.00,$200.00,\
Sold 10 ETH for 34800 USD on ETH-USD at 3500 USD/ETH
"""
# One buy and sell of January 2022 and two buys with one size and second, in three formats.
FORM_2021 = """Timestamp,Transaction Type,Asset,Quantity Transacted,Spot Price Currency,Spot Price at Transaction,\
Subtotal,Total (inclusive of fees and/or spread),Fees and/or Spread,Notes
2022-01-01T00:00:00Z,Buy,BTC,1,USD,40000,40000,40400,400,Bought 1 BTC for 40400 USD
2022-01-02T00:00:00Z,Buy,LTC,2,USD,100,200,201,1,
2022-01-02T00:00:00Z,Buy,LTC,2,USD,100,200,201,1,
2022-06-01T00:00:00Z,Sell,BTC,1,USD,50000,50000,49500,500,Sold 1 BTC for 49500 USD
"""
FORM_2024 = """ID,Timestamp,Transaction Type,Asset,Quantity Transacted,Price Currency,Price at Transaction,Subtotal,\
Total (inclusive of fees and/or spread),Fees and/or Spread,Notes
x4,2022-06-01 00:00:00 UTC,Sell,BTC,-1,USD,$50000,-$50000,-$49500,$500,Sold 1 BTC for 49500 USD
x3,2022-01-02 00:00:00 UTC,Buy,LTC,2,USD,$100,$200,$201,$1,
x2,2022-01-02 00:00:00 UTC,Buy,LTC,2,USD,$100,$200,$201,$1,
x1,2022-01-01 00:00:00 UTC,Buy,BTC,1,USD,$40000,$40000,$40400,$400,Bought 1 BTC for 40400 USD
"""
FORM_FILLS = """portfolio,trade id,product,side,created at,size,size unit,price,fee,total,price/fee/total unit
default,1,BTC-USD,BUY,2022-01-01T00:00:00.123Z,1,BTC,40000,400,-40400,USD
default,2,LTC-USD,BUY,2022-01-02T00:00:00.5Z,2,LTC,100,1,-201,USD
default,3,LTC-USD,BUY,2022-01-02T00:00:00.6Z,2,LTC,100,1,-201,USD
default,4,BTC-USD,SELL,2022-06-01T00:00:00.001Z,1,BTC,50000,500,49500,USD
"""
COINBASE = """portfolio,trade id,product,side,created at,size,size unit,price,fee,total,price/fee/total unit
default,77,BTC-USD,BUY,2024-03-01T09:00:00.123Z,1,BTC,50000,300,-50300,USD
default,78,BTC-USD,SELL,2024-03-04T09:00:00.5Z,0.5,BTC,60000,100,29900,USD
"""


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """The database's pool."""
    opened = await create_pool(database)
    yield opened
    await opened.close()


async def planned(pool: Pool, text: str, *, keep_alike: bool = False) -> ImportPlan:
    """The text compared with the ledger."""
    fills = OldFills()
    reading = read_into(text.encode().splitlines(keepends=True), fills)
    assert not reading.bad
    until = await own_records_since(pool, ACCOUNT, LOOK_BACK)
    return await plan_import(pool, ACCOUNT, fills, until, keep_alike=keep_alike, other_rows=reading.other_rows)


def new_fills(plan: ImportPlan) -> list[OldFill]:
    """The fills to be written."""
    return [item for name in plan.symbols for chunk in plan.fills.chunks(name, Fate.NEW) for item in chunk]


async def imported(pool: Pool, text: str) -> list[SymbolImport]:
    """Import the text."""
    plan = await planned(pool, text)
    assert not plan.changed
    return await plan.write(pool)


async def opening(pool: Pool, **amounts: str) -> None:
    """Books that were opened with these balances."""
    for currency, amount in amounts.items():
        await pool.execute(
            "INSERT INTO balance_transfers (account, currency, kind, amount, expected, found) "
            "VALUES ($1, $2, 'opening', $3, 0, $3)",
            ACCOUNT,
            currency,
            Decimal(amount),
        )


async def everything(pool: Pool) -> list[Sequence[Any]]:
    """All rows that an import may touch, to the last digit."""
    tables = ("fills", "fifo_allocations", "trade_records", "balance_transfers")
    return [await pool.fetch(f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables]  # noqa: S608 - fixed


async def test_older_fills_are_in_both_books_records_and_reports(pool: Pool) -> None:
    """12,500 of profit, the remaining lot, an uncovered rest by name; the ledger's own check finds no error."""
    done = {item.symbol: item for item in await imported(pool, EXAMPLE)}
    btc = done["BTC-USD"]
    assert (btc.new, btc.pnl_after, btc.open_after) == (3, Decimal(12_500), Decimal("0.5"))
    rows = {row["order_id"]: row for row in await pool.fetch("SELECT * FROM trade_records")}
    assert {row["ingest_via"] for row in rows.values()} == {"import"}
    assert (rows["s1"]["pnl_usd"], rows["s1"]["parent_ids"]) == (12_500, ["b1", "b2"])
    assert (rows["b2"]["remaining_size"], rows["b2"]["realized_profit"]) == (Decimal("0.5"), 2_500)
    # Half of a thousandth stays with the exchange; the third currency's fee is worth five euros.
    assert rows["e2"]["total_fees_usd"] == 5
    assert await pool.fetchval("SELECT size FROM fifo_allocations WHERE buy_fill IS NULL") == Decimal("3.002")
    report = await check_ledger(pool, None, ACCOUNT)
    assert report.ok, report.violations
    async with pool.acquire() as connection:
        assert (await read_linkage(connection, ACCOUNT)).without_order == 0


async def test_a_second_import_adds_nothing(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Completely, in chunks, or with more fills at its end: every fill is there once, and known ones are unchanged."""
    monkeypatch.setattr(old_fills, "_CHUNK", 2)
    await imported(pool, "".join(EXAMPLE.splitlines(keepends=True)[:4]))
    await imported(pool, EXAMPLE)
    before = await everything(pool)
    again = await imported(pool, EXAMPLE.replace(",1.5,", ",1.50,"))
    assert [(item.new, item.known) for item in again] == [(0, 3), (0, 2)]
    assert await everything(pool) == before
    assert (await check_ledger(pool, None, ACCOUNT)).ok


async def test_a_later_download_of_a_report_without_ids_adds_only_what_is_new(pool: Pool) -> None:
    """Its rows are at other positions; none of them is booked a second time, and none is confused with another."""
    head = "Timestamp,Transaction Type,Asset,Quantity Transacted,Spot Price Currency,Subtotal,Fees and/or Spread\n"
    rows = "2021-02-01T10:00:00Z,Buy,LTC,1,USD,100,1\n2021-01-01T10:00:00Z,Buy,LTC,1,USD,100,1\n"
    await imported(pool, f"A line before\n\n{head}{rows}")
    (found,) = await imported(pool, f"{head}2021-03-01T10:00:00Z,Sell,LTC,0.5,USD,90,1\n{rows}")
    assert (found.new, found.known, found.open_after) == (1, 2, Decimal("1.5"))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("x,2024-01-01T00:00:00Z,1,btc-usd,buy,1,1,0,quote,", "'btc-usd' is not a product"),
        ("x\0y,2024-01-01T00:00:00Z,1,BTC-USD,buy,1,1,0,quote,", "id 'x\\x00y' contains unprintable"),
        ("x,2024-01-01T00:00:00Z,1,BTC-U\0D,buy,1,1,0,quote,", "is not a product"),
        ("x,0001-01-01T00:00:00Z,1,BTC-USD,buy,1,1,0,quote,", "before 2009"),
        ("x,9999-01-01T00:00:00Z,1,BTC-USD,buy,1,1,0,quote,", "far ahead"),
        (f"x,2024-01-01T00:00:00Z,{10**19},BTC-USD,buy,1,1,0,quote,", "seq is too large"),
    ],
)
def test_what_the_ledger_can_not_hold_is_a_bad_line(row: str, sentence: str) -> None:
    """A sentence about that line, and never a later error of the database."""
    (bad,) = read_into(f"{HEAD}{row}\n".encode().splitlines(keepends=True), OldFills()).bad
    assert bad.number == 2
    assert sentence in bad.sentence


async def test_an_import_that_was_cut_off_is_finished_by_the_next(pool: Pool) -> None:
    """Fills were written before their FIFO book: the same command again completes the book."""
    await imported(pool, EXAMPLE)
    before = await everything(pool)
    await pool.execute("DELETE FROM fifo_allocations")
    await pool.execute("UPDATE fills SET lot_remaining = size - base_fees WHERE side = 'BUY'")
    assert [item.pnl_before for item in await imported(pool, EXAMPLE)] == [0, 0]
    after = await everything(pool)
    assert [len(rows) for rows in after] == [len(rows) for rows in before]
    assert (await check_ledger(pool, None, ACCOUNT)).ok


@pytest.mark.parametrize("first", [FORM_2021, FORM_2024, FORM_FILLS], ids=["2021", "2024", "fills"])
@pytest.mark.parametrize("second", [FORM_2021, FORM_2024, FORM_FILLS], ids=["2021", "2024", "fills"])
async def test_a_fill_in_another_form_is_the_same_fill(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    """Whichever format is first, each fill is booked once and the second format's are counted; two with one moment and
    size stay two, even if a chunk ends between them. An additional fill is new.
    """
    monkeypatch.setattr(old_fills, "_CHUNK", 1)
    await imported(pool, first)
    before = await everything(pool)
    found = {item.symbol: item for item in await imported(pool, second)}
    assert await everything(pool) == before
    assert {name: (item.new, item.known + item.alike) for name, item in found.items()} == {
        "BTC-USD": (0, 2), "LTC-USD": (0, 2)
    }  # fmt: skip
    assert all((item.alike == 0) == (first == second) for item in found.values())
    assert found["BTC-USD"].pnl_after == 49_500 - 40_400
    assert {item.alike for item in await imported(pool, first)} == {0}
    third = next(line for line in second.splitlines(keepends=True) if "LTC" in line).replace("x3,", "x5,")
    more = {item.symbol: item for item in await imported(pool, second + third.replace("t,2,L", "t,5,L"))}
    assert (more["LTC-USD"].new, more["LTC-USD"].open_after) == (1, Decimal(6))
    assert (await check_ledger(pool, None, ACCOUNT)).ok


def _app(
    fill_id: str, asset: str = "BTC", size: str = "1", notes: str = "", cost: str = "100", kind: str = "Buy"
) -> str:
    head = FORM_2024.splitlines(keepends=True)[0]
    return f"{head}{fill_id},2022-01-01 10:00:00 UTC,{kind},{asset},{size},USD,,{cost},{cost},0,{notes}\n"


def _older(asset: str = "BTC", size: str = "1", notes: str = "", cost: str = "100") -> str:
    head = FORM_2021.splitlines(keepends=True)[0]
    return f"{head}2022-01-01T10:00:00Z,Buy,{asset},{size},USD,,{cost},{cost},0,{notes}\n"


def _pro(trade: int, product: str = "BTC-USD") -> str:
    head = FORM_FILLS.splitlines(keepends=True)[0]
    currency = product.partition("-")[2]
    return f"{head}default,{trade},{product},BUY,2022-01-01T10:00:00.123Z,1,BTC,100,0,-100,{currency}\n"


def _bot(fill_id: str) -> str:
    return f"{HEAD}{fill_id},2022-01-01T10:00:00Z,,BTC-USD,buy,1,100,0,quote,\n"


FOR_USDC = "Bought {} for 100 USDC"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_app("a1"), _app("b1")),
        (_app("a1") + _app("a2").splitlines()[1], _app("a2") + _app("a3").splitlines()[1]),
        (_pro(1), _pro(2)),
        (_pro(1), _pro(9, "BTC-EUR")),
        (_bot("m1"), _bot("n1")),
        (_app("a1", notes=FOR_USDC.format("1 BTC")), _app("b1", "ETH", "2", FOR_USDC.format("2 ETH"))),
        (_older(notes=FOR_USDC.format("1 BTC")), _app("b1", "ETH", "2", FOR_USDC.format("2 ETH"))),
        (_app("a1"), _app("c1", "USDC", "-100", "Converted 100 USDC to 1 BTC", kind="Convert")),
    ],
    ids=[
        "app",
        "app, overlapping",
        "fills",
        "fills of two products",
        "own",
        "one coin",
        "one coin, two forms",
        "convert",
    ],
)
async def test_two_fills_stay_two_in_whichever_files_they_come(pool: Pool, first: str, second: str) -> None:
    """With one moment, asset and size but ids of their own, or paid with the same amount of one coin: none is dropped,
    and a repeated import changes nothing.
    """
    kept = sum(item.new for item in await imported(pool, first))
    more = await imported(pool, second)
    assert {item.alike for item in more} == {0}
    assert await pool.fetchval("SELECT count(*) FROM fills") == kept + sum(item.new for item in more) > kept
    for text in (first, second):
        assert {(item.new, item.alike) for item in await imported(pool, text)} == {(0, 0)}
    assert (await check_ledger(pool, None, ACCOUNT)).ok


async def test_a_fill_is_the_same_under_its_assets_new_name(pool: Pool) -> None:
    """A buy of MATIC is in later reports as POL, also without IDs: it is booked once."""
    await imported(pool, _older("MATIC", "100", "Bought 100 MATIC for 100 USD"))
    for text in (_app("m1", "POL", "100", "Bought 100 MATIC for 100 USD"), _older("POL", "100")):
        assert [(item.symbol, item.new, item.alike) for item in await imported(pool, text)] == [("POL-USD", 0, 1)]


async def test_of_two_fills_the_one_that_costs_the_same_is_there(pool: Pool) -> None:
    """A later report has the more expensive one first: it is new, and the other one isn't refused."""
    await imported(pool, _older(cost="100"))
    plan = await planned(pool, _app("k2", cost="150") + _app("k1", cost="100").splitlines()[1])
    assert (plan.changed, list(plan.alike)) == ([], [3])
    assert [(new.id, new.seen.net) for new in new_fills(plan)] == [("k2", Decimal(150))]


async def test_a_conversion_is_the_same_whichever_sides_row_comes_first(pool: Pool) -> None:
    """Its sides' rows value it differently, by more than rounding: a download in another order adds nothing."""
    head, *_ = FORM_2021.splitlines(keepends=True)
    given = "2022-01-01T10:00:00Z,Convert,BTC,0.05,USD,60000,3000,3000,0,Converted 0.05 BTC to 0.98 ETH\n"
    received = "2022-01-01T10:00:00Z,Convert,ETH,0.98,USD,,2800,2800,0,Converted 0.05 BTC to 0.98 ETH\n"
    await imported(pool, head + given + received)
    assert [(item.new, item.alike) for item in await imported(pool, head + received + given)] == [(0, 1), (0, 1)]


HEX = "67645f1f8e8ebf2624a29d83"


@pytest.mark.parametrize("first", [0, 1], ids=["own first", "Coinbase's first"])
async def test_the_same_trade_in_a_file_of_ones_own_is_booked_once(pool: Pool, first: int) -> None:
    """Ids assigned by Coinbase and by others are two formats: whichever is first, the other adds nothing."""
    texts = [_bot("my-1"), _app(HEX)]
    await imported(pool, texts[first])
    before = await everything(pool)
    assert [(item.new, item.alike) for item in await imported(pool, texts[1 - first])] == [(0, 1)]
    assert await everything(pool) == before


async def test_what_only_ids_tell_apart_is_told(pool: Pool) -> None:
    """A fill with the same moment, size and cost under another id of others is new, and its line is named."""
    await imported(pool, _bot("m1"))
    plan = await planned(pool, _bot("n1"))
    assert (plan.doubted, plan.alike) == ({2: "m1"}, {})
    await plan.write(pool)
    assert (await planned(pool, _bot("n1"))).doubted == {}


async def test_dust_at_zero_wraps_and_coins_that_were_spent_are_in_the_books(pool: Pool) -> None:
    """Each with its lots and gain, and `verify` accepts an amount of zero."""
    head = FORM_2024.splitlines(keepends=True)[0]
    at = "2022-01-0{} 10:00:00 UTC"
    rows = (
        f"a,{at.format(1)},Buy,SHIB,3,USD,0.00,0.00,0.00,0.00,\n"
        f"b,{at.format(2)},Sell,SHIB,-3,USD,0.00,0.00,0.00,0.00,\n"
        f"c,{at.format(3)},Buy,ETH,2,USD,3000,6000,6000,0,\n"
        f"d,{at.format(4)},Wrap Asset,ETH,-1,USD,4000,4000,4000,0,\n"
        f"e,{at.format(4)},Wrap Asset,cbETH,0.95,USD,4200,3990,3990,0,\n"
        f"f,{at.format(5)},Card Spend,ETH,-0.5,USD,5000,2500,2500,0,\n"
    )
    found = {item.symbol: (item.new, item.pnl_after, item.open_after) for item in await imported(pool, head + rows)}
    assert found == {
        "SHIB-USD": (2, Decimal(0), Decimal(0)),
        "ETH-USD": (3, Decimal(990 + 1000), Decimal("0.5")),
        "CBETH-USD": (1, Decimal(0), Decimal("0.95")),
    }
    report = await check_ledger(pool, None, ACCOUNT)
    assert report.ok, report.violations
    assert {item.new for item in await imported(pool, head + rows)} == {0}


async def test_equal_conversions_of_one_second_in_two_files_are_two(pool: Pool) -> None:
    """If each side has a row with an ID, the ids show it; the first file again is known in any order of its rows."""
    head, *_ = FORM_2024.splitlines(keepends=True)
    notes = "Converted 0.05 BTC to 0.98 ETH"
    given, received = (
        f"{head}{{}},2022-01-01 10:00:00 UTC,Convert,{side},USD,,3000,3000,0,{notes}\n"
        for side in ("BTC,-0.05", "ETH,0.98")
    )
    await imported(pool, given.format("a1") + received.format("a2"))
    again = await imported(pool, received.format("a2") + given.format("a1"))
    assert [(item.new, item.alike) for item in again] == [(0, 1), (0, 1)]
    other = await imported(pool, given.format("b1") + received.format("b2"))
    assert [(item.new, item.alike) for item in other] == [(1, 0), (1, 0)]


async def test_rows_without_an_id_that_are_known_are_told(pool: Pool) -> None:
    """They may be of another portfolio in the same second, which nothing in such a report shows."""
    await imported(pool, _older())
    assert (await planned(pool, _older())).unnamed == {2}
    assert (await planned(pool, _app("a1"))).unnamed == set()


async def test_a_row_paid_with_a_coin_is_the_fill_of_its_pair(pool: Pool) -> None:
    """The fills report has it as ETH-BTC, the transactions report as two fills: the first imported one counts."""
    fills = (
        COINBASE.splitlines(keepends=True)[0]
        + "default,9,ETH-BTC,BUY,2024-02-05T10:00:00.25Z,10,ETH,0.05,0.003,-0.503,BTC\n"
    )
    await imported(pool, ACROSS)
    before = await everything(pool)
    (found,) = await imported(pool, fills)
    assert (found.symbol, found.new, found.alike) == ("ETH-BTC", 0, 1)
    assert await everything(pool) == before
    await pool.execute("TRUNCATE fills, fifo_allocations, trade_records, balance_transfers CASCADE")
    await imported(pool, fills)
    plan = await planned(pool, ACROSS)
    assert plan.alike == {3: "ETH-BTC/9"}
    assert sorted(item.id for item in new_fills(plan)) == ["a1", "a3"]


async def test_fills_that_only_look_alike_are_kept_when_told(pool: Pool) -> None:
    """One with the same moment and size but another cost is refused by line; both kinds are new with the option."""
    await imported(pool, FORM_2021)
    other = FORM_2024.replace("$40000,$40400", "$50000,$50400")
    plan = await planned(pool, other)
    ((line, sentence),) = plan.changed
    assert line == 5
    assert "for 40400 with fees, and this one is for 50400: if they are two" in sentence
    kept = await planned(pool, other, keep_alike=True)
    assert (kept.changed, kept.alike) == ([], {})
    assert {item.symbol: item.new for item in await kept.write(pool)} == {"BTC-USD": 2, "LTC-USD": 2}


async def test_the_second_of_the_ledgers_own_first_fill_is_the_ledgers(pool: Pool) -> None:
    """A report with whole seconds puts a fill before itself: it is left to reconcile all the same."""
    at = datetime(2022, 1, 1, 0, 0, 0, 700_000, tzinfo=UTC)
    bought = order(
        "x9", "outside-1", symbol="BTC-USD", side=Side.BUY, status=VenueStatus.FILLED, size="1", price="40000", at=at
    )
    await LedgerWriter(pool, ACCOUNT).adopt(bought, StatusSource.WEBSOCKET)
    found = {item.symbol: item for item in await imported(pool, FORM_2021)}
    assert (found["BTC-USD"].new, found["BTC-USD"].later) == (0, 2)


async def test_fills_are_written_all_or_none(pool: Pool) -> None:
    """An error in the last symbol leaves nothing of the others; the same again then writes everything."""
    await opening(pool, BTC="3", USD="100", ETH="0", EUR="0")
    before = await everything(pool)
    plan = await planned(pool, EXAMPLE)
    await pool.execute(
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room'; END $$;
           CREATE TRIGGER refuse BEFORE INSERT ON fills FOR EACH ROW WHEN (NEW.symbol = 'ETH-EUR')
                  EXECUTE FUNCTION refuse()"""
    )
    with pytest.raises(asyncpg.RaiseError, match="no room"):
        await plan.write(pool)
    assert await everything(pool) == before
    await pool.execute("DROP TRIGGER refuse ON fills")
    assert [item.new for item in await imported(pool, EXAMPLE)] == [3, 2]
    assert (await check_ledger(pool, None, ACCOUNT)).ok


async def test_nobody_waits_for_a_lock_while_an_import_writes(pool: Pool) -> None:
    """Our own fills are recorded and transfers booked meanwhile, however long the import takes."""
    await opening(pool, BTC="3", USD="100", ETH="0", EUR="0")
    plan = await planned(pool, EXAMPLE)
    await pool.execute(
        """CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$;
           CREATE TRIGGER linger BEFORE INSERT ON fills FOR EACH ROW WHEN (NEW.symbol = 'ETH-EUR')
                  EXECUTE FUNCTION linger()"""
    )
    async with pool.acquire() as holder:
        await holder.execute("SELECT pg_advisory_lock(4711)")
        writing = asyncio.create_task(plan.write(pool))
        while not await pool.fetchval("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE objid = 4711 AND NOT granted)"):
            assert not writing.done()
        async with symbol_transaction(pool, ACCOUNT, "BTC-USD") as connection:
            await lock_transfers(connection, ACCOUNT)
        await holder.execute("SELECT pg_advisory_unlock(4711)")
        assert [item.new for item in await writing] == [3, 2]


async def test_another_content_is_named_with_its_line(pool: Pool) -> None:
    """The same id with another size, or of another symbol, is not written: line, id, and difference are reported."""
    await imported(pool, EXAMPLE)
    changed = EXAMPLE.replace("b2,2024-01-02T00:00:00Z,2,BTC-USD,buy,1,", "b2,2024-01-02T00:00:00Z,2,BTC-USD,buy,3,")
    plan = await planned(
        pool, changed.replace("e1,2024-01-03T00:00:00.123456789Z,4,ETH-EUR", "e1,2024-01-03T00:00:00Z,4,ETH-USD")
    )
    assert [line for line, _ in sorted(plan.changed)] == [3, 5]
    sentences = " ".join(sentence for _, sentence in plan.changed)
    assert "b2 was imported before with other content: its size was 1 and is now 3" in sentences
    assert "its symbol was ETH-EUR and is now ETH-USD" in sentences


async def test_open_books_stay_level(pool: Pool) -> None:
    """Older fills' amounts are taken out of the opening balance: books and exchange agree as before, in every
    currency."""
    exchange = FakeExchange()
    exchange.money = {"BTC": Balance("BTC", Decimal(3), Decimal(0)), "USD": Balance("USD", Decimal(100), Decimal(0))}
    for currency, amount in (("BTC", 3), ("USD", 100)):
        await pool.execute(
            "INSERT INTO balance_transfers (account, currency, kind, amount, expected, found) "
            "VALUES ($1, $2, 'opening', $3, 0, $3)",
            ACCOUNT,
            currency,
            Decimal(amount),
        )
    before = {name: amount for name, amount in (await expected_balances(pool, ACCOUNT)).items() if amount}
    await imported(pool, EXAMPLE)
    after = {name: amount for name, amount in (await expected_balances(pool, ACCOUNT)).items() if amount}
    assert after == before == {"BTC": 3, "USD": 100}
    rows = await pool.fetch("SELECT currency, amount FROM balance_transfers WHERE kind = 'opening'")
    opening = {row["currency"]: row["amount"] for row in rows}
    assert (opening["BTC"], opening["USD"]) == (Decimal("2.5"), 100 + 105_000 - 90_000)
    report = await check_ledger(pool, exchange, ACCOUNT, settle_seconds=0)
    assert report.ok, report.violations


async def test_a_row_paid_with_a_coin_moves_that_coin(pool: Pool) -> None:
    """Its lot is consumed with its gain, the opening balance includes it, the currency of valuation is unchanged; again
    nothing is new, also if an earlier version had booked only one side.
    """
    await opening(pool, BTC="1", USD="0")
    one_side = ACROSS.replace("for 0.503 BTC on ETH-BTC at 0.05 BTC/ETH", "for 30180 USD")
    await imported(pool, one_side)
    found = {item.symbol: item for item in await imported(pool, ACROSS)}
    assert {name: item.new for name, item in found.items()} == {"BTC-USD": 1, "ETH-USD": 0}
    assert (found["BTC-USD"].pnl_after, found["BTC-USD"].open_after) == (Decimal(10_060), Decimal("0.497"))
    assert found["ETH-USD"].pnl_after == 34_800 - 30_180
    rows = await pool.fetch("SELECT currency, amount FROM balance_transfers WHERE kind = 'opening'")
    moved = {row["currency"]: row["amount"] for row in rows}
    assert (moved["BTC"], moved["USD"], moved["ETH"]) == (Decimal("0.503"), 40_000 - 34_800, 0)
    report = await check_ledger(pool, None, ACCOUNT)
    assert report.ok, report.violations
    before = await everything(pool)
    assert {item.new for item in await imported(pool, ACROSS)} == {0}
    assert await everything(pool) == before


async def test_no_row_is_half_new(pool: Pool) -> None:
    """If one side of a row contradicts the ledger, the other side is not written either."""
    other = "$30000.00,$30000.00,$0.00,Bought 10 ETH for 30000 USD\n"
    lines = ACROSS.splitlines(keepends=True)
    await imported(pool, lines[0] + lines[2].split("$30000.00")[0] + other)
    plan = await planned(pool, ACROSS)
    assert [line for line, _ in plan.changed] == [3]
    assert [item.id for item in new_fills(plan)] == ["a1", "a3"]


async def test_lots_that_the_account_can_not_have_are_said(pool: Pool) -> None:
    """Net buys of coins that the account did not hold when its books were opened: the import, a dry run before and each
    later check report the size; it is not an error of the books. Coins it held, or got since, are not reported.
    """
    (buys,) = [HEAD + "b1,2024-01-01T00:00:00Z,1,BTC-USD,buy,2.5,50000,0,quote,\n"]
    plan = await planned(pool, buys)
    assert await plan.beyond(pool, await plan.preview(pool), written=False) is None
    await opening(pool, BTC="0.4", USD="100")
    assert await plan.beyond(pool, await plan.preview(pool), written=False) == {"BTC": Decimal("2.1")}
    assert await plan.beyond(pool, await plan.write(pool), written=True) == {"BTC": Decimal("2.1")}
    report = await check_ledger(pool, None, ACCOUNT)
    assert report.ok, report.violations
    (sentence,) = report.warnings
    assert sentence.startswith("lots hold 2.1 BTC more than the account")
    await pool.execute(
        "INSERT INTO balance_transfers (account, currency, kind, amount, expected, found) "
        "VALUES ($1, 'BTC', 'deposit', 2.1, 0.4, 2.5)",
        ACCOUNT,
    )
    assert (await check_ledger(pool, None, ACCOUNT)).warnings == ()


async def test_lots_that_the_account_holds_are_no_warning(pool: Pool) -> None:
    """Money that was spent before is on no account any more, and held coins may be in lots."""
    await opening(pool, BTC="0.5", ETH="9", USD="0")
    plan = await planned(pool, EXAMPLE)
    assert await plan.beyond(pool, await plan.preview(pool), written=False) == {}
    assert await plan.beyond(pool, await plan.write(pool), written=True) == {}
    assert (await check_ledger(pool, None, ACCOUNT)).warnings == ()


async def test_what_the_ledger_has_itself_is_not_taken_again(pool: Pool) -> None:
    """From its own first fill on, fills are left to reconcile; an order known by its id is its own."""
    at = datetime(2024, 1, 2, 12, tzinfo=UTC)
    bought = order(
        "x1", "outside-1", symbol="BTC-USD", side=Side.BUY, status=VenueStatus.FILLED, size="1", price="9", at=at
    )
    await LedgerWriter(pool, ACCOUNT).adopt(bought, StatusSource.WEBSOCKET)
    (btc, _) = await imported(pool, EXAMPLE + "x1,2024-01-01T12:00:00Z,9,BTC-USD,buy,1,9,0,quote,\n")
    assert (btc.new, btc.own, btc.later) == (2, 1, 1)
    assert await pool.fetchval("SELECT count(*) FROM fills WHERE exchange_order_id = 'x1'") == 1


async def test_older_lots_go_first_to_the_ledgers_own_sells(pool: Pool) -> None:
    """A sell recorded without a lot gets the imported one and its profit; a dry run reports it beforehand."""
    now = datetime.now(UTC)
    sold = order(
        "x1", "outside-1", symbol="BTC-USD", side=Side.SELL, status=VenueStatus.FILLED, size="0.5", price="60000",
        at=now,
    )  # fmt: skip
    await LedgerWriter(pool, ACCOUNT).adopt(sold, StatusSource.WEBSOCKET)
    first = "".join(EXAMPLE.splitlines(keepends=True)[:2])
    plan = await planned(pool, first)
    before = await everything(pool)
    (told,) = await plan.preview(pool)
    assert await everything(pool) == before
    (done,) = await plan.write(pool)
    assert told == done
    assert (done.pnl_before, done.pnl_after) == (Decimal(0), Decimal(5_000))
    assert (done.open_before, done.open_after) == (Decimal(0), Decimal("0.5"))
    assert (await check_ledger(pool, None, ACCOUNT)).ok


# --- the command ------------------------------------------------------------------------------------------------------

Shell = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def shell(database: str, tmp_path: Path) -> Shell:
    """`bottrader` in its own process with the test's database, and given files."""
    env = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "DATABASE_URL": database,
        "BOTTRADER_DATA": str(tmp_path / "data"),
    }  # fmt: skip

    async def run(*arguments: str, given: str = "") -> Outcome:
        (tmp_path / "fills").write_text(given)
        wanted = [str(tmp_path / "fills") if item == "FILE" else item for item in arguments]
        return await run_command([sys.executable, "-m", "cli.main", "ledger", *wanted], env)

    return run


async def test_the_command_says_before_and_after(shell: Shell) -> None:
    """A dry run changes nothing and reports the import's result; verify passes; again nothing is new."""
    dry = await shell("import", "FILE", "--dry-run", "--json", given=COINBASE)
    assert (dry.code, dry.json["changed"]) == (0, False)
    done = await shell("import", "FILE", "--json", given=COINBASE)
    assert (done.json["symbols"], done.json["changed"]) == (dry.json["symbols"], True)
    (btc,) = done.json["symbols"]
    assert (btc["new"], Decimal(btc["pnl_after"]), Decimal(btc["open_after"])) == (2, Decimal(4_750), Decimal("0.5"))
    assert (await shell("verify", "--without-exchange")).code == 0
    again = await shell("import", "FILE", given=COINBASE)
    assert "Imported for main" in again.out
    assert "4750 → 4750" in again.out
    assert (await shell("import", "FILE", "--json", given=COINBASE)).json["changed"] is False


async def test_the_command_tells_what_is_there_under_another_id(shell: Shell) -> None:
    """How many, which line equals which, and the option to import them."""
    await shell("import", "FILE", given=FORM_2021)
    done = await shell("import", "FILE", given=FORM_2024)
    assert done.code == 0, done.err
    assert "4 lines equal existing fills with other ids" in done.err
    assert "line 2 is 2022-06-01T00:00:00+00:00 sell 1 BTC-USD" in done.err
    assert (await shell("import", "FILE", "--json", given=FORM_2024)).json["changed"] is False
    kept = await shell("import", "FILE", "--keep-alike", "--json", given=FORM_2024)
    assert {item["symbol"]: item["new"] for item in kept.json["symbols"]} == {"BTC-USD": 2, "LTC-USD": 2}


async def test_the_command_warns_of_lots_beyond_holdings(shell: Shell, pool: Pool) -> None:
    """Before the import, after it and at every check; zeros have no exponent there."""
    unknown = await shell("import", "FILE", "--dry-run", given=COINBASE)
    assert "no opening balances are booked" in unknown.err
    await opening(pool, BTC="0", USD="0")
    dry = await shell("import", "FILE", "--dry-run", given=COINBASE)
    assert "warning: lots would hold 0.5 BTC more than the account" in dry.err
    done = await shell("import", "FILE", "--json", given=COINBASE)
    assert (done.code, done.json["lots_beyond_holdings"]) == (0, {"BTC": "0.5"})
    assert "warning: lots hold 0.5 BTC more than the account" in done.err
    seen = await shell("verify", "--without-exchange")
    assert seen.code == 0
    assert "To look at: lots hold 0.5 BTC more than the account" in seen.out
    assert "No violations otherwise." in seen.out
    found = (await shell("verify", "--without-exchange", "--json")).json
    assert len(found["warnings"]) == 1
    row = next(row for row in found["balances"] if row["currency"] == "BTC")
    assert {name: row[name] for name in ("books", "transferred", "in_lots", "uncovered", "exchange")} == {
        "books": "0", "transferred": "-0.5", "in_lots": "0.5", "uncovered": "0", "exchange": None
    }  # fmt: skip


async def test_the_command_refuses_bad_lines_and_leaves_them_out_when_told(shell: Shell) -> None:
    """Exit code 2, each line with its error, nothing written; with --skip-bad the others are imported."""
    soon = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    bad = (
        "x1,2024-01-01T00:00:00,1,BTC-USD,buy,1,1,0,quote,\nx2,2024-01-01T00:00:00Z,1,BTC,buy,1,1,0,quote,\n"
        f"x3,2024-01-01T00:00:00Z,1,BTC-USD,buy,1,1,-0.1,base,\nx4,{soon},1,BTC-USD,buy,1,1,0,quote,\n"
    )
    refused = await shell("import", "FILE", given=EXAMPLE + bad)
    assert (refused.code, refused.out) == (2, "")
    for words in (
        "line 7: time has no zone",
        "line 8: 'BTC' is not a product",
        "line 9: a rebate in base",
        "Nothing was",
    ):
        assert words in refused.err
    done = await shell("import", "FILE", "--skip-bad", "--json", given=EXAMPLE + bad)
    assert done.code == 0, done.err
    assert [(item["symbol"], item["new"], item["later"]) for item in done.json["symbols"]] == [
        ("BTC-USD", 3, 1),
        ("ETH-EUR", 2, 0),
    ]
    assert "skipped 3 bad lines" in done.err
