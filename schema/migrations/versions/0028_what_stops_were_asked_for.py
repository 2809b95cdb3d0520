"""Which levels a change of stops asked for: the same command with other levels is refused, not answered as done.

It is expand only: rows of before, and those that workers of before write, have none, and are compared with nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "stop_changes",
        sa.Column("levels", JSONB(), comment="the levels that were asked for; null: not kept (a row of before)"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_column("stop_changes", "levels")
