"""A catalogue of 10,000 rows of 附件5 beside the same cells written bare by XlsxWriter, and of a tenth as many in PDF
and DOCX beside a bare table of typst and of python-docx, in turn, each in a process of its own:
`python -m tests.bench.catalogue [rows] [reps]`. Nothing passes or fails.

What a catalogue must look like is not here.
"""

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from services.export import pdf, sheet, word
from services.export.table import Row, cell_text
from shared.notices.model import Form, Notice

WORDS = (
    "围绕企业",
    "数字化转型",
    "贷款服务，",
    "ERP",
    "组织专家",
    " 2025 ",
    "现场诊断。",
    "MES系统",
    "科技型中小企业",
)


def rows(form: Form, n: int) -> list[Row]:
    """As a round has them: long texts in the wide columns, some letters and digits among the characters."""
    dice = random.Random(n)
    composite: dict[str, Any] = {
        "contact": {"name": "张三", "phones": ["020-83726619", "13800138000"], "email": None},
        "amount": {"text": "1000"},
        "months": {"text": "12"},
        "rate": {"text": "3.65%—4.5%"},
    }
    opened = datetime(2025, 2, 24, tzinfo=UTC)

    def text(limit: int | None) -> str:
        return "".join(dice.choices(WORDS, k=dice.randint(2, 14 if (limit or 0) > 200 else 4)))

    return [
        Row(
            f"{i:06}",
            opened + timedelta(minutes=i),
            {c.key: composite.get(c.type) or text(c.limit) for c in form.columns},
        )
        for i in range(n)
    ]


def texts(form: Form, filed: Sequence[Row]) -> list[list[str]]:
    return [
        [str(n), *(cell_text(column, row.values[column.key]) for column in form.columns)]
        for n, row in enumerate(filed, 1)
    ]


def bare_xlsx(form: Form, filed: Sequence[Row]) -> bytes:
    import xlsxwriter

    out = BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True})
    page = book.add_worksheet()
    for r, row in enumerate(filed):
        page.write_number(r, 0, r + 1)
        for c, column in enumerate(form.columns, 1):
            page.write_string(r, c, cell_text(column, row.values[column.key]))
    book.close()
    return out.getvalue()


def bare_pdf(form: Form, filed: Sequence[Row]) -> bytes:
    """The same page and typefaces, and nothing else."""
    import typst

    from services.export.fonts import fonts

    source = (
        '#set page("a4", flipped: true, margin: 28mm)\n#set text(font: "Noto Serif SC", lang: "zh", size: 9pt)\n'
        f"#table(columns: {len(form.columns) + 1}, ..json(bytes(sys.inputs.rows)).flatten())"
    )
    made: object = typst.compile(
        source.encode(),
        font_paths=list[Any](map(str, fonts().folders)),
        ignore_system_fonts=True,
        sys_inputs={"rows": json.dumps(texts(form, filed))},
    )
    assert isinstance(made, bytes)
    return made


def bare_docx(form: Form, filed: Sequence[Row]) -> bytes:
    import docx

    out = BytesIO()
    book = docx.Document()
    found = texts(form, filed)
    table = book.add_table(len(found), len(form.columns) + 1)
    # `table.cell` counts all cells each time.
    for row, said in zip(table._tbl.tr_lst, found, strict=True):
        for cell, text in zip(row.tc_lst, said, strict=True):
            cell.p_lst[0].add_r().text = text
    book.save(out)
    return out.getvalue()


MAKERS: dict[str, tuple[Callable[..., bytes], Callable[..., bytes]]] = {
    "xlsx": (sheet.catalogue, bare_xlsx),
    "pdf": (pdf.catalogue, bare_pdf),
    "docx": (word.catalogue, bare_docx),
}


def one(ending: str, which: str, n: int) -> None:
    """In the fresh process: the notice as plain data on stdin, lest its rules count."""
    notice = Notice.model_validate_json(sys.stdin.buffer.read())
    form = notice.by_form["F5"]
    filed = rows(form, n)
    annex, bare = MAKERS[ending]
    before, began = spent(), time.perf_counter()
    made = annex(notice, form, filed) if which == "annex" else bare(form, filed)
    took = spent() - before, time.perf_counter() - began
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(*took, peak / 1024, len(made))


def spent() -> float:
    """CPU seconds, those of children that have ended too."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main(n: int, reps: int) -> None:
    from shared.notices.load import load_all

    notice = load_all()["gz-collection-2025q1"].notice.model_dump_json()
    for ending in MAKERS:
        compare(notice, ending, n if ending == "xlsx" else n // 10, reps)


def compare(notice: str, ending: str, n: int, reps: int) -> None:
    figures: dict[str, list[list[float]]] = {"bare": [], "annex": []}
    for _ in range(reps):
        for which, found in figures.items():
            command = [sys.executable, "-m", "tests.bench.catalogue", ending, which, str(n)]
            said = subprocess.run(
                command,
                input=notice,
                capture_output=True,
                text=True,
                check=True,
                cwd=Path(__file__).parents[2],
            )
            found.append([float(x) for x in said.stdout.split()])
    for which, found in figures.items():
        cpu, wall, peak, size = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{ending} {which}, {n} rows: {n / cpu:,.0f} rows/s of CPU, {cpu:.2f} s, {wall:.2f} s by the clock, "
              f"peak {peak:.0f} MB, {size / 1024:,.0f} KB")  # fmt: skip
    ratios = [b[0] / a[0] for b, a in zip(figures["bare"], figures["annex"], strict=True)]
    print(
        f"{ending}: annex at {statistics.median(ratios):.2f} of the bare rate ({min(ratios):.2f}–{max(ratios):.2f})"
    )


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in MAKERS:
        one(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        main(int((sys.argv[1:2] or ["10000"])[0]), int((sys.argv[2:3] or ["3"])[0]))
