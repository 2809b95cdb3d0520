"""The user's own strategies: from an entry point, a module, or a file named in the settings.

A file is read once per process: restart the worker after changing it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from domain.errors import BotTraderError
from domain.strategies import Strategy

__all__ = ["GROUP", "StrategyError", "load_strategy", "look_at_strategy"]

GROUP = "bottrader.strategies"
"""The entry point group for strategies from packages."""

_files: dict[Path, Any] = {}


class StrategyError(BotTraderError):
    """A strategy that can't be used; the text says which and why."""

    code = "BAD_STRATEGY"


def load_strategy(name: str, parameters: Mapping[str, Any]) -> Strategy:
    """The configured strategy, created with its parameters.

    `name` is one of the group `bottrader.strategies`, `package.module:Class` or `path/to/file.py:Class`. Raises
    StrategyError.
    """
    made = _class_of(name)
    try:
        strategy = made(**parameters)
    except Exception as problem:
        raise StrategyError(
            f"strategy.use: the strategy can't be created with strategy.parameters: {_where(problem)}"
        ) from problem
    decide = getattr(strategy, "decide", None)
    if not callable(decide) or inspect.iscoroutinefunction(decide):
        raise StrategyError("strategy.use: the strategy has no method decide(features) that returns a Decision")
    return cast("Strategy", strategy)


def look_at_strategy(name: str) -> None:
    """Check the strategy without running its code. Raises StrategyError if it can't be found or its file has a syntax
    error.

    Errors that appear only when it is created (imports, parameters, methods) are left to `load_strategy`.
    """
    where, _, attribute = (name if ":" in name else _point(name).value).rpartition(":")
    file = Path(where).expanduser() if where.endswith(".py") else _file_of_module(where)
    if file is None:
        return  # compiled: there is no text to look at
    if not file.is_file():
        raise StrategyError("strategy.use: there is no such file")
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError) as problem:
        raise StrategyError(f"strategy.use: its file can't be read: {_where(problem)}") from problem
    names = set(_names_in(tree.body))
    if not names & {attribute.partition(".")[0], "*", "__getattr__"}:
        raise StrategyError("strategy.use: its module or file has no such class")


def _file_of_module(name: str) -> Path | None:
    """A module's file, found without importing its packages; None: it has none."""
    path: Sequence[str] | None = None
    spec = None
    for length, _ in enumerate(parts := name.split("."), start=1):
        spec = _spec(".".join(parts[:length]), path)
        if spec is None:
            raise StrategyError("strategy.use: there is no such module")
        path = spec.submodule_search_locations
        if path is None and length < len(parts):
            raise StrategyError("strategy.use: there is no such module")
    return Path(spec.origin) if spec is not None and spec.origin and spec.origin.endswith(".py") else None


def _spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """As importlib finds it, but for what it imports on the way."""
    found = (finder.find_spec(name, path) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)


def _names_in(body: Sequence[ast.stmt]) -> Iterator[str]:
    """What the lines of a module give names to, also in branches."""
    for line in body:
        match line:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (each.asname or each.name.partition(".")[0] for each in names)
            case ast.Assign(targets=targets):
                yield from (each.id for each in targets if isinstance(each, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If() | ast.Try() | ast.With():
                yield from _names_in(
                    [each for each in ast.walk(line) if isinstance(each, ast.stmt) and each is not line]
                )


def _point(name: str) -> EntryPoint:
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        known = ", ".join(sorted({"weighted", *(point.name for point in entry_points(group=GROUP))}))
        raise StrategyError(
            f"strategy.use: there is no such strategy; use one of {known}, module:Class or file.py:Class"
        )
    return found[0]


def _class_of(name: str) -> Any:
    if ":" not in name:
        point = _point(name)
        try:
            return point.load()
        except Exception as problem:
            raise StrategyError(f"strategy.use: the strategy can't be loaded: {_where(problem)}") from problem
    where, _, attribute = name.rpartition(":")
    module = _file(Path(where)) if where.endswith(".py") else _module(where)
    made = getattr(module, attribute, None)
    if not callable(made):
        raise StrategyError("strategy.use: its module or file has no such class")
    return made


def _module(where: str) -> Any:
    try:
        return importlib.import_module(where)
    except Exception as problem:
        raise StrategyError(f"strategy.use: its module can't be imported: {_where(problem)}") from problem


def _file(given: Path) -> Any:
    path = given.expanduser().resolve()
    if path in _files:
        return _files[path]
    if not path.is_file():
        raise StrategyError("strategy.use: there is no such file")
    known_as = f"bottrader_strategy_{path.stem}"
    spec = importlib.util.spec_from_file_location(known_as, path)
    if spec is None or spec.loader is None:
        raise StrategyError("strategy.use: the file is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles of the file look their module up by name.
    sys.modules[known_as] = module
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        del sys.modules[known_as]
        raise StrategyError(f"strategy.use: its file can't be run: {_where(problem)}") from problem
    _files[path] = module
    return module


def _where(problem: Exception) -> str:
    """The error in a user's code, and its line. Not the error's text, which may contain the parameters (SAFE-5)."""
    frames = traceback.extract_tb(problem.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if len(frames) > 1 else ""
    if isinstance(problem, SyntaxError) and problem.lineno:
        place = f" in line {problem.lineno}"
    return f"{type(problem).__name__}{place}"
