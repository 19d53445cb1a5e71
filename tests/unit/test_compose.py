"""Letters: which are owed, what they say, and that nothing a person typed can change what the mail is."""

import email.policy
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from email import message_from_bytes
from email.header import decode_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import getaddresses
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest

import services.notify
from services.intake.packages import number_of_case
from services.intake.parse import Judged
from services.notify.address import BadAddress
from services.notify.compose import ForeignSignature, MissingAttachment, Unwritable, compose
from services.notify.daily import Part
from services.notify.digest import digests
from services.notify.owed import (
    Attached,
    Owed,
    crossed,
    letter_of_deadline,
    letters_of_case,
    letters_of_day,
    letters_of_occasion,
    letters_of_package,
    letters_of_refusal,
)
from services.notify.quotes import deadline_basis
from services.notify.reminders import occasions, rungs
from services.notify.templates import LETTERS, Letters
from services.notify.undelivered import Undelivered, letters
from services.notify.words import countdown, day, due
from shared.contracts.case import (
    AuditHeaded,
    CaseAdvanced,
    CaseChanged,
    CaseClosed,
    CaseOpened,
    CasePublished,
    CaseReturned,
    Fix,
)
from shared.contracts.problem import MOST
from shared.contracts.submission import JudgedSheet, PackageJudged, SubmissionRefused
from shared.contracts.types import Finding, Party
from shared.notices.calendar import Calendar
from shared.notices.directory import Agency, Directory
from shared.notices.forms import Row
from shared.notices.load import load, load_all
from shared.notices.model import Notice
from tests.unit import test_letters_of_dates as dates
from tests.unit import test_letters_of_lives as lives

CALENDAR = Calendar.load()
DIRECTORY = Directory.load()
PACKAGED = Letters.load()
FOLDER = Path(services.notify.__path__[0]) / "letters"
ROOT = str(FOLDER.parents[2])
SENDER = Address("广州市工业和信息化局", "no-reply", "gz.example")
AT = datetime(2025, 3, 4, 1, 0, tzinfo=UTC)
DOMAIN = "mail.gz.example"
CASE = UUID("6f1ad64e-6a3b-5d0f-9d0c-1e5b2c7a4f10")

NOTICE = Notice.model_validate(
    {
        "id": "test-2025q1",
        "title": "关于开展2025年第一季度征集工作的通知",
        "issuer": "440100",
        "unit": "服务体系建设处",
        "issued_on": date(2025, 2, 21),
        "clause_name": "征集通知",
        "round": {"year": 2025, "quarter": 1},
        "directions": [{"code": "D01", "label": "政策宣贯", "forms": ("F3",)}],
        "forms": [
            {
                "id": "F3",
                "annex": "附件3",
                "title": "广州市{year}年第{quarter}季度服务活动清单",
                "title_in_notice": "服务活动清单",
                "clause": "附件3",
                "item_kind": "activity",
                "name": ("name",),
                "columns": [{"field": "F3.02", "key": "name", "header": "活动名称"}],
            }
        ],
        "allowed": [{"forms": ("F3",), "kinds": ("K2", "K3")}],
        "rules": [
            {
                "id": "R-COL-019",
                "clause": "征集通知·三",
                "severity": "hard",
                "text": "2025年3月7日（星期五）前报送",
                "enforced_by": "intake",
            },
            {
                "id": "R-COL-040",
                "clause": "系统约定",
                "severity": "soft",
                "text": "同一项目重复报送",
                "derived": True,
                "enforced_by": "intake",
            },
        ],
        "procedure": {
            "start": [
                {"stage": "recommendation", "recommended": True},
                {"stage": "check", "recommended": False},
            ],
            "stages": [
                {
                    "id": "recommendation",
                    "name": "推荐审核",
                    "ref": "ST-COL-2",
                    "clause": "征集通知·三",
                    "actor": "recommender",
                    "within": {"working_days": 5},
                    "outcomes": {
                        "recommend": {"name": "推荐", "to": "check"},
                        "return": {"name": "退回", "to": "correction", "letter": "returned"},
                        "reject": {"name": "不予推荐", "to": "rejected", "letter": "rejected"},
                    },
                },
                {
                    "id": "correction",
                    "name": "补正",
                    "clause": "系统约定",
                    "actor": "filer",
                    "returned": True,
                    "within": {"working_days": 5},
                    "outcomes": {"resubmit": {"name": "重新报送", "to": "recommendation", "by_filing": True}},
                },
                {
                    "id": "check",
                    "name": "形式审查",
                    "ref": "ST-COL-4",
                    "clause": "征集通知·二",
                    "actor": "city",
                    "outcomes": {
                        "accept": {"name": "通过", "to": "selection"},
                        "reject": {"name": "不予受理", "to": "rejected", "letter": "rejected"},
                    },
                },
                {
                    "id": "selection",
                    "name": "择优遴选",
                    "clause": "征集通知·二",
                    "actor": "city",
                    "outcomes": {
                        "select": {
                            "name": "入选",
                            "to": "publication",
                            "letter": "selected",
                            "clause": "征集通知·二·4",
                        },
                        "decline": {"name": "未入选", "to": "declined", "letter": "not_selected"},
                    },
                },
                {
                    "id": "publication",
                    "name": "发布推介",
                    "clause": "征集通知·二·4",
                    "actor": "city",
                    "outcomes": {"publish": {"name": "发布", "to": "published", "letter": "published"}},
                },
                {"id": "published", "name": "已发布", "clause": "二", "actor": "city", "ends": "published"},
                {"id": "declined", "name": "未入选", "clause": "二", "actor": "city", "ends": "closed"},
                {"id": "rejected", "name": "不予通过", "clause": "二", "actor": "city", "ends": "closed"},
            ],
        },
        "deadlines": [
            {
                "id": "DL-01",
                "name": "报送截止",
                "clause": "征集通知·三",
                "on": date(2025, 3, 7),
                "kinds": ("K2", "K3"),
                "filing": True,
                "rule": "R-COL-019",
                "ladder": {"days_before": (3,), "on_day": True, "missed_after": 1},
                "letter": "deadline",
            },
            {
                "id": "DL-02",
                "name": "6月主题服务活动",
                "clause": "征集通知·一(二)2",
                "on": date(2025, 6, 1),
                "until": date(2025, 6, 30),
                "kinds": ("K2",),
                "ladder": {"days_before": (30,)},
                "letter": "june_activity",
            },
        ],
    }
)

