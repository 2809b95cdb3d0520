"""The paper exchange as a child process: start, read its addresses, stop."""

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from workers.errors import UnreachableError
from workers.stack.processes import Child, Command, python_environment, python_module

__all__ = ["PaperProcess", "PaperProcessConfig"]

_START_TIMEOUT_S = 120.0
"""One that is alive may take so long on a busy machine; one that ended is seen at once."""
_ADDRESSES = ("rest", "stream", "user_stream", "ca_file", "key_file", "control", "control_token_file")


@dataclass(frozen=True)
class PaperProcessConfig:
    """`arguments` are passed to `python -m exchange.paper` unchanged."""

    log: Path
    arguments: Sequence[str] = ()
    env: Mapping[str, str] | None = None


class PaperProcess:
    """One paper exchange. `addresses` has rest, stream, user_stream, ca_file, key_file, control
    and control_token_file.

    Its ports don't change over a restart, so that clients can reconnect.
    """

    def __init__(self, config: PaperProcessConfig) -> None:
        self.config = config
        self.addresses: dict[str, str] = {}
        self.left_out: tuple[str, ...] = ()
        """Products that its live prices don't have."""
        self._child: Child | None = None
        self._drain: asyncio.Task[None] | None = None

    @property
    def child(self) -> Child | None:
        """The process, until it is stopped."""
        return self._child

    async def start(self) -> None:
        """Start and wait for its line of addresses.

        Raises UnreachableError(PAPER_FAILED) with the exchange's own last sentence, such as one about a truncated
        price file.
        """
        argv = python_module("exchange.paper", "--json", *self.config.arguments, *self._ports())
        command = Command(
            name="the paper exchange",
            argv=argv,
            log=self.config.log,
            env=python_environment(self.config.env),
            pipe_stdout=True,
            grace_s=5.0,
        )
        self._child = await Child.start(command)
        try:
            self.addresses = await self._read_addresses(self._child)
        except BaseException:
            await self.stop()
            raise
        self._drain = asyncio.create_task(self._keep_reading(self._child), name="drain paper exchange")

    async def stop(self) -> None:
        """Stop the exchange; its account is kept only with a `--data-folder`."""
        if self._child is not None:
            await self._child.stop()
            self._child = None
        if self._drain is not None:
            self._drain.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._drain
            self._drain = None

    async def kill(self) -> None:
        """SIGKILL; `start()` goes on at the same addresses."""
        if self._child is not None:
            await self._child.kill()
        await self.stop()

    def _ports(self) -> list[str]:
        """Its earlier ports, if it ran before."""
        if not self.addresses:
            return []
        found = {
            "--rest-port": f"//{self.addresses['rest']}",
            "--stream-port": self.addresses["stream"],
            "--control-port": self.addresses["control"],
        }
        return [f"{option}={urlsplit(address).port}" for option, address in found.items()]

    async def _read_addresses(self, child: Child) -> dict[str, str]:
        stdout = child.process.stdout
        if stdout is None:
            raise RuntimeError("the paper exchange was started without a pipe")
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                line = await stdout.readline()
            found = json.loads(line)
            self.left_out = tuple(found.get("left_out", ()))
            return {name: str(found[name]) for name in _ADDRESSES}
        except (TimeoutError, ValueError, KeyError, TypeError, AttributeError):
            tail = child.log_tail(1) or "it printed no addresses"
            raise UnreachableError(
                "PAPER_FAILED", f"The paper exchange did not start: {tail} (log: {child.command.log})"
            ) from None

    async def _keep_reading(self, child: Child) -> None:
        """Later output belongs in the log; a full pipe would stop the exchange."""
        if child.process.stdout is None:
            return
        with child.command.log.open("ab", buffering=0) as log:
            while chunk := await child.process.stdout.read(65_536):
                log.write(chunk)
