"""Changes of contact persons: who may publish them, what becomes of them, and of the mails that wait for them.

Who gets which letter is in `recipients.py`.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime
from typing import Any

from pydantic_core import to_json

from services.notify.address import BadAddress, mailbox, reach
from services.notify.owed import Owed
from services.notify.recipients import FOREIGN, NOBODY, People, Person, addressed, instead
from shared.contracts import registry
from shared.contracts.contact import ContactChanged
from shared.contracts.problem import Problem, problem
from shared.contracts.submission import EventAccepted
from shared.notices.calendar import SHANGHAI
from shared.notices.directory import Directory
from shared.runtime.database import Connection
from shared.runtime.decode import Item
from shared.runtime.delivery import Tx

APPLICANT = re.compile(r"k6-[0-9a-f]{16}")
WAITING = ("held", "gathered", "queued", "claimed")
"""States of the ledger in which no byte of a mail has left, however long it waits. One that is claimed is taken away from its worker, who asks
before the first byte."""

ALONE = "select pg_advisory_xact_lock(6, 6)"
"""Against every mail that is being entered (see the trigger of migration 0006)."""

COLUMNS = "agency, code, posts, address, since, until, active, version, place"


def day_of(now: datetime) -> date:
    return now.astimezone(SHANGHAI).date()


async def looked_up(
    conn: Connection, people: People, agencies: Collection[str], addresses: Collection[str]
) -> People:
    """With the changes of whoever is of these agencies, or has one of these addresses."""
    rows = await conn.read(
        f"select {COLUMNS} from notify.contact where agency = any(:agencies) or address = any(:addresses)",
        {"agencies": list(agencies), "addresses": list(addresses)},
    )
    return people.now(Person(**{**row, "posts": tuple(row.posts)}) for row in rows)


async def recipients(conn: Connection, people: People, letters: Sequence[Owed], now: datetime) -> list[Owed]:
    """The letters as they may enter the ledger: the only way there."""
    if not letters:
        return []
    agencies = {o.to for o in letters}
    known = [people.directory.find(code) for code in agencies]
    addresses = {o.address for o in letters} | {a.email for a in known if a}
    addresses |= {c.email for a in known if a for c in a.contacts}
    found = await looked_up(conn, people, agencies, {reach(a) for a in addresses if a})
    return addressed(letters, found, day_of(now))


# --- changes -----------------------------------------------------------------------------------------


async def on_in(tx: Tx, items: Iterable[Item], people: People) -> None:
    for item in items:
        wrong = await _change(tx, item.token, item.data, people)
        if wrong:
            tx.refuse(item, wrong)
        else:
            tx.answer(
                item, registry.EVENT_ACCEPTED, EventAccepted(accepted=item.event.id, type=item.event.type)
            )


async def _change(tx: Tx, publisher: str, change: ContactChanged, people: People) -> Problem | None:
    if wrong := _barred(publisher, change.agency, people.directory):
        return wrong
    if change.since and change.until and change.until < change.since:
        return problem("term", "任期不对", "until 早于 since")
    try:
        address = mailbox(change.email).lower()
    except BadAddress as error:
        return problem("address", "电子邮箱不可用", str(error))
    await tx.conn.execute(ALONE)
    known = people.directory.find(change.agency)
    place, day = known.place if known else None, day_of(tx.now)
    found = await looked_up(tx.conn, people, [change.agency], [address])
    was = found.find(change.agency, change.contact)
    now = Person(
        change.agency,
        change.contact,
        change.posts,
        address,
        change.since,
        change.until,
        change.active,
        change.version,
        place,
    )
    if was == now:
        return None
    if was and was.version >= change.version:
        return problem(
            "version", "已有更新的登记", f"现为第{was.version}次，请以更高的 version 再报", status=409
        )
    if place and now.known(day) and found.foreign(address, change.agency, place, day):
        return problem("address", "电子邮箱不可用", "该邮箱已登记为其他区的单位所用", status=409)
    await _keep(tx, now, publisher)
    former = {was.address} if was and was.address else set()
    await readdress(tx.conn, people, tx.now, [change.agency], former - {address})
    if place and now.known(day):
        await _withdraw(tx.conn, now, tx.now)
    return None


def _barred(publisher: str, agency: str, directory: Directory) -> Problem | None:
    """An agency speaks for itself, the department of a district for the institutions in it, the city for everybody."""
    known, by = directory.find(agency), directory.find(publisher)
    if known is None and not APPLICANT.fullmatch(agency):
        return problem("agency", "没有这个单位", "名录中没有该代码，见 yiqi agency list", status=404)
    itself = publisher == agency
    city = by is not None and by.kind == "city"
    below = known is not None and known.kind not in ("K2", "city") and known.district is not None
    department = by is not None and by.kind == "K2" and below and known is not None
    if (
        itself
        or city
        or (department and by is not None and known is not None and by.district == known.district)
    ):
        return None
    return problem("authority", "无权办理", "联系人由单位自己、所在区的主管部门或市局登记", status=403)


async def _keep(tx: Tx, person: Person, publisher: str) -> None:
    await tx.conn.execute(
        f"insert into notify.contact ({COLUMNS}, by, changed_at) values (:agency, :code, cast(:posts as jsonb), "
        ":address, :since, :until, :active, :version, :place, :by, :at) on conflict (agency, code) do update set "
        "posts = excluded.posts, address = excluded.address, since = excluded.since, until = excluded.until, "
        "active = excluded.active, version = excluded.version, place = excluded.place, by = excluded.by, "
        "changed_at = excluded.changed_at",
        {
            "agency": person.agency,
            "code": person.code,
            "posts": to_json(person.posts).decode(),
            "address": person.address,
            "since": person.since,
            "until": person.until,
            "active": person.active,
            "version": person.version,
            "place": person.place,
            "by": publisher,
            "at": tx.now,
        },
    )


# --- mails that wait ---------------------------------------------------------------------------------


async def turn(conn: Connection, people: People, now: datetime) -> None:
    """Readdress what waits for agencies that have, or had, contact persons."""
    await conn.execute(ALONE)
    rows = await conn.execute("select distinct agency from notify.contact")
    listed = {agency.code for agency in people.directory.agencies if agency.contacts}
    left = await conn.execute(
        "select distinct to_code from notify.mail where contact is not null and state = any(:waiting)",
        {"waiting": list(WAITING)},
    )
    agencies = listed | {row.agency for row in rows} | {row.to_code for row in left}
    await readdress(conn, people, now, sorted(agencies))


async def readdress(
    conn: Connection,
    people: People,
    now: datetime,
    agencies: Collection[str],
    former: Collection[str] = (),
) -> None:
    """No byte of these mails has left: they go to whom they would go to today. What is sent, or nobody knows
    whether it was, stays as it is. `former` are addresses that somebody of the agency no longer has.

    Under `ALONE`, so that none is being entered meanwhile.
    """
    rows = await conn.execute(
        "select id, letter, to_code, contact, occasion, address, state from notify.mail where occasion in "
        "(select occasion from notify.mail where state = any(:waiting) and to_code = any(:agencies)) "
        "and address is not null and state not in ('failed', 'replaced', 'discarded') order by key for update",
        {"waiting": list(WAITING), "agencies": list(agencies)},
    )
    found, day = await looked_up(conn, people, agencies, ()), day_of(now)
    taken: dict[str, set[str]] = {}
    for row in rows:
        if not _moves(row, found, day, former):
            taken.setdefault(row.occasion, set()).add(reach(row.address))
    for row in rows:
        if not _moves(row, found, day, former):
            continue
        there = taken.setdefault(row.occasion, set())
        person = found.find(row.to_code, row.contact) if row.contact else None
        to: tuple[str | None, str] | None
        if person and person.address and person.serves(day) and person.address not in there:
            to = (person.code, person.address)
        else:
            to = instead(row.letter, row.to_code, found, day, there)
        await _move(conn, row.id, to, now, superfluous=bool(there))
        if to:
            there.add(reach(to[1]))


def _moves(row: Any, people: People, day: date, former: Collection[str]) -> bool:
    if row.state not in WAITING:
        return False
    person = people.find(row.to_code, row.contact) if row.contact else None
    if person:
        return not person.serves(day) or person.address != reach(row.address)
    if row.contact is not None:
        return True  # the directory has lost it
    if reach(row.address) in former and not people.has(row.to_code, row.address, day):
        return True
    return people.left(row.to_code, row.address, day)


async def _move(
    conn: Connection, mail: Any, to: tuple[str | None, str] | None, now: datetime, *, superfluous: bool
) -> None:
    if to:
        await conn.execute(
            "update notify.mail set contact = :contact, address = :address, day = :day, worker = null, "
            "state = case state when 'claimed' then 'queued' else state end where id = :id",
            {"id": mail, "contact": to[0], "address": to[1], "day": day_of(now)},
        )
        return
    await conn.execute(
        "update notify.mail set state = 'failed', address = null, why = :why, worker = null, settled_at = :now where id = :id",
        {"id": mail, "why": ENDED if superfluous else NOBODY, "now": now},
    )


ENDED = "contact ended"
"""Others of the agency have the letter, or will."""


async def _withdraw(conn: Connection, person: Person, now: datetime) -> None:
    """What waits for this address on behalf of another district was typed by somebody who did not know whose it is."""
    await conn.execute(
        "update notify.mail set state = 'failed', address = null, why = :why, worker = null, settled_at = :now "
        "where state = any(:waiting) and lower(address) = :address and day is not null and to_code <> :agency "
        "and place is distinct from :place",
        {
            "why": FOREIGN,
            "now": now,
            "waiting": list(WAITING),
            "address": person.address,
            "agency": person.agency,
            "place": person.place,
        },
    )
