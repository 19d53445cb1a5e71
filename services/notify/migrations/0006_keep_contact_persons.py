"""keep contact persons, and let no mail enter to one of another district."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

ADDRESSEE = """
create function notify.addressee() returns trigger language plpgsql as $$
begin
  if new.address is null or new.day is null then
    return new;
  end if;
  -- A change of a contact (contacts.py) takes it alone: it sees every mail that was entered before, and what is entered
  -- after sees the change.
  perform pg_advisory_xact_lock_shared(6, 6);
  if exists (select from notify.contact c where c.agency = new.to_code and c.code = new.contact and not
      (c.active and c.address is not distinct from new.address and new.day
       between coalesce(c.since, new.day) and coalesce(c.until, new.day))) then
    raise serialization_failure using message = 'a contact has changed since it was chosen';
  end if;
  if exists (select from notify.contact c where c.address = lower(new.address) and c.active and c.place is not null
             and new.day <= coalesce(c.until, new.day))
     and not exists (select from notify.contact c where c.address = lower(new.address) and c.active
             and new.day <= coalesce(c.until, new.day) and (c.agency = new.to_code or c.place = new.place)) then
    new.state := 'failed';
    new.why := 'foreign address';
    new.settled_at := coalesce(new.settled_at, new.owed_at);
    new.address := null;
  end if;
  return new;
end $$
"""


def upgrade() -> None:
    for name, kind in (
        ("contact", sa.String()),
        ("occasion", sa.String()),
        ("place", sa.String()),
        ("day", sa.Date()),
    ):
        op.add_column("mail", sa.Column(name, kind, nullable=True), schema="notify")
    # What is there was to agencies, and is owed no second time to one of their persons.
    op.execute("update notify.mail set occasion = key")
    op.create_index("ix_notify_mail_occasion", "mail", ["occasion"], unique=False, schema="notify")
    op.create_table(
        "contact",
        sa.Column("agency", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("posts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("since", sa.Date(), nullable=True),
        sa.Column("until", sa.Date(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("place", sa.String(), nullable=True),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("agency", "code"),
        schema="notify",
    )
    op.create_index("ix_notify_contact_address", "contact", ["address"], unique=False, schema="notify")
    op.execute(ADDRESSEE)
    op.execute(
        "create trigger addressee before insert or update of address on notify.mail "
        "for each row execute function notify.addressee()"
    )
