"""Which papers of the notice the files of a package are taken for, told before they are sent (`yiqi submit`).

What is taken for what, and which are required, is judged by intake; here it is only asked and told.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.common import UNUSABLE, console, fail
from shared.contracts.types import FileRef
from shared.notices.load import CompiledNotice
from shared.notices.model import Notice

if TYPE_CHECKING:
    from services.intake.parse import Filing
    from services.intake.sheets import Sheet

SCANS = {".pdf", ".jpg", ".jpeg", ".png", ".tif", ".tiff"}
WHOLE = "全部材料"


@dataclass(frozen=True)
class Paper:
    """A file of a package; one that says which material it is, is evidence and none of the forms."""

    path: Path
    material: str | None = None

    @property
    def role(self) -> str:
        return "scan" if self.path.suffix.lower() in SCANS else "workbook"

    def ref(self) -> FileRef:
        """Of its name alone, to ask what it is taken for."""
        return FileRef.model_validate(
            {
                "role": self.role,
                "sha256": "0" * 64,
                "size": 1,
                "name": self.path.name,
                "material": self.material,
            }
        )


def gather(notice: Notice, files: Sequence[Path], materials: Sequence[str]) -> list[Paper]:
    """What was typed: files by themselves, and `KEY=文件`; a file that is named both ways is filed once."""
    from services.intake.parse import ALL

    known = {m.key: m.name for m in notice.materials}
    said = []
    for text in materials:
        key, equals, name = (part.strip() for part in text.partition("="))
        if not equals or not name:
            fail(f"--material 应写作 KEY=文件，如 {next(iter(known), ALL)}=材料.pdf", UNUSABLE)
        if not known:
            fail("本通知没有列出材料，请去掉 --material", UNUSABLE)
        if key not in {*known, ALL}:
            listed = "、".join(f"{k}（{v}）" for k, v in {**known, ALL: WHOLE + "合订为一份"}.items())
            fail(f"没有材料 {key}；可用：{listed}", UNUSABLE)
        said.append(Paper(Path(name), key))
    evidence = {paper.path.resolve() for paper in said}
    found = [*(Paper(f) for f in files if f.resolve() not in evidence), *said]
    for paper in found:
        if not paper.path.is_file():
            fail(f"没有文件 {paper.path}", UNUSABLE)
    return found


def lines(notice: Notice, papers: Sequence[Paper]) -> list[str]:
    """Which file is taken for which paper, one line each; a workbook that says nothing is a form."""
    from services.intake.parse import ALL, materials_of

    names = {m.key: m.name for m in notice.materials}
    told = []
    for paper in papers:
        if paper.role == "workbook" and paper.material is None:
            continue
        taken = materials_of(notice, [paper.ref()], named=True)
        what = WHOLE if paper.material == ALL else "、".join(names[key] for key in taken)
        told.append(f"材料：{paper.path.name} → {what or '未认出是哪一种材料（只作为扫描件）'}")
    return told


def tell(filing: "Filing", papers: Sequence[Paper]) -> None:
    """Before anything is sent; nothing where the notice lists no papers."""
    notice = filing.notice.notice
    if not notice.materials:
        return
    for line in (*lines(notice, papers), *missing(filing, papers)):
        console.print(line, markup=False)


def missing(filing: "Filing", papers: Sequence[Paper]) -> list[str]:
    """What the rules of the notice will say of papers that are not there, by the forms that are filed."""
    from services.intake import parse
    from shared.notices.rules import Facts

    notice = filing.notice.notice
    refs = [paper.ref() for paper in papers]
    filing = replace(filing, materials=parse.materials_of(notice, refs, named=True))
    asked = {rule.id for rule in notice.rules if "item.materials" in (rule.holds or "")}
    forms = [paper.path for paper in papers if paper.role == "workbook" and paper.material is None]
    told: dict[str, None] = {}
    for sheet in asyncio.run(_read(forms, filing.notice)):
        for judged in parse.rows_of(filing, sheet):
            parse.examine(filing, judged, Facts())
            told |= {f.detail: None for f in judged.findings if f.rule in asked}
            if judged.item is None and (absent := _absent(filing, judged.form)):
                told[f"没有认出{absent}；所填内容有误，须交哪些待改正后判断"] = None
    return [f"材料不齐：{detail}" for detail in told]


def _absent(filing: "Filing", form: str) -> str:
    """The papers of a form that are not there, required or not: a row that cannot be judged does not tell."""
    wanted = (m for m in filing.notice.notice.materials if form in m.forms)
    return "、".join(m.name for m in wanted if m.key not in filing.materials)


async def _read(files: Sequence[Path], compiled: CompiledNotice) -> list["Sheet"]:
    """A form that cannot be read is none here: intake says why."""
    from services.intake import child
    from services.intake.sheets import Unusable

    found: list[Sheet] = []
    try:
        for file in files:
            with suppress(Unusable):
                found += await child.read(file.read_bytes(), file.name, compiled)
    finally:
        child.close()
    return found
