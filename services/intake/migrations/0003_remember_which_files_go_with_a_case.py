"""remember which files go with a case."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "attached",
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("case", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "case"),
        schema="intake",
    )
