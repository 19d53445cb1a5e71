"""`make bench`: submissions per second, latency, CPU and memory of the pipeline, beside the same work by hand
and beside taskiq, all in one run and in turn, because machines are noisy. No time passes or fails.

What is done is in `work.py`, how one run is measured in `lab.py`; what the clock costs is in `sweep.py`.
"""

import asyncio
import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.bench import sweep as clock
from tests.bench.lab import (
    BY_HAND,
    HOPS,
    PEER,
    ROOT,
    YIQI,
    Figures,
    Lab,
    Profile,
    Program,
    install,
    install_taskiq,
)

console = Console(width=140)
WAITING = "Runner.run (asyncio/runners.py)"
PROGRAMS = {p.name: p for p in (YIQI, BY_HAND, PEER)}


def bench(
    n: Annotated[int, typer.Option(help="submissions to drain in one run")] = 5000,
    reps: Annotated[int, typer.Option(help="runs of each, in turn")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="1,000 submissions, one run, short waits")] = False,
    only: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(PROGRAMS)}; may be repeated")] = None,
    processes: Annotated[str, typer.Option(help="processes a service")] = "1,2",
    sync: Annotated[str, typer.Option(help="sync_interval of NATS")] = "always,default",
    seconds: Annotated[float, typer.Option(help="of the latency run at 100/s; 0: none")] = 10,
    soak: Annotated[float, typer.Option(help="instead of all else: this many seconds at 100/s")] = 0,
    profile: Annotated[
        str | None, typer.Option(help=f"instead of all else: where the time of {', '.join(HOPS)} goes")
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option("--sweep", help="instead of all else: what review's clock costs with 300,000 deadlines"),
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="write every run to this file")] = None,
    directory: Annotated[Path, typer.Option("--dir", help="where the servers live")] = ROOT
    / "var"
    / "bench"
    / "lab",
) -> None:
    """Measure the pipeline submission → case → mail owed."""
    if sweep:
        if why := clock.run(directory / "sweep", console, quick=quick):
            console.print(f"[red]{why}[/red]")
            raise typer.Exit(1)
        return
    if quick:
        n, reps, seconds = min(n, 1000), 1, min(seconds, 5)
    idle = 3 if quick else 10
    names = only or list(PROGRAMS)
    for name in names:
        if name not in PROGRAMS:
            raise typer.BadParameter(f"no {name}; there are {', '.join(PROGRAMS)}")
    if "taskiq" in names and not profile and (why := install_taskiq()):
        console.print(f"[yellow]without taskiq, it cannot be installed: {why}[/yellow]")
        names.remove("taskiq")
    configurations = [(s, int(p)) for s in sync.split(",") for p in processes.split(",")]
    runs: list[Figures] = []
    with Lab(directory).open() as lab:
        if profile:
            _profile(lab, PROGRAMS[names[0]], profile, n)
            return
        if soak:
            n, reps, idle, seconds, configurations = 0, 1, 0, soak, configurations[:1]
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("", total=len(configurations) * reps * len(names))
            for s, p in configurations:
                for rep in range(reps):
                    for name in names:
                        progress.update(task, description=f"{name}, sync {s}, {p} a service, run {rep + 1}")
                        first = rep == 0
                        figures = asyncio.run(
                            lab.run(
                                PROGRAMS[name],
                                s,
                                p,
                                n,
                                f"{rep}{p}{s[0]}",
                                idle=idle if first else 0,
                                latency=seconds if first else 0,
                            )
                        )
                        runs.append(figures)
                        progress.advance(task)
                        if json_file:
                            json_file.write_text(json.dumps([asdict(r) for r in runs], indent=1))
    console.print(_table(runs))
    if void := [r for r in runs if r.died]:
        which = ", ".join(sorted({r.implementation for r in void}))
        console.print(f"[red]{len(void)} runs are left out: processes of {which} died while measured.[/red]")
    if "handwritten" in names:
        console.print("ratio: to handwritten in the same configuration. CPU: seconds per 1,000 submissions.")


