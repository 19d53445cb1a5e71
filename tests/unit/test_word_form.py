"""Blank forms for Word, and a filer's own document with its faults as comments.

How a card is read is in `test_cards.py`.
"""

import re
import xml.etree.ElementTree as ET
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import pytest

from services.intake import workbook
from services.intake.marking import mark
from services.intake.sheets import Unusable
from services.intake.stamp import stamp_of, stamps_in
from services.intake.word_form import word_form
from shared.contracts.types import Finding
from shared.notices.load import load_all
from tests.documents import CASE, case_docx, docx

NOTICES = load_all()
NOTICE = NOTICES["gz-collection-2025q1"]
FORMS = [(one, f) for one in NOTICES.values() for f in one.notice.forms]
CARDS = [(n, f) for n, f in FORMS if f.card]
W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def ids(forms: Any) -> list[str]:
    return [f"{n.notice.id}-{f.id}" for n, f in forms]


def parts(data: bytes) -> dict[str, bytes]:
    with ZipFile(BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def body(data: bytes) -> ET.Element:
    return ET.fromstring(parts(data)["word/document.xml"])  # noqa: S314 - our own


def said(element: ET.Element) -> str:
    return "".join(t.text or "" for t in element.iter(W + "t"))


@pytest.mark.parametrize(("notice", "form"), FORMS, ids=ids(FORMS))
def test_every_form_is_a_document_with_its_headers_lists_and_stamp(notice: Any, form: Any) -> None:
    judge = notice.forms[form.id]
    data = word_form(judge, notice.notice)
    assert word_form(judge, notice.notice) == data
    for content in parts(data).values():
        ET.fromstring(content)  # noqa: S314 - our own
    assert str(stamps_in(data).whole) == str(stamp_of(form, notice.notice))
    root = body(data)
    paragraphs = [said(p) for p in root.iter(W + "p")]
    assert paragraphs[:2] == [form.annex, notice.notice.form_title(form)]
    if form.columns:
        header = next(iter(root.iter(W + "tr")))
        assert [said(c) for c in header.iter(W + "tc")] == ["序号", *(c.header for c in form.columns)]
        assert header.find(f"{W}trPr/{W}tblHeader") is not None
    whole = "\n".join(paragraphs)
    assert [n.text for n in form.notes if n.text not in whole] == []
    columns = {
        c.key: c for c in (*form.by_key.values(), *(c for b in form.blocks.values() for c in b.columns))
    }
    chosen = {c.get(W + "val") for s in root.iter(W + "sdtPr") for c in s.iter(W + "tag")}
    assert chosen >= {
        key for key, c in form.by_key.items() if c.list and not form.preset and c.key == key and form.columns
    }
    for control in root.iter(W + "sdtPr"):
        tag = control.find(W + "tag")
        assert tag is not None
        column = columns.get(tag.get(W + "val") or "")
        labels = [i.get(W + "value") for i in control.iter(W + "listItem")]
        codes = judge.lists[column.list] if column and column.list else None
        assert labels == ([c.label for c in codes.values] if codes else ["是", "否"])
        assert (control.find(W + "comboBox") is not None) == bool(codes and codes.open)
    hints = said(ET.fromstring(parts(data)["word/endnotes.xml"]))  # noqa: S314 - our own
    assert [c.limit for c in form.columns if c.limit and f"不超过{c.limit}字" not in hints] == []


@pytest.mark.parametrize(("notice", "form"), CARDS, ids=ids(CARDS))
def test_a_blank_card_is_read_as_blank_and_a_filled_one_as_filled(notice: Any, form: Any) -> None:
    data = word_form(notice.forms[form.id], notice.notice)
    (sheet,) = workbook.read(data, "a.docx", notice)
    assert (sheet.form, sheet.rows, [f.code for f in sheet.findings]) == (form.id, [], ["workbook.empty"])
    count = iter(range(1, 1000))
    xml = re.sub(
        r"(<w:tc><w:tcPr>(?:<w:gridSpan [^>]*/>)?<w:vAlign [^>]*/></w:tcPr><w:p><w:pPr>(?:(?!</w:pPr>).)*</w:pPr>)(</w:p>)",
        lambda m: f"{m[1]}<w:r><w:t>答{next(count):03}</w:t></w:r>{m[2]}",
        parts(data)["word/document.xml"].decode(),
    )
    filled = rezipped(data, {"word/document.xml": xml.encode()})
    (sheet,) = workbook.read(filled, "a.docx", notice)
    assert [f.detail for f in sheet.findings if f.rule != "template" and f.severity == "hard"] == []
    (row,) = sheet.rows
    answers = re.findall(r"答\d{3}", str(row.raw))
    assert len(answers) == next(count) - 1
    assert len(set(answers)) == len(answers)


def rezipped(data: bytes, changed: dict[str, bytes]) -> bytes:
    out = BytesIO()
    with ZipFile(out, "w") as new:
        for name, content in parts(data).items():
            new.writestr(name, changed.get(name, content))
    return out.getvalue()


def test_a_list_is_for_paper_and_says_so() -> None:
    data = word_form(NOTICE.forms["F5"], NOTICE.notice)
    assert "供打印、盖章" in parts(data)["word/header1.xml"].decode()
    with pytest.raises(Unusable, match=r"附件5.*Excel 模板"):
        workbook.read(data, "附件5.docx", NOTICE)


# --- comments -----------------------------------------------------------------------------------------------------


def fault(cell: str | None, detail: str = "有误") -> Finding:
    return Finding(
        rule="F10-1.02",
        code="x",
        severity="hard",
        clause="附件10",
        detail=detail,
        sheet="附件10-1.docx",
        cell=cell,
    )


def comments(data: bytes) -> dict[str, str]:
    """What is said, by the text that it is said of."""
    root, found = body(data), {}
    name = next(n for n in parts(data) if n.startswith("word/comments"))
    notes = {c.get(W + "id"): said(c) for c in ET.fromstring(parts(data)[name])}  # noqa: S314 - our own
    for paragraph in root.iter(W + "p"):
        for pointer in paragraph.iter(W + "commentReference"):
            found[said(paragraph)] = notes.pop(pointer.get(W + "id"))
    assert notes == {}
    return found


def read(data: bytes) -> Any:
    return [(s.form, s.rows, s.findings) for s in workbook.read(data, "附件10-1.docx", NOTICE)]


def test_a_marked_document_has_comments_where_the_faults_are_and_nothing_else() -> None:
    data = case_docx(CASE)
    (sheet,) = workbook.read(data, "附件10-1.docx", NOTICE)
    cells = sheet.rows[0].cells
    told = [fault(cells["uscc"], "代码有误"), fault(None, "整份有误")]
    marked = mark(data, "附件10-1.docx", told, NOTICE)
    assert read(marked) == read(data)
    first = next(said(p) for p in body(data).iter(W + "p"))
    assert comments(marked) == {
        CASE["uscc"]: "【必须修改】代码有误（F10-1.02，附件10）",
        first: "【必须修改】整份有误（F10-1.02，附件10）",
    }
    before, after = parts(data), parts(marked)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"[Content_Types].xml", "word/document.xml"}
    assert after.keys() - before.keys() == {"word/_rels/document.xml.rels", "word/comments1.xml"}
    bare = re.sub(
        rb"<w:commentRange(Start|End) [^>]*/>|<w:r><w:commentReference [^>]*/></w:r>",
        b"",
        after["word/document.xml"],
    )
    assert bare == before["word/document.xml"]


