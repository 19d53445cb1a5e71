"""The cases and their history, as tables and as the few statements that read and write them.

What may happen to a case is not here: that is `decide.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, ForeignKeyConstraint, Index, MetaData, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from services.review.decide import Case, Step
from shared.contracts.types import Finding, Party
from shared.runtime.database import Connection, delivery_tables, put_later

METADATA = MetaData(schema="review")
delivery_tables(METADATA)


class Table(SQLModel):
    metadata = METADATA


class CaseRow(Table, table=True):
    __tablename__ = "case"

    case: UUID = Field(primary_key=True)
    number: str = Field(unique=True)
    notice: str
    form: str
    stage: str
    version: int
    revision: int
    filer: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    recommender: str | None
    unit: str
    district: str
    direction: str | None
    item_kind: str
    title: str
    values: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    findings: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    late: bool
    package: str | None
    filed: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    entered: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    due: date | None
    provisional: bool
    wakes: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))
    paused: date | None


class History(Table, table=True):
    """One line a step (R-GEN-012): who, what, why, by which rules. `hash` covers the line and the one before."""

    __table_args__ = (ForeignKeyConstraint(["case"], ["review.case.case"]),)

    case: UUID = Field(primary_key=True)
    version: int = Field(primary_key=True)
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    actor: str
    officer: str | None
    stage: str
    outcome: str
    reason: str
    rules: list[str] = Field(sa_column=Column(JSONB, nullable=False))
    acknowledges: list[str] = Field(sa_column=Column(JSONB, nullable=False))
    fixes: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    cause: str
    hash: str


Index(
    "review_case_wakes",
    CaseRow.__table__.c.wakes,  # type: ignore[attr-defined]
    postgresql_where=text("wakes is not null"),
)


async def cases(conn: Connection, ids: Iterable[UUID]) -> dict[UUID, Case]:
    """The cases as they are. Not locked: of two replicas that decide the same one, the second to write its
    line of history finds the version taken, and starts again."""
    rows = await conn.read('select * from review."case" where "case" = any(:ids)', {"ids": list(set(ids))})
    return {row.case: _case(row) for row in rows}


async def woken(conn: Connection, now: datetime, notices: Iterable[str], most: int = 200) -> list[Case]:
    """Cases whose term is over, those that waited longest first; locked, so that replicas share them out."""
    rows = await conn.execute(
        'select * from review."case" where wakes <= :now and notice = any(:notices) '
        'order by wakes, "case" limit :most for update skip locked',
        {"now": now, "notices": list(notices), "most": most},
    )
    return [_case(row) for row in rows]


def sleep(conn: Connection, cases: Iterable[UUID]) -> None:
    """Their notice has changed, and no longer says that anything happens by itself."""
    conn.later('update review."case" set wakes = null where "case" = any(:cases)', {"cases": list(cases)})


async def provisional(conn: Connection) -> list[Case]:
    """Cases whose date hangs on a year whose working days were not known."""
    return [_case(row) for row in await conn.read('select * from review."case" where provisional')]


def _case(row: Any) -> Case:
    fields = dict(row.items())
    fields["filer"] = Party(**fields["filer"])
    fields["findings"] = tuple(Finding(**f) for f in fields["findings"])
    return Case(**fields)


def _row(case: Case) -> dict[str, Any]:
    row = {name: getattr(case, name) for name in Case.__dataclass_fields__}
    row["filer"] = case.filer.model_dump(exclude_none=True)
    row["findings"] = [f.model_dump(exclude_none=True) for f in case.findings]
    return row


async def write(conn: Connection, steps: Sequence[Step], known: Mapping[UUID, Case]) -> None:
    """All steps of a batch: the cases as the last step leaves them, and every line of history."""
    last = {step.case.case: step.case for step in steps}
    new = [_row(case) for id_, case in last.items() if id_ not in known]
    put_later(conn, 'review."case"', new, all_new=True)
    # In one order, so that two replicas wait for each other and never both.
    moved = [_row(case) for id_, case in sorted(last.items()) if id_ in known]
    if moved:
        changing = (
            "stage",
            "version",
            "revision",
            "title",
            "values",
            "findings",
            "direction",
            "item_kind",
            "late",
            "package",
            "entered",
            "due",
            "provisional",
            "wakes",
            "paused",
        )
        sets = ", ".join(f'"{c}" = excluded."{c}"' for c in changing)
        newer = 'where "case".version < excluded.version'
        put_later(
            conn, 'review."case"', moved, f'on conflict ("case") do update set {sets} {newer}', all_new=True
        )
    previous = await _hashes(conn, [id_ for id_ in last if id_ in known])
    lines = []
    for step in steps:
        line = step.line(previous.get(step.case.case, ""))
        previous[step.case.case] = line["hash"]
        lines.append(line)
    put_later(conn, "review.history", lines, all_new=True)


async def _hashes(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    if not ids:
        return {}
    rows = await conn.read(
        'select distinct on ("case") "case", hash from review.history where "case" = any(:ids) '
        'order by "case", version desc',
        {"ids": list(ids)},
    )
    return {row.case: row.hash for row in rows}
