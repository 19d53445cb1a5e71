"""Pure: by when what a case waits for is due — the terms of its stages, its duties — and how it comes into a stage.

Who may bring that about is in `decide.py`, what comes of a missed duty in `duties.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from itertools import islice

from services.review.case import Case, Owed
from shared.notices.calendar import SHANGHAI, Calendar, Due
from shared.notices.model import Notice
from shared.notices.procedure import due, over
from shared.notices.stages import Duty, Outcome, Stage, Within


def moved(notice: Notice, case: Case, outcome: Outcome, at: datetime, calendar: Calendar) -> Case:
    """The case, one version on, where the outcome leads."""
    after = notice.procedure.by_id[outcome.to]
    there = entering(notice, replace(case, version=case.version + 1), after, at, calendar)
    if not outcome.term or after.within is None or there.paused is None:
        return there
    began = there.paused
    if outcome.term == "follows":
        began = _due(notice, after.within, began, calendar).date
    return _timed(notice, replace(there, paused=None), after.within, began, calendar)


def entering(notice: Notice, case: Case, stage: Stage, at: datetime, calendar: Calendar) -> Case:
    """The case in its new stage, with the date by which that should be over, where it has one, and its duties."""
    paused = case.began if case.stage in notice.procedure.returned_to else case.paused
    entered = replace(
        case, stage=stage.id, entered=at, began=None, due=None, provisional=False, wakes=None, paused=paused
    )
    if stage.panel is not None:
        entered = replace(entered, scores={}, score=None)
    entered = standing(notice, entered, at, calendar)
    if stage.within is None:
        return entered
    return _timed(notice, entered, stage.within, at.astimezone(SHANGHAI).date(), calendar)


def recounted(notice: Notice, case: Case, calendar: Calendar) -> Case:
    """Its days counted again, because the working days of a year have become known."""
    stage = notice.procedure.by_id[case.stage]
    if case.provisional and stage.within is not None and case.began is not None:
        case = _timed(notice, case, stage.within, case.began, calendar)
    owed = []
    for one in case.owed:
        duty = notice.by_duty.get(one.duty)
        if duty and one.provisional and one.state == "owed":
            one = _row(duty, one.period, one.began, _last(duty, one.began, calendar))
        owed.append(one)
    return replace(case, owed=tuple(owed))


def _timed(notice: Notice, case: Case, within: Within, began: date, calendar: Calendar) -> Case:
    last = _due(notice, within, began, calendar)
    wakes = over(last.date) if within.then else None
    return replace(case, began=began, due=last.date, provisional=last.provisional, wakes=wakes)


def _due(notice: Notice, within: Within, began: date, calendar: Calendar) -> Due:
    return due(notice, within, datetime.combine(began, time(), SHANGHAI), calendar)


# --- duties -------------------------------------------------------------------------------------------


def standing(notice: Notice, case: Case, at: datetime, calendar: Calendar) -> Case:
    """The case with the duties of the stage that it has come into, and without those of the one that it has left;
    what was settled stays known."""
    here = {duty.id: duty for duty in notice.duties if case.stage in duty.stages}
    owed = [o for o in case.owed if o.state != "owed" or o.duty in here]
    for duty in here.values():
        if not any(o.duty == duty.id and o.state == "owed" for o in owed):
            owed += _next(duty, owed, at, calendar)
    return replace(case, owed=tuple(owed))


def after_change(notice: Notice, case: Case, on: date, at: datetime, calendar: Calendar) -> Case:
    """The case with what a change of that day makes it owe, counted from when that was told: nobody can be late for
    what nobody has heard of."""
    known = {(o.duty, o.period) for o in case.owed}
    told = at.astimezone(SHANGHAI).date()
    new = [
        _row(duty, on.isoformat(), told, _last(duty, told, calendar))
        for duty in notice.duties
        if duty.after == "change" and case.stage in duty.stages and (duty.id, on.isoformat()) not in known
    ]
    return replace(case, owed=(*case.owed, *new))


def _next(duty: Duty, known: Sequence[Owed], at: datetime, calendar: Calendar) -> list[Owed]:
    """What is owed next, after all that is known of this duty: nothing for a time before the case stood there."""
    began = at.astimezone(SHANGHAI).date()
    mine = {o.period for o in known if o.duty == duty.id}
    if duty.after == "change" or (duty.after == "entry" and mine):
        return []
    if duty.after == "entry":
        return [_row(duty, "", began, _last(duty, began, calendar))]
    found = next((period, day) for period, day in _periods(duty, began) if period not in mine)
    return [_row(duty, found[0], began, Due(found[1], provisional=False))]


def to_come(duty: Duty, since: date, most: int = 8) -> list[str]:
    """The periods of a duty from a day on, as far as anybody may report ahead."""
    return [] if duty.after else [period for period, _ in islice(_periods(duty, since), most)]


def _periods(duty: Duty, first: date) -> Iterator[tuple[str, date]]:
    """Every period from that day on, and the day by which it is due."""
    if duty.quarterly:
        year, quarter = first.year, (first.month - 1) // 3 + 1
        while True:
            yield f"{year}-{quarter}", Calendar.add_period(date(year, quarter * 3, 1), months=1, days=-1)
            year, quarter = (year, quarter + 1) if quarter < 4 else (year + 1, 1)
    month, day = map(int, (duty.yearly or "").split("-"))
    year = first.year
    while True:
        due_in = year + (1 if duty.covers == "previous" else 0)
        last = Calendar.add_period(date(due_in, month, 1), months=1, days=-1).day
        on = date(due_in, month, min(day, last))
        if on >= first:
            yield str(year), on
        year += 1


def _last(duty: Duty, began: date, calendar: Calendar) -> Due:
    return calendar.period_end(began, days=duty.days or 0)


def _row(duty: Duty, period: str, began: date, last: Due) -> Owed:
    return Owed(duty.id, period, began, last.date, last.provisional, "owed", over(last.date))
