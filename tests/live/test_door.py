"""Through the HTTP door to the real bus and intake: what is published, refused, answered, sent twice, sent while away.

What the door says without a bus is in tests/unit; here its processes, certificates and connections are real.
"""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

import nats
import nats.js.errors
import pytest
import trustme
from nats.aio.client import Client

from services.cli.local import Local
from services.intake.door import describe
from services.intake.door.identity import CERTIFICATE, TOKEN, line
from shared.contracts.registry import CHUNK, file_subject
from shared.notices.directory import Directory
from shared.notices.load import load_all
from shared.runtime import files
from shared.runtime.embedded import Nats, eventually, wait_until
from shared.runtime.streams import FILE, IN, STREAMS
from tests.door import Door, Said, bearer, say
from tests.scans import pdf
from tests.workbooks import head, xlsx

ONE, OTHER = "440106", "440105"
NOTICE = "gz-collection-2025q1"
DURING = datetime(2025, 3, 3, 2, 0, tzinfo=UTC)
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
NAMES = {code: Directory.load().by_code[code].name for code in (ONE, OTHER)}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    here = Local(tmp_path_factory.mktemp("door"), sync_always=False, mail=False, services=("intake",))
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    with here:
        yield here


@pytest.fixture(scope="module")
def door(local: Local) -> Iterator[Door]:
    with Door(local, (ONE, OTHER)) as running:
        yield running


def event(who: str = ONE, /, *, id_: str = "", source: str = "", **values: str) -> dict[str, Any]:
    """One piece of equipment; of a name of its own, so that it is a case of its own."""
    id_ = id_ or str(uuid4())
    data: dict[str, Any] = {
        **describe.EXAMPLE["data"],  # type: ignore[dict-item]
        "filer": {"code": who, "kind": "K2", "name": NAMES[who]},
    }
    data["values"] = {**data["values"], "equipment_name": f"测量机 {id_[:36]}", **values}
    return {**describe.EXAMPLE, "id": id_, "source": source or f"urn:cn:gov:gz:{who}:oa", "data": data}


def post(door: Door, document: Any, who: str = ONE) -> Said:
    return say(door, "POST", "/events", who, json.dumps(document, ensure_ascii=False).encode(), STRUCTURED)


def state(door: Door, path: str, who: str = ONE) -> dict[str, Any]:
    """What became of it, when there is an answer."""

    def answered() -> dict[str, Any]:
        said = say(door, "GET", path, who)
        assert said.status == 200, said.body
        told: dict[str, Any] = said.told
        return told if told["state"] != "unanswered" else {}

    return wait_until(answered, 30, f"the answer at {path}")


