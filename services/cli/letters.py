"""`yiqi letter …`: how letters read, before anybody gets one; no server is needed.

What was sent is `yiqi mail` (cases.py).
"""

from datetime import UTC, datetime
from email.headerregistry import Address
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import common
from services.cli.common import JsonOption, console, fail, out

if TYPE_CHECKING:
    from services.notify.samples import Sample
    from services.notify.templates import Letters

app = typer.Typer(no_args_is_help=True)

DOMAIN = "example.com"
SENDER = Address("示例平台", "no-reply", DOMAIN)


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """全部信函：主题、何时发出、哪些部分由 YIQI_LETTERS 改写。"""
    from services.notify.templates import LETTERS, OCCASIONS

    letters = _letters(common.settings().letters)
    rows = [
        {
            "letter": name,
            "subject": letters.source(f"{name}/subject.txt").strip(),
            "occasion": OCCASIONS[name],
            "overridden": letters.overridden(name),
            "optional": name in letters.optional,
        }
        for name in LETTERS
    ]
    columns = {"letter": "信函", "subject": "主题", "occasion": "何时", "overridden": "已改写"}
    common.show(
        rows, "信函", columns, as_json=as_json, named={"overridden": lambda row: "、".join(row["overridden"])}
    )


@app.command()
def preview(
    letter: Annotated[str, typer.Argument(help="信函，见 yiqi letter list")],
    notice: Annotated[str | None, typer.Option("--notice", help="依哪份通知；不写则取写得最多的")] = None,
    folder: Annotated[Path, typer.Option("--out", help="写到哪个文件夹")] = Path("var/letters"),
) -> None:
    """用示例数据写一封信：邮件（.eml）、网页（.html）、纯文本（.txt）。同样的模板总得同样的文件。"""
    from services.notify.compose import compose
    from services.notify.samples import SHA256, samples
    from services.notify.templates import LETTERS
    from shared.notices.load import load_all

    if letter not in LETTERS:
        fail(f"没有信函 {letter}；现有 {'、'.join(LETTERS)}", common.UNUSABLE)
    letters = _letters(common.settings().letters)
    compiled = load_all(common.settings().notices) if notice is None else {notice: common.notice(notice)}
    known = {id_: one.notice for id_, one in compiled.items()}
    found = [s for s in samples(known, common.directory()) if s.owed.letter == letter]
    if not found:
        fail(f"通知 {notice} 不发出信函 {letter}", common.UNUSABLE)
    sample = max(found, key=lambda s: _length(s, letters))
    message = compose(
        sample.owed,
        letters=letters,
        message_id_domain=DOMAIN,
        sender=SENDER,
        date=sample.at.astimezone(UTC),
        files={SHA256: _workbook()},
    )
    page, text = (message.get_body((kind,)) for kind in ("html", "plain"))
    assert page is not None
    assert text is not None
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in (
        ("eml", message.as_bytes()),
        ("html", page.get_content().encode()),
        ("txt", text.get_content().encode()),
    ):
        path = folder / f"{letter}.{suffix}"
        path.write_bytes(content)
        console.print(str(path), markup=False, soft_wrap=True)


@app.command()
def check(
    folder: Annotated[Path | None, typer.Argument(help="改写信函的文件夹；不写则用 YIQI_LETTERS")] = None,
    as_json: JsonOption = False,
) -> None:
    """用示例数据试写全部信函：每处错误的文件和行号。有错误时退出码为1。"""
    from services.notify.check import faults
    from services.notify.templates import LETTERS, BadLetters, Letters
    from shared.notices.load import load_all

    mounted = folder or common.settings().letters
    try:
        letters = Letters.load(mounted)
        found = faults(letters, load_all(common.settings().notices), common.directory())
    except BadLetters as error:
        found = error.faults
    if as_json:
        errors = [{"file": f.file, "line": f.line, "message": f.message} for f in found]
        out({"ok": not found, "letters": len(LETTERS), "errors": errors})
    else:
        for one in found:
            console.print(str(one), markup=False, soft_wrap=True)
        if not found:
            changed = sum(len(letters.overridden(name)) for name in LETTERS)
            console.print(f"{len(LETTERS)} 封信函，其中改写 {changed} 部分，没有错误")
    if found:
        raise typer.Exit(common.FINDINGS)


def _letters(folder: Path | None) -> "Letters":
    from services.notify.templates import BadLetters, Letters

    try:
        return Letters.load(folder)
    except BadLetters as error:
        fail(str(error), common.FINDINGS)


def _length(sample: "Sample", letters: "Letters") -> int:
    from services.notify.compose import render

    return len(render(sample.owed, letters, sample.at).text)


def _workbook() -> bytes:
    """What is attached to the answer to a package, as an example of it."""
    import xlsxwriter

    content = BytesIO()
    book = xlsxwriter.Workbook(content, {"in_memory": True})
    book.set_properties({"created": datetime(2025, 1, 1, tzinfo=UTC)})
    book.add_worksheet("示例").write_string(0, 0, "示例")
    book.close()
    return content.getvalue()
