"""The calendar: every day against two libraries, and the counting of periods against the spec's vectors.

Deadlines of a notice and reminder ladders are not tested here.
"""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import chinese_calendar
import holidays
import pytest

from shared.notices.calendar import SHANGHAI, Calendar, CalendarError, Due

YEARS = range(2004, 2027)
ALL_DAYS = [date(2004, 1, 1) + timedelta(days=n) for n in range((date(2027, 1, 1) - date(2004, 1, 1)).days)]

# 国办发明电〔2005〕35号·一 has people work on this Saturday; chinesecalendar missed it, we follow the paper.
MISSED_BY_CHINESECALENDAR = date(2005, 12, 31)


@pytest.fixture(scope="module")
def calendar() -> Calendar:
    return Calendar.load()


def mount(folder: Path, year: int, *days: tuple[str, bool], **more: object) -> Path:
    listed = [{"name": "假期", "date": day, "isOffDay": off} for day, off in days]
    (folder / f"{year}.json").write_text(json.dumps({"year": year, "papers": [], "days": listed, **more}))
    return folder


def test_every_day_agrees_with_chinesecalendar_save_one(calendar: Calendar) -> None:
    differing = [d for d in ALL_DAYS if calendar.is_working_day(d) != chinese_calendar.is_workday(d)]
    assert differing == [MISSED_BY_CHINESECALENDAR]


def test_every_day_agrees_with_holidays(calendar: Calendar) -> None:
    # Before 2004 there is nothing to compare with: our data begins there, and so does chinesecalendar.
    china = holidays.country_holidays("CN", years=YEARS)
    assert [d for d in ALL_DAYS if calendar.is_working_day(d) != china.is_working_day(d)] == []


def test_packaged_years_are_official_and_no_others(calendar: Calendar) -> None:
    assert [y for y in range(1990, 2050) if not calendar.provisional(date(y, 6, 30))] == list(YEARS)


@pytest.mark.parametrize("year", [2025, 2026])
def test_working_days_of_a_year(calendar: Calendar, year: int) -> None:
    assert sum(calendar.is_working_day(day) for day in ALL_DAYS if day.year == year) == 248


@pytest.mark.parametrize(
    ("published", "seventh"),
    [
        pytest.param(date(2025, 4, 28), date(2025, 5, 12), id="T-WD-01 Labour Day"),
        pytest.param(date(2026, 2, 12), date(2026, 2, 28), id="T-WD-03 make-up days count"),
        pytest.param(date(2025, 1, 22), date(2025, 2, 7), id="T-WD-04 make-up Sunday counts"),
        pytest.param(date(2025, 2, 21), date(2025, 3, 4), id="T-WD-06 no holiday"),
        pytest.param(date(2025, 9, 26), date(2025, 10, 13), id="two make-up days, eight days off"),
        pytest.param(date(2025, 3, 1), date(2025, 3, 11), id="published on a Saturday"),
    ],
)
def test_add_working_days_does_not_count_the_start(
    calendar: Calendar, published: date, seventh: date
) -> None:
    assert calendar.add_working_days(published, 7) == Due(seventh, provisional=False)


def test_add_working_days_none_is_the_start_itself(calendar: Calendar) -> None:
    assert calendar.add_working_days(date(2025, 5, 1), 0) == Due(date(2025, 5, 1), provisional=False)


def test_add_working_days_refuses_to_count_backwards(calendar: Calendar) -> None:
    with pytest.raises(ValueError, match="forwards"):
        calendar.add_working_days(date(2025, 5, 1), -1)


@pytest.mark.parametrize(
    ("start", "n", "due"),
    [
        pytest.param(
            date(2026, 12, 30), 1, Due(date(2026, 12, 31), provisional=False), id="ends before 2027"
        ),
        pytest.param(
            date(2026, 12, 30), 2, Due(date(2027, 1, 4), provisional=True), id="T-WD-07 reaches 2027"
        ),
        pytest.param(date(2003, 12, 31), 1, Due(date(2004, 1, 2), provisional=False), id="start not counted"),
        pytest.param(date(2003, 12, 30), 2, Due(date(2004, 1, 2), provisional=True), id="through 2003"),
    ],
)
def test_add_working_days_is_provisional_if_it_counts_in_such_a_year(
    calendar: Calendar, start: date, n: int, due: Due
) -> None:
    assert calendar.add_working_days(start, n) == due


