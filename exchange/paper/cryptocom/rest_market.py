"""Public methods: instruments, prices, books, trades and candles."""

from __future__ import annotations

from decimal import Decimal

from exchange.paper.book import RestingBook
from exchange.paper.candles import PaperCandle
from exchange.paper.cryptocom import render
from exchange.paper.cryptocom.answers import Answered
from exchange.paper.cryptocom.instruments import described
from exchange.paper.cryptocom.marks import PaperMarks
from exchange.paper.cryptocom.requests import MethodCall, moment_ns, text
from exchange.paper.numbers import ZERO, plain
from exchange.paper.orders import Side
from exchange.paper.venue import PaperVenue

__all__ = ["TIMEFRAMES", "InstrumentViews", "timeframe_seconds"]

TIMEFRAMES = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "4h": 14_400,
    "6h": 21_600,
    "12h": 43_200,
    "1D": 86_400,
    "7D": 604_800,
    "14D": 1_209_600,
}
"""Lengths of candles in seconds; the older names M1, M5, H1, D1 and so on mean the same."""
_OLDER_NAMES = {f"{name[-1].upper()}{name[:-1]}": name for name in TIMEFRAMES}
_MOST_CANDLES, _CANDLES = 300, 25
_MOST_TRADES, _TRADES = 150, 25
_DEEPEST = 50


