"""The inputs and outputs of a booking, compared with the functions in the database that read and return them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import get_args, get_type_hints

import pytest

from activities.ledger import rows, writes
from schema.texts import in_force

_WRITE = in_force("functions")["ledger_write"]
_STATE = in_force("functions")["ledger_state"]
_SQL = {
    "bigint": {"int"},
    "boolean": {"bool"},
    "jsonb": {"Mapping"},
    "numeric": {"Decimal"},
    "text": {"str"},
    "timestamptz": {"datetime", "str"},
}
_PARTS = {
    "attempt": writes.AttemptWrite,
    "order": writes.OrderWrite,
    "fill": writes.FillWrite,
    "record": writes.RecordWrite,
    "lots": writes.LotWrite,
    "allocations": writes.AllocationWrite,
    "link": writes.LinkWrite,
    "leg": writes.LegWrite,
    "grow": writes.GrowWrite,
    "shrink": writes.ShrinkWrite,
    "record_status": writes.RecordStatusWrite,
    "passive": writes.PassiveWrite,
    "finish": writes.FinishWrite,
    "exit": writes.ExitWrite,
    "incidents": writes.IncidentWrite,
}


def _taken(part: str) -> dict[str, str | None]:
    """The columns that `ledger_write` reads from a part, with their types if it names them."""
    found: dict[str, str | None] = dict.fromkeys(re.findall(rf"w #>> '\{{{part},(\w+)\}}'", _WRITE))
    record = re.search(rf"jsonb_to_record(?:set)?\(w -> '{part}'\) AS x \(([^)]*)\)", _WRITE)
    if record is not None:
        found |= dict(re.findall(r"(\w+) (\w+)", record[1]))
    return found


def _kinds(hint: object) -> set[str]:
    given = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    names = {getattr(kind, "__name__", "") or str(kind).rpartition(".")[2].partition("[")[0] for kind in given}
    return names - {"NoneType"}


@pytest.mark.parametrize("part", sorted(_PARTS))
def test_a_part_has_the_columns_that_the_database_takes(part: str) -> None:
    """Each part of a booking names exactly the columns that `ledger_write` reads, with fitting types."""
    taken, hints = _taken(part), get_type_hints(_PARTS[part])
    assert set(hints) == set(taken)
    for name, kind in taken.items():
        assert kind is None or _kinds(hints[name]) <= _SQL[kind], (name, kind, hints[name])


def test_the_parts_are_those_that_the_database_takes() -> None:
    """A booking has exactly the parts that `ledger_write` reads."""
    named = re.findall(r"w (?:\?|->|->>) '(\w+)'|w #>> '\{(\w+),", _WRITE)
    assert {one or other for one, other in named} == set(get_type_hints(writes.Writes))


def _objects(text: str) -> Iterator[list[str]]:
    """The names in each json_build_object, without those of inner ones, in the order of the text."""
    for start in re.finditer(r"json_build_object\(", text):
        depth, arguments, quoted = 1, [""], False
        for letter in text[start.end() :]:
            quoted ^= letter == "'"
            depth += 0 if quoted else (letter == "(") - (letter == ")")
            if depth == 0:
                break
            if letter == "," and depth == 1 and not quoted:
                arguments.append("")
            else:
                arguments[-1] += letter
        yield [name.strip().strip("'") for name in arguments[::2]]


def test_the_state_has_the_names_that_the_database_tells() -> None:
    """The state that a booking is computed from has exactly the names that `ledger_state` returns."""
    told = [rows.FillTold, rows.LotTold, rows.StateTold, rows.OrderTold, rows.AttemptTold, rows.TradeTold]
    assert [sorted(names) for names in _objects(_STATE)] == [sorted(get_type_hints(form)) for form in told]
