"""Strategies of the user's own: by entry point, by module, or from a file named in the configuration.

A file is read once a process: a worker that is to take a changed one is started again.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from domain.strategies import Strategy

__all__ = ["GROUP", "StrategyError", "load_strategy"]

GROUP = "bottrader.strategies"
"""The entry point group in which a package announces its strategies."""

_files: dict[Path, Any] = {}


class StrategyError(Exception):
    """A strategy that can't be used; the text says which and why."""

    code = "BAD_STRATEGY"


def load_strategy(name: str, parameters: Mapping[str, Any]) -> Strategy:
    """The strategy that the configuration names, made with its parameters.

    `name` is one of the group `bottrader.strategies`, `package.module:Class` or `path/to/file.py:Class`. Raises
    StrategyError.
    """
    made = _class_of(name)
    try:
        strategy = made(**parameters)
    except Exception as problem:
        raise StrategyError(
            f"strategy.use = {name}: it can't be made with the parameters {dict(parameters)}: "
            f"{type(problem).__name__}: {problem}"
        ) from problem
    decide = getattr(strategy, "decide", None)
    if not callable(decide) or inspect.iscoroutinefunction(decide):
        raise StrategyError(f"strategy.use = {name}: it has no method decide(features) that returns a Decision")
    return cast("Strategy", strategy)


def _class_of(name: str) -> Any:
    if ":" not in name:
        found = [point for point in entry_points(group=GROUP) if point.name == name]
        if not found:
            known = ", ".join(sorted({"weighted", *(point.name for point in entry_points(group=GROUP))}))
            raise StrategyError(
                f"strategy.use = {name}: there is no such strategy; known are {known}, module:Class and file.py:Class"
            )
        try:
            return found[0].load()
        except Exception as problem:
            raise StrategyError(
                f"strategy.use = {name}: {found[0].value} can't be loaded: {type(problem).__name__}: {problem}"
            ) from problem
    where, _, attribute = name.rpartition(":")
    module = _file(name, Path(where)) if where.endswith(".py") else _module(name, where)
    made = getattr(module, attribute, None)
    if not callable(made):
        raise StrategyError(f"strategy.use = {name}: {where} has no class {attribute}")
    return made


def _module(name: str, where: str) -> Any:
    try:
        return importlib.import_module(where)
    except Exception as problem:
        raise StrategyError(
            f"strategy.use = {name}: {where} can't be imported: {type(problem).__name__}: {problem}"
        ) from problem


def _file(name: str, given: Path) -> Any:
    path = given.expanduser().resolve()
    if path in _files:
        return _files[path]
    if not path.is_file():
        raise StrategyError(f"strategy.use = {name}: there is no file {path}")
    known_as = f"bottrader_strategy_{path.stem}"
    spec = importlib.util.spec_from_file_location(known_as, path)
    if spec is None or spec.loader is None:
        raise StrategyError(f"strategy.use = {name}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles of the file look their module up by name.
    sys.modules[known_as] = module
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        del sys.modules[known_as]
        raise StrategyError(
            f"strategy.use = {name}: {path} can't be run: {type(problem).__name__}: {problem}"
        ) from problem
    _files[path] = module
    return module
