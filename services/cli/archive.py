"""The folder that a backup is: a manifest, the database's dump, one file a stream, and the checksums of them all.

What goes into it and how it is given back is in `backup.py`.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

MANIFEST, SUMS, DUMP = "manifest.json", "SHA256SUMS", "database.dump"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamPart(Part):
    """One stream with its consumers; `config` and `state` are the server's own, which wants them back."""

    messages: int
    first: int
    last: int
    config: dict[str, Any]
    state: dict[str, Any]


class TablePart(Part):
    """How many rows, and a sum over all of them: a row more, less or otherwise gives another."""

    rows: int
    digest: str


class Manifest(Part):
    format: Literal[1] = 1
    taken: datetime
    yiqi: str
    nats: str
    postgresql: int
    """server_version_num"""
    heads: dict[str, str]
    """The newest migration of each service."""
    streams: dict[str, StreamPart]
    tables: dict[str, TablePart]
    in_flight: dict[str, int]
    """Mails that a worker had in hand, by state."""
    waited_seconds: float
    """Until nobody was writing."""
    held_seconds: float
    """For so long nobody could."""


class Broken(Exception):
    """Why an archive cannot be used, for people."""


def stream_file(name: str) -> str:
    return f"{name}.stream"


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name only when it is whole; nobody else may read it. What is left of one
    whose process was killed ends in `.unfinished`."""
    if target.exists():
        raise Broken(f"{target} 已经存在；请写一个还没有的文件夹，备份从不覆盖")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=".unfinished", dir=target.parent))
    try:
        yield part
        _sync(part)
        part.rename(target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A new file for its owner alone, on the disk when this ends."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, and last of all the checksums: `sha256sum -c SHA256SUMS` reads them too."""
    with writing(folder / MANIFEST) as file:
        file.write(manifest.model_dump_json(indent=2).encode() + b"\n")
    lines = [f"{_sum(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    with writing(folder / SUMS) as file:
        file.write("".join(lines).encode())


def opened(folder: Path) -> Manifest:
    """The manifest of an archive of which every byte is as it was written; `Broken` otherwise."""
    if not (folder / SUMS).is_file():
        raise Broken(f"{folder} 不是完整的备份：没有 {SUMS}")
    sums = {}
    for line in (folder / SUMS).read_text(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        sums[name] = digest
    if MANIFEST not in sums:
        raise Broken(f"{SUMS} 已损坏：没有列出 {MANIFEST}")
    for name, digest in sums.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise Broken(f"备份不完整：缺少 {name!r}")
        if _sum(folder / name) != digest:
            raise Broken(f"备份已损坏：{name} 与校验值不符")
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except ValidationError:
        raise Broken(f"{MANIFEST} 不是本版本能读的备份清单") from None
    if missing := {DUMP, *map(stream_file, manifest.streams)} - set(sums):
        raise Broken(f"备份不完整：缺少 {'、'.join(sorted(missing))}")
    return manifest


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
