"""Manifests as kubectl renders them, and what several checks read from them.

No check is here. The tools are those of `make check-deploy`, which installs them.
"""

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import dev

DEPLOY = dev.ROOT / "deploy"
KUSTOMIZE = DEPLOY / "kustomize"
OVERLAYS = ("dev", "prod", "airgap")
INSTALL = "airgap"
"""The overlay that `deploy/install.yaml` is the rendering of."""
SERVICES = ("intake", "review", "notify", "export")
JOBS = ("migrate", "provision")

Doc = dict[str, Any]


class NotRendered(Exception):
    """kubectl refused, with its reason."""


def tool(name: str) -> Path:
    found = dev.DEPLOY / "bin" / name
    if not found.exists():
        pytest.fail(f"{name} is not here: python3 dev.py check-deploy installs it")
    return found


def text(overlay: Path) -> str:
    made = subprocess.run([tool("kubectl"), "kustomize", overlay], capture_output=True, text=True)
    if made.returncode or made.stderr:
        raise NotRendered(made.stderr)
    return made.stdout


@cache
def rendered(overlay: str) -> str:
    return text(KUSTOMIZE / "overlays" / overlay)


def read(manifests: str) -> list[Doc]:
    """New objects each time: a test may spoil them."""
    return deepcopy(_read(manifests))


@cache
def _read(manifests: str) -> list[Doc]:
    return [doc for doc in YAML(typ="safe", pure=True).load_all(manifests) if doc]


def docs(overlay: str) -> list[Doc]:
    return read(rendered(overlay))


def load(file: Path) -> Doc:
    found: Doc = YAML(typ="safe", pure=True).load(file)
    return found


def copy(to: Path) -> Path:
    """All of kustomize, to change something in."""
    shutil.copytree(DEPLOY / "grafana", to / "grafana")
    return shutil.copytree(KUSTOMIZE, to / "kustomize")


def name(doc: Doc) -> str:
    return f"{doc['kind']}/{doc['metadata']['name']}"


def one(found: list[Doc], kind: str, named: str) -> Doc:
    (doc,) = [d for d in found if d["kind"] == kind and d["metadata"]["name"] == named]
    return doc


def starting(found: list[Doc], kind: str, prefix: str) -> Doc:
    """By the part of its name that stands before a hash or a version."""
    (doc,) = [d for d in found if d["kind"] == kind and d["metadata"]["name"].startswith(prefix)]
    return doc


def workloads(found: Iterable[Doc]) -> Iterator[Doc]:
    """Whatever makes pods."""
    yield from (d for d in found if d["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"))


def template(doc: Doc) -> Doc:
    spec = doc["spec"]["jobTemplate"]["spec"] if doc["kind"] == "CronJob" else doc["spec"]
    made: Doc = spec["template"]
    return made


def pod(doc: Doc) -> Doc:
    spec: Doc = template(doc)["spec"]
    return spec


def containers(doc: Doc) -> list[Doc]:
    return [*pod(doc).get("initContainers", ()), *pod(doc)["containers"]]


def labels(doc: Doc) -> dict[str, str]:
    """Of its pods."""
    found: dict[str, str] = template(doc)["metadata"]["labels"]
    return found


def selects(selector: Doc, having: dict[str, str]) -> bool:
    """As Kubernetes reads a selector; an empty one is everything."""
    if any(having.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    for term in selector.get("matchExpressions") or ():
        if term["operator"] != "In":
            raise NotImplementedError(term["operator"])
        if having.get(term["key"]) not in term["values"]:
            return False
    return True


def parts(overlay: Path) -> list[Path]:
    """The folders of the kustomizations that an overlay is made of, itself among them."""
    told = load(overlay / "kustomization.yaml")
    below = [overlay / one for key in ("resources", "components") for one in told.get(key) or ()]
    return [overlay, *(part for folder in below if folder.is_dir() for part in parts(folder.resolve()))]


def environment(doc: Doc, found: list[Doc]) -> dict[str, Any]:
    """The variables of its container, as the kubelet would set them; of a Secret only that it is one."""
    (container,) = pod(doc)["containers"]
    values: dict[str, Any] = {}
    for source in container.get("envFrom") or ():
        values |= one(found, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env") or ():
        if ref := (variable.get("valueFrom") or {}).get("configMapKeyRef"):
            values[variable["name"]] = one(found, "ConfigMap", ref["name"])["data"][ref["key"]]
        else:
            values[variable["name"]] = variable.get("value", variable.get("valueFrom"))
    return values


def secrets(doc: Doc) -> Iterator[tuple[str, str]]:
    """Name and key of every Secret that its pods need to start."""
    for container in containers(doc):
        for variable in container.get("env") or ():
            ref = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if ref and not ref.get("optional"):
                yield ref["name"], ref["key"]
    for volume in pod(doc).get("volumes") or ():
        if secret := volume.get("secret"):
            yield from ((secret["secretName"], item["key"]) for item in secret.get("items") or ())
