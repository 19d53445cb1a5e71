"""Scans and photographs for tests, written byte by byte: sound ones, and how to make them otherwise."""

import struct
import zlib
from collections.abc import Sequence

PAGE = (
    b"<</Type/Catalog/Pages 2 0 R/OpenAction[3 0 R/FitH null]>>",
    b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
    b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>",
)


def pdf(*more: bytes, say: str = "", trailer: bytes = b"", behind: bytes = b"") -> bytes:
    """One blank page and these objects; `say` makes another file of it."""
    out, places = b"%PDF-1.7\n", []
    for n, body in enumerate((*PAGE, *more), 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (n, body)
    out += f"% {say}\n".encode()
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<</Size %d/Root 1 0 R%s>>\n" % (len(places) + 1, trailer)
    return out + b"startxref\n%d\n%%%%EOF\n" % start + behind


def stream(content: bytes, head: bytes = b"") -> bytes:
    """As an object, compressed."""
    packed = zlib.compress(content)
    return b"<</Length %d/Filter/FlateDecode%s>>\nstream\n%s\nendstream" % (len(packed), head, packed)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    size: tuple[int, int] = (1, 1), more: Sequence[tuple[bytes, bytes]] = (), behind: bytes = b""
) -> bytes:
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)),
        *more,
        (b"IDAT", zlib.compress(b"\0\0")),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts) + behind


def jpg(size: tuple[int, int] = (8, 8), behind: bytes = b"") -> bytes:
    def segment(kind: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body

    frame = struct.pack(">BHHBBBB", 8, size[1], size[0], 1, 1, 0x11, 0)
    scan = b"\x01\x01\0\0\x3f\0"
    start = b"\xff\xd8" + segment(0xE0, b"JFIF\0\x01\x02\0\0\x01\0\x01\0\0") + segment(0xC0, frame)
    return start + segment(0xDA, scan) + b"\x12\xff\x00\xff\xd0\x34" + b"\xff\xd9" + behind
