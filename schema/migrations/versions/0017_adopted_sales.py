"""The trades, opened by external buys, that external sales are assigned to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# Sales until now were assigned by the previous rule.
_OF_BEFORE = """
INSERT INTO adopted_sales (account, sale_key, size)
SELECT o.account, o.order_key,
       sum(CASE f.side WHEN 'SELL' THEN f.size + f.base_fees ELSE f.value + f.quote_fees END)
  FROM orders o JOIN fills f ON f.order_key = o.order_key
 WHERE o.role = 'EXTERNAL' GROUP BY o.account, o.order_key
HAVING sum(CASE f.side WHEN 'SELL' THEN f.size + f.base_fees ELSE f.value + f.quote_fees END) > 0
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "adopted_sales",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("sale_key", sa.Text(), nullable=False, comment="the external order that sold"),
        sa.Column(
            "entry_key", sa.Text(), nullable=True, comment="the trade that bears it; null: sold before this was kept"
        ),
        sa.Column("size", sa.Numeric(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("size > 0", name=op.f("ck_adopted_sales_size_positive")),
        sa.ForeignKeyConstraint(["sale_key"], ["orders.order_key"], name=op.f("fk_adopted_sales_sale_key_orders")),
        sa.ForeignKeyConstraint(["entry_key"], ["trades.entry_key"], name=op.f("fk_adopted_sales_entry_key_trades")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adopted_sales")),
    )
    op.create_index(op.f("ix_adopted_sales_sale_key"), "adopted_sales", ["sale_key"])
    op.execute(_OF_BEFORE)


def downgrade() -> None:
    """Revert."""
    op.drop_table("adopted_sales")
