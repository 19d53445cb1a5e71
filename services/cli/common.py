"""What several commands share: settings, connections, the directory, printing as a table or as JSON.

No command lives here.
"""

import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from shared.notices.calendar import SHANGHAI
from shared.notices.directory import Agency, Directory
from shared.notices.load import CompiledNotice, load_all
from shared.runtime.settings import Settings

if TYPE_CHECKING:
    from nats.aio.client import Client
    from sqlalchemy.ext.asyncio import AsyncConnection

GOOD, FINDINGS, UNUSABLE, NO_SERVER = 0, 1, 2, 3

LOCAL = Path("var/up/environment.json")
"""Where `yiqi up` says how to reach what it runs, so that a second terminal needs no settings."""

JsonOption = Annotated[bool, typer.Option("--json", help="输出 JSON")]
AsOption = Annotated[str, typer.Option("--as", help="以哪个单位的名义：名录代码，或 K6:机构名称")]
NoticeOption = Annotated[str, typer.Option("--notice", help="通知编号，见 yiqi notice list")]

console = Console(highlight=False)


class Fail(Exception):
    """Ends a command with one sentence and an exit status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


def fail(sentence: str, status: int) -> NoReturn:
    raise Fail(sentence, status)


@cache
def settings() -> Settings:
    """From the environment; what it leaves open, from a running `yiqi up` in this folder."""
    if LOCAL.exists():
        for name, value in json.loads(LOCAL.read_text()).items():
            os.environ.setdefault(name, value)
    try:
        return Settings()
    except ValidationError as error:
        names = "、".join("YIQI_" + str(e["loc"][0]).upper() for e in error.errors())
        fail(f"环境变量不正确：{names}", UNUSABLE)


@cache
def directory() -> Directory:
    return Directory.load(settings().agencies)


def notice(id_: str) -> CompiledNotice:
    found = load_all(settings().notices)
    if id_ not in found:
        fail(f"没有通知 {id_}；现有：{'、'.join(found)}", UNUSABLE)
    return found[id_]


def agency(text_: str) -> Agency:
    """An agency by code; `K6:name` for one that is not listed."""
    listed = directory()
    return listed.find(text_) or listed.resolve(text_)


@asynccontextmanager
async def bus(who: str) -> AsyncIterator["Client"]:
    """As a user of our own, or the agency that is spoken for if its seed is here; else as the desk, who may speak for
    those that have no account. The bus decides: what it takes under a publisher's token was said by that publisher."""
    import nats.js.errors

    from shared.runtime import connection
    from shared.runtime.accounts import DESK, USERS

    refused: list[Exception] = []

    async def hear(error: Exception) -> None:
        if connection.forbidden(error):
            refused.append(error)

    client = await connection.connect(
        settings(),
        seed_of(who) or settings().nats_seed or seed_of(DESK),
        who if who in USERS else DESK,
        error_cb=hear,
    )
    try:
        yield client
    except (nats.errors.TimeoutError, nats.js.errors.NoStreamResponseError):
        if refused or (settings().nats_seed and client.is_connected):
            fail(
                f"总线不接受以 {who} 的名义所说的话：请用该单位自己的种子文件（YIQI_NATS_SEED）",
                UNUSABLE,
            )
        raise
    finally:
        await client.close()


def seed_of(who: str) -> Path | None:
    """The seed of an agency or a user, if the folder of seeds has it."""
    folder = settings().nats_seeds
    found = folder / f"{who}.nk" if folder else None
    return found if found and found.is_file() else None


@asynccontextmanager
async def database() -> AsyncIterator["AsyncConnection"]:
    """As the operator: reads all schemas. Imported here, because most commands ask no database."""
    from sqlalchemy.ext.asyncio import create_async_engine

    from shared.runtime.database import async_url

    engine = create_async_engine(
        async_url(settings().database_url.get_secret_value()),
        hide_parameters=True,
        connect_args={"timeout": 3},
    )
    try:
        async with engine.begin() as conn:
            yield conn
    finally:
        await engine.dispose()


async def query(sql: str, **values: Any) -> list[dict[str, Any]]:
    from sqlalchemy import text

    async with database() as conn:
        return [dict(row._mapping) for row in await conn.execute(text(sql), values)]


def out(value: Any) -> None:
    """JSON for machines, on standard output and nothing beside it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    made = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(shown(v) for v in row))
    console.print(made)


def shown(value: Any) -> str:
    """A value for people; a moment as the clocks in Guangzhou show it."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M")
    return "" if value is None else str(value)


def show(
    rows: list[dict[str, Any]],
    title: str,
    columns: Mapping[str, str],
    *,
    as_json: bool,
    named: Mapping[str, Callable[[dict[str, Any]], str]] | None = None,
) -> None:
    """The same rows for machines or for people; `columns` maps keys to headers, `named` has the keys whose values
    people know by another name."""
    if as_json:
        out(rows)
        return
    names = named or {}
    table(
        title,
        list(columns.values()),
        ([names[k](row) if k in names else row[k] for k in columns] for row in rows),
    )
