"""Pure: the experts' score sheets of a case, who may not score it, and what they come to.

Organising a panel is the work of whoever the procedure names; the score sheet is data of the notice.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

from services.review.case import Case, Step
from services.review.parties import no_party, stranger
from shared.contracts.case import Expert, ScoreGiven
from shared.contracts.problem import Problem, problem
from shared.contracts.types import Finding
from shared.notices.model import Notice
from shared.notices.stages import Panel
from shared.notices.values import printed, same

HUNDREDTH = Decimal("0.01")


def score(notice: Notice, case: Case, given: ScoreGiven, actor: str, at: datetime) -> Step | Problem:
    """One expert's sheet in the case, in the place of an earlier one of the same expert; whoever acts in the stage
    hands it in."""
    if wrong := no_party(notice, case, actor):
        return wrong
    stage = notice.procedure.by_id[case.stage]
    panel = stage.panel
    if panel is None:
        return problem("procedure", "本阶段不能这样办理", f"“{stage.name}”阶段没有专家评审", status=409)
    if wrong := stranger(notice, case, stage.actor, actor, "评分"):
        return wrong
    found = [*_conflicts(notice, case, panel, given.expert), *_points(panel, given.points)]
    if found:
        return problem("score", "评分不能采用", "；".join(f.detail for f in found), found)
    points = {key: str(value) for key, value in given.points.items()}
    scored = replace(case, version=case.version + 1, scores={**case.scores, given.expert.code: points})
    data = {"expert": given.expert.code, "points": points}
    return Step(scored, "advanced", actor, "score", at, officer=given.officer, data=data)


def result(panel: Panel, scores: Mapping[str, Mapping[str, str]]) -> Decimal | None:
    """What the panel came to, to the hundredth; nothing while too few have scored."""
    if len(scores) < panel.experts:
        return None
    sums = sorted(_sum(panel, points) for points in scores.values())
    if panel.method == "trimmed_mean":
        sums = sums[1:-1]
    return (sum(sums, Decimal()) / len(sums)).quantize(HUNDREDTH, ROUND_HALF_UP)


def _sum(panel: Panel, points: Mapping[str, str]) -> Decimal:
    return sum((Decimal(points[c.key]) * Decimal(str(c.weight)) for c in panel.criteria), start=Decimal())


def _conflicts(notice: Notice, case: Case, panel: Panel, expert: Expert) -> list[Finding]:
    own = {same(case.filer.name), *(same(printed(case.values.get(key))) for key in panel.employers)} - {""}
    met = {
        "employer": same(expert.employer) in own,
        "district": expert.district is not None and expert.district == case.district != notice.issuer,
        "declared": expert.conflict,
    }
    why = {
        "employer": "专家与申报单位或运营单位同一单位，应当回避",
        "district": "专家来自项目所在区，应当回避",
        "declared": "专家已声明有利害关系，应当回避",
    }
    return [
        _fault(panel, f"conflict.{kind}", why[kind], "#/data/expert") for kind in panel.avoid if met[kind]
    ]


def _points(panel: Panel, points: Mapping[str, Decimal]) -> list[Finding]:
    found = []
    known = {c.key: c for c in panel.criteria}
    listed = "、".join(f"{c.key}（{c.name}）" for c in panel.criteria)
    if points.keys() != known.keys():
        found.append(_fault(panel, "score.criteria", f"须逐项评分：{listed}", "#/data/points"))
    for key, value in points.items():
        if key in known and not 0 <= value <= Decimal(str(known[key].most)):
            detail = f"“{known[key].name}”应为0至{known[key].most:g}分"
            found.append(_fault(panel, "score.range", detail, f"#/data/points/{key}"))
    return found


def _fault(panel: Panel, code: str, detail: str, pointer: str) -> Finding:
    return Finding(rule=code, code=code, severity="hard", clause=panel.clause, detail=detail, pointer=pointer)
