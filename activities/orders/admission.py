"""Admission: gates, reservation, order row and first attempt in one transaction (DESIGN, "admit").

The order key's uniqueness is the database's: the same intent again gets the stored decision, the same key with
another body is refused.

Entries of one account are serial at the gate without a lock that anybody could stand still with: one statement reads
the facts and how many turns the account has taken, the gates decide, and one statement writes all of it and takes the
next turn. If another entry, a halt or a resume took it meanwhile, nothing is written, and the entry is decided again.
Those of one process that come while others are being decided share the next read and write.

Exits pass no gate but HODL, venue state, size and available balance. That of a due stop, or of a person's close, holds
its trade's row and no lock; what it asks the exchange it asks within a bound, and goes by what is known (EXIT-10).
Other sells of a trade hold their symbol's lock, too. A sell of what no trade owns holds the coin's, and takes the
account's next turn, as buys that pay with that coin do.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

from activities.commands import accepted
from activities.database import (
    STALLED_MS,
    Connection,
    Pool,
    account_transaction,
    bounded_transaction,
    coin_transaction,
    lock_trade,
    symbol_transaction,
    trade_transaction,
    write_many,
)
from activities.exits.plans import read_plan
from activities.ledger.balances import keep_balances
from activities.ledger.holdings import coins, is_coin
from activities.orders.admission_sql import (
    ENDED_SINCE,
    ENTRY_FACTS,
    HOLD_TURN,
    INSERT_ORDER,
    LAST_PRICE,
    SELL_FACTS,
    TURN,
)
from activities.orders.batches import Batches
from activities.orders.limits import halt_if_lost_too_much, learn_rates, own_currency, results_of
from activities.policy import Policy
from activities.venue import SharedRead, Venue
from domain.commands import CommandKind, asked_by, command_of
from domain.exits import ExitReason, SellSignal, due_exit, exit_limit_price, price_stop
from domain.gates import (
    AHEAD_SECONDS,
    ENTRY_GATES,
    EXIT_GATES,
    Ask,
    Facts,
    GateResult,
    Limits,
    Market,
    Reserved,
    first_refusal,
    reservation,
    run_gates,
    with_admitted,
)
from domain.identity import Standing
from domain.ids import client_order_id
from domain.intents import as_entered, intent_digest, must_leave
from domain.market import Product, Quote
from domain.messages import Admission, AttemptPlan, AttemptView, CloseRequest, GateView, OrderIntent
from domain.money import ZERO, divide, round_down
from domain.orders import AttemptStatus, OrderRole, OrderState, OrderType, Side, TimeInForce, TradeState
from domain.pool import Coin, payable, unowned
from domain.protection import ProtectionRole
from domain.quoting import QUOTES, leaves_after_quotes
from domain.sizing import collar_price, limit_price, post_only_price, sized
from exchange.port import ExchangeError, OrderRequest, RepeatedId

__all__ = [
    "EXIT_ASKS_SECONDS",
    "PROFIT_ASKS_SECONDS",
    "Admissions",
    "Draft",
    "IntentConflictError",
    "disabled_why",
    "insert_attempt",
    "limits_of",
    "plan_of",
    "store_gates",
]

_FRESH_SECONDS = 1.0
EXIT_ASKS_SECONDS = 0.3
"""So long, in sum, the exit of a due stop waits for what it asks the exchange beside its order (EXIT-10)."""
PROFIT_ASKS_SECONDS = 1.0
"""So long any other sell of a trade waits for each of these; a profit exit without a touch goes back to monitoring."""
_GTD_GRACE_SECONDS = 10
_TOGETHER = 50
"""Entries that are decided by one read at most."""
_TRIES = 3
"""So often an entry is decided before it waits for the account's lock and has its turn to itself."""
_WAITS_SECONDS = 2.0
"""So long an entry waits, while its decision is valid, for what its gates have to know and don't (RISK-5)."""
_ASKS_SECONDS = 1.0
"""So long the exchange is waited for each time."""
_PRICE_SECONDS = 60.0
"""A price that was asked for, as none was kept, values what is held for so long."""
_COIN_SECONDS = 10.0
"""That a quote currency is no coin that trades can own is believed for so long."""
_LONGEST = timedelta(milliseconds=STALLED_MS)
"""Facts that were read longer ago than this are not decided by: the process stood still."""


