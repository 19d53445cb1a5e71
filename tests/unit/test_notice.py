"""The notice of the first quarter, held against the letter of its source (spec §1–3), and its procedure."""

from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path

import pytest

from shared.contracts.types import Kind
from shared.notices.load import CompiledNotice, NoticeBroken, load, load_all
from shared.notices.model import Notice
from shared.notices.procedure import NotAllowed, draw, start, step, who_acts
from shared.notices.stages import Stage
from shared.notices.values import same

ROOT = Path(__file__).parents[2]
FILE = ROOT / "shared/notices/data/gz-collection-2025q1.yaml"
NEXT = ROOT / "tests/examples/gz-collection-2025q2.yaml"


@pytest.fixture(scope="module")
def compiled() -> CompiledNotice:
    return load(FILE)


@pytest.fixture(scope="module")
def notice(compiled: CompiledNotice) -> Notice:
    return compiled.notice


# --- forms, to the letter ---

HEADERS = {
    "F3": "服务领域 举办单位 活动名称 活动时间 活动地点 活动内容 参加人数 联系人及联系方式",
    "F4": "公司名称 联系人及联系方式 产品名称 问题及需求分析 场景描述 产品简述 产品应用场景",
    "F5": (
        "金融机构名称 联系人及方式 产品名称 产品简要介绍 最高贷款金额（万元） 贷款期限（月） 还款方式 担保方式 "
        "贷款利率区间（年化） 产品特点 适用客户 准入条件"
    ),
    "F6": "公司名称 共享仪器和设备名称 数量 主要用途 联系人及联系方式",
    "F7": "课程领域 课程名称 授课人 授课人所在单位 课程申报机构 讲师介绍 课程内容简介 联系人及联系方式",
    "F8": (
        "服务领域 填报单位 活动（产品）名称 活动（产品）提供时间 活动（产品）地点（区域） 活动（产品）内容 "
        "活动参加人数 联系人及联系方式"
    ),
    "F10-2": "服务领域 案例名称 申报单位",
}
KEYS = {
    "F3": "service_domain organizer activity_name activity_time venue content participants contact",
    "F4": "company_name contact product_name problem_analysis scenario product_brief application_scenarios",
    "F5": (
        "institution_name contact product_name product_brief max_amount_wan term_months repayment guarantee "
        "rate_range features target_customers admission"
    ),
    "F6": "company_name equipment_name quantity main_use contact",
    "F7": "course_domain course_name lecturer lecturer_org applicant_org lecturer_intro course_intro contact",
    "F8": "cluster_domain reporting_org item_name offer_time place content participants contact",
    "F10-2": "service_domain case_name applicant_org",
}
TITLES = {
    "F3": (
        "附件3",
        "广州市2025年第一季度中小企业服务活动清单",
        "2025年第一季度广州市“一起益企”中小微企业服务活动清单",
    ),
    "F4": (
        "附件4",
        "广州市2025年第一季度“小快轻准”智能化服务产品目录",
        "“小快轻准”智能化服务产品汇总表",
    ),
    "F5": (
        "附件5",
        "广州市2025年第一季度“一起益企”金融服务产品汇总表",
        "“一起益企”金融服务产品汇总表",
    ),
    "F6": (
        "附件6",
        "广州市2025年第一季度“一起益企”检验检测和设备共享产品信息表",
        "检验检测和设备共享产品信息表",
    ),
    "F7": (
        "附件7",
        "广州市2025年第一季度“一起益企”“名师优课”汇总表",
        "广州市2025年第一季度“一起益企”“名师优课”汇总表",
    ),
    "F8": (
        "附件8",
        "广州市2025年中小企业产业集群服务（产品）汇总表",
        "中小企业特色产业集群建设服务产品信息表",
    ),
    "F9-1": (
        "附件9-1",
        "“城市合伙人”可开发资源摸查表（2025年度）",
        "十五运“城市合伙人”产品摸排表格",
    ),
    "F9-2": ("附件9-2", "“城市合伙人”企业推荐表", "十五运“城市合伙人”产品摸排表格"),
    "F10-1": ("附件10-1", "服务中小企业典型案例 申报书", "优秀服务案例报送要求"),
    "F10-2": ("附件10-2", "服务中小企业典型案例推荐对象汇总表", "优秀服务案例报送要求"),
}
CARDS = {
    "F9-1": [1, 2, 3],
    "F9-2": [*range(1, 12)],
    # A signature and a seal (17, 18) are on the scan; the date under the statement follows its flag.
    "F10-1": [*range(1, 17), 19, *range(20, 25)],
}


