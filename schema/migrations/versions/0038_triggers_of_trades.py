"""A trade carries the trigger of its entry, so that limits of strategies and triggers need no look at its order.

Trades that are open get it at once; what closed before has none and is looked up by its order.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from schema.texts import text_of

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    comment = "the trigger of its entry; null: of before, see its order"
    op.add_column("trades", sa.Column("entry_trigger", sa.Text(), comment=comment))
    op.execute(text_of("functions", "ledger_write", 3))
    op.execute(
        "UPDATE trades t SET entry_trigger = o.trigger FROM orders o "
        "WHERE o.order_key = t.entry_key AND t.state <> 'CLOSED'"
    )


def downgrade() -> None:
    """Revert."""
    op.execute(text_of("functions", "ledger_write", 2))
    op.drop_column("trades", "entry_trigger")
