"""What leaves for a place without internet: nothing is loaded there that was touched on the way.

The tool that loads is the site's (ctr, skopeo, docker); here it only notes what it is told to do.
"""

import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.airgap import bundle
from deploy.airgap.sbom import sbom

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "0" * 64
NOTES = '#!/bin/sh\nprintf "%s\\n" "$(basename "$0") $*" >> "$NOTES"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As `bundle.fill` leaves it, with a few bytes for an image."""
    here = tmp_path / "yiqi"
    (here / "images").mkdir(parents=True)
    (here / "images" / "yiqi-0.1.0-amd64.oci.tar").write_bytes(b"layers")
    (here / "images" / "yiqi-0.1.0-amd64.docker.tar.gz").write_bytes(b"layers too")
    (here / "images" / "LIST").write_text(f"yiqi-0.1.0-amd64 localhost/yiqi:0.1.0 {DIGEST}\n")
    (here / "install.yaml").write_text("kind: List\n")
    shutil.copy(ROOT / "deploy/airgap/load.sh", here)
    return here


def load(folder: Path, *arguments: str, tools: tuple[str, ...] = ("ctr",)) -> tuple[int, str, list[str]]:
    """Exit status, what is said, and what the tools were told."""
    programs, notes = folder.parent / "programs", folder.parent / "notes"
    shutil.rmtree(programs, ignore_errors=True)
    programs.mkdir()
    notes.write_text("")
    for name in ("sh", "sha256sum", "cut", "find", "sort", "wc", "dirname", "basename"):
        (programs / name).symlink_to(shutil.which(name) or name)
    for name in tools:
        (programs / name).write_text(NOTES)
        (programs / name).chmod(0o755)
    done = subprocess.run(
        ["sh", str(folder / "load.sh"), *arguments],
        env={"PATH": str(programs), "NOTES": str(notes), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stdout + done.stderr, notes.read_text().splitlines()


def test_what_is_whole_is_loaded(folder: Path) -> None:
    told = bundle.seal(folder)
    status, said, asked = load(folder, told)
    assert (status, asked) == (
        0,
        [
            "ctr -n k8s.io images import images/yiqi-0.1.0-amd64.oci.tar",
            f"ctr -n k8s.io images tag --force localhost/yiqi:0.1.0 localhost/yiqi@{DIGEST}",
        ],
    ), said
    status, said, asked = load(folder, told, "harbor.example/yiqi", tools=("skopeo", "docker"))
    assert (status, asked) == (
        0,
        [
            "skopeo copy --preserve-digests oci-archive:images/yiqi-0.1.0-amd64.oci.tar "
            "docker://harbor.example/yiqi/yiqi:0.1.0"
        ],
    ), said
    assert DIGEST in said
    status, said, asked = load(folder, told, "harbor.example/yiqi", tools=("docker",))
    assert (status, [line.split()[1] for line in asked]) == (0, ["load", "tag", "push"]), said
    assert DIGEST not in said  # Docker packs the layers anew


def flip(folder: Path) -> None:
    file = folder / "images" / "yiqi-0.1.0-amd64.oci.tar"
    file.write_bytes(b"lAyers")


def add(folder: Path) -> None:
    (folder / "images" / "other.oci.tar").write_bytes(b"x")


def remove(folder: Path) -> None:
    (folder / "install.yaml").unlink()


def link(folder: Path) -> None:
    (folder / "install.yaml").unlink()
    (folder / "install.yaml").symlink_to("/etc/hostname")


def newline(folder: Path) -> None:
    """A name that would pass for two."""
    (folder / "a\n.").mkdir()
    (folder / "a\n." / "install.yaml").write_bytes(b"x")


def rewrite(folder: Path) -> None:
    """Whoever changes a file can change the list as well."""
    flip(folder)
    bundle.seal(folder)


@pytest.mark.parametrize("tamper", [flip, add, remove, link, newline, rewrite])
def test_what_was_touched_is_not_loaded(folder: Path, tamper: Callable[[Path], None]) -> None:
    told = bundle.seal(folder)
    tamper(folder)
    status, said, asked = load(folder, told)
    assert (status, asked) == (1, []), said
    assert "未装入任何镜像" in said


def test_without_the_sum_nothing_is_loaded(folder: Path) -> None:
    bundle.seal(folder)
    for arguments in ((), ("0" * 64,)):
        status, said, asked = load(folder, *arguments)
        assert (status, asked) == (1, []), said


def test_a_tool_that_fails_ends_it(folder: Path) -> None:
    told = bundle.seal(folder)
    status, said, _ = load(folder, told, tools=())
    assert status == 127, said
    assert "已装入" not in said


def test_an_archive_tells_what_it_holds(tmp_path: Path) -> None:
    name = {"org.opencontainers.image.ref.name": "localhost/nats:2.15"}
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [{"digest": DIGEST, "annotations": name}]}))
    with tarfile.open(tmp_path / "nats.oci.tar", "w") as tar:
        tar.add(tmp_path / "index.json", "index.json")
    assert bundle.named(tmp_path / "nats.oci.tar") == f"localhost/nats:2.15 {DIGEST}"


