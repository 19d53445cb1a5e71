"""Letters about titles that last: what is owed while they stand, what is held against them, how they end."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from email.headerregistry import Address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.notify.compose import compose
from services.notify.owed import Owed, crossed, letters_of_case
from services.notify.templates import LETTERS, Letters
from services.notify.words import period, until, when
from shared.contracts.case import (
    CaseAdvanced,
    CaseChanged,
    CaseClosed,
    CaseOpened,
    CasePublished,
    CaseReturned,
    Change,
)
from shared.contracts.types import Party
from shared.notices.directory import Directory
from shared.notices.load import load, load_all
from shared.notices.model import Notice

DIRECTORY = Directory.load()
PACKAGED = Letters.load()
IN_FORCE = {id_: compiled.notice for id_, compiled in load_all().items()}
LATER = load(Path(__file__).parents[1] / "examples/gz-stations-2026.yaml").notice
CASE = UUID("6f1ad64e-6a3b-5d0f-9d0c-1e5b2c7a4f10")
AT = datetime(2025, 3, 4, 1, 0, tzinfo=UTC)
CITY, DISTRICT, HEAD = "440100", "440106", "cyyqsh"

REPORT_COLUMNS = [
    {"field": "F16.01", "key": "about", "header": "集群编号或名称"},
    {"field": "F16.02", "key": "year", "header": "填报年度"},
]

CLUSTERS = Notice.model_validate(
    {
        "id": "test-clusters",
        "title": "关于开展市级中小企业特色产业集群认定工作的通知",
        "issuer": CITY,
        "unit": "中小企业处",
        "issued_on": date(2025, 1, 6),
        "clause_name": "指引",
        "round": {"year": 2025},
        "forms": [
            {
                "id": "F15",
                "annex": "附件1",
                "title": "中小企业特色产业集群申报表",
                "title_in_notice": "申报表",
                "clause": "指引·3.3.1",
                "item_kind": "title",
                "name": ("name",),
                "columns": [
                    {"field": "F15.01", "key": "name", "header": "集群名称"},
                    {"field": "F15.02", "key": "operator", "header": "运营管理机构"},
                    {"field": "F15.03", "key": "contact", "header": "联系人及联系方式", "type": "contact"},
                    *({"field": f"F15.{n}", "key": f"c{n}", "header": f"第{n}项指标"} for n in range(10, 25)),
                ],
            },
            {
                "id": "F16",
                "annex": "附件2",
                "title": "集群年度培育情况信息表",
                "title_in_notice": "信息表",
                "clause": "指引·4.2",
                "item_kind": "report",
                "name": ("about",),
                "report": {"about": "about", "period": ("year",)},
                "columns": REPORT_COLUMNS,
            },
        ],
        "allowed": [{"forms": ("F15", "F16"), "kinds": ("K2",)}],
        "rules": [],
        "grounds": [
            {"id": "R-CLU-074", "name": "有效期满未申请复核或经复核未通过", "clause": "指引·4.3.1"},
            {"id": "R-CLU-076", "name": "未及时报送集群年度培育情况信息表", "clause": "指引·4.3.3"},
        ],
        "duties": [
            {
                "id": "DL-06",
                "name": "集群年度培育情况",
                "clause": "指引·4.2",
                "form": "F16",
                "stages": ("recognised", "proposed"),
                "yearly": "02-29",
                "covers": "previous",
                "ground": "R-CLU-076",
            },
            {
                "id": "DL-09",
                "name": "重大变动报备",
                "clause": "指引·4.3.4",
                "form": "F16",
                "stages": ("recognised",),
                "after": "change",
                "days": 30,
                "derived": True,
            },
        ],
        "procedure": {
            "start": [{"stage": "review"}],
            "stages": [
                {
                    "id": "review",
                    "name": "初审与推荐",
                    "clause": "指引·1.5",
                    "actor": "recommender",
                    "outcomes": {
                        "recommend": {"name": "推荐", "to": "acceptance"},
                        "return": {"name": "退回", "to": "correction", "letter": "returned"},
                    },
                },
                {
                    "id": "correction",
                    "name": "补正",
                    "clause": "系统约定",
                    "actor": "filer",
                    "returned": True,
                    "within": {"working_days": 5},
                    "outcomes": {"resubmit": {"name": "重新报送", "to": "review", "by_filing": True}},
                },
                {
                    "id": "acceptance",
                    "name": "汇总受理",
                    "clause": "指引·3.3.2",
                    "actor": "city",
                    "outcomes": {
                        "recognise": {"name": "认定", "to": "recognised", "letter": "published"},
                    },
                },
                {
                    "id": "recognised",
                    "name": "已认定",
                    "clause": "指引·4.1",
                    "actor": "city",
                    "listed": True,
                    "within": {"years": 3, "validity": True, "then": "expire", "derived": False},
                    "outcomes": {
                        "propose": {
                            "name": "提出撤销",
                            "to": "proposed",
                            "needs": ("ground",),
                            "letter": "revocation_proposed",
                        },
                        "expire": {
                            "name": "有效期届满",
                            "to": "proposed",
                            "actor": "clock",
                            "grounds": ("R-CLU-074",),
                            "letter": "revocation_proposed",
                        },
                        "review": {"name": "申请复核", "to": "renewal", "by_filing": True, "actor": "filer"},
                    },
                },
                {
                    "id": "renewal",
                    "name": "复核",
                    "clause": "指引·4.1",
                    "actor": "city",
                    "listed": True,
                    "outcomes": {
                        "renew": {
                            "name": "复核通过",
                            "to": "recognised",
                            "term": "follows",
                            "letter": "renewed",
                            "clause": "指引·4.1",
                        },
                        "fail": {
                            "name": "复核不通过",
                            "to": "proposed",
                            "needs": ("ground",),
                            "letter": "revocation_proposed",
                        },
                        "question": {
                            "name": "出现事由",
                            "to": "proposed",
                            "actor": "clock",
                            "raised": True,
                            "letter": "revocation_proposed",
                        },
                    },
                },
                {
                    "id": "proposed",
                    "name": "撤销审核",
                    "clause": "指引·4.3",
                    "actor": "city",
                    "listed": True,
                    "outcomes": {
                        "revoke": {
                            "name": "撤销",
                            "to": "revoked",
                            "needs": ("ground",),
                            "letter": "revoked",
                            "clause": "指引·4.3",
                        },
                        "keep": {
                            "name": "不予撤销",
                            "to": "recognised",
                            "term": "resumes",
                            "letter": "kept",
                        },
                    },
                },
                {
                    "id": "revoked",
                    "name": "已撤销",
                    "clause": "指引·4.3",
                    "actor": "city",
                    "ends": "closed",
                },
            ],
        },
    }
)

STATIONS = Notice.model_validate(
    {
        "id": "test-stations",
        "title": "关于开展中小企业服务站申报工作的通知",
        "number": "穗工信函〔2019〕1100号",
        "issuer": CITY,
        "unit": "中小企业处",
        "issued_on": date(2019, 5, 24),
        "clause_name": "站点指引",
        "round": {"year": 2019},
        "forms": [
            {
                "id": "F12",
                "annex": "附件1",
                "title": "广州市中小企业服务站申请表",
                "title_in_notice": "申请表",
                "clause": "1100号·三",
                "item_kind": "title",
                "name": ("name",),
                "columns": [{"field": "F12.01", "key": "name", "header": "服务站名称"}],
            },
            {
                "id": "F17",
                "annex": "总结",
                "title": "年度服务工作总结",
                "title_in_notice": "总结",
                "clause": "公约·二5",
                "item_kind": "report",
                "name": ("about",),
                "report": {"about": "about"},
                "columns": [{"field": "F17.01", "key": "about", "header": "服务站编号或名称"}],
            },
        ],
        "allowed": [{"forms": ("F12", "F17"), "kinds": ("K6",)}],
        "rules": [],
        "roles": {"head": {"name": "服务总站", "agency": HEAD, "clause": "站点指引·三(五)"}},
        "grounds": [
            {
                "id": "R-STA-042",
                "name": "不支持市区两级中小企业主管部门的相关工作",
                "clause": "站点指引·三(六)",
            },
            {"id": "R-STA-043", "name": "服务满意度低", "clause": "站点指引·三(六)"},
        ],
        "duties": [
            {
                "id": "DL-15",
                "name": "季度服务情况",
                "clause": "公约·二5",
                "form": "F17",
                "stages": ("active",),
                "quarterly": True,
                "ground": "R-STA-042",
                "misses": 2,
                "derived": True,
            },
        ],
        "procedure": {
            "start": [{"stage": "district"}],
            "stages": [
                {
                    "id": "district",
                    "name": "区初审",
                    "clause": "1100号·四",
                    "actor": "district",
                    "outcomes": {"pass": {"name": "初审通过", "to": "collation"}},
                },
                {
                    "id": "collation",
                    "name": "汇总与初步审核",
                    "ref": "ST-STA-4",
                    "clause": "公约·一7",
                    "actor": "head",
                    "within": {"working_days": 10},
                    "outcomes": {
                        "forward": {"name": "提交专家评审", "to": "decision"},
                        "return": {"name": "退回", "to": "district"},
                    },
                },
                {
                    "id": "decision",
                    "name": "审定",
                    "clause": "站点指引·三(五)",
                    "actor": "city",
                    "outcomes": {"list": {"name": "列入名单", "to": "active", "letter": "published"}},
                },
                {
                    "id": "active",
                    "name": "挂牌运行",
                    "clause": "1100号·二3",
                    "actor": "head",
                    "listed": True,
                    "outcomes": {
                        "propose": {
                            "name": "提出退出意见",
                            "to": "hearing",
                            "needs": ("ground",),
                            "letter": "hearing",
                        },
                    },
                },
                {
                    "id": "hearing",
                    "name": "听取意见",
                    "clause": "系统约定",
                    "actor": "filer",
                    "listed": True,
                    "within": {"working_days": 5, "then": "lapse"},
                    "derived": True,
                    "outcomes": {
                        "withdraw": {"name": "自愿退出", "to": "left"},
                        "state": {"name": "陈述意见", "to": "exit"},
                        "lapse": {"name": "期满", "to": "exit", "actor": "clock"},
                    },
                },
                {
                    "id": "exit",
                    "name": "退出审定",
                    "clause": "站点指引·三(六)",
                    "actor": "city",
                    "listed": True,
                    "outcomes": {
                        "revoke": {
                            "name": "撤销称号和授牌",
                            "to": "revoked",
                            "needs": ("ground",),
                            "letter": "revoked",
                        },
                        "keep": {"name": "不予撤销", "to": "active", "letter": "kept"},
                    },
                },
                {
                    "id": "revoked",
                    "name": "已撤销",
                    "clause": "站点指引·三(六)",
                    "actor": "city",
                    "ends": "closed",
                },
                {
                    "id": "left",
                    "name": "已退出",
                    "clause": "站点指引·三(六)",
                    "actor": "filer",
                    "ends": "closed",
                },
            ],
        },
    }
)

BUREAU = Party(code=DISTRICT, kind="K2", name="天河区商务金融局", email="office@th.example")
OPERATOR = Party(code="k6-station", kind="K6", name="某某科技园运营公司", email="park@station.example")


def cluster(of: type[CaseChanged] = CaseAdvanced, **fields: Any) -> CaseChanged:
    known: dict[str, Any] = {
        "case": CASE,
        "number": "GZ-JQ-2025-0007",
        "version": 5,
        "notice": CLUSTERS.id,
        "form": "F15",
        "stage": "recognised",
        "outcome": "recognise",
        "actor": CITY,
        "filer": BUREAU,
        "recommender": "440104",
        "unit": DISTRICT,
        "district": DISTRICT,
        "title": "天河区人工智能特色产业集群",
        "late": False,
    }
    if of is CasePublished:
        known |= {"item_kind": "title", "values": {}, "filed": AT}
    return of(**(known | fields))


def station(of: type[CaseChanged] = CaseAdvanced, **fields: Any) -> CaseChanged:
    known = {
        "number": "GZ-FWZ-2019-0031",
        "notice": STATIONS.id,
        "form": "F12",
        "stage": "active",
        "filer": OPERATOR,
        "recommender": None,
        "unit": OPERATOR.code,
        "title": "某某科技园服务站",
    }
    return cluster(of, **(known | fields))


def owed(event: CaseChanged, at: datetime | None = None) -> list[Owed]:
    return letters_of_case({CLUSTERS.id: CLUSTERS, STATIONS.id: STATIONS}[event.notice], event, DIRECTORY, at)


def one(event: CaseChanged, at: datetime | None = None) -> Owed:
    (letter,) = owed(event, at)
    return letter


def part(letter: Owed, kind: str = "plain") -> str:
    message = compose(
        replace(letter, address=letter.address or "someone@th.example"),
        letters=PACKAGED,
        message_id_domain="mail.gz.example",
        sender=Address("广州市工业和信息化局", "no-reply", "gz.example"),
        date=AT,
    )
    found = message.get_body((kind,))
    assert found is not None
    return str(found.get_content())


LISTED = cluster(CasePublished, due=date(2028, 3, 3))
RUNNING = station(CasePublished, outcome="list")
PROPOSED = cluster(stage="proposed", outcome="propose", rules=("R-CLU-076",), reason="连续两年未报送")
EXPIRED = cluster(stage="proposed", outcome="expire", actor="clock", rules=("R-CLU-074",))
QUESTIONED = cluster(stage="proposed", outcome="question", actor="clock", rules=("R-CLU-076",))
HEARING = station(
    stage="hearing", outcome="propose", actor=HEAD, rules=("R-STA-043",), reason="满意度调查得分较低",
    due=date(2025, 3, 11), provisional=True,
)  # fmt: skip
REVOKED = cluster(CaseClosed, stage="revoked", outcome="revoke", rules=("R-CLU-076",), reason="属实")
KEPT = cluster(outcome="keep", rules=("R-CLU-076",), reason="已补报", due=date(2028, 3, 3))
RENEWED = cluster(outcome="renew", reason="复核通过", due=date(2031, 3, 3))
REPORTED = cluster(outcome="report", actor=DISTRICT, duty="DL-06", period="2025", due=date(2028, 3, 3))
LATE = station(outcome="report_late", actor=OPERATOR.code, duty="DL-15", period="2025-1")
UNOWED = cluster(CaseClosed, stage="revoked", outcome="report_unowed", actor=DISTRICT, period="2025")
MISSED = cluster(outcome="missed", actor="clock", duty="DL-06", period="2024", due=date(2025, 2, 28))
MISSED_AGAIN = station(outcome="missed", actor="clock", duty="DL-15", period="2024-4", due=date(2024, 12, 31))
RAISED = station(outcome="raise", actor=DISTRICT, rules=("R-STA-043",), reason="满意度调查得分58分")
RAISED_BY_CLOCK = cluster(
    outcome="raise", actor="clock", rules=("R-CLU-076",), reason="集群年度培育情况（2024）逾期未报"
)
RAISED_IN_RENEWAL = cluster(stage="renewal", outcome="raise", actor=CITY, rules=("R-CLU-076",))
RAISED_IN_HEARING = station(stage="hearing", outcome="raise", actor="clock", rules=("R-STA-042",))
RAISED_AT_END = station(CaseClosed, stage="revoked", outcome="raise", actor=CITY, rules=("R-STA-042",))
COLLATION = station(stage="collation", outcome="pass", actor=DISTRICT, due=date(2025, 3, 18))
TO_DISTRICT = station(CaseOpened, stage="district", outcome="file", actor=OPERATOR.code)
CHANGES = (
    Change(field="operator", before="甲公司", after="乙公司"),
    Change(field="contact", before="", after="（已修改）"),
    Change(field="c10", before="", after="12"),
    Change(field="c11", before="34", after=""),
)
RESUBMITTED = cluster(stage="review", outcome="resubmit", actor=DISTRICT, changed=CHANGES)

EVENTS = (
    LISTED, RUNNING, PROPOSED, EXPIRED, QUESTIONED, HEARING, REVOKED, KEPT, RENEWED, REPORTED, LATE, UNOWED, MISSED,
    MISSED_AGAIN, RAISED, RAISED_BY_CLOCK, RAISED_IN_RENEWAL, RAISED_IN_HEARING, RAISED_AT_END, COLLATION,
    TO_DISTRICT, RESUBMITTED,
)  # fmt: skip
GIVEN = Party(code=CITY, kind="city", name="广州市工业和信息化局")


def real(event: CaseChanged, notice: str) -> list[Owed]:
    """What a notice that is in force says of it."""
    known = {**IN_FORCE, LATER.id: LATER}[notice]
    form = "F15" if notice == "gz-clusters" else "F12"
    return letters_of_case(known, event.model_copy(update={"notice": notice, "form": form}), DIRECTORY)


MISDIRECTED = station(
    CaseReturned, stage="misdirected_filing", outcome="misdirected", actor=DISTRICT, recommender=DISTRICT,
    reason="注册地址在白云区",
)  # fmt: skip
SHOWN_TO_ALL = cluster(
    stage="public_notice", outcome="propose", actor=CITY, due=date(2025, 3, 13), provisional=True
)
TO_SIGN = station(stage="compact", outcome="publish", actor=CITY, due=date(2019, 7, 17))

SAMPLES = [
    *(letter for event in EVENTS for letter in owed(event, AT)),
    *(letter for event in EVENTS if event.notice == CLUSTERS.id
      for letter in owed(event.model_copy(update={"filer": GIVEN, "unit": CITY}), AT)),
    *real(MISDIRECTED, "gz-stations-2019"),
    *real(SHOWN_TO_ALL, "gz-clusters"),
    *real(TO_SIGN, "gz-stations-2019"),
]  # fmt: skip


# ---- which, and to whom


@pytest.mark.parametrize(
    ("event", "letters"),
    [
        (LISTED, [("published", DISTRICT)]),
        # The head station is the actor of the stage, but nothing waits for it while a station stands.
        (RUNNING, [("published", OPERATOR.code)]),
        (PROPOSED, [("revocation_proposed", DISTRICT)]),
        (EXPIRED, [("revocation_proposed", DISTRICT)]),
        (QUESTIONED, [("revocation_proposed", DISTRICT)]),
        (HEARING, [("hearing", OPERATOR.code)]),
        (REVOKED, [("revoked", DISTRICT)]),
        (KEPT, [("kept", DISTRICT)]),
        (RENEWED, [("renewed", DISTRICT)]),
        (REPORTED, [("report_received", DISTRICT)]),
        (LATE, [("report_received", OPERATOR.code)]),
        (UNOWED, [("report_received", DISTRICT)]),
        (MISSED, [("duty_missed", DISTRICT)]),
        (RAISED, [("ground_raised", HEAD)]),
        (RAISED_BY_CLOCK, [("ground_raised", CITY)]),
        (RAISED_IN_RENEWAL, [("ground_raised", CITY)]),
        (RAISED_IN_HEARING, [("ground_raised", CITY)]),
        (RAISED_AT_END, [("ground_raised", CITY)]),
        (COLLATION, [("action_wanted", HEAD)]),
        (TO_DISTRICT, [("accepted", OPERATOR.code), ("action_wanted", DISTRICT)]),
        (RESUBMITTED, [("accepted", DISTRICT), ("recommend_wanted", "440104")]),
        # The city works from its lists, whatever it must decide.
        (cluster(stage="acceptance", outcome="recommend", actor="440104"), []),
        # What brings no news to anybody outside.
        (station(outcome="fact", actor=DISTRICT, reason="走访"), []),
        (station(stage="collation", outcome="score", actor=HEAD), []),
        (station(stage="collation", outcome="report_unowed"), [("report_received", OPERATOR.code)]),
        (station(stage="collation", outcome="recount", actor="clock"), []),
        (
            station(stage="collation", outcome="recount", actor="clock", due=date(2025, 3, 19)),
            [("action_wanted", HEAD)],
        ),
        (station(stage="collation", outcome="amend", actor=OPERATOR.code), [("action_wanted", HEAD)]),
        # Of a duty that the notice no longer names there is nothing to say.
        (cluster(outcome="missed", actor="clock", duty="DL-99", due=date(2025, 3, 1)), []),
    ],
)
def test_each_turn_of_a_life_is_told_to_whom_it_concerns(
    event: CaseChanged, letters: list[tuple[str, str]]
) -> None:
    assert [(letter.letter, letter.to) for letter in owed(event)] == letters
    assert [letter.key for letter in owed(event)] == [
        f"case/{CASE}/{event.version}/{name}/{to}" for name, to in letters
    ]


def altered(notice: Notice, stage: str, **fields: Any) -> Notice:
    """The same notice with something else in one stage."""
    data = notice.model_dump(mode="python")
    (one,) = [s for s in data["procedure"]["stages"] if s["id"] == stage]
    one |= fields
    return Notice.model_validate(data)


def test_a_role_that_the_issuer_plays_itself_is_not_written_to() -> None:
    data = STATIONS.model_dump(mode="python")
    data["roles"]["head"]["agency"] = CITY
    assert letters_of_case(Notice.model_validate(data), COLLATION, DIRECTORY) == []


def test_what_the_clock_does_with_a_ground_is_nobody_s_to_propose() -> None:
    lapse = {"name": "期满", "to": "exit", "actor": "clock", "needs": ("ground",)}
    state = {"name": "陈述意见", "to": "exit"}
    notice = altered(STATIONS, "hearing", outcomes={"lapse": lapse, "state": state})
    assert [letter.to for letter in letters_of_case(notice, RAISED_IN_HEARING, DIRECTORY)] == [CITY]


def test_a_validity_is_no_date_to_keep_and_a_date_to_keep_no_validity() -> None:
    own = altered(CLUSTERS, "recognised", actor="filer")
    (letter,) = letters_of_case(own, LISTED, DIRECTORY)
    assert (letter.params["due"], letter.params["valid_until"]["date"]) == (None, "2028-03-03")
    timed = altered(STATIONS, "active", within={"working_days": 5})
    event = station(outcome="list", due=date(2025, 3, 11))
    (letter,) = letters_of_case(timed, event, DIRECTORY)
    assert "有效期" not in part(letter)
    assert "2025年3月11日" not in part(letter)


def test_a_miss_and_the_ground_that_follows_owe_two_letters_with_two_keys() -> None:
    raised = RAISED_BY_CLOCK.model_copy(update={"version": MISSED.version + 1})
    keys = [letter.key for event in (MISSED, raised) for letter in owed(event)]
    assert len(set(keys)) == 2


def test_a_title_that_nobody_may_propose_against_any_more_is_told_to_the_issuer() -> None:
    assert "本阶段不能提出撤销" in part(one(RAISED_IN_HEARING))
    assert "本案已办结，不再提出撤销" in part(one(RAISED_AT_END))
    assert "转入“撤销审核”阶段" in part(one(RAISED_IN_RENEWAL))
    for event in (RAISED_IN_HEARING, RAISED_AT_END, RAISED_IN_RENEWAL):
        assert "决定是否在系统中办理" not in part(one(event))


def test_an_agency_that_filed_the_case_is_reached_where_its_filing_says() -> None:
    own = cluster(stage="review", outcome="resubmit", actor=DISTRICT, recommender=DISTRICT)
    assert [letter.address for letter in owed(own)] == [BUREAU.email]


def test_the_letters_exist_and_no_outcome_bears_a_name_of_the_system() -> None:
    assert [*crossed(CLUSTERS, LETTERS), *crossed(STATIONS, LETTERS)] == []
    bad = STATIONS.model_dump(mode="python")
    bad["procedure"]["stages"][0]["outcomes"]["report"] = {"name": "上报", "to": "collation"}
    assert list(crossed(Notice.model_validate(bad), LETTERS)) == [
        (("procedure", "stages", 0, "outcomes", "report"), "结果名 report 由系统使用，请另取名称")
    ]


# ---- what they say


def said(event: CaseChanged, *texts: str, without: Sequence[str] = (), at: datetime | None = None) -> None:
    letter = one(event, at)
    for kind in ("plain", "html"):
        content = part(letter, kind)
        assert [t for t in texts if t not in content] == []
        assert [t for t in without if t in content] == []


def test_a_title_that_was_granted_is_told_by_its_stage_and_its_term() -> None:
    said(
        LISTED,
        "经广州市工业和信息化局决定，现为“已认定”，已列入公布的名单。有效期至2028年3月3日。",
        "集群年度培育情况：每年2月底前（指引·4.2）",
        "重大变动报备：变更为市局得知之日起30日内（系统默认，非通知规定）（指引·4.3.4）",
        "请按期报送上列事项",
        without=["并发布", "截止"],
    )


def test_a_title_without_a_term_is_promised_none() -> None:
    said(RUNNING, "现为“挂牌运行”，已列入公布的名单。", without=["有效期", "截止"])
    said(station(outcome="keep"), "保留其认定（称号），现为“挂牌运行”。", without=["有效期"])


def test_a_hearing_says_what_was_proposed_by_whom_why_until_when_and_who_decides() -> None:
    said(
        HEARING,
        "广州市产业园区商会对贵单位报送的项目办理了“提出退出意见”",
        "是否撤销其认定（称号），由广州市工业和信息化局决定，目前尚未作出决定",
        "站点指引·三(六)〔R-STA-043〕服务满意度低",
        "2025年3月11日（星期二）截止（暂定，以当年放假安排公布后的日期为准）（系统默认，非通知规定）",
        "请在期限之前在系统中办理“陈述意见”，写明理由。期满未提出意见的，转入“退出审定”阶段。",
        "满意度调查得分较低",
        "如有疑问，请联系广州市产业园区商会",
    )


def test_a_hearing_without_a_date_names_none() -> None:
    undated = HEARING.model_copy(update={"due": None})
    said(undated, "请在作出决定之前在系统中办理“陈述意见”", without=["期限", "期满"])


def test_what_was_proposed_is_told_apart_from_what_the_clock_brought() -> None:
    said(
        PROPOSED,
        "广州市工业和信息化局对贵单位报送的项目办理了“提出撤销”，事由见“依据”，现处于“撤销审核”阶段",
        "指引·4.3.3〔R-CLU-076〕未及时报送集群年度培育情况信息表",
    )
    said(
        EXPIRED,
        "已由系统按程序转入“撤销审核”阶段（有效期届满）",
        "指引·4.3.1〔R-CLU-074〕有效期满未申请复核或经复核未通过",
        "由广州市工业和信息化局决定，目前尚未作出决定",
        without=["办理了"],
    )
    said(QUESTIONED, "（出现事由）", without=["办理了"])


def test_the_end_is_told_as_it_was_decided() -> None:
    said(REVOKED, "经广州市工业和信息化局决定，撤销", "本案已办结", "〔R-CLU-076〕未及时报送", "属实")
    said(KEPT, "不予撤销，保留其认定（称号），现为“已认定”。有效期至2028年3月3日。")
    said(RENEWED, "复核通过，现为“已认定”。有效期延长至2031年3月3日。", "指引·4.1", without=["截止"])


def test_a_report_is_told_in_time_late_or_without_effect() -> None:
    said(REPORTED, "“集群年度培育情况”（2025年）已按期收到", "指引·4.2〔DL-06〕", without=["截止"])
    said(LATE, "“季度服务情况”（2025年第一季度）已收到并登记，收到时已过期限", "公约·二5〔DL-15〕")
    said(UNOWED, "（2025年）已收到并存档。本案已办结，本次报送不改变项目的办理情况")
    standing = cluster(outcome="report_unowed", actor=DISTRICT, period="2025")
    said(standing, "本项目目前没有与之对应的待报事项", without=["办结"])


def test_a_miss_says_what_when_how_to_file_it_still_and_what_it_may_become() -> None:
    said(
        MISSED,
        "应为本项目报送的“集群年度培育情况”（2024年），期限届满时系统尚未收到",
        "2025年2月28日（星期五）截止",
        "，已过",
        "填写“附件2 集群年度培育情况信息表”，在“集群编号或名称”一栏填写本项目的编号 GZ-JQ-2025-0007",
        "在“填报年度”栏填写2024年",
        "已登记为“依据”所列的事由（未及时报送集群年度培育情况信息表）。"
        "是否据此办理“提出撤销”，由有权提出的单位核实后决定",
        "指引·4.2〔DL-06〕集群年度培育情况",
        "指引·4.3.3〔R-CLU-076〕未及时报送",
        without=["累计"],
    )
    said(
        MISSED_AGAIN,
        "同一事由所涉的报送事项累计逾期2次的，系统登记为“依据”所列的事由"
        "（不支持市区两级中小企业主管部门的相关工作）（系统默认，非通知规定）。"
        "是否据此办理“提出退出意见”，由有权提出的单位核实后决定",
        "2024年12月31日（星期二）截止（系统默认，非通知规定）",
        without=["栏填写2024"],
    )


def test_a_miss_that_is_no_ground_threatens_with_none() -> None:
    event = cluster(outcome="missed", actor="clock", duty="DL-09", period="2025-01-20", due=date(2025, 2, 19))
    said(event, "“重大变动报备”（2025年1月20日）", without=["事由见", "撤销", "可能成为"])


def test_a_ground_is_told_with_who_reported_it_why_since_when_and_what_may_be_done() -> None:
    said(
        RAISED,
        "某某科技园运营公司报送的项目登记了下列事由：服务满意度低。由天河区商务金融局报告，登记日期为2025年3月4日",
        "满意度调查得分58分",
        "站点指引·三(六)〔R-STA-043〕服务满意度低",
        "决定是否在系统中办理“提出退出意见”，并写明理由",
        at=AT,
    )
    # Without a time of the event no date is made up.
    said(RAISED, "由天河区商务金融局报告。", without=["登记日期"])
    said(
        RAISED_BY_CLOCK,
        "由系统按期限登记。",
        "决定是否在系统中办理“提出撤销”",
        "情况",
        # The city is not told to ask itself.
        "如有疑问，请联系天河区商务金融局",
        without=["审核意见"],
    )


def test_the_date_of_a_ground_is_that_of_guangzhou() -> None:
    said(RAISED, "2025年3月5日", at=datetime(2025, 3, 4, 16, 0, tzinfo=UTC))


def test_a_role_that_must_act_is_told_what_it_may_decide_and_until_when() -> None:
    said(
        COLLATION,
        "现处于“汇总与初步审核”阶段，由贵单位（服务总站）办理",
        "本阶段可作的决定：提交专家评审（forward）、退回（return）",
        "2025年3月18日（星期二）截止（系统默认，非通知规定）",
        "公约·一7〔ST-STA-4〕汇总与初步审核",
        "站点指引·三(五)：服务总站",
    )


def test_what_changed_is_listed_under_the_printed_headers_to_filer_and_recommender() -> None:
    assert len(owed(RESUBMITTED)) == 2
    for letter in owed(RESUBMITTED):
        content = part(letter).replace("\r\n", "\n")
        assert (
            "本次修改：\n1. 运营管理机构：由“甲公司”改为“乙公司”\n2. 联系人及联系方式：（已修改）\n"
            "3. 第10项指标：新填写“12”\n4. 第11项指标：删去“34”\n\n"
        ) in content
        assert "等4处" not in content
        assert "第11项指标</strong>：删去“34”" in part(letter, "html")
    assert "重新报送的内容已收到并归入原案" in part(owed(RESUBMITTED)[0])
    assert "报送单位修改了内容" in part(owed(RESUBMITTED)[1])


def test_what_says_whom_to_call_is_never_repeated_in_a_letter() -> None:
    leaked = (Change(field="contact", before="张三 13800000000", after="李四 13900000000"),)
    for letter in owed(RESUBMITTED.model_copy(update={"changed": leaked})):
        assert "联系人及联系方式：（已修改）" in part(letter)
        assert "138" not in str(letter.params)


@pytest.mark.parametrize(("count", "rest"), [(12, None), (13, "等13处。"), (15, "等15处。")])
def test_many_changes_are_cut_off_and_counted(count: int, rest: str | None) -> None:
    many = tuple(Change(field=f"c{n}", before="1", after="2") for n in range(10, 10 + count))
    for letter in owed(RESUBMITTED.model_copy(update={"changed": many})):
        for kind in ("plain", "html"):
            content = part(letter, kind)
            assert content.count("由“1”改为“2”") == 12
            assert (f"等{count}处" in content) is (rest is not None)


def test_a_receipt_is_owed_for_what_answers_a_return_or_changes_something_by_itself() -> None:
    amended: dict[str, Any] = {"stage": "collation", "outcome": "amend", "actor": OPERATOR.code}
    changed = (Change(field="name", before="甲站", after="乙站"),)

    def receipts(event: CaseChanged) -> list[str]:
        return [letter.to for letter in owed(event) if letter.letter == "accepted"]

    assert receipts(station(**amended, changed=changed)) == [OPERATOR.code]
    assert receipts(station(**amended)) == []
    # The answer to the package told of it; a returned case was written to by itself, and so it is answered.
    assert receipts(station(**amended, changed=changed, package="p-1")) == []
    assert receipts(RESUBMITTED.model_copy(update={"package": "p-1"})) == [DISTRICT]


def test_a_filer_whose_turn_it_is_is_not_told_to_wait() -> None:
    waits = station(CaseOpened, stage="hearing", outcome="file")
    said(waits, "本阶段由贵单位办理，可办理：自愿退出、陈述意见。", without=["无需贵单位办理"])
    said(station(CaseOpened, stage="decision", outcome="file"), "目前无需贵单位办理", without=["可办理："])


def test_a_returned_case_that_a_fact_is_told_of_owes_no_second_letter() -> None:
    assert owed(cluster(CaseReturned, stage="correction", outcome="fact", actor=CITY)) == []


def test_times_are_printed_as_people_write_them() -> None:
    assert [period(p) for p in ("2025", "2025-4", "2025-02-01", "首期")] == [
        "2025年", "2025年第四季度", "2025年2月1日", "首期",
    ]  # fmt: skip
    known: dict[str, Any] = {
        "yearly": None,
        "quarterly": False,
        "after": None,
        "days": None,
        "since": None,
        "derived": False,
    }
    assert when({**known, "yearly": "02-29"}) == "每年2月底前"
    assert when({**known, "yearly": "12-31", "derived": True}) == "每年12月31日前（系统默认，非通知规定）"
    assert when({**known, "quarterly": True}) == "每季度末前"
    assert when({**known, "after": "entry", "days": 30}) == "列入名单之日起30日内"
    signed = {**known, "since": "签署公约"}
    assert when({**signed, "after": "entry", "days": 30}) == "签署公约之日起30日内"
    assert when({**signed, "after": "change", "days": 30}) == "签署公约之后，变更为市局得知之日起30日内"
    assert when({**signed, "quarterly": True}) == "签署公约之后，每季度末前"
    ended = {"date": "2028-03-03", "provisional": False, "derived": True}
    assert until(ended) == "2028年3月3日（系统默认，非通知规定）"
    assert until({**ended, "provisional": True, "derived": False}).startswith("2028年3月3日（暂定")


# ---- what a district officer needs them to say


def shows(letter: Owed, *texts: str, without: Sequence[str] = ()) -> None:
    for kind in ("plain", "html"):
        content = part(letter, kind)
        assert [t for t in texts if t not in content] == []
        assert [t for t in without if t in content] == []


@pytest.mark.parametrize("event", [MISSED, REPORTED, PROPOSED, EXPIRED, QUESTIONED, REVOKED, KEPT, RENEWED])
def test_what_the_notice_brought_in_is_told_to_the_department_of_its_district(event: CaseChanged) -> None:
    given = event.model_copy(update={"filer": GIVEN, "unit": CITY})
    letter = one(given)
    assert (letter.to, letter.to_name) == (DISTRICT, "天河区商务金融局")
    assert letter.key.endswith(f"/{DISTRICT}")
    # The district neither filed it nor can be asked by itself.
    shows(
        letter,
        "如有疑问，请联系广州市工业和信息化局中小企业处",
        without=["贵单位报送的项目", "请联系天河区"],
    )


def test_a_hearing_about_what_the_notice_brought_in_is_held_in_writing() -> None:
    letter = one(HEARING.model_copy(update={"filer": GIVEN, "unit": CITY}))
    assert letter.to == DISTRICT
    shows(letter, "通知列入的本区项目", "书面告知下列单位", without=["在系统中办理“陈述意见”"])


def test_what_a_district_that_nobody_knows_was_given_stays_with_the_issuer() -> None:
    assert one(MISSED.model_copy(update={"filer": GIVEN, "district": "449999"})).to == CITY


def test_a_ground_against_what_the_notice_brought_in_is_to_be_asked_of_the_district() -> None:
    letter = one(RAISED_BY_CLOCK.model_copy(update={"filer": GIVEN, "unit": CITY}))
    assert letter.to == CITY
    shows(letter, "如有疑问，请联系天河区商务金融局")


def test_a_miss_that_moves_the_case_by_itself_says_so() -> None:
    (letter,) = real(MISSED, "gz-clusters")
    shows(
        letter,
        "系统已按程序将本项目转入“撤销审定”阶段，提请广州市工业和信息化局审核",
        "是否撤销由人工核实后决定，目前尚未作出决定",
        without=["是否据此", "累计"],
    )
    # Where it is before the city already, nothing moves.
    (letter,) = real(MISSED.model_copy(update={"stage": "revocation"}), "gz-clusters")
    shows(letter, "是否据此办理“撤销认定”，由有权提出的单位核实后决定", without=["转入"])


def test_one_miss_of_several_that_count_moves_nothing() -> None:
    late = MISSED_AGAIN.model_copy(update={"duty": "DL-14", "period": "2024"})
    (letter,) = real(late, "gz-stations-2019")
    shows(
        letter,
        "累计逾期2次的，系统登记为“依据”所列的事由",
        "是否据此办理“提出撤销意见”，由有权提出的单位核实后决定",
        without=["转入", "已登记为“依据”"],
    )


def test_a_miss_that_is_not_enough_by_itself_is_not_said_to_have_moved_the_case() -> None:
    data = IN_FORCE["gz-clusters"].model_dump(mode="python")
    for duty in data["duties"]:
        duty["misses"] = 2
    event = MISSED.model_copy(update={"notice": "gz-clusters"})
    (letter,) = letters_of_case(Notice.model_validate(data), event, DIRECTORY)
    shows(letter, "累计逾期2次的", without=["已按程序", "转入"])


@pytest.mark.parametrize("notice", ["gz-stations-2019", "gz-stations-2026"])
def test_who_is_on_the_list_and_must_sign_is_told_that_and_by_when(notice: str) -> None:
    (letter,) = real(TO_SIGN, notice)
    assert letter.letter == "published"
    shows(
        letter,
        "请于2019年7月17日前办理：签署公约、挂牌运行。另请核对公布的名单",
        "工作制度报服务总站备案：签署公约、挂牌运行之日起30日内",
        "年度服务工作总结和下一年度计划：签署公约、挂牌运行之后，每年12月31日前",
        without=["列入名单之日起"],
    )
    (undated,) = real(TO_SIGN.model_copy(update={"due": None}), notice)
    shows(undated, "请办理：签署公约、挂牌运行。")


@pytest.mark.parametrize("notice", ["gz-stations-2019", "gz-stations-2026"])
def test_a_filing_in_the_wrong_district_is_told_where_to_and_how(notice: str) -> None:
    (letter,) = real(MISDIRECTED, notice)
    assert letter.letter == "misdirected"
    shows(
        letter,
        "经天河区商务金融局审核，不属本区，请改报注册地所在区",
        "无需逐项修改",
        "推荐单位改为注册地所在区的中小企业主管部门",
        "项目编号仍为 GZ-FWZ-2019-0031",
        "1100号·四",
        "注册地址在白云区",
        without=["退回修改", "请逐项修改"],
    )


def test_a_cluster_on_public_notice_is_not_told_that_it_was_selected() -> None:
    (letter,) = real(SHOWN_TO_ALL, "gz-clusters")
    assert letter.letter == "proposed"
    shows(
        letter,
        "拟列入名单，正在公示，公示至2025年3月13日（暂定，以当年放假安排公布后的日期为准）。本信不是认定结果",
        "公示期满无异议的，转入“发布名单”阶段",
        "指引 3.3.2",
        without=["入选", "截止"],
    )


def test_who_must_recommend_reads_what_it_may_decide_and_is_not_told_to_ask_itself() -> None:
    event = station(stage="recommendation", outcome="accept", actor=DISTRICT, recommender=DISTRICT)
    (letter,) = real(event, "gz-stations-2019")
    assert (letter.letter, letter.to) == ("recommend_wanted", DISTRICT)
    shows(
        letter,
        "推荐上报（recommend）、退回补正（return）、初审不予推荐（reject）",
        "如有疑问，请联系广州市工业和信息化局",
        without=["withdraw", "请联系天河区"],
    )
    # Who decided before and is another may be asked.
    shows(one(COLLATION), "如有疑问，请联系天河区商务金融局")


def test_who_acts_twice_in_a_row_is_told_to_ask_the_issuer() -> None:
    event = station(stage="expert_review", outcome="collate", actor=HEAD)
    (letter,) = real(event, "gz-stations-2019")
    assert (letter.letter, letter.to) == ("action_wanted", HEAD)
    shows(
        letter, "形成推荐意见（conclude）", "请联系广州市工业和信息化局", without=["请联系广州市产业园区商会"]
    )


@pytest.mark.parametrize("notice", [IN_FORCE["gz-stations-2019"], LATER], ids=["2019", "2026"])
def test_the_head_station_that_proposes_is_not_heard_on_its_own_proposal(notice: Notice) -> None:
    head = Party(code=HEAD, kind="K5", name="广州市产业园区商会")
    event = station(
        notice=notice.id, form="F12-5", filer=head, unit=HEAD, actor=HEAD,
        stage="resident_ruling", outcome="propose_exit", rules=("R-STA-043",),
    )  # fmt: skip
    assert letters_of_case(notice, event, DIRECTORY) == []
