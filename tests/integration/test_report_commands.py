"""`bottrader report` and `bottrader ledger` as processes of their own on a generated ledger."""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.support.generated_ledger import GeneratedLedger, write_ledger
from tests.support.live_stack import ROOT, Outcome, run_command


@dataclass
class Shell:
    """Runs commands with the ledger, and knows its content."""

    made: GeneratedLedger
    dsn: str
    env: Mapping[str, str]

    async def run(self, *arguments: str) -> Outcome:
        """`bottrader` with these arguments."""
        return await run_command([sys.executable, "-m", "cli.main", *arguments], self.env)

    async def execute(self, sql: str) -> None:
        """Change the ledger."""
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(sql)
        await connection.close()


@pytest_asyncio.fixture
async def shell(database: str, tmp_path: Path) -> AsyncIterator[Shell]:
    """A ledger of 200 closed trades with a computed FIFO book."""
    made = await write_ledger(database, 200)
    env = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "DATABASE_URL": database,
        "BOTTRADER_DATA": str(tmp_path / "data"),
    }  # fmt: skip
    found = Shell(made, database, env)
    repaired = await found.run("ledger", "repair", "--yes", "--json")
    assert repaired.code == 0, repaired.err
    yield found


async def test_every_report_has_the_same_trades(shell: Shell) -> None:
    """Counts and sums of all groupings are those of the ledger, to the last digit, as JSON and as CSV."""
    (total,) = (await shell.run("report", "summary", "--json")).json
    assert (total["trades"], total["wins"]) == (200, shell.made.wins)
    assert Decimal(total["pnl"]) == shell.made.pnl
    assert Decimal(total["fees"]) == shell.made.fees
    for grouping in ("triggers", "exits", "symbols", "hours", "days", "scores"):
        groups = (await shell.run("report", grouping, "--json")).json
        assert sum(group["trades"] for group in groups) == 200
        assert sum(Decimal(group["pnl"]) for group in groups) == shell.made.pnl
        shown = await shell.run("report", grouping)
        assert shown.code == 0
        assert groups[0]["group"] in shown.out
    listed = list(csv.DictReader(io.StringIO((await shell.run("report", "triggers", "--csv")).out)))
    assert {line["group"]: int(line["trades"]) for line in listed} == shell.made.by_trigger
    assert all(float(line["win_rate_low"]) <= float(line["win_rate"]) for line in listed)
    found = (await shell.run("report", "indicators", "--json")).json
    assert all(item["fired"]["trades"] + item["quiet"]["trades"] == 200 for item in found)
    # One that fired for the other side, and one without a value, are in neither group.
    await shell.execute(
        """UPDATE orders SET indicator_breakdown = '{"rsi": {"value": "80", "fired": true}, "macd": {"value": null}}',
                             indicators_fired = '{}' WHERE role = 'ENTRY'"""
    )
    assert (await shell.run("report", "indicators", "--json")).json == []


async def test_losses_beyond_their_stops_are_those_of_the_ledger(shell: Shell) -> None:
    """Counts are the ledger's own, the list is complete in JSON and CSV, and a table has the largest losses."""
    connection = await asyncpg.connect(shell.dsn)
    counted = await connection.fetch(
        """SELECT stop, count(*) FILTER (WHERE lost > level + 1e-9) AS beyond, count(*) AS losses
             FROM (SELECT -pnl / (bought_value + bought_quote_fees) AS lost, unnest(ARRAY['soft stop', 'hard stop'])
                          AS stop, unnest(ARRAY[rules ->> 'soft_stop', rules ->> 'hard_stop'])::numeric AS level
                     FROM trades WHERE pnl <= 0) lost GROUP BY stop"""
    )
    await connection.close()
    found = (await shell.run("report", "beyond-stops", "--json")).json
    assert {item["stop"]: (item["beyond"], item["losses"]) for item in found} == {
        row["stop"]: (row["beyond"], row["losses"]) for row in counted
    }
    soft = next(item for item in found if item["stop"] == "soft stop")
    assert soft["beyond"] == len(soft["trades"]) == sum(soft["causes"].values()) > 0
    listed = list(csv.DictReader(io.StringIO((await shell.run("report", "beyond-stops", "--csv")).out)))
    assert len(listed) == sum(item["beyond"] for item in found)
    shown = await shell.run("report", "beyond-stops", "--limit", "3")
    assert (shown.code, soft["trades"][0]["entry_key"][:12] in shown.out) == (0, True)
    assert f"… and {soft['beyond'] - 3} more" in shown.out


