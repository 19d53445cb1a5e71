"""add duties, scores and held decisions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for name, empty in (("assessments", "[]"), ("judgements", "{}"), ("scores", "{}")):
        op.add_column(
            "case",
            sa.Column(name, postgresql.JSONB(), server_default=empty, nullable=False),
            schema="review",
        )
    # From now on an interrupted term is remembered by its beginning; one that is interrupted now begins anew.
    op.add_column("case", sa.Column("began", sa.Date(), nullable=True), schema="review")
    op.execute(
        'update review."case" set paused = null, '
        "began = case when due is not null then (entered at time zone 'Asia/Shanghai')::date end"
    )
    op.add_column("case", sa.Column("score", sa.Numeric(), nullable=True), schema="review")
    op.add_column(
        "history",
        sa.Column("data", postgresql.JSONB(), server_default="{}", nullable=False),
        schema="review",
    )
    op.create_table(
        "duty",
        sa.Column("case", sa.Uuid(), nullable=False),
        sa.Column("duty", sa.String(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("notice", sa.String(), nullable=False),
        sa.Column("began", sa.Date(), nullable=False),
        sa.Column("due", sa.Date(), nullable=False),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("wakes", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["case"], ["review.case.case"]),
        sa.PrimaryKeyConstraint("case", "duty", "period"),
        schema="review",
    )
    op.drop_index("review_case_wakes", "case", schema="review")
    for table, owed in (("case", ""), ("duty", " and state = 'owed'")):
        op.create_index(
            f"review_{table}_wakes",
            table,
            ["notice", "wakes"],
            schema="review",
            postgresql_where=sa.text("wakes is not null"),
        )
        op.create_index(
            f"review_{table}_provisional",
            table,
            ["case"],
            schema="review",
            postgresql_where=sa.text(f"provisional{owed}"),
        )
    op.create_table(
        "held",
        sa.Column("publisher", sa.String(), nullable=False),
        sa.Column("held", sa.String(), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decisions", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("officer", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("publisher", "held"),
        schema="review",
    )
    op.create_table(
        "refusal",
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("case", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("publisher", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key", "n"),
        schema="review",
    )
    op.create_index("ix_review_refusal_case", "refusal", ["case"], schema="review")
    op.create_table(
        "filing",
        sa.Column("case", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("filing", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["case"], ["review.case.case"]),
        sa.PrimaryKeyConstraint("case", "revision"),
        schema="review",
    )
