"""A filed annex workbook as rows: which sheet is which form, which column is which, what is an entry.

Whether a value is right is not decided here (`shared/notices/forms.py`); nor how a cell is stored (`pages.py`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time
from typing import Any

from openpyxl.utils import get_column_letter as letter

from services.intake import areas, documents
from services.intake.attachments import is_document, refuse_unsafe, visible
from services.intake.card_finding import read_cards
from services.intake.card_tables import tell
from services.intake.labels import NOTE, NUMBERING, SERIAL
from services.intake.pages import Page, pages_of, text_of
from services.intake.sheets import Compiled, RawRow, Sheet, Unusable
from services.intake.stamp import stamps_in, told
from shared.contracts.types import Finding, Severity
from shared.notices import values
from shared.notices.columns import Column
from shared.notices.model import NUMERALS, Form

HEADER_WITHIN = 30
SAME_FORM, LIKE_FORM = 0.6, 0.34
"""Share of a form's columns that makes a row its header, and the share from which it was probably meant."""
RESULT = "校验结果"
"""Header of the column that `marking.py` adds: none of the filer's."""


# --- which form, and which column is which --------------------------------------------------------------

_ANNEX = re.compile(r"附件\s*(\d+(?:\s*[-—–－]\s*\d+)?)")


@dataclass
class Header:
    """A row recognised as the header of `form`: which columns hold what, all from 0."""

    form: Form
    row: int
    columns: dict[str, list[int]]
    exact: int

    @property
    def share(self) -> float:
        return len(self.columns) / len(self.form.columns)


def _spellings(form: Form) -> dict[str, str]:
    """Every accepted spelling of a header → key; printed headers win over aliases, then bare ones.

    A header with another unit, `最高贷款金额（元）`, is another column: only a missing bracket is forgiven.
    """
    known = {_norm(c.header): c.key for c in form.columns}
    for c in form.columns:
        for alias in c.aliases:
            known.setdefault(_norm(alias), c.key)
    for c in form.columns:
        known.setdefault(re.sub(r"\([^()]*\)", "", _norm(c.header)), c.key)
    return known


def _header(form: Form, known: dict[str, str], row: int, cells: Sequence[Any]) -> Header:
    exact = 0
    columns: dict[str, list[int]] = {}
    printed: set[str] = set()
    for at, cell in enumerate(cells):
        if (text := _norm(cell)) and (key := known.get(text)) and key not in printed:
            column = form.by_key[key]
            if text == _norm(column.header):
                columns[key], exact = [at], exact + 1
                printed.add(key)
            elif key not in columns or column.type == "contact":  # people split name and telephone
                columns.setdefault(key, []).append(at)
    return Header(form, row, columns, exact)


def _best(page: Page, known: Sequence[tuple[Form, dict[str, str]]]) -> Header | None:
    found = [
        header
        for row, cells in enumerate(page.cells[:HEADER_WITHIN])
        if sum(isinstance(c, str) and c != "" for c in cells) > 1
        for form, spellings in known
        if (header := _header(form, spellings, row, cells)).columns
    ]
    return max(found, key=lambda h: (h.share, h.exact, -h.row), default=None)


def _norm(value: Any) -> str:
    return values.same(value).replace("★", "") if isinstance(value, str) and len(value) <= 80 else ""


# --- reading ----------------------------------------------------------------------------------------------

_EXAMPLE = re.compile(r"\s*[（(【]?(?:填写|填报)?(?:示例|样例|举例|例)(?:[\d一二三四五]*\s*[)）】:：]|$)")
_TOTAL = re.compile(r"[合总小共]\s*计\s*(?:[\d:：（(].*)?")
_SIGNED = re.compile(
    r"\s*(?:填[报表]|申报|推荐|报送|制表|审核|单位|联系|经办|负责|日期|时间|盖章)\S{0,10}\s*[:：]"
)


def read(data: bytes, name: str, compiled: Compiled) -> list[Sheet]:
    """The filled rows of every annex in the workbook, and what is wrong with its sheets as such."""
    refuse_unsafe(data, name)
    document = is_document(data)
    sheets = _document(data, visible(name), compiled) if document else read_pages(pages_of(data), compiled)
    if data.startswith(b"PK"):
        told(sheets, stamps_in(data), compiled)
    return sheets


