"""`yiqi mail`: looking at the ledger of mails, what an issuer does with those that are held, and what a person settles.

What is decided about cases is in `deciding.py`.
"""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from services.cli import common, filing
from services.cli.common import FINDINGS, UNUSABLE, AsOption, JsonOption, console, fail, out, show, table
from services.cli.deciding import OfficerOption, ReasonOption
from shared.contracts import registry
from shared.contracts.mail import MailSent, MailsSettled
from shared.runtime.streams import STREAM_OF

app = typer.Typer(no_args_is_help=True)

MailArgument = Annotated[str, typer.Argument(help="邮件编号，可只写前几位")]
MailsArgument = Annotated[list[str] | None, typer.Argument(help="邮件编号，可多个，可只写前几位")]
NoticeOption = Annotated[str | None, typer.Option("--notice", help="这一通知的全部留存邮件")]
LetterOption = Annotated[str | None, typer.Option("--letter", help="只限这一种信")]

LISTED = (
    "select id, letter, notice, to_code, to_name, state, attempt, why, not_before, owed_at, settled_at, digest "
    "from notify.mail where "
)


def _ask(sql: str, **values: Any) -> list[dict[str, Any]]:
    return asyncio.run(common.query(sql, **values))


@app.command("list")
def mail_list(
    state: Annotated[
        str | None,
        typer.Option(
            help="held、gathered、queued、claimed、data、sent、failed、unknown、bounced、merged、replaced、discarded"
        ),
    ] = None,
    to: Annotated[str | None, typer.Option(help="收件单位代码")] = None,
    as_json: JsonOption = False,
) -> None:
    """邮件一览（不显示地址）。"""
    rows = _ask(
        f"{LISTED} (cast(:state as text) is null or state = :state) "
        "and (cast(:to as text) is null or to_code = :to) order by owed_at, key",
        state=state,
        to=to,
    )
    columns = {
        "id": "编号",
        "owed_at": "时间",
        "letter": "信",
        "to_name": "收件单位",
        "state": "状态",
        "why": "原因",
    }
    show(rows, "邮件", columns, as_json=as_json)


@app.command("show")
def mail_show(id_: MailArgument, as_json: JsonOption = False) -> None:
    """一封邮件：为何而发、发给谁、结果如何；留存的由谁放行、作废。"""
    found = _ask("select * from notify.mail where cast(id as text) like :id || '%'", id=id_)
    if not found:
        fail(f"没有邮件 {id_}", UNUSABLE)
    if as_json:
        out(found[0])
    else:
        table("邮件", ("项", "内容"), found[0].items())


# --- held ---------------------------------------------------------------------------------------------


@app.command("held")
def mail_held(notice: NoticeOption = None, letter: LetterOption = None, as_json: JsonOption = False) -> None:
    """留存待放行的邮件，和各有多少封。"""
    rows = _ask(
        f"{LISTED} state = 'held' and (cast(:notice as text) is null or notice = :notice) "
        "and (cast(:letter as text) is null or letter = :letter) order by notice, letter, owed_at, key",
        notice=notice,
        letter=letter,
    )
    columns = {
        "id": "编号",
        "owed_at": "时间",
        "notice": "通知",
        "letter": "信",
        "to_name": "收件单位",
    }
    show(rows, "留存的邮件", columns, as_json=as_json)
    if not as_json:
        counts: dict[tuple[str, str], int] = {}
        for row in rows:
            counts[row["notice"], row["letter"]] = counts.get((row["notice"], row["letter"]), 0) + 1
        for (of, what), count in counts.items():
            console.print(f"{of} {what}：{count}封", markup=False)


@app.command("release")
def mail_release(
    as_: AsOption,
    reason: ReasonOption,
    mails: MailsArgument = None,
    notice: NoticeOption = None,
    letter: LetterOption = None,
    officer: OfficerOption = None,
    as_json: JsonOption = False,
) -> None:
    """放行：到可以发送的时间即发，只发一次。写邮件编号，或写 --notice 放行全部。"""
    _settle("release", as_, mails, notice, letter, reason, officer, as_json)


