"""An older system's records beyond fills: trigger, source, exit reason, linkage (`bottrader import old`).

Imported fills have no order of ours, so checks would find these in a trade record without a source for them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from schema.texts import text_of

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "imported_records",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False, comment="of an imported trade record"),
        sa.Column("trigger", postgresql.JSONB(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("exit_reason", sa.Text()),
        sa.Column("order_type", sa.Text(), nullable=False),
        sa.Column("client_order_id", sa.Text()),
        sa.Column("snapshot_id", postgresql.UUID()),
        sa.Column("buy_score", sa.Numeric()),
        sa.Column("sell_score", sa.Numeric()),
        sa.Column("trigger_type", sa.Text(), comment="of its old linkage; null: it had none"),
        sa.Column("sell_trigger", sa.Text()),
        sa.Column("indicator_breakdown", postgresql.JSONB(), nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.Column("indicators_fired", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("account", "order_id", name="pk_imported_records"),
    )
    op.execute(text_of("views", "old.trade_strategy_link", 2))


def downgrade() -> None:
    """Revert: the trade records become like those of any import."""
    op.execute(text_of("views", "old.trade_strategy_link", 1))
    op.execute(
        """UPDATE trade_records r SET trigger = '{"trigger": "manual", "snapshot_id": null}', source = 'import',
                  exit_reason = NULL, order_type = 'UNKNOWN'
             FROM imported_records i WHERE i.account = r.account AND i.order_id = r.order_id"""
    )
    op.drop_table("imported_records")
