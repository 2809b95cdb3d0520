"""A round of market making: reads markets, inventory and resting quotes, decides with `domain.quoting`, stores every
reason.

No state is kept between rounds: resting quotes and sellable inventory come from the ledger and the position book. The
order book is read again for each symbol and our own orders are removed from it, so that the market maker never follows
itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog
from temporalio import activity

from activities.database import Connection, Pool
from activities.interfaces.quotes import (
    PlanQuotes,
    QuotedSymbol,
    QuoteRoundPlan,
    QuoteRoundReport,
    QuotingActivities,
    SettleQuotes,
)
from activities.ledger.holdings import coins
from activities.ledger.leaderboard import leaderboard
from activities.orders.group_controls import why_halted
from activities.venue import Venue
from domain.entries import QUOTE_VALID_SECONDS, TriggerRules, quote_bid
from domain.intents import quote_ask
from domain.leaderboard import trusted_symbols
from domain.limit_groups import LimitGroup
from domain.messages import IndicatorPart, Linkage, OrderIntent
from domain.money import ZERO, average, divide, plain, round_half_even
from domain.orders import EntryPoint, Side
from domain.quoting import (
    QUOTES,
    Level,
    QuoteFacts,
    QuotePlan,
    QuoteRules,
    Resting,
    SellableLot,
    Wanted,
    dollar_twins,
    quote_plan,
    without_own,
)
from exchange.port import ExchangeError

__all__ = ["Quoting", "QuotingOptions"]

_log = structlog.get_logger()
_DEPTH = 20
_MARKET_SECONDS = 8.0
_AT_ONCE = 4
_VOLUME_SECONDS = 600.0
_SETTLE_SECONDS = 5.0
_LOOK_SECONDS = 0.05
_SHOWN = Decimal("1e-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotingOptions:
    """The market maker's settings. Fractions, quote currency, market seconds unless said otherwise."""

    account: str
    rules: QuoteRules
    symbols: Sequence[str] = ()
    enabled: bool = False
    blocked: frozenset[str] = frozenset()
    hodl: frozenset[str] = frozenset()
    leaderboard_places: int | None = None
    """Only products within these places of the leaderboard are quoted; None: all."""
    use_unowned: bool = False
    trigger: TriggerRules = field(default_factory=TriggerRules)
    """The rules of its bids; asks expire likewise."""
    groups: tuple[LimitGroup, ...] = ()
    """The strategy and the trigger whose halt stops quotes, too."""
    speed: Decimal = Decimal(1)
    keep_days: int = 30
    """Wall days for which the rounds' reasons are kept."""


@dataclass(slots=True)
class _Ledger:
    """One read of the ledger, by symbol."""

    halted: str = ""
    resting: dict[str, list[Resting]] = field(default_factory=dict)
    others: dict[str, list[Resting]] = field(default_factory=dict)
    """Symbol → the account's orders in the same order book that are not quotes of the symbol itself: entries, exits, a
    person's orders, and orders under its twin's name."""
    lots: dict[str, list[SellableLot]] = field(default_factory=dict)
    inventory: dict[str, Decimal] = field(default_factory=dict)
    pool: dict[str, Decimal] = field(default_factory=dict)
    """Coin → the unowned size by the books; our resting asks have claimed theirs."""
    exiting: set[str] = field(default_factory=set)
    volume: dict[str, Decimal] = field(default_factory=dict)
    listed: set[str] | None = None


