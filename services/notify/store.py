"""The mail ledger: what is owed, who is sending it, what became of it; and what deadlines must know.

Which letters are owed is in `owed.py`, the wire in `smtp.py`. The states:
queued → claimed → data → sent | failed | unknown, and sent → bounced. `data` is committed before the first byte of the mail
leaves: a mail in `data` whose worker died may have been taken, and is never sent again by a machine. What comes
before `queued` is in `pending.py`: held → queued | gathered | discarded, gathered → queued | merged. What a newer
reminder replaced before it left is `replaced`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, MetaData, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from services.notify.bounces import Bounce
from services.notify.hours import Hours, alone
from services.notify.owed import Attached, Owed
from shared.runtime.database import ADDED_TO, PERSONAL, Connection, delivery_tables, put_later

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
    owner: str | None
    """Who sees to it when the mail does not arrive, by code."""


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


class Suppressed(Table, table=True):
    """An address that takes no mail: nothing is sent there until a person says otherwise."""

    __table_args__ = {"info": {PERSONAL: ("address",)}}

    address: str = Field(primary_key=True)
    mail: UUID
    """Whose bounce has told."""
    status: str | None
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now()))


class Returned(Table, table=True):
    """What came back for a mail: `hard` and `soft` failures, delays, automatic replies, and what nobody can read.
    What a server says (`why`) may name people."""

    __tablename__ = "bounce"
    __table_args__ = {"info": {PERSONAL: ("why",)}}

    id: UUID = Field(primary_key=True)
    mail: UUID = Field(index=True)
    kind: str
    final: bool
    status: str | None
    why: str | None
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now()))


class Resolution(Table, table=True):
    """What a person decided of a mail of which nobody knows whether it was sent."""

    __table_args__ = {"info": {**ADDED_TO, PERSONAL: ("why",)}}

    n: int | None = Field(sa_column=Column(BigInteger, Identity(), primary_key=True))
    mail: UUID = Field(index=True)
    attempt: int
    sent: bool
    by: str
    why: str
    at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now()))


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
                "params": {**o.params, "arrived": o.arrived.isoformat()} if o.arrived else o.params,
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
                "owner": o.owner,
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
        owner=row.owner,
        arrived=datetime.fromisoformat(row.params["arrived"]) if "arrived" in row.params else None,
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

DOMAIN = "lower(substring(address from '[^@]*$'))"


@dataclass(frozen=True, slots=True)
class Claim:
    """A mail that a worker may send, by which attempt, and whether its address is known to take nothing."""

    mail: UUID
    owed: Owed
    attempt: int
    suppressed: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one attempt; `queued` with the seconds to `wait` when nothing was sent."""

    mail: UUID
    owed: Owed
    attempt: int
    state: str
    why: str | None
    wait: float = 0


async def claim(
    conn: Connection, worker: int, most: int, now: datetime, *, open_: bool, paused: Sequence[str] = ()
) -> list[Claim]:
    """The next mails to send, committed before anything else; none to a domain that is `paused`. They are the
    worker's until it settles or postpones them, or loses its lock. `open_` says whether it is a time for mails that
    can wait: one that was put off may have become due at night."""
    rows = await conn.execute(
        # Materialized: a limit that the planner looks up again would take more than it says.
        "with next as materialized (select id from notify.mail where state = 'queued' and not_before <= :now "
        "and (\"when\" = 'now' or :open) "
        f"and (cast(:paused as text[]) = '{{}}' or {DOMAIN} <> all(:paused)) "
        "order by not_before limit :most for update skip locked) "
        "update notify.mail set state = 'claimed', worker = :worker, attempt = attempt + 1 "
        "from next where mail.id = next.id returning mail.*, "
        "exists (select 1 from notify.suppressed s where s.address = lower(mail.address)) as suppressed",
        {"worker": worker, "most": most, "paused": list(paused), "now": now, "open": open_},
    )
    return [Claim(row.id, as_owed(row), row.attempt, row.suppressed) for row in rows]


async def begin_data(conn: Connection, worker: int, mails: Sequence[tuple[UUID, int]]) -> set[UUID]:
    """The last commit before mails leave, given with the number of their attempt: those that are still this worker's,
    and so may leave. `conn` is the one that holds the worker's lock: whoever has lost the lock cannot say this."""
    rows = await conn.execute(
        "update notify.mail m set state = 'data' "
        "from unnest(cast(:ids as uuid[]), cast(:attempts as int[])) as mine (id, attempt) "
        "where m.id = mine.id and m.attempt = mine.attempt and m.worker = :worker and m.state = 'claimed' "
        "returning m.id",
        {"ids": [id_ for id_, _ in mails], "attempts": [attempt for _, attempt in mails], "worker": worker},
    )
    return {row.id for row in rows}


