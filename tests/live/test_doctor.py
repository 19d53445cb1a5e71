"""`yiqi ops doctor` finds every fault that it is there for: each is made for real, found, and gone when it is mended.

That its commands exist is in `tests/deploy/test_pages.py`.
"""

import asyncio
import gc
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nkeys
import pytest
import trustme
from aiosmtpd.smtp import AuthResult
from nats.js import JetStreamContext

from services.cli.local import Local
from shared.runtime.accounts import PROVISIONER
from shared.runtime.embedded import Nats, _Controller, free_port, wait_until
from shared.runtime.streams import CONSUMERS, OUT
from tests.bench.work import filings
from tests.chaos.places import ended
from tests.chaos.process import Nursed

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of `abandoned`
]


@pytest.fixture(autouse=True)
def abandoned() -> Iterator[None]:
    """A client of nats-py leaves a connection to the collector for each server that does not let it in: here they are
    collected, and not in the test of somebody else."""
    yield
    gc.collect()


@dataclass
class Seen:
    status: int
    checks: list[dict[str, str]]

    def of(self, check: str) -> tuple[str, str]:
        """The worst state of a check, and all that it says."""
        found = [c for c in self.checks if c["check"] == check]
        assert found, f"no line of {check}"
        order = ("good", "attention", "fault")
        return max((c["state"] for c in found), key=order.index), "\n".join(
            f"{c['what']} → {c['do']}" for c in found
        )

    @property
    def wrong(self) -> dict[str, str]:
        return {c["check"]: c["what"] for c in self.checks if c["state"] != "good"}


