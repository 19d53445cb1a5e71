"""The blank form as a Word document, a list or a card, made from the form alone; as a workbook: `template.py`.

What comes back filled in is read by `documents.py` and `cards.py`, and only a card: the rows of a list are filed as a
workbook, and its document is for paper.
"""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from services.intake.card_template import CARD_HINTS, LONG, SPARE_ROWS
from services.intake.labels import is_blank_within
from services.intake.office import STILL, quoted, text
from services.intake.stamp import PROPERTY, TITLE, stamp_of
from services.intake.template import BLANK_ROWS, OURS
from shared.notices.cards import Block, Declaration, Grid, Labelled
from shared.notices.columns import Column
from shared.notices.forms import FormJudge
from shared.notices.model import Notice

PAPER_ONLY = "供打印、盖章；报送数据请用同名的 Excel 模板（.xlsx）"
MM = 56.7
"""Twentieths of a point in a millimetre."""
LANDSCAPE, PORTRAIT = 225, 156
"""Millimetres of the type area."""
BODY, HEADING, TITLES = "仿宋_GB2312", "黑体", "方正小标宋简体"
PROMPT = "PlaceholderText"
_MAIN = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_BORDERS = "".join(
    f'<w:{side} w:val="single" w:sz="4" w:space="0" w:color="auto"/>'
    for side in ("top", "left", "bottom", "right", "insideH", "insideV")
)


def word_form(judge: FormJudge, notice: Notice) -> bytes:
    """The same form and notice always give the same bytes."""
    body = _Body(judge, notice)
    header = "；".join(
        filter(
            None,
            (OURS.removeprefix("&L") if judge.form.derived else "", "" if judge.form.card else PAPER_ONLY),
        )
    )
    written = body.written()
    return _file(written, header, body.hints, str(stamp_of(judge.form, notice)), notice.title)


def _t(said: str) -> str:
    return text(said).decode()


def _q(said: str) -> str:
    return quoted(said).decode()


def _run(said: str, *, font: str = BODY, size: float = 10.5, bold: bool = False) -> str:
    look = f'<w:rPr><w:rFonts w:ascii="{font}" w:hAnsi="{font}" w:eastAsia="{font}"/>{"<w:b/>" * bold}'
    look += f'<w:sz w:val="{round(size * 2)}"/><w:szCs w:val="{round(size * 2)}"/></w:rPr>'
    lines = "<w:br/>".join(f'<w:t xml:space="preserve">{_t(line)}</w:t>' for line in said.split("\n"))
    return f"<w:r>{look}{lines}</w:r>"


def _paragraph(inner: str, *, centred: bool = False, after: int = 0) -> str:
    where = '<w:jc w:val="center"/>' if centred else ""
    shape = f'<w:pPr><w:spacing w:before="0" w:after="{after}"/>{where}</w:pPr>'
    return f"<w:p>{shape}{inner}</w:p>"


