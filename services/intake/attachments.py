"""Attachments that are not opened at all: what is no spreadsheet, too large, or able to do harm.

What stands in the others is not read here, that is `pages.py`. Files from outside must only be opened in the
limited process of `child.py`: a few kilobytes are enough to take all memory or to end a process.
"""

import html
import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from io import BytesIO
from xml.parsers.expat import ExpatError
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from openpyxl.utils import get_column_letter as letter

from services.intake import opendocument
from services.intake.sheets import MB, Unusable, is_word

MAX_SIZE = 20 * MB
MAX_UNPACKED = 100 * MB
MAX_RATIO = 100
MAX_PARTS = 1000
DESCRIPTOR = 24
"""Bytes that may follow a part: its sizes once more, with signature and in zip64."""
MAX_ROWS = 20_000
MAX_SHEETS = 100
MAX_CELLS = 4_000_000
"""Of the rectangle around all filled cells: readers lay it out in full, blank cells included."""


_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def visible(text: str) -> str:
    """Without the characters that hide, or turn round, what stands beside them."""
    return _INVISIBLE.sub("", text)


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
SAVE_AGAIN = "请用 Excel 或 WPS 打开后另存为“Excel 工作簿（*.xlsx）”再报送"
SAVE_AS_DOCX = "请用 Word 或 WPS 打开后另存为“Word 文档（*.docx）”再报送"

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
    (
        "worddocument",
        "workbook.word",
        "这是旧版 Word 文档（.doc）；卡片式附件请用 Word 或 WPS 打开后另存为“Word 文档（*.docx）”再报送，"
        "清单式附件请用模板（.xlsx）填报",
    ),
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
    name = visible(name)
    if not data:
        raise Unusable("workbook.blank", f"“{name}”是空文件（0字节）")
    if len(data) > MAX_SIZE:
        raise Unusable("workbook.size", f"文件超过{MAX_SIZE // MB}MB，请分成几个文件报送")
    if data.startswith(b"PK\x03\x04"):
        _refuse_parts(_parts(data, _again(name)), name)
    elif data.startswith(OLE):
        _refuse_ole(data, name)
    else:
        _refuse_foreign(data, name)


def _again(name: str, *, document: bool = False) -> str:
    """How to save the file so that it can be read; Word's advice for what is, or is called, a Word document."""
    return SAVE_AS_DOCX if document or is_word(name) else SAVE_AGAIN


def _refuse_foreign(data: bytes, name: str) -> None:
    head = data[:4096]
    text = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe")  # UTF-16 reads as ASCII then
    for pattern, code, what in FOREIGN:
        if re.match(pattern, head, re.DOTALL) or re.match(pattern, text):
            if code == "workbook.word" or is_word(name):
                raise Unusable(code, f"“{name}”的内容是{what}，不能读取；{SAVE_AS_DOCX}")
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


def _parts(data: bytes, again: str) -> dict[str, bytes]:
    """The parts of a zip by lower-case name, unpacked within the limits."""
    parts: dict[str, bytes] = {}
    try:
        with ZipFile(BytesIO(data)) as archive:
            entries = archive.infolist()
            declared = sum(e.file_size for e in entries)
            if len(entries) > MAX_PARTS or declared > max(MB, min(MAX_UNPACKED, MAX_RATIO * len(data))):
                raise Unusable("workbook.bomb", f"文件解压后过大或部件过多；{again}")
            _refuse_layout(archive, entries, data, again)
            total = 0
            for entry in entries:
                path = entry.orig_filename
                odd = re.search(r"^/|\\|\0|^\w:|(^|/)\.\.(/|$)", path) or entry.external_attr >> 28 == 0o12
                if odd or path.lower() in parts:
                    raise Unusable("workbook.names", f"文件内部的部件名称异常；{again}")
                if entry.flag_bits & 1:
                    raise Unusable("workbook.encrypted", "文件设有打开密码，请取消密码后再报送")
                with archive.open(entry) as part:
                    content = part.read(MAX_UNPACKED - total + 1)
                total += len(content)
                if total > MAX_UNPACKED:
                    raise Unusable("workbook.bomb", f"文件解压后过大；{again}")
                parts[path.lower()] = content
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if "Error -4" in str(error):  # Z_MEM_ERROR: nothing is wrong with the file, we are at our limit
            raise MemoryError from None
        raise Unusable("workbook.damaged", f"文件已损坏，无法打开；{again}") from None
    return parts


