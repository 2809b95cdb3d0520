"""`bottrader api`: the process that serves the API and the page (docs/api.md)."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import UserError, note
from cli.web import listen_at, only_on_this_machine

if TYPE_CHECKING:
    import socket
    from contextlib import AsyncExitStack
    from pathlib import Path

    from fastapi import APIRouter
    from pydantic import SecretStr
    from starlette.types import ASGIApp

    from exchange.background import Background
    from web.api.callers import Program, User
    from web.api.door import Door, DoorTerms
    from web.api.login import About
    from web.api.stream import Streams
    from web.server import WebServer
    from workers.settings import Settings

__all__ = ["about_of", "api_app", "door_terms", "programs_of", "secret_from_file", "users_of"]

api_app = typer.Typer(help="The API and the page: serve them; make a user's password.", no_args_is_help=True)


@api_app.command("serve")
def serve(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on; else api.host.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65_535, help="Its port (0 = any free one); else api.port.")
    ] = None,
    link_file: Annotated[
        str | None,
        typer.Option("--link-file", help="Where the link that logs in once is kept (0600); else it is printed."),
    ] = None,
    no_fetch: Annotated[
        bool, typer.Option("--no-fetch", help="Serve no page rather than fetch its libraries, if they are missing.")
    ] = False,
) -> None:
    """Serve the API and the page until Ctrl-C.

    The page's libraries are fetched once, with npm; without them the API is served alone.
    On loopback a link logs the owner in, once; then there is a next one. Exit code 2 on an address that other machines
    reach without api.behind_proxy, api.origin and a user; 3 when a port can't be had.
    """
    from pathlib import Path

    import uvloop

    from cli.settings import current_sources
    from workers.settings import build
    from workers.settings.secret_files import require_files

    sources = current_sources()
    settings = build(sources)
    require_files(settings)
    users, programs = users_of(settings), programs_of(settings)
    asked = settings.api
    on_loopback = only_on_this_machine(host or asked.host, "api.host")
    if not on_loopback:
        _require_protection(settings)
    address = listen_at(host or asked.host, asked.port if port is None else port, "api")
    listening = address.getsockname()
    terms = door_terms(settings, int(listening[1]), users, programs, str(listening[0]))
    link = None if not on_loopback else Path(link_file) if link_file else True
    page = _page(terms, has_link=link is not None, fetch=not no_fetch)
    uvloop.run(_serve(settings, sources, terms, address, link, page))


@api_app.command("password")
def password() -> None:
    """Ask for a password and print its digest, for api.users.NAME.password_digest or its file."""
    from web.api.passwords import SHORTEST, digest_of

    given = typer.prompt(
        f"Password ({SHORTEST} characters or more)", hide_input=True, confirmation_prompt=True, err=True
    )
    try:
        typer.echo(digest_of(given))
    except ValueError as error:
        raise UserError("BAD_PASSWORD", f"It can't be used: {error}.") from None


def _require_protection(settings: "Settings") -> None:
    """Raises UserError(NO_TLS): beyond this machine passwords and sessions go over TLS only, and somebody logs in."""
    asked = settings.api
    if not (asked.behind_proxy and asked.origin and (asked.users or asked.programs)):
        raise UserError(
            "NO_TLS",
            "The API would be reached from other machines without TLS or without a log-in: listen on 127.0.0.1 "
            "(api.host, --host), or set api.behind_proxy = true with a reverse proxy in front, api.origin to the "
            "address that a browser shows, and a user in [api.users].",
        )


def _page(terms: "DoorTerms", *, has_link: bool, fetch: bool) -> "APIRouter":
    """The page, or, without its libraries, what says so."""
    from web.api.page import no_page_routes, page_routes, read_page
    from workers.errors import UnreachableError
    from workers.stack import page_libraries

    try:
        libraries = page_libraries.ensure(note) if fetch else page_libraries.find()
        if libraries is None:
            return no_page_routes("The page is not served, because its libraries could not be fetched at the start.")
        ways = {"password": bool(terms.users), "link": has_link}
        return page_routes(read_page(libraries), [way for way, there in ways.items() if there])
    except UnreachableError as error:
        note(error.sentence)
        return no_page_routes(error.sentence)
    except OSError as error:
        why = f"The page is not served, because a file of it can't be read ({error.filename}: {error.strerror})."
        note(why)
        return no_page_routes(why)


async def _serve(
    settings: "Settings",
    sources: Any,
    terms: "DoorTerms",
    address: "socket.socket",
    link_file: "Path | bool | None",
    page: "APIRouter",
) -> None:
    """Serve until SIGINT or SIGTERM. `link_file`: where the link is kept; True: it is printed; None: there is none."""
    import asyncio
    import contextlib
    import signal

    import structlog

    from activities.database import create_pool
    from cli.api_hands import hands_of
    from cli.api_sources import sources_of
    from cli.asking import user
    from web.api.actions import action_routes
    from web.api.app import create_api
    from web.api.reads import read_routes
    from web.api.sessions import OneTimeLink, Sessions
    from web.api.stream import Streams, stream_routes
    from web.server import WebServer
    from workers.background import FaultIncidents, watch_background
    from workers.ledger_identity import require_own
    from workers.log_lines import logs_without_secrets, one_line_for_servers_away
    from workers.private_files import write_private
    from workers.settings.live import LiveSettings

    logs_without_secrets()
    one_line_for_servers_away()
    background, closing = watch_background(), contextlib.AsyncExitStack()
    pool = await create_pool(
        settings.database.dsn,
        size=settings.database.pool_size,
        statement_seconds=float(settings.database.statement_timeout_s),
    )

    def changed(token: str) -> None:
        line = f"{terms.origins[0]}/login?token={token}"
        if link_file is True:
            note(f"Log in, once, at {line}")
        elif link_file:
            write_private(link_file, line + "\n")

    try:
        await require_own(pool, settings)
        background.tell.append(FaultIncidents(pool, settings.account, "the API"))
        link = None if link_file is None else OneTimeLink(user(""), changed)
        sessions = Sessions(float(settings.api.session_s), float(settings.api.idle_s))
        live = LiveSettings(settings, pool, sources)
        seen = sources_of(settings, pool, lambda: live.policy, lambda: live.current)
        streams = Streams(seen, sessions)
        routers = [
            read_routes(seen),
            action_routes(hands_of(settings, pool, lambda: live.policy)),
            stream_routes(streams),
        ]
        app = create_api(terms, about_of(settings), sessions=sessions, link=link, routers=routers, page=page)
        served = _with_metrics(app, settings, streams, background, closing)
        server = WebServer(served, arrival_s=10, max_connections=settings.api.max_connections, name="api")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _stop, streams, server)
        async with live.following():
            if link is not None:
                link.tell()
            note(f"The API is served at {terms.origins[0]}")
            structlog.get_logger().info("api_ready", origin=terms.origins[0])
            await server.serve(sockets=[address])
    finally:
        if link_file and link_file is not True:
            link_file.unlink(missing_ok=True)
        await closing.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await pool.close()


def _with_metrics(
    app: "Door", settings: "Settings", streams: "Streams", background: "Background", closing: "AsyncExitStack"
) -> "ASGIApp":
    """`app`, with its requests counted and told at telemetry.api_port if that is set; UserError(PORT_IN_USE)."""
    import asyncio

    told = settings.telemetry
    if not told.api_port:
        return app
    from web.metrics import ApiMetrics
    from workers.metrics_server import MetricsServer

    metrics = ApiMetrics(lambda: streams.watchers)
    endpoint = MetricsServer(metrics.registry, told.host, told.api_port, "telemetry.api_port")
    closing.push_async_callback(asyncio.to_thread, endpoint.close)
    background.tell.append(lambda fault: metrics.background(fault.kind))
    return metrics.measured(app)


def _stop(streams: "Streams", server: "WebServer") -> None:
    streams.stop()  # first: the server waits for every answer to end
    server.stop()


# --- the settings in the words of `web.api` ---------------------------------------------------------------------------


def door_terms(
    settings: "Settings",
    port: int,
    users: "tuple[User, ...]",
    programs: "tuple[Program, ...]",
    address: str = "127.0.0.1",
) -> "DoorTerms":
    """The page's addresses and who may log in. `address` is the IP address that the server listens on."""
    from domain.browser import own_hosts
    from web.api.door import DoorTerms

    own = tuple(f"http://{host}" for host in own_hosts(port, address))
    origins = (settings.api.origin,) if settings.api.origin else own
    return DoorTerms(origins, f"__Host-bottrader-{port}", users, programs, behind_proxy=settings.api.behind_proxy)


