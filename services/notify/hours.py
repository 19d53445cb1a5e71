"""When a mail may leave: at once, within sending hours, or with its agency's mail of the morning.

Which letters are owed is in `owed.py`; what a morning's mail is made of in `digest.py`. Moments are arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any, Literal

from shared.notices.calendar import ONE_DAY, SHANGHAI, Calendar

When = Literal["now", "hours", "morning"]

MORNING = time(9)
"""Also when most ladders have their rungs, so that what they recall goes along."""

FILED = "answers what somebody has just done, and waits before a screen for it"
DECIDED = "tells a decision: terms begin to run with it"
CLOCK_SAYS = "comes about by a date or by another's step: nobody waits for it at night"
RECALLED = "recalls a date that has not come: one mail a morning is enough"

WHEN: Mapping[str, tuple[When, str]] = {
    "accepted": ("now", FILED),
    "judged": ("now", FILED),
    "misdirected": ("now", FILED),
    "refused": ("now", FILED),
    "report_received": ("now", FILED),
    "kept": ("now", DECIDED),
    "not_selected": ("now", DECIDED),
    "proposed": ("now", DECIDED),
    "published": ("now", DECIDED),
    "rejected": ("now", DECIDED),
    "renewed": ("now", DECIDED),
    "returned": ("now", DECIDED),
    "revocation_proposed": ("now", DECIDED),
    "revoked": ("now", DECIDED),
    "selected": ("now", DECIDED),
    "action_wanted": ("hours", CLOCK_SAYS),
    "duty_missed": ("hours", CLOCK_SAYS),
    "ground_raised": ("hours", CLOCK_SAYS),
    "hearing": ("hours", CLOCK_SAYS),
    "recommend_wanted": ("hours", CLOCK_SAYS),
    "deadline": ("morning", RECALLED),
    "duty_due": ("morning", RECALLED),
    "expiring": ("morning", RECALLED),
    "june_activity": ("morning", RECALLED),
    "undelivered": ("hours", "is for a person in an office, who then takes the telephone"),
    "digest": ("hours", "is the mail of the morning itself"),
    "daily": ("now", "goes to operators, who want it on rest days too: its absence is an alarm"),
}
"""Of every letter, with the reason. What an answer or a decision is by the clock alone waits all the same."""


def when_of(letter: str, params: Mapping[str, Any]) -> When:
    when = WHEN[letter][0] if letter in WHEN else "hours"
    return "hours" if when == "now" and params.get("by_clock") else when


@dataclass(frozen=True)
class Hours:
    """The hours of working days, make-up days included, between which mails that can wait are sent; none: at any
    hour, and each by itself."""

    between: tuple[time, time] | None = None
    calendar: Calendar = field(default_factory=Calendar.load)

    def open(self, now: datetime) -> bool:
        return self.next(now) <= now

    def next(self, now: datetime) -> datetime:
        """The first moment from now on that is within the hours."""
        return self._from(now, self.between[0]) if self.between else now

    def morning(self, now: datetime) -> datetime:
        """When the mail of the morning goes that may still take something along: later the same day, if all were
        late."""
        return self._from(now, max(MORNING, self.between[0])) if self.between else now

    def next_morning(self, now: datetime) -> datetime:
        return self.morning(datetime.combine(_day(now) + ONE_DAY, time(), SHANGHAI))

    def _from(self, now: datetime, opens: time) -> datetime:
        assert self.between
        day, closes = _day(now), self.between[1]
        if self.calendar.is_working_day(day) and now < datetime.combine(day, closes, SHANGHAI):
            return max(now, datetime.combine(day, opens, SHANGHAI))
        day = self.calendar.next_working_day(day + ONE_DAY).date
        return datetime.combine(day, opens, SHANGHAI)


def alone(due: Mapping[str, Any] | None, now: datetime, then: datetime) -> bool:
    """Whether a reminder cannot wait for the mail of the morning at `then`: its date is within a day of that, or it
    has none, by which it could be put in order."""
    if due is None:
        return True
    first = date.fromisoformat(due["from"] or due["date"])
    return first >= _day(now) and first <= _day(then) + ONE_DAY


def _day(at: datetime) -> date:
    return at.astimezone(SHANGHAI).date()
