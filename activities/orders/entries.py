"""Entries at the gate, decided several at a time, each once.

Entries of one account are serial at the gate without a lock that anybody could stand still with: one statement reads
the facts and how many turns the account has taken, the gates decide, and one statement writes all of it and takes the
next turn. If another entry, a halt or a resume took it meanwhile, nothing is written, and the entry is decided again.
Those of one process that come while others are being decided share the next read and write.

What a gate has to know and doesn't is asked for, while the entry's decision is valid, before it is refused (RISK-5).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg

from activities.database import Connection, Pool, Record, Statements, account_transaction
from activities.ledger.balances import keep_balances
from activities.ledger.holdings import coins, is_coin
from activities.orders.admission_sql import ENDED_SINCE, ENTRY_FACTS, HOLD_TURN
from activities.orders.batches import Batches
from activities.orders.decisions import Decided, Decisions, IntentConflictError, Turn, store_entries, with_who_asked
from activities.orders.entry_facts import Entry, facts_of
from activities.orders.group_limits import EntryLimits, halt_groups_that_lost, limits_of_entries
from activities.orders.limits import asked_rate, halt_if_lost_too_much, learn_rates, own_currency
from activities.orders.touches import Touches, says_something
from activities.policy import Policy
from activities.venue import SharedRead, Venue
from domain.drafting import Draft, as_asked, at_touch, needs_touch
from domain.gate_facts import Ask, Facts, GateResult, MarketFacts, Reserved
from domain.gate_names import GateName
from domain.gates import ENTRY_GATES, reservation, run_gates, with_admitted
from domain.identity import Standing
from domain.ids import client_order_id
from domain.intents import as_entered, intent_digest
from domain.market import Product
from domain.messages import Admission, OrderIntent
from domain.money import ZERO
from domain.orders import OrderType
from domain.pool import Coin

__all__ = ["EntryAdmissions"]

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
"""That nobody looks at a product of a quote currency is believed for so long: nothing of it is held or ordered."""
_HALTING = frozenset({GateName.DAILY_LOSS_LIMIT, GateName.CIRCUIT_BREAKER})
_HALTING_A_GROUP = frozenset({GateName.STRATEGY_DAILY_LOSS, GateName.TRIGGER_DAILY_LOSS})


@dataclass(frozen=True, slots=True)
class _Asking:
    """An entry can't be decided before this is known; `of` which symbols where it is the prices of what is held, of
    which currencies where it is rates.
    """

    what: Ask
    of: tuple[str, ...] = ()
    results: Sequence[GateResult] = ()


@dataclass(frozen=True, slots=True)
class _Read:
    """What all entries of one read are decided by, and those of them that were admitted so far."""

    connection: Statements
    policy: Policy
    coin: Coin | None
    prices: Mapping[str, Decimal]
    limits: EntryLimits
    admitted: list[Reserved]


class EntryAdmissions:
    """Decides on entries, once each."""

    def __init__(
        self,
        pool: Pool,
        venue: Venue,
        policy: Callable[[], Policy],
        decisions: Decisions,
        touches: Touches,
        trouble: Callable[[], str],
    ) -> None:
        """`trouble`: why this process sends no entry now, as a clause; see `activities.venue_standing`."""
        self._pool = pool
        self._venue = venue
        self._policy = policy
        self._decisions = decisions
        self._touches = touches
        self._trouble = trouble
        self._batches: dict[tuple[str, str], Batches[Entry, Admission | _Asking]] = {}
        self._balance_reads: dict[str, SharedRead[datetime | None]] = {}
        self._prices: dict[str, tuple[float, Decimal]] = {}
        """Of what is held and has no price that is kept: when it was asked for, and the bid."""
        self._rates: dict[str, tuple[float, Decimal]] = {}
        """Of currencies in the account's own, where no price that is kept gives it: when it was asked for, and it."""
        self._coins: dict[tuple[str, str], tuple[float, bool]] = {}
        """Of quote currencies: when it was looked whether trades can own some, and whether they can."""

    async def admit(self, intent: OrderIntent) -> Admission:
        """The decision on an entry. Raises as `activities.orders.admission.Admissions.admit` does."""
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
        if decided.gate in _HALTING_A_GROUP and not intent.dry_run:
            await halt_groups_that_lost(self._pool, self._policy(), self._venue)
        return decided

    async def _entry_of(self, intent: OrderIntent) -> Entry:
        policy = self._policy()
        # Beside each other: neither needs the other's answer.
        drafted, rates = await asyncio.gather(
            self._drafted(intent), self._venue.fee_rates(intent.symbol), return_exceptions=True
        )
        if isinstance(drafted, BaseException):
            raise drafted
        product, draft, price, market = drafted
        if product is not None and isinstance(rates, BaseException):
            raise rates
        fees = None if product is None or isinstance(rates, BaseException) else rates
        rate = ZERO if fees is None else fees.maker if intent.post_only else fees.taker
        buffer = 1 + policy.market_buffer if draft.order_type is OrderType.MARKET else Decimal(1)
        needed = reservation(draft.base_size, price and price * buffer, draft.quote_size, rate)
        ask = product is not None and not intent.by_hand
        taker = None if fees is None else fees.taker
        by_touch = market is not None
        return Entry(
            intent, product, draft, price, needed, rate, taker, market, ask and not by_touch, drafted_by_touch=by_touch
        )

    async def _learn(self, entry: Entry, asking: _Asking) -> Entry:
        """Ask for what an entry's gates don't know; the entry with it, or as it was where no answer comes."""
        intent = entry.intent
        if asking.what is Ask.BALANCE:
            return replace(entry, since=await self._read_balances(intent.account) or entry.since)
        if asking.what is Ask.RATES:
            policy = self._policy()
            await learn_rates(self._pool, policy, self._venue)
            await asyncio.gather(*(self._read_rate(currency, policy.currency) for currency in asking.of))
            return entry
        if asking.what is Ask.PRICES:
            await asyncio.gather(*(self._read_price(symbol) for symbol in asking.of))
            return entry
        attempt = client_order_id(intent.order_key, 1)
        if not entry.needs_touch:
            self._venue.forget_quote(attempt, intent.symbol)
        if entry.drafted_by_touch:
            return replace(await self._entry_of(intent), since=entry.since, undecided=entry.undecided)
        # The touch that is kept for all is nothing to decide by: the exchange's own, if it answers.
        market = await self._touches.market(intent.symbol, asks_for=attempt)
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

    async def _read_rate(self, currency: str, own: str) -> None:
        rate = await asked_rate(self._venue, currency, own)
        if rate is not None:
            self._rates[f"{currency}-{own}"] = (time.monotonic(), rate)

    def _asked_rates(self, own: str) -> Mapping[str, Decimal]:
        rates = _still_known(self._rates)
        return {name.removesuffix(f"-{own}"): rate for name, rate in rates.items() if name.endswith(f"-{own}")}

    def _batches_of(self, account: str, quote: str) -> Batches[Entry, Admission | _Asking]:
        """Entries that are decided by the same read: of one account, in one quote currency."""
        found = self._batches.get((account, quote))
        if found is None:

            async def handle(entries: Sequence[Entry]) -> Sequence[Admission | Exception | _Asking]:
                return await self._decide(account, quote, entries)

            found = self._batches[account, quote] = Batches(handle, most=_TOGETHER)
        return found

    async def _decide(
        self, account: str, quote: str, entries: Sequence[Entry]
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
        self, account: str, quote: str, entries: Sequence[Entry], *, within: Connection | None = None
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
        coin = await self._coin(connection, account, quote, traded=rows[0]["quote_is_traded"])
        # Read after the facts, whose turn is taken if another admission or a halt comes between the two.
        limits = await limits_of_entries(
            connection,
            policy,
            {entry.intent.linkage.trigger for entry in entries},
            quote,
            self._asked_rates(policy.currency),
            any_halted=rows[0]["groups_halted"],
        )
        read = _Read(connection, policy, coin, _still_known(self._prices), limits, [])
        answers: list[Admission | _Asking | None] = []
        writes: dict[str, Decided] = {}
        for entry, row in zip(entries, rows, strict=True):
            if row["existing"] or entry.intent.order_key in writes:
                # Decided before: answered by what is stored once the others are.
                answers.append(None)
                continue
            decided = await self._decide_one(read, entry, row)
            if isinstance(decided, _Asking):
                answers.append(decided)
                continue
            answers.append(decided.answer)
            writes[entry.intent.order_key] = decided
            if decided.answer.accepted:
                read.admitted.append(Reserved(entry.intent.symbol, entry.needed, entry.intent.linkage.trigger))
        if writes:
            await store_entries(connection, list(writes.values()))
        return [
            await self._stored(connection, entry.intent) if answer is None else answer
            for entry, answer in zip(entries, answers, strict=True)
        ]

    async def _decide_one(self, read: _Read, entry: Entry, row: Record) -> Decided | _Asking:
        """The decision on one entry beside those that are admitted with it, or what has to be asked for first."""
        intent, policy = entry.intent, read.policy
        market = entry.market or MarketFacts(row["bid"], row["ask"], row["seen_at"], row["change_24h"])
        if entry.needs_touch and not says_something(market, policy):
            return _Asking(Ask.TOUCH)
        standing = Standing(row["mode"], bool(row["armed"]), self._trouble())
        known_so_far = facts_of(entry, market, row, policy, standing, read.prices, read.coin, read.limits)
        facts = with_admitted(known_so_far, read.admitted)
        results = run_gates(ENTRY_GATES, facts)
        if results[-1].gate == GateName.DECISION_EXPIRED and entry.undecided:
            results = list(entry.undecided)
        elif entry.patient and (asking := await self._asking(read.connection, entry, row, facts, results)):
            return asking
        known = with_who_asked(intent, row["given_by"] if row["command_about"] == intent_digest(intent) else None)
        known = _with_rate(as_entered(known), entry.taker)
        turn = Turn(row["turns"] + len(read.admitted), row["read_at"])
        return self._decisions.decided(known, entry.draft, results, reserved=entry.needed, turn=turn)

    async def _stored(self, connection: Statements, intent: OrderIntent) -> Admission | IntentConflictError:
        try:
            return await self._decisions.stored(connection, intent)
        except IntentConflictError as error:
            return error

    async def _coin(self, connection: Statements, account: str, quote: str, *, traded: bool) -> Coin | None:
        """What the books say of the quote currency, where trades can own some of it: it goes by the pool's rule then.

        `traded`: by the facts, an order at work or a trade is of it. Read after the facts: whatever is recorded in
        between, each of the two is of one moment and safe by itself.
        """
        now = time.monotonic()
        looked, known = self._coins.get((account, quote), (-_COIN_SECONDS, False))
        traded = traded or known
        if not traded and now - looked >= _COIN_SECONDS:
            traded = await is_coin(connection, account, quote)
            self._coins[account, quote] = (now, traded)
        return (await coins(connection, account, datetime.now(UTC), quote))[quote] if traded else None

    async def _asking(
        self, connection: Statements, entry: Entry, row: Record, facts: Facts, results: Sequence[GateResult]
    ) -> _Asking | None:
        """What has to be asked for before an entry is refused; None: it is decided."""
        last = results[-1]
        if last.asks is not None:
            return _Asking(last.asks, _asked_of(last.asks, facts), results)
        if last.passed or last.gate != GateName.INSUFFICIENT_BALANCE or not facts.held_elsewhere:
            return None
        # What an order of ours held that has ended since looks like somebody else's: the exchange knows better now.
        if entry.since is None and await connection.fetchval(ENDED_SINCE, entry.intent.account, row["balance_at"]):
            return _Asking(Ask.BALANCE)
        return None

    async def _drafted(self, intent: OrderIntent) -> tuple[Product | None, Draft, Decimal | None, MarketFacts | None]:
        """The product, the first attempt, what one base unit is worth, and the touch if it had to be asked for."""
        product = await self._venue.product(intent.symbol)
        if product is None or not needs_touch(intent, product):
            return product, *as_asked(intent, product), None
        quote = await self._venue.quote_for(client_order_id(intent.order_key, 1), intent.symbol)
        market = MarketFacts(quote.bid, quote.ask, datetime.now(UTC))
        return product, *at_touch(intent, product, quote, self._policy().market_collar), market


def _still_known(asked: dict[str, tuple[float, Decimal]]) -> Mapping[str, Decimal]:
    """What was asked for a moment ago; what is older is forgotten."""
    since = time.monotonic() - _PRICE_SECONDS
    for name in [name for name, (at, _) in asked.items() if at < since]:
        del asked[name]
    return {name: value for name, (_, value) in asked.items()}


def _asked_of(what: Ask, facts: Facts) -> tuple[str, ...]:
    """Of which symbols prices, or of which currencies rates, are to be asked for."""
    if what is not Ask.RATES:
        return tuple(facts.unpriced)
    own = (facts.product.quote,) if facts.product is not None and facts.own_rate is None else ()
    return tuple({*own, *(currency for use in facts.groups for currency in use.without_rate)})


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
