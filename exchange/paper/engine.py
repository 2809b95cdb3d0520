"""The matching engine: accounts, holds, orders, fills and fees of one account on every product. Pure and synchronous.

Rules
- Money is exact: value = price x size, commission = value x rate, never rounded, so cumulative figures add up.
- A buy pays its commission in quote on top (or in base, off what it buys: `Habits`); a sell's comes off its proceeds.
  A market buy by `quote_size` spends at most that much, commission included (`size_inclusive_of_fees`), with
  `fractional` all of it but a dust of 1e-16.
- A resting order fills at its own price as maker when the market crosses it or trades at its price, by price, then
  time, within the size traded.
- The account never trades with itself: a resting order that its own taker would hit is cancelled first.
- A stop triggers on the last trade price; one that this price is already beyond is refused. A triggered bracket
  becomes a limit 5 % beyond its stop trigger.
- A repeated client order id changes nothing and returns the first order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from exchange.paper.book import RestingBook
from exchange.paper.checks import check_edited, check_prices, check_size, check_stop, check_tradable
from exchange.paper.errors import ApiError, PaperError, Refusal
from exchange.paper.matching import Matcher
from exchange.paper.numbers import ONE, ZERO, floor_to, plain
from exchange.paper.orders import Order, OrderTerms, PaperFill, PaperOrderKind, Side, Status, TimeInForce, read_terms
from exchange.paper.products import PaperProduct
from exchange.paper.rules import Fees, Habits, Liquidity, Listener
from exchange.paper.wallet import WalletBalance

__all__ = ["Engine", "Estimate", "Fees", "Habits", "Liquidity", "Listener"]

_UNBOUNDED = Decimal("Infinity")


def _edited(configuration: Mapping[str, object], price: Decimal, size: Decimal) -> dict[str, object]:
    """The configuration with its new terms, as the venue shows it from then on."""
    ((name, values),) = configuration.items()
    kept = {key: value for key, value in values.items() if key != "quote_size"} if isinstance(values, Mapping) else {}
    return {name: {**kept, "limit_price": plain(price), "base_size": plain(size)}}


@dataclass(frozen=True, slots=True)
class Estimate:
    """An order's expected result: base size, quote value, commission in quote, average price."""

    base_size: Decimal
    value: Decimal
    commission: Decimal
    average_price: Decimal


