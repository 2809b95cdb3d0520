"""`bottrader web`: the process that receives alerts over HTTP (docs/webhook.md)."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import UnreachableError, UserError, note

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from pydantic import SecretStr

    from activities.policy import Policy
    from web.app import RequestLimits
    from web.decisions import AlertTerms
    from web.senders import Sender
    from workers.settings import Settings

__all__ = ["limits_of", "listen_at", "only_on_this_machine", "senders_of", "terms_of", "web"]

_SERVER = {"api": "API"}


def web(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on; default: webhook.host.")] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65_535, help="Its port (0 = any free one); default: webhook.port."),
    ] = None,
) -> None:
    """Receive alerts over HTTP until Ctrl-C (POST /webhook): each runs through every gate and is answered with the
    decision.

    Needs a sender in [webhook.senders]; a worker decides. Exit code 2 without senders, or on an address that other
    machines reach without webhook.behind_proxy; 3 if the port is not available.
    """
    import uvloop

    from cli.settings import current_sources
    from workers.settings import build
    from workers.settings.secret_files import require_files

    sources = current_sources()
    settings = build(sources)
    require_files(settings)
    senders = senders_of(settings)
    if not senders:
        raise UserError(
            "NO_SENDERS",
            "No senders are configured: add one, such as [webhook.senders.tradingview] with a token "
            "(`openssl rand -hex 24` makes one), in the settings; see docs/webhook.md.",
        )
    asked = settings.webhook
    if not asked.behind_proxy:
        _require_loopback(host or asked.host)
    address = listen_at(host or asked.host, asked.port if port is None else port, "webhook")
    uvloop.run(_serve(settings, sources, senders, address))


def only_on_this_machine(host: str, key: str) -> bool:
    """Whether a host leads to loopback only. Raises UserError(BAD_HOST) where it is no address; `key` names it."""
    import ipaddress
    import socket

    try:
        found = {str(item[4][0]) for item in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise UserError("BAD_HOST", f"{key} is not an address of this machine ({error.strerror}).") from None
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def _require_loopback(host: str) -> None:
    """Raises UserError(NO_TLS) for an address that other machines reach: tokens would be sent unencrypted."""
    if not only_on_this_machine(host, "webhook.host"):
        raise UserError(
            "NO_TLS",
            "Alerts from other machines would come without TLS: listen on 127.0.0.1 (webhook.host, --host), or set "
            "webhook.behind_proxy = true if a reverse proxy with TLS is in front.",
        )


def listen_at(host: str, port: int, what: str) -> "socket.socket":
    """A socket that listens for the webhook or the API. Raises UnreachableError(PORT_IN_USE)."""
    from cli.errors import reason_of
    from web.server import listen

    try:
        return listen(host, port)
    except OSError as error:
        raise UnreachableError(
            "PORT_IN_USE",
            f"The {_SERVER.get(what, what)} can't listen at its address ({reason_of(error)}): stop what listens there, "
            f"or set {what}.host and {what}.port (0 = any free port).",
        ) from None


async def _serve(settings: "Settings", sources: Any, senders: "tuple[Sender, ...]", address: "socket.socket") -> None:
    """Serve until SIGINT or SIGTERM; alerts in progress are still answered."""
    import asyncio
    import contextlib
    import signal

    import structlog

    from activities.database import create_pool
    from web.app import create_app
    from web.decisions import AlertDecisions
    from web.journal import AlertJournal
    from web.metrics import WebhookMetrics
    from web.server import WebServer
    from workers.background import FaultIncidents, watch_background
    from workers.ledger_identity import require_own
    from workers.log_lines import logs_without_secrets, one_line_for_servers_away
    from workers.readiness import executing
    from workers.settings.live import LiveSettings
    from workers.temporal_connection import connect

    logs_without_secrets()
    one_line_for_servers_away()
    background, metrics = watch_background(), WebhookMetrics()
    background.tell.append(lambda fault: metrics.background(fault.kind))
    log = structlog.get_logger()
    client = await connect(settings)
    pool = await create_pool(
        settings.database.dsn,
        size=settings.database.pool_size,
        statement_seconds=float(settings.database.statement_timeout_s),
    )
    try:
        await require_own(pool, settings)
        background.tell.append(FaultIncidents(pool, settings.account, "the webhook"))
        live = LiveSettings(settings, pool, sources)
        journal = AlertJournal(pool, settings.account)
        decisions = AlertDecisions(client, journal, lambda: terms_of(live.current, live.policy))

        async def alive() -> dict[str, bool]:
            needed, executed = await asyncio.gather(decisions.alive(), executing(client, pool, settings))
            return needed | executed

        app = create_app(
            decide=decisions.decide,
            alive=alive,
            metrics=metrics,
            senders=lambda: senders,
            limits=lambda: limits_of(live.current),
            tell=decisions.tell,
        )
        server = WebServer(
            app,
            arrival_s=2 * float(settings.webhook.body_timeout_s),
            max_connections=settings.webhook.max_connections,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.stop)
        async with live.following():
            host, port = address.getsockname()[:2]
            note(f"Alerts are received at http://{f'[{host}]' if ':' in host else host}:{port}/webhook")
            log.info("web_ready", host=host, port=port, senders=[sender.name for sender in senders])
            await server.serve(sockets=[address])
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await pool.close()


# --- the settings in the words of `web` ------------------------------------------------------------------------------


def senders_of(settings: "Settings") -> "tuple[Sender, ...]":
    """The configured senders. Raises UserError(BAD_SECRET) for an unusable file or a secret that two share."""
    from web.senders import Sender

    found = tuple(
        Sender(
            name,
            _secret(name, "secret", given.secret, given.secret_file),
            _secret(name, "token", given.token, given.token_file),
        )
        for name, given in settings.webhook.senders.items()
    )
    secrets = [value for sender in found for value in {sender.secret, sender.token} if value is not None]
    if len(set(secrets)) != len(secrets):
        raise UserError(
            "BAD_SECRET",
            "Two senders in [webhook.senders] have the same secret, so they can't be told apart: give each its own.",
        )
    return found


def _secret(name: str, kind: str, value: "SecretStr | None", file: "Path | None") -> bytes | None:
    from pydantic import SecretStr, ValidationError

    from workers.settings.webhook import SenderSettings

    if file is not None:
        key = f"webhook.senders.{name}.{kind}_file"
        try:
            text = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError("BAD_SECRET", f"{key}: it can't be read ({_why(error)}).") from None
        try:
            found: SenderSettings = SenderSettings.model_validate({kind: text})
        except ValidationError as error:
            reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise UserError("BAD_SECRET", f"{key}: it holds no secret: {reason}.") from None
        value = SecretStr(str(getattr(found, kind).get_secret_value()))
    return None if value is None else value.get_secret_value().encode()


def _why(error: "OSError | UnicodeDecodeError") -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not text in ASCII"


def limits_of(settings: "Settings") -> "RequestLimits":
    """The webhook's limits: sizes, rates and times."""
    from web.app import RequestLimits

    given = settings.webhook
    return RequestLimits(
        max_body_bytes=given.max_body_bytes,
        max_depth=given.max_depth,
        window_s=float(given.replay_window_s),
        body_s=float(given.body_timeout_s),
        per_minute=given.requests_per_minute,
        burst=given.burst,
        max_concurrent=given.max_concurrent,
        behind_proxy=given.behind_proxy,
    )


