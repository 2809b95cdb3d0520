"""`bottrader up`, `worker` and `doctor`: the system's processes and their health."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import ExitCode, UnreachableError, UserError, note, print_json, print_table, working
from cli.prices import PaperOptions, paper_market

if TYPE_CHECKING:
    from datetime import datetime

    from workers.settings import Settings
    from workers.settings.sources import SettingSources
    from workers.stack.local_stack import LocalStack, LocalStackConfig

_JSON = typer.Option("--json", help="JSON for programs: one line when it is ready.")
_PORT = "(0 = any free one)"


def up(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder of the ledger, histories and logs; default: a folder in your home."),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option("--prices", help="Recorded prices for the paper exchange (CSV, .gz); default: generated prices."),
    ] = None,
    live_prices: Annotated[
        bool, typer.Option("--live-prices", help="Paper money on the venue's real public prices; needs a network.")
    ] = False,
    live_url: Annotated[
        str | None, typer.Option("--live-url", help="Public stream for --live-prices; default: the venue's own.")
    ] = None,
    fills: Annotated[
        str | None,
        typer.Option(
            "--fills",
            help="How paper orders fill: pessimistic, base or optimistic; default: base on live prices, else "
            "optimistic. `up` explains it.",
        ),
    ] = None,
    maker_fee: Annotated[
        str | None, typer.Option(help="Paper maker fee, as a fraction; default: paper.maker_fee_pct (0.4 %).")
    ] = None,
    taker_fee: Annotated[
        str | None, typer.Option(help="Paper taker fee, as a fraction; default: paper.taker_fee_pct (0.6 %).")
    ] = None,
    spread_bps: Annotated[
        str | None,
        typer.Option(help="Paper spread in basis points, not with live prices; default: paper.spread_bps (2)."),
    ] = None,
    balance: Annotated[
        list[str] | None,
        typer.Option(
            help="Starting balance of a new paper account, such as USD=100000; repeatable; default: paper.balances."
        ),
    ] = None,
    product: Annotated[
        list[str] | None,
        typer.Option(
            help="Product of the paper exchange; repeatable; with --prices, NAME=SCALE scales the file's prices. "
            "Default: paper.products, else all."
        ),
    ] = None,
    products_file: Annotated[
        Path | None,
        typer.Option(help="File of paper products in the format of GET /products, instead of the bundled ones."),
    ] = None,
    speed: Annotated[
        float | None, typer.Option("--speed", min=0.01, max=10_000, help="Market seconds per wall second.")
    ] = None,
    temporal_port: Annotated[int, typer.Option(min=0, max=65_535, help=f"Port of Temporal {_PORT}.")] = 7233,
    ui_port: Annotated[int, typer.Option(min=0, max=65_535, help=f"Port of Temporal's Web UI {_PORT}.")] = 8233,
    postgres_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Port for PostgreSQL; default: a Unix socket only.")
    ] = None,
    no_paper: Annotated[bool, typer.Option("--no-paper", help="Without the paper exchange.")] = False,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Without a worker: start your own.")] = False,
    web_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help=f"Port of the webhook {_PORT}; default: webhook.port.")
    ] = None,
    mtls: Annotated[
        bool,
        typer.Option(
            "--mtls", help="Require a certificate for Temporal and a log-in for its Web UI; always on in live mode."
        ),
    ] = False,
    no_web: Annotated[bool, typer.Option("--no-web", help="Without the webhook for alerts.")] = False,
    api_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help=f"Port of the API and the page {_PORT}; else api.port.")
    ] = None,
    no_api: Annotated[bool, typer.Option("--no-api", help="Without the API and the page.")] = False,
    no_telegram: Annotated[bool, typer.Option("--no-telegram", help="Without the Telegram bot.")] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> int:
    """Run the whole system on this machine until Ctrl-C, then stop everything it started, and nothing else."""
    import asyncio

    from cli.telegram import token_of
    from workers.ledger_identity import brought_by
    from workers.settings import load_settings
    from workers.settings.secret_files import require_files
    from workers.settings.sources import config_path, usual_path
    from workers.stack.folders import data_dir
    from workers.stack.local_stack import LocalStackConfig

    settings = load_settings()
    if settings.mode == "live":
        note("LIVE: real money")
    require_files(settings)
    if settings.telegram.wanted and not no_telegram:
        token_of(settings)  # what is wrong with it is said before anything starts
    if settings.mode == "live" and speed not in {None, 1.0}:
        raise UserError("BAD_SPEED", "mode = live needs --speed 1: real markets run at their own speed.")
    rate = settings.speed if speed is None else speed
    paper = not no_paper and settings.mode == "paper" and settings.exchange.rest is None
    note(_settings_file(config_path(), usual_path()))
    if settings.entry_points == "sighook":
        note(_ONLY_DECIDES)
    options = PaperOptions(
        prices=prices,
        live=live_prices,
        live_url=live_url,
        fills=fills,
        maker_fee=maker_fee,
        taker_fee=taker_fee,
        spread_bps=spread_bps,
        balances=balance or (),
        products=product or (),
        products_file=products_file,
    )
    market = paper_market(options, settings.paper, speed=rate, paper=paper)
    if paper:
        note(market.about)
    if balance and ((data or data_dir(settings.mode)) / "paper" / "state.sqlite3").exists():
        note("The paper account of this folder is unchanged: --balance only applies to a new one.")
    config = LocalStackConfig(
        data=data or data_dir(settings.mode),
        durable=True,
        temporal_port=temporal_port,
        temporal_metrics_port=settings.telemetry.temporal_port,
        ui_port=ui_port,
        mtls=mtls or settings.mode == "live",
        postgres_port=postgres_port,
        paper=paper,
        paper_arguments=market.arguments,
        worker=not no_worker,
        web=not no_web and _takes_alerts(settings),
        web_port=settings.webhook.port if web_port is None else web_port,
        web_token=not settings.webhook.senders,
        api=not no_api,
        api_port=settings.api.port if api_port is None else api_port,
        telegram=settings.telegram.wanted and not no_telegram,
        config_file=config_path(),
        config_folder=usual_path().absolute().parent,
        mode=settings.mode,
        names=brought_by(settings).names,
        database_url=None if settings.database.url is None else settings.database.dsn,
        # An address in the settings names a server that runs; the default one is what we start.
        temporal_address=settings.temporal.address if "address" in settings.temporal.model_fields_set else None,
        env={"BOTTRADER_SPEED": f"{rate:g}", "BOTTRADER_DATA": str((data or data_dir(settings.mode)).absolute())},
        for_commands=_for_commands(settings),
        say=lambda line: note(f"  {line}"),
    )
    return asyncio.run(_run_until_told(config, settings.account, as_json=as_json))


_ONLY_DECIDES = (
    'entry_points = "sighook": this system only decides. What it decides waits for a worker of the roles orders, '
    "streams and watchers on the same ledger and Temporal, and is dropped when it gets too old."
)


def _settings_file(file: Path | None, usual: Path) -> str:
    """The settings file in use, or the one that would be used."""
    if file is not None:
        return f"Settings: {file.absolute()}"
    return f"Settings: no file; workers load {usual.absolute()} when it appears."


def _for_commands(settings: "Settings") -> dict[str, str]:
    """What a command in another shell has to know about a live system and may not find in its settings file."""
    if settings.mode != "live" or settings.exchange.key_file is None:
        return {}
    return {"BOTTRADER_MODE": "live", "BOTTRADER_EXCHANGE__KEY_FILE": str(settings.exchange.key_file.absolute())}


def _takes_alerts(settings: "Settings") -> bool:
    """Whether this system executes orders and has senders for alerts; with paper money one is created."""
    return settings.entry_points != "sighook" and bool(settings.webhook.senders or settings.mode == "paper")


async def _run_until_told(config: "LocalStackConfig", account: str, *, as_json: bool) -> int:
    """Start, announce, wait for a signal or a failure, report what is left open, stop."""
    import asyncio
    import signal
    import time
    from datetime import UTC, datetime

    from cli.leaving import left_behind
    from workers.background import watch_background
    from workers.stack.local_stack import LocalStack

    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    background = watch_background()
    background.tell.append(lambda fault: note(f"A background process failed: {fault}."))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, told.set)
    stack = LocalStack(config)
    began, since = time.monotonic(), datetime.now(UTC)
    note(f"Starting in {config.data}")
    starting = asyncio.create_task(stack.start())
    telling = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({starting, telling}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            note("Stopping before everything has started")
            starting.cancel()
            await asyncio.wait({starting})
            return 130
        await starting
        await _say_what_is_live(stack)
        _announce(stack, time.monotonic() - began, as_json=as_json)
        checking = asyncio.create_task(_say_what_the_check_found(stack.dsn, account, since))
        failing = asyncio.create_task(stack.wait_failed())
        await asyncio.wait({telling, failing}, return_when=asyncio.FIRST_COMPLETED)
        failed = failing.result() if failing.done() else None
        for task in (failing, checking):
            task.cancel()
        note("Stopping" if failed is None else f"{failed} Stopping.")
        for line in await left_behind(stack.dsn, account, paper=config.paper) if config.worker else ():
            note(line)
    finally:
        telling.cancel()
        await stack.stop()
    note("Everything has stopped.")
    if failed is not None:
        raise UnreachableError("STACK_FAILED", failed)
    return int(ExitCode.OK)


async def _say_what_is_live(stack: "LocalStack") -> None:
    """Prints the account, its money and limits and what may spend it; and what decides without sending."""
    import os

    from cli.live import lines_at_start
    from workers.settings import read_sources

    for line in await lines_at_start(read_sources(environ={**os.environ, **stack.environment})):
        note(f"  {line}")


async def _say_what_the_check_found(dsn: str, account: str, since: "datetime") -> None:
    from cli.leaving import ledger_check

    if (line := await ledger_check(dsn, account, since)) is not None:
        note(line)


def _announce(stack: "LocalStack", seconds: float, *, as_json: bool) -> None:
    addresses: dict[str, object] = {
        "temporal_ui": stack.ui_link,
        "temporal_ui_views": stack.ui_views,
        "temporal": stack.temporal_address,
        "database": stack.dsn,
        "data": str(stack.data),
        "logs": str(stack.data / "logs"),
    }
    if as_json:
        ready = {
            "ready_s": round(seconds, 2),
            **addresses,
            "paper": stack.paper or None,
            "webhook": stack.webhook_url,
            "webhook_token": None if stack.webhook_token is None else str(stack.webhook_token),
            "api": stack.api_url,
            "page": stack.page_link,
            "metrics": stack.metrics_urls,
            "environment": stack.environment,
        }
        print_json(ready, indent=False)
        return
    rows = [
        ("Temporal Web UI", stack.ui_link or "the server's own"),
        *((f"  {name.lower()}", address) for name, address in stack.ui_views.items()),
        ("Temporal", stack.temporal_address),
        ("PostgreSQL", _without_password(stack.dsn)),
    ]
    rows += [(f"paper {name.replace('_', ' ')}", address) for name, address in stack.paper.items()]
    if stack.webhook_url is not None:
        rows.append(("webhook", stack.webhook_url))
    rows += [(f"metrics ({name})", address) for name, address in stack.metrics_urls.items()]
    if stack.page_link is not None:
        rows.insert(0, ("page (logs in once)", stack.page_link))
    rows += [("data", str(stack.data)), ("logs", str(stack.data / "logs"))]
    print_table(["what", "where"], rows)
    if stack.config.temporal_address is None:
        if stack.api_url is not None and not stack.config.mtls:
            note("The Web UI has the page's log-in: open the page's link first.")
        if stack.config.mtls:
            note(_certificates(stack.temporal_profile))
        elif _others_log_in():
            note("Other users of this machine can reach Temporal and trade with the paper money; --mtls prevents that.")
    if stack.webhook_url is not None and stack.webhook_token is not None:
        note(_test_alert(stack.webhook_url, stack.webhook_token))
    note(f"Ready after {seconds:.1f} s. Ctrl-C stops it. {_how_found(stack.data, stack.config.mode)}")


def _test_alert(url: str, token: Path) -> str:
    """A command that sends an alert through every gate without trading."""
    from shlex import quote

    return (
        "A test alert, which is decided but not traded:\n"
        f'  curl -H "Authorization: Bearer $(cat {quote(str(token))})" {url} \\\n'
        """    -d '{"key": "test-1", "symbol": "BTCUSD", "action": "buy", "dry_run": true}'"""
    )


def _others_log_in() -> bool:
    """Whether a user other than us and root has an account with a shell on this machine."""
    import os
    import pwd

    def person(user: pwd.struct_passwd) -> bool:
        shell = Path(user.pw_shell).name
        return 1000 <= user.pw_uid < 60_000 and shell not in {"", "nologin", "false"}

    return any(person(user) and user.pw_uid != os.getuid() for user in pwd.getpwall())


def _certificates(profile: Path) -> str:
    """How the owner's programs connect to a Temporal that requires a certificate."""
    from shlex import quote

    return (
        "The Web UI's link can be used once; the file temporal_ui_link in the data folder has the next one. "
        f"`temporal` commands use the certificate after\n  export TEMPORAL_CONFIG_FILE={quote(str(profile))}"
    )