def _table(runs: Sequence[Figures]) -> Table:
    table = Table(title="submission → case → mail owed")
    for column in (
        "sync",
        "proc.",
        "",
        "per s",
        "[min-max]",
        "ratio",
        "CPU serv.",
        "PG",
        "NATS",
        "PSS MB",
        "idle %",
        "p50 ms",
        "p99",
        "max",
        ">1 s",
    ):
        table.add_column(column, justify="left" if column in ("sync", "") else "right", no_wrap=True)
    groups: dict[tuple[str, int, str], list[Figures]] = {}
    for run in runs:
        groups.setdefault((run.sync, run.processes, run.implementation), []).append(run)
    for (sync, processes, name), group in groups.items():
        void = [g for g in group if g.died]
        group = [g for g in group if not g.died]
        if not group:
            table.add_row(sync, str(processes), name, f"[red]void: processes died in {len(void)} runs[/red]")
            continue
        rates = [g.rate for g in group]
        by_hand = [g for g in groups.get((sync, processes, "handwritten"), []) if not g.died]
        ratio = (
            statistics.median(rates) / statistics.median(g.rate for g in by_hand)
            if by_hand and rates[0]
            else None
        )
        cpu = {k: statistics.median(g.cpu[k] for g in group) for k in group[0].cpu}
        latency = next((g.latency for g in group if g.latency), None) or {}
        idle = next((g.idle for g in group if g.idle is not None), None)
        table.add_row(
            sync,
            str(processes),
            name,
            f"{statistics.median(rates):.0f}",
            f"{min(rates):.0f}-{max(rates):.0f}",
            _number(ratio, 2),
            *(_number(cpu.get(k), 2) for k in ("services", "postgres", "nats")),
            f"{max(g.pss for g in group):.0f}",
            _number(idle, 1),
            *(_number(latency.get(k), 1) for k in ("p50", "p99", "max")),
            _number(latency.get("over_1s"), 0),
            end_section=name == list(PROGRAMS)[-1],
        )
    return table


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


# --- profile -----------------------------------------------------------------------------------------


def _profile(lab: Lab, program: Program, hop: str, n: int) -> None:
    if hop not in HOPS:
        raise typer.BadParameter(f"no {hop}; there are {', '.join(HOPS)}")
    if why := install("py-spy", "py-spy"):
        console.print(f"py-spy cannot be installed: {why}")
        raise typer.Exit(1)
    path = lab.directory / f"{hop}.stacks"
    sampled = Profile(hop, path)
    figures = asyncio.run(lab.run(program, "default", 1, n, "p", profile=sampled))
    whole = sampled.cpu / n * 1e6
    console.print(
        f"{program.name} {hop}: {whole:.0f} µs of CPU a submission; {figures.rate:.0f} submissions/s while sampled"
    )
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = [_short(f) for f in stack.split(";")]
        if "_bootstrap" in stack or frames[-1] == WAITING:
            continue  # a sleeping thread and the waiting event loop look busy to py-spy
        own[frames[-1]] += int(samples)
        for frame in set(frames):
            below[frame] += int(samples)
    total = sum(own.values())
    for frame in [f for f, c in below.items() if c > 0.75 * total or "faststream" in f]:
        del below[frame]  # what leads to everything says nothing
    for title, counts in (("with what it calls", below), ("by itself", own)):
        table = Table(title=title)
        for column in ("µs", "%"):
            table.add_column(column, justify="right")
        table.add_column("function", no_wrap=True)
        for frame, count in counts.most_common(25):
            table.add_row(f"{whole * count / total:.0f}", f"{100 * count / total:.1f}", frame)
        console.print(table)


def _short(frame: str) -> str:
    """`function (file:line)` without the line and with the end of the path only."""
    name, _, place = frame.rpartition(" (")
    parts = Path(place.partition(":")[0].rstrip(")")).parts
    return f"{name} ({'/'.join(parts[-2:])})"


if __name__ == "__main__":
    typer.run(bench)
