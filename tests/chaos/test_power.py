"""The machine loses its power right after the last acknowledgement: what was promised is on the disk (T6).

Nothing is simulated but the moment: the server is frozen, and another is started on what the disk then holds.
"""

import asyncio
import signal
from collections.abc import Callable
from os import kill
from pathlib import Path

import asyncpg
import nats
import nats.errors
import nats.js.errors
import pytest

from shared.runtime.embedded import Nats, Postgres
from shared.runtime.streams import EVT, provision
from tests.chaos.disks import copy, disk, family, frozen
from tests.chaos.load import quiet
from tests.chaos.oracle import Verdict

Tell = Callable[[Verdict], Verdict]
SUBJECT = "sme.evt.v1.case.opened.440106"
WRITERS = 16
LARGE = "max_file_store: 64G"
"""More than the disk here, as on the machines that the streams are made for."""


def power_off(server: Nats | Postgres, image: Path, crashed: Path) -> None:
    """Take the disk as it is now: nothing of the server runs any more, and it cannot tidy up either."""
    assert server.pid
    everyone = family(server.pid)
    for pid in everyone:
        kill(pid, signal.SIGSTOP)
    try:
        for pid in everyone:
            frozen(pid)
        copy(image, crashed)
    finally:
        for pid in everyone[1:]:
            kill(pid, signal.SIGKILL)
        server.kill()


async def publish(server: Nats, count: int, image: Path, crashed: Path) -> set[bytes]:
    """Publish, and take the disk the moment that the last of them is acknowledged."""
    client = await nats.connect(server.url, allow_reconnect=False, error_cb=quiet)
    js = client.jetstream(timeout=30)
    await provision(js)
    acked: set[bytes] = set()

    async def write(writer: int) -> None:
        for n in range(writer, count, WRITERS):
            body = b"%06d" % n
            await js.publish(SUBJECT, body.ljust(1000, b"x"), stream=EVT, timeout=30)
            acked.add(body)

    await asyncio.gather(*map(write, range(WRITERS)))
    power_off(server, image, crashed)
    await client.close()
    return acked


async def stored(server: Nats) -> set[bytes]:
    client = await nats.connect(server.url)
    js = client.jetstream(timeout=10)
    found: set[bytes] = set()
    try:
        last = (await js.stream_info(EVT)).state.last_seq
        for seq in range(1, last + 1):
            found.add(((await js.get_msg(EVT, seq)).data or b"")[:6])
    except nats.js.errors.NotFoundError:
        pass  # without its stream, or without one of its messages
    finally:
        await client.close()
    return found


@pytest.mark.parametrize("always", [True, False], ids=["always", "control: NATS's own default"])
def test_an_acknowledged_message_outlives_the_power(
    tmp_path: Path, always: bool, full: bool, oracle: Tell
) -> None:
    image, crashed = tmp_path / "disk", tmp_path / "crashed"
    before, after = tmp_path / "before", tmp_path / "after"
    with disk(image, before), Nats(before / "nats", sync_always=always, limits=LARGE) as server:
        acked = asyncio.run(publish(server, 5000 if full else 500, image, crashed))
    with disk(crashed, after), Nats(after / "nats", limits=LARGE) as again:
        found = asyncio.run(stored(again))
    name = "T6 power, NATS" if always else "T6 control: power, NATS with its default sync_interval"
    verdict = oracle(Verdict(name, sent=len(acked), ok=len(acked & found), lost=len(acked - found)))
    assert verdict.clean is always


async def commit(server: Postgres, count: int, image: Path, crashed: Path) -> set[int]:
    """Commit rows, and take the disk the moment that the last commit has returned."""
    committed: set[int] = set()

    async def write(writer: int) -> None:
        connection = await asyncpg.connect(server.dsn())
        for n in range(writer, count, WRITERS):
            await connection.execute("insert into kept values ($1, $2)", n, "x" * 500)
            committed.add(n)
        connections.append(connection)

    connections: list[asyncpg.Connection] = []
    await asyncio.gather(*map(write, range(WRITERS)))
    power_off(server, image, crashed)
    for connection in connections:
        connection.terminate()
    return committed


@pytest.mark.parametrize("synchronous", ["on", "off"], ids=["as deployed", "control: synchronous_commit off"])
def test_a_committed_row_outlives_the_power(
    tmp_path: Path, synchronous: str, full: bool, oracle: Tell
) -> None:
    image, crashed = tmp_path / "disk", tmp_path / "crashed"
    settings = {"synchronous_commit": "off", "wal_writer_delay": "10s"} if synchronous == "off" else {}
    before = tmp_path / "before"
    with disk(image, before), Postgres(before / "postgres", settings=settings) as server:
        server.sql("create table kept (n int primary key, body text); checkpoint")
        committed = asyncio.run(commit(server, 2000 if full else 300, image, crashed))
    after = tmp_path / "after"
    with disk(crashed, after), Postgres(after / "postgres") as again:
        found = {int(n) for n in again.sql("select n from kept").split()}
    name = (
        f"T6 {'' if synchronous == 'on' else 'control: '}power, PostgreSQL, synchronous_commit {synchronous}"
    )
    verdict = oracle(
        Verdict(name, sent=len(committed), ok=len(committed & found), lost=len(committed - found))
    )
    assert verdict.clean is (synchronous == "on")