def test_unpublished_year_rests_on_weekends_and_fixed_holidays_only(calendar: Calendar) -> None:
    year = [date(2030, 1, 1) + timedelta(days=n) for n in range(365)]
    resting = {day for day in year if not calendar.is_working_day(day)}
    fixed = {date(2030, 1, 1), *(date(2030, 5, d) for d in (1, 2)), *(date(2030, 10, d) for d in (1, 2, 3))}
    assert resting == {day for day in year if day.weekday() >= 5} | fixed


@pytest.mark.parametrize(
    ("day", "before", "after"),
    [
        pytest.param(date(2025, 3, 7), date(2025, 3, 7), date(2025, 3, 7), id="working day stays"),
        pytest.param(date(2025, 1, 26), date(2025, 1, 26), date(2025, 1, 26), id="make-up Sunday stays"),
        pytest.param(date(2025, 3, 8), date(2025, 3, 7), date(2025, 3, 10), id="Saturday"),
        pytest.param(date(2025, 10, 4), date(2025, 9, 30), date(2025, 10, 9), id="National Day week"),
        pytest.param(
            date(2018, 12, 31), date(2018, 12, 29), date(2019, 1, 2), id="ordered by next year's paper"
        ),
    ],
)
def test_previous_and_next_working_day(calendar: Calendar, day: date, before: date, after: date) -> None:
    assert calendar.previous_working_day(day) == Due(before, provisional=False)
    assert calendar.next_working_day(day) == Due(after, provisional=False)


def test_previous_working_day_is_provisional_if_it_began_in_such_a_year(calendar: Calendar) -> None:
    assert calendar.previous_working_day(date(2027, 1, 1)) == Due(date(2026, 12, 31), provisional=True)


@pytest.mark.parametrize(
    ("start", "period", "end"),
    [
        pytest.param(
            date(2025, 6, 10), {"years": 3}, date(2028, 6, 10), id="AMB-07c, a Saturday, not shifted"
        ),
        pytest.param(date(2024, 2, 29), {"years": 1}, date(2025, 2, 28), id="leap day into a common year"),
        pytest.param(date(2024, 2, 29), {"years": 4}, date(2028, 2, 29), id="leap day to leap day"),
        pytest.param(
            date(2025, 2, 28), {"years": 3}, date(2028, 2, 28), id="corresponding day, not month end"
        ),
        pytest.param(date(2025, 1, 31), {"months": 1}, date(2025, 2, 28), id="month end"),
        pytest.param(date(2024, 1, 31), {"months": 1}, date(2024, 2, 29), id="month end of a leap year"),
        pytest.param(date(2025, 3, 31), {"months": 8}, date(2025, 11, 30), id="thirty days"),
        pytest.param(date(2025, 11, 30), {"months": 1}, date(2025, 12, 30), id="into December"),
        pytest.param(date(2025, 12, 15), {"months": 1}, date(2026, 1, 15), id="over the year"),
        pytest.param(date(2025, 1, 31), {"years": 1, "months": 13}, date(2027, 2, 28), id="both"),
        pytest.param(date(2025, 2, 27), {"days": 30}, date(2025, 3, 29), id="days, start not counted"),
    ],
)
def test_add_period_ends_on_the_corresponding_day(start: date, period: dict[str, int], end: date) -> None:
    assert Calendar.add_period(start, **period) == end


@pytest.mark.parametrize(
    ("start", "period", "due"),
    [
        pytest.param(
            date(2025, 2, 8), {"months": 1}, Due(date(2025, 3, 10), provisional=False), id="Saturday"
        ),
        pytest.param(date(2025, 9, 1), {"days": 30}, Due(date(2025, 10, 9), provisional=False), id="holiday"),
        pytest.param(
            date(2025, 8, 28), {"months": 1}, Due(date(2025, 9, 28), provisional=False), id="make-up"
        ),
        pytest.param(date(2025, 2, 7), {"months": 1}, Due(date(2025, 3, 7), provisional=False), id="worked"),
        pytest.param(date(2025, 6, 10), {"years": 3}, Due(date(2028, 6, 12), provisional=True), id="2028"),
    ],
)
def test_period_end_moves_to_the_next_working_day(
    calendar: Calendar, start: date, period: dict[str, int], due: Due
) -> None:
    assert calendar.period_end(start, **period) == due


