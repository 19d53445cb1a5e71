"""`yiqi contact`: who is written to at an agency, with no address unless it is asked for.

Who may change it, and which letter goes to whom, is in the notify service.
"""

import asyncio
import sys
import uuid
from datetime import datetime
from typing import Annotated, Any, NoReturn

import typer

from services.cli import common, filing, names
from services.cli.common import UNUSABLE, AsOption, JsonOption, fail, out, show
from shared.contracts import registry
from shared.contracts.contact import ContactChanged
from shared.contracts.types import Post
from shared.notices.calendar import SHANGHAI
from shared.runtime.clock import Clock

app = typer.Typer(no_args_is_help=True)

AgencyArgument = Annotated[str, typer.Argument(help="单位：名录代码，或 K6:机构名称")]
CodeArgument = Annotated[str, typer.Argument(help="联系人代码，由单位自定，不写姓名，如 filing-1")]
DAY = ["%Y-%m-%d"]
AddressesOption = Annotated[bool, typer.Option("--addresses", help="也列出电子邮箱（个人信息）")]

POSTS: dict[Post, str] = {"filing": "报送联系人", "review": "审核联系人", "lead": "负责人"}
COLUMNS = {
    "agency": "单位",
    "contact": "联系人",
    "posts": "岗位",
    "since": "自",
    "until": "至",
    "active": "状态",
    "version": "次",
    "by": "登记单位",
}


@app.command("list")
def list_(
    agency: Annotated[str | None, typer.Option(help="只列一个单位")] = None,
    addresses: AddressesOption = False,
    as_json: JsonOption = False,
) -> None:
    """全部联系人。"""
    code = common.agency(agency).code if agency else None
    rows = [shown(row, addresses) for row in _people() if code in (None, row["agency"])]
    _show(rows, "联系人", addresses, as_json)


@app.command("show")
def show_(
    agency: AgencyArgument,
    contact: CodeArgument,
    addresses: AddressesOption = False,
    as_json: JsonOption = False,
) -> None:
    """一名联系人，和等着发给他的邮件数。"""
    code = common.agency(agency).code
    row = _found(code, contact)
    (counted,) = asyncio.run(
        common.query(
            "select count(*) filter (where settled_at is null) as waiting, "
            "count(*) filter (where state = 'sent') as sent, count(*) filter (where state = 'failed') as failed, "
            "count(*) filter (where state = 'unknown') as unknown "
            "from notify.mail where to_code = :agency and contact = :contact",
            agency=code,
            contact=contact,
        )
    )
    told = {**shown(row, addresses), "mails": counted}
    if as_json:
        out(told)
        return
    _show([told], f"{names.agency(code)} {contact}", addresses, as_json=False)
    common.table(
        "邮件",
        ("待发", "已发", "失败", "不明"),
        [[counted[k] for k in ("waiting", "sent", "failed", "unknown")]],
    )


@app.command("set")
def set_(
    agency: AgencyArgument,
    contact: CodeArgument,
    as_: AsOption,
    post: Annotated[
        list[str] | None, typer.Option(help="岗位：filing 报送、review 审核、lead 负责人；可多次")
    ] = None,
    email: Annotated[str | None, typer.Option(help="电子邮箱；写 - 则从标准输入读")] = None,
    since: Annotated[datetime | None, typer.Option(formats=DAY, help="任期自此日起")] = None,
    until: Annotated[datetime | None, typer.Option(formats=DAY, help="任期至此日止（含）")] = None,
    as_json: JsonOption = False,
) -> None:
    """登记或修改一名联系人，等到回复为止；没有写的照旧。即刻生效，任期在 --since、--until 之间。"""
    code = common.agency(agency).code
    was = _known(code, contact)
    address = sys.stdin.readline().strip() if email == "-" else email
    if was is None and not (post and address):
        fail("新的联系人须写明 --post 和 --email", UNUSABLE)
    was = was or {"version": 0, "posts": [], "address": None, "since": None, "until": None}
    if address is None and was["address"] is None:
        fail("该联系人的邮箱已清除，请写明 --email", UNUSABLE)
    posts = [key for key in POSTS if key in (post or was["posts"])]
    if set(post or ()) - set(posts):
        fail(f"岗位只有：{'、'.join(f'{key} {name}' for key, name in POSTS.items())}", UNUSABLE)
    changed = ContactChanged(
        agency=code,
        contact=contact,
        version=was["version"] + 1,
        posts=tuple(posts),
        email=address or was["address"],
        since=since.date() if since else was["since"],
        until=until.date() if until else was["until"],
    )
    _publish(as_, changed, as_json, "已登记")


