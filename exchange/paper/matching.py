"""How accepted orders trade and end. See `engine` for the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal

from exchange.paper.book import RestingBook
from exchange.paper.fills import OPTIMISTIC, FillRule
from exchange.paper.numbers import ONE, ZERO, floor_to, nearest_on
from exchange.paper.orders import Order, PaperFill, PaperOrderKind, Side, Status, TimeInForce, Trade
from exchange.paper.products import PaperProduct, leads
from exchange.paper.rules import Fees, Habits, Liquidity, Listener
from exchange.paper.wallet import Wallet

__all__ = ["Matcher"]

_BRACKET_COLLAR = Decimal("0.05")
_FRACTION = Decimal("1e-16")


class Matcher:
    """Books, wallet, orders and fills of one account, and how they change each other."""

    def __init__(
        self,
        products: Mapping[str, PaperProduct],
        balances: Mapping[str, Decimal],
        listener: Listener,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        fees: Fees | None = None,
        liquidity: Liquidity | None = None,
        rule: FillRule = OPTIMISTIC,
        habits: Habits | None = None,
        product_fees: Mapping[str, Fees] | None = None,
        first_trade_id: int = 1,
        offered: Callable[[str, Side], Decimal | None] = lambda _product_id, _side: None,
    ) -> None:
        self.fees = fees or Fees()
        self.product_fees = dict(product_fees or {})
        """Rates of products that have their own."""
        self.rule = rule
        self.habits = habits or Habits()
        self.wallet = Wallet(balances)
        self.orders: dict[str, Order] = {}
        self.by_client_id: dict[str, Order] = {}
        self.live: dict[str, Order] = {}
        self.fills: list[PaperFill] = []
        self.books: dict[str, RestingBook] = {}
        self._listener = listener
        self._clock = clock
        self._offered = offered
        self._expiring: dict[str, Order] = {}
        self._seq = 0
        shape = liquidity or Liquidity()
        for product_id, product in products.items():
            gap = nearest_on(product.price * shape.gap_bps / 10_000, product.price_increment)
            self.books[product_id] = RestingBook(product, depth=shape.depth, level_value=shape.level_value, gap=gap)
        self.leads = leads(products)
        self._markets: dict[str, list[RestingBook]] = {}
        for product_id, book in self.books.items():
            self._markets.setdefault(self.leads[product_id], []).append(book)
        self._next_trade_id = dict.fromkeys(products, first_trade_id)

    def _market(self, book: RestingBook) -> list[RestingBook]:
        """The books of one market: this product's and its twins', which share price and prints."""
        return self._markets[self.leads[book.product.product_id]]

    def _to_market(self, order: Order, book: RestingBook) -> None:
        order.status = Status.OPEN
        if order.terms.kind in (PaperOrderKind.STOP_LIMIT, PaperOrderKind.BRACKET) and not order.triggered:
            book.stops[order.order_id] = order
            if order.terms.kind is PaperOrderKind.BRACKET:
                self._take(order, book)
                if order.live:
                    book.rest(order)
            if order.terms.time_in_force is TimeInForce.GTD and order.live:
                self._expiring[order.order_id] = order
            self._changed(order)
            self._after_trades(book)
            return
        share = self._offered(order.product_id, order.side) if order.terms.kind is PaperOrderKind.MARKET else None
        short = share is not None and share < ONE
        if order.terms.time_in_force is TimeInForce.FOK and (short or not self._fillable(order, book)):
            self._cancel(order, "Fill-or-kill could not be filled at once")
            return
        self._take(order, book, share)
        self._settle(order, book)
        self._after_trades(book)

    def _settle(self, order: Order, book: RestingBook) -> None:
        """Rest or end an order after it took the available liquidity."""
        if not order.live:
            return
        resting = order.terms.time_in_force in (TimeInForce.GTC, TimeInForce.GTD)
        if order.base_size is None:
            spent = order.value_after_fees if order.side is Side.BUY else order.filled_value
            smallest = book.product.base_increment * book.last * (ONE + self._on_top(order, self._rates(order).taker))
            done = order.filled_size > 0 and order.quote_size - spent < smallest
            order.cancel_reason = "" if done else "No liquidity left"
            self._end(order, Status.FILLED if done else Status.CANCELLED)
        elif order.remaining == 0:
            self._end(order, Status.FILLED)
        elif resting:
            book.rest(order)
            if order.terms.time_in_force is TimeInForce.GTD:
                self._expiring[order.order_id] = order
        else:
            order.cancel_reason = "No liquidity left within the order's price"
            self._end(order, Status.CANCELLED)
        self._changed(order)

    def _rest_again(self, order: Order, book: RestingBook) -> None:
        """Put an open order back where it was, without trading."""
        waits = order.terms.kind in (PaperOrderKind.STOP_LIMIT, PaperOrderKind.BRACKET) and not order.triggered
        if waits:
            book.stops[order.order_id] = order
        if not waits or order.terms.kind is PaperOrderKind.BRACKET:
            book.rest(order)
        if order.terms.time_in_force is TimeInForce.GTD:
            self._expiring[order.order_id] = order

    def _take(self, order: Order, book: RestingBook, share: Decimal | None = None) -> None:
        """Fill from the opposite side until the order's price, its size or the liquidity is reached.

        Of a MARKET order at most `share` fills (None: what the book shows), as when quotes are withdrawn.
        """
        opposite = order.side.opposite
        limit = order.limit_price
        rate = self._on_top(order, self._rates(order).taker)
        beyond = limit is not None and (limit < book.ask if order.side is Side.BUY else limit > book.bid)
        for price, available in () if beyond else book.synthetic(opposite):
            if limit is not None and (price > limit if order.side is Side.BUY else price < limit):
                break
            self._clear_own(order, book, price, inclusive=False)
            paid = self._price_paid(order.side, price, limit, book)
            if share is not None:
                available = min(available, self._size_of_share(order, book.product, share, paid))  # noqa: PLW2901 - rest
            size = self._wanted(order, book.product, paid, available, rate)
            if size <= 0:
                if share is None and available > 0:
                    self._spend_rest(order, paid, rate)
                break
            book.take(price, size)
            self._fill(order, paid, size, maker=False)
            if not order.live:
                return
            if share is None and size < available and self._spend_rest(order, paid, rate):
                return
        if limit is not None and (order.base_size is None or order.remaining > 0):
            self._clear_own(order, book, limit, inclusive=True)

    def _spend_rest(self, order: Order, price: Decimal, rate: Decimal) -> bool:
        """The last fill of a buy sized in quote: spends the rest of its money, regardless of the product's increment.

        Returns whether all is spent now.
        """
        if not self.habits.fractional or order.base_size is not None or order.side is not Side.BUY:
            return False
        left = order.quote_size - order.value_after_fees
        size = (left / (price * (ONE + rate))).quantize(_FRACTION, ROUND_DOWN)
        if size > 0:
            self._fill(order, price, size, maker=False)
        return True

    @staticmethod
    def _size_of_share(order: Order, product: PaperProduct, share: Decimal, price: Decimal) -> Decimal:
        """The rest of `share` of the order at `price`, in base."""
        whole = order.base_size if order.base_size is not None else order.quote_size / price
        return max(floor_to(whole * share, product.base_increment) - order.filled_size, ZERO)

    def _price_paid(self, side: Side, price: Decimal, limit: Decimal | None, book: RestingBook) -> Decimal:
        """The price that a taker pays (or gets) if the book shows `price`, by the fill rule; at worst its limit."""
        tick = book.product.price_increment
        beyond = self.rule.beyond(price, book.ask - book.bid, tick)
        if side is Side.BUY:
            return price + beyond if limit is None else max(min(price + beyond, limit), price)
        least = max(price - beyond, tick)
        return least if limit is None else min(max(least, limit), price)

    def _wanted(
        self, order: Order, product: PaperProduct, price: Decimal, available: Decimal, rate: Decimal
    ) -> Decimal:
        if order.base_size is not None:
            size = min(order.remaining, available)
            if order.side is Side.SELL or order.limit_price is not None:
                return size
            budget = self.wallet[product.quote].available + order.hold
        else:
            budget = order.quote_size - order.value_after_fees
            if order.side is Side.SELL:
                return floor_to(
                    min(
                        available,
                        (order.quote_size - order.filled_value) / price,
                        self.wallet[product.base].available + order.hold,
                    ),
                    product.base_increment,
                )
            size = available
        return min(size, floor_to(max(budget, ZERO) / (price * (ONE + rate)), product.base_increment))

    def _clear_own(self, order: Order, book: RestingBook, price: Decimal, *, inclusive: bool) -> None:
        """Cancel the account's own orders that are better than `price` (or at it, if `inclusive`)."""
        while True:
            own = book.best_resting(order.side.opposite)
            if own is None or own.limit_price is None:
                return
            if own.limit_price > price if order.side is Side.BUY else own.limit_price < price:
                return
            if own.limit_price == price and not inclusive:
                return
            self._cancel(own, "Self trade prevention")

    def _fillable(self, order: Order, book: RestingBook) -> bool:
        """True if the book could fill all of the order at once."""
        size = value = ZERO
        for price, available in book.synthetic(order.side.opposite):
            if order.limit_price is not None and (
                price > order.limit_price if order.side is Side.BUY else price < order.limit_price
            ):
                break
            size += available
            value += available * price
        return size >= order.base_size if order.base_size is not None else value >= order.quote_size

    def _trade_through(self, book: RestingBook, price: Decimal, size: Decimal, aggressor: Side) -> None:
        left = size
        for each in self._market(book):
            left = self._sweep(each, aggressor.opposite, price, left)
        for each in self._market(book):
            left = self._sweep(each, aggressor, book.ask if aggressor is Side.BUY else book.bid, left)
        if left > 0:
            self._print(book, price, left, aggressor.opposite)
        self._after_trades(book)

    def _sweep(self, book: RestingBook, side: Side, price: Decimal, volume: Decimal) -> Decimal:
        """Fill resting orders on `side` that trades at `price` reach, by the fill rule. Returns the rest of
        `volume`."""
        through = book.product.price_increment * self.rule.ticks_through
        reached = price + through if side is Side.BUY else price - through
        ours = floor_to(volume * self.rule.share, book.product.base_increment) if volume.is_finite() else volume
        filled = ZERO
        while filled < ours:
            order = book.best_resting(side)
            if order is None or order.limit_price is None:
                break
            if order.limit_price < reached if side is Side.BUY else order.limit_price > reached:
                break
            size = min(order.remaining, ours - filled)
            self._fill(order, order.limit_price, size, maker=True)
            filled += size
        return volume - filled

    def _after_trades(self, book: RestingBook) -> None:
        """Trigger the stops that the last price reached, until they cause no more trades."""
        while True:
            due = [
                (order, each) for each in self._market(book) for order in each.stops.values() if _stop_due(order, each)
            ]
            if not due:
                break
            for order, each in due:
                self._trigger(order, each)
        self._listener.book_changed(book.product.product_id)

    def _trigger(self, order: Order, book: RestingBook) -> None:
        if book.stops.pop(order.order_id, None) is None:
            return  # ended, or triggered by another stop of the same round
        order.triggered = True
        if order.terms.kind is PaperOrderKind.BRACKET and order.terms.stop_price is not None:
            book.remove(order)
            tick = book.product.price_increment
            if order.side is Side.SELL:
                collar = (order.terms.stop_price * (ONE - _BRACKET_COLLAR) / tick).to_integral_value(ROUND_CEILING)
            else:
                collar = (order.terms.stop_price * (ONE + _BRACKET_COLLAR) / tick).to_integral_value(ROUND_FLOOR)
            order.limit_price = max(collar, ONE) * tick
        self._take(order, book)
        self._settle(order, book)

    def _fill(self, order: Order, price: Decimal, size: Decimal, *, maker: bool) -> None:
        book = self.books[order.product_id]
        product = book.product
        value = price * size
        rates = self._rates(order)
        currency, fee = self._commission(order, product, size, rates.maker if maker else rates.taker, price)
        base, quote = self.wallet[product.base], self.wallet[product.quote]
        if order.side is Side.BUY:
            base.total += size
            quote.total -= value
        else:
            base.total -= size
            quote.total += value
        self.wallet[currency or product.quote].total -= fee
        now = self._clock()
        order.filled_size += size
        order.filled_value += value
        order.fees += fee
        order.fills += 1
        order.last_fill = now
        trade_id = self._print(book, price, size, order.side if maker else order.side.opposite)
        self.fills.append(
            PaperFill(
                len(self.fills) + 1,
                self.habits.new_id(),
                str(trade_id),
                order.order_id,
                order.client_order_id,
                order.product_id,
                order.side,
                price,
                size,
                fee,
                maker,
                now,
                currency,
            )
        )
        if order.terms.kind is PaperOrderKind.MARKET:
            paid = value + (ZERO if currency else fee) if order.side is Side.BUY else size
            self._hold(order, max(order.hold - paid, ZERO))
        else:
            self._hold(order, self._needed(order))
        if order.base_size is not None and order.remaining == 0:
            self._end(order, Status.FILLED)
        self._changed(order)

    def _commission(
        self, order: Order, product: PaperProduct, size: Decimal, rate: Decimal, price: Decimal
    ) -> tuple[str, Decimal]:
        """The currency of an execution's commission ("" is quote) and its amount.

        A third currency is worth as much as the quote currency (both are dollars); if the account has not enough of it,
        the commission is taken from what the order gets.
        """
        amount = size * price * rate
        if order.fee_currency not in ("", product.base):
            if self.wallet[order.fee_currency].available >= amount:
                return order.fee_currency, amount
            if order.side is Side.SELL:
                return "", amount
            return product.base, size * rate
        return (product.base, size * rate) if order.fee_currency else ("", amount)

    def _print(self, book: RestingBook, price: Decimal, size: Decimal, maker_side: Side) -> int:
        product_id = self.leads[book.product.product_id]
        trade_id = self._next_trade_id[product_id]
        self._next_trade_id[product_id] = trade_id + 1
        for each in self._market(book):
            each.last = price
        self._listener.traded(Trade(product_id, trade_id, price, size, maker_side, self._clock()))
        return trade_id

    def _cancel(self, order: Order, reason: str) -> None:
        order.cancel_reason = reason
        self._end(order, Status.CANCELLED)
        self._changed(order)
        self._listener.book_changed(order.product_id)

    def _end(self, order: Order, status: Status) -> None:
        book = self.books[order.product_id]
        order.status = status
        if order.limit_price is not None:
            book.remove(order)
        book.stops.pop(order.order_id, None)
        self._expiring.pop(order.order_id, None)
        self.live.pop(order.order_id, None)
        self._hold(order, ZERO)
        if order.child_id:
            self._start_child(order, book)

    def _start_child(self, order: Order, book: RestingBook) -> None:
        """An attached bracket starts with its parent's filled size, or ends with it."""
        child = self.orders[order.child_id]
        if not child.live:
            return
        if order.filled_size == 0:
            self._cancel(child, "The order it was attached to did not fill")
            return
        child.base_size = order.filled_size
        needed = self._needed(child)
        if needed > self.wallet[self._paying(child)].available:
            child.reject_reason = "INSUFFICIENT_FUND"
            self._end(child, Status.FAILED)
            self._changed(child)
            return
        self._hold(child, needed)
        self._to_market(child, book)

    def _paying(self, order: Order) -> str:
        product = self.books[order.product_id].product
        return product.quote if order.side is Side.BUY else product.base

    def _rates(self, order: Order) -> Fees:
        return self.product_fees.get(order.product_id, self.fees)

    @staticmethod
    def _on_top(order: Order, rate: Decimal) -> Decimal:
        """The part of a fee rate that the order pays in quote currency beside its value."""
        return ZERO if order.fee_currency else rate

    def _reserve_rate(self, order: Order) -> Decimal:
        rates = self._rates(order)
        return rates.maker if order.terms.post_only else max(rates.maker, rates.taker)

    def _needed(self, order: Order) -> Decimal:
        """The most that the rest of an order with a limit price can cost, in the currency that it pays with."""
        if order.side is Side.SELL:
            return order.remaining
        price = order.price
        if order.terms.kind is PaperOrderKind.BRACKET and order.terms.stop_price is not None and not order.triggered:
            price = max(price, order.terms.stop_price * (ONE + _BRACKET_COLLAR))
        return order.remaining * price * (ONE + self._on_top(order, self._reserve_rate(order)))

    def _hold(self, order: Order, amount: Decimal) -> None:
        if amount != order.hold:
            self.wallet[self._paying(order)].hold += amount - order.hold
            order.hold = amount

    def _changed(self, order: Order) -> None:
        order.updated = self._clock()
        self._listener.order_changed(order)


def _stop_due(order: Order, book: RestingBook) -> bool:
    stop = order.terms.stop_price
    if stop is None or not book.last:
        return False
    up = order.terms.stop_up if order.terms.kind is PaperOrderKind.STOP_LIMIT else order.side is Side.BUY
    return book.last >= stop if up else book.last <= stop
