"""The whole system on one machine: PostgreSQL, Temporal, the paper exchange, the ledger's schema and a worker.

`LocalStack` starts them in the order of their dependencies, concurrently where possible, and stops everything it
started, and nothing else, in reverse order. Meanwhile, a process that ends unexpectedly is restarted at the same
address with the same data; a server that keeps failing is given up. `bottrader up`, the demo, the benchmarks and the
crash tests use it:

    async with LocalStack(LocalStackConfig()) as stack:
        client = await Client.connect(stack.temporal_address)

The data folder belongs to one stack at a time (a lock that the kernel releases when its owner dies). `stack.json` in
it has the addresses while it runs, which is how the other commands find it.

Long on purpose: it is one object, whose servers start in the order of their needs and stop in the reverse one, and
each of its methods is about that order.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Self

import psutil
from temporalio.service import RPCError

from activities.identity import Brought
from domain.identity import Names, names_of
from schema import migrate
from workers.errors import ExitCode, UnreachableError, UserError
from workers.ledger_identity import refuse_other_account, refuse_other_mode, stamp_before_start
from workers.namespace import keep_closed, set_up
from workers.polling import polled_since, queue_of, roles_of
from workers.private_files import folder_problem, tighten
from workers.settings import Settings, load_settings
from workers.settings.sources import CONFIG_FOLDER
from workers.stack import local_temporal, page_libraries
from workers.stack.dev_server import DevServer
from workers.stack.embedded_postgres import EmbeddedPostgres, PostgresConfig
from workers.stack.paper_process import PaperProcess, PaperProcessConfig
from workers.stack.processes import (
    Child,
    Command,
    free_port,
    kill_at_once,
    python_environment,
    python_module,
    require_free_port,
)
from workers.stack.secured_server import SecuredServer, UiFiles
from workers.stack.stack_file import STACK_FILE, STACK_LOCK
from workers.stack.supervisor import Limit, Supervised
from workers.stack.temporal_ui import UiGate, UiGateConfig
from workers.temporal_connection import connect

__all__ = ["LocalStack", "LocalStackConfig"]

_WORKER_READY_TIMEOUT_S = 120.0
"""A running worker may take this long on a busy machine after an upgrade; one that ended is noticed at once."""
_SERVER_LIMIT = Limit(failures=5, within_s=300.0)

_OUR_FILES = ("logs", "paper", "tls", "temporal*", "stack.*", "webhook_token", "page_link*")
"""Files of a stack in its data folder, without PostgreSQL's."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class LocalStackConfig:
    """The configuration of a stack.

    `data` None is a throw-away folder, removed at the end; such a stack takes no settings from the user's files or
    shell. `durable` False gives up safety in a crash of the machine for speed. Ports: 0 is any free one, but no
    metrics of Temporal for `temporal_metrics_port`; `postgres_port` None is a Unix socket only. `database_url` and
    `temporal_address` name servers that run already; the stack then starts none of its own and stops none. `web`
    runs the webhook, with `web_token` for a sender `local` whose token is made in the data folder; `api` runs the
    API and the page; `telegram` runs the bot, whose settings are in the file or in `env`. `mtls` runs Temporal's
    production server, which asks for a certificate, and puts its Web UI behind a log-in, as in live. `names` are those
    in Temporal that the settings say themselves (`namespace`, `orders_queue` …); the others are the ledger's own, or,
    of a new one, those of its `mode`. `env` is added to the environment of our processes, `for_commands` to that of the
    commands that find the stack. Without a `config_file` the one of `config_folder` (else of the working folder) counts
    once it appears.
    """

    data: Path | None = None
    durable: bool = False
    temporal_port: int = 0
    temporal_metrics_port: int = 0
    ui_port: int = 0
    ui: bool = True
    mtls: bool = False
    postgres_port: int | None = None
    paper: bool = True
    paper_arguments: Sequence[str] = ()
    worker: bool = True
    worker_role: str = "all"
    web: bool = False
    web_port: int = 0
    web_token: bool = True
    api: bool = False
    api_port: int = 0
    telegram: bool = False
    mode: str = "paper"
    names: Mapping[str, str] = field(default_factory=dict)
    config_file: Path | None = None
    config_folder: Path | None = None
    database_url: str | None = None
    temporal_address: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    for_commands: Mapping[str, str] = field(default_factory=dict)
    say: Say = lambda _: None


