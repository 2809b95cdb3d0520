"""The demonstration's audit: our books against the exchange's own, order by order and to the cent.

The paper exchange is queried over its control interface, which shows its own state, not what the system received.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from domain.money import CENT, EXACT, ZERO, divide, round_half_even

__all__ = [
    "AuditedAccount",
    "Duplicates",
    "LinkageCount",
    "Outcome",
    "account",
    "books_agree",
    "duplicates",
    "linkage",
    "outcomes",
    "won_and_lost",
]


@dataclass(frozen=True, slots=True)
class LinkageCount:
    """Filled orders that the system placed, and how many have a linkage (LINK-1)."""

    filled: int
    linked: int
    missing: tuple[str, ...] = ()

    @property
    def percent(self) -> Decimal:
        """The linkage rate in percent; 0 when nothing has filled."""
        return round_half_even(divide(Decimal(100 * self.linked), Decimal(self.filled))) if self.filled else ZERO


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What was sent to the exchange: everything but the first two must be zero."""

    attempts: int
    requests: int
    repeated_requests: int
    repeated_orders: int
    unknown_requests: int

    @property
    def total(self) -> int:
        """Everything that was sent twice, or that the journal doesn't know."""
        return self.repeated_requests + self.repeated_orders + self.unknown_requests


@dataclass(frozen=True, slots=True)
class AuditedAccount:
    """Both sides of the same account, in USD: ours is start + realised gain + unrealised gain of open lots."""

    start: Decimal
    realised: Decimal
    open_gain: Decimal
    open_value: Decimal
    exchange: Decimal
    marks: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def ours(self) -> Decimal:
        """The account's value by our books."""
        return self.start + self.realised + self.open_gain

    @property
    def equal(self) -> bool:
        """Whether both are the same to the cent."""
        return round_half_even(self.ours, CENT) == round_half_even(self.exchange, CENT)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What some closed trades came to, in quote: `net` is `gross` less `fees`; `reasons` say how they were left.

    `eaten` of them had gained something, and less than their fees.
    """

    count: int
    gross: Decimal
    fees: Decimal
    reasons: Mapping[str, int]
    eaten: int

    @property
    def net(self) -> Decimal:
        """What is left."""
        return self.gross - self.fees


def won_and_lost(trades: Sequence[Mapping[str, Any]]) -> tuple[Outcome, Outcome]:
    """The closed ones among `trades`: those that gained after fees, and the others."""
    closed = [trade for trade in trades if trade["state"] == "CLOSED" and trade["pnl"] is not None]
    won = [trade for trade in closed if trade["pnl"] > 0]
    lost = [trade for trade in closed if trade["pnl"] <= 0]
    return _outcome(won), _outcome(lost)


def outcomes(trades: Sequence[Mapping[str, Any]]) -> dict[str, Outcome]:
    """What the closed ones among `trades` came to, by how they were left."""
    closed = [trade for trade in trades if trade["state"] == "CLOSED" and trade["pnl"] is not None]
    reasons = sorted({trade["reason"] or "" for trade in closed})
    return {reason: _outcome([trade for trade in closed if (trade["reason"] or "") == reason]) for reason in reasons}


def _outcome(trades: Sequence[Mapping[str, Any]]) -> Outcome:
    return Outcome(
        count=len(trades),
        gross=sum((trade["gross"] for trade in trades), ZERO),
        fees=sum((trade["fees"] for trade in trades), ZERO),
        reasons=Counter(trade["reason"] for trade in trades),
        eaten=sum(1 for trade in trades if trade["gross"] > 0 >= trade["pnl"]),
    )


async def linkage(ledger: Any) -> LinkageCount:
    """How many of the filled orders in our journal have a row in `trade_strategy_link`."""
    rows = await ledger.fetch(
        """SELECT o.order_key, l.order_key IS NOT NULL AS linked FROM orders o
           LEFT JOIN trade_strategy_link l USING (order_key) WHERE o.filled_size > 0 AND o.role <> 'EXTERNAL'"""
    )
    missing = tuple(row["order_key"] for row in rows if not row["linked"])
    return LinkageCount(len(rows), len(rows) - len(missing), missing)


async def duplicates(
    ledger: Any, journal: Sequence[Mapping[str, Any]], orders: Sequence[Mapping[str, Any]]
) -> Duplicates:
    """Compare the exchange's journal of requests and its orders with the attempts that we sent."""
    # One that was withdrawn in the moment before it was sent has a row, and no request.
    rows = await ledger.fetch("SELECT client_order_id, sends FROM attempts")
    known = {row["client_order_id"] for row in rows}
    requests = Counter(str(entry["client_order_id"]) for entry in journal)
    placed = Counter(str(order["client_order_id"]) for order in orders)
    return Duplicates(
        attempts=sum(1 for row in rows if row["sends"] > 0),
        requests=len(journal),
        repeated_requests=sum(count - 1 for count in requests.values()),
        repeated_orders=sum(count - 1 for count in placed.values()),
        unknown_requests=len(set(requests) - known),
    )


async def books_agree(ledger: Any, fills: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every fill of the exchange is in our books, and none of our orders is still working."""
    theirs: dict[str, Decimal] = {}
    for fill in fills:
        theirs[fill["order_id"]] = theirs.get(fill["order_id"], ZERO) + Decimal(fill["size"])
    rows = await ledger.fetch("SELECT exchange_order_id AS id, sum(size) AS size FROM fills GROUP BY exchange_order_id")
    ours = {row["id"]: row["size"] for row in rows}
    busy = await ledger.fetchval("SELECT count(*) FROM orders WHERE NOT finished")
    return not busy and ours == theirs


async def account(
    ledger: Any, balances: Mapping[str, Mapping[str, Decimal]], marks: Mapping[str, Decimal]
) -> AuditedAccount:
    """Our account from the FIFO book, and the exchange's from its balances, at the same `marks` (USD per base)."""
    realised = await ledger.fetchval("SELECT coalesce(sum(pnl), 0) FROM fifo_allocations")
    lots = await ledger.fetch(
        """SELECT symbol, lot_remaining, value + quote_fees AS cost, size - base_fees AS bought FROM fills
           WHERE side = 'BUY' AND lot_remaining > 0"""
    )
    value = gain = ZERO
    for lot in lots:
        worth = EXACT.multiply(lot["lot_remaining"], marks[lot["symbol"]])
        value += worth
        gain += worth - divide(EXACT.multiply(lot["cost"], lot["lot_remaining"]), lot["bought"])
    theirs = ZERO
    for currency, balance in balances.items():
        price = Decimal(1) if currency == "USD" else marks.get(f"{currency}-USD", ZERO)
        theirs += EXACT.multiply(balance["total"], price)
    return AuditedAccount(
        start=balances["USD"]["deposited"],
        realised=realised,
        open_gain=gain,
        open_value=value,
        exchange=theirs,
        marks=dict(marks),
    )