def doctor(place: Local, *arguments: str, **extra: str) -> Seen:
    known = place.extra
    place.extra = {**known, **{f"YIQI_{name}": value for name, value in extra.items()}}
    try:
        status, said = ended(place, "ops", "doctor", "--json", *arguments)
    finally:
        place.extra = known
    told = json.loads(said)
    assert status == ("good", "attention", "fault").index(told["state"])
    return Seen(status, told["checks"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """All four services, the mail catcher as relay; today, in a year whose arrangement is known."""
    here = Nursed(tmp_path_factory.mktemp("doctor"), sync_always=True)
    here.nats.monitoring = True
    here.nats.limits = "max_file_store: 100GB"
    here.extra = {"YIQI_SMTP_PORT": str(here.mails.port)}
    with here:
        written = "select count(*) from review.head"  # once a day, by review
        wait_until(lambda: here.postgres.sql(written, "yiqi").strip() == "1", 30, "the head")
        yield here


@asynccontextmanager
async def provisioner(place: Local) -> AsyncIterator[JetStreamContext]:
    client = await place.connect(PROVISIONER)
    try:
        yield client.jetstream(timeout=5)
    finally:
        await client.close()


@contextmanager
def altered(place: Local, there: str, back: str) -> Iterator[None]:
    place.postgres.sql(there, "yiqi")
    try:
        yield
    finally:
        place.postgres.sql(back, "yiqi")


# --- well ----------------------------------------------------------------------------------------------


def test_well(place: Local) -> None:
    """Nothing is said of a system that is well but that agencies of the directory have no address."""
    seen = doctor(place, "--monitor", place.nats.monitoring_url)
    # Of a year that is not arranged yet nobody is to blame but the calendar.
    wrong = {check: what for check, what in seen.wrong.items() if "放假安排" not in what}
    assert wrong == {}
    assert {c["check"] for c in seen.checks} == {
        "notices", "agencies", "letters", "calendar", "keys", "smtp",
        "nats", "jetstream", "streams", "replicas", "limits", "clock", "lag", "monitor",
        "database", "schema", "database_clock", "outbox", "dead", "queue", "people", "stages", "audit",
    }  # fmt: skip
    assert place.mails.messages() == []


def test_for_people_a_line_a_check(place: Local) -> None:
    status, said = ended(place, "ops", "doctor", "--replicas", "3")
    assert status == 2
    lines = said.splitlines()
    assert "正常  PostgreSQL：18" in said
    assert "故障  流和消费者：stream SME_IN: num_replicas: 1, should be 3 → yiqi provision --check" in lines
    assert lines[-1].endswith("总体：故障")


# --- NATS ----------------------------------------------------------------------------------------------


def test_nats_away_and_somebody_it_does_not_know(place: Local, tmp_path: Path) -> None:
    away = doctor(place, NATS_URL="nats://127.0.0.1:1")
    assert away.of("nats")[0] == "fault"
    assert "没有连上" in away.of("nats")[1]
    assert away.of("database")[0] == "good"  # one fault hides no other
    stranger = tmp_path / "seeds"
    stranger.mkdir()
    seed = stranger / "operator.nk"
    seed.touch(mode=0o600)
    seed.write_bytes(nkeys.encode_seed(b"7" * 32, nkeys.PREFIX_BYTE_USER))
    refused = doctor(place, NATS_SEEDS=str(stranger))
    assert refused.of("nats")[0] == "fault"
    assert "不认识这个身份" in refused.of("nats")[1]


def test_without_jetstream_and_with_the_default_sync(place: Local, tmp_path: Path) -> None:
    class Bare(Nats):
        def _prepare(self) -> None:
            (self.directory / "nats.conf").write_text(f"listen: 127.0.0.1:{self.port}\n")

    with Bare(tmp_path / "bare") as bare:
        seen = doctor(place, NATS_URL=bare.url, NATS_SEEDS=str(tmp_path))
        assert seen.of("jetstream")[0] == "fault"
    with Nats(tmp_path / "lax", sync_always=False, monitoring=True) as lax:
        seen = doctor(place, "--monitor", lax.monitoring_url, "--monitor", "http://127.0.0.1:1")
        assert "sync_interval 不是 always" in seen.of("monitor")[1]
        assert "没有连上" in seen.of("monitor")[1]


async def _consumer(place: Local, durable: str, **more: Any) -> None:
    (wanted,) = (c for c in CONSUMERS if c.durable == durable)
    async with provisioner(place) as js:
        await js.add_consumer(wanted.stream, wanted.config().evolve(**more))


def test_a_changed_consumer(place: Local) -> None:
    asyncio.run(_consumer(place, "export-in", max_ack_pending=7))
    try:
        assert doctor(place).of("streams") == (
            "fault",
            "consumer export-in: max_ack_pending: 7, should be 4000 → yiqi provision --check",
        )
    finally:
        asyncio.run(_consumer(place, "export-in"))
    assert doctor(place).of("streams")[0] == "good"


def test_a_stream_that_is_nearly_full(place: Local) -> None:
    async def most(size: int) -> None:
        async with provisioner(place) as js:
            found = (await js.stream_info(OUT)).config
            await js.update_stream(found.evolve(max_bytes=size))

    async def fill() -> None:
        client = await place.connect("review")
        try:
            for n in range(2):
                body = b"x" * 400_000
                await client.jetstream().publish(
                    "sme.out.v1.440106.event.accepted", body, headers={"Nats-Msg-Id": f"f{n}"}
                )
        finally:
            await client.close()

    asyncio.run(fill())
    asyncio.run(most(1_000_000))
    try:
        state, said = doctor(place).of("limits")
        assert state == "attention"
        assert "流 SME_OUT已用8" in said
        asyncio.run(most(810_000))
        state, said = doctor(place).of("limits")
        assert state == "fault"
        assert "yiqi provision --only bus --room SME_OUT=1" in said
        # What it says helps, and more room than the code gives is no drift.
        command = ("provision", "--only", "bus", "--room")
        assert ended(place, *command, "SME_OUT=3")[0] == 0
        seen = doctor(place)
        assert (seen.of("limits")[0], seen.of("streams")[0]) == ("good", "good")
        assert ended(place, "provision", "--check")[0] == 0
        status, said = ended(place, *command, "SME_OUT=500")
        assert (status, "insufficient storage" in said) == (1, True), said
        assert ended(place, *command, "SME_OUT=much")[0] == 2
    finally:
        asyncio.run(most(2 * 1024**3))


def test_nobody_reads(place: Local) -> None:
    process = place.running.pop("export")
    process.terminate()
    process.wait()
    try:
        state, said = doctor(place).of("lag")
        assert state == "fault"
        assert "export-evt 没有进程在读" in said
        assert "intake" not in said
    finally:
        place.launch("export")
        place.ready()
    wait_until(lambda: doctor(place).of("lag")[0] == "good", 20, "export to listen")


# --- clocks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "state"), [("0.4", "good"), ("3", "attention"), ("-20", "fault")])
def test_clocks_that_differ(place: Local, tmp_path: Path, seconds: str, state: str) -> None:
    clock = tmp_path / "clock"
    clock.write_text(seconds)
    known, place.clock = place.clock, clock
    try:
        seen = doctor(place)
    finally:
        place.clock = known
    for check in ("clock", "database_clock"):
        assert seen.of(check)[0] == state
        assert ("YIQI_CLOCK" in seen.of(check)[1]) is (state != "good")


# --- PostgreSQL ----------------------------------------------------------------------------------------


def test_the_database_away(place: Local) -> None:
    away = doctor(place, DATABASE_URL="postgresql://yiqi@127.0.0.1:1/yiqi")
    assert away.of("database")[0] == "fault"
    assert away.of("nats")[0] == "good"


@pytest.mark.parametrize(
    ("found", "state"), [("0001", "fault"), ("9999", "attention")], ids=["older", "newer"]
)
def test_a_schema_of_another_release(place: Local, found: str, state: str) -> None:
    was = place.postgres.sql("select version_num from notify.alembic_version", "yiqi").strip()
    with altered(
        place,
        f"update notify.alembic_version set version_num = '{found}'",
        f"update notify.alembic_version set version_num = '{was}'",
    ):
        assert doctor(place).of("schema")[0] == state


def test_who_may_not_look_is_told(place: Local) -> None:
    with altered(place, "create role peeper login password 'x'", "drop role peeper"):
        seen = doctor(place, DATABASE_URL=place.postgres.dsn("yiqi", "peeper", "x"))
        assert "无权查看" in seen.of("dead")[1]


def test_a_database_that_only_reads(place: Local) -> None:
    with altered(
        place,
        "alter database yiqi set default_transaction_read_only = on",
        "set default_transaction_read_only = off; alter database yiqi reset default_transaction_read_only",
    ):
        assert "只读" in doctor(place).of("database")[1]


DEAD = (
    "insert into intake.dead (stream, seq, subject, headers, body, received, code, why, at) values "
    "('SME_IN', 1, 'sme.in.v1.440106.submission.filed', '{{}}', 'secret 13912345678', now(), 'schema', 'x', now() - interval '{}')"
)


@pytest.mark.parametrize(("age", "state"), [("5 minutes", "attention"), ("2 hours", "fault")])
def test_dead_messages(place: Local, age: str, state: str) -> None:
    with altered(place, "delete from intake.dead; " + DEAD.format(age), "delete from intake.dead"):
        found, said = doctor(place).of("dead")
    assert found == state
    assert "intake 1条" in said
    assert "yiqi dead list" in said
    assert "13912345678" not in said


@pytest.mark.parametrize(("age", "state"), [("5 minutes", "attention"), ("1 hour", "fault")])
def test_an_event_that_the_bus_does_not_take(place: Local, age: str, state: str) -> None:
    row = (
        "insert into export.outbox (id, stream, subject, body, at) values "
        f"(gen_random_uuid(), 'SME_EVT', 'sme.evt.v9.nowhere', '{{}}', now() - interval '{age}')"
    )
    with altered(place, row, "delete from export.outbox"):
        found, said = doctor(place).of("outbox")
    assert found == state
    assert "export 1条" in said


MAIL = (
    "insert into notify.mail (id, key, letter, to_code, to_name, state, params, attachments, not_before, owed_at, settled_at) "
    "values (gen_random_uuid(), '{0}', 'accepted', '440106', 'x', '{0}', '{{}}', '[]', {1}, now() - interval '2 days', now())"
)


def test_mails_that_wait_for_a_person(place: Local) -> None:
    rows = "; ".join(MAIL.format(state, "now()") for state in ("unknown", "held", "failed"))
    with altered(place, rows, "delete from notify.mail"):
        state, said = doctor(place).of("people")
    assert state == "attention"
    assert "是否送达不明的邮件：1" in said
    assert "→ yiqi mail list --state unknown" in said
    assert "留存超过一天的邮件：1" in said
    assert "发送失败的邮件：1" in said


async def _file(place: Local) -> None:
    """Long after its round: refused, and its filer is written to at once."""
    filed = list(filings(2, "doctor"))[1]  # the first is of a listed agency
    client = await place.connect(filed.subject.split(".")[3])
    try:
        await client.jetstream().publish(filed.subject, filed.body, stream="SME_IN")
    finally:
        await client.close()


def test_mails_that_do_not_leave(place: Local) -> None:
    """Because the relay is away, and then because notify is."""
    tried = "select coalesce(max(attempt), 0) from notify.mail where state = 'queued'"
    place.mails.stop()
    try:
        asyncio.run(_file(place))
        wait_until(lambda: int(place.postgres.sql(tried, "yiqi")) > 0, 30, "an attempt")
        place.postgres.sql("update notify.mail set owed_at = now() - interval '2 hours'", "yiqi")
        seen = doctor(place)
        process = place.running.pop("notify")
        process.terminate()
        process.wait()
        place.postgres.sql("update notify.mail set not_before = now() - interval '3 hours'", "yiqi")
        late = doctor(place).of("queue")
    finally:
        place.postgres.sql("delete from notify.mail", "yiqi")
        place.mails.start()
        place.launch("notify")
        place.ready()
    assert seen.of("smtp")[0] == "fault"
    assert seen.of("queue")[0] == "attention"
    assert late[0] == "fault"
    assert "1封早该发出" in late[1]


def test_a_case_whose_notice_is_gone(place: Local) -> None:
    row = (
        "set session_replication_role = replica; "
        'insert into review."case" ("case", number, notice, form, stage, version, revision, filer, unit, district, '
        "item_kind, title, values, findings, late, filed, entered, provisional) values (gen_random_uuid(), 'F0-0', "
        "'{0}', 'F0', '{1}', 1, 1, '{{}}', 'u', 'd', 'x', 't', '{{}}', '[]', false, now(), now(), false)"
    )
    gone = 'set session_replication_role = replica; delete from review."case"'
    for notice, stage in (("gone-2020", "x"), ("gz-collection-2025q1", "no-such-stage")):
        with altered(place, row.format(notice, stage), gone):
            state, said = doctor(place).of("stages")
        assert state == "fault"
        assert f"{notice} {stage}：1个" in said


def test_a_head_of_long_ago(place: Local) -> None:
    with altered(
        place,
        "update review.head set day = day - 9",
        "update review.head set day = day + 9",
    ):
        assert doctor(place).of("audit")[0] == "attention"


# --- files ---------------------------------------------------------------------------------------------


def test_what_is_mounted_and_broken(place: Local, tmp_path: Path) -> None:
    for name in ("notices", "agencies", "letters", "calendars"):
        (tmp_path / name).mkdir()
    (tmp_path / "notices/mine.yaml").write_text("id: mine\n")
    (tmp_path / "agencies/mine.yaml").write_text("agencies: [{code: 1}]\n")
    (tmp_path / "letters/returned").mkdir()
    (tmp_path / "letters/returned/subject.txt").write_text("{{ no_such_value }}\n")
    (tmp_path / "calendars/2026.json").write_text("{}")
    broken = {
        "notices": doctor(place, NOTICES=str(tmp_path / "notices")),
        "agencies": doctor(place, AGENCIES=str(tmp_path / "agencies")),
        "letters": doctor(place, LETTERS=str(tmp_path / "letters")),
        "calendar": doctor(place, CALENDARS=str(tmp_path / "calendars")),
    }
    assert {check: seen.of(check)[0] for check, seen in broken.items()} == dict.fromkeys(broken, "fault")
    assert "subject.txt" in broken["letters"].of("letters")[1]


def test_a_year_without_its_arrangement(place: Local, tmp_path: Path) -> None:
    """By the clock of the services, which is moved to a year that nobody has arranged."""
    clock = tmp_path / "clock"
    clock.write_text(str(timedelta(days=20 * 365).total_seconds()))
    known, place.clock = place.clock, clock
    try:
        state, said = doctor(place).of("calendar")
    finally:
        place.clock = known
    assert state == "fault"
    assert "放假安排" in said


def test_certificates_and_seeds(place: Local, tmp_path: Path) -> None:
    ca = trustme.CA()
    now = datetime.now(UTC)
    files = {}
    for name, until in (("good", 400), ("soon", 10), ("over", -1)):
        made = ca.issue_cert(
            "client", not_before=now - timedelta(days=30), not_after=now + timedelta(days=until)
        )
        files[name] = tmp_path / f"{name}.pem"
        made.cert_chain_pems[0].write_to_path(str(files[name]))
    told = {name: doctor(place, NATS_CERT=str(path)).of("keys") for name, path in files.items()}
    assert {name: state for name, (state, _) in told.items()} == {
        "good": "good",
        "soon": "attention",
        "over": "fault",
    }
    assert "到期" in told["soon"][1]
    assert doctor(place, NATS_CERT=str(tmp_path / "none.pem")).of("keys")[0] == "fault"
    seed = tmp_path / "seed.nk"
    seed.write_text("x")
    seed.chmod(0o644)
    assert "谁都能读" in doctor(place, NATS_SEED=str(seed)).of("keys")[1]


# --- the relay -----------------------------------------------------------------------------------------


@contextmanager
def relay(ca: trustme.CA, days: float, password: str) -> Iterator[int]:
    """It wants TLS first, and then a password."""
    now = datetime.now(UTC)
    issued = ca.issue_cert(
        "127.0.0.1", not_before=now - timedelta(days=30), not_after=now + timedelta(days=days)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(context)

    def known(server: object, session: object, envelope: object, mechanism: object, data: Any) -> AuthResult:
        return AuthResult(success=data.password.decode() == password, handled=False)

    more: dict[str, Any] = {
        "authenticator": known,
        "auth_required": True,
        "tls_context": context,
        "require_starttls": True,
    }
    controller = _Controller(object(), hostname="127.0.0.1", port=free_port(), **more)
    controller.start()
    try:
        yield int(controller.port)
    finally:
        controller.stop()


def test_the_relay(place: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its password, its certificate, and who has signed that."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    login = {"SMTP_SECURITY": "starttls", "SMTP_USER": "yiqi"}
    with relay(ca, 10, "right") as port:
        extra = {**login, "SMTP_PORT": str(port), "SMTP_PASSWORD": "right"}
        assert "TLS 没有谈成" in doctor(place, **extra).of("smtp")[1]
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        state, said = doctor(place, **extra).of("smtp")
        assert state == "attention"
        assert "已登录" in said
        assert "邮件服务器的证书还有" in said
        wrong = doctor(place, **{**extra, "SMTP_PASSWORD": "wrong"}).of("smtp")
        assert wrong[0] == "fault"
        assert "不接受用户名或口令" in wrong[1]
