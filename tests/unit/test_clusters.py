"""市级中小企业特色产业集群: both sides of every condition that a machine checks, at the exact bound, and what the
notice promises of its list, its papers and its procedure."""

from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.types import Assessment, Kind
from shared.notices.calendar import SHANGHAI, Calendar
from shared.notices.coverage import cover, proven, register
from shared.notices.load import CompiledNotice, NoticeBroken, load
from shared.notices.procedure import draw, due, start, step, who_acts
from shared.notices.rules import Facts, Item

FILE = Path(__file__).parents[2] / "shared/notices/data/gz-clusters.yaml"
TEXT = FILE.read_text(encoding="utf-8")
COMPILED = load(FILE)
NOTICE = COMPILED.notice
TODAY = date(2025, 6, 10)

CLAIMS = [key for key in NOTICE.by_form["F15"].by_key if key.startswith("e_")]
# Six per cent a year for output, twelve for research, twenty for patents.
PLAN: dict[str, Any] = {
    "cluster_name": "智能家电产业集群",
    "district": "天河区",
    "applicant_agency": "天河区商务金融局",
    "leading_industry": "智能家电（C385）",
    "operator_org": "天河智能家电集群促进中心",
    "spatial_scope": "东至甲路，南至乙路",
    "area_km2": "80",
    "higher_level": "无",
    "output_base": "50",
    "output_y3": "53",
    "output_y2": "56.18",
    "output_y1": "59.5508",
    "rd_base": "1000",
    "rd_y3": "1120",
    "rd_y2": "1254.4",
    "rd_y1": "1404.928",
    "patents_base": "1000",
    "patents_y3": "1200",
    "patents_y2": "1440",
    "patents_y1": "1728",
    "sme_output_share": "75%",
    "leading_share": "80%",
    "n_top": "1",
    "n_broad": "12",
    "patents_per_10k": "20",
    "iip_adoption": "30%",
    **dict.fromkeys(CLAIMS, "见证明材料"),
    "plan_summary": "见规划",
    "plan_targets": [{"indicator": "总产值", "now": "59.6亿元", "target": "80亿元"}],
    "declaration": "是",
}
POOL = {
    "cluster_name": "智能家电产业集群",
    "district": "天河区",
    "leading_industry": "智能家电",
    "operator_org": "某中心",
}
RECOGNISED = {"cluster_name": "某产业集群", "district": "天河区", "level": "省级"}
REPORT: dict[str, Any] = {
    "cluster": "智能家电产业集群",
    "report_year": "2025",
    "plan_execution": "按计划执行",
    "target_progress": [{"indicator": "总产值", "target": "65亿元", "actual": "66亿元"}],
    "experience": "经验",
    "problems_measures": "措施",
    "area_km2": "80",
    "output": "66",
    "sme_output_share": "75",
    "leading_share": "80",
    "n_top": "1",
    "n_broad": "12",
    "rd": "1500",
    "patents": "1900",
    "patents_per_10k": "21",
    "iip_adoption": "31",
}
ROWS: dict[str, dict[str, Any]] = {"F15-1": POOL, "F15": PLAN, "F15-2": RECOGNISED, "F16": REPORT}


def yearly(column: str, *figures: str) -> dict[str, str]:
    return dict(zip((f"{column}_{year}" for year in ("base", "y3", "y2", "y1")), figures, strict=True))


def incident(kind: str, level: str | None = None, on: str = "2023-05-01") -> dict[str, Any]:
    return {"incidents": [{"kind": kind, "level": level, "happened_on": on}]}


@dataclass(frozen=True)
class Case:
    """One filing; by default a plan without a fault, filed by its own district with all papers."""

    row: dict[str, Any] = field(default_factory=dict)
    form: str = "F15"
    kind: Kind = "K2"
    district: str = "天河区"
    materials: tuple[str, ...] = ("proof", "plan")

    def known(self, compiled: CompiledNotice = COMPILED) -> dict[str, Any]:
        judged = compiled.forms[self.form].judge({**ROWS[self.form], **self.row})
        assert judged.stored is not None, judged.findings
        item = Item(
            form=compiled.notice.by_form[self.form],
            stored=judged.stored,
            title=judged.title,
            kind=judged.item_kind,
            direction=judged.direction,
            filer_kind=self.kind,
            filer_code="440106",
            filer_name="天河区商务金融局",
            registered=False,
            late=False,
            district="440106",
            district_name=self.district,
            materials=self.materials,
        )
        return compiled.rules.known(item, Facts())

    def broken(self, compiled: CompiledNotice = COMPILED) -> dict[str, str]:
        """What is told of every rule that is broken."""
        found = compiled.rules.findings(self.form, self.known(compiled), TODAY, tallied=False)
        return {f.rule: f.detail for f in found}

    def verdict(self, rule: str, compiled: CompiledNotice = COMPILED) -> str | None:
        found = compiled.rules.verdicts(self.form, self.known(compiled), TODAY, tallied=False)
        return next((verdict for one, verdict, _ in found if one.id == rule), None)

    def assessed(self, compiled: CompiledNotice = COMPILED) -> dict[str, Assessment]:
        found = compiled.rules.assess(self.form, self.known(compiled), TODAY)
        return {one.rule: one for one in found}


