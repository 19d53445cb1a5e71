"""Marks in a worksheet as its parts have them: a column, colours, and which rows are shown. Comments: `cell_notes.py`.

What the marks say is not decided here (`marking.py`), nor which cells they are in.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

from openpyxl.utils import column_index_from_string
from openpyxl.utils import get_column_letter as letter

from services.intake.office import (
    Node,
    Package,
    Splice,
    added,
    closing,
    first,
    local,
    nodes,
    prefix,
    spliced,
    tag_end,
    text,
    with_attribute,
)

STAMP = "益企校验"
"""Who comments, and by what a colour of ours is known again after another program has saved it."""
ORDER = [
    "sheetPr",
    "dimension",
    "sheetViews",
    "sheetFormatPr",
    "cols",
    "sheetData",
    "sheetCalcPr",
    "sheetProtection",
    "protectedRanges",
    "scenarios",
    "autoFilter",
    "sortState",
    "dataConsolidate",
    "customSheetViews",
    "mergeCells",
    "phoneticPr",
    "conditionalFormatting",
    "dataValidations",
    "hyperlinks",
    "printOptions",
    "pageMargins",
    "pageSetup",
    "headerFooter",
    "rowBreaks",
    "colBreaks",
    "customProperties",
    "cellWatches",
    "ignoredErrors",
    "smartTags",
    "drawing",
    "legacyDrawing",
    "legacyDrawingHF",
    "drawingHF",
    "picture",
    "oleObjects",
    "controls",
    "webPublishItems",
    "tableParts",
    "extLst",
]
_STYLES = [
    "numFmts",
    "fonts",
    "fills",
    "borders",
    "cellStyleXfs",
    "cellXfs",
    "cellStyles",
    "dxfs",
    "tableStyles",
    "colors",
    "extLst",
]
_ALWAYS = f'N("{STAMP}")=0'
"""A formula that is true wherever it stands."""
_OURS = re.compile(STAMP.encode() + rb"|" + b"".join(b"&#%d;" % ord(c) for c in STAMP))
_RULE = re.compile(
    rb"""<((?:\w+:)?cfRule)\b(?:[^>"']|"[^"]*"|'[^']*')*?(?:/>|(?<!/)>.*?</\1\s*>)""", re.DOTALL
)
_FORMULA = re.compile(rb"<((?:\w+:)?f)\b[^>]*?(?:/>|(?<!/)>.*?</\1\s*>)", re.DOTALL)
_ESCAPE = re.compile("_(?=x[0-9A-Fa-f]{4}_)")
_REFERENCE = re.compile(r"([A-Z]+)(\d+)")
MOST_TEXT = 32_000
"""Of a cell; Excel takes 32,767 characters."""
RANGES = 500
"""In one list of cells."""
WIDE = 60


@dataclass
class Marks:
    """What one worksheet is to have. Rows and columns count from 1; `header` 0 is a sheet without a table."""

    header: int = 0
    column: int = 0
    """That of the results; 0 when there is none."""
    old: Collection[int] = ()
    """The columns that earlier results stand in."""
    results: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """RGB → cells."""
    away: Collection[int] = ()
    """Rows that are not shown and not read: of each only the cells of the columns in `kept` stay."""
    kept: Collection[int] = ()


def escaped(said: str) -> str:
    """As a spreadsheet takes it for what it is."""
    return _ESCAPE.sub("_x005F_", said)[:MOST_TEXT]


def worksheets(package: Package) -> dict[str, str]:
    """The part of every worksheet, by its name."""
    book = _book(package)
    targets = {r.id: r.target for r in package.related(book, "worksheet")}
    found = nodes(package.read(book), lambda _, name: name == "sheet")
    ids = {n.attributes["name"]: _id(n) for n in found}
    return {name: targets[id_] for name, id_ in ids.items() if id_ in targets}


def _book(package: Package) -> str:
    for relation in package.related("", "officeDocument"):
        return relation.target
    raise KeyError("officeDocument")


def forget_calculations(package: Package) -> None:
    """The order of formulas: it must not name one that is gone, and every program makes it anew."""
    for relation in package.related(_book(package), "calcChain"):
        package.unrelate(_book(package), relation.target)
        package.drop(relation.target)


def _id(node: Node) -> str:
    return next((v for k, v in node.attributes.items() if k.endswith(":id")), "")


# --- styles -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Looks:
    """Numbers of the styles that marks need: of wrapped text, and of each colour."""

    wrapped: int
    colours: Mapping[str, int]


def looks(package: Package, colours: Iterable[str]) -> Looks:
    """Adds what the workbook does not have of them; its own styles keep their numbers."""
    part = next((r.target for r in package.related(_book(package), "styles")), "")
    content = package.read(part)
    root = nodes(content, lambda depth, _: depth == 0)[0]
    p = prefix(content, root)
    xf = (
        b'<%sxf numFmtId="49" fontId="0" fillId="0" borderId="0" applyNumberFormat="1" applyAlignment="1">'
        b'<%salignment vertical="top" wrapText="1"/></%sxf>' % (p, p, p)
    )
    fills = {
        rgb: b'<%(p)sdxf><%(p)sfill><%(p)spatternFill patternType="solid"><%(p)sfgColor rgb="FF%(rgb)s"/>'
        b'<%(p)sbgColor rgb="FF%(rgb)s"/></%(p)spatternFill></%(p)sfill></%(p)sdxf>'
        % {b"p": p, b"rgb": rgb.encode()}
        for rgb in colours
    }
    content, (wrapped,) = _listed(content, "cellXfs", "xf", p, [xf])
    content, numbers = _listed(content, "dxfs", "dxf", p, list(fills.values()))
    package.write(part, content)
    return Looks(wrapped, dict(zip(fills, numbers, strict=True)))


def _listed(
    content: bytes, list_: str, item: str, p: bytes, wanted: Sequence[bytes]
) -> tuple[bytes, list[int]]:
    """Each of these in a counted list of the styles, and its number there."""
    top = nodes(content, lambda depth, _: depth == 1)
    home = first(top, list_)
    if home is None:
        empty = b"<%s%s></%s%s>" % (p, list_.encode(), p, list_.encode())
        content = spliced(content, [placed(content, top, _STYLES, list_, empty)])
        home = first(nodes(content, lambda depth, _: depth == 1), list_)
        assert home
    there = [
        content[n.start : n.end]
        for n in nodes(content, lambda depth, name: depth == 2 and name == item)
        if home.start < n.start < home.end
    ]
    new = [one for one in wanted if one not in there]
    there += new
    if new:
        whole = content[home.start : home.inner]
        end = added(content, home, b"".join(new))
        if end[0] == home.start:  # it closed itself
            tag, rest = end[2].split(b">", 1)
            splices = [(home.start, home.end, with_attribute(tag + b">", "count", len(there)) + rest)]
        else:
            splices = [(home.start, home.inner, with_attribute(whole, "count", len(there))), end]
        content = spliced(content, splices)
    return content, [there.index(one) for one in wanted]


def placed(content: bytes, top: Sequence[Node], order: Sequence[str], name: str, new: bytes) -> Splice:
    """A child of the root in the place that the format has for it."""
    behind = order[order.index(name) + 1 :]
    following = next((n for n in top if n.name in behind), None)
    if following is not None:
        return following.start, following.start, new
    at = content.rindex(b"</")
    return at, at, new


# --- a worksheet --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    number: int
    start: int
    inner: int
    close: int = 0
    end: int = 0
    cells: list[tuple[int, int, int]] = field(default_factory=list)
    """Column, start and end of those that are looked at."""
    style: str = ""
    """Of its last cell before the results."""


def marked(content: bytes, marks: Marks, styles: Looks) -> bytes:
    """The worksheet without what an earlier marking left in it, and with these marks."""
    rows, formulas = _rows(content, marks)
    top = nodes(content, lambda depth, _: depth == 1)
    data = first(top, "sheetData")
    if data is None:
        raise KeyError("sheetData")
    p = prefix(content, data)
    splices = [*_of_rows(content, rows, marks, styles, p), *((a, b, b"") for a, b in formulas)]
    missing = sorted({*marks.results} - {row.number for row in rows})
    for number in missing:
        behind = next((row.start for row in rows if row.number > number), None)
        new = b'<%srow r="%d">%s</%srow>' % (p, number, _cell(p, number, marks, styles.wrapped), p)
        splices.append((behind, behind, new) if behind is not None else added(content, data, new))
    if marks.column:
        splices += _columns(content, top, marks.column, p)
        if size := first(top, "dimension"):
            splices.append(_dimension(content, size, marks))
    splices += _colours(content, top, marks, styles, p)
    return spliced(content, splices)


def _rows(content: bytes, marks: Marks) -> tuple[list[_Row], list[tuple[int, int]]]:
    """The rows, of their cells those that matter, and where formulas stand if they must go."""
    parser = expat.ParserCreate()
    rows: list[_Row] = []
    formulas: list[tuple[int, int]] = []
    """In rows that stay: what they counted with may go."""
    least = min([*marks.old, *filter(None, [marks.column])], default=1 << 30)
    row = cell = None
    column = 0
    begun = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal row, cell, column, begun
        name = local(name)
        if name == "c" and row is not None:
            reference = _REFERENCE.match(attributes.get("r", ""))
            column = column_index_from_string(reference[1]) if reference else column + 1
            if column >= least or column in marks.kept:
                cell = (column, parser.CurrentByteIndex)
            elif row.number == marks.header:
                row.style = attributes.get("s", "")
        elif name == "row":
            at = parser.CurrentByteIndex
            number = int(attributes.get("r") or (rows[-1].number + 1 if rows else 1))
            row, column = _Row(number, at, tag_end(content, at)), 0
            rows.append(row)
        elif name == "f" and marks.away:
            begun = parser.CurrentByteIndex

    def end(name: str) -> None:
        nonlocal row, cell
        name = local(name)
        at = parser.CurrentByteIndex
        if name == "c" and cell and row:
            row.cells.append((*cell, closing(content, at, tag_end(content, cell[1]))[1]))
            cell = None
        elif name == "row" and row:
            row.close, row.end = closing(content, at, row.inner)
            row = None
        elif name == "f" and marks.away and row and row.number not in marks.away:
            formulas.append((begun, closing(content, at, tag_end(content, begun))[1]))

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(content, True)
    return rows, formulas


def _of_rows(content: bytes, rows: Sequence[_Row], marks: Marks, styles: Looks, p: bytes) -> list[Splice]:
    found: list[Splice] = []
    for row in rows:
        tag = content[row.start : row.inner]
        if row.number in marks.away:
            cells = b"".join(content[a:b] for column, a, b in row.cells if column in marks.kept)
            cells = _FORMULA.sub(b"", cells)
            tag = with_attribute(with_attribute(tag, "hidden", 1), "spans", None)
            if row.end == row.inner:
                tag = tag[:-2].rstrip() + b">"
            found.append((row.start, row.end, tag + cells + b"</%srow>" % p))
            continue
        if row.number < marks.header or not marks.header:
            continue
        old = [(c, a, b) for c, a, b in row.cells if c in marks.old or c == marks.column]
        said = row.number in marks.results
        if not said:
            found += [(a, b, b"") for c, a, b in old if c in marks.old]
            continue
        style = row.style if row.number == marks.header and row.style else styles.wrapped
        new = _cell(p, row.number, marks, style)
        if row.end == row.inner:
            tag = with_attribute(tag, "spans", None)[:-2].rstrip() + b">"
            found.append((row.start, row.end, tag + new + b"</%srow>" % p))
            continue
        if b"spans=" in tag:
            found.append((row.start, row.inner, with_attribute(tag, "spans", None)))
        found += [(a, b, b"") for _, a, b in old]
        at = next((a for c, a, _ in row.cells if c > marks.column), row.close)
        found.append((at, at, new))
    return found


def _cell(p: bytes, row: int, marks: Marks, style: int | str) -> bytes:
    said = text(escaped(marks.results[row])).replace(b"\r", b"")
    return b'<%sc r="%s%d" s="%s" t="inlineStr"><%sis><%st xml:space="preserve">%s</%st></%sis></%sc>' % (
        p,
        letter(marks.column).encode(),
        row,
        str(style).encode(),
        p,
        p,
        said,
        p,
        p,
        p,
    )


def _columns(content: bytes, top: Sequence[Node], column: int, p: bytes) -> list[Splice]:
    """A width for the results, beside those of the other columns."""
    wide = b'<%scol min="%d" max="%d" width="%d" customWidth="1"/>' % (p, column, column, WIDE)
    home = first(top, "cols")
    if home is None:
        return [placed(content, top, ORDER, "cols", b"<%scols>%s</%scols>" % (p, wide, p))]
    parts: list[tuple[int, bytes]] = [(column, wide)]
    for node in nodes(content, lambda depth, name: depth == 2 and name == "col"):
        least, most = int(node.attributes["min"]), int(node.attributes["max"])
        tag = content[node.start : node.inner]
        if not tag.endswith(b"/>"):
            tag = tag[:-1] + b"/>"
        for low, high in ((least, min(most, column - 1)), (max(least, column + 1), most)):
            if low <= high:
                parts.append((low, with_attribute(with_attribute(tag, "min", low), "max", high)))
    inner = b"".join(part for _, part in sorted(parts))
    return [(home.start, home.end, b"<%scols>%s</%scols>" % (p, inner, p))]


def _dimension(content: bytes, node: Node, marks: Marks) -> Splice:
    """Some readers believe it."""
    corners = node.attributes.get("ref", "A1").split(":")
    places = [_REFERENCE.fullmatch(corner) for corner in corners]
    columns = [column_index_from_string(m[1]) for m in places if m]
    rows = [int(m[2]) for m in places if m]
    columns.append(marks.column)
    rows += [min(marks.results), max(marks.results)]
    ref = f"{letter(min(columns))}{min(rows)}:{letter(max(columns))}{max(rows)}"
    return node.start, node.inner, with_attribute(content[node.start : node.inner], "ref", ref)


def _colours(content: bytes, top: Sequence[Node], marks: Marks, styles: Looks, p: bytes) -> list[Splice]:
    """Conditional formats that always hold: what a cell looks like by itself stays, and returns when they go."""
    splices: list[Splice] = []
    most = 0
    for node in top:
        if node.name != "conditionalFormatting":
            continue
        whole = content[node.start : node.end]
        rest = _RULE.sub(lambda rule: b"" if _OURS.search(rule[0]) else rule[0], whole)
        most = max([most, *(int(m) for m in re.findall(rb"""\bpriority=["'](\d+)""", rest))])
        if rest != whole:
            splices.append((node.start, node.end, rest if _RULE.search(rest) else b""))
    new = []
    for rgb, cells in marks.colours.items():
        ranges = _ranges(cells)
        for at in range(0, len(ranges), RANGES):
            most += 1
            new.append(
                b'<%sconditionalFormatting sqref="%s"><%scfRule type="expression" dxfId="%d" priority="%d">'
                b"<%sformula>%s</%sformula></%scfRule></%sconditionalFormatting>"
                % (
                    p,
                    " ".join(ranges[at : at + RANGES]).encode(),
                    p,
                    styles.colours[rgb],
                    most,
                    p,
                    text(_ALWAYS),
                    p,
                    p,
                    p,
                )
            )
    if new:
        behind = [n for n in top if n.name == "conditionalFormatting"]
        if behind:  # of all of them the last: what they are removes its own place
            splices.append((behind[-1].end, behind[-1].end, b"".join(new)))
        else:
            splices.append(placed(content, top, ORDER, "conditionalFormatting", b"".join(new)))
    return splices


def _ranges(cells: Iterable[str]) -> list[str]:
    """Cells below each other as one range."""
    places = sorted((m[1], int(m[2])) for m in map(_REFERENCE.fullmatch, set(cells)) if m)
    found: list[list[int | str]] = []
    for column, row in places:
        if found and found[-1][0] == column and found[-1][2] == row - 1:
            found[-1][2] = row
        else:
            found.append([column, row, row])
    return [f"{c}{a}" if a == b else f"{c}{a}:{c}{b}" for c, a, b in found]
