"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(sa.schema.CreateSequence(sa.Sequence("exit_plan_revision")))
    op.create_table(
        "account_controls",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("halted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("changed_by", sa.Text(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_account_controls")),
    )
    op.create_table(
        "balances",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("available", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("hold", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", "currency", name=op.f("pk_balances")),
    )
    op.create_table(
        "fee_rates",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("maker", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("taker", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_fee_rates")),
    )
    op.create_table(
        "gate_results",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="the order in which the gates ran"),
        sa.Column("gate", sa.Text(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("numbers", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="what it compared"),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_results")),
    )
    op.create_index("ix_gate_results_order_key", "gate_results", ["order_key"], unique=False)
    op.create_table(
        "incidents",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True, comment="an order key, a symbol, a stream"),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column(
            "details", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("severity IN ('INFO', 'WARNING', 'CRITICAL')", name=op.f("ck_incidents_severity_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
    )
    op.create_index("ix_incidents_at", "incidents", ["at"], unique=False)
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("acquired_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "market_snapshots",
        sa.Column("snapshot_id", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=True),
        sa.Column("buy_score", sa.Numeric(), nullable=True),
        sa.Column("sell_score", sa.Numeric(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=True),
        sa.Column(
            "indicator_breakdown",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("indicators_fired", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.CheckConstraint("action IN ('buy', 'sell', 'hold')", name=op.f("ck_market_snapshots_action_known")),
        sa.PrimaryKeyConstraint("snapshot_id", "symbol", name=op.f("pk_market_snapshots")),
    )
    op.create_index("ix_market_snapshots_symbol_at", "market_snapshots", ["symbol", "at"], unique=False)
    op.create_table(
        "orders",
        sa.Column("order_key", sa.Text(), nullable=False, comment="32 hex digits of the UUIDv5 of the intent"),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column(
            "entry_key",
            sa.Text(),
            nullable=True,
            comment="the trade: an entry's own key, or the key of the entry that an exit closes",
        ),
        sa.Column("order_type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("entry_point", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("exit_reason", sa.Text(), nullable=True),
        sa.Column("snapshot_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("buy_score", sa.Numeric(), nullable=True),
        sa.Column("sell_score", sa.Numeric(), nullable=True),
        sa.Column(
            "indicator_breakdown",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("indicators_fired", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column(
            "intent",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="the whole intent as it was received",
        ),
        sa.Column("intent_digest", sa.Text(), nullable=False, comment="the same key with another digest is refused"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "finished", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="no attempt will follow"
        ),
        sa.Column("gate", sa.Text(), nullable=True, comment="the first gate that refused it"),
        sa.Column("gate_sentence", sa.Text(), nullable=True),
        sa.Column("base_size", sa.Numeric(), nullable=True),
        sa.Column("quote_size", sa.Numeric(), nullable=True),
        sa.Column("limit_price", sa.Numeric(), nullable=True),
        sa.Column("reserved_quote", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("claimed_base", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("filled_size", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("filled_value", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("quote_fees", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("base_fees", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("status_source", sa.Text(), nullable=True),
        sa.Column("refusal", sa.Text(), nullable=True, comment="the venue's own code where it refused"),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_fill_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_fill_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role <> 'EXIT' OR side = 'SELL'", name=op.f("ck_orders_exit_sells")),
        sa.CheckConstraint("role IN ('ENTRY', 'EXIT', 'EXTERNAL')", name=op.f("ck_orders_role_known")),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name=op.f("ck_orders_side_known")),
        sa.CheckConstraint("char_length(order_key) = 32", name=op.f("ck_orders_key_length")),
        sa.CheckConstraint(
            "reserved_quote >= 0 AND claimed_base >= 0", name=op.f("ck_orders_reservations_not_negative")
        ),
        sa.PrimaryKeyConstraint("order_key", name=op.f("pk_orders")),
    )
    op.create_index("ix_orders_entry_key", "orders", ["entry_key"], unique=False)
    op.create_index(
        "ix_orders_open", "orders", ["account", "symbol"], unique=False, postgresql_where=sa.text("NOT finished")
    )
    op.create_index("ix_orders_received_at", "orders", ["received_at"], unique=False)
    op.create_table(
        "passive_orders",
        sa.Column("client_order_id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("order_key", sa.Text(), nullable=True),
        sa.Column("order_id", sa.Text(), nullable=True),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("order_type", sa.Text(), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=True),
        sa.Column("size", sa.Numeric(), nullable=True),
        sa.Column("filled_size", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("client_order_id", name=op.f("pk_passive_orders")),
    )
    op.create_index("ix_passive_orders_symbol", "passive_orders", ["symbol"], unique=False)
    op.create_table(
        "raw_facts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column(
            "source", sa.Text(), nullable=False, comment="websocket, order_history, open_orders, trade_history, …"
        ),
        sa.Column("kind", sa.Text(), nullable=False, comment="order, fill, malformed, …"),
        sa.Column("symbol", sa.Text(), nullable=True),
        sa.Column("exchange_order_id", sa.Text(), nullable=True),
        sa.Column("client_order_id", sa.Text(), nullable=True),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=True, comment="the lease's epoch of the stream that saw it"),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("routed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_raw_facts")),
    )
    op.create_index("ix_raw_facts_exchange_order_id", "raw_facts", ["account", "exchange_order_id"], unique=False)
    op.create_index("ix_raw_facts_received_at", "raw_facts", ["received_at"], unique=False)
    op.create_index(
        "ix_raw_facts_unrouted",
        "raw_facts",
        ["account", "id"],
        unique=False,
        postgresql_where=sa.text("routed_at IS NULL"),
    )
    op.create_table(
        "signal_throttle_state",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("last_price", sa.Numeric(), nullable=True),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("symbol", "profile", "side", name=op.f("pk_signal_throttle_state")),
    )
    op.create_table(
        "stream_positions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("caught_up_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_message_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("connections", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("gaps", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("malformed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("connected", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_stream_positions")),
    )
    op.create_table(
        "trade_signals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("snapshot_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("order_key", sa.Text(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column(
            "details", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trade_signals")),
    )
    op.create_index("ix_trade_signals_symbol_at", "trade_signals", ["symbol", "at"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("client_order_id", sa.Text(), nullable=False),
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column(
            "body",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="the exact body that is sent, committed before it is sent",
        ),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column(
            "live",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="ours: no other attempt may be sent. An absent one that appears late does not become live again",
        ),
        sa.Column("exchange_order_id", sa.Text(), nullable=True),
        sa.Column("size", sa.Numeric(), nullable=True),
        sa.Column("limit_price", sa.Numeric(), nullable=True),
        sa.Column("filled_size", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("filled_value", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("quote_fees", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("base_fees", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("status_source", sa.Text(), nullable=True),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.Column("refusal_text", sa.Text(), nullable=True),
        sa.Column("sends", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("prepared_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("final_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("number >= 1", name=op.f("ck_attempts_number_from_one")),
        sa.ForeignKeyConstraint(["order_key"], ["orders.order_key"], name=op.f("fk_attempts_order_key_orders")),
        sa.PrimaryKeyConstraint("client_order_id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("order_key", "number", name=op.f("uq_attempts_order_key_number")),
    )
    op.create_index("ix_attempts_exchange_order_id", "attempts", ["account", "exchange_order_id"], unique=False)
    op.create_index(
        "ix_attempts_not_final",
        "attempts",
        ["account"],
        unique=False,
        postgresql_where=sa.text("status NOT IN ('FILLED','CANCELLED','EXPIRED','FAILED')"),
    )
    op.create_index("uq_attempts_one_live", "attempts", ["order_key"], unique=True, postgresql_where=sa.text("live"))
    op.create_table(
        "fills",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("fill_key", sa.Text(), nullable=False, comment="derived: order and size after; else the trade id"),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("order_key", sa.Text(), nullable=True),
        sa.Column("client_order_id", sa.Text(), nullable=True),
        sa.Column("exchange_order_id", sa.Text(), nullable=False),
        sa.Column("trade_id", sa.Text(), nullable=True, comment="the exchange's own id, once known"),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("ingest_via", sa.Text(), nullable=False),
        sa.Column("size", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("price", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("value", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("quote_fees", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("base_fees", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("liquidity", sa.Text(), server_default=sa.text("'UNKNOWN'"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("lot_remaining", sa.Numeric(), nullable=True),
        sa.CheckConstraint("origin IN ('derived', 'exchange')", name=op.f("ck_fills_origin_known")),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name=op.f("ck_fills_side_known")),
        sa.CheckConstraint(
            "lot_remaining IS NULL OR lot_remaining BETWEEN 0 AND size", name=op.f("ck_fills_lot_within_size")
        ),
        sa.CheckConstraint("size >= 0", name=op.f("ck_fills_size_not_negative")),
        sa.ForeignKeyConstraint(["order_key"], ["orders.order_key"], name=op.f("fk_fills_order_key_orders")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fills")),
        sa.UniqueConstraint("fill_key", name=op.f("uq_fills_fill_key")),
    )
    op.create_index("ix_fills_exchange_order_id", "fills", ["account", "exchange_order_id"], unique=False)
    op.create_index(
        "ix_fills_open_lots",
        "fills",
        ["account", "symbol", "at", "id"],
        unique=False,
        postgresql_where=sa.text("side = 'BUY' AND lot_remaining > 0"),
    )
    op.create_index("ix_fills_order_key", "fills", ["order_key"], unique=False)
    op.create_index("ix_fills_symbol_at", "fills", ["account", "symbol", "at", "id"], unique=False)
    op.create_table(
        "trade_records",
        sa.Column("order_id", sa.Text(), nullable=False, comment="the exchange's id"),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("order_key", sa.Text(), nullable=True),
        sa.Column("client_order_id", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.Text(), nullable=True, comment="a sell's oldest FIFO lot"),
        sa.Column("parent_ids", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("order_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("price", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("size", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("pnl_usd", sa.Numeric(), nullable=True),
        sa.Column("total_fees_usd", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "trigger", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("exit_reason", sa.Text(), nullable=True),
        sa.Column("order_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("cost_basis_usd", sa.Numeric(), nullable=True),
        sa.Column("sale_proceeds_usd", sa.Numeric(), nullable=True),
        sa.Column("net_sale_proceeds_usd", sa.Numeric(), nullable=True),
        sa.Column("remaining_size", sa.Numeric(), nullable=True),
        sa.Column("realized_profit", sa.Numeric(), nullable=True),
        sa.Column("ingest_via", sa.Text(), nullable=False),
        sa.Column("last_reconciled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_reconciled_via", sa.Text(), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "ingest_via IN ('websocket', 'rest', 'import')", name=op.f("ck_trade_records_ingest_via_known")
        ),
        sa.CheckConstraint("side IN ('BUY', 'SELL')", name=op.f("ck_trade_records_side_known")),
        sa.ForeignKeyConstraint(["order_key"], ["orders.order_key"], name=op.f("fk_trade_records_order_key_orders")),
        sa.PrimaryKeyConstraint("order_id", "account", name=op.f("pk_trade_records")),
    )
    op.create_index("ix_trade_records_order_key", "trade_records", ["order_key"], unique=False)
    op.create_index("ix_trade_records_symbol", "trade_records", ["symbol", "order_time"], unique=False)
    op.create_table(
        "trade_strategy_link",
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("client_order_id", sa.Text(), nullable=False),
        sa.Column("snapshot_id", sa.UUID(as_uuid=False), nullable=True),
        sa.Column("buy_score", sa.Numeric(), nullable=True),
        sa.Column("sell_score", sa.Numeric(), nullable=True),
        sa.Column("trigger_type", sa.Text(), nullable=False),
        sa.Column("sell_trigger", sa.Text(), nullable=True),
        sa.Column("indicator_breakdown", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("indicators_fired", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("entry_key", sa.Text(), nullable=True),
        sa.Column("exit_reason", sa.Text(), nullable=True),
        sa.Column("linked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["order_key"], ["orders.order_key"], name=op.f("fk_trade_strategy_link_order_key_orders")
        ),
        sa.PrimaryKeyConstraint("order_key", name=op.f("pk_trade_strategy_link")),
    )
    op.create_index("ix_trade_strategy_link_entry_key", "trade_strategy_link", ["entry_key"], unique=False)
    op.create_index("ix_trade_strategy_link_snapshot_id", "trade_strategy_link", ["snapshot_id"], unique=False)
    op.create_table(
        "trades",
        sa.Column("entry_key", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("bought_size", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("bought_value", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("bought_quote_fees", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("bought_base_fees", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("sold_size", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("sold_value", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("sold_quote_fees", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("sold_base_fees", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "external_size",
            sa.Numeric(),
            server_default=sa.text("0"),
            nullable=False,
            comment="taken by sells that were not ours",
        ),
        sa.Column(
            "dust_size",
            sa.Numeric(),
            server_default=sa.text("0"),
            nullable=False,
            comment="written off: below what can be sold",
        ),
        sa.Column(
            "remaining",
            sa.Numeric(),
            sa.Computed(
                "bought_size - bought_base_fees - sold_size - sold_base_fees - external_size - dust_size",
                persisted=True,
            ),
            nullable=True,
        ),
        sa.Column("entry_final", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("exit_reason", sa.Text(), nullable=True),
        sa.Column(
            "exit_legs", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="exit orders begun so far"
        ),
        sa.Column("trigger_price", sa.Numeric(), nullable=True),
        sa.Column("target_fraction", sa.Numeric(), nullable=True),
        sa.Column(
            "rules", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column(
            "trailing_state",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="its final state: peak, stop, ATR, steps",
        ),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("protected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('OPENING', 'PROTECTED', 'CLOSING', 'CLOSED')", name=op.f("ck_trades_state_known")
        ),
        sa.CheckConstraint(
            "bought_size - bought_base_fees - sold_size - sold_base_fees - external_size - dust_size >= 0",
            name=op.f("ck_trades_position_not_negative"),
        ),
        sa.ForeignKeyConstraint(["entry_key"], ["orders.order_key"], name=op.f("fk_trades_entry_key_orders")),
        sa.PrimaryKeyConstraint("entry_key", name=op.f("pk_trades")),
    )
    op.create_index("ix_trades_closed_at", "trades", ["closed_at"], unique=False)
    op.create_index(
        "ix_trades_open", "trades", ["account", "symbol"], unique=False, postgresql_where=sa.text("state <> 'CLOSED'")
    )
    op.create_table(
        "exit_plans",
        sa.Column("entry_key", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("rules", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("entry_price", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("quantity", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("peak", sa.Numeric(), nullable=True),
        sa.Column("stop", sa.Numeric(), nullable=True),
        sa.Column("distance", sa.Numeric(), nullable=True),
        sa.Column("atr", sa.Numeric(), nullable=True),
        sa.Column("steps", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("exit_reason", sa.Text(), nullable=True, comment="the exit in progress"),
        sa.Column("lease_epoch", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("revision", sa.BigInteger(), server_default=sa.text("nextval('exit_plan_revision')"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state IN ('ARMED', 'EXITING', 'DISARMED')", name=op.f("ck_exit_plans_state_known")),
        sa.ForeignKeyConstraint(["entry_key"], ["trades.entry_key"], name=op.f("fk_exit_plans_entry_key_trades")),
        sa.PrimaryKeyConstraint("entry_key", name=op.f("pk_exit_plans")),
    )
    op.create_index("ix_exit_plans_revision", "exit_plans", ["revision"], unique=False)
    op.create_index(
        "ix_exit_plans_symbol", "exit_plans", ["symbol"], unique=False, postgresql_where=sa.text("state <> 'DISARMED'")
    )
    op.create_table(
        "fifo_allocations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("sell_fill", sa.BigInteger(), nullable=False),
        sa.Column("buy_fill", sa.BigInteger(), nullable=True, comment="null: uncovered"),
        sa.Column("sell_order_id", sa.Text(), nullable=False),
        sa.Column("buy_order_id", sa.Text(), nullable=True),
        sa.Column("size", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("sell_price", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("buy_price", sa.Numeric(), nullable=True),
        sa.Column("sell_fee_per_unit", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("buy_fee_per_unit", sa.Numeric(), nullable=True),
        sa.Column("cost_basis", sa.Numeric(), nullable=True),
        sa.Column("proceeds", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("net_proceeds", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("pnl", sa.Numeric(), nullable=True),
        sa.Column("buy_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sell_time", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("size > 0", name=op.f("ck_fifo_allocations_size_positive")),
        sa.ForeignKeyConstraint(
            ["buy_fill"], ["fills.id"], name=op.f("fk_fifo_allocations_buy_fill_fills"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["sell_fill"], ["fills.id"], name=op.f("fk_fifo_allocations_sell_fill_fills"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fifo_allocations")),
        sa.UniqueConstraint(
            "sell_fill",
            "buy_fill",
            name=op.f("uq_fifo_allocations_sell_fill_buy_fill"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index("ix_fifo_allocations_buy_fill", "fifo_allocations", ["buy_fill"], unique=False)
    op.create_index("ix_fifo_allocations_symbol", "fifo_allocations", ["account", "symbol"], unique=False)
    op.create_table(
        "trade_exits",
        sa.Column("order_key", sa.Text(), nullable=False),
        sa.Column("entry_key", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("target_fraction", sa.Numeric(), nullable=True),
        sa.Column("trigger_price", sa.Numeric(), nullable=True),
        sa.Column("size", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("average_price", sa.Numeric(), nullable=True),
        sa.Column("achieved_gross", sa.Numeric(), nullable=True),
        sa.Column("achieved_net", sa.Numeric(), nullable=True),
        sa.Column("slippage", sa.Numeric(), nullable=True),
        sa.Column("fees", sa.Numeric(), server_default=sa.text("0"), nullable=False),
        sa.Column("path", sa.Text(), server_default=sa.text("'monitored'"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("trailing_state", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["entry_key"], ["trades.entry_key"], name=op.f("fk_trade_exits_entry_key_trades")),
        sa.ForeignKeyConstraint(["order_key"], ["orders.order_key"], name=op.f("fk_trade_exits_order_key_orders")),
        sa.PrimaryKeyConstraint("order_key", name=op.f("pk_trade_exits")),
    )
    op.create_index("ix_trade_exits_entry_key", "trade_exits", ["entry_key"], unique=False)


def downgrade() -> None:
    """Revert."""
    op.drop_index("ix_trade_exits_entry_key", table_name="trade_exits")
    op.drop_table("trade_exits")
    op.drop_index("ix_fifo_allocations_symbol", table_name="fifo_allocations")
    op.drop_index("ix_fifo_allocations_buy_fill", table_name="fifo_allocations")
    op.drop_table("fifo_allocations")
    op.drop_index("ix_exit_plans_symbol", table_name="exit_plans", postgresql_where=sa.text("state <> 'DISARMED'"))
    op.drop_index("ix_exit_plans_revision", table_name="exit_plans")
    op.drop_table("exit_plans")
    op.drop_index("ix_trades_open", table_name="trades", postgresql_where=sa.text("state <> 'CLOSED'"))
    op.drop_index("ix_trades_closed_at", table_name="trades")
    op.drop_table("trades")
    op.drop_index("ix_trade_strategy_link_snapshot_id", table_name="trade_strategy_link")
    op.drop_index("ix_trade_strategy_link_entry_key", table_name="trade_strategy_link")
    op.drop_table("trade_strategy_link")
    op.drop_index("ix_trade_records_symbol", table_name="trade_records")
    op.drop_index("ix_trade_records_order_key", table_name="trade_records")
    op.drop_table("trade_records")
    op.drop_index("ix_fills_symbol_at", table_name="fills")
    op.drop_index("ix_fills_order_key", table_name="fills")
    op.drop_index(
        "ix_fills_open_lots", table_name="fills", postgresql_where=sa.text("side = 'BUY' AND lot_remaining > 0")
    )
    op.drop_index("ix_fills_exchange_order_id", table_name="fills")
    op.drop_table("fills")
    op.drop_index("uq_attempts_one_live", table_name="attempts", postgresql_where=sa.text("live"))
    op.drop_index(
        "ix_attempts_not_final",
        table_name="attempts",
        postgresql_where=sa.text("status NOT IN ('FILLED','CANCELLED','EXPIRED','FAILED')"),
    )
    op.drop_index("ix_attempts_exchange_order_id", table_name="attempts")
    op.drop_table("attempts")
    op.drop_index("ix_trade_signals_symbol_at", table_name="trade_signals")
    op.drop_table("trade_signals")
    op.drop_table("stream_positions")
    op.drop_table("signal_throttle_state")
    op.drop_index("ix_raw_facts_unrouted", table_name="raw_facts", postgresql_where=sa.text("routed_at IS NULL"))
    op.drop_index("ix_raw_facts_received_at", table_name="raw_facts")
    op.drop_index("ix_raw_facts_exchange_order_id", table_name="raw_facts")
    op.drop_table("raw_facts")
    op.drop_index("ix_passive_orders_symbol", table_name="passive_orders")
    op.drop_table("passive_orders")
    op.drop_index("ix_orders_received_at", table_name="orders")
    op.drop_index("ix_orders_open", table_name="orders", postgresql_where=sa.text("NOT finished"))
    op.drop_index("ix_orders_entry_key", table_name="orders")
    op.drop_table("orders")
    op.drop_index("ix_market_snapshots_symbol_at", table_name="market_snapshots")
    op.drop_table("market_snapshots")
    op.drop_table("leases")
    op.drop_index("ix_incidents_at", table_name="incidents")
    op.drop_table("incidents")
    op.drop_index("ix_gate_results_order_key", table_name="gate_results")
    op.drop_table("gate_results")
    op.drop_table("fee_rates")
    op.drop_table("balances")
    op.drop_table("account_controls")
    op.execute(sa.schema.DropSequence(sa.Sequence("exit_plan_revision")))
