"""Pure: what a filing, a decision or the end of a term does to a case, by the procedure of its notice.

By when things are due is in `terms.py`, what others report in `duties.py`; storing and telling are not here.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from services.review import duties, panel
from services.review.case import FILED, ROUTE, Case, Said, Step, digest_of, filing_of, says
from services.review.parties import no_party, stranger
from services.review.terms import entering, moved, recounted
from shared.contracts.case import Change, DecisionMade
from shared.contracts.problem import Problem, problem
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Finding
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.model import Form, Notice
from shared.notices.procedure import NotAllowed, start, step, who_acts
from shared.notices.stages import CLOCK, Outcome, Stage
from shared.notices.values import chinese_date, printed

MOST_STEPS = 1000
"""Of one case in one turn of the clock: two centuries of quarters."""


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
        assessments=filed.assessments,
    )
    opened = entering(notice, case, stage, at, calendar)
    said: Said = "published" if stage.shown else "opened"
    data = {"filing": digest_of(filing_of(opened)), "revision": opened.revision}
    return Step(opened, said, filed.filer.code, "file", at, counts=filed.counts, data=data)


def file_again(
    notice: Notice, case: Case, filed: SubmissionAccepted, at: datetime, calendar: Calendar
) -> Step | None:
    """A later filing of the same item: a returned case goes back to whoever returned it, or to whom it should have
    gone, with the same number; an open one takes the later content (R-COL-040). None when nothing may change any
    more, because the case has ended or what was approved is frozen; or when the case knows it."""
    stage = notice.procedure.by_id[case.stage]
    again = next(
        (
            (key, o)
            for key, o in stage.outcomes.items()
            if o.by_filing and (not o.forms or filed.form in o.forms)
        ),
        None,
    )
    same_route = all(getattr(case, name) == getattr(filed, name) for name in ROUTE)
    if filed.revision <= case.revision or stage.ends or filed.form in notice.behind(case.form):
        return None  # also what an earlier form says: it would undo what was filed since
    if again is None and (stage.frozen or stage.listed or not same_route):
        return None
    brought = {name: getattr(filed, name) for name in (*FILED, *(ROUTE if again else ()))}
    brought |= {"package": filed.package or case.package, "late": case.late or filed.late}
    after = replace(case, version=case.version + 1, revision=filed.revision, **brought)
    changed = _changed(notice.by_form.get(filed.form), case, after)
    data = {"filing": digest_of(filing_of(after)), "revision": after.revision}
    more: dict[str, Any] = {
        "changed": changed,
        "data": {**data, "fields": [one.field for one in changed]},
        "replaces": {"revision": case.revision, "filing": filing_of(case)},
    }
    if again is None:
        return Step(after, "advanced", filed.filer.code, "amend", at, **more)
    key, outcome = again
    there = entering(notice, after, notice.procedure.by_id[outcome.to], at, calendar)
    return Step(there, says(notice, case, there), filed.filer.code, key, at, **more)


def _changed(form: Form | None, before: Case, after: Case) -> tuple[Change, ...]:
    """What a person is shown of it: that a contact has changed, not the contact."""
    if form is None:
        return ()
    found = []
    for key in (*form.by_key, *form.blocks):
        old, new = before.values.get(key), after.values.get(key)
        if old == new:
            continue
        if key in form.blocks or key in form.personal:
            found.append(Change(field=key, after="（已修改）"))
        else:
            found.append(Change(field=key, before=printed(old)[:200], after=printed(new)[:200]))
    return tuple(found)


def decide(
    notice: Notice, case: Case, decision: DecisionMade, actor: str, at: datetime, calendar: Calendar
) -> Step | Problem:
    """The step that a decision of `actor` (the proven publisher) makes, or why it may not be made."""
    if wrong := no_party(notice, case, actor):
        return wrong
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
    if wrong := stranger(notice, case, role, actor, outcome.name):
        return wrong
    if wrong := _too_early(case, outcome, at):
        return wrong
    missing = _unmet(notice, case, stage, outcome, role, decision)
    if missing:
        return problem("incomplete", "办理意见不完整", "；".join(f.detail for f in missing), missing)
    after = moved(notice, case, outcome, at, calendar)
    data: dict[str, Any] = {}
    if decision.judgements:
        after = replace(after, judgements={**case.judgements, **decision.judgements})
        data["judgements"] = decision.judgements
    if stage.panel and "panel" in outcome.needs:
        after = replace(after, score=panel.result(stage.panel, case.scores))
    return Step(
        after,
        says(notice, case, after),
        actor,
        decision.outcome,
        at,
        reason=decision.reason,
        rules=decision.rules,
        acknowledges=decision.acknowledges,
        fixes=decision.fixes,
        officer=decision.officer,
        data=data,
    )


def at_term(notice: Notice, case: Case, calendar: Calendar) -> Step | None:
    """What the end of the stage's term brings about. It happens at the moment at which it was due, however much
    later anybody looks: what follows is counted from there. A term that was over when the case came (back) into its
    stage ends then, not before."""
    stage = notice.procedure.by_id[case.stage]
    if case.wakes is None or stage.within is None or stage.within.then is None:
        return None
    key = stage.within.then
    outcome = stage.outcomes[key]
    at = max(case.wakes, case.entered)
    after = moved(notice, case, outcome, at, calendar)
    return Step(after, says(notice, case, after), CLOCK, key, at, rules=outcome.grounds)


def elapse(notice: Notice, case: Case, now: datetime, calendar: Calendar) -> list[Step]:
    """All that has come due for a case by `now`, each once and in the order in which it was due: duties that were
    missed and terms that ended while nobody looked."""
    steps: list[Step] = []
    while len(steps) < MOST_STEPS:
        overdue = duties.ripe(case, now)
        if overdue and overdue.wakes and (case.wakes is None or overdue.wakes <= case.wakes):
            steps += duties.missed(notice, case, overdue, calendar)
        elif case.wakes and case.wakes <= now and (ended := at_term(notice, case, calendar)):
            steps.append(ended)
        else:
            break
        case = steps[-1].case
    return steps


def recount(notice: Notice, case: Case, at: datetime, calendar: Calendar) -> Step | None:
    """The days of a case counted again, because the working days of a year have become known."""
    counted = recounted(notice, case, calendar)
    if counted == case:
        return None
    return Step(replace(counted, version=case.version + 1), "advanced", CLOCK, "recount", at)


def _unmet(
    notice: Notice, case: Case, stage: Stage, outcome: Outcome, role: str, decision: DecisionMade
) -> list[Finding]:
    found: list[Finding] = []
    needs = outcome.needs
    if "ground" in needs and not notice.by_ground.keys() & set(decision.rules):
        listed = "；".join(f"{g.id} {g.name}" for g in notice.grounds)
        found.append(_need("ground", f"须写明事由的编号：{listed}", "#/data/rules"))
    if "fixes" in needs and not decision.fixes:
        found.append(_need("fixes", "退回修改须逐项列出要改的内容", "#/data/fixes"))
    form = notice.by_form.get(case.form)
    columns = {*case.values, *(form.by_key if form else ()), *(form.blocks if form else ())}
    strange = [fix.field for fix in decision.fixes if fix.field not in columns and fix.field != "files"]
    if strange:
        told, known = "、".join(strange)[:100], "、".join(sorted(columns))[:1500]
        found.append(_need("fixes.field", f"没有栏目 {told}；本表的栏目：{known}", "#/data/fixes"))
    if "acknowledgement" in needs:
        open_ = sorted({f.rule for f in case.findings if f.severity == "soft"} - set(decision.acknowledges))
        for rule in open_:
            detail = next(f.detail for f in case.findings if f.rule == rule)
            found.append(_need("acknowledges", f"须先确认或放宽 {rule}（{detail}）", "#/data/acknowledges"))
    if "panel" in needs and stage.panel and panel.result(stage.panel, case.scores) is None:
        n, least = len(case.scores), stage.panel.experts
        found.append(_need("panel", f"至少{least}名专家评分，现有{n}名", "#/data/case"))
    if "judgement" in needs:
        found += _unjudged(notice, case, role, outcome, decision)
    return found


def _too_early(case: Case, outcome: Outcome, at: datetime) -> Problem | None:
    """Some things may be asked for only when a term nears its end."""
    if outcome.last_days is None or case.due is None:
        return None
    first = case.due - timedelta(days=outcome.last_days)
    if at.astimezone(SHANGHAI).date() >= first:
        return None
    why = f"“{outcome.name}”自{chinese_date(first)}起办理（期满前{outcome.last_days}日内）"
    return problem("procedure", "尚未到办理的时间", why, status=409)


def _unjudged(
    notice: Notice, case: Case, role: str, outcome: Outcome, decision: DecisionMade
) -> list[Finding]:
    """Every condition that this decision must judge, and has not, or finds not met; a rule that is only information
    binds nobody."""
    found = []
    elsewhere = {id_ for s in notice.procedure.stages for o in s.outcomes.values() for id_ in o.judges}
    for rule in notice.rules:
        if rule.judged_by != role or (rule.forms and case.form not in rule.forms) or rule.severity == "info":
            continue
        if rule.id not in outcome.judges if outcome.judges else rule.id in elsewhere:
            continue
        verdict = decision.judgements.get(rule.id)
        if verdict is None:
            found.append(_need("judgements", f"须认定 {rule.id}（{rule.text}）", "#/data/judgements"))
        elif verdict == "not_met" and rule.severity == "hard":
            detail = f"{rule.id} 认定为不符合（{rule.text}），不能通过"
            found.append(_need("judgements.not_met", detail, f"#/data/judgements/{rule.id}"))
    return found


def _need(code: str, detail: str, pointer: str) -> Finding:
    return Finding(
        rule="R-GEN-012", code=code, severity="hard", clause="R-GEN-012", detail=detail, pointer=pointer
    )
