"""Manifests and code say the same: settings, pages, commands, consumers, waits, Secrets."""

import ast
import asyncio
import base64
import ipaddress
import os
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import dev
from services.intake import child
from services.notify import sending, smtp
from shared.runtime import SERVICES, accounts, spans
from shared.runtime.database import head, migrate
from shared.runtime.embedded import Postgres, _postgres_binary
from shared.runtime.service import Service
from shared.runtime.settings import Settings
from shared.runtime.streams import CONSUMERS
from tests.deploy.rendering import (
    DEPLOY,
    OVERLAYS,
    Doc,
    containers,
    docs,
    environment,
    labels,
    one,
    pod,
    read,
    secrets,
    selects,
    starting,
    tool,
    workloads,
)

LEFT = {
    "nats_cert": "agencies prove who they are by their nkey",
    "nats_key": "as nats_cert",
    "smtp_reply_timeout": "RFC 5321",
    "smtp_connections": "a good default",
    "smtp_mails": "a good default",
    "smtp_idle": "a good default",
    "mail_domain_rate": "a good default",
    "mail_from_name": "a good default",
    "mail_unsubscribe": "no letter is optional today",
    "sending_hours": "a good default",
    "hold_letters": "a good default",
    "letters": "component letters",
    "fonts": "component fonts",
    "catalogues": "the object store has them; a folder would need a volume that many may write to",
    "stream_days": "a good default",
    "door_port": "component door",
    "door_publishers": "component door",
    "door_cert": "component door",
    "door_key": "component door",
    "door_ca": "component door",
    "batch": "a good default",
    "clock": "for the demo and for tests alone",
    "watchdog": "a good default",
    "log_level": "a good default",
    "traces": "component traces",
}
"""What production leaves as it is, and why. What is neither here nor in the manifests was forgotten."""

NOT_OURS = {"PGSSLMODE", "PGSSLROOTCERT"}
"""Variables that asyncpg reads."""


def variable(field: str) -> str:
    return str(Settings.model_fields[field].validation_alias or f"YIQI_{field.upper()}")


def set_for(doc: Doc, found: list[Doc]) -> dict[str, str]:
    """What its process gets; in the place of a Secret, something."""
    values = environment(doc, found)
    return {k: v if isinstance(v, str) else "secret" for k, v in values.items()}


