"""The cases and their history, as tables and as the few statements that read and write them.

What may happen to a case is not here: that is `decide.py`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    DateTime,
    ForeignKeyConstraint,
    Index,
    MetaData,
    String,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from services.review.case import Case, Owed, Step
from services.review.contacts import Forms, contact, replaced
from shared.contracts.types import Assessment, Finding, Party
from shared.notices.layout import Form, apart
from shared.runtime.database import (
    ADDED_TO,
    ALL,
    PERSONAL,
    Connection,
    delivery_tables,
    put,
    put_later,
)

METADATA = MetaData(schema="review")
delivery_tables(METADATA, proven=True)
PROVEN = ["review.inbox.key", "review.inbox.token"]


PARTY = "case when actor = 'clock' or outcome = 'fact' or outcome = 'raise' then null else actor end"


class Table(SQLModel):
    metadata = METADATA


class CaseRow(Table, table=True):
    __tablename__ = "case"
    __table_args__ = ({"info": {"rights": "select, insert, update"}},)

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
    began: date | None
    due: date | None
    provisional: bool
    wakes: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))
    paused: date | None
    assessments: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False, server_default="[]"))
    judgements: dict[str, str] = Field(sa_column=Column(JSONB, nullable=False, server_default="{}"))
    scores: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False, server_default="{}"))
    score: Decimal | None


class Duty(Table, table=True):
    """What a case owes for one period; once settled it stays, so that misses can be counted."""

    __table_args__ = (ForeignKeyConstraint(["case"], ["review.case.case"]),)

    case: UUID = Field(primary_key=True)
    duty: str = Field(primary_key=True)
    period: str = Field(primary_key=True)
    notice: str
    began: date
    due: date
    provisional: bool
    state: str
    wakes: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))


class Filing(Table, table=True):
    """What a later filing took the place of. Apart from the history, which keeps its digest: it may have to go."""

    __table_args__ = (ForeignKeyConstraint(["case"], ["review.case.case"]),)

    case: UUID = Field(primary_key=True)
    revision: int = Field(primary_key=True)
    filing: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))


class PartyRow(Table, table=True):
    """Which agencies play a role in a case. A row stays, because lines of the history refer to it: `until` is the last
    version in which an agency could act that is no party any more."""

    __tablename__ = "party"
    __table_args__ = ({"info": {"rights": "select, insert, update (roles, until)"}},)

    case: UUID = Field(primary_key=True)
    agency: str = Field(primary_key=True)
    roles: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    until: int | None


class OfficerRow(Table, table=True):
    """The officers that agencies have listed, by code; only added to, as a code is nobody else's later."""

    __tablename__ = "officer"
    __table_args__ = ({"info": {**ADDED_TO, PERSONAL: ALL}},)

    officer: str = Field(primary_key=True)
    agency: str = Field(index=True)


class HeadRow(Table, table=True):
    """The head of the audit stream, once a day."""

    __tablename__ = "head"
    __table_args__ = ({"info": ADDED_TO},)

    day: date = Field(primary_key=True)
    seq: int = Field(sa_column=Column(BigInteger, nullable=False))
    lines: int = Field(sa_column=Column(BigInteger, nullable=False))
    hash: str


class Contact(Table, table=True):
    """Who is to be reached about a case: the contact data of each filing, by revision, and the filer's e-mail address.
    Nowhere else in this schema. Once it is let go, `values` is null and `rest` the digest of what the filing still
    says: that can be verified ever after."""

    __table_args__ = (ForeignKeyConstraint(["case"], ["review.case.case"]), {"info": {PERSONAL: ALL}})

    case: UUID = Field(primary_key=True)
    revision: int = Field(primary_key=True)
    values: dict[str, Any] | None = Field(sa_column=Column(JSONB, nullable=True))
    email: str | None
    rest: str | None


class Held(Table, table=True):
    """Decisions that their publisher holds back: `held` is the id of the event that brought them, `key` the event."""

    __table_args__ = (
        # They are written at once, the inbox at the end.
        ForeignKeyConstraint(
            ["key", "publisher"], PROVEN, name="held_event", deferrable=True, initially="deferred"
        ),
        {"info": {"rights": "select, insert, update", PERSONAL: ALL}},
    )

    publisher: str = Field(primary_key=True)
    held: str = Field(primary_key=True)
    key: UUID
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    decisions: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    state: str
    settled_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))
    officer: str | None
    reason: str


