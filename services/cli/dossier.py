"""`yiqi case dossier`: all that is held of one case, frozen in a ZIP; the same content gives the same bytes.

How a bundle is sealed is in `services/export/bundle.py`; looking at a case is in `cases.py`.
"""

import asyncio
import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import collecting, common, names, printing
from services.cli.auditing import as_of_now
from services.cli.common import FINDINGS, UNUSABLE, JsonOption, console, fail, out

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

Row = dict[str, Any]

TABLES = (
    ("submission", "review", "case", '"case" = :case', '"case"'),
    ("contacts", "review", "contact", '"case" = :case', "revision"),
    ("filings", "review", "filing", '"case" = :case', "revision"),
    ("history", "review", "history", '"case" = :case', "version"),
    ("duties", "review", "duty", '"case" = :case', "due, duty, period"),
    ("refusals", "review", "refusal", '"case" = :case', "at, key, n"),
    ("packages", "intake", "package", "key = any(:packages)", "received, key"),
    ("files", "intake", "file", "sha256 = any(:files)", "sha256"),
    ("mails", "notify", "mail", '"case" = :case', "owed_at, key"),
    ("bounces", "notify", "bounce", "mail in (select id from notify.mail where \"case\" = :case)", "at, id"),
)  # fmt: skip
"""What is held of a case: the file, schema, table, rows, and their order."""

CONTACTS: Mapping[str, tuple[str, ...]] = {
    "contacts": ("values", "email"),
    "files": ("name", "body"),
    "mails": ("address", "params", "attachments", "why", "handled"),
    "bounces": ("why",),
}
"""What says who a person is, and is in a dossier only with `--contacts`. Of a history or a filing nobody can take it
out (an officer wrote it into a reason), and who may not read that may make no dossier."""

PASSING = {
    "mails": ("worker", "not_before", "attempt"),
    "submission": ("wakes",),
    "duties": ("wakes",),
}
"""What the services need for their work, and is no part of what happened."""


def dossier(
    number: Annotated[str | None, typer.Argument(help="项目编号")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="写成哪个文件，如 案卷.zip")] = None,
    contacts: Annotated[
        bool, typer.Option("--contacts", help="连同联系方式、报送的文件和邮件内容（须有权读取）")
    ] = False,
    check: Annotated[Path | None, typer.Option("--check", help="核对以前封存的案卷，不连接任何服务")] = None,
    as_json: JsonOption = False,
) -> None:
    """封存一个项目的案卷：报送内容（数据，并印成附件的样子）、文件、问题、各项决定、邮件，附清单和摘要。"""
    if check is not None:
        collecting.checked(check, as_json=as_json)
        return
    if number is None or target is None:
        fail("请写项目编号和 --out，或写 --check", UNUSABLE)
    if target.exists():
        fail(f"{target} 已经存在；案卷从不覆盖", UNUSABLE)
    sealed = asyncio.run(_sealed(number, contacts=contacts))
    digest = collecting.write(sealed, target)
    if as_json:
        out({"zip": str(target), "sha256": digest, "files": sorted(sealed)})
    else:
        console.print(f"{target}：{len(sealed)}个文件，摘要 {digest}", markup=False, soft_wrap=True)


async def _sealed(number: str, *, contacts: bool) -> dict[str, bytes]:
    """All of one moment. What the database does not let us read is an error, never left out in silence."""
    import asyncpg
    from sqlalchemy.exc import ProgrammingError

    try:
        async with as_of_now() as conn:
            read = await _rows(conn, number, contacts=contacts)
    except ProgrammingError as error:
        if not isinstance(getattr(error.orig, "__cause__", None), asyncpg.InsufficientPrivilegeError):
            raise
        what = "联系方式、文件和邮件内容；不写 --contacts 即不含这些" if contacts else "项目的经过"
        fail(f"数据库不允许本用户读取{what}", FINDINGS)
    return bundled(read, contacts=contacts)


