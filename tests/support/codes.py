"""The codes of errors that users see, collected from the code: `make codes` writes them into docs/errors.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = ["DOCS", "rows", "written"]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "errors.md"
_ROOMS = ("activities", "cli", "domain", "exchange", "fifo", "research", "web", "workers", "workflows")
_EXIT = {
    "UserError": "2",
    "UnreachableError": "3",
    "ConfigError": "2",
    "EntryError": "2",
    "IdentityError": "2",
    "StopsRefusedError": "1",
    "FifoError": "2",
    "PaperError": "2",
}
"""The default exit code."""
_NAMED = {"OK": "0", "NO": "1", "BAD_INPUT": "2", "UNREACHABLE": "3", "FAULT": "4"}
_BEGIN, _END = "<!-- codes: written by `make codes` -->", "<!-- /codes -->"


def _text(node: ast.expr | None) -> str:
    """The message of a code with … in place of its values."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return "…"


def _found() -> Iterator[tuple[str, str, str]]:
    for path in sorted(path for room in _ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _EXIT):
                continue
            if len(node.args) < 2 or not isinstance(node.args[0], ast.Constant):
                continue
            exits = [
                _NAMED[part.attr]
                for given in [*node.args[2:], *(word.value for word in node.keywords)]
                for part in ast.walk(given)
                if isinstance(part, ast.Attribute) and part.attr in _NAMED
            ]
            yield str(node.args[0].value), (exits or [_EXIT[node.func.id]])[0], _text(node.args[1])


def rows() -> dict[str, tuple[set[str], str]]:
    """Each code with its exit codes and its first message."""
    found: dict[str, tuple[set[str], str]] = {}
    for code, exit_code, sentence in _found():
        exits, first = found.setdefault(code, (set(), sentence))
        exits.add(exit_code)
        if first.strip("… .") == "":
            found[code] = (exits, sentence)
    return dict(sorted(found.items()))


def written() -> set[str]:
    """The codes in docs/errors.md."""
    table = DOCS.read_text(encoding="utf-8").partition(_BEGIN)[2].partition(_END)[0]
    return {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}


def main() -> None:
    """Renew the table in docs/errors.md."""
    text = DOCS.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    lines = [
        f"| `{code}` | {', '.join(sorted(exits))} | {sentence.replace('|', '/').replace('*', '∗')} |"
        for code, (exits, sentence) in rows().items()
    ]
    table = "\n".join([_BEGIN, "| code | exit | sentence |", "|---|---|---|", *lines, _END])
    DOCS.write_text(before + table + rest.partition(_END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
