"""Deliveries of notices; protection at the exchange; how long a position had no watcher."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "notices",
        sa.Column("incident_id", sa.BigInteger(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="a digest of the address, which is a secret"),
        sa.Column(
            "times", sa.Integer(), server_default=sa.text("1"), nullable=False, comment="messages that told of it"
        ),
        sa.Column("told_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("over_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["incident_id"],
            ["incidents.id"],
            name=op.f("fk_notices_incident_id_incidents"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("incident_id", "target", name=op.f("pk_notices")),
    )
    op.create_index(
        "ix_notices_open",
        "notices",
        ["target", "incident_id"],
        unique=False,
        postgresql_where=sa.text("over_at IS NULL"),
    )
    op.create_table(
        "notice_targets",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="in a row"),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("account", "target", name=op.f("pk_notice_targets")),
    )
    op.add_column(
        "orders",
        sa.Column(
            "protection_role",
            sa.Text(),
            nullable=True,
            comment="of a trade that is protected at the exchange; OCO: one order, both legs",
        ),
    )
    op.create_check_constraint(
        op.f("ck_orders_protection_role_known"),
        "orders",
        "protection_role IN ('PRIMARY', 'TAKE_PROFIT', 'STOP_LOSS', 'OCO')",
    )
    op.add_column("trades", sa.Column("watched_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "trades",
        sa.Column(
            "unprotected_seconds",
            sa.Numeric(),
            server_default=sa.text("0"),
            nullable=False,
            comment="open without a watcher",
        ),
    )
    op.add_column("leases", sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("leases", sa.Column("vacant_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Revert."""
    op.drop_column("leases", "vacant_since")
    op.drop_column("leases", "renewed_at")
    op.drop_column("trades", "unprotected_seconds")
    op.drop_column("trades", "watched_at")
    op.drop_constraint(op.f("ck_orders_protection_role_known"), "orders", type_="check")
    op.drop_column("orders", "protection_role")
    op.drop_table("notice_targets")
    op.drop_index("ix_notices_open", table_name="notices", postgresql_where=sa.text("over_at IS NULL"))
    op.drop_table("notices")