FILER = Party(code="gzqyfw", kind="K3", name="广州企业服务平台", email="office@platform.example")
DISTRICT = DIRECTORY.by_code["440106"].model_copy(update={"email": "officer@th.example"})


def change(of: type[CaseChanged] = CaseOpened, **fields: Any) -> CaseChanged:
    known: dict[str, Any] = {
        "case": CASE,
        "number": "GZ-2025-1-0012",
        "version": 3,
        "notice": NOTICE.id,
        "form": "F3",
        "stage": "check",
        "outcome": "file",
        "actor": FILER.code,
        "filer": FILER,
        "recommender": None,
        "unit": FILER.code,
        "district": "440106",
        "title": "数字化转型对接会",
        "late": False,
    }
    if of is CasePublished:
        known |= {"item_kind": "activity", "values": {}, "filed": AT}
    return of(**(known | fields))


def to_recommend(**fields: Any) -> CaseChanged:
    return change(**{"stage": "recommendation", "recommender": "440106", **fields})


def returned(**fields: Any) -> CaseChanged:
    return change(
        CaseReturned,
        **{
            "stage": "correction",
            "outcome": "return",
            "actor": "440106",
            "recommender": "440106",
            "reason": "活动时间不明确",
            "rules": ("R-COL-019", "R-COL-040"),
            "fixes": (Fix(field="name", detail="请写全称"), Fix(field="other", detail="请补充")),
            "due": date(2025, 3, 11),
            **fields,
        },
    )


def finding(severity: Any = "hard", **fields: Any) -> Finding:
    known = {"rule": "F3.02", "code": "missing", "clause": "附件3", "detail": "“活动名称”：不能为空"}
    return Finding(severity=severity, **(known | fields))


def package(**fields: Any) -> PackageJudged:
    known: dict[str, Any] = {
        "package": "p-1",
        "notice": NOTICE.id,
        "filer": FILER,
        "district": "440106",
        "mode": "valid_rows",
        "outcome": "partly",
        "sheets": (
            JudgedSheet(file="附件3.xlsx", form="F3", sheet="清单", rows=5, accepted=4, marked="a" * 64),
            JudgedSheet(file="附件3.xlsx", form=None, sheet="说明", rows=0, accepted=0, marked="a" * 64),
        ),
        "findings": (finding("soft", rule="R-COL-040"), finding(sheet="清单", row=5, cell="B5")),
        "late": False,
        "received": AT,
    }
    return PackageJudged(**(known | fields))


def refusal(**fields: Any) -> SubmissionRefused:
    known: dict[str, Any] = {
        "notice": NOTICE.id,
        "form": "F3",
        "filer": FILER,
        "title": "对接会",
        "findings": (finding(),),
        "received": AT,
    }
    return SubmissionRefused(**(known | fields))


def of_case(event: CaseChanged) -> list[Owed]:
    return letters_of_case(NOTICE, event, DIRECTORY)


def reminder(id_: str) -> Owed:
    deadline = next(d for d in NOTICE.deadlines if d.id == id_)
    rung = rungs(deadline, CALENDAR)[0]
    return letter_of_deadline(NOTICE, deadline, rung, DISTRICT, DIRECTORY, CALENDAR)


def correction() -> Owed:
    event = returned()
    assert event.due
    awaits = [{"began": "2025-03-05", "due": event.due.isoformat()}]
    (one,) = occasions(NOTICE, event.stage, awaits)
    rung = one.rungs(CALENDAR)[0]
    (owed,) = letters_of_occasion(NOTICE, event, one, rung, DIRECTORY, CALENDAR)
    return owed


HEADED = AuditHeaded(day=date(2025, 3, 6), seq=118, lines=342, head="8d" * 32, dead=0)


def part(count: int) -> dict[str, Any]:
    return asdict(Part("无法处理的消息", count, ["review：2条", "notify：1条"], "yiqi dead list"))


def undelivered() -> list[Owed]:
    """Of a case, to its owner; of a reminder, to whoever operates us, because its owner has no address."""
    (of_one,) = of_case(change())
    failed = [
        Undelivered(of_one, "550 5.1.1 <address>: unknown", stopped=True),
        Undelivered(replace(reminder("DL-01"), address="someone@th.example"), "4.4.7"),
    ]
    known = Directory.model_validate(
        {
            "agencies": [
                {**a.model_dump(), "email": None if a.code == "440100" else "d@gz.example"}
                for a in DIRECTORY.agencies
            ]
        }
    )
    return list(letters(failed, known, ["ops@gz.example"]))


