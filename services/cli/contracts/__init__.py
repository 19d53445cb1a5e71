"""`yiqi contracts …`: publish the contracts, compare them with what was published, hold events against them.

What a schema says and what may change in it is not here: that is `shared/contracts`.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.common import FINDINGS, UNUSABLE, JsonOption, console, fail, out
from services.cli.contracts import conformance
from services.cli.contracts.published import KINDS, Forms, changes, contracts, goldens, made, told
from shared.contracts import frozen
from shared.contracts.registry import EVENTS

app = typer.Typer(no_args_is_help=True)


@app.command()
def build(
    folder: Annotated[Path, typer.Option("--dir", help="公布契约的文件夹")] = frozen.FOLDER,
    major: Annotated[
        list[str] | None, typer.Option("--major", help="此表（forms/通知/表）出新的大版本")
    ] = None,
) -> None:
    """公布契约：写出 JSON Schema、目录、AsyncAPI 文档和网页。不兼容的变动不写（退出码1）。"""
    forms = Forms(folder, major or ())
    found = changes(forms, folder)
    if lost := _lost(forms, folder):
        fail("\n".join(lost), FINDINGS)
    if breaking := [c for c in found if c.kind == "breaking"]:
        _tell(breaking)
        raise typer.Exit(FINDINGS)
    for change in found:
        target = folder / change.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(frozen.written(change.schema), encoding="utf-8")
        console.print(f"{change.path}（{KINDS[change.kind]}）", markup=False)
    for name, text in made(forms, found, folder).items():
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text:
            (folder / name).write_text(text, encoding="utf-8")
            console.print(name)


@app.command()
def check(
    folder: Annotated[Path, typer.Option("--dir", help="公布契约的文件夹")] = frozen.FOLDER,
    as_json: JsonOption = False,
) -> None:
    """核对契约与已公布的是否一致、变动是否兼容、历次范例是否仍被接受；不一致时退出码为1。"""
    forms = Forms(folder)
    found = changes(forms, folder)
    lost = _lost(forms, folder)
    refused = [f"{file}：{'；'.join(map(conformance.line, faults))}" for file, faults in goldens(folder)]
    stale = [
        name
        for name, text in made(forms, found, folder).items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    if as_json:
        lines = [{"kind": c.kind, "file": c.path, "before": c.before, "changes": c.lines} for c in found]
        out({"changes": lines, "lost": lost, "refused": refused, "stale": stale})
    else:
        _tell(found)
        for one in lost:
            console.print(one, markup=False)
        for one in refused:
            console.print(f"不再接受曾经公布的范例：{one}", markup=False)
        if stale and not found:
            console.print(f"{'、'.join(stale)} 已经过时：请运行 yiqi contracts build")
    if found or lost or refused or stale:
        raise typer.Exit(FINDINGS)
    if not as_json:
        console.print(f"{len(EVENTS)} 种事件、{len(forms.contracts)} 张表，与已公布的一致")


def _tell(found: list[frozen.Change]) -> None:
    for change in found:
        for line in told(change):
            console.print(line, markup=False)


def _lost(forms: Forms, folder: Path) -> list[str]:
    """What was published and is not there as it was."""
    return [
        *(f"{one}：范例一经公布不得修改或删除" for one in frozen.tampered(_index(folder), folder)),
        *(f"{key}：已经公布，现在却没有了" for key in frozen.gone(contracts(forms), folder)),
    ]


def _index(folder: Path) -> Any:
    file = folder / frozen.INDEX
    return json.loads(file.read_bytes()) if file.is_file() else {}


@app.command()
def validate(
    files: Annotated[
        list[str], typer.Argument(help="事件文件：JSON，或每行一个（JSON Lines）；- 为标准输入")
    ],
    as_json: JsonOption = False,
) -> None:
    """用与服务相同的解码器核对事件：每处错误的位置、代码和说明。有错误时退出码为1。"""
    verdicts = [v for file in files for v in conformance.judge(_documents(file))]
    if as_json:
        out([v.told() for v in verdicts])
    else:
        for verdict in verdicts:
            sys.stdout.write("\n".join(verdict.lines()) + "\n")
    if any(not v.good for v in verdicts):
        raise typer.Exit(FINDINGS)


def _documents(file: str) -> Iterator[tuple[str, bytes]]:
    if file != "-" and not Path(file).is_file():
        fail(f"没有文件 {file}", UNUSABLE)
    body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    yield from conformance.split("标准输入" if file == "-" else file, body)
