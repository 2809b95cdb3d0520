"""`bottrader fifo match`: the real command, as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cli import fifo as fifo_command
from cli.fifo import counted
from workers.stack.processes import python_module

HEAD = "id,time,seq,symbol,side,size,price,fee,fee_currency,fee_rate\n"
EXAMPLE = (
    "b1,2026-01-01T00:00:00Z,1,BTC-USD,buy,1,50000,0,quote,\n"
    "b2,2026-01-02T00:00:00Z,2,BTC-USD,buy,1,55000,0,quote,\n"
    "s1,2026-01-03T00:00:00Z,3,BTC-USD,sell,1.5,60000,0,quote,\n"
)


def fifo_match(folder: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in its own process."""
    return subprocess.run(
        python_module("cli.main", "fifo", "match", *arguments),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Its output, after it succeeded."""
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_worked_example(tmp_path: Path) -> None:
    """12,500, with the parts, the remaining lot and the totals, all as exact texts."""
    (tmp_path / "fills.csv").write_text(HEAD + EXAMPLE)
    found = document(fifo_match(tmp_path, "fills.csv"))
    assert found["sells"] == [
        {
            "id": "s1",
            "symbol": "BTC-USD",
            "size": "1.5",
            "uncovered_size": "0",
            "proceeds": "90000",
            "uncovered_proceeds": "0",
            "cost_basis": "77500",
            "pnl": "12500",
            "parts": [
                {"lot": "b1", "size": "1", "cost": "50000"},
                {"lot": "b2", "size": "0.5", "cost": "27500"},
            ],
        }
    ]
    assert found["lots"] == [{"symbol": "BTC-USD", "lot": "b2", "size": "0.5", "cost": "27500"}]
    assert found["totals"] == {
        "BTC-USD": {
            "fills": 3,
            "sells": 1,
            "pnl": "12500",
            "proceeds": "90000",
            "cost_basis": "77500",
            "uncovered_size": "0",
            "uncovered_proceeds": "0",
            "open_size": "0.5",
            "open_cost": "27500",
        }
    }


def test_standard_input_and_an_oversell(tmp_path: Path) -> None:
    """`-` reads from a pipe; an uncovered part is shown with its proceeds, and is no profit."""
    late = "s2,2026-01-04T00:00:00Z,4,BTC-USD,sell,2,60000,0,quote,\n"
    found = document(fifo_match(tmp_path, "-", given=HEAD + EXAMPLE + late))
    oversold = found["sells"][1]
    assert (oversold["uncovered_size"], oversold["uncovered_proceeds"]) == ("1.5", "90000")
    assert (oversold["proceeds"], oversold["cost_basis"], oversold["pnl"]) == ("120000", "27500", "2500")
    assert found["lots"] == []


def test_what_is_taken_as_it_stands_is_said(tmp_path: Path) -> None:
    """A pair missing in a report is a warning with its line; the lots are printed all the same."""
    report = (
        "ID,Timestamp,Transaction Type,Asset,Quantity Transacted,Price Currency,Subtotal,Notes\n"
        "a,2024-01-05 10:00:00 UTC,Advanced Trade Buy,BTC,1,USD,40000,\n"
    )
    done = fifo_match(tmp_path, "-", given=report)
    assert document(done)["totals"]["BTC-USD"]["open_cost"] == "40000"
    assert "warning: line 2: Notes name no pair" in done.stderr


def test_a_long_file_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Progress is on stderr after every so many lines; a short file prints none, and no line is lost."""
    monkeypatch.setattr(fifo_command, "_LINES_BETWEEN_NOTES", 2)
    assert list(counted([b"1", b"2", b"3", b"4", b"5"])) == [b"1", b"2", b"3", b"4", b"5"]
    assert capsys.readouterr().err.splitlines() == ["2 lines read", "4 lines read"]


def test_a_slow_file_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where lines come slowly, progress is on stderr by time, long before the next round number of lines."""
    monkeypatch.setattr(fifo_command, "_LINES_BETWEEN_LOOKS", 2)
    monkeypatch.setattr(fifo_command, "_SECONDS_BETWEEN_NOTES", 0.0)
    assert list(counted([b"1", b"2", b"3", b"4", b"5"])) == [b"1", b"2", b"3", b"4", b"5"]
    assert capsys.readouterr().err.splitlines() == ["2 lines read", "4 lines read"]


def test_nothing_in_nothing_out(tmp_path: Path) -> None:
    """An empty file is an empty history."""
    assert document(fifo_match(tmp_path, "-", given="")) == {"sells": [], "lots": [], "totals": {}}


def test_bad_lines_are_refused_with_their_numbers(tmp_path: Path) -> None:
    """Exit code 2, nothing on stdout, every bad line with its reason, and what to do."""
    bad = "x,2026-01-01T00:00:00,5,BTC-USD,buy,1,1,0,quote,\ny,2026-01-01T00:00:00Z,5,BTC-USD,buy,-1,1,0,quote,\n"
    done = fifo_match(tmp_path, "-", given=HEAD + EXAMPLE + bad)
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 5: time has no zone" in done.stderr
    assert "line 6: size must be above zero" in done.stderr
    assert "--skip-bad" in done.stderr


def test_skip_bad_says_how_many_and_goes_on(tmp_path: Path) -> None:
    """The rest is matched as if the bad lines weren't there; stderr has their number."""
    bad = "".join(f"x{n},2026-01-01T00:00:00Z,5,BTC-USD,buy,NaN,1,0,quote,\n" for n in range(30))
    done = fifo_match(tmp_path, "-", "--skip-bad", given=HEAD + bad + EXAMPLE + EXAMPLE)
    assert document(done)["totals"]["BTC-USD"]["pnl"] == "12500"
    assert "skipped 30 bad lines; 3 fills matched" in done.stderr
    assert "3 lines repeat an earlier fill" in done.stderr
    assert len(done.stderr.splitlines()) < 15


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing.csv", "there is no such file"), (".", "is a folder"), ("odd.txt", "neither JSON Lines")],
)
def test_a_file_that_is_none_is_one_sentence(tmp_path: Path, name: str, words: str) -> None:
    """Exit code 2 and a sentence, never a traceback."""
    (tmp_path / "odd.txt").write_text("once upon a time\n")
    done = fifo_match(tmp_path, name)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
