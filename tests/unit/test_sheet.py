"""The printed catalogue: opened with readers that are not the library that wrote it.

How it looks on paper is not here: `README.md` says which programs it was opened in.
"""

import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from openpyxl import load_workbook
from openpyxl.worksheet.worksheet import Worksheet
from python_calamine import CalamineWorkbook

from services.export import table
from services.export.sheet import catalogue
from services.export.table import MAX_TEXT, Row, arrange, clean, digest, file_name, object_name
from shared.contracts.types import Values
from shared.notices.columns import Column
from shared.notices.load import load
from shared.notices.model import Form, Notice

ROOT = Path(__file__).parents[2]
NOTICE = ROOT / "shared/notices/data/gz-collection-2025q1.yaml"
OPENED = datetime(2025, 2, 24, 1, tzinfo=UTC)

# Spec §2.0–2.6 and 2.10, copied as they stand.
TITLES = {
    "F3": ("附件3", "广州市2025年第一季度中小企业服务活动清单"),
    "F4": ("附件4", "广州市2025年第一季度“小快轻准”智能化服务产品目录"),
    "F5": ("附件5", "广州市2025年第一季度“一起益企”金融服务产品汇总表"),
    "F6": ("附件6", "广州市2025年第一季度“一起益企”检验检测和设备共享产品信息表"),
    "F7": ("附件7", "广州市2025年第一季度“一起益企”“名师优课”汇总表"),
    "F8": ("附件8", "广州市2025年中小企业产业集群服务（产品）汇总表"),
    "F10-2": ("附件10-2", "服务中小企业典型案例推荐对象汇总表"),
}
HEADERS = {
    "F3": "序号 服务领域 举办单位 活动名称 活动时间 活动地点 活动内容 参加人数 联系人及联系方式",
    "F4": "序号 公司名称 联系人及联系方式 产品名称 问题及需求分析 场景描述 产品简述 产品应用场景",
    "F5": (
        "序号 金融机构名称 联系人及方式 产品名称 产品简要介绍 最高贷款金额（万元） 贷款期限（月） 还款方式 "
        "担保方式 贷款利率区间（年化） 产品特点 适用客户 准入条件"
    ),
    "F6": "序号 公司名称 共享仪器和设备名称 数量 主要用途 联系人及联系方式",
    "F7": "序号 课程领域 课程名称 授课人 授课人所在单位 课程申报机构 讲师介绍 课程内容简介 联系人及联系方式",
    "F8": (
        "序号 服务领域 填报单位 活动（产品）名称 活动（产品）提供时间 活动（产品）地点（区域） "
        "活动（产品）内容 活动参加人数 联系人及联系方式"
    ),
    "F10-2": "序号 服务领域 案例名称 申报单位",
}
NOTES = {
    "F3": [
        "服务领域：★人工智能新兴产业分析（数字化赋能）、市场拓展（出海服务）、政策宣贯、引才育才、融资促进、"
        "第十五届全运会产品和服务场景对接服务等",
        "第十五届全运会产品和服务场景对接服务征集方案范围包括但不限于以下内容：（一）智慧城市（二）智慧场馆"
        "（三）自动化技术（四）机器人技术（五）位置服务（导航与路径规划）（六）信息技术（身份认证技术）"
        "（七）数字孪生（八）5G通信技术（九）人工智能应用（十）金融科技",
    ],
    "F4": [],
    "F5": [
        "注：以往已经提供或者已经公布的产品请勿重复提供；提供的产品包括但不限于：股权、期货、保单等等；"
        "平台类产品也欢迎提供（表格可做一定修改）。"
    ],
    "F6": [],
    "F7": [
        "注：课程领域包括但不限于：法律法规、政策解读、经营管理、集群培育、创业指导、创新发展、权益保护等等。"
    ],
    "F8": [
        "项目集群名单",
        "征集方案范围包括但不限于以下内容：能够为集群提供更多的财政、金融、产业、创新、土地、人才等支持的"
        "策划方案、活动计划、科研成果、基础设施、服务资源、标准规范、数字产品、环保技术、合作渠道、品牌商标、"
        "治理机制等等。",
    ],
    "F10-2": [],
}
DOMAINS = [
    "★人工智能新兴产业分析（数字化赋能）",
    "★市场拓展（出海服务）",
    "政策宣贯",
    "法律服务",
    "引才育才",
    "融资促进",
    "第十五届全运会产品和服务场景对接服务",
]
HEAD = 4
"""The sheet row of the header when no line stands above the table: label, blank, title, header."""


@pytest.fixture(scope="module")
def notice() -> Notice:
    return load(NOTICE).notice


