"""Files we create are readable by their owner only, and files with secrets or code to run must be (SAFE-4)."""

import os
import stat
from collections.abc import Collection
from pathlib import Path

__all__ = [
    "folder_problem",
    "make_private",
    "secret_file_problem",
    "settings_file_problem",
    "tighten",
    "write_private",
]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_private() -> None:
    """From now on this process and its children create files for their user only: folders 0700, files 0600."""
    os.umask(_OTHERS)


def write_private(path: Path, text: str) -> None:
    """Put `text` in place of what the file held, at once; only its owner can ever read it. Raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def tighten(folder: Path, names: Collection[str]) -> None:
    """Remove others' permissions from `names` in a folder, and all below them; only our own files are changed.

    A name may end in `*`. Links are not followed, so nothing outside the folder is touched. Raises OSError.
    """
    for name in names:
        for path in folder.glob(name):
            below = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
            for each in (path, *below):
                status = each.lstat()
                ours = status.st_uid == os.geteuid() and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))
                if ours and status.st_mode & _OTHERS:
                    each.chmod(stat.S_IMODE(status.st_mode) & ~_OTHERS)


def secret_file_problem(path: Path, readable_mounts: Collection[Path] = ()) -> str | None:
    """The problem of a file with a secret, as a clause; None: it exists and only its owner can read it.

    In and below `readable_mounts`, where containers get their secrets, any owner and reader is allowed.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
    except OSError as error:
        return "there is no such file" if isinstance(error, FileNotFoundError) else f"can't be read ({error.strerror})"
    if any(path.resolve().is_relative_to(mount.resolve()) for mount in readable_mounts):
        return None
    if not _of_us_or_root(status):
        return "the file belongs to another user: use your own file, or change its owner with chown"
    if status.st_mode & _OTHERS:
        return "the file can be read by other users of this machine: run chmod 600 on it"
    return None


def folder_problem(folder: Path) -> str | None:
    """The problem of a data folder that others may write to, as a clause: its content is trusted.

    None if it doesn't exist. Raises OSError if it can't be checked.
    """
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    if not _of_us_or_root(status):
        return "it belongs to another user: run this as that user, or use your own folder"
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        return "everyone can write to it: run chmod o-w on it, or use your own folder"
    return None


def settings_file_problem(file: Path, opened: os.stat_result | None = None) -> str | None:
    """The problem of a settings file that others may write to, as a clause: it names a strategy, so it decides which
    code is run.

    `opened` is the file being read, because the path may change meanwhile. None if it doesn't exist. Raises OSError if
    it can't be checked.
    """
    try:
        name, status, above = file.lstat(), opened or file.stat(), file.absolute().parent.stat()
    except FileNotFoundError:
        return None
    if not (_of_us_or_root(name) and _of_us_or_root(status)):
        return (
            "it belongs to another user, who could run any code with it: use your own file, or change its owner "
            "with chown"
        )
    if stat.S_ISREG(status.st_mode) and status.st_mode & _OTHERS_WRITE:
        return "other users can write to it and so run any code: run chmod go-w on it"
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        return "everyone can replace it: run chmod o-w on its folder, or move it"
    return None


def _of_us_or_root(status: os.stat_result) -> bool:
    return status.st_uid in {0, os.geteuid()}
