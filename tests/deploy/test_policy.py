"""Pod Security and our own rules hold for every overlay, and every rule catches what breaks it."""

from collections.abc import Callable

import pytest

from tests.deploy.policy import wrong
from tests.deploy.rendering import OVERLAYS, Doc, docs, one, pod


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_workload_breaks_a_rule(overlay: str) -> None:
    assert wrong(docs(overlay), pinned=overlay != "dev") == []


def _container(doc: Doc) -> Doc:
    container: Doc = pod(doc)["containers"][0]
    return container


SPOILED: dict[str, Callable[[Doc], object]] = {
    "hostNetwork": lambda d: pod(d).update(hostNetwork=True),
    "hostPID": lambda d: pod(d).update(hostPID=True),
    "sysctls": lambda d: pod(d)["securityContext"].update(sysctls=[{"name": "kernel.shmmax", "value": "1"}]),
    "volume hostPath": lambda d: pod(d)["volumes"].append({"name": "etc", "hostPath": {"path": "/etc"}}),
    "a token of its service account": lambda d: pod(d).pop("automountServiceAccountToken"),
    "variables of every Service": lambda d: pod(d).pop("enableServiceLinks"),
    "yiqi: privileged": lambda d: _container(d)["securityContext"].update(privileged=True),
    "yiqi: may gain privileges": lambda d: _container(d)["securityContext"].pop("allowPrivilegeEscalation"),
    "yiqi: keeps capabilities": lambda d: _container(d)["securityContext"].pop("capabilities"),
    "yiqi: adds capabilities": lambda d: _container(d)["securityContext"]["capabilities"].update(add=["NET_RAW"]),
    # Checkov 3.3.30 lets this one pass, since the pod says runAsUser.
    "yiqi: may be root": lambda d: _container(d)["securityContext"].update(runAsNonRoot=False),
    "yiqi: says not who it runs as": lambda d: _container(d)["securityContext"].update(runAsUser=0),
    "yiqi: no seccomp profile": lambda d: pod(d)["securityContext"].pop("seccompProfile"),
    "yiqi: procMount": lambda d: _container(d)["securityContext"].update(procMount="Unmasked"),
    "yiqi: hostPort": lambda d: _container(d)["ports"][0].update(hostPort=8000),
    "yiqi: its root can be written to": lambda d: _container(d)["securityContext"].pop("readOnlyRootFilesystem"),
    "yiqi: requests no cpu": lambda d: _container(d)["resources"]["requests"].pop("cpu"),
    "yiqi: requests no memory": lambda d: _container(d)["resources"]["requests"].pop("memory"),
    "yiqi: no limit of memory": lambda d: _container(d)["resources"]["limits"].pop("memory"),
    "yiqi: a limit of cpu": lambda d: _container(d)["resources"]["limits"].update(cpu="1"),
    "yiqi: image yiqi@sha256:1 says no version": lambda d: _container(d).update(image="yiqi@sha256:1"),
    "yiqi: image yiqi:0.1.0 is not pinned": lambda d: _container(d).update(image="yiqi:0.1.0"),
    "yiqi: no volume elsewhere": lambda d: _container(d)["volumeMounts"].append({"name": "elsewhere", "mountPath": "/x"}),
    "yiqi: no startupProbe": lambda d: _container(d).pop("startupProbe"),
    "yiqi: no livenessProbe": lambda d: _container(d).pop("livenessProbe"),
    "yiqi: no readinessProbe": lambda d: _container(d).pop("readinessProbe"),
    "yiqi: restarted when it is only not ready": lambda d: _container(d)["livenessProbe"]["httpGet"].update(path="/readyz"),
    "0 budgets of disruption": lambda d: d["spec"]["template"]["metadata"]["labels"].update({"app.kubernetes.io/name": "x"}),
}  # fmt: skip


@pytest.mark.parametrize("said", SPOILED)
def test_every_rule_of_a_workload_catches_what_breaks_it(said: str) -> None:
    found = docs("prod")
    SPOILED[said](one(found, "Deployment", "yiqi-intake"))
    assert f"Deployment/yiqi-intake: {said}" in wrong(found, pinned=True)


def without(kind: str, named: str) -> list[str]:
    return wrong(
        [d for d in docs("prod") if (d["kind"], d["metadata"]["name"]) != (kind, named)], pinned=True
    )


def test_what_must_stand_beside_a_workload_is_missed() -> None:
    assert without("PodDisruptionBudget", "nats") == ["StatefulSet/nats: 0 budgets of disruption"]
    lines = without("NetworkPolicy", "default-deny")
    assert "Deployment/yiqi-notify: the network is open but for what is listed" in lines
    assert "Service/nats: nobody is behind it" in without("StatefulSet", "nats")


def test_a_service_that_leads_nowhere_is_found() -> None:
    found = docs("prod")
    one(found, "Service", "nats")["spec"]["ports"][0]["targetPort"] = "clients"
    assert wrong(found, pinned=True) == ["Service/nats: nobody listens on clients"]