def stored(column: Column, n: int) -> object:
    match column.type:
        case "contact":
            return {"name": "欧阳䶮", "phones": ["020-83726619", "13800138000"], "email": None}
        case "period" | "quantity" | "amount" | "months" | "rate":
            return {"text": "—"}
    return f"{column.header}{n}"


def some(form: Form, n: int, **values: object) -> Row:
    filled = {column.key: stored(column, n) for column in form.columns}
    return Row(f"C{n:04}", OPENED + timedelta(minutes=n), {**filled, **values})


def mixed(form: Form, n: int) -> list[Row]:
    """Rows of all domains and some others, of lengths that vary, in no order."""
    dice = random.Random(f"{form.id} {n}")
    texts = ["", "围绕出海合规提供“一企一策”服务" * 9, "=1+1", "𠮷㛃䶮 ERP"]
    domains = [*DOMAINS, "其他（知识产权）", "其他（标准化）"]
    rows = []
    for i in range(n):
        changes: Values = {form.group: dice.choice(domains)} if form.group else {}
        changes[form.columns[-2].key] = dice.choice(texts)
        rows.append(some(form, i, **changes))
    dice.shuffle(rows)
    return rows


def read(content: bytes) -> list[list[str]]:
    """As a reader of values sees it; the number of a row as it is shown."""
    cells = (
        CalamineWorkbook.from_filelike(BytesIO(content))
        .get_sheet_by_index(0)
        .to_python(skip_empty_area=False)
    )
    return [[str(int(c)) if isinstance(c, float) else str(c) for c in row] for row in cells]


def opened(content: bytes) -> Worksheet:
    found = load_workbook(BytesIO(content)).active
    assert isinstance(found, Worksheet)
    return found


def merged(content: bytes) -> set[str]:
    return {str(area) for area in opened(content).merged_cells.ranges}


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("form_id", TITLES)
def test_every_annex_has_its_printed_label_title_header_and_notes(
    notice: Notice, form_id: str, rows: int
) -> None:
    form = notice.by_form[form_id]
    content = catalogue(notice, form, [some(form, n) for n in range(rows)])
    lines = read(content)
    label, title = TITLES[form_id]
    assert [row[0].replace("\n", "") for row in lines[:3]] == [label, "", title]
    assert lines[HEAD - 1] == HEADERS[form_id].split()
    assert [row[0] for row in lines[HEAD : HEAD + rows]] == [str(n + 1) for n in range(rows)]
    assert [row[0] for row in lines[HEAD + rows :]] == NOTES[form_id]
    assert opened(content).title == label
    width = len(lines[0])
    assert f"A3:{'ABCDEFGHIJKLM'[width - 1]}3" in merged(content)


def test_the_cluster_list_stands_in_the_table(notice: Notice) -> None:
    form = notice.by_form["F8"]
    content = catalogue(notice, form, [some(form, 1)])
    assert "B6:I6" in merged(content)
    assert "A7:I7" in merged(content)
    said = read(content)[5][1]
    assert said.startswith(
        "已认定名单：1、黄埔区有机高分子材料产业集群（国家级、省级中小企业特色产业集群）；2、番禺区"
    )
    assert said.endswith("XX区电线电缆产业集群等等。")
    assert opened(content)["B6"].border.left.style == "thin"


def test_the_note_on_domains_is_bold_and_the_other_is_not(notice: Notice) -> None:
    form = notice.by_form["F3"]
    page = opened(catalogue(notice, form, []))
    assert (page["A5"].font.b, page["A6"].font.b) == (True, False)


def test_the_title_may_be_that_of_the_notice(notice: Notice) -> None:
    other = notice.model_copy(update={"title_source": "notice"})
    form = other.by_form["F3"]
    assert read(catalogue(other, form, []))[2][0] == "2025年第一季度广州市“一起益企”\n中小微企业服务活动清单"


def test_groups_follow_the_printed_order_then_the_time_of_filing(notice: Notice) -> None:
    form = notice.by_form["F3"]
    rows = [
        some(form, 1, service_domain="其他（标准化）"),
        some(form, 2, service_domain="融资促进"),
        some(form, 3, service_domain="其他（知识产权）"),
        some(form, 4, service_domain="★市场拓展（出海服务）"),
        some(form, 5, service_domain="其他（标准化）"),
        some(form, 6, service_domain="★市场拓展（出海服务）"),
    ]
    assert [row.case for row in arrange(form, notice.lists, rows)] == [
        "C0004", "C0006", "C0002", "C0001", "C0005", "C0003",
    ]  # fmt: skip
    same_time = [Row(case, OPENED, rows[1].values) for case in ("b", "a")]
    assert [row.case for row in arrange(form, notice.lists, same_time)] == ["a", "b"]


