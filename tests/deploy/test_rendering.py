"""Every overlay renders, everything in it has an effect, and a new notice rolls the services but no Job."""

import json
import shutil
import tomllib
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import dev
from services.notify.templates import Letters
from shared.notices.directory import Directory
from shared.notices.load import load_all
from tests.deploy.install import rules
from tests.deploy.network import Peer, may, ours
from tests.deploy.rendering import (
    DEPLOY,
    INSTALL,
    KUSTOMIZE,
    OVERLAYS,
    SERVICES,
    Doc,
    NotRendered,
    containers,
    copy,
    docs,
    environment,
    load,
    name,
    one,
    parts,
    pod,
    read,
    rendered,
    starting,
    text,
    workloads,
)

NAME = "app.kubernetes.io/name"
OWN = ("components", "patches")
"""What a kustomization may list without effect. What its resources say is there, or an error."""


def idle(overlay: Path, known: Container[Path] = ()) -> list[str]:
    """But for what is known: what an overlay and its components list and could as well leave out. A patch that matches nothing is no error of
    kustomize, nor is a component that an overlay forgot."""
    whole, found = text(overlay), []
    for part in dict.fromkeys(p for p in parts(overlay) if p not in known):
        file = part / "kustomization.yaml"
        before, told = file.read_text(), load(file)
        for key in OWN:
            for n, entry in enumerate(told.get(key) or ()):
                _write(file, {**told, key: [e for i, e in enumerate(told[key]) if i != n]})
                try:
                    if text(overlay) == whole:
                        found.append(f"{part.name}: {key}: {entry}")
                except NotRendered:
                    pass  # others stand on it
        file.write_text(before)
    return found


def _write(file: Path, told: Doc) -> None:
    with file.open("w") as to:
        YAML(typ="safe", pure=True).dump(told, to)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whatever_an_overlay_lists_has_an_effect(overlay: str, tmp_path: Path) -> None:
    """What several share is tried in prod."""
    folder = copy(tmp_path) / "overlays"
    assert idle(folder / overlay, () if overlay == "prod" else parts(folder / "prod")) == []


def test_a_patch_that_matches_nothing_is_found(tmp_path: Path) -> None:
    overlay = copy(tmp_path) / "overlays" / "airgap"
    told = load(overlay / "kustomization.yaml")
    told["patches"][0]["target"]["kind"] = "Deploymnet"
    _write(overlay / "kustomization.yaml", told)
    found = idle(overlay, parts(overlay.with_name("prod")))
    assert [line.partition(": {")[0] for line in found] == ["airgap: patches"]


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("components/keda/kustomization.yaml", "/spec/replicas", "/spec/replica"),
        ("base/kustomization.yaml", "patches:", "patch:"),
        ("base/kustomization.yaml", "- review.yaml", "- reviews.yaml"),
    ],
)
def test_what_kustomize_cannot_do_is_an_error(tmp_path: Path, file: str, before: str, after: str) -> None:
    changed = copy(tmp_path) / file
    changed.write_text(changed.read_text().replace(before, after, 1))
    with pytest.raises(NotRendered):
        text(tmp_path / "kustomize" / "overlays" / "prod")


def test_every_component_is_somewhere_or_says_why_not() -> None:
    used = {part.name for overlay in OVERLAYS for part in parts(KUSTOMIZE / "overlays" / overlay)}
    all_ = {folder.name for folder in (KUSTOMIZE / "components").iterdir() if folder.is_dir()}
    # For whoever has letters or typefaces of their own, or a collector: see below. For systems that cannot speak NATS:
    # test_door.py.
    assert all_ - used == {"letters", "fonts", "traces", "door"}


def test_install_yaml_is_the_overlay_rendered() -> None:
    """`python -m tests.deploy.install` writes it, and the rules."""
    assert read((DEPLOY / "install.yaml").read_text()) == docs(INSTALL)


