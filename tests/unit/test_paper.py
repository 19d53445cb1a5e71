"""Catalogues as PDF, DOCX, CSV and JSON: read with other libraries than those that wrote them.

How the pages look is not here; nor is the workbook (`test_sheet.py`).
"""

import csv
import json
import random
from datetime import UTC, date, datetime, timedelta
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zipfile import ZipFile

import pdfplumber
import pytest
from fontTools.ttLib import TTFont

from services.export import fonts, formats, pdf, plain, word
from services.export.official import Document, Table
from services.export.table import Row
from shared.contracts.types import Values
from shared.notices.load import load_all
from shared.notices.model import Form

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
NOTICES = {name: compiled.notice for name, compiled in load_all(None).items()}
LISTS = [(n.id, f.id) for n in NOTICES.values() for f in n.forms if f.card is None]
NOTICE = NOTICES["gz-collection-2025q1"]
RARE = "𠮷㛃䶮"


def rows(form: Form, n: int, **values: object) -> list[Row]:
    """In no order; groups alternate, so that bringing them together shows."""
    found = []
    for i in range(n):
        filled: Values = {c.key: f"{c.header}{i}" for c in form.columns if c.type == "text"}
        filled |= {
            c.key: {"name": f"欧阳{RARE}", "phones": ["13800138000"], "email": None}
            for c in form.columns
            if c.type == "contact"
        }
        if form.group:
            filled[form.group] = ("融资促进", "政策宣贯")[i % 2]
        found.append(
            Row(f"C{i:04}", datetime(2025, 2, 24, tzinfo=UTC) + timedelta(minutes=i), filled | values)
        )
    random.Random(form.id).shuffle(found)
    return found


def squeezed(text: str) -> str:
    return "".join(text.split())


def pages(content: bytes) -> list[Any]:
    return pdfplumber.open(BytesIO(content)).pages


def tables(content: bytes) -> list[list[list[str]]]:
    return [
        [[squeezed(c or "") for c in row] for t in page.extract_tables() for row in t]
        for page in pages(content)
    ]


def word_xml(content: bytes, part: str = "word/document.xml") -> ElementTree.Element:
    return ElementTree.fromstring(ZipFile(BytesIO(content)).read(part))  # noqa: S314 - we wrote it


def word_rows(content: bytes) -> list[list[str]]:
    return [
        ["".join(t.text or "" for t in cell.iter(W + "t")) for cell in row.findall(W + "tc")]
        for row in word_xml(content).iter(W + "tr")
    ]


@pytest.mark.parametrize(("notice_id", "form_id"), LISTS)
def test_every_list_has_its_label_title_header_rows_and_notes_in_both(notice_id: str, form_id: str) -> None:
    notice = NOTICES[notice_id]
    form = notice.by_form[form_id]
    given = rows(form, 3)
    made, written = pdf.catalogue(notice, form, given), word.catalogue(notice, form, given)
    headers = ["序号", *(c.header for c in form.columns)]
    assert tables(made)[0][0] == [squeezed(h) for h in headers]
    assert word_rows(written)[0] == headers
    inside = (page.crop((35 / 25.4 * 72, 0, page.width, page.height)) for page in pages(made))
    said = squeezed("".join(page.extract_text() for page in (inside if form.landscape else pages(made))))
    said_word = squeezed("".join(word_xml(written).itertext()))
    for text in (
        form.annex,
        notice.form_title(form),
        *(note.text for note in form.notes if note.where == "below"),
    ):
        assert squeezed(text) in said
        assert squeezed(text) in said_word
    for note in form.notes:
        if note.where == "row":
            assert squeezed(note.text) in "".join(c for page in tables(made) for row in page for c in row)
            assert any(squeezed(note.text) == squeezed(row[-1]) for row in word_rows(written))
    wide, high = (841.89, 595.28) if form.landscape else (595.28, 841.89)
    assert [pytest.approx(x, abs=0.1) for x in (pages(made)[0].width, pages(made)[0].height)] == [wide, high]
    size = word_xml(written).find(f".//{W}pgSz")
    assert size is not None
    assert (size.get(W + "orient") == "landscape") == form.landscape


def test_every_page_repeats_the_header_and_says_what_group_it_shows() -> None:
    form = NOTICE.by_form["F3"]
    found = tables(pdf.catalogue(NOTICE, form, rows(form, 60)))
    assert len(found) > 3
    column = 1 + [c.key for c in form.columns].index(form.group or "")
    seen = []
    for page in found:
        assert page[0][0] == "序号"
        body = [row for row in page[1:] if row[0].isdigit()]
        assert body
        assert body[0][column] in ("融资促进", "政策宣贯")
        seen += [row[0] for row in body]
    assert seen == [str(n) for n in range(1, 61)]
    labels = [row[column] for page in found for row in page[1:] if row[column]]
    assert len(labels) <= len(found) + 1, "a group's label stands once a page"


