"""What cases wait for: written down when it is told, looked at when the next reminder is due, and again at every start.

When that is, is in `reminders.py`; what the letters say is in `owed.py`. Dates that a notice prints are not here: the
handlers go through them every second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from pydantic_core import to_json

from services.notify import cases, owed, reminders
from services.notify.owed import Owed
from shared.contracts.case import Awaited, CaseChanged
from shared.notices.calendar import Calendar
from shared.notices.directory import Directory
from shared.notices.load import CompiledNotice
from shared.notices.model import Notice
from shared.runtime.database import Connection, Database, put_later

MOST = 200
"""Cases of one transaction."""
PAGE = 200
"""Of the look at a start: all that the loop does meanwhile waits for one of them."""
NOTED = ", ".join(f"'{outcome}'" for outcome in sorted(cases.TOLD))

WRITE = f"""
on conflict ("case") do update set version = excluded.version, notice = excluded.notice, stage = excluded.stage,
  due = excluded.due, awaits = excluded.awaits, next_at = excluded.next_at, change = case
    when excluded.change ->> 'outcome' in ({NOTED}) and waiting.change ->> 'stage' = excluded.stage
    then waiting.change else excluded.change end
where waiting.version < excluded.version
"""
"""What is only noted of a case leaves the step in place that brought it where it is: that says what to correct."""

DUE = """
select * from notify.waiting where next_at <= :now order by next_at limit :most for update skip locked
"""
LOOKED = """
update notify.waiting w set next_at = r.next_at, awaits = r.awaits
from json_populate_recordset(null::notify.waiting, cast(:rows as json)) r
where w."case" = r."case" and w.version = r.version
"""
AGAIN = """
select "case", version, notice, stage, awaits, next_at from notify.waiting
where "case" > :after and awaits is not null order by "case" limit :most
"""


def newest(changes: Sequence[tuple[CaseChanged, date]]) -> dict[UUID, tuple[CaseChanged, CaseChanged, date]]:
    """By case: its newest version, the newest that is more than a note of the stage in which that stands (or the
    newest itself), and the day of that event."""
    found: dict[UUID, tuple[CaseChanged, CaseChanged, date]] = {}
    for change, day in sorted(changes, key=lambda one: one[0].version):
        basis = change
        if change.outcome in cases.TOLD and (before := found.get(change.case)):
            basis = before[1] if before[1].stage == change.stage else change
        found[change.case] = change, basis, day
    return found


def remember(
    conn: Connection,
    notices: Mapping[str, CompiledNotice],
    changes: Sequence[tuple[CaseChanged, date]],
    calendar: Calendar,
    now: datetime,
) -> None:
    """Write down what cases wait for, in one order, so that two replicas wait for each other and never both."""
    rows = []
    for _, (change, basis, day) in sorted(newest(changes).items()):
        awaits = [one.model_dump(mode="json") for one in _awaited(change, day)]
        found = [*reminders.occasions(notices[change.notice].notice, change.stage, awaits)]
        rows.append(
            {
                "case": change.case,
                "version": change.version,
                "notice": change.notice,
                "stage": change.stage,
                "due": min((one.awaited.due for one in found), default=None),
                "awaits": awaits or None,
                # Without the row that a published case carries.
                "change": basis.model_dump(mode="json", include={*CaseChanged.model_fields} - {"awaits"})
                if awaits
                else None,
                "next_at": reminders.next_at(found, calendar, now),
            }
        )
    put_later(conn, "notify.waiting", rows, WRITE)


def _awaited(change: CaseChanged, day: date) -> tuple[Awaited, ...]:
    """A review of an earlier release told only of the stage's own date."""
    if change.awaits or change.due is None or change.outcome == "missed":
        return change.awaits
    return (Awaited(began=day, due=change.due, provisional=change.provisional),)


async def recall(
    conn: Connection,
    notices: Mapping[str, CompiledNotice],
    directory: Directory,
    calendar: Calendar,
    now: datetime,
) -> tuple[int, list[Owed]]:
    """The letters of the cases whose time has come, at most so many at once, and how many cases those were. What it
    costs grows with what is due, not with what waits."""
    rows = (await conn.execute(DUE, {"now": now, "most": MOST})).all()
    letters: list[Owed] = []
    looked = []
    for row in rows:
        found = _occasions(notices, row)
        for i, one in enumerate(found):
            if rung := reminders.come(one, calendar, now):
                change = CaseChanged.model_validate(row.change)
                notice = notices[row.notice].notice
                letters += owed.letters_of_occasion(notice, change, one, rung, directory, calendar)
                found[i] = replace(one, told=rung.key)
        looked.append(_looked(row, found, calendar, now))
    _write(conn, looked)
    return len(rows), letters


async def look_again(
    engine: Database, notices: Mapping[str, CompiledNotice], calendar: Calendar, now: datetime
) -> None:
    """At a start: the calendar of a year may have come, a notice may be another. What had been told of stays told."""
    after = UUID(int=0)
    while True:
        async with engine.begin() as conn:
            rows = (await conn.read(AGAIN, {"after": after, "most": PAGE})).all()
            counted = [(row, _looked(row, _occasions(notices, row), calendar, now)) for row in rows]
            _write(conn, [one for row, one in counted if one["next_at"] != row.next_at])
        if len(rows) < PAGE:
            return
        after = rows[-1].case


def _occasions(notices: Mapping[str, CompiledNotice], row: Any) -> list[reminders.Occasion]:
    notice: Notice | None = notices[row.notice].notice if row.notice in notices else None
    return [*reminders.occasions(notice, row.stage, row.awaits or ())] if notice else []


def _looked(
    row: Any, found: Sequence[reminders.Occasion], calendar: Calendar, now: datetime
) -> dict[str, Any]:
    told = {(one.awaited.duty, one.awaited.period): one.told for one in found}
    # What the notice does not name, or a notice that is not loaded here, is not forgotten.
    awaits = [{**one, "told": told.get((one.get("duty"), one.get("period", "")))} for one in row.awaits or ()]
    return {
        "case": row.case,
        "version": row.version,
        "awaits": awaits,
        "next_at": reminders.next_at(found, calendar, now),
    }


def _write(conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        conn.later(LOOKED, {"rows": to_json(list(rows)).decode()})
