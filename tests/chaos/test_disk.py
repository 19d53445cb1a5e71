"""A disk that is full, and one that fails: whoever was told that it is stored finds it again, and nobody else was told so
(T13, T14)."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client

from services.cli.local import Local
from shared.runtime.embedded import Nats, Postgres, ServerFailed, eventually, wait_until
from shared.runtime.streams import ADVISORY, EVT, IN, STREAMS, provision
from tests.bench.work import filings
from tests.chaos.disks import family, free, memory
from tests.chaos.load import Ledger, Town, patient, town
from tests.chaos.oracle import Verdict

pytestmark = pytest.mark.timeout(600)
Tell = Callable[[Verdict], Verdict]
SUBJECT = "sme.evt.v1.case.opened.440106"
LARGE = "max_file_store: 64G"
"""More than the disk: otherwise the server refuses the streams at once, which is what should be deployed."""
ROOM = 1 << 20
SEGMENT = 16 << 20


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """24 MB for the streams."""
    with memory(tmp_path_factory.mktemp("small") / "nats", 24) as place:
        yield place


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """64 MB for the write-ahead log of PostgreSQL: four segments."""
    with memory(tmp_path_factory.mktemp("narrow") / "wal", 64) as place:
        yield place


@pytest.fixture(scope="module")
def here(small: Path, narrow: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    def prepare(local: Local) -> None:
        """A disk of its own for the write-ahead log."""
        local.postgres.stop()
        wal = local.postgres.directory / "data" / "pg_wal"
        shutil.copytree(wal, narrow / "pg_wal")
        shutil.rmtree(wal)
        wal.symlink_to(narrow / "pg_wal")
        local.postgres.start()

    server = Nats(small / "nats", limits=LARGE)
    with town(tmp_path_factory.mktemp("town"), server=server, prepare=prepare) as running:
        yield running


@contextmanager
def ballast(place: Path, leaving: int) -> Iterator[None]:
    """Something else that has filled the disk."""
    filler = place / "ballast"
    with filler.open("wb") as file, suppress(OSError):
        while (room := free(place) - leaving) > 0:
            file.write(b"x" * min(room, 1 << 20))
            file.flush()
    try:
        yield
    finally:
        filler.unlink()


async def insist(ledger: Ledger, client: Client, seed: str, until: Callable[[], bool]) -> None:
    """Publishers go on until something has happened; what has no answer by then stays `open`."""
    publishing = asyncio.create_task(ledger.file(client, filings(100_000, seed), rate=100, timeout=1))
    try:
        await eventually(until, 60, "the publishers to be refused")
    finally:
        ledger.stopping = True
        await publishing
        ledger.stopping = False


async def again(ledger: Ledger, client: Client) -> None:
    """Who had no answer asks again, under the same id."""
    await ledger.file(client, list(ledger.open.values()))
    assert not ledger.open


async def held(here: Town, client: Client) -> None:
    """Nothing was given up: no dead rows, and hardly a message that was delivered twice."""
    js = client.jetstream(timeout=10)
    assert await here.dead() == 0
    assert (await js.stream_info(ADVISORY)).state.messages == 0
    given = (await js.consumer_info(IN, "intake-in")).delivered
    assert given
    assert given.consumer_seq < 2 * (await js.stream_info(IN)).state.messages


# --- full --------------------------------------------------------------------------------------------


async def test_a_stream_at_its_limit_refuses_and_goes_on_when_it_is_raised(here: Town, oracle: Tell) -> None:
    """T13, as it should be deployed: the limits lie below the disk."""
    client, ledger = await patient([here.local.nats.url]), Ledger()
    js = client.jetstream(timeout=10)
    configs = {s.name: s for s in STREAMS}
    for name in (IN, EVT):
        used = (await js.stream_info(name)).state.bytes
        await js.update_stream(configs[name].evolve(max_bytes=used + (200_000 if name == IN else 100_000)))
    await insist(ledger, client, "t13a", lambda: sum(ledger.failures.values()) >= 5)
    assert {why.partition(" ")[2] for why in ledger.failures} == {"maximum bytes exceeded"}
    await eventually(lambda: "publish refused" in here.log("intake"), 30, "intake to say it")
    for name in (IN, EVT):
        await js.update_stream(configs[name])
    await again(ledger, client)
    await here.drained(ledger)
    verdict = oracle(await here.judge("T13 stream at its limit", ledger))
    await held(here, client)
    assert verdict.clean
    assert verdict.ok == verdict.sent > 10
    await client.close()


async def test_a_full_disk_of_nats_costs_nothing_that_was_acknowledged(
    here: Town, small: Path, oracle: Tell
) -> None:
    """T13. The publishers are told nothing at all, which is no promise; the server works again only after a restart."""
    client, ledger = await patient([here.local.nats.url]), Ledger()
    with ballast(small, leaving=ROOM):
        await insist(ledger, client, "t13b", lambda: sum(ledger.failures.values()) >= 8)
        # The alarm: the server's log, and the metric and the log of whoever has something to say.
        log = (here.local.nats.directory / "log").read_text()
        assert "no space left on device" in log
        acked = len(ledger.acked)
    assert free(small) > ROOM
    here.local.nats.stop()
    await asyncio.to_thread(here.local.nats.start)
    await here.drained(ledger)
    hopeful = Ledger(acked=ledger.acked | ledger.open)
    control = oracle(
        await here.judge("T13 control: full disk, publishers who take silence for a yes", hopeful)
    )
    assert control.lost > 0
    await again(ledger, client)
    took = await here.drained(ledger)
    name = f"T13 full disk, NATS, drained {took:.1f} s after its restart"
    verdict = oracle(await here.judge(name, ledger))
    await held(here, client)
    assert verdict.clean
    assert verdict.ok == verdict.sent > acked
    await client.close()


async def test_a_full_disk_of_the_write_ahead_log_is_waited_for(
    here: Town, narrow: Path, oracle: Tell
) -> None:
    """T13. PostgreSQL ends every connection, and itself; who publishes does not notice."""
    postgres = here.local.postgres
    client, ledger = await patient([here.local.nats.url]), Ledger()
    with ballast(narrow, leaving=SEGMENT // 2):
        publishing = asyncio.create_task(ledger.file(client, filings(100, "t13c"), rate=50))
        with suppress(ServerFailed):  # the one that it ends with
            for _ in range(4):  # as many segments as there are, so that the next has no room
                await asyncio.to_thread(
                    postgres.sql, "create table if not exists t (n int); insert into t values (1)"
                )
                await asyncio.to_thread(postgres.sql, "select pg_switch_wal()")
        assert "No space left on device" in (postgres.directory / "log").read_text()
        await eventually(lambda: here.metric("intake", "yiqi_batches_held_total") > 0, 30, "intake to hold")
        await publishing
    await asyncio.to_thread(postgres.start)  # unless it got up by itself
    took = await here.drained(ledger)
    name = f"T13 full disk, PostgreSQL, drained {took:.1f} s after there was room again"
    verdict = oracle(await here.judge(name, ledger))
    await held(here, client)
    assert verdict.clean
    assert verdict.ok == verdict.sent == 100
    await client.close()


# --- failing -----------------------------------------------------------------------------------------


@contextmanager
def failing(pid: int | None) -> Iterator[None]:
    """Every fsync of a process, and of what it starts, says that the disk has failed."""
    assert pid
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    calls = "fsync,fdatasync"
    watched = [option for one in family(pid) for option in ("-p", str(one))]
    command = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace={calls}",
        "-e",
        f"inject={calls}:error=EIO",
    ]
    tracer = subprocess.Popen([*command, *watched], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: all(map(_is_traced, family(pid))) or tracer.poll() is not None, what="the tracer")
        if tracer.poll() is not None:
            pytest.skip("nothing can be traced here")
        yield
    finally:
        tracer.send_signal(signal.SIGTERM)
        tracer.wait()


def _is_traced(pid: int) -> bool:
    try:
        threads = [t.read_text() for t in Path(f"/proc/{pid}/task").glob("*/status")]
    except OSError:
        return True  # it ended meanwhile
    return all("TracerPid:\t0" not in status for status in threads)


async def attempt(server: Nats, ids: range) -> set[int]:
    """Publish each once; which of them were acknowledged."""
    client = await patient([server.url])
    acked: set[int] = set()

    async def publish(n: int) -> None:
        with suppress(nats.errors.Error, nats.js.errors.Error):
            await client.jetstream().publish(SUBJECT, b"%06d" % n, stream=EVT, timeout=1)
            acked.add(n)

    await asyncio.gather(*map(publish, ids))
    await client.close()
    return acked


async def stored(server: Nats) -> set[int]:
    client = await patient([server.url])
    js = client.jetstream(timeout=10)
    last = (await js.stream_info(EVT)).state.last_seq
    found = {int((await js.get_msg(EVT, seq)).data or b"-1") for seq in range(1, last + 1)}
    await client.close()
    return found


async def _provision(server: Nats) -> None:
    client = await patient([server.url])
    await provision(client.jetstream(timeout=10))
    await client.close()


@pytest.mark.parametrize("always", [True, False], ids=["always", "control: NATS's own default"])
def test_nats_promises_nothing_that_its_disk_has_refused(tmp_path: Path, always: bool, oracle: Tell) -> None:
    """T14. What is acknowledged while no fsync succeeds is a promise that nobody can keep."""
    with Nats(tmp_path / "nats", sync_always=always, limits=LARGE) as server:
        asyncio.run(_provision(server))
        before = asyncio.run(attempt(server, range(50)))
        with failing(server.pid):
            false = asyncio.run(attempt(server, range(50, 100)))
        server.kill()
        server.start()
        after = asyncio.run(attempt(server, range(100, 150)))
        found = asyncio.run(stored(server))
    name = (
        "T14 failing disk, NATS"
        if always
        else "T14 control: failing disk, NATS with its default sync_interval"
    )
    kept = before | after
    verdict = oracle(
        Verdict(
            name, sent=150, ok=len(kept & found), refused=50 - len(false), lost=len(kept - found) + len(false)
        )
    )
    assert len(kept) == 100
    assert verdict.clean is always


async def insert(server: Postgres, ids: range) -> set[int]:
    """A row each; which of them were committed."""
    committed: set[int] = set()
    for n in ids:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(server.dsn(), timeout=5)
            try:
                await connection.execute("insert into kept values ($1)", n)
                committed.add(n)
            finally:
                connection.terminate()
    return committed


@pytest.mark.parametrize("synchronous", ["on", "off"], ids=["as deployed", "control: synchronous_commit off"])
def test_postgresql_promises_nothing_that_its_disk_has_refused(
    tmp_path: Path, synchronous: str, oracle: Tell
) -> None:
    """T14."""
    settings = {"synchronous_commit": synchronous} | (
        {"wal_writer_delay": "10s"} if synchronous == "off" else {}
    )
    with Postgres(tmp_path / "postgres", settings=settings) as server:
        server.sql("create table kept (n int primary key); checkpoint")
        before = asyncio.run(insert(server, range(10)))
        with failing(server.pid):
            false = asyncio.run(insert(server, range(10, 20)))
            server.kill()
        server.start()
        after = asyncio.run(insert(server, range(20, 30)))
        found = {int(n) for n in server.sql("select n from kept").split()}
    name = f"T14 {'' if synchronous == 'on' else 'control: '}failing disk, PostgreSQL, synchronous_commit {synchronous}"
    kept = before | after
    verdict = oracle(
        Verdict(
            name, sent=30, ok=len(kept & found), refused=10 - len(false), lost=len(kept - found) + len(false)
        )
    )
    assert len(kept) == 20
    assert verdict.clean is (synchronous == "on")
