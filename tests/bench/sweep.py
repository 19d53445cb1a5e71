"""What the clock of review costs: 100,000 open cases with 300,000 pending deadlines, few of which are due.

Its query, and its whole turn by the real `Review.tick`, beside the same by hand on a table of two columns, on one
PostgreSQL with its own defaults. The bus takes no part: what a turn says counts as published at once. Time is only
printed; the one thing that fails is a sequential scan of a table that grows.
"""

import asyncio
import re
import secrets
import shutil
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import uvloop
from rich.console import Console
from rich.table import Table

from services.review import parties, store
from services.review.case import Step
from services.review.decide import open_case
from services.review.duties import report
from services.review.handlers import GRACE, Review
from shared.contracts.submission import SubmissionAccepted
from shared.contracts.types import Party
from shared.notices.calendar import Calendar
from shared.notices.model import Notice
from shared.runtime.clock import Clock
from shared.runtime.database import connect, migrate
from shared.runtime.delivery import Delivery
from shared.runtime.embedded import Postgres
from shared.runtime.publisher import PATIENCE, Message, Publisher
from shared.runtime.service import Context
from shared.runtime.settings import Settings

EXAMPLE = Path(__file__).parents[1] / "examples" / "yongping" / "yongping-guilds-2026.yaml"
NOTICE = "yongping-guilds-2026"
NOW = datetime(2026, 8, 15, 2, tzinfo=UTC)
"""By the service's clock. Quarters are due at the end of September, years in February, terms any day of two years."""

SIZES = (1_000, 10_000, 100_000)
TURNS = {10: 10, 100: 5, 1_000: 3}
"""How many cases are made due, and how often."""
QUERIES = 200
STRANDED = (1_000, 10_000, 100_000)
GROWS = frozenset({"case", "duty", "history"})

LIMIT = "select id, wakes from hand.deadline where wakes <= $1 order by wakes limit 200"
BY_HAND = """
create schema hand;
create table hand.deadline (id bigint primary key, wakes timestamptz not null);
create index on hand.deadline (wakes);
"""
"""What could hardly be less: one row a deadline, and nothing that is said about it."""

MULTIPLY_CASES = """
insert into review."case" ({into})
select {these} from review."case" c, generate_series(1, $1::int) as n where c."case" = $2
"""
MULTIPLY_REST = """
insert into review.{table} ({into})
select md5(n::text)::uuid, {these} from review.{table} c, generate_series(1, $1::int) as n where c."case" = $2
"""

MAKE_DUE = """
with picked as (
  select "case", row_number() over () as n from
    (select "case" from review."case" order by md5("case"::text || $1) limit $2) c
), chosen as (
  select distinct on (p."case") p."case", p.n, d.duty, d.period from picked p, lateral (
    select '' as duty, '' as period from review."case" c where c."case" = p."case" and c.wakes is not null
    union all
    select d.duty, d.period from review.duty d where d."case" = p."case" and d.wakes is not null
  ) d
  order by p."case", d.duty = case p.n % 10 when 0 then '' when 5 then 'DL-91' else 'DL-92' end desc
), terms as (
  update review."case" c set wakes = $3::timestamptz - p.n * interval '1 ms' from chosen p
  where c."case" = p."case" and p.duty = ''
)
update review.duty d set wakes = $3::timestamptz - p.n * interval '1 ms' from chosen p
where d."case" = p."case" and d.duty = p.duty and d.period = p.period
"""
"""Of that many cases, anywhere in the table, one deadline passes: of ten a term, a year, and eight quarters."""


# --- the world ---------------------------------------------------------------------------------------


class Acknowledged(Publisher):
    """A bus that takes everything and no time."""

    def __init__(self) -> None:
        pass

    async def publish(self, messages: Sequence[Message], patience: float = PATIENCE) -> list[UUID]:
        return [message.id for message in messages]


class Alone(Review):
    """Nothing waits on the bus: no bus takes part."""

    async def heard_until(self, context: Context) -> datetime:
        return context.clock.now()