def _how_found(data: Path, mode: str) -> str:
    """How other commands find this stack: they look in one folder, and `--data` may have named another."""
    from shlex import quote

    from workers.stack.folders import data_dir

    usual = data.resolve() == data_dir(mode).resolve()
    if usual and mode != "live":
        return "Other bottrader commands find this stack by themselves."
    export = f"  export BOTTRADER_DATA={quote(str(data.resolve()))}"
    if usual:
        return (
            "Commands that stop, close or show things find this stack by themselves (halt, flatten, trades, doctor "
            f"…); all other commands find it after\n{export}"
        )
    return f"Other bottrader commands find this stack after\n{export}"


def _without_password(dsn: str) -> str:
    import re

    return re.sub(r"(?<=://)([^:/@]+):[^@]*@", r"\1:***@", dsn)


def worker(
    role: Annotated[
        list[str],
        typer.Option("--role", help="orders, streams, watchers, strategy or all; repeatable."),
    ] = ["all"],  # noqa: B006 - Typer reads the default and never changes it
) -> None:
    """Run a worker process until Ctrl-C; unfinished work continues in the next one."""
    import uvloop

    from cli.settings import current_sources
    from workers.polling import ROLES

    unknown = [name for name in role if name not in {*ROLES, "all"}]
    if unknown:
        raise UserError("BAD_ROLE", f"--role {unknown[0]}: a role is one of {', '.join(ROLES)} or all.")
    uvloop.run(_work(current_sources(), set(role)))  # an eighth less CPU than asyncio's own loop


