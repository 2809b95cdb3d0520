"""The checks of `bottrader doctor`: each finding is ok, warn or fail, with advice.

Limits: a clock may differ by 1 s from the exchange's (warn) and by 30 s (fail: a login token is valid for 120 s and is
refused if it seems to come from the future); the quietest stream is healthy below 60 s.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import asyncpg
import requests
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeTaskQueueRequest

from activities.identity import read_account
from activities.leases import DATABASE_TROUBLE
from cli.cautions import known_costs
from cli.errors import as_user_error
from domain.visibility import SEARCH_ATTRIBUTES
from exchange.trust import authorities
from schema import migrate
from workers.errors import UnreachableError
from workers.readiness import HEARD_S, leases_held, leases_of, oldest_heard, unwatched
from workers.settings.near_costs import assumed_round_trip, near_costs
from workers.settings.secret_files import file_problems
from workers.temporal_connection import connect

if TYPE_CHECKING:
    from pathlib import Path

    from coinbase.rest import RESTClient

    from workers.settings import Settings

__all__ = ["HealthFinding", "HealthVerdict", "age_finding", "clock_finding", "examine"]

SKEW_WARN_S = 1.0
SKEW_FAIL_S = 30.0
_PATIENCE_S = 15.0


class HealthVerdict(Enum):
    """How bad a finding is; only FAIL gives exit code 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class HealthFinding:
    """One row: the check, its result, and what to do (empty if nothing)."""

    check: str
    verdict: HealthVerdict
    finding: str
    advice: str = ""


async def examine(settings: "Settings", instead: str = "") -> list[HealthFinding]:
    """Runs all checks in parallel; each takes at most fifteen seconds, and none raises.

    `instead`: the settings in force are invalid, and this says which ones are used instead.
    """
    checks: dict[str, Callable[[Settings], Awaitable[list[HealthFinding]]]] = {
        "database": _database,
        "temporal": _temporal,
        "exchange": _exchange,
        "stops": _stops,
    }
    rooms = await asyncio.gather(*(_guarded(name, check(settings)) for name, check in checks.items()))
    mode = "LIVE: real money" if settings.mode == "live" else f"mode {settings.mode}"
    said = [HealthFinding("settings", HealthVerdict.OK, f"{mode}, account {settings.account}")]
    if instead:
        said = [
            HealthFinding(
                "settings",
                HealthVerdict.FAIL,
                instead,
                "run `bottrader config check`, and correct the problems it shows",
            )
        ]
    if settings.dry_run:
        said.append(
            HealthFinding(
                "dry run", HealthVerdict.WARN, "entries are decided but not sent", "set dry_run = false to send them"
            )
        )
    said += [
        HealthFinding("files", HealthVerdict.FAIL, problem, "see the finding") for problem in file_problems(settings)
    ]
    return said + [finding for room in rooms for finding in room]


async def _guarded(name: str, checking: Awaitable[list[HealthFinding]]) -> list[HealthFinding]:
    try:
        return await asyncio.wait_for(checking, _PATIENCE_S)
    except TimeoutError:
        return [
            HealthFinding(
                name, HealthVerdict.FAIL, f"no answer within {_PATIENCE_S:g} s", f"check that the {name} is running"
            )
        ]
    except Exception as error:  # noqa: BLE001 - a check that fails is a finding, whatever the reason
        return [HealthFinding(name, HealthVerdict.FAIL, as_user_error(error).sentence, "see the finding")]


def clock_finding(check: str, skew_s: float) -> HealthFinding:
    """The verdict on a clock that is `skew_s` seconds ahead of ours (negative: behind)."""
    text = f"{abs(skew_s):.2f} s {'ahead of' if skew_s >= 0 else 'behind'} this machine"
    if abs(skew_s) >= SKEW_FAIL_S:
        return HealthFinding(
            check, HealthVerdict.FAIL, text, "synchronise this machine's clock (NTP): logins will be refused"
        )
    if abs(skew_s) >= SKEW_WARN_S:
        return HealthFinding(check, HealthVerdict.WARN, text, "synchronise this machine's clock (NTP)")
    return HealthFinding(check, HealthVerdict.OK, text)


async def _database(settings: "Settings") -> list[HealthFinding]:
    dsn = settings.database.dsn
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        before = time.time()
        database_now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        skew = database_now.timestamp() - (before + time.time()) / 2
        version = await connection.fetchval("SHOW server_version")
        revision, newest = await migrate.current_revision(dsn), migrate.head_revision()
        findings = [await _writes(connection, version)]
        if revision == newest:
            findings.append(HealthFinding("database schema", HealthVerdict.OK, f"version {revision}"))
        else:
            finding = f"version {revision or 'none'}, newest is {newest}"
            findings.append(HealthFinding("database schema", HealthVerdict.FAIL, finding, "run `bottrader db upgrade`"))
        findings.append(clock_finding("database clock", skew))
        if settings.mode == "live" and revision == newest:
            findings.append(await _armed(connection, settings.account))
        if revision is not None:
            findings.append(await _data_age(connection, settings))
            findings += await _watched(connection, settings)
    finally:
        await connection.close()
    return findings