class World:
    """A database with that many cases, and the clock of review on it as the service has it."""

    def __init__(self, context: Context, review: Review, admin: Any, cases: int) -> None:
        self.context, self.review, self.admin, self.cases = context, review, admin, cases
        self.rounds = 0

    def now(self) -> datetime:
        return self.context.clock.now()

    async def fill(self) -> None:
        """One case as the real code makes it, then as many more like it, entered on other days."""
        first, second = _steps(self.review.notices[NOTICE].notice, self.review.calendar)
        steps = [replace(step, key=UUID(int=1), publisher="yiqi:intake") for step in (first, second)]
        changed = parties.changed({NOTICE: self.review.notices[NOTICE].notice}, {}, steps)
        async with self.context.engine.begin() as conn:
            await conn.execute(
                "insert into review.inbox (key, digest, token) values (:key, :key, 'yiqi:intake')",
                {"key": UUID(int=1)},
            )
            await store.write(conn, steps, {}, changed, self.review.form_of)
        case = second.case.case
        days = "make_interval(days => n * 7919 % 700)"
        own = {
            "case": "md5(n::text)::uuid",
            "number": "c.number || n",
            "entered": f"c.entered - {days}",
            "due": f"(c.due - {days})::date",
            "wakes": f"c.wakes - {days}",
        }
        into = ", ".join(f'"{c}"' for c in store.COLUMNS)
        these = ", ".join(own.get(c, f'c."{c}"') for c in store.COLUMNS)
        # One is there already.
        await self.admin.execute(MULTIPLY_CASES.format(into=into, these=these), self.cases - 1, case)
        for table in ("duty", "party", "history"):
            columns = [c.name for c in store.METADATA.tables[f"review.{table}"].columns if not c.computed]
            into = ", ".join(f'"{c}"' for c in columns)
            rest = ", ".join(f'c."{c}"' for c in columns if c != "case")
            sql = MULTIPLY_REST.format(table=table, into=into, these=rest)
            await self.admin.execute(sql, self.cases - 1, case)
        await self.admin.execute(BY_HAND)
        await self.admin.execute(
            "insert into hand.deadline select row_number() over (), wakes from "
            '(select wakes from review."case" union all select wakes from review.duty) w where wakes is not null'
        )
        await self.settle()

    async def settle(self) -> None:
        """As after a quiet night."""
        for table in ('review."case"', "review.duty", "review.history", "hand.deadline"):
            await self.admin.execute(f"vacuum analyze {table}")
        await self.admin.execute("checkpoint")

    async def pending(self) -> int:
        """Deadlines that are still to come."""
        return int(
            await self.admin.fetchval(
                'select (select count(*) from review."case" where wakes > $1) + '
                "(select count(*) from review.duty where wakes > $1)",
                self.now(),
            )
        )

    async def make_due(self, cases: int) -> None:
        self.rounds += 1
        await self.admin.execute(MAKE_DUE, str(self.rounds), cases, self.now() - 2 * GRACE)
        await self.admin.execute(
            "update hand.deadline set wakes = $1 where id in "
            "(select id from hand.deadline order by md5(id::text || $2) limit $3)",
            self.now(),
            str(self.rounds),
            cases,
        )

    # --- what is measured ---

    async def turn(self) -> None:
        await self.review.tick(self.context)

    async def turn_by_hand(self, driver: Any) -> None:
        """Find, put each off by a quarter, commit; until nothing is due."""
        while True:
            async with driver.transaction():
                rows = await driver.fetch(LIMIT + " for update skip locked", self.now())
                if rows:
                    await driver.execute(
                        "update hand.deadline set wakes = wakes + interval '90 days' where id = any($1)",
                        [row["id"] for row in rows],
                    )
            if not rows:
                return

    async def start(self) -> None:
        """What a start reads before its first turn, whatever is due."""
        async with self.context.engine.connect() as conn:
            await store.provisional(conn, self.review.owing, UUID(int=0))

    @asynccontextmanager
    async def query(self) -> AsyncIterator[Callable[[], Awaitable[object]]]:
        """What finds the cases that are due, on one connection of the service."""
        async with self.context.engine.connect() as conn:
            yield lambda: store.ripe(conn, self.now(), self.review.notices, self.review.owing, ())

    async def plan(self) -> tuple[list[str], str]:
        """How the statement that the service has prepared, and used many times, goes about it now."""
        async with self.context.engine.connect() as conn:
            driver = conn.driver
            name, generic, custom, locks = await driver.fetchrow(
                "select name, generic_plans, custom_plans, statement like '%for update%' as locks "
                "from pg_prepared_statements where statement like '%as known%' "
                "and statement not like '%pg_prepared%' order by locks desc limit 1"
            )
            notices = ", ".join(f"'{n}'" for n in self.review.notices)
            given = {"now": f"'{self.now().isoformat()}'", "notices": f"array[{notices}]", "most": "200"}
            given |= {"owing": given["notices"], "stuck": "array[]::uuid[]"}
            statement = store.WOKEN if locks else store.RIPE
            names = dict.fromkeys(re.findall(r"(?<!:):([a-z]+)", statement))
            execute = f'"{name}" ({", ".join(given[n] for n in names)})'
            rows = await driver.fetch(f"explain (analyze, buffers) execute {execute}")
            return [row[0] for row in rows], f"{custom} plans made for it, {generic} generic"

    async def scans(self) -> dict[str, int]:
        """Sequential scans so far, by table."""
        async with self.context.engine.connect() as conn:
            await conn.read("select pg_stat_force_next_flush()")
        await self.admin.fetch("select pg_stat_force_next_flush()")
        rows = await self.admin.fetch(
            "select relname, seq_scan from pg_stat_user_tables where schemaname = 'review'"
        )
        return {row["relname"]: row["seq_scan"] for row in rows if row["relname"] in GROWS}