def test_the_annexes_carry_their_printed_labels_and_both_titles(notice: Notice) -> None:
    by_name = notice.model_copy(update={"title_source": "notice"})
    found = {f.id: (f.annex, notice.form_title(f), by_name.form_title(f)) for f in notice.forms}
    assert found == TITLES


def test_headers_and_keys_are_those_of_the_annexes(notice: Notice) -> None:
    assert {f.id: " ".join(c.header for c in f.columns) for f in notice.forms if f.columns} == HEADERS
    assert {f.id: " ".join(c.key for c in f.columns) for f in notice.forms if f.columns} == KEYS


def test_fields_are_numbered_as_in_the_specification(notice: Notice) -> None:
    for form in notice.forms:
        first = 3 if form.id == "F10-2" else 2  # the serial number is no field that anybody fills
        expected = [f"{form.id}.{n:02}" for n in range(first, first + len(form.columns))]
        assert [c.field for c in form.columns] == expected
    assert [line.field for line in notice.by_form["F10-2"].lines] == ["F10-2.01", "F10-2.06", "F10-2.07"]
    for id_, numbers in CARDS.items():
        form = notice.by_form[id_]
        assert [c.field for c in form.by_key.values()] == [f"{id_}.{n:02}" for n in numbers]
    assert [
        (b.field, [c.field for c in b.columns], len(b.preset)) for b in notice.by_form["F9-1"].blocks.values()
    ] == [
        ("F9-1.A", [f"F9-1.A{n}" for n in range(2, 7)], 4),
        ("F9-1.B", [f"F9-1.B{n}" for n in range(2, 10)], 5),
        ("F9-1.C", [f"F9-1.C{n}" for n in range(2, 7)], 2),
        ("F9-1.D", [f"F9-1.C{n}" for n in range(2, 7)], 5),
        ("F9-1.E1", [f"F9-1.C{n}" for n in range(2, 7)], 0),
    ]


def test_widths_fill_the_page(notice: Notice) -> None:
    for form in notice.forms:
        width = form.serial_width + sum(c.width for c in form.columns)
        assert form.card or width == (225 if form.landscape else 156), form.id


def test_no_heading_could_mean_two_columns(notice: Notice) -> None:
    for form in notice.forms:
        names = [same(n) for c in form.columns for n in (c.header, *c.aliases)]
        assert len(names) == len(set(names)), form.id


def test_the_code_lists_are_those_of_the_source(notice: Notice) -> None:
    assert {name: [c.label for c in one.values] for name, one in notice.lists.items()} == {
        "service_domain": [
            "★人工智能新兴产业分析（数字化赋能）",
            "★市场拓展（出海服务）",
            "政策宣贯",
            "法律服务",
            "引才育才",
            "融资促进",
            "第十五届全运会产品和服务场景对接服务",
            "其他",
        ],
        "course_domain": [
            "法律法规",
            "政策解读",
            "经营管理",
            "集群培育",
            "创业指导",
            "创新发展",
            "权益保护",
        ],
        "cluster_domain": [
            "提升集群主导产业优势",
            "激发集群创新活力",
            "加大集群融资支持",
            "推进集群数字化升级",
            "加快集群绿色低碳转型",
            "深化集群开放合作",
            "提升集群品牌效应",
            "提升集群治理和服务能力",
        ],
        "case_domain": [d.label for d in notice.directions],
        "org_type": ["国有", "合资", "民营", "外资"],
    }
    assert [name for name, one in notice.lists.items() if not one.open] == ["org_type"]


