"""`yiqi check`, `submit`: judging a workbook offline, filing it.

What is judged is in the services; here are only the asking and the telling. Deciding is in `deciding.py`.
"""

import asyncio
import gc
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, time
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape

from services.cli import common, papers
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
from shared.notices.load import CompiledNotice
from shared.notices.model import Notice

if TYPE_CHECKING:
    from nats.aio.client import Client

    from services.intake.parse import Checked, Filing

ANSWER_WITHIN = 30.0
RecommenderOption = Annotated[
    str | None, typer.Option("--recommender", metavar="CODE", help="请哪个单位推荐（名录代码）")
]
OnlyFaultsOption = Annotated[
    bool, typer.Option("--only-faults", help="标注的文件里只留有问题的行，改好后可直接再报")
]
SEVERITY = {"hard": "[red]必须修改[/red]", "soft": "[yellow]请确认[/yellow]", "info": "提示"}


def _filer(agency: Agency, email: str | None = None, registered: bool | None = None) -> Filer:
    return Filer(
        code=agency.code,
        kind=agency.kind,
        name=agency.name,
        email=email or agency.email,
        miit_registered=registered,
    )


def _filing(
    compiled: CompiledNotice, filer: Filer, agency: Agency, recommender: str | None, received: datetime
) -> "Filing":
    """As intake would make it, with what the directory knows."""
    from services.intake import parse

    by = None
    if recommender and recommender != agency.code:
        by = common.directory().find(recommender)
        if by is None or by.kind not in ("K1", "K2", "K5"):
            fail(f"推荐单位应为有关部门、区主管部门或行业协会的名录代码，没有 {recommender}", UNUSABLE)
    district = parse.district_of(agency, by, compiled.notice.issuer)
    department = common.directory().find(district)
    return parse.Filing(
        compiled, filer, by, district, received, district_name=department.short if department else ""
    )


# --- offline -----------------------------------------------------------------------------------------


def check(
    file: Annotated[Path, typer.Argument(help="填好的附件（.xlsx .xls .ods；卡片式附件也可以是 .docx）")],
    notice: NoticeOption,
    as_: AsOption,
    recommender: RecommenderOption = None,
    as_json: JsonOption = False,
    on: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="按哪一天判断是否逾期；不写则不判断")
    ] = None,
    registered: Annotated[
        bool, typer.Option("--registered/--not-registered", help="是否已在工信部服务跟踪平台注册")
    ] = True,
    marked: Annotated[
        Path | None, typer.Option(help="把标出问题的文件另存到这里（.xlsx；Word 文档则为 .docx）")
    ] = None,
    only_faults: OnlyFaultsOption = False,
) -> None:
    """离线校验一个填好的附件，不需要服务器。材料、扫描件和以往报送不在此判断。"""
    gc.disable()  # one file, and then the process ends: looking for cycles took a quarter of the time of a long one
    from services.intake import child, parse
    from services.intake.sheets import Unusable

    if not file.is_file():
        fail(f"没有文件 {file}", UNUSABLE)
    if only_faults and marked is None:
        fail("--only-faults 须与 --marked 同时使用", UNUSABLE)
    compiled, agency = common.notice(notice), common.agency(as_)
    issued = compiled.notice.issued_on if on is None else on.date()
    received = datetime.combine(issued, time(12), SHANGHAI)
    filing = _filing(compiled, _filer(agency, registered=registered), agency, recommender, received)
    try:
        sheets = asyncio.run(child.read(file.read_bytes(), file.name, compiled))
        checked = parse.offline(filing, sheets)
        if marked is not None:
            found = [f for one in checked for f in one.findings]
            copy = child.mark(file.read_bytes(), file.name, found, compiled, only_faults=only_faults)
            marked.write_bytes(asyncio.run(copy))
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
    results = [_result(filing, sheet) for sheet in checked]
    if as_json:
        out(results[0] if len(results) == 1 else results)
    else:
        for result in results:
            _print(result)
        console.print(f"未核对：{'、'.join(_unchecked(compiled.notice, on))}")
    raise typer.Exit(
        FINDINGS if any(f["severity"] != "info" for r in results for f in r["findings"]) else common.GOOD
    )