def _refuse_layout(archive: ZipFile, entries: list[ZipInfo], data: bytes, again: str) -> None:
    """A zip whose parts lie over each other unpacks to more than it counts; one with something before, between or
    behind its parts is something else for other programs. What the two lists of parts say must agree."""
    end = 0
    for entry in sorted(entries, key=lambda e: e.header_offset):
        start = entry.header_offset
        if start < end:
            raise Unusable("workbook.overlap", f"文件内部的部件互相重叠；{again}")
        if start - end > (DESCRIPTOR if end else 0):
            raise Unusable("workbook.polyglot", f"文件里还藏有另一种文件；{again}")
        head = data[start : start + 30]
        name, extra = (int.from_bytes(head[i : i + 2], "little") for i in (26, 28))
        end = start + 30 + name + extra + entry.compress_size
        packed, size = (int.from_bytes(head[i : i + 4], "little") for i in (18, 22))
        said = (packed, size) in ((entry.compress_size, entry.file_size), (2**32 - 1, 2**32 - 1))
        if not said and not (entry.flag_bits & 8 and (packed, size) == (0, 0)):
            raise Unusable("workbook.damaged", f"文件已损坏，无法打开；{again}")
        if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise Unusable("workbook.damaged", f"文件的压缩方法无法读取；{again}")
    if end > archive.start_dir:
        raise Unusable("workbook.overlap", f"文件内部的部件互相重叠；{again}")
    if archive.start_dir - end > DESCRIPTOR or archive.comment or b"%PDF-" in data[:1024]:
        raise Unusable("workbook.polyglot", f"文件里还藏有另一种文件；{again}")


def _refuse_parts(parts: dict[str, bytes], name: str) -> None:
    doctype = [b"<!DOCTYPE", *("<!DOCTYPE".encode(code) for code in ("utf-16-le", "utf-16-be"))]
    if any(mark in content for content in parts.values() for mark in doctype):
        raise Unusable("workbook.dtd", f"文件内部含有 DTD 声明；{_again(name)}")
    kind = _zip_kind(parts)
    document = "wordprocessing" in kind or "ms-word" in kind or "opendocument.text" in kind
    again = _again(name, document=document)
    for word, code, what in (
        ("macroenabled", "workbook.macros", "启用宏的" + ("文档" if document else "工作簿")),
        ("sheet.binary", "workbook.xlsb", "二进制工作簿（.xlsb）"),
        ("opendocument.text", "workbook.word", "文字文档"),
        ("presentation", "workbook.slides", "演示文稿"),
    ):
        if word in kind.replace("sheet.binary.macroenabled", "sheet.binary"):
            raise Unusable(code, f"“{name}”的内容是{what}；{again}")
    if "spreadsheet" not in kind and not document:
        raise Unusable("workbook.archive", f"“{name}”是压缩包，不是电子表格；请解压后逐个报送")
    if "spreadsheetml" in kind and "wordprocessingml" in kind:
        raise Unusable("workbook.polyglot", f"“{name}”里还藏有另一种文件；{again}")
    # Parts may have any path: what they are is what the package itself declares.
    declared = "\n".join(["", *_declared(parts), ""])
    paths = "\n".join(parts)
    if "encryption-data" in parts.get("meta-inf/manifest.xml", b"").decode("utf-8", "replace"):
        raise Unusable("workbook.encrypted", "文件设有打开密码，请取消密码后再报送")
    if re.search(
        r"vbaproject\.bin|/macrosheets/|(?m:^(basic|scripts)/.*(?<!script-l[bc]\.xml)(?<!/)$)", paths
    ) or re.search(r"vbaproject|/(?:xl(?:intl)?macrosheet|wordvbadata)\n|macrosheet\+xml", declared):
        raise Unusable("workbook.macros", f"文件含有宏；{again}（不保留宏）")
    content = parts.get("content.xml", b"")
    if (
        re.search(r"/externallinks/|/connections\.xml|/querytables/", paths)
        or re.search(
            r"externallink\+xml|/externallink(?:path)?\n|/(?:connections|querytable|subdocument|frame)\n",
            declared,
        )
        or re.search(rb"<office:dde-source|<table:table-source|<table:dde-link", content)
        or any(_leads_out(parts[p], document=document) for p in parts if p.endswith(".rels"))
    ):
        menu = "文件—信息—编辑指向文件的链接" if document else "数据—编辑链接"
        other = "；指向本机文件的超链接请取消" if document else ""
        detail = f"文件含有指向其他文件的外部链接，请在“{menu}”中断开后再报送{other}"
        raise Unusable("workbook.external", detail)
    if any(_acts(part) for path, part in parts.items() if path.endswith(".xml")):
        raise Unusable("workbook.dde", f"文件中有调用其他程序或网址的公式或域，请删除后再报送；{again}")
    embedded = (
        re.search(r"/embeddings/|/activex/|oleobject", paths)
        or b"<draw:object-ole" in content
        or re.search(r"oleobject|activex|/(?:package|control|afchunk)\n", declared)
    )
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