class Engine(Matcher):
    """See the module's rules. `clock` gives the venue's time (zoned UTC)."""

    # -- orders ------------------------------------------------------------------------------------------------

    def place(
        self,
        client_order_id: str,
        product_id: str,
        side: Side,
        configuration: Mapping[str, object],
        *,
        attached: Mapping[str, object] | None = None,
        source: str = "RETAIL_ADVANCED",
        activate: bool = True,
        waiting: Status = Status.PENDING,
        fee_currency: str = "",
        details: Mapping[str, object] | None = None,
    ) -> Order:
        """Accept an order and, with `activate`, bring it to the market at once (else it waits in state `waiting`).

        `fee_currency` is that of its commissions, "" for the venue's default; `details` are kept with the order.

        Raises `Refusal` if the venue would refuse it; then nothing has changed. The caller first looks up repeated
        client order ids in `by_client_id`.
        """
        book = self._book(product_id)
        terms = read_terms(configuration)
        self._check(book, side, terms)
        child_terms = self._check_attached(book, side, attached) if attached else None
        order = self._new(client_order_id, book, side, terms, configuration, source)
        if fee_currency:
            order.fee_currency = "" if fee_currency == book.product.quote else fee_currency
        order.details = details or {}
        order.status = waiting
        self._reserve(order, book)
        self._register(order)
        if child_terms is not None:
            child = self._new("", book, side.opposite, child_terms, attached or {}, source)
            child.parent_id, order.child_id = order.order_id, child.order_id
            self._register(child)
            self._changed(child)
        if activate:
            self._to_market(order, book)
        else:
            self._changed(order)
        return order

    def preview(self, product_id: str, side: Side, configuration: Mapping[str, object]) -> Estimate:
        """An order's expected result now, without placing it. Raises `Refusal` as `place` does."""
        book = self._book(product_id)
        terms = read_terms(configuration)
        self._check(book, side, terms)
        order = self._new("", book, side, terms, configuration, "")
        if (self._cost(order, book) if terms.kind is PaperOrderKind.MARKET else self._needed(order)) > self.wallet[
            self._paying(order)
        ].available:
            raise Refusal("INSUFFICIENT_FUND", "Insufficient balance in source account", "PREVIEW_INSUFFICIENT_FUND")
        return self._estimate(order, book)

    def _estimate(self, order: Order, book: RestingBook) -> Estimate:
        rate = self._reserve_rate(order)
        if order.limit_price is not None:
            value = order.remaining * order.limit_price
            return Estimate(order.remaining, value, value * rate, order.limit_price)
        size = value = ZERO
        budget = order.terms.quote_size
        if budget is not None and order.side is Side.BUY:
            budget = budget / (ONE + rate)
        for price, available in book.synthetic(order.side.opposite):
            paid = self._price_paid(order.side, price, None, book)
            step = available
            if order.base_size is not None:
                step = min(step, order.base_size - size)
            elif budget is not None:
                step = min(step, floor_to((budget - value) / paid, book.product.base_increment))
            if step <= 0:
                break
            size, value = size + step, value + step * paid
        return Estimate(size, value, value * rate, value / size if size else ZERO)

    def activate(self, order_id: str) -> None:
        """Bring a waiting order to the market; one that can no longer be placed becomes FAILED."""
        order = self.orders[order_id]
        if order.status not in (Status.PENDING, Status.QUEUED) or order.parent_id:
            return
        book = self.books[order.product_id]
        if order.terms.post_only and self._crosses(order, book):
            order.reject_reason = "INVALID_LIMIT_PRICE_POST_ONLY"
            self._end(order, Status.FAILED)
            self._changed(order)
            return
        self._to_market(order, book)

    def request_cancel(self, order_id: str) -> str:
        """Queue a cancel; "" if accepted, else the venue's failure reason."""
        order = self.orders.get(order_id)
        if order is None:
            return "UNKNOWN_CANCEL_ORDER"
        if order.status is Status.FILLED:
            return "ORDER_IS_FULLY_FILLED"
        if not order.live:
            return "INVALID_CANCEL_REQUEST"
        if order.status is Status.CANCEL_QUEUED:
            return "DUPLICATE_CANCEL_REQUEST"
        order.status = Status.CANCEL_QUEUED
        self._changed(order)
        return ""

    def finish_cancel(self, order_id: str, reason: str = "User requested cancel") -> None:
        """End an order whose cancel is queued; one that filled in the meantime stays filled."""
        order = self.orders[order_id]
        if order.status is Status.CANCEL_QUEUED:
            self._cancel(order, reason)

    def edit(self, order_id: str, price: Decimal, size: Decimal) -> None:
        """Replace price and size of a GTC limit order; it goes behind others of its new price.

        Raises `Refusal` with the venue's `edit_failure_reason`.
        """
        order = self.orders.get(order_id)
        if order is None:
            raise Refusal("ORDER_NOT_FOUND", "There is no such order.")
        needed = self._check_edit(order, price, size)
        book = self.books[order.product_id]
        book.remove(order)
        order.limit_price, order.base_size = price, size
        order.configuration = _edited(order.configuration, price, size)
        order.terms = read_terms(order.configuration)
        order.priority = self._next_seq()
        order.edits.append(
            {"price": plain(price), "size": plain(size), "replace_accept_timestamp": self._clock().isoformat()}
        )
        self._hold(order, needed)
        self._to_market(order, book)

    def why_not_edit(self, order: Order, price: Decimal, size: Decimal) -> str:
        """The venue's reason against an edit, or "" if it would be accepted."""
        try:
            self._check_edit(order, price, size)
        except Refusal as error:
            return error.reason
        return ""

    def _check_edit(self, order: Order, price: Decimal, size: Decimal) -> Decimal:
        """The hold that the edited order needs. Raises `Refusal`."""
        book = self.books[order.product_id]
        product = book.product
        if order.status is not Status.OPEN:
            raise Refusal("CAN_ONLY_EDIT_OPEN_ORDERS", "Only an open order can be edited.")
        if order.terms.kind is not PaperOrderKind.LIMIT or order.terms.time_in_force is not TimeInForce.GTC:
            raise Refusal("ONLY_LIMIT_ORDER_EDITS_SUPPORTED", "Only limit GTC orders can be edited.")
        if size <= order.filled_size:
            raise Refusal("CANNOT_EDIT_TO_BELOW_FILLED_SIZE", "The new size must be above the filled size.")
        check_edited(product, price, size)
        if (price, size) == (order.limit_price, order.base_size):
            raise Refusal("NO_EDIT_REQUESTED", "Price and size are what they were.")
        if order.terms.post_only and self._would_cross(order.side, price, book):
            raise Refusal("INVALID_EDITED_PRICE", "A post-only order would trade at that price.")
        left = size - order.filled_size
        fee = self._on_top(order, self._reserve_rate(order))
        needed = left * price * (ONE + fee) if order.side is Side.BUY else left
        if needed - order.hold > self.wallet[self._paying(order)].available:
            raise Refusal("INSUFFICIENT_FUND", "Not enough available balance for the edited order.")
        return needed

    def expire(self, now: datetime) -> None:
        """End the GTD orders whose end time has passed."""
        for order in [o for o in self._expiring.values() if o.terms.end_time is not None and o.terms.end_time <= now]:
            self._end(order, Status.EXPIRED)
            self._changed(order)

    def force_fill(self, order_id: str, size: Decimal, price: Decimal | None = None) -> None:
        """Fill a resting order as maker with `size` base (at its limit price, unless `price` is given).

        Raises `ApiError` if it is not resting or the size is not possible.
        """
        order = self.orders.get(order_id)
        if order is None or not order.live or order.limit_price is None:
            raise ApiError(404, "NOT_FOUND", "no resting order with that id")
        at = order.limit_price if price is None else price
        worse = at > order.limit_price if order.side is Side.BUY else at < order.limit_price
        if not ZERO < size <= order.remaining or at <= 0 or worse:
            raise ApiError(
                400,
                "INVALID_ARGUMENT",
                f"size must be above 0 and at most {order.remaining}, and the price not worse than {order.limit_price}",
            )
        self._fill(order, at, size, maker=True)
        self._after_trades(self.books[order.product_id])

    def restore(self, orders: Iterable[Order], fills: Iterable[PaperFill], balances: Iterable[WalletBalance]) -> None:
        """Restore a stored account. Resting orders are in the book again and trade with the next tick.

        Raises `PaperError` if an order's product is missing.
        """
        for order in orders:
            book = self.books.get(order.product_id)
            if book is None:
                raise PaperError(
                    "STATE_PRODUCTS",
                    f"The kept account has orders of {order.product_id}: add that product, or delete the state file.",
                )
            self._register(order, live=order.live)
            self._seq = max(self._seq, order.seq, order.priority)
            if order.status in (Status.OPEN, Status.CANCEL_QUEUED) and order.base_size is not None:
                self._rest_again(order, book)
        self.fills.extend(fills)
        self.wallet.restore(balances)

    def set_product(self, product_id: str, flags: Mapping[str, object]) -> PaperProduct:
        """Change a product's trading status; a delisting cancels its open orders.

        Raises `PaperError` for a wrong flag, `Refusal` for a wrong product.
        """
        book = self._book(product_id)
        book.product = book.product.with_status(**flags)
        if book.product.status == "delisted":
            for order in [order for order in self.live.values() if order.product_id == product_id]:
                if order.live:
                    self._cancel(order, "PaperProduct delisted")
        return book.product

    # -- the market --------------------------------------------------------------------------------------------

    def quote(self, product_id: str, bid: Decimal, ask: Decimal, volume: Decimal | None = None) -> None:
        """Move a product's quote. Orders that it crosses fill, at most `volume` base in all (None: no bound).

        If the last price is outside the new quote, the market is assumed to have traded at the nearer side.
        """
        book = self._book(product_id)
        market = self._market(book)
        falling, rising = book.last > ask, book.last < bid and book.last > 0
        left = _UNBOUNDED if volume is None else volume
        for each in market:
            each.quote(bid, ask)
        for each in market:
            left = self._sweep(each, Side.BUY, ask, left)
        for each in market:
            left = self._sweep(each, Side.SELL, bid, left)
        if falling or rising or not book.last:
            self._print(book, bid if rising else ask, self._small(book), Side.SELL if rising else Side.BUY)
        self._after_trades(book)

    def show(
        self, product_id: str, bid: Decimal, ask: Decimal, sizes: tuple[Decimal, Decimal], last: Decimal | None = None
    ) -> None:
        """Apply a quote of the real market with the sizes (base) at its touch.

        A real offer beyond a resting order would have traded with it: the order fills with the offered size, by the
        rule. `last` is the last trade's price after trades were missed.
        """
        book = self._book(product_id)
        market, bought, sold = self._market(book), sizes[0], sizes[1]
        for each in market:
            each.quote(bid, ask, sizes)
        for each in market:
            sold = self._sweep(each, Side.BUY, ask, sold)
            bought = self._sweep(each, Side.SELL, bid, bought)
        if last is not None and last != book.last:
            self._print(book, last, self._small(book), Side.BUY if last > book.last else Side.SELL)
        self._after_trades(book)

    def tick(self, product_id: str, price: Decimal, spread: Decimal, size: Decimal) -> None:
        """The market trades `size` base at `price`, which becomes the touch of the side that it moved to."""
        book = self._book(product_id)
        rising = price > book.last or (price == book.last and book.ask == price)
        bid, ask = (max(price - spread, book.product.price_increment), price) if rising else (price, price + spread)
        for each in self._market(book):
            each.quote(bid, ask)
        self._trade_through(book, price, size, Side.BUY if rising else Side.SELL)

    def trade(self, product_id: str, price: Decimal, size: Decimal, aggressor: Side) -> None:
        """Somebody trades up to `size` base at `price`: the user's orders at or better than it fill first."""
        self._trade_through(self._book(product_id), price, size, aggressor)

    def reserve_trade_ids(self, product_id: str, count: int) -> int:
        """The first of `count` trade ids that this product will not use again."""
        first = self._next_trade_id[product_id]
        self._next_trade_id[product_id] = first + count
        return first

    # -- checks and holds --------------------------------------------------------------------------------------

    def _book(self, product_id: str) -> RestingBook:
        book = self.books.get(product_id)
        if book is None:
            raise Refusal("INVALID_PRODUCT_ID", f"Product {product_id} does not exist.", "PREVIEW_INVALID_PRODUCT_ID")
        return book

    def _check(self, book: RestingBook, side: Side, terms: OrderTerms) -> None:
        check_tradable(book.product, terms)
        check_prices(book.product, side, terms)
        check_size(book.product, terms)
        check_stop(side, terms, book.last)
        if terms.end_time is not None and terms.end_time <= self._clock():
            raise Refusal("INVALID_REQUEST", "end_time is in the past.", "PREVIEW_INVALID_END_TIME")
        if terms.post_only and terms.limit_price is not None and self._would_cross(side, terms.limit_price, book):
            raise Refusal(
                "INVALID_LIMIT_PRICE_POST_ONLY",
                "Post only limit order would trade at once.",
                "PREVIEW_INVALID_LIMIT_PRICE_POSTONLY",
            )

    def _check_attached(self, book: RestingBook, side: Side, attached: Mapping[str, object]) -> OrderTerms:
        terms = read_terms(attached, attached=True)
        check_prices(book.product, side.opposite, terms)
        return terms

    def _would_cross(self, side: Side, price: Decimal, book: RestingBook) -> bool:
        touch = book.best(side.opposite)
        if touch is None:
            return False
        return price >= touch if side is Side.BUY else price <= touch

    def _crosses(self, order: Order, book: RestingBook) -> bool:
        return order.limit_price is not None and self._would_cross(order.side, order.limit_price, book)

    def _new(
        self,
        client_order_id: str,
        book: RestingBook,
        side: Side,
        terms: OrderTerms,
        configuration: Mapping[str, object],
        source: str,
    ) -> Order:
        base_size = terms.base_size
        if base_size is None and terms.quote_size is not None and terms.limit_price is not None:
            base_size = floor_to(terms.quote_size / terms.limit_price, book.product.base_increment)
            if base_size < book.product.base_min_size:
                raise Refusal(
                    "UNKNOWN_FAILURE_REASON", "Size is below the minimum.", "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"
                )
        seq = self._next_seq()
        return Order(
            self.habits.new_id(),
            client_order_id,
            book.product.product_id,
            side,
            terms,
            configuration,
            self._clock(),
            seq,
            priority=seq,
            source=source,
            limit_price=terms.limit_price,
            base_size=base_size,
            fee_currency=book.product.base if self.habits.fee_in_base and side is Side.BUY else "",
        )

    def _register(self, order: Order, *, live: bool = True) -> None:
        self.orders[order.order_id] = order
        if live:
            self.live[order.order_id] = order
        if order.client_order_id:
            self.by_client_id.setdefault(order.client_order_id, order)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _reserve(self, order: Order, book: RestingBook) -> None:
        """Hold the most that the order can cost. Raises `Refusal` if that is not available."""
        balance = self.wallet[self._paying(order)]
        needed = self._cost(order, book) if order.terms.kind is PaperOrderKind.MARKET else self._needed(order)
        if needed > balance.available:
            raise Refusal("INSUFFICIENT_FUND", "Insufficient balance in source account", "PREVIEW_INSUFFICIENT_FUND")
        balance.hold += needed
        order.hold = needed

    def _cost(self, order: Order, book: RestingBook) -> Decimal:
        """The cost of a market order by the present book, fees included, in the currency that it pays with."""
        if order.side is Side.SELL and order.base_size is not None:
            return order.base_size
        if order.terms.quote_size is not None and order.side is Side.BUY:
            return order.terms.quote_size
        left = order.base_size if order.base_size is not None else order.quote_size
        cost, price = ZERO, book.last
        for price, size in book.synthetic(order.side.opposite):
            price = self._price_paid(order.side, price, None, book)  # noqa: PLW2901 - what the level costs
            step = min(size, left if order.base_size is not None else left / price)
            cost += step * price if order.side is Side.BUY else step
            left -= step if order.base_size is not None else step * price
            if left <= 0:
                break
        if order.side is Side.BUY:
            return (cost + left * price) * (ONE + self._on_top(order, self._rates(order).taker))
        return floor_to(cost, book.product.base_increment)

    def _small(self, book: RestingBook) -> Decimal:
        size = next(book.synthetic(Side.BUY), (ZERO, book.product.base_min_size))[1]
        return max(floor_to(size / 100, book.product.base_increment), book.product.base_increment)