class _Body:
    """Written from top to bottom."""

    def __init__(self, judge: FormJudge, notice: Notice) -> None:
        self.judge, self.form, self.notice = judge, judge.form, notice
        self.width = LANDSCAPE if self.form.landscape else PORTRAIT
        self.controls = 0
        self.hints: dict[str, str] = {}
        """What to write, by header; it stands in an endnote, which nobody reads as an answer."""

    def written(self) -> str:
        parts = [
            _paragraph(_run(self.form.annex, font=HEADING, size=16), after=120),
            _paragraph(
                _run(self.notice.form_title(self.form), font=TITLES, size=18)
                + '<w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:endnoteReference w:id="1"/></w:r>',
                centred=True,
                after=160,
            ),
        ]
        parts += self._card() if self.form.card else self._list()
        page = (297, 210) if self.form.landscape else (210, 297)
        turned = ' w:orient="landscape"' if self.form.landscape else ""
        parts.append(
            '<w:sectPr><w:headerReference w:type="default" r:id="rId2"/><w:footerReference w:type="default" r:id="rId3"/>'
            f'<w:pgSz w:w="{round(page[0] * MM)}" w:h="{round(page[1] * MM)}"{turned}/>'
            f'<w:pgMar w:top="{round((28 if turned else 37) * MM)}" w:right="{round((35 if turned else 26) * MM)}" '
            f'w:bottom="{round((26 if turned else 35) * MM)}" w:left="{round((37 if turned else 28) * MM)}" '
            'w:header="851" w:footer="992" w:gutter="0"/></w:sectPr>'
        )
        return "".join(parts)

    # -- a list ------------------------------------------------------------------------------------------

    def _list(self) -> Iterator[str]:
        form = self.form
        self.hints = {column.header: self._hint(column) for column in form.columns}
        for line in form.lines:
            if line.where == "above":
                yield _paragraph(_run(line.label), after=60)
        widths = [form.serial_width, *(c.width for c in form.columns)]
        rows = [self._row([_cell(_run(h, font=HEADING), centred=True) for h in self._headers()], head=True)]
        preset = form.preset if form.group and any(form.preset) else ("",) * max(len(form.preset), BLANK_ROWS)
        for number, described in enumerate(preset, 1):
            cells = [_cell(_run(str(number)), centred=True)]
            for column in form.columns:
                if described and column.key == form.group:
                    cells.append(_cell(_run(described)))
                else:
                    cells.append(_cell(self._entry(column)))
            rows.append(self._row(cells))
        yield _table(rows, widths)
        for note in form.notes:
            yield _paragraph(_run(f"{note.label} {note.text}" if note.label else note.text, bold=note.bold))
        for line in form.lines:
            if line.where == "below":
                yield _paragraph(_run(line.label), after=60)

    def _headers(self) -> list[str]:
        return ["序号", *(c.header for c in self.form.columns)]

    # -- a card ------------------------------------------------------------------------------------------

    def _card(self) -> Iterator[str]:
        assert self.form.card
        for section in self.form.card.sections:
            if section.title:
                yield _paragraph(_run(section.title, font=HEADING, size=12), after=60)
            if section.fields:
                yield from self._fields(section.fields)
            for grid in section.grids:
                yield self._grid(grid)
            for block in section.blocks:
                yield self._block(block)
            if section.declaration:
                yield self._declaration(section.declaration, [mark.label for mark in section.marks])
        for note in self.form.notes:
            yield _paragraph(_run(note.text))

    def _fields(self, fields: Sequence[Labelled]) -> Iterator[str]:
        """A table of four columns: two short fields in a row, a long one alone."""
        quarter = self.width / 4
        rows: list[str] = []
        waiting: Labelled | None = None
        for field in (*fields, None):
            alone = field is None or self._is_long(field)
            if waiting and (alone or field is None):
                rows.append(self._row(self._pair(waiting, span=3)))
                waiting = None
            if field is None:
                break
            if not alone:
                if waiting:
                    cells = [*self._pair(waiting), *self._pair(field)]
                    rows.append(self._row(cells))
                    waiting = None
                else:
                    waiting = field
            elif is_blank_within(field.header):
                rows.append(self._row([_cell(_run(field.header), span=4)]))
            else:
                rows.append(self._row(self._pair(field, span=3), tall=bool(field.below)))
        yield _table(rows, [quarter] * 4)

    def _is_long(self, field: Labelled) -> bool:
        long = field.below or field.guidance or (field.limit or 0) > LONG
        return bool(long) or is_blank_within(field.header)

    def _pair(self, field: Labelled, span: int = 1) -> list[str]:
        label = _run("\n".join((field.header, *field.guidance)))
        return [_cell(label, centred=True), _cell(self._entry(field), span=span)]

    def _grid(self, grid: Grid) -> str:
        widths = [self.width / (len(grid.columns) + 1)] * (len(grid.columns) + 1)
        heads = [grid.label, *(c.header for c in grid.columns)]
        rows = [self._row([_cell(_run(h, font=HEADING), centred=True) for h in heads], head=True)]
        for line in grid.rows:
            label = _cell(_run(self.notice.round.fill(line.label)), centred=True)
            rows.append(self._row([label, *(_cell(self._entry(c)) for c in grid.columns)]))
        return _table(rows, widths)

    def _block(self, block: Block) -> str:
        widths = [self.width / (len(block.columns) + 1)] * (len(block.columns) + 1)
        heads = ["序号", *(c.header for c in block.columns)]
        rows = [self._row([_cell(_run(h, font=HEADING), centred=True) for h in heads], head=True)]
        for n, described in enumerate(block.preset or ("",) * SPARE_ROWS, 1):
            cells = [_cell(_run(str(n)), centred=True)]
            for column in block.columns:
                own = described and column.key == block.described
                cells.append(_cell(_run(described) if own else self._entry(column)))
            rows.append(self._row(cells))
        return _paragraph(_run(block.title, font=HEADING), after=40) + _table(rows, widths)

    def _declaration(self, said: Declaration, marks: Sequence[str]) -> str:
        widths = [self.width / 4, self.width * 3 / 4]
        last = [*marks, *(["年    月"] if said.dated else [])]
        inner = [_run(said.text), *(_run(one) for one in last)]
        cells = [_cell(_run(said.label), centred=True), _cell(*inner)]
        return _table([self._row(cells)], widths)

    # -- cells -------------------------------------------------------------------------------------------

    def _row(self, cells: Sequence[str], *, head: bool = False, tall: bool = False) -> str:
        height = 1600 if tall else 480
        shape = f'<w:trPr><w:cantSplit/><w:trHeight w:val="{height}"/>{"<w:tblHeader/>" * head}</w:trPr>'
        return f"<w:tr>{shape}{''.join(cells)}</w:tr>"

    def _entry(self, column: Column) -> str:
        """Blank but for choices: LibreOffice makes an answer of the prompt in a control for text."""
        self.hints.setdefault(column.header, self._hint(column))
        return self._choice(column) if column.list or column.type == "flag" else ""

    def _choice(self, column: Column) -> str:
        """A closed list is one to choose from, an open one may be written over."""
        labels = ["是", "否"]
        kind = "dropDownList"
        if column.list:
            codes = self.judge.lists[column.list]
            labels = [choice.label for choice in codes.values]
            kind = "comboBox" if codes.open else kind
        items = "".join(
            f'<w:listItem w:displayText="{_q(label)}" w:value="{_q(label)}"/>'
            for label in dict.fromkeys(labels)
        )
        return self._control(column, f"<w:{kind}>{items}</w:{kind}>")

    def _control(self, column: Column, kind: str) -> str:
        self.controls += 1
        return (
            f'<w:sdt><w:sdtPr><w:alias w:val="{_q(column.header[:60])}"/><w:tag w:val="{column.key}"/>'
            f'<w:id w:val="{self.controls}"/><w:showingPlcHdr/>{kind}</w:sdtPr><w:sdtContent>'
            f'<w:r><w:rPr><w:rStyle w:val="{PROMPT}"/></w:rPr><w:t>请选择</w:t></w:r>'
            "</w:sdtContent></w:sdt>"
        )

    def _hint(self, column: Column) -> str:
        needed = column.conditional or ("必填" if column.required else "选填")
        how = "从下拉列表中选择" if column.list else CARD_HINTS.get(column.type, "")
        limit = f"不超过{column.limit}字" if column.limit else ""
        return "；".join(filter(None, (needed, how.replace("{year}", str(self.judge.round.year)), limit)))