# --- 认定条件 -----------------------------------------------------------------------------------------

CHECKED = [
    # 指引 1.6: recognised at a higher level, as 征集通知 附件8 lists it
    pytest.param("R-CLU-006a", Case({"cluster_name": "智能家居产业集群", "district": "白云区", "higher_level": "省级"}), "met", id="T-CLU-13 listed"),
    pytest.param("R-CLU-006a", Case({"cluster_name": "智能家电产业集群", "higher_level": "省级"}), "broken", id="T-CLU-13 not listed"),
    ("R-CLU-006a", Case({"cluster_name": "白云区化妆品产业集群", "district": "白云区", "higher_level": "国家级"}), "met"),
    ("R-CLU-006a", Case({"cluster_name": "化妆品产业集群", "district": "白云区", "higher_level": "省级"}), "met"),
    ("R-CLU-006a", Case({"cluster_name": "智能家居产业集群", "district": "白云区", "higher_level": "国家级"}), "broken"),
    ("R-CLU-006a", Case({"cluster_name": "智能家居产业集群", "district": "天河区", "higher_level": "省级"}), "broken"),
    ("R-CLU-006a", Case({"cluster_name": "白云区智能家居产业集群", "district": "天河区", "higher_level": "省级"}), "broken"),
    ("R-CLU-006b", Case(), "met"),
    ("R-CLU-006b", Case({"cluster_name": "智能家居产业集群", "district": "白云区"}), "broken"),
    ("R-CLU-006b", Case({"cluster_name": "白云区智能家居产业集群", "district": "白云区"}), "broken"),
    ("R-CLU-006b", Case({"cluster_name": "智能家居产业集群", "district": "白云区", "higher_level": "省级"}), "not_applicable"),
    ("R-CLU-006a", Case(), "not_applicable"),
    # 指引 3.2.1: none of these in the last three years
    ("R-CLU-020", Case(), "met"),
    pytest.param("R-CLU-020", Case(incident("安全事故", "较大")), "broken", id="T-CLU-11"),
    ("R-CLU-020", Case(incident("质量事故", "重大")), "broken"),
    ("R-CLU-020", Case(incident("环境污染事故", "特别重大")), "broken"),
    ("R-CLU-020", Case(incident("安全事故", "一般")), "met"),
    ("R-CLU-020", Case(incident("安全事故")), "broken"),  # nobody says that it was a small one
    ("R-CLU-020", Case(incident("安全事故", "较大", "2022-01-01")), "broken"),
    ("R-CLU-020", Case(incident("安全事故", "较大", "2021-12-31")), "met"),
    ("R-CLU-020", Case(incident("安全事故", "较大", "2025-03-01")), "broken"),  # since the three years
    ("R-CLU-020", Case(incident("网络安全事件", "重大")), "met"),  # another rule's
    ("R-CLU-021", Case(), "met"),
    ("R-CLU-021", Case(incident("网络安全事件", "较大")), "met"),
    ("R-CLU-021", Case(incident("网络安全事件", "重大")), "broken"),
    ("R-CLU-021", Case(incident("数据安全事件", "特别重大")), "broken"),
    ("R-CLU-021", Case(incident("数据安全事件", "重大", "2021-12-31")), "met"),
    ("R-CLU-021", Case(incident("安全事故", "重大")), "met"),
    ("R-CLU-022", Case(), "met"),
    ("R-CLU-022", Case(incident("偷税漏税等违法违规行为")), "broken"),
    ("R-CLU-022", Case(incident("偷税漏税等违法违规行为", on="2021-12-31")), "met"),
    ("R-CLU-022", Case(incident("严重失信")), "met"),
    ("R-CLU-023", Case(), "met"),
    ("R-CLU-023", Case(incident("严重失信")), "broken"),
    ("R-CLU-023", Case(incident("其它重大问题")), "broken"),
    ("R-CLU-023", Case(incident("严重失信", on="2021-12-31")), "met"),
    # 指引 3.2.2: 不超过 and 以上 include the number, 高于 does not
    pytest.param("R-CLU-024", Case({"area_km2": "100"}), "met", id="T-CLU-01 met"),
    pytest.param("R-CLU-024", Case({"area_km2": "100.01"}), "broken", id="T-CLU-01 broken"),
    pytest.param("R-CLU-025", Case(yearly("output", "20", "28", "30", "32")), "met", id="T-CLU-02 met"),
    pytest.param("R-CLU-025", Case(yearly("output", "20", "28", "30", "31.97")), "broken", id="T-CLU-02 broken"),
    ("R-CLU-025", Case(yearly("output", "900", "28", "30", "31.97")), "broken"),  # the base is not one of the three
    pytest.param("R-CLU-026", Case({"sme_output_share": "60%"}), "broken", id="T-CLU-03 broken"),
    pytest.param("R-CLU-026", Case({"sme_output_share": "60.01%"}), "met", id="T-CLU-03 met"),
    pytest.param("R-CLU-027", Case({"leading_share": "60"}), "broken", id="T-CLU-04 broken"),
    pytest.param("R-CLU-027", Case({"leading_share": "60.01"}), "met", id="T-CLU-04 met"),
    ("R-CLU-028", Case(yearly("output", "100", "105", "110.25", "115.7625")), "broken"),
    ("R-CLU-028", Case(yearly("output", "100", "105", "110.25", "115.7626")), "met"),
    ("R-CLU-028", Case(yearly("output", "0", "105", "110.25", "500")), "broken"),
    # 指引 3.2.3: either is enough
    pytest.param("R-CLU-029", Case({"n_top": "0", "n_broad": "9"}), "broken", id="T-CLU-06 neither"),
    pytest.param("R-CLU-029", Case({"n_top": "0", "n_broad": "10"}), "met", id="T-CLU-06 broad"),
    pytest.param("R-CLU-029", Case({"n_top": "1", "n_broad": "0"}), "met", id="T-CLU-06 top"),
    # 指引 3.2.4 and 3.2.5: 高于 for research, 不低于 for the others
    pytest.param("R-CLU-030", Case(yearly("rd", "1000", "1100", "1210", "1331")), "broken", id="T-CLU-07 broken"),
    pytest.param("R-CLU-030", Case(yearly("rd", "1000", "1100", "1210", "1331.363033001")), "met", id="T-CLU-07 met"),
    ("R-CLU-031", Case(yearly("patents", "8000", "9200", "10580", "12167")), "met"),  # exactly 15 %
    ("R-CLU-031", Case(yearly("patents", "8000", "9200", "10580", "12166")), "broken"),
    ("R-CLU-031", Case(yearly("patents", "0", "9200", "10580", "12167")), "broken"),
    pytest.param("R-CLU-032", Case({"patents_per_10k": "14.9"}), "broken", id="T-CLU-09 broken"),
    pytest.param("R-CLU-032", Case({"patents_per_10k": "15"}), "met", id="T-CLU-09 met"),
    ("R-CLU-033", Case({"iip_adoption": "14.99%"}), "broken"),
    ("R-CLU-033", Case({"iip_adoption": "15%"}), "met"),
    # 指引 3.3.1: who applies, with what
    ("R-CLU-062", Case(), "met"),
    ("R-CLU-062", Case(district="白云区"), "broken"),
    ("R-CLU-062", Case(district=""), "broken"),
    ("R-CLU-062", Case(kind="K5"), "broken"),
    ("R-CLU-062", Case(form="F15-1"), "met"),
    ("R-CLU-062", Case({"district": "白云区"}, form="F15-1"), "broken"),
    ("R-CLU-063", Case(), "met"),
    ("R-CLU-063", Case(materials=("plan",)), "broken"),
    ("R-CLU-063", Case(materials=("proof",)), "broken"),
    ("R-CLU-063", Case(materials=()), "broken"),
    ("R-CLU-064", Case(), "met"),
    ("R-CLU-064", Case({"declaration": "否"}), "broken"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "case", "expected"), CHECKED)