def test_a_datetime_is_not_a_day(calendar: Calendar) -> None:
    with pytest.raises(TypeError, match="Shanghai"):
        calendar.is_working_day(datetime(2025, 5, 1, tzinfo=SHANGHAI))


def test_shanghai_is_eight_hours_ahead() -> None:
    assert datetime(2025, 3, 6, 16, tzinfo=UTC).astimezone(SHANGHAI).date() == date(2025, 3, 7)


def test_mounted_official_year_ends_the_provisional_state(calendar: Calendar, tmp_path: Path) -> None:
    # An invented arrangement; the last day of 2026 is made a rest day by the paper of 2027.
    mount(tmp_path, 2027, ("2026-12-31", True), ("2027-01-01", True), ("2027-01-02", False))
    loaded = Calendar.load(tmp_path)
    assert calendar.add_working_days(date(2026, 12, 30), 1) == Due(date(2026, 12, 31), provisional=False)
    assert loaded.add_working_days(date(2026, 12, 30), 1) == Due(date(2027, 1, 2), provisional=False)


def test_later_paper_has_the_last_word_on_december(tmp_path: Path) -> None:
    mount(tmp_path, 2026, ("2026-12-31", False))
    mount(tmp_path, 2027, ("2026-12-31", True))
    assert not Calendar.load(tmp_path).is_working_day(date(2026, 12, 31))


def test_mounted_year_replaces_the_packaged_one_whole(tmp_path: Path) -> None:
    loaded = Calendar.load(mount(tmp_path, 2025, ("2025-03-03", True)))
    assert not loaded.is_working_day(date(2025, 3, 3))
    assert loaded.is_working_day(date(2025, 10, 1))
    assert not loaded.is_working_day(date(2024, 10, 1))


def test_empty_file_of_the_coming_year_leaves_it_provisional(tmp_path: Path) -> None:
    # holiday-cn publishes such a file months before the paper.
    loaded = Calendar.load(mount(tmp_path, 2027))
    assert loaded.provisional(date(2027, 6, 1))
    assert not loaded.is_working_day(date(2027, 10, 1))


def test_days_of_a_provisional_file_are_used_and_stay_provisional(tmp_path: Path) -> None:
    loaded = Calendar.load(mount(tmp_path, 2027, ("2027-02-08", True), status="provisional"))
    assert loaded.next_working_day(date(2027, 2, 8)) == Due(date(2027, 2, 9), provisional=True)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("2027.json", "{", "2027.json：不是有效的 JSON（EOF while parsing an object at line 1 column 1）"),
        ("2027.json", "[]", "2027.json：内容 无效：[]"),
        ("2027.json", '{"year": 2027}', "2027.json：缺少 days"),
        ("2027.json", '{"year": 2028, "days": []}', "2027.json：year 为 2028，与文件名不符"),
        ("二七.json", '{"year": 2027, "days": []}', "二七.json：year 为 2027，与文件名不符"),
        ("2027.json", '{"year": 2027, "status": "draft", "days": []}', "2027.json：status 无效：'draft'"),
        (
            "2027.json",
            '{"year": 2027, "status": "official", "days": []}',
            "2027.json：status 为 official，但没有任何日期",
        ),
        (
            "2027.json",
            '{"year": 2027, "days": [{"name": "元旦", "date": "2027-13-01", "isOffDay": true}]}',
            "2027.json：days.0.date 无效：'2027-13-01'",
        ),
        (
            "2027.json",
            '{"year": 2027, "days": [{"name": "元旦", "date": "2027-01-01"}]}',
            "2027.json：缺少 days.0.isOffDay",
        ),
        (
            "2027.json",
            '{"year": 2027, "days": [{"name": "国庆节", "date": "2026-10-01", "isOffDay": true}]}',
            "2027.json：2026-10-01 不属于2027年的安排",
        ),
        (
            "2027.json",
            '{"year": 2027, "days": [{"name": "元旦", "date": "2027-01-01", "isOffDay": true},'
            ' {"name": "元旦", "date": "2027-01-01", "isOffDay": false}]}',
            "2027.json：2027-01-01 重复",
        ),
    ],
)
def test_bad_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(CalendarError) as caught:
        Calendar.load(tmp_path)
    assert str(caught.value) == message


def test_missing_mount_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CalendarError, match="不是目录"):
        Calendar.load(tmp_path / "absent")
