"""`yiqi check`, `submit`: judging a workbook offline, filing it.

What is judged is in the services; here are only the asking and the telling. Deciding is in `deciding.py`.
"""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import common
from services.cli.common import (
    FINDINGS,
    NO_SERVER,
    UNUSABLE,
    AsOption,
    JsonOption,
    NoticeOption,
    console,
    fail,
    out,
    table,
)
from shared.contracts import registry
from shared.contracts.envelope import CONTENT_TYPE
from shared.contracts.registry import EventType
from shared.contracts.submission import Filer, PackageFiled
from shared.contracts.types import FileRef, Finding
from shared.notices.calendar import SHANGHAI
from shared.notices.directory import Agency

if TYPE_CHECKING:
    from nats.aio.client import Client

    from services.intake.parse import Checked, Filing

ANSWER_WITHIN = 30.0
SCANS = {".pdf", ".jpg", ".jpeg", ".png", ".tif", ".tiff"}
SEVERITY = {"hard": "[red]必须修改[/red]", "soft": "[yellow]请确认[/yellow]", "info": "提示"}


def _filer(agency: Agency, email: str | None = None, registered: bool | None = None) -> Filer:
    return Filer(
        code=agency.code,
        kind=agency.kind,
        name=agency.name,
        email=email or agency.email,
        miit_registered=registered,
    )


# --- offline -----------------------------------------------------------------------------------------


def check(
    file: Annotated[Path, typer.Argument(help="填好的附件（.xlsx .xls .ods；卡片式附件也可以是 .docx）")],
    notice: NoticeOption,
    as_: AsOption,
    as_json: JsonOption = False,
    on: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="按哪一天判断是否逾期；不写则不判断")
    ] = None,
    registered: Annotated[
        bool, typer.Option("--registered/--not-registered", help="是否已在工信部服务跟踪平台注册")
    ] = True,
) -> None:
    """离线校验一个填好的附件，不需要服务器。以往目录和其他文件里的项目不在此判断。"""
    from services.intake import child, parse
    from services.intake.sheets import Unusable

    if not file.is_file():
        fail(f"没有文件 {file}", UNUSABLE)
    compiled, agency = common.notice(notice), common.agency(as_)
    issued = compiled.notice.issued_on if on is None else on.date()
    received = datetime.combine(issued, time(12), SHANGHAI)
    filing = parse.Filing(
        compiled,
        _filer(agency, registered=registered),
        None,
        agency.district or compiled.notice.issuer,
        received,
    )
    try:
        sheets = asyncio.run(child.read(file.read_bytes(), file.name, compiled))
    except Unusable as error:
        if as_json:
            out(
                {
                    "notice": notice,
                    "form": None,
                    "sheet": None,
                    "rows": [],
                    "findings": [_told(parse.fault("R-COL-018", error.code, error.detail, "#"))],
                }
            )
        else:
            console.print(f"[red]{file.name} 无法使用[/red]：{error.detail}（{error.code}）")
        raise typer.Exit(UNUSABLE) from None
    finally:
        child.close()
    results = [_result(filing, sheet) for sheet in parse.offline(filing, sheets)]
    if as_json:
        out(results[0] if len(results) == 1 else results)
    else:
        for result in results:
            _print(result)
    raise typer.Exit(
        FINDINGS if any(f["severity"] != "info" for r in results for f in r["findings"]) else common.GOOD
    )


def _result(filing: "Filing", checked: "Checked") -> dict[str, Any]:
    rows = [
        {
            "row": (j.place[1] or None) if j.place else None,
            "accepted": not j.hard,
            "values": j.row.stored or raw,
        }
        for j, raw in checked.rows
    ]
    return {
        "notice": filing.notice.notice.id,
        "form": checked.form,
        "sheet": checked.sheet,
        "rows": rows,
        "findings": [_told(f) for f in checked.findings],
    }


def _told(finding: Finding) -> dict[str, Any]:
    return {
        key: getattr(finding, key)
        for key in ("rule", "code", "severity", "row", "cell", "pointer", "clause", "detail")
    }


def _print(result: dict[str, Any]) -> None:
    accepted = sum(r["accepted"] for r in result["rows"])
    console.print(
        f"[bold]{result['sheet']}[/bold]（{result['form'] or '不是本通知的附件'}）："
        f"{len(result['rows'])}行，可受理{accepted}行，问题{len(result['findings'])}处"
    )
    if result["findings"]:
        table(
            "",
            ("位置", "程度", "规则", "条款", "说明"),
            (
                (
                    f["cell"] or (f"第{f['row']}行" if f["row"] else "全表"),
                    SEVERITY[f["severity"]],
                    f["rule"],
                    f["clause"],
                    f["detail"],
                )
                for f in result["findings"]
            ),
        )


