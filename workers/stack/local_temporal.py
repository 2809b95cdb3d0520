"""Temporal of a local stack: the dev server, or with `mtls` the production server; and how other processes connect to
it."""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workers.errors import UnreachableError, UserError
from workers.stack import certificates, server_binaries, temporal_binary
from workers.stack.certificates import Certificates
from workers.stack.dev_server import DevServer, DevServerConfig
from workers.stack.secured_server import SecuredServer, SecuredServerConfig, UiFiles
from workers.stack.temporal_ui import UiUpstream

__all__ = ["require_listening"]


@dataclass(frozen=True)
class WantedTemporal:
    """The stack's settings for Temporal, and its folders; see `LocalStackConfig`."""

    data: Path
    logs: Path
    port: int
    ui: bool
    durable: bool
    namespace: str
    mtls: bool
    metrics_port: int
    say: Callable[[str], None]

    @property
    def certificates(self) -> Certificates:
        """Their location, whether they exist or not."""
        return Certificates(self.data / "tls")


async def require_listening(address: str, *, within: float = 10.0) -> None:
    """Check that an external Temporal is running. Raises UnreachableError if nothing listens at its address."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(within):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        raise UnreachableError(
            "NO_TEMPORAL",
            f"No Temporal answers at {address}, which is set as temporal.address (TEMPORAL_ADDRESS): start it, or "
            f"remove the setting, and `bottrader up` starts its own.",
        ) from None
    writer.close()


async def prepare(wanted: WantedTemporal) -> tuple[DevServer | SecuredServer, UiFiles | None]:
    """Temporal, and the server of its Web UI's files where that is a program of its own; neither is started.

    Fetches the programs if they are missing. Raises UnreachableError if that fails.
    """
    database, log = wanted.data / "temporal.db", wanted.logs / "temporal.log"
    if not wanted.mtls:
        program = await temporal_binary.ensure_async(wanted.say)
        return (
            DevServer(
                DevServerConfig(
                    program=program,
                    log=log,
                    database=database,
                    durable=wanted.durable,
                    port=wanted.port,
                    ui=wanted.ui,
                    namespace=wanted.namespace,
                    metrics_port=wanted.metrics_port,
                )
            ),
            None,
        )
    needed = ["temporal-server", *(["ui-server"] if wanted.ui else [])]
    await server_binaries.ensure_async(needed, wanted.say)
    try:
        made = certificates.ensure(wanted.certificates.folder)
    except OSError as error:
        raise UserError(
            "NO_CERTIFICATES",
            f"Temporal's certificates can't be stored in {wanted.certificates.folder}: {error.strerror}.",
        ) from None
    server = SecuredServer(
        SecuredServerConfig(
            program=server_binaries.cached("temporal-server"),
            certificates=made,
            folder=wanted.data / "temporal",
            database=database,
            log=log,
            durable=wanted.durable,
            port=wanted.port,
            metrics_port=wanted.metrics_port,
        )
    )
    if not wanted.ui:
        return server, None
    ui_log = wanted.logs / "temporal-ui.log"
    return server, UiFiles(server_binaries.cached("ui-server"), wanted.data / "temporal", ui_log)


def upstream(server: DevServer | SecuredServer, files: UiFiles | None) -> UiUpstream:
    """The upstream of the Web UI's proxy, once both are started."""
    if isinstance(server, DevServer):
        return server.upstream
    if files is None:
        raise RuntimeError("the Web UI's files are not served")
    return UiUpstream(files=files.address, api=server.api, tls=server.config.certificates.client_context())


def environment(wanted: WantedTemporal) -> dict[str, str]:
    """Environment variables for our processes to use the client certificate; none without `mtls`."""
    if not wanted.mtls:
        return {}
    found = wanted.certificates
    return {
        "BOTTRADER_TEMPORAL__TLS_CLIENT_CERT_FILE": str(found.client_cert_file),
        "BOTTRADER_TEMPORAL__TLS_CLIENT_KEY_FILE": str(found.client_key_file),
        "BOTTRADER_TEMPORAL__TLS_CA_FILE": str(found.ca_file),
    }


def write_profile(path: Path, address: str, wanted: WantedTemporal) -> None:
    """The file that TEMPORAL_CONFIG_FILE names, for the owner's `temporal` commands (0600)."""
    lines = ["[profile.default]", f"address = {json.dumps(address)}", f"namespace = {json.dumps(wanted.namespace)}"]
    if wanted.mtls:
        found = wanted.certificates
        lines += [
            "[profile.default.tls]",
            f"client_cert_path = {json.dumps(str(found.client_cert_file))}",
            f"client_key_path = {json.dumps(str(found.client_key_file))}",
            f"server_ca_cert_path = {json.dumps(str(found.ca_file))}",
        ]
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
