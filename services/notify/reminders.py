"""When a date is recalled: the rungs of its ladder as moments on working days, which one is due now, which comes next.

Who still has to act and what the letter says are not here: those are the ledger's and `owed.py`'s.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from shared.contracts.case import Awaited
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.directory import Agency
from shared.notices.ladders import Ladder
from shared.notices.model import Deadline, Notice
from shared.notices.stages import Duty, Stage

ONE_DAY = timedelta(days=1)

NEWS = timedelta(days=7)
"""How long "this was missed" is worth a mail. Longer, and a notice loaded late would scold everybody."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One reminder. `days_left` is what the ladder says, negative when missed; the letter counts for itself,
    because a rung that left a rest day, or was sent late, is further from or nearer to the deadline.

    From `until` on it is not worth sending. `provisional` if the calendar of that year may still change.
    """

    key: str
    at: datetime
    days_left: int
    missed: bool
    provisional: bool
    until: datetime


def concerns(notice: Notice, deadline: Deadline, agency: Agency) -> bool:
    """Whether it is this agency's date: one of another district is not, nor the general one where its own district
    has set another until which it files."""
    if deadline.district not in (None, agency.district):
        return False
    if not deadline.filing or agency.kind not in deadline.kinds:
        return True
    return notice.filing_deadline(agency.kind, agency.district or notice.issuer) is deadline


def binds(deadline: Deadline, unit: str, done: Set[tuple[str, str]]) -> bool:
    """Whether somebody still is to be reminded; `done` are facts of units."""
    spared = deadline.unless is not None and (unit, deadline.unless) in done
    return not spared and (deadline.only is None or (unit, deadline.only) in done)


def rungs(deadline: Deadline, calendar: Calendar) -> list[Rung]:
    """The reminders of a deadline, in order of time; for a range, before its first and after its last day."""
    if deadline.recalled is None:
        return []
    return _climb(deadline.recalled, deadline.on, deadline.until or deadline.on, calendar)


def due_now(ladder: Iterable[Rung], since: datetime | None, now: datetime) -> Rung | None:
    """The newest rung after `since` that has come: after an outage one reminder is sent, not all of them."""
    come = [rung for rung in ladder if rung.at <= now < rung.until and (since is None or since < rung.at)]
    return max(come, key=lambda rung: rung.at, default=None)


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a case waits for, as its notice knows it: a duty or, without one, the end of the term of its stage. `told`
    is the rung that was told of last."""

    awaited: Awaited
    stage: Stage
    duty: Duty | None
    told: str | None

    @property
    def key(self) -> str:
        """Within its case. With the day: what is due on another day is recalled anew."""
        return f"{self.what}/{self.awaited.due}"

    @property
    def what(self) -> str:
        """On whatever day that is."""
        return f"{self.duty.id}/{self.awaited.period}" if self.duty else f"term/{self.stage.id}"

    @property
    def remind(self) -> tuple[str, ...]:
        return self.duty.remind if self.duty else self.stage.reminded

    def rungs(self, calendar: Calendar) -> list[Rung]:
        """None on the day from which it is counted, or before: then a letter told of it."""
        ladder = self.duty.ladder if self.duty else self.stage.within and self.stage.within.recalled
        if not ladder or not self.remind:
            return []
        due, began = self.awaited.due, self.awaited.began
        return [rung for rung in _climb(ladder, due, due, calendar) if rung.at.date() > began]


def occasions(notice: Notice, stage_id: str, awaits: Iterable[Mapping[str, Any]]) -> Iterator[Occasion]:
    """`awaits` as the ledger keeps it. What the notice, as it is loaded now, no longer names is not recalled."""
    stage = notice.procedure.by_id.get(stage_id)
    for one in awaits if stage else ():
        awaited = Awaited.model_validate(one)
        duty = notice.by_duty.get(awaited.duty) if awaited.duty else None
        if stage and (duty or (awaited.duty is None and stage.within)):
            yield Occasion(awaited, stage, duty, one.get("told"))


def to_tell(rung: Rung, calendar: Calendar, now: datetime) -> datetime:
    """From when on it may be told: its own morning or, when that was missed, one as early on a working day."""
    today = now.astimezone(SHANGHAI).date()
    late = datetime.combine(
        calendar.next_working_day(today).date, rung.at.astimezone(SHANGHAI).time(), SHANGHAI
    )
    return max(rung.at, late) if late > now else rung.at


def come(occasion: Occasion, calendar: Calendar, now: datetime) -> Rung | None:
    """The rung of which must be told now, if it has not been."""
    rung = _untold(occasion, calendar, now)
    return rung if rung and to_tell(rung, calendar, now) <= now else None


def next_at(found: Sequence[Occasion], calendar: Calendar, now: datetime) -> datetime | None:
    """When somebody must look again at what a case waits for."""
    waiting = (rung for rung in (_untold(one, calendar, now) for one in found) if rung)
    ahead = (rung.at for one in found for rung in one.rungs(calendar) if rung.at > now)
    return min((*(to_tell(rung, calendar, now) for rung in waiting), *ahead), default=None)


def _untold(occasion: Occasion, calendar: Calendar, now: datetime) -> Rung | None:
    rung = due_now(occasion.rungs(calendar), None, now)
    return None if rung is None or rung.key == occasion.told else rung


def _climb(ladder: Ladder, first: date, last: date, calendar: Calendar) -> list[Rung]:
    over = _at(last + ONE_DAY)
    days = sorted({*ladder.days_before, *((0,) if ladder.on_day else ())}, reverse=True)
    # Two rungs can leave rest days for the same morning: the later one replaces the earlier.
    found: dict[datetime, Rung] = {}
    for days_left in days:
        # Before a holiday, while somebody can still act.
        moved = calendar.previous_working_day(first - timedelta(days=days_left))
        at = _at(moved.date, ladder)
        found[at] = Rung(str(days_left), at, days_left, False, moved.provisional, over)
    if ladder.missed_after is not None:
        # After a holiday: nobody can be told that a day was missed before it has passed.
        moved = calendar.next_working_day(last + timedelta(days=ladder.missed_after))
        at = _at(moved.date, ladder)
        found[at] = Rung("missed", at, -ladder.missed_after, True, moved.provisional, at + NEWS)
    return sorted(found.values(), key=lambda rung: rung.at)


def _at(day: date, ladder: Ladder | None = None) -> datetime:
    return datetime.combine(day, ladder.at if ladder else datetime.min.time(), SHANGHAI)
