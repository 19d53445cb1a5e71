"""taskiq on JetStream, the fastest durable peer: three tasks, each sends the next, one insert a task.

Runs in its own environment (`var/bench/taskiq`), by `taskiq worker tests.bench.peer_taskiq:broker`. There is
no inbox and no outbox: a crash between the insert and the next task loses the chain's rest or repeats it.
"""

import os
from typing import Any
from uuid import UUID, uuid5

import asyncpg
from taskiq import TaskiqEvents  # type: ignore[import-not-found,unused-ignore]
from taskiq_nats import PullBasedJetStreamBroker  # type: ignore[import-not-found,unused-ignore]

from shared.contracts.envelope import YIQI
from shared.contracts.registry import SUBMISSION_FILED

broker = PullBasedJetStreamBroker(
    [os.environ["BENCH_NATS_URL"]],
    subject="taskiq.bench",
    stream_name="TASKIQ",
    durable="taskiq",
    # No timeout: with one, nats-py's bare TimeoutError ends the worker (guide §3.1) and the peer looks slow.
    pull_consume_batch=8,
)
pools: list[Any] = []


@broker.on_event(TaskiqEvents.WORKER_STARTUP)  # type: ignore[untyped-decorator,unused-ignore]
async def start(_: Any) -> None:
    pools.append(await asyncpg.create_pool(os.environ["BENCH_DATABASE_URL"], min_size=1, max_size=8))


@broker.task  # type: ignore[untyped-decorator,unused-ignore]
async def receive(raw: str) -> None:
    event = SUBMISSION_FILED.envelope.model_validate_json(raw)
    data = event.data
    title = data.values["product_name" if data.form == "F4" else "activity_name"]
    case = str(uuid5(YIQI, f"case/{data.notice}/{data.form}/{data.filer.code}/{title}"))
    await pools[0].execute(
        "insert into taskiq.submission (id, form, filer, doc) values ($1, $2, $3, $4) on conflict do nothing",
        UUID(case), data.form, data.filer.code, raw,
    )  # fmt: skip
    await open_case.kiq(case, title, data.filer.name, data.filer.email)


@broker.task  # type: ignore[untyped-decorator,unused-ignore]
async def open_case(case: str, title: str, name: str, email: str) -> None:
    await pools[0].execute(
        "insert into taskiq.review_case (id, title, state) values ($1, $2, 'open') on conflict do nothing",
        UUID(case), title,
    )  # fmt: skip
    await mail.kiq(case, title, name, email)


@broker.task  # type: ignore[untyped-decorator,unused-ignore]
async def mail(case: str, title: str, name: str, email: str) -> None:
    await pools[0].execute(
        'insert into taskiq.mail ("case", recipient, subject, body) values ($1, $2, $3, $4) on conflict do nothing',
        UUID(case), email, "已收到您的申报", f"尊敬的{name}：您提交的“{title}”已收到。",
    )  # fmt: skip
