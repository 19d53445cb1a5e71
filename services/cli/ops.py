"""`yiqi ops`: what an operator does to the whole system; here, letting go of personal data that is needed no more, and
hearing everything again.

Backup and restore are in `backup.py`, the checks in `doctor/`; what the bus forgets is the age of its streams (`shared/runtime/streams.py`).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import typer
from nats.js.errors import NotFoundError

from services.cli import common
from services.cli.common import FINDINGS, UNUSABLE, JsonOption, console, fail, out, table
from shared.notices.calendar import SHANGHAI
from shared.notices.load import load_all
from shared.runtime import SERVICES
from shared.runtime.accounts import PROVISIONER
from shared.runtime.database import Connection, connect
from shared.runtime.streams import CONSUMERS

app = typer.Typer(no_args_is_help=True)

BATCH = 200

KINDS = {
    "contacts": "已办结项目的联系方式（按填报次数）",
    "catalogues": "目录数据中的联系方式",
    "files": "存档的文件",
    "mails": "已了结邮件的地址和内容",
    "people": "已到期联系人的邮箱",
    "dead": "已处理的无法处理消息的内容",
    "bounces": "退信的原文说明",
    "suppressed": "不再发信的地址",
    "held": "已处理的留存决定的内容",
    "answers": "按编号查找答复的索引",
}
"""What is let go, in this order; each is found by what it is itself, so that a run that broke off is only run again."""

ENDED = """
ended as (
  select c."case", c.package from review."case" c
  join unnest(cast(:notices as text[]), cast(:stages as text[])) as s (notice, stage)
    on c.notice = s.notice and c.stage = s.stage
  where c.entered < :before
), alive as (select "case", package from review."case" where "case" not in (select "case" from ended))
"""
"""A case whose notice is not loaded has no end that we know of: it is left alone."""

NEEDED = f"""
with {ENDED}, packages as (
  select package from alive where package is not null
  union select f.filing ->> 'package' from review.filing f join alive using ("case")
), needed as (
  select jsonb_array_elements_text(files) as sha256 from intake.package
  where received >= :before or key in (select package from packages)
  union select a.sha256 from intake.attached a join alive using ("case")
)
select sha256 from intake.file where at < :before and sha256 not in (select sha256 from needed)
"""
"""Files that no open case refers to: those of ended ones, of what was refused, and the marked copies."""

SIMPLE = {
    "catalogues": (
        f'with {ENDED} select "case" from export.contact where "case" in (select "case" from ended)',
        'delete from export.contact where "case" = any(cast(:found as uuid[]))',
    ),
    "files": (NEEDED, "delete from intake.file where sha256 = any(cast(:found as text[]))"),
    "mails": (
        "select id from notify.mail where state in ('sent', 'failed', 'unknown', 'bounced', 'merged', 'replaced', 'discarded') "
        "and coalesce(settled_at, owed_at) < :before "
        "and (address is not null or params <> '{}' or attachments <> '[]')",
        "update notify.mail set address = null, params = '{}', attachments = '[]', why = null, "
        "handled = (select coalesce(jsonb_agg(one - 'reason'), '[]') from jsonb_array_elements(handled) one) "
        "where id = any(cast(:found as uuid[]))",
    ),
    "people": (
        "select agency || '/' || code from notify.contact where address is not null and "
        "(until < cast(cast(:before as timestamptz) at time zone 'Asia/Shanghai' as date) "
        "or not active and changed_at < :before)",
        "update notify.contact set address = null where agency || '/' || code = any(cast(:found as text[]))",
    ),
    "bounces": (
        "select id from notify.bounce where at < :before and why is not null",
        "update notify.bounce set why = null where id = any(cast(:found as uuid[]))",
    ),
    # Who writes there again is told again.
    "suppressed": (
        "select address from notify.suppressed where at < :before",
        "delete from notify.suppressed where address = any(cast(:found as text[]))",
    ),
    "held": (
        "select key from review.held where state <> 'held' and settled_at < :before and decisions <> '[]'",
        "update review.held set decisions = '[]', reason = '' where key = any(cast(:found as uuid[]))",
    ),
    "answers": (
        "select key from intake.answer where at < :before",
        "delete from intake.answer where key = any(cast(:found as uuid[]))",
    ),
}
DEAD = (
    "select n from {service}.dead where state in ('replayed', 'discarded') and at < :before "
    "and (length(body) > 0 or headers <> '{{}}')",
    "update {service}.dead set body = '', headers = '{{}}' where n = any(cast(:found as bigint[]))",
)
WAITING = "select count(*) from {service}.dead where state in ('dead', 'replay') and at < :before"
CONTACTS = f"""
with {ENDED} select distinct p."case" from review.contact p join ended using ("case")
where (p."values" is not null or p.email is not null) and p."case" > :after order by p."case"
"""


@app.command("retain")
def retain(
    closed_before: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="清除此日以前办结、了结的")
    ] = None,
    older_than: Annotated[int | None, typer.Option(min=1, help="清除早于这么多天的")] = None,
    check: Annotated[bool, typer.Option("--check", help="只统计，不清除")] = False,
    by: Annotated[str, typer.Option(help="经办人")] = "operator",
    as_json: JsonOption = False,
) -> None:
    """清除不再需要的个人信息；保存多久由贵单位定（通知没有规定）。经过仍可核对。"""
    if (closed_before is None) == (older_than is None):
        fail("请写 --closed-before 或 --older-than 之一", UNUSABLE)
    if closed_before is not None:
        before = closed_before.replace(tzinfo=SHANGHAI)
    else:
        before = datetime.now(SHANGHAI) - timedelta(days=older_than or 0)
    run = _Run(before, by, check=check)
    asyncio.run(run.all())
    if as_json:
        told = {"before": before.isoformat(), "check": check, "counts": run.counts}
        out({**told, "waiting": run.waiting, "wrong": run.wrong})
    else:
        title = f"{before:%Y-%m-%d %H:%M} 以前的{'，未清除' if check else '，已清除'}"
        table(title, ("类别", "条数"), ((KINDS[kind], count) for kind, count in run.counts.items()))
        if run.waiting:
            console.print(f"另有{run.waiting}条无法处理的消息尚待处理，见 yiqi dead list")
        for number in run.wrong:
            console.print(f"{number} 的内容与经过不符，未清除，见 yiqi case verify {number}", markup=False)
    raise typer.Exit(FINDINGS if run.wrong else common.GOOD)


@app.command("replay")
def replay(
    service: Annotated[str, typer.Argument(help="intake、review、notify 或 export")],
    yes: Annotated[bool, typer.Option("--yes", help="确认；不写则只说约有多少条")] = False,
) -> None:
    """把一个服务听过的全部消息再投递一遍。办过的不再办（收件登记认得），没办成的补办；服务可以开着。"""
    if service not in SERVICES:
        fail(f"没有服务 {service}；有：{'、'.join(SERVICES)}", UNUSABLE)
    counts = asyncio.run(_replay(service, yes=yes))
    for durable, count in counts.items():
        console.print(f"{durable}：{'' if yes else '约'}{count}条{'将再投递' if yes else ''}")
    console.print("已从头开始，进度见 yiqi ops doctor 的“积压”" if yes else "加 --yes 才执行")


async def _replay(service: str, *, yes: bool) -> dict[str, int]:
    """A new consumer begins with the first message that its stream still has."""
    counts = {}
    async with common.bus(PROVISIONER) as client:
        js = client.jetstream(timeout=10)
        for consumer in (c for c in CONSUMERS if c.service == service):
            if yes:
                with suppress(NotFoundError):
                    await js.delete_consumer(consumer.stream, consumer.durable)
                made = await js.add_consumer(consumer.stream, consumer.config())
                counts[consumer.durable] = made.num_pending or 0
                continue
            info = await js.consumer_info(consumer.stream, consumer.durable)
            heard = info.delivered.consumer_seq if info.delivered else 0
            counts[consumer.durable] = heard + (info.num_pending or 0)
    return counts


class _Run:
    """One run: a transaction a batch, in which what was let go is also recorded."""

    def __init__(self, before: datetime, by: str, *, check: bool) -> None:
        self.id, self.before, self.by, self.check = uuid4(), before, by, check
        self.counts = dict.fromkeys(KINDS, 0)
        self.waiting = 0
        self.wrong: list[str] = []
        ends = [
            (id_, stage.id)
            for id_, one in load_all(common.settings().notices).items()
            for stage in one.notice.procedure.stages
            if stage.ends
        ]
        self.ended = {"notices": [n for n, _ in ends], "stages": [s for _, s in ends]}
        self.engine = connect(common.settings().database_url.get_secret_value(), "ops")

    async def all(self) -> None:
        try:
            await self._contacts()
            for kind, (find, let_go) in SIMPLE.items():
                await self._simple(kind, find, let_go)
            for service in SERVICES:
                await self._simple("dead", *(sql.format(service=service) for sql in DEAD))
                async with self.engine.connect() as conn:
                    found = await conn.read(WAITING.format(service=service), {"before": self.before})
                    self.waiting += found.scalar()
        finally:
            await self.engine.dispose()

    async def _simple(self, kind: str, find: str, let_go: str) -> None:
        values = {"before": self.before, **self.ended}
        if self.check:
            async with self.engine.connect() as conn:
                counted = await conn.read(f"select count(*) from ({find}) as found", values)
                self.counts[kind] += counted.scalar()
            return
        while True:
            async with self.engine.begin() as conn:
                found = [row[0] for row in await conn.execute(f"{find} limit {BATCH}", values)]
                if not found:
                    return
                await conn.execute(let_go, {"found": found})
                await self._record(conn, kind, len(found))

    async def _contacts(self) -> None:
        """Of each filing, the digest of what remains takes the place of its contact data, so that it can be verified
        ever after. What does not fit its history any more is not touched: somebody must look at it first."""
        last = UUID(int=0)
        while True:
            async with self.engine.begin() as conn:
                values = {"before": self.before, **self.ended, "after": last}
                found = [row[0] for row in await conn.execute(f"{CONTACTS} limit {BATCH}", values)]
                if not found:
                    return
                last = found[-1]
                rows = [row async for row in self._rests(conn, found)]
                if self.check:
                    self.counts["contacts"] += len(rows)
                    continue
                await conn.execute(
                    'update review.contact p set "values" = null, email = null, rest = r.rest from '
                    "unnest(cast(:cases as uuid[]), cast(:revisions as int[]), cast(:rests as text[])) "
                    'as r ("case", revision, rest) where p."case" = r."case" and p.revision = r.revision',
                    {
                        "cases": [case for case, _, _ in rows],
                        "revisions": [revision for _, revision, _ in rows],
                        "rests": [rest for _, _, rest in rows],
                    },
                )
                await self._record(conn, "contacts", len(rows))

    async def _rests(self, conn: Connection, ids: Sequence[UUID]) -> AsyncIterator[tuple[UUID, int, str]]:
        """(case, revision, digest of the rest) of every contact that there is to let go."""
        from services.review.case import digest_of, filing_of
        from services.review.contacts import filings_of
        from services.review.store import CASES, as_case

        async def of(table_: str, what: str) -> dict[UUID, list[Any]]:
            rows: dict[UUID, list[Any]] = {id_: [] for id_ in ids}
            sql = f'select {what} from review.{table_} where "case" = any(:ids)'
            for row in await conn.read(sql, {"ids": list(ids)}):
                rows[row.case].append(row)
            return rows

        contacts, filed = await of("contact", "*"), await of("filing", "*")
        lines = await of(
            "history", """"case", data ->> 'revision' as revision, data ->> 'filing' as digest"""
        )
        for row in await conn.read(f'{CASES} where c."case" = any(:ids)', {"ids": list(ids)}):
            id_ = row["case"]
            kept: Mapping[str, Any] = {**row, "contacts": None}
            whole, _ = filings_of(filed[id_], contacts[id_])
            rest, _ = filings_of(filed[id_], ())
            whole[row.revision], rest[row.revision] = (
                filing_of(as_case(row, ())),
                filing_of(as_case(kept, ())),
            )
            said = {int(line.revision): line.digest for line in lines[id_] if line.revision}
            there = [p.revision for p in contacts[id_] if p["values"] is not None or p.email is not None]
            # A line from before there were digests says nothing of what was filed.
            if any(r not in whole or digest_of(whole[r]) != said.get(r, digest_of(whole[r])) for r in there):
                self.wrong.append(row.number)
                continue
            for revision in there:
                yield id_, revision, digest_of(rest[revision])

    async def _record(self, conn: Connection, kind: str, count: int) -> None:
        self.counts[kind] += count
        await conn.execute(
            'insert into review.let_go (run, kind, "before", at, "by", count) '
            "values (:run, :kind, :before, now(), :by, :count) "
            "on conflict (run, kind) do update set at = now(), count = let_go.count + excluded.count",
            {"run": self.id, "kind": kind, "before": self.before, "by": self.by, "count": count},
        )
