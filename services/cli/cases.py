"""`yiqi case`, `dead`, `catalogue`: looking at what the services hold, and the few things to do about it.

Decisions on cases are in `deciding.py`, mails in `mails.py`.
"""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from services.cli import common, filing, names
from services.cli.common import FINDINGS, UNUSABLE, JsonOption, console, fail, out, show, table
from shared.contracts import registry
from shared.contracts.catalogue import CatalogueRequested
from shared.contracts.submission import CatalogueRecorded, EarlierRow
from shared.runtime import SERVICES

app = typer.Typer(no_args_is_help=True)
dead = typer.Typer(no_args_is_help=True)
catalogues = typer.Typer(no_args_is_help=True)


def _ask(sql: str, **values: Any) -> list[dict[str, Any]]:
    return asyncio.run(common.query(sql, **values))


# --- cases -------------------------------------------------------------------------------------------


@app.command("list")
def case_list(
    notice: Annotated[str | None, typer.Option(help="只看一个通知")] = None,
    stage: Annotated[str | None, typer.Option(help="只看一个阶段")] = None,
    unit: Annotated[str | None, typer.Option(help="只看一个单位（代码）")] = None,
    by_score: Annotated[bool, typer.Option("--by-score", help="按评审得分从高到低")] = False,
    as_json: JsonOption = False,
) -> None:
    """项目一览。"""
    rows = _ask(
        'select number, notice, form, stage, unit, title, late, due, score from review."case" where '
        "(cast(:notice as text) is null or notice = :notice) and (cast(:stage as text) is null or stage = :stage) "
        "and (cast(:unit as text) is null or unit = :unit) "
        "order by case when :by_score then score end desc nulls last, filed, number",
        notice=notice,
        stage=stage,
        unit=unit,
        by_score=by_score,
    )
    columns = {
        "number": "编号",
        "form": "表",
        "stage": "阶段",
        "unit": "单位",
        "title": "名称",
        "due": "期限",
        "score": "评分",
    }
    show(
        rows,
        "项目",
        columns,
        as_json=as_json,
        named={
            "stage": lambda r: names.stage(r["notice"], r["stage"]),
            "unit": lambda r: names.agency(r["unit"]),
        },
    )


@app.command("show")
def case_show(
    number: Annotated[str, typer.Argument(help="项目编号")],
    contacts: Annotated[bool, typer.Option("--contacts", help="连同联系方式")] = False,
    as_json: JsonOption = False,
) -> None:
    """一个项目：内容、问题、认定条件、评分、应报事项、全部经过。"""
    case, history, owed = _whole(number)
    if contacts:
        case |= _contacts(case)
    refused = _ask('select * from review.refusal where "case" = :c order by at', c=case["case"])
    if as_json:
        out({**case, "history": history, "duties": owed, "refused": refused})
        return
    console.print(
        f"[bold]{case['number']}[/bold] {escape(case['title'])}"
        f"（{case['form']}，{names.stage(case['notice'], case['stage'])}，{names.agency(case['unit'])}）",
        markup=True,
    )
    values = case["values"].items()
    table("内容", ("栏目", "内容"), ((names.column(case["notice"], case["form"], k), v) for k, v in values))
    for title, columns, rows in _parts(case, history, owed):
        if rows:
            table(title, columns, rows)
    if refused:
        wanted = (
            (r["at"], names.agency(r["publisher"]), names.outcome(case["notice"], None, r["what"]), r["why"])
            for r in refused
        )
        table("未予办理", ("时间", "单位", "要求", "说明"), wanted)


def _contacts(case: dict[str, Any]) -> dict[str, Any]:
    """What the case shows besides to whoever asks for it: the contact data of its last filing."""
    found = _ask(
        'select "values", email from review.contact where "case" = :c and revision = :r',
        c=case["case"],
        r=case["revision"],
    )
    values, email = (found[0]["values"] or {}, found[0]["email"]) if found else ({}, None)
    return {"values": {**case["values"], **values}, "filer": {**case["filer"], "email": email}}


def _parts(
    case: dict[str, Any], history: list[dict[str, Any]], owed: list[dict[str, Any]]
) -> Iterator[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]]:
    yield (
        "问题",
        ("规则", "程度", "说明"),
        [(f["rule"], f["severity"], f["detail"]) for f in case["findings"]],
    )
    yield (
        "认定条件",
        ("规则", "结论", "数值", "佐证"),
        [(a["rule"], a["verdict"], a["figure"], "、".join(a["evidence"])) for a in case["assessments"]],
    )
    yield "人工认定", ("规则", "结论"), [(rule, names.state(v)) for rule, v in case["judgements"].items()]
    points = [(who, *("=".join(one) for one in sheet.items())) for who, sheet in case["scores"].items()]
    yield f"评分（{case['score'] or '未定'}）", ("专家", "评分"), [(p[0], "  ".join(p[1:])) for p in points]
    yield (
        "应报事项",
        ("事项", "期间", "截止", "状态"),
        [
            (names.duty(case["notice"], o["duty"]), o["period"], o["due"], names.state(o["state"]))
            for o in owed
        ],
    )
    yield (
        "经过",
        ("版本", "时间", "单位", "结果", "阶段", "理由", "依据", "变动"),
        [
            (
                h["version"],
                h["at"],
                names.agency(h["actor"]),
                outcome,
                stage,
                h["reason"],
                "、".join([*h["rules"], *h["acknowledges"]]),
                "、".join(
                    names.column(case["notice"], case["form"], key) for key in h["data"].get("values", ())
                ),
            )
            for h, (outcome, stage) in zip(history, names.steps(case["notice"], history), strict=True)
        ],
    )