def _steps(notice: Notice, calendar: Calendar) -> tuple[Step, Step]:
    """A guild that comes on the list, and files its statutes: left are its term, a year's and a quarter's report."""
    at = NOW - timedelta(hours=1)
    filed = SubmissionAccepted(
        case=UUID(int=1),
        number="YP-",
        revision=1,
        notice=NOTICE,
        form="F1",
        filer=Party(code="k6-guild", kind="K6", name="木作行会"),
        unit="k6-guild",
        district="990101",
        item_kind="title",
        title="木作行会",
        values={
            "guild": "木作行会",
            "patron": "市工业局",
            "members": 25,
            "contact": {"name": "陈晓明", "phones": ["020-83726619"]},
        },
        findings=(),
        late=False,
        received=at,
    )
    first = open_case(notice, filed, at, calendar)
    told = filed.model_copy(update={"form": "F4", "case": UUID(int=2), "about": filed.case})
    (second,) = report(notice, first.case, told, at, calendar)
    assert first.case.stage == "listed"
    assert second.case.wakes
    assert {o.duty for o in second.case.owed if o.wakes} == {"DL-91", "DL-92"}
    return first, second


@asynccontextmanager
async def world(postgres: Postgres, directory: Path, password: str, cases: int) -> AsyncIterator[World]:
    name = f"cases_{cases}"
    postgres.sql(f'create database "{name}" template empty')
    offset = directory / "clock"
    offset.write_text(str((NOW - datetime.now(UTC)).total_seconds()))
    settings = Settings(notices=directory / "notices")
    engine = connect(postgres.dsn(name, "yiqi_review", password), "review")
    admin = await asyncpg.connect(postgres.dsn(name))
    clock = Clock(offset)
    delivery = Delivery("review", engine, Acknowledged(), clock, {})
    context = Context(settings, engine, clock, delivery, None, None)  # type: ignore[arg-type]  # no bus takes part
    review = Alone()
    try:
        await review.setup(context)
        made = World(context, review, admin, cases)
        await made.fill()
        yield made
    finally:
        await engine.dispose()
        await admin.close()
        postgres.sql(f'drop database "{name}" with (force)')


# --- figures -----------------------------------------------------------------------------------------


async def _timed(step: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    await step()
    return 1000 * (time.perf_counter() - began)


async def _in_turn(times: int, *steps: Callable[[], Awaitable[object]]) -> list[list[float]]:
    """Each of them that many times, in turn, after a few that do not count."""
    for step in steps:
        for _ in range(10):
            await step()
    took = [[await _timed(step) for step in steps] for _ in range(times)]
    return [list(one) for one in zip(*took, strict=True)]


def spread(took: Sequence[float]) -> tuple[float, float]:
    """Median and p99."""
    return statistics.median(took), statistics.quantiles(took, n=100, method="inclusive")[98]


def sequential(plan: Sequence[str]) -> list[str]:
    """The tables that grow which a plan reads from end to end."""
    named = re.findall(r'Seq Scan on (?:\w+\.)?"?(\w+)"?', "\n".join(plan))
    return sorted(GROWS.intersection(named))


def shortened(plan: Sequence[str]) -> list[str]:
    """What a plan reads, how much of it, and how long that took."""
    kept: list[str] = []
    for line in plan:
        said = line.strip()
        top = said.startswith("Buffers") and not any("Buffers" in one for one in kept)
        if " Scan " in said or said.startswith(("Rows Removed", "Planning Time", "Execution Time")) or top:
            kept.append(re.sub(r"\(cost=[^)]*\) ", "", said))
    return kept


def run(directory: Path, console: Console, *, quick: bool = False) -> str | None:
    """Print the tables; why it fails, if it does."""
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "notices").mkdir(parents=True)
    shutil.copy(EXAMPLE, directory / "notices")
    password = secrets.token_urlsafe(16)
    with Postgres(directory / "postgres") as postgres:
        postgres.create_database("empty")
        asyncio.run(migrate(postgres.dsn("empty"), ["review"], passwords={"review": password}))
        return uvloop.run(_measure(postgres, directory, password, console, SIZES[:2] if quick else SIZES))


