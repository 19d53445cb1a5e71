"""keep what every case waits for, in the place of corrections alone."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "waiting",
        sa.Column("case", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("notice", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("due", sa.Date(), nullable=True),
        sa.Column("awaits", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("change", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("case"),
        schema="notify",
    )
    op.create_index(
        "notify_waiting_next",
        "waiting",
        ["next_at"],
        unique=False,
        schema="notify",
        postgresql_where=sa.text("next_at is not null"),
    )
    # What was told of a correction was told under another key: its term is taken to begin on the day of that mail, so
    # that no earlier rung is told again.
    op.execute("""
        insert into notify.waiting ("case", version, notice, stage, due, awaits, change)
        select "case", version, coalesce(change ->> 'notice', ''), coalesce(change ->> 'stage', ''), due,
          case when due is not null then json_build_array(json_build_object(
            'began', coalesce((
              select max((m.owed_at at time zone 'Asia/Shanghai')::date) from notify.mail m
              where m.key like 'case/' || c."case" || '/' || c.version || '/deadline-%'), due - 30),
            'due', due, 'provisional', coalesce(change -> 'provisional', 'false')
          )) end, case when due is not null then change end
        from notify.correction c
    """)
    op.drop_table("correction", schema="notify")
    # The key of a printed date now says which date: one that is moved is recalled anew. Mails under way keep theirs,
    # which is also their Message-ID.
    op.execute("""
        update notify.mail set key = concat_ws('/', 'deadline', split_part(key, '/', 2), split_part(key, '/', 3),
          params -> 'due' ->> 'date', split_part(key, '/', 4), split_part(key, '/', 5))
        where key like 'deadline/%' and state in ('sent', 'failed') and params -> 'due' ->> 'date' is not null
    """)
