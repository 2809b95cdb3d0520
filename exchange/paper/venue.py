"""The venue: the engine with its clock, candles, recent trades, request journal and pending latencies.

It is the engine's listener: it collects changes for the streams, which `publish` sends after every event.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

from exchange.paper.book import RestingBook
from exchange.paper.candles import LEAST_SHARE, MINUTE, CandleStore, Pace
from exchange.paper.config import DEFAULT_VOLATILITY, Generated, PaperConfig
from exchange.paper.engine import Engine, Fees, Habits, Liquidity
from exchange.paper.faults import MARKET_FAULTS, FaultBook, FaultKind
from exchange.paper.numbers import nearest_on, plain, rfc3339
from exchange.paper.orders import Order, Side, Status, Trade
from exchange.paper.past import Past, PastAccount
from exchange.paper.products import PaperProduct
from exchange.paper.store import Kept, Store
from exchange.paper.wallet import WalletBalance

__all__ = ["PaperVenue"]

RECENT_TRADES = 1000
_PRICES_EVERY = 1.0


class PaperVenue:
    """One account's exchange. All times are wall time plus `skew`, candles excepted (market time)."""

    def __init__(
        self,
        config: PaperConfig,
        products: Mapping[str, PaperProduct],
        pace: Callable[[str, float], Pace] = lambda product_id, most: Pace(MINUTE, most),
        habits: Habits | None = None,
    ) -> None:
        self.config = config
        self.faults = FaultBook(config.seed, config.faults)
        self.skew = 0.0
        self.away = False
        """While true nothing is answered, as during an outage of the venue."""
        self.stepped = 0.0
        self.accept_latency = config.accept_latency
        self.cancel_latency = config.cancel_latency
        self.waiting_status = Status(config.waiting_status)
        self.journal: list[dict[str, object]] = []
        self.cancels: list[dict[str, object]] = []
        """Every requested cancel, and by whom: the venue gives the same reason for all."""
        self._changed_orders: dict[str, Order] = {}
        self._updates: list[Order] = []
        self.changed_books: set[str] = set()
        self.printed: set[str] = set()
        self.new_trades: dict[str, list[Trade]] = {}
        self.recent: dict[str, deque[Trade]] = {name: deque(maxlen=RECENT_TRADES) for name in products}
        self.publish: Callable[[], None] = lambda: None
        self.on_change: Callable[[Order], None] = lambda _: None
        """Called at each change of an order, at once: orders may change in it, but not trade."""
        self._started = time.time()
        self.created = datetime.fromtimestamp(self._started, UTC)
        self.engine = Engine(
            products,
            config.balances,
            self,
            self.now,
            fees=Fees(config.maker_fee, config.taker_fee),
            liquidity=Liquidity(config.depth, config.level_value, config.gap_bps),
            rule=config.rule,
            habits=habits or Habits(fractional=config.fractional),
            product_fees={name: Fees(*rates) for name, rates in config.product_fees.items()},
            first_trade_id=int(self._started * 1000),
            offered=self._offered,
        )
        self.candles = {
            name: CandleStore(
                product,
                self._started,
                seed=config.seed,
                volatility=_volatility(config, name),
                pace=partial(pace, name, float(config.tick_value)),
            )
            for name, product in products.items()
        }
        self.store: Store | None = None
        self.portfolio_id = str(uuid.uuid4())
        """The account's own id; a store keeps it over restarts."""
        self._past: Past | None = None
        self.unkept_rows: dict[str, dict[str, object]] = {}
        """What the protocol has to store, by id."""
        self._unkept: dict[str, Order] = {}
        self._kept_fills = 0
        self._kept_balances: dict[str, tuple[Decimal, ...]] = {}
        self._prices_due = 0.0
        self._timers: set[asyncio.TimerHandle] = set()

    # -- time --------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The venue's time."""
        moment = datetime.now(UTC)
        return moment + timedelta(seconds=self.skew) if self.skew else moment

    def now_ns(self) -> int:
        """The venue's time in unix nanoseconds."""
        return time.time_ns() + int(self.skew * 1e9)

    def market_time(self) -> float:
        """Market time in unix seconds: from the wall clock's at the start, at the configured speed, plus steps."""
        return self._started + (time.time() - self._started) * self.config.speed + self.stepped

    # -- the engine's events ---------------------------------------------------------------------------------

    def order_changed(self, order: Order) -> None:
        """Collect the change for the user stream."""
        self.on_change(order)
        if self.store is not None:
            self._unkept[order.order_id] = order
        if self._past is not None:
            self._past.changed(order)
        if self.config.merge_updates:
            self._changed_orders[order.order_id] = order
        else:
            self._updates.append(replace(order))

    @property
    def has_updates(self) -> bool:
        """Whether orders have changed since the last `take_updates`."""
        return bool(self._changed_orders or self._updates)

    def take_updates(self) -> list[Order]:
        """The orders that changed since the last call, once each or (`merge_updates` off) once for each change."""
        updates = [*self._changed_orders.values(), *self._updates]
        self._changed_orders.clear()
        self._updates.clear()
        return updates

    def lag(self) -> None:
        """Start to record the account's past, while a fault makes lists lag."""
        if self._past is None:
            self._past = Past(self.engine)

    def account(self, lag: float = 0.0) -> PastAccount:
        """The account as REST shows it, `lag` seconds late."""
        if lag and self._past is not None:
            return self._past.account(lag)
        return PastAccount(self.engine.orders, self.engine.fills, self.engine.wallet.all())

    def keep(self) -> None:
        """Write the changes to the store, if there is one, before they are sent to anybody."""
        if self._past is not None:
            if self.faults.holds(FaultKind.REST_LAGGING):
                self._past.note()
            else:
                self._past = None
        store = self.store
        if store is None:
            return
        balances = [row for row in self.engine.wallet.all() if self._kept_balances.get(row.currency) != _figures(row)]
        fills = self.engine.fills[self._kept_fills :]
        prices: dict[str, Decimal] = {}
        if time.monotonic() >= self._prices_due:
            self._prices_due = time.monotonic() + _PRICES_EVERY
            prices = {name: book.last for name, book in self.engine.books.items()}
        if self._unkept or balances or fills or prices or self.unkept_rows:
            store.save(self._unkept.values(), fills, balances, prices, self.unkept_rows)
        self._unkept.clear()
        self.unkept_rows.clear()
        self._kept_fills += len(fills)
        self._kept_balances.update({row.currency: _figures(row) for row in balances})

    def resume(self, kept: Kept) -> None:
        """Restore a stored account: orders that waited for acceptance or cancel get it now."""
        for product_id, flags in kept.products.items():
            if product_id in self.engine.books:
                self.engine.set_product(product_id, flags)
        self.engine.restore(kept.orders, kept.fills, kept.balances)
        self._kept_fills = len(kept.fills)
        self._kept_balances = {row.currency: _figures(row) for row in kept.balances}
        for order in list(self.engine.live.values()):
            if order.status in (Status.PENDING, Status.QUEUED):
                self.engine.activate(order.order_id)
            elif order.status is Status.CANCEL_QUEUED:
                self.engine.finish_cancel(order.order_id)

    def traded(self, trade: Trade) -> None:
        """Collect the trade for streams, REST and candles."""
        self.recent[trade.product_id].append(trade)
        self.candles[trade.product_id].add(self.market_time(), trade.price, trade.size)
        self.printed.add(trade.product_id)
        self.new_trades.setdefault(trade.product_id, []).append(trade)

    def book_changed(self, product_id: str) -> None:
        """Mark the product's quote as changed."""
        self.changed_books.add(self.lead(product_id))

    # -- orders ------------------------------------------------------------------------------------------------

    def place(
        self,
        client_order_id: str,
        product_id: str,
        side: Side,
        configuration: Mapping[str, object],
        attached: Mapping[str, object] | None = None,
        source: str = "RETAIL_ADVANCED",
        fee_currency: str = "",
        details: Mapping[str, object] | None = None,
    ) -> Order:
        """Accept an order, with the acceptance latency. Raises `Refusal`."""
        order = self.engine.place(
            client_order_id,
            product_id,
            side,
            configuration,
            attached=attached,
            source=source,
            activate=self.accept_latency == 0,
            waiting=self.waiting_status,
            fee_currency=fee_currency,
            details=details,
        )
        if self.accept_latency:
            self.later(self.accept_latency, lambda: self.engine.activate(order.order_id))
        return order

    def cancel(self, order_id: str, *, by: str = "API") -> str:
        """Cancel an order, with the cancel latency; "" or the venue's failure reason."""
        reason = self.engine.request_cancel(order_id)
        self.cancels.append({"time": rfc3339(self.now()), "order_id": order_id, "by": by, "refused": reason})
        if not reason:
            if self.cancel_latency == 0:
                self.engine.finish_cancel(order_id)
            elif self.cancel_latency is not None:
                self.later(self.cancel_latency, lambda: self.engine.finish_cancel(order_id))
        return reason

    def end(self, order_id: str, reason: str) -> str:
        """Cancel an order as the exchange itself, with a reason of its own; "" or why it can't."""
        failure = self.engine.request_cancel(order_id)
        if not failure:
            self.engine.finish_cancel(order_id, reason)
        return failure

    def _offered(self, product_id: str, side: Side) -> Decimal | None:
        """The share of an incoming MARKET order that can fill; None if the book decides."""
        fault = self.faults.strike(MARKET_FAULTS, f"{side} {product_id}", time.monotonic()) if self.faults else None
        return None if fault is None else Decimal(str(fault.share))

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Do `action` after so many seconds, and publish what it changed."""

        def run() -> None:
            self._timers.discard(handle)
            action()
            self.publish()

        handle = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(handle)

    def close(self) -> None:
        """Drop pending latencies."""
        for handle in self._timers:
            handle.cancel()
        self._timers.clear()

    # -- prices ------------------------------------------------------------------------------------------------

    def spread(self, product: PaperProduct, price: Decimal) -> Decimal:
        """The quoted spread of `product` at `price`."""
        return nearest_on(price * self.config.spread_bps / 10_000, product.price_increment)

    def tick(self, product_id: str, price: Decimal, size: Decimal | None, dice: random.Random) -> None:
        """A tick of a price source: a trade at `price`, its size bounded by the tick's value."""
        product = self.engine.books[product_id].product
        at = nearest_on(price, product.price_increment)
        most = self.config.tick_value / at
        wanted = min(size, most) if size is not None else most * Decimal(str(round(dice.uniform(LEAST_SHARE, 1.0), 4)))
        self.engine.tick(
            product_id,
            at,
            self.spread(product, at),
            nearest_on(max(wanted, product.base_increment), product.base_increment),
        )

    def show(
        self, product_id: str, bid: Decimal, ask: Decimal, sizes: tuple[Decimal, Decimal], last: Decimal | None
    ) -> None:
        """A quote of the real market; see the engine."""
        tick = self.engine.books[product_id].product.price_increment
        low, high = nearest_on(bid, tick), nearest_on(ask, tick)
        if low < high:
            self.engine.show(product_id, low, high, sizes, None if last is None else nearest_on(last, tick))

    def trade(self, product_id: str, price: Decimal, size: Decimal, aggressor: Side) -> None:
        """A trade of the real market, in whole increments."""
        product = self.engine.books[product_id].product
        self.engine.trade(
            product_id, nearest_on(price, product.price_increment), nearest_on(size, product.base_increment), aggressor
        )

    def lead(self, name: str) -> str:
        """The product whose trades, candles and book represent the market of `name` (a product's, or the market's)."""
        return self.engine.leads[name]

    def markets(self) -> list[tuple[str, RestingBook]]:
        """Each market once, by its leading product."""
        return [(name, book) for name, book in self.engine.books.items() if self.lead(name) == name]

    def wire_name(self, lead: str) -> str:
        """The name of a market on the market channels."""
        return self.engine.books[lead].product.market

    def ticker(self, product_id: str) -> dict[str, object]:
        """The product's ticker as the ticker channel shows it, but under the product's own name."""
        book = self.engine.books[product_id]
        day = self.candles[self.lead(product_id)].day(self.market_time())
        bid = next(iter(book.levels(Side.BUY, 1)), None)
        ask = next(iter(book.levels(Side.SELL, 1)), None)
        text = plain
        return {
            "type": "ticker",
            "product_id": product_id,
            "price": text(book.last),
            "volume_24_h": text(day.volume),
            "low_24_h": text(day.low),
            "high_24_h": text(day.high),
            "low_52_w": text(day.low),
            "high_52_w": text(day.high),
            "price_percent_chg_24_h": text(round(day.change, 14)),
            "best_bid": text(bid[0]) if bid else "",
            "best_ask": text(ask[0]) if ask else "",
            "best_bid_quantity": text(bid[1]) if bid else "",
            "best_ask_quantity": text(ask[1]) if ask else "",
        }

    def seed_trades(self, product_id: str, count: int = 100) -> None:
        """Trades from before the start, so that snapshots are full from the beginning."""
        book = self.engine.books[product_id]
        price, increment = book.last, book.product.base_increment
        dice = random.Random(f"{self.config.seed}/{product_id}/trades")
        first = self.engine.reserve_trade_ids(product_id, count)
        for number in range(count):
            size = nearest_on(Decimal(str(round(dice.uniform(10, 500), 2))) / price, increment)
            side = dice.choice((Side.BUY, Side.SELL))
            at = self.created - timedelta(seconds=count - number)
            self.recent[product_id].append(Trade(product_id, first + number, price, size, side, at))


def _figures(balance: WalletBalance) -> tuple[Decimal, ...]:
    return (balance.total, balance.hold, balance.deposited)


def _volatility(config: PaperConfig, product_id: str) -> float:
    volatility = config.source.volatility if isinstance(config.source, Generated) else DEFAULT_VOLATILITY
    return volatility if isinstance(volatility, float) else volatility.get(product_id, DEFAULT_VOLATILITY)
