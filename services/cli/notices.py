"""`yiqi notice …` and `yiqi agency …`: what is known before anything runs; no server is needed.

Filing and deciding are not here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from services.cli import common
from services.cli.common import JsonOption, console, fail, out, table
from shared.notices.coverage import (
    HOW,
    Kept,
    Side,
    counts,
    cover,
    dates,
    proven,
    recalled,
    register,
    unregistered,
)
from shared.notices.ladders import Ladder
from shared.notices.load import NoticeBroken, load, load_all
from shared.notices.model import Notice
from shared.notices.procedure import actor_name, draw

app = typer.Typer(no_args_is_help=True)
agencies = typer.Typer(no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="通知编号")]

SIDES: dict[Side, str] = {"met": "正", "broken": "反"}
"""A case that a rule lets pass, and one that it does not."""


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """全部通知。"""
    found = load_all(common.settings().notices)
    rows = [
        {
            "id": c.notice.id,
            "status": c.notice.status,
            "issued_on": c.notice.issued_on,
            "title": c.notice.title,
        }
        for c in found.values()
    ]
    common.show(
        rows, "通知", {"id": "编号", "status": "状态", "issued_on": "日期", "title": "标题"}, as_json=as_json
    )


@app.command()
def show(id_: Id, as_json: JsonOption = False) -> None:
    """一份通知：方向、表、规则、流程、期限。"""
    notice = common.notice(id_).notice
    if as_json:
        out(notice.model_dump(mode="json"))
        return
    console.print(f"[bold]{notice.title}[/bold]\n{notice.id}  {notice.issued_on}  {notice.status}\n")
    table(
        "表",
        ("表", "附件", "标题", "栏目数"),
        (
            (f.id, f.annex, notice.form_title(f) + _ours(f.derived), len(f.by_key) + len(f.blocks))
            for f in notice.forms
        ),
    )
    table(
        "规则",
        ("编号", "强度", "条款", "内容"),
        ((r.id, r.severity, r.clause, r.text + _ours(r.derived)) for r in notice.rules),
    )
    table(
        "期限", ("编号", "事项", "日期", "条款"), ((d.id, d.name, d.on, d.clause) for d in notice.deadlines)
    )
    table("提醒", ("编号", "事项", "提醒谁", "何时（遇休息日提前到工作日）"), _reminders(notice))
    table("本系统的理解", ("问题", "采用"), notice.assumptions.items())


def _reminders(notice: Notice) -> Iterator[tuple[str, str, str, str]]:
    """All that is recalled, the dates of the notice first."""
    for deadline in notice.deadlines:
        if deadline.remind and deadline.recalled:
            yield deadline.id, deadline.name, "、".join(deadline.remind), _rungs(deadline.recalled)
    for duty in notice.duties:
        if duty.remind:
            yield duty.id, duty.name, _parts(notice, duty.remind), _rungs(duty.ladder)
    for stage in notice.procedure.stages:
        if stage.within and stage.reminded:
            ids = "、".join(stage.within.dates) or stage.id
            name = f"{stage.name}（{stage.within.text}）"
            yield ids, name, _parts(notice, stage.reminded), _rungs(stage.within.recalled)


def _parts(notice: Notice, parts: Iterable[str]) -> str:
    return "、".join(actor_name(notice, part) for part in parts)


def _rungs(ladder: Ladder) -> str:
    return f"{ladder.text}，{ladder.at:%H:%M}" + _ours(ladder.derived)


def _ours(derived: bool) -> str:
    return "（系统默认）" if derived else ""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="通知的 YAML 文件")], as_json: JsonOption = False
) -> None:
    """校验一个通知文件：每处错误的行号，以及该写什么。"""
    from services.intake.given import faults as given_faults
    from services.notify.owed import crossed
    from services.notify.templates import LETTERS

    if not file.is_file():
        fail(f"没有文件 {file}", common.UNUSABLE)
    try:
        compiled = load(file)
    except NoticeBroken as error:
        if as_json:
            out(
                {
                    "ok": False,
                    "errors": [{"line": e.line, "path": e.path, "message": e.message} for e in error.errors],
                }
            )
        else:
            for one in error.errors:
                console.print(str(one), markup=False)
        raise typer.Exit(common.FINDINGS) from None
    notice = compiled.notice
    faults = (*crossed(notice, LETTERS), *given_faults(compiled, common.directory()))
    if wrong := [(".".join(map(str, path)), why) for path, why in faults]:
        if as_json:
            out({"ok": False, "errors": [{"line": 0, "path": path, "message": why} for path, why in wrong]})
        for path, why in wrong if not as_json else ():
            console.print(f"{file.name} {path}：{why}", markup=False)
        raise typer.Exit(common.FINDINGS)
    if as_json:
        out({"ok": True, "id": notice.id, "forms": len(notice.forms), "rules": len(notice.rules)})
    else:
        console.print(f"{notice.id}：{len(notice.forms)} 张表，{len(notice.rules)} 条规则，没有错误")


@app.command()
def coverage(
    as_json: JsonOption = False,
    tests: Annotated[Path, typer.Option("--tests", help="测试所在的文件夹")] = Path("tests"),
) -> None:
    """规范的每条规则在哪份通知、靠什么落实，每个日期在哪里提醒；系统检查的规则没有正反两面的测试，或者某个日期没有提醒也没有说明时，退出码为1。"""
    files = sorted(tests.rglob("test_*.py")) if tests.is_dir() else ()
    if not files:
        fail(f"{tests} 中没有测试文件（test_*.py）；请用 --tests 指明文件夹", common.UNUSABLE)
    try:
        proofs = proven({str(file): file.read_text(encoding="utf-8") for file in files})
    except (SyntaxError, UnicodeDecodeError) as error:
        fail(f"无法读取测试：{error}", common.UNUSABLE)
    notices = [c.notice for c in load_all(common.settings().notices).values()]
    registered = register()
    kept = cover(registered, notices, proofs)
    more = unregistered(registered, notices)
    unproven = [one for one in kept if one.unproven]
    occasions = recalled(notices)
    silent = [one.id for one in dates().values() if one.id not in occasions and not one.later]
    if as_json:
        out(
            {
                "ok": not unproven and not silent,
                "rules": [_line(one) for one in kept],
                "counts": {
                    prefix: {"total": sum(ways.values()), **{way: ways[way] for way in HOW}}
                    for prefix, ways in counts(kept).items()
                },
                "dates": [
                    {
                        **one.model_dump(),
                        "recalled": [{"notice": n, "place": p} for n, p in occasions.get(one.id, ())],
                    }
                    for one in dates().values()
                ],
                "silent": silent,
                "unproven": [one.id for one in unproven],
                "unregistered": [{"notice": notice, "id": id_} for notice, id_ in more],
            }
        )
    else:
        _show_coverage(kept)
        table(
            "日期",
            ("编号", "事项", "提醒谁", "通知", "位置"),
            (
                (one.id, one.text, one.who, notice, place)
                for one in dates().values()
                for notice, place in occasions.get(one.id, (("", one.later or "没有提醒"),))
            ),
        )
        for notice, id_ in more:
            console.print(f"{notice} 的 {id_} 不在规范之中")
        for one in unproven:
            missing = "、".join(name + "面" for side, name in SIDES.items() if side not in one.sides)
            console.print(f"{one.id}（{one.notice} {one.place}）缺少测试：{missing}", markup=False)
    if unproven or silent:
        raise typer.Exit(common.FINDINGS)


def _line(one: Kept) -> dict[str, object]:
    rule = one.rule
    return {
        "id": one.id,
        "severity": rule.severity,
        "clause": rule.clause,
        "text": one.text,
        "required": one.required,
        "how": one.how,
        "notice": one.notice or None,
        "place": one.place or None,
        "by": one.by or None,
        "tested": sorted(one.sides),
    }


def _show_coverage(kept: list[Kept]) -> None:
    """Rules that are not required are only counted until a notice has them."""
    table(
        "规则",
        ("编号", "通知", "位置", "落实", "依据", "测试", "内容"),
        (
            (
                one.id,
                one.notice,
                one.place,
                HOW[one.how],
                one.by,
                "".join(name for side, name in SIDES.items() if side in one.sides),
                one.text,
            )
            for one in kept
            if one.required or one.how != "open"
        ),
    )
    found = counts(kept)
    table(
        "合计",
        ("", "规则", *HOW.values()),
        (
            (name, sum(ways.values()), *(ways[way] for way in HOW))
            for name, ways in (*found.items(), ("合计", sum(found.values(), Counter())))
        ),
    )


@app.command("draw")
def draw_(id_: Id) -> None:
    """流程图（Mermaid）。"""
    typer.echo(draw(common.notice(id_).notice))


@app.command()
def template(
    id_: Id,
    form: Annotated[str | None, typer.Option("--form", help="表的编号；不写则全部")] = None,
    out_: Annotated[Path, typer.Option("--out", help="放在哪个文件夹")] = Path(),
) -> None:
    """空白表（XLSX 和 DOCX）。清单以 XLSX 报送，其 DOCX 供打印、盖章；卡片两种都可以报送。"""
    from services.intake.card_template import card_template
    from services.intake.template import template as blank
    from services.intake.word_form import word_form

    compiled = common.notice(id_)
    if form is not None and form not in compiled.forms:
        fail(f"没有表 {form}；现有：{'、'.join(compiled.forms)}", common.UNUSABLE)
    out_.mkdir(parents=True, exist_ok=True)
    for judge in compiled.forms.values() if form is None else (compiled.forms[form],):
        for ending, make in (("xlsx", card_template if judge.form.card else blank), ("docx", word_form)):
            target = out_ / f"{judge.form.annex}.{ending}"
            target.write_bytes(make(judge, compiled.notice))
            console.print(str(target))


@app.command()
def schema(
    id_: Id, form: Annotated[str | None, typer.Option("--form", help="表的编号；不写则全部")] = None
) -> None:
    """各表的 JSON Schema（2020-12），即事件 data.values 的形状。"""
    compiled = common.notice(id_)
    if form is not None and form not in compiled.forms:
        fail(f"没有表 {form}；现有：{'、'.join(compiled.forms)}", common.UNUSABLE)
    out(compiled.forms[form].schema() if form else {k: j.schema() for k, j in compiled.forms.items()})


@agencies.command("list")
def agency_list(as_json: JsonOption = False) -> None:
    """单位名录：--as 用的代码。"""
    people = {"contacts": {"__all__": {"email"}}}  # see `yiqi contact list`
    rows = [a.model_dump(mode="json", exclude=people) for a in common.directory().agencies]
    common.show(
        rows, "单位名录", {"code": "代码", "kind": "类别", "name": "名称", "email": "邮箱"}, as_json=as_json
    )
