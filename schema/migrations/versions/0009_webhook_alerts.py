"""Alerts received by webhook: the request under each key, and its outcome."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "webhook_alerts",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False, comment="sender:key"),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("symbol", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="the same key with another digest is refused"),
        sa.Column("alert", postgresql.JSONB(), nullable=False, comment="as it was read, without its token"),
        sa.Column("order_key", sa.Text(), nullable=True),
        sa.Column("intent", postgresql.JSONB(), nullable=True, comment="the order that is started, also when repeated"),
        sa.Column("closes", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("refusal", postgresql.JSONB(), nullable=True, comment="refused before it was an order: by what, why"),
        sa.Column("repeats", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("account", "request_id", name=op.f("pk_webhook_alerts")),
        sa.CheckConstraint("action IN ('buy', 'sell', 'close')", name=op.f("ck_webhook_alerts_action_known")),
    )
    op.create_index("ix_webhook_alerts_received_at", "webhook_alerts", ["account", "received_at"], unique=False)
    op.create_index("ix_webhook_alerts_order_key", "webhook_alerts", ["order_key"], unique=False)


def downgrade() -> None:
    """Revert."""
    op.drop_table("webhook_alerts")