def about_of(settings: "Settings") -> "About":
    """What is looked at."""
    from web.api.login import About

    return About(
        account=settings.account,
        mode=settings.mode,
        dry_run=settings.dry_run,
        speed=f"{settings.speed:g}",
        temporal_ui=settings.api.temporal_ui,
        namespace=settings.temporal.namespace,
    )


def users_of(settings: "Settings") -> "tuple[User, ...]":
    """Who may log in with a password. Raises UserError(BAD_SECRET) for a file that can't be used."""
    from web.api.callers import Role, User
    from workers.settings.api import UserSettings

    def digest(name: str, given: UserSettings) -> str:
        key = f"api.users.{name}.password_digest"
        found = given.password_digest or secret_from_file(f"{key}_file", given.password_digest_file, UserSettings, key)
        return str(found.get_secret_value())

    return tuple(User(name, Role(given.role), digest(name, given)) for name, given in settings.api.users.items())


def programs_of(settings: "Settings") -> "tuple[Program, ...]":
    """Who may ask with a token. Raises UserError(BAD_SECRET): a file can't be used, or two share one token."""
    from web.api.callers import Program, Role
    from workers.settings.api import ProgramSettings

    def token(name: str, given: ProgramSettings) -> bytes:
        key = f"api.programs.{name}.token"
        found = given.token or secret_from_file(f"{key}_file", given.token_file, ProgramSettings, key)
        return str(found.get_secret_value()).encode()

    found = tuple(Program(name, Role(given.role), token(name, given)) for name, given in settings.api.programs.items())
    if len({program.token for program in found}) != len(found):
        raise UserError("BAD_SECRET", "Two programs in [api.programs] have the same token: nobody could tell who asks.")
    return found


def secret_from_file(key: str, file: "Path | None", kind: Any, field: str) -> "SecretStr":
    """What a file holds, by the rules of the setting that it stands for. Raises UserError(BAD_SECRET)."""
    from pydantic import SecretStr, ValidationError

    if file is None:
        raise UserError("BAD_SECRET", f"{key}: it is not given.")
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text in ASCII"
        raise UserError("BAD_SECRET", f"{key}: it can't be read ({why}).") from None
    name = field.rpartition(".")[2]
    try:
        found: SecretStr = getattr(kind.model_validate({name: text}), name)
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UserError("BAD_SECRET", f"{key}: it can't be used: {reason}.") from None
    return found