class Quoting(QuotingActivities):
    """The market maker's activities. `options` returns the settings in force; it is called at every round."""

    def __init__(
        self,
        pool: Pool,
        venue: Venue,
        options: Callable[[], QuotingOptions],
        trouble: Callable[[], str] = lambda: "",
    ) -> None:
        self._trouble = trouble
        self._pool = pool
        self._venue = venue
        self._options = options
        self._volumes: dict[str, tuple[float, Decimal]] = {}

    @activity.defn(name="plan_quotes")
    async def plan_quotes(self, request: PlanQuotes) -> QuoteRoundPlan:
        """Raises the database's errors; a market that can't be read is a reason not to quote it."""
        options = self._options()
        ledger = await self._read_ledger(options)
        quoted = list(options.symbols) if options.enabled else []
        symbols = list(dict.fromkeys([*quoted, *ledger.resting]))
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(symbol: str) -> QuoteFacts:
            async with slots:
                return await self._facts(symbol, options, ledger, quoted=symbol in quoted)

        plans = [quote_plan(facts) for facts in await asyncio.gather(*(one(symbol) for symbol in symbols))]
        now = datetime.now(UTC)
        place = {
            (plan.symbol, wanted.side): _intent(plan, wanted, request.snapshot_id, options, now)
            for plan in plans
            for wanted in plan.place
        }
        await self._store(request, plans, {key: intent.order_key for key, intent in place.items()}, options)
        return QuoteRoundPlan(
            cancel=tuple(key for plan in plans for key in plan.cancel),
            place=tuple(place.values()),
            symbols=tuple(_quoted(plan) for plan in plans),
        )

    @activity.defn(name="settle_quotes")
    async def settle_quotes(self, request: SettleQuotes) -> QuoteRoundReport:
        """Raises the database's errors."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            rows = await self._pool.fetch(
                "SELECT order_key, gate FROM orders WHERE order_key = ANY($1::text[])", list(request.keys)
            )
            if len(rows) == len(request.keys) or time.monotonic() >= deadline:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        gates = {row["order_key"]: row["gate"] for row in rows}
        return QuoteRoundReport(
            snapshot_id=request.snapshot_id,
            admitted=tuple(key for key, gate in gates.items() if gate is None),
            refused={key: gate for key, gate in gates.items() if gate is not None},
            unknown=tuple(key for key in request.keys if key not in gates),
        )

    # --- facts --------------------------------------------------------------------------------------------------------

    async def _facts(self, symbol: str, options: QuotingOptions, ledger: _Ledger, *, quoted: bool) -> QuoteFacts:
        resting = ledger.resting.get(symbol, [])
        facts = QuoteFacts(
            symbol,
            options.rules,
            inventory=ledger.inventory.get(symbol, ZERO),
            lots=ledger.lots.get(symbol, ()),
            resting=resting,
            disabled=_why_not(options, quoted=quoted),
            halted=ledger.halted,
            blocked=symbol in options.blocked,
            hodl=symbol in options.hodl,
            off_leaderboard=ledger.listed is not None and symbol not in ledger.listed,
            exiting=symbol in ledger.exiting,
            volume=ledger.volume.get(symbol),
        )
        if facts.disabled or facts.halted:
            return facts
        try:
            async with asyncio.timeout(_MARKET_SECONDS):
                return await self._with_market(facts, ledger, options)
        except (ExchangeError, TimeoutError) as problem:
            told = str(problem) or f"no answer within {_MARKET_SECONDS:g} s"
            _log.warning("market_not_read", symbol=symbol, problem=told)
            return replace(facts, unread=f"the market could not be read: {told}")

    async def _with_market(self, facts: QuoteFacts, ledger: _Ledger, options: QuotingOptions) -> QuoteFacts:
        symbol = facts.symbol
        product = await self._venue.product(symbol)
        if product is None:
            return facts
        fees, volume, book = await asyncio.gather(
            self._venue.fee_rates(symbol), self._volume_of(facts), self._venue.exchange.book(symbol, _DEPTH)
        )
        own = [*facts.resting, *ledger.others.get(symbol, ())]
        bids = without_own((Level(item.price, item.size) for item in book.bids), own, Side.BUY)
        asks = without_own((Level(item.price, item.size) for item in book.asks), own, Side.SELL)
        lots, inventory = list(facts.lots), facts.inventory
        if options.use_unowned:
            # What rests here of the pool may be asked for anew.
            asked = sum((item.left for item in facts.resting if item.of_pool), ZERO)
            pool = max(ledger.pool.get(product.base, ZERO) + asked, ZERO)
            inventory += pool
            rules = facts.rules
            most = rules.size_base
            if most is None and asks:
                most = divide(rules.size_quote or ZERO, asks[0].price)
            lots.append(SellableLot(None, min(pool, most or ZERO)))
        return replace(
            facts,
            product=product,
            bids=bids,
            asks=asks,
            maker=fees.maker,
            volume=volume,
            lots=lots,
            inventory=inventory,
        )

    async def _volume_of(self, facts: QuoteFacts) -> Decimal | None:
        if facts.volume is None and facts.rules.min_quote_volume > 0:
            return await self._volume(facts.symbol)
        return facts.volume

    async def _volume(self, symbol: str) -> Decimal | None:
        """Quote volume of the last 24 hours from hourly candles; None if they can't be read."""
        known = self._volumes.get(symbol)
        if known is not None and time.monotonic() - known[0] < _VOLUME_SECONDS:
            return known[1]
        exchange = self._venue.exchange
        try:
            now = await exchange.server_time()
            candles = await exchange.candles(symbol, 3600, now - timedelta(hours=24), now)
        except ExchangeError:
            return None
        volume = sum((item.volume * item.close for item in candles), ZERO)
        self._volumes[symbol] = (time.monotonic(), volume)
        return volume

    async def _read_ledger(self, options: QuotingOptions) -> _Ledger:
        account, found = options.account, _Ledger()
        async with self._pool.acquire() as connection:
            found.halted = await why_halted(connection, account, options.groups, self._trouble())
            await _read_orders(connection, options, found)
            for row in await connection.fetch(_LOTS, account):
                symbol, free = row["symbol"], row["remaining"] - row["claims"]
                found.inventory[symbol] = found.inventory.get(symbol, ZERO) + row["remaining"]
                if free > 0 and not row["guarded"]:
                    lot = SellableLot(row["entry_key"], free, average(row["paid"], row["received"]))
                    found.lots.setdefault(symbol, []).append(lot)
            found.exiting = {row["symbol"] for row in await connection.fetch(_EXITING, account)}
            for row in await connection.fetch(_VOLUMES, account, timedelta(seconds=_VOLUME_SECONDS)):
                found.volume[row["symbol"]] = row["quote_volume_24h"]
            if options.use_unowned:
                for name, coin in (await coins(connection, account, datetime.now(UTC))).items():
                    found.pool[name] = coin.left or ZERO
            if options.leaderboard_places is not None:
                standings = await leaderboard(connection, account)
                found.listed = trusted_symbols(standings, options.leaderboard_places)
        return found

    # --- what is to be placed -----------------------------------------------------------------------------------------

    async def _store(
        self,
        request: PlanQuotes,
        plans: Iterable[QuotePlan],
        placed: Mapping[tuple[str, Side], str],
        options: QuotingOptions,
    ) -> None:
        rows = [
            (
                request.snapshot_id,
                request.account,
                plan.symbol,
                request.at,
                *(plan.bid.code.value, plan.bid.sentence, plan.bid.price, plan.bid.size),
                placed.get((plan.symbol, Side.BUY)),
                *(plan.ask.code.value, plan.ask.sentence, plan.ask.price, plan.ask.size),
                placed.get((plan.symbol, Side.SELL)),
                {name: plain(round_half_even(value, _SHOWN)) for name, value in plan.numbers.items()},
                dict(plan.cancel),
            )
            for plan in plans
        ]
        async with self._pool.acquire() as connection, connection.transaction():
            if not request.again:
                await connection.execute(
                    "DELETE FROM quote_rounds WHERE account = $1 AND at < now() - make_interval(days => $2)",
                    request.account,
                    options.keep_days,
                )
            await connection.executemany(_STORE, rows)


