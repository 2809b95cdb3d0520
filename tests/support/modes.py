"""What in a folder others than its owner may read or write."""

from pathlib import Path

__all__ = ["open_to_others"]


def open_to_others(folder: Path) -> set[str]:
    """Names of files and folders below `folder`, links aside, that let group or others do anything."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    }
