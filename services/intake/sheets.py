"""What a workbook is read into, and how it is refused: the words between the service and its limited child.

Nothing here opens a file, so that the service itself never loads a spreadsheet library.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.contracts.types import Finding
from shared.notices.model import Notice

MB = 1024 * 1024


def is_word(name: str) -> bool:
    """Is the file called a Word document? Only for the advice: what it is, its content says."""
    return name.casefold().endswith((".doc", ".docx", ".docm", ".dot", ".dotx", ".rtf", ".wps", ".odt"))


class Unusable(Exception):
    """The file as a whole cannot be taken; `code` is for machines and stable, `detail` for the filer."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class Compiled(Protocol):
    """A loaded notice, of which reading needs the data only (shared/notices/load.py has more)."""

    @property
    def notice(self) -> Notice: ...


@dataclass
class RawRow:
    """One filled row as text, for `FormJudge.judge`; `cells` says where a value stands or is missing."""

    row: int
    raw: dict[str, Any]
    cells: dict[str, str]


@dataclass
class Sheet:
    """One worksheet. `form` is the id of its annex, None when it is none of the notice; `header` its row.

    A finding with a `row` belongs to that row (besides those of the judge), one without to the whole sheet.
    """

    sheet: str
    form: str | None = None
    header: int = 0
    rows: list[RawRow] = field(default_factory=list)
    lines: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
