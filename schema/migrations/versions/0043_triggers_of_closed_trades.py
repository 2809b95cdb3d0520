"""A trade that closed before 0038 gets the trigger of its entry, too: `ledger verify` finds a trade without one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

_BEFORE = "the trigger of its entry; null: of before, see its order"


def upgrade() -> None:
    """Apply."""
    op.execute(
        "UPDATE trades t SET entry_trigger = o.trigger FROM orders o "
        "WHERE o.order_key = t.entry_key AND t.entry_trigger IS NULL"
    )
    op.alter_column("trades", "entry_trigger", comment="the trigger of its entry", existing_type=sa.Text())


def downgrade() -> None:
    """Revert."""
    op.alter_column("trades", "entry_trigger", comment=_BEFORE, existing_type=sa.Text())
