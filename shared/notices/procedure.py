"""The procedure of a notice as a table that can be walked and drawn.

Whether an officer may act for an agency, and what a step causes, is not here: that is the review service.
"""

import datetime as dt
from collections.abc import Iterator

from shared.contracts.types import Values
from shared.notices.calendar import SHANGHAI, Calendar, Due
from shared.notices.model import Notice
from shared.notices.stages import CLOCK, Outcome, Procedure, Stage, Start, Within

ACTORS = {
    "filer": "申报单位",
    "recommender": "推荐单位",
    "district": "所在区主管部门",
    "city": "市局",
    CLOCK: "期限届满",
}


class NotAllowed(ValueError):
    """The procedure has no such step here; the message, in Chinese, lists those that it has."""


def start(procedure: Procedure, form: str, recommended: bool, values: Values) -> Stage | None:
    """Where a case begins, filed with a recommending agency or without one; nowhere, where the notice does not
    provide for that."""
    found = (s for s in procedure.start if s.agrees(form, recommended, values))
    return next((procedure.by_id[s.stage] for s in found), None)


def actor_name(notice: Notice, actor: str) -> str:
    """What people call an actor of this procedure."""
    return notice.roles[actor].name if actor in notice.roles else ACTORS[actor]


def due(notice: Notice, within: Within, began: dt.datetime, calendar: Calendar) -> Due:
    """The last day of a stage that began then; the day itself is not counted."""
    if within.by is not None:
        return Due(notice.by_deadline[within.by].on, provisional=False)
    start = began.astimezone(SHANGHAI).date()
    if within.working_days is not None:
        return calendar.add_working_days(start, within.working_days)
    measure = {"years": within.years or 0, "months": within.months or 0, "days": within.days or 0}
    if within.validity:
        return Due(calendar.add_period(start, **measure), provisional=False)
    return calendar.period_end(start, **measure)


def over(day: dt.date) -> dt.datetime:
    """The moment at which a term that ends on this day is over."""
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), SHANGHAI)


def step(notice: Notice, stage_id: str, outcome: str) -> Outcome:
    """What this outcome means in this stage, and where it leads."""
    procedure = notice.procedure
    stage = procedure.by_id.get(stage_id)
    if stage is None:
        raise NotAllowed(f"办理程序中没有阶段“{stage_id}”；现有：{'、'.join(procedure.by_id)}")
    if stage.ends is not None:
        raise NotAllowed(f"“{stage.name}”已办结，不能再作决定")
    found = stage.outcomes.get(outcome)
    if found is None:
        options = "、".join(
            f"{key}（{actor_name(notice, who_acts(stage, one))}{one.name}）"
            for key, one in stage.outcomes.items()
            if one.actor != CLOCK
        )
        raise NotAllowed(f"“{stage.name}”阶段没有“{outcome}”；可用：{options}")
    return found


def who_acts(stage: Stage, outcome: Outcome) -> str:
    """Who may decide this: the stage's actor, unless the outcome has its own."""
    return outcome.actor or stage.actor


def draw(notice: Notice) -> str:
    """The procedure as a Mermaid state diagram."""
    return "\n".join(_lines(notice)) + "\n"


def _lines(notice: Notice) -> Iterator[str]:
    procedure = notice.procedure
    yield "stateDiagram-v2"
    yield "    direction LR"
    for stage in procedure.stages:
        days = ""
        if stage.within:
            days = f"（{stage.within.text}{'' if stage.within.then else '内'}）"
        yield f'    state "{stage.name}{days}" as {stage.id}'
    for begin in procedure.start:
        yield f"    [*] --> {begin.stage}: {_begins(notice, begin)}"
    for stage in procedure.stages:
        for outcome in stage.outcomes.values():
            actor = "出现事由" if outcome.raised else actor_name(notice, who_acts(stage, outcome))
            yield f"    {stage.id} --> {outcome.to}: {outcome.name}（{actor}）"
        if stage.ends:
            yield f"    {stage.id} --> [*]"


def _begins(notice: Notice, begin: Start) -> str:
    how = {True: "有推荐单位", False: "直接报送", None: "报送"}[begin.recommended]
    forms = "、".join(notice.by_form[f].annex for f in begin.forms)
    where = "、".join(v for values in begin.where.values() for v in values)
    return "".join((f"{forms} " if forms else "", how, f"（{where}）" if where else ""))
