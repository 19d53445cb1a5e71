"""Other notices' cards are data as well: the station application (附件 of 1100号) in its printed layout, and what
the cluster forms ask for (lists of incidents, targets beside results). Spec §2.12, §2.15, §2.16.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import openpyxl
import pytest

from services.intake import parse, workbook
from services.intake.card_template import card_template
from shared.contracts.submission import Filer
from shared.notices.load import CompiledNotice, NoticeBroken, load
from tests.documents import Box, docx

KINDS = [
    "科技园区",
    "文化创意园区",
    "物流园区",
    "生态农业园区",
    "工业园区",
    "软件园区",
    "商协会",
    "服务机构",
    "其他",
]
LEARNT = ["初中及以下", "高中、中技", "大专、本科", "本科以上"]


def field(number: int, key: str, header: str, **more: Any) -> dict[str, Any]:
    return {"field": f"F12.{number:02}", "key": key, "header": header, **more}


F12: dict[str, Any] = {
    "id": "F12",
    "annex": "申请表",
    "title": "广州市中小企业服务站申请表",
    "title_in_notice": "广州市中小企业服务站申请表",
    "clause": "申请表",
    "item_kind": "product",
    "name": ["station_name"],
    "organizer": "operator_name",
    "landscape": False,
    "card": {
        "sections": [
            {
                "title": "一、申请（运营）主体基本情况",
                "fields": [
                    field(1, "operator_name", "名称"),
                    field(2, "office_address", "办公地址"),
                    field(3, "operator_type", "类型", type="choice", list="operator_type"),
                    field(4, "target_industry", "服务对象主导产业或所属行业"),
                    field(5, "registered_on", "注册日期", type="date"),
                    field(6, "legal_nature", "单位性质"),
                    field(7, "legal_rep", "法人代表"),
                    field(8, "registered_address", "注册地址"),
                    field(9, "postcode", "邮政编码", type="postcode"),
                    field(10, "contact_name", "联系人"),
                    field(11, "contact_phones", "联系电话（固话+手机）", type="phones"),
                    field(12, "contact_email", "电子邮箱", type="email"),
                    field(
                        13,
                        "park_opened",
                        "开园时间（年/月）",
                        type="year_month",
                        required=False,
                        guidance=["（园区填写）"],
                    ),
                    field(14, "enterprises_served", "服务企业数量（家）", type="integer", unit="家", least=0),
                ],
            },
            {
                "title": "二、近两年运营情况（单位：万元）",
                "grids": [
                    {
                        "label": "年度",
                        "rows": [{"key": "y1", "label": "{year-2}"}, {"key": "y2", "label": "{year-1}"}],
                        "columns": [
                            field(16, "revenue", "营业收入", type="decimal", unit="万元", least=0),
                            field(17, "service", "其中：服务收入", type="decimal", unit="万元", least=0),
                            field(18, "assets", "资产总额", type="decimal", unit="万元", least=0),
                            field(19, "profit", "利润总额", type="decimal", unit="万元"),
                            field(20, "taxes", "上缴税金", type="decimal", unit="万元"),
                            field(21, "smes", "服务中小微企业户数", type="integer", unit="户", least=0),
                        ],
                    }
                ],
            },
            {
                "title": "三、中小企业服务站相关情况",
                "fields": [
                    field(22, "station_name", "服务站名称"),
                    field(23, "staff_fulltime", "服务站工作人员：专职（ ）人", type="integer"),
                    field(24, "staff_qualified", "其中：大专或中级职称以上（ ）人", type="integer", least=0),
                    field(25, "staff_parttime", "兼职（ ）人", type="integer", least=0),
                    field(26, "area", "服务站面积", type="decimal", unit="㎡"),
                    field(27, "location", "服务站具体位置"),
                    field(28, "head_name", "服务站负责人"),
                    field(29, "head_phones", "联系电话（固话+手机）", type="phones"),
                    field(30, "head_email", "电子邮箱", type="email"),
                    field(31, "head_education", "服务站负责人学历", type="choice", list="education"),
                ],
            },
        ]
    },
}
RULES = [
    ("R-STA-003", "row.registered_on < '2018-01-01'"),
    (
        "R-STA-006",
        "row.staff_fulltime >= 1 && row.staff_fulltime <= 3 && row.staff_qualified <= row.staff_fulltime",
    ),
    ("R-STA-910", "row.service_y1 <= row.revenue_y1 && row.service_y2 <= row.revenue_y2"),
    ("R-STA-911", "!(row.operator_type.endsWith('园区')) || row.park_opened != ''"),
    (
        "R-STA-912",
        "row.contact_phones.exists(p, p.startsWith('1')) && row.contact_phones.exists(p, p.startsWith('0'))",
    ),
]


def notice(form: Mapping[str, Any], rules: list[tuple[str, str]] = RULES, year: int = 2019) -> CompiledNotice:
    values = {"operator_type": KINDS, "education": LEARNT}
    data = {
        "id": "other-notice",
        "title": "通知",
        "issuer": "440100",
        "issued_on": "2019-05-24",
        "clause_name": "1100号",
        "round": {"year": year},
        "directions": [{"code": "D01", "label": "服务站", "forms": [form["id"]]}],
        "lists": {k: {"clause": "申请表", "values": [{"label": v} for v in vs]} for k, vs in values.items()},
        "forms": [form],
        "allowed": [{"forms": [form["id"]], "kinds": ["K5", "K6"]}],
        "rules": [
            {"id": id_, "clause": "站点指引", "severity": "hard", "text": id_, "forms": [form["id"]], "holds": holds,
             "says": "不符合" + id_}
            for id_, holds in rules
        ],
        "procedure": {
            "start": [{"stage": "a", "recommended": True}, {"stage": "a", "recommended": False}],
            "stages": [{"id": "a", "name": "a", "clause": "a", "actor": "city", "ends": "closed"}],
        },
    }  # fmt: skip
    return load(json.dumps(data, ensure_ascii=False).encode())


STATIONS = notice(F12)


def application(**change: str) -> bytes:
    """The printed table: label and value share a cell, six blanks are in the middle of a sentence."""
    say = {
        "type": "".join(f"{n}. {k}（{'√' if n == 7 else ' '}）； " for n, k in enumerate(KINDS, 1)),
        "registered": "2017年12月31日",
        "phones": "020-83726619 13800138000",
        "opened": "（园区填写）",
        "revenue": "100",
        "service": "80.5",
        "staff": "专职（3）人，其中：大专或中级职称以上（ 2 ）人；兼职（0）人。",
    } | change
    email = "a@example.cn"
    table: list[list[str | Box]] = [
        [Box("一、申请（运营）主体基本情况", 7)],
        [Box("名称：某商会", 2), Box("办公地址：天河区某路1号", 5)],
        ["类型", Box(say["type"], 6)],
        ["服务对象主导产业或所属行业", Box("电子信息", 6)],
        [Box("注册日期：" + say["registered"], 2), Box("单位性质：社会团体", 2), Box("法人代表：张三", 3)],
        [Box("注册地址：天河区某路1号", 4), Box("邮政编码：５１０６３０", 3)],
        [Box("联 系 人：李四", 2), Box("联系电话（固话+手机）：" + say["phones"], 3), Box("电子邮箱：" + email, 2)],
        [Box("开园时间（年/月）：" + say["opened"], 3), Box("服务企业数量（家）：120家", 4)],
        [Box("二、近两年运营情况（单位：万元）", 7)],
        ["年度", "营业收入", "其中：服务收入", "资产总额", "利润总额", "上缴税金", "服务中小微企业户数"],
        ["2017", say["revenue"], say["service"], "1,000", "-3", "2", "30"],
        ["2018年", "110万元", "90", "1000", "5", "3", "40户"],
        [Box("三、中小企业服务站相关情况", 7)],
        [Box("服务站名称：某商会服务站", 2), Box("服务站工作人员：" + say["staff"], 5)],
        [Box("服务站面积：80㎡", 2), Box("服务站具体位置：天河区某路1号", 5)],
        [Box("服务站负责人：王五", 2), Box("联系电话（固话+手机）：020-83726618、13800138001", 3), Box("电子邮箱：b@example.cn", 2)],
        ["服务站负责人学历：", Box("".join(f"{n}. {k}（{'√' if n == 3 else ' '}）； " for n, k in enumerate(LEARNT, 1)), 6)],
    ]  # fmt: skip
    return docx(["附件", "广州市中小企业服务站申请表", table])


def check(data: bytes, compiled: CompiledNotice = STATIONS) -> parse.Checked:
    filer = Filer(code="x", kind="K6", name="某商会")
    filing = parse.Filing(compiled, filer, None, "440106", datetime(2019, 6, 1, tzinfo=UTC))
    return parse.offline(filing, workbook.read(data, "申请表.docx", compiled))[0]


def test_a_station_application_in_its_printed_layout() -> None:
    checked = check(application())
    assert checked.findings == []
    ((judged, _),) = checked.rows
    stored = judged.row.stored
    assert stored == {
        "operator_name": "某商会",
        "office_address": "天河区某路1号",
        "operator_type": "商协会",
        "target_industry": "电子信息",
        "registered_on": "2017-12-31",
        "legal_nature": "社会团体",
        "legal_rep": "张三",
        "registered_address": "天河区某路1号",
        "postcode": "510630",
        "contact_name": "李四",
        "contact_phones": ["020-83726619", "13800138000"],
        "contact_email": "a@example.cn",
        "enterprises_served": 120,
        "revenue_y1": "100",
        "service_y1": "80.5",
        "assets_y1": "1000",
        "profit_y1": "-3",
        "taxes_y1": "2",
        "smes_y1": 30,
        "revenue_y2": "110",
        "service_y2": "90",
        "assets_y2": "1000",
        "profit_y2": "5",
        "taxes_y2": "3",
        "smes_y2": 40,
        "station_name": "某商会服务站",
        "staff_fulltime": 3,
        "staff_qualified": 2,
        "staff_parttime": 0,
        "area": "80",
        "location": "天河区某路1号",
        "head_name": "王五",
        "head_phones": ["020-83726618", "13800138001"],
        "head_email": "b@example.cn",
        "head_education": "大专、本科",
    }
    assert judged.place is not None
    cells = judged.place[2]
    assert (cells["service_y1"], cells["staff_parttime"]) == ("表1第11行第3格", "表1第14行第2格")


@pytest.mark.parametrize(
    ("change", "rule", "cell"),
    [
        ({"registered": "2018年1月1日"}, "R-STA-003", None),
        ({"service": "120"}, "R-STA-910", None),
        ({"staff": "专职（4）人，其中：大专或中级职称以上（2）人；兼职（0）人。"}, "R-STA-006", None),
        ({"type": "1. 科技园区（√）；7. 商协会（ ）；"}, "R-STA-911", None),
        ({"phones": "13800138000"}, "R-STA-912", None),
        ({"type": "1. 科技园区（√）；7. 商协会（√）；"}, "F12.03", "表1第3行第2格"),
        ({"revenue": "1.2亿元"}, "F12.16", "表1第11行第2格"),
        ({"revenue": "-1"}, "F12.16", "表1第11行第2格"),
        ({"revenue": ""}, "F12.16", "表1第11行第2格"),
        (
            {"staff": "专职（三）人，其中：大专或中级职称以上（2）人；兼职（0）人。"},
            "F12.23",
            "表1第14行第2格",
        ),
        (
            {"staff": "专职（ ）人，其中：大专或中级职称以上（2）人；兼职（0）人。"},
            "F12.23",
            "表1第14行第2格",
        ),
        ({"opened": "2016年13月"}, "F12.13", "表1第8行第1格"),
    ],
)
def test_faults_of_a_station_application(change: dict[str, str], rule: str, cell: str | None) -> None:
    """T-STA-01, T-STA-07 among them."""
    (found,) = check(application(**change)).findings
    assert (found.rule, found.severity, found.cell, found.clause) == (
        (rule, "hard", cell, "申请表") if cell else (rule, "hard", None, "站点指引")
    )


def test_a_grid_says_which_year_a_fault_is_about() -> None:
    (found,) = check(application(revenue="若干")).findings
    assert found.detail == "“2017 营业收入”：应为数字"


def test_the_same_grid_serves_other_years() -> None:
    later = notice(F12, year=2020)
    assert {f.detail for f in check(application(), later).findings} >= {"“2019 营业收入”：不能为空"}


def test_the_blank_station_application_reads_back() -> None:
    data = card_template(STATIONS.forms["F12"], STATIONS.notice)
    (sheet,) = workbook.read(data, "申请表.xlsx", STATIONS)
    assert (sheet.form, sheet.rows, [f.code for f in sheet.findings]) == ("F12", [], ["workbook.empty"])
    book = openpyxl.load_workbook(BytesIO(data))
    page = book.worksheets[0]
    for row in page.iter_rows():
        for cell in row:
            if cell.value == "服务站工作人员：专职（ ）人":
                cell.value = "服务站工作人员：专职（2）人"
            elif cell.value == "2018":
                page.cell(cell.row, cell.column + 1, "12.5")
    out = BytesIO()
    book.save(out)
    (sheet,) = workbook.read(out.getvalue(), "申请表.xlsx", STATIONS)
    assert sheet.rows[0].raw == {"staff_fulltime": "2", "revenue_y2": "12.5"}


# --- clusters ---------------------------------------------------------------------------------------------

F15: dict[str, Any] = {
    "id": "F15",
    "annex": "集群申报表",
    "title": "市级中小企业特色产业集群申报表",
    "title_in_notice": "市级中小企业特色产业集群申报表",
    "clause": "指引 3.3.1",
    "item_kind": "product",
    "name": ["cluster_name"],
    "card": {
        "sections": [
            {
                "fields": [
                    {"field": "F15.01", "key": "cluster_name", "header": "集群名称"},
                    {
                        "field": "F15.07",
                        "key": "area",
                        "header": "占地面积",
                        "type": "decimal",
                        "unit": "平方公里",
                    },
                    {"field": "F15.09", "key": "share", "header": "中小企业产值占比", "type": "percent"},
                ],
                "grids": [
                    {
                        "label": "指标",
                        "rows": [{"key": "output", "label": "产值"}, {"key": "rd", "label": "研发经费"}],
                        "columns": [
                            {"field": "F15.08", "key": "target", "header": "目标", "type": "decimal"},
                            {"field": "F15.08", "key": "actual", "header": "实际", "type": "decimal"},
                        ],
                    }
                ],
                "blocks": [
                    {
                        "field": "F15.18",
                        "key": "incidents",
                        "title": "近三年重大负面事项",
                        "columns": [
                            {"field": "F15.18", "key": "happened_on", "header": "发生日期", "type": "date"},
                            {
                                "field": "F15.18",
                                "key": "incident",
                                "header": "事项",
                                "limit": 20,
                                "stated": True,
                            },
                        ],
                    }
                ],
                "declaration": {
                    "field": "F15.22",
                    "key": "truthful",
                    "label": "承诺",
                    "text": "以上内容真实。",
                },
            }
        ]
    },
}
CLUSTERS = notice(
    F15,
    [
        ("R-CLU-026", "row.share > 60.0"),
        ("R-CLU-024", "row.area <= 100.0"),
        ("R-CLU-020", "row.incidents.count == 0"),
        ("R-CLU-901", "!row.incidents.incident.exists(t, t.contains('较大'))"),
        ("R-CLU-902", "row.actual_output >= row.target_output"),
        ("R-CLU-903", "row.truthful"),
    ],
)


def cluster(area: str = "100", share: str = "60.01%", incidents: tuple[tuple[str, str], ...] = ()) -> bytes:
    return docx([
        [["集群名称", "某集群", "占地面积", area], ["中小企业产值占比", Box(share, 3)]],
        [["指标", "目标", "实际"], ["产值", "30", "31"], ["研发经费", "1", "1"]],
        "近三年重大负面事项：",
        [["序号", "发生日期", "事项"], *([str(n), *one] for n, one in enumerate(incidents, 1)), ["", "", ""]],
        "以上内容真实。",
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("data", "rules"),
    [
        (cluster(), []),
        (cluster(area="100.01平方公里"), ["R-CLU-024"]),
        (cluster(share="60％"), ["R-CLU-026"]),
        (cluster(incidents=(("2024-05-01", "一般事故"),)), ["R-CLU-020"]),
        (
            cluster(incidents=(("2024-05-01", "一般事故"), ("2024年6月1日", "较大事故"))),
            ["R-CLU-020", "R-CLU-901"],
        ),
        (cluster(incidents=(("不详", "一般事故"),)), ["F15.18"]),
        (cluster(incidents=(("2024-05-01", "长" * 21),)), ["F15.18"]),
    ],
)
def test_a_list_of_incidents_and_shares_without_rounding(data: bytes, rules: list[str]) -> None:
    """T-CLU-01, T-CLU-03, T-CLU-11."""
    found = check(data, CLUSTERS).findings
    assert [f.rule for f in found] == rules
    assert [f.cell for f in found if f.rule == "F15.18"] in ([], ["表3第2行第2格"], ["表3第2行第3格"])


def test_tables_of_the_same_columns_are_told_apart_by_the_heading_before_them() -> None:
    changes = {**F15["card"]["sections"][0]["blocks"][0], "key": "changes", "title": "重大变动"}
    sections = [F15["card"]["sections"][0], {"blocks": [changes]}]
    both = notice({**F15, "card": {"sections": sections}}, [])
    table = [["发生日期", "事项"], ["2024-05-01", "更换机构"]]
    head: list[list[str | Box]] = [
        ["集群名称", "某集群", "占地面积", "9"],
        ["中小企业产值占比", Box("61", 3)],
    ]
    data = docx([head, "近三年重大负面事项", [["发生日期", "事项"], ["", ""]], "重大变动：", table])
    ((row,),) = [sheet.rows for sheet in workbook.read(data, "a.docx", both)]
    assert row.raw["changes"] == [{"happened_on": "2024-05-01", "incident": "更换机构"}]
    assert "incidents" not in row.raw


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({**F12, "columns": [field(1, "a", "甲")]}, "columns（清单）或 card（卡片）之一"),
        ({**F12, "card": None}, "columns（清单）或 card（卡片）之一"),
        ({**F12, "name": ["nobody"]}, "没有名为 nobody 的列"),
        (
            {**F12, "card": {"sections": [{"fields": [field(1, "a", "甲"), field(2, "a", "乙")]}]}, "name": ["a"]},
            "栏目 a 出现了两次",
        ),
        (
            {**F12, "card": {"sections": [{"fields": [field(1, "a", "甲", type="choice", list="x")]}]}, "name": ["a"]},
            "没有代码表 x",
        ),
        ({**F12, "card": {"sections": [{"fields": [field(1, "a", "甲", rule="R-STA-999")]}]}, "name": ["a"]}, "没有规则"),
        ({**F12, "group": "station_name"}, "卡片没有 lines、group 和 preset"),
    ],
)  # fmt: skip
def test_a_broken_card_is_told_as_an_error_of_the_notice(form: dict[str, Any], why: str) -> None:
    form = {**form, "organizer": None}
    with pytest.raises(NoticeBroken) as broken:
        notice(form, [])
    assert why in str(broken.value)


def test_the_schema_of_a_card_takes_what_people_write_and_json_alike() -> None:
    properties = STATIONS.forms["F12"].schema()["properties"]
    assert properties["staff_fulltime"]["type"] == ["integer", "string"]
    assert properties["revenue_y1"]["description"] == "2017 营业收入"
    judge = CLUSTERS.forms["F15"]
    stored = judge.judge(
        {
            "cluster_name": "某集群", "area": 99.5, "share": 60.01, "truthful": True,
            "target_output": 30, "actual_output": 31, "target_rd": 1, "actual_rd": 1,
            "incidents": [{"happened_on": "2024-05-01", "incident": "无"}],
        }
    ).stored  # fmt: skip
    assert stored is not None
    assert (stored["area"], stored["share"], stored["truthful"]) == ("99.5", "60.01", True)
    refused = judge.judge({"cluster_name": "甲", "incidents": "无"}).findings
    assert ("F15.18", "schema.tuple_type") in [(f.rule, f.code) for f in refused]