def read_pages(pages: Sequence[Page], compiled: Compiled) -> list[Sheet]:
    known = [(form, _spellings(form)) for form in compiled.notice.forms if form.columns]
    sheets: list[Sheet] = []
    strangers: list[Sheet] = []
    for page in pages:
        if not any(cell != "" for row in page.cells for cell in row):
            continue
        header = _best(page, known)
        # A row of a card may look like the header of a short list, but never like all of it.
        cards = _cards(page, compiled) if not header or header.share < 1 else []
        if page.hidden:
            if (header and header.share >= SAME_FORM) or any(sheet.form for sheet in cards):
                say = f"隐藏的工作表“{page.name}”没有读取；如需报送请取消隐藏"
                strangers.append(_stranger(page, "workbook.hidden", "info", say, compiled))
            continue
        if any(sheet.form for sheet in cards):
            sheets += [sheet for sheet in cards if sheet.form]
            strangers += [sheet for sheet in cards if not sheet.form]
        elif header and header.share >= SAME_FORM:
            sheets.append(_Table(page, header, compiled).read())
        elif cards and (not header or header.share < LIKE_FORM):
            strangers += cards
        else:
            strangers.append(_unmatched(page, header, compiled))
    if not sheets:
        shown = [s for s in strangers if s.findings[0].code != "workbook.hidden"]
        return shown[:1] or [_empty(compiled)]
    if any(sheet.rows for sheet in sheets):
        for sheet in sheets:
            if not sheet.rows:  # a workbook of all annexes, of which only some are used
                unread = [f for f in sheet.findings if f.code == "card.unread"]
                sheet.findings = [
                    *unread,
                    *(f.model_copy(update={"severity": "info"}) for f in sheet.findings[-1:]),
                ]
        for sheet in strangers:
            sheet.findings = [_milder(f) for f in sheet.findings]
    return sheets + strangers


def _cards(page: Page, compiled: Compiled) -> list[Sheet]:
    """The cards of a worksheet, so far as they are read."""
    sheets = read_cards([areas.of_page(page)], page.name, compiled)
    further = page.cells[areas.MOST_ROWS :]
    if any(sheet.form for sheet in sheets) and any(cell != "" for row in further for cell in row):
        say = f"第{areas.MOST_ROWS}行以后的内容没有读取，请分成几个文件报送"
        cell = f"A{areas.MOST_ROWS + 1}"
        sheets[0].findings.insert(
            0,
            tell(
                compiled.notice.by_form[sheets[0].form or ""], page.name, "card.rows", "hard", say, cell=cell
            ),
        )
    return sheets


def _document(data: bytes, name: str, compiled: Compiled) -> list[Sheet]:
    """Only cards are taken as Word documents: a list of many rows is a matter for a table."""
    if sheets := read_cards(documents.areas_of(data), name, compiled):
        return sheets
    cards = "、".join(
        f"{f.annex}《{compiled.notice.form_title(f)}》" for f in compiled.notice.forms if f.card
    )
    taken = (
        f"本通知以 Word 文档收取的只有：{cards}；其他附件请用模板（.xlsx）填报"
        if cards
        else documents.NO_CARDS
    )
    if (stamp := stamps_in(data).whole) and (form := compiled.notice.by_form.get(stamp.form)):
        say = f"这是{form.annex}的 Word 空白表，供打印、盖章；数据请填在{form.annex}的 Excel 模板（.xlsx）里报送"
        raise Unusable("workbook.word", say)
    raise Unusable("workbook.word", f"这个 Word 文档里没有找到可以读取的附件。{taken}")


def _milder(finding: Finding) -> Finding:
    """A sheet that is no annex does not block the annexes beside it; one that was meant as such does."""
    if finding.code == "workbook.other":
        say = f"工作表“{finding.sheet}”不是本通知的附表，没有读取"
        return finding.model_copy(update={"code": "workbook.ignored", "severity": "info", "detail": say})
    return finding.model_copy(update={"severity": "soft"}) if finding.code == "workbook.annex" else finding