async def _read_orders(connection: Connection, options: QuotingOptions, found: _Ledger) -> None:
    """Our resting orders: quotes by symbol, and by order book those that are not quotes of the symbol itself."""
    for row in await connection.fetch(_RESTING, options.account):
        life = row["expires_after"] and row["expires_after"] - row["age"] * options.speed
        quote = Resting(row["order_key"], Side(row["side"]), row["price"], row["left"], row["entry_key"], life)
        found.resting.setdefault(row["symbol"], []).append(quote)
        for twin in dollar_twins(row["symbol"]):
            found.others.setdefault(twin, []).append(quote)
    for row in await connection.fetch(_OTHERS, options.account):
        other = Resting(row["order_key"], Side(row["side"]), row["price"], row["left"])
        for name in (row["symbol"], *dollar_twins(row["symbol"])):
            found.others.setdefault(name, []).append(other)


def _why_not(options: QuotingOptions, *, quoted: bool) -> str:
    if not options.enabled:
        return "quoting is switched off (quoting.enabled)"
    return "" if quoted else "it is no longer among the quoted products"


def _intent(plan: QuotePlan, wanted: Wanted, snapshot_id: str, options: QuotingOptions, now: datetime) -> OrderIntent:
    linkage = _linkage(plan, wanted.side, snapshot_id)
    if wanted.side is Side.BUY:
        return quote_bid(
            options.trigger,
            account=options.account,
            request_id=snapshot_id,
            symbol=plan.symbol,
            linkage=linkage,
            now=now,
            price=wanted.price,
            size=wanted.size,
        )
    return quote_ask(
        account=options.account,
        request_id=snapshot_id,
        symbol=plan.symbol,
        entry_key=wanted.entry_key,
        size=wanted.size,
        price=wanted.price,
        expires_after=options.trigger.expiry,
        valid_until=now + timedelta(seconds=QUOTE_VALID_SECONDS),
        linkage=linkage,
    )


