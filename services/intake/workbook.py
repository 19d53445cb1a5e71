"""Annex workbooks: a filed one as rows, its faults written back into it, and the blank one to fill in.

Whether a value is right is not decided here (shared/notices/forms.py). Files from outside must only be opened
in the limited process of child.py: a few kilobytes are enough to take all memory or to end a process.
"""

import contextlib
import math
import re
import warnings
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cache
from io import BytesIO
from typing import Any, Protocol
from xml.parsers import expat
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

import openpyxl
import xlsxwriter
from openpyxl.cell.cell import MergedCell
from openpyxl.comments import Comment
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter as letter
from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum
from xlsxwriter.exceptions import OverlappingRange

from shared.contracts.types import Finding, Severity
from shared.notices import values
from shared.notices.forms import FormJudge
from shared.notices.model import NUMERALS, Column, Form, Notice

MB = 1024 * 1024
MAX_SIZE = 20 * MB
MAX_UNPACKED = 100 * MB
MAX_RATIO = 100
MAX_PARTS = 1000
MAX_ROWS = 20_000
MAX_CELLS = 4_000_000
"""Of the rectangle around all filled cells: readers lay it out in full, blank cells included."""

HEADER_WITHIN = 30
SAME_FORM, LIKE_FORM = 0.6, 0.34
"""Share of a form's columns that makes a row its header, and the share from which it was probably meant."""

RESULT = "校验结果"
CLEAN = "未发现问题"
AUTHOR = "益企校验"
CODES = "代码表"

SEVERITIES: dict[Severity, tuple[str, str]] = {
    "hard": ("必须修改", "FFC7CE"),
    "soft": ("请确认", "FFEB9C"),
    "info": ("提示", "DDEBF7"),
}
STILL = datetime(2025, 1, 1)  # noqa: DTZ001 - a zip has no zone; written into files so that their bytes repeat


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


# --- what is not opened at all -------------------------------------------------------------------------

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
SAVE_AGAIN = "请用 Excel 或 WPS 打开后另存为“Excel 工作簿（*.xlsx）”再报送"

