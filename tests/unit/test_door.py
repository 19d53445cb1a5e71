"""The HTTP door without a bus: who is let in, what is refused and how, and what its OpenAPI document says of it."""

import asyncio
import hashlib
import json
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from services import cli
from services.cli import common
from services.intake.door import describe, judging
from services.intake.door.app import CERTIFICATE, Door, create
from services.intake.door.bus import Bus
from services.intake.door.identity import TOKEN, Publishers, Register, Unusable, line
from services.intake.door.openapi import document
from services.intake.door.serve import Unsafe, run
from shared.contracts.problem import Problem
from shared.contracts.registry import EVENTS, SUBMISSION_FILED
from shared.contracts.types import FileRef
from shared.runtime import metrics
from shared.runtime.decode import Dead, Item, Raw, decode
from shared.runtime.settings import Settings

NOW = datetime(2025, 3, 3, 1, tzinfo=UTC)
ONE, OTHER = "440106", "440105"
TOKENS = {ONE: "one-token-of-440106", OTHER: "one-token-of-440105"}
STRUCTURED = "application/cloudevents+json"
EVENT: dict[str, Any] = {**describe.EXAMPLE}
VALUES: dict[str, Any] = EVENT["data"]


def structured(**changed: Any) -> bytes:
    return json.dumps({**EVENT, **changed}, ensure_ascii=False).encode()


def binary(**changed: str) -> dict[str, str]:
    head = {f"ce-{k}": str(v) for k, v in EVENT.items() if k != "data"} | {
        f"ce-{k}": v for k, v in changed.items()
    }
    return {"content-type": "application/json", **head}


DATA = json.dumps(EVENT["data"], ensure_ascii=False).encode()

# --- who is let in -----------------------------------------------------------------------------------


def test_an_agency_is_known_by_any_of_its_tokens_and_by_no_other() -> None:
    lines = [
        "# tokens",
        "",
        *(line(ONE, TOKEN, t.encode()) + "  # old" for t in ("a", "b")),
        line(OTHER, TOKEN, b"c"),
    ]
    found = Publishers.read(lines, (ONE, OTHER))
    assert [found.who(TOKEN, t.encode()) for t in ("a", "b", "c", "d", "")] == [ONE, ONE, OTHER, None, None]
    assert found.who("certificate", b"a") is None


def test_a_fingerprint_is_taken_as_openssl_prints_it() -> None:
    printed = ":".join(re.findall("..", hashlib.sha256(b"DER").hexdigest().upper()))
    assert Publishers.read([f"{ONE} certificate {printed}"], (ONE,)).who("certificate", b"DER") == ONE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{ONE} token hunter2", "line 1: should be"),
        (f"{ONE} {hashlib.sha256(b'a').hexdigest()}", "line 1: should be"),
        (f"{ONE} password {hashlib.sha256(b'a').hexdigest()}", "line 1: should be"),
        (line("440999", TOKEN, b"a"), "line 1: no such agency"),
        (line("yiqi", TOKEN, b"a"), "line 1: no such agency"),
        (line(ONE, TOKEN, b"a") + "\n" + line(OTHER, TOKEN, b"a"), "line 2: the same token for two"),
    ],
)
def test_a_file_that_is_wrong_is_refused_and_not_shown(text: str, why: str) -> None:
    with pytest.raises(Unusable, match=why) as error:
        Publishers.read(text.splitlines(), (ONE, OTHER))
    assert "hunter2" not in str(error.value)
    assert hashlib.sha256(b"a").hexdigest() not in str(error.value)


def test_who_is_taken_out_of_the_file_is_not_let_in_any_more(tmp_path: Path) -> None:
    file = tmp_path / "publishers"
    file.write_text(line(ONE, TOKEN, b"a") + "\n")
    register = Register(file, (ONE, OTHER))
    assert register.who("Bearer a", None) == ONE
    file.write_text("half a li")
    assert register.who("Bearer a", None) == ONE  # else one slip of a hand would lock everybody out
    file.unlink()
    assert register.who("Bearer a", None) == ONE
    file.write_text(line(OTHER, TOKEN, b"b") + "\n")
    assert register.who("Bearer a", None) is None
    assert register.who("Bearer b", None) == OTHER