def test_manifests_are_pinned_to_what_is_bundled(tmp_path: Path) -> None:
    install, images = (tmp_path / file for file in bundle.PINNED)
    for path in (install, images):
        path.parent.mkdir(parents=True, exist_ok=True)
    install.write_text(
        f"image: harbor.example/y/yiqi:0.1.0@{bundle.NOBODYS}\nimage: harbor.example/y/nats:2.15@{bundle.NOBODYS}\n"
    )
    images.write_text(
        f"  - name: yiqi\n    newTag: 0.1.0\n    digest: {bundle.NOBODYS}\n  - name: nats\n    digest: {bundle.NOBODYS}\n"
    )
    pinned = "sha256:" + "ab" * 32
    bundle.pin(tmp_path, "localhost/yiqi:0.1.0", pinned)
    for path in (install, images):
        assert [path.read_text().count(one) for one in (pinned, bundle.NOBODYS)] == [1, 1]
        assert path.read_text().index(pinned) < path.read_text().index(bundle.NOBODYS)
    with pytest.raises(SystemExit, match="no manifest has a place for the digest of yiqi"):
        bundle.pin(tmp_path, "localhost/yiqi:0.1.0", pinned)


# --- bill of materials -------------------------------------------------------------------------------

MADE = datetime(2025, 3, 1, tzinfo=UTC)
STATUS = """Package: tzdata
Status: install ok installed
Architecture: all
Version: 2026b-0+deb12u1
Description: time zone and daylight-saving time data
 Version: none of this

"""
METADATA = """Metadata-Version: 2.4
Name: ruamel.yaml
Version: 0.19.1
License-Expression: MIT
Classifier: Programming Language :: Python :: 3
"""


@pytest.fixture
def bill(tmp_path: Path) -> str:
    status = tmp_path / "rootfs/var/lib/dpkg/status"
    metadata = tmp_path / "rootfs/opt/venv/lib/python3.11/site-packages/ruamel_yaml-0.19.1.dist-info/METADATA"
    wheel = tmp_path / "wheels" / "ruamel_yaml-0.19.1-py3-none-any.whl"
    for path, text in ((status, STATUS), (metadata, METADATA), (wheel, "wheel")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return sbom(tmp_path / "rootfs", tmp_path / "wheels", version="0.1.0", digest=DIGEST, made=MADE)


def test_the_bill_is_what_the_standard_says(bill: str) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(bill) is None
    assert validator.validate_str(bill.replace('"components"', '"parts"')) is not None


def test_the_bill_names_what_is_installed_and_no_registry(bill: str) -> None:
    told = json.loads(bill)
    assert [(c["purl"], c.get("licenses"), len(c.get("hashes", []))) for c in told["components"]] == [
        ("pkg:pypi/ruamel-yaml@0.19.1", [{"license": {"name": "MIT"}}], 1),
        ("pkg:deb/debian/tzdata@2026b-0%2Bdeb12u1?arch=all", None, 0),
    ]
    addresses = [word for word in bill.split('"') if "://" in word]
    assert addresses == ["http://cyclonedx.org/schema/bom-1.6.schema.json"]  # names the format