async def _armed(connection: Any, account: str) -> HealthFinding:
    known = await read_account(connection, account)
    if known is None or not known.armed:
        finding = "LIVE, not armed: no entry is sent, exits are"
        return HealthFinding("armed", HealthVerdict.WARN, finding, "check it and arm it with `bottrader live arm`")
    return HealthFinding(
        "armed",
        HealthVerdict.OK,
        f"LIVE, armed by {known.armed_by or 'an unknown person'} at {known.armed_at:%Y-%m-%d}",
    )


async def _writes(connection: Any, version: str) -> HealthFinding:
    """A database that accepts no writes counts as unavailable: nothing can be decided or recorded."""
    try:
        await connection.fetchval("SELECT write_heartbeat()", timeout=5)
    except asyncpg.UndefinedFunctionError:
        return HealthFinding(
            "database", HealthVerdict.OK, f"PostgreSQL {version} answers"
        )  # the row of the schema says the rest
    except (asyncpg.PostgresError, TimeoutError) as error:
        reason = str(error) or "no answer within 5 s"
        advice = "free space on its disk, or find out why it is read-only; nothing is decided or recorded until then"
        return HealthFinding(
            "database", HealthVerdict.FAIL, f"PostgreSQL {version} answers, but accepts no writes: {reason}", advice
        )
    return HealthFinding("database", HealthVerdict.OK, f"PostgreSQL {version} answers and accepts writes")


async def _watched(connection: Any, settings: "Settings") -> list[HealthFinding]:
    """Whether a worker reads the user stream and watches prices now: it then holds a lease."""
    rows = await connection.fetch(
        "SELECT DISTINCT symbol FROM exit_plans WHERE account = $1 AND state <> 'DISARMED' ORDER BY 1", settings.account
    )
    symbols = [row["symbol"] for row in rows]
    alone = await unwatched(connection, settings.account, symbols, settings.watcher.shards)
    held = await leases_held(connection, leases_of(settings, "watchers"))
    advice = "run `bottrader worker` or `bottrader up`, and see `bottrader incidents`"
    if alone:
        text = f"prices of {', '.join(sorted(alone))} are not watched, and a position is open there"
        watchers = HealthFinding("watchers", HealthVerdict.FAIL, text, advice)
    elif not held:
        watchers = HealthFinding(
            "watchers", HealthVerdict.WARN, "some symbols are not watched; no position is open in them", advice
        )
    else:
        text = f"prices are watched; open: {', '.join(symbols)}" if symbols else "prices are watched"
        watchers = HealthFinding("watchers", HealthVerdict.OK, text)
    if await leases_held(connection, leases_of(settings, "streams")):
        return [watchers, HealthFinding("user stream", HealthVerdict.OK, "orders and fills are read")]
    verdict = HealthVerdict.FAIL if symbols else HealthVerdict.WARN
    return [
        watchers,
        HealthFinding("user stream", verdict, "the exchange's orders and fills are not being read", advice),
    ]


async def _data_age(connection: Any, settings: "Settings") -> HealthFinding:
    names = [name for role in ("streams", "watchers", "strategy") for name in leases_of(settings, role)]
    oldest = await oldest_heard(connection, names)
    if oldest is None:
        return HealthFinding(
            "data age", HealthVerdict.WARN, "no stream has received a message yet", "start a worker: `bottrader up`"
        )
    return age_finding(*oldest)


def age_finding(stream: str, age_s: float) -> HealthFinding:
    """The verdict on the quietest stream, whose last message is `age_s` seconds old."""
    text = f"each stream sent a message within {max(age_s, 0):.0f} s"
    if age_s < HEARD_S:
        return HealthFinding("data age", HealthVerdict.OK, text)
    return HealthFinding(
        "data age",
        HealthVerdict.FAIL,
        f"no message from {stream} for {age_s:.0f} s",
        "check that a worker with the role streams is running and reaches the exchange",
    )


async def _stops(settings: "Settings") -> list[HealthFinding]:
    """Whether the configured stops and targets are further away than the cost of a round trip."""
    trip = assumed_round_trip(settings)
    # That no database is set or answers is said by its own check.
    with contextlib.suppress(UnreachableError, *DATABASE_TROUBLE):
        connection = await asyncpg.connect(settings.database.dsn, timeout=5)
        try:
            trip = await known_costs(connection, settings)
        finally:
            await connection.close()
    advice = "move it further away: the costs alone reach it"
    found = [HealthFinding("stops", HealthVerdict.WARN, sentence, advice) for sentence in near_costs(settings, trip)]
    return found or [
        HealthFinding("stops", HealthVerdict.OK, f"further away than the cost of a round trip: {trip.sentence}")
    ]


