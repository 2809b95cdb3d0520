"""Passive market making (MM): prices and sizes of quotes, and whether resting quotes stay.

Each quote keeps a distance from the fair price of half of what a round trip must earn (both maker fees and the minimum
profit). The fair price is the micro-price of the book without our own orders: the mid, weighted towards the thinner
side (Gatheral and Oomen 2010). With inventory both prices are lowered, so that it sells sooner and buys later. An ask
is never below its own lot's cost with fees and the minimum profit. Nothing is quoted if the spread is too narrow; a
side that isn't quoted has a code for the reason and a sentence with the numbers.

Prices in quote per base, sizes in base, money in quote currency, rates and profits as fractions (0.001 is 0.1 %).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from domain.market import Product
from domain.messages import OrderIntent
from domain.money import EXACT, ZERO, divide, plain, round_down, round_half_even, round_up
from domain.orders import OrderRole, Side
from domain.sizing import size_problem, sized

__all__ = [
    "QUOTES",
    "Level",
    "QuoteAnswer",
    "QuoteCode",
    "QuoteFacts",
    "QuotePlan",
    "QuoteRules",
    "Resting",
    "SellableLot",
    "Wanted",
    "dollar_twins",
    "leaves_after_quotes",
    "micro_price",
    "quote_plan",
    "without_own",
]


QUOTES = "passive_mm"
"""The trigger of the market maker's orders, in the settings and in the ledger."""


def leaves_after_quotes(intent: OrderIntent) -> bool:
    """Whether the market maker's quotes on the symbol are withdrawn before this sell: an exit, or a person's sell."""
    sells = intent.role is OrderRole.EXIT and intent.protection_role is None and not intent.by_market_maker
    return sells and not intent.past_quotes and not intent.dry_run


class QuoteCode(StrEnum):
    """The result for one side of a symbol in a round, or why nothing is quoted."""

    PLACED = "PLACED"
    KEPT = "KEPT"
    REPLACED = "REPLACED"
    DISABLED = "DISABLED"
    HALTED = "HALTED"
    VENUE_HALTED = "VENUE_HALTED"
    BLACKLISTED = "BLACKLISTED"
    HODL = "HODL"
    NOT_ON_LEADERBOARD = "NOT_ON_LEADERBOARD"
    EXIT_UNDER_WAY = "EXIT_UNDER_WAY"
    NO_MARKET_DATA = "NO_MARKET_DATA"
    EMPTY_BOOK = "EMPTY_BOOK"
    VOLUME_TOO_LOW = "VOLUME_TOO_LOW"
    SPREAD_TOO_NARROW = "SPREAD_TOO_NARROW"
    INVENTORY_FULL = "INVENTORY_FULL"
    NOTHING_TO_SELL = "NOTHING_TO_SELL"
    BELOW_MINIMUM_SIZE = "BELOW_MINIMUM_SIZE"


@dataclass(frozen=True, slots=True)
class Level:
    """A price level of the book: the size resting at a price."""

    price: Decimal
    size: Decimal


@dataclass(frozen=True, slots=True)
class QuoteRules:
    """The market maker's limits for one symbol."""

    min_profit: Decimal
    """Of a round trip, after both maker fees; a fraction of the price."""
    min_quote_volume: Decimal
    """Minimum volume of the last 24 hours, quote currency."""
    max_inventory: Decimal
    """Maximum inventory, held or in open bids, quote currency."""
    replace_after: Decimal
    """A quote further than this from its target price is replaced; a fraction of the price."""
    renew_seconds: Decimal = ZERO
    """A quote that expires sooner than this is replaced."""
    skew: Decimal = ZERO
    """With a full inventory both prices are lowered by this part of half the spread; 0 to 1."""
    size_quote: Decimal | None = None
    size_base: Decimal | None = None


@dataclass(frozen=True, slots=True)
class SellableLot:
    """Inventory that may be sold: of one trade, or of the pool (`entry_key` None).

    `size` excludes claims other than our own quotes'; `cost` is one unit's cost with fees (None: not known).
    """

    entry_key: str | None
    size: Decimal
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Resting:
    """One of our quotes that has not ended. `left` is unfilled; `life` the seconds until it expires, if known."""

    order_key: str
    side: Side
    price: Decimal
    left: Decimal
    entry_key: str | None = None
    life: Decimal | None = None

    @property
    def of_pool(self) -> bool:
        """An ask that sells from the pool."""
        return self.side is Side.SELL and self.entry_key is None