@app.command("count")
def case_count(notice: Annotated[str, typer.Option(help="通知编号")], as_json: JsonOption = False) -> None:
    """一个通知的项目各在什么阶段；通知有目标数的，与现有数对照（只供掌握，不作限制）。"""
    known = common.notice(notice).notice
    stages = {
        row["stage"]: row
        for row in _ask(
            "select stage, count(*) as cases, array_agg(distinct district) as districts "
            'from review."case" where notice = :notice group by stage',
            notice=notice,
        )
    }
    counts = [
        {"stage": s.id, "name": s.name, "cases": stages[s.id]["cases"] if s.id in stages else 0}
        for s in known.procedure.stages
    ]
    targets = []
    for target in known.targets:
        there = [stages[s] for s in target.stages if s in stages]
        districts = {d for row in there for d in row["districts"]}
        now = len(districts) if target.of == "districts" else sum(row["cases"] for row in there)
        targets.append({**target.model_dump(), "now": now})
    if as_json:
        out({"stages": counts, "targets": targets})
        return
    table(
        "阶段", ("阶段", "名称", "项目"), ((c["stage"], c["name"], c["cases"]) for c in counts if c["cases"])
    )
    if targets:
        table(
            "目标",
            ("目标", "现有", "目标数", "依据"),
            (
                (
                    t["name"],
                    t["now"],
                    f"{t['number']}{t['unit']}{'左右' if t['about'] else ''}",
                    f"{t['rule']}，{t['clause']}",
                )
                for t in targets
            ),
        )


@app.command("due")
def case_due(
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="到哪一天为止")] = None,
    notice: Annotated[str | None, typer.Option(help="只看一个通知")] = None,
    as_json: JsonOption = False,
) -> None:
    """各项目的期限：阶段的期限和应报的事项，最早的在前。"""
    rows = _ask(
        "select due, notice, number, title, what, period, provisional, of from ("
        "select due, notice, number, title, stage as what, '' as period, provisional, 'stage' as of "
        'from review."case" where due is not null union all '
        "select d.due, d.notice, c.number, c.title, d.duty, d.period, d.provisional, 'duty' from review.duty d "
        'join review."case" c using ("case") where d.state = \'owed\') as everything '
        "where (cast(:until as date) is null or due <= :until) "
        "and (cast(:notice as text) is null or notice = :notice) order by due, number, what",
        until=until.date() if until else None,
        notice=notice,
    )
    columns = {"due": "期限", "number": "编号", "title": "名称", "what": "阶段或事项", "period": "期间"}
    show(
        rows,
        "期限",
        columns,
        as_json=as_json,
        named={"what": lambda r: (names.duty if r["of"] == "duty" else names.stage)(r["notice"], r["what"])},
    )


def _whole(number: str) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    found = _ask('select * from review."case" where number = :n or cast("case" as text) = :n', n=number)
    if not found:
        fail(f"没有项目 {number}", UNUSABLE)
    id_ = found[0]["case"]
    history = _ask('select * from review.history where "case" = :c order by version', c=id_)
    owed = _ask('select * from review.duty where "case" = :c order by due, duty, period', c=id_)
    return found[0], history, owed


# --- dead messages -----------------------------------------------------------------------------------

Service = Annotated[str, typer.Argument(help="intake、review、notify 或 export")]
Number = Annotated[int, typer.Argument(help="dead list 中的序号")]


def _known(service: str) -> str:
    if service not in SERVICES:
        fail(f"没有服务 {service}；有：{'、'.join(SERVICES)}", UNUSABLE)
    return service


@dead.command("list")
def dead_list(
    everything: Annotated[bool, typer.Option("--all", help="也列出已处理的")] = False,
    as_json: JsonOption = False,
) -> None:
    """无法处理的消息。"""
    rows: list[dict[str, Any]] = []
    for service in SERVICES:
        rows += _ask(
            f"select '{service}' as service, n, at, stream, seq, subject, code, why, state from {service}.dead "
            "where :everything or state not in ('replayed', 'discarded') order by n",
            everything=everything,
        )
    columns = {
        "service": "服务",
        "n": "序号",
        "code": "代码",
        "subject": "主题",
        "why": "原因",
        "state": "状态",
    }
    show(rows, "无法处理的消息", columns, as_json=as_json)