def test_prometheus_and_grafana_get_what_is_tested() -> None:
    found = docs("prod")
    assert one(found, "PrometheusRule", "yiqi") == rules()
    dashboards = one(found, "ConfigMap", "yiqi-dashboards")
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboards["data"] == {f.name: f.read_text() for f in (DEPLOY / "grafana").glob("*.json")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_is_in_the_namespace_whose_pods_are_restricted(overlay: str) -> None:
    found = docs(overlay)
    assert [
        name(d) for d in found if d["kind"] != "Namespace" and d["metadata"].get("namespace") != "yiqi"
    ] == []
    pod_security = one(found, "Namespace", "yiqi")["metadata"]["labels"]
    assert pod_security["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_release_is_everywhere_the_same() -> None:
    version = tomllib.loads((dev.ROOT / "pyproject.toml").read_text())["project"]["version"]
    for doc in workloads(docs("prod")):
        if doc["kind"] == "Job":
            assert doc["metadata"]["name"].endswith("-" + version.replace(".", "-"))
        ours = [c["image"] for c in containers(doc) if c["name"] == "yiqi"]
        assert [image for image in ours if f"/yiqi:{version}@" not in image] == []


# --- what each overlay is for -----------------------------------------------------------------------


def test_prod_scales_by_what_waits_and_not_by_a_number() -> None:
    found = docs("prod")
    numbers = {d["metadata"]["name"]: d["spec"].get("replicas") for d in found if d["kind"] == "Deployment"}
    scaled = {d["spec"]["scaleTargetRef"]["name"] for d in found if d["kind"] == "ScaledObject"}
    assert numbers == {"yiqi-operate": 0, **dict.fromkeys(scaled)}
    assert scaled == {f"yiqi-{service}" for service in SERVICES}


def test_prod_proves_who_the_database_is() -> None:
    found = docs("prod")
    for doc in workloads(found):
        values = environment(doc, found)
        if "YIQI_DATABASE_URL" in values:
            assert values["PGSSLMODE"] == "verify-full"
            assert _mounted(doc, values["PGSSLROOTCERT"]) == ("yiqi-postgres-ca", "ca.crt")


def _mounted(doc: Doc, path: str) -> tuple[str, str] | None:
    """The Secret and key that a file of the container comes from."""
    (container,) = containers(doc)
    volumes = {v["name"]: v for v in pod(doc)["volumes"]}
    for mount in container["volumeMounts"]:
        for item in volumes[mount["name"]].get("secret", {}).get("items", ()):
            if f"{mount['mountPath']}/{item['path']}" == path:
                return volumes[mount["name"]]["secret"]["secretName"], item["key"]
    return None


def test_airgap_needs_nothing_that_a_cluster_may_not_have() -> None:
    found = docs("airgap")
    groups = {d["apiVersion"].rpartition("/")[0] for d in found}
    assert groups == {"", "apps", "batch", "networking.k8s.io", "policy"}
    assert [
        name(d) for d in workloads(found) if pod(d).get("imagePullSecrets") != [{"name": "registry"}]
    ] == []


def test_dev_is_one_of_each() -> None:
    found = docs("dev")
    numbers = {
        name(d): d["spec"].get("replicas", 1) for d in found if d["kind"] in ("Deployment", "StatefulSet")
    }
    assert {named for named, number in numbers.items() if number != 1} == {"Deployment/yiqi-operate"}
    provision = starting(found, "Job", "yiqi-provision")
    assert containers(provision)[0]["command"][-2:] == ["--replicas", "1"]


# --- what people add --------------------------------------------------------------------------------


def added(to: Path, generator: str, file: str, content: bytes) -> list[Doc]:
    """The overlay prod with one more file, as an operator would add it."""
    overlay = copy(to) / "overlays" / "prod"
    (overlay / Path(file).name).write_bytes(content)
    told = load(overlay / "kustomization.yaml")
    (entry,) = [g for g in told["configMapGenerator"] if g["name"] == generator]
    entry["files"] = [Path(file).name]
    _write(overlay / "kustomization.yaml", told)
    return read(text(overlay))


def as_volume(config: Doc, to: Path, items: list[dict[str, str]] | None = None) -> Path:
    """A ConfigMap as the kubelet mounts it: files behind a link that is exchanged as a whole."""
    to = to / "mounted"
    paths = {item["key"]: item["path"] for item in items} if items else {}
    data = to / "..2026_11_23_01_51_56.1"
    for key, value in config["data"].items():
        file = data / paths.get(key, key)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value)
    (to / "..data").symlink_to(data.name)
    for entry in data.iterdir():
        (to / entry.name).symlink_to(Path("..data") / entry.name)
    return to


NOTICE = dev.ROOT / "tests/examples/yongping/yongping-guilds-2026.yaml"
AGENCY = "- {code: '449999', name: 永平县工业和信息化局, short: 永平县工信局, kind: K1, source: 示例}\n"


def test_a_new_notice_rolls_the_services_and_no_job(tmp_path: Path) -> None:
    after = added(tmp_path, "yiqi-notices", NOTICE.name, NOTICE.read_bytes())
    before = {name(d): d for d in docs("prod")}
    changed = {name(d) for d in after if before.get(name(d)) != d}
    config = starting(after, "ConfigMap", "yiqi-notices")
    assert changed == {f"Deployment/yiqi-{s}" for s in (*SERVICES, "operate")} | {name(config)}
    mounted = load_all(as_volume(config, tmp_path))
    assert set(mounted) - set(load_all()) == {NOTICE.stem}


def test_new_agencies_are_read_as_they_are_mounted(tmp_path: Path) -> None:
    after = added(tmp_path, "yiqi-agencies", "yongping.yaml", AGENCY.encode())
    mounted = Directory.load(as_volume(starting(after, "ConfigMap", "yiqi-agencies"), tmp_path))
    assert set(mounted.by_code) - set(Directory.load().by_code) == {"449999"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_job_follows_no_setting(overlay: str, tmp_path: Path) -> None:
    """Its template cannot be changed: an apply that does fails."""
    folder = copy(tmp_path) / "overlays" / overlay
    settings = folder / "settings.env"
    settings.write_text(settings.read_text() + "YIQI_LOG_LEVEL=DEBUG\n")
    after = read(text(folder))
    jobs = [d for d in after if d["kind"] == "Job"]
    assert jobs == [d for d in docs(overlay) if d["kind"] == "Job"] != []
    assert starting(after, "ConfigMap", "yiqi-settings") != starting(
        docs(overlay), "ConfigMap", "yiqi-settings"
    )


def test_a_letter_of_ones_own_reaches_notify_and_the_doctor(tmp_path: Path) -> None:
    """As the component says: a key for each part, and a patch that gives it its name."""
    overlay = copy(tmp_path) / "overlays" / "airgap"
    shutil.copy(dev.ROOT / "services/notify/letters/returned/body.txt", overlay / "body.txt")
    told = load(overlay / "kustomization.yaml")
    told["components"].append("../../components/letters")
    told["configMapGenerator"].append(
        {"name": "yiqi-letters", "namespace": "yiqi", "files": ["returned.body=body.txt"]}
    )
    items = [{"key": "returned.body", "path": "returned/body.txt"}]
    told["patches"].append(_letters(items))
    _write(overlay / "kustomization.yaml", told)
    after = read(text(overlay))
    config = starting(after, "ConfigMap", "yiqi-letters")
    for who in ("yiqi-notify", "yiqi-operate"):
        reader = one(after, "Deployment", who)
        volume: Any = next(v for v in pod(reader)["volumes"] if v["name"] == "letters")
        assert volume["configMap"] == {"name": config["metadata"]["name"], "items": items}
        assert environment(reader, after)["YIQI_LETTERS"] == "/etc/yiqi/letters"
    assert Letters.load(as_volume(config, tmp_path, items)).overridden("returned") == ["body.txt"]


def with_component(to: Path, component: str) -> list[Doc]:
    overlay = copy(to) / "overlays" / "airgap"
    told = load(overlay / "kustomization.yaml")
    told["components"].append(f"../../components/{component}")
    _write(overlay / "kustomization.yaml", told)
    return read(text(overlay))


def test_typefaces_reach_export_and_who_puts_them_there(tmp_path: Path) -> None:
    after = with_component(tmp_path, "fonts")
    before = {name(d): d for d in docs("airgap")}
    assert {name(d) for d in after if before.get(name(d)) != d} == {
        "Deployment/yiqi-export",
        "Deployment/yiqi-operate",
        "PersistentVolumeClaim/yiqi-fonts",
    }
    for who, writes in (("yiqi-export", False), ("yiqi-operate", True)):
        doc = one(after, "Deployment", who)
        folder = environment(doc, after)["YIQI_FONTS"]
        (mount,) = [m for m in containers(doc)[0]["volumeMounts"] if m["mountPath"] == folder]
        assert mount.get("readOnly", False) is not writes
        (volume,) = [v for v in pod(doc)["volumes"] if v["name"] == mount["name"]]
        assert volume["persistentVolumeClaim"]["claimName"] == "yiqi-fonts"


def test_spans_reach_a_collector_and_nothing_else_does(tmp_path: Path) -> None:
    collector, stranger = (Peer((("app", "x"),), n) for n in ("monitoring", "default"))
    before, after = docs("airgap"), with_component(tmp_path, "traces")
    for service in SERVICES:
        assert may(after, ours(after, f"yiqi-{service}"), collector, 4318)
        assert not may(after, ours(after, f"yiqi-{service}"), stranger, 4318)
        assert not may(before, ours(before, f"yiqi-{service}"), collector, 4318)
    assert not may(after, ours(after, "yiqi-operate"), collector, 4318)


RESTORED = ("yiqi-migrate", "yiqi-provision", *(f"yiqi-{service}" for service in SERVICES))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_a_restore_goes_into_has_servers_and_nobody_who_writes(overlay: str) -> None:
    """The selector that the page tells, which must match objects, not pods: no Job would leave an empty place."""
    page = (DEPLOY / "README.md").read_text()
    assert f"-l 'app.kubernetes.io/name notin ({','.join(RESTORED)})'" in page
    left = [d for d in docs(overlay) if d["metadata"].get("labels", {}).get(NAME) not in RESTORED]
    running = {name(d) for d in workloads(left)}
    assert running - {"StatefulSet/postgres"} == {"StatefulSet/nats", "Deployment/yiqi-operate"}
    made = {name(d) for d in left}
    needs = {f"ConfigMap/{v['configMap']['name']}" for v in pod(one(left, "Deployment", "yiqi-operate"))["volumes"] if "configMap" in v}  # fmt: skip
    assert needs - made == set()


def _letters(items: list[dict[str, str]]) -> Doc:
    spec = {"volumes": [{"name": "letters", "configMap": {"name": "yiqi-letters", "items": items}}]}
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "yiqi-notify"},
        "spec": {"template": {"spec": spec}},
    }
    return {"patch": json.dumps(patch), "target": {"kind": "Deployment", "name": "yiqi-(notify|operate)"}}


def test_the_same_is_rendered_each_time() -> None:
    assert text(KUSTOMIZE / "overlays" / INSTALL) == rendered(INSTALL)
