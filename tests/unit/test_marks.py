"""The marked copy of a workbook is the filer's own file: what the marks do not need stays byte for byte.

What the marks say is in `test_workbook.py`.
"""

from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import openpyxl
import pytest
import xlsxwriter
from python_calamine import load_workbook
from typer.testing import CliRunner

from services import cli
from services.intake import office, workbook
from services.intake.marking import mark
from services.intake.sheet_marks import STAMP
from services.intake.workbook import RESULT
from shared.contracts.types import Finding
from shared.notices.load import load_all
from tests.items import LECTURE
from tests.scans import png
from tests.workbooks import head, rezip, xlsx

NOTICE = load_all()["gz-collection-2025q1"]
F3 = NOTICE.notice.by_form["F3"]
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def row(n: int, **changes: Any) -> list[Any]:
    return [n, *({**LECTURE, **changes}[c.key] for c in F3.columns)]


def rich() -> bytes:
    """What people put into a workbook: pictures, charts, their own comments, colours, lists, formulas, a second sheet."""
    out = BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True})
    look = book.add_format({"font_name": "楷体", "bg_color": "#CCFFCC", "border": 1})
    sheet = book.add_worksheet("附件3")
    sheet.write_row(0, 0, head(F3), look)
    for n in range(1, 5):
        sheet.write_row(n, 0, row(n, activity_name=f"讲座{n}"), look)
        sheet.write_formula(n, 0, "=ROW()-1", look, n)
    sheet.write_comment("C2", "请核对名称", {"author": "李四"})
    sheet.write_comment("D3", "请核对时间", {"author": "李四"})
    sheet.insert_image("B12", "章.png", {"image_data": BytesIO(png())})
    chart = book.add_chart({"type": "column"})
    chart.add_series({"values": "=附件3!$A$2:$A$5"})
    sheet.insert_chart("D12", chart)
    sheet.conditional_format("H2:H5", {"type": "cell", "criteria": ">", "value": 50, "format": look})
    sheet.data_validation("B2:B5", {"validate": "list", "source": ["法律服务", "其他"]})
    sheet.write_url("L1", "https://example.cn/", string="说明")
    sheet.set_column(0, 40, 14)
    sheet.set_row(2, 41)
    sheet.freeze_panes(1, 0)
    sheet.set_header("&L&G", {"image_left": "章.png", "image_data_left": BytesIO(png())})
    other = book.add_worksheet("说明")
    other.write("A1", "另附")
    other.write_comment("A1", "别处的批注")
    book.define_name("范围", "=附件3!$B$2:$B$5")
    book.set_properties({"author": "李四"})
    book.close()
    return out.getvalue()


def fault(cell: str | None, row: int | None, severity: Any = "hard", detail: str = "有误") -> Finding:
    return Finding(
        rule="F3.04",
        code="x",
        severity=severity,
        clause="附件3",
        detail=detail,
        sheet="附件3",
        row=row,
        cell=cell,
    )


FAULTS = [fault("D3", 3), fault("C4", 4, "soft"), fault("E4", 4, "info")]