FOREIGN = (
    (rb"%PDF-", "workbook.pdf", "PDF 文件"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|II\*\0|MM\0\*|RIFF.{4}WEBP", "workbook.image", "图片"),
    (rb"\{\\rtf", "workbook.word", "Word（RTF）文档"),
    (rb"Rar!|7z\xbc\xaf|\x1f\x8b|PK", "workbook.archive", "压缩包"),
    (rb"(?is).{0,2000}<(?:!doctype html|html|table|body)\b|mime-version:", "workbook.html", "网页（HTML）"),
    (rb"\s*<\?xml", "workbook.xml", "XML 文件"),
)
STREAMS = (
    ("encryptedpackage", "workbook.encrypted", "文件设有打开密码，请取消密码后再报送"),
    ("worddocument", "workbook.word", f"这是 Word 文档，不是电子表格；{SAVE_AGAIN}"),
    ("powerpoint document", "workbook.slides", f"这是 PowerPoint 演示文稿，不是电子表格；{SAVE_AGAIN}"),
    ("_vba_project_cur|macros|vba", "workbook.macros", f"文件含有宏；{SAVE_AGAIN}（不保留宏）"),
    (
        r"mbd[0-9a-f]{8}|\x01ole10native|objectpool",
        "workbook.ole",
        "文件嵌有其他文件（OLE 对象），请删除后再报送",
    ),
)


# The record that declares encryption stands right behind the first one, or behind WRITEPROT.
_FILEPASS = re.compile(rb"\x09\x08\x10\0\0\x06\x05\0.{12}(?:\x86\0\0\0)?\x2f\0", re.DOTALL)


def refuse_unsafe(data: bytes, name: str) -> None:
    """Raise `Unusable` for what is no spreadsheet or may do harm. Content decides, not the extension."""
    name = _INVISIBLE.sub("", name)
    if not data:
        raise Unusable("workbook.blank", f"“{name}”是空文件（0字节）")
    if len(data) > MAX_SIZE:
        raise Unusable("workbook.size", f"文件超过{MAX_SIZE // MB}MB，请分成几个文件报送")
    if data.startswith(b"PK\x03\x04"):
        _refuse_parts(_parts(data), name)
    elif data.startswith(OLE):
        _refuse_ole(data, name)
    else:
        _refuse_foreign(data, name)


def _refuse_foreign(data: bytes, name: str) -> None:
    head = data[:4096]
    text = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe")  # UTF-16 reads as ASCII then
    for pattern, code, what in FOREIGN:
        if re.match(pattern, head, re.DOTALL) or re.match(pattern, text):
            raise Unusable(code, f"“{name}”的内容是{what}，不是电子表格；{SAVE_AGAIN}")
    if not re.search(rb"[\x00-\x08\x0e-\x1f]", text) and re.search(rb"[,;\t]", text):
        raise Unusable("workbook.csv", f"“{name}”是 CSV 文本；请使用模板（.xlsx）填报")
    raise Unusable("workbook.unknown", f"“{name}”不是电子表格；请使用模板（.xlsx）填报")


def _refuse_ole(data: bytes, name: str) -> None:
    streams = _ole_names(data)
    for pattern, code, detail in STREAMS:
        if any(re.fullmatch(pattern, s) for s in streams):
            raise Unusable(code, detail)
    if _FILEPASS.search(data):
        raise Unusable("workbook.encrypted", "文件设有打开密码，请取消密码后再报送")
    if not streams & {"workbook", "book"}:
        raise Unusable("workbook.unknown", f"“{name}”不是电子表格；请使用模板（.xlsx）填报")


def _ole_names(data: bytes) -> set[str]:
    """Names of the directory entries of a compound file: 128 bytes each and aligned."""
    found = set()
    for at in range(512, len(data) - 127, 128):
        size, kind = int.from_bytes(data[at + 64 : at + 66], "little"), data[at + 66]
        if kind in (1, 2, 5) and 2 < size <= 64 and size % 2 == 0:
            found.add(data[at : at + size - 2].decode("utf-16-le", "replace").casefold())
    return found


def _parts(data: bytes) -> dict[str, bytes]:
    """The parts of a zip by lower-case name, unpacked within the limits."""
    parts: dict[str, bytes] = {}
    try:
        with ZipFile(BytesIO(data)) as archive:
            entries = archive.infolist()
            declared = sum(e.file_size for e in entries)
            if len(entries) > MAX_PARTS or declared > max(MB, min(MAX_UNPACKED, MAX_RATIO * len(data))):
                raise Unusable("workbook.bomb", f"文件解压后过大或部件过多；{SAVE_AGAIN}")
            total = 0
            for entry in entries:
                path = entry.orig_filename
                odd = re.search(r"^/|\\|\0|^\w:|(^|/)\.\.(/|$)", path) or entry.external_attr >> 28 == 0o12
                if odd or path.lower() in parts:
                    raise Unusable("workbook.names", f"文件内部的部件名称异常；{SAVE_AGAIN}")
                if entry.flag_bits & 1:
                    raise Unusable("workbook.encrypted", "文件设有打开密码，请取消密码后再报送")
                with archive.open(entry) as part:
                    content = part.read(MAX_UNPACKED - total + 1)
                total += len(content)
                if total > MAX_UNPACKED:
                    raise Unusable("workbook.bomb", f"文件解压后过大；{SAVE_AGAIN}")
                parts[path.lower()] = content
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if "Error -4" in str(error):  # Z_MEM_ERROR: nothing is wrong with the file, we are at our limit
            raise MemoryError from None
        raise Unusable("workbook.damaged", f"文件已损坏，无法打开；{SAVE_AGAIN}") from None
    return parts


def _refuse_parts(parts: dict[str, bytes], name: str) -> None:
    doctype = [b"<!DOCTYPE", *("<!DOCTYPE".encode(code) for code in ("utf-16-le", "utf-16-be"))]
    if any(mark in content for content in parts.values() for mark in doctype):
        raise Unusable("workbook.dtd", f"文件内部含有 DTD 声明；{SAVE_AGAIN}")
    kind = _zip_kind(parts)
    for word, code, what in (
        ("macroenabled", "workbook.macros", "启用宏的工作簿"),
        ("sheet.binary", "workbook.xlsb", "二进制工作簿（.xlsb）"),
        ("wordprocessing", "workbook.word", "Word 文档"),
        ("opendocument.text", "workbook.word", "文字文档"),
        ("presentation", "workbook.slides", "演示文稿"),
    ):
        if word in kind.replace("sheet.binary.macroenabled", "sheet.binary"):
            raise Unusable(code, f"“{name}”的内容是{what}；{SAVE_AGAIN}")
    if "spreadsheet" not in kind:
        raise Unusable("workbook.archive", f"“{name}”是压缩包，不是电子表格；请解压后逐个报送")
    paths = "\n".join(parts)
    if "encryption-data" in parts.get("meta-inf/manifest.xml", b"").decode("utf-8", "replace"):
        raise Unusable("workbook.encrypted", "文件设有打开密码，请取消密码后再报送")
    if re.search(
        r"vbaproject\.bin|/macrosheets/|(?m:^(basic|scripts)/.*(?<!script-l[bc]\.xml)(?<!/)$)", paths
    ):
        raise Unusable("workbook.macros", f"文件含有宏；{SAVE_AGAIN}（不保留宏）")
    content = parts.get("content.xml", b"")
    if (
        re.search(r"/externallinks/|/connections\.xml|/querytables/", paths)
        or re.search(rb"<office:dde-source|<table:table-source|<table:dde-link", content)
        or any(_leads_out(parts[p]) for p in parts if p.endswith(".rels"))
    ):
        detail = "文件含有指向其他文件的外部链接，请在“数据—编辑链接”中断开后再报送"
        raise Unusable("workbook.external", detail)
    embedded = re.search(r"/embeddings/|/activex/|oleobject", paths) or b"<draw:object-ole" in content
    if embedded or any(c.startswith(OLE) for c in parts.values()):
        raise Unusable("workbook.ole", "文件嵌有其他文件（OLE 对象），请删除后再报送")
    if any(c.startswith((b"PK\x03\x04", b"Rar!", b"7z\xbc\xaf")) for c in parts.values()):
        raise Unusable("workbook.nested", "文件内部还有压缩包，请删除后再报送")
    for last_row, last_column, rows in _extents(parts):
        if rows > MAX_ROWS:
            raise Unusable("workbook.rows", f"数据超过{MAX_ROWS}行，请分成几个文件报送")
        if last_row > MAX_ROWS or last_row * last_column > MAX_CELLS:
            where = f"{letter(last_column)}{last_row}"
            detail = f"表中内容一直散落到{where}单元格，请删除表格以外的多余内容后再报送"
            raise Unusable("workbook.sparse", detail)


def _xml(content: bytes) -> ET.Element:
    try:
        return ET.fromstring(content)  # noqa: S314 - no entities without a DTD, and those are refused before
    except ET.ParseError:
        raise Unusable("workbook.damaged", f"文件已损坏，无法打开；{SAVE_AGAIN}") from None


def _zip_kind(parts: dict[str, bytes]) -> str:
    if "mimetype" in parts:
        return parts["mimetype"].decode("ascii", "replace").casefold()
    types = [e.get("ContentType", "") for e in _xml(parts.get("[content_types].xml", b"<none/>"))]
    return " ".join(t for t in types if re.search(r"\.main\+xml$|macroenabled", t, re.IGNORECASE)).casefold()


def _leads_out(rels: bytes) -> bool:
    """Does a part refer outside? Excel makes links of typed mail and web addresses; those harm nobody."""
    return any(
        e.get("TargetMode", "").casefold() == "external"
        and not (
            e.get("Type", "").endswith("/hyperlink")
            and re.match(r"https?:|mailto:", e.get("Target", ""), re.IGNORECASE)
        )
        for e in _xml(rels)
    )


_CELL = re.compile(rb"""<(?:\w+:)?c\b[^>]*?\br=["']([A-Z]{1,3})(\d{1,7})["'][^>]*(?<!/)>""")


def _extents(parts: dict[str, bytes]) -> Iterator[tuple[int, int, int]]:
    """Per worksheet: last filled row, last filled column, filled rows. Formats alone do not count."""
    for path, content in parts.items():
        if path.startswith("xl/") and b"sheetData" in content:
            rows: set[bytes] = set()
            columns: set[bytes] = set()
            for m in _CELL.finditer(content):
                columns.add(m[1])
                rows.add(m[2])
            ordinal = (sum((c - 64) * 26**i for i, c in enumerate(reversed(col))) for col in columns)
            yield max(map(int, rows), default=0), max(ordinal, default=0), len(rows)
    if "content.xml" in parts:
        for layout in _ods(parts["content.xml"]).values():
            yield *layout.last, layout.rows


# --- pages: cells, merges and formats as the file has them ---------------------------------------------

Range = tuple[tuple[int, int], tuple[int, int]]


@dataclass
class Layout:
    """What the reader does not tell of an .ods sheet; rows and columns from 0, `last` from 1."""

    merged: list[Range] = field(default_factory=list)
    percent: set[tuple[int, int]] = field(default_factory=set)
    last: tuple[int, int] = (0, 0)
    rows: int = 0


@dataclass
class Page:
    """One visible worksheet; `format_of` gives the number format of a cell, "" when it is not known."""

    name: str
    cells: list[list[Any]]
    merged: list[Range]
    format_of: Callable[[int, int], str]
    hidden: bool = False


def _ods(content: bytes) -> dict[str, Layout]:
    found: dict[str, Layout] = {}
    layout, row, column, repeat = Layout(), 0, 0, 1

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal layout, row, column, repeat
        if tag == "table:table":
            layout = found.setdefault(attributes.get("table:name", ""), Layout())
            row, repeat = 0, 0
        elif tag == "table:table-row":
            row, column = row + repeat, 0
            repeat = int(attributes.get("table:number-rows-repeated", 1))
        elif tag in ("table:table-cell", "table:covered-table-cell"):
            wide = int(attributes.get("table:number-columns-repeated", 1))
            if kind := attributes.get("office:value-type"):
                layout.rows += repeat if row + repeat > layout.last[0] else 0
                layout.last = max(layout.last[0], row + repeat), max(layout.last[1], column + wide)
                if kind == "percentage":
                    layout.percent.update((row, column + i) for i in range(min(wide, 100)))
            down = int(attributes.get("table:number-rows-spanned", 1))
            across = int(attributes.get("table:number-columns-spanned", 1))
            if down > 1 or across > 1:
                layout.merged.append(((row, column), (row + down - 1, column + across - 1)))
            column += wide

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError):
        raise Unusable("workbook.damaged", f"文件已损坏，无法打开；{SAVE_AGAIN}") from None
    return found