def test_a_condition_on_both_sides_of_its_bound(rule: str, case: Case, expected: str) -> None:
    assert case.verdict(rule) == expected
    assert (rule in case.broken()) is (expected == "broken")


def test_a_faultless_plan_breaks_nothing() -> None:
    assert Case().broken() == {}


@pytest.mark.parametrize(
    ("rule", "form", "district", "expected"),
    [
        ("R-CLU-002", "F15", "天河区", "met"),
        ("R-CLU-002", "F15", "广州市天河区", "met"),
        pytest.param("R-CLU-002", "F15", "天河区、黄埔区", "broken", id="T-CLU-12"),
        ("R-CLU-002", "F15", "☑天河区☑黄埔区", "broken"),
        ("R-CLU-002", "F15", "佛山市南海区", "broken"),
        ("R-CLU-002", "F15-1", "天河区", "met"),
        ("R-CLU-002", "F15-1", "天河区、黄埔区", "broken"),
        ("R-CLU-002", "F15-2", "天河区、黄埔区", "broken"),
    ],
)
def test_a_cluster_lies_in_one_district(rule: str, form: str, district: str, expected: str) -> None:
    judged = COMPILED.forms[form].judge({**ROWS[form], "district": district})
    assert {f.rule for f in judged.findings} == (set() if expected == "met" else {rule})
    assert NOTICE.by_rule[rule].enforced_by == "form"