def _linkage(plan: QuotePlan, side: Side, snapshot_id: str) -> Linkage:
    """The decision behind a quote: spread, fees and fair price; the score is the spread over what it must pay."""
    numbers = plan.numbers
    parts = {
        "spread": IndicatorPart(value=_shown(numbers["spread"]), fired=True, weight=Decimal(1)),
        "fees": IndicatorPart(value=_shown(2 * numbers["maker_fee"])),
        "min_profit": IndicatorPart(value=_shown(numbers["min_profit"])),
        "fair_price": IndicatorPart(value=_shown(numbers["fair_price"])),
        "inventory": IndicatorPart(value=_shown(numbers["inventory"])),
    }
    score = _shown(divide(numbers["spread"], numbers["needed_spread"])) if numbers["needed_spread"] > 0 else Decimal(1)
    parts["spread"] = parts["spread"].model_copy(update={"contribution": score})
    return Linkage(
        trigger=QUOTES,
        snapshot_id=snapshot_id,
        buy_score=score if side is Side.BUY else None,
        sell_score=score if side is Side.SELL else None,
        indicator_breakdown=parts,
        indicators_fired=("spread",),
    )


def _shown(value: Decimal) -> Decimal:
    return Decimal(plain(round_half_even(value, _SHOWN)))


def _quoted(plan: QuotePlan) -> QuotedSymbol:
    return QuotedSymbol(
        symbol=plan.symbol,
        bid=plan.bid.code.value,
        bid_sentence=plan.bid.sentence,
        ask=plan.ask.code.value,
        ask_sentence=plan.ask.sentence,
        bid_price=plan.bid.price,
        ask_price=plan.ask.price,
    )


