"""`python -m tests.bench.mails`: how fast notify sends what is owed, beside a pool of bare SMTP connections without any
ledger, to the same sink in the same run; and how soon a mail leaves after its event at 50 a second.

The sink is `sink.py`. No time passes or fails.
"""

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid5

import aiosmtplib
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from services.cli.local import Local
from services.notify import store
from services.notify.compose import compose
from services.notify.owed import Owed, letters_of_case
from services.notify.templates import Letters
from shared.contracts import registry
from shared.contracts.case import CaseOpened
from shared.notices.directory import Directory
from shared.notices.load import load_all
from shared.runtime.database import connect
from shared.runtime.embedded import free_port, wait_until
from shared.runtime.streams import EVT
from tests.bench import machine
from tests.bench.lab import ROOT
from tests.goldens import golden

console = Console(width=120)
SPACE = UUID("0c6b3f4e-0f0e-4a44-9a44-8d1f3e1b7c11")
EXAMPLE = golden("cn.gov.gz.sme.case.opened.v1")
GUIDE, READY = "pool, a plain EmailMessage each", "pool, our letters' bytes ready"


def cases(n: int, tag: str) -> Iterator[CaseOpened]:
    """As they come from review, each of its own filer: different addresses in a few hundred domains."""
    example = json.loads(EXAMPLE.read_text())["data"]
    for i in range(n):
        filer = {**example["filer"], "email": f"office-{i}@agency-{i % 300}.example"}
        case = {"case": str(uuid5(SPACE, f"{tag}/{i}")), "number": f"F3-{i:08}", "filer": filer}
        # Not recommended and not in a package: one letter each, to the filer.
        alone: dict[str, Any] = {"package": None, "recommender": None, "stage": "formal_check", "changed": []}
        yield CaseOpened.model_validate({**example, **case, **alone})


def letters(n: int, tag: str) -> list[Owed]:
    directory, notices = Directory.load(), load_all(None)
    return [
        one
        for change in cases(n, tag)
        for one in letters_of_case(notices[change.notice].notice, change, directory)
        if one.letter == "accepted"
    ]


@contextmanager
def sink(directory: Path) -> Iterator[tuple[int, Path, int]]:
    port, log = free_port(), directory / "sink.log"
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.sink", str(port), str(log)], cwd=ROOT)
    wait_until(log.exists, 20, "the sink")
    try:
        yield port, log, process.pid
    finally:
        process.kill()
        process.wait()


def arrived(log: Path, before: int = 0) -> list[tuple[str, float]]:
    lines = log.read_text().splitlines()[before:]
    return [(id_, float(at)) for id_, at in (line.split() for line in lines)]


def _all(log: Path, n: int) -> None:
    """Without taking part in the work: whoever looks often is a load."""
    deadline = time.monotonic() + 600
    while len(log.read_text().splitlines()) < n:
        if time.monotonic() > deadline:
            raise TimeoutError("the sink has not got all mails")
        time.sleep(0.25)


def rate(times: list[float]) -> float:
    """Of the steady middle: neither the start nor the last stragglers."""
    times = sorted(times)
    cut = len(times) // 20
    first, last = times[cut], times[-cut - 1]
    return (len(times) - 2 * cut - 1) / (last - first)


# --- without a ledger --------------------------------------------------------------------------------


def plain(i: int) -> EmailMessage:
    """As the guide's own measurement has it: 1.5 KB of text, made by the standard library alone."""
    message = EmailMessage()
    message["From"] = "no-reply@example.cn"
    message["To"] = f"u{i}@example.cn"
    message["Subject"] = f"已收到您的申报 {i}"
    message["Message-ID"] = f"<{i}.{time.time_ns()}@example.cn>"
    text = f"尊敬的企业用户:\n您提交的申报已收到,编号 {i}。\n"
    message.set_content(text + "请登录平台查看办理进度。" * 20)
    return message


async def pool(port: int, n: int, connections: int, how: str) -> None:
    todo = iter(range(n))
    sender = Address("益企服务平台", addr_spec="yiqi@yiqi.test")
    now = datetime.now(UTC)
    written = Letters.load()
    ready = [
        (
            one.address,
            compose(one, letters=written, message_id_domain="yiqi.test", sender=sender, date=now).as_bytes(),
        )
        for one in (letters(n, f"pool-{time.time_ns()}") if how == READY else ())
    ]

    async def one() -> None:
        client = aiosmtplib.SMTP(
            hostname="127.0.0.1", port=port, local_hostname="bench.test", start_tls=False
        )
        async with client:
            for i in todo:
                if ready:
                    await client.sendmail("yiqi@yiqi.test", ready[i][0] or "", ready[i][1])
                else:
                    await client.send_message(plain(i))

    await asyncio.gather(*(one() for _ in range(connections)))


# --- notify ------------------------------------------------------------------------------------------