def samples() -> list[Owed]:
    """At least one of every letter, and those that read differently."""
    city = {"actor": "440100", "reason": "符合要求"}
    return [
        *of_case(change()),
        *of_case(change(late=True)),
        *of_case(
            change(stage="recommendation", recommender="440106", due=date(2025, 3, 11), provisional=True)
        ),
        *of_case(returned()),
        *of_case(change(CaseClosed, stage="rejected", outcome="reject", **city)),
        *of_case(change(CaseAdvanced, stage="publication", outcome="select", **city)),
        *of_case(change(CaseClosed, stage="declined", outcome="decline", **city)),
        *of_case(change(CasePublished, stage="published", outcome="publish", **city)),
        *letters_of_package(NOTICE, package(), DIRECTORY),
        *letters_of_package(NOTICE, package(outcome="accepted", findings=(), late=True), DIRECTORY),
        *letters_of_package(NOTICE, package(outcome="refused", mode="all_or_nothing"), DIRECTORY),
        *letters_of_refusal(NOTICE, refusal(), DIRECTORY, event="e-1"),
        reminder("DL-01"),
        reminder("DL-02"),
        correction(),
        *undelivered(),
        *letters_of_day(HEADED.day, HEADED, ["ops@gz.example"], "益企服务平台", [part(0)]),
        *letters_of_day(date(2025, 3, 7), None, ["ops@gz.example"], "益企服务平台", [part(3)]),
        *(
            one
            for one, _ in digests(
                date(2025, 3, 6),
                [replace(o, address="a@th.example") for o in (correction(), reminder("DL-02"))],
            )
        ),
    ]


SAMPLES = [
    replace(owed, address=owed.address or "someone@th.example")
    for owed in (*samples(), *lives.SAMPLES, *dates.SAMPLES)
]
FILES = {"a" * 64: b"PK workbook"}


def written(owed: Owed, at: datetime = AT) -> EmailMessage:
    return compose(owed, letters=PACKAGED, message_id_domain=DOMAIN, sender=SENDER, date=at, files=FILES)


def read(message: EmailMessage) -> EmailMessage:
    """What a reader's program sees: parsed anew from the bytes."""
    parsed = message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def body(owed: Owed, kind: str, at: datetime = AT) -> str:
    part = read(written(owed, at)).get_body((kind,))
    assert part is not None
    content = part.get_content()
    assert isinstance(content, str)
    return content


def text(owed: Owed, at: datetime = AT) -> str:
    return body(owed, "plain", at)


def decoded(words: str) -> str:
    """Encoded words as old programs read them."""
    return "".join(p if isinstance(p, str) else p.decode(c or "ascii") for p, c in decode_header(words))


def ids(owed: Sequence[Owed]) -> list[str]:
    return [f"{i}-{o.letter}" for i, o in enumerate(owed)]


# ---- which letters are owed


def test_every_letter_has_a_sample() -> None:
    assert {owed.letter for owed in SAMPLES} == set(LETTERS)


def test_the_operators_are_told_the_head_and_what_waits_once_a_day() -> None:
    one, two = letters_of_day(HEADED.day, HEADED, ["a@gz.example", "b@gz.example"], "益企", [part(1)])
    assert [o.key for o in (one, two)] == ["daily/2025-03-06/a@gz.example", "daily/2025-03-06/b@gz.example"]
    assert one.to == "operators"
    assert f"118:{'8d' * 32}" in text(one).replace("\n", "")
    assert "无法处理的消息：1（yiqi dead list）\r\n  review：2条\r\n" in text(one)
    assert "有待处理事项" in str(read(written(one))["Subject"])
    assert letters_of_day(HEADED.day, HEADED, [], "益企", [part(1)]) == []


def test_the_operators_are_told_also_that_there_is_nothing() -> None:
    (one,) = letters_of_day(HEADED.day, HEADED, ["a@gz.example"], "益企", [part(0)])
    assert "无法处理的消息：0\r\n" in text(one)
    assert "review" not in text(one)
    assert "没有收到即为故障" in text(one)
    assert str(read(written(one))["Subject"]) == "〔运维日报〕2025年3月6日"


def test_a_report_without_the_head_says_what_is_missing() -> None:
    (one,) = letters_of_day(HEADED.day, None, ["a@gz.example"], "益企", [part(0)])
    assert "没有收到审计锚" in text(one)
    assert "有待处理事项" in str(read(written(one))["Subject"])


def test_a_letter_is_held_where_its_outcome_says_so() -> None:
    packaged = Path(services.notify.__path__[0]).parents[1] / "shared/notices/data/gz-collection-2025q1.yaml"
    text_ = packaged.read_text(encoding="utf-8")
    holding = text_.replace(
        "to: publication, letter: selected,", "to: publication, letter: selected, hold: true,"
    )
    assert holding != text_
    event = change(CaseAdvanced, stage="publication", outcome="select", actor="440100", reason="符合")
    for source, held in ((holding, True), (text_, False)):
        (one,) = letters_of_case(load(source.encode(), "某通知.yaml").notice, event, DIRECTORY)
        assert (one.letter, one.hold, one.when) == ("selected", held, "now")


