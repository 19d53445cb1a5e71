"""Pure: what a filing, a decision or the end of a term does to a case, by the procedure of its notice.

Storing cases is not here, nor is telling anybody.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from shared.contracts.case import DecisionMade, Fix
from shared.contracts.problem import Problem, problem
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Finding, ItemKind, Party, Values
from shared.notices.calendar import Calendar, Due
from shared.notices.model import Notice
from shared.notices.procedure import NotAllowed, actor_name, due, over, start, step, who_acts
from shared.notices.stages import CLOCK, Outcome, Stage, Within

Said = Literal["opened", "advanced", "returned", "closed", "published"]


@dataclass(frozen=True)
class Case:
    """A case as it stands. `version` grows with every step; events carry it, so order does not matter.

    `entered` is when its stage began, `due` the last day of that stage where it has one, and `wakes` the moment
    at which the clock then acts by itself. `paused` is the day that a stage which the case will return to had.
    """

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
    entered: datetime
    due: date | None = None
    provisional: bool = False
    wakes: datetime | None = None
    paused: date | None = None


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
    stage = start(notice.procedure, filed.form, filed.recommender is not None, filed.values)
    assert stage  # intake refuses what begins nowhere
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
        entered=at,
    )
    opened = _entering(notice, case, stage, at, calendar)
    return Step(opened, "opened", filed.filer.code, "file", at, counts=filed.counts)


def file_again(
    notice: Notice, case: Case, filed: SubmissionAccepted, at: datetime, calendar: Calendar
) -> Step | None:
    """A later filing of the same item: a returned case goes back to whoever returned it, with the same
    number; an open one takes the later content (R-COL-040). None when the case has ended or stands on a
    published list, or knows it."""
    stage = notice.procedure.by_id[case.stage]
    again = next(((key, o) for key, o in stage.outcomes.items() if o.by_filing), None)
    if filed.revision <= case.revision or stage.ends or (stage.listed and not again):
        return None
    moved = replace(
        case,
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
    if again is None:
        return Step(moved, "advanced", filed.filer.code, "amend", at)
    after = notice.procedure.by_id[again[1].to]
    moved = _entering(notice, moved, after, at, calendar)
    return Step(moved, _says(stage, after), filed.filer.code, again[0], at)


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
        outcome = step(notice, case.stage, decision.outcome)
    except NotAllowed as refused:
        return problem("procedure", "本阶段不能这样办理", str(refused), status=409)
    if outcome.by_filing:
        return problem(
            "procedure", "本阶段不能这样办理", "请由填报单位重新报送修改后的内容，系统自动转回", status=409
        )
    role = who_acts(stage, outcome)
    if actor != who(notice, case, role):
        # Whether the case exists is all that a stranger learns; not where it stands or whose it is.
        names = {"filer": "填报单位", "city": "发布通知的市级部门"}
        name = names.get(role) or actor_name(notice, role)
        return problem("authority", "无权办理", f"“{outcome.name}”由本项目的{name}办理", status=403)
    missing = _unmet(notice, case, outcome.needs, decision)
    if missing:
        return problem("incomplete", "办理意见不完整", "；".join(f.detail for f in missing), missing)
    after = notice.procedure.by_id[outcome.to]
    return Step(
        _moved(notice, case, outcome, at, calendar),
        _says(stage, after),
        actor,
        decision.outcome,
        at,
        reason=decision.reason,
        rules=decision.rules,
        acknowledges=decision.acknowledges,
        fixes=decision.fixes,
        officer=decision.officer,
    )


def at_term(notice: Notice, case: Case, calendar: Calendar) -> Step | None:
    """What the end of the stage's term brings about. It happens at the moment at which it was due, however much
    later anybody looks: what follows is counted from there."""
    stage = notice.procedure.by_id[case.stage]
    if case.wakes is None or stage.within is None or stage.within.then is None:
        return None
    key = stage.within.then
    outcome = stage.outcomes[key]
    moved = _moved(notice, case, outcome, case.wakes, calendar)
    return Step(moved, _says(stage, notice.procedure.by_id[outcome.to]), CLOCK, key, case.wakes)


def recount(notice: Notice, case: Case, at: datetime, calendar: Calendar) -> Step | None:
    """The date of a stage counted again, because the working days of a year have become known."""
    stage = notice.procedure.by_id[case.stage]
    if stage.within is None or case.due is None:
        return None
    counted = _timed(case, due(notice, stage.within, case.entered, calendar), stage.within)
    if counted == case:
        return None
    return Step(replace(counted, version=case.version + 1), "advanced", CLOCK, "recount", at)


def who(notice: Notice, case: Case, role: str) -> str | None:
    """The agency that plays a role in this case; nobody plays the clock."""
    if role in notice.roles:
        return notice.roles[role].agency
    parties = {"filer": case.filer.code, "recommender": case.recommender, "district": case.district}
    return notice.issuer if role == "city" else parties.get(role)


def _unmet(notice: Notice, case: Case, needs: Sequence[str], decision: DecisionMade) -> list[Finding]:
    found: list[Finding] = []
    grounds = {g.id: g for g in notice.grounds}
    if "ground" in needs and not grounds.keys() & set(decision.rules):
        listed = "；".join(f"{g.id} {g.name}" for g in notice.grounds)
        found.append(_need("ground", f"须写明事由的编号：{listed}", "#/data/rules"))
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


def _says(before: Stage, after: Stage) -> Said:
    if after.ends:
        return after.ends
    if after.listed and not before.listed:
        return "published"
    return "returned" if after.returned else "advanced"


def _moved(notice: Notice, case: Case, outcome: Outcome, at: datetime, calendar: Calendar) -> Case:
    after = notice.procedure.by_id[outcome.to]
    moved = _entering(notice, replace(case, version=case.version + 1), after, at, calendar)
    if not outcome.term or after.within is None or moved.paused is None:
        return moved
    if outcome.term == "resumes":
        last = Due(moved.paused, provisional=False)
    else:
        last = due(notice, after.within, over(moved.paused - timedelta(days=1)), calendar)
    return _timed(replace(moved, paused=None), last, after.within)


def _entering(notice: Notice, case: Case, stage: Stage, at: datetime, calendar: Calendar) -> Case:
    """The case in its new stage, with the date by which that should be over, where it has one."""
    paused = case.due if case.stage in notice.procedure.returned_to else case.paused
    entered = replace(
        case, stage=stage.id, entered=at, due=None, provisional=False, wakes=None, paused=paused
    )
    if stage.within is None:
        return entered
    return _timed(entered, due(notice, stage.within, at, calendar), stage.within)


def _timed(case: Case, last: Due, within: Within) -> Case:
    wakes = over(last.date) if within.then else None
    return replace(case, due=last.date, provisional=last.provisional, wakes=wakes)
