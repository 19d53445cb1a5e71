"""A catalogue for programs: CSV that spreadsheet programs open, and JSON.

How it is printed is not here (`sheet.py`, `word.py`, `pdf.py`).
"""

import csv as csv_module
import json as json_module
from collections.abc import Iterator, Sequence
from io import StringIO

from services.export.table import FORMULA, Row, arrange, cell_text, clean, for_everybody
from shared.notices.model import Form, Notice


def csv(notice: Notice, form: Form, rows: Sequence[Row], *, public: bool = False) -> bytes:
    """UTF-8 with the mark by which Excel knows it, lines of RFC 4180; header and rows, nothing else.

    A text that a spreadsheet program would take for a formula has an apostrophe before it, as OWASP advises: in
    quotes alone it would still be computed. The JSON has it as it is.
    """
    form = for_everybody(form) if public else form
    out = StringIO()
    writer = csv_module.writer(out)
    writer.writerow([_inert(text) for text in ("序号", *(c.header for c in form.columns))])
    for n, texts in enumerate(_printed(notice, form, rows), 1):
        writer.writerow([n, *map(_inert, texts)])
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def json(notice: Notice, form: Form, rows: Sequence[Row], *, public: bool = False) -> bytes:
    """Values in their stored shape, in printed order; keys are those of the form."""
    form = for_everybody(form) if public else form
    keys = [*form.by_key, *form.blocks, *(line.key for line in form.lines)]
    document = {
        "notice": notice.id,
        "form": form.id,
        "annex": form.annex,
        "title": notice.form_title(form),
        "columns": [{"key": c.key, "header": c.header, "type": c.type} for c in form.columns],
        "rows": [
            {key: row.values[key] for key in keys if row.values.get(key) is not None}
            for row in arrange(form, notice.lists, rows)
        ],
    }
    return (json_module.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()


def _printed(notice: Notice, form: Form, rows: Sequence[Row]) -> Iterator[list[str]]:
    for row in arrange(form, notice.lists, rows):
        yield [clean(cell_text(column, row.values.get(column.key))) for column in form.columns]


def _inert(text: str) -> str:
    # Blanks before the sign do not stop a program that trims.
    return "'" + text if text.lstrip().startswith(FORMULA) else text
