"""The rooms and the imports between them, measured: `make rooms`.

A room is a top folder, or a folder in activities, cli, exchange, web or workers; `activities/*.py` and the like are a
room of their own. `--write` puts the table into ARCHITECTURE.md, where a test holds it to the code.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ROOT", "Room", "circles", "rooms", "table"]

ROOT = Path(__file__).parents[2]
_TOPS = (
    "activities", "bench", "cli", "domain", "exchange", "fifo", "research", "schema", "web", "workers", "workflows",
)  # fmt: skip
_DIVIDED = frozenset({"activities", "cli", "exchange", "web", "workers"})
_BEGIN, _END = "<!-- rooms: written by `make rooms` -->", "<!-- /rooms -->"


@dataclass
class Room:
    """A room: its modules, lines and functions, and the other rooms that it imports from."""

    modules: int = 0
    lines: int = 0
    functions: int = 0
    takes: set[str] = field(default_factory=set)


def _room_of(dotted: str) -> str:
    top, *rest = dotted.split(".")
    if top not in _DIVIDED:
        return top
    return f"{top}/{rest[0]}" if rest and (ROOT / top / rest[0]).is_dir() else f"{top}/*.py"


def _modules() -> dict[str, Path]:
    paths = (path for top in _TOPS for path in (ROOT / top).rglob("*.py") if "migrations" not in path.parts)
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def _imports(tree: ast.Module, known: dict[str, Path]) -> set[str]:
    """Modules of ours that a module imports, also inside its functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & known.keys()
            found |= inner or ({node.module} & known.keys())
    return found


def rooms() -> dict[str, Room]:
    """All rooms by name."""
    known = _modules()
    found: dict[str, Room] = defaultdict(Room)
    for name, path in sorted(known.items()):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        room = found[_room_of(name)]
        room.modules += 1
        room.lines += text.count("\n")
        room.functions += sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))
        room.takes |= {_room_of(other) for other in _imports(tree, known)} - {_room_of(name)}
    return dict(found)


def circles() -> set[frozenset[str]]:
    """Modules that import each other, directly or through others."""
    known = _modules()
    takes = {
        name: _imports(ast.parse(path.read_text(encoding="utf-8")), known) - {name} for name, path in known.items()
    }
    reach = {}
    for name, direct in takes.items():
        seen: set[str] = set()
        ahead = list(direct)
        while ahead:
            other = ahead.pop()
            if other not in seen:
                seen.add(other)
                ahead += takes[other]
        reach[name] = seen
    return {frozenset(other for other in seen if name in reach[other]) for name, seen in reach.items() if name in seen}


def table(found: dict[str, Room]) -> str:
    """The table of ARCHITECTURE.md: each room with the rooms that it imports from."""
    rows = [
        f"| `{name}` | {len(room.takes)} | {', '.join(sorted(room.takes)) or '–'} |"
        for name, room in sorted(found.items())
    ]
    arrows = sum(len(room.takes) for room in found.values())
    return "\n".join(
        [
            _BEGIN,
            f"{len(found)} rooms, {arrows} arrows between them, {len(circles())} circles of modules.",
            "",
            "| room | arrows | takes from |",
            "|---|---|---|",
            *rows,
            _END,
        ]
    )


def main() -> None:
    """Print each room's counts; with `--write`, renew the table in ARCHITECTURE.md."""
    found = rooms()
    if "--write" in sys.argv:
        path = ROOT / "ARCHITECTURE.md"
        text = path.read_text(encoding="utf-8")
        before, _, rest = text.partition(_BEGIN)
        path.write_text(before + table(found) + rest.partition(_END)[2], encoding="utf-8")
        return
    print(f"{'room':<24}{'modules':>8}{'lines':>8}{'functions':>10}{'arrows':>7}")  # noqa: T201 - its table
    for name, room in sorted(found.items()):
        print(f"{name:<24}{room.modules:>8}{room.lines:>8}{room.functions:>10}{len(room.takes):>7}")  # noqa: T201
    arrows = sum(len(room.takes) for room in found.values())
    print(f"{len(found)} rooms, {arrows} arrows, circles of modules: {[sorted(each) for each in circles()]}")  # noqa: T201


if __name__ == "__main__":
    main()
