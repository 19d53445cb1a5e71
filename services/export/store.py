"""The published rows and the catalogues that were made of them.

How a catalogue looks is not here: that is `table.py`, and a module a format.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from services.export.table import Row
from shared.notices.layout import Form, apart
from shared.runtime.database import ALL, PERSONAL, Connection, delivery_tables, put, put_later

METADATA = MetaData(schema="export")
delivery_tables(METADATA)


class Table(SQLModel):
    metadata = METADATA


class RowTable(Table, table=True):
    """One published row; `shown` is false once its case was closed after all."""

    __tablename__ = "row"

    case: UUID = Field(primary_key=True)
    version: int
    notice: str
    form: str
    shown: bool
    filed: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))
    values: dict[str, Any] | None = Field(sa_column=Column(JSONB, nullable=True))


class Contact(Table, table=True):
    """The contact data of a published row, which the annex prints; nowhere else in this schema, and gone when it is
    let go: a catalogue that is made later leaves those cells empty."""

    __table_args__ = {"info": {PERSONAL: ALL}}

    case: UUID = Field(primary_key=True)
    version: int
    values: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))


class Catalogue(Table, table=True):
    """The last catalogue of one annex: as the annex prints it, and the `public` variant."""

    notice: str = Field(primary_key=True)
    form: str = Field(primary_key=True)
    public: bool = Field(primary_key=True, sa_column_kwargs={"server_default": "false"})
    title: str
    rows: int
    sha256: str
    object: str
    size: int
    published_on: date


def follow(
    conn: Connection, rows: Sequence[Mapping[str, Any]], form_of: Callable[[str, str], Form | None]
) -> None:
    """Take over published and closed cases, the newest version only."""
    newest: dict[Any, Mapping[str, Any]] = {}
    for row in rows:
        if row["case"] not in newest or newest[row["case"]]["version"] < row["version"]:
            newest[row["case"]] = row
    shown, contacts = [], []
    for case in sorted(newest):  # in one order: replicas wait and never both
        row = newest[case]
        if row["values"] is not None:
            values, personal = apart(form_of(row["notice"], row["form"]), row["values"])
            row = {**row, "values": values}
            contacts.append({"case": case, "version": row["version"], "values": personal})
        shown.append(row)
    put_later(
        conn,
        "export.contact",
        contacts,
        'on conflict ("case") do update set version = excluded.version, "values" = excluded."values" '
        "where contact.version < excluded.version",
    )
    put_later(
        conn,
        'export."row"',
        shown,
        'on conflict ("case") do update set version = excluded.version, shown = excluded.shown, '
        'filed = coalesce(excluded.filed, "row".filed), "values" = coalesce(excluded."values", "row"."values") '
        'where "row".version < excluded.version',
    )


async def shown(conn: Connection, notice: str, form: str) -> list[Row]:
    rows = await conn.execute(
        """select r."case", r.filed, r."values" || coalesce(p."values", '{}') as "values" from export."row" r """
        'left join export.contact p using ("case") '
        "where r.notice = :notice and r.form = :form and r.shown",
        {"notice": notice, "form": form},
    )
    return [Row(str(row.case), row.filed, row["values"]) for row in rows]


async def keep(conn: Connection, catalogue: Mapping[str, Any]) -> bool:
    """Remember a catalogue; False when the last one of this annex has the same bytes."""
    found = await put(
        conn,
        "export.catalogue",
        [catalogue],
        "on conflict (notice, form, public) do update set title = excluded.title, rows = excluded.rows, "
        "sha256 = excluded.sha256, object = excluded.object, size = excluded.size, "
        "published_on = excluded.published_on where catalogue.sha256 <> excluded.sha256 returning sha256",
    )
    return bool(found)
