"""The dates ahead: printed deadlines of the notices, duties owed, terms of stages and validities, the overdue ones first.

Pure. Which cases they are is not here: `yiqi case due` lists them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Literal, NamedTuple

from services.cli.report import figure
from services.cli.report.figure import STEP, WIDTH, Figure
from shared.notices.directory import Directory
from shared.notices.model import Notice
from shared.notices.values import chinese_date

Kind = Literal["通知日期", "应报事项", "办理期限", "有效期"]
SHAPES: Mapping[str, str] = {
    "通知日期": "diamond",
    "应报事项": "square",
    "办理期限": "circle",
    "有效期": "triangle-up",
}
MOST = 24
"""Dates in the picture; the table has all."""
SOON = timedelta(days=400)
"""How far the picture looks: a year and a month, so that a yearly date always is in it."""


class Waiting(NamedTuple):
    """So many cases wait for the same thing until the same day: a stage's end, or a duty for a period."""

    notice: str
    what: str
    period: str
    of: Literal["stage", "duty"]
    due: date
    provisional: bool
    cases: int


class Day(NamedTuple):
    """A date and what it is; `cases` is 0 where it is a date of the notice itself."""

    due: date
    kind: Kind
    name: str
    notice: str
    provisional: bool
    cases: int


def days(
    notices: Iterable[Notice], directory: Directory, waiting: Iterable[Waiting], on: date, until: date | None
) -> list[Day]:
    """All dates up to that day; of a notice those from today on, of cases also those that are over."""
    known = {n.id: n for n in notices}
    found: list[Day] = []
    for notice in known.values():
        for deadline in notice.deadlines if notice.status == "in_force" else ():
            place = directory.find(deadline.district) if deadline.district else None
            name = f"{deadline.name}（{place.short}）" if place else deadline.name
            last = deadline.until or deadline.on
            if last >= on:
                found.append(Day(last, "通知日期", name, notice.clause_name, False, 0))
    for one in waiting:
        there = known.get(one.notice)
        found.append(
            Day(
                one.due,
                _kind(there, one),
                _name(there, one),
                there.clause_name if there else one.notice,
                one.provisional,
                one.cases,
            )
        )
    return sorted(one for one in found if until is None or one.due <= until)


def _kind(notice: Notice | None, one: Waiting) -> Kind:
    if one.of == "duty":
        return "应报事项"
    stage = notice.procedure.by_id.get(one.what) if notice else None
    return "有效期" if stage is not None and stage.within and stage.within.validity else "办理期限"


def _name(notice: Notice | None, one: Waiting) -> str:
    if notice is None:
        return one.what
    if one.of == "duty":
        duty = notice.by_duty.get(one.what)
        return (duty.name if duty else one.what) + (f"（{one.period}）" if one.period else "")
    stage = notice.procedure.by_id.get(one.what)
    return stage.name if stage else one.what


def left(day: date, on: date) -> str:
    """How long it still is, or has been."""
    n = (day - on).days
    return f"还有{n}天" if n > 0 else f"已过{-n}天" if n else "今天"


def ahead(
    notices: Iterable[Notice],
    directory: Directory,
    waiting: Iterable[Waiting],
    on: date,
    until: date | None = None,
) -> Figure:
    found = days(notices, directory, waiting, on, until)
    shown = [one for one in found if until or one.due <= on + SOON][:MOST]
    over = sum(one.due < on for one in found)
    notes = [
        f"图中为{'' if until else '今后约一年内的'}前{len(shown)}个日期，其余{len(found) - len(shown)}个见表。"
        if len(shown) < len(found)
        else "",
        "短竖线是今天。" if shown else "",
        "空心、注明“暂定”的日期，所在年份的放假安排尚未公布，公布后重新计算。"
        if any(one.provisional for one in found)
        else "",
        f"已过期限的{over}个。" if over else "",
    ]
    subtitle = (f"截至{chinese_date(on)}，共{len(found)}个日期",)
    return Figure(
        name="ahead",
        title="今后的期限",
        subtitle=subtitle,
        said="；".join(
            f"{one.due}{one.name}，{one.kind}，{_cases(one)}{left(one.due, on)}" + _tentative(one)
            for one in found
        )
        + ("。" if found else "没有期限。"),
        columns=("日期", "事项", "类别", "通知", "项目", "还有", "备注"),
        rows=tuple(
            (
                one.due.isoformat(),
                one.name,
                one.kind,
                one.notice,
                one.cases or "",
                left(one.due, on),
                "暂定" if one.provisional else "",
            )
            for one in found
        ),
        notes=tuple(note for note in notes if note),
        spec=figure.spec("今后的期限", subtitle, [_part(shown, on)]),
    )


def _cases(one: Day) -> str:
    return f"{one.cases}项，" if one.cases else ""


def _tentative(one: Day) -> str:
    return "，暂定" if one.provisional else ""


def _part(shown: Sequence[Day], on: date) -> figure.Spec:
    """A line from today to each date, with its mark at the end: full, or hollow where it is provisional."""
    values = [
        {
            "says": f"{one.due.isoformat()}　{one.name}",
            "more": "　".join(
                part
                for part in (
                    f"{one.cases}项" if one.cases else "",
                    left(one.due, on),
                    "暂定" if one.provisional else "",
                )
                if part
            ),
            "days": (one.due - on).days,
            "share": one.kind,
            "today": 0,
            "hollow": one.provisional,
        }
        for one in shown
    ]
    ends = [0, *((one.due - on).days for one in shown)]
    first, last = min(ends), max(30, *ends)
    x = {
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [first, last], "range": [8, WIDTH - 8], "nice": False},
    }
    return {
        "width": WIDTH,
        "height": max(len(values), 1) * STEP,
        "data": figure.lines(values),
        "layer": [
            {
                "mark": {"type": "tick", "yOffset": 10, "size": 14, "thickness": 2, "color": figure.INK},
                "encoding": {"y": figure.row(), "x": {"field": "today", **x}},
            },
            {
                "mark": {"type": "rule", "yOffset": 10, "color": "#8C8C8C"},
                "encoding": {
                    "y": figure.row(),
                    "x": {"field": "days", **x},
                    "x2": {"datum": 0},
                },
            },
            {
                "mark": {
                    "type": "point",
                    "yOffset": 10,
                    "size": 140,
                    "filled": True,
                    "color": figure.DARK,
                    "opacity": 1,
                },
                "encoding": {
                    "y": figure.row(),
                    "x": {"field": "days", **x},
                    "shape": {
                        "field": "share",
                        "type": "nominal",
                        "scale": {"domain": list(SHAPES), "range": list(SHAPES.values())},
                        "legend": {
                            "orient": "bottom",
                            "direction": "horizontal",
                            "columns": 4,
                            "title": None,
                        },
                    },
                },
            },
            {
                "transform": [{"filter": "datum.hollow"}],
                "mark": {
                    "type": "point",
                    "yOffset": 10,
                    "size": 50,
                    "filled": True,
                    "color": "white",
                    "opacity": 1,
                },
                "encoding": {
                    "y": figure.row(),
                    "x": {"field": "days", **x},
                    "shape": {"field": "share", "type": "nominal"},
                },
            },
            figure.words(),
            figure.words("more", right=True),
        ],
    }
