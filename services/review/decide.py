"""Pure: what a filing or a decision does to a case, by the procedure of its notice.

Storing cases is not here, nor is telling anybody.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from shared.contracts.case import DecisionMade, Fix
from shared.contracts.problem import Problem, problem
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Finding, ItemKind, Party, Values
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.model import Notice, Stage
from shared.notices.procedure import NotAllowed, start, step

Said = Literal["opened", "advanced", "returned", "closed", "published"]


@dataclass(frozen=True)
class Case:
    """A case as it stands. `version` grows with every step; events carry it, so order does not matter."""

    case: UUID
    number: str
    notice: str
    form: str
    stage: str
    version: int
    revision: int
    filer: Party
    recommender: str | None
    unit: str
    district: str
    direction: str | None
    item_kind: ItemKind
    title: str
    values: Values
    findings: tuple[Finding, ...]
    late: bool
    package: str | None
    filed: datetime
    due: date | None = None
    provisional: bool = False


@dataclass(frozen=True)
class Step:
    """One line of a case's history, and the case after it."""

    case: Case
    says: Said
    actor: str
    outcome: str
    at: datetime
    reason: str = ""
    rules: tuple[str, ...] = ()
    acknowledges: tuple[str, ...] = ()
    fixes: tuple[Fix, ...] = ()
    officer: str | None = None
    cause: str = field(default="", compare=False)
    counts: tuple[str, ...] = ()

    def line(self, previous: str) -> dict[str, Any]:
        """The history row; its hash covers everything that it says and the hash before it."""
        row = {
            "case": str(self.case.case),
            "version": self.case.version,
            "at": self.at.isoformat(),
            "actor": self.actor,
            "officer": self.officer,
            "stage": self.case.stage,
            "outcome": self.outcome,
            "reason": self.reason,
            "rules": list(self.rules),
            "acknowledges": list(self.acknowledges),
            "fixes": [f.model_dump() for f in self.fixes],
            "cause": self.cause,
        }
        text = json.dumps([previous, row], sort_keys=True, ensure_ascii=False)
        return {**row, "hash": hashlib.sha256(text.encode()).hexdigest()}


def open_case(notice: Notice, filed: SubmissionAccepted, at: datetime, calendar: Calendar) -> Step:
    """A new case, where the procedure begins for it."""
    stage = start(notice.procedure, filed.recommender is not None)
    case = Case(
        case=filed.case,
        number=filed.number,
        notice=filed.notice,
        form=filed.form,
        stage=stage.id,
        version=1,
        revision=filed.revision,
        filer=filed.filer,
        recommender=filed.recommender,
        unit=filed.unit,
        district=filed.district,
        direction=filed.direction,
        item_kind=filed.item_kind,
        title=filed.title,
        values=filed.values,
        findings=filed.findings,
        late=filed.late,
        package=filed.package,
        filed=filed.received,
    )
    return Step(
        _timed(case, stage, at, calendar), "opened", filed.filer.code, "file", at, counts=filed.counts
    )


def file_again(
    notice: Notice, case: Case, filed: SubmissionAccepted, at: datetime, calendar: Calendar
) -> Step | None:
    """A later filing of the same item: a returned case goes back to whoever returned it, with the same
    number; an open one takes the later content (R-COL-040). None when the case has ended, or knows it."""
    stage = notice.procedure.by_id[case.stage]
    if filed.revision <= case.revision or stage.ends:
        return None
    again = next(((key, o) for key, o in stage.outcomes.items() if o.by_filing), None)
    outcome, after = (again[0], notice.procedure.by_id[again[1].to]) if again else ("amend", stage)
    moved = replace(
        case,
        stage=after.id,
        version=case.version + 1,
        revision=filed.revision,
        title=filed.title,
        values=filed.values,
        findings=filed.findings,
        direction=filed.direction,
        item_kind=filed.item_kind,
        late=case.late or filed.late,
        package=filed.package or case.package,
    )
    return Step(_timed(moved, after, at, calendar), "advanced", filed.filer.code, outcome, at)


def decide(
    notice: Notice, case: Case, decision: DecisionMade, actor: str, at: datetime, calendar: Calendar
) -> Step | Problem:
    """The step that a decision of `actor` (the proven publisher) makes, or why it may not be made."""
    stage = notice.procedure.by_id[case.stage]
    if decision.version is not None and decision.version != case.version:
        return problem(
            "version",
            "项目已有变化",
            f"您看到的是第{decision.version}版，现为第{case.version}版，请重新核对",
            status=409,
        )
    try:
        outcome = step(notice.procedure, case.stage, decision.outcome)
    except NotAllowed as refused:
        return problem("procedure", "本阶段不能这样办理", str(refused), status=409)
    if outcome.by_filing:
        return problem(
            "procedure", "本阶段不能这样办理", "请由填报单位重新报送修改后的内容，系统自动转回", status=409
        )
    role = outcome.actor or stage.actor
    allowed = {"filer": case.filer.code, "recommender": case.recommender, "city": notice.issuer}[role]
    if actor != allowed:
        names = {"filer": "填报单位", "recommender": "推荐单位", "city": "发布通知的市级部门"}
        # Whether the case exists is all that a stranger learns; not where it stands or whose it is.
        return problem("authority", "无权办理", f"“{outcome.name}”由本项目的{names[role]}办理", status=403)
    missing = _unmet(case, outcome.needs, decision)
    if missing:
        return problem("incomplete", "办理意见不完整", "；".join(f.detail for f in missing), missing)
    after = notice.procedure.by_id[outcome.to]
    moved = replace(case, stage=after.id, version=case.version + 1)
    return Step(
        _timed(moved, after, at, calendar),
        _says(after),
        actor,
        decision.outcome,
        at,
        reason=decision.reason,
        rules=decision.rules,
        acknowledges=decision.acknowledges,
        fixes=decision.fixes,
        officer=decision.officer,
    )


def _unmet(case: Case, needs: Sequence[str], decision: DecisionMade) -> list[Finding]:
    found: list[Finding] = []
    if "fixes" in needs and not decision.fixes:
        found.append(_need("fixes", "退回修改须逐项列出要改的内容", "#/data/fixes"))
    for fix in decision.fixes:
        if fix.field not in case.values and fix.field != "files":
            known = "、".join(sorted(case.values))
            found.append(_need("fixes.field", f"没有栏目 {fix.field}；本表的栏目：{known}", "#/data/fixes"))
    if "acknowledgement" in needs:
        open_ = sorted({f.rule for f in case.findings if f.severity == "soft"} - set(decision.acknowledges))
        for rule in open_:
            says = next(f.detail for f in case.findings if f.rule == rule)
            found.append(_need("acknowledges", f"须先确认或放宽 {rule}（{says}）", "#/data/acknowledges"))
    return found


def _need(code: str, detail: str, pointer: str) -> Finding:
    return Finding(
        rule="R-GEN-012", code=code, severity="hard", clause="R-GEN-012", detail=detail, pointer=pointer
    )


def _says(after: Stage) -> Said:
    if after.ends:
        return after.ends
    return "returned" if after.returned else "advanced"


def _timed(case: Case, stage: Stage, at: datetime, calendar: Calendar) -> Case:
    """The date by which the stage should be over, where it has one; the day of the step is not counted."""
    if stage.within is None:
        return replace(case, due=None, provisional=False)
    due = calendar.add_working_days(at.astimezone(SHANGHAI).date(), stage.within.working_days)
    return replace(case, due=due.date, provisional=due.provisional)
