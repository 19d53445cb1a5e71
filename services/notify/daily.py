"""What operators are told every day: everything that waits for a person, also that nothing does.

Which letter it makes is in `owed.py`; the ledger itself in `store.py`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from typing import Any

from shared.contracts.case import AuditHeaded
from shared.notices.calendar import ONE_DAY, SHANGHAI, Calendar
from shared.notices.directory import Directory
from shared.notices.model import Notice
from shared.runtime.database import Connection

LINES = 5
"""Of each part of the report; it says how many there are, and where to read the rest."""

OVERLAP = timedelta(minutes=10)
"""What failed just before the last report may have been committed just after it: better told twice."""

NO_ADDRESS = "no address"


@dataclass(frozen=True)
class Part:
    """One line of the report. `acts`: whether a person has to do something while it is not zero."""

    name: str
    count: int
    lines: Sequence[str] = ()
    see: str = ""
    acts: bool = True


async def parts(
    conn: Connection,
    headed: AuditHeaded | None,
    notices: Iterable[Notice],
    directory: Directory,
    calendar: Calendar,
    now: datetime,
) -> list[dict[str, Any]]:
    """The parts of the report in their order, those at zero too: silence would not be good news."""
    today = now.astimezone(SHANGHAI).date()
    failed = await _failed(conn)
    unsent = Counter({key: n for key, n in failed.items() if key[1] == NO_ADDRESS})
    failed -= unsent
    here = (await conn.read("select count(*) from notify.dead where state = 'dead'")).scalar()
    dead = {"review": headed.dead if headed else None, "notify": here}
    unknown = await _counted(conn, "state = 'unknown'", "settled_at")
    held = await _counted(conn, "state = 'held'", "owed_at")
    old = await _counted(conn, "state = 'held' and owed_at < :before", "owed_at", before=now - ONE_DAY)
    late = await overdue(conn, today)
    silent = [a for a in directory.agencies if not a.email]
    unsure = provisional(notices, calendar, today)
    found = [
        Part("发送失败的邮件", failed.total(), _by_letter(failed), "yiqi mail list --state failed"),
        Part("没有收件地址的邮件", unsent.total(), _by_letter(unsent), "yiqi mail list --state failed"),
        Part(
            "是否送达不明的邮件", sum(unknown.values()), _waiting(unknown), "yiqi mail list --state unknown"
        ),
        Part(
            "无法处理的消息",
            sum(n or 0 for n in dead.values()),
            [f"{service}：{'未知' if n is None else f'{n}条'}" for service, n in dead.items()],
            "yiqi dead list",
        ),
        Part("留存超过一天的邮件", sum(old.values()), _waiting(old), "yiqi mail held"),
        Part("留存的邮件", sum(held.values()), _waiting(held), "yiqi mail held", acts=False),
        Part("已过期限的事项", len(late), late[:LINES], "yiqi case due"),
        Part(
            "名录中没有邮箱的单位",
            len(silent),
            [f"{a.name}（{a.code}）" for a in silent[:LINES]],
            "yiqi agency list",
            acts=False,
        ),
        Part("放假安排未公布、日期暂定的年份", len(unsure), unsure[:LINES], acts=False),
    ]
    return [asdict(part) for part in found]


async def _failed(conn: Connection) -> Counter[tuple[str, str]]:
    """By letter and reason, since the last report; of the first one, all."""
    rows = await conn.read(
        "select letter, why, count(*) as n from notify.mail where state in ('failed', 'bounced') and settled_at >= "
        "coalesce((select max(owed_at) from notify.mail where letter = 'daily') - cast(:overlap as interval), "
        "'-infinity') group by letter, why",
        {"overlap": OVERLAP},
    )
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        found[row.letter, reason(row.why)] += row.n
    return found


def reason(why: str | None) -> str:
    """The kind of a failure alone: what a server says quotes the address."""
    if why == NO_ADDRESS:
        return why
    found = re.match(r"(\d{3})(?:[ -]([245]\.\d{1,3}\.\d{1,3}))?(?=[ -]|$)|([A-Z][A-Za-z]{2,39})$", why or "")
    return " ".join(part for part in found.groups() if part) if found else "其他"


async def _counted(conn: Connection, where: str, moment: str, **values: Any) -> dict[tuple[str, str], int]:
    """How many mails of each letter and notice, the longest waiting first."""
    rows = await conn.read(
        f"select letter, notice, count(*) as n from notify.mail where {where} "
        f"group by letter, notice order by min({moment}), letter, notice",
        values,
    )
    return {(row.letter, row.notice): row.n for row in rows}


async def overdue(conn: Connection, today: date) -> list[str]:
    """The numbers of the cases that wait for something whose day has passed, as far as notify has been told."""
    rows = await conn.read(
        "select change ->> 'number' as number, due from notify.waiting where due < :today order by due, number",
        {"today": today},
    )
    return [f"{row.number}，{row.due}" for row in rows]


def provisional(notices: Iterable[Notice], calendar: Calendar, today: date) -> list[str]:
    """Years still to come, or running, that a date of a notice in force lies in, or that we send mails in."""
    dates = [
        (notice.id, day)
        for notice in notices
        if notice.status == "in_force"
        for deadline in notice.deadlines
        for day in (deadline.on, deadline.until)
        if day and day.year >= today.year
    ]
    years = {day.year for _, day in dates} | {today.year}
    return [
        f"{year}年：" + ("、".join(sorted({id_ for id_, day in dates if day.year == year})) or "发送时间")
        for year in sorted(years)
        if calendar.provisional(date(year, 1, 1))
    ]


def _by_letter(found: Mapping[tuple[str, str], int]) -> list[str]:
    most = sorted(found.items(), key=lambda one: (-one[1], one[0]))[:LINES]
    return [f"{letter}：{'没有地址' if why == NO_ADDRESS else why}，{n}封" for (letter, why), n in most]


def _waiting(found: Mapping[tuple[str, str], int]) -> list[str]:
    return [
        f"{letter}{f'（{notice}）' if notice else ''}：{n}封"
        for (letter, notice), n in [*found.items()][:LINES]
    ]
