"""A small client of the control interface, for tests and demonstrations. Numbers are passed as Decimal or text."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from domain.errors import BotTraderError

__all__ = ["ControlError", "PaperControl"]

Number = Decimal | str | int


class ControlError(BotTraderError):
    """The control interface refused: `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PaperControl:
    """Controls a paper exchange. Use as `async with PaperControl(addresses) as control`, or `close()` it.

    `addresses` are what the exchange prints with `--json`; of them `control` and `control_token_file` are used.
    """

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self._url = addresses["control"].rstrip("/")
        self._token_file = Path(addresses["control_token_file"])
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """One request. Raises `ControlError` if it is refused, OSError if the token can't be read."""
        if self._session is None:
            token = self._token_file.read_text(encoding="ascii").strip()
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=30), headers={"Authorization": f"Bearer {token}"}
            )
        async with self._session.request(method, self._url + path, json=body) as response:
            answer: dict[str, Any] = await response.json()
            if response.status != 200:
                raise ControlError(str(answer.get("error")), str(answer.get("message")))
            return answer

    # -- the market

    async def set_price(self, product_id: str, bid: Number, ask: Number, size: Number | None = None) -> dict[str, Any]:
        """Set the quote; resting orders that it crosses fill, at most `size` base in total (None: all of them)."""
        return await self.call(
            "POST",
            "/price",
            {"product_id": product_id, "bid": str(bid), "ask": str(ask), "size": None if size is None else str(size)},
        )

    async def trade(self, product_id: str, price: Number, size: Number, side: str | None = None) -> dict[str, Any]:
        """Somebody trades `size` base at `price` (`side` is the aggressor's); orders at or better than it fill."""
        return await self.call(
            "POST", "/trade", {"product_id": product_id, "price": str(price), "size": str(size), "side": side}
        )

    async def step(self, ticks: int = 1) -> int:
        """Advance by source ticks. Returns how many there were."""
        return int((await self.call("POST", "/step", {"ticks": ticks}))["applied"])

    async def advance(self, seconds: float) -> None:
        """Move market time (candles) forward without a trade."""
        await self.call("POST", "/advance", {"seconds": seconds})

    async def pause(self, paused: bool = True) -> None:
        """Hold or resume a market that runs by itself."""
        await self.call("POST", "/pause", {"paused": paused})

    # -- orders and money

    async def fill(self, order_id: str, size: Number, price: Number | None = None) -> dict[str, Any]:
        """Fill a resting order with `size` base. Returns the updated order."""
        return dict(
            (
                await self.call(
                    "POST",
                    "/fill",
                    {"order_id": order_id, "size": str(size), "price": None if price is None else str(price)},
                )
            )["order"]
        )

    async def order(self, product_id: str, side: str, configuration: Mapping[str, object]) -> dict[str, Any]:
        """Place a manual order, as from the exchange's app."""
        return dict(
            (
                await self.call(
                    "POST", "/order", {"product_id": product_id, "side": side, "order_configuration": configuration}
                )
            )["order"]
        )

    async def cancel(self, order_id: str, reason: str | None = None) -> dict[str, Any]:
        """Cancel any order, as a person does in the exchange's app; with a `reason`, as the exchange does by itself."""
        return await self.call("POST", "/cancel", {"order_id": order_id, **({"reason": reason} if reason else {})})

    async def deposit(self, currency: str, amount: Number) -> None:
        """Put money in."""
        await self.call("POST", "/deposit", {"currency": currency, "amount": str(amount)})

    async def withdraw(self, currency: str, amount: Number) -> None:
        """Take money out."""
        await self.call("POST", "/withdraw", {"currency": currency, "amount": str(amount)})

    async def product(self, product_id: str, **flags: bool | str) -> dict[str, Any]:
        """Change trading flags: cancel_only, limit_only, post_only, trading_disabled, status ("online", "delisted")."""
        return await self.call("POST", "/product", {"product_id": product_id, **flags})

    # -- Crypto.com's alone

    async def mark(
        self, product_id: str, price: Number | None = None, *, missing: bool = False, stale: bool = False
    ) -> None:
        """Set a mark price apart from the last trade (None: let it follow), let it be missing, or old."""
        given = None if price is None else str(price)
        await self.call("POST", "/mark", {"product_id": product_id, "price": given, "missing": missing, "stale": stale})

    async def advanced(self) -> list[dict[str, Any]]:
        """Every advanced order, oldest first."""
        return list((await self.call("POST", "/advanced", {}))["orders"])

    async def legs_on_user_order(self, shown: bool) -> None:
        """Whether the channel user.order tells the orders of advanced orders, too (it does until this is called)."""
        await self.call("POST", "/legs", {"on_user_order": shown})

    # -- latencies, clock, faults

    async def latency(self, **seconds: float | None) -> None:
        """Set `accept` and `cancel` latency in seconds; None holds orders or cancels until released."""
        await self.call("POST", "/latency", dict(seconds))

    async def waiting_status(self, status: str) -> None:
        """State of orders that wait for acceptance: PENDING or QUEUED."""
        await self.call("POST", "/latency", {"status": status})

    async def accept(self, order_id: str) -> dict[str, Any]:
        """Bring a held order to the market. Returns the updated order."""
        return dict((await self.call("POST", "/accept", {"order_id": order_id}))["order"])

    async def finish_cancel(self, order_id: str) -> dict[str, Any]:
        """Let a held cancel take effect. Returns the updated order."""
        return dict((await self.call("POST", "/finish_cancel", {"order_id": order_id}))["order"])

    async def skew(self, seconds: float) -> None:
        """Set the exchange's clock ahead of the wall clock by this many seconds."""
        await self.call("POST", "/skew", {"seconds": seconds})

    async def fault(self, kind: str, scope: str = "*", **settings: float | None) -> int:
        """Switch a fault on (`count`, `probability`, `delay`, `status`, `duration`, `skip`, `share`); returns its
        id."""
        return int((await self.call("POST", "/faults", {"kind": kind, "scope": scope, **settings}))["fault_id"])

    async def clear_faults(self, fault_id: int | None = None) -> int:
        """Switch off one fault, or all. Returns how many."""
        return int((await self.call("DELETE", "/faults", {"fault_id": fault_id}))["cleared"])

    async def sockets(self, action: str, path: str = "*", code: int = 1000) -> int:
        """`drop`, `close` or `half_open` every stream connection of `path` (market, user, *). Returns how many."""
        return int((await self.call("POST", "/sockets", {"action": action, "path": path, "code": code}))["sockets"])

    # -- the exchange's own records

    async def state(self) -> dict[str, Any]:
        """Clock, market time, speed and quotes."""
        return await self.call("GET", "/state")

    async def orders(self) -> list[dict[str, Any]]:
        """Every order, oldest first."""
        return list((await self.call("GET", "/orders"))["orders"])

    async def fills(self) -> list[dict[str, Any]]:
        """Every fill with its client order id, oldest first."""
        return list((await self.call("GET", "/fills"))["fills"])

    async def balances(self) -> dict[str, dict[str, Decimal]]:
        """Total, hold, available and net deposits by currency."""
        answer = await self.call("GET", "/balances")
        return {name: {key: Decimal(value) for key, value in row.items()} for name, row in answer["balances"].items()}

    async def journal(self) -> list[dict[str, Any]]:
        """Every create-order request seen: client_order_id, order_id, time, duplicate, refused."""
        return list((await self.call("GET", "/journal"))["journal"])

    async def cancels(self) -> list[dict[str, Any]]:
        """Every requested cancel: time, order_id, `by` ("API" or "app"), and why it was refused ("" if it wasn't)."""
        return list((await self.call("GET", "/cancels"))["cancels"])

    async def connections(self) -> list[dict[str, Any]]:
        """The open stream connections with their subscriptions."""
        return list((await self.call("GET", "/sockets"))["sockets"])
