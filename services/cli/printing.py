"""Filings as their annexes print them: `yiqi case document`, and the documents in a dossier and in a collection; lists that
nobody files: `yiqi catalogue summary`.

How a page is made is in `services/export/card.py`; what else a dossier or a collection holds, in their own modules.
"""

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import common
from services.cli.archive import writing
from services.cli.common import FINDINGS, UNUSABLE, JsonOption, console, fail, out
from shared.notices.calendar import SHANGHAI
from shared.notices.load import load_all
from shared.notices.values import chinese_date

if TYPE_CHECKING:
    from services.export.table import Row as Printed
    from shared.notices.model import Form, Notice

Row = Mapping[str, Any]

CASE = """select c.number, c.notice, c.form, c."values", c.filed, {contacts} as contacts from review."case" c {join}
where c.number = :number or cast(c."case" as text) = :number"""
CARDS = """select c.number, r.form, r.version, r.filed, r."values", {contacts} as contacts,
(select h.at from review.history h where h."case" = r."case" and h.version = r.version) as at
from export."row" r join review."case" c using ("case") {join}
where r.notice = :notice and r.shown and r.form = any(:forms) order by r.form, c.number"""
OPEN = """select c.number, c.filed, c.district, c."values", {contacts} as contacts from review."case" c {join}
where c.notice = :notice and c.form = :form and not c.stage = any(:closed)
and (cast(:district as text) is null or c.district = :district) order by c.filed, c.number"""
OF_CASE = 'left join review.contact p on p."case" = c."case" and p.revision = c.revision'
OF_ROW = 'left join export.contact p on p."case" = r."case"'
"""Contact data, where it is asked for: who may not read it may ask for the rest."""


def document(
    number: Annotated[str, typer.Argument(help="项目编号")],
    target: Annotated[Path, typer.Option("--out", help="写到哪个文件夹")],
    contacts: Annotated[bool, typer.Option("--contacts", help="连同联系方式（须有权读取）")] = False,
    as_json: JsonOption = False,
) -> None:
    """把一个项目最近一次报送的内容印成附件的样子（Word 和 PDF）。"""
    found = asyncio.run(asked(CASE, OF_CASE if contacts else "", number=number))
    if not found:
        fail(f"没有项目 {number}", UNUSABLE)
    (case,) = found
    made = of_case(case, case["contacts"] or {}, contacts=contacts)
    if not made:
        fail(f"没有装载通知 {case['notice']}，不知道这张表的样子", FINDINGS)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, data in made.items():
        path = target / f"{case['number']}-{name}"
        if path.exists():
            fail(f"{path} 已经存在；请写另一个文件夹", UNUSABLE)
        with writing(path) as file:
            file.write(data)
        written.append(str(path))
    if as_json:
        out({"number": case["number"], "files": written})
    else:
        console.print("、".join(written), markup=False, soft_wrap=True)


def summary(
    notice: common.NoticeOption,
    form: Annotated[str, typer.Option("--form", help="哪张汇总表，如 F13")],
    target: Annotated[Path, typer.Option("--out", help="写到哪个文件夹")],
    district: Annotated[str | None, typer.Option(help="只要一个区的（代码），并由它填报")] = None,
    on: Annotated[datetime | None, typer.Option("--on", formats=["%Y-%m-%d"], help="填报日期")] = None,
    contacts: Annotated[bool, typer.Option("--contacts", help="连同联系方式（须有权读取）")] = False,
    as_json: JsonOption = False,
) -> None:
    """印出一张无人填报的表：汇总表由项目汇成，各区联系方式取自单位名录。"""
    from services.export import card, formats

    known = common.notice(notice).notice
    found = next((one for one in known.summaries if one.form.id == form), None)
    if found is None:
        have = "、".join(one.form.id for one in known.summaries)
        fail(f"这个通知没有汇总表 {form}{'；现有：' + have if have else ''}", UNUSABLE)
    of_cases = found.of in known.by_form
    rows = asyncio.run(_cases(known, found.of, district, on, contacts)) if of_cases else _districts(known)
    if not rows:
        fail("没有可汇总的项目", FINDINGS)
    shown = card.narrowed(found.form, found.form.personal if of_cases and not contacts else ())
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for file in formats.render(known, shown, rows, public=False, own=common.settings().fonts):
        path = target / file.name
        path.write_bytes(file.data)
        written.append(str(path))
    if as_json:
        out({"form": form, "rows": len(rows), "files": written})
    else:
        console.print(f"{len(rows)}行：{'、'.join(written)}", markup=False, soft_wrap=True)


