"""What the figures count, read from the tables of intake and review: numbers by stage and district, and no case.

Read by the role that may not see personal data, in a transaction that can change nothing and sees one moment.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from services.cli import common
from services.cli.report.ahead import Waiting
from services.cli.report.districts import Standing
from services.cli.report.funnel import Filed, Way
from shared.runtime.database import READER

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

FILED = """
select coalesce(sum(rows), 0), coalesce(sum(rows - accepted), 0),
  (select count(*) from intake.submission s where s.notice = :notice
   and not exists (select from intake.package p where p.key = s.package))
from intake.package where notice = :notice
"""
WAYS = """
select stages, count(*) from (
  select array_agg(h.stage order by h.version) as stages
  from (select "case", version, stage, lag(stage) over (partition by "case" order by version) as before
        from review.history where "case" in (select "case" from review."case" where notice = :notice)) h
  where h.stage is distinct from h.before group by h."case") each
group by stages order by stages
"""
STANDING = """
select district, stage, count(*) from review."case" where notice = :notice group by district, stage order by 1, 2
"""
WAITING = """
select notice, what, period, of, due, provisional, count(*) from (
  select notice, stage as what, '' as period, 'stage' as of, due, provisional from review."case"
  where due is not null
  union all
  select notice, duty, period, 'duty', due, provisional from review.duty where state = 'owed') everything
where (cast(:notice as text) is null or notice = :notice) group by 1, 2, 3, 4, 5, 6 order by 5, 1, 2, 3
"""


@asynccontextmanager
async def reading() -> AsyncIterator["AsyncConnection"]:
    from sqlalchemy import text

    async with common.database() as conn:
        await conn.execute(text("set transaction isolation level repeatable read read only"))
        # Whoever is none of its members, and sees no more than that role does, stays who they are.
        await conn.execute(
            text(f"select set_config('role', '{READER}', true) where pg_has_role('{READER}', 'SET')")
        )
        yield conn


async def filed(conn: "AsyncConnection", notice: str) -> Filed:
    (row,) = await _rows(conn, FILED, notice)
    return Filed(*map(int, row))


async def ways(conn: "AsyncConnection", notice: str) -> list[Way]:
    return [Way(tuple(stages), cases) for stages, cases in await _rows(conn, WAYS, notice)]


async def standing(conn: "AsyncConnection", notice: str) -> list[Standing]:
    return [Standing(*row) for row in await _rows(conn, STANDING, notice)]


async def waiting(conn: "AsyncConnection", notice: str | None) -> list[Waiting]:
    return [Waiting(*row) for row in await _rows(conn, WAITING, notice)]


async def _rows(conn: "AsyncConnection", sql: str, notice: str | None) -> list[Any]:
    from sqlalchemy import text

    return list(await conn.execute(text(sql), {"notice": notice}))
