"""An event of a version that only a later release knows: kept by this one, handled by the next, once, and as of when it
was received; both side by side.

How it is told from a fault is in `tests/unit/test_versions.py`.
"""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from nats.js import JetStreamContext

from services.cli.local import Local
from shared.contracts import registry
from shared.contracts.problem import problem
from shared.notices.directory import unlisted
from shared.runtime.accounts import OPERATOR
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx
from shared.runtime.embedded import Nats, Postgres, wait_until
from shared.runtime.streams import EVT, IN, OUT
from tests.chaos.places import ended
from tests.live.test_delivery import effect, fresh, raw, wire

SABOTAGE = str(Path(__file__).parent / "sabotage")
WHO = unlisted("版本测试机构").code
FILED = registry.SUBMISSION_FILED
DURING = datetime(2025, 3, 3, 2, 0, tzinfo=UTC)


class Releases(Local):
    """`intake` is of this release, `intake-2` of the next."""

    old = ""

    def spawn(self, name: str, environment: Mapping[str, str]) -> Any:
        change = "later" if name.endswith("-2") else self.old
        return super().spawn(name, {**environment, "PYTHONPATH": SABOTAGE, "SABOTAGE": change})

    def begin(self, name: str) -> None:
        self.launch(name)
        wait_until(lambda: self._is_ready(name), 60, f"{name} to be ready")

    def end(self, name: str) -> None:
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Releases]:
    here = Releases(
        tmp_path_factory.mktemp("releases"), sync_always=False, mail=False, services=("intake",), processes=2
    )
    here.clock.write_text(str((DURING - datetime.now(UTC)).total_seconds()))
    try:
        here.infrastructure()
        yield here
    finally:
        here.stop()


@pytest.fixture
def releases(place: Releases) -> Iterator[Releases]:
    """Nobody runs yet."""
    place.old = ""
    yield place
    for name in list(place.running):
        place.end(name)


def filing(id_: str, major: int) -> dict[str, Any]:
    data = {
        "notice": "gz-collection-2025q1",
        "form": "F3",
        "filer": {"code": WHO, "kind": "K6", "name": "版本测试机构"},
        "values": {
            "service_domain": "法律服务",
            "organizer": "某机构",
            "activity_name": f"讲座{id_}",
            "activity_time": "2025年6月10日",
            "venue": "线上",
            "content": "内容",
            "participants": "约100人",
            "contact": "李四 020-83726619",
        },
        **({"channel": "oa"} if major > 1 else {}),
    }
    return {
        "specversion": "1.0",
        "id": id_,
        "source": f"urn:cn:gov:gz:{WHO}:oa",
        "type": f"cn.gov.gz.sme.submission.filed.v{major}",
        "time": "2025-03-03T09:00:00+08:00",
        "data": data,
    }


@asynccontextmanager
async def bus(local: Local, who: str) -> AsyncIterator[JetStreamContext]:
    client = await local.connect(who)
    try:
        yield client.jetstream(timeout=5)
    finally:
        await client.close()


def publish(local: Local, *events: dict[str, Any]) -> list[int]:
    """Without `Nats-Msg-Id`, so that a repeated one is stored again."""

    async def said() -> list[int]:
        async with bus(local, WHO) as js:
            return [
                (await js.publish(FILED.subject(WHO), json.dumps(e).encode(), stream=IN)).seq for e in events
            ]

    return asyncio.run(said())


