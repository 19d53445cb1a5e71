"""The cards of stations and clusters, filled in as people fill them in: in Word, in a worksheet, read back by their
labels, judged sound. What each rule says of them is in `test_stations.py` and `test_clusters.py`."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import openpyxl
import pytest

from services.cli.demo.lives import APPLICATION, CLUSTERS, STATION_FORM, STATIONS, YEARLY
from services.intake import workbook
from services.intake.card_template import card_template
from services.intake.sheets import Sheet
from services.intake.template import template
from shared.notices.load import load_all
from shared.notices.model import Form, Notice
from tests.documents import Part, Table, docx

NOTICES = {id_: one for id_, one in load_all().items() if id_ in (CLUSTERS, STATIONS)}
FILLED: dict[tuple[str, str], Mapping[str, Any]] = {
    (STATIONS, "F12"): {**STATION_FORM, "head_education": "大专、本科"},
    (CLUSTERS, "F15"): {
        **APPLICATION,
        "incidents": [
            {"kind": "质量事故", "level": "一般", "happened_on": "2020年3月1日", "description": "已整改"}
        ],
        "plan_targets": [
            {"indicator": "产值", "now": "40亿元", "target": "60亿元"},
            {"indicator": "专利", "now": "165件", "target": "260件"},
        ],
    },
    (CLUSTERS, "F16"): {**YEARLY, "cluster": "示例集群", "report_year": 2025},
}
CARDS = sorted(FILLED)


def parts(notice: Notice, form: Form, values: Mapping[str, Any]) -> list[Part]:
    """The card as paragraphs and tables: labels in cells with their values beside or below them."""
    assert form.card
    found: list[Part] = [form.annex, notice.form_title(form)]
    for section in form.card.sections:
        if section.title:
            found.append(notice.round.fill(section.title))
        rows: list[list[str]] = []
        for field in section.fields:
            value = str(values.get(field.key, ""))
            header = notice.round.fill(field.header)
            if "（ ）" in header:
                rows.append([header.replace("（ ）", f"（{value}）")])
            elif field.list and not field.below:
                ticked = "；".join(
                    f"{n}. {c.label}（{'√' if c.label == value else ' '}）"
                    for n, c in enumerate(notice.lists[field.list].values, 1)
                )
                rows.append([header, ticked])
            elif field.below:
                rows += [[header], [value]]
            else:
                rows.append([header, value])
        if rows:
            found.append(rows)
        for grid in section.grids:
            table = [[grid.label, *(c.header for c in grid.columns)]]
            table += [
                [notice.round.fill(line.label), *(str(values[f"{c.key}_{line.key}"]) for c in grid.columns)]
                for line in grid.rows
            ]
            found.append(table)
        for block in section.blocks:
            found.append(block.title)
            table = [["序号", *(c.header for c in block.columns)]]
            for n, row in enumerate(values.get(block.key, ()), 1):
                table.append([str(n), *(str(row.get(c.key) or "") for c in block.columns)])
            found.append(table)
        if said := section.declaration:
            found += [said.label, said.text]
    return found


def worksheet(made: list[Part]) -> bytes:
    """The same card typed into a worksheet: a paragraph is a row with one cell."""
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for part in made:
        rows: Table = [[part]] if isinstance(part, str) else part  # type: ignore[assignment]
        for row in rows:
            sheet.append([str(cell) for cell in row])
    out = BytesIO()
    book.save(out)
    return out.getvalue()


def only(sheets: list[Sheet]) -> Sheet:
    (sheet,) = [s for s in sheets if s.rows]
    assert [f for f in sheet.findings if f.severity == "hard"] == []
    return sheet


@pytest.mark.parametrize("kind", ["docx", "xlsx"])
@pytest.mark.parametrize(("notice", "form"), CARDS)
def test_a_filled_in_card_is_read_by_its_labels_and_is_sound(notice: str, form: str, kind: str) -> None:
    compiled, values = NOTICES[notice], FILLED[notice, form]
    shape = compiled.notice.by_form[form]
    made = parts(compiled.notice, shape, values)
    data = docx(made) if kind == "docx" else worksheet(made)
    sheet = only(workbook.read(data, f"某单位.{kind}", compiled))
    assert sheet.form == form
    (row,) = sheet.rows
    judged = compiled.forms[form].judge(row.raw)
    wanted = compiled.forms[form].judge(values)
    assert [f.detail for f in judged.findings if f.severity == "hard"] == []
    assert judged.stored == wanted.stored


@pytest.mark.parametrize(("notice", "form"), CARDS)
def test_a_card_with_nothing_in_it_is_no_item(notice: str, form: str) -> None:
    """The negative control of the reading: it does not come from the form itself."""
    compiled = NOTICES[notice]
    shape = compiled.notice.by_form[form]
    empty: dict[str, Any] = {f"{c.key}_{line.key}": "" for s in shape.card.sections for g in s.grids for line in g.rows for c in g.columns} if shape.card else {}  # fmt: skip
    sheets = workbook.read(docx(parts(compiled.notice, shape, empty)), "空白.docx", compiled)
    assert [row.raw for sheet in sheets for row in sheet.rows if row.raw.keys() - {"declaration"}] == []


@pytest.mark.parametrize(("notice", "form"), [*CARDS, (STATIONS, "F12-2"), (CLUSTERS, "F15-1")])
def test_a_blank_form_of_our_own_says_so_on_every_page(notice: str, form: str) -> None:
    compiled = NOTICES[notice]
    judge = compiled.forms[form]
    made = card_template if judge.form.card else template
    (sheet, *_) = openpyxl.load_workbook(BytesIO(made(judge, compiled.notice))).worksheets
    left = sheet.oddHeader.left.text if sheet.oddHeader else None
    assert bool(left) is judge.form.derived is (form != "F12")


def test_the_packaged_files_are_those_that_are_tried() -> None:
    cards = {(n.notice.id, f.id) for n in NOTICES.values() for f in n.notice.forms if f.card}
    assert cards == set(FILLED)
