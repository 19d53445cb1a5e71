"""Files that belong together, as one ZIP with a manifest of what is in it: the same files give the same bytes.

Which files those are is not here: `yiqi catalogue collect` and `yiqi case dossier` know.
"""

import zipfile
from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
THEN = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a ZIP, which must have one: a clock would give the same files other bytes each time."""
MOST = 4 * 1024**3
"""Bytes that are looked at in a ZIP from elsewhere."""


class Broken(Exception):
    """What is wrong with a bundle, for people."""


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """The part of every manifest that can be checked by itself; what else it says is of its kind."""

    model_config = ConfigDict(extra="allow")

    format: int
    kind: str
    files: tuple[Part, ...]


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def written(value: Any) -> bytes:
    """JSON for a file: people read it too, and the same value is the same bytes."""
    return to_json(value, indent=2) + b"\n"


def seal(kind: str, facts: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files with their manifest, and the sums of both, which `sha256sum -c SHA256SUMS` reads too."""
    listed = [
        {"name": name, "size": len(data), "sha256": digest(data)} for name, data in sorted(files.items())
    ]
    whole = {**files, MANIFEST: written({"format": 1, "kind": kind, **facts, "files": listed})}
    sums = "".join(f"{digest(data)}  {name}\n" for name, data in sorted(whole.items()))
    return {**whole, SUMS: sums.encode()}


def pack(files: Mapping[str, bytes]) -> bytes:
    """Stored, not compressed: what is large in it is compressed already, and another zlib writes other bytes."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            one = zipfile.ZipInfo(name, THEN)
            one.create_system, one.external_attr = 3, 0o100644 << 16  # as on every system
            archive.writestr(one, data)
    return content.getvalue()


def unpack(content: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            listed = archive.infolist()
            if any(one.compress_type != zipfile.ZIP_STORED for one in listed):
                raise Broken("不是本系统打包的文件：其中有压缩的内容")
            if len({one.filename for one in listed}) < len(listed) or sum(o.file_size for o in listed) > MOST:
                raise Broken("不是本系统打包的文件：其中有重名或过大的内容")
            return {one.filename: archive.read(one) for one in listed}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise Broken("不是完整的 ZIP 文件") from error


def opened(files: Mapping[str, bytes]) -> Manifest:
    """The manifest of a bundle in which every byte is as it was written and nothing was added; `Broken` otherwise."""
    for name in (MANIFEST, SUMS):
        if name not in files:
            raise Broken(f"不完整：没有 {name}")
    try:
        manifest = Manifest.model_validate_json(files[MANIFEST])
    except ValidationError:
        raise Broken(f"{MANIFEST} 不是能读的清单") from None
    if manifest.format != 1:
        raise Broken(f"{MANIFEST} 是更新的格式（{manifest.format}），请用新版本核对")
    parts = {part.name: part for part in manifest.files}
    for name in sorted({*parts} - {*files}):
        raise Broken(f"不完整：缺少 {name}")
    for name in sorted({*files} - {*parts, MANIFEST, SUMS}):
        raise Broken(f"多出清单上没有的 {name}")
    for name, part in sorted(parts.items()):
        if (len(files[name]), digest(files[name])) != (part.size, part.sha256):
            raise Broken(f"{name} 与清单不符")
    sums = "".join(f"{digest(data)}  {name}\n" for name, data in sorted(files.items()) if name != SUMS)
    if files[SUMS] != sums.encode():
        raise Broken(f"{SUMS} 与文件不符")
    return manifest