def terms_of(settings: "Settings", policy: "Policy") -> "AlertTerms":
    """The settings that decisions depend on; `policy` is built from them."""
    from web.decisions import AlertTerms
    from web.scopes import Scope
    from workers.settings.near_costs import assumed_round_trip

    symbols, given = settings.symbols, settings.webhook
    trigger = settings.triggers.get(given.trigger) or settings.triggers["manual"]
    return AlertTerms(
        account=settings.account,
        venue=settings.exchange.venue,
        orders_queue=settings.temporal.orders_queue,
        products=frozenset({*symbols.allow, *symbols.block, *symbols.hodl}),
        hodl=frozenset(symbols.hodl),
        source=given.source,
        trigger=given.trigger,
        triggers=policy.triggers,
        valid_s=float(trigger.valid_s),
        window_s=float(given.replay_window_s),
        decision_s=float(given.decision_timeout_s),
        balance_s=float(settings.risk.balance_stale_after_s),
        taker=assumed_round_trip(settings).taker,
        scopes={
            name: Scope(
                symbols=sender.symbols,
                triggers=sender.triggers,
                actions=sender.actions,
                max_order_quote=sender.max_order_quote,
                orders_per_day=sender.orders_per_day,
                pool=sender.pool,
            )
            for name, sender in given.senders.items()
        },
    )
