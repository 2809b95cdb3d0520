"""`bottrader up`, `worker` and `doctor`: the system's own processes and health."""

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
        Path | None, typer.Option("--data", help="Folder of the ledger, histories and logs; else a folder of yours.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="Recorded prices for the paper exchange (CSV, .gz); else generated.")
    ] = None,
    live_prices: Annotated[
        bool, typer.Option("--live-prices", help="Paper money on the venue's real public prices; needs a network.")
    ] = False,
    live_url: Annotated[
        str | None, typer.Option("--live-url", help="Another public stream for --live-prices than the venue's.")
    ] = None,
    fills: Annotated[
        str | None,
        typer.Option(
            "--fills",
            help="How paper orders fill: pessimistic, base or optimistic; else base on live prices, optimistic on "
            "others. `up` says what that means.",
        ),
    ] = None,
    maker_fee: Annotated[
        str | None, typer.Option(help="Paper fee of who rests, as a fraction; else paper.maker_fee_pct (0.4 %).")
    ] = None,
    taker_fee: Annotated[
        str | None, typer.Option(help="Paper fee of who takes, as a fraction; else paper.taker_fee_pct (0.6 %).")
    ] = None,
    spread_bps: Annotated[
        str | None,
        typer.Option(help="Quoted paper spread in basis points, but on live prices; else paper.spread_bps (2)."),
    ] = None,
    balance: Annotated[
        list[str] | None,
        typer.Option(help="What a new paper account begins with, such as USD=100000, repeatable; else paper.balances."),
    ] = None,
    product: Annotated[
        list[str] | None,
        typer.Option(
            help="Product of the paper exchange, repeatable; with --prices NAME=SCALE scales the file's prices. "
            "Else paper.products, or all there are."
        ),
    ] = None,
    products_file: Annotated[
        Path | None,
        typer.Option(help="Paper products in the shape of GET /products, instead of the bundled ones."),
    ] = None,
    speed: Annotated[
        float | None, typer.Option("--speed", min=0.01, max=10_000, help="Market seconds in a wall second.")
    ] = None,
    temporal_port: Annotated[int, typer.Option(min=0, max=65_535, help=f"Port of Temporal {_PORT}.")] = 7233,
    ui_port: Annotated[int, typer.Option(min=0, max=65_535, help=f"Port of Temporal's Web UI {_PORT}.")] = 8233,
    postgres_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="PostgreSQL on this port, too; else on a Unix socket only.")
    ] = None,
    no_paper: Annotated[bool, typer.Option("--no-paper", help="Without the paper exchange.")] = False,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Without a worker: start your own.")] = False,
    web_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help=f"Port of the webhook {_PORT}; else webhook.port.")
    ] = None,
    mtls: Annotated[
        bool, typer.Option("--mtls", help="Temporal by certificate, its Web UI by log-in; live always has both.")
    ] = False,
    no_web: Annotated[bool, typer.Option("--no-web", help="Without the webhook that takes alerts.")] = False,
    api_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help=f"Port of the API and the page {_PORT}; else api.port.")
    ] = None,
    no_api: Annotated[bool, typer.Option("--no-api", help="Without the API and the page.")] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> int:
    """Run the whole system on this machine until Ctrl-C, then stop everything that was started, and only that."""
    import asyncio

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
    if settings.mode == "live" and speed not in {None, 1.0}:
        raise UserError("BAD_SPEED", "mode = live needs --speed 1: real markets can't be hurried.")
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
        note("The paper account of this folder is kept as it is: --balance is for a new one.")
    config = LocalStackConfig(
        data=data or data_dir(settings.mode),
        durable=True,
        temporal_port=temporal_port,
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
    """Which file the settings come from, or which one would count."""
    if file is not None:
        return f"Settings: {file.absolute()}"
    return f"Settings: no file; workers take up {usual.absolute()} when it appears."


def _for_commands(settings: "Settings") -> dict[str, str]:
    """What a command that is typed elsewhere has to know of a live system, and its file may not say (or only from the
    folder that it is started in).
    """
    if settings.mode != "live" or settings.exchange.key_file is None:
        return {}
    return {"BOTTRADER_MODE": "live", "BOTTRADER_EXCHANGE__KEY_FILE": str(settings.exchange.key_file.absolute())}


def _takes_alerts(settings: "Settings") -> bool:
    """Whether this system executes, and somebody may send it alerts: with paper money a sender is made."""
    return settings.entry_points != "sighook" and bool(settings.webhook.senders or settings.mode == "paper")


async def _run_until_told(config: "LocalStackConfig", account: str, *, as_json: bool) -> int:
    """Start, announce, wait for a signal or a failure, say what is left behind, stop."""
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
    background.tell.append(lambda fault: note(f"Something that runs in the background failed: {fault}."))
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
            note("Stopping before everything was started")
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
    note("Everything that was started has stopped.")
    if failed is not None:
        raise UnreachableError("STACK_FAILED", failed)
    return int(ExitCode.OK)


async def _say_what_is_live(stack: "LocalStack") -> None:
    """Whose money, how much, what limits it and what would spend it; and what decides without sending."""
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
    if stack.page_link is not None:
        rows.insert(0, ("page (logs in once)", stack.page_link))
    rows += [("data", str(stack.data)), ("logs", str(stack.data / "logs"))]
    print_table(["what", "where"], rows)
    if stack.config.temporal_address is None:
        if stack.config.mtls:
            note(_certificates(stack.temporal_profile))
        elif _others_log_in():
            note(
                "Other users of this machine can reach Temporal and trade with the paper money; --mtls shuts them out."
            )
    if stack.webhook_url is not None and stack.webhook_token is not None:
        note(_test_alert(stack.webhook_url, stack.webhook_token))
    note(f"Ready after {seconds:.1f} s. Ctrl-C stops it. {_how_found(stack.data, stack.config.mode)}")


def _test_alert(url: str, token: Path) -> str:
    """A command that sends an alert through every gate and stops there."""
    from shlex import quote

    return (
        "A test alert, which is decided on and not traded:\n"
        f'  curl -H "Authorization: Bearer $(cat {quote(str(token))})" {url} \\\n'
        """    -d '{"key": "test-1", "symbol": "BTCUSD", "action": "buy", "dry_run": true}'"""
    )


def _others_log_in() -> bool:
    """Whether somebody else than us and root has an account with a shell here."""
    import os
    import pwd

    def person(user: pwd.struct_passwd) -> bool:
        shell = Path(user.pw_shell).name
        return 1000 <= user.pw_uid < 60_000 and shell not in {"", "nologin", "false"}

    return any(person(user) and user.pw_uid != os.getuid() for user in pwd.getpwall())


def _certificates(profile: Path) -> str:
    """How the owner's own programs reach a Temporal that asks for a certificate."""
    from shlex import quote

    return (
        "The Web UI's address logs in once; the file temporal_ui_link beside it has the next one. "
        f"`temporal` commands show the certificate after\n  export TEMPORAL_CONFIG_FILE={quote(str(profile))}"
    )


def _how_found(data: Path, mode: str) -> str:
    """How other commands find the stack on this folder: they look in one, and `--data` may have named another."""
    from shlex import quote

    from workers.stack.folders import data_dir

    usual = data.resolve() == data_dir(mode).resolve()
    if usual and mode != "live":
        return "Other bottrader commands find this stack by themselves."
    export = f"  export BOTTRADER_DATA={quote(str(data.resolve()))}"
    if usual:
        return (
            "What stops, closes or looks finds this stack by itself (halt, flatten, trades, doctor …); every "
            f"command, from any folder, does after\n{export}"
        )
    return f"Other bottrader commands find this stack after\n{export}"


def _without_password(dsn: str) -> str:
    import re

    return re.sub(r"(?<=://)([^:/@]+):[^@]*@", r"\1:***@", dsn)


def worker(
    role: Annotated[
        list[str],
        typer.Option("--role", help="orders, streams, watchers, strategy or all; may be given more than once."),
    ] = ["all"],  # noqa: B006 - Typer reads the default and never changes it
) -> None:
    """Run a worker process until Ctrl-C; what is under way goes on in the next one."""
    import uvloop

    from cli.settings import current_sources
    from workers.polling import ROLES

    unknown = [name for name in role if name not in {*ROLES, "all"}]
    if unknown:
        raise UserError("BAD_ROLE", f"--role {unknown[0]}: a role is one of {', '.join(ROLES)} or all.")
    uvloop.run(_work(current_sources(), set(role)))  # an eighth less CPU than asyncio's own loop


async def _work(sources: "SettingSources", roles: set[str]) -> None:
    """Run the worker; SIGTERM and SIGINT cancel it, which lets it finish what it holds."""
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
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> int:
    """Look at everything the system needs and say what to do about what is wrong: exit code 0 or 1."""
    import asyncio

    from cli.doctor import HealthVerdict, examine
    from cli.settings_left import settings_at_hand

    settings, instead = settings_at_hand()
    with working("Looking at clocks, keys, database, Temporal and data"):
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