async def _cases(
    notice: "Notice", form: str, district: str | None, on: datetime | None, contacts: bool
) -> list["Printed"]:
    """The cases that are not closed, in the order in which they came."""
    from services.export.table import Row as Printed

    closed = [stage.id for stage in notice.procedure.stages if stage.ends == "closed"]
    found = await asked(
        OPEN, OF_CASE if contacts else "", notice=notice.id, form=form, closed=closed, district=district
    )
    directory = common.directory()
    said = {"filled_by": agency.name if district and (agency := directory.find(district)) else ""}
    said["filled_on"] = chinese_date(on.date()) if on else ""
    rows = []
    for row in found:
        where = directory.find(row["district"])
        values = {
            **row["values"],
            **(row["contacts"] or {}),
            **said,
            "district": where.short if where else "",
        }
        rows.append(Printed(row["number"], row["filed"], values))
    return rows


def _districts(notice: "Notice") -> list["Printed"]:
    from services.export.table import Row as Printed

    at = datetime.combine(notice.issued_on, time(), SHANGHAI)
    return [
        Printed(
            f"{n:04}", at, {"agency": one.name, "phones": " ".join(one.phones), "address": one.address or ""}
        )
        for n, one in enumerate(common.directory().of_kind("K2"))
    ]


async def asked(sql: str, join: str, **values: Any) -> list[dict[str, Any]]:
    """With contact data if they are joined. What the database does not let us read is an error, never left out in silence."""
    import asyncpg
    from sqlalchemy.exc import ProgrammingError

    try:
        return await common.query(sql.format(join=join, contacts='p."values"' if join else "null"), **values)
    except ProgrammingError as error:
        if isinstance(getattr(error.orig, "__cause__", None), asyncpg.InsufficientPrivilegeError):
            fail("数据库不允许本用户读取联系方式", FINDINGS)
        raise


def of_case(case: Row, personal: Mapping[str, Any], *, contacts: bool) -> dict[str, bytes]:
    """What was filed, by the name of the file; without contact data its places are left out too. Nothing when nobody
    knows the form any more."""
    compiled = load_all(common.settings().notices).get(case["notice"])
    form = compiled.notice.by_form.get(case["form"]) if compiled else None
    if compiled is None or form is None:
        return {}
    name = _titled(compiled.notice, form, public=False)
    row = {**case, "values": {**case["values"], **personal}}
    without = () if contacts else form.personal
    return {
        f"{name}.{ending}": data for ending, data in _printed(compiled.notice, form, row, without).items()
    }


async def cards(notice: "Notice", *, public: bool) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """The published cards of a round, a folder for each form, and what the manifest says of them. For everybody only
    those of which the notice shows everybody something."""
    from services.export.bundle import digest
    from services.export.card import hidden

    forms = [form for form in notice.forms if form.card and (form.public or not public)]
    if not forms:
        return {}, []
    named = [form.id for form in forms]
    rows = await asked(CARDS, "" if public else OF_ROW, notice=notice.id, forms=named)
    files: dict[str, bytes] = {}
    told = []
    for row in rows:
        form = notice.by_form[row["form"]]
        folder = _titled(notice, form, public=public)
        whole = {**row, "values": {**row["values"], **(row["contacts"] or {})}}
        printed = _printed(notice, form, whole, hidden(form) if public else ())
        made = {f"{folder}/{row['number']}.{ending}": data for ending, data in printed.items()}
        files |= made
        told.append(
            {
                "form": form.id,
                "annex": form.annex,
                "number": row["number"],
                "version": row["version"],
                "published_on": row["at"].astimezone(SHANGHAI).date(),
                "files": [{"name": name, "sha256": digest(data)} for name, data in made.items()],
            }
        )
    return files, told


def _printed(notice: "Notice", form: "Form", row: Row, without: Collection[str]) -> dict[str, bytes]:
    from services.export import card, formats, table

    one = table.Row(row["number"], row["filed"], row["values"])
    return formats.printed(card.filed(notice, form, one, without=without), common.settings().fonts)


def _titled(notice: "Notice", form: "Form", *, public: bool) -> str:
    from services.export.table import file_name

    return file_name(notice, form, public=public, suffix="").removesuffix(".")
