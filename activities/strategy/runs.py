"""A strategy run: computes and stores the matrix from candles, and starts an order for each buy (ENTRY).

The matrix and every decision are committed in one statement before an order is started; order keys are derived from the
snapshot. So a run that is interrupted at any point and retried decides nothing again and buys nothing twice. A sell
affects open trades through the matrix (EXIT-1); a strategy never sells from the pool.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.database import Pool
from activities.incidents import report_once, resolve_incidents
from activities.interfaces.strategy import StrategyActivity, StrategyReport, StrategyRow, StrategyRun
from activities.market.candles import CandleTable, MarketRow
from activities.market.universe import Universe
from activities.starting import Starter
from activities.strategy.loading import StrategyError
from activities.strategy.store import Signal, StrategyStore, deciding
from domain.candles import CANDLE, CANDLE_SECONDS
from domain.entries import AccountWorth, EntryError, Triggers, strategy_entry
from domain.gate_facts import AHEAD_SECONDS
from domain.incidents import IncidentKind
from domain.indicators import Parameters
from domain.indicators_named import NamedIndicator, UnknownIndicatorError
from domain.messages import OrderIntent
from domain.scoring import Action, Decision, linkage_of
from domain.strategies import Strategy, decide_all, look_at

__all__ = ["StrategyOptions", "StrategyRuns"]

log = structlog.get_logger(__name__)

_STARTS_AT_ONCE = 20
_SHOWN = 20
_KEPT_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyOptions:
    """A run's settings; read again at each run, because they may change. Wall seconds."""

    triggers: Triggers = field(default_factory=dict)
    """The rules of its orders; it buys by no other trigger."""
    asked_by: str = ""
    """The strategy's name, stored as the requester of its orders."""
    enabled: bool = False
    universe: Universe = field(default_factory=Universe)
    strategies: Callable[[], Sequence[Strategy]] = tuple
    """Creates the strategy at each run; raises StrategyError."""
    parameters: Parameters = field(default_factory=Parameters)
    named: tuple[NamedIndicator, ...] = ()
    window: int = 300
    stale_seconds: float = 120.0
    balance_stale_seconds: float = 120.0
    one_trade_per_trigger: bool = True
    by_the_clock: bool = True
    """Whether our clock tells a candle's end; else (in a market that is sped up) the next candle does."""
    source: str = "sighook"


@dataclass(frozen=True, slots=True)
class _Market:
    """A run's market data beside the indicators."""

    symbols: tuple[str, ...]
    allowed: frozenset[str]
    held: frozenset[str]
    states: Mapping[str, MarketRow]
    candle: datetime | None
    """The opening time of the newest closed candle."""
    now: datetime