# --- filing ------------------------------------------------------------------------------------------


def submit(
    files: Annotated[list[Path], typer.Argument(help="填好的附件，以及盖章扫描件（PDF 或图片）")],
    notice: NoticeOption,
    as_: AsOption,
    recommender: Annotated[str | None, typer.Option(help="请哪个单位推荐（名录代码）")] = None,
    all_or_nothing: Annotated[bool, typer.Option("--all-or-nothing", help="有一行不合格就全部不报")] = False,
    email: Annotated[str | None, typer.Option(help="回信地址，名录中没有时填写")] = None,
    registered: Annotated[
        bool | None, typer.Option("--registered/--not-registered", help="已在工信部服务跟踪平台注册")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """报送一套附件，等到回复为止。同样的文件再报一次不会重复。"""
    for file in files:
        if not file.is_file():
            fail(f"没有文件 {file}", UNUSABLE)
    compiled, agency = common.notice(notice), common.agency(as_)
    contents = [(f.name, "scan" if f.suffix.lower() in SCANS else "workbook", f.read_bytes()) for f in files]
    answer = asyncio.run(
        file_package(
            compiled.notice.id, _filer(agency, email, registered), contents, recommender, all_or_nothing
        )
    )
    _tell(answer, as_json)


async def file_package(
    notice: str,
    filer: Filer,
    contents: Sequence[tuple[str, str, bytes]],
    recommender: str | None = None,
    all_or_nothing: bool = False,
    client: "Client | None" = None,
    wait: float = ANSWER_WITHIN,
) -> dict[str, Any]:
    """Send the files, then the event that refers to them; the answer of intake as `{accepted|rejected…}`.

    The id of the event follows from what is filed, so filing the same again is the same event.
    """
    if client is None:
        async with common.bus() as client:
            return await file_package(notice, filer, contents, recommender, all_or_nothing, client, wait)
    from shared.runtime.files import send

    refs = []
    for name, role, body in contents:
        sha256 = await send(client, filer.code, body)
        refs.append(FileRef(role=role, sha256=sha256, size=len(body), name=name))
    data = PackageFiled(
        notice=notice,
        filer=filer,
        recommender=recommender,
        files=tuple(refs),
        mode="all_or_nothing" if all_or_nothing else "valid_rows",
    )
    return await publish(client, filer.code, registry.PACKAGE_FILED, data, data.model_dump_json(), wait=wait)


async def publish(
    client: "Client", publisher: str, type_: EventType, data: Any, *cause: object, wait: float = ANSWER_WITHIN
) -> dict[str, Any]:
    """Publish an event as `publisher` and wait for its feedback."""
    from shared.runtime.streams import IN

    event = type_.event(
        data, publisher, *cause, at=datetime.now(UTC), source=f"urn:cn:gov:gz:{publisher}:yiqi-cli"
    )
    feedback = await client.subscribe(f"sme.out.v1.{publisher}.event.*")
    try:
        ack = await client.jetstream(timeout=5).publish(
            type_.subject(publisher),
            event.wire(),
            stream=IN,
            headers={"Nats-Msg-Id": f"{publisher}:{event.id}", "Content-Type": CONTENT_TYPE},
        )
        if ack.duplicate:
            return {"accepted": event.id, "duplicate": True, "errors": []}
        async with asyncio.timeout(wait):
            async for message in feedback.messages:
                answer: dict[str, Any] = json.loads(message.data)["data"]
                if event.id in (answer.get("accepted"), (answer.get("rejected") or {}).get("id")):
                    return answer
    except TimeoutError:
        fail(f"已经送达，{wait:.0f}秒内没有回复；服务恢复后会处理，无须重报", NO_SERVER)
    finally:
        await feedback.unsubscribe()
    raise AssertionError("the feedback ended")


def _tell(answer: dict[str, Any], as_json: bool) -> None:
    refused = "rejected" in answer
    if as_json:
        out(answer)
    else:
        if answer.get("duplicate"):
            console.print("同样的内容已经报送过，不重复处理")
        elif refused:
            console.print(f"[red]{answer['title']}[/red]：{answer['detail']}")
        else:
            console.print(f"[green]已受理[/green] {answer.get('number') or ''}")
        if answer.get("errors"):
            table(
                "",
                ("位置", "程度", "规则", "条款", "说明"),
                (
                    (
                        f.get("cell") or (f"第{f['row']}行" if f.get("row") else ""),
                        SEVERITY[f["severity"]],
                        f["rule"],
                        f["clause"],
                        f["detail"],
                    )
                    for f in answer["errors"]
                ),
            )
    raise typer.Exit(FINDINGS if refused else common.GOOD)
