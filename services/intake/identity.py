"""Which case a row belongs to: its own, the one that its form continues, or the one that a report tells of.

Looking for known cases is not here (`store.py`): they arrive as arguments.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Protocol
from uuid import UUID, uuid5

from services.intake.findings import fault
from shared.contracts.envelope import YIQI
from shared.contracts.types import Finding, Values
from shared.notices.model import Form, Notice
from shared.notices.values import printed, same

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NUMBER = re.compile(rf"F[\d-]+-[{_DIGITS}]{{8}}")
_DASHES = str.maketrans("‐‑‒–—―−", "-" * 7)


class Known(Protocol):
    """An item that was accepted before, or a moment ago."""

    @property
    def case(self) -> UUID: ...
    @property
    def number(self) -> str: ...
    @property
    def notice(self) -> str: ...
    @property
    def form(self) -> str: ...
    @property
    def filer(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def recommender(self) -> str | None: ...
    @property
    def district(self) -> str: ...
    @property
    def title_key(self) -> str: ...


def number_of(form: str, case: UUID) -> str:
    """The number that people read out: `F3-7K3M9QXA`. It follows from the case, so that it survives every
    replay; 40 bits, and the database refuses the one clash in a trillion pairs."""
    bits = int.from_bytes(case.bytes[:5], "big")
    return form + "-" + "".join(_DIGITS[bits >> shift & 31] for shift in range(35, -1, -5))


def number_in(text: str) -> str | None:
    """The number of a case, however it was typed; None when the text is none."""
    plain = "".join(unicodedata.normalize("NFKC", text).split()).translate(_DASHES).upper()
    return plain if _NUMBER.fullmatch(plain) else None


def case_of(notice: str, form: str, unit: str, title: str) -> UUID:
    """The same item of the same unit in the same round is the same case (R-COL-040)."""
    return uuid5(YIQI, f"case/{notice}/{form}/{unit}/{same(title)}")


def report_of(notice: str, form: str, about: UUID, period: str, title: str) -> UUID:
    """The same report on the same case for the same time; what is about no time goes by its title."""
    return uuid5(YIQI, f"report/{notice}/{form}/{about}/{period or same(title)}")


def base_of(notice: Notice, form: str) -> str:
    """The form that opens the case which a filing of this form belongs to."""
    return next(reversed(notice.behind(form)), form)


def period_of(form: Form, values: Values) -> str:
    """`2025`, or `2025-3` with a quarter."""
    keys = form.report.period if form.report else ()
    return "-".join(text for key in keys if (text := printed(values.get(key))))


def wanted(form: Form, values: Values, title: str, case: UUID | None) -> UUID | str:
    """How the row names the case that it belongs to: by its id, else by its number or name."""
    return case or (printed(values.get(form.report.about)) if form.report else title)


def tellers(known: Known, issuer: str) -> set[str]:
    """Who may say something about a case: whoever filed or recommended it, its district, the city (R-GEN-011)."""
    return {known.filer, known.district, issuer} | ({known.recommender} if known.recommender else set())


def find(
    notice: Notice, form: Form, filer: str, named: UUID | str, among: Iterable[Known], pointer: str
) -> tuple[Known | None, list[Finding]]:
    """The case that a report tells of or a form continues. Several may have one name: then it is the one that the
    filer may speak of."""
    if isinstance(named, UUID):
        fits: Any = lambda one: one.case == named  # noqa: E731
    elif number := number_in(named):
        fits = lambda one: one.number == number  # noqa: E731
    else:
        fits = lambda one: one.title_key == same(named)  # noqa: E731
    kind = "report" if form.report else "case"
    opens = {f.id for f in notice.forms if f.report is None}
    if form.continues:
        opens &= {form.id, *notice.behind(form.id)}
    there = {
        one.case: one for one in among if one.notice == notice.id and one.form in opens and fits(one)
    }.values()
    may = [one for one in there if filer in tellers(one, notice.issuer)]
    if len(may) == 1:
        return may[0], []
    if len(may) > 1:
        detail = f"有{len(may)}个项目用这个名称，请改填项目编号（如 {number_of(base_of(notice, may[0].form), may[0].case)}）"
        return None, [fault(kind, f"{kind}.ambiguous", detail, pointer, notice.clause_name)]
    if there:
        detail = "这个项目不是由您报送、推荐或管理的，不能为它报送"
        return None, [fault("R-GEN-011", "case.foreign", detail, pointer, "R-GEN-011")]
    detail = "没有这个项目；请填写受理时告知的项目编号，或与申报时完全一致的项目名称"
    return None, [fault(kind, f"{kind}.unknown", detail, pointer, notice.clause_name)]