_Server = EmbeddedPostgres | DevServer | SecuredServer | UiFiles | PaperProcess


class LocalStack:
    """A running stack; see the module. Use as an async context manager, or `start()` and `stop()`."""

    def __init__(self, config: LocalStackConfig | None = None) -> None:
        self.config = config or LocalStackConfig()
        self._exit = contextlib.AsyncExitStack()
        self._data: Path | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._temporal: DevServer | SecuredServer | None = None
        self._ui_files: UiFiles | None = None
        self._ui: UiGate | None = None
        self._paper: PaperProcess | None = None
        self._worker: Supervised | None = None
        self._web: Supervised | None = None
        self._web_port = 0
        self._api: Supervised | None = None
        self._api_port = 0
        self._telegram: Supervised | None = None
        self._names = replace(names_of(self.config.mode), **dict(self.config.names))
        self._servers: dict[_Server, Supervised] = {}
        self._lock_file: IO[str] | None = None
        self.paper: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def data(self) -> Path:
        """The data folder, with the children's logs in `logs/`."""
        if self._data is None:
            raise RuntimeError("the stack is not started")
        return self._data

    @property
    def dsn(self) -> str:
        """The ledger's address for asyncpg."""
        if self.config.database_url is not None:
            return self.config.database_url
        if self._postgres is None:
            raise RuntimeError("the stack is not started")
        return self._postgres.dsn()

    @property
    def temporal_address(self) -> str:
        """Temporal's gRPC address, host:port."""
        if self.config.temporal_address is not None:
            return self.config.temporal_address
        if self._temporal is None:
            raise RuntimeError("the stack is not started")
        return self._temporal.address

    @property
    def ui_url(self) -> str | None:
        """The Temporal Web UI's address; None when the stack has none of its own."""
        return None if self._ui is None else self._ui.url

    @property
    def ui_link(self) -> str | None:
        """The link for a person: the address, or with `mtls` a one-time log-in link."""
        return None if self._ui is None else self._ui.link

    @property
    def ui_views(self) -> dict[str, str]:
        """Name → address of the Web UI's lists of trades and orders; none when the stack has no UI of its own."""
        return {} if self._ui is None else self._ui.views

    @property
    def temporal_profile(self) -> Path:
        """The configuration file for the owner's `temporal` commands (TEMPORAL_CONFIG_FILE)."""
        return self.data / "temporal.toml"

    @property
    def webhook_url(self) -> str | None:
        """The URL for alerts; None without a webhook."""
        return None if self._web is None else f"http://127.0.0.1:{self._web_port}/webhook"

    @property
    def webhook_token(self) -> Path | None:
        """The file with the token of the sender `local`; None without one."""
        return self.data / "webhook_token" if self.config.web and self.config.web_token else None

    @property
    def api_url(self) -> str | None:
        """Where the API and the page are; None without them."""
        return None if self._api is None else f"http://127.0.0.1:{self._api_port}"

    @property
    def page_link(self) -> str | None:
        """What a person opens to see the page: a link that logs in once. None without it, or while it is started."""
        try:
            return None if self._api is None else self._page_link_file.read_text().strip()
        except FileNotFoundError:
            return None

    @property
    def _page_link_file(self) -> Path:
        return self.data / "page_link"

    @property
    def metrics_urls(self) -> dict[str, str]:
        """Process → address of its metrics, for the ports that the settings have."""
        told = self._settings().telemetry
        ports = {
            "worker": told.port if self.config.worker else 0,
            "worker, Temporal's SDK": told.sdk_port if self.config.worker else 0,
            "API": told.api_port if self.config.api else 0,
        }
        host = f"[{told.host}]" if ":" in told.host else told.host
        found = {name: f"http://{host}:{port}/metrics" for name, port in ports.items() if port}
        if self._temporal is not None and self.config.temporal_metrics_port:
            found["Temporal"] = f"http://127.0.0.1:{self.config.temporal_metrics_port}/metrics"
        if found and self._web is not None:
            found["webhook"] = f"http://127.0.0.1:{self._web_port}/metrics"
        return found

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        child = None if self._worker is None else self._worker.child
        return None if child is None else child.pid

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which our processes (worker, command line) use this stack."""
        found = {"DATABASE_URL": self.dsn, "TEMPORAL_ADDRESS": self.temporal_address}
        for name, value in asdict(self._names).items():
            found[f"BOTTRADER_TEMPORAL__{name.upper()}"] = value
        for name in ("rest", "stream", "user_stream", "ca_file", "key_file"):
            if name in self.paper:
                found[f"BOTTRADER_EXCHANGE__{name.upper()}"] = self.paper[name]
        if self._temporal is not None:
            found |= local_temporal.environment(self._wanted())
        if self.config.config_file is not None:
            found["BOTTRADER_CONFIG"] = str(self.config.config_file.resolve())
        elif self.config.data is None:
            found["BOTTRADER_CONFIG"] = str(self.data / "bottrader.toml")
        else:
            # A file that appears here later counts for the workers, and for commands that are typed elsewhere.
            found[CONFIG_FOLDER] = str(self.config.config_folder or Path.cwd())
        return found | dict(self.config.env)

    async def start(self) -> None:
        """Start everything and return when the worker takes tasks.

        Raises UserError in one sentence (a port in use, a second stack on the folder, a program that can't be had);
        processes started by then are stopped again.
        """
        try:
            self._data = self._open_data()
            self._lock(self._data)
            self._check_ports()
            # Registered before anything starts: the way out is the reverse of the needs, not of who was quicker.
            self._exit.push_async_callback(self._stop_postgres)
            self._exit.push_async_callback(self._stop_temporal)
            self._exit.push_async_callback(self._stop_paper)
            self._exit.push_async_callback(self._stop_worker)
            self._exit.push_async_callback(self._stop_web)
            self._exit.push_async_callback(self._stop_api)
            self._exit.push_async_callback(self._stop_telegram)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._start_ledger())
                    group.create_task(self._start_temporal())
                    if self.config.paper:
                        group.create_task(self._start_paper())
            except BaseExceptionGroup as failures:
                raise _first(failures) from None
            if self.config.temporal_address is not None:
                # Only now: whose the ledger is matters more than where Temporal is.
                await local_temporal.require_listening(self.config.temporal_address)
            if isinstance(self._temporal, SecuredServer):
                await self._timed("Temporal's namespace", set_up(self._settings()))
            else:
                # The dev server makes its namespace itself, and knows nothing of our settings.
                await self._keep_closed()
            await refuse_other_account(self.dsn, self._settings().account)
            try:
                async with asyncio.TaskGroup() as group:
                    if self.config.worker:
                        group.create_task(self._start_worker())
                    if self.config.web:
                        group.create_task(self._start_web())
                    if self.config.api:
                        group.create_task(self._start_api())
                    if self.config.telegram:
                        group.create_task(self._start_telegram())
            except BaseExceptionGroup as failures:
                raise _first(failures) from None
            self._write_addresses()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop what was started, in reverse order. Finishes even when cancelled once."""
        closing = asyncio.ensure_future(self._exit.aclose())
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await closing
            raise

    async def kill_worker(self) -> None:
        """SIGKILL the worker; it stays down until `restart_worker()`."""
        await self._require_worker().kill()

    async def restart_worker(self) -> None:
        """Stop the worker if it runs, start it, and wait until it takes tasks."""
        worker = self._require_worker()
        await worker.stop()
        await worker.start()

    async def kill_temporal(self) -> None:
        """SIGKILL Temporal; it stays down until `restart_temporal()`."""
        temporal = self._require_temporal()
        await self._servers[temporal].release()
        await temporal.kill()

    async def restart_temporal(self) -> None:
        """Restart Temporal on the same ports, with its histories."""
        await self._restart(self._require_temporal())

    async def kill_postgres(self) -> None:
        """SIGKILL PostgreSQL; it stays down until `restart_postgres()`."""
        postgres = self._require_postgres()
        await self._servers[postgres].release()
        await postgres.kill()

    async def restart_postgres(self) -> None:
        """Restart PostgreSQL at the same address, with all committed data."""
        await self._restart(self._require_postgres())

    async def lose_power(self, others: Sequence[int], disk: Callable[[], None]) -> None:
        """Simulate a power cut: all processes of the stack and `others` (process ids) are killed at once, then `disk`
        is called; nothing is written or cleaned up. This stack is then over, and another one may continue from its
        folder.
        """
        kept = [*self._servers.values(), *(each for each in self._ours() if each is not None)]
        children = [each.child for each in kept if each.child is not None]
        for each in kept:
            await each.release()
        kill_at_once([*others, *(child.pid for child in children)])
        disk()
        for child in children:
            await child.kill()
        self._exit.pop_all()
        if self._lock_file is not None:
            self._lock_file.close()

    async def wait_failed(self) -> str:
        """Wait until one of our servers is given up, because it ended or did not start 5 times within 5 minutes;
        returns which and why in a sentence. The worker is never given up.
        """
        if not self._servers:
            await asyncio.Event().wait()
        waits = [asyncio.create_task(supervised.wait_given_up()) for supervised in self._servers.values()]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        return done.pop().result()

    # --- starting -----------------------------------------------------------------------------------------------------

    def _open_data(self) -> Path:
        if self.config.data is None:
            folder = Path(tempfile.mkdtemp(prefix="bottrader-"))
            self._exit.callback(shutil.rmtree, folder, ignore_errors=True)
            (folder / "bottrader.toml").touch()
            return folder
        folder = self.config.data.expanduser().absolute()
        if self.config.mode == "live" and (folder / "paper").exists():
            raise UserError(
                "LEDGER_OF_OTHER_MODE",
                f"{folder} is paper's: it contains a paper exchange, and its trades are not real. Use a separate "
                f"folder for live with --data, or omit --data.",
            )
        try:
            ours = not folder.exists() or (folder / STACK_LOCK).exists() or not any(folder.iterdir())
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.stat()
            if ours and status.st_uid == os.geteuid() and not status.st_mode & stat.S_ISVTX:
                folder.chmod(0o700)
            problem = folder_problem(folder)
            if problem is None:
                (folder / "logs").mkdir(mode=0o700, exist_ok=True)
                tighten(folder, _OUR_FILES)
        except OSError as error:
            raise UserError(
                "BAD_DATA_FOLDER", f"{folder} can't be used for data ({error.strerror}): choose another with --data."
            ) from None
        if problem is not None:
            raise UserError("BAD_DATA_FOLDER", f"{folder} can't be used for data: {problem}.")
        return folder

    def _lock(self, folder: Path) -> None:
        lock = (folder / STACK_LOCK).open("a+")
        if not _try_lock(lock):
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise UserError(
                "STACK_RUNNING",
                f"A stack is already running on {folder} (process {owner}): stop it, or choose another folder with "
                f"--data.",
            )
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock_file = lock
        self._exit.callback(self._unlock, lock, folder)

    @staticmethod
    def _unlock(lock: IO[str], folder: Path) -> None:
        (folder / STACK_FILE).unlink(missing_ok=True)
        lock.truncate(0)
        lock.close()

    def _check_ports(self) -> None:
        """Check the chosen ports before anything starts, so that a used port does not leave the stack half started."""
        config = self.config
        if config.temporal_address is None:
            if config.temporal_port:
                require_free_port(config.temporal_port, "Temporal", "--temporal-port")
            if config.ui and config.ui_port:
                require_free_port(config.ui_port, "Temporal's Web UI", "--ui-port")
        if config.database_url is None and config.postgres_port:
            require_free_port(config.postgres_port, "PostgreSQL", "--postgres-port")
        if config.web and config.web_port:
            require_free_port(config.web_port, "the webhook", "--web-port")
        if config.api and config.api_port:
            require_free_port(config.api_port, "the API", "--api-port")

    async def _start_ledger(self) -> None:
        if self.config.database_url is None:
            self._postgres = EmbeddedPostgres(
                PostgresConfig(
                    folder=self.data / "postgres",
                    durable=self.config.durable,
                    port=self.config.postgres_port,
                    log=self._log("postgres"),
                )
            )
            await self._timed("PostgreSQL", self._keep("PostgreSQL", self._postgres))
            await self._postgres.create_database()
        try:
            await refuse_other_mode(self.dsn, self.config.mode)
            await self._timed("ledger schema", migrate.upgrade(self.dsn))
            stamped = await stamp_before_start(self.dsn, Brought(self.config.mode, "", "", self.config.names))
        except OSError as error:
            raise UnreachableError(
                "NO_DATABASE",
                f"The database does not answer ({type(error).__name__}): check DATABASE_URL and that PostgreSQL is "
                f"running.",
            ) from None
        # A ledger from before there were stamps is stamped by the first worker; its workflows are under the names of
        # before.
        before = replace(Names(), **dict(self.config.names))
        self._names = before if stamped is None else stamped.names

    async def _start_temporal(self) -> None:
        if self.config.temporal_address is not None:
            return
        self._temporal, self._ui_files = await local_temporal.prepare(self._wanted())
        await self._timed("Temporal", self._keep("Temporal", self._temporal))
        if not self.config.ui:
            return
        if self._ui_files is not None:
            await self._keep("Temporal's Web UI", self._ui_files)
        self._ui = UiGate(
            UiGateConfig(
                upstream=local_temporal.upstream(self._temporal, self._ui_files),
                port=self.config.ui_port,
                namespace=self._names.namespace,
                link_file=self.data / "temporal_ui_link" if self.config.mtls else None,
                login=(lambda: self.api_url) if self.config.api else None,
            )
        )
        await self._ui.start()

    def _wanted(self) -> local_temporal.WantedTemporal:
        config = self.config
        return local_temporal.WantedTemporal(
            data=self.data,
            logs=self.data / "logs",
            port=config.temporal_port,
            ui=config.ui,
            durable=config.durable,
            namespace=self._names.namespace,
            mtls=config.mtls,
            metrics_port=config.temporal_metrics_port,
            say=config.say,
        )

    async def _start_paper(self) -> None:
        self._paper = PaperProcess(
            PaperProcessConfig(
                log=self._log("paper"),
                arguments=["--data-folder", str(self.data / "paper"), *self.config.paper_arguments],
            )
        )
        await self._timed("paper exchange", self._keep("The paper exchange", self._paper))
        self.paper = self._paper.addresses
        if self._paper.left_out:
            self.config.say(f"not traded, because the live prices lack them: {', '.join(self._paper.left_out)}")

    async def _keep(self, name: str, server: _Server) -> None:
        """Start a server and keep it running."""

        async def start_child() -> Child:
            await server.kill()  # what is left of one that ended; its address stays, for whoever asks meanwhile
            await server.start()
            if server.child is None:
                raise RuntimeError(f"{name} is not started")
            return server.child

        self._servers[server] = Supervised(name, start_child, self.config.say, limit=_SERVER_LIMIT)
        await self._servers[server].start()

    async def _restart(self, server: _Server) -> None:
        supervised = self._servers[server]
        await supervised.release()
        await server.stop()
        await supervised.start()

    async def _start_worker(self) -> None:
        self._worker = Supervised("worker", self._worker_child, self.config.say)
        await self._timed("worker", self._worker.start())

    async def _worker_child(self) -> Child:
        began = time.time()
        child = await Child.start(
            Command(
                name="the worker",
                argv=python_module("cli.main", "worker", "--role", self.config.worker_role),
                log=self._log("worker"),
                env=python_environment(self.environment, self._shell()),
                grace_s=15.0,
            )
        )
        try:
            await self._until_polling(child, began)
        except BaseException:
            await child.stop()
            raise
        return child

    async def _until_polling(self, child: Child, began: float) -> None:
        """Wait until the queue of each of the worker's roles has been polled since its start."""
        settings = self._settings()
        queues = {queue_of(settings, role) for role in roles_of(settings, [self.config.worker_role])}
        client = await connect(settings)
        deadline = time.monotonic() + _WORKER_READY_TIMEOUT_S
        while True:
            with contextlib.suppress(RPCError):
                queues -= {queue for queue in queues if await polled_since(client, queue, began)}
            if not queues:
                return
            if not child.running or time.monotonic() > deadline:
                tail = child.log_tail(1) or "no message"
                if child.process.returncode == ExitCode.BAD_INPUT:
                    # Its sentence is about what the person has given: a ledger that isn't theirs, settings.
                    raise UserError("WORKER_REFUSED", tail.removeprefix("error: "))
                raise UnreachableError("WORKER_FAILED", f"The worker did not start: {tail} (log: {child.command.log})")
            await asyncio.sleep(0.1)

    async def _start_web(self) -> None:
        self._web_port = self.config.web_port or free_port()
        token = self.webhook_token
        if token is not None and not token.exists():
            token.touch(mode=0o600)
            token.write_text(secrets.token_hex(24) + "\n")
        self._web = Supervised("webhook", self._web_child, self.config.say)
        await self._timed("webhook", self._web.start())

    async def _web_child(self) -> Child:
        ours = {"BOTTRADER_WEBHOOK__HOST": "127.0.0.1", "BOTTRADER_WEBHOOK__PORT": str(self._web_port)}
        if self.webhook_token is not None:
            ours["BOTTRADER_WEBHOOK__SENDERS__LOCAL__TOKEN_FILE"] = str(self.webhook_token)
        return await self._listener("webhook", ("web",), self._web_port, ours)

    async def _start_api(self) -> None:
        self._api_port = self.config.api_port or free_port()
        try:
            await page_libraries.ensure_async(self.config.say)
        except UnreachableError as error:
            self.config.say(error.sentence)  # the API is served without the page
        self._api = Supervised("API", self._api_child, self.config.say)
        await self._timed("API", self._api.start())

    async def _api_child(self) -> Child:
        ours = {"BOTTRADER_API__HOST": "127.0.0.1", "BOTTRADER_API__PORT": str(self._api_port)}
        if self.ui_url is not None:
            ours["BOTTRADER_API__TEMPORAL_UI"] = self.ui_url
        self._page_link_file.unlink(missing_ok=True)  # of a process that was killed: its link logs nobody in
        arguments = ("api", "serve", "--no-fetch", "--link-file", str(self._page_link_file))
        return await self._listener("API", arguments, self._api_port, ours, self._page_link_file)

    async def _start_telegram(self) -> None:
        self._telegram = Supervised("Telegram bot", self._telegram_child, self.config.say)
        await self._timed("Telegram bot", self._telegram.start())

    async def _telegram_child(self) -> Child:
        """The bot. Nothing waits for it: Telegram may be away, and whatever it finds, trading goes on."""
        return await Child.start(
            Command(
                name="the Telegram bot",
                argv=python_module("cli.main", "telegram", "serve"),
                log=self._log("telegram"),
                env=python_environment(self.environment, self._shell()),
                grace_s=15.0,
            )
        )

    async def _listener(
        self, name: str, arguments: Sequence[str], port: int, ours: Mapping[str, str], writes: Path | None = None
    ) -> Child:
        """A command of ours that serves `port`, once it listens and has written the file `writes`, if it does."""
        child = await Child.start(
            Command(
                name=f"the {name}",
                argv=python_module("cli.main", *arguments),
                log=self._log(name.lower()),
                env=python_environment({**self.environment, **ours}, self._shell()),
                grace_s=15.0,
            )
        )
        deadline = time.monotonic() + _WORKER_READY_TIMEOUT_S
        try:
            while not (_listens(child.pid, port) and _written(writes)):
                if not child.running or time.monotonic() > deadline:
                    tail = child.log_tail(1) or "no message"
                    raise UnreachableError(
                        f"{name.upper()}_FAILED", f"The {name} did not start: {tail} (log: {child.command.log})"
                    )
                await asyncio.sleep(0.1)
        except BaseException:
            await child.stop()
            raise
        return child

    async def _keep_closed(self) -> None:
        settings = self._settings()
        await keep_closed(await connect(settings), settings.temporal.retention_days)

    def _settings(self) -> Settings:
        """The settings of our processes."""
        return load_settings(environ={**self._shell(), **self.environment})

    def _shell(self) -> dict[str, str]:
        """The part of the user's environment that our processes get."""
        if self.config.data is not None:
            return dict(os.environ)
        ours = ("BOTTRADER_", "TEMPORAL_", "DATABASE_URL")
        return {name: value for name, value in os.environ.items() if not name.startswith(ours)}

    async def _timed(self, what: str, starting: Awaitable[object]) -> None:
        began = time.monotonic()
        await starting
        self.config.say(f"{what}: ready after {time.monotonic() - began:.1f} s")

    def _log(self, name: str) -> Path:
        return self.data / "logs" / f"{name}.log"

    def _write_addresses(self) -> None:
        found: dict[str, Any] = {
            "pid": os.getpid(),
            "mode": self.config.mode,
            "data": str(self.data),
            "temporal": self.temporal_address,
            "temporal_ui": self.ui_url,
            "database": self.dsn,
            "paper": self.paper or None,
            "webhook": self.webhook_url,
            "api": self.api_url,
            "environment": {**self.environment, **self.config.for_commands},
        }
        path = self.data / STACK_FILE
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(found, indent=2))
        fresh.replace(path)
        if self._temporal is not None:
            local_temporal.write_profile(self.temporal_profile, self.temporal_address, self._wanted())

    # --- stopping -----------------------------------------------------------------------------------------------------

    async def _stop_worker(self) -> None:
        if self._worker is not None:
            await self._worker.stop()

    async def _stop_web(self) -> None:
        if self._web is not None:
            await self._web.stop()

    async def _stop_api(self) -> None:
        if self._api is not None:
            await self._api.stop()

    async def _stop_telegram(self) -> None:
        if self._telegram is not None:
            await self._telegram.stop()

    async def _stop_paper(self) -> None:
        await self._stop_server(self._paper)

    async def _stop_temporal(self) -> None:
        if self._ui is not None:
            await self._ui.stop()
        await self._stop_server(self._ui_files)
        await self._stop_server(self._temporal)

    async def _stop_postgres(self) -> None:
        await self._stop_server(self._postgres)

    async def _stop_server(self, server: _Server | None) -> None:
        if server is not None:
            if server in self._servers:
                await self._servers[server].release()
            await server.stop()

    def _ours(self) -> tuple[Supervised | None, ...]:
        """Our own processes beside the servers."""
        return self._worker, self._web, self._api, self._telegram

    def _require_worker(self) -> Supervised:
        if self._worker is None:
            raise RuntimeError("this stack has no worker")
        return self._worker

    def _require_temporal(self) -> DevServer | SecuredServer:
        if self._temporal is None:
            raise RuntimeError("this stack has no Temporal of its own")
        return self._temporal

    def _require_postgres(self) -> EmbeddedPostgres:
        if self._postgres is None:
            raise RuntimeError("this stack has no PostgreSQL of its own")
        return self._postgres


def _try_lock(lock: IO[str]) -> bool:
    """Lock the folder. A process that only checks holds the lock for an instant, so try again."""
    for _ in range(5):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


def _listens(pid: int, port: int) -> bool:
    """Whether this process itself accepts connections on `port`: another one would receive our tokens."""
    try:
        found = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return False
    return any(item.status == psutil.CONN_LISTEN and item.laddr.port == port for item in found)


def _written(file: Path | None) -> bool:
    return file is None or file.exists()


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure to report: the user's sentence rather than the cancellations it caused."""
    leaves: list[BaseException] = []
    for failure in failures.exceptions:
        leaves += [_first(failure)] if isinstance(failure, BaseExceptionGroup) else [failure]
    return next((leaf for leaf in leaves if isinstance(leaf, UserError)), leaves[0])
