"""The policies of the network let through what Yiqi needs, and nothing of what it does not."""

import pytest

from tests.deploy.network import Peer, may, ours
from tests.deploy.rendering import OVERLAYS, SERVICES, docs, starting

DNS = Peer((("k8s-app", "kube-dns"),), "kube-system")
PROMETHEUS, KEDA, STRANGER = (Peer((("app", "x"),), n) for n in ("monitoring", "keda", "default"))
INSIDE, OUTSIDE = Peer(address="10.20.30.40"), Peer(address="203.0.113.7")


def database(overlay: str) -> Peer:
    """CloudNativePG's pods, the one of a laptop, or the city's own somewhere inside."""
    if overlay == "dev":
        return ours(docs(overlay), "postgres")
    return Peer((("cnpg.io/cluster", "yiqi-postgres"),)) if overlay == "prod" else INSIDE


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_needed_goes_through(overlay: str) -> None:
    found = docs(overlay)
    bus = ours(found, "nats")
    for service in SERVICES:
        one = ours(found, f"yiqi-{service}")
        assert may(found, one, DNS, 53)
        assert may(found, one, Peer(address="169.254.20.10"), 53)
        assert may(found, one, bus, 4222)
        assert may(found, one, database(overlay), 5432)
        assert may(found, PROMETHEUS, one, 8000)
    assert may(found, ours(found, "yiqi-notify"), INSIDE, 587)
    migrate, provision = (
        starting(found, "Job", f"yiqi-{job}")["metadata"]["name"] for job in ("migrate", "provision")
    )
    assert may(found, ours(found, migrate), database(overlay), 5432)
    assert may(found, ours(found, provision), bus, 4222)
    assert may(found, bus, bus, 6222)
    assert may(found, INSIDE, bus, 4222)  # agencies


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_not_needed_does_not(overlay: str) -> None:
    found = docs(overlay)
    bus = ours(found, "nats")
    for service in SERVICES:
        one = ours(found, f"yiqi-{service}")
        assert not may(found, one, OUTSIDE, 443)
        assert not may(found, one, INSIDE, 443)
        assert not may(found, one, bus, 8222)
        assert not may(found, one, bus, 6222)
        assert not may(found, STRANGER, one, 8000)
        for other in SERVICES:
            assert not may(found, one, ours(found, f"yiqi-{other}"), 8000)
        # Files of strangers are read by intake; whatever takes hold of it can mail nothing away.
        assert may(found, one, INSIDE, 25) == (service == "notify")
    assert not may(found, STRANGER, bus, 4222)
    assert not may(found, OUTSIDE, bus, 4222)
    migrate, provision = (
        starting(found, "Job", f"yiqi-{job}")["metadata"]["name"] for job in ("migrate", "provision")
    )
    assert not may(found, ours(found, migrate), bus, 4222)
    assert not may(found, ours(found, provision), database(overlay), 5432)


def test_who_asks_the_monitoring_page_of_nats_is_keda_and_the_doctor_alone() -> None:
    found = docs("prod")
    assert may(found, ours(found, "yiqi-operate"), ours(found, "nats"), 8222)
    assert may(found, KEDA, ours(found, "nats"), 8222)
    assert not may(found, STRANGER, ours(found, "nats"), 8222)
    assert not may(docs("airgap"), KEDA, ours(docs("airgap"), "nats"), 8222)


def test_a_relay_brings_bounces_to_notify_alone() -> None:
    found = docs("prod")
    assert may(found, INSIDE, ours(found, "yiqi-notify"), 2424)
    assert not may(found, OUTSIDE, ours(found, "yiqi-notify"), 2424)
    assert not may(found, INSIDE, ours(found, "yiqi-review"), 2424)


def test_the_policies_are_what_it_rests_on() -> None:
    """Without the one that closes, what was refused goes through."""
    found = [d for d in docs("prod") if d["kind"] != "NetworkPolicy"]
    assert may(found, ours(found, "yiqi-intake"), OUTSIDE, 443)
    kept = [d for d in docs("prod") if d["metadata"]["name"] != "default-deny"]
    assert may(kept, STRANGER, Peer((("app", "new"),)), 80)
    assert not may(docs("prod"), STRANGER, Peer((("app", "new"),)), 80)
