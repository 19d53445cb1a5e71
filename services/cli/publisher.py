"""`yiqi publisher`: playing another system, over the bus or through the HTTP door.

What it publishes is in `trial.py`; what another system itself runs are the examples in `tests/publishers`.
"""

import asyncio
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urljoin, urlsplit

import typer
from rich.markup import escape

from services.cli import common, filing, trial
from services.cli.common import FINDINGS, GOOD, NO_SERVER, UNUSABLE, AsOption, JsonOption, console, fail, out
from services.cli.trial import MISTAKES, Trial
from shared.contracts.envelope import CONTENT_TYPE
from shared.contracts.registry import EVENTS, SUBMISSION_FILED, EventType
from shared.notices.directory import Agency

app = typer.Typer(no_args_is_help=True, add_completion=False)

WAIT = 30.0
EVERY = 0.5
"""Seconds between two looks through the door."""

STATES = {
    "accepted": "[green]受理[/green]",
    "rejected": "[red]退回[/red]",
    "kept": "[yellow]留存[/yellow]（版本较新，系统升级后处理）",
    "unanswered": "[yellow]尚无回复[/yellow]（已存下，服务恢复后会处理）",
    "refused": "[red]未存下[/red]",
}


@dataclass
class Told:
    """What became of one event; `answer` is the feedback's data, or the door's problem."""

    trial: Trial
    state: str = "unanswered"
    answer: dict[str, Any] | None = None

    @property
    def expected(self) -> bool:
        wanted = ("rejected", "refused") if self.trial.mistake else ("accepted",)
        return self.state in wanted

    def tell(self, event: dict[str, Any]) -> None:
        self.state, self.answer = event["type"].split(".")[-2], event["data"]


@app.command()
def simulate(
    as_: AsOption,
    type_: Annotated[
        str, typer.Option("--type", help="事件类型，如 submission.filed")
    ] = SUBMISSION_FILED.name,
    notice: Annotated[
        str, typer.Option("--notice", help="按哪份通知编造，见 yiqi notice list")
    ] = "gz-collection-2025q1",
    form: Annotated[str | None, typer.Option("--form", help="按哪张清单式附件编造，如 F6")] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=100, help="发几个")] = 1,
    bad: Annotated[bool, typer.Option("--bad", help="故意发错：每种常见错误各一个")] = False,
    door: Annotated[str | None, typer.Option("--door", metavar="URL", help="不走总线，走 HTTP 接口")] = None,
    token: Annotated[Path | None, typer.Option("--token", help="HTTP 接口的令牌文件")] = None,
    as_json: JsonOption = False,
) -> None:
    """扮演一个外部系统：发布示例事件，等回复并说明。只用于测试环境，受理的会成为项目。

    与 yiqi up 配合就是一套测试环境：一个终端运行 yiqi up，另一个运行本命令。
    退出码 0：回复都如所料（示例受理，错例退回）；1：有的不是；3：没有连上，或没有回复。
    """
    agency = common.agency(as_)
    kind = next((e for e in EVENTS if e.cls == "in" and e.name == type_), None)
    if kind is None:
        fail(f"没有事件 {type_}；有：{'、'.join(e.name for e in EVENTS if e.cls == 'in')}", UNUSABLE)
    trials = _trials(kind, notice, form, agency, count, bad)
    if door is not None:
        if token is None:
            fail("--door 须与 --token 同时使用：令牌由 yiqi publisher token 发给", UNUSABLE)
        told = asyncio.run(_through_the_door(door, token.read_text(encoding="ascii").strip(), trials))
    else:
        told = asyncio.run(_over_the_bus(agency.code, kind, trials))
    if as_json:
        out(
            [
                {"mistake": t.trial.mistake, "event": t.trial.document, "state": t.state, "answer": t.answer}
                for t in told
            ]
        )
    else:
        for one in told:
            _print(one)
    if any(t.state == "unanswered" for t in told):
        raise typer.Exit(NO_SERVER)
    raise typer.Exit(GOOD if all(t.expected for t in told) else FINDINGS)