def test_rows_are_not_divided_unless_one_is_higher_than_a_page() -> None:
    form = NOTICE.by_form["F4"]
    for page in tables(pdf.catalogue(NOTICE, form, rows(form, 40, scenario="围绕出海合规提供服务，" * 20))):
        assert all(row[0].isdigit() and row[-1] for row in page[1:])
    endless = "".join(f"第{n}段话很长。" for n in range(900))
    made = pdf.catalogue(NOTICE, form, rows(form, 1, scenario=endless))
    at = 1 + [c.key for c in form.columns].index("scenario")
    assert "".join(row[at] for page in tables(made) for row in page[1:]) == squeezed(endless)
    for page in pages(made):
        assert all(
            c["x0"] > 0 and c["x1"] < page.width and c["top"] > 0 and c["bottom"] < page.height
            for c in page.chars
        )
    assert word.catalogue(NOTICE, form, rows(form, 1, scenario=endless)) != b""


@pytest.mark.parametrize("key", ["contact", "content"])
def test_a_word_wider_than_its_cell_is_divided_and_stays_in_it(key: str) -> None:
    form = NOTICE.by_form["F3"]
    address = "ouyang.xiaoming.and.everybody.else@a-long-name.example.cn"
    value: object = (
        {"name": "张三", "phones": ["13800138000"], "email": address} if key == "contact" else address
    )
    made = pdf.catalogue(NOTICE, form, rows(form, 1, **{key: value}))
    (page,) = pages(made)
    (table,) = page.find_tables()
    left, _, right, _ = table.rows[1].cells[1 + [c.key for c in form.columns].index(key)]
    inside = [c for c in page.chars if left < (c["x0"] + c["x1"]) / 2 < right and c["text"] in address]
    assert all(left <= c["x0"] and c["x1"] <= right for c in inside)
    assert address in "".join(cell for row in tables(made)[0] for cell in row)


def test_every_character_has_a_picture_and_what_no_font_has_is_named() -> None:
    form = NOTICE.by_form["F6"]
    made = pdf.catalogue(NOTICE, form, rows(form, 1, main_use=f"{RARE}\U0001f600🈚葛\U000e0100"))
    said = squeezed("".join(page.extract_text() for page in pages(made)))
    assert RARE in said
    assert "〔U+1F600〕" in said
    for page in pages(made):
        assert all("NotoS" in c["fontname"] for c in page.chars)
        assert "(cid:" not in page.extract_text()


def test_what_no_font_has_is_logged_once_a_document(caplog: pytest.LogCaptureFixture) -> None:
    form = NOTICE.by_form["F6"]
    pdf.catalogue(NOTICE, form, rows(form, 5, main_use="\U0001f600🈚", application="\U0001f601"))
    assert [r.message for r in caplog.records] == ["no font has some characters; their codes are printed"]
    caplog.clear()
    pdf.catalogue(NOTICE, form, rows(form, 1))
    assert not caplog.records


def test_missing_folders_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(fonts.NoFont, match="没有字体文件夹"):
        fonts.fonts(tmp_path / "none")


@pytest.fixture
def office(tmp_path: Path) -> Path:
    """A folder with one typeface of the office's: a free one under the name of the official one."""
    free = next(p for folder in fonts.fonts().folders for p in folder.rglob("*") if "Serif" in p.name)
    with TTFont(free) as face:
        for record in face["name"].names:
            if record.nameID in (1, 4, 6, 16):
                record.string = "FZXiaoBiaoSong-B05S"
        face.save(tmp_path / "title.otf")
    return tmp_path


def test_the_typefaces_of_the_office_are_embedded_before_the_free_ones(office: Path) -> None:
    form = NOTICE.by_form["F6"]
    given = rows(form, 1)

    def faces(content: bytes) -> set[str]:
        return {
            c["fontname"].partition("+")[2] for page in pages(content) for c in page.chars if c["size"] > 20
        }

    (own,) = (
        f.data for f in formats.render(NOTICE, form, given, public=False, own=office) if f.format == "pdf"
    )
    (free,) = (f.data for f in formats.render(NOTICE, form, given, public=False) if f.format == "pdf")
    assert any("XiaoBiaoSong" in name for name in faces(own))
    assert not any("XiaoBiaoSong" in name for name in faces(free))
    digests = [formats.content(NOTICE, form, given, public=False, own=one) for one in (office, None)]
    assert digests[0] != digests[1]


