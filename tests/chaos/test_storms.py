"""T2–T4, T8, T11, T12, T15, T16, T18, T19, T29: whatever the system stands on is killed, restarted, refused and frozen
while events come; nothing lost, nothing twice.

Crashes at named points are in `test_crashes.py`, whole outages in `test_downtime.py`, a cluster in `test_cluster.py`.
"""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from shared.contracts.registry import of_subject
from shared.runtime.embedded import Nats, Postgres, ServerFailed, eventually
from shared.runtime.streams import EVT
from tests.chaos.lab import Field, field
from tests.chaos.ledger import round_
from tests.chaos.oracle import Verdict
from tests.chaos.places import everything
from tests.smtp_stub import Fault, Step, Stub, say

Tell = Callable[[Verdict], Verdict]

pytestmark = pytest.mark.timeout(900)

MOODS: dict[Step, tuple[Fault, ...]] = {
    "greeting": (say("421 4.3.2 busy"), Fault("drop")),
    "RCPT": (say("451 4.2.0 later"), say("550 5.1.1 nobody here"), Fault("reset")),
    "DATA": (say("451 4.3.0 later"), Fault("drop")),
    "dot": (
        say("451 4.3.0 later"),
        say("554 5.7.1 refused"),
        Fault("reset", store=True),
        Fault("reset"),
        Fault("hang", store=True),
        Fault("hang"),
    ),
    "QUIT": (Fault("hang"),),
}


def moody(seed: str, share: float) -> Stub:
    """A mail server that does one of the things that mail servers do, in a share of its steps."""
    chance = random.Random(seed)

    def mood(step: Step) -> Fault | None:
        return chance.choice(MOODS[step]) if step in MOODS and chance.random() < share else None

    return Stub(mood=mood)


@asynccontextmanager
async def storm(
    here: Field, step: Callable[[random.Random], Awaitable[None]], seed: str
) -> AsyncIterator[list[int]]:
    """`step` again and again while the body runs; counts how often."""
    chance, strikes = random.Random(seed), [0]

    async def rage() -> None:
        while True:
            await step(chance)
            strikes[0] += 1

    raging = asyncio.create_task(rage())
    try:
        yield strikes
    finally:
        raging.cancel()
        with suppress(asyncio.CancelledError):
            await raging
        for server in (here.lab.nats, here.lab.postgres):
            await _up(server)  # it may have been down at that moment


def killer(here: Field, by: signal.Signals = signal.SIGKILL) -> Callable[[random.Random], Awaitable[None]]:
    async def kill(chance: random.Random) -> None:
        await asyncio.sleep(chance.uniform(0.2, 0.8))
        here.lab.strike(chance.choice(here.lab.names), by)

    return kill


def restarter(here: Field, server: str, down: float = 1.0) -> Callable[[random.Random], Awaitable[None]]:
    """kill -9 of nats-server, or `pg_ctl stop -m immediate` in effect; up again after at most `down` seconds."""
    victim = here.lab.nats if server == "nats" else here.lab.postgres

    async def restart(chance: random.Random) -> None:
        await asyncio.sleep(chance.uniform(1, 4))
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(chance.uniform(0, down))
        await _up(victim)

    return restart


async def _up(server: Nats | Postgres) -> None:
    while True:
        try:
            await asyncio.to_thread(server.start)
            return
        except ServerFailed:  # PostgreSQL may still be recovering
            await asyncio.sleep(0.2)


def rolled(here: Field) -> Callable[[random.Random], Awaitable[None]]:
    """SIGTERM to one after the other, each when the last is back."""
    turn = [0]

    async def roll(chance: random.Random) -> None:
        name = here.lab.names[turn[0] % len(here.lab.names)]
        turn[0] += 1
        before = len(here.lab.ends(name))
        here.lab.strike(name, signal.SIGTERM)
        await eventually(partial(_is_back, here, name, before), 60, f"{name} to be back")

    return roll


async def _is_back(here: Field, name: str, before: int) -> bool:
    return len(here.lab.ends(name)) > before and here.lab.page(name, "readyz") == "ok\n"


def troubled(here: Field) -> Callable[[random.Random], Awaitable[None]]:
    """PostgreSQL that is there and refuses: no connections, read only, a lock that somebody holds, sessions ended."""

    async def trouble(chance: random.Random) -> None:
        async with here.database() as db:
            match chance.randrange(4):
                case 0:
                    await db.execute("alter database yiqi connection limit 1")
                    await db.execute(_END)
                    await asyncio.sleep(1.5)
                    await db.execute("alter database yiqi connection limit -1")
                case 1:
                    await db.execute("alter database yiqi set default_transaction_read_only = on")
                    await db.execute(_END)
                    await asyncio.sleep(1.5)
                    await db.execute("set default_transaction_read_only = off")
                    await db.execute("alter database yiqi reset default_transaction_read_only")
                    await db.execute(_END)
                case 2:
                    async with db.transaction():
                        await db.execute(
                            "lock table intake.inbox, review.outbox, notify.mail in exclusive mode"
                        )
                        await asyncio.sleep(1.5)
                case 3:
                    await db.execute(_END)
        await asyncio.sleep(chance.uniform(0.5, 1.5))

    return trouble


_END = "select pg_terminate_backend(pid) from pg_stat_activity where usename like 'yiqi_%'"

Weather = Callable[[random.Random], Awaitable[None]]

