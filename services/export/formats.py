"""The formats of a catalogue: one table; a line of it is all that a further format needs. Rows in, bytes out.

How each looks is in its own module; where the files are kept is in `publish.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from services.export import pdf, plain, sheet, table, word
from services.export.fonts import fonts
from services.export.paper import Paper
from services.export.table import Row, for_everybody
from shared.contracts.catalogue import CatalogueFile
from shared.notices.model import Form, Notice


class Maker(Protocol):
    """The same rows give the same bytes."""

    def __call__(self, notice: Notice, form: Form, rows: Sequence[Row], *, public: bool = False) -> bytes: ...


FORMATS: dict[str, Maker] = {
    "xlsx": sheet.catalogue,
    "docx": word.catalogue,
    "pdf": pdf.catalogue,
    "csv": plain.csv,
    "json": plain.json,
}
"""By the ending of the file; the first is the one that a catalogue's own digest is of."""
FIRST = next(iter(FORMATS))
RELEASE = version("yiqi")


@dataclass(frozen=True)
class File:
    """One catalogue in one format; `object` is its name in the object store, `name` the one that people see."""

    format: str
    object: str
    name: str
    data: bytes

    def told(self) -> CatalogueFile:
        return CatalogueFile(
            format=self.format, object=self.object, sha256=table.digest(self.data), size=len(self.data)
        )


def content(notice: Notice, form: Form, rows: Sequence[Row], *, public: bool, own: Path | None = None) -> str:
    """A digest of all that `render` goes by, a thousand times as quick: the rows in their order, the annex with its
    looks, the formats, the office's own typefaces, and the release, which may print the same in another way."""
    looks = (for_everybody(form) if public else form).model_dump_json()
    facts = (RELEASE, *FORMATS, fonts(own).digest, notice.issued_on.isoformat(), looks)
    return table.digest("\n".join(facts).encode() + plain.json(notice, form, rows, public=public))


def render(
    notice: Notice, form: Form, rows: Sequence[Row], *, public: bool, own: Path | None = None
) -> tuple[File, ...]:
    """One variant of an annex in every format; `own` is the folder of the office's own typefaces."""
    return tuple(_render(notice, form, rows, public, own))


def _render(
    notice: Notice, form: Form, rows: Sequence[Row], public: bool, own: Path | None
) -> Iterator[File]:
    makers = FORMATS | {"pdf": partial(pdf.catalogue, faces=fonts(own))}
    for ending, make in makers.items():
        object_ = table.object_name(notice, form, public=public, suffix=ending)
        name = table.file_name(notice, form, public=public, suffix=ending)
        yield File(ending, object_, name, make(notice, form, rows, public=public))


def printed(paper: Paper, own: Path | None = None) -> dict[str, bytes]:
    """Any other document, by the ending of its file."""
    return {"docx": word.render(paper), "pdf": pdf.render(paper, fonts(own))}