def bundled(read: Mapping[str, Sequence[Row]], *, contacts: bool) -> dict[str, bytes]:
    """The files of a dossier, from the rows of every table."""
    from services.export.bundle import seal, written

    files: dict[str, bytes] = {}
    (case,) = read["submission"]
    for name, rows in read.items():
        if name == "files":
            for row in rows:
                if "body" in row:
                    files[f"files/{row['sha256'][:16]}-{_safe(row['name'])}"] = bytes(row["body"])
            rows = [{key: value for key, value in row.items() if key != "body"} for row in rows]
        files[f"{name}.json"] = written([_told(row) for row in rows])
    files["经过.csv"] = _history(case, read["history"])
    personal = [row["values"] for row in read.get("contacts", ()) if row["revision"] == case["revision"]]
    files |= printing.of_case(case, personal[0] if personal else {}, contacts=contacts)
    facts = {
        "case": str(case["case"]),
        "number": case["number"],
        "notice": case["notice"],
        "form": case["form"],
        "version": case["version"],
        "stage": case["stage"],
        "history_head": read["history"][-1]["hash"] if read["history"] else None,
        "contacts": contacts,
        "counts": {name: len(rows) for name, rows in read.items()},
        "let_go": sorted(_missing(read)),
    }
    return seal("dossier", facts, files)


async def _rows(conn: "AsyncConnection", number: str, *, contacts: bool) -> dict[str, list[Row]]:
    from sqlalchemy import text

    from shared.runtime.database import metadata_of

    async def ask(sql: str, **values: Any) -> list[Row]:
        return [dict(row._mapping) for row in await conn.execute(text(sql), values)]

    found = await ask(
        'select "case", package from review."case" where number = :n or cast("case" as text) = :n', n=number
    )
    if not found:
        fail(f"没有项目 {number}", UNUSABLE)
    case = found[0]["case"]
    earlier = await ask(
        "select filing ->> 'package' as package from review.filing where \"case\" = :case", case=case
    )
    packages = sorted({row["package"] for row in (*found, *earlier) if row["package"]})
    attached = await ask('select sha256 from intake.attached where "case" = :case', case=case)
    of_packages = await ask("select files from intake.package where key = any(:packages)", packages=packages)
    files = sorted({row["sha256"] for row in attached} | {sha for row in of_packages for sha in row["files"]})
    read: dict[str, list[Row]] = {}
    for name, schema, table, where, order in TABLES:
        hidden = (*PASSING.get(name, ()), *(() if contacts else CONTACTS.get(name, ())))
        columns = [
            c.name for c in metadata_of(schema).tables[f"{schema}.{table}"].columns if c.name not in hidden
        ]
        listed = ", ".join(f'"{column}"' for column in columns)
        if name == "contacts" and not contacts:
            continue
        values = {"case": case, "packages": packages, "files": files}
        asked = {key: value for key, value in values.items() if f":{key}" in where}
        read[name] = await ask(
            f'select {listed} from {schema}."{table}" where {where} order by {order}', **asked
        )
    return read


def _missing(read: Mapping[str, Sequence[Row]]) -> set[str]:
    """The digests of files that were filed and are no longer held."""
    named = {sha for row in read["packages"] for sha in row["files"]}
    return named - {row["sha256"] for row in read["files"]}


def _safe(name: str) -> str:
    """A name that stays in its folder on every system."""
    kept = "".join("_" if c in '\\/:*?"<>|' or not c.isprintable() else c for c in name)
    return kept.strip(". ")[-120:] or "_"


def _told(row: Row) -> Row:
    """A row as JSON has it; a moment in UTC, whatever the connection shows."""
    return {key: _plain(value) for key, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _history(case: Row, history: Sequence[Row]) -> bytes:
    """The history for people, as a table that every spreadsheet program opens."""
    page = StringIO()
    table = csv.writer(page)
    table.writerow(("版本", "时间", "单位", "结果", "阶段", "理由", "依据"))
    steps = names.steps(case["notice"], history)
    for line, (outcome, stage) in zip(history, steps, strict=True):
        rules = "、".join([*line["rules"], *line["acknowledges"]])
        cells = (line["version"], common.shown(line["at"]), names.agency(line["actor"]), outcome, stage)
        table.writerow(_text(cell) for cell in (*cells, line["reason"], rules))
    return b"\xef\xbb\xbf" + page.getvalue().encode()


def _text(cell: object) -> str:
    """What somebody wrote and begins like a formula stays a text."""
    text = str(cell)
    return f"'{text}" if text.startswith(tuple("=+-@＝＋－＠\t\r")) else text