def _pages(data: bytes) -> list[Page]:
    layouts: dict[str, Layout] = {}
    if data.startswith(b"PK"):
        with ZipFile(BytesIO(data)) as archive:
            if "content.xml" in archive.namelist():
                layouts = _ods(archive.read("content.xml"))
    formats = cache(lambda: _formats(data))

    def looker(name: str) -> Callable[[int, int], str]:
        if layout := layouts.get(name):
            return lambda row, column: "0%" if (row, column) in layout.percent else ""
        return lambda row, column: formats().get((name, row, column), "")

    pages = []
    try:
        book = CalamineWorkbook.from_object(BytesIO(data))
        for meta in book.sheets_metadata:
            if meta.typ == SheetTypeEnum.MacroSheet:
                raise Unusable("workbook.macros", f"文件含有宏表；{SAVE_AGAIN}（不保留宏）")
            if meta.typ != SheetTypeEnum.WorkSheet:
                continue
            sheet = book.get_sheet_by_name(meta.name)
            if sheet.end and sheet.end[0] >= MAX_ROWS and sheet.height > MAX_ROWS:
                raise Unusable("workbook.rows", f"数据超过{MAX_ROWS}行，请分成几个文件报送")
            cells: list[list[Any]] = sheet.to_python(skip_empty_area=False)
            merged = layouts[meta.name].merged if meta.name in layouts else sheet.merged_cell_ranges or []
            hidden = meta.visible != SheetVisibleEnum.Visible
            pages.append(Page(meta.name, cells, merged, looker(meta.name), hidden))
    except PasswordError:
        raise Unusable("workbook.encrypted", "文件设有打开密码，请取消密码后再报送") from None
    except CalamineError:
        raise Unusable("workbook.damaged", f"文件已损坏，无法打开；{SAVE_AGAIN}") from None
    return pages


