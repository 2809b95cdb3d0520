"""The house rules: length of files, and one meaning for each class name."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import domain.errors
from tests.support import codes
from tests.support import rooms as measured

ROOT = Path(__file__).parents[2]
ROOMS = (
    "activities", "bench", "cli", "domain", "exchange", "fifo", "research", "schema", "web", "workers", "workflows",
)  # fmt: skip
LONGEST = 450
REASON = "Long on purpose: "


def _files() -> list[Path]:
    """Files that can still change: a migration that people have run can't."""
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "migrations" not in path.parts]
    assert len(found) > 300
    return sorted(found)


def test_long_files_say_why() -> None:
    """A file of more than 450 lines has the reason in its docstring, and no other file claims one."""
    without, needless = [], []
    for path in _files():
        text = path.read_text(encoding="utf-8")
        lines, reason = text.count("\n"), REASON in (ast.get_docstring(ast.parse(text)) or "")
        if lines > LONGEST and not reason:
            without.append(f"{path.relative_to(ROOT)}: {lines} lines")
        if lines <= LONGEST and reason:
            needless.append(str(path.relative_to(ROOT)))
    assert without == []
    assert needless == []


SAME_THING = {
    "Side": "buy or sell, as the paper exchange writes it: its matching imports nothing of ours",
    "TimeInForce": "the paper exchange's, as its protocol writes it: its matching imports nothing of ours",
}


def test_a_class_has_a_name_of_its_own() -> None:
    """Two public classes of ours never share a name, apart from exceptions with a reason here."""
    places = defaultdict(list)
    for path in _files():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert set(shared) == set(SAME_THING), shared


def _exceptions() -> dict[str, set[str]]:
    """Public exception classes of ours with the names of their bases."""
    classes = {}
    for path in _files():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.bases:
                classes[node.name] = {base.id for base in node.bases if isinstance(base, ast.Name)}
    found: dict[str, set[str]] = {}
    roots = {"Exception", "BaseException", "ValueError", "LookupError", "RuntimeError", "OSError"}
    while more := {name for name, bases in classes.items() if name not in found and bases & (roots | found.keys())}:
        found.update({name: classes[name] for name in more})
    return {name: bases for name, bases in found.items() if not name.startswith("_")}


def test_errors_are_one_tree_as_it_is_drawn() -> None:
    """Each error that leaves its room is a BotTraderError, and the drawing in domain/errors.py has all of them."""
    drawn: dict[str, str] = {}
    above = ["BotTraderError"]
    for line in (domain.errors.__doc__ or "").splitlines():
        branch = re.match(r"    ([│ ]*)[├└]── (\w+)  ", line)
        if branch is not None:
            depth = len(branch[1]) // 4 + 1
            above[depth:] = [branch[2]]
            drawn[branch[2]] = above[depth - 1]
    signals = {"InternalSignal"}
    real = {
        name: next((base for base in bases if base in drawn or base == "BotTraderError"), "")
        for name, bases in _exceptions().items()
        if name not in {"BotTraderError", *signals} and not bases & signals
    }
    assert real == drawn


def test_codes_are_words_for_programs() -> None:
    """The code of an error is in SCREAMING_SNAKE_CASE, wherever one is made."""
    errors = _exceptions().keys() - {"Wrong"}  # whose first word is a field of the alert
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {argument.value}"
        for path in _files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors
        for argument in [*node.args[:1], *(word.value for word in node.keywords if word.arg == "code")]
        if len(node.args) > 1 and isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", argument.value)
    ]
    assert wrong == []


def test_architecture_says_which_room_takes_from_which() -> None:
    """The table in ARCHITECTURE.md equals the code's imports, and no modules import each other in a circle."""
    assert measured.circles() == set()
    assert measured.table(measured.rooms()) in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), (
        "run `make rooms`"
    )


ANY = {
    "activities": (118, "values of rows: asyncpg ships no types (`Record`; what is booked is typed in ledger/rows.py)"),
    "bench": (35, "rows, and JSON that a measurement reads"),
    "cli": (106, "rows that are shown as they are, and JSON"),
    "domain": (17, "values of the user's own strategies and of libraries without types"),
    "exchange": (134, "JSON of the exchange before it is understood; its own client has no types"),
    "fifo": (32, "values of files before they are understood; columns of numpy"),
    "research": (13, "rows"),
    "schema": (0, "columns of SQLAlchemy"),
    "web": (97, "JSON of senders before it is understood, rows, and schemas of OpenAPI"),
    "workers": (84, "settings before they are checked, and libraries without types"),
    "workflows": (4, "arguments that are handed on to Temporal as they came"),
}
"""How often each room may say `Any` at most, and why it does."""


def test_any_is_counted() -> None:
    """No room says `Any` more often than listed here with the reason; for more, type it or argue for it."""
    counts = dict.fromkeys(ANY, 0)
    for path in _files():
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        counts[path.relative_to(ROOT).parts[0]] += sum(
            isinstance(node, ast.Name) and node.id == "Any" for node in nodes
        )
    assert {room: count for room, count in counts.items() if count > ANY[room][0]} == {}


def test_codes_of_errors_are_documented() -> None:
    """docs/errors.md has exactly the codes that commands can end with."""
    assert codes.written() == codes.rows().keys(), "run `make codes`"
