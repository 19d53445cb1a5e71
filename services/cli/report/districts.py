"""How a round stands in the districts: how many items each district has, and what the notice wants reached beside what there is.

Pure. A target is a number to keep in mind and bounds nothing; that is how it is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from services.cli.report import figure
from services.cli.report.figure import DARK, MIDDLE, STEP, WIDTH, Figure
from shared.notices.directory import Agency, Directory
from shared.notices.model import Notice, Target
from shared.notices.values import chinese_date


class Standing(NamedTuple):
    """So many cases of a district stand in a stage."""

    district: str
    stage: str
    cases: int


@dataclass(frozen=True)
class Place:
    """A district and its cases: all that were accepted, and those that count for the targets or are published."""

    name: str
    accepted: int
    counted: int


def districts(notice: Notice, directory: Directory) -> tuple[Agency, ...]:
    """Of the issuer's city, by the first four digits of its code; all that are known where that tells nothing."""
    known = tuple(a for a in directory.of_kind("K2") if a.district)
    mine = tuple(a for a in known if (a.district or "")[:4] == notice.issuer[:4])
    return mine or known


def places(notice: Notice, directory: Directory, standing: Sequence[Standing]) -> list[Place]:
    """The districts as they are printed, those without any case too, and last what belongs to none of them."""
    wanted = counted(notice)

    def place(name: str, codes: set[str]) -> Place:
        mine = [s for s in standing if s.district in codes]
        return Place(name, sum(s.cases for s in mine), sum(s.cases for s in mine if s.stage in wanted))

    known = districts(notice, directory)
    found = [place(a.short, {a.district or ""}) for a in known]
    rest = {s.district for s in standing} - {a.district for a in known}
    return [*found, *([place("市级或其他", rest)] if rest else [])]


def counted(notice: Notice) -> set[str]:
    """The stages that the targets count; where there are none, those that the list shows."""
    named = {stage for target in notice.targets for stage in target.stages}
    return named or {s.id for s in notice.procedure.stages if s.shown}


def now(target: Target, standing: Sequence[Standing]) -> int:
    """What there is of what a target counts."""
    there = [s for s in standing if s.stage in target.stages and s.cases]
    if target.of == "districts":
        return len({s.district for s in there})
    return sum(s.cases for s in there)


def wanted(target: Target) -> str:
    """The number as the source has it: `25个左右`."""
    return f"{target.number}{target.unit}{'左右' if target.about else ''}"


def by_district(notice: Notice, directory: Directory, standing: Sequence[Standing], on: date) -> Figure:
    found = places(notice, directory, standing)
    reached = [(target, now(target, standing)) for target in notice.targets]
    label = "计入目标" if notice.targets else "已列入或已发布"
    empty = [p.name for p in found if not p.accepted]
    said = [f"{t.name}现有{n}，目标{wanted(t)}（{t.clause}）" for t, n in reached]
    said += [f"{p.name}受理{p.accepted}，{label}{p.counted}" for p in found]
    said += [f"没有项目的区：{'、'.join(empty)}"] if empty else []
    notes = (
        *(["目标数是文件希望达到的数，只供掌握，不作限制。"] if reached else ["本通知没有写明目标数。"]),
        *([f"没有项目的区：{'、'.join(empty)}。"] if empty else []),
    )
    subtitle = (*figure.folded(notice.title), f"截至{chinese_date(on)}")
    parts = [_targets(reached)] if reached else []
    return Figure(
        name="districts",
        title="各区覆盖",
        subtitle=subtitle,
        said="；".join(said) + "。",
        columns=("区或目标", "受理", label, "目标数", "依据") if reached else ("区", "受理", label),
        rows=(
            *((t.name, "", n, wanted(t), f"{t.rule}，{t.clause}") for t, n in reached),
            *((p.name, p.accepted, p.counted, *(("", "") if reached else ())) for p in found),
        ),
        notes=notes,
        spec=figure.spec("各区覆盖", subtitle, [*parts, _districts(found, label)]),
    )


def _targets(reached: Sequence[tuple[Target, int]]) -> figure.Spec:
    """A bar for what there is, in a frame as long as the target, each of its own length."""
    values = [
        {
            "says": f"{t.name}　{n}",
            "more": f"目标{wanted(t)}（{t.clause}）",
            "now": n / max(n, t.number),
            "aim": t.number / max(n, t.number),
        }
        for t, n in reached
    ]
    bar = {"type": "bar", "height": 16, "yOffset": 10}
    share = {"type": "quantitative", "axis": None, "scale": {"domain": [0, 1]}}
    return {
        "width": WIDTH,
        "height": len(values) * STEP,
        "data": figure.lines(values),
        "layer": [
            {
                "mark": {**bar, "color": figure.FAINT},
                "encoding": {"y": figure.row(), "x": {"field": "aim", **share}},
            },
            {"mark": {**bar, "color": DARK}, "encoding": {"y": figure.row(), "x": {"field": "now", **share}}},
            {
                "mark": {"type": "tick", "size": 26, "thickness": 3, "yOffset": 10, "color": figure.INK},
                "encoding": {"y": figure.row(), "x": {"field": "aim", **share}},
            },
            figure.words(),
            figure.words("more", right=True),
        ],
    }


LABELS = 96
"""Pixels for the names of the districts before their bars, and for the numbers after the longest."""
NUMBERS = 110
BAR = 28


def _districts(found: Sequence[Place], label: str) -> figure.Spec:
    """One bar a district: what was accepted, and of that what counts; a district without any says so."""
    names: Mapping[str, str] = {label: DARK, "受理，其他": MIDDLE}
    values = [
        {"n": n, "share": share, "order": order, "count": count}
        for n, p in enumerate(found)
        for order, (share, count) in enumerate(zip(names, (p.counted, p.accepted - p.counted), strict=True))
        if count
    ]
    most = max([p.accepted for p in found] + [1])
    # The numbers stand behind the longest bar, too.
    x = {
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [0, most], "range": [LABELS, WIDTH - NUMBERS]},
    }
    text = {"type": "text", "baseline": "middle"}
    rows = [
        {
            "says": p.name,
            "all": p.accepted,
            "more": f"{p.counted}（受理{p.accepted}）" if p.accepted else "没有项目",
        }
        for p in found
    ]
    return {
        "width": WIDTH,
        "height": max(len(found), 1) * BAR,
        "data": figure.lines(rows),
        "layer": [
            {
                "data": {"values": values},
                "mark": {"type": "bar", "height": 16, "stroke": figure.INK, "strokeWidth": 0.5},
                "encoding": {
                    "y": figure.row(),
                    "x": {"field": "count", "stack": "zero", **x},
                    "order": {"field": "order", "type": "quantitative"},
                    "color": figure.colours(names),
                },
            },
            {
                "mark": {**text, "align": "left"},
                "encoding": {
                    "y": figure.row(),
                    "x": {"value": 0},
                    "text": {"field": "says", "type": "nominal"},
                },
            },
            {
                "mark": {**text, "align": "left", "xOffset": 6},
                "encoding": {
                    "y": figure.row(),
                    "x": {"field": "all", **x},
                    "text": {"field": "more", "type": "nominal"},
                },
            },
        ],
    }
