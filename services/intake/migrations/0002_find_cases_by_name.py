"""find cases by their name, and say whose they are."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("submission", sa.Column("recommender", sa.String(), nullable=True), schema="intake")
    op.add_column(
        "submission", sa.Column("district", sa.String(), server_default="", nullable=False), schema="intake"
    )
    op.add_column(
        "submission", sa.Column("title_key", sa.String(), server_default="", nullable=False), schema="intake"
    )
    # The unit was the recommender where there was one; the code of a department is that of its district.
    op.execute(
        "update intake.submission set recommender = nullif(unit, filer), "
        r"district = case when unit ~ '^\d{6}$' then unit else '' end, "
        # As `values.same` spells it.
        r"title_key = lower(btrim(regexp_replace(normalize(title, NFKC), '\s+', '', 'g'), '★*:：'))"
    )
    op.create_index("intake_submission_title", "submission", ["notice", "title_key"], schema="intake")