def test_the_eleven_directions(notice: Notice) -> None:
    assert {d.code: (d.label, d.forms) for d in notice.directions} == {
        "D01": ("“政策宣贯”", ("F3",)),
        "D02": ("市场拓展（出海服务）", ("F3",)),
        "D03": ("引才育才", ("F3",)),
        "D04": ("融资促进（股权交易）", ("F3", "F5")),
        "D05": ("法律服务", ("F3",)),
        "D06": ("“小快轻准”产品（数字化赋能）", ("F4", "F3")),
        "D07": ("检验检测设备共享（科技成果赋智）", ("F6",)),
        "D08": ("“名师优课”", ("F7",)),
        "D09": ("优秀服务案例", ("F10-2", "F10-1")),
        "D10": ("中小企业特色产业集群建设", ("F8",)),
        "D11": ("第十五届全运会“城市合伙人”产品摸排", ("F3", "F9-1", "F9-2")),
    }


@pytest.mark.parametrize(
    ("domain", "direction"),
    [
        ("人工智能新兴产业分析 (数字化赋能)", "D06"),
        ("市场拓展（出海服务）", "D02"),
        ("政策宣贯", "D01"),
        ("法律服务", "D05"),
        ("引才育才", "D03"),
        ("融资促进", "D04"),
        ("第十五届全运会产品和服务场景对接服务", "D11"),
        ("其他（知识产权）", None),
    ],
)
def test_a_service_domain_leads_to_its_direction(
    compiled: CompiledNotice, domain: str, direction: str | None
) -> None:
    row = {
        "service_domain": domain,
        "organizer": "某协会",
        "activity_name": "讲座",
        "activity_time": "6月10日",
        "venue": "线上",
        "content": "讲解",
        "participants": "约100人",
        "contact": "张三 83726619",
    }
    judged = compiled.forms["F3"].judge(row)
    assert (judged.direction, judged.item_kind, judged.findings) == (direction, "activity", ())


CLUSTERS = [
    "黄埔区有机高分子材料",
    "番禺区纺织服装",
    "番禺区灯光音响",
    "白云区化妆品",
    "黄埔区智能制造装备",
    "花都区箱包皮具",
    "白云区轨道交通供电装备",
    "黄埔区新一代通信设备和终端制造",
    "荔湾区激光与增材制造",
    "花都区智能汽车智能终端",
    "海珠区服务制造业",
    "白云区智能家居",
]
CANDIDATES = ["化妆品", "光电", "检验检测", "呼吸与健康生物医药", "食品", "纺织服装", "电线电缆"]


def test_the_cluster_list_of_annex_8(notice: Notice) -> None:
    recognised = "".join(
        f"{n}、{name}产业集群（{'国家级、' if n <= 6 else ''}省级中小企业特色产业集群）；"
        for n, name in enumerate(CLUSTERS, 1)
    )
    candidates = "；".join(f"XX区{name}产业集群" for name in CANDIDATES)
    row = notice.by_form["F8"].notes[0]
    assert (row.where, row.label) == ("row", "项目集群名单")
    assert row.text == f"已认定名单：{recognised}拟培育名单：{candidates}等等。"


def test_the_notes_of_the_other_annexes(notice: Notice) -> None:
    found = [(f.id, n.where, n.bold, n.text) for f in notice.forms for n in f.notes if n.label is None]
    assert found == [
        (
            "F3",
            "below",
            True,
            "服务领域：★人工智能新兴产业分析（数字化赋能）、市场拓展（出海服务）、政策宣贯、引才育才、融资促进、"
            "第十五届全运会产品和服务场景对接服务等",
        ),
        (
            "F3",
            "below",
            False,
            "第十五届全运会产品和服务场景对接服务征集方案范围包括但不限于以下内容：（一）智慧城市（二）智慧场馆"
            "（三）自动化技术（四）机器人技术（五）位置服务（导航与路径规划）（六）信息技术（身份认证技术）"
            "（七）数字孪生（八）5G通信技术（九）人工智能应用（十）金融科技",
        ),
        (
            "F5",
            "below",
            False,
            "注：以往已经提供或者已经公布的产品请勿重复提供；提供的产品包括但不限于：股权、期货、保单等等；"
            "平台类产品也欢迎提供（表格可做一定修改）。",
        ),
        (
            "F7",
            "row",
            False,
            "注：课程领域包括但不限于：法律法规、政策解读、经营管理、集群培育、创业指导、创新发展、权益保护等等。",
        ),
        (
            "F8",
            "below",
            False,
            "征集方案范围包括但不限于以下内容：能够为集群提供更多的财政、金融、产业、创新、土地、人才等支持的策划方案、"
            "活动计划、科研成果、基础设施、服务资源、标准规范、数字产品、环保技术、合作渠道、品牌商标、治理机制等等。",
        ),
        ("F9-2", "below", False, "注：如推荐多家企业，可复制本表格填写。"),
    ]