@app.command("discard")
def mail_discard(
    as_: AsOption,
    reason: ReasonOption,
    mails: MailsArgument = None,
    notice: NoticeOption = None,
    letter: LetterOption = None,
    officer: OfficerOption = None,
    as_json: JsonOption = False,
) -> None:
    """作废：不再发送。写邮件编号，或写 --notice 作废全部。"""
    _settle("discard", as_, mails, notice, letter, reason, officer, as_json)


@app.command("edit")
def mail_edit(
    as_: AsOption,
    reason: ReasonOption,
    text: Annotated[str, typer.Option("--text", help="补充说明，写在信中“下一步”之前；空的即取消")],
    mails: MailsArgument = None,
    notice: NoticeOption = None,
    letter: LetterOption = None,
    officer: OfficerOption = None,
    as_json: JsonOption = False,
) -> None:
    """加写一段补充说明；信中的事实不能改。仍然留存。"""
    _settle("edit", as_, mails, notice, letter, reason, officer, as_json, text)


DONE = {
    "release": "已放行{n}封",
    "discard": "已作废{n}封，不再发送",
    "edit": "已在{n}封中加写补充说明，仍然留存",
}


def _settle(
    action: Literal["release", "discard", "edit"],
    as_: str,
    mails: list[str] | None,
    notice: str | None,
    letter: str | None,
    reason: str,
    officer: str | None,
    as_json: bool,
    text: str = "",
) -> None:
    publisher = common.agency(as_).code
    ids: list[Any] = []
    if mails:
        ids, notice = _named(mails, notice)
    if not notice:
        fail("请写邮件编号，或者 --notice", UNUSABLE)
    said = MailsSettled(
        notice=notice,
        letter=letter,
        mails=tuple(ids),
        action=action,
        text=text,
        reason=reason,
        officer=officer,
    )

    async def publish() -> dict[str, Any]:
        async with common.bus(publisher) as client:
            return await filing.publish(client, publisher, registry.MAILS_SETTLED, said, uuid.uuid4())

    answer = asyncio.run(publish())
    filing.tell(answer, as_json, lambda told: DONE[action].format(n=_done(told["accepted"])))


def _named(mails: list[str], notice: str | None) -> tuple[list[Any], str]:
    """The ids in full, and the notice that all of them are about."""
    rows = _ask(
        "select m.id, m.notice, t.typed from unnest(cast(:typed as text[])) as t (typed) "
        "left join notify.mail m on cast(m.id as text) like t.typed || '%'",
        typed=mails,
    )
    for typed in mails:
        found = [row for row in rows if row["typed"] == typed]
        if len(found) > 1:
            fail(f"编号 {typed} 有{len(found)}封，请写长一些", UNUSABLE)
        if found[0]["id"] is None:
            fail(f"没有邮件 {typed}", UNUSABLE)
    about = {row["notice"] for row in rows} | ({notice} if notice else set())
    if len(about) > 1:
        fail("所写的邮件属于不同的通知，请分开办理", UNUSABLE)
    return [row["id"] for row in rows], about.pop()


def _done(event: str) -> int:
    """Of how many mails notify has noted that this event settled them."""
    (row,) = _ask(
        "select count(*) as n from notify.mail where handled @> "
        "jsonb_build_array(jsonb_build_object('event', cast(:event as text)))",
        event=event,
    )
    return int(row["n"])


# --- what came of them ---------------------------------------------------------------------------------


def _one(id_: str) -> dict[str, Any]:
    """By its id, or as much of it as tells it from all others."""
    found = _ask("select id, state from notify.mail where cast(id as text) like :id || '%' limit 2", id=id_)
    if len(found) != 1:
        fail(f"没有邮件 {id_}" if not found else f"不止一封邮件以 {id_} 开头", UNUSABLE)
    return found[0]


