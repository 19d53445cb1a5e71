"""The servers, the three implementations as processes, and what is measured on one of them.

Which of them are compared, how often, and how it is printed is in `__main__.py`.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import nats
from nats.aio.client import Client

from shared.runtime.database import migrate
from shared.runtime.embedded import Nats, Postgres, eventually, free_port
from shared.runtime.publisher import Message, Publisher
from shared.runtime.streams import provision
from tests.bench import machine
from tests.bench.work import Filed, as_task, filings, offset

ROOT = Path(__file__).resolve().parents[2]
HOPS = ("intake", "review", "notify")
RESUME = "0001-01-01T00:00:00Z"
LATE = 60.0
"""Seconds without a further mail after which a run is given up."""

OWN = ROOT / "var" / "bench"
"""Environments that only the bench needs."""

TASKIQ_TABLES = """
create schema taskiq;
create table taskiq.submission (id uuid primary key, form text not null, filer text not null, doc jsonb not null,
    at timestamptz not null default now());
create table taskiq.review_case (id uuid primary key references taskiq.submission, title text not null,
    state text not null, at timestamptz not null default now());
create table taskiq.mail (id bigint generated always as identity primary key,
    "case" uuid not null unique references taskiq.submission, recipient text not null, subject text not null,
    body text not null, state text not null default 'queued', at timestamptz not null default now());
