"""A paper exchange in place of the real one: at its names, on its port, with a trusted certificate.

Only in separate network and mount namespaces (`unshare --net --mount`, as root), where the names can be redirected and
nothing reaches the real exchange: live settings accept no other address, and no test needs them to. As a program it
sets the namespace's names and trust, serves, and runs a command in it:

    unshare --net --mount python -m tests.support.venue_stand_in FOLDER COMMAND …
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trustme
from aiohttp import web

from exchange.paper.coinbase.rest import Rest
from exchange.paper.config import PaperConfig
from exchange.paper.server import PaperExchange
from exchange.trust import authorities

_HOSTS = {
    "api.coinbase.com": "127.0.0.2",
    "advanced-trade-ws.coinbase.com": "127.0.0.3",
    "advanced-trade-ws-user.coinbase.com": "127.0.0.4",
}


def take_the_names(folder: Path) -> ssl.SSLContext:
    """Redirect the venue's names to this machine, and trust its certificate in this namespace."""
    authority = trustme.CA()
    hosts = "".join(f"{address} {name}\n" for name, address in _HOSTS.items())
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    for ours, systems in (("hosts", "/etc/hosts"), ("authority.pem", str(Path(authorities()).resolve()))):
        subprocess.run(["mount", "--bind", str(folder / ours), systems], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*_HOSTS).configure_cert(context)
    return context


@asynccontextmanager
async def venue(folder: Path, tls: ssl.SSLContext) -> AsyncIterator[PaperExchange]:
    """The paper exchange, served at the venue's names while the block runs."""
    async with PaperExchange(PaperConfig(data_folder=folder / "venue")) as paper, AsyncExitStack() as serving:
        answers = Rest(paper.venue, paper.keyring)

        def stream(path: str) -> web.Application:
            async def serve(request: web.Request) -> web.StreamResponse:
                request.match_info["path"] = path
                return await paper.streams.serve(request)

            found = web.Application()
            found.router.add_get("/", serve)
            return found

        rest = web.Application()
        rest.router.add_route("*", "/{path:.*}", answers.handle)
        for application, address in zip((rest, stream("market"), stream("user")), _HOSTS.values(), strict=True):
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            serving.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, address, 443, ssl_context=tls).start()
        yield paper


async def main() -> int:
    """Serve while the command runs. Returns its exit code."""
    folder, command = Path(sys.argv[1]), sys.argv[2:]
    tls = take_the_names(folder)
    async with venue(folder, tls):
        child = await asyncio.create_subprocess_exec(*command)
        return await child.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
