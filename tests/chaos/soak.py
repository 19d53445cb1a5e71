"""T30: hours of load under random faults, with one line for every ten minutes; stops at the first thing that is wrong.

    python -m tests.chaos.soak --minutes 120

Which faults there are is in `test_storms.py`.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.lab import field
from tests.chaos.ledger import Chain, round_
from tests.chaos.test_storms import killer, moody, restarter, rolled, storm, troubled

RATE = 40.0
WEATHER = (
    killer,
    rolled,
    troubled,
    lambda here: restarter(here, "nats"),
    lambda here: restarter(here, "postgres", 2),
)


async def soak(minutes: float, part: float) -> int:
    """`part` minutes make one line: nine tenths of it with a storm a minute, the rest in peace."""
    chance, seen = random.Random("soak"), 0
    chains: list[Chain] = []
    with tempfile.TemporaryDirectory() as directory:
        async with field(Path(directory), stub=moody("soak", 0.02), processes=2) as here:
            until = time.monotonic() + 60 * minutes
            while time.monotonic() < until:
                end = time.monotonic() + 60 * part * 0.9
                while time.monotonic() < end:
                    seen += 1
                    chains += (new := list(round_(int(RATE * 50), f"soak-{seen}", packages=5)))
                    async with storm(here, chance.choice(WEATHER)(here), f"soak-{seen}"):
                        await here.send(new, rate=RATE)
                took = await here.drained(600)
                verdict = await here.judge(f"T30 soak, {seen} storms, drained in {took:.0f} s", chains)
                memory = " ".join(f"{mb:.0f}" for mb in here.memory())
                sys.stdout.write(f"{verdict.line} memory_mb={memory}\n")
                sys.stdout.flush()
                if not verdict.clean:
                    sys.stdout.write("\n".join(here.wrong[:20]) + "\n")
                    return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--part", type=float, default=10)
    given = parser.parse_args()
    sys.exit(asyncio.run(soak(given.minutes, min(given.part, given.minutes))))
