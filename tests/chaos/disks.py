"""Places on disks of their own: an ext4 in a file, whose blocks can be copied behind its back, and a small tmpfs.

Both need root and a kernel that lets it mount; a test that asks for one elsewhere is skipped.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.runtime.embedded import wait_until


@contextmanager
def disk(image: Path, at: Path) -> Iterator[Path]:
    """The ext4 in a file, made if there is none; gone at the end whatever has happened, also if a server still runs."""
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(400 << 20)
        _run("mkfs.ext4", "-q", "-F", image)
    with _mounted(at, "-o", "loop", image):
        yield at


@contextmanager
def memory(at: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs that is full when it is full."""
    with _mounted(at, "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs"):
        yield at


@contextmanager
def _mounted(at: Path, *arguments: str | Path) -> Iterator[None]:
    at.mkdir(parents=True)
    try:
        _run("mount", *arguments, at)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mounts here: {getattr(error, 'stderr', '') or error}".strip())
    try:
        yield
    finally:
        # Lazily, so that what a failed test left running cannot keep it; its blocks go when that ends.
        _run("umount", "--lazy", at)


def copy(image: Path, to: Path) -> None:
    """What the disk holds at this moment; what only the kernel's memory holds is not in it."""
    _run("cp", "--sparse=always", image, to)


def free(at: Path) -> int:
    """Bytes."""
    found = os.statvfs(at)
    return found.f_bavail * found.f_frsize


def frozen(pid: int) -> None:
    """Wait until a process that was sent a SIGSTOP has come to a stop."""
    wait_until(lambda: _state(pid) in "Tt", what=f"{pid} to be frozen")


def family(pid: int) -> list[int]:
    """The process and everything that descends from it."""
    return [pid, *(p for child in _children(pid) for p in family(child))]


def _children(pid: int) -> list[int]:
    try:
        return [
            int(p) for t in Path(f"/proc/{pid}/task").iterdir() for p in (t / "children").read_text().split()
        ]
    except OSError:  # it ended meanwhile
        return []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "T"


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