@pytest.mark.parametrize(
    ("authorization", "certificate", "who"),
    [
        ("Bearer a", None, ONE),
        ("bearer  a", None, ONE),
        (None, b"DER", OTHER),
        ("Bearer x", b"DER", None),  # a wrong token is not made good by a certificate
        ("Basic a", b"DER", None),
        ("a", None, None),
        ("Bearer", None, None),
        ("Bearer a, Bearer b", None, None),
        (None, b"other", None),
        (None, None, None),
    ],
)
def test_who_it_is(
    tmp_path: Path, authorization: str | None, certificate: bytes | None, who: str | None
) -> None:
    file = tmp_path / "publishers"
    file.write_text(line(ONE, TOKEN, b"a") + "\n" + line(OTHER, "certificate", b"DER") + "\n")
    assert Register(file, (ONE, OTHER)).who(authorization, certificate) == who


# --- what it is --------------------------------------------------------------------------------------


def judged(headers: dict[str, str], body: bytes, who: str = ONE) -> judging.Fit | Problem:
    raw = [(k.encode(), v.encode()) for k, v in headers.items()]
    attributes = judging.headers(raw, headers.get("content-type", ""))
    return attributes if isinstance(attributes, Problem) else judging.judge(who, attributes, body, NOW)


def test_both_modes_are_the_same_event_on_the_same_subject() -> None:
    one = judged({"content-type": STRUCTURED}, structured())
    two = judged(binary(), DATA)
    assert isinstance(one, judging.Fit)
    assert isinstance(two, judging.Fit)
    assert (
        (one.id, one.subject) == (two.id, two.subject) == (EVENT["id"], f"sme.in.v1.{ONE}.submission.filed")
    )
    assert json.loads(one.body) == json.loads(two.body) == EVENT


def test_an_attribute_of_binary_mode_may_be_quoted_and_percent_encoded() -> None:
    found = judged(binary(subject='"%E5%A4%A9%E6%B2%B3 \\"1\\""'), DATA)
    assert isinstance(found, judging.Fit)
    assert json.loads(found.body)["subject"] == '天河 "1"'


HEARD = {SUBMISSION_FILED.name: SUBMISSION_FILED}
GOOD_AND_BAD: dict[str, bytes] = {
    "good": structured(),
    "no id": structured(id=None),
    "long id": structured(id="x" * 129),
    "no zone": structured(time="2025-03-03T09:00:00"),
    "foreign source": structured(source=f"urn:cn:gov:gz:{OTHER}:oa"),
    "no source": structured(source="oa"),
    "data is a list": structured(data=[]),
    "a typing error": structured(data={**VALUES, "notcie": "x"}),
    "a number as text": structured(data={**VALUES, "files": [{"role": "scan", "sha256": "a" * 64, "size": "1", "name": "a"}]}),
    "nul": structured(subject="a\0b"),
    "deep": b'{"type": "cn.gov.gz.sme.submission.filed.v1", "data": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "latin-1": structured().replace("天河".encode(), b"\xc4\xe3"),
    "extra attribute": structured(myextension="x"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD_AND_BAD)
def test_the_door_judges_as_the_services_do(name: str) -> None:
    body = GOOD_AND_BAD[name]
    on_the_bus = decode(Raw(f"sme.in.v1.{ONE}.submission.filed", body, None, "SME_IN", 1, NOW), HEARD)
    at_the_door = judged({"content-type": STRUCTURED}, body)
    if isinstance(on_the_bus, Item):
        assert isinstance(at_the_door, judging.Fit)
        assert at_the_door.body == body
    elif name == "deep":
        assert isinstance(at_the_door, Problem)  # its type cannot be read, so it has no subject
    else:
        assert isinstance(on_the_bus, Dead)
        assert at_the_door == on_the_bus.problem


def test_every_fault_is_told_where_it_is() -> None:
    found = judged({"content-type": STRUCTURED}, structured(time="gestern", data={"form": 6}))
    assert isinstance(found, Problem)
    assert found.status == 422
    told = {(e.pointer, e.code) for e in found.errors}
    assert {("#/data/notice", "schema.missing"), ("#/data/form", "schema.string_type")} < told
    assert "#/time" in {pointer for pointer, _ in told}
    assert all(re.search("[一-鿿]", e.detail) for e in found.errors)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (structured(type="cn.gov.gz.sme.case.opened.v1"), "#/type"),  # ours to say, and nobody else's
        (structured(type="com.example.thing"), "#/type"),
        (structured(type=7), "#/type"),
        (b"{}", "#/type"),
        (b"", "#"),
        (b"[1]", "#"),
        (b"\xff", "#"),
    ],
)
def test_what_is_no_event_that_anybody_hears_is_told_so(body: bytes, pointer: str) -> None:
    found = judged({"content-type": STRUCTURED}, body)
    assert isinstance(found, Problem)
    assert pointer in {e.pointer for e in found.errors}


