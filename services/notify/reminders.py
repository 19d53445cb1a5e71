"""When a deadline is recalled: the rungs of its ladder as moments on working days, and which one is due now.

Who still has to act and what the letter says are not here: those are the ledger's and `owed.py`'s.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from shared.notices.calendar import Calendar
from shared.notices.directory import Agency
from shared.notices.model import Deadline, Ladder, Notice

SHANGHAI = ZoneInfo("Asia/Shanghai")
ONE_DAY = timedelta(days=1)

CORRECTION = Ladder(days_before=(3, 1), on_day=True)
"""For a returned case. Ours (derived): no notice says how often to recall a correction."""

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


def rungs(deadline: Deadline, calendar: Calendar) -> list[Rung]:
    """The reminders of a deadline, in order of time; for a range, before its first and after its last day."""
    if deadline.ladder is None:
        return []
    return _climb(deadline.ladder, deadline.on, deadline.until or deadline.on, calendar)


def correction_rungs(due: date, calendar: Calendar, ladder: Ladder = CORRECTION) -> list[Rung]:
    return _climb(ladder, due, due, calendar)


def due_now(ladder: Iterable[Rung], since: datetime | None, now: datetime) -> Rung | None:
    """The newest rung after `since` that has come: after an outage one reminder is sent, not all of them."""
    come = [rung for rung in ladder if rung.at <= now < rung.until and (since is None or since < rung.at)]
    return max(come, key=lambda rung: rung.at, default=None)


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
