"""Entries are admitted on facts read without a lock: each admission takes the account's next turn, or fails."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_TAKE = """
CREATE FUNCTION take_turn(p_account text, p_turn bigint, p_read_at timestamptz, p_longest interval)
RETURNS boolean LANGUAGE plpgsql AS $$
-- p_turn: how many turns were taken when the facts were read, at p_read_at; null: a write that needs none.
-- Raises serialization_failure if another admission, a halt or a resume came between, or if that is longer ago than
-- p_longest.
BEGIN
    IF p_turn IS NULL THEN
        RETURN true;
    END IF;
    IF p_read_at < clock_timestamp() - p_longest THEN
        RAISE EXCEPTION 'the facts of % were read at %, too long ago', p_account, p_read_at USING ERRCODE = '40001';
    END IF;
    INSERT INTO admission_turns AS t (account, taken) VALUES (p_account, p_turn + 1)
    ON CONFLICT (account) DO UPDATE SET taken = p_turn + 1 WHERE t.taken = p_turn;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'turn % of % was taken by another', p_turn, p_account USING ERRCODE = '40001';
    END IF;
    RETURN true;
END
$$
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "admission_turns",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("taken", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    )
    op.execute(_TAKE)


def downgrade() -> None:
    """Revert."""
    op.execute("DROP FUNCTION take_turn")
    op.drop_table("admission_turns")