def test_page_numbers_stand_at_the_outer_edge() -> None:
    form = NOTICE.by_form["F6"]
    for n, page in enumerate(pages(pdf.catalogue(NOTICE, form, rows(form, 40))), 1):
        foot = [c for c in page.chars if c["top"] > page.height - 35 / 25.4 * 72]
        assert squeezed("".join(c["text"] for c in foot)) == f"—{n}—"
        assert (foot[0]["x0"] > page.width / 2) == bool(n % 2)


@pytest.mark.parametrize("sign", "=+-@＝＋－＠")
def test_a_text_like_a_formula_is_a_text_everywhere(sign: str) -> None:
    form = NOTICE.by_form["F6"]
    given = rows(form, 1, main_use=sign + "1+1")
    header, line = csv.reader(StringIO(plain.csv(NOTICE, form, given).decode("utf-8-sig")))
    assert line[header.index("主要用途")] == f"'{sign}1+1"
    assert json.loads(plain.json(NOTICE, form, given))["rows"][0]["main_use"] == sign + "1+1"
    assert sign + "1+1" in word_rows(word.catalogue(NOTICE, form, given))[1]


def test_everybody_sees_no_contact() -> None:
    form = NOTICE.by_form["F6"]
    given = rows(form, 2)
    for make in (plain.csv, plain.json):
        assert "13800138000" in make(NOTICE, form, given).decode()
        assert "13800138000" not in make(NOTICE, form, given, public=True).decode()
    assert "13800138000" not in "".join(
        p.extract_text() for p in pages(pdf.catalogue(NOTICE, form, given, public=True))
    )
    assert "13800138000" not in str(word_rows(word.catalogue(NOTICE, form, given, public=True)))


@pytest.mark.parametrize("make", [pdf.catalogue, word.catalogue, plain.csv, plain.json])
def test_same_rows_same_bytes(make: Any) -> None:
    form = NOTICE.by_form["F3"]
    given = rows(form, 5)
    assert make(NOTICE, form, given) == make(NOTICE, form, given[::-1])
    assert make(NOTICE, form, given) != make(NOTICE, form, given[:-1])


def test_word_has_official_typefaces_whole_rows_and_repeated_headers() -> None:
    form = NOTICE.by_form["F3"]
    written = word.catalogue(NOTICE, form, rows(form, 4))
    tree = word_xml(written)
    assert {f.get(W + "eastAsia") for f in tree.iter(W + "rFonts")} == {
        "黑体",
        "方正小标宋简体",
        "仿宋_GB2312",
    }
    trs = list(tree.iter(W + "tr"))
    assert [r.find(f"{W}trPr/{W}tblHeader") is not None for r in trs] == [True] + [False] * (len(trs) - 1)
    assert all(r.find(f"{W}trPr/{W}cantSplit") is not None for r in trs)
    merges = [m.get(W + "val") for m in tree.iter(W + "vMerge")]
    assert merges == ["restart", "continue"] * 2
    footers = [n for n in ZipFile(BytesIO(written)).namelist() if n.startswith("word/footer")]
    assert len(footers) == 2
    for name in footers:
        assert "".join(word_xml(written, name).itertext()) == "— PAGE —"


@pytest.mark.parametrize(("form_id", "turned"), [("F3", True), ("F6", False)])
def test_the_number_of_a_turned_page_is_turned_with_it(form_id: str, turned: bool) -> None:
    """GB/T 9704: it stays at the foot of the paper as it is bound, at the outer edge."""
    form = NOTICE.by_form[form_id]
    written = word.catalogue(NOTICE, form, rows(form, 2))
    footers = sorted(n for n in ZipFile(BytesIO(written)).namelist() if n.startswith("word/footer"))
    found = [word_xml(written, name) for name in footers]
    assert [[d.get(W + "val") for d in f.iter(W + "textDirection")] for f in found] == [["tbRl"] * turned] * 2
    sides = [[j.get(W + "val") for j in f.iter(W + "jc")] for f in found]
    assert sides == [["right"], []]  # odd, and even at the left, which needs no word


def test_an_official_list_has_its_parts_in_order() -> None:
    document = Document(
        title="关于拟入选名单的公示",
        paragraphs=("现将名单予以公示。",),
        signature="某某局",
        date=date(2025, 3, 3),
        addressee="各有关单位",
        tables=(Table(("序号", "单位"), (("1", "=某某公司"),)),),
        annexes=("名单一", "名单二"),
        note="联系人：某某",
    )
    order = [
        "关于拟入选名单的公示",
        "各有关单位：",
        "现将名单",
        "=某某公司",
        "附件：1.名单一",
        "2.名单二",
        "某某局",
        "2025年3月3日",
        "（联系人：某某）",
    ]
    said = squeezed("".join(p.extract_text() for p in pages(pdf.official_list(document))))
    written = squeezed("".join(word_xml(word.official_list(document)).itertext()))
    for text in (said, written):
        places = [text.index(part) for part in order]
        assert places == sorted(places)
