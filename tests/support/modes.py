"""Files in a folder that others than the owner can read or write."""

from pathlib import Path

__all__ = ["open_to_others"]


def open_to_others(folder: Path) -> set[str]:
    """Names of files and folders below `folder`, without links, with any permission for group or others."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    }
