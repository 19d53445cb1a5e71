"""What a mail is, read by parsers that have nothing to do with what wrote it: the Rust parser `mailparse` for mails,
vobject for calendar files."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.headerregistry import Address
from typing import Any

import icalendar
import pytest
import vobject
from fast_mail_parser import PyMail, parse_email
from pydantic import ValidationError

from services.notify import dates
from services.notify.compose import compose
from services.notify.owed import Attached, Owed
from services.notify.quotes import keep, settled, stamped
from services.notify.samples import SHA256, Sample, samples
from services.notify.templates import Letters
from shared.notices.directory import Directory
from shared.notices.load import load_all
from shared.runtime.settings import Settings

PACKAGED = Letters.load()
ALL = samples({id_: compiled.notice for id_, compiled in load_all().items()}, Directory.load())
SENDER = Address("广州市工业和信息化局", "no-reply", "gz.example")
DOMAIN = "mail.gz.example"
CONTENT = b"PK\x03\x04 \xff\x00 workbook"


def raw(sample: Sample, **more: Any) -> bytes:
    known: dict[str, Any] = {"letters": PACKAGED, "message_id_domain": DOMAIN, "sender": SENDER}
    files = {SHA256: CONTENT}
    return compose(sample.owed, **{**known, "date": sample.at, "files": files, **more}).as_bytes()


def parsed(sample: Sample, **more: Any) -> PyMail:
    return parse_email(raw(sample, **more))


def of(letter: str) -> Sample:
    return next(s for s in ALL if s.owed.letter == letter)


def named(sample: Sample, name: str) -> Sample:
    return replace(sample, owed=replace(sample.owed, attachments=(Attached(SHA256, name),)))


def of_mail(mail: PyMail) -> dict[str, str]:
    """Its headers, of which none may come twice."""
    assert [values for values in mail.headers.values() if len(values) != 1] == []
    return {key.lower(): value for key, (value,) in mail.headers.items()}


# ---- the mail


@pytest.mark.parametrize("sample", ALL, ids=[f"{i}-{s.owed.letter}" for i, s in enumerate(ALL)])
def test_another_parser_reads_the_whole_mail(sample: Sample) -> None:
    mail = parsed(sample)
    headers = of_mail(mail)
    assert re.fullmatch("〔.+?〕.+", mail.subject)
    assert headers["from"] == "广州市工业和信息化局 <no-reply@gz.example>"
    assert headers["to"] == f"{sample.owed.to_name} <{sample.owed.address}>"
    assert headers["message-id"] == f"<m-{sample.owed.mail}@{DOMAIN}>"
    assert headers.get("references") == (f"<case-{sample.owed.case}@{DOMAIN}>" if sample.owed.case else None)
    assert (headers["auto-submitted"], headers["precedence"]) == ("auto-generated", "bulk")
    assert headers["content-language"] == "zh-CN"
    assert not re.search(rb"^[\w-]+:[ \t]*\r\n", raw(sample), re.MULTILINE), (
        "a header that begins with nothing"
    )
    (text,), (page,) = mail.text_plain, mail.text_html
    assert f"{sample.owed.to_name}：" in text
    assert '<html lang="zh-CN"' in page
    assert len(mail.attachments) == len(sample.owed.attachments) + len(calendars(mail))


NAMES = [
    "附件3 服务活动清单（已标注）.xlsx",
    "附件10-1《市级机构（平台）》名单、说明及“补充”材料汇总表（2025年第一季度）第二次报送修改稿.docx",
    "䶮㛃𠮷.pdf",
    "plain name.xlsx",
    "100%+1 & more; really.pdf",
]


@pytest.mark.parametrize("name", NAMES)
def test_an_attachment_arrives_with_its_name_and_every_byte(name: str) -> None:
    mail = parsed(named(of("judged"), name))
    ours = mail.attachments[0]
    assert ours.content == CONTENT
    # Of the two ways in which the name is written, QQ Mail and Foxmail read `name`, Outlook either.
    content = raw(named(of("judged"), name)).decode("ascii")
    assert re.search(r"filename\*=utf-8''[\w%.-]+", content)
    assert ours.filename == name


def test_a_name_written_once_would_not_be_enough() -> None:
    """The negative control: this parser finds no name where there is neither form of it."""
    content = raw(named(of("judged"), "清单.xlsx"))
    bare = re.sub(rb";\r\n (file)?name\*?=[^\r]*", b"", content)
    assert parse_email(bare).attachments[0].filename != "清单.xlsx"


def test_answers_go_to_a_mailbox_that_is_read() -> None:
    assert "reply-to" not in of_mail(parsed(of("returned")))
    assert of_mail(parsed(of("returned"), reply_to="office@gz.example"))["reply-to"] == "office@gz.example"


LISTED = {"list-id", "list-unsubscribe", "list-unsubscribe-post"}


def listing(sample: Sample, **more: Any) -> dict[str, str]:
    return {key: value for key, value in of_mail(parsed(sample, **more)).items() if key in LISTED}


@pytest.mark.parametrize("sample", ALL, ids=[f"{i}-{s.owed.letter}" for i, s in enumerate(ALL)])
def test_what_is_owed_by_law_cannot_be_unsubscribed_from(sample: Sample) -> None:
    assert listing(sample, unsubscribe="https://yiqi.gz.example/u") == {}


def test_what_is_optional_can() -> None:
    """No letter is optional today: this is the negative control of the test above."""
    news = replace(PACKAGED, optional=frozenset({"daily"}))
    sample = of("daily")
    mail = sample.owed.mail
    assert listing(sample, letters=news) == {}, "nowhere to unsubscribe"
    assert listing(sample, letters=news, unsubscribe="https://yiqi.gz.example/u") == {
        "list-id": f"<daily.{DOMAIN}>",
        "list-unsubscribe": f"<https://yiqi.gz.example/u?mail={mail}>",
        "list-unsubscribe-post": "List-Unsubscribe=One-Click",
    }
    assert listing(sample, letters=news, unsubscribe="office@gz.example") == {
        "list-id": f"<daily.{DOMAIN}>",
        "list-unsubscribe": f"<mailto:office@gz.example?subject={mail}>",
    }
    assert listing(of("returned"), letters=news, unsubscribe="office@gz.example") == {}


@pytest.mark.parametrize(
    "evil", ["a@b.example, c@d.example", "a@b.example\r\nBcc: c@d.example", "a b", "<a@b.example>", ""]
)
def test_a_service_does_not_start_with_an_address_that_is_more_than_one(evil: str) -> None:
    for name in ("mail_reply_to", "mail_unsubscribe"):
        with pytest.raises(ValidationError):
            Settings.model_validate({name: evil})
    with pytest.raises(ValidationError):
        Settings(mail_unsubscribe=f"https://yiqi.gz.example/{evil}>" if evil else "http://yiqi.gz.example")
    Settings(mail_reply_to="a.b+c@gz.example", mail_unsubscribe="https://yiqi.gz.example/u?x=1")


# ---- its calendar files


def calendars(mail: PyMail) -> list[tuple[str, str]]:
    """Method and content of each, as they were sent."""
    found = [a for a in mail.attachments if a.mimetype == "text/calendar"]
    return [(re.findall(rb"METHOD:(\w+)", a.content)[0].decode(), a.content.decode()) for a in found]


def events(sample: Sample, **more: Any) -> list[Any]:
    """As vobject reads them."""
    return [
        event for _, text in calendars(parsed(sample, **more)) for event in vobject.readOne(text).vevent_list
    ]


WITH_DATE = [s for s in ALL if s.owed.params["dates"]]


def test_letters_with_a_date_to_keep_carry_it() -> None:
    told = {s.owed.letter for s in ALL if s.owed.params["due"] and not s.owed.params["dates"]}
    # Missed: there is nothing left to note down.
    assert told == {"duty_missed"}
    carried = {s.owed.letter for s in ALL if calendars(parsed(s))}
    assert {"deadline", "june_activity", "returned", "hearing", "published", "accepted"} <= carried
    assert (
        carried & {"rejected", "revoked", "selected", "not_selected", "proposed", "renewed", "daily"} == set()
    )


@pytest.mark.parametrize("sample", WITH_DATE, ids=[f"{i}-{s.owed.letter}" for i, s in enumerate(WITH_DATE)])
def test_two_readers_agree_on_a_calendar_file(sample: Sample) -> None:
    for method, text in calendars(parsed(sample)):
        lines = text.encode().split(b"\r\n")
        assert max(map(len, lines)) <= 75
        assert [line for line in lines if b"\n" in line] == []
        # The fold is between characters: every line by itself is UTF-8.
        assert all(line.decode() is not None for line in lines)
        mine, theirs = icalendar.Calendar.from_ical(text), vobject.readOne(text)
        assert (str(mine["METHOD"]), theirs.method.value) == (method, method)
        entries = [e for e in sample.owed.params["dates"] if (e["date"] is None) == (method == "CANCEL")]
        assert len(mine.walk("VEVENT")) == len(theirs.vevent_list) <= len(entries)
        for one, other in zip(mine.walk("VEVENT"), theirs.vevent_list, strict=True):
            assert str(one["UID"]) == other.uid.value
            assert str(one["SUMMARY"]) == other.summary.value
            assert one.decoded("SEQUENCE") == int(other.sequence.value)
            assert other.organizer.value == "mailto:no-reply@gz.example"
            if method == "CANCEL":
                assert other.status.value == "CANCELLED"
                continue
            first, last = one.decoded("DTSTART"), one.decoded("DTEND")
            assert (type(first), first, last) == (date, other.dtstart.value, other.dtend.value)
            assert (last - timedelta(days=1)).isoformat() in {e["date"] for e in entries}
            assert other.transp.value == "TRANSPARENT"
            assert [alarm.trigger.value for alarm in other.valarm_list] == [timedelta(hours=-15)]
            assert re.search("如有疑问，请联系.+。", other.description.value)


LONG = "征集“数字化转型”服务产品，逗号,分号;反斜杠\\与换行" * 8


def dated(*entries: dict[str, Any], to: str = "gzqyfw", at: datetime | None = None) -> list[dates.File]:
    sample = of("returned")
    owed = replace(sample.owed, to=to, params={**sample.owed.params, "dates": list(entries)})
    return dates.files(owed, owed.params, at or datetime(2025, 3, 4, 1, tzinfo=UTC), SENDER, DOMAIN)


def said(day: int, *entries: dict[str, Any], **more: Any) -> list[dates.File]:
    """On an occasion of that day, though all are written at one moment."""
    told = stamped({"dates": list(entries)}, datetime(2025, 3, day, tzinfo=UTC))
    return dated(*told["dates"], **more)


def due(day: str, **more: Any) -> dict[str, Any]:
    return {"date": day, "from": None, "at": None, **more}


def test_chinese_text_and_marks_survive_folding() -> None:
    (file,) = dated(keep(LONG, due("2025-03-07"), "case", 1, "s"))
    assert vobject.readOne(file.content.decode()).vevent.summary.value == LONG
    (event,) = icalendar.Calendar.from_ical(file.content).walk("VEVENT")
    assert str(event["SUMMARY"]) == LONG


def test_a_moved_date_replaces_the_one_before_and_a_settled_one_takes_it_away() -> None:
    """As a reader's calendar does it: by UID, the higher sequence wins, and with one sequence the later stamp."""
    about = ("case", "6f1a", "correction")
    letters = [
        said(3, keep("补正", due("2025-03-07"), *about)),
        said(5, keep("补正", due("2025-03-14"), *about)),
        said(6, settled("补正", *about)),
    ]

    def shown(told: list[list[dates.File]]) -> list[date]:
        known: dict[str, tuple[int, str, Any]] = {}
        for file in (f for files in told for f in files):
            event = vobject.readOne(file.content.decode()).vevent
            new = (int(event.sequence.value), file.method, event)
            known[event.uid.value] = max(known.get(event.uid.value, new), new, key=lambda k: k[0])
        return [event.dtstart.value for _, method, event in known.values() if method == "PUBLISH"]

    assert shown(letters[:1]) == [date(2025, 3, 7)]
    assert shown(letters[:2]) == shown([letters[1], letters[0]]) == [date(2025, 3, 14)]
    assert shown(letters) == []
    # Negative controls: of another stage, or told to another reader, it is another date.
    other = said(6, settled("补正", "case", "6f1a", "hearing"))
    assert shown([*letters[:2], other]) == [date(2025, 3, 14)]
    assert shown([*letters[:2], said(6, settled("补正", *about), to="440106")]) == [date(2025, 3, 14)]