@app.command("end")
def end(
    agency: AgencyArgument,
    contact: CodeArgument,
    as_: AsOption,
    on: Annotated[datetime | None, typer.Option(formats=DAY, help="任期的最后一天；不写则即刻")] = None,
    as_json: JsonOption = False,
) -> None:
    """不再写信给一名联系人：等着发的改发给同岗位的人或单位的邮箱。"""
    code = common.agency(agency).code
    was = _found(code, contact)
    if was["address"] is None:
        fail("该联系人早已结束，邮箱已清除", UNUSABLE)
    changed = ContactChanged(
        agency=code,
        contact=contact,
        version=was["version"] + 1,
        posts=tuple(was["posts"]),
        email=was["address"],
        since=was["since"],
        until=on.date() if on else was["until"],
        active=on is not None,
    )
    _publish(as_, changed, as_json, "已结束")


def _publish(as_: str, changed: ContactChanged, as_json: bool, done: str) -> NoReturn:
    publisher = common.agency(as_).code

    async def ask() -> dict[str, Any]:
        async with common.bus(publisher) as client:
            return await filing.publish(client, publisher, registry.CONTACT_CHANGED, changed, uuid.uuid4())

    said = f"{done} {names.agency(changed.agency)} {changed.contact}（第{changed.version}次）"
    filing.tell(asyncio.run(ask()), as_json, lambda _: said)


# --- what is known ------------------------------------------------------------------------------------


def _people() -> list[dict[str, Any]]:
    """Of the directory, and over it the changes."""
    listed = {
        (a.code, c.code): {
            "agency": a.code,
            "contact": c.code,
            "posts": list(c.posts),
            "address": c.email,
            "since": c.since,
            "until": c.until,
            "active": c.active,
            "version": 0,
            "by": "",
        }
        for a in common.directory().agencies
        for c in a.contacts
    }
    rows = asyncio.run(
        common.query(
            "select agency, code as contact, posts, address, since, until, active, version, by from notify.contact"
        )
    )
    found = {**listed, **{(row["agency"], row["contact"]): row for row in rows}}
    return [found[key] for key in sorted(found)]


def _known(agency: str, contact: str) -> dict[str, Any] | None:
    return next((r for r in _people() if (r["agency"], r["contact"]) == (agency, contact)), None)


def _found(agency: str, contact: str) -> dict[str, Any]:
    found = _known(agency, contact)
    if found is None:
        fail(f"{agency} 没有联系人 {contact}，见 yiqi contact list", UNUSABLE)
    return found


def shown(row: dict[str, Any], addresses: bool) -> dict[str, Any]:
    return {key: value for key, value in row.items() if addresses or key != "address"}


def _show(rows: list[dict[str, Any]], title: str, addresses: bool, as_json: bool) -> None:
    named = {
        "agency": lambda r: names.agency(r["agency"]),
        "posts": lambda r: "、".join(POSTS[post] for post in r["posts"]),
        "active": _state,
        "by": lambda r: names.agency(r["by"]) if r["by"] else "名录",
    }
    columns = {**COLUMNS, **({"address": "邮箱"} if addresses else {})}
    show(rows, title, columns, as_json=as_json, named=named)


def _state(row: dict[str, Any]) -> str:
    today = Clock(common.settings().clock).now().astimezone(SHANGHAI).date()
    if not row["active"] or (row["until"] and row["until"] < today):
        return "已结束"
    return "未到任" if row["since"] and row["since"] > today else "在任"
