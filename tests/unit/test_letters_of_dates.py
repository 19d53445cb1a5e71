"""Reminders of what cases wait for: to whom, which letter, and what it says of the day."""

from datetime import UTC, date, datetime
from email.headerregistry import Address
from typing import Any
from uuid import UUID

import pytest

from services.notify.compose import compose
from services.notify.owed import Owed, letters_of_case, letters_of_occasion
from services.notify.reminders import occasions
from services.notify.templates import Letters
from shared.contracts.case import Awaited, CaseAdvanced, CaseChanged, CasePublished
from shared.contracts.types import Party
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.directory import Directory
from shared.notices.load import load_all

NOTICES = {id_: one.notice for id_, one in load_all().items()}
DIRECTORY = Directory.load()
PACKAGED = Letters.load()
CALENDAR = Calendar.load()
CASE = UUID("6f1ad64e-6a3b-5d0f-9d0c-1e5b2c7a4f10")
APPLICANT = Party(code="k6-park", kind="K6", name="天河软件园运营公司", email="park@th.example")
PUBLISHED = date(2025, 6, 10)


def at(stage: str, notice: str = "gz-clusters", **fields: Any) -> CaseChanged:
    known = {
        "case": CASE,
        "number": "F15-1DN7R7HF",
        "version": 7,
        "notice": notice,
        "form": "F12" if "stations" in notice else "F15",
        "stage": stage,
        "outcome": "publish",
        "actor": "440100",
        "filer": APPLICANT
        if "stations" in notice
        else Party(code="440106", kind="K2", name="天河区商务金融局"),
        "recommender": "440106",
        "unit": "440106",
        "district": "440106",
        "title": "天河区软件和信息服务产业集群",
        "late": False,
        "reason": "符合要求",
    }
    return CaseAdvanced(**{**known, **fields})


def recalled(change: CaseChanged, rung: str, **waits: Any) -> list[Owed]:
    awaited = Awaited(**{"began": PUBLISHED, **waits}).model_dump(mode="json")
    notice = NOTICES[change.notice]
    (one,) = occasions(notice, change.stage, [awaited])
    (found,) = (r for r in one.rungs(CALENDAR) if r.key == rung)
    return letters_of_occasion(notice, change, one, found, DIRECTORY, CALENDAR)


REPORT = recalled(at("recognised"), "30", duty="DL-06", period="2025", due=date(2026, 2, 28))
VALIDITY = recalled(at("recognised"), "90", due=date(2028, 6, 10))
PUBLIC = recalled(at("public_notice"), "1", began=date(2025, 5, 29), due=date(2025, 6, 10))
COMPACT = recalled(at("compact", "gz-stations-2019"), "7", due=date(2025, 7, 10))
SUMMARY = recalled(at("active", "gz-stations-2019"), "1", duty="DL-14", period="2025", due=date(2025, 12, 31))
OVERDUE = recalled(
    at("recommendation", "gz-stations-2019"), "missed", began=date(2019, 6, 10), due=date(2019, 6, 21)
)
SAMPLES = [*REPORT, *VALIDITY, *PUBLIC, *COMPACT, *SUMMARY, *OVERDUE]


def text(owed: Owed, now: datetime) -> str:
    sender = Address("益企服务平台", addr_spec="yiqi@gz.example")
    message = compose(
        Owed(
            owed.key,
            owed.letter,
            owed.to,
            owed.to_name,
            owed.address or "a@b.example",
            owed.params,
            owed.case,
        ),
        letters=PACKAGED,
        message_id_domain="gz.example",
        sender=sender,
        date=now,
    )
    part = message.get_body(("plain",))
    assert part is not None
    return f"{message['Subject']}\n{part.get_content()}"


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        # The district files for its cluster: one mail, though it plays two parts.
        (REPORT, [("duty_due", "440106", "morning")]),
        (VALIDITY, [("expiring", "440106", "morning"), ("expiring", "440100", "morning")]),
        (PUBLIC, [("expiring", "440100", "morning")]),
        (COMPACT, [("deadline", "k6-park", "morning")]),
        (SUMMARY, [("duty_due", "k6-park", "morning"), ("duty_due", "cyyqsh", "morning")]),
        (OVERDUE, [("deadline", "440106", "morning")]),
    ],
)
def test_who_is_reminded_is_what_the_notice_says(
    letters: list[Owed], expected: list[tuple[str, str, str]]
) -> None:
    assert [(o.letter, o.to, o.when) for o in letters] == expected


def test_a_duty_is_recalled_with_its_form_and_whom_it_binds() -> None:
    now = datetime(2026, 1, 29, 9, tzinfo=SHANGHAI)
    said = text(REPORT[0], now)
    assert "贵单位应为本项目报送的“集群年度培育情况信息表”（2025年）：还有30天" in said
    assert "2026年2月28日（星期六）截止，当日为工作日" not in said
    assert "指引 4.2〔DL-06〕" in said
    head = text(SUMMARY[1], datetime(2025, 12, 30, 9, tzinfo=SHANGHAI))
    assert "天河软件园运营公司应为本项目报送的" in head
    assert "请督促报送单位按期报送" in head


def test_an_expiry_tells_what_follows_and_from_when_to_ask() -> None:
    said = text(VALIDITY[0], datetime(2028, 3, 12, 9, tzinfo=SHANGHAI))
    assert "“市级集群（有效期内）”还有90天期满" in said
    assert "转入“撤销审定”阶段" in said
    assert "请在期满之前办理“申请复核”（自2027年12月13日起办理）" in said
    assert "请督促报送单位在期满之前办理" in text(VALIDITY[1], datetime(2028, 3, 12, 9, tzinfo=SHANGHAI))


def test_a_stage_that_is_overdue_is_told_to_who_must_decide_and_nobody_else() -> None:
    said = text(OVERDUE[0], datetime(2019, 6, 24, 9, tzinfo=SHANGHAI))
    assert "初审与推荐上报（F15-1DN7R7HF）：已过期3天" in said
    assert "符合要求" not in said, "what was decided before is not theirs to read again"


def test_what_the_notice_itself_brought_in_is_recalled_to_the_district() -> None:
    given = at("automatic", filer=Party(code="440100", kind="city", name="广州市工业和信息化局"))
    (one,) = recalled(given, "7", duty="DL-06", period="2025", due=date(2026, 2, 28))
    assert (one.to, one.params["mine"]) == ("440106", True)


def test_a_mail_of_another_district_is_never_owed() -> None:
    for letter in SAMPLES:
        known = DIRECTORY.find(letter.to)
        assert known is None or known.district in (None, "440106")


def test_a_missed_duty_is_told_on_a_working_day() -> None:
    change = at(
        "active", "gz-stations-2019", outcome="missed", duty="DL-15", period="2025-1", due=date(2025, 3, 31)
    )
    assert [(o.letter, o.when) for o in letters_of_case(NOTICES[change.notice], change, DIRECTORY)] == [
        ("duty_missed", "hours")
    ]
    publish = CasePublished(
        **{**at("recognised").model_dump(exclude={"awaits"}), "item_kind": "title", "values": {}},
        filed=datetime(2025, 3, 1, tzinfo=UTC),
    )
    assert {o.when for o in letters_of_case(NOTICES["gz-clusters"], publish, DIRECTORY)} == {"now"}
