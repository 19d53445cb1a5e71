"""let mails wait for the morning, or for somebody to release them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for column in (
        sa.Column("notice", sa.String(), server_default="", nullable=False),
        sa.Column("when", sa.String(), server_default="now", nullable=False),
        sa.Column("ladder", sa.String(), nullable=True),
        sa.Column("digest", sa.Uuid(), nullable=True),
        sa.Column(
            "handled",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
    ):
        op.add_column("mail", column, schema="notify")
    for name, columns, where in (
        ("notify_mail_pending", ["state", "not_before"], "state in ('held', 'gathered')"),
        (
            "notify_mail_ladder",
            ["ladder"],
            "state in ('held', 'gathered', 'queued') and ladder is not null",
        ),
        ("notify_mail_digest", ["digest"], "digest is not null"),
    ):
        op.create_index(name, "mail", columns, unique=False, schema="notify", postgresql_where=sa.text(where))
