"""`yiqi case verify`: every case played again from its history; `yiqi audit`: the history compared with its copy.

How that is done is in the review service; here it is only read, all of it as of one moment.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import common
from services.cli.common import UNUSABLE, JsonOption, console, fail, out, table
from shared.notices.calendar import SHANGHAI
from shared.notices.load import load_all
from shared.runtime.accounts import OPERATOR
from shared.runtime.clock import Clock
from shared.runtime.streams import AUDIT

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from sqlalchemy.ext.asyncio import AsyncConnection

    from services.review.mirror import Head, Mirror

PAGE = 500

Row = dict[str, Any]

app = typer.Typer(no_args_is_help=True)


@app.command("verify")
def compare(
    head: Annotated[str | None, typer.Option("--head", help="以前记下的审计锚，写作 序号:校验值")] = None,
    as_json: JsonOption = False,
) -> None:
    """核对经过与审计流：逐行相符，也与以前记下的审计锚相符；否则指出最先不符的一行，退出码为1。"""
    lines, found, wrong = asyncio.run(_compare(_anchor(head)))
    if as_json:
        out({"lines": lines, "head": f"{found.seq}:{found.hash}", "wrong": wrong})
    elif wrong:
        where = f"{wrong[0]['number']} 第{wrong[0]['version']}行：" if wrong[0]["number"] else ""
        console.print(f"最先不符：{where}{wrong[0]['why']}", soft_wrap=True)
        if wrong[1:]:
            table("还有", ("编号", "行", "说明"), ((w["number"], w["version"], w["why"]) for w in wrong[1:]))
    else:
        console.print(f"经过{lines}行与审计流相符，审计锚 {found.seq}:{found.hash}", soft_wrap=True)
    raise typer.Exit(common.FINDINGS if wrong else common.GOOD)


@app.command("head")
def anchor(
    on: Annotated[
        datetime | None, typer.Option("--on", formats=["%Y-%m-%d"], help="截至这一天（含）；不写则至今")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """审计锚：审计流的序号、校验值和行数。请抄录在本系统以外，日后用 yiqi audit verify --head 核对。"""
    found = asyncio.run(_head(on.date() if on else None))
    if as_json:
        out({"seq": found.seq, "lines": found.lines, "hash": found.hash})
    else:
        console.print(f"{found.seq}:{found.hash}（{found.lines}行）", soft_wrap=True)


def _anchor(head: str | None) -> tuple[int, str]:
    if head is None:
        return 0, ""
    seq, _, hash_ = head.strip().lower().partition(":")
    if not seq.isdigit() or len(hash_) != 64:
        fail("审计锚应写作 序号:校验值，如 yiqi audit head 所示", UNUSABLE)
    return int(seq), hash_


async def _head(on: date | None) -> "Head":
    from services.review.mirror import Head, messages

    head, offset = Head(), Clock(common.settings().clock).offset
    async with common.bus(OPERATOR) as client:
        async for message in messages(client.jetstream(timeout=5)):
            if on and message.at and (message.at + offset).astimezone(SHANGHAI).date() > on:
                break
            head = head.after(message)
    return head


async def _compare(known: tuple[int, str]) -> tuple[int, "Head", list[Row]]:
    """Every line of the database as of one moment against all that the stream has told of it, the first that is
    broken of each case."""
    from services.review.mirror import Message, Mirror, last_of
    from services.review.store import as_line

    mirror, lines, wrong = Mirror(), 0, list[Row]()

    def tell(number: str, version: int, why: str) -> None:
        if not version or (number, version) not in {(w["number"], w["version"]) for w in wrong}:
            wrong.append({"number": number, "version": version, "why": why})

    async with common.bus(OPERATOR) as client, as_of_now() as conn:
        jetstream = client.jetstream(timeout=5)
        # In this order: what was said before our moment is in the database, what was not yet said is in the outbox.
        upto = await last_of(jetstream)
        unsaid = await _read(conn, "select body from review.outbox where stream = :s", s=AUDIT)
        head, at_anchor = await _listen(jetstream, mirror, known[0])
        for row in unsaid:
            mirror.hear(Message(0, row["body"].encode(), None))
        if known[1] and at_anchor != known[1]:
            tell("", 0, f"审计流到第{known[0]}条为止，与以前记下的审计锚不符")
        async for case, history, _, _, _ in _cases(conn, None):
            lines += len(history)
            if broken := mirror.compare(case["case"], [as_line(line) for line in history]):
                tell(case["number"], broken.version, broken.why)
        for broken in (*mirror.broken, *mirror.left(upto)):
            tell(await _number(conn, broken.case), broken.version, broken.why)
    return lines, head, sorted(wrong, key=lambda w: (w["number"], w["version"]))


async def _listen(jetstream: "JetStreamContext", mirror: "Mirror", at: int) -> tuple["Head", str]:
    """The whole stream, its head, and what that was at an earlier message."""
    from services.review.mirror import Head, messages

    head, then = Head(), ""
    async for message in messages(jetstream):
        mirror.hear(message)
        head = head.after(message)
        if message.seq == at:
            then = head.hash
    return head, then or (head.hash if at == 0 else "")


async def _number(conn: "AsyncConnection", case: Any) -> str:
    """Of a case that review has no more, as intake knows it."""
    if case is None:
        return ""
    for table_ in ('review."case"', "intake.submission"):
        for row in await _read(conn, f'select number from {table_} where "case" = :c', c=case):
            return str(row["number"])
    return str(case)


def verify(
    number: Annotated[str | None, typer.Argument(help="项目编号；不写则全部")] = None,
    as_json: JsonOption = False,
) -> None:
    """核对经过：每行与其校验值相符，从头重演所得与现状相符；否则退出码为1。"""
    checked, wrong, let_go = asyncio.run(_verify(number))
    if number and not checked:
        fail(f"没有项目 {number}", UNUSABLE)
    if as_json:
        out({"cases": checked, "wrong": wrong, "let_go": let_go})
    elif wrong:
        table("不符", ("编号", "说明"), ((w["number"], w["why"]) for w in wrong))
    else:
        console.print(f"{checked}个项目的经过均相符")
    if let_go and not as_json:
        console.print(f"其中{len(let_go)}个项目的联系方式已按保存期限清除，核对的是其余内容")
    raise typer.Exit(common.FINDINGS if wrong else common.GOOD)


async def _verify(number: str | None) -> tuple[int, list[dict[str, str]], list[str]]:
    from services.review.contacts import filings_of
    from services.review.replay import audit
    from services.review.store import as_case, as_line

    notices = load_all(common.settings().notices)
    checked, wrong, gone = 0, [], []
    async with as_of_now() as conn:
        async for case, history, owed, filed, contacts in _cases(conn, number):
            checked += 1
            filings, let_go = filings_of(filed, contacts)
            gone += [case["number"]] if let_go else []
            found = [f"没有装载通知 {case['notice']}，无从重演"]
            if compiled := notices.get(case["notice"]):
                lines = [as_line(line) for line in history]
                found = audit(compiled.notice, as_case(case, owed), filings, lines, let_go)
            wrong += [{"number": case["number"], "why": why} for why in found]
    return checked, wrong, gone


@asynccontextmanager
async def as_of_now() -> AsyncIterator["AsyncConnection"]:
    """What moves meanwhile is seen as it was when we began."""
    from sqlalchemy import text

    async with common.database() as conn:
        await conn.execute(text("set transaction isolation level repeatable read, read only"))
        yield conn


async def _read(conn: "AsyncConnection", sql: str, **values: Any) -> list[Row]:
    from sqlalchemy import text

    return [dict(row._mapping) for row in await conn.execute(text(sql), values)]


async def _cases(
    conn: "AsyncConnection", number: str | None
) -> AsyncIterator[tuple[Row, list[Row], list[Row], list[Row], list[Row]]]:
    """Each case with its history, what it owes, its earlier filings and its contact data."""
    from services.review.store import CASES

    last = ""
    while True:
        page = await _read(
            conn,
            f'{CASES} where cast(c."case" as text) > :last and (cast(:n as text) is null '
            'or number = :n or cast(c."case" as text) = :n) order by cast(c."case" as text) limit :page',
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
            ("contact", "revision"),
        ):
            sql = f'select * from review.{name} where "case" = any(:ids) order by {order}'
            parts[name] = await _read(conn, sql, ids=ids)
        for row in page:
            mine = {name: [r for r in rows if r["case"] == row["case"]] for name, rows in parts.items()}
            yield row, mine["history"], mine["duty"], mine["filing"], mine["contact"]
        last = str(page[-1]["case"])