@dataclass
class Told:
    """What was said about some events: to their publisher, and to review."""

    answers: dict[str, list[str]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    opened: Counter[str] = field(default_factory=Counter)
    received: dict[str, datetime] = field(default_factory=dict)


def told(local: Local, ids: Sequence[str]) -> Told:
    async def read() -> Told:
        found = Told(answers={id_: [] for id_ in ids})
        async with bus(local, OPERATOR) as js:
            for name in (OUT, EVT):
                last = (await js.stream_info(name)).state.last_seq
                for seq in range(1, last + 1):
                    event = json.loads((await js.get_msg(name, seq)).data or b"")
                    data, fact = event["data"], event["type"].split(".")[-2]
                    if name == EVT:
                        title = data.get("title", "").removeprefix("讲座")
                        found.opened[title] += 1
                        found.received[title] = datetime.fromisoformat(data["received"])
                        continue
                    about = data.get("accepted") or data.get("kept") or data["rejected"]["id"]
                    if about in found.answers:
                        found.answers[about].append(fact)
                        found.events.append(event)
        return found

    return asyncio.run(read())


def when(local: Local, ids: Sequence[str], *answers: str) -> Told:
    """What was said once each event has exactly these answers."""
    expected = {id_: list(answers) for id_ in ids}
    wait_until(lambda: told(local, ids).answers == expected, 30, f"{answers} of {len(ids)} events")
    return told(local, ids)


def rows(local: Local, after: int = 0) -> list[str]:
    """In which state each dead row is."""
    return local.postgres.sql(f"select state from intake.dead where n > {after} order by n", "yiqi").split()


def last(local: Local) -> int:
    return int(local.postgres.sql("select coalesce(max(n), 0) from intake.dead", "yiqi"))


def new(count: int = 1) -> list[str]:
    return [str(uuid4()) for _ in range(count)]


def test_a_later_version_is_kept_and_handled_after_the_upgrade(releases: Releases) -> None:
    ids, before = new(), last(releases)
    releases.begin("intake")
    (seq,) = publish(releases, filing(ids[0], 2))
    kept = when(releases, ids, "kept")
    (event,) = kept.events
    assert event["data"]["type"] == "cn.gov.gz.sme.submission.filed.v2"
    assert event["causationid"] == ids[0]
    assert kept.opened[ids[0]] == 0
    status, said = ended(releases, "dead", "list", "--json")
    (row,) = json.loads(said)
    assert (status, row["code"], row["why"]) == (0, "later", "cn.gov.gz.sme.submission.filed.v2")
    # A person's impatience changes nothing: this release does not know it.
    assert ended(releases, "dead", "replay", "intake", str(last(releases)))[0] == 0
    wait_until(lambda: rows(releases, before) == ["replayed", "dead"], 15, "one row again")
    releases.end("intake")

    releases.begin("intake-2")
    done = when(releases, ids, "kept", "accepted")
    assert done.opened[ids[0]] == 1
    wait_until(lambda: rows(releases, before) == ["replayed"] * 2, 15, "the row")

    async def stored() -> datetime | None:
        async with bus(releases, OPERATOR) as js:
            return (await js.get_msg(IN, seq)).time

    at = asyncio.run(stored())
    assert at is not None
    offset = float(releases.clock.read_text())
    assert abs(done.received[ids[0]].timestamp() - at.timestamp() - offset) < 0.001

    # Again under the same id, now that it is known: nothing new.
    publish(releases, filing(ids[0], 2), filing(ids[0] + "-after", 2))
    when(releases, [ids[0] + "-after"], "accepted")
    again = told(releases, ids)
    assert (again.answers[ids[0]], again.opened[ids[0]]) == (["kept", "accepted"], 1)


def test_both_releases_side_by_side(releases: Releases) -> None:
    """Whichever gets an event, of whichever version: one effect, and nothing refused."""
    releases.begin("intake")
    releases.begin("intake-2")
    # What the old one keeps comes while the new one already runs.
    for _ in range(20):
        first, second = new(10), new(10)
        events = [filing(i, 1) for i in first] + [filing(i, 2) for i in second]
        for event in events[::2] + events[1::2]:
            publish(releases, event)
        wait_until(
            lambda first=first, second=second: all(  # type: ignore[misc]
                "accepted" in said for said in told(releases, [*first, *second]).answers.values()
            ),
            30,
            "every answer",
        )
        found = told(releases, [*first, *second])
        assert {found.opened[i] for i in [*first, *second]} == {1}
        assert [found.answers[i] for i in first] == [["accepted"]] * 10
        assert {tuple(found.answers[i]) for i in second} <= {("accepted",), ("kept", "accepted")}
        if any("kept" in found.answers[i] for i in second):
            return
    pytest.fail("the old one has never had one of them")


def test_control_without_keeping_the_event_is_refused_and_lost(releases: Releases) -> None:
    releases.old = "strict"
    ids = new()
    releases.begin("intake")
    publish(releases, filing(ids[0], 2))
    when(releases, ids, "rejected")
    releases.end("intake")
    releases.begin("intake-2")
    publish(releases, filing(ids[0] + "-after", 2))
    when(releases, [ids[0] + "-after"], "accepted")
    assert told(releases, ids).opened[ids[0]] == 0


def test_who_was_told_that_it_is_kept_is_told_when_it_is_discarded(releases: Releases) -> None:
    ids = new()
    releases.begin("intake")
    publish(releases, filing(ids[0], 7))
    when(releases, ids, "kept")
    assert ended(releases, "dead", "discard", "intake", str(last(releases)))[0] == 0
    done = when(releases, ids, "kept", "rejected")
    (_, event) = done.events
    assert event["data"]["type"] == "urn:cn:gov:gz:sme:problem:unsupported"
    assert event["data"]["rejected"]["type"] == "cn.gov.gz.sme.submission.filed.v7"
    wait_until(lambda: rows(releases)[-1] == "discarded", 10, "the row")


async def test_a_replayed_event_that_speaks_of_the_unknown_waits(
    nats_server: Nats, postgres: Postgres, database: str
) -> None:
    """It has no deliveries left that could bring it again: its row keeps it until what it speaks of has come."""
    async with fresh(nats_server, postgres, database) as world:
        known = False

        async def speaking(tx: Tx, items: Sequence[Item]) -> None:
            for item in items:
                if known:
                    await effect(tx, [item])
                else:
                    tx.wait(item, problem("case", "没有这个项目", "请核对", status=404))

        delivery = await world.delivery(speaking)
        one = raw(wire("early"), 1)
        await world.rows(
            "insert into probe.dead (stream, seq, subject, headers, body, received, code, why, state) values "
            f"('{one.stream}', 1, '{one.subject}', '{{}}', convert_to('{one.body.decode()}', 'UTF8'), now(), 'internal', "
            "'', 'replay') returning n"
        )
        for _ in range(3):
            await delivery.replay()
        assert await world.dead() == [(1, "internal", "replay")]
        known = True
        await delivery.replay()
        assert await world.dead() == [(1, "internal", "replayed")]
        assert await world.effects() == ["early"]
