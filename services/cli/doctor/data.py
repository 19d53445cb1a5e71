"""What `yiqi ops doctor` asks of PostgreSQL: the server, schemas, its clock, outboxes, dead messages, mails, the history.

What waits for a person is counted as the daily report counts it (`services/notify/daily.py`); names and addresses are
not read.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from services.cli.doctor.bus import compared
from services.cli.doctor.line import ALL, Line, Topic, asked, lasted
from shared.notices.calendar import SHANGHAI, Calendar, CalendarError
from shared.notices.directory import Directory, DirectoryError
from shared.notices.load import NoticeBroken, load_all
from shared.runtime import SERVICES
from shared.runtime.clock import Clock
from shared.runtime.database import OLDEST_SERVER, Connection, connect, head
from shared.runtime.settings import Settings

LATE, TOO_LATE = timedelta(minutes=1), timedelta(minutes=10)
"""An outbox is emptied once a second."""
DEAD_FOR = timedelta(hours=1)
QUEUED_FOR = timedelta(hours=1)
"""A mail that may go, and has not: the relay refuses it for now, or nobody sends."""

COUNTED = "无法处理的消息"
"""The part of the daily report that this module counts itself, of all four services and by age."""


async def look(settings: Settings, clock: Clock) -> list[Line]:
    engine = connect(settings.database_url.get_secret_value(), "doctor", most=1, patience=10)
    try:

        async def reached(topic: Topic) -> Sequence[Line]:
            async with engine.connect() as conn:
                lines = [*await _server(topic, conn)]
                look = _Look(settings, clock, conn)
                for one, check in look.checks():
                    lines += await asked(one, _readable(check))
            return lines

        topic = Topic("database", "PostgreSQL", "核对 YIQI_DATABASE_URL、网络策略和 PostgreSQL")
        return [*await asked(topic, reached, ALL)]
    finally:
        await engine.dispose()


def _readable(check: Any) -> Any:
    async def checked(topic: Topic) -> Sequence[Line]:
        try:
            found: Sequence[Line] = await check(topic)
        except asyncpg.InsufficientPrivilegeError:
            return [topic.attention("这个数据库用户无权查看", "用建库的用户（yiqi provision 所用的）运行")]
        except (NoticeBroken, DirectoryError, CalendarError):
            return []  # told already, of what is mounted
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedColumnError):
            return [topic.fault("表不齐", "yiqi provision")]
        return found

    return checked


async def _server(topic: Topic, conn: Connection) -> Sequence[Line]:
    (row,) = await conn.read(
        "select current_setting('server_version') as version, current_setting('server_version_num')::int as number, "
        "current_setting('max_connections')::int as most, pg_is_in_recovery() as standby, "
        "current_setting('transaction_read_only') as read_only, "
        "current_setting('log_error_verbosity') as verbosity, current_setting('fsync') as fsync, "
        # Of clients: what the server does for itself counts against no limit.
        "(select sum(numbackends)::int from pg_stat_database) as used, pg_database_size(current_database()) as size"
    )
    lines = []
    if row.number < OLDEST_SERVER:
        lines.append(topic.fault(f"{row.version} 太旧，需要16或更新", "升级 PostgreSQL"))
    if row.standby or row.read_only == "on":
        lines.append(topic.fault("连到的是只读的副本", "让 YIQI_DATABASE_URL 指向主库"))
    if row.fsync != "on":
        lines.append(topic.fault("fsync 已关闭，断电会丢数据", "在 postgresql.conf 中写 fsync = on"))
    if near := topic.share(row.used, row.most, "连接", "提高 max_connections，或减少副本"):
        lines.append(near)
    if row.verbosity != "terse":
        lines.append(
            topic.attention(
                "出错时日志会引用整行，可能含个人信息", "在 postgresql.conf 中写 log_error_verbosity = terse"
            )
        )
    return lines or [topic.good(f"{row.version}，数据库{row.size / 1e6:.0f} MB，连接{row.used}/{row.most}")]


class _Look:
    """Over one connection."""

    def __init__(self, settings: Settings, clock: Clock, conn: Connection) -> None:
        self.settings, self.clock, self.conn = settings, clock, conn

    def checks(self) -> Iterator[tuple[Topic, Any]]:
        yield Topic("schema", "数据库模式", "yiqi provision"), self.schemas
        yield Topic("database_clock", "时钟（与 PostgreSQL）", "在各机器上启用时间同步（chrony）"), self.skew
        yield Topic("outbox", "待发事件"), self.outbox
        yield Topic("dead", "无法处理的消息"), self.dead
        yield Topic("queue", "待发邮件"), self.queue
        yield Topic("people", "等人处理的事"), self.people
        yield Topic("stages", "项目和通知"), self.stages
        yield Topic("audit", "审计"), self.audit

    async def schemas(self, topic: Topic) -> Sequence[Line]:
        lines = []
        for service in SERVICES:
            there = (
                await self.conn.read(f"select to_regclass('{service}.alembic_version') is not null")
            ).scalar()
            sql = f"select version_num from {service}.alembic_version"
            found = (await self.conn.read(sql)).scalar() if there else None
            if found is None or found < head(service):
                lines.append(
                    topic.fault(f"{service} 是 {found or '空的'}，本版本需要 {head(service)}", topic.do)
                )
            elif found > head(service):
                told = f"{service} 是 {found}，比本版本（{head(service)}）新"
                lines.append(topic.attention(told, "升级完成后用新版本再查；回退中则可不管"))
        return lines or [topic.good(f"{len(SERVICES)}个，都是本版本")]

    async def skew(self, topic: Topic) -> Sequence[Line]:
        before = self.clock.now()
        there = (await self.conn.read("select clock_timestamp()")).scalar()
        return [compared(topic, before, self.clock.now(), there, self.clock, topic.do)]

    async def outbox(self, topic: Topic) -> Sequence[Line]:
        lines = []
        for service in SERVICES:
            sql = f"select count(*) as n, now() - min(at) as age from {service}.outbox"
            (row,) = await self.conn.read(sql)
            if row.age is None or row.age <= LATE:
                continue
            told, do = (
                f"{service} {row.n}条，最早的已{lasted(row.age)}",
                f"查看 {service} 的日志；yiqi provision --check",
            )
            lines.append(topic.fault(told, do) if row.age > TOO_LATE else topic.attention(told, do))
        return lines or [topic.good("都已发出")]

    async def dead(self, topic: Topic) -> Sequence[Line]:
        lines = []
        for service in SERVICES:
            sql = (
                f"select code = 'later' as later, count(*) as n, now() - min(at) as age from {service}.dead "
                "where state not in ('replayed', 'discarded') group by 1 order by 1"
            )
            for row in await self.conn.read(sql):
                told = f"{service} {row.n}条，最早的已{lasted(row.age)}"
                if row.later:
                    # No fault of ours, and none that anybody can mend here: the publishers know that it is kept.
                    do = f"升级后自动办理；不会升级的（发布者写错了版本）yiqi dead discard {service} 序号"
                    lines.append(topic.attention(f"{told}（更新版本的事件，已留存）", do))
                    continue
                do = f"yiqi dead list；修复后 yiqi dead replay {service} 序号，或 yiqi dead discard {service} 序号"
                lines.append(topic.fault(told, do) if row.age > DEAD_FOR else topic.attention(told, do))
        return lines or [topic.good("没有")]

    async def queue(self, topic: Topic) -> Sequence[Line]:
        """By the clock that the ledger was written with. A mail that may wait for the morning may be late at night."""
        now = self.clock.now()
        (row,) = await self.conn.read(
            "select count(*) filter (where \"when\" = 'now' and not_before < :before) as stuck, min(not_before) as since, "
            "count(*) filter (where attempt > 0 and owed_at < :before) as tried "
            "from notify.mail where state in ('queued', 'claimed', 'data')",
            {"before": now - QUEUED_FOR},
        )
        do = "yiqi mail list --state queued；核对邮件服务器和 notify"
        if row.stuck:
            return [topic.fault(f"{row.stuck}封早该发出而没有人发，最早的已{lasted(now - row.since)}", do)]
        if row.tried:
            return [topic.attention(f"{row.tried}封试发一小时以上仍未发出", do)]
        return [topic.good("没有逾时的")]

    async def people(self, topic: Topic) -> Sequence[Line]:
        """As the daily report has it, which comes by mail only when mails come."""
        from services.notify import daily

        now = self.clock.now()
        notices = [one.notice for one in load_all(self.settings.notices).values()]
        directory = Directory.load(self.settings.agencies)
        calendar = Calendar.load(self.settings.calendars)
        parts = await daily.parts(self.conn, None, notices, directory, calendar, now)
        this_year = f"{now.astimezone(SHANGHAI).year}年："
        lines = []
        for part in parts:
            # The running year is a fault by itself (`outside.py`); years ahead are told when dates lie in them.
            told = [line for line in part["lines"] if not line.startswith(this_year)]
            if part["name"] == COUNTED or not part["count"] or not (part["acts"] or _ahead(part, told)):
                continue
            lines.append(
                topic.attention(f"{part['name']}：{part['count']}（{'；'.join(told[:3])}）", part["see"])
            )
        return lines or [topic.good("没有")]

    async def stages(self, topic: Topic) -> Sequence[Line]:
        """Cases of a notice that is not mounted here, or in a stage that it does not have: nothing of them moves."""
        loaded = load_all(self.settings.notices)
        rows = await self.conn.read('select notice, stage, count(*) as n from review."case" group by 1, 2')
        wrong = [
            f"{row.notice} {row.stage}：{row.n}个"
            for row in rows
            if row.notice not in loaded or row.stage not in loaded[row.notice].notice.procedure.by_id
        ]
        if wrong:
            told = f"所在阶段在通知中找不到：{'；'.join(wrong[:5])}"
            return [topic.fault(told, "放回那份通知（YIQI_NOTICES），重启 review；yiqi notice list")]
        return [topic.good(f"{sum(row.n for row in rows)}个项目，阶段都在通知中")]

    async def audit(self, topic: Topic) -> Sequence[Line]:
        """Whether the head is written every day; whether it is true, `yiqi audit verify` alone can say."""
        row = (
            await self.conn.read("select day, seq, lines from review.head order by day desc limit 1")
        ).one_or_none()
        today = self.clock.now().astimezone(SHANGHAI).date()
        if row is None:
            return [topic.attention("还没有审计锚：review 每天记一次", "yiqi audit head")]
        if row.day < today:
            return [
                topic.attention(
                    f"最近的审计锚是{row.day}的，应每天一次", "查看 review 的日志；yiqi audit verify"
                )
            ]
        return [topic.good(f"{row.day}的审计锚：第{row.seq}条，{row.lines}行；逐行核对用 yiqi audit verify")]


def _ahead(part: Any, told: Sequence[str]) -> bool:
    return "暂定" in part["name"] and bool(told)
