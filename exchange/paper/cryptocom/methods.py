"""Every method by name: the same over REST and, for the private ones, over the user stream."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping

from exchange.paper.cryptocom.account import AccountViews
from exchange.paper.cryptocom.advanced import AdvancedBook
from exchange.paper.cryptocom.limits import PaperLimits
from exchange.paper.cryptocom.marks import PaperMarks
from exchange.paper.cryptocom.placing import Asked
from exchange.paper.cryptocom.requests import MethodCall
from exchange.paper.cryptocom.rest_advanced import AdvancedCalls
from exchange.paper.cryptocom.rest_market import InstrumentViews
from exchange.paper.cryptocom.rest_orders import TradingCalls
from exchange.paper.orders import Order
from exchange.paper.venue import PaperVenue

__all__ = ["Methods", "new_ids"]


class Methods:
    """The handlers, and what they share."""

    def __init__(self, venue: PaperVenue) -> None:
        self.venue = venue
        self.limits = PaperLimits(private=bool(venue.config.private_rate), public=bool(venue.config.public_rate))
        self.marks = PaperMarks()
        self.market = InstrumentViews(venue, self.marks)
        self.account = AccountViews(venue)
        self.advanced = AdvancedBook(venue, self.marks, self._bring)
        self.orders = TradingCalls(venue, self.advanced.taken)
        calls = AdvancedCalls(venue, self.advanced, self.orders, self.marks)
        venue.on_change = self.advanced.follow
        market, orders, account = self.market, self.orders, self.account
        self.public: Mapping[str, Callable[[MethodCall], object]] = {
            "public/get-instruments": market.instruments,
            "public/get-risk-parameters": market.risk_parameters,
            "public/get-tickers": market.tickers,
            "public/get-book": market.book,
            "public/get-trades": market.trades,
            "public/get-candlestick": market.candlesticks,
            "public/get-valuations": market.valuations,
        }
        self.private: Mapping[str, Callable[[MethodCall], object]] = {
            "private/create-order": orders.create,
            "private/create-order-list": orders.create_list,
            "private/amend-order": orders.amend,
            "private/cancel-order": orders.cancel,
            "private/cancel-all-orders": orders.cancel_all,
            "private/get-open-orders": orders.open_orders,
            "private/get-order-detail": orders.detail,
            "private/get-order-history": orders.history,
            "private/get-trades": orders.trades,
            "private/user-balance": account.balance,
            "private/get-fee-rate": account.fee_rate,
            "private/get-instrument-fee-rate": account.instrument_fee_rate,
            "private/advanced/create-order": calls.create,
            "private/advanced/create-oco": calls.create_oco,
            "private/advanced/cancel-order": calls.cancel,
            "private/advanced/cancel-oco": calls.cancel_oco,
            "private/advanced/cancel-all-orders": calls.cancel_all,
            "private/advanced/get-open-orders": calls.open_orders,
            "private/advanced/get-order-detail": calls.detail,
            "private/advanced/get-order-list-detail": calls.list_detail,
            "private/advanced/get-order-history": calls.history,
        }

    def _bring(self, asked: Asked, client_oid: str) -> Order:
        book = self.venue.engine.books[asked.instrument]
        return self.orders.submit(asked, book, client_oid=client_oid, leg=True)


def new_ids() -> Callable[[], str]:
    """Ids as the venue's: 19 digits, growing, also over restarts."""
    counter = itertools.count(time.time_ns() * 3)
    return lambda: str(next(counter))
