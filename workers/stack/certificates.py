"""Certificates for the local stack's own Temporal, so that only users who can read the owner's files can connect.

One authority signs the server's and the client's certificate and is then discarded: its key is never written, so no
further certificate can be made. All are renewed when less than a year is left, which is checked at the start of a
stack, so a stack can run for a year without a restart.
"""

import contextlib
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509

__all__ = ["SERVER_NAME", "Certificates"]

SERVER_NAME = "localhost"
"""The name in the server's certificate, beside the address 127.0.0.1."""

_VALID = timedelta(days=3 * 365)
_RENEWED_BEFORE = timedelta(days=365)


@dataclass(frozen=True)
class Certificates:
    """PEM files in a folder that only the owner can read."""

    folder: Path

    @property
    def ca_file(self) -> Path:
        """The authority's certificate, with which both sides verify each other."""
        return self.folder / "ca.pem"

    @property
    def server_cert_file(self) -> Path:
        """The server's certificate."""
        return self.folder / "server.pem"

    @property
    def server_key_file(self) -> Path:
        """The server's private key."""
        return self.folder / "server.key"

    @property
    def client_cert_file(self) -> Path:
        """The client certificate of our processes and the owner's commands."""
        return self.folder / "client.pem"

    @property
    def client_key_file(self) -> Path:
        """The private key that goes with it."""
        return self.folder / "client.key"

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        pairs = (self.server_cert_file, self.server_key_file, self.client_cert_file, self.client_key_file)
        return (*pairs, self.ca_file)

    def client_context(self) -> ssl.SSLContext:
        """For HTTP to the server with the client's certificate."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        context.load_cert_chain(str(self.client_cert_file), str(self.client_key_file))
        return context


def ensure(folder: Path, now: datetime | None = None) -> Certificates:
    """The certificates in `folder`, created if one is missing, unreadable or about to expire at `now` (None: the
    current time).

    Folder 0700, files 0600. Raises OSError.
    """
    found, now = Certificates(folder), now or datetime.now(UTC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not _good(found, now):
        _make(found, now)
    for path in found.files:
        path.chmod(0o600)
    return found


def _good(found: Certificates, now: datetime) -> bool:
    if not all(path.is_file() for path in found.files):
        return False
    with contextlib.suppress(ValueError):
        return all(
            x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc > now + _RENEWED_BEFORE
            for path in (found.server_cert_file, found.client_cert_file)
        )
    return False


def _make(found: Certificates, now: datetime) -> None:
    # The authority's file says that the others belong together: it goes first and comes last.
    found.ca_file.unlink(missing_ok=True)
    authority = trustme.CA(organization_name="bottrader")
    begins, ends = now - timedelta(days=1), now + _VALID
    server = authority.issue_cert(SERVER_NAME, "127.0.0.1", not_before=begins, not_after=ends)
    client = authority.issue_cert("owner@bottrader.invalid", not_before=begins, not_after=ends)
    for leaf, certificate, key in (
        (server, found.server_cert_file, found.server_key_file),
        (client, found.client_cert_file, found.client_key_file),
    ):
        _write(certificate, leaf.cert_chain_pems[0].bytes())
        _write(key, leaf.private_key_pem.bytes())
    _write(found.ca_file, authority.cert_pem.bytes())


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
