"""lock the history: its publishers, parties and officers by foreign keys, its lines against change, its copy begun."""

import json
from uuid import UUID, uuid5

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

AT_ONCE = 5000
PARTY = "case when actor = 'clock' or outcome = 'fact' or outcome = 'raise' then null else actor end"

FILL = (
    # Who plays a role by the case itself. What a notice adds, the service adds when it starts.
    'insert into review.party select "case", agency, array_agg(role), null from review."case", lateral (values '
    "(filer ->> 'code', 'filer'), (recommender, 'recommender'), (district, 'district')) as plays (agency, role) "
    "where agency <> '' group by \"case\", agency",
    # The ways that cases went before; whoever was left there can act no more.
    'insert into review.party select f."case", agency, array_agg(distinct role), max(c.version) '
    'from review.filing f join review."case" c using ("case"), lateral (values '
    "(f.filing ->> 'recommender', 'recommender'), (f.filing ->> 'district', 'district')) as plays (agency, role) "
    "where agency <> '' group by f.\"case\", agency on conflict do nothing",
    # Everybody else who has acted is a body of the notice.
    "insert into review.party select \"case\", actor, '{}', null from review.history where actor <> 'clock' "
    "and outcome not in ('fact', 'raise') group by \"case\", actor on conflict do nothing",
)

# Of a line that is added, its publisher is whoever acts, or intake, which hands on what was filed; only the clock acts
# without an event. Not a check constraint, as older lines have neither.
ADDS = {
    "history": "case when actor = 'clock' then key is null and publisher is null "
    "else key is not null and publisher is not null and publisher in (actor, 'yiqi:intake') end",
    "refusal": "true",
}

# What was held or refused before has no publisher in the inbox, and is taken as it is.
CONSTRAINTS = (
    "alter table review.held add constraint held_event foreign key (key, publisher) "
    "references review.inbox (key, token) deferrable initially deferred not valid",
    "alter table review.refusal add constraint refusal_event foreign key (key, publisher) "
    "references review.inbox (key, token) not valid",
    "alter table review.history add constraint history_event foreign key (key, publisher) "
    "references review.inbox (key, token)",
    'alter table review.history add constraint history_party foreign key ("case", party) '
    'references review.party ("case", agency)',
)

# Once for all lines of a statement, at its end, when the parties that the same statement wrote are there to be seen.
LAWFUL = """
create function review.lawful() returns trigger language plpgsql as $$
begin
  if exists (select from lines l join review.party p on p."case" = l."case" and p.agency = l.party
             where l.version > p.until) then
    raise foreign_key_violation using message = 'a party that is one no more', constraint = 'history_former',
      schema = 'review', table = 'history';
  end if;
  if exists (select from lines where officer is not null) and exists (
      select from lines l where l.officer is not null and not exists (
        select from review.officer o where o.officer = l.officer and o.agency = l.actor
      ) and exists (select from review.officer o where o.officer = l.officer or o.agency = l.actor)) then
    raise foreign_key_violation using message = 'an officer of another agency', constraint = 'history_officer',
      schema = 'review', table = 'history';
  end if;
  return null;
end $$
"""
UNCHANGED = """
create function review.unchanged() returns trigger language plpgsql as $$
begin
  raise insufficient_privilege using message = format('%s.%s is only added to', tg_table_schema, tg_table_name);
end $$
"""


def upgrade() -> None:
    op.add_column("inbox", sa.Column("token", sa.String(), nullable=True), schema="review")
    op.create_unique_constraint("inbox_token", "inbox", ["key", "token"], schema="review")
    op.add_column("history", sa.Column("key", sa.Uuid(), nullable=True), schema="review")
    op.add_column("history", sa.Column("publisher", sa.String(), nullable=True), schema="review")
    op.add_column(
        "history",
        sa.Column("party", sa.String(), sa.Computed(PARTY, persisted=True), nullable=True),
        schema="review",
    )
    op.create_table(
        "party",
        sa.Column("case", sa.Uuid(), nullable=False),
        sa.Column("agency", sa.String(), nullable=False),
        sa.Column("roles", postgresql.ARRAY(sa.String()), nullable=False),
        sa.Column("until", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("case", "agency"),
        schema="review",
    )
    op.create_table(
        "officer",
        sa.Column("officer", sa.String(), nullable=False),
        sa.Column("agency", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("officer"),
        schema="review",
    )
    op.create_index("ix_review_officer_agency", "officer", ["agency"], schema="review")
    op.create_table(
        "head",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("day"),
        schema="review",
    )
    for statement in (*FILL, *CONSTRAINTS, LAWFUL, UNCHANGED):
        op.execute(statement)
    op.execute(
        "create trigger lawful after insert on review.history referencing new table as lines "
        "for each statement execute function review.lawful()"
    )
    for table in ("history", "refusal"):
        op.execute(
            f"create trigger unchanged before update or delete or truncate on review.{table} "
            "for each statement execute function review.unchanged()"
        )
        op.execute(f"alter table review.{table} enable row level security")
        op.execute(f"alter table review.{table} force row level security")
        op.execute(f"create policy adds on review.{table} for insert with check ({ADDS[table]})")
        op.execute(f"create policy reads on review.{table} for select using (true)")
    _copy()


def _copy() -> None:
    """The lines that there are, said on the audit stream as everything later is: by the outbox."""
    found = op.get_bind().execute(
        sa.text('select "case", version, hash from review.history order by "case", version')
    )
    type_, source = "cn.gov.gz.sme.history.written.v1", "urn:cn:gov:gz:440100:yiqi"
    now = op.get_bind().execute(sa.text("select now()")).scalar_one().isoformat()
    for lines in found.partitions(AT_ONCE):
        rows = [{"case": str(case), "version": version, "hash": hash_} for case, version, hash_ in lines]
        cause = f"{type_}/{rows[0]['case']}/{rows[0]['version']}"
        id_ = uuid5(UUID("6f1ad64e-6a3b-5d0f-9d0c-1e5b2c7a4f10"), cause)
        head = {"specversion": "1.0", "id": str(id_), "source": source, "type": type_, "time": now}
        body = json.dumps({**head, "datacontenttype": "application/json", "data": {"lines": rows}})
        op.get_bind().execute(
            sa.text(
                "insert into review.outbox (id, stream, subject, body) values "
                "(:id, 'SME_AUDIT', 'sme.audit.v1.review.history.written', :body)"
            ),
            {"id": id_, "body": body},
        )
