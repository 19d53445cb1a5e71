"""keep contact data apart, and a catalogue in two variants."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

# What the packaged notices called contact data when it still lay among the values; and whatever has telephones.
CONTACT = (
    "(key = any(array['contact', 'contact_name', 'contact_title', 'contact_phone', 'contact_phones', "
    "'contact_email', 'filled_by', 'legal_rep', 'head_name', 'head_phones', 'head_email', 'extra']) "
    "or (jsonb_typeof(value) = 'object' and jsonb_exists(value, 'phones')))"
)


def upgrade() -> None:
    op.create_table(
        "contact",
        sa.Column("case", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("values", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("case"),
        schema="export",
    )
    op.execute(
        'insert into export.contact ("case", version, "values") select "case", version, '
        f'(select jsonb_object_agg(key, value) from jsonb_each("values") where {CONTACT}) from export."row" '
        f'where "values" is not null and exists (select from jsonb_each("values") where {CONTACT})'
    )
    op.execute(
        'update export."row" set "values" = (select coalesce(jsonb_object_agg(key, value), \'{}\') '
        f'from jsonb_each("values") where not {CONTACT}) where "values" is not null'
    )
    op.add_column(
        "catalogue",
        sa.Column("public", sa.Boolean(), server_default="false", nullable=False),
        schema="export",
    )
    op.drop_constraint("catalogue_pkey", "catalogue", schema="export", type_="primary")
    op.create_primary_key("catalogue_pkey", "catalogue", ["notice", "form", "public"], schema="export")
