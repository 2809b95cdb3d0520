"""Checks the files named in settings: they exist, and those with secrets are readable by their owner only (SAFE-4)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workers.private_files import secret_file_problem
from workers.settings.exchange_keys import key_file_problems
from workers.settings.keys import constraints, leaves
from workers.settings.problems import ConfigError, shown_key
from workers.settings.types import FileUse

if TYPE_CHECKING:
    from workers.settings import Settings

__all__ = ["file_problems", "require_files"]


def file_problems(settings: Settings) -> list[str]:
    """One sentence for each unusable file; the file's name is not shown, because a secret may be in its place."""
    found = []
    for leaf in leaves(settings):
        uses = [noted for noted in constraints(leaf.field) if isinstance(noted, FileUse)]
        if uses and isinstance(leaf.value, Path) and (problem := _problem(leaf.value, uses[0], settings)):
            found.append(f"{shown_key(leaf.key.split('.'))}: {problem}.")
    if settings.exchange.key_file is not None and not found:
        found += [f"exchange.key_file: {problem}" for problem in key_file_problems(settings.exchange.key_file)]
    return found


def require_files(settings: Settings) -> None:
    """The check of every process before it starts. Raises ConfigError with a sentence for each file."""
    if problems := file_problems(settings):
        raise ConfigError(problems)


def _problem(path: Path, use: FileUse, settings: Settings) -> str | None:
    if use is FileUse.SECRET:
        return secret_file_problem(path, settings.secrets.readable_mounts)
    return None if path.is_file() else "there is no such file"
