"""`yiqi case verify`: every case played again from its history, and compared with what is kept.

How that is done is in the review service; here it is only read, all of it as of one moment.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import typer

from services.cli import common
from services.cli.common import UNUSABLE, JsonOption, console, fail, out, table
from shared.notices.load import load_all

PAGE = 500

Row = dict[str, Any]


def verify(
    number: Annotated[str | None, typer.Argument(help="项目编号；不写则全部")] = None,
    as_json: JsonOption = False,
) -> None:
    """核对经过：每行与其校验值相符，从头重演所得与现状相符；否则退出码为1。"""
    checked, wrong = asyncio.run(_verify(number))
    if number and not checked:
        fail(f"没有项目 {number}", UNUSABLE)
    if as_json:
        out({"cases": checked, "wrong": wrong})
    elif wrong:
        table("不符", ("编号", "说明"), ((w["number"], w["why"]) for w in wrong))
    else:
        console.print(f"{checked}个项目的经过均相符")
    raise typer.Exit(common.FINDINGS if wrong else common.GOOD)


async def _verify(number: str | None) -> tuple[int, list[dict[str, str]]]:
    from services.review.replay import audit
    from services.review.store import as_case, as_line

    notices = load_all(common.settings().notices)
    checked, wrong = 0, []
    async for case, history, owed, filed in _cases(number):
        checked += 1
        found = [f"没有装载通知 {case['notice']}，无从重演"]
        if compiled := notices.get(case["notice"]):
            filings = {row["revision"]: row["filing"] for row in filed}
            found = audit(compiled.notice, as_case(case, owed), filings, [as_line(line) for line in history])
        wrong += [{"number": case["number"], "why": why} for why in found]
    return checked, wrong


async def _cases(number: str | None) -> AsyncIterator[tuple[Row, list[Row], list[Row], list[Row]]]:
    """Each case with its history, what it owes, and its earlier filings; a case that moves meanwhile is seen as it
    was when we began."""
    from sqlalchemy import text

    async with common.database() as conn:
        await conn.execute(text("set transaction isolation level repeatable read, read only"))

        async def read(sql: str, **values: Any) -> list[Row]:
            return [dict(row._mapping) for row in await conn.execute(text(sql), values)]

        last = ""
        while True:
            page = await read(
                'select * from review."case" where cast("case" as text) > :last and (cast(:n as text) is null '
                'or number = :n or cast("case" as text) = :n) order by cast("case" as text) limit :page',
                last=last,
                n=number,
                page=PAGE,
            )
            if not page:
                return
            ids = [row["case"] for row in page]
            parts = {}
            for name, order in (
                ("history", "version"),
                ("duty", "due, duty, period"),
                ("filing", "revision"),
            ):
                parts[name] = await read(
                    f'select * from review.{name} where "case" = any(:ids) order by {order}', ids=ids
                )
            for row in page:
                mine = {name: [r for r in rows if r["case"] == row["case"]] for name, rows in parts.items()}
                yield row, mine["history"], mine["duty"], mine["filing"]
            last = str(page[-1]["case"])
