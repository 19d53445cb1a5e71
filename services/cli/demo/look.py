"""What the demo can see from outside: whether all work is done, and what lies on disk at the end.

Nothing here files, decides or changes anything.
"""

import asyncio
import email
import email.policy
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nats.js import JetStreamContext
from python_calamine import CalamineWorkbook
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.export import bundle
from services.export.table import cell_text
from shared.contracts.types import Values
from shared.notices.model import Form
from shared.runtime import SERVICES
from shared.runtime.embedded import eventually
from shared.runtime.streams import CONSUMERS, EVT, IN, OUT

PATIENCE = 600.0
"""Seconds for all work to be done; seconds are enough unless services are being killed."""

_LEFT = " + ".join(
    [
        # A younger row is published and only not yet forgotten: its message was acknowledged after it.
        *(f"(select count(*) from {s}.outbox where at < now() - interval '1500 ms')" for s in SERVICES),
        "(select count(*) from notify.mail where state in ('queued', 'claimed', 'data'))",
        # What comes due on a day would be overtaken by what is filed on it, or by the next: one is over in a moment here.
        '(select count(*) from review."case" where wakes <= :now)',
        "(select count(*) from review.duty where wakes <= :now)",
        "(select count(*) from notify.waiting where next_at <= :now)",
    ]
)


class Sight:
    """`clock` is the file with what the services' clock is ahead, in seconds."""

    def __init__(self, engine: AsyncEngine, jetstream: JetStreamContext, clock: Path) -> None:
        self.engine, self.jetstream, self.clock = engine, jetstream, clock

    async def query(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        async with self.engine.connect() as conn:
            return [dict(row._mapping) for row in await conn.execute(text(sql), values)]

    async def settled(self) -> None:
        """Wait until nothing is on its way: no message unheard, nothing unsaid, no mail unsent."""
        await eventually(self._quiet, PATIENCE, "the end of all work")

    async def _quiet(self) -> bool:
        # What is done moves on to the streams, so still streams around both looks mean that none was missed.
        before = await self._lasts()
        now = datetime.now(UTC) + timedelta(seconds=float(self.clock.read_text()))
        if not await self._heard() or (await self.query(f"select {_LEFT} as n", now=now))[0]["n"]:
            return False
        return await self._heard() and before == await self._lasts()

    async def _lasts(self) -> list[int]:
        return [(await self.jetstream.stream_info(s)).state.last_seq for s in (IN, EVT, OUT)]

    async def _heard(self) -> bool:
        for consumer in CONSUMERS:
            info = await self.jetstream.consumer_info(consumer.stream, consumer.durable)
            if info.num_pending or info.num_ack_pending:
                return False
        return True


def catalogue_rows(path: Path, form: Form) -> list[list[str]]:
    """The printed rows of a catalogue, read back by a library that did not write it; serial number first."""
    cells = CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
    head = next(n for n, row in enumerate(cells) if row and row[0] == "序号")
    headers = [str(cell) for cell in cells[head][: len(form.columns) + 1]]
    if headers != ["序号", *(column.header for column in form.columns)]:
        return [headers]
    found = []
    label = ""
    group = next((n for n, c in enumerate(form.columns, 1) if c.key == form.group), None)
    for row in cells[head + 1 :]:
        if isinstance(row[0], float):
            texts = [str(int(row[0])), *map(str, row[1 : len(headers)])]
            if group is not None:
                label = texts[group] = texts[group] or label
            found.append(texts)
    return found


def published_row(form: Form, values: Values) -> list[str]:
    return [cell_text(column, values.get(column.key)) for column in form.columns]


async def done(environment: Mapping[str, str], command: Sequence[str]) -> bool:
    """Whether a command of `yiqi` ended well, in a process of its own as people run it."""
    run = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from services.cli import main; main()",
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await run.wait() == 0


def sealed(path: Path) -> tuple[int, str]:
    """Of a bundle that is whole the number of files and the digest."""
    content = path.read_bytes()
    return len(bundle.opened(bundle.unpack(content)).files), bundle.digest(content)


def mails(folder: Path) -> list[tuple[str, str]]:
    """(Message-ID, recipient) of every mail that the mail server took."""
    found = []
    for path in sorted(folder.glob("*.eml")):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        found.append((str(message["Message-ID"]).strip(), str(message["X-Envelope-To"])))
    return found


def twice(ids: Sequence[str]) -> list[str]:
    return sorted({one for one in ids if ids.count(one) > 1})