async def _work(sources: "SettingSources", roles: set[str]) -> None:
    """Run the worker; SIGTERM and SIGINT cancel it, and it finishes the tasks it holds."""
    import asyncio
    import contextlib
    import signal

    from workers.polling import roles_of
    from workers.runner import run_worker
    from workers.settings import build
    from workers.settings.secret_files import require_files

    settings = build(sources)
    require_files(settings)
    working_task = asyncio.ensure_future(run_worker(settings, roles_of(settings, roles), sources))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, working_task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await working_task


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> int:
    """Check everything the system needs and say how to mend each problem. Exit code 0 or 1."""
    import asyncio

    from cli.doctor import HealthVerdict, examine
    from cli.settings_left import settings_at_hand

    settings, instead = settings_at_hand()
    with working("Checking clocks, keys, database, Temporal and data"):
        findings = asyncio.run(examine(settings, instead))
    failed = any(finding.verdict is HealthVerdict.FAIL for finding in findings)
    if as_json:
        print_json({"ok": not failed, "checks": findings})
    else:
        print_table(
            ["check", "", "finding", "what to do"],
            [(finding.check, finding.verdict.value, finding.finding, finding.advice) for finding in findings],
            narrow_without=("what to do",),
        )
    return int(ExitCode.NO if failed else ExitCode.OK)
