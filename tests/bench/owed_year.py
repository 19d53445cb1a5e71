"""What is owed in a year, counted anew: its own working days, its own ladders, nothing of the services.

Lives say here what they wait for (`Need`); in which turn each of its reminders must have been entered follows from the
turns that the services had. What the services did is in `year.py`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")
PAPERS = Path(__file__).parents[2] / "shared/notices/data/calendar"
DAY = timedelta(days=1)

OFF: dict[date, bool] = {}
for _year in (2025, 2026):
    for _day in json.loads((PAPERS / f"{_year}.json").read_text())["days"]:
        OFF[date.fromisoformat(_day["date"])] = _day["isOffDay"]

# (days before, on the day, days after when missed), as spec §10 and the notices have it.
LADDERS: dict[str, tuple[tuple[int, ...], bool, int | None]] = {
    "filing": ((30, 14, 7, 3, 1), True, 1),
    "district": ((14, 7, 3, 1), True, None),
    "june": ((30, 14, 7, 3, 1), False, None),
    "month": ((7, 1), False, None),
    "targets": ((90, 30, 7), False, None),
    "expiry": ((180, 90, 30, 7), False, None),
    "duty": ((30, 14, 7, 3, 1), True, None),
    "term": ((3, 1), True, 1),
    "ending": ((3, 1), True, None),
    "compact": ((14, 7, 3, 1), True, 1),
    "overdue": ((), False, 1),
    "missed": ((), False, None),
}

Subject = tuple[str, ...]
"""What a reminder is about and whom it goes to, as both sides can say it."""


def works(day: date) -> bool:
    """Of a year without a paper: New Year's Day alone is known to this count."""
    if day in OFF:
        return not OFF[day]
    return day.weekday() < 5 and (day.year < 2027 or (day.month, day.day) != (1, 1))


def back(day: date) -> date:
    while not works(day):
        day -= DAY
    return day


def forth(day: date) -> date:
    while not works(day):
        day += DAY
    return day


def working(day: date, n: int) -> date:
    """The n-th working day after a day."""
    while n:
        day += DAY
        n -= works(day)
    return day


def years_on(day: date, n: int) -> date:
    return day.replace(year=day.year + n, day=28 if (day.month, day.day) == (2, 29) else day.day)


def morning(day: date) -> datetime:
    return datetime.combine(day, time(9), SHANGHAI)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time(), SHANGHAI)


@dataclass
class Need:
    """Something that somebody waits for: `what` of which thing, by which day, from when to when, and who is told."""

    occasion: str
    thing: tuple[str, ...]
    to: Iterable[str]
    ladder: str
    due: date
    began: date
    spans: list[tuple[datetime, datetime]]
    last: date | None = None
    """The last day, of what lasts from `due` on."""

    def rungs(self) -> list[tuple[datetime, datetime]]:
        """When each may first be told, and from when on no more."""
        before, on_day, missed = LADDERS[self.ladder]
        last = self.last or self.due
        over = midnight(last + DAY)
        found: dict[datetime, datetime] = {}
        for days in (*before, *((0,) if on_day else ())):
            found[morning(back(self.due - days * DAY))] = over
        if missed:
            at = morning(forth(last + missed * DAY))
            found[at] = at + 7 * DAY
        return sorted((at, until) for at, until in found.items() if at.date() > self.began)

    def expected(self, turns: Sequence[datetime]) -> list[datetime]:
        """The turns in which its reminders must be entered: at each the newest that has come and was not yet, on a
        working day, from nine on."""
        if self.ladder == "missed":  # told by the clock itself, and held until somebody works
            return [now for now in turns if now >= self.spans[0][0]][:1]
        entered: list[datetime] = []
        newest: datetime | None = None
        rungs = self.rungs()
        for begin, end in self.spans if rungs else ():
            for now in turns:
                if now < max(begin, rungs[0][0]) or now >= end:
                    continue
                if now >= rungs[-1][1]:
                    break
                if not works(now.date()) or now.time() < time(9):
                    continue
                come = [at for at, until in rungs if at <= now < until]
                if come and (newest is None or come[-1] > newest):
                    newest = come[-1]
                    entered.append(now)
        return entered


@dataclass
class Found:
    """One occasion, compared."""

    owed: int = 0
    sent: int = 0
    missing: int = 0
    twice: int = 0
    early: int = 0
    stray: int = 0
    rest: int = 0

    @property
    def wrong(self) -> int:
        return self.missing + self.twice + self.early + self.stray + self.rest


@dataclass
class Comparison:
    by: dict[str, Found] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        return sum(one.wrong for one in self.by.values())

    @property
    def total(self) -> Found:
        names = Found.__dataclass_fields__
        return Found(**{n: sum(getattr(one, n) for one in self.by.values()) for n in names})


def compare(
    needs: Sequence[Need], entered: Sequence[tuple[Subject, datetime]], turns: Sequence[datetime]
) -> Comparison:
    """Every owed reminder exactly once, none early, none on a rest day."""
    result = Comparison()
    occasion: dict[Subject, str] = {}
    owed: dict[Subject, Counter[datetime]] = {}
    for need in needs:
        found = need.expected(turns)
        for to in dict.fromkeys(need.to):
            subject = (*need.thing, str(need.last or need.due), to)
            occasion[subject] = need.occasion
            owed.setdefault(subject, Counter()).update(found)
        result.by.setdefault(need.occasion, Found()).owed += len(found) * len(set(need.to))
    sent: dict[Subject, Counter[datetime]] = {}
    for subject, at in entered:
        sent.setdefault(subject, Counter())[at] += 1
    for subject in owed.keys() | sent.keys():
        mine = result.by.setdefault(occasion.get(subject, "not owed at all"), Found())
        expected, got = owed.get(subject, Counter()), sent.get(subject, Counter())
        mine.sent += got.total()
        if "missed" not in subject:
            mine.rest += sum(n for at, n in got.items() if not works(at.date()))
        left = expected - got
        for at, n in sorted((got - expected).items()):
            for _ in range(n):
                later = min((t for t in left if left[t] and t > at), default=None)
                if later is not None:
                    mine.early += 1
                    left[later] -= 1
                elif expected:
                    mine.twice += 1
                else:
                    mine.stray += 1
        mine.missing += (+left).total()
        if expected != got and len(result.examples) < 20:
            say = [f"{t:%m-%d %H:%M}×{n}" for t, n in sorted(expected.items())]
            did = [f"{t:%m-%d %H:%M}×{n}" for t, n in sorted(got.items())]
            result.examples.append(f"{subject}: owed {say}, sent {did}")
    return result
