"""What we make is its owner's alone, and what holds a secret or says what is run has to be so (SAFE-4)."""

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
    """What this process and its children make from now on is their user's alone: folders 0700, files 0600."""
    os.umask(_OTHERS)


def write_private(path: Path, text: str) -> None:
    """Put `text` in place of what the file held, at once; only its owner can ever read it. Raises OSError."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def tighten(folder: Path, names: Collection[str]) -> None:
    """Take from others what `names` in a folder, and all below them, let them do; nobody's files but ours are changed.

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
    """What is wrong with a file that holds a secret, as a clause; None: it is there and only its owner can read it.

    In and below `readable_mounts`, where containers get their secrets, it may be anybody's and readable by all.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
    except OSError as error:
        return "there is no such file" if isinstance(error, FileNotFoundError) else f"can't be read ({error.strerror})"
    if any(path.resolve().is_relative_to(mount.resolve()) for mount in readable_mounts):
        return None
    if not _of_us_or_root(status):
        return "the file belongs to another user: take one of your own, or run chown on it"
    if status.st_mode & _OTHERS:
        return "the file can be read by other users of this machine: run chmod 600 on it"
    return None


def folder_problem(folder: Path) -> str | None:
    """What is wrong with who may put something into a data folder, as a clause: what is found there is believed.

    None for one that isn't there. Raises OSError for one that can't be looked at.
    """
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    if not _of_us_or_root(status):
        return "it belongs to another user: run this as that user, or take a folder of your own"
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        return "everybody can put something into it: run chmod o-w on it, or take a folder of your own"
    return None


def settings_file_problem(file: Path, opened: os.stat_result | None = None) -> str | None:
    """What is wrong with who may write a settings file, as a clause: it names a strategy, so it says what is run.

    `opened` is of the file that is read, as what a name leads to may change meanwhile. None for a file that isn't
    there. Raises OSError for one that can't be looked at.
    """
    try:
        name, status, above = file.lstat(), opened or file.stat(), file.absolute().parent.stat()
    except FileNotFoundError:
        return None
    if not (_of_us_or_root(name) and _of_us_or_root(status)):
        return "it belongs to another user, who could have any code run: take a file of your own, or run chown on it"
    if stat.S_ISREG(status.st_mode) and status.st_mode & _OTHERS_WRITE:
        return "other users can write to it, and have any code run: run chmod go-w on it"
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        return "everybody can put another file in its place: run chmod o-w on its folder, or move it"
    return None


def _of_us_or_root(status: os.stat_result) -> bool:
    return status.st_uid in {0, os.geteuid()}
