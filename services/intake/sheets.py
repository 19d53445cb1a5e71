"""What a workbook is read into, and how it is refused: the words between the service and its limited child.

Nothing here opens a file, so that the service itself never loads a spreadsheet library.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.contracts.types import Finding
from shared.notices.model import Notice

MB = 1024 * 1024


def is_word(name: str) -> bool:
    """Is the file called a Word document? Only for the advice: what it is, its content says."""
    return name.casefold().endswith((".doc", ".docx", ".docm", ".dot", ".dotx", ".rtf", ".wps", ".odt"))


LONGEST_NAME = 240
"""Bytes; a file system takes 255, and a Chinese character has three."""

_UNSHOWN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)")


def file_name(said: str) -> str:
    """A file's name as it is shown and offered for saving: whatever its filer wrote, it stays a name. What the file is
    stored under is its hash."""
    name = _UNSHOWN.sub("", unicodedata.normalize("NFC", said))
    name = re.sub(r'[/\\:*?"<>|]', "_", name).strip(" ").lstrip(".").rstrip(". ")
    name = _RESERVED.sub(r"_\1", name) if _RESERVED.match(name) else name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending.encode()) > 16:
        stem, dot, ending = name, "", ""
    room = LONGEST_NAME - len((dot + ending).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + ending or "_"


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
