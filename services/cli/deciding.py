"""`yiqi decide`, `held`, `score`, `fact`: what agencies say of cases, one or many at a time.

What may be decided is in the review service; looking at cases is in `cases.py`.
"""

import asyncio
import csv
import uuid
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from pydantic import ValidationError

from services.cli import common, filing, names
from services.cli.common import FINDINGS, UNUSABLE, AsOption, JsonOption, console, fail, show, table
from shared.contracts import registry
from shared.contracts.case import (
    DecisionMade,
    DecisionsMade,
    DecisionsSettled,
    Expert,
    FactReported,
    Fix,
    ScoreGiven,
)
from shared.contracts.registry import EventType

held = typer.Typer(no_args_is_help=True)

Number = Annotated[str, typer.Argument(help="项目编号，如 F3-7K3M9QXA")]
ReasonOption = Annotated[str, typer.Option(help="理由")]
OfficerOption = Annotated[str | None, typer.Option(help="经办人代号")]
HeldArgument = Annotated[str, typer.Argument(help="held list 中的批号")]

MOST = 500
COLUMNS = ("编号", "结果", "理由", "依据")
"""Of the table of `yiqi decide --file`; 依据 may be left out or blank."""


def decide(
    as_: AsOption,
    case: Annotated[str | None, typer.Argument(help="项目编号，如 F3-7K3M9QXA")] = None,
    outcome: Annotated[str | None, typer.Argument(help="办理结果，见 yiqi notice show 的流程")] = None,
    reason: Annotated[str | None, typer.Option(help="理由")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="依据的规则编号，可多次")] = None,
    acknowledge: Annotated[list[str] | None, typer.Option(help="确认或放宽的规则编号，可多次")] = None,
    fix: Annotated[list[str] | None, typer.Option(help="要改的内容，写作 栏目=要求，可多次")] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(help="认定结论，写作 规则编号=met、not_met 或 not_applicable，可多次"),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="一批决定：CSV（UTF-8），首行为 编号,结果,理由,依据")
    ] = None,
    hold: Annotated[
        bool, typer.Option("--hold", help="只校验并留存，核对后用 yiqi held release 一并生效")
    ] = False,
    officer: OfficerOption = None,
    as_json: JsonOption = False,
) -> None:
    """对一个项目作出办理决定，或用 --file 对一批项目作出决定；等到回复为止。"""
    agency = common.agency(as_)
    if file is not None:
        many = DecisionsMade(decisions=tuple(_read(file, officer)), hold=hold)
        _ask(agency.code, registry.DECISIONS_MADE, many, as_json)
    if case is None or outcome is None or reason is None:
        fail("请写明项目编号、办理结果和 --reason，或用 --file 给出一批", UNUSABLE)
    found = _case(case)
    decision = DecisionMade(
        case=found["case"],
        outcome=outcome,
        reason=reason,
        rules=tuple(rule or ()),
        acknowledges=tuple(acknowledge or ()),
        fixes=tuple(Fix(field=k, detail=v) for k, v in _pairs("fix", fix, "contact=请补充手机号")),
        judgements=dict(_pairs("judge", judge, "R-CLU-041=met")),
        version=found["version"],
        officer=officer,
    )
    if hold:
        _ask(agency.code, registry.DECISIONS_MADE, DecisionsMade(decisions=(decision,), hold=True), as_json)
    _ask(agency.code, registry.DECISION_MADE, decision, as_json)


def score(
    case: Number,
    as_: AsOption,
    expert: Annotated[str, typer.Option(help="专家代号，不写姓名")],
    employer: Annotated[str, typer.Option(help="专家所在单位")],
    point: Annotated[list[str], typer.Option(help="评分，写作 指标=分数，每个指标一次")],
    district: Annotated[str | None, typer.Option(help="专家所在区的代码")] = None,
    conflict: Annotated[bool, typer.Option("--conflict", help="专家声明有利害关系")] = False,
    officer: OfficerOption = None,
    as_json: JsonOption = False,
) -> None:
    """登记一名专家对一个项目的评分；同一专家再登记的，以后一次为准。"""
    agency = common.agency(as_)
    given = ScoreGiven(
        case=_case(case)["case"],
        expert=Expert(code=expert, employer=employer, district=district, conflict=conflict),
        points={key: _number(value) for key, value in _pairs("point", point, "industry=26")},
        officer=officer,
    )
    _ask(agency.code, registry.SCORE_GIVEN, given, as_json)


