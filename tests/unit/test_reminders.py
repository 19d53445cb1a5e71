"""Reminder ladders: on working mornings only, each once, and after an outage only the newest."""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notify.reminders import NEWS, Occasion, Rung, come, due_now, next_at, occasions, rungs
from shared.contracts.case import Awaited
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.ladders import Ladder
from shared.notices.load import load_all
from shared.notices.model import Deadline

CALENDAR = Calendar.load()
SPEC = Ladder(days_before=(30, 14, 7, 3, 1), on_day=True, missed_after=1)


def deadline(on: date, ladder: Ladder | None = SPEC, until: date | None = None) -> Deadline:
    return Deadline(
        id="DL-01", name="报送截止", clause="征集通知·三", on=on, until=until, kinds=("K2",), ladder=ladder
    )


def at(year: int, month: int, day: int, hour: int = 9) -> datetime:
    return datetime(year, month, day, hour, tzinfo=SHANGHAI)


def told(found: list[Rung]) -> list[tuple[str, datetime]]:
    return [(rung.key, rung.at) for rung in found]


def test_the_ladder_of_the_2025_collection() -> None:
    assert told(rungs(deadline(date(2025, 3, 7)), CALENDAR)) == [
        ("30", at(2025, 2, 5)),
        ("14", at(2025, 2, 21)),
        ("7", at(2025, 2, 28)),
        ("3", at(2025, 3, 4)),
        ("1", at(2025, 3, 6)),
        ("0", at(2025, 3, 7)),
        # The day after is a Saturday: it is missed on Monday, never "missed" on the Friday itself.
        ("missed", at(2025, 3, 10)),
    ]


def test_rungs_that_a_holiday_moves_to_one_morning_become_the_latest_of_them() -> None:
    # 2025-10-01…08 is a holiday, 09-28 (a Sunday) is worked.
    assert told(rungs(deadline(date(2025, 10, 8)), CALENDAR)) == [
        ("30", at(2025, 9, 8)),
        ("14", at(2025, 9, 24)),
        ("0", at(2025, 9, 30)),
        ("missed", at(2025, 10, 9)),
    ]


def test_a_made_up_working_sunday_keeps_its_rung() -> None:
    assert ("1", at(2025, 9, 28)) in told(rungs(deadline(date(2025, 9, 29)), CALENDAR))


def test_a_range_is_recalled_before_its_first_and_missed_after_its_last_day() -> None:
    june = rungs(
        deadline(date(2025, 6, 3), Ladder(days_before=(1,), missed_after=1), date(2025, 6, 30)), CALENDAR
    )
    assert told(june) == [("1", at(2025, 5, 30)), ("missed", at(2025, 7, 1))]


def test_a_deadline_of_which_nobody_is_reminded_has_no_ladder_and_another_the_default() -> None:
    silent = deadline(date(2025, 3, 7), None)
    assert rungs(silent, CALENDAR) == []
    told_to = silent.model_copy(update={"remind": ("K2",)})
    assert rungs(told_to, CALENDAR) == rungs(deadline(date(2025, 3, 7)), CALENDAR)


# --- what a case waits for ----------------------------------------------------------------------------

ROUND = load_all()["gz-collection-2025q1"].notice
CLUSTERS = load_all()["gz-clusters"].notice


def waits(began: date, due: date, duty: str | None = None, told: str | None = None) -> Occasion:
    notice, stage = (CLUSTERS, "recognised") if duty else (ROUND, "correction")
    awaited = Awaited(duty=duty, period="2024" if duty else "", began=began, due=due).model_dump(mode="json")
    (found,) = occasions(notice, stage, [{**awaited, "told": told}])
    return found


CORRECTION = waits(date(2025, 3, 7), date(2025, 3, 14))


def test_a_returned_case_is_recalled_before_its_day_on_it_and_when_it_was_missed() -> None:
    assert told(CORRECTION.rungs(CALENDAR)) == [
        ("3", at(2025, 3, 11)),
        ("1", at(2025, 3, 13)),
        ("0", at(2025, 3, 14)),
        ("missed", at(2025, 3, 17)),
    ]
    assert CORRECTION.key == "term/correction/2025-03-14"


def test_nothing_is_recalled_on_the_day_that_began_it() -> None:
    """A letter told of it then. What began late has the end of its ladder only."""
    late = waits(date(2025, 2, 25), date(2025, 2, 28), "DL-06")
    assert [key for key, _ in told(late.rungs(CALENDAR))] == ["1", "0"]
    early = waits(date(2024, 6, 10), date(2025, 2, 28), "DL-06")
    assert [key for key, _ in told(early.rungs(CALENDAR))] == ["30", "14", "7", "3", "1", "0"]


@pytest.mark.parametrize(
    ("told", "now", "due", "next_"),
    [
        (None, at(2025, 3, 11, 8), None, at(2025, 3, 11)),
        (None, at(2025, 3, 11), "3", at(2025, 3, 11)),
        ("3", at(2025, 3, 11), None, at(2025, 3, 13)),
        # Down until the last evening: the newest, and then the one that is left.
        (None, at(2025, 3, 14, 23), "0", at(2025, 3, 14)),
        ("0", at(2025, 3, 14, 23), None, at(2025, 3, 17)),
        ("0", at(2025, 3, 17), "missed", at(2025, 3, 17)),
        ("missed", at(2025, 3, 17), None, None),
        # Down for weeks.
        ("3", at(2025, 5, 1), None, None),
    ],
)
def test_what_waits_is_looked_at_when_its_next_rung_comes(
    told: str | None, now: datetime, due: str | None, next_: datetime | None
) -> None:
    one = waits(date(2025, 3, 7), date(2025, 3, 14), told=told)
    rung = come(one, CALENDAR, now)
    assert (rung.key if rung else None) == due
    assert next_at([one], CALENDAR, now) == next_