async def settle(conn: Connection, done: Sequence[Settled], now: datetime) -> set[tuple[UUID, str]]:
    """What became of them; of which it is news. Also a worker that was thought dead may still bring the server's
    answer."""
    rows = await conn.execute(
        "update notify.mail m set state = new.state, why = new.why, settled_at = :now, worker = null "
        "from unnest(cast(:ids as uuid[]), cast(:attempts as int[]), cast(:states as text[]), "
        "cast(:whys as text[])) as new (id, attempt, state, why) "
        "where m.id = new.id and m.attempt = new.attempt "
        "and m.state in ('claimed', 'data', 'unknown') and m.state <> new.state returning m.id, m.state",
        {**_columns(done), "now": now},
    )
    return {(row.id, row.state) for row in rows}


async def postpone(conn: Connection, later: Sequence[Settled], now: datetime) -> None:
    """Nothing was sent: try again after `wait` seconds."""
    await conn.execute(
        "update notify.mail m set state = 'queued', why = new.why, worker = null, "
        "not_before = cast(:now as timestamptz) + make_interval(secs => new.wait) "
        "from unnest(cast(:ids as uuid[]), cast(:attempts as int[]), cast(:whys as text[]), "
        "cast(:waits as float8[])) as new (id, attempt, why, wait) "
        "where m.id = new.id and m.attempt = new.attempt and m.state in ('claimed', 'data')",
        {**_columns(later), "waits": [one.wait for one in later], "now": now},
    )


def _columns(done: Sequence[Settled]) -> dict[str, list[Any]]:
    return {
        "ids": [one.mail for one in done],
        "attempts": [one.attempt for one in done],
        "states": [one.state for one in done],
        "whys": [one.why for one in done],
    }


async def orphans(conn: Connection) -> list[int]:
    """Workers that hold claims and whose process is gone: their advisory lock is free to take."""
    rows = await conn.execute(
        "select worker from (select distinct worker from notify.mail where state in ('claimed', 'data')) w "
        "where worker is not null and pg_try_advisory_xact_lock(worker)"
    )
    return [row.worker for row in rows]


async def recover(conn: Connection, workers: Sequence[int], now: datetime) -> Sequence[tuple[Owed, int]]:
    """Claims of dead workers: those before DATA are queued again, those after it are unknown for ever. Returns these,
    and by which attempt."""
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
        "returning *",
        {"workers": list(workers), "now": now},
    )
    return [(as_owed(row), row.attempt) for row in rows]


# --- what came back ----------------------------------------------------------------------------------


async def suppressed(conn: Connection, addresses: Sequence[str]) -> set[str]:
    """Those of them, in small letters, that take no mail."""
    if not addresses:
        return set()
    rows = await conn.execute(
        "select address from notify.suppressed where address = any(:addresses)",
        {"addresses": [a.lower() for a in addresses]},
    )
    return {row.address for row in rows}


async def suppress(conn: Connection, address: str, mail: UUID, status: str | None) -> None:
    await conn.execute(
        "insert into notify.suppressed (address, mail, status) values (:address, :mail, :status) "
        "on conflict do nothing",
        {"address": address.lower(), "mail": mail, "status": status},
    )


async def bounced(conn: Connection, id_: UUID, mail: UUID, bounce: Bounce) -> bool:
    """Keep what came back; False when it is there already, or about no mail of ours."""
    rows = await conn.execute(
        "insert into notify.bounce (id, mail, kind, final, status, why) "
        "select cast(:id as uuid), cast(:mail as uuid), cast(:kind as text), cast(:final as bool), "
        "cast(:status as text), cast(:why as text) where exists (select 1 from notify.mail where id = :mail) "
        "on conflict do nothing returning id",
        {
            "id": id_,
            "mail": mail,
            "kind": bounce.kind,
            "final": bounce.final,
            "status": bounce.status,
            "why": bounce.why,
        },
    )
    return bool(rows)


async def undelivered(conn: Connection, mail: UUID, why: str | None, now: datetime) -> Owed | None:
    """A mail that was given up on its way is `bounced`, also where nobody knew that it had left, or the answer to it is
    still to be written. None when that is known."""
    row = (
        await conn.execute(
            "update notify.mail set state = 'bounced', why = :why, worker = null, "
            "settled_at = :now where id = :mail and state in ('sent', 'data', 'unknown') "
            "returning *",
            {"mail": mail, "why": why, "now": now},
        )
    ).one_or_none()
    return as_owed(row) if row else None


COUNTS = """
union all select 'mails', state, '', count(*),
  min(case state when 'queued' then not_before when 'claimed' then not_before when 'data' then not_before
      when 'held' then owed_at when 'gathered' then owed_at else settled_at end)
    filter (where state <> 'queued' or not_before <= now() and "when" = 'now')
from notify.mail where state in ('held', 'gathered', 'queued', 'claimed', 'data', 'unknown', 'failed', 'bounced')
group by state
"""
"""For `ledger.py`. A queued mail that may wait for the morning is not late at night."""