class IntentConflictError(Exception):
    """The order key is taken by another intent."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An attempt before it has a body. Sizes in base or quote, prices in quote per base."""

    order_type: OrderType
    base_size: Decimal | None
    quote_size: Decimal | None
    limit_price: Decimal | None
    time_in_force: TimeInForce
    post_only: bool = False
    stop_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry that waits to be decided: the first attempt, what one base unit is worth, what it needs and may pay."""

    intent: OrderIntent
    product: Product | None
    draft: Draft
    price: Decimal | None
    needed: Decimal
    rate: Decimal
    taker: Decimal | None
    """What an exit will cost at most, as a fraction; None: not known."""
    market: Market | None
    """The touch if it was asked for; None: the one that is kept for all."""
    needs_touch: bool
    """The exchange is to be asked if the touch that is kept is too old."""
    drafted_by_touch: bool = False
    """Size or price of the first attempt follow from that touch."""
    patient: bool = True
    """What isn't known is asked for, and not refused yet."""
    since: datetime | None = None
    """The balance was asked for, for this entry, at this time."""
    undecided: Sequence[GateResult] = ()
    """What the gates said when it last had to wait: why it is refused if its decision is over by then."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """An entry can't be decided before this is known; `symbols` where it is the prices of what is held."""

    what: Ask
    symbols: tuple[str, ...] = ()
    results: Sequence[GateResult] = ()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a sell was told by the exchange: the product, what is available of its base (None: not known) by a read that
    began after `at`, and from them a refusal, or its first attempt and what one base unit is worth.
    """

    product: Product | None
    free: Decimal | None
    at: datetime
    refusal: GateResult | None = None
    draft: Draft | None = None
    price: Decimal | None = None


class Admissions:
    """Decides on intents, once each."""

    def __init__(
        self, pool: Pool, venue: Venue, policy: Callable[[], Policy], trouble: Callable[[], str] = lambda: ""
    ) -> None:
        """`trouble`: why this process sends no entry now, as a clause; see `activities.venue_standing`."""
        self._pool = pool
        self._venue = venue
        self._policy = policy
        self._trouble = trouble
        self._batches: dict[tuple[str, str], Batches[_Entry, Admission | _Asking]] = {}
        self._balance_reads: dict[str, SharedRead[datetime | None]] = {}
        self._prices: dict[str, tuple[float, Decimal]] = {}
        """Of what is held and has no price that is kept: when it was asked for, and the bid."""
        self._coins: dict[tuple[str, str], tuple[float, bool]] = {}
        """Of quote currencies: when it was looked whether trades can own some, and whether they can."""

    async def admit(self, intent: OrderIntent) -> Admission:
        """The decision on an intent, stored before it is answered.

        Raises IntentConflictError, and ExchangeError if the exchange can't be asked for what the gates need.
        """
        if intent.role is OrderRole.EXIT or intent.side is Side.SELL:
            return await self._admit_sell(intent)
        return await self._admit_buy(intent)

    async def _admit_buy(self, intent: OrderIntent) -> Admission:
        entry = await self._entry_of(intent)
        batches = self._batches_of(intent.account, entry.product.quote if entry.product else "")
        ends, pause, asked = time.monotonic() + _patience(intent), 0.05, set[Ask]()
        while isinstance(decided := await batches.join(entry), _Asking):
            if decided.what in asked:
                # The answer that came didn't say it, or none came: again while there is time, and then it is refused.
                left = ends - time.monotonic()
                entry = replace(entry, patient=left > pause)
                await asyncio.sleep(min(pause, max(left, 0.0)))
                pause *= 2
            asked.add(decided.what)
            if entry.patient:
                entry = await self._learn(entry, decided)
            entry = replace(entry, undecided=decided.results or entry.undecided)
        if decided.gate in _HALTING and not intent.dry_run:
            # A limit that was lowered, or a close that was not looked at: halted as it would have been then.
            await halt_if_lost_too_much(self._pool, self._policy(), self._venue)
        return decided

    async def _entry_of(self, intent: OrderIntent) -> _Entry:
        policy = self._policy()
        # Beside each other: neither needs the other's answer.
        drafted, rates = await asyncio.gather(self._drafted(intent), self._venue.fee_rates(), return_exceptions=True)
        if isinstance(drafted, BaseException):
            raise drafted
        product, draft, price, market = drafted
        if product is not None and isinstance(rates, BaseException):
            raise rates
        fees = None if product is None or isinstance(rates, BaseException) else rates
        rate = ZERO if fees is None else fees.maker if intent.post_only else fees.taker
        buffer = 1 + policy.market_buffer if draft.order_type is OrderType.MARKET else Decimal(1)
        needed = reservation(draft.base_size, price and price * buffer, draft.quote_size, rate)
        ask = product is not None and intent.entry_point != "manual"
        taker = None if fees is None else fees.taker
        by_touch = market is not None
        return _Entry(
            intent, product, draft, price, needed, rate, taker, market, ask and not by_touch, drafted_by_touch=by_touch
        )

    async def _learn(self, entry: _Entry, asking: _Asking) -> _Entry:
        """Ask for what an entry's gates don't know; the entry with it, or as it was where no answer comes."""
        intent, policy = entry.intent, self._policy()
        if asking.what is Ask.BALANCE:
            return replace(entry, since=await self._read_balances(intent.account) or entry.since)
        if asking.what is Ask.RATES:
            await learn_rates(self._pool, policy, self._venue)
            return entry
        if asking.what is Ask.PRICES:
            await asyncio.gather(*(self._read_price(symbol) for symbol in asking.symbols))
            return entry
        attempt = client_order_id(intent.order_key, 1)
        if not entry.needs_touch:
            self._venue.forget_quote(attempt, intent.symbol)
        if entry.drafted_by_touch:
            return replace(await self._entry_of(intent), since=entry.since, undecided=entry.undecided)
        # The touch that is kept for all is nothing to decide by: the exchange's own, if it answers.
        market = await self.market(intent.symbol, policy, asks_for=attempt)
        return replace(entry, market=market, needs_touch=False)

    async def _read_balances(self, account: str) -> datetime | None:
        """Read the balances and store them; when that began, None if the exchange doesn't answer. Entries share it."""
        reads = self._balance_reads.get(account)
        if reads is None:
            reads = self._balance_reads[account] = SharedRead(lambda: self._store_balances(account))
        return await reads.read()

    async def _store_balances(self, account: str) -> datetime | None:
        asked = datetime.now(UTC)
        found = await self._venue.balances(within=_ASKS_SECONDS)
        if found is None:
            return None
        await keep_balances(self._pool, account, found, asked, datetime.now(UTC))
        return asked

    async def _read_price(self, symbol: str) -> None:
        touch = await self._venue.touch(symbol, within=_ASKS_SECONDS)
        if touch is not None and touch.bid <= touch.ask:
            self._prices[symbol] = (time.monotonic(), touch.bid)

    def _asked_prices(self) -> Mapping[str, Decimal]:
        """What was asked for a moment ago."""
        since = time.monotonic() - _PRICE_SECONDS
        self._prices = {symbol: known for symbol, known in self._prices.items() if known[0] >= since}
        return {symbol: price for symbol, (_, price) in self._prices.items()}

    def _batches_of(self, account: str, quote: str) -> Batches[_Entry, Admission | _Asking]:
        """Entries that are decided by the same read: of one account, in one quote currency."""
        found = self._batches.get((account, quote))
        if found is None:

            async def handle(entries: Sequence[_Entry]) -> Sequence[Admission | Exception | _Asking]:
                return await self._decide(account, quote, entries)

            found = self._batches[account, quote] = Batches(handle, most=_TOGETHER)
        return found

    async def _decide(
        self, account: str, quote: str, entries: Sequence[_Entry]
    ) -> Sequence[Admission | Exception | _Asking]:
        """Decide on entries in their order, by one read, and write what was decided if it still holds then.

        What has to be asked for, for an entry that can't be decided without it. Raises the database's errors; then
        nothing is written.
        """
        for _ in range(_TRIES):
            # Another process admitted an entry, somebody halted, or the same order came twice: decided once more.
            with contextlib.suppress(asyncpg.SerializationError, asyncpg.UniqueViolationError):
                return await self._decide_once(account, quote, entries)
        async with account_transaction(self._pool, account) as connection:
            await connection.execute(HOLD_TURN, account)
            return await self._decide_once(account, quote, entries, within=connection)

    async def _decide_once(
        self, account: str, quote: str, entries: Sequence[_Entry], *, within: Connection | None = None
    ) -> Sequence[Admission | Exception | _Asking]:
        connection = within or self._pool
        policy = self._policy()
        rows = await connection.fetch(
            ENTRY_FACTS,
            account,
            quote,
            [entry.intent.order_key for entry in entries],
            [entry.intent.symbol for entry in entries],
            1 + max(entry.rate for entry in entries),
            policy.losing_streak,
            float(policy.market_stale_seconds),
            *own_currency(policy),
        )
        coin = await self._coin(connection, account, quote)
        prices = self._asked_prices()
        answers: list[Admission | Exception | _Asking] = []
        again: list[int] = []
        writes: dict[str, Sequence[Any]] = {}
        admitted: list[Reserved] = []
        for entry, row in zip(entries, rows, strict=True):
            intent = entry.intent
            answers.append(_Asking(Ask.TOUCH))
            if row["existing"] or intent.order_key in writes:
                again.append(len(answers) - 1)
                continue
            market = entry.market or Market(row["bid"], row["ask"], row["seen_at"], row["change_24h"])
            if entry.needs_touch and not _says_something(market, policy):
                continue
            standing = Standing(row["mode"], bool(row["armed"]), self._trouble())
            facts = with_admitted(_facts_of(entry, market, row, policy, standing, prices, coin), admitted)
            results = run_gates(ENTRY_GATES, facts)
            if results[-1].gate == "DECISION_EXPIRED" and entry.undecided:
                results = list(entry.undecided)
            elif entry.patient and (asking := await self._asking(connection, entry, row, facts, results)):
                answers[-1] = asking
                continue
            turn = (row["turns"] + len(admitted), row["read_at"])
            known = _with_who_asked(intent, row["given_by"] if row["command_about"] == intent_digest(intent) else None)
            known = _with_rate(as_entered(known), entry.taker)
            answer, written = self._decision(known, entry.draft, results, reserved=entry.needed, turn=turn)
            answers[-1], writes[intent.order_key] = answer, written
            if answer.accepted:
                admitted.append(Reserved(intent.symbol, entry.needed))
        if len(writes) == 1:
            await connection.execute(INSERT_ORDER, *next(iter(writes.values())))
        elif writes:
            await self._write_all(list(writes.values()), within)
        for index in again:
            try:
                answers[index] = await self._stored(connection, entries[index].intent)
            except IntentConflictError as error:
                answers[index] = error
        return answers

    async def _coin(self, connection: Connection | Pool, account: str, quote: str) -> Coin | None:
        """What the books say of the quote currency, where trades can own some of it: it goes by the pool's rule then.

        Read after the facts: whatever is recorded in between, each of the two is of one moment and safe by itself.
        """
        now = time.monotonic()
        looked, traded = self._coins.get((account, quote), (-_COIN_SECONDS, False))
        if not traded and now - looked >= _COIN_SECONDS:
            traded = await is_coin(connection, account, quote)
            self._coins[account, quote] = (now, traded)
        return (await coins(connection, account, datetime.now(UTC), quote))[quote] if traded else None

    async def _asking(
        self, connection: Connection | Pool, entry: _Entry, row: Any, facts: Facts, results: Sequence[GateResult]
    ) -> _Asking | None:
        """What has to be asked for before an entry is refused; None: it is decided."""
        last = results[-1]
        if last.asks is not None:
            return _Asking(last.asks, tuple(facts.unpriced), results)
        if last.passed or last.gate != "INSUFFICIENT_BALANCE" or not facts.held_elsewhere:
            return None
        # What an order of ours held that has ended since looks like somebody else's: the exchange knows better now.
        if entry.since is None and await connection.fetchval(ENDED_SINCE, entry.intent.account, row["balance_at"]):
            return _Asking(Ask.BALANCE)
        return None

    async def _write_all(self, rows: Sequence[Sequence[Any]], within: Connection | None) -> None:
        """All of them or none; a process that stands still on the way loses the turn that it took."""
        if within is not None:
            await write_many(within, INSERT_ORDER, rows)
            return
        async with bounded_transaction(self._pool) as connection:
            await write_many(connection, INSERT_ORDER, rows)

    async def market(self, symbol: str, policy: Policy, *, asks_for: str | None) -> Market:
        """The touch that is kept for all; where that is too old, the exchange's own, if it answers.

        `asks_for` is the attempt that needs it; without one the exchange isn't asked.
        """
        row = await self._pool.fetchrow(
            "SELECT bid, ask, at, change_24h FROM market_prices WHERE account = $1 AND symbol = $2",
            policy.account,
            symbol,
        )
        kept = Market() if row is None else Market(row["bid"], row["ask"], row["at"], row["change_24h"])
        if asks_for is None or _says_something(kept, policy):
            return kept
        try:
            quote = await self._venue.quote_for(asks_for, symbol)
        except ExchangeError:
            return kept
        return Market(quote.bid, quote.ask, datetime.now(UTC), kept.change_24h)

    async def _admit_sell(self, intent: OrderIntent) -> Admission:
        asked = await self._asked(intent)
        if intent.entry_key is None:
            return await self._admit_of_pool(intent, asked)
        async with self._held(intent) as connection:
            found = await self._sell_facts(connection, intent)
            if (known := await self._decided_before(connection, intent, found)) is not None:
                return known
            # What is left of the trade less other claims, at most what is available.
            held = found["held"] or ZERO
            claimable = held if asked.free is None else min(held, asked.free)
            if must_leave(intent) and (claimable if asked.product is None else sized(claimable, asked.product)) <= 0:
                # A balance may lag behind what was bought: whether there is something to sell the exchange says.
                claimable = held
            answer, written = self._sell_decision(intent, asked, found, claimable)
            await connection.execute(INSERT_ORDER, *written)
            return answer

    async def _admit_of_pool(self, intent: OrderIntent, asked: _Asked) -> Admission:
        """A sell of what no trade owns, by what the books know to be nobody's (`domain.pool`).

        Two of them wait for each other at the coin, whatever they are sold for. A buy that pays with the coin, admitted
        between its read and its write, has it decided again; after three times it has the account's turn to itself.
        """
        for _ in range(_TRIES):
            with contextlib.suppress(asyncpg.SerializationError):
                return await self._decide_of_pool(intent, asked, alone=False)
        return await self._decide_of_pool(intent, asked, alone=True)

    async def _decide_of_pool(self, intent: OrderIntent, asked: _Asked, *, alone: bool) -> Admission:
        base = asked.product.base if asked.product is not None else _base_of(intent.symbol)
        async with coin_transaction(self._pool, intent.account, base) as connection:
            if alone:
                await connection.execute(HOLD_TURN, intent.account)
            found = await self._sell_facts(connection, intent)
            if (known := await self._decided_before(connection, intent, found)) is not None:
                return known
            turn = await connection.fetchrow(TURN, intent.account)
            coin = (await coins(connection, intent.account, asked.at, base))[base]
            pool = unowned(coin, asked.free, base)
            answer, written = self._sell_decision(
                intent, asked, found, pool.size, why=pool.why, turn=(turn["turns"], turn["read_at"])
            )
            await connection.execute(INSERT_ORDER, *written)
            return answer

    async def _sell_facts(self, connection: Connection, intent: OrderIntent) -> Any:
        command = command_of(intent) or (None, None, None)
        return await connection.fetchrow(
            SELL_FACTS, intent.order_key, intent.account, intent.symbol, intent.entry_key, *command
        )

    async def _decided_before(self, connection: Connection, intent: OrderIntent, found: Any) -> Admission | None:
        """The stored decision, or that quotes are to be taken away first; None if it is to be decided now."""
        if found["existing"]:
            return await self._stored(connection, intent)
        if found["quoted"] and leaves_after_quotes(intent):
            # Nothing is stored: the workflow has the market maker's quotes taken away and asks again (EXIT-4).
            return self._admission(accepted=False, state=OrderState.RECEIVED, quotes_rest=True)
        return None

    def _sell_decision(
        self,
        intent: OrderIntent,
        asked: _Asked,
        found: Any,
        claimable: Decimal | None,
        *,
        why: str = "",
        turn: tuple[int, datetime] | None = None,
    ) -> tuple[Admission, Sequence[Any]]:
        """What `_decision` says of a sell that may claim so much; None: nobody knows how much, and `why` says so."""
        policy, product = self._policy(), asked.product
        # An exit sells the trade's own remainder, at most what is available; the rest stays protected. A size that
        # was named is sold as it is or refused.
        wanted = intent.base_size if intent.base_size is not None else claimable
        size = sized(wanted or ZERO, product) if product else wanted
        draft = replace(
            asked.draft or Draft(intent.order_type, size, None, intent.limit_price, intent.time_in_force),
            base_size=size,
            quote_size=None,
        )
        facts = Facts(
            intent=intent,
            now=datetime.now(UTC),
            product=product,
            price=draft.limit_price or asked.price,
            size=size,
            dry_run=policy.dry_run and intent.entry_key is None,
            hodl=intent.symbol in policy.hodl and intent.exit_reason is not ExitReason.MANUAL,
            available_base=claimable,
            base_why=why,
        )
        results = run_gates(EXIT_GATES, facts) if asked.refusal is None else [asked.refusal]
        # What only rests at the exchange leaves the plan armed and the trade protected.
        begins_exit = intent.role is OrderRole.EXIT and intent.protection_role is None and intent.entry_point != QUOTES
        known = _with_who_asked(intent, found["given_by"])
        return self._decision(known, draft, results, claimed=size or ZERO, begins_exit=begins_exit, turn=turn)

    async def _asked(self, intent: OrderIntent) -> _Asked:
        """What a sell asks the exchange, before it holds anything that others wait for."""
        at = datetime.now(UTC)
        if must_leave(intent):
            (product, free), touch = await asyncio.gather(self._rules_and_free(intent), self._touch_of(intent))
            draft = await self._draft_exit(intent, product, touch)
            return _Asked(product, free, at, None, draft, touch.bid if touch is not None else None)
        if intent.entry_key is not None:
            # A due stop may wait for its end: what it asks is bounded, too.
            product = await self._venue.rules(intent.symbol, within=PROFIT_ASKS_SECONDS)
            free = await self._venue.available(product.base, within=PROFIT_ASKS_SECONDS) if product else None
        else:
            product = await self._venue.product(intent.symbol)
            free = await self._venue.available(product.base) if product else None
        if product is None:
            return _Asked(None, free, at)
        if intent.protection_role is not None:
            draft = Draft(
                intent.order_type, None, None, intent.limit_price, TimeInForce.GTC, stop_price=intent.stop_price
            )
            return _Asked(product, free, at, None, draft)
        if intent.role is OrderRole.EXIT and intent.entry_point != QUOTES:
            refusal, touch = await self._still_due(intent)
            draft = await self._draft_exit(intent, product, touch)
            return _Asked(product, free, at, refusal, draft, None if touch is None else touch.bid)
        draft, price, _ = await self._draft_entry(intent, product)
        return _Asked(product, free, at, None, draft, price)

    @contextlib.asynccontextmanager
    async def _held(self, intent: OrderIntent) -> AsyncIterator[Connection]:
        """A transaction with what a trade's claim needs held: the trade, and but for a due stop the symbol's lock."""
        entry_key = intent.entry_key or ""
        if must_leave(intent):
            async with trade_transaction(self._pool, entry_key) as connection:
                yield connection
            return
        async with symbol_transaction(self._pool, intent.account, intent.symbol) as connection:
            await lock_trade(connection, entry_key)
            yield connection

    async def _rules_and_free(self, intent: OrderIntent) -> tuple[Product | None, Decimal | None]:
        """The product's rules, the last known if need be, and what is available, if that is told in time."""
        product, free = await asyncio.gather(
            self._venue.rules(intent.symbol, within=EXIT_ASKS_SECONDS),
            self._venue.available(_base_of(intent.symbol), within=EXIT_ASKS_SECONDS),
        )
        return product, free

    async def _touch_of(self, intent: OrderIntent) -> Quote | None:
        """At what the exit of a due stop goes: the price that made it due while that is fresh, else the touch."""
        if _is_at_hand(intent):
            return _trigger(intent)
        return await self.last_touch(intent)

    async def last_touch(self, intent: OrderIntent) -> Quote | None:
        """The touch, now; where the exchange doesn't tell it in time, the newest price that is known. None: nobody
        knows one.
        """
        quote = await self._venue.touch(intent.symbol, within=EXIT_ASKS_SECONDS)
        if quote is not None:
            return quote
        trigger = _trigger(intent)
        kept = await self._pool.fetchrow(LAST_PRICE, intent.account, intent.symbol)
        if kept is not None and kept["at"] is not None and (trigger is None or kept["at"] > trigger.at):
            return Quote(intent.symbol, kept["bid"], kept["bid"], kept["at"])
        return trigger

    async def _still_due(self, intent: OrderIntent) -> tuple[GateResult | None, Quote | None]:
        """A profit exit is checked again on a fresh price before it is sent (EXIT-3); without one it isn't."""
        reason = intent.exit_reason or ExitReason.MANUAL
        if _is_at_hand(intent):
            return None, _trigger(intent)
        if price_stop(reason):
            # A stop, and what a person sells from the pool, stays due whatever the price does.
            return None, await self.last_touch(intent)
        quote = await self._venue.touch(intent.symbol, within=PROFIT_ASKS_SECONDS)
        if quote is None:
            sentence = f"{reason} can't be checked: the exchange doesn't tell the touch of {intent.symbol}"
            return GateResult("NO_LONGER_DUE", False, sentence, {}), None
        if await self.holds_at(intent, quote.bid, quote.at):
            return None, quote
        sentence = f"{reason} no longer holds at {quote.bid}"
        return GateResult("NO_LONGER_DUE", False, sentence, {"bid": str(quote.bid)}), quote

    async def holds_at(self, intent: OrderIntent, bid: Decimal, at: datetime) -> bool:
        """Whether a profit exit would still be decided at this bid."""
        found = await read_plan(self._pool, intent.entry_key or "")
        if found is None:
            return False
        position, says_sell = found
        signal = None
        if intent.exit_reason is ExitReason.SIGNAL_EXIT:
            if says_sell is False or not self._policy().signals_sell:
                return False
            signal = SellSignal(True, at)
        verdict = due_exit(position, bid, at, at, signal=signal)
        # Trailing may have armed meanwhile, which also ends a profit exit.
        return verdict.due is intent.exit_reason

    async def _drafted(self, intent: OrderIntent) -> tuple[Product | None, Draft, Decimal | None, Market | None]:
        product = await self._venue.product(intent.symbol)
        return product, *await self._draft_entry(intent, product)

    async def _draft_entry(
        self, intent: OrderIntent, product: Product | None
    ) -> tuple[Draft, Decimal | None, Market | None]:
        """The first attempt, what one base unit is worth, and the touch if it had to be asked for."""
        size, quote_size = intent.base_size, intent.quote_size
        if product is not None and size is not None:
            size = sized(size, product)
        if product is not None and quote_size is not None and intent.entry_point != "manual":
            quote_size = round_down(quote_size, product.quote_increment)
        price = intent.limit_price
        needs_touch = product is not None and (
            (intent.order_type is OrderType.MARKET and quote_size is None)
            or intent.post_only
            or (intent.order_type is OrderType.LIMIT and price is None)
            or (intent.order_type is OrderType.MARKET and product.limit_only)
            or (size is None and intent.order_type is OrderType.LIMIT)
        )
        if not needs_touch or product is None:
            if product is not None and price is not None and intent.entry_point != "manual":
                price = limit_price(price, intent.side, product)
            draft = Draft(intent.order_type, size, quote_size, price, intent.time_in_force, intent.post_only)
            return draft, price, None
        quote = await self._venue.quote_for(client_order_id(intent.order_key, 1), intent.symbol)
        market = Market(quote.bid, quote.ask, datetime.now(UTC))
        touch = quote.ask if intent.side is Side.BUY else quote.bid
        if intent.order_type is OrderType.MARKET and not product.limit_only:
            return Draft(OrderType.MARKET, size, quote_size, None, TimeInForce.IOC), touch, market
        at_once = intent.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
        if intent.order_type is OrderType.MARKET or (price is None and at_once):
            # It is to trade now, but no further from the touch than the collar.
            price = collar_price(quote, intent.side, self._policy().market_collar, product)
            size = size if size is not None else sized(divide(quote_size or ZERO, price), product)
            in_force = TimeInForce.IOC if intent.order_type is OrderType.MARKET else intent.time_in_force
            return Draft(OrderType.LIMIT, size, None, price, in_force), price, market
        wanted = price if price is not None else (quote.bid if intent.side is Side.BUY else quote.ask)
        if intent.post_only:
            price = post_only_price(wanted, intent.side, quote, product)
        elif intent.entry_point != "manual" or price is None:
            price = limit_price(wanted, intent.side, product)
        if size is None and quote_size is not None:
            size = sized(divide(quote_size, price), product)
        return Draft(OrderType.LIMIT, size, None, price, intent.time_in_force, intent.post_only), price, market

    async def _draft_exit(self, intent: OrderIntent, product: Product | None, touch: Quote | None) -> Draft:
        if intent.order_type is OrderType.LIMIT and intent.limit_price is not None:
            # A person's price is meant: it is taken as it is or refused, and never re-priced.
            return Draft(OrderType.LIMIT, None, None, intent.limit_price, intent.time_in_force)
        if intent.order_type is OrderType.LIMIT and product is not None and touch is not None:
            price = exit_limit_price(touch.bid, intent.rules, product.price_increment)
            return Draft(OrderType.LIMIT, None, None, price, TimeInForce.GTC)
        return await self.market_exit(intent, product)

    async def market_exit(self, intent: OrderIntent, product: Product | None) -> Draft:
        """MARKET, or a limit IOC with a collar where the product takes no market orders and a price is known."""
        touch = await self.last_touch(intent) if product is not None and product.limit_only else None
        if product is None or touch is None:
            return Draft(OrderType.MARKET, None, None, None, TimeInForce.IOC)
        price = collar_price(touch, Side.SELL, self._policy().market_collar, product)
        return Draft(OrderType.LIMIT, None, None, price, TimeInForce.IOC)

    async def _stored(self, connection: Connection, intent: OrderIntent) -> Admission:
        """The decision that was made on this intent, with what has become of it since."""
        order = await connection.fetchrow("SELECT * FROM orders WHERE order_key = $1", intent.order_key)
        if order["intent_digest"] not in (intent_digest(intent), intent_digest(as_entered(intent))):
            raise IntentConflictError(
                f"order key {intent.order_key} was used for another intent "
                f"({order['side']} {order['symbol']}, {order['received_at'].isoformat()}); use a new request id"
            )
        attempts = await connection.fetch(
            "SELECT * FROM attempts WHERE order_key = $1 ORDER BY number", intent.order_key
        )
        trade = await connection.fetchval("SELECT state FROM trades WHERE entry_key = $1", intent.order_key)
        gates = await connection.fetch(
            "SELECT gate, passed, numbers FROM gate_results WHERE order_key = $1 AND $2 ORDER BY position, id",
            intent.order_key,
            order["gate"] is not None,
        )
        promised: dict[CommandKind, CloseRequest] = {}
        if not order["finished"] or trade not in (None, TradeState.CLOSED):
            promised = await accepted(connection, intent.account, intent.order_key)
        first = attempts[0] if len(attempts) == 1 and attempts[0]["sends"] == 0 and attempts[0]["live"] else None
        return self._admission(
            accepted=order["gate"] is None,
            state=OrderState(order["state"]),
            gate=order["gate"],
            sentence=order["gate_sentence"] or "",
            attempts=tuple(
                AttemptView(
                    number=row["number"],
                    status=AttemptStatus(row["status"]),
                    live=row["live"],
                    exchange_order_id=row["exchange_order_id"],
                    filled_size=row["filled_size"],
                    cancel_asked=row["cancel_asked_at"] is not None,
                )
                for row in attempts
            ),
            plan=plan_of(first) if first else None,
            size=order["base_size"],
            filled_size=order["filled_size"],
            filled_value=order["filled_value"],
            fees=order["quote_fees"],
            finished=order["finished"],
            stored=True,
            close=promised.get(CommandKind.CLOSE),
            cancel=promised.get(CommandKind.CANCEL),
            trade_state=TradeState(trade) if trade else None,
            gates=tuple(GateView(gate=row["gate"], passed=row["passed"], numbers=row["numbers"]) for row in gates),
        )

    def _admission(self, **known: Any) -> Admission:
        capabilities, policy = self._venue.exchange.capabilities, self._policy()
        return Admission(
            repeated_id_returns_first=capabilities.repeated_id is RepeatedId.RETURNS_FIRST,
            late_acceptance_seconds=policy.late_acceptance_seconds,
            market_speed=policy.speed,
            max_post_only_attempts=policy.post_only_attempts,
            post_only_backoff_seconds=policy.post_only_backoff,
            **known,
        )

    def _decision(
        self,
        intent: OrderIntent,
        draft: Draft,
        results: list[GateResult],
        *,
        reserved: Decimal = ZERO,
        claimed: Decimal = ZERO,
        begins_exit: bool = False,
        turn: tuple[int, datetime] | None = None,
    ) -> tuple[Admission, Sequence[Any]]:
        """The answer, and what `INSERT_ORDER` writes of it: the decision, its gates and, if admitted, the first
        attempt with the exact body that will be sent. All of it is one statement.

        With `begins_exit` the plan acknowledges its monitor's exit, also a refused one: the monitor has it now, and
        arms it again. A sell that a person placed beside the monitor leaves the plan armed: what it doesn't sell stays
        protected. `turn` is the account's turn that an admitted entry takes, and when the facts were read.
        """
        refusal = first_refusal(results)
        state = OrderState.REJECTED if refusal else OrderState.ADMITTED
        plan = None if refusal else self.plan(intent, draft, 1)
        role = intent.protection_role or (ProtectionRole.PRIMARY if intent.protection else None)
        acknowledges = begins_exit and intent.entry_point == "exit"
        linkage = intent.linkage
        taken, read_at = (None, None) if refusal or turn is None else turn
        written = (
            intent.order_key,
            intent.account,
            intent.symbol,
            intent.side.value,
            intent.role.value,
            intent.entry_key if intent.entry_key or intent.role is not OrderRole.ENTRY else intent.order_key,
            draft.order_type.value,
            intent.source,
            intent.entry_point,
            linkage.trigger,
            intent.exit_reason.value if intent.exit_reason else None,
            linkage.snapshot_id,
            linkage.buy_score,
            linkage.sell_score,
            {name: part.model_dump(mode="json") for name, part in linkage.indicator_breakdown.items()},
            list(linkage.indicators_fired),
            intent.model_dump(mode="json"),
            intent_digest(intent),
            state.value,
            refusal is not None,
            refusal.gate if refusal else None,
            refusal.sentence if refusal else None,
            draft.base_size,
            draft.quote_size,
            draft.limit_price,
            ZERO if refusal else reserved,
            ZERO if refusal else claimed,
            [result.gate for result in results],
            [result.passed for result in results],
            [result.numbers for result in results],
            role.value if role else None,
            plan.client_order_id if plan else None,
            plan.body if plan else None,
            acknowledges,
            begins_exit and refusal is None,
            (intent.exit_reason or ExitReason.MANUAL).value,
            intent.trigger_price,
            intent.trailing,
            begins_exit,
            taken,
            read_at,
            _LONGEST,
        )
        admission = self._admission(
            accepted=refusal is None,
            state=state,
            gate=refusal.gate if refusal else None,
            sentence=refusal.sentence if refusal else "",
            plan=plan,
            attempts=(AttemptView(number=1, status=AttemptStatus.SUBMITTING),) if plan else (),
            size=draft.base_size,
            finished=refusal is not None,
            gates=tuple(
                GateView(gate=item.gate, passed=item.passed, sentence=item.sentence, numbers=item.numbers)
                for item in (results if refusal else ())
            ),
        )
        return admission, written

    def plan(self, intent: OrderIntent, draft: Draft, number: int) -> AttemptPlan:
        """The attempt with the exact body that the exchange will get."""
        identity = client_order_id(intent.order_key, number)
        body = self._venue.exchange.order_body(
            OrderRequest(
                client_order_id=identity,
                symbol=intent.symbol,
                side=intent.side,
                order_type=draft.order_type,
                base_size=draft.base_size,
                quote_size=draft.quote_size,
                limit_price=draft.limit_price,
                stop_price=draft.stop_price,
                time_in_force=draft.time_in_force,
                end_time=self._end_time(intent, draft),
                post_only=draft.post_only,
            )
        )
        return AttemptPlan(
            number=number,
            client_order_id=identity,
            body=dict(body),
            size=draft.base_size,
            limit_price=draft.limit_price,
        )

    def _end_time(self, intent: OrderIntent, draft: Draft) -> datetime | None:
        """When the exchange itself ends a GTD order: a little after we would, so that it only does when we can't."""
        if draft.time_in_force is not TimeInForce.GTD or intent.expires_after is None:
            return None
        life = intent.expires_after / self._policy().speed + _GTD_GRACE_SECONDS
        return datetime.now(UTC) + timedelta(seconds=float(life))