def test_cells_of_one_domain_are_merged_and_rows_are_numbered_through(notice: Notice) -> None:
    form = notice.by_form["F3"]
    domains = ["引才育才", "政策宣贯", "引才育才", "法律服务", "引才育才", "政策宣贯"]
    rows = [some(form, n, service_domain=domain, contact=None) for n, domain in enumerate(domains)]
    content = catalogue(notice, form, rows)
    table = read(content)[HEAD : HEAD + 6]
    assert [row[:2] for row in table] == [
        ["1", "政策宣贯"], ["2", ""], ["3", "法律服务"], ["4", "引才育才"], ["5", ""], ["6", ""],
    ]  # fmt: skip
    assert {area for area in merged(content) if area.startswith("B")} == {"B5:B6", "B8:B10"}


@pytest.mark.parametrize("form_id", ["F3", "F5", "F8", "F10-2"])
def test_on_every_page_the_domain_is_said_again(notice: Notice, form_id: str) -> None:
    form = notice.by_form[form_id]
    page = opened(catalogue(notice, form, mixed(form, 150)))
    for area in page.merged_cells.ranges:
        assert area.size["rows"] * area.size["columns"] > 1
        heights = [page.row_dimensions[n].height or 0 for n in range(area.min_row, area.max_row + 1)]
        assert sum(heights) < (table.SHORT_SIDE if form.landscape else table.LONG_SIDE) * table.MM


def test_a_label_longer_than_its_rows_makes_room_for_itself(notice: Notice) -> None:
    form = notice.by_form["F3"]
    long = "其他（" + "知识产权" * 40 + "）"
    empty = dict.fromkeys(form.by_key)
    rows = [Row(f"C{n}", OPENED, {**empty, "service_domain": long}) for n in range(3)]
    page = opened(catalogue(notice, form, rows))
    assert sum(page.row_dimensions[n].height or 0 for n in (5, 6, 7)) > 160 / 7 * 14


@pytest.mark.parametrize(
    "text",
    ["=1+1", "＝1", "+1", "-1", "@x", '=HYPERLINK("http://x.cn")', "{=1}", "http://x.cn", "mailto:a@b.cn",
     "0012", "1e5", "—", "TRUE", "_x0041_", "a\nb", "  x"],
)  # fmt: skip
def test_text_stays_text(notice: Notice, text: str) -> None:
    form = notice.by_form["F3"]
    content = catalogue(notice, form, [some(form, 1, activity_name=text, service_domain=text)])
    assert read(content)[HEAD][3] == text
    page = opened(content)
    for place in ("B5", "D5"):
        cell = page[place]
        assert (cell.data_type, cell.hyperlink) == ("s", None)
        assert cell.quotePrefix is (text[0] in "=＝+-@")
    assert b"<f>" not in ZipFile(BytesIO(content)).read("xl/worksheets/sheet1.xml")


def test_rare_characters_arrive(notice: Notice) -> None:
    form = notice.by_form["F4"]
    name = "𠮷㛃䶮漖〇㎡—★"
    assert read(catalogue(notice, form, [some(form, 1, company_name=name)]))[HEAD][1] == name


def test_values_are_printed_as_people_wrote_them(notice: Notice) -> None:
    form = notice.by_form["F5"]
    row = some(form, 1, rate_range={"text": "3.65%—4.5%", "min": "3.65", "max": "4.5"}, repayment=None)
    cells = read(catalogue(notice, form, [row]))[HEAD]
    assert cells[2] == "欧阳䶮\n020-83726619\n13800138000"
    assert (cells[5], cells[7], cells[9]) == ("—", "", "3.65%—4.5%")


def test_what_no_spreadsheet_can_hold_is_taken_out() -> None:
    assert clean("a\x00b\x0bc\td\r\ne\ud800f\ufffeg\u202eh") == "abc d\nefgh"
    assert clean("服务\n" * 300).count("\n") == 0
    assert clean("服" * MAX_TEXT) == "服" * MAX_TEXT
    long = clean("a" + "𠮷" * MAX_TEXT)
    assert len(long.encode("utf-16-le")) // 2 <= MAX_TEXT
    assert long.endswith("𠮷…")


@pytest.mark.parametrize(("form_id", "key"), [("F3", "content"), ("F5", "admission"), ("F6", "main_use")])
def test_text_too_long_for_a_row_gets_several(notice: Notice, form_id: str, key: str) -> None:
    form = notice.by_form[form_id]
    long = "围绕企业数字化转型需求组织专家现场诊断。" * 150
    content = catalogue(notice, form, [some(form, 1, **{key: long}), some(form, 2)])
    lines = [row for row in read(content)[HEAD:] if row[0] in ("1", "2")]
    assert lines[0][1 + list(form.by_key).index(key)] == long
    assert [row[0] for row in lines] == ["1", "2"]
    heights = [dimension.height or 0 for dimension in opened(content).row_dimensions.values()]
    assert max(heights) <= 409
    assert sum(heights) > 1200


