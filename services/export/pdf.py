"""A paper as PDF: embedded typefaces, none missing a character; same paper and same typefaces, same bytes.

What stands on the paper is not here (`paper.py`); how it is set is in `paper.typ`.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from services.export.fonts import Fonts, fonts
from services.export.official import Document
from services.export.paper import INSET, Break, Cell, Line, Paper, Table, annex, official, places
from services.export.table import MM, Row
from shared.notices.model import Form, Notice

_TYPESET = Path(__file__).with_name("typeset.py")
SECONDS = 300
"""Ten thousand rows take a tenth of that."""
_RUN = re.compile(r"([!-~]+|\n)")


class NotSet(Exception):
    """PDF 未能排版"""


def catalogue(
    notice: Notice, form: Form, rows: Sequence[Row], *, public: bool = False, faces: Fonts | None = None
) -> bytes:
    return render(annex(notice, form, rows, public=public), faces)


def official_list(document: Document, *, faces: Fonts | None = None) -> bytes:
    return render(official(document), faces)


def render(paper: Paper, faces: Fonts | None = None) -> bytes:
    faces = faces or fonts()
    codes = faces.codes(set().union(*_texts(paper)))
    said = {
        "title": paper.title,
        "issued": [paper.issued.year, paper.issued.month, paper.issued.day],
        "landscape": paper.landscape,
        "heading": paper.heading.translate(codes),
        "fonts": faces.stacks,
        "parts": [_part(part, paper, codes) for part in paper.parts],
    }
    moment = datetime.combine(paper.issued, time(), UTC)
    told = {
        "paper": said,
        "folders": [str(folder) for folder in faces.folders],
        "timestamp": int(moment.timestamp()),
    }
    made = subprocess.run(
        [sys.executable, "-I", str(_TYPESET)],
        input=json.dumps(told, ensure_ascii=False).encode(),
        capture_output=True,
        timeout=SECONDS,
    )
    if made.returncode or not made.stdout.startswith(b"%PDF"):
        # The cause only: what stands on the paper may be personal, and stays out of every log.
        raise NotSet(f"typeset ended with {made.returncode}")
    return made.stdout


def _texts(paper: Paper) -> Iterator[str]:
    yield paper.heading
    for part in paper.parts:
        if isinstance(part, Line):
            yield part.text
        elif isinstance(part, Table):
            yield from (
                cell.text for cells in (part.head, *(row.cells for row in part.rows)) for cell in cells
            )


def _part(part: Line | Table | Break, paper: Paper, codes: Mapping[int, str]) -> dict[str, Any]:
    match part:
        case Break():
            return {"kind": "break"}
        case Line():
            return {
                "kind": "line",
                "pieces": _pieces(part.text.translate(codes), 16.0, paper.width),
                "look": part.look,
                "side": part.side,
                "bold": part.bold,
                "indent": part.indent,
                "aside": part.aside,
                "stay": part.stay,
            }
    return {
        "kind": "table",
        "widths": part.widths,
        "head": [cell for placed in places([part.head]) for cell in _cells(placed, part.widths, codes)],
        "rows": [
            {"cells": _cells(placed, part.widths, codes), "group": row.group, "tall": row.tall}
            for row, placed in zip(part.rows, places(row.cells for row in part.rows), strict=True)
        ],
        "grouped": part.grouped,
        "whole": part.whole,
    }


def _cells(
    placed: Sequence[tuple[int, Cell, bool]], widths: Sequence[float], codes: Mapping[int, str]
) -> list[dict[str, Any]]:
    return [
        {
            "pieces": _pieces(cell.text.translate(codes), cell.size, sum(widths[at : at + cell.across])),
            "side": cell.side,
            "look": cell.look,
            "across": cell.across,
            "down": cell.down,
            "size": cell.size,
            "bold": cell.bold,
        }
        for at, cell, lower in placed
        if not lower
    ]


def _pieces(text: str, size: float, width: float) -> list[str]:
    """Lines, with "\\n" between them. A word wider than the cell is in single letters, and where "" stands between two of
    them it may be divided."""
    room = (width - 2 * INSET) * MM / (size * 0.56)
    if "\n" not in text and len(text) <= room:
        return [text] if text else []
    found: list[str] = []
    for run in _RUN.split(text):
        if run and len(run) > room and _RUN.match(run):
            found += [piece for letter in run for piece in ("", letter)][1:]
        elif run:
            found.append(run)
    return found