def fact(
    case: Number,
    as_: AsOption,
    kind: Annotated[
        Literal["incident", "inspection", "survey", "change"],
        typer.Option(help="incident 事件、inspection 检查、survey 满意度调查、change 变动"),
    ],
    detail: Annotated[str, typer.Option(help="情况，不写个人信息")],
    on: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="发生的日期")],
    ground: Annotated[str | None, typer.Option(help="可能构成的事由编号")] = None,
    points: Annotated[str | None, typer.Option("--score", help="调查得分")] = None,
    reference: Annotated[str | None, typer.Option(help="文号")] = None,
    as_json: JsonOption = False,
) -> None:
    """报告一个项目的情况：只作记录和提示，是否处理由有权的单位决定。"""
    agency = common.agency(as_)
    known = FactReported(
        case=_case(case)["case"],
        kind=kind,
        occurred_on=on.date(),
        detail=detail,
        ground=ground,
        score=_number(points) if points is not None else None,
        reference=reference,
    )
    _ask(agency.code, registry.FACT_REPORTED, known, as_json)


# --- decisions that are held --------------------------------------------------------------------------


@held.command("list")
def held_list(
    everything: Annotated[bool, typer.Option("--all", help="也列出已处理的")] = False,
    as_json: JsonOption = False,
) -> None:
    """留存待核的各批决定。"""
    rows = asyncio.run(
        common.query(
            "select held, publisher, at, jsonb_array_length(decisions) as n, state, officer, reason "
            "from review.held where :everything or state = 'held' order by at, held",
            everything=everything,
        )
    )
    columns = {"held": "批号", "publisher": "单位", "at": "时间", "n": "项", "state": "状态"}
    named = {
        "publisher": lambda r: names.agency(r["publisher"]),
        "state": lambda r: names.state(r["state"]),
    }
    show(rows, "留存的决定", columns, as_json=as_json, named=named)


@held.command("show")
def held_show(batch: HeldArgument, as_json: JsonOption = False) -> None:
    """一批中的每一项，以及项目现在的阶段。"""
    rows = asyncio.run(
        common.query(
            "select e.n, h.publisher, c.number, c.notice, c.title, c.stage, d->>'outcome' as outcome, "
            "d->>'reason' as reason, c.score "
            "from review.held h cross join lateral jsonb_array_elements(h.decisions) with ordinality as e(d, n) "
            'left join review."case" c on cast(c."case" as text) = d->>\'case\' where h.held = :held order by e.n',
            held=batch,
        )
    )
    if not rows:
        fail(f"没有这一批：{batch}", UNUSABLE)
    columns = {
        "n": "项",
        "publisher": "单位",
        "number": "编号",
        "title": "名称",
        "stage": "现在阶段",
        "outcome": "结果",
        "reason": "理由",
        "score": "评分",
    }
    named = {
        "publisher": lambda r: names.agency(r["publisher"]),
        "stage": lambda r: names.stage(r["notice"], r["stage"]) if r["stage"] else "",
        "outcome": lambda r: (
            names.outcome(r["notice"], r["stage"], r["outcome"]) if r["notice"] else r["outcome"]
        ),
    }
    show(rows, batch, columns, as_json=as_json, named=named)


@held.command("release")
def held_release(
    batch: HeldArgument,
    as_: AsOption,
    reason: ReasonOption,
    officer: OfficerOption = None,
    as_json: JsonOption = False,
) -> None:
    """一并生效；其中办不了的逐项说明，不影响其他。"""
    settled = DecisionsSettled(held=batch, action="release", reason=reason, officer=officer)
    _ask(common.agency(as_).code, registry.DECISIONS_SETTLED, settled, as_json)


@held.command("discard")
def held_discard(
    batch: HeldArgument,
    as_: AsOption,
    reason: ReasonOption,
    officer: OfficerOption = None,
    as_json: JsonOption = False,
) -> None:
    """不再生效。"""
    settled = DecisionsSettled(held=batch, action="discard", reason=reason, officer=officer)
    _ask(common.agency(as_).code, registry.DECISIONS_SETTLED, settled, as_json)


# --- asking -------------------------------------------------------------------------------------------


def _ask(publisher: str, type_: EventType, data: Any, as_json: bool) -> None:
    async def publish() -> dict[str, Any]:
        async with common.bus(publisher) as client:
            return await filing.publish(client, publisher, type_, data, uuid.uuid4())

    answer = asyncio.run(publish())
    if "accepted" in answer and not as_json and not answer.get("duplicate"):
        if isinstance(data, DecisionsMade):
            _tell_batch(answer, f"{len(data.decisions)}项", hold=data.hold)
        if isinstance(data, DecisionsSettled) and data.action == "release":
            _tell_batch(answer, "", hold=False)
    filing.tell(answer, as_json, lambda told: _done(told, data))