def test_preset_rows_are_as_many_as_printed(notice: Notice) -> None:
    presets = {f.id: f.preset for f in notice.forms if f.columns}
    assert {form: len(rows) for form, rows in presets.items()} == {
        "F3": 10,
        "F4": 2,
        "F5": 2,
        "F6": 2,
        "F7": 4,
        "F8": 8,
        "F10-2": 2,
    }
    for form in notice.forms:
        column = form.by_key.get(form.group or "")
        labels = {c.label for c in notice.lists[column.list].values} if column and column.list else set()
        assert {row for row in form.preset if row} <= labels


def test_an_item_of_annex_8_is_an_activity_when_it_has_participants(compiled: CompiledNotice) -> None:
    row = {
        "cluster_domain": "提升集群品牌效应",
        "reporting_org": "某机构",
        "item_name": "服务",
        "offer_time": "长期",
        "place": "白云区",
        "content": "内容",
        "contact": "张三 83726619",
    }
    judge = compiled.forms["F8"].judge
    assert judge({**row, "participants": "50"}).item_kind == "activity"
    assert judge({**row, "participants": "—"}).item_kind == "product"
    forgotten = judge(row)
    assert forgotten.item_kind == "product"
    assert [(f.rule, f.severity) for f in forgotten.findings] == [("F8.08", "soft")]


def test_only_loans_need_the_five_loan_columns(notice: Notice) -> None:
    conditional = {c.field: c.conditional for f in notice.forms for c in f.columns if c.conditional}
    assert sorted(conditional) == ["F5.06", "F5.07", "F5.08", "F5.09", "F5.10", "F8.08"]
    assert all("请填“—”" in hint for hint in conditional.values())


def test_every_kind_of_unit_may_file_every_list(notice: Notice) -> None:
    """The cards of 附件9 are another matter (tests/unit/test_cards.py)."""
    kinds: tuple[Kind, ...] = ("K1", "K2", "K3", "K4", "K5", "K6")
    assert all(notice.may_file(f.id, kind) for f in notice.forms if f.columns for kind in kinds)
    assert not notice.may_file("F3", "city")


# --- rules ---


def test_every_rule_of_the_collection_is_there_with_its_clause(notice: Notice) -> None:
    wanted = {f"R-COL-{n:03}" for n in range(1, 41)} | {"R-COL-033a", "R-COL-035a", "R-COL-038a"}
    general = {f"R-GEN-{n:03}" for n in (1, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14)}
    assert set(notice.by_rule) == wanted | general
    assert all(rule.clause and rule.text for rule in notice.rules)


def test_severities_are_those_of_the_specification(notice: Notice) -> None:
    hard = {rule.id for rule in notice.rules if rule.severity == "hard" and rule.id.startswith("R-COL")}
    soft = {rule.id for rule in notice.rules if rule.severity == "soft"}
    assert hard == {f"R-COL-{n:03}" for n in (2, 9, 17, 18, 19, 22, *range(29, 35), 36, 37, 38)} | {
        "R-COL-038a"
    }
    assert soft == {f"R-COL-{n:03}" for n in (4, 10, 11, 12, 14, 24, 25, 26, 27, 35, 40)} | {
        "R-COL-033a",
        "R-COL-035a",
    }


def test_what_is_ours_never_passes_for_official(notice: Notice) -> None:
    for rule in notice.rules:
        if rule.clause == "系统约定":
            assert rule.derived, rule.id


