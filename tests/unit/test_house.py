"""The house: how long files are, and that a name of a class means one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = (
    "activities", "bench", "cli", "domain", "exchange", "fifo", "research", "schema", "web", "workers", "workflows",
)  # fmt: skip
LONGEST = 450
REASON = "Long on purpose: "


def _files() -> list[Path]:
    """Files of ours that can still change: a migration that people have run can't."""
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
    """Two public classes of ours never share a name, apart from those that say here why."""
    places = defaultdict(list)
    for path in _files():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert set(shared) == set(SAME_THING), shared
