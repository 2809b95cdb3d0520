"""The certificate authorities for connections to an exchange: a named file, else the system's own.

Nothing is taken from the environment: REQUESTS_CA_BUNDLE, SSL_CERT_FILE, SSLKEYLOGFILE and the like could put somebody
between us and the exchange.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi

__all__ = ["authorities", "client_context"]


def authorities(ca_file: str | Path | None = None) -> str:
    """The file or folder of authorities: `ca_file`, else the system's; certifi's if the system has none."""
    if ca_file is not None:
        return str(ca_file)
    system = ssl.get_default_verify_paths()
    if Path(system.openssl_cafile).is_file():
        return system.openssl_cafile
    if any(Path(system.openssl_capath).glob("*.0")):
        return system.openssl_capath
    return certifi.where()


def client_context(ca_file: str | Path | None = None) -> ssl.SSLContext:
    """A context that verifies names and certificates by `authorities`. Raises OSError for a file that can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusted = Path(authorities(ca_file))
    if trusted.is_dir():
        context.load_verify_locations(capath=trusted)
    else:
        context.load_verify_locations(cafile=trusted)
    return context
