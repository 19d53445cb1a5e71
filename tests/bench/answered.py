"""A long workbook judged and answered: 20,000 rows of 附件5, a fault in every third, read and marked in the limited child.

`python -m tests.bench.answered`. Beside it the same marks written with openpyxl, which keeps less of the file. Seconds
and memory are only printed.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from io import BytesIO
from multiprocessing import get_context
from typing import Annotated, Any

import openpyxl
import typer
from openpyxl.comments import Comment
from openpyxl.styles import PatternFill
from rich.console import Console
from rich.table import Table

from services.intake import child, parse
from services.intake.sheets import Unusable
from shared.contracts.submission import Filer
from shared.contracts.types import Finding
from shared.notices.calendar import SHANGHAI
from shared.notices.load import CompiledNotice, load_all
from tests.bench.machine import memory, tree
from tests.items import LOAN
from tests.workbooks import head, xlsx

NOTICE = "gz-collection-2025q1"
LIMITS = child.Limits(seconds=120, memory=2048 * 1024 * 1024)


def workbook(rows: int) -> bytes:
    """Every name its own, every third row without a contact or with a rate upside down."""
    form = load_all()[NOTICE].notice.by_form["F5"]
    lines: list[list[Any]] = [["附件5"], head(form)]
    for n in range(rows):
        row = {**LOAN, "product_name": f"某贷{n}", "product_brief": f"第{n}项产品的简介。" * 10}
        if n % 6 == 0:
            row["rate_range"] = "4.5%-3.65%"
        elif n % 6 == 3:
            row["contact"] = ""
        lines.append([n + 1, *(row[c.key] for c in form.columns)])
    return xlsx({"附件5": lines})


def judged(notice: CompiledNotice, sheets: list[Any]) -> list[Finding]:
    at = datetime(2025, 3, 1, 12, tzinfo=SHANGHAI)
    filer = Filer(code="440106", kind="K2", name="天河区", email="a@example.cn")
    filing = parse.Filing(notice, filer, None, "440106", at, district_name="天河区")
    return [f for checked in parse.offline(filing, sheets) for f in checked.findings]


def by_hand(data: bytes, findings: list[Finding]) -> bytes:
    """As openpyxl is used for it: the whole workbook as objects, and what it does not know is gone."""
    book = openpyxl.load_workbook(BytesIO(data))
    fill = PatternFill("solid", fgColor="FFC7CE")
    for f in findings:
        if f.sheet in book.sheetnames and f.cell:
            cell = book[f.sheet][f.cell]
            cell.comment, cell.fill = Comment(f.detail, "x"), fill
    out = BytesIO()
    book.save(out)
    return out.getvalue()


class Peak:
    """The most memory of all our processes' children, or of this process."""

    def __init__(self, *, own: bool) -> None:
        self.own, self.most, self._stop = own, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        me = os.getpid()
        while not self._stop.wait(0.02):
            pids = [me] if self.own else [p for p in tree(me) if p != me]
            for pid in pids:
                try:
                    self.most = max(self.most, memory([pid])[1])
                except (OSError, ValueError):
                    continue  # it has ended

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def timed(do: Callable[[], Any], *, own: bool = False) -> tuple[Any, float, float]:
    with Peak(own=own) as peak:
        begun = time.monotonic()
        result = do()
        return result, time.monotonic() - begun, peak.most


def bench(rows: Annotated[int, typer.Option(help="rows of the workbook")] = 19_990) -> None:
    notice = load_all()[NOTICE]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # what making it takes is not counted
        data = pool.submit(workbook, rows).result()
    table = Table("", "s", "MB at most", "result", title=f"{rows} rows, {len(data) / 1e6:.1f} MB")

    def show(what: str, seconds: float, most: float, result: str) -> None:
        table.add_row(what, f"{seconds:.1f}", f"{most:.0f}", result)

    try:
        sheets, seconds, most = timed(lambda: asyncio.run(child.read(data, "附件5.xlsx", notice, LIMITS)))
        show("read, in the child", seconds, most, f"{sum(len(s.rows) for s in sheets)} rows")
        findings, more, own = timed(lambda: judged(notice, sheets), own=True)
        show("judged, in the service", more, own, f"{len(findings)} findings")
        show("together", seconds + more, max(most, own), "")
        marked, seconds, most = timed(
            lambda: asyncio.run(child.mark(data, "附件5.xlsx", findings, notice, LIMITS))
        )
        show("marked, in the child", seconds, most, f"{len(marked) / 1e6:.1f} MB")
        few, seconds, most = timed(
            lambda: asyncio.run(child.mark(data, "附件5.xlsx", findings, notice, LIMITS, only_faults=True))
        )
        show("the same, only faults", seconds, most, f"{len(few) / 1e6:.1f} MB")
    except Unusable as error:
        raise SystemExit(f"{error.code}: {error.detail}") from None
    finally:
        child.close()
    hand, seconds, most = timed(lambda: by_hand(data, findings), own=True)
    show("marked with openpyxl", seconds, most, f"{len(hand) / 1e6:.1f} MB")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(bench)