def settings(doc: Doc, found: list[Doc], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [n for n in os.environ if n.startswith("YIQI_")]:
        monkeypatch.delenv(name)
    for name, value in set_for(doc, found).items():
        monkeypatch.setenv(name, value)
    return Settings()


def deployments(found: list[Doc]) -> list[Doc]:
    return [one(found, "Deployment", f"yiqi-{service}") for service in SERVICES]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_process_can_start_on_what_it_is_told(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = docs(overlay)
    for doc in deployments(found):
        told = settings(doc, found, monkeypatch)
        ports = {port["name"]: port["containerPort"] for port in containers(doc)[0]["ports"]}
        assert ipaddress.ip_address(told.host).is_unspecified  # any other would be no pod's
        assert (told.port, told.bounce_port or None) == (ports["http"], ports.get("lmtp"))
        for path in (told.nats_seed, told.nats_ca, told.notices, told.agencies, told.calendars):
            assert path is not None
            assert _mounted(doc, path)


def _mounted(doc: Doc, path: Path) -> bool:
    return any(path.is_relative_to(m["mountPath"]) for m in containers(doc)[0]["volumeMounts"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_variable_is_one_that_nobody_reads(overlay: str) -> None:
    found = docs(overlay)
    known = {variable(field) for field in Settings.model_fields} | NOT_OURS
    ours = [d for d in workloads(found) if containers(d)[0]["name"] == "yiqi"]
    assert len(ours) == len(SERVICES) + 3  # two Jobs, and where people type
    assert {name for doc in ours for name in environment(doc, found)} - known == set()


def test_every_setting_is_told_or_left_for_a_reason() -> None:
    found = docs("prod")
    told = {
        name
        for doc in workloads(found)
        if containers(doc)[0]["name"] == "yiqi"
        for name in environment(doc, found)
    }
    fields = {field for field in Settings.model_fields if variable(field) in told}
    assert fields & LEFT.keys() == set()
    assert fields | LEFT.keys() == Settings.model_fields.keys()


def test_a_misspelt_setting_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = docs("prod")
    config = starting(found, "ConfigMap", "yiqi-settings")["data"]
    config["YIQI_MAIL_FORM"] = config.pop("YIQI_MAIL_FROM")
    names = environment(deployments(found)[0], found).keys()
    assert names - {variable(field) for field in Settings.model_fields} - NOT_OURS == {"YIQI_MAIL_FORM"}
    config["YIQI_SENDING_HOURS"] = "18:00-08:30"
    with pytest.raises(ValueError, match="from the earlier to the later"):
        settings(deployments(found)[0], found, monkeypatch)


def pages(service: str) -> set[str]:
    """The paths that a service answers."""
    made: Service = import_module(f"services.{service}.handlers").service
    return {path for path, _ in made.app(Settings()).routes}


@pytest.mark.parametrize("service", SERVICES)
def test_probes_and_metrics_are_pages_that_there_are(service: str) -> None:
    found = docs("prod")
    (container,) = containers(one(found, "Deployment", f"yiqi-{service}"))
    asked = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    (endpoint,) = one(found, "PodMonitor", "yiqi")["spec"]["podMetricsEndpoints"]
    assert asked | {endpoint["path"]} == pages(service)
    assert endpoint["port"] in {port["name"] for port in container["ports"]}
    assert container["command"] == ["python", "-m", "services.run", service]


def test_prometheus_asks_every_service_and_nobody_else() -> None:
    found = docs("prod")
    selector = one(found, "PodMonitor", "yiqi")["spec"]["selector"]
    asked = {d["metadata"]["name"] for d in workloads(found) if selects(selector, labels(d))}
    assert asked == {f"yiqi-{service}" for service in SERVICES}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_service_has_time_to_stop(overlay: str) -> None:
    waits = _graceful() + 2 * sending.GRACE + smtp.GOODBYE + 5 + spans.PATIENCE  # and the flush of `leave`
    for doc in deployments(docs(overlay)):
        assert pod(doc)["terminationGracePeriodSeconds"] >= waits + 10


def _graceful() -> float:
    """What FastStream is told in `shared/runtime/service.py`."""
    tree = ast.parse((dev.ROOT / "shared/runtime/service.py").read_text())
    (found,) = [k.value for k in ast.walk(tree) if isinstance(k, ast.keyword) and k.arg == "graceful_timeout"]
    assert isinstance(found, ast.Constant)
    return float(str(found.value))


MIB = 1 << 20
PROCESS = 192 * MIB
"""A service has 97 MB (`python -m tests.bench.size`); twice as much for what a batch is taken apart into."""
SET = 200 * MIB
"""What a child of export takes for a PDF of 1,000 rows (README, decisions)."""


def _bytes(quantity: str) -> int:
    number, unit = quantity[:-2], quantity[-2:]
    return int(number) << {"Mi": 20, "Gi": 30}[unit]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_limit_of_memory_has_room_for_all_that_a_pod_runs(overlay: str) -> None:
    """Since Kubernetes 1.28 a pod ends as a whole, not the one process that took too much: a hostile file would take the
    service along, and be delivered again."""
    children = {"intake": child.AT_ONCE * child.USUAL.memory + PROCESS // 2, "export": SET}
    for service, doc in zip(SERVICES, deployments(docs(overlay)), strict=True):
        resources = containers(doc)[0]["resources"]
        assert _bytes(resources["limits"]["memory"]) >= PROCESS + children.get(service, 0), service
        assert _bytes(resources["requests"]["memory"]) >= 150 * MIB


def test_mails_have_one_release_at_a_time() -> None:
    kinds = {d["metadata"]["name"]: d["spec"]["strategy"]["type"] for d in deployments(docs("prod"))}
    assert [name for name, kind in kinds.items() if kind == "Recreate"] == ["yiqi-notify"]


@pytest.mark.parametrize("job", ["migrate", "provision"])
def test_a_job_runs_a_command_that_there_is(job: str) -> None:
    (container,) = containers(starting(docs("prod"), "Job", f"yiqi-{job}"))
    assert _understood(container["command"])
    assert not _understood([*container["command"], "--onyl"])


def _understood(command: list[str]) -> bool:
    """Its options are read before it is asked what it does, so nothing is done."""
    told = subprocess.run(
        [dev.BIN / command[0], *command[1:], "--help"], capture_output=True, env={"PATH": os.environ["PATH"]}
    )
    return told.returncode == 0


def test_keda_looks_at_the_consumers_that_there_are() -> None:
    """Of one that it does not find it takes the length of the stream, and makes as many pods as it may."""
    found = docs("prod")
    looked = {
        (d["spec"]["scaleTargetRef"]["name"], t["metadata"]["stream"], t["metadata"]["consumer"])
        for d in found
        if d["kind"] == "ScaledObject"
        for t in d["spec"]["triggers"]
    }
    assert looked == {(f"yiqi-{c.service}", c.stream, c.durable) for c in CONSUMERS}
    headless = one(found, "Service", "nats-headless")
    monitor = {p["name"]: p["port"] for p in headless["spec"]["ports"]}["monitor"]
    asked = {
        (t["metadata"]["account"], t["metadata"]["natsServerMonitoringEndpoint"])
        for d in found
        if d["kind"] == "ScaledObject"
        for t in d["spec"]["triggers"]
    }
    # KEDA puts the name of the leader before it, which only the headless Service knows.
    assert asked == {(accounts.HUB, f"nats-headless.yiqi.svc.cluster.local:{monitor}")}


def test_postgres_has_the_roles_of_the_services() -> None:
    spec = one(docs("prod"), "Cluster", "yiqi-postgres")["spec"]
    roles = {role["name"]: role["passwordSecret"]["name"] for role in spec["managed"]["roles"]}
    assert roles == {f"yiqi_{service}": f"yiqi-{service}" for service in SERVICES}
    made = (DEPLOY / "kustomize/components/roles/roles.sql").read_text()
    assert [role for role in roles if f"create role {role} login;" not in made] == []


# --- Secrets ----------------------------------------------------------------------------------------


def needed(found: list[Doc]) -> set[tuple[str, str]]:
    """What the pods and the database cannot start without."""
    wanted = {pair for doc in workloads(found) for pair in secrets(doc)}
    for doc in found:
        if doc["kind"] == "Cluster":
            roles = [role["passwordSecret"]["name"] for role in doc["spec"]["managed"]["roles"]]
            for name in (*roles, doc["spec"]["bootstrap"]["initdb"]["secret"]["name"]):
                wanted |= {(name, "username"), (name, "password")}
        if doc["kind"] == "ObjectStore":
            wanted |= {
                (ref["name"], ref["key"]) for ref in doc["spec"]["configuration"]["s3Credentials"].values()
            }
    # Whole folders, and what CloudNativePG makes itself.
    wanted |= {("nats-tls", key) for key in ("ca.crt", "tls.crt", "tls.key")}
    wanted |= {
        ("yiqi-operate", f"{who}.nk") for who in (accounts.OPERATOR, accounts.PROVISIONER, accounts.DESK)
    }
    return wanted - {("yiqi-postgres-ca", "ca.crt")}


def test_the_vault_gives_every_secret_that_is_needed() -> None:
    found = docs("prod")
    given = {
        (d["spec"]["target"]["name"], entry["secretKey"])
        for d in found
        if d["kind"] == "ExternalSecret"
        for entry in d["spec"]["data"]
    }
    optional = {("yiqi-notify", "smtp-user"), ("yiqi-notify", "smtp-password")}
    # Only a database in the cluster reads names and passwords apart from the address.
    assert given - optional == needed(found)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `deploy/secrets.sh` writes, by a kubectl that asks no cluster."""
    to = tmp_path_factory.mktemp("secrets") / "out"
    path = f"{tool('kubectl').parent}:{dev.BIN}:{os.environ['PATH']}"
    subprocess.run(
        [DEPLOY / "secrets.sh", to, "db.internal"], check=True, env={"PATH": path}, capture_output=True
    )
    return to


@pytest.mark.parametrize("overlay", ["dev", "airgap"])
def test_the_script_makes_every_secret_that_is_needed(overlay: str, made: Path) -> None:
    listed = read((made / "secrets.yaml").read_text())
    given = {(d["metadata"]["name"], key) for d in listed if d["kind"] == "Secret" for key in d["data"]}
    assert needed(docs(overlay)) - given == set()
    (accounts_,) = [d for d in listed if d["kind"] == "ConfigMap"]
    volumes = {v["name"]: v for v in pod(one(docs(overlay), "StatefulSet", "nats"))["volumes"]}
    assert accounts_["metadata"]["name"] == volumes["accounts"]["configMap"]["name"]
    assert list(accounts_["data"]) == ["accounts.conf"]


def test_the_secrets_open_what_they_are_for(made: Path) -> None:
    listed: dict[str, Any] = {d["metadata"]["name"]: d for d in read((made / "secrets.yaml").read_text())}

    def secret(name: str, key: str) -> str:
        return base64.b64decode(listed[name]["data"][key]).decode()

    for service in SERVICES:
        user, password = (secret(f"yiqi-{service}", key) for key in ("username", "password"))
        assert user == f"yiqi_{service}"
        assert (
            secret(f"yiqi-{service}", "database-url")
            == f"postgresql://{user}:{password}@db.internal:5432/yiqi"
        )
        assert f"alter role {user} password '{password}';" in (made / "passwords.sql").read_text()
    assert secret("yiqi-migrate", "username") == "yiqi"
    assert secret("yiqi-provision", "seed") == (made / "nats/seeds/provisioner.nk").read_text()
    found = docs("airgap")
    url = (
        one(found, "ConfigMap", "yiqi-bus")["data"]["YIQI_NATS_URL"].removeprefix("nats://").partition(":")[0]
    )
    for host in (
        url,
        *(f"nats-{n}.nats-headless" for n in range(one(found, "StatefulSet", "nats")["spec"]["replicas"])),
    ):
        verify = [
            "openssl",
            "verify",
            "-CAfile",
            made / "tls/ca.crt",
            "-verify_hostname",
            host,
            made / "tls/tls.crt",
        ]
        subprocess.run(verify, check=True, capture_output=True)
    assert [
        f for f in made.rglob("*") if f.is_file() and f.stat().st_mode & 0o077 and f.parent != made / "nats"
    ] == []


def again(folder: Path, *arguments: str) -> None:
    path = f"{tool('kubectl').parent}:{dev.BIN}:{os.environ['PATH']}"
    subprocess.run(
        [DEPLOY / "secrets.sh", folder, *arguments], check=True, env={"PATH": path}, capture_output=True
    )


def test_a_second_run_keeps_what_there_is_and_what_it_was_told(made: Path) -> None:
    """An operator who renews a certificate next year does not know the name of the database's host."""
    before = (made / "secrets.yaml").read_text()
    again(made)
    assert (made / "secrets.yaml").read_text() == before
    assert "db.internal" in (made / "urls/intake").read_text()


def test_a_certificate_is_renewed_and_nothing_else(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "out"))
    kept = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    (folder / "tls/tls.crt").unlink()
    again(folder)
    changed = {f.name for f in folder.rglob("*") if f.is_file() and kept.get(f) != f.read_bytes()}
    assert changed == {"tls.crt", "tls.key", "secrets.yaml", "ca.srl"}
    for file in ("tls.crt", "ca.crt"):
        subprocess.run(
            ["openssl", "verify", "-CAfile", made / "tls/ca.crt", folder / "tls" / file],
            check=True,
            capture_output=True,
        )


def test_one_file_makes_the_database(made: Path, tmp_path: Path) -> None:
    """Of whoever has PostgreSQL of their own: run once by its superuser, then the owner migrates and each service logs in."""
    with Postgres(tmp_path / "postgres") as server:
        where = ["--host=127.0.0.1", f"--port={server.port}", "--username=postgres"]
        script = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={made / 'database.sql'}"]
        run = [_postgres_binary("psql"), *where, *script]
        subprocess.run(
            run, check=True, env={**os.environ, "PGPASSWORD": server.password}, capture_output=True
        )

        def url(who: str) -> str:
            told = (made / "urls" / who).read_text()
            return told.replace("db.internal:5432", f"127.0.0.1:{server.port}")

        async def used() -> None:
            await migrate(url("migrate"))
            for service in SERVICES:
                connection = await asyncpg.connect(url(service))
                found = await connection.fetchval(f"select version_num from {service}.alembic_version")
                await connection.close()
                assert found == head(service)

        asyncio.run(used())
