"""One way to connect to Temporal, with the data converter that every worker and every command uses."""

import asyncio
from typing import TYPE_CHECKING

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfigProfile, ClientConnectConfig

from workers.errors import UnreachableError

if TYPE_CHECKING:
    from workers.settings import Settings, TemporalSettings


async def connect(settings: "Settings") -> Client:
    """A connected client. Raises UnreachableError(NO_TEMPORAL) when the server does not answer in time."""
    temporal = settings.temporal
    try:
        async with asyncio.timeout(float(temporal.connect_timeout_s)):
            return await Client.connect(**_options(temporal), data_converter=pydantic_data_converter)
    except (RuntimeError, TimeoutError):
        raise UnreachableError(
            "NO_TEMPORAL",
            f"Temporal does not answer at {temporal.address}: start the local stack with `bottrader up`, "
            "or check TEMPORAL_ADDRESS.",
        ) from None


def _options(temporal: "TemporalSettings") -> ClientConnectConfig:
    """The profile's certificates and login, if one is named; what the settings say wins."""
    options = ClientConnectConfig()
    if temporal.profile is not None:
        options = ClientConfigProfile.load(temporal.profile, disable_env=True).to_client_connect_config()
    options["target_host"] = temporal.address
    options["namespace"] = temporal.namespace
    if temporal.tls and "tls" not in options:
        options["tls"] = True
    if temporal.api_key is not None:
        options["api_key"] = temporal.api_key.get_secret_value()
    return options
