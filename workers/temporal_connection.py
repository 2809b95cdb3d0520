"""One way to connect to Temporal, with the data converter that every worker and every command uses."""

import asyncio
from typing import TYPE_CHECKING

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from workers.errors import UnreachableError

if TYPE_CHECKING:
    from workers.settings import Settings


async def connect(settings: "Settings") -> Client:
    """A connected client. Raises UnreachableError(NO_TEMPORAL) when the server does not answer in time."""
    temporal = settings.temporal
    try:
        return await asyncio.wait_for(
            Client.connect(
                temporal.address,
                namespace=temporal.namespace,
                tls=temporal.tls,
                api_key=None if temporal.api_key is None else temporal.api_key.get_secret_value(),
                data_converter=pydantic_data_converter,
            ),
            float(temporal.connect_timeout_s),
        )
    except (RuntimeError, TimeoutError):
        raise UnreachableError(
            "NO_TEMPORAL",
            f"Temporal does not answer at {temporal.address}: start the local stack with `bottrader up`, "
            "or check TEMPORAL_ADDRESS.",
        ) from None