"""


@dataclass(frozen=True)
class Program:
    """One implementation: how its processes are started, what they listen on, where their mails are.

    `began` is the table whose `at` says when the transaction of the first hop began; `mails` the ledger.
    """

    name: str
    stream: str = "SME_IN"
    consumers: tuple[tuple[str, str], ...] = (
        ("SME_IN", "intake-in"),
        ("SME_EVT", "review-evt"),
        ("SME_EVT", "notify-evt"),
    )
    began: str = "intake.inbox"
    mails: str = "notify.mail where letter = 'accepted'"

    def message(self, filed: Filed) -> Message:
        if self.name == "taskiq":
            return Message(filed.id, self.stream, "taskiq.bench", as_task(filed))
        return Message(filed.id, self.stream, filed.subject, filed.body)


YIQI = Program("yiqi")
BY_HAND = Program("handwritten")
PEER = Program(
    "taskiq", "TASKIQ", (("TASKIQ", "taskiq"),), began="taskiq.submission", mails="taskiq.mail where true"
)


def install(name: str, *packages: str) -> str | None:
    """An environment of its own, made on demand; why not, if it cannot be."""
    place, uv = OWN / name, ROOT / ".tools" / "bin" / "uv"
    if (place / "bin" / name).exists():
        return None
    commands: tuple[list[str | Path], ...] = (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, place],
        [uv, "pip", "install", "--quiet", "--python", place / "bin" / "python", *packages],
    )
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            return str(error)
        if done.returncode:
            return str(done.stderr).strip()[-300:]
    return None


def install_taskiq() -> str | None:
    return install("taskiq", "taskiq==0.13.0", "taskiq-nats==0.7.0", "asyncpg", "pydantic", "uvloop")


@dataclass
class Figures:
    """What one run of one implementation showed; times in seconds, memory in MB of the largest process."""

    implementation: str
    sync: str
    processes: int
    n: int = 0
    rate: float = 0
    """Submissions a second, from the first transaction to the commit of the last mail."""
    cpu: dict[str, float] = field(default_factory=dict)
    """CPU seconds per 1,000 submissions: services, postgres, nats."""
    pss: float = 0
    rss: float = 0
    idle: float | None = None
    """Percent of one CPU, of the busiest process, without any message."""
    idle_servers: float | None = None
    latency: dict[str, float] | None = None
    died: int = 0
    """Processes that ended or were replaced while it was measured: its figures are void."""


@dataclass
class Running:
    """One implementation while it runs."""

    lab: "Lab"
    program: Program
    processes: dict[str, subprocess.Popen[bytes]]
    client: Client
    publisher: Publisher
    database: Any
    mails: int = 0

    def pids(self, name: str | None = None) -> list[int]:
        return [
            pid for key, p in self.processes.items() if name in (None, key) for pid in machine.tree(p.pid)
        ]

    def spent(self) -> dict[str, float]:
        assert self.lab.postgres.pid
        assert self.lab.nats.pid
        return {
            "services": machine.cpu(self.pids()),
            "postgres": machine.cpu(machine.tree(self.lab.postgres.pid), ended=True),
            "nats": machine.cpu(machine.tree(self.lab.nats.pid)),
        }

    async def ready(self, processes: int) -> None:
        """Every process has asked each of its consumers for messages."""
        js = self.client.jetstream()

        async def asked() -> bool:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended: {self.lab.log(name)}")
            for stream, consumer in self.program.consumers:
                info = await js.consumer_info(stream, consumer)
                if (info.num_waiting or 0) < processes:
                    return False
            return True

        async def eventually_asked() -> bool:
            try:
                return await asked()
            except nats.js.errors.NotFoundError:
                return False  # taskiq makes its own

        await eventually(eventually_asked, 60, f"{self.program.name} to be ready")

    async def pause(self, until: str) -> None:
        if self.program is PEER:
            # A paused consumer forgets a request without an expiry, and taskiq waits for its answer for ever.
            for pid in self.pids():
                os.kill(pid, signal.SIGCONT if until == RESUME else signal.SIGSTOP)
            return
        stream, consumer = self.program.consumers[0]
        request = json.dumps({"pause_until": until}).encode()
        await self.client.request(f"$JS.API.CONSUMER.PAUSE.{stream}.{consumer}", request, timeout=5)

    async def load(self, filed: Sequence[Filed]) -> None:
        for i in range(0, len(filed), 500):
            part = [self.program.message(f) for f in filed[i : i + 500]]
            if len(await self.publisher.publish(part, patience=30)) < len(part):
                raise RuntimeError("a submission was not stored")

    async def drained(self, more: int) -> None:
        """Wait until `more` further mails are owed."""
        self.mails += more
        seen, since = -1, time.monotonic()
        while True:
            count = await self.database.fetchval(f"select count(*) from {self.program.mails}")
            if count >= self.mails:
                return
            if count != seen:
                seen, since = count, time.monotonic()
            if time.monotonic() - since > LATE:
                raise RuntimeError(f"{self.program.name} stopped at {count} of {self.mails} mails")
            await asyncio.sleep(0.25)

    async def steady(self, filed: Sequence[Filed], rate: float) -> dict[UUID, float]:
        """Publish at a fixed rate, whatever comes of it; when each was due, by case."""
        due: dict[UUID, float] = {}
        pending: set[asyncio.Task[list[UUID]]] = set()
        start = time.time() + 0.05
        for i, one in enumerate(filed):
            at = start + i / rate
            if (wait := at - time.time()) > 0:
                await asyncio.sleep(wait)
            due[one.case] = at
            task = asyncio.create_task(self.publisher.publish([self.program.message(one)]))
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)
        return due

    # --- what is measured ---

    async def idle(self, seconds: float) -> tuple[float, float]:
        """Percent of a CPU while nothing happens: the busiest process, and the servers together."""
        names = list(self.processes)
        before, servers = [machine.cpu(self.pids(n)) for n in names], self.spent()
        await asyncio.sleep(seconds)
        busiest = max(machine.cpu(self.pids(n)) - b for n, b in zip(names, before, strict=True))
        after = self.spent()
        more = sum(after[k] - servers[k] for k in ("postgres", "nats"))
        return 100 * busiest / seconds, 100 * more / seconds

    async def latency(self, seconds: float, rate: float, seed: str) -> dict[str, float]:
        """From the moment a submission was due to be published to the commit of its mail, in ms."""
        filed = list(filings(int(seconds * rate), seed))
        due = await self.steady(filed, rate)
        await self.drained(len(due))
        rows = await self.database.fetch(
            f'select "case", extract(epoch from pg_xact_commit_timestamp(xmin))::float8 as at from {self.program.mails}'
        )
        took = sorted(1000 * (row["at"] - due[row["case"]]) for row in rows if row["case"] in due)
        cuts = statistics.quantiles(took, n=100, method="inclusive")
        late = sum(t > 1000 for t in took)
        return {
            "p50": cuts[49],
            "p90": cuts[89],
            "p99": cuts[98],
            "max": took[-1],
            "n": len(took),
            "over_1s": late,
        }

    async def drain(self, n: int, seed: str) -> tuple[float, dict[str, float]]:
        """(submissions a second, CPU seconds per 1,000). The processes run and wait while it is loaded."""
        await self.pause("2100-01-01T00:00:00Z")
        await self.load(list(filings(n, seed)))
        await self.database.execute("checkpoint")
        await asyncio.sleep(0.5)
        before = self.spent()
        resumed = await self.database.fetchval("select clock_timestamp()")
        await self.pause(RESUME)
        await self.drained(n)
        after = self.spent()
        seconds = await self.database.fetchval(
            f"""select extract(epoch from (select max(pg_xact_commit_timestamp(xmin)) from {self.program.mails})
            - (select min(at) from {self.program.began} where at >= $1))::float8""",
            resumed,
        )
        return n / seconds, {k: (after[k] - before[k]) * 1000 / n for k in after}


class Lab:
    """PostgreSQL for the whole bench; a fresh database and a fresh NATS for every run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.postgres = Postgres(directory / "postgres", settings={"track_commit_timestamp": "on"})
        self.nats = Nats(directory / "nats")
        self.passwords = {name: secrets.token_urlsafe(16) for name in (*HOPS, "export")}
        self.clock = directory / "clock"
        self.clock.write_text(str(offset().total_seconds()))

    @contextmanager
    def open(self) -> Iterator["Lab"]:
        with self.postgres:
            self.postgres.create_database("empty")
            asyncio.run(migrate(self.postgres.dsn("empty"), passwords=self.passwords))
            self.postgres.sql(TASKIQ_TABLES, "empty")
            try:
                yield self
            finally:
                self.nats.stop()

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()[-2000:]

    async def run(
        self,
        program: Program,
        sync: str,
        processes: int,
        n: int,
        seed: str,
        *,
        idle: float = 0,
        latency: float = 0,
        rate: float = 100,
        profile: "Profile | None" = None,
    ) -> Figures:
        """Start everything afresh, warm it up, and measure what is asked for."""
        self._afresh(sync)
        figures = Figures(program.name, sync, processes, n)
        client = await nats.connect(self.nats.url)
        await provision(client.jetstream(timeout=10))
        publisher = Publisher(client)
        await publisher.start()
        database = await asyncpg.connect(self.postgres.dsn("bench"))
        started = self._start(program, processes)
        running = Running(self, program, started, client, publisher, database)
        try:
            await running.ready(processes)
            await running.steady(warm := list(filings(100 * processes, seed + "w")), 100)
            await running.drained(len(warm))
            whole = set(running.pids())
            if idle:
                await asyncio.sleep(1)
                figures.idle, figures.idle_servers = await running.idle(idle)
            if latency:
                figures.latency = await running.latency(latency, rate, seed + "l")
            if profile:
                profile.begin(running)
            if n:
                figures.rate, figures.cpu = await running.drain(n, seed + "d")
            if profile:
                profile.end()
            figures.died = len(whole ^ set(running.pids()))
            sizes = [machine.memory(running.pids(name)) for name in started]
            figures.pss, figures.rss = max(p for p, _ in sizes), max(r for _, r in sizes)
        finally:
            self._stop(started)
            await database.close()
            await client.close()
        return figures

    def _afresh(self, sync: str) -> None:
        self.nats.stop()
        shutil.rmtree(self.directory / "nats", ignore_errors=True)
        self.nats = Nats(self.directory / "nats", sync_always=sync == "always")
        self.nats.start()
        self.postgres.sql("drop database if exists bench with (force)")
        self.postgres.sql("create database bench template empty")

    def _start(self, program: Program, processes: int) -> dict[str, subprocess.Popen[bytes]]:
        started = {}
        for hop in HOPS:
            for i in range(processes):
                name = f"{program.name}-{hop}-{i + 1}"
                with (self.directory / f"{name}.log").open("wb") as log:
                    started[name] = subprocess.Popen(
                        [*_dying_with_parent(), *self._command(program, hop)],
                        env=self._environment(program, hop),
                        cwd=ROOT,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
        return started

    def _command(self, program: Program, hop: str) -> list[str]:
        if program is PEER:
            # As many workers as the others have processes; each of them takes all three tasks.
            options = ["--workers=1", "--max-async-tasks=64", "--max-prefetch=64", "--ack-type=when_executed"]
            return [
                str(OWN / "taskiq" / "bin" / "taskiq"),
                "worker",
                "tests.bench.peer_taskiq:broker",
                *options,
                "--log-level=ERROR",
            ]
        module = "tests.bench.serve" if program is YIQI else "tests.bench.handwritten"
        return [sys.executable, "-m", module, hop]

    def _environment(self, program: Program, hop: str) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("YIQI_")}
        if program is YIQI:
            return {
                **clean,
                "YIQI_NATS_URL": self.nats.url,
                "YIQI_DATABASE_URL": self.postgres.dsn("bench", f"yiqi_{hop}", self.passwords[hop]),
                "YIQI_CLOCK": str(self.clock),
                "YIQI_SENDING_HOURS": "",
                "YIQI_PORT": str(free_port()),
            }
        return {
            **clean,
            "PYTHONPATH": str(ROOT),
            "BENCH_NATS_URL": self.nats.url,
            "BENCH_DATABASE_URL": self.postgres.dsn("bench"),
        }

    def _stop(self, started: dict[str, subprocess.Popen[bytes]]) -> None:
        for process in started.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in started.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _dying_with_parent() -> list[str]:
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


class Profile:
    """What a process does while it drains, sampled by py-spy."""

    def __init__(self, hop: str, path: Path) -> None:
        self.hop = hop
        self.path = path
        self.cpu = 0.0
        """Seconds that the process spent."""
        self._pid = 0
        self._sampler: subprocess.Popen[bytes] | None = None

    def begin(self, running: Running) -> None:
        self._pid = running.pids(f"{running.program.name}-{self.hop}-1")[0]
        sampler = OWN / "py-spy" / "bin" / "py-spy"
        command: list[str | Path] = [
            sampler,
            "record",
            "--pid",
            str(self._pid),
            "--rate",
            "250",
            "--format",
            "raw",
            "--output",
            self.path,
        ]
        self._sampler = subprocess.Popen(
            [*command, "--duration", "3600", "--full-filenames"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(1)
        self.cpu = machine.cpu([self._pid])

    def end(self) -> None:
        assert self._sampler
        self.cpu = machine.cpu([self._pid]) - self.cpu
        self._sampler.send_signal(signal.SIGINT)
        self._sampler.wait(30)
