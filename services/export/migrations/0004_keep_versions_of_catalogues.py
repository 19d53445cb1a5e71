"""keep versions of catalogues, and which annexes have changed since theirs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

NOW = sa.text("now()")


def upgrade() -> None:
    op.add_column(
        "catalogue", sa.Column("version", sa.Integer(), server_default="1", nullable=False), schema="export"
    )
    op.add_column(
        "catalogue",
        sa.Column("files", postgresql.JSONB(), server_default="[]", nullable=False),
        schema="export",
    )
    # Empty for what an earlier release has made: it is made once more, and is no new version if nothing differs.
    op.add_column(
        "catalogue", sa.Column("content", sa.String(), server_default="", nullable=False), schema="export"
    )
    op.create_table(
        "version",
        sa.Column("notice", sa.String(), nullable=False),
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("files", postgresql.JSONB(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fact", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=True),
        sa.Column("event", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("notice", "form", "public", "version"),
        schema="export",
    )
    # What was there before versions were counted is the first of them; who asked for it was not kept.
    op.execute(
        "insert into export.version (notice, form, public, version, rows, sha256, files, at, fact) "
        "select notice, form, public, 1, rows, sha256, '[]', "
        "cast(published_on as timestamp) at time zone 'Asia/Shanghai', 'catalogue.requested' from export.catalogue"
    )
    op.create_table(
        "stale",
        sa.Column("notice", sa.String(), nullable=False),
        sa.Column("form", sa.String(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("touched", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fact", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("notice", "form"),
        schema="export",
    )