def test_marks_of_an_earlier_time_go() -> None:
    data = case_docx(CASE)
    (sheet,) = workbook.read(data, "附件10-1.docx", NOTICE)
    cells = sheet.rows[0].cells
    once = mark(data, "a.docx", [fault(cells["uscc"])], NOTICE)
    again = mark(once, "a.docx", [fault(cells["address"])], NOTICE)
    assert comments(again) == {CASE["address"]: "【必须修改】有误（F10-1.02，附件10）"}
    clean = mark(again, "a.docx", [], NOTICE)
    assert parts(clean)["word/document.xml"] == parts(data)["word/document.xml"]


def test_the_filer_s_own_comments_stay() -> None:
    once = mark(case_docx(CASE), "a.docx", [fault(None, "甲")], NOTICE)
    name = "word/comments1.xml"
    own = rezipped(once, {name: parts(once)[name].replace("益企校验".encode(), "李四".encode())})
    both = mark(own, "a.docx", [fault(None, "乙")], NOTICE)
    assert sorted(c.get(W + "author") or "" for c in ET.fromstring(parts(both)[name])) == ["李四", "益企校验"]  # noqa: S314
    left = mark(both, "a.docx", [], NOTICE)
    assert [c.get(W + "author") for c in ET.fromstring(parts(left)[name])] == ["李四"]  # noqa: S314


def test_an_odd_document_is_refused_and_not_broken() -> None:
    data = docx(["x"])
    xml = (
        parts(data)["word/document.xml"]
        .replace(b"<w:", b"<")
        .replace(b"</w:", b"</")
        .replace(b"xmlns:w=", b"xmlns=")
    )
    with pytest.raises(Unusable) as refused:
        mark(rezipped(data, {"word/document.xml": xml}), "a.docx", [fault(None)], NOTICE)
    assert refused.value.code == "workbook.word"