def _trials(
    kind: EventType, notice: str, form: str | None, agency: Agency, count: int, bad: bool
) -> list[Trial]:
    now = datetime.now(UTC)
    if kind is SUBMISSION_FILED:
        compiled = common.notice(notice).notice
        lists = trial.lists(compiled, agency.kind)
        chosen = next((f for f in lists if form in (None, f.id)), None)
        if chosen is None:
            fail(
                f"{agency.name}按 {notice} 可编造的附件：{'、'.join(f.id for f in lists) or '没有'}", UNUSABLE
            )
        documents = list(trial.filings(compiled, chosen, agency, count, now))
    else:
        documents = list(trial.golden(kind, agency, count, now))
        if not documents:
            fail(f"{kind.name} 没有公布的示例", UNUSABLE)
    if not bad:
        return [Trial(document) for document in documents]
    return [trial.spoilt(document, mistake) for document in documents for mistake in MISTAKES]


async def _over_the_bus(me: str, kind: EventType, trials: Sequence[Trial]) -> list[Told]:
    """All are published, and then the answers awaited."""
    from shared.runtime.streams import IN

    told: dict[int, Told] = {}
    async with common.bus(me) as client:
        answers = await client.subscribe(f"sme.out.v1.{me}.event.*")
        js = client.jetstream(timeout=5)
        for one in trials:
            headers = {"Nats-Msg-Id": f"{me}:{one.document['id']}", "Content-Type": CONTENT_TYPE}
            ack = await js.publish(kind.subject(me), one.body, stream=IN, headers=headers)
            told[ack.seq] = Told(one)
        by_id = {t.trial.document["id"]: t for t in told.values()}
        try:
            async with asyncio.timeout(WAIT):
                async for message in answers.messages:
                    event = json.loads(message.data)
                    data = event["data"]
                    rejected = data.get("rejected") or {}
                    named = data.get("accepted") or data.get("kept") or rejected.get("id")
                    if found := told.get(rejected.get("seq", 0)) or by_id.get(named):
                        found.tell(event)
                    if all(t.answer for t in told.values()):
                        break
        except TimeoutError:
            pass
    return list(told.values())


async def _through_the_door(door: str, token: str, trials: Sequence[Trial]) -> list[Told]:
    if urlsplit(door).scheme not in ("http", "https"):
        fail("--door 应为网址，如 https://door.example", UNUSABLE)
    context = ssl.create_default_context(cafile=common.settings().nats_ca)

    def ask(path: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
        head = {"Authorization": f"Bearer {token}", "Content-Type": CONTENT_TYPE}
        request = urllib.request.Request(urljoin(door, path), body, head)  # noqa: S310 - looked at above
        try:
            with urllib.request.urlopen(request, timeout=20, context=context) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    told, status = [Told(one) for one in trials], {}
    for n, one in enumerate(told):
        code, answer = await asyncio.to_thread(ask, "/events", one.trial.body)
        if code == 202:
            status[n] = answer["status"]
        else:
            one.state, one.answer = "refused", answer
    for _ in range(int(WAIT / EVERY)):
        for n in list(status):
            _, answer = await asyncio.to_thread(ask, status[n])
            if answer.get("answer"):
                told[n].tell(answer["answer"])
                del status[n]
        if not status:
            break
        await asyncio.sleep(EVERY)
    return told


def _print(told: Told) -> None:
    what = told.trial.mistake or told.trial.document["type"]
    answer = told.answer or {}
    number = f" {answer['number']}" if answer.get("number") else ""
    detail = f"：{answer['detail']}" if answer.get("detail") else ""
    console.print(
        f"[bold]{what}[/bold] {told.trial.document['id']} → {STATES.get(told.state, told.state)}{escape(number + detail)}"
    )
    if errors := answer.get("errors"):
        common.table(
            "",
            ("位置", "程度", "规则", "条款", "说明"),
            (
                (e["pointer"], filing.SEVERITY[e["severity"]], e["rule"], e["clause"], e["detail"])
                for e in errors
            ),
        )