def test_a_digest_tells_each_item_in_the_words_of_its_letter() -> None:
    address = "a@th.example"
    items = [replace(o, address=address) for o in (reminder("DL-02"), reminder("DL-01"), correction())]
    ((one, _),) = digests(date(2025, 3, 4), items)
    assert str(read(written(one))["Subject"]) == "〔待办提醒〕3项，最近一项还有3天"
    said = text(one)
    places = [said.index(f"{n}. ") for n in (1, 2, 3)]
    assert places == sorted(places)
    for words in (
        "1. 2025年3月7日（星期五）截止（还有3天）",
        "报送截止：还有3天，特此提醒。",
        "项目：GZ-2025-1-0012 数字化转型对接会",
        "依据：",
        "办理：请在期限之前办理。",
        "3. 2025年6月1日（星期日）至2025年6月30日",
    ):
        assert words in said
    page = body(one, "html")
    for words in (
        "GZ-2025-1-0012",
        "数字化转型对接会",
        "报送截止：还有3天",
        "至2025年6月30日",
        "请在期限之前办理。",
    ):
        assert words in page


def test_a_note_is_said_besides_the_facts() -> None:
    one = of_case(returned())[0]
    noted = replace(one, params={**one.params, "note": "请于\n本周<办理>"})
    assert "补充说明：请于\r\n本周<办理>\r\n" in text(noted)
    assert "本周&lt;办理&gt;" in body(noted, "html")
    assert "补充说明" not in text(one)
    old = {name: value for name, value in one.params.items() if name not in ("note", "notice_id")}
    assert text(replace(one, params=old)) == text(one)  # owed by an earlier release


@pytest.mark.parametrize("folder", sorted(f.name for f in FOLDER.iterdir() if f.is_dir()))
def test_every_folder_is_complete(folder: str) -> None:
    wanted = {"body.txt", "body.html"} if folder == "_base" else {"subject.txt", "body.txt", "body.html"}
    assert {f.name for f in (FOLDER / folder).iterdir()} == wanted


def test_keys_are_made_of_stable_ids_and_the_mail_id_follows_from_them() -> None:
    assert [owed.key for owed in of_case(returned())] == [f"case/{CASE}/3/returned/gzqyfw"]
    assert [o.key for o in letters_of_package(NOTICE, package(), DIRECTORY)] == ["package/p-1/judged/gzqyfw"]
    assert [o.key for o in letters_of_refusal(NOTICE, refusal(), DIRECTORY, event="e-1")] == [
        "submission/e-1/refused/gzqyfw"
    ]
    assert reminder("DL-01").key == "deadline/test-2025q1/DL-01/2025-03-07/3/440106"
    assert correction().key == f"case/{CASE}/term/correction/2025-03-11/3/gzqyfw"
    assert len({owed.mail for owed in SAMPLES}) == len({owed.key for owed in SAMPLES})


@pytest.mark.parametrize(
    ("event", "letters"),
    [
        (change(), [("accepted", "gzqyfw")]),
        (change(package="p-1"), []),
        (
            change(stage="recommendation", recommender="440106"),
            [("accepted", "gzqyfw"), ("recommend_wanted", "440106")],
        ),
        (change(stage="recommendation", recommender="440106", package="p"), [("recommend_wanted", "440106")]),
        (change(CaseAdvanced, outcome="recommend", actor="440106", recommender="440106"), []),
        (
            change(CaseAdvanced, stage="recommendation", outcome="resubmit", recommender="440106"),
            [("recommend_wanted", "440106")],
        ),
        (returned(), [("returned", "gzqyfw")]),
        (
            change(CaseAdvanced, stage="publication", outcome="select", actor="440100"),
            [("selected", "gzqyfw")],
        ),
        # An outcome that the procedure does not know, such as one of a timer.
        (change(CaseClosed, stage="rejected", outcome="lapse", actor="440100"), []),
    ],
)
def test_the_procedure_says_who_is_written_to(event: CaseChanged, letters: list[tuple[str, str]]) -> None:
    assert [(owed.letter, owed.to) for owed in of_case(event)] == letters


@pytest.mark.parametrize(("actor", "clause"), [("440106", "征集通知·三"), ("440100", "征集通知·二")])
def test_one_end_reached_from_two_stages_rests_on_the_clause_of_who_decided(actor: str, clause: str) -> None:
    event = change(CaseClosed, stage="rejected", outcome="reject", actor=actor, recommender="440106")
    assert [c["clause"] for c in of_case(event)[0].params["clauses"]] == [clause]


def test_the_address_that_was_filed_wins_over_the_directory() -> None:
    known = Directory(agencies=(*(a for a in DIRECTORY.agencies if a.code != "440106"), DISTRICT))
    filer = Party(code="440106", kind="K2", name="天河区商务金融局")
    assert letters_of_case(NOTICE, change(filer=filer), known)[0].address == "officer@th.example"
    filer = filer.model_copy(update={"email": "other@th.example"})
    assert letters_of_case(NOTICE, change(filer=filer), known)[0].address == "other@th.example"
    assert of_case(change(filer=Party(code="k6-x", kind="K6", name="某机构")))[0].address is None


def test_only_who_must_act_is_told_a_date() -> None:
    accepted, wanted = of_case(change(stage="recommendation", recommender="440106", due=date(2025, 3, 11)))
    assert accepted.params["due"] is None
    assert wanted.params["due"]["date"] == "2025-03-11"


def test_a_marked_workbook_is_attached_once_though_every_sheet_names_it() -> None:
    (owed,) = letters_of_package(NOTICE, package(), DIRECTORY)
    assert owed.attachments == (Attached("a" * 64, "附件3（已标注）.xlsx"),)


