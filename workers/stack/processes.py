"""Our child processes: each in its own process group, with its output in a log file, and never left behind.

On Linux a child also gets its stop signal when its parent is killed (kill -9), so that a crashed stack does not leave a
database running.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from workers.errors import UnreachableError

__all__ = [
    "Child",
    "Command",
    "free_port",
    "kill_at_once",
    "listens",
    "python_environment",
    "python_module",
    "require_free_port",
]

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def free_port() -> int:
    """A TCP port on 127.0.0.1 that is free now, and on Linux for a minute is given to nobody who asks for any free one.

    A connection that was closed at its server's end leaves the port in TIME_WAIT: the system then passes it over when
    it chooses a port, and a server that names it, with SO_REUSEADDR as servers have it, can listen on it at once.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        # Only now: had the port been chosen with it, the system would give it to the next socket that has it, too.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.listen(1)
        port: int = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            listener.accept()[0].close()
    return port


def require_free_port(port: int, what: str, option: str) -> None:
    """Raise UnreachableError(PORT_IN_USE) if 127.0.0.1:`port` can't be listened on; `option` is the option to choose
    another.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError as error:
            raise UnreachableError(
                "PORT_IN_USE",
                f"Port {port} for {what} can't be used ({error.strerror}): stop the program that listens there, or "
                f"choose another port with {option} (0 = any free port).",
            ) from None


def listens(pid: int, port: int) -> bool:
    """Whether process `pid`, a child of ours, is the one that takes connections on 127.0.0.1:`port`."""
    try:
        connections = psutil.Process(pid).net_connections("tcp4")
    except psutil.Error:
        return False
    return any(found.status == psutil.CONN_LISTEN and found.laddr.port == port for found in connections)


def kill_at_once(pids: Sequence[int]) -> None:
    """SIGKILL these processes and all their descendants, in any group, in quick succession."""
    found: list[psutil.Process] = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()


def python_module(module: str, *arguments: str) -> list[str]:
    """How to run one of our modules as a child; goes with `python_environment`.

    `-P`: a folder with the same name in the user's working folder is not run by mistake.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment(extra: Mapping[str, str] | None = None, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """`base` (None: our environment) and `extra`, with our code on the child's path in any working folder."""
    base = os.environ if base is None else base
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (root, base.get("PYTHONPATH", "")) if part)
    return {**base, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(extra or {})}


def _die_with_parent(stop_signal: signal.Signals, parent: int) -> Callable[[], None] | None:
    """Run in the child between fork and exec, so that the kernel sends it `stop_signal` when `parent` ends."""
    libc = _LIBC
    if libc is None:
        return None

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(stop_signal))
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return prepare


@dataclass(frozen=True)
class Command:
    """How to start a child: `argv`, environment, log file, user, and stop signal.

    `env` is the whole environment (None: ours). `user` is a user name, for root only. `grace_s` is how many seconds
    the child gets between the stop signal and SIGKILL.
    """

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    user: str | None = None
    cwd: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10.0
    pipe_stdout: bool = False


class Child:
    """A started `Command`. Always stopped by `stop()`, which kills the whole process group after the grace time."""

    def __init__(self, command: Command, process: asyncio.subprocess.Process) -> None:
        self.command = command
        self.process = process

    @classmethod
    async def start(cls, command: Command) -> "Child":
        """Start the child.

        Raises UnreachableError(PROGRAM_MISSING) when the program can't be run.
        """
        spawning = asyncio.ensure_future(cls._spawn(command))
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            # A spawn can't be half undone: let it finish, then end the child.
            with contextlib.suppress(UnreachableError):
                await (await spawning).kill()
            raise

    @classmethod
    async def _spawn(cls, command: Command) -> "Child":
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE if command.pipe_stdout else log,
                    stderr=log,
                    env=None if command.env is None else dict(command.env),
                    cwd=command.cwd,
                    user=command.user,
                    group=command.user,
                    extra_groups=None if command.user is None else [],
                    umask=0o077,  # what it writes is the owner's alone
                    start_new_session=True,
                    preexec_fn=_die_with_parent(command.stop_signal, os.getpid()),
                )
            except OSError as error:
                raise UnreachableError(
                    "PROGRAM_MISSING", f"{command.name} can't be started: {command.argv[0]}: {error.strerror}."
                ) from None
        return cls(command, process)

    @property
    def pid(self) -> int:
        """The child's process id, which is also its group's."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the child has not ended."""
        return self.process.returncode is None

    async def wait(self) -> int:
        """The exit code, once the child has ended (negative: the signal that ended it)."""
        return await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child alone, not to its group."""
        if self.running:
            # Not Process.send_signal: that may collect the exit code before asyncio's watcher does, who then loses it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self) -> None:
        """Send the stop signal, wait for the grace time, then kill the group. Idempotent, also for a child that has
        ended."""
        if self.running:
            self.signal(self.command.stop_signal)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.command.grace_s):
                    await self.process.wait()
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to the whole group, and wait for the child's end."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        await self.process.wait()

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of the child's log."""
        try:
            text = self.command.log.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.strip().splitlines()[-lines:])
