"""The mail ledger: what is owed, who is sending it, what became of it; and what deadlines must know.

Which letters are owed is in `owed.py`, the wire in `smtp.py`. The states:
queued → claimed → data → sent | failed | unknown. `data` is committed before the first byte of the mail
leaves: a mail in `data` whose worker died may have been taken, and is never sent again by a machine. What comes
before `queued` is in `pending.py`: held → queued | gathered | discarded, gathered → queued | merged. What a newer
reminder replaced before it left is `replaced`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index, MetaData, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from services.notify.hours import Hours, alone
from services.notify.owed import Attached, Owed
from shared.runtime.database import PERSONAL, Connection, delivery_tables, put_later

METADATA = MetaData(schema="notify")
delivery_tables(METADATA)


class Table(SQLModel):
    metadata = METADATA


class Mail(Table, table=True):
    """One mail to one recipient on one occasion; `key` says which occasion, so it is owed once. What a relay
        answers (`why`) quotes the address. `occasion` is the key without the contact person; what was chosen on which `day`
    for whom (`contact`, and `place`, the district of the agency) a trigger compares with the contact persons of now."""

    __table_args__ = {"info": {PERSONAL: ("address", "params", "attachments", "why", "handled")}}

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
    notice: str = Field(sa_column_kwargs={"server_default": ""})
    when: str = Field(sa_column_kwargs={"server_default": "now"})
    ladder: str | None
    digest: UUID | None
    """Of a reminder that has come: the mail of that morning, whether it tells of this one or is this one."""
    handled: list[dict[str, Any]] = Field(
        sa_column=Column(JSONB, nullable=False, server_default=text("'[]'::jsonb"))
    )
    """Who released, discarded or edited it while it was held, and when."""
    contact: str | None
    occasion: str | None = Field(index=True)
    place: str | None
    day: date | None


class Contact(Table, table=True):
    """A contact person of an agency, by its last change; those that only the directory lists are not here. `by` is who
    published it. The row outlives its address, so that an older change stays older."""

    __table_args__ = {"info": {PERSONAL: ("address",)}}

    agency: str = Field(primary_key=True)
    code: str = Field(primary_key=True)
    version: int
    posts: list[str] = Field(sa_column=Column(JSONB, nullable=False))
    address: str | None = Field(index=True)
    since: date | None
    until: date | None
    active: bool
    place: str | None
    by: str
    changed_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


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
Index(
    "notify_mail_pending",
    Mail.__table__.c.state,  # type: ignore[attr-defined]
    Mail.__table__.c.not_before,  # type: ignore[attr-defined]
    postgresql_where=text("state in ('held', 'gathered')"),
)
Index(
    "notify_mail_ladder",
    Mail.__table__.c.ladder,  # type: ignore[attr-defined]
    postgresql_where=text("state in ('held', 'gathered', 'queued') and ladder is not null"),
)
Index(
    "notify_mail_digest",
    Mail.__table__.c.digest,  # type: ignore[attr-defined]
    postgresql_where=text("digest is not null"),
)


@dataclass(frozen=True)
class Gate:
    """What decides how a mail enters the ledger: the sending hours, and the letters that are held whatever the notice
    says."""

    hours: Hours = field(default_factory=Hours)
    hold: frozenset[str] = frozenset()

    def enter(self, o: Owed, now: datetime) -> tuple[str, datetime]:
        """State, and the moment before which it is not sent. What is about no notice has no issuer, so there would be
        nobody to release it."""
        if o.address is None:
            return "failed", now
        if o.notice and (o.hold or o.letter in self.hold):
            return "held", now
        return self.leave(o.when, None if o.attachments else o.params.get("due"), now)

    def leave(self, when: str, due: Mapping[str, Any] | None, now: datetime) -> tuple[str, datetime]:
        if when == "morning" and self.hours.between:
            then = self.hours.morning(now)
            if not alone(due, now, then):
                return "gathered", then
        return "queued", now if when == "now" else self.hours.next(now)


def owe(conn: Connection, letters: Iterable[Owed], gate: Gate, now: datetime) -> None:
    """Enter letters into the ledger, as `recipients.py` has addressed them; an occasion that is there already stays as
    it is, whoever would be chosen for it now. Without an address a mail fails at once, with its reason, where an
    operator sees it: silence would be worse."""
    found = [(o, *gate.enter(o, now)) for o in letters]
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
                "state": state,
                "attempt": 0,
                "not_before": not_before,
                "why": None if o.address else (o.recipient and o.recipient.why) or "no address",
                "owed_at": now,
                "settled_at": None if o.address else now,
                "notice": o.notice,
                "when": o.when,
                "ladder": o.ladder,
                "handled": [],
                "contact": o.recipient and o.recipient.contact,
                "occasion": o.recipient.occasion if o.recipient else o.key,
                "place": o.recipient and o.recipient.place,
                "day": o.recipient and o.recipient.day,
            }
            for o, state, not_before in found
        ],
        "as letter where not exists (select from notify.mail as old where old.occasion = letter.occasion) "
        "on conflict do nothing",
    )
    if ladders := [o for o, _, _ in found if o.ladder]:
        # Only what was there before this statement; what was owed later, by a faster clock, is the newer one.
        conn.later(
            "update notify.mail set state = 'replaced', settled_at = cast(:now as timestamptz) "
            "where state in ('held', 'gathered', 'queued') and ladder = any(:ladders) "
            "and not coalesce(occasion, key) = any(:occasions) and owed_at < cast(:now as timestamptz)",
            {
                "now": now,
                "ladders": [o.ladder for o in ladders],
                "occasions": [o.recipient.occasion if o.recipient else o.key for o in ladders],
            },
        )


def as_owed(row: Any) -> Owed:
    return Owed(
        row.key,
        row.letter,
        row.to_code,
        row.to_name,
        row.address,
        row.params,
        row.case,
        tuple(Attached(**a) for a in row.attachments),
        row.when,
        row.ladder,
    )


def note(conn: Connection, facts: Iterable[tuple[str, str, str]]) -> None:
    put_later(conn, "notify.fact", [{"notice": n, "unit": u, "fact": f} for n, u, f in facts])


async def facts(conn: Connection, notice: str) -> set[tuple[str, str]]:
    """(unit, fact) of one round."""
    rows = await conn.read("select unit, fact from notify.fact where notice = :n", {"n": notice})
    return {(row.unit, row.fact) for row in rows}


async def reported(conn: Connection, day: date, operators: Sequence[str]) -> bool:
    """Whether every operator's report of that day is in the ledger."""
    keys = [f"daily/{day}/{address}" for address in operators]
    found = await conn.execute("select count(*) from notify.mail where key = any(:keys)", {"keys": keys})
    return bool(found.scalar() == len(keys))


