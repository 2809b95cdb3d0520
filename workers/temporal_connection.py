"""One way to connect to Temporal, with the data converter that every worker and every command uses."""

import asyncio
from typing import TYPE_CHECKING

from temporalio.client import Client, TLSConfig
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfigProfile, ClientConnectConfig

from workers.errors import UnreachableError, UserError

if TYPE_CHECKING:
    from temporalio.client import Interceptor
    from temporalio.runtime import Runtime

    from workers.settings import Settings, TemporalSettings

__all__ = ["connect"]


async def connect(settings: "Settings", runtime: "Runtime | None" = None) -> Client:
    """A connected client, which traces what it asks for if `telemetry.traces` is set; `runtime` counts its metrics.

    Raises UnreachableError(NO_TEMPORAL) when the server does not answer in time, and UserError for certificates that
    can't be read, and in live for a server elsewhere without TLS.
    """
    temporal = settings.temporal
    options = _options(temporal)
    if settings.mode == "live" and not options.get("tls"):
        _refuse_elsewhere(settings)
    try:
        async with asyncio.timeout(float(temporal.connect_timeout_s)):
            return await Client.connect(
                **options,
                data_converter=pydantic_data_converter,
                interceptors=_interceptors(settings.telemetry.traces),
                runtime=runtime,
            )
    except (RuntimeError, TimeoutError):
        raise UnreachableError(
            "NO_TEMPORAL",
            "Temporal does not answer: start the local stack with `bottrader up`, "
            "or check temporal.address (TEMPORAL_ADDRESS).",
        ) from None


def _interceptors(target: str | None) -> "list[Interceptor]":
    if target is None:
        return []
    from workers.tracing import tracing_to  # noqa: PLC0415 - slow to load

    return [tracing_to(target)]


def _refuse_elsewhere(settings: "Settings") -> None:
    """The settings' own check can't know what a profile says of TLS."""
    from workers.settings.types import on_this_machine  # noqa: PLC0415 - settings load when they are needed

    host = settings.temporal.address.rpartition(":")[0]
    if not on_this_machine(host) and host not in settings.private_hosts:
        raise UserError(
            "OPEN_TEMPORAL",
            "temporal.address is a server elsewhere, and neither temporal.tls nor the profile asks for TLS: live "
            "needs TLS, this machine, or one of private_hosts.",
        )


def _options(temporal: "TemporalSettings") -> ClientConnectConfig:
    """The profile's certificates and login, if one is named; what the settings say wins."""
    options = ClientConnectConfig()
    if temporal.profile is not None:
        options = ClientConfigProfile.load(temporal.profile, disable_env=True).to_client_connect_config()
    options["target_host"] = temporal.address
    options["namespace"] = temporal.namespace
    certificates = _certificates(temporal)
    if certificates is not None:
        options["tls"] = certificates
    elif temporal.tls and not options.get("tls"):
        options["tls"] = True
    if temporal.api_key is not None:
        options["api_key"] = temporal.api_key.get_secret_value()
    return options


def _certificates(temporal: "TemporalSettings") -> TLSConfig | None:
    """What the settings say about certificates; None when they say nothing. Raises UserError(NO_FILE)."""
    named = {
        "tls_ca_file": temporal.tls_ca_file,
        "tls_client_cert_file": temporal.tls_client_cert_file,
        "tls_client_key_file": temporal.tls_client_key_file,
    }
    if temporal.tls_server_name is None and not any(named.values()):
        return None
    read: dict[str, bytes | None] = {}
    for name, path in named.items():
        try:
            read[name] = None if path is None else path.read_bytes()
        except OSError as error:
            raise UserError("NO_FILE", f"temporal.{name}: the file can't be read ({error.strerror}).") from None
    return TLSConfig(
        server_root_ca_cert=read["tls_ca_file"],
        domain=temporal.tls_server_name,
        client_cert=read["tls_client_cert_file"],
        client_private_key=read["tls_client_key_file"],
    )
