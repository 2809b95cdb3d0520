"""A decision on an intent: what its caller is answered, what is stored of it, and what is read of it again.

A decision is one record: the order's row, its gates, the first attempt with the exact body that will be sent, the plan
and the trade that its exit has begun, and the account's turn. It is written by one statement; entries that are decided
together share it. The order key's uniqueness is the database's: the same intent again gets the stored decision, the
same key with another body is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from activities.commands import accepted
from activities.database import STALLED_MS, Connection, Record, Statements
from activities.policy import Policy
from activities.venue import Venue
from domain.commands import CommandKind, asked_by
from domain.drafting import Draft
from domain.errors import BotTraderError
from domain.exits import ExitReason
from domain.gate_facts import GateResult
from domain.gates import first_refusal
from domain.ids import client_order_id
from domain.intents import as_entered, intent_digest
from domain.messages import Admission, AttemptPlan, AttemptView, CloseRequest, GateView, OrderIntent
from domain.money import ZERO
from domain.orders import AttemptStatus, EntryPoint, OrderRole, OrderState, TimeInForce, TradeState
from domain.protection import ProtectionRole
from exchange.port import OrderRequest, RepeatedId

__all__ = [
    "RECORD",
    "Decided",
    "Decisions",
    "IntentConflictError",
    "Turn",
    "insert_attempt",
    "plan_of",
    "store",
    "store_entries",
    "store_gates",
    "with_who_asked",
]

_GTD_GRACE_SECONDS = 10
_LONGEST = timedelta(milliseconds=STALLED_MS)
"""Facts that were read longer ago than this are not decided by: the process stood still."""

RECORD: Mapping[str, str] = {
    "order_key": "text",
    "account": "text",
    "symbol": "text",
    "side": "text",
    "role": "text",
    "entry_key": "text",
    "order_type": "text",
    "source": "text",
    "entry_point": "text",
    "trigger": "text",
    "exit_reason": "text",
    "snapshot_id": "uuid",
    "buy_score": "numeric",
    "sell_score": "numeric",
    "indicator_breakdown": "jsonb",
    "indicators_fired": "text[]",
    "intent": "jsonb",
    "intent_digest": "text",
    "state": "text",
    "finished": "bool",
    "gate": "text",
    "gate_sentence": "text",
    "base_size": "numeric",
    "quote_size": "numeric",
    "limit_price": "numeric",
    "reserved_quote": "numeric",
    "claimed_base": "numeric",
    "protection_role": "text",
    "gates": "jsonb",
    "client_order_id": "text",
    "body": "jsonb",
    "takes_plan": "bool",
    "takes_trade": "bool",
    "tells_watcher": "bool",
    "left_for": "text",
    "trigger_price": "numeric",
    "trailing_state": "jsonb",
    "turn": "bigint",
    "read_at": "timestamptz",
    "longest": "interval",
}
"""What is stored of a decision, with the types as the database has them: up to `protection_role` columns of `orders`,
then the gates' results in their order, the first attempt (null: none), what its exit begins, and the account's turn
(null: it takes none) with when the facts were read and how long ago that may be.
"""

_COLUMNS = ", ".join(f"{name} {kind}" for name, kind in RECORD.items())
_GATES_AND_ATTEMPT = """
gates AS (
    INSERT INTO gate_results (order_key, position, gate, passed, numbers)
    SELECT d.order_key, g.position, g.gate, g.passed, g.numbers
      FROM decision d, ROWS FROM (jsonb_to_recordset(d.gates) AS (gate text, passed bool, numbers jsonb))
           WITH ORDINALITY AS g (gate, passed, numbers, position)
), attempt AS (
    INSERT INTO attempts (client_order_id, order_key, number, account, symbol, body, status, size, limit_price)
    SELECT d.client_order_id, d.order_key, 1, d.account, d.symbol, d.body, 'SUBMITTING', d.base_size, d.limit_price
      FROM decision d WHERE d.client_order_id IS NOT NULL
)"""
_ORDER = (
    "order_key, account, symbol, side, role, entry_key, order_type, source, entry_point, trigger, exit_reason, "
    "snapshot_id, buy_score, sell_score, indicator_breakdown, indicators_fired, intent, intent_digest, state, "
    "finished, gate, gate_sentence, base_size, quote_size, limit_price, reserved_quote, claimed_base, protection_role"
)
_TURN = "take_turn(d.account, d.turn, d.read_at, d.longest)"

_STORE = f"""
WITH decision AS MATERIALIZED (
    SELECT * FROM jsonb_to_record($1::jsonb) AS d ({_COLUMNS})
), {_GATES_AND_ATTEMPT}, plan AS (
    UPDATE exit_plans p SET state = 'EXITING', exit_reason = d.left_for, updated_at = now(),
           revision = nextval('exit_plan_revision')
      FROM decision d WHERE p.entry_key = d.entry_key AND p.state <> 'DISARMED' AND d.takes_plan
), trade AS (
    UPDATE trades t SET state = CASE WHEN d.takes_plan THEN 'CLOSING' ELSE t.state END, exit_reason = d.left_for,
           exit_legs = t.exit_legs + d.takes_plan::int, trigger_price = d.trigger_price,
           trailing_state = coalesce(d.trailing_state, t.trailing_state)
      FROM decision d WHERE t.entry_key = d.entry_key AND d.takes_trade
)
INSERT INTO orders ({_ORDER})
SELECT d.order_key, d.account, d.symbol, d.side, d.role, d.entry_key, d.order_type, d.source, d.entry_point, d.trigger,
    d.exit_reason, coalesce(e.snapshot_id, d.snapshot_id), coalesce(e.buy_score, d.buy_score),
    coalesce(m.sell_score, d.sell_score), coalesce(e.indicator_breakdown, d.indicator_breakdown),
    coalesce(e.indicators_fired, d.indicators_fired), d.intent, d.intent_digest, d.state, d.finished, d.gate,
    d.gate_sentence, d.base_size, d.quote_size, d.limit_price, d.reserved_quote, d.claimed_base, d.protection_role
