"""T8: each thing that the system needs is away for a while, under load, and comes back.

`make chaos` writes the table of the README from what it sees here.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.runtime.embedded import ServerFailed
from tests.chaos import table
from tests.chaos.lab import Field, field
from tests.chaos.ledger import round_
from tests.chaos.oracle import Verdict
from tests.smtp_stub import Stub, say

Tell = Callable[[Verdict], Verdict]

RATE = 20.0
SCALE = 20
"""Of the longer outages, and with them of every clock that only waits: 600 s are 30."""

pytestmark = pytest.mark.timeout(600)


class Away(Stub):
    """A mail server that takes no mail while it is away."""

    away = False

    def __init__(self) -> None:
        super().__init__(
            mood=lambda step: say("421 4.3.2 away") if self.away and step == "greeting" else None
        )


async def leave(here: Field, receiver: str) -> None:
    match receiver:
        case "NATS":
            await asyncio.to_thread(here.lab.nats.kill)
        case "PostgreSQL":
            await asyncio.to_thread(here.lab.postgres.kill)
        case "SMTP":
            here.stub.away = True  # type: ignore[attr-defined]
            here.stub.hang_up()
        case service:
            await asyncio.to_thread(here.lab.take_away, service)


async def come_back(here: Field, receiver: str) -> None:
    match receiver:
        case "NATS":
            await asyncio.to_thread(here.lab.nats.start)
        case "PostgreSQL":
            while True:
                try:
                    await asyncio.to_thread(here.lab.postgres.start)
                    return
                except ServerFailed:
                    await asyncio.sleep(0.2)
        case "SMTP":
            here.stub.away = False  # type: ignore[attr-defined]
        case service:
            here.lab.launch(service)


async def outage(here: Field, receiver: str, seconds: int, oracle: Tell) -> tuple[Verdict, float]:
    """What was seen, and how many seconds it took to drain after the return."""
    lasts = seconds if seconds <= 10 else seconds / SCALE
    chains = list(round_(int(RATE * (lasts + 2)), f"{receiver}{seconds}", rounds=30))
    sending = asyncio.create_task(here.send(chains, rate=RATE))
    await asyncio.sleep(1)
    await leave(here, receiver)
    spent = {name: here.spent(name) for name in here.lab.running}
    await asyncio.sleep(lasts)
    busiest = max((here.spent(n) - was for n, was in spent.items()), default=0.0) / lasts
    await come_back(here, receiver)
    took = await here.drained(240)
    await sending
    took = max(took, await here.drained(240))
    verdict = oracle(await here.judge(f"T8 {receiver} away for {seconds} s, drained in {took:.1f} s", chains))
    assert verdict.clean, here.wrong[:9]
    assert verdict.sent == verdict.ok + verdict.dead + verdict.refused
    if receiver in {"NATS", "PostgreSQL"}:  # without the others there is work to do
        assert busiest < 0.5, "what waits must not spin"
    return verdict, took


@pytest.mark.parametrize("receiver", table.RECEIVERS)
async def test_away(tmp_path: Path, full: bool, oracle: Tell, receiver: str) -> None:
    if not full and receiver not in {"NATS", "PostgreSQL", "review"}:
        pytest.skip("the short form has three of them")
    async with field(tmp_path, stub=Away()) as here:
        seen = {s: await outage(here, receiver, s, oracle) for s in (table.SECONDS if full else (60,))}
    if full:
        table.note(receiver, seen)