def _cell(*paragraphs: str, span: int = 1, centred: bool = False) -> str:
    shape = f'<w:gridSpan w:val="{span}"/>' if span > 1 else ""
    inner = "".join(_paragraph(one, centred=centred) for one in paragraphs)
    return f'<w:tc><w:tcPr>{shape}<w:vAlign w:val="center"/></w:tcPr>{inner}</w:tc>'


def _table(rows: Sequence[str], widths: Sequence[float]) -> str:
    """Fixed widths; a paragraph behind it, so that the next table is one of its own."""
    grid = "".join(f'<w:gridCol w:w="{round(w * MM)}"/>' for w in widths)
    shape = f'<w:tblW w:w="{round(sum(widths) * MM)}" w:type="dxa"/><w:tblBorders>{_BORDERS}</w:tblBorders>'
    shape += '<w:tblLayout w:type="fixed"/>'
    behind = '<w:p><w:pPr><w:spacing w:before="0" w:after="0" w:line="120" w:lineRule="exact"/></w:pPr></w:p>'
    return f"<w:tbl><w:tblPr>{shape}</w:tblPr><w:tblGrid>{grid}</w:tblGrid>{''.join(rows)}</w:tbl>{behind}"


# --- the file ---------------------------------------------------------------------------------------------------


def _file(body: str, header: str, hints: Mapping[str, str], stamp: str, title: str) -> bytes:
    spaces = f'xmlns:w="{_MAIN}" xmlns:r="{_RELATION}"'
    office = "application/vnd.openxmlformats-officedocument"
    word = f"{office}.wordprocessingml"
    kinds = {
        "word/document.xml": f"{word}.document.main+xml",
        "word/styles.xml": f"{word}.styles+xml",
        "word/header1.xml": f"{word}.header+xml",
        "word/footer1.xml": f"{word}.footer+xml",
        "word/endnotes.xml": f"{word}.endnotes+xml",
        "docProps/custom.xml": f"{office}.custom-properties+xml",
    }
    types = "".join(f'<Override PartName="/{name}" ContentType="{kind}"/>' for name, kind in kinds.items())
    said = "".join(
        f'<property fmtid="{{D5CDD505-2E9C-101B-9397-08002B2CF9AE}}" pid="{n}" name="{name}">'
        f"<vt:lpwstr>{_t(value)}</vt:lpwstr></property>"
        for n, (name, value) in enumerate(((PROPERTY, stamp), (TITLE, title[:255])), 2)
    )
    number = "".join(
        f'<w:r><w:rPr><w:rFonts w:ascii="宋体" w:eastAsia="宋体"/><w:sz w:val="28"/></w:rPr>{inner}</w:r>'
        for inner in (
            '<w:t xml:space="preserve">— </w:t>',
            '<w:fldChar w:fldCharType="begin"/>',
            '<w:instrText xml:space="preserve"> PAGE </w:instrText>',
            '<w:fldChar w:fldCharType="separate"/>',
            "<w:t>1</w:t>",
            '<w:fldChar w:fldCharType="end"/>',
            '<w:t xml:space="preserve"> —</w:t>',
        )
    )
    look = f'<w:rFonts w:ascii="{BODY}" w:hAnsi="{BODY}" w:eastAsia="{BODY}"/><w:sz w:val="21"/>'
    parts = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{types}</Types>',
        "_rels/.rels": _relations(
            ("officeDocument", "word/document.xml"), ("custom-properties", "docProps/custom.xml")
        ),
        "word/document.xml": f"<w:document {spaces}><w:body>{body}</w:body></w:document>",
        "word/_rels/document.xml.rels": _relations(
            ("styles", "styles.xml"),
            ("header", "header1.xml"),
            ("footer", "footer1.xml"),
            ("endnotes", "endnotes.xml"),
        ),
        "word/styles.xml": f"<w:styles {spaces}><w:docDefaults><w:rPrDefault><w:rPr>{look}</w:rPr></w:rPrDefault>"
        '</w:docDefaults><w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/></w:style>'
        f'<w:style w:type="character" w:styleId="{PROMPT}"><w:name w:val="Placeholder Text"/>'
        '<w:rPr><w:color w:val="808080"/></w:rPr></w:style></w:styles>',
        "word/header1.xml": f"<w:hdr {spaces}>{_paragraph(_run(header, size=9))}</w:hdr>",
        "word/footer1.xml": f"<w:ftr {spaces}>{_paragraph(number, centred=True)}</w:ftr>",
        "word/endnotes.xml": f"<w:endnotes {spaces}>{_endnotes(hints)}</w:endnotes>",
        "docProps/custom.xml": '<Properties xmlns="http://schemas.openxmlformats.org/officeDocument/2006/custom-properties" '
        f'xmlns:vt="http://schemas.openxmlformats.org/officeDocument/2006/docPropsVTypes">{said}</Properties>',
    }
    out = BytesIO()
    with ZipFile(out, "w", ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(ZipInfo(name, STILL.timetuple()[:6]), (_HEAD + content).encode(), ZIP_DEFLATED)
    return out.getvalue()


def _endnotes(hints: Mapping[str, str]) -> str:
    """The two lines that every program wants there, and how to fill in the form."""
    lines = "".join(
        f'<w:endnote w:type="{kind}" w:id="{id_}">{_paragraph(f"<w:r><w:{kind}/></w:r>")}</w:endnote>'
        for id_, kind in ((-1, "separator"), (0, "continuationSeparator"))
    )
    said = ["填写说明", *(f"{header}：{hint}" for header, hint in hints.items())]
    own = _paragraph("<w:r><w:endnoteRef/></w:r>" + _run(" " + said[0], font=HEADING, size=9))
    own += "".join(_paragraph(_run(one, size=9)) for one in said[1:])
    return f'{lines}<w:endnote w:id="1">{own}</w:endnote>'


def _relations(*to: tuple[str, str]) -> str:
    inner = "".join(
        f'<Relationship Id="rId{n}" Type="{_RELATION}/{kind}" Target="{target}"/>'
        for n, (kind, target) in enumerate(to, 1)
    )
    return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{inner}</Relationships>'
