"""What strategies and triggers use of their limits, read by a function whose plan is kept."""

from __future__ import annotations

from alembic import op

from schema.texts import text_of

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute(text_of("functions", "group_facts", 1))


def downgrade() -> None:
    """Revert."""
    op.execute("DROP FUNCTION group_facts(text, text[], text[], text[], bool[], bool[], text[], text, bool)")