def test_a_line_is_printed_when_every_row_agrees(notice: Notice) -> None:
    form = notice.by_form["F10-2"]
    said = {"recommender": "天河区商务金融局", "contact_name": "李四", "contact_phone": "020-38622222"}
    agreed = read(catalogue(notice, form, [some(form, n, **said) for n in range(2)]))
    assert [row[0] for row in agreed] == [
        "附件10-2", "", "服务中小企业典型案例推荐对象汇总表", "推荐单位（加盖公章）：天河区商务金融局",
        "序号", "1", "2", "联系人：李四", "联系电话：020-38622222",
    ]  # fmt: skip
    other = some(form, 2, **{**said, "recommender": "越秀区商务局"})
    lines = read(catalogue(notice, form, [some(form, 1, **said), other]))
    assert not any(row[0].startswith("推荐单位") for row in lines)
    assert lines[-1][0] == "联系电话：020-38622222"


@pytest.mark.parametrize(("form_id", "landscape"), [("F3", True), ("F6", False)])
def test_the_page_is_that_of_the_standard(notice: Notice, form_id: str, landscape: bool) -> None:
    page = opened(catalogue(notice, notice.by_form[form_id], []))
    sides = [page.page_margins.top, page.page_margins.bottom, page.page_margins.left, page.page_margins.right]
    # Turned for a wide table, the binding edge (28 mm) is above it.
    assert [round(side * 25.4) for side in sides] == ([28, 26, 35, 37] if landscape else [37, 35, 28, 26])
    assert page.page_setup.paperSize == 9
    assert page.page_setup.orientation == ("landscape" if landscape else "portrait")
    assert page.sheet_properties.pageSetUpPr is not None
    assert page.sheet_properties.pageSetUpPr.fitToPage
    assert (page.page_setup.fitToWidth, page.page_setup.fitToHeight) in {(1, 0), (None, 0)}
    assert page.print_title_rows == "$4:$4"
    assert page.oddFooter is not None
    assert page.oddFooter.center.text == "— &P —"
    fonts = [(page[place].font.name, page[place].font.sz) for place in ("A1", "A3", "A4")]
    assert fonts == [("黑体", 16), ("方正小标宋简体", 22), ("黑体", 10.5)]


def test_the_same_rows_in_any_order_give_the_same_bytes(notice: Notice) -> None:
    form = notice.by_form["F3"]
    rows = mixed(form, 80)
    wanted = catalogue(notice, form, rows)
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        assert catalogue(notice, form, rows) == wanted
    assert catalogue(notice, form, rows[1:]) != wanted


def test_another_process_place_and_time_give_the_same_bytes(notice: Notice) -> None:
    wanted = digest(catalogue(notice, notice.by_form["F3"], mixed(notice.by_form["F3"], 80)))
    for seed, zone in (("1", "Pacific/Kiritimati"), ("4242", "America/Los_Angeles")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(ROOT)}
        child = subprocess.run(
            [sys.executable, __file__], env=env, capture_output=True, check=True, text=True
        )
        assert child.stdout.strip() == wanted


def test_no_clock_and_no_machine_is_in_the_file(notice: Notice) -> None:
    archive = ZipFile(BytesIO(catalogue(notice, notice.by_form["F3"], [])))
    assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 31, 0, 0, 0)}
    about = load_workbook(BytesIO(catalogue(notice, notice.by_form["F3"], []))).properties
    assert (about.title, about.creator or "") == (TITLES["F3"][1], "")
    assert about.created == about.modified == datetime(2025, 2, 21)  # noqa: DTZ001  # openpyxl gives it without zone


def test_names(notice: Notice) -> None:
    form = notice.by_form["F3"]
    assert file_name(notice, form) == "附件3-广州市2025年第一季度中小企业服务活动清单.xlsx"
    assert object_name(notice, form) == "gz-collection-2025q1/F3.xlsx"
    odd = form.model_copy(update={"annex": "附件[3]/*:" + "长" * 40})
    assert "/" not in file_name(notice, odd)
    assert len(opened(catalogue(notice, odd, [])).title) == 31


if __name__ == "__main__":
    _notice = load(NOTICE).notice
    print(digest(catalogue(_notice, _notice.by_form["F3"], mixed(_notice.by_form["F3"], 80))))  # noqa: T201
