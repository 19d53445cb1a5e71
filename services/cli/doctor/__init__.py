"""`yiqi ops doctor`: everything that this system stands on, looked at once: what is wrong, and what to do about it.

What is looked at is in the modules beside; nothing is changed, no mail is sent, and no personal data is told.
"""

import asyncio
from collections.abc import Iterable
from typing import Annotated

import typer

from services.cli import common
from services.cli.common import JsonOption, console, out
from services.cli.doctor import bus, data, outside
from services.cli.doctor.line import Line, State
from shared.runtime.clock import Clock


def doctor(
    replicas: Annotated[
        int | None, typer.Option(help="应有的 JetStream 副本数，生产为3；不写则按现有的流")
    ] = None,
    monitor: Annotated[
        list[str] | None,
        typer.Option(
            help="nats-server 的监控地址，如 http://nats-0.nats:8222；可多次；用来核对 sync_interval"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """体检：逐项检查依赖、漂移、时钟、日历、证书、积压和待人处理的事。退出码：0正常，1注意，2故障。"""
    lines = asyncio.run(_all(replicas, monitor or []))
    worst = max((line.state for line in lines), default=State.GOOD)
    if as_json:
        out({"state": worst.name.lower(), "checks": [line.told() for line in lines]})
    else:
        _print(lines, worst)
    raise typer.Exit(int(worst))


async def _all(replicas: int | None, monitors: list[str]) -> list[Line]:
    """Servers one after the other, so that what one is slow at is not held against the next."""
    settings = common.settings()
    clock = Clock(settings.clock)
    found = [*await outside.look(settings, clock.now())]
    found += await bus.look(settings, clock, replicas, monitors)
    found += await data.look(settings, clock)
    return found


def _print(lines: Iterable[Line], worst: State) -> None:
    style = {State.GOOD: "green", State.ATTENTION: "yellow", State.FAULT: "red"}
    for line in lines:
        console.print(
            f"[{style[line.state]}]{line.state.chinese}[/]  ", end="", soft_wrap=True, highlight=False
        )
        told = f"{line.name}：{line.what}" + (f" → {line.do}" if line.do else "")
        console.print(told, markup=False, soft_wrap=True)
    counts = {s: sum(line.state is s for line in lines) for s in State}
    console.print("、".join(f"{s.chinese}{n}项" for s, n in counts.items()) + f"；总体：{worst.chinese}")