def _stranger(page: Page, code: str, severity: Severity, detail: str, compiled: Compiled) -> Sheet:
    found = Finding(
        rule="workbook",
        code=code,
        severity=severity,
        clause=compiled.notice.clause_name,
        detail=detail,
        sheet=page.name,
    )
    return Sheet(page.name, findings=[found])


def _expected(compiled: Compiled) -> str:
    titles = (f"{f.annex}《{compiled.notice.form_title(f)}》" for f in compiled.notice.forms)
    return "本通知收取：" + "、".join(titles)


def _empty(compiled: Compiled) -> Sheet:
    blank = Page("", [], [], lambda _row, _column: "")
    return _stranger(blank, "workbook.empty", "hard", f"工作簿是空的。{_expected(compiled)}", compiled)


def _unmatched(page: Page, header: Header | None, compiled: Compiled) -> Sheet:
    if header and header.share >= LIKE_FORM:
        missing = "、".join(f"“{c.header}”" for c in header.form.columns if c.key not in header.columns)
        say = (
            f"工作表“{page.name}”像是{header.form.annex}，但第{header.row + 1}行的表头缺少：{missing}；"
            "请使用模板填报"
        )
        return _stranger(page, "workbook.header", "hard", say, compiled)
    known = {_annex(name) for form in compiled.notice.forms for name in (form.annex, *form.aliases)}
    for text in (*(c for row in page.cells[:5] for c in row if isinstance(c, str)), page.name):
        if (label := _annex(text)) and label not in known:
            say = f"工作表“{page.name}”是附件{label}，本通知不以表格收取该附件。{_expected(compiled)}"
            return _stranger(page, "workbook.annex", "hard", say, compiled)
    say = f"工作表“{page.name}”中没有找到本通知附表的表头。{_expected(compiled)}"
    return _stranger(page, "workbook.other", "hard", say, compiled)


def _annex(text: str) -> str | None:
    found = _ANNEX.match(text.strip())
    return re.sub(r"\s", "", re.sub(r"[—–－]", "-", found[1])) if found else None