async def insert_attempt(connection: Connection, intent: OrderIntent, plan: AttemptPlan) -> None:
    """Commit an attempt's row before it is sent; the database refuses a second live one."""
    await connection.execute(
        """
        INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status, size, limit_price)
        VALUES ($1,$2,$3,$4,$5,$6,'SUBMITTING',$7,$8)
        """,
        plan.client_order_id,
        intent.order_key,
        plan.number,
        intent.account,
        intent.symbol,
        plan.body,
        plan.size,
        plan.limit_price,
    )


async def store_gates(connection: Connection, order_key: str, attempt: int, results: Sequence[GateResult]) -> None:
    """Store the gates of a further attempt behind those of the admission: positions go on at `100 × (attempt - 1)`."""
    await connection.execute(
        """
        INSERT INTO gate_results (order_key, position, gate, passed, numbers)
        SELECT $1, 100 * ($2::int - 1) + g.position, g.gate, g.passed, g.numbers
        FROM unnest($3::text[], $4::bool[], $5::jsonb[]) WITH ORDINALITY AS g (gate, passed, numbers, position)
        """,
        order_key,
        attempt,
        [result.gate for result in results],
        [result.passed for result in results],
        [result.numbers for result in results],
    )


def plan_of(row: Any) -> AttemptPlan:
    """The stored attempt as what `place` sends."""
    return AttemptPlan(
        number=row["number"],
        client_order_id=row["client_order_id"],
        body=row["body"],
        size=row["size"],
        limit_price=row["limit_price"],
    )