@dead.command("show")
def dead_show(service: Service, n: Number, as_json: JsonOption = False) -> None:
    """一条消息的来历和原因；内容可能含个人信息，只显示大小。"""
    found = _ask(
        f"select n, at, stream, seq, subject, code, why, state, by, length(body) as bytes from {_known(service)}.dead "
        "where n = :n",
        n=n,
    )
    if not found:
        fail(f"没有这条消息：{service} {n}", UNUSABLE)
    if as_json:
        out(found[0])
    else:
        table(f"{service} {n}", ("项", "内容"), found[0].items())


def _mark(service: str, n: int, state: str, by: str) -> None:
    from sqlalchemy import text

    async def update() -> int:
        async with common.database() as conn:
            done = await conn.execute(
                text(
                    # Who was told that it is kept is told otherwise, by the service.
                    f"update {service}.dead set by = :by, state = case when code = 'later' and cast(:state as text) = 'discarded' "
                    "then 'discard' else cast(:state as text) end "
                    "where n = :n and state in ('dead', 'retrying')"
                ),
                {"state": state, "by": by, "n": n},
            )
            return int(done.rowcount)

    if not asyncio.run(update()):
        fail(f"没有待处理的消息：{service} {n}", FINDINGS)


@dead.command("replay")
def dead_replay(
    service: Service, n: Number, by: Annotated[str, typer.Option(help="经办人")] = "operator"
) -> None:
    """再处理一次（修复之后）。已经生效过的消息不会重复生效。"""
    _mark(_known(service), n, "replay", by)
    console.print("已交给服务，一秒内处理")


@dead.command("discard")
def dead_discard(
    service: Service, n: Number, by: Annotated[str, typer.Option(help="经办人")] = "operator"
) -> None:
    """不再处理。"""
    _mark(_known(service), n, "discarded", by)
    console.print("已丢弃")


# --- catalogues --------------------------------------------------------------------------------------


@catalogues.command("list")
def catalogue_list(as_json: JsonOption = False) -> None:
    """已生成的目录。"""
    rows = _ask("select * from export.catalogue order by notice, form, public")
    columns = {
        "notice": "通知",
        "form": "表",
        "title": "标题",
        "public": "公开版",
        "version": "版本",
        "rows": "行",
        "published_on": "日期",
        "sha256": "摘要",
    }
    show(rows, "目录", columns, as_json=as_json)


@catalogues.command("build")
def catalogue_build(
    notice: common.NoticeOption,
    as_: common.AsOption,
    form: Annotated[str | None, typer.Option(help="表的编号；不写则全部")] = None,
    public: Annotated[bool, typer.Option("--public", help="公开版：不含联系方式")] = False,
    as_json: JsonOption = False,
) -> None:
    """由市级主管部门生成目录，等到完成为止。"""
    agency = common.agency(as_)

    async def ask() -> dict[str, Any]:
        async with common.bus(agency.code) as client:
            wanted = CatalogueRequested(notice=notice, form=form, public=public)
            return await filing.publish(
                client,
                agency.code,
                registry.CATALOGUE_REQUESTED,
                wanted,
                datetime.now().astimezone().isoformat(),
            )

    filing.tell(asyncio.run(ask()), as_json, lambda _: "已生成，见 yiqi catalogue list")


@catalogues.command("record")
def catalogue_record(
    file: Annotated[Path, typer.Argument(help="以往发布的目录（附件的格式）")],
    notice: common.NoticeOption,
    as_: common.AsOption,
    title: Annotated[str, typer.Option(help="那份目录的标题")],
    published_on: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="发布日期")],
    as_json: JsonOption = False,
) -> None:
    """登记一份以往发布的目录，其中的产品不得重复报送（附件5 注）。"""
    from services.intake import child, parse
    from services.intake.sheets import Unusable

    compiled, agency = common.notice(notice), common.agency(as_)
    try:
        sheets = asyncio.run(child.read(file.read_bytes(), file.name, compiled))
    except Unusable as error:
        fail(error.detail, UNUSABLE)
    finally:
        child.close()
    answers = []
    for sheet in sheets:
        if sheet.form is None or not sheet.rows:
            continue
        shape = compiled.forms[sheet.form].form
        data = CatalogueRecorded(
            form=sheet.form,
            title=title,
            published_on=published_on.date(),
            rows=tuple(
                EarlierRow(
                    unit=str(r.raw.get(shape.organizer or "") or ""),
                    name=parse.name_of(shape.name, r.raw),
                    serial=i,
                )
                for i, r in enumerate(sheet.rows, 1)
            ),
        )

        async def ask(data: CatalogueRecorded = data) -> dict[str, Any]:
            async with common.bus(agency.code) as client:
                return await filing.publish(
                    client, agency.code, registry.CATALOGUE_RECORDED, data, data.model_dump_json()
                )

        answers.append(asyncio.run(ask()))
    if not answers:
        fail("文件里没有本通知的附件", UNUSABLE)
    filing.tell(answers[-1], as_json, lambda _: f"已登记{len(answers)}份目录")
