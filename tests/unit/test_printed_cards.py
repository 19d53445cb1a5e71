"""Filled-in cards as documents: read back by intake and by pdfplumber, compared with the form and the sources.

How they look is not here; lists are in `test_paper.py`.
"""

from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.cli.demo.lives import APPLICATION as CLUSTER
from services.cli.demo.lives import CLUSTERS, STATION_FORM, STATIONS, YEARLY
from services.export import card, formats, pdf, word
from services.export.paper import Cell, Table, places
from services.export.table import Row
from services.intake import workbook
from shared.contracts.types import Values
from shared.notices.load import load_all
from shared.notices.model import Form, Notice
from tests.items import APPLICATION, COMPANY
from tests.unit.test_paper import RARE, W, pages, squeezed, word_rows, word_xml

COLLECTION = "gz-collection-2025q1"
NOTICES = load_all(None)
RESOURCES: dict[str, Any] = {
    "reporting_org": "广州市某某局",
    "filled_by": "张三",
    "filled_on": "2025年10月8日",
    "intangible": [
        {"description": "城市品牌特许权益", "resource_name": "花城特许", "content": "2个", "time": "10月"},
        {"description": "城市品牌特许权益", "resource_name": "广州塔", "content": "=1+1"},
        {"description": "公共设施冠名权", "resource_name": RARE, "content": "1座"},
    ],
    "events": [
        {
            "description": "广州主办的重大体育赛事活动资源",
            "resource_name": "广州马拉松",
            "time_place": "12月",
            "naming_right": "是",
            "tickets": "否",
        }
    ],
    "other_resources": [{"resource_name": "夜游", "content": "3条航线"}],
}
FILLED: dict[tuple[str, str], dict[str, Any]] = {
    (COLLECTION, "F9-1"): RESOURCES,
    (COLLECTION, "F9-2"): COMPANY,
    (COLLECTION, "F10-1"): APPLICATION,
    (STATIONS, "F12"): dict(STATION_FORM),
    (CLUSTERS, "F15"): {
        **CLUSTER,
        "plan_summary": "第一年\n第二年",
        "incidents": [{"kind": "质量事故", "level": "一般", "happened_on": "2020年3月1日"}],
    },
    (CLUSTERS, "F16"): {**YEARLY, "cluster": "示例集群", "report_year": 2025},
}
each_card = pytest.mark.parametrize(("notice_id", "form_id"), sorted(FILLED))


def stored(notice_id: str, form_id: str, **more: Any) -> Values:
    judged = NOTICES[notice_id].forms[form_id].judge({**FILLED[notice_id, form_id], **more})
    assert judged.stored is not None, [f.detail for f in judged.findings]
    return judged.stored


def of(notice_id: str, form_id: str) -> tuple[Notice, Form]:
    notice = NOTICES[notice_id].notice
    return notice, notice.by_form[form_id]


def said_in(content: bytes) -> str:
    return squeezed("".join(page.extract_text() for page in pages(content)))


def test_every_card_of_a_packaged_notice_is_tried() -> None:
    assert set(FILLED) == {(n, f.id) for n, c in NOTICES.items() for f in c.notice.forms if f.card}


@each_card
def test_a_printed_card_is_read_back_as_what_was_filed(notice_id: str, form_id: str) -> None:
    """Labels, titles, ticks and tables are the form's own: intake, which knows only those, finds every value."""
    notice, form = of(notice_id, form_id)
    values = stored(notice_id, form_id)
    made = word.render(card.card(notice, form, values))
    sheets = [s for s in workbook.read(made, f"{form.id}.docx", NOTICES[notice_id]) if s.rows]
    assert [(s.form, len(s.rows)) for s in sheets] == [(form.id, 1)]
    judged = NOTICES[notice_id].forms[form_id].judge(sheets[0].rows[0].raw)
    assert judged.stored == values, [f.detail for f in judged.findings]