def _formats(data: bytes) -> dict[tuple[str, int, int], str]:
    """Number formats of an .xlsx; read only when a cell needs one, as it costs more than all the rest."""
    if not data.startswith(b"PK"):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            book = openpyxl.load_workbook(BytesIO(data), read_only=True)
            return {
                (sheet.title, cell.row - 1, cell.column - 1): cell.number_format
                for sheet in book.worksheets
                for row in _rows_as_long_as_they_are(sheet)
                for cell in row
                if cell.value is not None and cell.number_format != "General"
            }
        except Exception:  # noqa: BLE001 - whatever this second reader stumbles over: a format is only a help
            return {}


def _rows_as_long_as_they_are(sheet: Any) -> Iterator[Any]:
    sheet.reset_dimensions()  # as declared they may reach XFD1048576, and every row would be filled up to there
    yield from sheet.iter_rows()


# --- cells ------------------------------------------------------------------------------------------------

_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_LITERAL = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.')


def text_of(value: Any, kind: str = "text", look: Callable[[], str] = str) -> str:
    """A cell as the filer sees it: `3.65%`, `2025年6月`, `13800138000`; `look` tells its number format."""
    if isinstance(value, str):
        return values.tidy(_INVISIBLE.sub("", value.replace("\r\n", "\n").replace("\r", "\n")))
    if isinstance(value, float) and not value.is_integer():
        if (kind == "rate" and 0 < value < 1) or "%" in look():
            return values.fraction(round(value, 12))
        return f"{value:.15g}"  # as many digits as Excel has: 0.30000000000000004 is noise
    if isinstance(value, datetime) and (value.hour or value.minute):
        return f"{values.chinese_date(value)} {value.hour}:{value.minute:02}"
    if isinstance(value, date) and value.day == 1:
        # Excel makes 2025-06-01 of a typed 2025年6月, and only the format remembers that no day was meant.
        shape = _LITERAL.sub("", look()).casefold()
        month_only = "y" in shape and "d" not in shape
        return f"{value.year}年{value.month}月" if month_only else values.chinese_date(value)
    if isinstance(value, time):
        return f"{value.hour}:{value.minute:02}"
    if isinstance(value, timedelta):
        return str(value)
    return values.tidy(value)