class Refusal(Table, table=True):
    """What an agency wanted of a case and may not have: no line of its history, but on record. `key` is that of the
    event, `n` the place among its decisions. Its publisher need be no party."""

    __table_args__ = (
        ForeignKeyConstraint(["key", "publisher"], PROVEN, name="refusal_event"),
        {"info": {**ADDED_TO, PERSONAL: ("what",)}},
    )

    key: UUID = Field(primary_key=True)
    n: int = Field(primary_key=True)
    case: UUID = Field(index=True)
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    publisher: str
    what: str
    code: str
    why: str


class History(Table, table=True):
    """One line a step (R-GEN-012): who, what, why, by which rules. `hash` covers the line and the one before.

    The last lock before a decision of another district, for which no handler is trusted. `publisher` is whom the inbox
    has for the event `key`, and either acts itself or is intake, which hands on what was filed; only the clock acts
    without an event. `party` is the actor of all but the clock's and of what anybody may report: a party of the case.
    Policies and triggers (migration 0004) see to the rest: that nobody is a party no more, or signs as an officer of
    another agency, and that no line is changed. What a person wrote into it may name anybody, and `cause` is an id of
    the publisher's making.
    """

    __table_args__ = (
        ForeignKeyConstraint(["case"], ["review.case.case"]),
        ForeignKeyConstraint(["key", "publisher"], PROVEN, name="history_event"),
        ForeignKeyConstraint(
            ["case", "party"], ["review.party.case", "review.party.agency"], name="history_party"
        ),
        {"info": {**ADDED_TO, PERSONAL: ("officer", "reason", "fixes", "cause", "data")}},
    )

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
    data: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False, server_default="{}"))
    hash: str
    key: UUID | None
    publisher: str | None
    party: str | None = Field(sa_column=Column(String, Computed(PARTY, persisted=True), nullable=True))


class LetGo(Table, table=True):
    """What one run of `yiqi ops retain` let go, in all schemas: how many of a kind, from before when, by whom."""

    __tablename__ = "let_go"

    run: UUID = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    before: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    by: str
    count: int = Field(sa_column=Column(BigInteger, nullable=False))


for _name, _owed in (("case", ""), ("duty", " and state = 'owed'")):
    _columns = METADATA.tables[f"review.{_name}"].c
    # By notice first: what a notice that is no longer loaded has left behind must not lie before what is due.
    Index(
        f"review_{_name}_wakes", _columns.notice, _columns.wakes, postgresql_where=text("wakes is not null")
    )
    Index(f"review_{_name}_provisional", _columns.case, postgresql_where=text(f"provisional{_owed}"))


CASES = """
select c.*, p."values" as contacts, p.email from review."case" c
left join review.contact p on p."case" = c."case" and p.revision = c.revision
"""
"""Cases, each with the contact data of its last filing."""


async def cases(conn: Connection, ids: Iterable[UUID], owing: Collection[str]) -> dict[UUID, Case]:
    """The cases as they are; `owing` are the notices with duties. Not locked: of two replicas that decide the same
    one, the second to write its line of history finds the version taken, and starts again."""
    rows = await conn.read(f'{CASES} where c."case" = any(:ids)', {"ids": list(set(ids))})
    return await _whole(conn, rows, owing)


async def woken(
    conn: Connection,
    now: datetime,
    notices: Iterable[str],
    owing: Collection[str],
    stuck: Iterable[UUID] = (),
    most: int = 200,
) -> dict[UUID, Case]:
    """Cases of which something has come due by `now`, but for the `stuck`, those that waited longest first; locked, so that a second replica
    leaves them alone. What it costs grows with what is due, not with what waits: both indexes are read in the order
    of time."""
    rows = await conn.execute(WOKEN, _values(now, notices, owing, stuck, most))
    return await _whole(conn, rows, owing)


async def ripe(
    conn: Connection, now: datetime, notices: Iterable[str], owing: Collection[str], stuck: Iterable[UUID]
) -> bool:
    """Whether anything has come due by `now`; locks nothing."""
    return bool(await conn.read(RIPE, _values(now, notices, owing, stuck, 1)))


