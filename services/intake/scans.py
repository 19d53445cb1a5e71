"""Scans and photographs that are kept as evidence: only PDF, JPG and PNG, and none that can do harm when opened.

Nothing is drawn here; workbooks and documents are judged in `attachments.py`. Files from outside must only be looked
at in the limited process of `child.py`.

No PDF library: a parser sees the file as that parser understands it, and a viewer that repairs a damaged file sees
another. What can act must be named, so the names are looked for in every byte, also in what is compressed.
"""

import re
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Literal
from zipfile import is_zipfile

from services.intake.attachments import MAX_SIZE, is_document, refuse_unsafe, visible
from services.intake.pages import pages_of
from services.intake.sheets import MB, Unusable

MAX_UNPACKED = 500 * MB
"""Of a PDF's streams together: a page of 600 dpi in colour is 100 MB before it is compressed."""
MAX_PIXELS = 400_000_000
"""More than an A3 page of 1200 dpi: no scan, but a bomb for whoever opens it."""

SCAN_AGAIN = "请重新扫描（或打印）为 PDF 再报送"
PDF, PNG, JPG = b"%PDF-", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def look(data: bytes, name: str, *, only_scan: bool) -> Literal["scan", "workbook"]:
    """What a file is that is kept and not read; raises `Unusable`. Content decides, not the extension."""
    shown = visible(name)
    if len(data) > MAX_SIZE:
        raise Unusable("scan.size", f"“{shown}”超过{MAX_SIZE // MB}MB，请分成几个文件报送")
    for magic, check in ((PDF, _pdf), (PNG, _png), (JPG, _jpg)):
        if data.startswith(magic):
            if re.search(rb"(?i)<(?:!doctype html|html|script|\?php)", data[:1024]) or is_zipfile(
                BytesIO(data)
            ):
                raise _polyglot(shown)
            check(data, shown)
            return "scan"
    if only_scan:
        raise Unusable("scan.kind", f"“{shown}”的内容不是 PDF、JPG 或 PNG；{SCAN_AGAIN}")
    refuse_unsafe(data, name)
    if not is_document(data):
        pages_of(data)  # which refuses what only shows when a workbook is opened
    return "workbook"


def _polyglot(name: str) -> Unusable:
    return Unusable("scan.polyglot", f"“{name}”里还藏有另一种文件；{SCAN_AGAIN}")


def _damaged(name: str) -> Unusable:
    return Unusable("scan.damaged", f"“{name}”不完整或已损坏；{SCAN_AGAIN}")


# --- PDF --------------------------------------------------------------------------------------------------


def _named(*words: bytes) -> re.Pattern[bytes]:
    """These names of a PDF; any of their letters may be written as `#4a`."""

    def letter(code: int) -> bytes:
        digits = b"".join(b"[%c%c]" % (d, d - 32) if d > 57 else b"%c" % d for d in b"%02x" % code)
        return b"(?:%c|#%s)" % (code, digits)

    spelt = b"|".join(b"".join(map(letter, word)) for word in words)
    return re.compile(rb"/(?:" + spelt + rb")(?=[\0\t\n\f\r ()<>\[\]{}/%]|$)")


_ACTS = _named(
    b"JavaScript",
    b"Launch",
    b"RichMedia",
    b"XFA",
    b"SubmitForm",
    b"ImportData",
    b"Rendition",
    b"GoToR",
    b"GoToE",
)
_HOLDS = _named(b"EmbeddedFile", b"EmbeddedFiles", b"FileAttachment")
_ENCRYPTS = _named(b"Encrypt")
_OBJECTS = _named(b"ObjStm")
_STREAM = re.compile(rb"(?<!end)stream\r?\n")
_PLAIN_FILTER = re.compile(rb"/(?:Filter|F)\s*\[?\s*/(?:FlateDecode|Fl)\s*\]?\s*(?:/|>)")
_PREDICTED = re.compile(rb"/Predictor\s*(?:[2-9]|1\d)")
LONGEST = 64
"""More than the longest name in its longest spelling."""