@dataclass(frozen=True, slots=True)
class QuoteFacts:
    """One read of everything a symbol's quotes depend on. The book's sides are best first and exclude our own
    orders."""

    symbol: str
    rules: QuoteRules
    product: Product | None = None
    bids: Sequence[Level] = ()
    asks: Sequence[Level] = ()
    maker: Decimal = ZERO
    volume: Decimal | None = None
    inventory: Decimal = ZERO
    """Base units held in the market maker's trades (and in the pool, where it may be sold)."""
    lots: Sequence[SellableLot] = ()
    """Oldest first."""
    resting: Sequence[Resting] = ()
    disabled: str = ""
    """Why nothing may be quoted, for a person; empty: quoting is allowed."""
    halted: str = ""
    blocked: bool = False
    hodl: bool = False
    off_leaderboard: bool = False
    exiting: bool = False
    unread: str = ""
    """Why the market could not be read; empty: it was."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A quote to place; an ask names the trade that it sells from (None: the pool)."""

    side: Side
    price: Decimal
    size: Decimal
    entry_key: str | None = None


@dataclass(frozen=True, slots=True)
class QuoteAnswer:
    """The result for one side, and why."""

    code: QuoteCode
    sentence: str
    price: Decimal | None = None
    size: Decimal | None = None


@dataclass(frozen=True, slots=True)
class QuotePlan:
    """The steps for one symbol: first cancel, then place quotes on sides that have none."""

    symbol: str
    bid: QuoteAnswer
    ask: QuoteAnswer
    place: Sequence[Wanted] = ()
    keep: Sequence[str] = ()
    cancel: Mapping[str, str] = field(default_factory=dict)
    """Order key → why."""
    numbers: Mapping[str, Decimal] = field(default_factory=dict)


_DOLLARS = ("USD", "USDC")


def dollar_twins(symbol: str) -> tuple[str, ...]:
    """The other names of a product's book: BTC-USD and BTC-USDC are one market at Coinbase (PROTOCOLS)."""
    base, _, quote = symbol.partition("-")
    return tuple(f"{base}-{other}" for other in _DOLLARS if other != quote) if quote in _DOLLARS else ()


def without_own(levels: Iterable[Level], own: Iterable[Resting], side: Side) -> list[Level]:
    """One side of the book without our own orders of that side."""
    mine: dict[Decimal, Decimal] = {}
    for item in own:
        if item.side is side:
            mine[item.price] = mine.get(item.price, ZERO) + item.left
    return [
        Level(level.price, level.size - mine.get(level.price, ZERO))
        for level in levels
        if level.size > mine.get(level.price, ZERO)
    ]


def micro_price(bid: Level, ask: Level) -> Decimal:
    """The mid, weighted by the other side's size: a larger bid side moves it up.

    Source: J. Gatheral, R. Oomen, "Zero-intelligence realized variance estimation", 2010.
    """
    both = bid.size + ask.size
    if both <= 0:
        return divide(bid.price + ask.price, Decimal(2))
    return divide(EXACT.multiply(bid.price, ask.size) + EXACT.multiply(ask.price, bid.size), both)