def _values(
    now: datetime, notices: Iterable[str], owing: Collection[str], stuck: Iterable[UUID], most: int
) -> dict[str, Any]:
    return {
        "now": now,
        "notices": list(notices),
        "owing": list(owing),
        "stuck": list(stuck),
        "most": most,
    }


RIPE = """
  select found."case", found.wakes
  from unnest(cast(:notices as text[])) as known (notice), lateral (
    select "case", wakes from review."case" c
    where c.notice = known.notice and c.wakes <= :now and c."case" <> all(cast(:stuck as uuid[])) order by c.wakes limit :most
  ) as found
  union all
  select found."case", found.wakes
  from unnest(cast(:owing as text[])) as known (notice), lateral (
    select "case", wakes from review.duty d
    where d.notice = known.notice and d.wakes <= :now and d."case" <> all(cast(:stuck as uuid[])) order by d.wakes limit :most
  ) as found
  order by wakes limit :most
"""
WOKEN = f"""
with ripe as ({RIPE})
{CASES}
where c."case" in (select "case" from ripe)
order by c."case" for update of c skip locked
"""


async def provisional(
    conn: Connection, owing: Collection[str], after: UUID, most: int = 200
) -> dict[UUID, Case]:
    """Cases of which a date hangs on a year whose working days were not known, some at a time: those after one,
    in the order of their ids."""
    rows = await conn.read(
        f'{CASES} where c."case" in ('
        'select "case" from review."case" where provisional and "case" > :after union '
        'select "case" from review.duty where provisional and state = \'owed\' and "case" > :after '
        'order by "case" limit :most) order by c."case"',
        {"after": after, "most": most},
    )
    return await _whole(conn, rows, owing)


def as_case(row: Mapping[str, Any], owed: Sequence[Mapping[str, Any]]) -> Case:
    """A row of `CASES`, with those of its duties, as the case that it is."""
    fields = {name: row[name] for name in COLUMNS}
    fields["values"] = {**row["values"], **(row["contacts"] or {})}
    fields["filer"] = Party(**{**row["filer"], "email": row["email"]})
    fields["findings"] = tuple(Finding(**f) for f in fields["findings"])
    fields["assessments"] = tuple(Assessment(**a) for a in fields["assessments"])
    mine = (Owed(**{name: one[name] for name in Owed.__dataclass_fields__}) for one in owed)
    return Case(**fields, owed=tuple(mine))