def test_the_quotas_can_be_waived(notice: Notice) -> None:
    waived = {rule.id for rule in notice.rules if rule.waiver == "R-COL-013"}
    assert waived == {"R-COL-010", "R-COL-011", "R-COL-012"}


def test_the_readings_of_open_questions_are_told(notice: Notice) -> None:
    assert set(notice.assumptions) == {*(f"AMB-{n:02}" for n in (1, 2, 3, 4, 5, 14, 15, 17)), "R-COL-018"}


# --- deadlines ---


def test_the_dates_of_the_notice(notice: Notice) -> None:
    found = {d.id: (d.on, d.until, d.kinds, d.remind, d.unless, d.letter) for d in notice.deadlines}
    everybody = ("K1", "K2", "K3", "K4", "K5", "K6")
    assert found == {
        "DL-01": (date(2025, 3, 7), None, everybody, ("K2",), "filed", "deadline"),
        "DL-02": (
            date(2025, 6, 1),
            date(2025, 6, 30),
            ("K2",),
            ("K2",),
            "june_activities",
            "june_activity",
        ),
        "DL-03": (date(2025, 6, 1), None, everybody, everybody, None, "deadline"),
    }
    filing = notice.filing_deadline("K2", "440106")
    assert filing is not None
    assert filing.id == "DL-01"
    assert filing.ladder is not None
    assert (filing.ladder.days_before, filing.ladder.on_day, filing.ladder.missed_after) == (
        (30, 14, 7, 3, 1),
        True,
        1,
    )
    assert filing.ladder.derived


# --- procedure ---

STEPS = {
    ("recommendation", "recommend"): ("formal_check", "recommender", None),
    ("recommendation", "return"): ("correction_for_recommender", "recommender", "returned"),
    ("recommendation", "reject"): ("rejected", "recommender", "rejected"),
    ("recommendation", "withdraw"): ("withdrawn", "filer", None),
    ("correction_for_recommender", "resubmit"): ("recommendation", "filer", None),
    ("correction_for_recommender", "withdraw"): ("withdrawn", "filer", None),
    ("formal_check", "accept"): ("selection", "city", None),
    ("formal_check", "return"): ("correction", "city", "returned"),
    ("formal_check", "reject"): ("rejected", "city", "rejected"),
    ("formal_check", "withdraw"): ("withdrawn", "filer", None),
    ("correction", "resubmit"): ("formal_check", "filer", None),
    ("correction", "withdraw"): ("withdrawn", "filer", None),
    ("selection", "select"): ("publication", "city", "selected"),
    ("selection", "decline"): ("not_selected", "city", "not_selected"),
    ("selection", "withdraw"): ("withdrawn", "filer", None),
    ("publication", "publish"): ("published", "city", "published"),
    ("publication", "withdraw"): ("withdrawn", "filer", None),
}
STAGES = (
    "recommendation",
    "correction_for_recommender",
    "formal_check",
    "correction",
    "selection",
    "publication",
    "published",
    "rejected",
    "not_selected",
    "withdrawn",
)
OUTCOMES = tuple(sorted({outcome for _, outcome in STEPS} | {"resurrect"}))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_in_every_stage(notice: Notice, stage: str, outcome: str) -> None:
    if (stage, outcome) in STEPS:
        found = step(notice, stage, outcome)
        actor = who_acts(notice.procedure.by_id[stage], found)
        assert (found.to, actor, found.letter) == STEPS[stage, outcome]
        return
    with pytest.raises(NotAllowed) as caught:
        step(notice, stage, outcome)
    offered = [key for at, key in STEPS if at == stage]
    assert all(key in str(caught.value) for key in offered)
    assert offered or "已办结" in str(caught.value)


def test_the_table_has_no_other_stages_and_steps(notice: Notice) -> None:
    stages = notice.procedure.stages
    assert tuple(s.id for s in stages) == STAGES
    assert {(s.id, key) for s in stages for key in s.outcomes} == set(STEPS)


def test_an_unknown_stage_is_told_with_those_that_exist(notice: Notice) -> None:
    with pytest.raises(NotAllowed, match="recommendation、correction_for_recommender"):
        step(notice, "limbo", "accept")