def _base_of(symbol: str) -> str:
    return symbol.replace("_", "-").partition("-")[0]


def _trigger(intent: OrderIntent) -> Quote | None:
    """The bid that made an exit due."""
    if intent.trigger_price is None or intent.due_at is None:
        return None
    return Quote(intent.symbol, intent.trigger_price, intent.trigger_price, intent.due_at)


def _is_at_hand(intent: OrderIntent) -> bool:
    """Whether what made an exit due is so fresh that nothing has to be asked."""
    return (
        intent.trigger_price is not None
        and intent.due_at is not None
        and (datetime.now(UTC) - intent.due_at).total_seconds() < _FRESH_SECONDS
    )


_HALTING = frozenset({"SKIP_DAILY_LOSS_LIMIT", "SKIP_CIRCUIT_BREAKER"})


def limits_of(policy: Policy) -> Limits:
    """What entries are held to, as the gates want it."""
    return Limits(
        max_open_buys=policy.max_open_buys,
        max_spread=policy.max_spread,
        buy_on_red_day=policy.buy_on_red_day,
        max_position=policy.max_position,
        daily_loss=policy.daily_loss_limit,
        losing_streak=policy.losing_streak,
        stale_seconds=policy.market_stale_seconds,
        balance_stale_seconds=policy.balance_stale_seconds,
    )


