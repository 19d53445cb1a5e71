"""`yiqi report`: how a round goes, as a table here and as pictures in a folder.

What is counted is in `counts.py`, what a figure shows in `funnel.py`, `districts.py` and `ahead.py`.
"""

import asyncio
from collections.abc import Sequence
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import common
from services.cli.common import UNUSABLE, JsonOption, console, fail, out, table
from services.cli.report import counts, draw, page
from services.cli.report.ahead import ahead
from services.cli.report.districts import by_district
from services.cli.report.figure import Figure
from services.cli.report.funnel import funnel
from shared.notices.calendar import SHANGHAI
from shared.notices.directory import Directory
from shared.notices.load import load_all
from shared.notices.model import Notice
from shared.runtime.clock import Clock

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


class What(StrEnum):
    ROUND, DISTRICTS, AHEAD, ALL = "round", "districts", "ahead", "all"


class Format(StrEnum):
    SVG, PNG, HTML = "svg", "png", "html"


def report(
    what: Annotated[
        What,
        typer.Argument(help="round 办理进度，districts 各区覆盖，ahead 今后的期限，all 全部"),
    ],
    notice: Annotated[str | None, typer.Option(help="通知编号；ahead 可以不写，即全部通知")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="把图放在哪个文件夹；不写则只看表格")] = None,
    formats: Annotated[
        list[Format] | None, typer.Option("--format", help="图的格式，可写几次；不写则为 svg")
    ] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="期限到哪一天为止")] = None,
    as_json: JsonOption = False,
) -> None:
    """一轮办理的进度、各区覆盖（与目标数对照，只供掌握）、今后的期限：表格，或者图。"""
    if notice is None and what is not What.AHEAD:
        fail("请用 --notice 写明通知编号，见 yiqi notice list", UNUSABLE)
    if formats and folder is None:
        fail("--format 是图的格式，请用 --out 写明放在哪个文件夹", UNUSABLE)
    chosen = common.notice(notice) if notice else None
    today = Clock(common.settings().clock).now().astimezone(SHANGHAI).date()
    known = [chosen] if chosen else [*load_all(common.settings().notices).values()]
    figures = asyncio.run(_figures(what, [c.notice for c in known], today, until.date() if until else None))
    if as_json:
        out({f.name: [dict(zip(f.columns, row, strict=True)) for row in f.rows] for f in figures})
    else:
        for figure in figures:
            table("　".join((figure.title, figure.subtitle[-1])), figure.columns, figure.rows)
            for note in figure.notes:
                console.print(note, markup=False)
    if folder:
        for path in write(figures, folder, formats or [Format.SVG]):
            if not as_json:
                console.print(str(path), markup=False, soft_wrap=True)


async def _figures(what: What, notices: Sequence[Notice], today: date, until: date | None) -> list[Figure]:
    async with counts.reading() as conn:
        return await drawn(conn, what, notices, common.directory(), today, until)


async def drawn(
    conn: "AsyncConnection",
    what: What,
    notices: Sequence[Notice],
    directory: Directory,
    today: date,
    until: date | None = None,
) -> list[Figure]:
    """The figures of one moment. A round is of one notice; dates are of all that are given."""
    found = []
    first = notices[0]
    if what in (What.ROUND, What.ALL):
        ways = await counts.ways(conn, first.id)
        found.append(funnel(first, await counts.filed(conn, first.id), ways, today))
    if what in (What.DISTRICTS, What.ALL):
        found.append(by_district(first, directory, await counts.standing(conn, first.id), today))
    if what in (What.AHEAD, What.ALL):
        waiting = await counts.waiting(conn, first.id if len(notices) == 1 else None)
        found.append(ahead(notices, directory, waiting, today, until))
    return found


def write(figures: Sequence[Figure], folder: Path, formats: Sequence[Format]) -> list[Path]:
    """One file a figure, or one page of them all."""
    made: dict[str, bytes] = {}
    for format_ in dict.fromkeys(formats):
        if format_ is Format.HTML:
            name = figures[0].name if len(figures) == 1 else "report"
            made[f"{name}.html"] = _page(figures).encode()
            continue
        for figure in figures:
            picture = draw.png(figure) if format_ is Format.PNG else draw.svg(figure).encode()
            made[f"{figure.name}.{format_}"] = picture
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in made.items():
        (folder / name).write_bytes(body)
    return [folder / name for name in made]


def _page(figures: Sequence[Figure]) -> str:
    title = "、".join(f.title for f in figures)
    pictures = [draw.svg(f, fonts=False) for f in figures]
    letters = page.written(title, figures) + "".join(map(draw.text, pictures))
    return page.page(title, figures, pictures, draw.face(letters))
