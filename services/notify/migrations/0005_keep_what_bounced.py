"""keep what bounced, where nothing is sent, and what people resolved."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

NOW = sa.text("now()")


def upgrade() -> None:
    op.add_column("mail", sa.Column("owner", sa.String(), nullable=True), schema="notify")
    op.create_table(
        "suppressed",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("mail", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("address"),
        schema="notify",
    )
    op.create_table(
        "bounce",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("mail", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(), nullable=True),
        sa.Column("why", sa.String(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema="notify",
    )
    op.create_index("ix_notify_bounce_mail", "bounce", ["mail"], unique=False, schema="notify")
    op.create_table(
        "resolution",
        sa.Column("n", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("mail", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("sent", sa.Boolean(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("n"),
        schema="notify",
    )
    op.create_index("ix_notify_resolution_mail", "resolution", ["mail"], unique=False, schema="notify")
