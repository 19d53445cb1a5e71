"""The public-notice list (公示) and the final list of a notice as documents: cases in, content out.

No source prints the words of either; these are ours, a draft for the issuer to sign. What a notice or the procedure
says (its title, clauses, terms, dates) is quoted as it is. How the page looks is in `official.py` and the renderers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from services.export.official import Document, Table
from shared.notices.model import Notice
from shared.notices.stages import Stage
from shared.notices.values import chinese_date

Kind = Literal["proposed", "final"]

DRAFT = "本稿由系统按通知和办理结果拟就，文字为拟稿，经审核签发后生效"


@dataclass(frozen=True)
class Entry:
    """A case on a list. `began` and `due` are of its stage."""

    number: str
    form: str
    title: str
    unit: str
    district: str
    stage: str
    began: date | None = None
    due: date | None = None
    provisional: bool = False


Column = tuple[str, Callable[[Entry], str]]


class NoList(ValueError):
    """Why there is no such list, for people."""


def stages(notice: Notice, kind: Kind) -> tuple[Stage, ...]:
    """Those that a list shows: of the proposed one the stages whose term must pass before the next, called 公示."""
    if kind == "final":
        return tuple(stage for stage in notice.procedure.stages if stage.shown)
    return tuple(
        stage
        for stage in notice.procedure.stages
        if "公示" in stage.name and stage.within is not None and stage.within.then is not None
    )


def document(
    notice: Notice, kind: Kind, entries: Sequence[Entry], *, issuer: str, unit: str | None, on: date
) -> Document:
    """The list of these cases, signed by the issuer on that day; the same cases in any order give the same."""
    by_stage = {stage.id: stage for stage in stages(notice, kind)}
    if not by_stage:
        raise NoList("这个通知的程序没有公示" if kind == "proposed" else "这个通知没有对外公布的名单")
    chosen = sorted(
        (entry for entry in entries if entry.stage in by_stage), key=lambda entry: (entry.form, entry.number)
    )
    if not chosen:
        raise NoList("没有正在公示的项目" if kind == "proposed" else "没有已公布的项目")
    clauses = "、".join(dict.fromkeys(by_stage[entry.stage].clause for entry in chosen))
    basis = f"根据《{notice.title}》{_numbered(notice)}（{clauses}）"
    said = _proposed if kind == "proposed" else _final
    return said(notice, chosen, by_stage, basis, issuer, unit, on)


def _proposed(
    notice: Notice,
    chosen: Sequence[Entry],
    by_stage: dict[str, Stage],
    basis: str,
    issuer: str,
    unit: str | None,
    on: date,
) -> Document:
    terms = {(entry.began, entry.due, by_stage[entry.stage].within) for entry in chosen}
    paragraphs = [f"{basis}，现将拟定名单（共{len(chosen)}项）予以公示。"]
    several = len(terms) > 1
    if not several:
        ((began, due, within),) = terms
        assert within is not None
        if began and due:
            paragraphs.append(f"公示时间：{chinese_date(began)}至{chinese_date(due)}（{within.text}）。")
    else:
        paragraphs.append("公示时间：各项分别至表中所列日期止。")
    if any(entry.provisional for entry in chosen):
        paragraphs.append("有关年度的节假日安排尚未公布，所列日期为暂定。")
    office = f"{issuer}{unit or ''}"
    paragraphs.append(f"公示期间如有异议，请向{office}反映。")
    more: list[Column] = [("公示截止", _due)] if several else []
    return Document(
        title=f"关于《{notice.title}》拟定名单的公示",
        paragraphs=tuple(paragraphs),
        signature=issuer,
        date=on,
        tables=_tables(chosen, more),
        note=DRAFT,
    )


def _final(
    notice: Notice,
    chosen: Sequence[Entry],
    by_stage: dict[str, Stage],
    basis: str,
    issuer: str,
    unit: str | None,
    on: date,
) -> Document:
    """Items of a list form are in its catalogue, which is an annex; the others stand in a table."""
    printed = {
        entry.form
        for entry in chosen
        if notice.by_form[entry.form].card is None and by_stage[entry.stage].ends == "published"
    }
    rest = [entry for entry in chosen if entry.form not in printed]
    annexes = tuple(
        notice.form_title(form) + f"（{sum(entry.form == form.id for entry in chosen)}项）"
        for form in notice.forms
        if form.id in printed
    )
    lasting = any(_lasts(by_stage, entry) for entry in rest)
    until: list[Column] = [("有效期至", lambda entry: _due(entry) if _lasts(by_stage, entry) else "")]
    return Document(
        title=f"关于公布《{notice.title}》名单的通知",
        paragraphs=(f"{basis}，现将名单（共{len(chosen)}项）予以公布。",),
        signature=issuer,
        date=on,
        tables=_tables(rest, until if lasting else []),
        annexes=annexes,
        note=DRAFT,
    )


def _numbered(notice: Notice) -> str:
    return f"（{notice.number}）" if notice.number else ""


def _due(entry: Entry) -> str:
    return chinese_date(entry.due) if entry.due else ""


def _lasts(by_stage: dict[str, Stage], entry: Entry) -> bool:
    term = by_stage[entry.stage].within
    return term is not None and term.validity


def _tables(entries: Sequence[Entry], more: Sequence[Column]) -> tuple[Table, ...]:
    """One table, numbered from 1; columns that everybody may see: the name of the item, who filed it, its district."""
    if not entries:
        return ()
    columns: list[Column] = [
        ("名称", lambda entry: entry.title),
        ("单位", lambda entry: entry.unit),
        ("所在区", lambda entry: entry.district),
        *more,
    ]
    rows = tuple((str(n), *(value(entry) for _, value in columns)) for n, entry in enumerate(entries, 1))
    return (Table(("序号", *(header for header, _ in columns)), rows),)