def test_with_and_without_a_recommender(notice: Notice) -> None:
    with_one, without = (start(notice.procedure, "F3", recommended, {}) for recommended in (True, False))
    assert with_one is not None
    assert with_one.id == "recommendation"
    assert without is not None
    assert without.id == "formal_check"


def test_what_a_step_needs(notice: Notice) -> None:
    needs = {
        (s.id, key): o.needs for s in notice.procedure.stages for key, o in s.outcomes.items() if o.needs
    }
    assert needs == {
        ("recommendation", "return"): ("fixes",),
        ("formal_check", "return"): ("fixes",),
        ("formal_check", "accept"): ("acknowledgement",),
    }
    filings = {(s.id, key) for s in notice.procedure.stages for key, o in s.outcomes.items() if o.by_filing}
    assert filings == {("correction_for_recommender", "resubmit"), ("correction", "resubmit")}


def test_corrections_have_five_working_days_which_are_ours(notice: Notice) -> None:
    found = {s.id: s.within for s in notice.procedure.stages if s.within}
    assert set(found) == {s.id for s in notice.procedure.stages if s.returned}
    assert set(found) == {"correction_for_recommender", "correction"}
    assert all(within.working_days == 5 and within.derived for within in found.values())


def test_every_way_ends(notice: Notice) -> None:
    ends = {s.id: s.ends for s in notice.procedure.stages if s.ends}
    assert ends == {
        "published": "published",
        "rejected": "closed",
        "not_selected": "closed",
        "withdrawn": "closed",
    }

    def ahead(stage: Stage) -> Iterator[str]:
        return (outcome.to for outcome in stage.outcomes.values())

    can_end = set(ends)
    for _ in STAGES:
        can_end |= {s.id for s in notice.procedure.stages if can_end & set(ahead(s))}
    assert can_end == set(STAGES)


def test_the_procedure_can_be_drawn(notice: Notice) -> None:
    drawn = draw(notice)
    assert drawn.startswith("stateDiagram-v2\n")
    assert "    selection --> publication: 入选（市局）\n" in drawn
    assert drawn.count(" --> ") == len(STEPS) + 2 + 4


# --- loading ---


def test_the_digest_is_that_of_the_file(compiled: CompiledNotice) -> None:
    assert compiled.digest == sha256(FILE.read_bytes()).hexdigest()
    assert load(FILE.read_bytes()).digest == compiled.digest


def test_a_new_quarter_needs_nothing_but_its_file() -> None:
    found = load_all(NEXT.parent)
    assert set(found) == {*load_all(), "gz-collection-2025q2", "gz-stations-2026"}
    second = found["gz-collection-2025q2"]
    assert second.notice.form_title(second.notice.by_form["F3"]) == "广州市2025年第二季度中小企业服务活动清单"
    assert len(second.notice.directions) == 10
    filing = second.notice.filing_deadline("K2", "440106")
    assert filing is not None
    assert filing.on == date(2025, 6, 13)
    assert "price" in second.forms["F4"].schema()["properties"]
    assert "price" not in found["gz-collection-2025q1"].forms["F4"].schema()["properties"]


def test_a_mounted_notice_takes_the_place_of_the_packaged_one(tmp_path: Path) -> None:
    text = FILE.read_text(encoding="utf-8").replace("status: in_force", "status: historic", 1)
    (tmp_path / "any-name.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "agencies.yaml").write_text("[]", encoding="utf-8")
    found = load_all(tmp_path)
    assert set(found) == set(load_all())
    assert found["gz-collection-2025q1"].notice.status == "historic"


def test_two_mounted_files_may_not_claim_the_same_notice(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_bytes(FILE.read_bytes())
    with pytest.raises(NoticeBroken, match=r"b\.yaml 第1行 id：gz-collection-2025q1 已用于 a\.yaml"):
        load_all(tmp_path)


def test_every_broken_file_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("id: [", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("- 1", encoding="utf-8")
    with pytest.raises(NoticeBroken) as caught:
        load_all(tmp_path)
    assert [error.file for error in caught.value.errors] == ["a.yaml", "b.yaml"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoticeBroken, match="不是目录"):
        load_all(tmp_path / "nowhere")
