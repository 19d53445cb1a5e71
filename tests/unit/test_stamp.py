"""A blank form says what it was made from, and what comes back is told when that was another one."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import openpyxl
import pytest

from services.intake import workbook
from services.intake.card_template import card_template
from services.intake.office import Package
from services.intake.stamp import NAME, PROPERTY, stamp_of, stamps_in
from services.intake.template import NUMBERS, template
from shared.notices.load import load_all
from shared.notices.model import Form, Notice
from tests.items import LOAN
from tests.workbooks import head, rezip, xlsx

NOTICES = load_all()
NOTICE = NOTICES["gz-collection-2025q1"]
F5 = NOTICE.notice.by_form["F5"]
FORMS = [(one, f) for one in NOTICES.values() for f in one.notice.forms]


def blank(notice: Any, form: Any) -> bytes:
    return (card_template if form.card else template)(notice.forms[form.id], notice.notice)


def filled() -> Any:
    """The blank 附件5 with one row, as an open book."""
    book = openpyxl.load_workbook(BytesIO(blank(NOTICE, F5)))
    sheet = book.worksheets[0]
    header = next(r for r in range(1, 10) if sheet.cell(r, 1).value == "序号")
    for at, column in enumerate(F5.columns, 2):
        sheet.cell(header + 1, at).value = LOAN[column.key]
    return book


def saved(book: Any) -> bytes:
    out = BytesIO()
    book.save(out)
    return out.getvalue()


def told(data: bytes, compiled: Any = NOTICE) -> list[tuple[str, str, str]]:
    sheets = workbook.read(data, "附件5.xlsx", compiled)
    return [(f.code, f.severity, f.detail) for s in sheets for f in s.findings if f.rule == "template"]


def changed(**update: Any) -> Any:
    """The notice with another 附件5."""
    return with_forms(
        Form.model_validate({**f.model_dump(), **update}) if f.id == "F5" else f for f in NOTICE.notice.forms
    )


def with_forms(forms: Iterable[Form]) -> Any:
    """A copy would keep what the notice remembers of its forms."""
    return SimpleNamespace(
        notice=Notice.model_validate({**NOTICE.notice.model_dump(), "forms": tuple(forms)})
    )


@pytest.mark.parametrize(("notice", "form"), FORMS, ids=[f"{n.notice.id}-{f.id}" for n, f in FORMS])
def test_every_blank_form_is_stamped_twice(notice: Any, form: Any) -> None:
    data = blank(notice, form)
    book: Any = openpyxl.load_workbook(BytesIO(data))
    stamp = stamp_of(form, notice.notice)
    assert book.custom_doc_props[PROPERTY].value == str(stamp)
    name = book.worksheets[0].defined_names[NAME]
    assert (name.value, name.hidden) == (f'"{stamp}"', True)
    assert [
        f for s in workbook.read(data, "a.xlsx", notice) for f in s.findings if f.rule == "template"
    ] == []


@pytest.mark.parametrize(("notice", "form"), FORMS, ids=[f"{n.notice.id}-{f.id}" for n, f in FORMS])
def test_every_entry_has_a_hint_and_the_rule_of_its_column(notice: Any, form: Any) -> None:
    judge = notice.forms[form.id]
    book: Any = openpyxl.load_workbook(BytesIO(blank(notice, form)))
    rules: dict[str, list[Any]] = {}
    for rule in book.worksheets[0].data_validations.dataValidation:
        rules.setdefault(rule.promptTitle, []).append(rule)
    columns = [*form.columns]
    if form.card:
        columns += [c for s in form.card.sections for c in s.fields if "（ " not in c.header]
        columns += [c for s in form.card.sections for one in (*s.grids, *s.blocks) for c in one.columns]
    for column in columns:
        found = [r for r in rules[column.header[:32]] if r.prompt]
        kinds = {r.type for r in found}
        if column.list:
            labels = [c.label for c in judge.lists[column.list].values]
            area = found[0].formula1.replace("$", "").split("!")[1]
            assert [c.value for (c,) in book["代码表"][area]] == labels
            assert kinds == {"list"}
        elif column.type == "flag":
            assert kinds == {"list"}
        elif column.type in NUMBERS:
            assert kinds == {"custom"}
            assert all(r.errorStyle == "warning" for r in found)
            least = f">={column.least}" if column.least is not None else ""
            assert any(least in r.formula1 for r in found)
        elif column.limit:
            assert {(r.type, r.operator, r.formula1, r.errorStyle == "warning") for r in found} >= {
                ("textLength", "lessThanOrEqual", str(column.limit), not column.stated)
            }
            assert any(f"不超过{column.limit}字" in r.prompt for r in found)
        assert found


def test_no_two_forms_have_one_stamp() -> None:
    assert len({str(stamp_of(f, n.notice)) for n, f in FORMS}) == len(FORMS)


def test_what_a_filer_cannot_see_does_not_make_another_form() -> None:
    stamp = stamp_of(F5, NOTICE.notice)
    columns = tuple(c.model_copy(update={"width": 99.0}) for c in F5.columns)
    assert stamp_of(F5.model_copy(update={"columns": columns, "landscape": False}), NOTICE.notice) == stamp
    columns = (F5.columns[0].model_copy(update={"limit": 7}), *F5.columns[1:])
    assert stamp_of(F5.model_copy(update={"columns": columns}), NOTICE.notice) != stamp
    form = NOTICE.notice.by_form["F3"]
    lists = dict(NOTICE.notice.lists)
    key = next(c.list for c in form.columns if c.list)
    lists[key] = lists[key].model_copy(update={"values": lists[key].values[:-1]})
    other = NOTICE.notice.model_copy(update={"lists": lists})
    assert stamp_of(form, other) != stamp_of(form, NOTICE.notice)


def test_a_template_of_another_notice_says_which() -> None:
    other = NOTICE.notice.model_copy(update={"id": "gz-collection-2024q4", "title": "去年的通知"})
    data = template(NOTICE.forms["F5"], other)
    assert told(data) == [
        (
            "template.notice",
            "soft",
            "这份表是通知《去年的通知》（gz-collection-2024q4）的模板，不是本通知的；已按本通知的附件5读取，请核对",
        )
    ]


def test_an_old_template_is_named_as_such() -> None:
    """Read with every column it is only told; with one missing somebody must look."""
    data = saved(filled())
    columns = (F5.columns[0].model_copy(update={"limit": 7}), *F5.columns[1:])
    say = "这份表用的是附件5的旧模板，表样后来有修改；已按本通知的附件5读取，请核对"
    assert told(data, changed(columns=columns)) == [("template.changed", "info", say)]
    more = (*F5.columns, F5.columns[-1].model_copy(update={"key": "more", "header": "另有一列"}))
    assert told(data, changed(columns=more)) == [("template.changed", "soft", say)]


def test_a_form_that_is_there_no_more_is_named_as_such() -> None:
    gone = with_forms(f for f in NOTICE.notice.forms if f.id != "F5")
    (finding,) = told(saved(filled()), gone)
    assert finding == (
        "template.changed",
        "soft",
        "本通知现在没有这份模板的表（F5）；请用本通知现行的模板填报",
    )


def test_a_file_without_a_stamp_is_judged_as_it_is() -> None:
    data = xlsx({"附件5": [["附件5"], head(F5), [1, *(LOAN[c.key] for c in F5.columns)]]})
    assert told(data) == []
    assert stamps_in(data).whole is None


def strip(data: bytes, part: str, old: bytes, new: bytes) -> bytes:
    with ZipFile(BytesIO(data)) as archive:
        content = archive.read(part)
    assert old in content
    return rezip(data, {part: content.replace(old, new)})


@pytest.mark.parametrize("lost", ["property", "name"])
def test_either_of_the_two_stamps_is_enough(lost: str) -> None:
    other = NOTICE.notice.model_copy(update={"id": "gz-other"})
    data = template(NOTICE.forms["F5"], other)
    if lost == "property":
        data = strip(data, "docProps/custom.xml", b'name="yiqi"', b'name="x"')
    else:
        data = strip(data, "xl/workbook.xml", b'name="_yiqi"', b'name="_other"')
    assert [code for code, *_ in told(data)] == ["template.notice"]


def test_control_without_both_nothing_is_said() -> None:
    data = template(NOTICE.forms["F5"], NOTICE.notice.model_copy(update={"id": "gz-other"}))
    data = strip(data, "docProps/custom.xml", b'name="yiqi"', b'name="x"')
    assert told(strip(data, "xl/workbook.xml", b'name="_yiqi"', b'name="_other"')) == []


def test_a_sheet_that_is_not_of_the_template_is_not_taken_for_it() -> None:
    """A sheet of another annex, added to a workbook that was made from an old 附件5."""
    other = NOTICE.notice.model_copy(update={"id": "gz-other"})
    book = openpyxl.load_workbook(BytesIO(template(NOTICE.forms["F5"], other)))
    sheet = book.create_sheet("附件6")
    form = NOTICE.notice.by_form["F6"]
    for at, said in enumerate(head(form), 1):
        sheet.cell(1, at).value = said
        sheet.cell(2, at).value = "x"
    sheets = workbook.read(saved(book), "a.xlsx", NOTICE)
    assert [(s.form, f.code) for s in sheets for f in s.findings if f.rule == "template"] == [
        ("F5", "template.notice")
    ]


@pytest.mark.parametrize(
    "said", ["", "x/y/z", "gz-a/F5/zz", "=1+1", "gz-a/F5/0123456789ab/more", "龘" * 9999]
)
def test_what_is_no_stamp_is_none(said: str) -> None:
    data = template(NOTICE.forms["F5"], NOTICE.notice)
    stamp = str(stamp_of(F5, NOTICE.notice)).encode()
    data = strip(data, "docProps/custom.xml", stamp, said.encode())
    data = strip(data, "xl/workbook.xml", stamp, said.encode())
    assert stamps_in(data).whole is None
    assert told(data) == []


def test_a_package_keeps_what_it_does_not_know(tmp_path: Path) -> None:
    data = template(NOTICE.forms["F5"], NOTICE.notice)
    package = Package(data)
    with pytest.raises(KeyError):
        package.read("xl/none.xml")
    file = tmp_path / "a.xlsx"
    file.write_bytes(package.file())
    with ZipFile(file) as new, ZipFile(BytesIO(data)) as old:
        assert {i.filename: (new.read(i), i.date_time) for i in new.infolist()} == {
            i.filename: (old.read(i), i.date_time) for i in old.infolist()
        }
