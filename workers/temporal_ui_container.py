"""`python -m workers.temporal_ui_container`: the Web UI's gate where the UI's server and Temporal are other containers.

It listens on every address of its own container, of which the compose file publishes one port on the machine's
loopback: that port is the one that a browser names, and it is the gate's to check.
"""

import argparse
import asyncio
import hashlib
import signal
import sys
from pathlib import Path

from workers.errors import UserError
from workers.stack.temporal_ui import PUBLIC_PATH, UiGate, UiGateConfig, UiUpstream


def api_host(password: str) -> str:
    """The Host that Temporal's HTTP API answers there, from a secret that both containers have: the database's.

    The same as in deploy/temporal/start-server.sh.
    """
    return hashlib.sha256(f"temporal-ui {password}".encode()).hexdigest()[:32] + ".invalid"


async def serve(config: UiGateConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises UnreachableError(PORT_IN_USE)."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gate = UiGate(config)
    await gate.start()
    await stop.wait()
    await gate.stop()


def main() -> int:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.temporal_ui_container", description="Gate of Temporal's Web UI for containers."
    )
    parser.add_argument("--listen", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--public-port", type=int, required=True, help="port in the address that a browser shows")
    parser.add_argument("--files", required=True, help="address of the Web UI's own server")
    parser.add_argument("--api", required=True, help="address of Temporal's HTTP API")
    parser.add_argument("--password-file", type=Path, required=True, help="file with the database's password")
    parser.add_argument("--namespace", default="default", help="namespace to show first")
    parser.add_argument("--origin", default="", help="address that a browser shows behind a reverse proxy, if any")
    options = parser.parse_args()
    try:
        password = options.password_file.read_text(encoding="utf-8").rstrip("\n")
        upstream = UiUpstream(options.files, options.api, api_host(password), public_path=PUBLIC_PATH)
        config = UiGateConfig(
            upstream,
            options.port,
            options.namespace,
            host=options.listen,
            public_port=options.public_port,
            origin=options.origin or None,
        )
        asyncio.run(serve(config))
    except UserError as error:
        sys.stderr.write(f"error: {error.sentence}\n")
        return int(error.exit_code)
    except OSError as error:
        sys.stderr.write(f"error: the password file can't be read ({error.strerror}).\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