def _done(answer: dict[str, Any], data: Any) -> str:
    """What has happened, in one line."""
    if isinstance(data, DecisionMade):
        return _decided(data, _row(data.case))
    if isinstance(data, DecisionsSettled):
        return "已作废，不再生效"
    return f"已记录 {answer.get('number') or ''}".rstrip()


def _decided(decision: DecisionMade, case: dict[str, Any]) -> str:
    known = case["notice"], case["was"], decision.outcome
    name = names.bare_outcome(*known) or decision.outcome
    return f"已办理 {case['number']} {name}：现在阶段“{names.bare_stage(case['notice'], case['stage'])}”"


def _row(case: Any) -> dict[str, Any]:
    """Where a case is now, and where it was before its last step: its outcome is named there."""
    (row,) = asyncio.run(
        common.query(
            "select c.number, c.notice, c.stage, (select h.stage from review.history h "
            'where h."case" = c."case" order by h.version desc offset 1 limit 1) as was '
            'from review."case" c where cast(c."case" as text) = :case',
            case=str(case),
        )
    )
    return row


def _tell_batch(answer: dict[str, Any], count: str, *, hold: bool) -> NoReturn:
    """Of many decisions: which of them, counted from 1, cannot be made."""
    wrong = answer.get("errors") or []
    if hold:
        batch = answer["accepted"]
        console.print(f"已留存{count}，批号 [bold]{batch}[/bold]；核对后 yiqi held release {batch} 使之生效")
    elif wrong:
        console.print(
            f"{count}已处理，其中{len(wrong)}项办不了，其余已办理"
            if count
            else f"已生效；{len(wrong)}项办不了"
        )
    else:
        console.print(f"已办理{count}" if count else "已全部生效")
    if wrong:
        table("", ("项", "说明"), ((filing.place(f), f["detail"]) for f in wrong))
        raise typer.Exit(FINDINGS)
    raise typer.Exit(common.GOOD)


def _case(number: str) -> dict[str, Any]:
    found = _cases([number])
    if number not in found:
        fail(f"没有项目 {number}", UNUSABLE)
    return found[number]


def _cases(numbers: Sequence[str]) -> dict[str, dict[str, Any]]:
    rows = asyncio.run(
        common.query(
            'select number, "case", version from review."case" '
            'where number = any(:numbers) or cast("case" as text) = any(:numbers)',
            numbers=list(numbers),
        )
    )
    return {**{str(r["case"]): r for r in rows}, **{r["number"]: r for r in rows}}


def _read(file: Path, officer: str | None) -> list[DecisionMade]:
    """The rows of a CSV as decisions, or every row that cannot be one."""
    if not file.is_file():
        fail(f"没有文件 {file}", UNUSABLE)
    try:
        rows = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError:
        fail(f"{file.name} 不是 UTF-8 编码的 CSV；请在 Excel 中另存为“CSV UTF-8”", UNUSABLE)
    if not rows or not {*COLUMNS[:3]} <= {*rows[0]}:
        fail(f"{file.name} 的首行应为 {','.join(COLUMNS)}", UNUSABLE)
    # A short line has fewer cells, a blank one none.
    filled = [(n, {k: (row.get(k) or "").strip() for k in COLUMNS}) for n, row in enumerate(rows, 2)]
    filled = [(n, row) for n, row in filled if any(row.values())]
    if len(filled) > MOST:
        fail(f"{file.name} 有{len(filled)}项，一次最多{MOST}项，请分批", UNUSABLE)
    known = _cases([row["编号"] for _, row in filled])
    made, wrong = [], []
    for n, row in filled:
        case = known.get(row["编号"])
        try:
            if case is None:
                wrong.append(f"第{n}行：没有项目 {row['编号']}")
                continue
            rules = tuple(row["依据"].replace("、", " ").replace(",", " ").split())
            made.append(
                DecisionMade(
                    case=case["case"],
                    outcome=row["结果"],
                    reason=row["理由"],
                    rules=rules,
                    version=case["version"],
                    officer=officer,
                )
            )
        except ValidationError:
            wrong.append(f"第{n}行：结果和理由不能为空")
    if wrong:
        fail("\n".join(wrong), UNUSABLE)
    return made


def _pairs(option: str, texts: list[str] | None, example: str) -> list[tuple[str, str]]:
    found = []
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals:
            fail(f"--{option} 应写作 {example}", UNUSABLE)
        found.append((key.strip(), value.strip()))
    return found


def _number(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("nan")
    if not found.is_finite():
        fail(f"{text} 不是数字", UNUSABLE)
    return found
