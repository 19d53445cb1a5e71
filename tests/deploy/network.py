"""Who may speak with whom by the policies of the network, as Kubernetes adds them up."""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.deploy.rendering import Doc, containers, labels, selects, workloads

NAMESPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """A pod by its labels and namespace, or whoever has an address."""

    labels: tuple[tuple[str, str], ...] = ()
    namespace: str = "yiqi"
    address: str = ""


def ours(found: Sequence[Doc], named: str) -> Peer:
    (doc,) = [d for d in workloads(found) if d["metadata"]["name"] == named]
    return Peer(tuple(labels(doc).items()))


def may(found: Sequence[Doc], one: Peer, other: Peer, port: int) -> bool:
    """Whether one may open a connection to a port of the other: both sides must allow it, where there are policies."""
    return _allowed(found, one, other, port, "Egress") and _allowed(found, other, one, port, "Ingress")


def _allowed(found: Sequence[Doc], subject: Peer, peer: Peer, port: int, way: str) -> bool:
    if subject.namespace != "yiqi" or subject.address:
        return True
    mine = [
        d["spec"]
        for d in found
        if d["kind"] == "NetworkPolicy"
        and way in d["spec"]["policyTypes"]
        and selects(d["spec"]["podSelector"], dict(subject.labels))
    ]
    listener = peer if way == "Egress" else subject
    key, side = ("egress", "to") if way == "Egress" else ("ingress", "from")
    return not mine or any(
        _port(rule, port, _named(found, listener)) and any(_is(one, peer) for one in rule.get(side) or [{}])
        for spec in mine
        for rule in spec.get(key) or ()
    )


def _port(rule: Doc, port: int, named: dict[str, int]) -> bool:
    return "ports" not in rule or port in [named.get(p["port"], p["port"]) for p in rule["ports"]]


def _named(found: Sequence[Doc], listener: Peer) -> dict[str, int]:
    """The names of the ports of a pod."""
    return dict(_ports(found, dict(listener.labels)))


def _ports(found: Sequence[Doc], having: dict[str, str]) -> Iterator[tuple[str, int]]:
    for doc in workloads(found):
        if labels(doc) == having:
            for container in containers(doc):
                yield from (
                    (p["name"], p["containerPort"]) for p in container.get("ports") or () if "name" in p
                )


def _is(told: Doc, peer: Peer) -> bool:
    if block := told.get("ipBlock"):
        return bool(peer.address) and ipaddress.ip_address(peer.address) in ipaddress.ip_network(
            block["cidr"]
        )
    if peer.address:
        return not told
    if "namespaceSelector" in told:
        if not selects(told["namespaceSelector"], {NAMESPACE: peer.namespace}):
            return False
    elif peer.namespace != "yiqi":
        return not told
    return selects(told.get("podSelector") or {}, dict(peer.labels))
