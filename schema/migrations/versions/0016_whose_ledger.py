"""The ledger's identity: paper or live, the place of its workflows, and the venue's account behind each account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "ledger_identity",
        sa.Column("id", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("stamped_by", sa.Text(), nullable=False),
        sa.Column("stamped_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False, comment="Temporal's, of all workflows of this ledger"),
        sa.Column("orders_queue", sa.Text(), nullable=False),
        sa.Column("streams_queue", sa.Text(), nullable=False),
        sa.Column("watchers_queue", sa.Text(), nullable=False),
        sa.Column("strategy_queue", sa.Text(), nullable=False),
        sa.CheckConstraint("id = 1", name="ck_ledger_identity_one_row"),
        sa.CheckConstraint("mode IN ('paper', 'live')", name="ck_ledger_identity_mode_known"),
        sa.CheckConstraint("stamped_by IN ('first start', 'what it held')", name="ck_ledger_identity_stamped_by_known"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_identity")),
    )
    op.create_table(
        "account_identities",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("venue", sa.Text(), nullable=False),
        sa.Column(
            "venue_account_id", sa.Text(), nullable=True, comment="the venue's own; null until it has answered once"
        ),
        sa.Column(
            "first_start_at",
            sa.DateTime(timezone=True),
            server_default=_NOW,
            nullable=False,
            comment="what was bought before is nobody's trade",
        ),
        sa.Column("armed_at", sa.DateTime(timezone=True), nullable=True, comment="live buys only while this is set"),
        sa.Column("armed_by", sa.Text(), nullable=True),
        sa.Column("disarmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_account_identities")),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_table("account_identities")
    op.drop_table("ledger_identity")
