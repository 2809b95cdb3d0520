"""Tables of the command line at every width: numbers are whole, and optional columns are dropped first."""

import contextlib
import io
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.tables import print_table

COLUMNS = (
    "key", "symbol", "state", "size", "entry", "bid", "would gain", "stops", "exit", "reason", "P&L", "trigger", "age"
)  # fmt: skip
ROWS = (
    ("ab12cd34ef56", "BTC-USD", "PROTECTED", Decimal("0.00179124"), Decimal("65470.81"), Decimal("65400.1"),
     Decimal("-1.23"), "64161.2 / 62852, profit 67434.7", None, None, None, "rsi_oversold", "12 s"),
    ("ab12cd34ef57", "ETH-USD", "PROTECTED", Decimal("0.15233121"), Decimal("1913.89"), Decimal("1914.1"),
     Decimal("12.31"), "trailing 1910.2", None, None, None, "bb_squeeze", "2 min"),
)  # fmt: skip
WITHOUT = ("reason", "P&L", "exit", "age", "trigger", "size")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Output counts as a terminal's; its width is set by COLUMNS."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines, without trailing blanks."""
    return bare(capsys.readouterr().out)


def bare(output: str) -> list[str]:
    """Lines without colours and trailing blanks."""
    return [line.rstrip() for line in re.sub("\x1b\\[[0-9;]*m", "", output).splitlines()]


@pytest.mark.parametrize("width", [160, 120, 100, 80, 60, 40])
def test_no_number_is_folded_at_any_width(
    width: int, terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line fits, and each word of a shown cell is whole in one of them."""
    terminal.setenv("COLUMNS", str(width))
    print_table(COLUMNS, ROWS, narrow_without=WITHOUT)
    lines = printed(capsys)
    assert max(map(len, lines)) <= width
    words = {word for line in lines for word in line.replace("│", " ").split()}
    shown = [position for position, name in enumerate(COLUMNS) if name.split()[0] in words]
    assert {"key", "symbol", "entry", "stops"} <= {COLUMNS[position] for position in shown}
    for row in ROWS:
        for position in shown:
            assert set(str(row[position] or "").split()) <= words


def test_columns_go_one_by_one_and_empty_ones_first(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wide terminal has all columns except optional empty ones, a narrower one leaves out as few as necessary."""
    every = {"key", "symbol", "state", "size", "entry", "bid", "would", "gain", "stops", "trigger", "age"}
    for width, without in ((200, set()), (120, {"age"}), (105, {"age", "trigger"}), (96, {"age", "trigger", "size"})):
        terminal.setenv("COLUMNS", str(width))
        print_table(COLUMNS, ROWS, narrow_without=WITHOUT)
        lines = printed(capsys)
        above = lines[: next(number for number, line in enumerate(lines) if "BTC-USD" in line)]
        assert {word for line in above for word in line.split() if word.isalpha()} == every - without


def test_a_heading_is_broken_before_a_column_is_left_out(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Headings of several words take two lines if that makes room."""
    terminal.setenv("COLUMNS", "20")
    print_table(("key", "rows to write", "age"), [("ab12cd", 3, "12 s")], narrow_without=("age",))
    lines = printed(capsys)
    assert lines[-1].split() == ["ab12cd", "3", "12", "s"]
    assert len(lines) > 3


def test_a_pipe_gets_every_column_in_lines_as_long_as_they_need_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no width, whatever COLUMNS is."""
    monkeypatch.setenv("COLUMNS", "80")
    print_table(COLUMNS, ROWS, narrow_without=WITHOUT)
    lines = printed(capsys)
    assert [cell.strip() for cell in lines[1].strip("┃").split("┃")] == list(COLUMNS)
    assert len(lines) == 4 + len(ROWS)


def test_pairs_that_do_not_fit_are_lines_and_an_address_in_them_is_whole(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of two columns has its headings in the first; the terminal itself wraps text that can't be broken."""
    terminal.setenv("COLUMNS", "40")
    address = "postgresql://postgres@/bottrader?host=/var/lib/bottrader/sockets"
    print_table(("what", "where"), [("PostgreSQL", address), ("logs", "in a folder whose name is rather long")])
    assert printed(capsys) == [
        f"PostgreSQL  {address}",
        "logs        in a folder whose name is",
        "            rather long",
    ]


@given(
    st.integers(20, 200),
    st.lists(
        st.tuples(st.decimals(-9999999, 9999999, places=3), st.text("ab 1.,-", max_size=60), st.integers(0, 10**12)),
        min_size=1,
        max_size=4,
    ),
)
def test_every_word_of_every_table_is_whole(width: int, rows: list[tuple[Decimal, str, int]]) -> None:
    """For any cells and width: no word is folded, and no line is wider except for a single word."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        for name, value in (("TTY_COMPATIBLE", "1"), ("TERM", "xterm"), ("COLUMNS", str(width))):
            patch.setenv(name, value)
        print_table(("price", "a sentence", "count"), rows)
    lines = bare(out.getvalue())
    words = {word for line in lines for word in line.replace("│", " ").split()}
    for price, sentence, count in rows:
        assert {f"{price:f}", str(count), *sentence.split()} <= words
    margin, least = len("a sentence  "), 20
    longest = max(len(word) for row in rows for value in row for word in (str(value).split() or [""]))
    assert max(map(len, lines)) <= max(width, margin + max(least, longest))