def test_what_is_no_json_in_binary_mode_is_told_so() -> None:
    for type_ in ("cn.gov.gz.sme.submission.filed.v1", "com.example.thing"):
        found = judged(binary(type=type_), b"{")
        assert isinstance(found, Problem)
        assert found.status == 422


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json"},
        {"content-type": "text/plain", **{k: v for k, v in binary().items() if k != "content-type"}},
        {"content-type": "application/cloudevents-batch+json"},
        {"content-type": "application/cloudevents+xml"},
        {"content-type": "application/cloudevents+json; charset=gbk"},
        {"content-type": "application/cloudevents+json", "content-encoding": "gzip"},
        {k: v for k, v in binary().items() if k != "ce-specversion"},
    ],
)
def test_what_is_neither_mode_is_unsupported(headers: dict[str, str]) -> None:
    found = judged(headers, structured())
    assert isinstance(found, Problem)
    assert found.status == 415


@pytest.mark.parametrize("value", ["application/cloudevents+json;charset=utf-8", 'Application/CloudEvents+JSON; charset="UTF-8"'])  # fmt: skip
def test_utf_8_may_be_said(value: str) -> None:
    assert isinstance(judged({"content-type": value}, structured()), judging.Fit)


def test_a_header_that_says_two_things_says_nothing() -> None:
    raw = [(k.encode(), v.encode()) for k, v in binary().items()]
    for more in ((b"ce-id", b"another"), (b"ce-subject", "天河".encode())):
        assert isinstance(judging.headers([*raw, more], "application/json"), Problem)


def test_an_event_of_a_later_release_goes_on_the_bus_or_is_told() -> None:
    """Whatever the decoder makes of it: what it calls no fault of the publisher's is published."""
    body = structured(type="cn.gov.gz.sme.submission.filed.v9")
    on_the_bus = decode(Raw(f"sme.in.v1.{ONE}.submission.filed", body, None, "SME_IN", 1, NOW), HEARD)
    assert isinstance(on_the_bus, Dead)
    found = judged({"content-type": STRUCTURED}, body)
    assert isinstance(found, judging.Fit) == (on_the_bus.problem is None)


def test_a_file_is_as_large_here_as_in_an_event() -> None:
    said = {"role": "scan", "sha256": "a" * 64, "name": "a.pdf"}
    FileRef.model_validate({**said, "size": describe.LARGEST_FILE})
    with pytest.raises(ValidationError):
        FileRef.model_validate({**said, "size": describe.LARGEST_FILE + 1})


# --- what is answered --------------------------------------------------------------------------------


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


async def asked(
    app: Any,
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: Iterable[bytes] = (),
    certificate: bytes | None = None,
) -> Answer:
    """As a server asks an application; the body may be larger than memory. It ends when the application does."""
    parts = iter(body)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        part = next(parts, None)
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    async def send(message: Any) -> None:
        sent.append(message)

    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        "state": {CERTIFICATE: certificate} if certificate else {},
    }
    await app(scope, receive, send)
    start, *rest = sent
    return Answer(
        start["status"],
        {k.decode(): v.decode() for k, v in start["headers"]},
        b"".join(m.get("body", b"") for m in rest),
    )


@pytest.fixture
def door(tmp_path: Path) -> Any:
    """With a bus that it never reaches."""
    file = tmp_path / "publishers"
    file.write_text("".join(line(code, TOKEN, t.encode()) + "\n" for code, t in TOKENS.items()))
    return create(Door(Bus(Settings()), Register(file, (ONE, OTHER))))


def of(who: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKENS[who]}", **{k.replace("_", "-"): v for k, v in more.items()}}