CONDITIONS = [f"R-CLU-{n:03}" for n in range(20, 34)]


def test_what_a_higher_level_recognised_is_not_reviewed() -> None:
    row = {
        "cluster_name": "智能家居产业集群",
        "district": "白云区",
        "higher_level": "省级",
        "area_km2": "900",
    }
    case = Case(row, materials=(), district="白云区")
    assert {case.assessed()[rule].verdict for rule in CONDITIONS} == {"not_applicable"}
    assert case.broken() == {}


@pytest.mark.parametrize(
    ("form", "row", "stage"),
    [
        ("F15-1", POOL, "pool"),
        ("F15", PLAN, "recommendation"),
        ("F15", {**PLAN, "higher_level": "省级"}, "automatic"),
        ("F15", {**PLAN, "higher_level": "国家级、省级"}, "automatic"),
        ("F15-2", RECOGNISED, "automatic"),
    ],
    ids=["pool", "application", "T-CLU-13", "both levels", "entered by the city"],
)
def test_where_a_case_begins(form: str, row: dict[str, Any], stage: str) -> None:
    judged = COMPILED.forms[form].judge(row)
    assert judged.stored is not None
    found = start(NOTICE.procedure, form, recommended=False, values=judged.stored)
    assert found
    assert found.id == stage


# --- what a reviewer is shown --------------------------------------------------------------------------

FIGURES = {
    **dict.fromkeys(CONDITIONS[:4], "所列重大负面事项0项"),
    "R-CLU-024": "80平方公里",
    "R-CLU-025": "56.2436亿元",
    "R-CLU-026": "75%",
    "R-CLU-027": "80%",
    "R-CLU-028": "6%",
    "R-CLU-029": "单项冠军、“小巨人”企业1家；五类优质企业12家",
    "R-CLU-030": "12%",
    "R-CLU-031": "20%",
    "R-CLU-032": "20个",
    "R-CLU-033": "30%",
}


def test_every_condition_is_assessed_with_its_figure_and_its_evidence() -> None:
    found = Case().assessed()
    assert {rule: one.figure for rule, one in found.items()} == FIGURES
    assert {one.verdict for one in found.values()} == {"met"}
    assert all(one.evidence for one in found.values())
    growth = found["R-CLU-028"]
    assert growth == Assessment(
        rule="R-CLU-028", clause="指引 3.2.2", severity="hard", verdict="met", figure="6%",
        evidence=("output_base", "output_y3", "output_y2", "output_y1", "proof"),
    )  # fmt: skip


def test_a_broken_condition_is_assessed_and_told_with_figure_and_threshold() -> None:
    case = Case({"area_km2": "100.01", **yearly("output", "100", "105", "110.25", "115.7625")})
    found = case.assessed()
    assert {rule for rule, one in found.items() if one.verdict == "broken"} == {"R-CLU-024", "R-CLU-028"}
    assert found["R-CLU-024"].figure == "100.01平方公里"
    told = case.broken()
    assert told["R-CLU-024"] == "占地面积为100.01平方公里，须不超过100平方公里"
    assert told["R-CLU-028"] == "产值年均增速为5%（基期为0的无法计算，按0计），须高于5%"