def parts(data: bytes) -> dict[str, bytes]:
    with ZipFile(BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def read(data: bytes) -> Any:
    return [(s.form, s.header, s.rows, s.lines) for s in workbook.read(data, "附件3.xlsx", NOTICE)]


def grid(data: bytes) -> list[list[Any]]:
    return load_workbook(BytesIO(data)).get_sheet_by_name("附件3").to_python(skip_empty_area=False)


def test_every_part_that_no_mark_needs_is_as_it_was() -> None:
    data = rich()
    before, after = parts(data), parts(mark(data, "附件3.xlsx", FAULTS, NOTICE))
    changed = {name for name in before if after.get(name) != before[name]}
    assert changed == {
        "xl/worksheets/sheet1.xml",
        "xl/comments1.xml",
        "xl/drawings/vmlDrawing1.vml",
        "xl/styles.xml",
    }
    assert after.keys() == before.keys()
    assert list(after) == list(before)
    for name in ("xl/charts/chart1.xml", "xl/media/image1.png", "xl/comments2.xml"):
        assert name in before


def test_openpyxl_would_lose_what_we_keep() -> None:
    """The control: what the comparison above is worth."""
    book = openpyxl.load_workbook(BytesIO(rich()))
    out = BytesIO()
    book.save(out)
    assert parts(rich()).keys() - parts(out.getvalue()).keys() >= {"xl/drawings/vmlDrawing1.vml"}


def test_of_the_worksheet_only_the_marks_are_new() -> None:
    """Every cell keeps its style, its value and its formula; only the result column, its width and the colours come."""
    data = rich()
    old: Any = openpyxl.load_workbook(BytesIO(data))["附件3"]
    new: Any = openpyxl.load_workbook(BytesIO(mark(data, "附件3.xlsx", FAULTS, NOTICE)))["附件3"]
    column = next(c.column for c in new[1] if c.value == RESULT)
    for line in old.iter_rows():
        for cell in line:
            twin = new.cell(cell.row, cell.column)
            assert (twin.value, twin.style_id, twin.hyperlink and twin.hyperlink.target) == (
                cell.value,
                cell.style_id,
                cell.hyperlink and cell.hyperlink.target,
            )
    assert column == old.max_column + 1
    assert [new.cell(n, column).value for n in range(1, 6)] == [
        RESULT,
        "未发现问题",
        "【必须修改】有误（F3.04，附件3）",
        "【请确认】有误（F3.04，附件3）\n【提示】有误（F3.04，附件3）",
        "未发现问题",
    ]
    colours = {
        str(r.sqref): r.rules[0].dxf.fill.bgColor.rgb
        for r in new.conditional_formatting
        if r.rules[0].type == "expression"
    }
    assert colours == {"D3": "FFFFC7CE", "C4": "FFFFEB9C", "E4": "FFDDEBF7"}
    assert new.data_validations.dataValidation[0].sqref == old.data_validations.dataValidation[0].sqref
    assert (new.freeze_panes, new.row_dimensions[3].height) == (
        old.freeze_panes,
        old.row_dimensions[3].height,
    )
    assert new.column_dimensions["A"].width == old.column_dimensions["A"].width
    notes = {c.coordinate: c.comment.text for line in new.iter_rows() for c in line if c.comment}
    assert notes == {
        "C2": "请核对名称",
        "D3": "请核对时间\n\n—— 益企校验 ——\n【必须修改】有误（F3.04，附件3）",
        "C4": "—— 益企校验 ——\n【请确认】有误（F3.04，附件3）",
        "E4": "—— 益企校验 ——\n【提示】有误（F3.04，附件3）",
    }


def test_a_marked_copy_is_filed_again_as_the_same() -> None:
    data = rich()
    marked = mark(data, "附件3.xlsx", FAULTS, NOTICE)
    assert read(marked) == read(data)
    assert mark(marked, "附件3.xlsx", FAULTS, NOTICE) == marked
    clean = mark(marked, "附件3.xlsx", [], NOTICE)
    assert grid(clean) == grid(data)
    again = openpyxl.load_workbook(BytesIO(clean))["附件3"]
    notes = {c.coordinate: c.comment.text for line in again.iter_rows() for c in line if c.comment}
    assert notes == {"C2": "请核对名称", "D3": "请核对时间"}
    assert len(again.conditional_formatting) == 1
    boxes = parts(clean)["xl/drawings/vmlDrawing1.vml"]
    assert boxes.count(b"<v:shape ") == 2


def test_marks_are_known_again_when_another_program_has_saved_them() -> None:
    """LibreOffice keeps no author and divides a text into runs."""
    marked = mark(rich(), "附件3.xlsx", FAULTS, NOTICE)
    notes = parts(marked)["xl/comments1.xml"].decode()
    for old, new in (
        (STAMP + "</author>", "</author>"),
        ("\n\n—— ", '\n\n</t></r><r><t xml:space="preserve">—— '),
    ):
        assert old in notes
        notes = notes.replace(old, new)
    clean = mark(rezip(marked, {"xl/comments1.xml": notes.encode()}), "附件3.xlsx", [], NOTICE)
    sheet = openpyxl.load_workbook(BytesIO(clean))["附件3"]
    left = {c.coordinate: c.comment.text for line in sheet.iter_rows() for c in line if c.comment}
    assert left == {"C2": "请核对名称", "D3": "请核对时间"}


def test_only_faults_leaves_the_rows_that_have_one() -> None:
    data = rich()
    marked = mark(data, "附件3.xlsx", FAULTS, NOTICE, only_faults=True)
    before = {r.row: r for r in workbook.read(data, "a.xlsx", NOTICE)[0].rows}
    assert workbook.read(marked, "a.xlsx", NOTICE)[0].rows == [before[3], before[4]]
    sheet = openpyxl.load_workbook(BytesIO(marked))["附件3"]
    assert [n for n in range(1, 7) if sheet.row_dimensions[n].hidden] == [2, 5]
    assert [sheet.cell(n, 1).value for n in range(2, 6)] == [None, 2, 3, None]
    assert grid(marked)[0] == [*grid(data)[0], RESULT]
    assert "xl/calcChain.xml" not in parts(marked)


def test_only_faults_keeps_what_a_faulty_row_inherits() -> None:
    """A domain that stands above, and a cell that is merged over a sound row and a faulty one."""
    rows = [
        ["附件3"],
        head(F3),
        row(1, service_domain="政策宣贯"),
        row(2, service_domain=None),
        row(3, service_domain=None),
        row(4, service_domain=None, organizer="某处"),
        row(5, service_domain=None, organizer=None),
    ]
    data = xlsx({"附件3": rows}, merges=[(5, 2, 6, 2)])
    before = {r.row: r for r in workbook.read(data, "a.xlsx", NOTICE)[0].rows}
    marked = mark(data, "a.xlsx", [fault("D4", 4), fault("D7", 7)], NOTICE, only_faults=True)
    left = workbook.read(marked, "a.xlsx", NOTICE)[0].rows
    assert left == [before[4], before[6], before[7]]
    assert left[0].raw["service_domain"] == "政策宣贯"


def test_a_fault_of_the_whole_sheet_leaves_all_its_rows() -> None:
    data = rich()
    found = [fault(None, None), fault("D3", 3)]
    assert read(mark(data, "附件3.xlsx", found, NOTICE, only_faults=True)) == read(data)
    hints = [fault("D3", 3, "info")]
    assert read(mark(data, "附件3.xlsx", hints, NOTICE, only_faults=True)) == read(data)


PREFIXED = [
    (b"<", b"<x:"), (b"<x:/", b"</x:"), (b"<x:?xml", b"<?xml"), (b'xmlns="' + MAIN.encode(), b'xmlns:x="' + MAIN.encode()),
]  # fmt: skip


def test_a_worksheet_with_prefixes_is_marked_as_well() -> None:
    """As .NET programs write them."""
    data = xlsx({"附件3": [["附件3"], head(F3), row(1), row(2)]})
    sheet = parts(data)["xl/worksheets/sheet1.xml"]
    for old, new in PREFIXED:
        sheet = sheet.replace(old, new)
    data = rezip(data, {"xl/worksheets/sheet1.xml": sheet})
    marked = mark(data, "a.xlsx", [fault("D3", 3)], NOTICE)
    assert read(marked) == read(data)
    assert grid(marked)[2][-1] == "【必须修改】有误（F3.04，附件3）"
    assert openpyxl.load_workbook(BytesIO(marked))["附件3"]["D3"].comment


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<dimension", b"<!-- a > b </row> --><dimension"),
        (b' spans="1:9"', b""),
        (b' r="C3"', b' r="C3" cm="0"'),
        (b"<cols>", b"<cols><!-- </cols> -->"),
        (b"<sheetData>", b"<sheetData  >"),
        (b"UTF-8", b"utf-8"),
    ],
)
def test_odd_but_legal_xml_is_marked(old: bytes, new: bytes) -> None:
    data = rich()
    sheet = parts(data)["xl/worksheets/sheet1.xml"]
    odd = rezip(data, {"xl/worksheets/sheet1.xml": sheet.replace(old, new)})
    marked = mark(odd, "附件3.xlsx", FAULTS, NOTICE)
    assert read(marked) == read(data)
    assert "xl/charts/chart1.xml" in parts(marked)  # not written anew
    assert grid(marked)[2][-1] == "【必须修改】有误（F3.04，附件3）"


