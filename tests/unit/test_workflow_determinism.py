"""Workflow code and the domain code that it calls use no clock, no random numbers and no I/O."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_FORBIDDEN_MODULES = frozenset(
    {
        "aiohttp", "asyncpg", "concurrent", "ctypes", "glob", "httpx", "multiprocessing", "os", "pathlib", "platform",
        "random", "requests", "secrets", "select", "shutil", "signal", "socket", "sqlalchemy", "subprocess", "sys",
        "tempfile", "threading", "time", "urllib", "websockets",
    }
)  # fmt: skip
_FORBIDDEN_CALLS = frozenset(
    {
        "breakpoint", "datetime.datetime.now", "datetime.datetime.today", "datetime.datetime.utcnow", "datetime.now",
        "datetime.today", "datetime.utcnow", "date.today", "exec", "eval", "input", "open", "print", "uuid.uuid1",
        "uuid.uuid4", "asyncio.as_completed", "asyncio.to_thread", "asyncio.wait",
    }
)  # fmt: skip


def _modules() -> list[Path]:
    return sorted(path for folder in ("workflows", "domain") for path in (_ROOT / folder).glob("**/*.py"))


def _offences(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [item.name for item in node.names]
            outside = [name for name in names if name.split(".")[0] in _FORBIDDEN_MODULES]
            found += [f"line {node.lineno}: imports {name}" for name in outside]
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _FORBIDDEN_CALLS:
            found.append(f"line {node.lineno}: calls {ast.unparse(node.func)}")
        if isinstance(node, ast.For | ast.comprehension) and isinstance(node.iter, ast.Set | ast.SetComp):
            found.append(f"line {node.iter.lineno}: iterates over a set")
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(_ROOT)))
def test_code_that_is_replayed_is_deterministic(path: Path) -> None:
    """A module of workflows or domain neither imports nor calls anything whose result may differ in a replay."""
    assert _offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    ["import time", "from random import choice", "import os.path", "datetime.now(UTC)", "open('x')", "uuid.uuid4()"],
)
def test_what_differs_in_a_replay_is_found(source: str) -> None:
    """The check sees clocks, random numbers and files."""
    assert len(_offences(source)) == 1