def _norm(value: Any) -> str:
    return values.same(value).replace("★", "") if isinstance(value, str) and len(value) <= 80 else ""


# --- which form, and which column is which --------------------------------------------------------------

_SERIAL = {"序号", "编号", "序", "no", "no."}
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


# --- reading ----------------------------------------------------------------------------------------------

_NUMBERING = re.compile(r"[\d.、()（）①-⑳一二三四五六七八九十]*")
_EXAMPLE = re.compile(r"\s*[（(【]?(?:填写|填报)?(?:示例|样例|举例|例)(?:[\d一二三四五]*\s*[)）】:：]|$)")
_TOTAL = re.compile(r"[合总小共]\s*计\s*(?:[\d:：（(].*)?")
_NOTE = re.compile(r"\s*[*＊※]?\s*(?:备注|注|附注|(?:填表|填报|填写)?说明)\s*\d*\s*[:：]")
_SIGNED = re.compile(
    r"\s*(?:填[报表]|申报|推荐|报送|制表|审核|单位|联系|经办|负责|日期|时间|盖章)\S{0,10}\s*[:：]"
)


def read(data: bytes, name: str, compiled: Compiled) -> list[Sheet]:
    """The filled rows of every annex in the workbook, and what is wrong with its sheets as such."""
    refuse_unsafe(data, name)
    known = [(form, _spellings(form)) for form in compiled.notice.forms]
    sheets, strangers = [], []
    for page in _pages(data):
        if not any(cell != "" for row in page.cells for cell in row):
            continue
        header = _best(page, known)
        if page.hidden:
            if header and header.share >= SAME_FORM:
                say = f"隐藏的工作表“{page.name}”没有读取；如需报送请取消隐藏"
                strangers.append(_stranger(page, "workbook.hidden", "info", say, compiled))
        elif header and header.share >= SAME_FORM:
            sheets.append(_Table(page, header, compiled).read())
        else:
            strangers.append(_unmatched(page, header, compiled))
    if not sheets:
        visible = [s for s in strangers if s.findings[0].code != "workbook.hidden"]
        return visible[:1] or [_empty(compiled)]
    if any(sheet.rows for sheet in sheets):
        for sheet in sheets:
            if not sheet.rows:  # a workbook of all annexes, of which only some are used
                sheet.findings = [f.model_copy(update={"severity": "info"}) for f in sheet.findings[-1:]]
        for sheet in strangers:
            sheet.findings = [_milder(f) for f in sheet.findings]
    return sheets + strangers


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
        self.inherited = {c.key for c in self.form.columns if c.inherit}
        self.quiet = self.inherited | ({self.form.group} if self.form.group else set())
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
            if _norm(cell) in _SERIAL or title == RESULT:
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
        content = [at for at in filled if at not in self.ignored]
        own = {c.key: self._value(row, c) for c in self.form.columns}
        if not filled or self._is_apart(row, filled, own):
            return
        if len(content) == 1 and self.span.get((row, content[0]), 1) >= 3:
            carried.clear()  # a heading of its own within the table: what stands above it no longer counts
            return
        for column in self.form.columns:
            key = column.key
            text = own[key] or self._merged_value(row, column)
            if key in self.inherited:
                text = carried[key] = text or carried.get(key, "")
            own[key], had = text, bool(own[key])
            if had and key not in self.quiet:
                content = [-1]  # something of its own: not merely a preset or a blank row
        if content == [-1]:
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
        serial = filled[0] in self.ignored and _NUMBERING.fullmatch(lead)
        if serial and len(filled) > 1:
            lead = self._text(row, filled[1])
        if self.line_pattern and self.line_pattern.match(lead) and self._take_lines(row):
            return True
        if _EXAMPLE.match(lead) or _TOTAL.fullmatch(lead) or _NOTE.match(lead) or _norm(lead) in self.labels:
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
        if self.line_pattern is None:
            return False
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