# A quote's own price is its newest attempt's: post-only orders are moved off the touch.
_RESTING = f"""
SELECT o.order_key, o.symbol, o.side, CASE WHEN o.role = 'EXIT' THEN o.entry_key END AS entry_key,
       coalesce(a.limit_price, o.limit_price) AS price, coalesce(a.size, o.base_size) - coalesce(a.filled_size, 0)
       AS left, (o.intent ->> 'expires_after')::numeric AS expires_after,
       extract(epoch FROM now() - o.received_at) AS age
  FROM orders o LEFT JOIN LATERAL (
       SELECT limit_price, size, filled_size FROM attempts WHERE order_key = o.order_key ORDER BY number DESC LIMIT 1
       ) a ON true
 WHERE o.account = $1 AND NOT o.finished AND o.entry_point = '{EntryPoint.MARKET_MAKER}'
 ORDER BY o.received_at
"""
# What rests for stops only is in no book; its price is on the other side of the touch and takes nothing away there.
_OTHERS = f"""
SELECT o.order_key, o.symbol, o.side, coalesce(a.limit_price, o.limit_price) AS price,
       coalesce(a.size, o.base_size) - coalesce(a.filled_size, 0) AS left
  FROM orders o LEFT JOIN LATERAL (
       SELECT limit_price, size, filled_size FROM attempts WHERE order_key = o.order_key ORDER BY number DESC LIMIT 1
       ) a ON true
 WHERE o.account = $1 AND NOT o.finished AND o.entry_point <> '{EntryPoint.MARKET_MAKER}'
   AND coalesce(a.limit_price, o.limit_price) IS NOT NULL AND coalesce(a.size, o.base_size) > coalesce(a.filled_size, 0)
"""
# What protection at the exchange holds can't be asked for beside it.
_LOTS = f"""
SELECT t.entry_key, t.symbol, t.remaining, t.bought_value + t.bought_quote_fees AS paid,
       t.bought_size - t.bought_base_fees AS received,
       jsonb_typeof(o.intent -> 'protection') = 'object' AS guarded,
       coalesce((SELECT sum(s.open_claim) FROM orders s
                 WHERE s.entry_key = t.entry_key AND s.side = 'SELL' AND NOT s.finished
                   AND s.entry_point <> '{EntryPoint.MARKET_MAKER}'), 0) AS claims
  FROM trades t JOIN orders o ON o.order_key = t.entry_key
 WHERE t.account = $1 AND t.state <> 'CLOSED' AND o.trigger = '{QUOTES}' AND t.remaining > 0
 ORDER BY t.opened_at, t.entry_key
"""
_EXITING = f"""
SELECT symbol FROM trades WHERE account = $1 AND state = 'CLOSING'
UNION
SELECT symbol FROM orders WHERE account = $1 AND NOT finished AND role = 'EXIT' AND protection_role IS NULL
   AND entry_point <> '{EntryPoint.MARKET_MAKER}'
"""
# Of a symbol that nobody keeps any more the table has the volume of the day when somebody did.
_VOLUMES = """
SELECT symbol, quote_volume_24h FROM market_prices
 WHERE account = $1 AND quote_volume_24h IS NOT NULL AND at > now() - $2::interval
"""
_STORE = """
INSERT INTO quote_rounds AS q (snapshot_id, account, symbol, at, bid_code, bid_sentence, bid_price, bid_size,
       bid_order_key, ask_code, ask_sentence, ask_price, ask_size, ask_order_key, numbers, cancelled)
VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16)
ON CONFLICT (snapshot_id, account, symbol) DO UPDATE SET
       bid_code = excluded.bid_code, bid_sentence = excluded.bid_sentence, bid_price = excluded.bid_price,
       bid_size = excluded.bid_size, bid_order_key = coalesce(excluded.bid_order_key, q.bid_order_key),
       ask_code = excluded.ask_code, ask_sentence = excluded.ask_sentence, ask_price = excluded.ask_price,
       ask_size = excluded.ask_size, ask_order_key = coalesce(excluded.ask_order_key, q.ask_order_key),
       numbers = excluded.numbers, cancelled = q.cancelled || excluded.cancelled
"""