async def _measure(
    postgres: Postgres, directory: Path, password: str, console: Console, sizes: Sequence[int]
) -> str | None:
    waiting = _table(
        "nothing is due: ms", "cases", "deadlines", "query p50", "p99", "by hand p50", "p99", "ratio",
        "turn p50", "p99", "query after 3,600 were done", "ratio", "at start",
    )  # fmt: skip
    turning = _table(
        "something is due: ms for one due case, of a whole turn", "cases", "deadlines", "due", "turns",
        "steps", "turn ms", "a case [min-max]", "by hand a case", "ratio",
    )  # fmt: skip
    stranded = _table(
        "nothing is due, but deadlines of a notice that is no longer loaded are over: ms",
        "cases", "of them", "query p50", "p99",
    )  # fmt: skip
    faults: list[str] = []
    for size in sizes:
        console.print(f"[dim]{size:,} cases …[/dim]")
        async with world(postgres, directory, password, size) as one:
            biggest = size == sizes[-1]
            await _waiting(one, waiting, turning, faults if biggest else [], console if biggest else None)
            if biggest:
                await _stranded(one, stranded, [n for n in STRANDED if n <= size])
    for table in (waiting, turning, stranded):
        console.print(table)
    console.print(
        "query, by hand: one statement, in turn on two connections. turn: Review.tick, all its transactions; by hand: "
        "find, put off, commit.\nat start: finding dates that were provisional, once a start. No bus takes part."
    )
    return "; ".join(faults) or None


async def _waiting(
    one: World, waiting: Table, turning: Table, faults: list[str], console: Console | None
) -> None:
    pending = await one.pending()
    start = [await _timed(one.start) for _ in range(5)]
    async with one.query() as query:
        ours, hand = await _in_turn(QUERIES, query, lambda: one.admin.fetch(LIMIT, one.now()))
    (turn,) = await _in_turn(QUERIES, one.turn)
    await _explain(one, "nothing is due", faults, console)
    await _turning(one, turning, faults)
    # Nobody has vacuumed since: what is over has left dead entries where the query begins.
    async with one.query() as query:
        after, hand_after = await _in_turn(QUERIES, query, lambda: one.admin.fetch(LIMIT, one.now()))
    await one.make_due(100)
    await _explain(one, "100 cases are due", faults, console)
    await one.turn()
    (p50, p99), (h50, h99), (t50, t99) = map(spread, (ours, hand, turn))
    a50, b50 = statistics.median(after), statistics.median(hand_after)
    waiting.add_row(
        f"{one.cases:,}", f"{pending:,}", *(f"{v:.2f}" for v in (p50, p99, h50, h99)), f"{p50 / h50:.1f}",
        f"{t50:.2f}", f"{t99:.2f}", f"{a50:.2f}", f"{a50 / b50:.1f}", f"{statistics.median(start):.1f}",
    )  # fmt: skip


async def _turning(one: World, table: Table, faults: list[str]) -> None:
    for due, times in TURNS.items():
        pending, took, hand, steps = await one.pending(), [], [], 0
        for _ in range(times):
            await one.make_due(due)
            before, seen = await one.admin.fetchval("select count(*) from review.history"), await one.scans()
            took.append(await _timed(one.turn))
            faults += [
                f"a turn with {due} due cases read review.{name} from end to end"
                for name, scans in (await one.scans()).items()
                if scans > seen[name]
            ]
            steps += await one.admin.fetchval("select count(*) from review.history") - before
            hand.append(await _timed(lambda: one.turn_by_hand(one.admin)))
        each, by_hand = statistics.median(took) / due, statistics.median(hand) / due
        table.add_row(
            f"{one.cases:,}", f"{pending:,}", f"{due:,}", str(times), f"{steps / times / due:.2f} a case",
            f"{statistics.median(took):.1f}", f"{each:.3f} [{min(took) / due:.3f}-{max(took) / due:.3f}]",
            f"{by_hand:.3f}", f"{each / by_hand:.1f}", end_section=due == max(TURNS),
        )  # fmt: skip


async def _explain(one: World, when: str, faults: list[str], console: Console | None) -> None:
    plan, made = await one.plan()
    faults += [f"when {when}, the query reads review.{t} from end to end" for t in sequential(plan)]
    if console:
        console.print(f"[bold]{one.cases:,} cases, {when}[/bold] (of the prepared statement: {made})")
        console.print("\n".join(shortened(plan)), markup=False, highlight=False, soft_wrap=True)


async def _stranded(one: World, table: Table, numbers: Sequence[int]) -> None:
    """Cases of a notice whose file was taken away: their deadlines pass, and nobody may act on them."""
    for number in numbers:
        await one.admin.execute(
            'with gone as (update review."case" set notice = \'gone\', wakes = $1 where "case" in '
            '(select "case" from review."case" order by "case" limit $2) returning "case") '
            'update review.duty d set notice = \'gone\', wakes = $1 from gone where d."case" = gone."case" '
            "and d.state = 'owed'",
            one.now(),
            number,
        )
        await one.settle()
        async with one.query() as query:
            (took,) = await _in_turn(50, query)
        p50, p99 = spread(took)
        table.add_row(f"{one.cases:,}", f"{number:,}", f"{p50:.2f}", f"{p99:.2f}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    return table