def test_the_gravest_findings_come_first_and_the_rest_is_counted() -> None:
    many = (*(finding("soft") for _ in range(MOST)), finding("hard", detail="最重要"))
    (owed,) = letters_of_refusal(NOTICE, refusal(findings=many), DIRECTORY, event="e")
    assert owed.params["findings"][0]["detail"] == "最重要"
    assert (len(owed.params["findings"]), owed.params["more"]) == (MOST, 1)
    assert "其余1处未在此列出" in text(owed)


def test_the_packaged_notices_name_only_letters_that_exist() -> None:
    notices = [compiled.notice for compiled in load_all().values()]
    assert notices
    assert [fault for notice in notices for fault in crossed(notice, LETTERS)] == []


def test_a_notice_that_names_an_unknown_letter_is_told_where() -> None:
    assert list(crossed(NOTICE, [name for name in LETTERS if name != "selected"])) == [
        (
            ("procedure", "stages", 3, "outcomes", "select", "letter"),
            f"没有信函 selected；现有 {'、'.join(n for n in LETTERS if n != 'selected')}",
        )
    ]


# ---- what they say


@pytest.mark.parametrize("owed", SAMPLES, ids=ids(SAMPLES))
def test_every_letter_says_who_what_on_which_clause_what_next_and_whom_to_ask(owed: Owed) -> None:
    message = read(written(owed))
    assert re.fullmatch(r"〔\S{2,6}〕\S.*", message["Subject"])
    for kind in ("plain", "html"):
        content = body(owed, kind)
        assert owed.to_name in content
        assert "下一步" in content
        assert "如有疑问，请联系" in content
        writer = "益企服务平台" if owed.letter == "daily" else "广州市工业和信息化局"
        assert f"{writer}{owed.params['unit']}" in content
        assert "2025年3月4日" in content
        assert owed.params["notice"] in content
        for clause in owed.params["clauses"]:
            assert clause["clause"] in content
            assert clause["text"] in content
        for one in owed.params["findings"]:
            assert one["detail"] in content.replace("&#34;", '"')
        assert not re.search(r"\b0\d月|月0\d日|None|\{\{|\{%|Undefined", content)
    assert "\n\n\n" not in text(owed)


@pytest.mark.parametrize("owed", SAMPLES, ids=ids(SAMPLES))
def test_the_text_part_has_everything_that_the_html_part_says(owed: Owed) -> None:
    html = re.sub(r"<(head|style|!--).*?(</head>|-->)", "", body(owed, "html"), flags=re.DOTALL)
    plain = re.sub(r"\s", "", text(owed))
    sentences = re.findall(r"[\w“”（）：]{9,}", re.sub(r"<[^>]+>", "\n", html))
    assert sentences
    assert [s for s in sentences if s.strip("：") not in plain] == []


def test_a_returned_case_is_told_what_to_fix_by_when_and_how() -> None:
    (owed,) = of_case(returned(provisional=True))
    content = text(owed)
    assert "1. 活动名称：请写全称〔F3.02〕\n2. other：请补充\n" in content.replace("\r\n", "\n")
    assert "期限：2025年3月11日（星期二）截止（暂定，" in content
    assert "（系统默认，非通知规定）" in content
    assert "- 征集通知·三〔R-COL-019〕2025年3月7日（星期五）前报送" in content
    assert "- 系统约定〔R-COL-040〕同一项目重复报送（系统默认，非通知规定）" in content
    assert "如有疑问，请联系天河区商务金融局。" in content
    assert "GZ-2025-1-0012" in content


@pytest.mark.parametrize(
    ("on", "said"),
    [
        (4, "报送截止：还有3天"),
        (7, "报送截止：今天截止"),
        (8, "报送截止：已于昨天截止"),
        (10, "报送截止：已过期3天"),
    ],
)
def test_days_left_are_counted_on_the_day_of_writing(on: int, said: str) -> None:
    message = read(written(reminder("DL-01"), datetime(2025, 3, on, 1, tzinfo=UTC)))
    assert message["Subject"] == f"〔截止提醒〕{said}"


def test_the_day_of_writing_is_that_of_guangzhou() -> None:
    assert "2025年3月5日" in text(reminder("DL-01"), datetime(2025, 3, 4, 16, 0, tzinfo=UTC))


def test_dates_are_printed_as_official_documents_print_them() -> None:
    assert day("2025-03-07") == "2025年3月7日（星期五）"
    known = {
        "date": "2025-03-08",
        "from": None,
        "at": None,
        "rest_day": True,
        "provisional": False,
        "derived": False,
    }
    assert due(known) == "2025年3月8日（星期六）截止，当日为休息日，日期不顺延"
    assert due({**known, "at": "17:00", "rest_day": False}) == "2025年3月8日17时（星期六）截止"
    assert due({**known, "at": "12:30", "rest_day": False}) == "2025年3月8日12时30分（星期六）截止"
    assert countdown(-12) == "已过期12天"


@pytest.mark.parametrize(
    ("rule", "issuer", "expected"),
    [
        ("R-GEN-013", "广州市天河区商务和金融工作局", "met"),
        ("R-GEN-013", "天津市河西区商务和金融工作局", "broken"),  # ODD-01
    ],
)
def test_a_letter_signed_outside_guangzhou_is_not_released(rule: str, issuer: str, expected: str) -> None:
    (owed,) = of_case(change())
    signed = replace(owed, params={**owed.params, "issuer": issuer})
    if expected == "met":
        assert issuer in body(signed, "plain")
        return
    with pytest.raises(ForeignSignature):
        written(signed)


