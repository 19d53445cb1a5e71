"""keep contact data apart, and record what was let go."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"

# What the packaged notices called contact data when it still lay among the values; and whatever has telephones.
KEYS = (
    "array['contact', 'contact_name', 'contact_title', 'contact_phone', 'contact_phones', 'contact_email', "
    "'filled_by', 'legal_rep', 'head_name', 'head_phones', 'head_email', 'extra']"
)
CONTACT = f"key = any({KEYS}) or (jsonb_typeof(value) = 'object' and jsonb_exists(value, 'phones'))"
PART = "(select coalesce(jsonb_object_agg(key, value), '{{}}') from jsonb_each({of}) where {which})"


def part(of: str, which: str) -> str:
    return PART.format(of=of, which=which)


def upgrade() -> None:
    op.create_table(
        "contact",
        sa.Column("case", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("values", postgresql.JSONB(), nullable=True),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("rest", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["case"], ["review.case.case"]),
        sa.PrimaryKeyConstraint("case", "revision"),
        schema="review",
    )
    filed = "filing -> 'values'"
    for revision_, values, email, table in (
        ("revision", '"values"', "filer ->> 'email'", 'review."case"'),
        ("revision", filed, "null", "review.filing"),
    ):
        op.execute(
            f'insert into review.contact ("case", revision, "values", email) '
            f'select "case", {revision_}, {part(values, CONTACT)}, {email} from {table} '
            f"where exists (select from jsonb_each({values}) where {CONTACT}) or {email} is not null"
        )
    rest = f"not ({CONTACT})"
    op.execute(f"""update review."case" set "values" = {part('"values"', rest)}, filer = filer - 'email'""")
    op.execute(f"update review.filing set filing = jsonb_set(filing, '{{values}}', {part(filed, rest)})")
    op.create_table(
        "let_go",
        sa.Column("run", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run", "kind"),
        schema="review",
    )
