"""One folder for a place without internet: `python3 dev.py bundle`, then `load.sh` there.

The image is made in `deploy/image/build.py`, its bill of materials in `sbom.py`.
"""

import argparse
import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path

from deploy.airgap.sbom import sbom
from deploy.image import build

HERE = Path(__file__).parent
SUMS = "SHA256SUMS"
NOBODYS = "sha256:" + "0" * 64
"""In place of a digest in the manifests: of no image."""
PINNED = ("deploy/install.yaml", "deploy/kustomize/components/images/kustomization.yaml")


def name() -> str:
    return f"yiqi-{build.version()}-{build.HERE}"


def oci_archive(to: Path, tag: str) -> None:
    """The layout that was tested, byte for byte, under the name that it is loaded by."""
    index = json.loads((build.LAYOUT / "index.json").read_text())
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": tag}
    with tarfile.open(to, "w") as tar:
        for path in sorted(p for p in build.LAYOUT.rglob("*") if p.is_file()):
            said = json.dumps(index).encode() if path.name == "index.json" else path.read_bytes()
            member = tarfile.TarInfo(str(path.relative_to(build.LAYOUT)))
            member.size = len(said)
            tar.addfile(member, io.BytesIO(said))


def named(archive: Path) -> str:
    """The name and the digest of what an OCI archive holds."""
    with tarfile.open(archive) as tar:
        (index,) = (m for m in tar if m.name.removeprefix("./") == "index.json")
        file = tar.extractfile(index)
        assert file
        (manifest,) = json.load(file)["manifests"]
    return f"{manifest['annotations']['org.opencontainers.image.ref.name']} {manifest['digest']}"


def docker_archive(to: Path, tag: str) -> None:
    """For who has Docker; its digest in a registry becomes another one."""
    plain = to.with_suffix("")
    plain.unlink(missing_ok=True)
    build.run(*build.BUILDAH(), "push", "--quiet", tag, f"docker-archive:{plain}:{tag}")
    with plain.open("rb") as source, gzip.GzipFile(to, "wb", compresslevel=6, mtime=0) as target:
        shutil.copyfileobj(source, target)
    plain.unlink()


def committed(under: str) -> list[Path]:
    """What git knows below a folder: nothing that lies about on this machine leaves it."""
    said = subprocess.run(
        ["git", "ls-files", "-z", under], cwd=build.ROOT, check=True, capture_output=True, text=True
    )
    return [Path(line) for line in said.stdout.split("\0") if line]


def moment() -> datetime:
    """Of the commit, so that a bundle made again says the same."""
    said = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=build.ROOT, check=True, capture_output=True, text=True
    )
    return datetime.fromtimestamp(int(said.stdout), UTC)


def fill(folder: Path, also: list[Path]) -> None:
    images, wheels, tag = folder / "images", folder / "wheels", f"localhost/{build.tag()}"
    images.mkdir(parents=True)
    wheels.mkdir()
    oci_archive(images / f"{name()}.oci.tar", tag)
    docker_archive(images / f"{name()}.docker.tar.gz", tag)
    for archive in also:
        shutil.copy(archive, images)
    listed = sorted(images.glob("*.oci.tar"))
    (images / "LIST").write_text("".join(f"{a.name.removesuffix('.oci.tar')} {named(a)}\n" for a in listed))
    for wheel in (*build.WHEELS.glob("*.whl"), *build.APP.glob("*.whl")):
        shutil.copy(wheel, wheels)
    shutil.copy(build.LOCK, wheels)
    for path in committed("deploy"):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(build.ROOT / path, target)
    for path in (build.ROOT / "README.md", build.ROOT / "README.zh-CN.md", HERE / "load.sh"):
        shutil.copy(path, folder)
    for line in (images / "LIST").read_text().splitlines():
        pin(folder, *line.split()[1:])
    bill = sbom(build.BUNDLE / "rootfs", build.WHEELS, version=build.version(), digest=build.digest(), made=moment())  # fmt: skip
    (folder / "sbom.cdx.json").write_text(bill, encoding="utf-8")


def pin(folder: Path, name: str, digest: str) -> None:
    """Write the digest wherever the manifests name this image: a cluster then runs these bytes or nothing."""
    last = name.rpartition("/")[2].partition(":")[0]
    rendered = re.compile(rf"(/{last}:[^@\s]+@){NOBODYS}")
    listed = re.compile(rf"(- name: {last}\n(?:    .*\n)*?    digest: ){NOBODYS}")
    places = 0
    for path in (folder / file for file in PINNED):
        text = path.read_text(encoding="utf-8")
        for pattern in (rendered, listed):
            text, found = pattern.subn(rf"\g<1>{digest}", text)
            places += found
        path.write_text(text, encoding="utf-8")
    if not places:
        raise SystemExit(f"no manifest has a place for the digest of {last}")


def seal(folder: Path) -> str:
    """Write the sums of all files; the sum of these is what `load.sh` is told by another way than the medium."""
    lines = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  ./{path.relative_to(folder)}\n")
    (folder / SUMS).write_text("".join(lines))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="bundle for a place without internet")
    parser.add_argument(
        "--also", type=Path, action="append", default=[], help="NAME.oci.tar of NATS or another image"
    )
    asked = parser.parse_args()
    if lacking := build.missing():
        raise SystemExit(f"the image cannot be built here, these are missing: {', '.join(lacking)}")
    build.build()
    folder = build.ROOT / "dist" / name()
    shutil.rmtree(folder, ignore_errors=True)
    fill(folder, asked.also)
    print(f"{folder.relative_to(build.ROOT)}\n{SUMS}: {seal(folder)}\n{build.tag()}: {build.digest()}")


if __name__ == "__main__":
    main()
