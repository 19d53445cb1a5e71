"""When mails leave, and what the mail of a morning is made of: pure, with the time as an argument."""

from dataclasses import replace
from datetime import date, datetime, time
from typing import Any

import pytest
from pydantic import ValidationError

from services.notify import digest
from services.notify.daily import provisional, reason
from services.notify.hours import WHEN, Hours, alone, when_of
from services.notify.owed import Attached, Owed
from services.notify.quotes import plain
from services.notify.store import Gate
from services.notify.templates import LETTERS
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.load import load_all
from shared.runtime.settings import Settings

CALENDAR = Calendar.load()
HOURS = Hours((time(8, 30), time(18)), CALENDAR)
ANY = Hours(None, CALENDAR)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)


def owed(due: str | None = None, **fields: Any) -> Owed:
    day = {"date": due, "from": None, "at": None, "derived": False, "provisional": False, "rest_day": False}
    params = {**plain("某通知", None, "广州市工业和信息化局", "", "某处"), "notice_id": "n", "name": "某事"}
    known: dict[str, Any] = {
        "key": f"k/{due}/{len(fields)}",
        "letter": "deadline",
        "to": "440106",
        "to_name": "某局",
        "address": "a@th.example",
        "params": {**params, "due": day if due else None},
        "when": "morning",
    }
    return Owed(**{**known, **fields})


# --- hours --------------------------------------------------------------------------------------------


def test_every_letter_has_its_time_with_a_reason() -> None:
    assert set(WHEN) == set(LETTERS)
    assert all(len(why) > 20 for _, why in WHEN.values())


def test_what_the_clock_decides_waits_although_decisions_do_not() -> None:
    assert when_of("revoked", {"by_clock": False}) == "now"
    assert when_of("revoked", {"by_clock": True}) == "hours"
    assert when_of("deadline", {"by_clock": True}) == "morning"


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("2025-03-05T08:29:59", "2025-03-05T08:30"),
        ("2025-03-05T08:30", "2025-03-05T08:30"),
        ("2025-03-05T17:59:59", "2025-03-05T17:59:59"),
        ("2025-03-05T18:00", "2025-03-06T08:30"),
        ("2025-03-07T20:00", "2025-03-10T08:30"),  # over a weekend
        ("2025-01-27T20:00", "2025-02-05T08:30"),  # over Spring Festival, which began the day after
        ("2025-01-26T10:00", "2025-01-26T10:00"),  # a Sunday that is worked
        ("2025-02-07T19:00", "2025-02-08T08:30"),  # a Saturday that is worked
    ],
)
def test_what_can_wait_leaves_within_the_hours_of_working_days(now: str, then: str) -> None:
    assert HOURS.next(at(now)) == at(then)
    assert HOURS.open(at(now)) == (now == then)
    assert ANY.next(at(now)) == at(now)
    assert ANY.open(at(now))


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("2025-03-05T02:00", "2025-03-05T09:00"),
        ("2025-03-05T09:00", "2025-03-05T09:00"),
        ("2025-03-05T14:00", "2025-03-05T14:00"),  # after an outage: today still
        ("2025-03-05T18:00", "2025-03-06T09:00"),
        ("2025-03-07T18:00", "2025-03-10T09:00"),
    ],
)
def test_the_mail_of_the_morning_goes_at_nine_or_late_but_the_same_day(now: str, then: str) -> None:
    assert HOURS.morning(at(now)) == at(then)


def test_the_next_morning_is_another_day() -> None:
    assert HOURS.next_morning(at("2025-03-05T02:00")) == at("2025-03-06T09:00")
    assert HOURS.next_morning(at("2025-03-07T10:00")) == at("2025-03-10T09:00")


def test_hours_that_begin_later_than_nine_begin_the_morning() -> None:
    late = Hours((time(10), time(18)), CALENDAR)
    assert late.morning(at("2025-03-05T09:30")) == at("2025-03-05T10:00")


@pytest.mark.parametrize(("text", "hours"), [("08:30-18:00", (time(8, 30), time(18))), ("", None)])
def test_the_hours_are_a_setting(text: str, hours: tuple[time, time] | None) -> None:
    assert Settings.model_validate({"sending_hours": text}).sending_hours == hours


@pytest.mark.parametrize("text", ["18:00-08:30", "9-17", "08:30", "08:30-18:00-19:00", "always"])
def test_hours_that_are_none_do_not_start_a_service(text: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"sending_hours": text})


