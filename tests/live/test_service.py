"""A service as a process: it starts only on what it expects, says how it is, and ends by itself when it cannot work."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import nats.js.errors
import pytest
from nats.js import JetStreamContext

from services.cli.local import Local
from shared.contracts import registry
from shared.notices.directory import unlisted
from shared.runtime.accounts import OPERATOR, PROVISIONER
from shared.runtime.database import head
from shared.runtime.delivery import OFTEN
from shared.runtime.embedded import Nats, wait_until
from shared.runtime.settings import Settings
from shared.runtime.streams import CONSUMERS, DAYS, IN, OUT, STREAMS, Drift, aged, provision
from tests.chaos.places import ended

ROOT = Path(__file__).parents[2]
NAME = "intake"
SABOTAGED = {"PYTHONPATH": str(Path(__file__).parent / "sabotage")}
WHO = unlisted("进程测试机构").code


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """One service, with a watchdog that looks every second."""
    here = Local(
        tmp_path_factory.mktemp("service"),
        sync_always=False,
        mail=False,
        extra={"YIQI_WATCHDOG": "1"},
        services=(NAME,),
    )
    here.clock.write_text(str((datetime(2025, 3, 3, 2, 0, tzinfo=UTC) - datetime.now(UTC)).total_seconds()))
    with here:
        yield here


@pytest.fixture
def running(local: Local) -> Local:
    """The service up and ready, whatever the test before did to it."""
    if local.running[NAME].poll() is not None:
        local.launch(NAME)
    local.ready()
    return local


def log(local: Local) -> list[dict[str, Any]]:
    """What the last process of the service logged: one JSON object a line."""
    lines = (local.directory / f"{NAME}.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def filing(id_: str) -> bytes:
    contact = "李四 13912345678 li@private.example"
    event = {
        "specversion": "1.0",
        "id": id_,
        "source": f"urn:cn:gov:gz:{WHO}:oa",
        "type": registry.SUBMISSION_FILED.ce_type,
        "time": "2025-03-03T09:00:00+08:00",
        "data": {
            "notice": "gz-collection-2025q1",
            "form": "F3",
            "filer": {"code": WHO, "kind": "K6", "name": "进程测试机构", "email": "private@private.example"},
            "values": {
                "service_domain": "法律服务",
                "organizer": "某机构",
                "activity_name": f"讲座{id_}",
                "activity_time": "2025年6月10日",
                "venue": "线上",
                "content": "内容",
                "participants": "约100人",
                "contact": contact,
            },
        },
    }
    return json.dumps(event, ensure_ascii=False).encode()


@asynccontextmanager
async def jetstream(server: Nats) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(server.url)
    try:
        yield client.jetstream(timeout=5)
    finally:
        await client.close()


@asynccontextmanager
async def as_(local: Local, who: str) -> AsyncIterator[JetStreamContext]:
    client = await local.connect(who)
    try:
        yield client.jetstream(timeout=5)
    finally:
        await client.close()


async def publish(local: Local, ids: list[str]) -> None:
    async with as_(local, WHO) as js:
        for id_ in ids:
            await js.publish(registry.SUBMISSION_FILED.subject(WHO), filing(id_), stream=IN)


async def publish_raw(local: Local, subject: str, body: bytes) -> None:
    async with as_(local, WHO) as js:
        await js.publish(subject, body, stream=IN)


async def answers(local: Local) -> Counter[str]:
    """How often each event was answered."""
    async with as_(local, OPERATOR) as js:
        last = (await js.stream_info(OUT)).state.last_seq
        messages = [json.loads((await js.get_msg(OUT, seq)).data or b"") for seq in range(1, last + 1)]
    return Counter(m["data"]["accepted"] for m in messages if "accepted" in m["data"])


def answered(local: Local, ids: list[str]) -> bool:
    return set(ids) <= set(asyncio.run(answers(local)))


# --- pages -------------------------------------------------------------------------------------------


def test_health_and_metrics_answer(running: Local) -> None:
    asyncio.run(publish(running, ["metrics"]))
    wait_until(lambda: answered(running, ["metrics"]), 15, "the answer")
    assert running.page(NAME, "livez") == "ok\n"
    assert running.page(NAME, "readyz") == "ok\n"
    metrics = running.page(NAME, "metrics")
    assert 'yiqi_events_handled_total{event="submission.filed"}' in metrics
    assert 'yiqi_event_lag_seconds_bucket{consumer="intake-in"' in metrics
    assert WHO not in metrics
    assert {line["level"] for line in log(running)} <= {"INFO", "WARNING"}


def test_without_the_database_it_lives_and_is_not_ready(running: Local) -> None:
    running.postgres.kill()
    try:
        wait_until(lambda: running.page(NAME, "readyz") == "", 15, "not ready")
        assert running.page(NAME, "livez") == "ok\n"
        asyncio.run(publish(running, ["away"]))
    finally:
        running.postgres.start()
    wait_until(lambda: running.page(NAME, "readyz") == "ok\n", 15, "ready again")
    wait_until(lambda: answered(running, ["away"]), 15, "the answer")
    assert running.running[NAME].poll() is None


def test_an_older_schema_is_not_ready(running: Local) -> None:
    running.postgres.sql("update intake.alembic_version set version_num = '0000'", "yiqi")
    try:
        wait_until(lambda: running.page(NAME, "readyz") == "", 5, "not ready")
    finally:
        running.postgres.sql(f"update intake.alembic_version set version_num = '{head(NAME)}'", "yiqi")
    wait_until(lambda: running.page(NAME, "readyz") == "ok\n", 5, "ready again")


def test_a_later_schema_only_adds(running: Local) -> None:
    """Old processes must stay ready while new ones take their place, and come back when these are taken back."""
    running.postgres.sql("update intake.alembic_version set version_num = '9999'", "yiqi")
    try:
        assert running.page(NAME, "readyz") == "ok\n"
    finally:
        running.postgres.sql(f"update intake.alembic_version set version_num = '{head(NAME)}'", "yiqi")


# --- ending ------------------------------------------------------------------------------------------


def test_sigterm_ends_it_quickly_and_loses_nothing(running: Local) -> None:
    ids = [f"term-{n}" for n in range(200)]
    asyncio.run(publish(running, ids[:100]))
    process = running.running[NAME]
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    asyncio.run(publish(running, ids[100:]))
    assert process.wait(20) == 0
    assert time.monotonic() - asked < 15
    assert log(running)[-1]["message"] == "stopped"
    running.launch(NAME)
    running.ready()
    # Far less than ack_wait: it left nothing behind that the server thinks is being worked on.
    wait_until(lambda: answered(running, ids), 20, "every answer")
    counted = asyncio.run(answers(running))
    assert {id_: counted[id_] for id_ in ids} == dict.fromkeys(ids, 1)
    rows = running.postgres.sql(
        "select count(*), max(revision) from intake.submission where title like '讲座term%'", "yiqi"
    )
    assert rows.strip() == "200|1"


def test_a_lost_cancellation_does_not_keep_it(running: Local) -> None:
    ended = running.running[NAME]
    ended.send_signal(signal.SIGTERM)
    assert ended.wait(20) == 0
    known = running.extra
    running.extra = {**known, **SABOTAGED, "SABOTAGE": "deaf"}
    try:
        running.launch(NAME)
    finally:
        running.extra = known
    running.ready()
    deaf = running.running[NAME]
    deaf.send_signal(signal.SIGTERM)
    assert deaf.wait(20) == 0
    assert log(running)[-1]["message"] == "stopped"


async def _delete(local: Local) -> None:
    async with as_(local, PROVISIONER) as js:
        await js.delete_consumer(IN, "intake-in")


async def _make(local: Local) -> list[str]:
    async with as_(local, PROVISIONER) as js:
        return await provision(js)


def start_alone(local: Local) -> tuple[int, str]:
    """Start the service until it ends by itself."""
    before = (local.directory / f"{NAME}.log").stat().st_size
    local.launch(NAME)
    status = local.running[NAME].wait(30)
    with (local.directory / f"{NAME}.log").open() as file:
        file.seek(before)
        return status, file.read()


def test_a_deleted_consumer_ends_it_and_it_comes_back_only_when_provisioned(running: Local) -> None:
    before = asyncio.run(answers(running))
    asyncio.run(_delete(running))
    assert running.running[NAME].wait(30) == 1
    last = log(running)[-1]
    assert (last["level"], last["message"], last["consumer"]) == (
        "CRITICAL",
        "consumer is gone, exiting",
        "intake-in",
    )
    status, output = start_alone(running)
    assert status not in (0, -9)
    assert "consumer intake-in is missing: run `yiqi provision`" in output
    assert asyncio.run(_make(running)) == ["consumer intake-in"]
    running.launch(NAME)
    running.ready()
    # The new consumer delivers everything from the first message on: the inbox knows it all.
    asyncio.run(publish(running, ["after"]))
    wait_until(lambda: answered(running, ["after"]), 30, "the answer")
    assert asyncio.run(answers(running)) == before + Counter(["after"])


async def _change(local: Local, ack_wait: float, durable: str = "intake-in") -> None:
    (wanted,) = (c for c in CONSUMERS if c.durable == durable)
    async with as_(local, PROVISIONER) as js:
        await js.add_consumer(wanted.stream, wanted.config().evolve(ack_wait=ack_wait))


def test_a_changed_consumer_is_refused(running: Local) -> None:
    asyncio.run(_change(running, 5))
    try:
        running.running[NAME].send_signal(signal.SIGTERM)
        running.running[NAME].wait(20)
        status, output = start_alone(running)
        assert status not in (0, -9)
        assert "consumer intake-in: ack_wait: 5.0, should be 60" in output
        with pytest.raises(Drift, match="ack_wait"):
            asyncio.run(_make(running))
    finally:
        asyncio.run(_change(running, 60))


def test_tables_of_an_earlier_release_are_refused(running: Local) -> None:
    """A release is rolled out together with its migration, and may be the first: what comes meanwhile must wait, not fail."""
    running.running[NAME].send_signal(signal.SIGTERM)
    running.running[NAME].wait(20)
    wanted = head(NAME)
    version, dead = "update intake.alembic_version set version_num = '{}'", "select count(*) from intake.dead"
    before = running.postgres.sql(dead, "yiqi")
    running.postgres.sql(version.format("0000"), "yiqi")
    try:
        asyncio.run(publish(running, ["early"]))
        status, output = start_alone(running)
        assert status not in (0, -9)
        assert f"schema is 0000, should be {wanted}: run `yiqi provision`" in output
    finally:
        running.postgres.sql(version.format(wanted), "yiqi")
    assert running.postgres.sql(dead, "yiqi") == before
    running.launch(NAME)
    running.ready()
    wait_until(lambda: answered(running, ["early"]), 30, "the answer")


async def _hear(local: Local, *more: str) -> None:
    (wanted,) = (c for c in CONSUMERS if c.durable == "intake-in")
    subjects = [e.pattern for e in wanted.events]
    async with as_(local, PROVISIONER) as js:
        await js.add_consumer(IN, wanted.config().evolve(filter_subjects=[*subjects, *more]))


async def _unfinished(local: Local) -> tuple[int, int]:
    """How many messages are with a process, and how many deliveries there have been."""
    async with as_(local, OPERATOR) as js:
        info = await js.consumer_info(IN, "intake-in")
    return info.num_ack_pending or 0, info.delivered.consumer_seq if info.delivered else 0


def _dead(local: Local) -> str:
    return local.postgres.sql("select count(*) from intake.dead", "yiqi").strip()


def test_what_only_a_later_release_hears_waits_for_it(running: Local) -> None:
    """The consumer is widened while a process of this release runs, and while it starts: an event that it does not know
    is neither dead nor refused, and others pass."""
    buried = _dead(running)
    asyncio.run(_hear(running, registry.SCORE_GIVEN.pattern))
    try:
        asyncio.run(publish_raw(running, registry.SCORE_GIVEN.subject(WHO), b"of a later release"))
        asyncio.run(publish(running, ["beside"]))
        wait_until(lambda: answered(running, ["beside"]), 15, "the answer to another event")
        wait_until(lambda: asyncio.run(_unfinished(running))[0] == 1, 10, "the event to be kept")
        assert "of a later release" in [line["message"] for line in log(running)]
        running.running[NAME].send_signal(signal.SIGTERM)
        assert running.running[NAME].wait(20) == 0
        before = asyncio.run(_unfinished(running))[1]
        # Given back at once, not after ack_wait: whoever comes next has it, and starts on the wider consumer.
        running.launch(NAME)
        running.ready()
        wait_until(lambda: asyncio.run(_unfinished(running)) == (1, before + 1), 15, "the next process")
        assert _dead(running) == buried
    finally:
        asyncio.run(_hear(running))


def test_no_log_holds_what_was_filed(running: Local) -> None:
    before = _held(running)
    running.postgres.kill()
    try:
        asyncio.run(publish(running, ["private"]))
        wait_until(lambda: _held(running) > before + 2, 30, "lines of a filing that waits")
    finally:
        running.postgres.start()
    wait_until(lambda: answered(running, ["private"]), 30, "the answer")
    text = (running.directory / f"{NAME}.log").read_text()
    assert len(log(running)) > 3
    for private in ("13912345678", "li@private.example", "private@private.example", "李四"):
        assert private not in text


def test_everything_is_heard_again_and_done_once(running: Local) -> None:
    ids = [f"again-{n}" for n in range(5)]
    asyncio.run(publish(running, ids))
    wait_until(lambda: answered(running, ids), 20, "the answers")
    before, buried = asyncio.run(answers(running)), _dead(running)
    status, said = ended(running, "ops", "replay", NAME)
    assert (status, "加 --yes 才执行" in said) == (0, True)
    status, said = ended(running, "ops", "replay", NAME, "--yes")
    assert status == 0, said
    filed = int(re.findall(r"intake-in：(\d+)条将再投递", said)[0])
    assert filed >= 5
    # The consumer is a new one: what it has delivered is everything once more.
    wait_until(lambda: asyncio.run(_unfinished(running))[0] == 0, 20, "all of it to be heard")
    wait_until(lambda: asyncio.run(_unfinished(running))[1] >= filed, 20, "all of it to be delivered")
    if running.running[NAME].poll() is not None:  # it may have seen its consumer gone
        running.launch(NAME)
    running.ready()
    asyncio.run(publish(running, ["last"]))
    wait_until(lambda: answered(running, ["last"]), 30, "the answer")
    assert asyncio.run(answers(running)) == before + Counter(["last"])
    assert _dead(running) == buried
    status, said = ended(running, "ops", "replay", "mail", "--yes")
    assert status == 2


# --- what is held during an outage -------------------------------------------------------------------


async def _deliveries(local: Local) -> int:
    """How many times the server has sent any message to intake."""
    async with as_(local, PROVISIONER) as js:
        info = await js.consumer_info(IN, "intake-in")
    return info.delivered.consumer_seq if info.delivered else 0


def _held(local: Local) -> float:
    found = re.search(r"^yiqi_batches_held_total (\S+)", local.page(NAME, "metrics"), re.MULTILINE)
    return float(found[1]) if found else 0


@pytest.mark.parametrize("told", [True, False], ids=["told", "control: not told"])
def test_an_outage_spends_no_deliveries(tmp_path: Path, told: bool) -> None:
    """With an ack_wait of 3 s: what is worked on and what waits behind it is told to be in progress."""
    sabotage = {**SABOTAGED, "SABOTAGE": "hasten" if told else "hasten,idle"}
    ids = [f"outage-{n}" for n in range(30)]
    here = Local(tmp_path, sync_always=False, mail=False, extra=sabotage, services=(NAME,))
    with ExitStack() as stack:
        stack.callback(here.stop)
        here.infrastructure()
        for consumer in ("intake-in", "intake-evt", "intake-out"):
            asyncio.run(_change(here, 3, consumer))  # as `hasten` tells the service
        here.launch(NAME)
        here.ready()
        here.postgres.kill()
        asyncio.run(publish(here, ids))
        # Attempts come after 0.05, 0.1, 0.2 … s: the tenth more than three ack_waits later.
        wait_until(lambda: _held(here) >= 10, 60, "a long outage")
        spent = asyncio.run(_deliveries(here))
        here.postgres.start()
        wait_until(lambda: answered(here, ids), 30, "the answers")
        assert (spent == 30) is told
        assert asyncio.run(answers(here)) == Counter(ids)


@pytest.mark.parametrize("spent", [OFTEN - 1, 20], ids=["in time", "control: the bus has given it up"])
def test_what_was_delivered_too_often_is_taken_over(running: Local, spent: int) -> None:
    """A process that ends again and again spends the deliveries of all that it was given."""
    id_ = f"often-{spent}"
    running.running[NAME].send_signal(signal.SIGTERM)
    assert running.running[NAME].wait(20) == 0
    asyncio.run(publish(running, [id_]))
    asyncio.run(_spend(running, spent))
    running.launch(NAME)
    running.ready()
    asyncio.run(publish(running, [f"after-{spent}"]))
    wait_until(lambda: answered(running, [f"after-{spent}"]), 30, "the one behind it")
    taken = "select count(*) from intake.dead where code = 'taken' and state = 'replayed'"
    if spent < 20:
        wait_until(lambda: answered(running, [id_]), 30, "its answer")
        wait_until(lambda: running.postgres.sql(taken, "yiqi").strip() == "1", 30, "its row to say so")
    counted = asyncio.run(answers(running))
    assert counted[id_] == (1 if spent < 20 else 0)


async def _spend(local: Local, times: int) -> None:
    """As processes do that end with it in hand."""
    async with as_(local, NAME) as js:
        reader = await js.pull_subscribe_bind("intake-in", stream=IN)
        for _ in range(times):
            (message,) = await reader.fetch(1, timeout=5)
            await message.nak()
        await reader.unsubscribe()


# --- provisioning ------------------------------------------------------------------------------------


@asynccontextmanager
async def nothing_there(server: Nats) -> AsyncIterator[JetStreamContext]:
    async with jetstream(server) as js:
        with suppress(nats.js.errors.NotFoundError):
            for info in await js.streams_info():
                await js.delete_stream(str(info.config.name))
        yield js


async def test_check_makes_nothing_and_names_everything_missing(nats_server: Nats) -> None:
    async with nothing_there(nats_server) as js:
        with pytest.raises(Drift) as missing:
            await provision(js, check=True)
        assert str(missing.value).splitlines() == [
            *(f"stream {s.name}: missing" for s in STREAMS),
            *(f"consumer {c.durable}: missing" for c in CONSUMERS),
            "bucket CATALOGUES: missing",
        ]
        assert (await js.account_info()).streams == 0
        made = await provision(js)
        assert len(made) == len(STREAMS) + len(CONSUMERS) + 1
        assert await provision(js) == []
        assert await provision(js, check=True) == []


async def test_provisioning_refuses_what_differs_and_changes_nothing(nats_server: Nats) -> None:
    async with nothing_there(nats_server) as js:
        await provision(js)
        (wanted,) = (s for s in aged(DAYS) if s.name == OUT)
        await js.update_stream(wanted.evolve(max_bytes=1_000_000_000, duplicate_window=60))
        with pytest.raises(Drift) as drift:
            await provision(js)
        assert str(drift.value).splitlines() == [
            "stream SME_OUT: max_bytes: 1000000000, should be 2147483648",
            "stream SME_OUT: duplicate_window: 60.0, should be 7200",
        ]
        assert (await js.stream_info(OUT)).config.max_bytes == 1_000_000_000


async def test_an_event_that_is_new_finds_room_in_a_stream_of_before(nats_server: Nats) -> None:
    async with nothing_there(nats_server) as js:
        (wanted,) = (s for s in aged(DAYS) if s.name == IN)
        assert wanted.subjects
        await js.add_stream(wanted.evolve(subjects=wanted.subjects[:-1]))
        await js.publish(wanted.subjects[0].replace("*", "440106"), b"x")
        with pytest.raises(Drift, match="stream SME_IN: subjects"):
            await provision(js, check=True)
        assert "stream SME_IN takes more events" in await provision(js)
        assert await provision(js, check=True) == []
        assert (await js.stream_info(IN)).state.messages == 1
        # A subject that we do not know, or anything besides, is for a person to decide.
        for other in (
            {"subjects": [*wanted.subjects[:-1], "sme.in.v1.*.other"]},
            {"subjects": wanted.subjects[:-1], "max_bytes": 10**9},
        ):
            await js.update_stream(wanted.evolve(**other))
            with pytest.raises(Drift):
                await provision(js)


async def test_a_consumer_of_before_hears_what_is_new(nats_server: Nats) -> None:
    async with nothing_there(nats_server) as js:
        await provision(js)
        (wanted,) = (c for c in CONSUMERS if c.durable == "notify-evt")
        hears = wanted.config().filter_subjects or []
        await js.publish(hears[0].replace("*", "440106"), b"x")
        await js.add_consumer(wanted.stream, wanted.config().evolve(filter_subjects=hears[:-1]))
        with pytest.raises(Drift, match="consumer notify-evt: filter_subjects"):
            await provision(js, check=True)
        assert await provision(js) == ["consumer notify-evt hears more events"]
        assert await provision(js, check=True) == []
        assert (await js.consumer_info(wanted.stream, wanted.durable)).num_pending == 1
        # One that hears what we do not know, or differs besides, is for a person to decide.
        for other in (
            {"filter_subjects": [*hears, "sme.evt.v1.x.y.*"]},
            {"filter_subjects": hears[:1], "ack_wait": 5},
        ):
            await js.add_consumer(wanted.stream, wanted.config().evolve(**other))
            with pytest.raises(Drift):
                await provision(js)


def test_the_command_refuses_with_status_1(running: Local) -> None:
    command = [sys.executable, "-c", "from services.cli import main; main()", "provision", "--check"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YIQI_")} | running.environment
    good = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert good.returncode == 0, good.stderr
    asyncio.run(_change(running, 5))
    try:
        bad = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    finally:
        asyncio.run(_change(running, 60))
    assert bad.returncode == 1
    assert "intake-in: ack_wait: 5.0, should be 60" in bad.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("YIQI_SMTP_PORT", "many"), ("YIQI_SMTP_SECURITY", "none"), ("YIQI_BATCH", "")]
)
def test_an_ill_typed_setting_ends_the_start(name: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.run", NAME],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, name: value},
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert name.removeprefix("YIQI_").lower() in done.stderr


def test_no_setting_is_read_from_a_file_of_the_working_directory() -> None:
    """An `.env` lying about would change a service without a trace."""
    assert Settings.model_config["env_file"] is None