async def preload(local: Local, owed: list[Owed]) -> None:
    engine = connect(local.postgres.dsn("yiqi"), "bench")
    for start in range(0, len(owed), 500):
        async with engine.begin() as conn:
            store.owe(conn, owed[start : start + 500], store.Gate(), datetime.now(UTC))
    await engine.dispose()


def drained(local: Local) -> bool:
    left = local.postgres.sql(
        "select count(*) from notify.mail where state in ('queued', 'claimed', 'data')", database="yiqi"
    )
    return left.strip() == "0"


async def steadily(local: Local, n: int, per_second: float) -> dict[str, float]:
    """Publish events at a rate, whatever comes of them; the moment of each, by its case."""
    client = await local.connect("review")
    js, at = client.jetstream(timeout=5), dict[str, float]()
    start = time.time()
    for i, change in enumerate(cases(n, "steady")):
        await asyncio.sleep(max(0.0, start + i / per_second - time.time()))
        id_, body = registry.CASE_OPENED.wire(change, change.case, at=datetime.now(UTC))
        at[str(change.case)] = time.time()
        subject = registry.CASE_OPENED.subject(change.unit)
        await js.publish(subject, body, stream=EVT, headers={"Nats-Msg-Id": id_})
    await client.close()
    return at


def bench(
    n: Annotated[int, typer.Option(help="mails of one run")] = 4000,
    reps: Annotated[int, typer.Option(help="runs of each, in turn")] = 3,
    connections: Annotated[int, typer.Option(help="SMTP connections of each")] = 8,
    seconds: Annotated[float, typer.Option(help="of the run at 50 events a second; 0: none")] = 30,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
    directory: Annotated[Path, typer.Option("--dir")] = ROOT / "var" / "bench" / "mails",
) -> None:
    """Measure notify's sending beside a pool without a ledger."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    figures: dict[str, list[float]] = {"yiqi": [], GUIDE: [], READY: []}
    cpu: list[float] = []
    with sink(directory) as (port, log, _):
        local = Local(
            directory / "lab",
            services=("notify",),
            mail=False,
            accounts=False,
            extra={"YIQI_SMTP_CONNECTIONS": str(connections)},
        )
        local.mails.port = port
        try:
            local.infrastructure()
            for rep in range(reps):
                for how in (GUIDE, READY):
                    before = len(arrived(log))
                    subprocess.run(
                        [
                            sys.executable,
                            "-m",
                            "tests.bench.mails",
                            "pool",
                            str(port),
                            str(n),
                            str(connections),
                            how,
                        ],
                        check=True,
                        cwd=ROOT,
                    )
                    figures[how].append(rate([at for _, at in arrived(log, before)]))
                before = len(arrived(log))
                asyncio.run(preload(local, letters(n, f"run-{rep}")))
                local.launch("notify")
                local.ready()
                _all(log, before + n)
                wait_until(lambda: drained(local), 60, "all mails to be settled")
                cpu.append(machine.cpu([local.running["notify"].pid]) / n * 1000)
                got = arrived(log, before)
                assert len(got) == len({id_ for id_, _ in got}) == n, "each mail once"
                figures["yiqi"].append(rate([at for _, at in got]))
                local.running["notify"].terminate()
                local.running.pop("notify").wait(30)
            shown(figures, cpu)
            late = _steady(local, log, seconds) if seconds else {}
        finally:
            local.stop()
    if json_file:
        json_file.write_text(json.dumps({"rates": figures, "cpu_ms": cpu, **late}, indent=1))


def shown(figures: dict[str, list[float]], cpu: list[float]) -> None:
    table = Table(title="mails a second")
    for column in ("", "median", "runs", "yiqi's ratio"):
        table.add_column(column)
    ours = statistics.median(figures["yiqi"])
    for name, rates in figures.items():
        middle = statistics.median(rates)
        table.add_row(name, f"{middle:.0f}", " ".join(f"{r:.0f}" for r in rates), f"{ours / middle:.2f}")
    console.print(table)
    console.print(f"notify: {statistics.median(cpu):.2f} s of CPU a thousand mails, its start included")


def _steady(local: Local, log: Path, seconds: float) -> dict[str, Any]:
    n, before = int(seconds * 50), len(arrived(log))
    local.launch("notify")
    local.ready()
    said = asyncio.run(steadily(local, n, 50))
    sql = "select id, \"case\" from notify.mail where letter = 'accepted'"
    _all(log, before + n)
    of = dict(line.split("|") for line in local.postgres.sql(sql, database="yiqi").split())
    took = sorted(
        at - said[of[id_[3:39]]] for id_, at in arrived(log, before) if of.get(id_[3:39], "") in said
    )
    within = sum(t <= 10 for t in took) / n
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    console.print(
        f"at 50 events a second for {seconds:.0f} s: {within:.2%} of {n} within 10 s; "
        f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, last {took[-1] * 1000:.0f} ms"
    )
    return {"within_10_s": within, "p50": p50, "p99": p99, "worst": took[-1]}


if __name__ == "__main__":
    if sys.argv[1:2] == ["pool"]:
        uvloop.run(pool(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
    else:
        typer.run(bench)