def disabled_why(symbol: str, policy: Policy) -> str:
    """Why a symbol may not be bought at all; empty if it may."""
    if symbol in policy.disabled:
        return "it is switched off (symbols.disabled)"
    if policy.allowed and symbol not in policy.allowed:
        return "it is not among the symbols that may be bought (symbols.allow)"
    return ""


def _with_who_asked(intent: OrderIntent, given_by: str | None) -> OrderIntent:
    """The intent as it is stored: with who asked as the ledger knows it, not as the intent says."""
    return intent.model_copy(update={"asked_by": asked_by(intent, given_by)})


def _with_rate(intent: OrderIntent, taker: Decimal | None) -> OrderIntent:
    """The intent with the account's taker rate among its rules: what a signal exit counts with (EXIT-12)."""
    if taker is None:
        return intent
    return intent.model_copy(update={"rules": intent.rules.model_copy(update={"taker_rate": taker})})


def _patience(intent: OrderIntent) -> float:
    """Seconds that an entry waits for what its gates don't know: while its decision is valid, and never long."""
    if intent.valid_until is None:
        return _WAITS_SECONDS
    return min((intent.valid_until - datetime.now(UTC)).total_seconds(), _WAITS_SECONDS)


def _facts_of(
    entry: _Entry,
    market: Market,
    row: Any,
    policy: Policy,
    standing: Standing,
    prices: Mapping[str, Decimal],
    coin: Coin | None,
) -> Facts:
    """The facts as they were read; `prices` of what is held, where none is kept, `coin` of what the entry pays with."""
    intent, total, age = entry.intent, row["total"], row["balance_age"]
    if age is None or not -AHEAD_SECONDS <= age <= policy.balance_stale_seconds:
        total = None
    held, others, unpriced = _worth_of(intent.symbol, market, row, policy, prices)
    available = None if total is None else total - row["promised"] - row["held_elsewhere"]
    why = ""
    if coin is not None and entry.product is not None and (available is not None or coin.books is None):
        unclaimed = payable(coin, available, entry.product.quote)
        available, why = unclaimed.size, unclaimed.why
    return Facts(
        intent=intent,
        now=datetime.now(UTC),
        product=entry.product,
        price=entry.price,
        size=entry.draft.base_size,
        standing=standing,
        dry_run=policy.dry_run,
        halted=row["halted"],
        halted_by=_halted_by(row),
        blocked=intent.symbol in policy.blocked,
        disabled=disabled_why(intent.symbol, policy),
        limits=limits_of(policy),
        market=_with_change(market, row, entry.product, policy),
        open_buys=row["open_buys"],
        open_buys_value=row["open_buys_value"],
        held_value=held,
        account_worth=None if total is None or held is None or unpriced else total + others + held,
        unpriced=unpriced,
        results=results_of(row),
        available_quote=available,
        balance_age=age,
        held_elsewhere=row["held_elsewhere"],
        quote_why=why,
        needed_quote=entry.needed,
    )