def test_a_letter_with_a_missing_value_is_not_written() -> None:
    (owed,) = of_case(change())
    with pytest.raises(Unwritable, match="stage"):
        written(replace(owed, params={k: v for k, v in owed.params.items() if k != "stage"}))


def test_a_letter_is_never_sent_without_what_it_announces() -> None:
    (owed,) = letters_of_package(NOTICE, package(), DIRECTORY)
    with pytest.raises(MissingAttachment):
        compose(owed, letters=PACKAGED, message_id_domain=DOMAIN, sender=SENDER, date=AT, files={})


def plain(owed: Owed) -> str:
    return text(replace(owed, address=owed.address or "someone@th.example"))


STATIONS, CLUSTERS = (load_all()[id_].notice for id_ in ("gz-stations-2019", "gz-clusters"))
REPORT_SHEET = JudgedSheet(file="季度.xlsx", form="F12-3", sheet="信息", rows=2, accepted=1)


@pytest.mark.parametrize("outcome", ["accepted", "partly", "refused"])
def test_a_package_of_reports_is_answered_by_their_duty_and_not_by_the_date_of_the_round(
    outcome: str,
) -> None:
    judged = package(notice=STATIONS.id, outcome=outcome, sheets=(REPORT_SHEET,), late=True, findings=())
    filed = replace_filer(judged)
    (owed,) = letters_of_package(STATIONS, filed, DIRECTORY)
    for content in (plain(owed), body(replace(owed, address="a@b.example"), "html")):
        assert "公约·二5〔DL-15〕定期报送区域行业、企业和需求信息" in content
        assert not re.search("6月18日|6月21日|受理截止|截止日", content)
        assert ("的报送期限为每季度末前" in content) is (outcome != "accepted")


def replace_filer(judged: PackageJudged) -> PackageJudged:
    """Filed by a body that has a filing date in the round of the stations."""
    filer = Party(code="k6-x", kind="K6", name="某某公司", email="a@b.example")
    return judged.model_copy(update={"filer": filer})


def test_a_package_with_an_application_beside_its_reports_keeps_the_date_of_the_round() -> None:
    sheets = (REPORT_SHEET, JudgedSheet(file="申请.xlsx", form="F12", sheet="表", rows=1, accepted=0))
    judged = replace_filer(package(notice=STATIONS.id, sheets=sheets, findings=()))
    (owed,) = letters_of_package(STATIONS, judged, DIRECTORY)
    assert "期限：2019年6月18日17时（星期二）截止" in plain(owed)
    assert owed.params["due"]["at"] == "17:00"


def test_a_refused_report_is_answered_by_its_duty() -> None:
    filer = Party(code="k6-x", kind="K6", name="某某公司", email="a@b.example")
    refused = refusal(notice=STATIONS.id, form="F12-2", filer=filer, district="440106")
    (owed,) = letters_of_refusal(STATIONS, refused, DIRECTORY, event="e")
    content = plain(owed)
    assert "公约·二5〔DL-14〕" in content
    assert "“年度服务工作总结和下一年度计划”的报送期限为每年12月31日前" in content
    assert "期限：" not in content
    (owed,) = letters_of_refusal(STATIONS, refused.model_copy(update={"form": "F12"}), DIRECTORY, event="e")
    assert owed.params["due"]["date"] == "2019-06-18"


def test_a_form_that_continues_a_case_rests_on_its_own_clause() -> None:
    data = NOTICE.model_dump(mode="python")
    later = {**data["forms"][0], "id": "F4", "annex": "附件4", "clause": "附件4", "continues": "F3"}
    data["forms"] = (*data["forms"], later)
    notice = Notice.model_validate(data)
    sheet = JudgedSheet(file="附件4.xlsx", form="F4", sheet="表", rows=1, accepted=0)
    (owed,) = letters_of_package(notice, package(sheets=(sheet,), outcome="refused"), DIRECTORY)
    assert owed.params["due"] is None
    assert [c["clause"] for c in owed.params["clauses"]] == ["附件4"]
    (owed,) = letters_of_refusal(notice, refusal(form="F4"), DIRECTORY, event="e")
    assert owed.params["due"] is None


def reminder_of(notice: Notice, id_: str, agency: Agency = DISTRICT) -> Owed:
    deadline = notice.by_deadline[id_]
    rung = rungs(deadline, CALENDAR)[0]
    return letter_of_deadline(notice, deadline, rung, agency, DIRECTORY, CALENDAR)


def test_a_reminder_prints_the_hour_of_its_deadline() -> None:
    content = text(reminder_of(STATIONS, "DL-11"), datetime(2019, 6, 4, 1, tzinfo=UTC))
    assert "期限：2019年6月18日17时（星期二）截止" in content
    assert "时（" not in text(reminder_of(STATIONS, "DL-12"), datetime(2019, 6, 4, 1, tzinfo=UTC))