FROM decision d CROSS JOIN LATERAL {_TURN} one
-- an exit carries its entry's decision (a market maker's ask its own), and the newest sell score that the matrix has
LEFT JOIN orders e ON e.order_key = CASE WHEN d.role = 'EXIT' AND d.entry_point <> '{EntryPoint.MARKET_MAKER}'
                                         THEN d.entry_key END
LEFT JOIN LATERAL (SELECT s.sell_score FROM market_snapshots s
                    WHERE d.role = 'EXIT' AND s.account = d.account AND s.symbol = d.symbol
                    ORDER BY s.at DESC LIMIT 1) m ON true
RETURNING CASE WHEN (SELECT d.tells_watcher FROM decision d) THEN pg_notify('exit_plan', entry_key) END
"""
# Entries begin no exit and carry their own decision, so many cost the database little more than one. Each takes its
# own turn, in the order of the array.
_STORE_ENTRIES = f"""
WITH decision AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS d ({_COLUMNS})
), {_GATES_AND_ATTEMPT}
INSERT INTO orders ({_ORDER})
SELECT {_ORDER} FROM decision d CROSS JOIN LATERAL {_TURN} one
"""


class IntentConflictError(BotTraderError):
    """The order key is taken by another intent."""

    code = "INTENT_CONFLICT"


@dataclass(frozen=True, slots=True)
class Turn:
    """The account's turn that an admitted order takes: how many were taken when the facts were read, and when (UTC)."""

    taken: int
    read_at: datetime


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision that is not stored yet: what the caller is answered then, and what `store` writes (`RECORD`)."""

    answer: Admission
    record: Mapping[str, Any]


class Decisions:
    """Makes decisions of gate results, and reads those that are stored."""

    def __init__(self, venue: Venue, policy: Callable[[], Policy]) -> None:
        self._venue = venue
        self._policy = policy

    def decided(
        self,
        intent: OrderIntent,
        draft: Draft,
        results: Sequence[GateResult],
        *,
        reserved: Decimal = ZERO,
        claimed: Decimal = ZERO,
        begins_exit: bool = False,
        turn: Turn | None = None,
    ) -> Decided:
        """What the gates' results make of an intent, with the first attempt if it is admitted.

        `reserved` in quote, `claimed` in base. With `begins_exit` the plan acknowledges its monitor's exit, also a
        refused one: the monitor has it now, and arms it again. A sell that a person placed beside the monitor leaves
        the plan armed: what it doesn't sell stays protected.
        """
        refusal = first_refusal(results)
        plan = None if refusal else self.plan(intent, draft, 1)
        state = OrderState.REJECTED if refusal else OrderState.ADMITTED
        answer = self.admission(
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
        record = {
            **_of_intent(intent),
            "state": state.value,
            "finished": refusal is not None,
            "gate": refusal.gate if refusal else None,
            "gate_sentence": refusal.sentence if refusal else None,
            "order_type": draft.order_type.value,
            "base_size": draft.base_size,
            "quote_size": draft.quote_size,
            "limit_price": draft.limit_price,
            "reserved_quote": ZERO if refusal else reserved,
            "claimed_base": ZERO if refusal else claimed,
            "gates": [{"gate": item.gate, "passed": item.passed, "numbers": item.numbers} for item in results],
            "client_order_id": plan.client_order_id if plan else None,
            "body": plan.body if plan else None,
            "takes_plan": begins_exit and intent.by_monitor,
            "takes_trade": begins_exit and refusal is None,
            "tells_watcher": begins_exit,
            "turn": None if refusal or turn is None else turn.taken,
            "read_at": None if refusal or turn is None else turn.read_at,
            "longest": str(_LONGEST),
        }
        return Decided(answer, record)

    async def stored(self, connection: Statements, intent: OrderIntent) -> Admission:
        """The decision that was made on this intent, with what has become of it since. Raises IntentConflictError."""
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
        return self.admission(
            accepted=order["gate"] is None,
            state=OrderState(order["state"]),
            gate=order["gate"],
            sentence=order["gate_sentence"] or "",
            attempts=tuple(_view_of(row) for row in attempts),
            plan=plan_of(first) if first else None,
            size=order["base_size"],
            filled_size=order["filled_size"],
            filled_value=order["filled_value"],
            fees=order["quote_fees"],
            finished=order["finished"],
            stored=True,
            own=bool(intent.run) and order["intent"].get("run") == intent.run,
            close=promised.get(CommandKind.CLOSE),
            cancel=promised.get(CommandKind.CANCEL),
            trade_state=TradeState(trade) if trade else None,
            gates=tuple(GateView(gate=row["gate"], passed=row["passed"], numbers=row["numbers"]) for row in gates),
        )

    def admission(self, **known: Any) -> Admission:
        """The answer with these fields, and how attempts are made for this venue and policy."""
        capabilities, policy = self._venue.exchange.capabilities, self._policy()
        return Admission(
            repeated_id_returns_first=capabilities.repeated_id is RepeatedId.RETURNS_FIRST,
            late_acceptance_seconds=policy.late_acceptance_seconds,
            market_speed=policy.speed,
            max_post_only_attempts=policy.post_only_attempts,
            post_only_backoff_seconds=policy.post_only_backoff,
            **known,
        )

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


async def store(connection: Statements, decided: Decided) -> None:
    """Write a decision. Raises SerializationError if its turn was taken by another or its facts are too old,
    UniqueViolationError if the order is stored already, and the database's other errors; then nothing is written.
    """
    await connection.execute(_STORE, decided.record)


async def store_entries(connection: Statements, decisions: Sequence[Decided]) -> None:
    """Write the decisions on entries, all or none, in their order; raises as `store` does.

    It is one statement: a process that stands still keeps no turn that it took.
    """
    await connection.execute(_STORE_ENTRIES, [decided.record for decided in decisions])


def with_who_asked(intent: OrderIntent, given_by: str | None) -> OrderIntent:
    """The intent as it is stored: with who asked as the ledger knows it, not as the intent says."""
    return intent.model_copy(update={"asked_by": asked_by(intent, given_by)})


def _of_intent(intent: OrderIntent) -> dict[str, Any]:
    """What is stored of the intent itself, whatever is decided."""
    role = intent.protection_role or (ProtectionRole.PRIMARY if intent.protection else None)
    linkage = intent.linkage
    own_trade = intent.order_key if intent.role is OrderRole.ENTRY else None
    return {
        "order_key": intent.order_key,
        "account": intent.account,
        "symbol": intent.symbol,
        "side": intent.side.value,
        "role": intent.role.value,
        "entry_key": intent.entry_key or own_trade,
        "source": intent.source,
        "entry_point": intent.entry_point,
        "trigger": linkage.trigger,
        "exit_reason": intent.exit_reason.value if intent.exit_reason else None,
        "snapshot_id": linkage.snapshot_id,
        "buy_score": linkage.buy_score,
        "sell_score": linkage.sell_score,
        "indicator_breakdown": {
            name: part.model_dump(mode="json") for name, part in linkage.indicator_breakdown.items()
        },
        "indicators_fired": list(linkage.indicators_fired),
        "intent": intent.model_dump(mode="json"),
        "intent_digest": intent_digest(intent),
        "protection_role": role.value if role else None,
        "left_for": (intent.exit_reason or ExitReason.MANUAL).value,
        "trigger_price": intent.trigger_price,
        "trailing_state": intent.trailing,
    }


def _view_of(row: Record) -> AttemptView:
    return AttemptView(
        number=row["number"],
        status=AttemptStatus(row["status"]),
        live=row["live"],
        exchange_order_id=row["exchange_order_id"],
        filled_size=row["filled_size"],
        cancel_asked=row["cancel_asked_at"] is not None,
    )


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


def plan_of(row: Record) -> AttemptPlan:
    """The stored attempt as what `place` sends."""
    return AttemptPlan(
        number=row["number"],
        client_order_id=row["client_order_id"],
        body=row["body"],
        size=row["size"],
        limit_price=row["limit_price"],
    )
