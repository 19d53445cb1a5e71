"""The mail ledger: what is owed, who is sending it, what became of it; and what deadlines must know.

Which letters are owed is in `owed.py`, the wire in `smtp.py`. The states:
queued → claimed → data → sent | failed | unknown. `data` is committed before the first byte of the mail
leaves: a mail in `data` whose worker died may have been taken, and is never sent again by a machine.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index, MetaData, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from services.notify.owed import Attached, Owed
from shared.runtime.database import PERSONAL, Connection, delivery_tables, put_later

METADATA = MetaData(schema="notify")
delivery_tables(METADATA)


class Table(SQLModel):
    metadata = METADATA


class Mail(Table, table=True):
    """One mail to one recipient on one occasion; `key` says which occasion, so it is owed once. What a relay
    answers (`why`) quotes the address."""

    __table_args__ = {"info": {PERSONAL: ("address", "params", "attachments", "why")}}

    id: UUID = Field(primary_key=True)
    key: str = Field(unique=True)
    letter: str
    to_code: str
    to_name: str
    address: str | None
    params: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    attachments: list[dict[str, str]] = Field(sa_column=Column(JSONB, nullable=False))
    case: UUID | None
    state: str = Field(sa_column_kwargs={"server_default": "queued"})
    attempt: int = Field(sa_column_kwargs={"server_default": "0"})
    worker: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    not_before: datetime = Field(
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    )
    why: str | None
    owed_at: datetime = Field(
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    )
    settled_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))


class Fact(Table, table=True):
    """What a unit has done in a round, as far as a reminder is spared by it: it filed, or a named count."""

    notice: str = Field(primary_key=True)
    unit: str = Field(primary_key=True)
    fact: str = Field(primary_key=True)


class Waiting(Table, table=True):
    """What a case waits for by its newest version, `change` for the letter that recalls it, and `next_at`, when that
    is due. Of a case that waits for nothing the version stays: what is older may still come."""

    __table_args__ = {"info": {PERSONAL: ("change",)}}

    case: UUID = Field(primary_key=True)
    version: int
    notice: str
    stage: str
    due: date | None
    awaits: list[dict[str, Any]] | None = Field(sa_column=Column(JSONB, nullable=True))
    change: dict[str, Any] | None = Field(sa_column=Column(JSONB, nullable=True))
    next_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))


Index(
    "notify_waiting_next",
    Waiting.__table__.c.next_at,  # type: ignore[attr-defined]
    postgresql_where=text("next_at is not null"),
)
Index(
    "notify_mail_queued",
    Mail.__table__.c.not_before,  # type: ignore[attr-defined]
    postgresql_where=text("state in ('queued', 'claimed', 'data')"),
)


def owe(conn: Connection, letters: Iterable[Owed]) -> None:
    """Enter letters into the ledger; one that is there already stays as it is. Without an address a mail
    fails at once, with its reason, where an operator sees it: silence would be worse."""
    put_later(
        conn,
        "notify.mail",
        [
            {
                "id": o.mail,
                "key": o.key,
                "letter": o.letter,
                "to_code": o.to,
                "to_name": o.to_name,
                "address": o.address,
                "params": o.params,
                "attachments": [{"sha256": a.sha256, "name": a.name} for a in o.attachments],
                "case": o.case,
                "state": "queued" if o.address else "failed",
                "attempt": 0,
                "not_before": "2000-01-01T00:00:00Z",
                "why": None if o.address else "no address",
                "owed_at": "now",
            }
            for o in letters
        ],
    )


def note(conn: Connection, facts: Iterable[tuple[str, str, str]]) -> None:
    put_later(conn, "notify.fact", [{"notice": n, "unit": u, "fact": f} for n, u, f in facts])


async def facts(conn: Connection, notice: str) -> set[tuple[str, str]]:
    """(unit, fact) of one round."""
    rows = await conn.read("select unit, fact from notify.fact where notice = :n", {"n": notice})
    return {(row.unit, row.fact) for row in rows}


async def waiting(conn: Connection) -> dict[str, int]:
    """What waits for a person: dead events, and mails of which nobody knows whether they were sent."""
    (row,) = await conn.read(
        "select (select count(*) from notify.dead where state = 'dead') as dead, "
        "(select count(*) from notify.mail where state = 'unknown') as unknown"
    )
    return dict(row)


# --- sending -----------------------------------------------------------------------------------------


async def claim(conn: Connection, worker: int) -> tuple[Owed, int] | None:
    """The next mail to send and the number of this attempt, committed by the caller before anything else."""
    row = (
        await conn.execute(
            "update notify.mail set state = 'claimed', worker = :worker, attempt = attempt + 1 "
            "where id = (select id from notify.mail where state = 'queued' and not_before <= now() "
            "order by not_before limit 1 for update skip locked) returning *",
            {"worker": worker},
        )
    ).one_or_none()
    if row is None:
        return None
    owed = Owed(
        row.key,
        row.letter,
        row.to_code,
        row.to_name,
        row.address,
        row.params,
        row.case,
        tuple(Attached(**a) for a in row.attachments),
    )
    return owed, row.attempt


async def begin_data(conn: Connection, mail: UUID, attempt: int) -> bool:
    """The last commit before the mail leaves; False when somebody else has taken the claim over."""
    done = await conn.execute(
        "update notify.mail set state = 'data' where id = :id and attempt = :attempt and state = 'claimed'",
        {"id": mail, "attempt": attempt},
    )
    return bool(done.rowcount == 1)


async def settle(conn: Connection, mail: UUID, attempt: int, state: str, why: str | None) -> bool:
    """What became of it. Also a worker that was thought dead may still bring the server's answer."""
    done = await conn.execute(
        "update notify.mail set state = :state, why = :why, settled_at = now(), worker = null "
        "where id = :id and attempt = :attempt and state in ('claimed', 'data', 'unknown')",
        {"id": mail, "attempt": attempt, "state": state, "why": why},
    )
    return bool(done.rowcount == 1)


async def postpone(conn: Connection, mail: UUID, attempt: int, why: str, seconds: float) -> None:
    """Nothing was sent: try again later."""
    await conn.execute(
        "update notify.mail set state = 'queued', why = :why, worker = null, "
        "not_before = now() + make_interval(secs => :seconds) "
        "where id = :id and attempt = :attempt and state in ('claimed', 'data')",
        {"id": mail, "attempt": attempt, "why": why, "seconds": seconds},
    )


async def orphans(conn: Connection) -> list[int]:
    """Workers that hold claims and whose process is gone: their advisory lock is free to take."""
    rows = await conn.execute(
        "select worker from (select distinct worker from notify.mail where state in ('claimed', 'data')) w "
        "where worker is not null and pg_try_advisory_xact_lock(worker)"
    )
    return [row.worker for row in rows]


async def recover(conn: Connection, workers: Sequence[int]) -> Sequence[Any]:
    """Claims of dead workers: those before DATA are queued again, those after it are unknown for ever."""
    if not workers:
        return ()
    await conn.execute(
        "update notify.mail set state = 'queued', worker = null "
        "where worker = any(:workers) and state = 'claimed'",
        {"workers": list(workers)},
    )
    rows = await conn.execute(
        "update notify.mail set state = 'unknown', settled_at = now(), why = 'worker died after DATA', "
        "worker = null where worker = any(:workers) and state = 'data' "
        'returning id, letter, to_code, "case", attempt',
        {"workers": list(workers)},
    )
    return rows.all()
