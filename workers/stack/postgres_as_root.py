"""PostgreSQL as root: it refuses to run as root, so it runs as a separate system user.

That user can't enter root's folders, and nothing above our own folder is changed for it (SAFE-4). The server gets its
data folder as its working folder, entered before it becomes that user, and uses the kernel's name for it; programs that
the user can't reach are copied once to a system folder.
"""

import contextlib
import hashlib
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from workers.errors import UnreachableError

__all__ = ["HERE", "programs_for", "reachable", "socket_folder", "system_user"]

_SYSTEM_USER = "bottrader-pg"
_PROGRAMS = Path("/var/lib/bottrader/postgres")
_SOCKETS = Path("/var/lib/bottrader/sockets")
_NEEDED = ("postgres", "initdb")
HERE = Path("/proc/self/cwd")
"""A process's working folder, independent of the permissions above it."""


def system_user() -> pwd.struct_passwd:
    """The user that PostgreSQL runs as; created if missing. Raises UnreachableError(POSTGRES_USER)."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(_SYSTEM_USER)
    argv = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
    with contextlib.suppress(OSError):
        subprocess.run(argv, capture_output=True, check=False)
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        raise UnreachableError(
            "POSTGRES_USER",
            f"PostgreSQL can't run as root and the system user {_SYSTEM_USER} can't be created: "
            "run as an ordinary user or set DATABASE_URL.",
        ) from None


def reachable(path: Path) -> bool:
    """Whether all users can enter the folders above `path`."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)


def programs_for(user: pwd.struct_passwd, programs: Path) -> Path:
    """The bin folder that `user` can run: `programs`, or a copy, which is made once.

    Raises UnreachableError(POSTGRES_PROGRAMS) when it can't be written.
    """
    if _runs(user, programs):
        return programs
    # By what they are and not where: every environment with this PostgreSQL has the same copy.
    copy = _PROGRAMS / _name_of((programs / "postgres").read_bytes())
    install = programs.parent
    copied = copy / install.parent.name / install.name / "bin"
    if not _runs(user, copied):
        try:
            _copy(programs, copy)
        except OSError as error:
            raise UnreachableError(
                "POSTGRES_PROGRAMS",
                f"PostgreSQL's programs can't be copied to {_PROGRAMS} ({error.strerror}), where the user "
                f"{_SYSTEM_USER} reaches them: run as an ordinary user or set DATABASE_URL.",
            ) from None
    return copied


def _runs(user: pwd.struct_passwd, programs: Path) -> bool:
    try:
        for name in _NEEDED:
            argv = [str(programs / name), "--version"]
            subprocess.run(
                argv, capture_output=True, check=True, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/"
            )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _copy(programs: Path, copy: Path) -> None:
    """Copy, then rename: two concurrent starts make one copy, and a killed one leaves no partial copy."""
    _open_folder(copy.parent)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=copy.parent) as made:
        fresh, install = Path(made) / "programs", programs.parent
        room = fresh / install.parent.name / install.name
        (room / "bin").mkdir(parents=True)
        for name in _NEEDED:
            shutil.copy2(programs / name, room / "bin" / name)
        for name in ("lib", "share"):
            shutil.copytree(install / name, room / name, symlinks=True)
        libraries = f"{install.parent.name}.libs"  # beside the package, where a wheel has those of others
        if (install.parent.parent / libraries).is_dir():
            shutil.copytree(install.parent.parent / libraries, fresh / libraries, symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        try:
            fresh.rename(copy)
        except OSError:
            if not _runs(system_user(), copy / room.relative_to(fresh) / "bin"):
                shutil.rmtree(copy, ignore_errors=True)
                fresh.rename(copy)


def socket_folder(data: Path) -> Path:
    """The folder for the socket of the server on `data` if it can't be inside; always the same, not created here."""
    _open_folder(_SOCKETS)
    return _SOCKETS / _name_of(str(data).encode())


def _open_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for each in (folder.parent, folder):
        each.chmod(0o755)


def _name_of(what: bytes) -> str:
    return hashlib.sha256(what).hexdigest()[:16]
