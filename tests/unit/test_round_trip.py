"""What a filer writes into the blank form is what the catalogue says: template, filled in, read, judged, published,
printed, and read again, for every form of every packaged notice. Of a card the template and the print go round apart.

Which value is sound is not here (`test_values.py`), nor what a reader makes of other layouts (`test_workbook.py`).
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import openpyxl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openpyxl.utils import get_column_letter
from python_calamine import CalamineWorkbook

from services.export import card, word
from services.export import sheet as printing
from services.export.sheet import catalogue
from services.export.table import Row, arrange, cell_text
from services.intake.card_template import card_template
from services.intake.template import template
from services.intake.workbook import read
from shared.notices.cards import Block
from shared.notices.columns import Column
from shared.notices.load import CompiledNotice, load_all
from shared.notices.model import Form, Notice
from shared.notices.values import uscc

COMPILED = {c.notice.id: c for c in load_all().values()}
LISTS = [(i, f.id) for i, c in COMPILED.items() for f in c.notice.forms if f.card is None]
CARDS = [(i, f.id) for i, c in COMPILED.items() for f in c.notice.forms if f.card is not None]

LETTERS = (
    "广州市企业服务数字化转型诊断贷款研究院有限公司科技园区荔湾花都从化增城"
    "𠮷㛃䶮漖〇㎡—★①Ⅱ“”《》（）、，。；：％"
    "ABCxyz0189 &<>'\"%#.,;/()=+-@＝＋－＠"
)
"""With characters outside the basic plane, of XML, and those that begin a formula."""
PHONES = ("13800138000", "19912345678", "020-83726619", "0755-83726619", "020-83522270-802", "400-830-0000")
WRITTEN: dict[str, tuple[str, ...]] = {
    "quantity": ("1", "约100人", "1万人", "3台", "50—80人", "不限"),
    "amount": ("0", "1000", "最高500万元", "1亿元", "—", "视情况而定"),
    "months": ("1", "12", "6-36个月", "最长3年", "—"),
    "rate": ("3.65%", "3.65%—4.5%", "LPR+50BP", "—", "3.65%起"),
    "period": ("2025年6月10日", "6月10日—12日", "2025.6.10-2025.7.1", "2025年6月", "长期"),
    "date": ("2017年3月5日", "2024年2月29日", "2025年12月31日"),
    "year_month": ("2016年5月", "2025年12月"),
    "integer": ("0", "1", "2019", "2024", "99999"),
    "decimal": ("0", "12.5", "100", "0.01"),
    "percent": ("60.5%", "15%", "100%"),
    "flag": ("是", "否"),
    "postcode": ("510000", "511400"),
    "email": ("a@example.cn", "Zhang.San+x@example.com.cn"),
    "phone": PHONES,
    "phones": (*PHONES, "020-83726619、13800138000"),
}
LONGEST = 400
"""A longer limit is tried at its end by `test_sheet.py`; here it would only take time."""

TRIES = settings(
    max_examples=200 if settings.get_current_profile_name() == "search" else 6,
    phases=(
        Phase.explicit,
        Phase.generate,
        *([Phase.shrink] if settings.get_current_profile_name() == "search" else []),
    ),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def _uscc(body: str) -> str:
    for check in "0123456789ABCDEFGHJKLMNPQRTUWXY":
        try:
            return uscc(body + check)
        except ValueError:
            continue
    raise AssertionError(body)


def texts(limit: int | None) -> st.SearchStrategy[str]:
    """Of one character, of some, and of as many as the form admits."""
    most = min(limit or 200, LONGEST)
    # A letter first and last: what is blank there nobody means, and a dash alone says "does not apply".
    short = st.tuples(
        st.sampled_from("=+-@＝＋－＠广𠮷A<"), st.text(LETTERS, max_size=12), st.sampled_from("市䶮z）>")
    ).map("".join)
    exact = st.sampled_from("广𠮷").map(lambda c: c * most)
    near = st.text(LETTERS, min_size=1, max_size=9).map(lambda t: "市" + (t * most)[: most - 2].strip() + "z")
    return st.one_of(short, st.sampled_from("广𠮷"), exact, near)


def entry(column: Column, notice: Notice) -> st.SearchStrategy[str]:
    if column.list:
        code_list = notice.lists[column.list]
        labels = st.sampled_from([c.label for c in code_list.values])
        other = st.sampled_from(["其他（知识产权）", "其他（𠮷=1+1）"])
        return st.one_of(labels, other) if code_list.open else labels
    if column.type == "contact":
        names = st.one_of(st.sampled_from(["张三", "欧阳䶮", "𠮷田", "李"]), st.just("㛃" * 50))
        mails = st.sampled_from(["", " a@example.cn"])
        return st.builds(
            lambda name, phones, mail: f"{name} {' '.join(phones)}{mail}",
            names,
            st.lists(st.sampled_from(PHONES), min_size=1, max_size=3, unique=True),
            mails,
        )
    if column.type == "person":
        return st.sampled_from(["张三", "欧阳䶮", "𠮷田"])
    if column.type == "uscc":
        return st.text("0123456789ABCDEFGHJKLMNPQRTUWXY", min_size=17, max_size=17).map(_uscc)
    if column.type == "integer":
        least = column.least or 0
        return st.sampled_from([text for text in WRITTEN["integer"] if int(text) >= least])
    if column.type in WRITTEN:
        return st.sampled_from(WRITTEN[column.type])
    return texts(column.limit)


def filled(content: bytes, cells: Mapping[str, str]) -> bytes:
    """By a program that is neither the writer's nor the reader's library; everything as text."""
    book = openpyxl.load_workbook(BytesIO(content))
    for place, text in cells.items():
        cell = book.worksheets[0][place]
        cell.value, cell.data_type = text, "s"
    out = BytesIO()
    book.save(out)
    return out.getvalue()


def judged(compiled: CompiledNotice, form: str, raw: Mapping[str, Any]) -> Any:
    row = compiled.forms[form].judge(raw)
    assert row.stored is not None, [(f.rule, f.detail) for f in row.findings]
    return row.stored


def stored(compiled: CompiledNotice, form: str, content: bytes) -> list[Any]:
    (sheet,) = (one for one in read(content, "附表.xlsx", compiled) if one.form)
    assert sheet.form == form
    assert [f for f in sheet.findings if f.severity == "hard"] == []
    return [judged(compiled, form, row.raw) for row in sheet.rows]


def places(form: Form, content: bytes, rows: int) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Where the blank list wants its entries, and its lines, by what is printed there."""
    sheet = openpyxl.load_workbook(BytesIO(content)).worksheets[0]
    head = next(r[0].row for r in sheet.iter_rows() if r[0].value == "序号")
    columns = {str(cell.value): get_column_letter(n) for n, cell in enumerate(sheet[head], 1)}
    entries = [{c.key: f"{columns[c.header]}{head + n}" for c in form.columns} for n in range(1, rows + 1)]
    labels = {str(r[0].value): f"C{r[0].row}" for r in sheet.iter_rows()}
    return entries, {line.key: labels[line.label] for line in form.lines}