def answers(door: Door, who: str = ONE, after: int = 0) -> list[dict[str, Any]]:
    """All there are, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        page = say(door, "GET", f"/events?after={after}&limit=7", who).told
        found += page["answers"]
        after = page["last"]
        if not page["more"]:
            return found


def stored(local: Local, stream: str = IN) -> int:
    async def last() -> int:
        operator = await local.connect()
        try:
            return (await operator.jetstream().stream_info(stream)).state.last_seq
        finally:
            await operator.close()

    return asyncio.run(last())


# --- what is published -------------------------------------------------------------------------------


def test_an_event_is_stored_and_then_accepted(door: Door) -> None:
    document = event()
    said = post(door, document)
    assert said.status == 202, said.body
    path = f"/events/{document['id']}"
    seq = said.told["seq"]
    assert said.told == {"id": document["id"], "seq": seq, "duplicate": False, "status": path}
    assert said.headers["location"] == path
    told = state(door, path)
    assert told["state"] == "accepted"
    assert told["answer"]["data"]["accepted"] == document["id"]
    assert told["answer"]["data"]["number"].startswith("F6-")


def test_binary_mode_is_the_same_to_the_letter(door: Door) -> None:
    document = event(contact="张三 123")
    head_ = {f"ce-{k}": quote(str(v), safe=":+") for k, v in document.items() if k != "data"}
    head_ |= {"CE-Subject": "%E5%A4%A9%E6%B2%B3", "Content-Type": "application/json; charset=utf-8"}
    body = json.dumps(document["data"], ensure_ascii=False).encode()
    said = say(door, "POST", "/events", ONE, body, head_)
    assert said.status == 202, said.body
    in_binary = state(door, said.told["status"])
    other = {**document, "id": str(uuid4())}
    in_structured = state(door, post(door, other).told["status"])
    assert in_binary["state"] == in_structured["state"] == "rejected"
    faults = [told["answer"]["data"]["errors"] for told in (in_binary, in_structured)]
    assert faults[0] == faults[1]
    assert [e["pointer"] for e in faults[0]] == ["#/data/values/contact"]


def test_what_breaks_the_contract_is_told_at_once_and_goes_nowhere(door: Door, local: Local) -> None:
    before = stored(local)
    document = event()
    document["data"]["fiier"] = document["data"].pop("filer")
    said = post(door, document)
    assert said.status == 422
    assert {(e["pointer"], e["code"]) for e in said.told["errors"]} == {
        ("#/data/filer", "schema.missing"),
        ("#/data/fiier", "schema.extra_forbidden"),
    }
    assert say(door, "GET", f"/events/{document['id']}", ONE).told["state"] == "unanswered"
    assert stored(local) == before


def test_the_same_event_again_is_one_event(door: Door, local: Local) -> None:
    document = event()
    first = post(door, document)
    state(door, first.told["status"])
    before = stored(local)
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(lambda _: post(door, document), range(12)))
    assert {(s.status, s.told["duplicate"], s.told["seq"]) for s in again} == {(202, True, first.told["seq"])}
    assert stored(local) == before
    about = [a for a in answers(door) if a["event"]["data"].get("accepted") == document["id"]]
    assert len(about) == 1


def test_an_id_may_be_anything_printable(door: Door) -> None:
    document = event(id_=f"oa/2025?n=1#2%41&{uuid4()}")
    said = post(door, document)
    assert said.status == 202
    assert unquote(said.told["status"]).removeprefix("/events/") == document["id"]
    assert state(door, said.told["status"])["answer"]["data"]["accepted"] == document["id"]


# --- who speaks --------------------------------------------------------------------------------------


def test_nobody_speaks_for_another(door: Door, local: Local) -> None:
    before = stored(local)
    said = post(door, event(ONE), OTHER)
    assert (said.status, said.told["type"].rpartition(":")[2]) == (403, "identity")
    strangers: list[dict[str, str]] = [
        {},
        bearer("x"),
        bearer(door.tokens[ONE][:-1]),
        {"Authorization": "Basic eDp5"},
    ]
    for wrong in strangers:
        said = say(door, "POST", "/events", None, json.dumps(event()).encode(), STRUCTURED | wrong)
        assert (said.status, said.headers["www-authenticate"]) == (401, "Bearer")
        assert say(door, "GET", "/events", None, headers=wrong).status == 401
        assert say(door, "PUT", f"/files/{sha256(b'x').hexdigest()}", None, b"x", wrong).status == 401
    assert stored(local) == before


def test_answers_are_read_by_whom_they_are_for(door: Door) -> None:
    document = event(OTHER)
    path = post(door, document, OTHER).told["status"]
    assert state(door, path, OTHER)["state"] == "accepted"
    assert say(door, "GET", path, ONE).told == {"id": document["id"], "state": "unanswered"}
    of_one, of_other = answers(door, ONE), answers(door, OTHER)
    assert document["id"] in {a["event"]["data"].get("accepted") for a in of_other}
    assert not {a["seq"] for a in of_one} & {a["seq"] for a in of_other}
    assert [a["seq"] for a in of_other] == sorted(a["seq"] for a in of_other)


def test_a_token_that_is_taken_out_opens_no_more(local: Local) -> None:
    with Door(local, (ONE, OTHER), name="rotated") as here:
        assert say(here, "GET", "/events", ONE).status == 200
        old, new = here.tokens[ONE], "a-new-token"
        here.publishers.write_text(f"{line(ONE, TOKEN, old.encode())}\n{line(ONE, TOKEN, new.encode())}\n")
        for token in (old, new):
            assert say(here, "GET", "/events", None, headers=bearer(token)).status == 200
        here.publishers.write_text(line(ONE, TOKEN, new.encode()) + "\n")
        assert say(here, "GET", "/events", None, headers=bearer(old)).status == 401
        assert say(here, "GET", "/events", None, headers=bearer(new)).status == 200


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(local: Local, authority: trustme.CA) -> Iterator[Door]:
    """With TLS, and certificates of agencies that `authority` has signed."""
    folder = local.directory / "tls"
    folder.mkdir()
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(str(folder / "tls.key"))
    made.cert_chain_pems[0].write_to_path(str(folder / "tls.crt"))
    authority.cert_pem.write_to_path(str(folder / "ca.crt"))
    extra = {
        "YIQI_DOOR_CERT": str(folder / "tls.crt"),
        "YIQI_DOOR_KEY": str(folder / "tls.key"),
        "YIQI_DOOR_CA": str(folder / "ca.crt"),
    }
    with Door(local, (OTHER,), extra, name="secure") as running:
        yield running


def shows(authority: trustme.CA, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate:
        certificate.configure_cert(context)
    return context


def der(certificate: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())


def test_a_client_certificate_speaks_for_its_agency(secure: Door, authority: trustme.CA) -> None:
    mine, another = authority.issue_cert("oa.example"), authority.issue_cert("oa.example")
    with secure.publishers.open("a") as file:
        file.write(line(ONE, CERTIFICATE, der(mine)) + "\n")
    document = event(ONE)
    body = json.dumps(document).encode()

    def posted(certificate: trustme.LeafCert | None, **headers: str) -> Said:
        return say(secure, "POST", "/events", None, body, STRUCTURED | headers, shows(authority, certificate))

    said = posted(mine)
    assert said.status == 202, said.body
    context = shows(authority, mine)
    wait_until(
        lambda: say(secure, "GET", said.told["status"], tls=context).told["state"] == "accepted", 30, "it"
    )
    # Of the same authority and name, and not the one that is known; none; one that is only told of.
    told = {"X-Client-Cert": der(mine).hex(), "X-SSL-Client-SHA256": sha256(der(mine)).hexdigest()}
    assert [posted(another).status, posted(None).status, posted(None, **told).status] == [401, 401, 401]
    # Who shows both is who the token says.
    assert posted(mine, **bearer(secure.tokens[OTHER])).status == 403
    assert posted(mine, **bearer("x")).status == 401


def test_a_certificate_of_another_authority_ends_the_handshake(secure: Door, authority: trustme.CA) -> None:
    strange = trustme.CA().issue_cert("oa.example")
    with secure.publishers.open("a") as file:
        file.write(line(OTHER, CERTIFICATE, der(strange)) + "\n")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        say(secure, "GET", "/events", tls=shows(authority, strange))
    assert say(secure, "GET", "/events", OTHER, tls=shows(authority)).status == 200


def test_a_certificate_is_of_one_connection(secure: Door, authority: trustme.CA) -> None:
    """Many at a time, with it and without: none lends it to another."""
    mine = authority.issue_cert("oa.example")
    with secure.publishers.open("a") as file:
        file.write(line(ONE, CERTIFICATE, der(mine)) + "\n")
    contexts = [shows(authority, mine), shows(authority)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: say(secure, "GET", "/events", tls=contexts[n % 2]).status, range(40)))
    assert found == [200, 401] * 20


# --- sizes, files ------------------------------------------------------------------------------------


def test_what_is_too_large_is_told_and_goes_nowhere(door: Door, local: Local) -> None:
    before = stored(local), stored(local, FILE)
    document = event(main_use="", contact="张三 123")
    document["subject"] = None
    spare = describe.LARGEST_EVENT - len(json.dumps(document, ensure_ascii=False).encode())
    document["data"]["values"]["main_use"] = "x" * (spare + 1)
    assert post(door, document).status == 413
    assert say(door, "PUT", f"/files/{'a' * 64}", ONE, bytes(describe.LARGEST_FILE + 1)).status == 413
    assert say(door, "POST", "/events", ONE, bytes(3 * 1024 * 1024), STRUCTURED).status == 413
    assert (stored(local), stored(local, FILE)) == before
    document["data"]["values"]["main_use"] = "x" * spare
    said = post(door, document)
    assert said.status == 202, said.body  # the largest that there is, judged like any other
    assert state(door, said.told["status"])["state"] == "rejected"


def test_files_are_sent_and_then_filed(door: Door, local: Local) -> None:
    form = load_all()[NOTICE].notice.by_form["F6"]
    row = [1, "某检测有限公司", f"三坐标测量机 {uuid4()}", "3台", "精密零件检测", "张三 020-83726619"]
    contents = {
        "workbook": ("附件6.xlsx", xlsx({"附件6": [["附件6"], head(form), row]})),
        "scan": ("盖章扫描件.pdf", pdf(say="x" * 2 * CHUNK)),
    }
    refs = []
    for role, (name, content) in contents.items():
        digest = sha256(content).hexdigest()
        sent = [say(door, "PUT", f"/files/{digest}", ONE, content) for _ in range(2)]
        assert [s.status for s in sent] == [201, 200], sent[0].body
        assert sent[0].told == sent[1].told == {"sha256": digest, "size": len(content)}
        refs.append({"role": role, "sha256": digest, "size": len(content), "name": name})
    assert say(door, "PUT", f"/files/{digest}", ONE, b"another").status == 422
    document = event()
    document["type"] = "cn.gov.gz.sme.package.filed.v1"
    document["data"] = {"notice": NOTICE, "filer": document["data"]["filer"], "files": refs}
    told = state(door, post(door, document).told["status"])
    assert told["state"] == "accepted", told
    # What another has sent is not mine to refer to.
    stolen = {**event(OTHER), "type": document["type"]}
    stolen["data"] = {"notice": NOTICE, "filer": stolen["data"]["filer"], "files": refs}
    told = state(door, post(door, stolen, OTHER).told["status"], OTHER)
    assert told["state"] == "rejected"


async def test_a_full_stream_of_files_is_not_taken_for_a_file_that_is_there(tmp_path: Path) -> None:
    """JetStream answers both with the same number."""
    (stream,) = [s for s in STREAMS if s.name == FILE]
    with Nats(tmp_path / "nats", sync_always=False) as server:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(stream.evolve(max_bytes=64 * 1024, duplicate_window=1))
        one, two = bytes(40 * 1024), bytes(41 * 1024)
        assert await files.store(client, ONE, sha256(one).hexdigest(), [one])
        # Said again after the window: then it is the subject that is taken.
        await eventually(lambda: _refused(client, one), 10, "the end of the window")
        assert not await files.store(client, ONE, sha256(one).hexdigest(), [one])
        with pytest.raises(nats.js.errors.APIError, match="maximum bytes"):
            await files.send(client, ONE, two)
        await client.close()


async def _refused(client: Client, content: bytes) -> bool:
    digest = sha256(content).hexdigest()
    try:
        headers = {"Nats-Msg-Id": f"{ONE}:{digest}:0"}
        await client.jetstream().publish(file_subject(ONE, digest, 0), content, stream=FILE, headers=headers)
    except nats.js.errors.APIError as error:
        return "per subject" in str(error)
    return False


# --- the bus is away ---------------------------------------------------------------------------------


def test_what_is_repeated_after_an_outage_has_one_effect(door: Door, local: Local) -> None:
    documents = [event() for _ in range(20)]
    with ThreadPoolExecutor(4) as pool:
        # It dies while they are on their way: of some nobody knows whether they were stored.
        posted = [pool.submit(post, door, document) for document in documents]
        posted[3].result()
        local.nats.kill()
        first = [future.result() for future in posted]
    assert {s.status for s in first} == {202, 503}
    away = [s for s in first if s.status == 503]
    assert all(s.headers["retry-after"] == "5" and s.told["type"].endswith(":unavailable") for s in away)
    assert post(door, documents[0]).status == 503
    assert say(door, "GET", "/events", ONE).status == 503
    assert say(door, "PUT", f"/files/{sha256(b'x').hexdigest()}", ONE, b"x").status == 503
    assert door.page("livez") == "ok\n"
    wait_until(lambda: door.page("readyz") == "", 10, "the door not to be ready")
    local.nats.start()
    wait_until(door.is_ready, 30, "the door to be ready")
    for document in documents:
        wait_until(lambda document=document: post(door, document).status == 202, 30, "it to be taken")  # type: ignore[misc]
    for document in documents:
        assert state(door, f"/events/{document['id']}")["state"] == "accepted"
    accepted = [a["event"]["data"].get("accepted") for a in answers(door)]
    assert [accepted.count(document["id"]) for document in documents] == [1] * 20


def test_a_door_that_finds_no_bus_opens_and_says_so(local: Local) -> None:
    here = Door(local, (ONE,), {"YIQI_NATS_URL": "nats://127.0.0.1:1"}, name="alone").start(ready=False)
    try:
        wait_until(lambda: here.page("livez") == "ok\n", 30, "the door to live")
        assert post(here, event()).status == 503
        assert here.page("readyz") == ""
    finally:
        here.stop()


# --- what is told ------------------------------------------------------------------------------------


def test_pages_and_numbers_are_not_for_those_outside(door: Door) -> None:
    post(door, event(source="urn:cn:gov:gz:440105:oa"))
    assert {say(door, "GET", path, ONE).status for path in ("/metrics", "/livez", "/readyz", "/docs")} == {
        404
    }
    told = door.page("metrics")
    assert 'yiqi_door_answers_total{code="403",kind="publish"}' in told
    assert 'yiqi_door_answers_total{code="404",kind="other"}' in told
    assert 'yiqi_build_info{service="door"' in told


def test_no_token_and_no_event_stands_in_a_log(door: Door) -> None:
    document = event()
    post(door, document)
    post(door, {**document, "time": "x"})
    door.publishers.write_text(door.publishers.read_text() + "\n")
    assert say(door, "GET", "/events", ONE).status == 200
    text = "\n".join(door.lines())
    assert "publishers read again" in text
    assert all(isinstance(json.loads(found), dict) for found in door.lines())
    for secret in (*door.tokens.values(), document["id"], "测量机", "83726619"):
        assert secret not in text


# --- what is documented ------------------------------------------------------------------------------

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)


# Every value of every field at its bounds is three thousand events, all for the decoder, which is tested elsewhere.
EVENTS = ("--include-operation-id", "publish", "--phases", "examples,fuzzing", "--max-examples", "60")
OTHERS = (
    "--exclude-operation-id",
    "publish",
    "--phases",
    "examples,coverage,fuzzing",
    "--max-examples",
    "30",
)


def examined(door: Door, where: str, which: Sequence[str], to: Path) -> subprocess.CompletedProcess[str]:
    """schemathesis, by the document that is at a place: the same requests each time."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", where, "--url", door.url, *which),
        *("--header", f"Authorization: Bearer {door.tokens[ONE]}", "--checks", ",".join(CHECKS)),
        *("--generation-deterministic", "--no-shrink", "--suppress-health-check", "all", "--no-color"),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=to)


@pytest.mark.parametrize("which", [EVENTS, OTHERS], ids=["publish", "the others"])
def test_nothing_is_answered_that_is_not_documented(
    door: Door, which: tuple[str, ...], tmp_path: Path
) -> None:
    done = examined(door, f"{door.url}/openapi.json", which, tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_control_an_answer_that_is_not_documented_is_found(door: Door, tmp_path: Path) -> None:
    document = say(door, "GET", "/openapi.json").told
    for path, method in (("/events/{id}", "get"), ("/files/{sha256}", "put"), ("/events", "get")):
        del document["paths"][path][method]["responses"]["422"]
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    done = examined(door, "openapi.json", OTHERS, tmp_path)
    assert done.returncode == 1, done.stdout[-2000:]
    assert {"ST103 Undocumented status code", "Received: 422"} <= {
        line.strip(" -") for line in done.stdout.splitlines()
    }
