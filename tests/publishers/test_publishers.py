"""The examples of this folder as another bureau runs them: own libraries, own seed, TLS, and our services as they are.

What the services judge is tested elsewhere; here it is what a publisher in another language gets to see of it.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import trustme

from services.cli.local import Local
from services.cli.nats import keep
from services.cli.trial import MISTAKES
from shared.notices.load import load_all
from shared.runtime.embedded import wait_until
from shared.runtime.streams import FILE, IN
from tests.door import Door
from tests.publishers.node import missing
from tests.scans import pdf
from tests.workbooks import head, xlsx

HERE = Path(__file__).parent
ME, OTHER = "440106", "440103"
DURING = datetime(2025, 3, 3, 2, 0, tzinfo=UTC)  # before the deadline

BUS = {
    "nats.js": ("node", "publish.mjs"),
    "nats-py": (sys.executable, "publish.py"),
    "tcp": (sys.executable, "publish_tcp.py"),
}
HTTP = {"curl": ("sh", "publish.sh"), "java": ("java", "Publish.java")}
CLIENTS = {**BUS, **HTTP}
ACCEPTED, REJECTED, NEVER, NOTHING = range(4)
"""How the examples end."""
Event = dict[str, Any]


@dataclass
class Publisher:
    """Another bureau's machine: nothing of ours but what was handed over."""

    local: Local
    folder: Path
    ca: Path
    door: Door

    def command(self, client: str, event: Event | bytes, *files: Path) -> list[str]:
        path = self.folder / f"{uuid4()}.json"
        path.write_bytes(
            event if isinstance(event, bytes) else json.dumps(event, ensure_ascii=False).encode()
        )
        program, script = CLIENTS[client]
        if program == "node" and (why := missing()):
            pytest.skip(why)
        if absent := [one for one in (program, client) if not shutil.which(one) and one not in BUS]:
            pytest.skip(f"needs {absent[0]} on the PATH (Debian: apt install curl default-jdk-headless)")
        return [program, str(HERE / script), str(path), *map(str, files)]

    def environment(self, **more: str) -> dict[str, str]:
        ours = {
            "NATS_URL": self.local.nats.url,
            "NATS_CA": str(self.ca),
            "NATS_SEED": str(self.local.seed(ME)),
            "DOOR_URL": self.door.url,
            "DOOR_CA": str(self.ca),
            "DOOR_TOKEN": str(self.folder / "token"),
        }
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("YIQI_", "NATS_", "DOOR_", "PYTHON"))
        }
        return {**inherited, **ours, **more}

    def answers(self, last: Path) -> list[Event]:
        """Those behind the number in this file."""
        done = subprocess.run(
            [sys.executable, str(HERE / "answers.py"), ME, str(last)],
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment(),
            cwd=self.folder,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def run(self, client: str, event: Event | bytes, *files: Path, **more: str) -> "Told":
        done = subprocess.run(
            self.command(client, event, *files),
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment(**more),
            cwd=self.folder,  # not ours: what it imports is its own
        )
        return Told.of(done.returncode, done.stdout, done.stderr)

    async def _last(self, stream: str) -> int:
        operator = await self.local.connect()
        state = (await operator.jetstream().stream_info(stream)).state
        await operator.close()
        return state.last_seq

    def stored(self, stream: str = IN) -> int:
        return asyncio.run(self._last(stream))


@dataclass
class Told:
    status: int
    answer: Event
    said: str

    @classmethod
    def of(cls, status: int, out: str, err: str) -> "Told":
        return cls(status, json.loads(out) if out.strip() else {}, err)

    @property
    def event(self) -> Event:
        """The answer; the door has it in what it tells of the event."""
        found: Event = self.answer.get("answer", self.answer)
        return found

    @property
    def errors(self) -> list[tuple[str, str]]:
        return [(e["severity"], e["pointer"]) for e in self.event["data"].get("errors", ())]


@pytest.fixture(scope="module")
def bureau(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    folder = tmp_path_factory.mktemp("bureau")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    server = json.dumps(str(folder / "server.pem"))
    local = Local(
        tmp_path_factory.mktemp("publishers"),
        sync_always=False,
        mail=False,
        services=("intake",),
        extra={"YIQI_NATS_CA": str(folder / "ca.pem")},
    )
    # As in production, but for what a test needs to see that the server is there: it speaks first after 50 ms.
    local.nats.config += f'tls {{cert_file: {server}, key_file: {server}, handshake_first: "auto"}}\n'
    local.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    certificate = {f"YIQI_DOOR_{what}": str(folder / "server.pem") for what in ("CERT", "KEY")}
    with local, Door(local, [ME, OTHER], certificate) as door:
        (folder / "token").write_text(door.tokens[ME])
        yield Publisher(local, folder, folder / "ca.pem", door)


def event(name: str = "event.json", /, *, source: str = ME, **values: str) -> Event:
    """The one beside the examples, under an id of its own; `values` change its row."""
    made: Event = json.loads((HERE / name).read_text())
    made |= {"id": str(uuid4()), "source": f"urn:cn:gov:gz:{source}:oa"}
    made["data"]["values"] |= {"activity_name": f"讲座 {made['id'][:8]}", **values}
    return made


anywhere = pytest.mark.parametrize("client", CLIENTS)
every_client = pytest.mark.parametrize("client", BUS)


@anywhere
def test_an_event_is_accepted(bureau: Publisher, client: str) -> None:
    filed = event()
    told = bureau.run(client, filed)
    assert (told.status, told.event["type"]) == (ACCEPTED, "cn.gov.gz.sme.event.accepted.v1"), told
    assert told.event["data"]["accepted"] == filed["id"]
    # But of all its rows together: its bureau may have filed many by now.
    assert [e for e in told.errors if "values/" in e[1]] == []


@anywhere
def test_an_event_is_accepted_with_a_warning(bureau: Publisher, client: str) -> None:
    told = bureau.run(client, event(service_domain="养生"))
    assert told.status == ACCEPTED, told
    assert ("soft", "#/data/values/service_domain") in told.errors


@anywhere
def test_an_event_is_refused_with_every_fault_and_its_place(bureau: Publisher, client: str) -> None:
    told = bureau.run(client, event(contact="张三 123", venue="", activty_name="x"))
    assert (told.status, told.event["type"]) == (REJECTED, "cn.gov.gz.sme.event.rejected.v1"), told
    assert sorted(told.errors) == [
        ("hard", "#/data/values/activty_name"),
        ("hard", "#/data/values/contact"),
        ("hard", "#/data/values/venue"),
    ]


@every_client
def test_what_cannot_be_read_is_refused_by_its_place_in_the_stream(bureau: Publisher, client: str) -> None:
    filed = event()
    filed |= {"id": f"no id {uuid4()}", "time": "yesterday"}
    told = bureau.run(client, filed)
    assert told.status == REJECTED, told
    assert ("hard", "#/time") in told.errors
    assert told.answer["data"]["rejected"]["seq"] == bureau.stored()


@every_client
def test_the_same_file_again_is_one_event_with_one_answer(bureau: Publisher, client: str) -> None:
    filed = event()
    first = bureau.run(client, filed)
    before = bureau.stored()
    again = bureau.run(client, filed, NATS_WAIT="1")
    assert (bureau.stored(), first.status) == (before, ACCEPTED)
    assert "stored before" in again.said
    assert (again.status, again.answer) == (ACCEPTED, first.answer), again


@every_client
def test_another_agencys_subject_takes_nothing(bureau: Publisher, client: str) -> None:
    before = bureau.stored()
    told = bureau.run(client, event(source=OTHER))
    assert (told.status, told.answer) == (NEVER, {}), told
    assert "is the code yours" in told.said
    assert bureau.stored() == before


@every_client
def test_a_misspelled_type_is_told_at_once(bureau: Publisher, client: str) -> None:
    told = bureau.run(client, {**event(), "type": "cn.gov.gz.sme.submission.field.v1"})
    assert (told.status, told.answer) == (NEVER, {}), told
    assert "is the type spelled so" in told.said


@every_client
def test_somebody_elses_code_under_ones_own_seed_is_refused(bureau: Publisher, client: str) -> None:
    """The subject is one's own and what is said in the event is not: the bus lets it in, and it has no effect."""
    filed = event()
    filed["data"]["filer"]["code"] = OTHER
    told = bureau.run(client, filed)
    assert told.status == REJECTED, told
    assert ("hard", "#/data/filer/code") in told.errors


@every_client
def test_a_seed_that_the_bus_does_not_know_is_told_at_once(
    bureau: Publisher, client: str, tmp_path: Path
) -> None:
    keep(tmp_path, [ME])
    told = bureau.run(client, event(), NATS_SEED=str(tmp_path / "seeds" / f"{ME}.nk"))
    assert (told.status, told.answer) == (NEVER, {}), told
    assert "authorization violation" in told.said.lower()


@every_client
def test_no_seed_at_all_is_told_at_once(bureau: Publisher, client: str) -> None:
    told = bureau.run(client, event(), NATS_SEED="")
    assert (told.status, told.answer) == (NEVER, {}), told
    assert "authorization violation" in told.said.lower()


@every_client
def test_a_server_of_another_authority_is_not_spoken_to(
    bureau: Publisher, client: str, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    told = bureau.run(client, event(), NATS_CA=str(tmp_path / "ca.pem"))
    assert (told.status, told.answer) == (NEVER, {}), told
    assert "certificate" in told.said.lower()


@every_client
@pytest.mark.parametrize("size", [2 * 1024 * 1024, 1024 * 1024 - 20], ids=["larger", "with its headers"])
def test_an_event_larger_than_the_bus_takes_is_told(bureau: Publisher, client: str, size: int) -> None:
    filed = event()
    filed["data"]["values"]["content"] = ""
    filed["data"]["values"]["content"] = "x" * (size - len(json.dumps(filed, ensure_ascii=False).encode()))
    before = bureau.stored()
    told = bureau.run(client, filed)
    assert (told.status, told.answer) == (NEVER, {}), told
    assert "payload" in told.said.lower()
    assert bureau.stored() == before


every_door = pytest.mark.parametrize("client", HTTP)


@every_door
def test_through_the_door_the_same_file_again_is_one_event(bureau: Publisher, client: str) -> None:
    filed = event()
    first = bureau.run(client, filed)
    before = bureau.stored()
    again = bureau.run(client, filed)
    assert (bureau.stored(), first.status) == (before, ACCEPTED), first
    assert re.search('"duplicate": ?true', again.said)
    assert (again.status, again.answer) == (ACCEPTED, first.answer), again


@every_door
@pytest.mark.parametrize("mistake", ["another agency", "no such type", "no zone", "too large", "token"])
def test_the_door_says_at_once_what_cannot_be_stored(
    bureau: Publisher, client: str, mistake: str, tmp_path: Path
) -> None:
    filed, more, wanted = (
        event(),
        {},
        {"another agency": "identity", "too large": "size"}.get(mistake, "validation"),
    )
    match mistake:
        case "another agency":
            filed = event(source=OTHER)
        case "no such type":
            filed["type"] = "cn.gov.gz.sme.submission.field.v1"
        case "no zone":
            filed["time"] = filed["time"][:19]
        case "too large":
            filed["data"]["values"]["content"] = "x" * 1024 * 1024
        case "token":
            (tmp_path / "token").write_text("x" * 43)
            more, wanted = {"DOOR_TOKEN": str(tmp_path / "token")}, "unauthenticated"
    before = bureau.stored()
    told = bureau.run(client, filed, **more)
    assert (told.status, told.answer) == (NEVER, {}), told
    assert f"urn:cn:gov:gz:sme:problem:{wanted}" in told.said
    assert bureau.stored() == before


def test_files_go_before_the_event_that_names_them(bureau: Publisher) -> None:
    book = bureau.folder / "附件3.xlsx"
    book.write_bytes(filled())
    scan = bureau.folder / "附件3盖章扫描件.pdf"
    scan.write_bytes(pdf(say="x" * 600_000))  # of two chunks
    package = json.loads((HERE / "package-filed.json").read_text())
    before = bureau.stored(FILE)
    told = bureau.run("nats.js", package, book, scan)
    assert told.status == ACCEPTED, told
    stored = bureau.stored(FILE)
    assert stored >= before + 3  # and a marked copy, which is ours
    again = bureau.run("nats.js", package, book, scan, NATS_WAIT="1")
    assert "stored before" in again.said
    assert (bureau.stored(FILE), again.answer) == (stored, told.answer)


def test_what_was_published_while_we_were_away_is_answered_when_we_are_back(bureau: Publisher) -> None:
    """Two publishers: one waits for us, the other goes away as well and asks later."""
    bureau.answers(bureau.folder / "last")
    stop(bureau.local)
    before = bureau.stored()
    clients = [client for client in BUS if client != "nats.js" or not missing()]
    clients += [client for client in HTTP if shutil.which(client)]
    filed = {client: event() for client in clients}
    waiting = {
        client: subprocess.Popen(
            bureau.command(client, filed[client]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=bureau.environment(),
        )
        for client in clients
    }
    gone = event()
    left = bureau.run("tcp", gone, NATS_WAIT="1")
    assert (left.status, left.answer) == (NOTHING, {}), left
    assert "run this again" in left.said
    wait_until(lambda: bureau.stored() == before + len(clients) + 1, 60, "all events on the bus")
    bureau.local.launch("intake")
    for client, process in waiting.items():
        told = Told.of(process.wait(60), *process.communicate())
        assert told.status == ACCEPTED, (client, told)
        assert told.event["data"]["accepted"] == filed[client]["id"]
    back = bureau.run("nats-py", gone)
    assert back.status == ACCEPTED, back
    assert back.answer["data"]["accepted"] == gone["id"]
    missed = bureau.answers(bureau.folder / "last")
    assert {a["data"].get("accepted") for a in missed} == {gone["id"], *(e["id"] for e in filed.values())}
    assert bureau.answers(bureau.folder / "last") == []


def test_simulate_plays_a_publisher_and_explains(bureau: Publisher) -> None:
    """With the seed of the agency alone, as in its own office."""
    ours = {"YIQI_NATS_URL": bureau.local.nats.url, "YIQI_NATS_CA": str(bureau.ca)}
    ours |= {"YIQI_NATS_SEED": str(bureau.local.seed(ME))}

    def simulate(*options: str) -> tuple[int, Any, str]:
        command = "from services.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", command, "publisher", "simulate", "--as", ME, *options],
            capture_output=True,
            text=True,
            timeout=60,
            env={**bureau.environment(), **ours, "PYTHONPATH": str(HERE.parents[1])},
            cwd=bureau.folder,
        )
        return done.returncode, json.loads(done.stdout) if "--json" in options else done.stdout, done.stderr

    status, told, said = simulate("--count", "2", "--json")
    assert status == 0, said
    assert [t["state"] for t in told] == ["accepted", "accepted"]
    status, told, said = simulate("--bad", "--json")
    assert status == 0, said
    assert {t["mistake"]: t["state"] for t in told} == dict.fromkeys(MISTAKES, "rejected")
    token = str(bureau.folder / "token")
    status, told, said = simulate("--door", bureau.door.url, "--token", token, "--json")
    assert (status, [t["state"] for t in told]) == (0, ["accepted"]), said
    status, told, said = simulate("--door", bureau.door.url, "--token", token, "--bad", "--json")
    assert (status, {t["state"] for t in told}) == (0, {"refused"}), said
    status, text, said = simulate("--bad", "--form", "F6")
    assert status == 0, said
    assert text.count("退回") == len(MISTAKES)
    assert "时间必须带时区" in text


def filled() -> bytes:
    """附件3 with one row."""
    form = load_all()["gz-collection-2025q1"].notice.by_form["F3"]
    values = event(activity_name="表格里的讲座")["data"]["values"]
    return xlsx({"附件3": [head(form), [1, *(values[column.key] for column in form.columns)]]})


def stop(local: Local) -> None:
    local.running["intake"].terminate()
    local.running["intake"].wait(20)