def _declared(parts: dict[str, bytes]) -> Iterator[str]:
    """The types of all parts and of all their relations, in small letters."""
    for path, content in parts.items():
        if path == "[content_types].xml" or path.endswith(".rels"):
            for e in _xml(content):
                yield (e.get("ContentType") or e.get("Type") or "").casefold()


_FIELDS = re.compile(rb"<(?:\w+:)?instrText\b[^>]*>([^<]*)<")
_FIELD = re.compile(rb"""instr=(?:"([^"<]*)|'([^'<]*))""")
_FORMULAS = (
    re.compile(rb"<(?:\w+:)?f\b[^>]*>([^<]*)<()"),
    re.compile(rb"""formula=(?:"([^"<]*)|'([^'<]*))"""),
)
_STARTS = re.compile(r"(?i)\b(?:dde|ddeauto|webservice|rtd|call|register\.id|exec)\s*\(|[\w.]\|[^!|]*!")


def _acts(part: bytes) -> bool:
    """Does a field or a formula start a program, or ask a server, when somebody opens the file?"""
    if b"instr" in part:
        # Word puts the pieces of a field together, and so do we.
        fields = (
            b"".join(_FIELDS.findall(part))
            + b"\n"
            + b"\n".join(b" ".join(said) for said in _FIELD.findall(part))
        )
        if re.search(r"(?i)\bDDE(?:AUTO)?\b", html.unescape(fields.decode("utf-8", "replace"))):
            return True
    for pattern in _FORMULAS:
        for found in pattern.finditer(part):
            formula = html.unescape((found[1] or found[2] or b"").decode("utf-8", "replace"))
            if _STARTS.search(re.sub(r'"[^"]*"', '""', formula)):
                return True
    return False


def is_document(data: bytes) -> bool:
    """A .docx, of what `refuse_unsafe` has let pass."""
    if not data.startswith(b"PK"):
        return False
    with ZipFile(BytesIO(data)) as archive:
        types = [name for name in archive.namelist() if name.casefold() == "[content_types].xml"]
        return bool(types) and "wordprocessing" in _zip_kind({types[0].casefold(): archive.read(types[0])})


def _leads_out(rels: bytes, *, document: bool = False) -> bool:
    """Does a part refer outside? Excel makes links of typed mail and web addresses; those harm nobody. Nor does
    the template that Word notes in every document made from one: nobody here opens it."""
    return any(
        e.get("TargetMode", "").casefold() == "external"
        and not (
            (
                e.get("Type", "").endswith("/hyperlink")
                and re.match(r"https?:|mailto:", e.get("Target", ""), re.IGNORECASE)
            )
            or (document and e.get("Type", "").endswith("/attachedTemplate"))
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
        try:
            layouts = opendocument.layouts(parts["content.xml"])
        except (ExpatError, ValueError):
            raise Unusable("workbook.damaged", f"文件已损坏，无法打开；{SAVE_AGAIN}") from None
        for layout in layouts.values():
            yield *layout.last, layout.rows
