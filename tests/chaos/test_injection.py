"""What a filer writes to attack whoever opens our files arrives as the text that it is (T26, the half of files).

What it does in a mail, and what a file that comes in may hide, is not here.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import openpyxl
import pytest
import xlsxwriter
from python_calamine import CalamineWorkbook

from services.cli import dossier
from services.export.sheet import catalogue
from services.export.table import Row, clean, for_everybody
from services.intake.marking import mark
from shared.contracts.types import Finding
from shared.notices.load import load_all
from tests.chaos.oracle import Verdict
from tests.workbooks import head, ods, xls, xlsx

HOSTILE = (
    "=1+1", "+1", "-1", "@SUM(1)", "=cmd|'/C calc'!A0", '=HYPERLINK("http://evil.example","看")', "=IMPORTXML(A1)",
    "＝1+1", "＋1", "－1", "＠x", "\t=1+1", "\r=1+1", "\n=1+1", "\r\n@x", "\x00=1", "\u200b=1+1", " =1+1", "'=1+1",
    "{=1+1}", "=@A1", "=-1", "%0A=1", "http://evil.example", "mailto:a@evil.example", "internal:A1", "external:x.xlsx",
    "file://evil/share", "javascript:alert(1)", "1e5", "TRUE", "_x0009_=1", "<f>1</f>", "&lt;f&gt;", "DDE(\"cmd\")",
)  # fmt: skip
FORMULA = re.compile(r"^[=+\-@＝＋－＠]")
ALIVE = re.compile(
    rb"<f[ >]|<hyperlinks?[ >]|ddeLink|externalLink|calcChain|relationships/hyperlink", re.IGNORECASE
)
ROOT = Path(__file__).parents[2]
NOTICES = list(load_all().values())
LISTS = [(one.notice, f) for one in NOTICES for f in one.notice.forms if f.card is None]


def alive(content: bytes) -> list[str]:
    """What in a workbook is more than text: by its parts, and as openpyxl understands it."""
    with ZipFile(BytesIO(content)) as archive:
        found = [name for name in archive.namelist() if ALIVE.search(archive.read(name))]
    cells = (
        (sheet.title, cell)
        for sheet in openpyxl.load_workbook(BytesIO(content)).worksheets
        for row in sheet.iter_rows()
        for cell in row
    )
    made = (f"{title}!{c.coordinate}" for title, c in cells if c.data_type == "f" or c.hyperlink is not None)
    return [*found, *made]


def texts(content: bytes) -> Iterator[str]:
    """Every text, as a reader that did not write it gives it."""
    book = CalamineWorkbook.from_filelike(BytesIO(content))
    for name in book.sheet_names:
        for row in book.get_sheet_by_name(name).to_python():
            yield from (cell for cell in row if isinstance(cell, str))


def test_every_column_of_every_catalogue_takes_it_as_text(oracle: Callable[[Verdict], Verdict]) -> None:
    """T26."""
    seen = Verdict("T26 injection into catalogues")
    for notice, form in LISTS:
        keys = [*form.by_key, *(line.key for line in form.lines)]
        for public in (False, True):
            printed_ = for_everybody(form) if public else form
            rows = [
                Row(f"{n:03}", datetime(2026, 1, 1, tzinfo=UTC), dict.fromkeys(keys, text))
                for n, text in enumerate(HOSTILE)
            ]
            content = catalogue(notice, form, rows, public=public)
            assert alive(content) == [], (notice.id, form.id)
            there = list(texts(content))
            for text in HOSTILE:
                # A column that groups its rows shows a text once for all of them.
                wanted = len(printed_.columns) - (printed_.group is not None)
                arrived = min(there.count(clean(text)), wanted)
                seen.sent, seen.ok, seen.lost = (
                    seen.sent + wanted,
                    seen.ok + arrived,
                    seen.lost + wanted - arrived,
                )
            for row in openpyxl.load_workbook(BytesIO(content)).active.iter_rows():  # type: ignore[union-attr]
                for cell in row:
                    if isinstance(cell.value, str) and FORMULA.match(cell.value):
                        # Still a text when somebody edits the cell and presses Enter.
                        assert cell.quotePrefix, (form.id, cell.coordinate)
    assert oracle(seen).clean
    assert seen.sent == seen.ok > 3000


@pytest.mark.parametrize("kind", [xlsx, xls, ods], ids=lambda kind: kind.__name__)
def test_a_marked_workbook_is_text_all_over(
    kind: Callable[..., bytes], oracle: Callable[[Verdict], Verdict]
) -> None:
    """The filer's own words come back to the filer, and go to whoever is sent the copy."""
    seen = Verdict(f"T26 injection into a marked .{kind.__name__}")
    compiled = load_all()["gz-collection-2025q1"]
    form = compiled.notice.by_form["F6"]
    # No writer of a test puts a control character into a file; openpyxl takes an escape in a text for what it escapes.
    hostile = [text for text in HOSTILE if text.isprintable() and not text.startswith("_x")]
    rows = [[n, text, text, text, text, text] for n, text in enumerate(hostile, 1)]
    filed = kind({"附件6": [head(form), *rows]})
    found = [
        Finding(rule=text[:20], code="x", severity="hard", clause="附件6", detail=text, sheet="附件6",
                row=n + 2, cell=f"B{n + 2}")
        for n, text in enumerate(hostile)
    ]  # fmt: skip
    marked = mark(filed, f"附件6.{kind.__name__}", found, compiled)
    assert alive(marked) == []
    there = list(texts(marked))
    for text in hostile:
        arrived = min(there.count(text.strip()) + (text != text.strip()) * there.count(text), 5)
        seen.sent, seen.ok, seen.lost = seen.sent + 5, seen.ok + arrived, seen.lost + 5 - arrived
    assert oracle(seen).clean