@given(
    st.text(
        st.characters(categories=["L", "N", "P"], include_characters=RARE + " "), min_size=1, max_size=300
    )
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_reason_is_read_back_as_it_was_printed(reason: str) -> None:
    notice, form = of(COLLECTION, "F9-2")
    judged = NOTICES[COLLECTION].forms["F9-2"].judge({**COMPANY, "reason": f"因{reason}故"})
    assert judged.stored
    made = word.render(card.card(notice, form, judged.stored))
    texts = {squeezed(text) for row in word_rows(made) for text in row}
    assert squeezed(judged.stored["reason"]) in texts


@each_card
def test_pdf_and_word_have_label_title_headings_values_and_notes(notice_id: str, form_id: str) -> None:
    notice, form = of(notice_id, form_id)
    assert form.card
    made = formats.printed(card.card(notice, form, stored(notice_id, form_id)))
    fill = notice.round.fill
    wanted = [form.annex, notice.form_title(form)]
    for section in form.card.sections:
        wanted += [fill(section.title)] if section.title else []
        wanted += [fill(f.header).rstrip("：:").split("（ ）")[0] for f in section.fields]
        wanted += [fill(line.label) for grid in section.grids for line in grid.rows]
        for block in section.blocks:
            wanted += [*(column.header for column in block.columns), *block.preset]
        if section.declaration:
            wanted += [section.declaration.label, section.declaration.text]
        wanted += [mark.label for mark in section.marks]
    in_word = squeezed("".join(word_xml(made["docx"]).itertext()))
    # The lines of neighbouring cells stand side by side in what pdfplumber reads: cell by cell they do not.
    in_pdf = said_in(made["pdf"]) + "".join(
        squeezed(text or "")
        for page in pages(made["pdf"])
        for table in page.extract_tables()
        for row in table
        for text in row
    )
    for text in (squeezed(one) for one in wanted):
        assert text in in_word
        assert text in in_pdf
    for note in form.notes:
        assert squeezed(note.text) in in_word
        assert squeezed(note.text) in in_pdf


@each_card
def test_pages_are_a4_and_every_letter_is_on_them(notice_id: str, form_id: str) -> None:
    notice, form = of(notice_id, form_id)
    made = pdf.render(card.card(notice, form, stored(notice_id, form_id)))
    size = (842, 595) if form.landscape else (595, 842)
    for page in pages(made):
        assert (round(page.width), round(page.height)) == size
        assert all(c["x0"] > 0 and c["x1"] < page.width and c["bottom"] < page.height for c in page.chars)
    heading = any("系统拟定" in page.extract_text() for page in pages(made))
    assert heading is form.derived


def spans(content: bytes) -> list[list[tuple[str, int, str | None]]]:
    """Text, columns across, and whether the cell goes on from above, of every row of every table."""
    found = []
    for row in word_xml(content).iter(W + "tr"):
        cells = []
        for cell in row.findall(W + "tc"):
            across = cell.find(f"{W}tcPr/{W}gridSpan")
            merged = cell.find(f"{W}tcPr/{W}vMerge")
            text = "".join(t.text or "" for t in cell.iter(W + "t"))
            wide = 1 if across is None else int(across.get(W + "val") or 1)
            cells.append((text, wide, None if merged is None else merged.get(W + "val")))
        found.append(cells)
    return found


def test_the_recommendation_has_the_rows_of_the_annex() -> None:
    """附件9-2: label, value, label, value; an introduction beside its label over the rest of the row."""
    notice, form = of(COLLECTION, "F9-2")
    rows = spans(word.render(card.card(notice, form, stored(COLLECTION, "F9-2"))))
    assert [[text for text, _, _ in row] for row in rows] == [
        ["推荐企业名称", "甲公司", "社会信用代码", "91110000600037341L"],
        ["企业简介", "简介"],
        ["推荐理由", "理由"],
        ["企业联系人姓名", "张三", "企业联系人职务", "经理"],
        ["企业联系人联系方式", "020-83726619", "备注", ""],
    ]
    assert [[wide for _, wide, _ in row] for row in rows] == [
        [1, 1, 1, 1],
        [1, 3],
        [1, 3],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
    ]


def test_the_application_has_a_cover_groups_and_ticked_boxes() -> None:
    notice, form = of(COLLECTION, "F10-1")
    made = formats.printed(card.card(notice, form, stored(COLLECTION, "F10-1")))
    rows = spans(made["docx"])
    groups = [(row[0][0], row[0][2]) for row in rows]
    assert groups[:8] == [
        ("单位信息", "restart"),
        *[("", "continue")] * 5,
        ("联系人信息", "restart"),
        ("", "continue"),
    ]
    assert "□国有\u3000□合资\u3000■民营\u3000□外资" in [text for row in rows for text, _, _ in row]
    cover, first, *_ = (squeezed(page.extract_text()) for page in pages(made["pdf"]))
    assert ("案例名称" in cover, "第一部分" in cover, first.startswith("第一部分申报书")) == (
        True,
        False,
        True,
    )


def test_the_stations_card_has_labels_within_its_cells_as_printed() -> None:
    notice, form = of(STATIONS, "F12")
    rows = spans(word.render(card.card(notice, form, stored(STATIONS, "F12"))))
    texts = [[text for text, _, _ in row] for row in rows]
    assert texts[0] == ["一、申请（运营）主体基本情况"]
    assert [text.partition("：")[0] for text in texts[4]] == ["注册日期", "单位性质", "法人代表"]
    grid = next(row for row in texts if row[0] == "年度")
    assert grid == [
        "年度",
        "营业收入",
        "其中：服务收入",
        "资产总额",
        "利润总额",
        "上缴税金",
        "服务中小微企业户数",
    ]
    staff = stored(STATIONS, "F12")
    assert (
        f"服务站工作人员：专职（{staff['staff_fulltime']}）人，其中：大专或中级职称以上（{staff['staff_qualified']}）人；"
        f"兼职（{staff['staff_parttime']}）人。"
    ) in [text for row in texts for text in row]
    assert {sum(wide for _, wide, _ in row) for row in rows} == {sum(wide for _, wide, _ in rows[0])}


def test_resources_stand_with_their_description_and_their_kind() -> None:
    """附件9-1: the kind in a column of its own, a description with several resources once (derived)."""
    notice, form = of(COLLECTION, "F9-1")
    rows = spans(word.render(card.card(notice, form, stored(COLLECTION, "F9-1"))))
    first = rows[: 1 + 5]
    assert [(row[0][0], row[0][2]) for row in first] == [
        ("", None),
        ("城市无形资产资源", "restart"),
        *[("", "continue")] * 4,
    ]
    assert [(row[1][0], row[2][0], row[3][0]) for row in first[1:]] == [
        ("1", "参与城市品牌活动或城市应用场景", ""),
        ("2", "城市品牌特许权益", "花城特许"),
        ("", "", "广州塔"),
        ("3", "公共设施冠名权", RARE),
        ("4", "可授权使用的无形资产", ""),
    ]
    made = pdf.render(card.card(notice, form, stored(COLLECTION, "F9-1")))
    assert RARE in said_in(made)


@pytest.mark.parametrize("sign", "=+-@＝＋－＠")
def test_a_text_like_a_formula_arrives_as_it_was_written(sign: str) -> None:
    notice, form = of(COLLECTION, "F9-2")
    made = formats.printed(card.card(notice, form, stored(COLLECTION, "F9-2", reason=f"{sign}1+1")))
    assert f"{sign}1+1" in [text for row in word_rows(made["docx"]) for text in row]
    cells = {
        squeezed(text or "")
        for page in pages(made["pdf"])
        for table in page.extract_tables()
        for row in table
        for text in row
    }
    assert f"{sign}1+1" in cells


@each_card
def test_the_same_values_are_the_same_bytes(notice_id: str, form_id: str) -> None:
    notice, form = of(notice_id, form_id)
    values = stored(notice_id, form_id)
    made = formats.printed(card.card(notice, form, values))
    assert formats.printed(card.card(notice, form, dict(reversed(values.items())))) == made
    other = formats.printed(card.card(notice, form, {**values, form.name[0]: "别的名称"}))
    assert all(other[ending] != made[ending] for ending in made)


@each_card
def test_everybody_sees_what_the_notice_names_and_nothing_else(notice_id: str, form_id: str) -> None:
    """By allow-list: of a card that names nothing, not one value."""
    notice, form = of(notice_id, form_id)
    values = stored(notice_id, form_id)
    row = Row("C", None, values)  # type: ignore[arg-type]
    seen = "".join(word_xml(word.render(card.filed(notice, form, row, without=card.hidden(form)))).itertext())
    for key, column in form.by_key.items():
        if (value := values.get(key)) is not None and len(text := str(value)) > 3:
            assert (text in seen) <= (key in form.public or text in str([values[k] for k in form.public])), (
                column.header
            )
    assert bool(form.public) is (form_id == "F10-1")
    if form.public:
        assert values["lessons"] in seen
        assert not any(
            text in seen for text in ("张三", "83726619", "a@b.cn", "91110000600037341L", "天河区")
        )


@each_card
def test_without_contact_data_its_places_are_left_out(notice_id: str, form_id: str) -> None:
    notice, form = of(notice_id, form_id)
    values = stored(notice_id, form_id)
    whole = "".join(word_xml(word.render(card.card(notice, form, values))).itertext())
    less = "".join(word_xml(word.render(card.card(notice, form, values, without=form.personal))).itertext())
    for key in form.personal & values.keys():
        value = values[key]
        text = "、".join(value) if isinstance(value, list | tuple) else str(value)
        assert text in whole
        assert text not in less


def test_a_list_is_printed_with_its_one_row() -> None:
    notice, form = of(COLLECTION, "F6")
    values: Values = {c.key: c.header for c in form.columns if c.type == "text"}
    values |= {
        c.key: {"name": "欧阳", "phones": ["13800138000"], "email": None}
        for c in form.columns
        if c.type == "contact"
    }
    row = Row("C", None, values)  # type: ignore[arg-type]
    header, first, *_ = word_rows(word.render(card.filed(notice, form, row)))
    assert (header[0], first[0], len(header)) == ("序号", "1", len(form.columns) + 1)
    narrow, *_ = word_rows(word.render(card.filed(notice, form, row, without=form.personal)))
    assert len(narrow) == len(header) - len([c for c in form.columns if c.key in form.personal])


@pytest.mark.parametrize("made", ["是", "否"])
def test_a_declaration_that_was_not_made_is_not_printed_as_one(made: str) -> None:
    """By the rules it is refused; what the dossier of such a filing prints must not say otherwise."""
    notice, form = of(COLLECTION, "F10-1")
    printed = card.card(notice, form, stored(COLLECTION, "F10-1", declaration_accepted=made))
    assert ("未作此项承诺" in "".join(word_xml(word.render(printed)).itertext())) is (made == "否")


def test_a_long_answer_goes_on_over_the_page_and_nothing_of_it_is_lost() -> None:
    notice, form = of(COLLECTION, "F9-2")
    long = "".join(f"第{n}句话。" for n in range(330))
    made = pdf.render(card.card(notice, form, stored(COLLECTION, "F9-2", reason=long)))
    assert len(pages(made)) > 1
    cells = "".join(
        squeezed(row[1] or "")
        for page in pages(made)
        for table in page.extract_tables()
        for row in table
        if len(row) > 1
    )
    assert long in cells


def test_cells_that_reach_down_push_those_of_lower_rows_aside() -> None:
    rows = [[Cell("a", down=2), Cell("b", across=2)], [Cell("c"), Cell("d")], [Cell("e", across=3)]]
    assert [[(at, cell.text, lower) for at, cell, lower in row] for row in places(rows)] == [
        [(0, "a", False), (1, "b", False)],
        [(0, "a", True), (1, "c", False), (2, "d", False)],
        [(0, "e", False)],
    ]


def test_an_empty_card_prints_its_labels() -> None:
    notice, form = of(STATIONS, "F12")
    made = card.card(notice, form, {})
    assert any(isinstance(part, Table) for part in made.parts)
    assert "1. 科技园区（ ）" in "".join(word_xml(word.render(made)).itertext())
    assert BytesIO(pdf.render(made)).read(4) == b"%PDF"
