"""What intake remembers: the items it accepted, what counts against quotas, earlier catalogues, files.

How rows are judged is not here; nothing is decided in SQL but uniqueness.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index, LargeBinary, MetaData, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from services.intake.identity import number_in
from shared.notices.values import same
from shared.runtime.database import ADDED_TO, PERSONAL, Again, Connection, delivery_tables, put, put_later

METADATA = MetaData(schema="intake")
delivery_tables(METADATA)


class Table(SQLModel):
    metadata = METADATA


class Submission(Table, table=True):
    """One item, from its first filing: `digest` of its content, how often it was filed, where its case is."""

    case: UUID = Field(primary_key=True)
    number: str = Field(unique=True)
    notice: str
    form: str
    unit: str
    filer: str
    title: str
    direction: str | None
    item_kind: str
    revision: int
    digest: UUID
    state: str = Field(default="open", sa_column_kwargs={"server_default": "open"})
    version: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    tallies: list[list[str]] = Field(sa_column=Column(JSONB, nullable=False))
    late: bool
    package: str | None
    received: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    recommender: str | None
    district: str = Field(default="", sa_column_kwargs={"server_default": ""})
    title_key: str = Field(default="", sa_column_kwargs={"server_default": ""})
    """The title as names compare (`values.same`)."""


class Tally(Table, table=True):
    """How many accepted items of a unit count under one name (R-COL-010…012); never below zero."""

    notice: str = Field(primary_key=True)
    unit: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    used: int


class Published(Table, table=True):
    """What was published before, by normalised institution and name (附件5 注, R-COL-022)."""

    form: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    where: str
    case: UUID | None


class File(Table, table=True):
    """An accepted file by its content: scans as evidence, workbooks as they were filed (R-GEN-006)."""

    __table_args__ = {"info": {PERSONAL: ("name", "body")}}

    sha256: str = Field(primary_key=True)
    name: str
    role: str
    publisher: str
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now()))


class Attached(Table, table=True):
    """A file that a row filed as an event refers to. Those of a package are the package's."""

    sha256: str = Field(primary_key=True)
    case: UUID = Field(primary_key=True)


class Answer(Table, table=True):
    """Which message of the answers' stream answers an event, by a digest of its publisher and id: no id is kept."""

    key: UUID = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    accepted: bool
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class Told(Table, table=True):
    """What an authority told of an enterprise, as it told it (`enterprise.py` of the contracts): only added to."""

    __table_args__ = {"info": ADDED_TO}

    key: UUID = Field(primary_key=True)
    what: str
    uscc: str
    district: str
    by: str
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    data: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))


class Package(Table, table=True):
    """One package and its answer."""

    key: str = Field(primary_key=True)
    publisher: str
    notice: str
    unit: str
    outcome: str
    rows: int
    accepted: int
    forms: list[str] = Field(sa_column=Column(JSONB, nullable=False))
    files: list[str] = Field(sa_column=Column(JSONB, nullable=False))
    late: bool
    received: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


Index("intake_submission_unit", Submission.__table__.c.notice, Submission.__table__.c.unit)  # type: ignore[attr-defined]
Index("intake_submission_title", Submission.__table__.c.notice, Submission.__table__.c.title_key)  # type: ignore[attr-defined]
Index("intake_told_uscc", Told.__table__.c.uscc)  # type: ignore[attr-defined]

CHANGING = (
    "form",
    "revision",
    "digest",
    "title",
    "title_key",
    "received",
    "late",
    "unit",
    "recommender",
    "district",
)
"""What a later filing of an item may change."""


async def submissions(conn: Connection, cases: Iterable[UUID]) -> dict[UUID, Any]:
    """The known items among `cases`."""
    rows = await conn.read(
        "select submission.case, number, notice, form, filer, unit, recommender, district, revision, "
        "digest, state, tallies from intake.submission where submission.case = any(:cases)",
        {"cases": list(cases)},
    )
    return {row.case: row for row in rows}


async def spoken_of(conn: Connection, notices: Iterable[str], named: Iterable[UUID | str]) -> Sequence[Any]:
    """The items of these notices that somebody means: by their id, or by a text that is a number or a title."""
    named = list(named)
    texts = [one for one in named if isinstance(one, str)]
    rows = await conn.read(
        "select submission.case, number, notice, form, filer, unit, recommender, district, title_key "
        "from intake.submission where notice = any(:notices) "
        "and (submission.case = any(:cases) or number = any(:numbers) or title_key = any(:titles))",
        {
            "notices": list(notices),
            "cases": [one for one in named if isinstance(one, UUID)],
            "numbers": [number for text in texts if (number := number_in(text))],
            "titles": [same(text) for text in texts],
        },
    )
    return rows.all()


async def published(conn: Connection, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Any]:
    """Which (form, institution|name) were published before, and where."""
    pairs = list(keys)
    if not pairs:
        return {}
    rows = await conn.read(
        'select form, key, "where", published.case from intake.published where (form, key) in '
        "(select * from unnest(cast(:forms as text[]), cast(:keys as text[])))",
        {"forms": [f for f, _ in pairs], "keys": [k for _, k in pairs]},
    )
    return {(row.form, row.key): row for row in rows}


