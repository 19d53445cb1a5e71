"""The Dockerfile before it is built: what hadolint says, and what is said twice and must agree."""

import re
import struct
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from deploy.image import build, pages
from deploy.image.pod import UID

ROOT = Path(__file__).parents[2]
HADOLINT = Path(sys.executable).parent / "hadolint"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def lint(text: str) -> tuple[int, set[str]]:
    done = subprocess.run([HADOLINT, "-"], input=text, capture_output=True, text=True, timeout=30)
    return done.returncode, set(re.findall(r"\b(?:DL|SC)\d{4}\b", done.stdout))


def test_hadolint_has_nothing_to_say() -> None:
    assert lint(DOCKERFILE) == (0, set())


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("ARG BASE=python:3.11-slim-bookworm\n\nFROM ${BASE}", "FROM python:latest", "DL3007"),
        ("--no-cache-dir ", "", "DL3042"),
        ('ENTRYPOINT ["yiqi"]', "ENTRYPOINT yiqi", "DL3025"),
        ("USER 10001:10001", "USER root", "DL3002"),
        ("RUN echo 'yiqi", "RUN cd /opt && echo 'yiqi", "DL3003"),
    ],
)
def test_control_hadolint_finds_what_is_wrong(right: str, wrong: str, rule: str) -> None:
    bad = DOCKERFILE.replace("/pip/bin/pip --python /opt/venv/bin/python install", "pip install")
    assert right in bad
    status, found = lint(bad.replace(right, wrong))
    assert status == 1
    assert rule in found


def test_it_is_what_the_project_and_the_pods_say() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (base,) = re.findall(r"^ARG BASE=python:(\S+)-slim-bookworm$", DOCKERFILE, re.MULTILINE)
    assert project["requires-python"] == f">={base}"
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == [f"{UID}:{UID}"]
    assert f"yiqi:x:{UID}:{UID}:" in DOCKERFILE
    assert build.version() == project["version"]


def test_wheels_are_all_that_the_builder_is_sent() -> None:
    """Not one key, not one file of data: what is not listed stays."""
    kept = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert kept == ["*", "!dist/image/requirements.lock", "!dist/image/wheels", "!dist/image/app"]
    assert {path.relative_to(ROOT).as_posix() for path in (build.LOCK, build.WHEELS, build.APP)} == {
        line.removeprefix("!") for line in kept[1:]
    }


def test_every_requirement_is_locked_for_the_image() -> None:
    wanted = build.requirements()
    lock = (ROOT / "requirements.lock").read_text()
    assert set(wanted) == {*re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE), build.TOOL} - {"colorama"}
    assert all("--hash=sha256:" in text for text in wanted.values())


def elf(alignment: int, more: bytes = b"") -> bytes:
    """A 64-bit file with one segment to load."""
    header = (
        b"\x7fELF\x02\x01\x01".ljust(32, b"\0")
        + struct.pack("<Q", 64)
        + b"\0" * 14
        + struct.pack("<HH", 56, 1)
    )
    return (
        header.ljust(64, b"\0") + struct.pack("<I", 1).ljust(48, b"\0") + struct.pack("<Q", alignment) + more
    )


@pytest.mark.parametrize(
    ("content", "faults"),
    [(elf(0x10000), 0), (elf(0x1000), 1), (elf(0x10000, b"<jemalloc>"), 1), (b"no program", 0)],
)
def test_a_wheel_that_does_not_load_on_large_pages_is_found(
    tmp_path: Path, content: bytes, faults: int
) -> None:
    wheel = tmp_path / "some-1.0-cp311-cp311-manylinux2014_aarch64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("some/native.so", content)
    assert len(pages.faults(wheel)) == faults
