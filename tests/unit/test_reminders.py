"""Reminder ladders: on working mornings only, each once, and after an outage only the newest."""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notify.reminders import NEWS, SHANGHAI, Rung, correction_rungs, due_now, rungs
from shared.notices.calendar import Calendar
from shared.notices.model import Deadline, Ladder

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


def test_a_deadline_without_a_ladder_is_never_recalled() -> None:
    assert rungs(deadline(date(2025, 3, 7), None), CALENDAR) == []


def test_a_returned_case_is_recalled_three_days_and_one_day_before_and_on_the_day() -> None:
    assert told(correction_rungs(date(2025, 3, 14), CALENDAR)) == [
        ("3", at(2025, 3, 11)),
        ("1", at(2025, 3, 13)),
        ("0", at(2025, 3, 14)),
    ]


def test_a_year_without_an_official_arrangement_is_provisional() -> None:
    assert {r.provisional for r in correction_rungs(date(2025, 3, 14), CALENDAR)} == {False}
    assert {r.provisional for r in correction_rungs(date(2035, 3, 14), CALENDAR)} == {True}


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
    days_before=st.lists(st.integers(1, 200), max_size=6).map(tuple),
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