async def _temporal(settings: "Settings") -> list[HealthFinding]:
    client = await connect(settings)
    await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    findings = [
        HealthFinding("temporal", HealthVerdict.OK, f"{settings.temporal.address}, namespace {client.namespace}")
    ]
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    missing = [name for name in SEARCH_ATTRIBUTES if name not in known.custom_attributes]
    if missing:
        commands = " ".join(f"--name {name} --type {SEARCH_ATTRIBUTES[name]}" for name in missing)
        findings.append(
            HealthFinding(
                "search attributes",
                HealthVerdict.FAIL,
                f"missing: {', '.join(missing)}",
                f"run `temporal operator search-attribute create {commands}`",
            )
        )
    else:
        findings.append(HealthFinding("search attributes", HealthVerdict.OK, f"all {len(SEARCH_ATTRIBUTES)} are known"))
    temporal = settings.temporal
    for queue in (temporal.orders_queue, temporal.streams_queue, temporal.watchers_queue, temporal.strategy_queue):
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            )
        )
        if answer.pollers:
            findings.append(HealthFinding(f"worker {queue}", HealthVerdict.OK, f"{len(answer.pollers)} listening"))
        else:
            findings.append(
                HealthFinding(
                    f"worker {queue}", HealthVerdict.WARN, "nobody listens", "run `bottrader worker` or `bottrader up`"
                )
            )
    return findings


async def _exchange(settings: "Settings") -> list[HealthFinding]:
    address = settings.rest_address
    key_file = settings.exchange.key_file
    if settings.exchange.ca_file is not None and not settings.exchange.ca_file.is_file():
        advice = "correct exchange.ca_file, or restart the paper exchange"
        return [HealthFinding("exchange", HealthVerdict.FAIL, "not checked: there is no file exchange.ca_file", advice)]
    try:
        findings = await asyncio.to_thread(_clock, settings, address)
    except requests.exceptions.SSLError:
        advice = "set exchange.ca_file to the certificate authority's file, or correct exchange.rest"
        return [HealthFinding("exchange", HealthVerdict.FAIL, "its certificate is not trusted", advice)]
    except (requests.RequestException, OSError) as error:
        kind = type(error).__name__
        advice = "check exchange.rest and the network; locally, start `bottrader up`"
        return [HealthFinding("exchange", HealthVerdict.FAIL, f"exchange.rest does not answer ({kind})", advice)]
    if key_file is None:
        advice = "download a key file from the exchange and set exchange.key_file"
        return [*findings, HealthFinding("API keys", HealthVerdict.WARN, "no key file is set", advice)]
    if file_problems(settings):
        return [*findings, HealthFinding("API keys", HealthVerdict.WARN, "not tried", "see the findings on files")]
    return [*findings, await asyncio.to_thread(_permissions, settings)]


def _clock(settings: "Settings", address: str) -> list[HealthFinding]:
    """Whether the exchange answers, and its time. Without keys, which are checked separately."""
    client = _client(settings, None)
    before = time.time()
    answer = client.get_unix_time()
    after = time.time()
    their_clock = int(answer["epoch_millis"]) / 1000
    return [
        HealthFinding("exchange", HealthVerdict.OK, f"{address} answers in {(after - before) * 1000:.0f} ms"),
        clock_finding("exchange clock", their_clock - (before + after) / 2),
    ]


def _client(settings: "Settings", key_file: "Path | None") -> "RESTClient":
    """The official client: the doctor deliberately bypasses our own adapter."""
    from coinbase.rest import RESTClient

    logging.getLogger("coinbase.RESTClient").setLevel(logging.CRITICAL)  # what it would log is in our table
    exchange = settings.exchange
    client = RESTClient(
        api_key=None,
        api_secret=None,
        key_file=None if key_file is None else str(key_file),
        base_url=settings.rest_address,
        timeout=int(exchange.timeout_s) or 1,
    )
    client.session.verify = authorities(exchange.ca_file)
    client.session.trust_env = False  # REQUESTS_CA_BUNDLE of the shell would win over the line above
    return client


def _permissions(settings: "Settings") -> HealthFinding:
    try:
        answer = _client(settings, settings.exchange.key_file).get_api_key_permissions()
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        advice = "check that the key exists, belongs to this exchange and this machine's clock is right"
        return HealthFinding("API keys", HealthVerdict.FAIL, f"refused with {status}", advice)
    except requests.RequestException as error:
        return HealthFinding(
            "API keys", HealthVerdict.FAIL, f"no answer ({type(error).__name__})", "see the check of the exchange"
        )
    except Exception:  # noqa: BLE001 - the client raises bare exceptions for keys that it can't parse
        advice = "download the key file from the exchange again"
        return HealthFinding("API keys", HealthVerdict.FAIL, "the key file can't be used", advice)
    granted = [name for name in ("can_view", "can_trade", "can_transfer") if answer[name]]
    text = ", ".join(name.removeprefix("can_") for name in granted) or "nothing"
    if not {"can_view", "can_trade"} <= set(granted):
        return HealthFinding(
            "API keys", HealthVerdict.FAIL, f"may {text}", "give the key the permissions view and trade"
        )
    if "can_transfer" in granted:
        return HealthFinding(
            "API keys", HealthVerdict.WARN, f"may {text}", "remove the permission to transfer: it is not needed"
        )
    return HealthFinding("API keys", HealthVerdict.OK, f"may {text}")
