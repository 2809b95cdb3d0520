"""The texts of the database's functions and views, a file a version: `<name>_v<version>.sql` in a folder of its own.

A migration that changes one adds the next version's file and executes it; its downgrade executes the version before.
The highest version is in force, and a released file is never edited. Functions that changed before there were files
(migrations 0011 to 0025) have the version in force only. One with other arguments, or that workers of the release
before could not call as well, is a new function with a new name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

__all__ = ["Kind", "in_force", "text_of"]

Kind = Literal["functions", "views"]
_NAME = re.compile(r"(?P<name>[a-z0-9_.]+)_v(?P<version>[1-9][0-9]*)\.sql")


def text_of(kind: Kind, name: str, version: int) -> str:
    """The statement that makes this version. Raises OSError if there is none."""
    return (Path(__file__).parent / kind / f"{name}_v{version}.sql").read_text(encoding="utf-8")


def in_force(kind: Kind) -> Mapping[str, str]:
    """Each one's newest statement, by name. Raises ValueError for a file that is named otherwise."""
    versions: dict[str, int] = {}
    for path in (Path(__file__).parent / kind).glob("*.sql"):
        found = _NAME.fullmatch(path.name)
        if found is None:
            raise ValueError(f"{path.name} is not named <name>_v<version>.sql")
        versions[found["name"]] = max(versions.get(found["name"], 0), int(found["version"]))
    return {name: text_of(kind, name, version) for name, version in sorted(versions.items())}
