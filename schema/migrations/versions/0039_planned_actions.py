"""What a flatten is to close is stored as it begins, so that one that is repeated closes nothing else."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "api_actions",
        sa.Column(
            "planned",
            postgresql.ARRAY(sa.Text()),
            comment="of a flatten: what was open as it began, and what it therefore closes",
        ),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_column("api_actions", "planned")
