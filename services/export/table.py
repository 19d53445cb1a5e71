"""What a catalogue says, in whatever format: its rows in printed order, what everybody may see, its text, its names.

How a format sets it on the page is not here: that is `sheet.py` and its neighbours.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from shared.contracts.types import Values
from shared.notices.columns import Column, Type
from shared.notices.model import CodeList, Form, Notice
from shared.notices.values import printed, same

# GB/T 9704-2012. The official typefaces by name, never embedded: who receives the file has them.
HEI, SONG, FANG = "黑体", "方正小标宋简体", "仿宋_GB2312"
TABLE, LABEL, TITLE = 10.5, 16.0, 22.0

MM = 72 / 25.4
LONG_SIDE, SHORT_SIDE = 297 - 37 - 35, 210 - 28 - 26
"""The type area (版心) in mm: margins of 37 and 35 on the long side of the paper, 28 and 26 on the short."""

MAX_TEXT, MAX_BREAKS = 32_767, 253
"""What Excel takes in a cell: UTF-16 units, line breaks."""

# Invisible in print and harmful in a file: controls, halves of surrogate pairs, non-characters, and the
# marks that turn the direction of text around and so make it read as something else.
_UNPRINTABLE = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
FORMULA = tuple("=+-@＝＋－＠")
"""What a spreadsheet program may take for the beginning of a formula."""
_DAY = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d))?")
FORBIDDEN = re.compile(r"[\[\]:*?/\\<>|\"']")
PUBLIC: frozenset[Type] = frozenset(
    {
        "text",
        "choice",
        "period",
        "quantity",
        "amount",
        "months",
        "rate",
        "uscc",
        "date",
        "year_month",
        "integer",
        "decimal",
        "percent",
        "flag",
    }
)
"""The types whose columns everybody may see. A type that is not listed, one of tomorrow too, is shown in the public
variant only where the notice says so, column by column."""


@dataclass(frozen=True)
class Row:
    """One published item; `values` in the stored shape of its form (JSON types)."""

    case: str
    first_filed: datetime
    values: Values


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def file_name(notice: Notice, form: Form, *, public: bool = False, suffix: str = "xlsx") -> str:
    """The name a person sees: `附件3-广州市2025年第一季度中小企业服务活动清单.xlsx`."""
    variant = "（公开）" if public else ""
    return FORBIDDEN.sub("_", f"{form.annex}-{notice.form_title(form)}{variant}") + f".{suffix}"


def object_name(notice: Notice, form: Form, *, public: bool = False, suffix: str = "xlsx") -> str:
    """The name in the object store, ASCII only: `gz-collection-2025q1/F3.xlsx`."""
    return f"{notice.id}/{form.id}{'-public' if public else ''}.{suffix}"


def for_everybody(form: Form) -> Form:
    """The annex with the columns and lines that everybody may see."""
    kept = {
        "columns": tuple(c for c in form.columns if c.type in PUBLIC or c.key in form.public),
        "lines": tuple(one for one in form.lines if one.type in PUBLIC or one.key in form.public),
    }
    return Form.model_construct(**{name: getattr(form, name) for name in Form.model_fields} | kept)


def arrange(form: Form, lists: Mapping[str, CodeList], rows: Sequence[Row]) -> list[Row]:
    """The printed order: groups as their code list has them, others after it as they came; then by time."""
    by_time = sorted(rows, key=lambda row: (row.first_filed, row.case))
    if form.group is None:
        return by_time
    code_list = form.by_key[form.group].list
    rank: dict[str, int] = {}
    for n, choice in enumerate(lists[code_list].values if code_list else ()):
        for name in (choice.label, *choice.aliases):
            rank.setdefault(same(name), n)
    for row in by_time:
        rank.setdefault(group(form, row), len(rank))
    return sorted(by_time, key=lambda row: rank[group(form, row)])


def group(form: Form, row: Row) -> str:
    return same(printed(row.values.get(form.group or "")))


def cell_text(column: Column, value: Any) -> str:
    """A stored value as its cell says it: dates as people write them (R-GEN-010), a contact in lines of its own."""
    if isinstance(value, dict) and column.type == "contact":
        return "\n".join(filter(None, [value["name"], *value["phones"], value.get("email")]))
    if column.type in ("date", "year_month") and (found := _DAY.fullmatch(str(value))):
        year, month, day = found.groups()
        return f"{year}年{int(month)}月" + (f"{int(day)}日" if day else "")
    return printed(value)


def title_lines(title: str, room: float) -> str:
    """A title too long for a line of so many Chinese characters, in two lines where a reader pauses; the first the longer one
    (GB/T 9704: whole words, in symmetry)."""
    if sum(0.55 if c <= "~" else 1 for c in title) <= room:
        return title
    pauses = [m.end() for m in re.finditer(r"[”》）](?![”》）])", title)]
    good = [n for n in pauses if n <= room and len(title) - n <= n]
    return f"{title[: good[0]]}\n{title[good[0] :]}" if good else title


def said_by_all(form: Form, where: str, rows: Sequence[Row]) -> list[str]:
    """`联系人：` and the like, when it is one and the same for every row; many recommenders have none."""
    found = []
    for line in form.lines:
        if line.where == where:
            said = {printed(row.values.get(line.key)) for row in rows}
            if len(said) == 1 and (value := said.pop()):
                found.append(line.label + value)
    return found


def clean(text: str) -> str:
    """Text that every spreadsheet program can show: nothing invisible, no longer than a cell takes."""
    if text.isprintable() and len(text) * 2 <= MAX_TEXT:
        return text  # nearly all
    text = _UNPRINTABLE.sub(lambda c: " " if c[0] == "\t" else "", text.replace("\r\n", "\n"))
    if text.count("\n") > MAX_BREAKS:
        text = text.replace("\n", " ")
    if len(text) * 2 > MAX_TEXT and len(text.encode("utf-16-le")) // 2 > MAX_TEXT:
        # Half a surrogate pair at the cut is dropped.
        text = text.encode("utf-16-le")[: (MAX_TEXT - 1) * 2].decode("utf-16-le", "ignore") + "…"
    return text