@app.command("resolve")
def resolve(
    id_: Annotated[str, typer.Argument(help="邮件编号，见 yiqi mail list --state unknown")],
    sent: Annotated[bool, typer.Option("--sent/--not-sent", help="查明已发出，或查明未发出（将再发一次）")],
    why: Annotated[str, typer.Option(help="依据，如邮件服务器日志的哪一行")],
    by: Annotated[str, typer.Option(help="经办人代码，不写姓名")],
) -> None:
    """一封送达不明的邮件由人查明：已发出则了结，未发出则以同一 Message-ID 再发。"""
    if not why.strip() or not by.strip():
        fail("请写明依据和经办人", UNUSABLE)
    mail = _one(id_)
    if not asyncio.run(_resolve(mail["id"], sent=sent, why=why.strip(), by=by.strip())):
        fail(f"邮件 {id_} 的状态是 {mail['state']}，不是 unknown", FINDINGS)
    console.print("已记为已发出" if sent else "已重新排队，将再发一次")


async def _resolve(id_: Any, *, sent: bool, why: str, by: str) -> bool:
    from sqlalchemy import text

    async with common.database() as conn:
        found = await conn.execute(text(_SENT if sent else _AGAIN), {"id": id_})
        row = found.one_or_none()
        if row is None:
            return False
        await conn.execute(
            text(
                'insert into notify.resolution (mail, attempt, sent, "by", why) '
                "values (:mail, :attempt, :sent, :by, :why)"
            ),
            {"mail": id_, "attempt": row.attempt, "sent": sent, "by": by, "why": why},
        )
        if sent:
            type_ = registry.MAIL_SENT
            said = MailSent(mail=id_, letter=row.letter, to=row.to_code, case=row.case)
            event, body = type_.wire(said, id_, row.attempt, "resolved", at=datetime.now(UTC))
            # The service's sweep publishes it.
            await conn.execute(
                text(
                    "insert into notify.outbox (id, stream, subject, body) values (:id, :stream, :subject, :body)"
                ),
                {
                    "id": event,
                    "stream": STREAM_OF[type_.cls],
                    "subject": type_.subject(row.to_code),
                    "body": body.decode(),
                },
            )
    return True


_RESOLVED = " where id = :id and state = 'unknown' returning attempt, letter, to_code, \"case\""
_SENT = "update notify.mail set state = 'sent', why = null, settled_at = now(), worker = null" + _RESOLVED
# Under the same id, and so under the same Message-ID.
_AGAIN = (
    "update notify.mail set state = 'queued', why = null, settled_at = null, worker = null, not_before = now()"
    + _RESOLVED
)


@app.command("suppressed")
def suppressed(
    addresses: Annotated[bool, typer.Option("--addresses", help="连同地址（属个人信息）")] = False,
    as_json: JsonOption = False,
) -> None:
    """不再发信的地址：被退回过，请收件单位更正。默认只列单位。"""
    rows = _ask(
        "select m.to_code, m.to_name, s.status, s.at, s.mail, s.address from notify.suppressed s "
        "left join notify.mail m on m.id = s.mail order by s.at",
    )
    if not addresses:
        for row in rows:
            del row["address"]
    columns = {"at": "时间", "to_name": "收件单位", "status": "原因", "mail": "退回的邮件"}
    show(rows, "不再发信", {**columns, **({"address": "地址"} if addresses else {})}, as_json=as_json)


@app.command("unsuppress")
def unsuppress(
    which: Annotated[str, typer.Argument(help="退回的邮件的编号（见 yiqi mail suppressed），或地址")],
) -> None:
    """恢复向一个地址发信（对方已修复邮箱）。此前失败的邮件不会自动再发。"""
    from sqlalchemy import text

    async def forget() -> int:
        async with common.database() as conn:
            done = await conn.execute(
                text(
                    "delete from notify.suppressed where address = lower(:which) or cast(mail as text) = :which"
                ),
                {"which": which},
            )
            return int(done.rowcount)

    if not asyncio.run(forget()):
        fail("没有这个地址或邮件", UNUSABLE)
    console.print("已恢复发信")