def quote_plan(facts: QuoteFacts) -> QuotePlan:
    """Both sides of one symbol: which quotes are placed, kept, replaced or cancelled, and why."""
    stop = _stopped(facts)
    if stop is not None:
        return _nothing(facts, stop, {})
    product, bid, ask = facts.product, facts.bids[0], facts.asks[0]
    assert product is not None  # noqa: S101 - _stopped has refused it
    rules = facts.rules
    mid = divide(bid.price + ask.price, Decimal(2))
    spread = divide(ask.price - bid.price, mid)
    needed = 2 * facts.maker + rules.min_profit
    fair = micro_price(bid, ask)
    held = EXACT.multiply(facts.inventory, fair)
    numbers = {
        "bid": bid.price,
        "ask": ask.price,
        "spread": spread,
        "maker_fee": facts.maker,
        "min_profit": rules.min_profit,
        "needed_spread": needed,
        "fair_price": fair,
        "inventory": held,
        "max_inventory": rules.max_inventory,
    }
    if facts.volume is not None:
        numbers["quote_volume"] = facts.volume
    if rules.min_quote_volume > 0 and (facts.volume is None or facts.volume < rules.min_quote_volume):
        volume = "not known" if facts.volume is None else plain(round_half_even(facts.volume))
        why = f"24 h volume is {volume}, the minimum is {plain(rules.min_quote_volume)} {product.quote}"
        return _nothing(facts, QuoteAnswer(QuoteCode.VOLUME_TOO_LOW, why), numbers)
    if spread <= needed:
        why = (
            f"the spread is {_pct(spread)}, fees of both sides ({_pct(2 * facts.maker)}) and the minimum profit "
            f"({_pct(rules.min_profit)}) need {_pct(needed)}"
        )
        return _nothing(facts, QuoteAnswer(QuoteCode.SPREAD_TOO_NARROW, why), numbers)
    full = min(divide(held, rules.max_inventory), Decimal(1)) if rules.max_inventory > 0 else Decimal(1)
    lean = EXACT.multiply(rules.skew * full, divide(ask.price - bid.price, Decimal(2)))
    half, tick = needed / 2, product.price_increment
    bid_price = round_down(min(bid.price - lean, fair * (1 - half)), tick)
    ask_price = round_up(max(ask.price - lean, fair * (1 + half), bid.price + tick), tick)
    draft = _Draft(facts, product)
    bid_answer = draft.bid(bid_price, rules.max_inventory - held)
    ask_answer = draft.ask(ask_price)
    return QuotePlan(
        facts.symbol, bid_answer, ask_answer, tuple(draft.place), tuple(draft.keep), dict(draft.cancel), numbers
    )


def _stopped(facts: QuoteFacts) -> QuoteAnswer | None:
    """Why neither side may be quoted, from checks that need no prices."""
    product, symbol = facts.product, facts.symbol
    if facts.disabled:
        return QuoteAnswer(QuoteCode.DISABLED, facts.disabled)
    if facts.halted:
        return QuoteAnswer(QuoteCode.HALTED, facts.halted)
    if facts.blocked:
        return QuoteAnswer(QuoteCode.BLACKLISTED, f"{symbol} is on the block list")
    if facts.hodl:
        return QuoteAnswer(QuoteCode.HODL, f"{symbol} is on the HODL list: bought coins could not be sold")
    if facts.off_leaderboard:
        return QuoteAnswer(
            QuoteCode.NOT_ON_LEADERBOARD,
            f"trades on {symbol} have not earned it a place on the leaderboard",
        )
    if facts.exiting:
        return QuoteAnswer(QuoteCode.EXIT_UNDER_WAY, f"a trade on {symbol} is being sold")
    if facts.unread:
        return QuoteAnswer(QuoteCode.NO_MARKET_DATA, facts.unread)
    if product is None:
        return QuoteAnswer(QuoteCode.NO_MARKET_DATA, f"the exchange has no product {symbol}")
    if product.halted or product.cancel_only:
        return QuoteAnswer(QuoteCode.VENUE_HALTED, f"{symbol} is not open for trading at the exchange")
    if not facts.bids or not facts.asks or facts.bids[0].price >= facts.asks[0].price:
        return QuoteAnswer(QuoteCode.EMPTY_BOOK, "without our own orders the book has no two sides to quote between")
    return None


def _nothing(facts: QuoteFacts, answer: QuoteAnswer, numbers: Mapping[str, Decimal]) -> QuotePlan:
    cancel = {item.order_key: answer.sentence for item in facts.resting}
    return QuotePlan(facts.symbol, answer, answer, cancel=cancel, numbers=numbers)


