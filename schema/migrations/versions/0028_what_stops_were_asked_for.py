"""The levels that a change of stops requested: a repeated command with other levels is refused, not answered as done.

It is expand only: older rows, and those that older workers write, have none and are not compared.
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
    """Revert."""
    op.drop_column("stop_changes", "levels")