def test_a_rate_is_shown_short_but_never_on_the_wrong_side_of_its_bound() -> None:
    shown = [
        Case(yearly("output", "100", "105", "110", last)).assessed()["R-CLU-028"].figure
        for last in ("125", "115.7625", "115.7625000007", "115.7624999993")
    ]
    assert shown == ["7.7217%", "5%", "5.0000000002%", "4.9999999998%"]


def test_forms_without_conditions_have_nothing_to_assess() -> None:
    assert [Case(form=form).assessed() for form in ("F15-1", "F15-2", "F16")] == [{}, {}, {}]


def test_what_is_not_in_force_is_assessed_as_such() -> None:
    limited = load(
        TEXT.replace("  - id: R-CLU-024\n", "  - id: R-CLU-024\n    until: 2025-06-09\n", 1).encode()
    )
    assert Case().assessed(limited)["R-CLU-024"].verdict == "not_in_force"
    assert Case().assessed()["R-CLU-024"].verdict == "met"


# --- another reading is another word in the data -------------------------------------------------------


def test_growth_may_be_read_as_the_mean_of_the_yearly_rates() -> None:
    """+20 %, -5 %, +1 %: 5.33 % on the mean, 4.80 % compound (AMB-06)."""
    uneven = Case(yearly("output", "100", "120", "114", "115.14"))
    assert uneven.verdict("R-CLU-028") == "broken"
    assert uneven.assessed()["R-CLU-028"].figure == "4.8115%"
    other = load(TEXT.replace("how: growth", "how: mean_growth").encode())
    assert uneven.verdict("R-CLU-028", other) == "met"
    assert uneven.assessed(other)["R-CLU-028"].figure == "5.3333%"


def test_a_computed_figure_is_nobody_s_to_fill_in_and_is_not_stored() -> None:
    judge = COMPILED.forms["F15"]
    names = {one.key for one in NOTICE.by_form["F15"].computed}
    stored = judge.judge(PLAN).stored
    assert stored is not None
    assert names & stored.keys() == names & judge.schema()["properties"].keys() == set()
    refused = judge.judge({**PLAN, "output_growth": "99"})
    assert [f.code for f in refused.findings] == ["schema.extra"]
    assert Case().known()["row.output_growth"] == 6.0


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            'figure: "{row.area_km2}平方公里"',
            'figure: "{row.area}平方公里"',
            "占位符 {row.area} 没有对应的值",
        ),
        ("evidence: [area_km2, spatial_scope, proof]", "evidence: [area_km2, scope]", "没有栏目或材料 scope"),
        ("evidence: [e_brand, proof]", "evidence: [e_brand, papers]", "没有栏目或材料 papers"),
        ("    params: {limit: 100.0}\n", "    params: {limit: 100}\n", "类型不符"),
        ("forms: [F15], named: [证明, 佐证]", "forms: [F16], named: [证明, 佐证]", "没有栏目或材料 proof"),
    ],
)
def test_what_a_condition_names_must_be_there(before: str, after: str, told: str) -> None:
    assert TEXT.count(before) == 1
    with pytest.raises(NoticeBroken) as found:
        load(TEXT.replace(before, after).encode())
    assert all(told in error.message and error.path.startswith("rules[") for error in found.value.errors)


def test_a_package_has_neither_figure_nor_evidence() -> None:
    added = """rules:
  - {id: R-CLU-090, clause: 一, severity: soft, text: 某条, scope: package, holds: "true", says: 否, figure: 数}
"""
    with pytest.raises(NoticeBroken, match="scope: package 的规则不能有 figure"):
        load(TEXT.replace("\nrules:\n", "\n" + added, 1).encode())


# --- the notice as a whole -----------------------------------------------------------------------------


def test_the_twelve_recognised_clusters_are_valid_rows_of_their_districts() -> None:
    assert len(NOTICE.given) == 12
    districts = {"440103": "荔湾区", "440105": "海珠区", "440111": "白云区", "440112": "黄埔区", "440113": "番禺区", "440114": "花都区"}  # fmt: skip
    levels = []
    for one in NOTICE.given:
        judged = COMPILED.forms[one.form].judge(one.values)
        assert (judged.findings, judged.stored) == ((), one.values)
        assert one.values["district"] == districts[one.district]
        levels.append(one.values["level"])
    assert levels == ["国家级"] * 6 + ["省级"] * 6