def _line_pattern(form: Form) -> re.Pattern[str] | None:
    """One named group a labelled line: blanks within it and a missing bracket do not matter."""
    labels = []
    for i, line in enumerate(form.lines):
        core = re.sub(r"[（(].*?[)）]|[:：]|\s", "", line.label)
        labels.append(f"(?P<n{i}>" + r"\s*".join(map(re.escape, core)) + ")")
    if not labels:
        return None
    return re.compile(rf"(?:^|(?<=[\s；;，,]))(?:{'|'.join(labels)})\s*(?:[（(][^）)]*[）)])?\s*(?:[:：]|$)")


# --- marking ------------------------------------------------------------------------------------------------


def mark(data: bytes, name: str, findings: Sequence[Finding], compiled: Compiled) -> bytes:
    """The filer's own workbook with its faults in it, ready to be corrected and filed again.

    Faulty cells get a colour and a comment, every entry of a faulty sheet a cell in the last column; the marks
    of an earlier time go. No row is added or moved, so that row numbers stay true, and `read` of the result
    gives the same rows. Formulas are replaced by their last values: they alone are what was read.
    """
    sheets = read(data, name, compiled)
    book = _openpyxl(data)
    first = book.worksheets[0].title
    by_sheet: dict[str, list[Finding]] = {}
    for f in findings:
        known = f.sheet in book.sheetnames
        by_sheet.setdefault(f.sheet if known and f.sheet else first, []).append(f)
    tables = {s.sheet: s for s in sheets}
    for worksheet in book.worksheets:
        table = tables.get(worksheet.title)
        _unmark(worksheet, table)
        if worksheet.title in by_sheet:
            _mark_sheet(worksheet, table, by_sheet[worksheet.title])
    out = BytesIO()
    book.save(out)
    return _settled(out.getvalue())