def _unchecked(notice: Notice, on: datetime | None) -> list[str]:
    """What cannot be known without a server."""
    papers_, deadline = ["材料"] if notice.materials else [], ["截止日"] if on is None else []
    return [*papers_, "扫描件", *deadline, "以往报送"]


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
    recommender: RecommenderOption = None,
    material: Annotated[
        list[str] | None,
        typer.Option(help="某一种材料，写作 KEY=文件，可多次；all=文件 是全部材料合订为一份"),
    ] = None,
    all_or_nothing: Annotated[bool, typer.Option("--all-or-nothing", help="有一行不合格就全部不报")] = False,
    only_faults: OnlyFaultsOption = False,
    email: Annotated[str | None, typer.Option(help="回信地址，名录中没有时填写")] = None,
    registered: Annotated[
        bool | None, typer.Option("--registered/--not-registered", help="已在工信部服务跟踪平台注册")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """报送一套附件，等到回复为止。同样的文件再报一次不会重复。"""
    compiled, agency = common.notice(notice), common.agency(as_)
    gathered = papers.gather(compiled.notice, files, material or ())
    filer = _filer(agency, email, registered)
    asked = _filing(compiled, filer, agency, recommender, datetime.now(UTC))
    if not as_json:
        papers.tell(asked, gathered)
    contents = [(paper.path.name, paper.role, paper.path.read_bytes()) for paper in gathered]
    answer = asyncio.run(
        file_package(
            compiled.notice.id,
            filer,
            contents,
            recommender,
            all_or_nothing,
            materials=[paper.material for paper in gathered],
            only_faults=only_faults,
        )
    )
    tell(answer, as_json, _filed)


async def file_package(
    notice: str,
    filer: Filer,
    contents: Sequence[tuple[str, str, bytes]],
    recommender: str | None = None,
    all_or_nothing: bool = False,
    client: "Client | None" = None,
    wait: float = ANSWER_WITHIN,
    materials: Sequence[str | None] = (),
    only_faults: bool = False,
) -> dict[str, Any]:
    """Send the files, then the event that refers to them; the answer of intake as `{accepted|rejected…}`.

    `materials` says, in the order of the files, which paper of the notice each is. The id of the event follows from
    what is filed, so filing the same again is the same event.
    """
    if client is None:
        async with common.bus(filer.code) as client:
            return await file_package(
                notice, filer, contents, recommender, all_or_nothing, client, wait, materials, only_faults
            )
    from shared.runtime.files import send

    refs = []
    for (name, role, body), material in zip_longest(contents, materials):
        sha256 = await send(client, filer.code, body)
        refs.append(FileRef(role=role, sha256=sha256, size=len(body), name=name, material=material))
    data = PackageFiled(
        notice=notice,
        filer=filer,
        recommender=recommender,
        files=tuple(refs),
        mode="all_or_nothing" if all_or_nothing else "valid_rows",
        only_faults=only_faults,
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
        try:
            async with asyncio.timeout(wait):
                if ack.duplicate:
                    return {**await _earlier(client, publisher, event.id), "duplicate": True}
                async for message in feedback.messages:
                    answer: dict[str, Any] = json.loads(message.data)["data"]
                    if event.id in (answer.get("accepted"), (answer.get("rejected") or {}).get("id")):
                        return answer
        except TimeoutError:
            fail(f"已经送达，{wait:.0f}秒内没有回复；服务恢复后会处理，无须重报", NO_SERVER)
    finally:
        await feedback.unsubscribe()
    raise AssertionError("the feedback ended")


async def _earlier(client: "Client", publisher: str, id_: str) -> dict[str, Any]:
    """The answer to an event that the bus has already, once there is one."""
    from nats.errors import NoRespondersError

    question = json.dumps({"id": id_}).encode()
    while True:
        with suppress(NoRespondersError):
            said = await client.request(registry.EVENT_STATUS.subject(publisher), question, timeout=5)
            if answer := json.loads(said.data).get("answer"):
                found: dict[str, Any] = answer["data"]
                return found
        await asyncio.sleep(0.5)


def _filed(answer: dict[str, Any]) -> str:
    """What became of a package, as far as the answer says."""
    broken = [f for f in answer.get("errors") or () if f["severity"] == "hard"]
    outcome = "部分受理，其余须修改后重报" if broken else "已受理"
    return (
        f"{outcome} {answer['number']}" if answer.get("number") else f"{outcome}；项目编号见 yiqi case list"
    )


def tell(answer: dict[str, Any], as_json: bool, done: Callable[[dict[str, Any]], str]) -> NoReturn:
    """An answer of the services, and the exit status that it makes; `done` words a success."""
    refused = "rejected" in answer
    if as_json:
        out(answer)
    else:
        if answer.get("duplicate"):
            console.print("同样的内容已经报送过，不重复处理；当时的答复：")
        if refused:
            console.print(f"[red]{escape(answer['title'])}[/red]：{escape(answer['detail'])}")
        else:
            console.print(f"[green]{escape(done(answer))}[/green]")
        if errors := answer.get("errors"):
            _findings(errors)
    raise typer.Exit(FINDINGS if refused else common.GOOD)


def place(finding: dict[str, Any]) -> str:
    """The cell, the row, or which of many decisions or mails, counted from 1."""
    if finding.get("cell") or finding.get("row"):
        return finding.get("cell") or f"第{finding['row']}行"
    one = re.fullmatch(r"#/data/(?:decisions|mails)/(\d+)", finding.get("pointer") or "")
    return f"第{int(one[1]) + 1}项" if one else ""


def _findings(errors: Sequence[dict[str, Any]]) -> None:
    table(
        "",
        ("位置", "程度", "规则", "条款", "说明"),
        (
            (
                place(f),
                SEVERITY[f["severity"]],
                f["rule"],
                f["clause"],
                f["detail"],
            )
            for f in errors
        ),
    )
