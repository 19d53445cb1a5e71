"""A long workbook judged and answered: 20,000 rows of 附件5, a fault in every third, read and marked in the limited child.

`python -m tests.bench.answered`. Beside it the same marks written with openpyxl, which keeps less of the file. Seconds
and memory are only printed.
"""

import asyncio
import gc
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
from tests.bench.machine import cpu, memory, tree
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
    """The most memory of one of our processes' children, or of this process; and the processor's seconds."""

    def __init__(self, *, own: bool) -> None:
        self.own, self.most, self._stop = own, 0.0, threading.Event()
        self.cpu: dict[int, float] = {}
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        me = os.getpid()
        while not self._stop.wait(0.02):
            pids = [me] if self.own else [p for p in tree(me) if p != me]
            for pid in pids:
                try:
                    self.most = max(self.most, memory([pid])[1])
                    self.cpu[pid] = cpu([pid])
                except (OSError, ValueError):
                    continue  # it has ended

    def __enter__(self) -> "Peak":
        self.before = {pid: cpu([pid]) for pid in tree(os.getpid())}
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def spent(self) -> float:
        return sum(seconds - self.before.get(pid, 0) for pid, seconds in self.cpu.items())


Timed = tuple[Any, float, float, float]
"""A result, the seconds of the clock and of the processor, and the megabytes that it took."""


def timed(do: Callable[[], Any], *, own: bool = False) -> Timed:
    with Peak(own=own) as peak:
        begun = time.monotonic()
        result = do()
        seconds = time.monotonic() - begun
    return result, seconds, peak.spent(), peak.most


def bench(rows: Annotated[int, typer.Option(help="rows of the workbook")] = 19_990) -> None:
    notice = load_all()[NOTICE]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # what making it takes is not counted
        data = pool.submit(workbook, rows).result()
    table = Table("", "s", "CPU s", "MB at most", "result", title=f"{rows} rows, {len(data) / 1e6:.1f} MB")

    def show(what: str, did: Timed, result: str) -> None:
        table.add_row(what, *(f"{figure:.1f}" for figure in did[1:3]), f"{did[3]:.0f}", result)

    def mark(**only: bool) -> bytes:
        return asyncio.run(child.mark(data, "附件5.xlsx", findings, notice, LIMITS, **only))

    try:
        read = timed(lambda: asyncio.run(child.read(data, "附件5.xlsx", notice, LIMITS)))
        sheets = read[0]
        show("read, in the child", read, f"{sum(len(s.rows) for s in sheets)} rows")
        gc.disable()  # as `yiqi check` does
        found = timed(lambda: judged(notice, sheets), own=True)
        findings = found[0]
        show("judged, in the service", found, f"{len(findings)} findings")
        both = (None, read[1] + found[1], read[2] + found[2], max(read[3], found[3]))
        show("together", both, "")
        whole = timed(mark)
        show("marked, in the child", whole, f"{len(whole[0]) / 1e6:.1f} MB")
        few = timed(lambda: mark(only_faults=True))
        show("the same, only faults", few, f"{len(few[0]) / 1e6:.1f} MB")
    except Unusable as error:
        raise SystemExit(f"{error.code}: {error.detail}") from None
    finally:
        child.close()
    hand = timed(lambda: by_hand(data, findings), own=True)
    show("marked with openpyxl", hand, f"{len(hand[0]) / 1e6:.1f} MB")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(bench)
