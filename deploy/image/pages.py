"""Whether the programs in a wheel load on a kernel with pages of 64 KiB, as many arm64 machines here have.

`build.py` asks it of every arm64 wheel.
"""

import struct
import zipfile
from pathlib import Path

PAGE = 0x10000
LOAD = 1


def faults(wheel: Path) -> list[str]:
    """What would not load there: segments on smaller pages, an allocator that was built for one size of page."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if not content.startswith(b"\x7fELF"):
                continue
            if min(_alignments(content), default=PAGE) < PAGE:
                found.append(f"{wheel.name}: {name} is laid out for pages smaller than 64 KiB")
            if b"jemalloc" in content:
                found.append(f"{wheel.name}: {name} has jemalloc, which is built for one size of page")
    return found


def _alignments(elf: bytes) -> list[int]:
    """Of the segments that are loaded, in a 64-bit file."""
    (offset,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    headers = [offset + n * size for n in range(count)]
    return [
        struct.unpack_from("<Q", elf, at + 48)[0]
        for at in headers
        if struct.unpack_from("<I", elf, at)[0] == LOAD
    ]