def _pdf(data: bytes, name: str) -> None:
    end = data.rfind(b"%%EOF")
    if end < 0 or b"startxref" not in data or not re.search(rb"\d\s+\d+\s+obj\b", data):
        raise _damaged(name)
    if data[end + 5 :].strip(b"\0\t\n\f\r "):
        raise _polyglot(name)
    if _ENCRYPTS.search(data):
        raise Unusable("scan.encrypted", f"“{name}”设有密码或编辑限制，请取消后再报送，或{SCAN_AGAIN}")
    _refuse_names(data, name)
    total = 0
    for found in _STREAM.finditer(data):
        if _OBJECTS.search(head := _dictionary(data, found.start())):
            packed = re.search(rb"/(?:Filter|F)\b", head)
            if _PREDICTED.search(head) or (packed and not _PLAIN_FILTER.search(head)):
                raise Unusable("scan.unclear", f"“{name}”的结构无法检查；{SCAN_AGAIN}")
        before = b""
        for piece in _inflated(memoryview(data)[found.end() :]):
            total += len(piece)
            if total > MAX_UNPACKED:
                raise Unusable("scan.bomb", f"“{name}”解压后过大；{SCAN_AGAIN}")
            _refuse_names(before + piece, name)
            before = piece[-LONGEST:]


def _refuse_names(content: bytes, name: str) -> None:
    if _ACTS.search(content):
        raise Unusable("scan.active", f"“{name}”含有脚本、程序或表单动作；{SCAN_AGAIN}")
    if _HOLDS.search(content):
        raise Unusable("scan.embedded", f"“{name}”里还附有其他文件，请删除附件，或{SCAN_AGAIN}")


def _dictionary(data: bytes, at: int) -> bytes:
    """What stands before the keyword `stream`, from the start of its object, with its names spelt out."""
    head = data[max(0, data.rfind(b"obj", max(0, at - 8192), at)) : at]
    return re.sub(rb"#([0-9a-fA-F]{2})", lambda m: bytes([int(m[1], 16)]), head)


def _inflated(packed: memoryview) -> Iterator[bytes]:
    """The content of a stream that is compressed as nearly all are, whatever its dictionary says; else nothing."""
    if len(packed) < 2 or packed[0] & 15 != 8 or (packed[0] << 8 | packed[1]) % 31:
        return
    inflater = zlib.decompressobj()
    at, rest = 0, b""
    try:
        while not inflater.eof and (rest or at < len(packed)):
            if not rest:
                rest, at = bytes(packed[at : at + 65536]), at + 65536
            yield inflater.decompress(rest, MB)
            rest = inflater.unconsumed_tail
    except zlib.error:
        return  # no such stream, or a broken one: what came before the break has been looked at


# --- pictures -----------------------------------------------------------------------------------------------


def _pixels(width: int, height: int, name: str) -> None:
    if not width or not height:
        raise _damaged(name)
    if width * height > MAX_PIXELS:
        raise Unusable("scan.pixels", f"“{name}”的尺寸过大（{width}×{height}）；请降低分辨率，{SCAN_AGAIN}")


def _png(data: bytes, name: str) -> None:
    at, kinds = len(PNG), set[bytes]()
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = memoryview(data)[at + 4 : at + 8 + size]
        at += 12 + size
        if at > len(data) or zlib.crc32(body) != int.from_bytes(data[at - 4 : at], "big"):
            raise _damaged(name)
        if not kinds:
            if kind != b"IHDR" or size != 13:
                raise _damaged(name)
            _pixels(int.from_bytes(body[4:8], "big"), int.from_bytes(body[8:12], "big"), name)
        kinds.add(kind)
        if kind == b"IEND":
            if b"IDAT" not in kinds:
                raise _damaged(name)
            if data[at:].strip(b"\0\r\n"):
                raise _polyglot(name)
            return
    raise _damaged(name)


# Cameras put previews and films behind a photograph; what can be opened as something else is none of these.
_STOWAWAY = re.compile(
    rb"(?i)PK\x03\x04|PK\x05\x06|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|%PDF-|<script|<html|<\?php|\x7fELF|\AMZ"
)
_MARKER = re.compile(rb"\xff[^\0\xd0-\xd7\xff]")


def _jpg(data: bytes, name: str) -> None:
    at, framed = 2, False
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        if kind == 0xD9:
            break
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            _pixels(width, height, name)
            framed = True
        at += 2 + size
        if kind == 0xDA:
            found = _MARKER.search(data, at)
            if found is None or not framed:
                raise _damaged(name)
            at = found.start()
    if not framed or data[at : at + 2] != b"\xff\xd9":
        raise _damaged(name)
    if _STOWAWAY.search(data, at + 2) or data[at + 2 : at + 4] == b"MZ":
        raise _polyglot(name)
