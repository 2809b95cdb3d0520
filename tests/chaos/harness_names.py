"""A worker's process with a name server that can be down: while a file exists, no name resolves in this process.

`python -m tests.chaos.harness_names worker …` is `bottrader worker …`. Numeric addresses still work, so the run has the
workers call the exchange `localhost`.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.main import main

__all__ = ["NO_NAMES", "by_name"]

NO_NAMES = "CHAOS_NO_NAMES"
"""Environment variable with the path of the file."""


def by_name(environment: Mapping[str, str], no_names: Path) -> dict[str, str]:
    """A worker's environment in which the exchange has a name, and names don't resolve while `no_names` exists."""
    named = {
        name: value.replace("127.0.0.1", "localhost")
        for name, value in environment.items()
        if name.startswith("BOTTRADER_EXCHANGE__")
    }
    return {**environment, **named, NO_NAMES: str(no_names)}


def _let_names_fail(no_names: Path) -> None:
    found = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if no_names.exists() and not _is_address(host):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return found(host, *arguments, **options)

    socket.getaddrinfo = getaddrinfo


def _is_address(host: object) -> bool:
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    _let_names_fail(Path(os.environ[NO_NAMES]))
    main()
