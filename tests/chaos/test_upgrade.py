"""A rolling upgrade: the release before and this one together on one bus and one database, under load; and back again.

What may change between two such releases is in `deploy/README.md`.
"""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.cli.nats import ACCOUNTS
from shared.runtime import SERVICES
from shared.runtime.embedded import eventually
from tests.chaos import previous
from tests.chaos.lab import Field, Lab, beside
from tests.chaos.ledger import Chain, round_
from tests.chaos.oracle import Verdict
from tests.smtp_stub import Stub

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(previous.absent() is not None, reason=str(previous.absent())),
]

ORDER = ("notify", "export", "review", "intake")
"""Who hears goes before who says: of a field that is new nobody is told who would not understand it."""

RATE = 20.0
"""Chains a second, all the time."""


class Skewed(Lab):
    """`<service>` is of the release before, `<service>-2` of this one. Servers, streams and tables are made by the
    commands of a release, as an operator does it."""

    def __init__(self, directory: Path, smtp: int, old: Path, changes: tuple[str, ...] = ()) -> None:
        # A machine that starts eight processes may be slow to answer: nobody shall take that for a mail that is lost.
        extra = {"YIQI_SMTP_REPLY_TIMEOUT": "60"}
        super().__init__(directory, smtp, changes, processes=2, extra=extra)
        self.old = old
        self.accounts_of(old)

    def command(self, tree: Path, *arguments: str, knows: Mapping[str, str] | None = None) -> None:
        done = subprocess.run(
            [sys.executable, "-c", "from services.cli import main; main()", *arguments],
            cwd=tree,
            env={
                **_without_ours(os.environ),
                **(self.environment if knows is None else knows),
                "PYTHONPATH": str(tree),
            },
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def accounts_of(self, tree: Path) -> None:
        self.command(tree, "nats", "config", "--out", str(self.keys), knows={})
        self.nats.config = (self.keys / ACCOUNTS).read_text()

    async def _provision(self) -> None:
        await asyncio.to_thread(self.command, self.old, "provision")
        for service, password in self._passwords.items():
            self.postgres.sql(f"alter role yiqi_{service} password '{password}'", "yiqi")

    def spawn(self, name: str, environment: Mapping[str, str]) -> Any:
        if name.endswith("-2"):
            return super().spawn(name, environment)
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "services.run", name],
            env={**environment, "PYTHONPATH": str(self.old)},
            cwd=self.old,
            stdout=self._logs[name],
            stderr=subprocess.STDOUT,
        )

    def upgrade(self) -> None:
        """All but the services: who may say what, tables, streams. The old services run meanwhile."""
        self.accounts_of(previous.ROOT)
        self.nats._prepare()
        assert self.nats.pid
        os.kill(self.nats.pid, signal.SIGHUP)
        self.command(previous.ROOT, "provision")

    def is_up(self, name: str) -> bool:
        """By the page that asks for no schema: a release from before there was a rule wants its own, and no later one."""
        assert self.running[name].poll() is None, (self.directory / f"{name}.log").read_text()[-2000:]
        return self.page(name, "readyz" if name.endswith("-2") else "livez") == "ok\n"

    def errors(self) -> list[str]:
        """What any process has logged as one, of the handling of events."""
        found = []
        for name in self.names:
            lines = (self.directory / f"{name}.log").read_text().splitlines()
            logged = (line for line in lines if line.startswith("{"))
            found += [f"{name} {line[:300]}" for line in logged if json.loads(line)["message"] in FAILED]
        return found


FAILED = ("batch failed", "event failed", "batch was not handled", "task failed", "consumer is gone, exiting")


def _without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if not k.startswith("YIQI_")}


class Load:
    """Chains until `over`, and which were sent."""

    def __init__(self) -> None:
        self.sent: list[Chain] = []
        self.over = asyncio.Event()

    def __iter__(self) -> Iterator[Chain]:
        packages = round_(0, "skewed packages", packages=4)
        for chain in itertools.chain(packages, round_(10**6, "skewed", rounds=30)):
            if self.over.is_set():
                return
            self.sent.append(chain)
            yield chain


@asynccontextmanager
async def skewed(directory: Path, changes: tuple[str, ...] = ()) -> AsyncIterator[tuple[Field, Skewed]]:
    """The release before, running and ready."""
    async with Stub() as server:
        old = await asyncio.to_thread(previous.unpack, directory / "previous")
        lab = Skewed(directory / "place", server.port, old, changes)
        try:
            await asyncio.to_thread(lab.infrastructure)
            for service in SERVICES:
                lab.launch(service)
            await eventually(lambda: all(map(lab.is_up, SERVICES)), 90, "the release before")
            async with beside(lab, server) as here:
                yield here, lab
        finally:
            await asyncio.to_thread(lab.stop)


async def some(here: Field, more: int = 15) -> None:
    """So many events more are answered: whoever is there now has its share of them."""
    before = sum(known.is_set() for known in here.waiting.values())
    await eventually(
        lambda: sum(known.is_set() for known in here.waiting.values()) >= before + more, 90, "traffic"
    )


async def roll(here: Field, lab: Skewed, come: str, go: str) -> None:
    """One process takes the place of another: first it is ready, then both work, then the other ends in good order."""
    lab.launch(come)
    await eventually(lambda: lab.is_up(come), 60, come)
    await some(here)
    process = lab.running.pop(go)
    process.terminate()
    assert await asyncio.to_thread(process.wait, 40) in (0, -1)  # a supervisor says nothing
    await some(here)


async def test_upgrade_under_load(tmp_path: Path, full: bool, oracle: Callable[[Verdict], Verdict]) -> None:
    """Then back to the release before, whose processes run on what this one has made, and here again."""
    if not full:
        pytest.skip("in make chaos: it takes five minutes")
    async with skewed(tmp_path) as (here, lab):
        load = Load()
        sending = asyncio.create_task(here.send(load, rate=RATE))
        await some(here)
        await asyncio.to_thread(lab.upgrade)
        await some(here)
        for service in ORDER:
            await roll(here, lab, f"{service}-2", service)
        for service in reversed(ORDER):
            await roll(here, lab, service, f"{service}-2")
        for service in ORDER:
            await roll(here, lab, f"{service}-2", service)
        load.over.set()
        await sending
        await here.drained(240)
        name = f"upgrade from {previous.RELEASE[:7]}, back, again"
        verdict = oracle(await here.judge(name, load.sent))
    assert set(lab.running) <= {f"{s}-2" for s in SERVICES}
    assert verdict.clean, here.wrong[:9]
    assert verdict.sent == verdict.ok + verdict.dead + verdict.refused
    assert verdict.mails_unknown == 0
    assert lab.errors() == []


async def test_control_a_release_that_knows_events_otherwise(
    tmp_path: Path, full: bool, oracle: Callable[[Verdict], Verdict]
) -> None:
    """What a change of the key of events would do, side by side: the same event has its effect twice."""
    if not full:
        pytest.skip("in make chaos")
    async with skewed(tmp_path, ("estranged",)) as (here, lab):
        await asyncio.to_thread(lab.upgrade)
        lab.launch("intake-2")
        await eventually(lambda: lab.is_up("intake-2"), 60, "intake-2")
        chains = [chain[:1] for chain in round_(40, "estranged", rounds=1000)]
        for chain in chains:
            chain[0].copies = 6
        await here.send(chains)
        await here.drained(120)
        verdict = oracle(await here.judge("upgrade control (another key)", chains))
    assert verdict.duplicate_effects
