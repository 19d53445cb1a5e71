"""The items that a notice itself brings: nobody files them, and yet they are judged and become cases as all others.

Storing them and telling of them is not here.
"""

from collections.abc import Iterator
from datetime import datetime, time

from services.intake import parse
from services.intake.belonging import standing
from services.intake.parse import Filing, Judged
from shared.contracts.submission import Filer
from shared.notices.calendar import SHANGHAI
from shared.notices.directory import Directory
from shared.notices.load import CompiledNotice
from shared.notices.rules import Facts


def given_rows(compiled: CompiledNotice, directory: Directory) -> list[tuple[Filing, Judged]]:
    """Filed by the issuer on the day of the notice, in the district that each names."""
    notice = compiled.notice
    issuer = directory.find(notice.issuer)
    filer = Filer(
        code=notice.issuer,
        kind="city",
        name=issuer.name if issuer else notice.issuer,
        email=issuer.email if issuer else None,
    )
    received = datetime.combine(notice.issued_on, time(), SHANGHAI)
    rows = []
    for i, given in enumerate(notice.given):
        department = directory.find(given.district)
        name = department.short if department else ""
        materials = tuple(m.key for m in notice.materials)  # whoever issues a notice has seen the papers
        # The notice is the package that they came in: nobody waits for a receipt of each.
        package = f"notice/{notice.id}"
        filing = Filing(compiled, filer, None, given.district, received, package, name, materials)
        judged = parse.judge(filing, given.form, given.values, given=True)
        judged.position = i
        rows.append((filing, judged))
    return rows


def faults(compiled: CompiledNotice, directory: Directory) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What would keep them from becoming cases: where in the notice, and why."""
    seen = set()
    for i, (filing, judged) in enumerate(given_rows(compiled, directory)):
        where = ("given", i, "values")
        if judged.case is not None:
            parse.examine(filing, judged, Facts())
            judged.findings += standing(filing, judged, None, "")
            if judged.case in seen:
                yield where, "与前面的一项同名"
            seen.add(judged.case)
        for finding in judged.findings:
            if finding.severity == "hard":
                yield (*where, *finding.pointer.split("/")[3:]), finding.detail
