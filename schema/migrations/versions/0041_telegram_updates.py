"""Commands that people send to the Telegram bot: each update once, its button, and the answer (activities/telegram)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "telegram_updates",
        sa.Column(
            "bot",
            sa.BigInteger(),
            nullable=False,
            comment="its id at Telegram, no secret: numbers are its own",
        ),
        sa.Column("update_id", sa.BigInteger(), nullable=False, comment="Telegram's: a doubled one is the same row"),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("chat_id", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("command", sa.Text(), nullable=False, comment="without the slash; press: of a button"),
        sa.Column("argument", sa.Text(), nullable=False, comment="of a press: the digest of the button's key"),
        sa.Column("press", sa.Text(), comment="Telegram's id of a press, to answer it"),
        sa.Column("key_digest", sa.Text(), comment="of the button that this command asks back by"),
        sa.Column("button_message", sa.BigInteger(), comment="the message that shows it; null: not sent yet"),
        sa.Column("valid_until", sa.DateTime(timezone=True)),
        sa.Column("pressed_by", sa.BigInteger(), comment="the update of the one press that counts"),
        sa.Column("answer", sa.Text(), comment="what was said"),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("done_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("bot", "update_id", name="pk_telegram_updates"),
        sa.UniqueConstraint("key_digest", name="uq_telegram_updates_key_digest"),
    )
    op.create_index(
        "ix_telegram_updates_waiting",
        "telegram_updates",
        ["bot", "update_id"],
        postgresql_where=sa.text("done_at IS NULL"),
    )


def downgrade() -> None:
    """Revert."""
    op.drop_table("telegram_updates")
