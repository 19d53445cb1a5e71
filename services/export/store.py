"""The published rows, the catalogues that were made of them, and which annexes have changed since.

How a catalogue looks is not here: that is `formats.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from services.export.table import Row
from shared.contracts import registry
from shared.contracts.catalogue import CataloguePublished
from shared.contracts.envelope import derived_id
from shared.notices.layout import Form, apart
from shared.runtime.database import ADDED_TO, ALL, PERSONAL, Connection, delivery_tables, put, put_later

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
    """The last catalogue of one annex: as the annex prints it, and the `public` variant. `sha256`, `object` and `size`
    are of the workbook, `files` has every format."""

    notice: str = Field(primary_key=True)
    form: str = Field(primary_key=True)
    public: bool = Field(primary_key=True, sa_column_kwargs={"server_default": "false"})
    title: str
    rows: int
    sha256: str
    object: str
    size: int
    published_on: date
    version: int = Field(sa_column_kwargs={"server_default": "1"})
    files: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False, server_default="[]"))
    content: str = Field(default="", sa_column_kwargs={"server_default": ""})
    """Of all that the files are made from (`formats.content`): while it is the same, none is made again."""


class Version(Table, table=True):
    """Every version that a catalogue has had, and the last of the facts that led to it: its type, whose it was, its
    id. The object store has the files of the newest; those of a round that is over are kept by `yiqi catalogue
    collect`."""

    __table_args__ = {"info": ADDED_TO}

    notice: str = Field(primary_key=True)
    form: str = Field(primary_key=True)
    public: bool = Field(primary_key=True)
    version: int = Field(primary_key=True)
    rows: int
    sha256: str
    files: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    fact: str
    by: str | None
    event: str | None


class Stale(Table, table=True):
    """An annex of which cases were published or closed after its catalogue: since when, when last, how often (`n`),
    and by what. The mark is in the transaction of the rows, and goes in that of the catalogue: no crash parts them."""

    notice: str = Field(primary_key=True)
    form: str = Field(primary_key=True)
    n: int = Field(sa_column=Column(BigInteger, nullable=False))
    since: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    touched: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    fact: str
    by: str
    event: str


@dataclass(frozen=True)
class Cause:
    """Why a catalogue is made: the type of a fact, whose it was, its id."""

    fact: str
    by: str
    event: str


@dataclass(frozen=True)
class Mark:
    """A row of `stale`, as it was read."""

    notice: str
    form: str
    n: int
    cause: Cause


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


async def case_of(conn: Connection, notice: str, form: str, cause: Cause) -> UUID | None:
    """The case whose event it was, as the id of that event follows from the row; None of a request, and where the row
    has a newer state by now."""
    type_ = next((t for t in registry.CASE_EVENTS if t.name == cause.fact), None)
    rows = await conn.read(
        'select "case", version from export."row" where notice = :notice and form = :form',
        {"notice": notice, "form": form},
    )
    found: list[UUID] = [
        row.case for row in rows if type_ and derived_id(type_.ce_type, row.case, row.version) == cause.event
    ]
    return found[0] if found else None


# --- what has changed ----------------------------------------------------------------------------------


def touch(conn: Connection, causes: Mapping[tuple[str, str], Cause], now: datetime) -> None:
    """Note that these annexes (notice, form) have changed, in one order: replicas wait and never both."""
    put_later(
        conn,
        "export.stale",
        [
            {"notice": notice, "form": form, "n": 1, "since": now, "touched": now, **asdict(cause)}
            for (notice, form), cause in sorted(causes.items(), key=lambda one: one[0])
        ],
        "on conflict (notice, form) do update set n = stale.n + 1, touched = excluded.touched, "
        'fact = excluded.fact, "by" = excluded."by", event = excluded.event',
    )


async def due(conn: Connection, now: datetime, quiet: timedelta, most: timedelta) -> list[tuple[str, str]]:
    """The annexes that have been quiet for so long, or have waited for so long though they never were."""
    rows = await conn.read(
        "select notice, form from export.stale where touched <= :quiet or since <= :late order by since",
        {"quiet": now - quiet, "late": now - most},
    )
    return [(row.notice, row.form) for row in rows]


async def mine(conn: Connection, notice: str, form: str, *, wait: bool) -> bool:
    """Be the only one who makes this annex's catalogue, until the transaction ends: else two replicas might put their
    files in another order than they commit. Rows of `stale` are not locked: what is published must not wait for us."""
    lock = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
    found = await conn.execute(
        f"select {lock}(hashtext('yiqi-catalogue'), hashtext(cast(:annex as text))) as got",
        {"annex": f"{notice}/{form}"},
    )
    return wait or bool(found.scalar())


async def mark(conn: Connection, notice: str, form: str) -> Mark | None:
    """Read before the rows: what comes between counts `n` on, and so is made once more."""
    found = await conn.execute(
        'select n, fact, "by", event from export.stale where notice = :notice and form = :form',
        {"notice": notice, "form": form},
    )
    row = found.one_or_none()
    return Mark(notice, form, row.n, Cause(row.fact, row.by, row.event)) if row else None


def settle(conn: Connection, done: Mark) -> None:
    """Forget the mark, unless the annex has changed since it was read."""
    conn.later(
        "delete from export.stale where notice = :notice and form = :form and n = :n",
        {"notice": done.notice, "form": done.form, "n": done.n},
    )


# --- catalogues ----------------------------------------------------------------------------------------


async def last(conn: Connection, notice: str, form: str, *, public: bool) -> Any:
    """The catalogue that stands: its version, rows, digest and files; None before the first."""
    found = await conn.execute(
        "select version, rows, sha256, files, content from export.catalogue "
        "where notice = :notice and form = :form and public = :public",
        {"notice": notice, "form": form, "public": public},
    )
    return found.one_or_none()


def unchanged(conn: Connection, notice: str, form: str, content: str, *, public: bool) -> None:
    """Other content gave the same bytes: they need not be made for it again."""
    conn.later(
        "update export.catalogue set content = :content where notice = :notice and form = :form and public = :public",
        {"notice": notice, "form": form, "public": public, "content": content},
    )


async def keep(conn: Connection, made: CataloguePublished, content: str, cause: Cause, now: datetime) -> None:
    """Remember a catalogue as the one that stands, and among the versions that there were."""
    whole = made.model_dump(mode="json")
    await put(
        conn,
        "export.catalogue",
        [{**whole, "content": content}],
        "on conflict (notice, form, public) do update set title = excluded.title, rows = excluded.rows, "
        "sha256 = excluded.sha256, object = excluded.object, size = excluded.size, "
        "published_on = excluded.published_on, version = excluded.version, files = excluded.files, "
        "content = excluded.content",
    )
    kept = {name: whole[name] for name in ("notice", "form", "public", "version", "rows", "sha256", "files")}
    await put(conn, "export.version", [{**kept, "at": now, **asdict(cause)}], then="")


COUNTS = """
union all select 'catalogues', notice, form, count(*), min(since) from export.stale group by notice, form
"""
"""For `ledger.py`."""
