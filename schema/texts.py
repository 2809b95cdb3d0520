"""The SQL of the database's functions and views, one file per version: `<name>_v<version>.sql` in a folder per kind.

A migration that changes one adds the next version's file and executes it; its downgrade executes the previous version.
The highest version is in force, and a released file is never edited. Functions that changed before there were files
(migrations 0011 to 0025) have only the version in force. A function with other arguments, or one that workers of the
previous release could not call in the same way, is a new function with a new name.
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
    """The statement that creates this version. Raises OSError if there is none."""
    return (Path(__file__).parent / kind / f"{name}_v{version}.sql").read_text(encoding="utf-8")


def in_force(kind: Kind) -> Mapping[str, str]:
    """The newest statement of each, by name. Raises ValueError for a file with another form of name."""
    versions: dict[str, int] = {}
    for path in (Path(__file__).parent / kind).glob("*.sql"):
        found = _NAME.fullmatch(path.name)
        if found is None:
            raise ValueError(f"{path.name} is not named <name>_v<version>.sql")
        versions[found["name"]] = max(versions.get(found["name"], 0), int(found["version"]))
    return {name: text_of(kind, name, version) for name, version in sorted(versions.items())}