@pytest.mark.parametrize(
    ("now", "due", "next_"),
    [
        # Due on the 28th of September, a Sunday that is worked; down on Friday, up on Saturday the 27th.
        (at(2025, 9, 27, 12), None, at(2025, 9, 28)),
        (at(2025, 9, 28, 3), None, at(2025, 9, 28)),
        (at(2025, 9, 28), "0", at(2025, 9, 28)),
    ],
)
def test_what_a_start_finds_late_waits_for_a_working_morning(
    now: datetime, due: str | None, next_: datetime
) -> None:
    one = waits(date(2025, 9, 20), date(2025, 9, 28))
    rung = come(one, CALENDAR, now)
    assert (rung.key if rung else None) == due
    assert next_at([one], CALENDAR, now) == next_


def test_of_several_the_first_that_comes_is_looked_at() -> None:
    report = waits(date(2024, 6, 10), date(2025, 2, 28), "DL-06")
    change = waits(date(2025, 1, 7), date(2025, 2, 6), "DL-09")
    now = at(2025, 1, 8)
    assert next_at([report, change], CALENDAR, now) == min(
        r.at for r in (*report.rungs(CALENDAR), *change.rungs(CALENDAR)) if r.at > now
    )
    assert next_at([], CALENDAR, now) is None


def test_what_a_notice_no_longer_names_is_not_recalled() -> None:
    gone = {"duty": "DL-99", "began": "2025-01-01", "due": "2025-02-28"}
    assert [*occasions(CLUSTERS, "recognised", [gone])] == []
    assert [*occasions(CLUSTERS, "no-such-stage", [{**gone, "duty": None}])] == []
    assert [*occasions(CLUSTERS, "pool", [{**gone, "duty": None}])] == []


def test_a_year_without_an_official_arrangement_is_provisional() -> None:
    assert {r.provisional for r in CORRECTION.rungs(CALENDAR)} == {False}
    far = waits(date(2035, 3, 7), date(2035, 3, 14))
    assert {r.provisional for r in far.rungs(CALENDAR)} == {True}


LADDER = rungs(deadline(date(2025, 3, 7)), CALENDAR)


@pytest.mark.parametrize(
    ("since", "now", "key"),
    [
        (None, at(2025, 2, 5, hour=8), None),
        (None, at(2025, 2, 5), "30"),
        (at(2025, 2, 5), at(2025, 2, 5), None),
        (at(2025, 2, 5), at(2025, 2, 20), None),
        # Down from the 14th to the last day: one mail, not five.
        (at(2025, 2, 14), at(2025, 3, 6, hour=20), "1"),
        (None, at(2025, 3, 7, hour=23), "0"),
        # The day is over: "one day left" would be false, and "missed" waits for Monday.
        (None, at(2025, 3, 8, hour=0), None),
        (None, at(2025, 3, 10, hour=8), None),
        (None, at(2025, 3, 10), "missed"),
        (at(2025, 3, 10), at(2025, 3, 11), None),
        # Long gone: nobody is scolded for a notice that was loaded late.
        (None, at(2026, 11, 22), None),
    ],
)
def test_what_is_due_is_the_newest_rung_that_has_come(
    since: datetime | None, now: datetime, key: str | None
) -> None:
    found = due_now(LADDER, since, now)
    assert (found.key if found else None) == key


days = st.dates(date(2024, 1, 1), date(2028, 12, 31))
ladders = st.builds(
    Ladder,
    days_before=st.lists(st.integers(1, 200), min_size=1, max_size=6, unique=True).map(tuple),
    on_day=st.booleans(),
    missed_after=st.none() | st.integers(1, 10),
)


@given(days, ladders)
def test_every_rung_is_a_working_morning_of_its_own_and_on_the_right_side_of_the_deadline(
    on: date, ladder: Ladder
) -> None:
    found = rungs(deadline(on, ladder), CALENDAR)
    assert len({r.at for r in found}) == len(found)
    assert found == sorted(found, key=lambda r: r.at)
    for rung in found:
        assert CALENDAR.is_working_day(rung.at.date())
        assert rung.at.time() == ladder.at
        assert (rung.at.date() > on) is rung.missed
        assert rung.missed or rung.at.date() <= on - timedelta(days=rung.days_left)


@given(days, ladders, st.lists(st.integers(0, 300 * 24), min_size=1, max_size=40))
def test_however_the_sweeper_runs_each_rung_is_sent_at_most_once_and_in_order(
    on: date, ladder: Ladder, hours: list[int]
) -> None:
    found = rungs(deadline(on, ladder), CALENDAR)
    start = datetime(on.year, on.month, on.day, tzinfo=SHANGHAI) - timedelta(days=220)
    since, sent = None, []
    for hour in sorted(hours):
        rung = due_now(found, since, start + timedelta(hours=hour))
        if rung:
            since = rung.at
            sent.append(rung)
    assert sent == [r for r in found if r in sent]


@given(days, ladders)
def test_a_sweeper_that_never_sleeps_sends_every_rung(on: date, ladder: Ladder) -> None:
    found = rungs(deadline(on, ladder), CALENDAR)
    assert [due_now(found, None, rung.at) for rung in found] == found
    assert due_now(found, None, at(on.year + 1, on.month, 1) + NEWS) is None