def went_round(
    compiled: CompiledNotice, form: Form, said: list[dict[str, str]], lines: dict[str, str]
) -> None:
    notice = compiled.notice
    blank = template(compiled.forms[form.id], notice)
    at, beside = places(form, blank, len(said))
    cells = {at[n][key]: text for n, row in enumerate(said) for key, text in row.items()}
    came = stored(compiled, form.id, filled(blank, cells | {beside[k]: text for k, text in lines.items()}))
    meant = [judged(compiled, form.id, row | lines) for row in said]
    assert came == meant

    opened = datetime(2025, 3, 1, tzinfo=UTC)
    rows = [Row(f"{n:03}", opened + timedelta(minutes=n), values) for n, values in enumerate(came)]
    printed = catalogue(notice, form, rows)
    ordered = [row.values for row in arrange(form, notice.lists, rows)]
    shown = CalamineWorkbook.from_filelike(BytesIO(printed)).get_sheet_by_index(0).to_python()
    head = next(n for n, row in enumerate(shown) if row[0] == "序号")
    lead = [
        row for row in shown[head + 1 :] if isinstance(row[0], float)
    ]  # a tall row has several sheet rows
    for wanted, found in zip(ordered, lead, strict=True):
        for column, cell in zip(form.columns, found[1:], strict=True):
            if column.key != form.group:  # said once for several rows; the reader below knows
                assert cell == cell_text(column, wanted.get(column.key))
    again = stored(compiled, form.id, printed)
    assert again == ordered