class InstrumentViews:
    """Answers for `public/...`; each method is one of the venue's."""

    def __init__(self, venue: PaperVenue, marks: PaperMarks) -> None:
        self._venue = venue
        self._engine = venue.engine
        self._marks = marks

    def book_of(self, name: str | None) -> RestingBook:
        """The book of an instrument. Raises `Answered`."""
        book = self._engine.books.get(name or "")
        if book is None:
            raise Answered(40004 if not name else 209)
        return book

    def instruments(self, call: MethodCall) -> object:
        """`get-instruments`: all of them, whatever is asked."""
        return {"data": [described(book.product) for book in self._engine.books.values()]}

    def risk_parameters(self, call: MethodCall) -> object:
        """`get-risk-parameters`: the only place with minima of orders, in USD."""
        least: dict[str, Decimal] = {}
        for book in self._engine.books.values():
            least.setdefault(book.product.base, book.product.quote_min_size)
        return {
            "default_max_product_leverage_for_spot": "10",
            "base_currency_config": [
                {
                    "instrument_name": currency,
                    "minimum_haircut": "0.5",
                    "unit_margin_rate": "0.1",
                    "collateral_cap": "0",
                    "max_order_notional_usd": "10000000.0",
                    **({"min_order_notional_usd": f"{value:.1f}"} if value else {}),
                }
                for currency, value in least.items()
            ],
        }

    def tickers(self, call: MethodCall) -> object:
        """`get-tickers`: of one instrument, or of all."""
        name = text(call.params, "instrument_name")
        names = [self.book_of(name).product.product_id] if name else list(self._engine.books)
        return {"data": [self.ticker(each) for each in names]}

    def ticker(self, name: str, *, streamed: bool = False) -> dict[str, object]:
        """An instrument's ticker: a is the last price, b and k are the touch, c the day's change as a fraction."""
        book = self._engine.books[name]
        day = self._venue.candles[self._venue.lead(name)].day(self._venue.market_time())
        bid, ask = (next(iter(book.levels(side, 1)), None) for side in (Side.BUY, Side.SELL))
        tick, step = book.product.price_increment, book.product.base_increment
        row: dict[str, object] = {
            "i": name,
            "h": render.placed(day.high, tick),
            "l": render.placed(day.low, tick),
            "a": render.placed(book.last, tick),
            "v": render.placed(day.volume, step),
            "vv": f"{day.volume * book.last:.2f}",
            "c": f"{day.change / 100:.4f}",
            "b": None if bid is None else render.placed(bid[0], tick),
            "k": None if ask is None else render.placed(ask[0], tick),
            "oi": "0",
            "t": render.milliseconds(self._venue.now()),
        }
        if streamed:
            row |= {
                "bs": None if bid is None else render.placed(bid[1], step),
                "ks": None if ask is None else render.placed(ask[1], step),
            }
        return row

    def book(self, call: MethodCall) -> object:
        """`get-book`."""
        book = self.book_of(text(call.params, "instrument_name"))
        depth = call.limit(_DEEPEST, _DEEPEST, "depth")
        return {
            "instrument_name": book.product.product_id,
            "depth": depth,
            "data": [{**self.depth(book, depth), "t": render.milliseconds(self._venue.now())}],
        }

    @staticmethod
    def depth(book: RestingBook, depth: int) -> dict[str, object]:
        """Both sides of a book, best first."""
        return {
            "bids": render.levels(book.levels(Side.BUY, depth), book.product),
            "asks": render.levels(book.levels(Side.SELL, depth), book.product),
        }

    def trades(self, call: MethodCall) -> object:
        """`get-trades` of the market: newest first, from `start_ts` (inclusive) to `end_ts` (exclusive)."""
        book = self.book_of(text(call.params, "instrument_name"))
        name, count = book.product.product_id, call.limit(_TRADES, _MOST_TRADES, "count")
        start, end = moment_ns(call.params.get("start_ts")), moment_ns(call.params.get("end_ts"))
        rows = []
        for trade in reversed(self._venue.recent[self._venue.lead(name)]):
            at = render.milliseconds(trade.time) * 10**6
            if (start is None or at >= start) and (end is None or at < end):
                rows.append(render.public_trade(trade, book.product))
            if len(rows) == count:
                break
        return {"data": rows}

    def candlesticks(self, call: MethodCall) -> object:
        """`get-candlestick`: the newest `count` of the range, oldest first, with flat ones where nothing traded."""
        book = self.book_of(text(call.params, "instrument_name"))
        timeframe = text(call.params, "timeframe") or "1m"
        seconds = timeframe_seconds(timeframe)
        count = call.limit(_CANDLES, _MOST_CANDLES, "count")
        start, end = moment_ns(call.params.get("start_ts")), moment_ns(call.params.get("end_ts"))
        last = self._venue.market_time() if end is None else end / 10**9
        first = last - count * seconds if start is None else max(start / 10**9, last - count * seconds)
        rows = self.candles(book.product.product_id, seconds, first, last)
        return {"interval": timeframe, "data": rows[-count:], "instrument_name": book.product.product_id}

    def candles(self, name: str, seconds: int, first: float, last: float) -> list[dict[str, object]]:
        """Candles whose start is from `first` (inclusive) to `last` (exclusive), in unix seconds of market time."""
        product = self._engine.books[name].product
        rows: list[dict[str, object]] = []
        before: PaperCandle | None = None
        for bar in self._venue.candles[self._venue.lead(name)].bars(seconds, first, last):
            if bar.start >= last:
                break
            while before is not None and before.start + seconds < bar.start:
                flat = before.close
                before = PaperCandle(before.start + seconds, flat, flat, flat, flat, ZERO)
                rows.append(_candle(before, product.price_increment))
            rows.append(_candle(bar, product.price_increment))
            before = bar
        return rows

    def valuations(self, call: MethodCall) -> object:
        """`get-valuations`: only the mark price's newest value."""
        book = self.book_of(text(call.params, "instrument_name"))
        if text(call.params, "valuation_type") != "mark_price":
            raise Answered(40004, "valuation_type must be mark_price")
        mark = self._marks.price(book)
        rows = [] if mark is None else [{"v": plain(mark), "t": render.milliseconds(self._venue.now())}]
        return {"data": rows, "instrument_name": book.product.product_id}


def timeframe_seconds(name: str) -> int:
    """The length of a timeframe in seconds. Raises `Answered`."""
    seconds = TIMEFRAMES.get(_OLDER_NAMES.get(name, name))
    if seconds is None:
        raise Answered(40004, f"timeframe must be one of {', '.join(TIMEFRAMES)}")
    return seconds


def _candle(bar: PaperCandle, tick: Decimal) -> dict[str, object]:
    prices = zip("ohlc", (bar.open, bar.high, bar.low, bar.close), strict=True)
    return {
        **{name: render.placed(price, tick) for name, price in prices},
        "v": plain(bar.volume),
        "t": bar.start * 1000,
    }
