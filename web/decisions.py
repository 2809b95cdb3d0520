"""From a parsed, authenticated alert to its answer: record it, have it decided, return the decision.

The row under the alert's key is written first and holds the order's whole intent. So after a crash at any point, the
same alert again continues where the first one stopped, and nothing is done twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from activities.interfaces.starting import decide_order
from domain.commands import CommandKind
from domain.entries import EntryError, EntryStyle, Triggers, alert_entry, buy_key
from domain.exits import ExitReason
from domain.gates import never_sold
from domain.ids import client_order_id, order_workflow_id
from domain.intents import sell_key, sell_of_size
from domain.messages import CloseRequest, OrderDecision, OrderIntent
from domain.orders import EntryPoint, Side, TimeInForce
from domain.pool import sold_from
from domain.round_trip import ASSUMED_TAKER, RoundTrip, of_order
from web.alert import Alert, Wrong
from web.answers import AlertAnswer, TradeAnswer
from web.journal import AlertJournal, Noted
from web.refusals import Lapse, Refused
from web.scopes import Refusal, Scope, order_worth, outside, too_large, too_many_today, without_trade
from web.senders import Proof, check_time
from web.symbols import BadSymbol, product_of
from workflows.asking import NoAnswerError, ask_to_end

__all__ = ["AlertDecisions", "AlertTerms"]

_FRESH_S = 120.0
"""The maximum age of a price used to value an order, in wall seconds (EXIT-7)."""
_LOOK_S = 0.4
"""Timeout for checking whether Temporal answers at all, after waiting for the decision."""


@dataclass(frozen=True, slots=True)
class AlertTerms:
    """The settings in force for decisions. Durations in wall seconds."""

    account: str
    venue: str
    orders_queue: str
    products: Collection[str]
    hodl: Collection[str]
    source: str
    trigger: str
    triggers: Triggers
    valid_s: float
    window_s: float
    decision_s: float
    balance_s: float = 120.0
    """The maximum age of a balance used to size an order by a share of the account."""
    taker: Decimal = ASSUMED_TAKER
    """The fee rate used if the account's own isn't known, a fraction."""
    scopes: Mapping[str, Scope] = field(default_factory=dict)


class AlertDecisions:
    """Decides on alerts of one account."""

    def __init__(self, client: Client, journal: AlertJournal, terms: Callable[[], AlertTerms]) -> None:
        self._client = client
        self._journal = journal
        self._terms = terms

    async def decide(self, alert: Alert, proof: Proof) -> AlertAnswer:
        """The decision on an alert, made once.

        Raises Wrong (an invalid field), and Refused: OLD_TIMESTAMP, FUTURE_TIMESTAMP (401), INTENT_CONFLICT (409),
        NO_KEY (422), NO_DATABASE, NO_TEMPORAL (503).
        """
        terms, now = self._terms(), datetime.now(UTC)
        symbol = _product(alert, terms)
        at = alert.time or proof.signed_at
        name = alert.name or _made_name(alert, symbol)
        request_id = f"{proof.sender}:{name}"
        if alert.time is not None:
            await self._check_age(alert.time, now, terms, request_id)
        digest = alert.digest(symbol)
        scope = terms.scopes.get(proof.sender, Scope())
        trigger = (alert.trigger or terms.trigger) if alert.does == "buy" else None
        intent = None
        refusal = outside(scope, proof.sender, action=alert.does, symbol=symbol, trigger=trigger)
        if refusal is None and alert.does != "buy":
            refusal = _never_sold(symbol, terms)
        if refusal is None and alert.does != "close":
            decided = min(at, now) if at else now
            if alert.does == "buy":
                intent = await self._buy(alert, symbol, request_id, decided, proof.sender, terms)
            else:
                intent = await self._sell(alert, symbol, request_id, decided, proof.sender, terms)
            if intent is not None:
                refusal = await self._beyond(scope, proof.sender, intent)
            intent = intent if refusal is None else None
        noted = await self._journal.note(
            request_id,
            sender=proof.sender,
            action=alert.does,
            symbol=symbol,
            digest=digest,
            alert=alert.model_dump(mode="json", exclude_defaults=True, exclude={"token"}),
            intent=intent,
            refusal=refusal,
            orders_per_day=scope.orders_per_day,
            too_many=too_many_today(scope, proof.sender),
        )
        if noted.digest != digest:
            raise Refused(
                409,
                "INTENT_CONFLICT",
                f"The key {name} was used for another alert ({noted.action} {noted.symbol}, "
                f"{noted.received_at:%Y-%m-%d %H:%M:%S}Z): nothing was done; use a new key.",
                field="key" if alert.name else None,
            )
        common: dict[str, Any] = {
            "sender": proof.sender,
            "key": name,
            "repeated": noted.repeated,
            "action": alert.does,
            "symbol": symbol,
        }
        if noted.refusal is not None:
            if noted.refusal["gate"].startswith("SENDER_") and not noted.repeated:
                await self._tell_outside(proof.sender, name, noted.refusal)
            return AlertAnswer(
                decision="refused", sentence=f"{noted.refusal['sentence']}.", gate=noted.refusal["gate"], **common
            )
        if noted.intent is None:
            return await self._close(noted, request_id, alert, terms, common)
        return await self._order(noted.intent, noted, terms, common)

    async def _beyond(self, scope: Scope, sender: str, intent: OrderIntent) -> Refusal | None:
        """Why an order is outside its sender's scope; None if it isn't."""
        size = intent.base_size
        if intent.side is Side.SELL and intent.entry_key is None and size is not None:
            refusal = without_trade(scope, sender, intent.symbol, size)
            if refusal is not None:
                return refusal
        if scope.max_order_quote is None:
            return None
        price = None
        if intent.quote_size is None and not (intent.side is Side.BUY and intent.limit_price is not None):
            price = await self._journal.price(intent.symbol, intent.side, _FRESH_S)
        worth = order_worth(
            intent.side, quote_size=intent.quote_size, base_size=size, limit=intent.limit_price, price=price
        )
        return too_large(scope, sender, worth)

    async def _tell_outside(self, sender: str, key: str, refusal: Mapping[str, str]) -> None:
        """Report a request outside a sender's scope: a mistake, or someone else with its token."""
        await self._journal.lapsed(
            sender,
            f"The alert {key} of the sender {sender} was refused: {refusal['sentence']}.",
            {"key": key, "code": refusal["gate"], "reason": refusal["sentence"]},
        )

    async def _check_age(self, at: datetime, now: datetime, terms: AlertTerms, request_id: str) -> None:
        """Refuse an old alert, unless it was decided while it was new."""
        try:
            check_time(at, now, timedelta(seconds=terms.window_s), "The alert's time")
        except Refused:
            if not await self._journal.known(request_id):
                raise

    # --- orders -------------------------------------------------------------------------------------------------------

    async def _buy(
        self, alert: Alert, symbol: str, request_id: str, now: datetime, sender: str, terms: AlertTerms
    ) -> OrderIntent | None:
        """A buy as the settings have it now; None for a recorded alert whose size can't be told again: the record has
        its intent.
        """
        key = buy_key(EntryPoint.WEBHOOK, terms.account, request_id, symbol)
        rules = terms.triggers.get(alert.trigger or terms.trigger)
        worth = None
        if rules is not None and rules.size_share is not None and alert.size_quote is None and alert.size_base is None:
            quote = symbol.replace("_", "-").partition("-")[2]
            worth = await self._journal.worth(quote, terms.balance_s, _FRESH_S)
        try:
            return alert_entry(
                terms.triggers,
                account=terms.account,
                request_id=request_id,
                symbol=symbol,
                linkage=alert.linkage(alert.trigger or terms.trigger, key),
                now=now,
                source=alert.recorded_source or terms.source,
                asked_by=sender,
                size_quote=alert.size_quote,
                size_base=alert.size_base,
                limit_price=alert.price,
                style=None if alert.order_type is None else EntryStyle(alert.order_type),
                dry_run=alert.dry_run,
                worth=worth,
            )
        except EntryError as error:
            if error.code == "WORTH_NOT_KNOWN":
                if await self._journal.known(request_id):
                    return None
                sentence = f"{error.sentence[:1].upper()}{error.sentence[1:]}: send the alert again, with the same key."
                name = request_id.removeprefix(f"{sender}:")
                await self.tell(Lapse(sender, error.code, sentence, field=None, key=name, closes=False))
                raise Refused(503, error.code, sentence, retry_after=5) from None
            raise Wrong("trigger" if error.code == "UNKNOWN_TRIGGER" else "", error.sentence) from None

    async def _sell(
        self, alert: Alert, symbol: str, request_id: str, now: datetime, sender: str, terms: AlertTerms
    ) -> OrderIntent:
        """A sell of a size: of the oldest trade that holds it, else, if the sender may, from the pool."""
        size = alert.size_base
        if size is None:
            raise Wrong("size_base", "sell needs size_base")
        entry_key = sold_from(await self._journal.open_trades(symbol), size)
        key = sell_key(EntryPoint.WEBHOOK, terms.account, request_id, symbol, entry_key)
        limit = alert.order_type == "LIMIT_IOC" or (alert.order_type is None and alert.price is not None)
        return sell_of_size(
            entry_point=EntryPoint.WEBHOOK,
            account=terms.account,
            request_id=request_id,
            symbol=symbol,
            entry_key=entry_key,
            size=size,
            limit_price=alert.price if limit else None,
            time_in_force=TimeInForce.IOC,
            source=alert.recorded_source or terms.source,
            valid_until=now + timedelta(seconds=terms.valid_s),
            linkage=alert.linkage(ExitReason.MANUAL.value, key),
            dry_run=alert.dry_run,
            asked_by=sender,
        )

    async def _order(self, intent: OrderIntent, noted: Noted, terms: AlertTerms, common: dict[str, Any]) -> AlertAnswer:
        stored = await self._journal.decision(intent.order_key) if noted.repeated else None
        decision, warnings = stored, await self._cautions(intent, terms) if stored else ()
        if stored is None:
            decision, warnings = await asyncio.gather(self._decision(intent, terms), self._cautions(intent, terms))
        ids: dict[str, Any] = {
            "order_key": intent.order_key,
            "workflow_id": order_workflow_id(intent.order_key),
            "warnings": warnings,
        }
        if decision is None:
            return AlertAnswer(
                decision="deciding",
                sentence=f"No worker has decided it within {terms.decision_s:g} s; it is waiting, and is dropped if "
                f"it gets too old. The same alert with the same key returns its state.",
                state="RECEIVED",
                **ids,
                **common,
            )
        if not decision.accepted:
            return AlertAnswer(
                decision="refused",
                sentence=f"{decision.sentence[:1].upper()}{decision.sentence[1:]}.",
                state=decision.state.value,
                gate=decision.gate,
                numbers=await self._journal.gate_numbers(intent.order_key),
                **ids,
                **common,
            )
        return AlertAnswer(
            decision="admitted",
            sentence=f"{intent.side} {intent.symbol} is admitted and goes to the exchange.",
            state=decision.state.value,
            client_order_id=client_order_id(intent.order_key, 1),
            **ids,
            **common,
        )

    async def _cautions(self, intent: OrderIntent, terms: AlertTerms) -> tuple[str, ...]:
        """Warnings about the order; none if the ledger doesn't answer: a warning delays no order."""
        try:
            found = await self._journal.costs(intent.symbol, _FRESH_S)
        except Refused:
            return ()
        trip = RoundTrip(terms.taker) if found.taker is None else RoundTrip(found.taker, known=True)
        return tuple(of_order(intent, trip, found.bid, found.ask))

    async def _decision(self, intent: OrderIntent, terms: AlertTerms) -> OrderDecision | None:
        """Start the order and get the decision in one round trip; None if it is not decided in time."""
        try:
            async with asyncio.timeout(terms.decision_s):
                return await decide_order(self._client, intent, task_queue=terms.orders_queue)
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
            stored = await self._journal.decision(intent.order_key)
            if stored is None and not await self.temporal_alive(_LOOK_S):
                raise _no_temporal("it does not answer") from None
            return stored
        except WorkflowAlreadyStartedError:  # it has ended
            stored = await self._journal.decision(intent.order_key)
        except WorkflowUpdateFailedError as error:
            cause = error.cause
            if isinstance(cause, ApplicationError) and cause.type == "INTENT_CONFLICT":
                raise Refused(409, "INTENT_CONFLICT", f"{cause.message[:1].upper()}{cause.message[1:]}.") from None
            stored = await self._journal.decision(intent.order_key)
        except RPCError as error:
            raise _no_temporal(error.status.name) from error
        if stored is None:
            raise _no_temporal(f"{order_workflow_id(intent.order_key)} has ended without a decision")
        return stored

    async def tell(self, lapse: Lapse) -> None:
        """Report an authenticated sender's invalid alert to people; a close that wasn't done, at once."""
        which = f"The alert {lapse.key}" if lapse.key else "An alert"
        done = " No position was closed for it." if lapse.closes else ""
        await self._journal.lapsed(
            lapse.sender,
            f"{which} of the sender {lapse.sender} was refused: {lapse.sentence}{done}",
            {"key": lapse.key, "field": lapse.field, "code": lapse.code, "reason": lapse.sentence},
            critical=lapse.closes,
        )

    async def alive(self) -> dict[str, bool]:
        """The services needed for a decision, and whether they answer."""
        database, temporal = await asyncio.gather(self._journal.alive(), self.temporal_alive())
        return {"database": database, "temporal": temporal}

    async def temporal_alive(self, seconds: float = 1) -> bool:
        """Whether Temporal answers within this time."""
        try:
            return await self._client.service_client.check_health(timeout=timedelta(seconds=seconds))
        except RPCError:
            return False

    # --- closing ------------------------------------------------------------------------------------------------------

    async def _close(
        self, noted: Noted, request_id: str, alert: Alert, terms: AlertTerms, common: dict[str, Any]
    ) -> AlertAnswer:
        """Every trade that was open when the alert first came is asked to sell; repeated, the same ones."""
        if not noted.closes:
            return AlertAnswer(
                decision="nothing_to_close", sentence=f"No trade in {noted.symbol} was open.", trades=(), **common
            )
        request = CloseRequest(request_id=request_id, by=common["sender"], note=alert.note or "closed by webhook")
        told = await asyncio.gather(
            *(
                # The command is in the ledger since the alert was noted.
                self._close_one(key, request.model_copy(update={"command": f"{request_id}/{key}"}), terms.decision_s)
                for key in noted.closes
            )
        )
        closing = [item for item in told if item.accepted]
        if closing:
            sentence = f"{len(closing)} of {len(told)} trades in {noted.symbol} are being sold or cancelled."
        else:
            sentence = f"No trade in {noted.symbol} is open any more."
        return AlertAnswer(
            decision="closing" if closing else "nothing_to_close", sentence=sentence, trades=tuple(told), **common
        )

    async def _close_one(self, key: str, request: CloseRequest, seconds: float) -> TradeAnswer:
        """The trade's monitor sells; if there is none yet, its entry cancels the unfilled rest."""
        update_id = f"webhook-{hashlib.sha256(request.request_id.encode()).hexdigest()[:32]}"
        try:
            reply = await ask_to_end(self._client, CommandKind.CLOSE, key, request, seconds, update_id=update_id)
        except NoAnswerError as silent:
            if await self._leave_signal(silent.workflow_id, request, seconds):
                # A run that fails takes its signals with it: then the next one finds the close in the ledger.
                await self._journal.keep_close(key, request.command)
                return TradeAnswer(entry_key=key, accepted=True, sentence="requested; no worker has answered yet")
            return await self._keep_close(key, request)
        except LookupError:
            return await self._keep_close(key, request)
        except RPCError as error:
            raise _no_temporal(error.status.name) from error
        return TradeAnswer(entry_key=key, accepted=reply.accepted or reply.code == "CLOSING", sentence=reply.sentence)

    async def _leave_signal(self, workflow_id: str, request: CloseRequest, seconds: float) -> bool:
        """Send a close as a signal, which Temporal keeps until a worker handles it. Raises Refused.

        False if the workflow has ended meanwhile.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._client.get_workflow_handle(workflow_id).signal("close", request)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise _no_temporal(error.status.name) from error
        except TimeoutError:
            raise _no_temporal("it does not answer") from None
        return True

    async def _keep_close(self, key: str, request: CloseRequest) -> TradeAnswer:
        """Store a close for which no workflow is running in the ledger, unless the trade is closed."""
        if await self._journal.closed(key):
            return TradeAnswer(entry_key=key, accepted=False, sentence="the trade is closed")
        await self._journal.keep_close(key, request.command)
        return TradeAnswer(
            entry_key=key,
            accepted=True,
            sentence="no workflow runs for it at the moment: the close is stored and carried out once one has been "
            "started",
        )


def _product(alert: Alert, terms: AlertTerms) -> str:
    try:
        return product_of(alert.symbol, venue=terms.venue, known=terms.products)
    except BadSymbol as error:
        raise Wrong("symbol", str(error)) from None


def _never_sold(symbol: str, terms: AlertTerms) -> Refusal | None:
    """The gate's answer before anything is stored or closed: an alert is not a person."""
    gate = never_sold(symbol, listed=symbol in terms.hodl)
    return None if gate.passed else {"gate": gate.gate, "sentence": gate.sentence}


def _made_name(alert: Alert, symbol: str) -> str:
    """A key for an alert without one, derived from its content and time.

    The signature's time is not included, because a repeat of the same alert is signed again. Raises Refused NO_KEY
    (422).
    """
    if alert.time is None:
        raise Refused(
            422,
            "NO_KEY",
            'An alert needs a "key", or a "time" to make one of: else the same alert sent twice could not be told from '
            "two alerts.",
            field="key",
        )
    return f"auto-{hashlib.sha256(f'{alert.digest(symbol)}|{alert.time.isoformat()}'.encode()).hexdigest()[:32]}"


def _no_temporal(why: str) -> Refused:
    return Refused(
        503,
        "NO_TEMPORAL",
        f"Temporal can't accept the order now ({why}), so it is not known whether it was decided. The same alert "
        f"with the same key may be sent again.",
        retry_after=5,
    )