@pytest.mark.parametrize(("notice_id", "form_id"), LISTS)
@TRIES
@given(data=st.data())
def test_a_list_says_in_the_end_what_was_written(notice_id: str, form_id: str, data: st.DataObject) -> None:
    compiled = COMPILED[notice_id]
    form = compiled.notice.by_form[form_id]
    rows = data.draw(st.integers(1, 3))
    said = [{c.key: data.draw(entry(c, compiled.notice)) for c in form.columns} for _ in range(rows)]
    lines = {
        key: data.draw(entry(column, compiled.notice))
        for key, column in compiled.forms[form_id].lines.items()
    }
    went_round(compiled, form, said, lines)


def test_control_a_catalogue_that_loses_one_sign_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = COMPILED["gz-collection-2025q1"]
    form = compiled.notice.by_form["F4"]
    said = [{c.key: "张三 13800138000" if c.type == "contact" else "=甲" for c in form.columns}]
    went_round(compiled, form, said, {})
    monkeypatch.setattr(printing, "_literal", lambda text: text.removeprefix("="))
    with pytest.raises(AssertionError):
        went_round(compiled, form, said, {})


@pytest.mark.parametrize(("notice_id", "form_id"), CARDS)
@TRIES
@given(data=st.data())
def test_a_card_is_read_as_it_was_written(notice_id: str, form_id: str, data: st.DataObject) -> None:
    """Its fields, by the hints that stand on their entries; tables and grids are tried in `test_cards*.py`."""
    compiled = COMPILED[notice_id]
    notice, form = compiled.notice, compiled.notice.by_form[form_id]
    blank = card_template(compiled.forms[form_id], notice)
    hints = openpyxl.load_workbook(BytesIO(blank)).worksheets[0].data_validations.dataValidation
    entries: dict[str, list[str]] = {}
    for hint in hints:
        entries.setdefault(str(hint.promptTitle), []).append(str(hint.sqref))
    assert form.card
    fields = [f for s in form.card.sections for f in s.fields if len(entries.get(f.header[:32], [])) == 1]
    fields = [f for f in fields if ":" not in entries[f.header[:32]][0]]
    assert len(fields) >= 3
    said = {f.key: data.draw(entry(f, notice)) for f in fields}
    cells = {entries[f.header[:32]][0]: said[f.key] for f in fields}
    (sheet,) = (one for one in read(filled(blank, cells), "附件.xlsx", compiled) if one.form == form_id)
    (row,) = sheet.rows
    assert {key: row.raw.get(key) for key in said} == said


def rows_of(block: Block, notice: Notice) -> st.SearchStrategy[list[dict[str, str]]]:
    """Of a printed description as many resources as there are; those of one stand together in print."""
    cells = {c.key: entry(c, notice) for c in block.columns}
    if block.described is None:
        return st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=3)
    key, order = block.described, block.preset
    cells[key] = st.sampled_from(order)
    rows = st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=3)
    return rows.map(lambda given: sorted(given, key=lambda row: order.index(row[key])))


@pytest.mark.parametrize(("notice_id", "form_id"), CARDS)
@TRIES
@given(data=st.data())
def test_a_card_says_in_print_what_was_written(notice_id: str, form_id: str, data: st.DataObject) -> None:
    compiled = COMPILED[notice_id]
    notice, form = compiled.notice, compiled.notice.by_form[form_id]
    said = {key: data.draw(entry(column, notice)) for key, column in form.by_key.items()}
    assert form.card
    said |= {s.declaration.key: "是" for s in form.card.sections if s.declaration}  # who files it makes it
    tables = {key: data.draw(rows_of(block, notice)) for key, block in form.blocks.items()}
    meant = judged(compiled, form_id, {**said, **tables})
    made = word.render(card.card(notice, form, meant))
    (sheet,) = (one for one in read(made, "附件.docx", compiled) if one.form == form_id)
    (row,) = sheet.rows
    assert judged(compiled, form_id, row.raw) == meant
