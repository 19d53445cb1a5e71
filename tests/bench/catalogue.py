"""A catalogue of 10,000 rows of 附件5 beside the same cells written bare by XlsxWriter, in turn, each in a process of
its own: `python -m tests.bench.catalogue [rows] [reps]`. Nothing passes or fails.

What a catalogue must look like is not here.
"""

import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from services.export.sheet import catalogue
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


def bare(form: Form, filed: Sequence[Row]) -> bytes:
    import xlsxwriter

    out = BytesIO()
    book = xlsxwriter.Workbook(out, {"in_memory": True})
    sheet = book.add_worksheet()
    for r, row in enumerate(filed):
        sheet.write_number(r, 0, r + 1)
        for c, column in enumerate(form.columns, 1):
            sheet.write_string(r, c, cell_text(column, row.values[column.key]))
    book.close()
    return out.getvalue()


def one(which: str, n: int) -> None:
    """In the fresh process: the notice as plain data on stdin, lest its rules count."""
    notice = Notice.model_validate_json(sys.stdin.buffer.read())
    form = notice.by_form["F5"]
    filed = rows(form, n)
    before, began = time.process_time(), time.perf_counter()
    made = catalogue(notice, form, filed) if which == "annex" else bare(form, filed)
    took = time.process_time() - before, time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(*took, peak, len(made))


def main(n: int, reps: int) -> None:
    from shared.notices.load import load_all

    notice = load_all()["gz-collection-2025q1"].notice.model_dump_json()
    figures: dict[str, list[list[float]]] = {"bare": [], "annex": []}
    for _ in range(reps):
        for which, found in figures.items():
            command = [sys.executable, "-m", "tests.bench.catalogue", which, str(n)]
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
        print(f"{which}: {n / cpu:,.0f} rows/s of CPU, {cpu:.2f} s, {wall:.2f} s by the clock, "
              f"peak {peak:.0f} MB, {size / 1024:,.0f} KB")  # fmt: skip
    ratios = [b[0] / a[0] for b, a in zip(figures["bare"], figures["annex"], strict=True)]
    print(f"annex at {statistics.median(ratios):.2f} of the bare rate ({min(ratios):.2f}–{max(ratios):.2f})")


if __name__ == "__main__":
    if sys.argv[1:2] in (["bare"], ["annex"]):
        one(sys.argv[1], int(sys.argv[2]))
    else:
        main(int((sys.argv[1:2] or ["10000"])[0]), int((sys.argv[2:3] or ["3"])[0]))
