"""The component `door`, added to each overlay: known, restricted, reached by the ingress alone, with all that it needs.

What the overlays have without it is tested beside this.
"""

import base64
import os
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import dev
from services.intake.door import serve
from shared.notices.directory import Directory
from shared.runtime.settings import Settings
from tests.deploy.network import Peer, may, ours
from tests.deploy.policy import wrong
from tests.deploy.rendering import (
    DEPLOY,
    OVERLAYS,
    Doc,
    containers,
    copy,
    docs,
    environment,
    load,
    name,
    one,
    pod,
    read,
    secrets,
    text,
    tool,
)
from tests.deploy.schemas import unknown
from tests.deploy.test_agreement import NOT_OURS, settings, variable
from tests.deploy.test_network import DNS, INSIDE, OUTSIDE, PROMETHEUS, STRANGER, database
from tests.deploy.test_rendering import _write

INGRESS = Peer((("app", "x"),), "ingress-nginx")
OWN = {
    f"{kind}/yiqi-door"
    for kind in ("Deployment", "Service", "ServiceAccount", "Ingress", "NetworkPolicy", "PodDisruptionBudget")
}


@cache
def _rendered(overlay: str) -> str:
    with TemporaryDirectory() as folder:
        to = copy(Path(folder)) / "overlays" / overlay
        told = load(to / "kustomization.yaml")
        told["components"].insert(0, "../../components/door")
        _write(to / "kustomization.yaml", told)
        return text(to)


def opened(overlay: str) -> list[Doc]:
    return read(_rendered(overlay))


def deployment(found: list[Doc]) -> Doc:
    return one(found, "Deployment", "yiqi-door")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_adds_itself_and_changes_nothing(overlay: str) -> None:
    before = {name(d): d for d in docs(overlay)}
    after = {name(d): d for d in opened(overlay)}
    assert after.keys() - before.keys() == OWN
    assert {named for named in before if after.get(named) != before[named]} == set()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_is_known_and_restricted_as_the_services_are(overlay: str, tmp_path: Path) -> None:
    found = opened(overlay)
    assert wrong(found, pinned=overlay != "dev") == []
    assert unknown([d for d in found if name(d) in OWN], tmp_path) == []
    assert [d["metadata"].get("namespace") for d in found if name(d) in OWN] == ["yiqi"] * len(OWN)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_reaches_it_and_whom_it_reaches(overlay: str) -> None:
    found = opened(overlay)
    door, bus = ours(found, "yiqi-door"), ours(found, "nats")
    assert may(found, INGRESS, door, 8443)
    assert may(found, PROMETHEUS, door, 8000)
    assert may(found, door, bus, 4222)
    assert may(found, door, DNS, 53)
    for peer, port in ((STRANGER, 8443), (OUTSIDE, 8443), (INGRESS, 8000), (PROMETHEUS, 8443)):
        assert not may(found, peer, door, port)
    for peer, port in ((database(overlay), 5432), (INSIDE, 25), (OUTSIDE, 443), (bus, 8222), (bus, 6222)):
        assert not may(found, door, peer, port)


def test_control_without_its_policy_it_would_reach_nothing() -> None:
    found = [d for d in opened("prod") if name(d) != "NetworkPolicy/yiqi-door"]
    assert not may(found, ours(found, "yiqi-door"), ours(found, "nats"), 4222)
    assert any("Deployment/yiqi-door: no policy" in line for line in wrong(found, pinned=True))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_can_start_on_what_it_is_told(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened(overlay)
    doc = deployment(found)
    (container,) = containers(doc)
    known = {variable(field) for field in Settings.model_fields} | NOT_OURS
    assert environment(doc, found).keys() - known == set()
    told = settings(doc, found, monkeypatch)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (told.port, told.door_port) == (ports["http"], ports["https"])
    mounts = [m["mountPath"] for m in container["volumeMounts"]]
    paths = (told.nats_seed, told.nats_ca, told.door_publishers, told.door_cert, told.door_key, told.door_ca)
    for path in (*paths, told.agencies):
        assert path is not None
        assert any(path.is_relative_to(mount) for mount in mounts)
    # Not by subPath, which the kubelet never brings anything new for.
    assert not any("subPath" in mount for mount in container["volumeMounts"])
    assert {"ssl_certfile", "ssl_keyfile", "ssl_ca_certs", "ssl_cert_reqs"} == serve._tls(told).keys()
    assert pod(doc)["terminationGracePeriodSeconds"] > serve.GRACE + 10


def test_its_probes_are_pages_that_there_are() -> None:
    (container,) = containers(deployment(opened("prod")))
    assert (DEPLOY.parent / (container["command"][-1].replace(".", "/") + "/__main__.py")).exists()
    asked = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    assert {*asked, "/metrics"} == {str(route.path) for route in serve._pages(None).routes}  # type: ignore[arg-type, attr-defined]


def test_prometheus_asks_it_too() -> None:
    (term,) = one(opened("prod"), "PodMonitor", "yiqi")["spec"]["selector"]["matchExpressions"]
    assert "yiqi-door" in term["values"]


def test_the_ingress_leads_to_it_and_never_speaks_plain_http() -> None:
    found = opened("prod")
    ingress = one(found, "Ingress", "yiqi-door")
    (rule,) = ingress["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    service = one(found, "Service", backend["name"])
    assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    said = ingress["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io/"
    assert said == {
        f"{prefix}ssl-passthrough": "true",
        f"{prefix}backend-protocol": "HTTPS",
        f"{prefix}proxy-body-size": "21m",
    }
    assert all(port["targetPort"] == "https" for port in service["spec"]["ports"])


def test_the_script_makes_its_secrets_and_keeps_them(tmp_path: Path) -> None:
    env = {
        "PATH": f"{tool('kubectl').parent}:{dev.BIN}:{os.environ['PATH']}",
        "DOOR_NAMES": "door.city.internal door.yiqi.svc",
    }
    run: list[str | Path] = [DEPLOY / "secrets.sh", tmp_path / "out", "db.internal"]
    subprocess.run(run, check=True, env=env, capture_output=True)
    publishers = tmp_path / "out/door/publishers"
    (agency, *_) = Directory.load().by_code
    added = subprocess.run([dev.BIN / "yiqi", "publisher", "token", agency], check=True, capture_output=True)
    publishers.write_bytes(added.stdout)
    del env["DOOR_NAMES"]  # told once
    first = (tmp_path / "out/door/tls.crt").read_bytes()
    subprocess.run(run, check=True, env=env, capture_output=True)
    assert (tmp_path / "out/door/tls.crt").read_bytes() == first
    listed = {d["metadata"]["name"]: d for d in read((tmp_path / "out/secrets.yaml").read_text())}
    given = {(named, key) for named, d in listed.items() if d["kind"] == "Secret" for key in d["data"]}
    assert set(secrets(deployment(opened("airgap")))) - given == set()
    assert base64.b64decode(listed["yiqi-door"]["data"]["publishers"]) == added.stdout
    verify: list[str | Path] = [
        "openssl",
        "verify",
        "-CAfile",
        tmp_path / "out/tls/ca.crt",
        "-verify_hostname",
    ]
    subprocess.run(
        [*verify, "door.city.internal", tmp_path / "out/door/tls.crt"], check=True, capture_output=True
    )
    assert [f for f in (tmp_path / "out/door").iterdir() if f.stat().st_mode & 0o077] == []


def test_it_is_not_there_for_whoever_did_not_ask() -> None:
    assert OWN & {name(d) for overlay in OVERLAYS for d in docs(overlay)} == set()
