"""REST reads of the account and the market."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from exchange.paper.candles import GRANULARITIES
from exchange.paper.coinbase import render
from exchange.paper.coinbase.requests import Call, read_cursor, read_seconds, spot
from exchange.paper.errors import ApiError
from exchange.paper.numbers import ZERO, plain, rfc3339, whole
from exchange.paper.orders import Side
from exchange.paper.products import describe
from exchange.paper.venue import PaperVenue

__all__ = ["MarketViews"]

_MAX_CANDLES = 350
_NOW_SECONDS = 5.0  # a range that ends within this many seconds of the clock ends "now"


class MarketViews:
    """Answers for account and market paths; each method is one path."""

    def __init__(self, venue: PaperVenue) -> None:
        self._venue = venue
        self._engine = venue.engine

    def accounts(self, call: Call) -> object:
        """`GET /accounts`."""
        balances = self._venue.account(call.lag).balances
        limit = call.limit(49, 250)
        at = call.one("cursor")
        start = int(read_cursor(at, 1)[0]) if at else 0
        page = balances[start : start + limit]
        more = start + limit < len(balances)
        return {
            "accounts": [render.account(balance, self._venue.created, self._venue.portfolio_id) for balance in page],
            "has_next": more,
            "cursor": render.cursor(start + limit) if more else "",
            "size": len(page),
        }

    def account(self, call: Call) -> object:
        """`GET /accounts/{uuid}`."""
        for balance in self._venue.account(call.lag).balances:
            if balance.account_id == call.variables[0]:
                return {"account": render.account(balance, self._venue.created, self._venue.portfolio_id)}
        raise ApiError(404, "NOT_FOUND", "account not found")

    def portfolios(self, call: Call) -> object:
        """`GET /portfolios`: the only one."""
        only = {"name": "Default", "uuid": self._venue.portfolio_id, "type": "DEFAULT", "deleted": False}
        return {"portfolios": [only] if (call.one("portfolio_type") or "DEFAULT") == "DEFAULT" else []}

    def transaction_summary(self, call: Call) -> object:
        """`GET /transaction_summary`."""
        fees = self._engine.fees
        volume = sum((fill.price * fill.size for fill in self._engine.fills), ZERO)
        paid = sum((fill.commission for fill in self._engine.fills), ZERO)
        return {
            "total_volume": float(volume),
            "total_fees": float(paid),
            "fee_tier": {
                "pricing_tier": "Advanced 1",
                "usd_from": "0",
                "usd_to": "1000",
                "taker_fee_rate": plain(fees.taker),
                "maker_fee_rate": plain(fees.maker),
                "aop_from": "",
                "aop_to": "",
                "volume_types_and_range": [],
            },
            "margin_rate": None,
            "goods_and_services_tax": None,
            "advanced_trade_only_volume": float(volume),
            "advanced_trade_only_fees": float(paid),
            "coinbase_pro_volume": 0,
            "coinbase_pro_fees": 0,
            "total_balance": "",
            "volume_breakdown": [],
            "has_promo_fee": False,
            "has_cost_plus_commission": False,
        }

    def time(self, call: Call) -> object:
        """`GET /time`."""
        now = self._venue.now()
        millis = int(now.timestamp() * 1000)
        return {"iso": rfc3339(now), "epochSeconds": str(millis // 1000), "epochMillis": str(millis)}

    def _known(self, product_id: str) -> str:
        if product_id not in self._engine.books:
            raise ApiError(404, "NOT_FOUND", f'ProductID "{product_id}" could not be found.')
        return product_id

    def _describe(self, product_id: str) -> dict[str, object]:
        book = self._engine.books[product_id]
        day = self._venue.candles[self._venue.lead(product_id)].day(self._venue.market_time())
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        mid = plain((bid + ask) / 2) if bid is not None and ask is not None else ""
        return describe(
            book.product,
            price=plain(book.last),
            change_24h=plain(round(day.change, 14)),
            volume_24h=plain(day.volume),
            high_24h=plain(day.high),
            low_24h=plain(day.low),
            mid=mid,
            bid=plain(bid) if bid is not None else "",
            ask=plain(ask) if ask is not None else "",
        )

    def products(self, call: Call) -> object:
        """`GET /products`."""
        wanted = call.many("product_ids")
        names = [name for name in self._engine.books if spot(call) and (not wanted or name in wanted)]
        first = whole(call.one("offset") or "") or 0
        page = names[first : first + call.limit(len(names) or 1, 1000)]
        return {"products": [self._describe(name) for name in page], "num_products": len(page)}

    def product(self, call: Call) -> object:
        """`GET /products/{id}`."""
        return self._describe(self._known(call.variables[0]))

    def _pricebook(self, product_id: str, limit: int | None) -> dict[str, object]:
        book = self._engine.books[product_id]
        return {
            "product_id": product_id,
            "bids": render.levels(book.levels(Side.BUY, limit)),
            "asks": render.levels(book.levels(Side.SELL, limit)),
            "time": rfc3339(self._venue.now()),
        }

    def product_book(self, call: Call) -> object:
        """`GET /product_book`."""
        product_id = self._known(call.one("product_id") or "")
        book = self._engine.books[product_id]
        limit = call.limit(0, 100_000) or None
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        figures = {"last": plain(book.last), "mid_market": "", "spread_bps": "", "spread_absolute": ""}
        if bid is not None and ask is not None:
            mid = (bid + ask) / 2
            figures.update(
                mid_market=plain(mid),
                spread_absolute=plain(ask - bid),
                spread_bps=plain(((ask - bid) / mid * 10_000).quantize(Decimal("1e-12"), ROUND_DOWN)),
            )
        return {"pricebook": self._pricebook(product_id, limit), **figures}

    def best_bid_ask(self, call: Call) -> object:
        """`GET /best_bid_ask`."""
        names = call.many("product_ids") or list(self._engine.books)
        return {"pricebooks": [self._pricebook(self._known(name), 1) for name in names]}

    def candles(self, call: Call) -> object:
        """Newest first.

        Candles are in market time. A range that ends at the wall clock's now means market time's now, so that a client
        that requests the last n candles gets them at any speed; without `start` and `end` it gets the newest ones.
        """
        product_id = self._known(call.variables[0])
        granularity = call.one("granularity") or ""
        if granularity not in GRANULARITIES:
            raise ApiError(400, "INVALID_ARGUMENT", f"granularity must be one of {', '.join(GRANULARITIES)}")
        seconds = GRANULARITIES[granularity]
        limit = call.limit(_MAX_CANDLES, _MAX_CANDLES)
        start, end = read_seconds(call.one("start")), read_seconds(call.one("end"))
        if start is None or end is None:
            end = int(self._venue.market_time())
            start = end - (limit - 1) * seconds
        elif end < start or (end - start) // seconds > _MAX_CANDLES:
            raise ApiError(
                400,
                "INVALID_ARGUMENT",
                f"start and end argument is invalid - number of candles requested should be less than {_MAX_CANDLES}",
            )
        now = self._venue.now().timestamp()
        if abs(end - now) <= _NOW_SECONDS:
            ahead = int(self._venue.market_time() - now)
            start, end = start + ahead, end + ahead
        bars = self._venue.candles[self._venue.lead(product_id)].bars(seconds, start, end)
        return {"candles": [bar.shown() for bar in reversed(bars[-limit:])]}

    def market_trades(self, call: Call) -> object:
        """`GET /products/{id}/ticker`."""
        product_id = self._known(call.variables[0])
        book = self._engine.books[product_id]
        start, end = read_seconds(call.one("start")), read_seconds(call.one("end"))
        trades = [
            trade
            for trade in reversed(self._venue.recent[self._venue.lead(product_id)])
            if (start is None or trade.time.timestamp() >= start) and (end is None or trade.time.timestamp() < end + 1)
        ][: call.limit(100, 1000)]
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        return {
            "trades": [
                {**render.public_trade(trade, product_id), "bid": "", "ask": "", "exchange": "COINBASE"}
                for trade in trades
            ],
            "best_bid": plain(bid) if bid is not None else "",
            "best_ask": plain(ask) if ask is not None else "",
        }
