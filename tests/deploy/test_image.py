"""The image, built without a container engine and run as the pods of the manifests run it.

Skipped where the programs are missing that build it. The demo's whole round from the image is `make image`.
"""

import fcntl
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.image import build
from deploy.image.pod import UID, Pod
from services.cli.filing import publish
from shared.contracts import registry
from shared.contracts.submission import Filer, SubmissionFiled
from shared.notices.directory import unlisted
from shared.runtime import SERVICES
from tests.deploy.contained import Contained

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(build.missing()), reason=f"the image needs {', '.join(build.missing())}"),
]

DURING = datetime(2025, 3, 3, 2, tzinfo=UTC)
NAME = "镜像测试机构"
FACTS = """
import json, os, pathlib
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
def may(path):
    try:
        pathlib.Path(path, "x").write_text("x")
    except OSError:
        return False
    return True
print(json.dumps({
    "ids": [os.getuid(), os.getgid(), *os.getgroups()],
    "capabilities": sorted({int(status[f"Cap{k}"], 16) for k in ("Inh", "Prm", "Eff", "Bnd", "Amb")}),
    "may gain": status["NoNewPrivs"].strip() == "0",
    "filtered": status["Seccomp"].strip() == "2",
    "writes": [place for place in ("/", "/opt/yiqi", "/etc", "/var", "/tmp", "/home") if may(place)],
}))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, by whichever worker of pytest-xdist comes first."""
    build.OUT.mkdir(parents=True, exist_ok=True)
    with (build.OUT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build.build()
    return build.BUNDLE


@pytest.fixture
def pod(image: Path, tmp_path: Path) -> Pod:
    return Pod(image, tmp_path)


def facts(pod: Pod) -> dict[str, object]:
    done = pod.run("python", "-c", FACTS)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_it_may_nothing_but_write_to_tmp(pod: Pod) -> None:
    assert facts(pod) == {
        "ids": [UID, UID],
        "capabilities": [0],
        "may gain": False,
        "filtered": True,
        "writes": ["/tmp"],  # noqa: S108 - in the pod
    }


def test_control_the_facts_tell_a_pod_that_may_more(image: Path, tmp_path: Path) -> None:
    told = facts(Pod(image, tmp_path, user=0, restricted=False))
    assert told["ids"] != [UID, UID]
    assert (told["may gain"], told["filtered"]) == (True, False)
    assert told["capabilities"] != [0]


WRITES = ("python", "-c", "open('/opt/yiqi/written', 'w')")


def test_a_process_that_writes_to_the_root_fails(image: Path, tmp_path: Path) -> None:
    """Whoever runs it; the control, whose root may be written to, leaves the file behind."""
    for user in (UID, 0):
        done = Pod(image, tmp_path, user=user).run(*WRITES)
        assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    written = image / "rootfs/opt/yiqi/written"
    try:
        assert Pod(image, tmp_path, user=0, read_only=False).run(*WRITES).returncode == 0
        assert written.exists()
    finally:
        written.unlink(missing_ok=True)


def test_it_holds_what_runs_and_nothing_to_build_with(image: Path) -> None:
    root = image / "rootfs"
    found = {path.name for path in (root / "opt").iterdir()}
    assert found == {"venv", "yiqi"}
    ours = {path.name.partition("-")[0] for path in (root / "opt/yiqi").iterdir()}
    assert ours == {"bin", "services", "shared", "yiqi"}
    for name in ("gcc", "cc", "make", "git", "soffice"):
        assert not list(root.glob(f"usr/bin/{name}")), name
    assert not list(root.glob("opt/venv/lib/python3.*/site-packages/pip"))
    assert not [p for p in root.glob("**/.cache/pip") if p.is_dir()]
    assert not (root / "pip").exists()


def test_every_module_is_compiled_and_nobody_but_root_may_change_one(image: Path) -> None:
    sources = [p for p in (image / "rootfs/opt").rglob("*.py") if p.parent.name != "bin"]
    assert len(sources) > 1000
    lacking = [p for p in sources if not (p.parent / "__pycache__" / f"{p.stem}.cpython-311.pyc").exists()]
    assert lacking == []
    files = [p for p in (image / "rootfs/opt").rglob("*") if not p.is_symlink()]
    assert [p for p in files if p.stat().st_uid or p.stat().st_mode & 0o022] == []


def test_it_says_what_it_is(image: Path) -> None:
    told = json.loads(_blob(_blob_digest("config")))
    assert told["config"]["User"] == f"{UID}:{UID}"
    assert told["config"]["Entrypoint"] == ["yiqi"]
    labels = told["config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == build.version()
    assert labels["org.opencontainers.image.revision"]
    assert not [v for v in labels.values() if "://" in v]


def _blob_digest(what: str) -> str:
    return str(json.loads(_blob(build.digest()))[what]["digest"])


def _blob(digest: str) -> str:
    return (build.LAYOUT / "blobs" / digest.replace(":", "/")).read_text()


def test_people_may_use_it_too(pod: Pod) -> None:
    """The command line offline, with time zones, and the programs of a backup."""
    done = pod.run("yiqi", "notice", "list")
    assert (done.returncode, "gz-collection-2025q1" in done.stdout) == (0, True), done.stderr
    done = pod.run("yiqi", "check", "/none.xlsx", "--notice", "gz-collection-2025q1", "--as", "440106")
    assert done.returncode == 2, done.stderr
    asked = "from pathlib import Path; from services.cli.dump import program; print(program('pg_dump', None, 160000))"
    assert pod.run("python", "-c", asked).stdout.strip().endswith("/bin/pg_dump")
    zone = "from zoneinfo import ZoneInfo; print(ZoneInfo('Asia/Shanghai').key)"
    assert pod.run("python", "-c", zone).stdout.strip() == "Asia/Shanghai"


# --- the four services -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contained]:
    """Real servers with the generated accounts and TLS; everything of ours from the image."""
    here = Contained(tmp_path_factory.mktemp("image"), sync_always=False)
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    try:
        here.infrastructure()
        for name in here.names:
            here.launch(name)
        here.ready(timeout=120)
        yield here
    finally:
        here.stop()


async def test_the_services_take_a_filing_and_stop_when_asked(local: Contained) -> None:
    code = unlisted(NAME).code
    data = SubmissionFiled(
        notice="gz-collection-2025q1",
        form="F3",
        filer=Filer(code=code, kind="K6", name=NAME),
        recommender="440106",
        values={
            "service_domain": "法律服务",
            "organizer": "某机构",
            "activity_name": "合同风险讲座",
            "activity_time": "2025年6月10日",
            "venue": "线上",
            "content": "讲解合同风险",
            "participants": "约100人",
            "contact": "张三 83726619",
        },
        direction="D05",
    )
    client = await local.connect(code)
    try:
        answer = await publish(client, code, registry.SUBMISSION_FILED, data, "合同风险讲座")
    finally:
        await client.close()
    assert "accepted" in answer, answer
    for name in SERVICES:
        told = local.status(name)
        assert told["Uid"].split() == [str(UID)] * 4
        assert int(told["CapBnd"], 16) == 0
    ended = []
    for process in local.running.values():
        process.terminate()
        ended.append(process.wait(30))
    assert ended == [0] * len(SERVICES)