def test_the_recognised_clusters_are_those_that_an_application_may_name() -> None:
    params = NOTICE.by_rule["R-CLU-006a"].params
    names = {level: [f"{g.values['district']}{g.values['cluster_name']}" for g in NOTICE.given if g.values["level"] in level] for level in (("国家级",), ("国家级", "省级"))}  # fmt: skip
    assert (params["national"], params["provincial"]) == tuple(map(tuple, names.values()))


@pytest.mark.parametrize("form", list(ROWS))
def test_a_form_takes_a_full_row(form: str) -> None:
    judged = COMPILED.forms[form].judge(ROWS[form])
    assert judged.findings == ()
    assert judged.item_kind == ("report" if form == "F16" else "title")


def test_the_figures_of_a_form_are_asked_for_by_year() -> None:
    headers = [COMPILED.forms["F15"].columns[f"output_{year}"].header for year in ("base", "y3", "y2", "y1")]
    years = ("2021年（基期）", "2022年", "2023年", "2024年")
    assert headers == [f"{year} 集群总产值（亿元）" for year in years]


@pytest.mark.parametrize(
    ("kind", "forms"), [("K2", {"F15-1", "F15", "F16"}), ("city", {"F15-2"}), ("K1", set()), ("K6", set())]
)
def test_who_may_file_what(kind: Kind, forms: set[str]) -> None:
    assert {f for f in NOTICE.by_form if NOTICE.may_file(f, kind)} == forms


def test_the_procedure_is_drawn_with_its_terms() -> None:
    drawn = draw(NOTICE)
    assert 'state "公示（7个工作日）" as public_notice' in drawn
    assert 'state "市级集群（有效期内）（3年）" as recognised' in drawn
    assert "[*] --> automatic: 集群申报表 报送（省级、国家级）" in drawn
    assert all(f'" as {stage.id}\n' in drawn for stage in NOTICE.procedure.stages)


# Where each decision leads, who takes it, and which letter says so: spec §4.3 and §4.4.
STEPS = [
    ("pool", "apply", "recommendation", "filer", None),
    ("pool", "recognised_above", "automatic", "filer", "published"),
    ("recommendation", "recommend", "acceptance", "filer", None),
    ("acceptance", "accept", "expert_review", "city", None),
    ("acceptance", "return", "correction", "city", "returned"),
    ("acceptance", "reject", "rejected", "city", "rejected"),
    ("correction", "resubmit", "acceptance", "filer", None),
    ("expert_review", "conclude", "proposal", "city", None),
    ("proposal", "propose", "public_notice", "city", "proposed"),
    ("proposal", "decline", "not_selected", "city", "not_selected"),
    ("public_notice", "pass", "listing", "clock", None),
    ("public_notice", "object", "objection", "city", None),
    ("objection", "dismiss", "public_notice", "city", None),
    ("objection", "uphold", "rejected", "city", "rejected"),
    ("listing", "publish", "recognised", "city", "published"),
    ("recognised", "expire", "revocation", "clock", "revocation_proposed"),
    ("recognised", "reapply", "reevaluation", "filer", None),
    ("recognised", "question", "revocation", "clock", "revocation_proposed"),
    ("recognised", "propose_revocation", "revocation", "city", "revocation_proposed"),
    ("reevaluation", "renew", "recognised", "city", "renewed"),
    ("reevaluation", "fail", "revocation", "city", "revocation_proposed"),
    ("revocation", "keep", "recognised", "city", "kept"),
    ("revocation", "reevaluate", "reevaluation", "city", None),
    ("revocation", "revoke", "revoked", "city", "revoked"),
    ("automatic", "propose_revocation", "automatic_ruling", "city", "revocation_proposed"),
    ("automatic", "end", "ended", "city", None),
    ("automatic_ruling", "keep", "automatic", "city", "kept"),
    ("automatic_ruling", "revoke", "revoked", "city", "revoked"),
]


@pytest.mark.parametrize(("stage", "outcome", "to", "actor", "letter"), STEPS)
def test_where_a_decision_leads(stage: str, outcome: str, to: str, actor: str, letter: str | None) -> None:
    found = step(NOTICE, stage, outcome)
    assert (found.to, found.letter) == (to, letter)
    assert who_acts(NOTICE.procedure.by_id[stage], found) == actor


