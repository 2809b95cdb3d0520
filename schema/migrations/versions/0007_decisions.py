"""Candles, the newest market state, strategy runs, and settings changed while workers run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _time(name: str, *, null: bool = True, now: bool = False) -> sa.Column[object]:
    default = sa.text("now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=null and not now)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "candles",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False, comment="length of the candle"),
        _time("start", null=False),
        sa.Column("open", sa.Numeric(), nullable=False),
        sa.Column("high", sa.Numeric(), nullable=False),
        sa.Column("low", sa.Numeric(), nullable=False),
        sa.Column("close", sa.Numeric(), nullable=False),
        sa.Column("volume", sa.Numeric(), nullable=False, comment="in base currency"),
        sa.PrimaryKeyConstraint("symbol", "seconds", "start", name=op.f("pk_candles")),
    )
    op.create_table(
        "market_state",
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=True),
        sa.Column("bid", sa.Numeric(), nullable=True),
        sa.Column("ask", sa.Numeric(), nullable=True),
        sa.Column("change_24h", sa.Numeric(), nullable=True, comment="a fraction: -0.05 is a fall of 5 %"),
        sa.Column("quote_volume_24h", sa.Numeric(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True, comment="when the price was received"),
        sa.PrimaryKeyConstraint("symbol", name=op.f("pk_market_state")),
    )
    op.create_table(
        "strategy_runs",
        sa.Column("snapshot_id", postgresql.UUID(as_uuid=False), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        _time("at", null=False),
        _time("started_at", now=True),
        _time("finished_at"),
        sa.Column("symbols", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("buys", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("sells", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("details", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("snapshot_id", name=op.f("pk_strategy_runs")),
    )
    op.create_index("ix_strategy_runs_at", "strategy_runs", ["account", "at"], unique=False)
    op.create_table(
        "setting_overrides",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(), nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        _time("changed_at", now=True),
        sa.PrimaryKeyConstraint("account", "key", name=op.f("pk_setting_overrides")),
    )
    op.create_table(
        "setting_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("old", postgresql.JSONB(), nullable=True),
        sa.Column("new", postgresql.JSONB(), nullable=True),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), server_default=sa.text("''"), nullable=False),
        _time("at", now=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_setting_changes")),
    )
    op.create_index("ix_setting_changes_at", "setting_changes", ["account", "at"], unique=False)


def downgrade() -> None:
    """Revert."""
    for table in ("setting_changes", "setting_overrides", "strategy_runs", "market_state", "candles"):
        op.drop_table(table)