class StrategyRuns(StrategyActivity):
    """The activity for one account."""

    def __init__(self, pool: Pool, starter: Starter, options: Callable[[], StrategyOptions]) -> None:
        self._pool = pool
        self._starter = starter
        self._options = options
        self._store = StrategyStore(pool)

    @activity.defn(name="run_strategy")
    async def run_strategy(self, request: StrategyRun) -> StrategyReport:
        """One run. Raises ApplicationError BAD_STRATEGY for one that can't be used, and the database's errors."""
        return await self.run(request)

    async def run(self, request: StrategyRun) -> StrategyReport:
        """The same without an activity's context."""
        began = time.perf_counter()
        options = self._options()
        stored = await self._store.run(request.snapshot_id)
        if stored is not None and stored["finished_at"] is not None:
            return StrategyReport.model_validate(stored["details"]["report"])
        if stored is None:
            await self._decide(request, options)
        await self._start(request.snapshot_id)
        return await self._finish(request, options, time.perf_counter() - began)

    # --- deciding -------------------------------------------------------------------------------------------------

    async def _decide(self, request: StrategyRun, options: StrategyOptions) -> None:
        market = await self._market(request.account, options)
        decisions = await self._decisions(request.account, market, options)
        decisions = [_with_fresh_data(item, market, options.stale_seconds) for item in decisions]
        # Beside each other, a scheduled run and one by hand would both find that nothing was bought on this candle.
        async with deciding(self._pool, request.account) as store:
            signals = await self._signals(request, decisions, market, options, store)
            await store.store(
                account=request.account,
                snapshot_id=request.snapshot_id,
                at=market.now,
                decisions=decisions,
                prices={symbol: state.price for symbol, state in market.states.items()},
                signals=signals,
                candle=market.candle.isoformat() if market.candle else "",
                details={
                    "nominal_at": request.nominal_at.isoformat(),
                    "candle": market.candle.isoformat() if market.candle else None,
                    "enabled": options.enabled,
                },
            )

    async def _market(self, account: str, options: StrategyOptions) -> _Market:
        now = datetime.now(UTC)
        universe = options.universe
        allowed = universe.allow or tuple(
            await self._store.most_traded(
                account,
                universe.top,
                now - timedelta(seconds=_KEPT_SECONDS),
                quotes=universe.quotes,
                least=universe.min_quote_volume,
                without=universe.block,
            )
        )
        wanted = [symbol for symbol in allowed if symbol not in universe.block]
        held = await self._store.held(account)
        symbols = tuple(sorted({*wanted, *held}))
        table = CandleTable(self._pool, account)
        candle = await self._last_closed(table, symbols, now, by_the_clock=options.by_the_clock)
        states = await table.states(symbols)
        return _Market(symbols, frozenset(wanted), frozenset(held), states, candle, now)

    async def _last_closed(
        self, table: CandleTable, symbols: Sequence[str], now: datetime, *, by_the_clock: bool
    ) -> datetime | None:
        newest = await table.newest(symbols)
        if newest is None:
            return None
        if by_the_clock:
            return datetime.fromtimestamp(int(now.timestamp()) // CANDLE_SECONDS * CANDLE_SECONDS, UTC) - CANDLE
        return newest - CANDLE

    async def _decisions(self, account: str, market: _Market, options: StrategyOptions) -> list[Decision]:
        if not market.symbols:
            return []
        if market.candle is None:
            return [_held(symbol, "there are no candles yet") for symbol in market.symbols]
        block = await CandleTable(self._pool, account).block(market.symbols, market.candle, options.window)

        def work() -> list[Decision]:
            return decide_all(look_at(block, options.parameters, options.named), options.strategies())

        try:
            # Beside the loop: strategies of the user's own, and indicators by name, may take their time.
            decisions = await asyncio.to_thread(work)
        except (Exception, SystemExit) as problem:
            # Code of the user's own may raise anything; whatever it is, somebody has to hear that nothing is decided.
            known = isinstance(problem, StrategyError | UnknownIndicatorError)
            told = str(problem) if known else f"the strategy run fails with {type(problem).__name__}: {problem}"
            await report_once(self._pool, account, IncidentKind.STRATEGY_UNUSABLE, "WARNING", "strategy", f"{told}.")
            raise ApplicationError(told, type="BAD_STRATEGY", non_retryable=True) from problem
        await resolve_incidents(self._pool, account, IncidentKind.STRATEGY_UNUSABLE, "strategy")
        return decisions

    async def _signals(
        self,
        request: StrategyRun,
        decisions: Sequence[Decision],
        market: _Market,
        options: StrategyOptions,
        store: StrategyStore,
    ) -> list[Signal]:
        buys = [item.symbol for item in decisions if item.action is Action.BUY]
        busy: set[tuple[str, str]] = set()
        bought: set[str] = set()
        if buys and market.candle is not None:
            if options.one_trade_per_trigger:
                busy = await store.in_trade(request.account, buys)
            bought = await store.decided(request.account, buys, market.candle.isoformat(), market.now)
        worths = await self._worths(request.account, [item for item in decisions if item.action is Action.BUY], options)
        found: list[Signal] = []
        for item in decisions:
            if item.action is Action.SELL:
                found.append(_sell_signal(item, market, options.source))
            elif item.action is Action.BUY:
                held = (item.symbol, item.trigger or "") in busy
                worth = worths.get(_quote_of(item.symbol))
                found.append(
                    self._buy_signal(
                        request, item, market, options, busy=held, bought=item.symbol in bought, worth=worth
                    )
                )
        return found

    async def _worths(
        self, account: str, buys: Sequence[Decision], options: StrategyOptions
    ) -> dict[str, AccountWorth]:
        """What the account is worth in the quote currencies of buys whose size is a share of it."""
        sized = {name for name, rules in options.triggers.items() if rules.size_share is not None}
        quotes = {_quote_of(item.symbol) for item in buys if item.trigger in sized}
        stale = options.balance_stale_seconds, options.stale_seconds
        return {quote: await self._store.worth(account, quote, *stale) for quote in sorted(quotes)}

    def _buy_signal(
        self,
        request: StrategyRun,
        decision: Decision,
        market: _Market,
        options: StrategyOptions,
        *,
        busy: bool,
        bought: bool,
        worth: AccountWorth | None,
    ) -> Signal:
        symbol, trigger = decision.symbol, decision.trigger or ""

        def nothing(became: str, sentence: str) -> Signal:
            return Signal(symbol, "BUY", options.source, trigger, became, sentence)

        state = market.states.get(symbol)
        if not options.enabled:
            return nothing("disabled", "strategy.enabled is off: nothing is bought")
        if symbol not in market.allowed:
            return nothing("not_allowed", f"{symbol} is only evaluated because it is held")
        if bought:
            return nothing("same_candle", "an earlier run has already bought on this candle")
        if busy:
            return nothing("already_held", f"a trade of {trigger} in {symbol} is open")
        if state is None or state.bid is None or state.ask is None:
            return nothing("no_price", f"bid and ask of {symbol} are not known")
        try:
            intent = strategy_entry(
                options.triggers,
                account=request.account,
                request_id=request.snapshot_id,
                symbol=symbol,
                linkage=linkage_of(decision, request.snapshot_id),
                now=market.now,
                bid=state.bid,
                ask=state.ask,
                asked_by=options.asked_by,
                worth=worth,
            )
        except EntryError as problem:  # a trigger without settings is this decision's end, not the run's
            return nothing("no_entry", problem.sentence)
        return Signal(symbol, "BUY", intent.source, trigger, "starting", "", intent)

    # --- acting ---------------------------------------------------------------------------------------------------

    async def _start(self, snapshot_id: str) -> None:
        """Start the buys that have not been started; raises Temporal's errors, and the run is retried."""
        intents = await self._store.to_start(snapshot_id)
        slots = asyncio.Semaphore(_STARTS_AT_ONCE)

        async def one(intent: OrderIntent) -> None:
            async with slots:
                await self._start_one(snapshot_id, intent)

        results = await asyncio.gather(*(one(intent) for intent in intents), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _start_one(self, snapshot_id: str, intent: OrderIntent) -> None:
        too_old = intent.valid_until is not None and datetime.now(UTC) > intent.valid_until
        # One that an earlier try has started is not called expired.
        if too_old and not await self._store.known(intent.order_key):
            sentence = f"it was valid until {intent.valid_until:%H:%M:%S} UTC"
            await self._store.became(snapshot_id, intent.order_key, "expired", sentence)
            return
        await self._starter.order(intent)
        await self._store.became(snapshot_id, intent.order_key, "started")

    async def _finish(self, request: StrategyRun, options: StrategyOptions, seconds: float) -> StrategyReport:
        run = await self._store.run(request.snapshot_id)
        outcomes = await self._store.outcomes(request.snapshot_id)
        rows = await self._store.shown(request.snapshot_id, _SHOWN)
        report = StrategyReport(
            account=request.account,
            snapshot_id=request.snapshot_id,
            at=run["at"],
            symbols=run["symbols"],
            buys=run["buys"],
            sells=run["sells"],
            started=sum(item["decision"] == "started" for item in outcomes.values()),
            seconds=round(seconds, 3),
            rows=tuple(_row(row, outcomes.get(row["symbol"])) for row in rows),
            sentence=_sentence(run, options),
        )
        await self._store.finish(request.snapshot_id, report.model_dump(mode="json"))
        log.info(
            "strategy_run",
            snapshot_id=report.snapshot_id,
            symbols=report.symbols,
            buys=report.buys,
            sells=report.sells,
            started=report.started,
            seconds=report.seconds,
        )
        return report


def _quote_of(symbol: str) -> str:
    return symbol.replace("_", "-").partition("-")[2]


def _held(symbol: str, reason: str) -> Decision:
    return Decision(symbol, Action.HOLD, None, 0.0, 0.0, reason=reason)


def _with_fresh_data(decision: Decision, market: _Market, stale_seconds: float) -> Decision:
    """The decision, or a hold if the symbol's market data is too old."""
    if decision.action is Action.HOLD:
        return decision
    state = market.states.get(decision.symbol)
    if state is None or state.at is None:
        return decision._replace(action=Action.HOLD, trigger=None, reason="no market data has been received")
    age = (market.now - state.at).total_seconds()
    if -float(AHEAD_SECONDS) <= age <= stale_seconds:
        return decision
    when = f"{age:.0f} s old" if age > 0 else f"dated {-age:.0f} s ahead of our time"
    reason = f"market data is {when}, the limit is {stale_seconds:.0f} s; otherwise: {decision.action}"
    return decision._replace(action=Action.HOLD, trigger=None, reason=reason)


def _sell_signal(decision: Decision, market: _Market, source: str) -> Signal:
    trigger = decision.trigger or ""
    if decision.symbol in market.held:
        sentence = "open trades without a loss exit by it, if their rules have signal exits"
        return Signal(decision.symbol, "SELL", source, trigger, "exit_signal", sentence)
    return Signal(decision.symbol, "SELL", source, trigger, "nothing_held", "no open trade in it")


def _row(row: Mapping[str, object], outcome: Mapping[str, object] | None) -> StrategyRow:
    return StrategyRow.model_validate(
        {
            "symbol": row["symbol"],
            "action": row["action"],
            "trigger": row["trigger"],
            "buy_score": row["buy_score"],
            "sell_score": row["sell_score"],
            "fired": row["indicators_fired"],
            "outcome": outcome["decision"] if outcome else "",
            "sentence": (outcome["sentence"] or "") if outcome else row["reason"],
            "order_key": outcome["order_key"] if outcome else None,
        }
    )


def _sentence(run: Mapping[str, object], options: StrategyOptions) -> str:
    if not run["symbols"]:
        return "No symbols were evaluated: symbols.allow has none, or no market data has arrived yet."
    return "" if options.enabled else "strategy.enabled is off: the matrix is stored, nothing is bought or sold by it."