def _openpyxl(data: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if data.startswith(b"PK"):
            try:
                return openpyxl.load_workbook(BytesIO(data), data_only=True, rich_text=True)
            except Exception:  # noqa: BLE001,S110 - an .ods, or an .xlsx that only the other reader understands
                pass
        return openpyxl.load_workbook(BytesIO(_as_xlsx(data)))


def _sentence(finding: Finding) -> str:
    source = dict.fromkeys(filter(None, (finding.rule, finding.clause)))
    text = f"【{SEVERITIES[finding.severity][0]}】{finding.detail}（{'，'.join(source)}）"
    return _INVISIBLE.sub("", text)


def _unmark(sheet: Any, table: Sheet | None) -> None:
    header = table.header if table else 0
    results = {c.column for c in _existing(sheet) if c.row == header and c.value == RESULT}
    for cell in _existing(sheet):
        if cell.comment is not None and cell.comment.author == AUTHOR:
            cell.comment = None
            cell.fill = PatternFill()
        if cell.column in results and cell.row >= header and not isinstance(cell, MergedCell):
            cell.value = None


def _existing(sheet: Any) -> list[Any]:
    """The cells that are there. openpyxl's own loops would make every other one up to XFD1048576."""
    return list(sheet._cells.values())


def _mark_sheet(sheet: Any, table: Sheet | None, findings: list[Finding]) -> None:
    corner = {
        (row, column): (m.min_row, m.min_col) for m in sheet.merged_cells.ranges for row, column in m.cells
    }
    at_cell: dict[tuple[int, int], list[Finding]] = {}
    at_row: dict[int, list[Finding]] = {}
    for f in findings:
        if f.cell:
            cell = sheet[f.cell]
            at_cell.setdefault(corner.get((cell.row, cell.column), (cell.row, cell.column)), []).append(f)
        if f.row:
            at_row.setdefault(f.row, []).append(f)
    header = table.header if table and table.form else 0
    result = _free_column(sheet, header) if header else 0
    loose = [f for f in findings if not f.cell and not (f.row and result)]
    if loose:
        at_cell.setdefault((header, result) if header else corner.get((1, 1), (1, 1)), []).extend(loose)
    if header:
        sheet.cell(header, result, RESULT).font = Font(bold=True)
        sheet.column_dimensions[letter(result)].width = 60
        for row in sorted({r.row for r in table.rows} | set(at_row)) if table else ():
            if row != header:
                said = "\n".join(_sentence(f) for f in _worst_first(at_row.get(row, [])))
                sheet.cell(row, result, said or CLEAN).alignment = Alignment(wrap_text=True, vertical="top")
    for (row, column), found in at_cell.items():
        cell = sheet.cell(row, column)
        own = f"{cell.comment.text}\n\n" if cell.comment else ""
        said = own + "\n".join(_sentence(f) for f in _worst_first(found))
        cell.comment = Comment(said, AUTHOR, width=360, height=min(60 + 20 * (len(said) // 24), 480))
        colour = SEVERITIES[_worst_first(found)[0].severity][1]
        cell.fill = PatternFill("solid", fgColor=colour)


def _worst_first(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: list(SEVERITIES).index(f.severity))


def _free_column(sheet: Any, header: int) -> int:
    """The first one to the right of the table, which after `_unmark` is that of an earlier marking."""
    filled = (c.column for c in _existing(sheet) if c.row >= header and c.value is not None)
    merged = (m.max_col for m in sheet.merged_cells.ranges if m.min_row <= header <= m.max_row)
    return int(max([0, *filled, *merged])) + 1


def _as_xlsx(data: bytes) -> bytes:
    """The same cells and merges as an .xlsx: nothing writes .xls, and .ods is not worth a second writer."""
    out = BytesIO()
    book = _new_book(out)
    styles = {
        datetime: book.add_format({"num_format": 'yyyy"年"m"月"d"日" h:mm'}),
        date: book.add_format({"num_format": 'yyyy"年"m"月"d"日"'}),
        time: book.add_format({"num_format": "h:mm"}),
        timedelta: book.add_format({"num_format": "[h]:mm"}),
        float: book.add_format({"num_format": "0.00%"}),
    }
    wrap = book.add_format({"text_wrap": True, "valign": "top"})
    for page in _pages(data):
        sheet = book.add_worksheet(re.sub(r"[\[\]:*?/\\]", " ", page.name).strip("'")[:31])
        sheet.set_column(0, 40, 18, wrap)
        if page.hidden:
            sheet.hide()
        for (top, left), (bottom, right) in page.merged:
            with contextlib.suppress(OverlappingRange):
                sheet.merge_range(top, left, bottom, right, "", wrap)
        for row, cells in enumerate(page.cells):
            for column, value in enumerate(cells):
                if isinstance(value, str):
                    if value:
                        sheet.write_string(row, column, value, wrap)
                elif isinstance(value, bool):
                    sheet.write_boolean(row, column, value)
                elif isinstance(value, (int, float)):
                    percent = "%" in page.format_of(row, column)
                    sheet.write_number(row, column, value, styles[float] if percent else None)
                else:
                    sheet.write_datetime(row, column, value, styles[type(value)])
    book.close()
    return out.getvalue()


def _settled(data: bytes) -> bytes:
    """The same file without the moment of its making in it, so that equal input gives equal bytes."""
    out = BytesIO()
    with ZipFile(BytesIO(data)) as old, ZipFile(out, "w", ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>2025-01-01T00:00:00Z", content)
            new.writestr(ZipInfo(name, STILL.timetuple()[:6]), content, ZIP_DEFLATED)
    return out.getvalue()


# --- the blank annex ----------------------------------------------------------------------------------------

HINTS = {
    "contact": "姓名和电话写在同一格，如：张三 020-83726619 13800138000",
    "period": "如：{year}年6月10日，或{year}年6月10日—12日",
    "quantity": "如：50，或约100人",
    "amount": "只填数字，单位见表头；不适用请填“—”",
    "months": "如：12，或6-36；不适用请填“—”",
    "rate": "如：3.65%，或3.65%-4.5%；不适用请填“—”",
    "choice": "请从下拉列表中选择",
    "phone": "手机11位，固话可带区号和分机",
}
BLANK_ROWS = 10
MM = 1.9
"""Millimetres of one unit of column width, the width of a digit."""


def _new_book(out: BytesIO) -> Any:
    plain = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}
    book = xlsxwriter.Workbook(out, {"in_memory": True, **plain})
    book.set_properties({"created": STILL})
    return book


def template(judge: FormJudge, notice: Notice) -> bytes:
    """The blank annex, from the form alone. Cells are text, lest `6-12` become the 12th of June."""
    form = judge.form
    out = BytesIO()
    book = _new_book(out)
    sheet = book.add_worksheet(form.annex)
    last = len(form.columns)

    def style(**more: Any) -> Any:
        return book.add_format(
            {"font_name": "宋体", "font_size": 11, "valign": "vcenter", "text_wrap": True, **more}
        )

    label, title = style(font_name="黑体", font_size=14), style(bold=True, font_size=18, align="center")
    head = style(bold=True, border=1, align="center", bg_color="#F2F2F2")
    centred, entry = style(border=1, align="center"), style(border=1, num_format="@")
    plain, value, bold = style(), style(bottom=1, num_format="@"), style(bold=True)

    sheet.set_column(0, 0, form.serial_width / MM, None)
    for at, column in enumerate(form.columns, 1):
        sheet.set_column(at, at, column.width / MM, None)
    whole = form.serial_width + sum(c.width for c in form.columns)

    def line(row: int, text: str, look: Any, first: int = 0, end: int = last, height: float = 16) -> None:
        if first < end:
            sheet.merge_range(row, first, row, end, "", look)
        sheet.write_string(row, first, text, look)
        sheet.set_row(row, height * _lines(text, whole) + 2)

    def labelled(row: int, text: str) -> None:
        line(row, text, plain, end=1)
        line(row, "", value, first=2)

    line(0, form.annex, label)
    line(1, notice.form_title(form), title, height=32)
    row = 2
    for footer in form.lines:
        if footer.where == "above":
            labelled(row, footer.label)
            row += 1
    header = row
    sheet.write_string(header, 0, "序号", head)
    for at, column in enumerate(form.columns, 1):
        sheet.write_string(header, at, column.header, head)
    sheet.set_row(header, 16 * max(_lines(c.header, c.width) for c in form.columns) + 8)

    preset = form.preset if form.group and any(form.preset) else ("",) * max(len(form.preset), BLANK_ROWS)
    group = [c.key for c in form.columns].index(form.group) + 1 if form.group else 0
    for number, text in enumerate(preset, 1):
        row += 1
        sheet.set_row(row, 16 * max(2, _lines(text, form.columns[group - 1].width)))
        sheet.write_number(row, 0, number, centred)
        for at in range(1, last + 1):
            sheet.write_blank(row, at, None, entry)
        if text:
            sheet.write_string(row, group, text, entry)
    _validate(book, sheet, judge, header + 1, row)
    for note in form.notes:
        if note.where == "row":
            row += 1
            line(row, note.text, style(border=1), first=1 if note.label else 0)
            if note.label:
                sheet.write_string(row, 0, note.label, centred)
    for note in form.notes:
        if note.where == "below":
            row += 1
            line(row, note.text, bold if note.bold else plain)
    for footer in form.lines:
        if footer.where == "below":
            row += 1
            labelled(row, footer.label)

    sheet.freeze_panes(header + 1, 0)
    sheet.repeat_rows(header)
    sheet.set_paper(9)
    if form.landscape:
        sheet.set_landscape()
    sheet.fit_to_pages(1, 0)
    sheet.set_footer("&C第 &P 页，共 &N 页")
    book.close()
    return out.getvalue()


def _lines(text: str, width: float) -> int:
    """How many lines a Chinese text takes in a column of so many mm: four of them a character."""
    return max(1, math.ceil(len(text) * 4 / (width - 2)))


def _validate(book: Any, sheet: Any, judge: FormJudge, first: int, last: int) -> None:
    """Hints on every entry, and drop-downs that a closed list enforces and an open one only offers."""
    codes = None
    for at, column in enumerate(judge.form.columns, 1):
        needed = column.conditional or ("必填" if column.required else "选填")
        hint = [needed, HINTS.get(column.type, "").replace("{year}", str(judge.round.year))]
        if column.limit:
            hint.append(f"不超过{column.limit}字")
        rule: dict[str, Any] = {"validate": "any"}
        if column.list:
            codes = codes or book.add_worksheet(CODES)
            labels = [c.label for c in judge.lists[column.list].values]
            codes.write_column(0, at, labels)
            cells = f"${letter(at + 1)}$1:${letter(at + 1)}${len(labels)}"
            rule = {"validate": "list", "source": f"={CODES}!{cells}"}
            if judge.lists[column.list].open:
                rule["show_error"] = False
                hint.append("列表之外的请直接填写")
            else:
                rule |= {"error_title": "不在列表之内", "error_message": "请从下拉列表中选择"}
        rule |= {"input_title": column.header[:32], "input_message": "；".join(filter(None, hint))[:255]}
        sheet.data_validation(first, at, last, at, rule)
    if codes:
        codes.hide()