async def test_sell_scores_are_grouped(shell: Shell) -> None:
    """Trades are counted by the sell score that completed their linkage; if there is none, the report says so."""
    none = await shell.run("report", "sell-scores")
    assert (none.code, "None of the trades of this period had a sell score" in none.out) == (0, True)
    await shell.execute(
        """UPDATE trade_strategy_link l SET sell_score = CASE WHEN t.pnl > 0 THEN 1.2 ELSE 0.2 END
             FROM trades t WHERE t.entry_key = l.order_key"""
    )
    found = {item["group"]: item for item in (await shell.run("report", "sell-scores", "--json")).json}
    assert {name: item["trades"] for name, item in found.items()} == {
        "0.0 to 0.5": 200 - shell.made.wins,
        "1.0 to 1.5": shell.made.wins,
    }
    assert "Correlation of sell score and net result" in (await shell.run("report", "sell-scores")).out


def numbers(value: Any) -> Iterator[float]:
    """All fractional numbers of a JSON document."""
    if isinstance(value, float):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from numbers(part)


async def test_figures_for_programs_are_rounded(shell: Shell) -> None:
    """Money is a text of a decimal, in JSON and in CSV; no number shows rounding noise of binary fractions."""
    for report in ("exits", "indicators", "leaderboard"):
        found = (await shell.run("report", report, "--json")).json
        assert all(number == round(number, 10) for number in numbers(found))
        cells = [
            cell
            for line in csv.reader(io.StringIO((await shell.run("report", report, "--csv")).out))
            for cell in line
            if re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", cell, re.IGNORECASE)
        ]
        assert cells
        assert not [cell for cell in cells if "e" in cell.lower() or len(cell.partition(".")[2]) > 18]
    (total,) = (await shell.run("report", "summary", "--json")).json
    for name in ("pnl", "fees", "average_win", "average_loss", "slippage"):
        assert isinstance(total[name], str)
        assert re.fullmatch(r"-?[0-9]+(\.[0-9]{1,18})?", total[name])


async def test_linkage_and_leaderboard(shell: Shell) -> None:
    """Linkage is 100 % by source; when all links of more than ten orders are missing, the exit code says so."""
    found = await shell.run("report", "linkage", "--json")
    assert found.code == 0
    assert found.json["percent"] == 100
    assert {item["source"]: item["filled"] for item in found.json["sources"]} == {"sighook": 200, "webhook": 200}
    assert all(item["median_ms"] == pytest.approx(200) for item in found.json["sources"])
    places = (await shell.run("report", "leaderboard", "--json")).json
    gained = [item for item in places if Decimal(item["pnl"]) > 0 < item["mean"]["value"]]
    assert [item["place"] for item in places] == [*range(1, len(gained) + 1), *[None] * (5 - len(gained))]
    order = [(Decimal(item["pnl"]) > 0 < item["mean"]["value"], item["mean"]["low"]) for item in places]
    assert order == sorted(order, reverse=True), "who gained goes before who lost"
    await shell.execute("DELETE FROM trade_strategy_link")
    alarmed = await shell.run("report", "linkage")
    assert alarmed.code == 1
    assert "without linkage" in alarmed.out


async def test_the_tax_export_adds_up(shell: Shell, tmp_path: Path) -> None:
    """Every realised lot once; gains add up to those of the trades, and each line to itself."""
    out = tmp_path / "lots.csv"
    await shell.execute(
        """UPDATE fifo_allocations SET sell_order_id = '=cmd()' || sell_order_id
            WHERE id = (SELECT min(id) FROM fifo_allocations)"""
    )
    assert (await shell.run("report", "tax", "--out", str(out))).code == 0
    lines = list(csv.DictReader(out.open()))
    covered = [line for line in lines if line["covered"] == "yes"]
    assert sum(line["sell_order"].startswith("'=cmd()") for line in lines) == 1, "no cell is a formula"
    assert not [line for line in lines if line["sell_order"][:1] == "="]
    assert all(Decimal(line["net_proceeds"]) - Decimal(line["cost_basis"]) == Decimal(line["gain"]) for line in covered)
    assert all(line["acquired"] <= line["sold"] for line in covered)
    connection = await asyncpg.connect(shell.dsn)
    stored = await connection.fetchrow("SELECT count(*), sum(pnl) FROM fifo_allocations")
    await connection.close()
    assert (len(lines), sum(Decimal(line["gain"]) for line in covered)) == tuple(stored)