def large(size: int) -> Iterable[bytes]:
    return (b"x" * 65536 for _ in range(size // 65536 + 1))


SHA = hashlib.sha256(b"content").hexdigest()
SAID: dict[str, tuple[int, str, str, dict[str, str], Iterable[bytes]]] = {
    "no token": (401, "POST", "/events", {"content-type": STRUCTURED}, [structured()]),
    "a wrong token": (401, "POST", "/events", {"authorization": "Bearer x"}, [structured()]),
    "a wrong token asks": (401, "GET", "/events/x", {"authorization": "Bearer x"}, []),
    "a foreign source": (403, "POST", "/events", of(OTHER, content_type=STRUCTURED), [structured()]),
    "a batch": (415, "POST", "/events", of(ONE, content_type="application/cloudevents-batch+json"), [b"[]"]),
    "no event": (422, "POST", "/events", of(ONE, content_type=STRUCTURED), [b"{}"]),
    "too large": (413, "POST", "/events", of(ONE, content_type=STRUCTURED), large(describe.LARGEST_EVENT)),
    "no end": (413, "POST", "/events", of(ONE, content_type=STRUCTURED), large(10**12)),
    "the bus is away": (503, "POST", "/events", of(ONE, content_type=STRUCTURED), [structured()]),
    "away, status": (503, "GET", "/events/some-id", of(ONE), []),
    "away, answers": (503, "GET", "/events", of(ONE), []),
    "away, a file": (503, "PUT", f"/files/{SHA}", of(ONE), [b"con", b"tent"]),
    "another file": (422, "PUT", f"/files/{SHA}", of(ONE), [b"contents"]),
    "an empty file": (422, "PUT", f"/files/{hashlib.sha256().hexdigest()}", of(ONE), []),
    "a large file": (413, "PUT", f"/files/{SHA}", of(ONE), large(describe.LARGEST_FILE)),
    "a packed file": (415, "PUT", f"/files/{SHA}", of(ONE, content_encoding="gzip"), [b"content"]),
    "no digest": (422, "PUT", "/files/abc", of(ONE), [b"content"]),
    "a strange id": (422, "GET", "/events/" + "x" * 129, of(ONE), []),
    "before the beginning": (422, "GET", "/events?after=-1", of(ONE), []),
    "too many": (422, "GET", "/events?limit=101", of(ONE), []),
    "nowhere": (404, "GET", "/event", of(ONE), []),
    "no such method": (405, "DELETE", "/events", of(ONE), []),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
async def test_what_is_refused_is_told_as_a_problem(door: Any, name: str) -> None:
    status, method, path, headers, body = SAID[name]
    answer = await asked(door, method, path, headers, body)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    told = Problem.model_validate(answer.told)
    assert told.status == status
    assert re.search("[一-鿿]", told.title + told.detail)
    assert told.title_en
    assert told.detail_en
    assert all(e.detail_en for e in told.errors)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert not any(token in answer.body.decode() for token in TOKENS.values())


async def test_answers_are_counted_by_operation_and_status(door: Any) -> None:
    def counted() -> dict[tuple[str, str], float]:
        (found,) = metrics.ANSWERS.collect()
        return {(s.labels["kind"], s.labels["code"]): s.value for s in found.samples}

    before = counted()
    for name in (
        "a foreign source",
        "away, status",
        "away, answers",
        "another file",
        "nowhere",
        "a wrong token asks",
    ):
        _, method, path, headers, body = SAID[name]
        await asked(door, method, path, headers, body)
    grown = {key for key, value in counted().items() if value == before.get(key, 0) + 1}
    assert grown == {
        ("publish", "403"), ("status", "503"), ("answers", "503"), ("file", "422"), ("other", "404"), ("status", "401"),
    }  # fmt: skip


async def test_a_certificate_that_the_server_has_verified_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "publishers"
    file.write_text(line(ONE, "certificate", b"DER") + "\n")
    door = create(Door(Bus(Settings()), Register(file, (ONE,))))
    headers = {"content-type": STRUCTURED, CERTIFICATE: "DER", "client-certificate": "DER"}
    assert (await asked(door, "POST", "/events", headers, [structured()])).status == 401
    assert (await asked(door, "POST", "/events", headers, [structured()], certificate=b"DER")).status == 503


async def test_an_agency_waits_for_itself_and_never_has_others_wait(door: Any) -> None:
    async def slow(who: str) -> Answer:
        return await asked(door, "GET", "/events", of(who))

    behind: Door = door.state.door
    with behind.turn(ONE), behind.turn(ONE):
        assert (await slow(ONE)).status == 503
    turns = [behind.turn(ONE) for _ in range(describe.AT_A_TIME)]
    for turn in turns:
        turn.__enter__()
    many = await slow(ONE)
    assert (many.status, many.headers["retry-after"]) == (429, "1")
    assert (await slow(OTHER)).status == 503
    turns.pop().__exit__(None, None, None)
    assert (await slow(ONE)).status == 503


async def test_whoever_sends_too_slowly_is_told(door: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "BODY_WITHIN", 0.01)
    sent: list[Any] = []

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    head = [(k.encode(), v.encode()) for k, v in of(ONE, content_type=STRUCTURED).items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/events",
        "query_string": b"",
        "headers": head,
        "state": {},
    }
    await door(scope, never, send)
    assert sent[0]["status"] == 408


# --- the document ------------------------------------------------------------------------------------


def test_the_document_names_every_answer_and_resolves() -> None:
    told = document()
    text = json.dumps(told)
    schemas = told["components"]["schemas"]
    assert {
        ref.rpartition("/")[2] for ref in re.findall('"(#/components/schemas/[^"]+)"', text)
    } <= schemas.keys()
    assert {(m, p) for p, found in told["paths"].items() for m in found} == {
        ("post", "/events"), ("get", "/events"), ("get", "/events/{id}"), ("put", "/files/{sha256}"),
    }  # fmt: skip
    for status, method, path, _, _ in SAID.values():
        place = re.sub(
            r"^/files/.*", "/files/{sha256}", re.sub(r"^/events/.*", "/events/{id}", path.partition("?")[0])
        )
        if operation := told["paths"].get(place, {}).get(method.lower()):
            assert str(status) in operation["responses"], (status, method, path)
    inbound = {e.ce_type for e in EVENTS if e.cls == "in"}
    listed = {
        schemas[one["$ref"].rpartition("/")[2]]["properties"]["type"]["const"]
        for one in schemas["Event"]["anyOf"]
    }
    assert listed == inbound


def test_the_examples_of_the_document_are_what_it_says() -> None:
    told = document()

    def follows(schema: Any, value: Any) -> list[str]:
        whole = {"$ref": schema["$ref"], "components": told["components"]} if "$ref" in schema else schema
        return [e.message for e in Draft202012Validator(whole).iter_errors(value)]

    seen = 0
    for path in told["paths"].values():
        for operation in path.values():
            contents = [a.get("content", {}) for a in operation["responses"].values()]
            contents.append(operation.get("requestBody", {}).get("content", {}))
            for media in (m for content in contents for m in content.values()):
                for example in media.get("examples", {}).values():
                    assert follows(media["schema"], example["value"]) == []
                    seen += 1
    assert seen > 20
    assert follows({"$ref": "#/components/schemas/Problem"}, {"title": 1}) != []  # and would tell
    assert follows({"$ref": "#/components/schemas/Event"}, {**EVENT, "type": "x"}) != []


def test_the_example_is_taken() -> None:
    assert isinstance(judged({"content-type": STRUCTURED}, structured()), judging.Fit)


# --- starting, and the commands ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, "door_publishers"),
        ({"door_publishers": "p", "host": "10.0.0.1"}, "needs a certificate"),
        ({"door_publishers": "p", "host": "door.example"}, "needs a certificate"),
        ({"door_publishers": "p", "door_ca": "ca.pem"}, "needs door_cert"),
    ],
)
async def test_it_does_not_start_on_what_is_unsafe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").write_text(line(ONE, TOKEN, b"a"))
    with pytest.raises(Unsafe, match=why):
        await run(Settings(**told))  # type: ignore[arg-type]


def command(*words: str) -> int:
    common.settings.cache_clear()
    common.directory.cache_clear()
    with pytest.raises(SystemExit) as end:
        cli.main(list(words))
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_token_is_shown_once_and_only_its_digest_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("publisher", "token", ONE) == 0
    told = capsys.readouterr()
    token = told.err.strip().rpartition("：")[2]
    assert len(token) > 40
    assert token not in told.out
    assert Publishers.read(told.out.splitlines(), (ONE,)).who(TOKEN, token.encode()) == ONE
    assert command("publisher", "token", ONE) == 0
    assert capsys.readouterr().out != told.out
    assert command("publisher", "token", "440999") == 2
    assert "不在单位名录中" in capsys.readouterr().err


def test_the_line_of_a_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = trustme.CA().issue_cert("client.example")
    file = tmp_path / "client.pem"
    made.private_key_and_cert_chain_pem.write_to_path(str(file))
    assert command("publisher", "certificate", ONE, str(file)) == 0
    der = ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())
    assert Publishers.read(capsys.readouterr().out.splitlines(), (ONE,)).who("certificate", der) == ONE
    file.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    assert command("publisher", "certificate", ONE, str(file)) == 2
    assert "没有 PEM 格式的证书" in capsys.readouterr().err


def test_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("door") == 2
    assert "yiqi publisher token" in capsys.readouterr().err
