"""Every table, in SQLAlchemy 2.

There are two kinds of rows. *Our own* rows (orders, attempts, claims, plans) have constraints that make a wrong one
impossible: a second order for one key, two live attempts, a fill counted twice, a position below zero. *The
exchange's facts* (`raw_facts`) have none: what doesn't fit our rows becomes an incident, never a lost fill.

Money and sizes are NUMERIC without a scale, times are TIMESTAMPTZ (UTC).

Long on purpose: it is the only description of the schema, which a migrated database must equal.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

__all__ = ["metadata"]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_NOW = text("now()")
_ZERO = text("0")


def _money(name: str, *, null: bool = False) -> Column[object]:
    return Column(name, Numeric, nullable=null, server_default=None if null else _ZERO)


def _time(name: str, *, null: bool = True, now: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=null and not now, server_default=_NOW if now else None)


def _one_of(column: str, *values: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


_FINAL_ATTEMPT = ("FILLED", "CANCELLED", "EXPIRED", "FAILED")

orders = Table(
    "orders",
    metadata,
    Column("order_key", Text, primary_key=True, comment="32 hex digits of the UUIDv5 of the intent"),
    Column("account", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("entry_key", Text, comment="the trade: an entry's own key, or the key of the entry that an exit closes"),
    Column("order_type", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("entry_point", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("exit_reason", Text),
    Column("protection_role", Text, comment="of a trade that is protected at the exchange; OCO: one order, both legs"),
    Column("snapshot_id", UUID(as_uuid=False)),
    _money("buy_score", null=True),
    _money("sell_score", null=True),
    Column("indicator_breakdown", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("indicators_fired", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("intent", JSONB, nullable=False, comment="the whole intent as it was received"),
    Column("intent_digest", Text, nullable=False, comment="the same key with another digest is refused"),
    Column("state", Text, nullable=False),
    Column("finished", Boolean, nullable=False, server_default=text("false"), comment="no attempt will follow"),
    Column("gate", Text, comment="the first gate that refused it"),
    Column("gate_sentence", Text),
    _money("base_size", null=True),
    _money("quote_size", null=True),
    _money("limit_price", null=True),
    _money("reserved_quote"),
    _money("claimed_base"),
    _money("filled_size"),
    _money("filled_value"),
    _money("quote_fees"),
    _money("base_fees"),
    Column("status_source", Text),
    Column("refusal", Text, comment="the venue's own code where it refused"),
    _time("received_at", now=True),
    _time("placed_at"),
    _time("first_fill_at"),
    _time("last_fill_at"),
    _time("finished_at"),
    Column(
        "open_claim",
        Numeric,
        Computed(
            "CASE WHEN side = 'SELL'::text AND NOT finished "
            "THEN GREATEST(claimed_base - filled_size - base_fees, 0::numeric) ELSE 0::numeric END",
            persisted=True,
        ),
        comment="what a sell at work may still take, its fees in base among it",
    ),
    _one_of("side", "BUY", "SELL"),
    _one_of("role", "ENTRY", "EXIT", "EXTERNAL"),
    _one_of("protection_role", "PRIMARY", "TAKE_PROFIT", "STOP_LOSS", "OCO"),
    CheckConstraint("role <> 'EXIT' OR side = 'SELL'", name="exit_sells"),
    CheckConstraint("reserved_quote >= 0 AND claimed_base >= 0", name="reservations_not_negative"),
    CheckConstraint("char_length(order_key) = 32", name="key_length"),
    Index("ix_orders_open", "account", "symbol", postgresql_where=text("NOT finished")),
    Index("ix_orders_entry_key", "entry_key"),
    Index("ix_orders_received_at", "received_at"),
    Index(
        "ix_orders_ended",
        "account",
        text("COALESCE(finished_at, received_at)"),
        "order_key",
        postgresql_where=text("finished"),
    ),
)

attempts = Table(
    "attempts",
    metadata,
    Column("client_order_id", Text, primary_key=True),
    Column("order_key", Text, ForeignKey("orders.order_key"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("account", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("body", JSONB, nullable=False, comment="the exact body that is sent, committed before it is sent"),
    Column("status", Text, nullable=False),
    Column(
        "live",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="ours: no other attempt may be sent. An absent one that appears late does not become live again",
    ),
    Column("exchange_order_id", Text),
    _money("size", null=True),
    _money("limit_price", null=True),
    _money("filled_size"),
    _money("filled_value"),
    _money("quote_fees"),
    _money("base_fees"),
    Column("settled_size", Numeric, comment="up to here the exchange's own executions say what was paid"),
    Column("status_source", Text),
    Column("refusal", Text),
    Column("refusal_text", Text),
    Column("sends", Integer, nullable=False, server_default=_ZERO),
    _time("prepared_at", now=True),
    _time("acknowledged_at"),
    Column(
        "cancel_asked_at",
        DateTime(timezone=True),
        comment="we asked for its cancel; one that ends cancelled without that is somebody else's",
    ),
    _time("final_at"),
    UniqueConstraint("order_key", "number"),
    CheckConstraint("number >= 1", name="number_from_one"),
    Index("uq_attempts_one_live", "order_key", unique=True, postgresql_where=text("live")),
    Index("ix_attempts_exchange_order_id", "account", "exchange_order_id"),
    Index(
        "ix_attempts_not_final",
        "account",
        postgresql_where=text("status NOT IN ('FILLED','CANCELLED','EXPIRED','FAILED')"),
    ),
)

gate_results = Table(
    "gate_results",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("order_key", Text, nullable=False),
    Column("position", Integer, nullable=False, comment="the order in which the gates ran"),
    Column("gate", Text, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("numbers", JSONB, nullable=False, comment="what it compared"),
    _time("at", now=True),
    Index("ix_gate_results_order_key", "order_key"),
)

raw_facts = Table(
    "raw_facts",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("account", Text, nullable=False),
    Column("source", Text, nullable=False, comment="websocket, order_history, open_orders, trade_history, …"),
    Column("kind", Text, nullable=False, comment="order, fill, malformed, …"),
    Column("symbol", Text),
    Column("exchange_order_id", Text),
    Column("client_order_id", Text),
    Column("body", JSONB, nullable=False),
    Column("epoch", BigInteger, comment="the lease's epoch of the stream that saw it"),
    _time("received_at", now=True),
    _time("routed_at"),
    Index("ix_raw_facts_unrouted", "account", "id", postgresql_where=text("routed_at IS NULL")),
    Index("ix_raw_facts_exchange_order_id", "account", "exchange_order_id"),
    Index("ix_raw_facts_received_at", "received_at"),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("subject", Text, comment="an order key, a symbol, a stream"),
    Column("sentence", Text, nullable=False),
    Column("details", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    _time("at", now=True),
    _time("resolved_at"),
    _one_of("severity", "INFO", "WARNING", "CRITICAL"),
    Index("ix_incidents_at", "at"),
    Index("ix_incidents_open", "account", "kind", "subject", postgresql_where=text("resolved_at IS NULL")),
)

notices = Table(
    "notices",
    metadata,
    Column("incident_id", BigInteger, ForeignKey("incidents.id", ondelete="CASCADE"), primary_key=True),
    Column("target", Text, primary_key=True, comment="a digest of the address, which is a secret"),
    Column("times", Integer, nullable=False, server_default=text("1"), comment="messages that told of it"),
    _time("told_at", now=True),
    _time("over_at"),
    Index("ix_notices_open", "target", "incident_id", postgresql_where=text("over_at IS NULL")),
)

notice_targets = Table(
    "notice_targets",
    metadata,
    Column("account", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("failures", Integer, nullable=False, server_default=_ZERO, comment="in a row"),
    Column("last_error", Text),
    _time("last_failed_at"),
    _time("last_delivered_at"),
)

fills = Table(
    "fills",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("fill_key", Text, nullable=False, unique=True, comment="derived: order and size after; else the trade id"),
    Column("account", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("order_key", Text, ForeignKey("orders.order_key")),
    Column("client_order_id", Text),
    Column("exchange_order_id", Text, nullable=False),
    Column("trade_id", Text, comment="the exchange's own id, once known"),
    Column("origin", Text, nullable=False),
    Column("ingest_via", Text, nullable=False),
    _money("size"),
    _money("price"),
    _money("value"),
    _money("quote_fees"),
    _money("base_fees"),
    Column("liquidity", Text, nullable=False, server_default=text("'UNKNOWN'")),
    _time("at", null=False),
    _time("recorded_at", now=True),
    _money("lot_remaining", null=True),
    _one_of("side", "BUY", "SELL"),
    _one_of("origin", "derived", "exchange"),
    CheckConstraint("size >= 0", name="size_not_negative"),
    CheckConstraint("lot_remaining IS NULL OR lot_remaining BETWEEN 0 AND size", name="lot_within_size"),
    Index("ix_fills_order_key", "order_key"),
    Index("ix_fills_exchange_order_id", "account", "exchange_order_id"),
    Index("ix_fills_symbol_at", "account", "symbol", "at", "id"),
    Index("ix_fills_recorded_at", "account", "recorded_at"),
    Index(
        "ix_fills_open_lots",
        "account",
        "symbol",
        "at",
        "id",
        postgresql_where=text("side = 'BUY' AND lot_remaining > 0"),
    ),
)

fifo_allocations = Table(
    "fifo_allocations",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("account", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("sell_fill", BigInteger, ForeignKey("fills.id", ondelete="CASCADE"), nullable=False),
    Column("buy_fill", BigInteger, ForeignKey("fills.id", ondelete="CASCADE"), comment="null: uncovered"),
    Column("sell_order_id", Text, nullable=False),
    Column("buy_order_id", Text),
    _money("size"),
    _money("sell_price"),
    _money("buy_price", null=True),
    _money("sell_fee_per_unit"),
    _money("buy_fee_per_unit", null=True),
    _money("cost_basis", null=True),
    _money("proceeds"),
    _money("net_proceeds"),
    _money("pnl", null=True),
    _time("buy_time"),
    _time("sell_time", null=False),
    UniqueConstraint("sell_fill", "buy_fill", postgresql_nulls_not_distinct=True),
    CheckConstraint("size > 0", name="size_positive"),
    Index("ix_fifo_allocations_symbol", "account", "symbol"),
    Index("ix_fifo_allocations_buy_fill", "buy_fill"),
    Index("ix_fifo_allocations_sell_order_id", "account", "sell_order_id"),
    Index("ix_fifo_allocations_buy_order_id", "account", "buy_order_id"),
)

trades = Table(
    "trades",
    metadata,
    Column("entry_key", Text, ForeignKey("orders.order_key"), primary_key=True),
    Column("account", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("state", Text, nullable=False),
    _money("bought_size"),
    _money("bought_value"),
    _money("bought_quote_fees"),
    _money("bought_base_fees"),
    _money("sold_size"),
    _money("sold_value"),
    _money("sold_quote_fees"),
    _money("sold_base_fees"),
    Column("external_size", Numeric, nullable=False, server_default=_ZERO, comment="taken by sells that were not ours"),
    Column("dust_size", Numeric, nullable=False, server_default=_ZERO, comment="written off: below what can be sold"),
    Column(
        "remaining",
        Numeric,
        Computed(
            "bought_size - bought_base_fees - sold_size - sold_base_fees - external_size - dust_size", persisted=True
        ),
    ),
    Column("entry_final", Boolean, nullable=False, server_default=text("false")),
    Column("dust_why", Text, comment="what was written off, with worth and minimum"),
    Column("exit_reason", Text),
    Column("exit_legs", Integer, nullable=False, server_default=_ZERO, comment="exit orders begun so far"),
    _money("trigger_price", null=True),
    _money("target_fraction", null=True),
    Column("rules", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("trailing_state", JSONB, comment="its final state: peak, stop, ATR, steps"),
    _time("opened_at", now=True),
    _time("protected_at"),
    _time("watched_at"),
    Column("unprotected_seconds", Numeric, nullable=False, server_default=_ZERO, comment="open without a watcher"),
    _time("closed_at"),
    Column(
        "quote_rate",
        Numeric,
        comment="of a trade in another currency: what one unit was worth in the account's own at the close; "
        "null: unknown",
    ),
    Column("quote_rate_currency", Text, comment="in which quote_rate is; null: not known"),
    Column(
        "pnl",
        Numeric,
        Computed(
            "trade_pnl(bought_size - bought_base_fees, bought_value + bought_quote_fees, "
            "sold_size + sold_base_fees, sold_value - sold_quote_fees)",
            persisted=True,
        ),
        comment="of what was sold, in quote currency, after all fees; 0 while nothing was",
    ),
    Column("entry_trigger", Text, comment="the trigger of its entry"),
    _one_of("state", "OPENING", "PROTECTED", "CLOSING", "CLOSED"),
    CheckConstraint(
        "bought_size - bought_base_fees - sold_size - sold_base_fees - external_size - dust_size >= 0",
        name="position_not_negative",
    ),
    Index("ix_trades_open", "account", "symbol", postgresql_where=text("state <> 'CLOSED'")),
    Index("ix_trades_closed_at", "account", "closed_at"),
)

plan_revision = Sequence("exit_plan_revision", metadata=metadata)

exit_plans = Table(
    "exit_plans",
    metadata,
    Column("entry_key", Text, ForeignKey("trades.entry_key"), primary_key=True),
    Column("account", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("rules", JSONB, nullable=False),
    _money("entry_price"),
    _money("quantity"),
    _money("peak", null=True),
    _money("stop", null=True),
    _money("distance", null=True),
    _money("atr", null=True),
    Column("steps", Integer, nullable=False, server_default=_ZERO),
    Column("exit_reason", Text, comment="the exit in progress"),
    Column("lease_epoch", BigInteger, nullable=False, server_default=_ZERO),
    Column("revision", BigInteger, plan_revision, nullable=False, server_default=plan_revision.next_value()),
    _time("updated_at", now=True),
    _one_of("state", "ARMED", "EXITING", "DISARMED"),
    Index("ix_exit_plans_revision", "revision"),
    Index("ix_exit_plans_symbol", "symbol", postgresql_where=text("state <> 'DISARMED'")),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    _time("expires_at", null=False),
    _time("acquired_at", now=True),
    _time("renewed_at"),
    _time("vacant_since"),
)

heartbeats = Table(
    "heartbeats",
    metadata,
    _time("at", now=True),
    Column("filler", Text, nullable=False, comment="a page each, as it is"),
    prefixes=["UNLOGGED"],
)
_PLAIN = DDL("ALTER TABLE heartbeats ALTER COLUMN filler SET STORAGE PLAIN")  # type: ignore[no-untyped-call]  # its own
event.listen(heartbeats, "after_create", _PLAIN)

balances = Table(
    "balances",
    metadata,
    Column("account", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    _money("available"),
    _money("hold"),
    _time("asked_at", null=False),
    _time("answered_at", null=False),
)

balance_transfers = Table(
    "balance_transfers",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("account", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount", Numeric, nullable=False, comment="what no fill explains; below zero: it left"),
    Column("expected", Numeric, nullable=False, comment="what the books added up to before"),
    Column("found", Numeric, nullable=False, comment="what the exchange held"),
    _time("at", now=True),
    _one_of("kind", "opening", "deposit", "withdrawal", "rounding"),
    Index("ix_balance_transfers_currency", "account", "currency"),
    Index(
        "uq_balance_transfers_opening",
        "account",
        "currency",
        unique=True,
        postgresql_where=text("kind = 'opening'"),
    ),
)

adopted_sales = Table(
    "adopted_sales",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("account", Text, nullable=False),
    Column("sale_key", Text, ForeignKey("orders.order_key"), nullable=False, comment="the external order that sold"),
    Column(
        "entry_key",
        Text,
        ForeignKey("trades.entry_key"),
        comment="the trade that bears it; null: sold before this was kept",
    ),
    Column("size", Numeric, nullable=False),
    _time("at", now=True),
    CheckConstraint("size > 0", name="size_positive"),
    Index("ix_adopted_sales_sale_key", "sale_key"),
)

ledger_identity = Table(
    "ledger_identity",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False, server_default=text("1")),
    Column("mode", Text, nullable=False),
    Column("stamped_by", Text, nullable=False),
    _time("stamped_at", now=True),
    Column("namespace", Text, nullable=False, comment="Temporal's, of all workflows of this ledger"),
    Column("orders_queue", Text, nullable=False),
    Column("streams_queue", Text, nullable=False),
    Column("watchers_queue", Text, nullable=False),
    Column("strategy_queue", Text, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
    _one_of("mode", "paper", "live"),
    _one_of("stamped_by", "first start", "what it held"),
)

account_identities = Table(
    "account_identities",
    metadata,
    Column("account", Text, primary_key=True),
    Column("venue", Text, nullable=False),
    Column("venue_account_id", Text, comment="the venue's own; null until it has answered once"),
    Column(
        "first_start_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=_NOW,
        comment="what was bought before is nobody's trade",
    ),
    Column("armed_at", DateTime(timezone=True), comment="live buys only while this is set"),
    Column("armed_by", Text),
    _time("disarmed_at"),
)

account_controls = Table(
    "account_controls",
    metadata,
    Column("account", Text, primary_key=True),
    Column("halted", Boolean, nullable=False, server_default=text("false")),
    Column("reason", Text),
    Column("changed_by", Text),
    _time("changed_at", now=True),
)

# Of a strategy or a trigger: halts of their own, beside the account's.
group_controls = Table(
    "group_controls",
    metadata,
    Column("account", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("halted", Boolean, nullable=False),
    Column("until", DateTime(timezone=True), comment="when a halt ends by itself; null: by a resume only"),
    Column("reason", Text),
    Column("changed_by", Text),
    _time("changed_at", now=True),
    _one_of("kind", "strategy", "trigger"),
)

# Each admission of an entry, each halt and each resume takes a turn (`functions/take_turn_v1.sql`).
admission_turns = Table(
    "admission_turns",
    metadata,
    Column("account", Text, primary_key=True),
    Column("taken", BigInteger, nullable=False, server_default=text("0")),
)

fee_rates = Table(
    "fee_rates",
    metadata,
    Column("account", Text, primary_key=True),
    _money("maker"),
    _money("taker"),
    _time("at", now=True),
)

stream_positions = Table(
    "stream_positions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    _time("caught_up_to"),
    _time("last_message_at"),
    Column("connections", BigInteger, nullable=False, server_default=_ZERO),
    Column("gaps", BigInteger, nullable=False, server_default=_ZERO),
    Column("malformed", BigInteger, nullable=False, server_default=_ZERO),
    Column("connected", Boolean, nullable=False, server_default=text("false")),
    _time("updated_at", now=True),
)

trade_records = Table(
    "trade_records",
    metadata,
    Column("order_id", Text, primary_key=True, comment="the exchange's id"),
    Column("account", Text, primary_key=True),
    Column("order_key", Text, ForeignKey("orders.order_key")),
    Column("client_order_id", Text),
    Column("parent_id", Text, comment="a sell's oldest FIFO lot"),
    Column("parent_ids", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("symbol", Text, nullable=False),
    Column("side", Text, nullable=False),
    _time("order_time", null=False),
    _money("price"),
    _money("size"),
    _money("pnl_usd", null=True),
    _money("total_fees_usd"),
    Column("trigger", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("exit_reason", Text),
    Column("order_type", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("source", Text, nullable=False),
    _money("cost_basis_usd", null=True),
    _money("sale_proceeds_usd", null=True),
    _money("net_sale_proceeds_usd", null=True),
    _money("remaining_size", null=True),
    _money("realized_profit", null=True),
    Column("ingest_via", Text, nullable=False),
    _time("last_reconciled_at"),
    Column("last_reconciled_via", Text),
    _time("recorded_at", now=True),
    Column(
        "currency",
        Text,
        Computed("split_part(translate(symbol, '_', '-'), '-', 2)", persisted=True),
        comment="in which all amounts of the row are, those of the columns called _usd, too",
    ),
    _one_of("side", "BUY", "SELL"),
    _one_of("ingest_via", "websocket", "rest", "import"),
    Index("ix_trade_records_symbol", "symbol", "order_time"),
    Index("ix_trade_records_order_key", "order_key"),
)

imported_records = Table(
    "imported_records",
    metadata,
    Column("account", Text, primary_key=True),
    Column("order_id", Text, primary_key=True, comment="of an imported trade record"),
    Column("trigger", JSONB, nullable=False),
    Column("source", Text, nullable=False),
    Column("exit_reason", Text),
    Column("order_type", Text, nullable=False),
    Column("client_order_id", Text),
    Column("snapshot_id", UUID(as_uuid=False)),
    _money("buy_score", null=True),
    _money("sell_score", null=True),
    Column("trigger_type", Text, comment="of its old linkage; null: it had none"),
    Column("sell_trigger", Text),
    Column("indicator_breakdown", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("indicators_fired", Integer, nullable=False, server_default=_ZERO),
    _time("at", now=True),
)

passive_orders = Table(
    "passive_orders",
    metadata,
    Column("client_order_id", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("order_key", Text),
    Column("order_id", Text),
    Column("symbol", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("order_type", Text, nullable=False),
    _money("price", null=True),
    _money("size", null=True),
    _money("filled_size"),
    Column("status", Text, nullable=False),
    _time("created_at", now=True),
    _time("updated_at", now=True),
    Index("ix_passive_orders_symbol", "symbol"),
)

trade_strategy_link = Table(
    "trade_strategy_link",
    metadata,
    Column("order_key", Text, ForeignKey("orders.order_key"), primary_key=True),
    Column("order_id", Text, nullable=False),
    Column("client_order_id", Text, nullable=False),
    Column("snapshot_id", UUID(as_uuid=False)),
    _money("buy_score", null=True),
    _money("sell_score", null=True),
    Column("trigger_type", Text, nullable=False),
    Column("sell_trigger", Text),
    Column("indicator_breakdown", JSONB, nullable=False),
    Column("indicators_fired", ARRAY(Text), nullable=False),
    Column("entry_key", Text),
    Column("exit_reason", Text),
    _time("linked_at", now=True),
    _time("completed_at"),
    Index("ix_trade_strategy_link_snapshot_id", "snapshot_id"),
    Index("ix_trade_strategy_link_entry_key", "entry_key"),
)

trade_exits = Table(
    "trade_exits",
    metadata,
    Column("order_key", Text, ForeignKey("orders.order_key"), primary_key=True),
    Column("entry_key", Text, ForeignKey("trades.entry_key"), nullable=False),
    Column("reason", Text, nullable=False),
    _money("target_fraction", null=True),
    _money("trigger_price", null=True),
    _money("size"),
    _money("average_price", null=True),
    _money("achieved_gross", null=True),
    _money("achieved_net", null=True),
    _money("slippage", null=True),
    _money("fees"),
    Column("path", Text, nullable=False, server_default=text("'monitored'")),
    Column("attempts", Integer, nullable=False, server_default=_ZERO),
    Column("trailing_state", JSONB),
    _time("due_at"),
    _time("at", now=True),
    Index("ix_trade_exits_entry_key", "entry_key"),
)

market_snapshots = Table(
    "market_snapshots",
    metadata,
    Column("account", Text, nullable=False),
    Column("snapshot_id", UUID(as_uuid=False), primary_key=True),
    Column("symbol", Text, primary_key=True),
    _time("at", null=False),
    _money("price", null=True),
    _money("buy_score", null=True),
    _money("sell_score", null=True),
    Column("action", Text, nullable=False),
    Column("trigger", Text),
    Column("indicator_breakdown", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("indicators_fired", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("reason", Text, nullable=False, server_default=text("''")),
    _one_of("action", "buy", "sell", "hold"),
    Index("ix_market_snapshots_account_symbol_at", "account", "symbol", "at"),
    Index("ix_market_snapshots_symbol_at", "symbol", "at"),  # for workers older than 0026; removed with their defaults
    Index("ix_market_snapshots_at", "at"),
)

trade_signals = Table(
    "trade_signals",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("account", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("side", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("snapshot_id", UUID(as_uuid=False)),
    Column("order_key", Text),
    Column("decision", Text, nullable=False),
    Column("details", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    _time("at", now=True),
    Index("ix_trade_signals_account_symbol_at", "account", "symbol", "at"),
    Index("ix_trade_signals_account_at", "account", "at"),
    Index("ix_trade_signals_symbol_at", "symbol", "at"),  # as above
    Index("ix_trade_signals_snapshot_id", "snapshot_id"),
)

# Market data by account: each has its own venue and mode (`account_identities`, `ledger_identity`).
candles = Table(
    "candles",
    metadata,
    Column("account", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("seconds", Integer, primary_key=True, comment="length of the candle"),
    Column("start", DateTime(timezone=True), primary_key=True),
    Column("open", Numeric, nullable=False),
    Column("high", Numeric, nullable=False),
    Column("low", Numeric, nullable=False),
    Column("close", Numeric, nullable=False),
    Column("volume", Numeric, nullable=False, comment="in base currency"),
    Column(
        "settled",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="the venue's records told it once it was over: only they change it",
    ),
)

# The view `market_state` shows these to workers older than 0026, as one market.
market_prices = Table(
    "market_prices",
    metadata,
    Column("account", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("price", Numeric),
    Column("bid", Numeric),
    Column("ask", Numeric),
    Column("change_24h", Numeric, comment="a fraction: -0.05 is a fall of 5 %"),
    Column("quote_volume_24h", Numeric),
    Column("at", DateTime(timezone=True), comment="when the price was received"),
)

strategy_runs = Table(
    "strategy_runs",
    metadata,
    Column("snapshot_id", UUID(as_uuid=False), primary_key=True),
    Column("account", Text, nullable=False),
    _time("at", null=False),
    _time("started_at", now=True),
    _time("finished_at"),
    Column("symbols", Integer, nullable=False, server_default=_ZERO),
    Column("buys", Integer, nullable=False, server_default=_ZERO),
    Column("sells", Integer, nullable=False, server_default=_ZERO),
    Column("details", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Index("ix_strategy_runs_at", "account", "at"),
)

commands = Table(
    "commands",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False, comment="the trade or order; of an order that is asked for, its digest"),
    Column("given_by", Text, nullable=False, comment="as its way proves: log-in, sender, user of the machine"),
    Column("note", Text, nullable=False, server_default=text("''")),
    _time("at", now=True),
    Column(
        "accepted_at",
        DateTime(timezone=True),
        comment="of a close or cancel: its workflow has promised it, and a new workflow goes on with it",
    ),
    _one_of("kind", "order", "close", "cancel", "stops"),
    Index("ix_commands_at", "account", "at"),
    Index("ix_commands_accepted", "subject", postgresql_where=text("accepted_at IS NOT NULL")),
)

api_actions = Table(
    "api_actions",
    metadata,
    Column("account", Text, primary_key=True),
    Column("given_by", Text, primary_key=True, comment="who is logged in, or the program with the token"),
    Column("key", Text, primary_key=True, comment="the asker's own: the same one again is the same action"),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False, comment="the trade, order or incident; empty: the account"),
    Column("digest", Text, nullable=False, comment="the same key with another digest is refused"),
    Column("body", JSONB, nullable=False),
    _time("at", now=True),
    Column("planned", ARRAY(Text), comment="of a flatten: what was open as it began, and what it therefore closes"),
    Column("status", Integer, comment="the answer's; null: none was given yet"),
    Column("answer", JSONB),
    _time("answered_at"),
    Index("ix_api_actions_at", "account", "at"),
)

telegram_updates = Table(
    "telegram_updates",
    metadata,
    Column("bot", BigInteger, primary_key=True, comment="its id at Telegram, no secret: numbers are its own"),
    Column("update_id", BigInteger, primary_key=True, comment="Telegram's: a doubled one is the same row"),
    Column("account", Text, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("chat_id", BigInteger, nullable=False),
    Column("message_id", BigInteger, nullable=False),
    _time("sent_at", null=False),
    Column("command", Text, nullable=False, comment="without the slash; press: of a button"),
    Column("argument", Text, nullable=False, comment="of a press: the digest of the button's key"),
    Column("press", Text, comment="Telegram's id of a press, to answer it"),
    Column("key_digest", Text, unique=True, comment="of the button that this command asks back by"),
    Column("button_message", BigInteger, comment="the message that shows it; null: not sent yet"),
    _time("valid_until"),
    Column("pressed_by", BigInteger, comment="the update of the one press that counts"),
    Column("answer", Text, comment="what was said"),
    _time("received_at", now=True),
    _time("done_at"),
    Index("ix_telegram_updates_waiting", "bot", "update_id", postgresql_where=text("done_at IS NULL")),
)

stop_changes = Table(
    "stop_changes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account", Text, nullable=False),
    Column("entry_key", Text, ForeignKey("trades.entry_key"), nullable=False),
    Column("given_by", Text, nullable=False, comment="as its way proves; see commands"),
    Column("note", Text, nullable=False, server_default=text("''")),
    Column("sentence", Text, nullable=False, comment="from where to where"),
    Column("rules_before", JSONB, nullable=False),
    Column("rules_after", JSONB, nullable=False),
    Column("bid", Numeric, comment="when it was changed; null: not known"),
    _time("at", now=True),
    Column("levels", JSONB, comment="the levels that were asked for; null: not kept (a row of before)"),
    Index("ix_stop_changes_entry_key", "entry_key", "at"),
)

setting_overrides = Table(
    "setting_overrides",
    metadata,
    Column("account", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", JSONB, nullable=False),
    Column("changed_by", Text, nullable=False),
    _time("changed_at", now=True),
)

setting_changes = Table(
    "setting_changes",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("account", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("old", JSONB),
    Column("new", JSONB),
    Column("changed_by", Text, nullable=False),
    Column("why", Text, nullable=False, server_default=text("''")),
    _time("at", now=True),
    Index("ix_setting_changes_at", "account", "at"),
)

setting_bases = Table(
    "setting_bases",
    metadata,
    Column("account", Text, primary_key=True),
    Column("said", JSONB, nullable=False, comment="live settings by key, as file, environment and defaults have them"),
    _time("at", now=True),
)

webhook_alerts = Table(
    "webhook_alerts",
    metadata,
    Column("account", Text, primary_key=True),
    Column("request_id", Text, primary_key=True, comment="sender:key"),
    Column("sender", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("digest", Text, nullable=False, comment="the same key with another digest is refused"),
    Column("alert", JSONB, nullable=False, comment="as it was read, without its token"),
    Column("order_key", Text),
    Column("intent", JSONB, comment="the order that is started, also when repeated"),
    Column("closes", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("refusal", JSONB, comment="refused before it was an order: by what, why"),
    Column("repeats", Integer, nullable=False, server_default=_ZERO),
    _time("received_at", now=True),
    _one_of("action", "buy", "sell", "close"),
    Index("ix_webhook_alerts_received_at", "account", "received_at"),
    Index("ix_webhook_alerts_order_key", "order_key"),
)

known_keys = Table(
    "known_keys",
    metadata,
    Column("account", Text, primary_key=True),
    Column("key_mark", Text, primary_key=True, comment="a digest of the key's name; no secret"),
    _time("at", null=False, now=True),
)

product_rules = Table(
    "product_rules",
    metadata,
    Column("account", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("rules", JSONB, nullable=False, comment="increments, least and most sizes, currencies"),
    _time("at", null=False, now=True),
)

# The price watcher's bids of symbols with an open trade; without one, the bid of its last trade.
exit_bids = Table(
    "exit_bids",
    metadata,
    Column("account", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("bid", Numeric, nullable=False, comment="quote per base"),
    Column("at", DateTime(timezone=True), nullable=False, comment="when it was received"),
)

quote_rounds = Table(
    "quote_rounds",
    metadata,
    Column("snapshot_id", UUID(as_uuid=False), primary_key=True),
    Column("account", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    _time("at", null=False),
    Column("bid_code", Text, nullable=False),
    Column("bid_sentence", Text, nullable=False),
    Column("bid_price", Numeric),
    Column("bid_size", Numeric),
    Column("bid_order_key", Text, comment="the quote that was to be placed"),
    Column("ask_code", Text, nullable=False),
    Column("ask_sentence", Text, nullable=False),
    Column("ask_price", Numeric),
    Column("ask_size", Numeric),
    Column("ask_order_key", Text, comment="the quote that was to be placed"),
    Column("numbers", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column(
        "cancelled",
        JSONB,
        nullable=False,
        server_default=text("'{}'::jsonb"),
        comment="order key and why it was taken away",
    ),
    Index("ix_quote_rounds_at", "account", "at"),
)

ledger_checks = Table(
    "ledger_checks",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("account", Text, nullable=False),
    _time("at", null=False),
    Column("why", Text, nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("violations", Integer, nullable=False),
    Column("seconds", Numeric, nullable=False),
    Column("report", JSONB, nullable=False),
    Index("ix_ledger_checks_at", "account", "at"),
)

signal_throttle_state = Table(
    "signal_throttle_state",
    metadata,
    Column("symbol", Text, primary_key=True),
    Column("profile", Text, primary_key=True),
    Column("side", Text, primary_key=True),
    _money("last_price", null=True),
    _time("last_at"),
)
