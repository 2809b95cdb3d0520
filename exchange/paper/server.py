"""A running paper exchange: REST over TLS, both streams, and the control interface, each on a loopback port."""

from __future__ import annotations

import shutil
import ssl
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme
from aiohttp import web

from exchange.paper.candles import CandleStore, Pace
from exchange.paper.coinbase.auth import Keyring
from exchange.paper.coinbase.wire import CoinbaseWire
from exchange.paper.config import COINBASE, CRYPTOCOM, Generated, Live, PaperConfig, check
from exchange.paper.control import ControlServer
from exchange.paper.control_access import TOKEN_FILE, own_token
from exchange.paper.cryptocom.wire import CryptocomWire
from exchange.paper.errors import PaperError
from exchange.paper.faults import FaultKind
from exchange.paper.files import FileTicks
from exchange.paper.live import LiveTicks
from exchange.paper.market import GeneratedTicks, Market, TickSource
from exchange.paper.products import PaperProduct, choose, leads, with_twins
from exchange.paper.store import LIVE, MADE_UP, Store
from exchange.paper.venue import PaperVenue
from exchange.paper.wire import Wire

__all__ = ["PaperExchange"]

_KEEP_ALIVE = 3600.0  # an idle client's connection is never closed under its next order
_LOOPBACK = "127.0.0.1"
"""The control interface's address, independent of the exchange's."""
_CERTIFICATE_NAMES = ("127.0.0.1", "localhost")
_WIRES: Mapping[str, type[Wire]] = {COINBASE: CoinbaseWire, CRYPTOCOM: CryptocomWire}