def test_every_other_decision_is_to_withdraw() -> None:
    steps = {(stage, outcome) for stage, outcome, *_ in STEPS}
    others = {(s.id, k): o.to for s in NOTICE.procedure.stages for k, o in s.outcomes.items()}
    assert {others[key] for key in others.keys() - steps} == {"withdrawn"}
    assert steps <= others.keys()


def test_only_a_person_revokes_and_only_on_a_ground() -> None:
    """Spec §4.4: what a timer raises is a proposal."""
    leading = [
        (who_acts(s, o), "ground" in o.needs)
        for s in NOTICE.procedure.stages
        for o in s.outcomes.values()
        if o.to == "revoked"
    ]
    assert leading == [("city", True)] * 2
    assert step(NOTICE, "recognised", "expire").grounds == ("R-CLU-074",)
    assert [g.id for g in NOTICE.grounds] == [f"R-CLU-{n:03}" for n in range(74, 79)]


@pytest.mark.parametrize(
    ("stage", "began", "last"),
    [
        pytest.param("recognised", date(2025, 6, 10), date(2028, 6, 10), id="T-CLU-16"),
        pytest.param("public_notice", date(2025, 4, 28), date(2025, 5, 12), id="T-WD-01"),
        pytest.param("public_notice", date(2026, 2, 12), date(2026, 2, 28), id="T-WD-03"),
        pytest.param("public_notice", date(2025, 2, 21), date(2025, 3, 4), id="T-WD-06"),
    ],
)
def test_how_long_a_stage_lasts(stage: str, began: date, last: date) -> None:
    within = NOTICE.procedure.by_id[stage].within
    assert within
    at = datetime.combine(began, time(10), SHANGHAI)
    assert due(NOTICE, within, at, Calendar.load()).date == last


def test_a_term_goes_on_or_is_followed_by_another() -> None:
    terms = {(s.id, k): o.term for s in NOTICE.procedure.stages for k, o in s.outcomes.items() if o.term}
    assert terms == {
        ("objection", "dismiss"): "resumes",
        ("reevaluation", "renew"): "follows",
        ("revocation", "keep"): "resumes",
    }


def test_what_the_source_fixes_is_not_ours_and_what_it_leaves_open_is() -> None:
    within = {s.id: s.within.derived for s in NOTICE.procedure.stages if s.within}
    assert within == {"correction": True, "public_notice": False, "recognised": False}
    panel = NOTICE.procedure.by_id["expert_review"].panel
    assert panel
    assert panel.derived
    assert sum(c.most * c.weight for c in panel.criteria) == 100
    assert {d.id: (d.yearly, d.days, d.derived) for d in NOTICE.duties} == {
        "DL-06": ("02-29", None, False),
        "DL-09": (None, 30, True),
    }
    assert NOTICE.number is None
    assert [(d.id, d.on, d.filing, d.remind) for d in NOTICE.deadlines] == [
        ("DL-10", date(2027, 12, 29), False, ("city",))
    ]


def test_a_list_that_is_shown_is_frozen_and_reports_are_owed_throughout() -> None:
    shown = [s.id for s in NOTICE.procedure.stages if s.listed]
    assert shown == ["recognised", "reevaluation", "revocation", "automatic", "automatic_ruling"]
    assert all(NOTICE.procedure.by_id[id_].frozen for id_ in shown)
    assert [list(d.stages) for d in NOTICE.duties] == [shown, shown]


def test_no_rule_of_the_guideline_is_open_or_unproven() -> None:
    proofs = proven({__file__: Path(__file__).read_text(encoding="utf-8")})
    kept = [one for one in cover(register(), [NOTICE], proofs) if one.rule.prefix == "R-CLU"]
    assert len({one.rule.id for one in kept}) == 65
    assert [one.id for one in kept if one.how == "open" or one.unproven] == []


def test_every_condition_that_a_person_judges_names_its_evidence() -> None:
    judged = [r for r in NOTICE.rules if r.judged_by]
    assert [r.id for r in judged] == [*(f"R-CLU-{n:03}" for n in range(40, 53)), "R-CLU-071"]
    assert all(r.judged_by == "city" and r.evidence for r in judged)
    assert [r.id for r in judged if r.severity != "hard"] == ["R-CLU-044"]
    claimed = {key for r in judged for key in r.evidence if key.startswith("e_")}
    assert claimed == set(CLAIMS)