async def accept(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store new items and new revisions. Two replicas that met the same item at once: one starts again.

    An item may come for the first time and be filed again in one batch: then it is stored as filed last.
    """
    new: dict[UUID, Mapping[str, Any]] = {}
    for row in rows:
        row = {**row, "title_key": same(row["title"])}
        first = new.get(row["case"])
        if row["revision"] == 1:
            new[row["case"]] = row
            continue
        changes = {key: row[key] for key in CHANGING if key in row}
        if first:
            new[row["case"]] = {**first, **changes, "late": first["late"] or row["late"]}
            continue
        sets = ", ".join(f"{key} = {_SETS.get(key, ':' + key)}" for key in changes)
        # What was published stays so: a later form of the procedure does not make it a new item.
        changed = await conn.execute(
            f"update intake.submission set {sets}, state = case state when 'returned' then 'open' else state end "
            'where "case" = :case and revision = :revision - 1',
            {**changes, "case": row["case"]},
        )
        if changed.rowcount != 1:
            raise Again("the same item was filed again at once")
    put_later(conn, "intake.submission", list(new.values()), all_new=True)


_SETS = {"received": "cast(cast(:received as text) as timestamptz)", "late": "late or :late"}


async def tally(
    conn: Connection, steps: Mapping[tuple[str, str, str, str], int]
) -> dict[tuple[str, str, str, str], int]:
    """Add to the counts `(notice, unit, name, scope)` and return what they are now.

    In sorted order, so that two replicas that add to the same counts wait for each other and never both.
    """
    rows = [
        {"notice": n, "unit": u, "name": name, "scope": scope, "used": step}
        for (n, u, name, scope), step in sorted(steps.items())
    ]
    found = await put(
        conn,
        "intake.tally",
        rows,
        "on conflict (notice, unit, name, scope) do update set used = greatest(0, tally.used + excluded.used) "
        "returning notice, unit, name, scope, used",
    )
    return {(r.notice, r.unit, r.name, r.scope): r.used for r in found}


async def follow(conn: Connection, changes: Mapping[UUID, tuple[int, str]]) -> Sequence[Any]:
    """Take over `(version, state)` of cases, the newest only; returns the items that stopped counting."""
    rows = await conn.execute(
        "with c as (select * from unnest(cast(:cases as uuid[]), cast(:versions as int[]), "
        "cast(:states as text[])) as c (id, version, state)), "
        "old as (select s.case, s.state from intake.submission s join c on s.case = c.id for update of s) "
        "update intake.submission s set state = c.state, version = c.version from c, old "
        "where s.case = c.id and old.case = s.case and c.version > s.version "
        "returning s.case, s.notice, s.unit, s.tallies, s.state, old.state as before",
        {
            "cases": list(changes),
            "versions": [v for v, _ in changes.values()],
            "states": [state for _, state in changes.values()],
        },
    )
    return [row for row in rows if row.state == "closed" and row.before != "closed"]


async def publish(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Remember what a catalogue shows; the first place stays."""
    await put(conn, "intake.published", rows)


async def tallies(conn: Connection, notice: str, unit: str) -> dict[str, int]:
    """What a unit's items count under each name, over all directions."""
    rows = await conn.read(
        "select name, sum(used) as used from intake.tally where notice = :notice and unit = :unit group by name",
        {"notice": notice, "unit": unit},
    )
    return {row.name: int(row.used) for row in rows}


def keep_package(conn: Connection, row: Mapping[str, Any]) -> None:
    put_later(conn, "intake.package", [row])


async def role_of_file(conn: Connection, sha256: str, publisher: str, size: int) -> str | None:
    """As what a file of this publisher is kept."""
    rows = await conn.read(
        "select role from intake.file where sha256 = :sha256 and publisher = :publisher and length(body) = :size",
        {"sha256": sha256, "publisher": publisher, "size": size},
    )
    found: str | None = rows.scalar()
    return found


async def body_of_file(conn: Connection, sha256: str) -> bytes:
    rows = await conn.read("select body from intake.file where sha256 = :sha256", {"sha256": sha256})
    return bytes(rows.scalar())


async def keep_file(conn: Connection, sha256: str, name: str, role: str, publisher: str, body: bytes) -> None:
    await conn.execute(
        "insert into intake.file (sha256, name, role, publisher, body) "
        "values (:sha256, :name, :role, :publisher, :body) on conflict do nothing",
        {"sha256": sha256, "name": name, "role": role, "publisher": publisher, "body": body},
    )


def attach(conn: Connection, case: UUID, files: Iterable[str]) -> None:
    put_later(conn, "intake.attached", [{"sha256": sha256, "case": case} for sha256 in sorted(set(files))])


def keep_answers(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """The later answer of an event stays. In one order, so that replicas wait and never both."""
    put_later(
        conn,
        "intake.answer",
        sorted(rows, key=lambda row: row["key"]),
        "on conflict (key) do update set seq = excluded.seq, accepted = excluded.accepted, at = excluded.at "
        "where excluded.at > answer.at",
    )


async def answer(conn: Connection, key: UUID) -> Any:
    """`seq` and `accepted` of the answer to an event; None when there is none yet."""
    found = await conn.read("select seq, accepted from intake.answer where key = :key", {"key": key})
    return found.one_or_none()


def keep_told(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    put_later(conn, "intake.told", rows)
