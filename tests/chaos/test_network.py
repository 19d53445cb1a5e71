"""Slow lines that lose packets, and connections that are dead without anybody being told (T33)."""

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from os import kill

import pytest

from services.cli.local import Local
from shared.runtime.database import connect
from shared.runtime.embedded import Postgres, eventually
from tests.bench.work import filings
from tests.chaos.line import Line
from tests.chaos.load import Ledger, Town, patient, town
from tests.chaos.oracle import Verdict

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # of `abandoned`
]
Tell = Callable[[Verdict], Verdict]
AGAIN = 30.0
"""Seconds within which a service has left a dead connection behind."""


@pytest.fixture(autouse=True)
def abandoned() -> Iterator[None]:
    """A client of nats-py leaves a connection to the collector for each server that takes it and says nothing: here they
    are collected, and not in the test of somebody else."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def lines() -> Iterator[dict[str, Line]]:
    """To NATS and to PostgreSQL; the mail relay is meant to be on loopback."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Line(0)) for name in ("nats", "postgres")}


@pytest.fixture(scope="module")
def here(lines: dict[str, Line], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    def prepare(local: Local) -> None:
        """Whoever asks for an address is given the line."""
        for name, line in lines.items():
            server = getattr(local, name)
            line.to, server.port = server.port, line.port

    with town(tmp_path_factory.mktemp("town"), prepare=prepare) as running:
        yield running


async def test_a_slow_line_that_loses_packets_costs_time_only(
    here: Town, lines: dict[str, Line], full: bool, oracle: Tell
) -> None:
    """T33: 100 ± 50 ms each way, and one packet in twenty is lost."""
    client, ledger = await patient([here.local.nats.url]), Ledger()
    for line in lines.values():
        line.impair(0.1, 0.05, 0.05)
    try:
        began = time.monotonic()
        await ledger.file(client, filings(30 if full else 3, "t33a"), rate=20, at_once=32, timeout=5)
        took = await here.drained(ledger)
        assert time.monotonic() - began > 0.5  # three hops, each there and back
    finally:
        for line in lines.values():
            line.impair(0, 0, 0)
    name = f"T33 slow line, slowest publish {ledger.worst:.1f} s, drained in {took:.1f} s"
    verdict = oracle(await here.judge(name, ledger))
    assert verdict.clean
    assert verdict.ok == verdict.sent
    assert await here.dead() == 0
    assert here.restarts() == 0
    await client.close()


async def test_a_connection_that_died_silently_is_left(
    here: Town, lines: dict[str, Line], full: bool, oracle: Tell
) -> None:
    """T33: to NATS; nothing comes and nobody hangs up."""
    if not full:
        pytest.skip("fifteen seconds of silence: only in the long form")
    ledger = Ledger()
    lines["nats"].go_silent()
    client = await patient([here.local.nats.url])
    await ledger.file(client, filings(20, "t33b"))
    took = await here.drained(ledger, timeout=60)
    verdict = oracle(await here.judge(f"T33 dead connection to NATS, drained in {took:.1f} s", ledger))
    assert verdict.clean
    assert verdict.ok == 20
    assert took < AGAIN
    assert here.restarts() == 0
    await client.close()


async def test_after_one_dead_connection_none_of_its_age_is_tried(postgres: Postgres) -> None:
    """T33: otherwise every connection that was open costs its own time limit, one after the other."""
    with Line(postgres.port) as line:
        dsn = postgres.dsn().replace(f":{postgres.port}/", f":{line.port}/")
        database = connect(dsn, "test", patience=1)
        async with database.connect() as one, database.connect() as two, database.connect() as three:
            for connection in (one, two, three):
                assert (await connection.execute("select 1")).scalar() == 1
        line.go_silent()
        with pytest.raises(TimeoutError):
            async with database.connect() as connection:
                await connection.execute("select 1")
        async with database.connect() as connection:
            assert (await connection.execute("select 1")).scalar() == 1
        await database.dispose()


async def test_a_connection_to_the_database_that_died_silently_is_left(
    here: Town, lines: dict[str, Line], full: bool, oracle: Tell
) -> None:
    """T33: a statement has half a minute (`database.connect`), then it is tried on another connection."""
    if not full:
        pytest.skip("half a minute: only in the long form")
    client, ledger = await patient([here.local.nats.url]), Ledger()
    lines["postgres"].go_silent()
    await ledger.file(client, filings(20, "t33c"))
    took = await here.drained(ledger)
    verdict = oracle(await here.judge(f"T33 dead connections to PostgreSQL, drained in {took:.1f} s", ledger))
    assert verdict.clean
    assert verdict.ok == 20
    await client.close()


async def test_a_server_that_stands_still_is_waited_for(here: Town, full: bool, oracle: Tell) -> None:
    """T33: the whole of NATS, longer than a client waits for an answer."""
    if not full:
        pytest.skip("forty seconds: only in the long form")
    client, ledger = await patient([here.local.nats.url]), Ledger()
    pid = here.local.nats.pid
    assert pid
    kill(pid, signal.SIGSTOP)
    publishing = asyncio.create_task(ledger.file(client, filings(20, "t33d")))
    await eventually(
        lambda: sum(ledger.failures.values()) >= 100, 120, "publishers to have insisted for long"
    )
    kill(pid, signal.SIGCONT)
    began = time.monotonic()
    await publishing
    await here.drained(ledger)
    took = time.monotonic() - began
    verdict = oracle(await here.judge(f"T33 server stood still, drained {took:.1f} s after", ledger))
    assert verdict.clean
    assert verdict.ok == 20
    assert took < AGAIN
    await client.close()