# --- how a mail enters the ledger ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("letter", "now", "expected"),
    [
        (owed(when="now"), "2025-03-05T23:00", ("queued", "2025-03-05T23:00")),
        (owed(when="hours"), "2025-03-05T23:00", ("queued", "2025-03-06T08:30")),
        (owed("2025-03-20"), "2025-03-05T23:00", ("gathered", "2025-03-06T09:00")),
        (owed("2025-03-20"), "2025-03-05T09:00", ("gathered", "2025-03-05T09:00")),
        (owed("2025-02-20"), "2025-03-05T09:00", ("gathered", "2025-03-05T09:00")),  # missed long ago
        # Within a day of the morning it would go with: by itself.
        (owed("2025-03-06"), "2025-03-05T09:00", ("queued", "2025-03-05T09:00")),
        (owed("2025-03-07"), "2025-03-05T09:00", ("gathered", "2025-03-05T09:00")),
        (owed("2025-03-10"), "2025-03-07T18:30", ("queued", "2025-03-10T08:30")),  # Friday evening
        (owed("2025-03-08"), "2025-03-07T18:30", ("queued", "2025-03-10T08:30")),  # a Saturday: nothing helps
        (owed(None), "2025-03-05T09:00", ("queued", "2025-03-05T09:00")),  # nothing to be put in order by
        (owed("2025-03-20", attachments=(Attached("a", "b"),)), "2025-03-05T09:00", ("queued", "2025-03-05T09:00")),
        (owed("2025-03-20", hold=True), "2025-03-05T09:00", ("held", "2025-03-05T09:00")),
        (owed("2025-03-20", hold=True, address=None), "2025-03-05T09:00", ("failed", "2025-03-05T09:00")),
        (owed(letter="selected", when="now"), "2025-03-05T09:00", ("held", "2025-03-05T09:00")),
    ],
)  # fmt: skip
def test_a_mail_enters_as_it_may_leave(letter: Owed, now: str, expected: tuple[str, str]) -> None:
    gate = Gate(HOURS, frozenset({"selected"}))
    assert gate.enter(letter, at(now)) == (expected[0], at(expected[1]))


def test_without_hours_everything_goes_at_once_and_by_itself() -> None:
    for when in ("now", "hours", "morning"):
        assert Gate(ANY).enter(owed("2025-03-20", when=when), at("2025-03-08T03:00"))[0] == "queued"


def test_what_has_no_issuer_is_not_held() -> None:
    ours = owed(letter="daily", when="now", params=plain("运维日报", None, "x", "", "y"))
    assert Gate(HOURS, frozenset({"daily"})).enter(ours, at("2025-03-05T09:00"))[0] == "queued"


def test_a_range_is_urgent_by_its_first_day() -> None:
    due = {"date": "2025-06-30", "from": "2025-06-03"}
    assert alone(due, at("2025-06-02T09:00"), at("2025-06-03T09:00"))
    assert not alone(due, at("2025-05-20T09:00"), at("2025-05-20T09:00"))


# --- the mail of the morning --------------------------------------------------------------------------

DAY = date(2025, 3, 5)


def test_a_digest_is_sorted_by_date_and_says_what_all_say() -> None:
    letters = [owed("2025-03-20"), owed("2025-03-11"), owed("2025-03-14")]
    ((one, told),) = digest.digests(DAY, letters)
    assert [o.params["due"]["date"] for o in told] == ["2025-03-11", "2025-03-14", "2025-03-20"]
    assert [i["params"]["due"]["date"] for i in one.params["items"]] == [
        "2025-03-11",
        "2025-03-14",
        "2025-03-20",
    ]
    assert (one.letter, one.to, one.address, one.when) == ("digest", "440106", "a@th.example", "hours")
    assert (one.notice, one.params["issuer"], one.params["ask"]) == ("n", "广州市工业和信息化局", "某处")
    assert one.mail == digest.mail_of(digest.key(DAY, "440106", "a@th.example"))


def test_a_digest_of_two_notices_leaves_open_what_differs() -> None:
    other = owed("2025-03-11")
    other = replace(other, params={**other.params, "ask": "另一处", "notice_id": "m"})
    ((one, _),) = digest.digests(DAY, [owed("2025-03-20"), other])
    assert (one.notice, one.params["ask"]) == ("", "各项所列单位")


def test_none_is_left_out_of_a_long_morning() -> None:
    letters = [owed("2025-03-20", key=f"k/{n}") for n in range(digest.MOST + 1)]
    found = list(digest.digests(DAY, letters))
    assert [len(told) for _, told in found] == [digest.MOST, 1]
    assert len({one.key for one, _ in found}) == 2


def test_the_key_of_a_digest_follows_from_day_agency_and_address_and_quotes_none() -> None:
    keys = {
        digest.key(day, to, address)
        for day in (DAY, date(2025, 3, 6))
        for to in ("440106", "440103")
        for address in ("a@th.example", "b@th.example")
    }
    assert len(keys) == 8
    assert not any("example" in key for key in keys)


# --- the report of the day ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("550 5.1.1 <zhang@th.example>: unknown", "550 5.1.1"),
        ("451 try later zhang@th.example", "451"),
        ("BadAddress", "BadAddress"),
        ("no address", "no address"),
        ("zhang@th.example", "其他"),
        ("zhang", "其他"),
        ("", "其他"),
        (None, "其他"),
    ],
)
def test_a_failure_is_told_by_its_kind_and_never_by_whom_it_concerns(why: str | None, told: str) -> None:
    assert reason(why) == told


def test_years_without_their_calendar_are_told_with_the_notices_that_count_on_them() -> None:
    notice = load_all()["gz-collection-2025q1"].notice
    moved = notice.deadlines[0].model_copy(update={"on": date(2031, 3, 7)})
    later = notice.model_copy(update={"deadlines": (moved,)})
    assert provisional([notice], CALENDAR, DAY) == []
    assert provisional([notice, later], CALENDAR, DAY) == ["2031年：gz-collection-2025q1"]
    assert provisional([], CALENDAR, date(2031, 1, 1)) == ["2031年：发送时间"]
