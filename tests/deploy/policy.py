"""What no pod may do and every workload must have: Pod Security `restricted`, and our own rules.

Objects in, sentences out; that the objects are what Kubernetes knows is for `schemas.py`.
"""

from collections.abc import Iterable, Iterator, Sequence

from tests.deploy.rendering import Doc, containers, labels, name, pod, selects, workloads

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
ZEROS = "sha256:" + 64 * "0"


def wrong(found: Sequence[Doc], *, pinned: bool) -> list[str]:
    """All that is wrong with the workloads; `pinned`: images by digest, as everywhere but on a laptop."""
    said = [f"{name(doc)}: {line}" for doc in workloads(found) for line in _pod(doc, pinned=pinned)]
    said += [f"{name(doc)}: {line}" for doc in workloads(found) for line in _around(doc, found)]
    return said + list(_services(found))


def _pod(doc: Doc, *, pinned: bool) -> Iterator[str]:
    spec = pod(doc)
    context = spec.get("securityContext") or {}
    for one in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(one):
            yield one
    if context.get("sysctls"):
        yield "sysctls"
    for volume in spec.get("volumes") or ():
        if (kind := set(volume) - {"name"}) - VOLUMES:
            yield f"volume {kind.pop()}"
    if spec.get("automountServiceAccountToken") is not False:
        yield "a token of its service account"
    if spec.get("enableServiceLinks") is not False:
        yield "variables of every Service"
    known = {volume["name"] for volume in spec.get("volumes") or ()}
    known |= {claim["metadata"]["name"] for claim in doc["spec"].get("volumeClaimTemplates") or ()}
    for container in containers(doc):
        for line in _container(container, context, pinned=pinned):
            yield f"{container['name']}: {line}"
        for mount in container.get("volumeMounts") or ():
            if mount["name"] not in known:
                yield f"{container['name']}: no volume {mount['name']}"
        if doc["kind"] in ("Deployment", "StatefulSet"):
            yield from (f"{container['name']}: no {probe}" for probe in PROBES if probe not in container)
            if _path(container, "livenessProbe") == _path(container, "readinessProbe") != "":
                yield f"{container['name']}: restarted when it is only not ready"


def _container(container: Doc, context: Doc, *, pinned: bool) -> Iterator[str]:
    own = container.get("securityContext") or {}
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in capabilities.get("drop", ()):
        yield "keeps capabilities"
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
    if own.get("runAsNonRoot", context.get("runAsNonRoot")) is not True:
        yield "may be root"
    if not own.get("runAsUser", context.get("runAsUser")):
        yield "says not who it runs as"
    if (own.get("seccompProfile") or context.get("seccompProfile") or {}).get("type") not in (
        "RuntimeDefault",
        "Localhost",
    ):
        yield "no seccomp profile"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield "hostPort"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "its root can be written to"
    resources = container.get("resources") or {}
    for one in ("cpu", "memory"):
        if not (resources.get("requests") or {}).get(one):
            yield f"requests no {one}"
    if not (resources.get("limits") or {}).get("memory"):
        yield "no limit of memory"
    if (resources.get("limits") or {}).get("cpu"):
        # It would be stopped for parts of every tenth of a second, and the watchdogs with it.
        yield "a limit of cpu"
    image = container["image"]
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        yield f"image {image} says no version"
    if pinned and "@sha256:" not in image:
        yield f"image {image} is not pinned"


def _path(container: Doc, probe: str) -> str:
    asked = (container.get(probe) or {}).get("httpGet") or {}
    return str(asked.get("path", ""))


def _around(doc: Doc, found: Sequence[Doc]) -> Iterator[str]:
    """What must stand beside a workload."""
    mine = labels(doc)
    budgets = [
        d for d in found if d["kind"] == "PodDisruptionBudget" and selects(d["spec"]["selector"], mine)
    ]
    # A Deployment that says no number has one that scales it.
    several = doc["spec"].get("replicas", 2 if doc["kind"] == "Deployment" else 1) > 1
    if doc["kind"] in ("Deployment", "StatefulSet") and several and len(budgets) != 1:
        yield f"{len(budgets)} budgets of disruption"
    policies = [d for d in found if d["kind"] == "NetworkPolicy" and selects(d["spec"]["podSelector"], mine)]
    if not any(d["spec"]["podSelector"] for d in policies):
        yield "no policy of the network says whom it may speak with"
    if not any(set(d["spec"]["policyTypes"]) == {"Ingress", "Egress"} for d in policies):
        yield "the network is open but for what is listed"


def _services(found: Iterable[Doc]) -> Iterator[str]:
    listed = list(found)
    for doc in (d for d in listed if d["kind"] == "Service"):
        pods = [w for w in workloads(listed) if selects({"matchLabels": doc["spec"]["selector"]}, labels(w))]
        if not pods:
            yield f"{name(doc)}: nobody is behind it"
        for port in doc["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            known = {
                v
                for w in pods
                for c in containers(w)
                for p in c["ports"]
                for v in (p.get("name"), p["containerPort"])
            }
            if pods and target not in known:
                yield f"{name(doc)}: nobody listens on {target}"
