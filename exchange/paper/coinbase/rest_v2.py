"""The older paths under /v2 that ccxt calls in addition to Advanced Trade's: time, currencies, rates and accounts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal

from exchange.paper.coinbase.requests import Call
from exchange.paper.currencies import FIAT
from exchange.paper.errors import ApiError
from exchange.paper.numbers import plain, rfc3339
from exchange.paper.venue import PaperVenue
from exchange.paper.wallet import WalletBalance

PREFIX = "/v2"
PRIVATE = ("/v2/accounts",)
_RATE = Context(prec=16, rounding=ROUND_HALF_EVEN)
_ASSETS = uuid.UUID("5b0b5e0c-6d0c-4f55-8f0e-7f2f1a3d9c11")  # names of our own; the venue's asset ids are its own
_SCALE = 8


class OlderViews:
    """Answers for the /v2 paths; each method is one path."""

    def __init__(self, venue: PaperVenue) -> None:
        self._venue = venue
        self._engine = venue.engine

    def time(self, call: Call) -> object:
        """`GET /v2/time`."""
        now = self._venue.now()
        return {"data": {"iso": f"{now:%Y-%m-%dT%H:%M:%SZ}", "epoch": int(now.timestamp())}}

    def currencies(self, call: Call) -> object:
        """`GET /v2/currencies`: the fiat ones."""
        return {"data": [{"id": code, "name": name, "min_size": "0.01"} for code, name in FIAT.items()]}

    def crypto(self, call: Call) -> object:
        """`GET /v2/currencies/crypto`: all non-fiat currencies that are traded or held here."""
        names = self._names()
        return {"data": [_asset(code, names[code], at) for at, code in enumerate(sorted(names)) if code not in FIAT]}

    def exchange_rates(self, call: Call) -> object:
        """`GET /v2/exchange-rates`: how much of each currency one `currency` is worth, if a product gives the price."""
        wanted = (call.one("currency") or "USD").upper()
        worth = self._worth_in_usd()
        if wanted not in worth:
            raise ApiError(400, "invalid_request", "Invalid currency")
        rates = {code: plain(_RATE.divide(worth[wanted], value)) for code, value in sorted(worth.items())}
        return {"data": {"currency": wanted, "rates": rates}}

    def accounts(self, call: Call) -> object:
        """`GET /v2/accounts`: a page that starts after the account `starting_after`."""
        balances = self._engine.wallet.all()
        after = call.one("starting_after")
        places = {balance.account_id: place for place, balance in enumerate(balances, start=1)}
        if after is not None and after not in places:
            raise ApiError(400, "validation_error", "starting_after is not an account")
        start, limit = places.get(after or "", 0), call.limit(25, 250)
        page = balances[start : start + limit]
        more = start + limit < len(balances)
        last = page[-1].account_id if page and more else None
        names = self._names()
        return {
            "pagination": {
                "ending_before": None,
                "starting_after": after,
                "previous_ending_before": None,
                "next_starting_after": last,
                "limit": limit,
                "order": "desc",
                "previous_uri": None,
                "next_uri": f"/v2/accounts?limit={limit}&starting_after={last}" if last else None,
            },
            "data": [self._account(balance, names.get(balance.currency, "")) for balance in page],
        }

    def _account(self, balance: WalletBalance, name: str) -> dict[str, object]:
        code, at = balance.currency, rfc3339(self._venue.created)
        fiat = code in FIAT
        currency: dict[str, object] = _asset(code, name, 0)
        if fiat:
            currency = {"code": code, "name": FIAT[code], "exponent": 2, "type": "fiat"}
        return {
            "id": balance.account_id,
            "name": f"{code} Wallet",
            "primary": False,
            "type": "fiat" if fiat else "wallet",
            "currency": currency,
            "balance": {"amount": plain(balance.total), "currency": code},
            "created_at": at,
            "updated_at": at,
            "resource": "account",
            "resource_path": f"/v2/accounts/{balance.account_id}",
            "allow_deposits": True,
            "allow_withdrawals": True,
        }

    def _names(self) -> dict[str, str]:
        """Each currency's name, "" if no product has it."""
        found = dict.fromkeys((balance.currency for balance in self._engine.wallet.all()), "")
        for book in self._engine.books.values():
            product = book.product
            found[product.quote] = found.get(product.quote) or product.quote_name
            found[product.base] = found.get(product.base) or product.base_name
        return found

    def _worth_in_usd(self) -> dict[str, Decimal]:
        """The value of one unit of each currency in USD, by the last price of its product with USD on either side."""
        return {"USD": Decimal(1), **dict(self._usd_prices())}

    def _usd_prices(self) -> Iterator[tuple[str, Decimal]]:
        for book in self._engine.books.values():
            product = book.product
            if product.quote == "USD":
                yield product.base, book.last
            elif product.base == "USD":
                yield product.quote, 1 / book.last


def _asset(code: str, name: str, place: int) -> dict[str, object]:
    return {
        "asset_id": str(uuid.uuid5(_ASSETS, code)),
        "code": code,
        "name": name or code,
        "color": "#0052FF",
        "sort_index": place,
        "exponent": _SCALE,
        "type": "crypto",
        "address_regex": "",
    }