def test_a_date_of_a_notice_that_moves_to_an_earlier_day_still_wins() -> None:
    about = ("deadline", "gz", "DL-01")
    one, two = (
        vobject.readOne(
            dated(keep("报送截止", due(day), *about), at=datetime(2025, 3, d, 1, tzinfo=UTC))[
                0
            ].content.decode()
        ).vevent
        for d, day in ((3, "2025-03-20"), (4, "2025-03-10"))
    )
    assert one.uid.value == two.uid.value
    assert int(one.sequence.value) < int(two.sequence.value) < 2**31


def test_of_a_range_of_days_all_are_marked_and_a_printed_hour_is_told() -> None:
    (file,) = dated(keep("活动", due("2025-06-30", **{"from": "2025-06-01"}), "x"))
    event = vobject.readOne(file.content.decode()).vevent
    assert (event.dtstart.value, event.dtend.value) == (date(2025, 6, 1), date(2025, 7, 1))
    (file,) = dated(keep("报送", due("2025-06-18", at="17:00"), "x"))
    assert vobject.readOne(file.content.decode()).vevent.summary.value == "报送（17时前）"


def test_what_is_over_is_not_noted_down() -> None:
    assert dated(keep("报送", due("2025-03-03"), "x")) == []
    assert [f.method for f in dated(keep("报送", due("2025-03-04"), "x"))] == ["PUBLISH"]
    # In Guangzhou it is the 5th already.
    late = datetime(2025, 3, 4, 16, 30, tzinfo=UTC)
    assert dated(keep("报送", due("2025-03-04"), "x"), at=late) == []


def test_one_letter_may_set_a_date_and_take_another_away() -> None:
    files = dated(keep("新", due("2025-03-07"), "a"), settled("旧", "b"))
    assert [(f.method, f.name) for f in files] == [("PUBLISH", "期限.ics"), ("CANCEL", "取消期限.ics")]


def test_the_letter_that_answers_a_correction_takes_its_date_away() -> None:
    def about(owed: Owed) -> list[tuple[str, bool]]:
        return [(one["about"].rpartition("/")[2], one["date"] is None) for one in owed.params["dates"]]

    answered = [about(s.owed) for s in ALL if s.owed.letter == "accepted" and s.owed.params["dates"]]
    assert [("correction", True)] in answered
    assert next(about(s.owed) for s in ALL if s.owed.letter == "returned")[0][1] is False
    filed = [s.owed for s in ALL if s.owed.letter == "judged" and not s.owed.params["due"]]
    for owed in filed:
        assert all(over for _, over in about(owed))