class _Table:
    """Reads the rows below one header."""

    def __init__(self, page: Page, header: Header, compiled: Compiled) -> None:
        self.page, self.header, self.form = page, header, header.form
        self.notice = compiled.notice
        self.sheet = Sheet(page.name, header.form.id, header.row + 1)
        self.first = header.row + 1
        self.above: dict[tuple[int, int], tuple[int, int]] = {}
        self.span: dict[tuple[int, int], int] = {}
        for (top, left), (bottom, right) in page.merged:
            for row in range(top, min(bottom, len(page.cells) - 1) + 1):
                self.above[row, left] = (top, left)
                self.span[row, left] = right - left + 1
            if top == header.row:
                self.first = max(self.first, bottom + 1)
        for key, (*_, at) in list(header.columns.items()):
            wide = self.span.get((header.row, at), 1)  # one header over two columns: name and telephone
            header.columns[key] += range(at + 1, at + wide)
        self.quiet = {c.key for c in self.form.columns if c.inherit or c.key == self.form.group}
        self.naming = {*self.form.name, *filter(None, [self.form.organizer])}
        self.extra, self.ignored = self._others()
        self.notes = [values.same(n.text) for n in self.form.notes]
        self.labels = [_norm(n.label) for n in self.form.notes if n.label]
        self.line_cells: dict[str, str] = {}
        self.line_pattern = _line_pattern(self.form)

    def read(self) -> Sheet:
        for row in range(self.header.row):
            self._take_lines(row)
        self._check_title()
        self._check_columns()
        carried: dict[str, str] = {}
        for row in range(self.first, len(self.page.cells)):
            self._take_row(row, carried)
        for raw in self.sheet.rows:
            raw.raw.update(self.sheet.lines)
            raw.cells.update(self.line_cells)
        if not self.sheet.rows:
            self._find("workbook.empty", "hard", f"{self.form.annex}没有填写任何一行")
        return self.sheet

    # -- header ------------------------------------------------------------------------------------------

    def _others(self) -> tuple[dict[int, str], set[int]]:
        """Columns that the form does not have, by printed header; and those that are not content."""
        cells = self.page.cells[self.header.row]
        taken = {at for ats in self.header.columns.values() for at in ats}
        extra: dict[int, str] = {}
        ignored = set()
        for at, cell in enumerate(cells):
            title = re.sub(r"\s+", "", text_of(cell)) or f"{letter(at + 1)}列"
            if _norm(cell) in SERIAL or title == RESULT:
                ignored.add(at)
            elif at not in taken:
                extra[at] = f"{title}（{letter(at + 1)}列）" if title in extra.values() else title
        return extra, ignored

    def _check_title(self) -> None:
        texts = {text_of(c) for row in self.page.cells[: self.header.row] for c in row if isinstance(c, str)}
        title = values.narrow(" ".join(sorted(texts)))
        years = {int(y) for y in re.findall(r"(20\d\d)\s*年(?!\s*\d{1,2}\s*月)", title)}
        numerals = re.findall(r"第?\s*([一二三四1-4])\s*季度", title)
        quarters = {NUMERALS.index(q) if q in NUMERALS else int(q) for q in numerals}
        this = self.notice.round
        wrong_quarter = this.quarter is not None and quarters and this.quarter not in quarters
        if (years and this.year not in years) or wrong_quarter:
            stated = "、".join(f"{y}年" for y in sorted(years)) + "、".join(
                f"第{NUMERALS[q]}季度" for q in quarters
            )
            wanted = f"{this.year}年" + (f"第{NUMERALS[this.quarter]}季度" if this.quarter else "")
            self._find(
                "workbook.round", "hard", f"表格标题写的是{stated}，本通知征集的是{wanted}；请使用本期模板"
            )
        known = {_annex(n) for n in (self.form.annex, *self.form.aliases)}
        labels = [a for t in [*sorted(texts), self.page.name] if (a := _annex(t))]
        if labels and not known & set(labels):
            say = f"标注为附件{labels[0]}，表头是{self.form.annex}的表头，按{self.form.annex}读取"
            self._find("workbook.label", "info", say)

    def _check_columns(self) -> None:
        unknown = [
            f"{letter(at + 1)}{self.header.row + 1}“{title}”"
            for at, title in self.extra.items()
            if self.page.cells[self.header.row][at] != ""
        ]
        before = "序号"
        for column in self.form.columns:
            if column.key not in self.header.columns:
                say = f"表头（第{self.header.row + 1}行）缺少“{column.header}”一列，应在“{before}”之后"
                say += f"；未识别的列：{'、'.join(unknown)}" if unknown else ""
                needed = column.required and not column.conditional
                self._find("workbook.column", "hard" if needed else "soft", say, rule=column.field)
            before = column.header

    def _find(
        self,
        code: str,
        severity: Severity,
        say: str,
        rule: str = "",
        row: int | None = None,
        cell: str | None = None,
    ) -> None:
        self.sheet.findings.append(
            Finding(
                rule=rule or self.form.id,
                code=code,
                severity=severity,
                clause=self.form.clause,
                detail=say,
                sheet=self.page.name,
                row=row,
                cell=cell,
            )
        )

    # -- rows --------------------------------------------------------------------------------------------

    def _text(self, row: int, at: int, kind: str = "text") -> str:
        cells = self.page.cells[row]
        if at >= len(cells) or cells[at] == "":
            return ""
        return text_of(cells[at], kind, lambda: self.page.format_of(row, at))

    def _value(self, row: int, column: Column) -> str:
        found = (self._text(row, at, column.type) for at in self.header.columns.get(column.key, ()))
        return " ".join(filter(None, found))

    def _merged_value(self, row: int, column: Column) -> str:
        """What a vertical merge that began further up gives to this row."""
        tops = (self.above.get((row, at), (row, at)) for at in self.header.columns.get(column.key, ()))
        found = (self._text(top, at, column.type) for top, at in tops if self.first <= top < row)
        return " ".join(filter(None, found))

    def _take_row(self, row: int, carried: dict[str, str]) -> None:
        filled = [
            at
            for at, cell in enumerate(self.page.cells[row])
            if cell != "" and not (isinstance(cell, str) and cell.isspace())
        ]
        if not filled:
            return
        own = {c.key: self._value(row, c) for c in self.form.columns}
        if self._is_apart(row, filled, own):
            return
        content = [at for at in filled if at not in self.ignored]
        if len(content) == 1 and self.span.get((row, content[0]), 1) >= 3:
            carried.clear()  # a heading of its own within the table: what stands above it no longer counts
            return
        is_entry = any(text for key, text in own.items() if key not in self.quiet)  # more than a preset
        for column in self.form.columns:
            key = column.key
            own[key] = own[key] or self._merged_value(row, column)
            if column.inherit:
                own[key] = carried[key] = own[key] or carried.get(key, "")
        if is_entry:
            self._keep(row, own)

    def _keep(self, row: int, own: dict[str, str]) -> None:
        raw: dict[str, Any] = {key: text for key, text in own.items() if text}
        cells = {key: f"{letter(ats[0] + 1)}{row + 1}" for key, ats in self.header.columns.items()}
        if extra := {title: text for at, title in self.extra.items() if (text := self._text(row, at))}:
            raw["extra"] = extra
        for column in self.form.columns:
            at = self.header.columns.get(column.key, [0])[0]
            numeric = column.type in ("months", "quantity", "amount", "rate")
            if numeric and own[column.key] and isinstance(self.page.cells[row][at], (date, time)):
                say = f"“{column.header}”：填写的内容被表格软件当成了日期，请先把单元格格式设为“文本”再填写"
                self._find("cell.date", "hard", say, column.field, row + 1, cells[column.key])
        self.sheet.rows.append(RawRow(row + 1, raw, cells))

    def _is_apart(self, row: int, filled: list[int], own: dict[str, str]) -> bool:
        """Rows of the table that are no entries: repeated headers, notes, examples, totals, signatures."""
        lead = self._text(row, filled[0])
        serial = filled[0] in self.ignored and NUMBERING.fullmatch(lead)
        if serial and len(filled) > 1:
            lead = self._text(row, filled[1])
        if self.line_pattern.match(lead) and self._take_lines(row):
            return True
        if _EXAMPLE.match(lead) or _TOTAL.fullmatch(lead) or NOTE.match(lead) or _norm(lead) in self.labels:
            return True
        if any(_EXAMPLE.match(own[key]) for key in self.naming if own[key]):
            return True
        if _SIGNED.match(lead) and len(filled) * 2 <= len(self.form.columns):
            return True
        if len(filled) - bool(serial) == 1:
            plain = values.same(lead)
            if any(note.startswith(plain[:12]) and len(plain) * 2 > len(note) for note in self.notes):
                return True
        titles = self.page.cells[self.header.row]
        return all(own[key] == text_of(titles[ats[0]]) for key, ats in list(self.header.columns.items())[:3])

    def _take_lines(self, row: int) -> bool:
        """Labelled values outside the table: in the label's own cell or the next one, several in a row."""
        texts = [(at, text) for at in range(len(self.page.cells[row])) if (text := self._text(row, at))]
        taken = False
        for i, (at, text) in enumerate(texts):
            labels = list(self.line_pattern.finditer(text))
            for label, following in zip(labels, [*labels[1:], None], strict=False):
                key = self.form.lines[int(str(label.lastgroup)[1:])].key
                value = text[label.end() : following.start() if following else None].strip(" _\u3000")
                where = at
                if not value and following is None and i + 1 < len(texts):
                    where, beside = texts[i + 1]
                    value = "" if self.line_pattern.search(beside) else beside
                taken = True
                if not self.sheet.lines.get(key):
                    self.line_cells[key] = f"{letter((where if value else at) + 1)}{row + 1}"
                    if value:
                        self.sheet.lines[key] = value
        return taken


def _line_pattern(form: Form) -> re.Pattern[str]:
    """One named group a labelled line: blanks within it and a missing bracket do not matter."""
    labels = []
    for i, line in enumerate(form.lines):
        core = re.sub(r"[（(].*?[)）]|[:：]|\s", "", line.label)
        labels.append(f"(?P<n{i}>" + r"\s*".join(map(re.escape, core)) + ")")
    known = "|".join(labels) or "(?!)"  # which nothing matches
    return re.compile(rf"(?:^|(?<=[\s；;，,]))(?:{known})\s*(?:[（(][^）)]*[）)])?\s*(?:[:：]|$)")
