"""What leaves for a place without internet: nothing is loaded there that was touched on the way.

The tool that loads is the site's (ctr, skopeo, docker); here it mostly notes what it is told to do, and where it is skopeo
itself, a registry takes it.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote
from urllib.request import urlopen

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from ruamel.yaml import YAML

from deploy.airgap import bundle
from deploy.airgap.sbom import sbom
from tests.deploy.rendering import containers, copy, read, text, workloads

ROOT = Path(__file__).parents[2]
DIGEST = "sha256:" + "0" * 64
NOTES = '#!/bin/sh\nprintf "%s\\n" "$(basename "$0") $*" >> "$NOTES"\n'
PUSHED = "sha256:" + "d" * 64
DOCKER = f"""{NOTES}[ "$1" != inspect ] || printf 'other/yiqi@sha256:1\\nharbor.example/yiqi/yiqi@{PUSHED}\\n'
"""
"""As Docker answers after a push: by another digest, beside those of other places."""


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
    for name in ("sh", "sha256sum", "cut", "find", "sort", "wc", "dirname", "basename", "grep"):
        (programs / name).symlink_to(shutil.which(name) or name)
    for name in tools:
        (programs / name).write_text(DOCKER if name == "docker" else NOTES)
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
    assert listed(said) == [("yiqi", "harbor.example/yiqi/yiqi", "0.1.0", DIGEST)]
    assert "每个节点" not in said
    status, said, asked = load(folder, told, "harbor.example/yiqi", tools=("docker",))
    assert (status, [line.split()[1] for line in asked]) == (0, ["load", "tag", "push", "inspect"]), said
    assert listed(said) == [("yiqi", "harbor.example/yiqi/yiqi", "0.1.0", PUSHED)]  # packed anew by Docker


def listed(said: str) -> list[tuple[str, str, str, str]]:
    """What is to be written into the manifests."""
    _, _, told = said.partition("\nimages:\n")
    found = YAML(typ="safe", pure=True).load("images:\n" + told.partition("\n\n")[0])
    return [(one["name"], one["newName"], one["newTag"], one["digest"]) for one in found["images"]]


def test_an_image_without_a_registry_in_its_name_is_found_on_the_node(folder: Path) -> None:
    """The runtime takes `nats` for one of a registry far away."""
    with (folder / "images/LIST").open("a") as file:
        file.write(f"nats nats:2.15.1-alpine {DIGEST}\n")
    (folder / "images/nats.oci.tar").write_bytes(b"layers")
    status, said, asked = load(folder, bundle.seal(folder))
    assert status == 0, said
    assert f"ctr -n k8s.io images tag --force nats:2.15.1-alpine localhost/nats@{DIGEST}" in asked
    assert listed(said) == [
        ("yiqi", "localhost/yiqi", "0.1.0", DIGEST),
        ("nats", "localhost/nats", "2.15.1-alpine", DIGEST),
    ]
    assert "每个节点" in said


# --- into a registry, and from there into the manifests -----------------------------------------------


class Registry(BaseHTTPRequestHandler):
    """As much of the distribution protocol as a push needs; what it has is of the class."""

    stored: ClassVar[dict[str, bytes]] = {}

    def log_message(self, *_: object) -> None:
        """Nothing is said."""

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/v2/":
            return self._answer(200)
        found = self.stored.get(self.path.rpartition("/")[2])
        return self._answer(200, found, Content_Type=OCI) if found is not None else self._answer(404)

    do_HEAD = do_GET  # noqa: N815 - as http.server calls it

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(202, Location=f"{self.path}1")

    def do_PATCH(self) -> None:
        type(self).stored["upload"] = self._body()
        self._answer(202, Location=self.path)

    def do_PUT(self) -> None:
        body = self._body()
        if "/manifests/" in self.path:
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            self.stored[self.path.rpartition("/")[2]] = self.stored[digest] = body
            return self._answer(201, Docker_Content_Digest=digest)
        self.stored[unquote(self.path.partition("digest=")[2])] = self.stored.pop("upload", b"") + body
        return self._answer(201)

    def _body(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body


OCI = "application/vnd.oci.image.manifest.v1+json"


def archive(to: Path, tag: str) -> str:
    """An image of one empty layer; returns its digest."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    layer = gzip.compress(bytes(10240), mtime=0)
    root = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(bytes(10240)).hexdigest()]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": blob(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [blob(layer, "application/vnd.oci.image.layer.v1.tar+gzip")],
    }
    described = blob(json.dumps(manifest).encode(), OCI)
    described["annotations"] = {"org.opencontainers.image.ref.name": tag}
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [described]}).encode(),
        **{f"blobs/sha256/{digest}": content for digest, content in blobs.items()},
    }
    with tarfile.open(to, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return str(described["digest"])


@pytest.fixture
def registry() -> Iterator[str]:
    Registry.stored.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
def test_what_is_loaded_is_what_the_manifests_then_ask_for(folder: Path, registry: str) -> None:
    """By the real skopeo into a registry, its last words into the component, and the overlay rendered: every image of it
    that was in the bundle is in the registry under that very digest."""
    digests = {}
    for file, tag in (("yiqi-0.1.0-amd64", "localhost/yiqi:0.1.0"), ("nats", "nats:2.15.1-alpine")):
        digests[tag] = archive(folder / "images" / f"{file}.oci.tar", tag)
    assert (
        bundle.named(folder / "images/nats.oci.tar") == f"nats:2.15.1-alpine {digests['nats:2.15.1-alpine']}"
    )
    (folder / "images/LIST").write_text(
        f"yiqi-0.1.0-amd64 localhost/yiqi:0.1.0 {digests['localhost/yiqi:0.1.0']}\n"
        f"nats nats:2.15.1-alpine {digests['nats:2.15.1-alpine']}\n"
    )
    insecure = folder.parent / "home/.config/containers/registries.conf"
    insecure.parent.mkdir(parents=True)
    insecure.write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    done = subprocess.run(
        ["sh", str(folder / "load.sh"), bundle.seal(folder), f"{registry}/city"],
        env={**os.environ, "HOME": str(folder.parent / "home"), "XDG_CONFIG_HOME": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    overlays = copy(folder.parent / "copy") / "overlays"
    component = overlays.parent / "components/images/kustomization.yaml"
    yaml = YAML(typ="safe", pure=True)
    told = yaml.load(component)
    entries = {name: (new, tag, digest) for name, new, tag, digest in listed(done.stdout)}
    for one in told["images"]:
        if one["name"] in entries:
            one["newName"], one["newTag"], one["digest"] = entries[one["name"]]
    with component.open("w") as to:
        yaml.dump(told, to)
    wanted = {c["image"] for d in workloads(read(text(overlays / "airgap"))) for c in containers(d)}
    assert len(wanted) == 2
    for image in wanted:
        repository, _, digest = image.partition("@")
        assert repository.startswith(f"{registry}/city/")
        host, _, path = repository.partition("/")
        with urlopen(f"http://{host}/v2/{path.rpartition(':')[0]}/manifests/{digest}") as answer:
            assert "sha256:" + hashlib.sha256(answer.read()).hexdigest() == digest


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
    for path, content in ((status, STATUS), (metadata, METADATA), (wheel, "wheel")):
        path.parent.mkdir(parents=True)
        path.write_text(content)
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
