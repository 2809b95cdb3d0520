"""`__all__` lists a module's public names: all that other modules import."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = (
    "activities", "bench", "cli", "domain", "exchange", "fifo", "research", "schema", "web", "workers", "workflows",
)  # fmt: skip


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _modules() -> dict[str, ast.Module]:
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "migrations" not in path.parts]
    return {_dotted(path): ast.parse(path.read_text()) for path in paths}


def _named(tree: ast.Module) -> set[str] | None:
    """The names in `__all__`; None without one."""
    for line in tree.body:
        if isinstance(line, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "__all__" for to in line.targets):
            return set(ast.literal_eval(line.value))
    return None


def test_what_modules_take_from_each_other_is_public() -> None:
    """Each name that is imported from a module of ours is in that module's `__all__`."""
    modules = _modules()
    named = {name: _named(tree) for name, tree in modules.items()}
    assert len(modules) > 200
    hidden = {
        f"{line.module}.{alias.name} (in {user})"
        for user, tree in modules.items()
        for line in ast.walk(tree)
        if isinstance(line, ast.ImportFrom) and line.module in modules
        for alias in line.names
        if f"{line.module}.{alias.name}" not in modules and alias.name not in (named[line.module] or ())
    }
    assert not hidden, sorted(hidden)
