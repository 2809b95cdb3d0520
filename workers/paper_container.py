"""`python -m workers.paper_container`: the paper exchange, reachable from other containers.

`bottrader paper` serves loopback only. In a network of containers it listens on all its addresses, under the name that
the others use, which its certificate must contain. The certificate is created once and kept in the data folder with the
keys.
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import trustme

from exchange.background import Background
from exchange.paper import PaperConfig, PaperError, PaperExchange
from workers.private_files import make_private, tighten


def make_certificate(folder: Path, names: list[str]) -> None:
    """Create `ca.pem` and `server.pem` for `names` (and loopback) in `folder` unless they exist."""
    authority_file, chain_file = folder / "ca.pem", folder / "server.pem"
    if authority_file.exists() and chain_file.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost", *names)
    chain_file.touch(0o600)
    chain_file.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    authority_file.write_bytes(authority.cert_pem.bytes())


async def serve(config: PaperConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises PaperError when it can't start."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    Background().install(asyncio.get_running_loop())
    async with PaperExchange(config):
        await stop.wait()


def main() -> int:
    """Read the options, create the certificate, serve."""
    make_private()
    parser = argparse.ArgumentParser(
        prog="python -m workers.paper_container", description="Paper exchange for containers."
    )
    parser.add_argument("--listen", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--name", action="append", default=[], help="name that clients use; repeatable")
    parser.add_argument("--data-folder", type=Path, required=True, help="folder of keys and certificate")
    parser.add_argument("--rest-port", type=int, required=True)
    parser.add_argument("--stream-port", type=int, required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--speed", type=float, default=1.0, help="market seconds per wall second")
    options = parser.parse_args()
    try:
        tighten(options.data_folder, ["*"])
        make_certificate(options.data_folder, options.name)
        config = PaperConfig(
            host=options.listen,
            rest_port=options.rest_port,
            stream_port=options.stream_port,
            control_port=options.control_port,
            data_folder=options.data_folder,
            speed=options.speed,
        )
        asyncio.run(serve(config))
    except PaperError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {options.data_folder} can't be used ({error.strerror}).\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
