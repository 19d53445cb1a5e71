"""The funnel of a round: how many items were filed and accepted, how far they came, where they were returned or ended.

Pure. Reading the ways that cases went is in `counts.py`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple

from services.cli.report import figure
from services.cli.report.figure import DARK, LIGHT, MIDDLE, STEP, WIDTH, Figure
from shared.notices.model import Notice
from shared.notices.values import chinese_date


class Way(NamedTuple):
    """The stages that so many cases have stood in, one after the other; the last is where they stand now."""

    stages: tuple[str, ...]
    cases: int


class Filed(NamedTuple):
    """Rows of packages, what of them was refused, and items accepted in another way (events, given by the notice)."""

    rows: int
    refused: int
    others: int


@dataclass(frozen=True)
class Part:
    """One step of the funnel. Of the cases that `came` as far, those that went further are the next step's; `here`
    are still under way, `stopped` have ended. `returned` are times, not cases."""

    name: str
    came: int
    here: int = 0
    returned: int = 0
    stopped: int = 0

    @property
    def on(self) -> int:
        return self.came - self.here - self.stopped


def tracks(notice: Notice) -> list[tuple[str, ...]]:
    """The stages on the longest way from each start to the list, without returns and refusals; a way that is the end
    of another one is none by itself."""
    procedure = notice.procedure
    found: list[tuple[str, ...]] = []
    for start in dict.fromkeys(s.stage for s in procedure.start):
        best: tuple[str, ...] = ()
        ahead: list[tuple[str, ...]] = [(start,)]
        while ahead:
            way = ahead.pop()
            stage = procedure.by_id[way[-1]]
            if stage.returned or stage.ends == "closed":
                continue
            if stage.shown:
                best = max(best, way, key=len)
                continue
            ahead += [(*way, o.to) for o in stage.outcomes.values() if o.to not in way]
        if best:
            found.append(best)
    return [w for w in found if not any(o != w and o[-len(w) :] == w for o in found)]


def parts(notice: Notice, ways: Iterable[Way]) -> list[list[Part]]:
    """The steps of every track that has cases; a notice without any has its first, at zero.

    A case belongs to the longest track through the stage that it began in. It counts as far as it ever came: what
    returned from there is under way there.
    """
    by_id = notice.procedure.by_id
    known = sorted(tracks(notice), key=len, reverse=True)
    counted: dict[tuple[str, ...], list[Part]] = {}
    for way, cases in ways:
        track = next((t for t in known if way[0] in t), None)
        if track is None:
            continue
        steps = counted.setdefault(track, [Part(_name(notice, track, i), 0) for i in range(len(track))])
        reached = [_far(notice, track, stage) for stage in way]
        far = max(reached)
        for i in range(far + 1):
            steps[i] = replace(steps[i], came=steps[i].came + cases)
        now = by_id.get(way[-1])
        if now is not None and now.ends == "closed":
            steps[far] = replace(steps[far], stopped=steps[far].stopped + cases)
        elif far < len(track) - 1 or (now is not None and not now.shown):
            steps[far] = replace(steps[far], here=steps[far].here + cases)
        back = Counter(
            max(reached[: n + 1])
            for n, stage in enumerate(way)
            if n and stage in by_id and by_id[stage].returned
        )
        for i, times in back.items():
            steps[i] = replace(steps[i], returned=steps[i].returned + times * cases)
    order = tracks(notice)
    if not counted and order:
        counted[order[0]] = [Part(_name(notice, order[0], i), 0) for i in range(len(order[0]))]
    return [counted[t] for t in order if t in counted]


def _far(notice: Notice, track: Sequence[str], stage: str) -> int:
    """The step of a stage; 0 for one beside the track, but the last for all that the list shows."""
    if stage in track:
        return track.index(stage)
    there = notice.procedure.by_id.get(stage)
    return len(track) - 1 if there is not None and there.shown else 0


def _name(notice: Notice, track: Sequence[str], step: int) -> str:
    stage = notice.procedure.by_id[track[step]]
    if stage.shown:
        return stage.name if stage.ends else f"列入名单（{stage.name}）"
    return f"进入{stage.name}" if step else f"受理（{stage.name}起）"


def funnel(notice: Notice, filed: Filed, ways: Iterable[Way], on: date) -> Figure:
    """The figure of a round as it stands on a day."""
    ways = list(ways)
    accepted = sum(w.cases for w in ways)
    by_track = parts(notice, ways)
    steps = [Part("报送", accepted + filed.refused, stopped=filed.refused)]
    if len(by_track) == 1 and len(by_track[0]) > 1 and by_track[0][0].came == accepted:
        steps += [replace(by_track[0][0], name="受理"), *by_track[0][1:]]
    else:
        steps += [Part("受理", accepted), *(part for track in by_track for part in track)]
    again = max(filed.rows - filed.refused + filed.others - accepted, 0)
    notes = (
        "每一步是到过这一步或更远的项目，补正中的计入在办；退回按次数计。",
        "终止是未通过、未入选、撤回、撤销等，按终止前到过的最后一步计；报送一行的终止是未受理。",
        "报送中未受理的按行计，改正后重新报送的另计；以事件报送而未受理的不留存，不在其内。",
        *([f"另有补正、修改或重复报送{again}次，不重复计数。"] if again else []),
    )
    subtitle = (*figure.folded(notice.title), f"截至{chinese_date(on)}")
    return Figure(
        name="round",
        title="办理进度",
        subtitle=subtitle,
        said="；".join(
            f"{p.name}{p.came}" + (f"（{said}）" if (said := _details(p, "，")) else "") for p in steps
        )
        + "。",
        columns=("步骤", "到过", "在办", "退回", "终止"),
        rows=tuple((p.name, p.came, p.here, p.returned, p.stopped) for p in steps),
        notes=notes,
        spec=figure.spec("办理进度", subtitle, [_part(steps)]),
    )


def _details(part: Part, between: str) -> str:
    ended = "未受理" if part.name == "报送" else "终止"
    said = (
        f"在办{part.here}" if part.here else "",
        f"退回{part.returned}次" if part.returned else "",
        f"{ended}{part.stopped}" if part.stopped else "",
    )
    return between.join(one for one in said if one)


SHARES: Mapping[str, str] = {"进入下一步或已列入": DARK, "在办": MIDDLE, "未受理或终止": LIGHT}


def _part(steps: Sequence[Part]) -> figure.Spec:
    shares = [
        {"n": n, "share": share, "order": order, "count": count}
        for n, p in enumerate(steps)
        for order, (share, count) in enumerate(zip(SHARES, (p.on, p.here, p.stopped), strict=True))
        if count
    ]
    bars: figure.Spec = {
        "data": {"values": shares},
        "mark": {"type": "bar", "height": 16, "yOffset": 10, "stroke": figure.INK, "strokeWidth": 0.5},
        "encoding": {
            "y": figure.row(),
            "x": {
                "field": "count",
                "type": "quantitative",
                "axis": None,
                "stack": "zero",
                "scale": {"domain": [0, max(*(p.came for p in steps), 1)]},
            },
            "order": {"field": "order", "type": "quantitative"},
            "color": figure.colours(SHARES),
        },
    }
    return {
        "width": WIDTH,
        "height": len(steps) * STEP,
        "data": figure.lines([{"says": f"{p.name}　{p.came}", "more": _details(p, "　")} for p in steps]),
        "layer": [bars, figure.words(), figure.words("more", right=True)],
    }
