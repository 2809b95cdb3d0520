"""Many lines read at once: the same fills, repeats and bad lines as line by line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fifo.bulk import NotPlain, plain_entries
from fifo.reading import Reading, read_fills, read_stated

FIELDS = ("id", "time", "seq", "symbol", "side", "size", "price", "fee", "fee_currency", "fee_rate")
START = datetime(2024, 2, 28, tzinfo=UTC)


def rows(count: int = 60) -> list[dict[str, Any]]:
    """Plain fills, more than are read to recognise the format."""
    return [
        {
            "id": f"t{number}",
            "time": (START + timedelta(seconds=7_919 * number)).isoformat(),
            "seq": str(number % 3),
            "symbol": f"C{number % 2}-USD",
            "side": "buy" if number % 3 else "SELL",
            "size": f"{number + 1}.{number:03d}5",
            "price": f"{100 + number}",
            "fee": "0.25",
            "fee_currency": "quote",
            "fee_rate": "",
        }
        for number in range(count)
    ]


def csv_lines(given_rows: list[dict[str, Any]]) -> list[bytes]:
    """The rows as a CSV file."""
    body = [",".join(str(row.get(name, "")) for name in FIELDS) for row in given_rows]
    return [f"{line}\n".encode() for line in [",".join(FIELDS), *body]]


def json_lines(given_rows: list[dict[str, Any]]) -> list[bytes]:
    """The rows as JSON Lines."""
    return [json.dumps(row).encode() + b"\n" for row in given_rows]


def same(lines: list[bytes]) -> Reading:
    """The result of reading all lines, which must equal that of reading each by itself."""
    many, (single, stated) = read_fills(lines), read_stated(lines)
    assert many == single
    assert len(stated) == len(many)
    return many


@pytest.mark.parametrize("form", [csv_lines, json_lines])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"size": "123456789012345678901234.5"},
        {"size": "0.000000000000000001"},
        {"size": ".5"},
        {"size": "5."},
        {"size": " 7 "},
        {"size": "1e3"},
        {"size": "1_0"},
        {"size": "٣"},
        {"size": "1.2.3"},
        {"size": "0"},
        {"size": ""},
        {"price": "-1"},
        {"price": "NaN"},
        {"price": "0.1234567890123456789"},
        {"price": "0.123456789012345678"},
        {"fee": "-0.5"},
        {"fee": ""},
        {"fee": "0.01", "fee_currency": "base"},
        {"fee": "99999", "fee_currency": "base"},
        {"fee_currency": "USD"},
        {"fee_currency": "BNB", "fee_rate": "3.5"},
        {"fee_currency": "other"},
        {"fee_rate": "many"},
        {"time": "2024-02-30T00:00:00+00:00"},
        {"time": "2024-02-29T24:00:00+00:00"},
        {"time": "2024-02-29T23:59:60+00:00"},
        {"time": "2024-13-01T00:00:00+00:00"},
        {"time": "2024-02-29T12:00:00"},
        {"time": "2024-02-29T12:00:00Z"},
        {"time": "2024-02-29T12:00:00.123456789Z"},
        {"time": "2024-02-29T13:00:00+01:00"},
        {"time": "2024-02-29 12:00:00 UTC"},
        {"seq": ""},
        {"seq": "-4"},
        {"seq": "x"},
        {"seq": "1_0"},
        {"seq": "\u0661"},
        {"size": "\u0661"},
        {"price": " 1_0"},
        {"fee": "\uff11"},
        {"side": "hold"},
        {"side": " Buy"},
        {"symbol": " C1-USD"},
        {"symbol": ""},
        {"id": " t7"},
        {"id": "t7 "},
        {"id": "t\u20287"},
        {"id": ""},
        {"id": "t3"},
        {"id": "ünïcode"},
    ],
)
def test_one_odd_row_changes_nothing_for_the_others(
    form: Callable[[list[dict[str, Any]]], list[bytes]], change: dict[str, str]
) -> None:
    """Whatever one row contains, it and all others are read as if each were alone."""
    changed = rows()
    changed[-5] |= change
    same(form(changed))


@pytest.mark.parametrize(
    "change",
    [
        {"size": 1.5},
        {"size": 3},
        {"size": None},
        {"id": 7},
        {"id": 7.5},
        {"seq": 9},
        {"seq": True},
        {"seq": None},
        {"fee": None},
        {"fee": 0},
        {"fee_currency": None},
        {"fee_currency": ["quote"]},
        {"symbol": ["C1-USD"]},
        {"side": 1},
        {"time": 1_700_000_000},
        {"more": "than others"},
    ],
)
def test_values_of_every_json_type(change: dict[str, Any]) -> None:
    """Numbers, null, lists and keys in some rows only are read as in a single line."""
    changed = rows()
    changed[-5] |= change
    same(json_lines(changed))
    same(json_lines([row | change | {"id": f"{row['id']}"} for row in changed]))


@pytest.mark.parametrize(
    "line", [b"\n", b"{\n", b'a,"b\n', b"1,2\n", b"\xff\xfe\n", b"[]\n", b"7\n", b'"id"\n', b"a\r\r\n"]
)
@pytest.mark.parametrize("form", [csv_lines, json_lines])
def test_a_broken_line_among_many(form: Callable[[list[dict[str, Any]]], list[bytes]], line: bytes) -> None:
    """A broken line affects only itself, under its own number."""
    lines = form(rows())
    lines.insert(55, line)
    assert [bad.number for bad in same(lines).bad] in ([56], [])
    same([item.replace(b"\n", b"\r\n") for item in lines])


def test_columns_that_are_missing_have_their_defaults() -> None:
    """Without sequence and fees a row is still plain."""
    plain = [{name: row[name] for name in ("id", "time", "symbol", "side", "size", "price")} for row in rows()]
    assert len(same(json_lines(plain))) == 60
    columns = {name: [row[name] for row in plain] for name in plain[0]}
    assert plain_entries(columns)[3].seq == 0


def test_what_is_not_plain_is_refused() -> None:
    """With two points in a number the columns are not read at all."""
    columns = {name: [row[name] for row in rows()] for name in FIELDS}
    assert len(plain_entries(columns)) == 60
    with pytest.raises(NotPlain):
        plain_entries(columns | {"size": ["1.2.3"] * 60})


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**12), st.integers(0, 12), st.integers(0, 10**9), st.integers(0, 9), st.booleans(),
            st.integers(-(10**6), 10**6), st.sampled_from(["quote", "base", "USD", "other"]),
            st.integers(-5 * 10**18, 8 * 10**18), st.sampled_from([0, 3, 6, 9]),
        ),
        min_size=45, max_size=60,
    )
)  # fmt: skip
def test_any_numbers_and_times(drawn: list[Any]) -> None:
    """Sizes, prices, fees and times with any number of places are the same units either way."""
    made = []
    for number, (size, size_places, price, price_places, buy, fee, currency, moment, digits) in enumerate(drawn):
        whole, behind = divmod(moment, 10**9)
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=whole)
        fraction = f".{behind:09d}"[: digits + 1] if digits else ""
        made.append(
            {
                "id": f"t{number}",
                "time": f"{at:%Y-%m-%dT%H:%M:%S}{fraction}Z",
                "symbol": "C0-USD",
                "side": "buy" if buy else "sell",
                "size": _text(size, size_places),
                "price": _text(price, price_places),
                "fee": _text(fee, 4),
                "fee_currency": currency,
                "fee_rate": "2.5",
            }
        )
    same(csv_lines(made))
    same(json_lines(made))


def _text(value: int, places: int) -> str:
    sign, digits = "-" if value < 0 else "", str(abs(value)).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"