def _worth_of(
    symbol: str, market: Market, row: Any, policy: Policy, prices: Mapping[str, Decimal]
) -> tuple[Decimal | None, Decimal, tuple[str, ...]]:
    """What open trades of the symbol are worth, what those of others, and the symbols of which no price is known."""
    unpriced: list[str] = []
    held = row["held_value"] if row["held_size"] else ZERO
    if row["held_size"]:
        newest = market.bid if market.bid and _says_something(market, policy) else None
        newest = prices.get(symbol) if newest is None and held is None else newest
        held = held if newest is None else row["held_size"] * newest
        if held is None:
            unpriced.append(symbol)
    others: Decimal = row["others_value"] or ZERO
    for other, size in zip(row["unpriced"], row["unpriced_sizes"], strict=True):
        if other in prices:
            others += size * prices[other]
        else:
            unpriced.append(other)
    return held, others, tuple(unpriced)


def _halted_by(row: Any) -> str:
    """By whom entries are halted, and why if that was said."""
    return ": ".join(part for part in (row["halted_by"] or "somebody", row["halted_why"]) if part)


def _is_fresh(at: datetime | None, policy: Policy) -> bool:
    if at is None:
        return False
    return -float(AHEAD_SECONDS) <= (datetime.now(UTC) - at).total_seconds() <= float(policy.market_stale_seconds)


def _says_something(market: Market, policy: Policy) -> bool:
    """The touch is one to decide by: fresh, and not crossed."""
    return _is_fresh(market.at, policy) and not market.crossed


def _with_change(market: Market, row: Any, product: Product | None, policy: Policy) -> Market:
    """The 24-hour change as it is kept for all, if that is fresh; else as the product's rules had it a minute ago."""
    kept = row["change_24h"]
    of_product = product.change_24h if product else None
    if kept is None or (of_product is not None and not _is_fresh(row["seen_at"], policy)):
        kept = of_product
    return replace(market, change_24h=kept)