def test_a_reminder_rests_on_the_rules_that_bind_its_reader_and_not_on_those_about_files() -> None:
    """Many rules have the clause of the deadline; R-STA-030 is about the form of the stations."""

    def ids(notice: Notice, id_: str) -> list[str]:
        return [c["id"] for c in reminder_of(notice, id_).params["clauses"]]

    assert ids(STATIONS, "DL-12") == ["R-STA-031"]
    assert ids(STATIONS, "DL-11") == ["R-STA-032"]
    # A dozen conventions of ours share the clause of our own date.
    ours = deadline_basis(STATIONS, STATIONS.by_deadline["DL-61"])
    assert "R-GEN-003" not in [c["id"] for c in ours]
    collection = load_all()["gz-collection-2025q1"].notice
    assert ids(collection, "DL-01") == ["R-COL-019", "R-COL-017"]
    # Where nothing is strict, what is wanted is quoted.
    assert ids(collection, "DL-02") == ["R-COL-004"]
    # What is only wanted goes behind what is strict, and so is not quoted beside it.
    soft = {**NOTICE.rules[0].model_dump(), "id": "R-COL-099", "severity": "soft"}
    mixed = Notice.model_validate({**NOTICE.model_dump(mode="python"), "rules": (soft, *NOTICE.rules)})
    assert ids(mixed, "DL-01") == ["R-COL-019"]
    many = [{**NOTICE.rules[0].model_dump(), "id": f"R-COL-10{n}"} for n in range(5)]
    crowded = Notice.model_validate({**NOTICE.model_dump(mode="python"), "rules": (*NOTICE.rules, *many)})
    assert ids(crowded, "DL-01") == ["R-COL-019", "R-COL-100", "R-COL-101"]


@pytest.mark.parametrize(
    ("numbers", "accepted", "said"),
    [
        (("F3-7K3M9QXA", "F3-0VN4R2TC"), 2, "项目编号：F3-7K3M9QXA、F3-0VN4R2TC"),
        (("F3-7K3M9QXA",) * 2, 2, "项目编号：F3-7K3M9QXA"),
        (tuple(f"F3-{n:08}" for n in range(20)), 31, "F3-00000019等31项"),
        ((), 0, None),
    ],
)
def test_the_answer_to_a_package_lists_the_numbers_of_its_cases(
    numbers: tuple[str, ...], accepted: int, said: str | None
) -> None:
    sheet = JudgedSheet(
        file="附件3.xlsx", form="F3", sheet="清单", rows=40, accepted=accepted, numbers=numbers
    )
    (owed,) = letters_of_package(NOTICE, package(sheets=(sheet,)), DIRECTORY)
    for kind in ("plain", "html"):
        # Ends there: what is all is not said to be more.
        ends = rf"{said}(\r?\n|</span>)" if said else "(?!)"
        assert bool(re.search(ends, body(owed, kind))) is (said is not None)
        assert ("项目编号：" in body(owed, kind)) is (said is not None)


def test_a_report_is_listed_under_the_number_of_the_case_that_it_tells_of() -> None:
    judged = Judged("F3", Row({}, ()), [], "F3", case=CASE)
    assert number_of_case(judged) == judged.number
    about = SimpleNamespace(number="F12-7K3M9QXA")
    assert number_of_case(Judged("F12-3", Row({}, ()), [], "F12-3", case=CASE, owner=about)) == about.number


# ---- what the mail is


def test_the_headers_of_an_automatic_mail() -> None:
    (owed,) = of_case(returned())
    message = read(written(owed))
    assert {name: str(message[name]) for name in message if name != "Content-Type"} == {
        "From": "广州市工业和信息化局 <no-reply@gz.example>",
        "To": "广州企业服务平台 <office@platform.example>",
        "Subject": "〔退回修改〕GZ-2025-1-0012 数字化转型对接会",
        "Date": "Tue, 04 Mar 2025 01:00:00 +0000",
        "Message-ID": f"<m-{owed.mail}@{DOMAIN}>",
        "In-Reply-To": f"<case-{CASE}@{DOMAIN}>",
        "References": f"<case-{CASE}@{DOMAIN}>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "Precedence": "bulk",
        "Content-Language": "zh-CN",
        "MIME-Version": "1.0",
    }


def test_ids_survive_a_long_domain_in_one_piece() -> None:
    (owed,) = of_case(returned())
    domain = "mail.a-long-name-of-a-bureau.and-of-its-division.gz.example"
    raw = compose(owed, letters=PACKAGED, message_id_domain=domain, sender=SENDER, date=AT).as_bytes()
    assert f"Message-ID: <m-{owed.mail}@{domain}>\r\n".encode() in raw
    assert f"References: <case-{CASE}@{domain}>\r\n".encode() in raw


@pytest.mark.parametrize("domain", ["", "a b", "x>\r\nBcc: evil@x.example", "广州.中国", "x" * 200])
def test_a_message_id_needs_a_plain_domain(domain: str) -> None:
    with pytest.raises(ValueError, match="not a domain"):
        compose(SAMPLES[0], letters=PACKAGED, message_id_domain=domain, sender=SENDER, date=AT)


def test_letters_of_one_case_form_one_thread_and_others_none() -> None:
    threads = {str(read(written(o))["References"]) for o in SAMPLES if o.case}
    assert threads == {f"<case-{CASE}@{DOMAIN}>"}
    assert {read(written(o))["References"] for o in SAMPLES if not o.case} == {None}


@pytest.mark.parametrize("owed", SAMPLES, ids=ids(SAMPLES))
def test_the_bytes_are_plain_ascii_with_short_lines(owed: Owed) -> None:
    raw = written(owed).as_bytes()
    assert raw.isascii()
    lines = raw.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert [line for line in lines if b"\n" in line or b"\r" in line] == []


