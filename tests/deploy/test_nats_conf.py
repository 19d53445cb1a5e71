"""The configuration of NATS is one that nats-server takes, and agrees with the streams, the services and the pods."""

import re
import subprocess
from pathlib import Path

import pytest
import trustme

from services.cli import nats
from shared.notices.directory import Directory
from shared.runtime.embedded import _nats_binary
from shared.runtime.streams import STREAMS
from tests.deploy.rendering import OVERLAYS, containers, docs, one, pod, starting

GB = 10**9
OTHERS = GB
"""Room for the catalogues, whose bucket has no limit of its own."""


def conf(overlay: str) -> str:
    told: str = starting(docs(overlay), "ConfigMap", "nats-config")["data"]["nats.conf"]
    return told


def number(text: str, key: str) -> int:
    found = re.search(rf"{key}: \"?(\d+)", text)
    assert found, key
    return int(found[1])


def refused(text: str, folder: Path) -> str:
    """What nats-server says of it, with the files where a pod has them; nothing when it takes it."""
    nats.keep(folder / "accounts", Directory.load().by_code)
    authority = trustme.CA()
    issued = authority.issue_cert("nats")
    (folder / "tls").mkdir()
    authority.cert_pem.write_to_path(str(folder / "tls/ca.crt"))
    issued.private_key_pem.write_to_path(str(folder / "tls/tls.key"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "tls/tls.crt"))
    (folder / "config").mkdir()
    for there in ("tls", "run"):
        text = text.replace(f'"/{"etc/nats/" if there == "tls" else ""}{there}/', f'"{folder}/{there}/')
    (folder / "config/nats.conf").write_text(text.replace('"/data"', f'"{folder}/data"'))
    told = subprocess.run(
        [_nats_binary(), "-t", "--config", folder / "config/nats.conf"],
        capture_output=True,
        text=True,
        env={"POD_NAME": "nats-0"},
    )
    return told.stderr if told.returncode else ""


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nats_server_takes_it(overlay: str, tmp_path: Path) -> None:
    assert refused(conf(overlay), tmp_path) == ""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("sync_interval: always", "sync_intervall: always", 'unknown field "sync_intervall"'),
        ("../accounts/accounts.conf", "accounts.conf", "no such file"),
        ('min_version: "1.2"', 'min_version: "1.9"', "unknown version"),
        ("max_file_store: 40GB", "max_file_store: much", "max_file_store"),
        ("no_advertise: true", "no_advertise: maybe", "bool"),
    ],
)
def test_nats_server_refuses_what_is_wrong(before: str, after: str, said: str, tmp_path: Path) -> None:
    text = conf("prod")
    assert before in text
    assert said.lower() in refused(text.replace(before, after), tmp_path).lower()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_was_acknowledged_is_kept(overlay: str) -> None:
    text, found = conf(overlay), docs(overlay)
    stateful = one(found, "StatefulSet", "nats")
    assert "sync_interval: always" in text
    # A stream reserves its size when it is made, on each of its nodes.
    room = number(text, "max_file_store") * GB
    assert sum(s.max_bytes or 0 for s in STREAMS) + OTHERS < room
    claim = stateful["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    assert room < int(claim.removesuffix("Gi")) * 2**30
    assert max(s.max_msg_size or 0 for s in STREAMS) <= 2**20 == number(text, "max_payload") * 2**20
    provision = starting(found, "Job", "yiqi-provision")
    assert containers(provision)[0]["command"][-2:] == ["--replicas", str(stateful["spec"]["replicas"])]


@pytest.mark.parametrize("overlay", ["prod", "airgap"])
def test_the_nodes_find_each_other_and_leave_in_good_order(overlay: str) -> None:
    text, stateful = conf(overlay), one(docs(overlay), "StatefulSet", "nats")
    spec = stateful["spec"]
    names = [f"nats-{n}.{spec['serviceName']}" for n in range(spec["replicas"])]
    assert re.findall(r"nats-route://(.+):6222", text) == names
    waits = number(text, "lame_duck_duration") + number(text, "lame_duck_grace_period")
    assert waits + 10 < pod(stateful)["terminationGracePeriodSeconds"]
    assert containers(stateful)[0]["lifecycle"]["preStop"]["exec"]["command"][-1].endswith(
        re.findall(r'pid_file: "(.+)"', text)[0]
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_said_over_tls_as_the_services_say_it(overlay: str) -> None:
    """`shared/runtime/connection.py` begins with the handshake; a server that greets first would never be understood."""
    blocks = re.findall(r"^(?:  )?tls \{(.*?)\}", conf(overlay), re.DOTALL | re.MULTILINE)
    assert "handshake_first: true" in blocks[0]
    assert [b for b in blocks[1:] if "verify: true" not in b] == []
    assert len(blocks) == (1 if overlay == "dev" else 2)