@pytest.mark.parametrize("text", ["<r>&</r>", "<r><t>=1</t></r>"])
def test_a_marked_copy_takes_markup_as_text(text: str) -> None:
    """XlsxWriter writes what stands in <r> as it is: the copy would be no workbook, or say something else."""
    compiled = load_all()["gz-collection-2025q1"]
    form = compiled.notice.by_form["F6"]
    marked = mark(ods({"附件6": [head(form), [1, *[text] * 5]]}), "附件6.ods", [], compiled)
    assert [one.strip() for one in texts(marked)].count(text) == 5


WRITERS = {
    "services/export/sheet.py": "every column of every catalogue, above",
    "services/intake/marking.py": "every cell of a workbook that came in, above",
    "services/intake/template.py": "only what a notice says; read back in tests/unit/test_round_trip.py",
    "services/intake/card_template.py": "only what a notice says, too",
    "services/export/plain.py": "a CSV; tests/unit/test_paper.py",
    "services/export/word.py": "no spreadsheet: a DOCX, where nothing is computed",
    "services/cli/dossier.py": "the history of a case, below",
    "services/cli/letters.py": "an example of an attachment, with one word of ours",
    "services/cli/demo/papers.py": "example filings, which intake reads like any other",
}
"""Every module that writes a file a spreadsheet program opens, and where what strangers write is tried on it."""
WRITES = re.compile(
    r"xlsxwriter\.Workbook|import Workbook|openpyxl\.Workbook|\bbook\.save\(|csv\w*\.(?:DictW|w)riter|\bnew_book\("
)


@pytest.mark.parametrize("text", [text for text in HOSTILE if re.match(r"[=+\-@＝＋－＠\t\r]", text)])
def test_a_cell_of_a_csv_begins_with_a_quote_where_it_would_be_a_formula(text: str) -> None:
    """A CSV has no types: only its first character keeps a cell a text."""
    assert dossier._text(text) == f"'{text}"
    assert dossier._text("材料齐全") == "材料齐全"


def test_no_writer_of_tables_is_left_out() -> None:
    """Whoever adds one says here where it takes formulas as text."""
    found = {
        str(path.relative_to(ROOT))
        for folder in ("services", "shared")
        for path in (ROOT / folder).rglob("*.py")
        if WRITES.search(path.read_text(encoding="utf-8"))
    }
    assert found == set(WRITERS)


def test_control_a_writer_that_guesses_makes_formulas_and_links(oracle: Callable[[Verdict], Verdict]) -> None:
    """As the libraries do it by themselves."""
    out, seen = BytesIO(), Verdict("T26 control: libraries as they are")
    with xlsxwriter.Workbook(out) as book:
        sheet = book.add_worksheet()
        for n, text in enumerate(HOSTILE):
            sheet.write(n, 0, text)
    naive = openpyxl.Workbook()
    assert naive.active
    naive.active.append(["=1+1"])
    other = BytesIO()
    naive.save(other)
    there = list(texts(out.getvalue()))
    seen.sent, seen.ok = len(HOSTILE), sum(clean(text) in there or text in there for text in HOSTILE)
    seen.lost = len([one for one in alive(out.getvalue()) if "!" in one])
    assert not oracle(seen).clean
    assert {"Sheet1!A1", "Sheet1!A6", "Sheet1!A25"} <= set(alive(out.getvalue()))
    assert alive(other.getvalue())
