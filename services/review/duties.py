"""Pure: what comes of a duty that is missed, of a report, of what others say of a case.

When a duty is due is in `terms.py`; decisions are in `decide.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from services.review.case import Case, Owed, Step, says
from services.review.terms import after_change, moved, standing, to_come
from shared.contracts.case import FactReported
from shared.contracts.problem import Problem, problem
from shared.contracts.submission import SubmissionAccepted
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.model import Notice
from shared.notices.procedure import over
from shared.notices.stages import CLOCK, Duty


def ripe(case: Case, now: datetime) -> Owed | None:
    """The duty that has been overdue longest, if any is."""
    overdue = [(o.wakes, o.duty, o.period, o) for o in case.owed if o.wakes and o.wakes <= now]
    return min(overdue, default=(None, "", "", None))[-1]


def missed(notice: Notice, case: Case, one: Owed, calendar: Calendar) -> list[Step]:
    """What comes of a duty that is overdue: it is told, and at the number of misses that the notice names its ground
    is raised. It happens at the moment at which it was due, however much later anybody looks."""
    assert one.wakes
    moment = max(one.wakes, case.entered)
    after = settled(notice, case, [replace(one, state="missed", wakes=None)], moment, calendar)
    data = {"due": one.due.isoformat()}
    step = Step(after, "advanced", CLOCK, "missed", moment, duty=one.duty, period=one.period, data=data)
    duty = notice.by_duty.get(one.duty)
    if duty is None or duty.ground is None:
        return [step]
    same_ground = {d.id for d in notice.duties if d.ground == duty.ground}
    against = [o for o in after.owed if o.state == "missed" and o.duty in same_ground]
    if len(against) < duty.misses:
        return [step]
    of = f"（{one.period}）" if one.period else ""
    held = tuple(replace(o, state="raised") if o in against else o for o in after.owed)
    why = f"{duty.name}{of}逾期未报"
    return [step, *raised(notice, replace(after, owed=held), duty.ground, why, CLOCK, moment, calendar)]


def report(
    notice: Notice, case: Case, filed: SubmissionAccepted, at: datetime, calendar: Calendar
) -> list[Step]:
    """What a report settles, and the grounds that it raises by what it lists. What was received before its day was
    over is in time, whenever it is read; one that nothing is owed for is recorded, and changes nothing."""
    found: list[Owed] = []
    ended = notice.procedure.by_id[case.stage].ends is not None
    for duty in (d for d in notice.duties if d.form == filed.form):
        if _beside(duty, filed):
            continue
        mine = [o for o in case.owed if o.duty == duty.id]
        known = [o for o in mine if duty.after or o.period == filed.period]
        for one in known:
            if one.state in ("owed", "missed", "raised"):
                in_time = filed.received < over(one.due)
                found.append(replace(one, state="done" if in_time else "late", wakes=None))
        last = max(mine, key=lambda o: o.due, default=None)
        if not known and last and not ended and filed.period in to_come(duty, last.began):
            # Ahead of its time, or while the case stands elsewhere: what is owed for then will have been done.
            found.append(replace(last, period=filed.period, state="done", wakes=None, provisional=False))
    after = replace(case, version=case.version + 1)
    outcome = "report_unowed"
    if found:
        outcome = "report_late" if all(o.state == "late" for o in found) else "report"
        after = settled(notice, case, found, at, calendar)
    data = {"report": str(filed.case), "received": filed.received.isoformat()}
    duty_id = found[0].duty if found else None
    actor = filed.filer.code
    steps = [Step(after, "advanced", actor, outcome, at, duty=duty_id, period=filed.period, data=data)]
    form = notice.by_form.get(filed.form)
    for key, ground in form.report.raises.items() if form and form.report else ():
        rows = filed.values.get(key) or ()
        if rows and notice.procedure.by_id[steps[-1].case.stage].listed:
            why = f"{form.annex if form else ''}“{form.blocks[key].title if form else key}”列有{len(rows)}项"
            steps += raised(notice, steps[-1].case, ground, why, actor, at, calendar)
    return steps


def _beside(duty: Duty, filed: SubmissionAccepted) -> bool:
    """Whether a report, for all its form, does not tell what the duty is about: no change where one must be told, or
    a year that is not over."""
    if duty.told_in and not filed.values.get(duty.told_in):
        return True
    year = filed.received.astimezone(SHANGHAI).year
    return duty.covers == "previous" and filed.period[:4] >= str(year)


def fact(
    notice: Notice,
    case: Case,
    said: FactReported,
    actor: str,
    at: datetime,
    calendar: Calendar,
    *,
    trusted: bool = True,
) -> list[Step] | Problem:
    """What another body reports: recorded always. One that is `trusted`, a party of the case or a department
    (R-GEN-011), raises a ground by it against a case that stands on the list, and starts the term of a change."""
    if said.ground is not None and said.ground not in notice.by_ground:
        known = "；".join(f"{g.id} {g.name}" for g in notice.grounds)
        return problem("ground", "没有这项事由", f"事由的编号应为以下之一：{known or '本通知没有列出事由'}")
    if said.occurred_on > at.astimezone(SHANGHAI).date():
        return problem("date", "日期有误", "发生日期不能晚于报告之日")
    grounds = [said.ground] if said.ground else []
    if said.kind == "survey" and said.score is not None:
        low = [g.id for g in notice.grounds if g.below and said.score < Decimal(str(g.below))]
        grounds += [id_ for id_ in low if id_ not in grounds]
    data: dict[str, Any] = {"kind": said.kind, "occurred_on": said.occurred_on.isoformat()}
    if said.score is not None:
        data["score"] = str(said.score)
    if said.reference:
        data["reference"] = said.reference
    noted = replace(case, version=case.version + 1)
    if said.kind == "change" and trusted:
        noted = after_change(notice, noted, said.occurred_on, at, calendar)
    steps = [Step(noted, "advanced", actor, "fact", at, said.detail, tuple(grounds), data=data)]
    for ground in grounds:
        if trusted and notice.procedure.by_id[steps[-1].case.stage].listed:
            steps += raised(notice, steps[-1].case, ground, said.detail, actor, at, calendar)
    return steps


def raised(
    notice: Notice, case: Case, ground: str, why: str, actor: str, at: datetime, calendar: Calendar
) -> list[Step]:
    """A ground is held against a case: that is told, and where the notice says so the clock brings it before whoever
    decides. A person always decides."""
    after = replace(case, version=case.version + 1)
    steps = [Step(after, "advanced", actor, "raise", at, why, (ground,))]
    stage = notice.procedure.by_id[case.stage]
    key = next((key for key, outcome in stage.outcomes.items() if outcome.raised), None)
    if key is not None:
        there = moved(notice, after, stage.outcomes[key], at, calendar)
        steps.append(Step(there, says(notice, after, there), CLOCK, key, at, why, (ground,)))
    return steps


def settled(notice: Notice, case: Case, rows: Sequence[Owed], at: datetime, calendar: Calendar) -> Case:
    """The case, one version on, with these rows in the place of its own, and with what is owed next."""
    owed = {(o.duty, o.period): o for o in case.owed} | {(o.duty, o.period): o for o in rows}
    after = replace(case, version=case.version + 1, owed=tuple(owed.values()))
    return standing(notice, after, at, calendar)
