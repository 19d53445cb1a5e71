"""Every object of every overlay is one that its reader knows, and each kind of mistake is seen."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.rendering import OVERLAYS, Doc, docs, one, pod
from tests.deploy.schemas import KUBERNETES, MODELS, OURS, unknown


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_known(overlay: str, tmp_path: Path) -> None:
    assert unknown(docs(overlay), tmp_path) == []


def _first(doc: Doc) -> Doc:
    container: Doc = pod(doc)["containers"][0]
    return container


Spoil = Callable[[Doc], object]
SPOILED: list[tuple[str, str, Spoil, str]] = [
    ("Deployment", "yiqi-intake", lambda d: d["spec"].update(replicas="two"), "'two' is not of type 'integer'"),
    ("Deployment", "yiqi-intake", lambda d: _first(d).update(readinesProbe={}), "'readinesProbe' was unexpected"),
    ("Deployment", "yiqi-intake", lambda d: d.update(kind="Deploymnet"), "Couldn't find schema for kind Deploymnet"),
    ("Deployment", "yiqi-intake", lambda d: d.update(apiVersion="apps/v1beta1"), "Couldn't find schema"),
    ("ScaledObject", "yiqi-intake", lambda d: d["spec"].update(minReplicas=2), "'minReplicas' was unexpected"),
    ("ScaledObject", "yiqi-intake", lambda d: d["spec"]["triggers"][0]["metadata"].update(lagThreshold=200), "200"),
    ("PodMonitor", "yiqi", lambda d: d["spec"]["podMetricsEndpoints"][0].update(intervall="1s"), "intervall"),
    ("ExternalSecret", "yiqi-notify", lambda d: d["spec"].update(refreshIntervall="1h"), "refreshIntervall"),
    ("ExternalSecret", "yiqi-notify", lambda d: d["spec"]["data"][0].pop("remoteRef"), "'remoteRef' is a required"),
    ("ExternalSecret", "yiqi-notify", lambda d: d.update(apiVersion="external-secrets.io/v1beta1"), "Couldn't find"),
    ("Cluster", "yiqi-postgres", lambda d: d["spec"].update(instances="3"), "'3' is not of type 'integer'"),
    ("Cluster", "yiqi-postgres", lambda d: d["spec"]["postgresql"].update(synchronus={}), "synchronus"),
    ("ScheduledBackup", "yiqi-postgres", lambda d: d["spec"].update(schedule="30 18 * * *"), "does not match"),
    ("ObjectStore", "yiqi-postgres", lambda d: d["spec"].update(retentionPolicy="a month"), "does not match"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "named", "spoil", "said"), SPOILED)
def test_a_mistake_is_seen(kind: str, named: str, spoil: Spoil, said: str, tmp_path: Path) -> None:
    doc = one(docs("prod"), kind, named)
    spoil(doc)
    lines = unknown([doc], tmp_path, KUBERNETES[-1:])
    assert [line for line in lines if said in line] != [], lines


def test_nothing_is_described_that_is_not_there() -> None:
    there = {(d["apiVersion"], d["kind"]) for overlay in OVERLAYS for d in docs(overlay)}
    assert {*MODELS, *OURS} - there <= {("monitoring.coreos.com/v1", "PrometheusRule")}
