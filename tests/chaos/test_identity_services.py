"""The real services with their own keys, over mutual TLS: who decides what, and what they say when the bus says no.

What each account may do is in `test_identity.py`.
"""

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
import trustme
from nats.aio.client import Client
from prometheus_client.parser import text_string_to_metric_families

from services.cli.doctor import outside
from services.cli.filing import publish
from services.cli.local import Local
from services.cli.nats import SEEDS, keep
from shared.contracts import registry
from shared.contracts.case import DecisionMade
from shared.contracts.submission import Filer, SubmissionFiled
from shared.notices.directory import Directory, unlisted
from shared.runtime.accounts import DESK
from shared.runtime.embedded import eventually, wait_until
from shared.runtime.streams import OUT
from tests.chaos.oracle import Verdict
from tests.chaos.process import Nursed

CODES = tuple(sorted(Directory.load().by_code))
ROOT = Path(__file__).parents[2]
NOTICE, DISTRICT = "gz-collection-2025q1", "440106"
DURING = datetime(2025, 3, 3, 2, tzinfo=UTC)
NAME = "身份测试机构"
WHO = unlisted(NAME).code


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of an authority made here: `server.pem` and `client.pem`, and a client's of another authority."""
    folder = tmp_path_factory.mktemp("certificates")
    ours, others = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")
    others.cert_pem.write_to_path(folder / "other-ca.pem")
    ours.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    ours.issue_cert("bureau.example").private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    others.issue_cert("bureau.example").private_key_and_cert_chain_pem.write_to_path(folder / "other.pem")
    return {path.stem: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, certificates: dict[str, str]) -> Iterator[Local]:
    mutual = {"YIQI_NATS_CA": certificates["ca"], "YIQI_NATS_CERT": certificates["client"]}
    services = ("intake", "review")
    here = Nursed(
        tmp_path_factory.mktemp("identity"), sync_always=False, mail=False, extra=mutual, services=services
    )
    server = certificates["server"]
    here.nats.config += (
        f"tls {{cert_file: {json.dumps(server)}, key_file: {json.dumps(server)}, "
        f'ca_file: {json.dumps(certificates["ca"])}, verify: true, handshake_first: "auto"}}\n'
    )
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    with here:
        yield here


async def file(local: Local, title: str) -> UUID:
    values = {
        "service_domain": "法律服务",
        "organizer": "某机构",
        "activity_name": title,
        "activity_time": "2025年6月10日",
        "venue": "线上",
        "content": "讲解合同风险",
        "participants": "约100人",
        "contact": "张三 83726619",
    }
    data = SubmissionFiled(
        notice=NOTICE,
        form="F3",
        filer=Filer(code=WHO, kind="K6", name=NAME),
        recommender=DISTRICT,
        values=values,
        direction="D05",
    )
    client = await local.connect(WHO)  # an applicant without an account: by the desk
    try:
        answer = await publish(client, WHO, registry.SUBMISSION_FILED, data, title)
    finally:
        await client.close()
    assert "accepted" in answer, answer
    return UUID(answer["case"])


async def test_of_all_agencies_only_the_parties_decide(
    local: Local, oracle: Callable[[Verdict], Verdict]
) -> None:
    """Every agency says under its own name that the case is recommended; the last one is the case's own district."""
    case = await file(local, "谁都想推荐的讲座")
    verdict = Verdict("identity, every agency decides a case")
    for who in (*(c for c in CODES if c != DISTRICT), DISTRICT):
        client = await local.connect(who)
        decision = DecisionMade(case=case, outcome="recommend", reason="理由", rules=(), officer="officer")
        try:
            answer = await publish(client, who, registry.DECISION_MADE, decision, who)
        finally:
            await client.close()
        verdict.sent += 1
        verdict.ok += "accepted" in answer
        verdict.refused += answer.get("status") == 403
    sql = f"""select actor from review.history where "case" = '{case}' and outcome = 'recommend'"""
    actors = local.postgres.sql(sql, "yiqi").split()
    verdict.foreign_decisions = sum(actor != DISTRICT for actor in actors)
    assert oracle(verdict).clean
    assert (verdict.ok, verdict.refused, actors) == (1, len(CODES) - 1, [DISTRICT])