class _Draft:
    """Collects the steps for both sides."""

    def __init__(self, facts: QuoteFacts, product: Product) -> None:
        self._facts = facts
        self._product = product
        self.place: list[Wanted] = []
        self.keep: list[str] = []
        self.cancel: dict[str, str] = {}

    def bid(self, price: Decimal, room: Decimal) -> QuoteAnswer:
        """The buying side at `price`, within the `room` that the inventory's limit leaves (quote currency)."""
        rules, product = self._facts.rules, self._product
        resting = self._of(Side.BUY)
        if price <= 0:
            return self._none(resting, QuoteCode.EMPTY_BOOK, "the price would not be positive")
        target = rules.size_base if rules.size_base is not None else divide(rules.size_quote or ZERO, price)
        capped = min(target, divide(max(room, ZERO), price))
        size = min(sized(capped, product), round_down(product.base_max, product.base_increment))
        problem = size_problem(size, price, product)
        if problem is not None:
            if capped < target:
                return self._none(
                    resting,
                    QuoteCode.INVENTORY_FULL,
                    f"the inventory is worth {plain(round_half_even(rules.max_inventory - room))} "
                    f"{product.quote}, the limit is {plain(rules.max_inventory)}",
                )
            return self._none(resting, QuoteCode.BELOW_MINIMUM_SIZE, problem[1])
        wanted = Wanted(Side.BUY, price, size)
        kept = next((item for item in resting if self._fits(item, wanted) and item.left * item.price <= room), None)
        return self._settle(resting, kept, wanted)

    def ask(self, price: Decimal) -> QuoteAnswer:
        """The selling side: the lot whose price can be nearest to `price`, the oldest of several."""
        rules, maker, product = self._facts.rules, self._facts.maker, self._product
        resting = self._of(Side.SELL)
        found: list[Wanted] = []
        for lot in self._facts.lots:
            at = price
            if lot.cost is not None:
                least = divide(EXACT.multiply(lot.cost, 1 + rules.min_profit), 1 - maker)
                at = max(price, round_up(least, product.price_increment))
            size = min(sized(lot.size, product), round_down(product.base_max, product.base_increment))
            if size_problem(size, at, product) is None:
                found.append(Wanted(Side.SELL, at, size, lot.entry_key))
        if not found:
            return self._none(resting, QuoteCode.NOTHING_TO_SELL, "there is no inventory that may be sold")
        nearest = min(item.price for item in found)
        first = next(item for item in found if item.price == nearest)
        # One that rests goes on with its own lot, as long as no other could be sold nearer.
        kept = next(
            (
                item
                for item in resting
                for mine in found
                if mine.entry_key == item.entry_key and mine.price == nearest and self._fits(item, mine)
            ),
            None,
        )
        return self._settle(resting, kept, first)

    def _of(self, side: Side) -> list[Resting]:
        return [item for item in self._facts.resting if item.side is side]

    def _fits(self, item: Resting, wanted: Wanted) -> bool:
        rules = self._facts.rules
        alive = item.life is None or item.life >= rules.renew_seconds
        return alive and item.left > 0 and abs(item.price - wanted.price) <= rules.replace_after * wanted.price

    def _settle(self, resting: Sequence[Resting], kept: Resting | None, wanted: Wanted) -> QuoteAnswer:
        price, tick = plain(wanted.price), f"{plain(wanted.size)} at {plain(wanted.price)}"
        for item in resting:
            if item is kept:
                self.keep.append(item.order_key)
            else:
                old = item.life is not None and item.life < self._facts.rules.renew_seconds
                moved = "it is about to expire" if old else f"the market moved: {plain(item.price)} should be {price}"
                self.cancel[item.order_key] = moved
        if kept is not None:
            sentence = f"{plain(kept.left)} at {plain(kept.price)} stay where they are"
            return QuoteAnswer(QuoteCode.KEPT, sentence, kept.price, kept.left)
        if resting:
            return QuoteAnswer(QuoteCode.REPLACED, f"replaced by {tick}", wanted.price, wanted.size)
        self.place.append(wanted)
        return QuoteAnswer(QuoteCode.PLACED, tick, wanted.price, wanted.size)

    def _none(self, resting: Iterable[Resting], code: QuoteCode, sentence: str) -> QuoteAnswer:
        for item in resting:
            self.cancel[item.order_key] = sentence
        return QuoteAnswer(code, sentence)


def _pct(fraction: Decimal) -> str:
    return f"{plain(round_half_even(fraction * 100, Decimal('0.0001')))} %"
