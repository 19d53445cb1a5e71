"""How a row stands to the cases that are known: it may be one of them, continue one, or tell of one.

What the row itself says was judged before (`parse.py`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from services.intake.admission import route
from services.intake.findings import fault, in_words_of
from services.intake.identity import Known, find, report_of
from services.intake.parse import Filing, Judged
from shared.contracts.types import Finding
from shared.notices.model import Form
from shared.notices.procedure import start
from shared.notices.values import same


@dataclass(frozen=True)
class Fresh:
    """An item of the same batch, which is not stored yet."""

    case: UUID
    number: str
    notice: str
    form: str
    filer: str
    unit: str
    recommender: str | None
    district: str
    title_key: str

    @classmethod
    def of(cls, filing: Filing, judged: Judged) -> Self:
        assert judged.case
        return cls(
            judged.case,
            judged.number,
            filing.notice.notice.id,
            judged.form,
            filing.filer.code,
            filing.unit,
            filing.by.code if filing.by else None,
            filing.district,
            same(judged.row.title),
        )


def belong(filing: Filing, judged: Judged, named: UUID | str, among: Iterable[Known]) -> None:
    """Find the case that a report tells of, or that this form continues. A form that may also begin a case does so
    where there is none."""
    notice = filing.notice.notice
    form = _form(filing, judged)
    column = form.report.about if form.report else form.name[0]
    pointer = "#/data/case" if isinstance(named, UUID) else f"{judged.root}/{column}"
    owner, wrong = find(notice, form, filing.filer.code, named, among, pointer)
    judged.owner = owner
    if owner is None:
        begins = form.continues and start(
            notice.procedure, form.id, filing.by is not None, judged.row.stored or {}
        )
        if isinstance(named, UUID) or not begins or any(f.code != "case.unknown" for f in wrong):
            judged.findings += wrong
    elif form.report:
        judged.case = report_of(notice.id, form.id, owner.case, judged.period, judged.row.title)
    else:
        judged.case = owner.case


def standing(filing: Filing, judged: Judged, row: Any, state: str) -> list[Finding]:
    """What keeps it from being filed as this case: that it begins nowhere, is over, or is another's."""
    notice = filing.notice.notice
    form = _form(filing, judged)
    found = route(notice, form, filing.by is not None, judged.row.stored or {})
    ended = ("closed",) if form.continues else ("closed", "published")
    if row is not None and row.form != form.id and form.id in notice.behind(row.form):
        later = notice.by_form[row.form].annex
        found.append(
            fault("case", "case.continued", f"该项目已报送{later}，不再受理{form.annex}", judged.root)
        )
    elif state in ended:
        detail = "该项目已办结，不再受理同名报送；如需重报请联系市级主管部门"
        found.append(fault("R-COL-040", "case.ended", detail, judged.root))
    elif (
        row is not None and judged.owner is None and (row.filer, row.notice) != (filing.filer.code, notice.id)
    ):
        found.append(fault("R-GEN-011", "case.foreign", "同名项目已由其他单位报送", judged.root, "R-GEN-011"))
    elif _moved(filing, judged, row) and state != "returned":
        detail = "该项目正由原推荐单位办理；被退回后才能改报其他单位"
        found.append(fault("case", "case.elsewhere", detail, "#/data/recommender", notice.clause_name))
    return in_words_of(notice, found)


def corrects(filing: Filing, judged: Judged, row: Any) -> bool:
    """Whether the same words answer a return: by going to another recommender, or with other papers."""
    return judged.correction and (bool(filing.notice.notice.materials) or _moved(filing, judged, row))


def _moved(filing: Filing, judged: Judged, row: Any) -> bool:
    """Another recommender than before. Where items are counted, that would be another item."""
    if row is None or judged.owner is not None or filing.notice.notice.tallies:
        return False
    return bool(row.recommender != (filing.by.code if filing.by else None))


def _form(filing: Filing, judged: Judged) -> Form:
    return filing.notice.notice.by_form[judged.form]