async def test_the_page_is_one_file(shell: Shell, tmp_path: Path) -> None:
    """`report html` writes a page with everything in it."""
    out = tmp_path / "report.html"
    assert (await shell.run("report", "html", "--out", str(out))).code == 0
    page = out.read_text()
    assert "200 trades" in page
    assert page.count("<svg") >= 6
    assert "http" not in page


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("report", "summary", "--since", "yesterday"), 2, "is not a time"),
        (("report", "summary", "--since", "99999999d"), 2, "is not a time"),
        (("report", "summary", "--since", "2026-03-01T10:00:00"), 2, "has no zone"),
        (("report", "summary", "--since", "1d", "--until", "2d"), 2, "before --until"),
        (("report", "html", "--out", "/nowhere/report.html"), 2, "can't be written"),
        (("ledger", "repair", "--symbol", "DOGE-USD"), 2, "There are no fills of DOGE-USD"),
    ],
)
async def test_bad_input_is_a_sentence(shell: Shell, arguments: tuple[str, ...], code: int, words: str) -> None:
    """An impossible request is one sentence, with the exit code of bad input."""
    found = await shell.run(*arguments)
    assert (found.code, words in found.err) == (code, True), found.err


async def test_since_and_until_take_a_part(shell: Shell) -> None:
    """Trades count by their closing time; a period without any is reported."""
    early = (await shell.run("report", "days", "--until", "2026-03-02", "--json")).json
    assert [group["group"] for group in early] == ["2026-03-01"]
    nothing = await shell.run("report", "summary", "--until", "2020-01-01")
    assert (nothing.code, nothing.out.strip()) == (0, "No trades were closed in this period.")


async def test_verify_and_repair(shell: Shell) -> None:
    """Verify finds errors and changes nothing; repair asks, shows before and after, and corrects them."""
    verify = ("ledger", "verify", "--without-exchange")
    assert (await shell.run(*verify)).code == 0
    await shell.execute("UPDATE fifo_allocations SET pnl = pnl + 1")
    found = await shell.run(*verify, "--json")
    assert found.code == 1
    assert found.json["counts"]["FIFO_DIFFERS"] == 5
    unasked = await shell.run("ledger", "repair")
    assert (unasked.code, "Written" in unasked.out) == (130, False)
    assert (await shell.run("ledger", "repair", "--json")).code == 2
    done = await shell.run("ledger", "repair", "--yes", "--json")
    assert done.code == 0
    before = sum(Decimal(item["before"]["pnl"]) for item in done.json["symbols"])
    after = sum(Decimal(item["after"]["pnl"]) for item in done.json["symbols"])
    assert before - after == sum(item["before"]["rows"] for item in done.json["symbols"])
    assert (await shell.run(*verify)).code == 0
    assert (await shell.run("ledger", "repair")).out.strip().endswith("nothing to repair.")


async def test_reports_of_several_currencies_are_sums_over_the_rows(shell: Shell) -> None:
    """Trades in USD, BTC and EUR: every number is a query over the rows of one currency, and none mixes two."""
    await shell.execute(
        """UPDATE trades SET symbol = CASE symbol WHEN 'ETH-USD' THEN 'ETH-BTC' WHEN 'SOL-USD' THEN 'SOL-EUR'
                                                  ELSE symbol END"""
    )
    connection = await asyncpg.connect(shell.dsn)
    rows = await connection.fetch(
        """SELECT split_part(t.symbol, '-', 2) AS currency, o.trigger, count(*) AS trades,
                  sum(t.sold_value - t.sold_quote_fees - t.bought_value - t.bought_quote_fees) AS pnl,
                  sum(t.bought_quote_fees + t.sold_quote_fees) AS fees
             FROM trades t JOIN orders o ON o.order_key = t.entry_key
            WHERE t.state = 'CLOSED' GROUP BY GROUPING SETS ((1), (1, 2))"""
    )
    currencies = await connection.fetch("SELECT DISTINCT currency, split_part(symbol, '-', 2) FROM trade_records")
    await connection.close()
    assert all(currency == quote for currency, quote in currencies)
    expected = {(row["currency"], row["trigger"]): (row["trades"], row["pnl"], row["fees"]) for row in rows}
    for report in ("summary", "triggers"):
        found = (await shell.run("report", report, "--json")).json
        assert {
            (item["currency"], None if report == "summary" else item["group"]): (
                item["trades"],
                Decimal(item["pnl"]),
                Decimal(item["fees"]),
            )
            for item in found
        } == {key: value for key, value in expected.items() if (key[1] is None) == (report == "summary")}
    shown = (await shell.run("report", "summary")).out
    assert all(f"net P&L, {currency}" in shown for currency in ("USD", "BTC", "EUR"))