# --- TLS ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["intake", "review"])
def test_the_services_tell_until_when_the_certificate_of_the_bus_is_good(
    local: Local, certificates: dict[str, str], service: str
) -> None:
    """An alert hangs on it: after that moment nobody can connect."""
    told = outside.certificate(Path(certificates["server"]))
    assert told
    name = "yiqi_bus_certificate_ends_timestamp_seconds"

    def said() -> list[float]:
        families = text_string_to_metric_families(local.page(service, "metrics"))
        return [sample.value for family in families for sample in family.samples if sample.name == name]

    ends = ssl.cert_time_to_seconds(told["notAfter"])
    wait_until(lambda: said() == [ends], 30, "the watchdog to look")


def check(*command: str, **settings: str) -> tuple[int, str]:
    """`yiqi provision --check`, or another command, as a person or a job runs it: the exit status, and what it says."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from services.cli import main; main()",
            *(command or ("provision", "--check")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("YIQI_")}, **settings},
        cwd=ROOT,
    )
    return done.returncode, done.stderr


def greeted(local: Local, authority: str, own: str | None) -> bytes:
    """What the server says after the handshake, if it comes to that."""
    context = ssl.create_default_context(cafile=authority)
    if own:
        context.load_cert_chain(own)
    with (
        socket.create_connection(("127.0.0.1", local.nats.port), timeout=5) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1") as secure,
    ):
        return secure.recv(4)


def test_without_the_right_certificate_there_is_no_connection(
    local: Local, certificates: dict[str, str]
) -> None:
    authority = certificates["ca"]
    assert greeted(local, authority, certificates["client"]) == b"INFO"
    for own in (None, certificates["other"]):
        with pytest.raises(ssl.SSLError):
            greeted(local, authority, own)
    with pytest.raises(ssl.SSLCertVerificationError):
        greeted(local, certificates["other-ca"], certificates["client"])


async def test_a_command_without_tls_or_with_a_wrong_key_ends_with_a_sentence(
    local: Local, tmp_path: Path
) -> None:
    keep(tmp_path, CODES)
    good = {k: v for k, v in local.environment.items() if "_NATS_" in k}
    plain = {k: v for k, v in good.items() if k in ("YIQI_NATS_URL", "YIQI_NATS_SEEDS")}
    anonymous = {k: v for k, v in good.items() if k != "YIQI_NATS_SEEDS"}
    unknown = {**good, "YIQI_NATS_SEEDS": str(tmp_path / SEEDS)}
    tried = [await asyncio.to_thread(check, **one) for one in (good, plain, anonymous, unknown)]
    assert [status for status, _ in tried] == [0, 3, 3, 3]
    assert tried[0][1] == ""
    assert all(said.count("\n") == 1 for _, said in tried[1:]), tried
    assert all("总线不认识这个身份" in said for _, said in tried[2:])


def test_who_speaks_for_an_agency_without_its_key_is_told_so(local: Local, tmp_path: Path) -> None:
    """The desk has a key, but speaks for nobody who has an account."""
    desk = local.seed(DESK)
    assert desk
    shutil.copy(desk, tmp_path)
    environment = {**local.environment, "YIQI_NATS_SEEDS": str(tmp_path)}
    status, said = check("catalogue", "build", "--notice", NOTICE, "--as", DISTRICT, **environment)
    assert (status, said) == (
        2,
        f"总线不接受以 {DISTRICT} 的名义所说的话：请用该单位自己的种子文件（YIQI_NATS_SEED）\n",
    )


async def between(first: bytes) -> tuple[asyncio.Server, int, asyncio.Future[bytes]]:
    """Somebody on the way who says that there is no TLS here, and reads what the client then sends."""
    read: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        said = await reader.read(1000)
        if not read.done():
            read.set_result(said)
        writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(pretend, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1], read


INFO = b'INFO {"server_id":"x","version":"2.15.1","headers":true,"max_payload":1048576,"auth_required":true,"nonce":"n"}\r\n'


async def test_nobody_on_the_way_talks_us_out_of_tls(certificates: dict[str, str], local: Local) -> None:
    server, port, read = await between(INFO)
    settings = {**local.environment, "YIQI_NATS_URL": f"nats://127.0.0.1:{port}"}
    async with server:
        status, _ = await asyncio.to_thread(check, **{k: v for k, v in settings.items() if "_NATS_" in k})
        assert status == 3
        assert (await read)[:2] == b"\x16\x03"  # a TLS handshake, and no word of ours


async def test_control_nats_py_by_itself_is_talked_out_of_tls(
    certificates: dict[str, str], local: Local
) -> None:
    server, port, read = await between(INFO)
    client = Client()
    async with server:
        await client.connect(
            f"nats://127.0.0.1:{port}",
            tls=ssl.create_default_context(cafile=certificates["ca"]),
            nkeys_seed=str(local.seed(DISTRICT)),
            allow_reconnect=False,
        )
        assert (await read).startswith(b"CONNECT")
        await client.close()


# --- what the bus refuses ----------------------------------------------------------------------------


def forbidden(local: Local, name: str) -> float:
    found = re.search(r"^yiqi_bus_forbidden_total (\S+)", local.page(name, "metrics"), re.MULTILINE)
    return float(found[1]) if found else -1


async def restarted(local: Local, config: str) -> None:
    await asyncio.to_thread(local.nats.stop)
    local.nats.config = config
    await asyncio.to_thread(local.nats.start)
    await asyncio.to_thread(local.ready)


async def test_a_service_tells_what_the_bus_forbids_and_loses_nothing(local: Local) -> None:
    """All that the publisher itself sees is a missing PubAck; what it has to say waits until it may be said."""
    await file(local, "先前的讲座")
    assert forbidden(local, "intake") == 0  # the control: with its own list nothing is forbidden
    right, title = local.nats.config, "没有回音的讲座"
    less = right.replace('"sme.out.v1.*.event.accepted", ', "", 1)  # intake is the first that has it
    assert less != right
    await restarted(local, less)
    said = asyncio.create_task(file(local, title))
    try:
        await eventually(lambda: forbidden(local, "intake") > 0, 20, "the refusal to be counted")
        told = [json.loads(line) for line in (local.directory / "intake.log").read_text().splitlines()]
        (line, *_) = [one for one in told if one["message"] == "forbidden by the bus"]
        assert (line["level"], line["detail"].split('"')[1]) == ("ERROR", f"sme.out.v1.{WHO}.event.accepted")
        assert not said.done()
    finally:
        await restarted(local, right)
        said.cancel()
        await asyncio.gather(said, return_exceptions=True)

    sql = f"select \"case\" from intake.submission where title = '{title}'"
    case = local.postgres.sql(sql, "yiqi").strip()

    async def answered() -> bool:
        client = await local.connect()
        try:
            js = client.jetstream(timeout=5)
            last = (await js.stream_info(OUT)).state.last_seq
            found = await js.get_msg(OUT, last)
        finally:
            await client.close()
        return bool(json.loads(found.data or b"")["data"].get("case") == case)

    await eventually(answered, 30, "the answer")


# --- backup ------------------------------------------------------------------------------------------


def test_the_provisioner_may_copy_everything_and_put_it_back_elsewhere(local: Local, tmp_path: Path) -> None:
    """With other keys there, and without TLS."""
    asyncio.run(file(local, "备份里的讲座"))
    status, said = check("ops", "backup", str(tmp_path / "copy"), **local.environment)
    assert status == 0, said
    there = Local(tmp_path / "there", sync_always=False, mail=False)
    try:
        there.nats.start()
        there.postgres.start()
        there.postgres.create_database("yiqi")
        status, said = check("ops", "restore", str(tmp_path / "copy"), **there.environment)
        assert status == 0, said
        assert (
            there.postgres.sql("select count(*) from intake.submission where title = '备份里的讲座'", "yiqi")
            == "1\n"
        )
    finally:
        there.stop()
