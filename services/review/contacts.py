"""Pure: a filing and its contact data, apart as they are stored and whole as they are judged.

Which columns are contact data is said by the form (`shared/notices/layout.py`), the tables are in `store.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.review.case import Step
from shared.notices.layout import Form, apart

Forms = Callable[[str, str], Form | None]
"""The form of a notice, by their ids."""


def replaced(step: Step, form_of: Forms) -> dict[str, Any]:
    """A filing that another has replaced, without its contact data: that was put apart when it came."""
    assert step.replaces
    filing = step.replaces["filing"]
    form = form_of(step.case.notice, filing["form"]) or form_of(step.case.notice, step.case.form)
    return {
        "case": step.case.case,
        "revision": step.replaces["revision"],
        "filing": {**filing, "values": apart(form, filing["values"])[0]},
    }


def contact(step: Step, form_of: Forms) -> dict[str, Any] | None:
    """The contact data of a filing, when the step brings one that has any."""
    case = step.case
    if "revision" not in step.data:
        return None
    values = apart(form_of(case.notice, case.form), case.values)[1]
    if not (values or case.filer.email):
        return None
    return {"case": case.case, "revision": case.revision, "values": values, "email": case.filer.email}


def filings_of(
    filed: Sequence[Mapping[str, Any]], contacts: Sequence[Mapping[str, Any]]
) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """The earlier filings of a case by revision, whole again; and, of the revisions whose contact data was let go, the
    digest of the rest."""
    apart_ = {row["revision"]: row["values"] or {} for row in contacts}
    whole = {
        row["revision"]: {
            **row["filing"],
            "values": {**row["filing"]["values"], **apart_.get(row["revision"], {})},
        }
        for row in filed
    }
    return whole, {row["revision"]: row["rest"] for row in contacts if row["rest"] is not None}
