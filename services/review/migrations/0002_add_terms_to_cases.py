"""add the terms of stages to cases."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("case", sa.Column("entered", sa.DateTime(timezone=True), nullable=True), schema="review")
    # The newest line of history says since when a case is where it is.
    op.execute(
        'update review."case" c set entered = '
        '(select max(at) from review.history h where h."case" = c."case" and h.stage = c.stage)'
    )
    op.alter_column("case", "entered", nullable=False, schema="review")
    op.add_column("case", sa.Column("wakes", sa.DateTime(timezone=True), nullable=True), schema="review")
    op.add_column("case", sa.Column("paused", sa.Date(), nullable=True), schema="review")
    op.create_index(
        "review_case_wakes",
        "case",
        ["wakes"],
        schema="review",
        postgresql_where=sa.text("wakes is not null"),
    )
