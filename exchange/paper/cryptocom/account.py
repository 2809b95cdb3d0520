"""Methods for the account: balances and fee rates."""

from __future__ import annotations

from decimal import Decimal

from exchange.paper.cryptocom import render
from exchange.paper.cryptocom.answers import Answered
from exchange.paper.cryptocom.requests import MethodCall, text
from exchange.paper.venue import PaperVenue

__all__ = ["AccountViews"]

_BPS = 10_000
_DOLLARS = ("USD", "USDT")


class AccountViews:
    """Answers for `private/...` of the account; each method is one of the venue's."""

    def __init__(self, venue: PaperVenue) -> None:
        self._venue = venue
        self._engine = venue.engine

    def balance(self, call: MethodCall) -> object:
        """`user-balance`."""
        return {"data": [render.balance(self._venue.account(call.lag).balances, self._prices())]}

    def balance_now(self) -> dict[str, object]:
        """The balances as `user.balance` shows them."""
        return render.balance(self._engine.wallet.all(), self._prices())

    def _prices(self) -> dict[str, Decimal]:
        """What each currency is worth in USD, as far as instruments tell."""
        prices = dict.fromkeys(_DOLLARS, Decimal(1))
        for book in self._engine.books.values():
            if book.product.quote in _DOLLARS:
                prices.setdefault(book.product.base, book.last)
        return prices

    def fee_rate(self, call: MethodCall) -> object:
        """`get-fee-rate`: of the account's tier, which is not what every instrument charges."""
        fees = self._engine.fees
        return {
            "spot_tier": "1",
            "deriv_tier": "1",
            "effective_spot_maker_rate_bps": _bps(fees.maker),
            "effective_spot_taker_rate_bps": _bps(fees.taker),
            "effective_deriv_maker_rate_bps": _bps(fees.maker),
            "effective_deriv_taker_rate_bps": _bps(fees.taker),
        }

    def instrument_fee_rate(self, call: MethodCall) -> object:
        """`get-instrument-fee-rate`: what an instrument charges."""
        name = text(call.params, "instrument_name")
        if name not in self._engine.books:
            raise Answered(40004 if name is None else 209)
        fees = self._engine.product_fees.get(name, self._engine.fees)
        return {
            "instrument_name": name,
            "effective_maker_rate_bps": _bps(fees.maker),
            "effective_taker_rate_bps": _bps(fees.taker),
        }


def _bps(rate: Decimal) -> str:
    return f"{rate * _BPS:.10f}"