# --- sending -----------------------------------------------------------------------------------------


async def claim(conn: Connection, worker: int, now: datetime, *, open_: bool) -> tuple[Owed, int] | None:
    """The next mail to send and the number of this attempt, committed by the caller before anything else. `open_`
    says whether it is a time for mails that can wait: one that was put off may have become due at night."""
    row = (
        await conn.execute(
            "update notify.mail set state = 'claimed', worker = :worker, attempt = attempt + 1 "
            "where id = (select id from notify.mail where state = 'queued' and not_before <= :now "
            "and (\"when\" = 'now' or :open) order by not_before limit 1 for update skip locked) returning *",
            {"worker": worker, "now": now, "open": open_},
        )
    ).one_or_none()
    return (as_owed(row), row.attempt) if row else None


async def begin_data(conn: Connection, mail: UUID, attempt: int) -> bool:
    """The last commit before the mail leaves; False when somebody else has taken the claim over."""
    done = await conn.execute(
        "update notify.mail set state = 'data' where id = :id and attempt = :attempt and state = 'claimed'",
        {"id": mail, "attempt": attempt},
    )
    return bool(done.rowcount == 1)


async def settle(
    conn: Connection, mail: UUID, attempt: int, state: str, why: str | None, now: datetime
) -> bool:
    """What became of it. Also a worker that was thought dead may still bring the server's answer."""
    done = await conn.execute(
        "update notify.mail set state = :state, why = :why, settled_at = :now, worker = null "
        "where id = :id and attempt = :attempt and state in ('claimed', 'data', 'unknown')",
        {"id": mail, "attempt": attempt, "state": state, "why": why, "now": now},
    )
    return bool(done.rowcount == 1)


async def postpone(conn: Connection, mail: UUID, attempt: int, why: str, until: datetime) -> None:
    """Nothing was sent: try again then."""
    await conn.execute(
        "update notify.mail set state = 'queued', why = :why, worker = null, "
        "not_before = :until where id = :id and attempt = :attempt and state in ('claimed', 'data')",
        {"id": mail, "attempt": attempt, "why": why, "until": until},
    )


async def orphans(conn: Connection) -> list[int]:
    """Workers that hold claims and whose process is gone: their advisory lock is free to take."""
    rows = await conn.execute(
        "select worker from (select distinct worker from notify.mail where state in ('claimed', 'data')) w "
        "where worker is not null and pg_try_advisory_xact_lock(worker)"
    )
    return [row.worker for row in rows]


async def recover(conn: Connection, workers: Sequence[int], now: datetime) -> Sequence[Any]:
    """Claims of dead workers: those before DATA are queued again, those after it are unknown for ever."""
    if not workers:
        return ()
    await conn.execute(
        "update notify.mail set state = 'queued', worker = null "
        "where worker = any(:workers) and state = 'claimed'",
        {"workers": list(workers)},
    )
    rows = await conn.execute(
        "update notify.mail set state = 'unknown', settled_at = :now, why = 'worker died after DATA', "
        "worker = null where worker = any(:workers) and state = 'data' "
        'returning id, letter, to_code, "case", attempt',
        {"workers": list(workers), "now": now},
    )
    return rows.all()