def as_line(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the history as the line that was hashed."""
    line = {name: value for name, value in row.items() if name != "party"}
    key = str(row["key"]) if row["key"] else None
    return {**line, "case": str(row["case"]), "at": row["at"].astimezone(UTC).isoformat(), "key": key}


async def _whole(conn: Connection, rows: Sequence[Any], owing: Collection[str]) -> dict[UUID, Case]:
    ids = [row.case for row in rows if row.notice in owing]
    owed: dict[UUID, list[Any]] = {}
    if ids:
        for one in await conn.read(
            'select * from review.duty where "case" = any(:ids) order by due, duty, period', {"ids": ids}
        ):
            owed.setdefault(one.case, []).append(one)
    return {row.case: as_case(row, owed.get(row.case, ())) for row in rows}


def _row(case: Case, form: Form | None) -> dict[str, Any]:
    row = {name: getattr(case, name) for name in COLUMNS}
    row["values"] = apart(form, case.values)[0]
    row["filer"] = case.filer.model_dump(exclude_none=True, exclude={"email"})
    row["findings"] = [f.model_dump(exclude_none=True) for f in case.findings]
    row["assessments"] = [a.model_dump() for a in case.assessments]
    return row


COLUMNS = [name for name in Case.__dataclass_fields__ if name != "owed"]
FOR_EVER = ("case", "number", "notice", "filer", "filed")
"""What no step changes."""


async def write(
    conn: Connection,
    steps: Sequence[Step],
    known: Mapping[UUID, Case],
    parties: Sequence[Mapping[str, Any]],
    form_of: Forms,
) -> list[dict[str, Any]]:
    """All steps of a batch: the cases as the last step leaves them, who plays a role in them, what they owe, and every
    line of history; returns these lines."""
    last = {step.case.case: step.case for step in steps}
    new = [_row(c, form_of(c.notice, c.form)) for id_, c in last.items() if id_ not in known]
    put_later(conn, 'review."case"', new, all_new=True)
    # In one order, so that two replicas wait for each other and never both.
    moved = [_row(c, form_of(c.notice, c.form)) for id_, c in sorted(last.items()) if id_ in known]
    if moved:
        sets = ", ".join(f'"{c}" = excluded."{c}"' for c in COLUMNS if c not in FOR_EVER)
        newer = 'where "case".version < excluded.version'
        put_later(
            conn, 'review."case"', moved, f'on conflict ("case") do update set {sets} {newer}', all_new=True
        )
    sets = "roles = excluded.roles, until = excluded.until"
    put_later(conn, "review.party", parties, f'on conflict ("case", agency) do update set {sets}')
    _owe(conn, last, known)
    earlier = [replaced(step, form_of) for step in steps if step.replaces is not None]
    put_later(conn, "review.filing", earlier)
    put_later(conn, "review.contact", [row for step in steps if (row := contact(step, form_of))])
    previous = await _hashes(conn, [id_ for id_ in last if id_ in known])
    lines = []
    for step in steps:
        line = step.line(previous.get(step.case.case, ""))
        previous[step.case.case] = line["hash"]
        lines.append(line)
    put_later(conn, "review.history", lines, all_new=True)
    return lines


async def introduce(
    conn: Connection, bodies: Mapping[str, Mapping[str, Sequence[str]]], officers: Mapping[str, str]
) -> list[str]:
    """At a start: the bodies that a notice names become parties of its cases, also where it named others before, and
    the officers that the directory lists become known, by code. Returns the codes that another agency has already."""
    rows = [{"n": n, "a": a, "r": roles} for n, plays in bodies.items() for a, roles in plays.items()]
    await conn.execute(
        'insert into review.party select c."case", b.a, b.r, null '
        "from json_to_recordset(cast(:rows as json)) as b (n text, a text, r text[]) "
        'join review."case" c on c.notice = b.n left join review.party p on p."case" = c."case" and p.agency = b.a '
        "where p.agency is null or p.until is not null "
        'on conflict ("case", agency) do update set roles = excluded.roles, until = null',
        {"rows": to_json(rows).decode()},
    )
    if not officers:
        return []
    listed = [{"officer": officer, "agency": agency} for officer, agency in sorted(officers.items())]
    await put(conn, "review.officer", listed)
    known = await conn.execute(
        "select officer, agency from review.officer where officer = any(:codes)", {"codes": list(officers)}
    )
    return sorted(row.officer for row in known if row.agency != officers[row.officer])


def _owe(conn: Connection, last: Mapping[UUID, Case], known: Mapping[UUID, Case]) -> None:
    gone: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for id_, case in last.items():
        before = known[id_].owed if id_ in known else ()
        kept = {(o.duty, o.period) for o in case.owed}
        left = [o for o in before if (o.duty, o.period) not in kept]
        gone += [{"case": id_, "duty": o.duty, "period": o.period} for o in left]
        more = {"case": id_, "notice": case.notice}
        rows += [{**more, **asdict(o)} for o in case.owed if o not in before]
    if gone:
        conn.later(
            "delete from review.duty d using json_populate_recordset(null::review.duty, cast(:gone as json)) g "
            'where d."case" = g."case" and d.duty = g.duty and d.period = g.period',
            {"gone": to_json(gone).decode()},
        )
    sets = ", ".join(f"{c} = excluded.{c}" for c in ("began", "due", "provisional", "state", "wakes"))
    put_later(conn, "review.duty", rows, f'on conflict ("case", duty, period) do update set {sets}')


async def _hashes(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, str]:
    if not ids:
        return {}
    rows = await conn.read(
        'select distinct on ("case") "case", hash from review.history where "case" = any(:ids) '
        'order by "case", version desc',
        {"ids": list(ids)},
    )
    return {row.case: row.hash for row in rows}


def refuse(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    put_later(conn, "review.refusal", rows)


COUNTS = """
union all select 'cases', notice, stage, count(*), null from review."case" group by notice, stage
union all select 'provisional', 'case', '', count(*), null from review."case" where provisional
union all select 'provisional', 'duty', '', count(*), null from review.duty where provisional and state = 'owed'
union all select 'due', 'case', '', count(*), min(wakes) from review."case" where wakes <= now()
union all select 'due', 'duty', '', count(*), min(wakes) from review.duty where wakes <= now()
"""
"""For `ledger.py`. By the machine's clock: what the demo shifts is not watched."""