@pytest.mark.parametrize("said", ["_x0009_=1", "a\x00b\x0b", '😀 & <b> "q" ]]>', "龘" * 40_000])
def test_whatever_a_finding_says_stands_there_as_text(said: str) -> None:
    marked = mark(rich(), "附件3.xlsx", [fault("D3", 3, detail=said)], NOTICE)
    wanted = said.replace("\x00", "").replace("\x0b", "")[:30_000]
    book = openpyxl.load_workbook(BytesIO(marked))["附件3"]
    comment = book["D3"].comment
    assert comment
    assert wanted.replace("_x0009_", "") in str(grid(marked)[2][-1]).replace("_x0009_", "")
    office.nodes(parts(marked)["xl/comments1.xml"], lambda *_: False)


def test_check_writes_the_marked_copy_with_all_rows_or_the_faulty_ones(tmp_path: Path) -> None:
    data = xlsx(
        {
            "附件3": [
                ["附件3"],
                head(F3),
                row(1),
                row(2, activity_name="乙", participants="0"),
                row(3, activity_name="丙"),
            ]
        }
    )
    filed, marked = tmp_path / "附件3.xlsx", tmp_path / "标注.xlsx"
    filed.write_bytes(data)
    said = [str(filed), "--notice", NOTICE.notice.id, "--as", "440106", "--marked", str(marked)]
    assert CliRunner().invoke(cli.app, ["check", *said]).exit_code == 1
    assert read(marked.read_bytes()) == read(data)
    assert str(grid(marked.read_bytes())[3][-1]).startswith("【")
    assert CliRunner().invoke(cli.app, ["check", *said, "--only-faults"]).exit_code == 1
    (sheet,) = workbook.read(marked.read_bytes(), "a.xlsx", NOTICE)
    assert [r.row for r in sheet.rows] == [4]
    alone = CliRunner().invoke(cli.app, ["check", *said[:5], "--only-faults"])
    assert str(alone.exception) == "--only-faults 须与 --marked 同时使用"


def test_blank_forms_of_a_notice_are_workbooks_and_documents(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["notice", "template", NOTICE.notice.id, "--out", str(tmp_path)])
    assert done.exit_code == 0
    wanted = {f"{f.annex}.{ending}" for f in NOTICE.notice.forms for ending in ("xlsx", "docx")}
    assert {file.name for file in tmp_path.iterdir()} == wanted