HOSTILE = [
    "张三, evil@x.example <a@x.example>",
    "张三\r\nBcc: evil@x.example",
    "张三\nX-Evil: 1",
    '"; evil@x.example',
    "=?utf-8?q?evil=40x=2Eexample=2C?=",
    "=?utf-8?q?x=0D=0ABcc=3A_evil=40x=2Eexample?=",
    "==?utf-8?b?eA0KQmNjOiBldmlsQHguZXhhbXBsZQ==?=",
    "张三\u202egro.live",
    "张" * 5000,
    "\x00\x1b[31m",
    "{{7*7}}{% raw %}",
    "<script>alert(1)</script>&amp;",
]


@pytest.mark.parametrize("evil", HOSTILE)
def test_whatever_a_person_typed_the_mail_has_one_recipient_and_its_own_headers(evil: str) -> None:
    filer = FILER.model_copy(update={"name": evil})
    fixes = (Fix.model_construct(field=evil, detail=evil),)
    (owed,) = of_case(returned(filer=filer, title=evil, reason=evil, number=evil, fixes=fixes, rules=(evil,)))
    raw = written(owed).as_bytes()
    # The old parser of the standard library, which knows nothing of what wrote this.
    parsed = message_from_bytes(raw, policy=email.policy.compat32)
    assert [address for _, address in getaddresses([str(parsed["To"])])] == ["office@platform.example"]
    assert sorted(parsed.keys()) == sorted(written(of_case(returned())[0]).keys())
    assert parsed.defects == []
    subject = "".join(
        p.decode(c or "ascii") if isinstance(p, bytes) else p for p, c in decode_header(parsed["Subject"])
    )
    assert len(subject) <= 120
    assert "\n" not in subject.replace("\r\n ", "")
    for kind in ("plain", "html"):
        assert not re.search(r"[\x00\x1b\u202e]", body(owed, kind))


def test_an_expression_in_a_value_stays_literal() -> None:
    (owed,) = of_case(returned(reason="{{7*7}}{{ ''.__class__ }}"))
    assert "{{7*7}}{{ ''.__class__ }}" in text(owed)
    assert "49" not in text(replace(owed, params={**owed.params, "clauses": []}))


def test_markup_in_a_value_is_escaped_in_html_and_untouched_in_text() -> None:
    evil = '<img src=x onerror="alert(1)">'
    (owed,) = of_case(returned(reason=evil))
    assert evil in text(owed)
    assert evil not in body(owed, "html")
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;" in body(owed, "html")


def test_a_hopelessly_long_value_is_cut_visibly() -> None:
    (owed,) = of_case(returned())
    owed = replace(
        owed, params={**owed.params, "reason": "长" * 100_000, "fixes": owed.params["fixes"] * 5000}
    )
    assert "长…" in text(owed)
    assert len(written(owed).as_bytes()) < 200_000


@pytest.mark.parametrize(
    "address", [None, "", "张三@x.example", "a@x.example, b@x.example", "a@x.example\r\nBcc: b@x"]
)
def test_no_mail_is_composed_for_what_is_not_one_plain_mailbox(address: str | None) -> None:
    with pytest.raises(BadAddress):
        written(replace(SAMPLES[0], address=address))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("附件3 服务活动清单（已标注）.xlsx", "附件3 服务活动清单（已标注）.xlsx"),
        ("list.xlsx", "list.xlsx"),
        ("../../etc/清单\r\n.xlsx", "_.._etc_清单 .xlsx"),
        ('a";evil="b.pdf', "a_;evil=_b.pdf"),
        ("长" * 200 + ".xlsx", "长" * 75 + ".xlsx"),
    ],
)
def test_an_attachment_keeps_its_chinese_name_for_new_and_for_old_readers(name: str, shown: str) -> None:
    (owed,) = letters_of_package(NOTICE, package(), DIRECTORY)
    owed = replace(owed, attachments=(Attached("a" * 64, name),), params={**owed.params, "dates": []})
    # RFC 2231, read by two parsers of which neither wrote it.
    (part,) = read(written(owed)).iter_attachments()
    assert part.get_filename() == shown
    assert part.get_content() == FILES["a" * 64]
    raw = written(owed).as_bytes().decode("ascii")
    (by_hand,) = re.findall(
        r"^Content-Disposition: attachment;\r\n filename\*=utf-8''(\S+)\r\n", raw, re.MULTILINE
    )
    assert unquote(by_hand) == shown
    # RFC 2047, as old programs read it: the words decoded and joined.
    (words,) = re.findall(r'^Content-Type: application/[\w.-]+;\r\n name="([^"]*)"', raw, re.MULTILINE)
    assert (
        "".join(p if isinstance(p, str) else p.decode(c or "ascii") for p, c in decode_header(words)) == shown
    )


def test_a_workbook_has_its_media_type_unbroken() -> None:
    (owed,) = letters_of_package(NOTICE, package(), DIRECTORY)
    message = read(written(owed))
    assert [p.get_content_type() for p in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "text/calendar",
    ]


PRINT_DIGESTS = """
import hashlib, runpy, sys
known = runpy.run_path(sys.argv[1])
for owed in known["SAMPLES"]:
    print(hashlib.sha256(known["written"](owed).as_bytes()).hexdigest())
"""


def test_the_same_letter_gives_the_same_bytes_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", PRINT_DIGESTS, __file__],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": ROOT},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2", "777")
    }
    assert len(digests) == 1
    assert len(digests.pop().split()) == len(SAMPLES)