STORMS: dict[str, tuple[int, Callable[[Field], Weather]]] = {
    "T2 kill -9 of services": (4_000, killer),
    "T3 SIGTERM, rolling": (1_500, rolled),
    "T4 kill -9 of NATS": (1_500, lambda here: restarter(here, "nats")),
    "T11 kill -9 of PostgreSQL": (1_500, lambda here: restarter(here, "postgres", 2)),
    "T12 PostgreSQL refuses": (1_500, troubled),
}
RATE = 60.0
"""Chains a second: what the storm leaves of the machine must get them done."""


def mixed(here: Field) -> Weather:
    """One kind after the other."""
    kinds = [weather(here) for _, weather in STORMS.values()]
    turn = [0]

    async def step(chance: random.Random) -> None:
        turn[0] += 1
        await kinds[turn[0] % len(kinds)](chance)

    return step


@pytest.mark.parametrize("name", STORMS)
async def test_storm(tmp_path: Path, full: bool, oracle: Tell, name: str) -> None:
    """Two of each service; the mail server is in a mood too (T15, T16)."""
    if not full:
        pytest.skip("the short form mixes them")
    n, weather = STORMS[name]
    ends = await stormy(tmp_path, oracle, name, n, RATE, weather)
    if name.startswith("T3"):
        assert set(ends) == {0}


async def test_storms_mixed(tmp_path: Path, full: bool, oracle: Tell) -> None:
    n, rate = (1_500, RATE) if full else (600, 40.0)
    await stormy(tmp_path, oracle, "T2, T3, T4, T11, T12 mixed", n, rate, mixed)


async def stormy(
    directory: Path, oracle: Tell, name: str, n: int, rate: float, weather: Callable[[Field], Weather]
) -> list[int]:
    """How the services have ended, each time."""
    async with field(directory, stub=moody(name, 0.02), processes=2) as here:
        chains = list(round_(n, name.split()[0], packages=2))
        async with storm(here, weather(here), name) as strikes:
            await here.send(chains, rate=rate)
        took = await here.drained(240)
        # In hand when three processes were killed: put aside, rightly, and handled again by whoever looks.
        aside = await here.replayed()
        await here.drained(60)
        told = f"{name} ({strikes[0]} times, drained in {took:.0f} s, {aside} put aside and replayed)"
        verdict = oracle(await here.judge(told, chains))
        ends = [code for one in here.lab.names for code in here.lab.ends(one)]
        rows = await here.mails()
    assert strikes[0] >= 2
    assert verdict.clean, here.wrong[:9]
    assert set(rows) <= {"sent", "failed", "unknown"}
    return ends


async def test_control_defaults(tmp_path: Path, oracle: Tell) -> None:
    """FastStream's default policy under T11's storm loses what it rejects."""
    async with field(tmp_path, ("hasten", "defaults")) as here:
        # One by one: what waits for an answer that is lost would wait for ever.
        chains = [chain[:1] for chain in round_(400, "defaults", rounds=1000)]
        async with storm(here, restarter(here, "postgres"), "defaults"):
            await here.send(chains, rate=60)
        with suppress(TimeoutError):  # what it has not done by then, it has lost
            await here.drained(20)
        verdict = oracle(await here.judge("T11 control (default ack policy)", chains))
    assert verdict.lost


async def test_order_does_not_matter(tmp_path: Path, full: bool, oracle: Tell) -> None:
    """T19: everything that the services said, once more and in any order, also from the very beginning: the same rows."""
    n = 1_500 if full else 300
    async with field(tmp_path) as here:
        chains = list(round_(n, "t19", rounds=10))
        await here.send(chains)
        await here.drained(240)
        before = await here.rows()
        said = [m async for m in everything(here.js, EVT)]
        random.Random("t19").shuffle(said)
        for message in said:
            found = of_subject(message.subject)
            assert found
            speaker = await here.speaker(found[0].says[0])
            await speaker.jetstream(timeout=5).publish(message.subject, message.data, stream=EVT)
        took = await here.drained(240)
        after = await here.rows()
        verdict = oracle(await here.judge(f"T19 {len(said)} events again, shuffled, {took:.0f} s", chains))
    assert {t for t in before if before[t] != after[t]} == set()
    assert verdict.clean, here.wrong[:9]


async def test_a_flood_of_one_does_not_sink_the_others(tmp_path: Path, full: bool, oracle: Tell) -> None:
    """T29: one agency files fifty times as much as all others together. All is done, memory is bounded; how much
    later the others are answered is told, not promised: they share a stream."""
    n = 2_500 if full else 600
    async with field(tmp_path) as here:
        quiet = list(round_(n // 50, "quiet", rounds=10**6))
        await here.send(quiet, rate=20)
        await here.drained(240)
        slow = await here.waits(quiet)
        flood = [[s] for c in round_(n, "flood", rounds=10**6) for s in c[:1]]
        others = list(round_(n // 50, "others", rounds=10**6))
        await asyncio.gather(here.send(flood), here.send(others, rate=20))
        await here.drained(240)
        slower = await here.waits(others)
        most = max(here.memory())
        verdict = oracle(
            await here.judge(
                f"T29 flood (p99 of the others {slow:.2f} → {slower:.2f} s, {most:.0f} MB)",
                [*quiet, *flood, *others],
            )
        )
    assert verdict.clean, here.wrong[:9]
    assert most < 300