class PaperExchange:
    """`async with PaperExchange(PaperConfig(...)) as paper:` starts it and has its addresses.

    It runs on the caller's event loop: call blocking clients (the official one is) from a thread. Raises `PaperError`
    from `start` (a price file that cannot be used, an unknown product, a port in use); then nothing is left running.
    """

    def __init__(self, config: PaperConfig | None = None) -> None:
        self.config = config or PaperConfig()
        self._temporary: Path | None = None
        self._runners: list[web.AppRunner] = []
        self._live: LiveTicks | None = None
        self.left_out: tuple[str, ...] = ()
        """Products without live prices."""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start serving. Raises `PaperError`."""
        config = self.config
        check(config)
        protocol = _WIRES[config.venue]
        products = with_twins(choose(protocol.products(config), config.products))
        folder = self._folder()
        store = Store(folder / "state.sqlite3") if config.data_folder is not None else None
        kept = store.load() if store is not None else None
        if store is not None and kept is not None:
            store.keep_to(LIVE if isinstance(config.source, Live) else MADE_UP, traded=bool(kept.orders))
        if kept is not None and isinstance(config.source, Generated):
            products = {name: replace(row, price=kept.prices.get(name, row.price)) for name, row in products.items()}
        source = _source(config, products)
        if isinstance(source, LiveTicks):
            self._live = source
            await source.connect()
            self.left_out = source.left_out
            live = source.first_prices()
            products = {
                name: replace(row, price=live[row.market]) for name, row in products.items() if row.market in live
            }
        tls = _certificate(folder)
        self.venue = PaperVenue(config, products, source.pace, protocol.habits(config))
        for product_id, bars in source.history().items():
            self._give_history(product_id, bars)
        self.market = Market(self.venue, source)
        self.wire = protocol(self.venue, folder)
        self.streams = self.wire.streams
        self.venue.publish = self._publish
        self.venue.store = store
        if store is not None:
            self.venue.portfolio_id = store.portfolio_id(self.venue.portfolio_id)
        if kept is not None and kept.balances:
            self.venue.resume(kept)
            self.wire.resume(kept.wire)
        self.venue.faults.start(time.monotonic())
        if self.venue.faults.holds(FaultKind.REST_LAGGING):
            self.venue.lag()
        rest = web.Application(client_max_size=1 << 20)
        rest.router.add_route("*", "/{path:.*}", self.wire.rest.handle)
        rest.on_response_prepare.append(self.wire.rest.date)
        stream = web.Application()
        stream.router.add_get(self.wire.stream_prefix + "{path:market|user}", self.streams.serve)
        control = ControlServer(self.venue, self.market, self.wire, token=own_token(folder))
        rest_port = await self._serve(rest, config.rest_port, "REST", tls)
        stream_port = await self._serve(stream, config.stream_port, "stream")
        control_port = await self._serve(control.application, config.control_port, "control", host=_LOOPBACK)
        self.rest_address = f"{config.host}:{rest_port}"
        streams = f"ws://{config.host}:{stream_port}{self.wire.stream_prefix}"
        self.stream_url, self.user_stream_url = f"{streams}market", f"{streams}user"
        self.control_url = f"http://{_LOOPBACK}:{control_port}"
        self.control_token_file = folder / TOKEN_FILE
        self.ca_file = folder / "ca.pem"
        self.key_file = self.wire.key_file
        self.streams.start()
        if self._live is None:
            self.market.start()
        else:
            self._live.start(self.market, self._feed_away)

    async def stop(self) -> None:
        """Stop serving; a temporary folder is deleted, a data folder kept."""
        if self._live is not None:
            await self._live.stop()
        if hasattr(self, "market"):
            await self.market.stop()
        if hasattr(self, "streams"):
            await self.streams.stop()
        if hasattr(self, "venue"):
            self.venue.close()
            if self.venue.store is not None:
                self.venue.keep()
                self.venue.store.close()
                self.venue.store = None
        for runner in self._runners:
            await runner.cleanup()
        self._runners.clear()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _feed_away(self, away: bool) -> None:
        """Without live prices this venue is unavailable, too: nothing is answered, and the streams end."""
        self.venue.away = away
        if away:
            self.streams.sockets("drop", "*", 0)

    @property
    def keyring(self) -> Keyring:
        """The keys of a Coinbase account; at other venues an account has the one in `key_file`."""
        if not isinstance(self.wire, CoinbaseWire):
            raise AttributeError(f"an account at {self.config.venue} has no keyring")  # noqa: TRY004 - as for any other name
        return self.wire.keyring

    def _publish(self) -> None:
        self.wire.settle()
        self.venue.keep()
        self.streams.publish()

    def addresses(self) -> dict[str, str]:
        """A client's connection data, as `--json` prints it."""
        return {
            "rest": self.rest_address,
            "stream": self.stream_url,
            "user_stream": self.user_stream_url,
            "ca_file": str(self.ca_file),
            "key_file": str(self.key_file),
            "control": self.control_url,
            "control_token_file": str(self.control_token_file),
        }

    def _give_history(self, product_id: str, bars: list) -> None:  # type: ignore[type-arg]
        start, product_id = self.venue.market_time(), self.venue.lead(product_id)
        for bar in bars:
            bar.start = int(start + bar.start) // 60 * 60
        product = self.venue.engine.books[product_id].product
        self.venue.candles[product_id] = CandleStore(
            product, start, seed=self.config.seed, volatility=0.0006, pace=lambda: Pace(60, 0), history=bars
        )

    def _folder(self) -> Path:
        if self.config.data_folder is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="paper-"))
            return self._temporary
        try:
            self.config.data_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PaperError(
                "DATA_FOLDER", f"Cannot use {self.config.data_folder} as data folder: {error.strerror}."
            ) from error
        return self.config.data_folder

    async def _serve(
        self,
        application: web.Application,
        port: int,
        name: str,
        tls: ssl.SSLContext | None = None,
        host: str | None = None,
    ) -> int:
        host = host or self.config.host
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0, keepalive_timeout=_KEEP_ALIVE)
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            raise PaperError(
                "PORT_IN_USE",
                f"Cannot listen on {host}:{port} for {name}: "
                "the port is in use or not allowed; choose another, or 0 for any.",
            ) from error
        return int(runner.addresses[0][1])


def _source(config: PaperConfig, products: dict[str, PaperProduct]) -> TickSource:
    if isinstance(config.source, Live):
        return LiveTicks({row.market: row for row in products.values()}, config.source)
    lead = leads(products)
    products = {name: row for name, row in products.items() if lead[name] == name}
    if isinstance(config.source, Generated):
        return GeneratedTicks(products, config.source, config.seed, config.speed)
    return FileTicks(products, config.source)


def _certificate(folder: Path) -> ssl.SSLContext:
    """A TLS context for loopback; its certificate authority and certificate are kept in `folder` and reused."""
    ca, chain = folder / "ca.pem", folder / "server.pem"
    if not (ca.exists() and chain.exists()):
        authority = trustme.CA()
        issued = authority.issue_cert(*_CERTIFICATE_NAMES)
        chain.touch(0o600)
        chain.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        ca.write_bytes(authority.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(chain)
    except (OSError, ssl.SSLError) as error:
        raise PaperError(
            "CERTIFICATE_BROKEN",
            f"{chain} is not a certificate with its key; delete it and ca.pem to have new ones made.",
        ) from error
    return context
